//! Ensembles of ringkeeper and the reference in one: members die, lose their disks, fall behind and run ahead, and come back;
//! sessions move between them; and in the end of each step every member has the same tree.
//!
//! An arrangement is a word: `R`, `J` and `8` (Java 3.8) for who votes, in the order of their numbers, behind a `+` those who
//! observe. On empty disks the voter with the highest number leads first. What is compared: names, data, and of each node's
//! stat what a client can rely on. Most of it is in a quota, whose usage has to be what is there. That the trees are also the same
//! by the reference's own sums is in its metrics, which count mismatches.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::ensemble::{Ensemble, Part, await_part};
use crate::server::{Kind, Running, Setup, four_letter};
use crate::wire::{Client, Opened, Request, Stat, Ticket, code};
use crate::{Result, patiently};

const TICK_MS: u32 = 500;
/// Nobody pings while a member comes back.
const SESSION_MS: i32 = 300_000;
/// For an election, a sync and a reconnection.
const PATIENCE: Duration = Duration::from_secs(40);
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// Within what a leader remembers, and beyond it.
const FEW: usize = 100;
const MANY: usize = 1_500;
const USAGE: &str = "/zookeeper/quota/app/zookeeper_stats";

#[derive(Clone, Debug)]
pub struct Options {
    pub ringkeeper: Kind,
    pub java: Kind,
    /// Debian's, if it can be had.
    pub java_3_8: Option<Kind>,
    pub directory: PathBuf,
    pub port: u16,
    /// Like `JJR+R`.
    pub arrangements: Vec<String>,
}

/// Each role of each make, beside each role of the other. Those behind the third are for those who have the time.
pub const ARRANGEMENTS: [&str; 6] = ["RRR", "JRR+J", "RRJ+R", "JJR+J", "8RR+8", "RR8+R"];

/// Runs them all; how many nodes were compared.
pub fn run(options: &Options) -> Result<usize> {
    let mut compared = 0;
    for arrangement in &options.arrangements {
        let begun = Instant::now();
        let nodes = Stage::new(options, arrangement).and_then(|mut stage| stage.play());
        let nodes = nodes.map_err(|why| format!("{arrangement}: {why}"))?;
        println!("{arrangement}: {nodes} nodes compared in {:.0?}", begun.elapsed());
        compared += nodes;
    }
    Ok(compared)
}

/// What a member has, by path.
pub type Tree = BTreeMap<String, (Vec<u8>, Stat)>;

struct Stage {
    ensemble: Ensemble,
    voters: usize,
    /// None: it is down.
    running: Vec<Option<Running>>,
    actors: Vec<Actor>,
    written: usize,
    compared: usize,
}

/// A client with an ephemeral node of its own.
struct Actor {
    name: String,
    ticket: Option<Ticket>,
    seen: i64,
    client: Option<Client>,
}

impl Stage {
    fn new(options: &Options, arrangement: &str) -> Result<Stage> {
        let (voters, observers) = arrangement.split_once('+').unwrap_or((arrangement, ""));
        let kind = |letter| match letter {
            'R' => Ok(options.ringkeeper.clone()),
            'J' => Ok(options.java.clone()),
            '8' => options.java_3_8.clone().ok_or_else(|| "Java 3.8 (Debian's zookeeper) cannot be had".to_owned()),
            other => Err(format!("{other:?} is neither R, J nor 8")),
        };
        let kinds =
            voters.chars().chain(observers.chars()).map(kind).collect::<std::result::Result<Vec<_>, String>>()?;
        let directory = options.directory.join(arrangement);
        let ensemble = Ensemble::new(&directory, options.port, &kinds, observers.len(), TICK_MS);
        let running = ensemble.start()?.into_iter().map(Some).collect();
        let actor = |at| Actor { name: format!("actor-{at}"), ticket: None, seen: 0, client: None };
        let actors = (1..=kinds.len()).map(actor).collect();
        Ok(Stage { ensemble, voters: voters.len(), running, actors, written: 0, compared: 0 })
    }

