//! One campaign: a server, its load, and rounds of killing it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ringkeeper_tools::Result;
use ringkeeper_tools::server::{Kind, Running, Setup, four_letter};
use ringkeeper_tools::wire::{Client, Opened, Request};

use crate::ballast::Ballast;
use crate::files::{FileTotals, Files};
use crate::visitors::Visitors;
use ringkeeper_tools::load::actor::{Actor, Course};
use ringkeeper_tools::load::random::Random;

const ACTOR_TIMEOUT_MS: i32 = 4000;

/// What a campaign is, drawn from the arguments.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Names it in the output and its directory.
    pub name: String,
    pub setup: Setup,
    pub seed: u64,
    pub rounds: u32,
    pub actors: usize,
    /// Znodes beside the load from the middle of the campaign on, so that a snapshot takes its time to be moved in.
    pub ballast: u64,
    pub restart_max: Duration,
}

#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Ended and then found in order.
    pub rounds: u32,
    pub answers: u64,
    pub survived: usize,
    pub double_kills: u32,
    pub stops: u32,
    pub expiries: u32,
    pub ballast_reads: u64,
    pub restart_max: Duration,
    pub files: FileTotals,
}

/// One server, killed again and again.
pub struct Campaign {
    plan: Plan,
    random: Random,
    actors: Vec<Actor>,
    visitors: Option<Visitors>,
    ballast: Option<Ballast>,
    files: Files,
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

impl Campaign {
    pub fn new(plan: Plan) -> Campaign {
        let mut random = Random::new(plan.seed);
        let actors =
            (0..plan.actors).map(|number| Actor::new(format!("/crash/actor-{number}"), random.fork())).collect();
        let files = Files::new(&plan.setup);
        Campaign { plan, random, actors, visitors: None, ballast: None, files, totals: Totals::default() }
    }

    /// All rounds. Afterwards the directory is gone; unless something is wrong, then it is what to look at.
    pub fn run(&mut self) -> (Totals, Result<()>) {
        let outcome = self.plan.setup.wipe().and_then(|()| self.rounds()).and_then(|()| self.plan.setup.wipe());
        self.totals.files = self.files.totals.clone();
        (self.totals.clone(), outcome)
    }

    fn rounds(&mut self) -> Result<()> {
        let mut started = self.start()?;
        self.make_homes()?;
        for round in 0..self.plan.rounds {
            if round == self.plan.rounds / 2 && self.plan.ballast > 0 {
                self.ballast = Some(Ballast::load(&mut self.checker()?, self.plan.ballast, &mut started.clients)?);
            }
            let took = self.round(round, started)?;
            started = self.start()?;
            self.totals.rounds += 1;
            println!(
                "{} round {round:>3}: {took}; back in {:>4} ms, {} unanswered writes survived",
                self.plan.name,
                started.took.as_millis(),
                started.survived
            );
        }
        let status = started.running.stop()?;
        println!("{} stopped in the end: {status}", self.plan.name);
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
        self.files.look()?;
        let launched = Instant::now();
        let running = self.plan.setup.start()?;
        let ready = Instant::now();
        let took = ready - launched;
        if took > self.plan.restart_max {
            return Err(format!("the restart took {took:?}").into());
        }
        self.totals.restart_max = self.totals.restart_max.max(took);
        let mut checker = self.checker()?;
        if let Some(visitors) = &self.visitors {
            visitors.check_restart(&mut checker, self.plan.setup.address(), launched)?;
        }
        // At once, while they may still be on their way into memory.
        if let Some(ballast) = &self.ballast {
            self.totals.ballast_reads += ballast.check(&mut checker, &mut self.random)?;
        }
        checker.ask(&Request::CloseSession)?;
        self.check_zxid()?;
        let mut clients = Vec::new();
        let mut survived = 0;
        for actor in &mut self.actors {
            let mut client = actor.connect(self.plan.setup.address(), ACTOR_TIMEOUT_MS)?;
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
        let address = self.plan.setup.address();
        let is_patient = self.visitors.is_some() && self.random.one_in(4);
        let load_time = Duration::from_millis(20 + self.random.below(600));
        let last_moment = Duration::from_millis(self.random.below(60));
        let begin = Instant::now();
        let answers_before: u64 = self.actors.iter().map(|actor| actor.answers).sum();
        let course = Course::default();
        let (visited, broken, how) = std::thread::scope(|scope| {
            let loads: Vec<_> = self
                .actors
                .iter_mut()
                .zip(clients)
                .map(|(actor, client)| {
                    let course = &course;
                    scope.spawn(move || actor.load(client, course))
                })
                .collect();
            std::thread::sleep(load_time);
            let mut visited = (|| {
                if let Some(visitors) = self.visitors.as_ref().filter(|_| is_patient) {
                    std::thread::sleep(Visitors::all_gone_at(ready).saturating_duration_since(Instant::now()));
                    visitors.check_all_gone(&mut open(address)?, address)?;
                    self.totals.expiries += 1;
                }
                Visitors::visit(address, number)
            })();
            std::thread::sleep(last_moment);
            course.may_break.store(true, Ordering::SeqCst);
            let how = if self.random.one_in(8) {
                self.totals.stops += 1;
                running.stop().and_then(|status| stopped_well(&self.plan.setup.kind, status))
            } else {
                running.kill().map(|()| "killed")
            };
            if let Ok(visitors) = &mut visited {
                visitors.note_end(ready);
            }
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
        let start_ms_about = match self.plan.setup.kind {
            Kind::Ringkeeper { .. } if self.ballast.is_some() => 300,
            Kind::Ringkeeper { .. } => 100,
            Kind::Java { .. } => 1200,
        };
        let launched = Instant::now();
        let running = self.plan.setup.launch()?;
        std::thread::sleep(Duration::from_millis(self.random.below(start_ms_about)));
        running.kill()?;
        if let Some(visitors) = &mut self.visitors {
            visitors.note_end(launched);
        }
        self.totals.double_kills += 1;
        Ok(())
    }

    /// A session of its own, so that checks do not lean on the sessions they check.
    fn checker(&self) -> Result<Client> {
        open(self.plan.setup.address())
    }

    /// The server may not know less than it told anybody before it was ended.
    fn check_zxid(&self) -> Result<()> {
        let answer = four_letter(self.plan.setup.address(), "srvr")?;
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
