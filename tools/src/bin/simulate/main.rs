//! `simulate`: whole ensembles from seeds. One seed told as a story, or many counted.
//!
//!   simulate --seed 7                       what happens, line by line
//!   simulate --seeds 0..100000 --jobs 8     which of them break a promise
//!   simulate --time-box 10                  fresh seeds for ten minutes, and which they were
//!   simulate --seed 7 --shrink              the smallest run that still breaks it
//!   simulate --mutations                    is each rule that is broken on purpose noticed?
//!
//! A broken promise is told with the command line that shows it again.

mod marks;
mod mutations;
mod run;
mod shrink;
mod summary;

use std::process::ExitCode;

use clap::Parser;
use ringkeeper::sim::faults::Fault;
use ringkeeper::sim::mutations::Scene;
use ringkeeper::sim::plan::{Emphasis, Wishes};
use ringkeeper::sim::trace::Level;

/// A world is made of small pieces of memory that come and go.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "simulate", about = "Whole ensembles on one thread from one seed")]
struct Arguments {
    /// Tell the story of this seed
    #[arg(long, conflicts_with_all = ["seeds", "time_box"])]
    seed: Option<u64>,
    /// Run these, A..B without B
    #[arg(long, value_parser = range, conflicts_with = "time_box")]
    seeds: Option<std::ops::Range<u64>>,
    /// Run fresh seeds for so many minutes
    #[arg(long, value_name = "MINUTES")]
    time_box: Option<f64>,
    /// Threads, each with a seed of its own; without it, as many as there are CPUs
    #[arg(long)]
    jobs: Option<usize>,
    /// How much is told of a single seed: 0 only the end, 1 the story, 2 what servers log and clients see, 3 every message
    #[arg(long, default_value_t = 2)]
    level: u8,
    /// Look for a smaller run that breaks the same promise
    #[arg(long, requires = "seed")]
    shrink: bool,
    /// Break this rule on purpose: a simulation that does not notice is not worth its time
    #[arg(long = "break", value_name = "RULE")]
    broken: Option<String>,
    /// Break every rule in the list, one at a time: each must be noticed within its number of seeds. With `--keep-going` in
    /// how many of them it is
    #[arg(long, conflicts_with_all = ["seed", "time_box", "shrink"])]
    mutations: bool,
    /// Break them all in this scene, not each in its own
    #[arg(long, requires = "mutations")]
    scene: Option<Scene>,
    /// Go on after a broken promise
    #[arg(long)]
    keep_going: bool,
    /// List the marked branches, how often each was taken, and those that never were: after 10000 runs there must be none but the rare ones
    #[arg(long)]
    coverage: bool,
    /// Every marked branch must be taken: behind the seeds, go where each is that they did not come to
    #[arg(long, requires = "seeds")]
    marks: bool,
    #[command(flatten)]
    wished: Wished,
}

#[derive(clap::Args)]
struct Wished {
    /// Instead of what the seed draws
    #[arg(long)]
    voters: Option<i64>,
    #[arg(long)]
    observers: Option<i64>,
    #[arg(long)]
    clients: Option<usize>,
    /// Length of the first phase, virtual
    #[arg(long)]
    seconds: Option<u64>,
    /// Faults that do not strike
    #[arg(long, value_delimiter = ',')]
    without: Vec<Fault>,
    /// These faults strike, as often as they ever do, and no others
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["without", "no_faults"])]
    only: Vec<Fault>,
    /// After so many transactions an epoch gives way to the next
    #[arg(long)]
    rollover_at: Option<u32>,
    /// Whether servers join, leave and change their part
    #[arg(long)]
    reconfigure: Option<bool>,
    /// What the run is about
    #[arg(long)]
    emphasis: Option<Emphasis>,
    /// Whether followers serve the observers
    #[arg(long)]
    observer_masters: Option<bool>,
    /// Whether sessions begin as those of one server
    #[arg(long)]
    local_sessions: Option<bool>,
    /// No fault strikes
    #[arg(long)]
    no_faults: bool,
}

impl Wished {
    fn wishes(self) -> Wishes {
        let Wished { voters, observers, clients, seconds, without, only, rollover_at, .. } = self;
        let Wished { emphasis, reconfigure, observer_masters, local_sessions, no_faults, .. } = self;
        let without = if no_faults { Fault::ALL.to_vec() } else { without };
        Wishes {
            voters,
            observers,
            clients,
            seconds,
            without,
            only,
            rollover_at,
            reconfigure,
            emphasis,
            observer_masters,
            local_sessions,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    run::quiet_panics();
    let jobs = arguments.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    if arguments.mutations {
        let Arguments { broken: rule, scene, seeds, keep_going: count, .. } = arguments;
        let content = mutations::run(&mutations::Batch { jobs, count, rule, scene, seeds });
        return if content { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let wishes = arguments.wished.wishes();
    // The name of a rule is compared with the ones in the code, which live as long as the program.
    let broken: Option<&'static str> = arguments.broken.map(|name| &*name.leak());
    let level = match arguments.level {
        0 => Level::Silent,
        1 => Level::Story,
        2 => Level::Events,
        _ => Level::Everything,
    };
    let batch = run::Batch {
        wishes: wishes.clone(),
        broken,
        jobs,
        keep_going: arguments.keep_going,
        coverage: arguments.coverage,
        marks: arguments.marks,
    };
    let content = match (arguments.seed, arguments.seeds, arguments.time_box) {
        (Some(seed), ..) if arguments.shrink => shrink::shrink(seed, wishes, broken),
        (Some(seed), ..) => run::tell(seed, &wishes, broken, level),
        (None, Some(seeds), _) => run::many(seeds, None, &batch),
        (None, None, Some(minutes)) => run::fresh(minutes, &batch),
        (None, None, None) => run::fresh(1.0, &batch),
    };
    if content { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn range(text: &str) -> Result<std::ops::Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("A..B is wanted")?;
    let number = |text: &str| text.trim().replace('_', "").parse::<u64>().map_err(|why| format!("{text:?}: {why}"));
    Ok(number(from)?..number(to)?)
}
