//! The edits, which rules and tools share.

use super::super::ast::edit::Edit;
use super::super::source::Spanned;
use super::super::suggest::nearest;
use super::super::value::{Misread, Value, byte, bytes, keep_prefix, mac, number};
use super::line::{Line, Read};
use tapline_api::words::{Anchor, TagLabel};
use tapline_packet::headers::layer::{Layer, LayerSet};

/// A table of clauses that has those of edits between others: `$edit` makes a clause out of an edit.
macro_rules! with_edits {
    ($edit:expr; [$($before:expr),* $(,)?] [$($after:expr),* $(,)?]) => {
        &[
            $($before,)*
            many("strip", |line| edit::strip(line).map($edit)),
            many("tag", |line| edit::tag(line).map($edit)),
            many("rewrite", |line| edit::rewrite(line).map($edit)),
            once("slice", |line| edit::slice(line).map($edit)),
            many("mask", |line| edit::mask(line).map($edit)),
            once("anonymize", |line| edit::anonymize(line).map($edit)),
            once("payload", |line| edit::payload(line).map($edit)),
            $($after,)*
        ]
    };
}
pub(super) use with_edits;

/// `LIST` of layers, or the word that stands for all of them.
fn layers(line: &mut Line<'_>, key: &str, all: &'static str) -> Read<LayerSet> {
    if line.accept(all).is_some() {
        return Ok(LayerSet::ALL);
    }
    let words = || Layer::ALL.iter().map(|layer| layer.word());
    line.may_list(words(), &[]);
    let list = line.list(key, |text| {
        text.parse::<Layer>().map_err(|_| Misread {
            expected: format!("{all} or a list of {}", words().collect::<Vec<_>>().join(", ")),
            part: None,
            help: nearest(text, words()).map(|near| format!("did you mean `{near}`?")),
        })
    })?;
    Ok(list.into_iter().map(|layer| layer.value).collect())
}

/// `[through LAYERS|any]`.
pub(super) fn through(line: &mut Line<'_>) -> Read<Option<Spanned<LayerSet>>> {
    let Some(word) = line.accept("through") else { return Ok(None) };
    let through = layers(line, "through", "any")?;
    Ok(Some(Spanned::new(through, line.since(word))))
}

/// `[after l2|l3|l4|inner-l4]`.
pub(super) fn after(line: &mut Line<'_>) -> Read<Option<Spanned<Anchor>>> {
    line.optional("after", |line| line.word_of("after"))
}

/// `strip LAYERS|all`.
pub(super) fn strip(line: &mut Line<'_>) -> Read<Edit> {
    Ok(Edit::Strip(layers(line, "strip", "all")?))
}

/// `tag vlan ID [from-port|from-tunnel]`.
pub(super) fn tag(line: &mut Line<'_>) -> Read<Edit> {
    line.expect("vlan")?;
    let vlan = line.value("tag vlan", number(1..=4094))?.value;
    let label = TagLabel::ALL.into_iter().find(|label| line.accept(label.word()).is_some());
    Ok(Edit::TagVlan { vlan, label })
}

/// `rewrite dst-mac MAC`, `rewrite src-mac MAC`, `rewrite vlan ID`.
pub(super) fn rewrite(line: &mut Line<'_>) -> Read<Edit> {
    #[derive(Clone, Copy)]
    enum Field {
        DstMac,
        SrcMac,
        Vlan,
    }
    Ok(
        match line
            .choice(
                "rewrite",
                &[("dst-mac", Field::DstMac), ("src-mac", Field::SrcMac), ("vlan", Field::Vlan)],
            )?
            .value
        {
            Field::DstMac => Edit::RewriteDstMac(line.value("rewrite dst-mac", mac)?.value),
            Field::SrcMac => Edit::RewriteSrcMac(line.value("rewrite src-mac", mac)?.value),
            Field::Vlan => Edit::RewriteVlan(line.value("rewrite vlan", number(1..=4094))?.value),
        },
    )
}

/// `slice BYTES [after l2|l3|l4|inner-l4]`; without `after`, at least the Ethernet header stays.
pub(super) fn slice(line: &mut Line<'_>) -> Read<Edit> {
    let keep = line.value("slice", number(0..=u16::MAX))?;
    let after = after(line)?;
    if after.is_none() && keep.value < 14 {
        let error = super::super::diagnostic::Diagnostic::error(
            keep.span,
            format!("invalid `slice` value `{}`", keep.value),
        );
        return Err(
            line.report(error.label("expected at least 14, the Ethernet header, where no `after` follows"))
        );
    }
    Ok(Edit::Slice { keep_bytes: keep.value, after })
}

/// `mask OFFSET LENGTH [byte 0xNN] [after l2|l3|l4|inner-l4]`.
pub(super) fn mask(line: &mut Line<'_>) -> Read<Edit> {
    let offset = line.value("mask", number(0..=u16::MAX))?.value;
    let length = line.value("mask", number(1..=u16::MAX))?.value;
    let (mut fill, mut anchor) = (None, None);
    loop {
        if fill.is_none() && line.accept("byte").is_some() {
            fill = Some(line.value("byte", byte)?.value);
        } else if anchor.is_none() && line.accept("after").is_some() {
            anchor = Some(line.word_of("after")?);
        } else {
            return Ok(Edit::Mask { offset, length, byte: fill.unwrap_or(0), after: anchor });
        }
    }
}

/// `anonymize ip [prefix-preserving key FILE] [keep V4/V6] [inner]`. A tool's `keep 100G` may follow.
pub(super) fn anonymize(line: &mut Line<'_>) -> Read<Edit> {
    line.expect("ip")?;
    let (mut key_file, mut keep, mut inner) = (None, None, false);
    loop {
        if key_file.is_none() && line.accept("prefix-preserving").is_some() {
            line.expect("key")?;
            key_file = Some(line.free_text("key", "the path of a key file")?);
        } else if keep.is_none()
            && !line.begins_clause("keep", size_of_captures)
            && line.accept("keep").is_some()
        {
            keep = Some(line.value("keep", keep_prefix)?);
        } else if !inner && line.accept("inner").is_some() {
            inner = true;
        } else {
            return Ok(Edit::AnonymizeIp { key_file, keep, inner });
        }
    }
}

/// A size that cannot be meant for the bits of a prefix.
fn size_of_captures(text: &str) -> Value<u64> {
    bytes(text).and_then(|size| match size > 128 {
        true => Ok(size),
        false => Err(Misread::expected("a size of captures")),
    })
}

/// `payload drop`.
pub(super) fn payload(line: &mut Line<'_>) -> Read<Edit> {
    line.expect("drop")?;
    Ok(Edit::PayloadDrop)
}
