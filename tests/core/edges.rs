//! What clients may send but should not, and what the disk may do but should not.

use ringkeeper::core::settings::ConnectThrottle;
use ringkeeper::core::{Input, LogRoom, SessionId, Settings};
use ringkeeper::wire::client::{MultiReadOp, Request};

use crate::harness::*;

fn frame(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_be_bytes(), payload].concat()
}

fn raw(xid: i32, opcode: i32, body: &[u8]) -> Vec<u8> {
    frame(&[&xid.to_be_bytes()[..], &opcode.to_be_bytes()[..], body].concat())
}

#[test]
fn unknown_opcodes_are_answered_then_the_connection_ends_but_not_the_session() {
    for opcode in [0, -1, 10, 13, 20, -10, 23, 9999] {
        let mut server = Server::new();
        let client = server.client();
        server.bytes(client.connection, &[raw(5, opcode, b""), raw(6, 11, b"")].concat());
        let replies = server.replies(client);
        assert_eq!(replies.len(), 1, "H11: {opcode}");
        assert_eq!((replies[0].xid, replies[0].zxid, replies[0].err), (5, -1, -6));
        assert!(server.closed.contains(&client.connection));
        assert!(server.resume(&client).is_some());
    }
}

#[test]
fn malformed_requests_are_answered_and_the_connection_goes_on() {
    let mut server = Server::new();
    let client = server.client();
    let logged = server.log.len();
    for opcode in [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 18, 19, 21, 22, 101, 103, 104, 105, 106] {
        server.bytes(client.connection, &raw(5, opcode, &[0, 0, 0]));
        let replies = server.replies(client);
        assert_eq!(replies.iter().map(|reply| (reply.xid, reply.err)).collect::<Vec<_>>(), [(5, -5)], "{opcode}");
    }
    assert_eq!(server.log.len(), logged, "nothing malformed reaches the log");
    server.must(client, &exists("/", false));
}

#[test]
fn a_ping_is_answered_under_its_own_xid_whatever_was_sent() {
    let mut server = Server::new();
    let client = server.client();
    server.slow_disk = true;
    server.send(client, 8, &create("/a", b"", PERSISTENT));
    for xid in [-2, 0, 9] {
        server.send(client, xid, &Request::Ping);
    }
    server.disk_finishes();
    assert_eq!(server.replies(client).iter().map(|reply| reply.xid).collect::<Vec<_>>(), [8, -2, -2, -2]);
}

#[test]
fn a_malformed_multi_is_a_refused_transaction() {
    let mut server = Server::new();
    let client = server.client();
    let end = b"\xff\xff\xff\xff\x01\xff\xff\xff\xff";
    let item = |opcode: u8, record: &[u8]| [&[0, 0, 0, opcode, 0, 0, 0, 0, 0], record, end].concat();
    let null_id = [&b"\0\0\0\x02/x\0\0\0\0\0\0\0\x01\0\0\0\x1f\0\0\0\x06digest"[..], &[0xff; 4], &[0; 4]].concat();
    for (body, zxids) in [
        (Vec::new(), 1),                                              // no end
        (item(99, b""), 1),                                           // no such item
        (item(4, b"\0\0\0\x01/\0"), 1),                               // a read: R5
        (item(2, &[0xff; 8]), 1),                                     // a null path
        (item(1, b"\0\0\0\x01/\0\0\0\0\0\0\0\0\0\0\0\x07"), 1),       // flags that are none
        (item(1, b"\0\0\0\x01/\0\0\0\0\xff\xff\xff\xff\0\0\0\0"), 0), // a null ACL
        (item(1, &null_id), 1),
    ] {
        let logged = server.log.len();
        server.bytes(client.connection, &raw(5, 14, &body));
        let replies = server.replies(client);
        assert_eq!((replies.len(), replies[0].err, replies[0].body.len()), (1, -5, 0), "{body:?}");
        assert_eq!(server.log.len() - logged, zxids, "{body:?}");
        assert_eq!(replies[0].zxid, server.log.last().unwrap().0.0 as i64);
    }
}

#[test]
fn undecodable_headers_connects_and_auth_packets_close_without_a_word() {
    for bytes in [frame(b""), frame(&[0; 7]), raw(-4, 100, b"\0"), raw(-4, 100, &[0, 0, 0, 0, 0, 0, 0, 9])] {
        let mut server = Server::new();
        let client = server.client();
        server.bytes(client.connection, &bytes);
        assert!(server.closed.contains(&client.connection));
        assert!(server.replies(client).is_empty());
    }
    let mut server = Server::new();
    let connection = server.accept();
    server.bytes(connection, &frame(&[0; 20]));
    assert!(server.closed.contains(&connection));
}

