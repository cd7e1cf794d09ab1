//! The edits, which rules and tools share.

use super::super::source::Spanned;
use tapline_api::words::{Anchor, TagLabel};
use tapline_packet::headers::ethernet::MacAddress;
use tapline_packet::headers::layer::LayerSet;

#[derive(Clone, PartialEq, Debug)]
pub enum Edit {
    Strip(LayerSet),
    TagVlan {
        vlan: u16,
        /// The label that is added to `vlan`.
        label: Option<TagLabel>,
    },
    RewriteDstMac(MacAddress),
    RewriteSrcMac(MacAddress),
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
