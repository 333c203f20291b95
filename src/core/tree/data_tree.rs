//! The tree as readers see it, and the sums kept beside it.
//!
//! Everything that changes it is in `apply.rs`; every change passes [`DataTree::amend`], [`DataTree::attach`] or
//! [`DataTree::detach`] below, which keep the digest, the sums, the owner lists and a running snapshot true.
//!
//! Java counts the root twice (as `""` and `/`); [`DataTree::node_count`] counts it once, so what Java shows is one more.

use super::acl::{AclRef, AclTable};
use super::digest::{self, RawStat};
use super::ephemeral::Owners;
use super::node::{Node, NodeId, Nodes, OwnerKind};
use super::path;
use super::quota::QUOTAS;
use super::snapshot::{OldImages, Walks};
use crate::core::types::{SessionId, Zxid};
use crate::wire::client::{Acl, Stat, perms};

/// What a tree has to be told. What changes the meaning of stored data is equal on all servers of an ensemble.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeOptions {
    /// `zookeeper.extendedTypesEnabled`: owners with top byte 0xFF are TTL nodes.
    pub extended_types: bool,
    /// `zookeeper.emulate353TTLNodes`.
    pub emulate_353_ttl: bool,
    /// [`Settings::hash_seed`](crate::core::Settings).
    pub hash_seed: u64,
}

#[derive(Debug)]
pub struct DataTree {
    pub(super) options: TreeOptions,
    pub(super) nodes: Nodes,
    pub(super) owners: Owners,
    pub(super) acls: AclTable,
    pub(super) digest: u64,
    pub(super) last_processed: Zxid,
    /// Bytes of all paths and data.
    pub(super) data_bytes: u64,
    /// `/zookeeper/quota`, or none.
    pub(super) quotas: NodeId,
    /// See [`DataTree::config_before`].
    pub(super) config_before: Option<(Box<[u8]>, i64)>,
    pub(super) walks: Walks,
    /// Of snapshots that were given up.
    pub(super) given_up: OldImages,
}

impl DataTree {
    /// A fresh server's tree: root, `/zookeeper`, its quota and config (semantics 2).
    pub fn new(options: TreeOptions) -> DataTree {
        let empty = Some(&b""[..]);
        let root = Node::new(NodeId::ROOT, "", empty, AclRef::OPEN, digest::content_crc(path::ROOT, empty));
        let mut tree = DataTree::with_nodes(options, Nodes::new(root, options.hash_seed));
        tree.digest = tree.nodes[NodeId::ROOT].digest(0);
        tree.data_bytes = path::ROOT.len() as u64;
        for path in ["/zookeeper", QUOTAS] {
            let (parent_path, name) = path::split(path).expect("a constant path");
            let parent = tree.find(parent_path).expect("parents come first");
            let node = Node::new(parent, name, empty, AclRef::OPEN, digest::content_crc(path, empty));
            tree.attach(path, node, 0);
        }
        tree.ensure_config_node();
        tree
    }

    pub(super) fn with_nodes(options: TreeOptions, nodes: Nodes) -> DataTree {
        DataTree {
            options,
            nodes,
            owners: Owners::default(),
            acls: AclTable::new(options.hash_seed),
            digest: 0,
            last_processed: Zxid::ZERO,
            data_bytes: 0,
            quotas: NodeId::NONE,
            config_before: None,
            walks: Walks::default(),
            given_up: OldImages::default(),
        }
    }

    /// Adds the config node where it is missing. Java: `DataTree.addConfigNode`.
    pub(super) fn ensure_config_node(&mut self) {
        const CONFIG: &str = super::config_node::CONFIG_NODE;
        let Some(parent) = self.find("/zookeeper") else {
            return;
        };
        if self.child(parent, "config").is_some() {
            return;
        }
        let acl =
            self.acls.intern(&[Acl { perms: perms::READ, scheme: Some("world".into()), id: Some("anyone".into()) }]);
        let empty = Some(&b""[..]);
        let mut node = Node::new(parent, "config", empty, acl, digest::content_crc(CONFIG, empty));
        node.aversion = -1;
        self.attach(CONFIG, node, 0);
    }

    pub fn options(&self) -> TreeOptions {
        self.options
    }

    /// The node at a path; `""` and `/` are the root. Odd paths simply are not there.
    pub fn find(&self, path: &str) -> Option<NodeId> {
        if matches!(path, "" | "/") {
            return Some(NodeId::ROOT);
        }
        path.strip_prefix('/')?.split('/').try_fold(NodeId::ROOT, |parent, name| self.child(parent, name))
    }

