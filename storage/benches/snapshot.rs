//! A snapshot from both ends: encoding and writing its chunks, and opening the file, finding the first node, reading the rest.
//!
//! Written through the store onto a disk that does nothing (the CPU alone) and onto a real one in the temporary directory;
//! read from that real file, mapped, with its pages in memory.
//!
//! Estimate first, a node of 100 bytes of data taking some 250 in the file: encoding 100 ns a node, of which 25 are the checksum;
//! a real disk of 2 GB/s adds as much. Opening reads the manifest alone, 32 bytes for each 64 KiB of nodes: 50 us and 10 ns a
//! thousand nodes. The first lookup by name checks one bucket of the index and one chunk: 20 us. Reading all nodes in order is
//! 50 ns each, a lookup by name of a chunk checked before 200 ns.

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ringkeeper_storage::backend::blocking::BlockingDisk;
use ringkeeper_storage::backend::memory::MemoryDisk;
use ringkeeper_storage::disk::{Action, Disk, DiskEvent, DiskOp};
use ringkeeper_storage::{
    DIRECTORY, NO_SLOT, NodeImage, SnapshotChunk, SnapshotFile, SnapshotHeader, Store, StoreConfig, StoreEvent, Zxid,
    open, open_on, open_snapshot,
};

const CHILDREN: u32 = 100;
const NODES_A_CHUNK: usize = 360;
const ZXID: u64 = 1;

/// Under `cargo test` there is no `--bench`, and a glance must do.
fn nodes() -> u32 {
    if std::env::args().any(|argument| argument == "--bench") { 200_000 } else { 2_000 }
}

