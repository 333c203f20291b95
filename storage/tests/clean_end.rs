//! A log that came to rest says so: damage to its very last batch is then a loss, and not a write that was cut off.

mod rig;

use std::path::PathBuf;

use rig::{DIRECTORY, Rig, SharedDisk, payload, small_config};
use ringkeeper_storage::backend::memory::Chance;
use ringkeeper_storage::disk::Action;
use ringkeeper_storage::{LogError, LogStrategy, StoreConfig, StoreError, Zxid};

const BLOCK: usize = 4096;

fn config() -> StoreConfig {
    StoreConfig { batches_in_flight: 1, mark_bytes: 1 << 20, ..small_config() }
}

fn segment(id: u64) -> PathBuf {
    PathBuf::from(format!("{DIRECTORY}/log-{id:016x}.seg"))
}

/// One bit of the batch with the last record is flipped.
fn rotten(disk: &SharedDisk, id: u64) -> Result<Zxid, StoreError> {
    let disk = disk.fork();
    let bytes = disk.bytes(&segment(id));
    let last = (2 * BLOCK..bytes.len()).step_by(BLOCK).rfind(|at| bytes[*at..].starts_with(b"rkbatch\n")).unwrap();
    disk.damage(&segment(id), |bytes| bytes[last + 99] ^= 1);
    disk.open(&config()).map(|opened| opened.report().last_zxid)
}

#[test]
fn rot_in_the_last_batch_is_refused_after_a_clean_end_or_a_rest() {
    for end in [false, true] {
        let mut rig = Rig::fresh(&config());
        rig.append_and_drain(1..=5);
        assert_eq!(rotten(&rig.disk, 1).unwrap(), Zxid(4), "nobody knows yet");
        assert!(rig.store.is_idle());
        if end {
            rig.store.end();
            assert!(!rig.store.is_idle(), "not before it says so");
        } else {
            rig.store.at_rest();
        }
        rig.drain();
        assert!(rig.store.is_idle());
        let error = rotten(&rig.disk, 1).unwrap_err();
        assert!(matches!(error, StoreError::Log(LogError::Damaged { durable: Zxid(5), .. })), "{error}");
        assert!(error.to_string().contains("the mark of log-0000000000000001.seg proves"), "{error}");
        // The next life vouches for what it found, too, and for nothing that it has not written.
        let disk = rig.crash(&mut Chance(0));
        let mut rig = Rig::start(&disk, disk.open(&config()).unwrap()).unwrap();
        rig.append_and_drain(6..=6);
        assert_eq!(rotten(&rig.disk, 1).unwrap(), Zxid(5));
        rig.append_and_drain(7..=11);
        rig.store.at_rest();
        rig.drain();
        assert_eq!(rig.store.stats().log_segments, 2);
        assert!(rotten(&rig.disk, 2).is_err());
    }
}

#[test]
fn a_log_at_rest_writes_once() {
    let mut rig = Rig::fresh(&config());
    rig.append_and_drain(1..=5);
    let mut writes = 0;
    for round in 0..5 {
        rig.store.at_rest();
        rig.poll();
        writes += rig.held.iter().filter(|op| matches!(op.action, Action::Write { .. })).count();
        rig.drain();
        assert_eq!(writes, 1 + usize::from(round > 2));
        if round == 2 {
            rig.append_and_drain(6..=6);
        }
    }
    // Nor does it hold up a batch, or claim one that is on its way.
    rig.store.append(Zxid(7), &payload(7, 0));
    rig.poll();
    rig.store.at_rest();
    rig.poll();
    assert_eq!(rig.held.len(), 1, "the log is not at rest");
    rig.drain();
    rig.store.at_rest();
    rig.poll();
    assert_eq!(rig.held.len(), 1);
    rig.store.append(Zxid(8), &payload(8, 0));
    rig.poll();
    assert_eq!(rig.held.len(), 2);
    rig.complete(1);
    assert_eq!(rig.durable, Zxid(8), "the batch does not wait for the mark");
    // The mark was sealed before the batch, and does not speak of it.
    rig.drain();
    assert_eq!(rotten(&rig.disk, 1).unwrap(), Zxid(7));
}

#[test]
fn power_fails_around_a_mark_and_nothing_is_claimed_that_is_not_there() {
    let (mut refused, mut kept) = (0, 0);
    for seed in 0..2000 {
        let mut chance = Chance(seed);
        let config = StoreConfig { batches_in_flight: 1 + seed as usize % 3, ..config() };
        let mut rig = Rig::fresh(&config);
        let mut zxid = 0;
        for _ in 0..chance.below(60) {
            match chance.below(6) {
                0 | 1 => {
                    zxid += 1;
                    rig.store.append(Zxid(zxid), &payload(zxid, 0));
                }
                2 => rig.store.at_rest(),
                3 => rig.poll(),
                _ if !rig.held.is_empty() => rig.complete(chance.below(rig.held.len() as u64) as usize),
                _ => {}
            }
        }
        let promised = rig.durable;
        let disk = if chance.coin() { rig.crash(&mut chance) } else { rig.kill(&mut chance) };
        let opened = disk.open(&config).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(opened.report().last_zxid >= promised, "seed {seed}");
        let mut rig = Rig::start(&disk, opened).unwrap();
        rig.store.end();
        rig.drain();
        assert!(rig.store.is_idle(), "seed {seed}");
        let used = disk.paths(".seg").len() as u64;
        let with_batch = |id: &u64| disk.bytes(&segment(*id))[2 * BLOCK..].starts_with(b"rkbatch\n");
        if let Some(id) = (1..=used).rfind(with_batch) {
            match rotten(&disk, id) {
                Err(_) => refused += 1,
                Ok(_) => kept += 1,
            }
        }
    }
    assert!(refused > 1000 && kept == 0, "{refused} {kept}");
}

#[test]
fn a_mark_that_was_torn_refuses_nothing() {
    for torn in [0..512, 0..24, 24..48, 8..BLOCK] {
        let mut rig = Rig::fresh(&config());
        rig.append_and_drain(1..=5);
        rig.store.end();
        rig.drain();
        let disk = rig.crash(&mut Chance(0));
        disk.damage(&segment(1), |bytes| bytes[BLOCK..2 * BLOCK][torn.clone()].fill(0xa5));
        let mut rig = Rig::start(&disk, disk.open(&config()).unwrap()).unwrap();
        assert_eq!(rig.durable, Zxid(5), "{torn:?}");
        rig.append_and_drain(6..=20);
        assert_eq!(rig.crash(&mut Chance(0)).open(&config()).unwrap().report().last_zxid, Zxid(20));
    }
}

#[test]
fn a_strategy_that_never_knows_vouches_for_nothing() {
    let config = StoreConfig { strategy: LogStrategy::None, ..config() };
    let mut rig = Rig::fresh(&config);
    rig.append_and_drain(1..=5);
    rig.store.at_rest();
    rig.store.end();
    rig.drain();
    assert!(rig.store.is_idle());
    for seed in 0..50 {
        let disk = rig.disk.fork();
        disk.crash(&mut Chance(seed));
        disk.open(&config).unwrap();
    }
}
