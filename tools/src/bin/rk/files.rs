//! Which files a command is about, and what they are: by their first bytes, then by their names.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use ringkeeper_storage::inspect::{SegmentId, claimed_segment, snapshot_of_name};
use ringkeeper_storage::java::names::{self, Name};
use ringkeeper_storage::java::{self, txn_log};
use ringkeeper_storage::{DIRECTORY, Zxid};

use crate::console::{Failure, Result};

/// A log file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    pub path: PathBuf,
    pub bytes: u64,
    pub kind: LogKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogKind {
    /// A segment of ours.
    Segment,
    /// A file of a Java server.
    Java,
}

impl LogFile {
    /// The name that a start would look for: a copy may be called otherwise.
    pub fn proper_name(&self) -> String {
        let name = self.name();
        let proper = match self.kind {
            LogKind::Segment if SegmentId::parse(&name).is_some() => None,
            LogKind::Java if is_java_log(&name) => None,
            LogKind::Segment => {
                first_bytes(&self.path).ok().and_then(|bytes| claimed_segment(&bytes)).map(SegmentId::file_name)
            }
            // Its first record's zxid follows checksum, length, session and cxid.
            LogKind::Java => first_bytes(&self.path).ok().and_then(|bytes| {
                let zxid = bytes.get(40..48)?.try_into().ok()?;
                Some(names::log(Zxid(u64::from_be_bytes(zxid))))
            }),
        };
        proper.unwrap_or(name)
    }

    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }
}

/// The log file at `path`, or all of the directory `path`, in order.
pub fn logs(path: &Path) -> Result<Vec<LogFile>> {
    let metadata = fs::metadata(path).map_err(Failure::file(path))?;
    if !metadata.is_dir() {
        let kind = log_kind(path)?;
        let kind = kind.ok_or_else(|| Failure::usage(format!("{}: not a transaction log", path.display())))?;
        return Ok(vec![LogFile { path: path.to_owned(), bytes: metadata.len(), kind }]);
    }
    let found = logs_in(path)?;
    if found.is_empty() {
        return Err(Failure::usage(format!("{}: no transaction log in this directory", path.display())));
    }
    Ok(found)
}

/// The log files in a directory and in those that servers have inside of it.
pub fn logs_in(path: &Path) -> Result<Vec<LogFile>> {
    let mut found = Vec::new();
    for directory in [path.to_owned(), path.join(DIRECTORY), path.join(java::DIRECTORY)] {
        for (name, path, bytes) in plain_files(&directory)? {
            if let Some(kind) = named_log(&name) {
                found.push(LogFile { path, bytes, kind });
            }
        }
    }
    found.sort_by_cached_key(|file| (file.kind, order(&file.name()), file.path.clone()));
    Ok(found)
}

/// The snapshots in a directory, oldest first, those set aside included.
pub fn snapshots_in(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for (name, path, _) in plain_files(directory)? {
        let zxid = snapshot_of_name(&name).or(match names::parse(&name) {
            Some(Name::Snapshot(zxid, _)) => Some(zxid),
            _ => None,
        });
        found.extend(zxid.map(|zxid| (zxid, path)));
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// The snapshots of a Java server that are in the directory `path`, or in what it has inside of it, oldest first.
pub fn java_snapshots_beside(path: &Path) -> Result<Vec<Zxid>> {
    let mut found = Vec::new();
    for directory in [path.to_owned(), path.join(java::DIRECTORY)] {
        for (name, ..) in plain_files(&directory)? {
            if let Some(Name::Snapshot(zxid, _)) = names::parse(&name) {
                found.push(zxid);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Java's names are not padded.
fn order(name: &str) -> u64 {
    match names::parse(name) {
        Some(Name::Log(zxid)) => zxid.0,
        _ => SegmentId::parse(name).map_or(0, |id| id.0),
    }
}

fn named_log(name: &str) -> Option<LogKind> {
    match SegmentId::parse(name) {
        Some(_) => Some(LogKind::Segment),
        None => is_java_log(name).then_some(LogKind::Java),
    }
}

fn is_java_log(name: &str) -> bool {
    matches!(names::parse(name), Some(Name::Log(_)))
}

/// `dataDir` itself, when the directory inside of it was named.
pub fn data_dir_of(path: &Path) -> PathBuf {
    let inner = path.ends_with(DIRECTORY) || path.ends_with(java::DIRECTORY);
    let parent = path.parent().filter(|parent| inner && !parent.as_os_str().is_empty());
    match parent {
        Some(parent) => parent.to_owned(),
        None if inner => PathBuf::from("."),
        None => path.to_owned(),
    }
}

/// By what is in it; by its name where its beginning is gone.
fn log_kind(path: &Path) -> Result<Option<LogKind>> {
    let bytes = first_bytes(path)?;
    if claimed_segment(&bytes).is_some() {
        return Ok(Some(LogKind::Segment));
    }
    if bytes.starts_with(&txn_log::MAGIC) {
        return Ok(Some(LogKind::Java));
    }
    Ok(path.file_name().and_then(|name| named_log(&name.to_string_lossy())))
}

fn first_bytes(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(64).read_to_end(&mut bytes)).map_err(Failure::file(path))?;
    Ok(bytes)
}

/// Whether there is such a directory. Where this process may not look, nobody knows.
pub fn is_directory(path: &Path) -> Result<bool> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.is_dir()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(Failure::file(path)(error)),
    }
}

/// Names, paths and sizes; nothing where there is no such directory.
fn plain_files(directory: &Path) -> Result<Vec<(String, PathBuf, u64)>> {
    if !is_directory(directory)? {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(Failure::file(directory))? {
        let entry = entry.map_err(Failure::file(directory))?;
        let metadata = match fs::metadata(entry.path()) {
            // Deleted since by a server, or a link that leads nowhere.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            other => other.map_err(Failure::file(&entry.path()))?,
        };
        if metadata.is_file() {
            files.push((entry.file_name().to_string_lossy().into_owned(), entry.path(), metadata.len()));
        }
    }
    Ok(files)
}
