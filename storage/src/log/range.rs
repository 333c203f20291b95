//! Reading what was committed, from one zxid to another, while the writer goes on: what a leader sends as a DIFF from disk.
//!
//!   Opening -> Reading -> Held by the caller -> Reading -> ... -> Closing -> the next segment: Opening -> ... -> ended
//!
//! A window of whole batches is read, checked as recovery checks it (checksum, place, chain), and handed out; the caller gives
//! it back when it wants the next one. So a range costs the memory of one window however long it is, and goes at the pace of
//! whoever takes it. It ends at what was stable when it began; where it begins is known to the MiB from the books of the log.
//!
//! While a range is read, neither its segment nor a later one is purged or recycled. Not here, on purpose: what is committed
//! (the core's), whether a DIFF is the right answer (the leader's).

use std::io;
use std::ops::Range;
use std::path::PathBuf;

use super::batch::{Batch, BatchHeader};
use super::segment::{FIRST_BATCH_AT, LogId, SegmentId};
use super::span::Place;
use crate::Zxid;
use crate::disk::{Access, Action, BLOCK_BYTES, Buffer, DiskEvent, DiskOp, FileId, Ids, OpId, Owner};
use crate::error::{Damage, LogError};
use crate::event::StoreEvent;

/// Read at once; more only for one batch that is larger.
const WINDOW_BYTES: u64 = 1 << 20;

/// Names a range between the store and whoever reads it. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RangeId(u64);

/// A piece of the log.
#[derive(Debug)]
pub struct LogWindow {
    buffer: Buffer,
    /// Where in the buffer the batches lie, and what segment and byte they come from.
    batches: Vec<(Range<usize>, u64)>,
    log: LogId,
    segment: SegmentId,
    after: Zxid,
    through: Zxid,
    predecessor: Zxid,
}

impl LogWindow {
    /// What the log holds right before the first record here. In a range's first window: whether the log knows the very zxid
    /// that was asked for, or only an older one.
    pub fn predecessor(&self) -> Zxid {
        self.predecessor
    }

    /// In the order of the log.
    pub fn records(&self) -> impl Iterator<Item = (Zxid, &[u8])> {
        let batches = self.batches.iter().map(|(place, at)| {
            let batch = Batch::decode(&self.buffer[place.clone()], self.log, self.segment, *at);
            batch.expect("a batch that was checked when it was read")
        });
        batches.flat_map(|batch| batch.records()).filter(|(zxid, _)| *zxid > self.after && *zxid <= self.through)
    }
}

#[derive(Debug)]
enum Step {
    Open,
    Read {
        bytes: u64,
    },
    /// The caller has the window.
    Held,
    /// Then the next segment, or the end.
    Close,
}

#[derive(Debug)]
struct Reader {
    id: RangeId,
    log: LogId,
    after: Zxid,
    through: Zxid,
    segment: SegmentId,
    /// The next batch is expected here, and follows this.
    place: Place,
    file: FileId,
    step: Step,
    under_way: Option<OpId>,
    /// Said it was a batch and was not: damage, or the end of its segment and what a client made a former life leave there.
    /// Whether the next segment goes on with the chain tells.
    doubt: Option<(SegmentId, u64, Damage)>,
    /// Free for the next window.
    buffer: Option<Buffer>,
    ended: Option<Result<Zxid, LogError>>,
    /// Nobody listens any more.
    given_up: bool,
}

/// All ranges that are being read.
#[derive(Debug)]
pub struct Ranges {
    directory: PathBuf,
    log: LogId,
    direct: bool,
    begun: u64,
    readers: Vec<Reader>,
}

impl Ranges {
    pub fn new(directory: PathBuf, log: LogId, direct: bool) -> Ranges {
        Ranges { directory, log, direct, begun: 0, readers: Vec::new() }
    }

    /// The records above `after`, as far as `through`, which are stable; `segment` and `place` are where to begin.
    pub fn begin(
        &mut self,
        after: Zxid,
        through: Zxid,
        (segment, place): (SegmentId, Place),
        ids: &mut Ids,
    ) -> RangeId {
        assert!(place.link.zxid <= after, "a range begins before its first record");
        self.begun += 1;
        let id = RangeId(self.begun);
        let file = ids.file();
        let reader = Reader {
            id,
            log: self.log,
            after,
            through,
            segment,
            place,
            file,
            step: Step::Open,
            under_way: None,
            doubt: None,
            buffer: None,
            ended: None,
            given_up: false,
        };
        self.readers.push(reader);
        id
    }

