//! A tree built from paths, as a snapshot of a Java server lists them: parents first, each path once.
//!
//! Such a list may be fuzzy: some nodes are already as later transactions left them, and a node may refer to a permission
//! list that came to be after the lists were written. Its creation or setACL is then in the log behind, and applying it
//! repairs that: until then the node holds a list that lets nobody in, and [`DataTree::unknown_acls`] finds what was never
//! repaired. What subtrees with quotas hold is counted, for the same reason. Spec: on-disk formats 4.2, 4.3, 6. Java: `DataTree.deserialize`.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::acl::{AclRef, is_open, to_owned};
use super::data_tree::{DataTree, TreeOptions};
use super::digest::{self, RawStat};
use super::node::{Node, NodeId, Nodes};
use super::path;
use crate::core::types::Zxid;
use crate::wire::client::Acl;

/// A scheme that no server grants anything to, in place of a list that is not known yet. The id is its reference.
const UNKNOWN: &str = "ringkeeper-unknown-acl";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    #[error("{path:?} is not a path")]
    BadPath { path: String },
    #[error("{path:?} comes before its parent, or without it")]
    NoParent { path: String },
    #[error("{path:?} comes twice")]
    Twice { path: String },
    #[error("the root is missing")]
    NoRoot,
    #[error("permission list {number} comes twice")]
    AclTwice { number: i64 },
}

#[derive(Debug)]
pub struct TreeBuilder {
    tree: DataTree,
    has_root: bool,
    /// By Java's reference. More than there are nodes, where nodes went while the list was written.
    lists: HashMap<i64, Box<[Acl<'static>]>, FixedState>,
    /// Java's reference -> ours, of those that nodes use. Holds one use of each until the end.
    acls: HashMap<i64, AclRef, FixedState>,
}

impl TreeBuilder {
    pub fn new(options: TreeOptions) -> TreeBuilder {
        let root = Node::new(NodeId::ROOT, "", None, AclRef::OPEN, digest::content_crc(path::ROOT, None));
        let mut tree = DataTree::with_nodes(options, Nodes::new(root, options.hash_seed));
        tree.digest = tree.nodes[NodeId::ROOT].digest(0);
        tree.data_bytes = path::ROOT.len() as u64;
        let mut acls = HashMap::default();
        acls.insert(OPEN_NUMBER, AclRef::OPEN);
        TreeBuilder { tree, has_root: false, lists: HashMap::default(), acls }
    }

