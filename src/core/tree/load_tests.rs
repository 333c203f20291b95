//! Trees that start from snapshots: what is found out when, and what a half-moved tree never shows.

use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;
use ringkeeper_storage::{AclImage, AclListImage, NO_SLOT, NodeImage, SnapshotHeader};

use super::tests::{SESSION, create, header};
use super::*;
use crate::wire::client::Acl;
use crate::wire::txn::{CreateKind, Txn, TxnHeader};

fn apply(tree: &mut DataTree, zxid: i64, txn: &Txn<'_>) {
    let applied = tree.apply(&TxnHeader { client_id: SESSION, ..header(zxid) }, txn, &mut Unwatched);
    assert!(!applied.items.iter().any(|item| matches!(item, ItemOutcome::Failed { .. })), "{applied:?}");
}

pub(super) fn add(tree: &mut DataTree, zxid: i64, path: &str) {
    apply(tree, zxid, &create(path, CreateKind::Persistent, -1));
}

pub(super) fn delete(tree: &mut DataTree, zxid: i64, path: &str) {
    apply(tree, zxid, &Txn::Delete { path: path.into() });
}

pub(super) fn snapshot_of(tree: &mut DataTree) -> (SnapshotHeader, Vec<NodeImage>) {
    let (walk, begun) = tree.begin_snapshot();
    let images = std::iter::from_fn(|| tree.snapshot_slice(walk, usize::MAX)).flat_map(|chunk| chunk.nodes).collect();
    (begun, images)
}

fn load(header: &SnapshotHeader, images: Vec<NodeImage>) -> Result<DataTree, LoadError> {
    DataTree::load(Box::new(MemorySnapshot::new(header.clone(), images)), TreeOptions::default())
}

/// The slots 0 to 3 of a fresh tree, then `/a`, `/a/b`, `/a/c` (an ephemeral) and `/a/d` (with a list of its own).
fn small_snapshot() -> (SnapshotHeader, Vec<NodeImage>) {
    let mut tree = DataTree::new(TreeOptions::default());
    add(&mut tree, 1, "/a");
    add(&mut tree, 2, "/a/b");
    apply(&mut tree, 3, &create("/a/c", CreateKind::Ephemeral, -1));
    add(&mut tree, 4, "/a/d");
    let list = Acl { perms: 3, scheme: Some("digest".into()), id: Some("a:b".into()) };
    apply(&mut tree, 5, &Txn::SetAcl { path: "/a/d".into(), acl: [list].into(), version: 1 });
    snapshot_of(&mut tree)
}

/// How a snapshot fails: at the start, at a look at a node or the move, or at the end of the move.
#[derive(Debug, PartialEq)]
enum Found {
    AtStart(LoadError),
    OnTheWay(String),
    AtTheEnd(LoadError),
    Nothing,
}

fn outcome(header: &SnapshotHeader, images: Vec<NodeImage>) -> Found {
    let run = || {
        let mut tree = match load(header, images) {
            Ok(tree) => tree,
            Err(error) => return Found::AtStart(error),
        };
        let moved = std::iter::repeat_with(|| tree.move_some(1)).take(10_000).flatten().next().expect("an end");
        moved.contradiction.map_or(Found::Nothing, Found::AtTheEnd)
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast::<String>().expect("a text");
        let why = text.strip_prefix("the snapshot this server started from cannot be used: memory: ");
        Found::OnTheWay(why.unwrap_or_else(|| panic!("not about the snapshot: {text}")).to_owned())
    })
}

