//! What a learner and its master say to each other on the quorum port: packets without an outer length.
//!
//! [`Packet`] is one packet with its meaning; what follows a `Snap` on the same connection is not packets but the snapshot
//! itself. Strings of peers stay bytes: what a Java server logged is passed on as it is. Java: `QuorumPacket`,
//! `LearnerInfo`, `Learner`, `LearnerHandler`. Spec: quorum-protocol 5, 11, 12.

use bytes::Bytes;
use ringkeeper_storage::Zxid;

/// What a learner of Java's says it speaks, and what a leader of Java's answers.
pub const PROTOCOL_JAVA: i32 = 0x10000;

/// The same with "RK": a Java peer only asks whether it is at least its own. Both ends say so: the packets of the second
/// part of [`Packet`] may be used.
pub const PROTOCOL_RINGKEEPER: i32 = 0x1524B;

/// An identity that a client has proved to the learner that forwards its request. Java: `Id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    pub scheme: Option<Bytes>,
    pub id: Option<Bytes>,
}

/// A client's request on its way to the leader. Spec: 11.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardedRequest {
    pub session: i64,
    pub cxid: i32,
    pub opcode: i32,
    /// As the client sent it, behind its header.
    pub body: Bytes,
    /// None: null on the wire (createSession).
    pub identities: Option<Vec<PeerIdentity>>,
}

/// Who wants to follow or observe. Java: `LearnerInfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearnerInfo {
    pub server: i64,
    pub protocol: i32,
    /// Version of the configuration that is in force at the learner.
    pub config_version: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// 1
    Request(ForwardedRequest),
    /// 2: header, record and digest, as logged.
    Proposal {
        zxid: Zxid,
        txn: Bytes,
    },
    /// 3: of a proposal, or of NEWLEADER with (epoch, 0).
    Ack {
        zxid: Zxid,
    },
    /// 4
    Commit {
        zxid: Zxid,
    },
    /// 5: from the leader: `touched` is None (null). From a learner: sessions heard of since the last ping and their
    /// timeouts in milliseconds, possibly none of them (empty, not null).
    Ping {
        zxid: Zxid,
        touched: Option<Vec<(i64, i32)>>,
    },
    /// 6, from a learner.
    Revalidate {
        session: i64,
        timeout_ms: i32,
    },
    /// 6, from the leader.
    Revalidated {
        session: i64,
        valid: bool,
    },
    /// 7, from the leader: the oldest forwarded `sync` may be answered.
    Sync,
    /// 8, to observers: proposal and commit in one.
    Inform {
        zxid: Zxid,
        txn: Bytes,
    },
    /// 9: commits a reconfiguration; `leader` leads from now on.
    CommitAndActivate {
        zxid: Zxid,
        leader: i64,
    },
    /// 10: the configuration's text; None only in traffic with servers before 3.4.
    NewLeader {
        zxid: Zxid,
        config: Option<Bytes>,
    },
    /// 11
    FollowerInfo {
        accepted_epoch: u32,
        info: LearnerInfo,
    },
    /// 12
    UpToDate,
    /// 13: the leader's newest transaction.
    Diff {
        zxid: Zxid,
    },
    /// 14: what to keep.
    Trunc {
        zxid: Zxid,
    },
    /// 15: the snapshot follows.
    Snap {
        zxid: Zxid,
    },
    /// 16
    ObserverInfo {
        accepted_epoch: u32,
        info: LearnerInfo,
    },
    /// 17
    LeaderInfo {
        epoch: u32,
        protocol: i32,
    },
    /// 18: `last` None is -1: what this learner had may be lost. `current_epoch` None is -1: not an ack of the epoch, which
    /// it had accepted before.
    AckEpoch {
        last: Option<Zxid>,
        current_epoch: Option<u32>,
    },
    /// 19, to observers.
    InformAndActivate {
        zxid: Zxid,
        leader: i64,
        txn: Bytes,
    },

    // --- among ringkeeper peers only (docs/decisions/0006) ---
    /// The leader is going to count on in this epoch: promise it (acceptedEpoch durable), then answer `NextEpochAccepted`.
    NextEpoch {
        epoch: u32,
    },
    NextEpochAccepted {
        epoch: u32,
    },
    /// A quorum has promised. Everything before this is the history of the new epoch: make it durable, then currentEpoch,
    /// then answer `NextEpochAdopted`. The proposals behind this on the link are of the new epoch.
    NextEpochBegins {
        epoch: u32,
    },
    NextEpochAdopted {
        epoch: u32,
    },
    /// The leader steps back in favour of `leader`, who has everything: no election is needed to know whom to follow.
    HandOver {
        leader: i64,
    },
}
