//! Bringing learners up to the history, while it goes on. Spec: quorum-protocol 7, 20.1, 20.6-20.9, 20.18, 20.19.

use super::scene::{Scene, TICK_US, request, settings, z};
use crate::core::settings::Ensemble;
use crate::core::types::{EpochKind, LinkId, Zxid};
use crate::core::zab::catch_up::SyncKind;
use crate::wire::quorum::{PROTOCOL_JAVA, Packet};

#[test]
fn a_learner_in_the_window_gets_the_rest_of_it() {
    let mut scene = Scene::with_history();
    scene.establish_with(2, z(5, 3));
    assert_eq!(
        scene.joins(3, z(4, 9)),
        "3< DIFF 5.3|3< P 5.1|3< C 5.1|3< P 5.2|3< C 5.2|3< P 5.3|3< C 5.3|3< NEWLEADER 6.0"
            .split('|')
            .collect::<Vec<_>>()
    );
    assert_eq!(scene.synchronised(3), ["3< UPTODATE"]);
}

#[test]
fn a_learner_with_everything_gets_nothing() {
    let mut scene = Scene::leading();
    assert_eq!(scene.joins(3, z(5, 3)), ["3< DIFF 5.3", "3< NEWLEADER 6.0"]);
    assert_eq!(scene.joins(4, z(6, 0)), ["4< DIFF 6.0", "4< NEWLEADER 6.0"]);
}

#[test]
fn a_learner_with_too_much_cuts_it_off() {
    let mut scene = Scene::leading();
    assert_eq!(scene.joins(3, z(5, 9)), ["3< TRUNC 5.3", "3< NEWLEADER 6.0"]);
}

#[test]
fn a_divergent_learner_gets_a_snapshot() {
    let mut scene = Scene::leading();
    assert_eq!(scene.joins(3, z(4, 11)), ["! snapshot for 3"]);
    assert_eq!(scene.joins(4, None), ["! snapshot for 4"]);
}

/// 20.6, seen from the leader: P1 C1 P2 | NEWLEADER | C2 P3 | UPTODATE | C3.
#[test]
fn proposals_and_commits_fall_between_everything() {
    let mut scene = Scene::leading();
    scene.writes();
    scene.proposes();
    scene.durable(z(6, 2));
    let told = scene.joins(3, z(5, 3));
    assert_eq!(told, ["3< DIFF 6.1", "3< P 6.1", "3< C 6.1", "3< P 6.2", "3< NEWLEADER 6.0"]);
    assert_eq!(scene.acks(2, z(6, 2)), ["3< C 6.2", "2< C 6.2"]);
    assert_eq!(scene.proposes(), ["2< P 6.3", "3< P 6.3"]);
    assert_eq!(scene.synchronised(3), ["3< UPTODATE"]);
    scene.durable(z(6, 3));
    assert_eq!(scene.acks(3, z(6, 3)), ["2< C 6.3", "3< C 6.3"], "its ack counts");
}

/// 20.6 on the other side: Java's NEWLEADER forgets the proposals before it. A COMMIT of one then ends the learner, and the configuration
/// that one of them proposed is replaced by that of NEWLEADER. An observer is told of what is committed alone.
#[test]
fn a_java_voter_hears_of_what_is_in_flight_when_it_serves() {
    let mut scene = Scene::leading();
    scene.writes();
    scene.proposes();
    scene.durable(z(6, 2));
    scene.learner_protocol = PROTOCOL_JAVA;
    let told = scene.joins(3, z(5, 3));
    assert_eq!(told, ["3< DIFF 6.1", "3< P 6.1", "3< C 6.1", "3< NEWLEADER 6.0"]);
    assert_eq!(scene.joins(4, z(5, 3)), ["4< DIFF 6.1", "4< P 6.1", "4< C 6.1", "4< NEWLEADER 6.0"]);
    assert_eq!(scene.acks(2, z(6, 2)), ["4< INFORM 6.2", "2< C 6.2"]);
    assert_eq!(scene.proposes(), ["2< P 6.3"]);
    assert!(scene.passes(0.6).contains(&"3< PING 6.3".to_owned()), "it is not left without a word");
    assert_eq!(scene.synchronised(3), ["3< UPTODATE", "3< P 6.2", "3< C 6.2", "3< P 6.3"]);
    assert_eq!(scene.acks(3, z(6, 2)), [""; 0]);
    scene.durable(z(6, 3));
    assert_eq!(scene.acks(3, z(6, 3)), ["3< C 6.3", "4< INFORM 6.3", "2< C 6.3"], "its ack counts");
}

