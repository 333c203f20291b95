//! Whether the nodes of a snapshot hang together: one tree, each node once among its parent's children, lists as long as they say.
//!
//! The nodes come one by one, in any order, and what each says of others is held against what they say, in two ways:
//!
//! * sums of hashes, which come to nothing if each claim has its counterpart: who is first below whom, who follows whom and
//!   stands before whom, how many there are;
//! * the way from each node through those behind it to its parent, and on to the root, which must not lead in a circle. Four
//!   bytes a node, ways being shortened as they are gone (union-find).
//!
//! Together that is all: a node that is claimed once is in the list of its parent, unless its claims go round. Two children of
//! one name are not found here, but by `snapshot_check.rs`. What was written here and read again (`unmoved.rs`) is not looked at
//! like this.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use ringkeeper_storage::{NO_SLOT, NodeRef};

use super::load_error::LoadError;
use super::node::NodeId;

/// Slots whose ways lie together. They grow with what has come: neither what a header says nor a slot far out is a reason to take
/// memory.
const BLOCK: u32 = 64;

#[derive(Debug, Default)]
pub(in crate::core) struct Links {
    /// Where the way leads from each slot that has come.
    ways: HashMap<u32, [u32; BLOCK as usize], FixedState>,
    /// Nodes among the children of their parents, less those that are told to be the first or the next one there.
    places: u64,
    /// Nodes that are told to follow others, less those that say they do.
    order: u64,
    /// Children that nodes say they have, less those that are there.
    counts: u64,
    /// The first or the last child of a node, until the other one is known: the first one says that the last stands before it.
    ends: HashMap<u32, End, FixedState>,
}

#[derive(Clone, Copy, Debug)]
enum End {
    First(u32),
    Last(u32),
}

impl Links {
    pub fn has(&self, slot: u32) -> bool {
        self.way(slot) != NO_SLOT
    }

    /// A slot that has not come yet. Its links are within the snapshot's slots.
    pub fn add(&mut self, node: &NodeRef<'_>) -> Result<(), LoadError> {
        let NodeRef { slot, parent, first_child: first, next_sibling: next, prev_sibling: prev, .. } = *node;
        let not_linked = LoadError::NotLinked { slot, parent };
        if first != NO_SLOT {
            self.places = self.places.wrapping_sub(hash((slot, first)));
            self.counts = self.counts.wrapping_add(hash(slot).wrapping_mul(node.child_count.into()));
            self.note_end(slot, End::First(first)).ok_or(not_linked.clone())?;
        }
        if slot == NodeId::ROOT.0 {
            self.set_way(slot, slot);
            return if next == NO_SLOT { Ok(()) } else { Err(not_linked) };
        }
        self.places = self.places.wrapping_add(hash((parent, slot)));
        self.counts = self.counts.wrapping_sub(hash(parent));
        self.order = self.order.wrapping_sub(hash((prev, slot)));
        let onward = if next == NO_SLOT {
            self.note_end(parent, End::Last(slot)).ok_or(not_linked)?;
            parent
        } else {
            self.places = self.places.wrapping_sub(hash((parent, next)));
            self.order = self.order.wrapping_add(hash((slot, next)));
            next
        };
        let end = self.end_of_way(onward);
        if end == slot {
            return Err(LoadError::Circle { slot });
        }
        self.set_way(slot, end);
        Ok(())
    }

    /// When all have come.
    pub fn contradiction(&self) -> Option<LoadError> {
        let is_whole = (self.places, self.order, self.counts, self.ends.len()) == (0, 0, 0, 0);
        (!is_whole).then_some(LoadError::Links)
    }

    /// `None`: there is another one.
    fn note_end(&mut self, parent: u32, end: End) -> Option<()> {
        let (first, last) = match (self.ends.remove(&parent), end) {
            (None, end) => {
                self.ends.insert(parent, end);
                return Some(());
            }
            (Some(End::First(first)), End::Last(last)) | (Some(End::Last(last)), End::First(first)) => (first, last),
            _ => return None,
        };
        self.order = self.order.wrapping_add(hash((last, first)));
        Some(())
    }

    /// The root, or what has not come yet.
    fn end_of_way(&mut self, mut at: u32) -> u32 {
        loop {
            let next = self.way(at);
            if next == at || next == NO_SLOT {
                return at;
            }
            let after = self.way(next);
            if after == NO_SLOT {
                return next;
            }
            self.set_way(at, after);
            at = after;
        }
    }

    fn way(&self, slot: u32) -> u32 {
        self.ways.get(&(slot / BLOCK)).map_or(NO_SLOT, |block| block[(slot % BLOCK) as usize])
    }

    fn set_way(&mut self, slot: u32, to: u32) {
        let block = self.ways.entry(slot / BLOCK).or_insert([NO_SLOT; BLOCK as usize]);
        block[(slot % BLOCK) as usize] = to;
    }
}

