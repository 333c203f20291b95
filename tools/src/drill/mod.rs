//! An ensemble of real processes under load, while servers die, stand still and lose their disks, and the network between them
//! holds things up or breaks; and every promise to its clients is checked.
//!
//! ```text
//! load ... fault, fault ... hold ... heal -> everybody serves in bounded time -> load ...
//!                            every few rounds: the load ends, all is settled, and all trees are compared
//! ```
//!
//!   `faults`    what goes wrong, with `disks` that can be full, and a network that can be broken: `links`, a proxy between each two
//!               servers, or `namespaces`, the kernel's own
//!   `crowd`     the load: `clients`, what each of them insists on, and `ledger`, what they know together
//!
//! The seed decides what goes wrong, and for how long; when it meets the servers is the machine's choice. A seed narrows a
//! failure down, it does not replay it.

mod clients;
pub mod crowd;
mod disks;
mod faults;
mod ledger;
mod links;
pub mod namespaces;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::Result;
use crate::ensemble::{Ensemble, Ports};
use crate::load::random::Random;
use crate::process;
use crate::server::{Home, Kind};
use clients::Ground;
use crowd::Crowd;
use faults::{Fault, Stage};
use links::{Network, Proxies};
use namespaces::Namespaces;

const TICK_MS: u32 = 300;
/// Of the load: longer than most faults, shorter than some.
const SESSION_MS: i32 = 8_000;
const ROUNDS_A_CHECK: u32 = 8;
/// From the healing of everything to an answered write: for failures, not for figures.
const SERVE_BOUND: Duration = Duration::from_secs(30);
/// A learner's clients are refused for a tick after its leader has refused, and a full disk is looked at once a tick.
const ROOM_TICKS: u32 = 3;
/// How soon it is noticed that the drill is to end.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// Ports of the network, above those of the members.
const LINK_PORT_OFFSET: u16 = 100;
pub const MEMBERS_MAX: usize = 7;

#[derive(Clone, Debug)]
pub struct Options {
    /// By number; the last `observers` of them do not vote.
    pub kinds: Vec<Kind>,
    pub observers: usize,
    pub directory: PathBuf,
    pub port: u16,
    /// A network namespace a member; this process has entered its own.
    pub namespaces: bool,
    pub seed: u64,
    pub time: Duration,
    /// Logs and data are left where they are, whatever comes of it.
    pub keep: bool,
}

/// What a run came to.
#[derive(Debug, Default)]
pub struct Totals {
    stage: String,
    rounds: u32,
    pub answers: u64,
    faults: BTreeMap<&'static str, u32>,
    /// Of those whose disk was full: so many had given up their part.
    stepped_back: u32,
    /// From a fault to the next answered write, by what happened to the leader (of a full disk: from its end); and until everybody
    /// served again.
    times: BTreeMap<&'static str, Vec<Duration>>,
    crowd: String,
}

pub fn run(options: &Options) -> (Totals, Result<()>) {
    let mut totals = Totals::default();
    let outcome = Drill::new(options).and_then(|mut drill| {
        let outcome = drill.play(options.time);
        totals = std::mem::take(&mut drill.totals);
        totals.answers = drill.crowd.answers();
        totals.crowd = drill.crowd.text();
        outcome
    });
    // Whatever else went wrong, Ctrl-C on a terminal reaches the servers, too.
    (totals, process::go_on().and(outcome))
}

struct Drill {
    stage: Stage,
    crowd: Crowd,
    random: Random,
    story: File,
    totals: Totals,
    has_java: bool,
}

