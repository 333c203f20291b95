//! `rk` as a process: what scripts see of it. What it says is tested beside its code.

#[allow(dead_code)] // what the unit tests need besides
#[path = "../src/bin/rk/tests/fixture.rs"]
mod fixture;

use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use ringkeeper::wire::txn::Txn;

fn rk(words: &[&str], path: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rk")).args(words).arg(path).output().unwrap()
}

#[test]
fn the_exit_status_tells_fine_from_damaged_from_unreadable() {
    let directory = tempfile::tempdir().unwrap();
    fixture::lived_in(directory.path());
    let fine = rk(&["log", "verify"], directory.path());
    assert_eq!(fine.status.code(), Some(0), "{fine:?}");
    assert!(fine.stderr.is_empty(), "no progress where there is no terminal: {fine:?}");

    fixture::damage(&fixture::files(directory.path(), "log-")[0], |bytes| bytes[8192 + 100] ^= 1);
    assert_eq!(rk(&["log", "verify", "--json"], directory.path()).status.code(), Some(1));

    let missing = rk(&["log", "verify"], &directory.path().join("nothing-here"));
    assert_eq!(missing.status.code(), Some(2));
    let message = String::from_utf8(missing.stderr).unwrap();
    assert!(message.starts_with("rk: ") && message.contains("nothing-here: No such file"), "{message}");
    assert_eq!(rk(&["log", "polish"], directory.path()).status.code(), Some(2));
}

#[test]
fn nothing_is_changed_by_looking() {
    let directory = tempfile::tempdir().unwrap();
    fixture::lived_in(directory.path());
    fixture::damage(&fixture::files(directory.path(), "log-")[0], |bytes| bytes[12288 + 100] ^= 1);
    let contents = || {
        let files = fixture::files(directory.path(), "");
        files.into_iter().map(|path| (std::fs::read(&path).unwrap(), path)).collect::<Vec<_>>()
    };
    let before = contents();
    for words in [["log", "dump"], ["log", "verify"], ["log", "stats"]] {
        assert_eq!(rk(&words, directory.path()).status.code(), Some(1));
    }
    assert!(contents() == before);
}

#[test]
fn an_import_that_fails_tells_where_our_own_data_went() {
    let directory = tempfile::tempdir().unwrap();
    fixture::lived_in(directory.path());
    std::fs::write(directory.path().join("myid"), "3").unwrap();
    let (java, to) = (directory.path().join("java"), directory.path().join("to"));
    let export = rk(&["export", "--to", java.to_str().unwrap()], directory.path());
    assert_eq!(export.status.code(), Some(0), "{export:?}");
    let import = || rk(&["import", "--replace", "--to", to.to_str().unwrap()], &java);
    assert_eq!(import().status.code(), Some(0));
    // In the way of the last step.
    std::fs::remove_file(to.join("myid")).unwrap();
    std::fs::create_dir(to.join("myid.tmp")).unwrap();
    let failed = import();
    let message = String::from_utf8(failed.stderr).unwrap();
    assert_eq!(failed.status.code(), Some(2), "{message}");
    assert!(message.contains("myid") && message.contains("to/ringkeeper-1.replaced-1"), "{message}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = fixture::lived_in(directory.path());
    for number in 0..2000 {
        let path = format!("/app/n{:02}", 1 + number % 11);
        server.append(&Txn::SetData { path: path.into(), data: Some(&[7; 60]), version: number });
    }
    server.drain();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rk"));
    command.args(["log", "dump", "--decode"]).arg(directory.path());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 100];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap(); // and closed
    let output = child.wait_with_output().unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
    assert_eq!(output.status.code(), Some(2), "nobody learns a verdict that was not reached");
}
