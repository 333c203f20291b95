//! Operations on threads of their own: nothing here ever blocks the executor.
//!
//! ```text
//!   executor --submit--> bounded queue --> thread: a ring, or one system call after the other
//!   executor <--eventfd-- what has completed <--'
//! ```
//!
//! The ring has one thread. Plain system calls have two: one for the batches of the log, in the order in which they come, and
//! one for everything else, so that a commit never waits for the flush of a snapshot.
//!
//! A thread that ends although nobody wanted it to is told of by the next look at the completions: what it had will never be
//! answered, and a server must not go on as if it might.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::EventfdFlags;

use super::blocking::BlockingDisk;
use super::uring::{Ring, RingUnavailable};
use crate::disk::{Disk, DiskEvent, DiskOp, Owner};

/// Operations handed to a thread and not begun. The store has fewer on their way; what does not fit waits on our side.
const QUEUE_OPERATIONS: usize = 64;

/// Between two tries to hand on the rest, at the end.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(1);

/// A thread of the disk ended in the middle of its work. What it said is on standard error.
#[derive(Debug, thiserror::Error)]
#[error("thread {thread} of the disk ended although nobody told it to: what it was doing is not known")]
pub struct DiskThreadEnded {
    pub thread: &'static str,
}

/// What the threads have done, on its way to the executor.
#[derive(Debug)]
struct Done {
    events: Mutex<Vec<DiskEvent>>,
    eventfd: OwnedFd,
}

impl Done {
    fn push(&self, events: &mut Vec<DiskEvent>) {
        let mut done = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let first = done.is_empty(); // else a signal is on its way that was not followed by a look yet
        done.append(events);
        drop(done);
        if first {
            self.signal();
        }
    }

    fn signal(&self) {
        signal(&self.eventfd);
    }
}

fn signal(eventfd: &impl AsFd) {
    // Fails only when the counter is full, and then there is a signal.
    let _ = rustix::io::write(eventfd, &1u64.to_ne_bytes());
}

fn eventfd() -> io::Result<OwnedFd> {
    Ok(rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?)
}

/// One thread and the way to it.
#[derive(Debug)]
struct Lane {
    name: &'static str,
    /// None: closed, the thread ends when it has done everything.
    queue: Option<SyncSender<DiskOp>>,
    waiting: VecDeque<DiskOp>,
    /// Of a thread that does not sleep on its queue.
    doorbell: Option<OwnedFd>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Lane {
    fn spawn(
        name: &'static str,
        cpus: &[usize],
        done: &Arc<Done>,
        doorbell: Option<OwnedFd>,
        work: impl FnOnce(Receiver<DiskOp>, &Done) + Send + 'static,
    ) -> io::Result<Lane> {
        let (queue, operations) = mpsc::sync_channel(QUEUE_OPERATIONS);
        let ended = Arc::new(AtomicBool::new(false));
        let guard = EndGuard { ended: ended.clone(), done: done.clone() };
        let cpus = cpus.to_vec();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            run_on(&cpus);
            work(operations, &guard.done);
            drop(guard);
        })?;
        let (queue, thread) = (Some(queue), Some(thread));
        Ok(Lane { name, queue, waiting: VecDeque::new(), doorbell, ended, thread })
    }

    /// Hands on what waits, as far as there is room.
    fn push(&mut self) {
        let Some(queue) = &self.queue else { return };
        let mut pushed = false;
        while let Some(op) = self.waiting.pop_front() {
            match queue.try_send(op) {
                Ok(()) => pushed = true,
                // Ended: told of by the next look at the completions.
                Err(TrySendError::Full(op) | TrySendError::Disconnected(op)) => {
                    self.waiting.push_front(op);
                    break;
                }
            }
        }
        if let (Some(doorbell), true) = (&self.doorbell, pushed) {
            signal(doorbell);
        }
    }

    fn close(&mut self) {
        self.queue = None;
        self.doorbell.iter().for_each(signal);
    }
}

/// Says so when its thread ends, in whatever way.
struct EndGuard {
    ended: Arc<AtomicBool>,
    done: Arc<Done>,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        self.done.signal();
    }
}

/// A thread is born with the CPUs of its parent, which may be pinned to one.
fn run_on(cpus: &[usize]) {
    let mut set = rustix::thread::CpuSet::new();
    cpus.iter().filter(|cpu| **cpu < rustix::thread::CpuSet::MAX_CPU).for_each(|cpu| set.set(*cpu));
    if !cpus.is_empty() {
        // Where it may not run there it runs where it is: slower at worst.
        let _ = rustix::thread::sched_setaffinity(None, &set);
    }
}

