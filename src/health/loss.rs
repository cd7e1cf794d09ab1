//! Watches for loss: something lost packets or copies, and goes on losing them, or has stopped.
//!
//! Each is a small machine that is told what was lost since it was last asked, and what time it is. It speaks twice for a loss, however
//! long that takes and however unevenly it comes: a while after it began, and once it has been over for long.

use std::time::Duration;

/// A loss is told so long after it began, with what was lost meanwhile.
pub const RAISE_AFTER: Duration = Duration::from_secs(2);
/// A loss is over when nothing was lost for so long.
pub const CLEAR_AFTER: Duration = Duration::from_secs(30);

/// A loss from its beginning on.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Loss {
    pub lost: u64,
    /// All that there was meanwhile, what was lost included.
    pub of: u64,
    /// How long it took up to now.
    pub time: Duration,
}

/// Watches one thing that should lose nothing.
#[derive(Clone, Copy, Default, Debug)]
pub struct LossWatch {
    /// When the loss that goes on began, and when something was last lost.
    since: Option<(Duration, Duration)>,
    lost: u64,
    of: u64,
    is_raised: bool,
}

/// A change that a watch saw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    Raised(Loss),
    Cleared(Loss),
}

impl LossWatch {
    /// Takes in that `lost` of `of` were lost since the last look, at `now`.
    pub fn look(&mut self, lost: u64, of: u64, now: Duration) -> Option<Turn> {
        if lost > 0 {
            let (began, _) = self.since.unwrap_or((now, now));
            self.since = Some((began, now));
        }
        let (began, last) = self.since?;
        (self.lost, self.of) = (self.lost + lost, self.of + of);
        let loss = Loss { lost: self.lost, of: self.of, time: now.saturating_sub(began) };
        if !self.is_raised {
            self.is_raised = loss.time >= RAISE_AFTER;
            return self.is_raised.then_some(Turn::Raised(loss));
        }
        if now.saturating_sub(last) < CLEAR_AFTER {
            return None;
        }
        *self = Self::default();
        Some(Turn::Cleared(loss))
    }

    /// Returns whether a loss was told that goes on.
    pub fn is_raised(&self) -> bool {
        self.is_raised
    }

    /// Forgets a loss that nobody is to be told of.
    pub fn rest(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Looks once a second; a model that has all looks before it.
        #[test]
        fn a_loss_is_told_once_and_is_over_once(lost in prop::collection::vec(prop_oneof![4 => Just(0u64), 1 => 1u64..9], 0..300)) {
            let (mut watch, mut begun, mut is_raised) = (LossWatch::default(), None, false);
            for (second, &count) in lost.iter().enumerate() {
                if count > 0 {
                    begun.get_or_insert(second);
                }
                let all = begun.map_or(0, |begun| lost[begun..=second].iter().sum::<u64>());
                let quiet = lost[..=second].iter().rev().take_while(|&&count| count == 0).count();
                let loss = begun.map(|begun| Loss {
                    lost: all,
                    of: 10 * (second - begun + 1) as u64,
                    time: Duration::from_secs((second - begun) as u64),
                });
                let expected = match begun {
                    Some(begun) if !is_raised && second - begun >= 2 => loss.map(Turn::Raised),
                    Some(_) if is_raised && quiet >= 30 => loss.map(Turn::Cleared),
                    _ => None,
                };
                match expected {
                    Some(Turn::Raised(_)) => is_raised = true,
                    Some(Turn::Cleared(_)) => (is_raised, begun) = (false, None),
                    None => {}
                }
                prop_assert_eq!(watch.look(count, 10, Duration::from_secs(second as u64)), expected);
                prop_assert_eq!(watch.is_raised(), is_raised);
            }
        }
    }

    #[test]
    fn what_comes_in_drops_does_not_flap() {
        let mut watch = LossWatch::default();
        let turns = (0..600u64)
            .filter_map(|second| watch.look(u64::from(second % 20 == 0), 100, Duration::from_secs(second)));
        assert_eq!(turns.count(), 1, "it is raised, and stays so");
    }
}
