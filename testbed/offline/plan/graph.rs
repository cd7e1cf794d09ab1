//! The picture of a plan: its geometry by rules that a reader has of pictures, its forms by the programs that read them.
//!
//! `TAPLINE_BLESS=1 cargo test --test offline graph::golden` writes the expected texts anew: look at the pictures before you keep them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use serde_json::Value;
use tapline::plan::graph::{Graph, Kind, MermaidError, Node};
use tapline_harness::judges::assert_expected;
use tapline_harness::programs::{has_program, repository, run_in, tapline};

use super::pipelines::{pipeline, text_of};
use super::{pipeline_files, planned};

/// A pipeline of everything that has a box.
const RICH: &str = include_str!("graph/rich.pipe");

/// A pipeline of `rules` rules to 12 tools and two groups.
fn many(rules: usize) -> String {
    let mut text = String::new();
    for tap in 0..4 {
        text += &format!("port attach tap{tap} net_null{tap}\n");
    }
    for tool in 0..12 {
        text += &format!("port attach out{tool} net_null{} rxq 0\n", 10 + tool);
        text += &format!("tool create tool{tool} port out{tool}\n");
    }
    text += "group create ids tools tool0,tool1,tool2,tool3 hash symmetric\n";
    text += "group create ndr tools tool4,tool5 weights 3,1\n";
    let targets = ["ids", "ndr", "tool6", "tool7,ids", "tool8", "tool9", "tool10,tool11", "ids,ndr"];
    for rule in 0..rules {
        let edits = if rule % 16 == 3 { " slice 128" } else { "" };
        let end = if rule % 3 == 0 { " final" } else { "" };
        let fate = match rule % 25 {
            24 => " drop".to_owned(),
            _ => format!("{edits} to {}{end}", targets[rule % targets.len()]),
        };
        let (priority, tap, port) = (10 * (rule + 1), rule % 4, 1000 + rule);
        text += &format!("rule create {priority} from tap{tap} match \"tcp port {port}\"{fate}\n");
    }
    text
}

fn drawn(text: &str, most_rules: usize) -> Graph {
    Graph::of(&planned(text), "test.pipe", most_rules)
}

/// The pipelines that all forms are judged with, by name.
fn examples() -> BTreeMap<String, Graph> {
    let mut graphs = BTreeMap::new();
    for path in pipeline_files().iter().filter(|path| path.parent() == Some(&repository_pipelines())) {
        let text = std::fs::read_to_string(path).expect("a pipeline file");
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        graphs.insert(name, drawn(&text, 60));
    }
    assert!(graphs.len() >= 8, "{:?}", graphs.keys());
    graphs.insert("rich".to_owned(), drawn(RICH, 60));
    graphs.insert("300 rules".to_owned(), drawn(&many(300), 60));
    graphs.insert("300 rules, each by itself".to_owned(), drawn(&many(300), 300));
    graphs
}

fn repository_pipelines() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines")
}

fn is_apart(a: &Node, b: &Node) -> bool {
    a.x + a.w <= b.x || b.x + b.w <= a.x || a.y + a.h <= b.y || b.y + b.h <= a.y
}

