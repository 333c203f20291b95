//! Two servers side by side: the same scenarios on both, in alternation, in one run.
//!
//!   start A and B on one CPU, fresh directories -> warm both -> rounds x scenarios x (A, then B) -> medians, ratios
//!
//! A ratio of figures taken hours apart compares the hours. Here each pair is taken minutes apart at most, on the same disk,
//! with the same generator. With `--members 3` each side is an ensemble, all of whose members share the one CPU: what is compared
//! is what a write costs three servers together. Runs in which other processes used the CPU are marked, and left out when enough remain.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::ensemble::Ensemble;
use crate::load::{self, Timing};
use crate::report::{Files, Machine, Report, Spread, utc_now};
use crate::scenario::{Arrivals, Load};
use crate::server::Launch;
use crate::usage::DISTURBED_CORES;
use crate::watch::Watch;
use crate::{BenchError, Doing, Result, Target, idle, storm, watch};

#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// Command of server A, run by `sh -c 'exec ...'`. Replaced in it: {port}, {dir} (a fresh data directory) and {config} (a
    /// zoo.cfg for both, written beside the data).
    #[arg(long)]
    a: String,
    /// Command of server B.
    #[arg(long)]
    b: String,
    #[arg(long, default_value = "A")]
    name_a: String,
    #[arg(long, default_value = "B")]
    name_b: String,
    #[arg(long, default_value_t = 12181)]
    port_a: u16,
    #[arg(long, default_value_t = 12281)]
    port_b: u16,
    /// Servers of each side; more than one are an ensemble, on ports from its own on. The sessions of a load are spread over them.
    #[arg(long, default_value_t = 1)]
    members: usize,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Scenarios in their order: any load by name, storm, watch, idle.
    #[arg(long, value_delimiter = ',', default_value = "w1,w100,wpipe,r1,r100,rpipe,mix1,crdel")]
    scenarios: Vec<String>,
    /// CPU of the servers.
    #[arg(long, default_value_t = 1)]
    server_cpu: usize,
    /// CPU of the generator.
    #[arg(long, default_value_t = 0)]
    cpu: usize,
    /// Priority of generator and servers.
    #[arg(long, allow_hyphen_values = true)]
    nice: Option<i32>,
    /// Seconds of mixed load on each server before anything counts.
    #[arg(long, default_value_t = 9.0)]
    server_warm_up: f64,
    /// Seconds before each window.
    #[arg(long, default_value_t = 2.0)]
    warm_up: f64,
    /// Seconds of each window.
    #[arg(long, default_value_t = 6.0)]
    window: f64,
    /// Rate of open50. Without it: half of the slowest wpipe run before it.
    #[arg(long)]
    rate: Option<f64>,
    /// Where the data directories are made. Choose the disk you mean to measure.
    #[arg(long, default_value = ".")]
    data: PathBuf,
    #[command(flatten)]
    files: Files,
}

impl Arguments {
    pub fn generator_cpu(&self) -> Option<usize> {
        Some(self.cpu)
    }

    pub fn nice(&self) -> Option<i32> {
        self.nice
    }
}

#[derive(Clone, Debug)]
enum Scenario {
    Load(Load),
    Storm,
    Watch,
    Idle,
}

// As in the baseline.
const STORM: storm::Storm = storm::Storm { sessions: 2_000, at_once: 32, limit_s: 120 };
const WATCH: Watch = Watch { watchers: 1_000, rounds: 20, value_bytes: 100 };
const IDLE: idle::Idle = idle::Idle { sessions: 10_000, at_once: 32, hold_s: 15.0, limit_s: 120 };

const START_LIMIT: Duration = Duration::from_secs(60);

pub fn unknown_scenario(name: &str) -> BenchError {
    let loads = Load::names().join(" ");
    BenchError::new(format!("no load is called {name}; there are {loads} (and storm, watch, idle on their own)"))
}

