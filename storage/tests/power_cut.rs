//! Power fails at every moment of small lives, in every way it can (`rig/power.rs`): each subset of the sectors that no flush
//! covered, each change of a name on its own or as a journal would have it. Small lives have few of them, so that all
//! subsets can be gone through; where there are too many, a sample is.
//!
//! `RINGKEEPER_TEST_FULL=1` goes through up to 4096 images of every moment of lives under every strategy.

mod rig;

use std::collections::BTreeMap;

use rig::history::History;
use rig::power::{Reach, Tally, each_image, full, print_tallies, survive};
use rig::{Rig, SharedDisk, header};
use ringkeeper_storage::backend::memory::{Chance, NameOrder};
use ringkeeper_storage::{LogStrategy, StoreConfig};

/// Segments of two batches: rolls are frequent, images small.
fn tiny(strategy: LogStrategy, batches_in_flight: usize) -> StoreConfig {
    StoreConfig {
        strategy,
        segment_bytes: 16 << 10,
        batch_bytes_max: 4 << 10,
        reserve_bytes: 4 << 10,
        mark_bytes: 4 << 10,
        batches_in_flight,
        ..StoreConfig::new("/data", "/data")
    }
}

/// In which order the disk answers.
#[derive(Clone, Copy, Debug)]
enum Answers {
    OldestFirst,
    NewestFirst,
}

/// A life, step by step, with a look at the disk before every answer.
struct Life<'a> {
    rig: Rig,
    history: History,
    answers: Answers,
    look: &'a mut dyn FnMut(&Rig, &History),
}

impl Life<'_> {
    fn append(&mut self, count: usize) {
        for _ in 0..count {
            let (zxid, record) = self.history.next(0);
            self.rig.store.append(zxid, &record);
            self.rig.poll();
        }
    }

    fn answer(&mut self) -> bool {
        self.rig.poll();
        if self.rig.held.is_empty() {
            return false;
        }
        (self.look)(&self.rig, &self.history);
        let index = match self.answers {
            Answers::OldestFirst => 0,
            Answers::NewestFirst => self.rig.held.len() - 1,
        };
        self.rig.complete(index);
        assert_eq!(self.rig.failed, None);
        self.history.promised = self.rig.durable.0;
        true
    }

    fn settle(&mut self) {
        while self.answer() {}
        (self.look)(&self.rig, &self.history);
    }

    fn snapshot(&mut self) {
        self.rig.store.begin_snapshot(header(self.history.last(), 30));
        for chunk in 0..3 {
            self.settle();
            self.rig.store.snapshot_chunk(rig::chunk_of(chunk * 10..chunk * 10 + 10));
        }
        self.rig.store.finish_snapshot();
        self.settle();
        assert!(self.rig.snapshot_ended.take().unwrap().is_ok());
    }
}

/// Batches one after the other and side by side, over several segments.
fn batches_and_rolls(life: &mut Life<'_>) {
    for count in [1, 2, 3, 1, 2] {
        life.append(count);
        life.answer();
    }
    life.settle();
}

/// Two snapshots, the older and its log purged (and their files used again, where that is done) while writes go on.
fn snapshots_and_purges(life: &mut Life<'_>) {
    for _ in 0..2 {
        life.append(3);
        life.settle();
        life.snapshot();
        life.append(1);
        life.rig.store.purge(1);
        life.append(2);
        life.settle();
    }
    life.append(3);
    life.settle();
}

/// What a life is lived on and with.
#[derive(Clone, Copy, Debug)]
struct Setting {
    strategy: LogStrategy,
    slots: usize,
    answers: Answers,
    order: NameOrder,
    sector_bytes: usize,
}

/// How much of it all is gone through.
struct Extent<'a> {
    strategies: &'a [LogStrategy],
    slots: &'a [usize],
    disks: &'a [(NameOrder, usize)],
    reach: Reach,
}

const DISKS: [(NameOrder, usize); 3] =
    [(NameOrder::AnySubset, 512), (NameOrder::AnySubset, 4096), (NameOrder::Prefix, 512)];

fn go_through(what: &str, script: fn(&mut Life<'_>), extent: &Extent<'_>) {
    let mut tallies = BTreeMap::new();
    for &strategy in extent.strategies {
        for &slots in extent.slots {
            for &(order, sector_bytes) in extent.disks {
                for answers in [Answers::OldestFirst, Answers::NewestFirst] {
                    let setting = Setting { strategy, slots, answers, order, sector_bytes };
                    tallies.insert(format!("{setting:?}"), live(script, setting, extent.reach));
                }
            }
        }
    }
    print_tallies(what, &tallies);
    let sum = |f: fn(&Tally) -> usize| tallies.values().map(f).sum::<usize>();
    // A cut that never bites was never tested.
    assert!(sum(|tally| tally.cut) > 50 && sum(|tally| tally.kept_unpromised) > 10, "{tallies:?}");
    assert!(sum(|tally| tally.cut_again) > 100 && sum(|tally| tally.whole) > 15, "{tallies:?}");
}

/// One life, and a power cut in every way at every moment of it.
fn live(script: fn(&mut Life<'_>), setting: Setting, reach: Reach) -> Tally {
    let config = tiny(setting.strategy, setting.slots);
    let (mut tally, mut survived) = (Tally::default(), Tally::default());
    let (mut of_images, mut of_survival) = (Chance(setting.slots as u64), Chance(7));
    let mut look = |rig: &Rig, history: &History| {
        let moment = tally.moments;
        // Without flushes nothing is promised; what comes back is a prefix all the same.
        let promised = if setting.strategy.is_durable() { history.promised } else { 0 };
        let history = History { promised, ..history.clone() };
        each_image(rig, reach, &mut of_images, &mut tally, |image, which| {
            let tag = format!("{setting:?}, moment {moment}, {which}");
            survive(&image, &config, &history, &mut of_survival, &mut survived, &tag);
        });
    };
    let disk = SharedDisk::default();
    disk.memory.borrow_mut().name_order = setting.order;
    disk.memory.borrow_mut().sector_bytes = setting.sector_bytes;
    let rig = Rig::start(&disk, disk.open(&config).unwrap()).unwrap();
    script(&mut Life { rig, history: History::default(), answers: setting.answers, look: &mut look });
    Tally { moments: tally.moments, whole: tally.whole, images: tally.images, ..survived }
}

#[test]
fn batches_and_rolls_survive_every_power_cut() {
    let extent = match full() {
        true => Extent {
            strategies: &LogStrategy::ALL,
            slots: &[1, 2, 3],
            disks: &DISKS,
            reach: Reach { all_up_to: 4096, sample: 256 },
        },
        false => Extent { strategies: &LogStrategy::ALL, slots: &[2], disks: &DISKS[..1], reach: Reach::SAMPLE },
    };
    go_through("batches and rolls", batches_and_rolls, &extent);
}

#[test]
fn snapshots_and_purges_survive_every_power_cut() {
    let extent = match full() {
        true => Extent {
            strategies: &[LogStrategy::Dsync, LogStrategy::TwoStep],
            slots: &[2],
            disks: &DISKS,
            reach: Reach { all_up_to: 1024, sample: 64 },
        },
        false => Extent { strategies: &[LogStrategy::Dsync], slots: &[2], disks: &DISKS[..1], reach: Reach::SAMPLE },
    };
    go_through("snapshots and purges", snapshots_and_purges, &extent);
}
