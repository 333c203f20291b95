//! Which files a command is about, and what they are: by their first bytes, then by their names.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use ringkeeper_storage::DIRECTORY;
use ringkeeper_storage::inspect::{SegmentId, claimed_segment};

use crate::console::{Failure, Result};

/// A log file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    pub path: PathBuf,
    pub bytes: u64,
    pub kind: LogKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogKind {
    /// A segment of ours.
    Segment,
}

impl LogFile {
    /// The name that a start would look for: a copy may be called otherwise.
    pub fn segment_name(&self) -> String {
        let name = self.name();
        match SegmentId::parse(&name) {
            Some(_) => name,
            None => {
                first_bytes(&self.path).ok().and_then(|bytes| claimed_segment(&bytes)).map_or(name, |id| id.file_name())
            }
        }
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
    let mut found = Vec::new();
    for directory in [path.to_owned(), path.join(DIRECTORY)] {
        for (name, path, bytes) in plain_files(&directory)? {
            if SegmentId::parse(&name).is_some() {
                found.push(LogFile { path, bytes, kind: LogKind::Segment });
            }
        }
    }
    if found.is_empty() {
        return Err(Failure::usage(format!("{}: no transaction log in this directory", path.display())));
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn log_kind(path: &Path) -> Result<Option<LogKind>> {
    let bytes = first_bytes(path)?;
    let named = path.file_name().is_some_and(|name| SegmentId::parse(&name.to_string_lossy()).is_some());
    Ok((named || claimed_segment(&bytes).is_some()).then_some(LogKind::Segment))
}

fn first_bytes(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(64).read_to_end(&mut bytes)).map_err(Failure::file(path))?;
    Ok(bytes)
}

/// Names, paths and sizes; nothing where there is no such directory.
fn plain_files(directory: &Path) -> Result<Vec<(String, PathBuf, u64)>> {
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(Failure::file(directory))? {
        let entry = entry.map_err(Failure::file(directory))?;
        let metadata = fs::metadata(entry.path()).map_err(Failure::file(&entry.path()))?;
        if metadata.is_file() {
            files.push((entry.file_name().to_string_lossy().into_owned(), entry.path(), metadata.len()));
        }
    }
    Ok(files)
}
