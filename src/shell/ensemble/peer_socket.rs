//! A connection to another server, which several tasks share: one reads, one writes, and any may end it.
//!
//! A peer whose machine is gone says nothing more, and what is sent to it just waits: the kernel would try for a quarter of an
//! hour, and after a partition wait two minutes before it tries again. So it gets a limit for bytes that are not taken
//! (TCP_USER_TIMEOUT), and ends the connection itself; whoever needs another one opens it. A peer that does not read is not
//! covered by that as long as it speaks: the kernel counts from its first probe of the closed window, and whatever arrives puts
//! that probe off. For it there is a limit of our own, wherever something waits to be sent; and what the kernel has not sent is
//! kept small (TCP_NOTSENT_LOWAT), so that a slow reader is seen to read.

use std::cell::Cell;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt, future};
use socket2::SockRef;

use crate::shell::reactor::{self, Socket};

/// What the kernel keeps for a peer beyond what is on its way: a peer on a thin line has to take half of it within a stall limit.
const UNSENT_BYTES: u32 = 128 * 1024;

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
    stall: Cell<Duration>,
}

impl PeerSocket {
    /// TCP_NODELAY is always on. `stall`: how long sent bytes may wait to be taken.
    pub fn new(stream: TcpStream, keep_alive: bool, stall: Duration) -> io::Result<PeerSocket> {
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_keepalive(keep_alive)?;
        SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES)?;
        set_stall_limit(&stream, stall)?;
        let peer = stream.peer_addr()?;
        let line = PhoneLine { socket: Socket::new(stream)?, peer, stall: Cell::new(stall) };
        Ok(PeerSocket { line: Rc::new(line), unread: Vec::new() })
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
        self.stall.set(limit);
        // Of a connection that has just ended nobody needs it.
        let _ = set_stall_limit(self.socket.stream(), limit);
    }

    /// Sends all of it. An error when nothing is taken for as long as sent bytes may wait.
    pub async fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let given_up = async {
                reactor::sleep(self.stall.get()).await;
                // It may be us who had no time.
                match self.socket.send_now(rest)? {
                    0 => Err(io::Error::new(io::ErrorKind::TimedOut, "it does not read what it is sent")),
                    taken => Ok(taken),
                }
            };
            let taken = future::or((&self.socket).write(rest), given_up).await?;
            rest = &rest[taken..];
        }
        Ok(())
    }
}

fn set_stall_limit(socket: &TcpStream, limit: Duration) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_tcp_user_timeout(socket, stall_limit_ms(limit))?)
}

/// 0 would mean the kernel's own, and the kernel takes what is beyond an `int` for negative.
fn stall_limit_ms(limit: Duration) -> u32 {
    limit.as_millis().clamp(1, i32::MAX as u128) as u32
}

/// Hangs up unless it is dropped before. It keeps no connection that nobody else has any more.
pub struct HangUpAfter(Option<reactor::Task<()>>);

impl HangUpAfter {
    pub fn new(line: &Rc<PhoneLine>, limit: Duration) -> HangUpAfter {
        let line = Rc::downgrade(line);
        HangUpAfter(Some(reactor::spawn(async move {
            reactor::sleep(limit).await;
            if let Some(line) = line.upgrade() {
                line.hang_up();
            }
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::time::Instant;

    use super::*;

    /// More than two kernels keep for a connection.
    const BYTES: usize = 12 << 20;

    /// A line, and the other end with little room for what it does not read.
    fn connected(stall: Duration) -> (Rc<PhoneLine>, TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let theirs = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        theirs.set_recv_buffer_size(300_000).unwrap();
        theirs.connect(&listener.local_addr().unwrap().into()).unwrap();
        let ours = PeerSocket::new(listener.accept().unwrap().0, true, stall).unwrap();
        (ours.line, theirs.into())
    }

    /// What the kernel alone does not do: its own limit has not ended one of these after many times its length.
    #[test]
    fn a_peer_that_speaks_and_does_not_read_is_given_up() {
        let limit = Duration::from_millis(1000);
        reactor::run_here(async {
            let (ours, mut theirs) = connected(limit);
            let speaks = std::thread::spawn(move || {
                while theirs.write_all(b"ping").is_ok() {
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
            let packets = async {
                loop {
                    ours.write_all(&[b'x'; 5000]).await?;
                    reactor::sleep(Duration::from_millis(1)).await;
                }
            };
            let hears = async {
                let mut heard = Vec::new();
                while read_more(&ours.socket, &mut heard, 1024).await? {
                    heard.clear();
                }
                Ok(())
            };
            let too_late = async {
                reactor::sleep(20 * limit).await;
                Ok(())
            };
            let ended: io::Result<()> = future::or(packets, future::or(hears, too_late)).await;
            ours.hang_up();
            speaks.join().unwrap();
            assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
        });
    }

    #[test]
    fn a_peer_that_reads_slowly_is_waited_for() {
        let limit = Duration::from_secs(2);
        let waited_for = || {
            let (sent, took, longest_pause) = send_to_slow_reader(limit);
            assert!(took > limit, "it takes longer than nothing may take");
            // Another time, where it was not slow but stood still.
            assert!(sent.is_ok() || longest_pause > limit / 2, "{sent:?} while it read every {longest_pause:?}");
            sent.is_ok()
        };
        assert!((0..4).any(|_| waited_for()), "never");
    }

    /// How that went, how long it took, and the longest time the reader did not read.
    fn send_to_slow_reader(limit: Duration) -> (io::Result<()>, Duration, Duration) {
        reactor::run_here(async {
            let (ours, mut theirs) = connected(limit);
            let reads = std::thread::spawn(move || {
                let (mut left, mut buffer, mut longest_pause) = (BYTES, vec![0; 128 * 1024], Duration::ZERO);
                let mut read_last = Instant::now();
                while left > 0 {
                    std::thread::sleep(Duration::from_millis(30));
                    match theirs.read(&mut buffer) {
                        Ok(bytes) if bytes > 0 => left -= bytes,
                        _ => break,
                    }
                    longest_pause = longest_pause.max(read_last.elapsed());
                    read_last = Instant::now();
                }
                longest_pause
            });
            let begun = Instant::now();
            let sent = ours.write_all(&vec![b'x'; BYTES]).await;
            let took = begun.elapsed();
            ours.end_writing();
            (sent, took, reads.join().unwrap())
        })
    }

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
