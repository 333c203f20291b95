//! A member of an ensemble: which part this server has in it, and what it does when that changes.
//!
//!   Looking --decided--> Leading | Following | Observing --over--> Settling --everything logged is durable and applied--> Looking
//!
//! The machines (`election`, `zab`) say what is to be done as events; here they are given their inputs, and their events are
//! carried out on what the node owns: tree, sessions, clients. What a role has begun ends before the next one begins: its
//! links and clients are closed at once, its writes to the disk are waited for in Settling. So a completion always belongs to
//! the present role, and what is told to others is what a crash would recover (20.3, 20.10, 20.25).
//!
//! Not here, on purpose: requests of learners' clients (`pipeline/lead.rs`), requests to the leader (`pipeline/forward.rs`).
//! Java: `QuorumPeer`. Spec: quorum-protocol 4.5, 8, 13, 14, 20; semantics 18.

use std::collections::VecDeque;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use ringkeeper_storage::probe;

use super::annals::Annals;
use super::election::{Candidate, Election, Nominee, Vote};
use super::metrics::Sizes;
use super::node::Node;
use super::pipeline::{Doubted, Forwarded, PendingView, WaitingRequests};
use super::progress::Progress;
use super::replay::Recovered;
use super::session::{Owner, SessionTable};
use super::settings::Settings;
use super::types::{
    EpochKind, Epochs, Input, LinkId, LinkMessage, LogRoom, Now, Output, Reloaded, RoleView, ServerId, SessionId,
    Standing, Zxid,
};
use super::zab::Leader;
use super::zab::epoch::{FORGOTTEN, Summary};
use super::zab::leader::{LeaderEvent, LeaderStart, SyncView};
use super::zab::learner::{Learner, LearnerEvent, LearnerStart};
use super::zab::masters::Masters;
use super::zab::membership::{Configurations, Membership};
use super::zab::window::Window;
use crate::wire::election::PeerState;
use crate::wire::quorum::{self, Packet};

/// What a member starts from.
#[derive(Debug)]
pub struct MemberStart {
    pub recovered: Recovered,
    pub epochs: Epochs,
    pub standing: Standing,
    pub configs: Configurations,
}

/// What a member is, whatever its part.
#[derive(Debug)]
pub(super) struct Member {
    pub configs: Configurations,
    pub election: Election,
    /// As stored.
    pub epochs: Epochs,
    /// The highest epoch accepted by anybody this server heard of while it led.
    heard_accepted: u32,
    pub standing: Standing,
    pub window: Window,
    /// Of an observer: whom it tries.
    pub masters: Masters,
    /// (epoch, 0) while serving in an epoch. No transaction has this zxid.
    pub epoch_start: Zxid,
    /// Where service ended last: the newest state that clients were shown, and its digest. What is applied above it when a role
    /// ends is not known committed.
    served_to: Option<(Zxid, u64)>,
    /// `Output::StoreEpoch`s without an answer.
    epoch_writes: usize,
    /// The disk is being cut or replaced: there is no state until `Input::Reloaded`.
    reloading: bool,
    /// For operators.
    pub annals: Annals,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a server has one role, and the one that counts is at hand")]
pub(super) enum Role {
    Looking(Looking),
    Leading(Leading),
    Following(Box<Following>),
    Settling(Settling),
}

/// Nobody is followed: the election is on.
#[derive(Debug)]
pub(super) struct Looking {
    pub since_us: u64,
    /// No election until then: the one before came to a leader that is not followed.
    pauses_until_us: Option<u64>,
    /// In read-only mode: the sessions of those who are content with that. They live here and end here.
    pub read_only: Option<SessionTable>,
}

#[derive(Debug)]
pub(super) struct Leading {
    pub leader: Leader,
    /// Requests of learners' clients that came while nothing could be proposed.
    pub waiting: WaitingRequests,
    /// Clients that are back with sessions that nobody here knows.
    pub doubted: VecDeque<Doubted>,
    /// Sessions whose `createSession` is in flight: their clients may ask for more behind it.
    pub creating: HashMap<SessionId, Creating, FixedState>,
    /// It hands over: nothing new is begun.
    handing_over: bool,
}

/// What a session is going to be like.
#[derive(Debug)]
pub(super) struct Creating {
    /// None: the learner that asked is gone; it belongs to whoever asks first.
    pub owner: Option<Owner>,
    pub closing: bool,
}

/// Observers too.
#[derive(Debug)]
pub(super) struct Following {
    pub learner: Learner,
    pub forwarded: Forwarded,
    pub observer: bool,
    /// What NEWLEADER said: in force with UPTODATE.
    pub config: Option<Membership>,
    began_us: u64,
    /// Its observers, while it serves.
    pub relay: Option<Box<Leader>>,
}

/// A role has ended; what it wrote is not on the disk yet.
#[derive(Debug)]
pub(super) struct Settling {
    /// Who leads next, if that is known without an election.
    next: Option<ServerId>,
    /// Observers pause before they look again, and so does a follower that never came to serve.
    until_us: u64,
}

/// Who is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Nobody,
    ReadOnly,
    Everybody,
}

