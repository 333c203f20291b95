//! The tree's rules, each broken once.

use super::node::NodeId;
use super::*;
use crate::core::types::SessionId;
use crate::wire::client::{Acl, Stat};
use crate::wire::txn::{CONTAINER_OWNER, CreateKind, TTL_OWNER_MASK, Txn, TxnHeader};

pub(super) const SESSION: i64 = 0x100_0000_0001;

pub(super) fn header(zxid: i64) -> TxnHeader {
    TxnHeader { client_id: SESSION, cxid: 1, zxid, time_ms: 1000 + zxid }
}

pub(super) fn create(path: &str, kind: CreateKind, parent_cversion: i32) -> Txn<'_> {
    Txn::Create { path: path.into(), data: Some(b"d"), acl: Default::default(), kind, parent_cversion, create2: false }
}

/// Applies and returns the only item.
fn apply<'t>(tree: &mut DataTree, zxid: i64, txn: &'t Txn<'_>) -> ItemOutcome<'t> {
    let applied = tree.apply(&header(zxid), txn, &mut Unwatched);
    assert_eq!(applied.items.len(), 1);
    assert_eq!(tree.digest(), recomputed_digest(tree), "after {txn:?}");
    applied.items[0]
}

fn add(tree: &mut DataTree, zxid: i64, path: &str) {
    let outcome_of = create(path, CreateKind::Persistent, -1);
    assert!(matches!(apply(tree, zxid, &outcome_of), ItemOutcome::Created { .. }));
}

/// The definition, from scratch.
pub(super) fn recomputed_digest(tree: &DataTree) -> u64 {
    fn below(tree: &DataTree, id: NodeId) -> u64 {
        let path = tree.path(id);
        let crc = digest::content_crc(&path, tree.data(id));
        assert_eq!(crc, tree.content_crc(id), "{path}");
        let own = if digest::counts(&path) { digest::node_digest(crc, &tree.raw_stat(id)) } else { 0 };
        tree.children(id).fold(own, |sum, child| sum.wrapping_add(below(tree, child)))
    }
    below(tree, NodeId::ROOT)
}

fn stat(tree: &DataTree, path: &str) -> Stat {
    tree.stat(tree.find(path).unwrap_or_else(|| panic!("{path} is there")))
}

#[test]
fn a_fresh_tree_is_javas() {
    let tree = DataTree::new(TreeOptions::default());
    assert_eq!(tree.digest(), 1_371_985_504);
    assert_eq!(tree.node_count() + 1, 5); // as Java shows it
    assert_eq!(tree.approximate_data_size(), 44);
    assert_eq!(stat(&tree, "/"), Stat { cversion: -1, num_children: 1, ..Stat::default() });
    assert_eq!(stat(&tree, ""), stat(&tree, "/"));
    assert_eq!(stat(&tree, "/zookeeper"), Stat { cversion: -2, num_children: 2, ..Stat::default() });
    assert_eq!(stat(&tree, "/zookeeper/quota"), Stat::default());
    assert_eq!(stat(&tree, "/zookeeper/config"), Stat { aversion: -1, ..Stat::default() });
    let config = tree.find("/zookeeper/config").unwrap();
    let read_only = Acl { perms: 1, scheme: Some("world".into()), id: Some("anyone".into()) };
    assert_eq!(tree.acl(config), [read_only]);
    assert_eq!(tree.data(config), Some(&b""[..]));
    for odd in ["zookeeper", "/zookeeper/", "//zookeeper", "/zookeeper//config", "/nothing", "x/zookeeper"] {
        assert_eq!(tree.find(odd), None, "{odd}");
    }
}

#[test]
fn creating_and_deleting_move_the_parents_counters() {
    let mut tree = DataTree::new(TreeOptions::default());
    let txn = create("/a", CreateKind::Persistent, 1);
    let ItemOutcome::Created { path: "/a", stat: created } = apply(&mut tree, 5, &txn) else { panic!() };
    assert_eq!((created.czxid, created.mzxid, created.pzxid), (5, 5, 5));
    assert_eq!((created.ctime, created.mtime, created.data_length), (1005, 1005, 1));
    assert_eq!((created.version, created.cversion, created.aversion, created.num_children), (0, 0, 0, 0));
    add(&mut tree, 6, "/a/x");
    add(&mut tree, 7, "/a/y");
    assert_eq!(apply(&mut tree, 8, &Txn::Delete { path: "/a/x".into() }), ItemOutcome::Deleted);
    let a = stat(&tree, "/a");
    assert_eq!((a.cversion, a.pzxid, a.num_children, a.mzxid), (3, 8, 1, 5));
    assert_eq!(tree.raw_stat(tree.find("/a").unwrap()).cversion, 2);
    // Not newer than what the parent has seen: neither counter nor pzxid move.
    apply(&mut tree, 9, &create("/a/z", CreateKind::Persistent, 2));
    let a = stat(&tree, "/a");
    assert_eq!((a.cversion, a.pzxid, a.num_children), (2, 8, 2));
    assert_eq!(tree.last_processed().0, 9);
}

