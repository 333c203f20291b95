//! Three nodes and their clients: what is promised through a follower.

use ringkeeper::core::{RoleView, Settings};
use ringkeeper::wire::client::{EventKind, OpCode, Request, Response};

use super::ensemble_harness::{Ensemble, quick};
use super::harness::{Client, EPHEMERAL, PERSISTENT, acl, create, delete, exists, get, set};

const NO_NODE: i32 = -101;
const NODE_EXISTS: i32 = -110;
const MARSHALLING_ERROR: i32 = -5;

/// Sends one request and gives its answer's error.
pub fn ask(ensemble: &mut Ensemble, id: i64, client: Client, request: &Request<'_>) -> i32 {
    ensemble.at(id, |server| server.send(client, 7, request));
    let replies = ensemble.server(id).replies(client);
    let answers: Vec<_> = replies.iter().filter(|reply| reply.xid == 7).collect();
    assert_eq!(answers.len(), 1, "{request:?}: {replies:?}");
    answers[0].err
}

pub fn sync() -> Request<'static> {
    Request::Sync { path: Some("/".into()) }
}

#[test]
fn a_write_through_a_follower_is_everywhere() {
    let mut ensemble = Ensemble::settled();
    let follower = ensemble.followers()[0];
    let client = ensemble.client(follower);
    assert_eq!(ask(&mut ensemble, follower, client, &create("/a", b"1", PERSISTENT)), 0);
    assert_eq!(ask(&mut ensemble, follower, client, &create("/a", b"1", PERSISTENT)), NODE_EXISTS);
    ensemble.assert_agreed();
    for id in 1..=3 {
        assert!(ensemble.server(id).node.tree().find("/a").is_some(), "{id}");
    }
}

#[test]
fn a_follower_keeps_the_order_of_mixed_reads_and_writes() {
    let mut ensemble = Ensemble::settled();
    let follower = ensemble.followers()[0];
    let client = ensemble.client(follower);
    let requests = [
        create("/a", b"1", PERSISTENT),
        get("/a", true),
        set("/a", b"2", -1),
        get("/a", false),
        create("/a", b"", PERSISTENT),
        sync(),
        delete("/a", -1),
        exists("/a", false),
    ];
    let mut frames = Vec::new();
    for (xid, request) in requests.iter().enumerate() {
        request.encode(xid as i32, &mut frames);
    }
    ensemble.at(follower, |server| server.bytes(client.connection, &frames));
    let replies = ensemble.server(follower).replies(client);
    let seen: Vec<(i32, i32)> = replies.iter().map(|reply| (reply.xid, reply.err)).collect();
    let event = (-1, 0);
    let expected = [(0, 0), (1, 0), event, (2, 0), (3, 0), (4, NODE_EXISTS), (5, 0), (6, 0), (7, NO_NODE)];
    assert_eq!(seen, expected);
    assert_eq!(replies[2].event().kind, EventKind::NodeDataChanged);
    for (place, data) in [(1, b"1"), (4, b"2")] {
        match replies[place].response(OpCode::GetData) {
            Response::Data { data: found, .. } => assert_eq!(found, Some(&data[..])),
            other => panic!("{other:?}"),
        }
    }
    let zxids: Vec<i64> = replies.iter().map(|reply| reply.zxid).collect();
    assert!(zxids.is_sorted(), "{zxids:?}");
}

#[test]
fn nothing_is_answered_before_a_quorum_has_it() {
    let mut ensemble = Ensemble::settled();
    let (leader, followers) = (ensemble.leader(), ensemble.followers());
    let client = ensemble.client(followers[0]);
    for id in 1..=3 {
        ensemble.server(id).slow_disk = true;
    }
    ensemble.at(followers[0], |server| server.send(client, 1, &create("/a", b"", PERSISTENT)));
    assert_eq!(ensemble.server(followers[0]).replies(client), []);
    ensemble.at(followers[0], |server| server.disk_finishes());
    assert_eq!(ensemble.server(followers[0]).replies(client), [], "one disk is no quorum");
    ensemble.at(leader, |server| server.disk_finishes());
    assert_eq!(ensemble.server(followers[0]).replies(client).len(), 1);
    // The third one's disk is behind, and it applies what the others have all the same.
    assert!(ensemble.server(followers[1]).node.tree().find("/a").is_some());
}

