//! Opening a log: which batches count, which bytes are cut, and when nobody but an operator may decide.
//!
//! From the last segment that a snapshot still needs, batch follows batch by number and checksum, across segments, until the
//! next one is not there. What is found in its place, and whether anything proves that it once was stable, decides:
//!
//! | found in the next place | proof that it was durable | then |
//! | --- | --- | --- |
//! | the batch that follows   | -    | keep it |
//! | zeroes, the file's end, a former life's bytes | none | the log ends here |
//! | a batch of this life and place, torn or not the one that follows | none | a torn tail: nobody was ever promised it, its first block is zeroed |
//! | anything but the batch that follows, before the snapshot ends, and a later batch that follows what the snapshot has | - | go on with that one |
//! | anything but the batch that follows           | some | refuse to start, change nothing |
//! | records that contradict a right checksum      | -    | refuse to start, change nothing |
//! | a file shorter than its mark says it was      | -    | refuse to start, change nothing |
//! | no next segment, or not the one that was there (`refuse_misfits`) | - | refuse to start, change nothing |
//! | a segment that says it is of another log (`refuse_others`)    | -    | refuse to start, change nothing |
//!
//! A batch is one of this log or none: its checksum begins with the log's id, which is taken from the segment where the walk
//! begins. What is damaged in one header its mark or its neighbours know.
//!
//! Proof is a valid batch further on that says what was stable when it was sealed, a segment's mark that says so of the moment
//! it was written (after a clean stop: of everything), or a snapshot that says how far the log was stable when it was taken.
//! (With several batches in flight a valid batch behind a hole is no proof by itself.) Reading that fails is never an end of
//! the log: it refuses.
//!
//! Where an operator accepts the loss (`Loss::Accepted`, for a cut), the log ends where these refusals begin, if there is a batch or a
//! snapshot before that.
//!
//! `scan` and `replay` change nothing. `settle` does, in steps that may be cut short anywhere and begun again: every batch of
//! this life behind the end loses its first block, and is flushed, and with it the kept tail, which may so far have been only
//! in a cache. Only then may anybody be told about it, and only then is anything appended.
//! Java: `FileTxnLog.FileTxnIterator`, `FileSnap.restore`; spec "on-disk formats" 7.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::append::{Empty, LogStart};
use super::batch::{Batch, BatchHeader, Durable, HEADER_BYTES, Link};
use super::prepare::{Outcome, Prepared, Preparer};
use super::segment::{
    FIRST_BATCH_AT, FORMAT_VERSION, HeaderError, LogId, MARK_AT, Mark, SegmentId, SegmentKind, decode_header,
    decode_mark,
};
use super::span::{Place, Span};
use crate::Zxid;
use crate::config::StoreConfig;
use crate::disk::{Access, Action, BLOCK_BYTES, Disk, Ids};
use crate::error::{Damage, LogError, StoreError};
use crate::probe;
use crate::read::{GLANCE_WINDOW_BYTES, Reader, WHOLE_FILE_WINDOW_BYTES, run};

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Something outside the log that knows how far the log was once stable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    pub durable: Durable,
    /// For the message: "snapshot-... ".
    pub witness: String,
}

/// What becomes of a log of which something is gone that was once stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    Refused,
    /// It ends where the damage begins: for an operator who cuts it there.
    Accepted,
}

/// How a log's end is judged.
#[derive(Clone, Copy, Debug)]
pub struct Judgement<'a> {
    /// What was stable once, as far as the log itself does not say so.
    pub proofs: &'a [Proof],
    pub loss: Loss,
}

/// A segment as the start finds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) id: SegmentId,
    pub(super) file_bytes: u64,
    /// By its header, or else its mark, or else what its neighbours say. None: nothing says.
    pub(super) log: Option<LogId>,
    pub(super) kind: Option<SegmentKind>,
    mark: Option<Mark>,
    /// What its first batch follows, or what is there instead.
    first: Result<Link, Damage>,
}

impl Found {
    fn anchor(&self) -> Option<Link> {
        match self.kind {
            Some(SegmentKind::First(base)) => Some(base),
            _ => self.first.ok(),
        }
    }

    /// Whole blocks only: what a truncated file has left.
    pub(super) fn capacity(&self) -> u64 {
        self.file_bytes / BLOCK * BLOCK
    }
}

impl Found {
    /// What its length was at least when it got its name: no crash makes it shorter.
    fn once_bytes(&self) -> u64 {
        self.mark_at().max(FIRST_BATCH_AT)
    }

