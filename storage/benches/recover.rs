//! What a start costs before the first request: finding the end of the log and reading its records, on a disk in memory, so
//! that what is measured is the thinking and the checksums.
//!
//! Estimate first: a record of 200 bytes is 10 ns of checksum (20 GB/s), 20 ns of copying out of the disk and some bounds
//! checks, twice (once to find the end, once to replay): 5 million records a second each way. Blocks of zeroes behind the end
//! cost a comparison each, about 10 GB/s, and only up to the segment's mark.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ringkeeper_storage::backend::memory::MemoryDisk;
use ringkeeper_storage::disk::Disk;
use ringkeeper_storage::{Opened, Store, StoreConfig, StoreEvent, Zxid, open_on};

const RECORD: [u8; 200] = [7; 200];

fn config() -> StoreConfig {
    StoreConfig { segment_bytes: 8 << 20, ..StoreConfig::new("/data", "/data") }
}

fn open(disk: MemoryDisk) -> Opened<MemoryDisk> {
    open_on(disk, config()).unwrap()
}

/// Carries out everything that is due.
fn work(store: &mut Store, disk: &mut MemoryDisk, events: &mut Vec<StoreEvent>) {
    let mut ops = Vec::new();
    loop {
        store.poll_ops(&mut ops);
        if ops.is_empty() {
            return;
        }
        for op in ops.drain(..) {
            store.on_event(disk.run(op), events);
        }
    }
}

/// A disk whose log holds so many records, so many in each batch.
fn written(records: u64, per_batch: u64) -> MemoryDisk {
    let (mut store, mut disk) = open(MemoryDisk::default()).into_store_and_disk().unwrap();
    let mut events = Vec::new();
    for zxid in 1..=records {
        store.append(Zxid(zxid), &RECORD);
        if zxid % per_batch == 0 {
            work(&mut store, &mut disk, &mut events);
        }
    }
    work(&mut store, &mut disk, &mut events);
    assert!(store.is_idle() && !events.iter().any(|event| matches!(event, StoreEvent::Failed(_))));
    disk.end_process();
    disk
}

fn recover(c: &mut Criterion) {
    // Under `cargo test` there is no `--bench`, and a glance must do.
    let records = if std::env::args().any(|argument| argument == "--bench") { 100_000 } else { 300 };
    let mut group = c.benchmark_group("recover, 200-byte records");
    group.throughput(Throughput::Elements(records));
    for per_batch in [1, 16, 300] {
        let disk = written(records, per_batch);
        group.bench_function(format!("open, {per_batch} a batch"), |bencher| {
            bencher.iter_batched(
                || disk.clone(),
                |disk| {
                    let opened = open(disk);
                    assert_eq!(opened.report().last_zxid, Zxid(records));
                    opened
                },
                BatchSize::LargeInput,
            );
        });
        group.bench_function(format!("replay, {per_batch} a batch"), |bencher| {
            bencher.iter_batched(
                || open(disk.clone()),
                |mut opened| {
                    let mut bytes = 0;
                    opened.replay(|_, record| bytes += black_box(record).len()).unwrap();
                    assert_eq!(bytes, records as usize * RECORD.len());
                    opened
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2)).sample_size(20);
    targets = recover
}
criterion_main!(benches);
