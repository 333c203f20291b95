//! What electors say to each other on the election port: notifications, and how a connection introduces itself.
//! Java: `QuorumCnxManager`, `FastLeaderElection`. Spec: quorum-protocol 3.2, 3.3, 4.2.

use bytes::Bytes;

/// What a server is doing. Java: `QuorumPeer.ServerState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    Looking,
    Following,
    Leading,
    Observing,
}

/// A vote and who is casting it. Numbers as on the wire: an observer votes for nobody, with the lowest number each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    pub state: PeerState,
    /// The proposed or followed leader.
    pub leader: i64,
    pub zxid: i64,
    pub election_epoch: i64,
    pub peer_epoch: i64,
    /// Format: 2 now. 0 in old forms without a version.
    pub version: i32,
    /// The sender's configuration in force, as text; empty where the form has none.
    pub config: Bytes,
}