/// Boxes lie inside the picture and apart; edges go from the right side of a box to the left side of a later one, and through none.
fn assert_is_drawn_well(graph: &Graph) {
    let nodes = &graph.nodes;
    let ids: BTreeSet<&String> =
        nodes.iter().map(|node| &node.id).chain(graph.edges.iter().map(|edge| &edge.id)).collect();
    assert_eq!(ids.len(), nodes.len() + graph.edges.len(), "an id is used twice");
    for (index, node) in nodes.iter().enumerate() {
        assert!(node.x + node.w <= graph.width && node.y + node.h <= graph.height, "{node:?} is outside");
        for other in &nodes[..index] {
            assert!(is_apart(node, other), "{node:?} lies on {other:?}");
        }
    }
    let priorities: Vec<u32> = {
        let mut rules: Vec<&Node> = nodes.iter().filter(|node| node.kind == Kind::Rule).collect();
        rules.sort_by_key(|node| node.y);
        rules.iter().map(|node| node.rules[0]).collect()
    };
    assert!(priorities.is_sorted(), "rules stand in another order than they are tried in: {priorities:?}");
    for edge in &graph.edges {
        let (from, to) = (&nodes[edge.from], &nodes[edge.to]);
        let (&first, &last) = (edge.points.first().expect("a begin"), edge.points.last().expect("an end"));
        assert!(first.0 == from.x + from.w && (from.y..=from.y + from.h).contains(&first.1), "{edge:?}");
        assert!(last.0 == to.x && (to.y..=to.y + to.h).contains(&last.1), "{edge:?}");
        assert!(edge.points.is_sorted_by(|a, b| a.0 < b.0), "{edge:?} goes back");
        for passed in edge.points[1..edge.points.len() - 1].chunks(2) {
            assert_eq!(passed[0].1, passed[1].1, "{edge:?} is straight in a column");
        }
        // where it bends, no box has a part: all boxes of a column begin and end with it
        for pair in edge.points.windows(2) {
            let [(left, a), (right, b)] = [pair[0], pair[1]];
            let lies = |node: &&Node| {
                left < node.x + node.w
                    && node.x < right
                    && a.min(b) <= node.y + node.h
                    && node.y <= a.max(b)
            };
            assert_eq!(nodes.iter().find(lies), None, "{edge:?} goes through it");
        }
    }
}

proptest! {
    #[test]
    fn boxes_are_apart_and_edges_lead_from_box_to_box(objects in pipeline(), most in 0..8usize) {
        let text = text_of(&objects);
        let graph = drawn(&text, most);
        assert_is_drawn_well(&graph);
        let again = drawn(&text, most);
        prop_assert_eq!(graph.svg(), again.svg());
        prop_assert_eq!(graph.json(), again.json());
        // each tool and each group has a box, and each rule is in one
        let count = |word: &str| text.lines().filter(|line| line.starts_with(word)).count();
        let boxes = |kind: Kind| graph.nodes.iter().filter(move |node| node.kind == kind);
        prop_assert_eq!(boxes(Kind::Tool).count(), count("tool create"));
        prop_assert_eq!(boxes(Kind::Group).count(), count("group create"));
        prop_assert_eq!(boxes(Kind::Wire).count(), 2 * count("wire create"));
        prop_assert_eq!(boxes(Kind::Rule).map(|node| node.rules.len()).sum::<usize>(), count("rule create"));
    }

    #[test]
    fn pictures_of_hundreds_of_rules_are_drawn_well(rules in 1..200usize, most in 0..200usize) {
        let graph = drawn(&many(rules), most);
        assert_is_drawn_well(&graph);
        prop_assert_eq!(graph.bundled().is_some(), graph.nodes.iter().any(|node| node.rules.len() > 1));
        prop_assert!(rules > most || graph.bundled().is_none());
    }
}

#[test]
fn examples_are_drawn_well() {
    examples().values().for_each(assert_is_drawn_well);
}

#[test]
fn rules_are_bundled_beyond_the_number_and_it_is_said() {
    let graph = drawn(&many(300), 60);
    assert!(graph.nodes.iter().filter(|node| node.kind == Kind::Rule).count() <= 12);
    let said = graph.bundled().expect("a word about it");
    assert!(
        said.starts_with("300 rules in ") && graph.svg().contains(&said) && graph.dot().contains(&said)
    );
    assert_eq!(graph.json()["bundled"], said);
    assert_eq!(drawn(&many(60), 60).bundled(), None);
}

