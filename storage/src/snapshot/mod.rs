//! Snapshots: the tree at exactly one zxid, in a file that is there as a whole or not at all.
//!
//! ```text
//! <dataDir>/ringkeeper-1/
//!   snapshot-0000000100000042.rks    complete, flushed, named; the log from here on brings it up to date
//!   snapshot-00000001000003e8.tmp    being written; never looked at, deleted at start
//!   install-00000001000003e8.tmp     the same, of a leader's state; complete, it becomes snapshot-Z.install (`standing.rs`)
//!   snapshot-00000001000000aa.damaged    found damaged in service and set aside; never looked at, told of at start
//!
//! | chunk | chunk | run of the index | chunk | ... | manifest | footer |
//!     chunk: some nodes, each checked and read by itself (`chunk.rs`)    run: (parent, name) -> slots (`index.rs`)
//!     manifest: where all of that is (`manifest.rs`)
//! ```
//!
//! Written once, front to back, in bounded memory (`body.rs`, `write.rs`); mapped and read where it lies (`file.rs`), so that
//! a start takes the same time for a million nodes as for ten, and nobody waits for the tree to be in memory.
//!
//! Not here, on purpose: the tree (the core hands over `NodeImage`s), when to take one, how to pace it. Java: `FileSnap`.

pub(crate) mod body;
pub mod chunk;
pub mod file;
pub mod image;
pub mod index;
pub mod load;
pub mod manifest;
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

/// The state of a leader, complete, that takes the place of everything: so decided by this name.
pub fn install_path(directory: &Path, zxid: Zxid) -> PathBuf {
    directory.join(format!("snapshot-{:016x}.install", zxid.0))
}

pub fn parse_install(name: &str) -> Option<Zxid> {
    stem(name, "install")
}

fn unfinished_path(directory: &Path, zxid: Zxid) -> PathBuf {
    directory.join(format!("snapshot-{:016x}.tmp", zxid.0))
}

pub fn parse(name: &str) -> Option<Zxid> {
    stem(name, "rks")
}

/// A snapshot, or one that was set aside because it is damaged.
pub fn parse_any(name: &str) -> Option<Zxid> {
    parse(name).or_else(|| stem(name, file::ASIDE_EXTENSION))
}

/// The zxid in a name that ends like this.
fn stem(name: &str, extension: &str) -> Option<Zxid> {
    let digits = name.strip_prefix("snapshot-")?.strip_suffix(extension)?.strip_suffix('.')?;
    let zxid = Zxid(u64::from_str_radix(digits, 16).ok()?);
    (file_name(zxid).strip_suffix("rks") == name.strip_suffix(extension)).then_some(zxid)
}
