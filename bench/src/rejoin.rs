//! How long a member that was away needs until it serves again, and what the others' clients feel meanwhile.
//!
//!   tree made -> all restarted -> rounds x (a follower is killed -> nothing, so many creates, or its disk is lost
//!     -> it is started -> it serves: a session there sees the last of the creates)
//!
//! *Nothing missed* is the price of a start, which the others contain: a JVM's is most of a second. *Missed*: the leader sends the
//! difference, from its log; both are told to prefer that to a snapshot (and Java's has a snapshot to compare with only after a
//! restart). *Disk lost*: it comes back empty, and is sent everything. How it was brought up is what the leader counts
//! (`zk_diff_count`, `zk_snap_count`).
//! All the time a probe (`probe.rs`) writes through the other follower; its latencies from the start to the first service are put
//! beside those of the moments before the kill. All servers share their CPUs, so a member that starts takes from those that serve
//! (and the probe from it: `--without-probe` is the start alone).
//!
//! Estimates, one core: 100,000 creates missed cost ringkeeper 0.2 s beyond its start, Java 1 s; a lost disk with 1,000,000 znodes
//! of 100 bytes ringkeeper 5 s, Java 15 s.

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::big_tree::BigTree;
use crate::client::{Client, REPLY_TIMEOUT, monitored};
use crate::contestants::{Contestants, Kind};
use crate::ensemble::Ensemble;
use crate::prepared::remove;
use crate::probe::{Probe, Write};
use crate::report::{Files, Latency, Machine, Spread, figure, latency_histogram, record_ns, utc_now};
use crate::server::{Cpus, Server};
use crate::{Doing, Result, wire};

#[derive(Args, Clone, Debug)]
pub struct Arguments {
    #[command(flatten)]
    pub contestants: Contestants,
    #[command(flatten)]
    tree: BigTree,
    /// Creates that a follower misses.
    #[arg(long, default_value_t = 100_000)]
    missed: u64,
    /// What happens while it is away, in this order in each round.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "nothing-missed,missed,disk-lost")]
    absences: Vec<Absence>,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of writes with all members before each kill.
    #[arg(long, default_value_t = 3.0)]
    steady: f64,
    /// CPUs of all servers.
    #[arg(long, default_value = "1")]
    cores: Cpus,
    /// Nobody writes through the other follower: what a start takes with the servers' CPUs to itself.
    #[arg(long)]
    without_probe: bool,
    /// Seconds a start may take.
    #[arg(long, default_value_t = 600)]
    limit: u64,
    #[command(flatten)]
    files: Files,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Absence {
    NothingMissed,
    Missed,
    DiskLost,
}

impl Absence {
    fn name(self) -> &'static str {
        match self {
            Absence::NothingMissed => "nothing missed",
            Absence::Missed => "missed",
            Absence::DiskLost => "disk lost",
        }
    }
}

#[derive(Clone, Debug, Serialize)]
struct Rejoined {
    scenario: &'static str,
    server: Kind,
    absence: Absence,
    tree: BigTree,
    missed: u64,
    date: String,
    machine: Machine,
    /// From before its exec.
    serves_ms: f64,
    /// As the leader counts.
    diffs: f64,
    snapshots: f64,
    creates_per_s: Option<f64>,
    /// Of the probe's writes, from the start to the first service, and before.
    writes_during: usize,
    during_us: Latency,
    before_us: Latency,
    #[serde(skip)]
    writes: [Vec<Duration>; 2],
}

const PROBED: &str = "/ringkeeper-bench-rejoin";
const MEMBERS: usize = 3;
/// A difference is sent however large it is.
const PREFER_DIFFERENCES: &str = "snapshotSizeFactor=0";
const RETRY_EVERY: Duration = Duration::from_millis(2);

pub fn run(arguments: &Arguments) -> Result<()> {
    let base = arguments.contestants.base()?.join(format!("rejoin-{}", std::process::id()));
    let mut results = Vec::new();
    for kind in &arguments.contestants.servers {
        run_contestant(arguments, *kind, &base.join(kind.name()), &mut results).doing(kind.name())?;
    }
    let summary = summary(arguments, &results);
    arguments.files.summary(&summary)?;
    remove(&base)
}

