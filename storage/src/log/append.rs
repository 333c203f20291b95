//! Writing the log: records in, durable zxids out.
//!
//!   append -> the open batch -> sealed when a slot is free -> in flight -> done -> acknowledged, strictly in order
//!
//! Group commit without windows: a free slot takes what is there at once; while all slots are busy the next batch collects.
//! With several slots a later batch may reach the disk first: it is acknowledged only after the earlier ones, and recovery
//! treats it as never written when an earlier one is missing.
//!
//! One failed or short write ends the log: nothing is retried, nothing later is acknowledged. A full disk is not that: it
//! is met while preparing the *next* segment, long before this one ends, and is reported as `LogRoom`.
//! Java: `SyncRequestProcessor`, `FileTxnLog.append`/`commit`.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use super::batch::{Durable, HEADER_BYTES, Link, OpenBatch};
use super::prepare::{Outcome, Prepared, Preparer};
use super::recycle::Released;
use super::segment::{FIRST_BATCH_AT, LogId, MARK_AT, Mark, SegmentId, SegmentKind, encode_mark};
use super::span::{self, Place, Span};
use super::sync_strategy::{Failure, Flights, LogStrategy};
use crate::Zxid;
use crate::config::StoreConfig;
use crate::disk::{Access, Action, BLOCK_BYTES, Buffer, DiskEvent, DiskOp, FileId, Ids, OpId, Owner, WriteSync};
use crate::error::LogError;
use crate::event::{LogRoom, StoreEvent, StoreStats};
use crate::probe;

/// A segment that was prepared and not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Empty {
    pub id: SegmentId,
    pub capacity: u64,
    pub mark: u64,
}

/// Where writing goes on, as recovery left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogStart {
    pub log: LogId,
    pub current: SegmentId,
    pub capacity: u64,
    /// The next batch goes here; from here on nothing in the segment passes for a batch of it.
    pub at: u64,
    /// Below this the segment's mark lets batches go; 0 when the mark has to be written anew.
    pub mark: u64,
    /// What the mark vouches for.
    pub vouched: Durable,
    pub link: Link,
    pub ready: Vec<Empty>,
    /// Every segment that holds batches, `current` last.
    pub spans: Vec<Span>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handle {
    Closed,
    Opening(FileId, OpId),
    Open(FileId),
    /// Could not be opened; tried again on `retry`.
    Refused,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    id: SegmentId,
    capacity: u64,
    /// No batch may reach beyond this yet.
    mark: u64,
    handle: Handle,
}

/// What is on its way to the disk.
#[derive(Clone, Copy, Debug)]
enum Load {
    Batch {
        link: Link,
        records: u32,
    },
    /// Of the current segment, raised to this.
    Mark {
        raised: u64,
    },
}

#[derive(Debug)]
pub struct LogWriter {
    directory: PathBuf,
    log: LogId,
    strategy: LogStrategy,
    direct: bool,
    segment_bytes: u64,
    batch_bytes_max: usize,
    slots: usize,
    reserve_bytes: u64,
    mark_bytes: u64,

    current: Segment,
    at: u64,
    /// The mark of the current segment is being written.
    marking: bool,
    /// What it vouches for once it is.
    vouched: Durable,
    /// The mark is to vouch for all that is proven: the log is at rest, or about to end.
    vouch_wanted: bool,
    ending: bool,
    ready: VecDeque<Segment>,
    preparer: Preparer,
    /// The disk refused the next segment; wait for `retry`.
    prepare_refused: bool,
    /// It did, and has not given one since.
    short_of_space: bool,
    /// That was for want of room.
    disk_full: bool,
    /// Files of full segments with writes still in flight.
    retired: Vec<FileId>,
    closing: usize,
    released: Released,
    /// Go on in the next segment as soon as that costs nothing.
    roll_wanted: bool,
    /// A batch waits for a segment that is not ready.
    waiting: bool,
    /// Segments to have ready: one more once a batch had to wait.
    spares_wanted: usize,

