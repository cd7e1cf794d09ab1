//! Metrics, by parsers of others and by Prometheus.

use std::process::{Command, Stdio};

use super::{PIPELINE, Served};
use tapline_harness::programs::{has_programs, repository};

/// Python with PyPI's prometheus-client, if some Python has it.
fn python_with_parsers() -> Option<String> {
    let own = repository().join("target/testbed/python/bin/python3");
    [own.display().to_string(), "python3".to_owned()].into_iter().find(|python| {
        let import = ["-c", "import prometheus_client"];
        Command::new(python)
            .args(import)
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    })
}

/// A broker that does many things: dedup, sampling, a group, a wire.
const MUCH: &str = "set idle sleep\nport attach in net_null0,copy=0 rxd 256\nport attach out net_null1 rxq 0\n\
                    port attach a net_null2 rxd 128\nport attach b net_null3 rxd 128\nwire create w ports a,b\n\
                    tool create t port out alarm 80% queue 128\ntool create d discard\ntool create o port out queue 128\n\
                    group create g tools t,d weights 2,1 min-up 1 discard 10%\n\
                    rule create 10 from in match \"less 9000\" dedup window 10ms to g\nrule create 20 from in sample flow 1/10 to d\n\
                    rule create 30 from w:a-to-b sample 1/3 to o\nstart\n";

#[test]
fn both_texts_have_the_numbers_of_the_statistics() {
    let Some(python) = python_with_parsers() else {
        return tapline_skip::skipped("no Python with PyPI's prometheus-client (testbed/packages web)");
    };
    let served = Served::start(MUCH, &[]);
    std::thread::sleep(std::time::Duration::from_millis(1500));
    // at rest: the scrape and the statistics are of the same counts
    served.ctl(&["stop"]);
    served.python(&python, "parse.py", &["control.sock"]);
    // what was cleared in the statistics goes on here
    served.ctl(&["clear", "stats"]);
    served.python(&python, "parse.py", &["control.sock", "cleared"]);
    served.ctl(&["start"]);
    served.end();
}

#[test]
fn promtool_finds_nothing_to_say_of_the_metrics() {
    if !has_programs(&["promtool"]) {
        return tapline_skip::skipped("no promtool (testbed/packages web)");
    }
    let served = Served::start(MUCH, &[]);
    served.lab.write("metrics", served.curl(&[], "/metrics"));
    let input = std::fs::File::open(served.lab.path("metrics")).expect("a file");
    let output =
        Command::new("promtool").args(["check", "metrics"]).stdin(input).output().expect("promtool");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && text.trim().is_empty(), "{text}");
    served.end();
}

/// Prometheus scrapes both forms; every family that the broker has is in its database, and the identities hold there.
#[test]
fn prometheus_scrapes_a_running_broker() {
    if !has_programs(&["prometheus", "python3"]) {
        return tapline_skip::skipped("no Prometheus (testbed/packages web)");
    }
    let served = Served::start(MUCH, &[]);
    served.python(
        "python3",
        "scrape.py",
        &["control.sock", &repository().join("contrib").display().to_string()],
    );
    served.end();
}

/// A tool whose port is stopped is down: Alertmanager hears of it.
#[test]
fn alertmanager_hears_of_a_tool_that_is_down() {
    if !has_programs(&["prometheus", "prometheus-alertmanager", "python3"]) {
        return tapline_skip::skipped("no Prometheus or no Alertmanager (testbed/packages web)");
    }
    let served = Served::start(PIPELINE, &[]);
    served.ctl(&["port", "stop", "out"]);
    served.python(
        "python3",
        "alert.py",
        &["control.sock", &repository().join("contrib").display().to_string()],
    );
    served.end();
}

/// Each alert has a case in which it fires and one in which it does not.
#[test]
fn alerts_fire_when_they_should_and_no_other_time() {
    let folder = repository().join("contrib/prometheus");
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).expect("a file");
    let (rules, tests) = (text("tapline.rules.yml"), text("tapline.rules.test.yml"));
    let alerts: Vec<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 15);
    for alert in alerts {
        let cases: Vec<&str> = tests.split(&format!("- alertname: {alert}\n")).skip(1).collect();
        let quiet = cases
            .iter()
            .filter(|case| case.lines().nth(1).is_some_and(|line| line.trim() == "exp_alerts: []"));
        assert_eq!((cases.len(), quiet.count()), (2, 1), "{alert}");
    }
    if !has_programs(&["promtool"]) {
        return tapline_skip::skipped("no promtool (testbed/packages web)");
    }
    for arguments in [["check", "rules", "tapline.rules.yml"], ["test", "rules", "tapline.rules.test.yml"]]
    {
        let output =
            Command::new("promtool").args(arguments).current_dir(&folder).output().expect("promtool");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{text}");
    }
}

/// The bound of series holds with ten thousand rules, and all that is read of them is whole.
#[test]
fn ten_thousand_rules_are_bounded() {
    let mut text = PIPELINE.replace("start\n", "set metrics rules 50\n");
    for rule in 100..10_100 {
        text += &format!("rule create {rule} from in match \"udp port {}\" to d\n", rule % 60_000 + 1);
    }
    let served = Served::start(&format!("{text}start\n"), &[]);
    let metrics = served.curl(&[], "/metrics");
    let rules = metrics.lines().filter(|line| line.starts_with("tapline_rule_on{")).count();
    assert_eq!(rules, 50);
    let left_out =
        metrics.lines().find_map(|line| line.strip_prefix("tapline_series_left_out ")).expect("a count");
    assert!(left_out.parse::<u64>().expect("a count") >= 9_952 * 8, "{left_out}");
    let stats = served.json(&[], "/api/v1/stats");
    assert_eq!(stats["rules"].as_object().map(serde_json::Map::len), Some(10_002));
    assert_eq!(
        served.json(&[], "/api/v1/rules?offset=10000&limit=100")["rules"]
            .as_object()
            .map(serde_json::Map::len),
        Some(2)
    );
    // it is killed: how long so many rules take to end is not judged here
}
