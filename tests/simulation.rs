//! Whole ensembles in the simulator, from a few fixed seeds: a promise that breaks here breaks for everybody. `cargo dev sim`
//! runs as many as there is time for.

mod sources;

use ringkeeper::sim::coverage;
use ringkeeper::sim::faults::Fault;
use ringkeeper::sim::plan::Wishes;
use ringkeeper::sim::trace::Level;
use ringkeeper::sim::world::{Outcome, World};

fn run(seed: u64, wishes: &Wishes) -> Outcome {
    let outcome = World::new(seed, wishes, Level::Silent, None).run();
    if let Some(violation) = &outcome.violation {
        panic!("seed {seed}, {wishes:?}: {violation}");
    }
    outcome
}

/// Small enough for a build without optimisation.
fn small() -> Wishes {
    Wishes { clients: Some(2), seconds: Some(2), ..Wishes::default() }
}

#[test]
fn the_same_seed_is_the_same_run_to_the_last_bit() {
    for voters in [1, 3] {
        let wishes = Wishes { voters: Some(voters), ..small() };
        let (once, again) = (run(11, &wishes), run(11, &wishes));
        assert_eq!((once.trace_hash, once.happenings, once.steps), (again.trace_hash, again.happenings, again.steps));
        assert_ne!(once.trace_hash, run(12, &wishes).trace_hash);
        assert!(once.applied.0 > 0, "somebody wrote something");
    }
}

#[test]
fn a_standalone_server_keeps_its_promises() {
    let mut faults = 0;
    for seed in 0..8 {
        let outcome = run(seed, &Wishes { voters: Some(1), observers: Some(0), seconds: Some(6), ..small() });
        faults += outcome.faults.total();
    }
    assert!(faults > 10, "{faults} faults are no test");
}

#[test]
fn ensembles_without_faults_elect_serve_and_agree() {
    for voters in [2, 3, 5] {
        let wishes =
            Wishes { voters: Some(voters), observers: Some(voters % 2), without: Fault::ALL.to_vec(), ..small() };
        let outcome = run(1, &wishes);
        assert_eq!(outcome.faults.total(), 0);
        assert!(outcome.applied.epoch() == 1 && outcome.applied.counter() > 10, "{}", outcome.applied);
    }
}

#[test]
fn ensembles_keep_their_promises() {
    for seed in 0..6 {
        run(seed, &small());
    }
}

/// Every marked branch of the sources is in the list, so that a report can say which of them no run has reached.
#[test]
fn the_list_of_marks_is_that_of_the_sources() {
    let found = sources::names_given_to("mark(");
    let listed: Vec<&str> = coverage::MARKS.to_vec();
    let names: Vec<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(listed, names, "put the names of the sources into src/sim/coverage.rs, in order");
    let rare: Vec<&str> = coverage::RARE.iter().map(|rare| rare.mark).collect();
    assert!(rare.is_sorted() && rare.iter().all(|mark| listed.contains(mark)), "a rare one that is none: {rare:?}");
}
