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

/// A port of a plan, and of the plan that it is compared with; `None` where that plan has no such port.
pub type Ports = [Option<PortId>; 2];

/// The ports that packets come by.
enum Way {
    One(Ports),
    /// Each packet has the port that its interface is named after. `known` lists the names.
    ByName {
        ports: HashMap<String, Ports>,
        known: String,
    },
}

/// A capture that is read as if its packets came by ports of a plan, or of two.
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
    ports: Ports,
    bytes: Cow<'a, [u8]>,
    original_len: u32,
}

impl Batch<'_> {
    /// Gives the packets, those that follow each other and came by one port together.
    pub fn runs(&self) -> impl Iterator<Item = (PortId, Vec<Packet<'_>>)> {
        self.runs_of_both().filter_map(|([port, _], packets)| Some((port?, packets)))
    }

    /// As [`runs`](Self::runs), with the ports of both plans.
    pub fn runs_of_both(&self) -> impl Iterator<Item = (Ports, Vec<Packet<'_>>)> {
        self.taken.chunk_by(|one, other| one.ports == other.ports).map(|run| {
            let packet = |taken: &'_ Taken<'_>| (taken.number, taken.time_ns, taken.original_len);
            let packets = run.iter().map(|taken| {
                let (number, time_ns, original_len) = packet(taken);
                Packet { number, time_ns, frame: Frame::new(&taken.bytes, original_len) }
            });
            (run[0].ports, packets.collect())
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

/// Gives the port of this name, in a plan that receives by it or has it at all.
fn port_named(plan: &Plan, name: &str) -> Option<PortId> {
    plan.ports.entries().find(|(_, port)| port.name == name).map(|(id, _)| id)
}

/// Finds the ports that packets come by in each of `plans`: those named `from`; else those named as the only input of a plan; where the
/// other plan has none of that name, its own only input; else those that interfaces are named after.
fn way(plans: &[&Plan], from: Option<&str>) -> Result<Way, CaptureError> {
    let both = |find: &dyn Fn(&Plan) -> Option<PortId>| -> Ports {
        std::array::from_fn(|at| plans.get(at).and_then(|plan| find(plan)))
    };
    let named = |name: &str| both(&|plan| port_named(plan, name));
    let all: Vec<Vec<PortId>> = plans.iter().map(|plan| inputs(plan)).collect();
    // in the order of the first plan, then what only the second one has
    let names_of = |ports: &dyn Fn(usize) -> Vec<PortId>| {
        let mut names: Vec<String> = Vec::new();
        for (at, plan) in plans.iter().enumerate() {
            let its = ports(at).into_iter().map(|port| plan.ports[port].name.clone());
            names.extend(its.filter(|name| !names.contains(name)).collect::<Vec<String>>());
        }
        names
    };
    let inputs = names_of(&|at| all[at].clone());
    if let Some(name) = from {
        let ports = named(name);
        if ports == [None; 2] {
            let known = match inputs.is_empty() {
                true => names_of(&|at| plans[at].ports.ids().collect()),
                false => inputs,
            };
            let known = known.join(", ");
            return Err(CaptureError::Port(format!(
                "--from {name}: there is no such port; there are {known}"
            )));
        }
        return Ok(Way::One(ports));
    }
    if inputs.is_empty() {
        return Err(CaptureError::Port("no rule takes packets from a port that receives".to_owned()));
    }
    let only = |at: usize| match all.get(at).map(Vec::as_slice) {
        Some([only]) => Some(*only),
        _ => None,
    };
    let name_of = |at: usize| only(at).map(|port| plans[at].ports[port].name.as_str());
    if let Some(ports) = (0..plans.len()).find_map(&name_of).map(named) {
        let is_renamed = ports.iter().zip(plans).any(|(port, _)| port.is_none());
        let each = std::array::from_fn(only);
        let has_each = each.iter().zip(plans).all(|(port, _)| port.is_some());
        return Ok(Way::One(if is_renamed && has_each { each } else { ports }));
    }
    let ports = inputs.iter().map(|name| (name.clone(), named(name))).collect();
    Ok(Way::ByName { ports, known: inputs.join(", ") })
}

impl Capture {
    /// Opens a capture, `-` for standard input. Its packets come by the port `from`; else by the plan's only input; else by those that the
    /// capture's interfaces are named after.
    ///
    /// # Errors
    /// There is no such port, or the file is no capture.
    pub fn open(path: &Path, plan: &Plan, from: Option<&str>) -> Result<Self, CaptureError> {
        Self::open_by(path, way(&[plan], from)?)
    }

    /// Opens a capture for two plans. Its packets come by the ports `from`; else by those that are named as the only input of a plan, or by
    /// the only input of each; else by those that the capture's interfaces are named after.
    ///
    /// # Errors
    /// There is no such port, or the file is no capture.
    pub fn open_for_both(path: &Path, plans: [&Plan; 2], from: Option<&str>) -> Result<Self, CaptureError> {
        Self::open_by(path, way(&plans, from)?)
    }

    fn open_by(path: &Path, way: Way) -> Result<Self, CaptureError> {
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
    pub fn next_batch(&mut self) -> Result<Option<Batch<'_>>, CaptureError> {
        let Self { path, reader, way, numbered } = self;
        let burst = reader.next_burst().map_err(|error| CaptureError::Read(format!("{path}: {error}")))?;
        let Some(burst) = burst else { return Ok(None) };
        let mut batch = Batch::default();
        for record in burst.iter() {
            *numbered += 1;
            let interface = &burst.interfaces()[record.interface.0 as usize];
            let ports = match way {
                Way::One(ports) => *ports,
                Way::ByName { ports, known } => {
                    let ports = interface.name.as_ref().and_then(|name| ports.get(name));
                    *ports.ok_or_else(|| {
                        CaptureError::Port(unnamed(path, *numbered, &interface.name, known))
                    })?
                }
            };
            let (number, time_ns) = (*numbered, record.time_ns);
            if interface.link_type == LinkType::ETHERNET {
                let (bytes, original_len) = (Cow::Borrowed(record.bytes), record.original_len);
                batch.taken.push(Taken { number, time_ns, ports, bytes, original_len });
            } else if let Some(frame) = to_ethernet(interface.link_type, record.bytes, record.original_len)
            {
                let bytes = Cow::Owned([&frame.header()[..], frame.payload()].concat());
                batch.taken.push(Taken {
                    number,
                    time_ns,
                    ports,
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

/// Says that an interface is named after no port of those that are `known`.
fn unnamed(path: &str, number: u64, name: &Option<String>, known: &str) -> String {
    let interface = match name {
        Some(name) => format!("interface `{name}`, which is no port that packets come by"),
        None => "an interface without a name".to_owned(),
    };
    format!(
        "{path}: packet {number} is of {interface}; say by --from PORT where packets come from: {known}"
    )
}
