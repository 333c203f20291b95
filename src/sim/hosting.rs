//! The servers' part of the world: starts and ends, turns, and what a turn means for disk, network and the next turn.

use std::collections::VecDeque;

use super::chance::Draw;
use super::config_files;
use super::disk::SharedDisk;
use super::event::{Event, Violation};
use super::meeting::tcp_of;
use super::network::{Party, Payload};
use super::queue::{Happening, TcpId};
use super::server::{Down, End, Process, Said, Setup};
use super::settling::is_serving;
use super::trace::Level;
use super::world::{Step, World};
use crate::core::zab::membership::files::MembersChange;
use crate::core::zab::membership::{Configurations, Membership};
use crate::core::{Input, LinkId, LinkMessage, Output, ServerId, Standing};
use crate::wire::quorum::{PROTOCOL_JAVA, Packet};

/// A round of the shell: everybody who is ready, and a look at the sockets.
const ROUND_US: u64 = 20;

impl World {
    /// What belongs to this life of the server, unless it is stuck: then it waits.
    pub(super) fn is_for(&mut self, server: usize, life: u32, happening: Happening) -> bool {
        self.servers[server].life == life && self.servers[server].process.is_some() && !self.waits(server, happening)
    }

    pub(super) fn waits(&mut self, party: Party, happening: Happening) -> bool {
        let Some(server) = self.servers.get_mut(party).filter(|server| server.paused) else { return false };
        server.backlog.push_back(happening);
        true
    }

    pub(super) fn start(&mut self, s: usize) -> Step {
        let server = &mut self.servers[s];
        server.life += 1;
        let kill = server.kill_start_after_ops.take();
        server.disk.get_mut().limit_ops(kill.map(|(ops, _)| ops));
        let now = server.clock.now(self.now_us);
        let chance = self.chance.fork();
        match Process::start(&server.setup, &server.disk, now, chance, &mut self.said) {
            Ok(process) => {
                server.process = Some(process);
                let is_lost = |event: &Event| matches!(event, Event::Started { standing: Standing::Lost, .. });
                let may_be_lost = server.impaired || server.may_give_up || !server.has_joined;
                if !may_be_lost && self.said.events.iter().any(is_lost) {
                    let why = format!("server {} has a disk that was not damaged, and takes it for a lost one", s + 1);
                    return Err(Violation { property: "recovery", why });
                }
                self.after_turn(s)
            }
            Err(down) => self.did_not_start(s, down, kill.is_some_and(|(_, power)| power)),
        }
    }

    /// Killed while it started, or refused to.
    pub(super) fn did_not_start(&mut self, s: usize, down: Down, power: bool) -> Step {
        let server = &mut self.servers[s];
        server.disk.get_mut().end_process(std::iter::empty(), power, &mut self.disk_chance);
        match down {
            Down::Killed => self.trace.tell(Level::Story, format_args!("server {} is killed while it starts", s + 1)),
            Down::Refused(why) => {
                self.trace.tell(Level::Story, format_args!("server {} does not start: {why}", s + 1));
                let is_full = server.disk.get().memory.capacity_bytes.is_some();
                if !server.impaired && !is_full {
                    let why = format!("server {} has a disk that was not damaged, and refuses it: {why}", s + 1);
                    return Err(Violation { property: "recovery", why });
                }
                // What the message says: empty it, and let it join anew. A full disk is made room on.
                if !is_full {
                    self.wipe(s)?;
                }
            }
        }
        self.start_later(s);
        Ok(())
    }

    /// An empty disk takes the place of the one there was. The server is down.
    pub(super) fn wipe(&mut self, s: usize) -> Step {
        let server = &mut self.servers[s];
        assert!(server.process.is_none(), "it is down");
        server.disk = SharedDisk::new(&mut self.disk_chance);
        server.disk.get_mut().memory.sector_bytes = self.plan.disk.sector_bytes;
        (server.impaired, server.has_joined) = (true, false);
        if self.plan.reconfigures.is_some() {
            // Whoever sets a machine up anew writes down who is there today.
            let today = Membership { version: 0, ..self.properties.truth().membership().clone() };
            server.setup.configs = Some(Configurations::settled(today));
        }
        self.tell(Event::Wiped { server: self.servers[s].setup.server })
    }

    pub(super) fn start_later(&mut self, s: usize) {
        let delay_us = if self.healed {
            self.chance.about(100_000)
        } else {
            self.chance.any_size(1_000..30 * self.plan.tick_us())
        };
        let life = self.servers[s].life;
        self.queue.at(self.now_us + delay_us, Happening::Start { server: s, life });
    }

