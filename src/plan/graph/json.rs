//! The graph as JSON, `tapline.graph/1`.

use serde_json::{Value, json};

use super::{Counts, Edge, Graph, Node, SCHEMA};

fn with_counts(mut object: Value, counts: &Counts) -> Value {
    object["packets"] = json!(counts.packets);
    object["rate"] = json!(counts.rate);
    object["dropped"] = json!(counts.dropped);
    object
}

fn node(node: &Node) -> Value {
    let Node { id, kind, name, says, rules, is_off, x, y, w, h, counts, .. } = node;
    let object = json!({
        "id": id, "kind": kind.word(), "name": name, "says": says, "rules": rules, "off": is_off,
        "x": x, "y": y, "w": w, "h": h,
    });
    with_counts(object, counts)
}

impl Graph {
    /// Returns the graph as a JSON object.
    pub fn json(&self) -> Value {
        let edge = |edge: &Edge| {
            let (from, to) = (&self.nodes[edge.from].id, &self.nodes[edge.to].id);
            let object = json!({ "id": edge.id, "from": from, "to": to, "points": edge.points });
            with_counts(object, &edge.counts)
        };
        let columns =
            self.columns.iter().map(|column| json!({ "name": column.name, "x": column.x, "w": column.w }));
        json!({
            "schema": SCHEMA,
            "title": self.title,
            "width": self.width,
            "height": self.height,
            "rules": self.rules,
            "bundled": self.bundled(),
            "account": self.account,
            "columns": columns.collect::<Vec<_>>(),
            "nodes": self.nodes.iter().map(node).collect::<Vec<_>>(),
            "edges": self.edges.iter().map(edge).collect::<Vec<_>>(),
        })
    }
}
