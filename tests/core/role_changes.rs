//! Three nodes and what happens when one of them goes, comes back, hands over, runs full or is stopped.

use ringkeeper::core::settings::Ensemble as EnsembleSettings;
use ringkeeper::core::types::{LogRoom, RoleView};
use ringkeeper::core::{Input, Settings};
use ringkeeper::limits;
use ringkeeper::wire::client::{ConnectResponse, OpCode, Request, Response};

use super::ensemble::{ask, sync};
use super::ensemble_harness::{Ensemble, quick};
use super::harness::{Client, EPHEMERAL, PERSISTENT, Server, create, delete, exists, get, set};

const NOT_READ_ONLY: i32 = -119;
const SYSTEM_ERROR: i32 = -1;
const NOT_EMPTY: i32 = -111;

#[test]
fn a_follower_that_loses_its_leader_closes_its_clients_and_comes_back() {
    let mut ensemble = Ensemble::settled();
    let [here, there] = ensemble.followers()[..] else { panic!("two followers") };
    let (client, writer) = (ensemble.client(here), ensemble.client(there));
    assert_eq!(ask(&mut ensemble, here, client, &create("/e", b"", EPHEMERAL)), 0);
    ensemble.cut_off(here);
    assert!(ensemble.server(here).closed.contains(&client.connection));
    assert!(matches!(ensemble.role(here), RoleView::Looking { .. }));
    // Nobody is served meanwhile: whoever says anything is closed.
    let connection = ensemble.at(here, Server::accept);
    ensemble.at(here, |server| server.bytes(connection, &[0, 0, 0, 44]));
    assert!(ensemble.server(here).closed.contains(&connection));
    assert_eq!(ask(&mut ensemble, there, writer, &create("/a", b"", PERSISTENT)), 0);
    ensemble.rejoin(here);
    ensemble.settle();
    ensemble.assert_agreed();
    let back = ensemble.resume(here, &client).expect("nobody was silent for long");
    assert_eq!(ask(&mut ensemble, here, back, &exists("/e", false)), 0);
    assert_eq!(ask(&mut ensemble, here, back, &exists("/a", false)), 0);
}

/// `leaderServes=no`.
#[test]
fn a_leader_may_leave_all_clients_to_others() {
    let settings = Settings { ensemble: EnsembleSettings { leader_serves: false, ..quick().ensemble }, ..quick() };
    let mut ensemble = Ensemble::of(3, 0, settings);
    ensemble.settle();
    let (leader, follower) = (ensemble.leader(), ensemble.followers()[0]);
    assert!(ensemble.connect(leader, Some(false), &Client::NOBODY).is_none());
    assert!(!ensemble.server(leader).node.serves_anybody());
    let client = ensemble.client(follower);
    assert_eq!(ask(&mut ensemble, follower, client, &create("/a", b"", PERSISTENT)), 0);
    ensemble.crash(leader);
    ensemble.settle();
    let next = ensemble.leader();
    let other = *ensemble.followers().iter().find(|id| **id != leader).expect("two are there");
    assert!(ensemble.connect(next, Some(false), &Client::NOBODY).is_none(), "it leads now");
    let client = ensemble.client(other);
    assert_eq!(ask(&mut ensemble, other, client, &set("/a", b"1", -1)), 0);
}

#[test]
fn sessions_outlive_their_leader_and_belong_to_whoever_asks_first() {
    let mut ensemble = Ensemble::settled();
    let (leader, followers) = (ensemble.leader(), ensemble.followers());
    let client = ensemble.client(leader);
    assert_eq!(ask(&mut ensemble, leader, client, &create("/e", b"", EPHEMERAL)), 0);
    ensemble.crash(leader);
    ensemble.settle();
    let new_leader = ensemble.leader();
    assert!(followers.contains(&new_leader));
    let other = followers[usize::from(followers[0] == new_leader)];
    let moved = ensemble.resume(other, &client).expect("sessions outlive leaders");
    assert_eq!(ask(&mut ensemble, other, moved, &set("/e", b"1", -1)), 0);
    ensemble.start(leader);
    ensemble.settle();
    ensemble.assert_agreed();
    // Its client goes away: the new leader counts from the election on, and ends the session in its time.
    ensemble.pass_ms(9_000);
    ensemble.settle();
    assert!(ensemble.server(leader).node.tree().find("/e").is_some());
    (0..40).for_each(|_| ensemble.pass_ms(500));
    for id in 1..=3 {
        assert!(ensemble.server(id).node.tree().find("/e").is_none(), "{id}");
    }
    ensemble.assert_agreed();
}