    /// Where there is nothing more to look for behind a log that ends at `end` of this segment. A mark that contradicts what
    /// was found is as good as none.
    fn written_below(&self, end: u64) -> u64 {
        let believed = self.mark.filter(|mark| mark.written_below >= end);
        believed.map_or(u64::MAX, |mark| mark.written_below).min(self.capacity())
    }

    /// For the writer: 0 when the mark has to be written anew.
    fn mark_at(&self) -> u64 {
        self.mark.map_or(0, |mark| mark.written_below)
    }
}

/// A place between two batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// Index into `Scan::segments`.
    pub(super) segment: usize,
    pub(super) at: u64,
    pub(super) link: Link,
}

/// What a log holds. Nothing has been changed yet.
#[derive(Debug)]
pub struct Scan {
    pub(super) directory: PathBuf,
    pub(super) direct: bool,
    /// From the first on that a kept snapshot needs.
    pub(super) segments: Vec<Found>,
    /// The ones before, not looked into: a start does not take longer because there are many.
    older: Vec<(SegmentId, u64)>,
    pub(super) start: Option<Position>,
    pub(super) end: Option<Position>,
    /// Up to this batch the log is known to be on stable storage, not only in a cache.
    stable_sequence: u64,
    /// Up to this batch there was a log once, where a loss is accepted.
    lost_sequence: u64,
    /// And up to this transaction at least, where that is known.
    pub lost_through: Option<Zxid>,
    /// Behind the end, per segment index: blocks that begin a batch of this life.
    dirty: Vec<(usize, Vec<u64>)>,
    /// Where reading can begin, per segment index.
    places: Vec<(usize, Place)>,
    unfinished: Vec<String>,
    /// Records after the snapshot.
    pub records: u64,
    pub cut_bytes: u64,
    pub notes: Vec<String>,
    pub(super) snapshot: Zxid,
}

/// Finds out what the log in `directory` holds beyond `snapshot`, or why it must not be used. Looks back as far as
/// `oldest_kept` needs, so that purging knows what it does not.
pub fn scan(
    disk: &mut impl Disk,
    ids: &mut Ids,
    directory: &Path,
    direct: bool,
    snapshot: Zxid,
    oldest_kept: Zxid,
    Judgement { proofs, loss }: Judgement<'_>,
) -> Result<Scan, StoreError> {
    let io = |source| StoreError::Io { path: directory.to_owned(), operation: "list", source };
    let names = disk.list(directory).map_err(io)?;
    let unfinished: Vec<_> =
        names.iter().filter(|(name, _)| name.starts_with("log-") && name.ends_with(".tmp")).cloned().collect();
    let mut files: Vec<_> = names.iter().filter_map(|(name, bytes)| Some((SegmentId::parse(name)?, *bytes))).collect();
    files.sort_unstable();
    let mut scan = Scan {
        directory: directory.to_owned(),
        direct,
        segments: Vec::new(),
        older: files,
        start: None,
        end: None,
        stable_sequence: 0,
        lost_sequence: 0,
        lost_through: None,
        dirty: Vec::new(),
        places: Vec::new(),
        unfinished: unfinished.into_iter().map(|(name, _)| name).collect(),
        records: 0,
        cut_bytes: 0,
        notes: Vec::new(),
        snapshot,
    };
    while let Some((id, file_bytes)) = scan.older.pop() {
        let path = id.path(directory);
        let io = |source| StoreError::Io { path: path.clone(), operation: "dropping from the cache", source };
        disk.distrust_cache(&path).map_err(io)?;
        let newer = scan.segments.last().and_then(|newer| newer.log);
        let found = look_at(disk, ids, &scan, (id, file_bytes), newer)?;
        scan.segments.push(found);
        if found.anchor().is_some_and(|link| link.zxid <= oldest_kept) {
            break;
        }
    }
    scan.segments.reverse();
    // The newest that say nothing themselves: what those before them say.
    for index in 1..scan.segments.len() {
        let Found { id, file_bytes, log, .. } = scan.segments[index];
        if log.is_none() {
            scan.segments[index] = look_at(disk, ids, &scan, (id, file_bytes), scan.segments[index - 1].log)?;
        }
    }
    scan.start = find_start(&scan.segments, snapshot)?;
    let Some(start) = scan.start else {
        let missing = Missing { file: directory.join("log-*").display().to_string(), at: 0, why: Damage::Missing };
        refuse_if_proven(missing, Link { zxid: snapshot, ..Link::default() }, proofs, false)?;
        return Ok(scan);
    };
    let (mut start, mut end, mut why) = scan.follow(disk, ids, start)?;
    // What is damaged there nobody needs, if the log goes on before the snapshot ends.
    while end.link.zxid < snapshot
        && let Some(covered) = find_covered(disk, ids, &scan, end)?
    {
        probe::mark("storage: a snapshot has what is damaged in the log");
        let Missing { file, at, why: what } = Missing::behind(&scan, end, why);
        let what = what.at(at);
        scan.notes.push(format!(
            "{file}: {what}; snapshot {snapshot} has all of that, and the log is whole from before its end on: nothing is lost"
        ));
        (start, end, why) = scan.follow(disk, ids, covered)?;
    }
    if loss == Loss::Refused {
        refuse_others(&scan, start)?;
    }
    let missing = Missing::behind(&scan, end, why);
    let behind = look_behind_the_end(disk, ids, &mut scan, end)?;
    let vouched = scan.segments.iter().filter_map(|found| {
        let witness = format!("the mark of {}", found.id.file_name());
        Some(Proof { durable: found.mark?.durable, witness })
    });
    let proofs: Vec<_> = proofs.iter().cloned().chain(vouched).chain(behind.proof).collect();
    if loss == Loss::Accepted {
        let proven = proofs.iter().map(|proof| proof.durable.sequence).max();
        scan.lost_sequence = behind.sequence.max(proven.unwrap_or(0));
        let through = behind.end.max(proofs.iter().map(|proof| proof.durable.zxid).max());
        scan.lost_through = through.filter(|through| *through > scan.last_zxid());
    } else {
        refuse_if_proven(missing, scan.last_link(end), &proofs, true)?;
        let short = |found: &&Found| found.file_bytes < found.once_bytes();
        if let Some(found) = scan.segments[start.segment..].iter().find(short) {
            let (file, bytes, once_bytes) = (found.id.file_name(), found.file_bytes, found.once_bytes());
            return Err(LogError::CutShort { file, bytes, once_bytes, last_good: scan.last_zxid() }.into());
        }
        refuse_misfits(&scan, start, end)?;
    }
    if !scan.dirty.is_empty() {
        probe::mark("storage: a torn tail was cut");
    }
    scan.cut_bytes = scan.dirty.iter().map(|(_, blocks)| blocks.len() as u64 * BLOCK).sum();
    for (segment, blocks) in &scan.dirty {
        let file = scan.segments[*segment].id.file_name();
        let (count, at) = (blocks.len(), blocks[0]);
        scan.notes.push(format!(
            "{file}: {count} unfinished write(s) from byte {at} on ({why}) that were never acknowledged; cut after {}",
            end.link.zxid
        ));
    }
    Ok(scan)
}

