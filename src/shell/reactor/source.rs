//! What the kernel has said of one descriptor, and who waits for it.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use rustix::event::epoll::EventFlags;

use super::{Reactor, current};

#[derive(Debug, Default)]
pub struct Source {
    /// There may be something to read.
    pub readable: Cell<bool>,
    /// There may be room.
    pub writable: Cell<bool>,
    /// The other end has ended, or the connection is broken: from now on a read never waits.
    pub ended: Cell<bool>,
    /// There were urgent data: a read ends in front of them, and what is behind them is not told of.
    pub urgent: Cell<bool>,
    pub reader: RefCell<Option<Waker>>,
    pub writer: RefCell<Option<Waker>>,
}

impl Source {
    pub fn note(&self, flags: EventFlags) {
        let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        if broken || flags.contains(EventFlags::RDHUP) {
            self.ended.set(true);
        }
        if flags.contains(EventFlags::PRI) {
            self.urgent.set(true);
        }
        if self.ended.get() || flags.intersects(EventFlags::IN | EventFlags::PRI) {
            self.readable.set(true);
            wake(&self.reader);
        }
        if broken || flags.contains(EventFlags::OUT) {
            self.writable.set(true);
            wake(&self.writer);
        }
    }

    pub fn wait_to_read(&self, cx: &mut Context<'_>) {
        wait(&self.reader, cx);
    }

    pub fn wait_to_write(&self, cx: &mut Context<'_>) {
        wait(&self.writer, cx);
    }
}

fn wake(waiting: &RefCell<Option<Waker>>) {
    if let Some(waker) = waiting.take() {
        waker.wake();
    }
}

fn wait(waiting: &RefCell<Option<Waker>>, cx: &mut Context<'_>) {
    *waiting.borrow_mut() = Some(cx.waker().clone());
}

/// An eventfd that somebody else signals.
#[derive(Debug)]
pub struct Signal {
    eventfd: OwnedFd,
    key: usize,
    source: Rc<Source>,
    reactor: Rc<Reactor>,
}

impl Signal {
    /// # Errors
    ///
    /// When the kernel cannot watch it.
    pub fn new(eventfd: OwnedFd) -> io::Result<Signal> {
        let reactor = current();
        let (key, source) = reactor.enter(&eventfd, EventFlags::IN)?;
        Ok(Signal { eventfd, key, source, reactor })
    }

    /// Ready when it was signalled since the last time.
    pub fn poll_signalled(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.source.readable.take() {
            return Poll::Ready(());
        }
        self.source.wait_to_read(cx);
        Poll::Pending
    }
}

impl Drop for Signal {
    fn drop(&mut self) {
        self.reactor.leave(self.key, &self.eventfd);
    }
}
