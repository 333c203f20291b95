//! What a snapshot does to the latency of the writes beside it: with and without one, in turn, on one process in one run.
//!
//!   prepared tree -> how fast are writes? -> snapCount for one snapshot every two windows -> start -> load, watched -> split
//!
//! The load never stops; `snapshot_watch.rs` knows when a snapshot's file was open, and each write belongs to the snapshot that
//! went on during any part of it, or to the stretch between two. A little after a snapshot still counts as it (its directory
//! is flushed, old memory is freed), so a slow write is never blamed on the calm by accident.
//!
//! Estimates, 1,000,000 znodes of 100 bytes, w1: ringkeeper's p99.9 with a snapshot 1.2 to 1.5 times the one without, its
//! snapshot paced to some 5 s; Java's 3 to 10 times (the collector, and one core for both), its snapshot 3 to 4 s.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::big_tree::BigTree;
use crate::contestants::{Contestants, Kind, wait_until_in_memory};
use crate::load::{self, Series, Timing};
use crate::prepared::{NO_SNAPSHOTS, Variant, Workshop, remove};
use crate::report::{Files, Latency, Machine, Report, Spread, figure, latency_histogram, record_ns, utc_now};
use crate::scenario::{Arrivals, Load};
use crate::server::{Cpus, Launch, Server};
use crate::snapshot_watch::{SnapshotWatch, Span};
use crate::usage::DISTURBED_CORES;
use crate::{BenchError, Doing, Result, versus};

#[derive(Args, Clone, Debug)]
pub struct Arguments {
    #[command(flatten)]
    pub contestants: Contestants,
    #[command(flatten)]
    tree: BigTree,
    /// What goes on meanwhile: a load by name, one that writes.
    #[arg(long, default_value = "w1")]
    load: String,
    /// Rate of an open loop.
    #[arg(long)]
    rate: Option<f64>,
    /// Snapshots to provoke, each with a stretch without one behind it.
    #[arg(long, default_value_t = 8)]
    windows: u32,
    /// Seconds of a snapshot's window, and of the one behind it, on average.
    #[arg(long, default_value_t = 8.0)]
    window: f64,
    /// Seconds of load before anything counts; also those in which the load's rate is found.
    #[arg(long, default_value_t = 4.0)]
    warm_up: f64,
    /// CPUs of the server, one placement after the other: `--cores 1 --cores 0,1`.
    #[arg(long, default_value = "1")]
    cores: Vec<Cpus>,
    /// Keep the directories here, and use those that are here already.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Seconds a start may take.
    #[arg(long, default_value_t = 900)]
    limit: u64,
    #[command(flatten)]
    files: Files,
}

/// How long a snapshot is still held to blame after its file was closed.
const AFTERMATH: Duration = Duration::from_millis(100);
/// Java and ringkeeper draw each threshold between half and all of `snapCount`.
const MEAN_SHARE_OF_SNAP_COUNT: f64 = 0.75;
/// A machine that stands still while the rate is found, or in a short window, spoils a run.
const ATTEMPTS: usize = 5;
/// A p99.9 of fewer writes than this would be a maximum.
const WRITES_MIN: u64 = 2_000;

/// One server in one placement.
#[derive(Clone, Debug, Serialize)]
struct Tail {
    scenario: &'static str,
    load: String,
    tree: BigTree,
    snap_count: u64,
    date: String,
    machine: Machine,
    cores: Vec<usize>,
    snapshots: usize,
    snapshot_s: Vec<f64>,
    during: Side,
    without: Side,
    /// p99.9 of all writes during snapshots over that of all others.
    p99_9_ratio: f64,
    report: Report,
}

/// The writes of one kind of window.
#[derive(Clone, Debug, Serialize)]
struct Side {
    writes: u64,
    latency_us: Latency,
    /// Of each window that is long enough to have one.
    window_p99_9_us: Vec<f64>,
    window_max_us: Vec<f64>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let tree = arguments.tree;
    let mut load = Load::named(&arguments.load).ok_or_else(|| versus::unknown_scenario(&arguments.load))?;
    if let Some(per_second) = arguments.rate {
        load.arrivals = Arrivals::Open { per_second };
    }
    if tree.nodes == 0 || arguments.windows == 0 || !(arguments.window > 0.0 && arguments.warm_up > 0.0) {
        return Err(BenchError::new("it needs at least one znode, one window, and times above 0"));
    }
    let base = match &arguments.keep {
        Some(keep) => {
            fs::create_dir_all(keep).doing(keep.display())?;
            keep.canonicalize().doing(keep.display())?
        }
        None => arguments.contestants.base()?.join(format!("snapshot-tail-{}", std::process::id())),
    };
    let contestants = &arguments.contestants;
    let workshop = Workshop { contestants, base: base.clone(), tree, cpus: arguments.cores[0].clone() };
    let mut tails = Vec::new();
    for cores in &arguments.cores {
        for kind in &contestants.servers {
            let tail = measure(arguments, &workshop, *kind, cores, &load)?;
            println!("{}\n{}", tail.report.line(), tail.lines());
            arguments.files.note(&tail)?;
            tails.push(tail);
        }
    }
    let summary = summary(arguments, &tails);
    arguments.files.summary(&summary)?;
    if arguments.keep.is_none() { remove(&base) } else { Ok(()) }
}

