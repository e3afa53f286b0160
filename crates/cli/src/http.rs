//! One request to a node's HTTP port.

use crate::exit::Failure;
use anyhow::{Context as _, anyhow};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use quorate_tls::{ClientFiles, HTTP_1, Reloading, server_name};
use std::path::PathBuf;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// Bytes of an answer that are read: probes answer with a line.
const BODY_BYTES_MAX: usize = 64 << 10;

/// A node's HTTP port.
pub(crate) struct Port {
    /// `host:port`.
    address: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Port {
    /// Of a URL without a path; with https, nodes are believed whose certificates were signed by the
    /// authority in `ca_file`, or else by one of this system.
    pub(crate) fn of(url: &str, ca_file: Option<PathBuf>) -> Result<Self, Failure> {
        let wrong = || {
            Failure::Usage(format!(
                "{url:?} is no URL of a node's HTTP port; write it like http://127.0.0.1:8813"
            ))
        };
        let (scheme, address) = url.split_once("://").ok_or_else(wrong)?;
        let address = address.trim_end_matches('/');
        let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
        if host.is_empty() || port.parse::<u16>().is_err() || address.contains('/') {
            return Err(wrong());
        }
        let tls = match scheme {
            "http" => None,
            "https" => {
                let protocols = vec![HTTP_1.to_vec()];
                let files = ClientFiles { ca: ca_file, identity: None, protocols };
                let files =
                    Reloading::new(files).map_err(|error| Failure::Usage(error.to_string()))?;
                let name = server_name(address).map_err(|_| wrong())?;
                Some((TlsConnector::from(files.current()), name))
            }
            _ => return Err(wrong()),
        };
        Ok(Self { address: address.to_owned(), tls })
    }

    /// The status and the text of what is at a path.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let stream = TcpStream::connect(&self.address).await.context("no connection")?;
        match &self.tls {
            None => self.ask(stream, path).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await;
                self.ask(stream.context("no TLS handshake")?, path).await
            }
        }
    }

    async fn ask(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        path: &str,
    ) -> anyhow::Result<(u16, String)> {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = hyper::Request::get(path)
            .header(hyper::header::HOST, &self.address)
            .body(Empty::<Bytes>::new())?;
        let answer = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status().as_u16();
            let body = Limited::new(answer.into_body(), BODY_BYTES_MAX).collect().await;
            let body = body.map_err(|error| anyhow!(error))?.to_bytes();
            Ok((status, String::from_utf8_lossy(&body).into_owned()))
        };
        tokio::select! {
            answer = answer => answer,
            Err(error) = connection => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_url_is_refused() {
        for wrong in
            ["127.0.0.1:8813", "http://a", "ftp://a:1", "http://a:x", "http://:1", "http://a:1/x"]
        {
            assert!(Port::of(wrong, None).is_err(), "{wrong}");
        }
        assert_eq!(Port::of("http://[::1]:8813/", None).unwrap().address, "[::1]:8813");
    }
}
