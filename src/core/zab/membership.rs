//! Who belongs to an ensemble and who decides in it: the servers of a configuration, their roles, addresses and weights, and
//! its text. Java: `QuorumMaj`, `QuorumHierarchical`, `QuorumPeer.QuorumServer`. Spec: quorum-protocol 2.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::types::ServerId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberRole {
    Participant,
    Observer,
}

/// One of the places where a server can be reached by its peers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerAddress {
    pub host: String,
    pub quorum_port: u16,
    pub election_port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub role: MemberRole,
    /// At least one.
    pub addresses: Vec<PeerAddress>,
    /// `host:port` for clients, if the server line has it.
    pub client: Option<String>,
}

/// What makes a set of voters a quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuorumKind {
    Majority,
    /// More than half of the groups, each with more than half of its weight.
    Hierarchical {
        groups: BTreeMap<i64, BTreeSet<ServerId>>,
        weights: BTreeMap<ServerId, u64>,
    },
}

/// One configuration of an ensemble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The zxid that established it; 0: never established.
    pub version: u64,
    pub members: BTreeMap<ServerId, Member>,
    pub kind: QuorumKind,
}

/// The configuration in force and the last proposed one (Java: `quorumVerifier`, `lastSeenQuorumVerifier`). The same unless a
/// reconfiguration is under way: then both decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configurations {
    pub committed: Membership,
    pub last_seen: Membership,
}

impl Membership {
    /// Equal voters 1..=`voters`, then `observers`, on made-up addresses: for simulations and tests.
    pub fn of(voters: i64, observers: i64) -> Membership {
        let member = |id: i64| {
            let role = if id <= voters { MemberRole::Participant } else { MemberRole::Observer };
            let address = PeerAddress { host: format!("10.0.0.{id}"), quorum_port: 2888, election_port: 3888 };
            (ServerId(id), Member { role, addresses: vec![address], client: None })
        };
        Membership { version: 0, members: (1..=voters + observers).map(member).collect(), kind: QuorumKind::Majority }
    }

    pub fn is_voter(&self, id: ServerId) -> bool {
        self.members.get(&id).is_some_and(|member| member.role == MemberRole::Participant)
    }

    pub fn voters(&self) -> impl Iterator<Item = ServerId> {
        self.members.iter().filter(|(_, member)| member.role == MemberRole::Participant).map(|(id, _)| *id)
    }

    /// Java: `containsQuorum`. Members of the set that do not vote count for nothing.
    pub fn has_quorum(&self, in_favour: impl Fn(ServerId) -> bool) -> bool {
        match &self.kind {
            QuorumKind::Majority => {
                let votes = self.voters().filter(|id| in_favour(*id)).count();
                votes > self.voters().count() / 2
            }
            QuorumKind::Hierarchical { groups, weights } => {
                let weight = |id: &ServerId| if self.is_voter(*id) { *weights.get(id).unwrap_or(&1) } else { 0 };
                let (mut counted, mut won) = (0, 0);
                for group in groups.values() {
                    let all: u64 = group.iter().map(weight).sum();
                    let ours: u64 = group.iter().filter(|id| in_favour(**id)).map(weight).sum();
                    counted += u64::from(all > 0);
                    won += u64::from(all > 0 && ours > all / 2);
                }
                won > counted / 2
            }
        }
    }
}

impl Configurations {
    /// One configuration, in force and nothing proposed.
    pub fn settled(membership: Membership) -> Configurations {
        Configurations { last_seen: membership.clone(), committed: membership }
    }

    /// Whether the proposed configuration decides too.
    pub fn is_changing(&self) -> bool {
        self.last_seen.version > self.committed.version
    }

    pub fn is_voter(&self, id: ServerId) -> bool {
        self.committed.is_voter(id) || self.last_seen.is_voter(id)
    }

    /// A quorum of each configuration that decides. Java: `SyncedLearnerTracker.hasAllQuorums`.
    pub fn has_all_quorums(&self, in_favour: impl Fn(ServerId) -> bool) -> bool {
        self.committed.has_quorum(&in_favour) && (!self.is_changing() || self.last_seen.has_quorum(&in_favour))
    }
}