    /// The process ends, or its machine loses power.
    pub(super) fn kill(&mut self, s: usize, power: bool) -> Step {
        let server = &mut self.servers[s];
        let Some(process) = server.process.take() else { return Ok(()) };
        self.steps += process.steps;
        server.life += 1;
        server.disk.get_mut().end_process(process.into_ops(), power, &mut self.disk_chance);
        (server.paused, server.role) = (false, None);
        (server.accepts, server.accepts_observers) = (false, false);
        (server.search, server.wake_us, server.kill_after_ops) = (None, None, None);
        (server.submit_decided, server.spare_decided, server.turn_decided) = (false, false, false);
        server.owed.clear();
        // Its own are void; what others sent finds nobody.
        for happening in std::mem::take(&mut server.backlog) {
            self.queue.at(self.now_us, happening);
        }
        self.network.party_is_gone(self.now_us, s, power, &mut self.queue);
        let id = self.servers[s].setup.server;
        self.tell(Event::Crashed { server: id, power })?;
        self.start_later(s);
        Ok(())
    }

    /// A process that has failed, or is done.
    pub(super) fn exit(&mut self, s: usize) -> Step {
        let ends = self.servers[s].process.as_ref().and_then(|process| process.ends.clone());
        match ends {
            Some(End::LogFailed(why)) => {
                self.trace.tell(Level::Story, format_args!("server {} gives up: {why}", s + 1))
            }
            Some(End::Stopped) => self.trace.tell(Level::Story, format_args!("server {} has stopped", s + 1)),
            None => return Ok(()),
        }
        self.kill(s, false)
    }

    pub(super) fn resume(&mut self, s: usize) -> Step {
        let server = &mut self.servers[s];
        if !std::mem::take(&mut server.paused) {
            return Ok(());
        }
        let (backlog, owed) = (std::mem::take(&mut server.backlog), std::mem::take(&mut server.owed));
        for happening in backlog {
            self.queue.at(self.now_us, happening);
        }
        for input in owed {
            self.turn(s, input)?;
        }
        Ok(())
    }

    pub(super) fn wake(&mut self, s: usize) -> Step {
        let server = &mut self.servers[s];
        if server.wake_us.is_none_or(|wake_us| wake_us > self.now_us) {
            return Ok(()); // an earlier one was decided meanwhile, and this is not it
        }
        server.wake_us = None;
        self.on_process(s, |process, setup, now, said| process.tick(setup, now, said))
    }

    pub(super) fn turn(&mut self, s: usize, input: Input<'_>) -> Step {
        self.on_process(s, |process, setup, now, said| process.turn(setup, now, input, said))
    }

    /// An input that cannot be asked for again: of one that is stuck, it waits.
    pub(super) fn give(&mut self, s: usize, input: Input<'static>) -> Step {
        match self.servers[s].paused {
            true => {
                self.servers[s].owed.push_back(input);
                Ok(())
            }
            false => self.turn(s, input),
        }
    }

    pub(super) fn on_process(
        &mut self,
        s: usize,
        act: impl FnOnce(&mut Process, &Setup, crate::core::Now, &mut Said),
    ) -> Step {
        let server = &mut self.servers[s];
        let Some(process) = &mut server.process else { return Ok(()) };
        let now = server.clock.now(self.now_us);
        act(process, &server.setup, now, &mut self.said);
        self.after_turn(s)
    }

    /// Everything that a turn of this server means for the others, and when it has its next.
    pub(super) fn after_turn(&mut self, s: usize) -> Step {
        let mut echoes = VecDeque::new();
        loop {
            let mut events = std::mem::take(&mut self.said.events);
            for event in events.drain(..) {
                self.tell(event)?;
            }
            self.said.events = events;
            let mut outputs = std::mem::take(&mut self.said.outputs);
            for output in outputs.drain(..) {
                self.carry_out(s, output, &mut echoes)?;
                if self.servers[s].process.is_none() {
                    break; // it died of it
                }
            }
            self.said.outputs = outputs;
            let Some(input) = echoes.pop_front() else { break };
            let server = &mut self.servers[s];
            let Some(process) = &mut server.process else { return Ok(()) };
            process.turn(&server.setup, server.clock.now(self.now_us), input, &mut self.said);
        }
        self.decide_next_turns(s)
    }

