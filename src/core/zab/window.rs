//! The committed-log window: the last transactions applied, for learners that are only a little behind.
//!
//! Holds always: a suffix of the applied history without a gap; every path that applies adds, and whoever reloads the tree
//! clears it. Java: `ZKDatabase.committedLog`. Spec: quorum-protocol 7.1, 20.7, 20.17.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::core::types::Zxid;

#[derive(Debug)]
pub struct Window {
    entries: VecDeque<(Zxid, Bytes)>,
    entries_max: usize,
    /// The history the window is a suffix of begins with nothing: `entries` is all there ever was.
    begins_at_zero: bool,
}

impl Window {
    /// Java: `zookeeper.commitLogCount`. `last` is the newest transaction of the state the window goes on from.
    pub fn new(entries_max: usize, last: Zxid) -> Window {
        Window { entries: VecDeque::new(), entries_max, begins_at_zero: last == Zxid::ZERO }
    }

    /// A transaction was applied.
    pub fn push(&mut self, zxid: Zxid, txn: Bytes) {
        if self.entries.len() >= self.entries_max {
            self.entries.pop_front();
            self.begins_at_zero = false;
        }
        self.entries.push_back((zxid, txn));
    }

    pub fn oldest(&self) -> Option<Zxid> {
        self.entries.front().map(|entry| entry.0)
    }

    pub fn newest(&self) -> Option<Zxid> {
        self.entries.back().map(|entry| entry.0)
    }

    pub fn begins_at_zero(&self) -> bool {
        self.begins_at_zero
    }

    pub fn iter(&self) -> impl Iterator<Item = &(Zxid, Bytes)> {
        self.entries.iter()
    }
}
