//! A client of the ensemble: what it asks, what it makes of the answers, when it looks for another server.
//!
//! It has one connection at a time, which is TCP: what is sent arrives in order or not at all. A pure state machine: the world
//! gives it time, chance and frames.
//!
//!   Apart --WakeAt--> Connecting --Connected--> Greeting --the session is ours--> Open --lost, or had enough--> Apart
//!
//! It behaves as the clients in use do: it pings at a third of its timeout, gives a server up that is silent for two thirds,
//! resumes its session elsewhere with everything at once (handshake, watches, requests), and never asks twice for what got no
//! answer. And as clients do now and then: it leaves a connection open behind its back, moves without a reason, closes its session,
//! forgets it, goes silent, or reads nothing for a while.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::rc::Rc;

use ringkeeper_storage::backend::memory::Chance;

use super::history::{Answered, Asked, ClientEvent, Link, Notified, Op, Path, WatchLists};
use super::workload::Workload;
use crate::core::ServerId;
use crate::wire::ErrorCode;
use crate::wire::client::connect::PASSWORD_BYTES;
use crate::wire::client::{
    AddWatchMode, ConnectRequest, ConnectResponse, EventKind, ReplyHeader, WatcherEvent, WatcherType, xid,
};
use crate::wire::frame::Frames;
use crate::wire::jute::{Limits, Reader};

/// What can happen to a client.
#[derive(Debug)]
pub enum ClientInput<'a> {
    /// It may begin: the first input, once.
    Began,
    /// `ClientOutput::Connect` succeeded.
    Connected,
    /// One or more complete frames, each with its length.
    Received(&'a [u8]),
    /// The connection broke, or could not be made. Not said of one that this client gave up itself.
    Closed,
    /// The moment of `ClientOutput::WakeAt` has come.
    Woken,
    /// No more faults from here on; finish what was begun, then be content (`Client::is_content`).
    Healed,
}

/// What a client wants done.
#[derive(Debug)]
pub enum ClientOutput {
    /// Connect to the server of this place in the list; the connection there was before is given up.
    Connect { server: usize },
    /// Complete frames, each with its length. Without a connection they are lost.
    Send(Vec<u8>),
    /// Give the connection up: what was sent may still arrive.
    Close,
    /// Whether this client takes bytes out of its socket. A new connection begins with yes.
    Reading(bool),
    /// One alarm a client; a later one takes its place. The world's microseconds.
    WakeAt(u64),
    /// For the properties.
    Event(ClientEvent),
}

/// What the world decided about a client.
#[derive(Clone, Debug)]
pub struct ClientPlan {
    /// Its number, from 0.
    pub client: usize,
    pub servers: Vec<ServerId>,
    pub tick_ms: u32,
    /// Makes ephemerals more than anything else.
    pub hoards: bool,
    /// Changes who of these many servers belongs to the ensemble.
    pub administers: Option<i64>,
    pub chance: Chance,
}

/// Requests on their way, at most.
const OUTSTANDING_MAX: usize = 64;
/// Before a client tries to connect again, at most.
const PAUSE_US_MAX: u64 = 400_000;

/// How one client is, for a whole run.
#[derive(Debug)]
struct Temper {
    timeout_ms: i32,
    /// Between two looks at what to do next, at most.
    think_us: u64,
    /// Requests at once, at most.
    burst: u64,
    /// In a thousand decisions: how many are not just another request.
    moods: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Without a connection, until it tries again.
    Apart {
        until_us: u64,
    },
    Connecting {
        since_us: u64,
    },
    /// The handshake is sent.
    Greeting {
        since_us: u64,
    },
    Open,
}

/// What a session is known by.
#[derive(Clone, Copy, Debug)]
struct Ticket {
    id: i64,
    password: [u8; PASSWORD_BYTES],
}

/// Whether the liveness phase has given this client what it wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finale {
    NotYet,
    Asked,
    Content,
}

#[derive(Debug)]
pub struct Client {
    plan: ClientPlan,
    temper: Temper,
    workload: Workload,
    phase: Phase,
    server: usize,
    link: Link,
    ticket: Option<Ticket>,
    timeout_us: u64,
    /// Highest zxid of any reply of this session. Java: `lastZxid`.
    seen: i64,
    next_xid: i32,
    outstanding: VecDeque<Rc<Asked>>,
    watches: Watches,
    heard_us: u64,
    sent_us: u64,
    act_us: u64,
    /// Says nothing until then, not even a ping.
    silent_until_us: u64,
    /// Reads nothing until then.
    deaf_until_us: Option<u64>,
    /// Connections in a row that came to nothing.
    misses: u32,
    closing: bool,
    healed: bool,
    finale: Finale,
    finale_xids: Range<i32>,
}

