//! Who has voted, as bits; and whether that is enough. A rule is compiled once a configuration, so that counting a proposal's
//! acks is a mask and a popcount. What a quorum is, `membership.rs` says: a test holds the two together.

use super::membership::{Configurations, Membership, QuorumKind};
use crate::core::types::ServerId;
use ringkeeper_storage::probe::broken;

/// Servers of a ballot that are in favour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Votes(u128);

impl Votes {
    pub const NONE: Votes = Votes(0);

    pub fn with(self, other: Votes) -> Votes {
        Votes(self.0 | other.0)
    }

    pub fn without(self, other: Votes) -> Votes {
        Votes(self.0 & !other.0)
    }

    pub fn add(&mut self, other: Votes) {
        *self = self.with(other);
    }

    pub fn remove(&mut self, other: Votes) {
        *self = self.without(other);
    }

    pub fn contains(self, other: Votes) -> bool {
        self.0 & other.0 == other.0
    }

    fn among(self, voters: u128) -> u32 {
        (self.0 & voters).count_ones()
    }
}

/// The most servers, over the configurations that decide, whose votes can be told apart.
const SERVERS_MAX: usize = 128;

#[derive(Debug)]
enum Rule {
    Majority { voters: u128, needed: u32 },
    Hierarchical(Vec<Group>),
}

/// Voters with their weights; what they weigh together, halved: more than this is needed.
#[derive(Debug)]
struct Group {
    members: Vec<(u128, u64)>,
    half: u64,
}

/// Everybody who decides. Java: `SyncedLearnerTracker` makes one for each proposal.
#[derive(Debug)]
pub struct Ballot {
    /// A server's place is its bit.
    servers: Vec<ServerId>,
    committed: Rule,
    /// Of a reconfiguration that is under way: then both decide.
    last_seen: Option<Rule>,
}

impl Ballot {
    /// # Panics
    /// With more servers than there are bits: nobody runs an ensemble of that size.
    pub fn new(configs: &Configurations) -> Ballot {
        let nobody =
            Ballot { servers: Vec::new(), committed: Rule::Majority { voters: 0, needed: 1 }, last_seen: None };
        let servers = configs.members().len();
        nobody.after(configs).unwrap_or_else(|| panic!("an ensemble of {servers} servers: at most {SERVERS_MAX}"))
    }

    /// The same servers and whoever is new, under these configurations: votes keep their meaning. None: in all these changes
    /// there were more servers than there are bits.
    pub fn after(&self, configs: &Configurations) -> Option<Ballot> {
        let mut servers = self.servers.clone();
        servers.extend(configs.members().keys().filter(|id| !self.servers.contains(id)));
        if servers.len() > SERVERS_MAX {
            return None;
        }
        let mut ballot = Ballot { servers, committed: Rule::Majority { voters: 0, needed: 1 }, last_seen: None };
        ballot.committed = ballot.rule(&configs.committed);
        ballot.last_seen = configs.is_changing().then(|| ballot.rule(&configs.last_seen));
        Some(ballot)
    }

    /// The only voter there is.
    pub fn alone(id: ServerId) -> Ballot {
        Ballot { servers: vec![id], committed: Rule::Majority { voters: 1, needed: 1 }, last_seen: None }
    }

    /// None of them for a server that belongs to no configuration.
    pub fn vote_of(&self, id: ServerId) -> Votes {
        self.servers.iter().position(|known| *known == id).map_or(Votes::NONE, |place| Votes(1 << place))
    }

    /// Whether the vote counts in a configuration that decides.
    pub fn counts(&self, vote: Votes) -> bool {
        [Some(&self.committed), self.last_seen.as_ref()].into_iter().flatten().any(|rule| rule.counts(vote))
    }

    /// Whose votes these are.
    pub fn servers_of(&self, votes: Votes) -> Vec<ServerId> {
        self.servers.iter().copied().filter(|id| votes.contains(self.vote_of(*id))).collect()
    }

    /// A quorum of the configuration in force: for what was proposed before the next one was.
    pub fn is_quorum_in_force(&self, votes: Votes) -> bool {
        self.committed.is_quorum(votes)
    }

    /// A quorum of each configuration that decides. Java: `hasAllQuorums`.
    pub fn is_quorum(&self, votes: Votes) -> bool {
        let proposed = self.last_seen.as_ref().filter(|_| !broken("reconfiguration: the proposed one is not asked"));
        let in_force = self.committed.is_quorum(votes)
            || self.last_seen.is_some() && broken("reconfiguration: the old one is forgotten at once");
        in_force && proposed.is_none_or(|rule| rule.is_quorum(votes))
    }

    fn rule(&self, membership: &Membership) -> Rule {
        let bit = |id: &ServerId| if membership.is_voter(*id) { self.vote_of(*id).0 } else { 0 };
        match &membership.kind {
            QuorumKind::Majority => {
                let voters = membership.members.keys().fold(0, |voters, id| voters | bit(id));
                Rule::Majority { voters, needed: voters.count_ones() / 2 + 1 }
            }
            QuorumKind::Hierarchical { groups, .. } => {
                let group = |ids: &std::collections::BTreeSet<ServerId>| {
                    let weighed = ids.iter().map(|id| (bit(id), membership.weight(*id)));
                    let members: Vec<(u128, u64)> = weighed.filter(|(_, weight)| *weight > 0).collect();
                    Group { half: members.iter().map(|(_, weight)| weight).sum::<u64>() / 2, members }
                };
                // Groups that weigh nothing are not counted.
                Rule::Hierarchical(groups.values().map(group).filter(|group| !group.members.is_empty()).collect())
            }
        }
    }
}

