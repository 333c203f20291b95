//! Clients whose sessions are of this server alone: how they become everybody's, and how they end.
//! Spec: semantics 11.5, quorum-protocol 12.5. Java: `QuorumZooKeeperServer.checkUpgradeSession`, `FollowerRequestProcessor`.

use bytes::Bytes;
use ringkeeper_storage::probe;

use super::commit::{Asked, Origin};
use super::prep::Wanted;
use crate::core::connection::{Header, Pending, Wait};
use crate::core::node::{Node, Slot};
use crate::core::peer::{Role, Service};
use crate::core::session::SessionTable;
use crate::core::types::{LogRoom, Now, Output, SessionId};
use crate::wire::ErrorCode;
use crate::wire::client::{OpCode, Request, RequestHeader};
use crate::wire::jute::Reader;
use crate::wire::quorum::ForwardedRequest;

impl Node {
    /// Where this session is known: here alone, or among those of the ensemble.
    pub(in crate::core) fn table_of(&mut self, session: SessionId) -> &mut SessionTable {
        if self.service != Service::ReadOnly && self.local.has(session) {
            return self.local.table();
        }
        self.served_sessions()
    }

    /// Whether a write of a local session may go on. One that needs a session which everybody knows makes its client's one. Asked for once, ahead of the request.
    pub(super) fn upgrade_for(
        &mut self,
        now: Now,
        slot: Slot,
        request: &Request<'_>,
        out: &mut Vec<Output>,
    ) -> Result<(), ErrorCode> {
        let session = self.connections[slot].session;
        if self.local.get(session).is_some_and(|session| session.closing) {
            return Err(ErrorCode::SessionExpired);
        }
        if !self.local.is_local(session) || !request.makes_ephemerals() {
            return Ok(());
        }
        if !self.settings.local_sessions_upgrading {
            return Err(ErrorCode::EphemeralOnLocalSession);
        }
        if probe::broken("a local session owns ephemerals") {
            return Ok(());
        }
        let Some(timeout_ms) = self.local.begin_upgrade(session) else { return Ok(()) };
        probe::mark("a local session becomes everybody's");
        match &mut self.role {
            Role::Following(following) => {
                let (opcode, body) =
                    (OpCode::CreateSession.number(), Bytes::copy_from_slice(&timeout_ms.to_be_bytes()));
                let request = ForwardedRequest { session: session.0, cxid: 0, opcode, body, identities: None };
                following.learner.forward(request, out);
            }
            _ => {
                let origin = Origin { asked: Asked::Nobody, session, cxid: 0, identities: &[] };
                self.propose(now, origin, |prep| Wanted::Session { timeout_ms }.prepare(prep), out);
            }
        }
        Ok(())
    }

    /// The same before the frame is taken: what a session needs first may be the last that its leader proposes for a while.
    pub(super) fn upgrade_ahead(&mut self, now: Now, slot: Slot, payload: &[u8], out: &mut Vec<Output>) {
        let session = self.connections[slot].session;
        let leads = matches!(self.role, Role::Leading(_)) && self.leads();
        if !self.local.is_local(session) || !leads || self.room != LogRoom::Ample || self.writes_wait() {
            return;
        }
        let mut reader = Reader::new(payload, &self.limits);
        if let Ok(header) = RequestHeader::decode(&mut reader)
            && let Ok(request) = Request::decode(header.opcode, reader.rest(), &self.limits.clone())
        {
            // Why not, if not, is said when the frame is taken.
            let _ = self.upgrade_for(now, slot, &request, out);
        }
    }

    /// The end of a session that nobody else knows of, in its turn. Not a transaction.
    pub(super) fn admit_local_close(&mut self, now: Now, slot: Slot, header: Header) {
        let connection = &self.connections[slot];
        let (session, identities) = (connection.session, connection.identities().clone());
        if connection.pending.is_empty() {
            return self.close_local(now, slot, header);
        }
        if let Some(session) = self.local.table().get_mut(session) {
            session.closing = true;
        }
        self.push_pending(slot, Pending { header, wait: Wait::Turn { body: Box::default(), identities } });
    }

    pub(super) fn close_local(&mut self, now: Now, slot: Slot, header: Header) {
        self.local.remove(self.connections[slot].session);
        self.reply(now, slot, header, |_| {});
        self.close(slot);
    }

    /// Sessions of this server that nobody has heard of end here.
    pub(in crate::core) fn expire_local(&mut self, now: Now) {
        if self.service != Service::Everybody {
            return self.local.table().let_pass(now.mono_us);
        }
        while let Some(session) = self.local.table().expire_next(now.mono_us) {
            self.metrics.stale_sessions_expired += 1;
            let gone = self.local.remove(session).and_then(|session| session.connection);
            if let Some(slot) = gone.and_then(|connection| self.slot(connection)) {
                self.close(slot);
            }
        }
    }
}
