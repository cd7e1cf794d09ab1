//! Segments of a store, read by programs that were written elsewhere.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::captures::files;
use crate::judges::{assert_same, number};
use crate::lab::{EAL, Lab, office};
use crate::pcap_files::packets;
use crate::programs::run;

/// Reads pcapng files by their blocks: for each a line of JSON with its interfaces, and for each of these what its last statistics say,
/// how many packets there are, and how many of them tell of how many lost ones.
/// # Source
/// draft-ietf-opsawg-pcapng, section 4.
const READER: &str = r#"
import json, struct, sys

def options(body):
    found = []
    while len(body) >= 4:
        code, length = struct.unpack("=HH", body[:4])
        if code == 0:
            break
        found.append((code, body[4:4 + length]))
        body = body[4 + (length + 3) // 4 * 4:]
    return found

for path in sys.argv[1:]:
    data = open(path, "rb").read()
    at, interfaces, comments = 0, [], []
    while at < len(data):
        kind, length = struct.unpack("=II", data[at:at + 8])
        assert length % 4 == 0 and struct.unpack("=I", data[at + length - 4:at + length])[0] == length, (path, at)
        body = data[at + 8:at + length - 4]
        if kind == 0x0A0D0D0A:
            assert at == 0, "one section a segment"
            comments = [value.decode() for code, value in options(body[16:]) if code == 1]
        elif kind == 1:
            said = dict(options(body[8:]))
            interfaces.append({
                "name": said.get(2, b"").decode(), "description": said.get(3, b"").decode(),
                "filter": said[11][1:].decode() if 11 in said else None,
                "packets": 0, "told": 0, "flags": [], "statistics": None})
        elif kind == 6:
            number, _, _, captured, _ = struct.unpack("=IIIII", body[:20])
            said = dict(options(body[20 + (captured + 3) // 4 * 4:]))
            interface = interfaces[number]
            interface["packets"] += 1
            interface["told"] += struct.unpack("=Q", said[4])[0] if 4 in said else 0
            flags = struct.unpack("=I", said[2])[0] if 2 in said else 0
            if flags not in interface["flags"]:
                interface["flags"].append(flags)
        elif kind == 5:
            number, = struct.unpack("=I", body[:4])
            said = {code: struct.unpack("=Q", value)[0] for code, value in options(body[12:]) if code in (4, 5, 6, 7, 8)}
            interfaces[number]["statistics"] = {
                "received": said.get(4), "missed": said.get(5), "accepted": said[6], "dropped": said[7], "delivered": said[8]}
        else:
            raise AssertionError((path, at, kind))
        at += length
    print(json.dumps({"path": path, "comments": comments, "interfaces": interfaces}))
"#;

/// The visible segments of a folder, oldest first.
/// # Panics
/// If something is hidden there, or is no segment.
pub fn segments(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder of a store");
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    found.sort_by_key(|path| seq(path));
    found
}

/// The number of a segment, by its name.
pub fn seq(path: &Path) -> u64 {
    let name = path.file_name().expect("a name").to_str().expect("a plain name");
    let digits = name.strip_suffix(".pcapng").and_then(|name| name.split_once('-'));
    digits.unwrap_or_else(|| panic!("{name} is no segment")).1.parse().expect("a number")
}

/// The bytes of segments, all together.
pub fn bytes_of(paths: &[PathBuf]) -> u64 {
    paths.iter().map(|path| path.metadata().expect("a file").len()).sum()
}

/// What the blocks of segments say; none is called damaged by capinfos(1).
pub fn read(paths: &[PathBuf]) -> Vec<Value> {
    let names: Vec<&str> = paths.iter().map(|path| path.to_str().expect("a plain name")).collect();
    let mut found = Vec::new();
    // as many as a command line takes
    for names in names.chunks(500) {
        run("capinfos", &[&["-c", "-M"], names].concat());
        let said = run("python3", &[&["-c", READER], names].concat());
        found.extend(said.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")));
    }
    found
}

/// All segments one behind another, as mergecap(1) joins them.
pub fn joined(paths: &[PathBuf], to: &Path) {
    let names: Vec<&str> = paths.iter().map(|path| path.to_str().expect("a plain name")).collect();
    let to = to.to_str().expect("a plain name");
    run("mergecap", &[&["-a", "-F", "pcapng", "-w", to], &names[..]].concat());
}

/// Kills a broker that records, so many times at moments that `seed` chooses, and starts it again each time: what was visible is whole,
/// what was open is repaired, and the report says what is missing.
pub fn kill_and_repair(kills: usize, seed: u64) {
    let lab = Lab::new();
    let frames = office(&lab);
    let folder = lab.path("store");
    std::fs::create_dir(&folder).expect("a folder of our own");
    let text = |replay: &str| {
        format!(
            "port attach tap replay:in.pcap,speed=max{replay}\n\
             tool create rec capture store rotate 500k keep 1G sync 5ms\n\
             rule create 10 from tap to rec\n"
        )
    };
    lab.write("long.pipe", text(",loop=forever"));
    let mut random = seed;
    for kill in 0..kills {
        let flags = ["run", "long.pipe", "--eal", EAL, "--stats", "stats.json", "--interval", "5ms"];
        let mut started = lab.start(&mut lab.tapline(&flags));
        lab.until("recording", |line| number(line, "tools/rec/sent") > 0);
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        std::thread::sleep(Duration::from_micros((random >> 40) % 50_000));
        started.signal("KILL");
        started.child.wait().expect("a child of this process");
        let parts: Vec<(PathBuf, u64)> = files(&folder)
            .into_iter()
            .filter(|path| {
                path.to_string_lossy().ends_with(".part") && !path.ends_with(".next.pcapng.part")
            })
            .map(|path| (path.clone(), path.metadata().expect("a file").len()))
            .collect();
        assert!(parts.len() <= 1, "{parts:?}");
        // the file of the first start is not read to its end: the second one's is
        let log = lab.account(&text(""), &[]).stderr;
        for (part, len) in &parts {
            let name = part.file_name().expect("a name").to_string_lossy();
            let name = name.trim_start_matches('.').trim_end_matches(".part");
            let line =
                log.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{name}\n{log}"));
            let numbers: Vec<u64> = line
                .split(name)
                .nth(1)
                .expect("the rest")
                .split(|letter: char| !letter.is_ascii_digit())
                .filter_map(|digits| digits.parse().ok())
                .collect();
            match numbers[..] {
                [cut] => assert_eq!((cut, folder.join(name).exists()), (*len, false), "{line}"),
                [packets, kept, cut] => {
                    assert_eq!(
                        (kept + cut, folder.join(name).metadata().expect("a file").len()),
                        (*len, kept)
                    );
                    let said = read(&[folder.join(name)]);
                    assert_eq!(said[0]["interfaces"][0]["packets"].as_u64(), Some(packets), "{line}");
                }
                _ => panic!("{line}"),
            }
        }
        // of each start a prefix: the first one's, of whatever length, and all of the second one's
        let found = segments(&folder);
        read(&found);
        let all = lab.path("all.pcapng");
        joined(&found, &all);
        let recorded = packets(&all);
        let (first, second) = recorded.split_at(recorded.len() - frames.len());
        assert_same("the second run", second, &frames);
        let looped: Vec<Vec<u8>> = frames.iter().cycle().take(first.len()).cloned().collect();
        assert_same(&format!("kill {kill}"), first, &looped);
        for path in found {
            std::fs::remove_file(path).expect("a file of our own");
        }
    }
}