#[test]
fn the_create_counter_never_wraps() {
    let mut tree = DataTree::new(TreeOptions::default());
    add(&mut tree, 1, "/p");
    apply(&mut tree, 2, &create("/p/a", CreateKind::Persistent, i32::MAX));
    apply(&mut tree, 3, &create("/p/b", CreateKind::Persistent, i32::MIN));
    add(&mut tree, 4, "/p/c");
    let p = stat(&tree, "/p");
    assert_eq!((p.pzxid, p.num_children), (2, 3));
    assert_eq!(p.cversion, i32::MAX.wrapping_mul(2).wrapping_sub(3));
}

#[test]
fn set_data_and_set_acl_touch_only_their_own_fields() {
    let mut tree = DataTree::new(TreeOptions::default());
    add(&mut tree, 1, "/a");
    let set = Txn::SetData { path: "/a".into(), data: None, version: 9 };
    let ItemOutcome::DataSet { stat: data_set } = apply(&mut tree, 2, &set) else { panic!() };
    assert_eq!(
        (data_set.version, data_set.mzxid, data_set.mtime, data_set.data_length, data_set.czxid),
        (9, 2, 1002, 0, 1)
    );
    let a = tree.find("/a").unwrap();
    assert_eq!(tree.data(a), None);
    let acl = Acl { perms: 3, scheme: Some("digest".into()), id: Some("a:b".into()) };
    let set = Txn::SetAcl { path: "/a".into(), acl: [acl.clone()].into(), version: 4 };
    let ItemOutcome::AclSet { stat: acl_set } = apply(&mut tree, 3, &set) else { panic!() };
    assert_eq!(acl_set, Stat { aversion: 4, ..data_set });
    assert_eq!(tree.acl(a), [acl]);
    assert_eq!(apply(&mut tree, 4, &Txn::Delete { path: "/a".into() }), ItemOutcome::Deleted);
    assert_eq!(tree.acls().len(), 1); // the config node's
}

#[test]
fn replay_over_newer_state_skips_what_java_skips() {
    let mut tree = DataTree::new(TreeOptions::default());
    add(&mut tree, 1, "/a");
    let no_node = ItemOutcome::Failed { code: -101 };
    let exists = ItemOutcome::Failed { code: -110 };
    assert_eq!(apply(&mut tree, 2, &create("/no/x", CreateKind::Persistent, 1)), no_node);
    assert_eq!(apply(&mut tree, 3, &Txn::Delete { path: "/no/x".into() }), no_node);
    assert_eq!(apply(&mut tree, 4, &Txn::Delete { path: "/a/x".into() }), no_node);
    assert_eq!(stat(&tree, "/a").pzxid, 4);
    assert_eq!(apply(&mut tree, 5, &Txn::SetData { path: "/x".into(), data: None, version: 1 }), no_node);
    // An existing node takes the list of the transaction; the parent's counter follows type 1 only.
    let acl = Acl { perms: 1, scheme: Some("ip".into()), id: Some("1.2.3.4".into()) };
    for (create2, counter) in [(true, 1), (false, 7)] {
        let again = Txn::Create {
            path: "/a".into(),
            data: None,
            acl: [acl.clone()].into(),
            kind: CreateKind::Persistent,
            parent_cversion: 7,
            create2,
        };
        assert_eq!(apply(&mut tree, 6, &again), exists);
        assert_eq!(tree.raw_stat(NodeId::ROOT).cversion, counter);
    }
    assert_eq!(tree.acl(tree.find("/a").unwrap()), [acl]);
    assert_eq!(tree.data(tree.find("/a").unwrap()), Some(&b"d"[..]));
    for odd in ["", "/", "x", "/a/"] {
        assert!(matches!(apply(&mut tree, 7, &create(odd, CreateKind::Persistent, 1)), ItemOutcome::Failed { .. }));
        assert!(matches!(apply(&mut tree, 7, &Txn::Delete { path: odd.into() }), ItemOutcome::Failed { .. }));
    }
    // Children of a later life go with their parent.
    add(&mut tree, 8, "/a/b");
    add(&mut tree, 9, "/a/b/c");
    add(&mut tree, 10, "/a/d");
    assert_eq!(apply(&mut tree, 11, &Txn::Delete { path: "/a".into() }), ItemOutcome::Deleted);
    assert_eq!(tree.node_count() + 1, 5);
}