impl Scan {
    /// Follows the chain from here, and takes down what there is.
    fn follow(
        &mut self,
        disk: &mut impl Disk,
        ids: &mut Ids,
        start: Position,
    ) -> Result<(Position, Position, Damage), StoreError> {
        self.start = Some(start);
        let (mut records, mut stable_sequence, mut places) = (0, start.link.sequence, Vec::new());
        let (end, why) = walk(disk, ids, self, start, |here, batch| {
            records += batch.records().filter(|(zxid, _)| *zxid > self.snapshot).count() as u64;
            stable_sequence = stable_sequence.max(batch.durable().sequence);
            places.push((here.segment, Place { at: here.at, link: here.link }));
        })?;
        (self.records, self.stable_sequence, self.places) = (records, stable_sequence, places);
        self.end = Some(end);
        Ok((start, end, why))
    }

    /// The id of the log that the walk follows.
    ///
    /// # Panics
    /// When there is no log.
    pub(super) fn log(&self) -> LogId {
        let start = self.start.expect("a log");
        self.segments[start.segment].log.expect("where a log begins its id was read")
    }

    /// The same, where there may be none.
    pub fn start_log(&self) -> Option<LogId> {
        self.start.map(|_| self.log())
    }

    /// Whether this log goes on; else one begins behind the snapshot.
    pub fn goes_on(&self) -> bool {
        self.end.is_some_and(|end| end.link.zxid >= self.snapshot)
    }

    /// The running number of the last batch that there was.
    pub(super) fn last_sequence(&self) -> u64 {
        self.end.map_or(0, |end| end.link.sequence).max(self.lost_sequence)
    }

    /// The last batch, and the last transaction that is known, which may be the snapshot's.
    fn last_link(&self, end: Position) -> Link {
        Link { zxid: self.last_zxid(), ..end.link }
    }

    pub fn last_zxid(&self) -> Zxid {
        self.end.map_or(self.snapshot, |end| end.link.zxid.max(self.snapshot))
    }

    /// The segment and byte where reading behind the snapshot begins.
    pub fn start_place(&self) -> Option<(SegmentId, u64)> {
        self.start.map(|start| (self.segments[start.segment].id, start.at))
    }

