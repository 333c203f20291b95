//! Epochs are stable before anybody is told, whatever moment the power fails in, and damage to them is noticed.

mod rig;

use std::path::PathBuf;

use rig::{DIRECTORY, Rig, SharedDisk, payload, small_config};
use ringkeeper_storage::backend::faulty::Fault;
use ringkeeper_storage::backend::memory::Chance;
use ringkeeper_storage::{EpochKind, Epochs, LogRoom, StoreError, Zxid};

fn path(name: &str) -> PathBuf {
    PathBuf::from(format!("{DIRECTORY}/{name}"))
}

fn epochs(disk: &SharedDisk) -> Result<Epochs, StoreError> {
    disk.fork().open(&small_config()).unwrap().epochs()
}

/// A log whose last transaction is the first of this epoch.
fn with_log(epoch: u64) -> Rig {
    let mut rig = Rig::fresh(&small_config());
    if epoch > 0 {
        rig.store.append(Zxid(epoch << 32 | 1), &payload(1, 0));
        rig.drain();
    }
    rig
}

/// ZOOKEEPER-2307 (20.12).
#[test]
fn power_fails_at_every_step_of_storing_an_epoch() {
    let (mut old, mut new) = (0, 0);
    for stop_after in 0..60 {
        for seed in 0..20 {
            let mut chance = Chance(seed * 101 + stop_after);
            let mut rig = with_log(1);
            rig.drain();
            for epoch in 2..=5 {
                rig.store.store_epoch(EpochKind::Accepted, epoch);
                rig.store.store_epoch(EpochKind::Current, epoch);
            }
            for _ in 0..stop_after {
                rig.poll();
                if !rig.held.is_empty() {
                    rig.complete(0);
                }
            }
            rig.poll();
            let told = |kind| {
                let stored = rig.epochs_stored.iter().filter(|(stored, ..)| *stored == kind);
                stored.map(|(_, epoch, result)| result.clone().map(|()| *epoch).unwrap()).max().unwrap_or(1)
            };
            let (accepted, current) = (told(EpochKind::Accepted), told(EpochKind::Current));
            let disk = if seed % 4 == 0 { rig.kill(&mut chance) } else { rig.crash(&mut chance) };
            let found = epochs(&disk).unwrap_or_else(|error| panic!("after {stop_after}, seed {seed}: {error}"));
            assert!((accepted..=accepted + 1).contains(&found.accepted), "after {stop_after}, seed {seed}: {found:?}");
            assert!((current..=current + 1).contains(&found.current), "after {stop_after}, seed {seed}: {found:?}");
            old += u64::from(found.accepted == accepted);
            new += u64::from(found.accepted > accepted);
            // What a power failure left half-done is no hindrance.
            let mut rig = Rig::start(&disk, disk.open(&small_config()).unwrap()).unwrap();
            rig.store.store_epoch(EpochKind::Accepted, 9);
            rig.store.store_epoch(EpochKind::Current, 8);
            rig.drain();
            assert_eq!(epochs(&rig.crash(&mut chance)).unwrap(), Epochs { accepted: 9, current: 8 });
        }
    }
    assert!(old > 100 && new > 20, "{old} {new}");
}

#[test]
fn what_is_missing_follows_from_the_log() {
    assert_eq!(epochs(&with_log(0).disk).unwrap(), Epochs { accepted: 0, current: 0 });
    assert_eq!(epochs(&with_log(7).disk).unwrap(), Epochs { accepted: 7, current: 7 });
    let mut rig = with_log(0);
    rig.store.store_epoch(EpochKind::Current, 0); // a founder's
    rig.drain();
    assert_eq!(epochs(&rig.disk).unwrap(), Epochs { accepted: 0, current: 0 });
    // What is current was promised before; so the promise was lost, and with it perhaps a later one.
    rig.store.store_epoch(EpochKind::Current, 5);
    rig.drain();
    let error = epochs(&rig.disk).unwrap_err();
    assert!(matches!(&error, StoreError::EpochDamaged { path: told } if *told == path("acceptedEpoch")), "{error}");
}

/// A learner logs transactions of its leader's epoch before it has stored that epoch as its own, and the power fails there.
/// ZOOKEEPER-4643 (20.5); ZOOKEEPER-2307 (20.12).
#[test]
fn an_epoch_with_a_transaction_here_is_current() {
    let mut rig = with_log(6);
    rig.store.store_epoch(EpochKind::Accepted, 6);
    rig.store.store_epoch(EpochKind::Current, 4);
    rig.drain();
    assert_eq!(epochs(&rig.disk).unwrap(), Epochs { accepted: 6, current: 6 });
}

