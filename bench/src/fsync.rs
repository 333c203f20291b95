//! Which way to make a log durable is best on this machine: the same server with each log strategy, in alternation.
//!
//!   start all of them on one disk -> warm each -> rounds x scenarios x strategies -> medians, ratios to the first
//!
//! Beside throughput and latency: CPU a write, of the server's process and of everything that is not the generator (a flush may
//! run on a thread of the kernel that nobody is charged for), and what the disk was asked to do for one write. With many
//! sessions a batch holds many writes, so those figures fall below one.
//!
//! Estimates, for a disk that needs a flush of 40 us after a write of 40 us, one core, w1: `dsync`, `o_dsync` and `two_step`
//! within 10 % of each other in p50, `linked` 10-20 % above, `buffered` 10 % above, `none` 30 % below (its disk time is gone, the
//! network and two sleeps stay). Writes and flushes: 1 and 1 a write, 1 and 0 where the disk has FUA (`dsync`, `o_dsync`), `none`
//! without flushes. w100 and wpipe within 10 % of each other but for `none`: those are bound by CPU.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::contestants::ringkeeper_beside_this_program;
use crate::device::{Device, Facts};
use crate::load::{self, Timing};
use crate::report::{Files, Machine, Report, Spread, utc_now};
use crate::scenario::Load;
use crate::server::{Cpus, Launch, Server};
use crate::usage::DISTURBED_CORES;
use crate::{BenchError, Doing, Result, Target, versus};

#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// Values of `ringkeeper.log.strategy`. Ratios are to the first.
    #[arg(long, value_delimiter = ',', default_value = "dsync,linked,o_dsync,two_step,buffered,none")]
    strategies: Vec<String>,
    /// Values of `ringkeeper.log.backend`, each with every strategy: uring, syscalls.
    #[arg(long, value_delimiter = ',', default_value = "uring")]
    backends: Vec<String>,
    /// Command of the server, run by `sh -c 'exec ...'`; {config} is its zoo.cfg. Without it: the program beside this one.
    #[arg(long, value_name = "COMMAND")]
    ringkeeper: Option<String>,
    /// Further lines of every zoo.cfg.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[arg(long, value_delimiter = ',', default_value = "w1,w100,wpipe")]
    scenarios: Vec<String>,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// CPUs of the servers.
    #[arg(long, default_value = "1")]
    cores: Cpus,
    /// CPU of the generator.
    #[arg(long, default_value_t = 0)]
    pub cpu: usize,
    /// Priority of generator and servers.
    #[arg(long, allow_hyphen_values = true)]
    pub nice: Option<i32>,
    /// Seconds of load on each server before anything counts.
    #[arg(long, default_value_t = 3.0)]
    server_warm_up: f64,
    /// Seconds before each window.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Seconds of each window.
    #[arg(long, default_value_t = 3.0)]
    window: f64,
    /// The servers take the free ports from here on.
    #[arg(long, default_value_t = 12181)]
    port: u16,
    /// Where the data directories are made. Choose the disk you mean to measure.
    #[arg(long, default_value = ".")]
    data: PathBuf,
    #[command(flatten)]
    files: Files,
}

/// One way of making a log durable, and the server that goes it.
struct Way {
    name: String,
    server: Server,
    dir: PathBuf,
}

/// A run, and the disk that it was about.
#[derive(Serialize)]
struct Run<'a> {
    strategy: &'a str,
    disk: &'a Facts,
    #[serde(flatten)]
    report: &'a Report,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let loads: Vec<Load> = arguments
        .scenarios
        .iter()
        .map(|name| Load::named(name).ok_or_else(|| versus::unknown_scenario(name)))
        .collect::<Result<_>>()?;
    if arguments.rounds == 0 || arguments.strategies.is_empty() || arguments.backends.is_empty() {
        return Err(BenchError::new("a comparison needs at least one strategy, one backend and one round"));
    }
    let seconds = |value: f64| Duration::try_from_secs_f64(value).doing(format_args!("{value} seconds"));
    let timing = Timing { warm_up: seconds(arguments.warm_up)?, window: seconds(arguments.window)?, spin: false };
    let base = arguments.data.canonicalize().doing(arguments.data.display())?;
    let facts = Facts::of(&base);
    println!("{facts}\n");

    let ways = start_all(arguments, &base)?;
    let disk = Device::under(&base);
    let target = |way: &Way| Target { label: way.name.clone(), disk: disk.clone(), ..way.server.target() };
    let warm_up = Timing { warm_up: Duration::ZERO, window: seconds(arguments.server_warm_up)?, spin: false };
    for way in ways.iter().filter(|_| !warm_up.window.is_zero()) {
        load::run(&target(way), &loads[loads.len() - 1], warm_up).doing(format_args!("warming {}", way.name))?;
    }
    let mut results = vec![vec![Vec::new(); ways.len()]; loads.len()];
    for round in 1..=arguments.rounds {
        println!("round {round} of {}", arguments.rounds);
        for (place, load) in loads.iter().enumerate() {
            for (side, way) in ways.iter().enumerate() {
                let report =
                    load::run(&target(way), load, timing).doing(format_args!("{} with {}", load.name, way.name))?;
                println!("{}", report.line());
                arguments.files.note(&Run { strategy: &way.name, disk: &facts, report: &report })?;
                results[place][side].push(report);
            }
        }
    }
    let names: Vec<&str> = ways.iter().map(|way| way.name.as_str()).collect();
    let summary = summary(arguments, &facts, &names, &results);
    arguments.files.summary(&summary)?;
    for Way { server, dir, .. } in ways {
        server.stop()?;
        fs::remove_dir_all(&dir).doing(dir.display())?;
    }
    Ok(())
}

