//! One learner as its leader sees it: how far it is, what is on its way to it, and until when it has to be heard of.
//!
//!   Nameless --xxxINFO--> AwaitsEpoch --LEADERINFO--> Informed --ACKEPOCH--> AwaitsHistory --the choice-->
//!       [ReadingLog | AwaitsSnapshot --> Streaming] --NEWLEADER--> Synchronising --its ACK--> Synchronised --UPTODATE--> InStep
//!
//! From the choice on it is told everything that is proposed and committed; while a stream (a snapshot, a range of the log) is
//! on its way to it, that is held back here and follows the stream. A Java voter hears of what is not committed yet behind UPTODATE
//! only: see [`Handler::defers`]. Java: `LearnerHandler`. Spec: quorum-protocol 7.5-7.7, 14.

use bytes::Bytes;

use super::ballot::Votes;
use super::catch_up::{LogCheck, SyncKind};
use crate::core::types::{LinkId, LinkMessage, Output, ServerId, Zxid};
use crate::limits;
use crate::wire::quorum::{LearnerInfo, PROTOCOL_RINGKEEPER, Packet};

#[derive(Debug)]
pub enum Stage {
    /// It has to say who it is.
    Nameless,
    /// H0: there is no epoch to tell it yet.
    AwaitsEpoch,
    /// H1: LEADERINFO is out.
    Informed,
    /// Its ACKEPOCH came before a quorum's. What it has: None if it may have lost something.
    AwaitsHistory { last: Option<Zxid> },
    /// A DIFF from the log: checked as a whole, then sent.
    ReadingLog(LogRange),
    /// The node is going to begin a snapshot for it.
    AwaitsSnapshot,
    /// A snapshot is on its way.
    Streaming,
    /// H2: NEWLEADER is out.
    Synchronising,
    /// It has everything, and waits until a quorum has.
    Synchronised,
    /// H3: UPTODATE is out.
    InStep,
}

impl Stage {
    /// "It sent ACK while .."
    pub fn name(&self) -> &'static str {
        match self {
            Stage::Nameless => "it had to say who it is",
            Stage::AwaitsEpoch => "it had to wait for LEADERINFO",
            Stage::Informed => "ACKEPOCH was due",
            Stage::AwaitsHistory { .. } => "it had to wait for the choice of its history",
            Stage::ReadingLog(_) => "it was to be sent a piece of the log",
            Stage::AwaitsSnapshot => "it was to be sent a snapshot",
            Stage::Streaming => "a snapshot was sent to it",
            Stage::Synchronising => "its ACK of NEWLEADER was due",
            Stage::Synchronised => "it had to wait for UPTODATE",
            Stage::InStep => "it followed",
        }
    }
}

#[derive(Debug)]
pub struct LogRange {
    pub after: Zxid,
    pub through: Zxid,
    /// What DIFF says: the leader's newest transaction when the choice was made.
    pub newest: Zxid,
    pub check: LogCheck,
    /// The range is whole: this is the second reading.
    pub sending: bool,
    /// The next window is asked for when the learner has taken what it was sent.
    pub paused: bool,
}

/// How a learner is, or was, brought up to the history.
#[derive(Clone, Copy, Debug)]
pub struct Sync {
    pub kind: SyncKind,
    began_us: u64,
    /// What it was sent for that, as the link's queue counts it.
    pub bytes: u64,
    /// None: it is under way.
    pub took_us: Option<u64>,
}

/// The limits of a leader's learners, microseconds and bytes.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    pub init_us: u64,
    pub sync_us: u64,
    pub queue_max_bytes: usize,
}