impl Role {
    /// Whoever has learners, on this server.
    pub fn master(&mut self) -> Option<&mut Leader> {
        match self {
            Role::Leading(leading) => Some(&mut leading.leader),
            Role::Following(following) => following.relay.as_deref_mut(),
            Role::Looking(_) | Role::Settling(_) => None,
        }
    }
}

impl Leading {
    pub fn new(leader: Leader) -> Leading {
        let (waiting, doubted) = (WaitingRequests::default(), VecDeque::new());
        Leading { leader, waiting, doubted, creating: HashMap::default(), handing_over: false }
    }
}

impl Member {
    /// What the leader has to know of its own state. `applied`: the newest transaction in the tree.
    fn sync_view(&self, applied: Zxid, snapshot_bytes: u64) -> SyncView<'_> {
        SyncView { window: &self.window, applied: applied.max(self.epoch_start), snapshot_bytes }
    }

    /// Why whoever was elected cannot have what is here: its electors say that it is in an epoch before one that this server was
    /// in. A quorum accepts an epoch before anybody is in it, so the next leader comes to a later one as soon as it has a
    /// quorum; one that stays behind was elected by those who have forgotten. It must not even hear which epochs are known here: it would
    /// move on above them (Java's leader, too, before it has a quorum), and then what is here would look like the past.
    fn is_forgotten_by(&self, id: ServerId, elected: &Vote) -> Option<String> {
        let (Vote { leader, peer_epoch, .. }, current) = (elected, self.epochs.current);
        // Who is only proposed as a voter has no vote to say so with, and may be wanted by a leader that asks both quorums (D-067).
        let has_said_so = !self.configs.last_seen.is_voter(id) || self.configs.committed.is_voter(id);
        let forgotten = *peer_epoch < current.into() && self.standing == Standing::Whole && has_said_so;
        (forgotten && !probe::broken("accept an old epoch")).then(|| {
            format!(
                "server {} leads, from epoch {peer_epoch}, and this server was in epoch {current}. Unless that passes, {FORGOTTEN}",
                leader.0
            )
        })
    }

    fn is_observer(&self, id: ServerId) -> bool {
        self.configs.committed.is_observer(id)
    }
}

/// Gives the leader, or a follower's part as an observer master, its inputs, each with a view of the state it has.
macro_rules! with_leader {
    ($node:ident, |$leader:ident, $view:ident| $body:expr) => {
        if let (Some($leader), Some(member)) = ($node.role.master(), &$node.member) {
            #[allow(unused_variables)]
            let $view = member.sync_view($node.progress.applied, $node.tree.approximate_data_size());
            $body
        }
    };
}

impl Node {
    /// A member of an ensemble, which begins by looking for a leader. `out` takes its first words.
    pub fn member(settings: Settings, start: MemberStart, now: Now, out: &mut Vec<Output>) -> Node {
        let MemberStart { recovered, epochs, standing, configs } = start;
        let mut node = Node::standalone(settings, recovered, now);
        let candidate = Candidate { last_logged: node.progress.logged, current_epoch: epochs.current, standing };
        let ensemble = &node.settings.ensemble;
        node.member = Some(Box::new(Member {
            election: Election::new(node.settings.server, ensemble, candidate, &configs),
            window: Window::new(ensemble.commit_log_count, node.progress.applied),
            masters: Masters::new(ensemble.observer_master_order),
            configs,
            epochs,
            heard_accepted: 0,
            standing,
            epoch_start: Zxid::ZERO,
            served_to: None,
            epoch_writes: 0,
            reloading: false,
            annals: Annals::new(now),
        }));
        node.service = Service::Nobody;
        node.recover_configuration(now, out);
        out.push(Output::RoleChanged(RoleView::Looking { why: "it starts".into() }));
        node.look(now, out);
        node
    }

