//! What the tree's digest was, for operators who compare servers (`hash`).

use std::collections::VecDeque;

use crate::core::types::Zxid;

/// The tree's digest after every so manieth transaction, the newest. Java: `DataTree.digestLog`.
#[derive(Debug, Default)]
pub struct DigestHistory {
    digests: VecDeque<(Zxid, u64)>,
}

impl DigestHistory {
    const INTERVAL: u64 = 128;
    const LENGTH: usize = 1024;

    pub fn note(&mut self, zxid: Zxid, digest: u64) {
        if zxid.0.is_multiple_of(DigestHistory::INTERVAL) {
            if self.digests.len() == DigestHistory::LENGTH {
                self.digests.pop_front();
            }
            self.digests.push_back((zxid, digest));
        }
    }

    /// Oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (Zxid, u64)> {
        self.digests.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_history_keeps_the_newest_of_every_128th_transaction() {
        let mut history = DigestHistory::default();
        for zxid in 1..=200_000 {
            history.note(Zxid(zxid), zxid * 3);
        }
        assert_eq!(history.digests.len(), 1024);
        assert_eq!(history.digests.back(), Some(&(Zxid(199_936), 199_936 * 3)));
        assert_eq!(history.digests.front(), Some(&(Zxid(199_936 - 1023 * 128), (199_936 - 1023 * 128) * 3)));
    }
}
