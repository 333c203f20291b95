//! Giving up, setting aside and replacing everything that is stored: as a whole or not at all, whatever moment the power fails
//! in, and what a server says of itself afterwards.

mod rig;

use std::path::PathBuf;

use rig::{DIRECTORY, Rig, SharedDisk, chunk_of, header, payload, replayed, small_config};
use ringkeeper_storage::backend::faulty::Fault;
use ringkeeper_storage::backend::memory::Chance;
use ringkeeper_storage::{EpochKind, Epochs, LogError, Opened, SnapshotError, Standing, StoreConfig, StoreError, Zxid};

fn member() -> StoreConfig {
    StoreConfig { has_peers: true, batches_in_flight: 1, ..small_config() }
}

/// With the log in a directory of its own.
fn apart() -> StoreConfig {
    StoreConfig { data_log_dir: "/log".into(), ..member() }
}

/// That of the member whose disk this is.
fn config_of(disk: &SharedDisk) -> StoreConfig {
    if disk.paths("/log/").is_empty() { member() } else { apart() }
}

/// In epoch 3, as `currentEpoch` says, with epoch 4 promised: transactions 1 to 60 and two snapshots.
fn written(config: &StoreConfig) -> SharedDisk {
    written_on(SharedDisk::default(), config)
}

fn written_on(disk: SharedDisk, config: &StoreConfig) -> SharedDisk {
    let mut rig = Rig::start(&disk, disk.open(config).unwrap()).unwrap();
    let lock = config.data_log_dir.join("ringkeeper-1/lock"); // there is one whatever else there is
    rig.disk.memory.borrow_mut().put(&lock, Vec::new());
    for zxid in 1..=60 {
        rig.store.append(Zxid(zxid), &payload(zxid, 0));
        rig.drain();
        if zxid % 25 == 0 {
            rig.snapshot(zxid - 5);
            assert_eq!(rig.snapshot_ended.take(), Some(Ok(Zxid(zxid - 5))));
        }
    }
    store_epoch(&mut rig, EpochKind::Accepted, 4);
    store_epoch(&mut rig, EpochKind::Current, 3);
    rig.crash(&mut Chance(1))
}

fn store_epoch(rig: &mut Rig, kind: EpochKind, epoch: u32) {
    rig.store.store_epoch(kind, epoch);
    rig.drain();
    assert_eq!(rig.epochs_stored.pop(), Some((kind, epoch, Ok(()))));
}

fn open(disk: &SharedDisk, tag: &str) -> Opened<SharedDisk> {
    disk.open(&config_of(disk)).unwrap_or_else(|error| panic!("{tag}: {error}"))
}

/// Standing and last transaction; what there is of it is as it was written in this life.
fn found(disk: &SharedDisk, life: u64, tag: &str) -> (Standing, u64) {
    let mut opened = open(&disk.fork(), tag);
    let mut next = opened.snapshot_header().map_or(0, |header| header.zxid) + 1;
    for (zxid, bytes) in replayed(&mut opened) {
        assert_eq!((zxid, bytes), (next, payload(next, life)), "{tag}");
        next += 1;
    }
    assert_eq!(opened.report().last_zxid, Zxid(next - 1), "{tag}");
    assert_eq!(opened.epochs().unwrap().accepted, 4, "{tag}");
    (opened.standing(), next - 1)
}

const INSTALLED: u64 = 40;
const NODES: u32 = 60;

/// A leader's state arrives at a running server, until the power goes: after so many operations, in the middle of one.
/// Says whether it was told that the state is there.
fn install(rig: &mut Rig, mut operations: u64) -> bool {
    rig.store.begin_install(header(INSTALLED, NODES));
    for slot in (0..NODES).step_by(20) {
        rig.store.install_chunk(chunk_of(slot..slot + 20));
    }
    rig.store.finish_install();
    while rig.install_ended.is_none() {
        rig.poll();
        if operations == 0 {
            return false;
        }
        operations -= 1;
        rig.complete(0);
    }
    rig.install_ended.take() == Some(Ok(Zxid(INSTALLED)))
}

