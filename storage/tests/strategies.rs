//! Every strategy of the log: on the disk in memory through every kind of stop, and on the real disk.

mod rig;

use std::path::Path;

use rig::{Rig, SharedDisk, payload, replayed, small_config};
use ringkeeper_storage::backend::faulty::Fault;
use ringkeeper_storage::backend::memory::Chance;
use ringkeeper_storage::disk::Action;
use ringkeeper_storage::{LogStrategy, Opened, Ring, Store, StoreConfig, StoreEvent, Zxid, open};

const EIO: i32 = 5;

fn config(strategy: LogStrategy, batches_in_flight: usize) -> StoreConfig {
    StoreConfig { strategy, batches_in_flight, ..small_config() }
}

/// Completes operations in any order until about `steps` have, appending as it goes.
fn work(rig: &mut Rig, chance: &mut Chance, next: &mut u64, steps: usize) {
    for _ in 0..steps {
        if chance.below(3) == 0 {
            rig.store.append(Zxid(*next), &payload(*next, 0));
            *next += 1;
        }
        rig.poll();
        if !rig.held.is_empty() {
            let index = chance.below(rig.held.len() as u64) as usize;
            rig.complete(index);
        }
    }
}

fn recovered(disk: &SharedDisk, config: &StoreConfig) -> u64 {
    let mut opened = disk.fork().open(config).unwrap();
    let records = replayed(&mut opened);
    for (index, (zxid, bytes)) in records.iter().enumerate() {
        assert_eq!((*zxid, bytes), (index as u64 + 1, &payload(*zxid, 0)));
    }
    records.len() as u64
}

#[test]
fn what_is_acknowledged_survives_kill_and_power_cut_whatever_completes_first() {
    let mut lost = 0;
    for strategy in LogStrategy::ALL {
        for in_flight in [1, 2, 4, 8] {
            let config = config(strategy, in_flight);
            for seed in 0..40 {
                let mut chance = Chance(seed);
                let mut rig = Rig::fresh(&config);
                let mut next = 1;
                work(&mut rig, &mut chance, &mut next, 40 + seed as usize * 4);
                let acknowledged = rig.durable.0;
                let power_cut = seed % 2 == 0;
                let disk = if power_cut { rig.crash(&mut chance) } else { rig.kill(&mut chance) };
                let kept = recovered(&disk, &config);
                assert!(kept < next);
                match strategy {
                    LogStrategy::None if power_cut => lost += u64::from(kept < acknowledged),
                    _ => {
                        assert!(kept >= acknowledged, "{strategy:?} {in_flight} seed {seed}: {kept} of {acknowledged}")
                    }
                }
                // And it goes on from there.
                let mut rig = Rig::start(&disk, disk.open(&config).unwrap()).unwrap();
                rig.append_and_drain(kept + 1..=kept + 20);
                assert_eq!(rig.durable, Zxid(kept + 20));
                assert_eq!(recovered(&rig.disk, &config), kept + 20);
            }
        }
    }
    assert!(lost > 0, "a power cut that never takes anything from `none` tests nothing");
}

/// An unflushed log proves nothing to a later start: what a power cut took was promised to nobody.
#[test]
fn after_a_power_cut_none_starts_with_what_is_left_and_snapshots_too() {
    let config = config(LogStrategy::None, 2);
    for seed in 0..30 {
        let mut chance = Chance(seed);
        let mut rig = Rig::fresh(&config);
        rig.append_and_drain(1..=30);
        rig.snapshot(30);
        assert_eq!(rig.snapshot_ended.take(), Some(Ok(Zxid(30))));
        rig.append_and_drain(31..=40);
        let disk = rig.crash(&mut chance);
        let mut opened = disk.open(&config).unwrap();
        let after: Vec<u64> = replayed(&mut opened).into_iter().map(|(zxid, _)| zxid).collect();
        assert_eq!(after, (31..31 + after.len() as u64).collect::<Vec<_>>());
        let last = opened.report().last_zxid.0;
        let mut rig = Rig::start(&disk, opened).unwrap();
        rig.append_and_drain(last + 1..=last + 10);
    }
}

#[test]
fn each_strategy_speaks_to_the_disk_in_its_own_words() {
    for strategy in LogStrategy::ALL {
        let mut rig = Rig::fresh(&config(strategy, 1));
        let mut words = Vec::new();
        rig.store.append(Zxid(1), b"one");
        loop {
            rig.poll();
            let Some(op) = rig.held.first() else { break };
            match &op.action {
                Action::Write { offset: 8192.., sync, .. } => words.push(format!("{sync:?}")),
                Action::SyncData { .. } => words.push("flush".to_owned()),
                _ => {}
            }
            rig.complete(0);
        }
        let expected: &[&str] = match strategy {
            LogStrategy::Dsync => &["Dsync"],
            LogStrategy::Linked => &["Linked"],
            LogStrategy::TwoStep | LogStrategy::Buffered => &["None", "flush"],
            LogStrategy::ODsync | LogStrategy::None => &["None"],
        };
        assert_eq!(words, expected, "{strategy:?}");
    }
}

