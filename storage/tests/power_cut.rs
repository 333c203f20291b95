//! Power fails at every moment of small lives, in every way it can (`rig/power.rs`): each subset of the sectors that no flush
//! covered, each change of a name on its own or as a journal would have it. Small lives have few of them, so that all
//! subsets can be gone through; where there are too many, a sample is.
//!
//! `RINGKEEPER_TEST_FULL=1` goes through up to 4096 images of every moment of lives under every strategy.

mod rig;

use std::collections::BTreeMap;

use rig::history::History;
use rig::power::{Reach, Tally, each_image, each_image_of, full, print_tallies, survive};
use rig::{Rig, SharedDisk, header};
use ringkeeper_storage::backend::memory::{Chance, NameOrder};
use ringkeeper_storage::{LogStrategy, StoreConfig, Zxid};

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

/// A life of several segments and two snapshots, ended by a power cut that left a torn tail and a batch that overtook it.
fn torn(config: &StoreConfig) -> (SharedDisk, History) {
    let mut rig = Rig::fresh(config);
    let mut history = History::default();
    for round in 0..4 {
        for _ in 0..3 {
            let (zxid, record) = history.next(0);
            rig.store.append(zxid, &record);
            rig.drain();
        }
        if round % 2 == 0 {
            rig.snapshot(history.last());
        }
    }
    history.promised = rig.durable.0;
    for _ in 0..3 {
        let (zxid, record) = history.next(0);
        rig.store.append(zxid, &record);
        rig.poll();
    }
    let lost = rig.held.remove(0);
    rig.drain();
    drop(lost);
    (rig.crash(&mut Chance(2)), history)
}

/// Steps of a start are done one by one; `act` gets the disk, and the power goes after so many operations, until it gets through.
fn every_cut_of_a_start(
    what: &str,
    image: &SharedDisk,
    act: impl Fn(&SharedDisk) -> Result<(), String>,
    mut look: impl FnMut(SharedDisk, &mut Tally, &str),
) {
    let reach = if full() { Reach { all_up_to: 1024, sample: 128 } } else { Reach { all_up_to: 64, sample: 8 } };
    let (mut tally, mut chance) = (Tally::default(), Chance(3));
    for fuse in 0.. {
        let disk = image.fork();
        disk.fuse.replace(Some(fuse));
        let outcome = act(&disk);
        assert!(outcome.as_ref().err().is_none_or(|text| text.contains("no power")), "{what}: {outcome:?}");
        let mut counts = Tally::default();
        each_image_of(&disk.running_copy(), reach, &mut chance, &mut tally, |image, which| {
            look(image, &mut counts, &format!("{what}, power for {fuse} operations, {which}"));
        });
        tally.cut += counts.cut;
        tally.cut_again += counts.cut_again;
        if outcome.is_ok() {
            break;
        }
    }
    println!("{what}: {tally:?}");
    assert!(tally.moments > 20 && tally.images > tally.moments, "{tally:?}");
}

#[test]
fn a_recovery_survives_every_power_cut() {
    for slots in [2, 3] {
        let config = tiny(LogStrategy::default(), slots);
        let (image, history) = torn(&config);
        let (opened, last) = history.check(&image, &config, "torn");
        assert!(opened.report().cut_bytes > 0 && last < history.last());
        let mut chance = Chance(1);
        every_cut_of_a_start(
            &format!("recovery, {slots} in flight"),
            &image,
            |disk| {
                let started = disk.open(&config).and_then(|opened| Rig::start(disk, opened));
                started.map(drop).map_err(|error| error.to_string())
            },
            |image, tally, tag| {
                let (_, again) = history.check(&image, &config, tag);
                assert_eq!(again, last, "{tag}: the first recovery found something else");
                survive(&image, &config, &history, &mut chance, tally, tag);
            },
        );
    }
}

/// What a leader does not know is given up as a whole or not at all, whenever the power fails, and what is left goes on.
#[test]
fn a_truncation_survives_every_power_cut() {
    let config = tiny(LogStrategy::default(), 2);
    let (image, history) = torn(&config);
    let (_, last) = history.check(&image, &config, "torn");
    for to in [last - 1, last - 3, 5, 3] {
        let mut chance = Chance(to);
        let (mut whole, mut cut) = (0, 0);
        every_cut_of_a_start(
            &format!("truncation to {to} of {last}"),
            &image,
            |disk| {
                let mut opened = disk.open(&config).map_err(|error| error.to_string())?;
                opened.truncate(Zxid(to)).map_err(|error| error.to_string())
            },
            |image, tally, tag| {
                let promised = History { promised: to, ..history.clone() };
                let (_, left) = promised.check(&image, &config, tag);
                assert!(left == to || left == last, "{tag}: {left} is neither the cut nor everything");
                (whole, cut) = (whole + usize::from(left == last), cut + usize::from(left == to));
                let mut of_this = promised;
                of_this.goes_on_from(left);
                survive(&image, &config, &of_this, &mut chance, tally, tag);
            },
        );
        assert!(whole > 20 && cut > 20, "{to}: {whole} {cut}");
    }
}
