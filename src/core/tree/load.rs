//! A tree built from a snapshot's images.

use ringkeeper_storage::{NodeImage, SnapshotHeader};

use super::{DataTree, TreeOptions};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    #[error("slot {slot} is outside the snapshot's {slot_count} slots")]
    SlotOutOfRange { slot: u32, slot_count: u32 },
    #[error("slot {slot} appears twice")]
    SlotTwice { slot: u32 },
    #[error("the snapshot has no root")]
    NoRoot,
    #[error("slot {slot} hangs below slot {parent}, which is not there")]
    NoParent { slot: u32, parent: u32 },
    #[error("slot {slot} has the name {name:?} of another child of slot {parent}, or no valid name")]
    BadName { slot: u32, parent: u32, name: String },
    #[error("{count} nodes are not reachable from the root")]
    Unreachable { count: u64 },
    #[error("slot {slot} uses ACL {acl}, which the snapshot does not have")]
    NoAcl { slot: u32, acl: u32 },
    #[error("{found} nodes instead of {expected}")]
    NodeCount { found: u64, expected: u64 },
    #[error("the tree's digest is {found:#x} instead of {expected:#x}")]
    Digest { found: u64, expected: u64 },
}

/// Takes a snapshot's images in any order.
#[derive(Debug)]
pub struct TreeLoader {}

#[allow(unused_variables)]
impl TreeLoader {
    pub fn new(header: &SnapshotHeader, options: TreeOptions) -> Result<TreeLoader, LoadError> {
        unimplemented!()
    }
    pub fn add(&mut self, image: NodeImage) -> Result<(), LoadError> {
        unimplemented!()
    }
    pub fn finish(self) -> Result<DataTree, LoadError> {
        unimplemented!()
    }
}
