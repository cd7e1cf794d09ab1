//! Who asks: by token, by the cookie of a sign-in, by client certificate, or nobody who says so.
//! # Source
//! RFC 6265 (cookies), RFC 6750 (bearer tokens), RFC 6454 (origins).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderValue, Uri, header};

use super::connection::Peer;
use super::shared::Shared;
use crate::control::access::{Caller, Judge};
use crate::control::published::Published;
use crate::control::tokens::{hash, secret};
use tapline_api::access::Principal;
use tapline_dpdk::clock;
use tapline_kernel::process::own_uid;

/// How long a sign-in lasts.
pub(super) const SIGN_IN_LIMIT: Duration = Duration::from_secs(8 * 3600);
/// Sign-ins at a time. The oldest goes when there are more.
const MOST_SIGN_INS: usize = 256;

/// Somebody who asks.
#[derive(Clone)]
pub(super) struct Asker {
    pub caller: Caller,
    pub shows: Shows,
}

/// The proof of who somebody is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Shows {
    Nothing,
    Token,
    Certificate,
    /// The cookie of a sign-in, by its hash.
    Cookie(String),
}

/// Those who have signed in.
#[derive(Default)]
pub(super) struct SignIns(Vec<SignIn>);

struct SignIn {
    /// The hash of the cookie: looking one up takes the same time however much of it is right.
    sha256: String,
    caller: Caller,
    until: Instant,
}

impl SignIns {
    /// Signs somebody in; the value of his cookie.
    ///
    /// # Errors
    /// The reason why there is none.
    pub(super) fn add(&mut self, caller: Caller, now: Instant) -> Result<String, String> {
        let value = secret()?;
        self.0.retain(|sign_in| sign_in.until > now);
        if self.0.len() == MOST_SIGN_INS {
            self.0.remove(0);
        }
        self.0.push(SignIn { sha256: hash(&value), caller, until: now + SIGN_IN_LIMIT });
        Ok(value.to_string())
    }

    fn get(&self, sha256: &str, now: Instant) -> Option<&Caller> {
        let found = self.0.iter().find(|sign_in| sign_in.sha256 == sha256 && sign_in.until > now);
        found.map(|sign_in| &sign_in.caller)
    }

    /// Returns how long a sign-in still lasts.
    pub(super) fn left(&self, sha256: &str, now: Instant) -> Option<Duration> {
        let found = self.0.iter().find(|sign_in| sign_in.sha256 == sha256);
        found.map(|sign_in| sign_in.until.saturating_duration_since(now))
    }

    /// Ends a sign-in.
    pub(super) fn end(&mut self, sha256: &str) {
        self.0.retain(|sign_in| sign_in.sha256 != sha256);
    }
}

/// A token that is none.
pub(super) struct WrongToken;

impl Asker {
    /// Finds out who asks.
    ///
    /// # Errors
    /// A token is shown that is none.
    pub(super) fn of(headers: &HeaderMap, peer: &Peer, shared: &Shared) -> Result<Self, WrongToken> {
        if let Some(shown) = headers.get(header::AUTHORIZATION) {
            let token = shown.to_str().ok().and_then(|text| text.split_once(' '));
            let token =
                token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).ok_or(WrongToken)?.1;
            let published = shared.last();
            let tokens = published.tokens.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let token = Some(tokens.shown(token.trim(), clock::now_ns()).ok_or(WrongToken)?);
            let caller = Caller { token, ..Caller::unknown(peer.certificate.clone()) };
            return Ok(Self { caller, shows: Shows::Token });
        }
        if let Some(value) = cookie(headers, &cookie_name(shared.port)) {
            let sha256 = hash(value);
            if let Some(caller) = shared.sign_ins().get(&sha256, Instant::now()) {
                return Ok(Self { caller: caller.clone(), shows: Shows::Cookie(sha256) });
            }
        }
        let shows = if peer.certificate.is_empty() { Shows::Nothing } else { Shows::Certificate };
        Ok(Self { caller: Caller::unknown(peer.certificate.clone()), shows })
    }

    /// Says who he is by now, and what he may ask for.
    pub(super) fn principal(&self, published: &Published) -> Principal {
        let tokens = published.tokens.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (grants, own_uid) = (&published.plan.access, own_uid());
        Judge { grants, tokens: &tokens, own_uid, now_ns: clock::now_ns() }.principal(&self.caller)
    }
}

/// The name of the cookie: browsers send cookies to all ports of a host.
pub(super) fn cookie_name(port: u16) -> String {
    format!("tapline-{port}")
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let pairs = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = pairs.flat_map(|pairs| pairs.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
}

/// Returns the host that a request is meant for, with its port where one is said.
pub(super) fn host_of<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    // RFC 9112, section 3.2.2: what the request line says comes before `Host`
    let said = uri.authority().map(axum::http::uri::Authority::as_str);
    said.or_else(|| headers.get(header::HOST)?.to_str().ok())
}

