//! Runs the binary on a pipeline in a folder of its own, and reads what it says at the end.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

pub struct Broker {
    dir: tempfile::TempDir,
}

/// `count` UDP packets of `len` bytes from port 1000 on; destination ports take turns.
pub fn packets(count: usize, len: usize, ports: &[u16]) -> Vec<Vec<u8>> {
    let packet = |index: usize| {
        let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
        let ip_len = (len - 14) as u16;
        bytes.extend([0x45, 0, (ip_len >> 8) as u8, ip_len as u8, 0, 0, 0, 0, 64, 17, 0, 0, 198, 18, 0, 1, 198, 18, 0, 2]);
        bytes.extend((1000 + (index % 50) as u16).to_be_bytes());
        bytes.extend(ports[index % ports.len()].to_be_bytes());
        bytes.extend((ip_len - 20).to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend((index as u32).to_be_bytes());
        bytes.resize(len, 0xa5);
        bytes
    };
    (0..count).map(packet).collect()
}

/// A pcap file: microseconds, Ethernet.
pub fn pcap_bytes(packets: &[Vec<u8>]) -> Vec<u8> {
    let words = [0xa1b2_c3d4u32, 2 | 4 << 16, 0, 0, 65535, 1];
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    for (index, packet) in packets.iter().enumerate() {
        let len = packet.len() as u32;
        bytes.extend([index as u32 / 1_000_000, index as u32 % 1_000_000, len, len].iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend(packet);
    }
    bytes
}

pub fn u64_of(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("a number expected, got {value}"))
}

impl Broker {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a folder") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn pcap(&self, name: &str, packets: &[Vec<u8>]) {
        std::fs::write(self.path(name), pcap_bytes(packets)).expect("the folder can be written");
    }

    /// Lengths of the packets in a pcap file.
    fn lens(&self, name: &str) -> Vec<usize> {
        let bytes = std::fs::read(self.path(name)).expect("the file was written");
        let mut rest = &bytes[24..];
        let mut lens = Vec::new();
        while let Some(len) = rest.get(8..12) {
            let len = u32::from_le_bytes(len.try_into().expect("4 bytes")) as usize;
            lens.push(len);
            rest = &rest[16 + len..];
        }
        lens
    }

    pub fn count(&self, name: &str) -> usize {
        self.lens(name).len()
    }

    /// The packets' bytes one after another, without times.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let bytes = std::fs::read(self.path(name)).expect("the file was written");
        let mut at = 24;
        let mut packets = Vec::new();
        for len in self.lens(name) {
            packets.extend(&bytes[at + 16..at + 16 + len]);
            at += 16 + len;
        }
        packets
    }

    pub fn command(&self, pipeline: &str, args: &[&str]) -> Command {
        std::fs::write(self.path("test.pipe"), pipeline).expect("the folder can be written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tapline"));
        command.arg("run").arg(self.path("test.pipe")).arg("--set").arg(format!("DIR={}", self.dir.path().display()));
        command.arg("--stats").arg(self.path("stats.json")).args(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null());
        command
    }

    /// Runs until no packet came for a while; the last line of statistics, in which both identities hold.
    pub fn run(&self, pipeline: &str) -> Value {
        self.run_with(pipeline, &["--exit-idle", "400ms"]).0
    }

    pub fn run_with(&self, pipeline: &str, args: &[&str]) -> (Value, Output) {
        let output = self.command(pipeline, args).output().expect("the binary runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}\n{text}", output.status);
        let last = self.last();
        check_identities(&last);
        (last, output)
    }

    /// Every line of statistics so far.
    pub fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("stats.json")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    pub fn last(&self) -> Value {
        self.lines().pop().expect("statistics were written")
    }
}

pub fn check_identities(last: &Value) {
    let packets = &last["packets"];
    let ends = ["delivered", "unmatched", "excluded", "sampled_out", "duplicate", "failed"];
    assert_eq!(u64_of(&packets["received"]), ends.iter().map(|end| u64_of(&packets[*end])).sum::<u64>(), "{packets}");
    let all = std::iter::once(&last["copies"]).chain(last["tools"].as_object().expect("tools").values());
    for copies in all {
        let dropped: u64 = copies["dropped"].as_object().expect("reasons").values().map(u64_of).sum();
        assert_eq!(u64_of(&copies["requested"]), u64_of(&copies["sent"]) + dropped, "{copies}");
    }
    for way in last["wires"].as_object().expect("wires").values().flat_map(|wire| [&wire["a_to_b"], &wire["b_to_a"]]) {
        let dropped: u64 = way["dropped"].as_object().expect("reasons").values().map(u64_of).sum();
        assert_eq!(u64_of(&way["received"]), u64_of(&way["forwarded"]) + dropped, "{way}");
    }
    assert_eq!(last["balanced"], true);
}
