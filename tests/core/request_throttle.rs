//! `request_throttle_*` and `throttled_op_wait_time`: how many requests are under way at a time, and what becomes of those that
//! wait. Spec: client-protocol 13.

use ringkeeper::core::Settings;
use ringkeeper::core::settings::RequestThrottle;
use ringkeeper::wire::client::Request;
use ringkeeper::wire::txn::{Txn, decode_txn};

use crate::harness::*;

const THROTTLED_OP: i32 = -127;

fn server_with(throttle: RequestThrottle) -> Server {
    Server::with(Settings { request_throttle: throttle, session_timeout_min_ms: 4000, ..Settings::default() })
}

/// One request at a time; the disk is slow from here on.
fn one_at_a_time(more: RequestThrottle) -> (Server, [Client; 2]) {
    let mut server = server_with(RequestThrottle { max_requests: 1, ..more });
    let clients = [server.client(), server.client()];
    server.slow_disk = true;
    (server, clients)
}

fn paths_in_log(server: &Server, from: usize) -> Vec<String> {
    let path = |bytes| match decode_txn(bytes).unwrap().1 {
        Txn::Create { path, .. } => path.into_owned(),
        other => panic!("{other:?}"),
    };
    server.log[from..].iter().map(|(_, bytes)| path(bytes)).collect()
}

fn xids(server: &mut Server, client: Client) -> Vec<(i32, i32)> {
    server.replies(client).into_iter().map(|reply| (reply.xid, reply.err)).collect()
}

#[test]
fn requests_wait_for_their_turn_and_take_turns() {
    let (mut server, [first, second]) = one_at_a_time(RequestThrottle::default());
    let before = server.log.len();
    for (xid, path) in [(1, "/a1"), (2, "/a2"), (3, "/a3")] {
        server.send(first, xid, &create(path, b"", PERSISTENT));
    }
    server.send(second, 1, &create("/b1", b"", PERSISTENT));
    server.send(second, 2, &get("/a2", false));
    server.send(second, 3, &create("/b3", b"", PERSISTENT));
    assert_eq!(paths_in_log(&server, before), ["/a1"]);
    assert!(server.paused.contains(&first.connection) && server.paused.contains(&second.connection));
    server.disk_finishes();
    // Whoever was answered stands behind who has waited.
    assert_eq!(paths_in_log(&server, before), ["/a1", "/a2", "/b1", "/a3", "/b3"]);
    assert_eq!(xids(&mut server, first), [(1, 0), (2, 0), (3, 0)]);
    assert_eq!(xids(&mut server, second), [(1, 0), (2, 0), (3, 0)]);
    assert!(server.paused.is_empty());
    assert_eq!(server.node.metrics_mut().throttled_ops, 0);
    assert!(server.node.metrics_mut().request_throttle_wait_count >= 2);
}

#[test]
fn what_waited_too_long_is_refused_in_its_place_and_the_session_is_not() {
    let (mut server, [first, second]) =
        one_at_a_time(RequestThrottle { op_wait_ms: 100, ..RequestThrottle::default() });
    server.send(first, 1, &create("/a", b"", PERSISTENT));
    server.send(second, 1, &create("/late", b"", PERSISTENT));
    server.send(second, -2, &Request::Ping);
    server.send(second, 3, &get("/a", false));
    server.pass_ms(101);
    assert_eq!(xids(&mut server, second), []);
    server.disk_finishes();
    let answers = server.replies(second);
    let told: Vec<_> = answers.iter().map(|reply| (reply.xid, reply.err)).collect();
    assert_eq!(told, [(1, THROTTLED_OP), (-2, 0), (3, THROTTLED_OP)]);
    assert_eq!(answers[0].zxid, server.log.last().unwrap().0.0 as i64, "of what was applied last");
    assert_eq!(server.node.metrics_mut().throttled_ops, 2);
    server.slow_disk = false;
    assert_eq!(server.err(second, &exists("/late", false)), -101);
    server.must(second, &Request::CloseSession);
}

#[test]
fn what_waited_for_no_longer_than_it_may_is_carried_out() {
    let (mut server, [first, second]) =
        one_at_a_time(RequestThrottle { op_wait_ms: 100, ..RequestThrottle::default() });
    server.send(first, 1, &create("/a", b"", PERSISTENT));
    server.send(second, 1, &create("/in-time", b"", PERSISTENT));
    server.pass_ms(100);
    server.disk_finishes();
    assert_eq!(xids(&mut server, second), [(1, 0)]);
    // The wait is over: what comes next has not waited.
    server.pass_ms(1000);
    server.slow_disk = false;
    server.must(second, &get("/in-time", false));
}

#[test]
fn a_request_older_than_its_session_may_be_ends_the_connection_if_asked_for() {
    for (throttle, closes) in [
        (RequestThrottle { stale_latency_check: true, ..RequestThrottle::default() }, true),
        (RequestThrottle { stale_latency_check: true, drop_stale: false, ..RequestThrottle::default() }, false),
        (RequestThrottle::default(), false),
    ] {
        let (mut server, [first, second]) = one_at_a_time(throttle);
        server.send(first, 1, &create("/a", b"", PERSISTENT));
        server.send(second, 1, &create("/b", b"", PERSISTENT));
        server.now.mono_us += 10_001_000; // its timeout is 10 s, and nobody has looked yet
        server.disk_finishes();
        assert_eq!(server.closed.contains(&second.connection), closes, "{throttle:?}");
        assert_eq!(xids(&mut server, second).len(), usize::from(!closes));
        let metrics = server.node.metrics_mut();
        let counted = (metrics.stale_requests_dropped, metrics.stale_requests);
        assert_eq!(counted, (u64::from(closes), u64::from(throttle.stale_latency_check && !closes)));
    }
}

#[test]
fn a_connection_that_ends_gives_its_place_to_the_next_one() {
    let (mut server, [first, second]) = one_at_a_time(RequestThrottle::default());
    let third = {
        server.slow_disk = false;
        let third = server.client();
        server.slow_disk = true;
        third
    };
    let before = server.log.len();
    server.send(first, 1, &create("/a", b"", PERSISTENT));
    server.send(second, 1, &create("/b", b"", PERSISTENT));
    server.send(third, 1, &create("/c", b"", PERSISTENT));
    server.step(ringkeeper::core::Input::Disconnected { connection: second.connection });
    server.step(ringkeeper::core::Input::Disconnected { connection: first.connection });
    assert_eq!(paths_in_log(&server, before), ["/a", "/c"]);
    server.disk_finishes();
    assert_eq!(xids(&mut server, third), [(1, 0)]);
}
