//! One elector and what it is told. Dialogues of several are in `tests/scripts/election-*.txt`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;

use super::{Candidate, Election, Nominee, Vote};
use crate::core::settings::Ensemble;
use crate::core::types::{Now, Output, ServerId, Standing, Zxid};
use crate::core::zab::membership::{Configurations, Membership, QuorumKind};
use crate::wire::election::{Notification, PeerState};

const WHOLE: Candidate = Candidate { last_logged: Zxid(0x1_0000_0005), current_epoch: 1, standing: Standing::Whole };

fn at(ms: u64) -> Now {
    Now { mono_us: ms * 1000, wall_ms: 0 }
}

fn looking(leader: i64, round: i64) -> Notification {
    Notification {
        state: PeerState::Looking,
        leader,
        zxid: 0x1_0000_0005,
        election_epoch: round,
        peer_epoch: 1,
        version: Notification::VERSION,
        config: Bytes::new(),
    }
}

struct Elector {
    election: Election,
    configs: Configurations,
    out: Vec<Output>,
}

impl Elector {
    fn started(id: i64, candidate: Candidate, configs: Configurations) -> Elector {
        let mut election = Election::new(ServerId(id), &Ensemble::default(), candidate, &configs);
        let mut out = Vec::new();
        election.start(at(0), candidate, &configs, &mut out);
        Elector { election, configs, out }
    }

    fn hears(&mut self, ms: u64, from: i64, notification: &Notification) {
        self.election.on_notification(at(ms), ServerId(from), notification, &self.configs, &mut self.out);
    }

    fn ticks(&mut self, ms: u64) -> Option<Vote> {
        self.election.on_tick(at(ms), &self.configs, &mut self.out);
        self.election.take_decision().map(|decision| decision.vote)
    }

    /// To whom it has said something since the last time.
    fn told(&mut self) -> Vec<i64> {
        let to = |output: Output| match output {
            Output::Notify { to, .. } => to.0,
            other => panic!("{other:?}"),
        };
        self.out.drain(..).map(to).collect()
    }
}

fn of(voters: i64) -> Configurations {
    Configurations::settled(Membership::of(voters, 0))
}

/// From 1, 2 and 3 to 3, 4 and 5: both decide.
fn changing() -> Configurations {
    let committed = Membership::of(3, 0);
    let mut last_seen = Membership { version: 0x1_0000_0009, ..Membership::of(5, 0) };
    last_seen.members.retain(|id, _| id.0 >= 3);
    Configurations { committed, last_seen }
}

#[test]
fn the_only_voter_elects_itself() {
    let mut elector = Elector::started(1, WHOLE, of(1));
    assert!(elector.told().is_empty());
    assert_eq!(elector.ticks(149), None);
    assert_eq!(elector.election.wake_us(), Some(150_000));
    assert_eq!(elector.ticks(150).unwrap().leader, ServerId(1));
    assert_eq!((elector.election.state(), elector.election.wake_us()), (PeerState::Leading, None));
    assert_eq!(elector.ticks(1000), None, "a decision is told once");
}

#[test]
fn a_leader_knows_who_elected_it() {
    let mut elector = Elector::started(3, WHOLE, of(5));
    elector.hears(0, 1, &looking(3, 1));
    elector.hears(0, 2, &looking(3, 1));
    elector.hears(0, 4, &Notification { zxid: 1, ..looking(4, 1) });
    assert!(!elector.election.is_elected_by(ServerId(1)), "not yet");
    assert_eq!(elector.ticks(200).unwrap().leader, ServerId(3));
    let electors: Vec<i64> = (1..=5).filter(|id| elector.election.is_elected_by(ServerId(*id))).collect();
    assert_eq!(electors, [1, 2, 3]);
    elector.election.role_over();
    assert!(!elector.election.is_elected_by(ServerId(1)));
}

#[test]
fn during_a_reconfiguration_both_quorums_decide() {
    let mut elector = Elector::started(3, WHOLE, changing());
    assert_eq!(elector.told(), [1, 2, 4, 5]);
    elector.hears(0, 1, &looking(3, 1));
    elector.hears(0, 2, &looking(3, 1));
    assert_eq!(elector.ticks(250), None, "all of the old and one of the new");
    elector.hears(300, 4, &looking(3, 1));
    assert_eq!(elector.ticks(449), None);
    assert_eq!(elector.ticks(450).unwrap().leader, ServerId(3));
}

