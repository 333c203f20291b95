//! A disk in memory that keeps its promises and not one bit more: for tests and simulation.
//!
//! What was written but not flushed is there for readers, and a power cut decides about each piece of it on its own: each
//! sector is as it was when it was last flushed, or as any write since then left it; a file is as long as it was then, or
//! as anything since made it; each change of a name happened or not (`NameOrder`). Whether the page cache or the disk's own
//! cache held it makes no difference to that. A durable write makes its own sectors stable and nothing else but the
//! file's length; a flush makes the whole file stable, but not its name.
//!
//! `cut_power` asks for each decision, so chance can make them (`crash`), or a test goes through all of them. Space can run out.
//! Operations that fail or hang: `backend/faulty.rs`.

mod content;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{Access, Action, Disk, DiskEvent, DiskOp, FileId, WriteSync};
use content::Content;

/// What most disks write as a whole or not at all.
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

/// What a power cut may leave of changes to names that no directory flush covered. A rename is one change: no crash shows
/// half of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameOrder {
    /// Any of them, those that are left in their order: more than any journaling file system allows.
    #[default]
    AnySubset,
    /// The first so many: a journal (ext4, XFS, btrfs).
    Prefix,
}

#[derive(Clone, Debug)]
enum NameChange {
    Link {
        path: PathBuf,
        content: usize,
    },
    Unlink {
        path: PathBuf,
    },
    /// What moves is the file: of an older one whose name was `from` on the disk nothing is left.
    Rename {
        from: PathBuf,
        to: PathBuf,
        content: usize,
    },
}

/// Paths as bytes, which are compared much faster than piece by piece.
type Names = BTreeMap<OsString, usize>;

#[derive(Clone, Debug)]
pub struct MemoryDisk {
    contents: Vec<Content>,
    names: Names,
    stable_names: Names,
    unflushed_names: Vec<NameChange>,
    open: BTreeMap<FileId, usize>,
    /// Of the open ones: opened with `Access::WriteDsync`.
    dsync: BTreeSet<FileId>,
    /// What is written as a whole or not at all.
    pub sector_bytes: usize,
    pub name_order: NameOrder,
    /// Bytes the whole disk may hold. None: without end.
    pub capacity_bytes: Option<u64>,
    /// What `Disk::draw` draws from: another seed for what is to be another server's.
    pub numbers: Chance,
}

impl Default for MemoryDisk {
    fn default() -> MemoryDisk {
        MemoryDisk {
            contents: Vec::new(),
            names: BTreeMap::new(),
            stable_names: BTreeMap::new(),
            unflushed_names: Vec::new(),
            open: BTreeMap::new(),
            dsync: BTreeSet::new(),
            sector_bytes: SECTOR_BYTES,
            name_order: NameOrder::default(),
            capacity_bytes: None,
            numbers: Chance(0),
        }
    }
}

impl MemoryDisk {
    /// The process ends, the machine stays up: everything written is there.
    pub fn end_process(&mut self) {
        self.open.clear();
        self.dsync.clear();
    }

    /// Power fails, and chance decides.
    pub fn crash(&mut self, chance: &mut Chance) {
        // Often what was written first got there and the rest did not, sometimes anything.
        let decisions = self.decisions().len() as u64;
        let mut prefix = chance.coin().then(|| chance.below(decisions + 1));
        self.cut_power(|ways| match &mut prefix {
            Some(0) => 0,
            Some(left) => {
                *left -= 1;
                ways - 1
            }
            None => chance.below(ways as u64) as usize,
        });
    }

    /// Power fails. `choose` is asked once for each piece that no flush covered, with the number of ways it can go: 0 is as it
    /// was when it was last flushed, the last is as it was made last.
    pub fn cut_power(&mut self, mut choose: impl FnMut(usize) -> usize) {
        let changes = std::mem::take(&mut self.unflushed_names);
        let kept: Vec<bool> = match self.name_order {
            NameOrder::AnySubset => changes.iter().map(|_| choose(2) == 1).collect(),
            NameOrder::Prefix if changes.is_empty() => Vec::new(),
            NameOrder::Prefix => {
                let count = choose(changes.len() + 1);
                (0..changes.len()).map(|index| index < count).collect()
            }
        };
        for (change, _) in changes.iter().zip(kept).filter(|(_, kept)| *kept) {
            change.apply(&mut self.stable_names);
        }
        self.end_process();
        for content in &mut self.contents {
            content.cut_power(&mut choose);
        }
        self.names = self.stable_names.clone();
        for (index, content) in self.contents.iter_mut().enumerate() {
            if !self.names.values().any(|named| *named == index) {
                *content = Content::default(); // nobody will ever find it
            }
        }
    }