    /// Where service has ended since this was asked last: the newest zxid that anybody was shown, and the tree's digest there.
    pub fn take_served_to(&mut self) -> Option<(Zxid, u64)> {
        self.member.as_mut()?.served_to.take()
    }

    /// When `Input::Tick` is due at the latest, monotonic microseconds.
    pub fn wake_us(&self) -> Option<u64> {
        let member = self.member.as_deref()?;
        match &self.role {
            Role::Looking(looking) => {
                let read_only_us = self.read_only_mode_begins_us(looking);
                let wakes_us = [member.election.wake_us(), read_only_us, looking.pauses_until_us];
                wakes_us.into_iter().flatten().min()
            }
            Role::Leading(leading) => leading.leader.wake_us(),
            Role::Following(following) => {
                let relay_us = following.relay.as_ref().and_then(|relay| relay.wake_us());
                following.learner.wake_us().into_iter().chain(relay_us).min()
            }
            Role::Settling(settling) => (settling.until_us > 0).then_some(settling.until_us),
        }
    }

    /// Everything that only members hear of.
    pub(super) fn on_ensemble_input(&mut self, now: Now, input: Input<'_>, out: &mut Vec<Output>) {
        let Some(member) = &mut self.member else {
            return;
        };
        match input {
            Input::Notified { from, notification } => {
                member.election.on_notification(now, from, &notification, &member.configs, out);
                if let Role::Leading(leading) = &mut self.role
                    && notification.state == PeerState::Looking
                    && member.configs.is_voter(from)
                {
                    if notification.leader == from.0 {
                        leading.leader.on_claim(from, u32::try_from(notification.peer_epoch).unwrap_or(0));
                    }
                    if member.election.is_elected_by(from) {
                        leading.leader.on_elector_looking(now, from, out);
                    }
                }
            }
            Input::EpochStored { kind, epoch } => self.on_epoch_stored(now, kind, epoch, out),
            Input::Reloaded(reloaded) => self.on_reloaded(now, *reloaded, out),
            Input::LearnerConnected { link } => match self.role.master() {
                Some(leader) => leader.on_learner_connected(now, link),
                None => out.push(Output::LinkClose { link, why: "this server has no learners any more".into() }),
            },
            Input::MasterConnected { link } => match &mut self.role {
                Role::Following(following) => following.learner.on_connected(now, link, out),
                _ => out.push(Output::LinkClose { link, why: "this server does not follow any more".into() }),
            },
            Input::MasterUnreachable => {
                if let Role::Following(following) = &mut self.role {
                    following.learner.on_unreachable();
                }
            }
            Input::LinkReceived { link, message } => self.on_link_received(now, link, message, out),
            Input::LinkSent { link, bytes } => {
                with_leader!(self, |leader, view| leader.on_sent(link, bytes, out));
                self.on_link_room(link, out);
            }
            Input::LinkClosed { link } => {
                if let Role::Following(following) = &mut self.role {
                    following.learner.on_closed(now, link, out);
                }
                with_leader!(self, |leader, view| leader.on_closed(now, link, out));
            }
            Input::LogRead { link, predecessor, records } => {
                with_leader!(self, |leader, view| leader.on_log_read(link, predecessor, records, view, out));
            }
            Input::LogReadEnded { link, complete } => {
                with_leader!(self, |leader, view| leader.on_log_read_ended(link, complete, out));
            }
            Input::HandOver => self.hand_over(now, out),
            other => unreachable!("{other:?} is not only for members"),
        }
    }

    fn on_link_received(&mut self, now: Now, link: LinkId, message: LinkMessage, out: &mut Vec<Output>) {
        if let Role::Following(following) = &self.role
            && !following.relay.as_ref().is_some_and(|relay| relay.has_link(link))
        {
            // What is about to be cut or replaced makes no snapshot.
            if matches!(message, LinkMessage::Packet(Packet::Trunc { .. } | Packet::Snap { .. })) {
                self.abandon_snapshot("the leader has another history than this server", out);
            }
            let Role::Following(following) = &mut self.role else { unreachable!("as above") };
            return following.learner.on_message(now, link, message, out);
        }
        with_leader!(self, |leader, view| leader.on_message(now, link, message, view, out));
    }

