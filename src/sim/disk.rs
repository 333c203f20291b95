//! The disk of one machine, which survives the processes that use it. `storage`'s memory disk, shared between the process and
//! the world that damages it.
//!
//! At a start the process uses it directly (`Disk`), and may be killed in the middle of that: after so many operations
//! nothing works any more. In service the world carries operations out when their time has come.

use std::cell::{Ref, RefCell, RefMut};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ringkeeper_storage::backend::memory::MemoryDisk;
use ringkeeper_storage::disk::{Action, Disk, DiskEvent, DiskOp, FileId};

use super::chance::{Chance, Draw};

/// Writes to one segment that are too young to be damaged. A log cannot tell damage to the last of its batches from a write
/// that was torn by a crash (`docs/STATUS.md`), so this much of its end stays as it is.
const YOUNG_WRITES: usize = 8;

/// How an operation goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing happened.
    Refused,
    /// It happened all the same, and perhaps no flush will ever cover it.
    Lied,
}

#[derive(Debug)]
pub struct Machine {
    pub memory: MemoryDisk,
    /// Operations until the end of the process, while it starts.
    ops_left: Option<u64>,
    pub ops: u64,
    /// The next write, or flush, fails.
    pub fail_write: Option<Failure>,
    pub fail_flush: bool,
    /// Operations that failed because that was decided.
    pub failures: u64,
    /// Names are compared with every write: as bytes, which is much cheaper than as paths.
    names: BTreeMap<FileId, OsString>,
    /// What was written to each segment, oldest first.
    written: BTreeMap<OsString, VecDeque<(u64, u64)>>,
}

#[derive(Clone, Debug)]
pub struct SharedDisk(Rc<RefCell<Machine>>);

impl SharedDisk {
    /// Empty. No two disks draw the same numbers.
    pub fn new(chance: &mut Chance) -> SharedDisk {
        let mut memory = MemoryDisk::default();
        memory.numbers = chance.fork();
        SharedDisk(Rc::new(RefCell::new(Machine {
            memory,
            ops_left: None,
            ops: 0,
            fail_write: None,
            fail_flush: false,
            failures: 0,
            names: BTreeMap::new(),
            written: BTreeMap::new(),
        })))
    }

    pub fn get(&self) -> Ref<'_, Machine> {
        self.0.borrow()
    }

    pub fn get_mut(&self) -> RefMut<'_, Machine> {
        self.0.borrow_mut()
    }
}

impl Machine {
    /// The process that is going to start dies after so many operations.
    pub fn limit_ops(&mut self, ops: Option<u64>) {
        self.ops_left = ops;
    }

    /// Whether that has happened.
    pub fn is_out_of_ops(&self) -> bool {
        self.ops_left == Some(0)
    }

    /// The process is gone. `under_way` did or did not reach the disk, each on its own.
    pub fn end_process(&mut self, under_way: impl Iterator<Item = DiskOp>, power: bool, chance: &mut Chance) {
        for op in under_way {
            match chance.below(3) {
                0 => {}
                1 if !power => drop(self.memory.run(op)),
                _ => self.memory.leave_unflushed(&op),
            }
        }
        if power {
            self.memory.crash(chance);
        } else {
            self.memory.end_process();
        }
        (self.ops_left, self.fail_write, self.fail_flush) = (None, None, false);
        self.names.clear();
    }

    /// Carries an operation out, or fails it if that was decided.
    pub fn perform(&mut self, op: DiskOp) -> DiskEvent {
        self.ops += 1;
        match &op.action {
            Action::Write { .. } | Action::WriteZeroes { .. } => {
                if let Some(failure) = self.fail_write.take() {
                    return self.fail(op, failure);
                }
            }
            Action::Sync { .. } | Action::SyncData { .. } | Action::SyncDirectory { .. } if self.fail_flush => {
                self.fail_flush = false;
                return self.fail(op, Failure::Lied);
            }
            _ => {}
        }
        self.note(&op.action);
        self.memory.run(op)
    }

    fn fail(&mut self, op: DiskOp, failure: Failure) -> DiskEvent {
        self.failures += 1;
        if failure == Failure::Lied {
            self.memory.leave_unflushed(&op);
        }
        let buffer = match op.action {
            Action::Write { buffer, .. } | Action::Read { buffer, .. } => Some(buffer),
            _ => None,
        };
        DiskEvent { id: op.id, result: Err(io::Error::other("the simulated disk fails")), buffer, elapsed_us: 0 }
    }

