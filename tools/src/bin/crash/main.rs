//! Kills a server under load, again and again, on a real disk, and checks every promise after each restart.
//!
//!   start -> check what the last round did -> load (many requests in flight) -> kill -9 -> (kill while starting) -> ...
//!
//! Checked in every round: the tree of each actor is that after a prefix of its requests with every answered one in it,
//! data, versions, owners and zxids included (`model.rs`); no transaction is there by half, no refused request left
//! anything; sessions are resumed with id and password and hold their ephemerals; those of a closed session are gone,
//! those of an expired one go (`visitors.rs`); zxids never go back; the server is back in bounded time. During the
//! load: answers in order, each what it must be, reads that see the writes before them (`actor.rs`). From the middle of a
//! campaign on there are so many other znodes (`ballast.rs`) that kills fall into long snapshots, and into starts whose tree
//! is still on its way into memory.
//!
//! A campaign (`campaign.rs`) is one server with one log strategy; several can run at once.
//!
//! Not here, on purpose: a disk that loses what it had confirmed. A kill leaves the page cache; the simulator's disk
//! does not. So the strategy `none` can be put through this too, and proves nothing by passing.

mod ballast;
mod campaign;
mod files;
mod visitors;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use ringkeeper_tools::server::{Home, Kind, Setup, tail};
use ringkeeper_tools::{Result, reference, target};

use campaign::{Campaign, Plan, Totals};

/// Sessions live from 2 to 20 ticks: 400 ms for visitors, 4 s for actors.
const TICK_MS: u32 = 200;
/// Between the ports of campaigns that run at once.
const PORT_STEP: u16 = 1;

#[derive(Parser)]
#[command(name = "cargo dev crash", about = "Kills the server under load and checks what it promised")]
struct Arguments {
    /// Rounds, on each strategy
    #[arg(long, default_value_t = 200)]
    rounds: u32,
    /// Log strategies, or `all`: all but `none`. Without it, the server's default
    #[arg(long, value_enum, value_delimiter = ',', conflicts_with = "java")]
    strategy: Vec<Strategy>,
    /// How the log gets to the disk (`ringkeeper.log.backend`). Without it, the server's default
    #[arg(long, conflicts_with = "java")]
    backend: Option<String>,
    /// Further lines of the server's configuration
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Servers killed at the same time; a single strategy's rounds are shared out
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Znodes beside the load, in the second half of the rounds
    #[arg(long, default_value_t = 50_000)]
    ballast: u64,
    /// The server's binary
    #[arg(long, default_value_os_t = target().join("release/ringkeeper"))]
    binary: PathBuf,
    /// Kill the Java reference instead
    #[arg(long, conflicts_with = "binary")]
    java: bool,
    /// Without it, one is drawn and printed
    #[arg(long)]
    seed: Option<u64>,
    #[arg(long, default_value_t = 4)]
    actors: usize,
    /// Of the first server; those beside it have the next ones
    #[arg(long, default_value_t = 23100)]
    port: u16,
    /// A restart that takes longer is a failure
    #[arg(long, default_value_t = 20_000)]
    restart_ms_max: u64,
}

/// `ringkeeper.log.strategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Strategy {
    All,
    Dsync,
    Linked,
    ODsync,
    TwoStep,
    Buffered,
    None,
}

impl Strategy {
    const PROMISING: [Strategy; 5] =
        [Strategy::Dsync, Strategy::Linked, Strategy::ODsync, Strategy::TwoStep, Strategy::Buffered];

    fn name(self) -> String {
        self.to_possible_value().expect("none is hidden").get_name().to_owned()
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |now| u64::from(now.subsec_nanos()))
    });
    let plans = match plans(&arguments, seed) {
        Ok(plans) => plans,
        Err(why) => {
            println!("{why}\n\n0 passed, 1 failed");
            return ExitCode::FAILURE;
        }
    };
    println!("crash: {} rounds on each of {} servers, --seed {seed}", arguments.rounds, plans.len());
    let began = Instant::now();
    let results = run_all(plans, arguments.jobs.max(1));
    println!();
    let mut failures = 0;
    for (plan, totals, outcome) in &results {
        println!("{}: {}", plan.name, described(totals));
        if let Err(why) = outcome {
            failures += 1;
            println!("FAILED: {} in round {}, --seed {seed}: {why}", plan.name, totals.rounds);
            println!("data and log are kept in {}\n{}", plan.setup.directory.display(), tail(&plan.setup.log(), 20));
        }
    }
    let passed: u32 = results.iter().map(|(_, totals, _)| totals.rounds).sum();
    println!("\n{passed} passed, {failures} failed, in {:.0} s", began.elapsed().as_secs_f64());
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn described(totals: &Totals) -> String {
    let Totals { rounds, answers, survived, double_kills, stops, expiries, ballast_reads, restart_max, files } = totals;
    format!(
        "{rounds} rounds; {answers} answers checked, {survived} unanswered writes survived; {double_kills} kills while it started, \
         {stops} stops; {expiries} expiries and {ballast_reads} znodes of the ballast checked; slowest restart {} ms; at \
         least {} rolls, {} log files recycled, {} snapshots, {} cut short, {} purged",
        restart_max.as_millis(),
        files.rolls,
        files.recycled,
        files.snapshots,
        files.unfinished,
        files.purged
    )
}

