//! Any history of transactions, with snapshots and loads in between, against a model that is too simple to be wrong: a
//! map from path to stat and data, as semantics 3 words it.

use std::collections::BTreeMap;

use proptest::prelude::*;
use ringkeeper_storage::{NodeImage, SnapshotHeader};

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
    Reload,
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
        1 => Just(Op::Reload),
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
    let node = |perms| ModelNode { stat: RawStat::default(), data: Some(vec![]), perms };
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
            let is_ephemeral = |model: &Model, path: &str| {
                tree.find(path).is_some_and(|id| tree.owner_kind(id) == OwnerKind::Ephemeral)
                    && model.contains_key(path)
            };
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
            model.insert(path.clone(), ModelNode { stat, data: data.clone(), perms: *perms });
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
        Op::Slice { .. } | Op::Reload => unreachable!("not a transaction"),
    }
    true
}

fn assert_is_model(tree: &DataTree, model: &Model) {
    let as_model = |path: &String| {
        let id = tree.find(path)?;
        let perms = match tree.acl(id) {
            [acl] if acl.scheme.as_deref() == Some("digest") => acl.perms,
            [acl] if acl.perms == 1 => -1,
            _ => 0,
        };
        Some(ModelNode { stat: tree.raw_stat(id), data: tree.data(id).map(<[u8]>::to_vec), perms })
    };
    for (path, node) in model {
        assert_eq!(as_model(path).as_ref(), Some(node), "{path}");
        let id = tree.find(path).expect("looked up above");
        let mut children: Vec<_> = tree.children(id).map(|id| tree.path(id)).collect();
        let by_czxid = children.clone();
        children.sort();
        assert_eq!(children, children_of(model, path).cloned().collect::<Vec<_>>());
        assert!(by_czxid.is_sorted_by_key(|path| model[path].stat.czxid), "{by_czxid:?}");
    }
    let owners = model.values().map(|node| node.stat.ephemeral_owner);
    let ephemerals = owners.filter(|owner| *owner != 0 && *owner != CONTAINER_OWNER && *owner > 0).count();
    let bytes: usize = model.iter().map(|(path, node)| path.len() + node.data.as_ref().map_or(0, Vec::len)).sum();
    assert_eq!(tree.ephemerals_count() as usize, ephemerals);
    assert_eq!(tree.approximate_data_size() as usize, bytes);
    assert_eq!(tree.node_count() as usize, model.len());
    assert_eq!(tree.digest(), recomputed_digest(tree));
    let lists =
        model.values().map(|node| node.perms).filter(|perms| *perms != 0).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(tree.acls().len(), lists.len());
}

fn load(header: &SnapshotHeader, images: Vec<NodeImage>, options: TreeOptions) -> Result<DataTree, LoadError> {
    let mut loader = TreeLoader::new(header, options)?;
    for image in images {
        loader.add(image)?;
    }
    loader.finish()
}

const OPTIONS: TreeOptions = TreeOptions { extended_types: true, emulate_353_ttl: false };

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_history_is_the_models_and_snapshots_are_of_their_moment(ops in ops()) {
        let mut tree = DataTree::new(OPTIONS);
        let mut model = fresh_model();
        let mut snapshot: Option<(SnapshotHeader, Vec<NodeImage>, Model)> = None;
        for (zxid, op) in (1..).zip(&ops) {
            match op {
                Op::Slice { max_bytes } => {
                    let (begun, mut images, then) = snapshot
                        .take()
                        .unwrap_or_else(|| (tree.begin_snapshot(), vec![], model.clone()));
                    match tree.snapshot_slice(*max_bytes) {
                        Some(slice) => {
                            images.extend(slice.nodes);
                            snapshot = Some((begun, images, then));
                        }
                        None => {
                            prop_assert!(!tree.snapshot_running());
                            let loaded = load(&begun, images, OPTIONS).expect("a whole snapshot");
                            prop_assert_eq!(loaded.last_processed().0, begun.zxid);
                            assert_is_model(&loaded, &then);
                        }
                    }
                }
                Op::Reload => {
                    tree.abandon_snapshot();
                    snapshot = None;
                    let begun = tree.begin_snapshot();
                    let slices: Vec<_> = std::iter::from_fn(|| tree.snapshot_slice(300)).collect();
                    let images = slices.into_iter().rev().flat_map(|chunk| chunk.nodes).collect();
                    tree = load(&begun, images, OPTIONS).expect("a whole snapshot");
                    assert_is_model(&tree, &model);
                }
                transaction => {
                    step(&mut tree, &mut model, transaction, zxid);
                }
            }
        }
        assert_is_model(&tree, &model);
        if let Some((begun, mut images, then)) = snapshot {
            images.extend(std::iter::from_fn(|| tree.snapshot_slice(1)).flat_map(|chunk| chunk.nodes));
            prop_assert_eq!(tree.snapshot_backlog_bytes(), 0);
            assert_is_model(&load(&begun, images, OPTIONS).expect("a whole snapshot"), &then);
        }
    }

    /// Whatever a damaged snapshot says: an error or a tree, never a panic.
    #[test]
    fn damaged_images_are_refused(damage in prop::collection::vec((0usize..8, 0u8..6, 0u32..12), 1..4)) {
        let (begun, mut images) = small_snapshot();
        let whole = images.clone();
        for (at, what, value) in damage {
            let at = at % images.len();
            match what {
                0 => images[at].slot = value,
                1 => images[at].parent = value,
                2 => images[at].name = ["", "a", "b", "x/y", "zookeeper"][value as usize % 5].to_owned(),
                3 => images[at].acl = value,
                4 => images[at].data = None,
                _ if images.len() > 1 => drop(images.remove(at)),
                _ => {}
            }
        }
        let loaded = load(&begun, images.clone(), OPTIONS);
        let harmless = |(a, b): (&NodeImage, &NodeImage)| NodeImage { acl: 0, data: None, ..a.clone() } == NodeImage { acl: 0, data: None, ..b.clone() };
        if images.len() == whole.len() && images.iter().zip(&whole).all(harmless) {
            return Ok(());
        }
        // Below /zookeeper the digest does not look; everything else is noticed.
        if let Ok(tree) = loaded {
            prop_assert_eq!(tree.digest(), begun.tree_digest);
            prop_assert_eq!(tree.digest(), recomputed_digest(&tree));
        }
    }
}

