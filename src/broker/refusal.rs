//! Why a plan is not run, or a command not obeyed: one variant a reason, with its fields, so that what asks can tell reasons apart.

use std::fmt;
use std::io;
use std::path::PathBuf;

use tapline_kernel::limits::Available;
use tapline_lang::suggest::nearest;

/// Why a plan is not run, or a command not obeyed. Each text says the place, the fact and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The kernel gives Tapline no CPU.
    #[error("lcore 0: this machine gives Tapline the CPUs none: expected some of those")]
    NoCpu,
    /// The tables that rules remember packets in, `flows_mib` of them those of flows, do not fit the machine's memory.
    #[error(
        "what rules remember takes {mib} MiB of memory, {flows_mib} of them for flows, with {available}; \
         lower `set flows`, or `memory` of dedup"
    )]
    TablesTooLarge { mib: u64, flows_mib: u64, available: Available },
    /// The mempools do not fit the machine's memory.
    #[error("mempools: {mib} MiB of memory needed, {available}; lower `set mempool`, or the tools' queues")]
    MempoolsTooLarge { mib: u32, available: Available },
    /// A file of the kernel is not where EAL reads it, because `folder`, of the file system `kind`, is not mounted.
    #[error("{folder} is not there: EAL reads {file}; mount it: mount -t {kind} {kind} {folder}")]
    NotMounted { folder: &'static str, file: &'static str, kind: &'static str },
    /// The process may have `allowed` files open, which are fewer than EAL and its lcores need.
    #[error(
        "open files: {allowed} are allowed, and DPDK needs {needed} (workers: {workers}); allow more: ulimit -n {}",
        (2 * needed).next_power_of_two().max(1024)
    )]
    TooFewFiles { allowed: u64, needed: u64, workers: usize },
    /// The mempool of a replay or an interface has fewer mbufs than the workers' caches take.
    #[error(
        "port {port}: mempool of {mbufs} mbufs is too small: the caches of {workers} workers need {least}; raise `set mempool`"
    )]
    OwnPoolTooSmall { port: String, mbufs: u32, workers: usize, least: u32 },
    /// The mempool of a port has fewer mbufs than its receive queues, what waits and the workers' caches take.
    #[error(
        "port {port}: mempool of {mbufs} mbufs is too small: {rx_queues} receive queues of {rx_descriptors} descriptors{kept} and the \
         caches of {workers} workers need {least}; raise `set mempool`, or lower rxd"
    )]
    PortPoolTooSmall {
        port: String,
        mbufs: u32,
        rx_queues: u16,
        rx_descriptors: u16,
        kept: KeptPackets,
        workers: usize,
        least: u32,
    },
    /// A replay's capture cannot be read.
    #[error("port {port}: {path}: {reason}")]
    Replay { port: String, path: String, reason: String },
    /// An interface of the kernel cannot be opened; `others` are those that there are, where it is missing.
    #[error("port {port}: interface {interface}: {trouble}{}", instead(.interface, .others))]
    Interface { port: String, interface: String, trouble: Trouble, others: Vec<String> },
    /// A tool sends on a port whose driver has no transmit queue.
    #[error("port {port}: a tool sends on this port, which has no transmit queue; use txq 1")]
    NoTransmitQueue { port: String },
    /// The packets that wait for tools do not fit the mempool that a port got at the start.
    #[error(
        "port {port}: its mempool has room for {room} packets that wait for tools, and this plan may have {needed} of them wait; say a \
         shorter `queue` of the tools, or quit and run the plan anew"
    )]
    NoRoomToWait { port: String, room: u32, needed: u32 },
    /// Copies that are not the packets themselves do not fit the mempool that they got before.
    #[error(
        "the mempool of copies that are edited or tunnelled has {mbufs} mbufs, and this plan needs {needed}; say a shorter `queue` of the \
         tools, or quit and run the plan anew"
    )]
    CopyPoolTooSmall { mbufs: u32, needed: u32 },
    /// A change of what is settled when the program starts.
    #[error(
        "{what}, which needs a restart: it is settled when the program starts; quit, change the file and run it"
    )]
    NeedsRestart { what: String },
    /// A change for which a port has to be taken down and set up again.
    #[error(
        "{what}, for which port {port} has to be taken down and set up again; if its packets may be missed meanwhile, say the word \
         `interrupt`: `port config {port} ... interrupt`, or `reload FILE interrupt`"
    )]
    InterruptsPort { what: String, port: String },
    /// The run was started without room for changes.
    #[error(
        "only rules and filters can be changed: the run was started without `-i` or `--control`; quit, change the file and run it"
    )]
    NotChangeable,
    /// The driver of a port opens a pipe, and whoever opens a pipe waits for its other end.
    #[error(
        "port {port}: `{path}` is a pipe, whose other end would be waited for while packets flow; attach the port in the file that is run"
    )]
    WaitsForPipe { port: String, path: String },
    /// A port names the device of one that runs, or has left and is not gone yet.
    #[error(
        "port {port}: its device `{device}` is that of port {other}, which runs; detach that one in a change of its own"
    )]
    DeviceInUse { port: String, device: String, other: String },
    /// A file that is written would be begun anew, and what it holds would be lost.
    #[error(
        "{owner}: it would begin `{path}` anew, which {other} of the running plan writes; name another file, or destroy that one in a \
         change of its own"
    )]
    FileInUse { owner: String, path: String, other: String },
    /// A port names a device that its bus could not take out of DPDK.
    #[error(
        "port {port}: its device `{device}` was that of port {other}, and is closed: it could not be taken out of DPDK ({error}); attach \
         another device, or quit and run the plan anew"
    )]
    DeviceKept { port: String, device: String, other: String, error: String },
    /// The lcores that are to send on a port are others than those that have its transmit queues.
    #[error(
        "port {port}: other lcores have its transmit queues than those that are to send on it; detach the port, and attach it again \
         in a further change"
    )]
    TransmitQueueTaken { port: String },
    /// A file that a port or a tool, `owner`, writes cannot be had.
    #[error("{owner}: {}: {error}", path.display())]
    Output { owner: String, path: PathBuf, error: io::Error },
    /// The thread that writes a capture tool's file cannot be started.
    #[error("tool {tool}: its writer cannot be started: {error}; raise the limit of threads (ulimit -u)")]
    NoWriter { tool: String, error: io::Error },
    /// A rule needs of a port what the port did not get at the start.
    #[error("rule {rule} takes from port `{port}`, which {lack}; quit, change the file and run it")]
    PortLacks { rule: u32, port: String, lack: Lack },
    /// A rule hashes what tunnels carry, and packets were spread by the tunnels themselves at the start.
    #[error(
        "a rule hashes what tunnels carry, and the receive lcores spread packets by the tunnels; quit, change the file and run it"
    )]
    SpreadTooShallow,
    /// A command names a tool that the plan does not have.
    #[error("unknown tool `{0}`")]
    UnknownTool(String),
}

