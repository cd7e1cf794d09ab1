//! The tables of each kind of object, from the last two snapshots.

use std::collections::HashMap;

use super::board::{Board, Interval, Kind, loss_cell};
use super::table::{Cell, Column, Row, Table};
use super::units::Unit;
use super::verdict::{Way, link_share};
use tapline_api::snapshot::{Dropped, PortEntry, RuleEntry, Snapshot};
use tapline_api::words::ToolState;

/// Returns the table of a kind.
pub(super) fn table(kind: Kind, board: &Board, unit: Unit) -> Table {
    let Some(interval) = board.interval() else {
        return Table { columns: vec![Column::left("", 0)], rows: Vec::new(), quiet: "" };
    };
    match kind {
        Kind::Port => ports(interval, board, unit),
        Kind::Tool => tools(interval, board, unit),
        Kind::Group => groups(interval),
        Kind::Rule => rules(interval, board),
        Kind::Wire => wires(interval, unit),
        Kind::Lcore => lcores(interval),
    }
}

fn rate_head(word: &str, unit: Unit) -> String {
    match unit {
        Unit::Packets => format!("{word}/s"),
        Unit::Bits => format!("{word} bit/s"),
        Unit::Bytes => format!("{word} B/s"),
    }
}

fn in_unit(unit: Unit, packets: Option<f64>, bytes: Option<f64>) -> Cell {
    Cell::Rate(packets.zip(bytes).map(|(packets, bytes)| unit.of(packets, bytes)))
}

fn ports(interval: &Interval, board: &Board, unit: Unit) -> Table {
    let columns = vec![
        Column::left("port", 0),
        Column::right(rate_head("in", unit), 1),
        Column::right("link", 4),
        Column::left("missed/s", 0),
        Column::left("broken/s", 5),
        Column::left("no mbuf/s", 6),
        Column::right(rate_head("out", unit), 7),
        Column::left("state", 2),
        Column::left("in, so far", 8),
    ];
    let row = |(name, port): &(String, PortEntry)| {
        let rate = |count: &dyn Fn(&PortEntry) -> u64| {
            interval.rate(|snapshot| Some(count(snapshot.ports.get(name)?)))
        };
        let lost = |count: &dyn Fn(&PortEntry) -> u64| rate(count).unwrap_or(0.0);
        let missed = lost(&|port| port.driver.missed);
        let broken = lost(&|port| port.driver.rx_errors);
        let no_mbuf = if port.replay.is_some() { 0.0 } else { lost(&|port| port.driver.no_mbuf) };
        let congested = lost(&|port| port.congested);
        let received = rate(&|port| port.received);
        let state = port_state(port);
        let used = link_share(name, interval, Way::In).zip(link_share(name, interval, Way::Out));
        let loss = |rate: f64| Cell::Loss(rate, String::new());
        Row {
            is_hurt: missed + broken + no_mbuf + congested > 0.0 || port.gone || port.closed.is_some(),
            is_quiet: received == Some(0.0),
            cells: vec![
                Cell::text(name),
                in_unit(unit, received, rate(&|port| port.received_bytes)),
                Cell::Share(used.map(|(way_in, way_out)| way_in.max(way_out))),
                loss(missed),
                loss(broken),
                loss(no_mbuf),
                in_unit(unit, rate(&|port| port.driver.tx_packets), rate(&|port| port.driver.tx_bytes)),
                Cell::text(if congested > 0.0 { "workers too slow" } else { state }),
                Cell::Trend(board.past(Kind::Port, name)),
            ],
        }
    };
    Table { columns, rows: interval.now.ports.iter().map(row).collect(), quiet: "ports receive nothing" }
}

fn port_state(port: &PortEntry) -> &'static str {
    match port {
        _ if port.closed.is_some() => "closed",
        _ if port.gone => "gone",
        _ if port.stopped => "stopped",
        _ if port.replay.as_ref().is_some_and(|replay| replay.error.is_some()) => "file broken",
        _ if port.replay.as_ref().is_some_and(|replay| replay.ended) => "ended",
        _ if !port.link_up => "no link",
        _ => "up",
    }
}

