//! From "on a quorum's disks" to "answered": proposals are released in zxid order, applied, fire watches, are answered.
//! Java: `Leader.tryToCommit`, `CommitProcessor`, `FinalRequestProcessor`.

use std::collections::VecDeque;

use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use ringkeeper_storage::probe;
use slab::Slab;

use super::pending_view::PendingView;
use super::pending_view::Touched;
use super::prep::{self, Asker, Prep, Wanted};
use super::request_throttle::Queue;
use crate::core::connection::{Connection, Header, Pending, State, Wait};
use crate::core::metrics::{Metrics, age_ms};
use crate::core::node::{Node, Slot};
use crate::core::peer::{Creating, Leading, Role, Service};
use crate::core::session::Owner;
use crate::core::tree::watch::{Happened, WatchTable};
use crate::core::tree::{Change, ChangeKind, ChangeSink, Identity, acl};
use crate::core::types::{ConnectionId, LinkId, Now, Output, SessionId, Zxid};
use crate::core::zab::leader::Proposal;
use crate::core::zab::membership::Membership;
use crate::limits;
use crate::wire::ErrorCode;
use crate::wire::client::{EventKind, OpCode, Request, WatcherEvent, perms};
use crate::wire::txn::{DIGEST_VERSION, Txn, TxnDigest, TxnHeader, decode_txn, encode_txn};

/// Who waits for a transaction.
#[derive(Clone, Copy, Debug)]
pub(in crate::core) enum Asked {
    /// The server itself: expiry, containers. On a learner: whoever it was, it is none of its clients.
    Nobody,
    /// A learner's client. The learner answers.
    Learner { link: LinkId },
    /// A client that wants a session.
    Connect { connection: ConnectionId },
    /// A client's write.
    Request { connection: ConnectionId },
}

/// Where a transaction comes from, as its header and its checks need to know.
pub(in crate::core) struct Origin<'a> {
    pub asked: Asked,
    pub session: SessionId,
    /// The client's xid; 0 for what the server asks for itself.
    pub cxid: i32,
    pub identities: &'a [Identity],
}

impl Origin<'_> {
    /// The server asks, for the sake of a session.
    fn server(session: SessionId) -> Origin<'static> {
        Origin { asked: Asked::Nobody, session, cxid: 0, identities: &[] }
    }
}

#[derive(Debug)]
struct InFlight {
    zxid: Zxid,
    asked: Asked,
    touched: Touched,
}

/// What is admitted and not answered, over all connections.
#[derive(Debug, Default)]
pub(in crate::core) struct Outstanding {
    /// Java: `zks.getInProcess()`.
    pub requests: usize,
    pub large_request_bytes: usize,
    proposals: VecDeque<InFlight>,
    /// `sync`s in the order of what they wait for.
    syncs: VecDeque<(Zxid, ConnectionId)>,
    /// Connections whose next frame is a write that waits for the log to catch up.
    stalled: Vec<ConnectionId>,
    pub queue: Queue,
}

impl Outstanding {
    pub fn await_sync(&mut self, through: Zxid, connection: ConnectionId) {
        self.syncs.push_back((through, connection));
    }

    pub fn propose(&mut self, zxid: Zxid, asked: Asked) {
        self.proposals.push_back(InFlight { zxid, asked, touched: Touched::new() });
    }

    /// A client of this server waits for something that is proposed.
    pub fn is_awaited(&self) -> bool {
        self.proposals.iter().any(|proposal| !matches!(proposal.asked, Asked::Nobody))
    }

    pub fn has_no_proposals(&self) -> bool {
        self.proposals.is_empty()
    }

    /// The log was cut or replaced: nothing of it comes any more.
    pub fn forget_proposals(&mut self) {
        self.proposals.clear();
    }

    /// A role has ended, and all connections with it.
    pub fn forget_waiting(&mut self) {
        self.syncs.clear();
        self.stalled.clear();
        self.queue.clear();
    }

    pub fn has_stalled(&self) -> bool {
        !self.stalled.is_empty()
    }

