//! Who is heard of, and what happens when nobody is. Spec: quorum-protocol 10.4, 14.

use super::scene::{Scene, settings, z};
use crate::core::settings::Ensemble;
use crate::core::types::{EpochKind, LinkId};
use crate::core::zab::membership::{Configurations, Membership};
use crate::limits;
use crate::wire::quorum::Packet;

fn pings(told: &[String]) -> usize {
    told.iter().filter(|line| line.contains("PING")).count()
}

#[test]
fn a_ping_goes_out_every_half_tick() {
    let mut scene = Scene::leading();
    assert_eq!(scene.passes(0.5), ["2< PING 6.0"]);
    scene.proposes();
    assert_eq!(scene.passes(0.5), ["2< PING 6.1"]);
    scene.joins(3, z(4, 11));
    assert_eq!(pings(&scene.passes(0.5)), 1, "nothing between a snapshot's parts");
    scene.snapshot_begins(3);
    assert_eq!(pings(&scene.passes(0.5)), 1);
    scene.snapshot_ends(3);
    assert_eq!(pings(&scene.passes(0.5)), 2, "behind NEWLEADER");
}

#[test]
fn what_a_learner_heard_of_sessions_is_passed_on() {
    let mut scene = Scene::leading();
    let touched = Some(vec![(7, 4000), (8, 5000)]);
    assert_eq!(scene.says(2, Packet::Ping { zxid: z(6, 0), touched }), ["! touched 7 4000", "! touched 8 5000"]);
    assert_eq!(scene.says(2, Packet::Ping { zxid: z(6, 0), touched: None }), [""; 0]);
    let told = scene.says(2, Packet::Revalidate { session: 7, timeout_ms: 4000 });
    assert_eq!(told, ["! revalidate 7 4000 for 2"]);
}

#[test]
fn a_leader_nobody_hears_steps_down() {
    let mut scene = Scene::leading();
    assert!(!scene.passes_among(&[2], 30.0).iter().any(|line| line.starts_with("! over")));
    let told = scene.passes(6.0);
    assert!(told.contains(&"2x nothing was heard of it in time while it followed".to_owned()), "{told:?}");
    assert_eq!(told.last().unwrap(), "! over: no quorum of voters was heard of in time");
}

#[test]
fn one_of_three_may_be_silent() {
    let mut scene = Scene::leading();
    scene.joins(3, z(5, 3));
    scene.synchronised(3);
    let told = scene.passes_among(&[3], 20.0);
    assert!(told.contains(&"! 2 is gone".to_owned()));
    assert!(!told.iter().any(|line| line.starts_with("! over")));
}

#[test]
fn a_voter_that_is_just_coming_back_is_there() {
    let mut scene = Scene::leading();
    scene.closes(2);
    scene.joins(2, z(4, 11));
    assert!(!scene.passes(1.0).iter().any(|line| line.starts_with("! over")));
    scene.snapshot_begins(2);
    for _ in 0..20 {
        assert!(!scene.passes(5.0).iter().any(|line| line.starts_with("! over")), "as long as it takes something");
        scene.sends_part(2);
        scene.drains(2);
    }
    let told = scene.passes(20.0);
    assert!(told.last().unwrap().starts_with("! over"), "{told:?}");
}

/// Its machine lost power when it was about to acknowledge NEWLEADER; nobody tells, and the kernel takes what it is sent.
#[test]
fn a_link_that_takes_pings_keeps_no_leader_alive() {
    let mut scene = Scene::leading();
    scene.closes(2);
    scene.joins(2, z(5, 3));
    let mut told = Vec::new();
    for _ in 0..40 {
        scene.drains(2);
        told.extend(scene.passes(0.5));
    }
    assert!(
        told.contains(&"2x nothing was heard of it in time while its ACK of NEWLEADER was due".to_owned()),
        "{told:?}"
    );
    assert_eq!(told.last().unwrap(), "! over: no quorum of voters was heard of in time");
}