    /// The segment with the last batch, and the byte behind it.
    pub fn end_place(&self) -> Option<(SegmentId, u64)> {
        self.end.map(|end| (self.segments[end.segment].id, end.at))
    }

    /// Hands over every record above the snapshot, in order.
    pub fn replay(
        &self,
        disk: &mut impl Disk,
        ids: &mut Ids,
        mut f: impl FnMut(Zxid, &[u8]),
    ) -> Result<(), StoreError> {
        let Some(start) = self.start else {
            return Ok(());
        };
        let (end, _) = walk(disk, ids, self, start, |_, batch| {
            batch.records().filter(|(zxid, _)| *zxid > self.snapshot).for_each(|(zxid, payload)| f(zxid, payload));
        })?;
        if Some(end) == self.end {
            return Ok(());
        }
        let source = std::io::Error::other("the log reads differently the second time");
        Err(StoreError::Io { path: self.directory.clone(), operation: "read", source })
    }

    /// Makes the end final and stable, and says where to go on.
    pub fn settle(mut self, disk: &mut impl Disk, ids: &mut Ids, config: &StoreConfig) -> Result<LogStart, StoreError> {
        for name in std::mem::take(&mut self.unfinished) {
            let path = self.directory.join(name);
            run(disk, ids, &path, Action::Unlink { path: path.clone() })?;
        }
        if !probe::broken("what was recovered is not flushed") {
            self.flush_the_end(disk, ids)?;
        }
        let ready = self.take_empty_segments(disk, ids)?;
        let directory = self.directory.clone();
        run(disk, ids, &directory, Action::SyncDirectory { path: directory.clone() })?;
        let spans = self.take_spans();
        match self.end {
            // A snapshot from beyond the log's end (a learner's): the log begins anew behind it.
            Some(end) if self.goes_on() => Ok(LogStart {
                log: self.log(),
                current: self.segments[end.segment].id,
                capacity: self.segments[end.segment].capacity(),
                at: end.at,
                mark: self.segments[end.segment].mark_at(),
                vouched: self.segments[end.segment].mark.unwrap_or_default().durable,
                link: end.link,
                ready,
                spans,
            }),
            _ => self.begin(disk, ids, config, ready, spans),
        }
    }

    /// A log's first segment.
    fn begin(
        &self,
        disk: &mut impl Disk,
        ids: &mut Ids,
        config: &StoreConfig,
        ready: Vec<Empty>,
        mut spans: Vec<Span>,
    ) -> Result<LogStart, StoreError> {
        unlink_last_first(disk, ids, &self.directory, ready.iter().map(|empty| empty.id.path(&self.directory)))?;
        let current = self.segments.last().map_or(SegmentId(1), |last| last.id.next());
        let link = Link { sequence: self.end.map_or(0, |end| end.link.sequence), checksum: 0, zxid: self.snapshot };
        let source =
            |source| StoreError::Io { path: self.directory.clone(), operation: "drawing a random number", source };
        let log = LogId(disk.draw().map_err(source)?);
        let mut preparer = Preparer::new(self.directory.clone(), log, self.direct, config.mark_bytes);
        preparer.start(current, SegmentKind::First(link), config.segment_bytes, ids);
        let mut ops = Vec::new();
        let prepared = loop {
            preparer.poll(ids, &mut ops);
            let event = disk.run(ops.pop().expect("a busy preparer has an operation"));
            match preparer.on_event(event) {
                None => {}
                Some(Outcome::Ready(prepared) | Outcome::Recycled(prepared)) => break prepared,
                Some(Outcome::Failed(error) | Outcome::GrowFailed(_, error)) => {
                    return Err(error.into());
                }
            }
        };
        let path = current.path(&self.directory);
        run(disk, ids, &path, Action::Close { file: prepared.file })?;
        spans.push(Span::new(current, prepared.capacity, link));
        let Prepared { capacity, mark, .. } = prepared;
        let vouched = Durable { sequence: link.sequence, zxid: link.zxid };
        Ok(LogStart { log, current, capacity, at: FIRST_BATCH_AT, mark, vouched, link, ready: Vec::new(), spans })
    }

    /// Zeroes what was cut, and flushes: batches of the last slots, and marks, may so far be only in a cache.
    fn flush_the_end(&mut self, disk: &mut impl Disk, ids: &mut Ids) -> Result<(), StoreError> {
        for (index, blocks) in std::mem::take(&mut self.dirty) {
            self.rewrite(disk, ids, index, &blocks)?;
        }
        // Also what has nothing to cut: an earlier start may have zeroed it, and been killed before its flush.
        for index in self.first_unflushed()..self.segments.len() {
            self.rewrite(disk, ids, index, &[])?;
        }
        Ok(())
    }

