//! A leader, its disk, and learners that say what a test wants them to say. Link n belongs to server n, unless said otherwise.

use bytes::Bytes;
use ringkeeper_storage::SnapshotChunk;

use crate::core::settings::Ensemble;
use crate::core::types::{EpochKind, Epochs, LinkId, LinkMessage, Now, Output, ServerId, Zxid};
use crate::core::zab::catch_up::SyncKind;
use crate::core::zab::leader::{Leader, LeaderEvent, LeaderStart, SyncView};
use crate::core::zab::membership::{Configurations, Membership};
use crate::core::zab::window::Window;
use crate::wire::quorum::{ForwardedRequest, LearnerInfo, PROTOCOL_JAVA, PROTOCOL_RINGKEEPER, Packet};

pub const TICK_US: u64 = 100_000;

pub struct Scene {
    pub leader: Leader,
    pub window: Window,
    pub applied: Zxid,
    pub snapshot_bytes: u64,
    pub now: Now,
    out: Vec<Output>,
    /// What came of the last steps, in order.
    told: Vec<String>,
    /// Messages that are on a link and not taken, and what they cost.
    unsent: Vec<(LinkId, usize)>,
    pub learner_protocol: i32,
    observers: Vec<ServerId>,
    /// Syncs that were begun, and how many of their kind were under way then.
    pub syncs: Vec<(SyncKind, usize)>,
}

pub fn settings() -> Ensemble {
    Ensemble { tick_ms: (TICK_US / 1000) as u32, init_limit: 10, sync_limit: 5, ..Ensemble::default() }
}

pub fn z(epoch: u32, counter: u32) -> Zxid {
    Zxid::new(epoch, counter)
}

fn show(zxid: Zxid) -> String {
    format!("{}.{}", zxid.epoch(), zxid.counter())
}

impl Scene {
    /// Server 1 of so many is elected, and has nothing but these epochs.
    pub fn elected(voters: i64, observers: i64, accepted: u32, current: u32, last: Zxid) -> Scene {
        Scene::with(settings(), Configurations::settled(Membership::of(voters, observers)), accepted, current, last)
    }

    pub fn with(settings: Ensemble, configs: Configurations, accepted: u32, current: u32, last: Zxid) -> Scene {
        let start = LeaderStart {
            id: ServerId(1),
            epochs: Epochs { accepted, current },
            last,
            founds: false,
            reconfigures: false,
        };
        Scene::starting(settings, configs, start)
    }

    pub fn starting(settings: Ensemble, configs: Configurations, start: LeaderStart) -> Scene {
        let (now, last) = (Now { mono_us: 1_000_000, wall_ms: 0 }, start.last);
        let mut out = Vec::new();
        let leader = Leader::elected(now, start, &settings, &configs, &mut out);
        let window = Window::new(settings.commit_log_count, last);
        assert!(matches!(out.remove(0), Output::AcceptLearners(true)), "the doors are open");
        let mut scene = Scene {
            observers: configs.committed.members.keys().copied().filter(|id| !configs.is_voter(*id)).collect(),
            leader,
            window,
            applied: last,
            snapshot_bytes: 0,
            now,
            out,
            told: Vec::new(),
            unsent: Vec::new(),
            learner_protocol: PROTOCOL_RINGKEEPER,
            syncs: Vec::new(),
        };
        scene.settle();
        scene
    }

    /// Server 1 leads epoch 6 and has (4, 1) to (4, 9), (5, 1) to (5, 3); the window begins behind (4, 7).
    pub fn with_history() -> Scene {
        Scene::with_history_and(settings())
    }

    pub fn with_history_and(settings: Ensemble) -> Scene {
        let configs = Configurations::settled(Membership::of(3, 2));
        let mut scene = Scene::with(settings, configs, 5, 5, z(5, 3));
        scene.window = Window::new(5, z(4, 5));
        for (epoch, counters) in [(4, 6..=9), (5, 1..=3)] {
            for counter in counters {
                scene.window.push(z(epoch, counter), txn(z(epoch, counter)));
            }
        }
        scene
    }

    /// The same, with server 2 in step.
    pub fn leading() -> Scene {
        Scene::leading_with(settings())
    }

    pub fn leading_with(settings: Ensemble) -> Scene {
        let mut scene = Scene::with_history_and(settings);
        scene.establish_with(2, z(5, 3));
        scene
    }