/// Runs the whole comparison and prints it.
pub fn run(arguments: &Arguments) -> Result<()> {
    let scenarios = arguments.scenarios.iter().map(|name| Scenario::named(name)).collect::<Result<Vec<_>>>()?;
    if arguments.rounds == 0 {
        return Err(BenchError::new("a comparison needs at least one round"));
    }
    let timing = Timing {
        warm_up: Duration::try_from_secs_f64(arguments.warm_up).doing("--warm-up")?,
        window: Duration::try_from_secs_f64(arguments.window).doing("--window")?,
        spin: false,
    };
    let sides = [
        Side::start(arguments, &arguments.name_a, &arguments.a, arguments.port_a)?,
        Side::start(arguments, &arguments.name_b, &arguments.b, arguments.port_b)?,
    ];
    for side in &sides {
        side.servers.wait_until_serving(START_LIMIT)?;
        side.warm(arguments.server_warm_up)?;
    }
    let mut results = Results::default();
    for round in 1..=arguments.rounds {
        println!("round {round} of {}", arguments.rounds);
        for (place, scenario) in scenarios.iter().enumerate() {
            let scenario = scenario.clone().with_rate(arguments.rate.or_else(|| results.half_of_slowest("wpipe")))?;
            for (side, Side { servers, .. }) in sides.iter().enumerate() {
                let report = scenario
                    .run(&servers.target(), timing)
                    .doing(format_args!("{scenario:?} on {}", servers.name()))?;
                println!("{}", report.line());
                arguments.files.note(&report)?;
                results.add(place, side, report);
            }
        }
    }
    let summary = results.summary(arguments, &sides);
    arguments.files.summary(&summary)?;
    sides.into_iter().try_for_each(Side::stop)
}

impl Scenario {
    fn named(name: &str) -> Result<Scenario> {
        match name {
            "storm" => Ok(Scenario::Storm),
            "watch" => Ok(Scenario::Watch),
            "idle" => Ok(Scenario::Idle),
            load => Load::named(load).map(Scenario::Load).ok_or_else(|| unknown_scenario(load)),
        }
    }

    /// Both servers are offered the same rate, else the comparison would be of two loads.
    fn with_rate(self, rate: Option<f64>) -> Result<Scenario> {
        match (self, rate) {
            (Scenario::Load(load), Some(per_second)) if load.arrivals == Arrivals::OpenAtUnknownRate => {
                Ok(Scenario::Load(Load { arrivals: Arrivals::Open { per_second }, ..load }))
            }
            (Scenario::Load(load), None) if load.arrivals == Arrivals::OpenAtUnknownRate => {
                Err(BenchError::new(format!("{} needs --rate, or wpipe before it", load.name)))
            }
            (scenario, _) => Ok(scenario),
        }
    }

    fn run(&self, target: &Target, timing: Timing) -> Result<Report> {
        match self {
            Scenario::Load(load) => load::run(target, load, timing),
            Scenario::Storm => storm::run(target, STORM),
            Scenario::Watch => watch::run(target, WATCH),
            Scenario::Idle => idle::run(target, IDLE),
        }
    }
}

/// A contestant, and the directory that goes with it.
struct Side {
    servers: Ensemble,
    command: String,
    dir: PathBuf,
}

impl Side {
    fn start(arguments: &Arguments, name: &str, template: &str, port: u16) -> Result<Side> {
        let base = arguments.data.canonicalize().doing(arguments.data.display())?;
        let dir = base.join(format!("versus-{}-{port}", std::process::id()));
        let launch = Launch {
            name: name.to_owned(),
            command: template.to_owned(),
            port,
            dir: dir.clone(),
            cpus: vec![arguments.server_cpu],
            settings: Vec::new(),
            my_id: None,
        };
        Ok(Side { servers: Ensemble::start(&launch, arguments.members)?, command: template.to_owned(), dir })
    }

    /// Writes, reads and a mix, as long together as asked; nothing of it counts.
    fn warm(&self, seconds: f64) -> Result<()> {
        let third = Duration::try_from_secs_f64(seconds / 3.0).doing("--server-warm-up")?;
        if third.is_zero() {
            return Ok(());
        }
        for name in ["wpipe", "rpipe", "mix1"] {
            let load = Load::named(name).expect("a named load");
            let timing = Timing { warm_up: Duration::ZERO, window: third, spin: false };
            let name = self.servers.name();
            load::run(&self.servers.target(), &load, timing)
                .doing(format_args!("warming {name} with {}", load.name))?;
        }
        Ok(())
    }

    /// Ends the servers in order and removes their data.
    fn stop(self) -> Result<()> {
        self.servers.stop()?;
        fs::remove_dir_all(&self.dir).doing(self.dir.display())
    }
}

/// All reports, by the scenario's place and the server's side.
#[derive(Default)]
struct Results(BTreeMap<usize, [Vec<Report>; 2]>);

