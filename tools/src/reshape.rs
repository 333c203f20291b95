//! An ensemble of both makes whose members join, leave, change their part and move to other ports while it serves.
//!
//! The play: the reference leads and takes in one of ours; the leader is told to leave; one of ours leads and moves others, and
//! leaves; in the end everybody is killed and comes back with nothing but the files that were written on the way. After each
//! step all members show one configuration, name it in the same file with the same bytes, and take writes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::ensemble::{Part, Ports, await_part, part_of};
use crate::mixed::{no_mismatch, same, walk};
use crate::server::{Home, Kind, Running, Setup, four_letter, tail};
use crate::wire::{Client, Opened, Reply, Request, code};
use crate::{Result, patiently};

const TICK_MS: u32 = 500;
const SESSION_MS: i32 = 20_000;
const PATIENCE: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Where a port moves to.
const MOVED_OFFSET: u16 = 20;
const WRITES: usize = 20;

#[derive(Clone, Debug)]
pub struct Options {
    pub ringkeeper: Kind,
    pub java: Kind,
    pub directory: PathBuf,
    pub port: u16,
}

/// How many checks held.
pub fn run(options: &Options) -> Result<usize> {
    let mut stage = Stage { options: options.clone(), members: BTreeMap::new(), checked: 0, written: 0 };
    let played = stage.play();
    played.map_err(|why| {
        let logs =
            stage.members.iter().map(|(id, member)| format!("--- server {id}\n{}", tail(&member.setup.log(), 12)));
        format!("{why}\n{}", logs.collect::<Vec<_>>().join("\n"))
    })?;
    Ok(stage.checked)
}

struct Stage {
    options: Options,
    members: BTreeMap<u16, Member>,
    checked: usize,
    written: usize,
}

/// Somebody who is, was or will be one.
struct Member {
    setup: Setup,
    place: Place,
    running: Option<Running>,
}

/// What its line says.
#[derive(Clone, Debug)]
struct Place {
    client: u16,
    quorum: u16,
    election: u16,
    role: &'static str,
}

impl Place {
    fn line(&self, id: u16) -> String {
        let Place { client, quorum, election, role } = self;
        format!("server.{id}=127.0.0.1:{quorum}:{election}:{role};127.0.0.1:{client}")
    }
}