#[test]
fn observers_keep_no_leader_alive() {
    let mut scene = Scene::leading();
    for id in [4, 5] {
        scene.joins(id, z(5, 3));
        scene.synchronised(id);
    }
    scene.closes(2);
    let told = scene.passes_among(&[4, 5], 1.0);
    assert!(told.iter().any(|line| line.starts_with("! over")), "{told:?}");
}

#[test]
fn an_ack_has_its_time() {
    let mut scene = Scene::leading();
    scene.joins(3, z(5, 3));
    scene.synchronised(3);
    scene.writes();
    let told = scene.passes_among(&[2, 3], 5.0);
    assert!(!told.iter().any(|line| line.starts_with("3x")), "{told:?}");
    let told = scene.passes_among(&[2, 3], 1.0);
    assert!(told.contains(&"3x a proposal was not acknowledged in time".to_owned()), "{told:?}");
    assert!(!told.iter().any(|line| line.starts_with("2x")), "{told:?}");
}

#[test]
fn who_acks_in_time_may_be_behind_for_ever() {
    let mut scene = Scene::leading();
    scene.joins(3, z(5, 3));
    scene.synchronised(3);
    for counter in 1..100 {
        scene.writes();
        assert!(!scene.passes_among(&[2, 3], 1.0).iter().any(|line| line.starts_with("3x")));
        if counter > 3 {
            scene.acks(3, z(6, counter - 3));
        }
    }
}

#[test]
fn a_learner_that_takes_nothing_is_dropped_and_nobody_else() {
    let mut scene = Scene::leading_with(Ensemble { learner_queue_max_bytes: 2000, ..settings() });
    scene.joins(3, z(5, 3));
    scene.synchronised(3);
    let mut told = Vec::new();
    for _ in 0..20 {
        told.extend(scene.writes());
        scene.drains(2);
    }
    assert!(told.contains(&"3x too much waits for it that it does not take".to_owned()), "{told:?}");
    assert!(!told.iter().any(|line| line.starts_with("2x")), "{told:?}");
}

#[test]
fn what_is_held_back_behind_a_snapshot_has_the_same_bound() {
    let mut scene = Scene::leading_with(Ensemble { learner_queue_max_bytes: 2000, ..settings() });
    scene.joins(3, z(4, 11));
    scene.snapshot_begins(3);
    let mut told = Vec::new();
    for _ in 0..20 {
        told.extend(scene.writes());
        scene.drains(2);
    }
    assert!(told.contains(&"! 3 is gone".to_owned()), "{told:?}");
}

#[test]
fn syncs_that_wait_are_bounded() {
    let mut scene = Scene::leading();
    scene.proposes();
    for _ in 0..limits::LEARNER_SYNCS {
        scene.leader.sync_asked(LinkId(2), &mut Vec::new());
    }
    let told = scene.asks_sync(2);
    assert_eq!(told, ["2x too many of its clients' syncs wait already", "! 2 is gone"]);
}

#[test]
fn a_sync_is_answered_behind_what_it_waits_for() {
    let mut scene = Scene::leading();
    assert_eq!(scene.asks_sync(2), ["2< SYNC"], "nothing is in flight");
    scene.proposes();
    scene.proposes();
    assert_eq!(scene.asks_sync(2), [""; 0]);
    scene.durable(z(6, 2));
    assert_eq!(scene.acks(2, z(6, 1)), ["2< C 6.1"]);
    assert_eq!(scene.acks(2, z(6, 2)), ["2< C 6.2", "2< SYNC"]);
    scene.proposes();
    scene.asks_sync(2);
    scene.closes(2);
    scene.joins(3, z(6, 2));
    scene.synchronised(3);
    scene.durable(z(6, 3));
    assert_eq!(scene.acks(3, z(6, 3)), ["3< C 6.3"], "who asked is gone");
}

#[test]
fn the_leader_says_when_it_wants_to_be_woken() {
    let mut scene = Scene::leading();
    for _ in 0..50 {
        let wake_us = scene.leader.wake_us().unwrap();
        assert!(wake_us > scene.now.mono_us && wake_us <= scene.now.mono_us + super::scene::TICK_US / 2);
        scene.passes_among(&[2], 0.5);
    }
}

