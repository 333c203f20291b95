//! The ports where other servers call: a blocking accept thread for each address, and one way in for all sockets of a port.
//!
//! Bound at the start, so that a port in use ends it before a long recovery; listening only when the server can answer.
//! Java: `QuorumCnxManager.Listener`, `Leader.LearnerCnxAcceptor`. Spec: quorum-protocol 3.5.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::Socket;
use tracing::{info, warn};

use crate::shell::client_listener::bind;
use crate::shell::cpus::leave_executors_cpu;
use crate::shell::logging::Throttle;
use crate::shell::mailbox::{Arrivals, Mailbox, mailbox};
use crate::shell::resolve::{HostPort, own_address};

/// Accepted sockets that have not been looked at. At the bound the kernel's backlog fills.
const WAITING_SOCKETS: usize = 64;

/// As many as a large ensemble calls at once.
const BACKLOG: i32 = 128;

/// Between two attempts to bind. Java: `QuorumCnxManager.Listener`.
const BIND_PAUSE: Duration = Duration::from_secs(1);

/// How long to leave the kernel alone after it had no descriptor or memory for us.
const BACK_OFF: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
#[error("{purpose} port: cannot listen on {host}:{port}: {source}; {cure}")]
pub struct PeerListenError {
    purpose: &'static str,
    host: String,
    port: u16,
    source: io::Error,
    cure: &'static str,
}

#[derive(Debug)]
pub struct BoundPeerPort {
    purpose: &'static str,
    sockets: Vec<Socket>,
}

/// Ends its threads when it is dropped.
#[derive(Debug)]
pub struct PeerPort {
    sockets: Vec<Arc<Socket>>,
    stopping: Arc<AtomicBool>,
}

impl BoundPeerPort {
    /// `everywhere`: not only at these addresses, `quorumListenOnAllIPs`. `retries`: a second apart; 0 is without end.
    pub fn bind(
        purpose: &'static str,
        addresses: &[HostPort],
        everywhere: bool,
        retries: u32,
    ) -> Result<BoundPeerPort, PeerListenError> {
        let mut attempt = 0;
        loop {
            let bound = bind_all(purpose, addresses, everywhere);
            attempt += 1;
            match bound {
                Err(error) if retries == 0 || attempt < retries => {
                    warn!("{error}; trying again");
                    std::thread::sleep(BIND_PAUSE);
                }
                other => return other.map(|sockets| BoundPeerPort { purpose, sockets }),
            }
        }
    }

    /// Who calls is put into the mailbox.
    pub fn listen(self, mailbox: &Mailbox<TcpStream>) -> io::Result<PeerPort> {
        // What listens already ends with it if the next one fails.
        let mut port = PeerPort { sockets: Vec::new(), stopping: Arc::default() };
        for socket in self.sockets {
            socket.listen(BACKLOG)?;
            let address = socket.local_addr()?.as_socket();
            info!("{} port: listening on {}", self.purpose, address.map_or_else(String::new, |at| at.to_string()));
            let socket = Arc::new(socket);
            let (accepting, mailbox, stopping) = (socket.clone(), mailbox.clone(), port.stopping.clone());
            let thread = std::thread::Builder::new().name(format!("rk-{}", self.purpose));
            port.sockets.push(socket);
            thread.spawn(move || {
                leave_executors_cpu();
                accept(&accepting, &mailbox, &stopping);
            })?;
        }
        Ok(port)
    }
}

/// Where callers of a port wait to be looked at, whatever its address is meanwhile.
pub fn callers() -> (Mailbox<TcpStream>, Arrivals<TcpStream>) {
    mailbox(WAITING_SOCKETS)
}

impl Drop for PeerPort {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        for socket in &self.sockets {
            let _ = socket.shutdown(std::net::Shutdown::Both); // wakes a blocked accept with EINVAL
        }
    }
}

