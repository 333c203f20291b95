//! What goes wrong, and that it is put right again.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::disks::{self, Disk};
use super::links::{Network, Passage};
use crate::Result;
use crate::ensemble::{Ensemble, Part, await_part, part_of};
use crate::load::random::Random;
use crate::server::{Kind, Running, Setup, tail};

/// Members count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// kill -9.
    Kill(usize),
    /// And again, while it comes up.
    KillTwice(usize),
    /// Everybody at once.
    KillAll,
    /// SIGTERM: a leader hands over.
    Stop(usize),
    /// SIGSTOP: its connections stand, and nobody is there.
    Pause(usize),
    /// It loses its disk.
    Wipe(usize),
    /// Its disk is full: it takes no part, and a leader takes no writes or hands over.
    Fill(usize),
    /// Off the network: what others say to it, what it says, or both.
    Isolate {
        member: usize,
        hears: bool,
        speaks: bool,
        how: Passage,
    },
    /// One link.
    Link {
        from: usize,
        to: usize,
        how: Passage,
    },
    Slow {
        member: usize,
        by: Duration,
    },
}

impl Fault {
    /// For counting.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Kill(_) => "killed",
            Fault::KillTwice(_) => "killed twice",
            Fault::KillAll => "all killed",
            Fault::Stop(_) => "stopped",
            Fault::Pause(_) => "paused",
            Fault::Wipe(_) => "wiped",
            Fault::Fill(_) => "disk full",
            Fault::Isolate { how: Passage::Cut, .. } => "cut off",
            Fault::Isolate { hears: false, speaks: false, .. } => "unreachable",
            Fault::Isolate { hears: false, .. } => "deaf",
            Fault::Isolate { .. } => "mute",
            Fault::Link { how: Passage::Cut, .. } => "link cut",
            Fault::Link { .. } => "link held",
            Fault::Slow { .. } => "slow",
        }
    }

    pub fn member(self) -> Option<usize> {
        match self {
            Fault::Kill(at) | Fault::KillTwice(at) | Fault::Stop(at) | Fault::Pause(at) => Some(at),
            Fault::Wipe(at) | Fault::Fill(at) => Some(at),
            Fault::Isolate { member, .. } | Fault::Slow { member, .. } => Some(member),
            Fault::KillAll | Fault::Link { .. } => None,
        }
    }

    /// `is_alone`: nothing else is or goes wrong at this time.
    pub fn draw(random: &mut Random, count: usize, leader: Option<usize>, is_alone: bool) -> Fault {
        let any = random.below(count as u64) as usize;
        let member = leader.filter(|_| random.one_in(2)).unwrap_or(any);
        let other = (member + 1 + random.below(count as u64 - 1) as usize) % count;
        let how = if random.one_in(3) { Passage::Cut } else { Passage::Held };
        match random.below(100) {
            0..18 => Fault::Kill(member),
            18..23 => Fault::KillTwice(member),
            23..27 if is_alone => Fault::KillAll,
            23..37 => Fault::Stop(member),
            37..50 => Fault::Pause(member),
            50..57 => Fault::Wipe(member),
            57..66 => Fault::Fill(member),
            66..72 => Fault::Isolate { member, hears: true, speaks: false, how: Passage::Held },
            72..78 => Fault::Isolate { member, hears: false, speaks: true, how: Passage::Held },
            78..88 => Fault::Isolate { member, hears: false, speaks: false, how },
            88..95 => Fault::Link { from: member, to: other, how },
            _ => Fault::Slow { member, by: Duration::from_millis(5 + random.below(150)) },
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        match self {
            Fault::Link { from, to, .. } => write!(f, "{name} {}>{}", from + 1, to + 1),
            Fault::Slow { member, by } => write!(f, "{} {name} by {} ms", member + 1, by.as_millis()),
            other => match other.member() {
                Some(member) => write!(f, "{} {name}", member + 1),
                None => write!(f, "{name}"),
            },
        }
    }
}

/// The servers and the network between them.
pub struct Stage {
    /// For people: what can go wrong here.
    pub text: String,
    pub ensemble: Ensemble,
    network: Box<dyn Network>,
    /// None: it is down.
    running: Vec<Option<Running>>,
    paused: BTreeSet<usize>,
    /// Last: they are unmounted when nobody uses them any more. Empty: none can be had.
    disks: Vec<Option<Disk>>,
    /// Members that took no part when their full disk was freed.
    pub stepped_back: u32,
}

impl Stage {
    pub fn start(mut ensemble: Ensemble, network: Box<dyn Network>) -> Result<Stage> {
        ensemble.members.iter().try_for_each(Setup::wipe)?;
        let (disks, disks_text) = match disks::mount(&mut ensemble.members) {
            Ok(disks) => (disks, "disks that can be full".to_owned()),
            Err(why) => {
                ensemble.members.iter().try_for_each(Setup::wipe)?; // some may have got one
                (Vec::new(), format!("NO FULL DISKS: {why}"))
            }
        };
        println!("{disks_text}");
        let running = ensemble.launch()?.into_iter().map(Some).collect();
        let text = format!("{}; {disks_text}", network.text());
        Ok(Stage { text, ensemble, network, running, paused: BTreeSet::new(), disks, stepped_back: 0 })
    }

