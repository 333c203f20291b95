//! epoll, and one non-blocking connection.
//!
//! A [`Link`] holds only what is unfinished: the start of a frame still arriving, and bytes the socket would not take. All
//! links of a run share one receive buffer, so thousands of idle sessions cost no more than their sockets, and a busy
//! one is read in one call however much has arrived.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::{BenchError, Doing, Result, wire};

const EVENTS_PER_WAIT: usize = 1024;
const RECEIVE_BYTES: usize = 512 << 10;

/// Which sockets are ready.
pub struct Poller {
    epoll: OwnedFd,
    ready: Vec<epoll::Event>,
}

#[derive(Clone, Copy, Debug)]
pub struct Ready {
    pub token: usize,
    pub readable: bool,
    pub writable: bool,
}

impl Poller {
    pub fn new() -> Result<Poller> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).doing("epoll_create")?;
        Ok(Poller { epoll, ready: Vec::with_capacity(EVENTS_PER_WAIT) })
    }

    /// Waits for readiness and returns how many sockets have it; `None` waits for as long as it takes.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<usize> {
        let timeout =
            timeout.map(|wait| Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() });
        self.ready.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.ready), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(self.ready.len()),
            Err(cause) => Err(cause).doing("epoll_wait"),
        }
    }

    /// The `index`th socket of the last wait.
    pub fn ready(&self, index: usize) -> Ready {
        let (data, flags) = (self.ready[index].data, self.ready[index].flags);
        let broken = flags.intersects(epoll::EventFlags::ERR | epoll::EventFlags::HUP);
        Ready {
            token: data.u64() as usize,
            readable: broken || flags.contains(epoll::EventFlags::IN), // reading tells what broke
            writable: flags.contains(epoll::EventFlags::OUT),
        }
    }

    /// Makes accepting non-blocking, and wakes when there is something to accept.
    pub fn add_listener(&self, listener: &TcpListener, token: usize) -> Result<()> {
        listener.set_nonblocking(true).doing("O_NONBLOCK")?;
        let data = epoll::EventData::new_u64(token as u64);
        epoll::add(&self.epoll, listener, data, epoll::EventFlags::IN).doing("epoll_ctl add")
    }

    fn add(&self, link: &Link, interest: epoll::EventFlags) -> Result<()> {
        epoll::add(&self.epoll, &link.stream, epoll::EventData::new_u64(link.token as u64), interest)
            .doing("epoll_ctl add")
    }

    fn modify(&self, link: &Link, interest: epoll::EventFlags) -> Result<()> {
        epoll::modify(&self.epoll, &link.stream, epoll::EventData::new_u64(link.token as u64), interest)
            .doing("epoll_ctl modify")
    }
}

/// The buffer all links of a run receive into.
pub struct Inbox(Vec<u8>);

impl Default for Inbox {
    fn default() -> Inbox {
        Inbox(vec![0; RECEIVE_BYTES])
    }
}

