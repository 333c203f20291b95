//! A connection to another server, which several tasks share: one reads, one writes, and any may end it.
//!
//! A peer whose machine is gone, or that stopped reading, says nothing more, and what is sent to it just waits: the kernel would
//! try for a quarter of an hour, and after a partition wait two minutes before it tries again. So it gets a limit for bytes that
//! are not taken (TCP_USER_TIMEOUT), and ends the connection itself; whoever needs another one opens it.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use socket2::SockRef;

use crate::shell::reactor::{self, Socket};

pub struct PeerSocket {
    pub line: Rc<PhoneLine>,
    /// Read already, and not looked at.
    pub unread: Vec<u8>,
}

/// What its tasks share.
#[derive(Debug)]
pub struct PhoneLine {
    pub socket: Socket,
    pub peer: SocketAddr,
}

impl PeerSocket {
    /// TCP_NODELAY is always on. `stall`: how long sent bytes may wait to be taken.
    pub fn new(stream: TcpStream, keep_alive: bool, stall: Duration) -> io::Result<PeerSocket> {
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_keepalive(keep_alive)?;
        set_stall_limit(&stream, stall)?;
        let peer = stream.peer_addr()?;
        Ok(PeerSocket { line: Rc::new(PhoneLine { socket: Socket::new(stream)?, peer }), unread: Vec::new() })
    }
}

impl PhoneLine {
    /// Ends the connection and every read and write of it.
    pub fn hang_up(&self) {
        self.socket.shutdown(Shutdown::Both);
    }

    /// What was written arrives, and then the end.
    pub fn end_writing(&self) {
        self.socket.shutdown(Shutdown::Write);
    }

    /// How long sent bytes may wait to be taken from now on.
    pub fn limit_stall(&self, limit: Duration) {
        // Of a connection that has just ended nobody needs it.
        let _ = set_stall_limit(self.socket.stream(), limit);
    }
}

fn set_stall_limit(socket: &TcpStream, limit: Duration) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_tcp_user_timeout(socket, stall_limit_ms(limit))?)
}

/// 0 would mean the kernel's own, and the kernel takes what is beyond an `int` for negative.
fn stall_limit_ms(limit: Duration) -> u32 {
    limit.as_millis().clamp(1, i32::MAX as u128) as u32
}

/// Hangs up unless it is dropped before.
pub struct HangUpAfter(Option<reactor::Task<()>>);

impl HangUpAfter {
    pub fn new(line: Rc<PhoneLine>, limit: Duration) -> HangUpAfter {
        HangUpAfter(Some(reactor::spawn(async move {
            reactor::sleep(limit).await;
            line.hang_up();
        })))
    }

    /// Whatever happens to its caller.
    pub fn detach(mut self) {
        if let Some(task) = self.0.take() {
            task.detach();
        }
    }

    pub async fn cancel(mut self) {
        if let Some(task) = self.0.take() {
            task.cancel().await;
        }
    }
}

/// Reads at least one byte behind what is there; `false` at the end of the stream.
pub async fn read_more(mut socket: &Socket, buffer: &mut Vec<u8>, at_most: usize) -> io::Result<bool> {
    let filled = buffer.len();
    buffer.resize(filled + at_most, 0);
    let read = socket.read(&mut buffer[filled..]).await;
    buffer.truncate(filled + *read.as_ref().unwrap_or(&0));
    Ok(read? > 0)
}

pub async fn write_all(mut socket: &Socket, bytes: &[u8]) -> io::Result<()> {
    socket.write_all(bytes).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_takes_every_stall_limit() {
        let [caller, _answer] = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let caller = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            [caller, listener.accept().unwrap().0]
        };
        for (limit, ms) in [(Duration::ZERO, 1), (Duration::from_secs(20), 20_000), (Duration::MAX, i32::MAX as u32)] {
            set_stall_limit(&caller, limit).unwrap();
            assert_eq!(rustix::net::sockopt::tcp_user_timeout(&caller).unwrap(), ms, "{limit:?}");
        }
    }
}
