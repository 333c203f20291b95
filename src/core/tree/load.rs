//! A tree built from a snapshot's images.
//!
//! Images come in any order, so links wait until all are there. Slots are not kept: nodes are numbered anew in the order
//! of their coming, which closes the holes of a tree that was once larger. Siblings and the ephemerals of a session stand
//! by czxid, then by the snapshot's slot: creation order but for nodes made by one multi.
//!
//! A snapshot is believed only if it is a tree (every node below the root, names unique among siblings) of the promised
//! size and digest. A missing config node is added afterwards (semantics 2).

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use ringkeeper_storage::{AclImage, AclListImage, NodeImage, SnapshotHeader};

use super::acl::AclRef;
use super::data_tree::{DataTree, TreeOptions};
use super::node::{Node, NodeId, Nodes};
use super::{digest, path};
use crate::core::types::Zxid;
use crate::wire::client::Acl;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    #[error("slot {slot} is outside the snapshot's {slot_count} slots")]
    SlotOutOfRange { slot: u32, slot_count: u32 },
    #[error("slot {slot} appears twice")]
    SlotTwice { slot: u32 },
    #[error("more than the promised {expected} nodes")]
    TooManyNodes { expected: u64 },
    #[error("the snapshot has no root")]
    NoRoot,
    #[error("slot {slot} hangs below slot {parent}, which is not there")]
    NoParent { slot: u32, parent: u32 },
    #[error("slot {slot} below slot {parent} has an impossible name: {name:?}")]
    BadName { slot: u32, parent: u32, name: String },
    #[error("slot {slot} has the name of another child of slot {parent}: {name:?}")]
    NameTwice { slot: u32, parent: u32, name: String },
    #[error("ACL number {acl} is listed twice or is the number of the open list")]
    BadAclNumber { acl: u32 },
    #[error("slot {slot} uses ACL {acl}, which the snapshot does not have")]
    NoAcl { slot: u32, acl: u32 },
    #[error("{found} nodes instead of {expected}")]
    NodeCount { found: u64, expected: u64 },
    #[error("{count} nodes are not below the root")]
    Unreachable { count: u64 },
    #[error("the tree's digest is {found:#x} instead of {expected:#x}")]
    Digest { found: u64, expected: u64 },
}

/// Takes a snapshot's images in any order.
#[derive(Debug)]
pub struct TreeLoader {
    tree: DataTree,
    node_count: u64,
    slot_count: u32,
    tree_digest: u64,
    /// The snapshot's number of a list -> ours. Holds one use of each until the end.
    acls: HashMap<u32, AclRef, FixedState>,
    /// The snapshot's slot -> our number.
    ids: HashMap<u32, NodeId, FixedState>,
    /// The nodes so far, in the order of their coming.
    loose: Vec<Loose>,
}

#[derive(Debug)]
struct Loose {
    id: NodeId,
    slot: u32,
    parent_slot: u32,
    owner: i64,
}

impl TreeLoader {
    pub fn new(header: &SnapshotHeader, options: TreeOptions) -> Result<TreeLoader, LoadError> {
        let blank_root = Node::new(NodeId::ROOT, "", None, AclRef::OPEN, 0);
        let mut tree = DataTree::with_nodes(options, Nodes::new(blank_root));
        tree.last_processed = Zxid(header.zxid);
        let mut acls = HashMap::default();
        for AclListImage { number, entries, .. } in &header.acls {
            let list: Vec<Acl<'static>> = entries.iter().map(acl_of_image).collect();
            let twice = acls.insert(*number, tree.acls.intern(&list));
            if twice.is_some() || *number == AclRef::OPEN.0 {
                return Err(LoadError::BadAclNumber { acl: *number });
            }
        }
        acls.insert(AclRef::OPEN.0, AclRef::OPEN);
        Ok(TreeLoader {
            tree,
            node_count: header.node_count,
            slot_count: header.slot_count,
            tree_digest: header.tree_digest,
            acls,
            ids: HashMap::default(),
            loose: vec![],
        })
    }

