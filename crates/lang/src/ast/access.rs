//! `access …`: who may do what.

use super::super::source::Spanned;
use super::Name;
use tapline_api::words::{GranteeKind, Role};

/// Somebody who is granted a role.
#[derive(Clone, PartialEq, Debug)]
pub struct Grantee {
    pub kind: GranteeKind,
    /// A name, or the number of a user or a group.
    pub name: Name,
}

/// `access grant ROLE user|group|token|cert NAME [peek]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Grant {
    pub role: Spanned<Role>,
    pub to: Grantee,
    /// May see packets' bytes.
    pub has_peek: bool,
}
