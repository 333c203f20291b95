//! `rk snapshot`.

use std::fs;
use std::path::{Path, PathBuf};

use ringkeeper::wire::txn::CreateKind;
use serde_json::{Value, json};

use super::fixture::{Server, create, damage, files, lived_in};
use super::{of_kind, rk, rk_json};
use crate::console::Verdict;

fn java(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/java").join(name)
}

fn newest(directory: &Path) -> PathBuf {
    files(directory, "snapshot-").pop().unwrap()
}

/// `rk snapshot diff left right`.
fn diff(words: &[&str], left: &Path, right: &Path) -> (Verdict, Vec<Value>) {
    let words: Vec<_> = ["snapshot", "diff"].iter().chain(words).copied().chain([left.to_str().unwrap()]).collect();
    rk_json(&words, right)
}

#[test]
fn a_snapshot_is_summed_up() {
    let directory = tempfile::tempdir().unwrap();
    let server = lived_in(directory.path());
    let (verdict, all) = rk_json(&["snapshot", "inspect", "--top", "2"], &newest(directory.path()));
    assert_eq!(verdict, Verdict::Fine, "{all:?}");
    let facts = &all[0];
    assert_eq!(
        (&facts["format"], &facts["zxid"], &facts["sessions"]),
        (&json!("ringkeeper"), &json!("0x12"), &json!(1))
    );
    let app = of_kind(&all, "subtree").into_iter().find(|subtree| subtree["path"] == "/app").unwrap();
    assert_eq!((&app["nodes"], &app["bytes"]), (&json!(14), &json!(10 + 10 * 100 + 7 + 1)));
    let summary = of_kind(&all, "summary")[0];
    assert_eq!((&summary["ephemerals"], &summary["containers"]), (&json!(1), &json!(1)));
    assert_eq!(summary["nodes"], facts["nodes"]);
    assert_eq!(summary["largest"][0]["bytes"], 100);
    assert_eq!(summary["widest"][0], json!({"path": "/app", "children": 13}));
    assert_eq!(summary["sessions"], json!([{"session": "0x100000000", "timeout_ms": 10000, "ephemerals": 1}]));
    drop(server);
}

#[test]
fn nodes_are_shown_with_all_they_have() {
    let directory = tempfile::tempdir().unwrap();
    lived_in(directory.path());
    let snapshot = newest(directory.path());
    let (_, all) = rk_json(&["snapshot", "inspect", "--path", "/app", "--depth", "1", "--data"], &snapshot);
    assert_eq!(all.len(), 14, "{all:?}");
    assert_eq!((&all[0]["path"], &all[0]["data"]), (&json!("/app"), &json!("\"root of it\"")));
    let changed = all.iter().find(|node| node["path"] == "/app/n03").unwrap();
    assert_eq!((&changed["data"], &changed["version"]), (&json!("\"changed\""), &json!(1)));
    assert_eq!((&changed["mzxid"], &changed["acl"]), (&json!("0xf"), &json!("world:anyone:cdrwa")));
    let ephemeral = all.iter().find(|node| node["path"] == "/app/ephemeral").unwrap();
    assert_eq!(ephemeral["ephemeral_owner"], "0x100000000");
    let refused = rk(&["snapshot", "inspect", "--path", "/nowhere"], &snapshot).unwrap_err().to_string();
    assert!(refused.starts_with("/nowhere: no such node in snapshot-"), "{refused}");
}

#[test]
fn whole_snapshots_verify_in_both_formats() {
    let directory = tempfile::tempdir().unwrap();
    lived_in(directory.path());
    for snapshot in files(directory.path(), "snapshot-") {
        let (verdict, all) = rk_json(&["snapshot", "verify"], &snapshot);
        assert_eq!(verdict, Verdict::Fine, "{all:?}");
        assert_eq!(all[0]["digest"], all[0]["computed_digest"]);
    }
    let copy = directory.path().join("copy");
    fs::copy(newest(directory.path()), &copy).unwrap();
    assert_eq!(rk(&["snapshot", "verify"], &copy).unwrap().0, Verdict::Fine, "whatever a copy is called");
    for packed in ["snapshot.10000006c", "snapshot.10000006c.gz", "snapshot.10000006c.snappy"] {
        let (verdict, all) = rk_json(&["snapshot", "verify"], &java("3.9.3-packed").join(packed));
        assert_eq!(verdict, Verdict::Fine, "{all:?}");
        assert_eq!((&all[0]["nodes"], &all[0]["computed_digest"]), (&json!(51), &json!("0x148a3a47f7")));
    }
}

/// A tree large enough for several chunks.
fn larger(directory: &Path) -> PathBuf {
    let mut server = Server::fresh(directory);
    for number in 0..300 {
        let path = format!("/n{number:03}");
        server.append(&create(&path, &[number as u8; 50], CreateKind::Persistent));
        server.append(&create(&format!("{path}/below"), b"x", CreateKind::Persistent));
    }
    server.drain();
    server.snapshot();
    newest(directory)
}

#[test]
fn one_damaged_chunk_hides_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let snapshot = larger(directory.path());
    let (_, all) = rk_json(&["snapshot", "inspect"], &snapshot);
    assert!(all[0]["chunks"].as_u64().unwrap() > 5, "{}", all[0]);
    let nodes = all[0]["nodes"].as_u64().unwrap();

    damage(&snapshot, |bytes| bytes[3 * 4096 + 200] ^= 1);
    let (verdict, all) = rk_json(&["snapshot", "verify"], &snapshot);
    assert_eq!(verdict, Verdict::Found);
    let damages: Vec<_> = of_kind(&all, "damage").iter().map(|damage| damage["why"].as_str().unwrap()).collect();
    assert!(damages[0].contains("checksum mismatch") && damages[0].starts_with("chunk "), "{damages:?}");
    assert!(damages.iter().any(|why| why.contains("nodes, and")), "{damages:?}");
    let found = of_kind(&all, "snapshot")[0]["nodes"].as_u64().unwrap();
    assert!(found > nodes / 2 && found < nodes, "{found} of {nodes}: the links back lead round the hole");

    let (verdict, all) = rk_json(&["snapshot", "inspect", "--nodes"], &snapshot);
    assert_eq!((verdict, of_kind(&all, "node").len() as u64), (Verdict::Found, found));
}

