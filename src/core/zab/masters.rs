//! Which voter an observer takes for its master: one after the other, in an order that is its own, so that observers spread.
//!
//! The leader comes last, and only when nobody else would serve: followers are there so that it need not. But it may be that no
//! follower can serve before the observer has come: a configuration that is proposed may make a voter of it. (Java's observers
//! ask the leader in its turn, at a port where it turns them away.) Java: `QuorumPeer.nextObserverMaster`. Spec:
//! quorum-protocol 15.

use super::membership::Configurations;
use crate::core::types::ServerId;

#[derive(Debug)]
pub struct Masters {
    /// Chance, as the shell gave it; another one each round.
    chance: u64,
    /// Of this round, the last one first.
    left: Vec<ServerId>,
    /// Those of this round that had their turn were of no use.
    in_vain: bool,
}

impl Masters {
    pub fn new(chance: u64) -> Masters {
        Masters { chance, left: Vec::new(), in_vain: false }
    }

    /// The next one. None: the leader itself.
    pub fn next(&mut self, configs: &Configurations, leader: ServerId) -> Option<ServerId> {
        let may_serve = |id: &ServerId| configs.is_voter(*id) && *id != leader;
        self.left.retain(may_serve);
        if self.left.is_empty() && !self.in_vain {
            self.chance = mixed(self.chance);
            self.left = configs.committed.voters().filter(may_serve).collect();
            self.left.sort_by_key(|id| mixed(self.chance ^ id.0 as u64));
        }
        let next = self.left.pop();
        self.in_vain = next.is_some();
        next
    }

    /// The last one serves.
    pub fn found(&mut self) {
        self.in_vain = false;
    }

    /// All of them had their turn: the next round may wait a while.
    pub fn is_round_over(&self) -> bool {
        self.left.is_empty() && !self.in_vain
    }
}

/// The finish of splitmix64.
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::core::zab::membership::Membership;

    #[test]
    fn each_has_its_turn_in_a_round_and_the_leader_the_last() {
        let configs = Configurations::settled(Membership::of(5, 1));
        let mut masters = Masters::new(7);
        for round in 0..10 {
            let tried: BTreeSet<_> = (0..4).map(|_| masters.next(&configs, ServerId(2)).unwrap().0).collect();
            assert_eq!(tried, BTreeSet::from([1, 3, 4, 5]), "round {round}");
            assert!(!masters.is_round_over());
            assert_eq!(masters.next(&configs, ServerId(2)), None, "the leader itself");
            assert!(masters.is_round_over());
        }
    }

    #[test]
    fn who_was_served_begins_with_a_follower_again() {
        let configs = Configurations::settled(Membership::of(2, 1));
        let mut masters = Masters::new(7);
        for _ in 0..3 {
            assert_eq!(masters.next(&configs, ServerId(2)), Some(ServerId(1)));
            masters.found();
        }
    }

    #[test]
    fn observers_do_not_all_begin_with_the_same() {
        let configs = Configurations::settled(Membership::of(5, 1));
        let first = |chance| Masters::new(chance).next(&configs, ServerId(1)).unwrap().0;
        assert_eq!((0..100).map(first).collect::<BTreeSet<_>>(), BTreeSet::from([2, 3, 4, 5]));
    }

    #[test]
    fn a_leader_alone_is_its_observers_master() {
        let configs = Configurations::settled(Membership::of(1, 1));
        assert_eq!(Masters::new(7).next(&configs, ServerId(1)), None);
    }
}
