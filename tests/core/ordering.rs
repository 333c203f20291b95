//! FIFO per session, read your writes, sync, back-pressure.

use ringkeeper::core::{Input, Settings};
use ringkeeper::wire::client::{OpCode, Request, Response};

use crate::harness::*;

#[test]
fn reads_wait_for_the_same_sessions_writes_and_for_nobody_elses() {
    let mut server = Server::new();
    let (writer, reader) = (server.client(), server.client());
    server.must(writer, &create("/a", b"0", PERSISTENT));
    server.slow_disk = true;
    let mut bytes = Vec::new();
    set("/a", b"1", -1).encode(1, &mut bytes);
    get("/a", false).encode(2, &mut bytes);
    set("/a", b"2", -1).encode(3, &mut bytes);
    get("/a", false).encode(4, &mut bytes);
    Request::Ping.encode(-2, &mut bytes);
    server.bytes(writer.connection, &bytes);
    let reply = server.must(reader, &get("/a", false));
    assert!(matches!(reply.response(OpCode::GetData), Response::Data { data: Some(b"0"), .. }));
    server.disk_finishes();
    let replies = server.replies(writer);
    let xids: Vec<i32> = replies.iter().map(|reply| reply.xid).collect();
    assert_eq!(xids, [1, 2, 3, 4, -2], "R9");
    for (index, expected) in [(1, b"1"), (3, b"2")] {
        let Response::Data { data, .. } = replies[index].response(OpCode::GetData) else { panic!() };
        assert_eq!(data, Some(&expected[..]), "a read sees exactly the writes before it");
    }
    assert!(replies.windows(2).all(|pair| pair[0].zxid <= pair[1].zxid), "zxids never go back");
}

#[test]
fn sync_waits_for_everything_proposed_before_it() {
    let mut server = Server::new();
    let (writer, syncer) = (server.client(), server.client());
    server.slow_disk = true;
    server.send(writer, 1, &create("/a", b"", PERSISTENT));
    server.send(syncer, 2, &Request::Sync { path: Some("/whatever".into()) });
    server.send(syncer, 3, &exists("/a", false));
    assert!(server.replies(syncer).is_empty());
    server.disk_finishes();
    let replies = server.replies(syncer);
    assert_eq!(replies.iter().map(|reply| (reply.xid, reply.err)).collect::<Vec<_>>(), [(2, 0), (3, 0)]);
    assert_eq!(replies[0].response(OpCode::Sync), Response::Path(Some("/whatever".into())));
}

