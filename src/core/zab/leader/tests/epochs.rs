//! From elected to serving: which epoch, whose, and when it may be told. Spec: quorum-protocol 6.3, 9, 20.11, 20.22.

use super::scene::{Scene, request, settings, z};
use crate::core::settings::Ensemble;
use crate::core::types::EpochKind::{Accepted, Current};
use crate::core::types::{Epochs, ServerId, Zxid};
use crate::core::zab::leader::LeaderStart;
use crate::core::zab::membership::{Configurations, Membership};
use crate::wire::quorum::{LearnerInfo, PROTOCOL_JAVA, Packet};

fn ack_epoch(epoch: u32, last: Zxid) -> Packet {
    Packet::AckEpoch { last: Some(last), current_epoch: Some(epoch) }
}

/// ZOOKEEPER-1154 (20.11).
#[test]
fn a_fresh_ensemble_of_three() {
    let mut scene = Scene::elected(3, 0, 0, 0, Zxid::ZERO);
    assert_eq!(scene.informs(2, 0), ["store Accepted 1"], "a quorum: an epoch above all they accepted");
    assert_eq!(scene.informs(3, 0), [""; 0], "nobody is told an epoch that is not durable");
    assert_eq!(scene.stored(Accepted), ["2< LEADERINFO 1", "3< LEADERINFO 1"]);
    assert_eq!(scene.says(2, ack_epoch(0, Zxid::ZERO)), ["store Current 1"]);
    assert_eq!(scene.says(3, ack_epoch(0, Zxid::ZERO)), [""; 0], "nothing is synchronised before that is durable");
    let told = scene.stored(Current);
    assert_eq!(told, ["2< DIFF 0.0", "2< NEWLEADER 1.0", "3< DIFF 0.0", "3< NEWLEADER 1.0"]);
    assert!(!scene.leader.may_propose());
    assert_eq!(scene.synchronised(2), ["2< UPTODATE", "! established 1"]);
    assert!(scene.leader.may_propose());
    assert_eq!(scene.acks(2, z(1, 0)), [""; 0], "the second one, of UPTODATE");
    assert_eq!(scene.proposes(), ["2< P 1.1", "3< P 1.1"], "3 has been told all along");
    assert_eq!(scene.durable(z(1, 1)), [""; 0]);
    assert_eq!(scene.acks(2, z(1, 1)), ["3< C 1.1", "2< C 1.1"]);
    assert_eq!(scene.synchronised(3), ["3< UPTODATE"], "late: nothing to wait for");
    assert_eq!(scene.says(3, request(7)), ["! request of 3 for 7"]);
}

/// Else the only server that can say that there is nothing is one whose word nobody believes once it has died.
#[test]
fn a_leader_that_founds_says_first_that_it_has_nothing() {
    let nothing = Epochs { accepted: 0, current: 0 };
    let start = LeaderStart { id: ServerId(1), epochs: nothing, last: Zxid::ZERO, founds: true, reconfigures: false };
    let mut scene = Scene::starting(settings(), Configurations::settled(Membership::of(3, 0)), start);
    assert_eq!(scene.informs(2, 0), ["store Current 0", "store Accepted 1"]);
    assert_eq!(scene.stored(Accepted), ["2< LEADERINFO 1"]);
    assert_eq!(scene.says(2, ack_epoch(0, Zxid::ZERO)), ["store Current 1"]);
}

#[test]
fn an_ensemble_of_one_needs_nobody() {
    let mut scene = Scene::elected(1, 0, 3, 3, z(3, 5));
    assert_eq!(scene.take(), ["store Accepted 4"]);
    assert_eq!(scene.stored(Accepted), ["store Current 4"]);
    assert_eq!(scene.stored(Current), ["! established 4"]);
    assert_eq!(scene.proposes(), [""; 0]);
    scene.durable(z(4, 1));
    assert_eq!(scene.applied, z(4, 1));
}

