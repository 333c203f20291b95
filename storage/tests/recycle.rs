//! Purged segments become the next ones: without a block zero-filled, without their former life ever coming back, whatever
//! moment the power fails in.

mod rig;

use std::path::PathBuf;

use rig::{DIRECTORY, Rig, SharedDisk, payload, replayed, small_config};
use ringkeeper_storage::backend::faulty::Fault;
use ringkeeper_storage::backend::memory::Chance;
use ringkeeper_storage::disk::Action;
use ringkeeper_storage::{LogError, StoreConfig, StoreError, Zxid};

const BLOCK: usize = 4096;

fn config() -> StoreConfig {
    StoreConfig { batches_in_flight: 1, snapshots_kept: 1, ..small_config() }
}

fn segment(id: u64) -> PathBuf {
    PathBuf::from(format!("{DIRECTORY}/log-{id:016x}.seg"))
}

/// Offsets of the batches that say they belong to this segment.
fn own_batches(disk: &SharedDisk, id: u64) -> Vec<usize> {
    let bytes = disk.bytes(&segment(id));
    let own = |at: &usize| bytes[*at..].starts_with(b"rkbatch\n") && bytes[at + 16..at + 24] == id.to_le_bytes();
    (2 * BLOCK..bytes.len()).step_by(BLOCK).filter(own).collect()
}

fn segment_ids(disk: &SharedDisk) -> Vec<u64> {
    let id = |path: &PathBuf| u64::from_str_radix(&path.file_name().unwrap().to_string_lossy()[4..20], 16).unwrap();
    disk.paths(".seg").iter().map(id).collect()
}

/// Records up to `last` with a snapshot and a purge after every twenty. Ends after so many completed operations; true when
/// it came to the end before.
fn live(rig: &mut Rig, last: u64, mut operations: usize) -> bool {
    for zxid in rig.durable.0 + 1..=last {
        rig.store.append(Zxid(zxid), &payload(zxid, 0));
        if !drain(rig, &mut operations) {
            return false;
        }
        if zxid.is_multiple_of(20) {
            rig.store.begin_snapshot(rig::header(zxid, 10));
            if !drain(rig, &mut operations) {
                return false;
            }
            rig.store.snapshot_chunk(rig::chunk_of(0..10));
            rig.store.finish_snapshot();
            rig.store.purge(1);
            if !drain(rig, &mut operations) {
                return false;
            }
        }
    }
    true
}

fn drain(rig: &mut Rig, operations: &mut usize) -> bool {
    loop {
        rig.poll();
        if rig.held.is_empty() {
            return true;
        }
        if *operations == 0 {
            return false;
        }
        *operations -= 1;
        rig.complete(0);
    }
}

/// A server that has recycled for a while: its current segment and its spares have had former lives.
fn steady() -> Rig {
    let mut rig = Rig::fresh(&config());
    assert!(live(&mut rig, 400, usize::MAX));
    rig
}

#[test]
fn a_steady_server_never_zero_fills() {
    let mut rig = Rig::fresh(&config());
    live(&mut rig, 100, usize::MAX);
    let before = rig.store.stats();
    let mut zero_filled = 0;
    for zxid in 101..=600 {
        rig.store.append(Zxid(zxid), &payload(zxid, 0));
        loop {
            rig.poll();
            zero_filled += rig.held.iter().filter(|op| matches!(op.action, Action::WriteZeroes { .. })).count();
            if rig.held.is_empty() {
                break;
            }
            rig.complete(0);
        }
        if zxid % 20 == 0 {
            rig.snapshot(zxid);
            rig.store.purge(1);
            rig.drain();
        }
    }
    let after = rig.store.stats();
    assert_eq!((zero_filled, after.segments_filled), (0, before.segments_filled));
    assert!(after.segments_recycled > before.segments_recycled + 20, "{after:?}");
    assert!(after.rolls > before.rolls + 20 && after.rolls_that_waited == 0, "{after:?}");
    assert!(after.spare_segments <= 4 && rig.disk.paths("log-").len() <= 8, "{:?}", rig.disk.paths("log-"));
    let mut opened = rig.crash(&mut Chance(0)).open(&config()).unwrap();
    assert_eq!((opened.report().last_zxid, opened.report().notes.len()), (Zxid(600), 0));
    assert!(replayed(&mut opened).is_empty());
}

