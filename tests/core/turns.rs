//! Whoever asks for much has many turns, and others theirs in between. Spec: none; Java answers reads on several threads.

use ringkeeper::core::{Input, Settings};
use ringkeeper::wire::client::{OpCode, Request, Response};

use crate::harness::*;

const NODES: usize = 50;

/// A walk through the whole tree is more than a turn's work.
fn server_with_a_tree() -> Server {
    let mut server = Server::with(Settings { turn_nodes: 30, ..Settings::default() });
    let client = server.client();
    server.must(client, &create("/top", b"", PERSISTENT));
    for node in 0..NODES {
        server.must(client, &create(&format!("/top/{node}"), b"", PERSISTENT));
    }
    server.step(Input::NextTurn);
    server.holds_turns = true;
    server
}

fn walk() -> Request<'static> {
    Request::GetAllChildrenNumber { path: Some("/top".into()) }
}

/// All in one read.
fn send_all(server: &mut Server, client: Client, requests: &[Request<'_>]) {
    let mut frames = Vec::new();
    (1..).zip(requests).for_each(|(xid, request)| request.encode(xid, &mut frames));
    server.bytes(client.connection, &frames);
}

fn turns_until_read_on(server: &mut Server, client: Client) -> usize {
    let mut turns = 0;
    while server.paused.contains(&client.connection) {
        assert!(server.node.wants_turn());
        server.step(Input::NextTurn);
        turns += 1;
        assert!(turns < 1000, "for ever");
    }
    turns
}

#[test]
fn who_asks_for_walks_through_the_tree_lets_others_pass() {
    let mut server = server_with_a_tree();
    let [greedy, too, modest] = [server.client(), server.client(), server.client()];
    server.step(Input::NextTurn);
    send_all(&mut server, greedy, &vec![walk(); 20]);
    send_all(&mut server, too, &vec![walk(); 3]);
    server.send(modest, 1, &get("/top", false));
    let answered = |server: &mut Server| [greedy, too, modest].map(|client| server.replies(client).len());
    assert_eq!(answered(&mut server), [1, 0, 0]);
    let turns: Vec<_> = (0..5)
        .map(|_| {
            server.step(Input::NextTurn);
            answered(&mut server)
        })
        .collect();
    // In turns, one walk each; who asks for little has something over for the next one.
    assert_eq!(turns, [[1, 0, 0], [0, 1, 0], [1, 0, 1], [0, 1, 0], [1, 0, 0]]);
    let turns = turns_until_read_on(&mut server, greedy);
    assert!(turns >= 16, "{turns}");
    assert!(!server.paused.contains(&too.connection) && !server.paused.contains(&modest.connection));
    let replies = server.replies(greedy);
    assert!(replies.iter().map(|reply| reply.xid).eq(5..=20), "{replies:?}");
    for reply in replies {
        assert_eq!(reply.response(OpCode::GetAllChildrenNumber), Response::AllChildrenNumber(NODES as i32));
    }
}

/// One walk a read, as other executors may bring many.
#[test]
fn who_asks_for_one_thing_at_a_time_has_no_more_turns_than_others() {
    let mut server = server_with_a_tree();
    let client = server.client();
    server.step(Input::NextTurn);
    for xid in 1..=20 {
        server.send(client, xid, &walk());
    }
    assert!(server.paused.contains(&client.connection));
    assert_eq!(server.replies(client).len(), 1);
    assert_eq!(turns_until_read_on(&mut server, client), 20);
    assert!(server.replies(client).into_iter().map(|reply| reply.xid).eq(2..=20));
}

/// Its pings have come, and nobody looks at them.
#[test]
fn who_waits_for_a_turn_keeps_the_session() {
    let mut server = server_with_a_tree();
    let greedy: Vec<_> = (0..30).map(|_| server.client()).collect();
    let patient = server.client();
    server.step(Input::NextTurn);
    for client in greedy {
        send_all(&mut server, client, &vec![walk(); 100]);
    }
    server.send(patient, 1, &get("/top", false));
    let mut turns = 0;
    while server.replies(patient).is_empty() {
        server.pass_ms(1000);
        server.step(Input::NextTurn);
        turns += 1;
        assert!(turns < 100, "for ever");
    }
    assert!(turns > 2 * patient.timeout_ms / 1000, "{turns}");
}

#[test]
fn very_many_small_requests_are_several_turns_in_their_order() {
    let mut server = server_with_a_tree();
    let client = server.client();
    let paths: Vec<String> = (0..40).map(|at| format!("/{at}")).collect();
    let requests = paths.iter().enumerate();
    let requests =
        requests.map(|(at, path)| if at % 10 == 9 { create(path, b"", PERSISTENT) } else { get("/top", false) });
    send_all(&mut server, client, &requests.collect::<Vec<_>>());
    turns_until_read_on(&mut server, client);
    assert!(server.replies(client).into_iter().map(|reply| (reply.xid, reply.err)).eq((1..=40).map(|xid| (xid, 0))));
}

/// They are answered as soon as the write is, all of them: a write behind them may have to wait for nothing else.
#[test]
fn walks_that_wait_for_a_write_are_few() {
    let mut server = server_with_a_tree();
    server.holds_turns = false;
    let client = server.client();
    server.slow_disk = true;
    send_all(&mut server, client, &[create("/first", b"", PERSISTENT)]);
    for _ in 0..20_000 {
        if server.paused.contains(&client.connection) {
            break;
        }
        server.send(client, 7, &walk());
    }
    assert!(server.paused.contains(&client.connection));
    server.disk_finishes();
    let walked = server.replies(client).len() - 1;
    assert!(walked * NODES < 600_000, "{walked} walks in one turn");
}

#[test]
fn who_leaves_is_not_waited_for() {
    let mut server = server_with_a_tree();
    let client = server.client();
    send_all(&mut server, client, &vec![walk(); 9]);
    server.step(Input::Disconnected { connection: client.connection });
    server.step(Input::NextTurn);
    assert!(!server.node.wants_turn());
}
