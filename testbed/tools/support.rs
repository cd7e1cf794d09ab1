//! Pipelines that are run, and the packets and statistics that they leave.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A folder for one run's files.
pub struct Bench {
    folder: tempfile::TempDir,
}

/// What a run said.
pub struct Run {
    pub stats: Vec<Value>,
    pub log: String,
}

impl Bench {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder is made") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes packets to a capture file.
    pub fn write<'a>(&self, name: &str, packets: impl IntoIterator<Item = &'a [u8]>) {
        let dead = pcap::Capture::dead(pcap::Linktype::ETHERNET).expect("libpcap knows Ethernet");
        let mut file = dead.savefile(self.path(name)).expect("the file is made");
        for bytes in packets {
            let len = bytes.len() as u32;
            let ts = libc::timeval { tv_sec: 1_700_000_000, tv_usec: 0 };
            file.write(&pcap::Packet { header: &pcap::PacketHeader { ts, caplen: len, len }, data: bytes });
        }
    }

    /// The packets of a capture file that a run wrote.
    pub fn read(&self, name: &str) -> Vec<Vec<u8>> {
        read(&self.path(name))
    }

    /// The program with a pipeline of these lines, in which `@` stands for the folder.
    pub fn command(&self, pipeline: &str, arguments: &[&str]) -> Command {
        let folder = self.folder.path().to_str().expect("the folder has a plain name");
        std::fs::write(self.path("test.pipe"), pipeline.replace('@', folder)).expect("the pipeline is written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tapline"));
        command.arg("run").arg(self.path("test.pipe")).arg("--stats").arg(self.path("stats.json")).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs until no packet came for a while, and demands a balanced account.
    pub fn run(&self, pipeline: &str, arguments: &[&str]) -> Run {
        let mut command = self.command(pipeline, &["--exit-idle", "300ms"]);
        self.finish(command.args(arguments).output().expect("the program starts"))
    }

    /// Waits until a run has written statistics with packets received.
    pub fn wait_for_packets(&self) {
        for _ in 0..3000 {
            let text = std::fs::read_to_string(self.path("stats.json")).unwrap_or_default();
            let is_received =
                |line: &str| serde_json::from_str::<Value>(line).is_ok_and(|stats| stats["packets"]["received"].as_u64() > Some(0));
            if text.lines().any(is_received) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// What a run left that has ended well.
    pub fn finish(&self, output: Output) -> Run {
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}\n{log}", String::from_utf8_lossy(&output.stdout));
        let stats = std::fs::read_to_string(self.path("stats.json")).expect("statistics were written");
        let stats = stats.lines().map(|line| serde_json::from_str(line).expect("statistics are JSON")).collect();
        let run = Run { stats, log };
        assert_eq!(run.last()["balanced"], true);
        run
    }
}

impl Run {
    /// The statistics at the end.
    pub fn last(&self) -> &Value {
        self.stats.last().expect("there are statistics")
    }

    /// A number of the statistics at the end, by its path.
    pub fn count(&self, pointer: &str) -> u64 {
        let value = self.last().pointer(pointer).unwrap_or_else(|| panic!("{pointer} in {}", self.last()));
        value.as_u64().unwrap_or_else(|| panic!("{pointer} is {value}"))
    }
}

pub fn read(path: &Path) -> Vec<Vec<u8>> {
    let mut capture = pcap::Capture::from_file(path).expect("the capture opens");
    let mut packets = Vec::new();
    while let Ok(packet) = capture.next_packet() {
        packets.push(packet.data.to_vec());
    }
    packets
}

/// A UDP datagram over IPv4, its checksum left out.
pub fn udp(id: u16, source: [u8; 4], source_port: u16, ttl: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
    let mut ip = [0x45, 0, 0, 46, 0, 0, 0, 0, ttl, 17, 0, 0, 0, 0, 0, 0, 198, 18, 0, 9];
    ip[4..6].copy_from_slice(&id.to_be_bytes());
    ip[12..16].copy_from_slice(&source);
    let sum = ip.chunks(2).fold(0u32, |sum, pair| sum + u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    frame.extend(ip);
    frame.extend(source_port.to_be_bytes());
    frame.extend([0, 53, 0, 26, 0, 0]);
    frame.extend([0x5a; 18]);
    frame
}
