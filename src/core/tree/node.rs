//! How a node lies in memory, and how a name finds it.
//!
//! A node costs 120 bytes, its data, and 8 bytes in the index of children; a name of up to 24 bytes lies inside the
//! node. Paths are not stored: they follow from names and parents. Children hang in a doubly linked list in the order of
//! their creation, and all of them, of all nodes, are found through one index keyed by (parent, name).
//!
//! Java: `DataNode`, `NodeHashMapImpl`.

use std::hash::{BuildHasher, Hasher};

use compact_str::CompactString;
use foldhash::fast::FixedState;

use super::AclRef;
use super::table::{HashIndex, NIL, Paged, Place};
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
}

impl Nodes {
    /// A root and nothing else.
    pub fn new(root: Node) -> Nodes {
        let mut nodes = Nodes { table: Paged::default(), index: HashIndex::default() };
        assert_eq!(nodes.insert_unlinked(root), NodeId::ROOT);
        nodes
    }

    /// A node not yet among its parent's children; [`Nodes::link`] follows, in loading much later.
    pub fn insert_unlinked(&mut self, node: Node) -> NodeId {
        NodeId(self.table.insert(node))
    }

    /// Makes the node its parent's last child. The name must be free.
    pub fn link(&mut self, id: NodeId) {
        let parent = self[id].parent;
        self.index.insert(child_hash(parent, &self.table[id.0].name), id.0);
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

    /// Takes a childless node out of its parent and the table.
    pub fn remove(&mut self, id: NodeId) -> Node {
        let node = self.table.remove(id.0);
        assert!(node.child_count() == 0 && id != NodeId::ROOT);
        self.index.remove(child_hash(node.parent, &node.name), id.0);
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
        self.index.find(child_hash(parent, name), is_it).map(NodeId)
    }

    pub fn get(&self, id: NodeId) -> Option<&Node> {
        self.table.get(id.0)
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
    fn index(&self, id: NodeId) -> &Node {
        &self.table[id.0]
    }
}

impl std::ops::IndexMut<NodeId> for Nodes {
    fn index_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.table[id.0]
    }
}

fn child_hash(parent: NodeId, name: &str) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    hasher.write_u32(parent.0);
    hasher.write(name.as_bytes());
    hasher.finish()
}