#[test]
fn death_after_every_operation_of_a_recycling_server() {
    let mut stop_after = 0;
    let (mut recycled, mut in_between) = (0, 0);
    loop {
        let mut done = false;
        for seed in 0..4 {
            let mut rig = Rig::fresh(&config());
            live(&mut rig, 60, usize::MAX);
            done = live(&mut rig, 140, stop_after);
            let (promised, appended) = (rig.durable.0, rig.store.stats().last_zxid.0);
            recycled += rig.store.stats().segments_recycled;
            let mut chance = Chance(seed * 7919 + stop_after as u64);
            let tag = format!("after {stop_after} operations, seed {seed}");
            let disk = if seed == 0 { rig.kill(&mut chance) } else { rig.crash(&mut chance) };
            in_between += disk.paths(".tmp").iter().filter(|path| path.to_string_lossy().contains("log-")).count();
            // Again and again: power fails during the starts, too.
            for _ in 0..2 {
                let opened = disk.open(&config()).unwrap_or_else(|error| panic!("{tag}: {error}"));
                disk.fuse.replace(Some(chance.below(14) as usize));
                let _ = opened.into_store();
                disk.crash(&mut chance);
            }
            let mut opened = disk.open(&config()).unwrap_or_else(|error| panic!("{tag}: {error}"));
            let snapshot = opened.snapshot_header().map_or(0, |header| header.zxid);
            let records = replayed(&mut opened);
            assert!(records.iter().map(|(zxid, _)| *zxid).eq(snapshot + 1..=snapshot + records.len() as u64), "{tag}");
            assert!(records.iter().all(|(zxid, bytes)| *bytes == payload(*zxid, 0)), "{tag}");
            let last = opened.report().last_zxid.0;
            assert_eq!(last, snapshot + records.len() as u64, "{tag}");
            assert!((promised..=appended).contains(&last), "{tag}: {last}, {promised} was acknowledged");
            let mut rig = Rig::start(&disk, opened).unwrap();
            live(&mut rig, last + 30, usize::MAX);
            let opened = rig.crash(&mut chance).open(&config()).unwrap_or_else(|error| panic!("{tag}: {error}"));
            assert_eq!(opened.report().last_zxid, Zxid(last + 30), "{tag}");
        }
        if done {
            break;
        }
        stop_after += 1;
    }
    assert!(stop_after > 150 && recycled > 500 && in_between > 20, "{stop_after} {recycled} {in_between}");
}

#[test]
fn a_former_life_is_the_end_of_the_log_and_neither_a_torn_tail_nor_a_loss() {
    let mut rig = steady();
    assert!(rig.store.stats().segments_recycled > 10, "{:?}", rig.store.stats());
    rig.append_and_drain(401..=404);
    let disk = rig.crash(&mut Chance(0));
    let id = segment_ids(&disk).into_iter().rfind(|id| !own_batches(&disk, *id).is_empty()).unwrap();
    let behind = own_batches(&disk, id).last().unwrap() + BLOCK;
    let stale =
        disk.bytes(&segment(id))[behind..].chunks(BLOCK).filter(|block| block.starts_with(b"rkbatch\n")).count();
    let spare = disk.bytes(&segment(id + 1))[2 * BLOCK..].starts_with(b"rkbatch\n");
    assert!(stale > 0 && spare, "this test needs a former life behind the tail: {stale} {spare}");
    let opened = disk.open(&config()).unwrap();
    assert_eq!((opened.report().last_zxid, opened.report().cut_bytes), (Zxid(404), 0));
    assert_eq!(opened.report().notes, Vec::<String>::new());
    let before = disk.bytes(&segment(id));
    drop(Rig::start(&disk, opened).unwrap());
    assert!(disk.bytes(&segment(id)) == before, "there was nothing to cut");

    // Without the mark everything in the file is looked at, with the same verdict.
    disk.damage(&segment(id), |bytes| bytes[BLOCK] ^= 1);
    let opened = disk.open(&config()).unwrap();
    assert_eq!((opened.report().last_zxid, opened.report().cut_bytes), (Zxid(404), 0));
}