fn check_installed(disk: &SharedDisk, tag: &str) {
    let mut opened = open(&disk.fork(), tag);
    assert_eq!(opened.report().last_zxid, Zxid(INSTALLED), "{tag}");
    let mut slots = Vec::new();
    opened.for_each_node(|image| slots.push(image.slot)).unwrap();
    slots.sort_unstable();
    assert_eq!(slots, (0..NODES).collect::<Vec<_>>(), "{tag}");
}

/// The installed state goes on with its own log, and nothing of what was there before ever comes back.
fn check_goes_on(disk: &SharedDisk, chance: &mut Chance, tag: &str) {
    let mut rig = Rig::start(disk, open(disk, tag)).unwrap_or_else(|error| panic!("{tag}: {error}"));
    for part in ["install", ".tmp", "state-given-up", "state-damaged"] {
        assert!(disk.paths(part).is_empty(), "{tag}: {:?}", disk.paths(part));
    }
    for zxid in INSTALLED + 1..INSTALLED + 40 {
        rig.store.append(Zxid(zxid), &payload(zxid, 1));
        rig.drain();
    }
    assert!(rig.store.read_range(Zxid(INSTALLED - 1), Zxid(INSTALLED)).is_err(), "{tag}: history from before");
    let disk = rig.crash(chance);
    assert_eq!(found(&disk, 1, tag).1, INSTALLED + 39, "{tag}");
}

/// ZOOKEEPER-2846 (20.1); ZOOKEEPER-3642 (20.9).
#[test]
fn power_fails_at_every_step_of_an_install() {
    for config in [member(), apart()] {
        power_fails_in_an_install(&config);
    }
}

fn power_fails_in_an_install(config: &StoreConfig) {
    let before = written(config);
    let (mut whole, mut replaced) = (0, 0);
    for operations in 0.. {
        let mut done = false;
        for seed in 0..40 {
            let mut chance = Chance(seed * 31 + operations);
            let tag = format!("after {operations} operations, seed {seed}");
            let disk = before.fork();
            let mut rig = Rig::start(&disk, open(&disk, &tag)).unwrap();
            rig.drain();
            done = install(&mut rig, operations);
            // Whoever completes it may see what is not stable yet.
            let disk = if seed % 2 == 0 { rig.crash(&mut chance) } else { rig.kill(&mut chance) };
            // And again, in the middle of completing it.
            disk.fuse.replace(Some(chance.below(30) as usize));
            let _ = disk.open(config).and_then(|opened| Rig::start(&disk, opened).map(drop));
            disk.crash(&mut chance);
            let (standing, last) = found(&disk, 0, &tag);
            assert_eq!(standing, Standing::Whole, "{tag}");
            assert_eq!(open(&disk.fork(), &tag).epochs().unwrap(), Epochs { accepted: 4, current: 3 }, "{tag}");
            match last {
                60 => whole += 1,
                INSTALLED => {
                    replaced += 1;
                    check_installed(&disk, &tag);
                    check_goes_on(&disk, &mut chance, &tag);
                }
                other => panic!("{tag}: {other}"),
            }
            assert!(!done || last == INSTALLED, "{tag}: told that it was done, {last} is there");
            // What was left undone is no hindrance.
            let mut rig = Rig::start(&disk, open(&disk, &tag)).unwrap();
            assert!(install(&mut rig, u64::MAX), "{tag}");
            check_installed(&rig.crash(&mut chance), &tag);
        }
        if done {
            break;
        }
    }
    assert!(whole > 30 && replaced > 6, "{whole} {replaced}");
}

