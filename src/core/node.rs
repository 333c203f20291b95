//! One server's whole state, and the only door to it: `step(now, input, &mut outputs)`, then `flush` at the end of a turn.
//!
//! A request's way through here (the numbers are those of `docs/ARCHITECTURE.md`): frames arrive in `Input::Received`,
//! are decoded, checked and admitted (`pipeline/admit.rs`, `pipeline/connect.rs`); a write becomes a transaction
//! (`pipeline/prep.rs`), is given a zxid and leaves as `Output::Log`; `Input::LogDurable` is our vote, and what a quorum
//! has is applied, fires watches and is answered (`pipeline/commit.rs`, `reply.rs`); a read is answered at once or, behind
//! a write of its own session, when that is (`pipeline/read.rs`).
//!
//! A member of an ensemble has a role besides (`peer.rs`): only a leader proposes, a learner forwards and is told what to log.
//!
//! Holds after every step: watermarks in order (`progress.rs`); replies of a connection in request order; an event of a
//! change stands in a connection's outbox before any reply that shows the change.
//! Not here, on purpose: clocks, sockets, files, threads, chance.

use std::collections::VecDeque;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use slab::Slab;

use super::connection::{Connection, State};
use super::metrics::Metrics;
use super::peer::{Leading, Member, Role, Service};
use super::pipeline::{ConnectThrottle, Outstanding, PendingView, QuotaAlarms, TurnWork};
use super::progress::{Progress, SnapshotWalk};
use super::replay::Recovered;
use super::session::SessionTable;
use super::session::identity::SessionIds;
use super::session::local::LocalSessions;
use super::settings::Settings;
use super::snapshot_link::SnapshotLinks;
use super::tree::digest_history::DigestHistory;
use super::tree::watch::WatchSummary;
use super::tree::{DataTree, WatchTable, acl};
use super::types::{ConnectionId, Input, LogRoom, Now, Output, Zxid};
use super::zab::Leader;
use super::zab::leader::Proposal;
use crate::wire::jute::Limits;

/// Place of a connection in [`Node::connections`].
pub(super) type Slot = usize;

#[derive(Debug)]
pub struct Node {
    pub(super) settings: Settings,
    pub(super) limits: Limits,
    pub(super) tree: DataTree,
    pub(super) watches: WatchTable,
    pub(super) sessions: SessionTable,
    /// Those that nobody else knows.
    pub(super) local: LocalSessions,
    pub(super) session_ids: SessionIds,
    pub(super) connections: Slab<Connection>,
    pub(super) by_connection: HashMap<ConnectionId, Slot, FixedState>,
    /// Connections with something in their outbox, or to be closed.
    pub(super) dirty: Vec<Slot>,
    /// Where the look for idle connections goes on.
    pub(super) idle_from: Slot,
    pub(super) pending: PendingView,
    pub(super) outstanding: Outstanding,
    pub(super) turn_work: TurnWork,
    pub(super) role: Role,
    /// None: a standalone server.
    pub(super) member: Option<Box<Member>>,
    pub(super) service: Service,
    /// Logged and not known committed, oldest first: on a learner, and when a role has ended. A leader keeps its own.
    pub(super) tail: VecDeque<Proposal>,
    pub(super) tail_bytes: usize,
    pub(super) progress: Progress,
    pub(super) snapshot: SnapshotWalk,
    pub(super) snapshot_links: SnapshotLinks,
    pub(super) room: LogRoom,
    /// Transactions are encoded here before they are given their own bytes.
    pub(super) scratch: Vec<u8>,
    pub(super) connect_throttle: ConnectThrottle,
    pub(super) next_reap_us: u64,
    pub(super) shutting_down: bool,
    pub(super) drained: bool,
    pub(super) metrics: Metrics,
    pub(super) quota_alarms: QuotaAlarms,
    pub(super) digests: DigestHistory,
}