/// ZOOKEEPER-1154 (20.11).
#[test]
fn the_epoch_is_above_every_one_that_was_accepted() {
    let mut scene = Scene::elected(5, 0, 3, 3, z(3, 5));
    assert_eq!(scene.informs(2, 1), [""; 0]);
    assert_eq!(scene.informs(3, 8), ["store Accepted 9"], "that of a quorum");
    let mut scene = Scene::elected(3, 2, 3, 3, z(3, 5));
    assert_eq!(scene.informs(4, 11), [""; 0], "an observer is no voter");
    assert_eq!(scene.informs(2, 3), ["store Accepted 12"], "but its epoch is heard of (2959)");
}

/// Spec: quorum-protocol 6.4.
#[test]
fn an_elector_that_looks_again_ends_the_wait_for_an_epoch_if_the_operator_says_so() {
    let of_three = || Configurations::settled(Membership::of(3, 0));
    let patient = |epoch_wait_ms| {
        let settings = Ensemble { epoch_wait_ms, ..settings() };
        Scene::with(settings, of_three(), 5, 5, z(5, 3))
    };
    let mut scene = patient(None);
    scene.passes(5.0);
    assert_eq!(scene.elector_looks(2), [""; 0], "off by default");
    let mut scene = patient(Some(100));
    assert_eq!(scene.elector_looks(2), [""; 0], "it may not have decided yet");
    scene.passes(5.0);
    let why = "! over: server 2 voted for this one and is looking again after 100 ms";
    assert_eq!(scene.elector_looks(2), ["accept false", why]);
    let mut scene = patient(Some(100));
    scene.informs(3, 5);
    scene.passes(5.0);
    assert_eq!(scene.elector_looks(2), [""; 0], "a quorum is here: the epoch is chosen");
}

/// ZOOKEEPER-764 (20.22).
#[test]
fn observers_and_strangers_bring_no_quorum() {
    let mut scene = Scene::elected(3, 2, 0, 0, Zxid::ZERO);
    for id in [4, 5, 77] {
        assert_eq!(scene.informs(id, 0), [""; 0]);
    }
    scene.informs(2, 0);
    assert_eq!(scene.stored(Accepted).len(), 4);
    for id in [4, 5, 77] {
        assert_eq!(scene.says(id, ack_epoch(0, Zxid::ZERO)), [""; 0]);
    }
    assert_eq!(scene.says(2, ack_epoch(0, Zxid::ZERO)), ["store Current 1"]);
    scene.stored(Current);
    for id in [4, 5, 77] {
        assert_eq!(scene.synchronised(id), [""; 0]);
    }
    let told = scene.synchronised(2);
    assert_eq!(told, ["2< UPTODATE", "4< UPTODATE", "5< UPTODATE", "77< UPTODATE", "! established 1"]);
    assert_eq!(scene.proposes(), ["2< P 1.1", "77< P 1.1"], "who is not listed follows, without a vote");
    scene.durable(z(1, 1));
    assert_eq!(scene.acks(77, z(1, 1)), [""; 0]);
    assert_eq!(scene.acks(4, z(1, 1)), [""; 0]);
    assert_eq!(scene.acks(2, z(1, 1)), ["4< INFORM 1.1", "5< INFORM 1.1", "2< C 1.1", "77< C 1.1"]);
}

#[test]
fn a_voter_that_comes_as_an_observer_does_not_vote() {
    let mut scene = Scene::elected(3, 0, 0, 0, Zxid::ZERO);
    scene.connects(2);
    let info = LearnerInfo { server: 2, protocol: PROTOCOL_JAVA, config_version: 0 };
    assert_eq!(scene.says(2, Packet::ObserverInfo { accepted_epoch: 0, info }), [""; 0]);
}

