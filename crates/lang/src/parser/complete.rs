//! This is what may stand at the end of a line that is not whole yet.
//!
//! The readers of the grammar say it: each records what it looks for where the line ends.

use super::super::diagnostic::Diagnostics;
use super::super::lexer::{Lexer, Variables, Word, WordLine};
use super::super::source::{Sources, Span};
use super::line::Line;
use super::{read, session};
use tapline_api::words::NameKind;

/// Names that the grammar knows the place of, and not the spelling.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Names {
    /// The names of all things of this kind.
    Of(NameKind),
    /// The names of the directions of wires: `NAME:a-to-b` and `NAME:b-to-a`.
    Directions,
}

/// This is what may stand at the end of a line.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Wanted {
    /// The place in bytes from which on the line is completed: that of its last word, or of the last item of a comma list.
    pub start: usize,
    /// The words that may stand there and begin with what is written there.
    pub words: Vec<&'static str>,
    /// The names that may stand there, whatever they begin with.
    pub names: Vec<Names>,
    /// The clause that takes a value there which only the user knows: a number, a path, a name that the line defines.
    pub value: Option<String>,
}

/// This is what was looked for behind the last word of a line.
#[derive(Default)]
pub(super) struct Wishes {
    pub(super) words: Vec<&'static str>,
    pub(super) names: Vec<Names>,
    /// Words that may be items of a comma list.
    pub(super) items: Vec<&'static str>,
    /// Names that may be.
    pub(super) item_names: Vec<Names>,
    pub(super) value: Option<String>,
    /// Something has to come: what is looked for later would come behind it.
    pub(super) is_complete: bool,
}

/// Says what may stand at the end of `line`, which may use `variables`: words that may follow, or complete the last one.
pub fn completions(line: &str, variables: &Variables) -> Wanted {
    let nothing = Wanted { start: line.len(), ..Wanted::default() };
    let Some((words, start)) = words_before(line, variables) else { return nothing };
    let mut diagnostics = Diagnostics::default();
    let mut reader = Line::new(&words, &mut diagnostics);
    // mistakes before the end are for whoever carries the line out
    let _ = read(&mut reader, true);
    let mut wishes = reader.wishes();
    // its words stand in two tables
    if let [only] = words.words.as_slice()
        && only.is("show")
    {
        wishes.words.extend(session::shown());
    }
    let written = &line[start..];
    let Some(comma) = written.rfind(',') else {
        let mut words: Vec<&str> = Vec::new();
        for word in wishes.words.into_iter().chain(wishes.items) {
            if word.starts_with(written) && !words.contains(&word) {
                words.push(word);
            }
        }
        return Wanted {
            start,
            words,
            names: [wishes.names, wishes.item_names].concat(),
            value: wishes.value,
        };
    };
    let (given, item) = (&written[..comma], &written[comma + 1..]);
    let is_open = |word: &&str| word.starts_with(item) && !given.split(',').any(|other| other == *word);
    Wanted {
        start: start + comma + 1,
        words: wishes.items.into_iter().filter(is_open).collect(),
        names: wishes.item_names,
        value: wishes.value,
    }
}

