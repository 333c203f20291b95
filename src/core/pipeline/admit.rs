//! Admission: which frames are looked at now, which wait, and where a request goes.
//!
//! Frames of a connection are taken in order until it is blocked (its session is being created, it owes too many answers,
//! its client does not read); the rest wait in its inbox, and the shell is told to stop reading. Nothing is skipped ever:
//! that is what keeps the order. Spec: client-protocol 1, 8, 13; semantics 11.4. Java: `ZooKeeperServer.processPacket`.

use ringkeeper_storage::probe;

use super::forward::harms_java_leaders;
use super::identity::Authenticated;
use crate::core::connection::{Connection, Header, Pending, State, Wait};
use crate::core::node::{Node, Slot};
use crate::core::peer::{Role, Service};
use crate::core::session::Heard;
use crate::core::types::{LogRoom, Now, Output, Zxid};
use crate::wire::ErrorCode;
use crate::wire::client::multi::NULL_ACL;
use crate::wire::client::{OpCode, Request, RequestError, RequestHeader};
use crate::wire::frame::{Frames, LENGTH_BYTES};
use crate::wire::jute::Reader;

impl Node {
    /// Complete frames from a client. What cannot be looked at yet is kept.
    pub(in crate::core) fn on_frames(&mut self, now: Now, slot: Slot, frames: &[u8], out: &mut Vec<Output>) {
        if self.shutting_down {
            return;
        }
        if !self.serves_anybody() {
            return self.close(slot);
        }
        let connection = &mut self.connections[slot];
        connection.heard_us = now.mono_us;
        if !connection.inbox.is_empty() {
            connection.inbox.extend_from_slice(frames);
            return;
        }
        let taken = self.take_frames(now, slot, frames, out);
        let connection = &mut self.connections[slot];
        if taken < frames.len() && connection.state != State::Closing {
            connection.inbox.extend_from_slice(&frames[taken..]);
            self.pause(slot, out);
        } else {
            self.pause_if_busy(slot, out);
        }
    }

    /// Something a connection may have waited for has happened: answers what can be answered, takes frames that waited,
    /// and lets the shell read again.
    pub(in crate::core) fn go_on(&mut self, now: Now, slot: Slot, out: &mut Vec<Output>) {
        self.answer_pending(now, slot);
        let connection = &mut self.connections[slot];
        if !connection.paused || connection.blocked() || connection.state == State::Closing {
            return;
        }
        if !connection.inbox.is_empty() && !self.shutting_down {
            let mut inbox = std::mem::take(&mut connection.inbox);
            let taken = self.take_frames(now, slot, &inbox, out);
            if self.connections[slot].state == State::Closing {
                return;
            }
            inbox.drain(..taken);
            if inbox.is_empty() {
                self.connections[slot].waiting_since_us = None;
            }
            self.connections[slot].inbox = inbox;
        }
        let connection = &mut self.connections[slot];
        if connection.inbox.is_empty() && !connection.blocked() && !self.must_wait(slot) {
            let connection = &mut self.connections[slot];
            connection.paused = false;
            out.push(Output::ResumeReading { connection: connection.id });
        }
    }

    pub(in crate::core) fn pause(&mut self, slot: Slot, out: &mut Vec<Output>) {
        let connection = &mut self.connections[slot];
        if !connection.paused && connection.state != State::Closing {
            connection.paused = true;
            out.push(Output::PauseReading { connection: connection.id });
        }
    }

    fn pause_if_busy(&mut self, slot: Slot, out: &mut Vec<Output>) {
        if self.connections[slot].blocked() || self.must_wait(slot) {
            self.pause(slot, out);
        }
    }

    /// `globalOutstandingLimit`: over it, only connections that owe no answer are read. Java: `shouldThrottle`.
    fn must_wait(&self, slot: Slot) -> bool {
        !self.connections[slot].pending.is_empty() && self.outstanding.requests > self.outstanding_max()
    }

    /// The limit is for the ensemble; a voter has its share. Java: `FollowerZooKeeperServer.getGlobalOutstandingLimit`.
    fn outstanding_max(&self) -> usize {
        let limit = self.settings.global_outstanding_limit;
        let configuration = self.member.as_ref().map(|member| &member.configs.committed);
        let Some(configuration) = configuration.filter(|it| it.is_voter(self.settings.server)) else { return limit };
        limit / configuration.voters().count().saturating_sub(1).max(1)
    }

