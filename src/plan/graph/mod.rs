//! The picture of a plan: ports, ends of tunnels, rules, groups, edits and tools as boxes, and the ways of packets between them.
//!
//! Reads a plan and nothing else. Columns are given by what a box is, `layout` places the boxes, `numbers` writes the counts of a
//! snapshot to them; `svg`, `text` and `Graph::json` say the same graph. Ids follow from the names of objects, so that a page that
//! shows one graph may put live counts into it.

/// Picks the rules that share a box.
mod bundle;
/// The graph as JSON.
mod json;
/// Places boxes and edges.
mod layout;
/// Counts of a snapshot.
mod numbers;
/// The graph as SVG.
mod svg;
/// The graph as DOT and as Mermaid.
mod text;
/// Widths of texts.
mod widths;
/// Objects in words.
mod words;

use std::collections::{BTreeMap, HashMap};

use self::bundle::{Bundle, bundles};
use self::layout::{Boxed, Room};
use self::widths::{LINES, NAMES};
use super::value::{Output, Plan};
use tapline_datapath::egresses::Side;
use tapline_datapath::ids::{EditId, GroupId, PortId, ToolId};
use tapline_datapath::work_plan::Target;

pub use self::text::MermaidError;

/// The name and version of the form.
pub const SCHEMA: &str = "tapline.graph/1";
/// Rules that are drawn one by one, unless it is said otherwise.
pub const MOST_RULES: usize = 60;

/// The most of a text that a box shows, in pixels.
const MOST_TEXT: u32 = 250;
/// The most lines that one text of a box is broken into.
const MOST_LINES: usize = 3;
/// The least width of a box, which has room for what was dropped.
const LEAST_WIDTH: u32 = 160;
/// Room for a count beside a name, in pixels.
const COUNT_ROOM: u32 = 64;
/// The parts of a box, in pixels.
const PADDING: u32 = 12;
const NAME_HEIGHT: u32 = 28;
const LINE_HEIGHT: u32 = 15;
/// Room around the picture, and above it for the titles.
const MARGIN: u32 = 24;
const HEAD: u32 = 92;

/// The object that a box stands for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// A port that receives.
    Port,
    /// The ends of tunnels at a port.
    End,
    /// A rule, or several that share a box.
    Rule,
    Group,
    /// The edits of a rule's copies, or of a tool's.
    Edit,
    Tool,
    /// One direction of a wire.
    Wire,
}

impl Kind {
    /// Returns the word for it, which ids begin with.
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Port => "port",
            Kind::End => "end",
            Kind::Rule => "rule",
            Kind::Group => "group",
            Kind::Edit => "edit",
            Kind::Tool => "tool",
            Kind::Wire => "wire",
        }
    }
}

/// The titles of the columns, by layer.
const COLUMNS: [&str; 7] = [
    "ports",
    "tunnel ends",
    "rules, in their order",
    "groups",
    "edits of rules",
    "edits of tools",
    "tools",
];
const EDITS_OF_RULES: usize = 4;
const EDITS_OF_TOOLS: usize = 5;

/// Counts of a box or an edge.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Counts {
    /// Packets, or behind rules copies, that came in; `None`: the statistics do not tell.
    pub packets: Option<u64>,
    /// Those of a second, on an average since the start.
    pub rate: Option<f64>,
    /// Those that went no further, by reason; without the reasons that did not happen.
    pub dropped: BTreeMap<&'static str, u64>,
}

impl Counts {
    /// Returns whether some went no further.
    fn is_lossy(&self) -> bool {
        !self.dropped.is_empty()
    }
}

/// A box.
#[derive(Clone, PartialEq, Debug)]
pub struct Node {
    pub id: String,
    pub kind: Kind,
    pub name: String,
    /// The sentences about it.
    pub says: Vec<String>,
    /// The priorities of the rules that share the box.
    pub rules: Vec<u32>,
    /// It takes nothing: a rule that is switched off, a stopped port, a drained tool.
    pub is_off: bool,
    pub x: u32,
    pub y: u32,
    pub w: u32,
    pub h: u32,
    pub counts: Counts,
    layer: usize,
    /// The lines that `says` is broken into.
    lines: Vec<String>,
}

