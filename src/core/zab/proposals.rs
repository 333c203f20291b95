//! Transactions on their way to a quorum: given out once, in order; acknowledged in ranges; released in order.
//!
//! Holds always: the queue has every zxid from its first to its last; the first `committed_count` of it are committed and
//! wait to be applied; nothing behind one without a quorum is committed. Acks cost a subtraction and a popcount.
//! Java: `Leader.outstandingProposals`, `toBeApplied`, `tryToCommit`. Spec: quorum-protocol 10.2.

use std::collections::VecDeque;
use std::ops::{Range, RangeInclusive};

use bytes::Bytes;
use ringkeeper_storage::probe::broken;

use super::ballot::{Ballot, Votes};
use crate::core::types::Zxid;
use crate::wire::txn::TxnHeader;

/// A transaction on its way to a quorum.
#[derive(Debug)]
pub struct Proposal {
    pub zxid: Zxid,
    /// Header, record and digest: the bytes that are logged, proposed and, once committed, applied.
    pub txn: Bytes,
}

#[derive(Debug)]
struct InFlight {
    proposal: Proposal,
    votes: Votes,
}

#[derive(Debug)]
pub struct Proposals {
    ballot: Ballot,
    /// From this one on both configurations of the ballot decide; before it the one that was in force.
    both_from: Zxid,
    own_vote: Votes,
    queue: VecDeque<InFlight>,
    committed_count: usize,
    bytes: usize,
    proposed: Zxid,
    committed: Zxid,
    /// On this server's own disk: its vote for everything up to here.
    durable: Zxid,
}

impl Proposals {
    /// Goes on after `last`, which is durable here.
    pub fn new(ballot: Ballot, own_vote: Votes, last: Zxid) -> Proposals {
        Proposals {
            ballot,
            both_from: Zxid::ZERO,
            own_vote,
            queue: VecDeque::new(),
            committed_count: 0,
            bytes: 0,
            proposed: last,
            committed: last,
            durable: last,
        }
    }

    /// Others decide from now on: from this proposal on. Whatever votes there are keep their meaning.
    pub fn set_ballot(&mut self, ballot: Ballot, own_vote: Votes, from: Zxid) {
        (self.ballot, self.own_vote, self.both_from) = (ballot, own_vote, from);
    }

    /// Who has the proposals from this one on, each for itself.
    pub fn votes_from(&self, zxid: Zxid) -> Vec<Votes> {
        let from = self.queue.iter().filter(|in_flight| in_flight.proposal.zxid >= zxid);
        from.map(|in_flight| in_flight.votes).collect()
    }

    pub fn ballot(&self) -> &Ballot {
        &self.ballot
    }

    pub fn proposed(&self) -> Zxid {
        self.proposed
    }

    pub fn committed(&self) -> Zxid {
        self.committed
    }

    /// On this server's own disk.
    pub fn durable(&self) -> Zxid {
        self.durable
    }

    /// Those that wait to be applied included.
    pub fn in_flight(&self) -> usize {
        self.queue.len()
    }

    pub fn in_flight_bytes(&self) -> usize {
        self.bytes
    }

    /// Nothing waits for a quorum.
    pub fn is_drained(&self) -> bool {
        self.committed_count == self.queue.len()
    }

    /// Everything given out is committed, and here: the next zxid is (epoch, 1).
    pub fn begin_epoch(&mut self, epoch: u32) {
        assert!(self.queue.is_empty(), "an epoch begins with nothing in flight: {} are", self.queue.len());
        assert_eq!(self.durable, self.proposed, "an epoch begins with everything on the leader's disk");
        let begin = Zxid::new(epoch, 0);
        assert!(begin > self.proposed, "epoch {epoch} begins after {}", self.proposed);
        (self.proposed, self.committed, self.durable) = (begin, begin, begin);
    }