impl Node {
    /// A standalone server that goes on from what its disk had. Session deadlines start
    /// now, so that nobody expires because the server was down.
    pub fn standalone(settings: Settings, recovered: Recovered, now: Now) -> Node {
        let Recovered { tree, sessions, mismatches } = recovered;
        let last = tree.last_processed();
        let mut table = SessionTable::new(settings.tick_ms);
        for (id, timeout_ms) in sessions {
            table.create(id, timeout_ms, now.mono_us);
        }
        Node {
            limits: Limits::new(settings.jute_max_buffer_bytes, Some(settings.jute_extra_bytes)),
            local: LocalSessions::new(settings.tick_ms),
            session_ids: SessionIds::new(settings.server, now.wall_ms),
            pending: PendingView::new(tree.digest(), settings.hash_seed),
            role: Role::Leading(Leading::new(Leader::standalone(settings.server, last))),
            member: None,
            service: Service::Everybody,
            tail: VecDeque::new(),
            tail_bytes: 0,
            progress: Progress::starting_at(last),
            connect_throttle: ConnectThrottle::new(settings.connect_throttle, now.mono_us),
            next_reap_us: now.mono_us + settings.container_check_interval_ms * 1000,
            tree,
            watches: WatchTable::new(settings.hash_seed),
            sessions: table,
            connections: Slab::new(),
            by_connection: HashMap::default(),
            dirty: Vec::new(),
            idle_from: 0,
            outstanding: Outstanding::default(),
            turn_work: TurnWork::default(),
            snapshot: SnapshotWalk::default(),
            snapshot_links: SnapshotLinks::default(),
            room: LogRoom::Ample,
            scratch: Vec::new(),
            shutting_down: false,
            drained: false,
            metrics: Metrics { digest_mismatches_count: mismatches.len() as u64, ..Metrics::default() },
            quota_alarms: QuotaAlarms::default(),
            digests: DigestHistory::default(),
            settings,
        }
    }

    /// Consumes one input. Never blocks, reads no clock, touches no socket: effects go to `out`, replies wait for `flush`.
    pub fn step(&mut self, now: Now, input: Input<'_>, out: &mut Vec<Output>) {
        let said = out.len();
        match input {
            Input::Connected { connection, peer } => {
                let connection_slot =
                    self.connections.insert(Connection::new(connection, peer, acl::ip_identity(peer.ip()), now));
                let before = self.by_connection.insert(connection, connection_slot);
                assert!(before.is_none(), "{connection:?} connected twice");
            }
            Input::Received { connection, frames } => {
                if let Some(slot) = self.slot(connection) {
                    self.on_frames(now, slot, frames, out);
                }
            }
            Input::Sent { connection, bytes } => {
                if let Some(slot) = self.slot(connection) {
                    self.on_sent(now, slot, bytes);
                    self.go_on(now, slot, out);
                }
            }
            Input::Disconnected { connection } => self.on_disconnected(connection),
            Input::LogDurable { through } => self.on_log_durable(now, through, out),
            Input::LogRoom(room) => self.on_log_room(now, room, out),
            Input::SnapshotWanted if self.shutting_down => {}
            // Nothing that is not known committed ever gets into a snapshot (20.2): it waits until this server serves.
            Input::SnapshotWanted if self.service != Service::Everybody => self.snapshot.wanted = true,
            Input::SnapshotWanted => self.begin_snapshot(out),
            Input::MoveNodes => self.move_nodes(out),
            Input::SnapshotRoom { chunks } => self.on_snapshot_room(chunks, out),
            Input::SnapshotEnded => {
                self.on_snapshot_ended();
                self.go_on_with_snapshots(out);
            }
            Input::Tick => self.on_tick(now, out),
            Input::NextTurn => self.on_next_turn(now, out),
            Input::Shutdown => self.begin_shutdown(now, out),
            input => self.on_ensemble_input(now, input, out),
        }
        self.let_queue_go_on(now, out);
        if self.member.is_some() {
            self.carry_on(now, said, out);
        }
        if self.shutting_down && !self.drained && self.is_drained() {
            self.drained = true;
            self.flush(out);
            out.push(Output::Drained);
        }
        self.progress.check();
    }