/// The same behind a stream, in which some of what came up meanwhile is committed.
#[test]
fn a_java_voter_that_gets_a_snapshot_hears_of_what_came_meanwhile_when_it_serves() {
    let mut scene = Scene::leading();
    scene.learner_protocol = PROTOCOL_JAVA;
    assert_eq!(scene.joins(3, None), ["! snapshot for 3"]);
    assert_eq!(scene.snapshot_begins(3), ["3< SNAP 6.0"]);
    scene.writes();
    scene.proposes();
    scene.proposes();
    scene.durable(z(6, 2));
    scene.acks(2, z(6, 2));
    assert_eq!(scene.snapshot_ends(3), ["3< END", "3< P 6.1", "3< C 6.1", "3< NEWLEADER 6.0"]);
    assert_eq!(scene.synchronised(3), ["3< UPTODATE", "3< P 6.2", "3< P 6.3", "3< C 6.2"]);
    scene.durable(z(6, 3));
    assert_eq!(scene.acks(3, z(6, 3)), ["3< C 6.3", "2< C 6.3"], "its ack counts");
}

/// Those who elected the leader came up without their disks, say. What the one who still has everything was told of is not cut
/// off for them.
#[test]
fn a_learner_of_an_epoch_that_the_leader_must_have_known_is_not_touched() {
    let mut scene = Scene::elected(3, 0, 0, 0, Zxid::ZERO);
    scene.informs(2, 0);
    scene.stored(EpochKind::Accepted);
    scene.says(2, Packet::AckEpoch { last: Some(Zxid::ZERO), current_epoch: Some(0) });
    scene.stored(EpochKind::Current);
    scene.synchronised(2);
    scene.writes();
    // It has promised a later epoch: the leader moves on above that.
    scene.informs(3, 7);
    scene.stored_epoch(EpochKind::Accepted, 8);
    scene.says(2, Packet::NextEpochAccepted { epoch: 8 });
    scene.stored_epoch(EpochKind::Current, 8);
    scene.says(2, Packet::NextEpochAdopted { epoch: 8 });
    assert_eq!(scene.epoch(), 8);
    scene.informs(3, 7);
    let told = scene.says(3, Packet::AckEpoch { last: Some(z(7, 4)), current_epoch: Some(7) });
    assert!(told[0].contains("it has transaction 0x700000004") && told[1] == "! 3 is gone", "{told:?}");
    // What this leader has written itself is another matter, and so is a state that nobody has written to.
    assert_eq!(scene.joins(3, z(1, 1)).last().unwrap(), "3< NEWLEADER 8.0");
    scene.closes(3);
    assert_eq!(scene.joins(3, z(7, 0)).last().unwrap(), "! snapshot for 3");
}

/// Decision 0008. One that is not in step yet is told each by itself: with a part of them it may join.
#[test]
fn among_us_an_ack_and_a_commit_are_for_everything_before_them() {
    let mut scene = Scene::leading();
    (0..4).for_each(|_| drop(scene.proposes()));
    scene.joins(3, z(5, 3));
    scene.durable(z(6, 4));
    let told = scene.acks(2, z(6, 3));
    assert_eq!(told, ["3< C 6.1", "3< C 6.2", "3< C 6.3", "2< C 6.3"]);
    scene.synchronised(3);
    assert_eq!(scene.acks(3, z(6, 4)), ["2< C 6.4", "3< C 6.4"]);
}

/// A Java follower says each by itself, and is told each by itself.
#[test]
fn an_ack_of_a_java_follower_counts_for_its_own_zxid_only() {
    let mut scene = Scene::with_history();
    scene.learner_protocol = PROTOCOL_JAVA;
    scene.establish_with(2, z(5, 3));
    (0..3).for_each(|_| drop(scene.proposes()));
    scene.durable(z(6, 3));
    assert_eq!(scene.acks(2, z(6, 2)), [""; 0]);
    assert_eq!(scene.acks(2, z(6, 1)), ["2< C 6.1", "2< C 6.2"]);
    assert_eq!(scene.acks(2, z(6, 3)), ["2< C 6.3"]);
}

