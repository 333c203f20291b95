//! What a fault does when it strikes, and how it ends.
//!
//! Faults stay inside the model: what is damaged or taken away is never the last copy that a quorum needs. At most a minority
//! of the voters is impaired at a time, and a voter is impaired until it serves again, because then a leader has given it
//! everything; and a voter is emptied only when every other one has joined an epoch, because then somebody can tell it that
//! there is something to be had.

use super::chance::Draw;
use super::disk::Failure;
use super::event::Violation;
use super::faults::Fault;
use super::network::Party;
use super::queue::Happening;
use super::settling::is_serving;
use super::trace::Level;
use super::world::{Server, Step, World};
use crate::core::{Input, RoleView};

/// What ends a fault that lasts.
#[derive(Debug)]
pub enum Relief {
    Resume { server: usize },
    Mend { ways: Vec<(Party, Party)> },
    Speed { ways: Vec<(Party, Party)> },
    FastDisk { server: usize },
    DiskHasRoom { server: usize },
    Die { servers: Vec<usize> },
    RightDrift { server: usize },
}

impl World {
    pub(super) fn plan_faults(&mut self) {
        for fault in self.plan.faults.striking().collect::<Vec<_>>() {
            self.next_strike(fault);
        }
    }

    fn next_strike(&mut self, fault: Fault) {
        let us = self.now_us + self.chance.about(self.plan.faults.mean_us(fault));
        if us < self.plan.safety_us {
            self.queue.at(us, Happening::Strike { fault });
        }
    }

    pub(super) fn strike(&mut self, fault: Fault) -> Step {
        self.next_strike(fault);
        let s = self.chance.below(self.servers.len() as u64) as usize;
        if self.strikes(fault, s)? {
            self.counts.add(fault);
            self.trace.mix(fault as u64);
        }
        Ok(())
    }

    pub(super) fn say(&mut self, fault: Fault, what: impl std::fmt::Display) {
        self.trace.tell(Level::Story, format_args!("*** {}: {what}", fault.name()));
    }

