//! A disk that is smaller than what is written: room is made on it, in the right order and never at the cost of what counts.

mod rig;

use rig::{Rig, replayed, small_config};
use ringkeeper_storage::backend::memory::Chance;
use ringkeeper_storage::{LogRoom, StoreConfig, Zxid};

fn config() -> StoreConfig {
    StoreConfig { batches_in_flight: 1, ..small_config() }
}

fn snapshots(rig: &Rig) -> Vec<u64> {
    let zxid = |name: &str| u64::from_str_radix(&name[name.len() - 20..name.len() - 4], 16).unwrap();
    rig.disk.paths(".rks").iter().map(|path| zxid(&path.to_string_lossy())).collect()
}

/// As a server does: the snapshot that is asked for is taken, of now.
fn settle(rig: &mut Rig) {
    rig.drain();
    while std::mem::take(&mut rig.snapshot_wanted) {
        rig.snapshot(rig.durable.0);
    }
}

/// One more record, if there is room for writers within a few seconds of a server's life.
fn write(rig: &mut Rig) -> bool {
    for _ in 0..5 {
        settle(rig);
        if rig.room == LogRoom::Ample {
            let next = rig.durable.0 + 1;
            rig.append_and_drain(next..=next);
            assert_eq!(rig.durable, Zxid(next));
            return true;
        }
        rig.store.retry();
    }
    false
}

fn fill(rig: &mut Rig) {
    while write(rig) {
        assert!(rig.durable < Zxid(1000), "never full");
    }
}

/// Whenever snapshots are due, also never: there is no size at which a disk fills up for good.
#[test]
fn a_small_disk_takes_any_number_of_writes_as_long_as_snapshots_may_go() {
    for capacity_bytes in (256 << 10..512 << 10).step_by(12 << 10) {
        for due_after in [10, 25, 70, u64::MAX] {
            let what = format!("{capacity_bytes} bytes, a snapshot every {due_after}");
            let mut rig = Rig::fresh(&config());
            rig.disk.memory.borrow_mut().capacity_bytes = Some(capacity_bytes);
            rig.store.purge(3);
            for zxid in [1, 2] {
                rig.append_and_drain(zxid..=zxid);
                rig.snapshot(zxid);
            }
            while rig.durable < Zxid(400) {
                assert!(write(&mut rig), "{what}: full for good after {}: {:?}", rig.durable, rig.disk);
                if rig.durable.0.is_multiple_of(due_after) {
                    rig.snapshot(rig.durable.0);
                    assert!(!snapshots(&rig).is_empty(), "{what}");
                }
            }
            let mut opened = rig.crash(&mut Chance(capacity_bytes)).open(&config()).unwrap();
            assert_eq!(opened.report().last_zxid, Zxid(400), "{what}");
            let behind = opened.snapshot_header().unwrap().zxid;
            assert_eq!(replayed(&mut opened).len() as u64, 400 - behind, "{what}");
        }
    }
}

/// What filled two servers of three for good: the log took the room that the next snapshot would have needed.
#[test]
fn a_log_that_took_the_room_of_the_next_snapshot_gives_it_back() {
    let mut rig = Rig::fresh(&config());
    rig.store.purge(3);
    rig.append_and_drain(1..=5);
    rig.snapshot(5);
    rig.append_and_drain(6..=60);
    rig.snapshot(60);
    rig.append_and_drain(61..=100);
    let used = rig.disk.memory.borrow().used_bytes();
    rig.disk.memory.borrow_mut().capacity_bytes = Some(used + (8 << 10));
    assert!((101..=300).all(|_| write(&mut rig)), "stuck after {}: {:?}", rig.durable, rig.disk);
    let given_up: Vec<_> = rig.troubles.iter().filter(|text| text.contains("giving up")).collect();
    assert!(given_up[0].contains("giving up snapshot-0000000000000005.rks"), "{given_up:?}");
}

/// A follower takes what its leader proposes, room or not, and others commit it: then a snapshot can be of more than its log has.
#[test]
fn a_log_and_a_snapshot_do_not_wait_for_each_other() {
    let mut rig = Rig::fresh(&config());
    rig.store.purge(3);
    rig.append_and_drain(1..=5);
    let used = rig.disk.memory.borrow().used_bytes();
    rig.disk.memory.borrow_mut().capacity_bytes = Some(used);
    let mut last = 5;
    while rig.durable == Zxid(last) {
        last += 1;
        rig.append_and_drain(last..=last);
    }
    rig.disk.memory.borrow_mut().capacity_bytes = Some(used + (24 << 10));
    rig.snapshot(last);
    assert!(rig.snapshot_ended.is_none() && rig.durable < Zxid(last), "{:?}", rig.snapshot_ended);
    rig.disk.memory.borrow_mut().capacity_bytes = None;
    for _ in 0..3 {
        rig.store.retry();
        rig.drain();
    }
    assert_eq!((rig.durable, rig.snapshot_ended), (Zxid(last), Some(Ok(Zxid(last)))));
}

