//! `ringkeeper-bench`: arguments in, one line a scenario out.

use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use ringkeeper_bench::load::{self, Timing};
use ringkeeper_bench::report::{Report, append_json};
use ringkeeper_bench::scenario::{Arrivals, Load, Ops};
use ringkeeper_bench::server::Cpus;
use ringkeeper_bench::{
    BenchError, Doing, Result, Target, failover, floor_member, fsync, idle, memory, rejoin, snapshot_tail, start,
    storm, versus, watch,
};
use rustix::process::{Resource, Rlimit, Signal};

/// Load generators and comparisons for servers of the ZooKeeper protocol.
///
/// One thread, every reply checked; the first wrong answer ends the run with a message and exit code 1.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Job,
}

#[derive(Subcommand)]
enum Job {
    /// Drive one or more loads, by name or by parameters.
    Load(LoadArguments),
    /// Open many sessions, some at once, then close them.
    Storm {
        sessions: usize,
        /// Sessions in the making at any time.
        #[arg(long, default_value_t = 32)]
        at_once: usize,
        /// Seconds that opening, and closing, may take.
        #[arg(long, default_value_t = 120)]
        limit: u64,
        #[command(flatten)]
        common: Common,
    },
    /// Hold many idle sessions, and tell what they cost the server.
    Idle {
        sessions: usize,
        /// Seconds to hold them.
        #[arg(long, default_value_t = 10.0)]
        hold: f64,
        #[arg(long, default_value_t = 32)]
        at_once: usize,
        /// Seconds that opening, and closing, may take.
        #[arg(long, default_value_t = 120)]
        limit: u64,
        #[command(flatten)]
        common: Common,
    },
    /// Let many sessions watch one znode, change it, and tell when all of them know.
    Watch {
        watchers: usize,
        #[arg(long, default_value_t = 20)]
        rounds: usize,
        /// Bytes of the watched znode's data.
        #[arg(long, default_value_t = 100)]
        size: usize,
        #[command(flatten)]
        common: Common,
    },
    /// Start two servers and compare them: the same scenarios, in alternation.
    Versus(versus::Arguments),
    /// Start servers on a prepared tree: from exec to the first answer, and to the whole tree in memory.
    Start(start::Arguments),
    /// Fill servers with znodes, sessions and watches, and tell what each step takes in memory.
    Memory(memory::Arguments),
    /// Write latency with and without a snapshot going on, in turn, on one process.
    SnapshotTail(snapshot_tail::Arguments),
    /// Take ensembles' leaders away, by a kill and by a signal to stop: for how long is no write acknowledged?
    Failover(failover::Arguments),
    /// Bring a member back that missed nothing, many writes, or everything: when does it serve, and what do clients feel meanwhile?
    Rejoin(rejoin::Arguments),
    /// Compare log strategies on this machine's disk: one server each, the same scenarios, in alternation.
    Fsync(fsync::Arguments),
    /// Be a server that answers at once with made-up replies: the floor of this machine, and of the generator.
    Floor {
        #[arg(long)]
        port: u16,
        /// Flush each turn's writes to this file before they are answered.
        #[arg(long)]
        log: Option<PathBuf>,
        #[arg(long)]
        cpu: Option<usize>,
    },
    /// Be three such servers that pass each write around, store it and answer when two have it: the floor of an ensemble.
    FloorEnsemble(floor_member::Arguments),
    /// Run a command on some CPUs, and end it when its parent dies. (How servers are started.)
    #[command(hide = true)]
    Pinned {
        #[arg(long)]
        cpus: Cpus,
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
}

#[derive(Args)]
struct Common {
    /// Servers; sessions are spread over them in turn.
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:2181")]
    server: Vec<String>,
    /// Processes whose CPU and memory are the server's.
    #[arg(long, value_delimiter = ',')]
    server_pid: Vec<u32>,
    /// CPU to run on.
    #[arg(long)]
    cpu: Option<usize>,
    /// Priority to run at (-20 is the highest, and needs a privilege).
    #[arg(long, allow_hyphen_values = true)]
    nice: Option<i32>,
    /// Append one JSON object a scenario to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Name of the server in reports.
    #[arg(long, default_value = "")]
    label: String,
    /// The znode all others of the run live below. It is deleted afterwards.
    #[arg(long)]
    root: Option<String>,
    /// Leave the znodes behind.
    #[arg(long)]
    keep: bool,
}

#[derive(Args)]
struct LoadArguments {
    /// Loads by name: w1 w1_10k w100 wpipe wpipe1k wpipe10k r1 r100 rpipe exists children mix1 mixpipe create crdel eph seq
    /// open50. The options below change a named load, or describe one without a name.
    #[arg(value_delimiter = ',')]
    scenarios: Vec<String>,
    #[arg(long)]
    ops: Option<Ops>,
    #[arg(long)]
    sessions: Option<usize>,
    /// Requests each session keeps in flight.
    #[arg(long)]
    outstanding: Option<usize>,
    /// Bytes of a znode's data.
    #[arg(long)]
    size: Option<usize>,
    /// Percentage of reads in a mixed load.
    #[arg(long)]
    ratio: Option<u8>,
    /// Offer so many requests a second, Poisson, whatever the replies do.
    #[arg(long)]
    rate: Option<f64>,
    /// Seconds before the window.
    #[arg(long, default_value_t = 2.0)]
    warm_up: f64,
    /// Seconds that count.
    #[arg(long, default_value_t = 6.0)]
    window: f64,
    /// Never sleep while waiting for replies.
    #[arg(long)]
    spin: bool,
    #[command(flatten)]
    common: Common,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringkeeper-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(job: Job) -> Result<()> {
    match job {
        Job::Load(arguments) => run_loads(&arguments),
        Job::Storm { sessions, at_once, limit, common } => {
            let target = common.settle()?;
            common.publish(&storm::run(&target, storm::Storm { sessions, at_once, limit_s: limit })?)
        }
        Job::Idle { sessions, hold, at_once, limit, common } => {
            let target = common.settle()?;
            common.publish(&idle::run(&target, idle::Idle { sessions, at_once, hold_s: hold, limit_s: limit })?)
        }
        Job::Watch { watchers, rounds, size, common } => {
            let target = common.settle()?;
            common.publish(&watch::run(&target, watch::Watch { watchers, rounds, value_bytes: size })?)
        }
        Job::Versus(arguments) => {
            settle_process(arguments.generator_cpu(), arguments.nice())?;
            versus::run(&arguments)
        }
        Job::Start(arguments) => {
            settle_process(Some(arguments.contestants.cpu), arguments.contestants.nice)?;
            start::run(&arguments)
        }
        Job::Memory(arguments) => {
            settle_process(Some(arguments.contestants.cpu), arguments.contestants.nice)?;
            memory::run(&arguments)
        }
        Job::SnapshotTail(arguments) => {
            settle_process(Some(arguments.contestants.cpu), arguments.contestants.nice)?;
            snapshot_tail::run(&arguments)
        }
        Job::Failover(arguments) => {
            settle_process(Some(arguments.contestants.cpu), arguments.contestants.nice)?;
            failover::run(&arguments)
        }
        Job::Rejoin(arguments) => {
            settle_process(Some(arguments.contestants.cpu), arguments.contestants.nice)?;
            rejoin::run(&arguments)
        }
        Job::Fsync(arguments) => {
            settle_process(Some(arguments.cpu), arguments.nice)?;
            fsync::run(&arguments)
        }
        Job::Floor { port, log, cpu } => {
            settle_process(cpu, None)?;
            floor_member::serve_alone(SocketAddr::from(([127, 0, 0, 1], port)), log.as_deref())
        }
        Job::FloorEnsemble(arguments) => floor_member::serve_ensemble(&arguments),
        Job::Pinned { cpus, command } => {
            rustix::process::set_parent_process_death_signal(Some(Signal::TERM)).doing("PR_SET_PDEATHSIG")?;
            cpus.pin_this_thread()?;
            let cause = Command::new(&command[0]).args(&command[1..]).exec();
            Err(BenchError::new(format!("{}: {cause}", command[0])))
        }
    }
}

fn run_loads(arguments: &LoadArguments) -> Result<()> {
    let timing =
        Timing { warm_up: seconds(arguments.warm_up)?, window: seconds(arguments.window)?, spin: arguments.spin };
    let loads = arguments.loads()?;
    let target = arguments.common.settle()?;
    for load in &loads {
        arguments.common.publish(&load::run(&target, load, timing).doing(&load.name)?)?;
    }
    Ok(())
}

impl LoadArguments {
    fn loads(&self) -> Result<Vec<Load>> {
        let mut loads = Vec::new();
        for name in &self.scenarios {
            loads.push(Load::named(name).ok_or_else(|| versus::unknown_scenario(name))?);
        }
        if loads.is_empty() {
            let ops =
                self.ops.ok_or_else(|| BenchError::new("which load? name one, or say what it does with --ops"))?;
            let mut load = Load::named("w1").expect("a named load");
            load.ops = ops;
            load.name = "custom".into();
            loads.push(load);
        }
        for load in &mut loads {
            load.ops = self.ops.unwrap_or(load.ops);
            load.sessions = self.sessions.unwrap_or(load.sessions);
            load.outstanding = self.outstanding.unwrap_or(load.outstanding);
            load.value_bytes = self.size.unwrap_or(load.value_bytes);
            load.read_percent = self.ratio.unwrap_or(load.read_percent);
            if let Some(per_second) = self.rate {
                load.arrivals = Arrivals::Open { per_second };
            }
        }
        Ok(loads)
    }
}

impl Common {
    /// Makes this process what the arguments want it to be, and says what it is aimed at.
    fn settle(&self) -> Result<Target> {
        settle_process(self.cpu, self.nice)?;
        Ok(Target {
            servers: self.server.iter().map(|server| address(server)).collect::<Result<_>>()?,
            server_pids: self.server_pid.clone(),
            label: self.label.clone(),
            root: self.root.clone().unwrap_or_else(|| format!("/ringkeeper-bench-{}", std::process::id())),
            keep: self.keep,
            disk: None,
        })
    }

    fn publish(&self, report: &Report) -> Result<()> {
        println!("{}", report.line());
        match &self.json {
            Some(file) => append_json(report, file),
            None => Ok(()),
        }
    }
}

fn address(server: &str) -> Result<SocketAddr> {
    let mut found = server.to_socket_addrs().doing(format_args!("{server} (host:port?)"))?;
    found.next().ok_or_else(|| BenchError::new(format!("{server} has no address")))
}

fn seconds(value: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(value).doing(format_args!("{value} seconds"))
}

fn settle_process(cpu: Option<usize>, nice: Option<i32>) -> Result<()> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .doing("raising the limit of open files to the maximum allowed")?;
    if let Some(nice) = nice {
        rustix::process::setpriority_process(None, nice).doing(format_args!("priority {nice}"))?;
    }
    cpu.map_or(Ok(()), |cpu| Cpus(vec![cpu]).pin_this_thread())
}
