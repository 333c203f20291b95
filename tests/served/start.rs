//! What a start says and when it refuses. Spec: operations 1.11, 1.12.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::harness::*;

/// Starts what is expected to end by itself; returns exit code and standard error.
fn refused(arguments: &[&str]) -> (i32, String) {
    let mut process = Process::spawn(arguments);
    let status = process.wait();
    (status.code().expect("an exit code"), process.log())
}

#[test]
fn the_first_lines_tell_version_cores_directory_device_and_how_writes_get_there() {
    for (executors, cores) in [(1, "1 executor"), (2, "2 executors")] {
        let server = Setup::new(executors).start();
        let process = &server.process;
        eventually("the last line of the start tells how long it took", || {
            process.lines_with(&["INFO", "serving, ", " ms after the start"]).len() == 1
        });
        assert_eq!(process.lines_with(&["INFO", env!("CARGO_PKG_VERSION"), cores]).len(), 1, "{}", process.log());
        let ours = server.data.join("ringkeeper-1");
        let log = process.lines_with(&["INFO", "transaction log: ", ours.to_str().unwrap()]);
        let (source, file_system) = mounted_at(&server.data);
        assert_eq!(log.len(), 1, "{}", process.log());
        assert!(log[0].contains(&format!("({file_system} at /")) && log[0].contains(", direct IO "), "{}", log[0]);
        assert!(file_system == "overlay" || log[0].contains(&format!(" on {source} ")), "{} of {source}", log[0]);
        assert_eq!(process.lines_with(&["INFO", "snapshots: ", ours.to_str().unwrap()]).len(), 1);
        assert!(
            log[0].contains("; log strategy dsync: O_DIRECT write with RWF_DSYNC by io_uring, 1 batch(es) in flight")
        );
        assert_eq!(process.lines_with(&["INFO", "binding to port", &server.address.to_string()]).len(), 1);
        assert_eq!(process.lines_with(&["ERROR"]), Vec::<String>::new());
    }
}

/// Source and type of the file system a directory is on.
fn mounted_at(path: &Path) -> (String, String) {
    let path = path.canonicalize().unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let deepest = fields.filter(|fields| path.starts_with(fields[1])).max_by_key(|fields| fields[1].len()).unwrap();
    (deepest[0].to_owned(), deepest[2].to_owned())
}

#[test]
fn a_log_in_memory_is_called_unsafe() {
    let Ok(memory) = tempfile::tempdir_in("/dev/shm") else {
        return println!("SKIPPED: no /dev/shm to write to");
    };
    let server = Setup::new(1).start_on(Arc::new(tempfile::tempdir().unwrap()), memory.path());
    eventually("it is warned of once", || server.process.lines_with(&["WARN", "UNSAFE", "tmpfs"]).len() == 1);
    server.client().must(&create("/served", b""));
}

#[test]
fn a_second_server_on_the_same_directory_is_refused_and_told_who_has_it() {
    let server = Setup::new(1).start();
    server.client().must(&create("/mine", b""));
    let elsewhere = tempfile::tempdir().unwrap();
    let config = Setup::new(1).write_config(elsewhere.path(), &server.data, free_port());
    let (code, said) = refused(&[config.to_str().unwrap()]);
    assert_eq!(code, 1, "{said}");
    let pid = server.process.pid().as_raw_nonzero();
    assert!(said.contains("ERROR") && said.contains(&format!("pid {pid}")), "{said}");
    server.client().must(&exists("/mine", false));
    // However the first one ends, the directory is free then.
    let directory = server.stop();
    Setup::new(1).start_in(directory).client().must(&exists("/mine", false));
}

#[test]
fn a_port_in_use_is_refused_before_anything_else_is_done() {
    let server = Setup::new(1).start();
    let elsewhere = tempfile::tempdir().unwrap();
    let data = elsewhere.path().join("data");
    let config = Setup::new(1).write_config(elsewhere.path(), &data, server.address.port());
    let (code, said) = refused(&[config.to_str().unwrap()]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("clientPort") && said.contains("in use"), "{said}");
    assert!(!data.join("ringkeeper-1/lock").exists(), "nothing was opened");
}

