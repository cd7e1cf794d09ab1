//! The places in the text that rules and tools come from, and the words that they were written in.

use std::collections::HashMap;

use super::Resolver;
use super::definitions::{Definitions, Tables};
use crate::plan::progress::Progress;
use crate::plan::surroundings::Surroundings;
use tapline_datapath::ids::{RuleId, ToolId};
use tapline_lang::Parsed;
use tapline_lang::ast::filter::{Filter, FilterSource};
use tapline_lang::ast::rule::{RuleClause, Term};
use tapline_lang::ast::tool::ToolOption;
use tapline_lang::diagnostic::Diagnostics;
use tapline_lang::source::Span;
use tapline_packet::by_id::ById;
use tapline_packet::headers::layer::{Layer, LayerSet};

/// The text that a plan was made of.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Origins {
    pub rules: ById<RuleId, RuleOrigin>,
    /// The words of each tool's transport; empty where copies stay as they are.
    pub transports: ById<ToolId, String>,
}

/// The place and the conditions of a rule.
#[derive(Clone, PartialEq, Debug)]
pub struct RuleOrigin {
    /// The file of the line that created the rule.
    pub file: String,
    pub line: usize,
    /// The words of `vlan LIST`, if the rule has it.
    pub vlans: Option<String>,
    /// The filters, in the order of `Matcher::filters`.
    pub filters: Vec<FilterOrigin>,
    /// The words of the other terms, in the order of `Matcher::terms`.
    pub terms: Vec<String>,
    /// The words of the sampler, if the rule has one.
    pub sample: Option<String>,
}

impl RuleOrigin {
    /// Says the conditions as one reads them: filters with their names, expressions in place of these.
    pub fn words(&self) -> String {
        let filters = self.filters.iter().map(|filter| {
            let name = filter.name.as_ref().map_or_else(String::new, |name| format!("{name}: "));
            let source = match &filter.source {
                FilterText::Expression(expression) => format!("`{expression}`"),
                FilterText::List(path) => format!("file {path}"),
            };
            let through = match filter.through.is_empty() {
                true => String::new(),
                false => format!(" through {}", filter.layers()),
            };
            format!("{name}{source}{through}")
        });
        let all: Vec<String> =
            self.vlans.iter().cloned().chain(filters).chain(self.terms.iter().cloned()).collect();
        if all.is_empty() { "all packets".to_owned() } else { all.join(" and ") }
    }
}

impl FilterOrigin {
    /// Says the layers that it looks through, as the language does.
    pub fn layers(&self) -> String {
        layer_words(self.through)
    }
}

/// Says layers as the language does.
pub fn layer_words(layers: LayerSet) -> String {
    if layers == LayerSet::ALL {
        return "any".to_owned();
    }
    let words: Vec<&str> =
        Layer::ALL.into_iter().filter(|&layer| layers.contains(layer)).map(Layer::word).collect();
    words.join(",")
}

/// A filter as it was written.
#[derive(Clone, PartialEq, Debug)]
pub struct FilterOrigin {
    /// The name of `filter create`, if it has one.
    pub name: Option<String>,
    pub source: FilterText,
    pub through: LayerSet,
}

/// The text of a filter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FilterText {
    Expression(String),
    /// The path of a list.
    List(String),
}

/// Finds the origins of the rules and tools of a plan, which was made of `parsed` without an error.
pub fn origins(parsed: &Parsed, surroundings: &Surroundings) -> Origins {
    let mut tables = Tables::default();
    let (mut unheard, progress) = (Diagnostics::default(), Progress::default());
    let mut resolver = Resolver {
        parsed,
        surroundings,
        diagnostics: &mut unheard,
        filters: HashMap::new(),
        lists: HashMap::new(),
        hashes: Vec::new(),
        groups: Vec::new(),
        edits: Vec::new(),
        random_key: None,
        progress: &progress,
    };
    for command in &parsed.file.commands {
        resolver.gather(&command.value, &mut tables);
    }
    let definitions = tables.finish();
    let place = |span: Span| {
        let file = parsed.sources.get(span.source).name().to_owned();
        (file, parsed.sources.position(span).line)
    };
    let rules = definitions.rules.iter().map(|rule| {
        let (file, line) = place(rule.priority.span);
        let mut origin =
            RuleOrigin { file, line, vlans: None, filters: Vec::new(), terms: Vec::new(), sample: None };
        for clause in &rule.clauses {
            match &clause.value {
                RuleClause::Vlan(_) => origin.vlans = Some(clause.value.to_string()),
                RuleClause::Sample(_) => origin.sample = Some(clause.value.to_string()),
                RuleClause::Match(terms) => {
                    for term in terms {
                        match &term.value {
                            Term::Filter(filter) => {
                                origin.filters.extend(filter_origin(filter, &definitions))
                            }
                            _ => origin.terms.push(parsed.sources.text(term.span).to_owned()),
                        }
                    }
                }
                _ => {}
            }
        }
        origin
    });
    let transport = |options: &[&tapline_lang::source::Spanned<ToolOption>]| {
        let last = options.iter().rfind(|option| matches!(option.value, ToolOption::Transport(_)));
        last.map_or_else(String::new, |option| parsed.sources.text(option.span).to_owned())
    };
    let transports = definitions.tools.iter().map(|tool| transport(&tool.options));
    Origins { rules: rules.collect(), transports: transports.collect() }
}

fn filter_origin(filter: &Filter, definitions: &Definitions<'_>) -> Option<FilterOrigin> {
    let (name, written) = match &filter.source.value {
        FilterSource::Named(name) => (Some(name.clone()), definitions.filters.get(name)?.filter),
        FilterSource::Expression(_) | FilterSource::File(_) => (None, filter),
    };
    let source = match &written.source.value {
        FilterSource::Expression(expression) => FilterText::Expression(expression.clone()),
        FilterSource::File(path) => FilterText::List(path.clone()),
        FilterSource::Named(_) => return None,
    };
    let through = filter.through.as_ref().or(written.through.as_ref());
    Some(FilterOrigin { name, source, through: through.map(|through| through.value).unwrap_or_default() })
}
