//! A disk in memory that keeps its promises and not one bit more: for tests and simulation.
//!
//! What was written but not flushed is there for readers, and after `crash` each of its sectors is there or is not, as chance
//! has it; so is each change of a name that no directory flush covered. Operations can be held back and completed in any
//! order, or be torn by the crash. Space can run out, and any operation can be made to fail.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{Access, Action, Disk, DiskEvent, DiskOp, FileId, WriteSync, linked_outcome};

/// What a disk writes as a whole or not at all.
pub const SECTOR_BYTES: usize = 512;

/// Chance from a seed (splitmix64): the same seed, the same disk.
#[derive(Clone, Debug)]
pub struct Chance(pub u64);

impl Chance {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    pub fn coin(&mut self) -> bool {
        self.draw() & 1 == 1
    }
}

#[derive(Clone, Debug, Default)]
struct Content {
    /// As readers see it.
    current: Vec<u8>,
    /// As a power cut leaves it, but for the dirty sectors.
    stable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Link { path: PathBuf, content: usize },
    Unlink { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf },
}

#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    contents: Vec<Content>,
    names: BTreeMap<PathBuf, usize>,
    stable_names: BTreeMap<PathBuf, usize>,
    unflushed_names: Vec<NameChange>,
    open: BTreeMap<FileId, usize>,
    /// Of the open ones: opened with `Access::WriteDsync`.
    dsync: BTreeSet<FileId>,
    /// Bytes the whole disk may hold. None: without end.
    pub capacity_bytes: Option<u64>,
    /// The next operation of this name (`Action::name`) fails with this error number.
    pub fail_next: Option<(&'static str, i32)>,
    /// The next write takes only this many bytes.
    pub short_write_next: Option<usize>,
}

impl MemoryDisk {
    /// The process ends, the machine stays up: everything written is there.
    pub fn end_process(&mut self) {
        self.open.clear();
    }

    /// Power fails: what was not flushed is there or not, sector by sector and name by name.
    pub fn crash(&mut self, chance: &mut Chance) {
        for change in std::mem::take(&mut self.unflushed_names) {
            if chance.coin() {
                change.apply(&mut self.stable_names);
            }
        }
        self.names = self.stable_names.clone();
        self.open.clear();
        for content in &mut self.contents {
            for sector in std::mem::take(&mut content.dirty) {
                if chance.coin() {
                    content.make_stable(sector);
                }
            }
            content.current = content.stable.clone();
        }
    }

    /// A write that was under way when the power failed: call before `crash`.
    pub fn tear(&mut self, op: &DiskOp, chance: &mut Chance) {
        let Action::Write { file, offset, buffer, .. } = &op.action else {
            return;
        };
        let Some(content) = self.open.get(file).map(|content| &mut self.contents[*content]) else {
            return;
        };
        content.write(*offset as usize, buffer);
        content.make_durable_by_chance(*offset as usize, buffer.len(), chance);
    }

    /// A write that was under way when only the process ended: it is there for readers, and no flush covered it.
    pub fn leave_unflushed(&mut self, op: &DiskOp) {
        let Action::Write { file, offset, buffer, .. } = &op.action else { return };
        if let Some(content) = self.open.get(file) {
            self.contents[*content].write(*offset as usize, buffer);
        }
    }

    /// The bytes behind a name, as readers see them.
    pub fn bytes(&self, path: &Path) -> Option<&[u8]> {
        Some(&self.contents[*self.names.get(path)?].current)
    }

    /// Changes what a file holds, behind everybody's back and for good. False when there is no such file.
    pub fn damage(&mut self, path: &Path, how: impl FnOnce(&mut Vec<u8>)) -> bool {
        let Some(content) = self.names.get(path).map(|content| &mut self.contents[*content]) else { return false };
        how(&mut content.current);
        content.stable.clone_from(&content.current);
        content.dirty.clear();
        true
    }

