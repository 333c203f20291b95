//! What the log holds makes the same tree again, and a snapshot is exactly the tree at one zxid.

use ringkeeper::core::tree::{DataTree, TreeLoader, TreeOptions, Unwatched};
use ringkeeper::core::{Input, Output, SessionId, Settings};
use ringkeeper::wire::client::{MultiOp, Request};
use ringkeeper::wire::txn::decode_txn;

use crate::harness::*;

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
    let mut loader = TreeLoader::new(&header, TreeOptions::default()).unwrap();
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
                Output::SnapshotChunk(chunk) => {
                    chunk.nodes.into_iter().for_each(|image| loader.add(image).unwrap());
                }
                Output::SnapshotFinish => break 'walk,
                other => panic!("{other:?}"),
            }
        }
    }
    let loaded = loader.finish().unwrap();
    assert_eq!((loaded.digest(), loaded.node_count()), (digest, header.node_count));
    assert_ne!(server.node.tree().digest(), digest, "the live tree went on");
    server.step(Input::SnapshotEnded { ok: true });
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
    server.node.step(server.now, Input::SnapshotEnded { ok: false }, &mut out);
    server.node.step(server.now, Input::SnapshotWanted, &mut out);
    assert!(matches!(out[..], [Output::SnapshotBegin(_)]));
    server.node.step(server.now, Input::Shutdown, &mut out);
    assert!(abandoned(&out), "a stop does not wait for a snapshot");
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