    /// Hands everything said to clients since the last call to the shell. To be called at the end of every turn.
    pub fn flush(&mut self, out: &mut Vec<Output>) {
        for slot in std::mem::take(&mut self.dirty) {
            let Some(connection) = self.connections.get_mut(slot).filter(|connection| connection.dirty) else {
                continue;
            };
            connection.dirty = false;
            if !connection.outbox.is_empty() {
                let bytes = std::mem::take(&mut connection.outbox);
                connection.unsent += bytes.len();
                out.push(Output::Send { connection: connection.id, bytes });
            }
            if connection.close_after_flush {
                connection.close_after_flush = false;
                out.push(Output::Close { connection: connection.id });
            } else if connection.owed_bytes() > crate::limits::CLIENT_OUTPUT_SOFT_BYTES {
                self.pause(slot, out);
            }
        }
    }

    pub fn last_processed(&self) -> Zxid {
        self.progress.applied
    }

    pub fn tree(&self) -> &DataTree {
        &self.tree
    }

    /// Whether clients are served: all of them, and not only those who are content with reading.
    pub fn is_serving(&self) -> bool {
        self.service == Service::Everybody
    }

    /// Whether anything is waiting for the log.
    pub fn in_flight(&self) -> usize {
        match &self.role {
            Role::Leading(leading) => leading.leader.in_flight(),
            _ => self.tail.len(),
        }
    }

    pub fn watch_summary(&self) -> WatchSummary {
        self.watches.summary()
    }

    pub(super) fn slot(&self, connection: ConnectionId) -> Option<Slot> {
        self.by_connection.get(&connection).copied()
    }

    pub(super) fn mark_dirty(&mut self, slot: Slot) {
        let connection = &mut self.connections[slot];
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Ends a connection once what it was told is out. Nothing of it is read any more.
    pub(super) fn close(&mut self, slot: Slot) {
        let connection = &mut self.connections[slot];
        if connection.state != State::Closing {
            connection.state = State::Closing;
            connection.close_after_flush = true;
            connection.inbox = Vec::new();
            self.outstanding.requests -= connection.pending.len();
            self.outstanding.large_request_bytes -= std::mem::take(&mut connection.large_request_bytes);
            connection.pending.clear();
            connection.pending_bytes = 0;
            self.mark_dirty(slot);
        }
    }

    /// The connection is gone: its watches and identities go with it, its session lives until its timeout.
    fn on_disconnected(&mut self, connection: ConnectionId) {
        let Some(slot) = self.by_connection.remove(&connection) else {
            return;
        };
        let gone = self.connections.remove(slot);
        if gone.dirty {
            self.dirty.retain(|dirty| *dirty != slot);
        }
        self.watches.remove_connection(connection);
        if let Some(session) =
            self.table_of(gone.session).get_mut(gone.session).filter(|session| session.connection == Some(connection))
        {
            session.connection = None;
        }
        self.outstanding.requests -= gone.pending.len();
        self.outstanding.large_request_bytes -= gone.large_request_bytes;
    }

    fn on_tick(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.member.is_some() {
            self.tick_member(now, out);
        }
        self.hear_who_waits_for_a_turn(now);
        self.expire_local(now);
        self.end_idle(now);
        if !matches!(self.role, Role::Leading(_)) {
            return self.sessions.let_pass(now.mono_us);
        }
        // A session's end is a transaction: without room for one, it has to wait.
        if self.room != LogRoom::None && !self.shutting_down {
            while self.leads()
                && let Some(session) = self.sessions.expire_next(now.mono_us)
            {
                self.expire_session(now, session, out);
            }
            // Nobody misses what is reaped later; the room that is left is for the ends of sessions.
            if self.room == LogRoom::Ample {
                self.reap_containers(now, out);
            }
        }
    }

    /// Whether proposals may be made now: on a leader that is followed, and on a standalone server. Each may be the last.
    pub(super) fn leads(&self) -> bool {
        matches!(&self.role, Role::Leading(leading) if leading.leader.may_propose())
            && self.service == Service::Everybody
    }
}
