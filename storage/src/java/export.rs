//! A directory written for a Java server: whole, or not there.
//!
//!   version-2.exporting/: log, epochs, snapshot, each flushed -> directory flushed -> changes places with version-2
//!
//! What lies in `version-2` is never overwritten: without leave it refuses, with leave it moves the old one aside, in one step: at
//! every moment there is the one or the other. Where logs have a directory of their own it takes three: the old snapshots go, the
//! logs change places, the new snapshots come, and logs without a snapshot start no Java server. An export without a log comes first
//! and lets the old logs go afterwards: they end before it.
//! Spec: on-disk formats 10.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::epochs::{ACCEPTED, CURRENT, Epochs};
use super::file::{Sink, replace_file, write_small};
use super::snap::{SnapHead, SnapTail};
use super::snap_write::SnapWriter;
use super::txn_log::LogFileWriter;
use super::{DIRECTORY, names};
use crate::Zxid;
use crate::backend::blocking::{BlockingDisk, create_directory, exchange, same_directory};
use crate::disk::{Action, Disk, Ids};
use crate::error::StoreError;
use crate::read::run;
use crate::set_aside::{rename_aside, rename_beside};

const UNFINISHED: &str = "version-2.exporting";

/// Where to.
#[derive(Clone, Debug)]
pub struct ExportTarget {
    pub data_dir: PathBuf,
    pub log_dir: PathBuf,
    /// Whether a `version-2` with files in it may be moved aside.
    pub replace: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(
        "{path} is not empty, and an export never writes over Java's data: name another directory, move it away, or say \
         --replace, which moves it aside"
    )]
    NotEmpty { path: PathBuf },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An export under way; invisible to a Java server until [`Export::finish`].
#[derive(Debug)]
pub struct Export {
    disk: BlockingDisk,
    ids: Ids,
    target: ExportTarget,
    has_log: bool,
}

impl Export {
    pub fn begin(target: ExportTarget) -> Result<Export, ExportError> {
        let mut export = Export { disk: BlockingDisk::default(), ids: Ids::default(), target, has_log: false };
        for directory in export.directories() {
            let path = directory.join(DIRECTORY);
            if !export.target.replace && !export.list(&path)?.is_empty() {
                return Err(ExportError::NotEmpty { path });
            }
            create_directory(&directory).map_err(io_error(&directory, "create directory"))?;
        }
        if same_directory(&export.target.data_dir, &export.target.log_dir) {
            export.target.log_dir = export.target.data_dir.clone();
        }
        for directory in export.directories() {
            let unfinished = directory.join(UNFINISHED);
            create_directory(&unfinished).map_err(io_error(&unfinished, "create directory"))?;
            // Of an export that was cut short.
            for name in export.list(&unfinished)? {
                export.run(&unfinished, Action::Unlink { path: unfinished.join(name) })?;
            }
        }
        Ok(export)
    }

    /// Writes the snapshot of a state that stood still at `zxid`. `nodes` calls the writer for each, parents first.
    pub fn snapshot(
        &mut self,
        zxid: Zxid,
        head: &SnapHead,
        nodes: impl FnOnce(&mut SnapWriter<&mut dyn Write>) -> io::Result<()>,
        tail: &SnapTail,
    ) -> Result<u64, StoreError> {
        let path = self.target.data_dir.join(UNFINISHED).join(names::snapshot(zxid));
        let mut sink = Sink::create(&mut self.disk, &mut self.ids, path.clone())?;
        let write = || -> io::Result<()> {
            let mut writer = SnapWriter::begin(&mut sink as &mut dyn Write, head)?;
            nodes(&mut writer)?;
            writer.finish(tail).map(drop)
        };
        write().map_err(io_error(&path, "write"))?;
        sink.finish()
    }

