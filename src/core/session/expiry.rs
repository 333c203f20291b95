//! Expiry buckets: sessions end at multiples of the tick, all of a bucket at once.
//!
//! A touch only moves the deadline inside the session (one store); the bucket is set right when it comes due, so that
//! a million requests a second cost the table nothing. Java: `ExpiryQueue`. Spec: semantics 11.2.

use std::collections::{BTreeMap, VecDeque};

use ringkeeper_storage::probe::broken;

use crate::core::types::SessionId;

/// When a session that was heard of at `now_us` and may be silent for `timeout_ms` ends.
pub fn deadline_us(now_us: u64, timeout_ms: i32, tick_ms: u32) -> u64 {
    let tick_us = u64::from(tick_ms) * 1000;
    let timeout_ms = if broken("sessions end at half their time") { timeout_ms / 2 } else { timeout_ms };
    let end_us = now_us + u64::try_from(timeout_ms).unwrap_or(0) * 1000;
    (end_us / tick_us) * tick_us + tick_us
}

/// Sessions by the buckets they were filed under. The session knows which one counts; older entries are stale.
#[derive(Debug, Default)]
pub struct ExpiryBuckets {
    by_deadline_us: BTreeMap<u64, VecDeque<SessionId>>,
}

impl ExpiryBuckets {
    pub fn file(&mut self, session: SessionId, deadline_us: u64) {
        self.by_deadline_us.entry(deadline_us).or_default().push_back(session);
    }

    /// The next session of a bucket that is due. The caller expires it or files it again under its true deadline, which is
    /// later: so this comes to an end.
    pub fn next_due(&mut self, now_us: u64) -> Option<(u64, SessionId)> {
        loop {
            let mut bucket = self.by_deadline_us.first_entry().filter(|entry| *entry.key() <= now_us)?;
            match bucket.get_mut().pop_front() {
                Some(session) => return Some((*bucket.key(), session)),
                None => drop(bucket.remove()),
            }
        }
    }

    #[cfg(test)]
    pub fn entries(&self) -> usize {
        self.by_deadline_us.values().map(VecDeque::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_round_up_past_the_timeout() {
        // Java: 2 s timeout, 1 s tick: between timeout and timeout + tick.
        assert_eq!(deadline_us(900_000, 2000, 1000), 3_000_000);
        assert_eq!(deadline_us(1_000_000, 2000, 1000), 4_000_000);
        assert_eq!(deadline_us(0, 4000, 2000), 6_000_000);
    }

    #[test]
    fn only_due_buckets_are_taken() {
        let mut buckets = ExpiryBuckets::default();
        buckets.file(SessionId(1), 2_000_000);
        buckets.file(SessionId(2), 4_000_000);
        buckets.file(SessionId(3), 2_000_000);
        assert_eq!(buckets.next_due(1_999_999), None);
        assert_eq!(buckets.next_due(2_000_000), Some((2_000_000, SessionId(1))));
        assert_eq!(buckets.next_due(2_000_000), Some((2_000_000, SessionId(3))));
        assert_eq!(buckets.next_due(2_000_000), None);
        assert_eq!(buckets.next_due(9_000_000), Some((4_000_000, SessionId(2))));
        assert_eq!(buckets.next_due(u64::MAX), None);
    }
}
