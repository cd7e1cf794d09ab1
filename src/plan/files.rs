//! The table of all files that a plan, its devargs and the command line read and write, so that nothing is written that something
//! else of the same run reads or writes.
//!
//! A part of resolve: every clash goes to its diagnostics. Paths are compared by what they lead to (`Target`), not by their text. A
//! file that the caller may not name is refused here, too.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::devargs::{DeviceFile, device_files};
use super::resolve::Resolver;
use super::resolve::definitions::{Definitions, Port, Rule, Tool};
use tapline_dpdk::driver::Devargs;
use tapline_lang::Parsed;
use tapline_lang::ast::edit::Edit;
use tapline_lang::ast::filter::{Filter, FilterSource};
use tapline_lang::ast::port::Device;
use tapline_lang::ast::rule::{RuleClause, Term};
use tapline_lang::ast::tool::{ToolOption, ToolTarget};
use tapline_lang::diagnostic::{Diagnostic, Severity};
use tapline_lang::files::{Files, Target};
use tapline_lang::source::{Sources, Span, Spanned};

/// A file, and what is done with it.
struct Entry {
    path: PathBuf,
    is_written: bool,
    /// A port reads it from its start on.
    is_input: bool,
    /// It is a folder, and all that is in it.
    is_folder: bool,
    /// The rest of a sentence whose subject is the file: "is read by port `tap0`".
    what: String,
    place: Place,
}

impl Entry {
    /// The folder that a file would be made in, where it is not there.
    fn missing_folder(&self, files: &dyn Files) -> Option<&Path> {
        let is_file = self.is_written && !self.is_folder;
        let folder = self.path.parent().filter(|folder| is_file && !folder.as_os_str().is_empty())?;
        // a link may lead to another folder
        (files.is_missing(folder) && files.is_free(&self.path)).then_some(folder)
    }
}

#[derive(Clone, Copy)]
enum Place {
    Text(Span),
    CommandLine,
}

impl Place {
    /// Orders places as a reader meets them: the command line comes first, and what was typed later than a file behind it.
    fn order(self, sources: &Sources) -> Vec<usize> {
        let Place::Text(span) = self else { return Vec::new() };
        let mut outermost = span.source;
        while let Some(word) = sources.get(outermost).included_from() {
            outermost = word.source;
        }
        std::iter::once(outermost.index()).chain(sources.reading_order(span)).collect()
    }

    fn words(self, sources: &Sources) -> String {
        match self {
            Place::Text(span) => {
                let position = sources.position(span);
                format!("{}:{}:{}", sources.get(span.source).name(), position.line, position.column)
            }
            Place::CommandLine => "the command line".to_owned(),
        }
    }
}

/// All entries. What is read by one name again and again, as a list by thousands of rules, has one.
#[derive(Default)]
struct Table {
    entries: Vec<Entry>,
    read: HashSet<PathBuf>,
}

impl Table {
    fn reads(&mut self, path: impl Into<PathBuf>, what: String, place: Place) {
        let path = path.into();
        if self.read.insert(path.clone()) {
            self.entries.push(Entry {
                path,
                is_written: false,
                is_input: false,
                is_folder: false,
                what,
                place,
            });
        }
    }

    fn writes(&mut self, path: impl Into<PathBuf>, what: String, place: Place) {
        let path = path.into();
        self.entries.push(Entry { path, is_written: true, is_input: false, is_folder: false, what, place });
    }

    /// Adds the folder of a store.
    fn writes_folder(&mut self, path: &str, what: String, place: Place) {
        self.writes(path, what, place);
        self.entries.last_mut().into_iter().for_each(|entry| entry.is_folder = true);
    }

    /// Adds a capture that a port reads.
    fn reads_input(&mut self, path: &str, port: &str, place: Place) {
        let known = self.entries.len();
        self.reads(path, format!("is read by port `{port}`"), place);
        self.entries[known..].iter_mut().for_each(|entry| entry.is_input = true);
    }

    /// Each entry that would destroy what an earlier one needs, or whose own an earlier one would, with the earlier one.
    fn clashes(&self, sources: &Sources, files: &dyn Files) -> Vec<(&Entry, &Entry)> {
        let mut order: Vec<&Entry> = self.entries.iter().collect();
        order.sort_by_cached_key(|entry| entry.place.order(sources));
        let mut by_target: HashMap<Target, Vec<&Entry>> = HashMap::new();
        let mut clashes = Vec::new();
        for entry in order {
            let target = match entry.is_folder {
                true => files.folder(&entry.path).ok().map(|folder| folder.target),
                false => files.target(&entry.path),
            };
            let Some(target) = target else { continue };
            let earlier = by_target.entry(target).or_default();
            clashes.extend(
                earlier
                    .iter()
                    .find(|other| entry.is_written || other.is_written)
                    .map(|other| (*other, entry)),
            );
            earlier.push(entry);
        }
        clashes
    }

