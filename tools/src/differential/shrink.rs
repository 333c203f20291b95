//! Delta debugging: leaves out ever smaller parts of a trace, then of its bursts, as long as some divergence stays.

use super::side::Step;
use super::{Arena, Divergence, Match};
use crate::Result;

const RUNS_MAX: u32 = 60;

/// The divergence that a shorter trace leads to.
pub fn shrink(arena: &Arena, mut trace: Vec<Step>) -> Result<Divergence> {
    let mut best = None;
    let mut run_count = 0;
    let mut diverges = |shorter: &[Step]| -> Result<Option<Vec<Step>>> {
        run_count += 1;
        let found = if run_count <= RUNS_MAX { replay(arena, shorter)? } else { None };
        let shorter = found.as_ref().map(|found| found.trace.clone());
        best = found.or(best.take());
        Ok(shorter)
    };
    // What is left out has no effect on what the rest asks, so most of a trace goes in the first few runs.
    let mut part = trace.len().div_ceil(2);
    while part > 0 {
        let mut at = 0;
        while at < trace.len() {
            match diverges(&without(&trace, at, part))? {
                Some(shorter) => trace = shorter,
                None => at += part,
            }
        }
        part /= 2;
    }
    // From the end: what was asked last is closest to the cause.
    for step in (0..trace.len()).rev() {
        let Some(Step::Ask { slot, mut burst }) = trace.get(step).cloned() else { continue };
        let mut part = burst.len() / 2;
        while part > 0 {
            let mut at = 0;
            // A shorter trace may end before this step.
            while step < trace.len() && at < burst.len() && burst.len() > part {
                let shorter_burst = without(&burst, at, part);
                let mut shorter = trace.clone();
                shorter[step] = Step::Ask { slot, burst: shorter_burst.clone() };
                match diverges(&shorter)? {
                    Some(shorter) => (trace, burst) = (shorter, shorter_burst),
                    None => at += part,
                }
            }
            part /= 2;
        }
    }
    match best {
        Some(best) => Ok(best),
        None => replay(arena, &trace)?.ok_or("the divergence does not happen again with the same steps".into()),
    }
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

fn without<T: Clone>(all: &[T], at: usize, count: usize) -> Vec<T> {
    [&all[..at], &all[(at + count).min(all.len())..]].concat()
}
