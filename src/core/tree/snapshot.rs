//! The tree as it was at one zxid, walked out in slices while writes go on.
//!
//! The walk visits slots in order. A node that is about to change or go (its links count: a neighbour that comes or goes
//! changes them) before the walk has reached its slot hands its old image over first; a node born meanwhile is skipped. One bit a slot remembers both. So the images together are
//! exactly the tree at the moment of [`DataTree::begin_snapshot`], in no particular order, and no second tree is kept:
//! only the old images not yet taken ([`DataTree::snapshot_backlog_bytes`]). Several walks, of different moments and at different
//! paces, do not know of each other.

use ringkeeper_storage::probe::broken;
use ringkeeper_storage::{AclImage, AclListImage, NodeImage, SnapshotChunk, SnapshotHeader};

use super::DataTree;
use super::node::NodeId;

/// What an image costs in a slice beyond its name and data, in bytes: what it takes on disk, where it begins at a multiple of eight.
/// A slice that is larger there than was asked for does not fit into one write.
const IMAGE_BYTES: usize = 136;
/// Of a snapshot given up: old images let go with each change from then on. Together they may be half a gigabyte in millions
/// of pieces, which would be felt.
const LET_GO_AT_ONCE: usize = 64;
/// What looking at a slot without handing over anything costs in a slice, so that vast holes do not stall the caller.
const SKIPPED_SLOT_BYTES: usize = 1;

/// A snapshot under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalkId(u64);

/// A few.
#[derive(Debug, Default)]
pub(super) struct Walks {
    under_way: Vec<Walk>,
    /// How many there ever were.
    begun: u64,
}

impl Walks {
    fn begin(&mut self, walk: impl FnOnce(WalkId) -> Walk) -> WalkId {
        self.begun += 1;
        let id = WalkId(self.begun);
        self.under_way.push(walk(id));
        id
    }

    fn get(&self, id: WalkId) -> Option<&Walk> {
        self.under_way.iter().find(|walk| walk.id == id)
    }

    fn take(&mut self, id: WalkId) -> Option<Walk> {
        let place = self.under_way.iter().position(|walk| walk.id == id)?;
        Some(self.under_way.swap_remove(place))
    }
}

#[derive(Debug)]
struct Walk {
    id: WalkId,
    next_slot: u32,
    end_slot: u32,
    /// Nodes to be handed over yet: as many in all as there were at the beginning.
    owed: u64,
    /// One bit for each slot: already handed over, or its node was born after the beginning.
    settled: Vec<u64>,
    /// Old images of nodes that changed before the walk came by.
    saved: OldImages,
    parents_first: bool,
}

impl Walk {
    fn is_ahead(&self, id: NodeId) -> bool {
        (self.next_slot..self.end_slot).contains(&id.0) && self.settled[id.0 as usize / 64] & bit(id.0) == 0
    }

    fn hand_over(&mut self, nodes: usize) {
        let left = self.owed.checked_sub(nodes as u64);
        self.owed = left.expect("a snapshot has no node that was not there when it began");
    }

    fn settle(&mut self, id: NodeId) {
        self.settled[id.0 as usize / 64] |= bit(id.0);
    }
}

fn bit(slot: u32) -> u64 {
    1 << (slot % 64)
}

fn image_bytes(name: &str, data: Option<&[u8]>) -> usize {
    IMAGE_BYTES + name.len() + data.map_or(0, <[u8]>::len)
}

/// Old images, the last first. In blocks: there may be millions, and neither growing nor ending happens in one go.
#[derive(Debug, Default)]
pub(super) struct OldImages {
    blocks: Vec<Vec<NodeImage>>,
    bytes: usize,
}

impl OldImages {
    const BLOCK: usize = 1024;

    fn push(&mut self, image: NodeImage) {
        self.bytes += OldImages::held_bytes(&image);
        match self.blocks.last_mut().filter(|block| block.len() < OldImages::BLOCK) {
            Some(block) => block.push(image),
            None => self.blocks.push(vec![image]),
        }
    }

    fn pop(&mut self) -> Option<NodeImage> {
        let block = self.blocks.last_mut()?;
        let image = block.pop().expect("no block is empty");
        if block.is_empty() {
            self.blocks.pop();
        }
        self.bytes -= OldImages::held_bytes(&image);
        Some(image)
    }

    /// All of the other's, too.
    fn take(&mut self, mut other: OldImages) {
        self.blocks.append(&mut other.blocks);
        self.bytes += other.bytes;
    }

