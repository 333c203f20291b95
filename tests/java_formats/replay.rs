//! Logs of Java servers, replayed into our tree: after every transaction the digest Java wrote beside it, and at the end
//! every node as the Java server had it in memory.

use std::path::Path;

use ringkeeper::core::tree::{DataTree, ItemOutcome, TreeOptions, Unwatched};
use ringkeeper::wire::txn::{DIGEST_VERSION, Txn, decode_txn};

use crate::expected::{self, Field};

/// ZOOKEEPER-3127 (20.21).
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
    let directory = expected::data(directory);
    let expected = expected::read(&directory.join("expected.json"));
    let has_ttls = !expected["ttls"].as_array().unwrap().is_empty();
    let mut tree = DataTree::new(TreeOptions { extended_types: has_ttls, emulate_353_ttl: false, hash_seed: 0 });
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
    // Each server installs its first configuration by itself, at a time of its own; no transaction tells.
    expected::assert_tree(&tree, &expected, |path, field| match (path, field) {
        ("/zookeeper/config", Field::Mtime) => false,
        ("/zookeeper/config", Field::Mzxid | Field::Version | Field::Data) => is_reconfigured,
        _ => true,
    });
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
