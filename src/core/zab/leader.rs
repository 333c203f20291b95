//! Leading an epoch: from "elected" to "no longer sure".
//!
//!   Discovering --quorum of xxxINFO--> Promising --acceptedEpoch durable--> Electing --quorum of ACKEPOCH--> Adopting
//!     --currentEpoch durable--> Synchronising --quorum of ACK(NEWLEADER)--> Broadcasting --no quorum heard of--> Over
//!
//! Holds at every step: a zxid is proposed once; commits leave in zxid order, each with a quorum on disk; nothing is proposed
//! before Broadcasting; LEADERINFO tells an epoch that is durable here; every vote belongs to a server, whatever link it came on.
//! Parts: `discovery.rs` gathers a quorum and its epoch, `synchronise.rs` brings learners up to the history, `transition.rs`
//! changes the epoch or hands over, `reconfiguration.rs` changes the membership, `confirm.rs` makes sure that it leads still, `relay.rs` serves observers for another leader, `report.rs` is for operators;
//! `proposals.rs` counts acks, `epoch.rs` chooses the epoch, `learner_handler.rs` is one learner, `catch_up.rs` the choice.
//! Not here, on purpose: what a transaction means (`pipeline`), the disk (`Output::Log`), sockets.
//! Java: `Leader`, `LearnerHandler` (3.9). Spec: quorum-protocol 6, 7, 10, 14, appendix A.
//!
//! A standalone server is an ensemble of one: the same proposals, the same counting, without learners, epochs and elections.

mod confirm;
mod discovery;
mod reconfiguration;
mod relay;
mod report;
mod synchronise;
#[cfg(test)]
mod tests;
mod transition;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use ringkeeper_storage::probe::{broken, mark};

use self::confirm::Rounds;
pub use self::report::LearnerView;
use self::transition::Transition;
use super::ballot::{Ballot, Votes};
use super::catch_up::SyncKind;
use super::epoch::{EpochChoice, Summary};
use super::learner_handler::{Allowance, Handler, Stage};
use super::membership::{Configurations, Membership};
pub use super::proposals::Proposal;
use super::proposals::Proposals;
use super::window::Window;
use crate::core::settings::Ensemble;
use crate::core::types::{EpochKind, Epochs, LinkId, LinkMessage, Now, Output, ServerId, Zxid};
use crate::limits;
use crate::wire::quorum::{ForwardedRequest, Packet};

/// What this server has when it begins to lead.
#[derive(Clone, Copy, Debug)]
pub struct LeaderStart {
    pub id: ServerId,
    /// `accepted`: by this server, or by anybody it heard of when it led before.
    pub epochs: Epochs,
    /// The newest transaction, durable and applied.
    pub last: Zxid,
    /// `reconfigEnabled`: a configuration without a version gets one with the epoch.
    pub reconfigures: bool,
    /// Its disk is empty, and it was elected, because nobody has data: it is a founder.
    pub founds: bool,
}

/// What the node has to do. In order.
#[derive(Debug)]
pub enum LeaderEvent {
    /// A quorum follows: `applied` is (epoch, 0) now, and clients are served.
    Established {
        epoch: u32,
    },
    /// A learner's client wants something. Its transaction is proposed for the session's owner `link`.
    Request {
        link: LinkId,
        request: ForwardedRequest,
    },
    /// A learner has heard of this session.
    Touched {
        session: i64,
        timeout_ms: i32,
    },
    /// May the client that is back at this learner have its session? Answer with `Leader::revalidated`.
    Revalidate {
        link: LinkId,
        session: i64,
        timeout_ms: i32,
    },
    /// A quorum followed when this was asked (`Leader::confirm`), and at every round before.
    Confirmed {
        round: u64,
    },
    /// A learner is brought up to the history in this way from now on, or is no more; that leaves so many.
    Syncs {
        kind: SyncKind,
        begins: bool,
        under_way: usize,
    },
    /// Send this learner a snapshot of the present state with `Leader::snapshot_*`.
    SnapshotWanted {
        link: LinkId,
    },
    /// A learner is gone: it owns no session any more, and wants no snapshot.
    LinkGone {
        link: LinkId,
    },
    /// The counter rolled over: the next zxid is (epoch, 1).
    NextEpoch {
        epoch: u32,
    },
    /// Everything is committed, and `leader` has it; or the membership has changed, and `leader` was designated: follow it.
    HandedOver {
        leader: ServerId,
    },
    /// A configuration without a version is to be in force with this epoch, under this name.
    ConfigSeen {
        config: Box<Membership>,
    },
    /// What was committed up to here makes this the configuration in force.
    ConfigActivated {
        config: Box<Membership>,
    },
    Over {
        why: String,
    },
}