/// Spec 19: Java followers before 3.8.5 and 3.9.2 log their DIFF on the side.
#[test]
fn acks_of_a_diff_may_come_around_the_ack_of_newleader() {
    let mut scene = Scene::with_history();
    scene.learner_protocol = PROTOCOL_JAVA;
    scene.establish_with(2, z(5, 3));
    scene.joins(3, z(5, 1));
    for early in [z(5, 2), z(5, 3)] {
        assert_eq!(scene.acks(3, early), [""; 0]);
    }
    assert_eq!(scene.synchronised(3), ["3< UPTODATE"]);
    let mut fresh = Scene::elected(5, 0, 5, 5, z(5, 3));
    fresh.learner_protocol = PROTOCOL_JAVA;
    fresh.informs(2, 5);
    fresh.informs(3, 5);
    fresh.stored(EpochKind::Accepted);
    for id in [2, 3] {
        fresh.says(id, Packet::AckEpoch { last: Some(z(5, 3)), current_epoch: Some(5) });
    }
    fresh.stored(EpochKind::Current);
    assert_eq!(fresh.synchronised(2), [""; 0]);
    assert_eq!(fresh.acks(2, z(5, 3)), [""; 0], "it waits for UPTODATE");
    assert_eq!(fresh.synchronised(3), ["2< UPTODATE", "3< UPTODATE", "! established 6"]);
    // Ours do not.
    let mut scene = Scene::leading();
    scene.joins(3, z(5, 1));
    assert_eq!(scene.acks(3, z(5, 2)).len(), 2, "closed, and gone");
}

#[test]
fn who_asked_last_is_told_first() {
    let mut scene = Scene::leading();
    scene.joins(3, z(5, 3));
    scene.synchronised(3);
    for (asker, told) in [(3, ["3< C 6.1", "2< C 6.1"]), (2, ["2< C 6.2", "3< C 6.2"])] {
        scene.says(asker, request(1));
        scene.proposes();
        scene.durable(scene.leader.proposed());
        assert_eq!(scene.acks(2, scene.leader.proposed()), told);
    }
}

/// A sync is behind the commits that it is to see.
#[test]
fn a_sync_follows_the_commits_before_it() {
    let mut scene = Scene::leading();
    (0..3).for_each(|_| drop(scene.proposes()));
    scene.asks_sync(2);
    scene.proposes();
    scene.durable(z(6, 4));
    assert_eq!(scene.acks(2, z(6, 4)), ["2< C 6.3", "2< SYNC", "2< C 6.4"]);
}

#[test]
fn an_observer_hears_of_what_is_committed_only() {
    let mut scene = Scene::leading();
    scene.proposes();
    assert_eq!(scene.joins(4, z(5, 2)), ["4< DIFF 5.3", "4< P 5.3", "4< C 5.3", "4< NEWLEADER 6.0"]);
    scene.durable(z(6, 1));
    assert_eq!(scene.acks(2, z(6, 1)), ["4< INFORM 6.1", "2< C 6.1"]);
    scene.synchronised(4);
    assert_eq!(scene.proposes(), ["2< P 6.2"]);
}

/// A learner that is about to cut off what it acknowledged has no vote for it until it has it again.
/// ZOOKEEPER-4712 (20.25).
#[test]
fn acks_from_before_a_trunc_do_not_count() {
    let mut scene = Scene::leading();
    scene.proposes();
    assert_eq!(scene.acks(2, z(6, 1)), [""; 0], "not on our own disk yet");
    scene.closes(2);
    assert_eq!(scene.joins(2, z(6, 1)), ["2< TRUNC 5.3", "2< P 6.1", "2< NEWLEADER 6.0"]);
    assert_eq!(scene.durable(z(6, 1)), [""; 0]);
    scene.synchronised(2);
    assert_eq!(scene.acks(2, z(6, 1)), ["2< C 6.1"]);
}

// --- from the log ---

