//! Whoever asks for much has many turns, and others theirs in between. Spec: none; Java answers reads on several threads.

use ringkeeper::core::{Input, Settings};
use ringkeeper::wire::client::{OpCode, Request, Response};

use crate::harness::*;

const NODES: usize = 50;

/// A walk through the whole tree is two turns' work.
fn server_with_a_tree() -> Server {
    let mut server = Server::with(Settings { turn_nodes: 30, ..Settings::default() });
    let client = server.client();
    server.must(client, &create("/top", b"", PERSISTENT));
    for node in 0..NODES {
        server.must(client, &create(&format!("/top/{node}"), b"", PERSISTENT));
    }
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

fn ticks_until_read_on(server: &mut Server, client: Client) -> usize {
    let mut ticks = 0;
    while server.paused.contains(&client.connection) {
        assert_eq!(server.node.wake_us(), Some(0), "a tick is due at once");
        server.step(Input::Tick);
        ticks += 1;
        assert!(ticks < 1000, "for ever");
    }
    assert_eq!(server.node.wake_us(), None);
    ticks
}

#[test]
fn who_asks_for_walks_through_the_tree_lets_others_pass() {
    let mut server = server_with_a_tree();
    let [greedy, too, modest] = [server.client(), server.client(), server.client()];
    send_all(&mut server, greedy, &vec![walk(); 20]);
    send_all(&mut server, too, &vec![walk(); 3]);
    assert_eq!((server.replies(greedy).len(), server.replies(too).len()), (1, 1));
    server.must(modest, &get("/top", false));
    // In between they take turns, one a tick.
    server.step(Input::Tick);
    server.step(Input::Tick);
    assert_eq!((server.replies(greedy).len(), server.replies(too).len()), (1, 1));
    let ticks = ticks_until_read_on(&mut server, greedy);
    assert!(ticks >= 18, "{ticks}");
    assert!(!server.paused.contains(&too.connection));
    for (client, rest) in [(greedy, 3..=20), (too, 3..=3)] {
        let replies = server.replies(client);
        assert!(replies.iter().map(|reply| reply.xid).eq(rest), "{replies:?}");
        for reply in replies {
            assert_eq!(reply.response(OpCode::GetAllChildrenNumber), Response::AllChildrenNumber(NODES as i32));
        }
    }
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
    ticks_until_read_on(&mut server, client);
    assert!(server.replies(client).into_iter().map(|reply| (reply.xid, reply.err)).eq((1..=40).map(|xid| (xid, 0))));
}

/// They are answered as soon as the write is, all of them: a write behind them may have to wait for nothing else.
#[test]
fn walks_that_wait_for_a_write_are_few() {
    let mut server = server_with_a_tree();
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
    server.step(Input::Tick);
    assert_eq!(server.node.wake_us(), None);
}
