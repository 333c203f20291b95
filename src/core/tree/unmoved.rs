//! What is still only in the snapshot a tree started from.
//!
//! ```text
//!   0            next                    end
//!   | in memory, | in memory if looked at, | in memory:
//!   | in the     | not in the index        | made since
//!   | index      |                         |
//! ```
//!
//! A place between `next` and `end` holds the snapshot's node or, after that was deleted, nothing: it is not used again before
//! `next` has passed it. So a node comes to the index exactly once, and there are no other states of a node than these.
//!
//! On its way `next` sums up what the snapshot's head promises: nodes, children, uses of lists, owners, digest. Nothing of
//! that needs the path of a node: content CRCs are in the images, and the nodes below `/zookeeper`, which do not count for
//! the digest, are found by walking down from there in the snapshot before the move begins.
//!
//! What a chunk with a right checksum may not say (a nameless node, a list that is not there) ends the process as damage does:
//! it was written like this, and no answer made from it can be right.

use ringkeeper_storage::{NO_SLOT, NodeRef, OwnedSlot, SnapshotError, SnapshotHeader, SnapshotSource};

use super::acl::AclRef;
use super::load_error::LoadError;
use super::node::{Node, NodeId};
use super::sums::{Sums, digest_of, hash_of};

/// What moving a node costs beyond its name and data, in bytes of a slice.
pub(super) const NODE_BYTES: usize = 120;
/// What passing a hole costs.
pub(super) const SLOT_BYTES: usize = 16;

#[derive(Debug)]
pub(super) struct Unmoved {
    source: Box<dyn SnapshotSource>,
    next: u32,
    end: u32,
    sums: Sums,
    system: SystemWalk,
}

/// The walk over the nodes below `/zookeeper`, as the snapshot has them.
#[derive(Debug)]
enum SystemWalk {
    NotBegun,
    At { top: u32, slot: u32, steps: u64 },
    Over,
}

impl Unmoved {
    pub fn new(source: Box<dyn SnapshotSource>) -> Result<Unmoved, LoadError> {
        let SnapshotHeader { slot_count, node_count, .. } = *source.header();
        if node_count > slot_count.into() {
            return Err(LoadError::TooManyNodes { node_count, slot_count });
        }
        let sums = Sums::new(source.header());
        let unmoved = Unmoved { source, next: 0, end: slot_count, sums, system: SystemWalk::NotBegun };
        match unmoved.source.node(NodeId::ROOT.0)? {
            None => Err(LoadError::NoRoot),
            Some(root) => unmoved.check(&root).map(|()| unmoved),
        }
    }

    pub fn header(&self) -> &SnapshotHeader {
        self.source.header()
    }

    pub fn owned(&self) -> &[OwnedSlot] {
        self.source.owned()
    }

    pub fn node_count(&self) -> u32 {
        u32::try_from(self.header().node_count).expect("not more than slots")
    }

    pub fn end(&self) -> u32 {
        self.end
    }

    /// Slots not passed yet.
    pub fn slots_left(&self) -> u32 {
        self.end - self.next
    }

    /// Whether this place still holds the snapshot's node or nothing.
    pub fn has(&self, slot: u32) -> bool {
        (self.next..self.end).contains(&slot)
    }

    /// The node of this slot at the time of the snapshot.
    pub fn node(&self, slot: u32) -> Option<Node> {
        let image = self.image(slot)?;
        self.check(&image).unwrap_or_else(|error| self.condemn(&error));
        Some(node_of(&image))
    }

    /// The child of this name that has not been moved yet. `is_it` looks at what only seems to be it, too.
    pub fn find_child(&self, parent: u32, name: &str, is_it: impl Fn(u32) -> bool) -> Option<NodeId> {
        let mut found = None;
        let mut take = |slot| {
            let taken = self.has(slot) && is_it(slot);
            found = taken.then_some(NodeId(slot));
            taken
        };
        self.source.children_named(parent, name, &mut take).unwrap_or_else(|error| damaged(&error));
        found
    }

    /// The next slot and what the snapshot has there.
    pub fn take_next(&mut self) -> Option<(u32, Option<NodeRef<'_>>)> {
        let slot = self.next;
        if slot == self.end {
            return None;
        }
        self.next += 1;
        let image = self.source.node(slot).unwrap_or_else(|error| damaged(&error));
        if let Some(image) = &image {
            self.sums.check(image).unwrap_or_else(|error| damaged(&self.source.condemn(error.to_string())));
            self.sums.add(image);
        }
        Some((slot, image))
    }

