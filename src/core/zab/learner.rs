//! Following or observing a leader: from the connection to the end of the role.
//!
//!   Connecting -> Registered --LEADERINFO--> Promising --acceptedEpoch stable--> Agreed
//!     Agreed --DIFF--> Synchronising              TRUNC, SNAP: Cutting, Receiving -> Reloading -> Synchronising
//!     Synchronising --NEWLEADER--> Adopting --history stable, then currentEpoch--> Adopted --UPTODATE--> Serving
//!   and from everywhere, for any reason, to Over
//!
//! Holds at every step: an epoch is promised on disk before it is told, and joined on disk before it is acknowledged;
//! everything of its history is stable before that. A proposal is acknowledged once, in order, when it is stable here, and only
//! to the leader that sent it. What makes no sense ends the link, never the process.
//! Not here, on purpose: what a transaction means (`pipeline`), the disk, sockets. Java: `Learner`, `Follower`, `Observer`.
//! Spec: quorum-protocol 6.2, 8, 9, 10.3, 10.4, 12.2, 12.3, 14, 15.

mod history;
mod rollover;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use bytes::Bytes;
use ringkeeper_storage::probe::{broken, mark};

use self::history::History;
use self::rollover::Rollover;
use self::sync::Sync;
use super::epoch::FORGOTTEN;
use super::membership::Configurations;
use crate::core::settings::Ensemble;
use crate::core::types::{EpochKind, Epochs, LinkId, LinkMessage, Now, Output, ServerId, Standing, Zxid};
use crate::wire::quorum::{ForwardedRequest, LearnerInfo, PROTOCOL_RINGKEEPER, Packet};

/// A Java server takes 50 ms longer to know that it leads, and more until it listens. Called directly it refuses, and is called again;
/// but a proxy in between takes the call first and hangs up then. Each election would end like that.
const CALL_AGAIN_US: u64 = 500_000;

/// What this server has when it begins to follow.
#[derive(Clone, Copy, Debug)]
pub struct LearnerStart {
    pub id: ServerId,
    pub leader: ServerId,
    /// An observer that has its master in this voter, which follows the leader as well.
    pub via: Option<ServerId>,
    /// The leader before named this one. Nobody has voted for it, and nobody knows whether it is still there.
    pub designated: bool,
    pub observer: bool,
    pub epochs: Epochs,
    /// The newest transaction, durable and applied.
    pub last: Zxid,
    /// As in this server's votes: unless it is `Whole`, the leader is told that what was here may be lost.
    pub standing: Standing,
    /// Its disk is empty, and that counts, because nobody has data: it is a founder.
    pub founds: bool,
}

/// What the node has to do. In order.
#[derive(Debug)]
pub enum LearnerEvent {
    /// Append to the log, and keep until its commit.
    Log {
        zxid: Zxid,
        txn: Bytes,
    },
    /// Everything logged through here is committed: apply it. Before `Serving` that is the leader's word alone, who does not
    /// know yet whether a quorum has its history: nobody is to see it, and no snapshot is to keep it (20.2).
    Commit {
        through: Zxid,
    },
    /// `Output::Truncate` or `Output::InstallFinish` is out: what the node has in memory is void, `Input::Reloaded` follows.
    /// `Over` does not come before that.
    Reloading,
    /// In step with the leader of this epoch: serve.
    Serving {
        epoch: u32,
    },
    /// Answer with `Learner::pong` and the sessions heard of since.
    Ping {
        zxid: Zxid,
    },
    /// The answer to `Learner::revalidate`.
    Revalidated {
        session: i64,
        valid: bool,
    },
    /// The oldest forwarded `sync` may be answered.
    Synced,
    /// The counter rolled over: this epoch goes on in place of the old one, durable here.
    NextEpoch {
        epoch: u32,
    },
    /// This is the configuration of the leader's epoch: proposed, or in force.
    ConfigSeen {
        text: Bytes,
    },
    /// The configuration proposed by this transaction, which is committed, is in force, and this server leads from now on.
    ConfigCommitted {
        zxid: Zxid,
        leader: ServerId,
    },
    /// A quorum has the history of the epoch: the configuration that came with it is in force. `Serving` follows.
    ConfigOfEpoch,
    /// The leader hands over to this server, or to another one: no election is needed to know whom to follow. Ends the role.
    HandedOver {
        leader: ServerId,
    },
    Over {
        why: String,
    },
}

