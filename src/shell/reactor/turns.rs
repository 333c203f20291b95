//! Giving way: a task that could go on without end lets the others run, and now and then the reactor.

use std::future::poll_fn;
use std::mem::replace;
use std::task::Poll;

use super::current;

/// Resolves when everybody has had a turn, and sockets, the disk and timers were looked at.
pub async fn next_turn() {
    let mut has_asked = false;
    poll_fn(|cx| {
        if replace(&mut has_asked, true) {
            return Poll::Ready(());
        }
        current().turns.borrow_mut().push(cx.waker().clone());
        Poll::Pending
    })
    .await;
}

/// Counts what a task does in one go. A task that never runs out of work calls `done_one` after each piece.
#[derive(Debug)]
pub struct Share {
    pieces: u32,
    left: u32,
}

impl Share {
    pub fn of(pieces: u32) -> Share {
        Share { pieces, left: pieces }
    }

    /// Lets the other tasks run, and now and then the reactor.
    pub async fn done_one(&mut self) {
        self.left -= 1;
        if self.left == 0 {
            self.left = self.pieces;
            next_turn().await;
        } else {
            futures_lite::future::yield_now().await;
        }
    }
}