impl Stage {
    fn play(&mut self) -> Result<()> {
        let (ours, java) = (self.options.ringkeeper.clone(), self.options.java.clone());
        for (id, kind) in [(1, &ours), (2, &ours), (3, &java)] {
            self.prepare(id, kind, "participant")?;
        }
        // Of servers without data the highest number leads, if it is there in time.
        self.launch(3, &[1, 2, 3])?;
        self.await_elector(3)?;
        self.launch(1, &[1, 2, 3])?;
        self.launch(2, &[1, 2, 3])?;
        self.await_parts("a configuration gets its version from the first epoch", &[1, 2, 3], &[])?;

        self.prepare(4, &ours, "observer")?;
        self.launch(4, &[1, 2, 3, 4])?;
        self.ask(1, &[4], &[])?;
        self.await_parts("one of ours joins as an observer", &[1, 2, 3], &[4])?;
        self.member(4).place.role = "participant";
        self.ask(2, &[4], &[])?;
        self.await_parts("and votes", &[1, 2, 3, 4], &[])?;
        self.prepare(5, &java, "participant")?;
        self.launch(5, &[1, 2, 3, 4, 5])?;
        self.ask(4, &[5], &[])?;
        self.await_parts("the reference joins", &[1, 2, 3, 4, 5], &[])?;

        let leader = self.leader(&[1, 2, 3, 4, 5])?;
        let others: Vec<u16> = (1..=5).filter(|id| *id != leader).collect();
        self.ask(others[0], &[], &[leader])?;
        self.await_parts("the leader leaves", &others, &[])?;
        self.member(leader).running.take().expect("it runs").kill()?;
        let mut voters = others;
        // One of ours is to lead.
        while let leader = self.leader(&voters)?
            && matches!(self.member(leader).setup.kind, Kind::Java { .. })
        {
            self.member(leader).running.take().expect("it leads").kill()?;
            let rest: Vec<u16> = voters.iter().copied().filter(|id| *id != leader).collect();
            self.leader(&rest)?;
            let again = self.member(leader).setup.launch_again()?;
            self.member(leader).running = Some(again);
            self.await_parts("the reference comes back", &voters, &[])?;
        }

        let leader = self.leader(&voters)?;
        let is_ours = |id: u16| !matches!(self.members[&id].setup.kind, Kind::Java { .. });
        let follower = voters.iter().copied().find(|id| *id != leader && is_ours(*id)).expect("1, 2 or 4");
        let old_port = self.member(follower).place.client;
        self.member(follower).place.client += MOVED_OFFSET;
        self.member(follower).setup.port += MOVED_OFFSET;
        self.ask(leader, &[follower], &[])?;
        self.await_parts("a client port moves", &voters, &[])?;
        if std::net::TcpStream::connect(("127.0.0.1", old_port)).is_ok() {
            return Err(format!("server {follower} still lets clients in at {old_port}").into());
        }
        let port = self.member(follower).setup.port;
        let address = self.member(follower).setup.address();
        patiently(PATIENCE, POLL_INTERVAL, || {
            let told = four_letter(address, "conf")?;
            match told.lines().any(|line| line == format!("clientPort={port}")) {
                true => Ok(()),
                false => Err(format!("server {follower} lets clients in at {port}, and `conf` says\n{told}").into()),
            }
        })?;
        self.member(follower).place.quorum += MOVED_OFFSET;
        self.member(follower).place.election += MOVED_OFFSET;
        self.ask(leader, &[follower], &[])?;
        self.await_parts("the ports for other servers move", &voters, &[])?;

        self.ask(follower, &[], &[leader])?;
        voters.retain(|id| *id != leader);
        self.await_parts("a leader of ours leaves", &voters, &[])?;
        self.member(leader).place.role = "observer";
        self.ask(follower, &[leader], &[])?;
        self.await_parts("and is back as an observer", &voters, &[leader])?;

        let everybody: Vec<u16> = voters.iter().copied().chain([leader]).collect();
        for id in &everybody {
            self.member(*id).running.take().expect("it runs").kill()?;
        }
        for id in &everybody {
            let again = self.member(*id).setup.launch_again()?;
            self.member(*id).running = Some(again);
        }
        self.await_parts("everybody finds the others by the files alone", &voters, &[leader])?;
        for id in everybody {
            self.member(id).running.take().expect("it runs").stop()?;
        }
        Ok(())
    }

    fn member(&mut self, id: u16) -> &mut Member {
        self.members.get_mut(&id).expect("a member of the play")
    }

    fn prepare(&mut self, id: u16, kind: &Kind, role: &'static str) -> Result<()> {
        let client = self.options.port + id;
        let Ports { quorum, election, .. } = Ports::of(&Home::default(), self.options.port, usize::from(id) - 1);
        let setup = Setup {
            kind: kind.clone(),
            directory: self.options.directory.join(format!("server-{id}")),
            home: Home::default(),
            port: client,
            tick_ms: TICK_MS,
            my_id: Some(id.into()),
            extra: Vec::new(),
        };
        setup.wipe()?;
        let place = Place { client, quorum, election, role };
        self.members.insert(id, Member { setup, place, running: None });
        Ok(())
    }

    /// On an empty directory; it knows of these, and of nothing that changed since.
    fn launch(&mut self, id: u16, known: &[u16]) -> Result<()> {
        let settings = ["initLimit=10", "syncLimit=20", "reconfigEnabled=true", "skipACL=yes"].map(str::to_owned);
        let lines: Vec<String> = known.iter().map(|id| self.members[id].place.line(*id)).collect();
        let member = self.member(id);
        member.setup.extra = settings.into_iter().chain(lines).collect();
        member.running = Some(member.setup.launch()?);
        Ok(())
    }

