//! Choosing an epoch: above every epoch that a quorum has accepted, and accepted by a quorum of which nobody is ahead.
//!
//! Two leaders never have the same one: a server promises an epoch once (acceptedEpoch, durable, before it says so), and two
//! quorums have a server in common. Where a configuration is proposed and may be in force, its quorum is asked too, unlike in
//! Java (D-067): what it alone decided about may be known to nobody in the old one. Java: `Leader.getEpochToPropose`, `waitForEpochAck`. Spec: quorum-protocol 6.3.

use ringkeeper_storage::probe::broken;

use super::ballot::{Ballot, Votes};
use crate::core::types::{Epochs, Zxid};

/// What a learner knows that a quorum must have known, for people.
pub const FORGOTTEN: &str = "those who elected the leader have lost what they had, and what is left is not given up for that. To go \
                             on with it, stop them all and give each a copy of it; to go on without, let the one that has it start \
                             on an empty disk";

/// What a server's history is worth in an election. Java: `StateSummary`. None: it may have lost something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Summary {
    pub current_epoch: u32,
    pub last: Option<Zxid>,
}

#[derive(Debug)]
pub struct EpochChoice {
    own: Summary,
    /// The highest epoch that anybody heard of has accepted.
    accepted: u32,
    connecting: Votes,
    electing: Votes,
}

impl EpochChoice {
    /// This server is the first to connect to itself.
    pub fn new(own_vote: Votes, epochs: Epochs, last: Zxid) -> EpochChoice {
        let own = Summary { current_epoch: epochs.current, last: Some(last) };
        EpochChoice { own, accepted: epochs.accepted, connecting: own_vote, electing: own_vote }
    }

    /// Somebody wants to follow, and has accepted this epoch before.
    pub fn connected(&mut self, vote: Votes, accepted: u32) {
        self.accepted = self.accepted.max(accepted);
        self.connecting.add(vote);
    }

    /// As soon as a quorum is there: the epoch to propose.
    pub fn proposal(&self, ballot: &Ballot) -> Option<u32> {
        let stale = broken("leader: propose an epoch that is not new");
        ballot.is_quorum(self.connecting).then(|| self.next() - u32::from(stale && self.accepted > 0))
    }

    /// Above every epoch heard of.
    pub fn next(&self) -> u32 {
        self.accepted + 1
    }

    /// Whether this server was in this epoch, or in a later one, before.
    pub fn began_in(&self, epoch: u32) -> bool {
        epoch <= self.own.current_epoch
    }

    /// The highest epoch that anybody heard of has accepted.
    pub fn accepted(&self) -> u32 {
        self.accepted
    }

    /// A server has accepted the epoch. False: it has more than this leader, which must not lead it.
    pub fn accepted_by(&mut self, vote: Votes, summary: Summary) -> bool {
        if summary > self.own && !broken("leader: lead those that are ahead") {
            return false;
        }
        if summary.last.is_some() || broken("those that may have lost something count") {
            self.electing.add(vote);
        }
        true
    }

    pub fn is_accepted(&self, ballot: &Ballot) -> bool {
        ballot.is_quorum(self.electing)
    }
}
