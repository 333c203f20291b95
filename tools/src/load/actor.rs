//! One session under load: it writes below a node of its own, many requests in flight, and knows what each must answer.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::Result;
use crate::wire::{Client, Opened, Reply, Request, Ticket, code};

use super::model::{Node, Round, Seen, Tree, Write, Written, apply, data_of};
use super::random::Random;

const KEYS: u64 = 8;
const TWINS_MAX: usize = 4;
const EPHEMERALS_MAX: usize = 4;
const IN_FLIGHT_MAX: u64 = 48;

/// What a request in flight must answer.
#[derive(Debug)]
enum Expected {
    Write(usize),
    Refusal(i32),
    /// A read sees every write sent before it on the same session.
    Data(u64, i32),
    Nothing,
}

/// The server did what it must not; anything else may be a connection that broke.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub String);

/// What an actor has to know of the others' plans.
#[derive(Debug, Default)]
pub struct Course {
    /// The server is ended, or may be at any moment: that the connection breaks is no wonder.
    pub may_break: AtomicBool,
    /// Enough: what is under way is waited for.
    pub is_over: AtomicBool,
    shortages: AtomicU64,
}

impl Course {
    /// From now on writes may be refused for want of room, or no more.
    pub fn set_short(&self, is_short: bool) {
        if self.shortages.load(Ordering::SeqCst) % 2 != u64::from(is_short) {
            self.shortages.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// How often that began and ended: an odd number while it may be.
    pub fn shortages(&self) -> u64 {
        self.shortages.load(Ordering::SeqCst)
    }
}

#[derive(Debug)]
pub struct Actor {
    home: String,
    random: Random,
    next_value: u64,
    pub ticket: Option<Ticket>,
    pub round: Round,
    /// The tree after everything sent.
    sent: Tree,
    pub zxid_max: i64,
    pub answers: u64,
    /// Writes that a full disk had no room for.
    pub refusals: u64,
    /// On this connection.
    is_refused: bool,
    /// The course's, when this round began.
    shortages: u64,
    /// When the last answer came.
    pub heard: Instant,
}

impl Actor {
    /// `home` is a node that is there, and that nobody else touches.
    pub fn new(home: String, random: Random) -> Actor {
        Actor {
            home,
            random,
            next_value: 1,
            ticket: None,
            round: Round::default(),
            sent: Tree::new(),
            zxid_max: 0,
            answers: 0,
            refusals: 0,
            is_refused: false,
            shortages: 0,
            heard: Instant::now(),
        }
    }

    pub fn home(&self) -> &str {
        &self.home
    }

    /// Takes its session over, or opens one. `Err` when a session that must be alive is not.
    pub fn connect(&mut self, address: SocketAddr, timeout_ms: i32) -> Result<Client> {
        let opened = Client::open(address, timeout_ms, self.ticket, self.zxid_max)
            .map_err(|error| format!("{}: no connection: {error}", self.home))?;
        let Opened::Session(client) = opened else {
            return Err(format!("{}: session {:#x} is gone within its timeout", self.home, self.owner()).into());
        };
        if self.ticket.is_some_and(|ticket| ticket != client.ticket) {
            return Err(format!("{}: asked for {:?}, given {:?}", self.home, self.ticket, client.ticket).into());
        }
        self.ticket = Some(client.ticket);
        Ok(client)
    }

    /// Compares what the server shows with what this actor did, and begins a new round from there. Returns how many
    /// unanswered writes survived.
    pub fn check(&mut self, client: &mut Client) -> Result<usize> {
        self.check_after(client, false)
    }

    /// The session of the last round may have ended since, and its ephemerals with it.
    pub fn check_after(&mut self, client: &mut Client, is_expired: bool) -> Result<usize> {
        let seen = self.look(client)?;
        let owner = if is_expired { None } else { Some(self.owner()) };
        let (survived, tree) =
            self.round.survivors(&seen, owner).map_err(|why| Broken(format!("{}: {why}", self.home)))?;
        self.round = Round { base: tree, ..Round::default() };
        Ok(survived)
    }

    fn owner(&self) -> i64 {
        self.ticket.map_or(0, |ticket| ticket.id)
    }

    fn look(&self, client: &mut Client) -> Result<BTreeMap<String, Seen>> {
        let mut seen = BTreeMap::new();
        for name in client.ask(&Request::Children { path: self.home.clone() })?.children()? {
            let path = format!("{}/{name}", self.home);
            let (data, stat) = client.ask(&Request::Get { path: path.clone() })?.data()?;
            let (version, mzxid, ephemeral_owner) = (stat.version, stat.mzxid, stat.ephemeral_owner);
            seen.insert(path, Seen { data, version, mzxid, ephemeral_owner });
        }
        Ok(seen)
    }

    /// Sends and checks until the connection breaks, or it is enough. `Err` is a broken promise; that the connection broke
    /// when it may not is one too.
    pub fn load(&mut self, mut client: Client, course: &Course) -> Result<()> {
        let ended = |why: String| -> Result<()> {
            if course.may_break.load(Ordering::SeqCst) {
                Ok(())
            } else {
                Err(format!("the connection broke: {why}").into())
            }
        };
        self.sent = self.round.base.clone();
        let mut in_flight: VecDeque<(i32, Expected)> = VecDeque::new();
        let mut window = 1 + self.random.below(IN_FLIGHT_MAX);
        self.shortages = course.shortages();
        self.is_refused = false;
        loop {
            // After a refusal nobody knows what the next request must answer, before it is known what is there.
            let is_over = course.is_over.load(Ordering::SeqCst) || self.is_refused;
            if is_over && in_flight.is_empty() {
                return Ok(());
            }
            let mut frames = Vec::new();
            while !is_over && (in_flight.len() as u64) < window {
                let (request, expected) = self.next_request();
                let (xid, frame) = client.encode(&request);
                frames.extend(frame);
                in_flight.push_back((xid, expected));
            }
            if let Err(error) = client.send(&frames) {
                return ended(error.to_string());
            }
            loop {
                let reply = client.reply();
                self.look_out(course);
                let reply = match reply {
                    Ok(reply) => reply,
                    Err(error) => return ended(error.to_string()),
                };
                if let code::SESSION_EXPIRED | code::SESSION_MOVED = reply.code {
                    return ended(format!("error {}", reply.code));
                }
                self.heard = Instant::now();
                let (xid, expected) = in_flight.pop_front().ok_or("an answer to nothing")?;
                self.on_reply(xid, &expected, &reply).map_err(|why| format!("{}: {why}: {reply:?}", self.home))?;
                if in_flight.is_empty() || !client.has_buffered() {
                    break;
                }
            }
            if self.random.one_in(16) {
                window = 1 + self.random.below(IN_FLIGHT_MAX);
            }
        }
    }

    /// Whether a disk is full, or was since this round began.
    pub fn look_out(&mut self, course: &Course) {
        self.round.has_gaps |= self.shortages % 2 == 1 || course.shortages() != self.shortages;
    }

    fn on_reply(&mut self, xid: i32, expected: &Expected, reply: &Reply) -> Result<()> {
        self.answers += 1;
        if reply.xid != xid {
            return Err(format!("answer {} where {xid} was due", reply.xid).into());
        }
        if reply.zxid < self.zxid_max {
            return Err(format!("zxid went back from {:#x}", self.zxid_max).into());
        }
        let is_new = reply.zxid > self.zxid_max;
        self.zxid_max = reply.zxid;
        match expected {
            Expected::Write(number) => {
                assert_eq!(*number, self.round.answered(), "answers come in order");
                let answer = match reply.write_code()? {
                    code::OK if is_new => Some(reply.zxid),
                    code::OK => return Err("a write got a zxid that was seen before".into()),
                    code::SYSTEM_ERROR if self.round.has_gaps => None,
                    _ if self.is_refused => None, // it leaned on one that was refused
                    _ => return Err("a write that must succeed was refused".into()),
                };
                self.is_refused |= answer.is_none();
                self.refusals += u64::from(answer.is_none());
                self.round.answers.push(answer);
            }
            _ if self.is_refused => {}
            Expected::Refusal(_) if reply.write_code()? == code::SYSTEM_ERROR && self.round.has_gaps => {
                self.is_refused = true;
                self.refusals += 1;
            }
            Expected::Refusal(wanted) => {
                if reply.write_code()? != *wanted {
                    return Err(format!("{wanted} was due").into());
                }
            }
            Expected::Data(value, version) => {
                if reply.code != code::OK {
                    return Err("a read of a node that is there failed".into());
                }
                let (data, stat) = reply.data()?;
                if data != data_of(*value) || stat.version != *version {
                    return Err(format!("a read did not see the write before it: {value:#x}, version {version}").into());
                }
            }
            Expected::Nothing => {
                if reply.code != code::NO_NODE {
                    return Err("a read found what is not there".into());
                }
            }
        }
        Ok(())
    }

    fn next_request(&mut self) -> (Request, Expected) {
        let key = format!("{}/key-{}", self.home, self.random.below(KEYS));
        match self.random.below(100) {
            0..50 => self.put(&[key]),
            50..65 => self.put(&[format!("{}/pair-a", self.home), format!("{}/pair-b", self.home)]),
            65..75 => self.twins(),
            75..85 => self.ephemeral(),
            85..95 => self.get(key),
            _ => self.refused(key),
        }
    }

    /// Sets the nodes, or creates those that are not there; several in one transaction.
    fn put(&mut self, paths: &[String]) -> (Request, Expected) {
        let value = self.value();
        let mut parts = Vec::new();
        let mut effects = Vec::new();
        for path in paths {
            let (path, data) = (path.clone(), data_of(value));
            let version = self.sent.get(&path).map(|node| node.version);
            effects.push((path.clone(), Some(self.node(value, version.map_or(0, |version| version + 1), false))));
            parts.push(match version {
                Some(version) => Request::Set { path, data, version },
                None => Request::Create { path, data, ephemeral: false },
            });
        }
        self.write(parts, effects)
    }

    /// Creates two nodes in one transaction, or deletes the oldest two in one.
    fn twins(&mut self) -> (Request, Expected) {
        let prefix = format!("{}/twin-", self.home);
        let twins: Vec<String> = self.sent.keys().filter(|path| path.starts_with(&prefix)).cloned().collect();
        if twins.len() >= 2 * TWINS_MAX {
            let oldest = &twins[..2]; // names count upwards
            let parts = oldest.iter().map(|path| Request::Delete { path: path.clone() }).collect();
            return self.write(parts, oldest.iter().map(|path| (path.clone(), None)).collect());
        }
        let value = self.value();
        let paths = [format!("{prefix}{value:012}-a"), format!("{prefix}{value:012}-b")];
        let create = |path: &String| Request::Create { path: path.clone(), data: data_of(value), ephemeral: false };
        let parts = paths.iter().map(create).collect();
        let effects = paths.iter().map(|path| (path.clone(), Some(self.node(value, 0, false)))).collect();
        self.write(parts, effects)
    }

    fn ephemeral(&mut self) -> (Request, Expected) {
        let prefix = format!("{}/ephemeral-", self.home);
        let mine: Vec<String> = self.sent.keys().filter(|path| path.starts_with(&prefix)).cloned().collect();
        if mine.len() >= EPHEMERALS_MAX {
            let path = mine[0].clone();
            return self.write(vec![Request::Delete { path: path.clone() }], vec![(path, None)]);
        }
        let value = self.value();
        let path = format!("{prefix}{value:012}");
        let create = Request::Create { path: path.clone(), data: data_of(value), ephemeral: true };
        let node = self.node(value, 0, true);
        self.write(vec![create], vec![(path, Some(node))])
    }

    fn get(&mut self, path: String) -> (Request, Expected) {
        let expected = match self.sent.get(&path) {
            Some(node) => Expected::Data(node.value, node.version),
            None => Expected::Nothing,
        };
        (Request::Get { path }, expected)
    }

    /// Requests that must fail and leave nothing behind, some of them transactions whose first half is fine.
    fn refused(&mut self, key: String) -> (Request, Expected) {
        let data = data_of(u64::MAX); // must never be seen
        let Some(version) = self.sent.get(&key).map(|node| node.version) else {
            return (Request::Set { path: key, data, version: -1 }, Expected::Refusal(code::NO_NODE));
        };
        let stale = Request::Set { path: key.clone(), data: data.clone(), version: version + 100 };
        match self.random.below(3) {
            0 => (stale, Expected::Refusal(code::BAD_VERSION)),
            1 => (Request::Create { path: key, data, ephemeral: false }, Expected::Refusal(code::NODE_EXISTS)),
            _ => {
                let good = Request::Create { path: format!("{}/never", self.home), data, ephemeral: false };
                (Request::Multi(vec![good, stale]), Expected::Refusal(code::BAD_VERSION))
            }
        }
    }

    fn write(&mut self, mut parts: Vec<Request>, effects: Vec<(String, Option<Node>)>) -> (Request, Expected) {
        let request = if parts.len() == 1 { parts.remove(0) } else { Request::Multi(parts) };
        let write = Write { effects };
        apply(&mut self.sent, &write);
        self.round.writes.push(write);
        (request, Expected::Write(self.round.writes.len() - 1))
    }

    fn node(&self, value: u64, version: i32, is_ephemeral: bool) -> Node {
        Node { value, version, is_ephemeral, written: Written::By(self.round.writes.len()) }
    }

    fn value(&mut self) -> u64 {
        self.next_value += 1;
        self.next_value
    }
}
