//! A rolling restart under load in which the members change: Java servers become ringkeepers one by one, and Java servers again.
//!
//! ```text
//! for each member, the leader last:   stop -> hand over its data -> start the other kind on the same zoo.cfg -> caught up?
//! ```
//!
//! Clients know all servers and are at work all the time (`drill::crowd`): nothing that was acknowledged is lost, no session ends.
//! What each step costs them is measured; the same roll of Java servers alone comes first, to compare with.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Result;
use crate::drill::crowd::Crowd;
use crate::ensemble::{Ensemble, Part, await_part, part_of};
use crate::load::random::Random;
use crate::process::output_of;
use crate::server::{Kind, Running, Setup, four_letter};

const TICK_MS: u32 = 500;
/// Under load, between two steps.
const REST: Duration = Duration::from_millis(1500);
const CATCH_UP_BOUND: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
const VOTERS: usize = 3;

#[derive(Clone, Debug)]
pub struct Options {
    pub ringkeeper: Kind,
    pub rk: PathBuf,
    pub java: Kind,
    pub directory: PathBuf,
    pub port: u16,
}

/// How the next server of a member comes to what the last one had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HandOver {
    /// By itself: it is the same kind, or ringkeeper's first start beside a Java server's data.
    Nothing,
    /// `rk export --replace`.
    Export,
    /// `rk import --replace`: there are data of ringkeeper's, and a Java server has run since.
    Import,
    /// It has nothing and gets everything from the leader.
    Empty,
}

/// One pass over all members.
struct Pass {
    what: &'static str,
    to_java: bool,
    hand_over: HandOver,
}

const fn pass(what: &'static str, to_java: bool, hand_over: HandOver) -> Pass {
    Pass { what, to_java, hand_over }
}

/// Each follows from the one before.
const PASSES: [Pass; 7] = [
    pass("Java to Java", true, HandOver::Nothing),
    pass("Java to ringkeeper, data taken over at the start", false, HandOver::Nothing),
    pass("ringkeeper to ringkeeper", false, HandOver::Nothing),
    pass("ringkeeper to Java, rk export", true, HandOver::Export),
    pass("Java to ringkeeper again, rk import", false, HandOver::Import),
    pass("ringkeeper to Java, on empty disks", true, HandOver::Empty),
    pass("Java to ringkeeper, on empty disks", false, HandOver::Empty),
];

/// What one step cost.
struct Cost {
    member: usize,
    has_led: bool,
    stop: Duration,
    hand_over: Duration,
    /// From its start until it was as far as the others.
    start: Duration,
    /// The longest time without an answered write: anybody's, and one client's.
    silence: Duration,
    client_silence: Duration,
}

/// Returns how many answers were checked.
pub fn run(options: &Options) -> Result<u64> {
    let Options { directory, port, java, .. } = options;
    let ensemble = Ensemble::new(directory, *port, &vec![java.clone(); VOTERS], 0, TICK_MS);
    let running = ensemble.start()?.into_iter().map(Some).collect();
    let crowd = Crowd::new(&ensemble.members, &mut Random::new(1))?;
    let mut roll = Roll { options, ensemble, running, crowd };
    for pass in &PASSES {
        roll.play(pass).map_err(|why| format!("{}: {why}\nlogs and data: {}", pass.what, directory.display()))?;
    }
    for running in roll.running.into_iter().flatten() {
        running.stop()?;
    }
    fs::remove_dir_all(directory)?;
    println!("{}", roll.crowd.text());
    Ok(roll.crowd.answers())
}

struct Roll<'a> {
    options: &'a Options,
    ensemble: Ensemble,
    running: Vec<Option<Running>>,
    crowd: Crowd,
}

impl Roll<'_> {
    fn play(&mut self, pass: &Pass) -> Result<()> {
        let leader = self.ensemble.leader().ok_or("nobody leads")?;
        let mut order: Vec<usize> = (0..VOTERS).filter(|at| *at != leader).collect();
        order.push(leader);
        println!("{}", pass.what);
        for member in order {
            let Roll { options, ensemble, running, crowd } = self;
            let expired = crowd.expiries();
            let cost = crowd.at_work(|ground| {
                std::thread::sleep(REST);
                ground.pulse.begin();
                let mut cost = step(options, ensemble, running, pass, member)?;
                std::thread::sleep(REST);
                let beats = ground.pulse.beats().expect("it has begun");
                (cost.silence, cost.client_silence) = (beats.silence, beats.client_silence);
                Ok(cost)
            })?;
            crowd.check(&ensemble.members, Instant::now())?;
            println!("{}", cost.text());
            if crowd.expiries() > expired {
                return Err(format!("a session of the load ended while server {} was replaced", member + 1).into());
            }
        }
        Ok(())
    }
}

fn step(
    options: &Options,
    ensemble: &mut Ensemble,
    running: &mut [Option<Running>],
    pass: &Pass,
    at: usize,
) -> Result<Cost> {
    let has_led = part_of(&ensemble.members[at])? == Part::Leader;
    let begin = Instant::now();
    running[at].take().expect("everybody is up").stop()?;
    let stop = begin.elapsed();
    let member = &mut ensemble.members[at];
    let data = member.data();
    let begin = Instant::now();
    match pass.hand_over {
        HandOver::Nothing => {}
        HandOver::Export => drop(output_of(Command::new(&options.rk).args(["export", "--replace"]).arg(&data))?),
        HandOver::Import => drop(output_of(Command::new(&options.rk).args(["import", "--replace"]).arg(&data))?),
        HandOver::Empty => fs::remove_dir_all(&data)?,
    }
    let hand_over = begin.elapsed();
    let begin = Instant::now();
    member.kind = if pass.to_java { options.java.clone() } else { options.ringkeeper.clone() };
    let target = ensemble.leader().map(|leader| zxid_of(&ensemble.members[leader])).transpose()?;
    running[at] = Some(ensemble.members[at].launch()?);
    await_part(&ensemble.members[at], |part| part != Part::Nothing)?;
    await_zxid(&ensemble.members[at], target.unwrap_or(0))?;
    let none = Duration::ZERO;
    let start = begin.elapsed();
    Ok(Cost { member: at, has_led, stop, hand_over, start, silence: none, client_silence: none })
}

fn zxid_of(member: &Setup) -> Result<u64> {
    let answer = four_letter(member.port, "srvr")?;
    let zxid = answer.lines().find_map(|line| line.strip_prefix("Zxid: 0x")).ok_or("srvr shows no zxid")?;
    Ok(u64::from_str_radix(zxid.trim(), 16)?)
}

/// It has everything that the leader had when it was started.
fn await_zxid(member: &Setup, zxid: u64) -> Result<()> {
    let deadline = Instant::now() + CATCH_UP_BOUND;
    while zxid_of(member).unwrap_or(0) < zxid {
        if Instant::now() > deadline {
            return Err(format!("{} is not at {zxid:#x} after {CATCH_UP_BOUND:?}", member.address()).into());
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

impl Cost {
    fn text(&self) -> String {
        let Cost { member, has_led, stop, hand_over, start, silence, client_silence } = self;
        let ms = |time: &Duration| time.as_secs_f64() * 1e3;
        format!(
            "  server {}{}: stopped in {:.0} ms, data in {:.0} ms, started and caught up in {:.0} ms; longest without an \
             answered write: anybody {:.0} ms, one client {:.0} ms",
            member + 1,
            if *has_led { " (leader)" } else { "" },
            ms(stop),
            ms(hand_over),
            ms(start),
            ms(silence),
            ms(client_silence)
        )
    }
}
