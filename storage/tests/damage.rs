//! Bytes that rot, vanish or come from another life; disks that fill up or fail. The store keeps, cuts or refuses, and never
//! shows anything but a prefix.

mod rig;

use std::path::PathBuf;

use rig::{DIRECTORY, Rig, SharedDisk, bytes, payload, replayed, small_config};
use ringkeeper_storage::backend::faulty::Fault;
use ringkeeper_storage::backend::memory::Chance;
use ringkeeper_storage::{LogError, LogRoom, SnapshotError, StoreConfig, StoreError, Zxid};

const BLOCK: usize = 4096;

fn one_at_a_time() -> StoreConfig {
    StoreConfig { batches_in_flight: 1, ..small_config() }
}

fn segment(id: u64) -> PathBuf {
    PathBuf::from(format!("{DIRECTORY}/log-{id:016x}.seg"))
}

/// A log of one record a batch, one batch a time, stopped cleanly.
fn written(last: u64) -> SharedDisk {
    let mut rig = Rig::fresh(&one_at_a_time());
    rig.append_and_drain(1..=last);
    rig.crash(&mut Chance(1))
}

/// Offsets of the batches in a segment.
fn batches(disk: &SharedDisk, id: u64) -> Vec<usize> {
    let bytes = disk.bytes(&segment(id));
    (BLOCK..bytes.len()).step_by(BLOCK).filter(|at| bytes[*at..].starts_with(b"rkbatch\n")).collect()
}

/// Opens a copy; the zxids that came back, or why not.
fn recovered(disk: &SharedDisk) -> Result<Vec<u64>, StoreError> {
    let mut opened = disk.fork().open(&one_at_a_time())?;
    let records = replayed(&mut opened);
    for (zxid, bytes) in &records {
        assert_eq!(*bytes, payload(*zxid, 0));
    }
    let zxids: Vec<_> = records.into_iter().map(|(zxid, _)| zxid).collect();
    assert!(zxids.iter().copied().eq(1..=zxids.len() as u64), "a prefix: {zxids:?}");
    Ok(zxids)
}

fn damage_of(error: StoreError) -> String {
    assert!(matches!(error, StoreError::Log(LogError::Damaged { .. })), "{error}");
    error.to_string()
}

#[test]
fn truncation_at_every_offset_loses_nothing_or_is_refused() {
    let disk = written(25);
    let ids = 1..=disk.paths(".seg").len() as u64;
    let last_used = ids.clone().rev().find(|id| !batches(&disk, *id).is_empty()).unwrap();
    assert!(last_used >= 3);
    let (mut refused, mut cut_short) = (0, 0);
    for id in ids {
        let bytes = disk.bytes(&segment(id));
        let mark = u64::from_le_bytes(bytes[BLOCK + 24..BLOCK + 32].try_into().unwrap()) as usize;
        let filled = batches(&disk, id).last().map_or(BLOCK, |at| at + BLOCK);
        for length in (0..bytes.len()).step_by(61).chain([BLOCK - 1, BLOCK, BLOCK + 1, filled]) {
            let damaged = disk.fork();
            damaged.damage(&segment(id), |bytes| bytes.truncate(length));
            match recovered(&damaged) {
                // Behind the mark nothing was ever written: nothing is missing.
                Ok(zxids) => {
                    assert_eq!(zxids.len(), 25, "segment {id} cut to {length}");
                    assert!(id < last_used || length >= mark, "segment {id} cut to {length}");
                }
                Err(StoreError::Log(LogError::CutShort { bytes, .. })) => {
                    assert!(bytes == length as u64 && length < mark, "segment {id} cut to {length}");
                    cut_short += 1;
                }
                Err(error) => {
                    damage_of(error);
                    assert!(id < last_used || length < mark, "segment {id} cut to {length}");
                    refused += 1;
                }
            }
            if damaged.open(&one_at_a_time()).is_ok() {
                // Whatever was accepted can be written to and comes back with it.
                let mut rig = Rig::start(&damaged, damaged.open(&one_at_a_time()).unwrap()).unwrap();
                let next = rig.durable.0 + 1;
                rig.append_and_drain(next..=next + 1);
                assert_eq!(recovered(&rig.crash(&mut Chance(3))).unwrap().len() as u64, next + 1);
            }
        }
    }
    assert!(refused > 500 && cut_short > 100, "{refused} {cut_short}");
}