#[test]
fn each_kind_of_damage_has_its_name() {
    type Damage = fn(&mut SnapshotHeader, &mut Vec<NodeImage>);
    let (whole, images) = small_snapshot();
    assert_eq!(outcome(&whole, images.clone()), Found::Nothing);
    assert_eq!((images[4].name.as_str(), images[7].name.as_str(), images.len()), ("a", "d", 8));
    let (number, config) = (images[7].acl, images[3].acl);
    let on_the_way = |error: LoadError| Found::OnTheWay(error.to_string());
    let cases: Vec<(Damage, Found)> = vec![
        (|header, _| header.slot_count = 7, Found::AtStart(LoadError::TooManyNodes { node_count: 8, slot_count: 7 })),
        (|_, images| drop(images.remove(0)), Found::AtStart(LoadError::NoRoot)),
        (
            |header, _| header.acls[1].number = header.acls[0].number,
            Found::AtStart(LoadError::BadAclNumber { acl: config }),
        ),
        (|header, _| header.acls[0].number = 99, Found::AtStart(LoadError::BadAclNumber { acl: 99 })),
        (|header, _| header.acls[2].uses = 0, Found::AtStart(LoadError::BadAclNumber { acl: number })),
        (
            |_, images| images[0].name = "root".into(),
            Found::AtStart(LoadError::BadName { slot: 0, parent: 0, name: "root".into() }),
        ),
        (
            |_, images| images[5].name = "x/y".into(),
            on_the_way(LoadError::BadName { slot: 5, parent: 4, name: "x/y".into() }),
        ),
        (|_, images| images[5].parent = 5, on_the_way(LoadError::BadName { slot: 5, parent: 5, name: "b".into() })),
        (|_, images| images[7].acl = 9, on_the_way(LoadError::NoAcl { slot: 7, acl: 9 })),
        (
            |_, images| images[7].name = "b".into(),
            on_the_way(LoadError::NameTwice { slot: 7, parent: 4, name: "b".into() }),
        ),
        (|_, images| images[7].parent = 0, on_the_way(LoadError::NotLinked { slot: 5, parent: 4 })),
        (|_, images| images[6].parent = 70, on_the_way(LoadError::NotLinked { slot: 6, parent: 70 })),
        (|_, images| images[6].next_sibling = NO_SLOT, on_the_way(LoadError::NotLinked { slot: 7, parent: 4 })),
        (|_, images| images[4].first_child = 6, on_the_way(LoadError::NotLinked { slot: 5, parent: 4 })),
        (|header, _| header.node_count = 7, Found::AtTheEnd(LoadError::NodeCount { found: 8, expected: 7 })),
        (|_, images| images[4].child_count = 4, Found::AtTheEnd(LoadError::ChildCount { found: 8, expected: 7 })),
    ];
    for (at, (damage, expected)) in cases.into_iter().enumerate() {
        let (mut header, mut images) = (whole.clone(), images.clone());
        damage(&mut header, &mut images);
        assert_eq!(outcome(&header, images), expected, "case {at}");
    }
    let mut header = whole.clone();
    header.acls[2].uses = 2;
    let expected = LoadError::AclUses { acl: number, found: 1, expected: 2 };
    assert_eq!(outcome(&header, images.clone()), Found::AtTheEnd(expected));
    let stats: [fn(&mut NodeImage); 3] =
        [|image| image.mtime += 1, |image| image.content_crc += 1, |image| image.version = 7];
    for damage in stats {
        let mut images = images.clone();
        damage(&mut images[5]);
        assert!(
            matches!(outcome(&whole, images), Found::AtTheEnd(LoadError::Digest { expected, .. }) if expected == whole.tree_digest)
        );
    }
}

