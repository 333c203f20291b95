//! A connected socket that is awaited. Reading and writing are calls of the kernel that do not wait; the reactor tells when the next one
//! may succeed. One task may wait to read, and one to write.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_lite::{AsyncRead, AsyncWrite};
use rustix::event::epoll::EventFlags;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags};

use super::source::Source;
use super::{Reactor, current};

#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    key: usize,
    source: Rc<Source>,
    reactor: Rc<Reactor>,
}

impl Socket {
    /// # Errors
    ///
    /// When the kernel cannot watch it.
    pub fn new(stream: TcpStream) -> io::Result<Socket> {
        let reactor = current();
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::PRI;
        let (key, source) = reactor.enter(&stream, flags)?;
        Ok(Socket { stream, key, source, reactor })
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub fn shutdown(&self, how: Shutdown) {
        let _ = self.stream.shutdown(how); // an error means that it is shut already
    }

    /// What the kernel takes right now; 0 when it takes nothing.
    pub fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let send = || rustix::net::send(&self.stream, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        match retry_on_intr(send) {
            Err(Errno::AGAIN) => Ok(0),
            sent => Ok(sent?),
        }
    }

    /// Reads at least one byte; 0 at the end of the stream.
    pub fn poll_recv(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        while self.source.readable.get() {
            match retry_on_intr(|| rustix::net::recv(&self.stream, &mut *buffer, RecvFlags::DONTWAIT)) {
                Ok((read, _)) => {
                    // Less than there was room for is all there was; what comes now is told of.
                    if read < buffer.len() && !self.source.ended.get() && !self.source.urgent.get() {
                        self.source.readable.set(false);
                    }
                    return Poll::Ready(Ok(read));
                }
                Err(Errno::AGAIN) => self.source.readable.set(false),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        self.source.wait_to_read(cx);
        Poll::Pending
    }

    /// Sends at least one byte, if there is one.
    pub fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        while self.source.writable.get() {
            let sent = self.send_now(bytes)?;
            if sent > 0 || bytes.is_empty() {
                return Poll::Ready(Ok(sent));
            }
            self.source.writable.set(false);
        }
        self.source.wait_to_write(cx);
        Poll::Pending
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.reactor.leave(self.key, &self.stream);
    }
}

impl AsyncRead for &Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll_recv(cx, buffer)
    }
}

impl AsyncWrite for &Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shutdown(Shutdown::Write);
        Poll::Ready(Ok(()))
    }
}