#[test]
fn a_flipped_bit_in_an_acknowledged_batch_is_refused_and_in_the_last_one_cut() {
    let disk = written(12);
    let places: Vec<_> = (1..=2).flat_map(|id| batches(&disk, id).into_iter().map(move |at| (id, at))).collect();
    assert_eq!(places.len(), 12);
    for (index, (id, at)) in places.iter().enumerate() {
        for byte in (0..120).chain([BLOCK / 8]) {
            let damaged = disk.fork();
            let mut inside = true;
            damaged.damage(&segment(*id), |bytes| {
                inside = bytes[at + byte] != 0 || byte < 96; // padding is nobody's
                bytes[at + byte] ^= 1 << (byte % 8);
            });
            match recovered(&damaged) {
                Ok(zxids) if inside => assert_eq!((index, zxids.len()), (11, 11), "batch {index} byte {byte}"),
                Ok(zxids) => assert!(zxids.len() >= 11),
                Err(error) => {
                    let text = damage_of(error);
                    let file = segment(*id).file_name().unwrap().to_string_lossy().into_owned();
                    assert!(index < 11 && text.contains(&format!("{file}: damaged at byte {at}")), "{text}");
                    assert!(text.contains(&format!("last good transaction is {}", Zxid(index as u64))), "{text}");
                }
            }
        }
    }
}

#[test]
fn zeroes_where_an_acknowledged_batch_was_are_refused() {
    let disk = written(6);
    let at = batches(&disk, 1)[2];
    disk.damage(&segment(1), |bytes| bytes[at..at + BLOCK].fill(0));
    let text = damage_of(recovered(&disk).unwrap_err());
    assert!(text.contains("(zeroes)") && text.contains("a later batch"), "{text}");
    assert!(text.contains("last good transaction is 0x2"), "{text}");
}

#[test]
fn a_mark_saves_reading_and_its_loss_costs_nothing_else() {
    let disk = written(6);
    let mark =
        |disk: &SharedDisk| u64::from_le_bytes(disk.bytes(&segment(1))[BLOCK + 24..BLOCK + 32].try_into().unwrap());
    let end = (batches(&disk, 1).last().unwrap() + BLOCK) as u64;
    assert!(mark(&disk) >= end && mark(&disk) <= 44 << 10, "{} {end}", mark(&disk));
    // Behind the mark nobody looks, before it everything is seen, and without it all is looked at.
    let far = disk.fork();
    far.damage(&segment(1), |bytes| {
        let at = 44 << 10;
        bytes.copy_within(end as usize - BLOCK..end as usize, at);
        bytes[at + 24..at + 32].copy_from_slice(&(at as u64).to_le_bytes()); // a torn batch of that place
    });
    assert_eq!(far.open(&one_at_a_time()).unwrap().report().cut_bytes, 0);
    far.damage(&segment(1), |bytes| bytes[BLOCK] ^= 1);
    assert_eq!(far.open(&one_at_a_time()).unwrap().report().cut_bytes, BLOCK as u64);
    let at = batches(&disk, 1)[2];
    for damaged_mark in [false, true] {
        let damaged = disk.fork();
        damaged.damage(&segment(1), |bytes| {
            bytes[at] ^= 1;
            bytes[BLOCK + 30] ^= u8::from(damaged_mark);
        });
        damage_of(recovered(&damaged).unwrap_err());
    }
    // A lost mark is written anew before anything else is.
    disk.damage(&segment(1), |bytes| bytes[BLOCK..2 * BLOCK].fill(0));
    let mut rig = Rig::start(&disk, disk.open(&one_at_a_time()).unwrap()).unwrap();
    rig.append_and_drain(7..=7);
    assert!(mark(&rig.disk.fork()) >= end + BLOCK as u64);
    assert_eq!(recovered(&rig.crash(&mut Chance(1))).unwrap().len(), 7);
}