/// With one fault at any of its operations: nothing is acknowledged after it, and what was before is there.
#[test]
fn a_failed_or_short_write_or_flush_ends_the_log() {
    for strategy in LogStrategy::ALL {
        let flushes = matches!(strategy, LogStrategy::Linked | LogStrategy::TwoStep | LogStrategy::Buffered);
        for fault in ["write", "flush", "short"] {
            for after in 0..6 {
                let config = config(strategy, 4);
                let mut rig = Rig::fresh(&config);
                rig.drain();
                let mut chance = Chance(after);
                let mut next = 1;
                work(&mut rig, &mut chance, &mut next, after as usize * 7);
                let mut memory = rig.disk.memory.borrow_mut();
                match fault {
                    "short" => memory.fail_next(|call| call.operation == "write", Fault::Short(512)),
                    "write" => memory.fail_next(|call| call.operation == "write", Fault::Error(EIO)),
                    _ => memory.fail_next(|call| call.operation == "flush", Fault::Error(EIO)),
                }
                drop(memory);
                for _ in 0..4 {
                    rig.store.append(Zxid(next), &payload(next, 0));
                    next += 1;
                }
                // Segments are prepared with flushes and writes, too; keep away from those.
                let log_only = |rig: &Rig| {
                    rig.held.iter().position(|op| match &op.action {
                        Action::Write { buffer, .. } => !buffer.is_empty(),
                        Action::SyncData { .. } => true,
                        _ => false,
                    })
                };
                loop {
                    rig.poll();
                    match log_only(&rig) {
                        Some(index) => rig.complete(index),
                        None => break,
                    }
                }
                let acknowledged = rig.durable;
                if fault == "flush" && !flushes {
                    assert_eq!(
                        (&rig.failed, acknowledged),
                        (&None, Zxid(next - 1)),
                        "{strategy:?} has no flush to fail"
                    );
                    continue;
                }
                let why = rig.failed.clone().unwrap_or_else(|| panic!("{strategy:?} {fault} {after}"));
                let word = match (fault, strategy) {
                    ("short", _) => "short write, 512 of",
                    ("flush", LogStrategy::Linked) => "the flush behind the write failed",
                    ("flush", _) => "flush failed: Input/output error",
                    _ => "write failed: Input/output error",
                };
                assert!(why.contains(word), "{strategy:?}: {why}");
                rig.store.append(Zxid(next), b"too late");
                rig.drain();
                assert!(rig.durable == acknowledged && rig.store.is_idle(), "{strategy:?}");
                let disk = rig.kill(&mut chance);
                assert!(recovered(&disk, &config) >= acknowledged.0, "{strategy:?}");
            }
        }
    }
}

struct Server {
    store: Store,
    ring: Ring,
    durable: Zxid,
}

impl Server {
    fn start(opened: Opened) -> Server {
        Server { durable: opened.report().last_zxid, store: opened.into_store().unwrap(), ring: Ring::new().unwrap() }
    }

    fn turn(&mut self) {
        let (mut ops, mut completed, mut out) = (Vec::new(), Vec::new(), Vec::new());
        self.store.poll_ops(&mut ops);
        self.ring.submit(&mut ops);
        self.ring.wait();
        self.ring.completions(&mut completed);
        for event in completed {
            self.store.on_event(event, &mut out);
        }
        for event in out {
            match event {
                StoreEvent::Durable(zxid) => self.durable = zxid,
                StoreEvent::Failed(error) => panic!("{error}"),
                _ => {}
            }
        }
    }
}

fn check(opened: &mut Opened, last: u64) {
    let mut next = 1;
    let check = |zxid: Zxid, bytes: &[u8]| {
        assert_eq!((zxid, bytes), (Zxid(next), payload(next, 0).as_slice()));
        next += 1;
    };
    opened.replay(check).unwrap();
    assert_eq!(next, last + 1);
}

fn append_stop_and_recover(directory: &Path, strategy: LogStrategy, in_flight: usize) {
    let config = StoreConfig {
        segment_bytes: 1 << 20,
        batch_bytes_max: 64 << 10,
        strategy,
        batches_in_flight: in_flight,
        ..StoreConfig::new(directory, directory)
    };
    let mut acknowledged = 0;
    for _ in 0..3 {
        let mut opened = open(config.clone()).unwrap();
        let kept = opened.report().last_zxid.0;
        assert!(kept >= acknowledged, "{strategy:?}: {kept} of {acknowledged}");
        check(&mut opened, kept);
        let mut server = Server::start(opened);
        for zxid in kept + 1..kept + 1200 {
            server.store.append(Zxid(zxid), &payload(zxid, 0));
            if zxid % 7 == 0 {
                server.turn();
            }
        }
        acknowledged = server.durable.0;
        assert!(acknowledged > kept);
        // Dropped with whatever is under way: the store learns of no completion any more.
    }
}

#[test]
fn every_strategy_appends_rolls_stops_and_recovers_on_the_real_disk() {
    for strategy in LogStrategy::ALL {
        for in_flight in [1, 2, 4] {
            let directory = tempfile::tempdir().unwrap();
            append_stop_and_recover(directory.path(), strategy, in_flight);
        }
    }
}

#[test]
fn every_strategy_works_where_there_is_no_direct_io() {
    let Ok(directory) = tempfile::tempdir_in("/dev/shm") else { return println!("SKIPPED: no /dev/shm") };
    for strategy in LogStrategy::ALL {
        let directory = directory.path().join(strategy.name());
        append_stop_and_recover(&directory, strategy, 2);
    }
}
