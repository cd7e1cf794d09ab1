//! A capture -> packets, each with the port that it is taken to have come by.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use thiserror::Error;

use super::Packet;
use crate::plan::Plan;
use crate::plan::value::PortPlan;
use tapline_capture::{LinkType, Reader, to_ethernet};
use tapline_datapath::ids::PortId;
use tapline_packet::frame::Frame;

/// The reason why packets cannot be had.
#[derive(Error, Debug)]
pub enum CaptureError {
    /// It is not said which port they come by.
    #[error("{0}")]
    Port(String),
    /// The capture cannot be read, or not to its end.
    #[error("{0}")]
    Read(String),
}

/// The ports that packets come by.
enum Way {
    One(PortId),
    /// Each packet has the port that its interface is named after.
    ByName(HashMap<String, PortId>),
}

/// A capture that is read as if its packets came by ports of a plan.
pub struct Capture {
    path: String,
    reader: Reader,
    way: Way,
    numbered: u64,
}

/// Some packets of a capture, in their order.
#[derive(Default)]
pub struct Batch<'a> {
    taken: Vec<Taken<'a>>,
    /// Numbers of packets that no Ethernet frames are made of.
    pub passed_over: Vec<u64>,
}

struct Taken<'a> {
    number: u64,
    time_ns: u64,
    port: PortId,
    bytes: Cow<'a, [u8]>,
    original_len: u32,
}

impl Batch<'_> {
    /// Gives the packets, those that follow each other and came by one port together.
    pub fn runs(&self) -> impl Iterator<Item = (PortId, Vec<Packet<'_>>)> {
        self.taken.chunk_by(|one, other| one.port == other.port).map(|run| {
            let packet = |taken: &'_ Taken<'_>| (taken.number, taken.time_ns, taken.original_len);
            let packets = run.iter().map(|taken| {
                let (number, time_ns, original_len) = packet(taken);
                Packet { number, time_ns, frame: Frame::new(&taken.bytes, original_len) }
            });
            (run[0].port, packets.collect())
        })
    }

    /// Gives the time of the first packet.
    pub fn first_ns(&self) -> Option<u64> {
        self.taken.first().map(|taken| taken.time_ns)
    }
}

/// Returns whether packets come by a port: it polls a queue, and is no file that is only written.
fn receives(port: &PortPlan) -> bool {
    let writes = ["tx_pcap", "tx_iface"].iter().any(|name| port.devargs.argument(name).is_some());
    let reads = ["rx_pcap", "rx_iface", "rx_iface_in", "iface"];
    let reads = reads.iter().any(|name| port.devargs.argument(name).is_some());
    port.rxq != Some(0) && (reads || !writes)
}

/// Gives the ports that packets come by, and that rules take from or a wire has for a side.
fn inputs(plan: &Plan) -> Vec<PortId> {
    let is_input = |(_, port): &(PortId, &PortPlan)| {
        receives(port) && (port.uses.is_taken_from || port.uses.wire.is_some())
    };
    plan.ports.entries().filter(is_input).map(|(id, _)| id).collect()
}

fn names(plan: &Plan, ports: &[PortId]) -> String {
    ports.iter().map(|&port| plan.ports[port].name.as_str()).collect::<Vec<_>>().join(", ")
}

impl Capture {
    /// Opens a capture, `-` for standard input. Its packets come by the port `from`; else by the plan's only input; else by those that the
    /// capture's interfaces are named after.
    ///
    /// # Errors
    /// There is no such port, or the file is no capture.
    pub fn open(path: &Path, plan: &Plan, from: Option<&str>) -> Result<Self, CaptureError> {
        let all = inputs(plan);
        let way = match (from, &all[..]) {
            (Some(name), _) => {
                let port = plan.ports.entries().find(|(_, port)| port.name == name);
                let known: Vec<PortId> =
                    if all.is_empty() { plan.ports.ids().collect() } else { all.clone() };
                let unknown =
                    || format!("--from {name}: there is no such port; there are {}", names(plan, &known));
                Way::One(port.map(|(id, _)| id).ok_or_else(|| CaptureError::Port(unknown()))?)
            }
            (None, []) => {
                return Err(CaptureError::Port(
                    "no rule takes packets from a port that receives".to_owned(),
                ));
            }
            (None, [only]) => Way::One(*only),
            (None, all) => Way::ByName(all.iter().map(|&id| (plan.ports[id].name.clone(), id)).collect()),
        };
        let shown =
            if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
        let file = match path == Path::new("-") {
            true => io::stdin().as_fd().try_clone_to_owned().map(File::from),
            false => File::open(path),
        };
        let file = file.map_err(|error| CaptureError::Read(format!("{shown}: {error}")))?;
        let reader = Reader::decompressing(Box::new(file));
        let reader = reader.map_err(|error| CaptureError::Read(format!("{shown}: {error}")))?;
        Ok(Self { path: shown, reader, way, numbered: 0 })
    }

    /// Reads the next packets; `None` at the end.
    ///
    /// # Errors
    /// The capture is damaged from here on, or an interface is named after no port.
    pub fn next_batch(&mut self, plan: &Plan) -> Result<Option<Batch<'_>>, CaptureError> {
        let Self { path, reader, way, numbered } = self;
        let burst = reader.next_burst().map_err(|error| CaptureError::Read(format!("{path}: {error}")))?;
        let Some(burst) = burst else { return Ok(None) };
        let mut batch = Batch::default();
        for record in burst.iter() {
            *numbered += 1;
            let interface = &burst.interfaces()[record.interface.0 as usize];
            let port = match way {
                Way::One(port) => *port,
                Way::ByName(ports) => {
                    let port = interface.name.as_ref().and_then(|name| ports.get(name));
                    *port.ok_or_else(|| {
                        CaptureError::Port(unnamed(path, *numbered, &interface.name, plan, ports))
                    })?
                }
            };
            let (number, time_ns) = (*numbered, record.time_ns);
            if interface.link_type == LinkType::ETHERNET {
                let (bytes, original_len) = (Cow::Borrowed(record.bytes), record.original_len);
                batch.taken.push(Taken { number, time_ns, port, bytes, original_len });
            } else if let Some(frame) = to_ethernet(interface.link_type, record.bytes, record.original_len)
            {
                let bytes = Cow::Owned([&frame.header()[..], frame.payload()].concat());
                batch.taken.push(Taken {
                    number,
                    time_ns,
                    port,
                    bytes,
                    original_len: frame.original_len(),
                });
            } else {
                batch.passed_over.push(number);
            }
        }
        Ok(Some(batch))
    }
}

/// Says that an interface is named after no port.
fn unnamed(
    path: &str,
    number: u64,
    name: &Option<String>,
    plan: &Plan,
    ports: &HashMap<String, PortId>,
) -> String {
    let mut all: Vec<PortId> = ports.values().copied().collect();
    all.sort_unstable_by_key(|port| port.0);
    let interface = match name {
        Some(name) => format!("interface `{name}`, which is no port that packets come by"),
        None => "an interface without a name".to_owned(),
    };
    format!(
        "{path}: packet {number} is of {interface}; say by --from PORT where packets come from: {}",
        names(plan, &all)
    )
}
