//! The same bytes to ringkeeper and to the Java reference, and every answer compared.
//!
//!   generate --Step--> side (reference)  --lines--+
//!              |                                  +--> equal, or a divergence: seed, trace, shrunk trace
//!              +-----> side (ringkeeper) --lines--+
//!
//! * [`ask`]: a request as bytes. * [`generate`]: what to do next. * [`side`]: one server and its connections. * [`together`]:
//!   several sessions at the same moment. * [`words`]: four-letter words. * [`show`]: a frame as text that has to be equal.
//! * [`arena`]: the two servers of a seed, as standalone ones or as ensembles of one. * [`shrink`], [`report`]: a divergence for a
//!   reader. * [`tally`]: how much was compared.
//!
//! Each seed runs on two fresh servers, so zxids are equal from the first to the last, those of refused writes and of
//! session ends included. What may differ is listed in docs/COMPATIBILITY.md; the generator avoids it, or [`show`] excuses it by
//! number.

mod arena;
pub mod ask;
mod generate;
mod report;
mod show;
mod shrink;
mod side;
mod tally;
mod together;
mod words;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arena::Arena;
use generate::Generator;
use side::{Said, Side, Step};
use tally::Tally;

use crate::Result;
use crate::server::{Kind, Running, Setup, tail};

/// So often in a row nothing has been removed since the last look: nothing will be.
const REAPED_LOOKS: u32 = 30;
const REAPED_PAUSE: Duration = Duration::from_millis(50);
const NOTICED_TIMEOUT: Duration = Duration::from_secs(3);
const REAPED_TIMEOUT: Duration = Duration::from_secs(60);