#[test]
fn an_auth_answer_may_overtake_but_the_identity_holds_only_from_there_on() {
    let mut server = Server::new();
    let client = server.client();
    server.slow_disk = true;
    let mut bytes = Vec::new();
    create("/a", b"", PERSISTENT).encode(1, &mut bytes);
    Request::WhoAmI.encode(2, &mut bytes);
    Request::Auth { scheme: Some("digest".into()), auth: Some(b"u:p") }.encode(-4, &mut bytes);
    Request::WhoAmI.encode(3, &mut bytes);
    server.bytes(client.connection, &bytes);
    let early = server.replies(client);
    assert_eq!(early.iter().map(|reply| (reply.xid, reply.zxid)).collect::<Vec<_>>(), [(-4, 0)], "R10");
    server.disk_finishes();
    let replies = server.replies(client);
    let users = |index: usize| match replies[index].response(OpCode::WhoAmI) {
        Response::WhoAmI(infos) => infos.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!((users(1), users(2)), (1, 2));
}

#[test]
fn a_client_that_does_not_read_is_not_read_from() {
    let mut server = Server::new();
    let client = server.client();
    let big = vec![b'x'; 900_000];
    server.must(client, &create("/big", &big, PERSISTENT));
    server.deaf.insert(client.connection);
    let mut bytes = Vec::new();
    for xid in 0..50 {
        get("/big", false).encode(xid, &mut bytes);
    }
    server.bytes(client.connection, &bytes);
    let owed: usize = server.replies(client).iter().map(|reply| reply.body.len()).sum();
    assert!(owed < 3_000_000, "{owed} bytes were worked out for a client that takes none");
    assert!(server.paused.contains(&client.connection));
    let mut got = owed / 900_000;
    while got < 50 {
        server.step(Input::Sent { connection: client.connection, bytes: usize::MAX / 2 });
        let more = server.replies(client).len();
        assert!(more > 0, "it goes on when the client reads again");
        got += more;
    }
    server.step(Input::Sent { connection: client.connection, bytes: usize::MAX / 2 });
    assert!(!server.paused.contains(&client.connection));
}

#[test]
fn over_the_global_limit_busy_connections_are_not_read() {
    let mut server = Server::with(Settings { global_outstanding_limit: 4, ..Settings::default() });
    let (busy, idle) = (server.client(), server.client());
    server.slow_disk = true;
    for xid in 0..5 {
        server.send(busy, xid, &set("/", b"", -1));
    }
    assert!(server.paused.contains(&busy.connection));
    server.must(idle, &exists("/", false));
    assert!(!server.paused.contains(&idle.connection), "who owes nothing is served");
    server.disk_finishes();
    assert!(!server.paused.contains(&busy.connection));
    assert_eq!(server.replies(busy).len(), 5, "nothing was refused");
}

/// A write's own commit must not find reads before it that were held back for a client that owes too much: they are
/// answered with the state before the write, and in their turn.
#[test]
fn reads_held_back_are_answered_before_the_next_write_of_their_session_is_applied() {
    for deaf in [false, true] {
        let mut server = Server::new();
        let client = server.client();
        let old = vec![b'o'; 900_000];
        server.must(client, &create("/big", &old, PERSISTENT));
        server.slow_disk = true;
        if deaf {
            server.deaf.insert(client.connection);
        }
        let mut bytes = Vec::new();
        set("/", b"", -1).encode(0, &mut bytes);
        (1..6).for_each(|xid| get("/big", false).encode(xid, &mut bytes));
        set("/big", b"new", -1).encode(6, &mut bytes);
        get("/big", false).encode(7, &mut bytes);
        server.bytes(client.connection, &bytes);
        server.disk_finishes();
        server.step(Input::Sent { connection: client.connection, bytes: usize::MAX / 2 });
        let replies = server.replies(client);
        assert_eq!(replies.iter().map(|reply| reply.xid).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
        for reply in &replies[1..6] {
            assert!(matches!(reply.response(OpCode::GetData), Response::Data { data: Some(data), .. } if data == old));
        }
        assert!(matches!(replies[7].response(OpCode::GetData), Response::Data { data: Some(b"new"), .. }));
    }
}

#[test]
fn many_reads_before_a_write_keep_the_write_waiting() {
    let mut server = Server::new();
    let client = server.client();
    server.must(client, &create("/big", &vec![b'x'; 900_000], PERSISTENT));
    server.slow_disk = true;
    let mut bytes = Vec::new();
    for xid in 0..200 {
        set("/", b"", -1).encode(2 * xid, &mut bytes);
        get("/big", false).encode(2 * xid + 1, &mut bytes);
    }
    let logged = server.log.len();
    server.bytes(client.connection, &bytes);
    assert!((50..100).contains(&(server.log.len() - logged)), "{} at once", server.log.len() - logged);
    let mut xids = Vec::new();
    for _ in 0..20 {
        server.disk_finishes();
        xids.extend(server.replies(client).iter().map(|reply| reply.xid));
    }
    assert_eq!(xids, (0..400).collect::<Vec<_>>());
    assert!(!server.paused.contains(&client.connection));
}

#[test]
fn requests_that_keep_much_memory_while_they_wait_stop_the_reading_of_more() {
    let mut server = Server::new();
    let client = server.client();
    server.slow_disk = true;
    let mut bytes = Vec::new();
    (0..40).for_each(|xid| set("/", &vec![0; 900_000], -1).encode(xid, &mut bytes));
    let logged = server.log.len();
    server.bytes(client.connection, &bytes);
    assert!((15..25).contains(&(server.log.len() - logged)), "{} at once", server.log.len() - logged);
    assert!(server.paused.contains(&client.connection));
    (0..3).for_each(|_| server.disk_finishes());
    assert_eq!(server.replies(client).len(), 40);
    assert!(!server.paused.contains(&client.connection));
}
