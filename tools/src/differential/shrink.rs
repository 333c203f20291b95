//! Delta debugging: leaves out ever smaller parts of a trace, then of its bursts, as long as the same divergence stays: another one
//! may be one that the generator avoids.

use std::time::{Duration, Instant};

use super::side::Step;
use super::{Arena, Divergence, Match};
use crate::Result;

/// Each starts two servers.
const RUNS_MAX: usize = 300;
const TIME_MAX: Duration = Duration::from_secs(900);

/// The divergence that a shorter trace leads to, and the runs that it took. `None`: it does not happen again with the same steps,
/// so it is a matter of time.
pub fn shrink(arena: &Arena, trace: Vec<Step>) -> Result<(Option<Divergence>, usize)> {
    let deadline = Instant::now() + TIME_MAX;
    let mut run_count = 0;
    let found = smallest(trace, &mut |shorter| {
        if run_count == RUNS_MAX || Instant::now() > deadline {
            return Ok(None);
        }
        run_count += 1;
        replay(arena, shorter)
    })?;
    Ok((found, run_count))
}

fn smallest(
    trace: Vec<Step>,
    diverges: &mut impl FnMut(&[Step]) -> Result<Option<Divergence>>,
) -> Result<Option<Divergence>> {
    let Some(mut best) = diverges(&trace)? else { return Ok(None) };
    let difference = difference(&best);
    let mut diverges = |shorter: &[Step]| -> Result<Option<Divergence>> {
        Ok(diverges(shorter)?.filter(|found| self::difference(found) == difference))
    };
    // What is left out has no effect on what the rest asks, so most of a trace goes in the first few runs.
    let mut part = best.trace.len().div_ceil(2);
    while part > 0 {
        let mut at = 0;
        while at < best.trace.len() {
            match diverges(&without(&best.trace, at, part))? {
                Some(found) => best = found,
                None => at += part,
            }
        }
        part /= 2;
    }
    // From the end: what was asked last is closest to the cause.
    for step in (0..best.trace.len()).rev() {
        let Some(Step::Ask { slot, mut burst }) = best.trace.get(step).cloned() else { continue };
        let mut part = burst.len() / 2;
        while part > 0 {
            let mut at = 0;
            // A shorter trace may end before this step.
            while step < best.trace.len() && at < burst.len() && burst.len() > part {
                let shorter_burst = without(&burst, at, part);
                let mut shorter = best.trace.clone();
                shorter[step] = Step::Ask { slot, burst: shorter_burst.clone() };
                match diverges(&shorter)? {
                    Some(found) => (best, burst) = (found, shorter_burst),
                    None => at += part,
                }
            }
            part /= 2;
        }
    }
    Ok(Some(best))
}

/// The divergence that a recorded trace leads to, if it still does.
fn replay(arena: &Arena, trace: &[Step]) -> Result<Option<Divergence>> {
    let mut match_ = Match::start(arena)?;
    for step in trace {
        if let (Some(divergence), _) = match_.step(step.clone())? {
            return Ok(Some(divergence));
        }
    }
    Ok(None)
}

/// What only one of them said, numbers apart: they are others in a shorter trace.
fn difference(found: &Divergence) -> Option<String> {
    let alone = |one: &[String], other: &[String]| one.iter().find(|line| !other.contains(line)).cloned();
    let line = alone(&found.reference, &found.ringkeeper).or_else(|| alone(&found.ringkeeper, &found.reference))?;
    Some(line.chars().filter(|character| !character.is_ascii_digit()).collect())
}

fn without<T: Clone>(all: &[T], at: usize, count: usize) -> Vec<T> {
    [&all[..at], &all[(at + count).min(all.len())..]].concat()
}

#[cfg(test)]
mod tests {
    use super::super::ask::{Ask, opcode};
    use super::*;

    fn ask(xid: i32) -> Ask {
        Ask { xid, ..Ask::new(opcode::PING, "", Default::default()) }
    }

    fn xids(trace: &[Step]) -> Vec<Vec<i32>> {
        let of = |step: &Step| match step {
            Step::Ask { burst, .. } => burst.iter().map(|ask| ask.xid).collect(),
            _ => Vec::new(),
        };
        trace.iter().map(of).collect()
    }

    /// Two requests, in two bursts, make it happen, in the step of the second one.
    fn of_two(trace: &[Step], first: i32, second: i32) -> Option<Divergence> {
        let at = |xid: i32| xids(trace).iter().position(|burst| burst.contains(&xid));
        let end = at(first).zip(at(second)).filter(|(first, second)| first < second)?.1;
        Some(Divergence { trace: trace[..=end].to_vec(), reference: vec!["a".into()], ringkeeper: vec!["b".into()] })
    }

    #[test]
    fn what_does_not_matter_is_left_out() {
        let trace: Vec<Step> = (0..100)
            .map(|at| Step::Ask { slot: 0, burst: (0..10).map(|more| ask(at * 10 + more)).collect() })
            .collect();
        let mut run_count = 0;
        let found = smallest(trace, &mut |shorter| {
            run_count += 1;
            Ok(of_two(shorter, 217, 555))
        });
        assert_eq!(xids(&found.unwrap().unwrap().trace), [[217], [555]]);
        assert!(run_count < RUNS_MAX, "{run_count}");
    }

    #[test]
    fn another_divergence_is_not_taken_for_this_one() {
        let trace: Vec<Step> = (0..8).map(|xid| Step::Ask { slot: 0, burst: vec![ask(xid)] }).collect();
        let found = smallest(trace, &mut |shorter| {
            let said = |line: &str| Some(Divergence { reference: vec![line.into()], ..of_two(shorter, 3, 5)? });
            Ok(said(if shorter.len() > 2 { "xid 5 err 0" } else { "xid 5 err -4" }))
        });
        assert_eq!(xids(&found.unwrap().unwrap().trace).len(), 3);
    }

    #[test]
    fn what_does_not_happen_again_costs_one_run() {
        let mut run_count = 0;
        let found = smallest(vec![Step::Restart; 100], &mut |_| {
            run_count += 1;
            Ok(None)
        });
        assert!(found.unwrap().is_none());
        assert_eq!(run_count, 1);
    }
}
