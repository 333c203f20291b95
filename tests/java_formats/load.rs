//! Whole directories as their servers left them: the tree, the sessions and the epochs that Java itself found in them.

use ringkeeper::java::Loaded;
use ringkeeper_storage::Zxid;
use ringkeeper_storage::java::Epochs;

use crate::expected::{self, Field};
use crate::sample::Sample;

fn assert_loaded(loaded: &Loaded, expected: &str) {
    let expected = expected::read(&expected::data(expected));
    expected::assert_tree(&loaded.tree, &expected, |_, _| true);
    assert_eq!(loaded.sessions, expected::sessions(&expected));
    assert_eq!(loaded.report.last.0, expected::long(&expected["lastProcessedZxid"]) as u64);
    assert_eq!(loaded.report.mismatches, []);
}

/// From the newest snapshot, and from each older one, to the same state.
fn assert_directory(name: &str, snapshots: usize, records: u64, has_digests: bool) -> Loaded {
    let sample = Sample::new(name);
    let expected = format!("{name}/expected.json");
    let loaded = sample.load();
    assert_loaded(&loaded, &expected);
    assert_eq!((loaded.report.records, &loaded.report.notes), (records, &vec![]));
    assert_eq!(loaded.report.digest_verified_at.is_some(), has_digests);
    let found: Vec<_> = sample.directory().snapshots().iter().map(|file| file.zxid).collect();
    assert_eq!(found.len(), snapshots);
    for zxid in found {
        let loaded = sample.load_from(zxid);
        assert_loaded_from(&loaded, &expected, zxid);
        assert_eq!(loaded.report.digest_verified_at.is_some(), has_digests, "from {zxid}");
    }
    loaded
}

fn assert_loaded_from(loaded: &Loaded, expected: &str, zxid: Zxid) {
    assert_eq!(loaded.report.snapshot, zxid);
    let expected = expected::read(&expected::data(expected));
    expected::assert_tree(&loaded.tree, &expected, |path, field| {
        // A server writes its configuration into the tree at each start, without a transaction.
        let is_told = zxid != Zxid::ZERO && field != Field::Mtime;
        is_told || path != "/zookeeper/config"
    });
    assert_eq!(loaded.sessions, expected::sessions(&expected));
    assert_eq!(loaded.report.mismatches, []);
}

#[test]
fn a_member_of_a_3_9_3_ensemble() {
    let loaded = assert_directory("3.9.3-member", 3, 32, true);
    assert_eq!(loaded.epochs, Epochs { current: 2, accepted: 2, stored: true });
}

#[test]
fn a_3_9_3_leader_cut_back_by_its_successor() {
    let loaded = assert_directory("3.9.3-after-trunc", 5, 0, true);
    // An epoch without transactions so far.
    assert_eq!(loaded.epochs, Epochs { current: 2, accepted: 2, stored: true });
}

#[test]
fn a_3_9_3_server_without_digests_and_lists_of_paths() {
    let loaded = assert_directory("3.9.3-no-digest", 3, 3, false);
    assert_eq!(loaded.epochs, Epochs { current: 0, accepted: 0, stored: false });
}

#[test]
fn a_3_8_0_server() {
    assert_directory("3.8.0-standalone", 3, 2, true);
}

/// The log below the snapshot holds transactions that were never committed (quorum protocol 20.1).
#[test]
fn a_log_from_before_a_snapshot_that_came_from_the_leader_is_not_history() {
    let sample = Sample::new("3.9.3-stale-log-below-snapshot");
    let loaded = sample.load();
    assert_loaded(&loaded, "3.9.3-stale-log-below-snapshot/expected.json");
    assert!(["/lost0", "/lost1"].iter().all(|path| loaded.tree.find(path).is_none()));
    assert_eq!((loaded.report.records, loaded.report.last), (0, Zxid(0x3_0000_0003)));
    // Should the good snapshot be lost, the dead branch must not become the state.
    sample.change("snapshot.300000003", |bytes| bytes[500] ^= 1);
    let why = sample.refusal();
    assert!(why.contains("0x300000003 are needed") && why.contains("snapshot.300000003 is damaged"), "{why}");
}

#[test]
fn packed_snapshots_hold_what_the_plain_one_holds() {
    for packing in ["", ".gz", ".snappy"] {
        let sample = Sample::new("3.9.3-packed");
        for other in ["", ".gz", ".snappy"].iter().filter(|other| **other != packing) {
            sample.remove(&format!("snapshot.10000006c{other}"));
        }
        let loaded = sample.load();
        assert_loaded(&loaded, "3.9.3-packed/expected.json");
        assert_eq!(loaded.report.digest_verified_at, Some(Zxid(0x1_0000_006c)));
    }
}

#[test]
fn padding_may_be_missing() {
    let sample = Sample::new("3.9.3-member");
    let logs: Vec<_> = sample.directory().logs().iter().map(|log| log.path.clone()).collect();
    for log in logs {
        let name = log.file_name().unwrap().to_str().unwrap();
        let end = *sample.records(name).last().unwrap();
        sample.change(name, |bytes| bytes.truncate(end));
    }
    assert_loaded(&sample.load(), "3.9.3-member/expected.json");
}