    appended: Zxid,
    pending: VecDeque<OpenBatch>,
    pending_bytes: u64,
    sealed: Link,
    flights: Flights<Load>,
    batches_in_flight: usize,
    /// The last batch that was acknowledged.
    durable: Durable,
    /// The last that is on stable storage for certain: the same, unless the strategy never knows.
    proven: Durable,
    durable_segment: SegmentId,
    spare_buffers: Vec<Buffer>,
    spans: VecDeque<Span>,
    room: LogRoom,
    failed: bool,
    batches: u64,
    records: u64,
    record_bytes: u64,
    written_bytes: u64,
    segments_filled: u64,
    segments_recycled: u64,
    segments_refused: u64,
    rolls: u64,
    rolls_that_waited: u64,
}

/// A segment is prepared when the one before it is begun, so there is the time that 64 MiB take to fill: one ahead is enough.
/// A second one costs its length on the disk; it is worth that once a batch ever had to wait.
const SPARE_SEGMENTS_MAX: usize = 2;

impl LogWriter {
    pub fn new(config: &StoreConfig, directory: PathBuf, direct: bool, start: LogStart) -> LogWriter {
        let closed = |Empty { id, capacity, mark }| Segment { id, capacity, mark, handle: Handle::Closed };
        let current = Empty { id: start.current, capacity: start.capacity, mark: start.mark };
        let spare_buffers = (0..=config.batches_in_flight).map(|_| {
            let mut buffer = Buffer::with_capacity(config.batch_bytes_max);
            buffer.reused = true;
            buffer
        });
        let strategy = config.strategy;
        let direct = direct && strategy.wants_direct_io();
        let durable = Durable { sequence: start.link.sequence, zxid: start.link.zxid };
        LogWriter {
            preparer: Preparer::new(directory.clone(), start.log, direct, config.mark_bytes),
            directory,
            log: start.log,
            strategy,
            direct,
            segment_bytes: config.segment_bytes,
            batch_bytes_max: config.batch_bytes_max,
            slots: config.batches_in_flight,
            reserve_bytes: config.reserve_bytes,
            mark_bytes: config.mark_bytes,
            current: closed(current),
            at: start.at,
            marking: false,
            vouched: start.vouched,
            vouch_wanted: false,
            ending: false,
            ready: start.ready.into_iter().map(closed).collect(),
            prepare_refused: false,
            short_of_space: false,
            disk_full: false,
            retired: Vec::new(),
            closing: 0,
            released: Released::new(config.segment_bytes),
            roll_wanted: false,
            waiting: false,
            spares_wanted: 1,
            appended: start.link.zxid,
            pending: VecDeque::new(),
            pending_bytes: 0,
            sealed: start.link,
            flights: Flights::new(strategy),
            batches_in_flight: 0,
            durable,
            proven: durable,
            durable_segment: start.current,
            spare_buffers: spare_buffers.collect(),
            spans: start.spans.into(),
            room: LogRoom::Ample,
            failed: false,
            batches: 0,
            records: 0,
            record_bytes: 0,
            written_bytes: 0,
            segments_filled: 0,
            segments_recycled: 0,
            segments_refused: 0,
            rolls: 0,
            rolls_that_waited: 0,
        }
    }

    /// The last batch that was acknowledged.
    pub fn durable(&self) -> Durable {
        self.durable
    }

