//! The ports of a node: taken first, opened when there is somebody to serve.

use super::Error;
use crate::config::Address;
use std::io;
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpSocket};

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: u32 = 1_024;

/// A port that is taken, and perhaps not open yet.
pub(super) struct Port {
    name: &'static str,
    socket: TcpSocket,
    pub(super) address: SocketAddr,
}

impl Port {
    pub(super) async fn take(name: &'static str, listen: &Address) -> Result<Self, Error> {
        let wrong = |error: io::Error| Error::Listen(refusal(name, &listen.to_string(), &error));
        let mut found =
            tokio::net::lookup_host((listen.host.as_str(), listen.port)).await.map_err(wrong)?;
        let address = found.next().ok_or_else(|| {
            Error::Listen(format!("{listen}, for {name}_listen, stands for no address"))
        })?;
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
            .map_err(wrong)?;
        // As every server does: connections of the last run linger in the kernel.
        socket.set_reuseaddr(true).map_err(wrong)?;
        socket.bind(address).map_err(wrong)?;
        let address = socket.local_addr().map_err(wrong)?;
        Ok(Self { name, socket, address })
    }

    pub(super) fn open(self) -> Result<TcpListener, Error> {
        let Self { name, socket, address } = self;
        socket
            .listen(BACKLOG)
            .map_err(|error| Error::Listen(refusal(name, &address.to_string(), &error)))
    }
}

/// What to do about a port that can't be had.
fn refusal(name: &str, address: &str, error: &io::Error) -> String {
    let what = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program (perhaps another node) has that port; stop it, or choose another port"
                .to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address; name one of its own".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "this user may not have that port; choose one from 1024 on".to_owned()
        }
        _ => error.to_string(),
    };
    format!("can't listen on {address}, the {name} port: {what} (--{name}-listen)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_a_way_out() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let listen = address("127.0.0.1:0").with_port(port);
        let error = match Port::take("client", &listen).await.and_then(Port::open) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("the port was had twice"),
        };
        assert!(error.contains(&format!("127.0.0.1:{port}")), "{error}");
        assert!(error.contains("another program"), "{error}");
        assert!(error.contains("--client-listen"), "{error}");
    }

    #[tokio::test]
    async fn a_port_that_is_not_open_yet_refuses() {
        let port = Port::take("client", &address("127.0.0.1:0")).await.unwrap();
        let at = port.address;
        assert_ne!(at.port(), 0);
        let refused = tokio::net::TcpStream::connect(at).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let _open = port.open().unwrap();
        tokio::net::TcpStream::connect(at).await.unwrap();
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_refused() {
        // From the range kept for documentation: no machine has it.
        let error = match Port::take("http", &address("192.0.2.1:8813")).await {
            Err(error) => error.to_string(),
            Ok(_) => panic!("bound"),
        };
        assert!(error.contains("192.0.2.1:8813") && error.contains("--http-listen"), "{error}");
    }
}