    fn play(&mut self) -> Result<usize> {
        for actor in 0..self.actors.len() {
            let path = format!("/{}", self.actors[actor].name);
            self.write(actor, &Request::Create { path, data: b"here".to_vec(), ephemeral: true })?;
        }
        let quota = ["/app", "/zookeeper/quota/app", "/zookeeper/quota/app/zookeeper_limits", USAGE];
        for path in quota.map(str::to_owned) {
            self.write(0, &Request::Create { path, data: Vec::new(), ephemeral: false })?;
        }
        self.write_nodes(FEW)?;
        self.same_trees()?;
        for member in 0..self.running.len() {
            self.falls_behind(member, FEW, false)?;
        }
        for member in 0..self.running.len() {
            self.falls_behind(member, MANY, false)?;
        }
        for member in 0..self.running.len() {
            self.falls_behind(member, FEW, true)?;
        }
        for _ in 0..self.voters {
            self.runs_ahead()?;
        }
        self.ensemble.members.iter().try_for_each(|member| no_mismatch(member))?;
        // Who has lost its leader for a moment is not in step at once.
        patiently(PATIENCE, RETRY_PAUSE, || self.shows_itself())?;
        for running in self.running.iter_mut().filter_map(Option::take) {
            running.stop()?;
        }
        Ok(self.compared)
    }

    /// Whatever make a member is of, monitoring sees the same of its part.
    fn shows_itself(&self) -> Result<()> {
        let (voters, observers) = (self.voters, self.ensemble.members.len() - self.voters);
        let mut leaders = 0;
        for (at, member) in self.ensemble.members.iter().enumerate() {
            let answer = four_letter(member.address(), "mntr")?;
            let told: BTreeMap<&str, &str> = answer.lines().filter_map(|line| line.split_once('\t')).collect();
            let part = told.get("zk_server_state").copied().unwrap_or_default();
            let mut expected = vec![("zk_quorum_size", voters.to_string())];
            expected.push((
                "zk_peer_state",
                match part {
                    "leader" => "leading - broadcast".to_owned(),
                    "follower" => "following - broadcast".to_owned(),
                    "observer" => "observing - broadcast".to_owned(),
                    other => return Err(format!("server {} is {other:?} where everybody serves", at + 1).into()),
                },
            ));
            if part == "leader" {
                leaders += 1;
                expected.push(("zk_learners", (voters + observers - 1).to_string()));
                expected.push(("zk_synced_followers", (voters - 1).to_string()));
                expected.push(("zk_synced_observers", observers.to_string()));
                expected.push(("zk_pending_syncs", "0".to_owned()));
            }
            for (key, value) in expected {
                if told.get(key) != Some(&&*value) {
                    let found = told.get(key);
                    return Err(format!("server {}, a {part}: {key} is {found:?} and should be {value}", at + 1).into());
                }
            }
        }
        match leaders {
            1 => Ok(()),
            _ => Err(format!("{leaders} servers lead").into()),
        }
    }

    /// It dies, the others go on, and it comes back; without its disk, if it is wiped.
    fn falls_behind(&mut self, member: usize, by: usize, wiped: bool) -> Result<()> {
        self.running[member].take().expect("everybody is up").kill()?;
        self.write_nodes(by)?;
        if wiped {
            self.ensemble.members[member].wipe()?;
        }
        self.start(member)?;
        self.same_trees()
    }

