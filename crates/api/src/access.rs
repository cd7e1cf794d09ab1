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

    /// Whoever may send signals to the broker: an admin.
    pub fn by_signal(uid: u32) -> Self {
        Self { user: "signal".to_owned(), via: Via::Signal, ..Self::at_prompt(uid) }
    }

    /// The broker itself: a timer or a guard.
    pub fn of_itself() -> Self {
        Self { user: "tapline".to_owned(), uid: None, via: Via::Timer, role: Role::Admin, has_peek: false }
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