    /// What a later start may take for proof: without it in the log something was lost that must not be.
    pub fn proven(&self) -> Durable {
        self.proven
    }

    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// # Panics
    /// When zxids do not increase: the log would not be one history.
    pub fn append(&mut self, zxid: Zxid, record: &[u8]) {
        assert!(zxid > self.appended, "{zxid} appended after {}", self.appended);
        self.appended = zxid;
        let cost = OpenBatch::cost_bytes(record.len());
        let fits = self.pending.back().is_some_and(|batch| batch.filled_bytes() + cost <= self.batch_bytes_max);
        if !fits {
            let wanted = HEADER_BYTES + cost;
            let spare = if wanted <= self.batch_bytes_max { self.spare_buffers.pop() } else { None };
            let buffer = spare.unwrap_or_else(|| Buffer::with_capacity(wanted.max(self.batch_bytes_max)));
            self.pending.push_back(OpenBatch::new(buffer));
        }
        let batch = self.pending.back_mut().expect("pushed above");
        let before = if fits { batch.padded_bytes() } else { 0 };
        batch.push(zxid, record);
        self.pending_bytes += batch.padded_bytes() - before;
        self.records += 1;
        self.record_bytes += record.len() as u64;
    }

    /// Takes as many batches to the disk as there are slots, and keeps the next segment coming.
    pub fn poll(&mut self, ids: &mut Ids, ops: &mut Vec<DiskOp>) {
        if self.failed {
            return;
        }
        self.open_closed(ids, ops);
        while self.batches_in_flight < self.slots && self.send_one(ids, ops) {}
        self.keep_mark_ahead(ids, ops);
        if let Some((id, file)) = self.flights.flush_due(|| ids.operation(Owner::LogFlush)) {
            ops.push(DiskOp { id, action: Action::SyncData { file } });
        }
        self.keep_next_coming(ids);
        self.preparer.poll(ids, ops);
        self.released.poll(&self.directory, ids, ops);
    }

    /// Nothing was appended for a while: a good moment to write down how far the log is stable, so that damage to its very
    /// last batches is never taken for a write that was cut off. Costs one small write, and only if there is news.
    pub fn vouch(&mut self) {
        self.vouch_wanted = true;
    }

    /// Nothing more will be appended. The log is idle when it has vouched for everything.
    pub fn end(&mut self) {
        self.ending = true;
    }

    /// All that was appended is proven and the mark does not say so.
    fn has_more_to_vouch_for(&self) -> bool {
        self.proven.sequence == self.sealed.sequence
            && self.proven.sequence > self.vouched.sequence
            && self.pending.is_empty()
    }

    /// Tries again what the disk refused.
    pub fn retry(&mut self) {
        self.prepare_refused = false;
        for segment in &mut self.ready {
            if segment.handle == Handle::Refused {
                segment.handle = Handle::Closed;
            }
        }
    }

    pub fn on_event(&mut self, event: DiskEvent, ids: &mut Ids, ops: &mut Vec<DiskOp>, out: &mut Vec<StoreEvent>) {
        match event.id.owner {
            Owner::LogWrite | Owner::LogFlush => self.on_written(event, ids, ops, out),
            Owner::Prepare => {
                if let Some(outcome) = self.preparer.on_event(event) {
                    self.on_prepared(outcome, ids, ops, out);
                }
            }
            Owner::LogDelete => self.released.on_event(event, out),
            _ => self.on_file_event(event, out),
        }
        let room = self.room_now();
        if room != self.room && !self.failed {
            self.room = room;
            out.push(StoreEvent::Room(room));
        }
        self.check_invariants();
    }

    /// Releases the segments that nobody needs who starts from `oldest_kept`, nor who reads from `pinned` on. They become
    /// spares or are deleted, in the background and in order.
    pub fn purge(&mut self, oldest_kept: Zxid, pinned: Option<SegmentId>) {
        // The segment of the last durable batch stays, and all after it: recovery must find where the chain hangs.
        let covers = |span: &Span| {
            let is_enough = |zxid| zxid <= oldest_kept || probe::broken("a segment is purged that a start still needs");
            span.begins_after().is_some_and(is_enough) && span.id <= self.durable_segment
        };
        let first_needed = self.spans.iter().rposition(covers).unwrap_or(0);
        let first_needed = self.spans.partition_point(|span| pinned.is_none_or(|id| span.id < id)).min(first_needed);
        self.released.add(self.spans.drain(..first_needed).map(|span| (span.id, span.bytes)), self.rolls);
        if self.disk_full {
            self.released.keep_none();
        }
    }