#[test]
fn a_snapshot_without_its_end_is_searched() {
    let directory = tempfile::tempdir().unwrap();
    let snapshot = larger(directory.path());
    damage(&snapshot, |bytes| bytes.truncate(bytes.len() - 4096));
    let (verdict, all) = rk_json(&["snapshot", "verify"], &snapshot);
    assert_eq!(verdict, Verdict::Found);
    let damages: Vec<_> = of_kind(&all, "damage").iter().map(|damage| damage["why"].as_str().unwrap()).collect();
    assert!(damages[0].contains("no footer at the end"), "{damages:?}");
    assert!(damages[1].ends_with("whole chunks with 604 nodes are there"), "{damages:?}");

    damage(&snapshot, |bytes| bytes.truncate(100));
    assert_eq!(rk(&["snapshot", "verify"], &snapshot).unwrap().0, Verdict::Found);
    fs::write(directory.path().join("other"), [0; 10]).unwrap();
    let refused = rk(&["snapshot", "verify"], &directory.path().join("other")).unwrap_err().to_string();
    assert!(refused.ends_with("other: not a snapshot"), "{refused}");
}

#[test]
fn a_broken_stream_of_java_is_shown_as_far_as_it_goes() {
    let directory = tempfile::tempdir().unwrap();
    let snapshot = directory.path().join("snapshot.10000006c");
    fs::copy(java("3.9.3-packed/snapshot.10000006c"), &snapshot).unwrap();
    damage(&snapshot, |bytes| bytes[1500] ^= 1);
    let (verdict, all) = rk_json(&["snapshot", "verify"], &snapshot);
    assert_eq!(verdict, Verdict::Found);
    assert!(of_kind(&all, "damage")[0]["why"].as_str().unwrap().starts_with("checksum mismatch, at byte "), "{all:?}");
    damage(&snapshot, |bytes| bytes.truncate(2000));
    let (verdict, all) = rk_json(&["snapshot", "inspect", "--nodes"], &snapshot);
    assert_eq!(verdict, Verdict::Found);
    let nodes = of_kind(&all, "node").len();
    assert!(nodes > 5 && nodes < 51, "{nodes}");
    let why = of_kind(&all, "damage")[0]["why"].as_str().unwrap();
    assert!(why.contains("the file ends early") && why.contains("nodes lie before that"), "{why}");
}

#[test]
fn a_diff_names_what_was_added_removed_and_changed() {
    let directory = tempfile::tempdir().unwrap();
    lived_in(directory.path());
    let [old, new] = files(directory.path(), "snapshot-").try_into().unwrap();
    assert_eq!(diff(&[], &old, &old).0, Verdict::Fine);
    let (verdict, all) = diff(&[], &old, &new);
    assert_eq!(verdict, Verdict::Found);
    let paths = |item| of_kind(&all, item).iter().map(|value| value["path"].clone()).collect::<Vec<_>>();
    assert_eq!(paths("added"), ["/app/ephemeral", "/app/from-multi"]);
    assert_eq!(paths("removed"), ["/app/n00"]);
    assert_eq!(paths("changed"), ["/app", "/app/n03"]);
    let fields = &of_kind(&all, "changed")[1]["fields"];
    assert_eq!(fields["version"], json!(["0", "1"]));
    assert_eq!(fields["data"][1], "\"changed\"");
    assert!(fields["czxid"].is_null(), "{fields}");
    let summary = of_kind(&all, "summary")[0];
    assert_eq!((&summary["zxids"], &summary["same_zxid_other_digest"]), (&json!(["0xe", "0x12"]), &json!(false)));

    let (verdict, all) = diff(&["--threshold-bytes", "80"], &old, &new);
    assert_eq!((verdict, of_kind(&all, "changed").len()), (Verdict::Found, 0));
    let subtrees: Vec<_> = of_kind(&all, "subtree").iter().map(|value| value["path"].clone()).collect();
    assert_eq!(subtrees, ["/app/n00", "/app/n03", "/app", "/"]);
}

#[test]
fn two_states_of_one_transaction_are_an_alarm() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (directory, data) in [(&one, b"a"), (&other, b"b")] {
        let mut server = Server::fresh(directory.path());
        server.commit(&create("/x", data, CreateKind::Persistent));
        server.snapshot();
    }
    let (verdict, all) = diff(&[], &newest(one.path()), &newest(other.path()));
    let summary = of_kind(&all, "summary")[0];
    assert_eq!((verdict, &summary["same_zxid_other_digest"]), (Verdict::Found, &json!(true)), "{summary}");
}

#[test]
fn snapshots_of_both_formats_can_be_compared() {
    let directory = tempfile::tempdir().unwrap();
    lived_in(directory.path());
    let (verdict, all) =
        diff(&["--path", "/zookeeper"], &newest(directory.path()), &java("3.9.3-no-digest/snapshot.0"));
    // Both have /zookeeper, config and quota, fresh; Java's standalone server keeps its config node empty too.
    assert_eq!(verdict, Verdict::Fine, "{all:?}");
    assert_eq!(of_kind(&all, "summary")[0]["compared"], 3);
}