#[test]
fn a_missing_segment_is_refused() {
    let disk = written(25);
    let without = disk.fork();
    without.damage(&segment(2), Vec::clear);
    damage_of(recovered(&without).unwrap_err());
}

#[test]
fn a_recycled_files_former_life_never_passes_for_ours() {
    let disk = written(25);
    let spare = disk.paths(".seg").len() as u64;
    assert!(batches(&disk, spare).is_empty());
    let former = disk.bytes(&segment(1));
    // As the next segment, and behind the end of the current one.
    disk.damage(&segment(spare), |bytes| bytes.clone_from(&former));
    let end = batches(&disk, spare - 1).last().unwrap() + 2 * BLOCK;
    disk.damage(&segment(spare - 1), |bytes| bytes[end..].copy_from_slice(&former[end..]));
    assert_eq!(recovered(&disk).unwrap().len(), 25);
    let mut rig = Rig::start(&disk, disk.open(&one_at_a_time()).unwrap()).unwrap();
    rig.append_and_drain(26..=60);
    assert_eq!(recovered(&rig.crash(&mut Chance(2))).unwrap().len(), 60);
}

#[test]
fn a_batch_that_overtook_a_lost_one_never_comes_back() {
    let config = StoreConfig { batches_in_flight: 2, mark_bytes: 1 << 20, ..small_config() };
    let mut rig = Rig::fresh(&config);
    rig.append_and_drain(1..=3);
    rig.store.append(Zxid(4), &payload(4, 0));
    rig.poll();
    rig.store.append(Zxid(5), &payload(5, 0));
    rig.poll();
    assert_eq!(rig.held.len(), 2);
    rig.complete(1);
    assert_eq!(rig.durable, Zxid(3), "acknowledged strictly in order");
    rig.held.clear(); // the first of them never reached the disk
    let disk = rig.crash(&mut Chance(0));

    let mut opened = disk.open(&config).unwrap();
    assert_eq!(replayed(&mut opened).len(), 3);
    assert_eq!(opened.report().cut_bytes, BLOCK as u64);
    assert!(opened.report().notes[0].contains("never acknowledged"), "{:?}", opened.report());
    // The very same bytes again, in the place of the lost batch: what once followed them still does not.
    let mut rig = Rig::start(&disk, opened).unwrap();
    rig.append_and_drain(4..=4);
    let mut opened = rig.crash(&mut Chance(0)).open(&config).unwrap();
    assert_eq!(replayed(&mut opened).len(), 4);
    assert_eq!(opened.report().notes, Vec::<String>::new());
}

#[test]
fn a_cut_that_a_kill_left_unflushed_is_flushed_by_the_next_start() {
    let config = StoreConfig { batches_in_flight: 2, mark_bytes: 1 << 20, ..small_config() };
    let mut rig = Rig::fresh(&config);
    rig.append_and_drain(1..=9);
    for zxid in [10, 11] {
        rig.store.append(Zxid(zxid), &payload(zxid, 0));
        rig.poll();
    }
    rig.complete(1);
    rig.held.clear(); // the last batch of the first segment is lost, the first of the second is there
    let disk = rig.crash(&mut Chance(0));
    assert_eq!((batches(&disk, 1).len(), batches(&disk, 2).len()), (9, 1));
    let mut zeroed = 0;
    for seed in 0..300 {
        let mut chance = Chance(seed);
        let disk = disk.fork();
        let opened = disk.open(&config).unwrap();
        disk.fuse.replace(Some(seed as usize % 10));
        let _ = opened.into_store(); // killed on the way; the machine stays up
        let disk = disk.fork();
        zeroed += usize::from(batches(&disk, 2).is_empty());
        // The very same batch again, in the place of the lost one.
        let mut rig = Rig::start(&disk, disk.open(&config).unwrap()).unwrap();
        rig.append_and_drain(10..=10);
        let mut opened = rig.crash(&mut chance).open(&config).unwrap();
        assert_eq!(replayed(&mut opened).len(), 10, "seed {seed}: what was cut came back");
    }
    assert!(zeroed > 100, "{zeroed}");
}