impl Inbox {
    /// The bytes a link received last.
    pub fn received(&self, bytes: usize) -> &[u8] {
        &self.0[..bytes]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes lie at the front of the inbox. What is no whole frame yet goes back with [`Link::keep`].
    Bytes(usize),
    Nothing,
    Closed,
    /// The peer reset the connection.
    Reset,
}

/// One non-blocking connection.
pub struct Link {
    stream: TcpStream,
    token: usize,
    /// The start of a frame that has not arrived whole.
    partial: Vec<u8>,
    /// What the socket has not taken yet.
    unsent: Vec<u8>,
}

impl Link {
    /// Starts to connect. The link becomes writable when that is done; then [`Link::connected`] says how it went.
    pub fn connect(poller: &Poller, server: SocketAddr, token: usize) -> Result<Link> {
        let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None).doing("socket")?;
        match rustix::net::connect(&socket, &server) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(cause) => return Err(cause).doing(format_args!("connect to {server}")),
        }
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).doing("TCP_NODELAY")?;
        let link = Link { stream, token, partial: Vec::new(), unsent: Vec::new() };
        poller.add(&link, epoll::EventFlags::IN | epoll::EventFlags::OUT)?;
        Ok(link)
    }

    /// A connection that was accepted.
    pub fn over(poller: &Poller, stream: TcpStream, token: usize) -> Result<Link> {
        stream.set_nonblocking(true).doing("O_NONBLOCK")?;
        stream.set_nodelay(true).doing("TCP_NODELAY")?;
        let link = Link { stream, token, partial: Vec::new(), unsent: Vec::new() };
        poller.add(&link, epoll::EventFlags::IN)?;
        Ok(link)
    }

    /// Whether the connection stands; from here on only incoming bytes wake us.
    pub fn connected(&mut self, poller: &Poller) -> Result<bool> {
        match rustix::net::sockopt::socket_error(self.stream.as_fd()).doing("SO_ERROR")? {
            Ok(()) => poller.modify(self, epoll::EventFlags::IN).map(|()| true),
            Err(Errno::CONNREFUSED | Errno::CONNRESET | Errno::TIMEDOUT) => Ok(false),
            Err(cause) => Err(cause).doing("connect"),
        }
    }

    /// Reads once, behind what was kept. Readiness is level-triggered: what is left wakes us again.
    #[inline]
    pub fn receive(&mut self, inbox: &mut Inbox) -> Result<Received> {
        let kept = self.partial.len();
        if inbox.0.len() < 2 * kept {
            inbox.0.resize(4 * kept, 0); // bounded: `wire::next_frame` refuses what is longer than its limit
        }
        inbox.0[..kept].copy_from_slice(&self.partial);
        match self.stream.read(&mut inbox.0[kept..]) {
            Ok(0) => Ok(Received::Closed),
            Ok(bytes) => {
                self.partial.clear();
                Ok(Received::Bytes(kept + bytes))
            }
            Err(cause) if matches!(cause.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Ok(Received::Nothing)
            }
            Err(cause) if cause.kind() == ErrorKind::ConnectionReset => Ok(Received::Reset),
            Err(cause) => Err(cause).doing("read"),
        }
    }

    /// Keeps the start of an incomplete frame for the next [`Link::receive`].
    #[inline]
    pub fn keep(&mut self, rest: &[u8]) {
        self.partial.extend_from_slice(rest);
    }

    /// Sends, or keeps what the socket will not take until it is writable.
    #[inline]
    pub fn send(&mut self, poller: &Poller, bytes: &[u8]) -> Result<()> {
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(bytes);
            return Ok(());
        }
        let taken = self.write(bytes)?;
        if taken < bytes.len() {
            self.unsent.extend_from_slice(&bytes[taken..]);
            poller.modify(self, epoll::EventFlags::IN | epoll::EventFlags::OUT)?;
        }
        Ok(())
    }

    /// Goes on sending once the socket is writable.
    pub fn flush(&mut self, poller: &Poller) -> Result<()> {
        let unsent = std::mem::take(&mut self.unsent);
        let taken = self.write(&unsent)?;
        self.unsent = unsent;
        self.unsent.drain(..taken);
        if self.unsent.is_empty() {
            poller.modify(self, epoll::EventFlags::IN)?;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        match self.stream.write(bytes) {
            Ok(taken) => Ok(taken),
            Err(cause) if matches!(cause.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
            Err(cause) => Err(cause).doing("write"),
        }
    }
}

/// Hands each whole frame among the first `bytes` of the inbox to `take`, and keeps the rest.
#[inline]
pub fn each_frame(
    link: &mut Link,
    inbox: &Inbox,
    bytes: usize,
    mut take: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut rest = inbox.received(bytes);
    while let Some((frame, tail)) = wire::next_frame(rest)? {
        take(frame)?;
        rest = tail;
    }
    link.keep(rest);
    Ok(())
}

/// Receives what has come and hands each whole frame to `take`; a connection that ended is an error.
#[inline]
pub fn receive_frames(link: &mut Link, inbox: &mut Inbox, take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    match link.receive(inbox)? {
        Received::Bytes(bytes) => each_frame(link, inbox, bytes, take),
        Received::Nothing => Ok(()),
        Received::Closed => Err(BenchError::new("the server closed the connection")),
        Received::Reset => Err(BenchError::new("the server reset the connection")),
    }
}
