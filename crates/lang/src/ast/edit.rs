//! The edits, which rules and tools share.

use super::super::source::Spanned;
use super::Mac;
use tapline_packet::headers::layer::LayerSet;

/// The header behind which an offset begins to count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Anchor {
    L2,
    L3,
    L4,
    InnerL4,
}

/// Of what a tag's VLAN tells copies apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TagLabel {
    /// `from-port`: the source port's index.
    FromPort,
    /// `from-tunnel`: the number of the tunnel that the packet came in.
    FromTunnel,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Edit {
    Strip(LayerSet),
    TagVlan {
        vlan: u16,
        /// What is counted on top of `vlan`.
        label: Option<TagLabel>,
    },
    RewriteDstMac(Mac),
    RewriteSrcMac(Mac),
    RewriteVlan(u16),
    Slice {
        keep_bytes: u16,
        after: Option<Spanned<Anchor>>,
    },
    Mask {
        offset: u16,
        length: u16,
        byte: u8,
        after: Option<Spanned<Anchor>>,
    },
    AnonymizeIp {
        key_file: Option<Spanned<String>>,
        keep: Option<Spanned<KeepPrefix>>,
        inner: bool,
    },
    PayloadDrop,
}

/// Leading bits of an address that stay as they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeepPrefix {
    pub ipv4: u8,
    pub ipv6: u8,
}
