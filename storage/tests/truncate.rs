//! A learner gives up what its leader does not know: exactly that, for good, or nothing at all, whatever moment the power
//! fails in.

mod rig;

use std::path::{Path, PathBuf};

use rig::{DIRECTORY, Rig, SharedDisk, payload, replayed, small_config};
use ringkeeper_storage::backend::faulty::Fault;
use ringkeeper_storage::backend::memory::Chance;
use ringkeeper_storage::{LogError, SnapshotError, StoreConfig, StoreError, Zxid, open_on_despite_loss};

fn config() -> StoreConfig {
    StoreConfig { batches_in_flight: 1, ..small_config() }
}

/// Odd zxids up to 199, two a batch; snapshots at 61 and 121, each when the log was stable a good way beyond. With `purged`
/// the log begins with the first of them.
fn written(purged: bool) -> SharedDisk {
    let mut rig = Rig::fresh(&config());
    for zxid in (1..200).step_by(2) {
        rig.store.append(Zxid(zxid), &payload(zxid, 0));
        if zxid % 4 == 3 {
            rig.drain();
        }
        if zxid == 79 || zxid == 139 {
            rig.snapshot(zxid - 18);
            assert_eq!(rig.snapshot_ended.take(), Some(Ok(Zxid(zxid - 18))));
        }
    }
    rig.drain();
    if purged {
        for _ in 0..20 {
            rig.store.purge(2);
            rig.drain();
        }
    }
    assert!(rig.store.stats().log_segments > 3, "{:?}", rig.store.stats());
    rig.crash(&mut Chance(1))
}

/// Opens, and checks that everything there is, is what was written: up to 199 in life 0, unless a later life wrote it.
fn check(disk: &SharedDisk, lives: impl Fn(u64) -> u64, tag: &str) -> u64 {
    let mut opened = disk.fork().open(&config()).unwrap_or_else(|error| panic!("{tag}: {error}"));
    let snapshot = opened.snapshot_header().map_or(0, |header| header.zxid);
    let mut next = if snapshot == 0 { 1 } else { snapshot + 2 };
    for (zxid, bytes) in replayed(&mut opened) {
        assert_eq!((zxid, bytes), (next, payload(next, lives(next))), "{tag}");
        next += 2;
    }
    let last = opened.report().last_zxid.0;
    assert_eq!(last, next.saturating_sub(2).max(snapshot), "{tag}");
    last
}

/// ZOOKEEPER-1549 (20.2).
#[test]
fn the_log_is_cut_behind_any_of_its_transactions() {
    for (purged, first) in [(false, 1), (true, 61)] {
        let before = written(purged);
        for to in (first..200).step_by(2) {
            let disk = before.fork();
            let mut opened = disk.open(&config()).unwrap();
            opened.truncate(Zxid(to)).unwrap_or_else(|error| panic!("{to}: {error}"));
            assert_eq!(opened.report().last_zxid, Zxid(to));
            assert!(opened.snapshot_header().map_or(0, |header| header.zxid) <= to);
            let mut rig = Rig::start(&disk, opened).unwrap();
            assert!(disk.paths(".cut").is_empty() && disk.paths(".tmp").is_empty());
            assert_eq!(check(&disk, |_| 0, &format!("to {to}")), to);
            // Other transactions take the place of those that were given up.
            for zxid in (to + 2..to + 42).step_by(2) {
                rig.store.append(Zxid(zxid), &payload(zxid, 1));
                rig.drain();
            }
            let disk = rig.crash(&mut Chance(to));
            assert_eq!(check(&disk, |zxid| u64::from(zxid > to), &format!("after {to}")), to + 40);
        }
    }
}

#[test]
fn the_log_from_its_beginning_can_be_given_up_whole_and_cut_again() {
    let disk = written(false);
    let mut opened = disk.open(&config()).unwrap();
    opened.truncate(Zxid(151)).unwrap();
    opened.truncate(Zxid(77)).unwrap();
    let mut rig = Rig::start(&disk, opened).unwrap();
    for zxid in (79..100).step_by(2) {
        rig.store.append(Zxid(zxid), &payload(zxid, 1));
        rig.drain();
    }
    let mut opened = disk.fork().open(&config()).unwrap();
    opened.truncate(Zxid(91)).unwrap();
    drop(rig);
    let mut opened = disk.open(&config()).unwrap();
    opened.truncate(Zxid(91)).unwrap();
    assert_eq!(check(&disk, |zxid| u64::from(zxid > 77), "cut three times"), 91);
    opened.truncate(Zxid::ZERO).unwrap();
    assert!(opened.snapshot_header().is_none() && replayed(&mut opened).is_empty());
    let mut rig = Rig::start(&disk, opened).unwrap();
    rig.append_and_drain(1..=3);
    assert_eq!(rig.crash(&mut Chance(5)).open(&config()).unwrap().report().last_zxid, Zxid(3));
}