fn measure(arguments: &Arguments, workshop: &Workshop<'_>, kind: Kind, cores: &Cpus, load: &Load) -> Result<Tail> {
    for _ in 1..ATTEMPTS {
        match try_measure(arguments, workshop, kind, cores, load)? {
            Err(spoilt) => println!("{spoilt}; once more"),
            measured => return measured,
        }
    }
    try_measure(arguments, workshop, kind, cores, load)?
}

/// Within the result: there were not both, writes with a snapshot and without one.
fn try_measure(
    arguments: &Arguments,
    workshop: &Workshop<'_>,
    kind: Kind,
    cores: &Cpus,
    load: &Load,
) -> Result<Result<Tail>> {
    let directory = workshop.prepared(kind, Variant::Clean)?;
    let seconds = |value: f64| Duration::try_from_secs_f64(value).doing(format_args!("{value} seconds"));
    let warm_up = seconds(arguments.warm_up)?;

    let no_snapshots = NO_SNAPSHOTS.map(str::to_owned);
    let launch = workshop.copy(kind, &directory, cores, &no_snapshots)?;
    let server = started(&launch, kind, arguments)?;
    let quick = Timing { warm_up: warm_up / 2, window: warm_up, spin: false };
    let rate = load::run(&server.target(), load, quick).doing("finding the rate of the load")?.ops_per_s;
    server.kill()?;
    remove(&launch.dir)?;

    let cycle_s = 2.0 * arguments.window;
    let snap_count = ((rate * cycle_s / MEAN_SHARE_OF_SNAP_COUNT) as u64).max(2);
    let settings = [format!("snapCount={snap_count}"), NO_SNAPSHOTS[1].to_owned()];
    let launch = workshop.copy(kind, &directory, cores, &settings)?;
    let server = started(&launch, kind, arguments)?;
    let watch = SnapshotWatch::start(&launch.data().join(kind.directory()))?;
    let timing = Timing { warm_up, window: seconds(cycle_s * f64::from(arguments.windows))?, spin: false };
    let (report, series) = load::run_with_series(&server.target(), load, timing)?;
    let (spans, unfinished) = watch.finish();
    server.kill()?;
    remove(&launch.dir)?;

    if spans.is_empty() {
        return Ok(Err(BenchError::new(format!(
            "{}: no snapshot was begun and ended within {:?}, with snapCount={snap_count} for {rate:.0} writes/s; try more or longer \
             windows",
            kind.name(),
            timing.window
        ))));
    }
    let split = Split::of(&series, &spans, unfinished);
    let (during, without) = (Side::of(&split.during), Side::of(&split.without));
    let (Some(during), Some(without)) = (during, without) else {
        return Ok(Err(BenchError::new(format!(
            "{}: {} snapshots left no time between them; try longer windows",
            kind.name(),
            spans.len()
        ))));
    };
    Ok(Ok(Tail {
        scenario: "snapshot-tail",
        load: load.name.clone(),
        tree: workshop.tree,
        snap_count,
        date: utc_now(),
        machine: Machine::this(),
        cores: cores.0.clone(),
        snapshots: spans.len(),
        snapshot_s: spans.iter().map(|span| (span.ended - span.began).as_secs_f64()).collect(),
        p99_9_ratio: during.latency_us.p99_9 / without.latency_us.p99_9,
        during,
        without,
        report,
    }))
}

/// Up, and with nothing left to do but to serve.
fn started(launch: &Launch, kind: Kind, arguments: &Arguments) -> Result<Server> {
    let limit = Duration::from_secs(arguments.limit);
    let server = launch.start()?;
    server.wait_until_serving(limit)?;
    if kind.serves_before_all_is_in_memory() {
        wait_until_in_memory(&server, limit)?;
    }
    Ok(server)
}

/// The writes of each snapshot, and of each stretch between two.
#[derive(Default)]
struct Split {
    during: Vec<Histogram<u64>>,
    without: Vec<Histogram<u64>>,
}

impl Split {
    fn of(series: &Series, spans: &[Span], unfinished: Option<Instant>) -> Split {
        let ns = |at: Instant| at.saturating_duration_since(series.start).as_nanos() as u64;
        let mut busy: Vec<(u64, u64)> = spans.iter().map(|span| (ns(span.began), ns(span.ended + AFTERMATH))).collect();
        busy.extend(unfinished.map(|began| (ns(began), u64::MAX)));
        let mut split = Split {
            during: busy.iter().map(|_| latency_histogram()).collect(),
            without: (0..=busy.len()).map(|_| latency_histogram()).collect(),
        };
        for sample in &series.samples {
            let (began, ended) = (sample.since_ns, sample.since_ns + sample.ns);
            // The first snapshot that was not over when the write began.
            let next = busy.partition_point(|(_, over)| *over < began);
            let histogram = match busy.get(next) {
                Some((since, _)) if *since <= ended => &mut split.during[next],
                _ => &mut split.without[next],
            };
            record_ns(histogram, sample.ns, sample.count.into());
        }
        split
    }
}

