//! The two numbers of ZAB that must survive anything: the epoch a server has promised to join, and the one it last joined.
//!
//!   <dataDir>/ringkeeper-1/acceptedEpoch    "5 crc32c 7e55186b"
//!   <dataDir>/ringkeeper-1/currentEpoch     decimal, as Java's, and a check over it and the name
//!
//!   .tmp made -> written -> flushed -> renamed -> directory flushed -> `StoreEvent::EpochStored`: now it may be told to others
//!
//! A power failure in any step leaves the old number or the new one. So a file whose check is wrong was damaged, not torn, and
//! the start refuses: a server that forgets which epoch it accepted can vote twice. Only an ensemble needs these files; a
//! standalone server never asks. Java: `QuorumPeer.loadDataBase`, `writeLongToFile`.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::Zxid;
use crate::disk::{Access, Action, Buffer, Disk, DiskEvent, DiskOp, FileId, Ids, OpId, Owner, WriteSync};
use crate::error::{StoreError, is_want_of_descriptors, is_want_of_room};
use crate::event::StoreEvent;
use crate::probe;
use crate::read::{GLANCE_WINDOW_BYTES, Reader};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EpochKind {
    /// Promised to a leader; nobody older is followed any more.
    Accepted,
    /// That of the last leader that was followed, or was ourselves.
    Current,
}

impl EpochKind {
    pub fn file_name(self) -> &'static str {
        match self {
            EpochKind::Accepted => "acceptedEpoch",
            EpochKind::Current => "currentEpoch",
        }
    }
}

/// What a server knows of epochs when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epochs {
    pub accepted: u32,
    pub current: u32,
}

/// The check is over the name too: a disk that puts one file's bytes into the other is noticed.
pub(crate) fn encode(name: &str, epoch: u32) -> String {
    format!("{epoch} crc32c {:08x}\n", crc32c::crc32c(format!("{name} {epoch}").as_bytes()))
}

fn decode(name: &str, text: &[u8]) -> Option<u32> {
    let (digits, _) = std::str::from_utf8(text).ok()?.split_once(' ')?;
    let epoch = digits.parse().ok()?;
    (encode(name, epoch).as_bytes() == text).then_some(epoch)
}

/// The numbers of this directory. What is missing follows from the log: a server that has never been in an ensemble, or was
/// imported. `last` is the last transaction. It may be of a later epoch than the last one that was stored: a learner logs
/// what its leader's epoch began with, and more, before that epoch is its own. Whoever has a transaction of an epoch has
/// everything that epoch began with; so to say that it is in that epoch claims nothing that is not here.
pub(crate) fn read(disk: &mut impl Disk, ids: &mut Ids, directory: &Path, last: Zxid) -> Result<Epochs, StoreError> {
    let (accepted, current) = read_both(disk, ids, directory)?;
    let accepted = accepted.checked(directory, EpochKind::Accepted)?;
    let current = current.checked(directory, EpochKind::Current)?;
    let accepted = accepted.or(current).unwrap_or(last.epoch());
    if last.epoch() > accepted {
        return Err(StoreError::EpochBehind { directory: directory.to_owned(), accepted, last });
    }
    let current = current.unwrap_or(0).max(last.epoch());
    if accepted < current {
        return Err(StoreError::EpochNotAccepted { directory: directory.to_owned(), accepted, current });
    }
    Ok(Epochs { accepted, current })
}

/// The promise, if one was stored, or why nobody knows it any more.
pub(crate) fn check_accepted(disk: &mut impl Disk, ids: &mut Ids, directory: &Path) -> Result<Option<u32>, StoreError> {
    let (accepted, _) = read_both(disk, ids, directory)?;
    accepted.checked(directory, EpochKind::Accepted)
}

/// The accepted one and the current one.
fn read_both(disk: &mut impl Disk, ids: &mut Ids, directory: &Path) -> Result<(Content, Content), StoreError> {
    let accepted = read_one(disk, ids, directory, EpochKind::Accepted.file_name())?;
    let current = read_one(disk, ids, directory, EpochKind::Current.file_name())?;
    // No epoch becomes current that was not promised before; and a later one may have been promised since.
    let forgotten = matches!((&accepted, &current), (Content::Missing, Content::Epoch(1..)));
    Ok((if forgotten { Content::Damaged } else { accepted }, current))
}

