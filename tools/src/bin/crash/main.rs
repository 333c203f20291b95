//! Kills a server under load, again and again, on a real disk, and checks every promise after each restart.
//!
//!   start -> check what the last round did -> load (many requests in flight) -> kill -9 -> (kill while starting) -> ...
//!
//! Checked in every round: the tree of each actor is that after a prefix of its requests with every answered one in it,
//! data, versions, owners and zxids included (`model.rs`); no transaction is there by half, no refused request left
//! anything; sessions are resumed with id and password and hold their ephemerals; those of a closed session are gone,
//! those of an expired one go (`visitors.rs`); zxids never go back; the server is back in bounded time. During the
//! load: answers in order, each what it must be, reads that see the writes before them (`actor.rs`).
//!
//! Not here, on purpose: a disk that loses what it had confirmed. A kill leaves the page cache; the simulator's disk
//! does not.

mod actor;
mod model;
mod random;
mod visitors;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use ringkeeper_tools::server::{Kind, Running, Setup, four_letter, tail};
use ringkeeper_tools::wire::{Client, Opened, Request};
use ringkeeper_tools::{Result, reference, target};

use actor::Actor;
use random::Random;
use visitors::Visitors;

/// Sessions live from 2 to 20 ticks: 400 ms for visitors, 4 s for actors.
const TICK_MS: u32 = 200;
const ACTOR_TIMEOUT_MS: i32 = 4000;

#[derive(Parser)]
#[command(name = "cargo dev crash", about = "Kills the server under load and checks what it promised")]
struct Arguments {
    #[arg(long, default_value_t = 200)]
    rounds: u32,
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
    #[arg(long, default_value_t = 23100)]
    port: u16,
    /// A restart that takes longer is a failure
    #[arg(long, default_value_t = 5000)]
    restart_ms_max: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |now| u64::from(now.subsec_nanos()))
    });
    println!("crash: {} rounds, --seed {seed}", arguments.rounds);
    let mut crash = match Crash::new(&arguments, seed) {
        Ok(crash) => crash,
        Err(why) => {
            println!("{why}\n\n0 passed, 1 failed");
            return ExitCode::FAILURE;
        }
    };
    let outcome = crash.run(arguments.rounds);
    let Totals { rounds, answers, survived, double_kills, stops, expiries, restart_max } = crash.totals;
    println!(
        "\n{answers} answers checked, {survived} unanswered writes survived; {double_kills} rounds killed the server \
         while it started, {stops} asked it to stop; {expiries} expiries checked; slowest restart {restart_max:?}"
    );
    let Err(why) = outcome else {
        if let Err(why) = crash.setup.wipe() {
            println!("{}: {why}", crash.setup.directory.display());
        }
        println!("\n{rounds} passed, 0 failed");
        return ExitCode::SUCCESS;
    };
    println!("FAILED in round {rounds}, --seed {seed}: {why}");
    println!("data and log are kept in {}\n{}", crash.setup.directory.display(), tail(&crash.setup.log(), 20));
    println!("\n{rounds} passed, 1 failed");
    ExitCode::FAILURE
}

#[derive(Debug, Default)]
struct Totals {
    /// Ended and then found in order.
    rounds: u32,
    answers: u64,
    survived: usize,
    double_kills: u32,
    stops: u32,
    expiries: u32,
    restart_max: Duration,
}

struct Crash {
    setup: Setup,
    random: Random,
    actors: Vec<Actor>,
    visitors: Option<Visitors>,
    restart_max: Duration,
    totals: Totals,
}

/// A server that is up and was found in order.
struct Started {
    running: Running,
    ready: Instant,
    took: Duration,
    clients: Vec<Client>,
    survived: usize,
}

impl Crash {
    fn new(arguments: &Arguments, seed: u64) -> Result<Crash> {
        let kind = if arguments.java {
            reference::kind()?
        } else {
            let binary = &arguments.binary;
            Kind::Ringkeeper {
                binary: binary.canonicalize().map_err(|error| format!("{}: {error}", binary.display()))?,
            }
        };
        let mut random = Random::new(seed);
        let directory = target().join(format!("crash/{}", kind.name()));
        // Snapshots, new log files and purges all the time: the moments that are rare in life are the ones to be killed in.
        let extra = ["snapCount=2000", "autopurge.snapRetainCount=3", "autopurge.purgeInterval=1"];
        let extra = extra.map(str::to_owned).to_vec();
        let setup = Setup { kind, directory, port: arguments.port, tick_ms: TICK_MS, extra };
        setup.wipe()?;
        let actors = (0..arguments.actors).map(|number| Actor::new(number, random.fork())).collect();
        let restart_max = Duration::from_millis(arguments.restart_ms_max);
        Ok(Crash { setup, random, actors, visitors: None, restart_max, totals: Totals::default() })
    }

    fn run(&mut self, rounds: u32) -> Result<()> {
        let mut started = self.start()?;
        self.make_homes()?;
        for round in 0..rounds {
            let took = self.round(round, started)?;
            started = self.start()?;
            self.totals.rounds += 1;
            println!(
                "round {round:>3}: {took}; back in {:>4} ms, {} unanswered writes survived",
                started.took.as_millis(),
                started.survived
            );
        }
        let status = started.running.stop()?;
        println!("stopped in the end: {status}");
        Ok(())
    }

