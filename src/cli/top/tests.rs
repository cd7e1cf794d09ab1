//! Screens of recorded statistics, as they are drawn.
//!
//! `TAPLINE_BLESS=1 cargo test --lib top::tests` writes the expected screens anew: look at the difference before you keep it.

use std::path::PathBuf;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use tapline_api::ByName;
use tapline_api::snapshot::Snapshot;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testbed/top")
}

/// A program that has read all lines of a recording.
fn at_end_of(recording: &str) -> App {
    let replay = Replay::open(&folder().join(recording)).expect("a recording");
    let last = replay.len() - 1;
    let mut app = App {
        board: Board::new(replay.name()),
        view: View::new(Unit::Packets, Theme { has_colours: true }, TimeZone::UTC),
        feed: Feed::Waiting,
        source: Source::File { replay, next: 0, due: Instant::now() },
        interval: Duration::from_secs(1),
        heard: Instant::now(),
        is_ended: Arc::default(),
        is_utf8: true,
    };
    app.go_to(last, true);
    app
}

fn read(recording: &str) -> Vec<Snapshot> {
    let text = std::fs::read_to_string(folder().join(recording)).expect("a recording");
    text.lines().map(|line| serde_json::from_str(line).expect("tapline.stats/1")).collect()
}

/// The screen, as text.
fn screen(app: &App, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen");
    let draw = |frame: &mut ratatui::Frame<'_>| {
        let lines = app.lines(width.into(), height.into());
        assert!(lines.len() <= usize::from(height), "{} lines for {height}", lines.len());
        for line in &lines {
            assert!(line.width() <= usize::from(width), "wider than {width}: {line}");
        }
        Paragraph::new(lines).render(frame.area(), frame.buffer_mut());
    };
    terminal.draw(draw).expect("a drawing");
    let buffer = terminal.backend().buffer();
    let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(row).collect::<Vec<_>>().join("\n") + "\n"
}

fn press(app: &mut App, keys: &str) {
    for key in keys.chars() {
        let code = match key {
            '\n' => KeyCode::Enter,
            '\x1b' => KeyCode::Esc,
            '↓' => KeyCode::Down,
            key => KeyCode::Char(key),
        };
        assert!(!app.press(KeyEvent::new(code, KeyModifiers::NONE)), "{key:?} ends it");
    }
}