/// A way of packets from one box to another.
#[derive(Clone, PartialEq, Debug)]
pub struct Edge {
    pub id: String,
    /// Boxes by their places in [`Graph::nodes`].
    pub from: usize,
    pub to: usize,
    /// From the right side of a box to the left side of another: pairs of points, between which columns are passed straight.
    pub points: Vec<(u32, u32)>,
    pub counts: Counts,
}

/// A column of boxes.
#[derive(Clone, PartialEq, Debug)]
pub struct Column {
    pub name: &'static str,
    pub x: u32,
    pub w: u32,
}

/// The picture of a plan.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Graph {
    pub title: String,
    pub width: u32,
    pub height: u32,
    /// Rules of the plan.
    pub rules: usize,
    pub columns: Vec<Column>,
    pub nodes: Vec<Node>,
    pub edges: Vec<Edge>,
    /// The account of the snapshot in words, if there is one.
    pub account: Option<String>,
}

impl Graph {
    /// Draws a plan. If it has more than `most_rules` rules, those share a box that have the same targets and edits.
    pub fn of(plan: &Plan, title: &str, most_rules: usize) -> Self {
        let mut drawing =
            Drawing { plan, graph: Graph::default(), known: HashMap::new(), edges: HashMap::new() };
        drawing.graph.title = title.to_owned();
        drawing.graph.rules = plan.rules.len();
        drawing.draw(&bundles(plan, most_rules));
        let mut graph = drawing.graph;
        graph.lay_out();
        graph
    }

    /// Says how many boxes the rules have, if some share one.
    pub fn bundled(&self) -> Option<String> {
        let boxes = self.nodes.iter().filter(|node| node.kind == Kind::Rule).count();
        let rules = self.rules;
        (boxes < rules)
            .then(|| format!("{rules} rules in {boxes} boxes: those with the same targets share one"))
    }

    /// Sizes the boxes and places everything.
    fn lay_out(&mut self) {
        for node in &mut self.nodes {
            let wrapped = node.says.iter().flat_map(|text| LINES.wrap(text, MOST_TEXT, MOST_LINES));
            node.lines = wrapped.collect();
            let name = NAMES.width(&NAMES.cut(&node.name, MOST_TEXT)) + COUNT_ROOM;
            let widest = node.lines.iter().map(|line| LINES.width(line)).max().unwrap_or_default();
            node.w = (widest.max(name) + 2 * PADDING).max(LEAST_WIDTH);
            let lines = node.lines.len() as u32;
            node.h = NAME_HEIGHT + LINE_HEIGHT * lines + if lines > 0 { 6 } else { 0 };
        }
        let boxes: Vec<Boxed> = self.nodes.iter().map(Node::boxed).collect();
        let edges: Vec<(usize, usize)> = self.edges.iter().map(|edge| (edge.from, edge.to)).collect();
        let placed = layout::place(&boxes, &edges, Room { left: MARGIN, top: HEAD, between: 88 });
        for (node, (x, y, w)) in self.nodes.iter_mut().zip(placed.boxes) {
            (node.x, node.y, node.w) = (x, y, w);
        }
        for (edge, points) in self.edges.iter_mut().zip(placed.edges) {
            edge.points = points;
        }
        let column = |(layer, x, w): (usize, u32, u32)| Column { name: COLUMNS[layer], x, w };
        self.columns = placed.columns.into_iter().map(column).collect();
        self.width = (placed.right + MARGIN).max(480);
        self.height = placed.bottom + MARGIN;
    }
}