    pub fn used_bytes(&self) -> u64 {
        self.names.values().map(|content| self.contents[*content].current.len() as u64).sum()
    }

    pub fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.names.keys()
    }

    fn perform(&mut self, action: &Action) -> io::Result<u64> {
        self.fail_if_asked(action.name())?;
        match action {
            Action::Open { file, path, access, .. } => self.open(*file, path, *access),
            Action::Close { file } => self.open.remove(file).map(|_| 0).ok_or_else(bad_file),
            Action::Allocate { file, offset, bytes } => {
                let end = (offset + bytes) as usize;
                self.check_space(*file, end)?;
                let content = self.content(*file)?;
                if content.current.len() < end {
                    content.current.resize(end, 0);
                    content.dirty.insert(end.div_ceil(SECTOR_BYTES) - 1);
                }
                Ok(0)
            }
            Action::Write { file, offset, buffer, sync } => {
                let taken = self.short_write_next.take().unwrap_or(buffer.len()).min(buffer.len());
                let durable = *sync == WriteSync::Dsync || self.dsync.contains(file);
                let written = self.write(*file, *offset, &buffer[..taken], durable)?;
                if *sync != WriteSync::Linked || taken < buffer.len() {
                    return Ok(written);
                }
                let flushed = self.fail_if_asked("flush").and_then(|()| self.sync(*file));
                linked_outcome(Ok(written), buffer.len() as u64, flushed)
            }
            Action::WriteZeroes { file, offset, bytes } => self.write(*file, *offset, &vec![0; *bytes as usize], false),
            Action::Sync { file } | Action::SyncData { file } => self.sync(*file),
            Action::Read { .. } => unreachable!("answered in `run`"),
            Action::Rename { from, to } => self.change_name(NameChange::Rename { from: from.clone(), to: to.clone() }),
            Action::Unlink { path } => self.change_name(NameChange::Unlink { path: path.clone() }),
            Action::SyncDirectory { path } => {
                self.stable_names.retain(|name, _| name.parent() != Some(path));
                let here = self.names.iter().filter(|(name, _)| name.parent() == Some(path));
                self.stable_names.extend(here.map(|(name, content)| (name.clone(), *content)));
                self.unflushed_names.retain(|change| change.directory() != Some(path));
                Ok(0)
            }
        }
    }

    fn open(&mut self, file: FileId, path: &Path, access: Access) -> io::Result<u64> {
        let known = self.names.get(path).copied();
        let content = match (access, known) {
            (Access::Create, _) => {
                self.contents.push(Content::default());
                let content = self.contents.len() - 1;
                self.change_name(NameChange::Link { path: path.to_owned(), content })?;
                content
            }
            (_, Some(content)) => content,
            (_, None) => return Err(io::ErrorKind::NotFound.into()),
        };
        assert!(self.open.insert(file, content).is_none(), "a file number is used once");
        if access == Access::WriteDsync {
            self.dsync.insert(file);
        }
        Ok(0)
    }

    fn fail_if_asked(&mut self, operation: &str) -> io::Result<()> {
        match self.fail_next.take_if(|(name, _)| *name == operation) {
            Some((_, error)) => Err(io::Error::from_raw_os_error(error)),
            None => Ok(()),
        }
    }

    fn sync(&mut self, file: FileId) -> io::Result<u64> {
        let content = self.content(file)?;
        content.stable.clone_from(&content.current);
        content.dirty.clear();
        Ok(0)
    }

    fn write(&mut self, file: FileId, offset: u64, bytes: &[u8], durable: bool) -> io::Result<u64> {
        self.check_space(file, offset as usize + bytes.len())?;
        let content = self.content(file)?;
        content.write(offset as usize, bytes);
        if durable {
            for sector in sectors(offset as usize, bytes.len()) {
                content.make_stable(sector);
                content.dirty.remove(&sector);
            }
        }
        Ok(bytes.len() as u64)
    }

    fn check_space(&mut self, file: FileId, end: usize) -> io::Result<()> {
        let grows = end.saturating_sub(self.content(file)?.current.len()) as u64;
        match self.capacity_bytes {
            Some(capacity) if grows > 0 && self.used_bytes() + grows > capacity => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    fn change_name(&mut self, change: NameChange) -> io::Result<u64> {
        if !change.apply(&mut self.names) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.unflushed_names.push(change);
        Ok(0)
    }

    fn content(&mut self, file: FileId) -> io::Result<&mut Content> {
        let content = *self.open.get(&file).ok_or_else(bad_file)?;
        Ok(&mut self.contents[content])
    }
}

impl Disk for MemoryDisk {
    fn run(&mut self, mut op: DiskOp) -> DiskEvent {
        let result = match &mut op.action {
            Action::Read { file, offset, buffer } => {
                self.fail_if_asked("read").and_then(|()| self.read(*file, *offset, buffer)).map(|bytes| {
                    buffer.resize(bytes);
                    bytes as u64
                })
            }
            action => self.perform(action),
        };
        let buffer = match op.action {
            Action::Write { buffer, .. } | Action::Read { buffer, .. } => Some(buffer),
            _ => None,
        };
        DiskEvent { id: op.id, result, buffer, elapsed_us: 0 }
    }

    fn list(&mut self, directory: &Path) -> io::Result<Vec<(String, u64)>> {
        let here = self.names.iter().filter(|(name, _)| name.parent() == Some(directory));
        let bytes = |content: &usize| self.contents[*content].current.len() as u64;
        let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
        Ok(here.filter_map(|(path, content)| Some((name(path)?, bytes(content)))).collect())
    }

    fn read(&mut self, file: FileId, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let content = self.content(file)?;
        let from = (offset as usize).min(content.current.len());
        let count = bytes.len().min(content.current.len() - from);
        bytes[..count].copy_from_slice(&content.current[from..from + count]);
        Ok(count)
    }
}

impl Content {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.current.len() < end {
            self.current.resize(end, 0);
        }
        self.current[offset..end].copy_from_slice(bytes);
        self.dirty.extend(sectors(offset, bytes.len()));
    }

    fn make_stable(&mut self, sector: usize) {
        let from = (sector * SECTOR_BYTES).min(self.current.len());
        let to = (from + SECTOR_BYTES).min(self.current.len());
        if self.stable.len() < to {
            self.stable.resize(to, 0);
        }
        self.stable[from..to].copy_from_slice(&self.current[from..to]);
    }

    fn make_durable_by_chance(&mut self, offset: usize, bytes: usize, chance: &mut Chance) {
        // Often a prefix got there, sometimes anything.
        let prefix = chance.coin().then(|| chance.below(sectors(offset, bytes).count() as u64 + 1) as usize);
        for (index, sector) in sectors(offset, bytes).enumerate() {
            if prefix.map_or_else(|| chance.coin(), |prefix| index < prefix) {
                self.make_stable(sector);
            }
            self.dirty.remove(&sector);
        }
    }
}

impl NameChange {
    /// False when there is nothing of that name.
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) -> bool {
        match self {
            NameChange::Link { path, content } => {
                names.insert(path.clone(), *content);
                true
            }
            NameChange::Unlink { path } => names.remove(path).is_some(),
            NameChange::Rename { from, to } => {
                names.remove(from).map(|content| names.insert(to.clone(), content)).is_some()
            }
        }
    }

    fn directory(&self) -> Option<&Path> {
        match self {
            NameChange::Link { path, .. } | NameChange::Unlink { path } => path.parent(),
            NameChange::Rename { to, .. } => to.parent(),
        }
    }
}

fn sectors(offset: usize, bytes: usize) -> std::ops::Range<usize> {
    offset / SECTOR_BYTES..(offset + bytes).div_ceil(SECTOR_BYTES)
}

fn bad_file() -> io::Error {
    io::Error::other("no such open file")
}
