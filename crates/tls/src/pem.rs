//! Certificates and keys out of PEM files.

use crate::Error;
use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Bytes of a file that are read: a chain of certificates has a few KiB, the authorities of a whole
/// system a few hundred.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// What is in a file, as it is now; it is called `what` in errors. Blocks on the disk.
///
/// # Errors
/// When it can't be read, or has more than 4 MiB.
pub fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |reason: String| Error::Read { what, path: path.to_owned(), reason };
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| failed(error.to_string()))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(failed(format!(
            "it has more than {FILE_BYTES_MAX} bytes; is it the right file?"
        )));
    }
    Ok(bytes)
}

/// The certificates in a file, at least one.
pub(crate) fn certificates(
    what: &'static str,
    path: &Path,
    bytes: &[u8],
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let found = found.map_err(|error| Error::content(what, path, not_pem(&error)))?;
    if found.is_empty() {
        let problem =
            "there is no certificate in it (a block that begins with -----BEGIN CERTIFICATE-----)";
        return Err(Error::content(what, path, problem.to_owned()));
    }
    Ok(found)
}

/// The private key in a file.
pub(crate) fn key(
    what: &'static str,
    path: &Path,
    bytes: &[u8],
) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(bytes).map_err(|error| {
        let problem = match error {
            pem::Error::NoItemsFound => {
                "there is no private key in it (a block that begins with -----BEGIN PRIVATE KEY-----), \
                 or it is encrypted: nodes can't ask for a passphrase"
                    .to_owned()
            }
            other => not_pem(&other),
        };
        Error::content(what, path, problem)
    })
}

/// The authorities in a file.
pub(crate) fn authorities(
    what: &'static str,
    path: &Path,
    bytes: &[u8],
) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(what, path, bytes)? {
        roots.add(certificate).map_err(|error| {
            Error::content(
                what,
                path,
                format!("a certificate in it can't be an authority: {error}"),
            )
        })?;
    }
    Ok(roots)
}

fn not_pem(error: &pem::Error) -> String {
    // The library's words may have lines of the file in them, and that may be a key.
    match error {
        pem::Error::MissingSectionEnd { .. } => {
            "a block in it has no end; was the file still being written?".to_owned()
        }
        pem::Error::IllegalSectionStart { .. } => "a block in it begins wrongly".to_owned(),
        pem::Error::Base64Decode(_) => "a block in it is not base64".to_owned(),
        _ => "it is not PEM".to_owned(),
    }
}
