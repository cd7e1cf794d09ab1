//! Certificates, by openssl(1) and curl.

use std::process::Command;

use serde_json::json;

use super::{PIPELINE, Served};
use tapline_harness::lab::{EAL, Lab};
use tapline_harness::programs::has_programs;

/// Makes an authority, a server's certificate, and those of clients: one that is right, and one for each way to be wrong.
const MAKE: &str = r#"
set -e
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 30 -subj /CN=ca 2>/dev/null
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout other.key -out other.pem -days 30 -subj /CN=other 2>/dev/null
: >index.txt; echo 1000 >serial; echo 01 >crlnumber
cat >ca.conf <<END
[ca]
default_ca = a
[a]
database = index.txt
serial = serial
crlnumber = crlnumber
new_certs_dir = .
default_md = sha256
policy = p
default_crl_days = 30
copy_extensions = copy
[p]
commonName = supplied
END
make() { # NAME CA DAYS EXTENSIONS
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $1.key -out $1.csr -subj /CN=$1 2>/dev/null
    printf '%b' "$4" >$1.ext
    openssl ca -batch -config ca.conf -cert $2.pem -keyfile $2.key -in $1.csr -out $1.pem -notext -extfile $1.ext $3 2>/dev/null
}
make server ca "-days 20" 'subjectAltName=DNS:broker.example,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n'
make anna ca "-days 20" 'subjectAltName=DNS:anna.example,email:anna@example\nextendedKeyUsage=clientAuth\n'
make bert ca "-days 20" 'extendedKeyUsage=clientAuth\n'
make revoked ca "-days 20" 'extendedKeyUsage=clientAuth\n'
make purpose ca "-days 20" 'extendedKeyUsage=serverAuth\n'
make expired ca "-startdate 20200101000000Z -enddate 20200102000000Z" 'extendedKeyUsage=clientAuth\n'
make foreign other "-days 20" 'extendedKeyUsage=clientAuth\n'
openssl ca -config ca.conf -cert ca.pem -keyfile ca.key -revoke revoked.pem 2>/dev/null
openssl ca -config ca.conf -cert ca.pem -keyfile ca.key -gencrl -out crl.pem 2>/dev/null
"#;

fn lab() -> Option<Lab> {
    if !has_programs(&["openssl", "curl"]) {
        tapline_skip::skipped("no openssl or no curl");
        return None;
    }
    let lab = Lab::new();
    let made = Command::new("sh").args(["-c", MAKE]).current_dir(lab.path(".")).status().expect("sh(1)");
    assert!(made.success(), "openssl makes no certificates");
    Some(lab)
}

fn client(name: &str) -> Vec<String> {
    ["--cacert", "ca.pem", "--cert", &format!("{name}.pem"), "--key", &format!("{name}.key")]
        .map(str::to_owned)
        .to_vec()
}

