//! Any history of transactions, with snapshots, restarts from them and moves into memory in between, against a model that is
//! too simple to be wrong: a map from path to stat and data, as semantics 3 words it.

use std::collections::BTreeMap;

use proptest::prelude::*;
use ringkeeper_storage::{NO_SLOT, NodeImage, SnapshotHeader};

use super::tests::{SESSION, header, recomputed_digest};
use super::*;
use crate::core::types::SessionId;
use crate::wire::client::Acl;
use crate::wire::txn::{CONTAINER_OWNER, CreateKind, TTL_OWNER_MASK, Txn, TxnHeader};

#[derive(Clone, Debug, PartialEq)]
struct ModelNode {
    stat: RawStat,
    data: Option<Vec<u8>>,
    perms: i32,
    /// Orders siblings: the number of the operation that made it, whatever its zxid says.
    born: i64,
}

type Model = BTreeMap<String, ModelNode>;

#[derive(Clone, Debug)]
enum Op {
    Create { path: String, data: Option<Vec<u8>>, perms: i32, kind: u8, session: i64 },
    Delete { path: String },
    SetData { path: String, data: Option<Vec<u8>> },
    SetAcl { path: String, perms: i32 },
    CloseSession { session: i64, listed: bool },
    Slice { max_bytes: usize },
    Restart,
    Move { max_bytes: usize },
    Look { path: String },
}

fn paths() -> impl Strategy<Value = String> {
    let names = prop::sample::select(vec!["a", "b", "c", "zookeeper", "a-rather-long-name-for-a-node-é"]);
    prop::collection::vec(names, 1..4).prop_map(|names| format!("/{}", names.join("/")))
}

fn data() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..40))
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        10 => (paths(), data(), 0..4i32, 0..8u8, 0..3i64).prop_map(|(path, data, perms, kind, session)| {
            Op::Create { path, data, perms, kind, session: SESSION + session }
        }),
        4 => paths().prop_map(|path| Op::Delete { path }),
        4 => (paths(), data()).prop_map(|(path, data)| Op::SetData { path, data }),
        2 => (paths(), 0..4i32).prop_map(|(path, perms)| Op::SetAcl { path, perms }),
        1 => (0..3i64, any::<bool>()).prop_map(|(n, listed)| Op::CloseSession { session: SESSION + n, listed }),
        6 => (1..400usize).prop_map(|max_bytes| Op::Slice { max_bytes }),
        1 => Just(Op::Restart),
        4 => (1..2000usize).prop_map(|max_bytes| Op::Move { max_bytes }),
        4 => paths().prop_map(|path| Op::Look { path }),
    ];
    prop::collection::vec(op, 1..250)
}

fn list(perms: i32) -> Vec<Acl<'static>> {
    match perms {
        0 => vec![Acl { perms: 31, scheme: Some("world".into()), id: Some("anyone".into()) }],
        _ => vec![Acl { perms, scheme: Some("digest".into()), id: Some("a:b".into()) }],
    }
}

fn parent_of(path: &str) -> String {
    path::split(path).expect("a model path").0.to_owned()
}

fn fresh_model() -> Model {
    let node = |perms| ModelNode { stat: RawStat::default(), data: Some(vec![]), perms, born: 0 };
    let mut model: Model =
        ["/", "/zookeeper", "/zookeeper/quota"].map(|path| (path.to_owned(), node(0))).into_iter().collect();
    let config = ModelNode { stat: RawStat { aversion: -1, ..RawStat::default() }, ..node(-1) };
    model.insert("/zookeeper/config".to_owned(), config);
    model
}

fn children_of<'m>(model: &'m Model, path: &'m str) -> impl Iterator<Item = &'m String> {
    model.keys().filter(move |other| *other != "/" && parent_of(other) == path)
}

fn delete_in_model(model: &mut Model, path: &str, zxid: i64) {
    model.remove(path).expect("checked before");
    let parent = model.get_mut(&parent_of(path)).expect("a parent");
    parent.stat.pzxid = parent.stat.pzxid.max(zxid);
}

