//! Handshake, resume, expiry, close. Cases named after semantics 21.

use ringkeeper::core::{Input, SessionId};
use ringkeeper::wire::client::{OpCode, Request, Response, SetWatches};

use crate::harness::*;

#[test]
fn timeouts_are_clamped() {
    for (asked, given) in [(1, 4000), (0, 4000), (-5, 4000), (10_000, 10_000), (1_000_000_000, 40_000)] {
        let mut server = Server::new();
        let connection = server.accept();
        server.bytes(connection, &Server::connect_frame(SessionId(0), &[], asked, 0));
        assert_eq!(server.welcomed(connection).unwrap().timeout_ms, given, "H7: {asked}");
    }
}

#[test]
fn the_answer_has_the_read_only_byte_exactly_if_the_request_had_it() {
    let mut server = Server::new();
    for (cut, expected) in [(0, 37), (1, 36)] {
        let connection = server.accept();
        let mut frame = Server::connect_frame(SessionId(0), &[0; 16], 10_000, 0);
        frame.truncate(frame.len() - cut);
        frame[3] -= cut as u8;
        server.bytes(connection, &frame);
        assert_eq!(server.frames(connection)[0].len(), expected, "H4");
    }
}

#[test]
fn a_client_ahead_of_us_is_turned_away_without_a_word() {
    let mut server = Server::new();
    let connection = server.accept();
    server.bytes(connection, &Server::connect_frame(SessionId(0), &[0; 16], 10_000, 1));
    assert!(server.closed.contains(&connection), "H6");
    assert!(server.frames(connection).is_empty());
    let connection = server.accept();
    server.bytes(connection, &Server::connect_frame(SessionId(0), &[0; 16], 10_000, -1));
    assert!(server.welcomed(connection).is_some(), "negative always passes");
}

#[test]
fn connect_and_requests_in_one_segment_are_all_answered_in_order() {
    let mut server = Server::new();
    let connection = server.accept();
    let mut bytes = Server::connect_frame(SessionId(0), &[0; 16], 10_000, 0);
    Request::SetWatches(SetWatches { data: vec!["/gone".into()], ..SetWatches::default() }).encode(-8, &mut bytes);
    get("/", false).encode(1, &mut bytes);
    Request::Ping.encode(-2, &mut bytes);
    create("/a", b"", PERSISTENT).encode(2, &mut bytes);
    exists("/a", false).encode(3, &mut bytes);
    server.slow_disk = true;
    server.bytes(connection, &bytes);
    assert!(server.frames(connection).is_empty(), "the session is not on disk yet");
    assert!(server.paused.contains(&connection));
    server.disk_finishes();
    server.disk_finishes();
    let frames = server.frames(connection);
    assert_eq!(frames.len(), 7, "H5");
    let xids: Vec<i32> = frames[1..].iter().map(|frame| i32::from_be_bytes(frame[..4].try_into().unwrap())).collect();
    assert_eq!(xids, [-1, -8, 1, -2, 2, 3]);
    assert!(!server.paused.contains(&connection));
}

#[test]
fn a_session_moves_to_a_new_connection() {
    let mut server = Server::new();
    let old = server.client();
    server.must(old, &create("/e", b"", EPHEMERAL));
    let new = server.resume(&old).expect("its own password");
    assert_eq!(new.session, old.session, "H2");
    assert!(server.closed.contains(&old.connection), "the old connection ends");
    server.must(new, &exists("/e", false));
    server.pass_ms(9_000);
    server.must(new, &exists("/e", false));
}

#[test]
fn a_wrong_password_is_refused_and_harms_nobody() {
    let mut server = Server::new();
    let rightful = server.client();
    let thief = Client { password: [7; 16], ..rightful };
    assert_eq!(server.resume(&thief), None);
    assert!(!server.closed.contains(&rightful.connection), "the rightful owner stays connected");
    server.must(rightful, &exists("/", false));
}

#[test]
fn unknown_and_garbage_sessions_are_refused_not_replaced() {
    let mut server = Server::new();
    for id in [-1, 0x0100_0000_dead_0000] {
        let session = SessionId(id);
        let password = ringkeeper::core::session::identity::password(session);
        let connection = server.accept();
        server.bytes(connection, &Server::connect_frame(session, &password, 10_000, 0));
        assert!(server.is_refused(connection), "H1, H3");
    }
}

