//! Bounded queues between two executors: one producer, one consumer, one wake per push.
//!
//! What crosses is a whole batch (everything the sending executor collected since its last push), never a single message:
//! a hop costs tens of microseconds, which a batch shares among its messages. A full queue is back-pressure: the sender
//! keeps its batch, lets it grow to its own bound and stops reading sockets ([`crate::shell::io_executor`]).
//!
//! Built on a lock-free ring and a waker slot in each direction. Not here, on purpose: glommio's `shared_channel`, which is
//! slower for request and reply and panics when its peer's executor is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use crate::core::ConnectionId;
use crate::wire::frame::FourLetterWord;

/// What an io executor tells the pipeline, in the order in which it happened.
#[derive(Debug, Default)]
pub struct UpBatch {
    pub events: Vec<UpEvent>,
    /// The frames of all `Received` events, one after the other.
    pub frames: Vec<u8>,
}

/// A four-letter word and who sent it.
#[derive(Clone, Copy, Debug)]
pub struct AskedWord {
    pub connection: ConnectionId,
    pub word: FourLetterWord,
    /// What came along with `stmk`.
    pub trace_mask: Option<i64>,
}

#[derive(Debug)]
pub enum UpEvent {
    Connected {
        connection: ConnectionId,
        peer: std::net::SocketAddr,
    },
    /// The next `bytes` bytes of the batch's frames.
    Received {
        connection: ConnectionId,
        bytes: usize,
    },
    Sent {
        connection: ConnectionId,
        bytes: usize,
    },
    Word(AskedWord),
    Disconnected {
        connection: ConnectionId,
    },
}

/// What the pipeline wants done on an io executor, in order.
#[derive(Debug)]
pub enum DownEvent {
    Send {
        connection: ConnectionId,
        bytes: Vec<u8>,
    },
    Close {
        connection: ConnectionId,
    },
    PauseReading {
        connection: ConnectionId,
    },
    ResumeReading {
        connection: ConnectionId,
    },
    /// Flush and close everything, then end.
    Stop,
}

pub type DownBatch = Vec<DownEvent>;

#[derive(Debug, Default)]
struct Wakers {
    item: AtomicWaker,
    room: AtomicWaker,
    /// The sender is gone; set before its last wake.
    ended: AtomicBool,
}

#[derive(Debug)]
pub struct Sender<T> {
    ring: rtrb::Producer<T>,
    wakers: Arc<Wakers>,
}

#[derive(Debug)]
pub struct Receiver<T> {
    ring: rtrb::Consumer<T>,
    wakers: Arc<Wakers>,
}

pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let (producer, consumer) = rtrb::RingBuffer::new(capacity);
    let wakers = Arc::new(Wakers::default());
    (Sender { ring: producer, wakers: wakers.clone() }, Receiver { ring: consumer, wakers })
}

impl<T> Sender<T> {
    /// Gives the value back when the queue is full.
    pub fn try_send(&mut self, value: T) -> Result<(), T> {
        match self.ring.push(value) {
            Ok(()) => {
                self.wakers.item.wake();
                Ok(())
            }
            Err(rtrb::PushError::Full(value)) => Err(value),
        }
    }

    /// Ready when at least one push will succeed.
    pub fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.ring.is_full() {
            return Poll::Ready(());
        }
        self.wakers.room.register(cx.waker());
        // The consumer may have popped between the look and the registration.
        if self.ring.is_full() { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl<T> Receiver<T> {
    /// The next value; `None` once the sender is gone and everything it sent was taken.
    pub fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(value) = self.take() {
            return Poll::Ready(Some(value));
        }
        self.wakers.item.register(cx.waker());
        // Read before the last look, so nothing pushed before the sender went is missed.
        let ended = self.wakers.ended.load(Ordering::Acquire);
        match self.take() {
            Some(value) => Poll::Ready(Some(value)),
            None if ended => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    fn take(&mut self) -> Option<T> {
        let value = self.ring.pop().ok()?;
        // Without a look at whether the queue was full: the sender may fill it between that look and the pop.
        self.wakers.room.wake();
        Some(value)
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.wakers.ended.store(true, Ordering::Release);
        self.wakers.item.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn poll_once<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        poll(&mut Context::from_waker(std::task::Waker::noop()))
    }

    #[test]
    fn a_full_queue_gives_the_value_back_and_wakes_its_sender_when_there_is_room() {
        let (mut sender, mut receiver) = channel::<u32>(2);
        assert_eq!(sender.try_send(1), Ok(()));
        assert_eq!(sender.try_send(2), Ok(()));
        assert_eq!(sender.try_send(3), Err(3));

        let (waker, woken) = counting_waker();
        assert!(sender.poll_room(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(poll_once(|cx| receiver.poll_receive(cx)), Poll::Ready(Some(1)));
        assert_eq!(woken.count(), 1);
        assert_eq!(sender.try_send(3), Ok(()));
        assert_eq!(poll_once(|cx| receiver.poll_receive(cx)), Poll::Ready(Some(2)));
        assert_eq!(poll_once(|cx| receiver.poll_receive(cx)), Poll::Ready(Some(3)));
        assert!(poll_once(|cx| receiver.poll_receive(cx)).is_pending());
    }

    #[test]
    fn a_push_wakes_a_waiting_receiver_once_and_the_end_of_the_sender_is_seen_last() {
        let (mut sender, mut receiver) = channel::<u32>(8);
        let (waker, woken) = counting_waker();
        assert!(receiver.poll_receive(&mut Context::from_waker(&waker)).is_pending());
        sender.try_send(7).unwrap();
        sender.try_send(8).unwrap(); // nobody waits any more: no second wake
        assert_eq!(woken.count(), 1);
        drop(sender);
        assert_eq!(poll_once(|cx| receiver.poll_receive(cx)), Poll::Ready(Some(7)));
        assert_eq!(poll_once(|cx| receiver.poll_receive(cx)), Poll::Ready(Some(8)));
        assert_eq!(poll_once(|cx| receiver.poll_receive(cx)), Poll::Ready(None));
    }

    #[test]
    fn everything_crosses_threads_in_order_through_a_tiny_queue() {
        let (mut sender, mut receiver) = channel::<u64>(3);
        let consumer = std::thread::spawn(move || {
            futures_lite::future::block_on(async {
                let mut expected = 0;
                while let Some(value) = poll_fn(|cx| receiver.poll_receive(cx)).await {
                    assert_eq!(value, expected);
                    expected += 1;
                }
                expected
            })
        });
        futures_lite::future::block_on(async {
            for value in 0..100_000 {
                poll_fn(|cx| sender.poll_room(cx)).await;
                sender.try_send(value).unwrap();
            }
        });
        drop(sender);
        assert_eq!(consumer.join().unwrap(), 100_000);
    }

    struct Count(std::sync::atomic::AtomicUsize);
    impl Count {
        fn count(&self) -> usize {
            self.0.load(std::sync::atomic::Ordering::Relaxed)
        }
    }
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
    fn counting_waker() -> (std::task::Waker, Arc<Count>) {
        let count = Arc::new(Count(Default::default()));
        (count.clone().into(), count)
    }
}
