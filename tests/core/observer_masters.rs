//! Observers behind followers: what their clients are promised is what everybody's clients are promised.

use ringkeeper::core::Settings;
use ringkeeper::core::settings::Ensemble as EnsembleSettings;
use ringkeeper::core::types::RoleView;
use ringkeeper::wire::client::Request;

use super::ensemble::{ask, sync};
use super::ensemble_harness::{Ensemble, quick};
use super::harness::{EPHEMERAL, PERSISTENT, create, get, set};

fn with_masters() -> Settings {
    Settings {
        ensemble: EnsembleSettings { observer_masters: true, tick_ms: 1000, ..EnsembleSettings::default() },
        ..quick()
    }
}

/// Voters 1 to 3, observer 4 behind a follower.
fn observed() -> Ensemble {
    let mut ensemble = Ensemble::of(3, 1, with_masters());
    ensemble.settle();
    assert!(matches!(ensemble.role(4), RoleView::Observing { serving: true, .. }));
    let (leader, master) = (ensemble.leader(), ensemble.master_of(4));
    assert!(master != leader && master <= 3, "{master} serves the observer, {leader} leads");
    ensemble
}

#[test]
fn writes_and_syncs_of_an_observers_clients_go_through_its_master() {
    let mut ensemble = observed();
    let client = ensemble.client(4);
    assert_eq!(ask(&mut ensemble, 4, client, &create("/a", b"1", PERSISTENT)), 0);
    assert_eq!(ask(&mut ensemble, 4, client, &sync()), 0);
    let leader = ensemble.leader();
    let other = ensemble.client(leader);
    assert_eq!(ask(&mut ensemble, leader, other, &set("/a", b"2", -1)), 0);
    assert_eq!(ask(&mut ensemble, 4, client, &get("/a", false)), 0);
    ensemble.assert_agreed();
}

#[test]
fn a_session_at_an_observer_lives_as_long_as_its_client_is_heard_of() {
    let mut ensemble = observed();
    let client = ensemble.client(4);
    assert_eq!(ask(&mut ensemble, 4, client, &create("/e", b"", EPHEMERAL)), 0);
    let timeouts = |count: u64| 0..count * client.timeout_ms as u64 / 500;
    for _ in timeouts(5) {
        ensemble.pass_ms(500);
        ensemble.at(4, |server| server.send(client, -2, &Request::Ping));
    }
    let leader = ensemble.leader();
    assert!(ensemble.server(leader).node.tree().find("/e").is_some());
    timeouts(2).for_each(|_| ensemble.pass_ms(500));
    assert!(ensemble.server(leader).node.tree().find("/e").is_none(), "and no longer");
    ensemble.assert_agreed();
}

#[test]
fn a_session_moves_from_an_observer_to_its_master_and_back() {
    let mut ensemble = observed();
    let master = ensemble.master_of(4);
    let client = ensemble.client(4);
    assert_eq!(ask(&mut ensemble, 4, client, &create("/e", b"", EPHEMERAL)), 0);
    let moved = ensemble.resume(master, &client).expect("the session lives");
    assert_eq!(ask(&mut ensemble, master, moved, &set("/e", b"1", -1)), 0);
    // The leader cannot tell one door behind a follower from the other; the follower can.
    let back = ensemble.resume(4, &moved).expect("it still lives");
    assert!(ensemble.server(master).closed.contains(&moved.connection));
    assert_eq!(ask(&mut ensemble, 4, back, &set("/e", b"2", -1)), 0);
    ensemble.at(4, |server| server.send(back, 9, &Request::CloseSession));
    assert!(ensemble.resume(4, &back).is_none(), "it is over");
    ensemble.assert_agreed();
}

#[test]
fn an_observer_finds_another_master() {
    let mut ensemble = observed();
    let client = ensemble.client(4);
    let first = ensemble.master_of(4);
    ensemble.crash(first);
    ensemble.settle();
    let second = ensemble.master_of(4);
    assert!(second != first && second != ensemble.leader());
    let back = ensemble.resume(4, &client).expect("its session lives on");
    assert_eq!(ask(&mut ensemble, 4, back, &create("/a", b"", PERSISTENT)), 0);
    ensemble.start(first);
    ensemble.settle();
    ensemble.assert_agreed();
}

#[test]
fn an_observer_that_was_away_gets_what_it_missed_and_a_new_one_gets_everything() {
    let mut settings = with_masters();
    settings.ensemble.commit_log_count = 3;
    settings.ensemble.snapshot_size_factor = None;
    let mut ensemble = Ensemble::of(3, 1, settings);
    ensemble.settle();
    let leader = ensemble.leader();
    let client = ensemble.client(leader);
    let write = |ensemble: &mut Ensemble, number: i32| {
        assert_eq!(ask(ensemble, leader, client, &create(&format!("/{number}"), b"", PERSISTENT)), 0);
    };
    write(&mut ensemble, 0);
    ensemble.crash(4);
    write(&mut ensemble, 1);
    ensemble.start(4);
    ensemble.settle();
    ensemble.assert_agreed();
    assert_eq!(ensemble.log_reads_and_installs().1, 0, "a DIFF was enough");
    ensemble.crash(4);
    ensemble.wipe(4);
    (2..12).for_each(|number| write(&mut ensemble, number));
    ensemble.start(4);
    ensemble.settle();
    ensemble.assert_agreed();
    assert_eq!(ensemble.log_reads_and_installs().1, 1, "a follower gave the whole state away");
    assert_ne!(ensemble.master_of(4), leader);
}

#[test]
fn the_next_epoch_comes_to_observers_without_a_break() {
    let mut settings = with_masters();
    settings.ensemble.rollover_at = 10;
    let mut ensemble = Ensemble::of(3, 1, settings);
    ensemble.settle();
    let client = ensemble.client(4);
    for number in 0..30 {
        assert_eq!(ask(&mut ensemble, 4, client, &create(&format!("/{number}"), b"", PERSISTENT)), 0, "{number}");
    }
    let last = ensemble.server(4).node.last_processed();
    assert!(last.epoch() > 2, "{last}");
    ensemble.assert_agreed();
}

#[test]
fn with_one_voter_its_observer_asks_the_leader() {
    let mut ensemble = Ensemble::of(1, 1, with_masters());
    ensemble.settle();
    let client = ensemble.client(2);
    assert_eq!(ask(&mut ensemble, 2, client, &create("/a", b"", PERSISTENT)), 0);
    assert_eq!(ensemble.master_of(2), 1);
}