/// The ways of copies, from each rule to each tool, by edges and by the plan.
#[test]
fn ways_lead_from_each_rule_to_its_tools() {
    for text in [RICH.to_owned(), many(40)] {
        let (graph, plan) = (drawn(&text, 60), planned(&text));
        let place = |id: &str| graph.nodes.iter().position(|node| node.id == id).expect("a box");
        for rule in &plan.rules {
            let (mut reached, mut next) =
                (BTreeSet::new(), vec![place(&format!("rule-{}", rule.priority))]);
            while let Some(node) = next.pop() {
                if reached.insert(node) {
                    next.extend(graph.edges.iter().filter(|edge| edge.from == node).map(|edge| edge.to));
                }
            }
            let tools: BTreeSet<&str> = reached
                .iter()
                .map(|&node| &graph.nodes[node])
                .filter(|node| node.kind == Kind::Tool)
                .map(|node| node.name.as_str())
                .collect();
            let expected: BTreeSet<&str> =
                plan.tools_of(&rule.targets).map(|tool| plan.tools[tool].name.as_str()).collect();
            assert!(tools.is_superset(&expected), "rule {}: {tools:?}, not {expected:?}", rule.priority);
            // edits of a rule lead nowhere that the rule does not
            let only = reached.iter().filter(|&&node| graph.nodes[node].kind == Kind::Edit).count() > 0;
            assert!(only || tools == expected, "rule {}: {tools:?}, not {expected:?}", rule.priority);
            let edits = place_of(&graph, &format!("edit-rule-{}", rule.priority));
            assert_eq!(edits.is_some(), rule.has_edits(), "rule {}", rule.priority);
        }
    }
}

fn place_of(graph: &Graph, id: &str) -> Option<usize> {
    graph.nodes.iter().position(|node| node.id == id)
}

#[test]
fn graphviz_takes_the_dot() {
    if !has_program("dot") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    for (name, graph) in examples() {
        std::fs::write(folder.path().join("graph.dot"), graph.dot()).expect("a file");
        // `plain` has a line for each node and each edge
        let plain = run_in(folder.path(), "dot", &["-Tplain", "graph.dot"]);
        let count = |word: &str| plain.lines().filter(|line| line.starts_with(word)).count();
        assert_eq!((count("node "), count("edge ")), (graph.nodes.len(), graph.edges.len()), "{name}");
    }
}

/// Reads the SVG, checks that ids are unique and that titles are there, and prints them.
const SVG_JUDGE: &str = "
import sys, xml.etree.ElementTree as ET
root = ET.parse(sys.argv[1]).getroot()
ns = '{http://www.w3.org/2000/svg}'
ids = [e.get('id') for e in root.iter() if e.get('id')]
assert len(ids) == len(set(ids)), 'an id is used twice'
assert root.get('role').split() == ['graphics-document', 'document']
assert all(name in ids for name in root.get('aria-labelledby').split())
for g in root.iter(ns + 'g'):
    assert g.find(ns + 'title').text, g.get('id')
    kind = g.get('class').split()[0]
    if kind == 'edge':
        assert g.get('data-from') in ids and g.get('data-to') in ids
    print(kind, g.get('id'))
";

#[test]
fn the_svg_is_well_formed_and_has_what_the_json_has() {
    if !has_program("python3") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let has_xml =
        Command::new("python3").args(["-c", "import xml.etree.ElementTree"]).output().expect("it starts");
    if !has_xml.status.success() {
        tapline_skip::skipped("python3 has no xml.etree");
        return;
    }
    for (name, graph) in examples() {
        std::fs::write(folder.path().join("graph.svg"), graph.svg()).expect("a file");
        let found: BTreeSet<String> = run_in(folder.path(), "python3", &["-c", SVG_JUDGE, "graph.svg"])
            .lines()
            .map(str::to_owned)
            .collect();
        let json = graph.json();
        let ids = |of: &str, word: &str| -> Vec<String> {
            let objects = json[of].as_array().expect("a list");
            objects
                .iter()
                .map(|object| format!("{word} {}", object["id"].as_str().expect("an id")))
                .collect()
        };
        let expected: BTreeSet<String> =
            ids("nodes", "node").into_iter().chain(ids("edges", "edge")).collect();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn jq_reads_the_json() {
    if !has_program("jq") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    for (name, graph) in examples() {
        std::fs::write(folder.path().join("graph.json"), graph.json().to_string()).expect("a file");
        // edges name nodes, and sides of boxes are where they end
        let program = r#"(.nodes | INDEX(.id)) as $n | .schema == "tapline.graph/1" and ([.edges[] | (.points | first) as $a
            | (.points | last) as $b | $n[.from] as $f | $n[.to] as $t | $a[0] == $f.x + $f.w and $b[0] == $t.x] | all)"#;
        assert_eq!(run_in(folder.path(), "jq", &[program, "graph.json"]).trim(), "true", "{name}");
    }
}

