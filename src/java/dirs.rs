//! Where a Java server keeps its data.

use std::path::PathBuf;

use ringkeeper_storage::backend::blocking::BlockingDisk;
use ringkeeper_storage::java::{JavaDirectory, JavaError};

/// `dataDir` and `dataLogDir` of a Java server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JavaDirs {
    pub data: PathBuf,
    pub log: PathBuf,
}

impl JavaDirs {
    pub fn open(&self) -> Result<JavaDirectory, JavaError> {
        JavaDirectory::open(BlockingDisk::default(), &self.data, &self.log)
    }

    /// What `myid` says, if it is there.
    pub fn my_id(&self) -> Option<String> {
        Some(std::fs::read_to_string(self.data.join("myid")).ok()?.trim().to_owned())
    }
}
