//! The stage of `election-*.txt`: electors of one ensemble, and every message in the script's hand.
//!
//!   ensemble voters=1,2,3 observers=4      first of all; also group=1:1,2,3 (each group) and weight=3:0
//!   server 3 zxid=1:5 epoch=1 lost java    what its disk has (zxid epoch:counter), `lost`, `fresh` (the default) or `whole`
//!   start 1 2 | stop 3 | look 2            the process begins and looks for a leader; ends; its role is over
//!   deliver 1>2 | deliver                  one message; or all there are, until it is quiet
//!   drop 1>2 | drop                        the same, into nothing
//!   cut 1>2 3-4 | mend | mend 1>2          ways that carry nothing (`-`: both); what waits there waits, the newest only
//!   say 9>1 LOOKING 9 zxid=1:0 epoch=1 round=4 version=0      a message out of nowhere
//!   pass 200ms | run 2s                    time alone; time in which everything arrives at once
//!   established 1 2 3 epoch=1 zxid=1:0     the leader has synchronised these
//!   designate 2 3                          server 2 is told that 3 leads
//!   show | waiting                         who is what; what is on its way
//!
//! A delivered message is a line, `from>to`, and what it made of its receiver stands below.

use std::collections::{BTreeMap, BTreeSet};

use ringkeeper::core::types::{ServerId, Standing, Zxid};
use ringkeeper::core::zab::membership::{Member, MemberRole, Membership, PeerAddress, QuorumKind};
use ringkeeper::wire::election::{Notification, PeerState};

use super::Stage;
use super::election_net::{Machine, Net, Way, describe, name};

/// More than any talk that comes to an end.
const DELIVERIES_MAX: usize = 1000;

pub struct ElectionStage {
    net: Option<Net>,
}

impl ElectionStage {
    pub fn new() -> ElectionStage {
        ElectionStage { net: None }
    }
}