#[test]
fn what_only_the_old_leader_has_is_given_up_when_it_comes_back() {
    let mut ensemble = Ensemble::settled();
    let (leader, followers) = (ensemble.leader(), ensemble.followers());
    let client = ensemble.client(leader);
    assert_eq!(ask(&mut ensemble, leader, client, &create("/kept", b"", PERSISTENT)), 0);
    let shown = ensemble.server(leader).node.last_processed();
    // Logged and durable there, and nowhere else.
    ensemble.cut_off_silently(leader);
    ensemble.at(leader, |server| server.send(client, 1, &create("/lost", b"", PERSISTENT)));
    ensemble.at(leader, |server| server.send(client, 2, &create("/lost/too", b"", EPHEMERAL)));
    assert_eq!(ensemble.server(leader).replies(client), []);
    (0..60).for_each(|_| ensemble.pass_ms(200));
    let new_leader = ensemble.leader();
    assert_ne!(new_leader, leader);
    assert!(ensemble.server(leader).closed.contains(&client.connection));
    // It votes for what it has logged, but that was never shown to anybody.
    let served_to = ensemble.server(leader).node.take_served_to().map(|(zxid, _)| zxid);
    assert_eq!(served_to, Some(shown));
    assert!(ensemble.server(leader).node.last_processed() > shown);
    // As for the room its log had: that goes with the log.
    ensemble.at(leader, |server| server.step(Input::LogRoom(LogRoom::Low)));
    let writer = ensemble.client(followers[0]);
    assert_eq!(ask(&mut ensemble, followers[0], writer, &create("/new", b"", PERSISTENT)), 0);
    ensemble.rejoin(leader);
    ensemble.settle();
    ensemble.assert_agreed();
    let tree = ensemble.server(leader).node.tree();
    assert!(tree.find("/kept").is_some() && tree.find("/new").is_some() && tree.find("/lost").is_none());
    // The session of the lost client is as it was.
    let back = ensemble.resume(leader, &client).expect("it is known everywhere");
    assert_eq!(ask(&mut ensemble, leader, back, &create("/lost", b"", PERSISTENT)), 0);
    ensemble.assert_agreed();
    ensemble.crash(new_leader);
    ensemble.settle();
    assert_eq!(ensemble.leader(), leader);
    let back = ensemble.resume(leader, &back).expect("it is known everywhere");
    assert_eq!(ask(&mut ensemble, leader, back, &create("/lost/again", b"", PERSISTENT)), 0);
}

/// The sessions that were made since are unknown to it.
#[test]
fn a_deposed_leader_does_not_say_that_a_session_is_over() {
    let mut ensemble = Ensemble::settled();
    let (leader, follower) = (ensemble.leader(), ensemble.followers()[0]);
    let ended = ensemble.client(follower);
    ensemble.at(follower, |server| server.send(ended, 1, &Request::CloseSession));
    let come_back = |ensemble: &mut Ensemble, id: i64| {
        let frame = Server::connect_frame(ended.session, &ended.password, ended.timeout_ms, 0);
        ensemble.at(id, |server| {
            let connection = server.accept();
            server.bytes(connection, &frame);
            connection
        })
    };
    for id in [leader, follower] {
        let connection = come_back(&mut ensemble, id);
        let frames = ensemble.server(id).frames(connection);
        assert_eq!(ConnectResponse::decode(&frames[0]).unwrap().session_id, 0, "{id}: it is over");
        assert!(ensemble.server(id).closed.contains(&connection));
    }
    ensemble.cut_off_silently(leader);
    let connection = come_back(&mut ensemble, leader);
    assert!(!ensemble.server(leader).closed.contains(&connection));
    (0..60).for_each(|_| ensemble.pass_ms(200));
    assert_ne!(ensemble.leader(), leader);
    assert!(ensemble.server(leader).closed.contains(&connection));
    assert!(ensemble.server(leader).frames(connection).is_empty(), "the client asks somebody else");
}

fn says_that_it_is_forgotten(ensemble: &mut Ensemble, id: i64) -> bool {
    ensemble.told(id).contains("those who elected the leader have lost what they had")
}

