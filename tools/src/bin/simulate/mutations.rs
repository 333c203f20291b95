//! Breaking rules on purpose, one at a time: each must be noticed within its number of seeds.
//!
//! A run counts if it breaks a promise with the rule broken and none with the rule kept. What breaks all the same is told, and is
//! for `simulate --seeds` to judge.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use ringkeeper::sim::event::Violation;
use ringkeeper::sim::mutations::{MUTATIONS, Mutation, Scene, UNNOTICED};
use ringkeeper::sim::trace::Level;

use crate::run::{command_line, once};

pub struct Batch {
    pub jobs: usize,
    /// All seeds of each rule, and which promises they break.
    pub count: bool,
    /// Only this rule.
    pub rule: Option<String>,
    /// Not each in its own.
    pub scene: Option<Scene>,
    /// Not each with its own number.
    pub seeds: Option<std::ops::Range<u64>>,
}

/// What came of one rule.
struct Found {
    runs: u64,
    first: Option<(u64, Violation)>,
    breaks: BTreeMap<&'static str, u64>,
}

/// True: each was noticed.
pub fn run(batch: &Batch) -> bool {
    let began = Instant::now();
    let mutations: Vec<Mutation> = match batch.rule.as_deref() {
        None => MUTATIONS.to_vec(),
        Some(rule) => MUTATIONS.iter().copied().chain(unnoticed()).filter(|mutation| mutation.rule == rule).collect(),
    };
    let (next, noticed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    // A seed that breaks a promise although all rules are kept is told once.
    let sound = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..batch.jobs {
            scope.spawn(|| {
                while let Some(mutation) = mutations.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let scene = batch.scene.unwrap_or(mutation.scene);
                    let found = try_one(mutation, scene, batch, |seed| {
                        let known = sound.lock().expect("no panic holds it").get(&(scene, seed)).copied();
                        known.unwrap_or_else(|| {
                            let is_sound = keeps_its_promises(scene, seed);
                            sound.lock().expect("no panic holds it").insert((scene, seed), is_sound);
                            is_sound
                        })
                    });
                    noticed.fetch_add(usize::from(found.first.is_some()), Ordering::Relaxed);
                    println!("{:?} in {}: {found}", mutation.rule, scene.name());
                }
            });
        }
    });
    let (noticed, all) = (noticed.into_inner(), mutations.len());
    println!("{noticed} of {all} broken rules were noticed, in {:.1} s", began.elapsed().as_secs_f64());
    all > 0 && noticed == all
}

/// Those of which nothing is known yet: somebody looks for the scene.
fn unnoticed() -> impl Iterator<Item = Mutation> {
    UNNOTICED.iter().map(|rule| Mutation { rule, scene: Scene::Mixed, seeds: 40, breaks: &[] })
}

fn try_one(mutation: &Mutation, scene: Scene, batch: &Batch, is_sound: impl Fn(u64) -> bool) -> Found {
    let mut found = Found { runs: 0, first: None, breaks: BTreeMap::new() };
    for seed in batch.seeds.clone().unwrap_or(0..mutation.seeds) {
        found.runs += 1;
        let outcome = once(seed, &scene.wishes(), Some(mutation.rule), Level::Silent, None);
        if let Some(violation) = outcome.violation
            && is_sound(seed)
        {
            *found.breaks.entry(violation.property).or_default() += 1;
            found.first.get_or_insert((seed, violation));
            if !batch.count {
                break;
            }
        }
    }
    found
}

fn keeps_its_promises(scene: Scene, seed: u64) -> bool {
    let Some(violation) = once(seed, &scene.wishes(), None, Level::Silent, None).violation else { return true };
    println!("with all rules kept, seed {seed}: {violation}");
    println!("  again: cargo dev sim {}", command_line(seed, &scene.wishes(), None));
    false
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((seed, violation)) = &self.first else { return write!(f, "NOT NOTICED in {} runs", self.runs) };
        let times: u64 = self.breaks.values().sum();
        let breaks: Vec<String> = self.breaks.iter().map(|(property, times)| format!("{property} {times}")).collect();
        write!(f, "{times} of {} runs ({}), first seed {seed}: {violation}", self.runs, breaks.join(", "))
    }
}
