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
use glommio::{LocalExecutorBuilder, Placement};
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

/// A hundred years: the runtime's own reactor has nothing to look at.
const PREEMPT: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Registered with each of the three rings that the runtime makes for an executor, and that are not used here.
const IO_MEMORY_BYTES: usize = 64 << 10;

const RING_ENTRIES: usize = 32;

/// Taken from the kernel at once.
const EVENTS: usize = 256;

/// And so often more of them, if there are more.
const LOOKS: u32 = 64;

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
    let _leave = Leave(reactor.clone());
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

/// An executor whose main future is [`run`].
pub fn executor(placement: Placement) -> LocalExecutorBuilder {
    LocalExecutorBuilder::new(placement).preempt_timer(PREEMPT).io_memory(IO_MEMORY_BYTES).ring_depth(RING_ENTRIES)
}

/// The same on this thread: for tests.
pub fn run_here<T>(main: impl Future<Output = T>) -> T {
    let executor = executor(Placement::Unbound).make().expect("an executor");
    executor.run(run(Duration::ZERO, main)).expect("a reactor")
}

/// For how long this executor has slept, all in all.
pub fn slept() -> Duration {
    current().slept.get()
}

fn current() -> Rc<Reactor> {
    CURRENT.with_borrow(|current| current.clone()).expect("only inside `reactor::run`")
}

