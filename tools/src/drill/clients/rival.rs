//! A session that sets what others set too, and asks for names that nobody else may get.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{Ground, NAMES, REGISTERS, RETRY_PAUSE, ROOT, Roamer, only_broken, register};
use crate::Result;
use crate::load::actor::Broken;
use crate::load::model::data_of;
use crate::load::random::Random;
use crate::wire::{Client, Reply, Request, code};

/// Numbered nodes that are left standing.
const NAMES_KEPT: usize = 20;
/// What one rival writes, no other does.
const VALUES: u64 = 1 << 40;

pub struct Rival {
    roamer: Roamer,
    home: String,
    next_value: u64,
    /// What this session knows of each register.
    known: HashMap<usize, i32>,
    /// Watches that have not fired: the version that was there.
    watched: HashMap<usize, i32>,
    names: VecDeque<u32>,
    /// When its last write was answered.
    answered: Instant,
}

impl Rival {
    pub fn new(number: usize, random: &mut Random) -> Rival {
        let home = format!("{ROOT}/rival-{number}");
        Rival {
            roamer: Roamer::new(home.clone(), random.fork()),
            home,
            next_value: (number as u64 + 1) * VALUES,
            known: HashMap::new(),
            watched: HashMap::new(),
            names: VecDeque::new(),
            answered: Instant::now(),
        }
    }

    pub fn home(&self) -> &str {
        &self.home
    }

    pub fn run(&mut self, ground: &Ground) -> Result<()> {
        while let Some(mut client) = self.roamer.connect(ground, None)? {
            only_broken(self.settle(&mut client).and_then(|()| self.load(ground, &mut client)))?;
        }
        Ok(())
    }

    fn settle(&mut self, client: &mut Client) -> Result<()> {
        self.watched.clear(); // they were the connection's
        let barrier = Request::Set { path: self.home.clone(), data: Vec::new(), version: -1 };
        match self.call(client, &barrier)?.code {
            code::OK => Ok(()),
            other => Err(format!("{barrier:?} got {other}").into()),
        }
    }

    pub fn finish(&mut self, ground: &Ground, deadline: Instant) -> Result<()> {
        loop {
            let Some(mut client) = self.roamer.connect(ground, Some(deadline))? else { return Ok(()) };
            match self.settle(&mut client) {
                Ok(()) => return Ok(()),
                Err(why) => only_broken(Err(why))?,
            }
        }
    }

    /// Its numbered nodes are deleted behind its back, when all is settled.
    pub fn forget_names(&mut self) {
        self.names.clear();
    }