/// ZOOKEEPER-3642 (20.9).
#[test]
fn an_install_that_is_given_up_or_fails_leaves_what_is_there() {
    let before = written(&member());
    for chunks in 0..4 {
        let disk = before.fork();
        let mut rig = Rig::start(&disk, open(&disk, "")).unwrap();
        rig.store.begin_install(header(INSTALLED, NODES));
        for chunk in 0..chunks {
            rig.store.install_chunk(chunk_of(chunk * 20..chunk * 20 + 20));
            assert!(rig.store.install_backlog() > 0);
            rig.drain();
            assert_eq!(rig.store.install_backlog(), 0);
        }
        rig.store.abandon_install("the leader is gone");
        // The next one need not wait for the end of this one.
        rig.store.begin_install(header(INSTALLED + 1, NODES));
        rig.store.abandon_install("that one, too");
        rig.drain();
        assert!(rig.install_ended.take().unwrap().unwrap_err().contains("that one, too"));
        rig.append_and_drain(61..=61);
        assert!(disk.paths("install").is_empty());
        assert_eq!(found(&rig.crash(&mut Chance(0)), 0, "given up"), (Standing::Whole, 61));
    }
    for operation in ["open", "write", "flush"] {
        let disk = before.fork();
        let mut rig = Rig::start(&disk, open(&disk, "")).unwrap();
        rig.drain();
        disk.memory.borrow_mut().fail_next(rig::calls_of(operation), Fault::Error(28));
        assert!(!install(&mut rig, u64::MAX), "{operation}");
        rig.append_and_drain(61..=61);
        assert!(install(&mut rig, u64::MAX), "{operation}");
        check_installed(&rig.crash(&mut Chance(0)), operation);
    }
}

/// ZOOKEEPER-3701 (20.16).
#[test]
fn a_decision_that_nobody_can_vouch_for_ends_the_store() {
    let before = written(&member());
    for operation in ["rename", "directory flush"] {
        let disk = before.fork();
        let mut rig = Rig::start(&disk, open(&disk, "")).unwrap();
        rig.drain();
        disk.memory.borrow_mut().fail_next(rig::calls_of(operation), Fault::Error(5));
        rig.store.begin_install(header(INSTALLED, NODES));
        (0..3).for_each(|chunk| rig.store.install_chunk(chunk_of(chunk * 20..chunk * 20 + 20)));
        rig.store.finish_install();
        rig.drain();
        assert!(rig.failed.is_some() && rig.install_ended.is_none(), "{operation}: {:?}", rig.install_ended);
        assert!(rig.store.is_idle());
        let last = found(&rig.crash(&mut Chance(3)), 0, operation).1;
        assert!(last == 60 || last == INSTALLED, "{operation}: {last}");
    }
}

#[test]
#[should_panic(expected = "given up")]
fn nothing_is_logged_behind_a_decided_install() {
    let disk = written(&member());
    let mut rig = Rig::start(&disk, open(&disk, "")).unwrap();
    assert!(install(&mut rig, u64::MAX));
    rig.append_and_drain(61..=61);
}

/// 20.24.
#[test]
fn power_fails_at_every_step_of_forgetting() {
    for config in [member(), apart()] {
        power_fails_in_forgetting(&config);
    }
}

fn power_fails_in_forgetting(config: &StoreConfig) {
    let before = written(config);
    let (mut whole, mut lost) = (0, 0);
    for fuse in 0.. {
        let mut done = false;
        for seed in 0..6 {
            let mut chance = Chance(seed * 31 + fuse);
            let tag = format!("fuse {fuse}, seed {seed}");
            let disk = before.fork();
            let opened = open(&disk, &tag);
            disk.fuse.replace(Some(fuse as usize));
            let outcome = opened.forget("the leader has less than any of our snapshots");
            done = outcome.is_ok();
            drop(outcome);
            disk.crash(&mut chance);
            disk.fuse.replace(Some(chance.below(30) as usize));
            let _ = disk.open(config).and_then(|opened| Rig::start(&disk, opened).map(drop));
            disk.crash(&mut chance);
            match found(&disk, 0, &tag) {
                (Standing::Whole, 60) => whole += 1,
                (Standing::Lost, 0) => {
                    lost += 1;
                    let opened = open(&disk, &tag);
                    assert_eq!(opened.report().notes.len(), 1, "{:?}", opened.report().notes);
                    drop(opened);
                    check_heals(&disk, &mut chance, &tag);
                }
                other => panic!("{tag}: {other:?}"),
            }
            assert!(
                !done || found(&disk, 0, &tag).0 != Standing::Whole || disk.paths("currentEpoch").len() == 1,
                "{tag}"
            );
        }
        if done {
            break;
        }
    }
    assert!(whole > 10 && lost > 20, "{whole} {lost}");
}