/// Not what was on its way before it asked.
#[test]
fn a_leader_that_makes_sure_waits_for_a_quorum_of_later_answers() {
    let mut scene = Scene::leading();
    scene.joins(3, z(5, 3));
    scene.synchronised(3);
    let answer = || Packet::Ping { zxid: z(6, 0), touched: None };
    assert_eq!(scene.passes(0.5), ["2< PING 6.0", "3< PING 6.0"]);
    assert_eq!(scene.makes_sure(), (1, vec!["2< PING 6.0".to_owned(), "3< PING 6.0".to_owned()]));
    assert_eq!(scene.says(2, answer()), [""; 0], "to the ping before");
    assert_eq!(scene.says(3, answer()), [""; 0], "to the ping before");
    // Asked too late for this round.
    assert_eq!(scene.makes_sure(), (2, vec![]));
    assert_eq!(scene.says(3, answer()), ["2< PING 6.0", "3< PING 6.0", "! confirmed 1"]);
    assert_eq!(scene.says(2, answer()), [""; 0], "to the ping of the round before");
    assert_eq!(scene.says(2, answer()), ["! confirmed 2"]);
    assert_eq!(scene.says(3, answer()), [""; 0]);
    assert_eq!(scene.makes_sure().0, 3);
}

#[test]
fn observers_and_newcomers_make_no_leader_sure() {
    let mut scene = Scene::leading();
    for id in [3, 4] {
        scene.joins(id, z(5, 3));
    }
    scene.synchronised(4);
    assert_eq!(scene.makes_sure().0, 1);
    let answer = || Packet::Ping { zxid: z(6, 0), touched: None };
    assert_eq!(scene.says(4, answer()), [""; 0], "an observer");
    // In the middle of synchronisation nobody answers.
    scene.synchronised(3);
    assert_eq!(scene.passes(0.5), ["2< PING 6.0", "3< PING 6.0", "4< PING 6.0"]);
    assert_eq!(scene.says(3, answer()), ["! confirmed 1"]);
}

#[test]
fn a_leader_that_is_its_own_quorum_is_sure() {
    let mut scene = Scene::elected(1, 0, 0, 0, z(0, 0));
    scene.stored_epoch(crate::core::types::EpochKind::Accepted, 1);
    scene.stored_epoch(crate::core::types::EpochKind::Current, 1);
    assert_eq!(scene.makes_sure(), (1, vec!["! confirmed 1".to_owned()]));
}

#[test]
fn a_leader_without_its_quorum_says_who_is_missing() {
    let mut scene = Scene::elected(3, 0, 5, 5, z(5, 3));
    let configs = Configurations::settled(Membership::of(3, 0));
    let awaited = |scene: &Scene| {
        let awaited = scene.leader.awaited(&configs);
        awaited.into_iter().map(|(server, why)| format!("{}: {why}", server.0)).collect::<Vec<_>>()
    };
    let absent = "it has not connected to this server";
    assert_eq!(scene.leader.zab_state(), "discovery");
    assert_eq!(awaited(&scene), [format!("2: {absent}"), format!("3: {absent}")]);
    scene.informs(2, 5);
    scene.stored(EpochKind::Accepted);
    assert_eq!(awaited(&scene), ["2: it has not accepted the epoch yet".to_owned(), format!("3: {absent}")]);
    scene.says(2, Packet::AckEpoch { last: Some(z(5, 3)), current_epoch: Some(5) });
    assert_eq!(awaited(&scene), [format!("3: {absent}")]);
    scene.stored(EpochKind::Current);
    assert_eq!(scene.leader.zab_state(), "synchronization");
    assert_eq!(awaited(&scene), ["2: it is being brought up to the history".to_owned(), format!("3: {absent}")]);
    scene.synchronised(2);
    assert_eq!((scene.leader.zab_state(), scene.leader.learners()[0].in_step), ("broadcast", true));
}
