//! Snapshots on a real disk, mapped: the same as from memory, damage that shows in service is set aside for the next start,
//! and figures for large ones (`--ignored --nocapture`, in a release build).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ringkeeper_storage::backend::blocking::BlockingDisk;
use ringkeeper_storage::backend::view::FileView;
use ringkeeper_storage::disk::{Buffer, Disk};
use ringkeeper_storage::{
    DIRECTORY, NO_SLOT, NodeImage, Opened, SnapshotChunk, SnapshotError, SnapshotFile, SnapshotHeader, Store,
    StoreConfig, StoreError, StoreEvent, Zxid, open, open_snapshot,
};

/// A store whose operations are carried out one after another.
struct Server {
    store: Store,
    disk: BlockingDisk,
    events: Vec<StoreEvent>,
}

impl Server {
    fn start(config: StoreConfig) -> Server {
        let (store, disk) = open(config).unwrap().into_store_and_disk().unwrap();
        Server { store, disk, events: Vec::new() }
    }

    fn work(&mut self) {
        let mut ops = Vec::new();
        loop {
            self.store.poll_ops(&mut ops);
            if ops.is_empty() {
                return;
            }
            for op in ops.drain(..) {
                let event = self.disk.run(op);
                self.store.on_event(event, &mut self.events);
            }
        }
    }

    fn snapshot(&mut self, header: SnapshotHeader, mut next_chunk: impl FnMut() -> Option<SnapshotChunk>) {
        let zxid = Zxid(header.zxid);
        self.store.begin_snapshot(header);
        loop {
            self.work();
            self.store.give_snapshot_turn(&mut self.events);
            for event in std::mem::take(&mut self.events) {
                match event {
                    StoreEvent::SnapshotRoom { .. } => match next_chunk() {
                        Some(chunk) => self.store.snapshot_chunk(chunk),
                        None => self.store.finish_snapshot(),
                    },
                    StoreEvent::SnapshotEnded(result) => {
                        assert_eq!(result.unwrap().zxid, zxid);
                        return;
                    }
                    StoreEvent::Failed(error) => panic!("{error}"),
                    _ => {}
                }
            }
        }
    }
}

fn node(slot: u32, data_bytes: usize) -> NodeImage {
    NodeImage {
        slot,
        parent: slot / 100,
        first_child: NO_SLOT,
        next_sibling: NO_SLOT,
        prev_sibling: NO_SLOT,
        child_count: 0,
        content_crc: 0,
        name: format!("node-{slot:010}").into(),
        data: Some(vec![slot as u8; data_bytes]),
        acl: 0,
        czxid: 1,
        mzxid: 2,
        pzxid: 3,
        ctime: 4,
        mtime: 5,
        version: 6,
        cversion: 7,
        aversion: 8,
        ephemeral_owner: 0,
    }
}

fn header(zxid: u64, nodes: u32) -> SnapshotHeader {
    SnapshotHeader {
        zxid,
        tree_digest: 99,
        node_count: nodes.into(),
        slot_count: nodes,
        data_bytes: 0,
        acls: Vec::new(),
        sessions: Vec::new(),
    }
}

/// Nodes `0..nodes`, so many in a chunk.
fn walk(nodes: u32, a_chunk: u32, data_bytes: usize) -> impl FnMut() -> Option<SnapshotChunk> {
    let mut next = 0;
    move || {
        let slots = next..(next + a_chunk).min(nodes);
        next = slots.end;
        let chunk = |slots: std::ops::Range<u32>| SnapshotChunk {
            nodes: slots.clone().map(|slot| node(slot, data_bytes)).collect(),
            slots: Some(slots),
        };
        (!slots.is_empty()).then(|| chunk(slots))
    }
}

fn config(directory: &Path) -> StoreConfig {
    StoreConfig { segment_bytes: 1 << 20, batch_bytes_max: 64 << 10, ..StoreConfig::new(directory, directory) }
}

/// As a server with more than fits a look at everything.
fn as_large(directory: &Path) -> StoreConfig {
    StoreConfig { snapshot_checked_bytes: 0, ..config(directory) }
}

