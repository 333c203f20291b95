//! Connections to other servers, from name to socket.
//!
//! Resolving a name blocks, and so may a connection that nobody answers; so each attempt is a thread of its own that lives as
//! long as its limit at most. Names are resolved anew at each attempt: a member may have moved. A server with several
//! addresses is called at all of them, and the first that answers is taken. Java: `QuorumCnxManager.initiateConnection`,
//! `Learner.connectToLeader`. Spec: quorum-protocol 3.1, 6.1.

use std::future::poll_fn;
use std::io;
use std::net::TcpStream;
use std::time::Duration;

use crate::shell::mailbox::{Mailbox, mailbox};
use crate::shell::resolve::{HostPort, addresses_of};

/// Connects to the first of these that answers. Given up by being dropped: what the threads still find is closed.
pub async fn dial(addresses: &[HostPort], limit: Duration) -> io::Result<TcpStream> {
    let (mailbox, mut answers) = mailbox(addresses.len().max(1));
    for address in addresses {
        call(address.clone(), limit, mailbox.clone())?;
    }
    drop(mailbox);
    let mut failure = io::Error::new(io::ErrorKind::AddrNotAvailable, "it has no address");
    while let Some(answer) = poll_fn(|cx| answers.poll_next(cx)).await {
        match answer {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn call(address: HostPort, limit: Duration, mailbox: Mailbox<io::Result<TcpStream>>) -> io::Result<()> {
    let (host, port) = address;
    std::thread::Builder::new().name("rk-dial".into()).spawn(move || {
        let answer = connect(&host, port, limit);
        let answer = answer.map_err(|error| io::Error::new(error.kind(), format!("{host}:{port}: {}", plain(&error))));
        // Nobody waits any more: the socket closes.
        mailbox.deliver(answer);
    })?;
    Ok(())
}

fn connect(host: &str, port: u16, limit: Duration) -> io::Result<TcpStream> {
    let mut answer = Err(io::ErrorKind::NotFound.into());
    for address in addresses_of(host, port)? {
        answer = TcpStream::connect_timeout(&address, limit);
        if answer.is_ok() {
            break;
        }
    }
    answer
}

/// Without the number behind it, which says nothing more.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error ").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_first_that_answers_is_taken_and_else_the_reason_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // Bound and not listening: it refuses.
        let deaf = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        deaf.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
        let deaf_port = deaf.local_addr().unwrap().as_socket().unwrap().port();
        let host = |port| ("127.0.0.1".to_owned(), port);
        glommio::LocalExecutor::default().run(async {
            let limit = Duration::from_secs(20);
            let stream = dial(&[host(deaf_port), host(port)], limit).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap().port(), port);
            let refused = dial(&[host(deaf_port)], limit).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            assert_eq!(refused.to_string(), format!("127.0.0.1:{deaf_port}: Connection refused"));
            assert!(dial(&[], limit).await.unwrap_err().to_string().contains("no address"));
        });
    }
}
