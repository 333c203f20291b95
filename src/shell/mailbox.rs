//! A bounded way from a thread that may block to a task of an executor: sockets that were accepted or dialled.
//!
//! Not for requests: what crosses between executors goes by [`super::bridge`], in batches and without a lock.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

/// The thread's end.
#[derive(Debug)]
pub struct Mailbox<T> {
    /// There until it is dropped.
    items: Option<SyncSender<T>>,
    waker: Arc<AtomicWaker>,
}

/// The executor's end.
#[derive(Debug)]
pub struct Arrivals<T> {
    items: Receiver<T>,
    waker: Arc<AtomicWaker>,
}

pub fn mailbox<T>(capacity: usize) -> (Mailbox<T>, Arrivals<T>) {
    let (sender, receiver) = sync_channel(capacity);
    let waker = Arc::new(AtomicWaker::new());
    (Mailbox { items: Some(sender), waker: waker.clone() }, Arrivals { items: receiver, waker })
}

impl<T> Mailbox<T> {
    /// Waits while the executor has too many to take already; `false` when the executor is gone.
    pub fn deliver(&self, item: T) -> bool {
        let delivered = self.items.as_ref().is_some_and(|items| items.send(item).is_ok());
        self.waker.wake();
        delivered
    }
}

/// Another thread's end: the way ends with the last of them.
impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Mailbox<T> {
        Mailbox { items: self.items.clone(), waker: self.waker.clone() }
    }
}

impl<T> Drop for Mailbox<T> {
    fn drop(&mut self) {
        // First the end, then the word of it.
        self.items = None;
        self.waker.wake();
    }
}

impl<T> Arrivals<T> {
    /// The next one; `None` when the threads have ended.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        for registered in [false, true] {
            match self.items.try_recv() {
                Ok(item) => return Poll::Ready(Some(item)),
                Err(TryRecvError::Disconnected) => return Poll::Ready(None),
                Err(TryRecvError::Empty) if registered => {}
                Err(TryRecvError::Empty) => self.waker.register(cx.waker()),
            }
        }
        Poll::Pending
    }
}
