//! The list of broken rules is that of the sources, and what it says of them makes sense. That each is noticed:
//! `cargo dev sim --mutations`, which `cargo dev test` runs in an optimised build; here a few that take a moment.

mod sources;

use ringkeeper::sim::mutations::{MUTATIONS, Scene, UNNOTICED};
use ringkeeper::sim::properties;
use ringkeeper::sim::trace::Level;
use ringkeeper::sim::world::World;
use ringkeeper_storage::probe;

#[test]
fn the_list_of_mutations_is_that_of_the_sources() {
    let found = sources::names_given_to("broken(");
    let noticed: Vec<&str> = MUTATIONS.iter().map(|mutation| mutation.rule).collect();
    assert!(noticed.is_sorted() && UNNOTICED.is_sorted());
    let mut listed = [noticed.as_slice(), UNNOTICED].concat();
    listed.sort_unstable();
    let names: Vec<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(listed, names, "put the names of the sources into src/sim/mutations.rs, in order");
}

#[test]
fn every_mutation_breaks_a_promise_that_there_is() {
    // What the world itself notices, beside the properties.
    let others = ["assertions", "liveness", "recovery", "truth"];
    let promises: Vec<&str> = properties::names().into_iter().chain(others).collect();
    for mutation in MUTATIONS {
        assert!(mutation.seeds > 0 && !mutation.breaks.is_empty(), "{:?} is never noticed", mutation.rule);
        for broken in mutation.breaks {
            assert!(promises.contains(broken), "{:?}: no promise is called {broken:?}", mutation.rule);
        }
    }
}

/// Fast enough without optimisation: broken from the first write on.
#[test]
fn the_plainest_mutations_are_noticed_at_once() {
    for rule in ["leader: commit on a minority", "ack before the flush", "apply before the commit"] {
        let mutation = MUTATIONS.iter().find(|mutation| mutation.rule == rule).expect("it is in the list");
        probe::break_rule(Some(mutation.rule));
        let violation = World::new(0, &Scene::Clients.wishes(), Level::Silent, None).run().violation;
        probe::break_rule(None);
        let violation = violation.unwrap_or_else(|| panic!("{rule:?} was not noticed"));
        assert!(mutation.breaks.contains(&violation.property), "{rule:?} was noticed by {violation}");
    }
}
