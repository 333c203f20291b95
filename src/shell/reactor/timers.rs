//! Moments that somebody waits for.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::{Reactor, current};

#[derive(Debug, Default)]
pub struct Timers {
    waiting: BTreeMap<(Instant, u64), Waker>,
    last_id: u64,
}

impl Timers {
    pub fn next(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|((moment, _), _)| *moment)
    }

    /// Wakes those whose moment has come; how many they are.
    pub fn fire(&mut self) -> usize {
        let Some(next) = self.next() else { return 0 };
        let now = Instant::now();
        if now < next {
            return 0;
        }
        let later = self.waiting.split_off(&(now, u64::MAX));
        let due = std::mem::replace(&mut self.waiting, later);
        let fired = due.len();
        due.into_values().for_each(Waker::wake);
        fired
    }
}

/// Resolves after at least this long.
pub fn sleep(duration: Duration) -> Sleep {
    let reactor = current();
    let moment = Instant::now() + duration;
    let mut timers = reactor.timers.borrow_mut();
    timers.last_id += 1;
    let key = (moment, timers.last_id);
    drop(timers);
    Sleep { key, reactor }
}

#[derive(Debug)]
#[must_use = "it sleeps when it is awaited"]
pub struct Sleep {
    key: (Instant, u64),
    reactor: Rc<Reactor>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.key.0 {
            return Poll::Ready(());
        }
        self.reactor.timers.borrow_mut().waiting.insert(self.key, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.reactor.timers.borrow_mut().waiting.remove(&self.key);
    }
}