#[derive(Debug)]
pub struct Handler {
    pub link: LinkId,
    pub stage: Stage,
    pub id: Option<ServerId>,
    pub observer: bool,
    protocol: i32,
    /// What its acks count for: nothing, for observers and strangers.
    pub vote: Votes,
    /// It is told of proposals and commits.
    pub forwarding: bool,
    /// The newest transaction that it has on its disk, as far as it has said so.
    pub has: Zxid,
    /// The newest proposal that it was told of, or has: the next one follows it without a gap.
    pub told: Zxid,
    /// Told to it, and held back behind a stream.
    held: Option<Vec<Packet>>,
    /// Those that came up after the choice.
    held_bytes: usize,
    /// On the link, and not taken by the kernel.
    unsent_bytes: usize,
    /// Of these, what synchronising it cost: it may owe that much more.
    granted_bytes: usize,
    /// Of these, everything up to NEWLEADER: to take that is progress. (A kernel takes pings for a learner that is no more.)
    sync_bytes: usize,
    sync: Option<Sync>,
    /// Must be heard of, or seen to take something, until then. None: it is not its turn.
    due_us: Option<u64>,
    /// It counts as alive until then (Java: `tickOfNextAckDeadline`).
    alive_until_us: u64,
    /// NextEpochBegins is out, and was not answered.
    pub adopts: bool,
    /// This proposal was on its way to it at that moment, and has to be acknowledged in time (Java: `SyncLimitCheck`).
    awaited: Option<(Zxid, u64)>,
    /// PINGs since it is in step (no learner answers those before), and its answers.
    pings: u64,
    answers: u64,
    /// A round asks for the answer with this number (`leader/confirm.rs`).
    asked: Option<u64>,
}

impl Handler {
    pub fn new(link: LinkId, now_us: u64, allowance: &Allowance) -> Handler {
        Handler {
            link,
            stage: Stage::Nameless,
            id: None,
            observer: false,
            protocol: 0,
            vote: Votes::NONE,
            forwarding: false,
            has: Zxid::ZERO,
            told: Zxid::ZERO,
            held: None,
            held_bytes: 0,
            unsent_bytes: 0,
            granted_bytes: 0,
            sync_bytes: 0,
            sync: None,
            due_us: Some(now_us + allowance.init_us),
            alive_until_us: now_us + allowance.init_us + allowance.sync_us,
            adopts: false,
            awaited: None,
            pings: 0,
            answers: 0,
            asked: None,
        }
    }

    pub fn introduce(&mut self, info: LearnerInfo, observer: bool, vote: Votes) {
        (self.id, self.observer, self.protocol, self.vote) =
            (Some(ServerId(info.server)), observer, info.protocol, vote);
        self.stage = Stage::AwaitsEpoch;
        self.due_us = None;
    }

    /// For sentences.
    pub fn name(&self) -> String {
        match self.id {
            Some(id) if self.observer => format!("observer {}", id.0),
            Some(id) => format!("server {}", id.0),
            None => format!("a stranger (link {})", self.link.0),
        }
    }

    pub fn speaks_ringkeeper(&self) -> bool {
        self.protocol == PROTOCOL_RINGKEEPER
    }

    /// Whether NEWLEADER makes it forget what it was proposed before: a COMMIT of that ends it (up to Java 3.8.6 and 3.9.2,
    /// ZOOKEEPER-4394). And a configuration that it was proposed before is replaced by the one that NEWLEADER tells, though that one
    /// is older: it would count votes by it alone, while the others go on with the new one.
    pub fn defers(&self) -> bool {
        !self.speaks_ringkeeper() && !self.observer
    }

    /// A COMMIT is for everything before it, too (decision 0008).
    pub fn takes_many_at_once(&self) -> bool {
        self.is_in_step() && self.speaks_ringkeeper() && !self.observer
    }

    /// Of a part of its DIFF that nobody counts any more, before its ACK of NEWLEADER: Java's, before 3.8.5 and 3.9.2.
    pub fn acknowledges_early(&self, zxid: Zxid, committed: Zxid) -> bool {
        !self.speaks_ringkeeper() && zxid.counter() != 0 && zxid <= committed
    }

    pub fn is_in_step(&self) -> bool {
        matches!(self.stage, Stage::InStep)
    }

    /// It has been told the epoch, and is not in it yet.
    pub fn is_between(&self) -> bool {
        self.adopts || self.is_on_its_way()
    }

    /// It has been told the epoch, and has not yet everything of it.
    fn is_on_its_way(&self) -> bool {
        !matches!(self.stage, Stage::Nameless | Stage::AwaitsEpoch | Stage::InStep)
    }

    /// NEWLEADER is out: pings may follow. Java: its sender thread runs.
    pub fn is_pinged(&self) -> bool {
        matches!(self.stage, Stage::Synchronising | Stage::Synchronised | Stage::InStep)
    }

