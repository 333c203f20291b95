//! Several nodes, their disks and the links between them, all in the hands of a test. What is sent arrives in the order in
//! which it was sent, at once, unless somebody is cut off; time passes when the test says so.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use ringkeeper::core::peer::MemberStart;
use ringkeeper::core::replay::Replay;
use ringkeeper::core::tree::MemorySnapshot;
use ringkeeper::core::types::{EpochKind, Epochs, LinkId, LinkMessage, RoleView, ServerId, Standing};
use ringkeeper::core::zab::membership::{Configurations, Membership};
use ringkeeper::core::{Input, Now, Output, Reloaded, Settings, Zxid};
use ringkeeper::wire::client::ConnectRequest;
use ringkeeper::wire::quorum::PROTOCOL_JAVA;
use ringkeeper_storage::{NodeImage, SnapshotHeader};

use super::harness::{Client, Server};

pub struct Ensemble {
    servers: BTreeMap<i64, Place>,
    settings: Settings,
    queue: VecDeque<(i64, Arrival)>,
    links: BTreeMap<LinkId, End>,
    next_link: u64,
    /// What is sent to this one arrives, and is not taken off its senders' hands: `unsent`.
    clogged: Option<i64>,
    unsent: Vec<(i64, LinkId, usize)>,
    held: Option<Held>,
    pub now: Now,
}

/// Where a server runs, and what survives it.
struct Place {
    server: Option<Server>,
    disk: Disk,
    accepting: bool,
    /// Observers, at a door of their own.
    accepting_observers: bool,
    connecting: Option<Search>,
    cut_off: bool,
    /// Its disk has no room for a state from a leader.
    full: bool,
    role: Option<RoleView>,
    told: Vec<String>,
    installing: Option<(SnapshotHeader, Vec<NodeImage>)>,
    /// Its files of configurations, which are beside the data.
    configs: Configurations,
    /// Where it was told to listen for clients.
    client_address: Option<(String, u16)>,
    /// How often a learner was brought up to date from this server's log on disk.
    log_reads: usize,
    /// How often this server was given a whole state.
    installs: usize,
    /// How often this server had to cut its log.
    cuts: usize,
}

/// Who is knocked at, and at which door.
#[derive(Clone, Copy)]
struct Search {
    master: i64,
    observes: bool,
    until_us: u64,
}

#[derive(Clone)]
struct Disk {
    epochs: Epochs,
    base: Option<(SnapshotHeader, Vec<NodeImage>)>,
    log: Vec<(Zxid, Bytes)>,
    /// There is a currentEpoch: what is here is a history as a whole.
    whole: bool,
    /// Something that was here was given up.
    lost: bool,
}

/// What comes to a learner from the beginning of its snapshot on.
struct Held {
    learner: i64,
    /// Its leader passes for a Java server.
    from_java: bool,
    messages: Vec<(LinkId, LinkMessage)>,
}

#[derive(Clone, Copy)]
struct End {
    owner: i64,
    other: LinkId,
}

#[derive(Debug)]
enum Arrival {
    Input(Box<Input<'static>>),
    Link(LinkId, LinkMessage),
    Closed(LinkId),
}

impl Disk {
    fn new() -> Disk {
        Disk { epochs: Epochs { accepted: 0, current: 0 }, base: None, log: Vec::new(), whole: false, lost: false }
    }

    fn replayed(&self, settings: &Settings) -> Replay {
        let mut replay = match &self.base {
            Some((header, images)) => {
                let source = MemorySnapshot::new(header.clone(), images.clone());
                Replay::from_snapshot(Box::new(source), settings.tree_options()).unwrap()
            }
            None => Replay::empty(settings.tree_options()),
        };
        for (_, txn) in &self.log {
            replay.apply(txn).unwrap();
        }
        replay
    }

    fn standing(&self) -> Standing {
        match (self.whole, self.lost || self.base.is_some() || !self.log.is_empty()) {
            (true, _) => Standing::Whole,
            (false, true) => Standing::Lost,
            (false, false) => Standing::Fresh,
        }
    }

