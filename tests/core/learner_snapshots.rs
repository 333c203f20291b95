//! Snapshots for learners and for the disk, several at a time: what a slow learner costs, and whom.

use ringkeeper::core::types::RoleView;
use ringkeeper::core::{Input, LinkMessage, Output, Settings};

use super::ensemble_harness::{Ensemble, quick};
use super::harness::{Client, PERSISTENT, create, set};

const NODES: usize = 400;

/// An ensemble of five with some half a megabyte of nodes, its leader, and two followers who have lost their disks.
fn two_wiped(settings: Settings) -> (Ensemble, i64, Client, [i64; 2]) {
    let mut ensemble = Ensemble::of(5, 0, settings);
    ensemble.settle();
    let (leader, followers) = (ensemble.leader(), ensemble.followers());
    let client = ensemble.client(leader);
    for number in 0..NODES {
        let path = format!("/n{number}");
        ensemble.at(leader, |server| server.send(client, 1, &create(&path, &[b'x'; 1000], PERSISTENT)));
    }
    let wiped = [followers[0], followers[1]];
    for id in wiped {
        ensemble.crash(id);
        ensemble.wipe(id);
    }
    (ensemble, leader, client, wiped)
}

fn small_queues() -> Settings {
    let mut settings = quick();
    settings.ensemble.learner_queue_max_bytes = 256 * 1024;
    settings.ensemble.commit_log_count = 10;
    settings
}

