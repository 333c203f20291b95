//! The tree as readers see it.

use super::{AclRef, AclTable, NodeId, OwnerKind, RawStat};
use crate::core::types::{SessionId, Zxid};
use crate::wire::client::{Acl, Stat};

/// Settings that change what stored data means; equal on all servers of an ensemble.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeOptions {
    /// `zookeeper.extendedTypesEnabled`: owners with top byte 0xFF are TTL nodes.
    pub extended_types: bool,
    /// `zookeeper.emulate353TTLNodes`.
    pub emulate_353_ttl: bool,
}

#[derive(Debug)]
pub struct DataTree {
    pub(super) acls: AclTable,
}

#[allow(unused_variables)]
impl DataTree {
    /// A fresh server's tree: root, `/zookeeper`, its quota and config (semantics 2).
    pub fn new(options: TreeOptions) -> DataTree {
        unimplemented!()
    }
    pub fn options(&self) -> TreeOptions {
        unimplemented!()
    }
    /// The node at a path; `""` and `/` are the root. Odd paths simply are not there.
    pub fn find(&self, path: &str) -> Option<NodeId> {
        unimplemented!()
    }
    pub fn child(&self, parent: NodeId, name: &str) -> Option<NodeId> {
        unimplemented!()
    }
    pub fn parent(&self, id: NodeId) -> Option<NodeId> {
        unimplemented!()
    }
    pub fn name(&self, id: NodeId) -> &str {
        unimplemented!()
    }
    pub fn data(&self, id: NodeId) -> Option<&[u8]> {
        unimplemented!()
    }
    pub fn child_count(&self, id: NodeId) -> u32 {
        unimplemented!()
    }
    /// Children in the order of their creation.
    pub fn children(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        std::iter::empty()
    }
    /// Nodes below this one, at any depth. Walks them.
    pub fn descendant_count(&self, id: NodeId) -> u64 {
        unimplemented!()
    }
    pub fn path(&self, id: NodeId) -> String {
        unimplemented!()
    }
    pub fn write_path(&self, id: NodeId, out: &mut String) {
        unimplemented!()
    }
    pub fn raw_stat(&self, id: NodeId) -> RawStat {
        unimplemented!()
    }
    /// As clients see it (semantics 3.1).
    pub fn stat(&self, id: NodeId) -> Stat {
        unimplemented!()
    }
    pub fn owner_kind(&self, id: NodeId) -> OwnerKind {
        unimplemented!()
    }
    pub fn acl_ref(&self, id: NodeId) -> AclRef {
        unimplemented!()
    }
    pub fn acl(&self, id: NodeId) -> &[Acl<'static>] {
        unimplemented!()
    }
    pub fn acls(&self) -> &AclTable {
        &self.acls
    }
    pub fn content_crc(&self, id: NodeId) -> u32 {
        unimplemented!()
    }
    pub fn digest(&self) -> u64 {
        unimplemented!()
    }
    pub fn last_processed(&self) -> Zxid {
        unimplemented!()
    }
    pub fn node_count(&self) -> u64 {
        unimplemented!()
    }
    pub fn ephemerals_count(&self) -> u64 {
        unimplemented!()
    }
    /// Bytes of all paths and data. Java: `DataTree.approximateDataSize`.
    pub fn approximate_data_size(&self) -> u64 {
        unimplemented!()
    }
    /// A session's ephemerals in the order of their creation.
    pub fn ephemerals(&self, session: SessionId) -> impl Iterator<Item = NodeId> + '_ {
        std::iter::empty()
    }
    /// Every session that owns ephemerals (for `dump`), in no particular order.
    pub fn ephemeral_owners(&self) -> impl Iterator<Item = SessionId> + '_ {
        std::iter::empty()
    }
    /// Container and TTL nodes that are due (semantics 6.3). `never_used_interval_ms` 0 = never used containers stay.
    pub fn reap_candidates(&self, now_wall_ms: i64, never_used_interval_ms: i64) -> Vec<NodeId> {
        unimplemented!()
    }
}
