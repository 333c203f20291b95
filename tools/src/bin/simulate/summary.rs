//! What many runs came to.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use ringkeeper::sim::coverage;
use ringkeeper::sim::faults::{Fault, FaultCounts};
use ringkeeper::sim::world::Outcome;

#[derive(Default)]
pub struct Summary {
    seeds: Option<(u64, u64)>,
    runs: u64,
    broken: BTreeMap<&'static str, u64>,
    /// Runs that ended where nobody can lead.
    hopeless: u64,
    steps: u64,
    happenings: u64,
    virtual_us: u64,
    /// Of all runs, in whatever order: the same seeds and the same sources, the same number.
    traces: u64,
    faults: FaultCounts,
    marks: BTreeMap<&'static str, u64>,
    busy: Duration,
}

impl Summary {
    pub fn add(&mut self, outcome: &Outcome) {
        let (first, last) = self.seeds.unwrap_or((outcome.seed, outcome.seed));
        self.seeds = Some((first.min(outcome.seed), last.max(outcome.seed)));
        self.runs += 1;
        if let Some(violation) = &outcome.violation {
            *self.broken.entry(violation.property).or_default() += 1;
        }
        self.hopeless += u64::from(outcome.hopeless);
        self.steps += outcome.steps;
        self.happenings += outcome.happenings;
        self.virtual_us += outcome.virtual_us;
        self.traces = self.traces.wrapping_add(outcome.trace_hash);
        self.faults.add_all(&outcome.faults);
    }

    pub fn add_marks(&mut self, marks: BTreeMap<&'static str, u64>) {
        for (name, times) in marks {
            *self.marks.entry(name).or_default() += times;
        }
    }

    /// The time one thread spent on it.
    pub fn add_busy(&mut self, busy: Duration) {
        self.busy += busy;
    }

    pub fn busy(&self) -> Duration {
        self.busy
    }

    pub fn merge(&mut self, other: Summary) {
        if let Some((first, last)) = other.seeds {
            let (ours_first, ours_last) = self.seeds.unwrap_or((first, last));
            self.seeds = Some((ours_first.min(first), ours_last.max(last)));
        }
        self.runs += other.runs;
        for (property, times) in other.broken {
            *self.broken.entry(property).or_default() += times;
        }
        self.hopeless += other.hopeless;
        self.steps += other.steps;
        self.happenings += other.happenings;
        self.virtual_us += other.virtual_us;
        self.traces = self.traces.wrapping_add(other.traces);
        self.faults.add_all(&other.faults);
        self.add_marks(other.marks);
        self.busy += other.busy;
    }

    pub fn runs(&self) -> u64 {
        self.runs
    }

    /// Marked branches that no run has taken.
    pub fn missed(&self) -> Vec<&'static str> {
        coverage::MARKS.iter().copied().filter(|name| !self.marks.contains_key(name)).collect()
    }

    /// `busy`: the time of all threads together.
    pub fn text(&self, elapsed: Duration, busy: Duration, with_coverage: bool) -> String {
        let mut text = String::new();
        let (first, last) = self.seeds.unwrap_or_default();
        let rate = |count: u64| count as f64 / busy.as_secs_f64().max(1e-9);
        let line = |text: &mut String, what: std::fmt::Arguments<'_>| writeln!(text, "{what}").expect("into a string");
        line(
            &mut text,
            format_args!(
                "{} runs, seeds {first} to {last}, {:.1} h of virtual time in {:.1} s ({:.3} h of CPU)",
                self.runs,
                self.virtual_us as f64 / 3.6e9,
                elapsed.as_secs_f64(),
                busy.as_secs_f64() / 3600.0
            ),
        );
        line(
            &mut text,
            format_args!(
                "{} steps of nodes ({:.0} a second and thread), {} happenings ({:.0}), traces {:016x}",
                self.steps,
                rate(self.steps),
                self.happenings,
                rate(self.happenings),
                self.traces
            ),
        );
        let faults = Fault::ALL.iter().map(|fault| format!("{} {}", fault.name(), self.faults.get(*fault)));
        line(&mut text, format_args!("faults: {}", faults.collect::<Vec<_>>().join(", ")));
        if with_coverage {
            for (name, times) in &self.marks {
                line(&mut text, format_args!("  {times:>10}  {name}"));
            }
        }
        let missed = self.missed();
        line(
            &mut text,
            format_args!("marks: {} of {} reached", coverage::MARKS.len() - missed.len(), coverage::MARKS.len()),
        );
        for name in missed {
            line(&mut text, format_args!("  never: {name}"));
        }
        if self.hopeless > 0 {
            line(&mut text, format_args!("{} runs ended where nobody can lead any more", self.hopeless));
        }
        let broken: u64 = self.broken.values().sum();
        write!(text, "{broken} of {} runs broke a promise", self.runs).expect("into a string");
        for (property, times) in &self.broken {
            write!(text, "; {property} {times}").expect("into a string");
        }
        text
    }
}
