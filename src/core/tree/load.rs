//! A tree that starts from a snapshot without reading it, and then moves it into memory behind the traffic.
//!
//!   load: head and owners -> serves at once -> move_some, move_some, ... -> Moved: the snapshot is let go
//!
//! Every reader and writer sees the tree of the snapshot and what was done to it since, whatever has been moved. Nodes keep
//! their numbers, siblings their order; the ephemerals of a session stand by czxid, then by slot: creation order but for nodes
//! made by one multi. A missing config node is added (semantics 2).
//!
//! At the end of the move the sums of what was read are compared with what the snapshot's head says. What does not fit is
//! reported and service goes on: operators want the data, and Java does the same.

use super::acl::AclTable;
use super::data_tree::{DataTree, TreeOptions};
use super::load_error::LoadError;
use super::node::{NodeId, Nodes};
use super::quota::QUOTAS;
use super::unmoved::Unmoved;
use crate::core::types::Zxid;
use ringkeeper_storage::SnapshotSource;

/// The end of a move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Zxid of the snapshot.
    pub zxid: Zxid,
    /// Nodes of the snapshot.
    pub nodes: u64,
    /// What its head promised and its nodes did not keep.
    pub contradiction: Option<LoadError>,
}

impl DataTree {
    /// Takes time for lists of permissions and for nodes with owners, none for other nodes.
    pub fn load(source: Box<dyn SnapshotSource>, options: TreeOptions) -> Result<DataTree, LoadError> {
        let unmoved = Unmoved::new(source)?;
        let header = unmoved.header();
        let acls = AclTable::from_images(&header.acls, header.slot_count, options.hash_seed)?;
        let (digest, data_bytes, zxid, slots) =
            (header.tree_digest, header.data_bytes, Zxid(header.zxid), header.slot_count);
        let mut owned = unmoved.owned().to_vec();
        owned.sort_unstable_by_key(|owned| (owned.czxid, owned.slot));
        let mut tree = DataTree::with_nodes(options, Nodes::unmoved(unmoved, options.hash_seed));
        (tree.acls, tree.digest, tree.data_bytes, tree.last_processed) = (acls, digest, data_bytes, zxid);
        for owned in owned {
            let id = NodeId(owned.slot);
            if owned.owner == 0 || owned.slot >= slots || tree.owners.get(id) != 0 {
                return Err(LoadError::BadOwner { slot: owned.slot });
            }
            tree.owners.insert(id, owned.owner, tree.kind_of(owned.owner));
        }
        tree.ensure_config_node();
        tree.quotas = tree.find(QUOTAS).unwrap_or(NodeId::NONE);
        Ok(tree)
    }

    /// Whether nodes are still to be moved from the snapshot.
    pub fn is_moving(&self) -> bool {
        self.nodes.unmoved_part().is_some()
    }

    /// Places of the snapshot that the move has not come to yet.
    pub fn unmoved_slots(&self) -> u32 {
        self.nodes.unmoved_part().map_or(0, Unmoved::slots_left)
    }

    /// Moves about `max_bytes` of nodes, at least one. Says so when that was the last of it.
    pub fn move_some(&mut self, max_bytes: usize) -> Option<Moved> {
        let mut bytes = 0;
        while let Some(cost) = self.nodes.move_next() {
            bytes += cost;
            if bytes >= max_bytes {
                self.nodes.note_moved();
                return None;
            }
        }
        self.nodes.note_moved();
        let unmoved = self.nodes.end_move()?;
        let (contradiction, header) = (unmoved.contradiction(), unmoved.header());
        Some(Moved { zxid: Zxid(header.zxid), nodes: header.node_count, contradiction })
    }
}
