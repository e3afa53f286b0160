//! TLS of a node: what each port shows, how other nodes are dialled, and the files it all comes from.

use crate::access::AdminTokenFile;
use crate::connections::Placed;
use crate::server::Auth;
use futures::future::BoxFuture;
use quorate_consensus::io::{Connection, Dialer, TcpDialer};
use quorate_tls::{ClientFiles, Error, HTTP_1, HTTP_2, Reload, Reloading, ServerFiles};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// How often files are looked at: a certificate is replaced days before it ends.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long the handshake with another node may take: a few round trips within one continent, and the
/// time two signatures take on a busy machine.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the files are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Of the ports for clients and HTTP; none: they speak plainly.
    pub clients: Option<ClientPort>,
    /// Of the port of the other nodes; none: they speak plainly.
    pub peers: Option<PeerPort>,
    /// Who signs the certificates of the nodes that a node asks to join; none: they are asked plainly.
    pub join_ca: Option<PathBuf>,
}

/// Files of the ports for clients and HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientPort {
    /// The certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Who signs the certificates of clients, if those may show one.
    pub ca: Option<PathBuf>,
}

/// Files of the port of the other nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerPort {
    /// The certificate, which is shown to those who connect and to those who are dialled.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Who signs the certificates of the nodes. Whoever has one from there is taken for a node.
    pub ca: PathBuf,
}

/// How callers are asked who they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthFiles {
    /// The file with a token that may do everything.
    pub admin_token: Option<PathBuf>,
}

/// What was read of them.
pub(crate) struct Tls {
    pub(crate) client: Option<Shown>,
    pub(crate) http: Option<Shown>,
    pub(crate) peer: Option<Shown>,
    pub(crate) dialer: Arc<dyn Dialer>,
    pub(crate) join: Option<Arc<Reloading<ClientFiles>>>,
    looks: Vec<Look>,
}

