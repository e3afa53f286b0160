//! An authority, and certificates that it signs: what a cluster without a PKI of its own needs.
//!
//! ```
//! use quorate_tls::issue::{Authority, Kind};
//!
//! let authority = Authority::create("Quorate", 3650)?;
//! let node = authority.issue("node-1", Kind::Server, &["10.0.0.1".to_owned()], 825)?;
//! assert!(node.cert.starts_with("-----BEGIN CERTIFICATE-----"));
//! // Later, from what was kept:
//! Authority::open(authority.cert(), &authority.key())?.issue("ann", Kind::Client, &[], 90)?;
//! # Ok::<(), quorate_tls::issue::IssueError>(())
//! ```

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::ServerName;
use time::{Duration, OffsetDateTime};

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct IssueError(String);

impl From<rcgen::Error> for IssueError {
    fn from(error: rcgen::Error) -> Self {
        Self(format!("the certificate can't be made: {error}"))
    }
}

/// Who shows a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A port, to those who connect.
    Server,
    /// One who connects.
    Client,
    /// A node, which does both among its peers.
    Peer,
}

/// A certificate and its key, as PEM.
pub struct Issued {
    /// The certificate.
    pub cert: String,
    /// Its key: a secret.
    pub key: String,
}

/// Signs certificates.
pub struct Authority {
    cert: String,
    issuer: Issuer<'static, KeyPair>,
}

/// Clocks of other machines may be behind ours.
const BEFORE: Duration = Duration::hours(1);

impl Authority {
    /// A new one, which holds for so many days. Its name gets a few digits of its key, so that two of
    /// them are told apart, by people and by those who look for the one that signed a certificate.
    ///
    /// # Errors
    /// When the name can't stand in a certificate.
    pub fn create(name: &str, days: u32) -> Result<Self, IssueError> {
        let key = KeyPair::generate()?;
        let digits: String =
            key.public_key_raw().iter().rev().take(4).map(|byte| format!("{byte:02x}")).collect();
        let mut params = params(&format!("{name} {digits}"), &[], days)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert = params.self_signed(&key)?.pem();
        Ok(Self { cert, issuer: Issuer::new(params, key) })
    }

    /// One that was made before, from its certificate and key, as PEM.
    ///
    /// # Errors
    /// When they are not what they should be.
    pub fn open(cert: &str, key: &str) -> Result<Self, IssueError> {
        let wrong = |what: &str| IssueError(format!("the authority's {what} can't be used"));
        let key = KeyPair::from_pem(key).map_err(|_| wrong("key"))?;
        let issuer = Issuer::from_ca_cert_pem(cert, key).map_err(|_| wrong("certificate"))?;
        Ok(Self { cert: cert.to_owned(), issuer })
    }

    /// Its certificate, as PEM: what others believe it by.
    #[must_use]
    pub fn cert(&self) -> &str {
        &self.cert
    }

    /// Its key, as PEM: whoever has it can be anybody.
    #[must_use]
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A certificate for `name`, which is reached under `hosts` (names or IP addresses).
    ///
    /// # Errors
    /// When a name can't stand in a certificate.
    pub fn issue(
        &self,
        name: &str,
        kind: Kind,
        hosts: &[String],
        days: u32,
    ) -> Result<Issued, IssueError> {
        let mut params = params(name, hosts, days)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let (server, client) =
            (ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth);
        params.extended_key_usages = match kind {
            Kind::Server => vec![server],
            Kind::Client => vec![client],
            Kind::Peer => vec![server, client],
        };
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Issued { cert, key: key.serialize_pem() })
    }
}

fn params(name: &str, hosts: &[String], days: u32) -> Result<CertificateParams, IssueError> {
    // Whoever connects compares with a name of this kind.
    if let Some(wrong) = hosts.iter().find(|host| ServerName::try_from(host.as_str()).is_err()) {
        return Err(IssueError(format!("{wrong:?} is no host name and no IP address")));
    }
    let mut params = CertificateParams::new(hosts)?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BEFORE;
    params.not_after = now + Duration::days(days.into());
    Ok(params)
}