    /// Cuts the log there. A state that cannot be cut is given up.
    fn truncate(&mut self, to: Zxid) {
        self.log.retain(|(zxid, _)| *zxid <= to);
        let base = self.base.as_ref().map(|(header, _)| Zxid(header.zxid));
        if self.log.last().map(|(zxid, _)| *zxid).or(base) != Some(to) {
            *self = Disk { epochs: Epochs { current: 0, ..self.epochs }, lost: true, ..Disk::new() };
        }
    }
}

impl Ensemble {
    /// Everybody up, and nothing said yet.
    pub fn of(voters: i64, observers: i64, settings: Settings) -> Ensemble {
        Ensemble::with_spares(voters, observers, 0, settings)
    }

    /// Beside them servers that are in nobody's configuration, and know that of the others.
    pub fn with_spares(voters: i64, observers: i64, spares: i64, settings: Settings) -> Ensemble {
        let mut ensemble = Ensemble {
            servers: BTreeMap::new(),
            settings,
            queue: VecDeque::new(),
            links: BTreeMap::new(),
            next_link: 0,
            clogged: None,
            unsent: Vec::new(),
            held: None,
            now: Now { mono_us: 1_000_000, wall_ms: 1_795_000_000_000 },
        };
        for id in 1..=voters + observers + spares {
            ensemble.servers.insert(
                id,
                Place {
                    server: None,
                    disk: Disk::new(),
                    accepting: false,
                    accepting_observers: false,
                    connecting: None,
                    cut_off: false,
                    full: false,
                    role: None,
                    told: Vec::new(),
                    installing: None,
                    configs: Configurations::settled(Membership::of(voters, observers)),
                    client_address: None,
                    log_reads: 0,
                    installs: 0,
                    cuts: 0,
                },
            );
        }
        (1..=voters + observers + spares).for_each(|id| ensemble.start(id));
        ensemble
    }

    /// Three voters who have found their leader.
    pub fn settled() -> Ensemble {
        let mut ensemble = Ensemble::of(3, 0, quick());
        ensemble.settle();
        ensemble
    }

    /// Lets time pass until all that run and are not cut off serve.
    pub fn settle(&mut self) {
        for _ in 0..400 {
            let serves = |place: &Place| place.server.as_ref().is_none_or(|server| server.node.is_serving());
            if self.servers.values().filter(|place| !place.cut_off).all(serves) {
                return;
            }
            self.pass_ms(100);
        }
        let roles: Vec<_> = self.servers.iter().map(|(id, place)| (id, &place.role, &place.told)).collect();
        panic!("they do not agree: {roles:#?}");
    }

    pub fn start(&mut self, id: i64) {
        let settings = Settings { server: ServerId(id), ..self.settings.clone() };
        let place = self.servers.get_mut(&id).unwrap();
        assert!(place.server.is_none(), "{id} runs");
        let start = MemberStart {
            recovered: place.disk.replayed(&settings).finish(),
            epochs: place.disk.epochs,
            standing: place.disk.standing(),
            configs: place.configs.clone(),
        };
        place.server = Some(Server::member(settings, start, place.disk.log.clone(), self.now));
        self.pump();
    }

    /// What was not on its disk is gone, and its peers see their links break.
    pub fn crash(&mut self, id: i64) {
        let place = self.servers.get_mut(&id).unwrap();
        let server = place.server.take().expect("it runs");
        place.disk.log = server.log[..server.durable].to_vec();
        (place.accepting, place.accepting_observers) = (false, false);
        (place.connecting, place.role) = (None, None);
        place.installing = None;
        self.queue.retain(|(to, _)| *to != id);
        self.break_links(id);
        self.pump();
    }

    /// Nobody hears of it and it hears of nobody; its links break.
    pub fn cut_off(&mut self, id: i64) {
        self.place(id).cut_off = true;
        self.break_links(id);
        self.pump();
    }