/// An epoch that is kept under another name; 0 where there is no such file.
pub(crate) fn kept(disk: &mut impl Disk, ids: &mut Ids, directory: &Path, name: &str) -> Result<u32, StoreError> {
    match read_one(disk, ids, directory, name)? {
        Content::Missing => Ok(0),
        Content::Epoch(epoch) => Ok(epoch),
        Content::Damaged => Err(StoreError::EpochDamaged { path: directory.join(name) }),
    }
}

enum Content {
    Missing,
    Damaged,
    Epoch(u32),
}

impl Content {
    fn checked(self, directory: &Path, kind: EpochKind) -> Result<Option<u32>, StoreError> {
        match self {
            Content::Missing => Ok(None),
            Content::Epoch(epoch) => Ok(Some(epoch)),
            Content::Damaged => Err(StoreError::EpochDamaged { path: directory.join(kind.file_name()) }),
        }
    }
}

fn read_one(disk: &mut impl Disk, ids: &mut Ids, directory: &Path, name: &str) -> Result<Content, StoreError> {
    let io = |source| StoreError::Io { path: directory.to_owned(), operation: "list", source };
    let listed = disk.list(directory).map_err(io)?;
    let Some((_, bytes)) = listed.into_iter().find(|(found, _)| found == name) else { return Ok(Content::Missing) };
    if bytes > GLANCE_WINDOW_BYTES {
        return Ok(Content::Damaged);
    }
    let mut reader = Reader::open(disk, ids, directory.join(name), bytes, false, GLANCE_WINDOW_BYTES)?;
    let text = reader.get(disk, 0, bytes)?;
    let content = decode(name, text).map_or(Content::Damaged, Content::Epoch);
    reader.close(disk, ids);
    Ok(content)
}

