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

/// Its pings wait in the socket behind what it was sent: what it takes is all that is heard of it (D-100).
#[test]
fn a_client_that_takes_its_answers_slowly_lives_and_one_that_takes_nothing_does_not() {
    let mut server = Server::new();
    let (slow, dead) = (server.client(), server.client());
    let big = vec![b'x'; 900_000];
    server.must(slow, &create("/big", &big, PERSISTENT));
    for client in [slow, dead] {
        server.deaf.insert(client.connection);
        let mut bytes = Vec::new();
        for xid in 0..3 {
            get("/big", false).encode(xid, &mut bytes);
        }
        server.bytes(client.connection, &bytes);
        assert!(server.paused.contains(&client.connection));
    }
    for _ in 0..4 {
        server.pass_ms(slow.timeout_ms as u64 / 2);
        server.step(Input::Sent { connection: slow.connection, bytes: 1000 });
    }
    assert!(!server.closed.contains(&slow.connection) && server.closed.contains(&dead.connection));
    assert!(server.resume(&slow).is_some() && server.resume(&dead).is_none());
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

/// Reads that wait behind a write are answered before the next write of their connection, however much its client owes:
/// they must not see that write, and it must not be answered before them.
#[test]
fn large_reads_between_two_writes_of_one_flush_are_answered_in_their_places() {
    let mut server = Server::new();
    let client = server.client();
    let (before, after) = (vec![1; 1 << 20], vec![2; 1 << 20]);
    server.must(client, &create("/large", &before, PERSISTENT));
    server.deaf.insert(client.connection);
    server.slow_disk = true;
    server.send(client, 1, &set("/", b"", -1));
    for xid in 2..=4 {
        server.send(client, xid, &get("/large", false));
    }
    server.send(client, 5, &set("/large", &after, -1));
    server.send(client, 6, &get("/large", false));
    server.disk_finishes();
    server.step(Input::Sent { connection: client.connection, bytes: 10 << 20 });
    let replies = server.replies(client);
    assert_eq!(
        replies.iter().map(|reply| (reply.xid, reply.err)).collect::<Vec<_>>(),
        (1..=6).map(|xid| (xid, 0)).collect::<Vec<_>>()
    );
    for (reply, expected) in [(1, &before), (2, &before), (3, &before), (5, &after)] {
        assert_eq!(&replies[reply].body[4..][..1 << 20], &expected[..], "{reply}");
    }
}

/// What a `sync` waits for and the next write of its connection may come out of the same flush.
#[test]
fn a_sync_between_two_writes_of_one_flush_is_answered_in_its_place() {
    let mut server = Server::new();
    let (client, other) = (server.client(), server.client());
    server.slow_disk = true;
    server.send(other, 1, &set("/", b"theirs", -1));
    server.send(client, 1, &Request::Sync { path: Some("/".into()) });
    server.send(client, 2, &get("/", false));
    server.send(client, 3, &set("/", b"mine", -1));
    server.disk_finishes();
    let replies = server.replies(client);
    assert_eq!(replies.iter().map(|reply| reply.xid).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(matches!(replies[1].response(OpCode::GetData), Response::Data { data: Some(b"theirs"), .. }));
}

/// Answers that must be worked out before a write, to a client that reads nothing, have a bound all the same.
#[test]
fn a_client_that_owes_far_too_much_ahead_of_its_next_write_is_closed_and_the_write_stands() {
    let mut server = Server::new();
    let (client, other) = (server.client(), server.client());
    server.must(other, &create("/large", b"", PERSISTENT));
    server.deaf.insert(client.connection);
    server.slow_disk = true;
    // Nobody could foresee what these reads will cost.
    server.send(client, 1, &set("/large", &[1; 1 << 20], -1));
    for xid in 2..100 {
        server.send(client, xid, &get("/large", false));
    }
    server.send(client, 100, &set("/", b"stands", -1));
    server.disk_finishes();
    server.slow_disk = false;
    assert!(server.closed.contains(&client.connection));
    assert!(server.replies(client).len() < 70, "64 MiB of answers, not 98");
    let read = server.must(other, &get("/", false));
    assert!(matches!(read.response(OpCode::GetData), Response::Data { data: Some(b"stands"), .. }));
}

/// A client that does take its answers gets all of them, however many large reads it has between two writes.
#[test]
fn a_hundred_large_reads_between_two_writes_are_served_a_few_at_a_time() {
    let mut server = Server::new();
    let client = server.client();
    server.must(client, &create("/large", &[1; 1 << 20], PERSISTENT));
    server.slow_disk = true;
    let mut asked = Vec::new();
    set("/", b"first", -1).encode(1, &mut asked);
    (2..=101).for_each(|xid| get("/large", false).encode(xid, &mut asked));
    set("/", b"second", -1).encode(102, &mut asked);
    server.bytes(client.connection, &asked);
    server.disk_finishes();
    server.disk_finishes();
    let xids: Vec<i32> = server.replies(client).iter().map(|reply| reply.xid).collect();
    assert_eq!(xids, (1..=102).collect::<Vec<_>>());
}

/// While the disk stalls, large writes wait in their client's socket and not in our memory.
#[test]
fn a_client_has_a_few_megabytes_of_requests_under_way_at_most_and_none_is_skipped() {
    let mut server = Server::new();
    let client = server.client();
    server.slow_disk = true;
    let mut asked = Vec::new();
    for xid in 1..=40 {
        set("/", &[xid as u8; 1_000_000], -1).encode(xid, &mut asked);
    }
    let logged = server.log.len();
    server.bytes(client.connection, &asked);
    assert!(server.paused.contains(&client.connection), "and its socket is not read");
    assert!((8..=10).contains(&(server.log.len() - logged)), "{} MB admitted", server.log.len() - logged);
    server.slow_disk = false;
    server.disk_finishes();
    assert!(!server.paused.contains(&client.connection));
    let xids: Vec<i32> = server.replies(client).iter().map(|reply| reply.xid).collect();
    assert_eq!(xids, (1..=40).collect::<Vec<_>>());
}
