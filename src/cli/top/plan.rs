//! Reads the text of a plan, which says more than numbers do: which port a tool sends by, what a rule does.

use std::collections::BTreeMap;

/// The commands of a plan, as `show config` prints them: one a line.
#[derive(Default, Debug)]
pub(super) struct PlanText {
    /// The first digits of its hash; empty where no plan is known.
    pub(super) hash: String,
    pub(super) id: u64,
    tool_ports: BTreeMap<String, String>,
    rules: BTreeMap<String, String>,
    port_lcores: BTreeMap<String, String>,
}

impl PlanText {
    pub(super) fn new(id: u64, hash: &str, text: &str) -> Self {
        let mut plan = Self { hash: hash.chars().take(7).collect(), id, ..Self::default() };
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["tool", "create", name, "port", port, ..] => {
                    plan.tool_ports.insert((*name).to_owned(), (*port).to_owned());
                }
                ["rule", "create", priority, ..] => {
                    let does =
                        line.trim_start()["rule create ".len()..].trim_start().trim_start_matches(priority);
                    plan.rules.insert((*priority).to_owned(), does.trim_start().to_owned());
                }
                ["port", "attach", name, _, keys @ ..] => {
                    if let Some(at) = keys.iter().position(|&key| key == "lcores") {
                        let lcores = keys.get(at + 1).copied().unwrap_or_default();
                        plan.port_lcores.insert((*name).to_owned(), lcores.to_owned());
                    }
                }
                _ => {}
            }
        }
        plan
    }

    /// Returns the port that a tool sends by, if it sends by one.
    pub(super) fn port_of(&self, tool: &str) -> Option<&str> {
        self.tool_ports.get(tool).map(String::as_str)
    }

    /// Returns the lcores that poll a port, where the plan says so.
    pub(super) fn lcores_of(&self, port: &str) -> Option<&str> {
        self.port_lcores.get(port).map(String::as_str)
    }

    /// Returns what a rule does, in the words of the language.
    pub(super) fn rule(&self, priority: &str) -> &str {
        self.rules.get(priority).map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_tools_and_words_of_rules_are_found() {
        let text = "port attach in net_null0 rxq 2 lcores 1-2\ntool create ids port out0 queue 64\ntool create trash discard\n\
                    rule create 10 from in match \"tcp port 10\" to ids\nstart\n";
        let plan = PlanText::new(3, "c81ba09093cf", text);
        assert_eq!((plan.port_of("ids"), plan.port_of("trash")), (Some("out0"), None));
        assert_eq!(plan.rule("10"), "from in match \"tcp port 10\" to ids");
        assert_eq!((plan.lcores_of("in"), plan.lcores_of("out0")), (Some("1-2"), None));
        assert_eq!(plan.hash, "c81ba09");
    }
}