/// The threads of a disk, used from one executor.
#[derive(Debug)]
pub struct DiskThreads {
    /// The first has the batches of the log, the last everything else.
    lanes: Vec<Lane>,
    done: Arc<Done>,
    in_flight: usize,
}

impl DiskThreads {
    /// Plain system calls, on two threads. `cpus`: where they may run; empty: where the caller may.
    pub fn syscalls(cpus: &[usize]) -> io::Result<DiskThreads> {
        let done = way_back()?;
        let disk = BlockingDisk::default();
        let mut lanes = Vec::new();
        for name in ["rk-log", "rk-disk"] {
            let mut disk = disk.sharing_files();
            lanes.push(Lane::spawn(name, cpus, &done, None, move |operations, done| {
                while let Ok(op) = operations.recv() {
                    done.push(&mut vec![disk.run(op)]);
                }
            })?);
        }
        Ok(DiskThreads { lanes, done, in_flight: 0 })
    }

    /// A ring, driven by a thread of its own.
    pub fn ring(cpus: &[usize]) -> Result<DiskThreads, RingUnavailable> {
        let late = |error: io::Error| RingUnavailable::from_error(&error);
        let done = way_back().map_err(late)?;
        let doorbell = eventfd().map_err(late)?;
        let theirs = doorbell.try_clone().map_err(late)?;
        let (report, reported) = mpsc::sync_channel(1);
        let lane = Lane::spawn("rk-log", cpus, &done, Some(doorbell), move |operations, done| {
            // A ring belongs to the thread that makes it.
            match Ring::new() {
                Ok(mut ring) => {
                    ring.listen_to(theirs);
                    let _ = report.send(Ok(()));
                    drive(&mut ring, &operations, done);
                }
                Err(unavailable) => drop(report.send(Err(unavailable))),
            }
        });
        let lane = lane.map_err(late)?;
        let gone = |_| RingUnavailable::from_error(&io::Error::other("its thread ended at once"));
        reported.recv().map_err(gone)??;
        Ok(DiskThreads { lanes: vec![lane], done, in_flight: 0 })
    }

    /// Takes every operation.
    pub fn submit(&mut self, ops: &mut Vec<DiskOp>) {
        let last = self.lanes.len() - 1;
        for op in ops.drain(..) {
            let lane = if matches!(op.id.owner, Owner::LogWrite | Owner::LogFlush) { 0 } else { last };
            self.lanes[lane].waiting.push_back(op);
            self.in_flight += 1;
        }
        self.lanes.iter_mut().for_each(Lane::push);
    }

    /// What has completed, without waiting. Returns how many.
    pub fn completions(&mut self, out: &mut Vec<DiskEvent>) -> Result<usize, DiskThreadEnded> {
        let before = out.len();
        out.append(&mut self.done.events.lock().unwrap_or_else(PoisonError::into_inner));
        let count = out.len() - before;
        self.in_flight -= count;
        self.lanes.iter_mut().for_each(Lane::push);
        match self.lanes.iter().find(|lane| lane.ended.load(Ordering::Acquire)) {
            // What it did before its end is known; it is told of when that was taken.
            Some(lane) if count == 0 => Err(DiskThreadEnded { thread: lane.name }),
            _ => Ok(count),
        }
    }