/// ZOOKEEPER-1549 (20.2).
#[test]
fn power_fails_at_every_step_of_a_cut() {
    let (mut whole, mut cut) = (0, 0);
    for (purged, to) in [(false, 27), (true, 61), (true, 63), (false, 125), (true, 159), (false, 0)] {
        let before = written(purged);
        let mut fuse = 0;
        loop {
            let mut done = false;
            for seed in 0..4 {
                let mut chance = Chance(seed * 31 + fuse);
                let tag = format!("to {to}, fuse {fuse}, seed {seed}");
                let disk = before.fork();
                let mut opened = disk.open(&config()).unwrap();
                disk.fuse.replace(Some(fuse as usize));
                done = opened.truncate(Zxid(to)).is_ok();
                drop(opened);
                disk.crash(&mut chance);
                // And again, in the middle of completing it.
                disk.fuse.replace(Some(chance.below(20) as usize));
                let _ = disk.open(&config()).and_then(|opened| Rig::start(&disk, opened).map(drop));
                disk.crash(&mut chance);
                let last = check(&disk, |_| 0, &tag);
                assert!(last == 199 || last == to, "{tag}: {last}");
                assert!(!done || last == to, "{tag}: told that it was done, {last} is there");
                whole += u64::from(last == 199);
                cut += u64::from(last == to);
                let opened = disk.open(&config()).unwrap();
                assert_eq!(opened.report().last_zxid, Zxid(last), "{tag}");
                let mut rig = Rig::start(&disk, opened).unwrap();
                let from = if last == 0 { 1 } else { last + 2 };
                for zxid in (from..from + 30).step_by(2) {
                    rig.store.append(Zxid(zxid), &payload(zxid, 1));
                    rig.drain();
                }
                let disk = rig.crash(&mut chance);
                assert_eq!(check(&disk, |zxid| u64::from(zxid > last), &tag), from + 28, "{tag}");
            }
            if done {
                break;
            }
            fuse += 1;
        }
        assert!(fuse > 12, "{fuse}");
    }
    assert!(whole > 100 && cut > 100, "{whole} {cut}");
}

/// 20.24.
#[test]
fn what_is_not_covered_changes_nothing() {
    for (purged, to) in [(false, 201), (false, 60), (false, 198), (true, 59), (true, 0), (true, 1)] {
        let disk = written(purged);
        let paths = disk.paths("");
        let before: Vec<_> = paths.iter().map(|path| disk.bytes(path)).collect();
        let mut opened = disk.open(&config()).unwrap();
        let error = opened.truncate(Zxid(to)).unwrap_err();
        assert!(matches!(error, StoreError::Log(LogError::NotCovered { .. })), "{to}: {error}");
        assert_eq!((opened.report().last_zxid, disk.paths("")), (Zxid(199), paths.clone()));
        assert!(paths.iter().map(|path| disk.bytes(path)).eq(before));
        let mut rig = Rig::start(&disk, opened).unwrap();
        rig.store.append(Zxid(201), &payload(201, 0));
        rig.drain();
        assert_eq!(check(&rig.crash(&mut Chance(0)), |_| 0, "after a refusal"), 201);
    }
}

/// What a start has no need of may be damaged, or be left over from a purge that did not come to its end.
#[test]
fn an_older_log_that_is_not_whole_covers_nothing() {
    let flip: fn(&SharedDisk, &Path) = |disk, path| disk.damage(path, |bytes| bytes[8192 + 70] ^= 1);
    let remove: fn(&SharedDisk, &Path) = |disk, path| assert!(disk.memory.borrow_mut().remove(path));
    for (nth, harm) in [(0, flip), (1, flip), (1, remove)] {
        let disk = written(false);
        harm(&disk, &disk.paths(".seg")[nth]);
        let mut opened = disk.open(&config()).unwrap();
        let error = opened.truncate(Zxid(49)).unwrap_err();
        assert!(matches!(error, StoreError::Log(LogError::NotCovered { .. })), "{nth}: {error}");
        let mut rig = Rig::start(&disk, opened).unwrap();
        rig.store.append(Zxid(201), &payload(201, 0));
        rig.drain();
    }
}