    /// Says of each path that the caller may not name that it is so.
    fn refused(&self, files: &dyn Files) -> Vec<Diagnostic> {
        let refused = self.entries.iter().filter_map(|entry| {
            let Place::Text(span) = entry.place else { return None };
            let reason = files.permit(&entry.path).err()?;
            Some(Diagnostic::error(span, format!("`{}`: {reason}", entry.path.display())))
        });
        refused.collect()
    }

    /// Warns, once for each folder, of what cannot be made as its folder is not there.
    fn missing_folders(&self, files: &dyn Files) -> Vec<Diagnostic> {
        let mut told = HashSet::new();
        let mut warnings = Vec::new();
        for entry in &self.entries {
            if let (Some(folder), Place::Text(span)) = (entry.missing_folder(files), entry.place)
                && told.insert(folder)
            {
                let message = format!(
                    "`{}` cannot be made: there is no folder `{}`",
                    entry.path.display(),
                    folder.display()
                );
                let label = format!("it {}; expected a folder that is there", entry.what);
                warnings.push(Diagnostic::warning(span, message).label(label));
            }
        }
        warnings
    }

    /// Warns of captures that ports read, and that are not there: they may be there when the pipeline is run.
    fn missing_inputs(&self, files: &dyn Files) -> Vec<Diagnostic> {
        let inputs = self.entries.iter().filter(|entry| entry.is_input && files.is_missing(&entry.path));
        let warnings = inputs.filter_map(|entry| {
            let Place::Text(span) = entry.place else { return None };
            let label = format!("it {}; it has to be there when the port is attached", entry.what);
            let message = format!("there is no file `{}`", entry.path.display());
            Some(Diagnostic::warning(span, message).label(label))
        });
        warnings.collect()
    }
}

/// Gives the mistake of the second of two entries, at its place, with the place of the first.
fn clash(first: &Entry, second: &Entry, sources: &Sources) -> Option<Diagnostic> {
    let expected = match (second.is_folder, second.is_written) {
        (true, _) => "a folder of its own",
        (false, true) => "a file of its own",
        (false, false) => "a file that nothing writes",
    };
    let diagnostic = match second.place {
        Place::Text(span) => {
            let named = if first.path == second.path {
                "too".to_owned()
            } else {
                format!("as `{}`", first.path.display())
            };
            let place = first.place.words(sources);
            Diagnostic::error(span, format!("`{}` {}", second.path.display(), first.what))
                .label(format!("expected {expected}; {place} names it {named}"))
        }
        // both stand there
        Place::CommandLine => {
            let message =
                format!("this file {}, and `{}` {}", first.what, second.path.display(), second.what);
            Diagnostic::of_file(Severity::Error, sources.first()?, message)
                .help(format!("name {expected} on the command line"))
        }
    };
    Some(diagnostic)
}

impl<'a> Resolver<'a> {
    /// Refuses files that are written and read, or written twice; warns of those whose folder is not there. Returns all that are named.
    pub(super) fn check_files(&mut self, definitions: &Definitions<'a>) -> Arc<HashSet<PathBuf>> {
        let table = Table::of(self.parsed, definitions);
        let sources = &self.parsed.sources;
        let files = &*self.surroundings.files;
        for refused in table.refused(files) {
            // what was to be read is refused already
            if !self.diagnostics.iter().any(|found| found.span() == refused.span()) {
                self.error(refused);
            }
        }
        for (first, second) in table.clashes(sources, files) {
            if let Some(found) = clash(first, second, sources) {
                self.error(found);
            }
        }
        for missing in table.missing_folders(files).into_iter().chain(table.missing_inputs(files)) {
            self.error(missing);
        }
        let named = table.entries.into_iter().map(|entry| entry.path);
        Arc::new(named.chain(definitions.settings.panic_dump.clone()).collect())
    }
}

