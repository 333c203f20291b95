//! How much was compared.

use std::fmt::{self, Display, Formatter};
use std::ops::AddAssign;

use super::ask::{Ask, opcode};
use super::side::Step;

/// Sums over seeds. Answers and notifications are those of the reference, as long as nothing diverges those of both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub seeds: usize,
    pub divergences: usize,
    /// Requests that a step asks for, and what else a step does.
    pub operations: usize,
    pub multis: usize,
    pub answers: usize,
    pub notifications: usize,
    pub sessions: usize,
    pub restarts: usize,
    pub words: usize,
}

impl Tally {
    /// What was asked.
    pub fn of(trace: &[Step]) -> Tally {
        let mut tally = Tally::default();
        let mut asked = |burst: &[Ask]| {
            tally.operations += burst.len();
            tally.multis += burst.iter().filter(|ask| ask.opcode == opcode::MULTI).count();
        };
        for step in trace {
            match step {
                Step::Ask { burst, .. } | Step::Expire(burst) => asked(burst),
                Step::Together(bursts) => bursts.iter().for_each(|(_, burst)| asked(burst)),
                _ => {}
            }
        }
        let count = |of: fn(&Step) -> bool| trace.iter().filter(|step| of(step)).count();
        tally.restarts = count(|step| matches!(step, Step::Restart | Step::Reap));
        tally.words = count(|step| matches!(step, Step::Word(_)));
        let others = |step: &Step| !matches!(step, Step::Ask { .. } | Step::Expire(_) | Step::Together(_));
        tally.operations += count(others);
        tally
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, more: Tally) {
        self.seeds += more.seeds;
        self.divergences += more.divergences;
        self.operations += more.operations;
        self.multis += more.multis;
        self.answers += more.answers;
        self.notifications += more.notifications;
        self.sessions += more.sessions;
        self.restarts += more.restarts;
        self.words += more.words;
    }
}

impl Display for Tally {
    fn fmt(&self, text: &mut Formatter<'_>) -> fmt::Result {
        let Tally { operations, multis, answers, notifications, sessions, restarts, words, .. } = self;
        write!(
            text,
            "{operations} operations ({multis} multis), {answers} answers and {notifications} notifications compared, \
             {sessions} sessions, {words} four-letter words, {restarts} restarts"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_wherever_they_are_asked() {
        let ask = |kind| Ask::new(kind, "", Default::default());
        let two = vec![ask(opcode::MULTI), ask(opcode::PING)];
        let trace = [
            Step::Ask { slot: 0, burst: two.clone() },
            Step::Together(vec![(0, two.clone()), (1, two.clone())]),
            Step::Expire(two),
            Step::Restart,
            Step::Word("dump"),
        ];
        let tally = Tally::of(&trace);
        assert_eq!(tally, Tally { operations: 10, multis: 4, restarts: 1, words: 1, ..Tally::default() });
        let mut sum = Tally { seeds: 1, ..tally };
        sum += Tally { seeds: 2, divergences: 1, ..tally };
        assert_eq!((sum.seeds, sum.divergences, sum.operations), (3, 1, 20));
    }
}
