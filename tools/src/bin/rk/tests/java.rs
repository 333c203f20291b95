//! `rk import` and `rk export`: there and back again, and what they refuse.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use ringkeeper::java::{JavaDirs, seen, superseded};
use ringkeeper_storage::{Epochs, StoreConfig, Zxid, open};
use serde_json::json;

use super::fixture::lived_in;
use super::{of_kind, rk, rk_json};
use crate::console::Verdict;

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn what_is_exported_imports_to_the_same() {
    let (ours, java, again) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    lived_in(ours.path());
    fs::write(ours.path().join("myid"), "3\n").unwrap();
    for words in [&["--snapshot-only"][..], &[], &["--reader", "3.5"], &["--reader", "3.8"]] {
        let words: Vec<_> = ["export", "--replace", "--to", text(java.path())].iter().chain(words).copied().collect();
        let (verdict, said) = rk_json(&words, ours.path());
        assert_eq!(verdict, Verdict::Fine);
        let exported = of_kind(&said, "exported")[0].clone();
        assert_eq!(exported["zxid"], "0x1f");
        let is_alone = words.contains(&"--snapshot-only");
        let snapshot = if is_alone { "snapshot.1f" } else { "snapshot.12" };
        let mut files = names(&java.path().join("version-2"));
        files.retain(|name| !name.starts_with("log."));
        assert_eq!(files, ["acceptedEpoch", "currentEpoch", snapshot]);
        assert_eq!(java.path().join("version-2/log.13").exists(), !is_alone);
        assert_eq!(fs::read_to_string(java.path().join("myid")).unwrap(), "3");
        assert!(fs::read_to_string(java.path().join("ringkeeper-export")).unwrap().contains("at 0x1f"));

        let (verdict, said) = rk_json(&["import", "--replace", "--to", text(again.path())], java.path());
        assert_eq!(verdict, Verdict::Fine);
        let imported = of_kind(&said, "imported")[0];
        for same in ["zxid", "nodes", "sessions", "digest"] {
            assert_eq!(imported[same], exported[same], "{same} {words:?}");
        }
        assert_eq!(imported["notes"].as_array().unwrap().len(), 0, "{imported}");
        assert_eq!(fs::read_to_string(again.path().join("myid")).unwrap(), "3");
    }
    let aside = names(again.path()).into_iter().filter(|name| name.starts_with("ringkeeper-1.replaced-")).count();
    assert_eq!(aside, 3);
    let aside = names(java.path()).into_iter().filter(|name| name.starts_with("version-2.replaced-")).count();
    assert_eq!(aside, 3);
}

#[test]
fn nothing_is_overwritten_without_leave() {
    let (ours, java) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    lived_in(ours.path());
    let export = ["export", "--to", text(java.path())];
    rk(&export, ours.path()).unwrap();
    let before = names(&java.path().join("version-2"));
    let refused = rk(&export, ours.path()).unwrap_err().to_string();
    assert!(refused.contains("version-2 is not empty") && refused.contains("--replace"), "{refused}");
    assert_eq!(names(&java.path().join("version-2")), before);
    let refused = rk(&["import", "--to", text(ours.path())], java.path()).unwrap_err().to_string();
    assert!(refused.contains("data of its own here, up to transaction 0x1f"), "{refused}");
    let other = tempfile::tempdir().unwrap();
    rk(&["export", "--to", text(other.path())], ours.path()).unwrap();
    let refused = rk(&["import", "--to", text(other.path())], java.path()).unwrap_err().to_string();
    assert!(refused.contains("data of another Java server here"), "{refused}");
    let empty = tempfile::tempdir().unwrap();
    assert!(rk(&["export"], empty.path()).unwrap_err().to_string().contains("there is no ringkeeper-1 here"));
    assert!(rk(&["import"], empty.path()).unwrap_err().to_string().contains("no data of a Java server here"));
    assert_eq!(names(empty.path()), [] as [&str; 0]);
}

#[test]
fn a_directory_in_use_is_left_alone() {
    let (ours, java) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    lived_in(ours.path());
    rk(&["export", "--to", text(java.path())], ours.path()).unwrap();
    let held = open(StoreConfig::new(ours.path(), ours.path())).unwrap();
    let to = ["export", "--replace", "--to", text(java.path())];
    assert!(rk(&to, ours.path()).unwrap_err().to_string().contains("locked by another server"));
    let to = ["import", "--replace", "--to", text(ours.path())];
    assert!(rk(&to, java.path()).unwrap_err().to_string().contains("locked by another server"));
    drop(held);
    // A Java server keeps the log it appends to open.
    let log = fs::File::open(java.path().join("version-2/log.13")).unwrap();
    let mut holder = std::process::Command::new("sleep").arg("600").stdin(log).spawn().unwrap();
    let refused = rk(&to, java.path()).map(|_| ()).unwrap_err().to_string();
    let export = ["export", "--replace", "--to", text(java.path())];
    let refused_too = rk(&export, ours.path()).map(|_| ()).unwrap_err().to_string();
    let expected = format!("process {} has its log open", holder.id());
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(refused.contains(&expected), "{refused}");
    assert!(refused_too.contains(&expected), "{refused_too}");
    rk(&to, java.path()).unwrap();
}

