//! Edits, as rules and tools have them.

use super::super::ast::edit::{Edit, KeepPrefix};
use super::super::source::Spanned;
use super::value::layers;
use super::{Print, Words};
use tapline_api::words::Anchor;

impl Print for Edit {
    fn print(&self, line: &mut Words) {
        match self {
            Edit::Strip(stripped) => line.word("strip").word(layers(*stripped, "all")),
            Edit::TagVlan { vlan, label } => {
                line.word("tag vlan").word(vlan);
                label.iter().fold(line, |line, label| line.word(label))
            }
            Edit::RewriteDstMac(mac) => line.word("rewrite dst-mac").word(mac),
            Edit::RewriteSrcMac(mac) => line.word("rewrite src-mac").word(mac),
            Edit::RewriteVlan(vlan) => line.word("rewrite vlan").word(vlan),
            Edit::Slice { keep_bytes, after: anchor } => after(line.word("slice").word(keep_bytes), anchor),
            Edit::Mask { offset, length, byte, after: anchor } => {
                line.word("mask").word(offset).word(length);
                if *byte != 0 {
                    line.word("byte").word(format_args!("{byte:#04x}"));
                }
                after(line, anchor)
            }
            Edit::AnonymizeIp { key_file, keep, inner } => {
                line.word("anonymize ip");
                if let Some(path) = key_file {
                    line.word("prefix-preserving key").text(&path.value);
                }
                line.key("keep", keep, |KeepPrefix { ipv4, ipv6 }| format!("{ipv4}/{ipv6}"));
                if *inner { line.word("inner") } else { line }
            }
            Edit::PayloadDrop => line.word("payload drop"),
        };
    }
}

pub(super) fn after<'a>(line: &'a mut Words, anchor: &Option<Spanned<Anchor>>) -> &'a mut Words {
    line.key("after", anchor, Anchor::to_string)
}