/// What to compare.
#[derive(Clone, Debug)]
pub struct Options {
    pub seeds: Range<u64>,
    pub step_count: usize,
    pub session_count: usize,
    /// Seeds at the same time.
    pub job_count: u16,
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

/// Compares seed after seed, some at the same time, with this reference.
pub fn run(options: &Options, reference: &Kind) -> Result<Tally> {
    let next = AtomicU64::new(options.seeds.start);
    let (sum, start) = (Mutex::new(Tally::default()), Instant::now());
    let work = |job: u16| -> Result<()> {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= options.seeds.end {
                return Ok(());
            }
            let arena = Arena::new(options, reference, seed, job);
            let start = Instant::now();
            let (found, tally) =
                compare(&arena, options, seed).inspect_err(|error| println!("seed {seed}: {error}"))?;
            println!("seed {seed}: {tally}, {:.1?}", start.elapsed());
            *sum.lock().expect("no job panics") += tally;
            if let Some(divergence) = found {
                println!("{}", report::divergence(seed, &divergence));
                if options.is_shrinking {
                    let (shortest, run_count) = shrink::shrink(&arena, divergence.trace)?;
                    println!("{}", report::shrunk(shortest.as_ref(), run_count));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let jobs: Vec<_> = (0..options.job_count).map(|job| scope.spawn(move || work(job))).collect();
        jobs.into_iter().try_for_each(|job| job.join().expect("a job does not panic"))
    })?;
    let sum = sum.into_inner().expect("no job panics");
    println!("{} seeds, {} of them diverged: {sum}, {:.0?}", sum.seeds, sum.divergences, start.elapsed());
    Ok(sum)
}

fn compare(arena: &Arena, options: &Options, seed: u64) -> Result<(Option<Divergence>, Tally)> {
    let mut generator = Generator::new(seed, options.session_count, arena::habits(seed));
    let mut match_ = Match::start(arena)?;
    let found = match_.play(&mut generator, options.step_count, seed)?;
    let heard = match_.sides[0].heard;
    let tally = Tally {
        seeds: 1,
        divergences: usize::from(found.is_some()),
        answers: heard.answers,
        notifications: heard.notifications,
        sessions: match_.sides[0].session_count(),
        ..Tally::of(&match_.trace)
    };
    Ok((found, tally))
}

/// Two servers that have been asked the same so far.
struct Match<'a> {
    arena: &'a Arena,
    servers: Vec<Running>,
    sides: [Side; 2],
    trace: Vec<Step>,
}

impl Match<'_> {
    fn start(arena: &Arena) -> Result<Match<'_>> {
        let servers = arena.start()?;
        let side = |at: usize| {
            Side::new(at == 0, arena.setups[at].address(), arena.own_texts[at].clone(), arena.session_count)
        };
        Ok(Match { arena, servers, sides: [side(0), side(1)], trace: Vec::new() })
    }

    fn play(&mut self, generator: &mut Generator, step_count: usize, seed: u64) -> Result<Option<Divergence>> {
        for at in 0..step_count {
            let is_half_time = at == step_count / 2;
            if arena::is_member(seed) && (at == 0 || is_half_time) {
                generator.begin_epoch();
            }
            let (found, said) = self.step(if is_half_time { Step::Restart } else { generator.step() })?;
            if found.is_some() {
                return Ok(found);
            }
            let step = self.trace.last().expect("it was just taken");
            generator.observe(step, &said.replies, self.sides[0].last_zxid);
        }
        if let Some(found) = self.sweep(generator)? {
            return Ok(Some(found));
        }
        let mut last = generator.farewells();
        if arena::is_reaped(seed) {
            last.splice(0..0, generator.counts_anew());
            last.push(Step::Reap);
        }
        if let Some(found) = self.all(last)? {
            return Ok(Some(found));
        }
        if arena::is_reaped(seed)
            && let Some(found) = self.sweep(generator)?
        {
            return Ok(Some(found));
        }
        self.all(words::LAST_WORDS.map(Step::Word).into())
    }

    /// Steps that were known before.
    fn all(&mut self, steps: Vec<Step>) -> Result<Option<Divergence>> {
        for step in steps {
            let (found, _) = self.step(step)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// A look at everything that is there.
    fn sweep(&mut self, generator: &mut Generator) -> Result<Option<Divergence>> {
        let mut next = Some(generator.begin_sweep());
        while let Some(step) = next {
            let (found, said) = self.step(step)?;
            if found.is_some() {
                return Ok(found);
            }
            generator.observe_sweep(self.trace.last().expect("it was just taken"), &said.replies);
            next = generator.next_sweep();
        }
        Ok(None)
    }

    /// Does one step to both servers; what the reference said comes back with the verdict.
    fn step(&mut self, step: Step) -> Result<(Option<Divergence>, Said)> {
        let mut said = [Said::default(), Said::default()];
        match step {
            Step::Restart => self.restart(&[])?,
            Step::Reap => {
                self.restart(&[arena::REAPS])?;
                self.await_reaped()?;
                self.sides.iter_mut().for_each(Side::let_zxids_differ);
            }
            _ => {}
        }
        for (side, said) in self.sides.iter_mut().zip(&mut said) {
            side.begin(&step, said)?;
        }
        for (side, said) in self.sides.iter_mut().zip(&mut said) {
            side.finish(&step, said)?;
        }
        self.trace.push(step);
        for (server, setup) in self.servers.iter_mut().zip(&self.arena.setups) {
            if !server.is_alive() {
                let name = setup.kind.name();
                said.iter_mut().for_each(|said| said.lines.push(format!("alive, unlike {name}")));
                println!("{name} has left\n{}", tail(&setup.log(), 20));
            }
        }
        for (side, said) in self.sides.iter().zip(&mut said) {
            side.settle_order(&mut said.lines);
        }
        // That a client has left shows when its server has noticed.
        let deadline = Instant::now() + NOTICED_TIMEOUT;
        while let Some(step @ Step::Word(_)) = self.trace.last()
            && said[0].lines != said[1].lines
            && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(50));
            said = [Said::default(), Said::default()];
            for (side, said) in self.sides.iter_mut().zip(&mut said) {
                side.finish(step, said)?;
            }
        }
        let [reference, ringkeeper] = said;
        if reference.lines == ringkeeper.lines {
            return Ok((None, reference));
        }
        let divergence = self.divergence(reference.lines.clone(), ringkeeper.lines);
        Ok((Some(divergence), reference))
    }

    /// Both are killed, and started on what they wrote.
    fn restart(&mut self, more: &[&str]) -> Result<()> {
        std::mem::take(&mut self.servers).into_iter().try_for_each(Running::kill)?;
        self.servers = self.arena.start_again(more)?;
        Ok(())
    }

    /// Until neither has removed anything for a while.
    fn await_reaped(&self) -> Result<()> {
        let zxid = |setup: &Setup| -> Result<String> {
            let answer = words::ask(setup.address(), "srvr")?;
            Ok(answer.lines().find(|line| line.starts_with("Zxid:")).unwrap_or_default().to_owned())
        };
        let (mut last, mut looks) = (Vec::new(), 0);
        let deadline = Instant::now() + REAPED_TIMEOUT;
        while looks < REAPED_LOOKS && Instant::now() < deadline {
            let now = self.arena.setups.iter().map(zxid).collect::<Result<Vec<_>>>()?;
            looks = if now == last { looks + 1 } else { 0 };
            last = now;
            std::thread::sleep(REAPED_PAUSE);
        }
        Ok(())
    }

    fn divergence(&self, reference: Vec<String>, ringkeeper: Vec<String>) -> Divergence {
        Divergence { trace: self.trace.clone(), reference, ringkeeper }
    }
}