/// Two of three have lost their disks and began anew without the third: what that one has is the last copy, and no election may
/// make it look like the past.
#[test]
fn who_was_in_a_later_epoch_than_a_quorum_of_empty_disks_keeps_what_it_has() {
    let mut ensemble = Ensemble::settled();
    let (first, keeper) = (ensemble.leader(), ensemble.followers()[0]);
    let client = ensemble.client(first);
    assert_eq!(ask(&mut ensemble, first, client, &create("/kept", b"", PERSISTENT)), 0);
    ensemble.crash(first); // so that its epoch is not their first
    ensemble.settle();
    ensemble.start(first);
    ensemble.settle();
    let forgetful: Vec<i64> = (1..=3).filter(|id| *id != keeper).collect();
    (1..=3).for_each(|id| ensemble.crash(id));
    for id in &forgetful {
        ensemble.wipe(*id);
        ensemble.start(*id);
    }
    ensemble.settle();
    let (leader, anew) = (ensemble.leader(), ensemble.role(ensemble.leader()));
    ensemble.start(keeper);
    (0..20).for_each(|_| ensemble.pass_ms(1000));
    assert_eq!(ensemble.role(leader), anew, "it leads on, in its epoch");
    assert!(!matches!(ensemble.role(keeper), RoleView::Following { serving: true, .. }));
    assert!(says_that_it_is_forgotten(&mut ensemble, keeper), "{}", ensemble.told(keeper));
    let other = forgetful.into_iter().find(|id| *id != leader).unwrap();
    ensemble.crash(leader);
    ensemble.settle();
    assert_eq!(ensemble.leader(), keeper);
    for id in [keeper, other] {
        assert!(ensemble.server(id).node.tree().find("/kept").is_some(), "{id}");
    }
}

#[test]
fn an_observer_that_was_in_a_later_epoch_than_empty_disks_keeps_what_it_has() {
    let mut ensemble = Ensemble::of(3, 1, quick());
    ensemble.settle();
    let (first, keeper) = (ensemble.leader(), 4);
    let client = ensemble.client(first);
    assert_eq!(ask(&mut ensemble, first, client, &create("/kept", b"", PERSISTENT)), 0);
    ensemble.crash(first); // so that its epoch is not their first
    ensemble.settle();
    ensemble.start(first);
    ensemble.settle();
    (1..=4).for_each(|id| ensemble.crash(id));
    for id in 1..=3 {
        ensemble.wipe(id);
        ensemble.start(id);
    }
    ensemble.settle();
    let (leader, anew) = (ensemble.leader(), ensemble.role(ensemble.leader()));
    ensemble.start(keeper);
    (0..20).for_each(|_| ensemble.pass_ms(1000));
    assert_eq!(ensemble.role(leader), anew, "it leads on, in its epoch");
    assert!(says_that_it_is_forgotten(&mut ensemble, keeper), "{}", ensemble.told(keeper));
    assert!(ensemble.server(keeper).node.tree().find("/kept").is_some());
}

#[test]
fn who_is_forgotten_goes_on_serving_those_who_are_content_with_reading() {
    let mut settings = quick();
    settings.ensemble.read_only_mode = true;
    let mut ensemble = Ensemble::of(3, 0, settings);
    ensemble.settle();
    let (first, keeper) = (ensemble.leader(), ensemble.followers()[0]);
    let client = ensemble.client(first);
    assert_eq!(ask(&mut ensemble, first, client, &create("/kept", b"", PERSISTENT)), 0);
    ensemble.crash(first);
    ensemble.settle();
    ensemble.start(first);
    ensemble.settle();
    ensemble.cut_off(keeper);
    let forgetful: Vec<i64> = (1..=3).filter(|id| *id != keeper).collect();
    forgetful.iter().for_each(|id| ensemble.crash(*id));
    for id in &forgetful {
        ensemble.wipe(*id);
        ensemble.start(*id);
    }
    (0..40).for_each(|_| ensemble.pass_ms(100));
    let (reader, read_only) = ensemble.connect(keeper, Some(true), &Client::NOBODY).expect("a reader");
    assert!(read_only);
    ensemble.rejoin(keeper);
    for _ in 0..100 {
        ensemble.pass_ms(100);
        assert_eq!(ask(&mut ensemble, keeper, reader, &get("/kept", false)), 0);
    }
    assert!(says_that_it_is_forgotten(&mut ensemble, keeper), "{}", ensemble.told(keeper));
    let (_, read_only) = ensemble.connect(keeper, Some(true), &Client::NOBODY).expect("another reader");
    assert!(read_only);
    assert!(ensemble.connect(keeper, Some(false), &Client::NOBODY).is_none());
    let said = ensemble.told(keeper).matches("have lost what they had").count();
    assert_eq!(said, 1, "it says so once");
}

