//! `rk verify-dir`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use ringkeeper_storage::backend::lock::DirectoryLock;
use ringkeeper_storage::{DIRECTORY, Epochs, StoreConfig, open};
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
    assert!(why.starts_with("no snapshot is usable with the log that is here"), "{why}");
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

#[test]
fn java_data_that_a_start_would_not_pass_over_is_told_of() {
    let directory = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/java/3.8.0-standalone");
    let inner = directory.path().join("version-2");
    fs::create_dir(&inner).unwrap();
    for entry in fs::read_dir(&source).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, inner.join(path.file_name().unwrap())).unwrap();
    }
    fs::create_dir(directory.path().join(DIRECTORY)).unwrap();
    let (verdict, all) = rk_json(&["verify-dir"], directory.path());
    assert_eq!(
        (verdict, &decision(&all)["notes"]),
        (Verdict::Fine, &json!(["would import version-2 first"])),
        "{all:?}"
    );

    lived_in(directory.path());
    let (verdict, all) = rk_json(&["verify-dir"], directory.path());
    assert_eq!(verdict, Verdict::Found);
    let why = decision(&all)["refuses"].as_str().unwrap();
    assert!(why.contains("a Java server has written here since its data became ours"), "{why}");
}

#[test]
fn a_truncation_that_was_cut_short_is_told_of_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    lived_in(directory.path());
    let logs = files(directory.path(), "log-");
    fs::copy(&logs[1], logs[1].with_file_name("log-0000000000000002.cut-000000000000001f")).unwrap();
    let (verdict, all) = rk_json(&["verify-dir"], directory.path());
    let note = decision(&all)["notes"][0].as_str().unwrap();
    assert!(note.starts_with("a truncation was decided and not finished; a start finishes it first ("), "{note}");
    assert_eq!((verdict, files(directory.path(), "log-").len()), (Verdict::Found, logs.len() + 1));
}

#[test]
fn what_a_member_has_promised_is_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    lived_in(directory.path());
    let ours = directory.path().join(DIRECTORY);
    let (_, all) = rk_json(&["verify-dir"], directory.path());
    assert!(of_kind(&all, "epochs").is_empty(), "{all:?}");
    let epochs = Epochs { accepted: 5, current: 4 };
    open(StoreConfig::new(directory.path(), directory.path())).unwrap().store_epochs(epochs).unwrap();
    let (verdict, all) = rk_json(&["verify-dir"], directory.path());
    assert_eq!(verdict, Verdict::Fine);
    assert_eq!(
        (&of_kind(&all, "epochs")[0]["accepted"], &of_kind(&all, "epochs")[0]["current"]),
        (&json!(5), &json!(4))
    );

    damage(&ours.join("acceptedEpoch"), |bytes| bytes[0] ^= 1);
    let (verdict, text) = rk(&["verify-dir"], directory.path()).unwrap();
    assert_eq!(verdict, Verdict::Found);
    assert!(text.contains("start: would take snapshot 0x12"), "{text}");
    assert!(
        text.contains("start as a member of an ensemble: would refuse: ") && text.contains("acceptedEpoch: damaged"),
        "{text}"
    );
}

#[test]
fn what_leads_nowhere_is_passed_over_and_what_may_not_be_looked_at_is_said() {
    let directory = tempfile::tempdir().unwrap();
    lived_in(directory.path());
    symlink("nowhere", directory.path().join(DIRECTORY).join("log-link")).unwrap();
    assert_eq!(rk(&["verify-dir"], directory.path()).unwrap().0, Verdict::Fine);
    // A file where a directory is looked for is none; a name that is too long cannot be looked for at all.
    let long = directory.path().join("n".repeat(300));
    for command in [&["verify-dir"][..], &["export"], &["log", "chop", "--to", "1"]] {
        let error = rk(command, &long).unwrap_err().to_string();
        assert!(error.contains("File name too long"), "{command:?}: {error}");
    }
}