    pub fn await_log(&mut self, connection: &mut Connection) {
        if !std::mem::replace(&mut connection.stalled, true) {
            self.stalled.push(connection.id);
        }
    }
}

impl Node {
    /// A client's write, or why it can be none, becomes a transaction with the next zxid and goes to the log. Gives the zxid
    /// and the transaction's length.
    pub(super) fn propose_request(
        &mut self,
        now: Now,
        slot: Slot,
        header: Header,
        request: Result<Request<'_>, ErrorCode>,
        out: &mut Vec<Output>,
    ) -> Zxid {
        let connection = &self.connections[slot];
        let (session, identities) = (connection.session, connection.identities().clone());
        let asked = Asked::Request { connection: connection.id };
        let configuration = request.as_ref().ok().and_then(|request| self.wanted_configuration(request));
        let ephemeral = request.as_ref().is_ok_and(Request::makes_ephemerals);
        let wanted = Wanted::of(request, self.check_session(session, Owner::Here, header.opcode, ephemeral));
        let wanted = wanted.or_reconfigured(configuration.as_ref());
        let origin = Origin { asked, session, cxid: header.xid, identities: &identities };
        self.propose(now, origin, |prep| wanted.prepare(prep), out)
    }

    /// The end of a session nobody heard of: its ephemerals go, then its connection.
    pub(in crate::core) fn expire_session(&mut self, now: Now, session: SessionId, out: &mut Vec<Output>) {
        self.metrics.stale_sessions_expired += 1;
        self.propose(now, Origin::server(session), |prep| prep.close_session(session), out);
    }

    /// Containers that have lost their last child, and TTL nodes past their time. Java: `ContainerManager`.
    pub(in crate::core) fn reap_containers(&mut self, now: Now, out: &mut Vec<Output>) {
        // Looking at all of them would bring them into memory in one go.
        if now.mono_us < self.next_reap_us || self.tree.is_moving() {
            return;
        }
        let interval_us = self.settings.container_check_interval_ms * 1000;
        self.next_reap_us = now.mono_us + interval_us;
        let candidates = self.tree.reap_candidates(now.wall_ms, self.settings.container_max_never_used_ms);
        // Java pauses between two; here a round has the share of the minute's allowance that its interval has.
        let allowed = u64::from(self.settings.container_max_per_minute) * interval_us / 60_000_000;
        for candidate in candidates.into_iter().take(allowed.max(1) as usize) {
            // What is left is found again the next time.
            if !self.leads() {
                return;
            }
            let path = self.tree.path(candidate);
            self.propose(now, Origin::server(SessionId(0)), |prep| prep.delete_container(&path), out);
        }
    }

