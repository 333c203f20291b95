//! From a run that breaks a promise to a smaller one that breaks the same: fewer faults, clients, servers, seconds.
//!
//! Whatever is taken away changes what chance decides afterwards, so a smaller run is another run: it counts if the same
//! promise breaks in it. Each step is tried with a few neighbouring seeds as well.

use ringkeeper::sim::faults::Fault;
use ringkeeper::sim::plan::{Plan, Wishes};
use ringkeeper::sim::trace::Level;

use crate::run::{command_line, once};

/// Seeds beside the given one that a smaller run is looked for in.
const NEIGHBOURS: u64 = 4;

#[derive(Clone)]
struct Case {
    seed: u64,
    wishes: Wishes,
}

/// True: there was nothing to shrink.
pub fn shrink(seed: u64, wishes: Wishes, broken: Option<&'static str>) -> bool {
    let property = |case: &Case| {
        once(case.seed, &case.wishes, broken, Level::Silent, None).violation.map(|violation| violation.property)
    };
    let mut case = Case { seed, wishes };
    let Some(wanted) = property(&case) else {
        println!("seed {seed} breaks no promise");
        return true;
    };
    println!("seed {seed} breaks {wanted}; looking for a smaller run");
    let fails = |case: &Case| property(case) == Some(wanted);
    loop {
        let smaller = candidates(&case).into_iter().find_map(|candidate| {
            (0..=NEIGHBOURS).map(|by| Case { seed: case.seed.wrapping_add(by), ..candidate.clone() }).find(&fails)
        });
        let Some(smaller) = smaller else { break };
        case = smaller;
        println!("  {}", command_line(case.seed, &case.wishes, broken));
    }
    let violation = once(case.seed, &case.wishes, broken, Level::Silent, None).violation.expect("it fails");
    println!("{violation}\n  again: cargo dev sim {}", command_line(case.seed, &case.wishes, broken));
    false
}

/// Everything that is one step smaller, the largest steps first.
fn candidates(case: &Case) -> Vec<Case> {
    let plan = Plan::draw(case.seed, &case.wishes);
    let mut smaller = Vec::new();
    let mut try_with = |change: &dyn Fn(&mut Wishes)| {
        let mut candidate = case.clone();
        change(&mut candidate.wishes);
        smaller.push(candidate);
    };
    let striking: Vec<Fault> = plan.faults.striking().collect();
    for half in striking.chunks(striking.len().div_ceil(2).max(1)) {
        try_with(&|wishes| wishes.without.extend(half));
    }
    let seconds = plan.safety_us / 1_000_000;
    if seconds > 1 {
        try_with(&|wishes| wishes.seconds = Some(seconds / 2));
    }
    if plan.clients > 1 {
        try_with(&|wishes| wishes.clients = Some(plan.clients / 2));
    }
    if plan.observers > 0 {
        try_with(&|wishes| wishes.observers = Some(plan.observers - 1));
    }
    if plan.voters > 3 {
        try_with(&|wishes| wishes.voters = Some(3));
    }
    if striking.len() > 2 {
        for fault in &striking {
            try_with(&|wishes| wishes.without.push(*fault));
        }
    }
    smaller
}
