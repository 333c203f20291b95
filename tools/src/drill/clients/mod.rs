//! Who loads the ensemble, and what each of them insists on.
//!
//!   `writer`    `load::actor`, many requests in flight below a node of its own: every answer is known beforehand, and after each
//!               reconnection the node shows what a prefix of the requests leaves, with every answered one in it
//!   `rival`     sets the same registers and asks for the same names, one request at a time: `ledger`
//!   `visitors`  sessions whose end is the question: closed, or never heard of again
//!
//! Each goes where somebody answers. A session that moves begins with a write of its own: once that is answered, whatever went
//! through the former door is done or never will be, since no other door may write for the session from then on.

mod rival;
mod visitors;
mod writer;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use rival::Rival;
pub use visitors::Visitors;
pub use writer::Writer;

use super::ledger::{Ledger, value_of};
use crate::load::actor::{Broken, Course};
use crate::load::model::data_of;
use crate::load::random::Random;
use crate::wire::{Client, Opened, Reply, Request, Ticket};
use crate::{Result, patiently};

pub const ROOT: &str = "/drill";
pub const NAMES: &str = "/drill/names";
const VISITORS: &str = "/drill/visitors";
pub const REGISTERS: usize = 4;

/// So long no session of the load ends by itself, in an ensemble that is well.
pub const UNTOUCHED: Duration = Duration::from_secs(4);
/// For an answer; then another server is asked.
const PATIENCE: Duration = Duration::from_secs(2);
const RETRY_PAUSE: Duration = Duration::from_millis(10);
const CHECKER_BOUND: Duration = Duration::from_secs(10);

pub fn register(at: usize) -> String {
    format!("{ROOT}/register-{at}")
}

/// What all clients share.
pub struct Ground {
    pub addresses: Vec<SocketAddr>,
    /// The timeout of the load's sessions.
    pub session_ms: i32,
    pub ledger: Mutex<Ledger>,
    pub course: Course,
    pub pulse: Pulse,
    /// What a leader may not have heard yet of a session's life: a session ends so much earlier at most.
    pub unheard: Duration,
    pub answers: AtomicU64,
    pub expiries: AtomicU64,
    pub visits: AtomicU64,
    /// Writes that a full disk had no room for.
    pub refusals: AtomicU64,
    broken: Mutex<Option<String>>,
}

impl Ground {
    pub fn new(addresses: Vec<SocketAddr>, session_ms: i32, unheard: Duration) -> Ground {
        let course = Course::default();
        course.may_break.store(true, Ordering::SeqCst);
        Ground {
            addresses,
            session_ms,
            ledger: Mutex::new(Ledger::new(REGISTERS)),
            course,
            pulse: Pulse::default(),
            unheard: unheard + PATIENCE,
            answers: AtomicU64::new(0),
            expiries: AtomicU64::new(0),
            visits: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
            broken: Mutex::default(),
        }
    }

    /// The first promise that was broken.
    pub fn broken(&self) -> Option<String> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn note(&self, who: &str, outcome: Result<()>) {
        if let Err(why) = outcome {
            self.broken.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(format!("{who}: {why}"));
            self.course.is_over.store(true, Ordering::SeqCst);
        }
    }

