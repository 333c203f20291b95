//! Which servers decide, and what they have decided. Java: `QuorumMaj`. Spec: quorum-protocol 2.3.

use std::collections::BTreeMap;

use crate::core::types::{ServerId, Zxid};

/// A majority of equal voters.
#[derive(Clone, Debug)]
pub struct Quorum {
    voters: Vec<ServerId>,
}

impl Quorum {
    /// # Panics
    /// Without voters: nobody could ever agree.
    pub fn majority(voters: Vec<ServerId>) -> Self {
        assert!(!voters.is_empty(), "a quorum needs a voter");
        Quorum { voters }
    }

    /// The highest zxid that a majority of voters has acknowledged. Acks ride FIFO links, so one covers its prefix.
    pub fn agreed(&self, acked: &BTreeMap<ServerId, Zxid>) -> Zxid {
        let mut marks: Vec<Zxid> =
            self.voters.iter().map(|voter| acked.get(voter).copied().unwrap_or(Zxid::ZERO)).collect();
        marks.sort_unstable_by(|a, b| b.cmp(a));
        marks[self.voters.len() / 2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreed(voters: usize, acks: &[u64]) -> u64 {
        let ids: Vec<ServerId> = (1..=voters as i64).map(ServerId).collect();
        let acked = acks.iter().zip(&ids).map(|(zxid, id)| (*id, Zxid(*zxid))).collect();
        Quorum::majority(ids).agreed(&acked).0
    }

    #[test]
    fn a_majority_decides() {
        assert_eq!(agreed(1, &[7]), 7);
        assert_eq!(agreed(2, &[7, 5]), 5, "two voters need both");
        assert_eq!(agreed(3, &[7, 5, 0]), 5);
        assert_eq!(agreed(3, &[7]), 0, "one of three is nobody");
        assert_eq!(agreed(5, &[9, 8, 7, 6, 5]), 7);
        assert_eq!(agreed(4, &[9, 8, 7, 6]), 7, "an even ensemble needs one more than half");
    }
}
