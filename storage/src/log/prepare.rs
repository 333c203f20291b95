//! Making the next segment, in the background, one ahead: so that a commit only ever writes blocks that were written before.
//!
//!   new:        open .tmp -> allocate -> zero fill, a piece at a time -> header and mark -> flush -> rename -> directory flush
//!   recycled:   rename .seg to .tmp -> directory flush -> open        -> header and mark -> flush -> rename -> directory flush
//!   grown:                   allocate -> zero fill, a piece at a time                    -> flush
//!       any step fails (disk full): close, delete the partial file, report; tried again when the caller says so
//!
//! A recycled segment first loses its old name for good, then gets a new header, then its new name: at no moment does a name
//! of the log stand over another life's header, whatever order a power failure keeps things in. What it holds behind the
//! header stays: it names the former segment, and what a client may have made it say instead does not know the log's id, so
//! nobody takes it for ours; and its blocks are already written.
//!
//! One operation is under way at any time, at the lowest weight a disk can be given from here: small pieces, one by one.
//! A ready segment that is too small for one huge batch is grown from its end.

use std::io;
use std::path::PathBuf;

use super::batch::Durable;
use super::segment::{FIRST_BATCH_AT, LogId, Mark, SegmentId, SegmentKind, encode_start};
use crate::disk::{Access, Action, DiskEvent, DiskOp, FileId, Ids, OpId, Owner, WriteSync};
use crate::error::LogError;

/// Zeroes written at once. A commit may wait behind one of these in the device's queue.
const PIECE_BYTES: u64 = 256 << 10;

/// A segment with its name and all of its blocks, open for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepared {
    pub id: SegmentId,
    pub file: FileId,
    pub capacity: u64,
    pub mark: u64,
}

#[derive(Debug)]
pub enum Outcome {
    /// From nothing, or grown.
    Ready(Prepared),
    /// From an older segment.
    Recycled(Prepared),
    /// The partial file is gone again.
    Failed(LogError),
    /// Still ready, still as small as before.
    GrowFailed(Prepared, LogError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The old name of a recycled segment.
    TakeName,
    FlushTaken,
    Open,
    Allocate,
    Fill {
        at: u64,
    },
    Start,
    Sync,
    Rename,
    SyncDirectory,
    /// After a failure.
    Close,
    Unlink,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    New(SegmentKind),
    Recycled(SegmentId),
    Grown,
}

#[derive(Debug)]
struct Task {
    id: SegmentId,
    file: FileId,
    origin: Origin,
    /// Blocks before this are written already.
    from: u64,
    capacity: u64,
    mark: u64,
    step: Step,
    under_way: Option<OpId>,
    error: Option<LogError>,
}

/// Prepares one segment at a time.
#[derive(Debug)]
pub struct Preparer {
    directory: PathBuf,
    log: LogId,
    direct: bool,
    /// How far a new segment's mark is ahead.
    mark_bytes: u64,
    task: Option<Task>,
}

impl Preparer {
    pub fn new(directory: PathBuf, log: LogId, direct: bool, mark_bytes: u64) -> Preparer {
        Preparer { directory, log, direct, mark_bytes, task: None }
    }

    pub fn is_busy(&self) -> bool {
        self.task.is_some()
    }

    pub fn is_waiting(&self) -> bool {
        self.task.as_ref().is_some_and(|task| task.under_way.is_some())
    }

    pub fn start(&mut self, id: SegmentId, kind: SegmentKind, capacity: u64, ids: &mut Ids) {
        let prepared = Prepared { id, file: ids.file(), capacity, mark: self.first_mark(capacity) };
        self.begin(Origin::New(kind), Step::Open, 0, prepared);
    }

    /// Turns a segment that nobody needs any more into the one with this number.
    pub fn recycle(&mut self, former: SegmentId, id: SegmentId, capacity: u64, ids: &mut Ids) {
        assert!(former < id, "a number is never used twice");
        let prepared = Prepared { id, file: ids.file(), capacity, mark: self.first_mark(capacity) };
        self.begin(Origin::Recycled(former), Step::TakeName, capacity, prepared);
    }

    pub fn grow(&mut self, segment: Prepared, capacity: u64) {
        assert!(capacity > segment.capacity, "only upwards");
        self.begin(Origin::Grown, Step::Allocate, segment.capacity, Prepared { capacity, ..segment });
    }

    fn first_mark(&self, capacity: u64) -> u64 {
        capacity.min(FIRST_BATCH_AT + self.mark_bytes)
    }

    fn begin(&mut self, origin: Origin, step: Step, from: u64, Prepared { id, file, capacity, mark }: Prepared) {
        assert!(self.task.is_none(), "one segment at a time");
        self.task = Some(Task { id, file, origin, from, capacity, mark, step, under_way: None, error: None });
    }