    /// This learner brings the quorum.
    pub fn establish_with(&mut self, id: i64, last: Zxid) {
        self.informs(id, 5);
        self.stored(EpochKind::Accepted);
        self.says(id, Packet::AckEpoch { last: Some(last), current_epoch: Some(5) });
        self.stored(EpochKind::Current);
        let epoch = self.epoch();
        let told = self.says(id, Packet::Ack { zxid: z(epoch, 0) });
        assert!(told.iter().any(|line| line.starts_with("! established")), "{told:?}");
    }

    /// A late learner, up to its choice; what it is told from LEADERINFO on.
    pub fn joins(&mut self, id: i64, last: impl Into<Option<Zxid>>) -> Vec<String> {
        let told = self.informs(id, 5);
        assert_eq!(told, [format!("{id}< LEADERINFO {}", self.epoch())]);
        self.says(id, Packet::AckEpoch { last: last.into(), current_epoch: Some(5) })
    }

    pub fn synchronised(&mut self, id: i64) -> Vec<String> {
        let zxid = z(self.epoch(), 0);
        self.says(id, Packet::Ack { zxid })
    }

    pub fn epoch(&self) -> u32 {
        self.leader.epoch
    }

    fn info(&self, id: i64) -> LearnerInfo {
        LearnerInfo { server: id, protocol: self.learner_protocol, config_version: 0 }
    }

    /// A follower, or an observer, says who it is.
    pub fn informs(&mut self, id: i64, accepted_epoch: u32) -> Vec<String> {
        self.connects(id);
        let info = self.info(id);
        let observes = self.observers.contains(&ServerId(id));
        self.says(
            id,
            match observes {
                true => Packet::ObserverInfo { accepted_epoch, info },
                false => Packet::FollowerInfo { accepted_epoch, info },
            },
        )
    }

    pub fn connects(&mut self, link: i64) {
        self.leader.on_learner_connected(self.now, LinkId(link as u64));
    }

    pub fn says(&mut self, link: i64, packet: Packet) -> Vec<String> {
        self.sends(link, LinkMessage::Packet(packet))
    }

    pub fn acks(&mut self, link: i64, zxid: Zxid) -> Vec<String> {
        self.says(link, Packet::Ack { zxid })
    }

    pub fn sends(&mut self, link: i64, message: LinkMessage) -> Vec<String> {
        let view = SyncView { window: &self.window, applied: self.applied, snapshot_bytes: self.snapshot_bytes };
        self.leader.on_message(self.now, LinkId(link as u64), message, view, &mut self.out);
        self.settle();
        self.take()
    }

    /// The epoch asked for last is durable.
    pub fn stored(&mut self, kind: EpochKind) -> Vec<String> {
        let epoch = self.leader.epoch;
        self.stored_epoch(kind, epoch)
    }

    pub fn stored_epoch(&mut self, kind: EpochKind, epoch: u32) -> Vec<String> {
        self.take();
        let view = SyncView { window: &self.window, applied: self.applied, snapshot_bytes: self.snapshot_bytes };
        self.leader.on_epoch_stored(self.now, kind, epoch, view, &mut self.out);
        self.settle();
        self.take()
    }

    pub fn proposes(&mut self) -> Vec<String> {
        let zxid = self.leader.next_zxid();
        self.leader.propose(zxid, txn(zxid), &mut self.out);
        self.settle();
        self.take()
    }

    pub fn durable(&mut self, through: Zxid) -> Vec<String> {
        self.leader.on_logged(through, &mut self.out);
        self.settle();
        self.take()
    }

    /// A write through its quorum of servers 1 and 2.
    pub fn writes(&mut self) -> Vec<String> {
        let mut told = self.proposes();
        let zxid = self.leader.proposed();
        told.extend(self.durable(zxid));
        told.extend(self.acks(2, zxid));
        told
    }

    pub fn log_read(&mut self, link: i64, predecessor: Zxid, zxids: &[Zxid]) -> Vec<String> {
        let records = zxids.iter().map(|zxid| (*zxid, txn(*zxid))).collect();
        let view = SyncView { window: &self.window, applied: self.applied, snapshot_bytes: self.snapshot_bytes };
        self.leader.on_log_read(LinkId(link as u64), predecessor, records, view, &mut self.out);
        self.settle();
        self.take()
    }

    pub fn log_read_ended(&mut self, link: i64, complete: bool) -> Vec<String> {
        self.leader.on_log_read_ended(LinkId(link as u64), complete, &mut self.out);
        self.settle();
        self.take()
    }

