//! A snapshot that a peer sends, looked at on its way to the disk: what is refused here never takes the place of what is
//! stored, and what passes can be served from.

use foldhash::fast::FixedState;
use hashbrown::HashSet;
use ringkeeper_storage::{ChildKeys, NO_SLOT, NodeImage, NodeRef, SnapshotChunk, SnapshotHeader};

use super::tree::acl::AclTable;
use super::tree::{Links, LoadError, Sums};

#[derive(Debug)]
pub struct SnapshotCheck {
    sums: Sums,
    expected: SnapshotHeader,
    next_slot: u32,
    links: Links,
    names: Names,
}

impl SnapshotCheck {
    pub fn begin(header: &SnapshotHeader) -> Result<SnapshotCheck, String> {
        let SnapshotHeader { node_count, slot_count, .. } = *header;
        if node_count > u64::from(slot_count) {
            return Err(LoadError::TooManyNodes { node_count, slot_count }.to_string());
        }
        // Not the table itself, which a number far out would make large.
        AclTable::check_images(&header.acls, slot_count).map_err(|error| error.to_string())?;
        let mut expected = header.clone();
        expected.sessions = Vec::new();
        Ok(SnapshotCheck {
            sums: Sums::new(header),
            expected,
            next_slot: 0,
            links: Links::default(),
            names: Names::of(header),
        })
    }

    pub fn chunk(&mut self, chunk: &SnapshotChunk) -> Result<(), String> {
        let slot_count = self.expected.slot_count;
        let nodes = &chunk.nodes;
        let within = match &chunk.slots {
            Some(slots) => {
                if slots.start != self.next_slot || slots.end < slots.start || slots.end > slot_count {
                    return Err(format!("slots {slots:?} of {slot_count} came where {} is next", self.next_slot));
                }
                self.next_slot = slots.end;
                slots.clone()
            }
            None => 0..slot_count,
        };
        let in_order = nodes.is_sorted_by(|a, b| a.slot < b.slot);
        if !in_order || !nodes.iter().all(|node| within.contains(&node.slot)) {
            return Err(format!("nodes out of place among slots {within:?}"));
        }
        nodes.iter().try_for_each(|node| self.node(node))
    }

    /// Whether all of it has come.
    pub fn end(&self) -> Result<(), String> {
        if self.next_slot != self.expected.slot_count {
            return Err(format!("it ends at slot {} of {}", self.next_slot, self.expected.slot_count));
        }
        if !self.links.has(0) {
            return Err(LoadError::NoRoot.to_string());
        }
        let wrong = self.sums.miscount(&self.expected).or_else(|| self.links.contradiction());
        wrong.map_or(Ok(()), |error| Err(error.to_string()))
    }

    fn node(&mut self, node: &NodeImage) -> Result<(), String> {
        let slot_count = self.expected.slot_count;
        if self.links.has(node.slot) {
            return Err(format!("slot {} came twice", node.slot));
        }
        let links = [node.first_child, node.next_sibling, node.prev_sibling];
        if node.parent >= slot_count || links.iter().any(|slot| *slot >= slot_count && *slot != NO_SLOT) {
            return Err(format!("slot {} is linked to slots beyond {slot_count}", node.slot));
        }
        let image = NodeRef::from(node);
        self.sums.check(&image).map_err(|error| error.to_string())?;
        self.sums.add(&image);
        self.links.add(&image).map_err(|error| error.to_string())?;
        if !self.names.add(&image) {
            let (slot, parent, name) = (node.slot, node.parent, node.name.to_string());
            return Err(LoadError::NameTwice { slot, parent, name }.to_string());
        }
        Ok(())
    }
}

/// Every name below every parent, as a hash. Clients cannot prepare names that fall together in it; two that do by chance (in one
/// snapshot of 10 million nodes in 300,000) do not in the next snapshot, which has other keys.
#[derive(Debug)]
struct Names {
    keys: ChildKeys,
    seen: HashSet<u64, FixedState>,
}

impl Names {
    fn of(header: &SnapshotHeader) -> Names {
        Names { keys: ChildKeys::of(header), seen: HashSet::default() }
    }

