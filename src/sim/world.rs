//! The world: everybody who is there, and what happens next.
//!
//!   safety: everything may be down, cut off, late or torn at any moment -> heal -> liveness: well again, in step, serving
//!
//! One happening after the other is taken from the queue; it ends as one input for one server or client, whose outputs make
//! new happenings. Whatever happens is told to the properties at once; the first broken promise ends the run.

use std::collections::{BTreeMap, VecDeque};

use super::chance::{Chance, Draw};
use super::client::{Client, ClientInput, ClientOutput, ClientPlan};
use super::clock::Clock;
use super::disk::SharedDisk;
use super::event::{Event, Moment, Settled, Violation};
use super::faults::FaultCounts;
use super::network::{Arrived, Network, Party, Payload};
use super::plan::{Plan, Wishes};
use super::properties::Properties;
use super::queue::{Happening, Queue, TcpId};
use super::server::{Down, End, Process, Said, Setup};
use super::strikes::Relief;
use super::trace::{Level, Sink, Trace};
use crate::core::{ConnectionId, Input, LinkId, LinkMessage, Output, RoleView, ServerId, Zxid};
use crate::wire::quorum::Packet;

/// Everybody must be seen to be well this often in a row before the run is over: what is only well for a moment is not.
const LOOKS_WELL: u32 = 3;
const LOOK_US: u64 = 100_000;

/// One server with its machine, up or down.
#[derive(Debug)]
pub(super) struct Server {
    pub setup: Setup,
    pub disk: SharedDisk,
    pub clock: Clock,
    /// Counts starts and ends.
    pub life: u32,
    pub process: Option<Process>,
    pub role: Option<RoleView>,
    /// Stuck: what comes meanwhile waits.
    pub paused: bool,
    backlog: VecDeque<Happening>,
    owed: VecDeque<Input<'static>>,
    /// Learners may connect.
    accepts: bool,
    search: Option<Search>,
    wake_us: Option<u64>,
    submit_decided: bool,
    spare_decided: bool,
    /// The process is killed after so many operations of its disk, or the machine loses its power.
    pub kill_after_ops: Option<(u64, bool)>,
    /// The same for the next start.
    pub kill_start_after_ops: Option<(u64, bool)>,
    /// How many times as long as usual an operation takes.
    pub disk_slowness: u64,
    /// Something of what it had promised may be gone, until a leader has given it everything anew.
    pub impaired: bool,
    /// It has joined an epoch, durably: it can tell a server with nothing that there is something.
    pub has_joined: bool,
}

/// A server looks for its master.
#[derive(Debug)]
struct Search {
    master: usize,
    until_us: u64,
    attempt: u32,
}

#[derive(Debug)]
struct ClientPlace {
    client: Client,
    connection: Option<TcpId>,
    /// The knock that is to become the connection.
    knock: Option<u32>,
    alarm: u32,
}

/// A connection that is being made.
#[derive(Debug)]
struct Knock {
    from: Party,
    to: usize,
    /// Of a search; None: a client.
    attempt: Option<u32>,
    tries: u32,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    pub seed: u64,
    pub trace_hash: u64,
    /// Inputs that nodes took.
    pub steps: u64,
    pub happenings: u64,
    pub virtual_us: u64,
    pub faults: FaultCounts,
    /// The newest transaction applied anywhere.
    pub applied: Zxid,
    pub violation: Option<Violation>,
}

#[derive(Debug)]
pub struct World {
    pub(super) plan: Plan,
    pub(super) now_us: u64,
    pub(super) queue: Queue,
    pub(super) network: Network,
    pub(super) servers: Vec<Server>,
    clients: Vec<ClientPlace>,
    properties: Properties,
    pub(super) trace: Trace,
    pub(super) chance: Chance,
    disk_chance: Chance,
    knocks: BTreeMap<u32, Knock>,
    pub(super) reliefs: BTreeMap<u32, Relief>,
    next_number: u32,
    pub(super) counts: FaultCounts,
    pub(super) healed: bool,
    looks_well: u32,
    said: Said,
    happenings: u64,
    /// Of processes that are gone.
    steps: u64,
    applied: Zxid,
    over: bool,
}

type Step = Result<(), Violation>;

