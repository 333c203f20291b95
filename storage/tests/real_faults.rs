//! The store through the real ring on small real file systems that fill up, run dry and turn read-only. Each test says SKIPPED
//! where such a file system cannot be had.

#[path = "rig/small_disk.rs"]
mod small_disk;

use std::path::Path;

use ringkeeper_storage::{LogError, LogRoom, Opened, Ring, Store, StoreConfig, StoreError, StoreEvent, Zxid, open};
use small_disk::{FileSystem, SmallDisk, skipped};

struct Server {
    store: Store,
    ring: Ring,
    durable: Zxid,
    room: LogRoom,
    troubles: Vec<String>,
    failed: Option<LogError>,
}

impl Server {
    fn start(opened: Opened) -> Server {
        Server {
            durable: opened.report().last_zxid,
            store: opened.into_store().unwrap(),
            ring: Ring::new().unwrap(),
            room: LogRoom::Ample,
            troubles: Vec::new(),
            failed: None,
        }
    }

    /// Until nothing is under way and nothing new is to be done.
    fn settle(&mut self) {
        let (mut ops, mut completed, mut out) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            self.store.poll_ops(&mut ops);
            if ops.is_empty() && self.ring.in_flight() == 0 {
                return;
            }
            self.ring.submit(&mut ops);
            self.ring.wait();
            self.ring.completions(&mut completed);
            for event in completed.drain(..) {
                self.store.on_event(event, &mut out);
            }
            for event in out.drain(..) {
                match event {
                    StoreEvent::Durable(zxid) => {
                        assert!(self.failed.is_none() && zxid > self.durable, "{zxid} after {}", self.durable);
                        self.durable = zxid;
                    }
                    StoreEvent::Room(room) => self.room = room,
                    StoreEvent::Trouble(text) => self.troubles.push(text),
                    StoreEvent::Failed(error) => assert!(self.failed.replace(error).is_none(), "told once"),
                    _ => {}
                }
            }
        }
    }

    fn append(&mut self, zxid: u64) {
        self.store.append(Zxid(zxid), &record(zxid));
        self.settle();
    }
}

fn config(directory: &Path) -> StoreConfig {
    StoreConfig {
        segment_bytes: 4 << 20,
        batch_bytes_max: 256 << 10,
        reserve_bytes: 1 << 20,
        ..StoreConfig::new(directory, directory)
    }
}

fn record(zxid: u64) -> Vec<u8> {
    (0..100_000).map(|at| (zxid as usize + at) as u8 | 1).collect()
}

/// Everything up to here, or further.
fn assert_holds(directory: &Path, acknowledged: Zxid) -> Opened {
    let mut opened = open(config(directory)).unwrap();
    let mut next = 1;
    opened
        .replay(|zxid, payload| {
            assert!(zxid == Zxid(next) && payload == record(next), "{zxid}");
            next += 1;
        })
        .unwrap();
    assert!(next > acknowledged.0, "{} of {acknowledged} acknowledged", next - 1);
    opened
}

#[test]
fn a_full_file_system_shrinks_the_room_and_loses_nothing() {
    for file_system in FileSystem::ALL {
        let what = format!("a full {file_system:?}");
        let disk = match SmallDisk::mount(file_system, file_system.least_mebibytes()) {
            Ok(disk) => disk,
            Err(why) => {
                skipped(&what, &why);
                continue;
            }
        };
        let directory = disk.root().join("data");
        let opened = open(config(&directory)).unwrap();
        let facts = opened.facts().log.clone();
        assert_eq!(facts.volatile, file_system == FileSystem::Tmpfs, "{facts:?}");
        let mut server = Server::start(opened);
        server.append(1);
        let filling = disk.fill();
        let mut last = 1;
        while server.room != LogRoom::None && server.failed.is_none() {
            last += 1;
            assert!(last < 200, "{what}: never full");
            server.append(last);
        }
        // Where overwriting takes new blocks, a full file system fails the log itself: said, nothing acknowledged, ended.
        if let Some(error) = server.failed.take() {
            assert_eq!(file_system, FileSystem::Btrfs, "{error}");
            assert!(error.to_string().contains("takes no more writes"), "{error}");
        } else {
            assert!(last > 20 && server.durable == Zxid(last), "{what}: written as far as there were blocks: {last}");
            assert!(server.troubles[0].contains("could not be prepared"), "{:?}", server.troubles);
            std::fs::remove_file(&filling).unwrap();
            server.store.retry();
            server.settle();
            assert_eq!(server.room, LogRoom::Ample, "{what}");
            for zxid in last + 1..last + 60 {
                server.append(zxid);
                assert_eq!(server.durable, Zxid(zxid), "{what}");
            }
        }
        println!("{what}: after {last} records of 100 kB, {} in the end", server.durable.0);
        let acknowledged = server.durable;
        drop(server);
        let _ = std::fs::remove_file(&filling);
        assert_holds(&directory, acknowledged);
    }
}

