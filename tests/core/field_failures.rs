//! Failures that ensembles had in the field, on whole nodes: `docs/FIELD_FAILURES.md` has all of them, with the tests that stand
//! on other rungs.

use ringkeeper::core::Zxid;
use ringkeeper::core::types::RoleView;
use ringkeeper::wire::client::Request;

use super::ensemble::ask;
use super::ensemble_harness::{Ensemble, quick};
use super::harness::{Client, EPHEMERAL, PERSISTENT, create};

fn write(ensemble: &mut Ensemble, at: i64, client: Client, path: &str) {
    assert_eq!(ask(ensemble, at, client, &create(path, b"", PERSISTENT)), 0, "{path}");
}

/// Server 5 missed three transactions and has them from a DIFF; server 1 still misses them. Then everybody else goes: only what 5
/// keeps of that DIFF can bring 1 up to date without log and snapshot.
fn brought_up_by_a_diff(ensemble: &mut Ensemble) {
    ensemble.settle();
    let newest = ensemble.leader();
    for id in [1, 5] {
        ensemble.crash(id);
    }
    if newest == 5 {
        ensemble.settle();
    }
    let leader = ensemble.leader();
    assert!((2..=4).contains(&leader));
    let client = ensemble.client(leader);
    for path in ["/a", "/b", "/c"] {
        write(ensemble, leader, client, path);
    }
    ensemble.start(5);
    ensemble.settle();
    assert_eq!(ensemble.leader(), leader, "it follows");
}

/// ZOOKEEPER-4925 (20.7). What a server applied while it was synchronised was not in its window, and a later leader left it out.
#[test]
fn case_20_7_what_came_by_a_diff_is_passed_on_by_a_diff() {
    let mut ensemble = Ensemble::of(5, 0, quick());
    brought_up_by_a_diff(&mut ensemble);
    let leader = ensemble.leader();
    ensemble.crash(leader);
    ensemble.settle();
    assert_eq!(ensemble.leader(), 5, "the same history, and the largest id");
    ensemble.start(1);
    ensemble.settle();
    assert_eq!(ensemble.log_reads_and_installs(), (0, 0));
    ensemble.assert_agreed();
    assert!(ensemble.server(1).node.tree().find("/c").is_some());
}

/// ZOOKEEPER-3526 (20.17). A server that had been in read-only mode led with a window that was not the history's, and made others
/// cut off what was committed.
#[test]
fn case_20_17_read_only_mode_leaves_the_window_alone() {
    let mut settings = quick();
    settings.ensemble.read_only_mode = true;
    let mut ensemble = Ensemble::of(5, 0, settings);
    brought_up_by_a_diff(&mut ensemble);
    for id in [2, 3, 4] {
        ensemble.crash(id);
    }
    (0..30).for_each(|_| ensemble.pass_ms(100));
    let (reader, read_only) = ensemble.connect(5, Some(true), &Client::NOBODY).expect("a reader");
    assert!(read_only);
    assert_ne!(ask(&mut ensemble, 5, reader, &create("/d", b"", PERSISTENT)), 0);
    assert_eq!(ask(&mut ensemble, 5, reader, &Request::CloseSession), 0);
    for id in [1, 2, 3] {
        ensemble.start(id);
    }
    ensemble.settle();
    assert_eq!(ensemble.leader(), 5);
    assert_eq!((ensemble.log_reads_and_installs(), ensemble.cuts()), ((0, 0), 0));
    ensemble.assert_agreed();
    assert!(ensemble.server(1).node.tree().find("/c").is_some());
}

/// ZOOKEEPER-1549 (20.2). A leader that came to nothing had a snapshot of its tail, and the tail came back out of it after TRUNC.
#[test]
fn case_20_2_what_is_not_known_committed_is_in_no_snapshot() {
    let mut ensemble = Ensemble::settled();
    let leader = ensemble.leader();
    let client = ensemble.client(leader);
    write(&mut ensemble, leader, client, "/kept");
    let kept = ensemble.server(leader).node.last_processed();
    ensemble.cut_off_silently(leader);
    ensemble.at(leader, |server| server.send(client, 1, &create("/dirty", b"", EPHEMERAL)));
    ensemble.cut_off(leader);
    (0..35).for_each(|_| ensemble.pass_ms(200));
    assert!(matches!(ensemble.role(leader), RoleView::Looking { .. }));
    assert!(ensemble.server(leader).node.tree().find("/dirty").is_some(), "it votes with all that it logged");
    assert_eq!(ensemble.at(leader, |server| server.wants_snapshot()), None, "not now");
    ensemble.rejoin(leader);
    ensemble.settle();
    assert_eq!(ensemble.cuts(), 1);
    ensemble.assert_agreed();
    assert!(ensemble.server(leader).node.tree().find("/dirty").is_none());
    assert_eq!(ensemble.server(leader).snapshot_begun, Some(kept), "put off until it serves");
}