    fn load(&mut self, ground: &Ground, client: &mut Client) -> Result<()> {
        while !ground.is_over() {
            let at = self.roamer.random.below(REGISTERS as u64) as usize;
            match self.roamer.random.below(100) {
                0..55 => self.set(ground, client, at)?,
                55..80 => self.get(ground, client, at, false)?,
                80..90 => self.get(ground, client, at, true)?,
                _ if self.names.len() > NAMES_KEPT => self.delete(ground, client)?,
                _ => self.ask_name(ground, client)?,
            }
            ground.answers.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn call(&mut self, client: &mut Client, request: &Request) -> Result<Reply> {
        let mut events = Vec::new();
        let reply = self.roamer.call(client, request, &mut events);
        self.watched.retain(|at, _| !events.contains(&register(*at)));
        reply
    }

    fn beat(&mut self, ground: &Ground, sent: Instant) {
        ground.pulse.beat(sent, self.answered);
        self.answered = Instant::now();
    }

    fn value(&mut self) -> u64 {
        self.next_value += 1;
        self.next_value
    }

    /// Under the version it knows; now and then under an older one, which has to be refused.
    fn set(&mut self, ground: &Ground, client: &mut Client, at: usize) -> Result<()> {
        let Some(known) = self.known.get(&at).copied() else { return self.get(ground, client, at, false) };
        let version = if self.roamer.random.one_in(16) { (known - 1).max(0) } else { known };
        let (value, sent) = (self.value(), Instant::now());
        let floor = ground.ledger().send(at, value, version);
        let request = Request::Set { path: register(at), data: data_of(value), version };
        let reply = self.call(client, &request)?;
        match reply.code {
            code::OK => {
                let stat = reply.stat()?;
                if stat.mzxid != reply.zxid {
                    return Err(Broken(format!("{request:?} was answered with another zxid: {reply:?}")).into());
                }
                ground.ledger().answered(at, value, floor, &stat)?;
                self.beat(ground, sent);
                self.saw(at, stat.version)
            }
            code::BAD_VERSION => {
                ground.ledger().refused(at, value)?;
                self.known.remove(&at);
                Ok(())
            }
            code::SYSTEM_ERROR => {
                ground.ledger().turned_away(at, value)?;
                self.rest(ground)
            }
            other => Err(format!("a set got {other}").into()),
        }
    }

    fn get(&mut self, ground: &Ground, client: &mut Client, at: usize, is_watched: bool) -> Result<()> {
        let path = register(at);
        let reply = self.call(client, &if is_watched { Request::Watch { path } } else { Request::Get { path } })?;
        if reply.code != code::OK {
            return Err(format!("a get got {}", reply.code).into());
        }
        let (data, stat) = reply.data()?;
        ground.ledger().read(at, &data, &stat)?;
        self.saw(at, stat.version)?;
        if is_watched {
            self.watched.insert(at, stat.version);
        }
        Ok(())
    }

    /// A session sees no register go back, its own writes among them, and hears of a change before it sees it.
    fn saw(&mut self, at: usize, version: i32) -> Result<()> {
        let known = self.known.insert(at, version).unwrap_or(0);
        if version < known {
            return Err(Broken(format!("{} saw version {known} of register {at}, then {version}", self.home)).into());
        }
        match self.watched.get(&at) {
            Some(watched) if version > *watched => {
                let what = format!("saw version {version} of register {at} before the watch at {watched} fired");
                Err(Broken(format!("{} {what}", self.home)).into())
            }
            _ => Ok(()),
        }
    }

    fn ask_name(&mut self, ground: &Ground, client: &mut Client) -> Result<()> {
        let (value, sent) = (self.value(), Instant::now());
        let floor = ground.ledger().ask_name(value);
        let reply = self.call(client, &Request::Sequential { path: format!("{NAMES}/n-"), data: data_of(value) })?;
        match reply.code {
            code::OK => {}
            code::SYSTEM_ERROR => {
                ground.ledger().not_named(value);
                return self.rest(ground);
            }
            other => return Err(format!("a create got {other}").into()),
        }
        let number = number_of(&reply.path()?)?;
        ground.ledger().named(value, number, floor)?;
        self.beat(ground, sent);
        self.names.push_back(number);
        Ok(())
    }

    fn delete(&mut self, ground: &Ground, client: &mut Client) -> Result<()> {
        let number = self.names.pop_front().expect("it has some");
        ground.ledger().delete_name(number);
        match self.call(client, &Request::Delete { path: format!("{NAMES}/n-{number:010}") })?.code {
            code::OK => {
                ground.ledger().deleted(number);
                Ok(())
            }
            code::NO_NODE => Err(Broken(format!("number {number} was given, and is gone")).into()),
            code::SYSTEM_ERROR => self.rest(ground),
            other => Err(format!("a delete got {other}").into()),
        }
    }

    /// A disk is full: it will be so for a while.
    fn rest(&mut self, ground: &Ground) -> Result<()> {
        ground.refusals.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(RETRY_PAUSE);
        Ok(())
    }
}

pub fn number_of(path: &str) -> Result<u32> {
    let digits = path.rsplit_once("n-").map_or("", |(_, digits)| digits);
    Ok(digits.parse().map_err(|_| Broken(format!("{path} has no number")))?)
}
