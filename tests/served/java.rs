//! The first start on the directory of a Java server, and the starts after that.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::harness::*;

/// A standalone 3.8.0 server's directory, where dataDir will be.
fn java_directory() -> (Arc<tempfile::TempDir>, PathBuf) {
    let directory = Arc::new(tempfile::tempdir().unwrap());
    let data = directory.path().join("data");
    let version_2 = data.join("version-2");
    fs::create_dir_all(&version_2).unwrap();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/java/3.8.0-standalone");
    for entry in fs::read_dir(sample).unwrap().map(Result::unwrap) {
        if !entry.file_name().to_string_lossy().ends_with(".json") {
            fs::copy(entry.path(), version_2.join(entry.file_name())).unwrap();
        }
    }
    (directory, version_2)
}

fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn refusal(directory: &Path, data: &Path) -> String {
    let config = Setup::new(1).write_config(directory, data, free_port());
    let mut process = Process::spawn(&["-Dringkeeper.pin=off", config.to_str().unwrap()]);
    assert_eq!(process.wait().code(), Some(1), "{}", process.log());
    process.log()
}

#[test]
fn javas_data_are_taken_over_and_left_alone() {
    let (directory, version_2) = java_directory();
    let before = contents(&version_2);
    let server = Setup::new(1).start_in(directory.clone());
    let words = ["INFO", "imported 23 nodes", "at 0x22", "digest", "verified at 0x22"];
    eventually("it says so once", || server.process.lines_with(&words).len() == 1);
    assert_eq!(server.word("srvr").lines().find(|line| line.starts_with("Zxid:")), Some("Zxid: 0x22"));
    let mut client = server.client();
    client.must(&create("/ours", b"new"));
    drop(client);
    server.stop();
    assert_eq!(contents(&version_2), before);
    let server = Setup::new(1).start_in(directory.clone());
    assert_eq!(server.process.lines_with(&["import"]), Vec::<String>::new());
    assert_eq!(server.client().must(&get("/ours")).data(), b"new");
    server.stop();
    assert_eq!(contents(&version_2), before);
}

#[test]
fn a_start_refuses_to_choose_between_two_histories() {
    let (directory, version_2) = java_directory();
    let log = version_2.join("log.22");
    let whole = fs::read(&log).unwrap();
    fs::write(&log, &whole[..16]).unwrap();
    Setup::new(1).start_in(directory.clone()).stop();
    // What Java wrote afterwards.
    fs::write(&log, &whole).unwrap();
    let data = directory.path().join("data");
    let refused = refusal(directory.path(), &data);
    for part in ["it is at transaction 0x22", "was at 0x21", "rk import --replace", "Nothing was changed"] {
        assert!(refused.contains(part), "{part} in {refused}");
    }
    fs::rename(&version_2, data.join("version-2.old")).unwrap();
    Setup::new(1).start_in(directory).stop();
}

#[test]
fn a_damaged_directory_is_refused_and_nothing_is_made_of_it() {
    let (directory, version_2) = java_directory();
    let log = version_2.join("log.22");
    let mut bytes = fs::read(&log).unwrap();
    bytes[58] ^= 1;
    fs::write(&log, &bytes).unwrap();
    let data = directory.path().join("data");
    for _ in 0..2 {
        let refused = refusal(directory.path(), &data);
        assert!(refused.contains("log.22: damaged at byte 16: CRC check failed"), "{refused}");
        assert!(refused.contains("rk import --force"), "{refused}");
    }
    bytes[58] ^= 1;
    fs::write(&log, &bytes).unwrap();
    Setup::new(1).start_in(directory).stop();
}