    /// Spares that purging left go, too: somebody else wants their room.
    pub fn give_up_spares(&mut self) {
        self.released.keep_none();
    }

    /// The disk has no room for the next segment.
    pub fn wants_room(&self) -> bool {
        self.disk_full
    }

    /// And that is its last word: nothing is asked of it, and nothing is being deleted.
    pub fn was_refused_room(&self) -> bool {
        let deleting = self.released.is_deleting() || self.released.has_more_to_delete();
        self.disk_full && self.prepare_refused && !self.preparer.is_busy() && !deleting
    }

    pub fn room(&self) -> LogRoom {
        self.room
    }

    /// The next batch begins a new segment, if one is ready for it by then. Not worth leaving more than half of one unused.
    pub fn roll_when_free(&mut self) {
        self.roll_wanted = self.at > self.current.capacity / 2;
    }

    /// Where the records above `zxid` begin, if the log still has them.
    pub fn find(&self, zxid: Zxid) -> Result<(SegmentId, Place), LogError> {
        let oldest = self.spans.iter().find_map(Span::begins_after);
        span::find(&self.spans, zxid).ok_or(LogError::NotCovered { wanted: zxid, oldest })
    }

    /// Past the page cache?
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// Nothing buffered and nothing in flight, no segment half made or half deleted (after a failure: nothing in flight).
    pub fn is_idle(&self) -> bool {
        let opening = |segment: &Segment| matches!(segment.handle, Handle::Opening(..));
        let files_at_rest = self.closing == 0 && !opening(&self.current) && !self.ready.iter().any(opening);
        let files_at_rest = files_at_rest && !self.preparer.is_waiting() && !self.released.is_deleting();
        let prepared = !self.preparer.is_busy() && !self.released.has_more_to_delete();
        let prepared = prepared && !(self.ending && self.has_more_to_vouch_for());
        self.flights.is_empty() && files_at_rest && (self.failed || (self.pending.is_empty() && prepared))
    }

    pub fn fill_stats(&self, stats: &mut StoreStats) {
        stats.log_bytes = self.spans.iter().map(|span| span.bytes).sum();
        stats.log_segments = self.spans.len();
        let (released, released_bytes) = self.released.count_and_bytes();
        stats.spare_segments = self.ready.len() + released;
        stats.spare_bytes = self.ready.iter().map(|segment| segment.capacity).sum::<u64>() + released_bytes;
        stats.segments_filled = self.segments_filled;
        stats.segments_recycled = self.segments_recycled;
        stats.segments_refused = self.segments_refused;
        stats.rolls = self.rolls;
        stats.rolls_that_waited = self.rolls_that_waited;
        stats.batches = self.batches;
        stats.records = self.records;
        stats.record_bytes = self.record_bytes;
        stats.written_bytes = self.written_bytes;
        stats.last_zxid = self.appended;
        stats.durable_zxid = self.durable.zxid;
    }

