//! Clients and properties against one real node, without a world round it: connections that never break by themselves, and a log
//! that becomes durable after a while. Whatever the clients think of, a server without faults keeps every promise; and a server
//! whose answers are tampered with does not.

use std::collections::{BTreeMap, VecDeque};

use super::chance::Chance;
use super::client::{Client, ClientInput, ClientOutput, ClientPlan};
use super::event::{Event, Moment, Settled, Violation};
use super::properties::Properties;
use crate::core::replay::Replay;
use crate::core::tree::TreeOptions;
use crate::core::zab::membership::Membership;
use crate::core::{ConnectionId, Epochs, Input, Node, Now, Output, RoleView, ServerId, Settings, Standing, Zxid};

const SERVER: ServerId = ServerId(1);
const TICK_MS: u32 = 100;
const SAFETY_US: u64 = 1_500_000;

/// What happens when.
#[derive(Debug)]
enum Next {
    Alarm { client: usize, alarm: u64 },
    Connected { client: usize, connection: u64 },
    ToServer { connection: u64, bytes: Vec<u8> },
    ToClient { connection: u64, bytes: Vec<u8> },
    ClosedByClient { connection: u64 },
    ClosedByServer { connection: u64 },
    Durable { through: Zxid },
    Tick,
}

#[derive(Debug)]
struct Place {
    client: Client,
    connection: Option<u64>,
    alarm: u64,
    reading: bool,
    /// What lies in its socket, unread.
    unread: VecDeque<Vec<u8>>,
}

/// How a byte string for a client is changed on its way, if it is.
type Tamper = fn(&mut Vec<u8>, &mut Chance);

struct Solo {
    now_us: u64,
    queue: BTreeMap<(u64, u64), Next>,
    queued: u64,
    node: Node,
    clients: Vec<Place>,
    properties: Properties,
    chance: Chance,
    connections: u64,
    owners: BTreeMap<u64, usize>,
    /// When the latest bytes each way arrive: connections keep their order.
    latest: BTreeMap<(u64, bool), u64>,
    applied: Zxid,
    answers: u64,
    tamper: Option<Tamper>,
}

impl Solo {
    fn new(seed: u64, clients: usize, tamper: Option<Tamper>) -> Solo {
        let mut chance = Chance(seed);
        let settings = Settings {
            tick_ms: TICK_MS,
            session_timeout_min_ms: 2 * TICK_MS as i32,
            session_timeout_max_ms: 20 * TICK_MS as i32,
            container_check_interval_ms: 500,
            ..Settings::default()
        };
        let node = Node::standalone(settings, Replay::empty(TreeOptions::default()).finish(), Now::default());
        let place = |client| {
            let chance = Chance(chance.draw());
            let plan = ClientPlan {
                client,
                servers: vec![SERVER],
                tick_ms: TICK_MS,
                hoards: false,
                administers: None,
                chance,
            };
            Place { client: Client::new(plan), connection: None, alarm: 0, reading: true, unread: VecDeque::new() }
        };
        let clients = (0..clients).map(place).collect();
        Solo {
            now_us: 0,
            queue: BTreeMap::new(),
            queued: 0,
            node,
            clients,
            properties: Properties::new(&Membership::of(1, 0)),
            chance: Chance(seed ^ 0xabcd),
            connections: 0,
            owners: BTreeMap::new(),
            latest: BTreeMap::new(),
            applied: Zxid::ZERO,
            answers: 0,
            tamper,
        }
    }

    /// So long with moods, then until everybody is content.
    fn run(&mut self, us: u64) -> Result<(), Violation> {
        let digest = self.node.tree().digest();
        let (last, epochs) = (Zxid::ZERO, Epochs { accepted: 0, current: 0 });
        self.tell(Event::Started { server: SERVER, last, digest, epochs, standing: Standing::Whole })?;
        self.tell(Event::Role { server: SERVER, role: RoleView::Leading { epoch: 0, serving: true } })?;
        self.after(0, Next::Tick);
        for client in 0..self.clients.len() {
            self.client_step(client, ClientInput::Began)?;
        }
        while self.now_us < us {
            self.next()?;
        }
        self.tell(Event::Healed)?;
        for client in 0..self.clients.len() {
            self.client_step(client, ClientInput::Healed)?;
        }
        let limit_us = self.now_us + 100_000_000;
        while !self.clients.iter().all(|place| place.client.is_content()) {
            assert!(self.now_us < limit_us, "a client is never content: {:?}", self.clients);
            self.next()?;
        }
        let settled = Settled { server: SERVER, applied: self.applied, digest: self.node.tree().digest(), voter: true };
        self.properties.at_end(Moment { us: self.now_us }, &[settled])
    }