    fn on_epoch_stored(&mut self, now: Now, kind: EpochKind, epoch: u32, out: &mut Vec<Output>) {
        let member = self.member.as_mut().expect("only members store epochs");
        assert!(member.epoch_writes > 0, "{kind:?} {epoch} was stored, nobody asked for it");
        member.epoch_writes -= 1;
        match kind {
            EpochKind::Accepted => member.epochs.accepted = epoch,
            EpochKind::Current => {
                member.epochs.current = epoch;
                // Only whoever has a leader's whole history adopts its epoch; a founder's is empty.
                member.standing = Standing::Whole;
            }
        }
        if let Role::Following(following) = &mut self.role {
            return following.learner.on_epoch_stored(now, kind, epoch, out);
        }
        with_leader!(self, |leader, view| leader.on_epoch_stored(now, kind, epoch, view, out));
    }

    /// Whatever was in memory is void; this is what the disk has.
    fn on_reloaded(&mut self, now: Now, reloaded: Reloaded, out: &mut Vec<Output>) {
        let Reloaded { recovered: Recovered { tree, sessions, mismatches }, standing, failure } = reloaded;
        let last = tree.last_processed();
        let member = self.member.as_mut().expect("only a member's disk is replaced");
        assert!(member.reloading, "reloaded without having been asked to");
        member.reloading = false;
        member.standing = standing;
        member.window = Window::new(self.settings.ensemble.commit_log_count, last);
        self.metrics.digest_mismatches_count += mismatches.len() as u64;
        self.sessions = SessionTable::new(self.settings.tick_ms);
        for (id, timeout_ms) in sessions {
            self.sessions.create(id, timeout_ms, now.mono_us);
        }
        self.pending = PendingView::new(tree.digest(), self.settings.hash_seed);
        self.tree = tree;
        self.progress = Progress::starting_at(last);
        self.tail.clear();
        self.tail_bytes = 0;
        self.outstanding.forget_proposals();
        self.forget_snapshot();
        // It is another log, and says so itself when it is short of room.
        self.room = LogRoom::Ample;
        self.recover_configuration(now, out);
        if let Role::Following(following) = &mut self.role {
            following.learner.on_reloaded(now, last, standing, failure, out);
        }
    }

    pub(super) fn tick_member(&mut self, now: Now, out: &mut Vec<Output>) {
        let Some(member) = &mut self.member else {
            return;
        };
        member.election.on_tick(now, &member.configs, out);
        if let Role::Following(following) = &mut self.role {
            following.learner.on_tick(now, out);
        }
        if self.is_log_behind()
            && let Role::Leading(leading) = &mut self.role
        {
            leading.leader.hand_over(now, out); // to somebody whose disk answers
        }
        with_leader!(self, |leader, view| leader.on_tick(now, out));
        if let Role::Looking(looking) = &mut self.role
            && looking.pauses_until_us.is_some_and(|until_us| until_us <= now.mono_us)
        {
            self.search(now, out);
        }
        self.tick_read_only(now, out);
    }

    /// After every input: carries out what the machines say, until they have nothing more to say. `said` is where this step's
    /// outputs begin.
    pub(super) fn carry_on(&mut self, now: Now, said: usize, out: &mut Vec<Output>) {
        let mut seen = said;
        loop {
            let went_on = match &self.role {
                Role::Looking(_) => self.adopt_configuration(now, out) || self.take_decision(now, out),
                Role::Leading(_) => self.carry_on_leading(now, out),
                Role::Following(_) => self.carry_on_following(now, out),
                Role::Settling(_) => {
                    self.count_epoch_writes(&mut seen, out);
                    self.settle(now, out)
                }
            };
            if !went_on {
                break;
            }
        }
        self.count_epoch_writes(&mut seen, out);
    }

    fn count_epoch_writes(&mut self, seen: &mut usize, out: &[Output]) {
        let member = self.member.as_mut().expect("a member's outputs");
        member.epoch_writes += out[*seen..].iter().filter(|output| matches!(output, Output::StoreEpoch { .. })).count();
        *seen = out.len();
    }

