//! A disk that holds just the files a command was given, under the names that recovery looks for: so that recovery can be
//! asked about one file of a log, or about a copy that is called otherwise. It only reads.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use ringkeeper_storage::backend::blocking::BlockingDisk;
use ringkeeper_storage::disk::{Access, Action, Disk, DiskEvent, DiskOp, FileId};

use crate::files::LogFile;

#[derive(Debug)]
pub struct ChosenFiles {
    disk: BlockingDisk,
    directory: PathBuf,
    files: BTreeMap<String, (PathBuf, u64)>,
}

impl ChosenFiles {
    pub fn segments(files: &[LogFile]) -> ChosenFiles {
        let named = files.iter().map(|file| (file.segment_name(), (file.path.clone(), file.bytes)));
        ChosenFiles { disk: BlockingDisk::default(), directory: PathBuf::from("chosen"), files: named.collect() }
    }

    /// The directory that the files seem to lie in.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Disk for ChosenFiles {
    fn run(&mut self, op: DiskOp) -> DiskEvent {
        let DiskOp { id, action } = op;
        let action = match action {
            Action::Open { file, path, access: Access::Read, direct } => {
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
                let known = name.and_then(|name| self.files.get(&name));
                let path = known.map_or(path, |(path, _)| path.clone());
                Action::Open { file, path, access: Access::Read, direct }
            }
            Action::Close { file } => Action::Close { file },
            other => unreachable!("{} while only looking", other.name()),
        };
        self.disk.run(DiskOp { id, action })
    }

    fn list(&mut self, _: &Path) -> io::Result<Vec<(String, u64)>> {
        Ok(self.files.iter().map(|(name, (_, bytes))| (name.clone(), *bytes)).collect())
    }

    fn read(&mut self, file: FileId, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.disk.read(file, offset, bytes)
    }
}
