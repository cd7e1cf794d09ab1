//! Stores on file systems that are small, full, read-only or gone: what is not there is counted, and nothing else is missing.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tapline_harness::judges::number;
use tapline_harness::lab::{EAL, Lab, office};
use tapline_harness::programs::has_programs;
use tapline_harness::segments::{bytes_of, read, segments, seq};

const JUDGES: [&str; 2] = ["capinfos", "python3"];

/// A file system in memory of 64 MiB.
struct Small(PathBuf);

impl Small {
    fn mount(lab: &Lab) -> Option<Self> {
        let path = lab.path("small");
        std::fs::create_dir(&path).expect("a folder of our own");
        let small = Self(path);
        let is_there = small.mount_with("size=64m", &["-t", "tmpfs", "tapline"]);
        if !is_there {
            tapline_skip::skipped("no right to mount");
        }
        is_there.then_some(small)
    }

    fn mount_with(&self, options: &str, arguments: &[&str]) -> bool {
        let mut mount = Command::new("mount");
        let status = mount.args(["-o", options]).args(arguments).arg(&self.0).status();
        status.is_ok_and(|status| status.success())
    }

    fn room(&self) -> (u64, u64) {
        let path = self.0.to_str().expect("a plain name");
        let said = Command::new("stat").args(["-f", "-c", "%b %a %S", path]).output().expect("stat(1)");
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        let numbers: Vec<u64> =
            text.split_whitespace().map(|word| word.parse().expect("a number")).collect();
        (numbers[0] * numbers[2], numbers[1] * numbers[2])
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A pipeline that records more than the file system has room for, paced by nothing.
fn pipeline(folder: &Path, wishes: &str, passes: u32) -> String {
    format!(
        "port attach tap replay:in.pcap,speed=max,loop={passes}\n\
         tool create rec capture {} {wishes}\n\
         rule create 10 from tap to rec\n",
        folder.display()
    )
}

/// Packets that the interfaces of segments have, and those that are told to be lost.
fn held(folder: &Path) -> (u64, u64) {
    let said = read(&segments(folder));
    let interfaces = said.iter().flat_map(|segment| segment["interfaces"].as_array().expect("a list"));
    interfaces.fold((0, 0), |(packets, told), interface| {
        (packets + number(interface, "packets"), told + number(interface, "told"))
    })
}

fn dropped(line: &Value, reason: &str) -> u64 {
    number(line, &format!("tools/rec/dropped/{reason}"))
}

#[test]
fn a_small_file_system_never_fills_and_free_is_left_free() {
    let lab = Lab::new();
    let Some(small) = has_programs(&JUDGES).then(|| Small::mount(&lab)).flatten() else { return };
    let frames = office(&lab).len() as u64;
    for (wishes, most_bytes, least_free) in [
        ("rotate 2M keep 40M", 40_000_000, 0),
        ("rotate 2M keep 60M free 50%", 60_000_000, 50),
        ("rotate 1M keep 60M", 60_000_000, 0),
    ] {
        let account = lab.account(&pipeline(&small.0, wishes, 200), &[]);
        assert_eq!(account.number("tools/rec/sent"), 200 * frames, "{wishes}");
        let (total, free) = small.room();
        assert!(free * 100 >= total * least_free, "{wishes}: {free} of {total}");
        let found = segments(&small.0);
        let bytes = bytes_of(&found);
        assert!(bytes <= most_bytes, "{wishes}: {bytes}");
        // one segment beyond need at most
        let limit = if least_free > 0 { total * (100 - least_free) / 100 } else { most_bytes };
        assert!(bytes + 5_000_000 > limit, "{wishes}: {bytes} of {limit}");
        let numbers: Vec<u64> = found.iter().map(|path| seq(path)).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "the oldest went first");
        let (begun, expired) =
            (account.number("tools/rec/store/begun"), account.number("tools/rec/store/expired"));
        assert!(begun > 10 && expired > 5, "{wishes}: {begun} {expired}");
        read(&found);
    }
}

#[test]
fn what_a_full_disk_does_not_take_is_counted_and_missing() {
    let lab = Lab::new();
    let Some(small) = has_programs(&JUDGES).then(|| Small::mount(&lab)).flatten() else { return };
    let frames = office(&lab).len() as u64;
    // others leave nothing but a few pages
    std::fs::create_dir(small.0.join("store")).expect("a folder of our own");
    let (_, free) = small.room();
    std::fs::write(small.0.join("others"), vec![1; free as usize - 3_000_000]).expect("room");
    let folder = small.0.join("store");
    let ended = lab.run(&pipeline(&folder, "rotate 10M keep 30M", 20), &[]);
    assert_eq!(ended.status, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("No space left on device"), "{}", ended.stderr);
    let last = ended.stats.last().expect("statistics").clone();
    tapline_harness::judges::assert_balanced(&last);
    let (sent, lost) = (number(&last, "tools/rec/sent"), dropped(&last, "no_space"));
    assert!(lost > 0 && sent + lost == 20 * frames, "{sent} + {lost}");
    let expired = number(&last, "tools/rec/store/expired");
    let (packets, told) = held(&folder);
    assert!(packets <= sent && (packets == sent || expired > 0), "{packets} of {sent}, {expired} expired");
    assert!(told <= lost);
}

#[test]
fn a_folder_that_goes_and_one_that_is_read_only_cost_counted_copies_until_they_are_back() {
    let lab = Lab::new();
    let Some(small) = has_programs(&JUDGES).then(|| Small::mount(&lab)).flatten() else { return };
    office(&lab);
    let folder = small.0.join("store");
    std::fs::create_dir(&folder).expect("a folder of our own");
    lab.write(
        "test.pipe",
        pipeline(&folder, "rotate 1M every 200ms keep 20M sync 10ms", 1)
            .replace("speed=max,loop=1", "speed=original,maxgap=1ms,loop=forever"),
    );
    let flags = ["run", "test.pipe", "--eal", EAL, "--stats", "stats.json", "--interval", "20ms"];
    let started = lab.start(&mut lab.tapline(&flags));
    let is_recording = |line: &Value| number(line, "tools/rec/sent") > 100;
    lab.until("recording", is_recording);
    std::fs::remove_dir_all(&folder).expect("a folder of our own");
    let gone = lab.until("losses", |line| dropped(line, "write_error") > 100);
    assert_eq!(gone["tools"]["rec"]["store"]["failing"], true);
    std::fs::create_dir(&folder).expect("a folder of our own");
    let before = number(&gone, "tools/rec/sent");
    let back = lab.until("recording again", |line| {
        number(line, "tools/rec/sent") > before + 100 && line["tools"]["rec"]["store"]["failing"] == false
    });
    let lost = dropped(&back, "write_error");
    // what writes to a file system keeps it from being made read-only: one that is comes over it
    let over = Small(folder.clone());
    assert!(over.mount_with("ro", &["-t", "tmpfs", "tapline"]), "a folder of our own");
    lab.until("losses", |line| dropped(line, "write_error") > lost + 100);
    drop(over);
    lab.until("recording again", |line| {
        number(line, "tools/rec/sent") > number(&back, "tools/rec/sent") + 200
            && line["tools"]["rec"]["store"]["failing"] == false
    });
    started.signal("TERM");
    let ended = lab.end(started);
    assert_eq!(ended.status, Some(1), "{}", ended.stderr);
    let last = ended.stats.last().expect("statistics");
    tapline_harness::judges::assert_balanced(last);
    // what was sent before the folder went is gone with it
    let (packets, told) = held(&folder);
    assert!(packets > 200 && packets < number(last, "tools/rec/sent"));
    assert!(told > 100 && told <= number(last, "tools/rec/requested"));
}
