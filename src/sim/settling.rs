//! The second phase: no more faults, and everybody has to be well within a bounded time.

use super::client::ClientInput;
use super::event::{Event, Moment, Settled, Violation};
use super::queue::Happening;
use super::trace::Level;
use super::world::{Step, World};
use crate::core::{RoleView, ServerId};

/// Everybody must be seen to be well this often in a row before the run is over: what is only well for a moment is not.
const LOOKS_WELL: u32 = 3;
const LOOK_US: u64 = 100_000;

impl World {
    /// No more faults: everybody is up, and can reach everybody.
    pub(super) fn heal(&mut self) -> Step {
        self.healed = true;
        for relief in self.reliefs.keys().copied().collect::<Vec<_>>() {
            self.relieve(relief)?;
        }
        self.slow_observers_down(1);
        for s in 0..self.servers.len() {
            let server = &mut self.servers[s];
            (server.kill_after_ops, server.kill_start_after_ops) = (None, None);
            let mut disk = server.disk.get_mut();
            (disk.fail_write, disk.fail_flush) = (None, false);
            drop(disk);
            if server.process.is_none() {
                self.start_later(s);
            }
        }
        self.tell(Event::Healed)?;
        for client in 0..self.clients.len() {
            self.client_step(client, ClientInput::Healed)?;
        }
        self.queue.at(self.now_us + LOOK_US, Happening::Look);
        Ok(())
    }

    /// Is everybody well, and in step?
    pub(super) fn look(&mut self) -> Step {
        let unwell = self.unwell();
        self.looks_well = if unwell.is_none() { self.looks_well + 1 } else { 0 };
        if self.looks_well == LOOKS_WELL {
            self.over = true;
            let settled: Vec<Settled> = self.settled().collect();
            return self.properties.at_end(Moment { us: self.now_us }, &settled);
        }
        if self.now_us > self.plan.safety_us + self.plan.liveness_us
            && let Some(why) = unwell
        {
            if self.has_lost_too_much() {
                self.trace.tell(Level::Story, format_args!("nobody can help any more: {why}"));
                self.over = true;
                return Ok(());
            }
            return Err(Violation { property: "liveness", why });
        }
        self.queue.at(self.now_us + LOOK_US, Happening::Look);
        Ok(())
    }

    /// A change of the membership was proposed behind a loss, and makes more of it than was lost: of two voters to be, one. No
    /// ensemble owes anybody anything then.
    fn has_lost_too_much(&self) -> bool {
        let is_whole = |id: ServerId| !self.servers[self.place(id)].impaired;
        self.memberships().any(|membership| !membership.has_quorum(is_whole))
    }

    pub(super) fn settled(&self) -> impl Iterator<Item = Settled> {
        let membership = self.properties.truth().membership();
        self.servers.iter().filter_map(move |server| {
            let (node, id) = (&server.process.as_ref()?.node, server.setup.server);
            let (applied, digest) = (node.last_processed(), node.tree().digest());
            Some(Settled { server: id, applied, digest, voter: membership.is_voter(id) })
        })
    }

    /// What is not as it should be, in a sentence.
    pub(super) fn unwell(&self) -> Option<String> {
        let down = self.servers.iter().find(|server| server.process.is_none());
        if let Some(server) = down {
            return Some(format!("{:?} is down", server.setup.server));
        }
        if self.plan.is_ensemble() {
            let leaders = self
                .servers
                .iter()
                .filter(|server| matches!(server.role, Some(RoleView::Leading { serving: true, .. })));
            let leaders = leaders.count();
            if leaders != 1 {
                return Some(format!("{leaders} servers lead"));
            }
            let idle = self.servers.iter().find(|server| !server.role.as_ref().is_some_and(is_serving));
            if let Some(server) = idle {
                return Some(format!("{:?} does not serve: {:?}", server.setup.server, server.role));
            }
        }
        let settled: Vec<Settled> = self.settled().collect();
        let first = settled.first()?;
        if let Some(other) = settled.iter().find(|other| (other.applied, other.digest) != (first.applied, first.digest))
        {
            return Some(format!("{first:?} and {other:?} differ"));
        }
        let client = self.clients.iter().position(|place| !place.client.is_content());
        client.map(|client| format!("client {client} is not served"))
    }
}

pub(super) fn is_serving(role: &RoleView) -> bool {
    match role {
        RoleView::Looking { .. } => false,
        RoleView::Following { serving, .. }
        | RoleView::Observing { serving, .. }
        | RoleView::Leading { serving, .. } => *serving,
    }
}
