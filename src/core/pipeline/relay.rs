//! A follower and its observers: what their clients want goes on to the leader, what it answers goes back.
//!
//! For the leader these sessions are the follower's. It cannot tell one door behind a follower from another: a client that moves
//! between them is not noticed by the leader, so a follower ends its own connection of a session that is resumed at an observer of
//! its. Requests need no name here: their outcome comes to the observer as a transaction. Java: `ObserverMaster`. Spec:
//! quorum-protocol 15.

use ringkeeper_storage::probe::broken;

use super::forward::Asker;
use crate::core::node::Node;
use crate::core::peer::Role;
use crate::core::types::{LinkId, Now, Output, ServerId, SessionId, Zxid};
use crate::core::zab::Leader;
use crate::core::zab::leader::{LeaderEvent, LeaderStart};
use crate::wire::client::OpCode;
use crate::wire::txn::decode_header;

impl Node {
    /// This follower serves: it lets observers in, if that is wanted.
    pub(in crate::core) fn begin_relay(&mut self, now: Now, out: &mut Vec<Output>) {
        let (Role::Following(following), Some(member)) = (&mut self.role, &self.member) else { return };
        if self.settings.ensemble.observer_masters && !following.observer {
            let (epochs, last) = (member.epochs, member.window.last());
            let start = LeaderStart { id: self.settings.server, epochs, last, founds: false, reconfigures: false };
            let relay = Leader::relaying(now, start, &self.settings.ensemble, &member.configs, out);
            following.relay = Some(Box::new(relay));
        }
    }

    /// Whether there was anything to do.
    pub(in crate::core) fn carry_on_relay(&mut self, out: &mut Vec<Output>) -> bool {
        let Role::Following(following) = &mut self.role else { return false };
        let Some(event) = following.relay.as_mut().and_then(|relay| relay.next_event()) else { return false };
        match event {
            LeaderEvent::Request { link, request } => {
                if request.opcode == OpCode::Sync.number() {
                    if broken("observer master: a sync is answered here") {
                        following.relay.iter_mut().for_each(|relay| relay.synced(link, out));
                        return true;
                    }
                    following.forwarded.syncs(Asker::Observer { link });
                }
                following.learner.forward(request, out);
            }
            LeaderEvent::Touched { .. } if broken("observer master: what observers hear of sessions is lost") => {}
            LeaderEvent::Touched { session, timeout_ms } => following.forwarded.touch(SessionId(session), timeout_ms),
            LeaderEvent::Revalidate { link, session, .. }
                if broken("observer master: a session is resumed unasked") =>
            {
                following.relay.iter_mut().for_each(|relay| relay.revalidated(link, session, true, out));
            }
            LeaderEvent::Revalidate { link, session, timeout_ms } => {
                following.forwarded.revalidates(SessionId(session), Asker::Observer { link }, timeout_ms);
                following.learner.revalidate(session, timeout_ms, out);
            }
            LeaderEvent::Syncs { kind, begins, under_way } => self.metrics.syncs(kind, begins, under_way),
            LeaderEvent::SnapshotWanted { link } => self.send_snapshot(link, out),
            LeaderEvent::LinkGone { link } => self.snapshot_link_gone(link),
            LeaderEvent::ConfigSeen { .. }
            | LeaderEvent::ConfigActivated { .. }
            | LeaderEvent::Established { .. }
            | LeaderEvent::Confirmed { .. }
            | LeaderEvent::NextEpoch { .. }
            | LeaderEvent::HandedOver { .. }
            | LeaderEvent::Over { .. } => unreachable!("it is no leader"),
        }
        true
    }

    /// The leader's word on a session that is back at an observer. Here too it was heard of.
    pub(super) fn revalidated_for(
        &mut self,
        link: LinkId,
        session: SessionId,
        timeout_ms: i32,
        valid: bool,
        out: &mut Vec<Output>,
    ) {
        let Role::Following(following) = &mut self.role else { return };
        if let Some(relay) = &mut following.relay {
            relay.revalidated(link, session.0, valid, out);
        }
        if valid {
            following.forwarded.touch(session, timeout_ms);
            let here = self.sessions.get(session).and_then(|session| session.connection);
            if let Some(slot) = here.and_then(|connection| self.slot(connection)) {
                self.close(slot);
            }
        }
    }

    /// This follower has applied a transaction: its observers are told.
    pub(super) fn relay(&mut self, zxid: Zxid, txn: &bytes::Bytes, out: &mut Vec<Output>) {
        if let Role::Following(following) = &mut self.role
            && let Some(relay) = &mut following.relay
        {
            let reconfigures = decode_header(txn).is_ok_and(|(_, kind)| kind == OpCode::Reconfig.number());
            match reconfigures && self.settings.reconfig_enabled {
                true => relay.pass(zxid, out),
                false => relay.relay(zxid, txn, out),
            }
        }
    }

    /// It was a change of the membership, which is in force now.
    pub(in crate::core) fn relay_activation(&mut self, zxid: Zxid, leader: ServerId, out: &mut Vec<Output>) {
        let (Role::Following(following), Some(member)) = (&mut self.role, &self.member) else { return };
        let newest = member.window.iter().last().filter(|(newest, _)| *newest == zxid);
        if let (Some(relay), Some((_, txn))) = (&mut following.relay, newest) {
            relay.activate(zxid, txn, leader, out);
        }
    }
}