    pub fn add(&mut self, image: NodeImage) -> Result<(), LoadError> {
        let NodeImage { slot, parent, acl, .. } = image;
        if slot >= self.slot_count {
            return Err(LoadError::SlotOutOfRange { slot, slot_count: self.slot_count });
        }
        if self.loose.len() as u64 == self.node_count {
            return Err(LoadError::TooManyNodes { expected: self.node_count });
        }
        let is_root = slot == NodeId::ROOT.0;
        if is_root != image.name.is_empty() || is_root != (parent == slot) || image.name.contains('/') {
            return Err(LoadError::BadName { slot, parent, name: image.name });
        }
        let acl = *self.acls.get(&acl).ok_or(LoadError::NoAcl { slot, acl })?;
        // Parent and content CRC are known once all nodes are.
        let mut node = Node::new(NodeId::ROOT, &image.name, None, acl, 0);
        node.data = image.data.map(Vec::into_boxed_slice);
        (node.czxid, node.mzxid, node.pzxid) = (image.czxid, image.mzxid, image.pzxid);
        (node.ctime, node.mtime) = (image.ctime, image.mtime);
        (node.version, node.cversion, node.aversion) = (image.version, image.cversion, image.aversion);
        if image.ephemeral_owner != 0 {
            node.set_owned();
        }
        let hashbrown::hash_map::Entry::Vacant(place) = self.ids.entry(slot) else {
            return Err(LoadError::SlotTwice { slot });
        };
        let id = if is_root {
            self.tree.nodes[NodeId::ROOT] = node;
            NodeId::ROOT
        } else {
            self.tree.nodes.insert_unlinked(node)
        };
        place.insert(id);
        self.tree.acls.retain(acl);
        self.loose.push(Loose { id, slot, parent_slot: parent, owner: image.ephemeral_owner });
        Ok(())
    }

    pub fn finish(mut self) -> Result<DataTree, LoadError> {
        if self.loose.len() as u64 != self.node_count {
            return Err(LoadError::NodeCount { found: self.loose.len() as u64, expected: self.node_count });
        }
        if !self.ids.contains_key(&NodeId::ROOT.0) {
            return Err(LoadError::NoRoot);
        }
        self.link_all()?;
        let reached = self.sum_up();
        if reached != self.node_count {
            return Err(LoadError::Unreachable { count: self.node_count - reached });
        }
        let mut tree = self.tree;
        if tree.digest != self.tree_digest {
            return Err(LoadError::Digest { found: tree.digest, expected: self.tree_digest });
        }
        for acl in self.acls.into_values() {
            tree.acls.release(acl);
        }
        tree.ensure_config_node();
        Ok(tree)
    }

    fn link_all(&mut self) -> Result<(), LoadError> {
        let TreeLoader { tree, ids, loose, .. } = self;
        loose.sort_unstable_by_key(|node| (tree.nodes[node.id].czxid, node.slot));
        for &Loose { id, slot, parent_slot, owner } in loose.iter() {
            tree.owners.insert(id, owner, tree.kind_of(owner));
            if id == NodeId::ROOT {
                continue;
            }
            let parent = *ids.get(&parent_slot).ok_or(LoadError::NoParent { slot, parent: parent_slot })?;
            tree.nodes[id].parent = parent;
            if tree.child(parent, &tree.nodes[id].name).is_some() {
                let name = tree.nodes[id].name.to_string();
                return Err(LoadError::NameTwice { slot, parent: parent_slot, name });
            }
            tree.nodes.link(id);
        }
        Ok(())
    }

    /// Walks down from the root, giving every node its content CRC and the tree its sums. Returns how many it met: nodes
    /// that hang below each other in a circle are not among them.
    fn sum_up(&mut self) -> u64 {
        let tree = &mut self.tree;
        let zookeeper = tree.child(NodeId::ROOT, "zookeeper");
        let mut reached = 0;
        let mut next = Some(NodeId::ROOT);
        let mut ancestors: Vec<PathSoFar> = vec![];
        while let Some(id) = next {
            let path = match ancestors.last() {
                None => PathSoFar { id, crc: 0, bytes: 0, counts: true },
                Some(parent) => {
                    let name = tree.nodes[id].name.as_bytes();
                    let crc = digest::continue_crc(digest::continue_crc(parent.crc, b"/"), name);
                    let counts = parent.counts && Some(parent.id) != zookeeper;
                    PathSoFar { id, crc, bytes: parent.bytes + 1 + name.len(), counts }
                }
            };
            let node = &mut tree.nodes[id];
            node.content_crc = digest::continue_crc(path.crc, node.data.as_deref().unwrap_or_default());
            tree.data_bytes += (path.bytes.max(path::ROOT.len()) + node.data_len()) as u64;
            if path.counts {
                tree.digest = tree.digest.wrapping_add(tree.node_digest(id));
            }
            reached += 1;
            ancestors.push(path);
            next = tree.nodes.next_below(NodeId::ROOT, id);
            if let Some(next) = next {
                let parent = tree.nodes[next].parent;
                while ancestors.last().is_some_and(|path| path.id != parent) {
                    ancestors.pop();
                }
            }
        }
        reached
    }
}

/// The path of a node during the walk, as far as the sums need it: a deep tree costs its names, not its paths.
struct PathSoFar {
    id: NodeId,
    crc: u32,
    bytes: usize,
    counts: bool,
}

fn acl_of_image(image: &AclImage) -> Acl<'static> {
    Acl { perms: image.perms, scheme: Some(image.scheme.clone().into()), id: Some(image.id.clone().into()) }
}
