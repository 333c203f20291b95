//! The next epoch without an outage, and hand-over. `docs/decisions/0006-rollover-and-hand-over.md`; quorum-protocol 20.13.

use super::scene::{Scene, settings, z};
use crate::core::settings::Ensemble;
use crate::core::types::EpochKind::{Accepted, Current};
use crate::wire::quorum::Packet;

/// Server 1 leads epoch 6 with server 2; the third transaction is the last before the next epoch.
fn early() -> Ensemble {
    Ensemble { rollover_at: 3, counter_end: 100, ..settings() }
}

fn full(scene: &mut Scene) {
    scene.writes();
    scene.writes();
    scene.proposes();
    assert!(!scene.leader.may_propose(), "writes wait");
}

fn accepts(scene: &mut Scene, id: i64, epoch: u32) -> Vec<String> {
    scene.says(id, Packet::NextEpochAccepted { epoch })
}

fn adopts(scene: &mut Scene, id: i64, epoch: u32) -> Vec<String> {
    scene.says(id, Packet::NextEpochAdopted { epoch })
}

/// ZOOKEEPER-1277 (20.13).
#[test]
fn the_counter_goes_on_in_the_next_epoch() {
    let mut scene = Scene::leading_with(early());
    scene.joins(3, z(5, 3));
    scene.synchronised(3);
    full(&mut scene);
    assert_eq!(scene.acks(2, z(6, 3)), [""; 0]);
    let told = scene.durable(z(6, 3));
    assert_eq!(told, ["2< C 6.3", "3< C 6.3", "store Accepted 7"], "only when everything is committed");
    assert_eq!(scene.stored_epoch(Accepted, 7), ["2< NEXTEPOCH 7", "3< NEXTEPOCH 7"]);
    let begins = ["2< NEXTEPOCHBEGINS 7", "3< NEXTEPOCHBEGINS 7", "store Current 7"];
    assert_eq!(accepts(&mut scene, 3, 7), begins, "a quorum's promise");
    assert_eq!(accepts(&mut scene, 2, 7), [""; 0], "late");
    assert_eq!(adopts(&mut scene, 2, 7), [""; 0], "the leader's own is not on its disk");
    assert!(!scene.leader.may_propose());
    assert_eq!(scene.stored_epoch(Current, 7), ["! next epoch 7"]);
    assert_eq!(adopts(&mut scene, 3, 7), [""; 0], "late");
    assert_eq!(scene.proposes(), ["2< P 7.1", "3< P 7.1"]);
    scene.durable(z(7, 1));
    assert_eq!(scene.acks(3, z(7, 1)), ["2< C 7.1", "3< C 7.1"]);
    assert_eq!(scene.joins(4, z(6, 3)), ["4< DIFF 7.1", "4< P 7.1", "4< C 7.1", "4< NEWLEADER 7.0"]);
}

#[test]
fn the_leader_is_in_the_next_epoch_when_its_own_log_is_durable() {
    let mut scene = Scene::leading_with(early());
    scene.joins(3, z(5, 3));
    scene.synchronised(3);
    full(&mut scene);
    scene.acks(2, z(6, 3));
    assert_eq!(scene.acks(3, z(6, 3)).last().unwrap(), "store Accepted 7", "a quorum outruns our disk");
    scene.stored_epoch(Accepted, 7);
    assert_eq!(accepts(&mut scene, 3, 7), ["2< NEXTEPOCHBEGINS 7", "3< NEXTEPOCHBEGINS 7"]);
    assert_eq!(scene.durable(z(6, 3)), ["store Current 7"]);
}

#[test]
fn who_comes_in_the_middle_is_told_the_next_epoch() {
    let mut scene = Scene::leading_with(early());
    full(&mut scene);
    scene.acks(2, z(6, 3));
    scene.durable(z(6, 3));
    scene.stored_epoch(Accepted, 7);
    assert_eq!(scene.informs(3, 5), [""; 0], "the epoch is about to change");
    accepts(&mut scene, 2, 7);
    adopts(&mut scene, 2, 7);
    assert_eq!(scene.stored_epoch(Current, 7), ["3< LEADERINFO 7", "! next epoch 7"]);
    let told = scene.says(3, Packet::AckEpoch { last: Some(z(6, 2)), current_epoch: Some(6) });
    assert_eq!(told, ["3< DIFF 6.3", "3< P 6.3", "3< C 6.3", "3< NEWLEADER 7.0"]);
}

