//! Files that change under a port and a client, and handshakes between them.

#![allow(clippy::unwrap_used, reason = "tests")]

use quorate_tls::issue::{Authority, Kind};
use quorate_tls::{ClientFiles, HTTP_2, Reloading, ServerFiles, subject};
use rustls::pki_types::ServerName;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use tokio_rustls::{TlsAcceptor, TlsConnector};

struct Files {
    dir: TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create("test", 30).unwrap();
        std::fs::write(dir.path().join("ca.pem"), authority.cert()).unwrap();
        Self { dir, authority }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn issue(&self, name: &str, kind: Kind, hosts: &[&str]) {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let issued = self.authority.issue(name, kind, &hosts, 30).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), issued.cert).unwrap();
        std::fs::write(self.path(&format!("{name}-key.pem")), issued.key).unwrap();
    }

    fn server(&self, name: &str, client_required: bool) -> ServerFiles {
        ServerFiles {
            cert: self.path(&format!("{name}.pem")),
            key: self.path(&format!("{name}-key.pem")),
            client_ca: Some(self.path("ca.pem")),
            client_required,
            protocols: vec![HTTP_2.to_vec()],
        }
    }

    fn client(&self, identity: Option<&str>) -> ClientFiles {
        let pair =
            |name: &str| (self.path(&format!("{name}.pem")), self.path(&format!("{name}-key.pem")));
        let protocols = vec![HTTP_2.to_vec()];
        ClientFiles { ca: Some(self.path("ca.pem")), identity: identity.map(pair), protocols }
    }
}

/// A handshake: whose certificate the port was shown, or why there was none.
async fn shake(
    server: &Reloading<ServerFiles>,
    client: &Reloading<ClientFiles>,
    host: &str,
) -> Result<Option<String>, String> {
    let (near, far) = tokio::io::duplex(64 << 10);
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let accepting = TlsAcceptor::from(server.current()).accept(near);
    let connecting = TlsConnector::from(client.current()).connect(name, far);
    let (accepted, connected) = tokio::join!(accepting, connecting);
    connected.map_err(|error| error.to_string())?;
    let accepted = accepted.map_err(|error| error.to_string())?;
    let shown = accepted.get_ref().1.peer_certificates().and_then(<[_]>::first);
    Ok(shown.and_then(|certificate| subject(certificate)))
}

#[tokio::test]
async fn each_believes_whom_its_files_say_and_nobody_else() {
    let files = Files::new();
    files.issue("node", Kind::Server, &["node.example", "127.0.0.1"]);
    files.issue("ann", Kind::Client, &[]);
    let optional = Reloading::new(files.server("node", false)).unwrap();
    let required = Reloading::new(files.server("node", true)).unwrap();
    let nobody = Reloading::new(files.client(None)).unwrap();
    let ann = Reloading::new(files.client(Some("ann"))).unwrap();
    for host in ["node.example", "127.0.0.1"] {
        assert_eq!(shake(&optional, &nobody, host).await, Ok(None));
        assert_eq!(shake(&required, &ann, host).await, Ok(Some("ann".to_owned())));
    }
    assert!(shake(&optional, &nobody, "other.example").await.is_err());
    // With TLS 1.3 a client hears of that only when it reads.
    let refused = shake(&required, &nobody, "127.0.0.1").await.unwrap_err();
    assert!(refused.contains("peer sent no certificates"), "{refused}");

    let others = Files::new();
    others.issue("bob", Kind::Client, &[]);
    let stranger = Reloading::new(others.client(None)).unwrap();
    let refused = shake(&optional, &stranger, "127.0.0.1").await.unwrap_err();
    assert!(refused.contains("UnknownIssuer"), "{refused}");
    let mut bob = others.client(Some("bob"));
    bob.ca = Some(files.path("ca.pem"));
    let bob = Reloading::new(bob).unwrap();
    assert!(shake(&optional, &bob, "127.0.0.1").await.is_err(), "a wrong one is worse than none");
    // One that is for clients is none for a port.
    files.issue("ann", Kind::Client, &["127.0.0.1"]);
    let ann = Reloading::new(files.server("ann", false)).unwrap();
    assert!(shake(&ann, &nobody, "127.0.0.1").await.is_err());
}

