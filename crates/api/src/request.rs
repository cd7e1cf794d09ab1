//! The requests that may be made of a broker, and its answers.

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
    /// A line of the pipeline language, as it came: bytes that are no text are a mistake in it.
    Line(Vec<u8>),
}

/// The answer to a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    pub status: Status,
    /// The text that was asked for.
    pub result: String,
    /// Warnings, mistakes and failures, as a file's are printed.
    pub remarks: String,
}

impl Reply {
    /// Answers with what was asked for.
    pub fn done(result: impl Into<String>) -> Self {
        Self { status: Status::Done, result: result.into(), remarks: String::new() }
    }

    /// Answers that the request is wrong, and why.
    pub fn refused(remarks: impl Into<String>) -> Self {
        Self { status: Status::Refused, result: String::new(), remarks: remarks.into() }
    }

    /// Answers that the request is right and failed, and why.
    pub fn failed(remarks: impl Into<String>) -> Self {
        Self { status: Status::Failed, result: String::new(), remarks: remarks.into() }
    }

    /// Adds the answer to another command of the same request: the worse status stands.
    pub fn and(mut self, other: Self) -> Self {
        self.status = self.status.max(other.status);
        self.result += &other.result;
        self.remarks += &other.remarks;
        self
    }
}
