//! The whole server on file systems that break under it: it stops acknowledging, says what happened, ends with 1, and the next
//! start has everything that was acknowledged. Each file system is a small one of our own; where it cannot be had the test says
//! SKIPPED.

use std::path::Path;
use std::sync::Arc;

use crate::disks::Acknowledged;
use crate::harness::*;
use crate::small_disk::{FileSystem, SmallDisk, skipped};

/// Segments large enough that the log does not ask for the next one meanwhile.
fn setup(executors: usize) -> Setup {
    Setup::new(executors).with("preAllocSize=16384")
}

/// Writes until the server ends by itself: its clients are told nothing they could take for success, and its log tells why.
fn ends_by_itself(mut server: Server, mut clients: [Client; 2], acknowledged: &mut Acknowledged, why: &[&str]) {
    let [writer, reader] = &mut clients;
    // What the end cuts off is unknown, not acknowledged.
    while let Some(written) = acknowledged.try_write(writer) {
        assert!(written && acknowledged.writes < 2000, "refused, or never broken");
    }
    let ended = reader.try_receive();
    assert!(ended.as_ref().is_err_and(is_gone), "{ended:?}");
    assert_eq!(server.process.wait().code(), Some(1), "{}", server.process.log());
    let errors = server.process.lines_with(&["ERROR"]);
    assert_eq!(errors.len(), 1, "{}", server.process.log());
    let said = &errors[0];
    assert!(said.contains("log-") && said.contains(".seg: "), "{said}");
    assert!(said.contains("nothing more was acknowledged") && why.iter().any(|why| said.contains(why)), "{said}");
}

/// And it goes on from there.
fn has_everything(executors: usize, elsewhere: Arc<tempfile::TempDir>, data: &Path, acknowledged: &mut Acknowledged) {
    let server = setup(executors).start_on(elsewhere, data);
    let mut client = server.client();
    acknowledged.verify(&mut client);
    (0..20).for_each(|_| assert!(acknowledged.write(&mut client)));
    acknowledged.verify(&mut client);
    server.stop();
}

#[test]
fn a_file_system_that_turns_read_only_ends_the_server_with_a_reason() {
    each_layout(|executors| {
        let mut disk = match SmallDisk::mount(FileSystem::Ext4, 96) {
            Ok(disk) => disk,
            Err(why) => return skipped("a file system that turns read-only", &why),
        };
        let (elsewhere, data) = (Arc::new(tempfile::tempdir().unwrap()), disk.root().join("data"));
        let server = setup(executors).start_on(elsewhere.clone(), &data);
        let mut acknowledged = Acknowledged::default();
        let mut clients = [server.client(), server.client()];
        (0..40).for_each(|_| assert!(acknowledged.write(&mut clients[0])));
        if let Err(why) = disk.make_read_only_by_error() {
            return skipped("a file system that turns read-only", &why);
        }
        ends_by_itself(server, clients, &mut acknowledged, &["Read-only file system", "Input/output error"]);
        disk.mount_again("errors=remount-ro").unwrap();
        has_everything(executors, elsewhere, &data, &mut acknowledged);
    });
}

/// The file system has the blocks, the storage below has not: the write of a batch fails, not the preparing of a segment.
#[test]
fn storage_that_runs_dry_under_the_file_system_ends_the_server_with_a_reason() {
    each_layout(|executors| {
        let mut disk = match SmallDisk::mount_thin(192, 96) {
            Ok(disk) => disk,
            Err(why) => return skipped("thin storage", &why),
        };
        let (elsewhere, data) = (Arc::new(tempfile::tempdir().unwrap()), disk.root().join("data"));
        let server = setup(executors).start_on(elsewhere.clone(), &data);
        let mut acknowledged = Acknowledged::default();
        let mut clients = [server.client(), server.client()];
        (0..20).for_each(|_| assert!(acknowledged.write(&mut clients[0])));
        let filling = match disk.starve() {
            Ok(filling) => filling,
            Err(why) => return skipped("thin storage", &why),
        };
        ends_by_itself(server, clients, &mut acknowledged, &["No space left on device", "Input/output error"]);
        std::fs::remove_file(filling).unwrap();
        disk.mount_again("errors=remount-ro").unwrap();
        has_everything(executors, elsewhere, &data, &mut acknowledged);
    });
}

#[test]
fn a_start_on_a_read_only_file_system_is_refused_with_a_reason() {
    let mut disk = match SmallDisk::mount(FileSystem::Ext4, 64) {
        Ok(disk) => disk,
        Err(why) => return skipped("a read-only start", &why),
    };
    let (elsewhere, data) = (Arc::new(tempfile::tempdir().unwrap()), disk.root().join("data"));
    let mut acknowledged = Acknowledged::default();
    let server = Setup::new(1).start_on(elsewhere.clone(), &data);
    let mut client = server.client();
    (0..10).for_each(|_| assert!(acknowledged.write(&mut client)));
    server.stop();
    disk.mount_again("ro").unwrap();
    for data in [&data, &disk.root().join("new")] {
        let config = Setup::new(1).write_config(elsewhere.path(), data, free_port());
        let mut process = Process::spawn(&[config.to_str().unwrap()]);
        assert_eq!(process.wait().code(), Some(1), "{}", process.log());
        let errors = process.lines_with(&["ERROR", data.to_str().unwrap(), "Read-only file system"]);
        assert_eq!(errors.len(), 1, "{}", process.log());
    }
    disk.mount_again("rw").unwrap();
    let server = Setup::new(1).start_on(elsewhere, &data);
    acknowledged.verify(&mut server.client());
}