impl World {
    pub fn new(seed: u64, wishes: &Wishes, level: Level, sink: Option<Sink>) -> World {
        let plan = Plan::draw(seed, wishes);
        let mut chance = Chance(seed ^ 0x5bd1_e995_9d1b_58a3);
        let servers = plan.setups();
        let network = Network::new(plan.network.clone(), servers.len(), plan.clients, chance.fork());
        let ids = plan.servers();
        let voters: Vec<ServerId> = ids[..plan.voters as usize].to_vec();
        let client = |client| {
            let plan = ClientPlan { client, servers: ids.clone(), tick_ms: plan.tick_ms, chance: chance.fork() };
            ClientPlace { client: Client::new(plan), connection: None, knock: None, alarm: 0 }
        };
        let clients = (0..plan.clients).map(client).collect();
        let mut world = World {
            now_us: 0,
            queue: Queue::default(),
            network,
            servers: Vec::new(),
            clients,
            properties: Properties::new(&voters),
            trace: Trace::new(level, sink),
            disk_chance: chance.fork(),
            knocks: BTreeMap::new(),
            reliefs: BTreeMap::new(),
            next_number: 0,
            counts: FaultCounts::default(),
            healed: false,
            looks_well: 0,
            said: Said::default(),
            happenings: 0,
            steps: 0,
            applied: Zxid::ZERO,
            over: false,
            chance,
            plan,
        };
        for setup in servers {
            let server = world.new_server(setup);
            world.servers.push(server);
        }
        world
    }

    /// Runs to the end, or to the first broken promise.
    pub fn run(&mut self) -> Outcome {
        match self.run_through() {
            Ok(()) => self.outcome(None),
            Err(violation) => self.ended_by(violation),
        }
    }

    /// The outcome of a run that ended before its time.
    pub fn ended_by(&mut self, violation: Violation) -> Outcome {
        self.trace.tell(Level::Story, format_args!("BROKEN {violation}"));
        self.outcome(Some(violation))
    }

    fn outcome(&self, violation: Option<Violation>) -> Outcome {
        Outcome {
            seed: self.plan.seed,
            trace_hash: self.trace.hash(),
            steps: self.steps(),
            happenings: self.happenings,
            virtual_us: self.now_us,
            faults: self.counts.clone(),
            applied: self.applied,
            violation,
        }
    }

    pub fn steps(&self) -> u64 {
        self.steps
            + self.servers.iter().filter_map(|server| server.process.as_ref()).map(|process| process.steps).sum::<u64>()
    }

    fn new_server(&mut self, setup: Setup) -> Server {
        let disk = SharedDisk::new(&mut self.chance);
        disk.get_mut().memory.sector_bytes = self.plan.disk.sector_bytes;
        Server {
            setup,
            disk,
            clock: Clock::new(self.chance.between(1..1_000_000_000_000)),
            life: 0,
            process: None,
            role: None,
            paused: false,
            backlog: VecDeque::new(),
            owed: VecDeque::new(),
            accepts: false,
            search: None,
            wake_us: None,
            submit_decided: false,
            spare_decided: false,
            kill_after_ops: None,
            kill_start_after_ops: None,
            disk_slowness: 1,
            impaired: false,
            has_joined: false,
        }
    }

    fn run_through(&mut self) -> Step {
        self.trace.tell(Level::Story, format_args!("{:?}", self.plan));
        for server in 0..self.servers.len() {
            let us = self.chance.below(100_000);
            self.queue.at(us, Happening::Start { server, life: 0 });
        }
        for client in 0..self.clients.len() {
            self.client_step(client, ClientInput::Began)?;
        }
        self.plan_faults();
        self.queue.at(self.plan.safety_us, Happening::Heal);
        while !self.over {
            let (us, happening) = self.queue.pop().expect("somebody always has a timer");
            self.now_us = us;
            self.trace.now_us = us;
            self.happenings += 1;
            self.trace.mix(us);
            self.happen(happening)?;
        }
        Ok(())
    }

