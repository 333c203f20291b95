//! What a learner has received: what is stable of it, what is committed, and what it still owes an ACK for.
//!
//! Holds always: zxids only grow, without a gap inside an epoch; commits follow the order of proposals. A leader that breaks
//! this is refused: its history would have a hole here.

use std::collections::VecDeque;

use ringkeeper_storage::probe::{broken, mark};

use super::Refusal;
use crate::core::types::Zxid;

#[derive(Debug)]
pub(super) struct History {
    /// The newest transaction logged here.
    last: Zxid,
    /// Of those, stable.
    durable: Zxid,
    /// The leader says that it is in its history for good.
    committed: Zxid,
    /// Received from this leader and not committed.
    uncommitted: VecDeque<Zxid>,
    /// Received from this leader, and it waits for an ACK.
    unacked: VecDeque<Zxid>,
}

impl History {
    /// Everything through `last` is here, and is the leader's history too.
    pub fn going_on_after(last: Zxid) -> History {
        let (uncommitted, unacked) = (VecDeque::new(), VecDeque::new());
        History { last, durable: last, committed: last, uncommitted, unacked }
    }

    pub fn last(&self) -> Zxid {
        self.last
    }

    pub fn durable(&self) -> Zxid {
        self.durable
    }

    /// A proposal of a leader whose newest epoch is `epoch`. False: it was here already.
    pub fn receive(&mut self, zxid: Zxid, epoch: u32) -> Result<bool, Refusal> {
        if zxid <= self.last {
            // Model checking of ZAB: a leader may begin to send what it proposes before it knows what we have.
            mark("learner: a proposal came twice");
            return Ok(false);
        }
        if !zxid.can_follow(self.last) || zxid.epoch() > epoch {
            mark("learner: a gap between proposals");
            return Err(format!("proposal {zxid} in epoch {epoch} cannot follow {}", self.last));
        }
        self.last = zxid;
        self.uncommitted.push_back(zxid);
        self.unacked.push_back(zxid);
        Ok(true)
    }

    /// How many are committed with it: none, when it was committed already; one, unless it is for `many`.
    pub fn commit(&mut self, zxid: Zxid, many: bool) -> Result<u64, Refusal> {
        if zxid <= self.committed {
            mark("learner: a commit came twice");
            return Ok(0);
        }
        let mut before = 0;
        while many && self.uncommitted.pop_front_if(|head| *head < zxid).is_some() {
            before += 1;
        }
        match self.uncommitted.front() {
            Some(head) if *head == zxid => {
                self.uncommitted.pop_front();
                self.committed = zxid;
                Ok(before + 1)
            }
            // Java ends its process here.
            next => {
                mark("learner: a commit of something else than the oldest proposal");
                let next = next.map_or_else(|| "nothing is".to_owned(), |next| format!("{next} is"));
                Err(format!("commit {zxid}, and {next} next"))
            }
        }
    }

    pub fn on_durable(&mut self, through: Zxid) {
        self.durable = self.durable.max(through);
    }

    pub fn needs_no_ack(&mut self, through: Zxid) {
        while self.unacked.pop_front_if(|zxid| *zxid <= through).is_some() {}
    }

    /// The next proposal to be acknowledged; to be called until there is none.
    pub fn next_ack(&mut self) -> Option<Zxid> {
        let early = broken("ack before the flush");
        self.unacked.pop_front_if(|zxid| *zxid <= self.durable || early)
    }

    /// Whether there is another one.
    pub fn owes_ack(&self) -> bool {
        self.unacked.front().is_some_and(|zxid| *zxid <= self.durable)
    }
}
