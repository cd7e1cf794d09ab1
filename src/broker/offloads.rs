//! Offloads that change the frames of an interface before Tapline receives them: told with the line that switches them off, or
//! switched off for as long as the port is there.
//! # Source
//! ethtool(8), `-K`.

use std::io;

use crate::plan::value::IfacePlan;
use tapline_api::event::Event;
use tapline_kernel::ethtool::{FarEnd, Offload, far_end};
use tapline_kernel::interface::{Index, hardware_type};

/// `ARPHRD_LOOPBACK` of linux/if_arp.h.
const LOOPBACK: u16 = 772;

/// Offloads that were switched off, and are switched on again when this value goes.
#[derive(Default)]
pub(super) struct Ended(Vec<(Index, Offload)>);

impl Drop for Ended {
    fn drop(&mut self) {
        for (interface, offload) in &self.0 {
            // one that is gone needs nothing
            let _ = offload.set(*interface, true);
        }
    }
}

/// An interface that changes frames, with what it does.
pub struct Changing {
    interface: Index,
    pub name: String,
    /// It is the far end of the port's.
    pub is_far_end: bool,
    pub offloads: Vec<Offload>,
}

/// All that changes the frames of an interface before they are received.
pub struct Changes {
    pub changing: Vec<Changing>,
    /// The far end is in another network namespace.
    pub is_far_end_unseen: bool,
}

/// Looks for what changes frames before they are received by an interface, those that this machine sends counted if they are received, too.
pub fn changes(interface: Index, name: &str, takes_outgoing: bool) -> Changes {
    let mut changing = Vec::new();
    if hardware_type(name) == Some(LOOPBACK) {
        // that it leaves checksums out cannot be changed: there is no wire
        changing.extend(Changing::of(interface, false, &[Offload::Tso, Offload::Gso]));
    } else {
        let of_sender = if takes_outgoing { &Offload::OF_SENDER[..] } else { &[] };
        changing.extend(Changing::of(interface, false, &[&Offload::OF_RECEIVER[..], of_sender].concat()));
    }
    let far = far_end(interface);
    if let Some(FarEnd::Here(far)) = far {
        changing.extend(Changing::of(far, true, &Offload::OF_SENDER));
    }
    Changes { changing, is_far_end_unseen: far == Some(FarEnd::Elsewhere) }
}

impl Changing {
    fn of(interface: Index, is_far_end: bool, offloads: &[Offload]) -> Option<Self> {
        let offloads: Vec<Offload> =
            offloads.iter().copied().filter(|offload| offload.is_on(interface)).collect();
        (!offloads.is_empty()).then(|| Self {
            interface,
            name: interface.name().unwrap_or_default(),
            is_far_end,
            offloads,
        })
    }

    /// Says what it does to frames of the port's interface.
    fn warning(self, port: &str, iface: &IfacePlan) -> Event {
        Event::OffloadsOn {
            port: port.to_owned(),
            interface: self.name,
            far_end_of: self.is_far_end.then(|| iface.interface.clone()),
            offloads: self.offloads.iter().map(|offload| offload.word().to_owned()).collect(),
        }
    }
}

/// Looks for what changes frames of a port's interface, and switches it off where the plan says so. Gives warnings of what stays.
///
/// # Errors
/// If this process may not switch it off.
pub(super) fn look(port: &str, interface: Index, iface: &IfacePlan) -> io::Result<(Ended, Vec<Event>)> {
    let Changes { changing, is_far_end_unseen } =
        changes(interface, &iface.interface, iface.takes_outgoing);
    let mut warnings = Vec::new();
    if is_far_end_unseen {
        let interface = iface.interface.clone();
        warnings.push(Event::FarEndUnseen { port: port.to_owned(), interface });
    }
    let mut ended = Ended::default();
    for mut changing in changing {
        if iface.ends_offloads {
            for offload in std::mem::take(&mut changing.offloads) {
                match offload.set(changing.interface, false) {
                    Ok(()) => ended.0.push((changing.interface, offload)),
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
                    Err(_) => changing.offloads.push(offload),
                }
            }
        }
        if !changing.offloads.is_empty() {
            warnings.push(changing.warning(port, iface));
        }
    }
    Ok((ended, warnings))
}