impl Client {
    pub fn new(mut plan: ClientPlan) -> Client {
        let chance = &mut plan.chance;
        let tick_ms = u64::from(plan.tick_ms);
        let think_ms_max = [5, 50, 400][chance.below(3) as usize];
        let burst_max = [1, 4, 16][chance.below(3) as usize];
        let temper = Temper {
            timeout_ms: (2 * tick_ms + chance.below(4 * tick_ms)) as i32,
            think_us: 1000 * (1 + chance.below(think_ms_max)),
            burst: 1 + chance.below(burst_max),
            moods: chance.below(60),
        };
        // Not faster than anything could come of it.
        let temper = match plan.administers {
            Some(_) => Temper { think_us: 1000 * (tick_ms + chance.below(8 * tick_ms)), burst: 1, ..temper },
            None => temper,
        };
        Client {
            workload: Workload::new(plan.client, plan.hoards, plan.administers),
            phase: Phase::Apart { until_us: 0 },
            server: 0,
            link: Link { client: plan.client as u32, number: 0 },
            ticket: None,
            timeout_us: temper.timeout_ms as u64 * 1000,
            seen: 0,
            next_xid: 1,
            outstanding: VecDeque::new(),
            watches: Watches::default(),
            heard_us: 0,
            sent_us: 0,
            act_us: 0,
            silent_until_us: 0,
            deaf_until_us: None,
            misses: 0,
            closing: false,
            healed: false,
            finale: Finale::NotYet,
            finale_xids: 0..0,
            temper,
            plan,
        }
    }

    /// After `Healed`: it was served everything it still wanted.
    pub fn is_content(&self) -> bool {
        self.finale == Finale::Content
    }

    /// Consumes one input; effects go to `out`.
    pub fn step(&mut self, now_us: u64, input: ClientInput<'_>, out: &mut Vec<ClientOutput>) {
        match input {
            ClientInput::Began => self.phase = Phase::Apart { until_us: now_us + self.think() },
            ClientInput::Connected => self.greet(now_us, out),
            ClientInput::Received(frames) => {
                self.heard_us = now_us;
                for payload in Frames::new(frames) {
                    match self.phase {
                        Phase::Greeting { .. } => self.on_greeted(now_us, payload, out),
                        Phase::Open => self.on_reply(now_us, payload, out),
                        // Given up while these bytes were being looked at.
                        Phase::Apart { .. } | Phase::Connecting { .. } => break,
                    }
                }
            }
            ClientInput::Closed => {
                if self.has_link() {
                    self.lose(now_us, out);
                } else {
                    self.part(now_us);
                }
            }
            ClientInput::Woken => self.on_time(now_us, out),
            ClientInput::Healed => {
                self.healed = true;
                self.silent_until_us = 0;
                self.deaf_until_us = self.deaf_until_us.map(|_| now_us);
                self.on_time(now_us, out);
            }
        }
        out.push(ClientOutput::WakeAt(self.wake_us()));
    }

    fn has_link(&self) -> bool {
        matches!(self.phase, Phase::Greeting { .. } | Phase::Open)
    }

    /// The next moment at which something is to be done without being told.
    fn wake_us(&self) -> u64 {
        match self.phase {
            Phase::Apart { until_us } => until_us,
            Phase::Connecting { since_us } | Phase::Greeting { since_us } => since_us + self.patience_us(),
            Phase::Open => {
                let ping = self.silent_until_us.max(self.sent_us + self.timeout_us / 3);
                let act = self.silent_until_us.max(self.act_us);
                match self.deaf_until_us {
                    Some(deaf_until_us) => deaf_until_us.min(ping),
                    None => act.min(ping).min(self.heard_us + self.patience_us()),
                }
            }
        }
    }

    /// How long a server may be silent. Java: two thirds of the session's timeout.
    fn patience_us(&self) -> u64 {
        self.timeout_us * 2 / 3
    }

    fn think(&mut self) -> u64 {
        1 + self.plan.chance.below(self.temper.think_us)
    }

