//! `cargo dev`: everything a developer and CI do beyond `cargo test`, under the same words.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand, ValueEnum};
use ringkeeper_tools::differential::{self, Options};
use ringkeeper_tools::ensemble::{self, Ensemble};
use ringkeeper_tools::server::{Home, Kind, Setup, tail};
use ringkeeper_tools::suites::{self, Context};
use ringkeeper_tools::summary::{Summary, Verdict};
use ringkeeper_tools::{Result, drill, mixed, process, reference, roll, root, target};

#[derive(Parser)]
#[command(name = "cargo dev", about = "ringkeeper's developer commands")]
struct Arguments {
    #[command(subcommand)]
    command: What,
}

#[derive(Subcommand)]
enum What {
    /// Formatting and lints, as CI wants them
    Check,
    /// Everything: unit tests, crash rounds and the real clients; installs the clients it needs
    Test {
        /// Only these suites
        #[arg(long, value_enum, num_args = 1..)]
        only: Vec<Suite>,
        /// Crash rounds, shared out over the log strategies
        #[arg(long, default_value_t = 200)]
        rounds: u32,
        /// Simulate fresh seeds for so many minutes, beside those that are known to pass; one without this
        #[arg(long)]
        minutes: Option<f64>,
        #[command(flatten)]
        place: Place,
    },
    /// kazoo's own test suite
    Kazoo {
        #[arg(long, value_enum, default_value_t = Server::Ringkeeper)]
        server: Server,
        /// An ensemble of so many instead of a server that stands alone
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=7))]
        servers: u16,
        /// pytest's expression that selects tests by name
        #[arg(short = 'k')]
        keyword: Option<String>,
        /// Run all of kazoo's tests and write those that pass as the expected ones (reference only)
        #[arg(long, conflicts_with_all = ["keyword", "servers"])]
        record: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Scripted sessions and programs: zkCli, the C client, the Java client, the npm client
    Cli {
        #[arg(long, value_enum, default_value_t = Server::Ringkeeper)]
        server: Server,
        /// Only these
        #[arg(long, value_enum, num_args = 1..)]
        only: Vec<Suite>,
        /// Write the answers as the expected ones (reference only)
        #[arg(long)]
        record: bool,
        #[command(flatten)]
        place: Place,
    },
    /// The Java reference: fetch it and print its class path, or run it
    Reference {
        /// Run it on this port of 127.0.0.1 until it is ended
        #[arg(long)]
        port: Option<u16>,
    },
    /// Asks ringkeeper and the Java reference the same seeded questions and compares every answer
    Differential {
        /// The first seed
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How many seeds, each on fresh servers
        #[arg(long, default_value_t = 1)]
        seeds: u64,
        /// Steps of a seed; a step is a request, a burst of them or a change of a connection
        #[arg(long, default_value_t = 2000)]
        ops: usize,
        /// Sessions that take turns
        #[arg(long, default_value_t = 4)]
        sessions: usize,
        /// Seeds at the same time
        #[arg(long, default_value_t = 2)]
        jobs: u16,
        /// Report a divergence as it was found, without looking for a shorter way to it
        #[arg(long)]
        no_shrink: bool,
        #[command(flatten)]
        place: Place,
    },
    /// A local ensemble, until it is ended with Ctrl-C or SIGTERM, or a member leaves
    Ensemble {
        /// Servers that vote
        #[arg(default_value_t = 3)]
        voters: usize,
        /// And servers that do not
        #[arg(long, default_value_t = 0)]
        observers: usize,
        /// Members that are Java servers, by number
        #[arg(long, value_delimiter = ',')]
        java: Vec<usize>,
        #[command(flatten)]
        place: Place,
    },
    /// Ensembles of ringkeeper and Java: members die, are wiped and come back, and all have the same tree
    Mixed {
        /// Like JJR+R: who votes, in the order of their numbers, and behind the plus who observes
        #[arg(default_values_t = mixed::ARRANGEMENTS.map(str::to_owned))]
        arrangements: Vec<String>,
        #[command(flatten)]
        place: Place,
    },
    /// An ensemble of both makes whose members join, leave and move to other ports
    Reshape {
        #[command(flatten)]
        place: Place,
    },
    /// A Java ensemble becomes one of ringkeepers under load, member by member, and back
    Migrate {
        #[command(flatten)]
        place: Place,
    },
    /// An ensemble under load while servers die, stand still and lose their disks, and links between them break
    Drill {
        /// Servers that vote
        #[arg(long, default_value_t = 3)]
        members: usize,
        /// And servers that do not
        #[arg(long, default_value_t = 0)]
        observers: usize,
        /// Members that are Java servers, by number
        #[arg(long, value_delimiter = ',')]
        java: Vec<usize>,
        #[command(flatten)]
        run: DrillRun,
        #[command(flatten)]
        place: Place,
    },
    /// Whole ensembles on one thread from one seed; see `cargo dev sim --help`
    #[command(disable_help_flag = true)]
    Sim {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// The same in a build for very many seeds: minutes longer to make, and a quarter faster
    #[command(disable_help_flag = true)]
    Soak {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Any bytes to the decoders of what strangers and peers send; see `cargo dev fuzz --help`
    #[command(disable_help_flag = true)]
    Fuzz {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Kills the server under load, again and again, and checks what it promised; see `cargo dev crash --help`
    #[command(disable_help_flag = true)]
    Crash {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

#[derive(Args)]
struct DrillRun {
    /// For so long
    #[arg(long, default_value_t = 3.0)]
    minutes: f64,
    /// Without it, one is drawn and printed
    #[arg(long)]
    seed: Option<u64>,
    /// Each member in a network namespace of its own, instead of proxies between them; needs root
    #[arg(long)]
    namespaces: bool,
    /// Leave logs and data where they are, also when all was well
    #[arg(long)]
    keep: bool,
}

#[derive(Args)]
struct Place {
    /// The server's binary; without it, the release binary is built
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Test servers listen on ports from here to 199 above, on 127.0.0.1
    #[arg(long, default_value_t = 23100)]
    port_base: u16,
}

/// Of `cargo dev test`. The same faults each time; when they meet the servers is the machine's choice all the same.
const DRILL_TIME: Duration = Duration::from_secs(90);
const DRILL_SEED: u64 = 1;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Server {
    Java,
    Ringkeeper,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Suite {
    Unit,
    Sim,
    Mutations,
    Fuzz,
    Crash,
    Kazoo,
    Cli,
    C,
    Java,
    Node,
    Rust,
    Differential,
    Migration,
    Ensembles,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        What::Check => check().map(|()| true),
        What::Test { only, rounds, minutes, place } => test(&only, rounds, minutes, place),
        What::Kazoo { server, servers, keyword, record, place } => {
            kazoo(server, servers, keyword.as_deref(), record, place)
        }
        What::Cli { server, only, record, place } => cli(server, &only, record, place),
        What::Reference { port } => run_reference(port).map(|()| true),
        What::Differential { seed, seeds, ops, sessions, jobs, no_shrink, place } => {
            differential(seed..seed + seeds, ops, sessions, jobs, !no_shrink, place)
        }
        What::Ensemble { voters, observers, java, place } => {
            run_ensemble(voters, observers, &java, place).map(|()| true)
        }
        What::Mixed { arrangements, place } => run_mixed(&arrangements, place),
        What::Reshape { place } => run_reshape(place),
        What::Migrate { place } => migrate(place),
        What::Drill { members, observers, java, run, place } => run_drill(members, observers, &java, run, place),
        What::Sim { arguments } => process::run(suites::simulate().args(&arguments)).map(|()| true),
        What::Soak { arguments } => process::run(suites::simulate_as("soak").args(&arguments)).map(|()| true),
        What::Fuzz { arguments } => process::run(suites::fuzzer().args(&arguments)).map(|()| true),
        What::Crash { arguments } => crash(&arguments).map(|()| true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn check() -> Result<()> {
    process::run(cargo().args(["fmt", "--all", "--check"]))?;
    process::run(cargo().args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn test(only: &[Suite], rounds: u32, minutes: Option<f64>, place: Place) -> Result<bool> {
    let wanted = |suite| only.is_empty() || only.contains(&suite);
    let mut summary = Summary::default();
    // The suites below are about the program people run, so it is the release build that they run against.
    let binary = match binary(place.binary) {
        Ok(binary) => binary,
        Err(why) => {
            summary.add("release build", Verdict::Broke { why: why.to_string() }, Duration::ZERO);
            println!("{}", summary.text());
            return Ok(false);
        }
    };
    let ours = Context { kind: Kind::Ringkeeper { binary: binary.clone() }, port_base: place.port_base, record: false };
    if wanted(Suite::Unit) {
        timed(&mut summary, "unit", suites::unit);
    }
    if wanted(Suite::Sim) {
        timed(&mut summary, "sim", || suites::sim(minutes));
    }
    if wanted(Suite::Mutations) {
        timed(&mut summary, "mutations", suites::mutations);
    }
    if wanted(Suite::Fuzz) {
        timed(&mut summary, "fuzz", suites::fuzz);
    }
    if wanted(Suite::Crash) {
        timed(&mut summary, "crash", || suites::crash(&binary, rounds, place.port_base));
    }
    if wanted(Suite::Kazoo) {
        timed(&mut summary, "kazoo", || suites::kazoo(&ours, 1, None));
        timed(&mut summary, "kazoo, three servers", || suites::kazoo(&ours, 3, None));
    }
    run_cli_suites(&mut summary, &wanted, &ours);
    if wanted(Suite::Differential) {
        timed(&mut summary, "differential", || match reference::kind() {
            Ok(java) => suites::differential(&binary, &java, place.port_base),
            Err(why) => Verdict::Skipped { why: format!("the reference cannot be had: {why}") },
        });
    }
    if wanted(Suite::Migration) {
        // Without the reference there is nobody to move to; that must not go unnoticed.
        timed(&mut summary, "migration", || match reference::kind() {
            Ok(java) => suites::migration(&binary, &java, place.port_base),
            Err(why) => Verdict::Skipped { why: format!("the reference cannot be had: {why}") },
        });
        timed(&mut summary, "rolling migration", || match reference::kind() {
            Ok(java) => suites::roll(&binary, &java, place.port_base, roll::THERE_AND_BACK),
            Err(why) => Verdict::Skipped { why: format!("the reference cannot be had: {why}") },
        });
    }
    if wanted(Suite::Ensembles) {
        let arrangements = mixed::ARRANGEMENTS[..3].iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        timed(&mut summary, "ensembles", || match reference::kind() {
            Ok(java) => suites::ensembles(&binary, &java, place.port_base, &arrangements),
            Err(why) => Verdict::Skipped { why: format!("the reference cannot be had: {why}") },
        });
        timed(&mut summary, "reshape", || match reference::kind() {
            Ok(java) => suites::reshape(&binary, &java, place.port_base),
            Err(why) => Verdict::Skipped { why: format!("the reference cannot be had: {why}") },
        });
        timed(&mut summary, "drill", || {
            let (kinds, port) = (vec![ours.kind.clone(); 3], place.port_base);
            let directory = suites::drill_directory(port);
            let (seed, time) = (DRILL_SEED, DRILL_TIME);
            suites::drill(&drill::Options {
                kinds,
                observers: 0,
                directory,
                port,
                namespaces: false,
                seed,
                time,
                keep: false,
            })
        });
    }
    // That our recorded answers are the reference's is a claim too; where the reference can be had, it is asked again.
    if [Suite::Cli, Suite::C, Suite::Java, Suite::Node, Suite::Rust].into_iter().any(wanted) {
        match reference::kind() {
            Ok(kind) => run_cli_suites(&mut summary, &wanted, &Context { kind, ..ours }),
            Err(why) => {
                let why = format!("the reference cannot be had: {why}");
                summary.remark(format!("answers were compared with the recorded ones only; {}", first_line(&why)));
                summary.add("recordings (java)", Verdict::Skipped { why }, Duration::ZERO);
            }
        }
    }
    println!("{}", summary.text());
    Ok(summary.is_success())
}

fn kazoo(server: Server, servers: u16, keyword: Option<&str>, record: bool, place: Place) -> Result<bool> {
    let context = context(server, record, place)?;
    let mut summary = Summary::default();
    let name = format!("kazoo ({}, {servers})", context.kind.name());
    timed(&mut summary, &name, || suites::kazoo(&context, servers, keyword));
    println!("{}", summary.text());
    Ok(summary.is_success())
}

fn cli(server: Server, only: &[Suite], record: bool, place: Place) -> Result<bool> {
    let context = context(server, record, place)?;
    let mut summary = Summary::default();
    run_cli_suites(&mut summary, &|suite| only.is_empty() || only.contains(&suite), &context);
    println!("{}", summary.text());
    Ok(summary.is_success())
}

fn run_cli_suites(summary: &mut Summary, wanted: &dyn Fn(Suite) -> bool, context: &Context) {
    type Run = fn(&Context) -> Verdict;
    let all: [(Suite, &str, Run); 8] = [
        (Suite::Cli, "zkCli", suites::zkcli),
        (Suite::C, "C cli", suites::c_cli),
        (Suite::C, "C program", suites::c_program),
        (Suite::Java, "Java program", suites::java),
        (Suite::Java, "Curator program", suites::curator),
        (Suite::Java, "Curator, restarts", suites::curator_restarts),
        (Suite::Node, "npm program", suites::node),
        (Suite::Rust, "Rust program", suites::rust),
    ];
    for (suite, name, run) in all {
        if wanted(suite) {
            timed(summary, &format!("{name} ({})", context.kind.name()), || run(context));
        }
    }
}

fn run_reference(port: Option<u16>) -> Result<()> {
    let Some(port) = port else {
        println!("{}", reference::class_path()?);
        return Ok(());
    };
    let directory = target().join("clients/servers/reference");
    let setup = Setup {
        kind: reference::kind()?,
        directory,
        home: Home::default(),
        port,
        tick_ms: 2000,
        my_id: None,
        extra: Vec::new(),
    };
    setup.wipe()?;
    let mut running = setup.start()?;
    println!("127.0.0.1:{port}, process {}, data in {}", running.pid(), setup.data().display());
    while running.is_alive() {
        std::thread::sleep(Duration::from_millis(200));
    }
    Err(format!("the reference has left\n{}", tail(&setup.log(), 20)).into())
}

fn run_reshape(place: Place) -> Result<bool> {
    let verdict = suites::reshape(&binary(place.binary)?, &reference::kind()?, place.port_base);
    Ok(matches!(verdict, Verdict::Ran { failed: 0, .. }))
}

fn run_mixed(arrangements: &[String], place: Place) -> Result<bool> {
    let verdict = suites::ensembles(&binary(place.binary)?, &reference::kind()?, place.port_base, arrangements);
    Ok(matches!(verdict, Verdict::Ran { failed: 0, .. }))
}

fn migrate(place: Place) -> Result<bool> {
    let verdict = suites::roll(&binary(place.binary)?, &reference::kind()?, place.port_base, roll::ALL);
    Ok(matches!(verdict, Verdict::Ran { failed: 0, .. }))
}

fn run_drill(voters: usize, observers: usize, java: &[usize], run: DrillRun, place: Place) -> Result<bool> {
    if voters == 0 || !(2..=drill::MEMBERS_MAX).contains(&(voters + observers)) {
        return Err(format!("a drill has 2 to {} members, one of which votes", drill::MEMBERS_MAX).into());
    }
    let port = place.port_base;
    let kinds = kinds(voters + observers, java, place.binary)?;
    let directory = suites::drill_directory(port);
    let time = Duration::try_from_secs_f64(run.minutes * 60.0).map_err(|error| format!("--minutes: {error}"))?;
    let seed = run.seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |now| u64::from(now.subsec_nanos()))
    });
    let DrillRun { namespaces, keep, .. } = run;
    if namespaces {
        drill::namespaces::enter()?; // behind the builds, which may want a network
    }
    process::end_in_order()?;
    let verdict = suites::drill(&drill::Options { kinds, observers, directory, port, namespaces, seed, time, keep });
    Ok(matches!(verdict, Verdict::Ran { failed: 0, .. }))
}

/// What each of so many members is.
fn kinds(count: usize, java: &[usize], named: Option<PathBuf>) -> Result<Vec<Kind>> {
    let ours = Kind::Ringkeeper { binary: binary(named)? };
    let theirs = if java.is_empty() { None } else { Some(reference::kind()?) };
    let kind = |at| theirs.clone().filter(|_| java.contains(&at)).unwrap_or_else(|| ours.clone());
    Ok((1..=count).map(kind).collect())
}

fn run_ensemble(voters: usize, observers: usize, java: &[usize], place: Place) -> Result<()> {
    let kinds = kinds(voters + observers, java, place.binary)?;
    let ensemble = Ensemble::new(&target().join("ensemble"), place.port_base, &kinds, observers, 2000);
    process::end_in_order()?;
    let mut running = ensemble.start()?;
    for (member, process) in ensemble.members.iter().zip(&running) {
        let part = ensemble::part_of(member)?;
        let (kind, address, directory) = (member.kind.name(), member.address(), member.directory.display());
        println!("{address}: {kind}, {part:?}, process {}, configuration, data and log in {directory}", process.pid());
    }
    println!("clients: {}", ensemble.connect_string());
    while process::go_on().is_ok() {
        let left = running.iter_mut().position(|process| !process.is_alive());
        // Ctrl-C on a terminal reaches the servers, too.
        if let Some(at) = left.filter(|_| process::go_on().is_ok()) {
            let member = &ensemble.members[at];
            return Err(format!("{} has left\n{}", member.address(), tail(&member.log(), 20)).into());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    running.into_iter().try_for_each(|process| process.stop().map(drop))
}

fn differential(
    seeds: std::ops::Range<u64>,
    step_count: usize,
    session_count: usize,
    job_count: u16,
    is_shrinking: bool,
    place: Place,
) -> Result<bool> {
    let binary = binary(place.binary)?;
    let port_base = place.port_base;
    let options = Options { seeds, step_count, session_count, job_count, binary, port_base, is_shrinking };
    Ok(differential::run(&options, &reference::kind()?)?.divergences == 0)
}

fn crash(arguments: &[String]) -> Result<()> {
    let mut command = cargo();
    command.args(["run", "--quiet", "--package", "ringkeeper-tools", "--bin", "crash", "--"]).args(arguments);
    process::run(&mut command)
}

fn context(server: Server, record: bool, place: Place) -> Result<Context> {
    if record && server != Server::Java {
        return Err("only the reference's answers may be recorded: --server java".into());
    }
    let kind = match server {
        Server::Java => reference::kind()?,
        Server::Ringkeeper => Kind::Ringkeeper { binary: binary(place.binary)? },
    };
    Ok(Context { kind, port_base: place.port_base, record })
}

/// The binary that was named, or the release binary, built if it is not fresh.
fn binary(named: Option<PathBuf>) -> Result<PathBuf> {
    match named {
        Some(binary) => Ok(binary.canonicalize().map_err(|error| format!("{}: {error}", binary.display()))?),
        // `rk` is looked for beside it.
        None => {
            let packages = ["--package", "ringkeeper", "--package", "ringkeeper-tools"];
            process::run(
                cargo().args(["build", "--quiet", "--release", "--bin", "ringkeeper", "--bin", "rk"]).args(packages),
            )?;
            Ok(target().join("release/ringkeeper"))
        }
    }
}

fn cargo() -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root());
    command
}

fn timed(summary: &mut Summary, name: &str, run: impl FnOnce() -> Verdict) {
    println!("\n=== {name}");
    let start = Instant::now();
    let verdict = run();
    summary.add(name, verdict, start.elapsed());
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