#[test]
fn who_waits_too_long_for_a_leader_in_doubt_tries_elsewhere() {
    let mut ensemble = Ensemble::of(3, 1, quick());
    ensemble.settle();
    let (leader, followers, observer) = (ensemble.leader(), ensemble.followers(), 4);
    let ended = ensemble.client(leader);
    ensemble.at(leader, |server| server.send(ended, 1, &Request::CloseSession));
    ensemble.server(leader).closed.clear();
    for follower in followers.into_iter().filter(|id| *id != observer) {
        ensemble.cut_off_silently(follower);
    }
    let at_observer = ensemble.shake_hands(observer, None, &ended);
    let first = ensemble.shake_hands(leader, None, &ended);
    for _ in 2..limits::SESSIONS_DOUBTED {
        ensemble.shake_hands(leader, None, &ended);
    }
    assert!(ensemble.server(observer).closed.is_empty() && ensemble.server(leader).closed.is_empty());
    let second = ensemble.shake_hands(leader, None, &ended);
    assert!(ensemble.server(observer).closed.contains(&at_observer), "its server has lost its link to the leader");
    assert!(ensemble.server(observer).frames(at_observer).is_empty());
    ensemble.shake_hands(leader, None, &ended);
    assert_eq!(ensemble.server(leader).closed, [first].into());
    assert!(ensemble.server(leader).frames(first).is_empty() && ensemble.server(leader).frames(second).is_empty());
}

/// ZOOKEEPER-2845 (20.10).
#[test]
fn a_tail_that_a_quorum_logged_is_committed_by_the_next_leader() {
    let mut ensemble = Ensemble::settled();
    let (leader, followers) = (ensemble.leader(), ensemble.followers());
    let client = ensemble.client(leader);
    ensemble.server(leader).slow_disk = true;
    ensemble.server(followers[0]).slow_disk = true;
    ensemble.at(leader, |server| server.send(client, 1, &create("/tail", b"", PERSISTENT)));
    assert_eq!(ensemble.server(leader).replies(client), [], "one of three has it");
    ensemble.crash(leader);
    // Its disk is not done: what it votes for is what it would find there after a crash, so it waits.
    assert!(matches!(ensemble.role(followers[0]), RoleView::Looking { .. }));
    ensemble.pass_ms(500);
    assert!(ensemble.server(followers[0]).node.tree().find("/tail").is_none());
    ensemble.at(followers[0], |server| {
        server.slow_disk = false;
        server.disk_finishes();
    });
    assert!(ensemble.server(followers[0]).node.tree().find("/tail").is_some(), "the whole log is applied to vote");
    ensemble.settle();
    ensemble.start(leader);
    ensemble.settle();
    ensemble.assert_agreed();
    assert!(ensemble.server(leader).node.tree().find("/tail").is_some());
}

/// ZOOKEEPER-3526 (20.17).
#[test]
fn a_server_without_a_leader_serves_those_who_are_content_with_reading() {
    let mut settings = quick();
    settings.ensemble.read_only_mode = true;
    let mut ensemble = Ensemble::of(3, 0, settings);
    ensemble.settle();
    let (leader, follower) = (ensemble.leader(), ensemble.followers()[0]);
    let client = ensemble.client(follower);
    assert_eq!(ask(&mut ensemble, follower, client, &create("/a", b"1", PERSISTENT)), 0);
    for id in ensemble.followers() {
        if id != follower {
            ensemble.crash(id);
        }
    }
    ensemble.crash(leader);
    let early = ensemble.connect(follower, Some(true), &Client::NOBODY);
    assert_eq!(early, None, "not before a while");
    (0..30).for_each(|_| ensemble.pass_ms(100));
    assert_eq!(ensemble.connect(follower, Some(false), &Client::NOBODY), None);
    assert_eq!(ensemble.connect(follower, Some(true), &client), None, "sessions of the ensemble do not live here");
    let (reader, read_only) = ensemble.connect(follower, Some(true), &Client::NOBODY).expect("a reader");
    assert!(read_only);
    let before = ensemble.server(follower).node.last_processed();
    assert_eq!(ask(&mut ensemble, follower, reader, &get("/a", true)), 0);
    assert_eq!(ask(&mut ensemble, follower, reader, &set("/a", b"2", -1)), NOT_READ_ONLY);
    assert_eq!(ask(&mut ensemble, follower, reader, &sync()), NOT_READ_ONLY);
    // Its session is its own: resumed here, and ended here when it falls silent.
    let (again, _) = ensemble.connect(follower, Some(true), &reader).expect("its session lives here");
    assert!(ensemble.server(follower).closed.contains(&reader.connection));
    let (brief, _) = ensemble.connect(follower, Some(true), &Client::NOBODY).expect("another reader");
    assert_eq!(ask(&mut ensemble, follower, brief, &Request::CloseSession), 0);
    assert!(ensemble.server(follower).closed.contains(&brief.connection));
    (0..30).for_each(|_| ensemble.pass_ms(500));
    assert!(ensemble.server(follower).closed.contains(&again.connection), "it fell silent");
    let (last, _) = ensemble.connect(follower, Some(true), &Client::NOBODY).expect("a reader");
    assert_eq!(ensemble.server(follower).node.last_processed(), before, "nothing of that is a transaction");
    ensemble.start(leader);
    ensemble.settle();
    assert!(ensemble.server(follower).closed.contains(&last.connection), "the mode is over");
    assert!(ensemble.resume(follower, &client).is_some());
    let connection = ensemble.shake_hands(follower, Some(true), &last);
    assert!(ensemble.server(follower).is_refused(connection), "E7: that session never was the ensemble's");
}

