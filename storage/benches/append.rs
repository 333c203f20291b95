//! What the log costs the thread that appends: CPU per record and per batch, without a disk behind it.
//!
//! Estimate first: a record is one copy of its bytes plus a few bounds checks, about 15 ns for 200 bytes; sealing a batch is
//! one crc32c pass (10-20 GB/s) plus padding, so 64 KiB is some 5 us; a batch of one record is its 4 KiB of padding and the way
//! through the store, some 300 ns.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringkeeper_storage::backend::memory::MemoryDisk;
use ringkeeper_storage::disk::{Action, DiskEvent, DiskOp};
use ringkeeper_storage::{Store, StoreConfig, Zxid, open_on};

fn store() -> Store {
    let config = StoreConfig::new("/data", "/data");
    let (mut store, mut disk) = open_on(MemoryDisk::default(), config).unwrap().into_store_and_disk().unwrap();
    // Let it open its files and prepare the next segment for real, then pretend.
    let (mut ops, mut out) = (Vec::new(), Vec::new());
    loop {
        store.poll_ops(&mut ops);
        if ops.is_empty() {
            return store;
        }
        for op in ops.drain(..) {
            store.on_event(ringkeeper_storage::disk::Disk::run(&mut disk, op), &mut out);
        }
    }
}

/// Every operation succeeds at once.
fn succeed(DiskOp { id, action }: DiskOp) -> DiskEvent {
    let (bytes, buffer) = match action {
        Action::Write { buffer, .. } => (buffer.len() as u64, Some(buffer)),
        Action::WriteZeroes { bytes, .. } => (bytes, None),
        _ => (0, None),
    };
    DiskEvent { id, result: Ok(bytes), buffer, elapsed_us: 0 }
}

fn append(c: &mut Criterion) {
    let record = [7u8; 200];
    let mut group = c.benchmark_group("append, 200-byte records");
    for per_batch in [1u64, 16, 300] {
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("{per_batch} a batch"), |bencher| {
            let mut store = store();
            let mut zxid = 0;
            let (mut ops, mut out) = (Vec::new(), Vec::new());
            bencher.iter_custom(|count| {
                let started = Instant::now();
                let mut done = 0;
                while done < count {
                    for _ in 0..per_batch.min(count - done) {
                        zxid += 1;
                        store.append(Zxid(zxid), black_box(&record));
                    }
                    done += per_batch;
                    store.poll_ops(&mut ops);
                    while let Some(op) = ops.pop() {
                        store.on_event(succeed(op), &mut out);
                        store.poll_ops(&mut ops);
                    }
                    black_box(&out);
                    out.clear();
                }
                started.elapsed()
            });
        });
    }
    group.finish();
}

/// A whole batch: records in, one sealed write out, and its answer. Bytes are those of the records.
fn batch(c: &mut Criterion) {
    let mut group = c.benchmark_group("a batch, encoded and sealed");
    for (name, records, bytes) in [("4 KiB", 15, 250), ("64 KiB", 250, 250), ("1 MiB", 1_000, 1_024)] {
        let record = vec![7u8; bytes];
        group.throughput(Throughput::Bytes(records * bytes as u64));
        group.bench_function(name, |bencher| {
            let mut store = store();
            let mut zxid = 0;
            let (mut ops, mut out) = (Vec::new(), Vec::new());
            bencher.iter(|| {
                for _ in 0..records {
                    zxid += 1;
                    store.append(Zxid(zxid), black_box(&record));
                }
                store.poll_ops(&mut ops);
                while let Some(op) = ops.pop() {
                    store.on_event(succeed(op), &mut out);
                    store.poll_ops(&mut ops);
                }
                black_box(&out);
                out.clear();
            });
        });
    }
    group.finish();
}

/// The checksum of every batch and chunk, on its own.
fn crc(c: &mut Criterion) {
    let mut group = c.benchmark_group("crc32c");
    for bytes in [200, 4 << 10, 64 << 10, 1 << 20] {
        let data = vec![7u8; bytes];
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("{bytes} bytes"), |bencher| bencher.iter(|| crc32c::crc32c(black_box(&data))));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(20);
    targets = append, batch, crc
}
criterion_main!(benches);
