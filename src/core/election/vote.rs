//! A vote and its order.

use ringkeeper_storage::probe::broken;

use crate::core::types::ServerId;
use crate::core::zab::membership::{Configurations, QuorumKind};
use crate::wire::election::{Notification, PeerState};

/// What a server votes for. Signed, as Java compares them: an observer's numbers are the lowest there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    pub leader: ServerId,
    pub zxid: i64,
    pub election_epoch: i64,
    pub peer_epoch: i64,
}

/// The zxid of a server that may have lost something it acknowledged. Nobody counts its vote, and it counts nobody's.
pub const LOST_ZXID: i64 = -1;

impl Vote {
    /// Of a server that has no say: there is nothing it would not give up.
    pub fn of_nobody(election_epoch: i64) -> Vote {
        Vote { leader: ServerId(i64::MIN), zxid: i64::MIN, election_epoch, peer_epoch: i64::MIN }
    }

    pub fn is_of_nobody(&self) -> bool {
        self.leader == Vote::of_nobody(0).leader
    }

    /// The more recent history wins, then the larger id. Java: `totalOrderPredicate`, but for the weights.
    pub fn beats(&self, other: &Vote) -> bool {
        if broken("the longer log wins over the newer epoch") {
            return (self.zxid, self.leader) > (other.zxid, other.leader);
        }
        (self.peer_epoch, self.zxid, self.leader) > (other.peer_epoch, other.zxid, other.leader)
    }
}

/// A vote as it was cast.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cast {
    pub vote: Vote,
    pub state: PeerState,
    /// Format of the notification it came with.
    pub version: i32,
}

impl From<&Notification> for Cast {
    fn from(notification: &Notification) -> Cast {
        let vote = Vote {
            leader: ServerId(notification.leader),
            zxid: notification.zxid,
            election_epoch: notification.election_epoch,
            peer_epoch: notification.peer_epoch,
        };
        Cast { vote, state: notification.state, version: notification.version }
    }
}

impl Cast {
    /// Our own, while we are looking.
    pub fn looking(vote: Vote) -> Cast {
        Cast { vote, state: PeerState::Looking, version: 0 }
    }

    /// Whether two votes support the same leader. While one of them is still looking everything has to agree. Among settled
    /// servers the zxid and the round rightly differ: a late joiner has them from whomever it asked. Java: `Vote.equals`.
    pub fn agrees(&self, other: &Cast) -> bool {
        let looking = |cast: &Cast| cast.state == PeerState::Looking;
        if looking(self) || looking(other) {
            return self.vote == other.vote;
        }
        // Old formats say nothing reliable about the epoch.
        let same_kind = (self.version > 0) == (other.version > 0);
        self.vote.leader == other.vote.leader && (!same_kind || self.vote.peer_epoch == other.vote.peer_epoch)
    }
}

/// Whether anybody may be elected: a voter without weight may vote for others only. Of a server that is only proposed as a
/// voter, a hierarchy knows no weight yet.
pub(super) fn may_lead(candidate: ServerId, configs: &Configurations) -> bool {
    match configs.committed.kind {
        QuorumKind::Majority => true,
        QuorumKind::Hierarchical { .. } => configs.committed.weight(candidate) > 0,
    }
}