/// H8: who is content with reading, where there is no read-only mode, gets no frame that he cannot understand.
#[test]
fn without_read_only_mode_a_server_without_a_leader_says_nothing() {
    let mut ensemble = Ensemble::settled();
    let (leader, followers) = (ensemble.leader(), ensemble.followers());
    ensemble.crash(leader);
    ensemble.crash(followers[1]);
    (0..50).for_each(|_| ensemble.pass_ms(200));
    for read_only in [None, Some(false), Some(true)] {
        let connection = ensemble.shake_hands(followers[0], read_only, &Client::NOBODY);
        let server = ensemble.server(followers[0]);
        assert!(server.frames(connection).is_empty() && server.closed.contains(&connection), "{read_only:?}");
    }
}

/// E6, S8: nobody is there to lead for three times as long as the session may be silent.
#[test]
fn sessions_and_their_ephemerals_outlive_a_long_time_without_a_leader() {
    let mut ensemble = Ensemble::settled();
    let follower = ensemble.followers()[0];
    let client = ensemble.client(follower);
    assert_eq!(ask(&mut ensemble, follower, client, &create("/p", b"", PERSISTENT)), 0);
    assert_eq!(ask(&mut ensemble, follower, client, &create("/p/e", b"", EPHEMERAL)), 0);
    let gone: Vec<i64> = (1..=3).filter(|id| *id != follower).collect();
    gone.iter().for_each(|id| ensemble.crash(*id));
    (0..150).for_each(|_| ensemble.pass_ms(200));
    assert!(matches!(ensemble.role(follower), RoleView::Looking { .. }));
    gone.iter().for_each(|id| ensemble.start(*id));
    ensemble.settle();
    let client = ensemble.resume(follower, &client).expect("E6: an election ends no session");
    ensemble.at(follower, |server| server.send(client, 7, &exists("/p/e", false)));
    let replies = ensemble.server(follower).replies(client);
    let Response::Stat(stat) = replies[0].response(OpCode::Exists) else { panic!("{replies:?}") };
    assert_eq!(stat.ephemeral_owner, client.session.0, "S8");
    assert_eq!(ask(&mut ensemble, follower, client, &delete("/p", -1)), NOT_EMPTY);
    ensemble.at(follower, |server| server.send(client, 8, &Request::CloseSession));
    let other = ensemble.client(follower);
    assert_eq!(ask(&mut ensemble, follower, other, &delete("/p", -1)), 0, "S8: nothing is left below it");
    ensemble.assert_agreed();
}

#[test]
fn a_leader_hands_over_and_its_clients_keep_their_sessions() {
    let mut ensemble = Ensemble::settled();
    let leader = ensemble.leader();
    let client = ensemble.client(leader);
    assert_eq!(ask(&mut ensemble, leader, client, &create("/e", b"", EPHEMERAL)), 0);
    ensemble.at(leader, |server| server.step(Input::HandOver));
    ensemble.settle();
    assert_ne!(ensemble.leader(), leader);
    let back = ensemble.resume(leader, &client).expect("the session lives");
    assert_eq!(ask(&mut ensemble, leader, back, &set("/e", b"1", -1)), 0);
    ensemble.assert_agreed();
}

#[test]
fn a_successor_that_is_gone_costs_a_tick_and_an_election() {
    let mut named = Vec::new();
    for follower in 0..2 {
        let mut ensemble = Ensemble::settled();
        let (leader, gone) = (ensemble.leader(), ensemble.followers()[follower]);
        ensemble.cut_off_silently(gone);
        ensemble.at(leader, |server| server.step(Input::HandOver));
        if let RoleView::Following { leader: next, .. } = ensemble.role(leader) {
            named.extend(Some(gone).filter(|gone| next.0 == *gone));
        }
        for _ in 0..3 {
            ensemble.pass_ms(quick().tick_ms.into());
        }
        assert_ne!(ensemble.leader(), gone, "the two others agree");
    }
    assert_eq!(named.len(), 1, "the one was named, and the other was not");
}