    /// False: it was there.
    fn add(&mut self, node: &NodeRef<'_>) -> bool {
        self.seen.insert(self.keys.hash(node.parent, node.name))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::{DataTree, TreeOptions};
    use super::*;

    fn snapshot() -> (SnapshotHeader, Vec<SnapshotChunk>) {
        let mut tree = DataTree::new(TreeOptions::default());
        let (walk, header) = tree.begin_snapshot();
        (header, std::iter::from_fn(|| tree.snapshot_slice(walk, 1)).collect())
    }

    fn checked(header: &SnapshotHeader, chunks: &[SnapshotChunk]) -> Result<(), String> {
        let mut check = SnapshotCheck::begin(header)?;
        chunks.iter().try_for_each(|chunk| check.chunk(chunk))?;
        check.end()
    }

    fn named<'a>(chunks: &'a mut [SnapshotChunk], name: &str) -> &'a mut NodeImage {
        chunks.iter_mut().flat_map(|chunk| &mut chunk.nodes).find(|node| node.name == name).unwrap()
    }

    #[test]
    fn a_tree_passes_and_nothing_less() {
        let (header, chunks) = snapshot();
        assert!(chunks.len() > 2);
        assert_eq!(checked(&header, &chunks), Ok(()));
        for missing in 0..chunks.len() {
            let mut less = chunks.clone();
            less.remove(missing);
            assert!(checked(&header, &less).is_err(), "without chunk {missing}");
        }
    }

    #[test]
    fn a_slot_far_out_takes_no_memory() {
        let (mut header, mut chunks) = snapshot();
        header.slot_count = u32::MAX;
        let mut check = SnapshotCheck::begin(&header).unwrap();
        let mut chunk = chunks.pop().unwrap();
        chunk.slots = None;
        let mut far = chunk.nodes.pop().unwrap();
        far.slot = u32::MAX - 1;
        check.chunk(&SnapshotChunk { slots: None, nodes: vec![far] }).unwrap();
        assert!(check.links.has(u32::MAX - 1) && !check.links.has(u32::MAX - 2));
    }

    #[test]
    fn what_cannot_be_served_from_is_refused() {
        type Spoil = fn(&mut SnapshotHeader, &mut Vec<SnapshotChunk>);
        let spoils: [(&str, Spoil); 16] = [
            ("promises", |header, _| header.node_count = 1 << 40),
            ("ends at slot", |header, _| header.slot_count += 1),
            ("instead of", |header, _| header.node_count -= 1),
            ("where 0 is next", |_, chunks| chunks.swap(0, 1)),
            ("came twice", |_, chunks| {
                let again = chunks[0].nodes.clone();
                chunks.push(SnapshotChunk { slots: None, nodes: again });
            }),
            ("out of place", |_, chunks| chunks[0].nodes[0].slot = 3),
            ("out of place", |_, chunks| {
                let node = chunks[0].nodes[0].clone();
                chunks[0].nodes.push(node);
            }),
            ("linked to slots beyond", |_, chunks| chunks[1].nodes[0].next_sibling = 1000),
            ("linked to slots beyond", |_, chunks| chunks[1].nodes[0].parent = 1000),
            ("no proper place", |_, chunks| chunks[0].nodes[0].next_sibling = 1),
            ("leads back to it", |_, chunks| chunks[1].nodes[0].next_sibling = 1),
            ("contradict each other", |_, chunks| chunks[1].nodes[0].prev_sibling = 0),
            ("impossible name", |_, chunks| chunks[1].nodes[0].name = "a/b".into()),
            ("name of another child", |_, chunks| {
                let first = named(chunks, "config").name.clone();
                named(chunks, "quota").name = first;
            }),
            ("is not listed", |_, chunks| chunks[1].nodes[0].acl = 77),
            ("children", |_, chunks| chunks[0].nodes[0].child_count = 0),
        ];
        for (expected, spoil) in spoils {
            let (mut header, mut chunks) = snapshot();
            spoil(&mut header, &mut chunks);
            let why = checked(&header, &chunks).expect_err(expected);
            assert!(why.contains(expected), "{why} instead of {expected}");
        }
    }
}
