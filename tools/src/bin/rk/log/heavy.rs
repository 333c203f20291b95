//! The heaviest of very many keys, in memory that does not grow with their number.
//!
//! Exact as long as there are not too many keys. Then, again and again, the lighter half is forgotten: what is heavy stays, and
//! its tally misses at most what it had when it was forgotten once, early.

use std::collections::HashMap;
use std::hash::Hash;

use super::stats::Tally;

const KEYS_MAX: usize = 200_000;

pub struct Heavy<K> {
    tallies: HashMap<K, Tally>,
    keys_max: usize,
    exact: bool,
}

impl<K: Hash + Ord + Clone> Heavy<K> {
    pub fn new() -> Heavy<K> {
        Heavy::of_at_most(KEYS_MAX)
    }

    fn of_at_most(keys_max: usize) -> Heavy<K> {
        Heavy { tallies: HashMap::new(), keys_max, exact: true }
    }

    pub fn add<Q>(&mut self, key: &Q, bytes: u64)
    where
        K: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        match self.tallies.get_mut(key) {
            Some(tally) => tally.add(bytes),
            None => {
                if self.tallies.len() == self.keys_max {
                    self.forget_the_lighter_half();
                }
                self.tallies.entry(key.to_owned()).or_default().add(bytes);
            }
        }
    }

    fn forget_the_lighter_half(&mut self) {
        self.exact = false;
        let mut weights: Vec<u64> = self.tallies.values().map(|tally| tally.records).collect();
        let middle = weights.len() / 2;
        let (_, median, _) = weights.select_nth_unstable(middle);
        let median = *median;
        let mut room = middle;
        // Of those as heavy as the median as many as there is room for: all may be equally heavy.
        self.tallies.retain(|_, tally| {
            let stays = tally.records > median || (tally.records == median && room > 0);
            room = room.saturating_sub(usize::from(stays));
            stays
        });
    }

    pub fn is_exact(&self) -> bool {
        self.exact
    }

    pub fn len(&self) -> usize {
        self.tallies.len()
    }

    /// By records, then bytes, the heaviest first.
    pub fn top(self, count: usize) -> Vec<(K, Tally)> {
        let mut all: Vec<_> = self.tallies.into_iter().collect();
        all.sort_by(|(a_key, a), (b_key, b)| {
            (b.records, b.bytes).cmp(&(a.records, a.bytes)).then_with(|| a_key.cmp(b_key))
        });
        all.truncate(count);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heavy_stay_when_there_are_too_many() {
        let mut heavy = Heavy::<String>::of_at_most(100);
        for round in 0..10_000 {
            heavy.add(format!("/light/{round}").as_str(), 1);
            if round % 10 == 0 {
                heavy.add("/heavy", 10);
            }
        }
        assert!(!heavy.is_exact() && heavy.len() <= 100);
        let (path, tally) = heavy.top(1).remove(0);
        assert_eq!((path.as_str(), tally), ("/heavy", Tally { records: 1000, bytes: 10_000 }));
    }

    #[test]
    fn few_are_counted_exactly() {
        let mut heavy = Heavy::<String>::new();
        for (path, bytes) in [("/b", 1), ("/a", 2), ("/a", 3), ("/c", 9)] {
            heavy.add(path, bytes);
        }
        assert!(heavy.is_exact());
        let tally = |records, bytes| Tally { records, bytes };
        let expected = [("/a", tally(2, 5)), ("/c", tally(1, 9)), ("/b", tally(1, 1))];
        assert_eq!(heavy.top(9), expected.map(|(path, tally)| (path.to_owned(), tally)));
    }
}