fn tools(interval: &Interval, board: &Board, unit: Unit) -> Table {
    let columns = vec![
        Column::left("tool", 0),
        Column::right("asked/s", 3),
        Column::right(rate_head("sent", unit), 1),
        Column::left("dropped/s", 0),
        Column::right("queue", 5),
        Column::right("p99", 4),
        Column::right("p50", 8),
        Column::right("max", 9),
        Column::left("state", 2),
        Column::left("sent, so far", 6),
    ];
    let rows = interval.now.tools.iter().map(|(name, tool)| {
        let of = |snapshot: &Snapshot| Some(snapshot.tools.get(name)?.copies);
        let asked = interval.rate(|snapshot| Some(of(snapshot)?.requested));
        let sent = interval.rate(|snapshot| Some(of(snapshot)?.sent));
        let bytes = interval.rate(|snapshot| Some(snapshot.tools.get(name)?.sent_bytes));
        let dropped = loss_cell(interval, of);
        let is_down = tool.health.state == ToolState::Down;
        let state = match tool.health.reason {
            Some(reason) if is_down => format!("down: {reason}"),
            _ => tool.health.state.word().to_owned(),
        };
        Row {
            is_hurt: dropped.number() > Some(0.0) || is_down,
            is_quiet: asked == Some(0.0),
            cells: vec![
                Cell::text(name),
                Cell::Rate(asked),
                in_unit(unit, sent, bytes),
                dropped,
                Cell::Count(tool.queue_depth),
                Cell::Time(tool.latency_ns.p99),
                Cell::Time(tool.latency_ns.p50),
                Cell::Time(tool.latency_ns.max),
                Cell::Text(state),
                Cell::Trend(board.past(Kind::Tool, name)),
            ],
        }
    });
    Table { columns, rows: rows.collect(), quiet: "tools are asked for nothing" }
}

fn groups(interval: &Interval) -> Table {
    let columns = vec![
        Column::left("group", 0),
        Column::left("tool", 0),
        Column::right("share", 1),
        Column::right("should", 2),
        Column::right("asked/s", 3),
        Column::left("no member/s", 4),
        Column::right("buckets", 5),
        Column::right("pending", 7),
        Column::right("moved", 8),
        Column::right("flows", 6),
    ];
    let mut rows = Vec::new();
    for (name, group) in &interval.now.groups {
        let all: usize = group.buckets.iter().map(|(_, buckets)| buckets).sum();
        let asked = |tool: &str| interval.rate(|snapshot| Some(snapshot.tools.get(tool)?.copies.requested));
        let total: f64 = group.buckets.iter().filter_map(|(tool, _)| asked(tool)).sum();
        let unassigned = loss_cell(interval, |snapshot| Some(snapshot.groups.get(name)?.unassigned));
        for (tool, &buckets) in group.buckets.iter().map(|(tool, buckets)| (tool, buckets)) {
            let share = asked(tool).filter(|_| total > 0.0).map(|asked| asked / total);
            rows.push(Row {
                is_hurt: unassigned.number() > Some(0.0),
                is_quiet: false,
                cells: vec![
                    Cell::text(name),
                    Cell::text(tool),
                    Cell::Share(share),
                    Cell::Share((all > 0).then(|| buckets as f64 / all as f64)),
                    Cell::Rate(asked(tool)),
                    unassigned.clone(),
                    Cell::Count(buckets as u64),
                    Cell::Count(group.buckets_pending as u64),
                    Cell::Count(group.buckets_moved),
                    Cell::Count(group.flows),
                ],
            });
        }
    }
    Table { columns, rows, quiet: "" }
}

fn rules(interval: &Interval, board: &Board) -> Table {
    let columns = vec![
        Column::left("rule", 0),
        Column::right("matched/s", 0),
        Column::right("duplicates/s", 3),
        Column::right("sampled out/s", 2),
        Column::left("state", 1),
        Column::left("does", 4),
    ];
    // there may be tens of thousands of them
    let before: HashMap<&str, &RuleEntry> = interval
        .before()
        .into_iter()
        .flat_map(|before| &before.rules)
        .map(|(name, rule)| (name.as_str(), rule))
        .collect();
    let rows = interval.now.rules.iter().map(|(name, rule)| {
        let rate = |count: fn(&RuleEntry) -> u64| {
            interval.rate_between(before.get(name.as_str()).map(|&rule| count(rule)), count(rule))
        };
        let matched = rate(|rule| rule.matched);
        let state = match rule.activity {
            activity if !activity.on => "off",
            activity if activity.limit_remaining == Some(0) => "at limit",
            _ => "on",
        };
        Row {
            is_hurt: false,
            is_quiet: matched == Some(0.0),
            cells: vec![
                Cell::text(name),
                Cell::Rate(matched),
                Cell::Rate(rate(|rule| rule.duplicates)),
                Cell::Rate(rate(|rule| rule.sampled_out)),
                Cell::text(state),
                Cell::text(board.plan.rule(name)),
            ],
        }
    });
    Table { columns, rows: rows.collect(), quiet: "rules match nothing" }
}