/// What a leader has to know of the state it leads, to bring learners up to it.
#[derive(Clone, Copy, Debug)]
pub struct SyncView<'a> {
    pub window: &'a Window,
    /// Last processed zxid: of a transaction, or (epoch, 0).
    pub applied: Zxid,
    /// Of the newest snapshot on disk: for `snapshotSizeFactor`.
    pub snapshot_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Standalone,
    /// L1: who wants to follow, and which epochs have they accepted?
    Discovering,
    /// The epoch is chosen; acceptedEpoch is on its way to the disk.
    Promising,
    /// L2: LEADERINFO is out.
    Electing,
    /// A quorum accepts; currentEpoch is on its way to the disk.
    Adopting,
    /// L3: learners are brought up to the history of the epoch.
    Synchronising,
    /// L4
    Broadcasting,
    /// On a follower, for its observers.
    Relaying,
    Over,
}

#[derive(Debug)]
pub struct Leader {
    id: ServerId,
    founds: bool,
    settings: Ensemble,
    allowance: Allowance,
    /// The node's, as far as its events have told it.
    configs: Configurations,
    reconfigures: bool,
    own_vote: Votes,
    phase: Phase,
    /// The present phase must be over by then, up to Broadcasting.
    phase_until_us: u64,
    choice: EpochChoice,
    /// Who has more than this server, of those that the election did not ask for a candidate: see `better_candidate`.
    ahead: Option<(Summary, ServerId)>,
    nominee: Option<(Summary, ServerId)>,
    /// Zero until it is chosen.
    epoch: u32,
    /// The epochs that voters who look for a leader say they were in.
    claims: BTreeMap<ServerId, u32>,
    /// Those that it has led without an election in between, this one included.
    led: Vec<u32>,
    /// Of NEWLEADER.
    synchronised: Votes,
    proposals: Proposals,
    /// The newest transaction there is, proposed or from before this epoch.
    last_txn: Zxid,
    /// The newest one the node was given to apply.
    popped: Zxid,
    handlers: BTreeMap<LinkId, Handler>,
    /// Forwarded `sync`s, and what has to be committed first.
    syncs: VecDeque<(Zxid, LinkId)>,
    /// Whose request came last.
    asker: Option<LinkId>,
    transition: Transition,
    rounds: Rounds,
    events: VecDeque<LeaderEvent>,
    /// Who has what on its disk since the node asked last, and when that was made.
    acked: Vec<(ServerId, i64)>,
    now_us: u64,
    next_ping_us: u64,
    next_check_us: u64,
}

impl Leader {
    /// An ensemble of one that goes on after `last`, the newest transaction of its log. It has no election, hence no new
    /// epoch: a standalone Java server counts on in the same way.
    pub fn standalone(id: ServerId, last: Zxid) -> Self {
        let epochs = Epochs { accepted: 0, current: 0 };
        let start = LeaderStart { id, epochs, last, founds: false, reconfigures: false };
        let nobody = Configurations::settled(Membership::of(0, 0));
        Leader::new(0, start, &Ensemble::default(), (nobody, Ballot::alone(id)), Phase::Standalone)
    }

    /// Elected: opens the doors and looks for a quorum that agrees on an epoch.
    pub fn elected(
        now: Now,
        start: LeaderStart,
        settings: &Ensemble,
        configs: &Configurations,
        out: &mut Vec<Output>,
    ) -> Self {
        let electorate = (configs.clone(), Ballot::new(configs));
        let mut leader = Leader::new(now.mono_us, start, settings, electorate, Phase::Discovering);
        leader.phase_until_us = now.mono_us + leader.allowance.init_us;
        out.push(Output::AcceptLearners(true));
        leader.on_connecting(now.mono_us, out);
        leader
    }

