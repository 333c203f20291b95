//! Opening a snapshot of either format, as far as it can be read.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Serialize;

use super::java;
use super::node::Tree;
use crate::console::{Failure, Result};
use crate::show::Hex;

/// A snapshot, and what is wrong with it.
pub struct Snapshot {
    pub facts: Facts,
    pub sessions: Vec<(i64, i32)>,
    /// None: so damaged that no node can be found.
    pub tree: Option<Box<dyn Tree>>,
    pub damages: Vec<Damage>,
}

/// What is known without looking at the nodes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Facts {
    pub file: String,
    pub format: &'static str,
    pub bytes: u64,
    /// The state is the one after this transaction. None: the end of the file is damaged.
    pub zxid: Option<Hex>,
    /// Java's snapshots are written while transactions go on: nodes may be as later transactions left them.
    pub fuzzy: bool,
    pub nodes: Option<u64>,
    pub data_bytes: Option<u64>,
    /// As the file tells, and of which transaction.
    pub digest: Option<Hex>,
    pub digest_zxid: Option<Hex>,
    pub acls: Option<u64>,
    pub sessions: u64,
    /// Pieces of our format: chunks of nodes, runs of the index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunks: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index_runs: Option<u64>,
    /// How far the log was stable when it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_zxid: Option<Hex>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "item", rename = "damage")]
pub struct Damage {
    pub file: String,
    pub why: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: DAMAGED: {}", self.file, self.why)
    }
}

impl Snapshot {
    pub fn open(path: &Path) -> Result<Snapshot> {
        let bytes = std::fs::metadata(path).map_err(Failure::file(path))?.len();
        let mut magic = Vec::new();
        File::open(path).and_then(|file| file.take(8).read_to_end(&mut magic)).map_err(Failure::file(path))?;
        match java::packing(path, &magic) {
            Some(packing) => java::open(path, bytes, packing),
            None => Err(Failure::usage(format!("{}: not a snapshot", path.display()))),
        }
    }
}

pub fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