    /// Index of the segment with the first batch that may so far be only in a cache: when batches are as large as segments,
    /// those of the last slots lie in several.
    fn first_unflushed(&self) -> usize {
        let Some(end) = self.end else { return self.segments.len() };
        let stable = |found: &Found| found.anchor().is_some_and(|link| link.sequence <= self.stable_sequence);
        self.segments[..=end.segment].iter().rposition(stable).unwrap_or(0)
    }

    /// The segments behind the end that can be written next; others are deleted.
    fn take_empty_segments(&mut self, disk: &mut impl Disk, ids: &mut Ids) -> Result<Vec<Empty>, StoreError> {
        let Some(end) = self.end else {
            return Ok(Vec::new());
        };
        let log = self.log();
        let mut ready = Vec::new();
        let mut next = self.segments[end.segment].id.next();
        let mut useless = Vec::new();
        for found in self.segments.split_off(end.segment + 1) {
            let ours = found.kind == Some(SegmentKind::Next) && found.log == Some(log);
            if found.id == next && ours && found.capacity() > FIRST_BATCH_AT {
                let mark = found.mark_at();
                ready.push(Empty { id: found.id, capacity: found.capacity(), mark });
                next = next.next();
            } else {
                useless.push(found.id.path(&self.directory));
            }
        }
        unlink_last_first(disk, ids, &self.directory, useless.into_iter())?;
        Ok(ready)
    }

    /// Deletes what lies behind the segment with the last batch. A cut deletes it, too, but has to write a segment before that.
    pub fn make_room(&mut self, disk: &mut impl Disk, ids: &mut Ids) -> Result<(), StoreError> {
        let Some(end) = self.end else { return Ok(()) };
        while self.segments.len() > end.segment + 1 {
            let path = self.segments[self.segments.len() - 1].id.path(&self.directory);
            run(disk, ids, &path, Action::Unlink { path: path.clone() })?;
            self.segments.pop();
            self.dirty.retain(|(segment, _)| *segment < self.segments.len());
            run(disk, ids, &self.directory, Action::SyncDirectory { path: self.directory.clone() })?;
        }
        Ok(())
    }

    /// Zeroes these blocks of a segment, if any, and flushes the file.
    fn rewrite(&self, disk: &mut impl Disk, ids: &mut Ids, index: usize, zeroes: &[u64]) -> Result<(), StoreError> {
        let path = self.segments[index].id.path(&self.directory);
        let file = ids.file();
        run(disk, ids, &path, Action::Open { file, path: path.clone(), access: Access::Write, direct: self.direct })?;
        for offset in zeroes {
            run(disk, ids, &path, Action::WriteZeroes { file, offset: *offset, bytes: BLOCK })?;
        }
        run(disk, ids, &path, Action::Sync { file })?;
        run(disk, ids, &path, Action::Close { file })
    }

    fn take_spans(&mut self) -> Vec<Span> {
        let mut spans: Vec<_> = self.older.iter().map(|(id, bytes)| Span::unknown(*id, *bytes)).collect();
        let (older, looked_at) = (spans.len(), self.end.map_or(0, |end| end.segment + 1));
        spans.extend(self.segments[..looked_at].iter().map(|found| match found.anchor() {
            Some(link) => Span::new(found.id, found.file_bytes, link),
            None => Span::unknown(found.id, found.file_bytes),
        }));
        for (segment, place) in std::mem::take(&mut self.places) {
            spans[older + segment].note(place);
        }
        spans
    }

    fn reader(&self, disk: &mut impl Disk, ids: &mut Ids, index: usize) -> Result<Reader, StoreError> {
        let found = &self.segments[index];
        Reader::open(disk, ids, found.id.path(&self.directory), found.file_bytes, self.direct, WHOLE_FILE_WINDOW_BYTES)
    }
}

/// The place where the next batch is not.
struct Missing {
    file: String,
    at: u64,
    why: Damage,
}

impl Missing {
    /// In the segment where the log ends, or, when there is no trace of it, at the beginning of the next where there is one;
    /// or that is gone, and later ones are there.
    fn behind(scan: &Scan, end: Position, why: Damage) -> Missing {
        let traceless = |damage| matches!(damage, Damage::Zeroes | Damage::Missing | Damage::ForeignSegment);
        let expected = scan.segments[end.segment].id.next();
        match scan.segments.get(end.segment + 1) {
            Some(Found { id, .. }) if *id != expected && traceless(why) => {
                Missing { file: expected.file_name(), at: 0, why: Damage::Missing }
            }
            Some(Found { id, first: Err(damage), .. })
                if why == Damage::Missing || (traceless(why) && !traceless(*damage)) =>
            {
                Missing { file: id.file_name(), at: FIRST_BATCH_AT, why: *damage }
            }
            _ => Missing { file: scan.segments[end.segment].id.file_name(), at: end.at, why },
        }
    }
}