    pub(super) fn decide_next_turns(&mut self, s: usize) -> Step {
        let server = &mut self.servers[s];
        let Some(process) = &mut server.process else { return Ok(()) };
        let (now_us, life) = (self.now_us, server.life);
        if process.ends.is_some() {
            // Others may hear from it until then.
            let exit_us = now_us + self.chance.about(1_000);
            self.queue.at(exit_us, Happening::Exit { server: s, life });
        }
        let tick_us = now_us + u64::from(self.plan.tick_ms) * 500;
        let own_us = process.node.wake_us().map(|mono_us| server.clock.world_us(mono_us).max(now_us + 1));
        let wake_us = own_us.map_or(tick_us, |own_us| own_us.min(tick_us));
        if server.wake_us.is_none_or(|decided_us| wake_us < decided_us) {
            server.wake_us = Some(wake_us);
            self.queue.at(wake_us, Happening::Wake { server: s, life });
        }
        if process.node.wants_turn() && !server.turn_decided {
            server.turn_decided = true;
            self.queue.at(now_us + ROUND_US, Happening::NextTurn { server: s, life });
        }
        if process.may_change_disk() {
            return self.change_disk(s);
        }
        if process.wants_disk && !server.submit_decided {
            server.submit_decided = true;
            // Whoever is ready now is in the same batch.
            let submit_us = now_us + self.disk_chance.below(50);
            self.queue.at(submit_us, Happening::DiskSubmit { server: s, life });
        }
        if process.wants_spare_time() && !server.spare_decided {
            server.spare_decided = true;
            let spare_us = now_us + self.disk_chance.about(2_000);
            self.queue.at(spare_us, Happening::Spare { server: s, life });
        }
        Ok(())
    }

    pub(super) fn submit(&mut self, s: usize) -> Step {
        let server = &mut self.servers[s];
        let Some(process) = &mut server.process else { return Ok(()) };
        let mut submitted = Vec::new();
        process.submit(&mut submitted);
        let latency_us = self.plan.disk.latency_us * server.disk_slowness;
        for op in submitted {
            let done_us = self.now_us + self.disk_chance.about(latency_us);
            self.queue.at(done_us, Happening::DiskDone { server: s, life: server.life, op });
        }
        Ok(())
    }

    pub(super) fn disk_done(&mut self, s: usize, op: usize) -> Step {
        let server = &mut self.servers[s];
        if let Some((left, power)) = &mut server.kill_after_ops {
            *left = left.saturating_sub(1);
            if *left == 0 {
                let power = *power;
                return self.kill(s, power);
            }
        }
        let Some(process) = &mut server.process else { return Ok(()) };
        let now = server.clock.now(self.now_us);
        process.disk_done(&server.setup, &server.disk, now, op, &mut self.said);
        self.submit(s)?;
        self.after_turn(s)
    }

    /// Cuts or replaces what is on the disk. Blocks, as a start does.
    pub(super) fn change_disk(&mut self, s: usize) -> Step {
        let server = &mut self.servers[s];
        server.may_give_up = true;
        let kill = server.kill_after_ops.take();
        server.disk.get_mut().limit_ops(kill.map(|(ops, _)| ops.max(1)));
        let failures = server.disk.get().failures;
        let process = server.process.as_mut().expect("it wants its disk changed");
        let now = server.clock.now(self.now_us);
        match process.change_disk(&server.setup, &server.disk, now, &mut self.said) {
            Ok(()) => self.after_turn(s),
            Err(down) => {
                self.said.events.clear();
                self.said.outputs.clear();
                let disk = self.servers[s].disk.get();
                // Then it ends, and the next start goes on where it was.
                let is_hindered = disk.memory.capacity_bytes.is_some() || disk.failures > failures;
                drop(disk);
                if let Down::Refused(why) = down
                    && !is_hindered
                {
                    let why = format!("server {}: its disk could not be changed: {why}", s + 1);
                    return Err(Violation { property: "recovery", why });
                }
                self.kill(s, kill.is_some_and(|(_, power)| power))
            }
        }
    }

