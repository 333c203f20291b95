//! The committed-log window: the last transactions applied, for learners that are only a little behind.
//!
//! Holds always: a suffix of the applied history without a gap, from right behind `base` on. Every path that applies adds;
//! whoever reloads the tree makes a new one. Java: `ZKDatabase.committedLog`. Spec: quorum-protocol 7.1, 20.7, 20.17.
//! We differ: the window knows what comes right before it, so that "behind by exactly the window" is provable, also when it
//! is empty (20.18, 20.19).

use std::collections::VecDeque;

use bytes::Bytes;

use crate::core::types::Zxid;
use crate::limits;

#[derive(Debug)]
pub struct Window {
    /// The newest transaction of the state before the window; zero: there was nothing.
    base: Zxid,
    entries: VecDeque<(Zxid, Bytes)>,
    entries_max: usize,
    bytes: usize,
}

impl Window {
    /// Java: `zookeeper.commitLogCount`. `last` is the newest transaction of the state the window goes on from; (epoch, 0) for a
    /// state that an established leader of that epoch gave away; zero for a state that nothing ever happened to.
    pub fn new(entries_max: usize, last: Zxid) -> Window {
        Window { base: last, entries: VecDeque::new(), entries_max, bytes: 0 }
    }

    /// A transaction was applied.
    pub fn push(&mut self, zxid: Zxid, txn: Bytes) {
        // A learner refuses such a proposal, and who loads another state begins another window.
        assert!(
            zxid.can_follow(self.last()),
            "{zxid} is applied behind {}, and something is missing between",
            self.last()
        );
        self.bytes += txn.len();
        self.entries.push_back((zxid, txn));
        while self.entries.len() > self.entries_max || self.bytes > limits::WINDOW_BYTES {
            let Some((zxid, txn)) = self.entries.pop_front() else { break };
            self.bytes -= txn.len();
            self.base = zxid;
        }
    }

    /// What comes right before the oldest entry; in an empty window the newest transaction there is.
    pub fn base(&self) -> Zxid {
        self.base
    }

    /// The newest transaction of the history.
    pub fn last(&self) -> Zxid {
        self.newest().unwrap_or(self.base)
    }

    pub fn oldest(&self) -> Option<Zxid> {
        self.entries.front().map(|entry| entry.0)
    }

    pub fn newest(&self) -> Option<Zxid> {
        self.entries.back().map(|entry| entry.0)
    }

    /// The history the window is a suffix of begins with nothing: the entries are all there ever was.
    pub fn begins_at_zero(&self) -> bool {
        self.base == Zxid::ZERO
    }

    /// Whether this very transaction belongs to the history, as far as the window knows.
    pub fn knows(&self, zxid: Zxid) -> bool {
        zxid == self.base || self.entries.binary_search_by_key(&zxid, |entry| entry.0).is_ok()
    }

    pub fn iter(&self) -> impl Iterator<Item = &(Zxid, Bytes)> {
        self.entries.iter()
    }

    pub fn above(&self, zxid: Zxid) -> impl Iterator<Item = &(Zxid, Bytes)> {
        self.entries.range(self.entries.partition_point(|entry| entry.0 <= zxid)..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zxids<'a>(entries: impl Iterator<Item = &'a (Zxid, Bytes)>) -> Vec<u64> {
        entries.map(|entry| entry.0.0).collect()
    }

    #[test]
    fn the_newest_stay_and_what_came_before_is_known() {
        let mut window = Window::new(3, Zxid::ZERO);
        assert!(window.begins_at_zero());
        for zxid in 1..=3 {
            window.push(Zxid(zxid), Bytes::new());
        }
        assert!(window.begins_at_zero() && window.knows(Zxid::ZERO));
        window.push(Zxid(4), Bytes::new());
        assert!(!window.begins_at_zero());
        assert_eq!((window.base(), window.last(), zxids(window.iter())), (Zxid(1), Zxid(4), vec![2, 3, 4]));
        assert_eq!(zxids(window.above(Zxid(2))), [3, 4]);
        assert!(window.knows(Zxid(1)) && window.knows(Zxid(3)) && !window.knows(Zxid(5)) && !window.knows(Zxid::ZERO));
    }

    /// ZOOKEEPER-4925 (20.7).
    #[test]
    #[should_panic(expected = "something is missing between")]
    fn nothing_is_applied_behind_a_gap() {
        let mut window = Window::new(10, Zxid(7));
        window.push(Zxid(8), Bytes::new());
        window.push(Zxid::new(3, 1), Bytes::new());
        assert_eq!(window.base(), Zxid(7), "an epoch may begin at any time");
        window.push(Zxid::new(3, 3), Bytes::new());
    }

    #[test]
    fn large_transactions_leave_room_for_few() {
        let mut window = Window::new(1000, Zxid::ZERO);
        let txn = Bytes::from(vec![0; limits::WINDOW_BYTES / 4]);
        for zxid in 1..=9 {
            window.push(Zxid(zxid), txn.clone());
        }
        assert_eq!(zxids(window.iter()), [6, 7, 8, 9]);
    }
}
