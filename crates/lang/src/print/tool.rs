//! `tool …`: where copies go, how they travel there, and what shows that a tool is well.

use std::net::IpAddr;
use std::time::Duration;

use super::super::ast::tool::{Erspan, NextHop, Outer, Probe, Rotate, ToolOption, ToolTarget, Transport};
use super::super::source::Spanned;
use super::value::{bytes, count, duration, percent, rate};
use super::{Print, Words};
use tapline_api::words::{Direction, Granularity};

fn time(time: &Duration) -> String {
    duration(*time)
}

fn size(size: &u64) -> String {
    bytes(*size)
}

impl Print for ToolTarget {
    fn print(&self, line: &mut Words) {
        match self {
            ToolTarget::Port(port) => line.word("port").text(&port.value),
            ToolTarget::Discard => line.word("discard"),
            ToolTarget::Capture(path) => line.word("capture").text(&path.value),
        };
    }
}

impl Print for ToolOption {
    fn print(&self, line: &mut Words) {
        match self {
            ToolOption::Transport(transport) => line.print(transport.as_ref()),
            ToolOption::Mtu(mtu) => line.word("mtu").word(mtu),
            ToolOption::Queue { packets, bytes } => {
                line.word("queue").word(count(*packets)).key("bytes", bytes, size)
            }
            ToolOption::Thresholds { low, normal } => {
                line.word("thresholds").word(format_args!("{},{}", percent(*low), percent(*normal)))
            }
            ToolOption::Rate { rate: most, burst } => {
                line.word("rate").word(rate(most.value)).key("burst", burst, time)
            }
            ToolOption::Timestamp(format) => line.word("timestamp").word(format),
            ToolOption::Order(window) => line.word("order window").word(duration(*window)),
            ToolOption::Oversize(oversize) => line.word("oversize").word(oversize),
            ToolOption::Rotate(Rotate::Bytes(size)) => line.word("rotate").word(bytes(*size)),
            ToolOption::Rotate(Rotate::Every(time)) => line.word("rotate").word(duration(*time)),
            ToolOption::Keep(size) => line.word("keep").word(bytes(*size)),
            ToolOption::Heartbeat { probe, back } => {
                line.word("heartbeat").print(probe);
                if let Some(port) = back {
                    line.word("return").text(&port.value);
                }
                line
            }
            ToolOption::Echo(probe) => line.word("echo").print(probe),
            ToolOption::DownAfter(time) => line.word("down-after").word(duration(*time)),
            ToolOption::UpAfter(time) => line.word("up-after").word(duration(*time)),
            ToolOption::Alarmed(is_on) => line.word("alarm").switch(*is_on),
            ToolOption::Alarm { percent: share, hold } => {
                line.word("alarm").word(percent(*share)).key("hold", hold, time)
            }
            ToolOption::Edit(edit) => line.print(edit),
        };
    }
}

impl Print for Probe {
    fn print(&self, line: &mut Words) {
        let Probe { every, timeout, retries } = self;
        line.word("every").word(duration(every.value));
        line.key("timeout", timeout, time).key("retries", retries, u32::to_string);
    }
}

impl Print for Transport {
    fn print(&self, line: &mut Words) {
        match self {
            Transport::Local => line.word("local"),
            Transport::Rspan { vlan, priority, tag } => {
                line.word("rspan vlan").word(vlan.value).key("priority", priority, u8::to_string);
                tag.iter().fold(line, |line, tag| line.word(tag.value))
            }
            Transport::Erspan(erspan) => line.print(erspan),
            Transport::Vxlan { vni, udp_port, udp_checksum, outer } => {
                in_udp(line.word("vxlan vni").word(vni.value), udp_port, *udp_checksum).print(outer)
            }
            Transport::Geneve { vni, udp_port, udp_checksum, outer } => {
                in_udp(line.word("geneve vni").word(vni.value), udp_port, *udp_checksum).print(outer)
            }
            Transport::Gre { key, outer } => line.word("gre").key("key", key, u32::to_string).print(outer),
        };
    }
}

fn in_udp<'a>(line: &'a mut Words, port: &Option<Spanned<u16>>, checksum: Option<bool>) -> &'a mut Words {
    line.key("udp-port", port, u16::to_string);
    checksum.iter().fold(line, |line, is_on| line.word("udp-checksum").switch(*is_on))
}

impl Print for Erspan {
    fn print(&self, line: &mut Words) {
        let Erspan { version, session, direction, cos, sgt, index, hw_id, granularity, outer } = self;
        line.word(format_args!("erspan{version}")).word("session").word(session.value);
        line.key("direction", direction, Direction::to_string).key("cos", cos, u8::to_string);
        line.key("sgt", sgt, u16::to_string).key("index", index, u32::to_string);
        line.key("hw-id", hw_id, u8::to_string).key("granularity", granularity, Granularity::to_string);
        line.print(outer);
    }
}

impl Print for Outer {
    fn print(&self, line: &mut Words) {
        let Outer { src, dst, next_hop, vlan, priority, ttl, dscp, df } = self;
        line.word("src").word(src.value).word("dst").word(dst.value);
        line.key("next-hop", next_hop, |next_hop| match next_hop {
            NextHop::Ip(ip) => IpAddr::to_string(ip),
            NextHop::Mac(mac) => mac.to_string(),
        });
        line.key("vlan", vlan, u16::to_string).key("priority", priority, u8::to_string);
        line.key("ttl", ttl, u8::to_string).key("dscp", dscp, u8::to_string);
        if let Some(df) = df {
            line.word("df").switch(df.value);
        }
    }
}
