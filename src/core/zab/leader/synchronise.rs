//! Bringing a learner up to the history: carrying out what `catch_up.rs` chose.
//!
//! On the link, in this order: DIFF, TRUNC or SNAP; what the learner misses, each transaction with its COMMIT; what is in flight;
//! NEWLEADER; and from the choice on everything that is proposed and committed, wherever it falls between these. Nothing can fall
//! through: what is not in the first part is in flight or comes later. (To a Java voter what is in flight comes behind UPTODATE.)
//! Spec: quorum-protocol 7.2-7.6.
//!
//! Observers may be many, and come all at once: of those that are brought up to the history at a time there is a bound, by SNAP and
//! by the rest, and who is above it tries again later. Voters count, and never have to wait. Java: `LearnerSyncThrottler`.

use std::collections::BTreeMap;

use bytes::Bytes;
use ringkeeper_storage::probe::{broken, mark};

use super::{Leader, LeaderEvent, Phase, SyncView};
use crate::core::types::{LinkId, LinkMessage, Output, Zxid};
use crate::core::zab::ballot::Votes;
use crate::core::zab::catch_up::{self, History, LogCheck, Plan, SyncKind};
use crate::core::zab::epoch::FORGOTTEN;
use crate::core::zab::learner_handler::{Handler, LogRange, Stage};
use crate::core::zab::proposals::Proposals;
use crate::core::zab::window::Window;
use crate::wire::quorum::Packet;

impl Leader {
    /// The history is settled, and this learner has told what it has of it.
    pub(super) fn synchronise(&mut self, link: LinkId, view: SyncView<'_>, out: &mut Vec<Output>) {
        let handler = &self.handlers[&link];
        let Stage::AwaitsHistory { last } = handler.stage else {
            unreachable!("{} is synchronised once", handler.name());
        };
        if let Some(last) = last.filter(|last| last.counter() > 0 && self.never_was(last.epoch())) {
            let why = format!(
                "it has transaction {last}, and those who elected this server knew nothing of epoch {}: {FORGOTTEN}",
                last.epoch()
            );
            return self.close(link, &why, out);
        }
        // What it acknowledged earlier, on another link, it may be about to cut off.
        if !broken("leader: count acks from before a TRUNC") {
            self.proposals.forget(handler.vote);
        }
        // 20.17: a window that lags behind would cut off what is committed.
        assert_eq!(view.window.last(), self.popped, "the window ends with what was applied last");
        let committed = self.proposals.above(self.popped).take_while(|(_, committed)| *committed);
        let committed = committed.map(|(proposal, _)| proposal.zxid).last().unwrap_or(self.popped);
        let history = History { window: view.window, applied: view.applied, committed };
        let newest = history.newest();
        let plan = catch_up::plan(last, history, &self.settings);
        let keeps_what_it_has = matches!(plan, Plan::Diff { .. } | Plan::FromLog { .. });
        assert!(keeps_what_it_has || !self.proposals.has_vote_of(handler.vote), "it votes for what it has to give up");
        if !matches!(plan, Plan::Snap { .. }) && !self.begin_sync(link, plan.kind(), out) {
            return;
        }
        let handler = self.handlers.get_mut(&link).expect("as above");
        match plan {
            Plan::Diff { above } => {
                handler.send_packet(Packet::Diff { zxid: newest.max(above) }, out);
                handler.hold();
                start_forwarding(handler, Some(view.window), &self.proposals, above, out);
                handler.release(out);
                self.new_leader(link, out);
                self.tell_sync(SyncKind::Diff, true);
            }
            Plan::Trunc { to } => {
                let mut kept = to;
                if broken("leader: TRUNC too little") {
                    kept = Zxid(to.0 + 1);
                } else if broken("leader: TRUNC too much") && to.counter() > 1 {
                    kept = Zxid(to.0 - 1);
                }
                handler.send_packet(Packet::Trunc { zxid: kept }, out);
                handler.hold();
                start_forwarding(handler, Some(view.window), &self.proposals, to, out);
                handler.release(out);
                self.new_leader(link, out);
                self.tell_sync(SyncKind::Trunc, true);
            }
            Plan::FromLog { after, through } => {
                mark("leader: the log is looked at for a DIFF");
                handler.hold();
                start_forwarding(handler, Some(view.window), &self.proposals, through, out);
                handler.grant();
                let check = LogCheck::new(after, through);
                // It hears nothing meanwhile, and waits no longer than that; a snapshot begins at once.
                handler.expect(self.now_us, self.allowance.init_us / 2);
                handler.stage =
                    Stage::ReadingLog(LogRange { after, through, newest, check, sending: false, paused: false });
                out.push(Output::ReadLog { link, after, through });
            }
            Plan::Snap { .. } => self.send_snapshot(link, out),
        }
    }