impl Drill {
    fn new(options: &Options) -> Result<Drill> {
        let Options { kinds, observers, directory, port, namespaces, seed, .. } = options;
        let count = kinds.len();
        assert!(count <= MEMBERS_MAX, "ports for so many are not set aside");
        let told = |from: usize, to: usize| {
            let quorum = port + LINK_PORT_OFFSET + 2 * (from * MEMBERS_MAX + to) as u16;
            Ports { address: Ipv4Addr::LOCALHOST, quorum, election: quorum + 1 }
        };
        let homes = if *namespaces { namespaces::homes(count) } else { vec![Home::default(); count] };
        let real = |to: usize| Ports::of(&homes[to], *port, to);
        let routed = |from, to| if *namespaces { real(to) } else { told(from, to) };
        let ensemble = Ensemble::routed(directory, *port, kinds, *observers, TICK_MS, &homes, routed);
        let network: Box<dyn Network> = match namespaces {
            true => Box::new(Namespaces::new(count)?),
            false => Box::new(Proxies::new(count, told, real)?),
        };
        disks::unmount_old(directory)?;
        let stage = Stage::start(ensemble, network)?;
        let mut random = Random::new(*seed);
        Ok(Drill {
            crowd: Crowd::new(&stage.ensemble.members, SESSION_MS, &mut random)?,
            random,
            story: File::create(directory.join("drill.log"))?,
            totals: Totals { stage: stage.text.clone(), ..Totals::default() },
            has_java: kinds.iter().any(|kind| matches!(kind, Kind::Java { .. })),
            stage,
        })
    }

    fn play(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let Drill { stage, crowd, random, story, totals, has_java } = self;
            let healed = crowd.at_work(|ground| {
                let mut healed = Instant::now();
                for _ in 0..ROUNDS_A_CHECK {
                    if Instant::now() > end || ground.broken().is_some() {
                        break;
                    }
                    healed = Round { stage, ground, random, story, totals, has_java: *has_java }.play()?;
                }
                Ok(healed)
            })?;
            crowd.check(&stage.ensemble.members, healed, *has_java)?;
            tell(story, &format!("all {} trees are equal, {} answers so far", stage.count(), crowd.answers()))?;
        }
        self.stage.stop_all()
    }
}

/// One round of trouble.
struct Round<'a> {
    stage: &'a mut Stage,
    ground: &'a Ground,
    random: &'a mut Random,
    story: &'a mut File,
    totals: &'a mut Totals,
    has_java: bool,
}

impl Round<'_> {
    fn play(&mut self) -> Result<Instant> {
        self.sleep(100, 1000)?;
        let faults = self.draw();
        let leader = self.stage.leader();
        self.ground.pulse.begin();
        let mut begin = Instant::now();
        for (number, fault) in faults.iter().enumerate() {
            if number > 0 {
                self.sleep(0, 600)?;
            }
            tell(self.story, &described(*fault, leader))?;
            if let Fault::Fill(_) = fault {
                self.ground.course.set_short(true);
            }
            self.stage.strike(*fault, self.random)?;
            if let (0, Fault::Isolate { .. }) = (number, fault) {
                // Until here some of it got through.
                self.ground.pulse.begin();
                begin = Instant::now();
            }
            *self.totals.faults.entry(fault.name()).or_default() += 1;
        }
        match self.random.below(8) {
            // A log has room for a while.
            0..7 if self.is_short() => self.sleep(1_000, 6_000),
            0..3 => self.sleep(0, 300),
            3..7 => self.sleep(300, 4_000),
            _ => self.sleep(8_000, 11_000), // longer than sessions live
        }?;
        tell(self.story, "all is put right")?;
        let healed = Instant::now();
        let first = self.ground.pulse.took();
        self.stage.heal()?;
        let first = match first {
            Some(took) => took,
            None => self.await_pulse(begin)?,
        };
        if let Some(label) = label(&faults, leader) {
            self.totals.times.entry(label).or_default().push(first);
        }
        self.ground.pulse.begin();
        let again = self.await_pulse(healed)?;
        if let [Fault::Fill(at)] = faults[..]
            && Some(at) == leader
        {
            self.totals.times.entry("leader's disk freed").or_default().push(again);
        }
        self.stage.await_serving()?;
        let took = healed.elapsed();
        if self.is_short() {
            std::thread::sleep(Duration::from_millis(u64::from(ROOM_TICKS * TICK_MS)));
            self.ground.course.set_short(false);
        }
        self.totals.stepped_back = self.stage.stepped_back;
        self.totals.times.entry("everybody serves again").or_default().push(took);
        self.totals.rounds += 1;
        let described = faults.iter().map(|fault| described(*fault, leader)).collect::<Vec<_>>().join(", ");
        let lasted = healed - begin;
        let line = format!(
            "{described}; next answer after {first:.1?}; put right after {lasted:.1?}, all serve {took:.1?} later"
        );
        println!("round {:>3}: {line}", self.totals.rounds);
        tell(self.story, &line)?;
        Ok(healed)
    }

    fn draw(&mut self) -> Vec<Fault> {
        let (count, leader) = (self.stage.count(), self.stage.leader());
        let several = match self.random.below(4) {
            0 => 2,
            1 => 1 + self.random.below(3) as usize,
            _ => 1,
        };
        let mut faults: Vec<Fault> = Vec::new();
        while faults.len() < several {
            let fault = Fault::draw(self.random, count, leader, several == 1);
            // One disk at a time may be lost. A Java server without its disk counts like any other: what a quorum of two
            // acknowledged may be gone with the next fault.
            let is_wipe = matches!(fault, Fault::Wipe(_));
            let is_too_much = matches!(fault, Fault::Fill(at) if !self.stage.can_fill(at))
                || is_wipe
                    && (self.has_java && several > 1 || faults.iter().any(|other| matches!(other, Fault::Wipe(_))));
            if !is_too_much {
                faults.push(fault);
            }
        }
        faults
    }

    fn is_short(&self) -> bool {
        self.ground.course.shortages() % 2 == 1
    }

    fn await_pulse(&self, since: Instant) -> Result<Duration> {
        let deadline = Instant::now() + SERVE_BOUND;
        while Instant::now() < deadline {
            if let Some(took) = self.ground.pulse.took() {
                return Ok(took);
            }
            if let Some(broken) = self.ground.broken() {
                return Err(broken.into());
            }
            process::go_on()?;
            std::thread::sleep(POLL_INTERVAL);
        }
        Err(format!("no write is answered {:?} after all was put right", since.elapsed()).into())
    }

    fn sleep(&mut self, from_ms: u64, to_ms: u64) -> Result<()> {
        let end = Instant::now() + Duration::from_millis(from_ms + self.random.below(to_ms - from_ms));
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            process::go_on()?;
            std::thread::sleep(left.min(LOOK_INTERVAL));
        }
        Ok(())
    }
}

