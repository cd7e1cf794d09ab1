//! VLAN tags: 802.1Q customer tags and the service tags of QinQ.
//! # Source
//! IEEE 802.1Q-2022, 9.3 to 9.6.

use std::sync::atomic::{AtomicU64, Ordering};

use super::u16_at;

/// Bytes that one tag adds to a frame: TPID and TCI, or, seen from behind the TPID, TCI and the next type.
pub const TAG_LEN: usize = 4;

/// Customer tag (C-TAG), IEEE 802.1Q.
pub const TPID_8021Q: u16 = 0x8100;
/// Service tag (S-TAG), IEEE 802.1ad.
pub const TPID_8021AD: u16 = 0x88a8;
/// QinQ before 802.1ad; libpcap's `vlan` takes it for a tag too.
pub const TPID_QINQ_9100: u16 = 0x9100;
/// QinQ before 802.1ad, as some switches send it.
pub const TPID_QINQ_9200: u16 = 0x9200;

/// The types that announce a VLAN tag wherever there is one.
pub const TPIDS: [u16; 4] = [TPID_8021Q, TPID_8021AD, TPID_QINQ_9100, TPID_QINQ_9200];
/// The most types that can be [added](add_tpids) to those.
pub const MAX_ADDED_TPIDS: usize = 4;

/// Four types, of 16 bits each; 0 stands for none.
static ADDED: AtomicU64 = AtomicU64::new(0);

/// Takes `ethertypes` for those of VLAN tags too, in all of the process, and no longer others that were added before. They are a
/// property of the network, so they are said once, before packets are read; what is being read meanwhile may see either.
///
/// # Panics
/// If there are more than `MAX_ADDED_TPIDS`, or one is 0.
pub fn add_tpids(ethertypes: &[u16]) {
    assert!(ethertypes.len() <= MAX_ADDED_TPIDS && !ethertypes.contains(&0), "four types, none of them 0");
    let all = ethertypes.iter().fold(0, |all, ethertype| all << 16 | u64::from(*ethertype));
    ADDED.store(all, Ordering::Relaxed);
}

/// Returns whether `ethertype` announces a VLAN tag.
#[inline(always)]
pub fn is_tpid(ethertype: u16) -> bool {
    matches!(ethertype, TPID_8021Q | TPID_8021AD | TPID_QINQ_9100 | TPID_QINQ_9200) || is_added(ethertype)
}

#[inline(always)]
fn is_added(ethertype: u16) -> bool {
    let all = ADDED.load(Ordering::Relaxed);
    all != 0
        && ethertype != 0
        && (0..MAX_ADDED_TPIDS).any(|place| (all >> (16 * place)) as u16 == ethertype)
}

/// The VLAN id (0 to 4095) of a tag control information field. 0 is a priority tag: the frame belongs to no VLAN.
#[inline(always)]
pub fn id(tci: u16) -> u16 {
    tci & 0x0fff
}

/// The priority code point (0 to 7) of a tag control information field.
#[inline(always)]
pub fn priority(tci: u16) -> u8 {
    (tci >> 13) as u8
}

/// A VLAN tag's content: identifier (0..=4095) and priority (0..=7).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct VlanTag {
    pub vlan: u16,
    pub priority: u8,
}

impl VlanTag {
    /// The tag control information, drop-eligible bit clear.
    pub fn tci(self) -> u16 {
        u16::from(self.priority & 7) << 13 | (self.vlan & 0xfff)
    }
}

/// The four bytes of an 802.1Q tag, that go between the addresses and the type.
pub fn tag(tpid: u16, tag: VlanTag) -> [u8; TAG_LEN] {
    let ([a, b], [c, d]) = (tpid.to_be_bytes(), tag.tci().to_be_bytes());
    [a, b, c, d]
}

/// The outermost tag of a frame, if it begins with one.
#[inline(always)]
pub fn outer_tag(frame: &[u8]) -> Option<VlanTag> {
    let (tpid, tci) = (u16_at(frame, 12)?, u16_at(frame, 14)?);
    is_tpid(tpid).then(|| VlanTag { vlan: id(tci), priority: priority(tci) })
}
