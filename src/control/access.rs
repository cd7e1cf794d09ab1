//! Who somebody is, and what he may ask for: judged by the grants of the running plan, anew for each request.

use super::tokens::{Shown, Tokens};
use crate::plan::access::{GrantPlan, Grantee};
use tapline_api::access::Principal;
use tapline_api::words::{Role, Via};
use tapline_kernel::peer::Peer;

/// Somebody at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The process, of this machine; `None` for somebody who came by the network and has not signed in.
    pub peer: Option<Peer>,
    /// The name of the user.
    pub user: String,
    /// The token that he has shown.
    pub token: Option<Shown>,
    /// The names of the client certificate that he has shown, such as `CN=anna` and `DNS:anna.example`.
    pub certificate: Vec<String>,
    pub via: Via,
}

impl Caller {
    /// Somebody who came by the network, with the names of his certificate, if he has one.
    pub fn unknown(certificate: Vec<String>) -> Self {
        let user = certificate.first().map_or("anonymous".to_owned(), |name| format!("cert {name}"));
        Self { peer: None, user, token: None, certificate, via: Via::Web }
    }
}

/// This is what callers are judged by.
pub struct Judge<'a> {
    pub grants: &'a [GrantPlan],
    pub tokens: &'a Tokens,
    /// Whoever runs the broker.
    pub own_uid: u32,
    pub now_ns: u64,
}

impl Judge<'_> {
    /// Gives the highest role that any grant gives the caller, and the right to see packets' bytes where one of them does. Root and
    /// whoever runs the broker are admins; who may connect and is granted nothing may read.
    pub fn principal(&self, caller: &Caller) -> Principal {
        let Caller { peer, user, token, certificate, via } = caller;
        let is_owner = peer.as_ref().is_some_and(|peer| peer.uid == 0 || peer.uid == self.own_uid);
        let mut by = Principal {
            user: user.clone(),
            uid: peer.as_ref().map(|peer| peer.uid),
            via: *via,
            role: if is_owner { Role::Admin } else { Role::Viewer },
            has_peek: is_owner,
        };
        let token = token.as_ref().and_then(|shown| self.tokens.get(shown, self.now_ns));
        if let Some(token) = token {
            by.user = format!("token {}", token.name);
            by.role = by.role.max(token.role);
            by.has_peek |= token.peek;
        }
        for grant in self.grants {
            let is_his = match &grant.to {
                Grantee::User(uid) => peer.as_ref().is_some_and(|peer| peer.uid == *uid),
                Grantee::Group(gid) => peer.as_ref().is_some_and(|peer| peer.groups.contains(gid)),
                Grantee::Token(name) => token.is_some_and(|token| token.name == *name),
                Grantee::Certificate(name) => certificate.contains(name),
            };
            if is_his {
                by.role = by.role.max(grant.role);
                by.has_peek |= grant.has_peek;
            }
        }
        by
    }
}

#[cfg(test)]
mod tests {
    use super::super::tokens::NewToken;
    use super::*;
    use crate::plan::{Surroundings, plan};

    fn caller(peer: Option<Peer>, token: Option<Shown>) -> Caller {
        Caller { peer, user: "x".to_owned(), token, certificate: Vec::new(), via: Via::Socket }
    }

    #[test]
    fn whoever_came_by_the_network_has_what_his_certificate_and_his_token_are_granted() {
        let text = "port attach p net_null0\ntool create t discard\nrule create 1 from p to t\n\
                    access grant operator cert CN=anna\naccess grant admin user 0\naccess grant admin group 0\n";
        let mut parsed = tapline_lang::parse_text("t", text, &[]);
        let plan = plan(&mut parsed, &Surroundings::fixed()).expect("a plan");
        let tokens = Tokens::default();
        let judge = Judge { grants: &plan.access, tokens: &tokens, own_uid: 0, now_ns: 0 };
        for (certificate, role) in [
            (&[][..], Role::Viewer),
            (&["CN=anna"], Role::Operator),
            (&["CN=ann", "DNS:CN=anna"], Role::Viewer),
        ] {
            let certificate = certificate.iter().map(|&name| name.to_owned()).collect();
            let by = judge.principal(&Caller { certificate, via: Via::Web, ..caller(None, None) });
            assert_eq!((by.role, by.uid, by.via, by.has_peek), (role, None, Via::Web, false));
        }
    }

    #[test]
    fn the_highest_of_all_grants_counts() {
        let text = "port attach p net_null0\ntool create t discard\nrule create 1 from p to t\n\
                    access grant viewer user 1004 peek\naccess grant operator group 50\naccess grant admin group 60\n\
                    access grant operator token ci\naccess grant admin token web\naccess revoke token web\n";
        let mut parsed = tapline_lang::parse_text("t", text, &[]);
        let plan = plan(&mut parsed, &Surroundings::fixed()).expect("a plan");
        let mut tokens = Tokens::default();
        let mut shown = |name: &str, role| {
            let new = NewToken { name: name.to_owned(), role, has_peek: name == "eyes", expire: None };
            let text = tokens.create(new, 0).expect("a token");
            tokens.shown(&text, 0)
        };
        let (ci, web) = (shown("ci", Role::Viewer), shown("web", Role::Viewer));
        let eyes = shown("eyes", Role::Admin);
        for (uid, groups, token, role, has_peek) in [
            (0, &[0][..], &None, Role::Admin, true),
            (7, &[7], &None, Role::Admin, true),
            (1000, &[1000], &None, Role::Viewer, false),
            (1004, &[1000], &None, Role::Viewer, true),
            (1004, &[1000, 50], &None, Role::Operator, true),
            (1000, &[60, 50], &None, Role::Admin, false),
            (50, &[1000], &None, Role::Viewer, false),
            (1000, &[1000], &ci, Role::Operator, false),
            (1000, &[1000], &web, Role::Viewer, false),
            (1000, &[60], &ci, Role::Admin, false),
            (1000, &[1000], &eyes, Role::Admin, true),
        ] {
            let peer = Peer { uid, gid: groups[0], pid: 1, groups: groups.to_vec() };
            let caller = caller(Some(peer), token.clone());
            let judge = Judge { grants: &plan.access, tokens: &tokens, own_uid: 7, now_ns: 0 };
            let by = judge.principal(&caller);
            assert_eq!((by.role, by.has_peek), (role, has_peek), "{caller:?}");
            assert_eq!(by.user.starts_with("token "), token.is_some());
        }
        assert!(tokens.revoke("eyes"));
        let peer = Peer { uid: 1000, gid: 1000, pid: 1, groups: vec![1000] };
        let caller = caller(Some(peer), eyes);
        let judge = Judge { grants: &plan.access, tokens: &tokens, own_uid: 7, now_ns: 0 };
        let by = judge.principal(&caller);
        assert_eq!((by.user.as_str(), by.role, by.has_peek), ("x", Role::Viewer, false));
    }
}