#[test]
fn owners_and_nodes_have_to_agree() {
    use ringkeeper_storage::{NodeRef, OwnedSlot, SnapshotError, SnapshotSource};
    #[derive(Debug)]
    struct OtherOwners(MemorySnapshot, Vec<OwnedSlot>);
    impl SnapshotSource for OtherOwners {
        fn header(&self) -> &SnapshotHeader {
            self.0.header()
        }
        fn owned(&self) -> &[OwnedSlot] {
            &self.1
        }
        fn node(&self, slot: u32) -> Result<Option<NodeRef<'_>>, SnapshotError> {
            self.0.node(slot)
        }
        fn children_named(
            &self,
            parent: u32,
            name: &str,
            take: &mut dyn FnMut(u32) -> bool,
        ) -> Result<(), SnapshotError> {
            self.0.children_named(parent, name, take)
        }
        fn condemn(&self, why: String) -> SnapshotError {
            self.0.condemn(why)
        }
        fn passed(&self, slot: u32) {
            self.0.passed(slot);
        }
    }
    let (header, images) = small_snapshot();
    let right = OwnedSlot { slot: 6, owner: SESSION, czxid: 3 };
    let with = |owned: Vec<OwnedSlot>| {
        let source = OtherOwners(MemorySnapshot::new(header.clone(), images.clone()), owned);
        let mut tree = DataTree::load(Box::new(source), TreeOptions::default())?;
        Ok(tree.move_some(usize::MAX).expect("all of it").contradiction)
    };
    assert_eq!(with(vec![right]), Ok(None));
    assert_eq!(with(vec![right, right]), Err(LoadError::BadOwner { slot: 6 }));
    assert_eq!(with(vec![OwnedSlot { owner: 0, ..right }]), Err(LoadError::BadOwner { slot: 6 }));
    assert_eq!(with(vec![OwnedSlot { slot: 8, ..right }]), Err(LoadError::BadOwner { slot: 8 }));
    for owned in [vec![], vec![OwnedSlot { slot: 5, ..right }], vec![OwnedSlot { owner: 1, ..right }]] {
        assert_eq!(with(owned), Ok(Some(LoadError::Owners)));
    }
}

#[test]
fn what_cannot_be_read_is_told_by_whoever_touches_it_and_by_nobody_else() {
    let (header, images) = small_snapshot();
    let damaged = |slot| {
        let source = MemorySnapshot::new(header.clone(), images.clone()).damaged_at(slot);
        DataTree::load(Box::new(source), TreeOptions::default())
    };
    assert_eq!(damaged(0).unwrap_err().to_string(), "memory: slot 0 was damaged on purpose");
    let mut tree = damaged(5).unwrap();
    assert_eq!((tree.name(NodeId(7)), tree.raw_stat(NodeId(7)).czxid), ("d", 4));
    let touches: [fn(&mut DataTree); 5] = [
        |tree| _ = tree.find("/a/b"),
        |tree| _ = tree.children(tree.find("/a").unwrap()).count(),
        |tree| _ = tree.descendant_count(tree.find("/a").unwrap()),
        |tree| delete(tree, 9, "/a/c"),
        |tree| while tree.move_some(1).is_none() {},
    ];
    for touch in touches {
        let panic = catch_unwind(AssertUnwindSafe(|| touch(&mut tree))).expect_err("slot 5 is needed");
        let text = panic.downcast::<String>().expect("a text");
        assert!(text.ends_with("cannot be used: memory: slot 5 was damaged on purpose"), "{text}");
    }
}

#[test]
fn a_snapshot_without_a_config_node_gets_one() {
    let (mut header, mut images) = small_snapshot();
    let config = images.remove(3);
    assert_eq!(config.name, "config");
    (images[2].next_sibling, images[2].prev_sibling) = (NO_SLOT, 2); // quota stands alone
    images[1].child_count = 1;
    header.node_count -= 1;
    header.data_bytes -= "/zookeeper/config".len() as u64;
    header.acls.retain(|list| list.number != config.acl);
    let (digest, bytes) = (header.tree_digest, header.data_bytes);
    let mut tree = load(&header, images).expect("a whole snapshot");
    assert_eq!(tree.move_some(usize::MAX).expect("all of it").contradiction, None);
    let config = tree.find("/zookeeper/config").expect("added");
    assert_eq!((tree.raw_stat(config).aversion, tree.acl(config)[0].perms), (-1, 1));
    assert_eq!((tree.digest(), tree.node_count()), (digest, 8));
    assert_eq!(tree.approximate_data_size(), bytes + "/zookeeper/config".len() as u64);
}