/// Names are those of the picture above; in brackets those of quorum-protocol, appendix A.
#[derive(Debug)]
enum Stage {
    Connecting,
    /// FOLLOWERINFO or OBSERVERINFO is out (F1).
    Registered,
    /// On its way to disk: acceptedEpoch.
    Promising,
    /// ACKEPOCH is out (F2).
    Agreed,
    /// SNAP came, its stream follows.
    Receiving(sync::Receiving),
    /// The disk is cut or replaced, and will end with `last`. What arrives waits; so does the end of the role.
    Reloading {
        last: Zxid,
        over: Option<String>,
    },
    /// The history comes (F3).
    Synchronising,
    /// NEWLEADER came: the history up to here goes to disk, then currentEpoch.
    Adopting {
        through: Zxid,
        storing: bool,
    },
    /// NEWLEADER is acknowledged (F4).
    Adopted,
    /// UPTODATE came (F5).
    Serving,
    Over,
}

#[derive(Debug)]
pub struct Learner {
    start: LearnerStart,
    configs: Configurations,
    /// How long a leader may be silent: before it has brought us up to date, and then.
    init_limit_us: u64,
    sync_limit_us: u64,
    waiting_max_bytes: usize,

    stage: Stage,
    link: Option<LinkId>,
    /// The leader knows the packets of our own.
    leader_is_ringkeeper: bool,
    /// That of the leader.
    epoch: u32,
    /// On this server's disk.
    epochs: Epochs,
    standing: Standing,
    history: History,
    ahead: Ahead,
    rollover: Rollover,
    /// What came while the disk was cut or replaced, or had not got the promise yet that it needs.
    waiting: VecDeque<LinkMessage>,
    waiting_bytes: usize,
    /// NEWLEADER told which configuration comes in force with UPTODATE.
    config_follows: bool,
    heard_us: u64,
    /// Until then a connection that ends before the leader's first word is like one that was refused.
    call_again_until_us: u64,
    /// How the history came, once the leader has chosen.
    sync: Option<Sync>,
    /// Proposals and commits since UPTODATE, for the metrics.
    received: (u64, u64),
    events: VecDeque<LearnerEvent>,
}

/// Whether the tree has effects of transactions that were not applied to it yet. A Java leader goes on changing its tree while
/// it sends it; each of those transactions is on the link before UPTODATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ahead {
    No,
    /// The SNAP was of this zxid, and where the effects end is not known.
    Beyond(Zxid),
    Through(Zxid),
}

/// Why a link is closed.
type Refusal = String;

impl Learner {
    /// Begins with `Output::ConnectToMaster`.
    pub fn new(
        now: Now,
        start: LearnerStart,
        settings: &Ensemble,
        configs: &Configurations,
        out: &mut Vec<Output>,
    ) -> Learner {
        let tick_ms = u64::from(settings.tick_ms);
        let connect_limit = if settings.connect_limit > 0 { settings.connect_limit } else { settings.init_limit };
        let mut learner = Learner {
            start,
            configs: configs.clone(),
            init_limit_us: tick_ms * u64::from(settings.init_limit) * 1000,
            sync_limit_us: tick_ms * u64::from(settings.sync_limit) * 1000,
            waiting_max_bytes: settings.learner_queue_max_bytes,
            stage: Stage::Connecting,
            link: None,
            leader_is_ringkeeper: false,
            epoch: 0,
            epochs: start.epochs,
            standing: start.standing,
            history: History::going_on_after(start.last),
            ahead: Ahead::No,
            rollover: Rollover::None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            config_follows: false,
            heard_us: now.mono_us,
            call_again_until_us: now.mono_us + CALL_AGAIN_US,
            sync: None,
            received: (0, 0),
            events: VecDeque::new(),
        };
        let mut limit_ms = tick_ms * u64::from(connect_limit);
        if start.via.is_some() || start.designated {
            // One that is not there is passed over soon: there are others, or an election.
            limit_ms = limit_ms.min(tick_ms);
        }
        if let Some(master) = start.via {
            out.push(Output::ConnectToObserverMaster { master, limit_ms });
        } else if configs.members().contains_key(&start.leader) {
            out.push(Output::ConnectToMaster { master: start.leader, limit_ms });
        } else {
            let why = format!("server {} was elected, and is not in this server's configuration", start.leader.0);
            learner.fail(why, out);
        }
        learner
    }

