//! A pcap-filter expression -> its primitives, and how `and`, `or` and `not` join them.
//!
//! Each primitive is text that libpcap compiles by itself, with the meaning that it has in the expression: identifiers that were left out
//! are put in (`tcp port 80 or 443`), and a primitive behind `vlan`, `mpls`, `pppoes`, `geneve` or `vxlan`, which moves what is looked at,
//! has these in front.
//! # Source
//! pcap-filter(7): `and` and `or` have one precedence and associate left to right, `not` has the highest; "if an identifier is given
//! without a keyword, the most recent keyword is assumed".

/// A joint of primitives; leaves are their places in a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Formula {
    Primitive(usize),
    Not(Box<Formula>),
    All(Vec<Formula>),
    Any(Vec<Formula>),
}

impl Formula {
    /// Returns whether it holds where the primitives' values are `values`.
    pub fn holds(&self, values: &[bool]) -> bool {
        match self {
            Formula::Primitive(place) => values[*place],
            Formula::Not(inner) => !inner.holds(values),
            Formula::All(parts) => parts.iter().all(|part| part.holds(values)),
            Formula::Any(parts) => parts.iter().any(|part| part.holds(values)),
        }
    }

    /// Gives the fewest primitives whose change makes it hold where it does not, or the other way round; of several such sets the first.
    pub fn flips(&self, values: &[bool]) -> Vec<usize> {
        let mut flips = self.fewest(values, self.holds(values));
        flips.sort_unstable();
        flips.dedup();
        flips
    }

    /// `holds` is what it comes to.
    fn fewest(&self, values: &[bool], holds: bool) -> Vec<usize> {
        let each = |parts: &[Formula]| -> Vec<usize> {
            let wrong = parts.iter().filter(|part| part.holds(values) == holds);
            wrong.flat_map(|part| part.fewest(values, holds)).collect()
        };
        let one = |parts: &[Formula]| -> Vec<usize> {
            let sets = parts.iter().map(|part| part.fewest(values, holds));
            sets.min_by_key(Vec::len).unwrap_or_default()
        };
        match (self, holds) {
            (Formula::Primitive(place), _) => vec![*place],
            (Formula::Not(inner), _) => inner.fewest(values, !holds),
            (Formula::All(parts), true) | (Formula::Any(parts), false) => one(parts),
            (Formula::All(parts), false) | (Formula::Any(parts), true) => each(parts),
        }
    }
}

/// Words that stand for themselves: a single other word is an identifier, which takes the qualifiers of the primitive before.
const ALONE: &[&str] = &[
    "ip",
    "ip6",
    "arp",
    "rarp",
    "tcp",
    "udp",
    "sctp",
    "icmp",
    "icmp6",
    "igmp",
    "igrp",
    "pim",
    "ah",
    "esp",
    "vrrp",
    "carp",
    "atalk",
    "aarp",
    "decnet",
    "iso",
    "stp",
    "ipx",
    "netbeui",
    "sca",
    "lat",
    "moprc",
    "mopdl",
    "vlan",
    "mpls",
    "pppoed",
    "pppoes",
    "geneve",
    "vxlan",
    "broadcast",
    "multicast",
    "clnp",
    "esis",
    "isis",
    "llc",
    "l1",
    "l2",
    "iih",
    "lsp",
    "snp",
    "csnp",
    "psnp",
];

/// Words that move what later primitives look at.
const MOVING: &[&str] = &["vlan", "mpls", "pppoes", "geneve", "vxlan"];

const ARITHMETIC: &[&str] =
    &["+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>", "=", "==", "!=", "<", ">", "<=", ">="];

