//! Logs of Java servers, replayed into our tree: after every transaction the digest Java wrote beside it, and at the end
//! every node as the Java server had it in memory.

use std::collections::BTreeSet;
use std::path::Path;

use ringkeeper::core::SessionId;
use ringkeeper::core::tree::{DataTree, ItemOutcome, NodeId, OwnerKind, TreeOptions, Unwatched, digest};
use ringkeeper::wire::txn::{DIGEST_VERSION, Txn, decode_txn};
use serde_json::Value;

#[test]
fn a_member_of_a_3_9_3_ensemble() {
    // The digests missing are those of errors, which carry none.
    assert_eq!(replay("3.9.3-member"), Replayed { transactions: 108, digests: 105 });
}

#[test]
fn a_3_9_3_leader_cut_back_by_its_successor() {
    assert_eq!(replay("3.9.3-after-trunc"), Replayed { transactions: 108, digests: 105 });
}

#[test]
fn a_3_9_3_server_without_digests_and_lists_of_paths() {
    assert_eq!(replay("3.9.3-no-digest"), Replayed { transactions: 34, digests: 0 });
}

#[test]
fn a_3_8_0_server() {
    assert_eq!(replay("3.8.0-standalone"), Replayed { transactions: 34, digests: 34 });
}

#[derive(Debug, PartialEq)]
struct Replayed {
    transactions: usize,
    digests: usize,
}

fn replay(directory: &str) -> Replayed {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/java").join(directory);
    let expected: Value = serde_json::from_slice(&std::fs::read(directory.join("expected.json")).unwrap()).unwrap();
    let has_ttls = !expected["ttls"].as_array().unwrap().is_empty();
    let mut tree = DataTree::new(TreeOptions { extended_types: has_ttls, emulate_353_ttl: false });
    let mut done = Replayed { transactions: 0, digests: 0 };
    let mut is_reconfigured = false;
    for log in logs(&directory) {
        for record in records(&log) {
            let (header, txn, written) = decode_txn(record).unwrap();
            let applied = tree.apply(&header, &txn, &mut Unwatched);
            done.transactions += 1;
            is_reconfigured |= matches!(txn, Txn::Reconfig { .. });
            if let Some(written) = written {
                assert_eq!(written.version, DIGEST_VERSION);
                assert_eq!(tree.digest(), written.tree_digest as u64, "after {txn:?} of {:#x}", header.zxid);
                done.digests += 1;
            }
            // From the first transaction on, whatever was committed can be applied.
            let is_refused = matches!(&txn, Txn::Error { .. })
                || matches!(&txn, Txn::Multi(items) if items.iter().any(|item| matches!(item, Txn::Error { .. })));
            let is_failed = applied.items.iter().any(|item| matches!(item, ItemOutcome::Failed { .. }));
            assert_eq!(is_failed, is_refused, "{txn:?} gave {applied:?}");
        }
    }
    assert_is(&tree, &expected, is_reconfigured);
    done
}

fn logs(directory: &Path) -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let zxid =
        |file: &std::path::PathBuf| i64::from_str_radix(file.file_name()?.to_str()?.strip_prefix("log.")?, 16).ok();
    let mut logs: Vec<_> = files.filter_map(|file| Some((zxid(&file)?, file))).collect();
    logs.sort();
    logs.iter().map(|(_, file)| std::fs::read(file).unwrap()).collect()
}

/// `| checksum i64 | length i32 | transaction | 'B' |` after a file header of 16 bytes.
fn records(log: &[u8]) -> Vec<&[u8]> {
    assert!(log.starts_with(b"ZKLG"));
    let mut records = vec![];
    let mut rest = &log[16..];
    while !rest.is_empty() {
        let (head, tail) = rest.split_at(12);
        let length = u32::from_be_bytes(head[8..].try_into().unwrap()) as usize;
        assert_eq!(tail[length], b'B');
        records.push(&tail[..length]);
        rest = &tail[length + 1..];
    }
    records
}

fn assert_is(tree: &DataTree, expected: &Value, is_reconfigured: bool) {
    let long = |value: &Value| match value.as_str() {
        Some(hex) => u64::from_str_radix(hex.trim_start_matches("0x"), 16).unwrap() as i64,
        None => value.as_i64().unwrap(),
    };
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    assert_eq!(tree.last_processed().0, long(&expected["lastProcessedZxid"]) as u64);
    assert_eq!(tree.digest().to_string(), text(&expected["treeDigest"]));
    let nodes = expected["nodes"].as_array().unwrap();
    assert_eq!(tree.node_count() as usize, nodes.len());
    for node in nodes {
        let path = text(&node["path"]);
        let id = tree.find(&path).unwrap_or_else(|| panic!("{path} is missing"));
        assert_eq!(tree.path(id), path);
        assert_eq!(i64::from(tree.child_count(id)), long(&node["children"]), "{path}");
        let acl = |(perms, scheme, id)| format!("{perms} {scheme} {id}");
        let ours = tree.acl(id).iter().map(|entry| {
            acl((
                i64::from(entry.perms),
                entry.scheme.as_deref().unwrap().to_owned(),
                entry.id.as_deref().unwrap().to_owned(),
            ))
        });
        let theirs = node["acl"].as_array().unwrap().iter();
        let theirs = theirs.map(|entry| acl((long(&entry["perms"]), text(&entry["scheme"]), text(&entry["id"]))));
        assert_eq!(ours.collect::<Vec<_>>(), theirs.collect::<Vec<_>>(), "{path}");
        let (stat, is_config) = (tree.raw_stat(id), path == "/zookeeper/config");
        for (ours, field) in [
            (stat.czxid, "czxid"),
            (stat.mzxid, "mzxid"),
            (stat.pzxid, "pzxid"),
            (stat.ctime, "ctime"),
            (stat.mtime, "mtime"),
            (stat.version.into(), "version"),
            (stat.cversion.into(), "cversion_raw"),
            (stat.aversion.into(), "aversion"),
            (stat.ephemeral_owner, "ephemeralOwner_raw"),
        ] {
            // Each server installs its first configuration by itself, at a time of its own; no transaction tells.
            let is_told = !is_config || field != "mtime" && (is_reconfigured || !matches!(field, "mzxid" | "version"));
            assert!(!is_told || ours == long(&node[field]), "{path} {field}: {ours} and {}", node[field]);
        }
        let is_data_told = !path.ends_with("/zookeeper_stats") && (is_reconfigured || !is_config);
        let hex = tree.data(id).map(|data| data.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        assert!(
            !is_data_told || hex.as_deref() == node["data_hex"].as_str(),
            "{path}: {hex:?} and {}",
            node["data_hex"]
        );
        assert_eq!(digest::content_crc(&path, tree.data(id)), tree.content_crc(id));
    }
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
