//! The address that is listened on, and the rule about who may be there: beyond loopback, TLS is needed.

use std::io;
use std::net::{SocketAddr, TcpListener};

use super::tls::Acceptor;
use crate::plan::value::Settings;
use tapline_kernel::machine::available_cpus;

/// Why an address is not listened on.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It is no loopback address, and nothing protects what goes there.
    #[error(
        "this is no loopback address, and without TLS whoever is on the way reads and changes what goes there; \
         listen on 127.0.0.1, or say `set tls cert FILE key FILE` in the pipeline file"
    )]
    Unprotected,
    #[error("{0}")]
    Failed(#[from] io::Error),
    /// A file of `set tls`.
    #[error("{0}")]
    Tls(String),
}

/// A socket that is listened on, before anybody is answered.
pub struct Listening {
    pub(super) listener: TcpListener,
    pub(super) address: SocketAddr,
    /// CPUs that this process may use, before workers were put on theirs.
    pub(super) cpus: Vec<u32>,
    pub(super) tls: Option<Acceptor>,
}

impl Listening {
    /// Says whether an address may be listened on with the settings of a plan.
    ///
    /// # Errors
    /// It may not, or a file of `set tls` is wrong.
    pub fn check(address: SocketAddr, settings: &Settings) -> Result<(), Refused> {
        Self::acceptor(address, settings).map(drop)
    }

    fn acceptor(address: SocketAddr, settings: &Settings) -> Result<Option<Acceptor>, Refused> {
        match &settings.tls {
            Some(tls) => Acceptor::load(tls).map(Some).map_err(Refused::Tls),
            None if address.ip().to_canonical().is_loopback() => Ok(None),
            None => Err(Refused::Unprotected),
        }
    }

    /// Listens on an address. To be called before workers are started.
    ///
    /// # Errors
    /// It may not be listened on, or the system refuses.
    pub fn on(address: SocketAddr, settings: &Settings) -> Result<Self, Refused> {
        let tls = Self::acceptor(address, settings)?;
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, cpus: available_cpus(), tls })
    }

    /// Returns what the address of every answer begins with.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_alone_is_listened_on_without_tls() {
        let check = |address: &str| Listening::check(address.parse().expect(address), &Settings::default());
        for address in ["127.0.0.1:0", "127.8.9.10:1", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
            assert!(check(address).is_ok(), "{address}");
        }
        for address in
            ["0.0.0.0:0", "[::]:0", "198.51.100.7:9464", "[2001:db8::1]:1", "[::ffff:10.0.0.1]:0"]
        {
            assert!(matches!(check(address), Err(Refused::Unprotected)), "{address}");
        }
    }
}