#[test]
fn whatever_a_kill_left_in_a_cache_is_stable_once_it_was_recovered() {
    // Batches as large as segments: those in flight lie in as many files.
    let config = StoreConfig { batches_in_flight: 4, mark_bytes: 1 << 20, ..small_config() };
    let mut rig = Rig::fresh(&config);
    rig.drain();
    for zxid in 1..=4u64 {
        rig.store.append(Zxid(zxid), &[zxid as u8; 39 << 10]);
        rig.poll();
        while rig.held.len() as u64 > zxid {
            rig.complete(zxid as usize); // all but the batches
            rig.poll();
        }
    }
    assert_eq!((rig.held.len(), rig.disk.paths(".seg").len()), (4, 5));
    for op in &rig.held {
        rig.disk.memory.borrow_mut().leave_unflushed(op);
    }
    let disk = rig.disk.fork();
    let rig = Rig::start(&disk, disk.open(&config).unwrap()).unwrap();
    assert_eq!(rig.durable, Zxid(4));
    rig.disk.crash(&mut Chance(0));
    assert_eq!(disk.open(&config).unwrap().report().last_zxid, Zxid(4));
}

#[test]
fn a_failed_or_short_write_ends_the_log_for_good() {
    for short in [false, true] {
        let config = StoreConfig { batches_in_flight: 2, ..small_config() };
        let mut rig = Rig::fresh(&config);
        rig.append_and_drain(1..=3);
        rig.store.append(Zxid(4), &payload(4, 0));
        rig.poll();
        rig.store.append(Zxid(5), &payload(5, 0));
        rig.poll();
        rig.store.append(Zxid(6), &payload(6, 0));
        let fault = if short { Fault::Short(512) } else { Fault::Error(5) };
        rig.disk.memory.borrow_mut().fail_next(|call| call.operation == "write", fault);
        rig.complete(0);
        let text = rig.failed.clone().expect("told at once");
        assert!(text.contains("takes no more writes"), "{text}");
        rig.drain(); // the second write succeeds; nothing comes of it
        rig.store.retry();
        rig.drain();
        assert_eq!(rig.durable, Zxid(3));
        assert!(rig.store.is_idle());
        let mut opened = rig.crash(&mut Chance(0)).open(&config).unwrap();
        assert!(replayed(&mut opened).len() >= 3);
    }
}

#[test]
fn a_full_disk_is_noticed_in_time_and_forgotten_when_space_returns() {
    let config = one_at_a_time();
    let mut rig = Rig::fresh(&config);
    rig.disk.memory.borrow_mut().capacity_bytes = Some(70 << 10);
    rig.append_and_drain(1..=1);
    assert_eq!((rig.room, rig.troubles.len()), (LogRoom::Ample, 1));
    assert!(rig.troubles[0].contains("no room for another 49152 bytes"), "{:?}", rig.troubles);
    assert!(rig.disk.paths(".tmp").is_empty(), "the partial segment is deleted");
    let mut rooms = vec![rig.room];
    let mut zxid = 1;
    while rig.room != LogRoom::None {
        zxid += 1;
        rig.append_and_drain(zxid..=zxid);
        rooms.push(rig.room);
        assert_eq!(rig.durable, Zxid(zxid), "what was admitted is still written");
    }
    rooms.dedup();
    assert_eq!(rooms, [LogRoom::Ample, LogRoom::Low, LogRoom::None]);
    // Written on regardless until the segment is full: then what is left waits, unacknowledged and not lost.
    rig.append_and_drain(zxid + 1..=zxid + 8);
    assert!(rig.durable < Zxid(zxid + 8) && !rig.store.is_idle());
    rig.store.retry();
    rig.poll();
    while !rig.held.is_empty() {
        rig.complete(0);
        assert_eq!(rig.room, LogRoom::None, "trying again is not success");
        rig.poll();
    }
    assert_eq!(rig.troubles.len(), 2);
    rig.disk.memory.borrow_mut().capacity_bytes = None;
    rig.store.retry();
    rig.drain();
    assert_eq!((rig.room, rig.durable), (LogRoom::Ample, Zxid(zxid + 8)));
    assert_eq!(recovered(&rig.crash(&mut Chance(0))).unwrap().len() as u64, zxid + 8);
}

