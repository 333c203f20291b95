//! Reading what was committed from one zxid to another, while the log is written, purged, damaged or given up.

mod rig;

use std::path::PathBuf;

use rig::{DIRECTORY, Rig, payload, small_config};
use ringkeeper_storage::backend::faulty::Fault;
use ringkeeper_storage::backend::memory::Chance;
use ringkeeper_storage::{LogError, RangeId, Ring, StoreConfig, StoreEvent, Zxid, open};

/// Zxids that are there: odd ones only, so that there is always one between.
fn odd_records(rig: &mut Rig, from: u64, to: u64) {
    for zxid in (from..=to).filter(|zxid| zxid % 2 == 1) {
        rig.store.append(Zxid(zxid), &payload(zxid, 0));
        rig.drain();
    }
}

/// Takes windows as they come and asks for the next, to the end.
fn read_to_the_end(rig: &mut Rig, range: RangeId) -> (Vec<u64>, Option<Zxid>, Result<Zxid, String>) {
    let (mut zxids, mut predecessor) = (Vec::new(), None);
    loop {
        rig.poll();
        if !rig.held.is_empty() {
            rig.complete(0);
        }
        if let Some((id, window)) = rig.windows.pop() {
            assert!(id == range && rig.windows.is_empty(), "one window at a time");
            predecessor.get_or_insert(window.predecessor());
            for (zxid, bytes) in window.records() {
                assert_eq!(bytes, payload(zxid.0, 0));
                zxids.push(zxid.0);
            }
            rig.store.read_on(range, window);
        }
        if let Some((id, result)) = rig.ranges_ended.pop() {
            assert_eq!(id, range);
            return (zxids, predecessor, result);
        }
    }
}

#[test]
fn every_range_is_read_exactly() {
    let mut rig = Rig::fresh(&small_config());
    odd_records(&mut rig, 1, 119);
    assert!(rig.store.stats().log_segments > 4);
    for after in 0..=120 {
        for through in [0, 1, after, after + 1, after + 2, after + 30, 118, 119, 500] {
            let range = rig.store.read_range(Zxid(after), Zxid(through)).unwrap();
            let (zxids, predecessor, result) = read_to_the_end(&mut rig, range);
            let expected: Vec<_> = (after + 1..=through.min(119)).filter(|zxid| zxid % 2 == 1).collect();
            assert_eq!(zxids, expected, "{after} {through}");
            assert_eq!(result, Ok(Zxid(through.min(119))));
            if let Some(first) = expected.first() {
                // What a leader needs to know of a learner that says `after` is its last.
                assert_eq!(predecessor, Some(Zxid(first.saturating_sub(2))), "{after} {through}");
            }
        }
    }
    assert!(rig.store.is_idle());
}

#[test]
fn a_range_ends_where_the_log_was_stable_and_the_writer_goes_on_meanwhile() {
    let config = StoreConfig { batches_in_flight: 3, ..small_config() };
    for seed in 0..60 {
        let mut chance = Chance(seed);
        let mut rig = Rig::fresh(&config);
        rig.append_and_drain(1..=40);
        let (mut last, mut read, mut after) = (40, 0, chance.below(40));
        let mut range = None;
        while read < 6 {
            match chance.below(4) {
                0 => {
                    last += 1;
                    rig.store.append(Zxid(last), &payload(last, 0));
                }
                1 => rig.poll(),
                _ if !rig.held.is_empty() => rig.complete(chance.below(rig.held.len() as u64) as usize),
                _ => {}
            }
            let (_, stable, next) = match &mut range {
                Some(range) => range,
                None => {
                    let id = rig.store.read_range(Zxid(after), Zxid(last)).unwrap();
                    range.insert((id, rig.durable, after + 1))
                }
            };
            if let Some((id, window)) = rig.windows.pop() {
                for (zxid, bytes) in window.records() {
                    assert_eq!((zxid.0, bytes), (*next, &payload(*next, 0)[..]), "seed {seed}");
                    assert!(zxid <= *stable, "seed {seed}");
                    *next += 1;
                }
                rig.store.read_on(id, window);
            }
            if let Some((_, result)) = rig.ranges_ended.pop() {
                assert_eq!(result, Ok(*stable), "seed {seed}");
                assert_eq!(*next, stable.0.max(after) + 1, "seed {seed}");
                (range, read, after) = (None, read + 1, chance.below(stable.0));
            }
        }
    }
}

