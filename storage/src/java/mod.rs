//! Directories of Java servers: read as they are, and written so that a Java server loads them.
//!
//! ```text
//! <dataDir>/myid                                      <dataLogDir>/version-2/     (the same unless configured apart)
//! <dataDir>/version-2/                                  log.100000001    header, records, zero padding; named by its
//!   snapshot.100000024  [.gz | .snappy]                 log.100000026    first zxid, with no upper bound
//!   acceptedEpoch, currentEpoch   (quorum members)
//! ```
//!
//! A snapshot is fuzzy: it begins at the zxid of its name and may contain any later change, so the log from there on is
//! needed to make it a state. What a node or a transaction means is known to the server's tree alone; here are files, seals,
//! checksums, zxids. The source is only ever read.
//!
//! We are stricter than Java where Java loses transactions in silence: see [`txn_log`] and [`directory`].
//! Java: `FileTxnSnapLog`, `FileTxnLog`, `FileSnap`, `SnapStream`. Spec: on-disk formats.

pub mod directory;
pub mod epochs;
pub mod export;
pub(crate) mod file;
pub mod names;
pub mod snap;
pub mod snap_write;
pub mod txn_log;

pub use directory::{JavaDirectory, LogReport, Strictness};
pub use epochs::Epochs;
pub use export::{Export, ExportError, ExportTarget};
pub use snap::{JavaAcl, JavaNode, JavaStat, SnapHead, SnapReader, SnapTail, TreeDigest};
pub use snap_write::{Sections, SnapWriter};

use std::path::{Path, PathBuf};

use crate::Zxid;
use crate::backend::blocking::BlockingDisk;
use crate::disk::Ids;
use crate::error::StoreError;

/// Java's directory inside `dataDir` and `dataLogDir`.
pub const DIRECTORY: &str = "version-2";

/// Why a directory of a Java server cannot be read, or not without somebody's decision.
#[derive(Debug, thiserror::Error)]
pub enum JavaError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{file}: damaged at byte {at}: {why}; the last transaction before it is {last_good}")]
    Log { file: PathBuf, at: u64, why: &'static str, last_good: Zxid },
    #[error(
        "{file} and {other}: two logs of one number. One is a copy, as Java's tools make `log.1.chopped2` of `log.1`, and may end \
         before the log does: move it away"
    )]
    Twice { file: PathBuf, other: PathBuf },
    #[error("{file}: transaction {found} follows {after}: what is between them is missing")]
    Gap { file: PathBuf, after: Zxid, found: Zxid },
    #[error(
        "{file}: a new log, named as if the server had come to {first}, and the last transaction before it is {after}. Where a power cut \
         came right behind the new log, nobody was told of what is between: a member joins anew on an empty disk, a server alone \
         takes what there is with --force"
    )]
    Named { file: PathBuf, after: Zxid, first: Zxid },
    #[error("{file}: {why}")]
    Snapshot { file: PathBuf, why: String },
    #[error("none of the {count} snapshots can be read; the newest: {newest}")]
    NoSnapshotUsable { count: usize, newest: Box<JavaError> },
    #[error(
        "{path}: there are logs and no snapshot. A Java server refuses this too (snapshot.trust.empty): a snapshot is missing \
         or the logs come from version 3.4"
    )]
    LogsOnly { path: PathBuf },
    #[error("{path}: {name} does not belong here: were dataDir and dataLogDir mixed up?")]
    Misplaced { path: PathBuf, name: String },
    #[error("{file}: {why}")]
    Epoch { file: PathBuf, why: String },
}

/// A small file beside Java's, with this content or, whatever happens, its old one.
pub fn replace_file(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
    file::replace_file(&mut BlockingDisk::default(), &mut Ids::default(), directory, name, bytes)
}

/// Removes such a file, durably, if it is there.
pub fn remove_file(directory: &Path, name: &str) -> Result<(), StoreError> {
    file::remove_file(&mut BlockingDisk::default(), &mut Ids::default(), directory, name)
}

impl JavaError {
    /// Whether the files themselves are at fault: an older snapshot may then do.
    pub(crate) fn is_damaged_snapshot(&self) -> bool {
        matches!(self, JavaError::Snapshot { .. })
    }
}