#[test]
fn a_slow_learner_keeps_nobody_waiting() {
    let (mut ensemble, leader, client, wiped) = two_wiped(small_queues());
    let now = ensemble.now;
    let mut out = Vec::new();
    ensemble.server(leader).node.step(now, Input::SnapshotWanted, &mut out);
    let Some(Output::SnapshotBegin(begun)) = out.pop() else { panic!("one for the disk begins") };
    // One of them stops in the middle.
    ensemble.clog(wiped[0]);
    ensemble.start(wiped[0]);
    for _ in 0..10 {
        ensemble.pass_ms(100);
    }
    ensemble.at(leader, |server| server.send(client, 1, &set("/n7", b"changed", -1)));
    ensemble.start(wiped[1]);
    for _ in 0..20 {
        ensemble.pass_ms(100);
    }
    let is_behind = |ensemble: &mut Ensemble, id: i64| ensemble.server(id).node.tree().find("/n7").is_none();
    assert!(is_behind(&mut ensemble, wiped[0]) && !is_behind(&mut ensemble, wiped[1]));
    // Nor the disk.
    let (mut nodes, mut over) = (0, false);
    while !over {
        ensemble.server(leader).node.step(now, Input::SnapshotRoom { chunks: 1 }, &mut out);
        for output in out.drain(..) {
            match output {
                Output::SnapshotChunk(chunk) => nodes += chunk.nodes.len() as u64,
                Output::SnapshotFinish => over = true,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(nodes, begun.node_count);
    ensemble.at(leader, |server| server.step(Input::SnapshotEnded));
    ensemble.unclog();
    ensemble.settle();
    ensemble.assert_agreed();
    for id in wiped {
        let told = ensemble.told(id);
        assert!(!told.contains("closed"), "it got all of it at the first attempt: {told}");
    }
}

#[test]
fn a_learner_that_takes_its_snapshot_too_slowly_is_dropped_and_comes_back() {
    let (mut ensemble, leader, client, wiped) =
        two_wiped(Settings { snapshot_backlog_max_bytes: 20_000, ..small_queues() });
    ensemble.clog(wiped[0]);
    ensemble.start(wiped[0]);
    for _ in 0..30 {
        ensemble.pass_ms(100);
    }
    assert!(!ensemble.told(leader).contains("too slowly"));
    for number in NODES - 30..NODES {
        let path = format!("/n{number}");
        ensemble.at(leader, |server| server.send(client, 1, &set(&path, b"changed", -1)));
    }
    assert!(ensemble.told(leader).contains("it takes its snapshot too slowly"), "{}", ensemble.told(leader));
    ensemble.unclog();
    ensemble.settle();
    ensemble.assert_agreed();
}

#[test]
fn the_disk_gives_way_to_a_slow_learner_where_memory_is_short() {
    let (mut ensemble, leader, client, wiped) =
        two_wiped(Settings { snapshot_backlog_max_bytes: 20_000, ..small_queues() });
    ensemble.start(wiped[1]);
    ensemble.clog(wiped[0]);
    ensemble.start(wiped[0]);
    for _ in 0..30 {
        ensemble.pass_ms(100);
    }
    assert!(ensemble.at(leader, |server| server.wants_snapshot()).is_some());
    let backlog = |ensemble: &mut Ensemble| ensemble.server(leader).node.tree().snapshot_backlog_bytes();
    let mut most = 0;
    for number in NODES - 12..NODES {
        let path = format!("/n{number}");
        ensemble.at(leader, |server| server.send(client, 1, &set(&path, b"changed", -1)));
        most = most.max(backlog(&mut ensemble));
    }
    assert!(backlog(&mut ensemble) < most && most <= 20_000, "{most}: its part is gone");
    ensemble.unclog();
    ensemble.settle();
    ensemble.assert_agreed();
    assert!(!ensemble.told(leader).contains("too slowly"), "{}", ensemble.told(leader));
}

#[test]
fn a_learner_without_room_for_its_snapshot_says_why_and_tries_once_a_tick() {
    let settings = small_queues();
    let tick_ms = u64::from(settings.ensemble.tick_ms);
    let (mut ensemble, _, _, wiped) = two_wiped(settings);
    ensemble.start(wiped[1]);
    ensemble.set_full(wiped[0], true);
    ensemble.start(wiped[0]);
    let ticks = 10;
    for _ in 0..ticks * tick_ms / 50 {
        ensemble.pass_ms(50);
    }
    let installs = ensemble.installs(wiped[0]);
    assert!((2..=ticks as usize + 1).contains(&installs), "{installs} attempts in {ticks} ticks");
    let RoleView::Looking { why } = ensemble.role(wiped[0]) else { panic!("it waits") };
    assert!(why.contains("could not be stored: no space left on device"), "{why}");
    ensemble.set_full(wiped[0], false);
    ensemble.settle();
    ensemble.assert_agreed();
}

/// What a learner counts as wrong digests whose leader's snapshot is ahead of itself: of two writes behind its zxid it has the
/// second one already. And whether it takes a snapshot of its own then.
fn received_ahead(from_java: bool) -> (u64, bool) {
    let (mut ensemble, leader, client, wiped) = two_wiped(small_queues());
    let learner = wiped[0];
    ensemble.start(wiped[1]);
    ensemble.settle();
    ensemble.hold_snapshot(learner, from_java);
    ensemble.start(learner);
    for _ in 0..10 {
        ensemble.pass_ms(100);
    }
    let write = |ensemble: &mut Ensemble, path| {
        ensemble.at(leader, |server| server.send(client, 1, &set(path, &[b'x'; 1000], -1)));
        ensemble.server(leader).node.tree().digest()
    };
    let (first, second) = (write(&mut ensemble, "/n1"), write(&mut ensemble, "/n2"));
    let tree = ensemble.server(leader).node.tree();
    let ahead = tree.raw_stat(tree.find("/n2").unwrap());
    ensemble.release_snapshot(|message| match message {
        LinkMessage::SnapshotBegin(header) => {
            header.tree_digest = header.tree_digest.wrapping_add(second).wrapping_sub(first);
        }
        LinkMessage::SnapshotChunk(chunk) => {
            for node in chunk.nodes.iter_mut().filter(|node| node.name == "n2") {
                (node.mzxid, node.mtime, node.version) = (ahead.mzxid, ahead.mtime, ahead.version);
            }
        }
        _ => {}
    });
    ensemble.settle();
    write(&mut ensemble, "/n3");
    ensemble.settle();
    ensemble.assert_agreed();
    while ensemble.server(learner).node.is_moving() {
        ensemble.at(learner, |server| server.step(Input::MoveNodes));
    }
    let node = &mut ensemble.server(learner).node;
    (node.metrics_mut().digest_mismatches_count, node.snapshot_running())
}

/// A Java leader goes on changing its tree while it sends it, until UPTODATE at the latest. A start would not know that.
#[test]
fn a_state_between_two_transactions_is_no_wrong_tree_and_is_soon_replaced_on_disk() {
    assert_eq!(received_ahead(true), (0, true));
    assert_eq!(received_ahead(false), (1, false), "ours are exact");
}
