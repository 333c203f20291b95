//! The clock of one machine: monotonic time that runs a little fast or slow, and a wall clock that somebody may set.

use crate::core::Now;

/// The world's time 0 on a right wall clock.
const WALL_START_MS: i64 = 1_795_000_000_000;

#[derive(Clone, Debug)]
pub struct Clock {
    /// Where the present rate began: in the world's time, and in this machine's.
    since_us: u64,
    mono_us: u64,
    /// Millionths by which it runs fast.
    drift_ppm: i64,
    wall_offset_ms: i64,
}

impl Clock {
    /// Monotonic time begins somewhere: machines were not switched on together.
    pub fn new(mono_us: u64) -> Clock {
        Clock { since_us: 0, mono_us, drift_ppm: 0, wall_offset_ms: 0 }
    }

    pub fn now(&self, world_us: u64) -> Now {
        let mono_us = self.mono_us + self.scaled(world_us - self.since_us);
        // The wall clock drifts as the other does.
        let wall_ms = WALL_START_MS + self.wall_offset_ms + (mono_us / 1000) as i64;
        Now { mono_us, wall_ms }
    }

    /// The first moment of the world at which this machine's clock is not before `mono_us`.
    pub fn world_us(&self, mono_us: u64) -> u64 {
        let ahead_us = mono_us.saturating_sub(self.mono_us);
        // Rounded up: whoever is woken must find that the moment has come.
        let world_us = ahead_us.saturating_mul(1_000_000) / (1_000_000 + self.drift_ppm).unsigned_abs();
        self.since_us.saturating_add(world_us).saturating_add(1)
    }

    pub fn set_drift(&mut self, world_us: u64, drift_ppm: i64) {
        assert!(drift_ppm.abs() < 500_000, "a clock runs");
        self.mono_us = self.now(world_us).mono_us;
        self.since_us = world_us;
        self.drift_ppm = drift_ppm;
    }

    /// Somebody sets the wall clock. What is monotonic does not notice.
    pub fn jump(&mut self, by_ms: i64) {
        self.wall_offset_ms += by_ms;
    }

    fn scaled(&self, world_us: u64) -> u64 {
        let ahead_us = i128::from(world_us) * i128::from(self.drift_ppm) / 1_000_000;
        world_us.checked_add_signed(ahead_us as i64).expect("a clock runs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_woken_finds_that_the_moment_has_come_and_time_never_goes_back() {
        for drift_ppm in [-200_000, -317, 0, 1, 999, 333_333] {
            let mut clock = Clock::new(5_000_000);
            clock.set_drift(1_000, drift_ppm);
            let mut before = 0;
            for wanted_us in [5_000_000, 5_001_001, 5_123_456, 77_000_000_001] {
                let world_us = clock.world_us(wanted_us).max(1_000);
                let now = clock.now(world_us);
                assert!(
                    now.mono_us >= wanted_us && now.mono_us <= wanted_us + 3_000,
                    "{drift_ppm} {wanted_us} {now:?}"
                );
                assert!(now.mono_us >= before);
                before = now.mono_us;
            }
            let wall_ms = clock.now(2_000_000).wall_ms;
            clock.jump(-3_600_000);
            assert_eq!(clock.now(2_000_000).wall_ms, wall_ms - 3_600_000);
        }
    }
}