#[test]
fn as_long_as_writers_have_room_as_many_snapshots_stay_as_were_asked_for() {
    let mut rig = Rig::fresh(&config());
    rig.store.purge(3);
    for zxid in [10, 20, 30] {
        rig.append_and_drain(rig.durable.0 + 1..=zxid);
        rig.snapshot(zxid);
    }
    let used = rig.disk.memory.borrow().used_bytes();
    rig.disk.memory.borrow_mut().capacity_bytes = Some(used + (48 << 10) + (40 << 10));
    while rig.troubles.is_empty() {
        assert!(write(&mut rig));
    }
    settle(&mut rig);
    assert!(rig.troubles[0].contains("no room for another"), "{:?}", rig.troubles);
    assert_eq!((rig.room, rig.troubles.len()), (LogRoom::Ample, 1));
    assert_eq!(snapshots(&rig), [20, 30, rig.durable.0], "a snapshot at once, and the surplus at once");
    assert!(rig.store.stats().spare_segments > 0, "and from what that freed, the next segment");
}

#[test]
fn the_newest_snapshot_stays_whatever_happens_and_room_from_elsewhere_is_taken() {
    let mut rig = Rig::fresh(&config());
    rig.store.purge(3);
    for zxid in [10, 20, 30] {
        rig.append_and_drain(rig.durable.0 + 1..=zxid);
        rig.snapshot(zxid);
    }
    // Whatever goes is taken by somebody else at once.
    let capacity_bytes = |rig: &Rig| Some(rig.disk.memory.borrow().used_bytes());
    for _ in 0..200 {
        rig.disk.memory.borrow_mut().capacity_bytes = capacity_bytes(&rig);
        write(&mut rig);
    }
    assert_ne!(rig.room, LogRoom::Ample);
    let (full_at, left) = (rig.durable, snapshots(&rig));
    assert_eq!(left.len(), 1, "{left:?}");
    rig.disk.memory.borrow_mut().capacity_bytes = None;
    assert!(write(&mut rig));
    assert_eq!(rig.durable.0, full_at.0 + 1);
    let opened = rig.crash(&mut Chance(0)).open(&config()).unwrap();
    assert_eq!(opened.report().last_zxid.0, full_at.0 + 1);
    assert_eq!(opened.snapshot_header().map(|header| header.zxid), Some(left[0]));
}

#[test]
fn a_store_that_was_never_told_to_purge_deletes_nothing() {
    let mut rig = Rig::fresh(&config());
    rig.append_and_drain(1..=5);
    rig.snapshot(5);
    rig.append_and_drain(6..=10);
    rig.snapshot(10);
    rig.disk.memory.borrow_mut().capacity_bytes = Some(400 << 10);
    fill(&mut rig);
    assert_eq!(snapshots(&rig), [5, 10]);
    assert_eq!(
        replayed(&mut rig.crash(&mut Chance(0)).open(&config()).unwrap()).last().map(|last| last.0 > 50),
        Some(true)
    );
}

/// Spares are for speed. A snapshot that finds no room beside them comes before them.
#[test]
fn a_snapshot_that_finds_no_room_ends_the_keeping_of_spares() {
    let mut rig = Rig::fresh(&config());
    rig.append_and_drain(1..=60);
    rig.snapshot(60);
    rig.store.purge(1);
    rig.drain();
    let spares = rig.store.stats().spare_segments;
    assert!(spares > 2, "{spares}");
    rig.append_and_drain(61..=61);
    let used = rig.disk.memory.borrow().used_bytes();
    rig.disk.memory.borrow_mut().capacity_bytes = Some(used);
    rig.snapshot(61);
    assert!(rig.snapshot_ended.take().unwrap().is_err());
    assert!(rig.store.stats().spare_segments < spares);
    rig.snapshot(61);
    assert_eq!(rig.snapshot_ended, Some(Ok(Zxid(61))));
}

/// A segment more is full in a moment; then there is no room for what would have freed many.
#[test]
fn while_a_snapshot_is_to_make_room_the_log_does_not_ask_for_it() {
    let mut rig = Rig::fresh(&config());
    rig.store.purge(3);
    rig.append_and_drain(1..=5);
    rig.snapshot(5);
    let used = rig.disk.memory.borrow().used_bytes();
    rig.disk.memory.borrow_mut().capacity_bytes = Some(used + (40 << 10));
    while !rig.snapshot_wanted {
        let next = rig.durable.0 + 1;
        rig.append_and_drain(next..=next);
    }
    let refused = rig.store.stats().segments_refused;
    let tick = |rig: &mut Rig| {
        rig.store.retry();
        rig.drain();
        rig.store.stats().segments_refused - refused
    };
    assert_eq!(tick(&mut rig), 0, "wanted");
    rig.store.begin_snapshot(rig::header(rig.durable.0, 10));
    assert_eq!(tick(&mut rig), 0, "running");
    rig.store.snapshot_chunk(rig::chunk_of(0..10));
    rig.store.finish_snapshot();
    rig.drain();
    assert!(matches!(rig.snapshot_ended, Some(Ok(_))), "{:?}", rig.snapshot_ended);
    assert_eq!(rig.store.stats().spare_segments, 1, "it asked by itself then, and the first segment was gone");
}
