//! What a snapshot says about a tree, in the types the core fills in and reads back. The tree's own node type stays free
//! to change; one function on the core's side converts.

/// One node as a snapshot keeps it. `slot` is its place in the tree's node table; `parent` names the parent's slot.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct NodeImage {
    pub slot: u32,
    /// The parent's slot; the root is its own parent.
    pub parent: u32,
    pub name: String,
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

/// Everything of a snapshot but its nodes: known at the moment it begins.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SnapshotHeader {
    /// The state is exactly the one after this transaction.
    pub zxid: u64,
    pub tree_digest: u64,
    pub node_count: u64,
    /// One more than the highest slot in use.
    pub slot_count: u32,
    /// (reference number, entries) of every ACL in use.
    pub acls: Vec<(u32, Vec<AclImage>)>,
    /// (session id, timeout in milliseconds).
    pub sessions: Vec<(i64, i32)>,
}