#[test]
fn places_are_kept_and_holes_are_used_again() {
    let mut tree = DataTree::new(TreeOptions::default());
    (1..=3000).for_each(|zxid| add(&mut tree, zxid, &format!("/n{zxid}")));
    (1..=2900).for_each(|zxid| delete(&mut tree, 3000 + zxid, &format!("/n{zxid}")));
    let kept = tree.find("/n2950").unwrap();
    let (header, images) = snapshot_of(&mut tree);
    assert_eq!((header.slot_count, header.node_count), (3004, 104));
    let mut tree = load(&header, images).unwrap();
    assert_eq!(tree.find("/n2950"), Some(kept));
    add(&mut tree, 6000, "/before");
    delete(&mut tree, 6001, "/n2999");
    add(&mut tree, 6002, "/n2999");
    assert_eq!(tree.find("/before"), Some(NodeId(3004)), "no place is free before the move has passed it");
    assert_eq!(tree.find("/n2999"), Some(NodeId(3005)));
    assert_eq!(tree.move_some(usize::MAX).expect("all of it").contradiction, None);
    assert_eq!(tree.find("/n2999"), Some(NodeId(3005)));
    (0..2901).for_each(|at| add(&mut tree, 7000 + at, &format!("/again{at}")));
    let (header, _) = snapshot_of(&mut tree);
    assert_eq!((header.slot_count, header.node_count), (3006, 3006), "every hole is filled");
}

#[test]
fn lists_keep_their_numbers() {
    let list = |perms, id: &str| AclImage { perms, scheme: "digest".into(), id: id.into() };
    let images = [
        AclListImage { number: 5, uses: 2, entries: vec![list(1, "a:b"), list(2, "c:d")] },
        AclListImage { number: 2, uses: 1, entries: vec![list(4, "e:f")] },
    ];
    let mut table = AclTable::from_images(&images, 100, 7).unwrap();
    let numbers: Vec<_> = table.iter().map(|(acl, list)| (acl.0, list.len(), table.uses(acl))).collect();
    assert_eq!((numbers, table.len()), (vec![(2, 1, 1), (5, 2, 2)], 2));
    let known = [Acl { perms: 4, scheme: Some("digest".into()), id: Some("e:f".into()) }];
    assert_eq!((table.intern(&known), table.uses(AclRef(2))), (AclRef(2), 2));
    let fresh = |perms| [Acl { perms, scheme: Some("ip".into()), id: Some("1.1.1.1".into()) }];
    let numbers: Vec<u32> = (1..=5).map(|perms| table.intern(&fresh(perms)).0).collect();
    assert_eq!(numbers, [0, 1, 3, 4, 6], "the gaps first");
    table.release(AclRef(5));
    table.release(AclRef(5));
    assert_eq!(table.intern(&fresh(9)), AclRef(5));
}

proptest! {
    /// Whatever the nodes of a snapshot say: it is noticed, at the latest at the end of the move, or it is out of the
    /// digest's sight (below `/zookeeper`), and nothing goes on for ever.
    #[test]
    fn whatever_an_image_says_is_noticed(at in 0usize..8, what in 0u8..14, value in 0u32..10) {
        let (header, mut images) = small_snapshot();
        let whole = images.clone();
        let image = &mut images[at];
        let link = if value == 9 { NO_SLOT } else { value };
        match what {
            0 => image.parent = value,
            1 => image.first_child = link,
            2 => image.next_sibling = link,
            3 => image.prev_sibling = link,
            4 => image.child_count = value,
            5 => image.name = ["", "a", "b", "x/y", "zookeeper"][value as usize % 5].into(),
            6 => image.acl = value,
            7 => image.ephemeral_owner = value.into(),
            8 => image.czxid = value.into(),
            9 => image.mzxid = value.into(),
            10 => image.cversion = value as i32,
            11 => image.content_crc = value,
            12 => (image.version, image.aversion) = (value as i32, value as i32),
            _ => (image.ctime, image.pzxid) = (value.into(), value.into()),
        }
        let is_same = images == whole;
        let is_stat_of_system = (2..=3).contains(&at) && what >= 7;
        // A name that is possible is believed: the CRC that it is part of is the image's own word.
        // The root has no siblings, whatever its links say.
        let is_unseen = what == 5 || (at == 0 && (2..=3).contains(&what));
        let found = outcome(&header, images);
        prop_assert!(is_same || is_stat_of_system || is_unseen || found != Found::Nothing, "{found:?}");
    }
}