fn hash(claim: impl Hash) -> u64 {
    FixedState::default().hash_one(claim)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ringkeeper_storage::NodeImage;

    use super::super::load_tests::{add, delete, snapshot_of};
    use super::super::{DataTree, TreeOptions};
    use super::*;

    /// The four nodes of a fresh tree, `/a` with four children, one of them with two and one with one, and `/b` with one.
    fn nodes() -> Vec<NodeImage> {
        let mut tree = DataTree::new(TreeOptions::default());
        let paths = ["/a", "/gone", "/a/1", "/b", "/a/2", "/a/2/x", "/a/3", "/a/2/y", "/a/4", "/b/1", "/a/3/z"];
        for (zxid, path) in (1..).zip(paths) {
            add(&mut tree, zxid, path);
        }
        delete(&mut tree, 20, "/gone");
        snapshot_of(&mut tree).1
    }

    fn judged(nodes: &[NodeImage]) -> Result<(), LoadError> {
        let mut links = Links::default();
        nodes.iter().try_for_each(|node| links.add(&NodeRef::from(node)))?;
        links.contradiction().map_or(Ok(()), Err)
    }

    fn named<'a>(nodes: &'a mut [NodeImage], name: &str) -> &'a mut NodeImage {
        nodes.iter_mut().find(|node| node.name == name).unwrap()
    }

    #[test]
    fn any_single_link_to_anywhere_else_is_noticed() {
        let whole = nodes();
        assert_eq!(judged(&whole), Ok(()));
        type Link = fn(&mut NodeImage) -> &mut u32;
        let links: [Link; 4] = [
            |node| &mut node.parent,
            |node| &mut node.first_child,
            |node| &mut node.next_sibling,
            |node| &mut node.prev_sibling,
        ];
        let slots: Vec<u32> = whole.iter().map(|node| node.slot).chain([5, NO_SLOT]).collect();
        let mut tried = 0;
        for at in 0..whole.len() {
            // The root has neither parent nor siblings: its name shows it, and nobody looks at these.
            let of_root = if at == 0 { 1..3 } else { 0..4 };
            for (link, to) in links[of_root].iter().flat_map(|link| slots.iter().map(move |to| (link, *to))) {
                let mut nodes = whole.clone();
                if std::mem::replace(link(&mut nodes[at]), to) == to {
                    continue;
                }
                assert!(judged(&nodes).is_err(), "{:?} instead of {:?}", nodes[at], whole[at]);
                tried += 1;
            }
        }
        assert!(tried > 700, "{tried}");
    }

    #[test]
    fn what_agrees_with_itself_and_hangs_nowhere_is_noticed() {
        type Spoil = fn(&mut [NodeImage]);
        let spoils: [(&str, &str, Spoil); 6] = [
            ("two siblings follow each other, beside the list", "leads back", |nodes| {
                let (one, three) = (named(nodes, "1").slot, named(nodes, "3").slot);
                let (two, four) = (named(nodes, "2").slot, named(nodes, "4").slot);
                // Left in the list: 1 and 4. In a circle: 2 and 3.
                (named(nodes, "1").next_sibling, named(nodes, "4").prev_sibling) = (four, one);
                (named(nodes, "2").next_sibling, named(nodes, "2").prev_sibling) = (three, three);
                (named(nodes, "3").next_sibling, named(nodes, "3").prev_sibling) = (two, two);
            }),
            ("a node follows itself", "leads back", |nodes| {
                let (one, two, three) = (named(nodes, "1").slot, named(nodes, "2").slot, named(nodes, "3").slot);
                (named(nodes, "1").next_sibling, named(nodes, "3").prev_sibling) = (three, one);
                (named(nodes, "2").next_sibling, named(nodes, "2").prev_sibling) = (two, two);
            }),
            ("two nodes are each other's only child", "leads back", |nodes| {
                // `/a/3/z` and `/b/1`, which their parents let go.
                let (z, one) = (named(nodes, "z").slot, nodes.iter().rfind(|node| node.name == "1").unwrap().slot);
                for parent in ["3", "b"] {
                    let parent = named(nodes, parent);
                    (parent.child_count, parent.first_child) = (0, NO_SLOT);
                }
                for (node, other) in [(z, one), (one, z)] {
                    let node = nodes.iter_mut().find(|image| image.slot == node).unwrap();
                    (node.parent, node.first_child, node.child_count) = (other, other, 1);
                }
            }),
            ("children are counted at the wrong parent", "contradict", |nodes| {
                let (two, three) = (named(nodes, "2").child_count, named(nodes, "3").child_count);
                (named(nodes, "2").child_count, named(nodes, "3").child_count) = (three, two);
            }),
            ("one list hangs at two parents, another at none", "contradict", |nodes| {
                let x = named(nodes, "2").first_child;
                named(nodes, "3").first_child = x;
            }),
            ("the first says that another than the last stands before it", "contradict", |nodes| {
                let (one, three, four) =
                    (named(nodes, "1").prev_sibling, named(nodes, "3").slot, named(nodes, "4").slot);
                assert_eq!(one, four);
                (named(nodes, "1").prev_sibling, named(nodes, "4").prev_sibling) = (three, four);
            }),
        ];
        for (what, expected, spoil) in spoils {
            let mut nodes = nodes();
            spoil(&mut nodes);
            let told = judged(&nodes).expect_err(what).to_string();
            assert!(told.contains(expected), "{what}: {told}");
        }
    }

    #[test]
    fn a_slot_far_out_takes_one_block() {
        let mut links = Links::default();
        let far = NodeImage { slot: NO_SLOT - 1, parent: NO_SLOT - 7, ..nodes().pop().unwrap() };
        links.add(&NodeRef::from(&far)).unwrap();
        assert!(links.has(far.slot) && !links.has(far.parent) && links.ways.len() == 1);
    }

    proptest! {
        #[test]
        fn the_order_in_which_nodes_come_does_not_matter(mut nodes in Just(nodes()).prop_shuffle(), at in 1usize..10) {
            prop_assert_eq!(judged(&nodes), Ok(()));
            let (node, next) = (nodes[at].slot, nodes[at].next_sibling);
            nodes[at].next_sibling = if next == NO_SLOT { node } else { NO_SLOT };
            prop_assert!(judged(&nodes).is_err() || nodes[at].slot == 0);
        }
    }
}
