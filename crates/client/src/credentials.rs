//! Who a client is, and whom it believes: TLS, and the token that it shows.

use crate::Error;
use crate::dial::{Dial, Io};
use futures::future::BoxFuture;
use quorate_tls::{ClientFiles, HTTP_2, Reloading, server_name};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// How often files are looked at, at most: when a connection is made.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Bytes of a token: ours have fewer than 100.
const TOKEN_BYTES_MAX: usize = 1 << 10;

/// How connections are encrypted; see [`crate::Options::tls`].
///
/// The nodes' certificates have to be for the host in their address: the one in `endpoints`, and those
/// that the cluster says clients reach its nodes at. Files are looked at again when a connection is made,
/// so a certificate is replaced without a restart.
///
/// ```
/// # use quorate_client::{Client, Tls};
/// let options = Client::builder()
///     .endpoints(["node-1.example:8811"])
///     .tls(Tls::new().ca_file("/etc/app/ca.pem").identity_files("/etc/app/me.pem", "/etc/app/me-key.pem"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "it does nothing until options take it"]
pub struct Tls {
    ca: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// Believes the authorities of this system, and shows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Believes the authorities in this file (PEM) instead, and no others.
    pub fn ca_file(mut self, ca: impl Into<PathBuf>) -> Self {
        self.ca = Some(ca.into());
        self
    }

    /// Shows the certificate in the first file, whose key is in the second one (PEM): nodes with
    /// `tls.client_ca_file` take the name in it for who this is.
    pub fn identity_files(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some((cert.into(), key.into()));
        self
    }

    /// Dials as `below` does, and speaks TLS on it. Reads the files.
    pub(crate) fn over(self, below: Arc<dyn Dial>) -> Result<TlsDial, Error> {
        let files =
            ClientFiles { ca: self.ca, identity: self.identity, protocols: vec![HTTP_2.to_vec()] };
        let files = Reloading::new(files).map_err(|error| Error::bad_option(error.to_string()))?;
        let looked = Mutex::new(Instant::now());
        Ok(TlsDial(Arc::new(Below { below, files, looked })))
    }
}

/// Dials, and speaks TLS.
#[derive(Clone)]
pub(crate) struct TlsDial(Arc<Below>);

struct Below {
    below: Arc<dyn Dial>,
    files: Reloading<ClientFiles>,
    /// When it was looked last whether they have changed.
    looked: Mutex<Instant>,
}

impl Below {
    /// Looks whether files have changed, now and then.
    async fn look(self: Arc<Self>) {
        let due = {
            let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
            let due = looked.elapsed() >= LOOK_EVERY;
            if due {
                *looked = Instant::now();
            }
            due
        };
        if !due {
            return;
        }
        let looked = tokio::task::spawn_blocking(move || self.files.look()).await;
        match looked {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "certificates have changed and can't be used; those from before are");
            }
            Err(panic) => tracing::warn!(%panic, "looking at certificates failed"),
        }
    }
}

impl Dial for TlsDial {
    fn dial(&self, addr: &str) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        let below = Arc::clone(&self.0);
        let addr = addr.to_owned();
        Box::pin(async move {
            let name = server_name(&addr)?;
            Arc::clone(&below).look().await;
            let connector = TlsConnector::from(below.files.current());
            let stream = below.below.dial(&addr).await?;
            let stream = connector.connect(name, stream).await?;
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    }
}

/// A token, as it is shown with each request.
#[derive(Clone, Default)]
pub(crate) struct Credentials(Option<MetadataValue<Ascii>>);

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Credentials(a token)" } else { "Credentials(none)" })
    }
}

impl Credentials {
    /// Of a token, as the broker printed it.
    pub(crate) fn token(token: &str) -> Result<Self, Error> {
        let refused = |why| Err(Error::bad_option(format!("the token {why}")));
        let token = token.trim();
        if token.is_empty() {
            return refused("is empty");
        }
        if token.len() > TOKEN_BYTES_MAX || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return refused(
                "has characters that no token has; was it copied as a whole, and alone?",
            );
        }
        let mut value: MetadataValue<Ascii> = match format!("Bearer {token}").parse() {
            Ok(value) => value,
            Err(_) => return refused("can't be sent"),
        };
        // Whoever prints requests prints no secret.
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_printed_and_one_that_can_not_be_is_refused() {
        let shown = format!("{:?}", Credentials::token(" qt_17_secret\n").unwrap());
        assert!(!shown.contains("secret"), "{shown}");
        for wrong in ["", "  ", "two words", "t\u{f6}ken", &"x".repeat(2000)] {
            let error = Credentials::token(wrong).expect_err("refused").to_string();
            assert!(!error.contains("two") && error.contains("token"), "{error}");
        }
    }
}