#[test]
fn what_is_being_read_is_not_purged() {
    let mut rig = Rig::fresh(&small_config());
    rig.append_and_drain(1..=100);
    let range = rig.store.read_range(Zxid(12), Zxid(100)).unwrap();
    rig.drain(); // the first window is there
    let pinned = PathBuf::from(format!("{DIRECTORY}/log-{:016x}.seg", 2));
    rig.snapshot(100);
    for _ in 0..10 {
        rig.store.purge(1);
        rig.drain();
    }
    assert!(rig.disk.paths(".seg").contains(&pinned), "{:?}", rig.disk.paths(".seg"));
    assert!(!rig.disk.paths(".seg").contains(&pinned.with_file_name("log-0000000000000001.seg")));
    let (_, window) = rig.windows.pop().unwrap();
    let first = window.records().map(|(zxid, _)| zxid.0).collect::<Vec<_>>();
    rig.store.read_on(range, window);
    let (zxids, _, result) = read_to_the_end(&mut rig, range);
    assert!(first.into_iter().chain(zxids).eq(13..=100) && result == Ok(Zxid(100)));
    for _ in 0..10 {
        rig.store.purge(1);
        rig.drain();
    }
    assert!(!rig.disk.paths(".seg").contains(&pinned), "{:?}", rig.disk.paths(".seg"));
    // And what is gone is said to be.
    let error = rig.store.read_range(Zxid(12), Zxid(100)).unwrap_err();
    assert!(matches!(error, LogError::NotCovered { wanted: Zxid(12), .. }), "{error}");
}

#[test]
fn a_range_over_damage_ends_with_what_is_wrong() {
    for (byte, changed) in
        [(8192 + 4096 * 3 + 200, 1), (8192 + 4096 * 3 + 16, 1), (8192 + 3, 1), (8192 + 4096 * 9, 0xff)]
    {
        let mut rig = Rig::fresh(&small_config());
        rig.append_and_drain(1..=60);
        let path = PathBuf::from(format!("{DIRECTORY}/log-{:016x}.seg", 3));
        rig.disk.memory.borrow_mut().damage(&path, |bytes| bytes[byte] ^= changed);
        let range = rig.store.read_range(Zxid(3), Zxid(60)).unwrap();
        let (zxids, _, result) = read_to_the_end(&mut rig, range);
        assert!(zxids.iter().copied().eq(4..=3 + zxids.len() as u64), "{zxids:?}");
        assert!(zxids.len() < 40, "{zxids:?}");
        let text = result.expect_err(&format!("byte {byte}"));
        assert!(text.contains("damaged at byte"), "{text}");
        assert!(rig.failed.is_none() && rig.store.is_idle());
    }
    // A file that is gone, or cannot be read.
    for operation in ["open", "read"] {
        let mut rig = Rig::fresh(&small_config());
        rig.append_and_drain(1..=60);
        let range = rig.store.read_range(Zxid(3), Zxid(60)).unwrap();
        rig.disk.memory.borrow_mut().fail_next(rig::calls_of(operation), Fault::Error(5));
        let (_, _, result) = read_to_the_end(&mut rig, range);
        assert!(result.unwrap_err().contains("could not be read"), "{operation}");
        rig.append_and_drain(61..=61);
    }
}

#[test]
fn a_range_that_is_given_up_at_any_moment_leaves_nothing() {
    for operations in 0..25 {
        let mut rig = Rig::fresh(&small_config());
        rig.append_and_drain(1..=60);
        let range = rig.store.read_range(Zxid(3), Zxid(60)).unwrap();
        let mut held = None;
        for _ in 0..operations {
            rig.poll();
            if !rig.held.is_empty() {
                rig.complete(0);
            }
            if let Some((_, window)) = rig.windows.pop() {
                if operations % 2 == 0 {
                    rig.store.read_on(range, window);
                } else {
                    held = Some(window);
                }
            }
        }
        let ended = !rig.ranges_ended.is_empty();
        rig.store.end_range(range);
        rig.drain();
        assert!(rig.windows.is_empty() && (ended || rig.ranges_ended.is_empty()), "{operations}");
        if let Some(window) = held {
            rig.store.read_on(range, window); // too late, and no harm
        }
        rig.snapshot(60);
        for _ in 0..10 {
            rig.store.purge(1);
            rig.drain();
        }
        assert!(rig.store.is_idle() && rig.disk.paths(".seg").len() < 4, "{operations}: {:?}", rig.disk.paths(".seg"));
    }
}

/// What ends one reader says nothing about another one that is given up meanwhile.
#[test]
fn a_range_that_is_given_up_while_another_ends_closes_its_file() {
    let mut rig = Rig::fresh(&small_config());
    rig.append_and_drain(1..=60);
    let open_files = rig.disk.memory.borrow().open_files();
    for seed in 0..200 {
        let mut chance = Chance(seed);
        let (one, other) = (rig.store.read_range(Zxid(3), Zxid(5)), rig.store.read_range(Zxid(3), Zxid(60)));
        let (one, mut other) = (one.unwrap(), other.ok());
        loop {
            rig.poll();
            if rig.held.is_empty() {
                break;
            }
            rig.complete(chance.below(rig.held.len() as u64) as usize);
            while let Some((range, window)) = rig.windows.pop() {
                assert!(range == one || other.is_some(), "nobody reads it");
                rig.store.read_on(range, window);
            }
            if chance.below(4) == 0
                && let Some(other) = other.take()
            {
                rig.store.end_range(other);
            }
        }
        assert_eq!(rig.disk.memory.borrow().open_files(), open_files, "seed {seed}");
        assert!(rig.ranges_ended.iter().any(|(range, _)| *range == one), "seed {seed}");
        rig.ranges_ended.clear();
    }
}