#[test]
fn certificates_say_who_asks() {
    let Some(lab) = lab() else { return };
    let text = format!(
        "set tls cert server.pem key server.key client-ca ca.pem crl crl.pem\naccess grant operator cert CN=anna\n\
         access grant admin cert anna.example\n{PIPELINE}"
    );
    let served = Served::start_tls(lab, &text, &client("anna"));
    assert!(served.url.starts_with("https://"), "{}", served.url);
    let as_ = |name: &str| client(name);
    let me = |name: &str| {
        let flags = as_(name);
        served.json(&flags.iter().map(String::as_str).collect::<Vec<_>>(), "/api/v1/me")
    };
    // the highest of all grants counts
    assert_eq!((&me("anna")["role"], &me("anna")["user"]), (&json!("admin"), &json!("cert CN=anna")));
    assert_eq!(me("bert")["role"], json!("viewer"));
    for wrong in ["revoked", "purpose", "expired", "foreign"] {
        let flags = as_(wrong);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        assert_eq!(served.curl(&flags, "/api/v1/me"), "", "{wrong}");
    }
    assert_eq!(served.curl(&["--cacert", "ca.pem"], "/api/v1/me"), "", "none at all");
    // a change needs no origin where a certificate is shown, and its role
    let post = |name: &str, flags: &[&str]| {
        let own = as_(name);
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        let json = ["-H", "Content-Type: application/json", "-d", r#"{"line":"rule disable 20"}"#];
        served.status(&[&own[..], &json, flags].concat(), "/api/v1/run")
    };
    assert_eq!(
        post("anna", &["-H", "Origin: https://evil.example"]),
        403,
        "a page of another origin has the certificate, too"
    );
    assert_eq!(post("bert", &[]), 403);
    assert_eq!(post("anna", &[]), 200);
    // names of the certificate are the server's, others are not
    let own = as_("anna");
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    for (host, status) in [("broker.example", 200), ("evil.example", 421), ("127.0.0.1", 200)] {
        assert_eq!(
            served.status(&[&own[..], &["-H", &format!("Host: {host}")]].concat(), "/healthz"),
            status,
            "{host}"
        );
    }
    // plain HTTP is not answered
    let plain = Command::new("curl")
        .args(["-s", "--max-time", "5", &served.url.replace("https", "http")])
        .output()
        .expect("curl(1)");
    assert!(!plain.status.success() && plain.stdout.is_empty());
    // a list of revocations that is longer counts from the next change on
    let revoke = "openssl ca -config ca.conf -cert ca.pem -keyfile ca.key -revoke bert.pem && \
                  openssl ca -config ca.conf -cert ca.pem -keyfile ca.key -gencrl -out crl.pem";
    let done =
        Command::new("sh").args(["-c", revoke]).current_dir(served.lab.path(".")).output().expect("sh(1)");
    assert!(done.status.success());
    assert_eq!(me("bert")["role"], json!("viewer"));
    served.ctl(&["reload"]);
    served.ctl(&["rule", "enable", "20"]);
    std::thread::sleep(std::time::Duration::from_millis(500));
    let flags = as_("bert");
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    assert_eq!(served.curl(&flags, "/api/v1/me"), "", "it was revoked");
    assert_eq!(me("anna")["role"], json!("admin"));
    served.end();
}

#[test]
fn beyond_loopback_nobody_is_anonymous() {
    let Some(lab) = lab() else { return };
    let served = Served::start_at(
        lab,
        &format!("set tls cert server.pem key server.key\n{PIPELINE}"),
        "0.0.0.0:0",
        &["-k"],
    );
    assert_eq!(served.status(&["-k"], "/api/v1/stats"), 401);
    assert_eq!(served.status(&["-k"], "/metrics"), 401);
    assert_eq!(served.status(&["-k"], "/healthz"), 200);
    let token = served.ctl(&["token", "create", "t", "viewer"]);
    let bearer = format!("Authorization: Bearer {}", token.lines().next().expect("a token"));
    assert_eq!(served.status(&["-k", "-H", &bearer], "/api/v1/stats"), 200);
    served.end();
}

#[test]
fn files_that_are_wrong_are_told_of() {
    let Some(lab) = lab() else { return };
    lab.write("text", "no PEM");
    for (words, told) in [
        ("cert nothing.pem key server.key", "nothing.pem: No such file"),
        ("cert text key server.key", "text: it has no certificate"),
        ("cert server.pem key text", "text: it has no private key"),
        ("cert server.pem key anna.key", "server.pem: "),
        ("cert server.pem key server.key client-ca text", "text: "),
        ("cert server.pem key server.key client-ca ca.pem crl text", "text: it has no revocation list"),
        ("cert server.pem key server.key crl crl.pem", "`crl` needs `client-ca`"),
    ] {
        lab.write("test.pipe", format!("set tls {words}\n{PIPELINE}"));
        let output = lab
            .tapline(&["run", "test.pipe", "--eal", EAL, "--listen", "127.0.0.1:0"])
            .output()
            .expect("tapline");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() != Some(0) && text.contains(told), "{words}: {text}");
    }
}
