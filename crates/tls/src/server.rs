//! What a port shows to those who connect, and whose certificates it takes.

use crate::reload::{Reload, Source};
use crate::{Error, pem};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    /// Its certificate, and those between it and the authority.
    pub cert: PathBuf,
    /// The key of the certificate.
    pub key: PathBuf,
    /// Who signs the certificates of those who connect; none: nobody is asked for one.
    pub client_ca: Option<PathBuf>,
    /// Whether who shows no certificate is sent away; else only who shows a wrong one.
    pub client_required: bool,
    /// What is spoken on it, in the order of preference.
    pub protocols: Vec<Vec<u8>>,
}

const CERT: &str = "the certificate of the port";
const KEY: &str = "the key of the port's certificate";
const CLIENT_CA: &str = "the authority for certificates of those who connect";

impl Reload for ServerFiles {
    type Config = ServerConfig;

    fn read(&self) -> Result<Source, Error> {
        let mut files = vec![pem::read(CERT, &self.cert)?, pem::read(KEY, &self.key)?];
        if let Some(path) = &self.client_ca {
            files.push(pem::read(CLIENT_CA, path)?);
        }
        Ok(Source(files))
    }

    fn config(&self, source: &Source) -> Result<ServerConfig, Error> {
        let [cert, key, rest @ ..] = &source.0[..] else {
            unreachable!("read gives both");
        };
        let chain = pem::certificates(CERT, &self.cert, cert)?;
        let key = pem::key(KEY, &self.key, key)?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has suites for TLS 1.3");
        let builder = match (&self.client_ca, rest) {
            (Some(path), [authorities]) => {
                let roots = Arc::new(pem::authorities(CLIENT_CA, path, authorities)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                let verifier = match self.client_required {
                    true => verifier,
                    false => verifier.allow_unauthenticated(),
                };
                let verifier = verifier.build().map_err(|error| {
                    Error::content(CLIENT_CA, path, format!("it can't be used: {error}"))
                })?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| pair(CERT, &self.cert, &self.key, &error))?;
        config.alpn_protocols.clone_from(&self.protocols);
        Ok(config)
    }
}

/// Why a certificate and a key do not go together.
pub(crate) fn pair(what: &'static str, cert: &Path, key: &Path, error: &rustls::Error) -> Error {
    let problem = match error {
        rustls::Error::InconsistentKeys(_) => format!(
            "it is not the certificate of the key in {}; are they of two different nodes, or was only \
             one of them replaced?",
            key.display()
        ),
        other => format!("it can't be used with the key in {}: {other}", key.display()),
    };
    Error::content(what, cert, problem)
}