/// Asserts that each line is of the part of Mermaid's grammar that graphs are written in: letters in quotes are those that it takes for
/// themselves, and references. Mermaid's own parser is a package of npm of 84 MB, which tests do not fetch.
fn assert_is_mermaid(text: &str) {
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("flowchart LR"));
    let is_node = |word: &str| word.strip_prefix('n').is_some_and(|rest| rest.parse::<usize>().is_ok());
    let is_quoted = |text: &str| {
        let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        let plain = |c: char| c.is_alphanumeric() || " -_.,:/()=+…#;\u{fffd}".contains(c);
        inner.is_some_and(|inner| inner.replace("<br/>", "").chars().all(plain))
    };
    for line in lines {
        let is_right = if line.starts_with("%% ") {
            !line.contains(['{', '}'])
        } else if let Some((from, rest)) = line.split_once(" -->") {
            let (label, to) = rest.rsplit_once(' ').expect("a node behind the arrow");
            let label =
                label.strip_prefix('|').map_or(label, |label| label.strip_suffix('|').expect("a bar"));
            is_node(from) && is_node(to) && (label.is_empty() || is_quoted(label))
        } else if let Some(rest) = line.strip_prefix("linkStyle ") {
            rest.strip_suffix(" stroke:#c8102e").is_some_and(|number| number.parse::<usize>().is_ok())
        } else {
            let (node, label) = line.split_once('[').expect("a node");
            is_node(node) && is_quoted(label.strip_suffix(']').expect("an end"))
        };
        assert!(is_right, "{line}");
    }
}

#[test]
fn mermaid_stays_in_its_bounds() {
    for (name, graph) in examples().into_iter().filter(|(name, _)| !name.contains("each")) {
        let text = graph.mermaid().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_is_mermaid(&text);
        assert!(text.chars().count() < 50_000 && graph.edges.len() < 500);
        let arrows = text.lines().filter(|line| line.contains(" -->")).count();
        assert_eq!(arrows, graph.edges.len(), "{name}");
    }
    let refused = drawn(&many(300), 300).mermaid();
    assert!(matches!(refused, Err(MermaidError::Edges(500..) | MermaidError::Letters(_))), "{refused:?}");
}

#[test]
fn texts_are_no_markup() {
    let text = "port attach p \"net_pcap0,rx_pcap=a<b>&'c'.pcap\"\ntool create t discard\n\
                rule create 1 from p match \"tcp[0] & 1 < 2 or tcp[1] > 5\" to t\n";
    let graph = Graph::of(&planned(text), "a\"b<c>{d}\\\u{1}.pipe", 60);
    let svg = graph.svg();
    assert!(
        svg.contains("&lt; 2 or") && svg.contains("a&lt;b&gt;&amp;") && !svg.contains('\u{1}'),
        "{svg}"
    );
    assert_is_mermaid(&graph.mermaid().expect("a small graph"));
    if has_program("dot") && has_program("xmllint") {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("graph.dot"), graph.dot()).expect("a file");
        std::fs::write(folder.path().join("graph.svg"), svg).expect("a file");
        run_in(folder.path(), "xmllint", &["--noout", "graph.svg"]);
        assert!(run_in(folder.path(), "dot", &["-Tplain", "graph.dot"]).contains("tcp[0] & 1 < 2 or"));
    }
}

