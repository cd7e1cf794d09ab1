//! Reads the words of one line in the order of the grammar, and reports what does not fit.
//!
//! Clauses (`from …`, `match …`) are rows of a table: the word that begins them and the function that reads the rest. A mistake in
//! one clause does not hide one in the next: reading goes on at the next word that begins a clause. Where that leaves words unread,
//! what follows may be a consequence, and nothing more is reported in this line.

use std::collections::HashSet;

use super::super::ast::{Command, Name};
use super::super::diagnostic::{Diagnostic, Diagnostics, any_of, quoted};
use super::super::lexer::{Word, WordLine};
use super::super::source::{Span, Spanned};
use super::super::suggest::nearest;
use super::super::value::{self, Misread, Value, items};
use super::complete::{Names, Wishes};
use tapline_api::words::{NameKind, Role, Vocabulary};

/// The mistake has been reported.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported;

pub(super) type Read<T> = Result<T, Reported>;

/// A row of a table of commands. A command without a role does not compile.
#[derive(Clone, Copy)]
pub(super) struct Verb {
    pub(super) about: About,
    read: fn(&mut Line<'_>) -> Read<Command>,
}

/// Who may give a command, how it is written, and what it does.
#[derive(Clone, Copy)]
pub(super) struct About {
    pub(super) role: Role,
    /// The forms of what follows its words, divided by ` | `.
    pub(super) usage: &'static str,
    /// The rest of "this command …".
    pub(super) does: &'static str,
}

/// Makes a row of a table of commands.
pub(super) const fn verb(
    role: Role,
    usage: &'static str,
    does: &'static str,
    read: fn(&mut Line<'_>) -> Read<Command>,
) -> Verb {
    Verb { about: About { role, usage, does }, read }
}

/// Says whether one value may stand twice in a comma list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeats {
    Allowed,
    Refused,
}

/// One row of a table of clauses.
pub(super) struct Clause<T: 'static> {
    word: &'static str,
    repeats: bool,
    read: fn(&mut Line<'_>) -> Read<T>,
}

impl<T> Clause<T> {
    /// The word that begins the clause.
    pub(super) fn word(&self) -> &'static str {
        self.word
    }
}

/// A clause that may be given once.
pub(super) const fn once<T>(word: &'static str, read: fn(&mut Line<'_>) -> Read<T>) -> Clause<T> {
    Clause { word, repeats: false, read }
}

/// A clause that may be given several times.
pub(super) const fn many<T>(word: &'static str, read: fn(&mut Line<'_>) -> Read<T>) -> Clause<T> {
    Clause { word, repeats: true, read }
}

/// The words of a vocabulary with their values.
pub(super) fn named<T: Vocabulary>() -> impl Iterator<Item = (&'static str, T)> {
    T::WORDS.iter().copied().zip(T::VALUES.iter().copied())
}

pub(super) struct Line<'a> {
    words: &'a [Word],
    end: Span,
    next: usize,
    diagnostics: &'a mut Diagnostics,
    flawed: bool,
    /// Nothing more is reported: what follows may be a consequence of what was.
    muted: bool,
    /// A misspelt word was taken for what it probably meant. If what follows does not fit, the guess was wrong.
    guessing: bool,
    /// The words that begin a clause of this line.
    stops: Vec<&'static str>,
    /// Optional words that were looked for at the next word.
    tried: Vec<&'static str>,
    defined: Option<(NameKind, String)>,
    /// Who may give the command, as far as it was read.
    role: Role,
    /// The next word names a thing that this line defines.
    is_new: bool,
    /// This is what was looked for behind the last word.
    wishes: Wishes,
}