#[test]
fn a_learner_behind_the_window_gets_a_range_of_the_log_that_proved_whole() {
    let mut scene = Scene::leading();
    assert_eq!(scene.joins(3, z(4, 5)), ["read for 3 after 4.5 through 4.7"]);
    assert_eq!(scene.log_read(3, z(4, 5), &[z(4, 6)]), ["read on for 3"]);
    assert_eq!(scene.proposes(), ["2< P 6.1"], "held back");
    assert_eq!(scene.log_read(3, z(4, 6), &[z(4, 7)]), ["read on for 3"]);
    assert_eq!(scene.log_read_ended(3, true), ["3< DIFF 5.3", "read for 3 after 4.5 through 4.7"]);
    let told = scene.log_read(3, z(4, 5), &[z(4, 6), z(4, 7)]);
    assert_eq!(told, ["3< P 4.6", "3< C 4.6", "3< P 4.7", "3< C 4.7", "read on for 3"]);
    scene.durable(z(6, 1));
    assert_eq!(scene.acks(2, z(6, 1)), ["2< C 6.1"]);
    let told = scene.log_read_ended(3, true);
    let window = ["3< P 4.8", "3< C 4.8", "3< P 4.9", "3< C 4.9", "3< P 5.1", "3< C 5.1", "3< P 5.2", "3< C 5.2"];
    assert_eq!(told[..8], window);
    assert_eq!(told[8..], ["3< P 5.3", "3< C 5.3", "3< P 6.1", "3< C 6.1", "3< NEWLEADER 6.0"]);
}

/// ZOOKEEPER-2846 (20.1); ZOOKEEPER-2418 (20.18); ZOOKEEPER-4352 (20.19).
#[test]
fn a_log_with_anything_wrong_is_not_sent() {
    let snapshot = ["end reading for 3", "! snapshot for 3"];
    let reading = |last: Zxid| {
        let mut scene = Scene::leading();
        assert!(scene.joins(3, last)[0].starts_with("read for 3"));
        scene
    };
    assert_eq!(reading(z(4, 5)).log_read(3, z(4, 4), &[z(4, 6)]), snapshot, "the learner's is not in the log");
    assert_eq!(reading(z(4, 5)).log_read(3, z(4, 5), &[z(4, 7)]), snapshot, "a hole");
    assert_eq!(reading(z(4, 5)).log_read_ended(3, false), ["! snapshot for 3"], "purged");
    assert_eq!(reading(z(4, 5)).log_read_ended(3, true), ["! snapshot for 3"], "nothing there");
    let mut scene = reading(z(4, 5));
    scene.log_read(3, z(4, 5), &[z(4, 6)]);
    assert_eq!(scene.log_read_ended(3, true), ["! snapshot for 3"], "20.18: a gap between the log and the window");
    assert_eq!(reading(Zxid::ZERO).log_read(3, z(3, 7), &[z(4, 1)]), snapshot, "20.19: not the begin of all");
    assert_eq!(reading(z(4, 0)).log_read(3, z(3, 7), &[z(4, 1)]), ["read on for 3"], "the begin of an epoch");
}

#[test]
fn what_was_held_back_behind_a_log_that_failed_is_not_sent_twice() {
    let mut scene = Scene::leading();
    scene.joins(3, z(4, 5));
    scene.writes();
    assert_eq!(scene.log_read_ended(3, false), ["! snapshot for 3"]);
    scene.writes();
    scene.proposes();
    assert_eq!(scene.snapshot_begins(3), ["3< SNAP 6.2"]);
    assert_eq!(scene.snapshot_ends(3), ["3< END", "3< P 6.3", "3< NEWLEADER 6.0"]);
}

#[test]
fn a_log_that_breaks_in_the_middle_of_sending_ends_the_link() {
    let mut scene = Scene::leading();
    scene.joins(3, z(4, 5));
    scene.log_read(3, z(4, 5), &[z(4, 6), z(4, 7)]);
    scene.log_read_ended(3, true);
    let told = scene.log_read_ended(3, false);
    assert_eq!(told, ["3x the log that it was sent has become unreadable", "! 3 is gone"]);
}

#[test]
fn a_log_longer_than_a_part_of_the_snapshot_is_not_sent() {
    let sized = |factor| {
        let mut scene = Scene::leading_with(Ensemble { snapshot_size_factor: Some(factor), ..settings() });
        scene.snapshot_bytes = 30;
        scene.joins(3, z(4, 5));
        scene.log_read(3, z(4, 5), &[z(4, 6), z(4, 7)])
    };
    assert_eq!(sized(0.5), ["end reading for 3", "! snapshot for 3"], "16 bytes of 30");
    assert_eq!(sized(0.6), ["read on for 3"]);
    assert_eq!(sized(0.0), ["read on for 3"], "no limit");
}