    /// As `cut_off`, but nobody is told: its links are silent.
    pub fn cut_off_silently(&mut self, id: i64) {
        self.place(id).cut_off = true;
    }

    /// Its links break if they have not yet, and it can be reached again.
    pub fn rejoin(&mut self, id: i64) {
        self.break_links(id);
        self.place(id).cut_off = false;
    }

    /// A new disk takes the place of the one of a server that is down.
    pub fn wipe(&mut self, id: i64) {
        self.place(id).disk = Disk::new();
    }

    /// It has promised epochs since, and was in some.
    pub fn raise_epochs(&mut self, id: i64, accepted: u32, current: u32) {
        let epochs = &mut self.place(id).disk.epochs;
        epochs.accepted += accepted;
        epochs.current += current;
    }

    /// Version and voters of what is in force here, as its files have it.
    pub fn in_force(&mut self, id: i64) -> (u64, Vec<i64>) {
        let committed = &self.place(id).configs.committed;
        (committed.version, committed.voters().map(|id| id.0).collect())
    }

    /// What its files say of configurations.
    pub fn config_files(&mut self, id: i64) -> &mut Configurations {
        &mut self.place(id).configs
    }

    pub fn client_address(&mut self, id: i64) -> Option<(String, u16)> {
        self.place(id).client_address.clone()
    }

    /// Whether its disk has room for a state from a leader.
    pub fn set_full(&mut self, id: i64, full: bool) {
        self.place(id).full = full;
    }

    /// From now on nothing sent to this one is taken off its sender's hands.
    pub fn clog(&mut self, id: i64) {
        self.clogged = Some(id);
    }

    pub fn unclog(&mut self) {
        self.clogged = None;
        for (id, link, bytes) in std::mem::take(&mut self.unsent) {
            self.arrive(id, Input::LinkSent { link, bytes });
        }
        self.pump();
    }

    /// What this one was told about its peers.
    pub fn told(&mut self, id: i64) -> String {
        self.place(id).told.join("\n")
    }

    fn break_links(&mut self, id: i64) {
        let links: Vec<LinkId> = self.links.iter().filter(|(_, end)| end.owner == id).map(|(link, _)| *link).collect();
        for link in links {
            self.unlink(link);
            self.queue.push_back((id, Arrival::Closed(link)));
        }
    }

    /// This end is gone; the other one hears of it.
    fn unlink(&mut self, link: LinkId) {
        if let Some(End { other, .. }) = self.links.remove(&link)
            && let Some(far) = self.links.remove(&other)
        {
            self.queue.push_back((far.owner, Arrival::Closed(other)));
        }
    }

    /// This end is closed: the other one hears everything that was sent before, and then of that.
    fn close_link(&mut self, link: LinkId) {
        if let Some(End { other, .. }) = self.links.remove(&link)
            && let Some(far) = self.links.get(&other)
        {
            self.queue.push_back((far.owner, Arrival::Closed(other)));
        }
    }

    pub fn server(&mut self, id: i64) -> &mut Server {
        self.place(id).server.as_mut().expect("it runs")
    }

    fn place(&mut self, id: i64) -> &mut Place {
        self.servers.get_mut(&id).expect("a member")
    }

    pub fn role(&mut self, id: i64) -> RoleView {
        self.place(id).role.clone().expect("it runs")
    }

    /// How often anybody needed more than the leader's window to come back.
    pub fn log_reads_and_installs(&self) -> (usize, usize) {
        let places = || self.servers.values();
        (places().map(|place| place.log_reads).sum(), places().map(|place| place.installs).sum())
    }

    /// How often this one was given a whole state.
    pub fn installs(&mut self, id: i64) -> usize {
        self.place(id).installs
    }

    /// How often anybody had to cut off what it had.
    pub fn cuts(&self) -> usize {
        self.servers.values().map(|place| place.cuts).sum()
    }