#[test]
fn a_leader_that_stops_answers_what_is_under_way_and_hands_over() {
    let mut ensemble = Ensemble::settled();
    let leader = ensemble.leader();
    let client = ensemble.client(leader);
    for id in 1..=3 {
        ensemble.server(id).slow_disk = true;
    }
    ensemble.at(leader, |server| server.send(client, 1, &create("/a", b"", PERSISTENT)));
    ensemble.at(leader, |server| server.step(Input::Shutdown));
    assert!(!ensemble.server(leader).drained);
    for id in 1..=3 {
        ensemble.at(id, |server| {
            server.slow_disk = false;
            server.disk_finishes();
        });
    }
    assert_eq!(ensemble.server(leader).replies(client).len(), 1);
    assert!(ensemble.server(leader).drained);
    ensemble.crash(leader);
    ensemble.settle();
    assert!(ensemble.resume(ensemble.leader(), &client).is_some());
}

#[test]
fn a_follower_that_stops_answers_what_is_under_way() {
    let mut ensemble = Ensemble::settled();
    let follower = ensemble.followers()[0];
    let client = ensemble.client(follower);
    for id in 1..=3 {
        ensemble.server(id).slow_disk = true;
    }
    ensemble.at(follower, |server| server.send(client, 1, &create("/a", b"", PERSISTENT)));
    ensemble.at(follower, |server| server.step(Input::Shutdown));
    assert!(!ensemble.server(follower).drained);
    for id in 1..=3 {
        ensemble.at(id, |server| server.disk_finishes());
    }
    assert_eq!(ensemble.server(follower).replies(client).len(), 1);
    assert!(ensemble.server(follower).drained);
}

/// ZOOKEEPER-764 (20.22).
#[test]
fn an_observer_serves_and_does_not_count() {
    let mut ensemble = Ensemble::of(3, 1, quick());
    ensemble.settle();
    assert!(matches!(ensemble.role(4), RoleView::Observing { serving: true, .. }));
    let client = ensemble.client(4);
    assert_eq!(ask(&mut ensemble, 4, client, &create("/a", b"1", EPHEMERAL)), 0);
    ensemble.at(4, |server| server.send(client, 1, &sync()));
    assert_eq!(ensemble.server(4).replies(client).len(), 1);
    ensemble.assert_agreed();
    let (leader, follower) = (ensemble.leader(), ensemble.followers()[0]);
    ensemble.crash(follower);
    let other = ensemble.followers().into_iter().find(|id| *id != follower && *id != 4).expect("three voters");
    ensemble.server(other).slow_disk = true;
    ensemble.at(4, |server| server.send(client, 2, &set("/a", b"2", -1)));
    assert_eq!(ensemble.server(4).replies(client), [], "the leader and an observer are no quorum");
    ensemble.at(other, |server| server.disk_finishes());
    assert_eq!(ensemble.server(4).replies(client).len(), 1);
    assert_eq!(ensemble.leader(), leader);
}

/// ZOOKEEPER-1277 (20.13).
#[test]
fn the_next_epoch_begins_under_way_and_nobody_is_refused() {
    let mut settings = quick();
    settings.ensemble.rollover_at = 20;
    let mut ensemble = Ensemble::of(3, 0, settings);
    ensemble.settle();
    let (leader, follower) = (ensemble.leader(), ensemble.followers()[0]);
    let (near, far) = (ensemble.client(leader), ensemble.client(follower));
    for _ in 0..40 {
        assert_eq!(ask(&mut ensemble, leader, near, &create("/a", b"1", PERSISTENT)), 0);
        assert_eq!(ask(&mut ensemble, follower, far, &delete("/a", -1)), 0);
    }
    let epoch = ensemble.server(leader).node.last_processed().epoch();
    assert!(epoch > 2, "{epoch}");
    assert_eq!(ensemble.leader(), leader);
    assert!(ensemble.server(follower).closed.is_empty() && ensemble.server(leader).closed.is_empty());
    ensemble.assert_agreed();
}