    /// Nobody elected it: it was designated. Those who were told to follow it come at once, or not at all, because they are gone,
    /// too; then an election knows better, and read-only clients need not wait for it.
    pub fn expect_all_at_once(&mut self) {
        if self.phase == Phase::Discovering {
            self.phase_until_us = self.now_us + self.tick_us();
        }
    }

    fn new(
        now_us: u64,
        start: LeaderStart,
        settings: &Ensemble,
        (configs, ballot): (Configurations, Ballot),
        phase: Phase,
    ) -> Leader {
        let tick_us = u64::from(settings.tick_ms) * 1000;
        let own_vote = ballot.vote_of(start.id);
        Leader {
            id: start.id,
            founds: start.founds,
            settings: settings.clone(),
            allowance: Allowance {
                init_us: tick_us * u64::from(settings.init_limit),
                sync_us: tick_us * u64::from(settings.sync_limit),
                queue_max_bytes: settings.learner_queue_max_bytes,
            },
            configs,
            reconfigures: start.reconfigures,
            own_vote,
            phase,
            phase_until_us: u64::MAX,
            choice: EpochChoice::new(own_vote, start.epochs, start.last),
            ahead: None,
            nominee: None,
            epoch: 0,
            claims: BTreeMap::new(),
            led: Vec::new(),
            synchronised: Votes::NONE,
            proposals: Proposals::new(ballot, own_vote, start.last),
            last_txn: start.last,
            popped: start.last,
            handlers: BTreeMap::new(),
            syncs: VecDeque::new(),
            asker: None,
            transition: Transition::None,
            rounds: Rounds::default(),
            events: VecDeque::new(),
            acked: Vec::new(),
            now_us,
            next_ping_us: now_us + tick_us / 2,
            next_check_us: u64::MAX,
        }
    }

    pub fn on_learner_connected(&mut self, now: Now, link: LinkId) {
        self.now_us = now.mono_us;
        if self.phase != Phase::Over {
            let before = self.handlers.insert(link, Handler::new(link, now.mono_us, &self.allowance));
            assert!(before.is_none(), "{link:?} connected twice");
        }
    }

    /// Whatever a peer says that makes no sense costs it its link, and nothing else.
    pub fn on_message(
        &mut self,
        now: Now,
        link: LinkId,
        message: LinkMessage,
        view: SyncView<'_>,
        out: &mut Vec<Output>,
    ) {
        self.now_us = now.mono_us;
        let Some(handler) = self.handlers.get_mut(&link) else {
            return;
        };
        handler.heard(now.mono_us, &self.allowance);
        let LinkMessage::Packet(packet) = message else {
            return self.close(link, "it sent a snapshot to its leader", out);
        };
        match (&handler.stage, packet) {
            (Stage::Nameless, Packet::FollowerInfo { accepted_epoch, info }) => {
                self.on_info(link, accepted_epoch, info, false, out);
            }
            (Stage::Nameless, Packet::ObserverInfo { accepted_epoch, info }) => {
                self.on_info(link, accepted_epoch, info, true, out);
            }
            (Stage::Informed, Packet::AckEpoch { last, current_epoch }) => {
                self.on_ack_epoch(link, last, current_epoch, view, out);
            }
            (Stage::Synchronising, Packet::Ack { zxid })
                if handler.acknowledges_early(zxid, self.proposals.committed()) => {}
            (Stage::Synchronising, Packet::Ack { zxid }) => self.on_new_leader_ack(link, zxid, out),
            (Stage::InStep, Packet::Ack { zxid }) => self.on_ack(link, zxid, out),
            // Java followers before 3.8.5 and 3.9.2 log their DIFF on the side, and acknowledge what is in it when it is done.
            (Stage::Synchronised, Packet::Ack { zxid }) if !handler.speaks_ringkeeper() => self.on_ack(link, zxid, out),
            // It was told, and nobody counts.
            (Stage::InStep, Packet::NextEpochAccepted { epoch } | Packet::NextEpochAdopted { epoch })
                if self.phase == Phase::Relaying && epoch <= self.epoch => {}
            (Stage::InStep, Packet::Ping { zxid: _, touched }) => {
                handler.answered();
                let touched = touched.into_iter().flatten();
                self.events.extend(touched.map(|(session, timeout_ms)| LeaderEvent::Touched { session, timeout_ms }));
                self.end_round(out);
            }
            (Stage::InStep, Packet::Request(request)) => {
                self.asker = Some(link);
                self.events.push_back(LeaderEvent::Request { link, request });
            }
            (Stage::InStep, Packet::Revalidate { session, timeout_ms }) => {
                self.events.push_back(LeaderEvent::Revalidate { link, session, timeout_ms });
            }
            (Stage::InStep, Packet::NextEpochAccepted { epoch }) => self.on_next_epoch_accepted(link, epoch, out),
            (Stage::InStep, Packet::NextEpochAdopted { epoch }) => self.on_next_epoch_adopted(link, epoch, out),
            (stage, packet) => {
                mark("leader: a packet out of place");
                let why = format!("it sent {} while {}", packet.name(), stage.name());
                self.close(link, &why, out);
            }
        }
    }

