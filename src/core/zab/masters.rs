//! Which voter an observer takes for its master: one after the other, in an order that is its own, so that observers spread.
//!
//! The leader is passed over: it serves observers on its quorum port only. If there is nobody else, it is the one. (Java's
//! observers ask it in their turn and are turned away, and with one voter they never get anywhere.) Java:
//! `QuorumPeer.nextObserverMaster`. Spec: quorum-protocol 15.

use super::membership::Configurations;
use crate::core::types::ServerId;

#[derive(Debug)]
pub struct Masters {
    /// Chance, as the shell gave it; another one each round.
    chance: u64,
    /// Of this round, the last one first.
    left: Vec<ServerId>,
}

impl Masters {
    pub fn new(chance: u64) -> Masters {
        Masters { chance, left: Vec::new() }
    }

    /// The next one. None: the leader itself.
    pub fn next(&mut self, configs: &Configurations, leader: ServerId) -> Option<ServerId> {
        let may_serve = |id: &ServerId| configs.is_voter(*id) && *id != leader;
        self.left.retain(may_serve);
        if self.left.is_empty() {
            self.chance = mixed(self.chance);
            self.left = configs.committed.voters().filter(may_serve).collect();
            self.left.sort_by_key(|id| mixed(self.chance ^ id.0 as u64));
        }
        self.left.pop()
    }

    /// All of them had their turn: the next round may wait a while.
    pub fn is_round_over(&self) -> bool {
        self.left.is_empty()
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
    fn each_has_its_turn_in_a_round_and_the_leader_never() {
        let configs = Configurations::settled(Membership::of(5, 1));
        let mut masters = Masters::new(7);
        for round in 0..10 {
            let tried: BTreeSet<_> = (0..4).map(|_| masters.next(&configs, ServerId(2)).unwrap().0).collect();
            assert_eq!(tried, BTreeSet::from([1, 3, 4, 5]), "round {round}");
            assert!(masters.is_round_over());
        }
        masters.next(&configs, ServerId(2));
        assert!(!masters.is_round_over());
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