#[test]
fn a_disk_that_is_full_at_the_first_start_says_so() {
    let disk = SharedDisk::default();
    disk.memory.borrow_mut().capacity_bytes = Some(10 << 10);
    let error = disk.open(&one_at_a_time()).unwrap().into_store().unwrap_err();
    assert!(matches!(error, StoreError::Log(LogError::Full { .. })), "{error}");
    assert!(disk.paths("log-").is_empty());
}

/// 30 records, snapshots at 10 and 20.
fn with_snapshots() -> Rig {
    let mut rig = Rig::fresh(&one_at_a_time());
    for tens in 0..3 {
        rig.append_and_drain(tens * 10 + 1..=tens * 10 + 10);
        if tens < 2 {
            rig.snapshot(rig.durable.0);
            assert_eq!(rig.snapshot_ended.take(), Some(Ok(rig.durable)));
        }
    }
    rig
}

fn snapshot(zxid: u64) -> PathBuf {
    PathBuf::from(format!("{DIRECTORY}/snapshot-{zxid:016x}.rks"))
}

#[test]
fn every_damaged_byte_of_a_snapshot_is_noticed_and_the_older_one_used() {
    let disk = with_snapshots().crash(&mut Chance(0));
    let length = disk.bytes(&snapshot(20)).len();
    let (mut fell_back, mut padding) = (0, 0);
    for at in (0..length).step_by(37) {
        let damaged = disk.fork();
        damaged.damage(&snapshot(20), |bytes| bytes[at] ^= 0x10);
        let mut opened = damaged.open(&one_at_a_time()).unwrap();
        let zxid = opened.snapshot_header().unwrap().zxid;
        let mut nodes = Vec::new();
        opened.for_each_node(|node| nodes.push(node)).unwrap();
        assert_eq!(nodes, (0..30).map(rig::node).collect::<Vec<_>>());
        let records = replayed(&mut opened);
        assert!(records.iter().map(|(zxid, _)| *zxid).eq(zxid + 1..=30));
        if zxid == 10 {
            fell_back += 1;
            let note = &opened.report().notes[0];
            assert!(note.contains("snapshot-0000000000000014.rks") && note.contains("using snapshot 0xa"), "{note}");
        } else {
            padding += 1; // zeroes behind a part: nobody reads them
        }
    }
    assert!(fell_back > 50, "{fell_back} {padding}");
    for length in (0..length).step_by(512) {
        let damaged = disk.fork();
        damaged.damage(&snapshot(20), |bytes| bytes.truncate(length));
        assert_eq!(damaged.open(&one_at_a_time()).unwrap().snapshot_header().unwrap().zxid, 10);
    }
}

/// What the newest usable snapshot has nobody needs from the log; one record more, and it is missing.
#[test]
fn damage_below_the_snapshot_costs_nothing() {
    let config = one_at_a_time();
    let whole = with_snapshots().crash(&mut Chance(0));
    let (mut kept, mut refused) = (0, 0);
    for batch in bytes::batches(&whole).into_iter().filter(|batch| batch.last_zxid < 30) {
        let segment = segment(batch.segment);
        let harms: [&dyn Fn(&SharedDisk); 3] = [
            &|disk| disk.damage(&segment, |bytes| bytes[batch.at + 100] ^= 1),
            &|disk| disk.damage(&segment, |bytes| bytes[batch.at..batch.at + BLOCK].fill(0)),
            &|disk| disk.damage(&segment, |bytes| bytes[..batch.at + BLOCK].fill(0)),
        ];
        for (nth, harm) in harms.into_iter().enumerate() {
            for newest in [20, 10] {
                let disk = whole.fork();
                harm(&disk);
                if newest == 10 {
                    disk.damage(&snapshot(20), |bytes| bytes[70] ^= 1);
                }
                let tag = format!("{batch:?}, {nth}, from {newest}");
                if batch.last_zxid > newest {
                    assert!(disk.open(&config).is_err(), "{tag}");
                    refused += 1;
                    continue;
                }
                let mut opened = match disk.open(&config) {
                    Ok(opened) => opened,
                    // Where the log begins there is nothing left to go by.
                    Err(error) if nth == 2 => {
                        assert!(error.last_good().is_some(), "{tag}: {error}");
                        continue;
                    }
                    Err(error) => panic!("{tag}: {error}"),
                };
                assert_eq!((opened.report().last_zxid, opened.report().cut_bytes), (Zxid(30), 0), "{tag}");
                let expected: Vec<_> = (newest + 1..=30).map(|zxid| (zxid, payload(zxid, 0))).collect();
                assert_eq!(replayed(&mut opened), expected, "{tag}");
                let mut rig = Rig::start(&disk, opened).unwrap();
                rig.append_and_drain(31..=35);
                let disk = rig.crash(&mut Chance(1));
                assert_eq!(disk.open(&config).unwrap().report().last_zxid, Zxid(35), "{tag}");
                kept += 1;
            }
        }
    }
    assert!(kept > 40 && refused > 40, "{kept} {refused}");
}