    /// The kernel took some of what is on its way to this learner.
    pub fn on_sent(&mut self, link: LinkId, bytes: usize, out: &mut Vec<Output>) {
        if let Some(handler) = self.handlers.get_mut(&link) {
            handler.sent(self.now_us, bytes, &self.allowance);
            if handler.has_room(&self.allowance)
                && let Stage::ReadingLog(range) = &mut handler.stage
                && std::mem::take(&mut range.paused)
            {
                out.push(Output::ReadLogOn { link });
            }
        }
    }

    pub fn on_closed(&mut self, now: Now, link: LinkId, out: &mut Vec<Output>) {
        self.now_us = now.mono_us;
        self.forget(link, out);
    }

    /// Ends a learner's link, for a reason that is the node's.
    pub fn drop_learner(&mut self, now: Now, link: LinkId, why: &str, out: &mut Vec<Output>) {
        self.now_us = now.mono_us;
        self.close(link, why, out);
    }

    pub fn on_epoch_stored(
        &mut self,
        now: Now,
        kind: EpochKind,
        epoch: u32,
        view: SyncView<'_>,
        out: &mut Vec<Output>,
    ) {
        self.now_us = now.mono_us;
        match (self.phase, kind) {
            (Phase::Promising, EpochKind::Accepted) if epoch == self.epoch => {
                // Accepted here too: the next one is above it.
                self.choice.connected(Votes::NONE, epoch);
                self.enter(Phase::Electing);
                self.tell_epoch(out);
                self.on_epoch_accepted(out);
            }
            (Phase::Adopting, EpochKind::Current) if epoch == self.epoch => {
                self.enter(Phase::Synchronising);
                self.synchronised = self.own_vote;
                let ready = |handler: &&Handler| matches!(handler.stage, Stage::AwaitsHistory { .. });
                let ready: Vec<LinkId> = self.handlers.values().filter(ready).map(|handler| handler.link).collect();
                for link in ready {
                    self.synchronise(link, view, out);
                }
                self.establish_if_synchronised(out);
            }
            (Phase::Broadcasting, kind) => self.on_transition_stored(kind, epoch, out),
            // Of a role that is over.
            _ => {}
        }
    }

    pub fn revalidated(&mut self, link: LinkId, session: i64, valid: bool, out: &mut Vec<Output>) {
        if let Some(handler) = self.handlers.get_mut(&link) {
            handler.forward(Packet::Revalidated { session, valid }, out);
        }
    }

    /// A learner's `sync`: answered when everything proposed now is committed.
    pub fn sync_asked(&mut self, link: LinkId, out: &mut Vec<Output>) {
        let Some(handler) = self.handlers.get_mut(&link) else {
            return;
        };
        if self.proposals.is_drained() {
            handler.forward(Packet::Sync, out);
        } else if self.syncs.len() == limits::LEARNER_SYNCS {
            self.close(link, "too many of its clients' syncs wait already", out);
        } else {
            self.syncs.push_back((self.proposals.proposed(), link));
        }
    }