impl Node {
    fn new(kind: Kind, id: String, name: &str, says: Vec<String>) -> Self {
        let layer = match kind {
            Kind::Port => 0,
            Kind::End => 1,
            Kind::Rule => 2,
            Kind::Group => 3,
            Kind::Edit => EDITS_OF_RULES,
            Kind::Tool | Kind::Wire => 6,
        };
        Self {
            id,
            kind,
            name: name.to_owned(),
            says,
            rules: Vec::new(),
            is_off: false,
            x: 0,
            y: 0,
            w: 0,
            h: 0,
            counts: Counts::default(),
            layer,
            lines: Vec::new(),
        }
    }

    fn boxed(&self) -> Boxed {
        Boxed { layer: self.layer, w: self.w, h: self.h, keeps_order: self.kind == Kind::Rule }
    }
}

/// Returns the id of an object. Names have letters, digits, `_`, `-` and `.`, so that a colon keeps the parts of longer ids apart.
fn id(kind: Kind, name: &str) -> String {
    format!("{}-{name}", kind.word())
}

/// A graph while its boxes and edges are gathered.
struct Drawing<'a> {
    plan: &'a Plan,
    graph: Graph,
    /// The places of boxes by their ids.
    known: HashMap<String, usize>,
    edges: HashMap<(usize, usize), usize>,
}

/// The box from which a rule's copies go on to their targets.
#[derive(Clone, Copy)]
struct Origin {
    node: usize,
    /// That of the rule's edits, if it has some: copies of a group are edited behind it.
    edits: Option<usize>,
}