    /// Whether a transaction of this epoch contradicts that this server leads. A quorum is in an epoch before it has a transaction,
    /// so one of those that elected this server was in that one, unless their disks have forgotten; and then this server was, or
    /// in a later one, or has led it since.
    fn never_was(&self, epoch: u32) -> bool {
        self.phase != Phase::Relaying && !self.choice.began_in(epoch) && !self.led.contains(&epoch)
    }

    /// Whether this learner may be brought up to the history in this way, now; otherwise its link is closed.
    fn begin_sync(&mut self, link: LinkId, kind: SyncKind, out: &mut Vec<Output>) -> bool {
        let (most, key) = match kind {
            SyncKind::Snap => (self.settings.snap_syncs_max, "leader.maxConcurrentSnapSyncs"),
            SyncKind::Diff | SyncKind::Trunc => (self.settings.diff_syncs_max, "leader.maxConcurrentDiffSyncs"),
        };
        let under_way = self.syncs_under_way(kind);
        let handler = self.handlers.get_mut(&link).expect("it is there");
        // An observer that is to vote brings a quorum, too.
        if handler.observer && handler.vote == Votes::NONE && under_way >= most {
            mark("leader: an observer has to wait for the syncs of others");
            let why = format!("{under_way} others are being synchronised by {} already ({key}={most})", kind.name());
            self.close(link, &why, out);
            return false;
        }
        handler.begin_sync(kind, self.now_us);
        true
    }

    /// By SNAP, or without one.
    fn syncs_under_way(&self, kind: SyncKind) -> usize {
        let snap = kind == SyncKind::Snap;
        let like = |handler: &&Handler| handler.syncing().is_some_and(|other| (other == SyncKind::Snap) == snap);
        self.handlers.values().filter(like).count()
    }

    pub(super) fn tell_sync(&mut self, kind: SyncKind, begins: bool) {
        let under_way = self.syncs_under_way(kind);
        self.events.push_back(LeaderEvent::Syncs { kind, begins, under_way });
    }

    fn send_snapshot(&mut self, link: LinkId, out: &mut Vec<Output>) {
        if !self.begin_sync(link, SyncKind::Snap, out) {
            return;
        }
        let handler = self.handlers.get_mut(&link).expect("it is there");
        handler.stop_forwarding();
        // When its snapshot begins is the node's business.
        handler.expect_nothing();
        handler.stage = Stage::AwaitsSnapshot;
        self.events.push_back(LeaderEvent::SnapshotWanted { link });
        self.tell_sync(SyncKind::Snap, true);
    }

    fn new_leader(&mut self, link: LinkId, out: &mut Vec<Output>) {
        let (zxid, config) = (Zxid::new(self.epoch, 0), Some(self.config_of_epoch()));
        let committed = self.proposals.committed();
        let handler = self.handlers.get_mut(&link).expect("it is there");
        // Its ACK of NEWLEADER is for everything that was committed before; only what is not is acknowledged one by one.
        if !handler.defers() {
            handler.has = handler.has.max(committed);
        }
        handler.send_packet(Packet::NewLeader { zxid, config }, out);
        handler.stage = Stage::Synchronising;
        handler.expect(self.now_us, self.allowance.init_us);
        handler.progressed(self.now_us, &self.allowance);
        handler.grant();
    }

