//! The graph as text for other programs: DOT for Graphviz, and Mermaid for pages that draw it themselves.

use std::fmt::Write;

use super::svg::{lost, rate};
use super::{Edge, Graph, Node};

/// Mermaid draws no more edges (`maxEdges`), and reads no longer text (`maxTextSize`), unless a page says so.
const MERMAID_EDGES: usize = 500;
const MERMAID_LETTERS: usize = 50_000;

/// A graph that Mermaid does not draw.
#[derive(thiserror::Error, Clone, Copy, PartialEq, Eq, Debug)]
pub enum MermaidError {
    #[error("{0} edges, and Mermaid draws at most {MERMAID_EDGES}; use fewer --rules, or SVG")]
    Edges(usize),
    #[error("{0} letters, and Mermaid reads at most {MERMAID_LETTERS}; use fewer --rules, or SVG")]
    Letters(usize),
}

fn label_of(edge: &Edge) -> Vec<String> {
    let dropped = lost(&edge.counts);
    let dropped = if dropped.is_empty() { dropped } else { format!("dropped {dropped}") };
    [rate(&edge.counts), dropped].into_iter().filter(|text| !text.is_empty()).collect()
}

/// The lines of a box: kind and name, what is said of it, and its counts.
fn lines_of(node: &Node) -> Vec<String> {
    let mut lines = vec![format!("{} {}", node.kind.word(), node.name)];
    lines.extend(node.lines.iter().cloned());
    node.counts.packets.iter().for_each(|packets| lines.push(format!("{packets} packets")));
    if node.counts.is_lossy() {
        lines.push(format!("dropped {}", lost(&node.counts)));
    }
    lines
}

/// Writes a text as a quoted string of DOT, whose escapes are those of labels.
fn quoted(lines: &[String]) -> String {
    let escape = |line: &String| {
        let plain = line.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter });
        plain.collect::<String>().replace('\\', "\\\\").replace('"', "\\\"")
    };
    format!("\"{}\"", lines.iter().map(escape).collect::<Vec<_>>().join("\\n"))
}

/// Writes a text as a quoted string of Mermaid: what it would read as markup becomes a character reference (`#NUMBER;`).
fn mermaid_quoted(lines: &[String]) -> String {
    let mut out = String::new();
    for (index, line) in lines.iter().enumerate() {
        if index > 0 {
            out += "<br/>";
        }
        for letter in line.chars() {
            match letter {
                letter if letter.is_control() => out.push('\u{fffd}'),
                letter if letter.is_alphanumeric() || " -_.,:/()=+…".contains(letter) => out.push(letter),
                // writing to a String cannot fail
                letter => drop(write!(out, "#{};", u32::from(letter))),
            }
        }
    }
    format!("\"{out}\"")
}

impl Graph {
    /// Returns the graph in DOT, the language of Graphviz.
    pub fn dot(&self) -> String {
        let mut out = format!("digraph tapline {{\n  label={};\n", quoted(&self.head()));
        out += "  labelloc=t; rankdir=LR; ranksep=1; nodesep=0.2;\n";
        out += "  node [shape=box, style=rounded, fontname=\"sans-serif\", fontsize=11];\n";
        out += "  edge [fontname=\"sans-serif\", fontsize=10];\n";
        for node in &self.nodes {
            let dashed = if node.is_off { ", style=\"rounded,dashed\"" } else { "" };
            let _ = writeln!(
                out,
                "  {} [label={}{dashed}];",
                quoted(std::slice::from_ref(&node.id)),
                quoted(&lines_of(node))
            );
        }
        for column in &self.columns {
            let ids = self.nodes.iter().filter(|node| node.x == column.x);
            let ids: Vec<String> = ids.map(|node| quoted(std::slice::from_ref(&node.id))).collect();
            let _ = writeln!(out, "  {{ rank=same; {} }}", ids.join("; "));
        }
        for edge in &self.edges {
            let [from, to] =
                [edge.from, edge.to].map(|node| quoted(std::slice::from_ref(&self.nodes[node].id)));
            let red =
                if edge.counts.is_lossy() { ", color=\"#c8102e\", fontcolor=\"#c8102e\"" } else { "" };
            let _ = writeln!(out, "  {from} -> {to} [label={}{red}];", quoted(&label_of(edge)));
        }
        out + "}\n"
    }

    /// Returns the graph as a flow chart of Mermaid.
    ///
    /// # Errors
    /// If Mermaid would refuse to draw it.
    pub fn mermaid(&self) -> Result<String, MermaidError> {
        if self.edges.len() >= MERMAID_EDGES {
            return Err(MermaidError::Edges(self.edges.len()));
        }
        let mut out = String::from("flowchart LR\n");
        self.head().iter().for_each(|line| {
            let plain: String = line.chars().filter(|letter| !letter.is_control()).collect();
            out += &format!("%% {}\n", plain.replace(['{', '}'], ""));
        });
        for (index, node) in self.nodes.iter().enumerate() {
            let _ = writeln!(out, "n{index}[{}]", mermaid_quoted(&lines_of(node)));
        }
        for edge in &self.edges {
            let label = label_of(edge);
            let label =
                if label.is_empty() { label.concat() } else { format!("|{}|", mermaid_quoted(&label)) };
            let _ = writeln!(out, "n{} -->{label} n{}", edge.from, edge.to);
        }
        let lossy = self.edges.iter().enumerate().filter(|(_, edge)| edge.counts.is_lossy());
        lossy.for_each(|(index, _)| out += &format!("linkStyle {index} stroke:#c8102e\n"));
        let letters = out.chars().count();
        if letters >= MERMAID_LETTERS { Err(MermaidError::Letters(letters)) } else { Ok(out) }
    }

    /// The title, the account and what is said of bundles.
    fn head(&self) -> Vec<String> {
        [Some(self.title.clone()), self.account.clone(), self.bundled()].into_iter().flatten().collect()
    }
}