/// Gives the whole words of the last line of `text`, and where the word begins that is not whole; `None` in a comment or in quotes.
fn words_before(text: &str, variables: &Variables) -> Option<(WordLine, usize)> {
    let mut sources = Sources::default();
    let source = sources.add(String::new(), text.to_owned(), None);
    let (mut variables, mut diagnostics) = (variables.clone(), Diagnostics::default());
    let mut lexer = Lexer::new(source, text);
    let end = Span { source, start: text.len(), end: text.len() };
    let mut last = WordLine { words: Vec::new(), end, flawed: false };
    while let Some(line) = lexer.next_line(&mut variables, &mut diagnostics) {
        last = line;
    }
    let partial = last.words.pop_if(|word: &mut Word| word.span.end == text.len());
    let start = partial.as_ref().map_or(text.len(), |word| word.span.start);
    let behind = last.words.last().map_or(0, |word| word.span.end);
    let between = &text[behind..start];
    if between.contains('#') || partial.is_some_and(|word| word.quoted) {
        return None;
    }
    // a line end that no `\` precedes begins another line
    if between.replace("\\\n", "").contains('\n') {
        last.words.clear();
    }
    (last.end, last.flawed) = (Span { source, start, end: start }, false);
    Some((last, start))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use super::super::super::parse_command_with;
    use super::super::is_keyword;
    use super::*;

    const EVERYTHING: &str = include_str!("../../../../testbed/lang/everything.pipe");

    /// The clauses that take values which only the user knows.
    #[rustfmt::skip]
    const VALUES: &[&str] = &[
        "active", "age", "alarm", "audit", "burst", "byte", "bytes", "capture", "cert", "client-ca", "cos", "crl", "dedup window", "discard", "down-after", "dscp", "dst", "eal", "every",
        "file", "filter create", "filter modify", "filter name", "flows", "for", "free", "from", "group", "group name", "hold", "hw-id", "idle", "idle sleep",
        "include", "index", "keep", "key", "lcores", "let", "limit", "mask", "match", "max-age", "memory",
        "mempool", "metrics", "min-up", "mpls-label", "mtu", "next-hop", "order window", "panic-dump", "port attach", "port name", "priority", "queue",
        "rate", "receive", "retries", "return idle", "rewrite dst-mac", "rewrite src-mac", "rewrite vlan", "rotate", "rule priority", "rxd", "rxq",
        "sample", "sample every", "sample first", "sample flow", "sample random", "sample rate", "seed", "session", "sgt", "slice", "src", "sync",
        "tag vlan", "teid", "thresholds", "timeout", "tls key", "to", "token", "tool name", "tpid", "transmit", "ttl", "txd", "txq",
        "udp-port", "until", "up-after", "user", "vlan", "vni", "weights", "wire name", "work", "workers", "zone",
    ];

    fn at(line: &str) -> Wanted {
        completions(line, &Variables::default())
    }

    /// The lines of the file that says everything, without line ends in them.
    fn lines() -> Vec<String> {
        let text = EVERYTHING.replace("\\\n", " ");
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(str::to_owned).collect()
    }

    /// Returns the begin and the end of each word of a line; a quoted text is one word.
    fn words(line: &str) -> Vec<(usize, usize)> {
        let (mut words, mut begin, mut is_quoted) = (Vec::new(), None, false);
        for (at, byte) in line.bytes().chain([b' ']).enumerate() {
            is_quoted ^= byte == b'"';
            match (byte == b' ' && !is_quoted, begin) {
                (true, Some(start)) => {
                    words.push((start, at));
                    begin = None;
                }
                (false, None) => begin = Some(at),
                _ => {}
            }
        }
        words
    }

    /// The names that the file defines, by kind.
    fn names() -> HashMap<&'static str, Vec<String>> {
        let mut names: HashMap<&'static str, Vec<String>> = HashMap::new();
        for line in lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let kind = NameKind::ALL.into_iter().find(|kind| kind.word() == words[0]);
            if let (Some(kind), true) =
                (kind, words.get(1).is_some_and(|word| ["create", "attach"].contains(word)))
            {
                names.entry(kind.word()).or_default().push(words[2].to_owned());
            }
        }
        names
    }

    fn offers(wanted: &Wanted, names: &HashMap<&'static str, Vec<String>>, item: &str) -> bool {
        wanted.words.contains(&item)
            || wanted.names.iter().any(|kind| match kind {
                Names::Of(kind) => names[kind.word()].iter().any(|name| name == item),
                Names::Directions => names["wire"]
                    .iter()
                    .any(|name| item == format!("{name}:a-to-b") || item == format!("{name}:b-to-a")),
            })
    }

    #[test]
    fn each_next_word_of_the_file_that_says_everything_is_offered_or_is_a_value() {
        let names = names();
        let mut variables = Variables::default();
        let mut values = BTreeSet::new();
        for line in lines() {
            for (start, end) in words(&line) {
                let (before, word) = (&line[..start], &line[start..end]);
                let wanted = completions(before, &variables);
                assert_eq!(wanted.start, before.len(), "{before:?}");
                if offers(&wanted, &names, word) {
                    continue;
                }
                // the items of a list, one after another
                let mut from = 0;
                let is_list = word.split(',').all(|item| {
                    let wanted = completions(&format!("{before}{}", &word[..from]), &variables);
                    from += item.len() + 1;
                    offers(&wanted, &names, item)
                });
                if !is_list {
                    let key = wanted.value.unwrap_or_else(|| {
                        panic!("{before:?} does not offer {word:?}: {:?}", wanted.words)
                    });
                    assert!(!is_keyword(word), "{before:?} does not offer {word:?}");
                    values.insert(key);
                }
            }
            if line.starts_with("let") {
                variables = parse_command_with(&line, variables).variables;
            }
        }
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        assert_eq!(values, VALUES);
    }

    #[test]
    fn what_is_written_of_a_word_is_completed_from_its_beginning() {
        assert_eq!(at("sh"), Wanted { start: 0, words: vec!["show"], ..Wanted::default() });
        assert_eq!(at("show po").words, ["ports"]);
        assert_eq!((at("show po").start, at("show ").start), (5, 5));
        assert_eq!(at("rule create 5 from any sam").words, ["sample"]);
        assert_eq!(at("rule enable ").names, [Names::Of(NameKind::Rule)]);
        assert_eq!(at("rule create ").names, [], "a priority of its own");
        assert_eq!(at("tool drain ").names, [Names::Of(NameKind::Tool)]);
    }

    #[test]
    fn commands_to_a_running_broker_are_completed_too() {
        assert_eq!(at("rel").words, ["reload"]);
        assert_eq!(at("show d").words, ["drift", "diff"]);
        assert_eq!(at("reload a.pipe confirm 1s ").words, ["dry-run", "-r", "guard", "interrupt"]);
        let wanted = at("reload ");
        assert!(
            wanted.words.contains(&"dry-run") && wanted.value.as_deref() == Some("reload"),
            "{wanted:?}"
        );
    }

    #[test]
    fn items_of_a_list_are_completed_each_and_given_ones_are_not_offered_again() {
        let wanted = at("rule create 5 from tap0 dedup window 1ms ignore ttl,t");
        assert_eq!((wanted.words, wanted.start), (vec!["tos", "tcp-seq"], 52));
        let wanted = at("rule create 5 from tap0,");
        assert_eq!((wanted.start, wanted.names.len()), (24, 3));
    }

    #[test]
    fn nothing_follows_what_lacks_its_value_and_a_clause_comes_once() {
        assert_eq!(at("rule create 5 from any limit ").words, Vec::<&str>::new());
        assert_eq!(at("rule create 5 from any limit 5 ").words, ["packets"]);
        let words = at("rule create 5 from any to a ").words;
        assert!(
            words.contains(&"class") && !words.contains(&"to") && !words.contains(&"from"),
            "{words:?}"
        );
    }

    #[test]
    fn quotes_and_comments_are_not_completed_and_a_further_line_is() {
        for line in ["rule create 5 from any match \"t", "show # po", "show \"po"] {
            assert_eq!(at(line), Wanted { start: line.len(), ..Wanted::default() }, "{line}");
        }
        assert_eq!(at("start\nshow po").words, ["ports"]);
        assert_eq!(at("show \\\npo").words, ["ports"]);
        assert_eq!(at("start\n").words.len(), at("").words.len());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_completions_panic_or_begin_outside_of_it(text in "[a-z0-9 ,\"#$\\\\{}\n\u{e4}]{0,60}") {
            let wanted = at(&text);
            proptest::prop_assert!(text.is_char_boundary(wanted.start));
            for word in wanted.words {
                proptest::prop_assert!(word.starts_with(&text[wanted.start..]));
            }
        }
    }
}
