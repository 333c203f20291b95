//! A snapshot as a tree reads it where it lies: single nodes, before the tree is in memory.
//!
//! Slots are the tree's own numbers for its nodes and survive in the file, so the links of an image (parent, children,
//! siblings) lead to other images. A tree that starts from a source looks a node up here when it meets it first, and moves
//! the rest over in the order of slots behind the traffic. Implemented by the mapped file and, in tests, by plain memory.

use std::fmt::Debug;

use super::image::{NodeImage, SnapshotHeader};
use crate::error::SnapshotError;

/// A node with an owner: an ephemeral, a container or a TTL node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct OwnedSlot {
    pub slot: u32,
    pub owner: i64,
    /// Orders the list of a session.
    pub czxid: i64,
}

/// A node image that borrows the very bytes that were verified. Fields as in [`NodeImage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeRef<'a> {
    pub slot: u32,
    pub parent: u32,
    pub first_child: u32,
    pub next_sibling: u32,
    pub prev_sibling: u32,
    pub child_count: u32,
    pub content_crc: u32,
    pub name: &'a str,
    pub data: Option<&'a [u8]>,
    pub acl: u32,
    pub czxid: i64,
    pub mzxid: i64,
    pub pzxid: i64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    pub cversion: i32,
    pub aversion: i32,
    pub ephemeral_owner: i64,
}

impl<'a> From<&'a NodeImage> for NodeRef<'a> {
    fn from(image: &'a NodeImage) -> NodeRef<'a> {
        NodeRef {
            slot: image.slot,
            parent: image.parent,
            first_child: image.first_child,
            next_sibling: image.next_sibling,
            prev_sibling: image.prev_sibling,
            child_count: image.child_count,
            content_crc: image.content_crc,
            name: &image.name,
            data: image.data.as_deref(),
            acl: image.acl,
            czxid: image.czxid,
            mzxid: image.mzxid,
            pzxid: image.pzxid,
            ctime: image.ctime,
            mtime: image.mtime,
            version: image.version,
            cversion: image.cversion,
            aversion: image.aversion,
            ephemeral_owner: image.ephemeral_owner,
        }
    }
}

impl NodeRef<'_> {
    pub fn to_image(self) -> NodeImage {
        NodeImage {
            slot: self.slot,
            parent: self.parent,
            first_child: self.first_child,
            next_sibling: self.next_sibling,
            prev_sibling: self.prev_sibling,
            child_count: self.child_count,
            content_crc: self.content_crc,
            name: self.name.into(),
            data: self.data.map(<[u8]>::to_vec),
            acl: self.acl,
            czxid: self.czxid,
            mzxid: self.mzxid,
            pzxid: self.pzxid,
            ctime: self.ctime,
            mtime: self.mtime,
            version: self.version,
            cversion: self.cversion,
            aversion: self.aversion,
            ephemeral_owner: self.ephemeral_owner,
        }
    }
}

/// Everything a tree needs of a snapshot. An error means damage: nothing of the damaged part was handed out.
pub trait SnapshotSource: Debug {
    fn header(&self) -> &SnapshotHeader;

    /// Every node with an owner, in no order.
    fn owned(&self) -> &[OwnedSlot];

    /// The node in this slot at the snapshot's zxid. `None`: the slot was free, or lies beyond the header's `slot_count`.
    fn node(&self, slot: u32) -> Result<Option<NodeRef<'_>>, SnapshotError>;

    /// Offers slots until one is taken (`true`): among them is the child of `parent` with this name, if there is one. The
    /// others only look like it: the taker compares.
    fn children_named(&self, parent: u32, name: &str, take: &mut dyn FnMut(u32) -> bool) -> Result<(), SnapshotError>;

    /// What it says, rightly sealed as it is, cannot be: no start should meet it again. Returns what to tell of that.
    fn condemn(&self, why: String) -> SnapshotError;

    /// Everything below this slot has been read and is not needed from here any more; what follows it is next. Advice only.
    fn passed(&self, slot: u32);
}