#[test]
fn a_bad_configuration_is_refused_with_file_line_and_key() {
    let directory = tempfile::tempdir().unwrap();
    for (line, key) in [
        ("tickTime=soon", "tickTime"),
        ("maxSessionTimeout=1", "maxSessionTimeout"),
        ("syncEnabled=perhaps", "syncEnabled"),
        ("ringkeeper.cores=some", "ringkeeper.cores"),
        ("sslQuorum=true", "sslQuorum"),
    ] {
        let setup = Setup::new(1).with("# a line of comment").with(line);
        let config = setup.write_config(directory.path(), &directory.path().join("data"), free_port());
        let config = config.to_str().unwrap();
        let number = std::fs::read_to_string(config).unwrap().lines().position(|other| other == line).unwrap() + 1;
        for arguments in [&[config][..], &["--check", config]] {
            let (code, said) = refused(arguments);
            assert_eq!(code, 2, "{line}: {said}");
            assert!(said.contains(&format!("ringkeeper: {config}:{number}: {key}: ")), "{line}: {said}");
        }
    }
    assert!(!directory.path().join("data").exists(), "nothing was begun");
    for arguments in [&["/no/such/zoo.cfg"][..], &["--no-such-option"], &["2181"], &["notaport", "/tmp", "x", "y", "z"]]
    {
        let (code, said) = refused(arguments);
        assert_eq!(code, 2, "{arguments:?}: {said}");
        assert!(!said.is_empty());
    }
}

#[test]
fn a_missing_directory_is_an_error_of_its_own_where_it_may_not_be_made() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("missing");
    let setup = Setup::new(1).with("datadir.autocreate=false");
    let config = setup.write_config(directory.path(), &data, free_port());
    let (code, said) = refused(&[config.to_str().unwrap()]);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("missing") && !data.exists(), "{said}");
}

#[test]
fn a_check_prints_every_effective_setting_with_its_origin_and_starts_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let setup = Setup::new(1).with("maxClientCnxns=7").with("noSuchKey=1").with("snapCont=5");
    let config = setup.write_config(directory.path(), &data, 2181);
    let output = Command::new(env!("CARGO_BIN_EXE_ringkeeper"))
        .args(["--check", "-Djute.maxbuffer=2000000", config.to_str().unwrap()])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("valid, standalone"), "{said}");
    let line = |setting: &str| said.lines().find(|line| line.trim_start().starts_with(setting)).expect("is told");
    assert!(line("maxClientCnxns=7 ").contains("zoo.cfg:9"), "{said}");
    assert!(line("jute.maxbuffer=2000000 ").contains("[command line]"), "{said}");
    assert!(line("snapCount=100000 ").contains("default"), "{said}");
    assert!(said.contains("noSuchKey: unknown key") && said.contains("did you mean snapCount?"), "{said}");
    assert!(!data.exists());
}

#[test]
fn a_members_directory_that_is_served_alone_is_told_of() {
    let directory = Arc::new(tempfile::tempdir().unwrap());
    let data = directory.path().join("data");
    let said = ["WARN", "this was a member of an ensemble, in epoch 5", "is served alone now"];
    let server = Setup::new(1).start_on(directory.clone(), &data);
    assert_eq!(server.process.lines_with(&said), Vec::<String>::new());
    server.stop();
    let epochs = ringkeeper_storage::Epochs { accepted: 5, current: 4 };
    let mut opened = ringkeeper_storage::open(ringkeeper_storage::StoreConfig::new(&data, &data)).unwrap();
    opened.store_epochs(epochs).unwrap();
    drop(opened);
    let server = Setup::new(1).start_on(directory, &data);
    eventually("it is told of", || server.process.lines_with(&said).len() == 1);
    server.client().must(&create("/served", b""));
}
