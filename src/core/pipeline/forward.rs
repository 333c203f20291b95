//! A learner's clients and their leader: what is forwarded, and how its outcome finds the way back.
//!
//!   client's write -> REQUEST -> the leader's PROPOSAL (here it is matched) -> COMMIT: applied and answered in its turn
//!
//! A write waits in its connection's queue like a leader's own, so reads behind it wait as they do there. Proposals of one
//! session come in the order in which its requests went, so the oldest unmatched one of a session is the next to come, with
//! its cxid. What no client here waits for is somebody else's.
//!
//! Spec: quorum-protocol 10.4, 11, 12, 13; semantics 12. Java: `CommitProcessor`, `FollowerRequestProcessor`,
//! `LearnerSessionTracker`, `Learner.revalidate`.

use std::collections::VecDeque;

use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use ringkeeper_storage::probe;

use super::commit::Asked;
use crate::core::connection::{Header, Pending, State, Wait};
use crate::core::metrics::age_ms;
use crate::core::node::{Node, Slot};
use crate::core::peer::{Role, Service};
use crate::core::session::SessionTable;
use crate::core::tree::quota;
use crate::core::types::{ConnectionId, LinkId, Now, Output, SessionId, Zxid};
use crate::core::zab::leader::Proposal;
use crate::limits;
use crate::wire::ErrorCode;
use crate::wire::client::{CreateRequest, MultiOp, OpCode, Request};
use crate::wire::quorum::ForwardedRequest;
use crate::wire::txn::{Txn, decode_txn};

/// What clients of this server wait for, and the leader has not answered yet.
#[derive(Debug, Default)]
pub struct Forwarded {
    /// Requests whose proposals have not come, oldest first.
    unmatched: HashMap<SessionId, VecDeque<Unmatched>, FixedState>,
    unmatched_bytes: usize,
    /// `sync`s in the order in which they went; answers have no name.
    syncs: VecDeque<Asker>,
    /// Clients that are back with a session, and the timeout they negotiated.
    revalidating: HashMap<SessionId, VecDeque<(Asker, i32)>, FixedState>,
    /// Sessions heard of since the leader last asked, and their timeouts.
    touched: HashMap<SessionId, i32, FixedState>,
    /// The leader is short of room, it said so just now: until then clients' writes are refused here.
    refused_until_us: u64,
    /// Clients that were let in with a session whose creation this server has not applied yet.
    early: HashMap<SessionId, ConnectionId, FixedState>,
}

/// Who gets an answer of the leader that has no other name on it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asker {
    /// A client of this server.
    Client { connection: ConnectionId },
    /// One of an observer of this server.
    Observer { link: LinkId },
}

#[derive(Debug)]
struct Unmatched {
    cxid: i32,
    opcode: OpCode,
    asked: Asked,
    bytes: usize,
}

impl Forwarded {
    pub fn is_empty(&self) -> bool {
        self.unmatched.is_empty() && self.syncs.is_empty()
    }

    /// A refusal by the leader is a transaction in every log, and takes of the room that is left for the ends of sessions. So
    /// one is enough to go by for a while, whoever's it was.
    pub fn refuses_writes(&self, now: Now) -> bool {
        now.mono_us < self.refused_until_us
    }

    pub fn unmatched_bytes(&self) -> usize {
        self.unmatched_bytes
    }

    pub fn touch(&mut self, session: SessionId, timeout_ms: i32) {
        self.touched.insert(session, timeout_ms);
    }

    pub fn let_in(&mut self, session: SessionId, connection: ConnectionId) {
        self.early.insert(session, connection);
    }

    /// The session is created here too: where its client is.
    pub fn let_in_early(&mut self, session: SessionId) -> Option<ConnectionId> {
        self.early.remove(&session)
    }

    /// At most so many; the rest is for the next answer.
    pub fn take_touched(&mut self, at_most: usize) -> Vec<(i64, i32)> {
        let mut touched: Vec<_> = self.touched.drain().map(|(session, timeout_ms)| (session.0, timeout_ms)).collect();
        touched.sort_unstable();
        let rest = touched.split_off(touched.len().min(at_most));
        self.touched.extend(rest.into_iter().map(|(session, timeout_ms)| (SessionId(session), timeout_ms)));
        touched
    }

    pub(super) fn syncs(&mut self, asker: Asker) {
        self.syncs.push_back(asker);
    }

    pub(super) fn revalidates(&mut self, session: SessionId, asker: Asker, timeout_ms: i32) {
        self.revalidating.entry(session).or_default().push_back((asker, timeout_ms));
    }

    fn sent(&mut self, session: SessionId, request: Unmatched) {
        self.unmatched_bytes += request.bytes;
        self.unmatched.entry(session).or_default().push_back(request);
    }