    /// The one that leads and serves.
    pub fn leader(&self) -> i64 {
        let leads = |place: &Place| matches!(place.role, Some(RoleView::Leading { serving: true, .. }));
        let leaders: Vec<i64> = self.servers.iter().filter(|(_, place)| leads(place)).map(|(id, _)| *id).collect();
        assert_eq!(leaders.len(), 1, "{leaders:?} lead");
        leaders[0]
    }

    /// Who serves this one: the other end of its link.
    pub fn master_of(&self, id: i64) -> i64 {
        let links: Vec<&End> = self.links.values().filter(|end| end.owner == id).collect();
        assert_eq!(links.len(), 1, "{id} has one link");
        self.links[&links[0].other].owner
    }

    pub fn followers(&self) -> Vec<i64> {
        let leader = self.leader();
        self.servers.keys().copied().filter(|id| *id != leader).collect()
    }

    pub fn pass_ms(&mut self, ms: u64) {
        self.now.mono_us += ms * 1000;
        self.now.wall_ms += ms as i64;
        for id in self.servers.keys().copied().collect::<Vec<_>>() {
            if self.place(id).server.is_some() {
                self.server(id).now = self.now;
                self.step(id, Input::Tick);
            }
        }
        self.pump();
    }

    /// A call of one server's harness, and everything that follows from it.
    pub fn at<T>(&mut self, id: i64, act: impl FnOnce(&mut Server) -> T) -> T {
        let done = act(self.server(id));
        self.pump();
        done
    }

    pub fn client(&mut self, id: i64) -> Client {
        self.connect(id, Some(false), &Client::NOBODY).expect("a new session").0
    }

    pub fn resume(&mut self, id: i64, client: &Client) -> Option<Client> {
        self.connect(id, Some(false), client).map(|(client, _)| client)
    }

    /// A handshake, with a session or for one. Gives whether the server is in read-only mode, too.
    pub fn connect(&mut self, id: i64, read_only: Option<bool>, client: &Client) -> Option<(Client, bool)> {
        let connection = self.shake_hands(id, read_only, client);
        self.server(id).welcomed_in_mode(connection)
    }

    /// The connection that a handshake was sent on.
    pub fn shake_hands(&mut self, id: i64, read_only: Option<bool>, client: &Client) -> ringkeeper::core::ConnectionId {
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: 0,
            timeout_ms: client.timeout_ms,
            session_id: client.session.0,
            password: Some(&client.password),
            read_only,
        };
        let mut frame = Vec::new();
        request.encode(&mut frame);
        self.at(id, |server| {
            let connection = server.accept();
            server.bytes(connection, &frame);
            connection
        })
    }

    /// Every server that runs has the same tree after the same transaction.
    pub fn assert_agreed(&mut self) {
        let states: Vec<_> = self
            .servers
            .iter()
            .filter_map(|(id, place)| place.server.as_ref().map(|server| (*id, server)))
            .map(|(id, server)| (id, server.node.last_processed(), server.node.tree().digest()))
            .collect();
        assert!(states.windows(2).all(|two| (two[0].1, two[0].2) == (two[1].1, two[1].2)), "{states:?}");
    }

    fn step(&mut self, id: i64, input: Input<'_>) {
        if let Some(server) = &mut self.place(id).server {
            server.step(input);
        }
    }

    /// Carries out what was said until nothing is said any more.
    pub fn pump(&mut self) {
        for _ in 0..100_000 {
            for id in self.servers.keys().copied().collect::<Vec<_>>() {
                let Some(server) = &mut self.place(id).server else { continue };
                for output in std::mem::take(&mut server.to_peers) {
                    self.carry_out(id, output);
                }
            }
            self.try_to_connect();
            let Some((to, arrival)) = self.queue.pop_front() else {
                let silent = |place: &Place| place.server.as_ref().is_none_or(|server| server.to_peers.is_empty());
                if self.servers.values().all(silent) {
                    return;
                }
                continue;
            };
            match arrival {
                Arrival::Input(input) => self.step(to, *input),
                Arrival::Link(link, message) if self.links.contains_key(&link) => {
                    if let Some(message) = self.hold(to, link, message) {
                        self.step(to, Input::LinkReceived { link, message });
                    }
                }
                Arrival::Link(..) => {}
                Arrival::Closed(link) => {
                    self.links.remove(&link);
                    self.step(to, Input::LinkClosed { link });
                }
            }
        }
        panic!("they talk for ever");
    }