#[test]
fn a_silent_session_ends_with_its_ephemerals_and_tells_watchers() {
    let mut server = Server::new();
    let (silent, watcher) = (server.client(), server.client());
    server.must(silent, &create("/e", b"", EPHEMERAL));
    server.must(watcher, &exists("/e", true));
    for _ in 0..13 {
        server.pass_ms(1000);
        server.send(watcher, -2, &Request::Ping);
    }
    assert!(server.closed.contains(&silent.connection), "E1");
    let replies = server.replies(watcher);
    let event = replies.iter().find(|reply| reply.xid == -1).expect("a notification");
    assert_eq!(event.event().path, "/e");
    assert_eq!(server.err(watcher, &exists("/e", false)), -101);
    let connection = server.accept();
    server.bytes(connection, &Server::connect_frame(silent.session, &silent.password, silent.timeout_ms, 0));
    assert!(server.is_refused(connection), "H1: an ended session is not picked up again");
}

#[test]
fn auth_packets_do_not_keep_a_session_alive() {
    let mut server = Server::new();
    let client = server.client();
    for _ in 0..13 {
        server.send(client, -4, &Request::Auth { scheme: Some("digest".into()), auth: Some(b"u:p") });
        server.pass_ms(1000);
    }
    assert!(server.closed.contains(&client.connection));
}

#[test]
fn close_session_answers_when_its_ephemerals_are_gone_and_ignores_what_follows() {
    let mut server = Server::new();
    let (client, other) = (server.client(), server.client());
    server.must(client, &create("/e1", b"", EPHEMERAL));
    server.slow_disk = true;
    let mut bytes = Vec::new();
    create("/e2", b"", EPHEMERAL).encode(1, &mut bytes);
    Request::CloseSession.encode(2, &mut bytes);
    create("/never", b"", PERSISTENT).encode(3, &mut bytes);
    exists("/", false).encode(4, &mut bytes);
    server.bytes(client.connection, &bytes);
    server.disk_finishes();
    let xids: Vec<i32> = server.replies(client).iter().map(|reply| reply.xid).collect();
    assert_eq!(xids, [1, 2], "E4, R13");
    assert!(server.closed.contains(&client.connection));
    server.slow_disk = false;
    for path in ["/e1", "/e2", "/never"] {
        assert_eq!(server.err(other, &exists(path, false)), -101, "{path}");
    }
}

#[test]
fn sessions_survive_a_restart_with_a_fresh_deadline() {
    let mut server = Server::new();
    let client = server.client();
    server.must(client, &create("/e", b"", EPHEMERAL));
    let mut again = server.restarted(Default::default());
    let client = again.resume(&client).expect("the session is on disk");
    again.must(client, &exists("/e", false));
    let mut forgotten = server.restarted(Default::default());
    forgotten.pass_ms(13_000);
    let other = forgotten.client();
    assert_eq!(forgotten.err(other, &exists("/e", false)), -101, "nobody came back for it");
}

#[test]
fn get_ephemerals_lists_by_plain_prefix() {
    let mut server = Server::new();
    let client = server.client();
    for path in ["/ab", "/abc", "/x"] {
        server.must(client, &create(path, b"", EPHEMERAL));
    }
    for (prefix, expected) in
        [("/a", 2), ("/abc", 1), ("/", 3), ("", 3), ("  ", 3), (" /\u{1}", 3), ("\u{a0}", 0), ("/y", 0)]
    {
        let reply = server.must(client, &Request::GetEphemerals { prefix: Some(prefix.into()) });
        let Response::Names(names) = reply.response(OpCode::GetEphemerals) else { panic!() };
        assert_eq!(names.len(), expected, "{prefix:?}");
    }
}

#[test]
fn shutdown_answers_what_is_in_flight_and_takes_nothing_new() {
    let mut server = Server::new();
    let client = server.client();
    server.slow_disk = true;
    server.send(client, 1, &create("/a", b"", PERSISTENT));
    server.step(Input::Shutdown);
    assert!(!server.drained);
    server.send(client, 2, &create("/b", b"", PERSISTENT));
    server.disk_finishes();
    assert!(server.drained);
    let xids: Vec<i32> = server.replies(client).iter().map(|reply| reply.xid).collect();
    assert_eq!(xids, [1]);
}