#[test]
fn who_waits_for_a_snapshot_instead_of_a_log_waits_as_long_as_any_other() {
    let mut scene = Scene::leading();
    scene.joins(3, z(4, 5));
    assert_eq!(scene.log_read_ended(3, false), ["! snapshot for 3"]);
    let mut told = scene.passes_among(&[2], f64::from(settings().init_limit) * 2.0);
    told.retain(|told| told != "2< PING 6.0");
    assert_eq!(told, [""; 0]);
    assert_eq!(scene.snapshot_begins(3), ["3< SNAP 6.0"]);
}

/// Found by seed 40021891: the learner's patience was over before the log was checked, again and again.
#[test]
fn a_log_that_takes_too_long_to_check_is_not_waited_for() {
    let mut scene = Scene::leading();
    let half = f64::from(settings().init_limit) / 2.0;
    scene.joins(3, z(4, 5));
    assert_eq!(scene.log_read(3, z(4, 5), &[z(4, 6)]), ["read on for 3"]);
    let mut told = scene.passes_among(&[2], half + 1.0);
    told.retain(|told| told != "2< PING 6.0");
    assert_eq!(told, ["end reading for 3", "! snapshot for 3"]);
    assert_eq!(scene.log_read(3, z(4, 6), &[z(4, 7)]), [""; 0], "what comes of it yet");
    scene.passes_among(&[2], half + 1.0);
    assert_eq!(scene.snapshot_begins(3), ["3< SNAP 6.0"], "the node's own business when that is");
}

#[test]
fn the_log_is_read_at_the_pace_of_the_learner() {
    let mut scene = Scene::leading_with(Ensemble { learner_queue_max_bytes: 300, ..settings() });
    scene.joins(3, z(4, 5));
    scene.log_read(3, z(4, 5), &[z(4, 6), z(4, 7)]);
    scene.log_read_ended(3, true);
    let told = scene.log_read(3, z(4, 5), &[z(4, 6)]);
    assert_eq!(told, ["3< P 4.6", "3< C 4.6"], "the next window has to wait");
    assert_eq!(scene.drains(3), ["read on for 3"]);
    assert_eq!(scene.drains(3), [""; 0], "asked for once");
    assert_eq!(scene.closes(3), ["end reading for 3", "! 3 is gone"]);
}

// --- a snapshot ---

/// 20.8: NEWLEADER, and whatever happened meanwhile, come behind the whole snapshot.
#[test]
fn what_happens_during_a_snapshot_follows_it() {
    let mut scene = Scene::leading();
    assert_eq!(scene.joins(3, z(4, 11)), ["! snapshot for 3"]);
    scene.writes();
    scene.proposes();
    assert_eq!(scene.snapshot_begins(3), ["3< SNAP 6.1"], "the state of the moment it begins");
    scene.durable(z(6, 2));
    assert_eq!(scene.acks(2, z(6, 2)), ["2< C 6.2"]);
    assert_eq!(scene.proposes(), ["2< P 6.3"]);
    let told = scene.snapshot_ends(3);
    assert_eq!(told, ["3< END", "3< P 6.2", "3< C 6.2", "3< P 6.3", "3< NEWLEADER 6.0"]);
    assert_eq!(scene.proposes(), ["2< P 6.4", "3< P 6.4"]);
}

#[test]
fn a_snapshot_for_somebody_who_is_gone_goes_nowhere() {
    let mut scene = Scene::leading();
    scene.joins(3, z(4, 11));
    assert_eq!(scene.closes(3), ["! 3 is gone"]);
    assert_eq!(scene.snapshot_begins(3), [""; 0]);
    assert_eq!(scene.snapshot_ends(3), [""; 0]);
}

#[test]
fn an_initial_history_is_given_away_before_it_is_committed() {
    let mut scene = Scene::with_history();
    scene.informs(2, 5);
    scene.stored(EpochKind::Accepted);
    scene.says(2, Packet::AckEpoch { last: Some(Zxid::ZERO), current_epoch: Some(0) });
    assert_eq!(scene.stored(EpochKind::Current), ["read for 2 after 0.0 through 4.7"]);
    assert_eq!(scene.log_read_ended(2, false), ["! snapshot for 2"]);
    assert_eq!(scene.snapshot_begins(2), ["2< SNAP 5.3"]);
    assert_eq!(scene.snapshot_ends(2), ["2< END", "2< NEWLEADER 6.0"]);
    assert_eq!(scene.synchronised(2), ["2< UPTODATE", "! established 6"]);
}

