//! What secures a node: files for TLS, whether callers are asked who they are, and that neither is missing
//! where others reach it.

use super::{Address, ConfigError, Resolver};
use crate::tls::{AuthFiles, ClientPort, PeerPort, TlsFiles};
use std::path::PathBuf;

impl Resolver {
    pub(super) fn tls(&self) -> Result<TlsFiles, ConfigError> {
        let file = |name: &str| {
            self.optional(name, |text| match text {
                "" => Err("it is empty; name a file".to_owned()),
                text => Ok(PathBuf::from(text)),
            })
        };
        let clients = match (file("tls.cert_file")?, file("tls.key_file")?) {
            (Some(cert), Some(key)) => {
                Some(ClientPort { cert, key, ca: file("tls.client_ca_file")? })
            }
            (None, None) if self.said("tls.client_ca_file") => {
                let why = "there is no tls.cert_file: without TLS nobody can show a certificate";
                return Err(self.wrong("tls.client_ca_file", why));
            }
            (None, None) => None,
            (Some(_), None) => {
                return Err(
                    self.wrong("tls.cert_file", "there is no tls.key_file: give its key, too")
                );
            }
            (None, Some(_)) => {
                let why = "there is no tls.cert_file: give the certificate of this key, too";
                return Err(self.wrong("tls.key_file", why));
            }
        };
        let names = ["tls.peer_cert_file", "tls.peer_key_file", "tls.peer_ca_file"];
        let [cert, key, ca] = [file(names[0])?, file(names[1])?, file(names[2])?];
        let peers = match (cert, key, ca) {
            (None, None, None) => None,
            (Some(cert), Some(key), Some(ca)) => Some(PeerPort { cert, key, ca }),
            _ => {
                let (said, missing): (Vec<&str>, Vec<&str>) =
                    names.iter().partition(|name| self.said(name));
                let why = format!(
                    "nodes believe each other with all three files: {} is missing",
                    missing.join(" and ")
                );
                return Err(self.wrong(said[0], &why));
            }
        };
        let join_ca = file("join_ca_file")?;
        if join_ca.is_some() && !self.said("join") {
            return Err(self.wrong("join_ca_file", "there is no join, so nobody to believe"));
        }
        Ok(TlsFiles { clients, peers, join_ca })
    }

    /// Whoever reaches a port that is not secured may read and change everything: the ports of which that
    /// is so, and was allowed.
    pub(super) fn check_exposure(
        &self,
        [client, peer, http]: [&Address; 3],
        tls: &TlsFiles,
        auth: Option<&AuthFiles>,
    ) -> Result<Vec<String>, ConfigError> {
        let allowed = self.parse::<bool>("insecure")?;
        let missing_of_clients = match (&tls.clients, auth) {
            (Some(_), Some(_)) => None,
            (None, Some(_)) => Some("there is no TLS (tls.cert_file and tls.key_file)"),
            (Some(_), None) => Some("nobody is asked who he is (auth.enabled)"),
            (None, None) => Some(
                "there is no TLS (tls.cert_file and tls.key_file), and nobody is asked who he is (auth.enabled)",
            ),
        };
        let missing_of_peers = tls.peers.is_none().then_some(
            "there is no TLS between nodes (tls.peer_cert_file, tls.peer_key_file and tls.peer_ca_file)",
        );
        let listens = [
            ("client_listen", client, missing_of_clients),
            ("peer_listen", peer, missing_of_peers),
            ("http_listen", http, missing_of_clients),
        ];
        let mut exposed = Vec::new();
        for (name, address, missing) in listens {
            if let Some(missing) = missing
                && !address.is_loopback()
            {
                if allowed {
                    exposed.push(format!("{name} = {address}: {missing}"));
                    continue;
                }
                return Err(self.wrong(name, &format!(
                    "{address} is reachable from other machines, and {missing}: whoever reaches the port could read and change everything. Secure it (docs/security.md), listen on 127.0.0.1, or accept that with --insecure on a network you trust"
                )));
            }
        }
        Ok(exposed)
    }

    pub(super) fn auth(&self) -> Result<Option<AuthFiles>, ConfigError> {
        let admin_token = self.optional("auth.admin_token_file", |text| match text {
            "" => Err("it is empty; name a file".to_owned()),
            text => Ok(PathBuf::from(text)),
        })?;
        if self.parse("auth.enabled")? {
            return Ok(Some(AuthFiles { admin_token }));
        }
        match admin_token {
            Some(_) => Err(self.wrong(
                "auth.admin_token_file",
                "auth.enabled is false, so nobody is asked for a token; set it to true",
            )),
            None => Ok(None),
        }
    }
}
