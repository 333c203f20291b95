//! Disks for looking: they read, and refuse everything else.
//!
//! [`Looking`] is the machine's own. [`ChosenFiles`] holds just the files a command was given, under the names that recovery
//! looks for: so that recovery can be asked about one file of a log, or about a copy that is called otherwise.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use ringkeeper_storage::backend::blocking::BlockingDisk;
use ringkeeper_storage::backend::view::FileView;
use ringkeeper_storage::disk::{Access, Action, Disk, DiskEvent, DiskOp, FileId};

use crate::files::LogFile;

/// How a change is refused.
pub const ONLY_LOOKING: io::ErrorKind = io::ErrorKind::ReadOnlyFilesystem;

#[derive(Debug, Default)]
pub struct Looking(BlockingDisk);

impl Disk for Looking {
    fn run(&mut self, op: DiskOp) -> DiskEvent {
        match op.action {
            Action::Open { access: Access::Read, .. } | Action::Close { .. } => self.0.run(op),
            _ => {
                let refused = io::Error::new(ONLY_LOOKING, "nothing is changed by looking");
                let buffer = if let Action::Write { buffer, .. } = op.action { Some(buffer) } else { None };
                DiskEvent { id: op.id, result: Err(refused), buffer, elapsed_us: 0 }
            }
        }
    }

    fn list(&mut self, directory: &Path) -> io::Result<Vec<(String, u64)>> {
        self.0.list(directory)
    }

    fn draw(&mut self) -> io::Result<u64> {
        self.0.draw()
    }

    fn read(&mut self, file: FileId, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(file, offset, bytes)
    }

    fn view(&mut self, file: FileId, path: &Path, bytes: u64) -> io::Result<FileView> {
        self.0.view(file, path, bytes)
    }
}

#[derive(Debug)]
pub struct ChosenFiles {
    disk: Looking,
    directory: PathBuf,
    files: BTreeMap<String, (PathBuf, u64)>,
}

impl ChosenFiles {
    pub fn new<'a>(files: impl IntoIterator<Item = &'a LogFile>) -> ChosenFiles {
        let named = files.into_iter().map(|file| (file.proper_name(), (file.path.clone(), file.bytes)));
        ChosenFiles { disk: Looking::default(), directory: PathBuf::from("chosen"), files: named.collect() }
    }

    /// The directory that the files seem to lie in.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Disk for ChosenFiles {
    fn run(&mut self, mut op: DiskOp) -> DiskEvent {
        if let Action::Open { path, .. } = &mut op.action {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if let Some((real, _)) = self.files.get(&*name).cloned() {
                *path = real;
            }
        }
        self.disk.run(op)
    }

    fn list(&mut self, _: &Path) -> io::Result<Vec<(String, u64)>> {
        Ok(self.files.iter().map(|(name, (_, bytes))| (name.clone(), *bytes)).collect())
    }

    fn draw(&mut self) -> io::Result<u64> {
        self.disk.draw()
    }

    fn read(&mut self, file: FileId, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.disk.read(file, offset, bytes)
    }
}