/// Does what prep would let through; returns false where it would refuse.
fn step(tree: &mut DataTree, model: &mut Model, op: &Op, zxid: i64) -> bool {
    let own = header(zxid);
    match op {
        Op::Create { path, data, perms, kind, session } => {
            let is_ephemeral =
                |model: &Model, path: &str| model.get(path).is_some_and(|node| node.stat.ephemeral_owner > 0);
            let parent_path = parent_of(path);
            if model.contains_key(path) || !model.contains_key(&parent_path) || is_ephemeral(model, &parent_path) {
                return false;
            }
            let (kind, owner) = match kind {
                0..=3 => (CreateKind::Persistent, 0),
                4 | 5 => (CreateKind::Ephemeral, *session),
                6 => (CreateKind::Container, CONTAINER_OWNER),
                _ => (CreateKind::Ttl { ttl_ms: 77 }, TTL_OWNER_MASK | 77),
            };
            let parent = model.get_mut(&parent_path).expect("looked up above");
            parent.stat.cversion += 1;
            parent.stat.pzxid = zxid;
            let txn = Txn::Create {
                path: path.into(),
                data: data.as_deref(),
                acl: list(*perms),
                kind,
                parent_cversion: parent.stat.cversion,
                create2: zxid % 2 == 0,
            };
            let of_session = TxnHeader { client_id: *session, ..own };
            let applied = tree.apply(&of_session, &txn, &mut Unwatched);
            assert!(matches!(applied.items[..], [ItemOutcome::Created { .. }]), "{applied:?}");
            let time = own.time_ms;
            let stat = RawStat {
                czxid: zxid,
                mzxid: zxid,
                pzxid: zxid,
                ctime: time,
                mtime: time,
                ephemeral_owner: owner,
                ..RawStat::default()
            };
            model.insert(path.clone(), ModelNode { stat, data: data.clone(), perms: *perms, born: zxid });
        }
        Op::Delete { path } => {
            let is_reserved = path::RESERVED.contains(&path.as_str());
            if is_reserved || !model.contains_key(path) || children_of(model, path).next().is_some() {
                return false;
            }
            let applied_txn = Txn::Delete { path: path.into() };
            assert_eq!(tree.apply(&own, &applied_txn, &mut Unwatched).items[..], [ItemOutcome::Deleted]);
            delete_in_model(model, path, zxid);
        }
        Op::SetData { path, data } => {
            let Some(node) = model.get_mut(path) else { return false };
            node.data.clone_from(data);
            node.stat.version += 1;
            (node.stat.mzxid, node.stat.mtime) = (zxid, own.time_ms);
            let txn = Txn::SetData { path: path.into(), data: data.as_deref(), version: node.stat.version };
            tree.apply(&own, &txn, &mut Unwatched);
        }
        Op::SetAcl { path, perms } => {
            let Some(node) = model.get_mut(path) else { return false };
            node.perms = *perms;
            node.stat.aversion += 1;
            let txn = Txn::SetAcl { path: path.into(), acl: list(*perms), version: node.stat.aversion };
            tree.apply(&own, &txn, &mut Unwatched);
        }
        Op::CloseSession { session, listed } => {
            let owned =
                |(path, node): (&String, &ModelNode)| (node.stat.ephemeral_owner == *session).then(|| path.clone());
            let doomed: Vec<String> = model.iter().filter_map(owned).collect();
            for path in &doomed {
                delete_in_model(model, path, zxid);
            }
            let in_order: Vec<_> = tree.ephemerals(SessionId(*session)).map(|id| tree.path(id).into()).collect();
            assert_eq!(in_order.len(), doomed.len());
            let of_session = TxnHeader { client_id: *session, ..own };
            let txn = Txn::CloseSession { paths: listed.then_some(in_order) };
            tree.apply(&of_session, &txn, &mut Unwatched);
        }
        Op::Slice { .. } | Op::Restart | Op::Move { .. } | Op::Look { .. } => unreachable!("not a transaction"),
    }
    true
}

