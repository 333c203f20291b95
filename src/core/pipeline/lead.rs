//! The leader and other servers' clients: their requests become proposals like those of its own.
//!
//! A session belongs to the server through which it was last created or resumed, as far as the leader knows: requests that
//! come another way are refused, SESSIONMOVED. After a change of leaders nobody knows, and the first to ask owns it.
//! Spec: quorum-protocol 11, 12; semantics 11.4. Java: `LearnerHandler`, `SessionTrackerImpl.checkSession`.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use ringkeeper_storage::probe;

use super::admit::is_write;
use super::commit::{Asked, Origin};
use super::prep::Wanted;
use crate::core::connection::State;
use crate::core::node::Node;
use crate::core::peer::{Leading, Role};
use crate::core::session::Owner;
use crate::core::tree::Identity;
use crate::core::types::{ConnectionId, LinkId, LogRoom, Now, Output, SessionId};
use crate::limits;
use crate::wire::ErrorCode;
use crate::wire::client::{OpCode, Request};
use crate::wire::jute::decode_utf8;
use crate::wire::quorum::{ForwardedRequest, PeerIdentity};

/// A client that is back with a session that this leader does not know.
#[derive(Debug)]
pub(in crate::core) struct Doubted {
    /// See `Leader::confirm`.
    round: u64,
    session: SessionId,
    /// As its client asked.
    timeout_ms: i32,
    client: Returned,
}

/// Where it is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::core) enum Returned {
    Here(ConnectionId),
    To(LinkId),
}

/// Requests of learners' clients that wait for their turn, oldest first.
#[derive(Debug, Default)]
pub(in crate::core) struct WaitingRequests {
    requests: VecDeque<(LinkId, ForwardedRequest)>,
    /// What they take, all together.
    bytes: usize,
}

impl WaitingRequests {
    fn push(&mut self, link: LinkId, request: ForwardedRequest) {
        self.bytes += cost_bytes(&request);
        if probe::broken("requests that had to wait overtake each other") {
            return self.requests.push_front((link, request));
        }
        self.requests.push_back((link, request));
    }

    fn pop(&mut self) -> Option<(LinkId, ForwardedRequest)> {
        let (link, request) = self.requests.pop_front()?;
        self.bytes -= cost_bytes(&request);
        Some((link, request))
    }

    fn forget(&mut self, link: LinkId) {
        self.requests.retain(|(from, _)| *from != link);
        self.bytes = self.requests.iter().map(|(_, request)| cost_bytes(request)).sum();
    }

    /// Whose take the most.
    fn greediest(&self) -> LinkId {
        let mut bytes = BTreeMap::<LinkId, usize>::new();
        for (link, request) in &self.requests {
            *bytes.entry(*link).or_default() += cost_bytes(request);
        }
        bytes.into_iter().max_by_key(|(_, bytes)| *bytes).expect("somebody waits").0
    }
}

fn cost_bytes(request: &ForwardedRequest) -> usize {
    size_of::<(LinkId, ForwardedRequest)>() + request.bytes()
}

impl Node {
    /// What a learner's client wants. Waits in its turn while nothing may be proposed, or too much is under way. The learner
    /// for whose clients too much waits is dropped, and comes back.
    pub(in crate::core) fn on_learner_request(
        &mut self,
        now: Now,
        link: LinkId,
        request: ForwardedRequest,
        out: &mut Vec<Output>,
    ) {
        let must_wait = self.writes_wait();
        let Role::Leading(Leading { leader, waiting, .. }) = &mut self.role else {
            unreachable!("only a leader is asked")
        };
        if !must_wait && waiting.requests.is_empty() {
            return self.propose_for_learner(now, link, request, out);
        }
        probe::mark("leader: a learner's request waits until something may be proposed");
        waiting.push(link, request);
        if waiting.bytes > self.settings.ensemble.learner_queue_max_bytes {
            let why = "its clients ask for more than can wait until something may be proposed";
            leader.drop_learner(now, waiting.greediest(), why, out);
        }
    }

    /// Proposes what had to wait, of learners and of own clients. Says whether there was any.
    pub(in crate::core) fn carry_on_waiting(&mut self, now: Now, out: &mut Vec<Output>) -> bool {
        if self.writes_wait() {
            return false;
        }
        let Role::Leading(Leading { waiting, .. }) = &mut self.role else { return false };
        if let Some((link, request)) = waiting.pop() {
            self.propose_for_learner(now, link, request, out);
            return true;
        }
        self.let_stalled_go_on(now, out);
        false
    }

