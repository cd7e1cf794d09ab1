//! Strip: the first edit, that takes tags, labels and tunnels off a copy.

use super::{Draft, NeedsWhole};
use tapline_packet::extent;
use tapline_packet::headers::layer::{Layer, LayerSet};
use tapline_packet::headers::{ethernet, u16_at, vlan};
use tapline_packet::layers;
use tapline_packet::layers::{Carried, Layers, Shell, ShellKind};

/// One thing that is taken off.
#[derive(Clone, Copy)]
enum Step {
    /// `len` bytes of tags or labels before `at`, that carried `ethertype`.
    OfLink { kind: ShellKind, at: usize, len: usize, ethertype: u16 },
    /// All before `at`; a packet without a link header gets one of `ethertype`.
    Outer { at: usize, ethertype: Option<u16> },
}

/// Each step takes at least one of the layers that parse finds, which are fewer.
const MAX_STEPS: usize = 64;

/// Takes off whatever `set` names, outermost first, until the outside of what remains is something else.
pub(super) fn strip(set: LayerSet, draft: &mut Draft<'_>) -> Result<(), NeedsWhole> {
    let mut has_stripped_tag = false;
    for _ in 0..MAX_STEPS {
        // most frames have none, and need no parse to show it
        if set.is_tags() && !begins_with_tag(draft.front()) {
            break;
        }
        let layers = draft.layers()?;
        let Some(step) = next_step(set, &layers, draft.front(), has_stripped_tag) else { break };
        match step {
            Step::OfLink { kind, at, len, ethertype } => {
                has_stripped_tag |= kind == ShellKind::Vlan;
                // The link header in front moves over them, and its type becomes that of what they carried.
                draft.front_mut().copy_within(0..at - len, len);
                draft.drop_front(len);
                draft.front_mut()[at - len - 2..at - len].copy_from_slice(&ethertype.to_be_bytes());
            }
            Step::Outer { at, ethertype } => {
                has_stripped_tag = false;
                trim_padding(draft, &layers, at);
                let Some(ethertype) = ethertype else {
                    draft.drop_front(at);
                    continue;
                };
                let start = at - ethernet::HEADER_LEN;
                draft.front_mut().copy_within(0..ethernet::ADDRESSES_LEN, start);
                draft.drop_front(start);
                draft.front_mut()[12..14].copy_from_slice(&ethertype.to_be_bytes());
            }
        }
    }
    Ok(())
}

/// Returns whether a tag stands right behind the addresses, of whatever kind: VLAN tags may stand behind others.
fn begins_with_tag(frame: &[u8]) -> bool {
    u16_at(frame, ethernet::ADDRESSES_LEN).is_some_and(layers::is_tag_type)
}

fn next_step(set: LayerSet, layers: &Layers, bytes: &[u8], has_stripped_tag: bool) -> Option<Step> {
    let mut is_of_link = true;
    for (index, shell) in layers.shells().iter().enumerate() {
        is_of_link &= shell.kind.is_tag() || shell.kind == ShellKind::Mpls;
        let row = shell.kind.row();
        let (Ok(layer), Ok(())) = (row.word, row.strip) else { continue };
        let at = shell.payload();
        if is_of_link && shell.kind == ShellKind::Vlan {
            match vlan_step(set, shell, bytes, has_stripped_tag) {
                Some(step) => return Some(step),
                None => continue,
            }
        }
        // What belongs to the link header of a packet in a tunnel is not outside.
        if !set.contains(layer) || at >= bytes.len() || shell.kind.is_of_link() && !is_of_link {
            continue;
        }
        return match (shell.kind, shell.carries(bytes)?) {
            (kind, Carried::Network(ethertype)) if kind.is_of_link() => {
                Some(Step::OfLink { kind, at, len: shell.header_len(), ethertype })
            }
            (ShellKind::Pseudowire, Carried::Ethernet) => Some(Step::Outer { at, ethertype: None }),
            // The inside of a datagram's first fragment is not all here: such a tunnel stays.
            _ if layers.has_fragmented_carrier() && is_carrier_fragmented(layers, index, bytes) => None,
            (_, Carried::Ethernet) => Some(Step::Outer { at, ethertype: None }),
            (_, Carried::Network(ethertype)) => Some(Step::Outer { at, ethertype: Some(ethertype) }),
        };
    }
    None
}

/// All tags of a run, or the first.
fn vlan_step(set: LayerSet, tags: &Shell, bytes: &[u8], has_stripped_tag: bool) -> Option<Step> {
    let len = if set.contains(Layer::Qinq) {
        tags.header_len()
    } else if set.contains(Layer::Vlan) && !has_stripped_tag {
        vlan::TAG_LEN
    } else {
        return None;
    };
    let at = usize::from(tags.offset) + len;
    Some(Step::OfLink { kind: ShellKind::Vlan, at, len, ethertype: u16_at(bytes, at - 2)? })
}

/// Returns whether the packet that carries shell `index`, or one around it, is a fragment.
#[cold]
fn is_carrier_fragmented(layers: &Layers, index: usize, bytes: &[u8]) -> bool {
    let mut stack = layers.outer;
    for shell in &layers.shells()[..=index] {
        // Tags behind a tunnel's header with no Ethernet header in front are of no stack.
        let is_of_stack = shell.kind.is_of_link() && !(shell.kind.is_tag() && stack.ethernet().is_none());
        if is_of_stack {
            continue;
        }
        if shell.kind != ShellKind::Pseudowire && stack.is_fragment() {
            return true;
        }
        stack = match shell.carries(bytes) {
            Some(Carried::Ethernet) => layers::ethernet_stack(bytes, shell.payload()),
            Some(Carried::Network(ethertype)) => layers::network_stack(bytes, shell.payload(), ethertype),
            None => return false,
        };
    }
    false
}

/// Ethernet pads short frames behind the outer packet; inside, nothing would tell the padding from the packet. `inner` is where
/// that begins.
fn trim_padding(draft: &mut Draft<'_>, layers: &Layers, inner: usize) {
    if let Some(end) = extent::carried_end(draft.front(), &layers.outer, inner) {
        draft.trim(end);
    }
}
