//! A bell: threads that have something for the session ring it, and the session does not sleep through it.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Clones are the same bell.
#[derive(Clone, Default)]
pub struct Bell(Arc<(Mutex<bool>, Condvar)>);

impl Bell {
    /// Wakes who sleeps, or keeps who is about to sleep from it.
    pub fn ring(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_one();
    }

    /// Sleeps for `limit`, or until the bell rings; one that rang since the last time rings now.
    pub fn sleep(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let mut has_rung = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !*has_rung {
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                break;
            }
            (has_rung, _) = self.0.1.wait_timeout(has_rung, rest).unwrap_or_else(PoisonError::into_inner);
        }
        *has_rung = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_rang_before_is_heard_once() {
        let bell = Bell::default();
        bell.ring();
        bell.clone().ring();
        // a bell that nobody rings is waited for
        bell.sleep(Duration::from_secs(3600));
        let begun = Instant::now();
        bell.sleep(Duration::from_millis(20));
        assert!(begun.elapsed() >= Duration::from_millis(20));
    }
}
