//! A divergence for a reader: both answers, and what led to them.

use std::fmt::Write;

use super::Divergence;
use super::ask::Ask;
use super::side::Step;

/// Steps right before the divergence, and older ones about the same path.
const RECENT_MAX: usize = 8;
const RELATED_MAX: usize = 12;

/// A divergence where it was found.
pub fn divergence(seed: u64, found: &Divergence) -> String {
    let mut text = format!("seed {seed} diverges at step {}\n", found.trace.len());
    let recent = found.trace.len().saturating_sub(RECENT_MAX);
    let path = asks(found.trace.last()).last().map(|ask| ask.path.clone()).unwrap_or_default();
    let is_related = |step: &&(usize, &Step)| {
        path.len() > 1 && asks(Some(step.1)).iter().any(|ask| ask.path == path || ask.text.contains(&path))
    };
    let earlier: Vec<(usize, &Step)> = found.trace[..recent].iter().enumerate().collect();
    let related: Vec<_> = earlier.iter().filter(is_related).collect();
    for (at, step) in &related[related.len().saturating_sub(RELATED_MAX)..] {
        text += &words(*at, step, &path);
    }
    for (at, step) in found.trace.iter().enumerate().skip(recent) {
        text += &words(at, step, "");
    }
    text + &culprit(found) + &answers(found)
}

/// The request behind the first different line, where that tells.
fn culprit(found: &Divergence) -> String {
    let differs = |(one, other): &(&String, &String)| one != other && one.starts_with("xid ");
    let line = found.reference.iter().zip(&found.ringkeeper).find(differs).map(|(line, _)| line);
    let xid = line.and_then(|line| line.split(' ').nth(1)?.parse::<i32>().ok());
    let asked = asks(found.trace.last()).iter().find(|ask| Some(ask.xid) == xid);
    asked.map(|ask| format!("  about xid {} {}\n", ask.xid, ask.text)).unwrap_or_default()
}

/// A divergence with everything that is needed for it, as far as so many runs could tell.
pub fn shrunk(found: Option<&Divergence>, run_count: usize) -> String {
    let Some(found) = found else { return "it does not happen again with the same steps\n".to_owned() };
    let mut text = format!("shrunk in {run_count} runs to:\n");
    for (at, step) in found.trace.iter().enumerate() {
        text += &words(at, step, "");
    }
    text + &culprit(found) + &answers(found)
}

fn answers(found: &Divergence) -> String {
    let same = found.reference.iter().zip(&found.ringkeeper).take_while(|(one, other)| one == other).count();
    let mut text = String::new();
    if same > 0 {
        let _ = writeln!(text, "    both: {}", found.reference[same - 1]);
    }
    for (name, lines) in [("java", &found.reference), ("here", &found.ringkeeper)] {
        for line in lines.iter().skip(same).take(4) {
            let _ = writeln!(text, "    {name}: {line}");
        }
    }
    text
}

fn asks(step: Option<&Step>) -> &[Ask] {
    match step {
        Some(Step::Ask { burst, .. }) => burst,
        _ => &[],
    }
}

/// A step's requests, those that mention `path`.
fn words(at: usize, step: &Step, path: &str) -> String {
    match step {
        Step::Ask { slot, burst } => burst
            .iter()
            .filter(|ask| ask.path == path || ask.text.contains(path))
            .map(|ask| format!("  {at:5} slot {slot} xid {} {}\n", ask.xid, ask.text))
            .collect(),
        other => format!("  {at:5} {other:?}\n"),
    }
}
