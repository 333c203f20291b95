//! Who belongs to an ensemble and who decides in it: the servers of a configuration, their roles, addresses and weights, and
//! its text. Java: `QuorumMaj`, `QuorumHierarchical`, `QuorumPeer.QuorumServer`. Spec: quorum-protocol 2.

pub mod files;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use crate::core::types::ServerId;
pub use crate::wire::server_line::{Address as PeerAddress, Member, Role as MemberRole};
pub use text::MembershipError;

/// What makes a set of voters a quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuorumKind {
    Majority,
    /// More than half of the groups, each with more than half of its weight; a group without weight does not count. Every
    /// participant is in one group; whose weight is not told has 1.
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
            (ServerId(id), Member { id, role, addresses: vec![address], client: None })
        };
        Membership { version: 0, members: (1..=voters + observers).map(member).collect(), kind: QuorumKind::Majority }
    }

    pub fn is_voter(&self, id: ServerId) -> bool {
        self.members.get(&id).is_some_and(|member| member.role == MemberRole::Participant)
    }

    pub fn voters(&self) -> impl Iterator<Item = ServerId> {
        self.members.iter().filter(|(_, member)| member.role == MemberRole::Participant).map(|(id, _)| *id)
    }

    /// Who has none never leads. Java: `getWeight`.
    pub fn weight(&self, id: ServerId) -> u64 {
        match &self.kind {
            _ if !self.is_voter(id) => 0,
            QuorumKind::Majority => 1,
            QuorumKind::Hierarchical { weights, .. } => weights.get(&id).copied().unwrap_or(1),
        }
    }

    /// Whether two servers that have these configurations agree: of the same kind, and established by the same transaction or
    /// of the same content. Java: `equals` of `QuorumMaj`, `QuorumHierarchical`, `QuorumServer`.
    pub fn agrees_with(&self, other: &Membership) -> bool {
        let same_kind = matches!(
            (&self.kind, &other.kind),
            (QuorumKind::Majority, QuorumKind::Majority)
                | (QuorumKind::Hierarchical { .. }, QuorumKind::Hierarchical { .. })
        );
        let same_member = |(id, member): (&ServerId, &Member)| {
            // One form for each: the order of addresses says nothing.
            other.members.get(id).is_some_and(|theirs| theirs.value() == member.value())
        };
        let same_content = self.kind == other.kind
            && self.members.len() == other.members.len()
            && self.members.iter().all(same_member);
        same_kind && (self.version == other.version || same_content)
    }

    /// Java: `containsQuorum`. Members of the set that do not vote count for nothing.
    pub fn has_quorum(&self, in_favour: impl Fn(ServerId) -> bool) -> bool {
        match &self.kind {
            QuorumKind::Majority => {
                let votes = self.voters().filter(|id| in_favour(*id)).count();
                votes > self.voters().count() / 2
            }
            QuorumKind::Hierarchical { groups, .. } => {
                let weight = |id: &ServerId| self.weight(*id);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Groups of servers with their weights, numbered from 1 on.
    fn hierarchy(groups: &[&[u64]]) -> Membership {
        let servers = groups.iter().map(|group| group.len()).sum::<usize>() as i64;
        let (mut of_groups, mut of_weights, mut next) = (BTreeMap::new(), BTreeMap::new(), 1);
        for (group, members) in (1..).zip(groups) {
            for weight in *members {
                of_groups.entry(group).or_insert_with(BTreeSet::new).insert(ServerId(next));
                of_weights.insert(ServerId(next), *weight);
                next += 1;
            }
        }
        let kind = QuorumKind::Hierarchical { groups: of_groups, weights: of_weights };
        Membership { kind, ..Membership::of(servers, 0) }
    }

    fn decides(membership: &Membership, in_favour: &[i64]) -> bool {
        membership.has_quorum(|id| in_favour.contains(&id.0))
    }

    #[test]
    fn a_majority_of_voters_decides_and_observers_do_not_count() {
        for (voters, observers, fewest) in [(1, 0, 1), (2, 0, 2), (3, 2, 2), (4, 0, 3), (5, 3, 3), (7, 0, 4)] {
            let membership = Membership::of(voters, observers);
            for count in 0..=voters {
                let mut in_favour: Vec<i64> = (1..=count).collect();
                in_favour.extend(voters + 1..=voters + observers + 9); // observers, and strangers
                assert_eq!(decides(&membership, &in_favour), count >= fewest, "{count} of {voters}");
            }
        }
    }

    #[test]
    fn groups_decide_by_more_than_half_of_their_weight() {
        let three_by_three = hierarchy(&[&[1, 1, 1], &[1, 1, 1], &[1, 1, 1]]);
        assert!(decides(&three_by_three, &[1, 2, 4, 5]), "two of three groups, with two of three each");
        assert!(!decides(&three_by_three, &[1, 2, 3, 4, 7]), "five of nine, but one group only");
        assert!(!decides(&three_by_three, &[]));
        let weighted = hierarchy(&[&[3, 1, 1], &[1, 1, 0]]);
        assert!(decides(&weighted, &[1, 4, 5]), "3 of 5, and 2 of 2");
        assert!(!decides(&weighted, &[2, 3, 4, 5]), "2 of 5");
        assert!(!decides(&weighted, &[1, 4]), "half of a group is not more than half");
        assert_eq!(
            (weighted.weight(ServerId(1)), weighted.weight(ServerId(6)), weighted.weight(ServerId(9))),
            (3, 0, 0)
        );
        let with_spare = hierarchy(&[&[1], &[0, 0], &[0]]);
        assert!(decides(&with_spare, &[1]), "groups without weight do not count");
        assert!(!decides(&with_spare, &[2, 3, 4]));
    }

    /// Any two quorums have a server in common: without that nothing here is safe.
    #[test]
    fn any_two_quorums_meet() {
        let shapes: [&[&[u64]]; 6] = [
            &[&[1, 1, 1], &[1, 1, 1], &[1, 1]],
            &[&[2, 1, 1], &[0, 0], &[1, 1, 1]],
            &[&[1, 2, 3, 4], &[1, 1]],
            &[&[1], &[1], &[1], &[5, 5]],
            &[&[1, 1, 1, 1], &[1, 1, 1, 1]],
            &[&[7]],
        ];
        for shape in shapes {
            let membership = hierarchy(shape);
            let servers = membership.members.len();
            let quorums: Vec<u32> =
                (0..1 << servers).filter(|set| membership.has_quorum(|id| set & (1 << (id.0 - 1)) != 0)).collect();
            assert!(!quorums.is_empty(), "{shape:?}");
            for a in &quorums {
                assert!(quorums.iter().all(|b| a & b != 0), "{shape:?}: {a:b}");
            }
        }
    }

    #[test]
    fn while_a_configuration_changes_both_decide() {
        let mut configurations = Configurations::settled(Membership::of(3, 0));
        assert!(configurations.has_all_quorums(|id| id.0 <= 2));
        configurations.last_seen = Membership { version: 7, ..Membership::of(5, 0) };
        assert!(!configurations.has_all_quorums(|id| id.0 <= 2));
        assert!(configurations.has_all_quorums(|id| id.0 <= 3));
        assert!(!configurations.has_all_quorums(|id| id.0 >= 3));
    }

    #[test]
    fn configurations_agree_by_version_or_by_content() {
        let ours = Membership { version: 3, ..Membership::of(3, 1) };
        assert!(ours.agrees_with(&Membership { version: 4, ..ours.clone() }));
        assert!(ours.agrees_with(&Membership { version: 3, ..Membership::of(5, 0) }), "one transaction, one content");
        let changes: [fn(&mut Membership); 5] = [
            |other| drop(other.members.pop_last()),
            |other| other.members.get_mut(&ServerId(2)).unwrap().addresses[0].election_port = 1,
            |other| other.members.get_mut(&ServerId(2)).unwrap().client = Some(("h".to_owned(), 1)),
            |other| other.members.get_mut(&ServerId(2)).unwrap().role = MemberRole::Observer,
            |other| other.kind = hierarchy(&[&[1, 1, 1]]).kind,
        ];
        for (which, change) in changes.iter().enumerate() {
            let mut other = Membership { version: 4, ..ours.clone() };
            change(&mut other);
            assert!(!ours.agrees_with(&other) && !other.agrees_with(&ours), "{which}");
        }
        let of_kind = Membership { version: 3, ..hierarchy(&[&[1, 1, 1]]) };
        assert!(!ours.agrees_with(&of_kind), "of another kind");
        assert!(!of_kind.agrees_with(&Membership { version: 4, ..hierarchy(&[&[1, 2, 1]]) }), "other weights");
        let (mut a, mut b) = (ours.clone(), Membership { version: 4, ..ours });
        let second = |host: &str| PeerAddress { host: host.to_owned(), quorum_port: 1, election_port: 2 };
        for (membership, order) in [(&mut a, ["x", "y"]), (&mut b, ["y", "x"])] {
            membership.members.get_mut(&ServerId(1)).unwrap().addresses = order.map(second).to_vec();
        }
        assert!(a.agrees_with(&b), "the order of addresses says nothing");
    }
}