fn run_contestant(arguments: &Arguments, kind: Kind, dir: &std::path::Path, results: &mut Vec<Rejoined>) -> Result<()> {
    let limit = Duration::from_secs(arguments.limit);
    let tree = arguments.tree;
    let settings = [PREFER_DIFFERENCES.to_owned()];
    let pattern = arguments.contestants.launch(kind, arguments.tree.nodes, dir, &arguments.cores, &settings)?;
    let mut ensemble = Ensemble::start(&pattern, MEMBERS)?;
    ensemble.wait_until_serving(limit)?;
    ensemble.put(PROBED)?;
    let began = Instant::now();
    tree.make(ensemble.target().servers[0])?;
    println!("{}: {} znodes in {:.1} s", kind.name(), tree.nodes, began.elapsed().as_secs_f64());
    ensemble.restart()?;
    ensemble.wait_until_serving(limit)?;
    let leader = ensemble.wait_for_leader(limit)?;
    for round in 0..arguments.rounds {
        for absence in arguments.absences.iter().copied() {
            let rejoined = Rejoin { arguments, kind, tree, leader, round }.run(&mut ensemble, absence)?;
            println!("{}", rejoined.line());
            arguments.files.note(&rejoined)?;
            results.push(rejoined);
        }
    }
    ensemble.stop()
}

struct Rejoin<'a> {
    arguments: &'a Arguments,
    kind: Kind,
    tree: BigTree,
    leader: usize,
    round: usize,
}

impl Rejoin<'_> {
    fn run(&self, ensemble: &mut Ensemble, absence: Absence) -> Result<Rejoined> {
        let arguments = self.arguments;
        let limit = Duration::from_secs(arguments.limit);
        let steady = Duration::try_from_secs_f64(arguments.steady).doing("--steady")?;
        let mut followers = ensemble.members().filter(|member| *member != self.leader);
        let (follower, other) = (followers.next().expect("three"), followers.next().expect("three"));
        let counts_before = self.counts(ensemble);
        let probed = Instant::now();
        let probe = (!arguments.without_probe).then(|| Probe::start(ensemble.address(other), PROBED));
        if let Some(probe) = &probe {
            probe.wait_for_write_after(probed, limit)?;
        }
        std::thread::sleep(steady);

        let killed = Instant::now();
        ensemble.take(follower).kill()?;
        let (mut last, mut creates_per_s) = (self.tree.path(self.tree.nodes - 1), None);
        match absence {
            Absence::NothingMissed => {}
            Absence::Missed => {
                let began = Instant::now();
                last = self.create_missed(ensemble, other)?;
                creates_per_s = Some(arguments.missed as f64 / began.elapsed().as_secs_f64());
            }
            Absence::DiskLost => ensemble.wipe(follower)?,
        }
        let server = ensemble.start_again(follower)?;
        let (began, served) = (server.began, wait_for(server, &last, limit)?);
        let writes = probe.map_or_else(Vec::new, Probe::end);
        ensemble.wait_until_serving(limit)?;
        let counts = self.counts(ensemble);

        let within = |from: Instant, to: Instant| -> Vec<Duration> {
            writes.iter().filter(|write| write.acknowledged > from && write.begun < to).map(Write::took).collect()
        };
        let writes = [within(began, served), within(probed, killed)];
        Ok(Rejoined {
            scenario: "rejoin",
            server: self.kind,
            absence,
            tree: self.tree,
            missed: if absence == Absence::Missed { arguments.missed } else { 0 },
            date: utc_now(),
            machine: Machine::this(),
            serves_ms: (served - began).as_secs_f64() * 1e3,
            diffs: counts[0] - counts_before[0],
            snapshots: counts[1] - counts_before[1],
            creates_per_s,
            writes_during: writes[0].len(),
            during_us: latency(&writes[0]),
            before_us: latency(&writes[1]),
            writes,
        })
    }

    /// Differences and snapshots that the leader has sent.
    fn counts(&self, ensemble: &Ensemble) -> [f64; 2] {
        let leader = ensemble.address(self.leader);
        ["zk_diff_count", "zk_snap_count"].map(|name| monitored(leader, name).unwrap_or(f64::NAN))
    }

    /// Returns the path of the last one.
    fn create_missed(&self, ensemble: &Ensemble, through: usize) -> Result<String> {
        let root = format!("/missed-{}", self.round);
        let path = |number: u64| format!("{root}/node-{number:010}");
        let mut client = Client::connect(ensemble.address(through))?;
        let first = std::iter::once(wire::create(&root, b"", wire::FLAG_PERSISTENT));
        let data = self.tree.data(0);
        let creates =
            (0..self.arguments.missed).map(|number| wire::create(&path(number), &data, wire::FLAG_PERSISTENT));
        client.call_all(first.chain(creates), 0).doing("writing what is to be missed")?;
        client.close()?;
        Ok(path(self.arguments.missed.saturating_sub(1)))
    }
}

