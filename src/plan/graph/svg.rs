//! The graph as SVG 1.1, by itself or inside a page.
//!
//! A box is a `g` with the id of its object, a title that says all of it, and texts with the ids `ID:packets` and `ID:dropped`; an
//! edge is a `g` with its id and a text `ID:rate`. A page that puts counts there changes nothing else. Colours are custom properties
//! that a page may set, and follow the reader's colour scheme where it does not.

use std::fmt::Write;

use super::numbers::short;
use super::widths::NAMES;
use super::{Counts, Edge, Graph, Kind, LINE_HEIGHT, MARGIN, MOST_TEXT, NAME_HEIGHT, Node, PADDING};

/// Colours in light and in dark: text, faint text, lines, boxes, ground, and what is lost; then one a kind of box.
const COLOURS: [(&str, &str, &str); 13] = [
    ("ink", "#1b2330", "#e8edf4"),
    ("faint", "#5a6676", "#9aa7b8"),
    ("line", "#9fadbf", "#5c6a7e"),
    ("box", "#ffffff", "#1a222e"),
    ("ground", "#f6f8fb", "#10161f"),
    ("lost", "#c8102e", "#ff6b78"),
    ("port", "#2563b0", "#6aa5f0"),
    ("end", "#0e7c86", "#4cc3cc"),
    ("rule", "#6b4fbb", "#a892ec"),
    ("group", "#a15c00", "#e3a447"),
    ("edit", "#a8327e", "#e27fc0"),
    ("tool", "#1f7a3d", "#5fc383"),
    ("wire", "#55606e", "#9aa7b8"),
];

const SHAPES: &str = "\
.tapline-graph text { font-family: 'DejaVu Sans', Verdana, system-ui, sans-serif; font-size: 11px; fill: var(--g-faint); }
.tapline-graph .ground { fill: var(--g-ground); }
.tapline-graph .title { font-size: 17px; font-weight: bold; fill: var(--g-ink); }
.tapline-graph .column { font-size: 11px; letter-spacing: 0.04em; }
.tapline-graph .name { font-size: 13px; font-weight: bold; fill: var(--g-ink); }
.tapline-graph .box { fill: var(--g-box); stroke: var(--g-line); stroke-width: 1; }
.tapline-graph .count { text-anchor: end; fill: var(--g-ink); }
.tapline-graph .lost, .tapline-graph .edge.lossy text { fill: var(--g-lost); }
.tapline-graph .edge path { fill: none; stroke: var(--g-line); stroke-width: 1.5; }
.tapline-graph .edge.lossy path { stroke: var(--g-lost); stroke-width: 2; }
.tapline-graph .edge text { text-anchor: end; paint-order: stroke; stroke: var(--g-ground); stroke-width: 3px; }
.tapline-graph .off { opacity: 0.5; }
.tapline-graph .off .box { stroke-dasharray: 4 3; }
.tapline-graph .edge:hover path { stroke: var(--g-ink); stroke-width: 2.5; }
.tapline-graph .node:hover .box { stroke: var(--g-ink); }
";

/// Escapes a text for XML; a control character, which XML has not, becomes a replacement character.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            letter if letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}') => {
                out.push('\u{fffd}')
            }
            letter => out.push(letter),
        }
    }
    out
}