    pub(super) fn carry_out(&mut self, s: usize, output: Output, echoes: &mut VecDeque<Input<'static>>) -> Step {
        let now_us = self.now_us;
        match output {
            Output::Send { connection, bytes } => {
                self.trace.mix(bytes.len() as u64);
                let (tcp, frames) = (connection.0 as TcpId, Payload::Frames(bytes));
                let bytes = self.network.send(now_us, tcp, 1, frames, &mut self.queue);
                if bytes > 0 {
                    echoes.push_back(Input::Sent { connection, bytes });
                }
            }
            Output::Close { connection } => {
                if self.network.is_open(connection.0 as TcpId, 1) {
                    self.network.close(now_us, connection.0 as TcpId, 1, &mut self.queue);
                    echoes.push_back(Input::Disconnected { connection });
                }
            }
            Output::PauseReading { connection } => {
                self.network.set_reading(now_us, connection.0 as TcpId, 1, false, &mut self.queue);
            }
            Output::ResumeReading { connection } => {
                self.network.set_reading(now_us, connection.0 as TcpId, 1, true, &mut self.queue);
            }
            Output::Notify { to, notification } => {
                let to = self.place(to);
                assert_ne!(to, s, "nobody writes to himself");
                self.trace.tell(Level::Everything, format_args!("{} -> {}: {notification:?}", s + 1, to + 1));
                self.network.notify(now_us, s, to, notification, &mut self.queue);
            }
            Output::AcceptLearners(accepts) => self.servers[s].accepts = accepts,
            Output::AcceptObservers(accepts) => self.servers[s].accepts_observers = accepts,
            Output::ConnectToMaster { master, limit_ms } => self.search(s, master, false, limit_ms)?,
            Output::ConnectToObserverMaster { master, limit_ms } => self.search(s, master, true, limit_ms)?,
            Output::ForgetMaster => self.servers[s].search = None,
            Output::LinkSend { link, message } => self.link_send(s, link, message, echoes)?,
            Output::LinkClose { link, why } => {
                self.trace.tell(Level::Story, format_args!("server {} closes {link:?}: {why}", s + 1));
                let (tcp, side) = tcp_of(link);
                self.network.close(now_us, tcp, side, &mut self.queue);
            }
            Output::RoleChanged(role) => {
                let server = &mut self.servers[s];
                if is_serving(&role) {
                    (server.impaired, server.may_give_up) = (false, false);
                }
                server.role = Some(role);
            }
            Output::ConfigSeen(config) => {
                self.trace.tell(Level::Story, format_args!("server {} sees {}", s + 1, config.next_file()));
                self.write_config(s, &MembersChange::Seen(config))?;
            }
            Output::ConfigActivated(config) => {
                self.trace.tell(Level::Story, format_args!("server {} activates {:x}", s + 1, config.version));
                self.write_config(s, &MembersChange::Activated(config))?;
            }
            Output::ConfigForgotten => {
                self.trace.tell(Level::Story, format_args!("server {} forgets what it had seen", s + 1));
                self.write_config(s, &MembersChange::Forgotten)?;
            }
            // Its clients find it wherever it is.
            Output::ClientAddressChanged { .. } => {}
            Output::Told(what) | Output::Warned(what) => {
                self.trace.tell(Level::Story, format_args!("server {}: {what}", s + 1))
            }
            other => unreachable!("carried out by the process: {other:?}"),
        }
        Ok(())
    }

    pub(super) fn link_send(
        &mut self,
        s: usize,
        link: LinkId,
        mut message: LinkMessage,
        echoes: &mut VecDeque<Input<'static>>,
    ) -> Step {
        let (tcp, side) = tcp_of(link);
        if let Some(receiver) = self.network.receiver(tcp, side)
            && (self.plan.speaks_java(s) || self.plan.speaks_java(receiver))
            && let LinkMessage::Packet(packet) = &mut message
            && let Some(protocol) = packet.protocol_mut()
        {
            // Who says so itself, or is told so of the other end, uses Java's protocol and nothing beyond it.
            *protocol = PROTOCOL_JAVA;
        }
        self.trace.mix(message.cost_bytes() as u64);
        self.trace.tell(Level::Everything, format_args!("{} on {link:?}: {message:?}", s + 1));
        if let (LinkMessage::Packet(Packet::Ack { zxid }), 0) = (&message, side) {
            self.tell(Event::Acked { server: self.servers[s].setup.server, through: *zxid })?;
        }
        if let LinkMessage::Packet(
            Packet::LeaderInfo { epoch, .. } | Packet::NextEpoch { epoch } | Packet::NextEpochAccepted { epoch },
        ) = &message
        {
            self.tell(Event::Promised { server: self.servers[s].setup.server, epoch: *epoch })?;
        }
        if let LinkMessage::Packet(Packet::NextEpochBegins { epoch }) = &message {
            self.tell(Event::EpochBegins { server: self.servers[s].setup.server, epoch: *epoch })?;
        }
        let bytes = self.network.send(self.now_us, tcp, side, Payload::Link(message), &mut self.queue);
        if bytes > 0 {
            echoes.push_back(Input::LinkSent { link, bytes });
        }
        Ok(())
    }

    /// The files of a configuration, durable before anything else goes on. The process may be killed in between, as it may be at
    /// any operation of its disk.
    fn write_config(&mut self, s: usize, change: &MembersChange) -> Step {
        for step in change.steps() {
            let server = &mut self.servers[s];
            if let Some((left, power)) = &mut server.kill_after_ops {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    let power = *power;
                    return self.kill(s, power);
                }
            }
            config_files::carry_out(&mut server.disk.get_mut().memory, step);
        }
        Ok(())
    }

    /// Whether its configurations say where another one is.
    pub(super) fn finds(&self, s: usize, other: ServerId) -> bool {
        let server = &self.servers[s];
        let written = server.setup.configs.as_ref().expect("a member");
        config_files::read(&server.disk.get().memory, written).member(other).is_some()
    }

    pub(super) fn place(&self, server: ServerId) -> usize {
        let place = server.0 as usize - 1;
        assert!(place < self.servers.len(), "{server:?} is nobody");
        place
    }
}