    /// What `cut_power` would ask for now: the number of ways of each decision.
    pub fn decisions(&self) -> Vec<usize> {
        let names = match (self.name_order, self.unflushed_names.len()) {
            (NameOrder::AnySubset, changes) => vec![2; changes],
            (NameOrder::Prefix, 0) => Vec::new(),
            (NameOrder::Prefix, changes) => vec![changes + 1],
        };
        names.into_iter().chain(self.contents.iter().flat_map(Content::decisions)).collect()
    }

    /// An operation that was under way when everything stopped: it happened, and no flush covers it. A flush that was under way
    /// made nothing certain.
    pub fn leave_unflushed(&mut self, op: &DiskOp) {
        match &op.action {
            Action::Write { file, offset, buffer, .. } => drop(self.write(*file, *offset, buffer, false)),
            Action::Read { .. } | Action::Sync { .. } | Action::SyncData { .. } | Action::SyncDirectory { .. } => {}
            action => drop(self.perform(action)),
        }
    }

    /// A flush failed, and the kernel forgot what it could not write: readers still see it, no later flush brings it to the disk.
    pub fn lose_unflushed(&mut self) {
        for content in &mut self.contents {
            content.lose_unflushed();
        }
    }

    /// The bytes behind a name, as readers see them.
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        Some(self.contents[*self.names.get(path.as_os_str())?].to_vec())
    }

    pub fn has(&self, path: &Path) -> bool {
        self.names.contains_key(path.as_os_str())
    }

    /// Changes what a file holds, behind everybody's back and for good. False when there is no such file.
    pub fn damage(&mut self, path: &Path, how: impl FnOnce(&mut Vec<u8>)) -> bool {
        let Some(content) = self.names.get(path.as_os_str()).map(|content| &mut self.contents[*content]) else {
            return false;
        };
        let mut bytes = content.to_vec();
        how(&mut bytes);
        *content = Content::stable(bytes);
        true
    }

    /// Puts a file there, behind everybody's back and for good.
    pub fn put(&mut self, path: &Path, bytes: Vec<u8>) {
        self.contents.push(Content::stable(bytes));
        for names in [&mut self.names, &mut self.stable_names] {
            names.insert(path.into(), self.contents.len() - 1);
        }
    }

    /// Takes a file away, behind everybody's back and for good. False when there is no such file.
    pub fn remove(&mut self, path: &Path) -> bool {
        self.stable_names.remove(path.as_os_str());
        self.names.remove(path.as_os_str()).is_some()
    }

    pub fn used_bytes(&self) -> u64 {
        self.names.values().map(|content| self.contents[*content].len() as u64).sum()
    }

    pub fn open_files(&self) -> usize {
        self.open.len()
    }

    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.names.keys().map(Path::new)
    }

    fn perform(&mut self, action: &Action) -> io::Result<u64> {
        match action {
            Action::Open { file, path, access, .. } => self.open(*file, path, *access),
            Action::Close { file } => self.open.remove(file).map(|_| 0).ok_or_else(bad_file),
            Action::Allocate { file, offset, bytes } => {
                let end = (offset + bytes) as usize;
                self.check_space(*file, end)?;
                self.content(*file)?.grow(end);
                Ok(0)
            }
            Action::Write { file, offset, buffer, sync } => {
                let durable = *sync == WriteSync::Dsync || self.dsync.contains(file);
                let written = self.write(*file, *offset, buffer, durable)?;
                if *sync == WriteSync::Linked {
                    self.content(*file)?.flush();
                }
                Ok(written)
            }
            Action::WriteZeroes { file, offset, bytes } => {
                self.check_space(*file, (*offset + *bytes) as usize)?;
                let sector_bytes = self.sector_bytes;
                self.content(*file)?.write_zeroes(sector_bytes, *offset as usize, *bytes as usize);
                Ok(*bytes)
            }
            Action::Sync { file } | Action::SyncData { file } => {
                self.content(*file)?.flush();
                Ok(0)
            }
            Action::Read { .. } => unreachable!("answered in `run`"),
            Action::Rename { from, to } => {
                let content = *self.names.get(from.as_os_str()).ok_or(io::ErrorKind::NotFound)?;
                self.change_name(NameChange::Rename { from: from.clone(), to: to.clone(), content })
            }
            Action::Unlink { path } => self.change_name(NameChange::Unlink { path: path.clone() }),
            Action::SyncDirectory { path } => {
                for change in self
                    .unflushed_names
                    .extract_if(.., |change| change.directory().is_some_and(|directory| directory.as_os_str() == path))
                {
                    change.apply(&mut self.stable_names);
                }
                Ok(0)
            }
        }
    }

    fn open(&mut self, file: FileId, path: &Path, access: Access) -> io::Result<u64> {
        let known = self.names.get(path.as_os_str()).copied();
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

    fn write(&mut self, file: FileId, offset: u64, bytes: &[u8], durable: bool) -> io::Result<u64> {
        self.check_space(file, offset as usize + bytes.len())?;
        let sector_bytes = self.sector_bytes;
        let content = self.content(file)?;
        if durable {
            content.write_durable(sector_bytes, offset as usize, bytes);
        } else {
            content.write(sector_bytes, offset as usize, bytes);
        }
        Ok(bytes.len() as u64)
    }

    fn check_space(&mut self, file: FileId, end: usize) -> io::Result<()> {
        let grows = end.saturating_sub(self.content(file)?.len()) as u64;
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
            Action::Read { file, offset, buffer } => self.read(*file, *offset, buffer).map(|bytes| {
                buffer.resize(bytes);
                bytes as u64
            }),
            action => self.perform(action),
        };
        DiskEvent { id: op.id, result, buffer: op.action.into_buffer(), elapsed_us: 0 }
    }

    fn list(&mut self, directory: &Path) -> io::Result<Vec<(String, u64)>> {
        let paths = self.names.iter().map(|(path, content)| (Path::new(path), content));
        let here = paths.filter(|(path, _)| path.parent() == Some(directory));
        let bytes = |content: &usize| self.contents[*content].len() as u64;
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        Ok(here.filter_map(|(path, content)| Some((name(path)?, bytes(content)))).collect())
    }

    /// Always the same from the same seed.
    fn draw(&mut self) -> io::Result<u64> {
        Ok(self.numbers.draw())
    }

    fn read(&mut self, file: FileId, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        Ok(self.content(file)?.read(offset as usize, bytes))
    }
}

