//! A log of several segments, damaged byte by byte in every way there is, and what the table of `log/recover.rs` says about
//! each: kept, cut as a torn tail, or refused with file, byte and reason. `expected` is that table once more, worked out from
//! the bytes before and after; nothing here ever loses an acknowledged record silently, shows one that was not written, or panics.
//!
//! `RINGKEEPER_TEST_FULL=1` takes every offset and every bit.

mod rig;

use std::collections::BTreeMap;

use rig::bytes::{
    self, BATCH_HEADER_BYTES, BLOCK, BatchAt, FIRST_BATCH_AT, batches, batches_in, segment, segment_name,
};
use rig::power::full;
use rig::{Rig, SharedDisk, payload, replayed};
use ringkeeper_storage::backend::memory::Chance;
use ringkeeper_storage::{Damage, LogError, StoreConfig, StoreError, Zxid};

fn config() -> StoreConfig {
    StoreConfig {
        segment_bytes: 32 << 10,
        batch_bytes_max: 8 << 10,
        reserve_bytes: 8 << 10,
        mark_bytes: 8 << 10,
        batches_in_flight: 1,
        ..StoreConfig::new("/data", "/data")
    }
}

/// Three segments of batches of one and two blocks, each acknowledged before the next, and one segment ready; then the power fails.
struct Log {
    disk: SharedDisk,
    batches: Vec<BatchAt>,
    segments: Vec<u64>,
    last: u64,
    life: u64,
}

impl Log {
    fn written() -> Log {
        Log::of_life(0, |batch| if batch % 3 == 1 { 6 } else { 1 + batch % 2 })
    }

    fn of_life(life: u64, records_in: fn(u64) -> u64) -> Log {
        let mut rig = Rig::fresh(&config());
        let (mut last, mut batch) = (0, 0);
        while bytes::segments(&rig.disk).len() < 4 {
            for _ in 0..records_in(batch) {
                last += 1;
                rig.store.append(Zxid(last), &payload(last, life));
            }
            rig.drain();
            batch += 1;
        }
        let disk = rig.crash(&mut Chance(0));
        let batches = batches(&disk);
        assert_eq!((batches.len() as u64, batches.last().unwrap().last_zxid), (batch, last));
        let segments = bytes::segments(&disk);
        assert!(batches_in(&disk, 4).is_empty() && !batches_in(&disk, 3).is_empty());
        Log { disk, batches, segments, last, life }
    }

    /// Which batches are still what and where they were.
    fn intact(&self, damaged: &SharedDisk) -> Vec<bool> {
        let same = |batch: &BatchAt| {
            let path = segment(batch.segment);
            let here = batch.at..batch.at + batch.bytes;
            let (before, after) = (self.disk.bytes(&path), damaged.memory.borrow().bytes(&path));
            // A file has to hold the padding, too: it was written with the batch.
            after.is_some_and(|after| {
                after.len() >= batch.at + batch.padded_bytes() && after[here.clone()] == before[here]
            })
        };
        self.batches.iter().map(same).collect()
    }

    /// What the table says, if nothing but batches counts.
    fn expected(&self, damaged: &SharedDisk) -> Verdict {
        let intact = self.intact(damaged);
        let Some(first) = intact.iter().position(|intact| !intact) else { return Verdict::Kept };
        let lost = &self.batches[first];
        let proofs = self.batches.iter().zip(&intact).skip(first + 1).filter(|(_, intact)| **intact);
        match proofs.map(|(batch, _)| batch.durable_sequence).max() {
            Some(durable) if durable >= lost.sequence => {
                Verdict::Refused { segment: lost.segment, at: lost.at, last_good: lost.previous_zxid }
            }
            _ => Verdict::Cut { last: lost.previous_zxid },
        }
    }

    /// Whether a refusal names the place it should. That a batch which began a segment is gone may look as if the segment before
    /// it should have gone on; and a log without its beginning is damaged from its first byte.
    fn agrees(&self, verdict: Verdict, expected: Verdict) -> bool {
        let (
            Verdict::Refused { segment, at, last_good },
            Verdict::Refused { segment: found, at: found_at, last_good: found_last },
        ) = (expected, verdict)
        else {
            return verdict == expected;
        };
        let before = self.batches.iter().rfind(|batch| batch.segment + 1 == segment);
        let end_before =
            before.is_some_and(|batch| (found, found_at) == (batch.segment, batch.at + batch.padded_bytes()));
        let begins = at == FIRST_BATCH_AT;
        let same = (found, found_at) == (segment, at);
        found_last == last_good && (same || begins && (end_before || (segment, found, found_at) == (1, 1, 0)))
    }