    pub fn push(&mut self, zxid: Zxid, txn: Bytes) {
        assert_eq!(zxid.0, self.proposed.0 + 1, "a zxid is proposed once and in order");
        self.proposed = zxid;
        self.bytes += txn.len();
        self.queue.push_back(InFlight { proposal: Proposal { zxid, txn }, votes: Votes::NONE });
    }

    /// Another leader's: committed there, and applied here.
    pub fn pass(&mut self, zxid: Zxid) {
        assert!(self.queue.is_empty() && zxid > self.committed, "{zxid} is passed on after {}", self.committed);
        (self.proposed, self.committed, self.durable) = (zxid, zxid, zxid);
    }

    /// This server's own vote: a finished disk write.
    pub fn on_durable(&mut self, through: Zxid) {
        assert!(through <= self.proposed, "{through} is durable and was never proposed; last is {}", self.proposed);
        self.durable = self.durable.max(through);
    }

    /// When those in flight of this range were made, by the clock of who made them.
    pub fn made_ms(&self, zxids: RangeInclusive<Zxid>) -> impl Iterator<Item = i64> {
        self.queue.range(self.places(&zxids)).filter_map(|in_flight| TxnHeader::time_ms_of(&in_flight.proposal.txn))
    }

    /// A vote for each of these. What is not in flight (any more) needs none.
    pub fn on_ack(&mut self, vote: Votes, zxids: RangeInclusive<Zxid>) {
        let mut places = self.places(&zxids);
        if broken("leader: an ack counts for the next one too") && !places.is_empty() {
            places.end = self.queue.len().min(places.end + 1);
        }
        self.queue.range_mut(places).for_each(|in_flight| in_flight.votes.add(vote));
    }

    /// Where those in flight of this range are.
    fn places(&self, zxids: &RangeInclusive<Zxid>) -> Range<usize> {
        let first = self.queue.front().map_or(self.proposed.0 + 1, |first| first.proposal.zxid.0);
        let place = |zxid: u64| usize::try_from(zxid.saturating_sub(first)).unwrap_or(usize::MAX).min(self.queue.len());
        let end = place(zxids.end().0.saturating_add(1));
        place(zxids.start().0).min(end)..end
    }

    /// These voters are synchronised anew: what they said they had, they may have to give up before they have it again.
    pub fn forget(&mut self, votes: Votes) {
        self.queue.iter_mut().for_each(|in_flight| in_flight.votes.remove(votes));
    }

    /// Whether anything in flight counts on this voter.
    pub fn has_vote_of(&self, vote: Votes) -> bool {
        vote != Votes::NONE && self.queue.iter().any(|in_flight| in_flight.votes.contains(vote))
    }

    /// The next one that has its quorum, and all before it: it is committed from now on.
    pub fn commit_next(&mut self) -> Option<&Proposal> {
        let in_flight = self.queue.get(self.committed_count)?;
        let own = if in_flight.proposal.zxid <= self.durable { self.own_vote } else { Votes::NONE };
        let votes = in_flight.votes.with(own);
        let minority = broken("leader: commit on a minority") && votes != Votes::NONE;
        let decided = match in_flight.proposal.zxid >= self.both_from {
            true => self.ballot.is_quorum(votes),
            false => self.ballot.is_quorum_in_force(votes),
        };
        if !decided && !minority {
            return None;
        }
        self.committed_count += 1;
        self.committed = in_flight.proposal.zxid;
        Some(&in_flight.proposal)
    }

    /// Where this server alone is the quorum, all at once: what is on its disk is committed.
    pub fn commit_durable(&mut self) {
        if let Some(first) = self.queue.front() {
            self.committed_count = (self.durable.0 + 1).saturating_sub(first.proposal.zxid.0) as usize;
            self.committed = self.committed.max(self.durable);
        }
    }

