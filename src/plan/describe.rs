//! A plan in words, as `show plan` and `show filters` print it.

use std::path::Path;

use super::value::{Output, Plan};
use tapline_datapath::work_plan::{Target, Verdict};

/// Says which filters have names, a line each.
pub fn filters(plan: &Plan) -> String {
    if plan.filters.is_empty() {
        return "no filter has a name; `show plan` shows those of rules\n".to_owned();
    }
    plan.filters.iter().map(|filter| format!("filter {}: {}\n", filter.name, filter.words)).collect()
}

/// Says what a plan has, a line each: ports, wires, tools, groups, named filters and, in their order, rules.
pub fn plan(plan: &Plan) -> String {
    let mut out = String::new();
    for port in &plan.ports {
        out += &format!("port {}: {}\n", port.name, port.devargs);
    }
    for wire in &plan.wires {
        let [a, b] = wire.ports.map(|port| plan.ports[port].name.as_str());
        let bypass = if wire.is_bypass { " bypass" } else { "" };
        let link = if wire.propagates_link { " propagate-link" } else { "" };
        out += &format!("wire {}: ports {a},{b}{bypass}{link}\n", wire.name);
    }
    for tool in &plan.tools {
        match tool.output {
            Output::Port(port) => {
                out +=
                    &format!("tool {}: port {}, queue {}\n", tool.name, plan.ports[port].name, tool.queue)
            }
            Output::Capture => {
                let path = tool.capture.as_deref().unwrap_or(Path::new("")).display();
                out += &format!("tool {}: capture {path}, queue {}\n", tool.name, tool.queue);
            }
            Output::Discard => out += &format!("tool {}: discard\n", tool.name),
        }
    }
    for (group, work) in plan.groups.iter().zip(&plan.work.groups) {
        let members = work.members.iter().zip(&work.spec.weights);
        let words: Vec<String> =
            members.map(|(&tool, weight)| format!("{} ({weight})", plan.tools[tool].name)).collect();
        out += &format!("group {}: {}\n", group.name, words.join(", "));
    }
    if !plan.filters.is_empty() {
        out += &filters(plan);
    }
    for rule in &plan.rules {
        let sources: Vec<&str> = rule.sources.iter().map(|&port| plan.ports[port].name.as_str()).collect();
        let targets = rule.targets.iter().map(|&target| match target {
            Target::Tool(tool) => plan.tools[tool].name.as_str(),
            Target::Group(group) => plan.groups[group].name.as_str(),
        });
        let words = if rule.words.is_empty() { String::new() } else { format!(" {}", rule.words) };
        let end = match rule.verdict {
            Verdict::Continue => "",
            Verdict::Final => " final",
            Verdict::Drop => " drop",
        };
        let to: Vec<&str> = targets.collect();
        let to = if to.is_empty() { String::new() } else { format!(" to {}", to.join(",")) };
        out += &format!("rule {} from {}{words}{to}{end}\n", rule.priority, sources.join(","));
    }
    out
}
