//! Disks that are full and disks that fail. Each file system is a small one of our own, mounted from a file; that needs
//! root, and where it cannot be had the test says SKIPPED.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringkeeper::limits::{BRIDGE_BATCHES_UP, BRIDGE_OUTBOX_BYTES, CLIENT_PENDING_BYTES};
use ringkeeper::wire::client::Request;
use rustix::process::{Resource, Rlimit, prlimit};

use crate::harness::*;
use crate::small_disk::{FileSystem, SmallDisk, skipped};

const SYSTEM_ERROR: i32 = -1;

/// What was acknowledged: the last number written to each node.
#[derive(Default)]
pub struct Acknowledged {
    /// None: a write to it was not answered, so it may hold that or what it held before.
    nodes: BTreeMap<String, Option<u32>>,
    pub writes: u32,
}

impl Acknowledged {
    const NODES: u32 = 20;
    const BYTES: usize = 100_000;

    /// One write; false when it is refused for want of room.
    pub fn write(&mut self, client: &mut Client) -> bool {
        self.try_write(client).expect("an answer")
    }

    /// The same; `None` when the server ended before it answered: the write may stand or not.
    pub fn try_write(&mut self, client: &mut Client) -> Option<bool> {
        let number = self.writes + 1;
        let path = format!("/n{}", number % Self::NODES);
        let mut data = vec![b'.'; Self::BYTES];
        data[..4].copy_from_slice(&number.to_be_bytes());
        let request = if self.nodes.contains_key(&path) { set(&path, &data) } else { create(&path, &data) };
        let answer = client.try_send(&request).and_then(|_| client.try_receive());
        match answer.map(|reply| reply.header.err) {
            Ok(0) => {
                self.writes = number;
                self.nodes.insert(path, Some(number));
                Some(true)
            }
            Ok(SYSTEM_ERROR) => Some(false),
            Err(error) if is_gone(&error) => {
                self.nodes.insert(path, None);
                None
            }
            other => panic!("{other:?}"),
        }
    }

    pub fn verify(&self, client: &mut Client) {
        for (path, number) in self.nodes.iter().filter_map(|(path, number)| Some((path, (*number)?))) {
            let reply = client.must(&get(path));
            assert_eq!(&reply.data()[..4], number.to_be_bytes(), "{path}");
        }
    }
}

#[test]
fn a_full_disk_refuses_writes_keeps_reads_and_sessions_and_recovers_by_itself() {
    each_layout(|executors| {
        let disk = match SmallDisk::mount(FileSystem::Ext4, 64) {
            Ok(disk) => disk,
            Err(why) => return skipped("no small disk to fill", &why),
        };
        full_disk(executors, &disk);
    });
}

fn full_disk(executors: usize, disk: &SmallDisk) {
    let ballast = disk.ballast(24);
    let data = disk.root().join("data");
    let elsewhere = Arc::new(tempfile::tempdir().unwrap());
    let setup = Setup::new(executors).with("tickTime=400");
    let server = setup.clone().start_on(elsewhere.clone(), &data);
    let mut acknowledged = Acknowledged::default();
    let mut client = server.client();
    let mut leaving = server.client();
    while acknowledged.write(&mut client) {
        assert!(acknowledged.writes < 2000, "64 MiB are never full");
        leaving.must(&Request::Ping);
    }
    let full_after = acknowledged.writes;
    assert!(full_after > 100, "it takes what there is room for, not {full_after} writes");

    // Refused, not hung, and nobody is thrown out. Longer than a session lives without being kept alive.
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        acknowledged.verify(&mut client);
        client.must(&Request::Ping);
        leaving.must(&Request::Ping);
        assert!(!acknowledged.write(&mut client), "the disk is still full");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(server.gauge("ringkeeper_writes_refused_disk_full") > 0);
    assert_eq!(server.word("ruok"), "imok");
    // Ending a session frees things and is let in for as long as there is any room.
    leaving.send(&Request::CloseSession);
    leaving.receive();

    std::fs::remove_file(&ballast).unwrap();
    eventually("writes are taken again", || acknowledged.write(&mut client));
    (0..50).for_each(|_| assert!(acknowledged.write(&mut client), "and go on"));
    let log = server.process.log();
    assert!(!log.contains("ERROR"), "{log}");
    server.stop();

    let server = setup.start_on(elsewhere, &data);
    acknowledged.verify(&mut server.client());
    assert!(server.resume(client.session, &client.password).is_some(), "its session lives on");
    println!("{executors} executors: full after {full_after} writes, {} in the end", acknowledged.writes);
}

/// With purging a small disk takes any number of writes, and snapshots that do not fit harm nobody.
#[test]
fn a_small_disk_that_is_purged_takes_more_than_it_holds() {
    let disk = match SmallDisk::mount(FileSystem::Ext4, 64) {
        Ok(disk) => disk,
        Err(why) => return skipped("no small disk", &why),
    };
    let elsewhere = Arc::new(tempfile::tempdir().unwrap());
    let setup = Setup::new(2).with("snapCount=60").with("autopurge.purgeInterval=1s");
    let server = setup.clone().start_on(elsewhere.clone(), &disk.root().join("data"));
    let mut acknowledged = Acknowledged::default();
    let mut client = server.client();
    while acknowledged.writes < 1500 {
        // Faster than the purge it may be full for a moment; that is over by itself.
        eventually("there is room again", || acknowledged.write(&mut client));
    }
    let snapshots = server.process.lines_with(&["Snapshot taken"]).len();
    assert!(snapshots > 5, "{snapshots}");
    server.stop();
    let server = setup.start_on(elsewhere, &disk.root().join("data"));
    acknowledged.verify(&mut server.client());
}

