//! Who asks something of a broker, and what they may ask.

use std::fmt;

use crate::words::{Role, Via};

/// Somebody who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Principal {
    /// The name of the user or of the token.
    pub user: String,
    /// The user's number, for a process of this machine.
    pub uid: Option<u32>,
    pub via: Via,
    pub role: Role,
    /// May see packets' bytes.
    pub has_peek: bool,
}

impl Principal {
    /// Whoever runs the broker, at its own prompt: an admin.
    pub fn at_prompt(uid: u32) -> Self {
        Self {
            user: "prompt".to_owned(),
            uid: Some(uid),
            via: Via::Prompt,
            role: Role::Admin,
            has_peek: true,
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.uid {
            Some(uid) => write!(f, "{} (uid {uid})", self.user),
            None => f.write_str(&self.user),
        }
    }
}