type Words<'a> = &'a [&'a str];

impl Stage for ElectionStage {
    fn run(&mut self, command: &str) -> Result<Vec<String>, String> {
        let words: Vec<&str> = command.split_whitespace().collect();
        let (command, words) = words.split_first().ok_or("no command")?;
        if *command == "ensemble" {
            self.net = Some(Net::new(membership(words)?));
            return Ok(Vec::new());
        }
        let net = self.net.as_mut().ok_or("the ensemble comes first")?;
        match *command {
            "server" => server(net, words)?,
            "start" => ids(words)?.into_iter().for_each(|id| net.start(id)),
            "stop" => ids(words)?.into_iter().for_each(|id| net.stop(id)),
            "look" => ids(words)?.into_iter().for_each(|id| net.look(id)),
            "deliver" if words.is_empty() => deliver_all(net)?,
            "deliver" => ways(words)?.into_iter().try_for_each(|way| deliver(net, way))?,
            "drop" => drop_messages(net, words)?,
            "cut" => ways(words)?.into_iter().for_each(|way| net.cut(way)),
            "mend" => {
                let ways = ways(words)?;
                net.mend(|way| ways.is_empty() || ways.contains(&way));
            }
            "say" => say(net, words)?,
            "pass" => net.pass_until(net.now_us + duration_us(words)?),
            "run" => run(net, duration_us(words)?)?,
            "established" => established(net, words)?,
            "designate" => designate(net, words)?,
            "show" => show(net),
            "waiting" => waiting(net),
            other => return Err(format!("no such command: {other}")),
        }
        Ok(std::mem::take(&mut net.told))
    }
}

fn deliver(net: &mut Net, way: Way) -> Result<(), String> {
    if !net.deliverable().contains(&way) {
        return Err("nothing can arrive there".into());
    }
    net.deliver(way);
    Ok(())
}

/// Round by round, as if all links were equally fast.
fn deliver_all(net: &mut Net) -> Result<(), String> {
    for _ in 0..DELIVERIES_MAX {
        let ways = net.deliverable();
        if ways.is_empty() {
            return Ok(());
        }
        ways.into_iter().for_each(|way| net.deliver(way));
    }
    Err("they never stop talking".into())
}

fn drop_messages(net: &mut Net, words: Words) -> Result<(), String> {
    let ways = if words.is_empty() { net.waiting() } else { ways(words)? };
    for way in ways {
        let notification = net.take(way).ok_or("nothing is on its way there")?;
        net.told.push(format!("{}>{} {} is lost", way.0, way.1, describe(&notification)));
    }
    Ok(())
}

fn run(net: &mut Net, for_us: u64) -> Result<(), String> {
    let until_us = net.now_us + for_us;
    loop {
        deliver_all(net)?;
        if net.now_us == until_us {
            return Ok(());
        }
        let next_us = net.next_wake_us().filter(|at_us| *at_us < until_us).unwrap_or(until_us).max(net.now_us);
        let mark = net.told.len();
        net.pass_until(next_us);
        if !net.deliverable().is_empty() || net.told.len() > mark {
            net.told.insert(mark, format!("--- at {} ms", net.now_us / 1000));
        }
    }
}

fn server(net: &mut Net, words: Words) -> Result<(), String> {
    let (id, facts) = words.split_first().ok_or("which server?")?;
    let server = net.server(number(id)?);
    for fact in facts {
        match fact.split_once('=').unwrap_or((fact, "")) {
            ("zxid", zxid_text) => {
                server.candidate.last_logged = Zxid(zxid(zxid_text)? as u64);
                server.candidate.standing = Standing::Whole;
            }
            ("epoch", epoch) => {
                server.candidate.current_epoch = number(epoch)? as u32;
                server.candidate.standing = Standing::Whole;
            }
            ("lost", "") => server.candidate.standing = Standing::Lost,
            ("whole", "") => server.candidate.standing = Standing::Whole,
            ("fresh", "") => server.candidate.standing = Standing::Fresh,
            ("java", "") => server.is_java = true,
            _ => return Err(format!("what is {fact}?")),
        }
    }
    if server.candidate.standing == Standing::Fresh {
        (server.candidate.last_logged, server.candidate.current_epoch) = (Zxid(0), 0);
    }
    Ok(())
}

fn say(net: &mut Net, words: Words) -> Result<(), String> {
    let [way, state, leader, facts @ ..] = words else { return Err("say 1>2 STATE leader facts".into()) };
    let way = *ways(&[way])?.first().ok_or("say it to whom?")?;
    let state = [PeerState::Looking, PeerState::Following, PeerState::Leading, PeerState::Observing]
        .into_iter()
        .find(|known| name(*known) == *state)
        .ok_or_else(|| format!("no such state: {state}"))?;
    let leader = if *leader == "nobody" { i64::MIN } else { number(leader)? };
    let mut notification = Notification {
        state,
        leader,
        zxid: if leader == i64::MIN { i64::MIN } else { 0 },
        election_epoch: 1,
        peer_epoch: if leader == i64::MIN { i64::MIN } else { 0 },
        version: Notification::VERSION,
        config: bytes::Bytes::new(),
    };
    for fact in facts {
        match fact.split_once('=').ok_or_else(|| format!("what is {fact}?"))? {
            ("zxid", text) => notification.zxid = zxid(text)?,
            ("epoch", text) => notification.peer_epoch = number(text)?,
            ("round", text) => notification.election_epoch = number(text)?,
            ("version", text) => notification.version = number(text)? as i32,
            _ => return Err(format!("what is {fact}?")),
        }
    }
    net.put(way, notification);
    deliver(net, way)
}

fn established(net: &mut Net, words: Words) -> Result<(), String> {
    let (facts, servers): (Vec<&str>, Vec<&str>) = words.iter().partition(|word| word.contains('='));
    let fact = |name: &str| {
        let find = |fact: &&str| fact.strip_prefix(name).and_then(|rest| rest.strip_prefix('=').map(str::to_string));
        facts.iter().find_map(find).ok_or_else(|| format!("which {name}?"))
    };
    let (epoch, zxid) = (number(&fact("epoch")?)? as u32, zxid(&fact("zxid")?)?);
    for id in ids(&servers)? {
        if !net.is_up(id) {
            return Err(format!("{id} is down"));
        }
        net.established(id, epoch, Zxid(zxid as u64));
    }
    Ok(())
}

fn designate(net: &mut Net, words: Words) -> Result<(), String> {
    let [id, leader] = ids(words)?[..] else { return Err("designate 1 2: 1 is told that 2 leads".into()) };
    let server = net.server(id);
    let (zxid, machine) = (server.candidate.last_logged, server.machine.as_mut());
    let Some(Machine::Ours(election)) = machine else { return Err(format!("{id} is no server of ours that is up")) };
    let state = if id == leader { PeerState::Leading } else { PeerState::Following };
    election.designated(ServerId(leader), zxid, state);
    Ok(())
}

fn show(net: &mut Net) {
    for id in net.servers.keys().copied().collect::<Vec<i64>>() {
        net.told.push(match (net.state(id), net.vote(id)) {
            (Some(PeerState::Looking), _) => format!("{id} is LOOKING"),
            (Some(state), Some((leader, _, round, epoch))) => {
                format!("{id} is {} {leader} (epoch {epoch}, round {round})", name(state))
            }
            _ => format!("{id} is down"),
        });
    }
}

fn waiting(net: &mut Net) {
    for way in net.waiting() {
        let notification = net.take(way).expect("it waits");
        let cut = if net.is_cut(way) { ", cut off" } else { "" };
        net.told.push(format!("{}>{} {} waits{cut}", way.0, way.1, describe(&notification)));
        net.put(way, notification);
    }
}

fn membership(words: Words) -> Result<Membership, String> {
    let mut members = BTreeMap::new();
    let mut groups: BTreeMap<i64, BTreeSet<ServerId>> = BTreeMap::new();
    let mut weights = BTreeMap::new();
    for word in words {
        let (key, value) = word.split_once('=').ok_or_else(|| format!("what is {word}?"))?;
        let role = if key == "observers" { MemberRole::Observer } else { MemberRole::Participant };
        match key {
            "voters" | "observers" => {
                for id in value.split(',') {
                    let id = number(id)?;
                    let host = format!("10.0.0.{id}");
                    let address = PeerAddress { host, quorum_port: 2888, election_port: 3888 };
                    members.insert(ServerId(id), Member { id, role, addresses: vec![address], client: None });
                }
            }
            "group" | "weight" => {
                let (id, value) = value.split_once(':').ok_or_else(|| format!("what is {word}?"))?;
                if key == "weight" {
                    weights.insert(ServerId(number(id)?), number(value)? as u64);
                } else {
                    let members: Result<_, String> = value.split(',').map(|id| Ok(ServerId(number(id)?))).collect();
                    groups.insert(number(id)?, members?);
                }
            }
            _ => return Err(format!("what is {key}?")),
        }
    }
    let kind = match groups.is_empty() {
        true => QuorumKind::Majority,
        false => QuorumKind::Hierarchical { groups, weights },
    };
    Ok(Membership { version: 0, members, kind })
}

fn ways(words: Words) -> Result<Vec<Way>, String> {
    let mut ways = Vec::new();
    for word in words {
        if let Some((from, to)) = word.split_once('>') {
            ways.push((number(from)?, number(to)?));
        } else {
            let (one, other) = word.split_once('-').ok_or_else(|| format!("{word} is not 1>2 or 1-2"))?;
            let (one, other) = (number(one)?, number(other)?);
            ways.extend([(one, other), (other, one)]);
        }
    }
    Ok(ways)
}

fn ids(words: &[&str]) -> Result<Vec<i64>, String> {
    words.iter().map(|word| number(word)).collect()
}

fn number(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("{text} is not a number"))
}

/// `epoch:counter`, or -1.
fn zxid(text: &str) -> Result<i64, String> {
    let Some((epoch, counter)) = text.split_once(':') else { return number(text) };
    Ok(number(epoch)? << 32 | number(counter)?)
}

fn duration_us(words: Words) -> Result<u64, String> {
    let [text] = words else { return Err("how long?".into()) };
    let (digits, unit_us) = match text.strip_suffix("ms") {
        Some(digits) => (digits, 1000),
        None => (text.strip_suffix('s').ok_or("ms or s?")?, 1_000_000),
    };
    Ok(number(digits)? as u64 * unit_us)
}
