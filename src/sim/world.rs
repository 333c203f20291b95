//! The world: everybody who is there, and what happens next.
//!
//!   safety: everything may be down, cut off, late or torn at any moment -> heal -> liveness: well again, in step, serving
//!
//! One happening after the other is taken from the queue; it ends as one input for one server or client, whose outputs make
//! new happenings. Whatever happens is told to the properties at once; the first broken promise ends the run.

use std::collections::{BTreeMap, VecDeque};

use super::chance::{Chance, Draw};
use super::client::{Client, ClientInput, ClientPlan};
use super::clock::Clock;
use super::disk::SharedDisk;
use super::event::{Event, Moment, Violation};
use super::faults::FaultCounts;
use super::network::{Network, Party};
use super::plan::{Emphasis, Plan, Wishes};
use super::properties::Properties;
use super::queue::{Happening, Queue, TcpId};
use super::server::{Process, Said, Setup};
use super::strikes::Relief;
use super::trace::{Level, Sink, Trace};
use crate::core::zab::membership::Membership;
use crate::core::{EpochKind, Input, RoleView, Standing, Zxid};
use crate::wire::txn::{Txn, decode_txn};

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
    pub(super) backlog: VecDeque<Happening>,
    pub(super) owed: VecDeque<Input<'static>>,
    /// Learners may connect.
    pub(super) accepts: bool,
    /// Observers may connect, at a door of their own.
    pub(super) accepts_observers: bool,
    pub(super) search: Option<Search>,
    pub(super) wake_us: Option<u64>,
    pub(super) submit_decided: bool,
    pub(super) spare_decided: bool,
    pub(super) turn_decided: bool,
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
    /// What it has may be given up, because its leader wants it cut where there is nothing to cut at.
    pub may_give_up: bool,
}

/// A server looks for its master.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) master: usize,
    /// At which door.
    pub(super) observes: bool,
    pub(super) until_us: u64,
    pub(super) attempt: u32,
}

#[derive(Debug)]
pub(super) struct ClientPlace {
    pub(super) client: Client,
    pub(super) connection: Option<TcpId>,
    /// The knock that is to become the connection.
    pub(super) knock: Option<u32>,
    /// The next one, and when.
    pub(super) alarm: u32,
    pub(super) alarm_us: Option<u64>,
}

/// A connection that is being made.
#[derive(Debug)]
pub(super) struct Knock {
    pub(super) from: Party,
    pub(super) to: usize,
    /// Of a search; None: a client.
    pub(super) attempt: Option<u32>,
    pub(super) tries: u32,
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
    /// It ended where nobody can lead, and nobody owes that anybody does: see `settling.rs`.
    pub hopeless: bool,
    pub violation: Option<Violation>,
}

#[derive(Debug)]
pub struct World {
    pub(super) plan: Plan,
    pub(super) now_us: u64,
    pub(super) queue: Queue,
    pub(super) network: Network,
    pub(super) servers: Vec<Server>,
    pub(super) clients: Vec<ClientPlace>,
    pub(super) properties: Properties,
    pub(super) trace: Trace,
    pub(super) chance: Chance,
    pub(super) disk_chance: Chance,
    pub(super) knocks: BTreeMap<u32, Knock>,
    pub(super) reliefs: BTreeMap<u32, Relief>,
    pub(super) next_number: u32,
    pub(super) counts: FaultCounts,
    /// Configurations that were proposed, and may yet be in force.
    pub(super) proposed: Vec<Membership>,
    /// The next leader at a turning point is stranded there.
    pub(super) strands_next: bool,
    pub(super) healed: bool,
    pub(super) looks_well: u32,
    pub(super) said: Said,
    pub(super) happenings: u64,
    /// Of processes that are gone.
    pub(super) steps: u64,
    pub(super) applied: Zxid,
    pub(super) over: bool,
    pub(super) hopeless: bool,
}

/// A turn of the world, until a promise is broken.
pub(super) type Step = Result<(), Violation>;