/// Segments that cannot be the ones that were written after the end, whatever crashed when: each was made when the one before
/// it came into use, whole before it got its name, and nothing behind an end is left when something is written there.
fn refuse_misfits(scan: &Scan, start: Position, end: Position) -> Result<(), StoreError> {
    let misfit = |id: SegmentId, why| {
        let (file, last_good) = (id.file_name(), scan.last_zxid());
        Err(LogError::Misfit { file, why, last_good }.into())
    };
    for pair in scan.segments[start.segment..].windows(2) {
        if pair[1].id != pair[0].id.next() {
            return misfit(pair[0].id.next(), "this log file is missing, and later ones are there");
        }
    }
    let Some(next) = scan.segments.get(end.segment + 1) else { return Ok(()) };
    match next.first {
        Ok(link) if link.sequence <= end.link.sequence => {
            misfit(next.id, "it does not continue the log file before it: a log file of another server?")
        }
        _ if next.kind.is_none() && next.mark.is_none() && scan.segments.len() > end.segment + 2 => {
            misfit(next.id, "its beginning is not that of this log file, which was in use: a copy of another one?")
        }
        _ => Ok(()),
    }
}

/// From the segment before the start on, everything is of one log. A new one begins only in a first segment; behind the end
/// that may be one which never took a batch, begun after a snapshot that is not to be had any more.
fn refuse_others(scan: &Scan, start: Position) -> Result<(), StoreError> {
    for (index, found) in scan.segments.iter().enumerate().skip(start.segment.max(1)) {
        let begins = found.kind != Some(SegmentKind::Next); // or its header is lost
        let other = found.log.is_some() && found.log != scan.segments[index - 1].log;
        if other && !(begins && (index == start.segment || found.first.is_err())) {
            let why = "it belongs to another log than the file before it: a log file of another server?";
            return Err(LogError::Misfit { file: found.id.file_name(), why, last_good: scan.last_zxid() }.into());
        }
    }
    Ok(())
}

/// `cut`: what is before `end` can be gone on with.
fn refuse_if_proven(missing: Missing, end: Link, proofs: &[Proof], cut: bool) -> Result<(), StoreError> {
    match proofs.iter().max_by_key(|proof| proof.durable.sequence) {
        Some(proof) if proof.durable.sequence > end.sequence => Err(refusal(missing, end, proof, cut)),
        _ => Ok(()),
    }
}

fn refusal(Missing { file, at, why }: Missing, end: Link, proof: &Proof, cut: bool) -> StoreError {
    let (durable, witness) = (proof.durable.zxid, proof.witness.clone());
    LogError::Damaged { file, at, why, last_good: end.zxid, durable, proof: witness, cut }.into()
}

/// The last first, each for good: a missing one before others would be taken for a loss.
fn unlink_last_first(
    disk: &mut impl Disk,
    ids: &mut Ids,
    directory: &Path,
    paths: impl DoubleEndedIterator<Item = PathBuf>,
) -> Result<(), StoreError> {
    for path in paths.rev() {
        run(disk, ids, &path, Action::Unlink { path: path.clone() })?;
        run(disk, ids, directory, Action::SyncDirectory { path: directory.to_owned() })?;
    }
    Ok(())
}

/// The logs that the headers in a directory name, the first one's first; those that are damaged name none.
pub fn logs_named(disk: &mut impl Disk, ids: &mut Ids, directory: &Path) -> Result<Vec<LogId>, StoreError> {
    let io = |source| StoreError::Io { path: directory.to_owned(), operation: "list", source };
    let names = disk.list(directory).map_err(io)?;
    let mut files: Vec<_> = names.iter().filter_map(|(name, bytes)| Some((SegmentId::parse(name)?, *bytes))).collect();
    files.sort_unstable();
    let mut named = Vec::new();
    for (id, bytes) in files {
        let mut reader = Reader::open(disk, ids, id.path(directory), bytes, false, GLANCE_WINDOW_BYTES)?;
        let header = decode_header(reader.get(disk, 0, BLOCK)?, id);
        reader.close(disk, ids);
        named.extend(header.ok().map(|(log, _)| log));
    }
    Ok(named)
}