/// ZOOKEEPER-2845 (20.10). A server went from role to role without its log's tail in memory: as the next leader it counted on from
/// where its memory ended.
#[test]
fn case_20_10_the_logs_tail_is_in_memory_before_the_next_role() {
    let mut ensemble = Ensemble::settled();
    let leader = ensemble.leader();
    let [one, two] = ensemble.followers()[..] else { panic!("two followers") };
    let client = ensemble.client(leader);
    write(&mut ensemble, leader, client, "/before");
    let before = ensemble.server(leader).node.last_processed();
    // Both followers have it in their logs, and nobody has been told that it is committed.
    for id in [leader, one, two] {
        ensemble.server(id).slow_disk = true;
    }
    ensemble.at(leader, |server| server.send(client, 1, &create("/tail", b"", PERSISTENT)));
    ensemble.cut_off(leader);
    for id in [one, two] {
        assert!(ensemble.server(id).node.tree().find("/tail").is_none());
        ensemble.at(id, |server| {
            server.slow_disk = false;
            server.disk_finishes();
        });
        assert!(ensemble.server(id).node.tree().find("/tail").is_some(), "{id} goes to vote");
    }
    (0..40).for_each(|_| ensemble.pass_ms(200));
    let next = ensemble.leader();
    assert_ne!(next, leader);
    let writer = ensemble.client(next);
    assert_eq!(ask(&mut ensemble, next, writer, &create("/tail", b"", PERSISTENT)), NODE_EXISTS);
    assert_eq!(
        ensemble.server(next).log[..]
            .iter()
            .filter(|(zxid, _)| zxid.epoch() == before.epoch())
            .last()
            .map(|(zxid, _)| *zxid,),
        Some(Zxid(before.0 + 1))
    );
    ensemble.at(leader, |server| {
        server.slow_disk = false;
        server.disk_finishes();
    });
    ensemble.rejoin(leader);
    ensemble.settle();
    ensemble.assert_agreed();
}

/// 20.24: a server that was given a whole state is told to cut below it. It gives that state up, and is given another one.
#[test]
fn case_20_24_a_state_that_cannot_be_cut_is_given_up() {
    let mut ensemble = Ensemble::of(3, 1, quick());
    ensemble.settle();
    let (leader, observer) = (ensemble.leader(), 4);
    let [ahead, behind] = ensemble.followers()[..2] else { panic!("two followers") };
    let client = ensemble.client(leader);
    write(&mut ensemble, leader, client, "/kept");
    ensemble.crash(observer);
    ensemble.wipe(observer);
    // Of three voters one has the tail.
    ensemble.cut_off(behind);
    ensemble.server(leader).slow_disk = true;
    ensemble.at(leader, |server| server.send(client, 1, &create("/tail", b"", PERSISTENT)));
    ensemble.crash(leader);
    // It is elected, and the observer has all of its state before a quorum has.
    ensemble.server(behind).slow_disk = true;
    ensemble.rejoin(behind);
    ensemble.start(observer);
    for _ in 0..40 {
        if ensemble.server(observer).node.tree().find("/tail").is_some() {
            break;
        }
        ensemble.pass_ms(100);
    }
    assert!(matches!(ensemble.role(ahead), RoleView::Leading { serving: false, .. }), "{:?}", ensemble.role(ahead));
    assert_eq!(ensemble.log_reads_and_installs().1, 1);
    // The others go on without the tail.
    for id in [ahead, behind] {
        ensemble.crash(id);
    }
    for id in [leader, behind] {
        ensemble.start(id);
    }
    ensemble.settle();
    ensemble.assert_agreed();
    let tree = ensemble.server(observer).node.tree();
    assert!(tree.find("/kept").is_some() && tree.find("/tail").is_none());
    assert_eq!((ensemble.cuts(), ensemble.log_reads_and_installs().1), (1, 2));
    ensemble.start(ahead);
    ensemble.settle();
    ensemble.assert_agreed();
    assert_eq!((ensemble.cuts(), ensemble.log_reads_and_installs().1), (2, 2), "that one can be cut");
}

/// ZOOKEEPER-4712 (20.25). What an abandoned role had under way was acknowledged to the next leader.
#[test]
fn case_20_25_a_role_begins_when_everything_of_the_one_before_has_ended() {
    let mut ensemble = Ensemble::settled();
    let (leader, follower) = (ensemble.leader(), ensemble.followers()[0]);
    let client = ensemble.client(leader);
    ensemble.server(follower).slow_disk = true;
    write(&mut ensemble, leader, client, "/a");
    ensemble.cut_off(follower);
    ensemble.rejoin(follower);
    // Its leader can be reached; its own disk is not done.
    (0..20).for_each(|_| ensemble.pass_ms(100));
    assert!(matches!(ensemble.role(follower), RoleView::Looking { .. }));
    // The commit came before its own disk was done: what it would vote for is not yet what a crash would leave.
    assert!(ensemble.server(follower).node.tree().find("/a").is_some());
    ensemble.at(follower, |server| {
        server.slow_disk = false;
        server.disk_finishes();
    });
    ensemble.settle();
    assert_eq!(ensemble.leader(), leader);
    ensemble.assert_agreed();
}

const NODE_EXISTS: i32 = -110;
