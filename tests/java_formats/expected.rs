//! What a Java server had in memory after loading a directory, and whether a tree of ours is that.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ringkeeper::core::SessionId;
use ringkeeper::core::tree::{DataTree, NodeId, OwnerKind, digest};
use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Czxid,
    Mzxid,
    Pzxid,
    Ctime,
    Mtime,
    Version,
    Cversion,
    Aversion,
    Owner,
    Data,
}

pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/java").join(name)
}

pub fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

pub fn long(value: &Value) -> i64 {
    match value.as_str() {
        Some(hex) => u64::from_str_radix(hex.trim_start_matches("0x"), 16).unwrap() as i64,
        None => value.as_i64().unwrap(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Sessions and their timeouts.
pub fn sessions(expected: &Value) -> Vec<(SessionId, i32)> {
    let of =
        |(id, timeout): (&String, &Value)| (SessionId(long(&id.as_str().into())), timeout.as_i64().unwrap() as i32);
    let mut sessions: Vec<_> = expected["sessions"].as_object().unwrap().iter().map(of).collect();
    sessions.sort_unstable();
    sessions
}

/// Every node with every field that `is_told` of it, the digest, and who owns what. Java works the data of the nodes named
/// `zookeeper_stats` out anew at every start.
pub fn assert_tree(tree: &DataTree, expected: &Value, is_told: impl Fn(&str, Field) -> bool) {
    assert_eq!(tree.last_processed().0, long(&expected["lastProcessedZxid"]) as u64);
    assert_eq!(tree.digest().to_string(), text(&expected["treeDigest"]));
    let nodes = expected["nodes"].as_array().unwrap();
    assert_eq!(tree.node_count() as usize, nodes.len());
    for node in nodes {
        assert_node(tree, node, &is_told);
    }
    assert_owners(tree, expected);
}

fn assert_node(tree: &DataTree, node: &Value, is_told: &impl Fn(&str, Field) -> bool) {
    let path = text(&node["path"]);
    let id = tree.find(&path).unwrap_or_else(|| panic!("{path} is missing"));
    assert_eq!(tree.path(id), path);
    assert_eq!(i64::from(tree.child_count(id)), long(&node["children"]), "{path}");
    let acl = |(perms, scheme, id)| format!("{perms} {scheme} {id}");
    let ours = tree.acl(id).iter().map(|entry| {
        let text = |text: &Option<_>| text.as_deref().map(str::to_owned).unwrap();
        acl((i64::from(entry.perms), text(&entry.scheme), text(&entry.id)))
    });
    let theirs = node["acl"].as_array().unwrap().iter();
    let theirs = theirs.map(|entry| acl((long(&entry["perms"]), text(&entry["scheme"]), text(&entry["id"]))));
    assert_eq!(ours.collect::<Vec<_>>(), theirs.collect::<Vec<_>>(), "{path}");
    let stat = tree.raw_stat(id);
    for (ours, name, field) in [
        (stat.czxid, "czxid", Field::Czxid),
        (stat.mzxid, "mzxid", Field::Mzxid),
        (stat.pzxid, "pzxid", Field::Pzxid),
        (stat.ctime, "ctime", Field::Ctime),
        (stat.mtime, "mtime", Field::Mtime),
        (stat.version.into(), "version", Field::Version),
        (stat.cversion.into(), "cversion_raw", Field::Cversion),
        (stat.aversion.into(), "aversion", Field::Aversion),
        (stat.ephemeral_owner, "ephemeralOwner_raw", Field::Owner),
    ] {
        assert!(!is_told(&path, field) || ours == long(&node[name]), "{path} {name}: {ours} and {}", node[name]);
    }
    let hex = tree.data(id).map(|data| data.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    let is_data_told = !path.ends_with("/zookeeper_stats") && is_told(&path, Field::Data);
    let theirs = node["data_hex"].as_str();
    assert!(!is_data_told || hex.as_deref() == theirs, "{path}: {hex:?} and {theirs:?}");
    assert_eq!(digest::content_crc(&path, tree.data(id)), tree.content_crc(id));
}

fn assert_owners(tree: &DataTree, expected: &Value) {
    let paths_of = |list: &Value| list.as_array().unwrap().iter().map(text).collect::<BTreeSet<_>>();
    let sessions = expected["ephemerals"].as_object().unwrap();
    assert_eq!(tree.ephemeral_owners().count(), sessions.len());
    for (session, theirs) in sessions {
        let session = SessionId(long(&Value::from(session.as_str())));
        let ours: BTreeSet<_> = tree.ephemerals(session).map(|id| tree.path(id)).collect();
        assert_eq!(ours, paths_of(theirs));
    }
    let mut containers = BTreeSet::new();
    let mut ttls = BTreeSet::new();
    let mut to_visit = vec![NodeId::ROOT];
    while let Some(id) = to_visit.pop() {
        to_visit.extend(tree.children(id));
        match tree.owner_kind(id) {
            OwnerKind::Container => drop(containers.insert(tree.path(id))),
            OwnerKind::Ttl { .. } => drop(ttls.insert(tree.path(id))),
            OwnerKind::Persistent | OwnerKind::Ephemeral => {}
        }
    }
    assert_eq!((containers, ttls), (paths_of(&expected["containers"]), paths_of(&expected["ttls"])));
}