    /// Looks at frames until the connection is blocked or ends; returns how many bytes were taken.
    fn take_frames(&mut self, now: Now, slot: Slot, bytes: &[u8], out: &mut Vec<Output>) -> usize {
        let mut frames = Frames::new(bytes);
        loop {
            let connection = &self.connections[slot];
            if connection.state == State::Closing {
                return bytes.len();
            }
            if connection.blocked() || self.is_cut(slot) {
                break;
            }
            let connection = &self.connections[slot];
            let waiting = frames.rest();
            let Some(payload) = frames.next() else { break };
            if self.refuses_so_much(payload.len()) {
                self.metrics.large_requests_rejected += 1;
                self.close(slot);
                return bytes.len();
            }
            let (state, is_new) = (connection.state, connection.state == State::New);
            self.upgrade_ahead(now, slot, payload, out);
            if self.must_wait_to_write(state) && (is_new || is_write_frame(payload)) {
                self.outstanding.await_log(&mut self.connections[slot]);
                return bytes.len() - waiting.len();
            }
            if state == State::Open && !self.has_its_turn(now, slot) {
                return bytes.len() - waiting.len();
            }
            match state {
                State::New => self.on_connect(now, slot, payload, out),
                State::Open => self.on_request(now, slot, payload, out),
                State::Connecting | State::Closing => unreachable!("looked at above"),
            }
        }
        bytes.len() - frames.rest().len()
    }

    fn on_request(&mut self, now: Now, slot: Slot, payload: &[u8], out: &mut Vec<Output>) {
        self.turn_work.request();
        self.metrics.packets_received += 1;
        self.metrics.bytes_received_count += payload.len() as u64 + LENGTH_BYTES as u64;
        let connection = &mut self.connections[slot];
        connection.stats.packets_received += 1;
        let mut reader = Reader::new(payload, &self.limits);
        let Ok(header) = RequestHeader::decode(&mut reader) else {
            return self.close(slot);
        };
        let body = reader.rest();
        let Ok(opcode) = OpCode::try_from(header.opcode) else {
            return self.refuse_opcode(slot, header.xid);
        };
        let bytes = payload.len();
        let arrived_us = connection.waiting_since_us.unwrap_or(now.mono_us);
        let mut header = Header { xid: header.xid, opcode, arrived_us, bytes, large_bytes: 0 };
        // Identities are proved at once and out of order; they do not keep a session alive (client-protocol 8.2, 12.11).
        match opcode {
            OpCode::Auth | OpCode::Sasl => return self.on_authenticate(now, slot, header, body),
            opcode if !opcode.is_for_clients() => return self.refuse_opcode(slot, header.xid),
            _ => {}
        }
        if self.lacks_enforced_identity(slot) {
            self.reply_error(now, slot, header, 0, ErrorCode::SessionClosedRequireSaslAuth);
            return self.close(slot);
        }
        if self.is_large(bytes) {
            header.large_bytes = bytes;
        }
        let heard = self.hear(now, slot);
        match heard {
            // Java: a request whose session is gone when it enters the pipeline is dropped without a word.
            Heard::Unknown => {}
            _ if self.is_refused_for_waiting(now, slot, header) => {}
            Heard::Moved if !is_write(opcode) => self.close(slot),
            _ if self.service == Service::ReadOnly => self.admit_read_only(now, slot, header, body),
            _ if is_write(opcode) => self.admit_write(now, slot, header, body, out),
            Heard::Alive | Heard::Moved => self.admit_read(now, slot, header, body, out),
            Heard::Closing => self.refuse(now, slot, header, ErrorCode::SessionExpired),
        }
    }

    fn is_large(&self, bytes: usize) -> bool {
        self.settings.large_request_threshold_bytes.is_some_and(|threshold| bytes > threshold)
    }

    /// Whatever it is: only its length has been looked at. Java: `checkRequestSizeWhenReceivingMessage`.
    fn refuses_so_much(&self, bytes: usize) -> bool {
        self.is_large(bytes) && self.outstanding.large_request_bytes + bytes > self.settings.large_request_max_bytes
    }

