//! Rounds, notifications, back-off, the decision.

use super::vote::Vote;
use crate::core::settings::Ensemble;
use crate::core::types::{Now, Output, ServerId, Standing, Zxid};
use crate::core::zab::membership::Configurations;
use crate::wire::election::{Notification, PeerState};

/// What this server can put forward when an election starts.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// The newest transaction that a crash would recover.
    pub last_logged: Zxid,
    pub current_epoch: u32,
    pub standing: Standing,
}

/// An election ended: whom to follow, or be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    pub vote: Vote,
}

#[derive(Debug)]
pub struct Election {
    id: ServerId,
    state: PeerState,
    current_vote: Vote,
    decision: Option<Decision>,
}

impl Election {
    /// Before the first election: the vote is for oneself, the state LOOKING.
    pub fn new(id: ServerId, settings: &Ensemble, candidate: Candidate, configs: &Configurations) -> Election {
        let _ = (settings, configs);
        let vote = Vote {
            leader: id,
            zxid: candidate.last_logged.0 as i64,
            election_epoch: 0,
            peer_epoch: candidate.current_epoch.into(),
        };
        Election { id, state: PeerState::Looking, current_vote: vote, decision: None }
    }

    /// LOOKING begins (again): a new round.
    pub fn start(&mut self, now: Now, candidate: Candidate, configs: &Configurations, out: &mut Vec<Output>) {
        let _ = (now, candidate, configs, out, self.id);
        self.state = PeerState::Looking;
    }

    /// In every state. `from` may be this server itself never: own notifications are not sent out.
    pub fn on_notification(
        &mut self,
        now: Now,
        from: ServerId,
        notification: &Notification,
        configs: &Configurations,
        out: &mut Vec<Output>,
    ) {
        let _ = (now, from, notification, configs, out);
    }

    pub fn on_tick(&mut self, now: Now, configs: &Configurations, out: &mut Vec<Output>) {
        let _ = (now, configs, out);
    }

    /// When `on_tick` is due at the latest.
    pub fn wake_us(&self) -> Option<u64> {
        None
    }

    /// How the election ended, once. The state is then LEADING, FOLLOWING or OBSERVING already.
    pub fn take_decision(&mut self) -> Option<Decision> {
        self.decision.take()
    }

    /// The role begins without an election: a leader was designated (hand-over, reconfiguration).
    pub fn designated(&mut self, leader: ServerId, zxid: Zxid, state: PeerState) {
        self.current_vote = Vote { leader, zxid: zxid.0 as i64, ..self.current_vote };
        self.state = state;
        self.decision = None;
    }

    /// The leader of this epoch is established and followed: joiners are told so. Java: `updateElectionVote`.
    pub fn epoch_established(&mut self, epoch: u32) {
        self.current_vote.peer_epoch = epoch.into();
    }

    pub fn current_vote(&self) -> Vote {
        self.current_vote
    }

    pub fn state(&self) -> PeerState {
        self.state
    }
}
