//! The requests that may be made of a broker, and its answers.

use serde::{Deserialize, Serialize};

use crate::words::{ErrorKind, Get};

/// How a request, or a command of the shell, ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Status {
    Done = 0,
    /// It is right, and failed.
    Failed = 1,
    /// The request, the command line or the pipeline file is wrong.
    Refused = 2,
}

/// A request to the session that owns the broker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// A line of the pipeline language, or several, as they came: bytes that are no text are a mistake. A dry run changes nothing, and says what
    /// would be changed.
    Line { text: Vec<u8>, is_dry_run: bool },
    /// Something that can be read; of events those behind number `since`.
    Get { what: Get, since: Option<u64> },
    /// Asks for the words that may stand at the end of a line that is not whole yet.
    Complete { line: String },
}

impl Request {
    /// A line that is to be carried out.
    pub fn line(text: Vec<u8>) -> Self {
        Self::Line { text, is_dry_run: false }
    }
}

/// One mistake, or one warning, in a text of the pipeline language.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Diagnostic {
    /// `error` or `warning`.
    pub severity: String,
    /// The file as it was named, or `prompt` for a line that was typed.
    pub file: String,
    /// From 1; `None` where the mistake is that of a file as a whole.
    pub line: Option<usize>,
    /// In characters, from 1.
    pub column: Option<usize>,
    /// The column behind the last marked character.
    pub end_column: Option<usize>,
    pub message: String,
    /// The text that was expected in place of the marked characters.
    pub expected: Option<String>,
    /// The remedy.
    pub help: Option<String>,
    /// The line that is wrong.
    pub text: Option<String>,
}

/// The answer to a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// Why it was not done; `None` where it was.
    pub error: Option<ErrorKind>,
    /// The text that was asked for.
    pub result: String,
    /// Warnings, mistakes and failures, as a file's are printed.
    pub remarks: String,
    /// The mistakes and warnings among the remarks, for programs.
    pub diagnostics: Vec<Diagnostic>,
    /// The result for programs, as JSON, where it has a form of its own.
    pub value: Option<String>,
}

impl Reply {
    /// Answers with what was asked for.
    pub fn done(result: impl Into<String>) -> Self {
        Self {
            error: None,
            result: result.into(),
            remarks: String::new(),
            diagnostics: Vec::new(),
            value: None,
        }
    }

    /// Answers that the request was not done, and why.
    pub fn error(kind: ErrorKind, remarks: impl Into<String>) -> Self {
        Self { error: Some(kind), remarks: remarks.into(), ..Self::done("") }
    }

    /// Answers that the request is wrong, and why.
    pub fn refused(remarks: impl Into<String>) -> Self {
        Self::error(ErrorKind::Refused, remarks)
    }

    /// Answers that the request is right and failed, and why.
    pub fn failed(remarks: impl Into<String>) -> Self {
        Self::error(ErrorKind::Failed, remarks)
    }

    /// Gives the exit status that says the same.
    pub fn status(&self) -> Status {
        match self.error {
            None => Status::Done,
            Some(ErrorKind::Refused) => Status::Refused,
            Some(_) => Status::Failed,
        }
    }

    /// Adds the answer to another command of the same request: the first error stands.
    pub fn and(mut self, other: Self) -> Self {
        self.error = self.error.or(other.error);
        self.result += &other.result;
        self.remarks += &other.remarks;
        self.diagnostics.extend(other.diagnostics);
        self.value = self.value.or(other.value);
        self
    }
}