#[test]
fn a_commit_may_outrun_the_disk_of_the_server_that_answers() {
    let mut ensemble = Ensemble::settled();
    let (leader, followers) = (ensemble.leader(), ensemble.followers());
    let client = ensemble.client(followers[0]);
    ensemble.server(followers[0]).slow_disk = true;
    assert_eq!(ask(&mut ensemble, followers[0], client, &create("/a", b"", PERSISTENT)), 0);
    assert!(ensemble.server(leader).node.tree().find("/a").is_some());
}

/// A quorum of others commits what waits for a disk that hangs; all of it would wait in memory.
#[test]
fn what_waits_for_a_disk_is_bounded() {
    let settings = Settings { log_backlog_max_bytes: 4_000, ..quick() };
    let mut ensemble = Ensemble::of(3, 1, settings);
    ensemble.settle();
    let (leader, followers) = (ensemble.leader(), ensemble.followers());
    let client = ensemble.client(followers[0]);
    assert_eq!(ask(&mut ensemble, followers[0], client, &create("/a", b"", PERSISTENT)), 0);
    ensemble.server(leader).slow_disk = true;
    let write = |ensemble: &mut Ensemble, client: Client, xid: i32| {
        ensemble.at(followers[0], |server| server.send(client, xid, &set("/a", &[1; 1000], -1)));
        ensemble.server(followers[0]).replies(client).len()
    };
    let answered = (1..10).take_while(|xid| write(&mut ensemble, client, *xid) == 1).count();
    assert!((4..6).contains(&answered), "{answered} without the leader's disk");
    ensemble.pass_ms(1_000);
    assert_ne!(ensemble.leader(), leader, "somebody whose disk answers");
    ensemble.server(leader).slow_disk = false;
    ensemble.at(leader, |server| server.disk_finishes());
    ensemble.settle();

    // A learner that is so far behind leaves, and comes back when everything is on its disk.
    let (observer, client) = (4, ensemble.client(followers[0]));
    ensemble.server(observer).slow_disk = true;
    for xid in 1..10 {
        assert_eq!(write(&mut ensemble, client, xid), 1);
    }
    assert!(!matches!(
        ensemble.role(observer),
        RoleView::Following { serving: true, .. } | RoleView::Observing { serving: true, .. }
    ));
    ensemble.server(observer).slow_disk = false;
    ensemble.at(observer, |server| server.disk_finishes());
    ensemble.settle();
    ensemble.assert_agreed();
}

#[test]
fn a_session_moves_with_its_ephemerals_and_its_old_connection_ends_at_the_next_write() {
    let mut ensemble = Ensemble::settled();
    let [here, there] = ensemble.followers()[..] else { panic!("two followers") };
    let client = ensemble.client(here);
    assert_eq!(ask(&mut ensemble, here, client, &create("/e", b"", EPHEMERAL)), 0);
    let moved = ensemble.resume(there, &client).expect("the session lives");
    assert_eq!(ask(&mut ensemble, there, moved, &set("/e", b"1", -1)), 0);
    // Its old connection may read, until it writes.
    assert_eq!(ask(&mut ensemble, here, client, &get("/e", false)), 0);
    ensemble.at(here, |server| server.send(client, 9, &set("/e", b"2", -1)));
    assert_eq!(ensemble.server(here).replies(client), []);
    assert!(ensemble.server(here).closed.contains(&client.connection));
    assert_eq!(ask(&mut ensemble, there, moved, &get("/e", false)), 0);
    ensemble.assert_agreed();
    // Its end is everybody's.
    ensemble.at(there, |server| server.send(moved, 10, &Request::CloseSession));
    assert_eq!(ensemble.server(there).replies(moved).len(), 1);
    for id in 1..=3 {
        assert!(ensemble.server(id).node.tree().find("/e").is_none(), "{id}");
    }
    assert!(ensemble.resume(here, &client).is_none());
    assert!(ensemble.resume(ensemble.leader(), &client).is_none());
}

