//! Members come, go and change their part while the ensemble works, and while servers crash in the middle of that.

use ringkeeper::core::Settings;
use ringkeeper::core::settings::Ensemble as EnsembleSettings;
use ringkeeper::core::types::{RoleView, ServerId};
use ringkeeper::wire::client::{OpCode, Request, Response};

use super::ensemble_harness::{Ensemble, quick};
use super::harness::{Client, PERSISTENT, Reply, create, get, set};

const IN_PROGRESS: i32 = -14;
const NO_QUORUM: i32 = -13;
const BAD_VERSION: i32 = -103;
const BAD_ARGUMENTS: i32 = -8;
const NO_AUTH: i32 = -102;
const DISABLED: i32 = -123;

fn settings() -> Settings {
    Settings { reconfig_enabled: true, skip_acl: true, ..quick() }
}

fn ensemble(voters: i64, observers: i64, spares: i64) -> Ensemble {
    let mut ensemble = Ensemble::with_spares(voters, observers, spares, settings());
    ensemble.settle();
    ensemble
}

fn line(id: i64, role: &str) -> String {
    format!("server.{id}=10.0.0.{id}:2888:3888:{role};0.0.0.0:2181")
}

fn lines(ids: &[i64], role: &str) -> String {
    ids.iter().map(|id| line(*id, role)).collect::<Vec<_>>().join(",")
}

fn step<'a>(joining: &'a str, leaving: &'a str) -> Request<'a> {
    Request::Reconfig { joining: Some(joining.into()), leaving: Some(leaving.into()), new_members: None, config_id: -1 }
}

fn whole(members: &str) -> Request<'_> {
    Request::Reconfig { joining: None, leaving: None, new_members: Some(members.into()), config_id: -1 }
}

/// Sends one request and gives its answer, if there is one.
fn asks(ensemble: &mut Ensemble, at: i64, client: Client, request: &Request<'_>) -> Option<Reply> {
    ensemble.at(at, |server| server.send(client, 7, request));
    ensemble.server(at).replies(client).into_iter().find(|reply| reply.xid == 7)
}

fn refused(ensemble: &mut Ensemble, at: i64, client: Client, request: &Request<'_>) -> i32 {
    asks(ensemble, at, client, request).expect("an answer").err
}

fn reconfigure(ensemble: &mut Ensemble, at: i64, client: Client, request: &Request<'_>) -> u64 {
    let reply = asks(ensemble, at, client, request).expect("an answer");
    assert_eq!(reply.err, 0, "{request:?}");
    let Response::Data { data: Some(text), stat } = reply.response(OpCode::Reconfig) else {
        panic!("a reconfiguration is answered like getData")
    };
    let text = String::from_utf8(text.to_vec()).unwrap();
    assert!(text.ends_with(&format!("version={:x}", reply.zxid)), "{text}");
    assert_eq!((stat.mzxid, stat.version), (reply.zxid, -1));
    reply.zxid as u64
}

fn writes(ensemble: &mut Ensemble, at: i64, path: &str) {
    let client = ensemble.client(at);
    assert_eq!(refused(ensemble, at, client, &create(path, b"x", PERSISTENT)), 0);
    ensemble.settle();
    ensemble.assert_agreed();
}

#[test]
fn an_ensemble_names_its_configuration_after_its_first_epoch() {
    let mut ensemble = ensemble(3, 1, 0);
    for id in 1..=4 {
        assert_eq!(ensemble.in_force(id), (0x1_0000_0000, vec![1, 2, 3]));
        let client = ensemble.client(id);
        let shown = asks(&mut ensemble, id, client, &get("/zookeeper/config", false)).unwrap();
        let Response::Data { data: Some(text), stat } = shown.response(OpCode::GetData) else { panic!("data") };
        assert!(text.starts_with(b"server.1=10.0.0.1:2888:3888:participant\n") && text.ends_with(b"version=100000000"));
        assert_eq!((stat.mzxid, stat.czxid, stat.version, stat.aversion), (0x1_0000_0000, 0, -1, -1));
    }
}

