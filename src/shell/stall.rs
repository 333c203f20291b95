//! A disk that hangs: when to say so, and how often. Nothing is acknowledged meanwhile, and that needs no decision here.

use std::time::Duration;

/// A write has no answer for longer than this, or than what counts as a slow flush if that is more: the first alarm.
const ALARM_AFTER: Duration = Duration::from_secs(1);

/// Alarms come at twice the age of the one before, and at least this often.
const ALARM_INTERVAL_MAX: Duration = Duration::from_secs(60);

/// What an operator should hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stall {
    Goes { seconds: u64 },
    Over { seconds: u64 },
}

/// Looks at the age of the oldest write under way.
#[derive(Debug)]
pub struct StallWatch {
    first_alarm: Duration,
    next_alarm: Duration,
    /// As of the last look.
    age: Duration,
}

impl StallWatch {
    pub fn new(slow_flush: Duration) -> StallWatch {
        let first_alarm = slow_flush.max(ALARM_AFTER);
        StallWatch { first_alarm, next_alarm: first_alarm, age: Duration::ZERO }
    }

    /// As of the last look.
    pub fn hangs(&self) -> bool {
        self.age >= self.first_alarm
    }

    /// `age`: zero when nothing is under way.
    pub fn look(&mut self, age: Duration) -> Option<Stall> {
        let before = std::mem::replace(&mut self.age, age);
        if age < before && self.next_alarm > self.first_alarm {
            // Another write is the oldest now. When that one is as old already, its own alarm is due with the next look.
            self.next_alarm = self.first_alarm;
            return Some(Stall::Over { seconds: before.as_secs() });
        }
        if age < self.next_alarm {
            return None;
        }
        self.next_alarm = age + age.min(ALARM_INTERVAL_MAX);
        Some(Stall::Goes { seconds: age.as_secs() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_come_at_growing_intervals_and_the_end_is_told_once() {
        let mut watch = StallWatch::new(Duration::from_millis(20));
        let alarms: Vec<u64> = (0..400u64)
            .filter_map(|second| match watch.look(Duration::from_secs(second)) {
                Some(Stall::Goes { seconds }) => Some(seconds),
                None => None,
                Some(Stall::Over { .. }) => panic!("it hangs still"),
            })
            .collect();
        assert_eq!(alarms, [1, 2, 4, 8, 16, 32, 64, 124, 184, 244, 304, 364]);
        assert_eq!(watch.look(Duration::from_millis(3)), Some(Stall::Over { seconds: 399 }));
        assert_eq!(watch.look(Duration::ZERO), None);
        assert_eq!(watch.look(Duration::from_secs(1)), Some(Stall::Goes { seconds: 1 }));
    }

    #[test]
    fn what_counts_as_slow_is_no_stall() {
        let mut watch = StallWatch::new(Duration::from_secs(10));
        assert_eq!(watch.look(Duration::from_secs(9)), None);
        assert_eq!(watch.look(Duration::ZERO), None);
        assert_eq!(watch.look(Duration::from_secs(10)), Some(Stall::Goes { seconds: 10 }));
    }
}