    /// Its snapshot will wait for `release_snapshot`, and its leader may pass for a Java server.
    pub fn hold_snapshot(&mut self, learner: i64, from_java: bool) {
        self.held = Some(Held { learner, from_java, messages: Vec::new() });
    }

    fn hold(&mut self, to: i64, link: LinkId, mut message: LinkMessage) -> Option<LinkMessage> {
        let Some(held) = self.held.as_mut() else { return Some(message) };
        if held.from_java
            && to == held.learner
            && let LinkMessage::Packet(packet) = &mut message
            && let Some(protocol) = packet.protocol_mut()
        {
            *protocol = PROTOCOL_JAVA;
        }
        if to != held.learner {
            return Some(message);
        }
        if held.messages.is_empty() && !matches!(message, LinkMessage::SnapshotBegin(_)) {
            return Some(message);
        }
        held.messages.push((link, message));
        None
    }

    /// What was held arrives, after `change` has had a look at it.
    pub fn release_snapshot(&mut self, mut change: impl FnMut(&mut LinkMessage)) {
        let Held { learner, messages, .. } = self.held.take().expect("something is held");
        for (link, mut message) in messages {
            change(&mut message);
            self.step(learner, Input::LinkReceived { link, message });
        }
        self.pump();
    }

    fn try_to_connect(&mut self) {
        for id in self.servers.keys().copied().collect::<Vec<_>>() {
            let place = &self.servers[&id];
            let Some(Search { master, observes, until_us }) = place.connecting else { continue };
            let far = &self.servers[&master];
            let open = if observes { far.accepting_observers } else { far.accepting };
            if place.cut_off || far.server.is_none() || far.cut_off || !open {
                if self.now.mono_us >= until_us {
                    self.place(id).connecting = None;
                    self.arrive(id, Input::MasterUnreachable);
                }
                continue;
            }
            self.place(id).connecting = None;
            self.next_link += 2;
            let (near, far) = (LinkId(self.next_link), LinkId(self.next_link + 1));
            self.links.insert(near, End { owner: id, other: far });
            self.links.insert(far, End { owner: master, other: near });
            self.arrive(master, Input::LearnerConnected { link: far });
            self.arrive(id, Input::MasterConnected { link: near });
        }
    }

    fn arrive(&mut self, to: i64, input: Input<'static>) {
        self.queue.push_back((to, Arrival::Input(Box::new(input))));
    }

    fn store_epoch(&mut self, id: i64, kind: EpochKind, epoch: u32) {
        let disk = &mut self.place(id).disk;
        match kind {
            EpochKind::Accepted => disk.epochs.accepted = epoch,
            EpochKind::Current => (disk.epochs.current, disk.whole, disk.lost) = (epoch, true, false),
        }
        self.arrive(id, Input::EpochStored { kind, epoch });
    }

    /// The state that is on the disk now takes the place of what the node has.
    fn reload(&mut self, id: i64, failure: Option<String>) {
        let settings = self.settings.clone();
        let disk = &self.place(id).disk;
        let reloaded = Reloaded { recovered: disk.replayed(&settings).finish(), standing: disk.standing(), failure };
        let log = disk.log.clone();
        let server = self.server(id);
        server.durable = log.len();
        server.log = log;
        self.arrive(id, Input::Reloaded(Box::new(reloaded)));
    }