/// Blocks that the file system believes to have, and the storage below it has no room for.
#[test]
fn storage_that_runs_dry_under_the_file_system_ends_the_log() {
    let mut disk = match SmallDisk::mount_thin(128, 48) {
        Ok(disk) => disk,
        Err(why) => return skipped("thin storage", &why),
    };
    let directory = disk.root().join("data");
    let mut server = Server::start(open(config(&directory)).unwrap());
    (1..=5).for_each(|zxid| server.append(zxid));
    let filling = match disk.starve() {
        Ok(filling) => filling,
        Err(why) => return skipped("thin storage", &why),
    };
    let mut last = 5;
    while server.failed.is_none() {
        last += 1;
        assert!(last < 200, "never dry");
        server.append(last);
    }
    let text = server.failed.as_ref().unwrap().to_string();
    assert!(text.contains(".seg: write failed") && text.contains("takes no more writes"), "{text}");
    assert_eq!(server.durable, Zxid(last - 1), "what failed was not acknowledged, all before it was");
    server.append(last + 1);
    assert_eq!(server.durable, Zxid(last - 1), "nor anything later");
    println!("dry after {last} records: {text}");
    drop(server);
    std::fs::remove_file(filling).unwrap();
    disk.mount_again("errors=remount-ro").unwrap();
    let mut server = Server::start(assert_holds(&directory, Zxid(last - 1)));
    let next = server.durable.0 + 1;
    server.append(next);
    assert_eq!(server.durable, Zxid(next));
}

#[test]
fn a_file_system_that_turns_read_only_ends_the_log() {
    let mut disk = match SmallDisk::mount(FileSystem::Ext4, 64) {
        Ok(disk) => disk,
        Err(why) => return skipped("read-only by an error", &why),
    };
    let directory = disk.root().join("data");
    let mut server = Server::start(open(config(&directory)).unwrap());
    (1..=5).for_each(|zxid| server.append(zxid));
    if let Err(why) = disk.make_read_only_by_error() {
        return skipped("read-only by an error", &why);
    }
    server.append(6);
    let text = server.failed.as_ref().expect("told").to_string();
    assert!(text.contains(".seg: ") && text.contains("Read-only file system"), "{text}");
    server.append(7);
    assert_eq!(server.durable, Zxid(5));
    drop(server);
    disk.mount_again("errors=remount-ro").unwrap();
    assert_holds(&directory, Zxid(5));
}

#[test]
fn a_read_only_file_system_is_refused_at_the_start_and_says_so() {
    let mut disk = match SmallDisk::mount(FileSystem::Ext4, 64) {
        Ok(disk) => disk,
        Err(why) => return skipped("a read-only start", &why),
    };
    let directory = disk.root().join("data");
    let mut server = Server::start(open(config(&directory)).unwrap());
    server.append(1);
    drop(server);
    disk.mount_again("ro").unwrap();
    for directory in [&directory, &disk.root().join("new")] {
        let error = open(config(directory)).unwrap_err();
        assert!(matches!(error, StoreError::ReadOnly { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(directory.to_str().unwrap()) && text.contains("Read-only file system"), "{text}");
    }
    disk.mount_again("rw").unwrap();
    assert_holds(&directory, Zxid(1));
}