fn described(fault: Fault, leader: Option<usize>) -> String {
    let leads = if fault.member().is_some() && fault.member() == leader { " (leader)" } else { "" };
    format!("{fault}{leads}")
}

/// What to call the time until the next answer: only where one thing happened, and to the leader.
fn label(faults: &[Fault], leader: Option<usize>) -> Option<&'static str> {
    let [fault] = faults else { return None };
    if fault.member().is_none() || fault.member() != leader {
        return None;
    }
    match fault {
        Fault::Kill(_) => Some("leader killed"),
        Fault::Wipe(_) => Some("leader wiped"),
        Fault::Stop(_) => Some("leader stopped"),
        Fault::Pause(_) => Some("leader paused"),
        Fault::Isolate { .. } => Some("leader off the network"),
        _ => None,
    }
}

fn tell(story: &mut File, what: &str) -> Result<()> {
    let now = time::OffsetDateTime::now_utc().format(&time::format_description::well_known::Rfc3339)?;
    Ok(writeln!(story, "{now} {what}")?)
}

impl Totals {
    /// For people.
    pub fn text(&self) -> String {
        let Totals { stage, rounds, faults, stepped_back, times, crowd, .. } = self;
        let faults: Vec<String> = faults.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let faults = faults.join(", ");
        let first = format!("{rounds} rounds; {faults}; {stepped_back} stepped back for want of room");
        let mut lines = vec![first, stage.clone(), crowd.clone()];
        for (label, took) in times {
            let mut took = took.clone();
            took.sort();
            let at = |percent: usize| took[(took.len() - 1) * percent / 100].as_secs_f64() * 1e3;
            lines.push(format!(
                "{label:<24} {:>4} times: min {:>7.1}  p50 {:>7.1}  p90 {:>7.1}  max {:>7.1} ms",
                took.len(),
                at(0),
                at(50),
                at(90),
                at(100)
            ));
        }
        lines.join("\n")
    }
}