/// `/a`, `/a/b` and the nodes of a fresh tree.
fn small_snapshot() -> (SnapshotHeader, Vec<NodeImage>) {
    let mut tree = DataTree::new(OPTIONS);
    for (zxid, path) in [(1, "/a"), (2, "/a/b")] {
        tree.apply(&header(zxid), &super::tests::create(path, CreateKind::Persistent, -1), &mut Unwatched);
    }
    let begun = tree.begin_snapshot();
    let images = std::iter::from_fn(|| tree.snapshot_slice(usize::MAX)).flat_map(|chunk| chunk.nodes).collect();
    (begun, images)
}

#[test]
fn each_kind_of_damage_has_its_name() {
    type Damage = fn(&mut SnapshotHeader, &mut Vec<NodeImage>);
    let slot_of = |images: &[NodeImage], name: &str| images.iter().position(|image| image.name == name).unwrap();
    let (_, images) = small_snapshot();
    let (a, b) = (slot_of(&images, "a") as u32, slot_of(&images, "b") as u32);
    assert_eq!((a, b), (4, 5));
    let cases: [(Damage, LoadError); 12] = [
        (|_, images| images[5].slot = 6, LoadError::SlotOutOfRange { slot: 6, slot_count: 6 }),
        (|_, images| images[5].slot = 3, LoadError::SlotTwice { slot: 3 }),
        (|_, images| images.push(images[5].clone()), LoadError::TooManyNodes { expected: 6 }),
        (|_, images| drop(images.pop()), LoadError::NodeCount { found: 5, expected: 6 }),
        (
            |header, images| {
                images.remove(0);
                header.node_count = 5;
            },
            LoadError::NoRoot,
        ),
        (
            |header, images| {
                images.remove(4);
                header.node_count = 5;
            },
            LoadError::NoParent { slot: 5, parent: 4 },
        ),
        (|_, images| images[5].name = "x/y".into(), LoadError::BadName { slot: 5, parent: 4, name: "x/y".into() }),
        (|_, images| images[5].parent = 5, LoadError::BadName { slot: 5, parent: 5, name: "b".into() }),
        (
            |_, images| (images[5].name, images[5].parent) = ("a".into(), 0),
            LoadError::NameTwice { slot: 5, parent: 0, name: "a".into() },
        ),
        (|_, images| images[4].parent = 5, LoadError::Unreachable { count: 2 }),
        (|_, images| images[4].acl = 9, LoadError::NoAcl { slot: 4, acl: 9 }),
        (|header, _| header.acls.push(header.acls[0].clone()), LoadError::BadAclNumber { acl: 0 }),
    ];
    for (damage, expected) in cases {
        let (mut header, mut images) = small_snapshot();
        damage(&mut header, &mut images);
        assert_eq!(load(&header, images, OPTIONS).err(), Some(expected));
    }
    let (mut header, mut images) = small_snapshot();
    images[5].mtime += 1;
    let found = load(&header, images, OPTIONS).err();
    assert!(matches!(found, Some(LoadError::Digest { expected, .. }) if expected == header.tree_digest));
    // The open list's number cannot be given to another list.
    header.acls[0].number = u32::MAX;
    assert_eq!(load(&header, vec![], OPTIONS).err(), Some(LoadError::BadAclNumber { acl: u32::MAX }));
}

#[test]
fn a_snapshot_without_a_config_node_gets_one() {
    let (mut header, mut images) = small_snapshot();
    images.retain(|image| image.name != "config");
    header.node_count -= 1;
    let tree = load(&header, images, OPTIONS).expect("a whole snapshot");
    let config = tree.find("/zookeeper/config").expect("added");
    assert_eq!((tree.raw_stat(config).aversion, tree.acl(config)[0].perms), (-1, 1));
    assert_eq!(tree.digest(), header.tree_digest);
}
