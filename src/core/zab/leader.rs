//! Leading an epoch: zxids are given out once, in order, and released in that order when a quorum has them on disk.
//!
//! Holds at every step: a zxid is proposed once; commits leave in zxid order; nothing past the last proposal commits.
//! Not here, on purpose: what a transaction means (`pipeline`), the disk (`Output::Log`), sockets.
//! Java: `Leader.propose`, `Leader.tryToCommit`; standalone: the `SyncRequestProcessor`.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::membership::Configurations;
use super::quorum::Quorum;
use super::window::Window;
use crate::core::settings::Ensemble;
use crate::core::types::{EpochKind, Epochs, LinkId, LinkMessage, Now, Output, ServerId, Zxid};
use crate::wire::quorum::ForwardedRequest;

/// What this server has when it begins to lead.
#[derive(Clone, Copy, Debug)]
pub struct LeaderStart {
    pub id: ServerId,
    pub epochs: Epochs,
    /// The newest transaction, durable and applied.
    pub last: Zxid,
}

/// What the node has to do. In order.
#[derive(Debug)]
pub enum LeaderEvent {
    /// A quorum follows: `applied` is (epoch, 0) now, and clients are served.
    Established {
        epoch: u32,
    },
    /// A learner's client wants something. Its transaction is proposed for the session's owner `link`.
    Request {
        link: LinkId,
        request: ForwardedRequest,
    },
    /// A learner has heard of this session.
    Touched {
        session: i64,
        timeout_ms: i32,
    },
    /// May the client that is back at this learner have its session? Answer with `Leader::revalidated`.
    Revalidate {
        link: LinkId,
        session: i64,
        timeout_ms: i32,
    },
    /// Send this learner a snapshot of the present state with `Leader::snapshot_*`.
    SnapshotWanted {
        link: LinkId,
    },
    /// A learner is gone: it owns no session any more, and wants no snapshot.
    LinkGone {
        link: LinkId,
    },
    /// The counter rolled over: the next zxid is (epoch, 1).
    NextEpoch {
        epoch: u32,
    },
    /// Everything is committed, and `leader` has it: follow it.
    HandedOver {
        leader: ServerId,
    },
    Over {
        why: String,
    },
}