    fn on_time(&mut self, now_us: u64, out: &mut Vec<ClientOutput>) {
        match self.phase {
            Phase::Apart { until_us } if now_us >= until_us => self.connect(now_us, out),
            Phase::Apart { .. } => {}
            Phase::Connecting { since_us } if now_us >= since_us + self.patience_us() => self.connect(now_us, out),
            Phase::Greeting { since_us } if now_us >= since_us + self.patience_us() => self.lose(now_us, out),
            Phase::Connecting { .. } | Phase::Greeting { .. } => {}
            Phase::Open => self.on_time_open(now_us, out),
        }
    }

    fn on_time_open(&mut self, now_us: u64, out: &mut Vec<ClientOutput>) {
        if let Some(deaf_until_us) = self.deaf_until_us {
            if now_us >= deaf_until_us {
                self.deaf_until_us = None;
                self.heard_us = now_us; // the fault was not the server's
                out.push(ClientOutput::Reading(true));
            }
        } else if now_us >= self.heard_us + self.patience_us() {
            return self.lose(now_us, out);
        }
        if now_us < self.silent_until_us {
            return;
        }
        if now_us >= self.act_us && self.deaf_until_us.is_none() {
            self.act_us = now_us + self.think();
            self.act(now_us, out);
        }
        if self.phase == Phase::Open && now_us >= self.sent_us + self.timeout_us / 3 {
            self.send(now_us, vec![Op::Ping], out);
        }
    }

    fn act(&mut self, now_us: u64, out: &mut Vec<ClientOutput>) {
        if self.closing || self.outstanding.len() >= OUTSTANDING_MAX {
            return;
        }
        if self.healed {
            if self.finale == Finale::NotYet {
                self.finale = Finale::Asked;
                let last_words = self.workload.last_words().to_vec();
                let first = self.next_xid;
                self.send(now_us, last_words, out);
                self.finale_xids = first..self.next_xid;
            }
            return;
        }
        if self.plan.chance.below(1000) < self.temper.moods {
            return self.be_moody(now_us, out);
        }
        let count = 1 + self.plan.chance.below(self.temper.burst);
        let ops = (0..count).map(|_| self.workload.next(&mut self.plan.chance)).collect();
        self.send(now_us, ops, out);
    }

    fn be_moody(&mut self, now_us: u64, out: &mut Vec<ClientOutput>) {
        match self.plan.chance.below(10) {
            0 => {
                self.closing = true;
                self.send(now_us, vec![Op::Close], out);
            }
            1 => {
                self.lose(now_us, out);
                self.forget_session(out);
            }
            2..6 => {
                // Another server at once; sometimes the old connection stays open on the other side, and what was sent on it
                // arrives beside what is sent on the new one.
                if self.plan.chance.coin() {
                    out.push(ClientOutput::Close);
                }
                self.lose(now_us, out);
                self.connect(now_us, out);
            }
            6..8 => self.silent_until_us = now_us + self.plan.chance.below(self.timeout_us * 5 / 2),
            _ => {
                self.deaf_until_us = Some(now_us + 1 + self.plan.chance.below(self.timeout_us / 2));
                out.push(ClientOutput::Reading(false));
            }
        }
    }

    fn connect(&mut self, now_us: u64, out: &mut Vec<ClientOutput>) {
        self.server = self.plan.chance.below(self.plan.servers.len() as u64) as usize;
        self.link.number += 1;
        self.phase = Phase::Connecting { since_us: now_us };
        out.push(ClientOutput::Connect { server: self.server });
    }

