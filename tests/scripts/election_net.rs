//! Electors and what is on its way between them: of each pair, each way, only the newest notification. A message moves when it
//! is told to, time passes when it is told to.

use std::collections::{BTreeMap, BTreeSet};

use ringkeeper::core::election::{Candidate, Election};
use ringkeeper::core::settings::Ensemble;
use ringkeeper::core::types::{Now, Output, ServerId, Standing, Zxid};
use ringkeeper::core::zab::membership::{Configurations, Membership};
use ringkeeper::wire::election::{Notification, PeerState};

use super::java_elector::JavaElector;

pub struct Net {
    pub now_us: u64,
    pub configs: Configurations,
    pub settings: Ensemble,
    pub servers: BTreeMap<i64, Server>,
    /// What happened, in words.
    pub told: Vec<String>,
    waiting: BTreeMap<Way, Notification>,
    /// The last message ever sent: sent again when a connection comes back (quorum-protocol 3.4).
    last: BTreeMap<Way, Notification>,
    cut: BTreeSet<Way>,
}

/// From whom, to whom.
pub type Way = (i64, i64);

pub struct Server {
    pub candidate: Candidate,
    pub is_java: bool,
    /// None: down.
    pub machine: Option<Machine>,
}

#[allow(clippy::large_enum_variant, reason = "a handful of them")]
pub enum Machine {
    Ours(Election),
    Java(JavaElector),
}

impl Net {
    pub fn new(membership: Membership) -> Net {
        Net {
            now_us: 0,
            configs: Configurations::settled(membership),
            settings: Ensemble::default(),
            servers: BTreeMap::new(),
            told: Vec::new(),
            waiting: BTreeMap::new(),
            last: BTreeMap::new(),
            cut: BTreeSet::new(),
        }
    }

    /// A server that nothing is known of is empty, ours, and down.
    pub fn server(&mut self, id: i64) -> &mut Server {
        self.servers.entry(id).or_insert(Server {
            candidate: Candidate { last_logged: Zxid(0), current_epoch: 0, standing: Standing::Fresh },
            is_java: false,
            machine: None,
        })
    }

    pub fn is_up(&self, id: i64) -> bool {
        self.servers.get(&id).is_some_and(|server| server.machine.is_some())
    }

    pub fn state(&self, id: i64) -> Option<PeerState> {
        Some(match self.servers.get(&id)?.machine.as_ref()? {
            Machine::Ours(election) => election.state(),
            Machine::Java(java) => java.state,
        })
    }

    /// Leader, zxid, round and epoch.
    pub fn vote(&self, id: i64) -> Option<(i64, i64, i64, i64)> {
        Some(match self.servers.get(&id)?.machine.as_ref()? {
            Machine::Ours(election) => {
                let vote = election.current_vote();
                (vote.leader.0, vote.zxid, vote.election_epoch, vote.peer_epoch)
            }
            Machine::Java(java) => java.current_vote(),
        })
    }

    /// Whether its word about its own history counts for a new leader (ACKEPOCH).
    pub fn counts(&self, id: i64) -> bool {
        match self.servers.get(&id).and_then(|server| server.machine.as_ref()) {
            Some(Machine::Ours(election)) => election.counts(),
            Some(Machine::Java(_)) => true,
            None => false,
        }
    }

    /// The process starts, and looks for a leader.
    pub fn start(&mut self, id: i64) {
        let (settings, configs) = (self.settings.clone(), self.configs.clone());
        let server = self.server(id);
        assert!(server.machine.is_none(), "{id} is up already");
        let (zxid, epoch) = java_past(&server.candidate);
        server.machine = Some(match server.is_java {
            false => Machine::Ours(Election::new(ServerId(id), &settings, server.candidate, &configs)),
            true => Machine::Java(JavaElector::new(id, zxid, epoch)),
        });
        self.look(id);
        self.reconnect(|way| way.1 == id);
    }

    /// The role ended: it looks for a leader again.
    pub fn look(&mut self, id: i64) {
        self.step(id, |machine, candidate, now, configs, sent| match machine {
            Machine::Ours(election) => ours(sent, |out| election.start(now, candidate, configs, out)),
            Machine::Java(java) => {
                let (zxid, epoch) = java_past(&candidate);
                java.look_for_leader(now.mono_us, zxid, epoch, configs, &mut sent.messages);
            }
        });
    }

    pub fn stop(&mut self, id: i64) {
        self.server(id).machine = None;
        self.waiting.retain(|(from, _), _| *from != id);
        self.last.retain(|(from, _), _| *from != id);
    }

    /// The leader has synchronised it, in this epoch.
    pub fn established(&mut self, id: i64, epoch: u32, last_logged: Zxid) {
        let server = self.server(id);
        server.candidate = Candidate { last_logged, current_epoch: epoch, standing: Standing::Whole };
        match server.machine.as_mut().expect("it is up") {
            Machine::Ours(election) => election.epoch_established(epoch),
            Machine::Java(java) => java.update_election_vote(epoch.into()),
        }
    }

    pub fn cut(&mut self, way: Way) {
        self.cut.insert(way);
    }

    pub fn is_cut(&self, way: Way) -> bool {
        self.cut.contains(&way)
    }

    pub fn mend(&mut self, mended: impl Fn(Way) -> bool) {
        let ways: Vec<Way> = self.cut.iter().copied().filter(|way| mended(*way)).collect();
        self.cut.retain(|way| !ways.contains(way));
        self.reconnect(|way| ways.contains(&way));
    }

