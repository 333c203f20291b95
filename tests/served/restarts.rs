//! Starting from a snapshot: served before it is in memory, and the same data before, while and after it moves.

use std::process::Command;
use std::sync::Arc;

use ringkeeper::config::{Config, Source};
use ringkeeper::shell::settings::Settings;
use ringkeeper::shell::signals::StopRequest;
use ringkeeper::shell::{node_host, start};
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

const CONFIG_OF_CHILD: &str = "RINGKEEPER_TEST_UNCHECKED_START";

/// Not a test of its own: the server of the next one. It checks no snapshot from end to end at its start, however small.
#[test]
fn unchecked_start_child() {
    let Some(file) = std::env::var_os(CONFIG_OF_CHILD) else { return };
    let (config, _) = Config::load(&Source::File(file.into()), &|_| None, &[]).unwrap();
    let mut settings = Settings::from_config(&config).unwrap();
    settings.store.snapshot_checked_bytes = 0;
    let ended = start::serve(settings, node_host::load(&config), StopRequest::default(), |_| {});
    std::process::exit(ended.map_or_else(|failure| failure.exit_code().into(), |_| 0));
}

/// Damage in the middle of a large file is found when the move comes by: the process ends and says what is wrong and what
/// a restart will do. The restart does it.
#[test]
fn a_server_that_meets_damage_ends_and_the_next_start_does_without_that_snapshot() {
    let setup = Setup::new(1);
    let directory = with_a_snapshot(setup.clone()).stop();
    let files = || {
        let files = std::fs::read_dir(directory.path().join("data/ringkeeper-1")).unwrap();
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "rks"));
        files.sort();
        files
    };
    let before = files();
    assert!(before.len() > 1, "{before:?}");
    let newest = before.last().unwrap();
    let mut bytes = std::fs::read(newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(newest, bytes).unwrap();

    let config = setup.write_config(directory.path(), &directory.path().join("data"), free_port());
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "restarts::unchecked_start_child", "--nocapture"]).env(CONFIG_OF_CHILD, config);
    let mut process = Process::of(child);
    let status = process.wait();
    let said = process.log();
    assert_eq!(status.code(), Some(1), "{said}");
    let name = newest.file_name().unwrap().to_str().unwrap();
    for words in ["cannot be used: ", name, "chunk ", "set aside", "a restart uses an older snapshot"] {
        assert!(said.contains(words), "{words:?} in {said}");
    }
    assert_eq!(files(), before[..before.len() - 1]);

    let server = setup.start_in(directory.clone());
    let mut client = server.client();
    for node in (3..NODES).step_by(997) {
        assert_eq!(client.must(&get(&path(node))).data(), data(node));
    }
    assert_eq!((client.must(&get(&path(1))).data(), client.err(&get(&path(2)))), (&b"changed"[..], -101));
    eventually("everything is in memory", || server.gauge("ringkeeper_unmoved_slots") == 0);
    assert_eq!(server.gauge("digest_mismatches_count"), 0, "{}", server.process.log());
}