#[test]
fn a_loss_behind_a_cut_is_still_a_loss() {
    let disk = written(false);
    let mut opened = disk.open(&config()).unwrap();
    opened.truncate(Zxid(125)).unwrap();
    let mut rig = Rig::start(&disk, opened).unwrap();
    for zxid in (127..160).step_by(2) {
        rig.store.append(Zxid(zxid), &payload(zxid, 1));
        rig.drain();
    }
    let disk = rig.crash(&mut Chance(0));
    let mut refused = 0;
    for path in disk.paths(".seg") {
        let bytes = disk.bytes(&path);
        for at in (8192..bytes.len()).step_by(4096).filter(|at| bytes[*at..].starts_with(b"rkbatch\n")) {
            let damaged = disk.fork();
            damaged.damage(&path, |bytes| bytes[at + 100] ^= 1);
            match damaged.open(&config()) {
                Ok(opened) => assert!(opened.report().last_zxid >= Zxid(157), "{} {at}", path.display()),
                Err(StoreError::Log(LogError::Damaged { .. })) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(refused > 10, "{refused}");
}

/// Wherever the damage is: what is before it is there after the cut, and the log goes on; until the cut is decided the start
/// refuses as it did, whatever moment the power fails in.
#[test]
fn what_is_damaged_is_given_up_when_an_operator_says_so() {
    let whole = written(true);
    let (mut given_up, mut told_otherwise) = (0, 0);
    for path in whole.paths(".seg") {
        let bytes = whole.bytes(&path);
        let batches: Vec<_> =
            (8192..bytes.len()).step_by(4096).filter(|at| bytes[*at..].starts_with(b"rkbatch\n")).collect();
        let flips = batches.iter().map(|at| (*at, "flip"));
        let others =
            ["cut short", "empty", "beginning lost", "gone"].map(|how| (batches.last().copied().unwrap_or(8192), how));
        for (at, how) in flips.chain(others) {
            let damaged = whole.fork();
            match how {
                "flip" => damaged.damage(&path, |bytes| bytes[at + 100] ^= 1),
                "cut short" => damaged.damage(&path, |bytes| bytes.truncate(at)),
                "empty" => damaged.damage(&path, Vec::clear),
                "beginning lost" => damaged.damage(&path, |bytes| bytes[..3 * 4096].fill(0)),
                _ => assert!(damaged.memory.borrow_mut().remove(&path)),
            }
            let tag = format!("{} {at} {how}", path.display());
            let Err(refusal) = damaged.fork().open(&config()) else { continue };
            assert_eq!(refusal.can_be_cut(), refusal.to_string().contains("`rk log chop DATADIR --to "), "{refusal}");
            if !refusal.can_be_cut() {
                told_otherwise += 1;
                continue;
            }
            let last_good = refusal.last_good().unwrap_or_else(|| panic!("{tag}: {refusal}"));
            given_up += 1;
            for fuse in 0.. {
                let disk = damaged.fork();
                let mut opened = open_on_despite_loss(disk.clone(), config()).unwrap();
                assert_eq!(opened.report().last_zxid, last_good, "{tag}");
                if fuse == 0 {
                    let lost = opened.report().lost_through;
                    assert!(lost.is_none_or(|zxid| zxid > last_good && zxid <= Zxid(199)), "{tag}: {lost:?}");
                    opened.check_truncate(last_good).unwrap();
                }
                disk.fuse.replace(Some(fuse));
                let done = opened.truncate(last_good).is_ok();
                drop(opened);
                let mut chance = Chance(fuse as u64);
                disk.crash(&mut chance);
                if let Err(again) = disk.fork().open(&config()) {
                    assert_eq!(again.to_string(), refusal.to_string(), "{tag}, fuse {fuse}");
                    assert!(!done, "{tag}");
                    continue;
                }
                assert_eq!(check(&disk, |_| 0, &tag), last_good.0, "{tag}, fuse {fuse}");
                let mut rig = Rig::start(&disk, disk.open(&config()).unwrap()).unwrap();
                for zxid in (last_good.0 + 2..last_good.0 + 22).step_by(2) {
                    rig.store.append(Zxid(zxid), &payload(zxid, 1));
                    rig.drain();
                }
                let disk = rig.crash(&mut chance);
                assert_eq!(check(&disk, |zxid| u64::from(zxid > last_good.0), &tag), last_good.0 + 20, "{tag}");
                if done {
                    break;
                }
            }
        }
    }
    assert!(given_up > 20 && told_otherwise > 0, "{given_up} {told_otherwise}");
}

/// What a member gives up it gives up for good.
#[test]
fn a_snapshot_that_cannot_be_read_now_is_no_reason_to_give_up_everything() {
    let disk = written(true);
    let mut opened = disk.open(&config()).unwrap();
    disk.unreadable.replace(disk.paths(".rks"));
    let error = opened.truncate(Zxid(125)).unwrap_err();
    assert!(matches!(error, StoreError::Snapshot(SnapshotError::Unreadable { .. })), "{error}");
    disk.unreadable.replace(Vec::new());
    opened.truncate(Zxid(125)).unwrap();
}

/// ZOOKEEPER-3701 (20.16).
#[test]
fn a_cut_that_the_disk_refused_is_forgotten() {
    for operation in ["open", "write", "flush", "rename", "directory flush", "zero fill"] {
        let disk = written(false);
        let mut opened = disk.open(&config()).unwrap();
        disk.memory.borrow_mut().fail_next(rig::calls_of(operation), Fault::Error(28));
        let refused = opened.truncate(Zxid(125));
        assert!(refused.is_err(), "{operation}");
        let mut rig = Rig::start(&disk, opened).unwrap();
        rig.store.append(Zxid(201), &payload(201, 0));
        rig.drain();
        assert_eq!(check(&rig.crash(&mut Chance(0)), |_| 0, operation), 201, "{operation}");
    }
    assert_eq!(PathBuf::from(DIRECTORY), PathBuf::from("/data/ringkeeper-1"));
}