fn path(directory: &Path, zxid: u64) -> PathBuf {
    directory.join(DIRECTORY).join(format!("snapshot-{zxid:016x}.rks"))
}

/// 30 records, snapshots of 5000 nodes at 10 and 20.
fn with_snapshots(directory: &Path) {
    let mut server = Server::start(StoreConfig { snapshot_run_nodes: 2000, ..config(directory) });
    for zxid in 1..=30 {
        server.store.append(Zxid(zxid), b"record");
        server.work();
        if zxid == 10 || zxid == 20 {
            server.snapshot(header(zxid, 5000), walk(5000, 300, 100));
        }
    }
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn records(opened: &mut Opened) -> usize {
    let mut records = 0;
    opened.replay(|_, _| records += 1).unwrap();
    records
}

#[test]
fn mapped_or_in_memory_is_the_same() {
    let directory = tempfile::tempdir().unwrap();
    with_snapshots(directory.path());
    let mut buffer = Buffer::with_capacity(1);
    buffer.extend_from_slice(&fs::read(path(directory.path(), 20)).unwrap());
    let owned = SnapshotFile::new(FileView::owned(buffer), Zxid(20)).unwrap();
    let mapped = open_snapshot(&path(directory.path(), 20)).unwrap();
    assert!(owned.manifest() == mapped.manifest() && owned.manifest().children.len() == 3);
    let opened = open(as_large(directory.path())).unwrap();
    let source = opened.snapshot_source().unwrap();
    drop(opened.into_store().unwrap());
    for slot in 0..5002 {
        source.passed(slot);
        let expected = (slot < 5000).then(|| node(slot, 100));
        assert_eq!(source.node(slot).unwrap().map(|node| node.to_image()), expected);
        assert_eq!(mapped.node(slot).unwrap(), owned.node(slot).unwrap());
        let name = format!("node-{slot:010}");
        let candidates = [&mapped, &owned].map(|file| {
            let mut candidates = Vec::new();
            let mut take = |slot| {
                candidates.push(slot);
                false
            };
            file.children_named(slot / 100, &name, &mut take).unwrap();
            candidates
        });
        assert!(candidates[0] == candidates[1] && candidates[0].contains(&slot) == (slot < 5000));
    }
}

#[test]
fn damage_found_in_service_is_set_aside_and_the_next_start_does_without_it() {
    for by_name in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        with_snapshots(directory.path());
        let whole = open_snapshot(&path(directory.path(), 20)).unwrap();
        let at = if by_name { whole.manifest().children[0].at } else { whole.manifest().chunks[3].at } as usize + 3000;
        drop(whole);
        flip(&path(directory.path(), 20), at);

        // A small one is passed over at once, and left alone.
        let opened = open(config(directory.path())).unwrap();
        assert_eq!(opened.snapshot_header().unwrap().zxid, 10);
        drop(opened);

        let opened = open(as_large(directory.path())).unwrap();
        assert_eq!(opened.snapshot_header().unwrap().zxid, 20);
        let source = opened.snapshot_source().unwrap();
        let store = opened.into_store().unwrap();
        let mut failed = None;
        for slot in 0..5000 {
            let mut looked = source.node(slot).map(|found| found.map(|node| node.to_image()));
            if by_name {
                let name = format!("node-{slot:010}");
                let named = source.children_named(slot / 100, &name, &mut |found| found == slot);
                looked = named.and(looked);
            }
            match looked {
                Ok(found) => assert_eq!(found, Some(node(slot, 100))),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        let error = failed.expect("damage is found");
        assert!(matches!(error, SnapshotError::DamagedInService { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("checksum mismatch; it was set aside as snapshot-0000000000000014.damaged"), "{text}");
        assert!(text.contains("a restart uses an older snapshot"), "{text}");
        // Still mapped: what was sound can be read, what was not stays refused.
        assert_eq!(source.node(0).unwrap().unwrap().to_image(), node(0, 100));
        drop((source, store));

        let mut opened = open(as_large(directory.path())).unwrap();
        assert_eq!((opened.snapshot_header().unwrap().zxid, records(&mut opened)), (10, 20));
        let notes = opened.report().notes.clone();
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(
            notes[0].contains("snapshot-0000000000000014.damaged (") && notes[0].contains("delete it"),
            "{notes:?}"
        );
        assert!(notes[0].contains("using snapshot 0xa, and the log from there on holds everything"), "{notes:?}");
        drop(opened);

        // A newer snapshot makes it mere space, and says so.
        let mut server = Server::start(as_large(directory.path()));
        server.snapshot(header(30, 5000), walk(5000, 300, 100));
        server.store.purge(3);
        server.work();
        drop(server);
        assert!(path(directory.path(), 20).with_extension("damaged").exists());
        let opened = open(as_large(directory.path())).unwrap();
        assert_eq!(opened.snapshot_header().unwrap().zxid, 30);
        let notes = &opened.report().notes;
        assert!(notes.len() == 1 && !notes[0].contains("using"), "{notes:?}");
    }
}

#[test]
fn what_its_reader_condemns_is_set_aside_like_what_is_damaged() {
    let directory = tempfile::tempdir().unwrap();
    with_snapshots(directory.path());
    let opened = open(config(directory.path())).unwrap();
    let source = opened.snapshot_source().unwrap();
    assert_eq!(source.header().zxid, 20);
    let text = source.condemn("slot 5 is its own parent".to_owned()).to_string();
    assert!(text.contains("slot 5 is its own parent; it was set aside as snapshot-0000000000000014.damaged"), "{text}");
    drop((source, opened));
    let mut opened = open(config(directory.path())).unwrap();
    assert_eq!((opened.snapshot_header().unwrap().zxid, records(&mut opened)), (10, 20));
}

#[test]
fn with_nothing_to_fall_back_to_a_set_aside_snapshot_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(config(directory.path()));
    for zxid in 1..=2000 {
        server.store.append(Zxid(zxid), &[7; 2000]);
        server.work();
    }
    server.snapshot(header(2000, 5000), walk(5000, 300, 100));
    let first_segment = directory.path().join(DIRECTORY).join("log-0000000000000001.seg");
    let mut purges = 0;
    while first_segment.exists() {
        server.store.purge(1); // released segments wait for a while to be used again
        server.work();
        purges += 1;
        assert!(purges < 50);
    }
    drop(server);
    flip(&path(directory.path(), 2000), 5000);
    let opened = open(as_large(directory.path())).unwrap();
    let source = opened.snapshot_source().unwrap();
    drop(opened);
    assert!(source.node(0).is_err());
    let Err(error) = open(as_large(directory.path())) else { panic!("opened without its snapshot") };
    assert!(matches!(error, StoreError::Snapshot(SnapshotError::NoneUsable { .. })), "{error}");
    assert!(error.to_string().contains("snapshot-00000000000007d0.damaged ("), "{error}");
}

#[test]
fn a_snapshot_that_cannot_be_set_aside_says_how_to() {
    let directory = tempfile::tempdir().unwrap();
    with_snapshots(directory.path());
    flip(&path(directory.path(), 20), 100);
    let opened = open(as_large(directory.path())).unwrap();
    let source = opened.snapshot_source().unwrap();
    fs::remove_file(path(directory.path(), 20)).unwrap();
    let text = source.node(0).unwrap_err().to_string();
    assert!(text.contains("could not be set aside") && text.contains("move it out of the directory"), "{text}");
}

#[test]
fn a_file_is_opened_by_its_path_and_refused_by_its_name() {
    let directory = tempfile::tempdir().unwrap();
    with_snapshots(directory.path());
    let (good, aside) = (path(directory.path(), 20), path(directory.path(), 10).with_extension("damaged"));
    fs::rename(path(directory.path(), 10), &aside).unwrap();
    for (path, zxid) in [(&good, 20), (&aside, 10)] {
        let file = open_snapshot(path).unwrap();
        assert_eq!(file.zxid(), Zxid(zxid));
        let mut nodes = 0;
        file.for_each_node(|_| nodes += 1).unwrap();
        let mut bytes = 0;
        file.verify(|part| bytes += part).unwrap();
        assert!(nodes == 5000 && bytes > 5000 * 200 && bytes < file.file_bytes());
    }
    fs::rename(&good, good.with_file_name("snapshot-20.rks")).unwrap();
    let text = open_snapshot(&good.with_file_name("snapshot-20.rks")).unwrap_err().to_string();
    assert!(text.contains("snapshot-20.rks: not named as a snapshot"), "{text}");
    let text = open_snapshot(&good).unwrap_err().to_string();
    assert!(text.contains("open failed"), "{text}");
}

/// What this thread has used of its CPU so far: wall time says little on a machine that others use.
fn cpu() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// Estimate: a node takes 112 bytes, its name, its data and 8 in the directory, 250 bytes with 100 of data; index 12 more.
/// Opening reads the manifest: 32 bytes for each 64 KiB, so 1 MB for 10,000,000 nodes, some milliseconds.
#[test]
#[ignore = "figures, for a quiet machine: cargo test --release --test snapshot_mapped -- --ignored --nocapture"]
fn figures() {
    let directory = std::env::var_os("SNAPSHOT_FIGURES_IN").map_or_else(std::env::temp_dir, PathBuf::from);
    for nodes in [1_000_000, 10_000_000] {
        let directory = tempfile::tempdir_in(&directory).unwrap();
        let mut server = Server::start(config(directory.path()));
        server.store.append(Zxid(1), b"record");
        server.work();
        let mut chunks = walk(nodes, 360, 100);
        let (mut gathering, mut gathering_cpu) = (Duration::ZERO, Duration::ZERO);
        let (started, started_cpu) = (Instant::now(), cpu());
        server.snapshot(header(1, nodes), || {
            let (started, started_cpu) = (Instant::now(), cpu());
            let chunk = chunks();
            (gathering, gathering_cpu) = (gathering + started.elapsed(), gathering_cpu + cpu() - started_cpu);
            chunk
        });
        let (writing, writing_cpu) = (started.elapsed() - gathering, cpu() - started_cpu - gathering_cpu);
        drop(server);
        let each = |time: Duration| time.as_nanos() / u128::from(nodes);
        let bytes = fs::metadata(path(directory.path(), 1)).unwrap().len();
        println!("{nodes} nodes: {} bytes each", bytes / u64::from(nodes));
        println!("  written in {writing:?}, {} ns of CPU a node, without the time to make them", each(writing_cpu));
        for run in ["cold", "warm"] {
            if run == "cold" {
                // Needs no privilege: drops the pages of this one file.
                let file = fs::File::open(path(directory.path(), 1)).unwrap();
                rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
            }
            let started = Instant::now();
            let opened = open(config(directory.path())).unwrap();
            let source = opened.snapshot_source().unwrap();
            let opening = started.elapsed();
            let slot = nodes / 3 * 2;
            let mut found = None;
            let name = format!("node-{slot:010}");
            let take = &mut |candidate| {
                found = source.node(candidate).unwrap().filter(|node| node.name == name).map(|node| node.slot);
                found.is_some()
            };
            source.children_named(slot / 100, &name, take).unwrap();
            assert_eq!(found, Some(slot));
            println!("  {run}: opened after {opening:?}, first lookup by name after {:?}", started.elapsed());
            let (started, started_cpu) = (Instant::now(), cpu());
            let mut bytes = 0;
            for slot in 0..nodes {
                if slot % 1000 == 0 {
                    source.passed(slot);
                }
                bytes += source.node(slot).unwrap().unwrap().data.unwrap().len();
            }
            assert_eq!(bytes, nodes as usize * 100);
            let (reading, reading_cpu) = (started.elapsed(), cpu() - started_cpu);
            println!("  {run}: all read in {reading:?}, {} ns of CPU a node", each(reading_cpu));
            let started_cpu = cpu();
            for slot in (0..nodes).step_by(97) {
                let mut found = false;
                let take = &mut |candidate| {
                    found |= candidate == slot;
                    found
                };
                source.children_named(slot / 100, &format!("node-{slot:010}"), take).unwrap();
                assert!(found);
            }
            println!("  {run}: {} ns of CPU a lookup by name", each(cpu() - started_cpu) * 97);
        }
    }
}