#[test]
fn a_learner_that_is_being_synchronised_is_waited_for_while_there_is_time() {
    let mut scene = Scene::leading_with(early());
    scene.joins(3, z(4, 11));
    scene.writes();
    scene.writes();
    scene.writes();
    assert!(scene.leader.may_propose());
    scene.snapshot_begins(3);
    scene.snapshot_ends(3);
    assert_eq!(scene.synchronised(3), ["3< UPTODATE", "store Accepted 7"]);

    let mut scene = Scene::leading_with(early());
    scene.joins(3, z(4, 11));
    let mut told = Vec::new();
    for _ in 0..51 {
        assert!(scene.leader.may_propose());
        told = scene.writes();
    }
    assert!(!scene.leader.may_propose(), "there is no more time");
    assert!(told.contains(&"! 3 is gone".to_owned()), "{told:?}");
}

#[test]
fn the_epoch_after_next_waits_for_who_is_not_in_the_next() {
    let mut scene = Scene::leading_with(early());
    scene.joins(3, z(5, 3));
    scene.synchronised(3);
    full(&mut scene);
    scene.acks(2, z(6, 3));
    scene.durable(z(6, 3));
    scene.stored_epoch(Accepted, 7);
    accepts(&mut scene, 2, 7);
    adopts(&mut scene, 2, 7);
    scene.stored_epoch(Current, 7);
    for _ in 0..5 {
        assert!(scene.leader.may_propose());
        scene.writes();
    }
    assert_eq!(adopts(&mut scene, 3, 7), ["store Accepted 8"], "at last");
    assert!(!scene.leader.may_propose());
}

#[test]
fn an_epoch_that_does_not_come_about_ends_the_lead() {
    for step in 0..4 {
        let mut scene = Scene::leading_with(early());
        full(&mut scene);
        if step > 0 {
            scene.acks(2, z(6, 3));
            scene.durable(z(6, 3));
        }
        if step > 1 {
            scene.stored_epoch(Accepted, 7);
        }
        if step > 2 {
            accepts(&mut scene, 2, 7);
        }
        let told = scene.passes_among(&[2], 5.0);
        assert!(told.iter().any(|line| line.starts_with("! over: the next epoch did not come about")), "{told:?}");
    }
}

#[test]
fn a_server_that_accepted_a_later_epoch_is_let_in_by_moving_on() {
    let mut scene = Scene::leading();
    let told = scene.informs(3, 9);
    assert_eq!(told, ["3x it has accepted epoch 9, later than 6 here", "store Accepted 10", "! 3 is gone"]);
    scene.stored_epoch(Accepted, 10);
    accepts(&mut scene, 2, 10);
    scene.stored_epoch(Current, 10);
    assert_eq!(adopts(&mut scene, 2, 10), ["! next epoch 10"]);
    assert_eq!(scene.informs(3, 9), ["3< LEADERINFO 10"]);
}

/// Java's leader would refuse that server as long as it leads.
#[test]
fn with_java_learners_a_later_epoch_ends_the_lead_and_is_remembered() {
    let mut scene = Scene::with_history().java_learners();
    scene.establish_with(2, z(5, 3));
    let told = scene.informs(3, 9);
    assert_eq!(told[0], "3x it has accepted epoch 9, later than 6 here");
    assert!(told.last().unwrap().starts_with("! over: it was asked to hand over, and no voter"), "{told:?}");
    assert_eq!(scene.leader.accepted_epoch(), 9);
}

#[test]
fn with_java_learners_the_epoch_is_not_changed_but_handed_over_in_the_end() {
    let mut scene = Scene::with_history_and(early()).java_learners();
    scene.establish_with(2, z(5, 3));
    for _ in 0..87 {
        assert!(scene.leader.may_propose());
        scene.writes();
    }
    let told = scene.writes();
    assert!(told.last().unwrap().starts_with("! over: it was asked to hand over, and no voter"), "{told:?}");
}