// --- how many at a time ---

/// Java: `LearnerSyncThrottler`. Servers 4 and 5 are observers.
fn one_at_a_time() -> Scene {
    Scene::leading_with(Ensemble { snap_syncs_max: 1, diff_syncs_max: 1, ..settings() })
}

#[test]
fn an_observer_has_to_wait_for_the_syncs_of_others_and_a_voter_has_not() {
    let mut scene = one_at_a_time();
    assert_eq!(scene.joins(4, z(5, 3)), ["4< DIFF 5.3", "4< NEWLEADER 6.0"]);
    let refused = "5x 1 others are being synchronised by DIFF already (leader.maxConcurrentDiffSyncs=1)";
    assert_eq!(scene.joins(5, z(5, 3)), [refused, "! 5 is gone"]);
    assert_eq!(scene.joins(3, z(5, 9)), ["3< TRUNC 5.3", "3< NEWLEADER 6.0"], "a voter brings the quorum");
    assert_eq!(scene.syncs[1..], [(SyncKind::Diff, 1), (SyncKind::Trunc, 2)], "it counts");
    scene.synchronised(4);
    let refused = "5x 1 others are being synchronised by TRUNC already (leader.maxConcurrentDiffSyncs=1)";
    assert_eq!(scene.joins(5, z(5, 9)), [refused, "! 5 is gone"]);
    scene.synchronised(3);
    assert_eq!(scene.joins(5, z(5, 3)), ["5< DIFF 5.3", "5< NEWLEADER 6.0"], "the others have their ACK out");
}

#[test]
fn a_snapshot_takes_nobody_the_place_for_a_diff() {
    let mut scene = one_at_a_time();
    assert_eq!(scene.joins(4, z(4, 11)), ["! snapshot for 4"]);
    assert_eq!(scene.joins(5, z(5, 3)), ["5< DIFF 5.3", "5< NEWLEADER 6.0"]);
    assert_eq!(scene.joins(3, None), ["! snapshot for 3"]);
    scene.closes(4);
    let refused = "4x 1 others are being synchronised by SNAP already (leader.maxConcurrentSnapSyncs=1)";
    assert_eq!(scene.joins(4, None), [refused, "! 4 is gone"]);
    scene.closes(3);
    assert_eq!(scene.joins(4, None), ["! snapshot for 4"], "who is gone takes no place");
}

#[test]
fn a_log_that_does_not_reach_takes_a_place_among_the_snapshots() {
    let mut scene = one_at_a_time();
    assert_eq!(scene.joins(5, z(4, 5)), ["read for 5 after 4.5 through 4.7"]);
    assert_eq!(scene.joins(3, None), ["! snapshot for 3"]);
    let refused = "5x 1 others are being synchronised by SNAP already (leader.maxConcurrentSnapSyncs=1)";
    assert_eq!(scene.log_read(5, z(4, 4), &[z(4, 6)]), ["end reading for 5", refused, "! 5 is gone"]);
    assert_eq!(scene.joins(5, z(4, 5)), ["read for 5 after 4.5 through 4.7"]);
    assert_eq!(scene.log_read_ended(5, false), [refused, "! 5 is gone"]);
    assert_eq!(scene.syncs[1..], [(SyncKind::Snap, 1)], "a DIFF begins when its log proved whole");
}

#[test]
fn what_a_sync_cost_is_kept() {
    let mut scene = Scene::leading();
    scene.joins(3, z(5, 1));
    let sync = |scene: &Scene| scene.leader.handlers[&LinkId(3)].sync().unwrap();
    assert_eq!(sync(&scene).took_us, None, "it is under way");
    scene.passes(1.0);
    scene.synchronised(3);
    let (before, kind) = (sync(&scene), sync(&scene).kind);
    assert_eq!((kind, before.took_us), (SyncKind::Diff, Some(TICK_US)));
    scene.writes();
    assert_eq!(sync(&scene).bytes, before.bytes, "what comes later belongs to nobody's sync");
    assert!(before.bytes > 2 * 8, "two transactions: {before:?}");
}