    pub fn can_fill(&self, at: usize) -> bool {
        self.disks.get(at).is_some_and(Option::is_some)
    }

    pub fn leader(&self) -> Option<usize> {
        self.ensemble.leader()
    }

    pub fn count(&self) -> usize {
        self.running.len()
    }

    /// Nothing, where the member is down already.
    pub fn strike(&mut self, fault: Fault, random: &mut Random) -> Result<()> {
        match fault {
            Fault::Kill(at) => self.kill(at),
            Fault::KillTwice(at) => {
                self.kill(at)?;
                let running = self.ensemble.members[at].launch()?;
                std::thread::sleep(Duration::from_millis(random.below(300)));
                running.kill()
            }
            Fault::KillAll => (0..self.count()).try_for_each(|at| self.kill(at)),
            Fault::Stop(at) => self.stop(at),
            Fault::Pause(at) => {
                if let Some(running) = &self.running[at] {
                    running.pause()?;
                    self.paused.insert(at);
                }
                Ok(())
            }
            Fault::Wipe(at) => {
                self.kill(at)?;
                self.free(at)?;
                disks::wipe(&self.ensemble.members[at].data())?;
                self.launch(at)
            }
            Fault::Fill(at) => self.disks[at].as_mut().map_or(Ok(()), Disk::fill),
            Fault::Isolate { member, how: Passage::Cut, .. } => self.network.unplug(member),
            Fault::Isolate { member, hears, speaks, how } => {
                for other in (0..self.count()).filter(|other| *other != member) {
                    if !speaks {
                        self.network.set(member, other, how)?;
                    }
                    if !hears {
                        self.network.set(other, member, how)?;
                    }
                }
                Ok(())
            }
            Fault::Link { from, to, how } => self.network.set(from, to, how),
            Fault::Slow { member, by } => self.network.slow(member, by),
        }
    }

    fn kill(&mut self, at: usize) -> Result<()> {
        self.paused.remove(&at);
        self.running[at].take().map_or(Ok(()), Running::kill)
    }

    fn stop(&mut self, at: usize) -> Result<()> {
        if self.paused.remove(&at)
            && let Some(running) = &self.running[at]
        {
            running.resume()?;
        }
        let Some(running) = self.running[at].take() else { return Ok(()) };
        let status = running.stop().map_err(|why| self.about(at, &why.to_string()))?;
        let wanted = match self.ensemble.members[at].kind {
            Kind::Ringkeeper { .. } => 0,
            Kind::Java { .. } => 143, // the JVM's way of saying which signal it was
        };
        if status.code() == Some(wanted) { Ok(()) } else { Err(self.about(at, &format!("left with {status}")).into()) }
    }

    /// Everything is put right; nobody has noticed yet.
    pub fn heal(&mut self) -> Result<()> {
        self.nobody_left()?;
        self.network.heal()?;
        (0..self.count()).try_for_each(|at| self.free(at))?;
        for at in std::mem::take(&mut self.paused) {
            if let Some(running) = &self.running[at] {
                running.resume()?;
            }
        }
        (0..self.count()).try_for_each(|at| self.launch(at))
    }

    fn free(&mut self, at: usize) -> Result<()> {
        let Some(Some(disk)) = self.disks.get_mut(at) else { return Ok(()) };
        let is_back = self.running[at].is_some()
            && !self.paused.contains(&at)
            && part_of(&self.ensemble.members[at]).is_ok_and(|part| part == Part::Nothing);
        if disk.free()? && is_back {
            self.stepped_back += 1;
        }
        Ok(())
    }

    fn launch(&mut self, at: usize) -> Result<()> {
        if self.running[at].is_none() {
            self.running[at] = Some(self.ensemble.members[at].launch()?);
        }
        Ok(())
    }

    pub fn await_serving(&mut self) -> Result<()> {
        for member in &self.ensemble.members {
            await_part(member, |part| part != Part::Nothing)?;
        }
        self.nobody_left()
    }

    /// A server that ends by itself had a reason, and it is not one of ours.
    fn nobody_left(&mut self) -> Result<()> {
        for at in 0..self.count() {
            if self.running[at].as_mut().is_some_and(|running| !running.is_alive()) {
                return Err(self.about(at, "has left by itself").into());
            }
        }
        Ok(())
    }

    fn about(&self, at: usize, what: &str) -> String {
        format!("server {} {what}\n{}", at + 1, tail(&self.ensemble.members[at].log(), 20))
    }

    pub fn stop_all(&mut self) -> Result<()> {
        (0..self.count()).try_for_each(|at| self.stop(at))
    }
}