    /// That of the leader, once it has told it.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    pub fn leader(&self) -> ServerId {
        self.start.leader
    }

    /// Whom it is, or is going to be, connected to.
    pub fn master(&self) -> ServerId {
        self.start.via.unwrap_or(self.start.leader)
    }

    /// For sentences about the master.
    pub fn doing(&self) -> &'static str {
        self.stage.doing()
    }

    /// Java: `QuorumPeer.ZabState`.
    pub fn zab_state(&self) -> &'static str {
        match self.stage {
            Stage::Connecting | Stage::Registered | Stage::Promising | Stage::Agreed => "discovery",
            Stage::Serving | Stage::Over => "broadcast",
            _ => "synchronization",
        }
    }

    /// Proposals and commits since the last call.
    pub fn take_received(&mut self) -> (u64, u64) {
        std::mem::take(&mut self.received)
    }

    /// Whom it follows, for sentences.
    fn master_name(&self) -> String {
        match self.start.via {
            None => format!("server {}, the leader", self.start.leader.0),
            Some(master) => format!("server {}, the observer master", master.0),
        }
    }

    pub fn leader_is_ringkeeper(&self) -> bool {
        self.leader_is_ringkeeper
    }

    pub fn on_connected(&mut self, now: Now, link: LinkId, out: &mut Vec<Output>) {
        if !matches!(self.stage, Stage::Connecting) {
            return out.push(Output::LinkClose { link, why: "nobody waits for this connection any more".into() });
        }
        self.link = Some(link);
        self.heard_us = now.mono_us;
        self.stage = Stage::Registered;
        let accepted_epoch = self.epochs.accepted;
        let info = LearnerInfo {
            server: self.start.id.0,
            protocol: PROTOCOL_RINGKEEPER,
            config_version: self.configs.committed.version,
        };
        let hello = match self.start.observer {
            false => Packet::FollowerInfo { accepted_epoch, info },
            true => Packet::ObserverInfo { accepted_epoch, info },
        };
        self.send(hello, out);
    }

    pub fn on_unreachable(&mut self) {
        if matches!(self.stage, Stage::Connecting) {
            let why = format!("{}, could not be reached", self.master_name());
            self.fail(why, &mut Vec::new());
        }
    }

    pub fn on_closed(&mut self, now: Now, link: LinkId, out: &mut Vec<Output>) {
        if self.link == Some(link) {
            self.link = None;
            let left_us = self.call_again_until_us.saturating_sub(now.mono_us);
            if left_us > 0 && matches!(self.stage, Stage::Registered) && self.start.via.is_none() {
                mark("learner: calls a leader again that hung up without a word");
                self.stage = Stage::Connecting;
                let limit_ms = left_us.div_ceil(1000);
                return out.push(Output::ConnectToMaster { master: self.start.leader, limit_ms });
            }
            self.fail(format!("the connection to {}, ended", self.master_name()), out);
        }
    }

    pub fn on_message(&mut self, now: Now, link: LinkId, message: LinkMessage, out: &mut Vec<Output>) {
        if self.link != Some(link) {
            return;
        }
        self.heard_us = now.mono_us;
        self.count_sync(&message);
        let waits = match self.stage {
            Stage::Reloading { .. } => true,
            Stage::Serving => self.waits_for_promise() && !matches!(message, LinkMessage::Packet(Packet::Ping { .. })),
            _ => false,
        };
        let taken = if waits { self.keep_waiting(message) } else { self.take(message, out) };
        self.end_if_refused(taken, out);
    }

    pub fn on_epoch_stored(&mut self, now: Now, kind: EpochKind, epoch: u32, out: &mut Vec<Output>) {
        match kind {
            EpochKind::Accepted => self.epochs.accepted = self.epochs.accepted.max(epoch),
            EpochKind::Current => {
                self.epochs.current = self.epochs.current.max(epoch);
                self.standing = Standing::Whole;
            }
        }
        match self.stage {
            Stage::Promising if kind == EpochKind::Accepted && epoch == self.epoch => {
                self.heard_us = now.mono_us;
                self.agree(Some(self.epochs.current), out);
            }
            Stage::Adopting { .. } if kind == EpochKind::Current && epoch == self.epoch => {
                self.heard_us = now.mono_us;
                self.go_on_adopting(out);
            }
            Stage::Serving => self.on_next_epoch_stored(out),
            _ => {}
        }
    }

    /// Everything logged through here is stable.
    pub fn on_durable(&mut self, through: Zxid, out: &mut Vec<Output>) {
        if matches!(self.stage, Stage::Reloading { .. } | Stage::Over) {
            return; // of what was there before
        }
        self.history.on_durable(through);
        match self.stage {
            Stage::Adopting { .. } => self.go_on_adopting(out),
            Stage::Serving => {
                self.go_on_rolling_over(out);
                self.acknowledge(out);
            }
            _ => {}
        }
    }

    /// The disk was cut or replaced, and ends with `last` now.
    pub fn on_reloaded(
        &mut self,
        now: Now,
        last: Zxid,
        standing: Standing,
        failure: Option<String>,
        out: &mut Vec<Output>,
    ) {
        let Stage::Reloading { last: wanted, over } = &mut self.stage else { return };
        let (wanted, over) = (*wanted, over.take());
        self.stage = Stage::Synchronising;
        if let Some(why) = over {
            return self.fail(why, out);
        }
        if last != wanted {
            mark("learner: the disk could not be cut or replaced");
            let cause = failure.unwrap_or_else(|| format!("the disk ends with {last}"));
            return self.fail(format!("the state at {wanted} could not be stored: {cause}"), out);
        }
        self.standing = standing;
        let durable = if broken("ack on behalf of an old link") { self.history.durable() } else { last };
        self.history = History::going_on_after(last);
        self.history.on_durable(durable);
        self.heard_us = now.mono_us;
        self.take_what_waited(out);
    }

    pub fn on_tick(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.wake_us().is_some_and(|wake_us| now.mono_us >= wake_us) {
            mark("learner: the leader fell silent");
            self.fail(format!("{}, fell silent", self.master_name()), out);
        }
    }

    /// When a silent leader is given up. It may be silent as long as it waits for this server's disk.
    pub fn wake_us(&self) -> Option<u64> {
        match self.stage {
            // Java waits for UPTODATE no longer than for a ping; but the leader may wait for others all the time.
            Stage::Registered | Stage::Agreed | Stage::Receiving(_) | Stage::Synchronising | Stage::Adopted => {
                Some(self.heard_us + self.init_limit_us)
            }
            Stage::Serving => Some(self.heard_us + self.sync_limit_us),
            Stage::Connecting | Stage::Promising | Stage::Reloading { .. } | Stage::Adopting { .. } | Stage::Over => {
                None
            }
        }
    }

    /// A client's write, `sync`, or session, on its way to the leader. Only while serving.
    pub fn forward(&mut self, request: ForwardedRequest, out: &mut Vec<Output>) {
        self.send_if_serving(Packet::Request(request), out);
    }

    /// A client is back with its session: may it have it? `LearnerEvent::Revalidated` answers.
    pub fn revalidate(&mut self, session: i64, timeout_ms: i32, out: &mut Vec<Output>) {
        self.send_if_serving(Packet::Revalidate { session, timeout_ms }, out);
    }

    /// Others are in force now, and this role goes on.
    pub fn configured(&mut self, configs: &Configurations) {
        self.configs = configs.clone();
    }

    /// The answer to `LearnerEvent::Ping`.
    pub fn pong(&mut self, zxid: Zxid, touched: Vec<(i64, i32)>, out: &mut Vec<Output>) {
        self.send_if_serving(Packet::Ping { zxid, touched: Some(touched) }, out);
    }

    /// Whether the digest of the tree after this transaction may be another one than its leader's.
    pub fn is_ahead_of(&self, zxid: Zxid) -> bool {
        match self.ahead {
            Ahead::No => false,
            Ahead::Beyond(_) => true,
            Ahead::Through(last) => zxid < last,
        }
    }

    /// True once when it was ahead, and is exactly the leader's after this transaction.
    pub fn has_caught_up(&mut self, applied: Zxid) -> bool {
        let has = matches!(self.ahead, Ahead::Through(last) if applied >= last);
        if has {
            self.ahead = Ahead::No;
        }
        has
    }

    /// The role ends here (the server stops, its configuration changed): nothing that completes later has an effect.
    pub fn end(&mut self, out: &mut Vec<Output>) {
        self.leave("this server follows no longer".into(), out);
        self.stage = Stage::Over;
        self.events.clear();
    }

    pub fn next_event(&mut self) -> Option<LearnerEvent> {
        self.events.pop_front()
    }

    fn take(&mut self, message: LinkMessage, out: &mut Vec<Output>) -> Result<(), Refusal> {
        match (&mut self.stage, message) {
            (Stage::Over, _) => Ok(()),
            (Stage::Receiving(_), part) => self.on_snapshot_part(part, out),
            (Stage::Registered, LinkMessage::Packet(Packet::LeaderInfo { epoch, protocol })) => {
                self.on_leader_info(epoch, protocol, out)
            }
            (Stage::Agreed, LinkMessage::Packet(packet)) => self.on_first_of_sync(packet, out),
            (Stage::Synchronising | Stage::Adopting { .. } | Stage::Adopted, LinkMessage::Packet(packet)) => {
                self.on_sync(packet, out)
            }
            (Stage::Serving, LinkMessage::Packet(packet)) => self.on_broadcast(packet, out),
            (stage, message) => Err(stage.refuses(&message)),
        }
    }

    /// Java: `Learner.registerWithLeader`.
    fn on_leader_info(&mut self, epoch: u32, protocol: i32, out: &mut Vec<Output>) -> Result<(), Refusal> {
        let accepted = self.epochs.accepted;
        if epoch < accepted && !broken("accept an old epoch") {
            mark("learner: a leader of an old epoch");
            if epoch < self.epochs.current {
                let current = self.epochs.current;
                return Err(format!("it leads epoch {epoch}, and this server was in epoch {current}: {FORGOTTEN}"));
            }
            return Err(format!(
                "it leads epoch {epoch}, and this server has promised to follow none before {accepted}"
            ));
        }
        self.leader_is_ringkeeper = protocol == PROTOCOL_RINGKEEPER;
        self.epoch = epoch;
        if epoch <= accepted {
            // Not an ack of the epoch: it was given before, perhaps to somebody else.
            self.agree(None, out);
        } else if broken("forget acceptedEpoch") {
            self.agree(Some(self.epochs.current), out);
        } else {
            self.stage = Stage::Promising;
            if self.start.founds {
                // Its word that it has nothing makes the leader's history: from now on others who have data do not make it
                // a server that may have lost some. Or else an ensemble whose first leader died early never begins.
                mark("learner: a founder");
                out.push(Output::StoreEpoch { kind: EpochKind::Current, epoch: 0 });
            }
            out.push(Output::StoreEpoch { kind: EpochKind::Accepted, epoch });
        }
        Ok(())
    }

    fn agree(&mut self, current_epoch: Option<u32>, out: &mut Vec<Output>) {
        self.stage = Stage::Agreed;
        let last = self.has_history().then_some(self.start.last);
        // Where something was lost it is no ack of the epoch: whether this leader has all that was acknowledged here, nobody can say.
        let counts = last.is_none() || self.standing == Standing::Whole;
        self.send(Packet::AckEpoch { last, current_epoch: current_epoch.filter(|_| counts) }, out);
    }

    /// What is on this disk can be gone on with. Where something was lost nothing of before is left: what is here now came from a
    /// leader, as one state and what followed it, but not yet everything up to its NEWLEADER. Without this a server whose
    /// leader sends more behind a state than can be kept while that is stored would begin from nothing again and again. Only a
    /// ringkeeper leader is asked for that: the log that a Java leader would send from may have a hole (20.1).
    fn has_history(&self) -> bool {
        let has_part = self.leader_is_ringkeeper && self.start.last > Zxid::ZERO;
        if self.standing != Standing::Whole && has_part {
            mark("learner: goes on with what it was given since its loss");
        }
        self.standing == Standing::Whole || has_part
    }

    /// Java: `Follower.processPacket`, `Observer.processPacket`.
    fn on_broadcast(&mut self, packet: Packet, out: &mut Vec<Output>) -> Result<(), Refusal> {
        self.received.0 += u64::from(matches!(packet, Packet::Proposal { .. }));
        match packet {
            Packet::Proposal { zxid, txn } => self.on_proposal(zxid, txn)?,
            Packet::Commit { zxid } => self.received.1 += self.on_commit(zxid)?,
            Packet::Inform { zxid, txn } => {
                self.on_proposal(zxid, txn)?;
                self.received.1 += self.on_commit(zxid)?;
            }
            Packet::CommitAndActivate { zxid, leader } => self.on_activate(zxid, leader)?,
            Packet::InformAndActivate { zxid, leader, txn } => {
                self.on_proposal(zxid, txn)?;
                self.on_activate(zxid, leader)?;
            }
            Packet::Ping { zxid, .. } => self.events.push_back(LearnerEvent::Ping { zxid }),
            Packet::Revalidated { session, valid } => {
                self.events.push_back(LearnerEvent::Revalidated { session, valid });
            }
            Packet::Sync => self.events.push_back(LearnerEvent::Synced),
            Packet::NextEpoch { epoch } => self.on_next_epoch(epoch, out)?,
            Packet::NextEpochBegins { epoch } => self.on_next_epoch_begins(epoch, out)?,
            Packet::HandOver { leader } => self.on_hand_over(ServerId(leader), out)?,
            other => return Err(self.stage.refuses(&LinkMessage::Packet(other))),
        }
        self.acknowledge(out);
        Ok(())
    }

    fn on_proposal(&mut self, zxid: Zxid, txn: Bytes) -> Result<(), Refusal> {
        let newest_epoch = self.rollover.begun().unwrap_or(self.epoch);
        if self.history.receive(zxid, newest_epoch)? {
            if broken("lose proposals between NEWLEADER and UPTODATE") && matches!(self.stage, Stage::Adopted) {
                return Ok(());
            }
            self.events.push_back(LearnerEvent::Log { zxid, txn });
        }
        Ok(())
    }

    /// How many are committed now that were not before.
    fn on_commit(&mut self, zxid: Zxid) -> Result<u64, Refusal> {
        let many = self.leader_is_ringkeeper && matches!(self.stage, Stage::Serving);
        let committed = self.history.commit(zxid, many)?;
        if committed > 0 {
            self.events.push_back(LearnerEvent::Commit { through: zxid });
        }
        if matches!(self.stage, Stage::Synchronising) {
            // The leader had it before it asked for our vote, and has committed it.
            self.history.needs_no_ack(zxid);
        }
        Ok(committed)
    }

    /// A commit, and what it commits changes the membership.
    pub(super) fn on_activate(&mut self, zxid: Zxid, leader: i64) -> Result<(), Refusal> {
        self.on_commit(zxid)?;
        self.events.push_back(LearnerEvent::ConfigCommitted { zxid, leader: ServerId(leader) });
        Ok(())
    }

    /// One ACK a proposal: Java counts each for itself alone. Among us one is for everything before it, too (decision 0008).
    fn acknowledge(&mut self, out: &mut Vec<Output>) {
        if self.rollover.is_adopting() || !matches!(self.stage, Stage::Serving) {
            return;
        }
        let each = !self.leader_is_ringkeeper && !broken("one ACK for a whole flush");
        while let Some(zxid) = self.history.next_ack() {
            if !self.start.observer && (each || !self.history.owes_ack()) {
                self.send(Packet::Ack { zxid }, out);
            }
        }
    }

    fn keep_waiting(&mut self, message: LinkMessage) -> Result<(), Refusal> {
        mark("learner: packets wait for the disk");
        self.waiting_bytes += message.cost_bytes();
        if self.waiting_bytes > self.waiting_max_bytes {
            return Err("it sends more than this server can keep while it waits for its disk".into());
        }
        self.waiting.push_back(message);
        Ok(())
    }

    fn take_what_waited(&mut self, out: &mut Vec<Output>) {
        self.waiting_bytes = 0;
        while let Some(message) = self.waiting.pop_front() {
            let taken = self.take(message, out);
            self.end_if_refused(taken, out);
        }
    }

    fn end_if_refused(&mut self, taken: Result<(), Refusal>, out: &mut Vec<Output>) {
        if let Err(why) = taken {
            mark("learner: the leader made no sense");
            self.fail(format!("{}: {why}", self.master_name()), out);
        }
    }

    /// The role is over: `Over` follows, if the disk is being replaced when that is done.
    fn fail(&mut self, why: String, out: &mut Vec<Output>) {
        self.leave(why.clone(), out);
        match &mut self.stage {
            Stage::Over => {}
            Stage::Reloading { over, .. } => {
                mark("learner: over while the disk is replaced");
                over.get_or_insert(why);
            }
            stage => {
                *stage = Stage::Over;
                self.events.push_back(LearnerEvent::Over { why });
            }
        }
    }

    /// Gives up the link and what was half received.
    fn leave(&mut self, why: String, out: &mut Vec<Output>) {
        if let Some(link) = self.link.take() {
            out.push(Output::LinkClose { link, why });
        }
        if matches!(self.stage, Stage::Connecting) {
            out.push(Output::ForgetMaster);
        }
        self.abandon_snapshot(out);
        self.waiting.clear();
    }

    fn send(&mut self, packet: Packet, out: &mut Vec<Output>) {
        if let Some(link) = self.link {
            out.push(Output::LinkSend { link, message: LinkMessage::Packet(packet) });
        }
    }

    fn send_if_serving(&mut self, packet: Packet, out: &mut Vec<Output>) {
        if matches!(self.stage, Stage::Serving) {
            self.send(packet, out);
        }
    }
}