impl Table {
    /// All files of a pipeline file and its flags.
    fn of(parsed: &Parsed, definitions: &Definitions<'_>) -> Self {
        let mut table = Self::default();
        table.add_sources(&parsed.sources);
        for (flag, path) in &parsed.outputs {
            table.writes(path, format!("is written by `{flag}`"), Place::CommandLine);
        }
        if let Some(Spanned { value: path, span }) = definitions.audit {
            table.writes(path, "is written by `set audit`".to_owned(), Place::Text(*span));
        }
        if let Some(tls) = definitions.tls {
            let files = [Some(&tls.cert), Some(&tls.key), tls.client_ca.as_ref(), tls.crl.as_ref()];
            for Spanned { value: path, span } in files.into_iter().flatten() {
                table.reads(path, "is read by `set tls`".to_owned(), Place::Text(*span));
            }
        }
        for port in &definitions.ports {
            table.add_port(port, &parsed.sources);
        }
        for tool in &definitions.tools {
            table.add_tool(tool);
        }
        for defined in definitions.filters.iter() {
            table.reads_list(defined.filter, &format!("filter `{}`", defined.name.value));
        }
        for rule in &definitions.rules {
            table.add_rule(rule);
        }
        table
    }

    /// Adds the pipeline file, and those that it includes.
    fn add_sources(&mut self, sources: &Sources) {
        for (id, source) in sources.iter() {
            let Some(path) = source.path() else { continue };
            match source.included_from() {
                Some(word) => self.reads(path, "is included".to_owned(), Place::Text(word)),
                None if Some(id) == sources.first() => {
                    self.reads(path, "is the pipeline file".to_owned(), Place::CommandLine)
                }
                None => {}
            }
        }
    }

    /// Adds the capture that a port replays, or the files that its driver is told of.
    fn add_port(&mut self, port: &Port<'_>, sources: &Sources) {
        let (name, span) = (&port.name.value, port.device.span);
        let devargs = match &port.device.value {
            Device::Replay { path, .. } => {
                return self.reads_input(path, name, Place::Text(span));
            }
            Device::Devargs(devargs) => Devargs::new(devargs),
            Device::Iface(_) => return,
        };
        let mut rest = span;
        for DeviceFile { argument, path, is_written } in device_files(&devargs) {
            let place = Place::Text(part_of(&mut rest, argument, sources).unwrap_or(span));
            match is_written {
                true => self.writes(path, format!("is written by port `{name}`"), place),
                false => self.reads_input(path, name, place),
            }
        }
    }

    /// Adds the capture that a tool writes, and the keys of its edits.
    fn add_tool(&mut self, tool: &Tool<'_>) {
        let name = &tool.name.value;
        if let ToolTarget::Capture(path) = &tool.target.value {
            let (what, place) = (format!("is written by tool `{name}`"), Place::Text(path.span));
            let is_store = |option: &&Spanned<ToolOption>| matches!(option.value, ToolOption::Keep(_));
            match tool.options.iter().copied().any(|option| is_store(&option)) {
                true => self.writes_folder(&path.value, what, place),
                false => self.writes(&path.value, what, place),
            }
        }
        for option in &tool.options {
            if let ToolOption::Edit(edit) = &option.value {
                self.reads_key(edit, &format!("tool `{name}`"));
            }
        }
    }

    /// Adds the lists of a rule's filters, and the keys of its edits.
    fn add_rule(&mut self, rule: &Rule<'_>) {
        let name = format!("rule {}", rule.priority.value);
        for clause in &rule.clauses {
            match &clause.value {
                RuleClause::Edit(edit) => self.reads_key(edit, &name),
                RuleClause::Match(terms) => {
                    for term in terms {
                        if let Term::Filter(filter) = &term.value {
                            self.reads_list(filter, &name);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn reads_key(&mut self, edit: &Edit, reader: &str) {
        match edit {
            Edit::AnonymizeIp { key_file: Some(path), .. } => {
                self.reads(&path.value, format!("is read by {reader}"), Place::Text(path.span));
            }
            Edit::AnonymizeIp { key_file: None, .. }
            | Edit::Strip(_)
            | Edit::TagVlan { .. }
            | Edit::RewriteDstMac(_)
            | Edit::RewriteSrcMac(_)
            | Edit::RewriteVlan(_)
            | Edit::Slice { .. }
            | Edit::Mask { .. }
            | Edit::PayloadDrop => {}
        }
    }

    fn reads_list(&mut self, filter: &Filter, reader: &str) {
        if let Spanned { value: FilterSource::File(path), span } = &filter.source {
            self.reads(path, format!("is read by {reader}"), Place::Text(*span));
        }
    }
}

/// Finds `argument` in what is left of a device's words, and leaves what is behind it.
pub(super) fn part_of(rest: &mut Span, argument: &str, sources: &Sources) -> Option<Span> {
    let start = rest.start + sources.text(*rest).find(argument)?;
    let end = start + argument.len();
    rest.start = end;
    Some(Span { start, end, ..*rest })
}
