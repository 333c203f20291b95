//! A note from one task to another task of the same executor: "look again". Raising it twice before it is seen is once.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

#[derive(Debug, Default)]
pub struct Flag {
    raised: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Flag {
    pub fn raise(&self) {
        if !self.raised.replace(true)
            && let Some(waiter) = self.waiter.borrow_mut().take()
        {
            waiter.wake();
        }
    }

    /// Waits until it is raised and lowers it. One waiter at a time: a second takes the first one's place.
    pub async fn lowered(&self) {
        poll_fn(|cx| self.poll_lowered(cx)).await;
    }

    pub fn poll_lowered(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.raised.replace(false) {
            return Poll::Ready(());
        }
        *self.waiter.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raised_before_or_after_the_wait_is_seen_once() {
        let flag = Flag::default();
        let mut cx = Context::from_waker(Waker::noop());
        flag.raise();
        flag.raise();
        assert!(flag.poll_lowered(&mut cx).is_ready());
        assert!(flag.poll_lowered(&mut cx).is_pending());
        flag.raise();
        assert!(flag.poll_lowered(&mut cx).is_ready());
    }
}