    /// The client of this connection was heard of, and its session with it.
    pub(super) fn hear(&mut self, now: Now, slot: Slot) -> Heard {
        let Connection { session, timeout_ms, .. } = self.connections[slot];
        if self.local.has(session) && self.service == Service::Everybody {
            return self.local.table().touch(session, now.mono_us);
        }
        if let Role::Following(following) = &mut self.role {
            // The leader knows whether it lives; a session that is new to this server may be its client's all the same.
            following.forwarded.touch(session, timeout_ms);
            return Heard::Alive;
        }
        self.served_sessions().touch(session, now.mono_us)
    }

    /// A write of an open connection waits while too much is under way, a handshake only while nothing may be proposed.
    fn must_wait_to_write(&self, state: State) -> bool {
        match state {
            State::Open => self.writes_wait(),
            _ => matches!(&self.role, Role::Leading(leading) if !leading.leader.may_propose()),
        }
    }

    fn admit_write(&mut self, now: Now, slot: Slot, header: Header, body: &[u8], out: &mut Vec<Output>) {
        // A malformed write is answered here and consumes no zxid: a Java leader would be harmed by it (client-protocol 1.2).
        // A multi harms nobody: Java gives it its zxid first.
        let request = match Request::decode(header.opcode.number(), body, &self.limits) {
            Ok(request) => Ok(request),
            Err(RequestError::UnknownOpcode(_)) => return self.refuse_opcode(slot, header.xid),
            Err(RequestError::Malformed(why)) if header.opcode == OpCode::Multi && why != NULL_ACL => {
                Err(ErrorCode::MarshallingError)
            }
            Err(RequestError::Malformed(_)) => {
                return self.refuse(now, slot, header, ErrorCode::MarshallingError);
            }
        };
        // Said at once, ahead of what waits for its turn.
        if let Some(error) = request.as_ref().ok().and_then(|request| self.refused_eagerly(slot, request)) {
            return self.reply_error(now, slot, header, 0, error);
        }
        let closes = header.opcode == OpCode::CloseSession;
        if closes && self.local.is_local(self.connections[slot].session) {
            return self.admit_local_close(now, slot, header);
        }
        let refused = match (self.room, &self.role) {
            (LogRoom::None, _) => true,
            // A learner logs what its leader proposes, whoever asked for it; what counts is whether the leader has room.
            (_, Role::Following(following)) => !closes && following.forwarded.refuses_writes(now),
            (room, _) => !closes && room == LogRoom::Low,
        };
        if refused {
            self.metrics.writes_refused_disk_full += 1;
            return self.refuse(now, slot, header, ErrorCode::SystemError);
        }
        if let Ok(request) = &request
            && let Err(error) = self.upgrade_for(now, slot, request, out)
        {
            return self.refuse(now, slot, header, error);
        }
        if let Role::Following(_) = &self.role {
            if request.as_ref().is_ok_and(harms_java_leaders) {
                return self.refuse(now, slot, header, ErrorCode::BadArguments);
            }
            self.forward(slot, header, body, out);
            return self.push_pending(slot, Pending { header, wait: Wait::Forwarded });
        }
        let zxid = self.propose_request(now, slot, header, request, out);
        self.push_pending(slot, Pending { header, wait: Wait::Commit { zxid } });
    }

    fn admit_read(&mut self, now: Now, slot: Slot, mut header: Header, body: &[u8], out: &mut Vec<Output>) {
        let through = match &self.role {
            Role::Leading(leading) => leading.leader.proposed(),
            Role::Following(_) if header.opcode == OpCode::Sync => {
                return self.forward_sync(slot, header, body, out);
            }
            _ => Zxid::ZERO,
        };
        let waits_for_sync = header.opcode == OpCode::Sync && self.processed() < through;
        let connection = &self.connections[slot];
        let is_next = connection.pending.is_empty() || probe::broken("a read overtakes its session's write");
        if is_next && !waits_for_sync {
            let identities = connection.identities().clone();
            return self.answer_read(now, slot, header, body, &identities);
        }
        header.bytes += self.foreseen_answer_bytes(header.opcode, body);
        let wait = if header.opcode == OpCode::Sync {
            self.outstanding.await_sync(through, connection.id);
            Wait::Sync { body: body.into(), through }
        } else {
            Wait::Turn { body: body.into(), identities: connection.identities().clone() }
        };
        self.push_pending(slot, Pending { header, wait });
    }

