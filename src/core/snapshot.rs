//! Snapshots while writes go on, and the way back: moving the one we started from into memory.
//!
//! The tree is walked in slices, as fast as the disk takes them.
//! What changes before the walk has reached it is handed over first by the tree itself (`tree/snapshot.rs`). When such old
//! images pile up because the disk does not take them, or when the server stops, the snapshot is given up.
//!
//! A server that starts from a snapshot serves at once and moves the nodes into memory in slices, between turns
//! (`tree/load.rs`). None is taken before that is over: it could take the place of the one that is still being read.

use super::node::Node;
use super::progress::SnapshotWalk;
use super::types::{Now, Output};

/// Bytes of nodes moved into memory in one go: some 140 of them with 100 bytes of data, in 0.1 to 0.2 ms, which is what a
/// request may have to wait for it.
const MOVE_BYTES: usize = 32 * 1024;

impl Node {
    /// Begins a snapshot of exactly the present state, unless one is running.
    pub(super) fn begin_snapshot(&mut self, out: &mut Vec<Output>) {
        if self.snapshot.running {
            return;
        }
        if self.tree.is_moving() {
            self.snapshot.wanted = true;
            return;
        }
        let (walk, mut header) = self.tree.begin_snapshot();
        self.snapshot = SnapshotWalk { running: true, walk: Some(walk), wanted: false };
        header.sessions = self.session_images();
        out.push(Output::SnapshotBegin(Box::new(header)));
    }

    /// As a snapshot has them.
    pub(super) fn session_images(&self) -> Vec<(i64, i32)> {
        let mut sessions: Vec<_> = self.sessions.iter().map(|(id, session)| (id.0, session.table_timeout_ms)).collect();
        sessions.sort_unstable();
        sessions
    }

    pub(super) fn on_snapshot_room(&mut self, chunks: usize, out: &mut Vec<Output>) {
        let Some(walk) = self.snapshot.walk else { return };
        for _ in 0..chunks {
            match self.tree.snapshot_slice(walk, self.settings.snapshot_chunk_bytes) {
                Some(chunk) => out.push(Output::SnapshotChunk(chunk)),
                None => {
                    self.snapshot.walk = None;
                    out.push(Output::SnapshotFinish);
                    return;
                }
            }
        }
    }

    /// After changes of the tree: the walks have so much memory together. The disk, which has time, gives way if that is
    /// enough, else the learner who holds most.
    pub(super) fn bound_snapshot_backlog(&mut self, now: Now, out: &mut Vec<Output>) {
        let most = self.settings.snapshot_backlog_max_bytes;
        while self.tree.snapshot_backlog_bytes() > most {
            let for_disk = self.snapshot.walk.map_or(0, |walk| self.tree.walk_backlog_bytes(walk));
            let for_links = self.tree.snapshot_backlog_bytes() - for_disk;
            match self.slowest_snapshot_link().filter(|_| for_links > most) {
                Some((link, _)) => self.drop_snapshot_link(now, link, out),
                None if for_disk == 0 => unreachable!("every walk is somebody's"),
                None => self.abandon_snapshot("what changed meanwhile filled the memory set aside for it: the disk, or ringkeeper.snapshotMaxMBps, is too slow for these writes", out),
            }
        }
    }

    /// Unless everything has been handed over: then it is as good as done.
    pub(super) fn abandon_snapshot(&mut self, why: &'static str, out: &mut Vec<Output>) {
        if let Some(walk) = self.snapshot.walk.take() {
            self.tree.abandon_snapshot(walk);
            out.push(Output::SnapshotAbandon { why });
        }
    }

    pub(super) fn on_snapshot_ended(&mut self) {
        if let Some(walk) = self.snapshot.walk {
            self.tree.abandon_snapshot(walk);
        }
        self.forget_snapshot();
    }

    /// The store that it was for is gone, and the tree that it was of: no end of it is heard of.
    pub(super) fn forget_snapshot(&mut self) {
        self.snapshot = SnapshotWalk { wanted: self.snapshot.wanted, ..SnapshotWalk::default() };
    }

    /// The tree is in memory: whoever has waited for that.
    pub(super) fn go_on_with_snapshots(&mut self, out: &mut Vec<Output>) {
        self.go_on_with_snapshot_links(out);
        if self.snapshot.wanted && !self.shutting_down && self.is_serving() {
            self.begin_snapshot(out);
        }
    }

    pub(super) fn move_nodes(&mut self, out: &mut Vec<Output>) {
        let Some(moved) = self.tree.move_some(MOVE_BYTES) else { return };
        self.metrics.digest_mismatches_count += u64::from(moved.contradiction.is_some());
        out.push(Output::Moved(moved));
        self.go_on_with_snapshots(out);
    }

    /// Whether `Input::MoveNodes` has something to do.
    pub fn is_moving(&self) -> bool {
        self.tree.is_moving()
    }

    /// Old images fill a good part of their memory: better to hurry now than to give up later.
    pub fn snapshot_is_pressing(&self) -> bool {
        self.snapshot.walk.is_some()
            && self.tree.snapshot_backlog_bytes() > self.settings.snapshot_backlog_max_bytes / 4
    }

    pub fn snapshot_running(&self) -> bool {
        self.snapshot.running
    }
}
