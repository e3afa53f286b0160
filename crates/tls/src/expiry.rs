//! Until when certificates hold.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// When the first of the certificates in a PEM file ends, in seconds of Unix time: a chain holds no longer
/// than the weakest of its links. None when there is none in it that can be read.
#[must_use]
pub fn expires_unix_s(pem: &[u8]) -> Option<i64> {
    let certificates = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
    let ends = certificates.filter_map(|certificate| {
        let (_, certificate) = X509Certificate::from_der(&certificate).ok()?;
        Some(certificate.validity().not_after.timestamp())
    });
    ends.min()
}