fn wires(interval: &Interval, unit: Unit) -> Table {
    let columns = vec![
        Column::left("wire", 0),
        Column::right(rate_head("a to b", unit), 1),
        Column::right(rate_head("b to a", unit), 1),
        Column::left("dropped/s", 0),
        Column::right("queue", 3),
        Column::right("p99", 2),
    ];
    let rows = interval.now.wires.iter().map(|(name, wire)| {
        let sides = |is_back: bool| {
            let way = |snapshot: &Snapshot| {
                let wire = snapshot.wires.get(name)?;
                let way = if is_back { &wire.b_to_a } else { &wire.a_to_b };
                Some((way.forwarded, way.forwarded_bytes))
            };
            let packets = interval.rate(|snapshot| Some(way(snapshot)?.0));
            (packets, in_unit(unit, packets, interval.rate(|snapshot| Some(way(snapshot)?.1))))
        };
        let ((there, there_cell), (back, back_cell)) = (sides(false), sides(true));
        let reasons = interval.dropped(|snapshot| {
            let wire = snapshot.wires.get(name)?;
            let (mut sum, other) = (wire.a_to_b.dropped, wire.b_to_a.dropped);
            sum.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
            Some(Dropped(sum.0))
        });
        let lost: u64 = reasons.iter().map(|&(_, count)| count).sum();
        let words: Vec<&str> = reasons.iter().map(|(reason, _)| reason.word()).collect();
        let rate = if lost == 0 { 0.0 } else { lost as f64 / interval.seconds };
        Row {
            is_hurt: lost > 0,
            is_quiet: there == Some(0.0) && back == Some(0.0),
            cells: vec![
                Cell::text(name),
                there_cell,
                back_cell,
                Cell::Loss(rate, words.join(", ")),
                Cell::Count(wire.a_to_b.queue_depth + wire.b_to_a.queue_depth),
                Cell::Time(wire.a_to_b.latency_ns.p99.max(wire.b_to_a.latency_ns.p99)),
            ],
        }
    });
    Table { columns, rows: rows.collect(), quiet: "wires carry nothing" }
}

fn lcores(interval: &Interval) -> Table {
    let columns = vec![
        Column::left("lcore", 0),
        Column::left("does", 5),
        Column::right("in/s", 1),
        Column::right("busy", 0),
        Column::left("state", 2),
        Column::right("panics", 6),
        Column::right("stalls", 7),
        Column::right("full bursts", 8),
    ];
    let rows = interval.now.lcores.iter().map(|(name, lcore)| {
        let roles: Vec<&str> = lcore.stages.iter().map(|role| role.word()).collect();
        let received = interval.rate(|snapshot| {
            let lcore = snapshot.lcores.get(name)?;
            Some(lcore.received + lcore.from_rings)
        });
        let bursts = |full: bool| {
            interval.counted(|snapshot| {
                let sizes = snapshot.lcores.get(name)?.bursts.0;
                Some(if full { *sizes.last()? } else { sizes.iter().sum() })
            })
        };
        let full = bursts(true).zip(bursts(false)).filter(|&(_, all)| all > 0);
        Row {
            is_hurt: lcore.is_stalled,
            is_quiet: false,
            cells: vec![
                Cell::text(name),
                Cell::text(if roles.len() == 3 { "all stages".to_owned() } else { roles.join(", ") }),
                Cell::Rate(received),
                Cell::Share(Some(lcore.busy)),
                Cell::text(if lcore.is_stalled { "STALLED" } else { "runs" }),
                Cell::Count(lcore.panics),
                Cell::Count(lcore.stalls),
                Cell::Share(full.map(|(full, all)| full as f64 / all as f64)),
            ],
        }
    });
    Table { columns, rows: rows.collect(), quiet: "" }
}