#[test]
fn refused_auth_schemes_end_the_connection() {
    for scheme in ["world", "auth", "super", "x509", "nobody"] {
        let mut server = Server::new();
        let client = server.client();
        server.send(client, -4, &Request::Auth { scheme: Some(scheme.into()), auth: Some(b"x") });
        let replies = server.replies(client);
        assert_eq!((replies[0].xid, replies[0].zxid, replies[0].err), (-4, 0, -115), "{scheme}");
        assert!(server.closed.contains(&client.connection));
    }
}

#[test]
fn a_sasl_exchange_without_a_token_closes_without_a_word() {
    let mut server = Server::new();
    let client = server.client();
    server.send(client, 3, &Request::Sasl { token: Some(b"") });
    assert_eq!(server.replies(client)[0].body, [0xff; 4]);
    server.send(client, 4, &Request::Sasl { token: None });
    assert!(server.replies(client).is_empty() && server.closed.contains(&client.connection));
}

#[test]
fn without_digest_authentication_digest_is_no_scheme() {
    let server = |digest_auth_enabled| Server::with(Settings { digest_auth_enabled, ..Settings::default() });
    for (mut server, expected) in [(server(true), 0), (server(false), -114)] {
        let client = server.client();
        let acl = Some(acl(31, "digest", "u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ="));
        let request = Request::SetAcl { path: Some("/".into()), acl, version: -1 };
        assert_eq!(server.err(client, &request), expected);
    }
}

#[test]
fn enforced_authentication_closes_everybody_else() {
    let settings = Settings { enforce_auth_schemes: vec!["digest".into()], ..Settings::default() };
    let mut server = Server::with(settings);
    let client = server.client();
    server.send(client, -2, &Request::Ping);
    let replies = server.replies(client);
    assert_eq!((replies[0].zxid, replies[0].err), (0, -124));
    assert!(server.closed.contains(&client.connection));
    let client = server.client();
    server.bytes(client.connection, &raw(5, 23, b""));
    let replies = server.replies(client);
    assert_eq!((replies[0].zxid, replies[0].err), (0, -124), "whatever is wanted");
    let client = server.client();
    server.must(client, &Request::Auth { scheme: Some("digest".into()), auth: Some(b"u:p") });
    server.must(client, &exists("/", false));
}

#[test]
fn a_full_disk_refuses_writes_keeps_reads_and_recovers() {
    let mut server = Server::new();
    let client = server.client();
    server.must(client, &create("/a", b"", PERSISTENT));
    server.step(Input::LogRoom(LogRoom::Low));
    let logged = server.log.len();
    assert_eq!(server.err(client, &set("/a", b"", -1)), -1);
    server.must(client, &get("/a", false));
    assert_eq!(server.log.len(), logged);
    let other = server.client();
    server.must(other, &Request::CloseSession);
    server.step(Input::LogRoom(LogRoom::None));
    let logged = server.log.len();
    let connection = server.accept();
    server.bytes(connection, &Server::connect_frame(SessionId(0), &[0; 16], 10_000, 0));
    assert!(server.closed.contains(&connection), "no room for a session");
    server.pass_ms(60_000);
    assert_eq!(server.log.len(), logged, "expiry waits for room");
    server.step(Input::LogRoom(LogRoom::Ample));
    server.pass_ms(1);
    assert!(server.log.len() > logged, "and goes on with it");
}

#[test]
fn large_requests_have_a_budget() {
    let settings =
        Settings { large_request_threshold_bytes: Some(1000), large_request_max_bytes: 5000, ..Settings::default() };
    let mut server = Server::with(settings);
    let client = server.client();
    server.slow_disk = true;
    for xid in 0..2 {
        server.send(client, xid, &set("/", &[0; 2000], -1));
    }
    server.disk_finishes();
    assert_eq!(server.replies(client).len(), 2);
    for xid in 0..3 {
        server.send(client, xid, &set("/", &[0; 2000], -1));
    }
    assert!(server.closed.contains(&client.connection), "three at once are too many");
    server.disk_finishes();
    server.slow_disk = false;
    let other = server.client();
    for _ in 0..3 {
        server.must(other, &set("/", &[0; 2000], -1));
    }
    // Only the length is looked at: what is no request of the pipeline, and what is none at all, are refused like others.
    server.send(other, -4, &Request::Auth { scheme: Some("digest".into()), auth: Some(&[b'x'; 5000]) });
    assert!(server.closed.contains(&other.connection));
    assert!(server.replies(other).is_empty());
    let stranger = server.accept();
    server.bytes(stranger, &Server::connect_frame(SessionId(0), &[0; 5000], 10_000, 0));
    assert!(server.closed.contains(&stranger));
}