    /// It acknowledged NEWLEADER.
    pub fn has_synchronised(&self) -> bool {
        matches!(self.stage, Stage::Synchronised | Stage::InStep)
    }

    /// How it came to have the history. None: it has not been chosen yet.
    pub fn sync(&self) -> Option<Sync> {
        self.sync
    }

    pub fn begin_sync(&mut self, kind: SyncKind, now_us: u64) {
        self.sync = Some(Sync { kind, began_us: now_us, bytes: 0, took_us: None });
    }

    /// The sync that is under way, from the choice to the ACK of NEWLEADER.
    pub fn syncing(&self) -> Option<SyncKind> {
        self.sync.filter(|sync| sync.took_us.is_none()).map(|sync| sync.kind)
    }

    /// Right onto the link.
    pub fn send(&mut self, message: LinkMessage, out: &mut Vec<Output>) {
        let bytes = message.cost_bytes();
        self.unsent_bytes += bytes;
        if !self.is_pinged() {
            self.sync_bytes = self.unsent_bytes;
            if let Some(sync) = &mut self.sync {
                sync.bytes += bytes as u64;
            }
        }
        out.push(Output::LinkSend { link: self.link, message });
    }

    pub fn send_packet(&mut self, packet: Packet, out: &mut Vec<Output>) {
        self.send(LinkMessage::Packet(packet), out);
    }

    /// Behind whatever stream is on its way.
    pub fn forward(&mut self, packet: Packet, out: &mut Vec<Output>) {
        match &mut self.held {
            None => self.send_packet(packet, out),
            Some(held) => {
                let message = LinkMessage::Packet(packet);
                self.held_bytes += message.cost_bytes();
                if let LinkMessage::Packet(packet) = message {
                    held.push(packet);
                }
            }
        }
    }

    pub fn ping(&mut self, proposed: Zxid, out: &mut Vec<Output>) {
        self.send_packet(Packet::Ping { zxid: proposed, touched: None }, out);
        if self.is_in_step() {
            self.pings += 1;
            self.asked.get_or_insert(self.pings);
        }
    }

    /// It answered the oldest PING it had not answered.
    pub fn answered(&mut self) {
        self.answers = self.pings.min(self.answers + 1);
    }

    /// The next PING asks, and its answer counts.
    pub fn begin_round(&mut self) {
        self.asked = None;
    }

    pub fn has_answered(&self) -> bool {
        self.asked.is_some_and(|asked| self.answers >= asked)
    }

    /// The next proposal.
    pub fn propose(&mut self, zxid: Zxid, txn: Bytes, out: &mut Vec<Output>) {
        let told = self.told;
        assert!(zxid.can_follow(told) || told.counter() == 0, "{} was told of {told}, and now of {zxid}", self.name());
        self.told = zxid;
        self.forward(Packet::Proposal { zxid, txn }, out);
    }

    /// A stream begins: what is forwarded from now on follows it.
    pub fn hold(&mut self) {
        self.held = Some(Vec::new());
        self.held_bytes = 0;
    }

    /// The choice put this much into its queue, or behind the stream: the bound is about what comes later.
    pub fn grant(&mut self) {
        self.held_bytes = 0;
        self.granted_bytes = self.unsent_bytes;
    }

    /// The stream is complete. To those who defer: only what is committed, each proposal with its COMMIT.
    pub fn release(&mut self, out: &mut Vec<Output>) {
        let Some(mut held) = self.held.take() else { return };
        if self.defers() {
            let rest = held.split_off(committed_at_once(&held));
            let next = rest.iter().find_map(|packet| match packet {
                Packet::Proposal { zxid, .. } => Some(*zxid),
                _ => None,
            });
            // Its ACK of NEWLEADER says nothing about that one.
            self.has = next.map_or(self.has, |next| self.has.min(Zxid(next.0 - 1)));
            self.held = Some(rest);
        }
        for packet in held {
            self.send_packet(packet, out);
        }
        self.held_bytes = 0;
    }

    /// It serves: it hears of everything from now on.
    pub fn up_to_date(&mut self, out: &mut Vec<Output>) {
        self.send_packet(Packet::UpToDate, out);
        for packet in self.held.take().into_iter().flatten() {
            self.send_packet(packet, out);
        }
        self.held_bytes = 0;
    }