impl NameChange {
    /// False when there is nothing of that name.
    fn apply(&self, names: &mut Names) -> bool {
        match self {
            NameChange::Link { path, content } => {
                names.insert(path.into(), *content);
                true
            }
            NameChange::Unlink { path } => names.remove(path.as_os_str()).is_some(),
            NameChange::Rename { from, to, content } => {
                names.remove(from.as_os_str());
                names.insert(to.into(), *content);
                true
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

fn bad_file() -> io::Error {
    io::Error::other("no such open file")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Buffer, Ids, Owner};

    struct Bench {
        disk: MemoryDisk,
        ids: Ids,
    }

    impl Bench {
        fn new() -> Bench {
            Bench { disk: MemoryDisk::default(), ids: Ids::default() }
        }

        fn run(&mut self, action: Action) {
            self.disk.run(DiskOp { id: self.ids.operation(Owner::Start), action }).result.unwrap();
        }

        fn create(&mut self, name: &str) -> FileId {
            let file = self.ids.file();
            self.run(Action::Open { file, path: path(name), access: Access::Create, direct: true });
            file
        }

        fn write(&mut self, file: FileId, offset: u64, byte: u8, sync: WriteSync) {
            let mut buffer = Buffer::with_capacity(SECTOR_BYTES);
            buffer.extend_from_slice(&[byte; SECTOR_BYTES]);
            self.run(Action::Write { file, offset, buffer, sync });
        }

        /// What `name` can look like after a power cut: the first byte of each sector.
        fn outcomes(&self, name: &str) -> Vec<Option<Vec<u8>>> {
            let ways = self.disk.decisions();
            let mut outcomes: Vec<_> = (0..ways.iter().product::<usize>())
                .map(|mut number| {
                    let mut disk = self.disk.clone();
                    disk.cut_power(|ways| {
                        let choice = number % ways;
                        number /= ways;
                        choice
                    });
                    disk.bytes(&path(name)).map(|bytes| bytes.iter().step_by(SECTOR_BYTES).copied().collect())
                })
                .collect();
            outcomes.sort();
            outcomes.dedup();
            outcomes
        }
    }

    fn path(name: &str) -> PathBuf {
        Path::new("/d").join(name)
    }

    #[test]
    fn each_sector_is_as_some_write_left_it_and_what_is_flushed_stays() {
        let mut bench = Bench::new();
        let file = bench.create("a");
        bench.run(Action::Allocate { file, offset: 0, bytes: 2 * SECTOR_BYTES as u64 });
        bench.run(Action::SyncDirectory { path: PathBuf::from("/d") });
        assert_eq!(bench.outcomes("a"), [Some(vec![]), Some(vec![0, 0])]);
        bench.write(file, 0, 1, WriteSync::Dsync);
        assert_eq!(bench.outcomes("a"), [Some(vec![1, 0])], "a durable write takes the length with it");
        bench.write(file, 0, 2, WriteSync::None);
        bench.write(file, 0, 3, WriteSync::None);
        bench.write(file, 512, 4, WriteSync::None);
        let all = [[1, 0], [1, 4], [2, 0], [2, 4], [3, 0], [3, 4]].map(|bytes| Some(bytes.to_vec()));
        assert_eq!(bench.outcomes("a"), all);
        bench.write(file, 512, 5, WriteSync::Dsync);
        assert_eq!(bench.outcomes("a"), [[1, 5], [2, 5], [3, 5]].map(|bytes| Some(bytes.to_vec())));
        bench.run(Action::SyncData { file });
        assert_eq!(bench.outcomes("a"), [Some(vec![3, 5])]);
        bench.write(file, 0, 6, WriteSync::None);
        bench.write(file, 512, 7, WriteSync::Linked);
        assert_eq!(bench.outcomes("a"), [Some(vec![6, 7])], "a linked flush is one of the file");
        bench.write(file, 0, 9, WriteSync::None);
        bench.disk.lose_unflushed();
        assert_eq!(bench.disk.bytes(&path("a")).unwrap()[0], 9, "seen, and never stable");
        bench.run(Action::Sync { file });
        bench.write(file, 512, 7, WriteSync::None);
        assert_eq!(bench.disk.decisions(), [0; 0], "the same bytes over again decide nothing");
    }

    #[test]
    fn names_are_certain_only_after_their_directory_was_flushed() {
        let mut bench = Bench::new();
        let file = bench.create("a");
        bench.write(file, 0, 1, WriteSync::Dsync);
        assert_eq!(bench.outcomes("a"), [None, Some(vec![1])]);
        bench.run(Action::Rename { from: path("a"), to: path("b") });
        assert_eq!(bench.outcomes("b"), [None, Some(vec![1])]);
        assert_eq!(bench.disk.decisions(), [2, 2]);
        bench.run(Action::SyncDirectory { path: PathBuf::from("/d") });
        bench.run(Action::Rename { from: path("b"), to: path("c") });
        bench.run(Action::Unlink { path: path("c") });
        assert_eq!(bench.outcomes("b"), [None, Some(vec![1])]);
        assert_eq!(bench.outcomes("c"), [None, Some(vec![1])]);
        assert_eq!(bench.disk.decisions(), [2, 2]);
        bench.disk.name_order = NameOrder::Prefix;
        assert_eq!(bench.disk.decisions(), [3]);
    }

    #[test]
    fn a_rename_moves_the_file_and_not_whatever_has_its_name_on_the_disk() {
        let mut bench = Bench::new();
        let stale = bench.create("a.tmp");
        bench.write(stale, 0, 1, WriteSync::Dsync);
        bench.run(Action::SyncDirectory { path: PathBuf::from("/d") });
        let file = bench.create("a.tmp");
        bench.write(file, 0, 2, WriteSync::Dsync);
        bench.run(Action::Rename { from: path("a.tmp"), to: path("a") });
        assert_eq!(bench.outcomes("a"), [None, Some(vec![2])]);
        assert_eq!(bench.outcomes("a.tmp"), [None, Some(vec![1]), Some(vec![2])]);
    }
}