    pub fn child(&self, parent: NodeId, name: &str) -> Option<NodeId> {
        self.nodes.child(parent, name)
    }

    /// `None` for the root.
    pub fn parent(&self, id: NodeId) -> Option<NodeId> {
        (id != NodeId::ROOT).then(|| self.nodes[id].parent)
    }

    pub fn name(&self, id: NodeId) -> &str {
        &self.nodes[id].name
    }

    pub fn data(&self, id: NodeId) -> Option<&[u8]> {
        self.nodes[id].data.as_deref()
    }

    pub fn child_count(&self, id: NodeId) -> u32 {
        self.nodes[id].child_count()
    }

    /// Children in the order of their creation.
    pub fn children(&self, id: NodeId) -> impl Iterator<Item = NodeId> {
        std::iter::successors(self.nodes[id].first_child.or_none(), |child| self.nodes[*child].next_sibling.or_none())
    }

    /// The children's names, in the same order.
    pub fn child_names(&self, id: NodeId) -> impl Iterator<Item = &str> + Clone {
        let mut next = self.nodes[id].first_child;
        std::iter::from_fn(move || {
            let node = &self.nodes[next.or_none()?];
            next = node.next_sibling;
            Some(&*node.name)
        })
    }

    /// Nodes below this one, at any depth. Walks them, unless this is the root.
    pub fn descendant_count(&self, id: NodeId) -> u64 {
        if id == NodeId::ROOT {
            return self.node_count() - 1;
        }
        self.with_descendants(id).count() as u64 - 1
    }

    /// The node and everything below it, parents first.
    pub(super) fn with_descendants(&self, top: NodeId) -> impl Iterator<Item = NodeId> {
        std::iter::successors(Some(top), move |at| self.nodes.next_below(top, *at))
    }

    pub fn path(&self, id: NodeId) -> String {
        let mut path = String::new();
        self.write_path(id, &mut path);
        path
    }

    /// Appends the node's path.
    pub fn write_path(&self, id: NodeId, out: &mut String) {
        if id == NodeId::ROOT {
            return out.push('/');
        }
        let mut ancestors = vec![];
        let mut at = id;
        while at != NodeId::ROOT {
            ancestors.push(at);
            at = self.nodes[at].parent;
        }
        for id in ancestors.into_iter().rev() {
            out.push('/');
            out.push_str(&self.nodes[id].name);
        }
    }

    pub fn raw_stat(&self, id: NodeId) -> RawStat {
        let node = &self.nodes[id];
        node.raw_stat(self.owner_of(id, node))
    }

    /// As clients see it (semantics 3.1).
    pub fn stat(&self, id: NodeId) -> Stat {
        let node = &self.nodes[id];
        let owner = self.owner_of(id, node);
        let num_children = node.child_count() as i32;
        Stat {
            czxid: node.czxid,
            mzxid: node.mzxid,
            ctime: node.ctime,
            mtime: node.mtime,
            version: node.version,
            cversion: node.cversion.wrapping_mul(2).wrapping_sub(num_children),
            aversion: node.aversion,
            ephemeral_owner: if self.kind_of(owner) == OwnerKind::Ephemeral { owner } else { 0 },
            data_length: node.data_len() as i32,
            num_children,
            pzxid: node.pzxid,
        }
    }

    pub fn owner_kind(&self, id: NodeId) -> OwnerKind {
        self.kind_of(self.owner(id))
    }

    pub fn acl_ref(&self, id: NodeId) -> AclRef {
        self.nodes[id].acl
    }

    pub fn acl(&self, id: NodeId) -> &[Acl<'static>] {
        self.acls.get(self.nodes[id].acl)
    }

    pub fn acls(&self) -> &AclTable {
        &self.acls
    }

    /// What [`digest::node_digest`] continues from.
    pub fn content_crc(&self, id: NodeId) -> u32 {
        self.nodes[id].content_crc
    }

    /// Sum of the digests of all nodes that count (semantics 16).
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Zxid of the last transaction applied.
    pub fn last_processed(&self) -> Zxid {
        self.last_processed
    }

    pub fn node_count(&self) -> u64 {
        u64::from(self.nodes.len())
    }

    pub fn ephemerals_count(&self) -> u64 {
        self.owners.ephemerals_count()
    }

