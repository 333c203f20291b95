//! What an executor waits for, in one place and by one call: sockets, the disk, other threads, and moments.
//!
//! ```text
//!  everybody who can go on has a turn --> nobody can --> epoll_wait --> who was waited for is woken --+
//!        ^------------------------------------------------------------------------------------------------+
//! ```
//!
//! The runtime places the threads and runs the tasks (glommio). Its own reactor is not used: it keeps three rings and arms and cancels
//! timers on each way to sleep and back, a dozen system calls for each, and a server that waits for one disk and two peers goes
//! to sleep ten times a write ([decision 0007](../../../docs/decisions/0007-the-wait.md)). So one task of each executor, its main
//! one, never ends its turn for long: when all others have had theirs and none of them did anything, it blocks the thread here.
//!
//! Holds: nobody who can go on waits for somebody who cannot. Tasks that are spawned here tell the reactor of each poll, and the
//! runtime runs tasks in the order in which they were woken: a round without a poll is a round in which nobody was ready. Wakers
//! are the reactor's own: from another thread they ring a bell that ends the wait.
//! Not here, on purpose: files (`storage` has its own ring and signals an eventfd), connecting and resolving (threads that may
//! block, and a [`mailbox`](super::mailbox)).

mod calls;
mod socket;
mod source;
mod task;
mod timers;
mod turns;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_lite::future::yield_now;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use slab::Slab;

use self::calls::Calls;
pub use self::socket::Socket;
pub use self::source::Signal;
use self::source::Source;
pub use self::task::{Task, off_thread, spawn};
use self::timers::Timers;
pub use self::timers::{Sleep, sleep};
pub use self::turns::{Share, next_turn};

/// Taken from the kernel at once; more come with the next look.
const EVENTS: usize = 256;

/// Rounds in which somebody did something, before a look at what else there is.
const ROUNDS_A_LOOK: u32 = 4;

/// The key of the bell, which no source has.
const BELL: u64 = u64::MAX;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Reactor>>> = const { RefCell::new(None) };
}

/// Runs `main`, and what it spawns, on this executor until `main` is over. `spin`: for how long to look again before the thread
/// is put to sleep.
///
/// # Errors
///
/// When there are no descriptors left for what it waits with.
pub async fn run<T>(spin: Duration, main: impl Future<Output = T>) -> io::Result<T> {
    let reactor = Rc::new(Reactor::new()?);
    let before = CURRENT.replace(Some(reactor.clone()));
    assert!(before.is_none(), "one reactor an executor");
    let _leave = Leave;
    let (mut main, waker) = (pin!(main), reactor.waker_of_main());
    loop {
        let polls = reactor.polls.get();
        if reactor.main_is_ready.take() {
            reactor.note_poll();
            if let Poll::Ready(value) = main.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Ok(value);
            }
        }
        yield_now().await;
        let was_quiet = polls == reactor.polls.get() && !reactor.main_is_ready.get();
        reactor.end_round(was_quiet, spin)?;
    }
}

/// The same on a thread of its own kind: for tests and tools.
pub fn run_here<T>(main: impl Future<Output = T>) -> T {
    let ended = glommio::LocalExecutorBuilder::new(glommio::Placement::Unbound)
        .preempt_timer(super::placement::PREEMPT)
        .make()
        .expect("an executor")
        .run(run(Duration::ZERO, main));
    ended.expect("a reactor")
}

/// For how long this executor has slept, all in all.
pub fn slept() -> Duration {
    current().slept.get()
}

fn current() -> Rc<Reactor> {
    CURRENT.with_borrow(|current| current.clone()).expect("only inside `reactor::run`")
}

/// The executor's reactor goes with it.
struct Leave;

impl Drop for Leave {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}

struct Reactor {
    epoll: OwnedFd,
    ready: RefCell<Vec<epoll::Event>>,
    sources: RefCell<Slab<Rc<Source>>>,
    timers: RefCell<Timers>,
    /// Tasks that wait for a look.
    turns: RefCell<Vec<Waker>>,
    /// The runtime's wakers of the tasks that were polled once.
    tasks: RefCell<Slab<Waker>>,
    main_is_ready: Cell<bool>,
    calls: Arc<Calls>,
    /// How often somebody was polled.
    polls: Cell<u64>,
    rounds_since_look: Cell<u32>,
    slept: Cell<Duration>,
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor").finish_non_exhaustive()
    }
}