    fn await_elector(&self, id: u16) -> Result<()> {
        let port = self.members[&id].place.election;
        patiently(PATIENCE, POLL_INTERVAL, || {
            let called = std::net::TcpStream::connect(("127.0.0.1", port));
            called.map(drop).map_err(|why| format!("server {id} has no election port: {why}").into())
        })
    }

    fn open(&self, via: u16) -> Result<Client> {
        patiently(PATIENCE, POLL_INTERVAL, || {
            match Client::open(self.members[&via].setup.address(), SESSION_MS, None, 0) {
                Ok(Opened::Session(client)) => Ok(client),
                other => Err(format!("server {via}: {other:?}").into()),
            }
        })
    }

    /// Until it is in force. An answer may be lost with a leader that leaves.
    fn ask(&mut self, via: u16, joining: &[u16], leaving: &[u16]) -> Result<()> {
        let lines: Vec<String> = joining.iter().map(|id| self.members[id].place.line(*id)).collect();
        let request = Request::Reconfig {
            joining: lines.join(","),
            leaving: leaving.iter().map(u16::to_string).collect::<Vec<_>>().join(","),
        };
        let deadline = Instant::now() + PATIENCE;
        let before = self.shown(via)?;
        loop {
            let answer = self.open(via)?.call(&request).map(|reply: Reply| reply.code);
            let is_done = matches!(answer, Ok(code::OK)) || self.shown(via)? != before;
            match answer {
                _ if is_done => return Ok(()),
                // Newcomers have to be in step first.
                Ok(code::NEW_CONFIG_NO_QUORUM | code::RECONFIG_IN_PROGRESS) | Err(_) if Instant::now() < deadline => {
                    std::thread::sleep(POLL_INTERVAL);
                }
                other => return Err(format!("{request:?} through server {via}: {other:?}").into()),
            }
        }
    }

    /// The configuration that it shows.
    fn shown(&self, id: u16) -> Result<String> {
        let read = || -> Result<String> {
            let mut client = self.open(id)?;
            client.ask(&Request::Sync { path: "/".into() })?;
            let (text, _) = client.ask(&Request::Get { path: "/zookeeper/config".into() })?.data()?;
            Ok(String::from_utf8(text)?)
        };
        patiently(PATIENCE, POLL_INTERVAL, read).map_err(|why| format!("server {id}: {why}").into())
    }

    /// These vote and those observe: they say so, show it, keep it, and work.
    fn await_parts(&mut self, step: &str, voters: &[u16], observers: &[u16]) -> Result<()> {
        let begun = Instant::now();
        self.check_parts(voters, observers).map_err(|why| format!("{step}: {why}"))?;
        let leader = self.leader(voters)?;
        println!("{step}: {:.1?}, server {leader} leads", begun.elapsed());
        Ok(())
    }

    fn check_parts(&mut self, voters: &[u16], observers: &[u16]) -> Result<()> {
        let everybody: Vec<u16> = voters.iter().chain(observers).copied().collect();
        let mut lines: Vec<String> = everybody.iter().map(|id| self.members[id].place.line(*id)).collect();
        lines.sort();
        for id in &everybody {
            let wanted = |part| match observers.contains(id) {
                true => part == Part::Observer,
                false => matches!(part, Part::Leader | Part::Follower),
            };
            await_part(&self.members[id].setup, wanted)?;
            self.checked += 1;
        }
        let version = self.await_shown(&everybody, &lines)?;
        self.write(&everybody)?;
        for id in &everybody {
            self.await_files(*id, &version, &lines)?;
            no_mismatch(&self.members[id].setup)?;
        }
        self.same_trees(&everybody)
    }