    /// Who asked for this transaction, if it was somebody here.
    fn matching(&mut self, session: SessionId, cxid: i32, txn: &Txn<'_>) -> Asked {
        let Some(requests) = self.unmatched.get_mut(&session) else {
            return Asked::Nobody;
        };
        let ours = requests.pop_front_if(|request| request.cxid == cxid && request.may_become(txn));
        if requests.is_empty() {
            self.unmatched.remove(&session);
        }
        let Some(request) = ours else {
            return Asked::Nobody;
        };
        self.unmatched_bytes -= request.bytes;
        request.asked
    }
}

impl Unmatched {
    /// The leader ends sessions by itself, with a cxid that a client may have used too.
    fn may_become(&self, txn: &Txn<'_>) -> bool {
        match txn {
            Txn::Error { .. } => true,
            Txn::CreateSession { .. } => self.opcode == OpCode::CreateSession,
            Txn::CloseSession { .. } => self.opcode == OpCode::CloseSession,
            _ => !matches!(self.opcode, OpCode::CreateSession | OpCode::CloseSession),
        }
    }
}

/// To the leader.
impl Node {
    /// A write, or a `sync`, of a client of this server. What it says was looked at: it harms no leader.
    pub(super) fn forward(&mut self, slot: Slot, header: Header, body: &[u8], out: &mut Vec<Output>) {
        let Role::Following(following) = &mut self.role else { unreachable!("only learners forward") };
        let connection = &self.connections[slot];
        let request = ForwardedRequest {
            session: connection.session.0,
            cxid: header.xid,
            opcode: header.opcode.number(),
            body: Bytes::copy_from_slice(body),
            identities: Some(connection.identities_for_leader()),
        };
        if header.opcode == OpCode::Sync {
            following.forwarded.syncs(Asker::Client { connection: connection.id });
        } else {
            following.forwarded.sent(
                connection.session,
                Unmatched {
                    cxid: header.xid,
                    opcode: header.opcode,
                    asked: Asked::Request { connection: connection.id },
                    bytes: body.len(),
                },
            );
        }
        following.learner.forward(request, out);
    }

    pub(super) fn forward_create_session(&mut self, slot: Slot, timeout_ms: i32, out: &mut Vec<Output>) {
        let Role::Following(following) = &mut self.role else { unreachable!("only learners forward") };
        let connection = &self.connections[slot];
        let body = Bytes::copy_from_slice(&timeout_ms.to_be_bytes());
        let opcode = OpCode::CreateSession;
        let asked = Asked::Connect { connection: connection.id };
        following.forwarded.sent(connection.session, Unmatched { cxid: 0, opcode, asked, bytes: body.len() });
        let session = connection.session.0;
        let request = ForwardedRequest { session, cxid: 0, opcode: opcode.number(), body, identities: None };
        following.learner.forward(request, out);
    }

    /// A client is back with a session and its password. The leader knows whether the session lives.
    pub(super) fn ask_to_revalidate(&mut self, slot: Slot, session: SessionId, timeout_ms: i32, out: &mut Vec<Output>) {
        let Role::Following(following) = &mut self.role else { unreachable!("only learners ask") };
        let connection = &mut self.connections[slot];
        connection.state = State::Connecting;
        connection.session = session;
        following.forwarded.revalidates(session, Asker::Client { connection: connection.id }, timeout_ms);
        following.learner.revalidate(session.0, timeout_ms, out);
    }
}

/// From the leader.
impl Node {
    /// A proposal: logged, and kept until its commit.
    pub(in crate::core) fn log_proposal(&mut self, now: Now, zxid: Zxid, txn: Bytes, out: &mut Vec<Output>) {
        let Role::Following(following) = &mut self.role else { unreachable!("only learners are told what to log") };
        let (asked, reconfigured) = match decode_txn(&txn) {
            Ok((header, record, _)) if header.zxid as u64 == zxid.0 => {
                let lacks_room = matches!(record, Txn::Error { code } if code == ErrorCode::SystemError.number());
                // Java's means something else by that.
                if lacks_room && following.learner.leader_is_ringkeeper() {
                    let tick_us = u64::from(self.settings.ensemble.tick_ms) * 1000;
                    following.forwarded.refused_until_us = now.mono_us + tick_us;
                }
                if self.service == Service::Everybody
                    && !following.observer
                    && let Some(age_ms) = age_ms(now, header.time_ms)
                {
                    self.metrics.proposal_latency.record(age_ms);
                }
                let asked = following.forwarded.matching(SessionId(header.client_id), header.cxid, &record);
                (asked, matches!(record, Txn::Reconfig { .. }))
            }
            _ => {
                let why = format!("the leader proposed {zxid} with bytes that are no transaction of that zxid");
                return self.leave_leader(now, why, out);
            }
        };
        if reconfigured
            && let Ok((_, Txn::Reconfig { path, data, .. }, _)) = decode_txn(&txn)
            && let Err(why) = self.note_logged_configuration(now, &path, data, out)
        {
            return self.leave_leader(now, why, out);
        }
        assert!(zxid > self.progress.logged, "{zxid} is proposed after {}", self.progress.logged);
        if self.service == Service::Everybody && self.is_log_behind() {
            let why = "the disk of the log here takes less than the leader proposes".to_owned();
            return self.leave_leader(now, why, out);
        }
        self.progress.log(zxid, txn.len());
        self.outstanding.propose(zxid, asked);
        self.tail_bytes += txn.len();
        self.tail.push_back(Proposal { zxid, txn: txn.clone() });
        out.push(Output::Log { zxid, txn });
        if probe::broken("observer master: INFORM before the commit")
            && let Role::Following(following) = &mut self.role
            && let Some(relay) = &mut following.relay
        {
            relay.inform(zxid, &self.tail.back().expect("just logged").txn, out);
        }
        if probe::broken("apply before the commit") {
            self.apply_through(now, zxid, out);
        }
    }

