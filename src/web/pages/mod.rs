//! Files for browsers, which are part of the program.

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::api;
use super::routes::Front;

/// The path of the page that a one-time link leads to.
pub(super) const SIGN_IN: &str = "/sign-in";
/// Hexadecimal digits of the code of a link.
const CODE_LEN: usize = 64;

/// A file of the pages.
struct File {
    path: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

/// Every file by its path.
const FILES: &[File] = &[
    File { path: "/", content_type: HTML, bytes: include_bytes!("../../../web/index.html") },
    File { path: "/web/app.js", content_type: SCRIPT, bytes: include_bytes!("../../../web/app.js") },
    File { path: "/web/charts.js", content_type: SCRIPT, bytes: include_bytes!("../../../web/charts.js") },
    File { path: "/web/html.js", content_type: SCRIPT, bytes: include_bytes!("../../../web/html.js") },
    File { path: "/web/live.js", content_type: SCRIPT, bytes: include_bytes!("../../../web/live.js") },
    File {
        path: "/web/picture.js",
        content_type: SCRIPT,
        bytes: include_bytes!("../../../web/picture.js"),
    },
    File { path: "/web/tables.js", content_type: SCRIPT, bytes: include_bytes!("../../../web/tables.js") },
    File { path: "/web/units.js", content_type: SCRIPT, bytes: include_bytes!("../../../web/units.js") },
    File {
        path: "/web/verdict.js",
        content_type: SCRIPT,
        bytes: include_bytes!("../../../web/verdict.js"),
    },
    File { path: "/web/style.css", content_type: STYLE, bytes: include_bytes!("../../../web/style.css") },
    File { path: "/web/icon.svg", content_type: PICTURE, bytes: include_bytes!("../../../web/icon.svg") },
    File { path: "/pages.css", content_type: STYLE, bytes: include_bytes!("pages.css") },
    File { path: "/sign-in.js", content_type: SCRIPT, bytes: include_bytes!("sign-in.js") },
];

/// Names what a file has: its hash (FNV-1a, 64 bits), in quotes.
fn tag(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("\"{hash:016x}\"")
}

/// Answers with a file; for every other path that there is none.
pub(super) async fn page(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let Some(file) = FILES.iter().find(|file| file.path == uri.path()) else {
        return api::not_found().await;
    };
    if !matches!(method, Method::GET | Method::HEAD) {
        return api::method_not_allowed().await;
    }
    let tag = tag(file.bytes);
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let is_known = known.is_some_and(|known| known.split(',').any(|known| known.trim() == tag));
    let headers = [
        (header::CONTENT_TYPE, file.content_type.to_owned()),
        (header::ETAG, tag),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
    ];
    if is_known {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, file.bytes).into_response()
}

/// Returns whether text may be the code of a link.
pub(super) fn is_code(code: &str) -> bool {
    code.len() == CODE_LEN
        && code.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// The page of a one-time link: it sends the code back, since to read a page changes nothing.
pub(super) async fn sign_in_page(State(_): State<Front>, RawQuery(query): RawQuery) -> Response {
    let code = query.as_deref().and_then(|query| query.strip_prefix("code=")).unwrap_or_default();
    if !is_code(code) {
        return refused_sign_in("this is no code of a link");
    }
    let page = include_str!("sign-in.html").replace("CODE", code);
    ([(header::CONTENT_TYPE, HTML)], page).into_response()
}

/// Says why nobody has signed in.
pub(super) fn refused_sign_in(why: &str) -> Response {
    // of text that is not ours nothing is an element
    let why = why.replace('&', "&amp;").replace('<', "&lt;");
    let page = include_str!("refused.html").replace("WHY", &why);
    (StatusCode::UNAUTHORIZED, [(header::CONTENT_TYPE, HTML)], page).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_what_links_have() {
        assert!(is_code(&"0af9".repeat(16)));
        for wrong in ["", "0", &"0AF9".repeat(16), &"0af9".repeat(17), &"<a>'".repeat(16), &"é".repeat(32)]
        {
            assert!(!is_code(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_tag_is_the_hash_that_fnv_1a_has_of_the_bytes() {
        // test vectors of draft-eastlake-fnv, appendix C
        assert_eq!(tag(b""), "\"cbf29ce484222325\"");
        assert_eq!(tag(b"foobar"), "\"85944171f73967e8\"");
    }

    #[test]
    fn files_name_no_other_server() {
        for file in FILES {
            // the name of SVG's namespace is no address that is asked
            let text =
                std::str::from_utf8(file.bytes).expect("text").replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains("://"), "{}", file.path);
            // the policy forbids styles and scripts within a page
            let is_page = file.content_type == HTML;
            assert!(!is_page || !text.contains("<style") && !text.contains(" on"), "{}", file.path);
        }
    }
}