    /// Makes a transaction, gives it the next zxid and sends it to the log.
    pub(super) fn propose<'r>(
        &mut self,
        now: Now,
        origin: Origin<'_>,
        make: impl FnOnce(&mut Prep<'_>) -> Txn<'r>,
        out: &mut Vec<Output>,
    ) -> Zxid {
        let Origin { asked, session, cxid, identities } = origin;
        let Role::Leading(Leading { leader, creating, .. }) = &mut self.role else {
            unreachable!("only a leader proposes")
        };
        let zxid = leader.next_zxid();
        self.pending.begin(zxid);
        let mut prep = Prep {
            tree: &self.tree,
            pending: &mut self.pending,
            settings: &self.settings,
            asker: Asker { session, identities, zxid, time_ms: now.wall_ms },
            alarms: Vec::new(),
            expansion_bytes: 0,
        };
        let mut txn = make(&mut prep);
        let mut alarms = prep.alarms;
        if let Txn::CreateSession { .. } = txn {
            let owner = if let Asked::Learner { link } = asked { Owner::Link(link) } else { Owner::Here };
            creating.insert(session, Creating { owner: Some(owner), closing: false });
        }
        let header = TxnHeader { client_id: session.0, cxid, zxid: zxid.0 as i64, time_ms: now.wall_ms };
        // A refused single request carries no digest, everything else does (semantics 16.2).
        let digest_enabled = self.settings.digest_enabled;
        let digest = |txn: &Txn<'_>, pending: &PendingView| {
            (digest_enabled && !matches!(txn, Txn::Error { .. }))
                .then(|| TxnDigest { version: DIGEST_VERSION, tree_digest: pending.digest() as i64 })
        };
        self.scratch.clear();
        encode_txn(&header, &txn, digest(&txn, &self.pending), &mut self.scratch);
        if self.scratch.len() > self.limits.item_bytes {
            self.scratch.clear();
            if matches!(txn, Txn::CloseSession { .. }) {
                // No Java learner takes that much. Without the list each server ends what the session owns by its own index; a
                // digest would be taken for a list then.
                probe::mark("leader: a closeSession does not list its ephemerals");
                encode_txn(&header, &Txn::CloseSession { paths: None }, None, &mut self.scratch);
            } else {
                // Nobody would read it (D-098): learners end their connections, and a start finds a log that it cannot read.
                self.pending.roll_back();
                (txn, alarms) = (prep::too_long(&txn), Vec::new());
                encode_txn(&header, &txn, digest(&txn, &self.pending), &mut self.scratch);
            }
        }
        let touched = self.pending.finish();
        if let (Txn::Reconfig { data: Some(text), .. }, Some(member)) = (&txn, &mut self.member) {
            let next = Membership::parse(text).expect("made here");
            leader.reconfigure(&next);
            member.configs.see(&next);
            out.push(Output::ConfigSeen(Box::new(next)));
        }
        let txn = Bytes::copy_from_slice(&self.scratch);
        leader.propose(zxid, txn.clone(), out);
        self.progress.log(zxid, txn.len());
        self.outstanding.proposals.push_back(InFlight { zxid, asked, touched });
        self.metrics.proposed(txn.len());
        out.push(Output::Log { zxid, txn });
        self.tell_of_quotas(now, &alarms, out);
        zxid
    }

    /// Our disk has everything through this zxid: our own vote, or the leader's due.
    pub(in crate::core) fn on_log_durable(&mut self, now: Now, through: Zxid, out: &mut Vec<Output>) {
        self.progress.flushed(through);
        match &mut self.role {
            Role::Leading(leading) => {
                leading.leader.on_logged(through, out);
                self.release_committed(now, out);
                self.let_stalled_go_on(now, out);
            }
            Role::Following(following) => following.learner.on_durable(through, out),
            Role::Looking(_) | Role::Settling(_) => {}
        }
    }

    /// What a quorum has is applied and answered. Says whether there was any.
    pub(in crate::core) fn release_committed(&mut self, now: Now, out: &mut Vec<Output>) -> bool {
        let mut waiting = Vec::new();
        let mut released = false;
        while let Role::Leading(Leading { leader, .. }) = &mut self.role
            && let Some(proposal) = leader.pop_committed()
        {
            released = true;
            self.release(now, proposal, &mut waiting, out);
        }
        if !released {
            return false;
        }
        self.bound_snapshot_backlog(now, out);
        let processed = self.processed();
        while let Some((_, connection)) = self.outstanding.syncs.pop_front_if(|(through, _)| *through <= processed) {
            if let Some(slot) = self.slot(connection) {
                self.answer_pending(now, slot);
                waiting.push(slot);
            }
        }
        if self.outstanding.has_stalled() && !self.writes_wait() {
            waiting.extend(self.take_stalled());
        }
        self.go_on_all(now, waiting, out);
        true
    }

    /// One transaction is committed: what was asked before it is answered, then it is applied and answered itself.
    pub(super) fn release(&mut self, now: Now, proposal: Proposal, waiting: &mut Vec<Slot>, out: &mut Vec<Output>) {
        self.progress.committed = proposal.zxid;
        self.answer_ahead_of_next_write(now);
        if let Some(slot) = self.apply(now, proposal, out) {
            self.answer_pending(now, slot);
            if self.connections[slot].paused {
                waiting.push(slot);
            }
        }
    }

    /// Connections whose next write need not wait any longer.
    pub(super) fn take_stalled(&mut self) -> Vec<Slot> {
        let stalled = std::mem::take(&mut self.outstanding.stalled);
        let slots: Vec<Slot> = stalled.into_iter().filter_map(|connection| self.slot(connection)).collect();
        slots.iter().for_each(|slot| self.connections[*slot].stalled = false);
        slots
    }

    /// Something these connections may have waited for has happened.
    pub(super) fn go_on_all(&mut self, now: Now, mut waiting: Vec<Slot>, out: &mut Vec<Output>) {
        waiting.sort_unstable();
        waiting.dedup();
        for slot in waiting {
            if self.connections.contains(slot) {
                self.go_on(now, slot, out);
            }
        }
    }

    /// Applies one committed transaction and answers who asked for it. Returns that connection, if it is still there.
    fn apply(&mut self, now: Now, proposal: Proposal, out: &mut Vec<Output>) -> Option<Slot> {
        let (header, txn, digest) = decode_txn(&proposal.txn).expect("it was looked at before it was logged");
        let in_flight = self.outstanding.proposals.pop_front().expect("every proposal is outstanding");
        assert_eq!(in_flight.zxid, proposal.zxid, "commits come in the order of proposals");
        let mut overflowed = Vec::new();
        let mut sink = WatchSink {
            watches: &mut self.watches,
            connections: &mut self.connections,
            by_connection: &self.by_connection,
            dirty: &mut self.dirty,
            metrics: &mut self.metrics,
            skip_acl: self.settings.skip_acl,
            overflowed: &mut overflowed,
        };
        let applied = self.tree.apply(&header, &txn, &mut sink);
        self.metrics.commit_count += u64::from(matches!(self.role, Role::Leading(_)));
        self.note_age(now, header.time_ms);
        note_written(&mut self.metrics, &txn);
        self.progress.applied = proposal.zxid;
        if let Some(member) = &mut self.member
            && (!probe::broken("the window forgets the first transaction of an epoch") || proposal.zxid.counter() > 1)
        {
            member.window.push(proposal.zxid, proposal.txn.clone());
        }
        self.relay(proposal.zxid, &proposal.txn, out);
        self.digests.note(proposal.zxid, self.tree.digest());
        self.pending.applied(proposal.zxid, &in_flight.touched);
        if let Some(digest) = digest.filter(|digest| digest.version == DIGEST_VERSION) {
            self.check_digest(proposal.zxid, &txn, digest.tree_digest, out);
        }
        for slot in overflowed {
            self.close(slot);
        }
        let closed = match &txn {
            Txn::CreateSession { timeout_ms } => {
                self.sessions.create(SessionId(header.client_id), *timeout_ms, now.mono_us);
                self.settle_in(SessionId(header.client_id));
                None
            }
            Txn::CloseSession { .. } => {
                self.sessions.remove(SessionId(header.client_id)).and_then(|session| session.connection)
            }
            _ => None,
        };
        let answered = match in_flight.asked {
            Asked::Nobody | Asked::Learner { .. } => None,
            Asked::Connect { connection } => {
                let slot = self.slot(connection).filter(|slot| self.connections[*slot].state == State::Connecting);
                match (slot, &txn) {
                    (Some(slot), Txn::CreateSession { timeout_ms }) => self.welcome_new(now, slot, *timeout_ms),
                    // The leader did not want it.
                    (Some(slot), _) => self.close(slot),
                    (None, _) => {}
                }
                slot
            }
            Asked::Request { connection } => {
                // The connection may be gone or closing; then nobody waits any more.
                let slot = self.slot(connection).filter(|slot| self.connections[*slot].state == State::Open);
                if let Some(slot) = slot {
                    let pending = self.pop_pending(slot).expect("its write is pending");
                    assert!(
                        match pending.wait {
                            Wait::Commit { zxid } => zxid == proposal.zxid,
                            // Matched when it was proposed.
                            Wait::Forwarded => true,
                            _ => false,
                        },
                        "answers come in request order: {pending:?} at the commit of {}",
                        proposal.zxid
                    );
                    let events_end = self.connections[slot].outbox.len();
                    self.reply_to_write(now, slot, pending.header, &txn, &applied);
                    if probe::broken("the answer overtakes the events before it") {
                        self.connections[slot].outbox.rotate_left(events_end);
                    }
                }
                slot
            }
        };
        if let Some(slot) = closed.and_then(|connection| self.slot(connection)) {
            self.close(slot);
        }
        self.snapshot_when_caught_up(out);
        answered
    }

    /// Of what is committed while this server serves. Java measures the same in three places.
    fn note_age(&mut self, now: Now, made_ms: i64) {
        let Some(age_ms) = age_ms(now, made_ms).filter(|_| self.service == Service::Everybody) else { return };
        self.metrics.propagation_latency.record(age_ms);
        match &self.role {
            Role::Leading(_) if self.member.is_some() => self.metrics.quorum_ack_latency.record(age_ms),
            Role::Following(_) => self.metrics.commit_propagation_latency.record(age_ms),
            _ => {}
        }
    }

    /// A leader foresaw the tree itself; a learner was told, by a server that may be another one's work.
    fn check_digest(&mut self, zxid: Zxid, txn: &Txn<'_>, foreseen: i64, out: &mut Vec<Output>) {
        let found = self.tree.digest() as i64;
        if found == foreseen || matches!(&self.role, Role::Following(following) if following.learner.is_ahead_of(zxid))
        {
            return;
        }
        assert!(!matches!(self.role, Role::Leading(_)), "the tree after {zxid} is not the one prep foresaw: {txn:?}");
        self.metrics.digest_mismatches_count += 1;
        if !self.metrics.digest_mismatches_count.is_power_of_two() {
            return; // it does not get better by being said every time
        }
        out.push(Output::Told(format!(
            "the tree after {zxid} is not the one the leader foresaw (digest {found:#x}, not {foreseen:#x}): compare the servers' `hash`, and let the odd one out start on an empty data directory"
        )));
    }

    /// A state between two transactions, from a Java leader, is one no longer: from here on a start compares every digest.
    pub(in crate::core) fn snapshot_when_caught_up(&mut self, out: &mut Vec<Output>) {
        if let Role::Following(following) = &mut self.role
            && following.learner.has_caught_up(self.progress.applied)
        {
            self.begin_snapshot(out);
        }
    }

    /// A session begins: whose it is, and where its client is if it was let in before this server heard of the session.
    fn settle_in(&mut self, id: SessionId) {
        let connection = match &mut self.role {
            Role::Following(following) => following.forwarded.let_in_early(id),
            _ => None,
        };
        let creating = match &mut self.role {
            Role::Leading(leading) => leading.creating.remove(&id),
            _ => None,
        };
        // Before this server serves, what it applies may be taken back.
        let stays = self.service != Service::Everybody || probe::broken("an upgraded session stays with its server");
        let upgraded = if stays { None } else { self.local.remove(id) };
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.owner = creating.as_ref().and_then(|creating| creating.owner);
        session.closing |= creating.is_some_and(|creating| creating.closing); // it may have been here before
        if let Some(upgraded) = upgraded {
            (session.timeout_ms, session.connection) = (upgraded.timeout_ms, upgraded.connection);
        }
        if connection.is_some() {
            session.connection = connection;
        }
    }

    /// The write about to be applied must not be seen by what its client asked before: that is answered first, even to a
    /// client that owes too much already. One that owes far too much ends instead.
    fn answer_ahead_of_next_write(&mut self, now: Now) {
        let Some(InFlight { asked: Asked::Request { connection }, .. }) = self.outstanding.proposals.front() else {
            return;
        };
        let Some(slot) = self.slot(*connection) else {
            return;
        };
        loop {
            if !self.is_next_ready(slot) {
                // A leader answers a `sync` before it commits what was asked after it. This one does not.
                let next = self.connections[slot].pending.front();
                if matches!(next, Some(Pending { wait: Wait::LeaderSync { .. }, .. })) {
                    self.close(slot);
                }
                return;
            }
            if self.connections[slot].owed_bytes() > limits::CLIENT_OUTPUT_HARD_BYTES {
                return self.close(slot);
            }
            self.answer_next(now, slot);
        }
    }

    /// Answers everything at the head of a connection's queue that waits for nothing more. A client that does not take its
    /// answers gets no more of them worked out.
    pub(in crate::core) fn answer_pending(&mut self, now: Now, slot: Slot) {
        while self.is_next_ready(slot) && !self.connections[slot].owes_too_much() {
            self.answer_next(now, slot);
        }
    }

    fn is_next_ready(&self, slot: Slot) -> bool {
        self.connections[slot].pending.front().is_some_and(|next| match &next.wait {
            Wait::Commit { .. } | Wait::Forwarded => false,
            Wait::LeaderSync { .. } => self.connections[slot].synced > 0,
            Wait::Sync { through, .. } => *through <= self.processed(),
            Wait::Turn { .. } | Wait::Refused { .. } => true,
        })
    }

    fn answer_next(&mut self, now: Now, slot: Slot) {
        let Some(Pending { header, wait }) = self.pop_pending(slot) else {
            return;
        };
        match wait {
            Wait::Turn { .. } if header.opcode == OpCode::CloseSession => self.close_local(now, slot, header),
            Wait::Turn { body, identities } => self.answer_read(now, slot, header, &body, &identities),
            Wait::Sync { body, .. } => self.answer_read(now, slot, header, &body, &[]),
            Wait::LeaderSync { body } => {
                self.connections[slot].synced -= 1;
                self.answer_read(now, slot, header, &body, &[]);
            }
            Wait::Refused { error } => {
                let zxid = self.progress.applied.0 as i64;
                self.reply_error(now, slot, header, zxid, error);
            }
            Wait::Commit { .. } | Wait::Forwarded => unreachable!("not ready"),
        }
    }
}