    /// The election is over: takes the part it has given.
    fn take_decision(&mut self, now: Now, out: &mut Vec<Output>) -> bool {
        if self.shutting_down {
            return false;
        }
        let Some(decision) = self.member.as_mut().and_then(|member| member.election.take_decision()) else {
            return false;
        };
        match self.member.as_ref().and_then(|member| member.is_forgotten_by(self.settings.server, &decision.vote)) {
            None => self.begin_role(now, decision.vote.leader, out),
            Some(why) => self.go_on_looking(now, why, out),
        }
        true
    }

    /// Whoever was elected is not followed. Who is content with reading is served on.
    fn go_on_looking(&mut self, now: Now, why: String, out: &mut Vec<Output>) {
        probe::mark("looking: a leader of an epoch before ours");
        let Role::Looking(looking) = &mut self.role else { unreachable!("only who looks decides") };
        looking.pauses_until_us = Some(now.mono_us + u64::from(self.settings.ensemble.tick_ms) * 1000);
        let member = self.member.as_mut().expect("a member has decided");
        member.election.role_over();
        if member.annals.ended != why {
            member.annals.role_over(now, &why);
            out.push(Output::Told(why));
        }
    }

    fn begin_role(&mut self, now: Now, leader: ServerId, out: &mut Vec<Output>) {
        // Those who were content with reading look for a server again.
        self.close_all_clients();
        self.service = Service::Nobody;
        let member = self.member.as_mut().expect("a role in an ensemble");
        let id = self.settings.server;
        if let Role::Looking(looking) = &self.role {
            member.annals.elected(now, looking.since_us, member.configs.committed.is_observer(id), &mut self.metrics);
        }
        let last = self.progress.logged;
        assert_eq!((self.progress.durable, self.progress.applied), (last, last), "a role begins with the whole log");
        if leader == id {
            let reconfigures = self.settings.reconfig_enabled;
            let founds = member.standing == Standing::Fresh;
            let epochs = Epochs { accepted: member.epochs.accepted.max(member.heard_accepted), ..member.epochs };
            let start = LeaderStart { id, epochs, last, founds, reconfigures };
            let leader = Leader::elected(now, start, &self.settings.ensemble, &member.configs, out);
            self.role = Role::Leading(Leading::new(leader));
            out.push(Output::RoleChanged(RoleView::Leading { epoch: member.epochs.current, serving: false }));
            return;
        }
        let observer = member.is_observer(id);
        let counts = member.election.counts();
        let standing = if counts { Standing::Whole } else { member.standing };
        let relayed = observer && self.settings.ensemble.observer_masters;
        let via = if relayed { member.masters.next(&member.configs, leader) } else { None };
        let founds = counts && member.standing == Standing::Fresh && !observer;
        let designated = !matches!(self.role, Role::Looking(_));
        let epochs = member.epochs;
        let start = LearnerStart { id, leader, via, designated, observer, epochs, last, standing, founds };
        let learner = Learner::new(now, start, &self.settings.ensemble, &member.configs, out);
        self.role = Role::Following(Box::new(Following {
            learner,
            forwarded: Forwarded::default(),
            observer,
            config: None,
            relay: None,
            began_us: now.mono_us,
        }));
        self.tell_following(false, out);
    }

    fn tell_following(&self, serving: bool, out: &mut Vec<Output>) {
        if let Role::Following(following) = &self.role {
            let leader = following.learner.leader();
            out.push(Output::RoleChanged(match following.observer {
                true => RoleView::Observing { leader, serving },
                false => RoleView::Following { leader, serving },
            }));
        }
    }