/// What a leader has to know of the state it leads, to bring learners up to it.
#[derive(Clone, Copy, Debug)]
pub struct SyncView<'a> {
    pub window: &'a Window,
    /// Last processed zxid: of a transaction, or (epoch, 0).
    pub applied: Zxid,
    /// Of the newest snapshot on disk: for `snapshotSizeFactor`.
    pub snapshot_bytes: u64,
}

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

    /// Elected: opens the doors and looks for a quorum that agrees on an epoch.
    pub fn elected(
        now: Now,
        start: LeaderStart,
        settings: &Ensemble,
        configs: &Configurations,
        out: &mut Vec<Output>,
    ) -> Self {
        let _ = (now, settings, configs, out);
        Leader::standalone(start.id, start.last)
    }

    pub fn on_learner_connected(&mut self, now: Now, link: LinkId) {
        let _ = (now, link);
    }

    pub fn on_message(
        &mut self,
        now: Now,
        link: LinkId,
        message: LinkMessage,
        view: SyncView<'_>,
        out: &mut Vec<Output>,
    ) {
        let _ = (now, link, message, view, out);
    }

    pub fn on_sent(&mut self, link: LinkId, bytes: usize) {
        let _ = (link, bytes);
    }

    pub fn on_closed(&mut self, now: Now, link: LinkId, out: &mut Vec<Output>) {
        let _ = (now, link, out);
    }

    pub fn on_epoch_stored(
        &mut self,
        now: Now,
        kind: EpochKind,
        epoch: u32,
        view: SyncView<'_>,
        out: &mut Vec<Output>,
    ) {
        let _ = (now, kind, epoch, view, out);
    }

    pub fn on_log_read(
        &mut self,
        link: LinkId,
        predecessor: Zxid,
        records: Vec<(Zxid, Bytes)>,
        view: SyncView<'_>,
        out: &mut Vec<Output>,
    ) {
        let _ = (link, predecessor, records, view, out);
    }

    pub fn on_log_read_ended(&mut self, link: LinkId, complete: bool, view: SyncView<'_>, out: &mut Vec<Output>) {
        let _ = (link, complete, view, out);
    }

    /// Whether the link's queue takes another chunk of a snapshot now; if not, `on_sent` makes room.
    pub fn has_room(&self, link: LinkId) -> bool {
        let _ = link;
        true
    }

    /// The snapshot for this learner begins: `SNAP` at its zxid, then the stream. The node sends the chunks through
    /// `snapshot_part`, the end included.
    pub fn snapshot_begins(&mut self, link: LinkId, zxid: Zxid, out: &mut Vec<Output>) {
        let _ = (link, zxid, out);
    }

    pub fn snapshot_part(&mut self, link: LinkId, part: LinkMessage, out: &mut Vec<Output>) {
        let _ = (link, part, out);
    }

    pub fn revalidated(&mut self, link: LinkId, session: i64, valid: bool, out: &mut Vec<Output>) {
        let _ = (link, session, valid, out);
    }

    /// A learner's `sync`: answered when everything proposed now is committed.
    pub fn sync_asked(&mut self, link: LinkId, out: &mut Vec<Output>) {
        let _ = (link, out);
    }

    /// Lead no longer, for the good of a voter that has everything. No proposals come any more.
    pub fn hand_over(&mut self, now: Now, out: &mut Vec<Output>) {
        let _ = (now, out);
    }

    /// Proposals may be made: not before the leader is established, nor while it hands over or changes its epoch.
    pub fn may_propose(&self) -> bool {
        true
    }

    pub fn on_tick(&mut self, now: Now, view: SyncView<'_>, out: &mut Vec<Output>) {
        let _ = (now, view, out);
    }

    pub fn wake_us(&self) -> Option<u64> {
        None
    }

    /// The role ends here: closes every link and the door. Nothing that completes later has an effect.
    pub fn end(&mut self, out: &mut Vec<Output>) {
        let _ = out;
    }

    pub fn next_event(&mut self) -> Option<LeaderEvent> {
        None
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
    pub fn propose(&mut self, zxid: Zxid, txn: Bytes, out: &mut Vec<Output>) {
        let _ = out;
        assert_eq!(zxid, self.next_zxid(), "a zxid is proposed once and in order");
        self.proposed = zxid;
        self.in_flight_bytes += txn.len();
        self.in_flight.push_back(Proposal { zxid, txn });
    }

    /// This server's own vote: a finished disk write.
    pub fn on_logged(&mut self, through: Zxid, out: &mut Vec<Output>) {
        let _ = out;
        self.on_ack(self.id, through);
    }

    fn on_ack(&mut self, from: ServerId, through: Zxid) {
        assert!(through <= self.proposed, "{from:?} acked {through}, never proposed; last is {}", self.proposed);
        let mark = self.acked.entry(from).or_default();
        *mark = through.max(*mark);
        self.committed = self.committed.max(self.voters.agreed(&self.acked));
    }

    /// Everything proposed and not popped as committed, oldest first, when the role is over: it stays in this server's log.
    pub fn take_in_flight(&mut self) -> VecDeque<Proposal> {
        self.in_flight_bytes = 0;
        std::mem::take(&mut self.in_flight)
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
            leader.propose(zxid, Bytes::new(), &mut Vec::new());
        }
        assert!(leader.pop_committed().is_none(), "nothing is durable yet");
        leader.on_logged(Zxid(12), &mut Vec::new());
        assert_eq!(leader.pop_committed().unwrap().zxid, Zxid(11));
        assert_eq!(leader.pop_committed().unwrap().zxid, Zxid(12));
        assert!(leader.pop_committed().is_none());
        assert_eq!((leader.in_flight(), leader.committed(), leader.proposed()), (1, Zxid(12), Zxid(13)));
    }

    #[test]
    #[should_panic(expected = "never proposed")]
    fn an_ack_of_the_future_is_a_bug() {
        Leader::standalone(ServerId(1), Zxid(10)).on_logged(Zxid(11), &mut Vec::new());
    }

    #[test]
    #[should_panic(expected = "once and in order")]
    fn zxids_are_not_skipped() {
        Leader::standalone(ServerId(1), Zxid(10)).propose(Zxid(12), Bytes::new(), &mut Vec::new());
    }
}