/// Header and first batch of one segment.
fn look_at(
    disk: &mut impl Disk,
    ids: &mut Ids,
    scan: &Scan,
    (id, file_bytes): (SegmentId, u64),
    neighbours: Option<LogId>,
) -> Result<Found, StoreError> {
    let path = id.path(&scan.directory);
    let mut reader = Reader::open(disk, ids, path, file_bytes, scan.direct, GLANCE_WINDOW_BYTES)?;
    let header = match decode_header(reader.get(disk, 0, BLOCK)?, id) {
        Ok(header) => Some(header),
        Err(HeaderError::Damaged) => None,
        Err(HeaderError::Version(version)) => {
            return Err(LogError::Version { file: id.file_name(), version, supported: FORMAT_VERSION }.into());
        }
    };
    let mark = decode_mark(reader.get(disk, MARK_AT, BLOCK)?, id);
    let (of_header, of_mark) = (header.map(|(log, _)| log), mark.map(|(log, _)| log));
    let log = of_header.or(of_mark).or(neighbours);
    let mark = mark.filter(|(of_mark, _)| Some(*of_mark) == log).map(|(_, mark)| mark);
    let first = match log {
        Some(log) => read_batch(disk, &mut reader, log, id, FIRST_BATCH_AT)?.map(|batch| batch.link_before()),
        None => Err(Damage::NotABatch),
    };
    reader.close(disk, ids);
    Ok(Found { id, file_bytes, log, kind: header.map(|(_, kind)| kind), mark, first })
}

/// The batch of this log at `at`, or what is there instead. Fails only when reading does.
pub(crate) fn read_batch<'a>(
    disk: &mut impl Disk,
    reader: &'a mut Reader,
    log: LogId,
    segment: SegmentId,
    at: u64,
) -> Result<Result<Batch<'a>, Damage>, StoreError> {
    if at + HEADER_BYTES as u64 > reader.file_bytes() {
        return Ok(Err(Damage::Missing));
    }
    let bytes = match BatchHeader::padded_bytes(reader.get(disk, at, BLOCK)?) {
        // A former life's batch may say any length; nobody has to read all that to see that it is not ours.
        Ok(_) if !BatchHeader::claims(reader.get(disk, at, BLOCK)?, segment, at) => {
            return Ok(Err(Damage::ForeignSegment));
        }
        Ok(bytes) if at + bytes > reader.file_bytes() => return Ok(Err(Damage::Length)),
        Ok(bytes) => bytes,
        Err(damage) => return Ok(Err(damage)),
    };
    Ok(Batch::decode(reader.get(disk, at, bytes)?, log, segment, at))
}

/// The last segment from which the log covers everything above the snapshot. None: there is no log at all.
fn find_start(segments: &[Found], snapshot: Zxid) -> Result<Option<Position>, StoreError> {
    let anchors = || segments.iter().enumerate().filter_map(|(index, found)| Some((index, found.anchor()?)));
    if let Some((segment, link)) = anchors().rfind(|(_, link)| link.zxid <= snapshot) {
        return Ok(Some(Position { segment, at: FIRST_BATCH_AT, link }));
    }
    let Some(first) = segments.first() else { return Ok(None) };
    let oldest = anchors().next();
    if let (Some(_), Some((_, link))) = (first.anchor(), oldest) {
        return Err(LogError::Gap { snapshot, log_begins_after: link.zxid }.into());
    }
    // Neither header nor batch in a file that had both on stable storage, or at least the header, before it got its name.
    let missing = Missing { file: first.id.file_name(), at: 0, why: Damage::NotABatch };
    let (durable, witness) = match oldest {
        Some((index, link)) => (link.zxid, segments[index].id.file_name()),
        None => (snapshot, "its name, which it got when it was complete,".to_owned()),
    };
    let proof = Proof { durable: Durable { sequence: 0, zxid: durable }, witness };
    Err(refusal(missing, Link { zxid: snapshot, ..Link::default() }, &proof, false))
}