    /// What is logged through here is committed. Our own disk may be behind: a quorum of the others is not.
    pub(in crate::core) fn apply_through(&mut self, now: Now, through: Zxid, out: &mut Vec<Output>) {
        let mut waiting = Vec::new();
        while let Some(proposal) = self.tail.pop_front_if(|proposal| proposal.zxid <= through) {
            if proposal.zxid > self.progress.durable {
                probe::mark("learner: a commit outruns the own disk");
            }
            self.tail_bytes -= proposal.txn.len();
            self.release(now, proposal, &mut waiting, out);
        }
        self.bound_snapshot_backlog(now, out);
        self.go_on_all(now, waiting, out);
    }

    /// The oldest `sync` went to the leader and back: everything committed before it is applied.
    pub(in crate::core) fn on_synced(&mut self, now: Now, out: &mut Vec<Output>) {
        let Role::Following(following) = &mut self.role else { return };
        let connection = match following.forwarded.syncs.pop_front() {
            Some(Asker::Client { connection }) => connection,
            Some(Asker::Observer { link }) => {
                return following.relay.iter_mut().for_each(|relay| relay.synced(link, out));
            }
            None => return self.leave_leader(now, "the leader answered a sync that was never asked".into(), out),
        };
        if let Some(slot) = self.slot(connection) {
            self.connections[slot].synced += 1;
            self.go_on(now, slot, out);
        }
    }

    pub(in crate::core) fn on_revalidated(&mut self, now: Now, session: i64, valid: bool, out: &mut Vec<Output>) {
        let Role::Following(following) = &mut self.role else { return };
        let session = SessionId(session);
        let revalidating = &mut following.forwarded.revalidating;
        let asked = revalidating.get_mut(&session).and_then(VecDeque::pop_front);
        if revalidating.get(&session).is_some_and(VecDeque::is_empty) {
            revalidating.remove(&session);
        }
        let (connection, timeout_ms) = match asked {
            Some((Asker::Client { connection }, timeout_ms)) => (connection, timeout_ms),
            Some((Asker::Observer { link }, timeout_ms)) => {
                return self.revalidated_for(link, session, timeout_ms, valid, out);
            }
            None => {
                return self.leave_leader(now, format!("the leader speaks of session {:#x} unasked", session.0), out);
            }
        };
        // It may have given up meanwhile.
        let Some(slot) = self.slot(connection).filter(|slot| self.connections[*slot].state == State::Connecting) else {
            return;
        };
        if !valid {
            return self.refuse_session(slot);
        }
        self.sessions.resume(session, timeout_ms, now.mono_us);
        self.take_over(slot, session);
        self.welcome(slot, timeout_ms);
        self.go_on(now, slot, out);
    }

    /// Writes that waited because too much was under way.
    pub(in crate::core) fn let_stalled_go_on(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.outstanding.has_stalled() && !self.writes_wait() {
            let waiting = self.take_stalled();
            self.go_on_all(now, waiting, out);
        }
    }

    /// Too much waits for this server's own disk.
    pub(in crate::core) fn is_log_behind(&self) -> bool {
        self.progress.undurable_bytes() > self.settings.log_backlog_max_bytes
    }

    /// Whether clients' writes have to wait until some of what is under way is done, or may be proposed.
    pub(in crate::core) fn writes_wait(&self) -> bool {
        match &self.role {
            Role::Leading(leading) => {
                leading.leader.in_flight_bytes() > limits::PROPOSALS_BYTES
                    || self.is_log_behind()
                    || !leading.leader.may_propose()
            }
            Role::Following(following) => {
                following.forwarded.unmatched_bytes() + self.tail_bytes > limits::PROPOSALS_BYTES
            }
            Role::Looking(_) | Role::Settling(_) => false,
        }
    }