#[test]
fn damage_is_found_and_can_be_forced() {
    let (ours, java, again) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    lived_in(ours.path());
    rk(&["export", "--to", text(java.path())], ours.path()).unwrap();
    let log = java.path().join("version-2/log.13");
    let mut bytes = fs::read(&log).unwrap();
    bytes[40] ^= 1;
    fs::write(&log, &bytes).unwrap();
    let import = ["import", "--to", text(again.path())];
    assert_eq!(rk(&import, java.path()).unwrap(), (Verdict::Found, String::new()));
    assert!(!again.path().join("ringkeeper-1").exists());
    let (verdict, said) = rk(&["import", "--force", "--to", text(again.path())], java.path()).unwrap();
    assert_eq!(verdict, Verdict::Fine);
    assert!(said.contains("note: ") && said.contains("CRC check failed") && said.contains("at 0x12"), "{said}");
}

/// Back to Java in the same place, and forth again when Java has not run in between.
#[test]
fn an_export_beside_our_own_data_is_known_to_the_next_start() {
    let place = tempfile::tempdir().unwrap();
    lived_in(place.path());
    rk(&["export"], place.path()).unwrap();
    let dirs = JavaDirs { data: place.path().to_owned(), log: place.path().to_owned() };
    let check = || seen::check(&dirs, Zxid(0x1f));
    check().unwrap();
    // As if nobody had told.
    fs::remove_file(place.path().join("ringkeeper-1/version-2.seen")).unwrap();
    assert!(check().unwrap_err().to_string().contains("0x1f"));
    rk(&["export", "--replace"], place.path()).unwrap();
    check().unwrap();
}

/// Whom a member has promised not to follow is not part of the data that are given up.
#[test]
fn a_promise_outlives_what_is_replaced() {
    let (place, java) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    lived_in(java.path());
    rk(&["export"], java.path()).unwrap();
    lived_in(place.path());
    let opened = || open(StoreConfig::new(place.path(), place.path())).unwrap();
    opened().store_epochs(Epochs { accepted: 9, current: 2 }).unwrap();
    let (verdict, said) = rk_json(&["import", "--replace", "--to", text(place.path())], java.path());
    assert_eq!((verdict, &said[0]["accepted_epoch"], &said[0]["current_epoch"]), (Verdict::Fine, &json!(9), &json!(0)));
    assert_eq!(opened().epochs().unwrap(), Epochs { accepted: 9, current: 0 });
}

/// What a start refuses, the look at a directory tells before.
#[test]
fn an_old_state_beside_nothing_of_ours_is_told_of() {
    let place = tempfile::tempdir().unwrap();
    lived_in(place.path());
    rk(&["export"], place.path()).unwrap();
    let dirs = JavaDirs { data: place.path().to_owned(), log: place.path().to_owned() };
    let seen = seen::check(&dirs, Zxid(0x1f)).unwrap().unwrap();
    fs::remove_dir_all(place.path().join("ringkeeper-1")).unwrap();
    let (verdict, said) = rk(&["verify-dir"], place.path()).unwrap();
    assert!(verdict == Verdict::Fine && !said.contains("start:"), "{said}");
    superseded::note(place.path(), &seen).unwrap();
    let (verdict, said) = rk(&["verify-dir"], place.path()).unwrap();
    assert!(verdict == Verdict::Found && said.contains("became ringkeeper's"), "{said}");
    // Somebody's decision.
    let (_, said) = rk(&["import"], place.path()).unwrap();
    assert!(said.contains("at 0x1f"), "{said}");
}

/// As root, which the tests may not be.
#[test]
fn what_root_writes_belongs_to_the_owner_of_the_directory() {
    let place = tempfile::tempdir().unwrap();
    let is_root = rustix::process::geteuid().is_root();
    let owner = fs::metadata(place.path()).unwrap().uid() + if is_root { 12_345 } else { 0 };
    lived_in(place.path());
    if is_root {
        chown(place.path(), Some(owner), None).unwrap();
    }
    let owners = |inner: &str| -> Vec<u32> {
        let entries =
            fs::read_dir(place.path().join(inner)).unwrap().map(|entry| entry.unwrap().metadata().unwrap().uid());
        let mut owners: Vec<_> = entries.chain([fs::metadata(place.path().join(inner)).unwrap().uid()]).collect();
        owners.dedup();
        owners
    };
    rk(&["export"], place.path()).unwrap();
    assert_eq!((owners("version-2"), owners("ringkeeper-1")), (vec![owner], vec![owner]));
    rk(&["import", "--replace"], place.path()).unwrap();
    assert_eq!(owners("ringkeeper-1"), [owner]);
}

/// As Java wrote it: two requests that it could not read, each an error with the zxid of the entry before (D-002).
#[test]
fn errors_that_repeat_a_zxid_are_no_damage() {
    let place = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/java/3.9.5-malformed-requests");
    let inner = place.path().join("version-2");
    fs::create_dir(&inner).unwrap();
    for name in ["snapshot.0", "log.1"] {
        fs::copy(source.join(name), inner.join(name)).unwrap();
    }
    let (verdict, said) = rk(&["verify-dir"], place.path()).unwrap();
    assert_eq!(verdict, Verdict::Fine, "{said}");
    assert!(said.contains("log.1: sound: 5 records, zxid 0x1 to 0x3"), "{said}");
    assert!(said.contains("3 transactions behind it; the last is 0x3"), "{said}");
    assert!(said.contains("which change nothing: 2") && said.contains("digest of transaction 0x3 agrees"), "{said}");
}