/// ZOOKEEPER-3231 (20.20).
#[test]
fn no_usable_snapshot_and_no_log_to_make_up_for_it_is_refused() {
    let mut rig = with_snapshots();
    for _ in 0..5 {
        rig.store.purge(1); // again, until none is kept to be used again
        rig.drain();
    }
    assert_eq!(rig.disk.paths("snapshot-"), [snapshot(20)]);
    assert!(!rig.disk.paths("log-").contains(&segment(1)));
    let disk = rig.disk.fork();
    assert_eq!(disk.open(&one_at_a_time()).unwrap().report().last_zxid, Zxid(30));
    disk.damage(&snapshot(20), |bytes| bytes[70] ^= 1);
    let error = disk.open(&one_at_a_time()).unwrap_err();
    assert!(matches!(error, StoreError::Snapshot(SnapshotError::NoneUsable { .. })), "{error}");
    assert!(error.to_string().contains("snapshot-0000000000000014.rks: chunk 0"), "{error}");
}

/// ZOOKEEPER-3231 (20.20).
#[test]
fn without_any_snapshot_the_log_from_its_beginning_will_do() {
    let disk = with_snapshots().crash(&mut Chance(0));
    for zxid in [10, 20] {
        disk.damage(&snapshot(zxid), |bytes| bytes[70] ^= 1);
    }
    let mut opened = disk.open(&one_at_a_time()).unwrap();
    assert!(opened.snapshot_header().is_none());
    assert_eq!(replayed(&mut opened).len(), 30);
    assert_eq!(opened.report().notes.len(), 2);
}

#[test]
fn a_snapshot_knows_when_the_log_under_it_is_gone() {
    let disk = with_snapshots().crash(&mut Chance(0));
    for path in disk.paths("log-") {
        disk.damage(&path, |bytes| bytes[BLOCK..].fill(0));
    }
    let text = damage_of(disk.open(&one_at_a_time()).unwrap_err());
    assert!(text.contains("snapshot-0000000000000014.rks"), "{text}");
}

#[test]
fn a_snapshot_waits_for_the_log_to_vouch_for_it() {
    let mut rig = Rig::fresh(&one_at_a_time());
    rig.append_and_drain(1..=5);
    rig.store.append(Zxid(6), &payload(6, 0));
    rig.poll();
    let write = rig.held.remove(0);
    rig.snapshot(6);
    assert_eq!((rig.snapshot_ended.clone(), rig.disk.paths(".rks")), (None, vec![]));
    rig.held.push(write);
    rig.complete(0);
    rig.drain();
    assert_eq!(rig.snapshot_ended, Some(Ok(Zxid(6))));
}

#[test]
fn a_snapshot_that_finds_the_disk_full_leaves_nothing_and_the_log_goes_on() {
    let mut rig = Rig::fresh(&one_at_a_time());
    rig.append_and_drain(1..=5);
    let used = rig.disk.memory.borrow().used_bytes();
    rig.disk.memory.borrow_mut().capacity_bytes = Some(used + 6000);
    rig.snapshot(5);
    let error = rig.snapshot_ended.take().unwrap().unwrap_err();
    assert!(error.contains("snapshot-0000000000000005.rks: write failed"), "{error}");
    assert!(rig.disk.paths("snapshot").is_empty());
    rig.append_and_drain(6..=7);
    assert_eq!(rig.durable, Zxid(7));
    rig.disk.memory.borrow_mut().capacity_bytes = None;
    rig.snapshot(7);
    assert_eq!(rig.snapshot_ended, Some(Ok(Zxid(7))));
}

