//! When a snapshot is due, and when old ones go. Spec: operations 1.8. Java: `SyncRequestProcessor`, `DatadirCleanupManager`.
//!
//! Servers that started together must not snapshot together: the threshold is drawn anew for each snapshot, between half
//! and all of what the settings say. Not here: writing a snapshot (the core walks the tree, `storage` writes).

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Decides after each logged transaction. Counts from the start of the process: replayed transactions do not count.
#[derive(Debug)]
pub struct SnapshotTrigger {
    /// Java: `snapCount`.
    snap_count: u64,
    /// Java: `snapSizeLimitInKb`, in bytes; `None` when it is not positive.
    size_limit_bytes: Option<u64>,
    logged: u64,
    logged_bytes: u64,
    count_threshold: u64,
    bytes_threshold: u64,
    random: Random,
    due: bool,
}

impl SnapshotTrigger {
    /// Java raises a `snapCount` below 2 to 2.
    pub fn new(snap_count: u64, size_limit_bytes: Option<u64>) -> SnapshotTrigger {
        SnapshotTrigger::with_random(snap_count, size_limit_bytes, Random::from_os())
    }

    fn with_random(snap_count: u64, size_limit_bytes: Option<u64>, random: Random) -> SnapshotTrigger {
        let mut trigger = SnapshotTrigger {
            snap_count: snap_count.max(2),
            size_limit_bytes: size_limit_bytes.filter(|limit| *limit > 1),
            logged: 0,
            logged_bytes: 0,
            count_threshold: 0,
            bytes_threshold: 0,
            random,
            due: false,
        };
        trigger.draw();
        trigger
    }

    pub fn logged(&mut self, bytes: u64) {
        self.logged += 1;
        self.logged_bytes += bytes;
        if self.logged > self.count_threshold || self.logged_bytes > self.bytes_threshold {
            self.logged = 0;
            self.logged_bytes = 0;
            self.draw();
            self.due = true;
        }
    }

    /// True once per trigger.
    pub fn take_due(&mut self) -> bool {
        std::mem::take(&mut self.due)
    }

    fn draw(&mut self) {
        let half_count = self.snap_count / 2;
        self.count_threshold = half_count + self.random.below(half_count);
        self.bytes_threshold = match self.size_limit_bytes {
            Some(limit) => limit / 2 + self.random.below(limit / 2),
            None => u64::MAX,
        };
    }
}

/// Enough chance to keep servers apart; not for secrets.
#[derive(Debug)]
struct Random(u64);

impl Random {
    /// The standard library seeds its hashers from the operating system.
    fn from_os() -> Random {
        Random(RandomState::new().hash_one(std::process::id()))
    }

    fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}

/// Java: `autopurge.snapRetainCount` and `autopurge.purgeInterval`.
#[derive(Clone, Copy, Debug)]
pub struct PurgeSettings {
    pub retain: usize,
    pub every: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_between_snapshots_is_between_half_and_all_of_snap_count() {
        let mut trigger = SnapshotTrigger::with_random(1000, None, Random(7));
        let mut gaps = Vec::new();
        let mut gap = 0;
        while gaps.len() < 200 {
            gap += 1;
            trigger.logged(100);
            if trigger.take_due() {
                assert!(!trigger.take_due());
                gaps.push(std::mem::take(&mut gap));
            }
        }
        assert!(gaps.iter().all(|gap| (501..=1000).contains(gap)), "{gaps:?}");
        let distinct: std::collections::BTreeSet<u64> = gaps.iter().copied().collect();
        assert!(distinct.len() > 100, "each snapshot draws its own threshold: {distinct:?}");
    }

    #[test]
    fn bytes_trigger_too_unless_the_limit_is_off() {
        let mut trigger = SnapshotTrigger::with_random(u64::MAX, Some(1000), Random(1));
        let mut logged = 0;
        while !trigger.take_due() {
            trigger.logged(10);
            logged += 10;
        }
        assert!((501..=1010).contains(&logged), "{logged}");

        let mut off = SnapshotTrigger::with_random(u64::MAX, Some(0), Random(1));
        off.logged(1 << 60);
        assert!(!off.take_due());
    }

    #[test]
    fn the_smallest_settings_are_raised_rather_than_fatal() {
        let mut trigger = SnapshotTrigger::with_random(0, Some(1), Random(1));
        trigger.logged(10);
        trigger.logged(10);
        assert!(trigger.take_due());
    }
}