#[derive(Clone, PartialEq, Debug)]
enum Token {
    Open,
    Close,
    And,
    Or,
    Not,
    /// A word, a number, or `[…]` with what is in it.
    Word(String),
    Operator(String),
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let letters: Vec<char> = text.chars().collect();
    let (mut at, mut tokens) = (0, Vec::new());
    while let Some(&letter) = letters.get(at) {
        let two: String = letters[at..].iter().take(2).collect();
        let token = match letter {
            _ if letter.is_whitespace() => {
                at += 1;
                continue;
            }
            '(' => Token::Open,
            ')' => Token::Close,
            '[' => {
                let len = letters[at..].iter().position(|&letter| letter == ']')? + 1;
                tokens.push(Token::Word(letters[at..at + len].iter().collect()));
                at += len;
                continue;
            }
            _ if ["&&", "||", "<<", ">>", "==", "!=", "<=", ">="].contains(&two.as_str()) => {
                at += 1;
                match two.as_str() {
                    "&&" => Token::And,
                    "||" => Token::Or,
                    _ => Token::Operator(two),
                }
            }
            '!' => Token::Not,
            '+' | '*' | '/' | '%' | '&' | '|' | '^' | '=' | '<' | '>' => {
                Token::Operator(letter.to_string())
            }
            // a range of ports and names with hyphens are one word
            '-' => Token::Operator("-".to_owned()),
            _ => {
                let is_in =
                    |&&letter: &&char| !letter.is_whitespace() && !"()[]!+*%&|^=<>".contains(letter);
                let len = letters[at..].iter().take_while(is_in).count().max(1);
                let word: String = letters[at..at + len].iter().collect();
                at += len - 1;
                match word.as_str() {
                    "and" => Token::And,
                    "or" => Token::Or,
                    "not" => Token::Not,
                    _ => Token::Word(word),
                }
            }
        };
        at += 1;
        tokens.push(token);
    }
    Some(tokens)
}

/// The primitives of an expression, and how they are joined.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expression {
    pub primitives: Vec<String>,
    pub formula: Formula,
}