    /// What a read that waits is going to cost when its turn comes. A write behind it makes its answer due whether the
    /// client takes answers or not, so it counts from now on. A guess: writes in flight may change it. A walk through the tree
    /// counts like a long answer: it takes as long.
    fn foreseen_answer_bytes(&self, opcode: OpCode, body: &[u8]) -> usize {
        const NAME_BYTES: usize = 32;
        const WALKED_BYTES: usize = 16;
        let found = |path: &str| self.tree.find(path);
        match Request::decode(opcode.number(), body, &self.limits) {
            Ok(Request::GetData { path: Some(path), .. }) => {
                found(&path).and_then(|id| self.tree.data(id)).map_or(0, <[u8]>::len)
            }
            Ok(Request::GetChildren { path: Some(path), .. } | Request::GetChildren2 { path: Some(path), .. }) => {
                found(&path).map_or(0, |id| self.tree.child_count(id) as usize * NAME_BYTES)
            }
            Ok(Request::GetAllChildrenNumber { path: Some(path) }) if path != "/" => {
                self.tree.node_count() as usize * WALKED_BYTES
            }
            Ok(Request::GetEphemerals { .. }) => self.tree.ephemerals_count() as usize * WALKED_BYTES,
            _ => 0,
        }
    }

    /// Answers with an error in its turn.
    pub(super) fn refuse(&mut self, now: Now, slot: Slot, header: Header, error: ErrorCode) {
        if self.connections[slot].pending.is_empty() {
            let zxid = self.progress.applied.0 as i64;
            return self.reply_error(now, slot, header, zxid, error);
        }
        self.push_pending(slot, Pending { header, wait: Wait::Refused { error } });
    }

    pub(super) fn push_pending(&mut self, slot: Slot, pending: Pending) {
        self.outstanding.requests += 1;
        self.outstanding.large_request_bytes += pending.header.large_bytes;
        let connection = &mut self.connections[slot];
        connection.large_request_bytes += pending.header.large_bytes;
        connection.pending_bytes += pending.header.bytes;
        connection.pending.push_back(pending);
    }

    pub(super) fn pop_pending(&mut self, slot: Slot) -> Option<Pending> {
        let connection = &mut self.connections[slot];
        let pending = connection.pending.pop_front()?;
        connection.large_request_bytes -= pending.header.large_bytes;
        connection.pending_bytes -= pending.header.bytes;
        self.outstanding.requests -= 1;
        self.outstanding.large_request_bytes -= pending.header.large_bytes;
        Some(pending)
    }

    /// An opcode nobody may send: said at once, and that ends the connection, not the session (client-protocol 8.1).
    fn refuse_opcode(&mut self, slot: Slot, xid: i32) {
        // Java asks who somebody is before it looks at what is wanted.
        if self.lacks_enforced_identity(slot) {
            self.reply_unlooked(slot, xid, 0, ErrorCode::SessionClosedRequireSaslAuth);
        } else {
            self.reply_unlooked(slot, xid, -1, ErrorCode::Unimplemented);
        }
        self.close(slot);
    }

    fn on_authenticate(&mut self, now: Now, slot: Slot, header: Header, body: &[u8]) {
        match self.authenticate(slot, header.opcode, body) {
            Authenticated::Accepted => self.reply_authenticated(slot, header),
            Authenticated::Refused => {
                self.metrics.auth_failed_count += 1;
                self.reply_error(now, slot, header, 0, ErrorCode::AuthFailed);
                self.close(slot);
            }
            Authenticated::Malformed => self.close(slot),
        }
    }
}

/// Looks ahead at a frame that has not been taken.
fn is_write_frame(payload: &[u8]) -> bool {
    let opcode = payload.get(4..).and_then(<[u8]>::first_chunk).map(|opcode| i32::from_be_bytes(*opcode));
    opcode.is_some_and(|opcode| OpCode::try_from(opcode).is_ok_and(is_write))
}

/// Goes through the replicated write pipeline and consumes a zxid even when it is refused (client-protocol 8).
pub(super) fn is_write(opcode: OpCode) -> bool {
    matches!(
        opcode,
        OpCode::Create
            | OpCode::Create2
            | OpCode::CreateContainer
            | OpCode::CreateTtl
            | OpCode::Delete
            | OpCode::SetData
            | OpCode::SetAcl
            | OpCode::Multi
            | OpCode::Reconfig
            | OpCode::CloseSession
    )
}
