//! UDP checksums that the port computes: net_tap offers it, and the kernel's side of the tap shows what was sent.
//!
//! Needs root for the tap interface, tcpdump and tshark; says so and is skipped where that is not given.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use tapline_harness::frames::frames;
use tapline_harness::judges::assert_same;
use tapline_harness::lab::Lab;
use tapline_harness::links::ip;
use tapline_harness::pcap_files::{packets, write_frames};
use tapline_harness::programs::has_program;
use tapline_harness::tshark::{assert_sound, fields, innermost_ethernet};

/// A tap interface that tcpdump listens on.
struct Tap {
    name: String,
    tcpdump: Option<Child>,
}

impl Tap {
    fn new(lab: &Lab) -> Option<Self> {
        let name = format!("tlo{}", std::process::id());
        // net_tap asks for queues of its own, which an interface must has_program from the start
        if !std::path::Path::new("/dev/net/tun").exists()
            || !ip(&format!("tuntap add {name} mode tap multi_queue"))
        {
            tapline_skip::skipped("no permission to make tap interfaces");
            return None;
        }
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
        let mut tap = Self { name, tcpdump: None };
        assert!(ip(&format!("link set {} up", tap.name)));
        let mut command = Command::new("tcpdump");
        command
            .args(["-U", "--immediate-mode", "-i", &tap.name, "-Q", "in", "-w"])
            .arg(lab.path("out.pcap"));
        let mut tcpdump =
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("tcpdump runs");
        let mut lines = BufReader::new(tcpdump.stderr.take().expect("a pipe")).lines();
        let is_listening = lines.by_ref().map_while(Result::ok).any(|line| line.contains("listening"));
        tap.tcpdump = Some(tcpdump);
        assert!(is_listening, "tcpdump listens");
        Some(tap)
    }

    /// Waits until tcpdump wrote so many packets, for the half of a minute at most.
    fn heard(&mut self, lab: &Lab, count: usize) -> Vec<Vec<u8>> {
        let begun = std::time::Instant::now();
        loop {
            let heard = packets(&lab.path("out.pcap"));
            if heard.len() >= count || begun.elapsed().as_secs() > 30 {
                return heard;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        if let Some(tcpdump) = &mut self.tcpdump {
            let _ = tcpdump.kill();
            let _ = tcpdump.wait();
        }
        ip(&format!("link delete {}", self.name));
    }
}

#[test]
fn udp_checksums_that_a_port_computes_are_right_and_the_frames_inside_untouched() {
    if !has_program("tshark") || !has_program("tcpdump") || !has_program("ip") {
        return;
    }
    let all = frames();
    for words in ["vxlan vni 7", "geneve vni 7", "vxlan vni 7 slice 60"] {
        let lab = Lab::new();
        let Some(mut tap) = Tap::new(&lab) else { return };
        write_frames(&lab.path("in.pcap"), &all);
        let account = lab.account(
            &format!(
                "port attach in net_pcap0,rx_pcap=in.pcap\n\
                 port attach out net_tap0,iface={}\n\
                 tool create t port out {words} src 2001:db8::1 dst 2001:db8::9 next-hop 02:00:00:00:00:09 mtu 1500\n\
                 rule create 10 from in to t\n",
                tap.name
            ),
            &[],
        );
        assert_eq!(
            account.number("tools/t/sent"),
            all.len() as u64,
            "{words}: {}",
            account.last()["tools"]["t"]
        );
        let heard = tap.heard(&lab, all.len());
        drop(tap);
        let file = lab.path("out.pcap");
        let statuses = fields(&file, &["-d", "udp.port==1,data"], &["udp.checksum.status"]);
        // the outer checksum is the first, and good; those inside that a slice cut cannot be told
        assert!(statuses.iter().all(|row| row[0].starts_with('1')), "{words}: {statuses:?}");
        if !words.contains("slice") {
            assert_sound(&file, &[]);
        }
        let places = innermost_ethernet(&file);
        let inside: Vec<Vec<u8>> =
            heard.iter().zip(places).map(|(bytes, place)| bytes[place..].to_vec()).collect();
        let cut = |frame: &Vec<u8>| {
            frame[..if words.contains("slice") { frame.len().min(60) } else { frame.len() }].to_vec()
        };
        assert_same(words, &inside, &all.iter().map(cut).collect::<Vec<_>>());
    }
}