    /// Whether there was anything to do.
    fn carry_on_leading(&mut self, now: Now, out: &mut Vec<Output>) -> bool {
        let mut went_on = self.release_committed(now, out);
        let Role::Leading(leading) = &mut self.role else {
            return went_on;
        };
        for (voter, made_ms) in leading.leader.take_acked() {
            self.metrics.acknowledged(now, voter, made_ms);
        }
        let Some(event) = leading.leader.next_event() else {
            return self.carry_on_waiting(now, out) || went_on;
        };
        went_on = true;
        match event {
            LeaderEvent::Established { epoch } => {
                assert!(self.tail.is_empty() && self.outstanding.has_no_proposals(), "nothing is proposed before that");
                self.pending = PendingView::new(self.tree.digest(), self.settings.hash_seed);
                self.metrics.proposal_size = Sizes::default();
                if !probe::broken("a new leader does not restart the deadlines of sessions") {
                    self.sessions.restart(now.mono_us);
                }
                self.next_reap_us = now.mono_us + self.settings.container_check_interval_ms * 1000;
                self.serve(now, epoch, out);
                out.push(Output::RoleChanged(RoleView::Leading { epoch, serving: true }));
            }
            LeaderEvent::Request { link, request } => self.on_learner_request(now, link, request, out),
            LeaderEvent::Touched { session, timeout_ms } => self.on_learner_touch(now, session, timeout_ms),
            LeaderEvent::Revalidate { link, session, timeout_ms } => {
                self.on_learner_revalidate(now, link, session, timeout_ms, out);
            }
            LeaderEvent::Confirmed { round } => self.answer_doubted(now, round, out),
            LeaderEvent::Syncs { kind, begins, under_way } => self.metrics.syncs(kind, begins, under_way),
            LeaderEvent::SnapshotWanted { link } => self.send_snapshot(link, out),
            LeaderEvent::LinkGone { link } => {
                self.on_learner_gone(link);
                self.snapshot_link_gone(link);
            }
            LeaderEvent::NextEpoch { epoch } => {
                self.enter_epoch(epoch);
                out.push(Output::RoleChanged(RoleView::Leading { epoch, serving: true }));
            }
            LeaderEvent::ConfigSeen { config } => self.see_configuration(&config, out),
            LeaderEvent::ConfigActivated { config } => drop(self.activate_configuration(now, &config, None, out)),
            LeaderEvent::HandedOver { leader } => {
                self.end_role(now, format!("this server handed over to {}", leader.0), Some(leader), out);
            }
            LeaderEvent::Over { why } => self.end_role(now, why, None, out),
        }
        went_on
    }

    fn carry_on_following(&mut self, now: Now, out: &mut Vec<Output>) -> bool {
        let Role::Following(following) = &mut self.role else {
            return false;
        };
        let (proposals, commits) = following.learner.take_received();
        self.metrics.learner_proposal_received_count += proposals;
        self.metrics.learner_commit_received_count += commits;
        let Some(event) = following.learner.next_event() else {
            if self.carry_on_relay(out) {
                return true;
            }
            self.let_stalled_go_on(now, out);
            return false;
        };
        match event {
            LearnerEvent::Log { zxid, txn } => self.log_proposal(now, zxid, txn, out),
            LearnerEvent::Commit { through } => {
                self.apply_through(now, through, out);
                with_leader!(self, |relay, view| relay.caught_up(view, out));
            }
            LearnerEvent::Reloading => self.member.as_mut().expect("a learner is a member").reloading = true,
            LearnerEvent::Serving { epoch } => {
                let (sync, observer) = (following.learner.sync(), following.observer);
                let member = self.member.as_mut().expect("a learner is a member");
                member.annals.synchronised(sync, observer, &mut self.metrics);
                member.masters.found();
                self.serve(now, epoch, out);
                self.tell_following(true, out);
                self.snapshot_when_caught_up(out);
                self.begin_relay(now, out);
            }
            LearnerEvent::Ping { zxid } => {
                let touched = following.forwarded.take_touched(self.limits.item_bytes / quorum::TOUCH_BYTES);
                following.learner.pong(zxid, touched, out);
            }
            LearnerEvent::Revalidated { session, valid } => self.on_revalidated(now, session, valid, out),
            LearnerEvent::Synced => self.on_synced(now, out),
            LearnerEvent::NextEpoch { epoch } => {
                self.enter_epoch(epoch);
                with_leader!(self, |relay, view| relay.relay_epoch(epoch, out));
            }
            LearnerEvent::ConfigSeen { text } => self.see_configuration_of_epoch(now, &text, out),
            LearnerEvent::ConfigCommitted { zxid, leader } => self.on_configuration_committed(now, zxid, leader, out),
            LearnerEvent::ConfigOfEpoch => self.on_configuration_of_epoch(now, out),
            LearnerEvent::HandedOver { leader } => {
                self.end_role(now, format!("the leader handed over to {}", leader.0), Some(leader), out);
            }
            LearnerEvent::Over { why } => self.end_role(now, why, None, out),
        }
        true
    }