/// ZOOKEEPER-1277: beyond it is the next epoch's beginning, which nobody has accepted.
#[test]
fn case_20_13_no_counter_ever_comes_to_its_end() {
    assert_eq!(Ensemble::default().counter_end, u32::MAX);
    for java_learners in [false, true] {
        let mut scene = Scene::with_history_and(Ensemble { rollover_at: 3, counter_end: 30, ..settings() });
        if java_learners {
            scene = scene.java_learners();
        }
        scene.establish_with(2, z(5, 3));
        // Nobody acknowledges anything: no epoch can end in an orderly way.
        let (mut newest, mut told) = (0, Vec::new());
        while scene.leader.may_propose() {
            told = scene.proposes();
            newest += 1;
        }
        assert_eq!(newest, if java_learners { 27 } else { 3 });
        told.extend(scene.passes(20.0));
        assert!(told.iter().any(|line| line.starts_with("! over")), "nor is it waited for endlessly: {told:?}");
    }
}

#[test]
fn promises_nobody_asked_for_end_the_link() {
    for packet in [Packet::NextEpochAccepted { epoch: 8 }, Packet::NextEpochAdopted { epoch: 8 }] {
        let mut scene = Scene::leading();
        assert_eq!(scene.says(2, packet).last().unwrap(), "! 2 is gone");
    }
}

// --- hand-over ---

#[test]
fn the_voter_with_everything_takes_over() {
    let mut scene = Scene::leading();
    scene.joins(3, z(5, 3));
    scene.synchronised(3);
    scene.joins(4, z(5, 3));
    scene.synchronised(4);
    scene.proposes();
    scene.durable(z(6, 1));
    assert_eq!(scene.hands_over(), [""; 0], "something is in flight");
    assert!(!scene.leader.may_propose());
    let told = scene.acks(3, z(6, 1));
    let leads = "this server leads no longer";
    let expected = ["4< INFORM 6.1", "2< C 6.1", "3< C 6.1", "2< HANDOVER 3", "3< HANDOVER 3", "4< HANDOVER 3"];
    assert_eq!(told[..6], expected);
    let closed = [2, 3, 4].map(|id| format!("{id}x {leads}"));
    assert_eq!(told[6], "accept false");
    assert_eq!(told[7..10], closed);
    assert_eq!(told[10..], ["! handed over to 3"]);
}

#[test]
fn a_hand_over_at_rest_is_immediate() {
    let mut scene = Scene::leading();
    scene.joins(3, z(5, 3));
    scene.synchronised(3);
    assert_eq!(scene.hands_over().last().unwrap(), "! handed over to 3");
}

/// The one that is named would wait for the rest, who hold an election meanwhile that it takes no part in.
#[test]
fn nobody_is_named_to_less_than_a_quorum() {
    let ended = |mut scene: Scene| {
        let told = scene.hands_over();
        assert!(told.last().unwrap().starts_with("! over: it was asked to hand over, and those who"), "{told:?}");
        assert!(!told.iter().any(|line| line.contains("HANDOVER")), "{told:?}");
    };
    ended(Scene::leading()); // 3 is not there
    let mut scene = Scene::leading().java_learners();
    scene.joins(3, z(5, 3));
    scene.synchronised(3);
    ended(scene); // 3 would not understand
}

#[test]
fn without_anybody_to_hand_over_to_the_lead_just_ends() {
    let mut scene = Scene::leading();
    scene.joins(4, z(5, 3));
    scene.synchronised(4);
    scene.closes(2);
    let told = scene.hands_over();
    assert!(
        told.last().unwrap().starts_with("! over: it was asked to hand over"),
        "an observer does not lead: {told:?}"
    );
    let mut scene = Scene::elected(3, 0, 0, 0, z(0, 0));
    assert!(scene.hands_over().last().unwrap().starts_with("! over"));
}

#[test]
fn a_voter_that_does_not_get_everything_in_time_does_not_take_over() {
    let mut scene = Scene::leading();
    scene.proposes();
    assert_eq!(scene.hands_over(), [""; 0]);
    let told = scene.passes_among(&[2], 5.0);
    assert!(told.iter().any(|line| line.starts_with("! over: ")), "{told:?}");
}

/// A session that becomes everybody's, and the write for which it does.
#[test]
fn what_follows_the_last_proposal_at_once_belongs_to_the_old_epoch() {
    let mut scene = Scene::leading_with(early());
    full(&mut scene);
    assert_eq!(scene.proposes(), ["2< P 6.4"]);
    scene.durable(z(6, 4));
    assert_eq!(scene.acks(2, z(6, 3)), ["2< C 6.3"], "the next epoch waits for it");
    assert_eq!(scene.acks(2, z(6, 4)), ["2< C 6.4", "store Accepted 7"]);
}