/// Names may look like ids of other objects.
#[test]
fn ids_are_told_apart() {
    let text = "port attach p net_null0\ntool create b discard\ntool create b.packets discard\n\
                tool create b--tool-c discard\ntool create c discard\ntool create tool-c discard\n\
                group create a tools b--tool-c,b\ngroup create a--tool-b tools c,tool-c\n\
                rule create 1 from p slice 64 to a,a--tool-b,b.packets\n";
    let graph = drawn(text, 60);
    assert_is_drawn_well(&graph);
    let svg = graph.svg();
    let mut ids: Vec<&str> =
        svg.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

#[test]
fn golden() {
    let demo = std::fs::read_to_string(repository().join("pipelines/demo.pipe")).expect("the demo");
    let demo = Graph::of(&planned(&demo), "demo.pipe", 60);
    let many = drawn(&many(300), 60);
    let pretty = |graph: &Graph| format!("{:#}\n", graph.json());
    let texts = [
        ("demo.svg", demo.svg()),
        ("demo.dot", demo.dot()),
        ("demo.mmd", demo.mermaid().expect("a small graph")),
        ("demo.json", pretty(&demo)),
        ("rules.json", pretty(&many)),
        ("rich.json", pretty(&drawn(RICH, 60))),
    ];
    for (name, found) in texts {
        assert_expected(&format!("testbed/offline/plan/graph/{name}"), &found);
    }
}

/// A statistics line of the demo with numbers that are put in by hand.
#[test]
fn counts_stand_where_the_statistics_tell() {
    let line = include_str!("graph/demo.stats.json");
    let snapshot = serde_json::from_str(line).expect("tapline.stats/1");
    let demo = std::fs::read_to_string(repository().join("pipelines/demo.pipe")).expect("the demo");
    let mut graph = Graph::of(&planned(&demo), "demo.pipe", 60);
    assert_eq!(graph.count(&snapshot), Vec::<String>::new());
    let line: Value = serde_json::from_str(line).expect("JSON");
    let json = graph.json();
    let find = |of: &str, id: &str| -> Value {
        let objects = json[of].as_array().expect("a list");
        objects.iter().find(|object| object["id"] == id).unwrap_or_else(|| panic!("no {id}")).clone()
    };
    for (tool, entry) in line["tools"].as_object().expect("tools") {
        let node = find("nodes", &format!("tool-{tool}"));
        assert_eq!(node["packets"], entry["requested"], "{tool}");
        let happened =
            entry["dropped"].as_object().expect("reasons").iter().filter(|(_, count)| **count != 0);
        assert!(happened.eq(node["dropped"].as_object().expect("reasons").iter()), "{tool}");
    }
    let dropped = find("edges", "group-ids:tool-ids-a");
    assert_eq!(dropped["packets"], line["tools"]["ids-a"]["requested"]);
    assert_eq!(dropped["dropped"]["congested"], 12);
    assert_eq!(find("edges", "port-span0:rule-20")["packets"], line["rules"]["20"]["matched"]);
    let svg = graph.svg();
    assert!(
        svg.contains("dropped 12 congested")
            && svg.contains("class=\"edge lossy\" id=\"group-ids:tool-ids-a\"")
    );
    assert_eq!(svg.matches("class=\"edge lossy\"").count(), 1);
    assert!(svg.contains("1741 packets in"), "{svg}");
    assert_is_mermaid(&graph.mermaid().expect("a small graph"));
}

/// The program in a folder of its own: exit status, standard output and standard error.
fn program(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output =
        Command::new(tapline()).arg("graph").args(arguments).current_dir(folder).output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_program_writes_the_form_that_is_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let read = |name: &str| std::fs::read_to_string(at(name)).expect("a file");
    std::fs::write(at("test.pipe"), many(70)).expect("a file");
    let graph = drawn(&many(70), 60);
    let bundled = graph.bundled().expect("more rules than are drawn one by one");
    let note = format!("note: {bundled}; --rules 70 draws each by itself\n");
    let run = |arguments: &[&str]| program(folder.path(), &[&["test.pipe"], arguments].concat());
    assert_eq!(run(&[]), (Some(0), graph.svg(), note.clone()));
    assert_eq!(run(&["--format", "dot"]), (Some(0), graph.dot(), note.clone()));
    for (name, expected) in
        [("a.svg", graph.svg()), ("a.dot", graph.dot()), ("a.json", format!("{:#}\n", graph.json()))]
    {
        assert_eq!(run(&["-o", name]), (Some(0), String::new(), note.clone()));
        assert_eq!(read(name), expected);
    }
    assert_eq!(run(&["--rules", "70", "-o", "b.mmd"]), (Some(0), String::new(), String::new()));
    assert_eq!(read("b.mmd"), drawn(&many(70), 70).mermaid().expect("a small graph"));
    let (status, _, said) = run(&["-o", "a.png"]);
    assert_eq!((status, said.contains(".svg, .dot, .mmd or .json")), (Some(2), true), "{said}");
    let (status, _, said) = run(&["-o", "no/such/folder.svg"]);
    assert!(status != Some(0) && said.contains("no/such/folder.svg"), "{said}");
    let (status, _, said) = run(&["-o", "test.pipe", "--format", "svg"]);
    assert!(status == Some(2) && read("test.pipe") == many(70), "{said}");
    std::fs::write(at("bad.pipe"), "tool create a discard\nrule create 1 from nowhere to a\n")
        .expect("a file");
    let (status, printed, said) = program(folder.path(), &["bad.pipe", "-o", "bad.svg"]);
    assert_eq!((status, printed.as_str(), said.contains("bad.pipe:2:")), (Some(2), "", true), "{said}");
    assert!(!at("bad.svg").exists());
}

#[test]
fn the_program_opens_nothing_of_the_plan() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("rich.pipe"), RICH).expect("a file");
    let (status, _, said) = program(folder.path(), &["rich.pipe", "-o", "rich.json"]);
    assert_eq!(status, Some(0), "{said}");
    let left: BTreeSet<_> = folder
        .path()
        .read_dir()
        .expect("a folder")
        .map(|entry| entry.expect("a file").file_name())
        .collect();
    assert_eq!(left, ["rich.json", "rich.pipe"].map(Into::into).into(), "the capture tool has made a file");
}