/// The network never told that the client has left: nobody will ever read from that connection again.
#[test]
fn a_connection_that_its_client_has_left_ends_after_the_timeout() {
    let mut ensemble = Ensemble::of(3, 0, quick());
    ensemble.settle();
    let [here, there] = ensemble.followers()[..] else { panic!("two followers") };
    let (left, stays) = (ensemble.client(here), ensemble.client(here));
    let moved = ensemble.resume(there, &left).expect("the session lives");
    let timeout_ms = left.timeout_ms as u64;
    let keep_alive = |ensemble: &mut Ensemble| {
        ask(ensemble, there, moved, &get("/", false));
        ask(ensemble, here, stays, &get("/", false));
    };
    for _ in 0..timeout_ms / 1000 {
        keep_alive(&mut ensemble);
        ensemble.pass_ms(1000);
    }
    assert!(!ensemble.server(here).closed.contains(&left.connection));
    for _ in 0..11 {
        keep_alive(&mut ensemble);
        ensemble.pass_ms(1000);
    }
    assert!(ensemble.server(here).closed.contains(&left.connection));
    assert!(!ensemble.server(here).closed.contains(&stays.connection));
    assert_eq!(ask(&mut ensemble, there, moved, &get("/", false)), 0);
}

/// Java: `FollowerZooKeeperServer.getGlobalOutstandingLimit`.
#[test]
fn the_limit_of_outstanding_requests_is_shared_by_the_voters() {
    for (voters, observers, share) in [(3, 1, 5), (5, 0, 2), (1, 1, 10)] {
        let mut ensemble = Ensemble::of(voters, observers, Settings { global_outstanding_limit: 10, ..quick() });
        ensemble.settle();
        let leader = ensemble.leader();
        let client = ensemble.client(leader);
        ensemble.server(leader).slow_disk = true;
        for id in ensemble.followers() {
            ensemble.cut_off_silently(id);
        }
        for xid in 1..=share + 1 {
            assert!(!ensemble.server(leader).paused.contains(&client.connection), "{voters} voters: {xid}");
            ensemble.server(leader).send(client, xid, &set("/", b"", -1));
        }
        assert!(ensemble.server(leader).paused.contains(&client.connection), "{voters} voters");
    }
}

#[test]
fn a_session_moves_to_the_leader_and_its_reads_elsewhere_go_on_and_back_again() {
    let mut ensemble = Ensemble::settled();
    let (leader, follower) = (ensemble.leader(), ensemble.followers()[0]);
    let client = ensemble.client(leader);
    assert_eq!(ask(&mut ensemble, leader, client, &create("/e", b"", EPHEMERAL)), 0);
    let moved = ensemble.resume(follower, &client).expect("the session lives");
    assert_eq!(ask(&mut ensemble, follower, moved, &get("/e", false)), 0);
    // The leader looks at every request of its own clients.
    ensemble.at(leader, |server| server.send(client, 1, &get("/e", false)));
    assert!(ensemble.server(leader).closed.contains(&client.connection));
    let back = ensemble.resume(leader, &client).expect("the session lives");
    assert_eq!(ask(&mut ensemble, leader, back, &get("/e", false)), 0);
    assert_eq!(ensemble.server(follower).replies(moved), []);
    ensemble.at(follower, |server| server.send(moved, 2, &set("/e", b"", -1)));
    assert!(ensemble.server(follower).closed.contains(&moved.connection));
}

#[test]
fn a_session_resumed_with_another_password_or_never_created_is_refused_everywhere() {
    let mut ensemble = Ensemble::settled();
    let follower = ensemble.followers()[0];
    let client = ensemble.client(follower);
    let thief = Client { password: [7; 16], ..client };
    assert!(ensemble.resume(follower, &thief).is_none());
    assert!(!ensemble.server(follower).closed.contains(&client.connection), "a wrong password evicts nobody");
    let mut nobody = client;
    nobody.session.0 += 1000;
    nobody.password = ringkeeper::core::session::identity::password(nobody.session);
    assert!(ensemble.resume(follower, &nobody).is_none());
}

#[test]
fn a_sync_waits_for_the_leader_and_shows_what_was_written_elsewhere() {
    let mut ensemble = Ensemble::settled();
    let [here, there] = ensemble.followers()[..] else { panic!("two followers") };
    let (reader, writer) = (ensemble.client(here), ensemble.client(there));
    assert_eq!(ask(&mut ensemble, here, reader, &exists("/a", true)), NO_NODE);
    assert_eq!(ask(&mut ensemble, there, writer, &create("/a", b"1", PERSISTENT)), 0);
    ensemble.at(here, |server| server.send(reader, 1, &sync()));
    let replies = ensemble.server(here).replies(reader);
    let seen: Vec<i32> = replies.iter().map(|reply| reply.xid).collect();
    assert_eq!(seen, [-1, 1], "the event of the write stands before the answer to the sync");
}