    // --- from the log ---

    pub fn on_log_read(
        &mut self,
        link: LinkId,
        predecessor: Zxid,
        records: Vec<(Zxid, Bytes)>,
        view: SyncView<'_>,
        out: &mut Vec<Output>,
    ) {
        let Some((handler, mut range)) = reading(&mut self.handlers, link) else {
            return;
        };
        let size_limit = size_limit_bytes(self.settings.snapshot_size_factor, view.snapshot_bytes);
        for (zxid, txn) in records {
            if !range.check.admits(predecessor, zxid, txn.len()) && !broken("leader: DIFF from a log that has a gap") {
                mark("leader: the log does not have the history");
                return self.give_log_up(link, range, "the log is not what it was a moment ago", out);
            }
            if range.sending {
                handler.send_packet(Packet::Proposal { zxid, txn }, out);
                handler.send_packet(Packet::Commit { zxid }, out);
            }
        }
        if !range.sending && range.check.bytes() > size_limit {
            mark("leader: the log is too long for a DIFF");
            return self.give_log_up(link, range, "", out);
        }
        range.paused = range.sending && !handler.has_room(&self.allowance);
        if !range.paused {
            out.push(Output::ReadLogOn { link });
        }
        handler.stage = Stage::ReadingLog(range);
    }

    pub fn on_log_read_ended(&mut self, link: LinkId, complete: bool, out: &mut Vec<Output>) {
        let Some((handler, mut range)) = reading(&mut self.handlers, link) else {
            return;
        };
        let whole = complete && (range.check.is_complete() || broken("leader: DIFF from a log that has a gap"));
        if !whole && range.sending {
            return self.close(link, "the log that it was sent has become unreadable", out);
        }
        if !whole {
            mark("leader: SNAP because the log does not reach");
            return self.send_snapshot(link, out);
        }
        if range.sending {
            handler.release(out);
            return self.new_leader(link, out);
        }
        mark("leader: DIFF from the log");
        let LogRange { after, through, newest, .. } = range;
        handler.send_packet(Packet::Diff { zxid: newest }, out);
        (range.sending, range.check) = (true, LogCheck::new(after, through));
        handler.stage = Stage::ReadingLog(range);
        handler.expect(self.now_us, self.allowance.init_us);
        out.push(Output::ReadLog { link, after, through });
        self.tell_sync(SyncKind::Diff, true);
    }

    /// A log that takes so long to check that its learner might not wait for it: its disk is slow, or the log very long. False:
    /// that is not what this learner waits for.
    pub(super) fn give_slow_log_up(&mut self, link: LinkId, out: &mut Vec<Output>) -> bool {
        let Some((handler, range)) = reading(&mut self.handlers, link) else { return false };
        if range.sending {
            handler.stage = Stage::ReadingLog(range);
            return false;
        }
        mark("leader: the log takes too long for a DIFF");
        self.give_log_up(link, range, "", out);
        true
    }

    fn give_log_up(&mut self, link: LinkId, range: LogRange, why: &str, out: &mut Vec<Output>) {
        out.push(Output::EndReadLog { link });
        if range.sending { self.close(link, why, out) } else { self.send_snapshot(link, out) }
    }

    // --- a snapshot ---

    /// Whether the link's queue takes another chunk of a snapshot now; if not, `on_sent` makes room.
    pub fn has_room(&self, link: LinkId) -> bool {
        self.handlers.get(&link).is_none_or(|handler| handler.has_room(&self.allowance))
    }

