//! What a certificate has to be for.

use rustls::pki_types::ServerName;
use std::io;

/// The host that the certificate of `addr`, a `host:port`, has to be for: a name, or an IP address, that of
/// version 6 with or without its brackets.
///
/// # Errors
/// When no certificate could be for it.
pub fn server_name(addr: &str) -> io::Result<ServerName<'static>> {
    let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned()).map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{host} is no host that a certificate could be for"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_addresses() {
        for (addr, name) in
            [("10.0.0.1:8811", "10.0.0.1"), ("n-1.example:1", "n-1.example"), ("[::1]:8811", "::1")]
        {
            assert_eq!(server_name(addr).unwrap().to_str(), name, "{addr}");
        }
        assert!(server_name("a b:1").is_err());
    }
}