/// ZOOKEEPER-1154 (20.11).
#[test]
fn nobody_is_led_by_a_server_that_has_less() {
    for (current, last) in [(3, z(3, 6)), (4, z(3, 1)), (4, Zxid::ZERO)] {
        let mut scene = Scene::elected(3, 0, 4, 3, z(3, 5));
        scene.informs(2, 4);
        assert_eq!(scene.stored(Accepted), ["2< LEADERINFO 5"]);
        let told = scene.says(2, ack_epoch(current, last));
        assert!(told[0].starts_with("2x it is ahead of its leader"), "{told:?}");
        scene.informs(3, 4);
        assert_eq!(scene.says(3, ack_epoch(3, z(3, 5))), ["store Current 5"], "others may follow");
    }
}

/// Else a proposed configuration whose voters have more than those who decide would never have a leader.
#[test]
fn a_voter_to_be_that_is_ahead_is_put_forward_if_a_quorum_knows_of_it() {
    let cases: [(Zxid, &[i64], _); 3] =
        [(z(3, 5), &[4, 5], Some(ServerId(5))), (z(3, 4), &[4, 5], None), (z(3, 5), &[3], None)];
    for (known, ahead, expected) in cases {
        let last_seen = Membership { version: z(3, 5).0, ..Membership::of(5, 0) };
        let configs = Configurations { committed: Membership::of(3, 0), last_seen };
        let mut scene = Scene::with(settings(), configs, 4, 3, z(3, 5));
        [2].iter().chain(ahead).for_each(|id| drop(scene.informs(*id, 4)));
        scene.stored(Accepted);
        assert_eq!(scene.says(2, ack_epoch(3, known)), [""; 0]);
        for (id, counter) in ahead.iter().zip(7..) {
            assert!(scene.says(*id, ack_epoch(3, z(3, counter)))[0].contains("ahead of its leader"));
        }
        assert!(scene.passes(10.0).last().unwrap().starts_with("! over: no quorum while Electing"));
        assert_eq!(scene.leader.nominee().map(|(_, id)| id), expected, "{known}, {ahead:?}");
    }
}

#[test]
fn a_learner_that_may_have_lost_something_does_not_count_and_gets_everything() {
    let mut scene = Scene::elected(3, 0, 4, 3, z(3, 5));
    scene.informs(2, 4);
    scene.stored(Accepted);
    assert_eq!(scene.says(2, Packet::AckEpoch { last: None, current_epoch: Some(3) }), [""; 0]);
    scene.informs(3, 4);
    assert_eq!(scene.says(3, ack_epoch(3, z(3, 5))), ["store Current 5"]);
    assert_eq!(scene.stored(Current), ["3< DIFF 3.5", "3< NEWLEADER 5.0", "! snapshot for 2"]);
}

#[test]
fn who_had_accepted_the_epoch_before_does_not_count_for_it() {
    let mut scene = Scene::elected(3, 0, 4, 3, z(3, 5));
    scene.informs(2, 4);
    scene.stored(Accepted);
    assert_eq!(scene.says(2, Packet::AckEpoch { last: Some(z(3, 5)), current_epoch: None }), [""; 0]);
    assert!(scene.passes(10.0).last().unwrap().starts_with("! over: no quorum while Electing"));
}

/// Found by kazoo's `test_read_only`: the leader and the other follower were stopped together, and who was handed the lead kept its
/// read-only clients waiting for initLimit.
#[test]
fn a_designated_leader_does_not_wait_long_for_those_who_were_told_of_it() {
    let mut scene = Scene::elected(3, 0, 4, 4, z(4, 2));
    scene.leader.expect_all_at_once();
    assert_eq!(scene.passes(0.5), [""; 0]);
    let told = scene.passes(0.5);
    assert!(told.last().unwrap().starts_with("! over: no quorum while Discovering"), "{told:?}");
    let mut scene = Scene::elected(3, 0, 4, 4, z(4, 2));
    scene.leader.expect_all_at_once();
    scene.informs(2, 4);
    assert!(!scene.passes(9.5).iter().any(|line| line.starts_with("! over")), "they came: its disk may take its time");
}

