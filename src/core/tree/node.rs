//! How a node lies in memory, and how a name finds it.
//!
//! A node costs 120 bytes, its data, and 8 bytes in the index of children; a name of up to 24 bytes lies inside the
//! node. Paths are not stored: they follow from names and parents. Children hang in a doubly linked list in the order of
//! their creation, and all of them, of all nodes, are found through one index keyed by (parent, name).
//!
//! A tree that starts from a snapshot keeps the snapshot's numbers of nodes and begins with none of them in memory. A node
//! comes when it is first looked at, through a shared reference, so nobody above this file has to know; [`Nodes::move_next`]
//! brings the rest, in the order of numbers. Nodes it has passed, and new ones, are in the index of children; a child that
//! is not found there is asked for in the snapshot (`unmoved.rs`).
//!
//! Java: `DataNode`, `NodeHashMapImpl`.

use std::hash::Hasher;

use compact_str::CompactString;

use super::AclRef;
use super::digest::{self, RawStat};
use super::load_error::LoadError;
use super::table::{HashIndex, NIL, Paged, Place};
use super::unmoved::{self, Unmoved};
use crate::wire::txn::{CONTAINER_OWNER, TTL_OWNER_MASK};

/// Place of a node in the tree's table; stable while the node lives, reused afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

impl NodeId {
    pub const ROOT: NodeId = NodeId(0);
    pub(super) const NONE: NodeId = NodeId(NIL);

    pub(super) fn or_none(self) -> Option<NodeId> {
        (self != NodeId::NONE).then_some(self)
    }
}

/// Most a TTL can be: it has 40 bits in the owner field.
pub const TTL_MS_MAX: i64 = (1 << 40) - 1;

/// What a stored owner field means (semantics 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerKind {
    Persistent,
    Ephemeral,
    Container,
    Ttl { ttl_ms: i64 },
}

impl OwnerKind {
    pub fn of(owner: i64, extended_types: bool, emulate_353_ttl: bool) -> OwnerKind {
        let ttl = OwnerKind::Ttl { ttl_ms: owner & TTL_MS_MAX };
        match owner {
            0 => OwnerKind::Persistent,
            CONTAINER_OWNER => OwnerKind::Container,
            // Bits 55..40 set: Java throws on every access; an odd session's ephemeral is the sane reading.
            _ if extended_types && owner & !TTL_MS_MAX == TTL_OWNER_MASK => ttl,
            _ if extended_types && emulate_353_ttl && owner < 0 => ttl,
            _ => OwnerKind::Ephemeral,
        }
    }
}

#[derive(Debug)]
pub(super) struct Node {
    pub czxid: i64,
    pub mzxid: i64,
    pub pzxid: i64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    /// Children ever created.
    pub cversion: i32,
    pub aversion: i32,
    /// The root is its own parent.
    pub parent: NodeId,
    pub first_child: NodeId,
    pub next_sibling: NodeId,
    /// Of the first child: the last one, so that appending needs no fourth link.
    pub prev_sibling: NodeId,
    /// Number of children, and in the highest bit whether the table of owners has an entry for this node.
    children: u32,
    pub acl: AclRef,
    /// See `digest::content_crc`.
    pub content_crc: u32,
    pub name: CompactString,
    pub data: Option<Box<[u8]>>,
}

const _: () = assert!(size_of::<Place<Node>>() == 120);

const OWNED: u32 = 1 << 31;

impl Node {
    /// A node with a blank stat, not yet linked to its parent.
    pub fn new(parent: NodeId, name: &str, data: Option<&[u8]>, acl: AclRef, content_crc: u32) -> Node {
        Node {
            czxid: 0,
            mzxid: 0,
            pzxid: 0,
            ctime: 0,
            mtime: 0,
            version: 0,
            cversion: 0,
            aversion: 0,
            parent,
            first_child: NodeId::NONE,
            next_sibling: NodeId::NONE,
            prev_sibling: NodeId::NONE,
            children: 0,
            acl,
            content_crc,
            name: CompactString::new(name),
            data: data.map(Box::from),
        }
    }

    pub fn child_count(&self) -> u32 {
        self.children & !OWNED
    }

    pub fn is_owned(&self) -> bool {
        self.children & OWNED != 0
    }

    pub fn set_owned(&mut self) {
        self.children |= OWNED;
    }

    pub fn set_children(&mut self, count: u32, owned: bool) {
        assert!(count < OWNED, "more than 2^31 - 1 children");
        self.children = if owned { count | OWNED } else { count };
    }

    pub fn raw_stat(&self, ephemeral_owner: i64) -> RawStat {
        RawStat {
            czxid: self.czxid,
            mzxid: self.mzxid,
            pzxid: self.pzxid,
            ctime: self.ctime,
            mtime: self.mtime,
            version: self.version,
            cversion: self.cversion,
            aversion: self.aversion,
            ephemeral_owner,
        }
    }