    pub fn snapshot_begins(&mut self, link: i64) -> Vec<String> {
        self.leader.snapshot_begins(LinkId(link as u64), self.applied, &mut self.out);
        self.settle();
        self.take()
    }

    pub fn snapshot_ends(&mut self, link: i64) -> Vec<String> {
        self.leader.snapshot_part(LinkId(link as u64), LinkMessage::SnapshotEnd, &mut self.out);
        self.settle();
        self.take()
    }

    /// A piece of a snapshot.
    pub fn sends_part(&mut self, link: i64) -> Vec<String> {
        let chunk = SnapshotChunk { slots: None, nodes: Vec::new() };
        self.leader.snapshot_part(LinkId(link as u64), LinkMessage::SnapshotChunk(chunk), &mut self.out);
        self.settle();
        self.take()
    }

    pub fn elector_looks(&mut self, id: i64) -> Vec<String> {
        self.leader.on_elector_looking(self.now, ServerId(id), &mut self.out);
        self.settle();
        self.take()
    }

    pub fn asks_sync(&mut self, link: i64) -> Vec<String> {
        self.leader.sync_asked(LinkId(link as u64), &mut self.out);
        self.settle();
        self.take()
    }

    pub fn closes(&mut self, link: i64) -> Vec<String> {
        self.leader.on_closed(self.now, LinkId(link as u64), &mut self.out);
        self.settle();
        self.take()
    }

    /// The kernel takes everything that is on this link.
    pub fn drains(&mut self, link: i64) -> Vec<String> {
        let link = LinkId(link as u64);
        let bytes = self.unsent.iter().filter(|(to, _)| *to == link).map(|(_, bytes)| bytes).sum();
        self.unsent.retain(|(to, _)| *to != link);
        self.leader.on_sent(link, bytes, &mut self.out);
        self.settle();
        self.take()
    }

    /// Time goes on in half ticks.
    pub fn passes(&mut self, ticks: f64) -> Vec<String> {
        for _ in 0..(ticks * 2.0) as u64 {
            self.now.mono_us += TICK_US / 2;
            self.leader.on_tick(self.now, &mut self.out);
            self.settle();
        }
        self.take()
    }

    /// Time passes, and those that are in step answer the leader's pings.
    pub fn passes_among(&mut self, links: &[i64], ticks: f64) -> Vec<String> {
        let mut told = Vec::new();
        for _ in 0..(ticks * 2.0) as u64 {
            told.extend(self.passes(0.5));
            for link in links {
                let touched = Some(Vec::new());
                told.extend(self.says(*link, Packet::Ping { zxid: self.leader.proposed(), touched }));
            }
        }
        told
    }

    /// The round it waits for, and what it says.
    pub fn makes_sure(&mut self) -> (u64, Vec<String>) {
        let round = self.leader.confirm(&mut self.out);
        self.settle();
        (round, self.take())
    }

    pub fn hands_over(&mut self) -> Vec<String> {
        self.leader.hand_over(self.now, &mut self.out);
        self.settle();
        self.take()
    }

    pub fn java_learners(mut self) -> Scene {
        self.learner_protocol = PROTOCOL_JAVA;
        self
    }

    /// What happened since the last call.
    pub fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    /// As the node does: applies what is committed, and listens.
    fn settle(&mut self) {
        for output in std::mem::take(&mut self.out) {
            self.note(output);
        }
        while let Some(proposal) = self.leader.pop_committed() {
            self.applied = proposal.zxid;
            self.window.push(proposal.zxid, proposal.txn);
        }
        while let Some(event) = self.leader.next_event() {
            if let LeaderEvent::Established { epoch } | LeaderEvent::NextEpoch { epoch } = event {
                self.applied = z(epoch, 0);
            }
            match event {
                LeaderEvent::Syncs { kind, begins: true, under_way } => self.syncs.push((kind, under_way)),
                LeaderEvent::Syncs { .. } => {}
                event => self.told.push(show_event(event)),
            }
        }
    }