#[test]
fn screens_are_as_they_were_looked_at() {
    let cases: &[(&str, &str, &str, u16, u16)] = &[
        ("well.80x24", "well.jsonl", "", 80, 24),
        ("well.120x40", "well.jsonl", "", 120, 40),
        ("well.40x12", "well.jsonl", "", 40, 12),
        ("incident.80x24", "incident.jsonl", "", 80, 24),
        ("incident.120x40", "incident.jsonl", "", 120, 40),
        ("incident.40x12", "incident.jsonl", "", 40, 12),
        ("incident.bits.80x24", "incident.jsonl", "u3", 80, 24),
        ("ports.80x24", "incident.jsonl", "2", 80, 24),
        ("groups.80x24", "well.jsonl", "4", 80, 24),
        ("rules.80x24", "well.jsonl", "5s", 80, 24),
        ("lcores.80x24", "well.jsonl", "6", 80, 24),
        ("detail.80x24", "incident.jsonl", "3\n", 80, 24),
        ("help.80x24", "well.jsonl", "?", 80, 24),
        ("filter.80x24", "well.jsonl", "3/ids\n", 80, 24),
        ("peaks.80x24", "incident.jsonl", "3p", 80, 24),
    ];
    let mut wrong = Vec::new();
    for &(name, recording, keys, width, height) in cases {
        let mut app = at_end_of(recording);
        press(&mut app, keys);
        let shown = screen(&app, width, height);
        let path = folder().join(name).with_added_extension("txt");
        if std::env::var_os("TAPLINE_BLESS").is_some() {
            std::fs::write(&path, &shown).expect("a file that can be written");
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        if shown != expected {
            wrong.push(format!("{name}:\n{shown}\nexpected:\n{expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rates_are_those_of_two_lines() {
    let snapshots = read("incident.jsonl");
    let [.., before, now] = snapshots.as_slice() else { panic!("two lines") };
    let app = at_end_of("incident.jsonl");
    let seconds = now.uptime_s - before.uptime_s;
    let rate = |count: &dyn Fn(&Snapshot) -> u64| (count(now) - count(before)) as f64 / seconds;
    let tools = tables::table(board::Kind::Tool, &app.board, Unit::Packets);
    for row in &tools.rows {
        let of = |count: &dyn Fn(&tapline_api::snapshot::ToolEntry) -> u64| {
            rate(&|snapshot| count(snapshot.tools.get(row.name()).expect("a tool")))
        };
        assert_eq!(row.cells[1].number(), Some(of(&|tool| tool.copies.requested)), "{}", row.name());
        assert_eq!(row.cells[2].number(), Some(of(&|tool| tool.copies.sent)), "{}", row.name());
        assert_eq!(row.cells[3].number(), Some(of(&|tool| tool.copies.dropped.total())), "{}", row.name());
    }
    let bits = tables::table(board::Kind::Port, &app.board, Unit::Bits);
    let expected = rate(&|snapshot| snapshot.ports.get("span0").expect("a port").received_bytes) * 8.0;
    assert_eq!(bits.rows[0].cells[1].number(), Some(expected));
}

/// Loss is told on the smallest screen, without colours, and in ASCII.
#[test]
fn loss_is_seen_everywhere() {
    let mut app = at_end_of("incident.jsonl");
    app.view.theme = Theme { has_colours: false };
    app.is_utf8 = false;
    for (width, height) in [(40, 12), (80, 24), (200, 60), (24, 5)] {
        let shown = screen(&app, width, height);
        assert!(shown.is_ascii(), "{shown}");
        assert!(shown.contains("! LOSING"), "{width}x{height}:\n{shown}");
        if width >= 40 {
            assert!(shown.contains("ids-b") && shown.contains("congested"), "{width}x{height}:\n{shown}");
        }
    }
    // no size makes it panic
    for width in 1..60 {
        for height in 1..30 {
            screen(&app, width, height);
        }
    }
}

#[test]
fn a_broker_that_began_anew_has_no_rates_and_no_past() {
    let mut app = at_end_of("incident.jsonl");
    assert!(!app.board.losses().is_empty());
    let mut first = read("well.jsonl").remove(0);
    first.uptime_s = 0.5;
    app.take(first.clone());
    assert!(app.board.losses().is_empty());
    assert!(app.board.interval().expect("a snapshot").before().is_none());
    // counters that were cleared count from zero
    let mut cleared = first.clone();
    cleared.uptime_s += 2.0;
    cleared.time += 2.0;
    cleared.packets.received = 10;
    app.take(cleared);
    let rate = app.board.interval().expect("two").rate(|snapshot| Some(snapshot.packets.received));
    assert_eq!(rate, Some(5.0));
}

#[test]
fn what_is_lost_is_said_for_ten_seconds_after_the_last_of_it() {
    for (later, is_said) in [(5.0, true), (9.0, true), (10.5, false)] {
        let mut app = at_end_of("incident.jsonl");
        let mut next = read("incident.jsonl").pop().expect("a line");
        (next.time, next.uptime_s) = (next.time + later, next.uptime_s + later);
        app.board.take(next);
        let shown = screen(&app, 80, 24);
        assert_eq!(shown.contains("LOSING"), is_said, "after {later} s:\n{shown}");
        assert_eq!(shown.contains("stopped by now"), is_said, "after {later} s:\n{shown}");
        assert!(is_said || shown.contains("ALL WELL   nothing lost for 10 s"), "{shown}");
    }
}

#[test]
fn what_is_not_loss_is_told_apart() {
    let say = |change: &dyn Fn(&mut Snapshot)| {
        let mut app = at_end_of("well.jsonl");
        let mut now = read("well.jsonl").pop().expect("a line");
        (now.time, now.uptime_s) = (now.time + 1.0, now.uptime_s + 1.0);
        change(&mut now);
        app.board.take(now);
        screen(&app, 120, 24)
    };
    assert!(say(&|_| {}).contains("ALL WELL   nothing lost for"));
    let unbalanced = say(&|now| now.balanced = false);
    assert!(unbalanced.contains("! THE ACCOUNT DOES NOT BALANCE") && unbalanced.contains("NOT BALANCED"));
    let down = say(&|now| {
        let (_, tool) = now.tools.0.iter_mut().find(|(name, _)| name == "soc").expect("a tool");
        tool.health.state = tapline_api::words::ToolState::Down;
        tool.health.reason = Some(tapline_api::words::Reason::LinkDown);
    });
    assert!(down.contains("! LOOK   tool soc is down: link_down"), "{down}");
    let gone = say(&|now| now.ports.0[0].1.gone = true);
    assert!(gone.contains("! LOOK   port span0 is gone"), "{gone}");
    let stalled = say(&|now| now.lcores.0[0].1.is_stalled = true);
    assert!(
        stalled.contains("lcore 1 does not finish its turn") && stalled.contains("STALLED"),
        "{stalled}"
    );
    let empty = say(&|now| {
        now.packets = Default::default();
        now.ports.0[1].1.link_up = false;
    });
    assert!(empty.contains("NO PACKET YET   for") && empty.contains("no link: span1"), "{empty}");
}

#[test]
fn a_broker_that_is_gone_is_told_and_its_last_numbers_stay() {
    let mut app = at_end_of("well.jsonl");
    app.hear(News::Gone("the broker has ended".to_owned()));
    let shown = screen(&app, 80, 24);
    assert!(shown.contains("! NO BROKER since") && shown.contains("the broker has ended"), "{shown}");
    assert!(shown.contains("ids-a") && shown.contains("GONE"), "{shown}");
    let last = read("well.jsonl").pop().expect("a line");
    app.hear(News::Stats(Box::new(last)));
    assert!(!screen(&app, 80, 24).contains("NO BROKER"));
}

/// 200 ports, 200 tools and 10,000 rules: what loses is not among what is left out.
#[test]
fn large_plans_show_first_what_loses() {
    let mut app = at_end_of("well.jsonl");
    app.board = Board::new("large");
    let mut snapshots = read("incident.jsonl");
    for snapshot in &mut snapshots {
        let numbered =
            |count: usize, name: &str| (0..count).map(|n| format!("{name}{n:05}")).collect::<Vec<_>>();
        let port = snapshot.ports.get("span0").expect("a port").clone();
        let hurt = snapshot.ports.get("span1").expect("a port").clone();
        let tool = snapshot.tools.get("web").expect("a tool").clone();
        let slow = snapshot.tools.get("ids-b").expect("a tool").clone();
        let rule = snapshot.rules.get("20").expect("a rule").clone();
        snapshot.ports =
            ByName(numbered(200, "port").into_iter().map(|name| (name, port.clone())).collect());
        snapshot.ports.0[199].1 = hurt;
        snapshot.tools =
            ByName(numbered(200, "tool").into_iter().map(|name| (name, tool.clone())).collect());
        snapshot.tools.0[199].1 = slow;
        snapshot.rules =
            ByName((1..=10_000).map(|priority| (priority.to_string(), rule.clone())).collect());
        snapshot.groups = ByName(Vec::new());
    }
    snapshots.into_iter().for_each(|snapshot| app.take(snapshot));
    let shown = screen(&app, 80, 24);
    assert!(shown.contains("!tool00199") && shown.contains("!port00199"), "{shown}");
    assert!(shown.contains(" more"), "{shown}");
    press(&mut app, "5/9999\n");
    let shown = screen(&app, 80, 24);
    assert!(shown.contains(" 1 rows, with `9999`") && shown.contains("9999"), "{shown}");
}

#[test]
fn keys_go_along_a_replay() {
    let mut app = at_end_of("well.jsonl");
    assert_eq!(app.feed, Feed::Replay { line: 7, lines: 7, speed: 1 });
    press(&mut app, "[[");
    assert_eq!(app.feed, Feed::Replay { line: 5, lines: 7, speed: 1 });
    let fifth = read("well.jsonl")[4].packets.received;
    assert_eq!(app.board.interval().expect("a line").now.packets.received, fifth);
    press(&mut app, "]+");
    assert_eq!(app.feed, Feed::Replay { line: 6, lines: 7, speed: 2 });
    press(&mut app, "[[[[[[[[[");
    assert_eq!(app.feed, Feed::Replay { line: 1, lines: 7, speed: 2 });
    assert!(app.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
}

#[test]
fn files_that_are_no_statistics_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str, text: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    };
    let refused = |path: &std::path::Path| Replay::open(path).err().unwrap_or_default();
    assert!(refused(folder.path()).contains("no regular file"));
    assert!(refused(&path("empty", b"")).contains("has no line"));
    assert!(refused(&path("half", b"{\"schema\":")).contains("has no line"));
    assert!(refused(&folder.path().join("none")).contains("No such file"));
    let mut replay = Replay::open(&path("other", b"{}\n\xff\n")).expect("two lines");
    assert!(replay.read(0).expect_err("no snapshot").starts_with("line 1: it is no tapline.stats/1"));
    assert!(replay.read(1).expect_err("no snapshot").starts_with("line 2: "));
}