fn node(slot: u32) -> NodeImage {
    NodeImage {
        slot,
        parent: slot / CHILDREN,
        first_child: NO_SLOT,
        next_sibling: NO_SLOT,
        prev_sibling: NO_SLOT,
        child_count: 0,
        content_crc: 0,
        name: name(slot).into(),
        data: Some(vec![slot as u8; 100]),
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

fn name(slot: u32) -> String {
    format!("node-{slot:010}")
}

fn header(nodes: u32) -> SnapshotHeader {
    SnapshotHeader {
        zxid: ZXID,
        tree_digest: 99,
        node_count: nodes.into(),
        slot_count: nodes,
        data_bytes: 0,
        acls: Vec::new(),
        sessions: Vec::new(),
    }
}

fn chunks(nodes: u32) -> Vec<SnapshotChunk> {
    let slots: Vec<u32> = (0..nodes).collect();
    let chunk = |slots: &[u32]| SnapshotChunk {
        nodes: slots.iter().map(|slot| node(*slot)).collect(),
        slots: Some(slots[0]..slots[slots.len() - 1] + 1),
    };
    slots.chunks(NODES_A_CHUNK).map(chunk).collect()
}

/// A store with a record in its log, for a snapshot to stand on.
fn store<D: Disk>(disk: D, config: StoreConfig) -> (Store, D) {
    with_a_record(open_on(disk, config).unwrap().into_store_and_disk().unwrap())
}

fn with_a_record<D: Disk>((mut store, mut disk): (Store, D)) -> (Store, D) {
    store.append(Zxid(ZXID), b"record");
    work(&mut store, &mut Vec::new(), |op| disk.run(op));
    (store, disk)
}

fn work(store: &mut Store, events: &mut Vec<StoreEvent>, mut run: impl FnMut(DiskOp) -> DiskEvent) {
    let mut ops = Vec::new();
    loop {
        store.poll_ops(&mut ops);
        if ops.is_empty() {
            return;
        }
        for op in ops.drain(..) {
            store.on_event(run(op), events);
        }
    }
}

fn write(store: &mut Store, nodes: u32, chunks: Vec<SnapshotChunk>, mut run: impl FnMut(DiskOp) -> DiskEvent) -> u64 {
    let mut chunks = chunks.into_iter();
    let mut events = Vec::new();
    store.begin_snapshot(header(nodes));
    loop {
        work(store, &mut events, &mut run);
        store.give_snapshot_turn(&mut events);
        for event in std::mem::take(&mut events) {
            match event {
                StoreEvent::SnapshotRoom { .. } => match chunks.next() {
                    Some(chunk) => store.snapshot_chunk(chunk),
                    None => store.finish_snapshot(),
                },
                StoreEvent::SnapshotEnded(done) => return done.unwrap().bytes,
                StoreEvent::Failed(error) => panic!("{error}"),
                _ => {}
            }
        }
    }
}

/// Every operation succeeds at once, and nothing is kept.
fn succeed(DiskOp { id, action }: DiskOp) -> DiskEvent {
    let (bytes, buffer) = match action {
        Action::Write { buffer, .. } => (buffer.len() as u64, Some(buffer)),
        Action::WriteZeroes { bytes, .. } => (bytes, None),
        _ => (0, None),
    };
    DiskEvent { id, result: Ok(bytes), buffer, elapsed_us: 0 }
}

fn writing(c: &mut Criterion) {
    let nodes = nodes();
    let mut group = c.benchmark_group("snapshot, written");
    group.throughput(Throughput::Elements(nodes.into()));
    group.bench_function("to nowhere", |bencher| {
        bencher.iter_batched(
            || (store(MemoryDisk::default(), StoreConfig::new("/data", "/data")).0, chunks(nodes)),
            |(mut store, chunks)| write(&mut store, nodes, chunks, succeed),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("to a real disk", |bencher| {
        bencher.iter_batched(
            || {
                let directory = tempfile::tempdir().unwrap();
                (on_real_disk(directory.path()), chunks(nodes), directory)
            },
            |((mut store, mut disk), chunks, directory)| {
                let bytes = write(&mut store, nodes, chunks, |op| disk.run(op));
                assert_eq!(bytes, fs::metadata(file_in(directory.path())).unwrap().len());
                directory // removed outside of the measurement
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn on_real_disk(directory: &Path) -> (Store, BlockingDisk) {
    let config =
        StoreConfig { segment_bytes: 1 << 20, batch_bytes_max: 64 << 10, ..StoreConfig::new(directory, directory) };
    with_a_record(open(config).unwrap().into_store_and_disk().unwrap())
}

fn file_in(directory: &Path) -> PathBuf {
    directory.join(DIRECTORY).join(format!("snapshot-{ZXID:016x}.rks"))
}

fn look_up(file: &SnapshotFile, slot: u32) {
    let mut found = None;
    let name = name(slot);
    let mut take = |candidate| {
        found = file.node(candidate).unwrap().filter(|node| node.name == name).map(|node| node.slot);
        found.is_some()
    };
    file.children_named(slot / CHILDREN, &name, &mut take).unwrap();
    assert_eq!(found, Some(slot));
}

fn reading(c: &mut Criterion) {
    let nodes = nodes();
    let directory = tempfile::tempdir().unwrap();
    let (mut store, mut disk) = on_real_disk(directory.path());
    write(&mut store, nodes, chunks(nodes), |op| disk.run(op));
    let path = file_in(directory.path());
    let mut group = c.benchmark_group(format!("snapshot of {nodes} nodes, read"));

    group.bench_function("map and open", |bencher| bencher.iter(|| open_snapshot(&path).unwrap()));
    group.bench_function("map, open and first lookup by name", |bencher| {
        bencher.iter(|| look_up(&open_snapshot(&path).unwrap(), nodes / 3 * 2));
    });
    let file = open_snapshot(&path).unwrap();
    group.bench_function("node by slot, at random", |bencher| {
        let mut slot = 0;
        bencher.iter(|| {
            slot = (slot + 7_919) % nodes;
            black_box(file.node(slot).unwrap().unwrap().data);
        });
    });
    group.bench_function("node by name, at random", |bencher| {
        let mut slot = 0;
        bencher.iter(|| {
            slot = (slot + 7_919) % nodes;
            look_up(&file, slot);
        });
    });
    group.throughput(Throughput::Elements(nodes.into()));
    group.bench_function("every node, in order, checked anew", |bencher| {
        bencher.iter(|| {
            let file = open_snapshot(&path).unwrap();
            let bytes: usize = (0..nodes).map(|slot| file.node(slot).unwrap().unwrap().data.unwrap().len()).sum();
            assert_eq!(bytes, nodes as usize * 100);
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2)).sample_size(10);
    targets = writing, reading
}
criterion_main!(benches);
