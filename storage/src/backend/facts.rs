//! What the start banner says about the disks.
use std::path::PathBuf;

/// Where a directory lies and how it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskFacts {
    pub directory: PathBuf,
    /// `ext4`, `xfs`, `tmpfs`...; the magic in hexadecimal when it has no name here.
    pub file_system: String,
    /// `/dev/nvme0n1p2`, `tmpfs`, `server:/export`; empty when unknown.
    pub device: String,
    pub mount_point: PathBuf,
    pub direct_io: bool,
    /// What direct IO wants offsets and lengths to be multiples of; 0 when unknown.
    pub direct_io_alignment: u32,
    /// A file system that is somebody else's machine, or memory: durability is theirs to promise.
    pub network: bool,
    pub volatile: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageFacts {
    pub log: DiskFacts,
    pub snapshots: DiskFacts,
}