    fn propose_for_learner(&mut self, now: Now, link: LinkId, request: ForwardedRequest, out: &mut Vec<Output>) {
        let Role::Leading(leading) = &mut self.role else { unreachable!("only a leader is asked") };
        let session = SessionId(request.session);
        let opcode = OpCode::try_from(request.opcode);
        if opcode == Ok(OpCode::Sync) {
            return leading.leader.sync_asked(link, out);
        }
        let limits = self.limits;
        let configuration;
        let wanted = match opcode {
            Ok(OpCode::CreateSession) => match request.body.first_chunk() {
                Some(bytes) => Wanted::Session { timeout_ms: i32::from_be_bytes(*bytes) },
                None => Wanted::Refused(ErrorCode::MarshallingError),
            },
            // Only the leader's own container manager asks for that; Java's learners let their clients (client-protocol 8.1).
            Ok(OpCode::DeleteContainer) => Wanted::Refused(ErrorCode::NoAuth),
            // The room that is left is for the ends of sessions.
            Ok(opcode) if self.room == LogRoom::Low && is_write(opcode) && opcode != OpCode::CloseSession => {
                self.metrics.writes_refused_disk_full += 1;
                Wanted::Refused(ErrorCode::SystemError)
            }
            Ok(opcode) if is_write(opcode) => {
                let decoded = Request::decode(opcode.number(), &request.body, &limits);
                let decoded = decoded.map_err(|_| ErrorCode::MarshallingError);
                configuration = decoded.as_ref().ok().and_then(|request| self.wanted_configuration(request));
                let ephemeral = decoded.as_ref().is_ok_and(Request::makes_ephemerals);
                let session = self.check_session(session, Owner::Link(link), opcode, ephemeral);
                Wanted::of(decoded, session).or_reconfigured(configuration.as_ref())
            }
            _ => Wanted::Refused(ErrorCode::Unimplemented),
        };
        let identities: Vec<Identity> = request.identities.iter().flat_map(|all| all.iter()).map(identity).collect();
        let origin = Origin { asked: Asked::Learner { link }, session, cxid: request.cxid, identities: &identities };
        self.propose(now, origin, |prep| wanted.prepare(prep), out);
    }

    /// Whether a session may ask for this through this door (semantics 11.4). A `closeSession` may come through any.
    /// `ephemeral`: it asks for what only a session may have that everybody knows.
    pub(super) fn check_session(
        &mut self,
        id: SessionId,
        owner: Owner,
        opcode: OpCode,
        ephemeral: bool,
    ) -> Result<(), ErrorCode> {
        let ephemeral = ephemeral && !probe::broken("a local session owns ephemerals");
        let may_be_local = !ephemeral && self.may_be_local(id, owner);
        let creating = match &mut self.role {
            Role::Leading(leading) => leading.creating.get_mut(&id),
            _ => None,
        };
        let (closing, owned) = match (self.sessions.get_mut(id), creating) {
            (Some(session), _) => (&mut session.closing, session.owner.get_or_insert(owner)),
            (None, Some(session)) => (&mut session.closing, session.owner.get_or_insert(owner)),
            (None, None) if may_be_local => return Ok(()),
            (None, None) => return Err(ErrorCode::SessionExpired),
        };
        if *closing {
            return Err(ErrorCode::SessionExpired);
        }
        if opcode == OpCode::CloseSession {
            *closing = true;
            return Ok(());
        }
        if *owned != owner && !probe::broken("forget whose session it is") {
            probe::mark("leader: a session has moved");
            return Err(ErrorCode::SessionMoved);
        }
        Ok(())
    }

    /// A session that nobody knows of may be one that the server it comes from keeps for itself.
    fn may_be_local(&self, id: SessionId, owner: Owner) -> bool {
        match owner {
            Owner::Here => self.local.has(id),
            // Its number begins with that of its server.
            Owner::Link(_) => self.settings.local_sessions && (id.0 >> 56) as u8 != self.settings.server.0 as u8,
        }
    }

