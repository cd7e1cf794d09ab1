//! How long tests go on that can go on for as long as they are let: `make soak` says how many minutes.

use std::time::Duration;

/// A number that a variable of the environment says, or what it is unless it says one.
/// # Panics
/// If it says something else: a test that runs shorter than it was asked to would be believed.
pub fn number_of(variable: &str, unless_said: u64) -> u64 {
    let said = std::env::var(variable).ok();
    said.map_or(unless_said, |text| {
        text.parse().unwrap_or_else(|_| panic!("{variable}={text}: a number is expected"))
    })
}

/// The seconds that a variable says, or else `TAPLINE_MINUTES`, or else so many.
pub fn span(variable: &str, seconds: u64) -> Duration {
    let minutes = number_of("TAPLINE_MINUTES", 0);
    Duration::from_secs(number_of(variable, if minutes == 0 { seconds } else { minutes * 60 }))
}