/// A lost server is lost until a leader's epoch is stored behind the state that came from it, however often it crashes.
fn check_heals(disk: &SharedDisk, chance: &mut Chance, tag: &str) {
    let mut rig = Rig::start(disk, open(disk, tag)).unwrap();
    rig.drain();
    let copy = rig.disk.running_copy();
    copy.crash(chance);
    assert_eq!(found(&copy, 0, tag), (Standing::Lost, 0), "{tag}: an empty log passes for a whole one");
    assert!(install(&mut rig, u64::MAX), "{tag}");
    let disk = rig.crash(chance);
    assert_eq!(found(&disk, 0, tag), (Standing::Lost, INSTALLED), "{tag}");
    let mut rig = Rig::start(&disk, open(&disk, tag)).unwrap();
    rig.store.append(Zxid(INSTALLED + 1), &payload(INSTALLED + 1, 0));
    rig.drain();
    let copy = rig.disk.running_copy();
    copy.crash(chance);
    assert_eq!(found(&copy, 0, tag), (Standing::Lost, INSTALLED + 1), "{tag}");
    store_epoch(&mut rig, EpochKind::Current, 4);
    let disk = rig.crash(chance);
    assert_eq!(found(&disk, 0, tag), (Standing::Whole, INSTALLED + 1), "{tag}");
    drop(Rig::start(&disk, open(&disk, tag)).unwrap());
    let mut marks = disk.paths("state-");
    marks.retain(|path| !path.to_string_lossy().contains("state-log"));
    assert!(marks.is_empty(), "{tag}: {marks:?}");
}

#[test]
fn a_new_server_is_fresh_until_a_leader_gave_it_a_history() {
    let disk = SharedDisk::default();
    for _ in 0..3 {
        let mut rig = Rig::start(&disk, open(&disk, "")).unwrap();
        rig.drain();
        store_epoch(&mut rig, EpochKind::Accepted, 4);
        assert_eq!(found(&rig.crash(&mut Chance(1)), 0, "promised"), (Standing::Fresh, 0));
    }
    // A new ensemble: everybody is empty.
    let empty = disk.fork();
    let mut rig = Rig::start(&empty, open(&empty, "")).unwrap();
    store_epoch(&mut rig, EpochKind::Current, 1);
    assert_eq!(found(&rig.crash(&mut Chance(1)), 0, "an empty history"), (Standing::Whole, 0));
    // An old one: what has arrived so far is not everything.
    for install_first in [true, false] {
        let mut disk = disk.fork();
        let mut last = 0;
        if install_first {
            let mut rig = Rig::start(&disk, open(&disk, "")).unwrap();
            assert!(install(&mut rig, u64::MAX));
            disk = rig.crash(&mut Chance(2));
            last = INSTALLED;
        }
        let mut rig = Rig::start(&disk, open(&disk, "")).unwrap();
        rig.append_and_drain(last + 1..=last + 5);
        let copy = rig.disk.running_copy();
        copy.crash(&mut Chance(1));
        assert_eq!(found(&copy, 0, "half"), (Standing::Lost, last + 5));
        store_epoch(&mut rig, EpochKind::Current, 4);
        assert_eq!(found(&rig.crash(&mut Chance(1)), 0, "whole"), (Standing::Whole, last + 5));
    }
}

#[test]
fn a_history_from_before_there_were_peers_is_whole() {
    let alone = StoreConfig { has_peers: false, ..member() };
    let mut rig = Rig::fresh(&alone);
    rig.append_and_drain(1..=5);
    let disk = rig.crash(&mut Chance(1));
    assert_eq!(open(&disk, "").standing(), Standing::Whole);
    // And one that is a member no longer: what it writes alone is its own.
    let disk = SharedDisk::default();
    drop(Rig::start(&disk, open(&disk, "")).unwrap());
    let mut rig = Rig::start(&disk, disk.open(&alone).unwrap()).unwrap();
    rig.append_and_drain(1..=5);
    assert_eq!(open(&rig.crash(&mut Chance(1)), "").standing(), Standing::Whole);
}