/// What the summary compares, in its order.
const COLUMNS: [(&str, Figure); 4] = [
    ("ops/s", |report| Some(report.ops_per_s)),
    ("p50 µs", |report| Some(report.latency_us.p50)),
    ("p99 µs", |report| Some(report.latency_us.p99)),
    ("server CPU µs/op", |report| report.server.map(|server| server.cpu_us_per_op)),
];

type Figure = fn(&Report) -> Option<f64>;

impl Results {
    fn add(&mut self, place: usize, side: usize, report: Report) {
        self.0.entry(place).or_default()[side].push(report);
    }

    fn half_of_slowest(&self, scenario: &str) -> Option<f64> {
        let runs = self.0.values().flatten().flatten().filter(|report| report.scenario == scenario);
        runs.map(|report| report.ops_per_s / 2.0).min_by(f64::total_cmp)
    }

    /// Markdown, as it stands in the project's documents.
    fn summary(&self, arguments: &Arguments, sides: &[Side; 2]) -> String {
        let machine = Machine::this();
        let mut text = format!(
            "Measured {} with `ringkeeper-bench versus`: {} CPUs ({}), {} MiB, Linux {}. Generator on CPU {}, {} on CPU \
             {}; {} rounds in alternation, {} s warm-up and {} s windows. Medians (min–max).\n\n",
            utc_now(),
            machine.cpus,
            machine.cpu_model,
            machine.memory_mib,
            machine.kernel,
            arguments.cpu,
            match arguments.members {
                1 => "both servers".to_owned(),
                members => format!("{members} servers of each side, all of them"),
            },
            arguments.server_cpu,
            arguments.rounds,
            arguments.warm_up,
            arguments.window,
        );
        for (side, Side { servers, command, .. }) in sides.iter().enumerate() {
            let runs: Vec<&Report> = self.0.values().flat_map(|sides| &sides[side]).collect();
            let version =
                runs.iter().find_map(|run| run.server_version.clone()).unwrap_or_else(|| "unknown version".into());
            let rss = runs.iter().filter_map(|run| run.server.map(|server| server.rss_mib)).fold(0.0, f64::max);
            text += &format!("- {}: {version}; RSS at most {rss:.0} MiB; `{}`\n", servers.name(), command);
        }
        text + "\n" + &self.tables(&arguments.name_a, &arguments.name_b)
    }

    fn tables(&self, a: &str, b: &str) -> String {
        let mut text = "| scenario | runs (undisturbed) |".to_owned();
        for (name, _) in COLUMNS {
            text += &format!(" {a} {name} | {b} {name} | {b}/{a} |");
        }
        text += &format!("\n|---|---|{}\n", "---|".repeat(3 * COLUMNS.len()));
        for sides in self.0.values() {
            let Some(first) = sides[0].first() else {
                continue;
            };
            let chosen = choose(sides);
            let runs = |side: usize| {
                let undisturbed = sides[side].iter().filter(|run| !is_disturbed(run)).count();
                format!("{} ({undisturbed})", sides[side].len())
            };
            text += &format!("| {} | {} / {} |", first.scenario, runs(0), runs(1));
            for (_, of) in COLUMNS {
                text += &compared(&chosen, of);
            }
            text.push('\n');
        }
        text += &format!(
            "\nA run is undisturbed when other processes used at most {DISTURBED_CORES} cores; where both sides have such runs, the \
             figures are of those alone.\n"
        );
        self.add_special_figures(&mut text, a, b);
        text
    }

    fn add_special_figures(&self, text: &mut String, a: &str, b: &str) {
        let names = |sides: &[Vec<Report>; 2]| -> BTreeSet<&'static str> {
            sides.iter().flatten().flat_map(|report| report.figures.keys().copied()).collect()
        };
        if self.0.values().all(|sides| names(sides).is_empty()) {
            return;
        }
        *text += &format!("\n| scenario | figure | {a} | {b} | {b}/{a} |\n|---|---|---|---|---|\n");
        for sides in self.0.values() {
            for name in names(sides) {
                let row = compared(&choose(sides), |report| report.figures.get(name).copied());
                *text += &format!("| {} | {name} |{row}\n", sides[0].first().map_or("", |run| &run.scenario));
            }
        }
    }
}

fn is_disturbed(report: &Report) -> bool {
    report.server.is_none_or(|server| server.disturbed)
}