/// The executor's reactor goes with its main future. The runtime goes on until nobody is ready, but nobody has a turn any more.
struct Leave(Rc<Reactor>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.is_over.set(true);
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
    /// How often somebody was polled, or dropped.
    polls: Cell<u64>,
    is_over: Cell<bool>,
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
            is_over: Cell::new(false),
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
        let is_wanted = !self.turns.borrow().is_empty();
        match was_quiet {
            true if !is_wanted => self.rest(spin)?,
            false if rounds < ROUNDS_A_LOOK => {}
            _ => drop(self.look(Wait::No)?),
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
        self.look(next.map_or(Wait::ForEver, |next| Wait::For(next.saturating_duration_since(Instant::now()))))?;
        self.note_slept(began);
        Ok(())
    }

    fn note_slept(&self, since: Instant) {
        self.slept.set(self.slept.get() + since.elapsed());
    }

    /// Wakes those whose time has come; whether there were any.
    fn look(&self, wait: Wait) -> io::Result<bool> {
        self.rounds_since_look.set(0);
        let wait = if wait != Wait::No && self.calls.may_sleep() { wait } else { Wait::No };
        let looked = self.look_at_sources(wait);
        self.calls.awake();
        let (mut woken, mut events) = looked?;
        // Before anybody judges by the clock whom nobody has heard.
        for _ in 0..LOOKS {
            if events < EVENTS {
                break;
            }
            let (more, looked_at) = self.look_at_sources(Wait::No)?;
            (woken, events) = (woken + more, looked_at);
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

    /// Wakes those who wait for a source of which there is news. How many these are, and how much news there was.
    fn look_at_sources(&self, wait: Wait) -> io::Result<(usize, usize)> {
        let mut ready = self.ready.borrow_mut();
        ready.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut ready), wait.timeout().as_ref()) {
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
        Ok((woken, ready.len()))
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use futures_lite::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::shell::mailbox::mailbox;

    /// Ours, and the other end's.
    fn connected() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Socket::new(listener.accept().unwrap().0).unwrap(), theirs)
    }

    /// Nobody who speaks our protocol sends any; telnet does, and what is behind them has to be read all the same.
    #[test]
    fn what_is_behind_urgent_data_is_read() {
        let read = run_here(async {
            let (ours, mut theirs) = connected();
            theirs.write_all(b"before").unwrap();
            rustix::net::send(&theirs, b"!", rustix::net::SendFlags::OOB).unwrap();
            theirs.write_all(b"behind").unwrap();
            let (mut read, mut buffer) = (Vec::new(), [0; 1000]);
            while read.len() < 12 {
                let bytes = (&ours).read(&mut buffer).await.unwrap();
                read.extend_from_slice(&buffer[..bytes]);
            }
            read
        });
        assert_eq!(read, b"beforebehind");
    }

    /// No event ever comes here: a reactor that slept while somebody could go on would sleep for ever.
    #[test]
    fn it_does_not_sleep_while_somebody_can_go_on() {
        let steps = run_here(async {
            let counted = Rc::new(Cell::new(0));
            let tasks: Vec<_> = (1..20)
                .map(|steps| {
                    let counted = counted.clone();
                    spawn(async move {
                        for step in 0..steps {
                            counted.set(counted.get() + 1);
                            if step % 3 == 0 { next_turn().await } else { yield_now().await }
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await;
            }
            counted.get()
        });
        assert_eq!(steps, (1..20).sum::<u32>());
    }

    /// Nobody is polled when a task is dropped, and yet its drop wakes others.
    #[test]
    fn who_waits_for_the_end_of_a_cancelled_task_goes_on() {
        run_here(async {
            spawn(async {
                let cancelled = spawn(std::future::pending::<()>());
                next_turn().await;
                cancelled.cancel().await;
            })
            .await;
        });
    }

    #[test]
    fn nobody_has_a_turn_behind_the_end_of_main() {
        let turns = Rc::new(Cell::new(0));
        run_here(async {
            let counted = turns.clone();
            spawn(async move {
                loop {
                    counted.set(counted.get() + 1);
                    next_turn().await; // only inside a reactor
                }
            })
            .detach();
            next_turn().await;
        });
        assert!(turns.get() > 0);
    }

    #[test]
    fn a_task_without_end_does_not_keep_a_timer_from_firing() {
        run_here(async {
            let fired = Rc::new(Cell::new(false));
            let timer = fired.clone();
            spawn(async move {
                sleep(Duration::from_millis(1)).await;
                timer.set(true);
            })
            .detach();
            let mut share = Share::of(8);
            while !fired.get() {
                share.done_one().await;
            }
        });
    }

    #[test]
    fn moments_come_in_their_order_and_those_given_up_are_forgotten() {
        run_here(async {
            let order = Rc::new(RefCell::new(Vec::new()));
            let naps = [300, 100, 200].map(|ms| {
                let order = order.clone();
                spawn(async move {
                    sleep(Duration::from_millis(ms)).await;
                    order.borrow_mut().push(ms);
                })
            });
            let given_up = spawn(sleep(Duration::from_secs(3600)));
            for nap in naps {
                nap.await;
            }
            assert_eq!(*order.borrow(), [100, 200, 300]);
            assert!(current().timers.borrow().next().is_some());
            given_up.cancel().await;
            assert_eq!(current().timers.borrow().next(), None);
        });
    }

    #[test]
    fn who_is_called_by_another_thread_goes_on() {
        run_here(async {
            let (sender, mut items) = mailbox(1);
            let thread = std::thread::spawn(move || (0..1000).all(|item| sender.deliver(item)));
            for expected in 0..1000 {
                assert_eq!(poll_fn(|cx| items.poll_next(cx)).await, Some(expected));
            }
            assert_eq!(poll_fn(|cx| items.poll_next(cx)).await, None);
            assert!(thread.join().unwrap());
            assert_eq!(off_thread(|| Ok(7)).await.unwrap(), 7);
        });
    }

    #[test]
    fn a_signal_is_seen_once_whether_it_came_before_or_comes_during_the_wait() {
        run_here(async {
            let eventfd = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
            let ring = |bell: &OwnedFd| rustix::io::write(bell, &1u64.to_ne_bytes()).unwrap();
            ring(&eventfd);
            let signal = Signal::new(eventfd.try_clone().unwrap()).unwrap();
            poll_fn(|cx| signal.poll_signalled(cx)).await;
            let again = poll_fn(|cx| Poll::Ready(signal.poll_signalled(cx)));
            assert!(again.await.is_pending());
            off_thread(move || Ok(ring(&eventfd))).await.unwrap();
            poll_fn(|cx| signal.poll_signalled(cx)).await;
        });
    }

    #[test]
    fn what_comes_behind_a_full_read_is_read_and_so_is_the_end() {
        run_here(async {
            let (ours, mut theirs) = connected();
            let mut buffer = [0; 4];
            theirs.write_all(b"abcd").unwrap();
            assert_eq!((&ours).read(&mut buffer).await.unwrap(), 4);
            theirs.write_all(b"ef").unwrap();
            assert_eq!((&ours).read(&mut buffer).await.unwrap(), 2);
            theirs.write_all(b"g").unwrap();
            theirs.shutdown(std::net::Shutdown::Write).unwrap();
            let mut rest = Vec::new();
            (&ours).read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"g");
            // The other direction is open still.
            (&ours).write_all(b"h").await.unwrap();
            theirs.read_exact(&mut buffer[..1]).unwrap();
            assert_eq!(&buffer[..1], b"h");
        });
    }

    #[test]
    fn a_reader_that_is_slow_is_waited_for() {
        const BYTES: usize = 16 << 20;
        run_here(async {
            let (ours, mut theirs) = connected();
            let reader = std::thread::spawn(move || {
                let mut all = Vec::new();
                theirs.read_to_end(&mut all).unwrap();
                all
            });
            let sent: Vec<u8> = (0..BYTES).map(|at| (at % 251) as u8).collect();
            (&ours).write_all(&sent).await.unwrap();
            drop(ours);
            assert!(off_thread(move || Ok(reader.join().unwrap())).await.unwrap() == sent);
        });
    }

    #[test]
    fn a_connection_that_is_hung_up_ends_the_wait_of_its_reader() {
        run_here(async {
            let (ours, _theirs) = connected();
            let ours = Rc::new(ours);
            let reading = spawn({
                let ours = ours.clone();
                async move { (&*ours).read(&mut [0; 8]).await }
            });
            next_turn().await;
            ours.shutdown(std::net::Shutdown::Both);
            assert_eq!(reading.await.unwrap(), 0);
        });
    }
}
