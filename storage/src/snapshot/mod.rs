//! Snapshots: the tree at exactly one zxid, in a file that is there as a whole or not at all.
//!
//! ```text
//! <dataDir>/ringkeeper-1/
//!   snapshot-0000000100000042.rks    complete, flushed, named; the log from here on brings it up to date
//!   snapshot-00000001000003e8.tmp    being written; never looked at, deleted at start
//! ```
//!
//! Not here, on purpose: the tree (the core hands over `NodeImage`s), when to take one, how to pace it. Java: `FileSnap`.

pub mod format;
pub mod image;
pub mod load;
pub mod source;
pub mod write;

use std::path::{Path, PathBuf};

use crate::Zxid;

pub fn file_name(zxid: Zxid) -> String {
    format!("snapshot-{:016x}.rks", zxid.0)
}

pub fn path(directory: &Path, zxid: Zxid) -> PathBuf {
    directory.join(file_name(zxid))
}

fn unfinished_path(directory: &Path, zxid: Zxid) -> PathBuf {
    directory.join(format!("snapshot-{:016x}.tmp", zxid.0))
}

pub fn parse(name: &str) -> Option<Zxid> {
    let digits = name.strip_prefix("snapshot-")?.strip_suffix(".rks")?;
    let zxid = Zxid(u64::from_str_radix(digits, 16).ok()?);
    (file_name(zxid) == name).then_some(zxid)
}