/// What asks for too much while an epoch ends is one learner, and it alone pays for that.
#[test]
fn what_waits_for_the_next_epoch_is_bounded() {
    let mut settings = quick();
    settings.ensemble.rollover_at = 8;
    settings.ensemble.learner_queue_max_bytes = 64 * 1024;
    let mut ensemble = Ensemble::of(5, 0, settings);
    ensemble.settle();
    let (leader, followers) = (ensemble.leader(), ensemble.followers());
    let (greedy, modest) = (ensemble.client(followers[0]), ensemble.client(followers[1]));
    assert_eq!(ask(&mut ensemble, followers[0], greedy, &create("/a", b"", PERSISTENT)), 0);
    followers.iter().for_each(|id| ensemble.server(*id).slow_disk = true);
    for _ in 0..10 {
        ensemble.at(followers[1], |server| server.send(modest, 7, &set("/a", b"modest", -1)));
    }
    assert_eq!(ensemble.server(followers[1]).replies(modest), [], "nothing commits, and the epoch is over");
    for _ in 0..40 {
        assert!(!ensemble.told(leader).contains("closed"), "{}", ensemble.told(leader));
        ensemble.at(followers[0], |server| server.send(greedy, 7, &set("/a", &[b'x'; 1000], -1)));
    }
    for _ in 0..30 {
        ensemble.at(followers[0], |server| server.send(greedy, 7, &set("/a", &[b'x'; 1000], -1)));
    }
    let told = ensemble.told(leader);
    let who = format!("server {}: its clients ask for more than can wait", followers[0]);
    assert!(told.contains(&who) && told.matches("closed").count() == 1, "{told}");
    for id in &followers {
        ensemble.server(*id).slow_disk = false;
        ensemble.at(*id, |server| server.disk_finishes());
    }
    ensemble.settle();
    assert_eq!(ensemble.server(followers[1]).replies(modest).len(), 10, "those waited, and were done in their turn");
    assert_eq!(ensemble.leader(), leader);
    ensemble.assert_agreed();
}

/// Each refusal takes of the room that is left for the ends of sessions, in every log.
#[test]
fn a_leader_short_of_room_is_not_filled_with_refusals() {
    let mut ensemble = Ensemble::settled();
    let (leader, follower) = (ensemble.leader(), ensemble.followers()[0]);
    let client = ensemble.client(follower);
    let refused = |ensemble: &mut Ensemble| ask(ensemble, follower, client, &create("/a", b"", PERSISTENT));
    ensemble.at(leader, |server| server.step(Input::LogRoom(LogRoom::Low)));
    let before = ensemble.server(leader).log.len();
    for _ in 0..100 {
        assert_eq!(refused(&mut ensemble), SYSTEM_ERROR);
    }
    assert_eq!(ensemble.server(leader).log.len(), before + 1, "the leader is asked once");
    // Sessions begin and end.
    let other = ensemble.client(follower);
    assert_eq!(ask(&mut ensemble, follower, other, &Request::CloseSession), 0);
    assert_eq!(ensemble.server(leader).log.len(), before + 3);
    (0..21).for_each(|_| ensemble.pass_ms(100));
    let before = ensemble.server(leader).log.len();
    assert_eq!(refused(&mut ensemble), SYSTEM_ERROR);
    assert_eq!(ensemble.server(leader).log.len(), before + 1, "once a tick");
    ensemble.at(leader, |server| server.step(Input::LogRoom(LogRoom::Ample)));
    (0..21).for_each(|_| ensemble.pass_ms(100));
    assert_eq!(refused(&mut ensemble), 0);
    ensemble.assert_agreed();
}

#[test]
fn sessions_that_end_together_end_across_epochs() {
    let mut settings = quick();
    settings.ensemble.rollover_at = 15;
    let mut ensemble = Ensemble::of(3, 0, settings);
    ensemble.settle();
    let (leader, follower) = (ensemble.leader(), ensemble.followers()[0]);
    for number in 0..12 {
        let id = if number % 2 == 0 { leader } else { follower };
        let client = ensemble.client(id);
        let path = format!("/e{number}");
        assert_eq!(ask(&mut ensemble, id, client, &create(&path, b"", EPHEMERAL)), 0);
    }
    (0..40).for_each(|_| ensemble.pass_ms(500));
    assert_eq!(ensemble.server(leader).node.tree().ephemerals_count(), 0);
    assert_eq!(ensemble.leader(), leader);
    ensemble.assert_agreed();
}

#[test]
fn a_follower_that_missed_little_needs_neither_log_nor_snapshot() {
    let mut ensemble = Ensemble::settled();
    let (leader, follower) = (ensemble.leader(), ensemble.followers()[0]);
    let client = ensemble.client(leader);
    ensemble.crash(follower);
    for path in ["/a", "/b", "/c"] {
        assert_eq!(ask(&mut ensemble, leader, client, &create(path, b"", PERSISTENT)), 0);
    }
    ensemble.start(follower);
    ensemble.settle();
    ensemble.assert_agreed();
    assert_eq!(ensemble.log_reads_and_installs(), (0, 0));
}

#[test]
fn a_follower_that_missed_more_than_the_window_reads_the_leaders_log() {
    let mut settings = quick();
    settings.ensemble.commit_log_count = 5;
    settings.ensemble.snapshot_size_factor = Some(1000.0);
    let mut ensemble = Ensemble::of(3, 0, settings);
    ensemble.settle();
    let (leader, follower) = (ensemble.leader(), ensemble.followers()[0]);
    let client = ensemble.client(leader);
    ensemble.crash(follower);
    for number in 0..30 {
        let path = format!("/n{number}");
        assert_eq!(ask(&mut ensemble, leader, client, &create(&path, b"", PERSISTENT)), 0);
    }
    ensemble.start(follower);
    ensemble.settle();
    ensemble.assert_agreed();
    assert_eq!(ensemble.log_reads_and_installs(), (2, 0), "it is looked at first, then sent");
}