    /// Everybody shows these lines, in one version.
    fn await_shown(&mut self, everybody: &[u16], lines: &[String]) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let shown = everybody.iter().map(|id| self.shown(*id)).collect::<Result<Vec<_>>>()?;
            let (members, version) = shown[0].rsplit_once("\nversion=").ok_or("a configuration without a version")?;
            let mut members: Vec<&str> = members.lines().collect();
            members.sort_unstable();
            if members == *lines && shown.iter().all(|text| *text == shown[0]) {
                self.checked += shown.len();
                return Ok(version.to_owned());
            }
            if Instant::now() > deadline {
                return Err(format!("{lines:?} are wanted, and shown are {shown:?}").into());
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// A server writes them when it has the time.
    fn await_files(&mut self, id: u16, version: &str, lines: &[String]) -> Result<()> {
        let written = patiently(PATIENCE, POLL_INTERVAL, || self.check_files(id, version, lines));
        written.map_err(|why| format!("server {id}: {why}").into())
    }

    /// The file of the configuration, which zoo.cfg points to, is what every make writes.
    fn check_files(&mut self, id: u16, version: &str, lines: &[String]) -> Result<()> {
        let directory = &self.members[&id].setup.directory;
        let path = directory.join(format!("zoo.cfg.dynamic.{version}"));
        let read = |path: &Path| fs::read_to_string(path).map_err(|why| format!("{}: {why}", path.display()));
        if read(&path)? != lines.join("\n") {
            return Err(format!("{} is {:?}, not {lines:?}", path.display(), read(&path)?).into());
        }
        let zoo_cfg = read(&directory.join("zoo.cfg"))?;
        let pointer = zoo_cfg.lines().filter_map(|line| line.strip_prefix("dynamicConfigFile=")).collect::<Vec<_>>();
        if pointer != [path.display().to_string()] || zoo_cfg.contains("server.") || zoo_cfg.contains("clientPort=") {
            return Err(format!("zoo.cfg does not point to {}: {zoo_cfg}", path.display()).into());
        }
        // The reference may leave one behind that it found out of date.
        let is_ours = matches!(self.members[&id].setup.kind, Kind::Ringkeeper { .. });
        if is_ours && directory.join("zoo.cfg.dynamic.next").exists() {
            return Err("nothing is proposed, and zoo.cfg.dynamic.next is there".into());
        }
        self.checked += 3;
        Ok(())
    }

    fn write(&mut self, through: &[u16]) -> Result<()> {
        for id in through {
            let numbers = self.written..self.written + WRITES;
            self.written += WRITES;
            // All of them again, if a connection ends.
            patiently(PATIENCE, POLL_INTERVAL, || self.try_write(*id, numbers.clone()))??;
            self.checked += WRITES;
        }
        Ok(())
    }

    /// Within the result: a write was refused.
    fn try_write(&self, through: u16, numbers: std::ops::Range<usize>) -> Result<Result<()>> {
        let mut client = self.open(through)?;
        for number in numbers {
            let data = through.to_string().into();
            let create = Request::Create { path: format!("/n{number}"), data, ephemeral: false };
            match client.call(&create)?.code {
                // An attempt before this one was not in vain.
                code::OK | code::NODE_EXISTS => {}
                other => return Ok(Err(format!("{create:?} through server {through} got {other}").into())),
            }
        }
        client.call(&Request::CloseSession)?;
        Ok(Ok(()))
    }

    fn same_trees(&mut self, everybody: &[u16]) -> Result<()> {
        let first = walk(self.members[&everybody[0]].setup.address())?;
        for id in &everybody[1..] {
            let other = walk(self.members[id].setup.address())?;
            same(&first, &other).map_err(|what| format!("servers {} and {id}: {what}", everybody[0]))?;
            self.checked += other.len();
        }
        Ok(())
    }

    fn leader(&self, among: &[u16]) -> Result<u16> {
        let leads = |id: &&u16| part_of(&self.members[*id].setup).is_ok_and(|part| part == Part::Leader);
        patiently(PATIENCE, POLL_INTERVAL, || {
            among.iter().find(leads).copied().ok_or_else(|| format!("nobody of {among:?} leads").into())
        })
    }
}
