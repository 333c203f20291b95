//! `rk verify-dir`.

use std::fs;
use std::path::Path;

use ringkeeper_storage::DIRECTORY;
use ringkeeper_storage::backend::lock::DirectoryLock;
use serde_json::{Value, json};

use super::fixture::{damage, files, lived_in};
use super::{of_kind, rk, rk_json};
use crate::console::Verdict;

fn decision(all: &[Value]) -> &Value {
    of_kind(all, "decision")[0]
}

#[test]
fn a_start_is_foretold() {
    let directory = tempfile::tempdir().unwrap();
    lived_in(directory.path());
    for path in [directory.path().to_owned(), directory.path().join(DIRECTORY)] {
        let (verdict, all) = rk_json(&["verify-dir"], &path);
        assert_eq!(verdict, Verdict::Fine, "{all:?}");
        let decision = decision(&all);
        assert_eq!((&decision["by"], &decision["last_zxid"]), (&json!("start"), &json!("0x1f")));
        assert_eq!((&decision["snapshot"]["zxid"], &decision["log"]["records"]), (&json!("0x12"), &json!(13)));
        assert_eq!(decision["snapshot"]["sessions"], 1);
        assert_eq!(decision["log"]["to"]["file"], "log-0000000000000002.seg");
        assert_eq!(of_kind(&all, "directory")[0]["held_by"], Value::Null);
    }
}

#[test]
fn a_server_that_runs_is_named() {
    let directory = tempfile::tempdir().unwrap();
    lived_in(directory.path());
    let _held = DirectoryLock::acquire(&directory.path().join(DIRECTORY)).unwrap();
    let (verdict, all) = rk_json(&["verify-dir"], directory.path());
    assert_eq!(verdict, Verdict::Fine);
    assert_eq!(of_kind(&all, "directory")[0]["held_by"], std::process::id().to_string());
}

#[test]
fn what_a_start_refuses_is_told_in_its_words() {
    let directory = tempfile::tempdir().unwrap();
    lived_in(directory.path());
    let snapshots = files(directory.path(), "snapshot-");
    damage(&snapshots[1], |bytes| bytes[100] ^= 1);
    let (verdict, text) = rk(&["verify-dir"], directory.path()).unwrap();
    assert_eq!(verdict, Verdict::Found);
    assert!(text.contains("start: would take snapshot 0xe"), "{text}");
    assert!(text.contains("; using snapshot 0xe, and the log from there on holds everything"), "{text}");

    fs::remove_file(&files(directory.path(), "log-")[0]).unwrap();
    let (verdict, all) = rk_json(&["verify-dir"], directory.path());
    assert_eq!(verdict, Verdict::Found);
    let why = decision(&all)["refuses"].as_str().unwrap();
    assert!(why.starts_with("no snapshot can be read and the log does not reach back"), "{why}");
}

#[test]
fn a_java_directory_is_judged_as_an_import_would() {
    let directory = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/java/3.9.3-member");
    let inner = directory.path().join("version-2");
    fs::create_dir(&inner).unwrap();
    for entry in fs::read_dir(&source).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, inner.join(path.file_name().unwrap())).unwrap();
    }
    let (verdict, all) = rk_json(&["verify-dir"], directory.path());
    assert_eq!(verdict, Verdict::Fine, "{all:?}");
    let said = decision(&all);
    assert_eq!((&said["by"], &said["last_zxid"]), (&json!("import"), &json!("0x10000006c")));
    assert_eq!(said["notes"], json!(["the digest of transaction 0x10000006c agrees with the tree"]));

    fs::remove_file(inner.join("log.10000004e")).unwrap();
    let (verdict, all) = rk_json(&["verify-dir"], directory.path());
    assert_eq!(verdict, Verdict::Found);
    assert!(decision(&all)["refuses"].as_str().unwrap().contains("is missing"), "{all:?}");
}

#[test]
fn a_directory_without_data_is_a_wrong_path() {
    let directory = tempfile::tempdir().unwrap();
    let refused = rk(&["verify-dir"], directory.path()).unwrap_err().to_string();
    assert!(refused.ends_with("neither ringkeeper-1 nor version-2 is in it"), "{refused}");
}
