//! TLS: certificates of the server, and of clients.
//! # Source
//! RFC 8446 (TLS 1.3), RFC 5280 (certificates: section 4.1.2.6 names, section 4.2.1.6 alternative names), RFC 7468 (PEM), X.690 (DER).

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::plan::value::TlsPlan;

/// Bytes of a PEM file.
const MOST_BYTES: u64 = 4 << 20;

/// Takes connections with TLS.
#[derive(Clone)]
pub(super) struct Acceptor {
    acceptor: TlsAcceptor,
    /// The server's own certificate.
    own: CertificateDer<'static>,
}

impl Acceptor {
    /// Reads the files of `set tls`.
    ///
    /// # Errors
    /// The file that is wrong, and why.
    pub(super) fn load(plan: &TlsPlan) -> Result<Self, String> {
        let at = |path: &Path, why: &dyn std::fmt::Display| format!("set tls: {}: {why}", path.display());
        let chain: Vec<CertificateDer<'static>> = certificates(&plan.cert)?;
        let own = chain.first().cloned().ok_or_else(|| at(&plan.cert, &"it has no certificate"))?;
        let key = PrivateKeyDer::from_pem_slice(&read(&plan.key)?);
        let key = key.map_err(|error| at(&plan.key, &format!("it has no private key: {error}")))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("set tls: {error}"))?;
        let builder = match &plan.client_ca {
            None if plan.crl.is_some() => {
                return Err(
                    "set tls: `crl` needs `client-ca`: it revokes certificates of clients".to_owned()
                );
            }
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(path)? {
                    roots.add(authority).map_err(|error| at(path, &error))?;
                }
                let revoked = plan.crl.as_deref().map(revoked).transpose()?.unwrap_or_default();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = verifier.with_crls(revoked).build().map_err(|error| at(path, &error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| at(&plan.cert, &error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), own })
    }

    /// Begins TLS with a client. Gives the names of the client's certificate, too.
    ///
    /// # Errors
    /// The client does not keep to the protocol, or shows no certificate that is taken.
    pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> io::Result<(TlsStream<S>, Vec<String>)> {
        let stream = self.acceptor.accept(stream).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let names = shown.map(|certificate| names(certificate)).unwrap_or_default();
        Ok((stream, names))
    }

    /// Returns whether the server's certificate is for a host, which may have a port behind it.
    pub(super) fn is_for(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let (Ok(name), Ok(own)) = (ServerName::try_from(name), ParsedCertificate::try_from(&self.own))
        else {
            return false;
        };
        rustls::client::verify_server_name(&own, &name).is_ok()
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_slice_iter(&read(path)?).collect::<Result<Vec<_>, _>>();
    certificates.map_err(|error| format!("set tls: {}: {error}", path.display()))
}

fn revoked(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let lists = CertificateRevocationListDer::pem_slice_iter(&read(path)?).collect::<Result<Vec<_>, _>>();
    let lists = lists.map_err(|error| format!("set tls: {}: {error}", path.display()))?;
    if lists.is_empty() {
        return Err(format!("set tls: {}: it has no revocation list", path.display()));
    }
    Ok(lists)
}

/// Reads a file, which is a regular one: no other has an end that is sure to come.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let bytes = (|| {
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let mut bytes = Vec::new();
        File::open(path)?.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(io::Error::other(format!("it has more than {MOST_BYTES} bytes")));
        }
        Ok(bytes)
    })();
    bytes.map_err(|error| format!("set tls: {}: {error}", path.display()))
}

/// Tags of DER.
const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// The object identifiers of the common name (2.5.4.3) and of alternative names (2.5.29.17).
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];

/// Returns the names of a certificate: `CN=…`, then its alternative names of mail, DNS and URI. The certificate is taken as right already.
fn names(certificate: &[u8]) -> Vec<String> {
    names_of(certificate).unwrap_or_default()
}

fn names_of(certificate: &[u8]) -> Option<Vec<String>> {
    let mut fields = Der(Der(certificate).inside(SEQUENCE)?).inside(SEQUENCE).map(Der)?;
    fields.skip_if(VERSION);
    // serial number, algorithm, issuer, validity
    (0..4).try_for_each(|_| fields.next().map(drop))?;
    let mut names = Vec::new();
    let subject = fields.next()?;
    for set in Der(subject.1) {
        for attribute in Der(set.1) {
            let mut parts = Der(attribute.1);
            let (is_name, value) = (parts.next()? == (OBJECT_IDENTIFIER, COMMON_NAME), parts.next()?);
            if let (true, Ok(text)) = (is_name, std::str::from_utf8(value.1)) {
                names.push(format!("CN={text}"));
            }
        }
    }
    let Some((_, extensions)) = fields.find(|(tag, _)| *tag == EXTENSIONS) else { return Some(names) };
    for extension in Der(Der(extensions).inside(SEQUENCE)?) {
        let mut parts = Der(extension.1);
        // whether it is critical may stand before its value
        if parts.next()? != (OBJECT_IDENTIFIER, ALTERNATIVE_NAMES) {
            continue;
        }
        let (_, value) = parts.last()?;
        for (tag, name) in Der(Der(value).inside(SEQUENCE)?) {
            let is_text = matches!(tag, 0x81 | 0x82 | 0x86);
            // none passes for a common name
            let text = std::str::from_utf8(name).ok().filter(|text| is_text && !text.contains('='));
            names.extend(text.map(str::to_owned));
        }
    }
    Some(names)
}

/// Elements of DER, one after another: tag and content.
struct Der<'a>(&'a [u8]);

impl<'a> Iterator for Der<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // X.690, section 8.1.3.5: so many bytes of length follow
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (bytes.iter().fold(0, |len, &byte| len << 8 | usize::from(byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((tag, content))
    }
}

impl<'a> Der<'a> {
    /// The content of the next element, if it has this tag.
    fn inside(mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(known, _)| *known == tag).map(|(_, content)| content)
    }

    fn skip_if(&mut self, tag: u8) {
        if self.0.first() == Some(&tag) {
            self.next();
        }
    }
}
