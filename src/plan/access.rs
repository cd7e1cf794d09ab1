//! Who may do what: the grants of a plan.

use super::value::Settings;
use tapline_api::words::{AuditMode, GranteeKind, Role};

/// Somebody who is granted a role.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Grantee {
    /// A user has a number.
    User(u32),
    /// A group has a number.
    Group(u32),
    /// A token has a name.
    Token(String),
    /// A client certificate has names: `CN=anna`, or one of its alternative names.
    Certificate(String),
}

/// `access grant …`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GrantPlan {
    pub to: Grantee,
    pub kind: GranteeKind,
    /// The name, or the number, as it was written.
    pub name: String,
    pub role: Role,
    /// May see packets' bytes.
    pub has_peek: bool,
}

impl GrantPlan {
    /// Says to whom, as it was written: `user anna`.
    pub fn grantee(&self) -> String {
        format!("{} {}", self.kind, self.name)
    }
}

/// `set audit …`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditPlan {
    pub path: std::path::PathBuf,
    /// As it was said.
    pub mode: Option<AuditMode>,
}

impl Settings {
    /// Returns whether nothing may be changed that is not written to the audit log: where it was said so, or nothing was said and
    /// somebody is granted something.
    pub fn requires_audit(&self, grants: &[GrantPlan]) -> bool {
        let Some(AuditPlan { path: _, mode }) = &self.audit else { return false };
        match mode {
            Some(mode) => *mode == AuditMode::Required,
            None => !grants.is_empty(),
        }
    }
}