    /// Ends the process over what was written like this; the storage sees to it that the next start does without it.
    #[cold]
    pub fn condemn(&self, error: &LoadError) -> ! {
        damaged(&self.source.condemn(error.to_string()))
    }

    /// Tells the source, and the caller, how far `next` has come.
    pub fn note_passed(&self) -> u32 {
        self.source.passed(self.next);
        self.next
    }

    /// Looks at one more node below `/zookeeper`. False when that is over.
    pub fn walk_system(&mut self) -> bool {
        let (top, slot, steps) = match self.system {
            SystemWalk::Over => return false,
            SystemWalk::NotBegun => {
                self.system = match self.find_system().filter(|top| top.first_child != NO_SLOT) {
                    Some(NodeRef { slot, first_child, .. }) => {
                        SystemWalk::At { top: slot, slot: first_child, steps: 0 }
                    }
                    None => SystemWalk::Over,
                };
                return true;
            }
            SystemWalk::At { top, slot, steps } => (top, slot, steps + 1),
        };
        // Links that lead in a circle or nowhere end the walk; the digest then tells that something is wrong.
        let is_endless = steps > u64::from(self.end);
        self.system = SystemWalk::Over;
        if let Some(image) = self.image(slot).filter(|_| !is_endless) {
            let (digest, next) = (digest_of(&image), self.next_below(top, image));
            self.sums.digest = self.sums.digest.wrapping_sub(digest);
            if let Some(slot) = next {
                self.system = SystemWalk::At { top, slot, steps };
            }
        }
        true
    }

    /// What the head promised and the nodes did not keep.
    pub fn contradiction(&self) -> Option<LoadError> {
        let (header, sums) = (self.header(), &self.sums);
        if let Some(error) = sums.miscount(header) {
            return Some(error);
        }
        if sums.owned != self.owned().iter().fold(0, |sum: u64, owned| sum.wrapping_add(hash_of(owned))) {
            return Some(LoadError::Owners);
        }
        let (found, expected) = (sums.digest, header.tree_digest);
        (found != expected).then_some(LoadError::Digest { found, expected })
    }

    fn find_system(&self) -> Option<NodeRef<'_>> {
        let is_it =
            |slot| self.image(slot).is_some_and(|image| image.parent == NodeId::ROOT.0 && image.name == "zookeeper");
        self.image(self.find_child(NodeId::ROOT.0, "zookeeper", is_it)?.0)
    }

    /// The node after `from` in a walk over everything below `top`, parents first.
    fn next_below(&self, top: u32, from: NodeRef<'_>) -> Option<u32> {
        if from.first_child != NO_SLOT {
            return Some(from.first_child);
        }
        let mut at = from;
        for _ in 0..self.end {
            if at.next_sibling != NO_SLOT {
                return Some(at.next_sibling);
            }
            if at.parent == top {
                return None;
            }
            at = self.image(at.parent)?;
        }
        None
    }

    fn image(&self, slot: u32) -> Option<NodeRef<'_>> {
        self.source.node(slot).unwrap_or_else(|error| damaged(&error))
    }

    fn check(&self, image: &NodeRef<'_>) -> Result<(), LoadError> {
        self.sums.check(image)
    }
}

pub(super) fn node_of(image: &NodeRef<'_>) -> Node {
    let mut node = Node::new(NodeId(image.parent), image.name, image.data, AclRef(image.acl), image.content_crc);
    (node.czxid, node.mzxid, node.pzxid) = (image.czxid, image.mzxid, image.pzxid);
    (node.ctime, node.mtime) = (image.ctime, image.mtime);
    (node.version, node.cversion, node.aversion) = (image.version, image.cversion, image.aversion);
    (node.first_child, node.next_sibling) = (NodeId(image.first_child), NodeId(image.next_sibling));
    node.prev_sibling = NodeId(image.prev_sibling);
    node.set_children(image.child_count, image.ephemeral_owner != 0);
    node
}

/// Nothing can be served from a snapshot like this, and parts of it have been served already. The process ends; a damaged
/// file has been set aside by the storage, so that the next start takes an older one.
#[cold]
fn damaged(error: &SnapshotError) -> ! {
    panic!("the snapshot this server started from cannot be used: {error}")
}

impl From<SnapshotError> for LoadError {
    fn from(error: SnapshotError) -> LoadError {
        LoadError::Damaged(error.to_string())
    }
}
