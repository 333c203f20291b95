//! Sessions that live on one server (semantics 11.5), alone and among others.

use ringkeeper::core::Settings;
use ringkeeper::wire::client::{ConnectResponse, MultiOp, Request};

use super::ensemble::ask;
use super::ensemble_harness::{Ensemble, quick};
use super::harness::{Client, EPHEMERAL, PERSISTENT, Server, create, create_request, get};

const EPHEMERAL_ON_LOCAL_SESSION: i32 = -120;

fn local(upgrading: bool) -> Settings {
    Settings { local_sessions: true, local_sessions_upgrading: upgrading, ..quick() }
}

fn ensemble(upgrading: bool) -> Ensemble {
    let mut ensemble = Ensemble::of(3, 0, local(upgrading));
    ensemble.settle();
    ensemble
}

fn multi_with_an_ephemeral() -> Request<'static> {
    let persistent = MultiOp::Create(create_request("/p", b"", PERSISTENT));
    Request::Multi(vec![persistent, MultiOp::Create2(create_request("/e", b"", EPHEMERAL))])
}

fn exists(ensemble: &mut Ensemble, id: i64, path: &str) -> bool {
    ensemble.server(id).node.tree().find(path).is_some()
}

#[test]
fn a_local_session_is_no_transaction_from_beginning_to_end() {
    let mut server = Server::with(local(false));
    let client = server.client();
    assert_eq!(server.node.last_processed().0, 0, "H: no zxid");
    assert_eq!(server.err(client, &create("/a", b"1", PERSISTENT)), 0);
    assert_eq!(server.err(client, &get("/a", false)), 0);
    let before = server.node.last_processed();
    assert_eq!(server.ask(client, &Request::CloseSession).zxid, before.0 as i64);
    assert!(server.closed.contains(&client.connection));
    assert_eq!(server.node.last_processed(), before);
    assert!(server.resume(&client).is_none(), "it is over");
}

#[test]
fn a_close_waits_for_what_was_asked_before_it() {
    let mut server = Server::with(local(false));
    let client = server.client();
    server.slow_disk = true;
    server.send(client, 1, &create("/a", b"", PERSISTENT));
    server.send(client, 2, &Request::CloseSession);
    server.send(client, 3, &create("/b", b"", PERSISTENT));
    assert_eq!(server.replies(client), []);
    server.disk_finishes();
    let replies = server.replies(client);
    assert_eq!(replies.iter().map(|reply| (reply.xid, reply.err)).collect::<Vec<_>>(), [(1, 0), (2, 0)]);
    assert!(server.node.tree().find("/b").is_none());
}

#[test]
fn without_upgrading_a_local_session_owns_nothing() {
    let mut server = Server::with(local(false));
    let client = server.client();
    assert_eq!(server.err(client, &create("/e", b"", EPHEMERAL)), EPHEMERAL_ON_LOCAL_SESSION);
    assert_eq!(server.err(client, &multi_with_an_ephemeral()), EPHEMERAL_ON_LOCAL_SESSION);
    assert_eq!(server.err(client, &create("/p", b"", PERSISTENT)), 0, "and goes on");
    let mut ensemble = ensemble(false);
    for id in 1..=3 {
        let client = ensemble.client(id);
        assert_eq!(ask(&mut ensemble, id, client, &create("/e", b"", EPHEMERAL)), EPHEMERAL_ON_LOCAL_SESSION, "{id}");
        assert_eq!(ask(&mut ensemble, id, client, &create(&format!("/p{id}"), b"", PERSISTENT)), 0, "{id}");
    }
    ensemble.assert_agreed();
}

#[test]
fn the_first_ephemeral_makes_a_session_everybodys() {
    for request in [create("/e", b"", EPHEMERAL), multi_with_an_ephemeral()] {
        let mut ensemble = ensemble(true);
        for id in 1..=3 {
            let client = ensemble.client(id);
            let before = ensemble.server(id).node.last_processed();
            let other = id % 3 + 1;
            let connection = ensemble.shake_hands(other, Some(false), &client);
            assert!(ensemble.server(other).is_refused(connection), "E3: {other} does not know it");
            assert_eq!(ask(&mut ensemble, id, client, &request), 0, "{id}");
            assert_eq!(
                ensemble.server(id).node.last_processed().counter(),
                before.counter() + 2,
                "its createSession and its create"
            );
            let moved = ensemble.resume(other, &client).expect("now it does");
            ensemble.at(other, |server| server.send(moved, 9, &Request::CloseSession));
            assert!(!exists(&mut ensemble, 3, "/e"), "its ephemerals go with it");
            let clean = ensemble.client(id);
            let _ = ask(&mut ensemble, id, clean, &super::harness::delete("/p", -1));
        }
        ensemble.assert_agreed();
    }
}