    /// Seals the oldest batch and sends it. False when there is none or it has no place to go yet.
    fn send_one(&mut self, ids: &mut Ids, ops: &mut Vec<DiskOp>) -> bool {
        let Some(bytes) = self.pending.front().map(OpenBatch::padded_bytes) else {
            return false;
        };
        let must_roll = self.at + bytes > self.current.capacity;
        let rolled = (must_roll || self.roll_wanted) && self.roll(bytes);
        if must_roll && !rolled {
            let large = FIRST_BATCH_AT + bytes > self.segment_bytes;
            self.waiting |= self.ready.is_empty() && !large && !self.short_of_space;
            return false;
        }
        let Handle::Open(file) = self.current.handle else {
            return false;
        };
        if self.at + bytes > self.current.mark {
            return false;
        }
        let batch = self.pending.pop_front().expect("looked at above");
        let records = batch.records();
        let (buffer, link) = batch.seal(self.log, self.current.id, self.at, self.sealed, self.proven);
        assert_eq!(buffer.len() as u64, bytes, "a sealed batch has the length that was planned for");
        let span = self.spans.back_mut().expect("the current segment");
        span.note(Place { at: self.at, link: self.sealed });
        let id = ids.operation(Owner::LogWrite);
        let sync = self.flights.send(id, file, self.current.id, bytes, Load::Batch { link, records });
        self.batches_in_flight += 1;
        let sync = if probe::broken("a batch is acknowledged before it is flushed") { WriteSync::None } else { sync };
        ops.push(DiskOp { id, action: Action::Write { file, offset: self.at, buffer, sync } });
        self.sealed = link;
        self.at += bytes;
        self.pending_bytes -= bytes;
        self.batches += 1;
        self.written_bytes += bytes;
        true
    }

    /// Goes on in the next segment when that is ready and large enough.
    fn roll(&mut self, bytes: u64) -> bool {
        let Some(next) = self.ready.front() else {
            return false;
        };
        let in_turn = next.id == self.current.id.next(); // not while the one between is being grown
        let large_enough = next.capacity >= FIRST_BATCH_AT + bytes;
        if self.marking {
            return false; // the file is still being written to
        }
        let (Handle::Open(file), Handle::Open(_), true) = (self.current.handle, next.handle, in_turn && large_enough)
        else {
            return false;
        };
        let next = self.ready.pop_front().expect("looked at above");
        self.current = next;
        self.retired.push(file);
        self.at = FIRST_BATCH_AT;
        self.spans.push_back(Span::new(next.id, next.capacity, self.sealed));
        self.rolls += 1;
        self.roll_wanted = false;
        self.vouched = Durable::default();
        if std::mem::take(&mut self.waiting) {
            self.rolls_that_waited += 1;
            self.spares_wanted = SPARE_SEGMENTS_MAX;
        }
        true
    }

    /// Raises the mark long before a batch needs it, so that none has to wait; writes it as it is to vouch for more.
    fn keep_mark_ahead(&mut self, ids: &mut Ids, ops: &mut Vec<DiskOp>) {
        let Segment { id: segment, capacity, mark, handle: Handle::Open(file) } = self.current else { return };
        let next_end = self.at + self.pending.front().map_or(0, OpenBatch::padded_bytes);
        let far_enough = mark >= capacity || next_end > capacity || mark >= next_end + self.mark_bytes / 2;
        let vouches = (std::mem::take(&mut self.vouch_wanted) || self.ending) && self.has_more_to_vouch_for();
        if self.marking || (far_enough && !vouches) {
            return;
        }
        let raised = if far_enough { mark } else { capacity.min(next_end + self.mark_bytes) };
        let id = ids.operation(Owner::LogWrite);
        (self.marking, self.vouched) = (true, self.proven);
        let buffer = encode_mark(self.log, segment, Mark { written_below: raised, durable: self.proven });
        let sync = self.flights.send_beside(id, file, segment, buffer.len() as u64, Load::Mark { raised });
        ops.push(DiskOp { id, action: Action::Write { file, offset: MARK_AT, buffer, sync } });
    }

    fn open_closed(&mut self, ids: &mut Ids, ops: &mut Vec<DiskOp>) {
        for segment in std::iter::once(&mut self.current).chain(self.ready.front_mut()) {
            if segment.handle == Handle::Closed {
                let (file, id) = (ids.file(), ids.operation(Owner::LogFile));
                segment.handle = Handle::Opening(file, id);
                let path = segment.id.path(&self.directory);
                let access = self.strategy.access();
                ops.push(DiskOp { id, action: Action::Open { file, path, access, direct: self.direct } });
            }
        }
    }