/// A `dataDir` that is not mounted, or was lost, beside a log that goes back to its beginning: that one could guess the epochs.
#[test]
fn a_log_alone_is_no_member() {
    let config = apart();
    let mut rig = Rig::fresh(&config);
    rig.append_and_drain(1..=5);
    let disk = rig.crash(&mut Chance(1));
    assert_eq!(disk.open(&config).unwrap().report().last_zxid, Zxid(5));
    for path in disk.paths("") {
        if path.starts_with(&config.data_dir) {
            assert!(disk.memory.borrow_mut().remove(&path));
        }
    }
    let refused = disk.open(&config).unwrap_err();
    assert!(matches!(refused, StoreError::PromiseGone { last: Zxid(5), .. }), "{refused}");
    // Alone, it has promised nothing.
    let alone = StoreConfig { has_peers: false, ..config };
    assert_eq!(disk.open(&alone).unwrap().report().last_zxid, Zxid(5));
}

/// What is wrong, and how it comes about.
type Damage<'a> = (&'a str, &'a dyn Fn(&SharedDisk));

#[test]
fn what_was_damaged_is_set_aside_and_lost() {
    for config in [member(), apart()] {
        damaged_in_every_way(&config);
    }
}

fn damaged_in_every_way(config: &StoreConfig) {
    let before = written(config);
    let snapshots = before.paths(".rks");
    let segments = before.paths(".seg");
    let flip = |at: usize| move |bytes: &mut Vec<u8>| bytes[at] ^= 1;
    let epoch_file = PathBuf::from(format!("{DIRECTORY}/currentEpoch"));
    let cases: [Damage<'_>; 5] = [
        ("batch", &|disk| disk.damage(&segments[segments.len() - 3], flip(8192 + 70))),
        ("cut short", &|disk| disk.damage(&segments[segments.len() - 3], |bytes| bytes.truncate(5000))),
        ("missing segment", &|disk| assert!(disk.memory.borrow_mut().remove(&segments[segments.len() - 3]))),
        ("all snapshots, no log below", &|disk| {
            snapshots.iter().for_each(|path| disk.damage(path, flip(100)));
            disk.memory.borrow_mut().remove(&segments[0]);
        }),
        ("current epoch", &|disk| disk.damage(&epoch_file, flip(0))),
    ];
    for (what, damage) in cases {
        let damaged = before.fork();
        damage(&damaged);
        let alone = StoreConfig { has_peers: false, ..config.clone() };
        let refused = damaged.fork().open(&alone).map(|mut opened| opened.epochs());
        assert!(!matches!(refused, Ok(Ok(_))), "{what}: noticed without peers, too");
        let held: Vec<_> = damaged.paths("").iter().map(|path| damaged.bytes(path)).collect();
        for fuse in (0..60).chain([usize::MAX]) {
            let disk = damaged.fork();
            let mut chance = Chance(fuse as u64);
            disk.fuse.replace(Some(fuse));
            let _ = disk.open(config).and_then(|opened| Rig::start(&disk, opened).map(drop));
            disk.crash(&mut chance);
            let tag = format!("{what}, fuse {fuse}");
            let opened = open(&disk, &tag);
            assert_eq!((opened.standing(), opened.report().last_zxid), (Standing::Lost, Zxid(0)), "{tag}");
            let notes = &opened.report().notes;
            assert!(notes.iter().any(|note| note.contains("does not vote")), "{tag}: {notes:?}");
            assert!(notes.iter().any(|note| note.contains("set aside as *.lost-N")), "{tag}: {notes:?}");
            drop(opened);
            // Nothing of it is gone but what never had a name for good.
            for bytes in held.iter().filter(|bytes| bytes.len() > 8192) {
                let kept = disk.paths("").iter().any(|path| disk.bytes(path) == *bytes);
                assert!(kept, "{tag}: a file of {} bytes is gone", bytes.len());
            }
            check_heals(&disk, &mut chance, &tag);
        }
        // Alone it does not start on what is left.
        let disk = damaged.fork();
        drop(open(&disk, what));
        let error = disk.open(&alone).unwrap_err();
        assert!(matches!(error, StoreError::Lost { .. }), "{what}: {error}");
    }
}