    /// The window is done with; the next, please.
    pub fn go_on(&mut self, id: RangeId, window: LogWindow) {
        // A range that has ended meanwhile has no use for it.
        if let Some(reader) = self.readers.iter_mut().find(|reader| reader.id == id && reader.ended.is_none()) {
            assert!(matches!(reader.step, Step::Held), "one window at a time");
            reader.buffer = Some(window.buffer);
            reader.step = reader.next_step();
        }
    }

    /// Whoever read it is gone. No event follows.
    pub fn give_up(&mut self, id: RangeId) {
        if let Some(reader) = self.readers.iter_mut().find(|reader| reader.id == id) {
            reader.given_up = true;
            reader.ended = Some(Ok(reader.place.link.zxid));
            if reader.under_way.is_none() {
                reader.close_if_given_up();
            }
        }
    }

    /// The oldest segment that must stay as it is.
    pub fn pinned(&self) -> Option<SegmentId> {
        self.readers.iter().map(|reader| reader.segment).min()
    }

    pub fn is_idle(&self) -> bool {
        self.readers.iter().all(|reader| reader.under_way.is_none() && matches!(reader.step, Step::Held))
    }

    pub fn poll(&mut self, ids: &mut Ids, ops: &mut Vec<DiskOp>) {
        for reader in self.readers.iter_mut().filter(|reader| reader.under_way.is_none()) {
            let action = match reader.step {
                Step::Open => {
                    let path = reader.segment.path(&self.directory);
                    Action::Open { file: reader.file, path, access: Access::Read, direct: self.direct }
                }
                Step::Read { bytes } => {
                    let mut buffer = reader.buffer.take().unwrap_or_else(|| Buffer::with_capacity(bytes as usize));
                    buffer.resize(bytes as usize);
                    Action::Read { file: reader.file, offset: reader.place.at, buffer }
                }
                Step::Held => continue,
                Step::Close => Action::Close { file: reader.file },
            };
            let id = ids.operation(Owner::LogRange);
            reader.under_way = Some(id);
            ops.push(DiskOp { id, action });
        }
    }

    pub fn on_event(&mut self, event: DiskEvent, ids: &mut Ids, out: &mut Vec<StoreEvent>) {
        let asked = |reader: &Reader| reader.under_way == Some(event.id);
        let index = self.readers.iter().position(asked).expect("an answer to a question");
        let reader = &mut self.readers[index];
        reader.under_way = None;
        match (&reader.step, event.result) {
            (Step::Open, Ok(_)) => reader.step = reader.next_step(),
            // Nothing to close.
            (Step::Open, Err(source)) => {
                match reader.doubt {
                    Some((.., why)) if source.kind() == io::ErrorKind::NotFound => reader.damaged(why),
                    _ => reader.fail(LogError::Unreadable { file: reader.segment.file_name(), source }),
                }
                self.end(index, out);
            }
            (Step::Read { .. }, Ok(_)) => {
                let buffer = event.buffer.expect("a read brings its buffer back");
                let window = reader.take(buffer);
                if !reader.given_up && !window.batches.is_empty() {
                    let range = reader.id;
                    out.push(StoreEvent::RangeRead { range, window });
                } else {
                    reader.buffer = Some(window.buffer);
                }
            }
            (Step::Read { .. }, Err(source)) => {
                reader.fail(LogError::Unreadable { file: reader.segment.file_name(), source });
            }
            (Step::Held, _) => unreachable!("nothing is under way"),
            // A file that was only read has nothing to lose by a failing close.
            (Step::Close, _) if reader.ended.is_some() => self.end(index, out),
            (Step::Close, _) => {
                reader.segment = reader.segment.next();
                reader.place.at = FIRST_BATCH_AT;
                reader.file = ids.file();
                reader.step = Step::Open;
            }
        }
        // Where one has ended another may be now, with a question that is under way.
        if let Some(reader) = self.readers.get_mut(index).filter(|reader| reader.under_way.is_none()) {
            reader.close_if_given_up();
        }
    }

