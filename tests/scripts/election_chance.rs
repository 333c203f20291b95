//! Elections by chance: ensembles of ours and Java's electors, whose messages are lost, late and overtaken, whose links break one
//! way and both, who die, come back, and sometimes come back without their disk. Around them the least of ZAB: a leader needs
//! a quorum that is not ahead of it, gives it its history and a new epoch, and gives up when the quorum goes away.
//!
//! All the time: whoever is established has everything that was ever committed. In the end, when everything is well again: one
//! leader, and everybody behind it.

use std::collections::{BTreeMap, BTreeSet};

use ringkeeper::core::election::Candidate;
use ringkeeper::core::types::{ServerId, Standing, Zxid};
use ringkeeper::core::zab::membership::Membership;
use ringkeeper::wire::election::PeerState;

use super::election_net::{Net, Server, Way};

const SEEDS: u64 = 120;
const STEPS: usize = 1500;

/// Longer than the rarest repetition (a minute, among Java's) and what follows from it.
const SETTLED_WITHIN_US: u64 = 200_000_000;

/// How long a role lasts without what it needs. Java: initLimit, and the tries of a learner to connect.
const PATIENCE_US: u64 = 2_000_000;

#[test]
fn elections_by_chance_lose_nothing_and_come_to_an_end() {
    let mut sum = Counts::default();
    for seed in 1..=SEEDS {
        sum.add(&play(seed));
    }
    // What never happened was never tested.
    let Counts { elected, established, wiped, lost, cut, gave_up } = sum;
    assert!(elected > 5 * SEEDS && established > 2 * SEEDS && wiped > 10 && lost > SEEDS && cut > SEEDS, "{sum:?}");
    assert!(gave_up < elected / 10, "leaders that were elected behind their followers: {sum:?}");
    #[cfg(feature = "sim")]
    rare_branches_were_taken();
}

/// The marked ones, on this thread.
#[cfg(feature = "sim")]
fn rare_branches_were_taken() {
    let taken = ringkeeper_storage::probe::take_marks();
    let source = include_str!("../../src/core/election/fast_leader_election.rs");
    // Nobody changes the membership here: `election/tests.rs` and the simulator do.
    let of_changes = ["election: caught up with a voter to be"];
    let names = source.split("mark(\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    for name in names.filter(|name| !of_changes.contains(name)) {
        assert!(taken.contains_key(name), "never: {name}");
    }
}

/// Each rule that is broken on purpose is noticed.
#[cfg(feature = "sim")]
#[test]
fn broken_rules_are_noticed() {
    use ringkeeper_storage::probe::break_rule;
    for rule in ["an empty disk votes like any other", "the longer log wins over the newer epoch"] {
        break_rule(Some(rule));
        let noticed = (1..=10 * SEEDS).find(|seed| std::panic::catch_unwind(|| play(*seed)).is_err());
        break_rule(None);
        assert!(noticed.is_some(), "nobody noticed: {rule}");
    }
}

fn play(seed: u64) -> Counts {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.something_happens();
    }
    world.all_is_well_again();
    world.counts
}

#[derive(Debug, Default)]
struct Counts {
    elected: u64,
    established: u64,
    wiped: u64,
    lost: u64,
    cut: u64,
    gave_up: u64,
}

impl Counts {
    fn add(&mut self, other: &Counts) {
        self.elected += other.elected;
        self.established += other.established;
        self.wiped += other.wiped;
        self.lost += other.lost;
        self.cut += other.cut;
        self.gave_up += other.gave_up;
    }
}

struct World {
    seed: u64,
    chance: u64,
    net: Net,
    voters: i64,
    /// The history that a quorum has: epoch and zxid.
    committed: (u32, Zxid),
    last_epoch: u32,
    leaderships: BTreeMap<i64, Leadership>,
    unhappy_since_us: BTreeMap<i64, u64>,
    counts: Counts,
}

/// An established leader, and who has its history.
struct Leadership {
    epoch: u32,
    synchronised: BTreeSet<i64>,
}

impl World {
    fn new(seed: u64) -> World {
        let mut world = World {
            seed,
            chance: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            net: Net::new(Membership::of(1, 0)),
            voters: 0,
            committed: (0, Zxid(0)),
            last_epoch: 0,
            leaderships: BTreeMap::new(),
            unhappy_since_us: BTreeMap::new(),
            counts: Counts::default(),
        };
        world.voters = 1 + world.below(5) as i64;
        let observers = world.below(3) as i64;
        world.net = Net::new(Membership::of(world.voters, observers));
        let java = world.below(3); // none, some, all but few
        for id in 1..=world.voters + observers {
            world.net.server(id).is_java = world.below(4) < java;
            if world.one_in(2) {
                world.net.start(id);
            }
        }
        world
    }