#[tokio::test]
async fn what_can_be_used_is_taken_and_what_can_not_changes_nothing() {
    let files = Files::new();
    files.issue("node", Kind::Server, &["127.0.0.1"]);
    let server = Reloading::new(files.server("node", false)).unwrap();
    let before = server.current();
    assert!(!server.look().unwrap(), "nothing has changed");

    let half = std::fs::read(files.path("node.pem")).unwrap();
    let wrong: [(&str, Vec<u8>, &str); 4] = [
        ("node.pem", half[..half.len() / 2].to_vec(), "was the file still being written"),
        ("node.pem", b"nonsense".to_vec(), "no certificate in it"),
        ("node-key.pem", half.clone(), "no private key in it"),
        ("ca.pem", Vec::new(), "no certificate in it"),
    ];
    for (name, bytes, words) in wrong {
        let kept = std::fs::read(files.path(name)).unwrap();
        std::fs::write(files.path(name), &bytes).unwrap();
        let error = server.look().unwrap_err().to_string();
        assert!(error.contains(words) && error.contains(name), "{error}");
        assert!(!server.look().unwrap(), "the same is told once");
        std::fs::write(files.path(name), kept).unwrap();
        assert!(!server.look().unwrap(), "what is in force is there again");
    }
    let key = std::fs::read(files.path("node-key.pem")).unwrap();
    files.issue("node", Kind::Server, &["127.0.0.1"]);
    let new = std::fs::read(files.path("node-key.pem")).unwrap();
    std::fs::write(files.path("node-key.pem"), key).unwrap();
    let error = server.look().unwrap_err().to_string();
    assert!(error.contains("is not the certificate of the key in"), "{error}");
    assert!(Arc::ptr_eq(&before, &server.current()), "something else came into force");
    std::fs::write(files.path("node-key.pem"), new).unwrap();
    assert!(server.look().unwrap());
    assert!(!Arc::ptr_eq(&before, &server.current()));
    std::fs::remove_file(files.path("node.pem")).unwrap();
    assert!(server.look().unwrap_err().to_string().contains("can't read"));
}

#[test]
fn errors_tell_nothing_that_is_in_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let authority = Authority::create("test", 30).unwrap();
    let cert = file("cert.pem", authority.cert());
    for key in [
        "-----BEGIN PRIVATE KEY-----\nsesame!!!\n-----END PRIVATE KEY-----\n",
        "-----BEGIN PRIVATE KEY-----\nsesame\n",
        "-----BEGIN sesame PRIVATE\nsesame\n",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nc2VzYW1l\n-----END ENCRYPTED PRIVATE KEY-----\n",
        "sesame",
    ] {
        let files = ServerFiles {
            cert: cert.clone(),
            key: file("key.pem", key),
            client_ca: None,
            client_required: false,
            protocols: Vec::new(),
        };
        let error = Reloading::new(files).map(drop).unwrap_err().to_string();
        assert!(!error.contains("sesame") && !error.contains("c2VzYW1l"), "{error}");
        assert!(error.contains("key.pem"), "{error}");
    }
    assert!(!Path::new("key.pem").exists());
}

#[test]
fn an_authority_that_was_kept_signs_again_and_one_that_was_mixed_up_does_not() {
    let authority = Authority::create("test", 30).unwrap();
    let kept = Authority::open(authority.cert(), &authority.key()).unwrap();
    kept.issue("node", Kind::Peer, &["::1".to_owned()], 30).unwrap();
    assert!(Authority::open("x", &authority.key()).is_err());
    assert!(Authority::open(authority.cert(), "x").is_err());
    assert!(authority.issue("node", Kind::Peer, &["not a host".to_owned()], 30).is_err());
}