/// What it knows of alone never gets its quorum, and nobody but the leader can tell it so.
#[test]
fn a_leader_of_the_configuration_in_force_is_joined_whatever_is_proposed_here() {
    let mut elector = Elector::started(3, WHOLE, changing());
    let settled = |state| Notification { state, ..looking(1, 4) };
    elector.hears(0, 2, &settled(PeerState::Following));
    assert_eq!(elector.ticks(100), None);
    elector.hears(200, 1, &settled(PeerState::Leading));
    assert_eq!(elector.ticks(200).unwrap().leader, ServerId(1));
}

#[test]
fn a_voter_of_the_next_configuration_alone_has_no_vote_for_itself_but_may_be_voted_for() {
    let mut elector = Elector::started(5, WHOLE, changing());
    assert_eq!(elector.election.current_vote().leader, ServerId(i64::MIN));
    elector.hears(0, 4, &looking(4, 1));
    for supporter in [1, 2] {
        elector.hears(0, supporter, &looking(4, 1));
    }
    assert_eq!(elector.ticks(200).unwrap().leader, ServerId(4));
}

#[test]
fn who_was_put_forward_is_voted_for_in_one_election() {
    let mut elector = Elector::started(3, WHOLE, changing());
    let nominee = Nominee { current_epoch: 1, last: Zxid(0x1_0000_0007), id: ServerId(5) };
    elector.election.nominate(nominee);
    elector.election.start(at(0), WHOLE, &elector.configs, &mut elector.out);
    let more = Notification { zxid: 0x1_0000_0007, ..looking(5, 2) };
    [1, 5].iter().for_each(|from| elector.hears(10, *from, &more));
    assert_eq!(elector.ticks(300).unwrap().leader, ServerId(5));
    elector.out.clear();
    elector.election.start(at(1000), WHOLE, &elector.configs, &mut elector.out);
    let proposed = |output: &Output| matches!(output, Output::Notify { notification, .. } if notification.leader == 3);
    assert!(elector.out.iter().all(proposed), "{:?}", elector.out);
}

/// Both are needed: the one in force for its candidate, the one to be for its vote. Whoever is behind catches up.
#[test]
fn a_voter_to_be_is_not_waited_for_in_vain() {
    let mut elector = Elector::started(3, WHOLE, changing());
    elector.told();
    let nobody = Notification { leader: i64::MIN, zxid: i64::MIN, peer_epoch: i64::MIN, ..looking(4, 6) };
    elector.hears(0, 4, &nobody);
    assert_eq!(elector.told(), [1, 2, 4, 5], "in round 6 now");
    for from in [1, 4] {
        elector.hears(10, from, &looking(3, 6));
    }
    assert_eq!(elector.ticks(300).unwrap().leader, ServerId(3));
}

#[test]
fn a_hierarchy_does_not_follow_whose_weight_it_does_not_know() {
    let groups = BTreeMap::from([(1, (1..=3).map(ServerId).collect::<BTreeSet<ServerId>>())]);
    let mut configs = changing();
    configs.committed.kind =
        QuorumKind::Hierarchical { groups, weights: (1..=3).map(|id| (ServerId(id), 1)).collect() };
    let mut elector = Elector::started(1, WHOLE, configs);
    elector.told();
    elector.hears(0, 5, &looking(5, 1));
    assert!(elector.told().is_empty(), "nothing to pass on");
    elector.hears(0, 3, &looking(3, 1));
    assert_eq!(elector.told(), [2, 3, 4, 5]);
}