/// Bytes written, by the first part of the path.
fn note_written(metrics: &mut Metrics, txn: &Txn<'_>) {
    match txn {
        Txn::Create { path, data, .. } | Txn::SetData { path, data, .. } => {
            metrics.node_written(path, data.map_or(0, <[u8]>::len) as u64);
        }
        Txn::Multi(items) => items.iter().for_each(|item| note_written(metrics, item)),
        _ => {}
    }
}

/// Turns changes of the tree into notifications in outboxes.
struct WatchSink<'a> {
    watches: &'a mut WatchTable,
    connections: &'a mut Slab<Connection>,
    by_connection: &'a HashMap<ConnectionId, Slot, FixedState>,
    dirty: &'a mut Vec<Slot>,
    metrics: &'a mut Metrics,
    skip_acl: bool,
    /// Clients that owe too much to be sent more.
    overflowed: &'a mut Vec<Slot>,
}

impl ChangeSink for WatchSink<'_> {
    fn changed(&mut self, change: &Change<'_>) {
        if self.watches.is_empty() {
            return;
        }
        let happened = match change.kind {
            ChangeKind::Created => Happened::Created,
            ChangeKind::DataChanged => Happened::DataChanged,
            ChangeKind::Deleted => Happened::Deleted,
        };
        let mut fired = [0u64; 5];
        let WatchSink { connections, by_connection, dirty, overflowed, .. } = self;
        self.watches.fire(happened, change.path, |connection, kind, path| {
            let Some(slot) = by_connection.get(&connection).copied() else {
                return;
            };
            let connection = &mut connections[slot];
            if connection.state == State::Closing {
                return;
            }
            fired[kind.number() as usize] += 1;
            // A watcher without READ hears nothing, and a one-shot watch is spent all the same (semantics 8.8).
            let list = if kind == EventKind::NodeChildrenChanged { change.parent_acl } else { change.acl };
            if !acl::allowed(list, perms::READ, connection.identities(), self.skip_acl) {
                return;
            }
            if connection.owes_far_too_much() {
                overflowed.push(slot);
                return;
            }
            WatcherEvent { kind, path: path.into() }.encode(change.zxid, &mut connection.outbox);
            connection.stats.packets_sent += 1;
            if !connection.dirty {
                connection.dirty = true;
                dirty.push(slot);
            }
        });
        self.metrics.watches_fired(&fired);
    }
}