    /// Another choice is made: what was held back is void.
    pub fn stop_forwarding(&mut self) {
        self.held = None;
        self.held_bytes = 0;
        self.forwarding = false;
    }

    /// What is kept for it because its link does not take it.
    pub fn owed_bytes(&self) -> usize {
        self.held_bytes + self.unsent_bytes
    }

    /// It takes less than is proposed.
    pub fn is_overrun(&self, allowance: &Allowance) -> bool {
        self.held_bytes > allowance.queue_max_bytes
            || self.unsent_bytes > allowance.queue_max_bytes + self.granted_bytes
    }

    /// Whether another piece of a stream may be sent.
    pub fn has_room(&self, allowance: &Allowance) -> bool {
        self.unsent_bytes < limits::LEARNER_STREAM_BYTES.min(allowance.queue_max_bytes.div_ceil(2))
    }

    pub fn sent(&mut self, now_us: u64, bytes: usize, allowance: &Allowance) {
        self.unsent_bytes = self.unsent_bytes.saturating_sub(bytes);
        if self.sync_bytes > 0 {
            self.sync_bytes = self.sync_bytes.saturating_sub(bytes);
            self.progressed(now_us, allowance);
        }
    }

    /// It is its turn to be heard of.
    pub fn expect(&mut self, now_us: u64, limit_us: u64) {
        self.due_us = Some(now_us + limit_us);
    }

    pub fn expect_nothing(&mut self) {
        self.due_us = None;
    }

    /// On its way to being synchronised it takes what it is sent, or is heard of.
    pub fn progressed(&mut self, now_us: u64, allowance: &Allowance) {
        if let Some(due_us) = &mut self.due_us {
            *due_us = now_us + allowance.init_us;
        }
        self.alive_until_us = self.alive_until_us.max(now_us + allowance.init_us + allowance.sync_us);
    }

    /// It said something.
    pub fn heard(&mut self, now_us: u64, allowance: &Allowance) {
        if self.has_synchronised() {
            self.due_us = self.is_in_step().then_some(now_us + allowance.sync_us);
            self.alive_until_us = now_us + allowance.sync_us;
        }
    }

    pub fn synchronised(&mut self, now_us: u64, allowance: &Allowance) {
        self.stage = Stage::Synchronised;
        self.granted_bytes = 0;
        if let Some(sync) = &mut self.sync {
            sync.took_us = Some(now_us - sync.began_us);
        }
        self.heard(now_us, allowance);
    }

    pub fn in_step(&mut self, now_us: u64, allowance: &Allowance) {
        self.stage = Stage::InStep;
        self.heard(now_us, allowance);
    }

    pub fn is_late(&self, now_us: u64) -> bool {
        self.due_us.is_some_and(|due_us| now_us >= due_us)
    }

    /// Counts for the leader's right to lead.
    pub fn is_alive(&self, now_us: u64) -> bool {
        self.id.is_some() && now_us < self.alive_until_us
    }

    pub fn due_us(&self) -> Option<u64> {
        self.due_us
    }

    /// Whether an acknowledgement is overdue; to be asked at every ping. `proposed`: the newest proposal it was told.
    pub fn is_lagging(&mut self, now_us: u64, proposed: Zxid, allowance: &Allowance) -> bool {
        if self.observer || !self.is_in_step() {
            return false;
        }
        if self.awaited.is_some_and(|(zxid, _)| self.has >= zxid) {
            self.awaited = None;
        }
        match self.awaited {
            Some((_, since_us)) => now_us - since_us >= allowance.sync_us,
            None => {
                self.awaited = (proposed > self.has && proposed.counter() > 0).then_some((proposed, now_us));
                false
            }
        }
    }
}

/// How many of these packets come before the first proposal that is not committed by the next one.
fn committed_at_once(packets: &[Packet]) -> usize {
    let is_pair = |pair: &&[Packet]| matches!(pair, [Packet::Proposal { zxid, .. }, Packet::Commit { zxid: committed }] if zxid == committed);
    packets.chunks(2).take_while(is_pair).count() * 2
}