#[test]
fn each_phase_has_its_limit() {
    let over = |scene: &mut Scene, phase: &str| {
        assert!(!scene.passes(9.5).iter().any(|line| line.starts_with("! over")));
        let told = scene.passes(0.5);
        assert!(told.last().unwrap().starts_with(&format!("! over: no quorum while {phase}")), "{told:?}");
        assert_eq!(scene.passes(20.0), [""; 0], "nothing comes after the end");
        assert_eq!(scene.stored(Current), [""; 0]);
        assert_eq!(scene.leader.wake_us(), None);
    };
    let mut scene = Scene::elected(3, 0, 0, 0, Zxid::ZERO);
    over(&mut scene, "Discovering");
    let mut scene = Scene::elected(3, 0, 0, 0, Zxid::ZERO);
    scene.informs(2, 0);
    over(&mut scene, "Promising");
    let mut scene = Scene::elected(3, 0, 0, 0, Zxid::ZERO);
    scene.informs(2, 0);
    scene.stored(Accepted);
    over(&mut scene, "Electing");
    let mut scene = Scene::elected(3, 0, 0, 0, Zxid::ZERO);
    scene.informs(2, 0);
    scene.stored(Accepted);
    scene.says(2, ack_epoch(0, Zxid::ZERO));
    scene.stored(Current);
    over(&mut scene, "Synchronising");
}

#[test]
fn a_learner_that_leaves_before_a_quorum_is_there_has_to_come_back() {
    let mut scene = Scene::elected(5, 0, 0, 0, Zxid::ZERO);
    for id in [2, 3] {
        scene.informs(id, 0);
    }
    scene.stored(Accepted);
    for id in [2, 3] {
        scene.says(id, ack_epoch(0, Zxid::ZERO));
    }
    scene.stored(Current);
    assert_eq!(scene.synchronised(2), [""; 0]);
    assert_eq!(scene.closes(2), ["! 2 is gone"]);
    assert_eq!(scene.synchronised(3), [""; 0], "two of five");
    scene.informs(2, 1);
    scene.says(2, Packet::AckEpoch { last: Some(Zxid::ZERO), current_epoch: None });
    assert_eq!(scene.synchronised(2), ["2< UPTODATE", "3< UPTODATE", "! established 1"]);
}

#[test]
fn a_proposed_configuration_decides_too_but_not_about_the_epoch() {
    let (before, mut after) = (Membership::of(3, 2), Membership::of(5, 0));
    after.version = 0x100;
    let configs = Configurations { committed: before, last_seen: after };
    let mut scene = Scene::with(settings(), configs, 0, 0, Zxid::ZERO);
    let info = |server| LearnerInfo { server, protocol: PROTOCOL_JAVA, config_version: 0 };
    for id in [2, 4] {
        scene.connects(id);
        scene.says(id, Packet::FollowerInfo { accepted_epoch: 0, info: info(id) });
    }
    scene.stored(Accepted);
    scene.says(4, ack_epoch(0, Zxid::ZERO));
    assert_eq!(scene.says(2, ack_epoch(0, Zxid::ZERO)), ["store Current 1"]);
    scene.stored(Current);
    assert_eq!(scene.synchronised(2), [""; 0], "1 and 2 are a quorum of three, not of five");
    assert_eq!(scene.synchronised(4).last().unwrap(), "! established 1");
    scene.proposes();
    scene.durable(z(1, 1));
    assert_eq!(scene.acks(2, z(1, 1)), [""; 0]);
    assert_eq!(scene.acks(4, z(1, 1)), ["2< C 1.1", "4< C 1.1"]);
}

#[test]
fn a_later_configuration_is_not_led_by_an_earlier_one() {
    let mut scene = Scene::elected(3, 0, 0, 0, Zxid::ZERO);
    scene.connects(2);
    let info = LearnerInfo { server: 2, protocol: PROTOCOL_JAVA, config_version: z(1, 1).0 };
    let told = scene.says(2, Packet::FollowerInfo { accepted_epoch: 0, info });
    assert_eq!(told, ["2x server 2 has configuration 100000001 in force, later than 0 here", "! 2 is gone"]);
}