    fn something_happens(&mut self) {
        let id = 1 + self.below(self.net.servers.len() as u64) as i64;
        match self.below(100) {
            0..55 => {
                let ways = self.net.deliverable();
                if let Some(way) = self.one_of(&ways) {
                    self.net.deliver(way);
                }
            }
            55..62 => {
                let ways = self.net.waiting();
                if let Some(way) = self.one_of(&ways) {
                    self.net.take(way);
                    self.counts.lost += 1;
                }
            }
            62..82 => {
                let pass_us = self.below(250_000);
                self.net.pass_until(self.net.now_us + pass_us);
            }
            82..84 => {
                let other = 1 + self.below(self.net.servers.len() as u64) as i64;
                let both = self.one_in(2);
                self.net.cut((id, other));
                if both {
                    self.net.cut((other, id));
                }
                self.counts.cut += 1;
            }
            84..87 => self.net.mend(|way| way.0 == id || way.1 == id),
            87 => {
                if self.net.is_up(id) {
                    self.stop(id);
                    if self.one_in(4) && self.may_wipe(id) {
                        self.wipe(id);
                    }
                }
            }
            88..91 => {
                if !self.net.is_up(id) {
                    self.net.start(id);
                }
            }
            _ => self.write(),
        }
        self.roles();
    }

    fn all_is_well_again(&mut self) {
        self.net.mend(|_| true);
        let down: Vec<i64> = self.net.servers.keys().copied().filter(|id| !self.net.is_up(*id)).collect();
        down.into_iter().for_each(|id| self.net.start(id));
        let until_us = self.net.now_us + SETTLED_WITHIN_US;
        while self.net.now_us < until_us && !self.is_settled() {
            for _ in 0..200 {
                let ways = self.net.deliverable();
                let Some(way) = self.one_of(&ways) else { break };
                self.net.deliver(way);
                self.roles();
            }
            let next_us = self.net.next_wake_us().unwrap_or(u64::MAX).min(self.net.now_us + 500_000);
            self.net.pass_until(next_us.max(self.net.now_us + 1000));
            self.roles();
        }
        let describe = |(id, server): (&i64, &Server)| {
            let kind = if server.is_java { "Java" } else { "ours" };
            format!("\n{id} {kind} {:?} {:?} {:?}", self.net.state(*id), self.net.vote(*id), server.candidate)
        };
        let states: String = self.net.servers.iter().map(describe).collect();
        assert!(self.is_settled(), "seed {}: no one leader with everybody behind it: {states}", self.seed);
    }

    fn is_settled(&self) -> bool {
        let everybody =
            |leadership: &Leadership| self.net.servers.keys().all(|id| leadership.synchronised.contains(id));
        self.leaderships.len() == 1
            && self.leaderships.values().all(everybody)
            && self.net.servers.keys().all(|id| self.net.state(*id) != Some(PeerState::Looking))
    }

    /// What comes of an elected leader and its followers.
    fn roles(&mut self) {
        self.counts.elected += self.net.told.iter().filter(|told| told.contains(" is LEADING ")).count() as u64;
        self.net.told.clear();
        for id in self.net.servers.keys().copied().collect::<Vec<i64>>() {
            let happy = match self.net.state(id) {
                None | Some(PeerState::Looking) => true,
                Some(PeerState::Leading) => self.lead(id),
                Some(PeerState::Following | PeerState::Observing) => {
                    let (leader, ..) = self.net.vote(id).expect("it is up");
                    let given_up = self.leaderships.get(&leader).is_none_or(|led| !led.synchronised.contains(&id));
                    self.net.state(leader) == Some(PeerState::Leading) && self.connected(id, leader) && !given_up
                }
            };
            if happy {
                self.unhappy_since_us.remove(&id);
                continue;
            }
            let since_us = *self.unhappy_since_us.entry(id).or_insert(self.net.now_us);
            if self.net.now_us - since_us > PATIENCE_US {
                self.look(id);
            }
        }
    }

