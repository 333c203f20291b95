//! How many handshakes are let in at a time: a bucket of tokens, and a chance to be turned away in front of it.
//!
//! The chance grows while the bucket is empty and shrinks while it is full, one step in `freeze_ms`: most of a herd is then turned
//! away early, and comes back spread out. Pure: chance is made of the moments at which clients come.
//! Spec: client-protocol 13. Java: `BlueThrottle`.

use crate::core::settings::ConnectThrottle as Settings;

#[derive(Debug)]
pub struct ConnectThrottle {
    settings: Settings,
    tokens: u32,
    filled_us: u64,
    /// That a client is turned away although there are tokens.
    drop_probability: f64,
    changed_us: u64,
    chance: u64,
}

impl ConnectThrottle {
    pub fn new(settings: Settings, now_us: u64) -> ConnectThrottle {
        let tokens = settings.tokens;
        ConnectThrottle {
            settings,
            tokens,
            filled_us: now_us,
            drop_probability: 0.0,
            changed_us: now_us,
            chance: now_us,
        }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// For `mntr`.
    pub fn drop_probability(&self) -> f64 {
        self.drop_probability
    }

    /// Takes so many tokens if they are there, or if the throttle is off.
    pub fn admits(&mut self, wanted: u32, now_us: u64) -> bool {
        if self.settings.tokens == 0 {
            return true;
        }
        self.fill(now_us);
        if self.settings.freeze_ms.is_some_and(|freeze_ms| self.is_dropped(freeze_ms, now_us)) {
            return false;
        }
        match self.tokens.checked_sub(wanted) {
            Some(left) => self.tokens = left,
            None => return false,
        }
        true
    }

    fn fill(&mut self, now_us: u64) {
        let period_us = u64::from(self.settings.fill_ms.max(1)) * 1000;
        let periods = (now_us - self.filled_us) / period_us;
        let filled = periods.saturating_mul(self.settings.fill_count.into()).saturating_add(self.tokens.into());
        self.tokens = filled.min(self.settings.tokens.into()) as u32;
        self.filled_us += periods * period_us;
    }

    fn is_dropped(&mut self, freeze_ms: u32, now_us: u64) -> bool {
        let Settings { tokens, drop_increase, drop_decrease, decrease_ratio, .. } = self.settings;
        if now_us - self.changed_us > u64::from(freeze_ms) * 1000 {
            let is_enough = f64::from(tokens - self.tokens) <= (f64::from(tokens) * decrease_ratio).round();
            if self.tokens == 0 {
                self.drop_probability = (self.drop_probability + drop_increase).min(1.0);
            } else if is_enough {
                self.drop_probability = (self.drop_probability - drop_decrease).max(0.0);
            }
            self.changed_us = now_us;
        }
        self.draw(now_us) < self.drop_probability
    }

    /// From 0 to below 1 (SplitMix64).
    fn draw(&mut self, now_us: u64) -> f64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15 ^ now_us);
        let mixed = (self.chance ^ (self.chance >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_US: u64 = 1_000_000;

    fn admitted(throttle: &mut ConnectThrottle, count: u32, wanted: u32, now_us: u64) -> usize {
        (0..count).filter(|_| throttle.admits(wanted, now_us)).count()
    }

    #[test]
    fn a_bucket_gives_what_it_has_and_fills_with_time() {
        let settings = Settings { tokens: 6, fill_ms: 1000, fill_count: 2, ..Settings::default() };
        let mut throttle = ConnectThrottle::new(settings, 0);
        assert_eq!(admitted(&mut throttle, 10, 1, 0), 6);
        assert_eq!(admitted(&mut throttle, 10, 1, SECOND_US), 2);
        assert_eq!(admitted(&mut throttle, 10, 3, 100 * SECOND_US), 2, "heavier ones are fewer");
        assert_eq!(admitted(&mut ConnectThrottle::new(Settings::default(), 0), 10, 1, 0), 10, "off");
    }

    #[test]
    fn the_longer_the_bucket_is_empty_the_more_are_turned_away_and_it_passes() {
        let settings = Settings {
            tokens: 1000,
            fill_ms: 1000,
            fill_count: 1000,
            freeze_ms: Some(1),
            drop_increase: 0.25,
            drop_decrease: 0.5,
            ..Settings::default()
        };
        let mut throttle = ConnectThrottle::new(settings, 0);
        assert_eq!(admitted(&mut throttle, 1000, 1, 0), 1000);
        for step in 1..=2 {
            assert!(!throttle.admits(1, step * 2000));
        }
        assert_eq!(throttle.drop_probability(), 0.5);
        // Full again: half of those who come are let in, until the chance has gone down.
        let now_us = 10 * SECOND_US;
        throttle.changed_us = now_us;
        let let_in = admitted(&mut throttle, 1000, 1, now_us);
        assert!((400..600).contains(&let_in), "{let_in}");
        assert!(throttle.admits(1, 20 * SECOND_US));
        assert_eq!(throttle.drop_probability(), 0.0);
    }
}
