//! A snapshot in plain memory: what tests, benchmarks and simulations start a tree from.
//!
//! Its index of children knows only a few bits of a name, so that it often offers slots that only look right, as the index
//! of a mapped file may.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use ringkeeper_storage::{NodeImage, NodeRef, OwnedSlot, SnapshotError, SnapshotHeader, SnapshotSource};

#[derive(Debug)]
pub struct MemorySnapshot {
    header: SnapshotHeader,
    nodes: Vec<Option<NodeImage>>,
    owned: Vec<OwnedSlot>,
    /// (bucket, slot), sorted.
    by_name: Vec<(u32, u32)>,
    damaged: Option<u32>,
}

impl MemorySnapshot {
    /// Images in any order; those outside the header's slots are out of reach.
    pub fn new(header: SnapshotHeader, images: impl IntoIterator<Item = NodeImage>) -> MemorySnapshot {
        let mut nodes: Vec<Option<NodeImage>> = Vec::new();
        nodes.resize_with(header.slot_count as usize, || None);
        for image in images {
            if let Some(node) = nodes.get_mut(image.slot as usize) {
                *node = Some(image);
            }
        }
        let (mut owned, mut by_name) = (Vec::new(), Vec::new());
        for NodeImage { slot, parent, name, ephemeral_owner, czxid, .. } in nodes.iter().flatten() {
            by_name.push((bucket(nodes.len(), *parent, name), *slot));
            if *ephemeral_owner != 0 {
                owned.push(OwnedSlot { slot: *slot, owner: *ephemeral_owner, czxid: *czxid });
            }
        }
        by_name.sort_unstable();
        MemorySnapshot { header, nodes, owned, by_name, damaged: None }
    }

    /// Reading this slot fails from now on, as a chunk does whose checksum is wrong.
    pub fn damaged_at(mut self, slot: u32) -> MemorySnapshot {
        self.damaged = Some(slot);
        self
    }
}

/// Half as many buckets as slots.
fn bucket(slots: usize, parent: u32, name: &str) -> u32 {
    let buckets = (slots / 2).next_power_of_two() as u64;
    (FixedState::default().hash_one((parent, name)) & (buckets - 1)) as u32
}

impl SnapshotSource for MemorySnapshot {
    fn header(&self) -> &SnapshotHeader {
        &self.header
    }

    fn owned(&self) -> &[OwnedSlot] {
        &self.owned
    }

    fn node(&self, slot: u32) -> Result<Option<NodeRef<'_>>, SnapshotError> {
        if self.damaged == Some(slot) {
            let why = format!("slot {slot} was damaged on purpose");
            return Err(SnapshotError::Damaged { file: "memory".to_owned(), why });
        }
        Ok(self.nodes.get(slot as usize).and_then(Option::as_ref).map(NodeRef::from))
    }

    fn children_named(&self, parent: u32, name: &str, take: &mut dyn FnMut(u32) -> bool) -> Result<(), SnapshotError> {
        let bucket = bucket(self.nodes.len(), parent, name);
        let from = self.by_name.partition_point(|entry| entry.0 < bucket);
        let alike = self.by_name[from..].iter().take_while(|entry| entry.0 == bucket);
        alike.map(|entry| entry.1).find(|slot| take(*slot));
        Ok(())
    }

    fn condemn(&self, why: String) -> SnapshotError {
        SnapshotError::Damaged { file: "memory".to_owned(), why }
    }

    fn passed(&self, _slot: u32) {}
}