    fn happen(&mut self, happening: Happening) -> Step {
        match happening {
            Happening::Wake { server, life } if self.is_for(server, life, happening) => self.wake(server),
            Happening::DiskSubmit { server, life } if self.is_for(server, life, happening) => {
                self.servers[server].submit_decided = false;
                self.submit(server)
            }
            Happening::DiskDone { server, life, op } if self.is_for(server, life, happening) => {
                self.disk_done(server, op)
            }
            Happening::Spare { server, life } if self.is_for(server, life, happening) => {
                self.servers[server].spare_decided = false;
                self.on_process(server, |process, setup, now, said| process.spare_time(setup, now, said))
            }
            Happening::MasterRetry { server, life, attempt } if self.is_for(server, life, happening) => {
                self.look_for_master(server, attempt)
            }
            Happening::Exit { server, life } if self.servers[server].life == life => self.exit(server),
            Happening::Start { server, life } if self.servers[server].life == life => self.start(server),
            Happening::Wake { .. }
            | Happening::DiskSubmit { .. }
            | Happening::DiskDone { .. }
            | Happening::Spare { .. }
            | Happening::MasterRetry { .. }
            | Happening::Exit { .. }
            | Happening::Start { .. } => Ok(()),
            Happening::Arrival { tcp, side } => match self.network.receiver(tcp, side) {
                Some(party) if self.waits(party, happening) => Ok(()),
                _ => self.arrival(tcp, side),
            },
            Happening::Knock { knock } => match self.knocks.get(&knock).map(|knock| knock.to) {
                Some(to) if self.waits(to, happening) => Ok(()),
                _ => self.knock(knock),
            },
            Happening::ElectionSent { from, to } => {
                let is_up = self.servers[to].process.is_some();
                self.network.election_sent(self.now_us, from, to, is_up, &mut self.queue);
                Ok(())
            }
            Happening::ElectionArrival { to, .. } if self.waits(to, happening) => Ok(()),
            Happening::ElectionArrival { from, to } => {
                match self.network.election_arrival(self.now_us, from, to, &mut self.queue) {
                    None => Ok(()),
                    Some(notification) => {
                        let from = self.servers[from].setup.server;
                        self.turn(to, Input::Notified { from, notification })
                    }
                }
            }
            Happening::ClientAlarm { client, alarm } => match self.clients[client].alarm == alarm {
                true => self.client_step(client, ClientInput::Woken),
                false => Ok(()),
            },
            Happening::Strike { fault } => self.strike(fault),
            Happening::Relief { relief } => self.relieve(relief),
            Happening::Heal => self.heal(),
            Happening::Look => self.look(),
        }
    }

    // --- servers ---

    /// What belongs to this life of the server, unless it is stuck: then it waits.
    fn is_for(&mut self, server: usize, life: u32, happening: Happening) -> bool {
        self.servers[server].life == life && self.servers[server].process.is_some() && !self.waits(server, happening)
    }

    fn waits(&mut self, party: Party, happening: Happening) -> bool {
        let Some(server) = self.servers.get_mut(party).filter(|server| server.paused) else { return false };
        server.backlog.push_back(happening);
        true
    }

    fn start(&mut self, s: usize) -> Step {
        let server = &mut self.servers[s];
        server.life += 1;
        let kill = server.kill_start_after_ops.take();
        server.disk.get_mut().limit_ops(kill.map(|(ops, _)| ops));
        let now = server.clock.now(self.now_us);
        let chance = self.chance.fork();
        match Process::start(&server.setup, &server.disk, now, chance, &mut self.said) {
            Ok(process) => {
                server.process = Some(process);
                self.after_turn(s)
            }
            Err(down) => self.did_not_start(s, down, kill.is_some_and(|(_, power)| power)),
        }
    }

    /// Killed while it started, or refused to.
    fn did_not_start(&mut self, s: usize, down: Down, power: bool) -> Step {
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
        self.tell(Event::Wiped { server: self.servers[s].setup.server })
    }

