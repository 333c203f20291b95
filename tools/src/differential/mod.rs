//! The same bytes to ringkeeper and to the Java reference, and every answer compared.
//!
//!   generate --Step--> side (reference)  --lines--+
//!              |                                  +--> equal, or a divergence: seed, trace, shrunk trace
//!              +-----> side (ringkeeper) --lines--+
//!
//! * [`ask`]: a request as bytes. * [`chance`]: the seed. * [`generate`]: what to do next. * [`side`]: one server and its
//!   connections. * [`show`]: a frame as text that has to be equal. * [`report`]: a divergence for a reader.
//!
//! Each seed runs on two fresh servers, so zxids are equal from the first to the last, those of refused writes and of
//! session ends included. Not here, on purpose: several sessions at the same moment, whose order no server promises.
//! What may differ is listed in docs/COMPATIBILITY.md; the generator avoids it, or [`show`] excuses it by number.

pub mod ask;
mod generate;
mod report;
mod show;
mod side;

use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use generate::Generator;
use side::{Said, Side, Step};

use crate::server::{Home, Kind, Running, Setup, four_letter, tail};
use crate::{Result, reference, target};

/// As long as a run may take: behind it lie the reference's removal of containers and the end of sessions.
const RUN_TIMEOUT: Duration = Duration::from_secs(50);
const SHRINK_RUNS_MAX: u32 = 60;

/// What to compare.
#[derive(Clone, Debug)]
pub struct Options {
    pub seeds: Range<u64>,
    pub step_count: usize,
    pub session_count: usize,
    /// The ringkeeper to compare.
    pub binary: PathBuf,
    pub port_base: u16,
    /// Whether a trace with a divergence is made shorter by trying.
    pub is_shrinking: bool,
}

/// The first step whose answers differ.
#[derive(Clone, Debug)]
pub struct Divergence {
    pub trace: Vec<Step>,
    pub reference: Vec<String>,
    pub ringkeeper: Vec<String>,
}

/// Compares seed after seed; true if no answer differed.
pub fn run(options: &Options) -> Result<bool> {
    let reference = reference::kind()?;
    let mut divergence_count = 0;
    let mut request_count = 0;
    for seed in options.seeds.clone() {
        let arena = Arena::new(options, &reference, seed);
        let mut generator = Generator::new(seed, options.session_count, enforces_quotas(seed));
        let start = Instant::now();
        let mut match_ = arena.start()?;
        let found = match_.play(&mut generator, options.step_count)?;
        request_count += match_.request_count;
        println!("seed {seed}: {} requests compared in {:.1?}", match_.request_count, start.elapsed());
        drop(match_);
        if let Some(divergence) = found {
            divergence_count += 1;
            println!("{}", report::divergence(seed, &divergence));
            if options.is_shrinking {
                println!("{}", report::shrunk(&shrink(&arena, divergence.trace)?));
            }
        }
    }
    println!(
        "{request_count} requests compared, {divergence_count} of {} seeds diverged",
        options.seeds.clone().count()
    );
    Ok(divergence_count == 0)
}

/// Where the two servers of a seed live.
struct Arena {
    reference: Setup,
    ringkeeper: Setup,
    session_count: usize,
}

/// Two servers that have been asked the same so far.
struct Match {
    servers: Vec<(Running, Setup)>,
    sides: [Side; 2],
    trace: Vec<Step>,
    request_count: usize,
    start: Instant,
}

impl Arena {
    fn new(options: &Options, reference: &Kind, seed: u64) -> Arena {
        let common = settings(seed);
        let setup = |kind: Kind, port: u16, own: &[&str]| {
            let directory = target().join(format!("differential/{port}"));
            let own = own.iter().map(|line| (*line).to_owned());
            Setup {
                kind,
                directory,
                home: Home::default(),
                port,
                tick_ms: 2000,
                my_id: None,
                extra: common.iter().cloned().chain(own).collect(),
            }
        };
        let port = options.port_base + (seed % 20) as u16 * 2;
        Arena {
            // Nobody pulls a plug here.
            reference: setup(reference.clone(), port, &["forceSync=no"]),
            ringkeeper: setup(Kind::Ringkeeper { binary: options.binary.clone() }, port + 1, &[]),
            session_count: options.session_count,
        }
    }