impl Side {
    fn of(windows: &[Histogram<u64>]) -> Option<Side> {
        let mut all = latency_histogram();
        for window in windows {
            all.add(window).expect("all have the same bounds");
        }
        let long: Vec<Latency> = windows.iter().filter(|window| window.len() >= WRITES_MIN).map(Latency::of).collect();
        (!all.is_empty()).then(|| Side {
            writes: all.len(),
            latency_us: Latency::of(&all),
            window_p99_9_us: long.iter().map(|latency| latency.p99_9).collect(),
            window_max_us: long.iter().map(|latency| latency.max).collect(),
        })
    }

    fn cells(&self) -> String {
        let Latency { p50, p99, p99_9, max, .. } = self.latency_us;
        let figures = [p50, p99, p99_9, max].map(figure).join(" | ");
        let windows = Spread::of(self.window_p99_9_us.clone()).map_or("–".to_owned(), |spread| spread.cell());
        format!("{} | {figures} | {windows}", figure(self.writes as f64))
    }
}

impl Tail {
    fn lines(&self) -> String {
        let line = |name: &str, side: &Side| {
            let Latency { p50, p99, p99_9, max, .. } = side.latency_us;
            let [p50, p99, p99_9, max] = [p50, p99, p99_9, max].map(figure);
            format!("  {name:<8} {:>9} writes  us p50 {p50} p99 {p99} p99.9 {p99_9} max {max}", side.writes)
        };
        let lasted = Spread::of(self.snapshot_s.clone()).map_or("–".to_owned(), |spread| spread.cell());
        format!(
            "{}\n{}\n  p99.9 {:.2} times; {} snapshots of {lasted} s, snapCount {}",
            line("during", &self.during),
            line("without", &self.without),
            self.p99_9_ratio,
            self.snapshots,
            self.snap_count
        )
    }
}

fn summary(arguments: &Arguments, tails: &[Tail]) -> String {
    let Some(first) = tails.first() else { return String::new() };
    let machine = &first.machine;
    let mut text = format!(
        "Measured {} with `ringkeeper-bench snapshot-tail`: {} CPUs ({}), {} MiB, Linux {}. {} znodes of {} bytes, load {}, generator \
         on CPU {}. Latencies in µs; per window median (min–max).\n\n| server | CPU | snapshots | each s | writes | p50 | p99 | p99.9 | max | \
         p99.9 per window | ratio of p99.9 | other CPU |\n|{}\n",
        first.date,
        machine.cpus,
        machine.cpu_model,
        machine.memory_mib,
        machine.kernel,
        first.tree.nodes,
        first.tree.bytes,
        first.load,
        arguments.contestants.cpu,
        "---|".repeat(12),
    );
    for tail in tails {
        let (server, cores) = (&tail.report.label, Cpus(tail.cores.clone()));
        let lasted = Spread::of(tail.snapshot_s.clone()).map_or("–".to_owned(), |spread| spread.cell());
        let other = tail.report.server.map_or(0.0, |server| server.other_cpu_cores);
        text += &format!("| {server} | {cores} | without | – | {} | 1 | |\n", tail.without.cells());
        text += &format!(
            "| {server} | {cores} | {} | {lasted} | {} | **{:.2}** | {other:.2} |\n",
            tail.snapshots,
            tail.during.cells(),
            tail.p99_9_ratio
        );
    }
    text + &format!("\nMore than {DISTURBED_CORES} cores of other CPU: the tails say nothing.\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Sample;

    #[test]
    fn a_write_belongs_to_the_snapshot_that_it_met() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let spans = [Span { began: at(1_000), ended: at(2_000) }, Span { began: at(5_000), ended: at(6_000) }];
        let write = |since_ms: u64, ms: u64| Sample { since_ns: since_ms * 1_000_000, ns: ms * 1_000_000, count: 1 };
        let series = Series {
            start,
            samples: vec![
                write(10, 1),     // before the first
                write(990, 20),   // into the first
                write(1_500, 1),  // in the first
                write(2_050, 1),  // in its aftermath
                write(2_200, 2),  // between the two
                write(900, 9000), // over both: the first is to blame
                write(5_500, 1),  // in the second
                write(7_000, 1),  // behind it
                write(8_500, 1),  // in one that has not ended
            ],
        };
        let split = Split::of(&series, &spans, Some(at(8_000)));
        let counts = |histograms: &[Histogram<u64>]| histograms.iter().map(Histogram::len).collect::<Vec<_>>();
        assert_eq!(counts(&split.during), [4, 1, 1]);
        assert_eq!(counts(&split.without), [1, 1, 1, 0]);
        assert!(Side::of(&split.without).unwrap().window_p99_9_us.is_empty(), "too few for a p99.9");
        assert!(Side::of(&[]).is_none());
    }
}
