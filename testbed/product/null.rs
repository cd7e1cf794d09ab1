//! Packets as fast as the data path takes them, from devices that make and swallow them: the account holds at any rate.

use tapline_harness::judges;
use tapline_harness::lab::Lab;

const PORTS: &str = "port attach in net_null0\nport attach out net_null1 rxq 0\nport attach out2 net_null2,size=128 rxq 0\n\
                     tool create a port out\ntool create b port out2\ntool create c discard\n";

#[test]
fn two_seconds_of_full_speed_balance() {
    let account =
        Lab::new().account(&format!("{PORTS}rule create 1 from in to a\n"), &["--duration", "2s"]);
    let received = account.number("packets/received");
    assert!(received > 0);
    assert_eq!(
        (account.number("packets/delivered"), account.number("copies/requested")),
        (received, received)
    );
    // net_null takes everything
    assert_eq!(
        (account.number("tools/a/sent"), account.number("ports/out/driver/tx_packets")),
        (received, received)
    );
    assert_eq!(account.number("ports/in/driver/rx_packets"), received);
}

#[test]
fn filters_samples_groups_and_copies_at_full_speed_balance() {
    let rules = "group create g tools a,b,c weights 2,1,1\nset burst 48\n\
                 rule create 1 from in sample 1/3 to a,c\nrule create 2 from in match \"not ip\" sample random 1/2 to g\n\
                 rule create 3 from in match \"ip\" drop\nrule create 4 from in sample flow 1/4 to b final\n";
    let account = Lab::new().account(&format!("{PORTS}{rules}"), &["--duration", "2s"]);
    assert!(account.number("copies/requested") > account.number("packets/delivered") / 2);
}

#[test]
fn stop_and_start_lose_nothing() {
    let account = Lab::new().account(
        &format!("{PORTS}rule create 1 from in to a,b\nstart\nstop\nstart\nstop\nstart\n"),
        &["--duration", "1s"],
    );
    assert_eq!(account.number("copies/sent"), 2 * account.number("packets/received"));
}

#[test]
fn several_queues_of_one_port_are_spread_over_workers() {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        tapline_skip::skipped("one CPU");
        return;
    }
    let account = Lab::new()
        .account(&format!("set lcores 0-1\n{PORTS}rule create 1 from in to a,b\n"), &["--duration", "1s"]);
    let lcores = account.last()["lcores"].as_object().expect("lcores");
    assert_eq!(lcores.len(), 2);
    assert!(lcores.values().all(|lcore| judges::number(lcore, "received") > 0), "{lcores:?}");
}