    /// In step with a quorum: this server has everything there was before this epoch.
    fn serve(&mut self, now: Now, epoch: u32, out: &mut Vec<Output>) {
        self.enter_epoch(epoch);
        let leads = matches!(self.role, Role::Leading(_));
        let member = self.member.as_mut().expect("a member is in an epoch");
        member.annals.serves(now, leads, &mut self.metrics);
        self.service = Service::Everybody;
        self.local.begin_service(&self.sessions, now.mono_us);
        self.go_on_with_snapshots(out);
    }

    fn enter_epoch(&mut self, epoch: u32) {
        let member = self.member.as_mut().expect("a member is in an epoch");
        member.epoch_start = Zxid(u64::from(epoch) << 32);
        member.election.epoch_established(epoch);
    }

    fn hand_over(&mut self, now: Now, out: &mut Vec<Output>) {
        if let (Role::Leading(leading), Service::Everybody) = (&mut self.role, self.service)
            && self.member.is_some()
            && !std::mem::replace(&mut leading.handing_over, true)
        {
            leading.leader.hand_over(now, out);
        }
    }

    /// The server stops: whoever leads hands over first.
    pub(super) fn begin_shutdown(&mut self, now: Now, out: &mut Vec<Output>) {
        self.shutting_down = true;
        self.abandon_snapshot("the server stops", out);
        self.hand_over(now, out);
    }

    /// A member whose log takes nothing more can neither lead nor follow, until there is room again.
    pub(super) fn on_log_room(&mut self, now: Now, room: LogRoom, out: &mut Vec<Output>) {
        self.room = room;
        if room != LogRoom::None || self.member.is_none() {
            return;
        }
        match (&self.role, self.service) {
            (Role::Leading(_), Service::Everybody) => self.hand_over(now, out),
            (Role::Leading(_) | Role::Following(_), _) => {
                let why = "the disk is full, and its log takes nothing more: make room in the data directory".into();
                self.end_role(now, why, None, out);
            }
            (Role::Looking(_) | Role::Settling(_), _) => {}
        }
    }

    /// Whether everything in flight is answered.
    pub(super) fn is_drained(&self) -> bool {
        match &self.role {
            Role::Leading(leading) => leading.leader.in_flight() == 0 && !leading.handing_over,
            Role::Following(following) => following.forwarded.is_empty() && !self.outstanding.is_awaited(),
            Role::Looking(_) | Role::Settling(_) => true,
        }
    }

    /// Ends the present role: links and clients are closed at once. The next one begins when the disk has caught up.
    pub(super) fn end_role(&mut self, now: Now, why: String, next: Option<ServerId>, out: &mut Vec<Output>) {
        self.member.as_mut().expect("a role in an ensemble").annals.role_over(now, &why);
        // Said before anything that is not known committed is applied.
        out.push(Output::RoleChanged(RoleView::Looking { why }));
        let settling = Role::Settling(Settling { next, until_us: 0 });
        match std::mem::replace(&mut self.role, settling) {
            Role::Leading(mut leading) => {
                let member = self.member.as_mut().expect("a role in an ensemble");
                member.heard_accepted = leading.leader.accepted_epoch();
                if let Some((Summary { current_epoch, last: Some(last) }, id)) = leading.leader.nominee() {
                    member.election.nominate(Nominee { current_epoch, last, id });
                }
                leading.leader.end(out);
                self.tail = leading.leader.take_in_flight();
                self.tail_bytes = self.tail.iter().map(|proposal| proposal.txn.len()).sum();
            }
            Role::Following(mut following) => {
                following.learner.end(out);
                if let Some(relay) = &mut following.relay {
                    relay.end(out);
                }
                let us = |ms: u32| u64::from(ms) * 1000;
                if let Role::Settling(settling) = &mut self.role {
                    let ensemble = &self.settings.ensemble;
                    if following.observer {
                        let all_tried = self.member.as_ref().is_some_and(|member| member.masters.is_round_over());
                        let waits_ms = if all_tried { ensemble.observer_reconnect_ms } else { 0 };
                        settling.until_us = now.mono_us + us(ensemble.observer_delay_ms + waits_ms);
                    } else if self.service != Service::Everybody {
                        // What came to nothing at once comes to nothing again: a disk is full, a leader says no.
                        settling.until_us = following.began_us + us(ensemble.tick_ms);
                    }
                }
            }
            Role::Looking(_) | Role::Settling(_) => unreachable!("these end by themselves"),
        }
        let served = std::mem::replace(&mut self.service, Service::Nobody) == Service::Everybody;
        let member = self.member.as_mut().expect("a role in an ensemble");
        if served {
            member.served_to = Some((self.progress.applied, self.tree.digest()));
        }
        member.epoch_start = Zxid::ZERO;
        member.election.role_over();
        self.outstanding.forget_waiting();
        self.local.role_over();
        self.forget_snapshot_links();
        self.close_all_clients();
    }

