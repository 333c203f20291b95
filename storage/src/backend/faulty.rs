//! A disk that fails on demand, round any disk that answers at once: for tests.
//!
//! Rules are asked about every call, reads and lists included; the first that applies decides. A test so fails "the second
//! flush of a log segment", or each call of a whole life in turn. An operation that hangs is kept back until it is
//! released, and happens then.

use std::collections::BTreeMap;
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use crate::disk::{Action, Buffer, Disk, DiskEvent, DiskOp, FileId, OpId, WriteSync, linked_outcome};

/// What a disk is asked to do, as rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// `Action::name`, "read" or "list"; a flush that is linked to a write is a call of its own, after the write's.
    pub operation: &'static str,
    /// The name its file has now; of a rename, the new one.
    pub path: PathBuf,
    /// Of reads and writes; else 0.
    pub offset: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This error number, and nothing was done.
    Error(i32),
    /// This error number, and yet it was done; what a write wrote is not stable, what a flush was to make stable is not either.
    ErrorAfter(i32),
    /// A write takes only this many bytes.
    Short(usize),
    /// No answer until `release`.
    Hang,
}

/// `fault` for the calls that `applies` knows, but the first `skip` of them.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub applies: fn(&Call) -> bool,
    pub skip: usize,
    /// Afterwards the rule is spent.
    pub times: usize,
    pub fault: Fault,
}

#[derive(Clone, Debug, Default)]
pub struct FaultyDisk<D> {
    disk: D,
    pub rules: Vec<Rule>,
    /// Every call a rule has applied to.
    pub hit: Vec<Call>,
    /// All calls so far.
    pub calls: usize,
    names: BTreeMap<FileId, PathBuf>,
}

/// The disk itself, for what does not go through operations.
impl<D> Deref for FaultyDisk<D> {
    type Target = D;
    fn deref(&self) -> &D {
        &self.disk
    }
}

impl<D> DerefMut for FaultyDisk<D> {
    fn deref_mut(&mut self) -> &mut D {
        &mut self.disk
    }
}

impl<D: Disk> FaultyDisk<D> {
    pub fn new(disk: D) -> FaultyDisk<D> {
        FaultyDisk { disk, rules: Vec::new(), hit: Vec::new(), calls: 0, names: BTreeMap::new() }
    }

    /// The next call that `applies` knows.
    pub fn fail_next(&mut self, applies: fn(&Call) -> bool, fault: Fault) {
        self.rules.push(Rule { applies, skip: 0, times: 1, fault });
    }

    /// The operation, or itself back when it hangs.
    pub fn submit(&mut self, op: DiskOp) -> Result<DiskEvent, DiskOp> {
        let call = self.call(&op.action);
        let linked = matches!(op.action, Action::Write { sync: WriteSync::Linked, .. });
        match self.apply(call.clone()) {
            Some(Fault::Hang) => Err(op),
            None if linked => match self.apply(Call { operation: "flush", ..call }) {
                Some(Fault::Hang) => Err(op),
                Some(Fault::Error(error) | Fault::ErrorAfter(error)) => Ok(self.fail_linked_flush(op, error)),
                _ => Ok(self.perform(op, None)),
            },
            fault => Ok(self.perform(op, fault)),
        }
    }

    /// An operation that hung, at last.
    pub fn release(&mut self, op: DiskOp) -> DiskEvent {
        self.perform(op, None)
    }

    fn call(&self, action: &Action) -> Call {
        let file = |file: &FileId| self.names.get(file).cloned().unwrap_or_default();
        let (path, offset) = match action {
            Action::Open { path, .. } | Action::Unlink { path } | Action::SyncDirectory { path } => (path.clone(), 0),
            Action::Rename { to, .. } => (to.clone(), 0),
            Action::Close { file: of } | Action::Sync { file: of } | Action::SyncData { file: of } => (file(of), 0),
            Action::Allocate { file: of, offset, .. }
            | Action::Write { file: of, offset, .. }
            | Action::Read { file: of, offset, .. }
            | Action::WriteZeroes { file: of, offset, .. } => (file(of), *offset),
        };
        Call { operation: action.name(), path, offset }
    }