    pub fn digest(&self, owner: i64) -> u64 {
        digest::node_digest(self.content_crc, &self.raw_stat(owner))
    }

    pub fn data_len(&self) -> usize {
        self.data.as_ref().map_or(0, |data| data.len())
    }
}

/// All nodes, their sibling lists and the index of children: everything structural.
#[derive(Debug)]
pub(super) struct Nodes {
    table: Paged<Node>,
    /// (parent, name) -> place. The names are the nodes' own.
    index: HashIndex,
    /// The snapshot this tree started from, while nodes are still to come from it.
    unmoved: Option<Box<Unmoved>>,
}

impl Nodes {
    /// A root and nothing else.
    pub fn new(root: Node, hash_seed: u64) -> Nodes {
        let mut nodes = Nodes { table: Paged::default(), index: HashIndex::new(hash_seed), unmoved: None };
        assert_eq!(nodes.insert_unlinked(root), NodeId::ROOT);
        nodes
    }

    /// All nodes of a snapshot, none of them in memory.
    pub fn unmoved(unmoved: Unmoved, hash_seed: u64) -> Nodes {
        let table = Paged::to_be_filled(unmoved.end(), unmoved.node_count());
        Nodes { table, index: HashIndex::new(hash_seed), unmoved: Some(Box::new(unmoved)) }
    }

    /// A node not yet among its parent's children; [`Nodes::link`] follows.
    pub fn insert_unlinked(&mut self, node: Node) -> NodeId {
        NodeId(self.table.insert(node))
    }

    /// Makes the node its parent's last child. The name must be free.
    pub fn link(&mut self, id: NodeId) {
        let parent = self[id].parent;
        self.index.insert(child_hash(&self.index, parent, &self[id].name), id.0);
        let first = self[parent].first_child;
        if first == NodeId::NONE {
            self[parent].first_child = id;
            self[id].prev_sibling = id;
        } else {
            let last = self[first].prev_sibling;
            self[last].next_sibling = id;
            self[id].prev_sibling = last;
            self[first].prev_sibling = id;
        }
        self[parent].children += 1;
        assert!(self[parent].child_count() != 0, "more than 2^31 - 1 children");
    }

    /// The nodes, perhaps some twice, that [`Nodes::link`] changes to make a new one the last child of this parent.
    pub fn changed_by_link(&self, parent: NodeId) -> impl Iterator<Item = NodeId> + use<> {
        let first = self[parent].first_child.or_none();
        let last = first.map(|first| self[first].prev_sibling);
        [Some(parent), first, last].into_iter().flatten()
    }

    /// The nodes, perhaps some twice, that [`Nodes::remove`] changes besides the one that goes.
    pub fn changed_by_remove(&self, id: NodeId) -> impl Iterator<Item = NodeId> + use<> {
        let node = &self[id];
        let first = self[node.parent].first_child;
        let keeper = node.next_sibling.or_none().unwrap_or(first);
        [node.parent, node.prev_sibling, keeper].into_iter()
    }

    /// Takes a childless node out of its parent and the table.
    pub fn remove(&mut self, id: NodeId) -> Node {
        let is_unmoved = self.unmoved.as_ref().is_some_and(|unmoved| unmoved.has(id.0));
        if is_unmoved {
            self.fetch(id);
        }
        let node = self.table.remove(id.0);
        assert!(node.child_count() == 0 && id != NodeId::ROOT);
        if !is_unmoved {
            self.index.remove(child_hash(&self.index, node.parent, &node.name), id.0);
        }
        let (next, prev) = (node.next_sibling, node.prev_sibling);
        let parent = node.parent;
        self[parent].children -= 1;
        if self[parent].first_child == id {
            self[parent].first_child = next;
        } else {
            self[prev].next_sibling = next;
        }
        // The successor, or where there is none the first child, remembers who stands before (or last).
        let first = self[parent].first_child;
        if let Some(keeper) = next.or_none().or(first.or_none()) {
            self[keeper].prev_sibling = prev;
        }
        node
    }

    pub fn child(&self, parent: NodeId, name: &str) -> Option<NodeId> {
        let is_it = |place| {
            let node = &self.table[place];
            node.parent == parent && node.name == name
        };
        match self.index.find(child_hash(&self.index, parent, name), is_it) {
            Some(place) => Some(NodeId(place)),
            None if self.unmoved.is_some() => self.unmoved_child(parent, name),
            None => None,
        }
    }

    #[cold]
    fn unmoved_child(&self, parent: NodeId, name: &str) -> Option<NodeId> {
        let unmoved = self.unmoved.as_ref().filter(|_| self[parent].child_count() > 0)?;
        unmoved.find_child(parent.0, name, |slot| {
            self.get(NodeId(slot)).is_some_and(|node| node.parent == parent && node.name == name)
        })
    }