    /// Blocks the thread until something has completed; returns at once when nothing is in flight.
    pub fn wait(&mut self) {
        let nothing_yet = self.done.events.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        if self.in_flight > 0 && nothing_yet && self.lanes.iter().all(|lane| !lane.ended.load(Ordering::Acquire)) {
            let mut count = [0; 8];
            let _ = rustix::io::read(&self.done.eventfd, &mut count); // interrupted: the caller looks and comes back
        }
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// An eventfd that is signalled when something has completed.
    pub fn signal(&self) -> io::Result<OwnedFd> {
        self.done.eventfd.try_clone()
    }
}

/// Waits for what is in flight, as the ring does.
impl Drop for DiskThreads {
    fn drop(&mut self) {
        for lane in &mut self.lanes {
            while !lane.waiting.is_empty() && !lane.ended.load(Ordering::Acquire) {
                lane.push();
                std::thread::sleep(FULL_QUEUE_PAUSE);
            }
            lane.close();
        }
        for thread in self.lanes.iter_mut().filter_map(|lane| lane.thread.take()) {
            let _ = thread.join(); // it has said on standard error what went wrong
        }
    }
}

fn way_back() -> io::Result<Arc<Done>> {
    Ok(Arc::new(Done { events: Mutex::new(Vec::new()), eventfd: eventfd()? }))
}

/// A ring's life on its own thread.
fn drive(ring: &mut Ring, operations: &Receiver<DiskOp>, done: &Done) {
    let (mut ops, mut events) = (Vec::new(), Vec::new());
    loop {
        let closed = loop {
            match operations.try_recv() {
                Ok(op) => ops.push(op),
                Err(TryRecvError::Empty) => break false,
                Err(TryRecvError::Disconnected) => break true,
            }
        };
        ring.submit(&mut ops);
        if ring.completions(&mut events) > 0 {
            done.push(&mut events);
        } else if closed && ring.in_flight() == 0 {
            return;
        } else {
            ring.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Access, Action, Buffer, FileId, Ids, WriteSync};

    fn both(test: impl Fn(DiskThreads)) {
        test(DiskThreads::syscalls(&[]).unwrap());
        test(DiskThreads::ring(&[]).unwrap());
    }

    fn run(threads: &mut DiskThreads, mut ops: Vec<DiskOp>) -> Vec<DiskEvent> {
        let count = ops.len();
        threads.submit(&mut ops);
        let mut events = Vec::new();
        while events.len() < count {
            threads.wait();
            threads.completions(&mut events).unwrap();
        }
        events.sort_by_key(|event| event.id.serial);
        events
    }

    #[test]
    fn more_than_fits_the_queue_is_done_in_its_order() {
        both(|mut threads| {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("a");
            let mut ids = Ids::default();
            let file = ids.file();
            let open = Action::Open { file, path: path.clone(), access: Access::Create, direct: false };
            let opened = run(&mut threads, vec![DiskOp { id: ids.operation(Owner::LogFile), action: open }]);
            assert!(opened[0].result.is_ok(), "{opened:?}");
            let blocks = 5 * QUEUE_OPERATIONS;
            let writes = (0..blocks).map(|block| {
                let mut buffer = Buffer::with_capacity(4096);
                buffer.extend_from_slice(&[block as u8; 4096]);
                let sync = [WriteSync::None, WriteSync::Linked, WriteSync::Dsync][block % 3];
                let action = Action::Write { file, offset: block as u64 * 4096, buffer, sync };
                DiskOp { id: ids.operation(Owner::LogWrite), action }
            });
            let events = run(&mut threads, writes.collect());
            assert!(events.iter().all(|event| matches!(event.result, Ok(4096)) && event.buffer.is_some()));
            assert_eq!(threads.in_flight(), 0);
            drop(threads);
            let bytes = std::fs::read(path).unwrap();
            assert_eq!(bytes.len(), blocks * 4096);
            assert!(bytes.chunks(4096).enumerate().all(|(block, bytes)| bytes.iter().all(|byte| *byte == block as u8)));
        });
    }

    #[test]
    fn dropping_the_threads_waits_for_what_is_in_flight() {
        both(|mut threads| {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("a");
            let mut ids = Ids::default();
            let file = ids.file();
            let open = Action::Open { file, path: path.clone(), access: Access::Create, direct: false };
            run(&mut threads, vec![DiskOp { id: ids.operation(Owner::LogFile), action: open }]);
            let mut ops: Vec<_> = (0..200)
                .map(|block| DiskOp {
                    id: ids.operation(Owner::LogWrite),
                    action: Action::WriteZeroes { file, offset: block * 4096, bytes: 4096 },
                })
                .collect();
            threads.submit(&mut ops);
            drop(threads);
            assert_eq!(std::fs::metadata(path).unwrap().len(), 200 * 4096);
        });
    }

    #[test]
    fn the_end_of_a_thread_is_told() {
        both(|mut threads| {
            let mut ids = Ids::default();
            let nobodys = Action::SyncData { file: FileId(99) };
            threads.submit(&mut vec![DiskOp { id: ids.operation(Owner::LogFlush), action: nobodys }]);
            let mut events = Vec::new();
            let ended = loop {
                threads.wait();
                if let Err(ended) = threads.completions(&mut events) {
                    break ended;
                }
            };
            assert_eq!(ended.thread, "rk-log");
            assert!(events.is_empty());
        });
    }
}