impl Reactor {
    fn new() -> io::Result<Reactor> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let calls = Arc::new(Calls::new()?);
        epoll::add(
            &epoll,
            calls.bell(),
            epoll::EventData::new_u64(BELL),
            epoll::EventFlags::IN | epoll::EventFlags::ET,
        )?;
        Ok(Reactor {
            epoll,
            ready: RefCell::new(Vec::with_capacity(EVENTS)),
            sources: RefCell::default(),
            timers: RefCell::default(),
            turns: RefCell::default(),
            tasks: RefCell::default(),
            main_is_ready: Cell::new(true),
            calls,
            polls: Cell::new(0),
            rounds_since_look: Cell::new(0),
            slept: Cell::new(Duration::ZERO),
        })
    }

    fn note_poll(&self) {
        self.polls.set(self.polls.get() + 1);
    }

    /// Everybody who was ready has had a turn.
    fn end_round(&self, was_quiet: bool, spin: Duration) -> io::Result<()> {
        let rounds = self.rounds_since_look.get() + 1;
        self.rounds_since_look.set(rounds);
        if !self.turns.borrow().is_empty() || (!was_quiet && rounds >= ROUNDS_A_LOOK) {
            self.look(Wait::No)?;
        } else if was_quiet {
            self.rest(spin)?;
        }
        Ok(())
    }

    /// Until somebody is woken.
    fn rest(&self, spin: Duration) -> io::Result<()> {
        let began = Instant::now();
        if !spin.is_zero() {
            while began.elapsed() < spin {
                if self.look(Wait::No)? {
                    self.note_slept(began);
                    return Ok(());
                }
            }
        }
        let next = self.timers.borrow().next();
        self.look(next.map_or(Wait::ForEver, |next| Wait::For(next.saturating_duration_since(began))))?;
        self.note_slept(began);
        Ok(())
    }

    fn note_slept(&self, since: Instant) {
        self.slept.set(self.slept.get() + since.elapsed());
    }

    /// Wakes those whose time has come; whether there were any.
    fn look(&self, wait: Wait) -> io::Result<bool> {
        self.rounds_since_look.set(0);
        let mut ready = self.ready.borrow_mut();
        ready.clear();
        let wait = if wait != Wait::No && self.calls.may_sleep() { wait } else { Wait::No };
        let looked = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut ready), wait.timeout().as_ref());
        self.calls.awake();
        match looked {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut woken = 0;
        for event in ready.iter().filter(|event| event.data.u64() != BELL) {
            // One that has left since then has nothing to hear.
            if let Some(source) = self.sources.borrow().get(event.data.u64() as usize) {
                source.note(event.flags);
                woken += 1;
            }
        }
        for task in self.calls.take() {
            self.wake(task);
            woken += 1;
        }
        woken += self.timers.borrow_mut().fire();
        for waiting in self.turns.take() {
            waiting.wake();
            woken += 1;
        }
        Ok(woken > 0)
    }

    /// A task, by its key; one that is over has nothing to hear, and whoever has its key now looks in vain.
    fn wake(&self, task: usize) {
        if task == task::MAIN {
            self.main_is_ready.set(true);
        } else if let Some(waker) = self.tasks.borrow().get(task) {
            waker.wake_by_ref();
        }
    }

    fn enter(&self, descriptor: impl AsFd, flags: epoll::EventFlags) -> io::Result<(usize, Rc<Source>)> {
        let source = Rc::<Source>::default();
        let mut sources = self.sources.borrow_mut();
        let entry = sources.vacant_entry();
        let key = entry.key();
        // Each change is told once: whoever is told goes on until there is nothing more.
        epoll::add(&self.epoll, descriptor, epoll::EventData::new_u64(key as u64), flags | epoll::EventFlags::ET)?;
        entry.insert(source.clone());
        Ok((key, source))
    }

    fn leave(&self, key: usize, descriptor: impl AsFd) {
        // The kernel forgets it only when its last duplicate is closed.
        let forgotten = epoll::delete(&self.epoll, descriptor);
        assert!(forgotten.is_ok(), "what entered can leave: {forgotten:?}");
        self.sources.borrow_mut().remove(key);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    No,
    For(Duration),
    ForEver,
}

impl Wait {
    fn timeout(self) -> Option<Timespec> {
        let timespec = |wait: Duration| Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
        match self {
            Wait::No => Some(timespec(Duration::ZERO)),
            Wait::For(wait) => Some(timespec(wait)),
            Wait::ForEver => None,
        }
    }
}