fn style() -> String {
    let rule = |pick: fn(&(&'static str, &'static str, &'static str)) -> &'static str| {
        let colours = COLOURS
            .iter()
            .map(|colour| format!(" --g-{}: var(--tapline-{}, {});", colour.0, colour.0, pick(colour)));
        format!(".tapline-graph {{{} }}", colours.collect::<String>())
    };
    let light = rule(|colour| colour.1);
    let dark = rule(|colour| colour.2);
    let kinds = COLOURS[6..]
        .iter()
        .map(|(kind, _, _)| format!(".tapline-graph .{kind} .mark {{ fill: var(--g-{kind}); }}\n"));
    format!(
        "{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}\n{SHAPES}{}",
        kinds.collect::<String>()
    )
}

/// Says what was dropped: `12 congested, 3 down`.
pub(super) fn lost(counts: &Counts) -> String {
    let reasons = counts.dropped.iter().map(|(reason, count)| format!("{} {reason}", short(*count as f64)));
    reasons.collect::<Vec<_>>().join(", ")
}

/// Says a rate: `1.2k/s`.
pub(super) fn rate(counts: &Counts) -> String {
    counts.rate.map_or_else(String::new, |rate| format!("{}/s", short(rate)))
}

impl Graph {
    /// Returns the graph as a document of SVG.
    pub fn svg(&self) -> String {
        let (width, height) = (self.width, self.height);
        let title = escaped(&self.title);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"tapline-graph\" role=\"graphics-document document\" \
             aria-labelledby=\"tapline-graph-title tapline-graph-desc\" \
             width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
             <title id=\"tapline-graph-title\">Pipeline {title}</title>\n\
             <desc id=\"tapline-graph-desc\">{}</desc>\n\
             <style>\n{}</style>\n\
             <rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n\
             <text class=\"title\" x=\"{MARGIN}\" y=\"34\">{title}</text>\n",
            escaped(&self.description()),
            style(),
        );
        let remarks = self.account.iter().cloned().chain(self.bundled());
        let remarks = remarks.collect::<Vec<_>>().join(" · ");
        // writing to a String cannot fail
        let _ =
            writeln!(out, "<text class=\"remark\" x=\"{MARGIN}\" y=\"54\">{}</text>", escaped(&remarks));
        for column in &self.columns {
            let _ =
                writeln!(out, "<text class=\"column\" x=\"{}\" y=\"80\">{}</text>", column.x, column.name);
        }
        self.edges.iter().for_each(|edge| self.draw_edge(edge, &mut out));
        self.nodes.iter().for_each(|node| draw_node(node, &mut out));
        out + "</svg>\n"
    }

    /// Says in a few sentences what there is to see.
    fn description(&self) -> String {
        let count = |kind: Kind| self.nodes.iter().filter(|node| node.kind == kind).count();
        let says = format!(
            "The way of packets from left to right: {} receiving ports, {} rules, {} groups, {} tools.",
            count(Kind::Port),
            self.rules,
            count(Kind::Group),
            count(Kind::Tool)
        );
        [Some(says), self.account.clone(), self.bundled()]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn draw_edge(&self, edge: &Edge, out: &mut String) {
        let (from, to) = (&self.nodes[edge.from], &self.nodes[edge.to]);
        let lossy = if edge.counts.is_lossy() { " lossy" } else { "" };
        let (end, at) = edge.points.last().copied().unwrap_or_default();
        let mut says = format!("{} {} to {} {}", from.kind.word(), from.name, to.kind.word(), to.name);
        edge.counts.packets.iter().for_each(|packets| says += &format!(": {packets} packets"));
        if edge.counts.is_lossy() {
            says += &format!(", dropped {}", lost(&edge.counts));
        }
        // beside the curve, which comes from above or from below
        let is_from_above = edge.points.iter().rev().nth(1).is_some_and(|&(_, height)| height + 4 < at);
        let beside = if is_from_above { at + 13 } else { at - 5 };
        let _ = writeln!(
            out,
            "<g class=\"edge{lossy}\" id=\"{id}\" data-from=\"{}\" data-to=\"{}\"><title>{}</title>\
             <path d=\"{}\"/><text id=\"{id}:rate\" x=\"{}\" y=\"{}\">{}</text></g>",
            from.id,
            to.id,
            escaped(&says),
            path(&edge.points),
            end - 6,
            beside,
            rate(&edge.counts),
            id = edge.id,
        );
    }
}

/// Curves between columns, and goes straight through those that it passes.
fn path(points: &[(u32, u32)]) -> String {
    let mut path = String::new();
    for (index, &(x, y)) in points.iter().enumerate() {
        let _ = match index.checked_sub(1).map(|before| points[before]) {
            None => write!(path, "M{x} {y}"),
            Some((from, height)) if index % 2 == 1 => {
                let half = (from + x) / 2;
                write!(path, "C{half} {height} {half} {y} {x} {y}")
            }
            Some(_) => write!(path, "H{x}"),
        };
    }
    path
}

fn draw_node(node: &Node, out: &mut String) {
    let Node { id, kind, x, y, w, h, counts, .. } = node;
    let kind = kind.word();
    let off = if node.is_off { " off" } else { "" };
    let mut says = format!("{kind} {}: {}", node.name, node.says.join("; "));
    counts.packets.iter().for_each(|packets| says += &format!("; {packets} packets"));
    if counts.is_lossy() {
        says += &format!(", dropped {}", lost(counts));
    }
    let (left, right) = (x + PADDING, x + w - PADDING);
    let _ = write!(
        out,
        "<g class=\"node {kind}{off}\" id=\"{id}\"><title>{}</title>\
         <rect class=\"box\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" rx=\"5\"/>\
         <rect class=\"mark\" x=\"{x}\" y=\"{y}\" width=\"4\" height=\"{h}\" rx=\"2\"/>\
         <text class=\"name\" x=\"{left}\" y=\"{}\">{}</text>\
         <text class=\"count\" id=\"{id}:packets\" x=\"{right}\" y=\"{}\">{}</text>",
        escaped(&says),
        y + 19,
        escaped(&NAMES.cut(&node.name, MOST_TEXT)),
        y + 19,
        counts.packets.map_or_else(String::new, |packets| short(packets as f64)),
    );
    let mut below = y + NAME_HEIGHT + 8;
    for line in &node.lines {
        let _ = write!(out, "<text x=\"{left}\" y=\"{below}\">{}</text>", escaped(line));
        below += LINE_HEIGHT;
    }
    let lost = if counts.is_lossy() { format!("dropped {}", lost(counts)) } else { String::new() };
    let lost = super::widths::LINES.cut(&lost, w - 2 * PADDING);
    let _ = writeln!(
        out,
        "<text class=\"lost\" id=\"{id}:dropped\" x=\"{left}\" y=\"{}\">{lost}</text></g>",
        y + h + 13,
    );
}