impl Rule {
    fn counts(&self, vote: Votes) -> bool {
        match self {
            Rule::Majority { voters, .. } => vote.among(*voters) > 0,
            Rule::Hierarchical(groups) => {
                groups.iter().flat_map(|group| &group.members).any(|(bit, _)| vote.among(*bit) > 0)
            }
        }
    }

    fn is_quorum(&self, votes: Votes) -> bool {
        match self {
            Rule::Majority { needed, .. } if broken("leader: observers count") => votes.0.count_ones() >= *needed,
            Rule::Majority { voters, needed } => votes.among(*voters) >= *needed,
            Rule::Hierarchical(groups) => {
                let won = |group: &&Group| {
                    let ours = group.members.iter().filter(|(bit, _)| votes.among(*bit) > 0);
                    ours.map(|(_, weight)| weight).sum::<u64>() > group.half
                };
                groups.iter().filter(won).count() > groups.len() / 2
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn votes(ballot: &Ballot, ids: &[i64]) -> Votes {
        ids.iter().fold(Votes::NONE, |votes, id| votes.with(ballot.vote_of(ServerId(*id))))
    }

    /// Every set of servers 1..=8: the compiled rule says what the configurations say.
    fn agrees(configs: &Configurations) {
        let ballot = Ballot::new(configs);
        for set in 0..256u32 {
            let in_favour = |id: ServerId| (1..=8).contains(&id.0) && set >> (id.0 - 1) & 1 == 1;
            let ids: Vec<i64> = (1..=8).filter(|id| in_favour(ServerId(*id))).collect();
            let votes = votes(&ballot, &ids);
            assert_eq!(ballot.is_quorum(votes), configs.has_all_quorums(in_favour), "{ids:?} in {configs:?}");
            assert_eq!(ballot.is_quorum_in_force(votes), configs.committed.has_quorum(in_favour), "{ids:?}");
        }
    }

    #[test]
    fn a_compiled_rule_decides_as_its_configuration() {
        for voters in 1..=7 {
            agrees(&Configurations::settled(Membership::of(voters, 1)));
        }
        let changing = |before, mut after: Membership| {
            after.version = 7;
            Configurations { committed: before, last_seen: after }
        };
        agrees(&changing(Membership::of(3, 2), Membership::of(5, 0)));
        agrees(&changing(Membership::of(5, 0), Membership::of(3, 2)));
        let mut grouped = Membership::of(8, 0);
        let group = |ids: &[i64]| ids.iter().map(|id| ServerId(*id)).collect::<BTreeSet<ServerId>>();
        grouped.kind = QuorumKind::Hierarchical {
            groups: BTreeMap::from([
                (1, group(&[1, 2, 3])),
                (2, group(&[4, 5])),
                (3, group(&[6])),
                (4, group(&[7, 8])),
            ]),
            weights: (1..=8).map(|id| (ServerId(id), [1, 5, 1, 1, 1, 0, 2, 1][id as usize - 1])).collect(),
        };
        agrees(&Configurations::settled(grouped.clone()));
        agrees(&changing(Membership::of(3, 0), grouped));
    }

    #[test]
    fn votes_keep_their_meaning_when_servers_come_and_go() {
        let mut configs = Configurations::settled(Membership::of(3, 0));
        let before = Ballot::new(&configs);
        configs.last_seen = Membership { version: 7, ..Membership::of(6, 0) };
        configs.last_seen.members.retain(|id, _| id.0 != 2);
        let during = before.after(&configs).unwrap();
        assert_eq!(votes(&before, &[1, 2, 3]), votes(&during, &[1, 2, 3]));
        assert!(during.is_quorum_in_force(votes(&before, &[1, 2])) && !during.is_quorum(votes(&during, &[1, 2, 3])));
        assert!(during.is_quorum(votes(&during, &[1, 3, 4])));
        configs = Configurations::settled(configs.last_seen);
        let after = during.after(&configs).unwrap();
        assert!(after.is_quorum(votes(&during, &[4, 5, 6])) && !after.is_quorum(votes(&during, &[1, 2, 3])));
        assert_eq!(after.servers_of(votes(&during, &[1, 6])), [ServerId(1), ServerId(6)]);
        configs.last_seen = Membership { version: 9, ..Membership::of(200, 0) };
        assert!(after.after(&configs).is_none());
    }

    #[test]
    fn observers_and_strangers_have_no_say() {
        let ballot = Ballot::new(&Configurations::settled(Membership::of(3, 2)));
        assert!(!ballot.is_quorum(votes(&ballot, &[1, 4, 5, 9])));
        assert!(ballot.is_quorum(votes(&ballot, &[1, 3, 4])));
        assert!(ballot.counts(votes(&ballot, &[3])));
        assert!(!ballot.counts(votes(&ballot, &[4])) && !ballot.counts(votes(&ballot, &[9])));
    }
}