    fn carry_out(&mut self, id: i64, output: Output) {
        match output {
            Output::StoreEpoch { kind, epoch } => self.store_epoch(id, kind, epoch),
            Output::Notify { to, notification } => {
                assert_ne!(to.0, id, "nobody tells himself");
                if !self.place(id).cut_off && !self.place(to.0).cut_off {
                    self.arrive(to.0, Input::Notified { from: ServerId(id), notification });
                }
            }
            Output::AcceptLearners(accepting) => self.place(id).accepting = accepting,
            Output::AcceptObservers(accepting) => self.place(id).accepting_observers = accepting,
            Output::ConnectToMaster { master, limit_ms } => {
                let until_us = self.now.mono_us + limit_ms * 1000;
                self.place(id).connecting = Some(Search { master: master.0, observes: false, until_us });
            }
            Output::ConnectToObserverMaster { master, limit_ms } => {
                let until_us = self.now.mono_us + limit_ms * 1000;
                self.place(id).connecting = Some(Search { master: master.0, observes: true, until_us });
            }
            Output::ForgetMaster => self.place(id).connecting = None,
            Output::LinkSend { link, message } => {
                let bytes = message.cost_bytes();
                let end = self.links.get(&link).copied();
                if let Some((other, to)) = end.and_then(|end| Some((end.other, self.links.get(&end.other)?.owner))) {
                    if !self.place(id).cut_off && !self.place(to).cut_off {
                        self.queue.push_back((to, Arrival::Link(other, message)));
                    }
                    if self.clogged == Some(to) {
                        self.unsent.push((id, link, bytes));
                    } else {
                        self.arrive(id, Input::LinkSent { link, bytes });
                    }
                }
            }
            Output::LinkClose { link, why } => {
                self.place(id).told.push(format!("{link:?} closed: {why}"));
                self.close_link(link);
            }
            Output::ReadLog { link, after, through } => {
                self.place(id).log_reads += 1;
                let server = self.server(id);
                let wanted = |(zxid, _): &&(Zxid, Bytes)| *zxid > after && *zxid <= through;
                let records: Vec<_> = server.log[..server.durable].iter().filter(wanted).cloned().collect();
                self.arrive(id, Input::LogRead { link, predecessor: after, records });
            }
            Output::ReadLogOn { link } => self.arrive(id, Input::LogReadEnded { link, complete: true }),
            Output::EndReadLog { .. } => {}
            Output::Truncate { to } => {
                self.place(id).cuts += 1;
                let server = self.server(id);
                let log = server.log[..server.durable].to_vec();
                let disk = &mut self.place(id).disk;
                disk.log = log;
                disk.truncate(to);
                self.reload(id, None);
            }
            Output::InstallBegin(header) => self.place(id).installing = Some((*header, Vec::new())),
            Output::InstallChunk(chunk) => {
                self.place(id).installing.as_mut().expect("begun").1.extend(chunk.nodes);
            }
            Output::InstallFinish => {
                let place = self.place(id);
                place.installs += 1;
                let installed = place.installing.take();
                if place.full {
                    let server = place.server.as_ref().expect("it runs");
                    place.disk.log = server.log[..server.durable].to_vec();
                    return self.reload(id, Some("no space left on device".into()));
                }
                place.disk.base = installed;
                place.disk.log = Vec::new();
                self.reload(id, None);
            }
            Output::InstallAbandon => self.place(id).installing = None,
            Output::RoleChanged(role) => self.place(id).role = Some(role),
            Output::Told(words) => self.place(id).told.push(words),
            Output::ConfigSeen(config) => {
                let configs = &mut self.place(id).configs;
                configs.last_seen = Membership::parse(config.next_file().as_bytes()).unwrap();
            }
            Output::ConfigActivated(config) => {
                let mut committed = Membership::parse(config.dynamic_file().as_bytes()).unwrap();
                committed.version = config.version;
                let configs = &mut self.place(id).configs;
                if configs.last_seen.version <= committed.version {
                    configs.last_seen = committed.clone();
                }
                configs.committed = committed;
            }
            Output::ConfigForgotten => self.place(id).configs.forget_seen(),
            Output::ClientAddressChanged { host, port } => self.place(id).client_address = Some((host, port)),
            other => panic!("{other:?}"),
        }
    }
}

/// Timeouts that a test can wait for.
pub fn quick() -> Settings {
    Settings { tick_ms: 1000, ..Settings::default() }
}