#[test]
fn a_member_without_room_takes_no_part_until_there_is_some() {
    let mut ensemble = Ensemble::settled();
    let leader = ensemble.leader();
    let client = ensemble.client(leader);
    ensemble.at(leader, |server| server.step(Input::LogRoom(LogRoom::None)));
    assert!(ensemble.server(leader).closed.contains(&client.connection));
    (0..40).for_each(|_| ensemble.pass_ms(500));
    let new_leader = ensemble.leader();
    assert_ne!(new_leader, leader);
    assert!(matches!(ensemble.role(leader), RoleView::Looking { .. }));
    let moved = ensemble.client(new_leader);
    assert_eq!(ask(&mut ensemble, new_leader, moved, &create("/a", b"", PERSISTENT)), 0);
    ensemble.at(leader, |server| server.step(Input::LogRoom(LogRoom::Ample)));
    ensemble.settle();
    ensemble.assert_agreed();
    let other = ensemble.followers()[0];
    ensemble.at(other, |server| server.step(Input::LogRoom(LogRoom::None)));
    assert!(matches!(ensemble.role(other), RoleView::Looking { .. }));
    ensemble.at(other, |server| server.step(Input::LogRoom(LogRoom::Low)));
    ensemble.settle();
    // A little room is enough for a follower: what is logged is the leader's to say.
    let near = ensemble.client(other);
    assert_eq!(ask(&mut ensemble, other, near, &set("/a", b"1", -1)), 0);
    ensemble.assert_agreed();
}

#[test]
fn a_leader_with_little_room_ends_sessions_of_others_and_writes_nothing_for_them() {
    let mut ensemble = Ensemble::settled();
    let (leader, follower) = (ensemble.leader(), ensemble.followers()[0]);
    let client = ensemble.client(follower);
    ensemble.at(leader, |server| server.step(Input::LogRoom(LogRoom::Low)));
    assert_eq!(ask(&mut ensemble, follower, client, &create("/a", b"", PERSISTENT)), SYSTEM_ERROR);
    assert_eq!(ask(&mut ensemble, follower, client, &Request::CloseSession), 0);
    ensemble.assert_agreed();
}

#[test]
fn a_session_with_more_ephemerals_than_a_packet_holds_ends_everywhere() {
    let settings = Settings { jute_max_buffer_bytes: 2000, jute_extra_bytes: 1024, ..quick() };
    let mut ensemble = Ensemble::of(3, 0, settings);
    ensemble.settle();
    let follower = ensemble.followers()[0];
    let client = ensemble.client(follower);
    for number in 0..200 {
        let path = format!("/a-name-that-takes-some-room-{number}");
        assert_eq!(ask(&mut ensemble, follower, client, &create(&path, b"", EPHEMERAL)), 0);
    }
    assert_eq!(ask(&mut ensemble, follower, client, &Request::CloseSession), 0);
    ensemble.assert_agreed();
    assert_eq!(ensemble.server(follower).node.tree().ephemerals_count(), 0);
    let other = ensemble.client(follower);
    assert_eq!(ask(&mut ensemble, follower, other, &create("/a", b"", PERSISTENT)), 0);
    ensemble.assert_agreed();
}

#[test]
fn a_wiped_follower_is_given_everything() {
    let mut ensemble = Ensemble::settled();
    let (leader, follower) = (ensemble.leader(), ensemble.followers()[0]);
    let client = ensemble.client(leader);
    for number in 0..40 {
        let path = format!("/n{number}");
        assert_eq!(ask(&mut ensemble, leader, client, &create(&path, b"data", EPHEMERAL)), 0);
    }
    ensemble.crash(follower);
    ensemble.wipe(follower);
    assert_eq!(ask(&mut ensemble, leader, client, &create("/later", b"data", PERSISTENT)), 0);
    ensemble.start(follower);
    ensemble.settle();
    ensemble.assert_agreed();
    let moved = ensemble.resume(follower, &client).expect("sessions come with the state");
    assert_eq!(ask(&mut ensemble, follower, moved, &Request::CloseSession), 0);
    ensemble.assert_agreed();
    assert!(ensemble.server(follower).node.tree().find("/n7").is_none());
    // What it was given outlives a crash.
    ensemble.crash(follower);
    ensemble.start(follower);
    ensemble.settle();
    ensemble.assert_agreed();
}
