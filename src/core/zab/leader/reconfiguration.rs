//! The leader's part in changing the membership: who has to be asked, from which proposal on; what comes in force, and who leads
//! then. The story, and why it is safe, in `zab/reconfiguration.rs`.
//!
//!   proposed: both decide --its quorums have it--> in force: COMMITANDACTIVATE --> leads on, or follows whom it designated

use bytes::Bytes;
use ringkeeper_storage::probe::{broken, mark};

use super::{Leader, LeaderEvent, Phase};
use crate::core::types::{Output, ServerId, Zxid};
use crate::core::zab::ballot::Votes;
use crate::core::zab::learner_handler::Handler;
use crate::core::zab::membership::Membership;
use crate::core::zab::reconfiguration::{designated, leads_on};
use crate::wire::ErrorCode;
use crate::wire::quorum::Packet;

impl Leader {
    /// Whether a quorum of these is here, in step with this server. Java: `isQuorumSynced`. A server that the last change made an
    /// observer may still be here as the follower it was: it is about to leave, and acknowledges nothing when it is back.
    pub fn may_reconfigure(&self, next: &Membership) -> Result<(), ErrorCode> {
        let is_here = |id: ServerId| {
            let in_step = |handler: &Handler| {
                handler.id == Some(id)
                    && !handler.observer
                    && handler.has_synchronised()
                    && handler.is_alive(self.now_us)
            };
            let stays = !self.configs.committed.is_observer(id);
            id == self.id || (stays && self.handlers.values().any(in_step))
        };
        if !next.has_quorum(is_here) {
            return Err(ErrorCode::NewConfigNoQuorum);
        }
        let mut configs = self.configs.clone();
        configs.see(next);
        self.proposals.ballot().after(&configs).map(|_| ()).ok_or(ErrorCode::BadArguments)
    }

    /// The next proposal is for this configuration: it and all behind it need a quorum of both.
    pub fn reconfigure(&mut self, next: &Membership) {
        mark("leader: another configuration is proposed");
        let is_newer = self.configs.see(next);
        assert!(is_newer && next.version == self.next_zxid().0, "a configuration is proposed with its own zxid");
        self.ask_others(self.next_zxid());
    }

    /// The configurations have changed: who decides from this proposal on.
    fn ask_others(&mut self, from: Zxid) {
        let ballot = self.proposals.ballot().after(&self.configs).expect("looked at before it was proposed");
        self.own_vote = ballot.vote_of(self.id);
        self.proposals.set_ballot(ballot, self.own_vote, from);
        let votes: Vec<Votes> = self.handlers.values().map(|handler| self.vote_of(handler)).collect();
        for (handler, vote) in self.handlers.values_mut().zip(votes) {
            handler.vote = vote;
        }
    }

    fn vote_of(&self, handler: &Handler) -> Votes {
        handler.id.map_or(Votes::NONE, |id| self.vote_for(id, handler.observer))
    }

    /// What the word of a learner counts for: nothing, unless it is a voter of a configuration that decides, and behaves like one.
    /// An observer that is to be a voter, once the proposed configuration is in force, promises epochs and takes histories as
    /// voters do: without it a new leader could not complete what the old one had proposed. (It acknowledges no proposals.)
    pub(super) fn vote_for(&self, id: ServerId, observer: bool) -> Votes {
        let ballot = self.proposals.ballot();
        let votes = !observer || !self.configs.committed.is_voter(id) || broken("leader: observers count");
        let vote = if votes { ballot.vote_of(id) } else { Votes::NONE };
        let counted = ballot.counts(vote) || broken("leader: observers count");
        if counted { vote } else { Votes::NONE }
    }

    /// A quorum of both has the change: it is in force, and its leader is this server or another one. Then nothing more is
    /// committed here: it may be cut off there.
    pub(super) fn commit_reconfiguration(&mut self, zxid: Zxid, txn: Bytes, out: &mut Vec<Output>) {
        let next = self.next_leader(zxid);
        for handler in self.handlers.values_mut().filter(|handler| handler.forwarding) {
            let leader = next.0;
            let packet = match handler.observer {
                true => Packet::InformAndActivate { zxid, leader, txn: txn.clone() },
                false => Packet::CommitAndActivate { zxid, leader },
            };
            handler.forward(packet, out);
        }
        self.activate_last_seen();
        if next != self.id {
            mark("leader: the new configuration has another leader");
            // Its client is to hear that it is committed, and its followers too: links end behind what was sent on them.
            let events = std::mem::take(&mut self.events);
            self.end(out);
            self.events = events;
            self.events.push_back(LeaderEvent::HandedOver { leader: next });
        }
    }

    fn next_leader(&self, zxid: Zxid) -> ServerId {
        if leads_on(&self.configs.committed, &self.configs.last_seen, self.id) {
            return self.id;
        }
        let ballot = self.proposals.ballot();
        let acked: Vec<Vec<ServerId>> =
            self.proposals.votes_from(zxid).into_iter().map(|votes| ballot.servers_of(votes)).collect();
        designated(&self.configs.last_seen, &acked).unwrap_or(self.id)
    }

    fn activate_last_seen(&mut self) {
        let config = self.configs.last_seen.clone();
        if self.configs.activate(&config).is_some() {
            // What waits behind it was proposed with it in sight: its quorum is enough now.
            self.ask_others(Zxid::ZERO);
            self.events.push_back(LeaderEvent::ConfigActivated { config: Box::new(config) });
        }
    }

    /// The epoch is chosen: a configuration that was never established gets its name from it.
    pub(super) fn name_configuration(&mut self) {
        if self.reconfigures && self.configs.last_seen.version == 0 {
            self.configs.last_seen.version = Zxid::new(self.epoch, 0).0;
            let config = Box::new(self.configs.last_seen.clone());
            self.events.push_back(LeaderEvent::ConfigSeen { config });
        }
    }

    /// A quorum of both has the history of this epoch, and with it the configuration that was proposed last: it is in force.
    /// False: this server does not lead in it.
    pub(super) fn activate_with_epoch(&mut self) -> bool {
        let before = self.configs.committed.clone();
        if !self.configs.is_changing() {
            return true;
        }
        if self.configs.last_seen.version != Zxid::new(self.epoch, 0).0 {
            mark("leader: a change of an earlier epoch is completed");
        }
        self.activate_last_seen();
        leads_on(&before, &self.configs.committed, self.id)
    }

    /// What NEWLEADER says: what is in force with the UPTODATE that follows it. With a change under way in this epoch that is
    /// still the old one (Java says the new one, and activates what may never be committed: D-066).
    pub(super) fn config_of_epoch(&self) -> Bytes {
        let config = match self.phase {
            Phase::Synchronising => &self.configs.last_seen,
            _ => &self.configs.committed,
        };
        Bytes::from(config.to_text())
    }
}
