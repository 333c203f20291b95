//! What the nodes of a snapshot have to be, each for itself and all together, if its head tells the truth.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use ringkeeper_storage::{NO_SLOT, NodeRef, OwnedSlot, SnapshotHeader};

use super::acl::AclRef;
use super::digest::{self, RawStat};
use super::load_error::LoadError;
use super::node::NodeId;

#[derive(Debug)]
pub(in crate::core) struct Sums {
    pub(super) nodes: u64,
    children: u64,
    pub(super) digest: u64,
    /// Sum of the hashes of all nodes with owners.
    pub(super) owned: u64,
    /// By number; only those the head lists.
    acl_uses: HashMap<u32, u64, FixedState>,
}

impl Sums {
    pub fn new(header: &SnapshotHeader) -> Sums {
        let acl_uses = header.acls.iter().map(|list| (list.number, 0)).collect();
        Sums { nodes: 0, children: 0, digest: 0, owned: 0, acl_uses }
    }

    /// A node for itself.
    pub fn check(&self, image: &NodeRef<'_>) -> Result<(), LoadError> {
        let NodeRef { slot, parent, name, acl, child_count, first_child, .. } = *image;
        if (child_count == 0) != (first_child == NO_SLOT) {
            return Err(LoadError::BadChildren { slot, child_count, first_child });
        }
        let is_root = slot == NodeId::ROOT.0;
        if is_root != name.is_empty() || is_root != (parent == slot) || name.contains('/') {
            return Err(LoadError::BadName { slot, parent, name: name.to_owned() });
        }
        if acl != AclRef::OPEN.0 && !self.acl_uses.contains_key(&acl) {
            return Err(LoadError::NoAcl { slot, acl });
        }
        Ok(())
    }

    pub fn add(&mut self, image: &NodeRef<'_>) {
        self.nodes += 1;
        self.children += u64::from(image.child_count);
        self.digest = self.digest.wrapping_add(digest_of(image));
        if image.ephemeral_owner != 0 {
            let NodeRef { slot, ephemeral_owner: owner, czxid, .. } = *image;
            self.owned = self.owned.wrapping_add(hash_of(&OwnedSlot { slot, owner, czxid }));
        }
        if let Some(uses) = self.acl_uses.get_mut(&image.acl) {
            *uses += 1;
        }
    }

    /// What the head counts otherwise.
    pub fn miscount(&self, header: &SnapshotHeader) -> Option<LoadError> {
        if self.nodes != header.node_count {
            return Some(LoadError::NodeCount { found: self.nodes, expected: header.node_count });
        }
        if self.children + 1 != self.nodes {
            return Some(LoadError::ChildCount { found: self.children, expected: self.nodes - 1 });
        }
        header.acls.iter().find_map(|list| {
            let found = self.acl_uses[&list.number];
            (found != list.uses).then_some(LoadError::AclUses { acl: list.number, found, expected: list.uses })
        })
    }
}

pub(super) fn digest_of(image: &NodeRef<'_>) -> u64 {
    digest::node_digest(image.content_crc, &RawStat::from(image))
}

pub(super) fn hash_of(owned: &OwnedSlot) -> u64 {
    FixedState::default().hash_one((owned.slot, owned.owner, owned.czxid))
}