#[test]
fn three_become_five_and_five_become_three() {
    let mut ensemble = ensemble(3, 0, 2);
    let leader = ensemble.leader();
    let client = ensemble.client(leader);
    let version = reconfigure(&mut ensemble, leader, client, &step(&lines(&[4, 5], "participant"), ""));
    for id in 1..=5 {
        assert_eq!(ensemble.in_force(id), (version, vec![1, 2, 3, 4, 5]));
    }
    assert_eq!(ensemble.leader(), leader, "nobody had to leave");
    assert_eq!(ensemble.client_address(4), Some(("0.0.0.0".into(), 2181)));
    let gone: Vec<i64> = (1..=3).filter(|id| *id != leader).collect();
    gone.iter().for_each(|id| ensemble.crash(*id));
    assert_eq!(refused(&mut ensemble, leader, client, &create("/three-of-five", b"", PERSISTENT)), 0);
    gone.iter().for_each(|id| ensemble.start(*id));
    ensemble.settle();
    let leaving = gone.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
    reconfigure(&mut ensemble, leader, client, &step("", &leaving));
    writes(&mut ensemble, gone[0], "/through-one-that-does-not-count");
    [4, 5].iter().for_each(|id| ensemble.cut_off_silently(*id));
    let alone = asks(&mut ensemble, leader, client, &create("/one-of-three", b"", PERSISTENT));
    assert!(alone.is_none(), "who was removed counts nowhere: {alone:?}");
}

#[test]
fn a_leader_that_is_removed_designates_the_next() {
    let mut ensemble = ensemble(4, 0, 0);
    let leader = ensemble.leader();
    let client = ensemble.client(leader);
    let version = reconfigure(&mut ensemble, leader, client, &step("", &leader.to_string()));
    ensemble.settle();
    let next = ensemble.leader();
    assert_ne!(next, leader);
    assert_eq!(ensemble.role(leader), RoleView::Following { leader: ServerId(next), serving: true });
    for id in 1..=4 {
        assert_eq!(ensemble.in_force(id).0, version);
    }
    writes(&mut ensemble, leader, "/on");
}

#[test]
fn observers_become_voters_and_voters_observers() {
    let mut ensemble = ensemble(3, 1, 0);
    let leader = ensemble.leader();
    let client = ensemble.client(leader);
    let other = ensemble.followers()[0];
    let joining = format!("{},{}", line(4, "participant"), line(other, "observer"));
    let version = reconfigure(&mut ensemble, leader, client, &step(&joining, ""));
    ensemble.settle();
    assert_eq!(ensemble.leader(), leader);
    assert!(matches!(ensemble.role(4), RoleView::Following { .. }));
    assert!(matches!(ensemble.role(other), RoleView::Observing { .. }));
    assert_eq!(ensemble.in_force(other), ensemble.in_force(4));
    assert_eq!(ensemble.in_force(4).0, version);
    writes(&mut ensemble, other, "/on");
}

/// The same members under a later name: followers tell their observers' versions from that.
#[test]
fn a_change_that_changes_nobody_is_known_to_observer_masters_too() {
    let observer_masters = EnsembleSettings { observer_masters: true, tick_ms: 1000, ..EnsembleSettings::default() };
    let mut ensemble = Ensemble::with_spares(3, 1, 0, Settings { ensemble: observer_masters, ..settings() });
    ensemble.settle();
    let leader = ensemble.leader();
    let client = ensemble.client(leader);
    for _ in 0..2 {
        reconfigure(&mut ensemble, leader, client, &step(&line(2, "participant"), ""));
        ensemble.settle();
    }
    ensemble.crash(4);
    ensemble.start(4);
    ensemble.settle();
    writes(&mut ensemble, 4, "/on");
}

#[test]
fn nobody_of_before_is_left() {
    let mut ensemble = ensemble(3, 0, 3);
    let leader = ensemble.leader();
    let client = ensemble.client(leader);
    reconfigure(&mut ensemble, leader, client, &whole(&lines(&[4, 5, 6], "participant")));
    ensemble.settle();
    assert!((4..=6).contains(&ensemble.leader()));
    (1..=3).for_each(|id| ensemble.crash(id));
    writes(&mut ensemble, 5, "/without-them");
    (1..=6).filter(|id| *id > 3).for_each(|id| ensemble.crash(id));
    (1..=3).for_each(|id| ensemble.start(id));
    ensemble.pass_ms(60_000);
    assert!((1..=3).all(|id| !ensemble.server(id).node.is_serving()), "they know that they do not decide any more");
    (4..=6).for_each(|id| ensemble.start(id));
    ensemble.settle();
    ensemble.assert_agreed();
}