    /// Writes one log, named by the first of its transactions. `records` calls its argument for each entry, in order.
    pub fn log<E: From<StoreError>>(
        &mut self,
        records: impl FnOnce(&mut dyn FnMut(Zxid, &[u8]) -> Result<(), StoreError>) -> Result<(), E>,
    ) -> Result<u64, E> {
        let directory = self.target.log_dir.join(UNFINISHED);
        let path = directory.join("log.unnamed");
        let sink = Sink::create(&mut self.disk, &mut self.ids, path.clone())?;
        let mut writer = LogFileWriter::begin(sink).map_err(io_error(&path, "write"))?;
        let mut first = None;
        records(&mut |zxid, entry| {
            first.get_or_insert(zxid);
            writer.record(entry).map_err(io_error(&path, "write"))
        })?;
        let bytes = writer.into_inner().finish()?;
        self.has_log = first.is_some();
        let action = match first {
            Some(first) => Action::Rename { from: path.clone(), to: directory.join(names::log(first)) },
            None => Action::Unlink { path: path.clone() },
        };
        self.run(&path, action)?;
        Ok(bytes)
    }

    /// Where the files lie until they have their names: snapshots, logs.
    pub fn unfinished(&self) -> (PathBuf, PathBuf) {
        (self.target.data_dir.join(UNFINISHED), self.target.log_dir.join(UNFINISHED))
    }

    pub fn epochs(&mut self, epochs: &Epochs) -> Result<(), StoreError> {
        let directory = self.target.data_dir.join(UNFINISHED);
        for (name, epoch) in [(ACCEPTED, epochs.accepted), (CURRENT, epochs.current)] {
            write_small(&mut self.disk, &mut self.ids, directory.join(name), epoch.to_string().as_bytes())?;
        }
        Ok(())
    }

    /// A small file beside `version-2`, such as `myid`. There at once.
    pub fn beside(&mut self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        replace_file(&mut self.disk, &mut self.ids, &self.target.data_dir, name, bytes)
    }

    /// Gives everything its name. Returns where what was there before has gone.
    pub fn finish(mut self) -> Result<Vec<PathBuf>, StoreError> {
        let directories = self.directories();
        for unfinished in directories.iter().map(|directory| directory.join(UNFINISHED)) {
            self.run(&unfinished, Action::SyncDirectory { path: unfinished.clone() })?;
        }
        let mut aside = Vec::new();
        if !self.has_log {
            for directory in &directories {
                aside.extend(self.put_in_place(directory)?);
            }
            return Ok(aside);
        }
        if let [data, _] = &*directories {
            let path = data.join(DIRECTORY);
            if !self.list(&path)?.is_empty() {
                aside.push(rename_aside(&mut self.disk, &mut self.ids, &path)?);
                self.run(data, Action::SyncDirectory { path: data.clone() })?;
            }
        }
        for directory in directories.iter().rev() {
            aside.extend(self.put_in_place(directory)?);
        }
        Ok(aside)
    }

    /// Returns where the old one has gone, if there was one.
    fn put_in_place(&mut self, directory: &Path) -> Result<Option<PathBuf>, StoreError> {
        let (path, unfinished) = (directory.join(DIRECTORY), directory.join(UNFINISHED));
        let aside = if self.list(&path)?.is_empty() {
            self.run(&path, Action::Rename { from: unfinished, to: path.clone() })?;
            None
        } else {
            // Under the name that the old one is going to have.
            let beside = rename_beside(&mut self.disk, &mut self.ids, &unfinished, &path)?;
            if exchange(&beside, &path).map_err(io_error(&path, "exchange"))? {
                Some(beside)
            } else {
                let aside = rename_aside(&mut self.disk, &mut self.ids, &path)?;
                self.run(&path, Action::Rename { from: beside, to: path.clone() })?;
                Some(aside)
            }
        };
        self.run(directory, Action::SyncDirectory { path: directory.to_owned() })?;
        Ok(aside)
    }

    /// Data first. The same one counts once.
    fn directories(&self) -> Vec<PathBuf> {
        let mut both = vec![self.target.data_dir.clone(), self.target.log_dir.clone()];
        both.dedup();
        both
    }

    fn list(&mut self, path: &Path) -> Result<Vec<String>, StoreError> {
        let files = self.disk.list(path).map_err(io_error(path, "list"))?;
        Ok(files.into_iter().map(|(name, _)| name).collect())
    }

    fn run(&mut self, path: &Path, action: Action) -> Result<(), StoreError> {
        run(&mut self.disk, &mut self.ids, path, action)
    }
}

fn io_error(path: &Path, operation: &'static str) -> impl Fn(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { path: path.clone(), operation, source }
}