    fn is_over(&self) -> bool {
        self.course.is_over.load(Ordering::SeqCst)
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How writes are answered over time: how soon after a certain moment, and how long nobody was answered since then.
#[derive(Debug, Default)]
pub struct Pulse(Mutex<Option<Beats>>);

#[derive(Clone, Copy, Debug)]
pub struct Beats {
    begin: Instant,
    last: Instant,
    /// From the beginning to the first answer to a write that was sent after it.
    pub first: Option<Duration>,
    /// The longest time without an answer to anybody, and to one who kept asking.
    pub silence: Duration,
    pub client_silence: Duration,
}

impl Pulse {
    pub fn begin(&self) {
        let begin = Instant::now();
        let none = Duration::ZERO;
        *self.lock() = Some(Beats { begin, last: begin, first: None, silence: none, client_silence: none });
    }

    /// A write was answered, to a client whose last write was answered at `previous`.
    fn beat(&self, sent: Instant, previous: Instant) {
        let now = Instant::now();
        if let Some(beats) = &mut *self.lock() {
            beats.silence = beats.silence.max(now - beats.last);
            beats.client_silence = beats.client_silence.max(now - previous.max(beats.begin));
            beats.last = now;
            if sent >= beats.begin {
                beats.first.get_or_insert(now - beats.begin);
            }
        }
    }

    pub fn beats(&self) -> Option<Beats> {
        *self.lock()
    }

    pub fn took(&self) -> Option<Duration> {
        self.beats()?.first
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Beats>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session and the way from one server to the next.
#[derive(Debug)]
struct Roamer {
    name: String,
    random: Random,
    ticket: Option<Ticket>,
    zxid_max: i64,
    /// When the last request was sent that was answered.
    heard: Instant,
    /// It is another session than the one that was there before. Lowered by whoever has looked what became of that one.
    has_expired: bool,
}

impl Roamer {
    fn new(name: String, random: Random) -> Roamer {
        Roamer { name, random, ticket: None, zxid_max: 0, heard: Instant::now(), has_expired: false }
    }

    /// At whichever server answers. None: it is over.
    fn connect(&mut self, ground: &Ground, until: Option<Instant>) -> Result<Option<Client>> {
        let mut at = self.random.below(ground.addresses.len() as u64) as usize;
        loop {
            match until {
                None if ground.is_over() => return Ok(None),
                Some(deadline) if Instant::now() > deadline => {
                    return Err(format!("{} finds no server that takes it", self.name).into());
                }
                _ => {}
            }
            at = (at + 1) % ground.addresses.len();
            let sent = Instant::now();
            match Client::open_within(PATIENCE, ground.addresses[at], ground.session_ms, self.ticket, self.zxid_max) {
                Ok(Opened::Session(client)) => {
                    if self.ticket.is_some_and(|ticket| ticket != client.ticket) {
                        return Err(format!("asked for {:?}, given {:?}", self.ticket, client.ticket).into());
                    }
                    self.ticket = Some(client.ticket);
                    self.heard = sent;
                    return Ok(Some(client));
                }
                Ok(Opened::Expired) if self.ticket.is_some() => self.has_ended(ground)?,
                Ok(Opened::Expired) | Err(_) => std::thread::sleep(RETRY_PAUSE),
            }
        }
    }

    /// It may have, if nobody heard of it for long enough.
    fn has_ended(&mut self, ground: &Ground) -> Result<()> {
        let silence = self.heard.elapsed();
        if silence + ground.unheard < Duration::from_millis(ground.session_ms as u64) {
            return Err(format!("session {:?} has ended {silence:?} after it was heard", self.ticket).into());
        }
        ground.expiries.fetch_add(1, Ordering::Relaxed);
        self.ticket = None;
        self.has_expired = true;
        Ok(())
    }

    /// One request and its answer; `events` has the paths of watches that fired before it.
    fn call(&mut self, client: &mut Client, request: &Request, events: &mut Vec<String>) -> Result<Reply> {
        let sent = Instant::now();
        let (xid, frame) = client.encode(request);
        client.send(&frame)?;
        loop {
            let reply = client.reply()?;
            if let Some(path) = reply.event()? {
                events.push(path);
                continue;
            }
            if reply.xid != xid {
                return Err(Broken(format!("answer {} where {xid} was due", reply.xid)).into());
            }
            if reply.zxid < self.zxid_max {
                return Err(Broken(format!("zxid went back from {:#x}: {reply:?}", self.zxid_max)).into());
            }
            self.zxid_max = reply.zxid;
            self.heard = sent;
            return Ok(reply);
        }
    }
}

/// Broken promises end everything, broken connections a connection.
fn only_broken(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(why) if !why.is::<Broken>() => {
            std::thread::sleep(RETRY_PAUSE);
            Ok(())
        }
        other => other,
    }
}

/// A session of its own, so that checks do not lean on the sessions they check.
pub fn checker(ground: &Ground) -> Result<Client> {
    // Who has just come back may send its clients away once more.
    patiently(CHECKER_BOUND, RETRY_PAUSE, || {
        let Opened::Session(mut client) = Client::open(ground.addresses[0], ground.session_ms, None, 0)? else {
            return Err("a new session was refused".into());
        };
        client.ask(&Request::Sync { path: "/".into() })?;
        Ok(client)
    })
}

/// Where everything happens.
pub fn prepare(ground: &Ground, homes: impl Iterator<Item = String>) -> Result<()> {
    let mut client = checker(ground)?;
    let places = [ROOT, NAMES, VISITORS].map(str::to_owned).into_iter().chain(homes);
    let places = places.map(|path| (path, Vec::new())).chain((0..REGISTERS).map(|at| (register(at), data_of(0))));
    for (path, data) in places {
        client.ask(&Request::Create { path, data, ephemeral: false })?;
    }
    client.ask(&Request::CloseSession)?;
    Ok(())
}

/// Registers and names, when nobody writes; how many versions had one writer each.
pub fn settle(ground: &Ground, client: &mut Client) -> Result<usize> {
    client.ask(&Request::Sync { path: "/".into() })?;
    let mut checked = 0;
    for at in 0..REGISTERS {
        let (data, stat) = client.ask(&Request::Get { path: register(at) })?.data()?;
        checked += ground.ledger().settle(at, &data, &stat)?;
    }
    let mut seen = BTreeMap::new();
    for name in client.ask(&Request::Children { path: NAMES.to_owned() })?.children()? {
        let path = format!("{NAMES}/{name}");
        let (data, _) = client.ask(&Request::Get { path: path.clone() })?.data()?;
        value_of(&data)?;
        seen.insert(rival::number_of(&path)?, data);
        client.ask(&Request::Delete { path })?;
    }
    ground.ledger().settle_names(&seen)?;
    Ok(checked)
}