    /// Proposals may be made: not before the leader is established, nor while it hands over or changes its epoch.
    pub fn may_propose(&self) -> bool {
        match self.phase {
            Phase::Standalone => true,
            Phase::Broadcasting => {
                matches!(self.transition, Transition::None)
                    && self.proposals.proposed().counter() + 1 < self.settings.counter_end
            }
            _ => false,
        }
    }

    pub fn on_tick(&mut self, now: Now, out: &mut Vec<Output>) {
        self.now_us = now.mono_us;
        if matches!(self.phase, Phase::Standalone | Phase::Over) {
            return;
        }
        if !matches!(self.phase, Phase::Broadcasting | Phase::Relaying) && now.mono_us >= self.phase_until_us {
            mark("leader: no quorum within initLimit");
            let why = format!("no quorum while {:?} within {} ticks", self.phase, self.settings.init_limit);
            self.nominee = self.better_candidate().filter(|_| !broken("leader: who has more than it must wait"));
            if self.nominee.is_some() {
                mark("leader: puts a voter to be forward");
            }
            return self.over(why, out);
        }
        let late = self.handlers.values().filter(|handler| handler.is_late(now.mono_us));
        let late: Vec<(LinkId, &str)> = late.map(|handler| (handler.link, handler.stage.name())).collect();
        for (link, stage) in late {
            if self.give_slow_log_up(link, out) {
                continue;
            }
            mark("leader: a learner is silent");
            self.close(link, &format!("nothing was heard of it in time while {stage}"), out);
        }
        if now.mono_us >= self.next_ping_us {
            self.next_ping_us = now.mono_us + self.tick_us() / 2;
            self.ping(out);
        }
        if self.phase == Phase::Broadcasting && now.mono_us >= self.next_check_us {
            self.next_check_us = now.mono_us + self.tick_us();
            let alive = self.handlers.values().filter(|handler| handler.is_alive(now.mono_us));
            let alive = alive.fold(self.own_vote, |alive, handler| alive.with(handler.vote));
            if !self.proposals.ballot().is_quorum(alive) && !broken("leader: go on without a quorum") {
                mark("leader: quorum lost");
                return self.over("no quorum of voters was heard of in time".to_owned(), out);
            }
        }
        if self.phase == Phase::Broadcasting {
            self.on_transition_tick(out);
        }
    }

    pub fn wake_us(&self) -> Option<u64> {
        if matches!(self.phase, Phase::Standalone | Phase::Over) {
            return None;
        }
        let phase = if self.phase == Phase::Broadcasting { self.next_check_us } else { self.phase_until_us };
        let dues = self.handlers.values().filter_map(Handler::due_us);
        dues.chain([phase, self.next_ping_us]).chain(self.transition.until_us()).min()
    }

    /// The role ends here: closes every link and the door. Nothing that completes later has an effect.
    pub fn end(&mut self, out: &mut Vec<Output>) {
        if matches!(self.phase, Phase::Standalone | Phase::Over) {
            return;
        }
        let relayed = std::mem::replace(&mut self.phase, Phase::Over) == Phase::Relaying;
        // What came in force with the last commit is in force, whoever leads on.
        self.events.retain(|event| matches!(event, LeaderEvent::ConfigActivated { .. }));
        self.syncs.clear();
        let (doors, why) = match relayed {
            true => (Output::AcceptObservers(false), "this server follows no longer"),
            false => (Output::AcceptLearners(false), "this server leads no longer"),
        };
        out.push(doors);
        for (link, handler) in std::mem::take(&mut self.handlers) {
            if matches!(handler.stage, Stage::ReadingLog(_)) {
                out.push(Output::EndReadLog { link });
            }
            out.push(Output::LinkClose { link, why: format!("{}: {why}", handler.name()) });
        }
    }

    pub fn next_event(&mut self) -> Option<LeaderEvent> {
        self.events.pop_front()
    }

    /// For those who measure: which voters have what was proposed, before a quorum has it, and when that was made.
    pub fn take_acked(&mut self) -> impl Iterator<Item = (ServerId, i64)> {
        self.acked.drain(..)
    }

    /// The zxid of the newest proposal.
    pub fn proposed(&self) -> Zxid {
        self.proposals.proposed()
    }

    pub fn committed(&self) -> Zxid {
        self.proposals.committed()
    }