    /// A learner has heard of this session.
    pub(in crate::core) fn on_learner_touch(&mut self, now: Now, session: i64, timeout_ms: i32) {
        if !probe::broken("what learners hear of sessions is lost") {
            self.sessions.resume(SessionId(session), timeout_ms, now.mono_us);
        }
    }

    /// A client is back at this learner: if its session lives, it belongs there from now on.
    pub(in crate::core) fn on_learner_revalidate(
        &mut self,
        now: Now,
        link: LinkId,
        session: i64,
        timeout_ms: i32,
        out: &mut Vec<Output>,
    ) {
        let id = SessionId(session);
        self.metrics.revalidate_count += 1;
        if !self.sessions.resume(id, timeout_ms, now.mono_us) {
            return self.refuse_when_sure(now, id, timeout_ms, Returned::To(link), out);
        }
        self.revalidated_at(link, id, out);
    }

    /// The session belongs to this learner's client from now on.
    fn revalidated_at(&mut self, link: LinkId, session: SessionId, out: &mut Vec<Output>) {
        let Role::Leading(leading) = &mut self.role else { unreachable!("only a leader is asked") };
        if let Some(known) = self.sessions.get_mut(session) {
            known.owner = Some(Owner::Link(link));
        }
        leading.leader.revalidated(link, session.0, true, out);
    }

    /// Who leads knows every session; who was deposed, and has not noticed, knows none of those made since. So a client hears
    /// that its session is over when a quorum has followed after it asked.
    pub(super) fn refuse_when_sure(
        &mut self,
        now: Now,
        session: SessionId,
        timeout_ms: i32,
        client: Returned,
        out: &mut Vec<Output>,
    ) {
        let Role::Leading(leading) = &mut self.role else { unreachable!("only a leader knows") };
        probe::mark("leader: a quorum is asked before a session is refused");
        let round = leading.leader.confirm(out);
        leading.doubted.push_back(Doubted { round, session, timeout_ms, client });
        if leading.doubted.len() <= limits::SESSIONS_DOUBTED {
            return;
        }
        let oldest = leading.doubted.pop_front().expect("more than none");
        match oldest.client {
            // It waits for as many answers as it asked for.
            Returned::To(link) => {
                let why = "too many of its clients are back with sessions that are not known, and no quorum says so";
                leading.leader.drop_learner(now, link, why, out);
            }
            Returned::Here(connection) => {
                if let Some(slot) = self.slot(connection)
                    && self.connections[slot].state == State::Connecting
                {
                    self.close(slot);
                }
            }
        }
    }

    /// A quorum followed in this round: whoever asked before is told. A session that was on its way then lives by now.
    pub(in crate::core) fn answer_doubted(&mut self, now: Now, round: u64, out: &mut Vec<Output>) {
        while let Role::Leading(leading) = &mut self.role
            && let Some(Doubted { session, timeout_ms, client, .. }) =
                leading.doubted.pop_front_if(|doubted| doubted.round <= round)
        {
            let lives = self.sessions.resume(session, timeout_ms, now.mono_us);
            match client {
                Returned::To(link) if lives => self.revalidated_at(link, session, out),
                Returned::To(link) => leading.leader.revalidated(link, session.0, false, out),
                Returned::Here(connection) => {
                    // It may have given up meanwhile.
                    if let Some(slot) = self.slot(connection)
                        && self.connections[slot].state == State::Connecting
                    {
                        match lives {
                            true => self.resumed_here(slot, session, timeout_ms),
                            false => self.refuse_session(slot),
                        }
                    }
                }
            }
        }
    }

    /// What it asked and nobody proposed is nobody's any more; its sessions belong to whoever asks first.
    pub(in crate::core) fn on_learner_gone(&mut self, link: LinkId) {
        let Role::Leading(leading) = &mut self.role else { unreachable!("only a leader has learners") };
        leading.waiting.forget(link);
        leading.doubted.retain(|doubted| doubted.client != Returned::To(link));
        for creating in leading.creating.values_mut().filter(|creating| creating.owner == Some(Owner::Link(link))) {
            creating.owner = None;
        }
        self.sessions.forget_owner(Owner::Link(link));
    }
}

/// Text of peers is bytes; identities are compared as text.
fn identity(identity: &PeerIdentity) -> Identity {
    let text = |bytes: &Option<Bytes>| decode_utf8(bytes.as_deref().unwrap_or_default()).into();
    Identity { scheme: text(&identity.scheme), id: text(&identity.id) }
}
