//! A rolling restart under load in which the members change: Java servers become ringkeepers one by one, and Java servers again.
//!
//! ```text
//! for each member, the leader last (or first):   stop -> hand over its data -> start the other kind on the same zoo.cfg -> caught up?
//! ```
//!
//! Clients know all servers and are at work all the time (`drill::crowd`): nothing that was acknowledged is lost, no session ends.
//! kazoo and the Java client are there with one session each from beginning to end. What each step costs them is measured; the same roll of Java servers alone comes first, to compare with.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::drill::crowd::Crowd;
use crate::ensemble::{Ensemble, Part, await_part};
use crate::load::random::Random;
use crate::process::{output_of, run as run_program};
use crate::server::{Kind, Running, Setup, four_letter};
use crate::{Result, clients, patiently, reference, root, target};

const TICK_MS: u32 = 500;
/// Of the load: no election and no start takes so long, on a busy machine either.
const SESSION_MS: i32 = 30_000;
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
    /// So many of `PASSES`.
    pub passes: usize,
}

/// Over and back once; the others are ways to do that again.
pub const THERE_AND_BACK: usize = 4;

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
    /// Whoever leads is the next one: a leader of each make is stopped with followers of both.
    leader_first: bool,
}

const fn pass(what: &'static str, to_java: bool, hand_over: HandOver) -> Pass {
    Pass { what, to_java, hand_over, leader_first: matches!(hand_over, HandOver::Empty) }
}

pub const ALL: usize = 7;

/// Each follows from the one before.
const PASSES: [Pass; ALL] = [
    pass("Java to Java", true, HandOver::Nothing),
    pass("Java to ringkeeper, data taken over at the start", false, HandOver::Nothing),
    pass("ringkeeper to ringkeeper", false, HandOver::Nothing),
    pass("ringkeeper to Java, rk export", true, HandOver::Export),
    pass("Java to ringkeeper again, rk import", false, HandOver::Import),
    pass("ringkeeper to Java, on empty disks, the leader first", true, HandOver::Empty),
    pass("Java to ringkeeper, on empty disks, the leader first", false, HandOver::Empty),
];

/// The reference finds fault with its own digests now and then, in the first pass, where there are only Java servers.
const JAVA_ALONE: &str = "Java to Java: digest mismatches";
const ATTEMPTS: u32 = 3;

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
    for _ in 1..ATTEMPTS {
        match roll(options) {
            Err(why) if why.to_string().starts_with(JAVA_ALONE) => {
                println!("{why}\nnobody but the reference was there: from the beginning");
                fs::remove_dir_all(&options.directory)?;
            }
            ended => return ended,
        }
    }
    roll(options)
}

fn roll(options: &Options) -> Result<u64> {
    let Options { directory, port, java, .. } = options;
    let ensemble = Ensemble::new(directory, *port, &vec![java.clone(); VOTERS], 0, TICK_MS);
    let running = ensemble.start()?.into_iter().map(Some).collect();
    let crowd = Crowd::new(&ensemble.members, SESSION_MS, &mut Random::new(1))?;
    let witnesses = Witness::all(&ensemble.connect_string())?;
    let mut roll = Roll { options, ensemble, running, crowd };
    let kept = |why| format!("{why}\nlogs and data: {}", directory.display());
    for pass in &PASSES[..options.passes] {
        roll.play(pass).map_err(|why| kept(format!("{}: {why}", pass.what)))?;
    }
    for witness in witnesses {
        witness.finish().map_err(|why| kept(why.to_string()))?;
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
        println!("{}", pass.what);
        let mut left: Vec<usize> = (0..VOTERS).collect();
        while !left.is_empty() {
            let leader = self.ensemble.await_leader()?;
            let at = left.iter().position(|member| (*member == leader) == pass.leader_first).unwrap_or(0);
            let member = left.remove(at);
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
            let is_snap = pass.hand_over == HandOver::Empty;
            crowd.check(&ensemble.members, Instant::now(), is_snap)?;
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
    let has_led = await_part(&ensemble.members[at], |part| part != Part::Nothing)? == Part::Leader;
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
    let target = patiently(CATCH_UP_BOUND, POLL_INTERVAL, || {
        ensemble.leader().map(|leader| zxid_of(&ensemble.members[leader])).transpose()
    })?;
    running[at] = Some(ensemble.members[at].launch()?);
    await_part(&ensemble.members[at], |part| part != Part::Nothing)?;
    await_zxid(&ensemble.members[at], target.unwrap_or(0))?;
    let none = Duration::ZERO;
    let start = begin.elapsed();
    Ok(Cost { member: at, has_led, stop, hand_over, start, silence: none, client_silence: none })
}

fn zxid_of(member: &Setup) -> Result<u64> {
    let answer = four_letter(member.address(), "srvr")?;
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

/// A client that nobody wrote for us, with one session for all passes (`tests/clients/roll`).
struct Witness {
    name: &'static str,
    /// None: it has said how it went.
    program: Option<Child>,
}

impl Witness {
    /// Those that can be had here.
    fn all(hosts: &str) -> Result<Vec<Witness>> {
        let source = root().join("tests/clients/roll");
        let kazoo = clients::ensure_kazoo().map(|python| {
            let mut program = Command::new(python);
            program.arg(source.join("counter.py"));
            program
        });
        let java = clients::ensure_javac().and_then(|()| reference::class_path()).and_then(|class_path| {
            let classes = target().join("clients/java");
            fs::create_dir_all(&classes)?;
            run_program(
                Command::new("javac").args(["-cp", &class_path, "-d"]).arg(&classes).arg(source.join("Counter.java")),
            )?;
            let mut program = Command::new("java");
            program.args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=OFF", "-cp"]);
            program.arg(format!("{class_path}:{}", classes.display())).arg("Counter");
            Ok(program)
        });
        let mut witnesses = Vec::new();
        for (name, program) in [("kazoo", kazoo), ("the Java client", java)] {
            match program {
                Err(why) => println!("SKIPPED: {name}: {why}"),
                Ok(mut program) => {
                    let program = program.arg(hosts).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
                    witnesses.push(Witness { name, program: Some(program) });
                }
            }
        }
        Ok(witnesses)
    }

    /// The end of its input makes it say how it went.
    fn finish(mut self) -> Result<()> {
        let program = self.program.take().expect("it is asked once");
        let output = program.wait_with_output()?; // closes its input first
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        print!("{text}");
        if output.status.success() { Ok(()) } else { Err(format!("{}: {}, {text}", self.name, output.status).into()) }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        if let Some(program) = &mut self.program {
            // Errors mean that it is gone already.
            let _ = program.kill();
            let _ = program.wait();
        }
    }
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
