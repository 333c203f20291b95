//! A whole directory: which snapshot, which logs, in which order, and what must not be passed over in silence.
//!
//! From the newest snapshot that can be read, everything in the logs behind it. Java goes on with the next file wherever one
//! ends. Here
//!
//! * transactions follow each other without a gap (or begin a later epoch with 1), and a file without any has a name that follows;
//! * a file that ends in a torn record is the newest, or the next one goes on with exactly the transaction that was torn, or
//!   begins an epoch: whoever leads it had sent that transaction again if anybody had been told of it;
//! * a state from an older snapshot, because the newer ones are damaged, reaches at least as far as they did.
//!
//! Whoever wants the data anyway says [`Strictness::Forced`]: then each of these becomes a note.
//! Java: `FileTxnSnapLog.restore`. Spec: on-disk formats 7.1, 7.4.

use std::path::{Path, PathBuf};

use super::epochs::{self, Epochs};
use super::file::Source;
use super::names::{self, Compression, Name};
use super::snap::{SnapHead, SnapReader};
use super::txn_log::{self, Damaged, End, Stop};
use super::{DIRECTORY, JavaError};
use crate::Zxid;
use crate::backend::blocking::{BlockingDisk, same_directory};
use crate::disk::{Disk, Ids};
use crate::error::StoreError;

/// How many snapshots are tried, newest first. Java: `FileSnap.deserialize`.
const SNAPSHOTS_TRIED: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    Strict,
    /// Take what can be read, and say what could not.
    Forced,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    pub zxid: Zxid,
    pub path: PathBuf,
    pub bytes: u64,
    pub packing: Compression,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    pub first: Zxid,
    pub path: PathBuf,
    pub bytes: u64,
}

/// What was replayed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogReport {
    pub last: Zxid,
    pub records: u64,
    /// One sentence each.
    pub notes: Vec<String>,
}

/// The newest snapshot that could be loaded.
#[derive(Debug)]
pub struct Newest<T> {
    pub loaded: T,
    pub file: SnapshotFile,
    /// Newer ones that are damaged.
    pub passed_over: Vec<(Zxid, JavaError)>,
}

/// The files of a Java server, newest snapshot first, oldest log first.
#[derive(Debug)]
pub struct JavaDirectory<D: Disk = BlockingDisk> {
    disk: D,
    ids: Ids,
    /// Where snapshots and epochs lie.
    path: PathBuf,
    snapshots: Vec<SnapshotFile>,
    logs: Vec<LogFile>,
}

impl<D: Disk> JavaDirectory<D> {
    pub fn open(disk: D, data_dir: &Path, log_dir: &Path) -> Result<JavaDirectory<D>, JavaError> {
        JavaDirectory::open_at(disk, data_dir.join(DIRECTORY), &log_dir.join(DIRECTORY))
    }

    /// The same by the paths of the two directories themselves, whatever they are called.
    pub fn open_at(mut disk: D, snap_path: PathBuf, log_path: &Path) -> Result<JavaDirectory<D>, JavaError> {
        let mut list = |path: &Path| {
            disk.list(path).map_err(|source| StoreError::Io { path: path.to_owned(), operation: "list", source })
        };
        let is_one = same_directory(&snap_path, log_path);
        let log_path = if is_one { snap_path.as_path() } else { log_path };
        let (in_snap, in_log) = (list(&snap_path)?, if is_one { vec![] } else { list(log_path)? });
        let (mut snapshots, mut logs) = (vec![], vec![]);
        let of_snap = in_snap.into_iter().map(|file| (snap_path.as_path(), file));
        for (path, (name, bytes)) in of_snap.chain(in_log.into_iter().map(|file| (log_path, file))) {
            match names::parse(&name) {
                None => {}
                Some(Name::Log(first)) if path == log_path => {
                    logs.push(LogFile { first, path: path.join(name), bytes })
                }
                Some(Name::Snapshot(zxid, packing)) if path == snap_path => {
                    snapshots.push(SnapshotFile { zxid, path: path.join(name), bytes, packing });
                }
                Some(_) => return Err(JavaError::Misplaced { path: path.to_owned(), name }),
            }
        }
        snapshots.sort_unstable_by(|a, b| (b.zxid, &b.path).cmp(&(a.zxid, &a.path)));
        logs.sort_unstable_by(|a, b| (a.first, &a.path).cmp(&(b.first, &b.path)));
        Ok(JavaDirectory { disk, ids: Ids::default(), path: snap_path, snapshots, logs })
    }

