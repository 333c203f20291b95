//! What members say of themselves to operators.

use ringkeeper::core::ensemble_view::EnsembleView;
use ringkeeper::core::metrics::Metrics;
use ringkeeper::core::node_view::Wanted;
use ringkeeper::core::settings::Ensemble as EnsembleSettings;
use ringkeeper::core::types::{ConnectionId, ServerId};
use ringkeeper::core::zab::catch_up::SyncKind;
use ringkeeper::core::zab::leader::LearnerView;
use ringkeeper::core::zab::membership::{Configurations, Membership};
use ringkeeper::core::{Node, Settings, Zxid};

use super::ensemble::ask;
use super::ensemble_harness::{Ensemble, quick};
use super::harness::{PERSISTENT, Server, create};

fn view(ensemble: &mut Ensemble, id: i64) -> EnsembleView {
    let now = ensemble.now;
    ensemble.server(id).node.view(now, ConnectionId(0), Wanted::default()).ensemble.expect("a member")
}

fn metrics(ensemble: &mut Ensemble, id: i64) -> &mut Metrics {
    Node::metrics_mut(&mut ensemble.server(id).node)
}

fn writes(ensemble: &mut Ensemble, paths: &[&str]) {
    let leader = ensemble.leader();
    let client = ensemble.client(leader);
    for path in paths {
        assert_eq!(ask(ensemble, leader, client, &create(path, b"", PERSISTENT)), 0);
    }
}

#[test]
fn who_serves_nobody_says_since_when_and_whom_it_waits_for() {
    let mut ensemble = Ensemble::settled();
    let (leader, followers) = (ensemble.leader(), ensemble.followers());
    let began = ensemble.now;
    assert!((1..=3).all(|id| view(&mut ensemble, id).awaits.is_none()));
    followers.iter().for_each(|id| ensemble.crash(*id));
    for _ in 0..100 {
        ensemble.pass_ms(100);
    }
    let awaits = view(&mut ensemble, leader).awaits.expect("nobody is served");
    assert_eq!(
        (awaits.what.as_str(), awaits.ended.as_str()),
        ("no leader is elected", "no quorum of voters was heard of in time")
    );
    let silent: Vec<i64> = awaits.servers.iter().map(|(server, _)| server.0).collect();
    assert_eq!(silent, followers);
    let passed_ms = (ensemble.now.mono_us - began.mono_us) / 1000;
    assert!(awaits.since_ms > 0 && awaits.since_ms < passed_ms, "{awaits:?} of {passed_ms} ms");
    assert_eq!(view(&mut ensemble, leader).peer_state, "looking");

    ensemble.start(followers[0]);
    ensemble.settle();
    let idle_ms = metrics(&mut ensemble, leader).unavailable_time.max();
    assert!(idle_ms >= awaits.since_ms, "{idle_ms}: it was longer in the end");
    let metrics = metrics(&mut ensemble, leader);
    assert_eq!((metrics.looking_count, metrics.election_time.count(), metrics.unavailable_time.count()), (2, 2, 2));
    assert!(view(&mut ensemble, leader).awaits.is_none());
}

#[test]
fn who_lacks_a_server_line_names_the_server() {
    let mut ensemble = Ensemble::settled();
    ensemble.crash(1);
    *ensemble.config_files(1) = Configurations::settled(Membership::of(2, 0));
    ensemble.start(1);
    (0..100).for_each(|_| ensemble.pass_ms(100));
    let awaits = view(&mut ensemble, 1).awaits.expect("nobody is served");
    let lacking = "it votes or is voted for, and has no server line in this server's configuration";
    assert_eq!(awaits.servers, [(ServerId(3), lacking)]);
    assert!(view(&mut ensemble, 2).awaits.is_none());
}