/// Returns whether a host is meant for a server at `address`: it is that address, or a loopback name. Its port may be that of a tunnel.
pub(super) fn is_own_host(host: &str, address: IpAddr) -> bool {
    let name = match host.rsplit_once(':') {
        // an address of IPv6 stands in brackets
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let ip: Option<IpAddr> = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(inner) => inner.parse().ok().filter(IpAddr::is_ipv6),
        None => name.parse().ok().filter(IpAddr::is_ipv4),
    };
    match ip {
        Some(ip) => ip.to_canonical().is_loopback() || ip == address && !ip.is_unspecified(),
        None => {
            let name = name.strip_suffix('.').unwrap_or(name);
            name.eq_ignore_ascii_case("localhost")
        }
    }
}

/// Returns whether a request comes from a page of the server's own, by what browsers say; `None` where none of that is said.
pub(super) fn is_same_origin(headers: &HeaderMap, scheme: &str, host: &str) -> Option<bool> {
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
    if let Some(site) = headers.get("sec-fetch-site").map(text)
        && site != "same-origin"
    {
        return Some(false);
    }
    let origin = headers.get(header::ORIGIN).map(text)?;
    Some(origin.eq_ignore_ascii_case(&format!("{scheme}://{host}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_the_address_and_the_names_of_loopback() {
        let listening: IpAddr = "198.51.100.7".parse().expect("an address");
        for host in [
            "localhost",
            "localhost:9464",
            "LOCALHOST.:1",
            "127.0.0.1:9464",
            "127.1.2.3",
            "[::1]:9464",
            "[::1]",
            "198.51.100.7:9464",
            "198.51.100.7",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(is_own_host(host, listening), "{host}");
        }
        for host in [
            "",
            ":9464",
            "evil.example",
            "localhost.evil.example:9464",
            "evil.example:127.0.0.1",
            "127.0.0.1.evil.example",
            "198.51.100.8:9464",
            "0.0.0.0:9464",
            "[::]:9464",
            "[::2]",
            "::1",
            "2130706433",
            "0x7f.1",
            "127.1",
            "localhost:9464@evil.example",
            "[localhost]",
            "[127.0.0.1]:9464",
        ] {
            assert!(!is_own_host(host, listening), "{host}");
        }
        assert!(!is_own_host("0.0.0.0:9464", "0.0.0.0".parse().expect("an address")));
    }

    #[test]
    fn origins_are_the_servers_own_or_foreign() {
        let judge = |pairs: &[(&'static str, &'static str)]| {
            let headers = pairs
                .iter()
                .map(|(name, value)| ((*name).parse().expect("a name"), HeaderValue::from_static(value)));
            is_same_origin(&headers.collect(), "http", "localhost:9464")
        };
        assert_eq!(judge(&[]), None);
        assert_eq!(judge(&[("sec-fetch-site", "same-origin")]), None);
        assert_eq!(judge(&[("origin", "http://localhost:9464")]), Some(true));
        assert_eq!(
            judge(&[("origin", "http://localhost:9464"), ("sec-fetch-site", "same-origin")]),
            Some(true)
        );
        for foreign in [
            "null",
            "https://localhost:9464",
            "http://localhost",
            "http://localhost:3000",
            "http://evil.example",
            "http://localhost:94640",
            "http://127.0.0.1:9464",
            "",
        ] {
            assert_eq!(judge(&[("origin", foreign)]), Some(false), "{foreign}");
        }
        for site in ["cross-site", "same-site", "none", ""] {
            assert_eq!(
                judge(&[("origin", "http://localhost:9464"), ("sec-fetch-site", site)]),
                Some(false),
                "{site}"
            );
        }
    }

    #[test]
    fn a_sign_in_is_found_by_its_cookie_until_it_ends() {
        let (mut sign_ins, now) = (SignIns::default(), Instant::now());
        let value = sign_ins.add(Caller::unknown(Vec::new()), now).expect("a value");
        let mut headers = HeaderMap::new();
        let both = format!("tapline-1=0; a=b;tapline-9464={value}");
        headers.insert(header::COOKIE, HeaderValue::from_str(&both).expect("text"));
        let shown = cookie(&headers, &cookie_name(9464)).expect("a cookie");
        assert_eq!(shown, value);
        assert_eq!(cookie(&headers, &cookie_name(94)), None);
        assert!(sign_ins.get(&hash(shown), now + SIGN_IN_LIMIT / 2).is_some());
        assert!(sign_ins.get(&hash(shown), now + SIGN_IN_LIMIT).is_none());
        assert_eq!(sign_ins.left(&hash(shown), now + SIGN_IN_LIMIT / 2), Some(SIGN_IN_LIMIT / 2));
        sign_ins.end(&hash(shown));
        assert!(sign_ins.get(&hash(shown), now).is_none());
    }
}