fn assert_node(tree: &DataTree, model: &Model, path: &str) {
    let found = tree.find(path);
    assert_eq!(found.is_some(), model.contains_key(path), "{path}");
    let Some(id) = found else { return };
    let perms = match tree.acl(id) {
        [acl] if acl.scheme.as_deref() == Some("digest") => acl.perms,
        [acl] if acl.perms == 1 => -1,
        _ => 0,
    };
    let node = &model[path];
    let data = tree.data(id).map(<[u8]>::to_vec);
    assert_eq!(ModelNode { stat: tree.raw_stat(id), data, perms, born: node.born }, *node, "{path}");
    let mut expected: Vec<_> = children_of(model, path).cloned().collect();
    expected.sort_by_key(|path| model[path].born);
    let children: Vec<_> = tree.children(id).map(|id| tree.path(id)).collect();
    // Those of a fresh tree are all born at once.
    if expected.iter().all(|path| model[path].born > 0) {
        assert_eq!(children, expected);
    } else {
        assert_eq!(children.len(), expected.len(), "{children:?} {expected:?}");
    }
    assert_eq!(tree.child_count(id) as usize, expected.len());
}

/// What is known without looking at a node.
fn assert_sums(tree: &DataTree, model: &Model) {
    let owned_by = |owner| {
        move |(path, node): (&String, &ModelNode)| {
            (node.stat.ephemeral_owner == owner).then(|| (node.born, path.clone()))
        }
    };
    for session in SESSION..SESSION + 3 {
        let mut expected: Vec<_> = model.iter().filter_map(owned_by(session)).collect();
        expected.sort();
        let paths: Vec<_> = tree.ephemerals(SessionId(session)).map(|id| tree.path(id)).collect();
        assert_eq!(paths, expected.into_iter().map(|(_, path)| path).collect::<Vec<_>>());
    }
    let ephemerals = model.values().filter(|node| node.stat.ephemeral_owner > 0).count();
    let bytes: usize = model.iter().map(|(path, node)| path.len() + node.data.as_ref().map_or(0, Vec::len)).sum();
    assert_eq!(tree.ephemerals_count() as usize, ephemerals);
    assert_eq!(tree.approximate_data_size() as usize, bytes);
    assert_eq!(
        (tree.node_count() as usize, tree.descendant_count(NodeId::ROOT) as usize),
        (model.len(), model.len() - 1)
    );
    let mut uses = std::collections::BTreeMap::new();
    model.values().filter(|node| node.perms != 0).for_each(|node| *uses.entry(node.perms).or_insert(0) += 1);
    let mut counted: Vec<u64> = tree.acls().iter().map(|(acl, _)| tree.acls().uses(acl)).collect();
    let mut expected: Vec<u64> = uses.into_values().collect();
    counted.sort_unstable();
    expected.sort_unstable();
    assert_eq!(counted, expected);
}

fn assert_is_model(tree: &DataTree, model: &Model) {
    assert_sums(tree, model);
    model.keys().for_each(|path| assert_node(tree, model, path));
    assert_eq!(tree.digest(), recomputed_digest(tree));
    let below: u64 = tree.children(NodeId::ROOT).map(|id| 1 + tree.descendant_count(id)).sum();
    assert_eq!(below, tree.node_count() - 1);
}

/// Each image, by itself, is where its neighbours say it is.
fn assert_linked(header: &SnapshotHeader, images: &[NodeImage]) {
    let at = |slot: u32| images.iter().find(|image| image.slot == slot).expect("a link leads to a node");
    assert_eq!(images.len() as u64, header.node_count);
    let mut children = 0;
    for image in images {
        let (mut count, mut slot, mut last) = (0, image.first_child, NO_SLOT);
        while slot != NO_SLOT {
            let child = at(slot);
            assert_eq!(child.parent, image.slot);
            assert!(last == NO_SLOT || child.prev_sibling == last);
            (count, last, slot) = (count + 1, slot, child.next_sibling);
        }
        assert!(count == 0 || at(image.first_child).prev_sibling == last, "the first knows the last");
        assert_eq!(image.child_count, count);
        children += count;
    }
    assert_eq!(u64::from(children), header.node_count - 1, "every node is somebody's child");
}

fn load(header: &SnapshotHeader, images: Vec<NodeImage>, options: TreeOptions) -> Result<DataTree, LoadError> {
    DataTree::load(Box::new(MemorySnapshot::new(header.clone(), images)), options)
}