    /// What the store says. Whatever it accepts is a prefix, and goes on: what is written then comes back with it.
    fn verdict(&self, damaged: &SharedDisk, tag: &str) -> (Verdict, Option<StoreError>) {
        let mut opened = match damaged.fork().open(&config()) {
            Ok(opened) => opened,
            Err(StoreError::Log(error)) => {
                let verdict = match &error {
                    LogError::Damaged { file, at, last_good, .. } => {
                        let segment = self.segments.iter().find(|id| segment_name(**id) == *file);
                        let segment = *segment.unwrap_or_else(|| panic!("{tag}: {error}"));
                        Verdict::Refused { segment, at: *at as usize, last_good: last_good.0 }
                    }
                    LogError::CutShort { .. } | LogError::Gap { .. } | LogError::Misfit { .. } => Verdict::Otherwise,
                    other => panic!("{tag}: {other}"),
                };
                return (verdict, Some(error.into()));
            }
            Err(other) => panic!("{tag}: {other}"),
        };
        let records = replayed(&mut opened);
        let last = records.len() as u64;
        assert_eq!(opened.report().last_zxid, Zxid(last), "{tag}");
        let prefix =
            records.iter().zip(1..).all(|((zxid, bytes), next)| *zxid == next && *bytes == payload(next, self.life));
        assert!(prefix && last <= self.last, "{tag}: {last} records");
        let disk = damaged.fork();
        let mut rig = Rig::start(&disk, disk.open(&config()).unwrap()).unwrap_or_else(|error| panic!("{tag}: {error}"));
        for zxid in last + 1..=last + 2 {
            rig.store.append(Zxid(zxid), &payload(zxid, 99));
        }
        rig.drain();
        assert_eq!(rig.durable, Zxid(last + 2), "{tag}");
        rig.disk.memory.borrow_mut().cut_power(|_| 0);
        let again = replayed(&mut disk.open(&config()).unwrap_or_else(|error| panic!("{tag}, written on: {error}")));
        assert_eq!(again.len() as u64, last + 2, "{tag}, written on");
        assert_eq!(again[..last as usize], records, "{tag}, written on");
        (if last == self.last { Verdict::Kept } else { Verdict::Cut { last } }, None)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Kept,
    Cut {
        last: u64,
    },
    Refused {
        segment: u64,
        at: usize,
        last_good: u64,
    },
    /// Refused for what is no batch: a file cut short, a beginning that is gone.
    Otherwise,
}

/// How often which verdict was given.
#[derive(Default)]
struct Census(BTreeMap<&'static str, usize>);

impl Census {
    fn count(&mut self, verdict: Verdict) {
        let name = match verdict {
            Verdict::Kept => "kept",
            Verdict::Cut { .. } => "cut",
            Verdict::Refused { .. } => "refused",
            Verdict::Otherwise => "refused otherwise",
        };
        *self.0.entry(name).or_default() += 1;
    }

    fn of(&self, name: &str) -> usize {
        self.0.get(name).copied().unwrap_or(0)
    }

    fn print(&self, what: &str) {
        println!("{what}: {} images, {:?}", self.0.values().sum::<usize>(), self.0);
    }
}

fn reason(error: Option<StoreError>) -> Damage {
    match error {
        Some(StoreError::Log(LogError::Damaged { why, .. })) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn truncation_at_every_offset_of_every_segment() {
    let log = Log::written();
    let mut census = Census::default();
    for &id in &log.segments {
        let length = log.disk.bytes(&segment(id)).len();
        let once = bytes::mark(&log.disk, id).max(FIRST_BATCH_AT);
        let at_edge = |length: &usize| matches!(length % 512, 0 | 1 | 511);
        let step = if full() { 1 } else { 97 };
        for length in (0..length).filter(|length| length % step == 0 || at_edge(length)) {
            let tag = format!("segment {id} cut to {length}");
            let damaged = log.disk.fork();
            damaged.damage(&segment(id), |bytes| bytes.truncate(length));
            let (verdict, error) = log.verdict(&damaged, &tag);
            census.count(verdict);
            match log.expected(&damaged) {
                expected @ Verdict::Refused { .. } => {
                    assert!(log.agrees(verdict, expected), "{tag}: {verdict:?} {expected:?}");
                    let why = reason(error);
                    assert!(matches!(why, Damage::Missing | Damage::Length | Damage::NotABatch), "{tag}: {why:?}");
                }
                // Nothing proves that what is gone was durable, but that there once was more of the file is certain.
                expected if length < once => {
                    assert_eq!(verdict, Verdict::Otherwise, "{tag}");
                    let last = if let Verdict::Cut { last } = expected { last } else { log.last };
                    let Some(StoreError::Log(LogError::CutShort { file, bytes, last_good, .. })) = error else {
                        panic!("{tag}: {error:?}");
                    };
                    assert_eq!((file, bytes, last_good), (segment_name(id), length as u64, Zxid(last)), "{tag}");
                }
                expected => assert_eq!((verdict, expected), (Verdict::Kept, Verdict::Kept), "{tag}"),
            }
        }
    }
    census.print("truncation");
    assert!(census.of("refused") > 200 && census.of("refused otherwise") > 100 && census.of("kept") > 50);
}

#[test]
fn each_bit_of_a_batch_header_and_some_of_its_records() {
    let log = Log::written();
    let mut census = Census::default();
    for (index, batch) in log.batches.iter().enumerate() {
        let wanted = full() || index == 1 || index + 2 >= log.batches.len();
        let header = (0..BATCH_HEADER_BYTES * 8).filter(|_| wanted);
        let step = if full() { 101 } else { 1501 };
        let records = (BATCH_HEADER_BYTES * 8..batch.bytes * 8).step_by(step).chain([batch.bytes * 8 - 1]);
        for bit in header.chain(records) {
            let tag = format!("batch {index} bit {bit}");
            let damaged = log.disk.fork();
            damaged.damage(&segment(batch.segment), |bytes| bytes[batch.at + bit / 8] ^= 1 << (bit % 8));
            let (verdict, error) = log.verdict(&damaged, &tag);
            assert_eq!(verdict, log.expected(&damaged), "{tag}");
            assert_ne!(verdict, Verdict::Kept, "{tag}");
            census.count(verdict);
            if matches!(verdict, Verdict::Refused { .. }) {
                let why = reason(error);
                match bit / 8 {
                    0..8 => assert_eq!(why, Damage::NotABatch, "{tag}"),
                    // It says that it belongs elsewhere, as a former life's does.
                    16..32 => assert_eq!(why, Damage::ForeignSegment, "{tag}"),
                    48..52 => assert!(matches!(why, Damage::Length | Damage::Checksum), "{tag}: {why}"),
                    _ => assert_eq!(why, Damage::Checksum, "{tag}"),
                }
            }
        }
    }
    // The bits of headers and marks of segments: what they say can be had elsewhere.
    for &id in &log.segments {
        for at in [0, bytes::MARK_AT] {
            for bit in (0..56 * 8).filter(|bit| full() || bit % 29 == 0 || *bit >= 48 * 8) {
                let damaged = log.disk.fork();
                damaged.damage(&segment(id), |bytes| bytes[at + bit / 8] ^= 1 << (bit % 8));
                let (verdict, _) = log.verdict(&damaged, &format!("segment {id} byte {at} bit {bit}"));
                assert_eq!(verdict, Verdict::Kept, "segment {id} byte {at} bit {bit}");
                census.count(verdict);
            }
        }
    }
    census.print("flipped bits");
    assert!(census.of("refused") > 1000 && census.of("cut") > 700 && census.of("kept") > 100);
}

#[test]
fn each_block_zeroed_in_turn() {
    let log = Log::written();
    let mut census = Census::default();
    for &id in &log.segments {
        for at in (0..log.disk.bytes(&segment(id)).len()).step_by(BLOCK) {
            let tag = format!("segment {id} block {at}");
            let damaged = log.disk.fork();
            damaged.damage(&segment(id), |bytes| bytes[at..at + BLOCK].fill(0));
            let (verdict, error) = log.verdict(&damaged, &tag);
            let expected = log.expected(&damaged);
            assert!(log.agrees(verdict, expected), "{tag}: {verdict:?} {expected:?}");
            census.count(verdict);
            if let Verdict::Refused { at: batch_at, .. } = expected {
                let why = reason(error);
                let zeroes = matches!(why, Damage::Zeroes | Damage::Missing);
                assert!(if at == batch_at { zeroes } else { why == Damage::Checksum }, "{tag}: {why}");
            }
        }
    }
    census.print("zeroed blocks");
    assert!(census.of("refused") > 10 && census.of("cut") > 0 && census.of("kept") > 8);
}

#[test]
fn stale_content_behind_the_tail() {
    let log = Log::written();
    let mut census = Census::default();
    let tail = log.batches.last().unwrap();
    let two_blocks = log.batches.iter().find(|batch| batch.padded_bytes() == 2 * BLOCK).unwrap();
    let block = |id: u64, at: usize| log.disk.bytes(&segment(id))[at..at + BLOCK].to_vec();
    let own = batches_in(&log.disk, tail.segment)[0];
    let stale = [
        ("a batch of a former life, in its place", None),
        ("a batch of this file from elsewhere in it", Some(block(own.segment, own.at))),
        ("a batch of another file", Some(block(two_blocks.segment, two_blocks.at))),
        ("the second half of a batch", Some(block(two_blocks.segment, two_blocks.at + BLOCK))),
        ("a header of a segment", Some(block(1, 0))),
        ("ones", Some(vec![0xff; BLOCK])),
    ];
    for (id, from) in [(tail.segment, tail.at + tail.padded_bytes()), (4, FIRST_BATCH_AT)] {
        let length = log.disk.bytes(&segment(id)).len();
        let places: Vec<usize> = (from..length).step_by(BLOCK).collect();
        // Each block alone, and all of them.
        for places in places.iter().map(std::slice::from_ref).chain([&places[..]]) {
            for (what, bytes) in &stale {
                let damaged = log.disk.fork();
                for at in places {
                    let bytes = bytes.clone().unwrap_or_else(|| block(1, *at));
                    damaged.damage(&segment(id), |file| file[*at..at + BLOCK].copy_from_slice(&bytes));
                }
                let tag = format!("{what} in segment {id} at {places:?}");
                let (verdict, error) = log.verdict(&damaged, &tag);
                assert_eq!(verdict, Verdict::Kept, "{tag}: {error:?}");
                census.count(verdict);
            }
        }
    }
    census.print("stale content");
}

#[test]
fn each_segment_missing_in_turn() {
    let log = Log::written();
    for id in [1, 2, 4] {
        let damaged = log.disk.fork();
        assert!(damaged.memory.borrow_mut().remove(&segment(id)));
        let (verdict, error) = log.verdict(&damaged, &format!("segment {id} missing"));
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        match id {
            1 => {
                assert_eq!(verdict, Verdict::Otherwise);
                assert!(text.contains("the log does not reach back to snapshot 0x0"), "{text}");
            }
            2 => {
                let expected = batches_in(&log.disk, 2)[0].previous_zxid;
                assert!(matches!(verdict, Verdict::Refused { last_good, .. } if last_good == expected), "{text}");
                assert!(text.contains("log-0000000000000002.seg: not there; the last good"), "{text}");
            }
            _ => assert_eq!(verdict, Verdict::Kept, "an empty one is no loss: {text}"),
        }
    }
}

#[test]
fn a_segment_twice_or_under_a_strangers_name() {
    let log = Log::written();
    let mut census = Census::default();
    let contents = |id: u64| log.disk.bytes(&segment(id));
    for &from in &log.segments {
        // In the place of another.
        for to in [1, 2, 4].into_iter().filter(|to| *to != from) {
            let tag = format!("segment {from} in the place of {to}");
            let damaged = log.disk.fork();
            damaged.damage(&segment(to), |bytes| *bytes = contents(from));
            let (verdict, error) = log.verdict(&damaged, &tag);
            census.count(verdict);
            match to {
                // Its beginning is not there, whatever else is.
                1 => assert!(matches!(verdict, Verdict::Refused { .. } | Verdict::Otherwise), "{tag}: {error:?}"),
                _ => assert!(log.agrees(verdict, log.expected(&damaged)), "{tag}: {verdict:?} {error:?}"),
            }
        }
        // Beside them all.
        for to in [5, 6, 99] {
            let damaged = log.disk.fork();
            damaged.memory.borrow_mut().put(&segment(to), contents(from));
            let (verdict, _) = log.verdict(&damaged, &format!("segment {from} as {to}, too"));
            // The next one may be there and be useless; beyond it, those between were never made.
            assert_eq!(verdict, if to == 5 { Verdict::Kept } else { Verdict::Otherwise });
            census.count(verdict);
        }
        for name in ["log-0000000000000002.seg.bak", "log-2.seg", "LOG-0000000000000002.SEG", "copy-of-the-log.seg"] {
            let damaged = log.disk.fork();
            let stranger = segment(1).with_file_name(name);
            damaged.memory.borrow_mut().put(&stranger, contents(from));
            let (verdict, _) = log.verdict(&damaged, &format!("segment {from} as {name}"));
            assert_eq!(verdict, Verdict::Kept);
            census.count(verdict);
            let opened = damaged.open(&config()).unwrap();
            drop(Rig::start(&damaged, opened).unwrap());
            assert_eq!(damaged.bytes(&stranger), contents(from), "not ours, not touched");
        }
    }
    census.print("duplicates");
}

/// The numbers of its batches and their places are right, their checksums too; only the chain tells.
fn other_servers() -> [(&'static str, Log); 3] {
    [
        ("the same batches", Log::of_life(7, |batch| if batch % 3 == 1 { 6 } else { 1 + batch % 2 })),
        ("more and smaller batches", Log::of_life(7, |_| 1)),
        ("fewer and larger batches", Log::of_life(7, |_| 7)),
    ]
}

fn assert_refused(log: &Log, damaged: &SharedDisk, tag: &str) {
    let (verdict, error) = log.verdict(damaged, tag);
    assert!(matches!(verdict, Verdict::Refused { .. } | Verdict::Otherwise), "{tag}: {verdict:?} {error:?}");
    assert!(error.unwrap().to_string().contains("log-000"), "{tag}: names a file");
}

#[test]
fn a_segment_of_another_server() {
    let log = Log::written();
    for (what, other) in &other_servers() {
        for id in [1, 2] {
            let damaged = log.disk.fork();
            damaged.damage(&segment(id), |bytes| *bytes = other.disk.bytes(&segment(id)));
            assert_refused(&log, &damaged, &format!("segment {id} of a server with {what}"));
        }
    }
}

/// No batch outside of the last segment proves what stood in it; that it is not what it was can be seen all the same.
#[test]
fn the_last_segment_in_use_missing_doubled_or_of_another_server() {
    let log = Log::written();
    let last = log.batches.last().unwrap().segment;
    let damaged = log.disk.fork();
    assert!(damaged.memory.borrow_mut().remove(&segment(last)));
    assert_refused(&log, &damaged, "the last segment in use is missing, the empty one behind it is there");
    for from in [1, 2, 4] {
        let damaged = log.disk.fork();
        damaged.damage(&segment(last), |bytes| *bytes = log.disk.bytes(&segment(from)));
        assert_refused(&log, &damaged, &format!("segment {from} in the place of the last one in use"));
    }
    for (what, other) in &other_servers() {
        let damaged = log.disk.fork();
        damaged.damage(&segment(last), |bytes| *bytes = other.disk.bytes(&segment(last)));
        assert_refused(&log, &damaged, &format!("the last segment in use is that of a server with {what}"));
    }
}

/// The last batch of two blocks, with each combination of its sectors on the disk.
#[test]
fn a_torn_batch_across_a_block_boundary() {
    let mut rig = Rig::fresh(&config());
    rig.append_and_drain(1..=3);
    let before = rig.disk.running_copy();
    for zxid in 4..=11 {
        rig.store.append(Zxid(zxid), &payload(zxid, 0));
    }
    rig.drain();
    let disk = rig.crash(&mut Chance(0));
    let batches = batches(&disk);
    let torn = *batches.last().unwrap();
    let sectors = torn.padded_bytes() / 512;
    assert!(sectors == 16 && torn.bytes > 7 * 1024, "{torn:?}");
    let (old, new) = (before.bytes(&segment(torn.segment)), disk.bytes(&segment(torn.segment)));
    let log = Log { disk, batches, segments: vec![1, 2], last: 11, life: 0 };
    let mut census = Census::default();
    let whole = (1u32 << sectors) - 1;
    let mut chance = Chance(5);
    let edges = (0..=sectors).flat_map(|count| [(1u32 << count) - 1, whole & !((1u32 << count) - 1)]);
    let singles = (0..sectors).flat_map(|sector| [1 << sector, whole & !(1 << sector)]);
    let sample = (0..500).map(|_| chance.below(u64::from(whole)) as u32);
    let all: Vec<u32> = if full() { (0..=whole).collect() } else { edges.chain(singles).chain(sample).collect() };
    for kept in all {
        let damaged = log.disk.fork();
        damaged.damage(&segment(torn.segment), |bytes| {
            for sector in (0..sectors).filter(|sector| kept >> sector & 1 == 0) {
                let here = torn.at + sector * 512..torn.at + (sector + 1) * 512;
                bytes[here.clone()].copy_from_slice(&old[here]);
            }
        });
        let (verdict, _) = log.verdict(&damaged, &format!("sectors {kept:016b}"));
        // A sector of padding is no loss.
        let filled = (1u32 << torn.bytes.div_ceil(512)) - 1;
        let expected = if kept & filled == filled { Verdict::Kept } else { Verdict::Cut { last: 3 } };
        assert_eq!(verdict, expected, "sectors {kept:016b}");
        census.count(verdict);
    }
    assert_eq!(new[torn.at..torn.at + 8], *b"rkbatch\n");
    census.print("torn batch");
    assert!(census.of("cut") > 500 && census.of("kept") >= 1);
}
