//! Whom one who connects believes, and what he shows.

use crate::reload::{Reload, Source};
use crate::server::pair;
use crate::{Error, pem};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use std::path::PathBuf;
use std::sync::Arc;

/// The files of one who connects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFiles {
    /// Who signs the certificates of the nodes; none: the authorities of this system.
    pub ca: Option<PathBuf>,
    /// His own certificate and its key, if he shows one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// What is spoken.
    pub protocols: Vec<Vec<u8>>,
}

const CA: &str = "the authority for certificates of nodes";
const CERT: &str = "the certificate to show";
const KEY: &str = "the key of the certificate to show";

impl Reload for ClientFiles {
    type Config = ClientConfig;

    fn read(&self) -> Result<Source, Error> {
        let mut files = Vec::new();
        if let Some(path) = &self.ca {
            files.push(pem::read(CA, path)?);
        }
        if let Some((cert, key)) = &self.identity {
            files.push(pem::read(CERT, cert)?);
            files.push(pem::read(KEY, key)?);
        }
        Ok(Source(files))
    }

    fn config(&self, source: &Source) -> Result<ClientConfig, Error> {
        let mut files = source.0.iter();
        let roots = match (&self.ca, self.ca.as_ref().and_then(|_| files.next())) {
            (Some(path), Some(bytes)) => pem::authorities(CA, path, bytes)?,
            _ => of_this_system()?,
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has suites for TLS 1.3")
            .with_root_certificates(roots);
        let mut config = match (&self.identity, files.next(), files.next()) {
            (Some((cert_path, key_path)), Some(cert), Some(key)) => {
                let chain = pem::certificates(CERT, cert_path, cert)?;
                let key = pem::key(KEY, key_path, key)?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| pair(CERT, cert_path, key_path, &error))?
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&self.protocols);
        Ok(config)
    }
}

fn of_this_system() -> Result<RootCertStore, Error> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Some of a system's authorities are of kinds that nobody needs any more.
    let (good, _) = roots.add_parsable_certificates(found.certs);
    if good == 0 {
        let why =
            found.errors.first().map_or_else(|| "there are none".to_owned(), ToString::to_string);
        return Err(Error::NoAuthorities(why));
    }
    Ok(roots)
}