#[test]
fn what_cannot_be_is_refused() {
    let mut ensemble = ensemble(3, 0, 1);
    let leader = ensemble.leader();
    for at in [leader, ensemble.followers()[0]] {
        let client = ensemble.client(at);
        let stale = Request::Reconfig { joining: None, leaving: None, new_members: None, config_id: 0x77 };
        assert_eq!(refused(&mut ensemble, at, client, &stale), BAD_VERSION);
        assert_eq!(refused(&mut ensemble, at, client, &step("server.4=h:1:2", "")), BAD_ARGUMENTS);
        // Names that the text of a configuration cannot hold, and one that no introduction has room for.
        for name in ["zk-\u{f6}", "a\nb", "a\\b", &"n".repeat(2000)] {
            let line = format!("server.4={name}:1:2:observer;2181");
            assert_eq!(refused(&mut ensemble, at, client, &step(&line, "")), BAD_ARGUMENTS, "{name:?}");
        }
        let absent = whole("server.7=a:1:2;3,server.8=b:1:2;3,server.9=c:1:2;3");
        assert_eq!(refused(&mut ensemble, at, client, &absent), NO_QUORUM);
        assert_eq!(refused(&mut ensemble, at, client, &set("/zookeeper", b"works on", -1)), 0);
    }
    // While one is on its way to the disks, there is no other.
    let client = ensemble.client(leader);
    (1..=4).for_each(|id| ensemble.server(id).slow_disk = true);
    assert!(asks(&mut ensemble, leader, client, &step(&line(4, "participant"), "")).is_none());
    ensemble.at(leader, |server| server.send(client, 8, &step("", "4")));
    (1..=4).for_each(|id| ensemble.server(id).slow_disk = false);
    (1..=4).for_each(|id| ensemble.at(id, |server| server.disk_finishes()));
    let answers: Vec<(i32, i32)> =
        ensemble.server(leader).replies(client).iter().map(|reply| (reply.xid, reply.err)).collect();
    assert_eq!(answers, [(7, 0), (8, IN_PROGRESS)]);
}

#[test]
fn who_may_not_or_cannot_is_told_so() {
    let mut guarded = Ensemble::of(3, 0, Settings { skip_acl: false, ..settings() });
    guarded.settle();
    let client = guarded.client(1);
    let nothing = Request::Reconfig { joining: None, leaving: None, new_members: None, config_id: -1 };
    assert_eq!(refused(&mut guarded, 1, client, &nothing), NO_AUTH);
    let mut plain = Ensemble::settled();
    let client = plain.client(1);
    assert_eq!(refused(&mut plain, 1, client, &nothing), DISABLED);
    assert_eq!(plain.in_force(1).0, 0);
}

/// Proposed, on one disk alone, and then its leader is gone: it never was. On a quorum's: the next leader completes it.
#[test]
fn a_leader_that_crashes_in_the_middle() {
    for reached in [0, 2] {
        let mut ensemble = ensemble(3, 0, 2);
        let leader = ensemble.leader();
        let client = ensemble.client(leader);
        let others: Vec<i64> = (1..=5).filter(|id| *id != leader).collect();
        let voters: Vec<i64> = others.iter().copied().filter(|id| *id <= 3).collect();
        if reached == 0 {
            others.iter().for_each(|id| ensemble.cut_off_silently(*id));
        }
        (1..=5).for_each(|id| ensemble.server(id).slow_disk = true);
        assert!(asks(&mut ensemble, leader, client, &step(&lines(&[4, 5], "participant"), "")).is_none());
        if reached == 0 {
            ensemble.server(leader).disk_finishes();
        } else {
            others.iter().for_each(|id| ensemble.server(*id).disk_finishes());
        }
        // Whatever they say now, it is too late.
        ensemble.crash(leader);
        others.iter().for_each(|id| ensemble.server(*id).slow_disk = false);
        others.iter().filter(|_| reached == 0).for_each(|id| ensemble.rejoin(*id));
        ensemble.settle();
        let expected = if reached == 0 { vec![1, 2, 3] } else { vec![1, 2, 3, 4, 5] };
        assert_eq!(ensemble.in_force(voters[0]).1, expected);
        ensemble.start(leader);
        ensemble.settle();
        for id in 1..=5 {
            assert_eq!(ensemble.in_force(id).1, expected, "server {id}");
        }
        writes(&mut ensemble, 4, "/on");
    }
}

