//! A connection to another server, as two halves that two tasks own, and a way to end both.
//!
//! A read that is under way is never dropped (the runtime's timers misfire after that): whoever wants it to end hangs up, and
//! it ends with the connection.
//!
//! A peer whose machine is gone, or that stopped reading, says nothing more, and what is sent to it just waits: the kernel would
//! try for a quarter of an hour, and after a partition wait two minutes before it tries again. So it gets a limit for bytes that
//! are not taken (TCP_USER_TIMEOUT), and ends the connection itself; whoever needs another one opens it.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::TcpStream as AsyncStream;
use socket2::SockRef;

pub struct PeerSocket {
    pub reader: AsyncStream,
    pub writer: AsyncStream,
    pub line: Rc<PhoneLine>,
    /// Read already, and not looked at.
    pub unread: Vec<u8>,
}

/// What both halves share.
#[derive(Debug)]
pub struct PhoneLine {
    socket: TcpStream,
    pub peer: SocketAddr,
}

impl PeerSocket {
    /// Two more descriptors of the socket. TCP_NODELAY is always on. `stall`: how long sent bytes may wait to be taken.
    pub fn new(socket: TcpStream, keep_alive: bool, stall: Duration) -> io::Result<PeerSocket> {
        socket.set_nodelay(true)?;
        SockRef::from(&socket).set_keepalive(keep_alive)?;
        set_stall_limit(&socket, stall)?;
        let peer = socket.peer_addr()?;
        let half = || Ok::<_, io::Error>(AsyncStream::from(socket2_04::Socket::from(socket.try_clone()?)));
        Ok(PeerSocket {
            reader: half()?,
            writer: half()?,
            line: Rc::new(PhoneLine { socket, peer }),
            unread: Vec::new(),
        })
    }
}

impl PhoneLine {
    /// Ends the connection and every read and write of it.
    pub fn hang_up(&self) {
        let _ = self.socket.shutdown(Shutdown::Both); // it may have ended by itself
    }

    /// What was written arrives, and then the end.
    pub fn end_writing(&self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// How long sent bytes may wait to be taken from now on.
    pub fn limit_stall(&self, limit: Duration) {
        // Of a connection that has just ended nobody needs it.
        let _ = set_stall_limit(&self.socket, limit);
    }

    /// Sends what the kernel takes at once; how many bytes that was.
    pub fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        use rustix::net::{SendFlags, send};
        match send(&self.socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) => Ok(sent),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
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
pub struct HangUpAfter(Option<glommio::Task<()>>);

impl HangUpAfter {
    pub fn new(line: Rc<PhoneLine>, limit: Duration) -> HangUpAfter {
        HangUpAfter(Some(glommio::spawn_local(async move {
            glommio::timer::sleep(limit).await;
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
pub async fn read_more(reader: &mut AsyncStream, buffer: &mut Vec<u8>, at_most: usize) -> io::Result<bool> {
    let filled = buffer.len();
    buffer.resize(filled + at_most, 0);
    let read = loop {
        match reader.read(&mut buffer[filled..]).await {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other,
        }
    };
    buffer.truncate(filled + *read.as_ref().unwrap_or(&0));
    Ok(read? > 0)
}

pub async fn write_all(writer: &mut AsyncStream, bytes: &[u8]) -> io::Result<()> {
    writer.write_all(bytes).await
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
