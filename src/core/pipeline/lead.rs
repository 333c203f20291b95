//! The leader and other servers' clients: their requests become proposals like those of its own.
//!
//! A session belongs to the server through which it was last created or resumed, as far as the leader knows: requests that
//! come another way are refused, SESSIONMOVED. After a change of leaders nobody knows, and the first to ask owns it.
//! Spec: quorum-protocol 11, 12; semantics 11.4. Java: `LearnerHandler`, `SessionTrackerImpl.checkSession`.

use bytes::Bytes;
use ringkeeper_storage::probe;

use super::admit::is_write;
use super::commit::{Asked, Origin};
use super::prep::Wanted;
use crate::core::node::Node;
use crate::core::peer::{Leading, Role};
use crate::core::session::Owner;
use crate::core::tree::Identity;
use crate::core::types::{LinkId, LogRoom, Now, Output, SessionId};
use crate::wire::ErrorCode;
use crate::wire::client::{OpCode, Request};
use crate::wire::jute::decode_utf8;
use crate::wire::quorum::{ForwardedRequest, PeerIdentity};

impl Node {
    /// What a learner's client wants. Waits in its turn while nothing may be proposed.
    pub(in crate::core) fn on_learner_request(
        &mut self,
        now: Now,
        link: LinkId,
        request: ForwardedRequest,
        out: &mut Vec<Output>,
    ) {
        let Role::Leading(leading) = &mut self.role else { unreachable!("only a leader is asked") };
        if leading.leader.may_propose() && leading.waiting.is_empty() {
            self.propose_for_learner(now, link, request, out);
        } else {
            probe::mark("leader: a learner's request waits until something may be proposed");
            if probe::broken("requests that had to wait overtake each other") {
                return leading.waiting.push_front((link, request));
            }
            leading.waiting.push_back((link, request));
        }
    }

    /// Proposes what had to wait, of learners and of own clients. Says whether there was any.
    pub(in crate::core) fn carry_on_waiting(&mut self, now: Now, out: &mut Vec<Output>) -> bool {
        let Role::Leading(Leading { leader, waiting, .. }) = &mut self.role else { return false };
        if !leader.may_propose() {
            return false;
        }
        if let Some((link, request)) = waiting.pop_front() {
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
                let session = self.check_session(session, Owner::Link(link), opcode);
                Wanted::of(decoded, session).or_reconfigured(configuration.as_ref())
            }
            _ => Wanted::Refused(ErrorCode::Unimplemented),
        };
        let identities: Vec<Identity> = request.identities.iter().flatten().map(identity).collect();
        let origin = Origin { asked: Asked::Learner { link }, session, cxid: request.cxid, identities: &identities };
        self.propose(now, origin, |prep| wanted.prepare(prep), out);
    }

    /// Whether a session may ask for this through this door (semantics 11.4). A `closeSession` may come through any.
    pub(super) fn check_session(&mut self, id: SessionId, owner: Owner, opcode: OpCode) -> Result<(), ErrorCode> {
        let session = self.sessions.get_mut(id).filter(|session| !session.closing).ok_or(ErrorCode::SessionExpired)?;
        if opcode == OpCode::CloseSession {
            session.closing = true;
            return Ok(());
        }
        if *session.owner.get_or_insert(owner) != owner && !probe::broken("forget whose session it is") {
            probe::mark("leader: a session has moved");
            return Err(ErrorCode::SessionMoved);
        }
        Ok(())
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
        let Role::Leading(leading) = &mut self.role else { unreachable!("only a leader is asked") };
        let id = SessionId(session);
        let valid = self.sessions.resume(id, timeout_ms, now.mono_us);
        if valid && let Some(known) = self.sessions.get_mut(id) {
            known.owner = Some(Owner::Link(link));
        }
        leading.leader.revalidated(link, session, valid, out);
    }

    /// What it asked and nobody proposed is nobody's any more; its sessions belong to whoever asks first.
    pub(in crate::core) fn on_learner_gone(&mut self, link: LinkId) {
        let Role::Leading(leading) = &mut self.role else { unreachable!("only a leader has learners") };
        leading.waiting.retain(|(from, _)| *from != link);
        self.sessions.forget_owner(Owner::Link(link));
    }
}

/// Text of peers is bytes; identities are compared as text.
fn identity(identity: &PeerIdentity) -> Identity {
    let text = |bytes: &Option<Bytes>| decode_utf8(bytes.as_deref().unwrap_or_default()).into();
    Identity { scheme: text(&identity.scheme), id: text(&identity.id) }
}
