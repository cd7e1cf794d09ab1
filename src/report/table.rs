//! Snapshots for people: aligned tables of what came, what became of it, and where the copies went.

use std::fmt::Write;
use std::time::Duration;

use super::loss::{Cause, remedy};
use tapline_api::snapshot::{
    AnswerState, Dropped, KeptDevice, Latency, PortEntry, RecentTotals, Snapshot, ToolEntry, ToolHealth,
};
use tapline_api::words::{
    BurstSize, Class, DropReason, IcmpReason, LcoreRole, LinkState, Refusal, ToolState,
};
use tapline_dpdk::driver::Driver;

/// Columns of text; numbers are set to the right.
struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|&word| word.to_owned()).collect()] }
    }

    fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Adds a cell to each row, unless they have nothing to say: a column that was never needed is not there.
    fn column(&mut self, head: &str, cells: Vec<String>) {
        if cells.iter().any(|cell| !matches!(cell.as_str(), "" | "0")) {
            let column = std::iter::once(head.to_owned()).chain(cells);
            self.rows.iter_mut().zip(column).for_each(|(row, cell)| row.push(cell));
        }
    }

    /// Adds a column for each reason for which one of the rows lost something.
    fn reasons<'a>(&mut self, dropped: impl Iterator<Item = &'a Dropped> + Clone) {
        for reason in DropReason::ALL {
            self.column(
                reason.word(),
                dropped.clone().map(|dropped| grouped(dropped.get(reason))).collect(),
            );
        }
    }

    fn render(&self, out: &mut String) {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::from(" ");
            for (column, cell) in row.iter().enumerate() {
                let is_number =
                    self.rows[1..].iter().all(|row| row.get(column).is_none_or(|cell| is_numeric(cell)));
                let pad = " ".repeat(widths[column] - cell.chars().count());
                if is_number {
                    write!(line, " {pad}{cell} ").expect("writing to a string");
                } else {
                    write!(line, " {cell}{pad} ").expect("writing to a string");
                }
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
}

fn is_numeric(cell: &str) -> bool {
    let number =
        TIME_UNITS.iter().find_map(|(unit, _)| cell.strip_suffix(unit)?.strip_suffix(' ')).unwrap_or(cell);
    number.chars().all(|c| c.is_ascii_digit() || c == ',' || c == '.' || c == '-')
}

/// With their nanoseconds, from the smallest on.
const TIME_UNITS: [(&str, f64); 4] = [("ns", 1.0), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)];

/// `159279` as `159.3 µs`.
fn time(ns: u64) -> String {
    let fits = |(_, size): &&(&str, f64)| ns as f64 / size < 999.95;
    let (unit, size) = TIME_UNITS.iter().find(fits).unwrap_or(&TIME_UNITS[3]);
    let decimals = if *size == 1.0 { 0 } else { 1 };
    format!("{:.decimals$} {unit}", ns as f64 / size)
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Gives the word for what a port's link, or the user, has made of it.
fn link_word(port: &PortEntry) -> &'static str {
    match port {
        PortEntry { closed: Some(_), .. } => "closed",
        PortEntry { gone: true, .. } => LinkState::Gone.word(),
        PortEntry { stopped: true, .. } => "stopped",
        PortEntry { link_up: true, .. } => LinkState::Up.word(),
        PortEntry { .. } => LinkState::Down.word(),
    }
}