#[test]
fn a_loss_in_a_recycled_segment_is_still_a_loss() {
    let rig = steady();
    let disk = rig.crash(&mut Chance(0));
    let former = disk.bytes(&segment(segment_ids(&disk)[0]));
    let mut refused = 0;
    for id in segment_ids(&disk) {
        let batches = own_batches(&disk, id);
        for at in &batches {
            let damaged = disk.fork();
            // The batch is gone, and what was there before it shows again.
            damaged.damage(&segment(id), |bytes| bytes[*at..at + BLOCK].copy_from_slice(&former[3 * BLOCK..4 * BLOCK]));
            match damaged.open(&config()) {
                Ok(opened) => {
                    let last = opened.report().last_zxid;
                    assert!(last == Zxid(400) || last == Zxid(399), "segment {id} byte {at}: {last}");
                }
                Err(StoreError::Log(LogError::Damaged { .. })) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(refused > 0, "{refused}");
}

#[test]
fn a_spare_whose_new_header_was_lost_is_made_anew() {
    for whole in [false, true] {
        let disk = steady().crash(&mut Chance(0));
        let spare = *segment_ids(&disk).last().unwrap();
        assert!(own_batches(&disk, spare).is_empty());
        let former = disk.bytes(&segment(segment_ids(&disk)[0]));
        disk.damage(&segment(spare), |bytes| {
            let lost = if whole { bytes.len() } else { 2 * BLOCK };
            bytes[..lost].copy_from_slice(&former[..lost]);
        });
        let mut rig = Rig::start(&disk, disk.open(&config()).unwrap()).unwrap();
        assert_eq!(rig.durable, Zxid(400));
        live(&mut rig, 460, usize::MAX);
        assert_eq!(rig.crash(&mut Chance(1)).open(&config()).unwrap().report().last_zxid, Zxid(460));
    }
}

#[test]
fn what_is_not_wanted_as_a_spare_is_deleted() {
    let mut rig = Rig::fresh(&config());
    rig.append_and_drain(1..=200);
    assert!(rig.disk.paths(".seg").len() > 10);
    rig.snapshot(200);
    rig.store.purge(1);
    rig.drain();
    // The one that is written, one ready, the one before that the snapshot may need, and those that are kept for use.
    assert!(rig.disk.paths("log-").len() <= 3 + 8, "{:?}", rig.disk.paths("log-"));
    assert!(rig.store.is_idle() && rig.store.stats().spare_segments <= 9);
    // Nothing is begun any more: after a while nothing is kept.
    for _ in 0..8 {
        rig.store.purge(1);
        rig.drain();
    }
    assert!(rig.disk.paths("log-").len() <= 3, "{:?}", rig.disk.paths("log-"));
    let disk = rig.disk.fork();

    // Grown for one huge record, a segment is of no common length.
    rig.store.append(Zxid(201), &[1; 100 << 10]);
    rig.drain();
    rig.append_and_drain(202..=220);
    rig.snapshot(220);
    rig.store.purge(1);
    rig.drain();
    let large = |disk: &SharedDisk| disk.paths(".seg").iter().filter(|path| disk.bytes(path).len() > 48 << 10).count();
    assert_eq!(large(&rig.disk), 0, "{:?}", rig.store.stats());
    assert_eq!(rig.crash(&mut Chance(3)).open(&config()).unwrap().report().last_zxid, Zxid(220));
    assert_eq!(disk.open(&config()).unwrap().report().last_zxid, Zxid(200));
}

#[test]
fn a_spare_that_had_a_former_life_grows_for_a_huge_record() {
    let mut rig = steady();
    rig.store.append(Zxid(401), &vec![7; 120 << 10]);
    rig.drain();
    rig.append_and_drain(402..=410);
    assert_eq!(rig.durable, Zxid(410));
    let mut opened = rig.crash(&mut Chance(0)).open(&config()).unwrap();
    assert_eq!(opened.report().last_zxid, Zxid(410));
    assert_eq!(replayed(&mut opened)[0].1, vec![7; 120 << 10]);
}

#[test]
fn a_disk_that_refuses_to_recycle_is_told_of_and_gets_a_new_segment() {
    for operation in ["rename", "directory flush", "open", "write", "flush"] {
        let mut rig = steady();
        // Until a spare is being made from an old segment.
        let mut zxid = 400;
        let is_taken =
            |action: &Action| matches!(action, Action::Rename { from, .. } if from.extension().unwrap() == "seg");
        while !rig.held.iter().any(|op| is_taken(&op.action)) {
            if rig.held.is_empty() {
                zxid += 1;
                rig.store.append(Zxid(zxid), &payload(zxid, 0));
                if zxid % 20 == 0 {
                    rig.snapshot(zxid);
                    rig.store.purge(1);
                }
                rig.poll();
            } else {
                rig.complete(0);
                rig.poll();
            }
        }
        while rig.held.len() > 1 {
            let other = rig.held.iter().position(|op| !is_taken(&op.action)).unwrap();
            rig.complete(other);
        }
        let troubles = rig.troubles.len();
        rig.disk.memory.borrow_mut().fail_next(rig::calls_of(operation), Fault::Error(5));
        rig.drain();
        assert_eq!(rig.troubles.len(), troubles + 1, "{operation}: {:?}", rig.troubles);
        assert!(rig.troubles[troubles].contains("could not be made from an older segment"), "{:?}", rig.troubles);
        assert!(rig.failed.is_none() && rig.store.stats().segments_refused == 1);
        assert!(rig.disk.paths("log-").iter().all(|path| path.extension().unwrap() == "seg"), "{operation}");
        for zxid in zxid + 1..=zxid + 60 {
            rig.store.append(Zxid(zxid), &payload(zxid, 0));
            rig.store.retry();
            rig.drain();
        }
        assert_eq!(rig.durable, Zxid(zxid + 60), "{operation}");
        assert_eq!(rig.crash(&mut Chance(0)).open(&config()).unwrap().report().last_zxid, Zxid(zxid + 60));
    }
}
