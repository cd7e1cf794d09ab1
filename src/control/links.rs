//! One-time links by which somebody who talks to the control socket signs in to the HTTP server, with the role that he has there.

use std::time::{Duration, Instant};

use super::access::Caller;
use super::tokens::{hash, secret};

/// How long a link can be used.
pub const LIMIT: Duration = Duration::from_secs(60);
/// Links that wait to be used. The oldest goes when there are more.
const MOST: usize = 64;

/// The links that were given out and not used.
#[derive(Default)]
pub struct Links(Vec<Link>);

struct Link {
    /// The hash of the code: looking one up takes the same time however much of it is right.
    sha256: String,
    caller: Caller,
    until: Instant,
}

impl Links {
    /// Makes a link for somebody; its code.
    ///
    /// # Errors
    /// The reason why there is none.
    pub fn create(&mut self, caller: &Caller, now: Instant) -> Result<String, String> {
        let code = secret()?;
        self.0.retain(|link| link.until > now);
        if self.0.len() == MOST {
            self.0.remove(0);
        }
        self.0.push(Link { sha256: hash(&code), caller: caller.clone(), until: now + LIMIT });
        Ok(code.to_string())
    }

    /// Takes the link of a code, once; whom it was made for.
    pub fn take(&mut self, code: &str, now: Instant) -> Option<Caller> {
        let sha256 = hash(code);
        let place = self.0.iter().position(|link| link.sha256 == sha256)?;
        let link = self.0.remove(place);
        (link.until > now).then_some(link.caller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tapline_api::words::Via;

    #[test]
    fn a_link_is_taken_once_and_within_its_time() {
        let caller = |user: &str| Caller {
            peer: None,
            user: user.to_owned(),
            token: None,
            certificate: Vec::new(),
            via: Via::Socket,
        };
        let (mut links, now) = (Links::default(), Instant::now());
        let anna = links.create(&caller("anna"), now).expect("a code");
        let late = links.create(&caller("late"), now).expect("a code");
        assert!(anna.len() == 64 && anna != late);
        for wrong in ["", &anna[..63], &anna.to_uppercase().replace('0', "O")] {
            assert!(links.take(wrong, now).is_none(), "{wrong}");
        }
        assert_eq!(links.take(&anna, now + LIMIT / 2).expect("a link").user, "anna");
        assert!(links.take(&anna, now + LIMIT / 2).is_none());
        assert!(links.take(&late, now + LIMIT).is_none());
        let first = links.create(&caller("first"), now).expect("a code");
        for _ in 0..MOST {
            links.create(&caller("x"), now).expect("a code");
        }
        assert!(links.take(&first, now).is_none() && links.0.len() == MOST);
    }
}
