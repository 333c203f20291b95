//! The list of broken rules is that of the sources, and what it says of them makes sense. That each is noticed:
//! `cargo dev sim --mutations`, which `cargo dev test` runs in an optimised build; here a few that take a moment.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ringkeeper::sim::mutations::{MUTATIONS, Scene, UNNOTICED};
use ringkeeper::sim::properties;
use ringkeeper::sim::trace::Level;
use ringkeeper::sim::world::World;
use ringkeeper_storage::probe;

#[test]
fn the_list_of_mutations_is_that_of_the_sources() {
    let mut found = BTreeSet::new();
    for folder in ["src/core", "src/wire", "storage/src"] {
        for file in rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)) {
            let text = fs::read_to_string(&file).unwrap();
            let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            let text = code.join("\n");
            for (at, _) in text.match_indices("broken(") {
                let rest = text[at + "broken(".len()..].trim_start();
                if let Some(name) = rest.strip_prefix('"').and_then(|rest| rest.split('"').next()) {
                    found.insert(name.to_owned());
                }
            }
        }
    }
    let noticed: Vec<&str> = MUTATIONS.iter().map(|mutation| mutation.rule).collect();
    assert!(noticed.is_sorted() && UNNOTICED.is_sorted());
    let mut listed = [noticed.as_slice(), UNNOTICED].concat();
    listed.sort_unstable();
    let sources: Vec<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(listed, sources, "put the names of the sources into src/sim/mutations.rs, in order");
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

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