    fn next(&mut self) -> Result<(), Violation> {
        let ((us, _), next) = self.queue.pop_first().expect("there is always a tick");
        self.now_us = us;
        match next {
            Next::Alarm { client, alarm } if self.clients[client].alarm == alarm => {
                self.client_step(client, ClientInput::Woken)
            }
            Next::Alarm { .. } => Ok(()),
            Next::Connected { client, connection } if self.clients[client].connection == Some(connection) => {
                let peer = ([127, 0, 0, 1], 1).into();
                self.node_step(Input::Connected { connection: ConnectionId(connection), peer })?;
                self.client_step(client, ClientInput::Connected)
            }
            Next::Connected { .. } => Ok(()),
            Next::ToServer { connection, bytes } if self.owners.contains_key(&connection) => {
                self.node_step(Input::Received { connection: ConnectionId(connection), frames: &bytes })
            }
            Next::ToServer { .. } => Ok(()),
            Next::ToClient { connection, bytes } => self.arrive(connection, bytes),
            Next::ClosedByClient { connection } => match self.owners.remove(&connection) {
                Some(_) => self.node_step(Input::Disconnected { connection: ConnectionId(connection) }),
                None => Ok(()),
            },
            Next::ClosedByServer { connection } => match self.reader(connection) {
                Some(client) => {
                    self.clients[client].connection = None;
                    self.clients[client].unread.clear();
                    self.client_step(client, ClientInput::Closed)
                }
                None => Ok(()),
            },
            Next::Durable { through } => {
                self.tell(Event::Durable { server: SERVER, through })?;
                self.node_step(Input::LogDurable { through })
            }
            Next::Tick => {
                self.after(u64::from(TICK_MS) * 500, Next::Tick);
                self.node_step(Input::Tick)
            }
        }
    }

    /// Whose connection it is, if it still is.
    fn reader(&self, connection: u64) -> Option<usize> {
        self.clients.iter().position(|place| place.connection == Some(connection))
    }

    fn arrive(&mut self, connection: u64, bytes: Vec<u8>) -> Result<(), Violation> {
        let Some(client) = self.reader(connection) else { return Ok(()) };
        self.clients[client].unread.push_back(bytes);
        while self.clients[client].reading
            && self.clients[client].connection == Some(connection)
            && let Some(bytes) = self.clients[client].unread.pop_front()
        {
            self.answers += 1;
            self.client_step(client, ClientInput::Received(&bytes))?;
            if self.owners.contains_key(&connection) {
                self.node_step(Input::Sent { connection: ConnectionId(connection), bytes: bytes.len() })?;
            }
        }
        Ok(())
    }

    fn node_step(&mut self, input: Input<'_>) -> Result<(), Violation> {
        let now = Now { mono_us: self.now_us, wall_ms: (self.now_us / 1000) as i64 };
        let mut out = Vec::new();
        self.node.step(now, input, &mut out);
        if self.node.last_processed() != self.applied {
            self.applied = self.node.last_processed();
            let digest = self.node.tree().digest();
            self.tell(Event::Applied { server: SERVER, zxid: self.applied, digest })?;
        }
        self.node.flush(&mut out);
        let mut logged = None;
        for output in out {
            match output {
                Output::Log { zxid, txn } => {
                    self.tell(Event::Logged { server: SERVER, zxid, txn })?;
                    logged = Some(zxid);
                }
                Output::Send { connection: ConnectionId(connection), mut bytes } => {
                    if let Some(tamper) = self.tamper {
                        tamper(&mut bytes, &mut self.chance);
                    }
                    self.travel(connection, true, Next::ToClient { connection, bytes });
                }
                Output::Close { connection: ConnectionId(connection) } => {
                    self.travel(connection, true, Next::ClosedByServer { connection });
                    self.after(0, Next::ClosedByClient { connection });
                }
                _ => {}
            }
        }
        if let Some(through) = logged {
            let latency = 100 + self.chance.below(3000);
            self.in_order((u64::MAX, true), latency, Next::Durable { through });
        }
        if self.node.wants_turn() {
            return self.node_step(Input::NextTurn);
        }
        Ok(())
    }