/// Ports: what was received, and what the driver says; what was lost before a worker saw it whole, where that happened; and the ends of
/// tunnels.
pub fn ports(snapshot: &Snapshot) -> String {
    let mut table = Table::new(&[
        "port",
        "device",
        "link",
        "received",
        "bytes",
        "driver rx",
        "driver tx",
        "missed",
        "errors",
        "no mbuf",
    ]);
    for (name, port) in &snapshot.ports {
        let driver = &port.driver;
        table.row(vec![
            name.clone(),
            port.device.clone(),
            link_word(port).to_owned(),
            grouped(port.received),
            grouped(port.received_bytes),
            grouped(driver.rx_packets),
            grouped(driver.tx_packets),
            grouped(driver.missed),
            grouped(driver.rx_errors + driver.tx_errors),
            grouped(driver.no_mbuf),
        ]);
    }
    let ports = snapshot.ports.iter().map(|(_, port)| port);
    table.column("congested", ports.clone().map(|port| grouped(port.congested)).collect());
    table.column("cut", ports.clone().map(|port| grouped(port.cut.unwrap_or(0))).collect());
    table.column("alarms", ports.map(|port| words(&port.alarms, ", ")).collect());
    let mut text = titled("ports", &table);
    for (name, port) in &snapshot.ports {
        if let Some(why) = &port.closed {
            text += &format!("port {name} is closed: {why}\n");
        }
    }
    for KeptDevice { port, device, error } in &snapshot.kept_devices {
        text += &format!(
            "port {port} was detached, and its device `{device}` stays in DPDK, closed: {error}\n"
        );
    }
    let parts = [text, ends(snapshot)];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

/// Ends of tunnels: what was taken out of them, what was refused and why, what was lost upstream, and what was answered for their
/// addresses. It is empty where no tunnel ends.
fn ends(snapshot: &Snapshot) -> String {
    let ends =
        snapshot.ports.iter().filter_map(|(name, port)| Some((name, port.terminate.as_ref()?, port)));
    let ends: Vec<_> = ends.collect();
    if ends.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["tunnels end at", "terminated", "refused", "lost upstream"]);
    for (name, end, _) in &ends {
        let refused: u64 = end.refused.0.iter().sum();
        let lost: u64 = end.sessions.iter().map(|session| session.counts.lost).sum();
        let counts = [end.terminated, refused, lost].map(grouped);
        table.row(std::iter::once((*name).clone()).chain(counts).collect());
    }
    for reason in Refusal::ALL {
        let counts = ends.iter().map(|(_, end, _)| grouped(end.refused.0[reason as usize]));
        table.column(reason.word(), counts.collect());
    }
    let mut answers = |head, count: fn(&AnswerState) -> u64| {
        let counts = ends.iter().map(|(_, _, port)| grouped(port.answers.as_ref().map_or(0, count)));
        table.column(head, counts.collect());
    };
    answers("arp", |answers| answers.arp);
    answers("nd", |answers| answers.nd);
    answers("echo", |answers| answers.echo);
    answers("not answered", |answers| answers.fragment + answers.malformed + answers.limited);
    titled("ends of tunnels", &table)
}

/// Rules: what each matched.
pub fn rules(snapshot: &Snapshot) -> String {
    let mut table =
        Table::new(&["rule", "matched", "duplicates", "sampled out", "share", "state", "next change"]);
    for (name, rule) in &snapshot.rules {
        let totals = rule;
        let state = match (rule.activity.on, rule.activity.limit_remaining) {
            (true, None) => "on".to_owned(),
            (true, Some(packets)) => format!("on, {} left", grouped(packets)),
            (false, _) => "off".to_owned(),
        };
        let change = rule.activity.next_change.map(instant).unwrap_or_default();
        let counts = [totals.matched, totals.duplicates, totals.sampled_out].map(grouped);
        let share = rule.sample_share.map(significant).unwrap_or_default();
        table.row(std::iter::once(name.clone()).chain(counts).chain([share, state, change]).collect());
    }
    titled("rules", &table)
}