#[test]
fn a_newer_configuration_is_reported_once_and_only_while_looking() {
    let mut elector = Elector::started(1, WHOLE, of(3));
    let text = Bytes::from_static(b"server.2=h:1:2:participant\nversion=100000009");
    let newer = Notification { config: text.clone(), ..looking(2, 1) };
    let same = Notification { config: Bytes::from_static(b"version=0"), ..looking(2, 1) };
    elector.hears(0, 2, &same);
    assert_eq!(elector.election.take_newer_config(), None);
    elector.hears(0, 2, &newer);
    assert_eq!(elector.election.take_newer_config(), Some(text));
    assert_eq!(elector.election.take_newer_config(), None);
    assert_eq!(elector.ticks(200).unwrap().leader, ServerId(2), "it is heard all the same");
    elector.hears(300, 3, &newer);
    assert_eq!(elector.election.take_newer_config(), None);
}

#[test]
fn who_leads_no_longer_tells_nobody_that_it_does() {
    let mut elector = Elector::started(1, WHOLE, of(3));
    elector.hears(0, 2, &looking(1, 1));
    assert_eq!(elector.ticks(200).unwrap().leader, ServerId(1));
    elector.told();
    elector.hears(300, 3, &looking(3, 1));
    assert_eq!(elector.told(), [3]);
    elector.election.role_over();
    elector.hears(400, 3, &looking(3, 1));
    assert!(elector.told().is_empty());
    elector.election.start(at(500), WHOLE, &elector.configs, &mut elector.out);
    assert_eq!(elector.told(), [2, 3]);
}

#[test]
fn being_told_that_one_is_behind_has_its_measure() {
    let mut elector = Elector::started(3, WHOLE, of(3));
    elector.told();
    for ms in [0, 100, 199, 200, 399, 400] {
        elector.hears(ms, 1, &looking(1, 1));
    }
    assert_eq!(elector.told(), [1, 1, 1]);
}

fn notifications() -> impl Strategy<Value = (i64, Notification)> {
    let number = || prop::sample::select(vec![0, 1, 2, 5, -1, i64::MIN, i64::MAX, 0x1_0000_0005, 0x1_0000_0006]);
    let state = prop::sample::select(vec![
        PeerState::Looking,
        PeerState::Looking,
        PeerState::Following,
        PeerState::Leading,
        PeerState::Observing,
    ]);
    let config = prop::sample::select(vec!["", "version=0", "version=5", "version=zz"]);
    (0..7i64, state, prop_oneof![0..7i64, number()], [number(), number(), number()], 0..4i32, config).prop_map(
        |(from, state, leader, [zxid, election_epoch, peer_epoch], version, config)| {
            let config = Bytes::from_static(config.as_bytes());
            (from, Notification { state, leader, zxid, election_epoch, peer_epoch, version, config })
        },
    )
}

proptest! {
    /// A peer may say whatever it likes: it gets an answer at most, and nobody leads who does not count.
    #[test]
    fn nothing_that_peers_say_is_too_much(
        id in 1..6i64,
        standing in prop::sample::select(vec![Standing::Whole, Standing::Fresh, Standing::Lost]),
        heard in prop::collection::vec((notifications(), 0..400u64, 0..12u8), 1..80),
    ) {
        let last_logged = if standing == Standing::Fresh { Zxid(0) } else { Zxid(0x1_0000_0005) };
        let candidate = Candidate { last_logged, current_epoch: last_logged.epoch(), standing };
        let mut elector = Elector::started(id, candidate, changing());
        let mut ms = 0;
        for ((from, notification), passed_ms, event) in heard {
            ms += passed_ms;
            elector.out.clear();
            match event {
                0 => {
                    elector.election.start(at(ms), candidate, &elector.configs, &mut elector.out);
                }
                1 => elector.election.role_over(),
                _ => elector.hears(ms, from, &notification),
            }
            // The news, a withdrawal, an answer: a message for each voter at most three times.
            prop_assert!(elector.out.len() <= 13, "{:?}", elector.out);
            if let Some(vote) = elector.ticks(ms) {
                prop_assert!(elector.configs.is_voter(vote.leader));
                let leads = elector.election.state() == PeerState::Leading;
                prop_assert_eq!(leads, vote.leader == ServerId(id));
                prop_assert!(!leads || elector.election.counts());
            }
            prop_assert!(elector.election.wake_us().is_none_or(|at_us| at_us > ms * 1000), "due and not done");
        }
    }
}