impl World {
    pub fn new(seed: u64, wishes: &Wishes, level: Level, sink: Option<Sink>) -> World {
        let plan = Plan::draw(seed, wishes);
        let mut chance = Chance(seed ^ 0x5bd1_e995_9d1b_58a3);
        let servers = plan.setups();
        let network = Network::new(plan.network.clone(), servers.len(), plan.all_clients(), chance.fork());
        let ids = plan.servers();
        let client = |client| {
            let plan = ClientPlan {
                client,
                servers: ids.clone(),
                tick_ms: plan.tick_ms,
                hoards: plan.emphasis == Emphasis::Ephemerals,
                administers: (client == plan.clients).then_some(ids.len() as i64),
                chance: chance.fork(),
            };
            ClientPlace { client: Client::new(plan), connection: None, knock: None, alarm: 0, alarm_us: None }
        };
        let clients = (0..plan.all_clients()).map(client).collect();
        let mut world = World {
            now_us: 0,
            queue: Queue::default(),
            network,
            servers: Vec::new(),
            clients,
            properties: Properties::new(&plan.membership()),
            trace: Trace::new(level, sink),
            disk_chance: chance.fork(),
            knocks: BTreeMap::new(),
            reliefs: BTreeMap::new(),
            next_number: 0,
            counts: FaultCounts::default(),
            proposed: Vec::new(),
            strands_next: false,
            healed: false,
            looks_well: 0,
            said: Said::default(),
            happenings: 0,
            steps: 0,
            applied: Zxid::ZERO,
            over: false,
            hopeless: false,
            chance,
            plan,
        };
        for setup in servers {
            let server = world.new_server(setup);
            world.servers.push(server);
        }
        world.slow_observers_down(world.plan.observer_slowness);
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
            hopeless: self.hopeless,
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
            accepts_observers: false,
            search: None,
            wake_us: None,
            submit_decided: false,
            spare_decided: false,
            turn_decided: false,
            kill_after_ops: None,
            kill_start_after_ops: None,
            disk_slowness: 1,
            impaired: false,
            has_joined: false,
            may_give_up: false,
        }
    }

    /// Observers are often far away.
    pub(super) fn slow_observers_down(&mut self, times: u64) {
        for observer in self.plan.voters as usize..self.servers.len() {
            for server in 0..self.servers.len() {
                self.network.set_slowness(observer, server, times);
                self.network.set_slowness(server, observer, times);
            }
        }
    }

    fn run_through(&mut self) -> Step {
        self.trace.tell(Level::Story, format_args!("{:?}", self.plan));
        if let Some(upgrading) = self.plan.local_sessions {
            self.tell(Event::LocalSessions { upgrading })?;
        }
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
            Happening::NextTurn { server, life } if self.is_for(server, life, happening) => {
                self.servers[server].turn_decided = false;
                self.turn(server, Input::NextTurn)
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
            | Happening::NextTurn { .. }
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
                true => {
                    self.clients[client].alarm_us = None;
                    self.client_step(client, ClientInput::Woken)
                }
                false => Ok(()),
            },
            Happening::Strike { fault } => self.strike(fault),
            Happening::Strand if !self.healed => {
                self.strand();
                Ok(())
            }
            Happening::Strand => Ok(()),
            Happening::Relief { relief } => self.relieve(relief),
            Happening::Heal => self.heal(),
            Happening::Look => self.look(),
        }
    }

    /// Of those that may decide, now or later.
    fn note_proposed(&mut self, txn: &[u8]) {
        if let Ok((_, Txn::Reconfig { data: Some(text), .. }, _)) = decode_txn(txn)
            && let Ok(config) = Membership::parse(text)
        {
            let in_force = self.properties.truth().membership().version;
            self.proposed.retain(|proposed| proposed.version > in_force && proposed.version != config.version);
            self.proposed.push(config);
            self.strand_later();
        }
    }

    /// The configuration in force, as far as anybody knows, and those that may take its place.
    pub(super) fn memberships(&self) -> impl Iterator<Item = &Membership> {
        let in_force = self.properties.truth().membership();
        let later = self.proposed.iter().filter(|proposed| proposed.version > in_force.version);
        std::iter::once(in_force).chain(later)
    }

    // --- the properties ---

    pub(super) fn tell(&mut self, event: Event) -> Step {
        match &event {
            Event::Logged { zxid, txn, .. } => {
                self.trace.mix(zxid.0);
                if self.plan.reconfigures.is_some() {
                    self.note_proposed(txn);
                }
            }
            Event::Applied { zxid, digest, .. } => {
                self.applied = self.applied.max(*zxid);
                self.trace.mix(zxid.0);
                self.trace.mix(*digest);
            }
            // Where no currentEpoch is stored, the epoch of the newest transaction stands in for it.
            Event::Started { server, epochs, standing: Standing::Whole, .. } => {
                self.servers[server.0 as usize - 1].has_joined |= epochs.current > 0;
            }
            Event::Role { role: RoleView::Leading { serving: false, .. }, .. } => self.strand_later(),
            // Epoch 0 is nobody's: who founds the ensemble has nothing to tell of yet.
            Event::EpochStored { server, kind: EpochKind::Current, epoch } => {
                self.servers[server.0 as usize - 1].has_joined |= *epoch > 0;
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
}
