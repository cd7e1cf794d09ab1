//! Stores that are killed again and again, and rotate a thousand times.

use tapline_harness::judges::{assert_same, number};
use tapline_harness::lab::{Lab, office};
use tapline_harness::pcap_files::packets;
use tapline_harness::programs::has_programs;
use tapline_harness::segments::{joined, kill_and_repair, read, segments};

const JUDGES: [&str; 4] = ["capinfos", "mergecap", "tshark", "python3"];

/// The number that a variable of the environment says; `short` without it.
fn said(variable: &str, short: usize) -> usize {
    std::env::var(variable).ok().and_then(|number| number.parse().ok()).unwrap_or(short)
}

#[test]
fn whatever_a_kill_leaves_is_repaired_and_told() {
    let seed = said("TAPLINE_SOAK_SEED", 0x7a91) as u64;
    println!("TAPLINE_SOAK_SEED={seed}");
    if has_programs(&JUDGES) {
        kill_and_repair(said("TAPLINE_KILLS", 8), seed);
    }
}

#[test]
fn a_thousand_rotations_lose_nothing() {
    if !has_programs(&JUDGES) {
        return;
    }
    let lab = Lab::new();
    let frames = office(&lab);
    let folder = lab.path("store");
    std::fs::create_dir(&folder).expect("a folder of our own");
    let passes = said("TAPLINE_PASSES", 100);
    for (rotate, least) in
        [("64k", passes * frames.iter().map(Vec::len).sum::<usize>() / 64_000), ("1G every 1ms", 1000)]
    {
        let account = lab.account(
            &format!(
                "port attach tap replay:in.pcap,speed=max,loop={passes}\n\
                 tool create rec capture store rotate {rotate} keep 4G\n\
                 rule create 10 from tap to rec\n"
            ),
            &[],
        );
        let found = segments(&folder);
        assert!(found.len() >= least, "{} segments", found.len());
        assert_eq!(number(account.last(), "tools/rec/sent"), (passes * frames.len()) as u64);
        read(&found);
        let (mut recorded, part) = (Vec::new(), lab.path("part.pcapng"));
        // as many as a command line takes
        for some in found.chunks(500) {
            joined(some, &part);
            recorded.extend(packets(&part));
        }
        assert_same(
            rotate,
            &recorded,
            &frames.iter().cycle().take(passes * frames.len()).cloned().collect::<Vec<_>>(),
        );
        found.iter().for_each(|path| std::fs::remove_file(path).expect("a file of our own"));
    }
}
