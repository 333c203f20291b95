//! What the log holds makes the same tree again, and a snapshot is exactly the tree at one zxid.

use proptest::collection::vec;
use proptest::prelude::*;
use ringkeeper::core::tree::{DataTree, MemorySnapshot, TreeOptions, Unwatched};
use ringkeeper::core::{Input, Output, SessionId, Settings};
use ringkeeper::wire::client::{MultiOp, Request};
use ringkeeper::wire::txn::decode_txn;

use crate::harness::*;

/// ZOOKEEPER-3127 (20.21).
#[test]
fn every_logged_digest_is_the_one_replay_finds() {
    let mut server = Server::new();
    let client = server.client();
    server.slow_disk = true;
    let mut bytes = Vec::new();
    for (xid, request) in [
        create("/p", b"1", PERSISTENT),
        create("/p/e", b"", EPHEMERAL),
        create("/p/s-", b"", SEQUENTIAL),
        set("/p", b"22", 0),
        set("/p", b"333", 1),
        Request::SetAcl { path: Some("/p".into()), acl: Some(open_acl()), version: -1 },
        set("/", b"root", -1),
        delete("/p/s-0000000001", -1),
        delete("/nothing", -1),
        Request::Multi(vec![
            MultiOp::Create(create_request("/p/m", b"x", 0)),
            MultiOp::SetData { path: Some("/p/m".into()), data: None, version: 0 },
        ]),
        Request::Multi(vec![
            MultiOp::Create(create_request("/p/n", b"x", 0)),
            MultiOp::Check { path: Some("/p/m".into()), version: 77 },
        ]),
        create("/zookeeper/mine", b"", PERSISTENT),
        create("/zookeeper/quota/x", b"", PERSISTENT),
        create("/zookeeper/quota/x/y", b"", PERSISTENT),
        Request::CloseSession,
    ]
    .into_iter()
    .enumerate()
    {
        request.encode(xid as i32, &mut bytes);
    }
    server.bytes(client.connection, &bytes);
    server.disk_finishes();
    assert_eq!(server.replies(client).len(), 15);
    let mut tree = DataTree::new(TreeOptions::default());
    let mut compared = 0;
    for (zxid, bytes) in &server.log {
        let (header, txn, digest) = decode_txn(bytes).unwrap();
        tree.apply(&header, &txn, &mut Unwatched);
        if let Some(digest) = digest {
            assert_eq!(tree.digest() as i64, digest.tree_digest, "{zxid}: {txn:?}");
            compared += 1;
        }
    }
    assert_eq!(compared, 15, "all but the one refused single request");
    assert_eq!(tree.digest(), server.node.tree().digest());
}

/// ZOOKEEPER-3127 (20.21).
#[test]
fn a_snapshot_is_the_tree_at_its_zxid_whatever_is_written_meanwhile() {
    let mut server = Server::new();
    let client = server.client();
    for number in 0..3000 {
        server.must(client, &create(&format!("/n{number}"), &[b'x'; 100], PERSISTENT));
    }
    let mut out = Vec::new();
    server.node.step(server.now, Input::SnapshotWanted, &mut out);
    let Some(Output::SnapshotBegin(header)) = out.pop() else { panic!("{out:?}") };
    assert_eq!(header.sessions, [(client.session.0, 10_000)]);
    let digest = server.node.tree().digest();
    let mut images = Vec::new();
    let mut changed = 0;
    'walk: loop {
        // Between any two slices: change, delete and create on both sides of the walk.
        for number in [changed, 1500 + changed / 2, 2999 - changed] {
            let path = format!("/n{number}");
            server.ask(client, &set(&path, b"changed", -1));
            server.ask(client, &create(&format!("{path}/child"), b"", PERSISTENT));
        }
        server.ask(client, &delete(&format!("/n{}", 700 + changed), -1));
        server.must(client, &create(&format!("/new{changed}"), b"", PERSISTENT));
        changed += 1;
        let mut out = Vec::new();
        server.node.step(server.now, Input::SnapshotRoom { chunks: 1 }, &mut out);
        for output in out {
            match output {
                Output::SnapshotChunk(chunk) => images.extend(chunk.nodes),
                Output::SnapshotFinish => break 'walk,
                other => panic!("{other:?}"),
            }
        }
    }
    let snapshot = MemorySnapshot::new((*header).clone(), images);
    let mut loaded = DataTree::load(Box::new(snapshot), TreeOptions::default()).unwrap();
    assert_eq!(loaded.move_some(usize::MAX).expect("all of it").contradiction, None);
    assert_eq!((loaded.digest(), loaded.node_count()), (digest, header.node_count));
    assert_ne!(server.node.tree().digest(), digest, "the live tree went on");
    server.step(Input::SnapshotEnded);
    assert!(!server.node.snapshot_running());
}

#[test]
fn a_snapshot_that_cannot_keep_up_or_outlives_the_server_is_given_up() {
    let mut server = Server::with(Settings { snapshot_backlog_max_bytes: 100_000, ..Settings::default() });
    let client = server.client();
    for number in 0..20 {
        server.must(client, &create(&format!("/n{number}"), &[b'x'; 10_000], PERSISTENT));
    }
    let abandoned = |out: &[Output]| out.iter().any(|output| matches!(output, Output::SnapshotAbandon { .. }));
    server.node.step(server.now, Input::SnapshotWanted, &mut Vec::new());
    server.slow_disk = true;
    (0..20).for_each(|number| server.send(client, number, &set(&format!("/n{number}"), b"", -1)));
    let mut out = Vec::new();
    let through = server.log.last().unwrap().0;
    server.node.step(server.now, Input::LogDurable { through }, &mut out);
    assert!(abandoned(&out), "nobody took 200 kB of old images");
    assert_eq!(server.node.tree().snapshot_backlog_bytes(), 0);
    let mut out = Vec::new();
    server.node.step(server.now, Input::SnapshotRoom { chunks: 3 }, &mut out);
    server.node.step(server.now, Input::SnapshotWanted, &mut out);
    assert!(out.is_empty(), "neither chunks nor a second one before the store has let go: {out:?}");
    server.node.step(server.now, Input::SnapshotEnded, &mut out);
    server.node.step(server.now, Input::SnapshotWanted, &mut out);
    assert!(matches!(out[..], [Output::SnapshotBegin(_)]));
    server.node.step(server.now, Input::Shutdown, &mut out);
    assert!(abandoned(&out), "a stop does not wait for a snapshot");
}