    /// Keeps enough segments ready: from those that purging released, or else from new ones.
    fn keep_next_coming(&mut self, ids: &mut Ids) {
        if self.prepare_refused || self.preparer.is_busy() {
            return;
        }
        let wanted = self.wanted_capacity();
        match self.ready.front().copied() {
            // One batch larger than a segment: the segment adapts.
            Some(Segment { id, capacity, mark, handle: Handle::Open(file) }) if capacity < wanted => {
                self.ready.pop_front();
                self.preparer.grow(Prepared { id, file, capacity, mark }, wanted);
                return;
            }
            _ if self.ready.len() >= self.spares_wanted => return,
            _ => {}
        }
        let id = self.ready.back().map_or(self.current.id, |last| last.id).next();
        let capacity = self.segment_bytes.max(wanted.next_multiple_of(BLOCK_BYTES as u64));
        match self.released.take(capacity) {
            Some(former) => self.preparer.recycle(former, id, capacity, ids),
            None => self.preparer.start(id, SegmentKind::Next, capacity, ids),
        }
    }

    /// What the next segment has to hold: the batch that has no room in this one.
    fn wanted_capacity(&self) -> u64 {
        let bytes = self.pending.front().map_or(0, OpenBatch::padded_bytes);
        if self.at + bytes > self.current.capacity { FIRST_BATCH_AT + bytes } else { 0 }
    }

    fn on_prepared(&mut self, outcome: Outcome, ids: &mut Ids, ops: &mut Vec<DiskOp>, out: &mut Vec<StoreEvent>) {
        let (prepared, error) = match outcome {
            Outcome::Ready(prepared) => {
                self.segments_filled += 1;
                (Some(prepared), None)
            }
            Outcome::Recycled(prepared) => {
                self.segments_recycled += 1;
                (Some(prepared), None)
            }
            Outcome::Failed(error) => (None, Some(error)),
            Outcome::GrowFailed(prepared, error) => (Some(prepared), Some(error)),
        };
        if let Some(Prepared { id, file, capacity, mark }) = prepared {
            let mut handle = Handle::Open(file);
            if self.strategy.access() != Access::Write {
                // It was filled without a flush for every piece; its batches want another kind of file.
                handle = Handle::Closed;
                self.closing += 1;
                ops.push(DiskOp { id: ids.operation(Owner::LogFile), action: Action::Close { file } });
            }
            let place = self.ready.partition_point(|segment| segment.id < id);
            self.ready.insert(place, Segment { id, capacity, mark, handle });
        }
        self.short_of_space = error.is_some();
        self.disk_full = error.as_ref().is_some_and(LogError::wants_room);
        if let Some(error) = error {
            self.prepare_refused = true;
            self.segments_refused += 1;
            out.push(StoreEvent::Trouble(format!(
                "{}: the next log segment could not be prepared, will try again: {error}",
                self.directory.display()
            )));
        }
    }

    /// The answer to a write or a flush of the log, and everything that may now be acknowledged.
    fn on_written(&mut self, event: DiskEvent, ids: &mut Ids, ops: &mut Vec<DiskOp>, out: &mut Vec<StoreEvent>) {
        if let Some(buffer) = event.buffer
            && buffer.reused
            && self.spare_buffers.len() <= self.slots
        {
            self.spare_buffers.push(buffer);
        }
        let answered = match event.id.owner {
            Owner::LogFlush => self.flights.flushed(event.id, event.result, event.elapsed_us),
            _ => self.flights.written(event.id, event.result, event.elapsed_us),
        };
        if let Err(Failure { segment, operation, source }) = answered {
            self.poison(segment, operation, source, out);
        }
        if self.failed {
            return;
        }
        let before = self.durable.zxid;
        while let Some(flight) = self.flights.take_stable() {
            let (batch_bytes, elapsed_us) = (flight.bytes, flight.elapsed_us);
            match flight.load {
                Load::Batch { link, records } => {
                    self.batches_in_flight -= 1;
                    self.durable = Durable { sequence: link.sequence, zxid: link.zxid };
                    self.durable_segment = flight.segment;
                    out.push(StoreEvent::Flushed { batch_bytes, records, elapsed_us });
                }
                Load::Mark { raised } => {
                    self.current.mark = raised;
                    self.marking = false;
                }
            }
        }
        if self.strategy.is_durable() {
            self.proven = self.durable;
        }
        if self.durable.zxid > before {
            out.push(StoreEvent::Durable(self.durable.zxid));
        }
        let flights = &self.flights;
        let closing = &mut self.closing;
        self.retired.retain(|file| {
            let busy = flights.concern(*file);
            if !busy {
                *closing += 1;
                ops.push(DiskOp { id: ids.operation(Owner::LogFile), action: Action::Close { file: *file } });
            }
            busy
        });
    }

