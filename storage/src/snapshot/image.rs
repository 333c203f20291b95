//! What a snapshot says about a tree, in the types the core fills in and reads back. The tree's own node type stays free
//! to change; one function on the core's side converts.

use std::ops::Range;

use compact_str::CompactString;

/// No slot: the end of a list.
pub const NO_SLOT: u32 = u32::MAX;

/// One node as a snapshot keeps it. `slot` is its place in the tree's node table; links name the slots of other nodes.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct NodeImage {
    pub slot: u32,
    /// The parent's slot; the root is its own parent.
    pub parent: u32,
    pub first_child: u32,
    pub next_sibling: u32,
    /// Of the first child: the last one.
    pub prev_sibling: u32,
    pub child_count: u32,
    /// CRC-32 of path and data, which the node's digest continues from.
    pub content_crc: u32,
    /// Most names fit in place.
    pub name: CompactString,
    pub data: Option<Vec<u8>>,
    pub acl: u32,
    pub czxid: i64,
    pub mzxid: i64,
    pub pzxid: i64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    /// Children ever created (the stored counter, not the shown one).
    pub cversion: i32,
    pub aversion: i32,
    pub ephemeral_owner: i64,
}

/// One ACL entry of the snapshot's ACL table.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct AclImage {
    pub perms: i32,
    pub scheme: String,
    pub id: String,
}

/// A part of a snapshot, as the core hands it over: a stretch of the walk, or nodes ahead of it that were about to change.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SnapshotChunk {
    /// The slots this chunk settles, following those of the chunk of the walk before it. A slot without a node here was free
    /// when the snapshot began, or its node has gone ahead in an extra chunk. `None`: this is an extra chunk.
    pub slots: Option<Range<u32>>,
    /// In the order of slots.
    pub nodes: Vec<NodeImage>,
}

/// One list of permissions in use.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct AclListImage {
    pub number: u32,
    /// Nodes with this list.
    pub uses: u64,
    pub entries: Vec<AclImage>,
}

/// Everything of a snapshot but its nodes: known at the moment it begins.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SnapshotHeader {
    /// The state is exactly the one after this transaction.
    pub zxid: u64,
    pub tree_digest: u64,
    pub node_count: u64,
    /// One more than the highest slot in use.
    pub slot_count: u32,
    /// Bytes of all paths and data.
    pub data_bytes: u64,
    pub acls: Vec<AclListImage>,
    /// (session id, timeout in milliseconds).
    pub sessions: Vec<(i64, i32)>,
}