    /// A role that ends because its peer sends what cannot be.
    pub(super) fn leave_leader(&mut self, now: Now, why: String, out: &mut Vec<Output>) {
        self.end_role(now, why, None, out);
    }

    fn close_all_clients(&mut self) {
        let slots: Vec<_> = self.connections.iter().map(|(slot, _)| slot).collect();
        slots.into_iter().for_each(|slot| self.close(slot));
    }

    /// Everything logged is durable and applied, whoever has committed it: it is what this server votes for (20.10).
    fn settle(&mut self, now: Now, out: &mut Vec<Output>) -> bool {
        let member = self.member.as_ref().expect("a member settles");
        let Role::Settling(Settling { next, until_us }) = &mut self.role else {
            return false;
        };
        let next = *next;
        let pauses = now.mono_us < *until_us;
        if !pauses {
            *until_us = 0;
        }
        let durable = self.progress.durable >= self.progress.logged || probe::broken("vote before the tail is durable");
        // Without room in the log there is no part to take.
        let full = self.room == LogRoom::None;
        if !durable || member.epoch_writes > 0 || member.reloading || pauses || full {
            return false;
        }
        if !self.tail.is_empty() && !probe::broken("vote without the log's tail in memory") {
            probe::mark("settling: an uncommitted tail is applied before voting");
            self.apply_through(now, self.progress.logged, out);
        }
        if self.shutting_down {
            return false;
        }
        match next {
            Some(leader) => self.begin_designated(now, leader, out),
            None => self.look(now, out),
        }
        true
    }

    fn look(&mut self, now: Now, out: &mut Vec<Output>) {
        self.metrics.looking_count += 1;
        self.role = Role::Looking(Looking { since_us: now.mono_us, pauses_until_us: None, read_only: None });
        self.search(now, out);
    }

    /// An election begins, or begins anew.
    pub(super) fn search(&mut self, now: Now, out: &mut Vec<Output>) {
        if let Role::Looking(looking) = &mut self.role {
            looking.pauses_until_us = None;
        }
        let member = self.member.as_mut().expect("only members look for a leader");
        let candidate = Candidate {
            last_logged: self.progress.logged,
            current_epoch: member.epochs.current,
            standing: member.standing,
        };
        member.election.start(now, candidate, &member.configs, out);
    }

    fn begin_designated(&mut self, now: Now, leader: ServerId, out: &mut Vec<Output>) {
        let id = self.settings.server;
        let member = self.member.as_mut().expect("a leader is designated in an ensemble");
        // Whoever said so has to be mistaken.
        if leader == id && (member.standing != Standing::Whole || !member.configs.committed.is_voter(id)) {
            return self.look(now, out);
        }
        let state = match leader == id {
            true => PeerState::Leading,
            false if member.is_observer(id) => PeerState::Observing,
            false => PeerState::Following,
        };
        member.election.designated(leader, self.progress.logged, state);
        self.begin_role(now, leader, out);
        if let Role::Leading(leading) = &mut self.role {
            leading.leader.expect_all_at_once();
        }
    }

    /// What counts in an election, and who decides in it as far as this member knows. For simulations.
    pub fn candidacy(&self) -> Option<(Summary, &Configurations)> {
        let member = self.member.as_deref()?;
        let last = (member.standing == Standing::Whole).then_some(self.progress.logged);
        Some((Summary { current_epoch: member.epochs.current, last }, &member.configs))
    }

    /// The newest state this server has: a transaction, or the beginning of the epoch in which it serves.
    pub(super) fn processed(&self) -> Zxid {
        self.member.as_ref().map_or(Zxid::ZERO, |member| member.epoch_start).max(self.progress.applied)
    }
}