    #[inline]
    pub fn get(&self, id: NodeId) -> Option<&Node> {
        self.table.get(id.0).or_else(|| self.fetch(id))
    }

    /// Brings a node into memory if the snapshot has it and it was never looked at.
    #[cold]
    fn fetch(&self, id: NodeId) -> Option<&Node> {
        let unmoved = self.unmoved.as_ref().filter(|unmoved| unmoved.has(id.0) && self.table.is_unfilled(id.0))?;
        self.table.fill(id.0, unmoved.node(id.0)?);
        self.table.get(id.0)
    }

    #[cold]
    fn fetch_mut(&mut self, id: NodeId) -> &mut Node {
        self.fetch(id);
        &mut self.table[id.0]
    }

    /// What is left in the snapshot this tree started from.
    pub fn unmoved_part(&self) -> Option<&Unmoved> {
        self.unmoved.as_deref()
    }

    /// Brings the snapshot's next node into memory and into the index. Returns what that cost, in bytes, and `None` when there
    /// is nothing more to move; [`Nodes::moved`] follows.
    pub fn move_next(&mut self) -> Option<usize> {
        let Nodes { table, index, unmoved } = self;
        let unmoved = unmoved.as_mut()?;
        if unmoved.walk_system() {
            return Some(unmoved::NODE_BYTES);
        }
        let (slot, image) = unmoved.take_next()?;
        let Some(image) = image else { return Some(unmoved::SLOT_BYTES) };
        let bytes = unmoved::NODE_BYTES + image.name.len() + image.data.map_or(0, <[u8]>::len);
        if table.is_unfilled(slot) {
            table.fill(slot, unmoved::node_of(&image));
        }
        if let Some(node) = table.get(slot).filter(|_| slot != NodeId::ROOT.0) {
            let (parent, name) = (node.parent, &node.name);
            let hash = child_hash(index, parent, name);
            let twin = |place| {
                let other = &table[place];
                other.parent == parent && other.name == *name
            };
            if index.find(hash, twin).is_some() {
                unmoved.condemn(&LoadError::NameTwice { slot, parent: parent.0, name: name.to_string() });
            }
            index.insert(hash, slot);
            self.check_place(NodeId(slot));
        }
        Some(bytes)
    }

    /// Nobody finds a node that is not among its parent's children.
    fn check_place(&self, id: NodeId) {
        let node = &self[id];
        // What follows the one before: this one or, where this is the first and so knows the last, nobody.
        let follows = |parent: &Node| if parent.first_child == id { NodeId::NONE } else { id };
        let is_linked = self.get(node.parent).is_some_and(|parent| {
            let prev = self.get(node.prev_sibling).filter(|_| node.prev_sibling != NodeId::ROOT);
            prev.is_some_and(|prev| prev.parent == node.parent && prev.next_sibling == follows(parent))
        });
        if let Some(unmoved) = self.unmoved.as_ref().filter(|_| !is_linked) {
            unmoved.condemn(&LoadError::NotLinked { slot: id.0, parent: node.parent.0 });
        }
    }

    /// Nodes up to here have been moved: their holes may be used, the snapshot need not be held in memory that far.
    pub fn note_moved(&mut self) {
        if let Some(unmoved) = &self.unmoved {
            self.table.filled_below(unmoved.note_passed());
        }
    }

    /// Lets the snapshot go.
    pub fn end_move(&mut self) -> Option<Unmoved> {
        self.unmoved.take().map(|unmoved| *unmoved)
    }

    pub fn len(&self) -> u32 {
        self.table.len()
    }

    pub fn slot_count(&self) -> u32 {
        self.table.end()
    }

    /// The node after `id` in a walk over everything below `top`, parents first.
    pub fn next_below(&self, top: NodeId, id: NodeId) -> Option<NodeId> {
        if let Some(child) = self[id].first_child.or_none() {
            return Some(child);
        }
        let mut at = id;
        while at != top {
            if let Some(sibling) = self[at].next_sibling.or_none() {
                return Some(sibling);
            }
            at = self[at].parent;
        }
        None
    }
}

impl std::ops::Index<NodeId> for Nodes {
    type Output = Node;
    #[inline]
    fn index(&self, id: NodeId) -> &Node {
        self.get(id).unwrap_or_else(|| panic!("{id:?} is vacant"))
    }
}

impl std::ops::IndexMut<NodeId> for Nodes {
    #[inline]
    fn index_mut(&mut self, id: NodeId) -> &mut Node {
        if self.table.get(id.0).is_none() {
            return self.fetch_mut(id);
        }
        &mut self.table[id.0]
    }
}

fn child_hash(index: &HashIndex, parent: NodeId, name: &str) -> u64 {
    let mut hasher = index.hasher();
    hasher.write_u32(parent.0);
    hasher.write(name.as_bytes());
    hasher.finish()
}