    /// No data: a server that never ran here, or one that has only its epochs.
    pub fn is_empty(&self) -> bool {
        self.snapshots.is_empty() && self.logs.is_empty()
    }

    pub fn snapshots(&self) -> &[SnapshotFile] {
        &self.snapshots
    }

    pub fn logs(&self) -> &[LogFile] {
        &self.logs
    }

    /// Tries the snapshots, newest first, with `load`; those that are damaged are passed over and returned with the result.
    pub fn newest_snapshot<T>(
        &mut self,
        mut load: impl FnMut(&SnapshotFile, SnapHead, SnapReader<'_>) -> Result<T, JavaError>,
    ) -> Result<Newest<T>, JavaError> {
        if self.snapshots.is_empty() {
            return Err(JavaError::LogsOnly { path: self.path.clone() });
        }
        let mut passed_over = Vec::new();
        for index in 0..self.snapshots.len().min(SNAPSHOTS_TRIED) {
            let file = self.snapshots[index].clone();
            let loaded = self.read_snapshot(index).and_then(|(head, reader)| load(&file, head, reader));
            match loaded {
                Ok(loaded) => return Ok(Newest { loaded, file, passed_over }),
                Err(error) if error.is_damaged_snapshot() => passed_over.push((file.zxid, error)),
                Err(error) => return Err(error),
            }
        }
        let count = passed_over.len();
        let newest = Box::new(passed_over.swap_remove(0).1);
        Err(JavaError::NoSnapshotUsable { count, newest })
    }

    /// The snapshot of this index in [`JavaDirectory::snapshots`].
    pub fn read_snapshot(&mut self, index: usize) -> Result<(SnapHead, SnapReader<'_>), JavaError> {
        let SnapshotFile { path, bytes, packing, .. } = self.snapshots[index].clone();
        let source = Source::open(&mut self.disk, &mut self.ids, &path, bytes)?;
        SnapReader::open(path, source, packing)
    }

    /// Hands over every transaction behind `from`, in order, with its entry as the log has it.
    pub fn replay(
        &mut self,
        from: Zxid,
        strictness: Strictness,
        mut take: impl FnMut(Zxid, &[u8]) -> Result<(), JavaError>,
    ) -> Result<LogReport, JavaError> {
        let report = LogReport { last: from, records: 0, notes: vec![] };
        let mut replay = Replay { strictness, report, torn: None, repeated_errors: 0 };
        let begin = self.logs.iter().rposition(|log| log.first <= next(from)).unwrap_or(0);
        // A copy under another name (Java's tools make `log.1.chopped2` of `log.1`) may end before the log does.
        if let Some(pair) = self.logs[begin.saturating_sub(1)..].windows(2).find(|pair| pair[0].first == pair[1].first)
        {
            replay.allow(JavaError::Twice { file: pair[0].path.clone(), other: pair[1].path.clone() })?;
        }
        for index in begin..self.logs.len() {
            let LogFile { path, bytes, first } = self.logs[index].clone();
            let is_newest = index + 1 == self.logs.len();
            let mut source = Source::open(&mut self.disk, &mut self.ids, &path, bytes)?;
            if bytes == 0 {
                replay.empty_file(&path, is_newest)?;
                replay.is_named(&path, first)?;
                continue;
            }
            let mut has_records = false;
            let ended = txn_log::read(&mut source, |at, zxid, entry| {
                has_records = true;
                if zxid <= from || replay.repeats(zxid, entry) {
                    return Ok(());
                }
                replay.follows(&path, at, zxid)?;
                take(zxid, entry)
            });
            drop(source);
            replay.end_of_file(&path, ended, is_newest)?;
            if !has_records {
                replay.is_named(&path, first)?;
            }
        }
        Ok(replay.finish())
    }

    /// The last transaction of the logs, at least `from`, without looking at more than the newest files.
    pub fn last_logged(&mut self) -> Result<Zxid, JavaError> {
        let mut last = self.snapshots.first().map_or(Zxid::ZERO, |snapshot| snapshot.zxid);
        for LogFile { path, bytes, .. } in
            self.logs.iter().rev().filter(|log| log.bytes > 0).cloned().collect::<Vec<_>>()
        {
            let mut source = Source::open(&mut self.disk, &mut self.ids, &path, bytes)?;
            let mut has_records = false;
            let read = txn_log::read(&mut source, |_, zxid, _| {
                has_records = true;
                last = last.max(zxid);
                Ok(())
            });
            match read {
                Ok(_) | Err(Stop::Damaged(_)) => {}
                Err(Stop::Store(error)) => return Err(error.into()),
                Err(Stop::Taker(error)) => return Err(error),
            }
            if has_records {
                break;
            }
        }
        Ok(last)
    }

    /// `last`: the last transaction of the state that was loaded.
    pub fn epochs(&mut self, last: Zxid) -> Result<Epochs, JavaError> {
        epochs::read(&mut self.disk, &mut self.ids, &self.path, last)
    }
}

fn next(zxid: Zxid) -> Zxid {
    Zxid(zxid.0.saturating_add(1))
}

/// The rules between records and between files.
struct Replay {
    strictness: Strictness,
    report: LogReport,
    /// The file before ended in the middle of a record.
    torn: Option<(PathBuf, u64, &'static str)>,
    repeated_errors: u64,
}

impl Replay {
    fn repeats(&mut self, zxid: Zxid, entry: &[u8]) -> bool {
        let is_one = txn_log::repeats(zxid, entry, self.report.last);
        self.repeated_errors += u64::from(is_one);
        is_one
    }

