//! The one reader of clocks: a turn reads the time once and everything in it happens at that moment.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::core::Now;

/// Monotonic time counts from the clock's making; cheap to copy, and copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    pub fn now(&self) -> Now {
        Now { mono_us: self.mono_us(), wall_ms: wall_ms() }
    }

    pub fn mono_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }
}

/// Milliseconds since 1970; a wall clock set before 1970 reads as 0.
pub fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_agree_and_never_run_backwards() {
        let clock = Clock::start();
        let copy = clock;
        let first = clock.now();
        let second = copy.now();
        assert!(second.mono_us >= first.mono_us);
        assert!(first.wall_ms > 1_500_000_000_000, "wall clock reads {}", first.wall_ms);
    }
}
