//! Loss before Tapline receives a packet: how much, why, and what mends it.

use tapline_api::snapshot::PortEntry;
use tapline_dpdk::driver::Driver;

/// Why a port lost packets, or has less of them than was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// No descriptor, or place in a ring, was free.
    Missed,
    /// No mbuf was free.
    NoMbuf,
    /// They were broken on the wire, or refused by the NIC.
    Errors,
    /// They were received, and lack what the driver cut.
    Cut,
}

impl Cause {
    /// The causes, those by which packets are lost first.
    pub const ALL: [Cause; 4] = [Cause::Missed, Cause::NoMbuf, Cause::Errors, Cause::Cut];

    /// Returns the word that statistics have for it.
    pub const fn word(self) -> &'static str {
        match self {
            Cause::Missed => "missed",
            Cause::NoMbuf => "no_mbuf",
            Cause::Errors => "rx_errors",
            Cause::Cut => "cut",
        }
    }

    /// Returns how many packets of a port it concerns.
    pub fn count(self, port: &PortEntry) -> u64 {
        match self {
            Cause::Missed => port.driver.missed,
            // a replay's packets wait for mbufs, and none is lost
            Cause::NoMbuf if port.replay.is_some() => 0,
            Cause::NoMbuf => port.driver.no_mbuf,
            Cause::Errors => port.driver.rx_errors,
            Cause::Cut => port.cut.unwrap_or(0),
        }
    }

    /// Returns the cause by which most packets were lost since `before`, or ever.
    pub fn of(port: &PortEntry, before: Option<&PortEntry>) -> Self {
        let lately = |cause: &Cause| {
            let count = cause.count(port);
            (count.saturating_sub(before.map_or(0, |before| cause.count(before))), count)
        };
        [Cause::Errors, Cause::NoMbuf, Cause::Missed]
            .into_iter()
            .max_by_key(lately)
            .unwrap_or(Cause::Missed)
    }
}

/// Says what mends a loss at a port of a driver; `None` is a NIC's.
pub fn remedy(cause: Cause, driver: Option<&Driver>) -> String {
    let text = match (cause, driver) {
        (Cause::Missed, Some(Driver { more_room: Some(argument), .. })) => {
            return format!(
                "its ring was full: say a larger `{argument}` of the device, or share its packets out among more workers (`set workers`)"
            );
        }
        (Cause::Missed, Some(Driver { interfaces: [_, ..], .. })) => {
            "its ring was full: attach the interface as `iface:`, or share its packets out among more workers (`set workers`)"
        }
        (Cause::Missed, _) => {
            "its ring was full: raise `rxd`, or say more receive queues and workers (`rxq`, `set workers`)"
        }
        (Cause::NoMbuf, _) => "no mbuf was free: raise `set mempool`, or look which tool holds its copies",
        (Cause::Errors, _) => {
            "they came broken, or are longer than the port takes: look at the cable, the far end and `mtu`"
        }
        (Cause::Cut, _) => {
            "the driver cuts frames that are longer than its slots: attach the interface as `iface:`, or lower its MTU"
        }
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_goes_by_what_the_driver_has() {
        for (driver, words) in [
            (Some("iface"), "a larger `buffer`"),
            (Some("net_af_packet"), "a larger `framecnt`"),
            (Some("net_pcap"), "as `iface:`"),
            (Some("net_ring"), "raise `rxd`"),
            (None, "raise `rxd`"),
        ] {
            let known = driver.map(|name| Driver::named(name).expect("a row of the table"));
            assert!(remedy(Cause::Missed, known).contains(words), "{driver:?}");
        }
    }
}