    /// A file without records says by its name how far the server had come.
    fn is_named(&mut self, path: &Path, first: Zxid) -> Result<(), JavaError> {
        let last = self.report.last;
        if first > last && !first.can_follow(last) {
            self.allow(JavaError::Named { file: path.to_owned(), after: last, first })?;
        }
        Ok(())
    }

    fn finish(mut self) -> LogReport {
        if let Some((file, at, why)) = self.torn.take() {
            let (file, last) = (file.display(), self.report.last);
            self.report.notes.push(format!("{file}: {why} at byte {at}: taken for an unfinished write after {last}"));
        }
        let count = self.repeated_errors;
        if count > 0 {
            self.report
                .notes
                .push(format!("errors of requests that Java could not read, which change nothing: {count}"));
        }
        self.report
    }

    fn follows(&mut self, path: &Path, at: u64, zxid: Zxid) -> Result<(), JavaError> {
        let last = self.report.last;
        if let Some((file, at, why)) = self.torn.take() {
            if zxid.begins_an_epoch_behind(last) {
                let file = file.display();
                self.report
                    .notes
                    .push(format!("{file}: {why} at byte {at}: epoch {} goes on without it", zxid.epoch()));
            } else if !zxid.can_follow(last) {
                self.allow(JavaError::Log { file, at, why, last_good: last })?;
            }
        }
        if zxid <= last {
            self.allow(JavaError::Log {
                file: path.to_owned(),
                at,
                why: "a transaction that comes again",
                last_good: last,
            })?;
        } else if !zxid.can_follow(last) {
            self.allow(JavaError::Gap { file: path.to_owned(), after: last, found: zxid })?;
        }
        self.report.last = last.max(zxid);
        self.report.records += 1;
        Ok(())
    }

    fn empty_file(&mut self, path: &Path, is_newest: bool) -> Result<(), JavaError> {
        let why = "an empty file";
        if is_newest {
            self.report.notes.push(format!("{}: {why}, as a server leaves it that was killed at once", path.display()));
            return Ok(());
        }
        self.allow(JavaError::Log { file: path.to_owned(), at: 0, why, last_good: self.report.last })
    }

    fn end_of_file(&mut self, path: &Path, ended: Result<End, Stop>, is_newest: bool) -> Result<(), JavaError> {
        let last = self.report.last;
        match ended {
            Ok(End::Clean) => Ok(()),
            Ok(End::Torn { at, why }) if is_newest => {
                let file = path.display();
                self.report
                    .notes
                    .push(format!("{file}: {why} at byte {at}: taken for an unfinished write after {last}"));
                Ok(())
            }
            Ok(End::Torn { at, why }) => {
                self.torn = Some((path.to_owned(), at, why));
                Ok(())
            }
            Err(Stop::Damaged(Damaged { at, why })) => {
                self.allow(JavaError::Log { file: path.to_owned(), at, why, last_good: last })
            }
            Err(Stop::Store(error)) => Err(error.into()),
            Err(Stop::Taker(error)) => Err(error),
        }
    }

    fn allow(&mut self, error: JavaError) -> Result<(), JavaError> {
        match self.strictness {
            Strictness::Strict => Err(error),
            Strictness::Forced => {
                self.report.notes.push(error.to_string());
                Ok(())
            }
        }
    }
}
