//! How fast a snapshot is written beside the traffic.
//!
//!   turn given -> a chunk is gathered, encoded, written -> turn over -> rest -> turn given
//!
//! Nobody asking for anything, the rest is nothing: the disk sets the pace. With requests about (of clients, or what another
//! server has for us to do), a snapshot takes a sixth
//! of the time, on the CPU as on the disk: it rests five times as long as its turn took, so that of a thousand requests
//! few meet a turn at all. When the tree holds too many old images for it, it is in a hurry and does not rest: a snapshot
//! that is given up for want of memory has cost everything and brought nothing. Likewise when a full disk waits for it. A
//! configured rate holds in any case.

/// Rests are this many times as long as turns.
const REST_SHARE: u64 = 5;
/// A turn that took long (the disk hung, the CPU was elsewhere) is not multiplied.
const REST_MAX_US: u64 = 10_000;
/// Requests less long ago than this are traffic.
const TRAFFIC_US: u64 = 100_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Turn { since_us: u64 },
    Rest { until_us: u64 },
}

#[derive(Debug)]
pub struct SnapshotPace {
    /// `ringkeeper.snapshotMaxMBps`.
    bytes_per_second: Option<u64>,
    state: State,
    began_us: u64,
    request_us: Option<u64>,
}

impl SnapshotPace {
    pub fn new(bytes_per_second: Option<u64>) -> SnapshotPace {
        SnapshotPace { bytes_per_second, state: State::Idle, began_us: 0, request_us: None }
    }

    pub fn request(&mut self, now_us: u64) {
        self.request_us = Some(now_us);
    }

    pub fn begin(&mut self, now_us: u64) {
        (self.state, self.began_us) = (State::Idle, now_us);
    }

    pub fn turn_given(&mut self, now_us: u64) {
        self.state = State::Turn { since_us: now_us };
    }

    /// The snapshot waits for its next turn, `bytes` being written of it. True when that is news: then there is a rest to
    /// be waited for.
    pub fn turn_over(&mut self, now_us: u64, bytes: u64, hurry: bool) -> bool {
        let took_us = match self.state {
            State::Idle => 0,
            State::Turn { since_us } => now_us.saturating_sub(since_us),
            State::Rest { .. } => return false,
        };
        let rest_us = if hurry { 0 } else { self.rest_after_us(now_us, took_us) };
        let at_rate = |rate: u64| self.began_us + (u128::from(bytes) * 1_000_000 / u128::from(rate.max(1))) as u64;
        let allowed_us = self.bytes_per_second.map_or(0, at_rate);
        self.state = State::Rest { until_us: allowed_us.max(now_us + rest_us) };
        true
    }

    /// The rest that a turn like this asks for, beside traffic. The move of a snapshot into memory keeps to it, too.
    pub fn rest_after_us(&self, now_us: u64, took_us: u64) -> u64 {
        let traffic = self.request_us.is_some_and(|request_us| now_us.saturating_sub(request_us) < TRAFFIC_US);
        if traffic { (took_us * REST_SHARE).min(REST_MAX_US) } else { 0 }
    }

    /// What is left of the rest.
    pub fn rest_us(&self, now_us: u64) -> u64 {
        if let State::Rest { until_us } = self.state { until_us.saturating_sub(now_us) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One turn of 400 us after another for a second, 64 KiB each; how many.
    fn turns(pace: &mut SnapshotPace, traffic: bool, hurry: bool) -> u64 {
        let (mut now_us, mut turns) = (1_000_000, 0);
        pace.begin(now_us);
        while now_us < 2_000_000 {
            assert!(pace.turn_over(now_us, turns << 16, hurry));
            assert!(!pace.turn_over(now_us, turns << 16, hurry), "once a turn");
            now_us += pace.rest_us(now_us);
            assert_eq!(pace.rest_us(now_us), 0);
            if traffic {
                pace.request(now_us);
            }
            pace.turn_given(now_us);
            now_us += 400;
            turns += 1;
        }
        turns
    }

    #[test]
    fn a_sixth_of_the_time_with_traffic_and_all_of_it_without() {
        assert_eq!(turns(&mut SnapshotPace::new(None), false, false), 2500);
        assert_eq!(turns(&mut SnapshotPace::new(None), true, false), 418); // nobody had asked before the first
        assert_eq!(turns(&mut SnapshotPace::new(None), true, true), 2500);
    }

    #[test]
    fn traffic_that_ended_is_none_and_a_hanging_disk_is_not_multiplied() {
        let mut pace = SnapshotPace::new(None);
        pace.request(0);
        pace.turn_given(50_000);
        assert!(pace.turn_over(99_000, 0, false));
        assert_eq!(pace.rest_us(99_000), REST_MAX_US);
        pace.turn_given(109_000);
        assert!(pace.turn_over(110_000, 0, false));
        assert_eq!(pace.rest_us(110_000), 0);
    }

    #[test]
    fn a_rate_holds_in_any_case() {
        for (traffic, hurry) in [(false, false), (true, false), (true, true)] {
            let turns = turns(&mut SnapshotPace::new(Some(16 << 20)), traffic, hurry);
            assert!((256..=258).contains(&turns), "{turns}");
        }
    }
}