    /// A permission list that nodes refer to by this number.
    pub fn acl(&mut self, number: i64, list: &[Acl<'_>]) -> Result<(), BuildError> {
        // Java lists the open list under a number of its own, or not at all, but never another list as -1.
        let is_known = match number {
            OPEN_NUMBER => !is_open(list),
            _ => self.lists.insert(number, list.iter().map(to_owned).collect()).is_some(),
        };
        if is_known { Err(BuildError::AclTwice { number }) } else { Ok(()) }
    }

    /// The root comes first; its path is empty.
    pub fn add(&mut self, path: &str, data: Option<&[u8]>, acl: i64, stat: &RawStat) -> Result<(), BuildError> {
        let acl = match self.acls.get(&acl) {
            Some(known) => *known,
            None => {
                let unknown = || Acl { perms: 0, scheme: Some(UNKNOWN.into()), id: Some(acl.to_string().into()) };
                let made = match self.lists.get(&acl) {
                    Some(list) => self.tree.acls.intern(list),
                    None => self.tree.acls.intern(&[unknown()]),
                };
                self.acls.insert(acl, made);
                made
            }
        };
        if path.is_empty() {
            return self.add_root(data, acl, stat);
        }
        let Some((parent_path, name)) = path::split(path).filter(|(_, name)| !name.is_empty()) else {
            return Err(BuildError::BadPath { path: path.to_owned() });
        };
        let parent = self.tree.find(parent_path).filter(|_| self.has_root);
        let parent = parent.ok_or_else(|| BuildError::NoParent { path: path.to_owned() })?;
        if self.tree.child(parent, name).is_some() {
            return Err(BuildError::Twice { path: path.to_owned() });
        }
        self.tree.acls.retain(acl);
        let mut node = Node::new(parent, name, data, acl, digest::content_crc(path, data));
        set_stat(&mut node, stat);
        self.tree.attach(path, node, stat.ephemeral_owner);
        Ok(())
    }

    fn add_root(&mut self, data: Option<&[u8]>, acl: AclRef, stat: &RawStat) -> Result<(), BuildError> {
        if std::mem::replace(&mut self.has_root, true) {
            return Err(BuildError::Twice { path: path::ROOT.to_owned() });
        }
        self.tree.amend(NodeId::ROOT, path::ROOT, |root| {
            root.data = data.map(Box::from);
            root.content_crc = digest::content_crc(path::ROOT, data);
            set_stat(root, stat);
        });
        self.tree.acls.retain(acl);
        self.tree.nodes[NodeId::ROOT].acl = acl;
        Ok(())
    }

    /// The tree as of `zxid`, to apply everything behind it to.
    pub fn finish(self, zxid: Zxid) -> Result<DataTree, BuildError> {
        let TreeBuilder { mut tree, has_root, acls, .. } = self;
        if !has_root {
            return Err(BuildError::NoRoot);
        }
        for acl in acls.into_values() {
            tree.acls.release(acl);
        }
        tree.ensure_config_node();
        tree.count_all_usage();
        tree.last_processed = zxid;
        Ok(tree)
    }
}

/// The number of the open list. Java: `ReferenceCountedACLCache.OPEN_UNSAFE_ACL_ID`.
const OPEN_NUMBER: i64 = -1;

fn set_stat(node: &mut Node, stat: &RawStat) {
    (node.czxid, node.mzxid, node.pzxid) = (stat.czxid, stat.mzxid, stat.pzxid);
    (node.ctime, node.mtime) = (stat.ctime, stat.mtime);
    (node.version, node.cversion, node.aversion) = (stat.version, stat.cversion, stat.aversion);
}

impl DataTree {
    /// References of permission lists that were never told, each with the number of nodes that hold it.
    pub fn unknown_acls(&self) -> Vec<(String, u64)> {
        let unknown =
            self.acls.iter().filter(|(_, list)| list.iter().any(|acl| acl.scheme.as_deref() == Some(UNKNOWN)));
        let named =
            unknown.map(|(acl, list)| (list[0].id.as_deref().unwrap_or_default().to_owned(), self.acls.uses(acl)));
        named.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::tree::{MemorySnapshot, Unwatched};
    use crate::wire::client::perms;
    use crate::wire::txn::{Txn, TxnHeader};

    const STAT: RawStat = RawStat {
        czxid: 5,
        mzxid: 6,
        pzxid: 7,
        ctime: 8,
        mtime: 9,
        version: 1,
        cversion: 2,
        aversion: 3,
        ephemeral_owner: 0,
    };

    fn builder() -> TreeBuilder {
        let mut builder = TreeBuilder::new(TreeOptions::default());
        builder.add("", Some(b""), -1, &RawStat::default()).unwrap();
        builder
    }

    #[test]
    fn a_tree_of_paths_has_the_digest_of_its_nodes() {
        let mut builder = builder();
        builder.add("/a", None, -1, &STAT).unwrap();
        builder.add("/a/b", Some(b"x"), -1, &RawStat { ephemeral_owner: 77, ..STAT }).unwrap();
        let tree = builder.finish(Zxid(9)).unwrap();
        let digest_of = |path: &str, data: Option<&[u8]>, stat: &RawStat| {
            digest::node_digest(digest::content_crc(path, data), stat)
        };
        let expected = digest_of("/", Some(b""), &RawStat::default())
            .wrapping_add(digest_of("/a", None, &STAT))
            .wrapping_add(digest_of("/a/b", Some(b"x"), &RawStat { ephemeral_owner: 77, ..STAT }));
        assert_eq!((tree.digest(), tree.last_processed(), tree.node_count()), (expected, Zxid(9), 3));
        assert_eq!(tree.ephemerals_count(), 1);
        assert_eq!(tree.raw_stat(tree.find("/a").unwrap()), STAT);
        assert_eq!(tree.approximate_data_size(), (1 + 2 + 4 + 1) as u64);
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        let path = |path: &str| path.to_owned();
        assert_eq!(builder().add("/a/b", None, -1, &STAT), Err(BuildError::NoParent { path: path("/a/b") }));
        assert_eq!(builder().add("a", None, -1, &STAT), Err(BuildError::BadPath { path: path("a") }));
        assert_eq!(builder().add("", None, -1, &STAT), Err(BuildError::Twice { path: path("/") }));
        let mut twice = builder();
        twice.add("/a", None, -1, &STAT).unwrap();
        assert_eq!(twice.add("/a", None, -1, &STAT), Err(BuildError::Twice { path: path("/a") }));
        let mut rootless = TreeBuilder::new(TreeOptions::default());
        assert_eq!(rootless.add("/a", None, -1, &STAT), Err(BuildError::NoParent { path: path("/a") }));
        assert_eq!(rootless.finish(Zxid(1)).unwrap_err(), BuildError::NoRoot);
    }

    /// Numbers of lists are bounded by those of nodes, which is what a start on the tree's snapshot relies on.
    #[test]
    fn lists_that_no_node_uses_take_no_number() {
        let mut builder = builder();
        for number in 1..=100 {
            let list =
                [Acl { perms: perms::READ, scheme: Some("ip".into()), id: Some(format!("10.0.0.{number}").into()) }];
            builder.acl(number, &list).unwrap();
        }
        builder.add("/a", None, 100, &STAT).unwrap();
        let mut tree = builder.finish(Zxid(9)).unwrap();
        let (walk, header) = tree.begin_snapshot();
        let images: Vec<_> =
            std::iter::from_fn(|| tree.snapshot_slice(walk, usize::MAX)).flat_map(|chunk| chunk.nodes).collect();
        let again = DataTree::load(Box::new(MemorySnapshot::new(header, images)), TreeOptions::default()).unwrap();
        let acl = again.acl(again.find("/a").unwrap());
        assert_eq!((acl[0].id.as_deref(), again.acls().len()), (Some("10.0.0.100"), 1));
    }

    #[test]
    fn a_list_that_is_told_later_is_repaired_by_the_log() {
        let mut builder = builder();
        let list = [Acl { perms: perms::READ, scheme: Some("world".into()), id: Some("anyone".into()) }];
        builder.acl(3, &list).unwrap();
        assert_eq!(builder.acl(3, &list), Err(BuildError::AclTwice { number: 3 }));
        builder.add("/known", None, 3, &STAT).unwrap();
        builder.add("/later", None, 4, &STAT).unwrap();
        builder.add("/never", None, 5, &STAT).unwrap();
        let mut tree = builder.finish(Zxid(9)).unwrap();
        let header = TxnHeader { client_id: 1, cxid: 1, zxid: 10, time_ms: 1 };
        let repair = Txn::SetAcl { path: "/later".into(), acl: list.to_vec(), version: 4 };
        assert_eq!(tree.unknown_acls().len(), 2);
        tree.apply(&header, &repair, &mut Unwatched);
        assert_eq!(tree.unknown_acls(), [("5".to_owned(), 1)]);
        assert_eq!(tree.acl(tree.find("/later").unwrap()), list);
    }
}