#[test]
fn a_long_range_takes_the_memory_of_a_window() {
    let config = StoreConfig { segment_bytes: 8 << 20, batch_bytes_max: 256 << 10, ..small_config() };
    let mut rig = Rig::fresh(&config);
    let record = |zxid: u64| vec![zxid as u8; if zxid == 30 { 3 << 20 } else { 200 << 10 }];
    for zxid in 1..=60 {
        rig.store.append(Zxid(zxid), &record(zxid));
        rig.drain();
    }
    assert!(rig.store.stats().log_segments > 1);
    for after in [0, 7, 29, 30, 55] {
        let range = rig.store.read_range(Zxid(after), Zxid(60)).unwrap();
        let (mut next, mut windows) = (after + 1, 0);
        while rig.ranges_ended.is_empty() {
            rig.drain();
            let Some((_, window)) = rig.windows.pop() else { continue };
            windows += 1;
            let bytes: usize = window.records().map(|(_, bytes)| bytes.len()).sum();
            assert!(bytes <= 1 << 20 || window.records().count() == 1, "{bytes}");
            for (zxid, bytes) in window.records() {
                assert!(zxid.0 == next && *bytes == record(next));
                next += 1;
            }
            rig.store.read_on(range, window);
        }
        assert_eq!((next, rig.ranges_ended.pop().unwrap().1), (61, Ok(Zxid(60))));
        assert!(windows >= (60 - after) / 5, "{windows}");
    }
}

#[test]
fn a_range_is_found_and_read_after_a_restart_too() {
    let config = StoreConfig { segment_bytes: 8 << 20, batch_bytes_max: 256 << 10, ..small_config() };
    let mut rig = Rig::fresh(&config);
    for zxid in 1..=100 {
        rig.store.append(Zxid(zxid), &vec![zxid as u8; 100 << 10]);
        rig.drain();
    }
    let disk = rig.crash(&mut Chance(1));
    let mut rig = Rig::start(&disk, disk.open(&config).unwrap()).unwrap();
    let range = rig.store.read_range(Zxid(70), Zxid(72)).unwrap();
    let mut reads = 0;
    let mut zxids = Vec::new();
    while rig.ranges_ended.is_empty() {
        rig.poll();
        reads += rig.held.iter().filter(|op| op.action.name() == "read").count();
        while !rig.held.is_empty() {
            rig.complete(0);
        }
        if let Some((_, window)) = rig.windows.pop() {
            zxids.extend(window.records().map(|(zxid, _)| zxid.0));
            rig.store.read_on(range, window);
        }
    }
    assert_eq!(zxids, [71, 72]);
    assert!(reads <= 3, "the place is known: {reads} reads");
}

#[test]
fn on_a_real_disk_through_a_real_ring() {
    let directory = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        segment_bytes: 1 << 20,
        batch_bytes_max: 64 << 10,
        ..StoreConfig::new(directory.path(), directory.path())
    };
    let mut store = open(config).unwrap().into_store().unwrap();
    let mut ring = Ring::new().unwrap();
    let (mut ops, mut completed, mut out, mut range) = (Vec::new(), Vec::new(), Vec::new(), None);
    let (mut last, mut next) = (0, 1001);
    loop {
        if last < 12_000 {
            for _ in 0..20 {
                last += 1;
                store.append(Zxid(last), &payload(last, 0));
            }
        } else if range.is_none() && store.stats().durable_zxid >= Zxid(10_000) {
            range = Some(store.read_range(Zxid(1000), Zxid(10_000)).unwrap());
        }
        store.poll_ops(&mut ops);
        ring.submit(&mut ops);
        ring.wait();
        ring.completions(&mut completed);
        for event in completed.drain(..) {
            store.on_event(event, &mut out);
        }
        for event in out.drain(..) {
            match event {
                StoreEvent::RangeRead { range, window } => {
                    for (zxid, bytes) in window.records() {
                        assert_eq!((zxid.0, bytes), (next, &payload(next, 0)[..]));
                        next += 1;
                    }
                    store.read_on(range, window);
                }
                StoreEvent::RangeEnded { result, .. } => {
                    assert_eq!((result.unwrap(), next), (Zxid(10_000), 10_001));
                    assert!(store.stats().log_segments > 4);
                    return;
                }
                StoreEvent::Failed(error) => panic!("{error}"),
                _ => {}
            }
        }
    }
}