    pub fn poll(&mut self, ids: &mut Ids, ops: &mut Vec<DiskOp>) {
        let Some(task) = self.task.as_mut().filter(|task| task.under_way.is_none()) else {
            return;
        };
        let file = task.file;
        let unfinished = task.id.unfinished_path(&self.directory);
        let action = match task.step {
            Step::TakeName => {
                let Origin::Recycled(former) = task.origin else { unreachable!("only a recycled one has an old name") };
                Action::Rename { from: former.path(&self.directory), to: unfinished }
            }
            Step::Open => {
                let access = if let Origin::New(_) = task.origin { Access::Create } else { Access::Write };
                Action::Open { file, path: unfinished, access, direct: self.direct }
            }
            Step::Allocate => Action::Allocate { file, offset: task.from, bytes: task.capacity - task.from },
            Step::Fill { at } => Action::WriteZeroes { file, offset: at, bytes: PIECE_BYTES.min(task.capacity - at) },
            Step::Start => {
                let mark = Mark { written_below: task.mark, durable: Durable::default() };
                let kind = if let Origin::New(kind) = task.origin { kind } else { SegmentKind::Next };
                let buffer = encode_start(self.log, task.id, kind, mark);
                Action::Write { file, offset: 0, buffer, sync: WriteSync::None }
            }
            Step::Sync => Action::Sync { file },
            Step::Rename => Action::Rename { from: unfinished, to: task.id.path(&self.directory) },
            Step::FlushTaken | Step::SyncDirectory => Action::SyncDirectory { path: self.directory.clone() },
            Step::Close => Action::Close { file },
            Step::Unlink => Action::Unlink { path: unfinished },
        };
        let id = ids.operation(Owner::Prepare);
        task.under_way = Some(id);
        ops.push(DiskOp { id, action });
    }

    pub fn on_event(&mut self, event: DiskEvent) -> Option<Outcome> {
        let task = self.task.as_mut().expect("an answer to a question");
        assert_eq!(task.under_way.take(), Some(event.id), "an answer to this question");
        let wanted_bytes = match task.step {
            Step::Fill { at } => PIECE_BYTES.min(task.capacity - at),
            Step::Start => FIRST_BATCH_AT,
            _ => 0,
        };
        let result = match event.result {
            Ok(bytes) if bytes < wanted_bytes => Err(io::Error::from(io::ErrorKind::WriteZero)),
            other => other,
        };
        let growing = task.origin == Origin::Grown;
        if let Err(source) = result {
            return match task.step {
                Step::Close => {
                    task.step = Step::Unlink;
                    None
                }
                Step::Unlink => self.end_failed(),
                step => {
                    let file = task.id.file_name();
                    let wanted_bytes = task.capacity - task.from;
                    task.error = Some(match task.origin {
                        Origin::Recycled(_) => LogError::NotRecycled { file, source },
                        _ => LogError::Full { file, wanted_bytes, source },
                    });
                    if growing || step == Step::TakeName {
                        return self.end_failed();
                    }
                    task.step = if matches!(step, Step::FlushTaken | Step::Open) { Step::Unlink } else { Step::Close };
                    None
                }
            };
        }
        task.step = match task.step {
            Step::TakeName => Step::FlushTaken,
            Step::FlushTaken => Step::Open,
            Step::Open if matches!(task.origin, Origin::Recycled(_)) => Step::Start,
            Step::Open => Step::Allocate,
            Step::Allocate => Step::Fill { at: task.from },
            Step::Fill { at } if at + wanted_bytes < task.capacity => Step::Fill { at: at + wanted_bytes },
            Step::Fill { .. } if growing => Step::Sync,
            Step::Fill { .. } => Step::Start,
            Step::Start => Step::Sync,
            Step::Sync if !growing => Step::Rename,
            Step::Rename => Step::SyncDirectory,
            Step::Sync | Step::SyncDirectory => {
                let Task { id, file, capacity, mark, origin, .. } = self.task.take().expect("checked above");
                let prepared = Prepared { id, file, capacity, mark };
                return Some(match origin {
                    Origin::Recycled(_) => Outcome::Recycled(prepared),
                    Origin::New(_) | Origin::Grown => Outcome::Ready(prepared),
                });
            }
            Step::Close => Step::Unlink,
            Step::Unlink => return self.end_failed(),
        };
        None
    }

    fn end_failed(&mut self) -> Option<Outcome> {
        let task = self.task.take().expect("a failed task");
        let error = task.error.expect("a failure has a cause");
        Some(match task.origin {
            Origin::Grown => {
                let Task { id, file, from: capacity, mark, .. } = task;
                Outcome::GrowFailed(Prepared { id, file, capacity, mark }, error)
            }
            _ => Outcome::Failed(error),
        })
    }
}
