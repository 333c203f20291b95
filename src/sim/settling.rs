//! The second phase: no more faults, and everybody has to be well within a bounded time.

use super::client::ClientInput;
use super::event::{Event, Moment, Settled, Violation};
use super::queue::Happening;
use super::trace::Level;
use super::world::{Server, Step, World};
use crate::core::zab::epoch::Summary;
use crate::core::zab::membership::Configurations;
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
            if self.nobody_can_lead() {
                self.trace.tell(Level::Story, format_args!("nobody can lead any more: {why}"));
                (self.over, self.hopeless) = (true, true);
                return Ok(());
            }
            return Err(Violation { property: "liveness", why });
        }
        self.queue.at(self.now_us + LOOK_US, Happening::Look);
        Ok(())
    }

    /// A change of the membership may leave nobody whom enough servers can follow, so that no ensemble owes anybody anything. It
    /// may have been proposed behind a loss, and make more of it than was lost: of two voters to be, one. Or it was cut short
    /// where some of its voters have more than anybody who decides now, and too many of those have not heard of it (D-077).
    fn nobody_can_lead(&self) -> bool {
        let nodes =
            || self.servers.iter().filter_map(|server| Some((server, server.process.as_ref()?.node.candidacy()?)));
        // As the world knows it: a server that takes itself for a lost one without a reason is no excuse.
        let is_whole = |server: &Server| !server.impaired && server.has_joined;
        let can_lead = |leader: ServerId, has: Summary, configs: &Configurations| {
            // A voter to be is known to those only who know of the change.
            let is_known = |theirs: &Configurations| configs.committed.is_voter(leader) || theirs.is_voter(leader);
            let follows = |id: ServerId| {
                let mut others = nodes().filter(|(server, _)| server.setup.server == id && is_whole(server));
                others.any(|(_, (theirs, known))| {
                    theirs <= has && known.committed.version <= configs.committed.version && is_known(known)
                })
            };
            configs.is_voter(leader) && configs.has_all_quorums(follows)
        };
        let has_anybody_joined = self.servers.iter().any(|server| server.has_joined);
        has_anybody_joined
            && !nodes().any(|(server, (has, configs))| is_whole(server) && can_lead(server.setup.server, has, configs))
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