    /// The leader logs what nobody else has, and dies. The others go on, and it has to forget that.
    fn runs_ahead(&mut self) -> Result<()> {
        let leader = self.ensemble.await_leader()?;
        let address = self.ensemble.members[leader].address();
        let Opened::Session(mut client) = Client::open(address, SESSION_MS, None, 0)? else {
            return Err("a new session was refused".into());
        };
        client.ask(&Request::Sync { path: "/".into() })?;
        for (_, running) in self.others(leader) {
            running.pause()?;
        }
        for number in 0..FEW {
            let path = format!("/app/nobody-{}-{number}", self.written);
            let (_, frame) = client.encode(&Request::Create { path, data: vec![0; 100], ephemeral: false });
            client.send(&frame)?;
        }
        // Its disk takes them within this; if not, there is less to forget, and the trees must be the same all the same.
        std::thread::sleep(Duration::from_millis(300));
        self.running[leader].take().expect("it leads").kill()?;
        for (_, running) in self.others(leader) {
            running.resume()?;
        }
        self.write_nodes(FEW)?;
        self.start(leader)?;
        self.same_trees()
    }

    fn others(&self, but: usize) -> impl Iterator<Item = (usize, &Running)> {
        let up = self.running.iter().enumerate().filter_map(|(at, running)| Some((at, running.as_ref()?)));
        up.filter(move |(at, _)| *at != but)
    }

    fn start(&mut self, member: usize) -> Result<()> {
        let setup = &self.ensemble.members[member];
        self.running[member] = Some(setup.launch()?);
        await_part(setup, |part| part != Part::Nothing).map(drop)
    }

    /// Creates, changes and deletes, through everybody in turn.
    fn write_nodes(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            let (number, actor) = (self.written, self.written % self.actors.len());
            self.written += 1;
            let path = format!("/app/n{number}");
            self.write(actor, &Request::Create { path, data: format!("{number}").into(), ephemeral: false })?;
            if number >= 5 && number % 3 == 0 {
                let path = format!("/app/n{}", number - 5);
                match number % 2 {
                    0 => self.write(actor, &Request::Delete { path })?,
                    _ => self.write(actor, &Request::Set { path, data: b"changed".to_vec(), version: -1 })?,
                }
            }
        }
        Ok(())
    }

    /// Until it is answered: a member may have died with the answer, or without having heard the question.
    fn write(&mut self, actor: usize, request: &Request) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut last = String::new();
        while Instant::now() < deadline {
            match self.try_write(actor, request) {
                Ok(code::OK) => return Ok(()),
                // The first attempt was not in vain.
                Ok(code::NODE_EXISTS) if matches!(request, Request::Create { .. }) => return Ok(()),
                Ok(code::NO_NODE) if !matches!(request, Request::Create { .. }) => return Ok(()),
                Ok(other) => return Err(format!("{request:?} got {other}").into()),
                Err(why) => {
                    self.actors[actor].client = None;
                    last = why.to_string();
                }
            }
            std::thread::sleep(RETRY_PAUSE);
        }
        Err(format!("{request:?} is not answered within {PATIENCE:?}: {last}").into())
    }

    fn try_write(&mut self, actor: usize, request: &Request) -> Result<i32> {
        let up: Vec<usize> = (0..self.running.len()).filter(|at| self.running[*at].is_some()).collect();
        // At home, while that is there.
        let door = if up.contains(&actor) { actor } else { up[self.written % up.len()] };
        let address = self.ensemble.members[door].address();
        let actor = &mut self.actors[actor];
        if actor.client.is_none() {
            let Opened::Session(client) = Client::open(address, SESSION_MS, actor.ticket, actor.seen)? else {
                return Err(format!("the session of {} has expired", actor.name).into());
            };
            actor.ticket = Some(client.ticket);
            actor.client = Some(client);
        }
        let reply = actor.client.as_mut().expect("connected above").call(request)?;
        actor.seen = actor.seen.max(reply.zxid);
        Ok(reply.write_code()?)
    }

    fn same_trees(&mut self) -> Result<()> {
        let mut expected: Option<Tree> = None;
        for (at, member) in self.ensemble.members.iter().enumerate() {
            let found = walk(member.address()).map_err(|why| format!("server {}: {why}", at + 1))?;
            self.compared += found.len();
            let usage = patiently(PATIENCE, RETRY_PAUSE, || usage(member.address()))?;
            if usage != usage_of(&found) {
                return Err(format!("server {}: {usage} at {USAGE}, and there is {}", at + 1, usage_of(&found)).into());
            }
            for actor in &self.actors {
                if !found.contains_key(&format!("/{}", actor.name)) {
                    return Err(format!("the ephemeral node of {} is gone on server {}", actor.name, at + 1).into());
                }
            }
            match &expected {
                None => expected = Some(found),
                Some(expected) => same(expected, &found).map_err(|what| format!("servers 1 and {}: {what}", at + 1))?,
            }
        }
        // Everybody goes home, where a member came back.
        self.actors.iter_mut().for_each(|actor| actor.client = None);
        Ok(())
    }
}

