//! The texts of events of what is kept, the audit log, the folder of `--state` and stores, and of the HTTP server.

use std::fmt;

use super::Event;
use crate::words::Expiry;

impl Event {
    /// Writes an event of the audit log, of the folder of `--state`, of a store, or of the HTTP server.
    pub(super) fn write_kept(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::AuditFailed { path, error } => {
                write!(
                    f,
                    "{path}: the audit log cannot be written: {error}; where it is required, nothing can be changed"
                )
            }
            Event::AuditResumed { path } => write!(f, "{path}: the audit log is written again"),
            Event::HttpBegun { url, cpus } => write!(f, "http: {url} is answered, on {cpus}"),
            Event::HttpFilesFailed { error } => {
                write!(f, "http: {error}; connections begin with the certificates before")
            }
            Event::AuditHead { path, record, hash } => {
                write!(f, "{path}: the audit log has the head {record}:{hash}")
            }
            Event::AuditCut { path, record, hash } => write!(
                f,
                "{path}: the audit log does not have its last record, {record}:{hash}: its end was cut, or the file was moved while no broker wrote it"
            ),
            Event::ConfirmInterrupted { plan, to, is_kept: true, file } => write!(
                f,
                "plan {plan} was not confirmed when the broker before ended; plan {to}, which was, is run, and {file} is not read"
            ),
            Event::ConfirmInterrupted { plan, to, is_kept: false, file } => write!(
                f,
                "plan {plan} was not confirmed when the broker before ended; plan {to}, which was, is not kept, and {file} is run"
            ),
            Event::StateDamaged { path, error } => {
                write!(f, "{path}: the file is damaged ({error}); it was moved to {path}.damaged")
            }
            Event::StateFailed { path, error } => {
                write!(f, "{path}: the file cannot be written: {error}; a restart does not know of it")
            }
            Event::StateResumed { path } => write!(f, "{path}: the file is written again"),
            Event::SegmentRepaired { tool, file, packets: 0, cut_bytes, .. } => {
                write!(
                    f,
                    "tool {tool}: {file} was left without a packet by a crash, and is removed with {cut_bytes} bytes"
                )
            }
            Event::SegmentRepaired { tool, file, packets, kept_bytes, cut_bytes } => write!(
                f,
                "tool {tool}: {file} was left open by a crash: {packets} packets in {kept_bytes} bytes are whole, and {cut_bytes} bytes behind \
                 them are cut off"
            ),
            Event::SegmentExpired { tool, file, bytes, reason } => {
                let why = match reason {
                    Expiry::Keep => "the folder would hold more than `keep`",
                    Expiry::Age => "it is older than `age`",
                    Expiry::Free => "less than `free` of the file system would be left",
                    Expiry::NoSpace => "the file system has no space left",
                };
                write!(f, "tool {tool}: {file} is deleted with {bytes} bytes: {why}")
            }
            Event::StoreResumed { tool, path } => write!(f, "tool {tool}: {path} is written again"),
            // all others were written elsewhere
            _ => Ok(()),
        }
    }
}
