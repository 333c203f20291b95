//! A directory of a Java server as it was, to be loaded, and to be damaged before.

use std::fs;
use std::path::{Path, PathBuf};

use ringkeeper::java::load::Progress;
use ringkeeper::java::{LoadOptions, Loaded, load};
use ringkeeper_storage::Zxid;
use ringkeeper_storage::backend::blocking::BlockingDisk;
use ringkeeper_storage::java::{JavaDirectory, Strictness};
use tempfile::TempDir;

use crate::expected;

/// What these servers extended their logs to; the files in `tests/data` are kept without it.
const PADDED_BYTES: usize = 65_552;

pub struct Sample {
    directory: TempDir,
}

impl Sample {
    pub fn new(name: &str) -> Sample {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("version-2")).unwrap();
        for entry in fs::read_dir(expected::data(name)).unwrap() {
            let file = entry.unwrap();
            let name = file.file_name().into_string().unwrap();
            let mut bytes = fs::read(file.path()).unwrap();
            if name.ends_with(".json") {
                continue;
            }
            if name.starts_with("log.") {
                bytes.resize(PADDED_BYTES, 0);
            }
            let to = if name == "myid" {
                directory.path().join(name)
            } else {
                directory.path().join("version-2").join(name)
            };
            fs::write(to, bytes).unwrap();
        }
        Sample { directory }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join("version-2").join(name)
    }

    pub fn remove(&self, name: &str) -> &Sample {
        fs::remove_file(self.file(name)).unwrap();
        self
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> &Sample {
        fs::write(self.file(name), bytes).unwrap();
        self
    }

    pub fn change(&self, name: &str, how: impl FnOnce(&mut Vec<u8>)) -> &Sample {
        let mut bytes = fs::read(self.file(name)).unwrap();
        how(&mut bytes);
        self.write(name, &bytes)
    }

    /// Where each record of a log begins, and where the last ends.
    pub fn records(&self, log: &str) -> Vec<usize> {
        let bytes = fs::read(self.file(log)).unwrap();
        let mut places = vec![16];
        loop {
            let at = *places.last().unwrap();
            match bytes.get(at + 8..at + 12).map(|length| u32::from_be_bytes(length.try_into().unwrap()) as usize) {
                None | Some(0) => return places,
                Some(length) => places.push(at + 12 + length + 1),
            }
        }
    }

    pub fn directory(&self) -> JavaDirectory {
        JavaDirectory::open(BlockingDisk::default(), self.path(), self.path()).unwrap()
    }

    pub fn load(&self) -> Loaded {
        self.try_load(&LoadOptions::default()).unwrap_or_else(|why| panic!("{why}"))
    }

    pub fn load_forced(&self) -> Loaded {
        let options = LoadOptions { strictness: Strictness::Forced, ..LoadOptions::default() };
        self.try_load(&options).unwrap_or_else(|why| panic!("{why}"))
    }

    pub fn load_from(&self, snapshot: Zxid) -> Loaded {
        let options = LoadOptions { snapshot: Some(snapshot), ..LoadOptions::default() };
        self.try_load(&options).unwrap_or_else(|why| panic!("from {snapshot}: {why}"))
    }

    /// Why it is refused.
    pub fn refusal(&self) -> String {
        match self.try_load(&LoadOptions::default()) {
            Ok(loaded) => panic!("loaded: {:?}", loaded.report),
            Err(why) => why.to_string(),
        }
    }

    pub fn try_load(&self, options: &LoadOptions) -> Result<Loaded, ringkeeper::java::LoadError> {
        load(&mut self.directory(), options, &mut |_: Progress| {})
    }
}