    fn held_bytes(image: &NodeImage) -> usize {
        size_of::<NodeImage>() + image.name.capacity() + image.data.as_ref().map_or(0, Vec::capacity)
    }
}

impl DataTree {
    /// Begins a snapshot of exactly the present state. None while the tree is still moving: the snapshot it comes from was not
    /// read to the end, and only what was checked may take its place. The caller fills in the sessions.
    pub fn begin_snapshot(&mut self) -> (WalkId, SnapshotHeader) {
        self.begin_walk(false)
    }

    /// The same for a reader who needs parents before children: a node that the walk comes to before its parent is followed by
    /// the parent in the next slice. So such a reader has to keep little more than a slice. For the disk it would be a waste:
    /// what goes ahead of the walk is found there by another way.
    pub fn begin_snapshot_parents_first(&mut self) -> (WalkId, SnapshotHeader) {
        self.begin_walk(true)
    }

    fn begin_walk(&mut self, parents_first: bool) -> (WalkId, SnapshotHeader) {
        assert!(!self.is_moving(), "a snapshot of a tree in memory");
        let (end_slot, owed) = (self.nodes.slot_count(), self.node_count());
        let walk = self.walks.begin(|id| Walk {
            id,
            next_slot: 0,
            end_slot,
            owed,
            settled: vec![0; (end_slot as usize).div_ceil(64)],
            saved: OldImages::default(),
            parents_first,
        });
        let acls = self.acls.iter().map(|(acl, list)| {
            let entry = |acl: &crate::wire::client::Acl<'_>| AclImage {
                perms: acl.perms,
                scheme: acl.scheme.as_deref().unwrap_or_default().to_owned(),
                id: acl.id.as_deref().unwrap_or_default().to_owned(),
            };
            AclListImage { number: acl.0, uses: self.acls.uses(acl), entries: list.iter().map(entry).collect() }
        });
        let header = SnapshotHeader {
            zxid: self.last_processed.0,
            tree_digest: self.digest,
            node_count: self.node_count(),
            slot_count: end_slot,
            data_bytes: self.data_bytes,
            acls: acls.collect(),
            sessions: vec![],
        };
        (walk, header)
    }

    pub fn snapshot_running(&self) -> bool {
        !self.walks.under_way.is_empty()
    }

    /// The next images, about `max_bytes` of them, at least one slot's worth of progress. May be empty where many slots
    /// are free. `None` once all were handed over: the snapshot is then over.
    pub fn snapshot_slice(&mut self, walk: WalkId, max_bytes: usize) -> Option<SnapshotChunk> {
        let mut walk = self.walks.take(walk)?;
        if walk.saved.bytes == 0 && walk.next_slot == walk.end_slot {
            assert_eq!(walk.owed, 0, "a snapshot has every node that there was when it began");
            return None;
        }
        let mut nodes = vec![];
        let mut bytes = 0;
        while let Some(image) = walk.saved.pop() {
            bytes += image_bytes(&image.name, image.data.as_deref());
            self.call_parent(NodeId(image.parent), &mut walk);
            nodes.push(image);
            if bytes >= max_bytes {
                break;
            }
        }
        if !nodes.is_empty() {
            nodes.sort_unstable_by_key(|image| image.slot);
            walk.hand_over(nodes.len());
            self.walks.under_way.push(walk);
            return Some(SnapshotChunk { slots: None, nodes });
        }
        let from = walk.next_slot;
        while bytes < max_bytes && walk.next_slot < walk.end_slot {
            let id = NodeId(walk.next_slot);
            let Some(node) = self.nodes.get(id).filter(|_| walk.is_ahead(id)) else {
                bytes += SKIPPED_SLOT_BYTES;
                walk.next_slot += 1;
                continue;
            };
            bytes += image_bytes(&node.name, node.data.as_deref());
            if bytes > max_bytes && !nodes.is_empty() {
                break;
            }
            walk.next_slot += 1;
            self.call_parent(node.parent, &mut walk); // of the root: itself, which the walk has come to
            nodes.push(self.image(id));
        }
        let slots = Some(from..walk.next_slot);
        walk.hand_over(nodes.len());
        self.walks.under_way.push(walk);
        Some(SnapshotChunk { slots, nodes })
    }

    /// Has the parent of a node that is handed over go ahead too, if the walk has yet to come to it.
    fn call_parent(&self, parent: NodeId, walk: &mut Walk) {
        if walk.parents_first && walk.is_ahead(parent) && self.nodes.get(parent).is_some() {
            walk.settle(parent);
            walk.saved.push(self.image(parent));
        }
    }

    /// Bytes of old images waiting to be taken, of all walks: what changed since they began and was not yet walked. The caller
    /// keeps it bounded by taking slices or, if nobody takes them, by abandoning a snapshot.
    pub fn snapshot_backlog_bytes(&self) -> usize {
        self.walks.under_way.iter().map(|walk| walk.saved.bytes).sum()
    }

    /// Of this one.
    pub fn walk_backlog_bytes(&self, walk: WalkId) -> usize {
        self.walks.get(walk).map_or(0, |walk| walk.saved.bytes)
    }

    pub fn abandon_snapshot(&mut self, walk: WalkId) {
        if let Some(walk) = self.walks.take(walk) {
            self.given_up.take(walk.saved);
        }
    }

    /// Called with each change.
    pub(super) fn let_go_of_given_up(&mut self) {
        (0..LET_GO_AT_ONCE).map_while(|_| self.given_up.pop()).for_each(drop);
    }

    /// Called before a node changes or goes.
    pub(super) fn save_for_snapshot(&mut self, id: NodeId) {
        if self.walks.under_way.is_empty() || broken("a snapshot forgets what changed ahead of its walk") {
            return;
        }
        let mut walks = std::mem::take(&mut self.walks.under_way);
        for walk in walks.iter_mut().filter(|walk| walk.is_ahead(id)) {
            walk.settle(id);
            walk.saved.push(self.image(id));
            // So what was given up goes sooner than its place is taken.
            drop((self.given_up.pop(), self.given_up.pop()));
        }
        self.walks.under_way = walks;
    }

    /// Called after a node is born, perhaps in a slot that was free when the snapshot began.
    pub(super) fn skip_in_snapshot(&mut self, id: NodeId) {
        for walk in self.walks.under_way.iter_mut().filter(|walk| walk.is_ahead(id)) {
            if !broken("a snapshot takes in what was born ahead of its walk") {
                walk.settle(id);
            }
        }
    }

    fn image(&self, id: NodeId) -> NodeImage {
        let node = &self.nodes[id];
        NodeImage {
            slot: id.0,
            parent: node.parent.0,
            first_child: node.first_child.0,
            next_sibling: node.next_sibling.0,
            prev_sibling: node.prev_sibling.0,
            child_count: node.child_count(),
            content_crc: node.content_crc,
            name: node.name.clone(),
            data: node.data.as_ref().map(|data| data.to_vec()),
            acl: node.acl.0,
            czxid: node.czxid,
            mzxid: node.mzxid,
            pzxid: node.pzxid,
            ctime: node.ctime,
            mtime: node.mtime,
            version: node.version,
            cversion: node.cversion,
            aversion: node.aversion,
            ephemeral_owner: self.owner(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{create, header};
    use super::super::{TreeOptions, Unwatched};
    use super::*;
    use crate::wire::txn::{CreateKind, Txn};

    #[test]
    fn what_was_saved_for_a_snapshot_given_up_goes_bit_by_bit() {
        let mut tree = DataTree::new(TreeOptions::default());
        let nodes = 2 * OldImages::BLOCK as i64 + 500;
        let mut zxid = 0;
        let mut apply = |tree: &mut DataTree, txn: &Txn<'_>| {
            zxid += 1;
            tree.apply(&header(zxid), txn, &mut Unwatched);
        };
        let path = |at| format!("/n{at}");
        let change = |at| Txn::SetData { path: path(at).into(), data: Some(b"new"), version: 1 };
        (0..nodes).for_each(|at| apply(&mut tree, &create(&path(at), CreateKind::Persistent, -1)));
        for _ in 0..2 {
            let (walk, _) = tree.begin_snapshot();
            (0..nodes).for_each(|at| apply(&mut tree, &change(at)));
            assert!(tree.snapshot_backlog_bytes() >= nodes as usize * size_of::<NodeImage>());
            tree.abandon_snapshot(walk);
            assert_eq!(tree.snapshot_backlog_bytes(), 0);
        }
        let mut held = tree.given_up.blocks.iter().map(Vec::len).sum::<usize>();
        assert_eq!(held, nodes as usize, "those of the first are gone");
        while held > 0 {
            apply(&mut tree, &change(1));
            let left = tree.given_up.blocks.iter().map(Vec::len).sum::<usize>();
            assert_eq!(held - left, held.min(LET_GO_AT_ONCE));
            held = left;
        }
        assert_eq!((tree.given_up.bytes, tree.given_up.blocks.len()), (0, 0));
    }
}