impl Stage {
    fn doing(&self) -> &'static str {
        match self {
            Stage::Connecting => "connecting",
            Stage::Registered => "waiting for its epoch",
            Stage::Promising => "storing its epoch",
            Stage::Agreed => "waiting for how it synchronises",
            Stage::Receiving(_) => "receiving its snapshot",
            Stage::Reloading { .. } => "replacing what is stored",
            Stage::Synchronising => "receiving its history",
            Stage::Adopting { .. } => "storing its history",
            Stage::Adopted => "waiting for its quorum",
            Stage::Serving => "following it",
            Stage::Over => "no longer following it",
        }
    }

    fn refuses(&self, message: &LinkMessage) -> Refusal {
        format!("{} while this server is {}", name_of(message), self.doing())
    }
}

/// Short: a proposal or a chunk may be a megabyte.
fn name_of(message: &LinkMessage) -> String {
    let name = match message {
        LinkMessage::Packet(Packet::Proposal { zxid, .. }) => return format!("proposal {zxid}"),
        LinkMessage::Packet(Packet::Inform { zxid, .. }) => return format!("inform {zxid}"),
        LinkMessage::Packet(Packet::InformAndActivate { zxid, .. }) => return format!("inform and activate {zxid}"),
        LinkMessage::Packet(packet) => return format!("{packet:?}"),
        LinkMessage::SnapshotBegin(_) => "the beginning of a snapshot",
        LinkMessage::SnapshotChunk(_) => "a part of a snapshot",
        LinkMessage::SnapshotEnd => "the end of a snapshot",
    };
    name.into()
}