/// All of it goes with each write of a follower's client to the leader, who reads no more than a megabyte of it.
#[test]
fn what_a_client_proves_to_be_is_bounded() {
    let mut server = Server::new();
    let client = server.client();
    let auth = |user: usize, bytes: usize| format!("{user}{}:secret", "x".repeat(bytes));
    for user in 0..3 {
        let auth = auth(user, 20_000);
        server.must(client, &Request::Auth { scheme: Some("digest".into()), auth: Some(auth.as_bytes()) });
    }
    let auth = auth(3, 20_000);
    server.send(client, -4, &Request::Auth { scheme: Some("digest".into()), auth: Some(auth.as_bytes()) });
    let [refused] = &server.replies(client)[..] else { panic!("one answer") };
    assert_eq!(refused.err, -115, "AUTHFAILED");
    assert!(server.closed.contains(&client.connection));
}

#[test]
fn the_connect_throttle_lets_in_as_many_as_it_has_tokens() {
    let connect_throttle = ConnectThrottle { tokens: 2, fill_ms: 1000, ..ConnectThrottle::default() };
    let settings = Settings { connect_throttle, ..Settings::default() };
    let mut server = Server::with(settings);
    let mut connect = || {
        let connection = server.accept();
        server.bytes(connection, &Server::connect_frame(SessionId(0), &[0; 16], 10_000, 0));
        let welcomed = server.welcomed(connection).is_some();
        server.pass_ms(if welcomed { 0 } else { 1000 });
        welcomed
    };
    assert_eq!([connect(), connect(), connect(), connect(), connect()], [true, true, false, true, false]);
}

/// Java: `EnsembleAuthenticationProvider`.
#[test]
fn a_client_of_another_ensemble_is_sent_away() {
    let names = Some(vec!["here".to_owned()]);
    let mut server = Server::with(Settings { ensemble_names: names, ..Settings::default() });
    let auth = |name: Option<&'static [u8]>| Request::Auth { scheme: Some("ensemble".into()), auth: name };
    for (name, is_let_in) in [(Some(&b"here"[..]), true), (None, true), (Some(b""), true), (Some(b"elsewhere"), false)]
    {
        let client = server.client();
        server.send(client, -4, &auth(name));
        let answered: Vec<i32> = server.replies(client).iter().map(|reply| reply.err).collect();
        assert_eq!(answered, vec![0; usize::from(is_let_in)], "{name:?}");
        assert_eq!(server.closed.contains(&client.connection), !is_let_in, "{name:?}");
    }
    let mut server = Server::new();
    let client = server.client();
    server.send(client, -4, &auth(None));
    assert_eq!(server.replies(client)[0].err, -115, "nobody loaded it");
}

#[test]
fn a_connection_that_goes_away_mid_flight_leaves_its_writes() {
    let mut server = Server::new();
    let (client, other) = (server.client(), server.client());
    server.slow_disk = true;
    server.send(client, 1, &create("/a", b"", PERSISTENT));
    server.send(client, 2, &get("/a", false));
    server.step(Input::Disconnected { connection: client.connection });
    server.disk_finishes();
    server.slow_disk = false;
    server.must(other, &exists("/a", false));
}

#[test]
fn sasl_without_a_configuration_ends_with_a_null_token() {
    let mut server = Server::new();
    let client = server.client();
    let reply = server.must(client, &Request::Sasl { token: Some(b"") });
    assert_eq!(reply.body, [0xff; 4]);
    server.must(client, &exists("/", false));
}

#[test]
fn a_multi_read_that_asks_for_gigabytes_is_refused() {
    let mut server = Server::new();
    let client = server.client();
    server.must(client, &create("/large", &[1; 1 << 20], PERSISTENT));
    let read = |times| {
        let op = MultiReadOp::GetData { path: Some("/large".into()), watch: false };
        Request::MultiRead(vec![op; times])
    };
    assert_eq!(server.must(client, &read(10)).body.len() >> 20, 10);
    assert_eq!(server.err(client, &read(3000)), -5);
    server.must(client, &exists("/", false));
}

/// A client that comes back, writes and leaves again, over and over while the disk stalls, fills a bounded part of the memory.
#[test]
fn writes_of_clients_that_are_gone_count_until_they_are_on_disk() {
    let mut server = Server::new();
    let reader = server.client();
    let clients: Vec<Client> = (0..20).map(|_| server.client()).collect();
    server.slow_disk = true;
    let mut asked = Vec::new();
    (0..7).for_each(|xid| set("/", &[xid as u8; 1_000_000], -1).encode(xid, &mut asked));
    let logged = server.log.len();
    for client in &clients[1..] {
        server.bytes(client.connection, &asked);
        server.step(Input::Disconnected { connection: client.connection });
    }
    let last = clients[0];
    server.bytes(last.connection, &asked);
    let admitted = server.log.len() - logged;
    assert!((60..80).contains(&admitted), "{admitted} MB admitted of {}", 20 * 7);
    assert!(server.paused.contains(&last.connection));
    server.must(reader, &exists("/", false));
    server.disk_finishes();
    server.disk_finishes();
    assert_eq!(server.replies(last).iter().map(|reply| reply.xid).collect::<Vec<_>>(), (0..7).collect::<Vec<_>>());
    assert!(!server.paused.contains(&last.connection));
}
