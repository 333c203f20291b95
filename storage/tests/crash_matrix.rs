//! Power fails at every moment, and takes what it likes of what was not flushed: what comes back is a prefix of what was
//! appended, holds everything that was acknowledged, and can be written to again. Snapshots, purging, several batches in
//! flight and power failures during recovery itself included.

mod rig;

use rig::history::History;
use rig::power::full;
use rig::{Rig, SharedDisk, header, payload, small_config};
use ringkeeper_storage::backend::memory::Chance;
use ringkeeper_storage::{StoreConfig, Zxid};

/// Opens, checks what is there against the history, and makes it the history.
fn reopen(disk: &SharedDisk, config: &StoreConfig, history: &mut History, chance: &mut Chance, tag: &str) -> Rig {
    loop {
        let (opened, last) = history.check(disk, config, tag);
        // Sometimes the power fails again, or the process is killed, while the tail is being made final.
        if chance.below(3) == 0 {
            disk.fuse.replace(Some(chance.below(12) as usize));
        }
        match Rig::start(disk, opened) {
            Ok(rig) => {
                disk.fuse.replace(None);
                history.goes_on_from(last);
                return rig;
            }
            Err(error) => {
                assert!(error.to_string().contains("no power"), "{tag}: {error}");
                if chance.coin() {
                    disk.crash(chance);
                } else {
                    disk.fuse.replace(None);
                    disk.memory.borrow_mut().end_process();
                }
            }
        }
    }
}

struct Snapshotting {
    chunks_left: u32,
}

/// Appends, submits and completes at random for so many steps.
fn live(rig: &mut Rig, history: &mut History, life: u64, steps: u64, chance: &mut Chance) {
    let mut snapshot: Option<Snapshotting> = None;
    for _ in 0..steps {
        match chance.below(12) {
            0..=3 => {
                history.lives.push(life);
                let zxid = history.last();
                rig.store.append(Zxid(zxid), &payload(zxid, life));
            }
            4..=6 => rig.poll(),
            7 if snapshot.is_none() && chance.coin() => {
                rig.store.begin_snapshot(header(rig.durable.0, 20));
                snapshot = Some(Snapshotting { chunks_left: 2 });
                (rig.snapshot_room, rig.snapshot_ended) = (0, None);
            }
            7 => rig.store.purge(1 + chance.below(2) as usize),
            _ if !rig.held.is_empty() => rig.complete(chance.below(rig.held.len() as u64) as usize),
            _ => {}
        }
        if let Some(running) = &mut snapshot {
            if running.chunks_left > 0 && rig.snapshot_room > 0 {
                let from = (2 - running.chunks_left) * 10;
                rig.store.snapshot_chunk(rig::chunk_of(from..from + 10));
                running.chunks_left -= 1;
                rig.snapshot_room = 0;
                if running.chunks_left == 0 {
                    rig.store.finish_snapshot();
                }
            }
            if let Some(ended) = rig.snapshot_ended.take() {
                ended.unwrap();
                snapshot = None;
            }
        }
        history.promised = history.promised.max(rig.durable.0);
    }
}

#[test]
fn lives_and_deaths_at_random() {
    let (mut cut, mut snapshots, mut kept_unpromised) = (0, 0, 0);
    let seeds = if full() { 1500 } else { 120 };
    for seed in 0..seeds {
        let mut chance = Chance(seed);
        let config = StoreConfig { batches_in_flight: 1 + seed as usize % 4, ..small_config() };
        let disk = SharedDisk::default();
        let mut history = History::default();
        for life in 0..6 {
            let tag = format!("seed {seed} life {life}");
            let promised = history.promised;
            if let Ok(opened) = disk.open(&config) {
                cut += usize::from(opened.report().cut_bytes > 0);
                snapshots += usize::from(opened.snapshot_header().is_some());
                kept_unpromised += usize::from(opened.report().last_zxid.0 > promised);
            }
            let mut rig = reopen(&disk, &config, &mut history, &mut chance, &tag);
            let steps = chance.below(400);
            live(&mut rig, &mut history, life, steps, &mut chance);
            if chance.coin() {
                rig.crash(&mut chance)
            } else {
                rig.kill(&mut chance)
            };
        }
        let mut rig = reopen(&disk, &config, &mut history, &mut chance, &format!("seed {seed} at the end"));
        rig.drain();
        assert!(rig.store.is_idle());
    }
    // A fault that never fires was never tested.
    assert!(cut > 40 && snapshots > 40 && kept_unpromised > 40, "{cut} {snapshots} {kept_unpromised}");
}

#[test]
fn death_after_every_single_operation() {
    let config = StoreConfig { batches_in_flight: 2, ..small_config() };
    let scenario = |stop_after: usize| {
        let mut rig = Rig::fresh(&config);
        let mut history = History::default();
        let mut operations = 0;
        for zxid in 1..=60u64 {
            history.lives.push(0);
            rig.store.append(Zxid(zxid), &payload(zxid, 0));
            rig.poll();
            // The newer of two first, every third time.
            while rig.held.len() > 1 || (zxid.is_multiple_of(3) && !rig.held.is_empty()) {
                if operations == stop_after {
                    return (rig, history, false);
                }
                let last = rig.held.len() - 1;
                rig.complete(if zxid.is_multiple_of(3) { last } else { 0 });
                history.promised = rig.durable.0;
                operations += 1;
                rig.poll();
            }
        }
        (rig, history, true)
    };
    let mut stop_after = 0;
    loop {
        let mut done = false;
        for seed in 0..if full() { 48 } else { 6 } {
            let (rig, mut history, ended) = scenario(stop_after);
            done = ended;
            let mut chance = Chance(seed * 1000 + stop_after as u64);
            let disk = if chance.coin() { rig.crash(&mut chance) } else { rig.kill(&mut chance) };
            let tag = format!("after {stop_after} operations, seed {seed}");
            let mut rig = reopen(&disk, &config, &mut history, &mut chance, &tag);
            // And it can be written to, and read once more.
            for _ in 0..5 {
                history.lives.push(1);
                rig.store.append(Zxid(history.last()), &payload(history.last(), 1));
            }
            // What was recovered is promised, even when the power fails before anything new is written.
            let copy = disk.fork();
            let mut recovered = History { promised: rig.durable.0, ..history.clone() };
            copy.crash(&mut chance);
            reopen(&copy, &config, &mut recovered, &mut chance, &tag);
            rig.drain();
            history.promised = history.last();
            drop(rig.crash(&mut chance));
            reopen(&disk, &config, &mut history, &mut chance, &tag);
        }
        if done {
            assert!(stop_after > 60, "{stop_after}");
            return;
        }
        stop_after += 1;
    }
}