/// One campaign a strategy, or several when there are more jobs than strategies.
fn plans(arguments: &Arguments, seed: u64) -> Result<Vec<Plan>> {
    let kind = if arguments.java {
        reference::kind()?
    } else {
        let binary = &arguments.binary;
        Kind::Ringkeeper { binary: binary.canonicalize().map_err(|error| format!("{}: {error}", binary.display()))? }
    };
    let strategies: Vec<Option<Strategy>> = match arguments.strategy.as_slice() {
        [] => vec![None],
        named if named.contains(&Strategy::All) => Strategy::PROMISING.map(Some).to_vec(),
        named => named.iter().copied().map(Some).collect(),
    };
    let shares = (arguments.jobs.max(1) / strategies.len()).max(1) as u32;
    let mut plans = Vec::new();
    for strategy in strategies {
        for share in 0..shares {
            let number = plans.len();
            let mut name = strategy.map_or_else(|| kind.name().to_owned(), Strategy::name);
            // Snapshots, new log files and purges all the time: the moments that are rare in life are the ones to be killed in.
            let rare = ["snapCount=2000", "autopurge.snapRetainCount=3", "autopurge.purgeInterval=1"];
            let mut extra = rare.map(str::to_owned).to_vec();
            extra.extend(strategy.map(|strategy| format!("ringkeeper.log.strategy={}", strategy.name())));
            if let Some(backend) = &arguments.backend {
                extra.push(format!("ringkeeper.log.backend={backend}"));
                name += &format!("-{backend}");
            }
            extra.extend(arguments.set.iter().cloned());
            if shares > 1 {
                name += &format!("-{}", share + 1);
            }
            let setup = Setup {
                kind: kind.clone(),
                directory: target().join(format!("crash/{}-{name}", kind.name())),
                home: Home::default(),
                port: arguments.port + PORT_STEP * number as u16,
                tick_ms: TICK_MS,
                my_id: None,
                extra,
            };
            plans.push(Plan {
                name,
                setup,
                seed: seed.wrapping_add(number as u64),
                rounds: arguments.rounds / shares + u32::from(share < arguments.rounds % shares),
                actors: arguments.actors,
                ballast: arguments.ballast,
                restart_max: Duration::from_millis(arguments.restart_ms_max),
            });
        }
    }
    Ok(plans)
}

/// So many at a time, each thread taking the next plan. After a failure those under way go on to their end.
fn run_all(plans: Vec<Plan>, jobs: usize) -> Vec<(Plan, Totals, Result<()>)> {
    let waiting = Mutex::new(plans.into_iter());
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().expect("no panic").next();
                    let Some(plan) = next else { return };
                    let (totals, outcome) = Campaign::new(plan.clone()).run();
                    done.lock().expect("no panic").push((plan, totals, outcome));
                }
            });
        }
    });
    done.into_inner().expect("no panic")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(arguments: &[&str]) -> Vec<Plan> {
        let arguments = Arguments::parse_from([&["crash", "--binary", "/proc/self/exe"], arguments].concat());
        plans(&arguments, 7).unwrap()
    }

    #[test]
    fn every_strategy_that_promises_something_gets_its_rounds() {
        let all = planned(&["--strategy", "all", "--rounds", "30", "--jobs", "2"]);
        let names: Vec<&str> = all.iter().map(|plan| plan.name.as_str()).collect();
        assert_eq!(names, ["dsync", "linked", "o_dsync", "two_step", "buffered"]);
        assert!(all.iter().all(|plan| plan.rounds == 30));
        assert!(all[3].setup.extra.contains(&"ringkeeper.log.strategy=two_step".to_owned()));
        let mut ports: Vec<u16> = all.iter().map(|plan| plan.setup.port).collect();
        ports.dedup();
        assert_eq!(ports.len(), 5);
    }

    #[test]
    fn a_single_strategy_is_shared_out() {
        let shares = planned(&["--strategy", "linked", "--backend", "syscalls", "--rounds", "31", "--jobs", "2"]);
        let names: Vec<&str> = shares.iter().map(|plan| plan.name.as_str()).collect();
        assert_eq!(names, ["linked-syscalls-1", "linked-syscalls-2"]);
        assert_eq!(shares.iter().map(|plan| plan.rounds).sum::<u32>(), 31);
        assert_eq!(planned(&[])[0].setup.extra.len(), 3, "the server's own default");
    }
}