    fn note(&mut self, action: &Action) {
        match action {
            Action::Open { file, path, .. } => drop(self.names.insert(*file, path.clone().into_os_string())),
            Action::Close { file } => drop(self.names.remove(file)),
            Action::Rename { from, to } => {
                let (from, to) = (from.as_os_str(), to.as_os_str());
                let written = self.written.remove(from);
                self.written.insert(to.to_owned(), written.unwrap_or_default());
                for name in self.names.values_mut().filter(|name| *name == from) {
                    to.clone_into(name);
                }
            }
            Action::Unlink { path } => drop(self.written.remove(path.as_os_str())),
            Action::Write { file, offset, buffer, .. } => {
                let Some(path) = self.names.get(file) else { return };
                // Small files are replaced as a whole.
                if !self.written.contains_key(path) {
                    self.written.insert(path.clone(), VecDeque::new());
                }
                let written = self.written.get_mut(path).expect("there by now");
                written.push_back((*offset, buffer.len() as u64));
                if written.len() > 4096 {
                    written.pop_front();
                }
            }
            _ => {}
        }
    }

    /// Damages one sector of something that was written a while ago: flips bits, or puts another sector's bytes there.
    /// Says what it did.
    pub fn rot(&mut self, misdirected: bool, chance: &mut Chance) -> Option<String> {
        let old: Vec<(PathBuf, u64, u64)> = self
            .written
            .iter()
            .map(|(path, written)| (Path::new(path), written))
            .filter(|(path, _)| self.memory.has(path) && !is_set_aside(path))
            .flat_map(|(path, written)| {
                let young = if path.extension().is_some_and(|kind| kind == "seg") { YOUNG_WRITES } else { 0 };
                let old = written.len().saturating_sub(young);
                let recent = written.iter().skip(old);
                // A place that was written again lately is as young as that.
                let recent: Vec<(u64, u64)> = recent.copied().collect();
                let overlaps = move |(at, len): (u64, u64)| recent.iter().any(|(a, l)| at < a + l && *a < at + len);
                written
                    .iter()
                    .take(old)
                    .copied()
                    .filter(move |place| !overlaps(*place))
                    .map(|(at, len)| (path.to_owned(), at, len))
            })
            .collect();
        if old.is_empty() {
            return None;
        }
        let sector = self.memory.sector_bytes as u64;
        let (path, at, len) = chance.pick(&old).clone();
        let at = at + chance.below(len.div_ceil(sector)) * sector;
        let (from_path, from, _) = chance.pick(&old).clone();
        if misdirected && from_path.with_extension("") == path {
            return None; // NAME.tmp, which was to become NAME: right here, if old, and nobody could tell
        }
        let other = self.memory.bytes(&from_path)?;
        let from = (from as usize).min(other.len());
        let other = other[from..(from + sector as usize).min(other.len())].to_vec();
        let mut told = None;
        self.memory.damage(&path, |bytes| {
            let from = (at as usize).min(bytes.len());
            let to = (from + sector as usize).min(bytes.len());
            let before = bytes[from..to].to_vec();
            if misdirected {
                for (byte, wrong) in bytes[from..to].iter_mut().zip(other) {
                    *byte = wrong;
                }
            } else if from < to {
                for _ in 0..chance.between(1..4) {
                    bytes[from + chance.below((to - from) as u64) as usize] ^= 1 << chance.below(8);
                }
            }
            if bytes[from..to] != before[..] {
                told = Some(format!("{} at byte {from}", path.display()));
            }
        });
        told
    }
}

impl Disk for SharedDisk {
    fn run(&mut self, op: DiskOp) -> DiskEvent {
        let mut machine = self.get_mut();
        match &mut machine.ops_left {
            Some(0) => {
                let buffer = match op.action {
                    Action::Write { buffer, .. } | Action::Read { buffer, .. } => Some(buffer),
                    _ => None,
                };
                return DiskEvent { id: op.id, result: Err(killed()), buffer, elapsed_us: 0 };
            }
            Some(left) => {
                *left -= 1;
                if *left == 0 {
                    // Killed while this one was under way: it may have happened.
                    machine.memory.leave_unflushed(&op);
                    return machine.fail(op, Failure::Refused);
                }
            }
            None => {}
        }
        machine.perform(op)
    }

    fn list(&mut self, directory: &Path) -> io::Result<Vec<(String, u64)>> {
        self.get_mut().memory.list(directory)
    }

    fn draw(&mut self) -> io::Result<u64> {
        self.get_mut().memory.draw()
    }

    fn read(&mut self, file: FileId, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let mut machine = self.get_mut();
        if machine.is_out_of_ops() {
            return Err(killed());
        }
        machine.memory.read(file, offset, bytes)
    }
}

/// Nobody reads it; and in its successor's place it would be that file's older self, which no check tells from the present one.
fn is_set_aside(path: &Path) -> bool {
    path.to_string_lossy().contains(".lost-")
}

fn killed() -> io::Error {
    io::Error::other("the simulated process was killed")
}