    /// False when it found nothing to strike.
    fn strikes(&mut self, fault: Fault, s: usize) -> Result<bool, Violation> {
        let name = s + 1;
        let is_up = self.servers[s].process.is_some();
        match fault {
            Fault::Kill | Fault::PowerCut if is_up => {
                self.say(fault, format_args!("server {name}"));
                self.kill(s, fault == Fault::PowerCut)?;
            }
            Fault::PowerCutEverywhere => {
                self.say(fault, "all servers");
                for server in 0..self.servers.len() {
                    self.kill(server, true)?;
                }
            }
            Fault::KillAtDiskOperation if is_up => {
                let (ops, power) = (self.chance.any_size(1..64), self.chance.coin());
                self.say(fault, format_args!("server {name} after {ops} operations, power {power}"));
                self.servers[s].kill_after_ops = Some((ops, power));
            }
            Fault::KillInRecovery => {
                let (ops, power) = (self.chance.any_size(1..128), self.chance.coin());
                self.say(fault, format_args!("server {name} after {ops} operations, power {power}"));
                self.servers[s].kill_start_after_ops = Some((ops, power));
            }
            Fault::Stop if is_up && !self.servers[s].paused => {
                self.say(fault, format_args!("server {name}"));
                self.turn(s, Input::Shutdown)?;
            }
            Fault::HandOver if is_up && !self.servers[s].paused => {
                self.say(fault, format_args!("server {name}"));
                self.turn(s, Input::HandOver)?;
            }
            Fault::Snapshot if is_up && !self.servers[s].paused => self.turn(s, Input::SnapshotWanted)?,
            Fault::WriteFails if is_up => {
                let failure = *self.chance.pick(&[Failure::Refused, Failure::Lied]);
                self.say(fault, format_args!("server {name}, {failure:?}"));
                self.servers[s].disk.get_mut().fail_write = Some(failure);
            }
            Fault::FlushFails if is_up => {
                self.say(fault, format_args!("server {name}"));
                self.servers[s].disk.get_mut().fail_flush = true;
            }
            Fault::DiskFull => {
                let mut disk = self.servers[s].disk.get_mut();
                if disk.memory.capacity_bytes.is_some() {
                    return Ok(false);
                }
                let room = self.chance.any_size(1..1 << 18);
                disk.memory.capacity_bytes = Some(disk.memory.used_bytes() + room);
                drop(disk);
                self.say(fault, format_args!("server {name} has room for {room} bytes"));
                self.end_later(Relief::DiskHasRoom { server: s }, 16);
            }
            Fault::SlowDisk if self.servers[s].disk_slowness == 1 => {
                let times = self.chance.any_size(4..2_000);
                self.say(fault, format_args!("server {name}, {times} times"));
                self.servers[s].disk_slowness = times;
                self.end_later(Relief::FastDisk { server: s }, 8);
            }
            Fault::Nonsense => return self.talk_nonsense(fault),
            Fault::BitRot | Fault::MisdirectedWrite => return self.rot(fault, s),
            Fault::Wipe => return self.lose_disk(fault, s),
            Fault::Pause if is_up && !self.servers[s].paused => {
                self.say(fault, format_args!("server {name}"));
                self.servers[s].paused = true;
                self.end_later(Relief::Resume { server: s }, 10);
            }
            Fault::ClockJump => {
                let ms = self.chance.any_size(1..1 << 32) as i64 * if self.chance.coin() { 1 } else { -1 };
                self.say(fault, format_args!("server {name} by {ms} ms"));
                self.servers[s].clock.jump(ms);
            }
            Fault::ClockDrift => {
                let ppm = self.chance.any_size(1..100_000) as i64 * if self.chance.coin() { 1 } else { -1 };
                self.say(fault, format_args!("server {name} by {ppm} ppm"));
                self.servers[s].clock.set_drift(self.now_us, ppm);
                self.end_later(Relief::RightDrift { server: s }, 40);
            }
            Fault::LinkBreaks | Fault::ClientLinkBreaks => {
                let connections = self.network.connections(fault == Fault::ClientLinkBreaks);
                if connections.is_empty() {
                    return Ok(false);
                }
                let tcp = *self.chance.pick(&connections);
                self.say(fault, format_args!("connection {tcp}"));
                self.network.break_tcp(self.now_us, tcp, &mut self.queue);
            }
            Fault::ElectionLineBreaks => {
                let to = self.chance.below(self.servers.len() as u64) as usize;
                if to == s {
                    return Ok(false);
                }
                self.say(fault, format_args!("{name} -> {}", to + 1));
                self.network.break_election_line(self.now_us, s, to, &mut self.queue);
            }
            Fault::OneWayCut => {
                let to = self.chance.below(self.servers.len() as u64) as usize;
                if to == s {
                    return Ok(false);
                }
                self.say(fault, format_args!("{name} -> {}", to + 1));
                self.cut(vec![(s, to)], 14);
            }
            Fault::ClientCut => {
                let client = self.servers.len() + self.chance.below(self.plan.clients.max(1) as u64) as usize;
                if self.plan.clients == 0 {
                    return Ok(false);
                }
                self.say(fault, format_args!("client {} from server {name}", client - self.servers.len()));
                let both = [(s, client), (client, s)];
                let ways = if self.chance.coin() { both.to_vec() } else { vec![*self.chance.pick(&both)] };
                self.cut(ways, 14);
            }
            Fault::Partition if self.servers.len() > 1 => self.partition(fault),
            Fault::SlowLink if self.servers.len() > 1 => {
                let to = self.chance.below(self.servers.len() as u64) as usize;
                let times = self.chance.any_size(4..1_000);
                let ways = vec![(s, to), (to, s)];
                self.say(fault, format_args!("{name} <-> {}, {times} times", to + 1));
                for (from, to) in &ways {
                    self.network.set_slowness(*from, *to, times);
                }
                self.end_later(Relief::Speed { ways }, 12);
            }
            Fault::Strand => {
                self.strands_next = true;
                return Ok(false);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The next leader that is about to begin its epoch, or changes who decides, will be stranded in the middle of it.
    pub(super) fn strand_later(&mut self) {
        if std::mem::take(&mut self.strands_next) {
            let us = self.now_us + self.chance.any_size(100..2 * self.plan.tick_us());
            self.queue.at(us, Happening::Strand);
        }
    }

    /// The leader is cut off from those that decide or most of them, not from the others, and dies of it soon: what it told the
    /// others nobody may ever hear of again. Sometimes all that decide so far die with it.
    pub(super) fn strand(&mut self) {
        let leads = |server: &Server| matches!(server.role, Some(RoleView::Leading { .. }));
        let membership = self.properties.truth().membership();
        let Some(leader) = self.servers.iter().position(leads) else { return };
        let voters: Vec<Party> =
            membership.voters().map(|id| self.place(id)).filter(|voter| *voter != leader).collect();
        let spares_some = self.chance.coin();
        let is_parted = |_: &Party| !(spares_some && self.chance.one_in(3));
        let parted: Vec<Party> = voters.iter().copied().filter(is_parted).collect();
        let ways = parted.into_iter().flat_map(|voter| [(leader, voter), (voter, leader)]).collect();
        let everybody = self.chance.one_in(3);
        self.counts.add(Fault::Strand);
        self.say(Fault::Strand, format_args!("server {}, and everybody dies: {everybody}", leader + 1));
        let dying = if everybody { &voters[..] } else { &[] };
        self.end_later(Relief::Die { servers: [&[leader], dying].concat() }, 2);
        let ticks = *self.chance.pick(&[1, 4, 16]);
        self.cut(ways, ticks);
    }

    /// Whether this server's disk may lose something of what it promised.
    fn may_be_impaired(&self, s: usize) -> bool {
        let is_whole = |other: &usize| *other != s && !self.servers[*other].impaired;
        let id = self.servers[s].setup.server;
        self.memberships().filter(|membership| membership.is_voter(id)).all(|membership| {
            let voters = || membership.voters().map(|id| self.place(id));
            membership.has_quorum(|id| is_whole(&self.place(id)))
                && voters().filter(is_whole).all(|other| self.servers[other].has_joined)
        })
    }

    /// Damage is done to a server that is about to start, so that it is found, and everything is whole again when it serves.
    fn rot(&mut self, fault: Fault, s: usize) -> Result<bool, Violation> {
        if !self.may_be_impaired(s) {
            return Ok(false);
        }
        self.kill(s, false)?;
        let told = self.servers[s].disk.get_mut().rot(fault == Fault::MisdirectedWrite, &mut self.chance);
        let Some(told) = told else { return Ok(false) };
        self.servers[s].impaired = true;
        self.say(fault, format_args!("server {}: {told}", s + 1));
        Ok(true)
    }

    fn lose_disk(&mut self, fault: Fault, s: usize) -> Result<bool, Violation> {
        if !self.may_be_impaired(s) {
            return Ok(false);
        }
        self.kill(s, false)?;
        self.say(fault, format_args!("server {}", s + 1));
        self.wipe(s)?;
        Ok(true)
    }

    /// Two sides, or somebody alone, or the leader with too few, or a bridge between two sides that do not see each other.
    fn partition(&mut self, fault: Fault) {
        let servers = self.servers.len();
        let leader = self.servers.iter().position(|server| server.role.as_ref().is_some_and(is_serving));
        let sides: Vec<u64> = match self.chance.below(4) {
            0 => (0..servers).map(|_| self.chance.below(2)).collect(),
            1 => {
                let alone = self.chance.below(servers as u64) as usize;
                (0..servers).map(|s| u64::from(s == alone)).collect()
            }
            2 => (0..servers).map(|s| u64::from(Some(s) == leader || self.chance.one_in(3))).collect(),
            _ => (0..servers).map(|_| self.chance.below(3)).collect(),
        };
        let bridge = self.chance.one_in(3).then(|| self.chance.below(servers as u64) as usize);
        let one_way = self.chance.one_in(4);
        let parted = |a: usize, b: usize| {
            sides[a] != sides[b] && Some(a) != bridge && Some(b) != bridge && (!one_way || sides[a] < sides[b])
        };
        let ways: Vec<(Party, Party)> =
            (0..servers).flat_map(|a| (0..servers).map(move |b| (a, b))).filter(|(a, b)| parted(*a, *b)).collect();
        self.say(fault, format_args!("sides {sides:?}, bridge {bridge:?}, one way {one_way}"));
        self.cut(ways, 14);
    }

    fn cut(&mut self, ways: Vec<(Party, Party)>, mean_ticks: u64) {
        for (from, to) in &ways {
            self.network.cut(*from, *to);
        }
        self.end_later(Relief::Mend { ways }, mean_ticks);
    }

    /// Ticks are what everybody's patience is measured in.
    fn end_later(&mut self, relief: Relief, mean_ticks: u64) {
        let number = self.number();
        self.reliefs.insert(number, relief);
        let us = self.now_us + self.chance.about(mean_ticks * self.plan.tick_us());
        self.queue.at(us, Happening::Relief { relief: number });
    }

    pub(super) fn relieve(&mut self, number: u32) -> Step {
        let Some(relief) = self.reliefs.remove(&number) else { return Ok(()) };
        self.trace.tell(Level::Story, format_args!("over: {relief:?}"));
        match relief {
            Relief::Resume { server } => return self.resume(server),
            Relief::Mend { ways } => {
                for (from, to) in ways {
                    self.network.mend(self.now_us, from, to, &mut self.queue);
                }
            }
            Relief::Speed { ways } => {
                for (from, to) in ways {
                    self.network.set_slowness(from, to, 1);
                }
            }
            Relief::FastDisk { server } => self.servers[server].disk_slowness = 1,
            Relief::DiskHasRoom { server } => self.servers[server].disk.get_mut().memory.capacity_bytes = None,
            Relief::Die { servers } => {
                for server in servers {
                    self.kill(server, false)?;
                }
            }
            Relief::RightDrift { server } => self.servers[server].clock.set_drift(self.now_us, 0),
        }
        Ok(())
    }
}
