//! Changes, sign-in, and who may not.

use serde_json::json;

use super::{PIPELINE, Served};
use tapline_harness::lab::Lab;

const JSON: [&str; 2] = ["-H", "Content-Type: application/json"];

impl Served {
    /// Posts an object with further flags of curl: status and answer.
    fn post(&self, flags: &[&str], path: &str, body: &str) -> (u16, serde_json::Value) {
        let text = self.curl(&[&["-w", "\n%{http_code}", "-d", body], &JSON[..], flags].concat(), path);
        let (answer, status) = text.rsplit_once('\n').expect("a status");
        (status.parse().expect("a status"), serde_json::from_str(answer).unwrap_or_default())
    }

    fn token(&self, name: &str, role: &str) -> String {
        let made = self.ctl(&["token", "create", name, role]);
        format!("Authorization: Bearer {}", made.lines().next().expect("a token"))
    }

    fn is_on(&self, rule: &str) -> bool {
        self.json(&[], "/api/v1/stats")["rules"][rule]["on"] == json!(true)
    }
}

#[test]
fn roles_are_those_of_the_tokens() {
    let served = Served::start(PIPELINE, &[]);
    let [viewer, operator, admin] = ["viewer", "operator", "admin"].map(|role| served.token(role, role));
    let as_ = |token| ["-H", token];
    let (status, refused) = served.post(&as_(&viewer), "/api/v1/run", r#"{"line":"rule disable 20"}"#);
    assert_eq!((status, &refused["error"]["kind"]), (403, &json!("forbidden")), "{refused}");
    assert!(served.is_on("20"));
    let (status, done) = served.post(&as_(&operator), "/api/v1/run", r#"{"line":"rule disable 20"}"#);
    assert_eq!((status, &done["status"]), (200, &json!(0)), "{done}");
    assert!(!served.is_on("20"), "it is seen at once");
    let (status, dry) =
        served.post(&as_(&operator), "/api/v1/run", r#"{"line":"rule enable 20","dry_run":true}"#);
    assert!(status == 200 && !served.is_on("20"), "{dry}");
    // diagnostics say where, as everywhere
    let (status, wrong) =
        served.post(&as_(&admin), "/api/v1/run", r#"{"line":"rule create 30 from in to nothing"}"#);
    assert_eq!((status, &wrong["error"]["kind"]), (400, &json!("refused")), "{wrong}");
    assert_eq!(wrong["error"]["diagnostics"][0]["column"], json!(27), "{wrong}");
    for (token, path) in
        [(&viewer, "reload"), (&operator, "reload"), (&viewer, "confirm"), (&viewer, "rollback")]
    {
        let (status, answer) = served.post(&as_(token), &format!("/api/v1/{path}"), "{}");
        assert_eq!(status, 403, "{path}: {answer}");
    }
    let (status, receipt) = served.post(&as_(&admin), "/api/v1/reload", r#"{"dry_run":true}"#);
    assert_eq!(
        (status, &receipt["schema"], &receipt["result"]),
        (200, &json!("tapline.reload/1"), &json!("dry_run"))
    );
    // a reload that waits to be confirmed is seen, and kept
    served.lab.write("test.pipe", PIPELINE.replace("rule create 20", "rule create 21"));
    let (status, receipt) = served.post(&as_(&admin), "/api/v1/reload", r#"{"confirm":60}"#);
    assert_eq!(status, 200, "{receipt}");
    let plan = served.json(&[], "/api/v1/plan");
    assert_eq!(plan["confirm"]["id"], receipt["id"]);
    assert_eq!(served.json(&[], "/api/v1/reload")["id"], receipt["id"]);
    let (status, busy) = served.post(&as_(&admin), "/api/v1/run", r#"{"line":"rule disable 21"}"#);
    assert_eq!((status, &busy["error"]["kind"]), (409, &json!("confirm_pending")), "{busy}");
    let (status, _) =
        served.post(&as_(&operator), "/api/v1/confirm", &json!({ "id": receipt["id"] }).to_string());
    assert_eq!((status, &served.json(&[], "/api/v1/plan")["confirm"]), (200, &json!(null)));
    let (status, _) = served.post(&as_(&operator), "/api/v1/rollback", "{}");
    assert_eq!(status, 200);
    assert!(served.json(&[], "/api/v1/stats")["rules"]["20"].is_object());
    // a token that is taken back counts for nothing, from now on
    served.ctl(&["token", "revoke", "operator"]);
    assert_eq!(served.post(&as_(&operator), "/api/v1/rollback", "{}").0, 401);
    assert_eq!(served.status(&["-H", &operator], "/api/v1/stats"), 401);
    served.end();
}

#[test]
fn a_link_signs_in_once_with_the_callers_role() {
    let served = Served::start(PIPELINE, &[]);
    let link = served.ctl(&["web"]);
    let link = link.lines().next().expect("a link").to_owned();
    let path = link.strip_prefix(&served.url).expect("the server's own");
    let code = path.strip_prefix("/sign-in?code=").expect("a code");
    let origin = format!("Origin: {}", served.url);
    let sign_in = |flags: &[&str]| {
        let form = format!("code={code}");
        served.curl(&[&["-D", "-", "-o", "page", "-d", &form], flags].concat(), "/sign-in")
    };
    // to read the page changes nothing, however often
    for _ in 0..3 {
        assert!(served.curl(&[], path).contains(code));
    }
    for foreign in ["Origin: http://evil.example", "Origin: null", "X-None: 1"] {
        assert!(sign_in(&["-H", foreign]).contains(" 403 "), "{foreign}");
    }
    let answer = sign_in(&["-H", &origin]);
    assert!(answer.contains(" 303 ") && answer.contains("HttpOnly; SameSite=Strict"), "{answer}");
    let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
    let cookie = format!("Cookie: other=1; {}", cookie.split(';').next().expect("a value"));
    assert!(sign_in(&["-H", &origin]).contains(" 401 "), "it works once");
    let me = served.json(&["-H", &cookie], "/api/v1/me");
    assert_eq!(
        (&me["role"], &me["via"], &me["is_anonymous"]),
        (&json!("admin"), &json!("web"), &json!(false)),
        "{me}"
    );
    assert!(me["expires"].is_number());
    // a cookie alone changes nothing: the request has to come from the server's own page
    let body = r#"{"line":"rule disable 20"}"#;
    for flags in [
        &["-H", &*cookie][..],
        &["-H", &cookie, "-H", "Origin: http://evil.example"],
        &["-H", &cookie, "-H", "Origin: null"],
        &["-H", &cookie, "-H", "Origin: http://localhost:1"],
        &["-H", &cookie, "-H", &origin, "-H", "Sec-Fetch-Site: cross-site"],
        &["-H", &cookie, "-H", &origin, "-H", "Sec-Fetch-Site: same-site"],
        &["-H", &origin],
    ] {
        let (status, answer) = served.post(flags, "/api/v1/run", body);
        assert!(status == 403 || status == 401, "{flags:?}: {status} {answer}");
    }
    // what a form of another page can send is no JSON
    let form = ["-H", &*cookie, "-H", &origin, "-H", "Content-Type: text/plain", "-d", body];
    assert_eq!(served.status(&form, "/api/v1/run"), 415);
    assert_eq!(served.status(&["-H", &cookie], "/api/v1/run?line=rule%20disable%2020"), 405);
    assert!(served.is_on("20"));
    let own = ["-H", &*cookie, "-H", &origin, "-H", "Sec-Fetch-Site: same-origin"];
    assert_eq!(served.post(&own, "/api/v1/run", body).0, 200);
    assert!(!served.is_on("20"));
    assert_eq!(served.post(&own, "/api/v1/sign-out", "{}").0, 200);
    assert_eq!(served.post(&own, "/api/v1/run", body).0, 401);
    served.end();
}

#[test]
fn who_is_nobody_reads_as_the_file_says() {
    for (word, stats, metrics) in [("on", 200, 200), ("metrics", 401, 200), ("off", 401, 401)] {
        let served = Served::start(&format!("set web anonymous {word}\n{PIPELINE}"), &[]);
        let token = served.token("t", "viewer");
        for (path, status) in [
            ("/api/v1/stats", stats),
            ("/api/v1/stream", stats),
            ("/metrics", metrics),
            ("/healthz", 200),
            ("/", 200),
        ] {
            if path != "/api/v1/stream" || status != 200 {
                assert_eq!(served.status(&[], path), status, "{word}: {path}");
            }
            if path != "/api/v1/stream" {
                assert_eq!(served.status(&["-H", &token], path), 200, "{word}: {path} with a token");
            }
        }
        served.end();
    }
}

/// Changes by HTTP are in the audit log with who asked for them, and so are sign-ins.
#[test]
fn changes_are_in_the_audit_log() {
    let lab = Lab::new();
    let served =
        Served::start_in(lab, &format!("set audit audit.jsonl required\n{PIPELINE}"), "127.0.0.1:0", &[]);
    let token = served.token("ci", "operator");
    assert_eq!(served.post(&["-H", &token], "/api/v1/run", r#"{"line":"rule disable 20"}"#).0, 200);
    assert_eq!(served.post(&["-H", &token], "/api/v1/reload", "{}").0, 403);
    served.ctl(&["web"]);
    let log = std::fs::read_to_string(served.lab.path("audit.jsonl")).expect("a log");
    served.end();
    let by_web: Vec<serde_json::Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|record: &serde_json::Value| {
            record.to_string().contains("\"web\"") && record.to_string().contains("token ci")
        })
        .collect();
    let text = format!("{by_web:#?}");
    assert!(text.contains("rule disable 20") && text.contains("reload"), "{log}");
}