/// Until a session of this server sees this znode.
fn wait_for(server: &Server, path: &str, limit: Duration) -> Result<Instant> {
    loop {
        let seen = Client::connect_within(server.address(), server.patience()).and_then(|mut client| {
            client.set_reply_timeout(REPLY_TIMEOUT)?;
            client.call_all([wire::exists(path, false)], 0).doing(format_args!("{path}, which it has to have"))
        });
        match seen {
            Ok(_) => return Ok(Instant::now()),
            Err(cause) => server.may_still_come(limit, &cause)?,
        }
        std::thread::sleep(RETRY_EVERY);
    }
}

fn latency(writes: &[Duration]) -> Latency {
    let mut histogram = latency_histogram();
    for took in writes {
        record_ns(&mut histogram, took.as_nanos() as u64, 1);
    }
    Latency::of(&histogram)
}

impl Rejoined {
    fn line(&self) -> String {
        format!(
            "{:<10} {:<15} serves after {} ms ({} diffs, {} snapshots); a sync write beside it, us: p50 {} p99 {} max {} ({} \
             writes); before: p50 {} p99 {} max {}{}",
            self.server.name(),
            self.absence.name(),
            figure(self.serves_ms),
            self.diffs,
            self.snapshots,
            figure(self.during_us.p50),
            figure(self.during_us.p99),
            figure(self.during_us.max),
            self.writes_during,
            figure(self.before_us.p50),
            figure(self.before_us.p99),
            figure(self.before_us.max),
            self.creates_per_s.map_or_else(String::new, |rate| format!("; {} creates/s without it", figure(rate))),
        )
    }
}

fn summary(arguments: &Arguments, results: &[Rejoined]) -> String {
    let machine = Machine::this();
    let mut text = format!(
        "Measured {} with `ringkeeper-bench rejoin`: {} CPUs ({}), {} MiB, Linux {}. {MEMBERS} servers, all on CPU {}; {} znodes of {} \
         bytes, {} creates missed, {} rounds. {}. Medians (min–max).\n\n\
         | absence | server | diffs, snapshots sent | serves after ms | p50 µs before | p50 µs during | p99 µs before | p99 µs during | \
         max ms during |\n|---|---|---|---|---|---|---|---|---|\n",
        utc_now(),
        machine.cpus,
        machine.cpu_model,
        machine.memory_mib,
        machine.kernel,
        arguments.cores,
        arguments.tree.nodes,
        arguments.tree.bytes,
        arguments.missed,
        arguments.rounds,
        if arguments.without_probe {
            "Nobody writes meanwhile".to_owned()
        } else {
            format!(
                "A probe writes through the other follower from CPU {}: latencies of all rounds together",
                arguments.contestants.cpu
            )
        },
    );
    for absence in arguments.absences.iter().copied() {
        for kind in &arguments.contestants.servers {
            let runs: Vec<&Rejoined> =
                results.iter().filter(|run| (run.absence, run.server) == (absence, *kind)).collect();
            let Some(serves) = Spread::of(runs.iter().map(|run| run.serves_ms).collect()) else { continue };
            let pooled = |side: usize| {
                latency(&runs.iter().flat_map(|run| run.writes[side].iter().copied()).collect::<Vec<_>>())
            };
            let (during, before) = (pooled(0), pooled(1));
            text += &format!(
                "| {} | {} | {}, {} | {} | {} | {} | {} | {} | {} |\n",
                absence.name(),
                kind.name(),
                runs.iter().map(|run| run.diffs).sum::<f64>(),
                runs.iter().map(|run| run.snapshots).sum::<f64>(),
                serves.cell(),
                figure(before.p50),
                figure(during.p50),
                figure(before.p99),
                figure(during.p99),
                figure(during.max / 1e3),
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_of_no_writes_are_nothing() {
        assert_eq!(latency(&[]).max, 0.0);
        let two = latency(&[Duration::from_micros(10), Duration::from_micros(30)]);
        assert!((two.max - 30.0).abs() < 0.1 && (two.p50 - 10.0).abs() < 0.1, "{two:?}");
    }
}