    pub fn waiting(&self) -> Vec<Way> {
        self.waiting.keys().copied().collect()
    }

    pub fn deliverable(&self) -> Vec<Way> {
        self.waiting.keys().copied().filter(|way| !self.cut.contains(way) && self.is_up(way.1)).collect()
    }

    pub fn take(&mut self, way: Way) -> Option<Notification> {
        self.waiting.remove(&way)
    }

    /// As if it had come from there.
    pub fn put(&mut self, way: Way, notification: Notification) {
        self.waiting.insert(way, notification);
    }

    /// Delivers what is on this way.
    pub fn deliver(&mut self, way: Way) {
        let notification = self.waiting.remove(&way).expect("something is on its way");
        self.told.push(format!("{}>{} {}", way.0, way.1, describe(&notification)));
        self.step(way.1, |machine, _, now, configs, sent| match machine {
            Machine::Ours(election) => {
                let from = ServerId(way.0);
                ours(sent, |out| election.on_notification(now, from, &notification, configs, out));
            }
            Machine::Java(java) => java.receive(now.mono_us, way.0, &notification, configs, &mut sent.messages),
        });
    }

    pub fn next_wake_us(&self) -> Option<u64> {
        let wake_us = |server: &Server| match server.machine.as_ref()? {
            Machine::Ours(election) => election.wake_us(),
            Machine::Java(java) => java.wake_us(),
        };
        self.servers.values().filter_map(wake_us).min()
    }

    /// Lets time pass, with everything that is due on the way. Nothing is delivered.
    pub fn pass_until(&mut self, until_us: u64) {
        while let Some(at_us) = self.next_wake_us().filter(|at_us| *at_us <= until_us) {
            self.now_us = self.now_us.max(at_us);
            for id in self.servers.keys().copied().collect::<Vec<i64>>() {
                self.tick(id);
            }
        }
        self.now_us = until_us;
    }

    fn tick(&mut self, id: i64) {
        self.step(id, |machine, _, now, configs, sent| match machine {
            Machine::Ours(election) => ours(sent, |out| election.on_tick(now, configs, out)),
            Machine::Java(java) => java.tick(now.mono_us, configs, &mut sent.messages),
        });
    }

    fn step(&mut self, id: i64, act: impl FnOnce(&mut Machine, Candidate, Now, &Configurations, &mut Sent)) {
        let before = self.state(id);
        let now = Now { mono_us: self.now_us, wall_ms: 0 };
        let server = self.servers.get_mut(&id).expect("a known server");
        let Some(machine) = server.machine.as_mut() else { return };
        let mut sent = Sent::default();
        act(machine, server.candidate, now, &self.configs, &mut sent);
        self.told.extend(sent.told.into_iter().map(|text| format!("  {id} says: {text}")));
        for (to, notification) in sent.messages {
            self.last.insert((id, to), notification.clone());
            self.waiting.insert((id, to), notification);
        }
        let machine = self.servers.get_mut(&id).and_then(|server| server.machine.as_mut());
        let decided = match machine.expect("it is up") {
            Machine::Ours(election) => election.take_decision().is_some(),
            Machine::Java(java) => before == Some(PeerState::Looking) && java.state != PeerState::Looking,
        };
        if decided {
            let (leader, zxid, round, epoch) = self.vote(id).expect("it is up");
            let state = name(self.state(id).expect("it is up"));
            self.told.push(format!("  {id} is {state} {leader} (epoch {epoch}, zxid {zxid:#x}, round {round})"));
        }
    }

    /// A connection that is usable again and has nothing to say says its last word again.
    fn reconnect(&mut self, usable_again: impl Fn(Way) -> bool) {
        for (way, notification) in self.last.iter().filter(|(way, _)| usable_again(**way)) {
            self.waiting.entry(*way).or_insert_with(|| notification.clone());
        }
    }
}

#[derive(Default)]
struct Sent {
    messages: Vec<(i64, Notification)>,
    told: Vec<String>,
}

fn ours(sent: &mut Sent, act: impl FnOnce(&mut Vec<Output>)) {
    let mut out = Vec::new();
    act(&mut out);
    for output in out {
        match output {
            Output::Notify { to, notification } => sent.messages.push((to.0, notification)),
            Output::Told(text) => sent.told.push(text),
            other => panic!("an election has no {other:?}"),
        }
    }
}

/// Java knows nothing of fresh disks: an empty one votes for zxid 0.
fn java_past(candidate: &Candidate) -> (i64, i64) {
    let zxid = if candidate.standing == Standing::Lost { -1 } else { candidate.last_logged.0 as i64 };
    (zxid, candidate.current_epoch.into())
}

pub fn name(state: PeerState) -> &'static str {
    match state {
        PeerState::Looking => "LOOKING",
        PeerState::Following => "FOLLOWING",
        PeerState::Leading => "LEADING",
        PeerState::Observing => "OBSERVING",
    }
}

pub fn describe(notification: &Notification) -> String {
    let Notification { leader, zxid, election_epoch, peer_epoch, .. } = notification;
    let state = name(notification.state);
    if *leader == i64::MIN {
        return format!("{state} nobody (round {election_epoch})");
    }
    let zxid = if *zxid == -1 { "lost".to_string() } else { format!("{zxid:#x}") };
    let version = if notification.version == 2 { String::new() } else { format!(", version {}", notification.version) };
    format!("{state} {leader} (epoch {peer_epoch}, zxid {zxid}, round {election_epoch}{version})")
}