#[test]
fn epochs_that_contradict_each_other_or_the_log_are_refused() {
    let mut rig = with_log(3);
    rig.store.store_epoch(EpochKind::Accepted, 4);
    rig.store.store_epoch(EpochKind::Current, 4);
    rig.drain();
    let disk = rig.crash(&mut Chance(0));
    for (name, mend) in [("acceptedEpoch", None), ("currentEpoch", Some(()))] {
        for at in 0..disk.bytes(&path(name)).len() {
            let damaged = disk.fork();
            damaged.damage(&path(name), |bytes| bytes[at] ^= 1);
            let error = epochs(&damaged).unwrap_err();
            assert!(matches!(&error, StoreError::EpochDamaged { path: told } if *told == path(name)), "{error}");
            let mut rig = Rig::start(&damaged, damaged.open(&small_config()).unwrap()).unwrap();
            if mend.is_some() {
                rig.store.store_epoch(EpochKind::Current, 4);
                rig.drain();
                assert_eq!(epochs(&damaged).unwrap(), Epochs { accepted: 4, current: 4 });
            }
        }
    }
    // Of different ages: the log knows a later epoch than was ever promised, or what is current was never accepted.
    let mut rig = with_log(6);
    rig.store.store_epoch(EpochKind::Accepted, 5);
    rig.store.store_epoch(EpochKind::Current, 5);
    rig.drain();
    let error = epochs(&rig.disk).unwrap_err();
    assert!(matches!(error, StoreError::EpochBehind { accepted: 5, .. }), "{error}");
    rig.store.store_epoch(EpochKind::Accepted, 6);
    rig.drain();
    rig.store.store_epoch(EpochKind::Current, 7);
    rig.drain();
    let error = epochs(&rig.disk).unwrap_err();
    assert!(matches!(error, StoreError::EpochNotAccepted { accepted: 6, current: 7, .. }), "{error}");
}

/// Found by `cargo dev drill`: a member whose disk was full when an epoch began ended, and so did each of its starts.
#[test]
fn who_has_no_room_for_an_epoch_takes_no_part_until_there_is() {
    let mut rig = with_log(3);
    rig.store.store_epoch(EpochKind::Accepted, 4);
    rig.drain();
    let used = rig.disk.memory.borrow().used_bytes();
    let open = rig.disk.memory.borrow().open_files();
    rig.disk.memory.borrow_mut().capacity_bytes = Some(used);
    rig.epochs_stored.clear();
    rig.store.store_epoch(EpochKind::Accepted, 5);
    rig.store.store_epoch(EpochKind::Current, 4);
    rig.drain();
    for _ in 0..3 {
        rig.store.retry();
        rig.drain();
        assert_eq!((rig.room, &rig.epochs_stored[..]), (LogRoom::None, &[][..]));
        assert_eq!(rig.disk.memory.borrow().open_files(), open, "trying again must not use up descriptors");
        assert_eq!(epochs(&rig.disk).unwrap(), Epochs { accepted: 4, current: 3 });
    }
    assert_eq!(rig.troubles.iter().filter(|trouble| trouble.contains("epoch 5 cannot be stored")).count(), 1);
    rig.disk.memory.borrow_mut().capacity_bytes = None;
    rig.store.retry();
    rig.drain();
    assert_eq!(rig.room, LogRoom::Ample);
    assert_eq!(rig.epochs_stored, [(EpochKind::Accepted, 5, Ok(())), (EpochKind::Current, 4, Ok(()))]);
    assert_eq!(epochs(&rig.crash(&mut Chance(0))).unwrap(), Epochs { accepted: 5, current: 4 });
}

#[test]
fn who_may_open_no_file_for_an_epoch_tries_again() {
    for errno in [23, 24, 12] {
        let mut rig = with_log(3);
        rig.epochs_stored.clear();
        rig.disk.memory.borrow_mut().fail_next(rig::calls_of("open"), Fault::Error(errno));
        rig.store.store_epoch(EpochKind::Accepted, 5);
        rig.drain();
        assert_eq!((rig.room, &rig.epochs_stored[..]), (LogRoom::None, &[][..]));
        rig.store.retry();
        rig.drain();
        assert_eq!((rig.room, &rig.epochs_stored[..]), (LogRoom::Ample, &[(EpochKind::Accepted, 5, Ok(()))][..]));
    }
}

/// What a full disk left of a number does not get the number's name when the power fails: a name that was made is not stable
/// yet, and one that is given already may be.
#[test]
fn the_rest_of_an_epoch_that_was_not_stored_never_becomes_one() {
    for stop_after in 0..12 {
        for seed in 0..40 {
            let mut chance = Chance(seed * 103 + stop_after);
            let rig = with_log(3);
            rig.disk.memory.borrow_mut().put(&path("acceptedEpoch.tmp"), b"4".to_vec());
            let disk = rig.kill(&mut chance);
            let opened = disk.open(&small_config()).unwrap();
            let mut rig = Rig::start(&disk, opened).unwrap();
            rig.store.store_epoch(EpochKind::Accepted, 5);
            for _ in 0..stop_after {
                rig.poll();
                if !rig.held.is_empty() {
                    rig.complete(0);
                }
            }
            rig.poll();
            let found = epochs(&rig.crash(&mut chance)).unwrap_or_else(|error| panic!("{stop_after}, {seed}: {error}"));
            assert!([3, 5].contains(&found.accepted), "after {stop_after}, seed {seed}: {found:?}");
        }
    }
}