#[test]
fn what_follows_an_upgrade_at_once_belongs_to_it() {
    let mut server = Server::with(local(true));
    let client = server.client();
    server.slow_disk = true;
    server.send(client, 1, &create("/e", b"", EPHEMERAL));
    server.send(client, 2, &create("/f", b"", EPHEMERAL));
    server.send(client, 3, &Request::CloseSession);
    server.disk_finishes();
    let replies = server.replies(client);
    assert_eq!(replies.iter().map(|reply| (reply.xid, reply.err)).collect::<Vec<_>>(), [(1, 0), (2, 0), (3, 0)]);
    assert!(server.node.tree().find("/e").is_none() && server.node.tree().find("/f").is_none());
    assert_eq!(server.node.last_processed().0, 4, "one createSession, two creates, one closeSession");
}

/// Its server's link to the leader breaks while it becomes everybody's: the leader must not take it for that link's for ever.
#[test]
fn an_upgrade_may_outlive_the_link_it_was_asked_on() {
    let mut ensemble = ensemble(true);
    let leader = ensemble.leader();
    let [here, other] = ensemble.followers()[..] else { panic!("two followers") };
    let client = ensemble.client(here);
    for id in [leader, other] {
        ensemble.server(id).slow_disk = true;
    }
    ensemble.at(here, |server| server.send(client, 1, &create("/e", b"", EPHEMERAL)));
    ensemble.cut_off(here);
    ensemble.rejoin(here);
    ensemble.pass_ms(500);
    let back = ensemble.resume(here, &client).expect("it lives where it was made");
    for id in [leader, other] {
        ensemble.server(id).slow_disk = false;
        ensemble.at(id, |server| server.disk_finishes());
    }
    assert_eq!(ask(&mut ensemble, here, back, &create("/f", b"", EPHEMERAL)), 0);
    ensemble.assert_agreed();
}

#[test]
fn a_local_session_ends_when_its_client_is_silent_and_an_upgraded_one_when_everybody_has_not_heard_of_it() {
    let mut ensemble = ensemble(true);
    let follower = ensemble.followers()[0];
    let (silent, heard) = (ensemble.client(follower), ensemble.client(follower));
    let upgraded = ensemble.client(follower);
    assert_eq!(ask(&mut ensemble, follower, upgraded, &create("/e", b"", EPHEMERAL)), 0);
    let pass = |ensemble: &mut Ensemble, clients: &[Client]| {
        for _ in 0..3 * silent.timeout_ms / 500 {
            ensemble.pass_ms(500);
            for client in clients {
                ensemble.at(follower, |server| server.send(*client, -2, &Request::Ping));
            }
        }
    };
    pass(&mut ensemble, &[heard, upgraded]);
    let closed = &ensemble.server(follower).closed;
    assert!(closed.contains(&silent.connection) && !closed.contains(&heard.connection));
    assert!(ensemble.resume(follower, &silent).is_none());
    let heard = ensemble.resume(follower, &heard).expect("it lives");
    assert!(exists(&mut ensemble, 1, "/e"));
    pass(&mut ensemble, &[heard]);
    assert!(!exists(&mut ensemble, 1, "/e"));
}

#[test]
fn local_sessions_outlive_an_election() {
    let mut ensemble = ensemble(true);
    let leader = ensemble.leader();
    let follower = ensemble.followers()[0];
    let client = ensemble.client(follower);
    ensemble.crash(leader);
    ensemble.settle();
    let back = ensemble.resume(follower, &client).expect("its server is up");
    assert_eq!(ask(&mut ensemble, follower, back, &create("/e", b"", EPHEMERAL)), 0);
    ensemble.start(leader);
    ensemble.settle();
    ensemble.assert_agreed();
}

#[test]
fn what_becomes_everybodys_may_be_the_last_of_an_epoch() {
    for rollover_at in 9..12 {
        let mut settings = local(true);
        settings.ensemble.rollover_at = rollover_at;
        let mut ensemble = Ensemble::of(3, 0, settings);
        ensemble.settle();
        let leader = ensemble.leader();
        for number in 0..12 {
            let client = ensemble.client(leader);
            let path = format!("/{number}");
            assert_eq!(ask(&mut ensemble, leader, client, &create(&path, b"", EPHEMERAL)), 0, "{rollover_at} {number}");
        }
        ensemble.assert_agreed();
    }
}

/// Its createSession is on its way while the leader makes sure that it may refuse it.
#[test]
fn a_client_that_moves_while_its_session_becomes_everybodys_keeps_it() {
    let mut ensemble = ensemble(true);
    let (leader, follower) = (ensemble.leader(), ensemble.followers()[0]);
    let client = ensemble.client(leader);
    ensemble.server(leader).send(client, 1, &create("/e", b"", EPHEMERAL));
    let frame = Server::connect_frame(client.session, &client.password, client.timeout_ms, 0);
    let connection = ensemble.at(follower, |server| {
        let connection = server.accept();
        server.bytes(connection, &frame);
        connection
    });
    let frames = ensemble.server(follower).frames(connection);
    assert_eq!(ConnectResponse::decode(&frames[0]).unwrap().session_id, client.session.0);
    assert!(exists(&mut ensemble, follower, "/e"));
}