    /// The highest epoch that anybody heard of has accepted: what this server leads next is above it.
    pub fn accepted_epoch(&self) -> u32 {
        self.choice.accepted()
    }

    /// The role is over, for want of a quorum: whom to elect in place of this server, and what it has.
    pub fn nominee(&self) -> Option<(Summary, ServerId)> {
        self.nominee
    }

    /// Proposals not applied yet.
    pub fn in_flight(&self) -> usize {
        self.proposals.in_flight()
    }

    /// Their transactions, together.
    pub fn in_flight_bytes(&self) -> usize {
        self.proposals.in_flight_bytes()
    }

    /// The role is over: everything that was logged and not applied.
    pub fn take_in_flight(&mut self) -> VecDeque<Proposal> {
        self.proposals.take()
    }

    /// The zxid the next proposal must carry. Plain counting: the epoch of a standalone server rolls over with its
    /// counter, as Java's does.
    pub fn next_zxid(&self) -> Zxid {
        Zxid(self.proposals.proposed().0 + 1)
    }

    /// Takes the next proposal, and tells it to everybody. `txn` must carry `next_zxid()`.
    pub fn propose(&mut self, zxid: Zxid, txn: Bytes, out: &mut Vec<Output>) {
        self.last_txn = zxid;
        if self.phase == Phase::Standalone {
            return self.proposals.push(zxid, txn);
        }
        // Of two that belong together the first may begin the end of the epoch, which waits for whatever is in flight.
        let ends = matches!(self.transition, Transition::Draining { .. } | Transition::HandingOver { .. });
        let may_follow = ends && !self.proposals.is_drained() && zxid.counter() < self.settings.counter_end;
        let (phase, transition) = (self.phase, &self.transition);
        assert!(self.may_propose() || may_follow, "nothing is proposed {phase:?} with {transition:?}");
        for handler in self.handlers.values_mut().filter(|handler| handler.forwarding && !handler.observer) {
            handler.propose(zxid, txn.clone(), out);
        }
        self.proposals.push(zxid, txn);
        self.drop_overrun(out);
        if zxid.counter() >= self.settings.rollover_at {
            self.consider_transition(out);
        }
    }

    /// This server's own vote: a finished disk write.
    pub fn on_logged(&mut self, through: Zxid, out: &mut Vec<Output>) {
        let news = Zxid(self.proposals.durable().0 + 1)..=through;
        self.proposals.on_durable(through);
        if self.phase == Phase::Standalone {
            return self.proposals.commit_durable();
        }
        self.acked.extend(self.proposals.made_ms(news).map(|made_ms| (self.id, made_ms)));
        self.commit(out);
    }

    /// The next proposal that a quorum has, in order; to be called until there is none.
    #[inline]
    pub fn pop_committed(&mut self) -> Option<Proposal> {
        let proposal = self.proposals.pop()?;
        self.popped = proposal.zxid;
        Some(proposal)
    }

    /// Everything that can be committed is, and everybody hears of it.
    fn commit(&mut self, out: &mut Vec<Output>) {
        let mut committed = false;
        // Of those that are told once of many.
        let mut untold = None;
        while let Some(Proposal { zxid, txn }) = self.proposals.commit_next() {
            let zxid = *zxid;
            committed = true;
            if self.configs.is_changing() && self.configs.last_seen.version == zxid.0 {
                let txn = txn.clone();
                self.tell_committed(untold.take(), out);
                self.commit_reconfiguration(zxid, txn, out);
            } else {
                let handlers = self.handlers.values_mut();
                for handler in handlers.filter(|handler| handler.forwarding && !handler.takes_many_at_once()) {
                    let packet = match handler.observer {
                        true => Packet::Inform { zxid, txn: txn.clone() },
                        false => Packet::Commit { zxid },
                    };
                    handler.forward(packet, out);
                }
                untold = Some(zxid);
            }
            while let Some((_, link)) = self.syncs.pop_front_if(|(through, _)| *through <= zxid) {
                self.tell_committed(untold.take(), out);
                if let Some(handler) = self.handlers.get_mut(&link) {
                    handler.forward(Packet::Sync, out);
                }
            }
            if self.phase == Phase::Over {
                return;
            }
        }
        if committed {
            self.tell_committed(untold, out);
            self.drop_overrun(out);
        }
        self.carry_on_transition(out);
    }