#[test]
fn a_multi_happens_item_by_item_or_not_at_all() {
    let mut tree = DataTree::new(TreeOptions::default());
    let multi = Txn::Multi(vec![
        create("/m", CreateKind::Persistent, 1),
        create("/m/a", CreateKind::Persistent, 1),
        Txn::Check { path: "/m".into(), version: 1 },
        Txn::SetData { path: "/m".into(), data: Some(b"long"), version: 1 },
        Txn::Delete { path: "/m/a".into() },
    ]);
    let applied = tree.apply(&header(3), &multi, &mut Unwatched);
    let children = |at: usize| match applied.items[at] {
        ItemOutcome::Created { stat, .. } | ItemOutcome::DataSet { stat } => stat.num_children,
        other => panic!("{other:?}"),
    };
    assert_eq!((children(0), children(3)), (0, 1));
    assert_eq!((applied.items[2], applied.items[4]), (ItemOutcome::Checked, ItemOutcome::Deleted));
    assert_eq!(tree.digest(), recomputed_digest(&tree));

    let before = tree.digest();
    let failed = Txn::Multi(vec![
        create("/n", CreateKind::Persistent, 2),
        Txn::Delete { path: "/m".into() },
        Txn::Error { code: -101 },
        Txn::Error { code: -2 },
        create("/o", CreateKind::Persistent, 2),
    ]);
    let applied = tree.apply(&header(4), &failed, &mut Unwatched);
    let codes = [0, 0, -101, -2, -2].map(|code| ItemOutcome::Failed { code });
    assert_eq!(applied.items.as_slice(), codes);
    assert_eq!((tree.digest(), tree.last_processed().0), (before, 4));
    assert!(tree.find("/n").is_none() && tree.find("/m").is_some());
}

#[test]
fn a_closed_session_takes_its_ephemerals_along() {
    let mut tree = DataTree::new(TreeOptions::default());
    add(&mut tree, 1, "/p");
    for (zxid, path) in [(2, "/p/a"), (3, "/p/b"), (4, "/p/c")] {
        apply(&mut tree, zxid, &create(path, CreateKind::Ephemeral, -1));
    }
    let b = stat(&tree, "/p/b");
    assert_eq!((b.ephemeral_owner, tree.ephemerals_count()), (SESSION, 3));
    let mut heard = Heard::default();
    let paths = Some(vec!["/p/c".into(), "/p/gone".into(), "/p/a".into()]);
    tree.apply(&header(9), &Txn::CloseSession { paths }, &mut heard);
    assert_eq!(heard.0, ["Deleted /p/c", "Deleted /p/a", "Deleted /p/b"]);
    assert_eq!((tree.ephemerals_count(), tree.ephemeral_owners().count()), (0, 0));
    assert_eq!((stat(&tree, "/p").pzxid, stat(&tree, "/p").cversion), (9, 6));
    assert_eq!(tree.digest(), recomputed_digest(&tree));
    assert_eq!(tree.ephemerals(SessionId(SESSION)).count(), 0);
    assert_eq!(apply(&mut tree, 10, &Txn::CloseSession { paths: None }), ItemOutcome::Session);
}

/// A snapshot keeps no order among what one transaction created, and every server tells its clients the same.
#[test]
fn a_closed_session_without_a_list_takes_its_ephemerals_along_in_one_order() {
    let mut tree = DataTree::new(TreeOptions::default());
    apply(&mut tree, 1, &create("/z", CreateKind::Ephemeral, -1));
    let both = Txn::Multi(vec![create("/b", CreateKind::Ephemeral, -1), create("/a", CreateKind::Ephemeral, -1)]);
    tree.apply(&header(2), &both, &mut Unwatched);
    let mut heard = Heard::default();
    tree.apply(&header(3), &Txn::CloseSession { paths: None }, &mut heard);
    assert_eq!(heard.0, ["Deleted /z", "Deleted /a", "Deleted /b"]);
    // What no server of ours proposes.
    apply(&mut tree, 4, &create("/e", CreateKind::Ephemeral, -1));
    apply(&mut tree, 5, &create("/e/below", CreateKind::Ephemeral, -1));
    apply(&mut tree, 6, &Txn::CloseSession { paths: None });
    assert_eq!((tree.find("/e").is_some(), tree.ephemerals_count()), (false, 0));
}

