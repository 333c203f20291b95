//! Several servers that belong together, of either make, on 127.0.0.1 or each in a network namespace of its own.
//!
//! Member N listens for clients on `port_base + N`, for learners on `port_base + 40 + N`, for electors on `port_base + 80 + N`.
//! What a member is, is its own; that it is one of these, is in every configuration. Members are started, stopped and killed
//! one by one: an [`Ensemble`] only knows how.

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::process;
use crate::server::{Home, Kind, Running, Setup, glance, tail};
use crate::{Result, patiently};

const SERVING_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(5);
const QUORUM_PORT_OFFSET: u16 = 40;
const ELECTION_PORT_OFFSET: u16 = 80;

/// Ticks as most people have them; and sessions that outlive the start of a JVM on a busy machine.
const LIMITS: &str = "initLimit=10\nsyncLimit=5\nmaxSessionTimeout=300000";

#[derive(Clone, Debug)]
pub struct Ensemble {
    /// Member N is at N - 1.
    pub members: Vec<Setup>,
}

/// Where a member listens for the others.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub address: Ipv4Addr,
    pub quorum: u16,
    pub election: u16,
}

impl Ports {
    /// Of the member that counts as `at` from 0.
    pub fn of(home: &Home, port_base: u16, at: usize) -> Ports {
        let port = port_base + at as u16 + 1;
        Ports { address: home.address, quorum: port + QUORUM_PORT_OFFSET, election: port + ELECTION_PORT_OFFSET }
    }
}

/// What `srvr` says a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Leader,
    Follower,
    Observer,
    /// It answers, and serves nobody (or only readers).
    Nothing,
}

impl Ensemble {
    /// The first `kinds.len() - observers` of them vote.
    pub fn new(directory: &Path, port_base: u16, kinds: &[Kind], observers: usize, tick_ms: u32) -> Ensemble {
        let homes = vec![Home::default(); kinds.len()];
        Ensemble::routed(directory, port_base, kinds, observers, tick_ms, &homes, |_, to| {
            Ports::of(&homes[to], port_base, to)
        })
    }

    /// `told(from, to)` is where `from` is told that `to` is, if that is not itself. Both count from 0.
    pub fn routed(
        directory: &Path,
        port_base: u16,
        kinds: &[Kind],
        observers: usize,
        tick_ms: u32,
        homes: &[Home],
        told: impl Fn(usize, usize) -> Ports,
    ) -> Ensemble {
        let count = kinds.len();
        assert!(count < QUORUM_PORT_OFFSET as usize && observers < count);
        let line = |from: usize, to: usize| {
            let own = Ports::of(&homes[to], port_base, to);
            let Ports { address, quorum, election } = if from == to { own } else { told(from, to) };
            let role = if to >= count - observers { ":observer" } else { "" };
            format!("server.{}={address}:{quorum}:{election}{role}", to + 1)
        };
        let member = |(at, kind): (usize, &Kind)| Setup {
            kind: kind.clone(),
            directory: directory.join(format!("server-{}", at + 1)),
            home: homes[at].clone(),
            port: port_base + at as u16 + 1,
            tick_ms,
            my_id: Some(at as i64 + 1),
            extra: std::iter::once(LIMITS.to_owned()).chain((0..count).map(|to| line(at, to))).collect(),
        };
        Ensemble { members: kinds.iter().enumerate().map(member).collect() }
    }

    /// For client libraries.
    pub fn connect_string(&self) -> String {
        let address = |member: &Setup| member.address().to_string();
        self.members.iter().map(address).collect::<Vec<_>>().join(",")
    }

    /// On empty directories; returns when all of them serve.
    pub fn start(&self) -> Result<Vec<Running>> {
        self.members.iter().try_for_each(Setup::wipe)?;
        self.launch()
    }

    /// On what is there; returns when all of them serve.
    pub fn launch(&self) -> Result<Vec<Running>> {
        let running = self.members.iter().map(Setup::launch).collect::<Result<Vec<_>>>()?;
        for member in &self.members {
            await_part(member, |part| part != Part::Nothing)?;
        }
        Ok(running)
    }

    /// Who leads; nobody may, for a while.
    pub fn await_leader(&self) -> Result<usize> {
        patiently(SERVING_TIMEOUT, POLL_INTERVAL, || self.leader().ok_or_else(|| "nobody leads".into()))
    }

    /// Who leads, if anybody says so.
    pub fn leader(&self) -> Option<usize> {
        self.members.iter().position(|member| part_of(member).is_ok_and(|part| part == Part::Leader))
    }
}

/// At a glance: it may not answer though it is well.
pub fn part_of(member: &Setup) -> io::Result<Part> {
    let answer = glance(member.address(), "srvr")?;
    let mode = answer.lines().find_map(|line| line.strip_prefix("Mode: "));
    Ok(match mode {
        Some("leader") => Part::Leader,
        Some("follower") => Part::Follower,
        Some("observer") => Part::Observer,
        _ => Part::Nothing,
    })
}

/// Waits until this member says that it is what is wanted.
pub fn await_part(member: &Setup, wanted: impl Fn(Part) -> bool) -> Result<Part> {
    let deadline = Instant::now() + SERVING_TIMEOUT;
    let mut last = None;
    while Instant::now() < deadline {
        process::go_on()?;
        last = part_of(member).ok();
        if let Some(part) = last.filter(|part| wanted(*part)) {
            return Ok(part);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    let (id, log) = (member.my_id.unwrap_or_default(), tail(&member.log(), 30));
    Err(format!("server {id} is {last:?} after {SERVING_TIMEOUT:?}, and something else was expected\n{log}").into())
}
