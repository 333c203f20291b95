//! From "on a quorum's disks" to "answered": proposals are released in zxid order, applied, fire watches, are answered.
//! Java: `Leader.tryToCommit`, `CommitProcessor`, `FinalRequestProcessor`.

use std::collections::VecDeque;

use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use slab::Slab;

use super::pending_view::Touched;
use super::prep::{Asker, Prep};
use crate::core::connection::{Connection, Header, Pending, State, Wait};
use crate::core::metrics::Metrics;
use crate::core::node::{Node, Slot};
use crate::core::tree::watch::{Happened, WatchTable};
use crate::core::tree::{Change, ChangeKind, ChangeSink, Identity, acl};
use crate::core::types::{ConnectionId, Now, Output, SessionId, Zxid};
use crate::core::zab::leader::Proposal;
use crate::limits;
use crate::wire::ErrorCode;
use crate::wire::client::{EventKind, OpCode, Request, WatcherEvent, perms};
use crate::wire::txn::{DIGEST_VERSION, Txn, TxnDigest, TxnHeader, decode_txn, encode_txn};

/// Who waits for a transaction.
#[derive(Clone, Copy, Debug)]
pub(in crate::core) enum Asked {
    /// The server itself: expiry, containers.
    Nobody,
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
}

impl Outstanding {
    pub fn await_sync(&mut self, through: Zxid, connection: ConnectionId) {
        self.syncs.push_back((through, connection));
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
        let (session, identities) = (connection.session, connection.identities.clone());
        let asked = Asked::Request { connection: connection.id };
        let closing = self.sessions.get(session).is_none_or(|session| session.closing);
        if header.opcode == OpCode::CloseSession
            && let Some(session) = self.sessions.get_mut(session)
        {
            session.closing = true;
        }
        let make = |prep: &mut Prep<'_>| match request {
            Err(code) => prep.refused(code),
            Ok(request) if !closing => prep.request(request),
            Ok(Request::Multi(ops)) => prep.multi_refused(ops.len(), ErrorCode::SessionExpired),
            Ok(_) => prep.refused(ErrorCode::SessionExpired),
        };
        let origin = Origin { asked, session, cxid: header.xid, identities: &identities };
        self.propose(now, origin, make, out)
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
        let zxid = self.leader.next_zxid();
        self.pending.begin(zxid);
        let mut prep = Prep {
            tree: &self.tree,
            pending: &mut self.pending,
            settings: &self.settings,
            asker: Asker { session, identities, zxid, time_ms: now.wall_ms },
        };
        let txn = make(&mut prep);
        let touched = self.pending.finish();
        // A refused single request carries no digest, everything else does (semantics 16.2).
        let digest = (self.settings.digest_enabled && !matches!(txn, Txn::Error { .. }))
            .then(|| TxnDigest { version: DIGEST_VERSION, tree_digest: self.pending.digest() as i64 });
        let header = TxnHeader { client_id: session.0, cxid, zxid: zxid.0 as i64, time_ms: now.wall_ms };
        self.scratch.clear();
        encode_txn(&header, &txn, digest, &mut self.scratch);
        let txn = Bytes::copy_from_slice(&self.scratch);
        self.leader.propose(zxid, txn.clone(), out);
        self.progress.logged = zxid;
        self.outstanding.proposals.push_back(InFlight { zxid, asked, touched });
        self.metrics.proposed(txn.len());
        out.push(Output::Log { zxid, txn });
        zxid
    }

    /// Our disk has everything through this zxid: our own vote. What a quorum has is applied and answered.
    pub(in crate::core) fn on_log_durable(&mut self, now: Now, through: Zxid, out: &mut Vec<Output>) {
        self.progress.durable = self.progress.durable.max(through);
        self.leader.on_logged(through, out);
        self.progress.committed = self.leader.committed();
        let mut waiting = Vec::new();
        while let Some(proposal) = self.leader.pop_committed() {
            self.answer_ahead_of_next_write(now);
            if let Some(slot) = self.apply(now, proposal) {
                self.answer_pending(now, slot);
                if self.connections[slot].paused {
                    waiting.push(slot);
                }
            }
        }
        self.bound_snapshot_backlog(out);
        while let Some((_, connection)) =
            self.outstanding.syncs.pop_front_if(|(through, _)| *through <= self.progress.applied)
        {
            if let Some(slot) = self.slot(connection) {
                self.answer_pending(now, slot);
                waiting.push(slot);
            }
        }
        if self.leader.in_flight_bytes() <= limits::PROPOSALS_BYTES {
            for connection in std::mem::take(&mut self.outstanding.stalled) {
                if let Some(slot) = self.slot(connection) {
                    self.connections[slot].stalled = false;
                    waiting.push(slot);
                }
            }
        }
        waiting.sort_unstable();
        waiting.dedup();
        for slot in waiting {
            if self.connections.contains(slot) {
                self.go_on(now, slot, out);
            }
        }
    }

    /// Applies one committed transaction and answers who asked for it. Returns that connection, if it is still there.
    fn apply(&mut self, now: Now, proposal: Proposal) -> Option<Slot> {
        let (header, txn, digest) = decode_txn(&proposal.txn).expect("we wrote these bytes");
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
        self.metrics.commit_count += 1;
        note_written(&mut self.metrics, &txn);
        self.progress.applied = proposal.zxid;
        self.digests.note(proposal.zxid, self.tree.digest());
        self.pending.applied(proposal.zxid, &in_flight.touched);
        if let Some(digest) = digest {
            assert_eq!(
                self.tree.digest() as i64,
                digest.tree_digest,
                "the tree after {} is not the one prep foresaw: {txn:?}",
                proposal.zxid
            );
        }
        for slot in overflowed {
            self.close(slot);
        }
        let closed = match &txn {
            Txn::CreateSession { timeout_ms } => {
                self.sessions.create(SessionId(header.client_id), *timeout_ms, now.mono_us);
                None
            }
            Txn::CloseSession { .. } => {
                self.sessions.remove(SessionId(header.client_id)).and_then(|session| session.connection)
            }
            _ => None,
        };
        let answered = match in_flight.asked {
            Asked::Nobody => None,
            Asked::Connect { connection } => {
                let slot = self.slot(connection).filter(|slot| self.connections[*slot].state == State::Connecting);
                if let (Some(slot), Txn::CreateSession { timeout_ms }) = (slot, &txn) {
                    self.welcome(now, slot, *timeout_ms);
                }
                slot
            }
            Asked::Request { connection } => {
                // The connection may be gone or closing; then nobody waits any more.
                let slot = self.slot(connection).filter(|slot| self.connections[*slot].state == State::Open);
                if let Some(slot) = slot {
                    let pending = self.pop_pending(slot).expect("its write is pending");
                    assert!(
                        matches!(pending.wait, Wait::Commit { zxid } if zxid == proposal.zxid),
                        "answers come in request order: {pending:?} at the commit of {}",
                        proposal.zxid
                    );
                    self.reply_to_write(now, slot, pending.header, &txn, &applied);
                }
                slot
            }
        };
        if let Some(slot) = closed.and_then(|connection| self.slot(connection)) {
            self.close(slot);
        }
        answered
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
        while self.is_next_ready(slot) {
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
            Wait::Commit { .. } => false,
            Wait::Sync { through, .. } => *through <= self.progress.applied,
            Wait::Turn { .. } | Wait::Refused { .. } => true,
        })
    }

    fn answer_next(&mut self, now: Now, slot: Slot) {
        let Some(Pending { header, wait }) = self.pop_pending(slot) else {
            return;
        };
        match wait {
            Wait::Turn { body, identities } => self.answer_read(now, slot, header, &body, &identities),
            Wait::Sync { body, .. } => self.answer_read(now, slot, header, &body, &[]),
            Wait::Refused { error } => {
                let zxid = self.progress.applied.0 as i64;
                self.reply_error(now, slot, header, zxid, error);
            }
            Wait::Commit { .. } => unreachable!("not ready"),
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
            if !acl::allowed(list, perms::READ, &connection.identities, self.skip_acl) {
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
