//! Whose a certificate is.

use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Bytes of a name: as long as the state takes one.
const SUBJECT_BYTES_MAX: usize = 128;

/// The common name in a certificate's subject, if it has exactly one that can be used as a name. The
/// certificate has to have been verified.
#[must_use]
pub fn subject(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let mut names = certificate.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?;
    // Two names would leave it to us whose it is.
    let one = names.next().is_none();
    let usable =
        !name.is_empty() && name.len() <= SUBJECT_BYTES_MAX && !name.chars().any(char::is_control);
    (one && usable).then(|| name.to_owned())
}