/// A disk that stalls stops writes, and nothing but writes; they wait in their clients' sockets, not in our memory.
#[test]
fn while_the_disk_stalls_reads_go_on_and_memory_is_bounded_and_then_everything_is_answered() {
    each_layout(|executors| {
        let disk = match SmallDisk::mount(FileSystem::Ext4, 192) {
            Ok(disk) => disk,
            Err(why) => return skipped("no small disk to freeze", &why),
        };
        stalling_disk(executors, &disk);
    });
}

fn stalling_disk(executors: usize, disk: &SmallDisk) {
    const WRITERS: usize = 4;
    const WRITES: usize = 24;
    let elsewhere = Arc::new(tempfile::tempdir().unwrap());
    let server = Setup::new(executors).with("preAllocSize=8192").start_on(elsewhere, &disk.root().join("data"));
    let mut reader = server.client();
    reader.must(&create("/before", b"the stall"));
    let mut writers: Vec<Client> = (0..WRITERS).map(|_| server.client()).collect();
    let before = server.process.resident_bytes();
    let frozen = match disk.freeze() {
        Ok(frozen) => frozen,
        Err(why) => return skipped("a disk that stalls", &why),
    };
    std::thread::scope(|scope| {
        for (index, client) in writers.iter_mut().enumerate() {
            scope.spawn(move || {
                client.socket.set_write_timeout(Some(PATIENCE)).unwrap();
                let path = format!("/w{index}");
                client.send(&create(&path, b""));
                (0..WRITES).for_each(|_| assert_ne!(client.send(&set(&path, &[1; 1_000_000])), 0));
                (0..=WRITES).for_each(|_| assert_eq!(client.receive().header.err, 0));
            });
        }
        let mut peak = 0;
        let until = Instant::now() + Duration::from_millis(1500);
        while Instant::now() < until {
            // Nobody thaws the disk for these: they do not wait for it.
            assert_eq!(reader.must(&get("/before")).data(), b"the stall");
            assert_eq!(reader.err(&exists("/w0", false)), -101, "nothing is shown before it is durable");
            peak = peak.max(server.process.resident_bytes());
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(server.word("ruok"), "imok");
        drop(frozen);
        // A write is kept twice, as a proposal and in the batch it goes to the disk with.
        // What goes to another executor is copied into batches, and there are so many of them at most.
        let batches = (BRIDGE_BATCHES_UP + 2) * (BRIDGE_OUTBOX_BYTES + 1_000_000);
        let held = WRITERS * (2 * (CLIENT_PENDING_BYTES + 1_000_000) + 1_000_000);
        let allowed = held + (executors - 1) * batches + executors * (16 << 20);
        let grown = peak.saturating_sub(before);
        println!("{executors} executors: {} MiB while the disk stalls", grown >> 20);
        assert!(grown < allowed as u64, "{} MiB", grown >> 20);
    });
    reader.must(&exists("/w0", false));
}

/// A disk so full from the beginning that there is no room for a log is a start that fails, with a reason.
#[test]
fn a_start_without_room_for_a_log_fails_with_a_reason() {
    let disk = match SmallDisk::mount(FileSystem::Ext4, 16) {
        Ok(disk) => disk,
        Err(why) => return skipped("no small disk to fill", &why),
    };
    disk.fill();
    let elsewhere = tempfile::tempdir().unwrap();
    let config = Setup::new(1).write_config(elsewhere.path(), &disk.root().join("data"), free_port());
    let mut process = Process::spawn(&[config.to_str().unwrap()]);
    let status = process.wait();
    assert_eq!(status.code(), Some(1), "{}", process.log());
    assert!(process.log().to_lowercase().contains("space"), "{}", process.log());
}

/// A log write that fails: nothing after it may be acknowledged, and the process ends with a reason.
#[test]
fn after_a_failed_log_write_nothing_is_acknowledged_and_the_process_ends() {
    each_layout(|executors| {
        let mut server = Setup::new(executors).start();
        let mut acknowledged = Acknowledged::default();
        let mut client = server.client();
        let mut reader = server.client();
        (0..40).for_each(|_| assert!(acknowledged.write(&mut client)));
        let nothing_more = Rlimit { current: Some(0), maximum: Some(0) };
        prlimit(Some(server.process.pid()), Resource::Fsize, nothing_more).unwrap();
        for number in 0..20 {
            // The end may come in the middle of these.
            let _ = client.try_send(&set("/n1", format!("unacknowledged {number}").as_bytes()));
        }
        let told = client.try_receive();
        assert!(told.as_ref().is_err_and(is_gone), "{told:?}");
        assert_eq!(server.process.wait().code(), Some(1), "{}", server.process.log());
        let ended = reader.try_receive();
        assert!(ended.as_ref().is_err_and(is_gone), "{ended:?}");
        let errors = server.process.lines_with(&["ERROR"]);
        assert_eq!(errors.len(), 1, "{}", server.process.log());
        assert!(errors[0].contains("nothing more was acknowledged") && errors[0].contains("File too large"));

        let server = Setup::new(executors).start_in(server.directory.clone());
        let mut client = server.client();
        let after = client.must(&get("/n1")).data().to_vec();
        if after.starts_with(b"unacknowledged") {
            // Unknown is not lost: such a write may stand.
            acknowledged.nodes.insert("/n1".to_owned(), None);
        }
        acknowledged.verify(&mut client);
        assert!(acknowledged.write(&mut client));
    });
}
