//! Starting from a snapshot: served before it is in memory, and the same data before, while and after it moves.

use std::sync::Arc;

use ringkeeper::wire::client::{Acl, CreateRequest, MultiOp, Request, perms};

use crate::harness::*;

const NODES: usize = 50_000;
/// Children of a directory, and items of the transaction that makes them.
const DIRECTORY: usize = 500;

fn path(node: usize) -> String {
    format!("/d{:03}/node-{node:06}", node / DIRECTORY)
}

fn data(node: usize) -> Vec<u8> {
    format!("{node:0100}").into_bytes()
}

/// A server that has [`NODES`] nodes in a snapshot, and some changes since in its log.
fn with_a_snapshot(setup: Setup) -> Server {
    let server = setup.with("snapCount=60").start();
    let mut client = server.client();
    let anyone = || Some(vec![Acl { perms: perms::ALL, scheme: Some("world".into()), id: Some("anyone".into()) }]);
    for directory in 0..NODES / DIRECTORY {
        client.must(&create(&format!("/d{directory:03}"), b""));
        let names = (0..DIRECTORY).map(|at| directory * DIRECTORY + at).map(|node| (path(node), data(node)));
        let nodes: Vec<_> = names.collect();
        let item = |(path, data)| {
            let (path, data): (&String, &Vec<u8>) = (path, data);
            MultiOp::Create(CreateRequest {
                path: Some(path.as_str().into()),
                data: Some(data),
                acl: anyone(),
                flags: 0,
            })
        };
        client.must(&Request::Multi(nodes.iter().map(|(path, data)| item((path, data))).collect()));
    }
    let taken = || server.process.lines_with(&["Snapshot taken"]);
    let before = taken().len();
    eventually("a snapshot of all nodes", || {
        client.must(&set("/d000", b"once more"));
        taken().len() > before + 1
    });
    client.must(&set(&path(1), b"changed"));
    client.must(&Request::Delete { path: Some(path(2).into()), version: -1 });
    client.must(&create("/d000/new", b"born"));
    server
}

#[test]
fn a_restarted_server_serves_while_its_nodes_move_into_memory() {
    each_layout(|executors| {
        let setup = Setup::new(executors);
        let directory = with_a_snapshot(setup.clone()).stop();
        let server = setup.start_in(directory);
        let mut client = server.client();
        // Everywhere in the snapshot at once, whatever has moved by now.
        for round in 0..100 {
            let node = 3 + (round * 7919) % (NODES - 3);
            assert_eq!(client.must(&get(&path(node))).data(), data(node));
            client.must(&set(&path(node), &data(node)));
            let twin = format!("{}-twin", path(node));
            client.must(&create(&twin, b""));
            client.must(&Request::Delete { path: Some(twin.into()), version: -1 });
        }
        assert_eq!(client.must(&get(&path(1))).data(), b"changed");
        assert_eq!(client.err(&get(&path(2))), -101);
        assert_eq!(client.must(&get("/d000/new")).data(), b"born");
        assert_eq!(client.err(&create(&path(NODES - 1), b"")), -110);
        eventually("everything is in memory", || server.gauge("ringkeeper_unmoved_slots") == 0);
        eventually("it says so", || server.process.lines_with(&["INFO", "nodes of snapshot", "in memory"]).len() == 1);
        assert_eq!(server.gauge("digest_mismatches_count"), 0, "{}", server.process.log());
        for (directory, count) in [("/d000", DIRECTORY), ("/d050", DIRECTORY), ("/d099", DIRECTORY)] {
            assert_eq!(client.must(&children(directory)).names().len(), count);
        }
        // In order again: the move is over, so a snapshot may be taken.
        let directory = Arc::clone(&server.directory);
        server.stop();
        let again = Setup::new(executors).start_in(directory);
        assert_eq!(again.client().must(&get(&path(NODES - 1))).data(), data(NODES - 1));
    });
}
