//! Every marked branch is taken by some run: by the seeds that were asked for, or where the list says that it is.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use ringkeeper::sim::coverage::RARE;
use ringkeeper::sim::mutations::Scene;
use ringkeeper::sim::plan::Wishes;
use ringkeeper::sim::trace::Level;
use ringkeeper_storage::probe;

use crate::run::once;

/// A branch of which the list says nothing is one that any seed may take: behind those that gate the tests.
const ORDINARY: std::ops::Range<u64> = 500..3_000;

/// What is looked for, and the last seed of the search, exclusive.
type Wanted = (&'static str, u64);

/// True: each of these was found where it should be. A run that breaks a promise does not count.
pub fn reach(missed: &[&'static str], jobs: usize) -> bool {
    let mut places: BTreeMap<Option<Scene>, Vec<Wanted>> = BTreeMap::new();
    for mark in missed {
        let rare = RARE.iter().find(|rare| rare.mark == *mark);
        let (scene, end) = rare.map_or((None, ORDINARY.end), |rare| (Some(rare.scene), rare.seeds));
        places.entry(scene).or_default().push((mark, end));
    }
    let places: Vec<(Option<Scene>, Vec<Wanted>)> = places.into_iter().collect();
    let (next, unreached) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|threads| {
        for _ in 0..jobs {
            threads.spawn(|| {
                while let Some((scene, wanted)) = places.get(next.fetch_add(1, Ordering::Relaxed)) {
                    unreached.fetch_add(look_in(*scene, wanted.clone()), Ordering::Relaxed);
                }
            });
        }
    });
    unreached.into_inner() == 0
}

/// How many of them no run has taken.
fn look_in(scene: Option<Scene>, mut wanted: Vec<Wanted>) -> usize {
    let (name, wishes) = scene.map_or(("any", Wishes::default()), |scene| (scene.name(), scene.wishes()));
    let mut seed = if scene.is_none() { ORDINARY.start } else { 0 };
    while wanted.iter().any(|(_, end)| seed < *end) {
        probe::take_marks();
        let outcome = once(seed, &wishes, None, Level::Silent, None);
        let marks = probe::take_marks();
        wanted.retain(|(mark, end)| {
            let is_taken = outcome.violation.is_none() && seed < *end && marks.contains_key(mark);
            if is_taken {
                println!("{mark}: seed {seed} of {name}");
            }
            !is_taken
        });
        seed += 1;
    }
    for (mark, end) in &wanted {
        println!("NOT REACHED: {mark}: no seed below {end} of {name}; src/sim/coverage.rs says where it is to be");
    }
    wanted.len()
}