    /// The snapshot for this learner begins: `SNAP` at its zxid, then the stream. The node sends the chunks through
    /// `snapshot_part`, the end included.
    pub fn snapshot_begins(&mut self, link: LinkId, zxid: Zxid, out: &mut Vec<Output>) {
        let Some(handler) = self.handlers.get_mut(&link).filter(|h| matches!(h.stage, Stage::AwaitsSnapshot)) else {
            return;
        };
        handler.send_packet(Packet::Snap { zxid }, out);
        handler.stage = Stage::Streaming;
        handler.expect(self.now_us, self.allowance.init_us);
        handler.hold();
        start_forwarding(handler, None, &self.proposals, zxid, out);
        handler.grant();
        if broken("leader: NEWLEADER before the SNAP is complete") {
            handler.release(out);
            self.new_leader(link, out);
            self.handlers.get_mut(&link).expect("it is there").stage = Stage::Streaming;
        }
    }

    pub fn snapshot_part(&mut self, link: LinkId, part: LinkMessage, out: &mut Vec<Output>) {
        let early = broken("leader: NEWLEADER before the SNAP is complete");
        let Some(handler) = self.handlers.get_mut(&link).filter(|h| matches!(h.stage, Stage::Streaming)) else {
            return;
        };
        let complete = matches!(part, LinkMessage::SnapshotEnd);
        handler.send(part, out);
        handler.progressed(self.now_us, &self.allowance);
        if complete && early {
            handler.stage = Stage::Synchronising;
        } else if complete {
            handler.release(out);
            self.new_leader(link, out);
        }
    }
}

/// Everything above `above` that the learner is to get beside a stream: of the window, and in flight; and from now on what is
/// proposed and committed.
fn start_forwarding(
    handler: &mut Handler,
    window: Option<&Window>,
    proposals: &Proposals,
    above: Zxid,
    out: &mut Vec<Output>,
) {
    let mut last = above;
    let skipped = usize::from(broken("leader: DIFF leaves out the oldest"));
    for (zxid, txn) in window.into_iter().flat_map(|window| window.above(above)).skip(skipped) {
        handler.forward(Packet::Proposal { zxid: *zxid, txn: txn.clone() }, out);
        handler.forward(Packet::Commit { zxid: *zxid }, out);
        last = *zxid;
    }
    if let Some(window) = window {
        last = last.max(window.last());
    }
    (handler.has, handler.told) = (last, last);
    handler.forwarding = true;
    if broken("leader: forget outstanding proposals when forwarding starts") {
        return;
    }
    for (proposal, committed) in proposals.above(last) {
        let zxid = proposal.zxid;
        assert!(zxid.can_follow(last) || last.counter() == 0, "between {last} and {zxid} a transaction got lost");
        last = zxid;
        // An observer hears of a transaction when it is committed.
        if committed || !handler.observer {
            handler.forward(Packet::Proposal { zxid, txn: proposal.txn.clone() }, out);
        }
        if committed {
            handler.forward(Packet::Commit { zxid }, out);
            handler.has = zxid;
        }
    }
    handler.told = last;
}

/// The range that is read for this learner, if it still is. Its stage is to be set again.
fn reading(handlers: &mut BTreeMap<LinkId, Handler>, link: LinkId) -> Option<(&mut Handler, LogRange)> {
    let handler = handlers.get_mut(&link)?;
    match std::mem::replace(&mut handler.stage, Stage::AwaitsSnapshot) {
        Stage::ReadingLog(range) => Some((handler, range)),
        other => {
            handler.stage = other;
            None
        }
    }
}

/// How long a DIFF from the log may be. Java: `calculateTxnLogSizeLimit`; 0 and a server without a snapshot: any length.
fn size_limit_bytes(factor: Option<f64>, snapshot_bytes: u64) -> u64 {
    match factor {
        Some(factor) if factor > 0.0 && snapshot_bytes > 0 => (snapshot_bytes as f64 * factor) as u64,
        _ => u64::MAX,
    }
}