/// Follows the chain from `start`. Returns its end and what was found in the place of the next batch.
pub(super) fn walk(
    disk: &mut impl Disk,
    ids: &mut Ids,
    scan: &Scan,
    start: Position,
    mut f: impl FnMut(Position, &Batch<'_>),
) -> Result<(Position, Damage), StoreError> {
    let log = scan.log();
    let mut here = start;
    let mut reader = scan.reader(disk, ids, here.segment)?;
    loop {
        let id = scan.segments[here.segment].id;
        let why = match read_batch(disk, &mut reader, log, id, here.at)? {
            Ok(batch) if batch.follows(here.link) => {
                check_records(&batch, id, here)?;
                f(here, &batch);
                here.at += batch.padded_bytes();
                here.link = batch.link_after();
                continue;
            }
            Ok(_) => Damage::NotNext,
            Err(damage) => damage,
        };
        let next = here.segment + 1;
        let links = scan
            .segments
            .get(next)
            .is_some_and(|found| found.id == id.next() && found.log == Some(log) && found.first == Ok(here.link));
        reader.close(disk, ids);
        if !links {
            return Ok((here, why));
        }
        here = Position { segment: next, at: FIRST_BATCH_AT, link: here.link };
        reader = scan.reader(disk, ids, next)?;
    }
}

fn check_records(batch: &Batch<'_>, segment: SegmentId, here: Position) -> Result<(), StoreError> {
    let Err(why) = batch.check_records() else {
        return Ok(());
    };
    let missing = Missing { file: segment.file_name(), at: here.at, why };
    let link = batch.link_after();
    let durable = Durable { sequence: link.sequence, zxid: link.zxid };
    Err(refusal(missing, here.link, &Proof { durable, witness: "its right checksum".to_owned() }, false))
}

/// What batches behind the end say.
#[derive(Debug, Default)]
struct Behind {
    /// The best of them.
    proof: Option<Proof>,
    /// The last transaction, and the last running number.
    end: Option<Zxid>,
    sequence: u64,
}

/// Looks at everything of this life that was ever written behind the end: a batch there may prove that something before it
/// was lost. If it does not, its first block will be zeroed, so that it never passes for what follows: whole, torn or
/// overtaken, without that block it is no batch. What former lives left there stays: it names another segment, or, where a
/// client made it name this one, proves nothing and is zeroed like a torn batch.
fn look_behind_the_end(
    disk: &mut impl Disk,
    ids: &mut Ids,
    scan: &mut Scan,
    end: Position,
) -> Result<Behind, StoreError> {
    let mut behind = Behind::default();
    let mut dirty = Vec::new();
    for_each_claim(disk, ids, scan, end, |here, batch| {
        dirty.push((here.segment, here.at));
        if let Some(batch) = batch {
            behind.end = behind.end.max(Some(batch.link_after().zxid));
            behind.sequence = behind.sequence.max(batch.link_after().sequence);
            let best = behind.proof.as_ref().map_or(end.link.sequence, |proof| proof.durable.sequence);
            if batch.durable().sequence > best {
                let file = scan.segments[here.segment].id.file_name();
                let witness = format!("a later batch ({file} byte {})", here.at);
                behind.proof = Some(Proof { durable: batch.durable(), witness });
            }
        }
        ControlFlow::Continue(())
    })?;
    for blocks in dirty.chunk_by(|(segment, _), (next, _)| segment == next) {
        scan.dirty.push((blocks[0].0, blocks.iter().map(|(_, at)| *at).collect()));
    }
    Ok(behind)
}

/// Where the log goes on behind damage, before the snapshot ends: a whole batch that follows something which the snapshot has.
/// What it follows was stable when that snapshot was taken, so nothing between the two is needed, and nobody cut anything there.
fn find_covered(
    disk: &mut impl Disk,
    ids: &mut Ids,
    scan: &Scan,
    end: Position,
) -> Result<Option<Position>, StoreError> {
    let mut covered = None;
    for_each_claim(disk, ids, scan, end, |here, batch| match batch.map(|batch| batch.link_before()) {
        Some(link) if link.sequence > end.link.sequence && link.zxid <= scan.snapshot => {
            covered = Some(Position { link, ..here });
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    })?;
    Ok(covered)
}

/// From `end` on, each block that says it begins a batch of this place, and that batch if it is whole. (Of the position the link
/// is that of `end`.)
fn for_each_claim(
    disk: &mut impl Disk,
    ids: &mut Ids,
    scan: &Scan,
    end: Position,
    mut f: impl FnMut(Position, Option<&Batch<'_>>) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let log = scan.log();
    for segment in end.segment..scan.segments.len() {
        let id = scan.segments[segment].id;
        let mut at = if segment == end.segment { end.at } else { FIRST_BATCH_AT };
        let written_below = scan.segments[segment].written_below(at);
        let mut reader = scan.reader(disk, ids, segment)?;
        let mut flow = ControlFlow::Continue(());
        while at < written_below && flow.is_continue() {
            if BatchHeader::claims(reader.get(disk, at, BLOCK)?, id, at) {
                // What claims to reach beyond what was written is no batch. A client can make many blocks claim that, and to
                // read so far for each of them would take hours.
                let bytes = BatchHeader::padded_bytes(reader.get(disk, at, BLOCK)?);
                let fits = bytes.is_ok_and(|bytes| at + bytes <= written_below);
                let batch = if fits { read_batch(disk, &mut reader, log, id, at)?.ok() } else { None };
                flow = f(Position { segment, at, link: end.link }, batch.as_ref());
            }
            at += BLOCK;
        }
        reader.close(disk, ids);
        if flow.is_break() {
            break;
        }
    }
    Ok(())
}