fn move_all(tree: &mut DataTree) -> Moved {
    std::iter::repeat_with(|| tree.move_some(500)).take(100_000).flatten().next().expect("an end")
}

/// The tree of a snapshot serves before, while and after it is moved, and is the model's at all times.
fn assert_restarts(header: &SnapshotHeader, images: Vec<NodeImage>, then: &Model) {
    assert_linked(header, &images);
    assert_is_model(&load(header, images.clone(), OPTIONS).expect("a whole snapshot"), then);
    let mut tree = load(header, images, OPTIONS).expect("a whole snapshot");
    assert_eq!((tree.last_processed().0, tree.is_moving()), (header.zxid, true));
    let moved = move_all(&mut tree);
    assert_eq!(moved, Moved { zxid: tree.last_processed(), nodes: header.node_count, contradiction: None });
    assert_eq!((tree.is_moving(), tree.unmoved_slots(), tree.move_some(1)), (false, 0, None));
    assert_is_model(&tree, then);
}

/// A snapshot under way and the model at its beginning.
type Running = (WalkId, SnapshotHeader, Vec<NodeImage>, Model);

/// At the same time.
const SNAPSHOTS: usize = 3;

fn snapshot_of(tree: &mut DataTree, max_bytes: usize) -> (SnapshotHeader, Vec<NodeImage>) {
    let (walk, begun) = tree.begin_snapshot();
    let images = std::iter::from_fn(|| tree.snapshot_slice(walk, max_bytes)).flat_map(|chunk| chunk.nodes).collect();
    (begun, images)
}

const OPTIONS: TreeOptions = TreeOptions { extended_types: true, emulate_353_ttl: false, hash_seed: 0 };

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_history_is_the_models_and_snapshots_are_of_their_moment(ops in ops()) {
        let mut tree = DataTree::new(OPTIONS);
        let mut model = fresh_model();
        let mut snapshots: Vec<Running> = Vec::new();
        for (zxid, op) in (1..).zip(&ops) {
            match op {
                // The caller waits with a snapshot until the tree is in memory.
                Op::Slice { .. } if tree.is_moving() => {}
                Op::Slice { max_bytes } => {
                    let which = max_bytes % SNAPSHOTS;
                    if which >= snapshots.len() {
                        let (walk, begun) = tree.begin_snapshot();
                        snapshots.push((walk, begun, vec![], model.clone()));
                    } else if let Some(slice) = tree.snapshot_slice(snapshots[which].0, *max_bytes) {
                        snapshots[which].2.extend(slice.nodes);
                    } else {
                        let (_, begun, images, then) = snapshots.remove(which);
                        prop_assert_eq!(tree.snapshot_running(), !snapshots.is_empty());
                        assert_restarts(&begun, images, &then);
                    }
                }
                Op::Restart => {
                    snapshots.drain(..).for_each(|(walk, ..)| tree.abandon_snapshot(walk));
                    while tree.is_moving() {
                        tree.move_some(1000);
                    }
                    let (begun, images) = snapshot_of(&mut tree, 300);
                    tree = load(&begun, images, OPTIONS).expect("a whole snapshot");
                }
                Op::Move { max_bytes } => {
                    let left = tree.unmoved_slots();
                    let moved = tree.move_some(*max_bytes);
                    prop_assert!(tree.unmoved_slots() <= left);
                    prop_assert_eq!(moved.and_then(|moved| moved.contradiction), None);
                }
                Op::Look { path } => assert_node(&tree, &model, path),
                transaction => {
                    step(&mut tree, &mut model, transaction, zxid);
                }
            }
            assert_sums(&tree, &model);
        }
        if tree.is_moving() {
            prop_assert_eq!(move_all(&mut tree).contradiction, None);
        }
        assert_is_model(&tree, &model);
        for (walk, begun, mut images, then) in snapshots {
            images.extend(std::iter::from_fn(|| tree.snapshot_slice(walk, 1)).flat_map(|chunk| chunk.nodes));
            prop_assert_eq!(tree.walk_backlog_bytes(walk), 0);
            assert_restarts(&begun, images, &then);
        }
        prop_assert_eq!(tree.snapshot_backlog_bytes(), 0);
    }
}