    fn start(&self) -> Result<Match> {
        let setups = [&self.reference, &self.ringkeeper];
        setups.iter().try_for_each(|setup| setup.wipe())?;
        let servers = [self.reference.start()?, self.ringkeeper.start()?];
        let sides = setups.map(|setup| Side::new(setup.address(), self.session_count));
        let [reference, ringkeeper] = servers;
        let servers = vec![(reference, self.reference.clone()), (ringkeeper, self.ringkeeper.clone())];
        Ok(Match { servers, sides, trace: Vec::new(), request_count: 0, start: Instant::now() })
    }

    /// The divergence that a recorded trace leads to, if it still does.
    fn replay(&self, trace: &[Step]) -> Result<Option<Divergence>> {
        let mut match_ = self.start()?;
        for step in trace {
            if let (Some(divergence), _) = match_.step(step.clone())? {
                return Ok(Some(divergence));
            }
        }
        Ok(None)
    }
}

/// What holds for a whole server varies from seed to seed.
fn settings(seed: u64) -> Vec<String> {
    const SUPER: &str = "DigestAuthenticationProvider.superDigest=super:xQJmxLMiHGwaqBvst5y6rkB6HQs=";
    let own: &[&str] = match seed % 16 {
        1 => &["skipACL=yes"],
        3 => &["closeSessionTxn.enabled=false"],
        5 => &["minSessionTimeout=6000", "maxSessionTimeout=50000"],
        7 => &["enforce.auth.enabled=true", "enforce.auth.schemes=digest"],
        9 => &["DigestAuthenticationProvider.enabled=false"],
        11 => &["digest.enabled=false", "globalOutstandingLimit=1"],
        _ => &[],
    };
    let extended_types = format!("extendedTypesEnabled={}", !seed.is_multiple_of(3));
    let quotas = format!("enforceQuota={}", enforces_quotas(seed));
    own.iter().chain(&[SUPER, extended_types.as_str(), quotas.as_str()]).map(|line| (*line).to_owned()).collect()
}

fn enforces_quotas(seed: u64) -> bool {
    seed % 4 >= 2
}

impl Match {
    fn play(&mut self, generator: &mut Generator, step_count: usize) -> Result<Option<Divergence>> {
        for at in 0..step_count {
            if self.start.elapsed() > RUN_TIMEOUT {
                println!("  out of time after {} steps", self.trace.len());
                break;
            }
            let is_half_time = at == step_count / 2;
            let (found, said) = self.step(if is_half_time { Step::Restart } else { generator.step() })?;
            if found.is_some() {
                return Ok(found);
            }
            let step = self.trace.last().expect("it was just taken");
            generator.observe(step, &said.replies, self.sides[0].last_zxid);
        }
        let mut next = Some(generator.begin_sweep());
        while let Some(step) = next {
            let (found, said) = self.step(step)?;
            if found.is_some() {
                return Ok(found);
            }
            generator.observe_sweep(self.trace.last().expect("it was just taken"), &said.replies);
            next = generator.next_sweep();
        }
        for step in generator.farewells() {
            if let (Some(found), _) = self.step(step)? {
                return Ok(Some(found));
            }
        }
        self.compare_counts()
    }