    /// Everything at once, as Java's client does: who resumes a session need not wait for the answer.
    fn greet(&mut self, now_us: u64, out: &mut Vec<ClientOutput>) {
        if !matches!(self.phase, Phase::Connecting { .. }) {
            return;
        }
        self.phase = Phase::Greeting { since_us: now_us };
        (self.heard_us, self.sent_us) = (now_us, now_us);
        let mut frames = Vec::new();
        ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: self.seen,
            timeout_ms: self.temper.timeout_ms,
            session_id: self.ticket.map_or(0, |ticket| ticket.id),
            password: Some(&self.ticket.map_or([0; PASSWORD_BYTES], |ticket| ticket.password)),
            read_only: Some(false),
        }
        .encode(&mut frames);
        out.push(ClientOutput::Event(ClientEvent::Connecting {
            link: self.link,
            server: self.plan.servers[self.server],
            resumes: self.ticket.map(|ticket| ticket.id),
            seen: self.seen,
        }));
        out.push(ClientOutput::Send(frames));
        if self.ticket.is_some() {
            let mut ops = Vec::new();
            let lists = self.watches.lists(self.seen);
            if !lists.is_empty() {
                ops.push(Op::SetWatches(lists));
            }
            if !self.healed && self.plan.chance.below(4) == 0 {
                ops.push(self.workload.next(&mut self.plan.chance));
            }
            if !ops.is_empty() {
                self.send(now_us, ops, out);
            }
        }
    }

    fn on_greeted(&mut self, now_us: u64, payload: &[u8], out: &mut Vec<ClientOutput>) {
        let response = match ConnectResponse::decode(payload) {
            Ok(response) => response,
            Err(why) => return self.garbled(now_us, format!("a handshake nobody can read: {why}"), out),
        };
        if response.timeout_ms <= 0 {
            let Some(ticket) = self.ticket else {
                return self.garbled(now_us, "a new session was refused as expired".to_owned(), out);
            };
            out.push(ClientOutput::Event(ClientEvent::Refused { link: self.link, session: ticket.id }));
            self.lose(now_us, out);
            return self.forget(None);
        }
        if let Some(ticket) = self.ticket
            && (ticket.id, ticket.password) != (response.session_id, response.password)
        {
            let why = format!("asked for session {:#x}, given {:#x}", ticket.id, response.session_id);
            return self.garbled(now_us, why, out);
        }
        self.ticket = Some(Ticket { id: response.session_id, password: response.password });
        self.timeout_us = response.timeout_ms as u64 * 1000;
        self.phase = Phase::Open;
        self.misses = 0;
        self.act_us = now_us + self.think();
        out.push(ClientOutput::Event(ClientEvent::Welcomed {
            link: self.link,
            session: response.session_id,
            timeout_ms: response.timeout_ms,
        }));
    }

    fn on_reply(&mut self, now_us: u64, payload: &[u8], out: &mut Vec<ClientOutput>) {
        let mut reader = Reader::new(payload, &Limits::FORMAT);
        let header = match ReplyHeader::decode(&mut reader) {
            Ok(header) => header,
            Err(why) => return self.garbled(now_us, format!("a reply without a header: {why}"), out),
        };
        let body = reader.rest();
        if header.xid == xid::NOTIFICATION {
            let event = match WatcherEvent::decode(body) {
                Ok(event) => event,
                Err(why) => return self.garbled(now_us, format!("a notification nobody can read: {why}"), out),
            };
            let path: Path = (&*event.path).into();
            self.watches.fired(event.kind, &path);
            let notified = Notified { link: self.link, zxid: header.zxid, kind: event.kind, path };
            return out.push(ClientOutput::Event(ClientEvent::Notified(notified)));
        }
        let Some(asked) = self.outstanding.pop_front() else {
            return self.garbled(now_us, format!("a reply to nothing, with xid {}", header.xid), out);
        };
        if header.zxid > 0 {
            self.seen = header.zxid;
        }
        let answered = Answered { asked, xid: header.xid, zxid: header.zxid, err: header.err, body: body.into() };
        self.workload.learn(&answered);
        self.watches.answered(&answered);
        let closed = matches!(answered.asked.op, Op::Close) && answered.err == 0;
        if self.finale == Finale::Asked && answered.asked.xid >= self.finale_xids.start {
            if answered.err != 0 {
                self.finale = Finale::NotYet;
            } else if answered.asked.xid + 1 == self.finale_xids.end {
                self.finale = Finale::Content;
            }
        }
        out.push(ClientOutput::Event(ClientEvent::Answered(answered)));
        if closed {
            self.lose(now_us, out);
            self.forget(None);
        } else if self.closing && self.outstanding.is_empty() {
            self.closing = false; // refused: the session goes on
        }
    }

    fn send(&mut self, now_us: u64, ops: Vec<Op>, out: &mut Vec<ClientOutput>) {
        let Some(session) = self.ticket.map(|ticket| ticket.id) else { return };
        let mut frames = Vec::new();
        for op in ops {
            let xid = op.own_xid().unwrap_or_else(|| {
                self.next_xid += 1;
                self.next_xid - 1
            });
            op.encode(xid, &mut frames);
            let asked = Rc::new(Asked { link: self.link, session, xid, op });
            self.outstanding.push_back(asked.clone());
            out.push(ClientOutput::Event(ClientEvent::Sent(asked)));
        }
        self.sent_us = now_us;
        out.push(ClientOutput::Send(frames));
    }

    /// Done with this connection, whoever ended it. What was asked on it and not answered stays unknown for good.
    fn lose(&mut self, now_us: u64, out: &mut Vec<ClientOutput>) {
        out.push(ClientOutput::Event(ClientEvent::Lost { link: self.link }));
        self.outstanding.clear();
        self.deaf_until_us = None;
        if self.finale == Finale::Asked {
            self.finale = Finale::NotYet;
        }
        self.part(now_us);
        // The end of the session may have been heard or not; nobody asks for it again.
        if std::mem::take(&mut self.closing) {
            self.forget_session(out);
        }
    }

    fn part(&mut self, now_us: u64) {
        // Who was turned away again and again is in no hurry, as Java's client is not.
        let pause_us = (self.think() << self.misses.min(8)).min(PAUSE_US_MAX);
        self.misses += 1;
        self.phase = Phase::Apart { until_us: self.silent_until_us.max(now_us + pause_us) };
    }

    fn forget_session(&mut self, out: &mut Vec<ClientOutput>) {
        self.forget(Some(out));
    }

    /// The session is over for this client; `out` hears of it unless the servers said so themselves.
    fn forget(&mut self, out: Option<&mut Vec<ClientOutput>>) {
        if let (Some(out), Some(ticket)) = (out, self.ticket) {
            out.push(ClientOutput::Event(ClientEvent::GaveUp { session: ticket.id }));
        }
        self.ticket = None;
        self.closing = false;
        self.watches = Watches::default();
        self.timeout_us = self.temper.timeout_ms as u64 * 1000;
        // `seen` stays: a new session of this client does not go back either.
    }

    fn garbled(&mut self, now_us: u64, why: String, out: &mut Vec<ClientOutput>) {
        out.push(ClientOutput::Event(ClientEvent::Garbled { link: self.link, why }));
        out.push(ClientOutput::Close);
        self.lose(now_us, out);
    }
}