impl Drawing<'_> {
    fn node(&mut self, node: Node) -> usize {
        let place = self.graph.nodes.len();
        let known = *self.known.entry(node.id.clone()).or_insert(place);
        if known == place {
            self.graph.nodes.push(node);
        }
        known
    }

    fn edge(&mut self, from: usize, to: usize) {
        let place = self.graph.edges.len();
        if *self.edges.entry((from, to)).or_insert(place) == place {
            let id = format!("{}:{}", self.graph.nodes[from].id, self.graph.nodes[to].id);
            self.graph.edges.push(Edge { id, from, to, points: Vec::new(), counts: Counts::default() });
        }
    }

    fn draw(&mut self, bundles: &[Bundle]) {
        let plan = self.plan;
        for (id, port) in plan.ports.entries() {
            // ports that only send are named by their tools
            let uses = &port.uses;
            if uses.is_taken_from || uses.wire.is_some() || !uses.is_sent_to() {
                self.port(id);
            }
        }
        let rules: Vec<usize> = bundles.iter().map(|bundle| self.rule(bundle)).collect();
        for group in plan.groups.ids() {
            self.group(group);
        }
        for tool in plan.tools.ids() {
            self.tool(tool);
        }
        for (bundle, &rule) in bundles.iter().zip(&rules) {
            for &port in &bundle.sources {
                let source = self.port(port);
                self.edge(source, rule);
            }
            let edits = self.edits_of(bundle);
            for &target in &bundle.targets {
                self.target(Origin { node: rule, edits }, target);
            }
        }
        // what no rule feeds is shown with its members
        for group in plan.groups.ids().filter(|group| !bundles.iter().any(|bundle| bundle.feeds(*group))) {
            let node = self.group(group);
            self.members(node, group);
        }
        self.wires();
    }

    /// Returns the box by which a port's packets come to rules.
    fn port(&mut self, port: PortId) -> usize {
        let plan = &self.plan.ports[port];
        let mut node = Node::new(Kind::Port, id(Kind::Port, &plan.name), &plan.name, words::port(plan));
        node.is_off = plan.is_stopped;
        let node = self.node(node);
        if plan.terminators.is_empty() {
            return node;
        }
        let says = plan.terminators.iter().map(words::terminator).collect();
        let end = self.node(Node::new(Kind::End, id(Kind::End, &plan.name), &plan.name, says));
        self.edge(node, end);
        end
    }

    fn rule(&mut self, bundle: &Bundle) -> usize {
        let rules: Vec<_> = bundle.rules.iter().map(|&rule| &self.plan.rules[rule]).collect();
        let first = rules[0].priority.to_string();
        let (name, says) = match rules[..] {
            [rule] => (first.clone(), words::rule(rule)),
            _ => (format!("{} rules", rules.len()), words::rules(&rules)),
        };
        let mut node = Node::new(Kind::Rule, id(Kind::Rule, &first), &name, says);
        node.rules = rules.iter().map(|rule| rule.priority).collect();
        node.is_off = rules.iter().all(|rule| !rule.is_enabled);
        self.node(node)
    }

    fn group(&mut self, group: GroupId) -> usize {
        let name = &self.plan.groups[group].name;
        let says = words::group(&self.plan.work.groups[group], self.plan);
        self.node(Node::new(Kind::Group, id(Kind::Group, name), name, says))
    }

    /// Returns the box by which copies come to a tool: its own edits', or its own.
    fn tool(&mut self, tool: ToolId) -> usize {
        let plan = &self.plan.tools[tool];
        let says = words::tool(plan, self.plan);
        let mut node = Node::new(Kind::Tool, id(Kind::Tool, &plan.name), &plan.name, says);
        let is_stopped = matches!(plan.output, Output::Port(port) if self.plan.ports[port].is_stopped);
        node.is_off = plan.is_drained || is_stopped;
        let node = self.node(node);
        let Some(edits) = plan.copy.edits else { return node };
        let says = words::edits(self.plan.work.edits[edits].edits());
        let name = format!("tool {}", plan.name);
        let mut edits = Node::new(Kind::Edit, id(Kind::Edit, &format!("tool-{}", plan.name)), &name, says);
        edits.layer = EDITS_OF_TOOLS;
        let edits = self.node(edits);
        self.edge(edits, node);
        edits
    }

    /// Returns the box of the edits of a bundle's rules.
    fn edits_of(&mut self, bundle: &Bundle) -> Option<usize> {
        let rule = &self.plan.rules[bundle.rules[0]];
        if !rule.has_edits() || bundle.targets.is_empty() {
            return None;
        }
        let said = |id: Option<EditId>| id.map(|id| words::edits(self.plan.work.edits[id].edits()));
        let mut says = said(rule.edits).unwrap_or_default();
        if let Some(duplicates) = said(rule.duplicate_edits) {
            says.push(format!("duplicates: {}", duplicates.join(", ")));
        }
        let name = match bundle.rules.len() {
            1 => format!("rule {}", rule.priority),
            count => format!("{count} rules from {}", rule.priority),
        };
        let id = id(Kind::Edit, &format!("rule-{}", rule.priority));
        Some(self.node(Node::new(Kind::Edit, id, &name, says)))
    }

    fn target(&mut self, origin: Origin, target: Target) {
        match target {
            Target::Tool(tool) => {
                let to = self.tool(tool);
                let from = origin.edits.unwrap_or(origin.node);
                if from != origin.node {
                    self.edge(origin.node, from);
                }
                self.edge(from, to);
            }
            Target::Group(group) => {
                let node = self.group(group);
                self.edge(origin.node, node);
                if let Some(edits) = origin.edits {
                    self.edge(node, edits);
                }
                self.members(origin.edits.unwrap_or(node), group);
            }
        }
    }

    fn members(&mut self, from: usize, group: GroupId) {
        let plan = self.plan;
        for &tool in &plan.work.groups[group].members {
            let to = self.tool(tool);
            self.edge(from, to);
        }
    }

    /// Draws the originals' ways over wires.
    fn wires(&mut self) {
        for wire in &self.plan.wires {
            for (side, way) in Side::ALL.into_iter().zip(["a-to-b", "b-to-a"]) {
                let name = format!("{} {way}", wire.name);
                let id = id(Kind::Wire, &format!("{}-{way}", wire.name));
                let beyond = &self.plan.ports[wire.port(side.other())].name;
                let bypass = if wire.is_bypass { ", bypass" } else { "" };
                let says = vec![format!("originals leave by port {beyond}{bypass}")];
                let node = self.node(Node::new(Kind::Wire, id, &name, says));
                let port = self.port(wire.port(side));
                self.edge(port, node);
            }
        }
    }
}