    fn make_homes(&self) -> Result<()> {
        let mut client = self.checker()?;
        let paths = std::iter::once("/crash").chain(self.actors.iter().map(Actor::home));
        for path in paths {
            client.ask(&Request::Create { path: path.to_owned(), data: Vec::new(), ephemeral: false })?;
        }
        client.ask(&Request::CloseSession)?;
        Ok(())
    }

    /// Starts the server and checks everything that the last round left.
    fn start(&mut self) -> Result<Started> {
        let launched = Instant::now();
        let running = self.setup.start()?;
        let ready = Instant::now();
        let took = ready - launched;
        if took > self.restart_max {
            return Err(format!("the restart took {took:?}").into());
        }
        self.totals.restart_max = self.totals.restart_max.max(took);
        let mut checker = self.checker()?;
        if let Some(visitors) = &self.visitors {
            visitors.check_restart(&mut checker, self.setup.address(), launched)?;
        }
        checker.ask(&Request::CloseSession)?;
        self.check_zxid()?;
        let mut clients = Vec::new();
        let mut survived = 0;
        for actor in &mut self.actors {
            let mut client = actor.connect(self.setup.address(), ACTOR_TIMEOUT_MS)?;
            if self.visitors.is_some() {
                survived += actor.check(&mut client)?;
            }
            clients.push(client);
        }
        self.totals.survived += survived;
        Ok(Started { running, ready, took, clients, survived })
    }

    /// Load, and the end of the server in the midst of it. Says how it went.
    fn round(&mut self, number: u32, started: Started) -> Result<String> {
        let Started { running, ready, clients, .. } = started;
        let address = self.setup.address();
        let is_patient = self.visitors.is_some() && self.random.one_in(4);
        let load_time = Duration::from_millis(20 + self.random.below(600));
        let last_moment = Duration::from_millis(self.random.below(60));
        let begin = Instant::now();
        let answers_before: u64 = self.actors.iter().map(|actor| actor.answers).sum();
        let is_ending = AtomicBool::new(false);
        let (visited, broken, how) = std::thread::scope(|scope| {
            let loads: Vec<_> = self
                .actors
                .iter_mut()
                .zip(clients)
                .map(|(actor, client)| {
                    let is_ending = &is_ending;
                    scope.spawn(move || actor.load(client, is_ending))
                })
                .collect();
            std::thread::sleep(load_time);
            let visited = (|| {
                if let Some(visitors) = self.visitors.as_ref().filter(|_| is_patient) {
                    std::thread::sleep(Visitors::all_gone_at(ready).saturating_duration_since(Instant::now()));
                    visitors.check_all_gone(&mut open(address)?, address)?;
                    self.totals.expiries += 1;
                }
                Visitors::visit(address, number)
            })();
            std::thread::sleep(last_moment);
            is_ending.store(true, Ordering::SeqCst);
            let how = if self.random.one_in(8) {
                self.totals.stops += 1;
                running.stop().and_then(|status| stopped_well(&self.setup.kind, status))
            } else {
                running.kill().map(|()| "killed")
            };
            let broken: Vec<_> = loads.into_iter().filter_map(|load| load.join().expect("no panic").err()).collect();
            (visited, broken, how)
        });
        let lasted = begin.elapsed();
        if let Some(why) = broken.into_iter().next() {
            return Err(why);
        }
        let (how, visitors) = (how?, visited?);
        self.visitors = Some(visitors);
        let answers = self.actors.iter().map(|actor| actor.answers).sum::<u64>() - answers_before;
        self.totals.answers += answers;
        let mut again = "";
        if self.random.one_in(5) {
            self.kill_while_starting()?;
            again = ", and while it started";
        }
        Ok(format!("{how} after {:>4} ms and {answers:>6} answers{again}", lasted.as_millis()))
    }

    fn kill_while_starting(&mut self) -> Result<()> {
        let start_ms_about = match self.setup.kind {
            Kind::Ringkeeper { .. } => 100,
            Kind::Java { .. } => 1200,
        };
        let running = self.setup.launch()?;
        std::thread::sleep(Duration::from_millis(self.random.below(start_ms_about)));
        running.kill()?;
        self.totals.double_kills += 1;
        Ok(())
    }

    /// A session of its own, so that checks do not lean on the sessions they check.
    fn checker(&self) -> Result<Client> {
        open(self.setup.address())
    }

    /// The server may not know less than it told anybody before it was ended.
    fn check_zxid(&self) -> Result<()> {
        let answer = four_letter(self.setup.port, "srvr")?;
        let shown = answer.lines().find_map(|line| line.strip_prefix("Zxid: 0x")).ok_or("srvr shows no zxid")?;
        let shown = i64::from_str_radix(shown.trim(), 16)?;
        let told = self.actors.iter().map(|actor| actor.zxid_max).max().unwrap_or(0);
        if shown < told { Err(format!("zxid {told:#x} was told, the server is at {shown:#x}").into()) } else { Ok(()) }
    }
}

fn open(address: std::net::SocketAddr) -> Result<Client> {
    match Client::open(address, ACTOR_TIMEOUT_MS, None, 0)? {
        Opened::Session(client) => Ok(client),
        Opened::Expired => Err("a new session was refused".into()),
    }
}

fn stopped_well(kind: &Kind, status: std::process::ExitStatus) -> Result<&'static str> {
    let wanted = match kind {
        Kind::Ringkeeper { .. } => 0,
        Kind::Java { .. } => 143, // the JVM's way of saying which signal it was
    };
    if status.code() == Some(wanted) {
        Ok("stopped")
    } else {
        Err(format!("asked to stop, the server left with {status}").into())
    }
}