    /// Everything through this one, in one packet to each of those that take that. First to who asked last: its client waits, and
    /// what a send costs the others need not be waited for.
    fn tell_committed(&mut self, through: Option<Zxid>, out: &mut Vec<Output>) {
        let Some(zxid) = through else { return };
        for asked in [true, false] {
            let handlers = self.handlers.values_mut().filter(|handler| (Some(handler.link) == self.asker) == asked);
            for handler in handlers.filter(|handler| handler.forwarding && handler.takes_many_at_once()) {
                handler.forward(Packet::Commit { zxid }, out);
            }
        }
    }

    // --- L4 ---

    fn on_ack(&mut self, link: LinkId, zxid: Zxid, out: &mut Vec<Output>) {
        // The second ack of NEWLEADER answers UPTODATE.
        if zxid.counter() == 0 {
            return;
        }
        if self.phase == Phase::Relaying {
            return self.close(link, "it observes, and acknowledges a transaction", out);
        }
        if zxid > self.proposals.proposed() {
            mark("leader: an ack of what was never proposed");
            let why = format!("it acknowledged {zxid}, never proposed; the newest is {}", self.proposals.proposed());
            return self.close(link, &why, out);
        }
        let handler = self.handlers.get_mut(&link).expect("it has just said so");
        // For everything before it, too (decision 0008). Java's is for itself.
        let many = handler.speaks_ringkeeper() && !broken("leader: an ack of many counts for the last");
        let news = if many { Zxid(handler.has.0 + 1)..=zxid } else { zxid..=zxid };
        handler.has = handler.has.max(zxid);
        if let Some(voter) = handler.id.filter(|_| handler.vote != Votes::NONE) {
            self.acked.extend(self.proposals.made_ms(news.clone()).map(|made_ms| (voter, made_ms)));
        }
        self.proposals.on_ack(handler.vote, news);
        self.commit(out);
    }

    fn ping(&mut self, out: &mut Vec<Output>) {
        let proposed = self.proposals.proposed();
        let mut lagging = Vec::new();
        for handler in self.handlers.values_mut().filter(|handler| handler.is_pinged()) {
            if handler.is_lagging(self.now_us, proposed, &self.allowance) {
                lagging.push(handler.link);
            } else {
                handler.ping(proposed, out);
            }
        }
        for link in lagging {
            mark("leader: acks are overdue");
            self.close(link, "a proposal was not acknowledged in time", out);
        }
    }

    // --- links ---

    fn drop_overrun(&mut self, out: &mut Vec<Output>) {
        while let Some(handler) = self.handlers.values().find(|handler| handler.is_overrun(&self.allowance)) {
            mark("leader: a learner takes less than is proposed");
            let link = handler.link;
            self.close(link, "too much waits for it that it does not take", out);
        }
    }

    /// Ends a link, with a sentence about the peer.
    fn close(&mut self, link: LinkId, why: &str, out: &mut Vec<Output>) {
        if let Some(handler) = self.handlers.get(&link) {
            out.push(Output::LinkClose { link, why: format!("{}: {why}", handler.name()) });
            self.forget(link, out);
        }
    }

    fn forget(&mut self, link: LinkId, out: &mut Vec<Output>) {
        let Some(handler) = self.handlers.remove(&link) else {
            return;
        };
        if matches!(handler.stage, Stage::ReadingLog(_)) {
            out.push(Output::EndReadLog { link });
        }
        if self.phase == Phase::Synchronising {
            self.synchronised.remove(handler.vote);
        }
        if let Some(kind) = handler.syncing() {
            self.tell_sync(kind, false);
        }
        self.syncs.retain(|(_, asker)| *asker != link);
        self.events.push_back(LeaderEvent::LinkGone { link });
    }

    /// Gives the lead up.
    fn over(&mut self, why: String, out: &mut Vec<Output>) {
        self.end(out);
        self.events.push_back(LeaderEvent::Over { why });
    }

    fn tick_us(&self) -> u64 {
        u64::from(self.settings.tick_ms) * 1000
    }
}