#[derive(Default)]
struct Heard(Vec<String>);

impl ChangeSink for Heard {
    fn changed(&mut self, change: &Change<'_>) {
        self.0.push(format!("{:?} {}", change.kind, change.path));
    }
}

#[test]
fn a_sink_sees_the_lists_that_decide_who_may_hear() {
    struct Perms(Vec<(i32, i32, String)>);
    impl ChangeSink for Perms {
        fn changed(&mut self, change: &Change<'_>) {
            self.0.push((change.acl[0].perms, change.parent_acl[0].perms, change.parent_path.to_owned()));
        }
    }
    let mut tree = DataTree::new(TreeOptions::default());
    let list = |perms| [Acl { perms, scheme: Some("world".into()), id: Some("anyone".into()) }].into();
    let make = |path: &'static str, perms| Txn::Create {
        path: path.into(),
        data: None,
        acl: list(perms),
        kind: CreateKind::Persistent,
        parent_cversion: -1,
        create2: true,
    };
    let mut sink = Perms(vec![]);
    tree.apply(&header(1), &make("/a", 5), &mut sink);
    tree.apply(&header(2), &make("/a/b", 6), &mut sink);
    tree.apply(&header(3), &Txn::SetData { path: "/a".into(), data: None, version: 1 }, &mut sink);
    tree.apply(&header(4), &Txn::Delete { path: "/a/b".into() }, &mut sink);
    let expected = [(5, 31, "/"), (6, 5, "/a"), (5, 31, "/"), (6, 5, "/a")];
    assert_eq!(sink.0, expected.map(|(own, parents, path)| (own, parents, path.to_owned())));
}

/// E5: the snapshot has some of it already.
#[test]
fn a_close_session_comes_again_over_what_it_has_done() {
    let mut tree = DataTree::new(TreeOptions::default());
    for (zxid, path, kind) in [
        (1, "/p", CreateKind::Persistent),
        (2, "/p/gone", CreateKind::Ephemeral),
        (3, "/p/there", CreateKind::Ephemeral),
        (4, "/unlisted", CreateKind::Ephemeral),
    ] {
        let txn = create(path, kind, -1);
        let applied = tree.apply(&TxnHeader { client_id: SESSION, ..header(zxid) }, &txn, &mut Unwatched);
        assert!(matches!(applied.items[0], ItemOutcome::Created { .. }));
    }
    apply(&mut tree, 5, &Txn::Delete { path: "/p/gone".into() });
    let paths = Some(vec!["/p/gone".into(), "/p/there".into(), "/elsewhere/never".into()]);
    let close = Txn::CloseSession { paths };
    for _ in 0..2 {
        tree.apply(&TxnHeader { client_id: SESSION, ..header(9) }, &close, &mut Unwatched);
        assert_eq!(tree.digest(), recomputed_digest(&tree));
        let parent = stat(&tree, "/p");
        assert_eq!((parent.pzxid, parent.num_children, parent.cversion), (9, 0, 4));
        assert!(tree.find("/p/there").is_none() && tree.find("/unlisted").is_none());
        assert_eq!(tree.last_processed().0, 9);
    }
    // What is missing raises its parent all the same, as the delete of it would have.
    apply(&mut tree, 10, &create("/q", CreateKind::Persistent, -1));
    let close = Txn::CloseSession { paths: Some(vec!["/q/gone".into()]) };
    tree.apply(&TxnHeader { client_id: SESSION, ..header(11) }, &close, &mut Unwatched);
    assert_eq!(stat(&tree, "/q").pzxid, 11);
}