    fn client_step(&mut self, client: usize, input: ClientInput<'_>) -> Result<(), Violation> {
        let mut out = Vec::new();
        self.clients[client].client.step(self.now_us, input, &mut out);
        for output in out {
            match output {
                // The connection before it stays open on the other side, as when a client's machine goes away.
                ClientOutput::Connect { .. } => {
                    self.connections += 1;
                    let connection = self.connections;
                    let place = &mut self.clients[client];
                    (place.connection, place.reading) = (Some(connection), true);
                    place.unread.clear();
                    self.owners.insert(connection, client);
                    self.travel(connection, false, Next::Connected { client, connection });
                }
                ClientOutput::Send(bytes) => {
                    if let Some(connection) = self.clients[client].connection {
                        self.travel(connection, false, Next::ToServer { connection, bytes });
                    }
                }
                ClientOutput::Close => {
                    if let Some(connection) = self.clients[client].connection.take() {
                        self.travel(connection, false, Next::ClosedByClient { connection });
                    }
                }
                ClientOutput::Reading(reading) => {
                    self.clients[client].reading = reading;
                    // A look into the socket.
                    if let Some(connection) = self.clients[client].connection.filter(|_| reading) {
                        self.after(0, Next::ToClient { connection, bytes: Vec::new() });
                    }
                }
                ClientOutput::WakeAt(us) => {
                    let place = &mut self.clients[client];
                    place.alarm += 1;
                    let alarm = place.alarm;
                    self.after(us.saturating_sub(self.now_us), Next::Alarm { client, alarm });
                }
                ClientOutput::Event(event) => self.tell(Event::Client(event))?,
            }
        }
        Ok(())
    }

    fn tell(&mut self, event: Event) -> Result<(), Violation> {
        self.properties.observe(Moment { us: self.now_us }, &event)
    }

    fn travel(&mut self, connection: u64, to_client: bool, next: Next) {
        let latency = 50 + self.chance.below(2000);
        self.in_order((connection, to_client), latency, next);
    }

    fn in_order(&mut self, way: (u64, bool), latency_us: u64, next: Next) {
        let latest = self.latest.entry(way).or_default();
        *latest = (*latest).max(self.now_us + latency_us);
        let at_us = *latest;
        self.after(at_us - self.now_us, next);
    }

    fn after(&mut self, us: u64, next: Next) {
        self.queued += 1;
        self.queue.insert((self.now_us + us, self.queued), next);
    }
}

#[test]
fn a_server_without_faults_keeps_every_promise() {
    for seed in 0..8 {
        let mut solo = Solo::new(seed, 1 + seed as usize % 6, None);
        if let Err(violation) = solo.run(SAFETY_US) {
            panic!("seed {seed}, {} us: {violation}", solo.now_us);
        }
        assert!(solo.answers > 20 && solo.applied.0 > 20, "seed {seed}: {} answers, {}", solo.answers, solo.applied);
    }
}

/// What a server must not do is noticed by each of these properties, in one run or another.
#[track_caller]
fn noticed(tamper: Tamper, by: &[&'static str]) {
    let mut missing = by.to_vec();
    for seed in 0..200 {
        if let Err(violation) = Solo::new(seed, 4, Some(tamper)).run(SAFETY_US) {
            missing.retain(|name| *name != violation.property);
        }
        if missing.is_empty() {
            return;
        }
    }
    panic!("{missing:?} never noticed");
}

/// The first frame of a run that is longer than a handshake, with its xid, if it has one.
fn first_frame(bytes: &[u8]) -> Option<(usize, i32)> {
    let length = u32::from_be_bytes(*bytes.first_chunk()?) as usize;
    let xid = i32::from_be_bytes(*bytes.get(4..)?.first_chunk()?);
    (length != 37).then_some((4 + length, xid))
}

#[test]
fn tampering_with_answers_is_noticed() {
    let lost_event: Tamper = |bytes, _| {
        if let Some((length, -1)) = first_frame(bytes) {
            bytes.drain(..length);
        }
    };
    noticed(lost_event, &["watch_before_data"]);

    let late_event: Tamper = |bytes, _| {
        if let Some((length, -1)) = first_frame(bytes)
            && bytes.len() > length
        {
            bytes.rotate_left(length);
        }
    };
    noticed(late_event, &["watch_before_data"]);

    let older_zxid: Tamper = |bytes, chance| {
        if let Some((_, xid)) = first_frame(bytes)
            && xid > 0
            && bytes[15] > 1
            && chance.below(20) == 0
        {
            bytes[15] -= 1;
        }
    };
    noticed(older_zxid, &["session_zxid", "reads_show_their_zxid", "linearizable_writes"]);

    let other_data: Tamper = |bytes, chance| {
        if let Some((length, xid)) = first_frame(bytes)
            && xid > 0
            && length > 90
            && chance.below(20) == 0
        {
            bytes[28] ^= 1;
        }
    };
    noticed(other_data, &["reads_show_their_zxid"]);
}