    /// The next committed one, to be applied.
    #[inline]
    pub fn pop(&mut self) -> Option<Proposal> {
        self.committed_count = self.committed_count.checked_sub(1)?;
        let InFlight { proposal, .. } = self.queue.pop_front().expect("what is committed is in the queue");
        self.bytes -= proposal.txn.len();
        Some(proposal)
    }

    /// What is in flight above `zxid`, and whether it is committed.
    pub fn above(&self, zxid: Zxid) -> impl Iterator<Item = (&Proposal, bool)> {
        let all = self.queue.iter().enumerate();
        all.map(|(place, in_flight)| (&in_flight.proposal, place < self.committed_count))
            .filter(move |(proposal, _)| proposal.zxid > zxid)
    }

    /// The role is over: everything that was logged and not applied.
    pub fn take(&mut self) -> VecDeque<Proposal> {
        self.committed_count = 0;
        self.bytes = 0;
        std::mem::take(&mut self.queue).into_iter().map(|in_flight| in_flight.proposal).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::types::ServerId;
    use crate::core::zab::membership::{Configurations, Membership};

    fn proposals(voters: i64) -> (Proposals, impl Fn(i64) -> Votes) {
        let ballot = Ballot::new(&Configurations::settled(Membership::of(voters, 0)));
        let votes: Vec<Votes> = (0..=voters).map(|id| ballot.vote_of(ServerId(id))).collect();
        let mut proposals = Proposals::new(ballot, votes[1], Zxid(0));
        proposals.begin_epoch(1);
        (proposals, move |id: i64| votes[id as usize])
    }

    fn propose(proposals: &mut Proposals, count: u32) {
        for _ in 0..count {
            proposals.push(Zxid(proposals.proposed().0 + 1), Bytes::from_static(b"txn"));
        }
    }

    fn commit(proposals: &mut Proposals) -> Vec<u32> {
        std::iter::from_fn(|| proposals.commit_next().map(|proposal| proposal.zxid.counter())).collect()
    }

    fn only(zxid: Zxid) -> RangeInclusive<Zxid> {
        zxid..=zxid
    }

    #[test]
    fn an_ack_of_many_counts_for_each_of_them() {
        let (mut proposals, vote) = proposals(3);
        propose(&mut proposals, 4);
        proposals.on_durable(Zxid::new(1, 4));
        proposals.on_ack(vote(2), Zxid::new(1, 2)..=Zxid::new(1, 3));
        assert!(commit(&mut proposals).is_empty(), "nothing was said of 1");
        proposals.on_ack(vote(2), Zxid::new(1, 0)..=Zxid::new(1, 1));
        assert_eq!(commit(&mut proposals), [1, 2, 3]);
        proposals.on_ack(vote(2), Zxid::new(1, 1)..=Zxid::new(7, 7));
        assert_eq!(commit(&mut proposals), [4]);
    }

    #[test]
    fn an_ack_counts_for_its_own_zxid_only() {
        let (mut proposals, vote) = proposals(3);
        propose(&mut proposals, 3);
        proposals.on_ack(vote(2), only(Zxid::new(1, 3)));
        proposals.on_ack(vote(3), only(Zxid::new(1, 3)));
        assert!(commit(&mut proposals).is_empty(), "3 has a quorum, 1 and 2 have nobody");
        proposals.on_ack(vote(2), only(Zxid::new(1, 1)));
        assert!(commit(&mut proposals).is_empty(), "one of three");
        proposals.on_durable(Zxid::new(1, 1));
        assert_eq!(commit(&mut proposals), [1]);
        proposals.on_ack(vote(2), only(Zxid::new(1, 2)));
        proposals.on_ack(vote(3), only(Zxid::new(1, 2)));
        assert_eq!(commit(&mut proposals), [2, 3], "what waited for 2 goes with it");
        assert_eq!(proposals.durable(), Zxid::new(1, 1), "a quorum may outrun our disk");
        assert!(proposals.is_drained());
        assert_eq!(std::iter::from_fn(|| proposals.pop()).count(), 3);
        assert_eq!((proposals.in_flight(), proposals.in_flight_bytes()), (0, 0));
    }

    #[test]
    fn acks_of_anything_else_count_nowhere() {
        let (mut proposals, vote) = proposals(3);
        proposals.on_ack(vote(2), only(Zxid::new(1, 1)));
        propose(&mut proposals, 2);
        for zxid in [0, 1, u64::MAX, Zxid::new(1, 0).0, Zxid::new(1, 3).0, Zxid::new(2, 1).0] {
            proposals.on_ack(vote(2), only(Zxid(zxid)));
        }
        proposals.on_durable(Zxid::new(1, 2));
        assert!(commit(&mut proposals).is_empty());
    }

    #[test]
    fn who_is_alone_commits_what_is_on_its_disk() {
        let (mut proposals, _) = proposals(1);
        proposals.commit_durable();
        assert!(proposals.pop().is_none());
        propose(&mut proposals, 3);
        for (durable, expected) in [(0, vec![]), (2, vec![1, 2]), (2, vec![]), (3, vec![3])] {
            proposals.on_durable(Zxid::new(1, durable));
            proposals.commit_durable();
            assert_eq!(proposals.committed(), Zxid::new(1, durable));
            let popped: Vec<u32> = std::iter::from_fn(|| proposals.pop().map(|popped| popped.zxid.counter())).collect();
            assert_eq!(popped, expected);
        }
        assert!(proposals.is_drained());
    }

    /// ZOOKEEPER-4712 (20.25).
    #[test]
    fn a_voter_that_is_synchronised_anew_votes_anew() {
        let (mut proposals, vote) = proposals(3);
        propose(&mut proposals, 1);
        proposals.on_ack(vote(2), only(Zxid::new(1, 1)));
        proposals.forget(vote(2));
        proposals.on_durable(Zxid::new(1, 1));
        assert!(commit(&mut proposals).is_empty());
        proposals.on_ack(vote(2), only(Zxid::new(1, 1)));
        assert_eq!(commit(&mut proposals), [1]);
    }

    #[test]
    fn what_was_proposed_before_another_configuration_is_decided_without_it() {
        let (mut proposals, vote) = proposals(3);
        propose(&mut proposals, 1);
        let mut configs = Configurations::settled(Membership::of(3, 0));
        configs.last_seen = Membership { version: Zxid::new(1, 2).0, ..Membership::of(6, 0) };
        let both = proposals.ballot().after(&configs).unwrap();
        let fourth = both.vote_of(ServerId(4));
        proposals.set_ballot(both, vote(1), Zxid::new(1, 2));
        propose(&mut proposals, 2);
        proposals.on_durable(Zxid::new(1, 3));
        for counter in 1..=3 {
            proposals.on_ack(vote(2), only(Zxid::new(1, counter)));
        }
        assert_eq!(commit(&mut proposals), [1], "two of three; and two of six");
        for counter in 2..=3 {
            proposals.on_ack(fourth, only(Zxid::new(1, counter)));
            proposals.on_ack(vote(3), only(Zxid::new(1, counter)));
        }
        assert_eq!(commit(&mut proposals), [2, 3]);
    }

    #[test]
    fn what_a_learner_misses_is_told_with_its_state() {
        let (mut proposals, vote) = proposals(3);
        propose(&mut proposals, 3);
        proposals.on_durable(Zxid::new(1, 3));
        proposals.on_ack(vote(3), only(Zxid::new(1, 1)));
        proposals.on_ack(vote(3), only(Zxid::new(1, 2)));
        assert_eq!(commit(&mut proposals), [1, 2]);
        let above: Vec<(u32, bool)> = proposals.above(Zxid::new(1, 1)).map(|(p, c)| (p.zxid.counter(), c)).collect();
        assert_eq!(above, [(2, true), (3, false)]);
        assert_eq!(proposals.take().len(), 3);
    }
}