#[test]
fn owners_mean_what_the_settings_say() {
    const SESSION_255: i64 = TTL_OWNER_MASK | 5;
    const ODD: i64 = TTL_OWNER_MASK | 1 << 45;
    const OLD_TTL: i64 = i64::MIN | 7;
    let kind = |owner, extended, emulate| OwnerKind::of(owner, extended, emulate);
    for (extended, emulate) in [(false, false), (true, false), (true, true)] {
        assert_eq!(kind(0, extended, emulate), OwnerKind::Persistent);
        assert_eq!(kind(CONTAINER_OWNER, extended, emulate), OwnerKind::Container);
        assert_eq!(kind(SESSION, extended, emulate), OwnerKind::Ephemeral);
    }
    assert_eq!(kind(SESSION_255, false, true), OwnerKind::Ephemeral);
    assert_eq!(kind(SESSION_255, true, false), OwnerKind::Ttl { ttl_ms: 5 });
    assert_eq!((kind(ODD, true, false), kind(OLD_TTL, true, false)), (OwnerKind::Ephemeral, OwnerKind::Ephemeral));
    assert_eq!(kind(OLD_TTL, true, true), OwnerKind::Ttl { ttl_ms: 7 });
    assert_eq!(apply::stored_owner(CreateKind::Ttl { ttl_ms: 0 }, 1), 0);
    assert_eq!(apply::stored_owner(CreateKind::Ttl { ttl_ms: 5 }, 1), SESSION_255);
    assert_eq!(apply::stored_owner(CreateKind::Ttl { ttl_ms: 1 << 40 }, 1), TTL_OWNER_MASK | 0xff_ffff_ffff);
}

#[test]
fn the_reaper_finds_idle_containers_and_ttl_nodes() {
    let mut tree = DataTree::new(TreeOptions { extended_types: true, emulate_353_ttl: false, hash_seed: 0 });
    for (zxid, path, kind) in [
        (1, "/used", CreateKind::Container),
        (2, "/unused", CreateKind::Container),
        (3, "/ttl", CreateKind::Ttl { ttl_ms: 100 }),
        (4, "/full", CreateKind::Ttl { ttl_ms: 1 }),
    ] {
        apply(&mut tree, zxid, &create(path, kind, -1));
        assert_eq!(stat(&tree, path).ephemeral_owner, 0);
    }
    add(&mut tree, 5, "/used/x");
    add(&mut tree, 6, "/full/x");
    let due = |tree: &DataTree, now, unused| {
        tree.reap_candidates(now, unused).into_iter().map(|id| tree.path(id)).collect::<Vec<_>>()
    };
    assert_eq!(due(&tree, 1103, 0), Vec::<String>::new());
    apply(&mut tree, 7, &Txn::Delete { path: "/used/x".into() });
    assert_eq!(due(&tree, 1103, 0), ["/used"]);
    assert_eq!(due(&tree, 1104, 0), ["/used", "/ttl"]);
    assert_eq!(due(&tree, 1103, 100), ["/used", "/unused"]);
    assert_eq!(due(&tree, i64::MIN, 1), ["/used"]);
    apply(&mut tree, 8, &Txn::DeleteContainer { path: "/used".into() });
    apply(&mut tree, 9, &Txn::Delete { path: "/full/x".into() });
    assert_eq!(due(&tree, 1104, 0), ["/ttl", "/full"]);
}

#[test]
fn children_stand_in_the_order_of_their_creation() {
    let mut tree = DataTree::new(TreeOptions::default());
    add(&mut tree, 1, "/d");
    for (zxid, name) in (2..).zip(["e", "a", "c", "b", "f"]) {
        add(&mut tree, zxid, &format!("/d/{name}"));
    }
    let d = tree.find("/d").unwrap();
    let names = |tree: &DataTree| tree.children(d).map(|id| tree.name(id).to_owned()).collect::<String>();
    assert_eq!(names(&tree), "eacbf");
    for (gone, left) in [("c", "eabf"), ("e", "abf"), ("f", "ab")] {
        apply(&mut tree, 20, &Txn::Delete { path: format!("/d/{gone}").into() });
        assert_eq!(names(&tree), left);
    }
    add(&mut tree, 21, "/d/z");
    assert_eq!(names(&tree), "abz");
    for gone in ["b", "a", "z"] {
        apply(&mut tree, 22, &Txn::Delete { path: format!("/d/{gone}").into() });
    }
    add(&mut tree, 23, "/d/q");
    add(&mut tree, 23, "/d/q/r");
    assert_eq!(names(&tree), "q");
    assert_eq!((tree.descendant_count(d), tree.descendant_count(NodeId::ROOT)), (2, 6));
    assert_eq!(tree.path(tree.find("/d/q/r").unwrap()), "/d/q/r");
}
