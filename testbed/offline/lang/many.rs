//! Files of thousands of filters and rules are planned, and of each rule the same is said as of few.
//!
//! Needs nothing.

use std::fmt::Write;

use proptest::prelude::*;
use tapline::plan::{Plan, Surroundings, plan};
use tapline_datapath::ids::RuleId;
use tapline_lang::{self as lang, Parsed};

const HEAD: &str =
    "port attach a net_null0\nport attach b net_null1\nport attach c net_null2\ntool create t discard\n";

fn planned(text: &str) -> (Option<Plan>, Parsed) {
    let mut parsed = lang::parse_text("many.pipe", text, &[]);
    let plan = plan(&mut parsed, &Surroundings::fixed());
    (plan, parsed)
}

/// Of no other rule of a file.
fn filter(index: usize) -> String {
    format!(
        "\"host 10.{}.{}.{} and tcp port {}\"",
        index >> 16 & 255,
        index >> 8 & 255,
        index & 255,
        1000 + index
    )
}

#[test]
fn thousands_of_named_filters_are_accepted_whatever_becomes_of_them() {
    const COUNT: usize = 4000;
    let mut text = HEAD.to_owned();
    for index in 0..COUNT {
        writeln!(text, "filter create f{index} {}", filter(index)).unwrap();
    }
    for index in 0..COUNT {
        writeln!(text, "rule create {} from a,b,c match f{index} to t", index + 1).unwrap();
    }
    for index in (0..COUNT).step_by(2) {
        writeln!(text, "filter modify f{index} {}", filter(COUNT + index)).unwrap();
    }
    // the last one, and one that comes again in another place
    writeln!(
        text,
        "rule destroy {COUNT}\nfilter destroy f{}\nfilter destroy f7\nfilter create f7 \"udp\"",
        COUNT - 1
    )
    .unwrap();
    let (plan, parsed) = planned(&text);
    assert!(parsed.diagnostics.is_empty(), "{}", parsed.diagnostics.render(&parsed.sources));
    let plan = plan.expect("a file without mistakes");
    assert_eq!((plan.rules.len(), plan.rules[RuleId(7)].words.as_str()), (COUNT - 1, "match f7"));
}

#[test]
fn names_of_filters_are_of_one_and_mistakes_in_them_are_told() {
    let text = format!(
        "{HEAD}filter create web \"tcp port 80\"\nfilter create web \"udp\"\nfilter modify wbe \"udp\"\nfilter destroy web\n\
         filter destroy web\nrule create 1 from a,b,c match web to t\n"
    );
    let (plan, parsed) = planned(&text);
    assert!(plan.is_none());
    let said = parsed.diagnostics.render(&parsed.sources);
    for expected in [
        "many.pipe:6:15: error: filter `web` is defined already",
        "many.pipe:7:15: error: unknown filter `wbe`",
        "a filter with a similar name exists: `web` (line 5)",
        "many.pipe:9:16: error: unknown filter `web`",
        "many.pipe:10:32: error: unknown filter `web`",
    ] {
        assert_eq!(said.matches(expected).count(), 1, "{expected} in\n{said}");
    }
}

#[test]
fn thousands_of_rules_that_end_the_search_are_accepted_and_shadows_among_them_found() {
    const COUNT: usize = 4000;
    let mut text = HEAD.to_owned();
    for index in 0..COUNT {
        let verdict = if index % 2 == 0 { "drop" } else { "to t final" };
        writeln!(text, "rule create {} from a,b,c match {} {verdict}", index + 1, filter(index)).unwrap();
    }
    writeln!(text, "rule create 9999 from b match {} to t", filter(COUNT - 1)).unwrap();
    let (plan, parsed) = planned(&text);
    assert_eq!(plan.expect("a file without mistakes").rules.len(), COUNT + 1);
    let said = parsed.diagnostics.render(&parsed.sources);
    assert_eq!(parsed.diagnostics.warnings(), 1, "{said}");
    assert!(
        said.contains("rule 9999 can never match") && said.contains("rule 4000, which is `final`"),
        "{said}"
    );
}

/// What a rule says: the ports that it takes from (one bit each), its filter, how it ends and whether it goes off by itself.
type Said = (u8, &'static str, &'static str, bool);

proptest! {
    #[test]
    fn a_rule_is_warned_of_if_an_earlier_one_takes_all_its_packets(
        rules in prop::collection::vec(
            (
                1u8..8,
                prop::sample::select(vec!["", " vlan 5", " match \"tcp\"", " match \"udp\"", " match \"greater 0\"", " match \"tcp\" through vlan"]),
                prop::sample::select(vec![" to t", " to t final", " drop"]),
                prop::bool::weighted(0.2),
            ),
            1..14,
        )
    ) {
        let rules: Vec<Said> = rules;
        let mut text = HEAD.to_owned();
        for (index, (ports, filter, verdict, is_limited)) in rules.iter().enumerate() {
            let from: Vec<&str> = ["a", "b", "c"].into_iter().enumerate().filter(|(bit, _)| ports >> bit & 1 == 1).map(|(_, name)| name).collect();
            let limit = if *is_limited { " limit 5 packets" } else { "" };
            writeln!(text, "rule create {} from {}{filter}{verdict}{limit}", index + 1, from.join(",")).unwrap();
        }
        let (_, parsed) = planned(&text);
        let said = parsed.diagnostics.render(&parsed.sources);
        prop_assert_eq!(parsed.diagnostics.errors(), 0, "{}", said);
        for (index, (ports, filter, _, _)) in rules.iter().enumerate() {
            let shadow = rules[..index].iter().position(|(others, other, verdict, is_limited)| {
                let is_all = ["", " match \"greater 0\""].contains(other);
                *verdict != " to t" && !is_limited && ports & others == *ports && (is_all || other == filter)
            });
            let warning = format!("rule {} can never match\n", index + 1);
            prop_assert_eq!(said.contains(&warning), shadow.is_some(), "rule {} of\n{}{}", index + 1, text, said);
            if let Some(shadow) = shadow {
                let told = said.split(&warning).nth(1).unwrap_or_default().lines().nth(1).unwrap_or_default();
                let named = format!("rule {}, which is `{}`", shadow + 1, if rules[shadow].2 == " drop" { "drop" } else { "final" });
                prop_assert!(told.contains(&named), "{} does not say {}", told, named);
            }
        }
    }
}