/// Two changes while it is synchronised, and a crash before it was told that both are in force: it must not ask those who were before
/// the first.
#[test]
fn a_log_with_two_changes_proves_that_the_first_is_in_force() {
    let mut ensemble = ensemble(3, 0, 2);
    let (leader, late) = (ensemble.leader(), ensemble.followers()[0]);
    let client = ensemble.client(leader);
    let files_before = ensemble.config_files(late).clone();
    let first = reconfigure(&mut ensemble, leader, client, &step(&lines(&[4, 5], "participant"), ""));
    let second = reconfigure(&mut ensemble, leader, client, &step("", "5"));
    ensemble.settle();

    ensemble.crash(late);
    *ensemble.config_files(late) = files_before;
    ensemble.cut_off_silently(late);
    ensemble.start(late);
    assert_eq!(ensemble.in_force(late), (first, vec![1, 2, 3, 4, 5]));
    assert_eq!(ensemble.config_files(late).last_seen.version, second);
    ensemble.rejoin(late);
    ensemble.settle();
    assert_eq!(ensemble.in_force(late), (second, vec![1, 2, 3, 4]));
}

/// The others that decide now have the proposal, and the next ones have more: none of the former can lead the latter, and without
/// those there is no quorum of the next configuration.
#[test]
fn a_voter_to_be_that_has_more_than_those_who_decide_is_put_forward() {
    let mut ensemble = ensemble(3, 0, 2);
    let leader = ensemble.leader();
    let client = ensemble.client(leader);
    let others: Vec<i64> = (1..=3).filter(|id| *id != leader).collect();
    (1..=5).for_each(|id| ensemble.server(id).slow_disk = true);
    assert!(asks(&mut ensemble, leader, client, &step(&lines(&[4, 5], "participant"), "")).is_none());
    others.iter().for_each(|id| ensemble.cut_off_silently(*id));
    assert!(asks(&mut ensemble, leader, client, &create("/more", b"", PERSISTENT)).is_none());
    ensemble.cut_off_silently(leader);
    for id in others.iter().copied().chain([4, 5]) {
        ensemble.at(id, |server| server.disk_finishes());
        ensemble.server(id).slow_disk = false;
    }
    ensemble.crash(leader);
    others.iter().for_each(|id| ensemble.rejoin(*id));
    ensemble.settle();
    assert!(ensemble.leader() > 3);
    ensemble.rejoin(leader);
    ensemble.start(leader);
    ensemble.settle();
    for id in 1..=5 {
        assert_eq!(ensemble.in_force(id).1, [1, 2, 3, 4, 5], "server {id}");
    }
    writes(&mut ensemble, leader, "/more/on");
}

/// Its word about the epoch it was in is what puts it forward, so it must not keep it to itself.
#[test]
fn a_voter_to_be_that_was_first_in_a_later_epoch_is_put_forward() {
    let mut ensemble = ensemble(3, 0, 2);
    let leader = ensemble.leader();
    let client = ensemble.client(leader);
    let others: Vec<i64> = (1..=3).filter(|id| *id != leader).collect();
    (1..=5).for_each(|id| ensemble.server(id).slow_disk = true);
    assert!(asks(&mut ensemble, leader, client, &step(&lines(&[4, 5], "participant"), "")).is_none());
    (1..=5).for_each(|id| ensemble.cut_off_silently(id));
    for id in others.iter().copied().chain([4, 5]) {
        ensemble.at(id, |server| server.disk_finishes());
        ensemble.server(id).slow_disk = false;
    }
    (1..=5).for_each(|id| ensemble.crash(id));
    (1..=5).for_each(|id| ensemble.rejoin(id));
    // The next leader's epoch was accepted by all, and 4 was the first to be in it when that leader died.
    (1..=5).for_each(|id| ensemble.raise_epochs(id, 1, u32::from(id == 4)));
    others.iter().copied().chain([4]).for_each(|id| ensemble.start(id));
    (0..60).for_each(|_| ensemble.pass_ms(500));
    assert_eq!(ensemble.leader(), 4);
}