/// A share with four digits that count: `0.1`, `0.008333`.
fn significant(share: f64) -> String {
    let decimals = if share > 0.0 { (3.0 - share.log10().floor()).clamp(0.0, 15.0) as usize } else { 0 };
    let text = format!("{share:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Tools: what became of their copies, what their queues and classes lost, and how long packets took to them. Columns and tables of
/// what never occurred are not there.
pub fn tools(snapshot: &Snapshot) -> String {
    let mut table = Table::new(&["tool", "state", "requested", "sent", "bytes", "dropped"]);
    for (name, tool) in &snapshot.tools {
        let copies = &tool.copies;
        let counts = [copies.requested, copies.sent, tool.sent_bytes, copies.dropped.total()].map(grouped);
        table.row([name.clone(), state_of(&tool.health)].into_iter().chain(counts).collect());
    }
    let entries = snapshot.tools.iter().map(|(_, tool)| tool);
    table.reasons(entries.clone().map(|tool| &tool.copies.dropped));
    table.column("alarms", entries.clone().map(|tool| words(&tool.alarms, ", ")).collect());
    for reason in IcmpReason::ALL {
        let count = |tool: &ToolEntry| tool.icmp_errors.map_or(0, |errors| errors.0[reason as usize]);
        table.column(&format!("icmp {reason}"), entries.clone().map(|tool| grouped(count(tool))).collect());
    }
    let queues = snapshot.tools.iter().map(|(name, tool)| Queue {
        name: name.clone(),
        depth: tool.queue_depth,
        peak: tool.queue_peak,
        latency: tool.latency_ns,
    });
    let parts = [titled("tools", &table), queue_table("tool", queues), refused(snapshot)];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

/// A row about a tool's queue, or about that of one direction of a wire.
struct Queue {
    name: String,
    depth: u64,
    peak: u64,
    latency: Latency,
}

/// Writes a table of what waits, what waited most, and how long packets took. It has the queues that something is known of; without
/// any it is empty.
fn queue_table(of: &str, queues: impl Iterator<Item = Queue>) -> String {
    let queues: Vec<Queue> = queues.filter(|queue| queue.peak > 0 || queue.latency.samples > 0).collect();
    if queues.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[of]);
    queues.iter().for_each(|queue| table.row(vec![queue.name.clone()]));
    let mut column =
        |head, cell: &dyn Fn(&Queue) -> String| table.column(head, queues.iter().map(cell).collect());
    let latency = |value: Option<u64>| value.map(time).unwrap_or_default();
    column("waiting", &|queue| grouped(queue.depth));
    column("queue peak", &|queue| grouped(queue.peak));
    column("latency p50", &|queue| latency(queue.latency.p50));
    column("p99", &|queue| latency(queue.latency.p99));
    column("max", &|queue| latency(queue.latency.max));
    titled("queues", &table)
}

/// Copies that tools' queues refused, by class; nothing where none did.
fn refused(snapshot: &Snapshot) -> String {
    let rows = snapshot.tools.iter().flat_map(|(name, tool)| {
        Class::ALL
            .into_iter()
            .map(move |class| (name, class, &tool.refused.0[class as usize]))
            .filter(|row| row.2.total() > 0)
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["tool", "class", "dropped"]);
    for (name, class, dropped) in &rows {
        table.row(vec![(*name).clone(), class.to_string(), grouped(dropped.total())]);
    }
    table.reasons(rows.iter().map(|row| row.2));
    titled("classes", &table)
}

/// Words, with something between them.
fn words<T: ToString>(words: &[T], between: &str) -> String {
    words.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
}

/// `down (link_down)`
fn state_of(health: &ToolHealth) -> String {
    match health.reason {
        Some(reason) => format!("{} ({reason})", health.state),
        None => health.state.to_string(),
    }
}

/// Seconds since the Unix epoch as RFC 3339 writes them.
fn instant(seconds: f64) -> String {
    jiff::Timestamp::from_second(seconds as i64)
        .map_or_else(|_| seconds.to_string(), |instant| instant.to_string())
}

/// Groups: who has how many buckets, and what no member got.
pub fn groups(snapshot: &Snapshot) -> String {
    let mut table = Table::new(&[
        "group",
        "member",
        "buckets",
        "flows",
        "buckets moved",
        "flows moved",
        "waiting",
        "discarded",
        "down",
    ]);
    for (name, group) in &snapshot.groups {
        for (place, (member, buckets)) in group.buckets.iter().enumerate() {
            let mut row = vec![
                if place == 0 { name.clone() } else { String::new() },
                member.clone(),
                grouped(*buckets as u64),
            ];
            if place == 0 {
                let unassigned = &group.unassigned;
                let moved =
                    [group.flows, group.buckets_moved, group.flows_moved, group.buckets_pending as u64];
                row.extend(
                    moved.into_iter().chain([unassigned.sent, unassigned.dropped.total()]).map(grouped),
                );
            }
            table.row(row);
        }
    }
    titled("groups", &table)
}

/// Wires: what became of the originals, by direction, and of their queues.
pub fn wires(snapshot: &Snapshot) -> String {
    let mut table = Table::new(&["wire", "from", "to", "received", "forwarded", "bytes", "dropped"]);
    for (name, wire) in &snapshot.wires {
        for (from, to, way) in [(&wire.a, &wire.b, &wire.a_to_b), (&wire.b, &wire.a, &wire.b_to_a)] {
            let mut row = vec![name.clone(), from.clone(), to.clone()];
            row.extend(
                [way.received, way.forwarded, way.forwarded_bytes, way.dropped.total()].map(grouped),
            );
            table.row(row);
        }
    }
    table.reasons(snapshot.wires.iter().flat_map(|(_, wire)| [&wire.a_to_b.dropped, &wire.b_to_a.dropped]));
    let ways = snapshot
        .wires
        .iter()
        .flat_map(|(name, wire)| [(name, "a-to-b", &wire.a_to_b), (name, "b-to-a", &wire.b_to_a)]);
    let queues = ways.map(|(name, direction, way)| Queue {
        name: format!("{name}:{direction}"),
        depth: way.queue_depth,
        peak: way.queue_peak,
        latency: way.latency_ns,
    });
    let parts = [titled("wires", &table), queue_table("wire", queues)];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

/// Lcores: how they spent their turns.
pub fn lcores(snapshot: &Snapshot) -> String {
    let mut head = vec![
        "lcore",
        "stages",
        "received",
        "from rings",
        "busy %",
        "turns",
        "idle turns",
        "polls",
        "empty polls",
        "sleeps",
        "stalls",
        "stage",
    ];
    head.extend(BurstSize::ALL.map(BurstSize::word));
    let mut table = Table::new(&head);
    for (name, lcore) in &snapshot.lcores {
        let stages =
            if lcore.stages == LcoreRole::ALL { "all".to_owned() } else { words(&lcore.stages, "+") };
        let busy = ((lcore.busy * 100.0).round() as u64).to_string();
        let mut row = vec![name.clone(), stages, grouped(lcore.received), grouped(lcore.from_rings), busy];
        let counts =
            [lcore.turns, lcore.idle_turns, lcore.polls, lcore.empty_polls, lcore.sleeps, lcore.stalls];
        row.extend(counts.map(grouped));
        row.push(lcore.stage.to_string());
        row.extend(lcore.bursts.0.map(grouped));
        table.row(row);
    }
    titled("lcores", &table)
}

/// Writes what `--profile` measured: cycles a packet, by lcore and stage.
pub fn profile(snapshot: &Snapshot) -> String {
    let mut table =
        Table::new(&["lcore", "timed packets", "receive", "classify", "route", "egress", "cycles/packet"]);
    for (name, lcore) in &snapshot.lcores {
        let Some(cycles) = &lcore.cycles_per_packet else { continue };
        let stages = [cycles.receive, cycles.classify, cycles.route, cycles.egress];
        let mut row = vec![name.clone(), grouped(cycles.packets)];
        row.extend(stages.iter().chain([&stages.iter().sum()]).map(|cycles| format!("{cycles:.1}")));
        table.row(row);
    }
    titled("timed bursts", &table)
}

/// When a snapshot was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// Packets may be on their way.
    Running,
    /// Nothing is on its way.
    AtEnd,
}

/// The account: both identities with their numbers.
pub fn account(snapshot: &Snapshot, when: When) -> String {
    let packets = &snapshot.packets;
    let mut out = format!("packets  received {} =", grouped(packets.received));
    out.push_str(&sum_of(packets.ends().into_iter()));
    out.insert_str(0, &before(snapshot));
    let copies = &snapshot.copies;
    write!(out, "\ncopies   requested {} =", grouped(copies.requested)).expect("writing to a string");
    out.push_str(&sum_of(std::iter::once(("sent", copies.sent)).chain(copies.dropped.by_reason())));
    let verdict = match when {
        _ if !snapshot.balanced => "NOT BALANCED".to_owned(),
        _ if packets.is_balanced() && copies.is_balanced() => match lost_of(snapshot) {
            0 => "balanced: every packet and every copy is accounted for".to_owned(),
            lost => format!(
                "balanced: every packet that was received and every copy is accounted for; {} were lost before",
                shared(lost, lost + packets.received)
            ),
        },
        // identities of single tools and groups are judged, too
        When::AtEnd => "balanced".to_owned(),
        When::Running => {
            // numbers are read one after another: an end may be seen whose beginning is not
            let (packets, copies) =
                (packets.received.abs_diff(packets.ended()), copies.requested.abs_diff(copies.ended()));
            format!("on their way: {} packets, {} copies", grouped(packets), grouped(copies))
        }
    };
    write!(out, "\n{verdict}\n").expect("writing to a string");
    out
}

/// Returns how many packets were lost before they were received.
fn lost_of(snapshot: &Snapshot) -> u64 {
    snapshot.ports.iter().map(|(_, port)| port.lost()).sum()
}

/// `1,728,512 (79.3 %)`.
fn shared(part: u64, whole: u64) -> String {
    let percent = 100.0 * part as f64 / whole.max(1) as f64;
    // a loss is never none
    let share = if percent < 0.1 { "less than 0.1".to_owned() } else { format!("{percent:.1}") };
    format!("{} ({share} %)", grouped(part))
}

/// Writes what was lost, or cut, before it was received, and is not in the account: a line for each port and cause, with the remedy. It
/// is empty where nothing was.
fn before(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    for (name, port) in &snapshot.ports {
        let driver = Driver::named(&port.driver_name);
        for cause in Cause::ALL {
            let (count, whole) = match (cause, cause.count(port)) {
                (_, 0) => continue,
                (Cause::Cut, cut) => (cut, port.received),
                (_, lost) => (lost, port.lost() + port.received),
            };
            let count = shared(count, whole);
            writeln!(text, "before   {name}: {} {count}: {}", cause.word(), remedy(cause, driver))
                .expect("writing to a string");
        }
    }
    text
}

/// Says in a line how a running broker is: whether the account balances, what was lost, which ports are gone and which tools are
/// down.
pub fn status(snapshot: &Snapshot) -> String {
    let (packets, copies) = (&snapshot.packets, &snapshot.copies);
    let (lost, dropped) = (lost_of(snapshot), copies.dropped.total());
    let part = |part: u64, whole: u64| if part == 0 { "0".to_owned() } else { shared(part, whole) };
    let mut line = format!(
        "{}; {} packets received, {} lost; {} copies sent, {} dropped",
        verdict(snapshot),
        grouped(packets.received),
        part(lost, lost + packets.received),
        grouped(copies.sent),
        part(dropped, copies.ended())
    );
    let gone = snapshot.ports.iter().filter(|(_, port)| port.gone);
    let gone: Vec<&str> = gone.map(|(name, _)| name.as_str()).collect();
    if !gone.is_empty() {
        write!(line, "; ports gone: {}", gone.join(", ")).expect("writing to a string");
    }
    let down = snapshot.tools.iter().filter(|(_, tool)| tool.health.state == ToolState::Down);
    let down: Vec<&str> = down.map(|(name, _)| name.as_str()).collect();
    if !down.is_empty() {
        write!(line, "; tools down: {}", down.join(", ")).expect("writing to a string");
    }
    line
}

/// Tells a good word of the live line from a bad one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tone {
    Plain,
    Good,
    Warning,
    Bad,
}

/// Says in words, the most important first, how a run is that has gone on for `elapsed`.
pub fn live(snapshot: &Snapshot, elapsed: Duration) -> Vec<(String, Tone)> {
    let recent = &snapshot.recent;
    let mut words = vec![
        (verdict(snapshot).to_owned(), if snapshot.balanced { Tone::Good } else { Tone::Bad }),
        (scaled(recent.packets_per_s, "pps"), Tone::Plain),
        lost_a_second("lost", recent.lost_per_s),
        lost_a_second("dropped", recent.drops_per_s),
    ];
    let dropped = |tool: &ToolEntry| tool.recent.drops_per_s.unwrap_or(0.0);
    let worst = snapshot.tools.iter().max_by(|(_, a), (_, b)| dropped(a).total_cmp(&dropped(b)));
    if let Some((name, _)) = worst.filter(|(_, tool)| dropped(tool) > 0.0) {
        words.push((format!("most {name}"), Tone::Warning));
    }
    let down = snapshot.tools.iter().filter(|(_, tool)| tool.health.state == ToolState::Down);
    let down: Vec<&str> = down.map(|(name, _)| name.as_str()).collect();
    if !down.is_empty() {
        words.push((format!("down {}", down.join(",")), Tone::Bad));
    }
    words.extend(replayed(snapshot, elapsed).map(|text| (text, Tone::Plain)));
    words.push((scaled(8.0 * recent.bytes_per_s, "bit/s"), Tone::Plain));
    words
}

fn lost_a_second(word: &str, rate: f64) -> (String, Tone) {
    if rate == 0.0 {
        (format!("{word} 0"), Tone::Plain)
    } else {
        (format!("{word} {}", scaled(rate, "pps")), Tone::Bad)
    }
}

/// Says how far replays are, and about how long they take yet, as it went so far. Those without an end are left out.
fn replayed(snapshot: &Snapshot, elapsed: Duration) -> Option<String> {
    let replays = snapshot.ports.iter().filter_map(|(_, port)| {
        let replay = port.replay.as_ref()?;
        Some((if replay.ended { replay.all_bytes? } else { replay.read_bytes }, replay.all_bytes?))
    });
    let (read, all) = replays.reduce(|(read, all), (more, of)| (read + more, all + of))?;
    let share = read.min(all) as f64 / all.max(1) as f64;
    let mut text = format!("{:.0} %", (100.0 * share).floor());
    if share > 0.0 && share < 1.0 {
        let left = elapsed.as_secs_f64() * (1.0 - share) / share;
        write!(text, ", {} left", clock_time(left.ceil() as u64)).expect("writing to a string");
    }
    Some(text)
}

/// `7 s`, `2:05`, `1:00:00`.
fn clock_time(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// Returns whether the account balances, in a word or two.
pub fn verdict(snapshot: &Snapshot) -> &'static str {
    if snapshot.balanced { "balanced" } else { "NOT BALANCED" }
}

/// ` a 1 + b 2`, without terms that are zero; the first term always stands.
fn sum_of(terms: impl Iterator<Item = (&'static str, u64)>) -> String {
    let shown = terms.enumerate().filter(|&(index, (_, count))| index == 0 || count > 0);
    let words: Vec<String> =
        shown.map(|(_, (name, count))| format!(" {name} {}", grouped(count))).collect();
    words.join(" +")
}

/// Says in a line how much came and went of late.
pub fn rates(snapshot: &Snapshot) -> String {
    let RecentTotals { interval_s, packets_per_s, bytes_per_s, lost_per_s, copies_per_s, drops_per_s } =
        snapshot.recent;
    let [packets, lost, copies, drops] =
        [packets_per_s, lost_per_s, copies_per_s, drops_per_s].map(|rate| scaled(rate, "pps"));
    let bits = scaled(8.0 * bytes_per_s, "bit/s");
    format!(
        "last {interval_s:.1} s  received {packets}, {bits}, lost {lost}; sent {copies}, dropped {drops}\n"
    )
}

/// A rate with about three digits: `14.9 Mpps`, `730 pps`.
fn scaled(rate: f64, unit: &str) -> String {
    let fits = |(_, size): &&(&str, f64)| rate / size < 999.5;
    let (letter, size) =
        [("", 1.0), ("k", 1e3), ("M", 1e6)].iter().find(fits).copied().unwrap_or(("G", 1e9));
    let value = rate / size;
    let decimals = if value.fract() == 0.0 || value >= 99.95 { 0 } else { 1 };
    format!("{value:.decimals$} {letter}{unit}")
}

/// The tables of `show stats`, and of the end of a run.
pub fn summary(snapshot: &Snapshot, when: When) -> String {
    let mut account = account(snapshot, when);
    if when == When::Running {
        account.insert_str(0, &rates(snapshot));
    }
    let mut parts = vec![ports(snapshot), rules(snapshot), tools(snapshot), account];
    if !snapshot.groups.is_empty() {
        parts.insert(3, groups(snapshot));
    }
    if !snapshot.wires.is_empty() {
        parts.insert(1, wires(snapshot));
    }
    parts.join("\n")
}

fn titled(title: &str, table: &Table) -> String {
    let mut out = String::new();
    if table.rows.len() == 1 {
        return format!("no {title}\n");
    }
    table.render(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1000), "1,000");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }

    #[test]
    fn shares_are_shown_with_four_digits_that_count() {
        let shown =
            [1.0, 0.5, 0.1, 1.0 / 3.0, 1.0 / 120.0, 1e-6, 0.99996, 1.0 / 4_294_967_295.0].map(significant);
        assert_eq!(shown, ["1", "0.5", "0.1", "0.3333", "0.008333", "0.000001", "1", "0.0000000002328"]);
    }

    #[test]
    fn rates_have_about_three_digits() {
        let shown = [0.0, 7.0, 0.4, 730.2, 1000.0, 14_880_952.4, 999_600.0, 12_345_678_901.0];
        assert_eq!(
            shown.map(|rate| scaled(rate, "pps")),
            ["0 pps", "7 pps", "0.4 pps", "730 pps", "1 kpps", "14.9 Mpps", "1.0 Mpps", "12.3 Gpps"]
        );
    }

    #[test]
    fn long_times_are_told_as_a_clock_does() {
        assert_eq!(
            [0, 59, 125, 3600, 100_000].map(clock_time),
            ["0 s", "59 s", "2:05", "1:00:00", "27:46:40"]
        );
    }

    #[test]
    fn times_have_the_unit_that_leaves_them_short() {
        let shown = [0, 999, 1000, 159_279, 999_949, 999_950, 12_345_678, 2_500_000_000, 3_600_000_000_000]
            .map(time);
        assert_eq!(
            shown,
            ["0 ns", "999 ns", "1.0 µs", "159.3 µs", "999.9 µs", "1.0 ms", "12.3 ms", "2.5 s", "3600.0 s"]
        );
        assert!(shown.iter().all(|time| is_numeric(time)) && !is_numeric("ids") && !is_numeric("s"));
    }

    #[test]
    fn columns_with_nothing_to_say_are_left_out() {
        let mut table = Table::new(&["tool"]);
        ["ids", "recorder"].iter().for_each(|name| table.row(vec![(*name).to_owned()]));
        table.column("alarms", vec![String::new(), String::new()]);
        table.column("max", vec!["12.3 ms".to_owned(), String::new()]);
        table.column("congested", vec!["0".to_owned(), "0".to_owned()]);
        let mut out = String::new();
        table.render(&mut out);
        assert_eq!(out, "  tool          max\n  ids       12.3 ms\n  recorder\n");
    }

    #[test]
    fn numbers_stand_to_the_right_of_their_column() {
        let mut table = Table::new(&["tool", "sent"]);
        table.row(vec!["ids".to_owned(), "7".to_owned()]);
        table.row(vec!["recorder".to_owned(), "1,234".to_owned()]);
        let mut out = String::new();
        table.render(&mut out);
        assert_eq!(out, "  tool       sent\n  ids           7\n  recorder  1,234\n");
    }
}