#[test]
fn a_snapshot_that_is_given_up_leaves_nothing_whenever_that_is() {
    for moment in 0..3 {
        let mut rig = Rig::fresh(&one_at_a_time());
        rig.append_and_drain(1..=5);
        rig.store.begin_snapshot(rig::header(5, 20));
        if moment > 0 {
            rig.drain();
            rig.store.snapshot_chunk(rig::chunk_of(0..10));
        }
        if moment > 1 {
            rig.poll(); // the chunk is on its way
            rig.store.snapshot_chunk(rig::chunk_of(10..20));
        }
        rig.store.abandon_snapshot("told to");
        rig.drain();
        let error = rig.snapshot_ended.take().unwrap().unwrap_err();
        assert!(error.contains("snapshot-0000000000000005.rks: given up: told to"), "{error}");
        assert!(rig.disk.paths("snapshot").is_empty() && rig.store.is_idle());
        rig.snapshot(5);
        rig.store.abandon_snapshot("too late");
        assert_eq!(rig.snapshot_ended, Some(Ok(Zxid(5))));
    }
}

#[test]
fn a_snapshot_with_nodes_missing_is_not_a_snapshot() {
    let mut rig = Rig::fresh(&one_at_a_time());
    rig.append_and_drain(1..=1);
    rig.store.begin_snapshot(rig::header(1, 11));
    rig.drain();
    rig.store.snapshot_chunk(rig::chunk_of(0..10));
    rig.store.finish_snapshot();
    rig.drain();
    let error = rig.snapshot_ended.take().unwrap().unwrap_err();
    assert!(error.contains("10 nodes came for a snapshot of 11"), "{error}");
    assert!(rig.disk.paths("snapshot").is_empty());
}

#[test]
fn leftovers_of_an_interrupted_server_are_removed() {
    let mut rig = Rig::fresh(&one_at_a_time());
    rig.append_and_drain(1..=5);
    rig.store.begin_snapshot(rig::header(5, 30));
    rig.drain();
    let disk = rig.disk.fork();
    assert_eq!(disk.paths(".tmp").len(), 1);
    disk.memory.borrow_mut().crash(&mut Chance(4)); // the name survives or not
    let rig = Rig::start(&disk, disk.open(&one_at_a_time()).unwrap()).unwrap();
    assert!(rig.disk.paths(".tmp").is_empty());
}

/// ZOOKEEPER-3231 (20.20).
#[test]
fn purging_keeps_what_the_oldest_kept_snapshot_needs() {
    let mut rig = with_snapshots();
    rig.store.purge(2);
    rig.drain();
    assert_eq!(rig.disk.paths("snapshot-"), [snapshot(10), snapshot(20)]);
    let disk = rig.crash(&mut Chance(0));
    disk.damage(&snapshot(20), |bytes| bytes[70] ^= 1);
    let mut opened = disk.open(&one_at_a_time()).unwrap();
    assert_eq!(opened.snapshot_header().unwrap().zxid, 10);
    assert_eq!(replayed(&mut opened).len(), 20);
}