/// The watches a client believes to be armed. Java: `ZKWatchManager`.
#[derive(Debug, Default)]
struct Watches {
    data: BTreeSet<Path>,
    exist: BTreeSet<Path>,
    child: BTreeSet<Path>,
    persistent: BTreeSet<Path>,
    recursive: BTreeSet<Path>,
}

impl Watches {
    fn lists(&self, since: i64) -> WatchLists {
        let list = |paths: &BTreeSet<Path>| paths.iter().cloned().collect();
        WatchLists {
            since,
            data: list(&self.data),
            exist: list(&self.exist),
            child: list(&self.child),
            persistent: list(&self.persistent),
            recursive: list(&self.recursive),
        }
    }

    fn answered(&mut self, answered: &Answered) {
        let ok = answered.err == 0;
        let inserted = match &answered.asked.op {
            Op::Get { path, watch: true } | Op::Exists { path, watch: true } if ok => (&mut self.data, path),
            Op::Exists { path, watch: true } if answered.err == ErrorCode::NoNode.number() => (&mut self.exist, path),
            Op::Children { path, watch: true, .. } if ok => (&mut self.child, path),
            Op::AddWatch { path, mode: AddWatchMode::Persistent } if ok => (&mut self.persistent, path),
            Op::AddWatch { path, mode: AddWatchMode::PersistentRecursive } if ok => (&mut self.recursive, path),
            Op::RemoveWatches { path, kind } if ok => return self.removed(path, *kind),
            _ => return,
        };
        inserted.0.insert(inserted.1.clone());
    }

    fn removed(&mut self, path: &Path, kind: WatcherType) {
        let any = kind == WatcherType::Any;
        for (set, of) in [
            (&mut self.data, WatcherType::Data),
            (&mut self.exist, WatcherType::Data),
            (&mut self.child, WatcherType::Children),
            (&mut self.persistent, WatcherType::Persistent),
            (&mut self.recursive, WatcherType::PersistentRecursive),
        ] {
            if any || kind == of {
                set.remove(path);
            }
        }
    }

    fn fired(&mut self, kind: EventKind, path: &Path) {
        match kind {
            EventKind::NodeCreated | EventKind::NodeDataChanged => {
                self.data.remove(path);
                self.exist.remove(path);
            }
            EventKind::NodeDeleted => {
                self.data.remove(path);
                self.exist.remove(path);
                self.child.remove(path);
            }
            EventKind::NodeChildrenChanged => {
                self.child.remove(path);
            }
        }
    }
}