    /// Bytes of all paths and data. Java: `DataTree.approximateDataSize`.
    pub fn approximate_data_size(&self) -> u64 {
        self.data_bytes
    }

    /// A session's ephemerals in the order of their creation (after a load: by czxid, then by slot).
    pub fn ephemerals(&self, session: SessionId) -> impl Iterator<Item = NodeId> {
        self.owners.of_session(session)
    }

    /// Every session that owns ephemerals, in no particular order.
    pub fn ephemeral_owners(&self) -> impl Iterator<Item = SessionId> {
        self.owners.sessions()
    }

    /// Walks all of them.
    pub fn ttl_node_count(&self) -> usize {
        self.owners.ttls().count()
    }

    /// Container and TTL nodes that are due (semantics 6.3). `never_used_interval_ms` 0: containers that never had a child
    /// stay. Walks all container and TTL nodes.
    pub fn reap_candidates(&self, now_wall_ms: i64, never_used_interval_ms: i64) -> Vec<NodeId> {
        let is_idle_for = |node: &Node, ms: i64| now_wall_ms.saturating_sub(node.mtime) > ms;
        let container_is_due = |node: &Node| {
            node.cversion > 0 || (never_used_interval_ms > 0 && is_idle_for(node, never_used_interval_ms))
        };
        let containers = self.owners.containers().filter(|id| container_is_due(&self.nodes[*id]));
        let ttls = self.owners.ttls().filter(|id| match self.owner_kind(*id) {
            OwnerKind::Ttl { ttl_ms } => is_idle_for(&self.nodes[*id], ttl_ms),
            _ => false,
        });
        containers.chain(ttls).filter(|id| self.child_count(*id) == 0).collect()
    }

    pub(super) fn owner(&self, id: NodeId) -> i64 {
        self.owner_of(id, &self.nodes[id])
    }

    fn owner_of(&self, id: NodeId, node: &Node) -> i64 {
        if node.is_owned() { self.owners.get(id) } else { 0 }
    }

    pub(super) fn kind_of(&self, owner: i64) -> OwnerKind {
        OwnerKind::of(owner, self.options.extended_types, self.options.emulate_353_ttl)
    }

    /// Changes a node in place. `change` leaves links, owner and ACL alone.
    pub(super) fn amend(&mut self, id: NodeId, path: &str, change: impl FnOnce(&mut Node)) {
        self.save_for_snapshot(id);
        let counts = digest::counts(path);
        let owner = self.owner(id);
        let node = &mut self.nodes[id];
        let before = if counts { node.digest(owner) } else { 0 };
        let bytes_before = node.data_len() as u64;
        change(node);
        self.data_bytes = self.data_bytes - bytes_before + node.data_len() as u64;
        if counts {
            self.digest = self.digest.wrapping_sub(before).wrapping_add(node.digest(owner));
        }
    }

    /// Hangs a finished node into the tree; its name must be free. The node's use of its ACL is already counted.
    pub(super) fn attach(&mut self, path: &str, mut node: Node, owner: i64) -> NodeId {
        if owner != 0 {
            node.set_owned();
        }
        self.data_bytes += (path.len() + node.data_len()) as u64;
        if digest::counts(path) {
            self.digest = self.digest.wrapping_add(node.digest(owner));
        }
        if self.snapshot_running() {
            self.nodes.changed_by_link(node.parent).for_each(|neighbour| self.save_for_snapshot(neighbour));
        }
        let id = self.nodes.insert_unlinked(node);
        self.nodes.link(id);
        if path == QUOTAS {
            self.quotas = id;
        }
        self.owners.insert(id, owner, self.kind_of(owner));
        self.skip_in_snapshot(id);
        id
    }

    /// Takes a childless node out of the tree. Its use of its ACL is the caller's to release.
    pub(super) fn detach(&mut self, id: NodeId, path: &str) -> Node {
        if self.snapshot_running() {
            self.save_for_snapshot(id);
            self.nodes.changed_by_remove(id).for_each(|neighbour| self.save_for_snapshot(neighbour));
        }
        let node = self.nodes.remove(id);
        if digest::counts(path) {
            self.digest = self.digest.wrapping_sub(node.digest(self.owner_of(id, &node)));
        }
        self.owners.remove(id);
        if id == self.quotas {
            self.quotas = NodeId::NONE;
        }
        self.data_bytes -= (path.len() + node.data_len()) as u64;
        node
    }
}