/// The undisturbed runs if both sides have some, else all.
fn choose(sides: &[Vec<Report>; 2]) -> [Vec<&Report>; 2] {
    let undisturbed = sides.each_ref().map(|runs| runs.iter().filter(|run| !is_disturbed(run)).collect::<Vec<_>>());
    match undisturbed.iter().any(Vec::is_empty) {
        true => sides.each_ref().map(|runs| runs.iter().collect()),
        false => undisturbed,
    }
}

/// Three cells: the figure of A, of B, and B's median over A's.
fn compared(sides: &[Vec<&Report>; 2], of: impl Fn(&Report) -> Option<f64>) -> String {
    let spread = sides.each_ref().map(|runs| Spread::of(runs.iter().filter_map(|run| of(run)).collect()));
    let ratio = match &spread {
        [Some(a), Some(b)] if a.median != 0.0 => format!("{:.2}", b.median / a.median),
        _ => "–".to_owned(),
    };
    let cell = |spread: &Option<Spread>| spread.as_ref().map_or("–".to_owned(), Spread::cell);
    format!(" {} | {} | {ratio} |", cell(&spread[0]), cell(&spread[1]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Counted, latency_histogram, record_ns};
    use crate::usage::{ServerUsage, Usage};
    use std::net::SocketAddr;

    fn report(scenario: &str, p50_us: u64, cpu_ms: u64, other_ms: u64) -> Report {
        let mut latency = latency_histogram();
        record_ns(&mut latency, p50_us * 1000, 1_000);
        let server = ServerUsage {
            cpu: Duration::from_millis(cpu_ms),
            rss_bytes: 50 << 20,
            other_cpu: Duration::from_millis(other_ms),
        };
        let usage = Usage {
            window: Duration::from_secs(1),
            server: Some(server),
            own_cpu: Duration::ZERO,
            stolen_cpu: Duration::ZERO,
        };
        let target = Target {
            servers: vec![SocketAddr::from(([127, 0, 0, 1], 1))], // nobody: no version
            server_pids: vec![],
            label: "x".into(),
            root: "/x".into(),
            keep: false,
            disk: None,
        };
        let figures = BTreeMap::from([("all_ms_median", p50_us as f64)]);
        let parameters = serde_json::Value::Null;
        let scenario = scenario.to_owned();
        Report::new(&target, Counted { scenario, parameters, operations: 1_000, latency, usage, figures })
    }

    #[test]
    fn the_table_has_medians_ranges_and_ratios_of_undisturbed_runs() {
        let mut results = Results::default();
        for (side, p50_us, other_ms) in
            [(0, 100, 0), (0, 200, 100), (0, 9_000, 900), (1, 50, 0), (1, 70, 0), (1, 60, 0)]
        {
            results.add(0, side, report("w1", p50_us, 100, other_ms));
        }
        let tables = results.tables("Java", "ours");
        let row = tables.lines().find(|line| line.starts_with("| w1 | 3")).unwrap();
        assert!(row.contains("| 3 (2) / 3 (3) |"), "{row}");
        assert!(row.contains("| 150 (100–200) | 60.0 (50.0–70.0) | 0.40 |"), "{row}");
        assert!(row.contains("| 100 (100–100) | 100 (100–100) | 1.00 |"), "{row}");
        assert!(tables.contains("| w1 | all_ms_median | 150 (100–200) | 60.0 (50.0–70.0) | 0.40 |"), "{tables}");
        let header = tables.lines().next().unwrap();
        assert_eq!(header.matches('|').count(), row.matches('|').count(), "as many cells as the header has");
    }

    #[test]
    fn without_undisturbed_runs_all_count() {
        let sides = [vec![report("w1", 100, 1, 900)], vec![report("w1", 50, 1, 0)]];
        assert_eq!(choose(&sides).map(|runs| runs.len()), [1, 1]);
    }

    #[test]
    fn an_open_loop_offers_half_of_the_slowest_pipe() {
        let mut results = Results::default();
        assert!(Scenario::named("open50").unwrap().with_rate(results.half_of_slowest("wpipe")).is_err());
        results.add(0, 0, report("wpipe", 100, 1, 0));
        assert_eq!(results.half_of_slowest("wpipe"), Some(500.0));
        let Scenario::Load(load) = Scenario::named("open50").unwrap().with_rate(Some(500.0)).unwrap() else { panic!() };
        assert_eq!(load.arrivals, Arrivals::Open { per_second: 500.0 });
        assert!(Scenario::named("w2").is_err());
    }
}
