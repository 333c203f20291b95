//! Running seeds: one with its story, or many on all CPUs.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ringkeeper::sim::coverage::RARE;
use ringkeeper::sim::event::Violation;
use ringkeeper::sim::faults::Fault;
use ringkeeper::sim::plan::Wishes;
use ringkeeper::sim::trace::{Level, Sink};
use ringkeeper::sim::world::{Outcome, World};
use ringkeeper_storage::probe;

use crate::marks;
use crate::summary::Summary;

/// What all runs of a batch have in common.
pub struct Batch {
    pub wishes: Wishes,
    pub broken: Option<&'static str>,
    pub jobs: usize,
    pub keep_going: bool,
    pub coverage: bool,
    pub marks: bool,
}

/// So many fresh seeds take every marked branch, or it is one that no run can take.
const TAKES_THEM_ALL: u64 = 10_000;

thread_local! {
    /// What the last panic of this thread said, and where.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A failed assertion is a broken promise like any other: it is told with its seed.
pub fn quiet_panics() {
    panic::set_hook(Box::new(|info| PANIC.set(Some(info.to_string()))));
}

/// One run, whatever comes of it.
pub fn once(seed: u64, wishes: &Wishes, broken: Option<&'static str>, level: Level, sink: Option<Sink>) -> Outcome {
    probe::break_rule(broken);
    let mut world = World::new(seed, wishes, level, sink);
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| world.run()));
    probe::break_rule(None);
    outcome.unwrap_or_else(|_| {
        let why = PANIC.take().unwrap_or_default();
        world.ended_by(Violation { property: "assertions", why })
    })
}

/// The story of one seed. True: no promise was broken.
pub fn tell(seed: u64, wishes: &Wishes, broken: Option<&'static str>, level: Level) -> bool {
    let began = Instant::now();
    let outcome = once(seed, wishes, broken, level, Some(Box::new(|line| println!("{line}"))));
    let mut summary = Summary::default();
    summary.add(&outcome);
    summary.add_marks(probe::take_marks());
    println!("{}", summary.text(began.elapsed(), began.elapsed(), true));
    println!("trace {:016x}", outcome.trace_hash);
    match &outcome.violation {
        None => true,
        Some(violation) => {
            println!("{}", failure(seed, violation, wishes, broken));
            false
        }
    }
}

/// Fresh seeds, until the time is over.
pub fn fresh(minutes: f64, batch: &Batch) -> bool {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Numbers that people can still read and type.
    let first = since.as_secs() * 1_000_000;
    many(first..u64::MAX, Some(Duration::from_secs_f64(minutes * 60.0)), batch)
}

/// Many seeds. True: no promise was broken.
pub fn many(seeds: std::ops::Range<u64>, time: Option<Duration>, batch: &Batch) -> bool {
    let began = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let failed = AtomicBool::new(false);
    let summary = Mutex::new(Summary::default());
    std::thread::scope(|scope| {
        for _ in 0..batch.jobs {
            scope.spawn(|| {
                let (mut ours, began_job) = (Summary::default(), Instant::now());
                let out_of_time = || time.is_some_and(|time| began.elapsed() >= time);
                let give_up = || failed.load(Ordering::Relaxed) && !batch.keep_going;
                while !out_of_time() && !give_up() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let outcome = once(seed, &batch.wishes, batch.broken, Level::Silent, None);
                    if let Some(violation) = &outcome.violation {
                        failed.store(true, Ordering::Relaxed);
                        println!("{}", failure(seed, violation, &batch.wishes, batch.broken));
                    }
                    if outcome.hopeless {
                        println!("seed {seed}: nobody can lead any more");
                    }
                    ours.add(&outcome);
                }
                ours.add_marks(probe::take_marks());
                ours.add_busy(began_job.elapsed());
                summary.lock().expect("no panic holds it").merge(ours);
            });
        }
    });
    let summary = summary.into_inner().expect("no panic holds it");
    println!("{}", summary.text(began.elapsed(), summary.busy(), batch.coverage));
    let missed = summary.missed();
    let unforeseen = missed.iter().any(|mark| !RARE.iter().any(|rare| rare.mark == *mark));
    let lacks_marks = if batch.marks {
        !marks::reach(&missed, batch.jobs)
    } else {
        batch.coverage && summary.runs() >= TAKES_THEM_ALL && unforeseen
    };
    !failed.load(Ordering::Relaxed) && !lacks_marks
}

fn failure(seed: u64, violation: &Violation, wishes: &Wishes, broken: Option<&str>) -> String {
    format!("seed {seed}: {violation}\n  again: cargo dev sim {}", command_line(seed, wishes, broken))
}

/// What shows the same again.
pub fn command_line(seed: u64, wishes: &Wishes, broken: Option<&str>) -> String {
    let mut line = format!("--seed {seed}");
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            line.push_str(&format!(" --{name} {value}"));
        }
    };
    add("voters", wishes.voters.map(|voters| voters.to_string()));
    add("observers", wishes.observers.map(|observers| observers.to_string()));
    add("clients", wishes.clients.map(|clients| clients.to_string()));
    add("seconds", wishes.seconds.map(|seconds| seconds.to_string()));
    let without: Vec<&str> = wishes.without.iter().map(|fault| fault.name()).collect();
    match without.len() {
        0 => {}
        all if all == Fault::ALL.len() => add("no-faults", Some(String::new())),
        _ => add("without", Some(without.join(","))),
    }
    let only: Vec<&str> = wishes.only.iter().map(|fault| fault.name()).collect();
    add("only", (!only.is_empty()).then(|| only.join(",")));
    add("rollover-at", wishes.rollover_at.map(|counter| counter.to_string()));
    add("emphasis", wishes.emphasis.map(|emphasis| emphasis.name().to_owned()));
    add("observer-masters", wishes.observer_masters.map(|wanted| wanted.to_string()));
    add("local-sessions", wishes.local_sessions.map(|wanted| wanted.to_string()));
    add("break", broken.map(|name| format!("{name:?}")));
    line
}
