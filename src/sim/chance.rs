//! Chance, in the shapes a world needs it. Everything comes from the seed (`storage`'s splitmix64).

use std::ops::Range;

pub use ringkeeper_storage::backend::memory::Chance;

pub trait Draw {
    fn between(&mut self, range: Range<u64>) -> u64;
    /// True in so many of a million cases.
    fn per_million(&mut self, cases: u64) -> bool;
    fn one_in(&mut self, cases: u64) -> bool;
    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T;
    /// Around `mean`, mostly less, sometimes several times as much; never 0. As the gaps between accidents are.
    fn about(&mut self, mean: u64) -> u64;
    /// Between the two, each order of magnitude as likely as the other.
    fn any_size(&mut self, range: Range<u64>) -> u64;
    /// A stream of its own, so that what is drawn there changes nothing here.
    fn fork(&mut self) -> Chance;
}

impl Draw for Chance {
    fn between(&mut self, range: Range<u64>) -> u64 {
        range.start + self.below((range.end - range.start).max(1))
    }

    fn per_million(&mut self, cases: u64) -> bool {
        cases > 0 && self.below(1_000_000) < cases
    }

    fn one_in(&mut self, cases: u64) -> bool {
        self.below(cases.max(1)) == 0
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }

    fn about(&mut self, mean: u64) -> u64 {
        // A geometric number of halves and a uniform rest: integers only, the same on every machine.
        let halves = u64::from(self.draw().trailing_zeros().min(6));
        (mean * halves / 2 + self.below(mean.max(1))).max(1)
    }

    fn any_size(&mut self, range: Range<u64>) -> u64 {
        let (low, high) = (range.start.max(1), range.end.max(2));
        let doublings = u64::from(high.ilog2() - low.ilog2()) + 1;
        let from = (low << self.below(doublings)).min(high - 1);
        self.between(from..(from * 2).min(high).max(from + 1))
    }

    fn fork(&mut self) -> Chance {
        Chance(self.draw())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_stay_inside_their_bounds_and_reach_them() {
        let mut chance = Chance(1);
        let mut sizes = std::collections::BTreeSet::new();
        let mut sum = 0;
        for _ in 0..10_000 {
            assert!((3..6).contains(&chance.between(3..6)));
            let size = chance.any_size(10..1000);
            assert!((10..1000).contains(&size));
            sizes.insert(size.ilog2());
            sum += chance.about(100);
        }
        assert_eq!(sizes.len(), 7, "every order of magnitude");
        assert!((80..130).contains(&(sum / 10_000)), "{}", sum / 10_000);
        assert!(!chance.per_million(0) && chance.per_million(1_000_000) && chance.one_in(1));
    }
}