fn accept(socket: &Socket, mailbox: &Mailbox<TcpStream>, stopping: &AtomicBool) {
    let mut failures = Throttle::new();
    loop {
        let accepted = socket.accept();
        if stopping.load(Ordering::Acquire) {
            return;
        }
        match accepted {
            Ok((peer, _)) => {
                if !mailbox.deliver(peer.into()) {
                    return;
                }
            }
            Err(error) => {
                if let Some(left_out) = failures.pass() {
                    warn!("a server's call cannot be taken: {error}{left_out}");
                }
                std::thread::sleep(BACK_OFF);
            }
        }
    }
}

fn bind_all(purpose: &'static str, addresses: &[HostPort], everywhere: bool) -> Result<Vec<Socket>, PeerListenError> {
    let mut sockets = Vec::new();
    // Several of this server's addresses may be one: names of one host, or what they are everywhere.
    let mut bound = Vec::new();
    let mut bind_new = |host: &str, port: u16| -> io::Result<Option<Socket>> {
        let address = if everywhere { everywhere_at(port) } else { own_address(host, port)? };
        if bound.contains(&address) {
            return Ok(None);
        }
        let socket = if everywhere { bind_everywhere(port)? } else { bind(address)? };
        bound.push(address);
        Ok(Some(socket))
    };
    for (host, port) in addresses {
        let socket = bind_new(host, *port).map_err(|source| PeerListenError {
            purpose,
            host: if everywhere { "*".into() } else { host.clone() },
            port: *port,
            cure: match source.kind() {
                io::ErrorKind::AddrInUse => "end the process that has it, or write another port into the server line",
                _ => "this server's own line must name an address of this machine, or set quorumListenOnAllIPs=true",
            },
            source,
        })?;
        sockets.extend(socket);
    }
    Ok(sockets)
}

fn everywhere_at(port: u16) -> SocketAddr {
    (Ipv6Addr::UNSPECIFIED, port).into()
}

fn bind_everywhere(port: u16) -> io::Result<Socket> {
    // A machine without IPv6 listens on IPv4 alone.
    bind(everywhere_at(port)).or_else(|_| bind((Ipv4Addr::UNSPECIFIED, port).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free_port() -> u16 {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    fn port_of(socket: &Socket) -> u16 {
        socket.local_addr().unwrap().as_socket().unwrap().port()
    }

    #[test]
    fn a_server_with_several_addresses_listens_at_each_or_once_everywhere() {
        let (one, other) = (free_port(), free_port());
        let addresses = [("127.0.0.1".to_owned(), one), ("127.0.0.2".to_owned(), one), ("127.0.0.2".to_owned(), other)];
        let bound = bind_all("quorum", &addresses, false).unwrap();
        let at = |socket: &Socket| socket.local_addr().unwrap().as_socket().unwrap().to_string();
        let wanted = [format!("127.0.0.1:{one}"), format!("127.0.0.2:{one}"), format!("127.0.0.2:{other}")];
        assert_eq!(bound.iter().map(at).collect::<Vec<_>>(), wanted);
        drop(bound);
        let names = [("127.0.0.1".to_owned(), one), ("localhost".to_owned(), one), ("127.0.0.1".to_owned(), one)];
        let bound = bind_all("quorum", &names, false).unwrap();
        assert_eq!(bound.iter().map(at).collect::<Vec<_>>(), [format!("127.0.0.1:{one}")], "names of one address");
        drop(bound);
        let bound = bind_all("quorum", &addresses, true).unwrap();
        assert_eq!(bound.iter().map(port_of).collect::<Vec<_>>(), [one, other]);
        assert!(bound.iter().all(|socket| socket.local_addr().unwrap().as_socket().unwrap().ip().is_unspecified()));
    }

    #[test]
    fn a_port_that_cannot_listen_at_all_of_its_addresses_listens_at_none() {
        let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
        // The kernel lets both have it until one listens.
        let port = BoundPeerPort { purpose: "quorum", sockets: vec![bind(at).unwrap(), bind(at).unwrap()] };
        let (mailbox, _arrivals) = callers();
        assert_eq!(port.listen(&mailbox).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(TcpStream::connect(at).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