    fn fail_linked_flush(&mut self, DiskOp { id, mut action }: DiskOp, error: i32) -> DiskEvent {
        let mut wanted_bytes = 0;
        if let Action::Write { buffer, sync, .. } = &mut action {
            (wanted_bytes, *sync) = (buffer.len() as u64, WriteSync::None);
        }
        let event = self.perform(DiskOp { id, action }, None);
        let flush = Err(io::Error::from_raw_os_error(error));
        DiskEvent { result: linked_outcome(event.result, wanted_bytes, flush), ..event }
    }

    fn apply(&mut self, call: Call) -> Option<Fault> {
        self.calls += 1;
        let mut verdict = None;
        for rule in self.rules.iter_mut().filter(|rule| rule.times > 0 && (rule.applies)(&call)) {
            if rule.skip > 0 {
                rule.skip -= 1;
            } else if verdict.is_none() {
                rule.times -= 1;
                verdict = Some(rule.fault);
            }
        }
        if verdict.is_some() {
            self.hit.push(call);
        }
        verdict
    }

    fn perform(&mut self, op: DiskOp, fault: Option<Fault>) -> DiskEvent {
        let error = |error| Err(io::Error::from_raw_os_error(error));
        let DiskOp { id, action } = op;
        let (action, result) = match (fault, action) {
            (Some(Fault::Error(number)), action) => return answer(id, action, error(number)),
            (
                Some(Fault::ErrorAfter(number)),
                action @ (Action::Sync { .. } | Action::SyncData { .. } | Action::SyncDirectory { .. }),
            ) => return answer(id, action, error(number)),
            (Some(Fault::ErrorAfter(number)), Action::Write { file, offset, buffer, .. }) => {
                (Action::Write { file, offset, buffer, sync: WriteSync::None }, error(number))
            }
            (Some(Fault::ErrorAfter(number)), action) => (action, error(number)),
            (Some(Fault::Short(taken)), Action::Write { file, offset, buffer, sync }) => {
                let mut some = Buffer::with_capacity(taken);
                some.extend_from_slice(&buffer[..taken.min(buffer.len())]);
                // What was linked to it is cancelled.
                let sync = if sync == WriteSync::Linked { WriteSync::None } else { sync };
                let event = self.disk.run(DiskOp { id, action: Action::Write { file, offset, buffer: some, sync } });
                return DiskEvent { buffer: Some(buffer), ..event };
            }
            (_, action) => (action, Ok(0)),
        };
        let renamed = if let Action::Rename { from, to } = &action { Some((from.clone(), to.clone())) } else { None };
        let opened = if let Action::Open { file, path, .. } = &action { Some((*file, path.clone())) } else { None };
        let event = self.disk.run(DiskOp { id, action });
        if event.result.is_ok() {
            self.names.extend(opened);
            if let Some((from, to)) = renamed {
                self.names.values_mut().filter(|path| **path == from).for_each(|path| path.clone_from(&to));
            }
        }
        let result = result.and(event.result);
        DiskEvent { result, ..event }
    }
}

fn answer(id: OpId, action: Action, result: io::Result<u64>) -> DiskEvent {
    DiskEvent { id, result, buffer: action.into_buffer(), elapsed_us: 0 }
}

impl<D: Disk> Disk for FaultyDisk<D> {
    /// What hangs is over at once here: nobody can do anything else meanwhile.
    fn run(&mut self, op: DiskOp) -> DiskEvent {
        self.submit(op).unwrap_or_else(|op| self.release(op))
    }

    fn list(&mut self, directory: &Path) -> io::Result<Vec<(String, u64)>> {
        match self.apply(Call { operation: "list", path: directory.to_owned(), offset: 0 }) {
            Some(Fault::Error(error) | Fault::ErrorAfter(error)) => Err(io::Error::from_raw_os_error(error)),
            _ => self.disk.list(directory),
        }
    }

    fn draw(&mut self) -> io::Result<u64> {
        self.disk.draw()
    }

    fn read(&mut self, file: FileId, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let path = self.names.get(&file).cloned().unwrap_or_default();
        match self.apply(Call { operation: "read", path, offset }) {
            Some(Fault::Error(error) | Fault::ErrorAfter(error)) => Err(io::Error::from_raw_os_error(error)),
            _ => self.disk.read(file, offset, bytes),
        }
    }
}