#[test]
fn a_sync_waits_for_the_writes_that_are_under_way() {
    let mut ensemble = Ensemble::settled();
    let [here, there] = ensemble.followers()[..] else { panic!("two followers") };
    let (reader, writer) = (ensemble.client(here), ensemble.client(there));
    for id in 1..=3 {
        ensemble.server(id).slow_disk = true;
    }
    ensemble.at(there, |server| server.send(writer, 1, &create("/a", b"1", PERSISTENT)));
    ensemble.at(here, |server| server.send(reader, 1, &sync()));
    ensemble.at(here, |server| server.send(reader, 2, &exists("/a", false)));
    assert_eq!(ensemble.server(here).replies(reader), []);
    for id in 1..=3 {
        ensemble.at(id, |server| server.disk_finishes());
    }
    let seen: Vec<(i32, i32)> =
        ensemble.server(here).replies(reader).iter().map(|reply| (reply.xid, reply.err)).collect();
    assert_eq!(seen, [(1, 0), (2, 0)]);
}

#[test]
fn a_malformed_write_is_answered_where_it_came_and_never_forwarded() {
    let mut ensemble = Ensemble::settled();
    let follower = ensemble.followers()[0];
    let client = ensemble.client(follower);
    let before = ensemble.server(follower).node.last_processed();
    let mut frame = 16i32.to_be_bytes().to_vec();
    frame.extend(7i32.to_be_bytes());
    frame.extend(OpCode::SetData.number().to_be_bytes());
    frame.extend([0xff; 8]);
    ensemble.at(follower, |server| server.bytes(client.connection, &frame));
    let replies = ensemble.server(follower).replies(client);
    assert_eq!((replies.len(), replies[0].err), (1, MARSHALLING_ERROR));
    assert_eq!(ensemble.server(follower).node.last_processed(), before, "no zxid is spent on it");
}

#[test]
fn only_the_leader_ends_sessions_and_hears_of_those_of_others() {
    let mut ensemble = Ensemble::settled();
    let [here, there] = ensemble.followers()[..] else { panic!("two followers") };
    let (alive, silent) = (ensemble.client(here), ensemble.client(there));
    assert_eq!(ask(&mut ensemble, here, alive, &create("/alive", b"", EPHEMERAL)), 0);
    assert_eq!(ask(&mut ensemble, there, silent, &create("/silent", b"", EPHEMERAL)), 0);
    for _ in 0..60 {
        ensemble.pass_ms(500);
        assert_eq!(ask(&mut ensemble, here, alive, &exists("/alive", false)), 0);
    }
    for id in 1..=3 {
        let tree = ensemble.server(id).node.tree();
        assert!(tree.find("/alive").is_some() && tree.find("/silent").is_none(), "{id}");
    }
    assert!(ensemble.server(there).closed.contains(&silent.connection));
    assert!(!ensemble.server(here).closed.contains(&alive.connection));
}

/// Semantics 8.6. Java: `ZooKeeperServer.authWriteRequest`.
#[test]
fn an_eager_look_refuses_at_once_and_spends_no_zxid() {
    let settings = Settings { eager_acl_check: true, ..quick() };
    let mut ensemble = Ensemble::of(3, 0, settings);
    ensemble.settle();
    for id in 1..=3 {
        let client = ensemble.client(id);
        let top = format!("/closed{id}");
        assert_eq!(ask(&mut ensemble, id, client, &create(&top, b"", 0)), 0);
        let acl = Some(acl(1, "world", "anyone"));
        assert_eq!(
            ask(&mut ensemble, id, client, &Request::SetAcl { path: Some((&*top).into()), acl, version: -1 }),
            0
        );
        let child = format!("{top}/a");
        let none = Some(Default::default());
        let no_acl = Request::SetAcl { path: Some("/nowhere".into()), acl: none, version: -1 };
        let before = ensemble.server(id).node.last_processed();
        for (request, expected) in
            [(create(&child, b"", 0), -102), (delete(&child, -1), -102), (set(&top, b"", -1), -102), (no_acl, -114)]
        {
            ensemble.at(id, |server| server.send(client, 5, &request));
            let replies = ensemble.server(id).replies(client);
            assert_eq!(
                replies.iter().map(|reply| (reply.zxid, reply.err)).collect::<Vec<_>>(),
                [(0, expected)],
                "{id}"
            );
        }
        assert_eq!(ensemble.server(id).node.last_processed(), before);
        assert_eq!(
            ask(&mut ensemble, id, client, &set("/nowhere", b"", -1)),
            -101,
            "the leader says what this look cannot"
        );
    }
    ensemble.assert_agreed();
}