    /// Does one step to both servers; what the reference said comes back with the verdict.
    fn step(&mut self, step: Step) -> Result<(Option<Divergence>, Said)> {
        let mut said = [Said::default(), Said::default()];
        if step == Step::Restart {
            self.restart()?;
        }
        for (side, said) in self.sides.iter_mut().zip(&mut said) {
            side.begin(&step, said)?;
        }
        for (side, said) in self.sides.iter_mut().zip(&mut said) {
            side.finish(&step, said)?;
        }
        self.request_count += if let Step::Ask { burst, .. } = &step { burst.len() } else { 1 };
        self.trace.push(step);
        for (server, setup) in &mut self.servers {
            if !server.is_alive() {
                let name = setup.kind.name();
                said.iter_mut().for_each(|said| said.lines.push(format!("alive, unlike {name}")));
                println!("{name} has left\n{}", tail(&setup.log(), 20));
            }
        }
        for (side, said) in self.sides.iter().zip(&mut said) {
            side.settle_order(&mut said.lines);
        }
        let [reference, ringkeeper] = said;
        if reference.lines == ringkeeper.lines {
            return Ok((None, reference));
        }
        let divergence = self.divergence(reference.lines.clone(), ringkeeper.lines);
        Ok((Some(divergence), reference))
    }

    fn restart(&mut self) -> Result<()> {
        for (server, setup) in std::mem::take(&mut self.servers) {
            server.kill()?;
            self.servers.push((setup.start()?, setup));
        }
        Ok(())
    }

    fn divergence(&self, reference: Vec<String>, ringkeeper: Vec<String>) -> Divergence {
        Divergence { trace: self.trace.clone(), reference, ringkeeper }
    }

    /// What operators can count when all have left has to be equal too; while watches are there, D-019.
    fn compare_counts(&self) -> Result<Option<Divergence>> {
        let count = |side: usize| -> Result<Vec<String>> {
            let address = self.servers[side].1.address();
            let names = ["zk_znode_count", "zk_ephemerals_count", "zk_watch_count"];
            let wanted = |line: &str| {
                names.iter().any(|name| line.split_whitespace().next() == Some(name)) || line.contains("_quota_")
            };
            let monitored = four_letter(address, "mntr")?;
            let mut lines: Vec<String> =
                monitored.lines().filter(|line| wanted(line)).map(|line| line.replace('\t', " ")).collect();
            lines.sort();
            lines.extend(four_letter(address, "wchs")?.lines().map(str::to_owned));
            Ok(lines)
        };
        let (reference, ringkeeper) = (count(0)?, count(1)?);
        Ok((reference != ringkeeper).then(|| self.divergence(reference, ringkeeper)))
    }
}

/// Delta debugging: leaves out ever smaller parts of a trace, then of its bursts, as long as some divergence stays.
fn shrink(arena: &Arena, mut trace: Vec<Step>) -> Result<Divergence> {
    let mut best = None;
    let mut run_count = 0;
    let mut diverges = |shorter: &[Step]| -> Result<Option<Vec<Step>>> {
        run_count += 1;
        let found = if run_count <= SHRINK_RUNS_MAX { arena.replay(shorter)? } else { None };
        let shorter = found.as_ref().map(|found| found.trace.clone());
        best = found.or(best.take());
        Ok(shorter)
    };
    let mut part = trace.len().div_ceil(2);
    while part > 0 {
        let mut at = 0;
        while at < trace.len() {
            match diverges(&without(&trace, at, part))? {
                Some(shorter) => trace = shorter,
                None => at += part,
            }
        }
        part /= 2;
    }
    // From the end: what was asked last is closest to the cause.
    for step in (0..trace.len()).rev() {
        let Some(Step::Ask { slot, mut burst }) = trace.get(step).cloned() else { continue };
        let mut part = burst.len() / 2;
        while part > 0 {
            let mut at = 0;
            // A shorter trace may end before this step.
            while step < trace.len() && at < burst.len() && burst.len() > part {
                let shorter_burst = without(&burst, at, part);
                let mut shorter = trace.clone();
                shorter[step] = Step::Ask { slot, burst: shorter_burst.clone() };
                match diverges(&shorter)? {
                    Some(shorter) => (trace, burst) = (shorter, shorter_burst),
                    None => at += part,
                }
            }
            part /= 2;
        }
    }
    match best {
        Some(best) => Ok(best),
        None => arena.replay(&trace)?.ok_or("the divergence does not happen again with the same steps".into()),
    }
}

fn without<T: Clone>(all: &[T], at: usize, count: usize) -> Vec<T> {
    [&all[..at], &all[(at + count).min(all.len())..]].concat()
}