/// A bad read may pass; what was set aside for it would be gone.
#[test]
fn what_cannot_be_read_is_neither_damaged_nor_lost() {
    let config = member();
    let disk = written(&config);
    let segments = disk.paths(".seg");
    let [older, newest] = &disk.paths(".rks")[..] else { panic!("there are two snapshots") };
    disk.unreadable.replace(vec![newest.clone()]);
    let opened = open(&disk, "the log makes up for it");
    assert!(opened.report().notes.iter().any(|note| note.contains("read failed: a bad sector")));
    drop(opened);
    let between = &segments[segments.len() / 2];
    let flip = |bytes: &mut Vec<u8>| bytes[8192 + 70] ^= 1;
    for (unreadable, damaged) in [
        (vec![older, newest], vec![]),
        (vec![older], vec![newest]),
        (vec![newest], vec![older]),
        (vec![newest], vec![between]),
    ] {
        let disk = disk.fork();
        disk.memory.borrow_mut().remove(&segments[0]);
        damaged.iter().for_each(|path| disk.damage(path, flip));
        let names = disk.paths("");
        disk.unreadable.replace(unreadable.iter().copied().cloned().collect());
        let error = disk.open(&config).unwrap_err();
        assert!(matches!(&error, StoreError::Snapshot(SnapshotError::Unreadable { .. })), "{damaged:?}: {error}");
        assert_eq!(disk.paths(""), names, "{damaged:?}: nothing was changed");
        assert_eq!(open(&disk.fork(), "readable again").standing(), Standing::Whole, "{damaged:?}");
    }
}

/// A log on a disk of its own that is not mounted, or another server's in its place.
#[test]
fn a_log_that_is_not_there_is_no_loss() {
    let config = apart();
    let disk = written(&config);
    for another in [false, true] {
        let disk = disk.fork();
        for path in disk.paths("/log/ringkeeper-1/log-") {
            assert!(disk.memory.borrow_mut().remove(&path));
        }
        if another {
            let other = SharedDisk::default();
            other.memory.borrow_mut().numbers = Chance(2);
            let other = written_on(other, &config);
            for path in other.paths("/log/ringkeeper-1/log-") {
                disk.memory.borrow_mut().put(&path, other.bytes(&path));
            }
            // Not even whole.
            let segments = disk.paths("/log/ringkeeper-1/log-");
            disk.damage(&segments[segments.len() - 3], |bytes| bytes[8192 + 70] ^= 1);
        }
        let names = disk.paths("");
        for has_peers in [true, false] {
            let error = disk.fork().open(&StoreConfig { has_peers, ..config.clone() }).unwrap_err();
            let StoreError::Log(LogError::Vanished { another: told, .. }) = error else { panic!("{another}: {error}") };
            assert_eq!((told, disk.paths("")), (another, names.clone()));
        }
        // An operator of a server that stands alone goes on with the snapshot, as told.
        let alone = StoreConfig { has_peers: false, ..config.clone() };
        if !another {
            assert!(disk.memory.borrow_mut().remove(&PathBuf::from(format!("{DIRECTORY}/state-log"))));
            assert_eq!(disk.open(&alone).unwrap().report().last_zxid, Zxid(45));
        }
    }
}

#[test]
fn a_promise_that_was_forgotten_is_refused_whatever_else_is_wrong() {
    for damaged_log in [false, true] {
        let disk = written(&member());
        if damaged_log {
            let segments = disk.paths(".seg");
            disk.damage(&segments[segments.len() - 3], |bytes| bytes[8192 + 70] ^= 1);
        }
        let path = PathBuf::from(format!("{DIRECTORY}/acceptedEpoch"));
        disk.damage(&path, |bytes| bytes[0] ^= 1);
        let paths = disk.paths("");
        let error = disk.open(&member()).unwrap_err();
        assert!(matches!(&error, StoreError::EpochDamaged { path: told } if *told == path), "{error}");
        assert_eq!(disk.paths(""), paths, "nothing was changed");
    }
}