/// Looks whether files of one purpose have changed.
type Look = (&'static str, Arc<dyn Fn() -> Result<bool, Error> + Send + Sync>);

impl TlsFiles {
    /// Reads all files. Blocks on the disk.
    ///
    /// # Errors
    /// The first that can't be used.
    pub fn check(&self) -> Result<(), Error> {
        self.read().map(drop)
    }

    pub(crate) fn read(&self) -> Result<Tls, Error> {
        let mut tls = Tls {
            client: None,
            http: None,
            peer: None,
            dialer: Arc::new(TcpDialer),
            join: None,
            looks: Vec::new(),
        };
        if let Some(ClientPort { cert, key, ca }) = &self.clients {
            let shown = |protocol: &[u8]| ServerFiles {
                cert: cert.clone(),
                key: key.clone(),
                client_ca: ca.clone(),
                client_required: false,
                protocols: vec![protocol.to_vec()],
            };
            tls.client = Some(Shown(tls.keep("client port", shown(HTTP_2))?));
            tls.http = Some(Shown(tls.keep("http port", shown(HTTP_1))?));
        }
        if let Some(PeerPort { cert, key, ca }) = &self.peers {
            let shown = ServerFiles {
                cert: cert.clone(),
                key: key.clone(),
                client_ca: Some(ca.clone()),
                client_required: true,
                protocols: vec![HTTP_2.to_vec()],
            };
            tls.peer = Some(Shown(tls.keep("peer port", shown)?));
            let dialled = ClientFiles {
                ca: Some(ca.clone()),
                identity: Some((cert.clone(), key.clone())),
                protocols: vec![HTTP_2.to_vec()],
            };
            tls.dialer = Arc::new(PeerDialer(tls.keep("calls to other nodes", dialled)?));
        }
        if let Some(ca) = &self.join_ca {
            let protocols = vec![HTTP_2.to_vec()];
            let files = ClientFiles { ca: Some(ca.clone()), identity: None, protocols };
            tls.join = Some(tls.keep("the cluster to join", files)?);
        }
        Ok(tls)
    }
}

impl Tls {
    /// Reads what else there is to be read, and looked at again.
    pub(crate) fn auth(&mut self, auth: AuthFiles) -> Result<Auth, Error> {
        let admin_token = auth.admin_token.map(AdminTokenFile);
        let admin_token = admin_token.map(|file| self.keep("admin token", file)).transpose()?;
        Ok(Auth { admin_token })
    }

    fn keep<F>(&mut self, purpose: &'static str, files: F) -> Result<Arc<Reloading<F>>, Error>
    where
        F: Reload<Config: Send + Sync> + Send + Sync + 'static,
    {
        let kept = Arc::new(Reloading::new(files)?);
        let looked = Arc::clone(&kept);
        self.looks.push((purpose, Arc::new(move || looked.look())));
        Ok(kept)
    }

    /// Looks for changes now and then, and when told to, for as long as the node runs.
    pub(crate) async fn follow(self, look: Arc<Notify>) -> std::convert::Infallible {
        let Self { looks, .. } = self;
        // A file that stays unreadable is told once.
        let mut told = vec![String::new(); looks.len()];
        loop {
            let asked = tokio::time::timeout(LOOK_EVERY, look.notified()).await.is_ok();
            for ((purpose, look), told) in looks.iter().zip(&mut told) {
                let look = Arc::clone(look);
                let looked = tokio::task::spawn_blocking(move || look()).await;
                match looked {
                    Ok(Ok(true)) => {
                        tracing::info!(purpose, "files have changed, and are in force");
                        told.clear();
                    }
                    Ok(Ok(false)) => {
                        if asked {
                            tracing::info!(purpose, "files have not changed");
                        }
                    }
                    Ok(Err(error)) => {
                        let why = error.to_string();
                        if asked || *told != why {
                            tracing::error!(
                                purpose,
                                why,
                                "files have changed and can't be used; what was in them before is \
                                 still in force"
                            );
                            *told = why;
                        }
                    }
                    Err(panic) => tracing::error!(purpose, %panic, "looking at files failed"),
                }
            }
        }
    }
}

/// What a port shows to those who connect.
#[derive(Clone)]
pub(crate) struct Shown(Arc<Reloading<ServerFiles>>);

impl Shown {
    /// When the certificate that is shown now ends, in seconds of Unix time.
    pub(crate) fn expires_unix_s(&self) -> Option<i64> {
        // The certificate is the first of a port's files.
        self.0.of_source(|source| quorate_tls::expires_unix_s(source.files().first()?))
    }

    /// The handshake on one connection: it answers the stream, and whose certificate was shown.
    pub(crate) fn shake(
        &self,
        placed: Placed,
    ) -> impl Future<Output = io::Result<(TlsStream<Placed>, Option<Arc<str>>)>> + Send + 'static
    {
        let accepting = TlsAcceptor::from(self.0.current()).accept(placed);
        async move {
            let stream = accepting.await?;
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let subject = shown.and_then(|certificate| quorate_tls::subject(certificate));
            let subject = subject.map(Arc::from);
            Ok((stream, subject))
        }
    }
}

/// Dials other nodes, and believes those whose certificate is of the cluster's own authority and for
/// the host that was dialled.
struct PeerDialer(Arc<Reloading<ClientFiles>>);

impl Dialer for PeerDialer {
    fn dial(&self, addr: String) -> BoxFuture<'static, io::Result<Connection>> {
        let connector = TlsConnector::from(self.0.current());
        Box::pin(async move {
            let name = quorate_tls::server_name(&addr)?;
            let connection = TcpDialer.dial(addr).await?;
            let shaking = connector.connect(name, connection);
            let stream =
                tokio::time::timeout(HANDSHAKE_TIMEOUT, shaking).await.map_err(|_| {
                    io::Error::new(io::ErrorKind::TimedOut, "TLS handshake timed out")
                })??;
            Ok(Connection::new(stream))
        })
    }
}
