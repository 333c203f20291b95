//! What a leader tells operators of its learners. Nothing here changes anything.

use super::{Leader, Phase};
use crate::core::types::ServerId;
use crate::core::zab::ballot::Votes;
use crate::core::zab::catch_up::SyncReport;
use crate::core::zab::learner_handler::{Handler, Stage};
use crate::core::zab::membership::Configurations;

/// A learner as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearnerView {
    pub server: ServerId,
    pub observer: bool,
    pub votes: bool,
    /// It has the history, and serves.
    pub in_step: bool,
    /// Proposals that it has not acknowledged. None: it does not have to.
    pub behind_transactions: Option<u64>,
    /// What is kept for it because its connection does not take it.
    pub behind_bytes: u64,
    pub sync: Option<SyncReport>,
}

impl Leader {
    /// Java: `QuorumPeer.ZabState`.
    pub fn zab_state(&self) -> &'static str {
        match self.phase {
            Phase::Discovering | Phase::Promising | Phase::Electing | Phase::Adopting => "discovery",
            Phase::Synchronising => "synchronization",
            Phase::Standalone | Phase::Broadcasting | Phase::Relaying | Phase::Over => "broadcast",
        }
    }

    pub fn pending_syncs(&self) -> usize {
        self.syncs.len()
    }

    /// All that have said who they are, by id.
    pub fn learners(&self) -> Vec<LearnerView> {
        let mut learners: Vec<_> = self.handlers.values().filter_map(|handler| self.learner(handler)).collect();
        learners.sort_unstable_by_key(|learner| learner.server);
        learners
    }

    fn learner(&self, handler: &Handler) -> Option<LearnerView> {
        let (proposed, has) = (self.proposals.proposed(), handler.has);
        // Of an earlier epoch's nobody knows how many there were; what is proposed in this one is missing in any case.
        let behind = match has.epoch() == proposed.epoch() {
            true => proposed.counter().saturating_sub(has.counter()),
            false => proposed.counter(),
        };
        let sync = |sync: crate::core::zab::learner_handler::Sync| SyncReport {
            kind: sync.kind,
            bytes: sync.bytes,
            took_ms: sync.took_us.map(|us| us / 1000),
        };
        Some(LearnerView {
            server: handler.id?,
            observer: handler.observer,
            votes: handler.vote != Votes::NONE,
            in_step: handler.is_in_step(),
            behind_transactions: (!handler.observer).then_some(behind.into()),
            behind_bytes: handler.owed_bytes() as u64,
            sync: handler.sync().map(sync),
        })
    }

    /// Voters that have not done yet what this phase is about.
    pub fn awaited(&self, configs: &Configurations) -> Vec<(ServerId, &'static str)> {
        let others = configs.committed.voters().filter(|voter| *voter != self.id);
        let waits = |voter: ServerId| {
            let Some(handler) = self.handlers.values().find(|handler| handler.id == Some(voter)) else {
                return Some((voter, "it has not connected to this server"));
            };
            let informed = matches!(handler.stage, Stage::AwaitsEpoch | Stage::Informed);
            let why = match self.phase {
                Phase::Electing | Phase::Adopting if informed => "it has not accepted the epoch yet",
                Phase::Synchronising if !handler.has_synchronised() => "it is being brought up to the history",
                _ => return None,
            };
            Some((voter, why))
        };
        others.filter_map(waits).collect()
    }
}
