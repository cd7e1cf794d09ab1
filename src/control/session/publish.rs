//! Gives the HTTP server snapshots, and links that sign in.

use std::sync::Arc;
use std::time::Instant;

use super::Session;
use crate::control::access::Caller;
use crate::control::published::{Published, Reloaded};
use tapline_api::request::Reply;
use tapline_api::words::{ErrorKind, Via};
use tapline_dpdk::clock;

/// The HTTP server, as the session knows it.
pub struct WebPlace {
    /// The beginning of each link, such as `http://127.0.0.1:9464`.
    pub url: String,
    /// The CPUs of its thread, in words.
    pub cpus: String,
}

impl Session {
    /// Takes a snapshot with all that readers are told.
    pub fn publish(&mut self) -> Published {
        self.snapshots += 1;
        Published {
            broker: self.name.as_str().into(),
            seq: self.snapshots,
            counted: self.broker.published(),
            plan: Arc::clone(self.broker.plan()),
            version: self.versions.history().share_current(),
            confirm: self.versions.pending(),
            receipt: self.receipt(),
            reload: self.reloaded,
            audit: self.audit.state(),
            tokens: Arc::clone(&self.tokens),
            is_running: self.broker.is_running(),
        }
    }

    /// The last receipt as JSON, made once.
    fn receipt(&mut self) -> Option<Arc<str>> {
        let receipt = self.versions.last()?;
        if self.last_receipt.as_ref().is_none_or(|(seq, _)| *seq != receipt.seq) {
            // numbers, names and words always have a form
            let text = serde_json::to_string(receipt).unwrap_or_default();
            self.last_receipt = Some((receipt.seq, text.into()));
        }
        self.last_receipt.as_ref().map(|(_, text)| Arc::clone(text))
    }

    /// Notes how a reload ended.
    pub(super) fn note_reload(&mut self, is_done: bool) {
        self.reloaded = Some(Reloaded { is_done, time: (clock::now_ns() / 1_000_000) as f64 / 1e3 });
    }

    /// There is an HTTP server.
    pub fn has_web(&mut self, place: WebPlace) {
        self.web = Some(place);
    }

    /// Makes a link by which a caller signs in to the HTTP server, once.
    pub fn link(&mut self, caller: &Caller) -> Reply {
        let Some(web) = &self.web else {
            return Reply::failed("error: this broker serves no HTTP; start it with --listen\n");
        };
        let url = web.url.clone();
        match self.links.create(caller, Instant::now()) {
            Ok(code) => {
                let by = self.principal(caller);
                let peek = if by.has_peek { " peek" } else { "" };
                let link = format!("{url}/sign-in?code={code}");
                let text = format!("{link}\nit signs in once, within 60 s, as {by}, {}{peek}\n", by.role);
                let value =
                    serde_json::json!({ "url": link, "role": by.role, "peek": by.has_peek, "text": text });
                Reply { value: Some(value.to_string()), ..Reply::done(text) }
            }
            Err(why) => Reply::failed(format!("error: {why}\n")),
        }
    }

    /// Takes a link; whom it was made for. The audit log has it either way.
    ///
    /// # Errors
    /// It is none, was used, or is over.
    pub fn take_link(&mut self, code: &str) -> Result<Caller, Reply> {
        const WRONG: &str =
            "the link is wrong, was used, or is over; ask for another one (tapline ctl web)";
        let found = self.links.take(code, Instant::now()).map(|caller| Caller { via: Via::Web, ..caller });
        let nobody = || Caller::unknown(Vec::new());
        let by = self.principal(&found.clone().unwrap_or_else(nobody));
        self.audit.signed_in(&by, found.is_none().then_some(WRONG));
        found.ok_or_else(|| Reply::error(ErrorKind::Forbidden, format!("error: {WRONG}\n")))
    }
}