/// Why an interface of the kernel cannot be opened.
#[derive(Debug)]
pub enum Trouble {
    /// There is none of this name in the network namespace.
    Missing,
    /// The kernel wants a right that the process does not have.
    NoRights,
    /// The process may not switch offloads off.
    NoAdmin,
    /// The NIC does not stamp every packet that it receives, or may not be told to.
    NoNicTimes(io::Error),
    /// The kernel refused a call.
    Refused { call: &'static str, error: io::Error },
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Missing => f.write_str("there is none of this name here"),
            Trouble::NoRights => f.write_str(
                "packet sockets need the capability CAP_NET_RAW; run as root, or give it to the program: setcap cap_net_raw+ep tapline",
            ),
            Trouble::NoAdmin => f.write_str(
                "switching offloads off needs the capability CAP_NET_ADMIN; say offloads=keep, and switch them off by ethtool",
            ),
            Trouble::NoNicTimes(error) => write!(
                f,
                "the NIC does not stamp every packet ({error}); see `ethtool -T`; telling it to needs CAP_NET_ADMIN; use time=kernel"
            ),
            Trouble::Refused { call, error } if error.raw_os_error() == Some(libc::ENOMEM) => {
                write!(f, "{call}: {error}; use a smaller buffer=SIZE, or fewer queues")
            }
            Trouble::Refused { call, error } => write!(f, "{call}: {error}"),
        }
    }
}