fn start_all(arguments: &Arguments, base: &Path) -> Result<Vec<Way>> {
    let command = arguments.ringkeeper.clone().map_or_else(ringkeeper_beside_this_program, Ok)?;
    let mut ways = Vec::new();
    let mut free_ports = (arguments.port..u16::MAX).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    for backend in &arguments.backends {
        for strategy in &arguments.strategies {
            let name = if arguments.backends.len() == 1 { strategy.clone() } else { format!("{strategy}/{backend}") };
            let port = free_ports.next().ok_or_else(|| BenchError::new("no port is free"))?;
            let dir = base.join(format!("fsync-{}-{port}", std::process::id()));
            let own = [format!("ringkeeper.log.strategy={strategy}"), format!("ringkeeper.log.backend={backend}")];
            let launch = Launch {
                name: name.clone(),
                command: command.clone(),
                port,
                dir: dir.clone(),
                cpus: arguments.cores.0.clone(),
                settings: [&own, arguments.set.as_slice()].concat(),
                my_id: None,
            };
            let server = launch.start()?;
            server.wait_until_serving(Duration::from_secs(60))?;
            ways.push(Way { name, server, dir });
        }
    }
    Ok(ways)
}

/// What the summary shows of a scenario, in its order, and whether a ratio says something.
const COLUMNS: [(&str, Figure, bool); 9] = [
    ("ops/s", |report| Some(report.ops_per_s), true),
    ("p50 µs", |report| Some(report.latency_us.p50), true),
    ("p99 µs", |report| Some(report.latency_us.p99), true),
    ("p99.9 µs", |report| Some(report.latency_us.p99_9), false),
    ("CPU µs/op", |report| report.server.map(|server| server.cpu_us_per_op), true),
    ("all CPU but ours µs/op", all_cpu_us_per_op, false),
    ("disk writes/op", |report| report.figures.get(load::DISK_WRITES_PER_OP).copied(), false),
    ("flushes/op", |report| report.figures.get(load::DISK_FLUSHES_PER_OP).copied(), false),
    ("disk KiB/op", |report| report.figures.get(load::DISK_KIB_PER_OP).copied(), false),
];

type Figure = fn(&Report) -> Option<f64>;

fn all_cpu_us_per_op(report: &Report) -> Option<f64> {
    let server = report.server?;
    Some((server.cpu_cores + server.other_cpu_cores) * 1e6 / report.ops_per_s)
}

/// Markdown: a header, then a table a scenario.
fn summary(arguments: &Arguments, facts: &Facts, names: &[&str], results: &[Vec<Vec<Report>>]) -> String {
    let machine = Machine::this();
    let mut text = format!(
        "Measured {} with `ringkeeper-bench fsync`: {} CPUs ({}), {} MiB, Linux {}. Generator on CPU {}, all servers on CPU {}; {} \
         rounds in alternation, {} s warm-up and {} s windows. Medians (min–max); ratios to {}.\n\n{facts}\n",
        utc_now(),
        machine.cpus,
        machine.cpu_model,
        machine.memory_mib,
        machine.kernel,
        arguments.cpu,
        arguments.cores,
        arguments.rounds,
        arguments.warm_up,
        arguments.window,
        names[0],
    );
    for sides in results {
        let Some(first) = sides[0].first() else { continue };
        let mut header = format!("\n| {} | undisturbed |", first.scenario);
        for (name, _, has_ratio) in COLUMNS {
            header += &if has_ratio { format!(" {name} | ratio |") } else { format!(" {name} |") };
        }
        let dashes = "---|".repeat(header.matches('|').count() - 1);
        text += &format!("{header}\n|{dashes}\n");
        // Everywhere or nowhere: else a ratio would be one of calm and storm.
        let all_have_calm = sides.iter().all(|runs| runs.iter().any(|run| !is_disturbed(run)));
        let chosen: Vec<Vec<&Report>> =
            sides.iter().map(|runs| runs.iter().filter(|run| !all_have_calm || !is_disturbed(run)).collect()).collect();
        for (side, name) in names.iter().enumerate() {
            let calm = sides[side].iter().filter(|run| !is_disturbed(run)).count();
            text += &format!("| {name} | {calm}/{} |", sides[side].len());
            for (_, of, has_ratio) in COLUMNS {
                let spread = |side: usize| Spread::of(chosen[side].iter().filter_map(|run| of(run)).collect());
                let (base, own) = (spread(0), spread(side));
                text += &format!(" {} |", own.as_ref().map_or("–".to_owned(), Spread::cell));
                if has_ratio {
                    let ratio = base.zip(own).filter(|(base, _)| base.median != 0.0);
                    text +=
                        &ratio.map_or(" – |".to_owned(), |(base, own)| format!(" {:.2} |", own.median / base.median));
                }
            }
            text.push('\n');
        }
    }
    text += &format!(
        "\nA run is undisturbed when processes beside server and generator used at most {DISTURBED_CORES} cores; where every strategy \
         has such runs, the figures are of those alone. Disk figures are of the whole device.\n"
    );
    text
}

fn is_disturbed(report: &Report) -> bool {
    report.server.is_none_or(|server| server.disturbed)
}