/// Everything a member has, as a client sees it, not older than this moment.
pub fn walk(address: std::net::SocketAddr) -> Result<Tree> {
    // A member that has just come back may send its clients away once more.
    patiently(PATIENCE, RETRY_PAUSE, || walk_once(address))
}

fn walk_once(address: std::net::SocketAddr) -> Result<Tree> {
    let Opened::Session(mut client) = Client::open(address, SESSION_MS, None, 0)? else {
        return Err("a new session was refused".into());
    };
    client.ask(&Request::Sync { path: "/".into() })?;
    let mut tree = Tree::new();
    let mut to_visit = vec!["/".to_owned()];
    while let Some(path) = to_visit.pop() {
        let children = client.ask(&Request::Children { path: path.clone() })?.children()?;
        let parent = if path == "/" { "" } else { &path };
        to_visit.extend(children.iter().filter(|name| *name != "zookeeper").map(|name| format!("{parent}/{name}")));
        let (data, stat) = client.ask(&Request::Get { path: path.clone() })?.data()?;
        tree.insert(path, (data, stat));
    }
    client.ask(&Request::CloseSession)?;
    Ok(tree)
}

fn usage(address: std::net::SocketAddr) -> Result<String> {
    let Opened::Session(mut client) = Client::open(address, SESSION_MS, None, 0)? else {
        return Err("a new session was refused".into());
    };
    let (data, _) = client.ask(&Request::Get { path: USAGE.to_owned() })?.data()?;
    client.ask(&Request::CloseSession)?;
    Ok(String::from_utf8_lossy(&data).into_owned())
}

/// What the quota's usage has to be.
fn usage_of(tree: &Tree) -> String {
    let app = tree.iter().filter(|(path, _)| *path == "/app" || path.starts_with("/app/"));
    let (count, bytes) = app.fold((0, 0), |(count, bytes), (_, (data, _))| (count + 1, bytes + data.len()));
    format!("count={count},bytes={bytes}")
}

pub fn same(expected: &Tree, found: &Tree) -> std::result::Result<(), String> {
    for (path, node) in expected {
        match found.get(path) {
            None => return Err(format!("{path} is missing")),
            Some(other) if other != node => return Err(format!("{path} is {other:?} and should be {node:?}")),
            Some(_) => {}
        }
    }
    match found.keys().find(|path| !expected.contains_key(*path)) {
        None => Ok(()),
        Some(more) => Err(format!("{more} should not be there")),
    }
}

pub fn no_mismatch(member: &Setup) -> Result<()> {
    // Who has lost its leader for a moment does not tell.
    let count = patiently(PATIENCE, RETRY_PAUSE, || {
        let answer = four_letter(member.address(), "mntr")?;
        let count = answer.lines().find_map(|line| line.strip_prefix("zk_digest_mismatches_count\t"));
        count.map(str::to_owned).ok_or_else(|| format!("{} counts no digest mismatches", member.address()).into())
    })?;
    match count.as_str() {
        "0" => Ok(()),
        other => Err(format!("digest mismatches at {}: {other}", member.address()).into()),
    }
}