    fn note(&mut self, output: Output) {
        self.told.push(match output {
            Output::LinkSend { link, message } => {
                self.unsent.push((link, message.cost_bytes()));
                format!("{}< {}", link.0, show_message(message))
            }
            Output::LinkClose { link, why } => {
                assert!(why.len() > 20, "a sentence about the peer: {why}");
                format!("{}x {}", link.0, why.split_once(": ").expect("who it is about").1)
            }
            Output::StoreEpoch { kind, epoch } => format!("store {kind:?} {epoch}"),
            Output::AcceptLearners(accept) => format!("accept {accept}"),
            Output::ReadLog { link, after, through } => {
                format!("read for {} after {} through {}", link.0, show(after), show(through))
            }
            Output::ReadLogOn { link } => format!("read on for {}", link.0),
            Output::EndReadLog { link } => format!("end reading for {}", link.0),
            output => panic!("a leader has no use for {output:?}"),
        });
    }
}

pub fn txn(zxid: Zxid) -> Bytes {
    Bytes::copy_from_slice(&zxid.0.to_be_bytes())
}

pub fn request(session: i64) -> Packet {
    Packet::Request(ForwardedRequest { session, cxid: 1, opcode: 1, body: Bytes::new(), identities: None })
}

fn show_event(event: LeaderEvent) -> String {
    match event {
        LeaderEvent::Established { epoch } => format!("! established {epoch}"),
        LeaderEvent::Request { link, request } => format!("! request of {} for {}", link.0, request.session),
        LeaderEvent::Touched { session, timeout_ms } => format!("! touched {session} {timeout_ms}"),
        LeaderEvent::Revalidate { link, session, timeout_ms } => {
            format!("! revalidate {session} {timeout_ms} for {}", link.0)
        }
        LeaderEvent::Confirmed { round } => format!("! confirmed {round}"),
        LeaderEvent::SnapshotWanted { link } => format!("! snapshot for {}", link.0),
        LeaderEvent::Syncs { .. } => unreachable!("kept beside the words"),
        LeaderEvent::LinkGone { link } => format!("! {} is gone", link.0),
        LeaderEvent::NextEpoch { epoch } => format!("! next epoch {epoch}"),
        LeaderEvent::HandedOver { leader } => format!("! handed over to {}", leader.0),
        LeaderEvent::ConfigSeen { config } => format!("! sees configuration {:x}", config.version),
        LeaderEvent::ConfigActivated { config } => format!("! activates configuration {:x}", config.version),
        LeaderEvent::Over { why } => format!("! over: {why}"),
    }
}

fn show_message(message: LinkMessage) -> String {
    match message {
        LinkMessage::Packet(Packet::Proposal { zxid, txn: bytes }) => {
            assert_eq!(bytes, txn(zxid), "its own bytes");
            format!("P {}", show(zxid))
        }
        LinkMessage::Packet(Packet::Inform { zxid, .. }) => format!("INFORM {}", show(zxid)),
        LinkMessage::Packet(Packet::Commit { zxid }) => format!("C {}", show(zxid)),
        LinkMessage::Packet(Packet::Diff { zxid }) => format!("DIFF {}", show(zxid)),
        LinkMessage::Packet(Packet::Trunc { zxid }) => format!("TRUNC {}", show(zxid)),
        LinkMessage::Packet(Packet::Snap { zxid }) => format!("SNAP {}", show(zxid)),
        LinkMessage::Packet(Packet::NewLeader { zxid, .. }) => format!("NEWLEADER {}", show(zxid)),
        LinkMessage::Packet(Packet::Ping { zxid, touched: None }) => format!("PING {}", show(zxid)),
        LinkMessage::Packet(Packet::LeaderInfo { epoch, protocol: PROTOCOL_RINGKEEPER }) => {
            format!("LEADERINFO {epoch}")
        }
        LinkMessage::Packet(Packet::UpToDate) => "UPTODATE".to_owned(),
        LinkMessage::Packet(Packet::Sync) => "SYNC".to_owned(),
        LinkMessage::Packet(Packet::Revalidated { session, valid }) => format!("REVALIDATED {session} {valid}"),
        LinkMessage::Packet(Packet::NextEpoch { epoch }) => format!("NEXTEPOCH {epoch}"),
        LinkMessage::Packet(Packet::NextEpochBegins { epoch }) => format!("NEXTEPOCHBEGINS {epoch}"),
        LinkMessage::Packet(Packet::HandOver { leader }) => format!("HANDOVER {leader}"),
        LinkMessage::SnapshotChunk(_) => "CHUNK".to_owned(),
        LinkMessage::SnapshotEnd => "END".to_owned(),
        message => panic!("a leader never says {message:?}"),
    }
}