    fn start_later(&mut self, s: usize) {
        let delay_us = if self.healed { self.chance.about(100_000) } else { self.chance.any_size(1_000..8_000_000) };
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
        (server.paused, server.accepts, server.role) = (false, false, None);
        (server.search, server.wake_us, server.kill_after_ops) = (None, None, None);
        (server.submit_decided, server.spare_decided) = (false, false);
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
    fn exit(&mut self, s: usize) -> Step {
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

    fn wake(&mut self, s: usize) -> Step {
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
    fn give(&mut self, s: usize, input: Input<'static>) -> Step {
        match self.servers[s].paused {
            true => {
                self.servers[s].owed.push_back(input);
                Ok(())
            }
            false => self.turn(s, input),
        }
    }

    fn on_process(&mut self, s: usize, act: impl FnOnce(&mut Process, &Setup, crate::core::Now, &mut Said)) -> Step {
        let server = &mut self.servers[s];
        let Some(process) = &mut server.process else { return Ok(()) };
        let now = server.clock.now(self.now_us);
        act(process, &server.setup, now, &mut self.said);
        self.after_turn(s)
    }

    /// Everything that a turn of this server means for the others, and when it has its next.
    fn after_turn(&mut self, s: usize) -> Step {
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
            }
            self.said.outputs = outputs;
            let Some(input) = echoes.pop_front() else { break };
            let server = &mut self.servers[s];
            let Some(process) = &mut server.process else { return Ok(()) };
            process.turn(&server.setup, server.clock.now(self.now_us), input, &mut self.said);
        }
        self.decide_next_turns(s)
    }

    fn decide_next_turns(&mut self, s: usize) -> Step {
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

    fn submit(&mut self, s: usize) -> Step {
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

    fn disk_done(&mut self, s: usize, op: usize) -> Step {
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
    fn change_disk(&mut self, s: usize) -> Step {
        let server = &mut self.servers[s];
        let kill = server.kill_after_ops.take();
        server.disk.get_mut().limit_ops(kill.map(|(ops, _)| ops.max(1)));
        let process = server.process.as_mut().expect("it wants its disk changed");
        let now = server.clock.now(self.now_us);
        match process.change_disk(&server.setup, &server.disk, now, &mut self.said) {
            Ok(()) => self.after_turn(s),
            Err(down) => {
                self.said.events.clear();
                self.said.outputs.clear();
                let is_full = self.servers[s].disk.get().memory.capacity_bytes.is_some();
                if let Down::Refused(why) = down
                    && !is_full
                {
                    let why = format!("server {}: its disk could not be changed: {why}", s + 1);
                    return Err(Violation { property: "recovery", why });
                }
                self.kill(s, kill.is_some_and(|(_, power)| power))
            }
        }
    }

    fn carry_out(&mut self, s: usize, output: Output, echoes: &mut VecDeque<Input<'static>>) -> Step {
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
            Output::ConnectToMaster { master, limit_ms } => {
                let (master, attempt) = (self.place(master), self.number());
                let until_us = now_us + limit_ms * 1000;
                self.servers[s].search = Some(Search { master, until_us, attempt });
                self.look_for_master(s, attempt)?;
            }
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
                    server.impaired = false;
                }
                server.role = Some(role);
            }
            Output::Told(what) => self.trace.tell(Level::Story, format_args!("server {}: {what}", s + 1)),
            other => unreachable!("carried out by the process: {other:?}"),
        }
        Ok(())
    }

    fn link_send(
        &mut self,
        s: usize,
        link: LinkId,
        message: LinkMessage,
        echoes: &mut VecDeque<Input<'static>>,
    ) -> Step {
        let (tcp, side) = tcp_of(link);
        self.trace.mix(message.cost_bytes() as u64);
        self.trace.tell(Level::Everything, format_args!("{} on {link:?}: {message:?}", s + 1));
        if let (LinkMessage::Packet(Packet::Ack { zxid }), 0) = (&message, side) {
            self.tell(Event::Acked { server: self.servers[s].setup.server, through: *zxid })?;
        }
        let bytes = self.network.send(self.now_us, tcp, side, Payload::Link(message), &mut self.queue);
        if bytes > 0 {
            echoes.push_back(Input::LinkSent { link, bytes });
        }
        Ok(())
    }

    fn place(&self, server: ServerId) -> usize {
        let place = server.0 as usize - 1;
        assert!(place < self.servers.len(), "{server:?} is nobody");
        place
    }

    // --- connections ---

    pub(super) fn number(&mut self) -> u32 {
        self.next_number += 1;
        self.next_number
    }

    fn look_for_master(&mut self, s: usize, attempt: u32) -> Step {
        let (now_us, server) = (self.now_us, &mut self.servers[s]);
        let Some(search) = server.search.as_ref().filter(|search| search.attempt == attempt) else { return Ok(()) };
        if now_us >= search.until_us {
            server.search = None;
            return self.turn(s, Input::MasterUnreachable);
        }
        let (to, life, until_us) = (search.master, server.life, search.until_us);
        self.knock_at(s, to, Some(attempt));
        let again_us = (now_us + self.chance.about(100_000)).min(until_us);
        self.queue.at(again_us, Happening::MasterRetry { server: s, life, attempt });
        Ok(())
    }

    fn knock_at(&mut self, from: Party, to: usize, attempt: Option<u32>) -> u32 {
        let knock = self.number();
        self.knocks.insert(knock, Knock { from, to, attempt, tries: 0 });
        let latency_us = self.network.latency_us(from, to);
        self.queue.at(self.now_us + latency_us, Happening::Knock { knock });
        knock
    }

    fn knock(&mut self, number: u32) -> Step {
        let Some(mut knock) = self.knocks.remove(&number) else { return Ok(()) };
        let (from, to) = (knock.from, knock.to);
        let is_wanted = match knock.attempt {
            None => self.clients[from - self.servers.len()].knock == Some(number),
            Some(attempt) => self.servers[from].search.as_ref().is_some_and(|search| search.attempt == attempt),
        };
        if !is_wanted {
            return Ok(());
        }
        if self.network.is_cut(from, to) || self.network.is_cut(to, from) {
            // As TCP does, and then the shell.
            knock.tries += 1;
            if knock.tries < 4 {
                let again_us = self.now_us + self.chance.about(1_000_000);
                self.knocks.insert(number, knock);
                self.queue.at(again_us, Happening::Knock { knock: number });
                return Ok(());
            }
            return self.not_connected(from);
        }
        let server = &self.servers[to];
        if server.process.is_none() || (knock.attempt.is_some() && !server.accepts) {
            return self.not_connected(from);
        }
        let tcp = self.network.connect(self.now_us, from, to, knock.attempt, &mut self.queue);
        match knock.attempt {
            Some(_) => self.turn(to, Input::LearnerConnected { link: link_of(tcp, 1) }),
            None => {
                let client = from - self.servers.len();
                (self.clients[client].connection, self.clients[client].knock) = (Some(tcp), None);
                let address = [10, 1, (client >> 8) as u8, client as u8];
                let peer = (address, 1024 + (tcp % 60_000) as u16).into();
                self.turn(to, Input::Connected { connection: ConnectionId(tcp.into()), peer })
            }
        }
    }

    /// A server tries again by itself.
    fn not_connected(&mut self, from: Party) -> Step {
        match from.checked_sub(self.servers.len()) {
            None => Ok(()),
            Some(client) => {
                self.clients[client].knock = None;
                self.client_step(client, ClientInput::Closed)
            }
        }
    }

    fn arrival(&mut self, tcp: TcpId, side: usize) -> Step {
        let Some(arrived) = self.network.arrival(self.now_us, tcp, side, &mut self.queue) else { return Ok(()) };
        let Arrived { party, sender, payload, opened, taken_bytes } = arrived;
        if taken_bytes > 0 && sender < self.servers.len() && self.network.is_open(tcp, side) {
            let is_client = party >= self.servers.len();
            let bytes = taken_bytes;
            self.give(
                sender,
                match is_client {
                    true => Input::Sent { connection: ConnectionId(tcp.into()), bytes },
                    false => Input::LinkSent { link: link_of(tcp, side), bytes },
                },
            )?;
        }
        let here = 1 - side;
        match payload {
            None => Ok(()),
            Some(Payload::Opened { attempt: None }) => self.client_arrival(party, tcp, ClientInput::Connected),
            Some(Payload::Opened { attempt }) => {
                let search = &mut self.servers[party].search;
                if search.as_ref().map(|search| search.attempt) == attempt {
                    *search = None;
                    return self.turn(party, Input::MasterConnected { link: link_of(tcp, here) });
                }
                self.network.close(self.now_us, tcp, here, &mut self.queue);
                Ok(())
            }
            Some(Payload::Link(message)) => self.turn(party, Input::LinkReceived { link: link_of(tcp, here), message }),
            Some(Payload::Frames(frames)) if party >= self.servers.len() => {
                self.client_arrival(party, tcp, ClientInput::Received(&frames))
            }
            Some(Payload::Frames(frames)) => {
                self.turn(party, Input::Received { connection: ConnectionId(tcp.into()), frames: &frames })
            }
            Some(Payload::End) if party >= self.servers.len() => self.client_arrival(party, tcp, ClientInput::Closed),
            Some(Payload::End) if sender >= self.servers.len() => {
                self.turn(party, Input::Disconnected { connection: ConnectionId(tcp.into()) })
            }
            // Of one that was never opened here nothing is known here.
            Some(Payload::End) if here == 0 && !opened => Ok(()),
            Some(Payload::End) => self.turn(party, Input::LinkClosed { link: link_of(tcp, here) }),
        }
    }

    // --- clients ---

    fn client_arrival(&mut self, party: Party, tcp: TcpId, input: ClientInput<'_>) -> Step {
        let client = party - self.servers.len();
        if self.clients[client].connection != Some(tcp) {
            return Ok(());
        }
        if matches!(input, ClientInput::Closed) {
            self.clients[client].connection = None;
        }
        self.client_step(client, input)
    }

    fn client_step(&mut self, client: usize, input: ClientInput<'_>) -> Step {
        let mut outputs = Vec::new();
        self.clients[client].client.step(self.now_us, input, &mut outputs);
        for output in outputs {
            match output {
                ClientOutput::Connect { server } => {
                    match self.chance.coin() {
                        true => self.client_closes(client),
                        false => self.client_forgets(client),
                    }
                    let knock = self.knock_at(self.servers.len() + client, server, None);
                    self.clients[client].knock = Some(knock);
                }
                ClientOutput::Send(frames) => {
                    self.trace.mix(frames.len() as u64);
                    if let Some(tcp) = self.clients[client].connection {
                        self.network.send(self.now_us, tcp, 0, Payload::Frames(frames), &mut self.queue);
                    }
                }
                ClientOutput::Close => self.client_closes(client),
                ClientOutput::Reading(reading) => {
                    if let Some(tcp) = self.clients[client].connection {
                        self.network.set_reading(self.now_us, tcp, 0, reading, &mut self.queue);
                    }
                }
                ClientOutput::WakeAt(us) => {
                    let place = &mut self.clients[client];
                    place.alarm += 1;
                    let alarm = place.alarm;
                    self.queue.at(us.max(self.now_us), Happening::ClientAlarm { client, alarm });
                }
                ClientOutput::Event(event) => self.tell(Event::Client(event))?,
            }
        }
        Ok(())
    }

    fn client_closes(&mut self, client: usize) {
        let place = &mut self.clients[client];
        place.knock = None;
        if let Some(tcp) = place.connection.take() {
            self.network.close(self.now_us, tcp, 0, &mut self.queue);
        }
    }

    /// The other end never hears of it: a laptop that was closed.
    fn client_forgets(&mut self, client: usize) {
        let place = &mut self.clients[client];
        place.knock = None;
        if let Some(tcp) = place.connection.take() {
            self.network.forget(self.now_us, tcp, 0, &mut self.queue);
        }
    }

    // --- the properties, and the end ---

    pub(super) fn tell(&mut self, event: Event) -> Step {
        match &event {
            Event::Logged { zxid, .. } => self.trace.mix(zxid.0),
            Event::Applied { zxid, digest, .. } => {
                self.applied = self.applied.max(*zxid);
                self.trace.mix(zxid.0);
                self.trace.mix(*digest);
            }
            Event::Started { server, epochs, .. } => {
                self.servers[server.0 as usize - 1].has_joined |= epochs.current > 0
            }
            Event::EpochStored { server, kind: crate::core::EpochKind::Current, .. } => {
                self.servers[server.0 as usize - 1].has_joined = true;
            }
            _ => {}
        }
        let level = match &event {
            Event::Started { .. }
            | Event::Crashed { .. }
            | Event::Wiped { .. }
            | Event::Role { .. }
            | Event::Healed => Level::Story,
            Event::EpochStored { .. }
            | Event::Truncating { .. }
            | Event::Installing { .. }
            | Event::Reloaded { .. } => Level::Story,
            _ => Level::Events,
        };
        if self.trace.tells(level) {
            self.trace.tell(level, format_args!("{event:?}"));
        }
        self.properties.observe(Moment { us: self.now_us }, &event)
    }

    /// No more faults: everybody is up, and can reach everybody.
    fn heal(&mut self) -> Step {
        self.healed = true;
        for relief in self.reliefs.keys().copied().collect::<Vec<_>>() {
            self.relieve(relief)?;
        }
        for s in 0..self.servers.len() {
            let server = &mut self.servers[s];
            (server.kill_after_ops, server.kill_start_after_ops) = (None, None);
            let mut disk = server.disk.get_mut();
            (disk.fail_write, disk.fail_flush) = (None, false);
            drop(disk);
            if server.process.is_none() {
                self.start_later(s);
            }
        }
        self.tell(Event::Healed)?;
        for client in 0..self.clients.len() {
            self.client_step(client, ClientInput::Healed)?;
        }
        self.queue.at(self.now_us + LOOK_US, Happening::Look);
        Ok(())
    }

    /// Is everybody well, and in step?
    fn look(&mut self) -> Step {
        let unwell = self.unwell();
        self.looks_well = if unwell.is_none() { self.looks_well + 1 } else { 0 };
        if self.looks_well == LOOKS_WELL {
            self.over = true;
            let settled: Vec<Settled> = self.settled().collect();
            return self.properties.at_end(Moment { us: self.now_us }, &settled);
        }
        if self.now_us > self.plan.safety_us + self.plan.liveness_us
            && let Some(why) = unwell
        {
            return Err(Violation { property: "liveness", why });
        }
        self.queue.at(self.now_us + LOOK_US, Happening::Look);
        Ok(())
    }

    fn settled(&self) -> impl Iterator<Item = Settled> {
        let voters = self.plan.voters;
        self.servers.iter().filter_map(move |server| {
            let (node, id) = (&server.process.as_ref()?.node, server.setup.server);
            let (applied, digest) = (node.last_processed(), node.tree().digest());
            Some(Settled { server: id, applied, digest, voter: id.0 <= voters })
        })
    }

    /// What is not as it should be, in a sentence.
    fn unwell(&self) -> Option<String> {
        let down = self.servers.iter().find(|server| server.process.is_none());
        if let Some(server) = down {
            return Some(format!("{:?} is down", server.setup.server));
        }
        if self.plan.is_ensemble() {
            let leaders = self
                .servers
                .iter()
                .filter(|server| matches!(server.role, Some(RoleView::Leading { serving: true, .. })));
            let leaders = leaders.count();
            if leaders != 1 {
                return Some(format!("{leaders} servers lead"));
            }
            let idle = self.servers.iter().find(|server| !server.role.as_ref().is_some_and(is_serving));
            if let Some(server) = idle {
                return Some(format!("{:?} does not serve: {:?}", server.setup.server, server.role));
            }
        }
        let settled: Vec<Settled> = self.settled().collect();
        let first = settled.first()?;
        if let Some(other) = settled.iter().find(|other| (other.applied, other.digest) != (first.applied, first.digest))
        {
            return Some(format!("{first:?} and {other:?} differ"));
        }
        let client = self.clients.iter().position(|place| !place.client.is_content());
        client.map(|client| format!("client {client} is not served"))
    }
}

pub(super) fn is_serving(role: &RoleView) -> bool {
    match role {
        RoleView::Looking { .. } => false,
        RoleView::Following { serving, .. }
        | RoleView::Observing { serving, .. }
        | RoleView::Leading { serving, .. } => *serving,
    }
}

/// The ends of a connection have different names.
fn link_of(tcp: TcpId, side: usize) -> LinkId {
    LinkId(u64::from(tcp) * 2 + side as u64)
}

fn tcp_of(link: LinkId) -> (TcpId, usize) {
    ((link.0 / 2) as TcpId, (link.0 % 2) as usize)
}
