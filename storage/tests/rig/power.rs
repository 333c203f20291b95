//! Power cuts, gone through one by one: every way a cut can leave the disk, and whether a store can live with it.

use std::collections::BTreeMap;

use ringkeeper_storage::StoreConfig;
use ringkeeper_storage::backend::memory::Chance;

use super::history::History;
use super::{Rig, SharedDisk};

/// `RINGKEEPER_TEST_FULL=1`: everything there is, which takes minutes, and not the sample that runs with every change.
pub fn full() -> bool {
    std::env::var_os("RINGKEEPER_TEST_FULL").is_some_and(|value| value == "1")
}

/// How many images of one moment are looked at: all of them up to here, a sample of so many where there are more.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    pub all_up_to: usize,
    pub sample: usize,
}

impl Reach {
    pub const SAMPLE: Reach = Reach { all_up_to: 16, sample: 4 };
}

/// What was looked at, for the record.
#[derive(Debug, Default)]
pub struct Tally {
    pub moments: usize,
    /// Moments of which every image was looked at.
    pub whole: usize,
    pub images: usize,
    /// Images that held more than was promised, and that had something cut.
    pub kept_unpromised: usize,
    pub cut: usize,
    /// Power cuts during the recovery of an image.
    pub cut_again: usize,
}

/// A power cut right now, with everything in flight under way: each image it can leave.
pub fn each_image(rig: &Rig, reach: Reach, chance: &mut Chance, tally: &mut Tally, f: impl FnMut(SharedDisk, &str)) {
    let moment = rig.disk.running_copy();
    for op in rig.held.iter().chain(&rig.hung) {
        moment.memory.borrow_mut().leave_unflushed(op);
    }
    each_image_of(&moment, reach, chance, tally, f);
}

/// The same of a disk that nobody is waiting for.
pub fn each_image_of(
    moment: &SharedDisk,
    reach: Reach,
    chance: &mut Chance,
    tally: &mut Tally,
    mut f: impl FnMut(SharedDisk, &str),
) {
    let ways = moment.memory.borrow().decisions();
    let count = ways.iter().try_fold(1usize, |count, ways| count.checked_mul(*ways)).unwrap_or(usize::MAX);
    tally.moments += 1;
    tally.whole += usize::from(count <= reach.all_up_to);
    let mut look = |choices: &[usize], tag: &str| {
        let image = moment.running_copy();
        let mut choices = choices.iter();
        image.memory.borrow_mut().cut_power(|_| *choices.next().unwrap());
        tally.images += 1;
        f(image, tag);
    };
    let digits = |mut number: usize| -> Vec<usize> {
        let digit = |ways: &usize| (number % ways, number /= ways).0;
        ways.iter().map(digit).collect()
    };
    if count <= reach.all_up_to {
        (0..count).for_each(|number| look(&digits(number), &format!("image {number} of {count}")));
        return;
    }
    // None, all, each one alone, all but one; then by chance.
    let (none, all) = (vec![0; ways.len()], ways.iter().map(|ways| ways - 1).collect::<Vec<_>>());
    look(&none, "nothing of it");
    look(&all, "all of it");
    let mut singles: Vec<usize> = (0..ways.len()).collect();
    while singles.len() > reach.sample / 2 {
        singles.swap_remove(chance.below(singles.len() as u64) as usize);
    }
    for at in singles {
        let alone: Vec<_> =
            none.iter().enumerate().map(|(index, _)| if index == at { all[index] } else { 0 }).collect();
        let without: Vec<_> = all.iter().enumerate().map(|(index, way)| if index == at { 0 } else { *way }).collect();
        look(&alone, &format!("only {at} of {}", ways.len()));
        look(&without, &format!("all but {at} of {}", ways.len()));
    }
    for _ in 0..reach.sample {
        let choices: Vec<_> = ways.iter().map(|ways| chance.below(*ways as u64) as usize).collect();
        look(&choices, &format!("{choices:?}"));
    }
}

/// An image must be recovered to a prefix with everything promised, to the same one however often the power fails
/// meanwhile, and then take new writes.
pub fn survive(
    image: &SharedDisk,
    config: &StoreConfig,
    history: &History,
    chance: &mut Chance,
    tally: &mut Tally,
    tag: &str,
) {
    let (opened, last) = history.check(image, config, tag);
    tally.cut += usize::from(opened.report().cut_bytes > 0);
    tally.kept_unpromised += usize::from(last > history.promised);
    drop(opened);

    let again = image.fork();
    again.fuse.replace(Some(chance.below(16) as usize));
    if again.open(config).and_then(|opened| Rig::start(&again, opened)).is_err() {
        tally.cut_again += 1;
        again.crash(chance);
        let (_, second) = history.check(&again, config, &format!("{tag}, power cut in recovery"));
        assert_eq!(second, last, "{tag}: a second recovery finds something else");
    } else {
        again.fuse.replace(None);
        again.memory.borrow_mut().end_process();
    }

    let mut history = history.clone();
    history.goes_on_from(last);
    let (opened, _) = history.check(&again, config, tag);
    let mut rig = Rig::start(&again, opened).unwrap_or_else(|error| panic!("{tag}: {error}"));
    // What was recovered is promised, even when the power fails before anything new is written.
    let copy = rig.disk.running_copy();
    copy.memory.borrow_mut().cut_power(|_| 0);
    history.check(&copy, config, &format!("{tag}, power cut after recovery"));
    for _ in 0..3 {
        let (zxid, record) = history.next(99);
        rig.store.append(zxid, &record);
        rig.drain();
        assert_eq!(rig.durable, zxid, "{tag}: takes no new writes: {:?} {:?}", rig.failed, rig.troubles);
    }
    history.promised = if config.strategy.is_durable() { history.last() } else { last };
    rig.disk.memory.borrow_mut().cut_power(|_| 0);
    history.check(&rig.disk, config, &format!("{tag}, written on"));
}

/// For messages: how many of each.
pub fn print_tallies(what: &str, tallies: &BTreeMap<String, Tally>) {
    for (name, tally) in tallies {
        println!("{what}, {name}: {tally:?}");
    }
}
