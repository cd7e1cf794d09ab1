//! Limits and schedules in the running program.

use tapline_harness::bench::{Bench, check};
use tapline_harness::frames::udp;

fn hundred(bench: &Bench) {
    let packets: Vec<Vec<u8>> = (0..100).map(|id| udp(id, [198, 18, 0, 1], 4000, 64)).collect();
    bench.write("in.pcap", &packets);
}

const ONE_TO_TWO: &str = "
    port attach tap0 net_pcap0,rx_pcap=@/in.pcap
    tool create first discard
    tool create rest discard
";

#[test]
fn a_limit_is_met_to_the_packet_and_what_is_beyond_it_goes_to_lower_rules() {
    let bench = Bench::new();
    hundred(&bench);
    let rules = "
        rule create 10 from tap0 limit 37 packets to first final
        rule create 20 from tap0 to rest
    ";
    let run = bench.run(&format!("{ONE_TO_TWO}{rules}"), &[]);
    assert_eq!((run.number("tools/first/sent"), run.number("tools/rest/sent")), (37, 63));
    assert_eq!((run.number("rules/10/matched"), run.number("rules/10/limit_remaining")), (37, 0));
    assert_eq!(run.last()["rules"]["10"]["on"], false);
}

#[test]
fn a_rule_whose_time_is_over_takes_nothing() {
    let bench = Bench::new();
    hundred(&bench);
    let rules = "
        rule create 10 from tap0 until 2020-01-01T00:00:00Z to first final
        rule create 20 from tap0 active \"daily 00:00-24:00\" zone UTC to rest
    ";
    let run = bench.run(&format!("{ONE_TO_TWO}{rules}"), &[]);
    assert_eq!((run.number("tools/first/requested"), run.number("tools/rest/sent")), (0, 100));
    assert_eq!(
        (&run.last()["rules"]["10"]["on"], &run.last()["rules"]["20"]["on"]),
        (&false.into(), &true.into())
    );
}

#[test]
fn a_rule_goes_off_while_packets_flow() {
    let bench = Bench::new();
    let pipeline = "
        set idle sleep
        port attach tap0 net_null0
        tool create first discard
        tool create beside discard
        tool create rest discard
        rule create 10 from tap0 for 500ms to first
        rule create 20 from tap0 for 500ms to beside final
        rule create 30 from tap0 to rest
    ";
    let mut command = bench.command(pipeline, &["--duration", "2s", "--interval", "100ms"]);
    let run = bench.finish(command.output().expect("the program starts"));
    assert!(run.stderr.contains("rule 10: off"), "{}", run.stderr);
    let first_on = run.lines.iter().find(|stats| stats["rules"]["10"]["on"] == true).expect("it was on");
    assert!(first_on["rules"]["10"]["next_change"].is_f64(), "{first_on}");
    let last_off = &run.lines[run.lines.len() - 2];
    assert_eq!(last_off["rules"]["10"]["on"], false);
    assert_eq!(last_off["rules"]["10"]["matched"].as_u64(), Some(run.number("rules/10/matched")));
    // both go off at one burst boundary, behind which the third takes all
    let matched = |rule: &str| run.number(&format!("rules/{rule}/matched"));
    assert_eq!(matched("10"), matched("20"));
    assert_eq!(matched("20") + matched("30"), run.number("packets/received"));
    assert!(matched("10") > 0 && matched("30") > 0);
}

#[test]
fn a_rule_that_is_never_on_is_warned_of_and_one_that_goes_off_hides_no_other() {
    let rules = "port attach tap0 net_null0\ntool create a discard\n";
    let (status, said) =
        check(&format!("{rules}rule create 10 from tap0 until 2020-01-01T00:00:00Z to a\n"));
    assert_eq!(status, Some(0), "{said}");
    assert!(
        said.contains("warning: rule 10 is never on") && said.contains("its `until` is past"),
        "{said}"
    );

    let second = "rule create 20 from tap0 to a\n";
    for ends in ["limit 100 packets", "for 1h", "active \"daily 08:00-09:00\" zone UTC"] {
        for verdict in ["to a final", "drop"] {
            let (status, said) =
                check(&format!("{rules}rule create 10 from tap0 {ends} {verdict}\n{second}"));
            assert_eq!(status, Some(0), "{said}");
            assert!(!said.contains("can never match"), "{ends} {verdict}: {said}");
        }
    }
    let (_, said) = check(&format!("{rules}rule create 10 from tap0 sample 1/10 to a final\n{second}"));
    assert!(
        said.contains("rule 20 can never match"),
        "what the sampler leaves out is kept from lower rules too: {said}"
    );
}