impl<'a> Line<'a> {
    pub(super) fn new(line: &'a WordLine, diagnostics: &'a mut Diagnostics) -> Line<'a> {
        Line {
            words: &line.words,
            end: line.end,
            next: 0,
            diagnostics,
            flawed: line.flawed,
            // The text ended in the middle of the line: what is missing may be a consequence.
            muted: line.flawed && line.words.iter().all(|word| !word.poisoned),
            guessing: false,
            stops: Vec::new(),
            tried: Vec::new(),
            defined: None,
            role: Role::Viewer,
            is_new: false,
            wishes: Wishes::default(),
        }
    }

    /// Gives what was looked for behind the last word.
    pub(super) fn wishes(self) -> Wishes {
        self.wishes
    }

    /// Records what may come behind the last word, and need not.
    fn may_come(&mut self, wish: impl FnOnce(&mut Wishes)) {
        if self.peek().is_none() && !self.wishes.is_complete {
            wish(&mut self.wishes);
        }
    }

    /// Records what has to come behind the last word; nothing else can come there, but for what may.
    fn must_come(&mut self, wish: impl FnOnce(&mut Wishes)) {
        self.may_come(wish);
        self.wishes.is_complete |= self.peek().is_none();
    }

    /// A value of `key` may come next, and need not.
    pub(super) fn may_have_value(&mut self, key: &str) {
        self.may_come(|wishes| wishes.value = Some(key.to_owned()));
    }

    /// The name of a thing of this kind may come next, and need not.
    pub(super) fn may_name(&mut self, kind: NameKind) {
        self.may_come(|wishes| wishes.names.push(Names::Of(kind)));
    }

    /// The items of the comma list that comes next may be these words, beside others.
    pub(super) fn may_list(&mut self, words: impl IntoIterator<Item = &'static str>, names: &[Names]) {
        self.may_come(|wishes| {
            wishes.items.extend(words);
            wishes.item_names.extend(names);
        });
    }

    /// Returns whether a mistake in this line was reported.
    pub(super) fn is_flawed(&self) -> bool {
        self.flawed
    }

    /// The name that this line defines, as far as it was read.
    pub(super) fn defined(self) -> Option<(NameKind, String)> {
        self.defined
    }

    pub(super) fn peek(&self) -> Option<&'a Word> {
        self.words.get(self.next)
    }

    /// The word behind the next one.
    pub(super) fn behind(&self) -> Option<&'a Word> {
        self.words.get(self.next + 1)
    }

    /// One of these words may come next.
    pub(super) fn may_be(&mut self, words: impl IntoIterator<Item = &'static str>) {
        self.may_come(|wishes| wishes.words.extend(words));
    }

    /// Returns whether the next word begins a clause of this line, and not what it begins within the clause that is read: its value is one
    /// that only the clause reads.
    pub(super) fn begins_clause<T>(&self, word: &str, value: impl Fn(&str) -> Value<T>) -> bool {
        let [next, behind, ..] = self.words.get(self.next..).unwrap_or_default() else { return false };
        next.is(word) && self.is_stop(next) && value(&behind.text).is_ok()
    }

    pub(super) fn advance(&mut self) {
        self.next += 1;
        self.is_new = false;
        self.tried.clear();
    }

    /// The place of the word read last.
    pub(super) fn last_span(&self) -> Span {
        self.next.checked_sub(1).and_then(|last| self.words.get(last)).map_or(self.end, |word| word.span)
    }

    /// The places from that of `first` to the word read last.
    pub(super) fn since(&self, first: Span) -> Span {
        first.to(self.last_span())
    }

    /// The place behind the last word, where something is missing.
    pub(super) fn end(&self) -> Span {
        self.end
    }

    pub(super) fn report(&mut self, diagnostic: Diagnostic) -> Reported {
        self.flawed = true;
        self.muted |= self.guessing;
        if !self.muted {
            self.diagnostics.push(diagnostic);
        }
        Reported
    }

    /// Reports a word that is none of `words`; gives the one that was probably meant.
    fn guess<'w>(&mut self, word: &Word, message: String, words: &[&'w str]) -> Option<&'w str> {
        let near = nearest(&word.text, words.iter().copied());
        let mut error = Diagnostic::error(word.span, message);
        error.label = Some(format!("expected {}", any_of(words)));
        error.help = near.map(|near| format!("did you mean `{near}`?"));
        // A second slip is more likely than a wrong guess that leads to a word which is nearly right.
        self.guessing &= near.is_none();
        self.report(error);
        self.guessing = near.is_some();
        near
    }

    /// Reports nothing more in this line: what follows may be a consequence of what was reported.
    pub(super) fn mute(&mut self) {
        self.muted = true;
    }

    /// The words of these clauses end the clause before them; they are no values.
    pub(super) fn stop_at<T>(&mut self, clauses: &[Clause<T>]) {
        self.stop_at_words(clauses.iter().map(|clause| clause.word));
    }

    pub(super) fn stop_at_words(&mut self, words: impl Iterator<Item = &'static str>) {
        self.stops = words.collect();
    }

    pub(super) fn is_stop(&self, word: &Word) -> bool {
        self.stops.iter().any(|stop| word.is(stop))
    }

    /// Reads the next word if it is the keyword `word`.
    pub(super) fn accept(&mut self, word: &'static str) -> Option<Span> {
        match self.peek() {
            Some(next) if next.is(word) => {
                self.advance();
                Some(next.span)
            }
            _ => {
                self.tried.push(word);
                self.may_come(|wishes| wishes.words.push(word));
                None
            }
        }
    }

    /// Reads the keyword `word`, which must come here. A misspelt one is taken for what it was meant to be.
    pub(super) fn expect(&mut self, word: &'static str) -> Read<()> {
        self.must_come(|wishes| wishes.words.push(word));
        let Some(next) = self.peek() else {
            let error = Diagnostic::error(self.end, format!("`{word}` is missing"));
            return Err(self.report(error.label(format!("expected `{word}`"))));
        };
        if next.is(word) || next.poisoned {
            self.advance();
            return if next.poisoned { Err(Reported) } else { Ok(()) };
        }
        self.guess(next, format!("unexpected word {}", quoted(&next.text)), &[word]).ok_or(Reported)?;
        self.advance();
        Ok(())
    }

    /// Reads the next word if it is the keyword `word`, and then what `read` reads.
    pub(super) fn optional<T>(
        &mut self,
        word: &'static str,
        read: impl FnOnce(&mut Self) -> Read<T>,
    ) -> Read<Option<T>> {
        self.accept(word).map(|_| read(self)).transpose()
    }

    /// Reads `on` or `off`; nothing means on.
    pub(super) fn switch(&mut self) -> bool {
        self.said_switch().unwrap_or(true)
    }

    /// Reads `on` or `off`, where one of them stands.
    pub(super) fn said_switch(&mut self) -> Option<bool> {
        let on = self.accept("on").map(|_| true);
        on.or_else(|| self.accept("off").map(|_| false))
    }

    /// Reads the name of a thing that this line defines.
    pub(super) fn new_name(&mut self, kind: NameKind) -> Read<Name> {
        self.defines_next(kind);
        self.identity(kind, "name", value::new_name)
    }

    /// Reads the name of a thing that another line defines.
    pub(super) fn name(&mut self, kind: NameKind) -> Read<Name> {
        self.identity(kind, "name", value::text("its name"))
    }

    /// Reads the name of a thing that another line defines, where clauses of `table` follow.
    pub(super) fn name_before<T>(&mut self, kind: NameKind, table: &[Clause<T>]) -> Read<Name> {
        self.stop_at(table);
        self.name(kind)
    }

    /// Reads the priority that names a rule.
    pub(super) fn priority(&mut self) -> Read<Spanned<u32>> {
        self.identity(NameKind::Rule, "priority", value::number(0..=u32::MAX))
    }

    fn identity<T>(
        &mut self,
        kind: NameKind,
        noun: &str,
        read: impl Fn(&str) -> Value<T>,
    ) -> Read<Spanned<T>> {
        let is_new = self.is_new;
        self.must_come(|wishes| match is_new {
            true => wishes.value = Some(format!("{kind} {noun}")),
            false => wishes.names.push(Names::Of(kind)),
        });
        let word = match self.peek() {
            Some(word) if !self.is_stop(word) => word,
            next => {
                let error = Diagnostic::error(
                    next.map_or(self.end, |word| word.span),
                    format!("the {kind} has no {noun}"),
                );
                return Err(self.report(error.label(format!("expected {}", expectation(&read)))));
            }
        };
        self.advance();
        if word.poisoned {
            return Err(Reported);
        }
        read(&word.text).map(|value| Spanned::new(value, word.span)).map_err(|misread| {
            let mut error =
                Diagnostic::error(word.span, format!("invalid {kind} {noun} {}", quoted(&word.text)));
            error.label = Some(format!("expected {}", misread.expected));
            error.help = misread.help;
            self.report(error)
        })
    }

    /// The next word names what this line defines.
    pub(super) fn defines_next(&mut self, kind: NameKind) {
        self.is_new = true;
        if let Some(word) = self.peek().filter(|word| !word.poisoned) {
            self.defined = Some((kind, word.text.clone()));
        }
    }

    /// The words within `span` with single blanks between them.
    pub(super) fn words_within(&self, span: Span) -> String {
        let within = |word: &&Word| span.start <= word.span.start && word.span.end <= span.end;
        self.words.iter().filter(within).map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// Reads the value of `key`.
    pub(super) fn value<T>(&mut self, key: &str, read: impl Fn(&str) -> Value<T>) -> Read<Spanned<T>> {
        self.must_come(|wishes| wishes.value = Some(key.to_owned()));
        let word = self.required(key, || expectation(&read))?;
        match read(&word.text) {
            Ok(value) => {
                self.advance();
                Ok(Spanned::new(value, word.span))
            }
            Err(_) if self.is_stop(word) => Err(self.lacks_value(key, word.span, &expectation(&read))),
            Err(misread) => {
                self.advance();
                Err(self.misread(key, word, 0..word.text.len(), misread))
            }
        }
    }

    /// Reads the comma list of `key`, in which nothing stands twice. Every item that is wrong is reported.
    pub(super) fn list<T>(&mut self, key: &str, read: impl Fn(&str) -> Value<T>) -> Read<Vec<Spanned<T>>> {
        self.comma_list(key, read, Repeats::Refused)
    }

    /// Reads the comma list of `key`, in which one value may stand several times.
    pub(super) fn numbers<T>(
        &mut self,
        key: &str,
        read: impl Fn(&str) -> Value<T>,
    ) -> Read<Vec<Spanned<T>>> {
        self.comma_list(key, read, Repeats::Allowed)
    }

    fn comma_list<T>(
        &mut self,
        key: &str,
        read: impl Fn(&str) -> Value<T>,
        repeats: Repeats,
    ) -> Read<Vec<Spanned<T>>> {
        let expected = || format!("{}, or several with commas between them", expectation(&read));
        self.must_come(|wishes| {
            if wishes.items.is_empty() && wishes.item_names.is_empty() {
                wishes.value = Some(key.to_owned());
            }
        });
        let word = self.required(key, expected)?;
        if self.is_stop(word) && read(&word.text).is_err() {
            return Err(self.lacks_value(key, word.span, &expected()));
        }
        self.advance();
        let mut found = Vec::new();
        let mut failed = None;
        let mut seen = HashSet::new();
        for (part, item) in items(&word.text) {
            let repeated = !seen.insert(item) && repeats == Repeats::Refused;
            match read(item) {
                Ok(_) if repeated && failed.is_some() => {}
                Ok(_) if repeated => {
                    let error = Diagnostic::error(
                        word.part(part),
                        format!("{} is given twice for `{key}`", quoted(item)),
                    );
                    failed = Some(self.report(error.label("expected each one once")));
                }
                Ok(value) => found.push(Spanned::new(value, word.part(part))),
                Err(misread) => failed = Some(self.misread(key, word, part, misread)),
            }
        }
        failed.map_or(Ok(found), Err)
    }

    /// Reads a value that may be any text: a path, or the name of a thing that another command defines.
    pub(super) fn free_text(&mut self, key: &str, expected: &'static str) -> Read<Spanned<String>> {
        self.refuse_stop(key, || expected.into())?;
        self.value(key, value::text(expected))
    }

    /// Any text is a value of `key`, but where the next clause begins, it was forgotten.
    pub(super) fn refuse_stop(&mut self, key: &str, expected: impl Fn() -> String) -> Read<()> {
        match self.peek() {
            Some(word) if self.is_stop(word) => Err(self.lacks_value(key, word.span, &expected())),
            _ => Ok(()),
        }
    }

    /// Reads the name of a thing of this kind that another command defines.
    pub(super) fn name_of(&mut self, key: &str, kind: NameKind) -> Read<Spanned<String>> {
        self.must_come(|wishes| wishes.names.push(Names::Of(kind)));
        self.free_text(key, names_expected(&[kind]))
    }

    /// Reads the names of things of these kinds that other commands define.
    pub(super) fn names(&mut self, key: &str, kinds: &[NameKind]) -> Read<Vec<Name>> {
        let expected = names_expected(kinds);
        self.may_list([], &kinds.iter().map(|&kind| Names::Of(kind)).collect::<Vec<_>>());
        self.refuse_stop(key, || format!("{expected}, or several with commas between them"))?;
        self.list(key, value::text(expected))
    }

    /// Reads one of `choices`. A misspelt one is reported and taken for what it was meant to be.
    pub(super) fn choice<T: Copy>(&mut self, key: &str, choices: &[(&'static str, T)]) -> Read<Spanned<T>> {
        let words: Vec<&'static str> = choices.iter().map(|(word, _)| *word).collect();
        self.must_come(|wishes| {
            for &word in &words {
                // a word with a capital stands for values that are read elsewhere
                match word.contains(|letter: char| letter.is_ascii_uppercase()) {
                    true => wishes.value = Some(key.to_owned()),
                    false => wishes.words.push(word),
                }
            }
        });
        let word = self.required(key, || any_of(&words))?;
        let exact = choices.iter().find(|(choice, _)| *choice == word.text);
        if exact.is_none() && self.is_stop(word) {
            return Err(self.lacks_value(key, word.span, &any_of(&words)));
        }
        self.advance();
        let found = match exact {
            Some((_, value)) => value,
            None => {
                let near =
                    self.guess(word, format!("invalid `{key}` value {}", quoted(&word.text)), &words);
                &choices.iter().find(|(choice, _)| Some(*choice) == near).ok_or(Reported)?.1
            }
        };
        Ok(Spanned::new(*found, word.span))
    }

    /// Reads a word of the vocabulary `T`.
    pub(super) fn word_of<T: Vocabulary>(&mut self, key: &str) -> Read<Spanned<T>> {
        self.choice(key, &named::<T>().collect::<Vec<_>>())
    }

    /// Reads a comma list of words of the vocabulary `T`.
    pub(super) fn words_of<T: Vocabulary>(&mut self, key: &str) -> Read<Vec<Spanned<T>>> {
        self.may_list(T::WORDS.iter().copied(), &[]);
        self.list(key, |text| {
            T::of_word(text).ok_or_else(|| Misread {
                expected: any_of(T::WORDS),
                part: None,
                help: nearest(text, T::WORDS.iter().copied()).map(|near| format!("did you mean `{near}`?")),
            })
        })
    }

    /// Reads the verb of a command, and what follows it.
    pub(super) fn verb(&mut self, what: &str, table: &'static [(&'static str, Verb)]) -> Read<Command> {
        let verb = self.keyword(what, table)?;
        self.needs(verb.about.role);
        (verb.read)(self)
    }

    /// Only who has this role may give the command.
    pub(super) fn needs(&mut self, role: Role) {
        self.role = self.role.max(role);
    }

    /// Gives the role that the command needs.
    pub(super) fn role(&self) -> Role {
        self.role
    }

    /// Reads a word that must come here and says what follows, such as a command's verb. A misspelt one is taken for what it was
    /// meant to be.
    pub(super) fn keyword<T: Copy>(&mut self, what: &str, table: &'static [(&'static str, T)]) -> Read<T> {
        self.keyword_beside(what, table, &[])
    }

    /// As [`keyword`](Self::keyword), where the words of `others` may stand, too, which were looked for before: a mistake names them.
    pub(super) fn keyword_beside<T: Copy>(
        &mut self,
        what: &str,
        table: &'static [(&'static str, T)],
        others: &[&'static str],
    ) -> Read<T> {
        let mut words: Vec<&'static str> = table.iter().map(|(word, _)| *word).collect();
        self.must_come(|wishes| wishes.words.extend(&words));
        words.extend(others);
        let Some(word) = self.peek() else {
            let error = Diagnostic::error(self.end, format!("the {what} is missing"));
            return Err(self.report(error.label(format!("expected {}", any_of(&words)))));
        };
        if word.poisoned {
            return Err(Reported);
        }
        if let Some((_, value)) = table.iter().find(|(keyword, _)| word.is(keyword)) {
            self.advance();
            return Ok(*value);
        }
        let near = self.guess(word, format!("unknown {what} {}", quoted(&word.text)), &words);
        self.advance();
        // What follows a word that means nothing means nothing either.
        self.muted |= near.is_none();
        table.iter().find(|(keyword, _)| Some(*keyword) == near).map(|(_, value)| *value).ok_or(Reported)
    }

    /// Reads clauses of `table` in any order up to the end of the line.
    pub(super) fn clauses<T>(&mut self, table: &'static [Clause<T>]) -> Vec<Spanned<T>> {
        self.stop_at(table);
        let mut found = Vec::new();
        let mut seen: Vec<&str> = Vec::new();
        while let Some(word) = self.peek() {
            let exact = table.iter().find(|clause| word.is(clause.word));
            // Words that fit again prove an earlier guess right.
            self.guessing &= exact.is_none();
            let Some(clause) = exact.or_else(|| self.unknown(word, table, &seen)) else {
                self.skip_to_stop();
                self.muted = true;
                continue;
            };
            self.advance();
            let is_repeated = !clause.repeats && seen.contains(&clause.word);
            if is_repeated && !self.flawed {
                let error = Diagnostic::error(word.span, format!("`{}` is given twice", clause.word));
                self.report(error.label("expected at most once"));
            }
            seen.push(clause.word);
            let read = (clause.read)(self);
            if read.is_err() && self.peek().is_some_and(|word| !self.is_stop(word)) {
                self.skip_to_stop();
                self.muted = true;
            }
            if let (Ok(value), false) = (read, is_repeated) {
                found.push(Spanned::new(value, self.since(word.span)));
            }
        }
        let is_open = |clause: &&Clause<T>| clause.repeats || !seen.contains(&clause.word);
        self.may_come(|wishes| wishes.words.extend(table.iter().filter(is_open).map(Clause::word)));
        found
    }

    /// Reports that the line should have ended here.
    pub(super) fn expect_end(&mut self) {
        let Some(word) = self.peek() else { return };
        if word.poisoned {
            return;
        }
        let mut error = Diagnostic::error(word.span, format!("unexpected word {}", quoted(&word.text)));
        error.label = Some(match self.tried.as_slice() {
            [] => "expected the end of the line".into(),
            tried => format!("expected {} or the end of the line", tried.join(", ")),
        });
        error.help =
            nearest(&word.text, self.tried.iter().copied()).map(|near| format!("did you mean `{near}`?"));
        self.report(error);
    }

    /// Reports that `what` must be given, at the end of the line. A line with another mistake may only seem to lack it.
    pub(super) fn lacks(&mut self, what: &str, key: &str, expected: &str) {
        if !self.flawed {
            let error = Diagnostic::error(self.end, format!("{what} lacks `{key}`"));
            self.report(error.label(format!("expected {expected}")));
        }
    }

    fn required(&mut self, key: &str, expected: impl Fn() -> String) -> Read<&'a Word> {
        match self.peek() {
            None => Err(self.lacks_value(key, self.end, &expected())),
            Some(word) if word.poisoned => {
                self.advance();
                Err(Reported)
            }
            Some(word) => Ok(word),
        }
    }

    fn lacks_value(&mut self, key: &str, at: Span, expected: &str) -> Reported {
        self.report(
            Diagnostic::error(at, format!("`{key}` lacks its value")).label(format!("expected {expected}")),
        )
    }

    fn misread(
        &mut self,
        key: &str,
        word: &Word,
        whole: std::ops::Range<usize>,
        misread: Misread,
    ) -> Reported {
        let part =
            misread.part.map_or(whole.clone(), |part| part.start + whole.start..part.end + whole.start);
        let message = match &word.text[whole] {
            "" => format!("an empty `{key}` value"),
            text => format!("invalid `{key}` value {}", quoted(text)),
        };
        let mut error = Diagnostic::error(word.part(part), message);
        error.label = Some(format!("expected {}", misread.expected));
        error.help = misread.help;
        self.report(error)
    }

    /// Reports a word that begins no clause; gives the clause that it was probably meant to begin.
    fn unknown<T>(
        &mut self,
        word: &Word,
        table: &'static [Clause<T>],
        seen: &[&str],
    ) -> Option<&'static Clause<T>> {
        if word.poisoned {
            return None;
        }
        let mut words = std::mem::take(&mut self.tried);
        words.extend(
            table
                .iter()
                .filter(|clause| clause.repeats || !seen.contains(&clause.word))
                .map(|clause| clause.word),
        );
        let near = self.guess(word, format!("unknown word {}", quoted(&word.text)), &words);
        table.iter().find(|clause| Some(clause.word) == near)
    }

    /// Passes over at least one word, up to one that begins a clause.
    fn skip_to_stop(&mut self) {
        self.advance();
        while self.peek().is_some_and(|word| !self.is_stop(word)) {
            self.advance();
        }
    }
}

/// Says that a name of one of these kinds is expected.
fn names_expected(kinds: &[NameKind]) -> &'static str {
    match kinds {
        [NameKind::Port] => "a port's name",
        [NameKind::Tool] => "a tool's name",
        [NameKind::Tool, NameKind::Group] => "a tool's or group's name",
        _ => "its name",
    }
}

/// Gives the description of what `read` expects.
fn expectation<T>(read: &impl Fn(&str) -> Value<T>) -> String {
    read("").err().map_or_else(|| "a value".into(), |misread| misread.expected)
}
