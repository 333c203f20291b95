//! Who performs the operations of a store in service: a ring of this thread, a ring of another, or plain system calls.
//!
//! All of them take operations without blocking, signal an eventfd when something has completed, and say on request since
//! when the oldest write of the log is waiting for its answer: a disk that hangs answers nothing, so somebody has to look.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::threads::{DiskThreadEnded, DiskThreads};
use super::uring::{Ring, RingUnavailable};
use crate::disk::{DiskEvent, DiskOp, OpId, Owner};

/// Where the disk's operations are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriverKind {
    /// A ring on the thread that uses it.
    #[default]
    RingInline,
    /// A ring on a thread of its own.
    RingThread,
    /// Plain system calls, on threads of their own.
    Syscalls,
}

impl DriverKind {
    pub const ALL: [DriverKind; 3] = [DriverKind::RingInline, DriverKind::RingThread, DriverKind::Syscalls];

    /// For the start of a server.
    pub fn describe(self) -> &'static str {
        match self {
            DriverKind::RingInline => "io_uring",
            DriverKind::RingThread => "io_uring on a thread of its own",
            DriverKind::Syscalls => "system calls on threads of their own",
        }
    }

    /// The thread that writes the log, where it is not the one that uses it.
    pub fn thread_name(self) -> Option<&'static str> {
        (self != DriverKind::RingInline).then_some("rk-log")
    }
}

#[derive(Debug, thiserror::Error)]
pub enum DriverUnavailable {
    #[error(transparent)]
    Ring(#[from] RingUnavailable),
    #[error("no threads for the disk: {0}; raise the limit on processes: ulimit -u, TasksMax= of the systemd unit")]
    Threads(#[from] io::Error),
}

#[derive(Debug)]
enum How {
    Inline(Box<Ring>),
    Threads(DiskThreads),
}

/// Used from one executor, where it was made.
#[derive(Debug)]
pub struct DiskDriver {
    how: How,
    /// What the log waits for: few, and the oldest first.
    log_operations: Vec<(OpId, Instant)>,
}

impl DiskDriver {
    /// `cpus`: where threads of its own may run; empty: where the caller may.
    pub fn new(kind: DriverKind, cpus: &[usize]) -> Result<DiskDriver, DriverUnavailable> {
        let how = match kind {
            DriverKind::RingInline => How::Inline(Box::new(Ring::new()?)),
            DriverKind::RingThread => How::Threads(DiskThreads::ring(cpus)?),
            DriverKind::Syscalls => How::Threads(DiskThreads::syscalls(cpus)?),
        };
        Ok(DiskDriver { how, log_operations: Vec::new() })
    }

    /// Takes every operation and starts it.
    pub fn submit(&mut self, ops: &mut Vec<DiskOp>) {
        if ops.is_empty() {
            return;
        }
        let now = Instant::now();
        let log_writes = ops.iter().filter(|op| is_of_the_log(op.id)).map(|op| (op.id, now));
        self.log_operations.extend(log_writes);
        match &mut self.how {
            How::Inline(ring) => ring.submit(ops),
            How::Threads(threads) => threads.submit(ops),
        }
    }

    /// What has completed, without waiting. Returns how many.
    pub fn completions(&mut self, out: &mut Vec<DiskEvent>) -> Result<usize, DiskThreadEnded> {
        let before = out.len();
        let count = match &mut self.how {
            How::Inline(ring) => ring.completions(out),
            How::Threads(threads) => threads.completions(out)?,
        };
        for event in out[before..].iter().filter(|event| is_of_the_log(event.id)) {
            self.log_operations.retain(|(id, _)| *id != event.id);
        }
        Ok(count)
    }

    /// Blocks the thread until something has completed; returns at once when nothing is in flight.
    pub fn wait(&mut self) {
        match &mut self.how {
            How::Inline(ring) => ring.wait(),
            How::Threads(threads) => threads.wait(),
        }
    }

    pub fn in_flight(&self) -> usize {
        match &self.how {
            How::Inline(ring) => ring.in_flight(),
            How::Threads(threads) => threads.in_flight(),
        }
    }

    /// An eventfd that is signalled when something has completed. It is the caller's to wait for, and need not be read.
    ///
    /// # Errors
    ///
    /// When there are no descriptors left.
    pub fn signal(&self) -> io::Result<OwnedFd> {
        match &self.how {
            How::Inline(ring) => ring.signal(),
            How::Threads(threads) => threads.signal(),
        }
    }

    /// For how long the oldest write or flush of the log has had no answer.
    pub fn log_waits_for(&self) -> Option<Duration> {
        self.log_operations.first().map(|(_, since)| since.elapsed())
    }
}

fn is_of_the_log(id: OpId) -> bool {
    matches!(id.owner, Owner::LogWrite | Owner::LogFlush)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Access, Action, Buffer, Ids, WriteSync};

    #[test]
    fn every_driver_knows_since_when_the_log_waits() {
        for kind in DriverKind::ALL {
            let directory = tempfile::tempdir().unwrap();
            let mut driver = DiskDriver::new(kind, &[]).unwrap();
            let (mut ids, mut events) = (Ids::default(), Vec::new());
            let file = ids.file();
            let open = Action::Open { file, path: directory.path().join("a"), access: Access::Create, direct: false };
            driver.submit(&mut vec![DiskOp { id: ids.operation(Owner::LogFile), action: open }]);
            assert_eq!(driver.log_waits_for(), None, "not for files");
            while driver.in_flight() > 0 {
                driver.wait();
                driver.completions(&mut events).unwrap();
            }
            let mut buffer = Buffer::with_capacity(4096);
            buffer.resize(4096);
            let action = Action::Write { file, offset: 0, buffer, sync: WriteSync::Dsync };
            driver.submit(&mut vec![DiskOp { id: ids.operation(Owner::LogWrite), action }]);
            assert!(driver.log_waits_for().is_some(), "{kind:?}: until the answer is taken");
            while driver.in_flight() > 0 {
                driver.wait();
                driver.completions(&mut events).unwrap();
            }
            assert_eq!((driver.log_waits_for(), events.len()), (None, 2), "{kind:?}");
        }
    }
}