#[test]
fn a_leader_shows_who_follows_and_how_far_behind() {
    let mut ensemble = Ensemble::of(3, 1, quick());
    ensemble.settle();
    let leader = ensemble.leader();
    let now = ensemble.now;
    let zxid = ensemble.server(leader).node.view(now, ConnectionId(0), Wanted::default()).zxid;
    assert_eq!(zxid, Zxid::new(1, 0), "no transaction has it");
    writes(&mut ensemble, &["/a", "/b"]);
    let shown = view(&mut ensemble, leader);
    assert_eq!((shown.peer_state.as_str(), shown.quorum_size), ("leading - broadcast", 3));
    let ids: Vec<ServerId> = shown.learners.iter().map(|learner| learner.server).collect();
    assert_eq!(ids, ensemble.followers().into_iter().map(ServerId).collect::<Vec<_>>());
    for LearnerView { server, observer, votes, in_step, behind_transactions, sync, .. } in shown.learners {
        assert_eq!((observer, votes, in_step), (server.0 == 4, server.0 != 4, true), "{server:?}");
        assert_eq!(behind_transactions, (server.0 != 4).then_some(0), "{server:?}");
        let sync = sync.expect("it was brought up to date");
        assert_eq!((sync.kind, sync.took_ms.is_some()), (SyncKind::Diff, true));
    }
    let leading = metrics(&mut ensemble, leader);
    assert_eq!((leading.diff_count, leading.snap_count), (3, 0));
    assert_eq!(leading.commit_count, leading.proposal_count);
    assert_eq!((leading.leader_unavailable_time.count(), leading.follower_sync_time.count()), (1, 0));
    assert_eq!((leading.quorum_ack_latency.summary().count(), leading.propagation_latency.summary().count()), (3, 3));
    assert_eq!(leading.commit_propagation_latency.summary().count(), 0, "learners'");

    let follower = ensemble.followers()[0];
    let shown = view(&mut ensemble, follower);
    assert_eq!((shown.peer_state.as_str(), shown.quorum_size), ("following - broadcast", 3));
    assert!(shown.learners.is_empty() && shown.observer_master.is_none());
    let sync = shown.sync.expect("it was brought up to date");
    assert_eq!((sync.kind, sync.took_ms.is_some()), (SyncKind::Diff, true));
    let following = metrics(&mut ensemble, follower);
    assert_eq!((following.proposal_count, following.commit_count), (0, 0), "its leader's");
    assert_eq!((following.learner_proposal_received_count, following.learner_commit_received_count), (3, 3));
    assert_eq!((following.follower_sync_time.count(), following.election_time.count()), (1, 1));
    let latencies =
        [&following.proposal_latency, &following.commit_propagation_latency, &following.propagation_latency];
    assert_eq!(latencies.map(|latency| latency.summary().count()), [3, 3, 3]);
    assert!(following.ack_latency.is_empty() && following.quorum_ack_latency.summary().count() == 0, "its leader's");

    let shown = view(&mut ensemble, 4);
    assert_eq!((shown.peer_state.as_str(), shown.observer_master), ("observing - broadcast", Some(ServerId(leader))));
    let observing = metrics(&mut ensemble, 4);
    assert_eq!((observing.learner_proposal_received_count, observing.learner_commit_received_count), (0, 3));
    assert_eq!((observing.observer_sync_time.count(), observing.election_time.count()), (1, 0));
    let latencies = [&observing.proposal_latency, &observing.commit_propagation_latency];
    assert_eq!(latencies.map(|latency| latency.summary().count()), [0, 3], "nobody proposes anything to it");

    ensemble.cut_off_silently(follower);
    writes(&mut ensemble, &["/c", "/d"]);
    let shown = view(&mut ensemble, leader);
    let behind = shown.learners.iter().find(|learner| learner.server.0 == follower).unwrap();
    assert_eq!(behind.behind_transactions, Some(3), "the session, and two writes");
}

#[test]
fn how_long_voters_take_is_measured_until_a_quorum_has_it() {
    let mut ensemble = Ensemble::settled();
    let (leader, followers) = (ensemble.leader(), ensemble.followers());
    let client = ensemble.client(leader);
    Node::reset_server_stats(&mut ensemble.server(leader).node);
    let (away, slow) = (followers[0], followers[1]);
    ensemble.cut_off_silently(away);
    ensemble.server(slow).slow_disk = true;
    ensemble.at(leader, |server| server.send(client, 1, &create("/a", b"", PERSISTENT)));
    ensemble.pass_ms(40);
    ensemble.at(slow, Server::disk_finishes);
    let metrics = metrics(&mut ensemble, leader);
    let by_voter: Vec<_> =
        metrics.ack_latency.iter().map(|(voter, latency)| (voter.0, latency.summary().sum())).collect();
    let mut expected = [(leader, 0), (slow, 40), (away, 0)]; // of who is away: as it was, from 0
    expected.sort_unstable();
    assert_eq!(by_voter, expected);
    assert_eq!(metrics.quorum_ack_latency.summary().sum(), 40);
}

#[test]
fn a_snapshot_shows_on_both_ends() {
    let mut settings = quick();
    settings.ensemble.commit_log_count = 1;
    settings.ensemble.snapshot_size_factor = None;
    let mut ensemble = Ensemble::of(3, 0, settings);
    ensemble.settle();
    writes(&mut ensemble, &["/a", "/b", "/c"]);
    let (leader, follower) = (ensemble.leader(), ensemble.followers()[0]);
    ensemble.crash(follower);
    ensemble.wipe(follower);
    ensemble.start(follower);
    ensemble.settle();
    let received = view(&mut ensemble, follower).sync.unwrap();
    let learners = view(&mut ensemble, leader).learners;
    let sent = learners.iter().find(|learner| learner.server.0 == follower).unwrap().sync.unwrap();
    assert_eq!((received.kind, sent.kind), (SyncKind::Snap, SyncKind::Snap));
    assert!(received.bytes > 0 && sent.bytes > 0);
    let metrics = metrics(&mut ensemble, leader);
    assert_eq!((metrics.snap_count, metrics.inflight_snap_count.max(), metrics.inflight_snap_count.count()), (1, 1, 2));
}

#[test]
fn an_observer_master_shows_its_observers() {
    let ensemble = EnsembleSettings { observer_masters: true, tick_ms: 1000, ..EnsembleSettings::default() };
    let mut ensemble = Ensemble::of(3, 1, Settings { ensemble, ..quick() });
    ensemble.settle();
    let (leader, master) = (ensemble.leader(), ensemble.master_of(4));
    assert_ne!(leader, master);
    assert_eq!(view(&mut ensemble, 4).observer_master, Some(ServerId(master)));
    let shown = view(&mut ensemble, master);
    assert_eq!(shown.peer_state, "following - broadcast");
    assert_eq!(shown.learners.iter().map(|learner| learner.server.0).collect::<Vec<_>>(), [4]);
    assert!(view(&mut ensemble, leader).learners.iter().all(|learner| !learner.observer));
}
