//! The handshake: a new session through the write pipeline, or an old one picked up again.
//! Spec: client-protocol 5.4, semantics 11.1. Java: `ZooKeeperServer.processConnectRequest`.

use ringkeeper_storage::probe;

use super::commit::{Asked, Origin};
use super::lead::Returned;
use super::prep::Wanted;
use crate::core::connection::State;
use crate::core::node::{Node, Slot};
use crate::core::peer::{Role, Service};
use crate::core::session::Owner;
use crate::core::session::identity::{password, password_matches};
use crate::core::types::{LogRoom, Now, Output, SessionId};
use crate::wire::client::{ConnectRequest, ConnectResponse};

impl Node {
    pub(super) fn on_connect(&mut self, now: Now, slot: Slot, payload: &[u8], out: &mut Vec<Output>) {
        self.metrics.packets_received += 1;
        self.connections[slot].stats.packets_received += 1;
        let limits = self.limits;
        let Ok(request) = ConnectRequest::decode(payload, &limits) else {
            return self.close(slot);
        };
        let throttle = self.connect_throttle.settings();
        let weight = match request.session_id {
            0 if self.settings.local_sessions => throttle.local_weight,
            0 => throttle.new_weight,
            _ => throttle.resumed_weight,
        };
        if !self.connect_throttle.admits(weight, now.mono_us) {
            self.metrics.connection_rejected += 1;
            return self.close(slot);
        }
        // A client that has seen more than we have must find a server that has, too.
        if request.last_zxid_seen > self.processed().0 as i64 && !probe::broken("let in who has seen more") {
            probe::mark("a client has seen more than this server has");
            return self.close(slot);
        }
        if self.service == Service::ReadOnly && request.read_only != Some(true) {
            return self.close(slot);
        }
        self.connections[slot].read_only = request.read_only;
        let timeout_ms =
            request.timeout_ms.max(self.settings.session_timeout_min_ms).min(self.settings.session_timeout_max_ms);
        if request.session_id == 0 {
            self.create_session(now, slot, timeout_ms, out);
        } else {
            self.resume_session(now, slot, SessionId(request.session_id), request.password, timeout_ms, out);
        }
    }

    fn create_session(&mut self, now: Now, slot: Slot, timeout_ms: i32, out: &mut Vec<Output>) {
        if self.settings.local_sessions && self.service == Service::Everybody {
            let session = self.session_ids.allocate();
            self.connections[slot].session = session;
            self.local.table().create(session, timeout_ms, now.mono_us);
            return self.welcome_new(now, slot, timeout_ms);
        }
        // Without room in the log there are no new sessions; the client tries again, here or elsewhere.
        if self.room == LogRoom::None {
            return self.close(slot);
        }
        let session = self.session_ids.allocate();
        let connection = &mut self.connections[slot];
        connection.state = State::Connecting;
        connection.session = session;
        let asked = Asked::Connect { connection: connection.id };
        match &self.role {
            Role::Leading(_) => {
                let origin = Origin { asked, session, cxid: 0, identities: &[] };
                self.propose(now, origin, |prep| Wanted::Session { timeout_ms }.prepare(prep), out);
            }
            Role::Following(_) => self.forward_create_session(slot, timeout_ms, out),
            // It is known to nobody else, and ends here.
            Role::Looking(_) | Role::Settling(_) => {
                self.served_sessions().create(session, timeout_ms, now.mono_us);
                self.welcome_new(now, slot, timeout_ms);
            }
        }
    }

    /// The password is checked before the old connection is closed: the Java order lets anyone end anyone's connection.
    fn resume_session(
        &mut self,
        now: Now,
        slot: Slot,
        session: SessionId,
        password: Option<&[u8]>,
        timeout_ms: i32,
        out: &mut Vec<Output>,
    ) {
        if !password_matches(session, password) {
            return self.refuse_session(slot);
        }
        self.metrics.connection_revalidate_count += 1;
        if self.service == Service::Everybody && self.local.table().resume(session, timeout_ms, now.mono_us) {
            self.take_over(slot, session);
            return self.welcome(slot, timeout_ms);
        }
        if let Role::Following(_) = &self.role {
            return self.ask_to_revalidate(slot, session, timeout_ms, out);
        }
        if !self.served_sessions().resume(session, timeout_ms, now.mono_us) {
            return match self.service {
                // Of the sessions of the ensemble, a server in read-only mode cannot say that they are over (D-102).
                Service::ReadOnly => self.close(slot),
                _ if self.member.is_none() => self.refuse_session(slot),
                _ => {
                    let connection = &mut self.connections[slot];
                    (connection.state, connection.session) = (State::Connecting, session);
                    let client = Returned::Here(connection.id);
                    self.refuse_when_sure(now, session, timeout_ms, client, out);
                }
            };
        }
        self.resumed_here(slot, session, timeout_ms);
    }

    /// The session belongs to this client, here, from now on.
    pub(super) fn resumed_here(&mut self, slot: Slot, session: SessionId, timeout_ms: i32) {
        self.take_over(slot, session);
        if let Some(session) = self.sessions.get_mut(session) {
            session.owner = Some(Owner::Here);
        }
        self.welcome(slot, timeout_ms);
    }

    /// The session is not this client's, or is over.
    pub(super) fn refuse_session(&mut self, slot: Slot) {
        let read_only = self.service == Service::ReadOnly;
        let connection = &mut self.connections[slot];
        ConnectResponse::refusal(connection.read_only.map(|_| read_only)).encode(&mut connection.outbox);
        self.mark_dirty(slot);
        self.close(slot);
    }

    /// This connection has the session from now on, and no other one of this server.
    pub(super) fn take_over(&mut self, slot: Slot, session: SessionId) {
        let before = self.table_of(session).get(session).and_then(|session| session.connection);
        if let Some(old) = before.and_then(|connection| self.slot(connection))
            && old != slot
        {
            self.close(old);
        }
        self.connections[slot].session = session;
    }

    /// The same for a session that was made for this client.
    pub(super) fn welcome_new(&mut self, now: Now, slot: Slot, timeout_ms: i32) {
        self.connections[slot].stats.created(now.mono_us, self.progress.applied);
        self.welcome(slot, timeout_ms);
    }

    /// The session is the client's: tells it. Frames it sent meanwhile are looked at by `go_on`.
    pub(super) fn welcome(&mut self, slot: Slot, timeout_ms: i32) {
        let connection = &mut self.connections[slot];
        connection.state = State::Open;
        connection.timeout_ms = timeout_ms;
        let (session, id) = (connection.session, connection.id);
        let read_only = self.service == Service::ReadOnly;
        if let Some(session) = self.table_of(session).get_mut(session) {
            session.connection = Some(id);
        } else if let Role::Following(following) = &mut self.role {
            following.forwarded.let_in(session, id);
        }
        let connection = &mut self.connections[slot];
        let response = ConnectResponse {
            protocol_version: 0,
            timeout_ms,
            session_id: session.0,
            password: password(session),
            // The byte is there exactly when the request had one.
            read_only: connection.read_only.map(|_| read_only),
        };
        response.encode(&mut connection.outbox);
        connection.stats.packets_sent += 1;
        self.metrics.packets_sent += 1;
        self.metrics.connection_request_count += 1;
        self.mark_dirty(slot);
    }
}