/// Gives the words for the interface that was most likely meant by a name that there is not, out of `others`.
fn instead(interface: &str, others: &[String]) -> String {
    let known = || others.iter().map(String::as_str);
    match nearest(interface, known()) {
        _ if others.is_empty() => String::new(),
        Some(near) => format!("; did you mean {near}?"),
        None => format!("; there are {}", known().collect::<Vec<_>>().join(", ")),
    }
}

/// Packets that stay in a port's mempool beside those in its receive queues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeptPackets {
    None,
    /// Those that net_pcap keeps for `infinite_rx`.
    InfiniteRx,
    /// Those that wait for tools while the wire goes on.
    BehindWire,
}

impl fmt::Display for KeptPackets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeptPackets::None => "",
            KeptPackets::InfiniteRx => ", the packets that infinite_rx keeps,",
            KeptPackets::BehindWire => ", what may wait for tools while the wire goes on,",
        })
    }
}

/// A thing that a port did not get at the start, because no rule needed it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lack {
    /// Mbufs for packets that wait for tools.
    Mbufs,
    /// The packets' receive times.
    Stamps,
    /// A replay that keeps in step with others.
    Step,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lack::Mbufs => {
                "was started without mbufs for packets that wait for tools, since no rule took from it"
            }
            Lack::Stamps => "was started without receive times, which a tool asks for",
            Lack::Step => "is replayed without regard to the tool that puts packets in order",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_say_place_fact_and_remedy() {
        let too_small = |kept| Refusal::PortPoolTooSmall {
            port: "a".to_owned(),
            mbufs: 500,
            rx_queues: 2,
            rx_descriptors: 1024,
            kept,
            workers: 3,
            least: 2816,
        };
        let text = |kept: &str| {
            format!(
                "port a: mempool of 500 mbufs is too small: 2 receive queues of 1024 descriptors{kept} and the caches of 3 workers \
                 need 2816; raise `set mempool`, or lower rxd"
            )
        };
        for (kept, said) in [
            (KeptPackets::None, ""),
            (KeptPackets::InfiniteRx, ", the packets that infinite_rx keeps,"),
            (KeptPackets::BehindWire, ", what may wait for tools while the wire goes on,"),
        ] {
            assert_eq!(too_small(kept).to_string(), text(said));
        }
        assert_eq!(
            Refusal::TooFewFiles { allowed: 3, needed: 620, workers: 4 }.to_string(),
            "open files: 3 are allowed, and DPDK needs 620 (workers: 4); allow more: ulimit -n 2048"
        );
        assert_eq!(
            Refusal::NotMounted { folder: "/sys", file: "/sys/devices/system/cpu", kind: "sysfs" }
                .to_string(),
            "/sys is not there: EAL reads /sys/devices/system/cpu; mount it: mount -t sysfs sysfs /sys"
        );
        let missing = |others: &[&str]| {
            let others = others.iter().map(|&name| name.to_owned()).collect();
            let (port, interface) = ("a".to_owned(), "eht0".to_owned());
            Refusal::Interface { port, interface, trouble: Trouble::Missing, others }.to_string()
        };
        let fact = "port a: interface eht0: there is none of this name here";
        assert_eq!(missing(&["lo", "eth0"]), format!("{fact}; did you mean eth0?"));
        assert_eq!(missing(&["lo", "wlp0s20f3"]), format!("{fact}; there are lo, wlp0s20f3"));
        assert_eq!(missing(&[]), fact);
        assert_eq!(
            Refusal::PortLacks { rule: 7, port: "in".to_owned(), lack: Lack::Stamps }.to_string(),
            "rule 7 takes from port `in`, which was started without receive times, which a tool asks for; quit, change the file and run it"
        );
    }
}