#[test]
fn the_program_takes_the_last_whole_line_of_statistics() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let demo = repository().join("pipelines/demo.pipe");
    let demo = demo.to_str().expect("a readable path");
    let line = include_str!("graph/demo.stats.json");
    // the file of a run that goes on: an earlier line, the last one, and the begin of the next
    let earlier = line.replace("1741", "17");
    std::fs::write(at("stats"), format!("{earlier}{line}{}", &line[..100])).expect("a file");
    let (status, printed, _) = program(folder.path(), &[demo, "--stats", "stats", "--format", "json"]);
    let json: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!((status, json["nodes"][0]["packets"].as_u64()), (Some(0), Some(1741)));
    for (content, why) in
        [("", "it is empty"), ("{}\n", "no tapline.stats/1"), ("\u{0}\n", "no tapline.stats/1")]
    {
        std::fs::write(at("stats"), content).expect("a file");
        let (status, printed, said) = program(folder.path(), &[demo, "--stats", "stats"]);
        assert!(status == Some(2) && printed.is_empty() && said.contains(why), "{said}");
    }
    let (status, _, said) =
        program(folder.path(), &[demo, "--stats", "stats", "-o", "./stats", "--format", "svg"]);
    assert!(status == Some(2) && said.contains("the same file"), "{said}");
    assert_eq!(std::fs::read(at("stats")).expect("a file"), b"\0\n", "what was read is there");
    // of another file
    std::fs::write(at("stats"), line).expect("a file");
    std::fs::write(
        at("other.pipe"),
        "port attach x net_null0\ntool create y discard\nrule create 1 from x to y\n",
    )
    .expect("a file");
    let (status, _, said) = program(folder.path(), &["other.pipe", "--stats", "stats"]);
    let expected = "warning: --stats stats has nothing of port x, rule 1, tool y: is it of another file?\n";
    assert_eq!((status, said.as_str()), (Some(0), expected));
}