impl Expression {
    /// Takes an expression apart; `None` where it is not understood.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parser = Parser {
            tokens: tokens(text)?,
            at: 0,
            primitives: Vec::new(),
            qualifiers: Vec::new(),
            moved: Vec::new(),
        };
        let formula = parser.joined()?;
        (parser.at == parser.tokens.len()).then_some(Self { primitives: parser.primitives, formula })
    }

    /// The whole text as one primitive.
    pub fn whole(text: &str) -> Self {
        Self { primitives: vec![text.to_owned()], formula: Formula::Primitive(0) }
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    primitives: Vec<String>,
    /// Those of the primitive before.
    qualifiers: Vec<String>,
    /// The primitives so far that move what is looked at.
    moved: Vec<String>,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    /// Terms that are joined, up to the end or a closing parenthesis.
    fn joined(&mut self) -> Option<Formula> {
        let mut left = self.term()?;
        loop {
            let is_and = match self.peek() {
                Some(Token::And) => true,
                Some(Token::Or) => false,
                _ => return Some(left),
            };
            self.at += 1;
            let right = self.term()?;
            left = match (left, is_and) {
                (Formula::All(mut parts), true) => {
                    parts.push(right);
                    Formula::All(parts)
                }
                (Formula::Any(mut parts), false) => {
                    parts.push(right);
                    Formula::Any(parts)
                }
                (left, true) => Formula::All(vec![left, right]),
                (left, false) => Formula::Any(vec![left, right]),
            };
        }
    }

    fn term(&mut self) -> Option<Formula> {
        match self.peek()? {
            Token::Not => {
                self.at += 1;
                Some(Formula::Not(Box::new(self.term()?)))
            }
            Token::Open if !self.is_arithmetic(self.at) => self.parenthesised(),
            Token::Word(_) | Token::Open | Token::Operator(_) => self.primitive(),
            Token::Close | Token::And | Token::Or => None,
        }
    }

    fn parenthesised(&mut self) -> Option<Formula> {
        self.at += 1;
        let inner = self.joined()?;
        (self.peek()? == &Token::Close).then(|| self.at += 1)?;
        Some(inner)
    }

    /// Returns whether a parenthesis that opens at `open` holds a number: whether an operator follows where it closes.
    fn is_arithmetic(&self, open: usize) -> bool {
        let mut depth = 0;
        let closes = self.tokens[open..].iter().position(|token| {
            match token {
                Token::Open => depth += 1,
                Token::Close => depth -= 1,
                _ => {}
            }
            depth == 0
        });
        let behind = closes.and_then(|len| self.tokens.get(open + len + 1));
        matches!(behind, Some(Token::Operator(operator)) if ARITHMETIC.contains(&operator.as_str()))
    }

    /// A primitive, or one for each identifier of a list in parentheses.
    fn primitive(&mut self) -> Option<Formula> {
        let mut words: Vec<String> = Vec::new();
        let (mut depth, mut is_relation) = (0, false);
        loop {
            match self.peek() {
                Some(Token::Word(word)) => {
                    // an index belongs to the word before
                    match (word.starts_with('['), words.last_mut()) {
                        (true, Some(last)) => *last += word,
                        _ => words.push(word.clone()),
                    }
                }
                Some(Token::Operator(operator)) => {
                    is_relation = true;
                    words.push(operator.clone());
                }
                // an arithmetic parenthesis begins a relation or follows an operator
                Some(Token::Open) if depth > 0 || is_relation || words.is_empty() => {
                    depth += 1;
                    words.push("(".to_owned());
                }
                Some(Token::Open) => {
                    self.qualifiers = words;
                    return self.parenthesised();
                }
                Some(Token::Close) if depth > 0 => {
                    depth -= 1;
                    words.push(")".to_owned());
                }
                _ => break,
            }
            self.at += 1;
        }
        if depth > 0 || words.is_empty() {
            return None;
        }
        if !is_relation {
            let is_identifier = words.len() == 1 && !ALONE.contains(&words[0].as_str());
            if is_identifier && !self.qualifiers.is_empty() {
                words = [&self.qualifiers[..], &words].concat();
            }
            self.qualifiers = words[..words.len() - 1].to_vec();
        }
        let words = words.join(" ");
        let text = match self.moved.is_empty() {
            true => words.clone(),
            false => format!("{} and {words}", self.moved.join(" and ")),
        };
        if words.split(' ').next().is_some_and(|first| MOVING.contains(&first)) {
            self.moved.push(words);
        }
        let known = self.primitives.iter().position(|known| *known == text);
        Some(Formula::Primitive(known.unwrap_or_else(|| {
            self.primitives.push(text);
            self.primitives.len() - 1
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn primitives(text: &str) -> Vec<String> {
        Expression::parse(text).expect("an expression").primitives
    }

    #[test]
    fn expressions_are_taken_apart_at_their_joints() {
        let of = |text: &str, expected: &[&str]| assert_eq!(primitives(text), expected, "{text}");
        of("tcp port 80 or tcp port 443", &["tcp port 80", "tcp port 443"]);
        of("tcp port 80 or 443", &["tcp port 80", "tcp port 443"]);
        of("tcp port (80 or 443) and host 10.0.0.1", &["tcp port 80", "tcp port 443", "host 10.0.0.1"]);
        of("not host 10.0.0.1 && !(udp || icmp)", &["host 10.0.0.1", "udp", "icmp"]);
        of("tcp[tcpflags] & (tcp-syn|tcp-fin) != 0", &["tcp[tcpflags] & ( tcp-syn | tcp-fin ) != 0"]);
        of("(ip[0] & 0xf) > 5 and tcp", &["( ip[0] & 0xf ) > 5", "tcp"]);
        of("vlan 100 and tcp port 80", &["vlan 100", "vlan 100 and tcp port 80"]);
        of("tcp portrange 8000-8080", &["tcp portrange 8000-8080"]);
        of("net 10.0.0.0/8 or 192.168.0.0/16", &["net 10.0.0.0/8", "net 192.168.0.0/16"]);
        assert_eq!(Expression::parse("tcp and ("), None);
    }

    #[test]
    fn and_and_or_have_one_precedence() {
        let Expression { formula, .. } =
            Expression::parse("tcp or udp and host 10.0.0.1").expect("an expression");
        let any = Formula::Any(vec![Formula::Primitive(0), Formula::Primitive(1)]);
        assert_eq!(formula, Formula::All(vec![any, Formula::Primitive(2)]));
    }

    /// The size of the smallest set of changes, by trying all sets.
    fn fewest(formula: &Formula, values: &[bool]) -> usize {
        let changed = |set: u32| -> Vec<bool> {
            values.iter().enumerate().map(|(place, &value)| value ^ (set >> place & 1 == 1)).collect()
        };
        let flips =
            (0..1u32 << values.len()).filter(|&set| formula.holds(&changed(set)) != formula.holds(values));
        flips.map(u32::count_ones).min().map_or(0, |count| count as usize)
    }

    #[test]
    fn no_smaller_set_of_changes_flips_the_answer() {
        let texts = [
            "tcp and udp and (icmp or arp)",
            "not (tcp or udp) or (icmp and arp)",
            "tcp or udp and icmp or not arp and igmp",
            "not (tcp and not (udp or icmp and arp))",
        ];
        for text in texts {
            let Expression { primitives, formula } = Expression::parse(text).expect("an expression");
            for bits in 0..1u32 << primitives.len() {
                let values: Vec<bool> = (0..primitives.len()).map(|place| bits >> place & 1 == 1).collect();
                let flips = formula.flips(&values);
                let mut changed = values.clone();
                flips.iter().for_each(|&place| changed[place] ^= true);
                assert_ne!(formula.holds(&changed), formula.holds(&values), "{text} {values:?} {flips:?}");
                assert_eq!(flips.len(), fewest(&formula, &values), "{text} {values:?}");
            }
        }
    }
}
