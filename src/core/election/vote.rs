//! A vote and its order.

use crate::core::types::ServerId;

/// What a server votes for. Signed, as Java compares them: an observer's numbers are the lowest there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    pub leader: ServerId,
    pub zxid: i64,
    pub election_epoch: i64,
    pub peer_epoch: i64,
}

impl Vote {
    /// The more recent history wins, then the larger id. Java: `totalOrderPredicate`.
    pub fn beats(&self, other: &Vote) -> bool {
        (self.peer_epoch, self.zxid, self.leader) > (other.peer_epoch, other.zxid, other.leader)
    }
}