    /// The answer to an open or a close.
    fn on_file_event(&mut self, event: DiskEvent, out: &mut Vec<StoreEvent>) {
        let asked = |segment: &&mut Segment| matches!(segment.handle, Handle::Opening(_, id) if id == event.id);
        let current = self.current.id;
        let Some(segment) = std::iter::once(&mut self.current).chain(&mut self.ready).find(asked) else {
            self.closing -= 1; // whatever a close says, every write to that file was answered long before
            return;
        };
        let Handle::Opening(file, _) = segment.handle else { unreachable!("asked for above") };
        let id = segment.id;
        match event.result {
            Ok(_) => segment.handle = Handle::Open(file),
            Err(source) if id == current => {
                segment.handle = Handle::Refused;
                self.poison(id, "open", source, out);
            }
            Err(error) => {
                segment.handle = Handle::Refused;
                let file = id.file_name();
                out.push(StoreEvent::Trouble(format!("{file}: could not be opened, will try again: {error}")));
            }
        }
    }

    fn poison(&mut self, segment: SegmentId, operation: &'static str, source: io::Error, out: &mut Vec<StoreEvent>) {
        self.fail(LogError::Poisoned { file: segment.file_name(), operation, source }, out);
    }

    /// Nothing more will ever be acknowledged.
    pub fn fail(&mut self, error: LogError, out: &mut Vec<StoreEvent>) {
        if !self.failed {
            self.failed = true;
            out.push(StoreEvent::Failed(error));
        }
    }

    /// What is left for writers. A next segment that is only not ready *yet* is no reason to refuse anybody: batches wait.
    fn room_now(&self) -> LogRoom {
        let refused = match self.ready.front() {
            Some(segment) if segment.handle == Handle::Refused => true,
            Some(segment) => self.short_of_space && segment.capacity < self.wanted_capacity(),
            None => self.short_of_space,
        };
        let left = self.current.capacity.saturating_sub(self.at + self.pending_bytes);
        match left {
            _ if !refused => LogRoom::Ample,
            left if left >= self.reserve_bytes => LogRoom::Ample,
            left if left >= self.reserve_bytes / 4 => LogRoom::Low,
            _ => LogRoom::None,
        }
    }

    fn check_invariants(&self) {
        assert!(self.durable.sequence <= self.sealed.sequence && self.sealed.zxid <= self.appended);
        assert!(self.at <= self.current.capacity && self.batches_in_flight <= self.slots);
        assert!(self.batches_in_flight == 0 || self.at == FIRST_BATCH_AT || self.at <= self.current.mark);
        let oldest = self.flights.loads().find_map(|load| match load {
            Load::Batch { link, .. } => Some(link.sequence),
            Load::Mark { .. } => None,
        });
        assert!(self.failed || oldest.is_none_or(|sequence| sequence == self.durable.sequence + 1));
        assert_eq!(self.spans.back().map(|span| span.id), Some(self.current.id));
    }
}
