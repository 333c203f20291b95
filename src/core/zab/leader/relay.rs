//! An observer master: a follower that serves observers in its leader's place.
//!
//!   leader --PROPOSAL, COMMIT--> follower: applied --INFORM--> its observers
//!
//! It is the leader's code without the leader's part: nothing is proposed here, nobody votes, and the epoch is the one that this
//! server follows in. What the follower applies is told to its observers at once; what they ask goes up through the follower
//! (`pipeline/relay.rs`), and what comes back goes down in the order in which it came.
//!
//! Holds: an observer is told what is committed and applied here, in order, and nothing else. One that has more of this epoch than
//! this server has is not cut back, as Java's is: it waits until its master has caught up. What is kept for one that does not take
//! it is bounded by `observerMaster.sizeLimit`; beyond that it is let go, and comes back. Java: `ObserverMaster`. Spec: quorum-protocol 15.

use bytes::Bytes;
use ringkeeper_storage::probe::{broken, mark};

use super::{Leader, LeaderStart, Phase, SyncView};
use crate::core::settings::Ensemble;
use crate::core::types::{LinkId, Now, Output, ServerId, Zxid};
use crate::core::zab::ballot::Ballot;
use crate::core::zab::learner_handler::{Handler, Stage};
use crate::core::zab::membership::Configurations;
use crate::wire::quorum::Packet;

impl Leader {
    /// A follower serves: so may its observers. `start`: its own epoch, and the newest transaction it has applied.
    pub fn relaying(
        now: Now,
        start: LeaderStart,
        settings: &Ensemble,
        configs: &Configurations,
        out: &mut Vec<Output>,
    ) -> Leader {
        let electorate = (configs.clone(), Ballot::alone(start.id));
        let mut relay = Leader::new(now.mono_us, start, settings, electorate, Phase::Relaying);
        let allowance = &mut relay.allowance;
        allowance.queue_max_bytes = allowance.queue_max_bytes.min(settings.observer_queue_max_bytes);
        relay.epoch = start.epochs.current;
        out.push(Output::AcceptObservers(true));
        relay
    }

    /// Whether this is the link of one of its learners.
    pub fn has_link(&self, link: LinkId) -> bool {
        self.handlers.contains_key(&link)
    }

    /// The follower has applied this.
    pub fn relay(&mut self, zxid: Zxid, txn: &Bytes, out: &mut Vec<Output>) {
        self.pass(zxid, out);
        if !broken("observer master: INFORM before the commit") {
            self.inform(zxid, txn, out);
        }
    }

    /// The same of a change of the membership: observers are told of it with `activate`, which follows at once.
    pub fn pass(&mut self, zxid: Zxid, out: &mut Vec<Output>) {
        // A quorum is in the next epoch, and this server's own word for it is still on its way to the disk.
        self.relay_epoch(zxid.epoch(), out);
        self.proposals.pass(zxid);
        (self.popped, self.last_txn) = (zxid, zxid);
    }

    /// What this transaction proposed is in force.
    pub fn activate(&mut self, zxid: Zxid, txn: &Bytes, leader: ServerId, out: &mut Vec<Output>) {
        for handler in self.handlers.values_mut().filter(|handler| handler.forwarding) {
            handler.forward(Packet::InformAndActivate { zxid, leader: leader.0, txn: txn.clone() }, out);
        }
        self.drop_overrun(out);
    }

    /// The follower goes by others now.
    pub fn configured(&mut self, configs: &Configurations) {
        self.configs = configs.clone();
    }

    pub fn inform(&mut self, zxid: Zxid, txn: &Bytes, out: &mut Vec<Output>) {
        for handler in self.handlers.values_mut().filter(|handler| handler.forwarding) {
            handler.forward(Packet::Inform { zxid, txn: txn.clone() }, out);
        }
        self.drop_overrun(out);
    }

    /// What is applied now may be what observers that had more were waiting for.
    pub fn caught_up(&mut self, view: SyncView<'_>, out: &mut Vec<Output>) {
        let waits =
            |handler: &&Handler| matches!(handler.stage, Stage::AwaitsHistory { last } if !self.is_behind(last));
        let ready: Vec<LinkId> = self.handlers.values().filter(waits).map(|handler| handler.link).collect();
        for link in ready {
            self.synchronise(link, view, out);
        }
    }

    /// Transactions of this epoch are committed when an observer gets them: one that has more has been told by somebody else. (Of
    /// an earlier epoch it may have what never was committed.)
    pub(super) fn is_behind(&self, last: Option<Zxid>) -> bool {
        let is_behind = last.is_some_and(|last| last.epoch() == self.epoch && last > self.popped && last.counter() > 0);
        is_behind && !broken("observer master: an observer that is ahead is cut back")
    }

    /// The leader's counter rolled over: those in step go on in the next epoch without a break, if they know how to.
    pub fn relay_epoch(&mut self, epoch: u32, out: &mut Vec<Output>) {
        if epoch <= self.epoch {
            return;
        }
        mark("observer master: the next epoch is passed on");
        self.epoch = epoch;
        let goes_on = |handler: &Handler| match handler.stage {
            Stage::Nameless => true,
            _ => handler.is_in_step() && handler.speaks_ringkeeper(),
        };
        let others = self.handlers.values().filter(|handler| !goes_on(handler));
        for link in others.map(|handler| handler.link).collect::<Vec<_>>() {
            self.close(link, "the epoch changes, and it was not in step", out);
        }
        self.tell_in_step(|| Packet::NextEpoch { epoch }, out);
        self.tell_in_step(|| Packet::NextEpochBegins { epoch }, out);
    }

    /// The leader has answered the `sync` that came on this link: everything before it was told.
    pub fn synced(&mut self, link: LinkId, out: &mut Vec<Output>) {
        if let Some(handler) = self.handlers.get_mut(&link) {
            handler.forward(Packet::Sync, out);
        }
    }
}