/// Requests of every kind, from a small random number. Two nodes with data are a slice of the move.
fn request<'a>(path: &'a str, what: u8) -> Request<'a> {
    match what {
        0 | 1 => create(path, &[b'n'; 20_000], PERSISTENT),
        2 => create(path, b"mine", EPHEMERAL),
        3 => delete(path, -1),
        4 => set(path, b"set", -1),
        5 => Request::SetAcl { path: Some(path.into()), acl: Some(acl(31, "ip", "127.0.0.1")), version: -1 },
        6 => get(path, false),
        7 => children(path, false),
        8 => Request::GetAllChildrenNumber { path: Some(path.into()) },
        9 => Request::GetEphemerals { prefix: Some("/".into()) },
        10 => create(path, b"", SEQUENTIAL),
        _ => Request::GetAcl { path: Some(path.into()) },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Three servers on the same disk: one moved into memory before the first request, one that moves between requests, and
    /// one that never does. No client can tell them apart.
    #[test]
    fn a_moving_server_answers_as_one_in_memory(
        before in vec((0..40usize, 0..12u8), 0..80),
        behind in vec((0..40usize, 0..6u8), 0..20),
        after in vec((0..40usize, 0..12u8, 0..4u8), 1..80),
    ) {
        let paths: Vec<String> = (0..40).map(|at| match at {
            0..10 => format!("/a{at}"),
            10..25 => format!("/a{}/b{at}", at % 3),
            _ => format!("/a{}/b{}/c{at}", at % 2, 10 + at % 6),
        }).collect();
        let mut server = Server::new();
        let client = server.client();
        for (at, what) in before {
            server.ask(client, &request(&paths[at], what));
        }
        let snapshots = [0; 3].map(|_| server.snapshot());
        for (at, what) in behind {
            server.ask(client, &request(&paths[at], what));
        }
        let [mut whole, mut moving, mut resting] = snapshots.map(|snapshot| server.restarted_on(snapshot, Settings::default()));
        while whole.node.is_moving() {
            whole.step(Input::MoveNodes);
        }
        let clients = [&mut whole, &mut moving, &mut resting].map(|server| server.resume(&client).expect("its session"));
        for (at, what, moves) in after {
            let asked = request(&paths[at], what);
            let expected = whole.ask(clients[0], &asked);
            if moves == 0 {
                moving.step(Input::MoveNodes);
            }
            prop_assert_eq!(&moving.ask(clients[1], &asked), &expected);
            prop_assert_eq!(&resting.ask(clients[2], &asked), &expected);
        }
        prop_assert_eq!(moving.node.tree().digest(), whole.node.tree().digest());
        for mut server in [whole, moving, resting] {
            while server.node.is_moving() {
                server.step(Input::MoveNodes);
            }
            prop_assert_eq!(server.node.metrics_mut().digest_mismatches_count, 0);
        }
    }
}

#[test]
fn a_snapshot_wanted_while_nodes_are_moving_begins_when_they_have_moved() {
    let mut server = Server::new();
    let client = server.client();
    server.must(client, &create("/a", &[b'x'; 200_000], PERSISTENT));
    let snapshot = server.snapshot();
    let mut again = server.restarted_on(snapshot, Settings::default());
    let mut out = Vec::new();
    again.node.step(again.now, Input::SnapshotWanted, &mut out);
    assert!(out.is_empty() && again.node.is_moving() && !again.node.snapshot_running());
    while out.is_empty() {
        again.node.step(again.now, Input::MoveNodes, &mut out);
    }
    assert!(!again.node.is_moving());
    assert!(matches!(&out[..], [Output::Moved(moved), Output::SnapshotBegin(_)] if moved.nodes == 5), "{out:?}");
}

#[test]
fn a_restarted_server_counts_on() {
    let mut server = Server::new();
    let client = server.client();
    let last = server.must(client, &create("/a", b"", PERSISTENT)).zxid;
    let mut again = server.restarted(Default::default());
    let connection = again.accept();
    again.bytes(connection, &Server::connect_frame(SessionId(0), &[0; 16], 10_000, last));
    let client = again.welcomed(connection).expect("we have all it has seen");
    assert_eq!(again.must(client, &create("/b", b"", PERSISTENT)).zxid, last + 2);
}

#[test]
fn containers_are_looked_at_when_they_are_in_memory() {
    let mut server = Server::new();
    let client = server.client();
    server.must(client, &Request::CreateContainer(create_request("/box", b"", 4)));
    server.must(client, &create("/box/c", b"", PERSISTENT));
    server.must(client, &delete("/box/c", -1));
    let snapshot = server.snapshot();
    let mut again = server.restarted_on(snapshot, Settings::default());
    again.pass_ms(61_000);
    assert!(again.node.is_moving() && again.node.tree().find("/box").is_some());
    while again.node.is_moving() {
        again.step(Input::MoveNodes);
    }
    again.pass_ms(1000);
    assert!(again.node.tree().find("/box").is_none());
}