    fn end(&mut self, index: usize, out: &mut Vec<StoreEvent>) {
        let reader = self.readers.swap_remove(index);
        if !reader.given_up {
            let result = reader.ended.expect("it has ended");
            out.push(StoreEvent::RangeEnded { range: reader.id, result });
        }
    }
}

impl Reader {
    fn next_step(&mut self) -> Step {
        if self.ended.is_none() && self.place.link.zxid >= self.through {
            self.ended = Some(Ok(self.through));
        }
        if self.ended.is_some() { Step::Close } else { Step::Read { bytes: WINDOW_BYTES } }
    }

    fn close_if_given_up(&mut self) {
        if self.given_up && matches!(self.step, Step::Held | Step::Read { .. }) {
            self.step = Step::Close;
        }
    }

    fn fail(&mut self, error: LogError) {
        self.ended.get_or_insert(Err(error));
        self.step = Step::Close;
    }

    fn damaged(&mut self, why: Damage) {
        let (segment, at, why) = self.doubt.unwrap_or((self.segment, self.place.at, why));
        let (file, last_good) = (segment.file_name(), self.place.link.zxid);
        self.fail(LogError::RangeDamaged { file, at, why, last_good });
    }

    /// Checks what was read, and decides what comes next.
    fn take(&mut self, buffer: Buffer) -> LogWindow {
        let (log, segment, after, through) = (self.log, self.segment, self.after, self.through);
        let mut window =
            LogWindow { buffer, batches: Vec::new(), log, segment, after, through, predecessor: self.place.link.zxid };
        let mut from = 0;
        loop {
            let Place { at, link } = self.place;
            if link.zxid >= through {
                break;
            }
            let bytes = &window.buffer[from..];
            if !BatchHeader::claims(bytes, segment, at) {
                if bytes.len() < BLOCK_BYTES && from > 0 {
                    break; // the window ends here; perhaps the segment does not
                }
                if at == FIRST_BATCH_AT {
                    self.damaged(Damage::NotNext);
                    return window;
                }
                self.step = if window.batches.is_empty() { Step::Close } else { Step::Held };
                return window;
            }
            let padded = match BatchHeader::padded_bytes(bytes) {
                Ok(padded) if padded as usize > bytes.len() && from > 0 => break,
                Ok(padded) if padded as usize > bytes.len() => {
                    self.read_larger(padded, &window);
                    return window;
                }
                Ok(padded) => padded as usize,
                Err(why) => {
                    self.damaged(why);
                    return window;
                }
            };
            match Batch::decode(&bytes[..padded], log, segment, at) {
                Ok(batch) if batch.follows(link) && batch.check_records().is_ok() => {
                    if batch.link_after().zxid > after {
                        if window.batches.is_empty() {
                            let known = batch.records().map(|(zxid, _)| zxid).filter(|zxid| *zxid <= after).last();
                            window.predecessor = known.unwrap_or(link.zxid);
                        }
                        window.batches.push((from..from + padded, at));
                    }
                    self.place = Place { at: at + padded as u64, link: batch.link_after() };
                    self.doubt = None;
                    from += padded;
                }
                Ok(_) => {
                    self.damaged(Damage::NotNext);
                    return window;
                }
                Err(why) => {
                    self.doubt(why, &window);
                    return window;
                }
            }
        }
        self.step = if window.batches.is_empty() { self.next_step() } else { Step::Held };
        window
    }

    /// A segment begins with a batch; behind one it may end.
    fn doubt(&mut self, why: Damage, window: &LogWindow) {
        if self.place.at == FIRST_BATCH_AT {
            return self.damaged(why);
        }
        self.doubt = Some((self.segment, self.place.at, why));
        self.step = if window.batches.is_empty() { Step::Close } else { Step::Held };
    }

    /// One batch is larger than a window, or says so: the file may end long before, so the window grows step by step.
    fn read_larger(&mut self, wanted: u64, window: &LogWindow) {
        match self.step {
            // The file ends before it does.
            Step::Read { bytes } if (window.buffer.len() as u64) < bytes => self.doubt(Damage::Length, window),
            _ => self.step = Step::Read { bytes: wanted.min(4 * window.buffer.len() as u64) },
        }
    }
}
