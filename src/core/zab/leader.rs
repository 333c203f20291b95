//! Leading an epoch: zxids are given out once, in order, and released in that order when a quorum has them on disk.
//!
//! Holds at every step: a zxid is proposed once; commits leave in zxid order; nothing past the last proposal commits.
//! Not here, on purpose: what a transaction means (`pipeline`), the disk (`Output::Log`), sockets.
//! Java: `Leader.propose`, `Leader.tryToCommit`; standalone: the `SyncRequestProcessor`.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::quorum::Quorum;
use crate::core::types::{ServerId, Zxid};

/// A transaction on its way to a quorum.
#[derive(Debug)]
pub struct Proposal {
    pub zxid: Zxid,
    /// Header, record and digest: the bytes that are logged, proposed and, once committed, applied.
    pub txn: Bytes,
}

#[derive(Debug)]
pub struct Leader {
    id: ServerId,
    voters: Quorum,
    acked: BTreeMap<ServerId, Zxid>,
    proposed: Zxid,
    committed: Zxid,
    in_flight: VecDeque<Proposal>,
    in_flight_bytes: usize,
}

impl Leader {
    /// An ensemble of one that goes on after `last`, the newest transaction of its log. It has no election, hence no new
    /// epoch: a standalone Java server counts on in the same way.
    pub fn standalone(id: ServerId, last: Zxid) -> Self {
        Leader {
            id,
            voters: Quorum::majority(vec![id]),
            acked: BTreeMap::from([(id, last)]),
            proposed: last,
            committed: last,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
        }
    }

    /// The zxid of the newest proposal.
    pub fn proposed(&self) -> Zxid {
        self.proposed
    }

    pub fn committed(&self) -> Zxid {
        self.committed
    }

    /// Proposals not committed yet.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Their transactions, together.
    pub fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes
    }

    /// The zxid the next proposal must carry. Plain counting: the epoch of a standalone server rolls over with its
    /// counter, as Java's does.
    pub fn next_zxid(&self) -> Zxid {
        Zxid(self.proposed.0 + 1)
    }

    /// Takes the next proposal. `txn` must carry `next_zxid()`.
    pub fn propose(&mut self, zxid: Zxid, txn: Bytes) {
        assert_eq!(zxid, self.next_zxid(), "a zxid is proposed once and in order");
        self.proposed = zxid;
        self.in_flight_bytes += txn.len();
        self.in_flight.push_back(Proposal { zxid, txn });
    }

    /// This server's own vote: a finished disk write.
    pub fn on_logged(&mut self, through: Zxid) {
        self.on_ack(self.id, through);
    }

    fn on_ack(&mut self, from: ServerId, through: Zxid) {
        assert!(through <= self.proposed, "{from:?} acked {through}, never proposed; last is {}", self.proposed);
        let mark = self.acked.entry(from).or_default();
        *mark = through.max(*mark);
        self.committed = self.committed.max(self.voters.agreed(&self.acked));
    }

    /// The next proposal that a quorum has, in order; to be called until there is none.
    pub fn pop_committed(&mut self) -> Option<Proposal> {
        let proposal = self.in_flight.pop_front_if(|proposal| proposal.zxid <= self.committed)?;
        self.in_flight_bytes -= proposal.txn.len();
        Some(proposal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_in_order_what_is_on_disk() {
        let mut leader = Leader::standalone(ServerId(1), Zxid(10));
        for _ in 0..3 {
            let zxid = leader.next_zxid();
            leader.propose(zxid, Bytes::new());
        }
        assert!(leader.pop_committed().is_none(), "nothing is durable yet");
        leader.on_logged(Zxid(12));
        assert_eq!(leader.pop_committed().unwrap().zxid, Zxid(11));
        assert_eq!(leader.pop_committed().unwrap().zxid, Zxid(12));
        assert!(leader.pop_committed().is_none());
        assert_eq!((leader.in_flight(), leader.committed(), leader.proposed()), (1, Zxid(12), Zxid(13)));
    }

    #[test]
    #[should_panic(expected = "never proposed")]
    fn an_ack_of_the_future_is_a_bug() {
        Leader::standalone(ServerId(1), Zxid(10)).on_logged(Zxid(11));
    }

    #[test]
    #[should_panic(expected = "once and in order")]
    fn zxids_are_not_skipped() {
        Leader::standalone(ServerId(1), Zxid(10)).propose(Zxid(12), Bytes::new());
    }
}