#[test]
fn a_start_looks_at_what_it_needs_however_much_is_kept() {
    let mut rig = Rig::fresh(&one_at_a_time());
    let mut looked_at = Vec::new();
    for snapshots in 1..=20 {
        rig.append_and_drain(snapshots * 20 - 19..=snapshots * 20);
        rig.snapshot(snapshots * 20);
        let disk = rig.disk.fork();
        disk.open(&one_at_a_time()).unwrap();
        looked_at.push(disk.looked_at.borrow().len());
    }
    assert_eq!(looked_at[6], looked_at[18], "{looked_at:?}"); // the same place in a segment
    // A purge right after a start, with the number that was announced, leaves what these need and nothing else.
    let disk = rig.crash(&mut Chance(0));
    let mut rig = Rig::start(&disk, disk.open(&one_at_a_time()).unwrap()).unwrap();
    assert_eq!(rig.store.stats().log_segments + 1, disk.paths(".seg").len());
    rig.store.purge(3);
    rig.drain();
    assert_eq!(disk.paths("snapshot-"), [snapshot(360), snapshot(380), snapshot(400)]);
    let first: u64 = (1..).find(|id| disk.paths("log-").contains(&segment(*id))).unwrap();
    assert!(first > 20 && disk.paths(".seg").len() < 10, "{:?}", disk.paths("log-"));
    for zxid in [380, 400] {
        disk.damage(&snapshot(zxid), |bytes| bytes[70] ^= 1);
    }
    let mut opened = disk.fork().open(&one_at_a_time()).unwrap();
    assert_eq!((opened.snapshot_header().unwrap().zxid, replayed(&mut opened).len()), (360, 40));
}

#[test]
fn purging_leaves_the_end_of_the_chain_that_an_unfinished_segment_hangs_on() {
    let mut rig = Rig::fresh(&one_at_a_time());
    rig.append_and_drain(1..=10);
    assert_eq!(batches(&rig.disk.fork(), 1).last(), Some(&(11 * BLOCK)), "the segment is full");
    rig.snapshot(10);
    rig.store.append(Zxid(11), &payload(11, 0));
    rig.poll();
    let write = rig.held.remove(0);
    rig.store.purge(1);
    rig.drain();
    drop(write); // the first batch of the second segment is lost
    let mut opened = rig.disk.fork().open(&one_at_a_time()).unwrap();
    assert_eq!((opened.report().last_zxid, replayed(&mut opened).len()), (Zxid(10), 0));
}

#[test]
fn data_in_the_other_of_the_two_directories_is_not_forgotten() {
    let logged = written(3);
    let split = StoreConfig { data_log_dir: PathBuf::from("/log"), ..one_at_a_time() };
    let text = logged.fork().open(&split).unwrap_err().to_string();
    assert!(text.contains("log-0000000000000001.seg lies in /data/ringkeeper-1, and /log/ringkeeper-1 has"), "{text}");
    // The log is where it should be and reaches to the beginning, the snapshots are beside it instead of in dataDir.
    let disk = with_snapshots().crash(&mut Chance(0));
    let moved = StoreConfig { data_dir: PathBuf::from("/elsewhere"), ..one_at_a_time() };
    let text = disk.open(&moved).unwrap_err().to_string();
    assert!(text.contains(".rks lies in /data/ringkeeper-1, and /elsewhere/ringkeeper-1 has"), "{text}");
    // Two directories from the beginning are fine.
    let disk = SharedDisk::default();
    let mut rig = Rig::start(&disk, disk.open(&split).unwrap()).unwrap();
    rig.append_and_drain(1..=3);
    rig.snapshot(3);
    assert_eq!(rig.crash(&mut Chance(0)).open(&split).unwrap().report().last_zxid, Zxid(3));
}

#[test]
fn a_restart_on_a_full_disk_serves_and_tells() {
    let mut rig = Rig::fresh(&one_at_a_time());
    rig.disk.memory.borrow_mut().capacity_bytes = Some(70 << 10);
    rig.append_and_drain(1..=5);
    let disk = rig.crash(&mut Chance(0));
    let mut rig = Rig::start(&disk, disk.open(&one_at_a_time()).unwrap()).unwrap();
    rig.drain();
    assert_eq!((rig.durable, rig.troubles.len()), (Zxid(5), 1));
    rig.append_and_drain(6..=6);
    assert_eq!(rig.durable, Zxid(6), "into blocks that were written before");
}

#[test]
fn a_newer_format_is_left_alone() {
    let disk = written(3);
    disk.damage(&segment(1), |bytes| {
        bytes[12] = 2;
        let checksum = crc32c::crc32c(&bytes[12..56]);
        bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
    });
    let error = disk.open(&one_at_a_time()).unwrap_err();
    assert!(matches!(error, StoreError::Log(LogError::Version { version: 2, .. })), "{error}");
}