/// Stores both at once: for the start and for tools. The promise first, so that no epoch is joined that was never accepted.
pub(crate) fn store(
    disk: &mut impl Disk,
    ids: &mut Ids,
    directory: &Path,
    Epochs { accepted, current }: Epochs,
) -> Result<(), StoreError> {
    assert!(accepted >= current, "an epoch is accepted before it is joined");
    let mut writer = EpochWriter::new(directory.to_owned());
    writer.store(EpochKind::Accepted, accepted);
    writer.store(EpochKind::Current, current);
    let (mut ops, mut events) = (Vec::new(), Vec::new());
    while !writer.is_idle() {
        writer.poll(ids, &mut ops);
        for op in ops.drain(..) {
            writer.on_event(disk.run(op), &mut events);
        }
        let failed = |path, source| Err(StoreError::Io { path, operation: "write", source });
        for event in events.drain(..) {
            if let StoreEvent::EpochStored { kind, result: Err(source), .. } = event {
                return failed(directory.join(kind.file_name()), source);
            }
        }
        if writer.waits_for_room {
            return failed(directory.to_owned(), std::io::ErrorKind::StorageFull.into());
        }
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Open,
    Write,
    Sync,
    Close,
    Rename,
    SyncDirectory,
}

#[derive(Debug)]
struct Task {
    kind: EpochKind,
    epoch: u32,
    file: FileId,
    step: Step,
    under_way: Option<OpId>,
    /// Why it is not stored, to be told once the file is closed.
    failure: Option<std::io::Error>,
}

/// Stores epochs in service, in the order in which they were asked for, one at a time. Each may rest on those before it: once
/// one could not be stored, none is any more. On a full disk they wait: nobody has been told, so they may be stored later.
#[derive(Debug)]
pub struct EpochWriter {
    directory: PathBuf,
    wanted: VecDeque<(EpochKind, u32)>,
    task: Option<Task>,
    failed: bool,
    /// Until `retry`.
    waits_for_room: bool,
    /// There was no room for one that is not stored yet, which was told.
    is_short: bool,
}

impl EpochWriter {
    pub fn new(directory: PathBuf) -> EpochWriter {
        let wanted = VecDeque::new();
        EpochWriter { directory, wanted, task: None, failed: false, waits_for_room: false, is_short: false }
    }

    pub fn store(&mut self, kind: EpochKind, epoch: u32) {
        if !self.failed {
            self.wanted.push_back((kind, epoch));
        }
    }

    pub fn is_idle(&self) -> bool {
        self.task.is_none() && self.wanted.is_empty()
    }

    /// There was no room for one, and it is not stored yet.
    pub fn is_short(&self) -> bool {
        self.is_short
    }

    /// There may be room now.
    pub fn retry(&mut self) {
        self.waits_for_room = false;
    }

    /// Nobody will be told any more: what waits for room need not be stored.
    pub fn end(&mut self) {
        if self.waits_for_room {
            self.wanted.clear();
        }
    }

    pub(crate) fn poll(&mut self, ids: &mut Ids, ops: &mut Vec<DiskOp>) {
        if self.waits_for_room {
            return;
        }
        if self.task.is_none() {
            let next = self.wanted.pop_front();
            self.task = next.map(|(kind, epoch)| {
                let file = ids.file();
                Task { kind, epoch, file, step: Step::Open, under_way: None, failure: None }
            });
        }
        let Some(task) = self.task.as_mut().filter(|task| task.under_way.is_none()) else { return };
        let (path, file) = (self.directory.join(task.kind.file_name()), task.file);
        let unfinished = self.directory.join(format!("{}.tmp", task.kind.file_name()));
        let action = match task.step {
            Step::Open => Action::Open { file, path: unfinished, access: Access::Create, direct: false },
            Step::Write => {
                let text = encode(task.kind.file_name(), task.epoch);
                let mut buffer = Buffer::with_capacity(text.len());
                buffer.extend_from_slice(text.as_bytes());
                Action::Write { file, offset: 0, buffer, sync: WriteSync::None }
            }
            Step::Sync => Action::Sync { file },
            Step::Close => Action::Close { file },
            Step::Rename => Action::Rename { from: unfinished, to: path },
            Step::SyncDirectory => Action::SyncDirectory { path: self.directory.clone() },
        };
        let id = ids.operation(Owner::Epoch);
        task.under_way = Some(id);
        ops.push(DiskOp { id, action });
    }

    pub(crate) fn on_event(&mut self, event: DiskEvent, out: &mut Vec<StoreEvent>) {
        let task = self.task.as_mut().expect("an answer to a question");
        assert_eq!(task.under_way.take(), Some(event.id), "an answer to this question");
        let (kind, epoch) = (task.kind, task.epoch);
        let wanted_bytes = if task.step == Step::Write { encode(kind.file_name(), epoch).len() as u64 } else { 0 };
        let result = match event.result {
            Ok(bytes) if bytes < wanted_bytes => Err(std::io::ErrorKind::WriteZero.into()),
            other => other,
        };
        // Perhaps it is stored, perhaps not; the promise that rests on it must not be made. What is left of it is looked
        // at by the next start, or overwritten.
        let failure = match (task.step, result) {
            (Step::Write | Step::Sync, Err(source)) => {
                (task.failure, task.step) = (Some(source), Step::Close);
                return;
            }
            (Step::Close, _) => task.failure.take(),
            (_, result) => result.err(),
        };
        let may_pass = |source: &&std::io::Error| {
            is_want_of_room(source) || task.step == Step::Open && is_want_of_descriptors(source)
        };
        if let Some(source) = failure.as_ref().filter(may_pass) {
            let path = self.directory.join(kind.file_name());
            (self.task, self.waits_for_room) = (None, true);
            self.wanted.push_front((kind, epoch));
            if !std::mem::replace(&mut self.is_short, true) {
                let path = path.display();
                out.push(StoreEvent::Trouble(format!(
                    "{path}: epoch {epoch} cannot be stored, will try again: {source}"
                )));
            }
            return;
        }
        if let Some(source) = failure {
            (self.task, self.failed) = (None, true);
            self.wanted.clear();
            return out.push(StoreEvent::EpochStored { kind, epoch, result: Err(source) });
        }
        task.step = match task.step {
            Step::Open => Step::Write,
            Step::Write => Step::Sync,
            Step::Sync => Step::Close,
            Step::Close if probe::broken("an epoch is told before it has its name") => {
                self.task = None;
                return out.push(StoreEvent::EpochStored { kind, epoch, result: Ok(()) });
            }
            Step::Close => Step::Rename,
            Step::Rename => Step::SyncDirectory,
            Step::SyncDirectory => {
                (self.task, self.is_short) = (None, false);
                return out.push(StoreEvent::EpochStored { kind, epoch, result: Ok(()) });
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_of_a_number_is_noticed() {
        for epoch in [0, 5, 4_000_000_000] {
            let text = encode("currentEpoch", epoch);
            let decode = |text: &[u8]| decode("currentEpoch", text);
            assert_eq!(decode(text.as_bytes()), Some(epoch));
            assert_eq!(super::decode("acceptedEpoch", text.as_bytes()), None, "the other file's");
            for at in 0..text.len() {
                assert_eq!(decode(&text.as_bytes()[..at]), None);
                for bit in 0..8 {
                    let mut damaged = text.clone().into_bytes();
                    damaged[at] ^= 1 << bit;
                    assert_eq!(decode(&damaged), None, "{text:?} byte {at} bit {bit}");
                }
            }
        }
        assert!(["", "5", "5\n", "05 crc32c 00000000\n"].iter().all(|text| decode("", text.as_bytes()).is_none()));
    }

    /// A server that founds an ensemble stores that it has nothing, and then its promise. With the promise alone it would
    /// vote once more, and never again.
    #[test]
    fn what_rests_on_an_epoch_that_was_not_stored_is_not_stored() {
        let steps = [Step::Open, Step::Write, Step::Sync, Step::Rename, Step::SyncDirectory];
        for failing in steps {
            let (mut writer, mut ids) = (EpochWriter::new(PathBuf::from("/data")), Ids::default());
            writer.store(EpochKind::Current, 0);
            writer.store(EpochKind::Accepted, 1);
            let (mut ops, mut events) = (Vec::new(), Vec::new());
            while !writer.is_idle() {
                writer.poll(&mut ids, &mut ops);
                let step = writer.task.as_ref().expect("it is not idle").step;
                for DiskOp { id, action } in ops.drain(..) {
                    let bytes = if let Action::Write { buffer, .. } = action { buffer.len() as u64 } else { 0 };
                    let result = if step == failing { Err(std::io::ErrorKind::Other.into()) } else { Ok(bytes) };
                    writer.on_event(DiskEvent { id, result, buffer: None, elapsed_us: 0 }, &mut events);
                }
            }
            let one_that_failed =
                matches!(events[..], [StoreEvent::EpochStored { kind: EpochKind::Current, epoch: 0, result: Err(_) }]);
            assert!(one_that_failed, "{failing:?}: {events:?}");
            writer.store(EpochKind::Accepted, 2);
            assert!(writer.is_idle(), "it takes nothing more");
        }
    }

    /// Asks until nothing is asked for, on a disk that is full for `refused` steps from the one that is named; what was told.
    fn stored(writer: &mut EpochWriter, ids: &mut Ids, full_from: Step, refused: &mut usize) -> Vec<StoreEvent> {
        let (mut ops, mut events) = (Vec::new(), Vec::new());
        loop {
            writer.poll(ids, &mut ops);
            let Some(DiskOp { id, action }) = ops.pop() else { return events };
            let is_full = *refused > 0 && writer.task.as_ref().expect("it asked").step == full_from;
            *refused -= usize::from(is_full);
            let bytes = if let Action::Write { buffer, .. } = action { buffer.len() as u64 } else { 0 };
            let result = if is_full { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(bytes) };
            writer.on_event(DiskEvent { id, result, buffer: None, elapsed_us: 0 }, &mut events);
        }
    }

    /// Found by `cargo dev drill`: a member whose disk was full when an epoch began ended, instead of waiting for room.
    #[test]
    fn an_epoch_for_which_there_is_no_room_is_stored_when_there_is() {
        for full in [Step::Open, Step::Write, Step::Sync, Step::Rename, Step::SyncDirectory] {
            let (mut writer, mut ids) = (EpochWriter::new(PathBuf::from("/data")), Ids::default());
            writer.store(EpochKind::Accepted, 5);
            writer.store(EpochKind::Current, 5);
            let mut refused = 2;
            let told = stored(&mut writer, &mut ids, full, &mut refused);
            assert!(matches!(told[..], [StoreEvent::Trouble(_)]), "{full:?}: {told:?}");
            writer.retry();
            let told = stored(&mut writer, &mut ids, full, &mut refused);
            assert!(told.is_empty() && !writer.is_idle(), "{full:?}: said once, {told:?}");
            writer.retry();
            let told = stored(&mut writer, &mut ids, full, &mut refused);
            let stored_in_order = matches!(
                told[..],
                [
                    StoreEvent::EpochStored { kind: EpochKind::Accepted, epoch: 5, result: Ok(()) },
                    StoreEvent::EpochStored { kind: EpochKind::Current, epoch: 5, result: Ok(()) }
                ]
            );
            assert!(stored_in_order && writer.is_idle(), "{full:?}: {told:?}");
        }
    }

    #[test]
    fn who_leaves_does_not_wait_for_room() {
        let (mut writer, mut ids) = (EpochWriter::new(PathBuf::from("/data")), Ids::default());
        writer.store(EpochKind::Accepted, 5);
        writer.end();
        assert!(!writer.is_idle(), "there may be room");
        stored(&mut writer, &mut ids, Step::Write, &mut 1);
        assert!(!writer.is_idle());
        writer.end();
        assert!(writer.is_idle());
    }
}
