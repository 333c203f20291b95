//! Tasks, as the reactor has to know them: each poll is counted, and each waker finds its way from any thread.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

pub use glommio::Task;

use super::calls::Calls;
use super::{CURRENT, Reactor, current};
use crate::shell::cpus::leave_executors_cpu;
use crate::shell::mailbox::mailbox;

/// The key of the executor's main future, which no task has.
pub const MAIN: usize = usize::MAX;

/// Runs it on this executor. It ends with its handle, unless that is detached.
pub fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> Task<T> {
    glommio::spawn_local(Tracked { future: Box::pin(future), known: None, reactor: current() })
}

/// Does on a thread of its own what may block.
///
/// # Errors
///
/// The work's own, or there can be no thread.
pub async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let (done, mut result) = mailbox(1);
    let thread = std::thread::Builder::new().name("rk-aside".into());
    thread.spawn(move || {
        leave_executors_cpu();
        done.deliver(work())
    })?;
    poll_fn(|cx| result.poll_next(cx)).await.unwrap_or_else(|| Err(io::Error::other("the thread for it failed")))
}

/// A future whose polls the reactor counts.
pub struct Tracked<F> {
    future: Pin<Box<F>>,
    /// Since its first poll: its key, and the waker it is given.
    known: Option<(usize, Waker)>,
    reactor: Rc<Reactor>,
}

impl<F: Future> Future for Tracked<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Tracked { future, known, reactor } = &mut *self;
        if reactor.is_over.get() {
            return Poll::Pending;
        }
        reactor.note_poll();
        let (_, waker) = known.get_or_insert_with(|| {
            // The runtime gives a task the same waker for as long as it lives.
            let task = reactor.tasks.borrow_mut().insert(cx.waker().clone());
            (task, reactor.waker_of(task))
        });
        future.as_mut().poll(&mut Context::from_waker(waker))
    }
}

impl<F> Drop for Tracked<F> {
    fn drop(&mut self) {
        // A drop wakes whoever waits for it, and others: a round with one is not quiet.
        self.reactor.note_poll();
        if let Some((task, _)) = self.known.take() {
            let waker = self.reactor.tasks.borrow_mut().remove(task);
            drop(waker); // while nothing is borrowed
        }
    }
}

impl Reactor {
    fn waker_of(&self, task: usize) -> Waker {
        Arc::new(Caller { task, calls: self.calls.clone() }).into()
    }

    pub(super) fn waker_of_main(&self) -> Waker {
        self.waker_of(MAIN)
    }
}

/// Wakes a task from wherever it is called.
struct Caller {
    task: usize,
    calls: Arc<Calls>,
}

impl Wake for Caller {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let here = CURRENT.try_with(|current| {
            let current = current.try_borrow().ok()?;
            let reactor = current.as_ref().filter(|reactor| Arc::ptr_eq(&reactor.calls, &self.calls))?;
            reactor.wake(self.task);
            Some(())
        });
        if !matches!(here, Ok(Some(()))) {
            self.calls.call(self.task);
        }
    }
}