    /// Whether this leader still has what it needs.
    fn lead(&mut self, id: i64) -> bool {
        let followers: BTreeSet<i64> =
            self.net.servers.keys().copied().filter(|other| *other == id || self.follows(*other, id)).collect();
        let quorum = |of: &BTreeSet<i64>| self.net.configs.has_all_quorums(|voter| of.contains(&voter.0));
        if let Some(leadership) = self.leaderships.get(&id) {
            let happy = quorum(&leadership.synchronised.intersection(&followers).copied().collect());
            let epoch = leadership.epoch;
            let last_logged = self.candidate(id).last_logged;
            for other in followers {
                if self.leaderships[&id].synchronised.contains(&other) {
                    continue;
                }
                self.net.established(other, epoch, last_logged);
                self.leaderships.get_mut(&id).expect("it leads").synchronised.insert(other);
            }
            return happy;
        }
        let promised: BTreeSet<i64> = followers.into_iter().filter(|other| self.net.counts(*other)).collect();
        if !quorum(&promised) {
            return false;
        }
        let voters = promised.iter().filter(|other| self.net.configs.is_voter(ServerId(**other)));
        if voters.into_iter().any(|other| self.history(*other) > self.history(id)) {
            self.counts.gave_up += 1;
            self.look(id);
            return true;
        }
        assert!(
            self.history(id) >= self.committed,
            "seed {}: {id} is established with {:?}, without the committed {:?}",
            self.seed,
            self.history(id),
            self.committed
        );
        self.counts.established += 1;
        self.last_epoch += 1;
        let zxid = self.candidate(id).last_logged;
        for other in &promised {
            self.net.established(*other, self.last_epoch, zxid);
        }
        self.committed = (self.last_epoch, zxid);
        self.leaderships.insert(id, Leadership { epoch: self.last_epoch, synchronised: promised });
        true
    }

    /// A transaction reaches the leader's disk, and those of some of its followers. If it is a quorum it is committed.
    fn write(&mut self) {
        let leaders: Vec<i64> = self.leaderships.keys().copied().collect();
        let Some(leader) = self.one_of(&leaders) else { return };
        let mut logged: BTreeSet<i64> = BTreeSet::from([leader]);
        for follower in self.leaderships[&leader].synchronised.clone() {
            // A link loses nothing but a suffix: whoever misses one is no longer synchronised.
            if follower != leader && self.follows(follower, leader) && !self.one_in(4) {
                logged.insert(follower);
            }
        }
        let first = u64::from(self.leaderships[&leader].epoch) << 32;
        let zxid = Zxid(self.candidate(leader).last_logged.0.max(first) + 1);
        for id in &logged {
            self.net.server(*id).candidate.last_logged = zxid;
        }
        if self.net.configs.has_all_quorums(|id| logged.contains(&id.0)) {
            self.committed = self.committed.max((self.leaderships[&leader].epoch, zxid));
        }
        let left_behind = self.leaderships.get_mut(&leader).expect("it leads");
        let all = std::mem::replace(&mut left_behind.synchronised, logged);
        for id in all.difference(&self.leaderships[&leader].synchronised.clone()) {
            self.look(*id);
        }
    }

    fn look(&mut self, id: i64) {
        self.forget(id);
        if self.net.is_up(id) && self.net.state(id) != Some(PeerState::Looking) {
            self.net.look(id);
        }
    }

    fn stop(&mut self, id: i64) {
        self.forget(id);
        self.net.stop(id);
    }

    /// Its role is over.
    fn forget(&mut self, id: i64) {
        self.unhappy_since_us.remove(&id);
        self.leaderships.remove(&id);
        for leadership in self.leaderships.values_mut() {
            leadership.synchronised.remove(&id);
        }
    }

    /// Only as many as a quorum of others that have data can do without.
    fn may_wipe(&self, id: i64) -> bool {
        let with_data = |other: i64| other != id && self.history(other) > (0, Zxid(0));
        !self.net.servers[&id].is_java && self.net.configs.has_all_quorums(|other| with_data(other.0))
    }

    fn wipe(&mut self, id: i64) {
        self.counts.wiped += 1;
        self.net.server(id).candidate = Candidate { last_logged: Zxid(0), current_epoch: 0, standing: Standing::Fresh };
    }

    fn follows(&self, id: i64, leader: i64) -> bool {
        let state = self.net.state(id);
        (state == Some(PeerState::Following) || state == Some(PeerState::Observing))
            && self.net.vote(id).is_some_and(|(followed, ..)| followed == leader)
            && self.connected(id, leader)
    }

    fn connected(&self, one: i64, other: i64) -> bool {
        let ways: [Way; 2] = [(one, other), (other, one)];
        self.net.is_up(one) && self.net.is_up(other) && ways.iter().all(|way| !self.net.is_cut(*way))
    }

    fn candidate(&self, id: i64) -> Candidate {
        self.net.servers[&id].candidate
    }

    fn history(&self, id: i64) -> (u32, Zxid) {
        let candidate = self.candidate(id);
        (candidate.current_epoch, candidate.last_logged)
    }

    fn below(&mut self, bound: u64) -> u64 {
        // xorshift64*
        self.chance ^= self.chance >> 12;
        self.chance ^= self.chance << 25;
        self.chance ^= self.chance >> 27;
        (self.chance.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        (!of.is_empty()).then(|| of[self.below(of.len() as u64) as usize])
    }
}