    /// The sessions of those this server serves: all of the ensemble's, or the few that live in read-only mode.
    pub(in crate::core) fn served_sessions(&mut self) -> &mut SessionTable {
        match &mut self.role {
            Role::Looking(looking) => looking.read_only.as_mut().unwrap_or(&mut self.sessions),
            _ => &mut self.sessions,
        }
    }

    /// A `sync` of a learner's client: behind it wait whatever its session asks next.
    pub(super) fn forward_sync(&mut self, slot: Slot, header: Header, body: &[u8], out: &mut Vec<Output>) {
        if probe::broken("a learner answers a sync at once") {
            self.connections[slot].synced += 1;
        } else {
            self.forward(slot, header, body, out);
        }
        self.push_pending(slot, Pending { header, wait: Wait::LeaderSync { body: body.into() } });
    }
}

/// Written by a Java leader all the same, and fatal to it (semantics 19) or digested wrongly by everybody (D-005). Ours would
/// refuse it too, but who leads is not known for long.
pub(super) fn harms_java_leaders(request: &Request<'_>) -> bool {
    const TTL_FLAGS: std::ops::RangeInclusive<i32> = 5..=6;
    const CONTAINER_FLAGS: i32 = 4;
    let ttl_harms = |create: &CreateRequest<'_>, ttl_ms: i64| !TTL_FLAGS.contains(&create.flags) && ttl_ms < 0;
    let container_harms = |create: &CreateRequest<'_>| create.flags != CONTAINER_FLAGS || create_harms(create);
    match request {
        Request::CreateTtl { create, ttl_ms } => ttl_harms(create, *ttl_ms) || create_harms(create),
        Request::CreateContainer(create) => container_harms(create),
        Request::Create(create) | Request::Create2(create) => create_harms(create),
        Request::SetData { path: Some(path), data, .. } => quota::is_unreadable(path, *data),
        Request::Delete { path: Some(path), .. } => quota::is_of_nothing(path),
        Request::Multi(ops) => ops.iter().any(|op| match op {
            MultiOp::CreateTtl { create, ttl_ms } => ttl_harms(create, *ttl_ms) || create_harms(create),
            MultiOp::CreateContainer(create) => container_harms(create),
            MultiOp::Create(create) | MultiOp::Create2(create) => create_harms(create),
            MultiOp::SetData { path: Some(path), data, .. } => quota::is_unreadable(path, *data),
            MultiOp::Delete { path: Some(path), .. } => quota::is_of_nothing(path),
            _ => false,
        }),
        _ => false,
    }
}

fn create_harms(create: &CreateRequest<'_>) -> bool {
    let path = create.path.as_deref().unwrap_or_default();
    quota::is_of_nothing(path) || quota::is_unreadable_at_birth(path, create.data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create<'a>(path: &'a str, data: &'a [u8], flags: i32) -> CreateRequest<'a> {
        CreateRequest { path: Some(path.into()), data: Some(data), acl: None, flags }
    }

    fn set<'a>(path: &'a str, data: &'a [u8]) -> Request<'a> {
        Request::SetData { path: Some(path.into()), data: Some(data), version: -1 }
    }

    #[test]
    fn what_kills_a_java_leader_is_known() {
        let ttl = |flags, ttl_ms| Request::CreateTtl { create: create("/a", b"", flags), ttl_ms };
        assert!(harms_java_leaders(&ttl(0, -1)));
        assert!(!harms_java_leaders(&ttl(0, 1)) && !harms_java_leaders(&ttl(5, -1)), "these it refuses");
        assert!(harms_java_leaders(&Request::Create(create("/zookeeper/quota/zookeeper_limits", b"count=1", 0))));
        let limits = "/zookeeper/quota/a/zookeeper_limits";
        assert!(!harms_java_leaders(&set(limits, b"count=5,bytes=-1=;byteHardLimit=-1;countHardLimit=9")));
        assert!(!harms_java_leaders(&set(limits, b"count=5,bytes=-1")));
        assert!(harms_java_leaders(&set(limits, b"count=many")));
        assert!(harms_java_leaders(&set("/zookeeper/quota/a/zookeeper_stats", b"\xff")));
        assert!(!harms_java_leaders(&set("/quota/a/zookeeper_stats", b"anything")));
        assert!(harms_java_leaders(&Request::CreateContainer(create("/a", b"", 0))));
        assert!(!harms_java_leaders(&Request::CreateContainer(create("/a", b"", 4))));
        let multi = vec![MultiOp::CreateTtl { create: create("/a", b"", 0), ttl_ms: -7 }];
        assert!(harms_java_leaders(&Request::Multi(multi)));
    }
}
