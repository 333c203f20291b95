//! The master's side of SNAP: the tree as it is at one zxid, walked out to a learner as fast as its link takes it.
//!
//! One walk at a time: a learner that comes while another one is served waits for its turn. A snapshot for the disk gives
//! way and is taken later; it has time, a learner that waits keeps a voter from its ensemble. Memory is bounded as with the
//! disk: a learner that takes too little while too much changes is dropped, and comes back.
//!
//! Java: `LearnerHandler`, `ZKDatabase.serializeSnapshot`. Spec: quorum-protocol 7.6.

use std::collections::VecDeque;

use ringkeeper_storage::probe::mark;

use super::node::Node;
use super::types::{LinkId, LinkMessage, Now, Output, Zxid};

/// Chunks given in one go: some milliseconds of gathering. What the link has sent asks for more.
const CHUNKS_AT_ONCE: usize = 16;

/// Learners that are to have everything.
#[derive(Debug, Default)]
pub(super) struct SnapshotLinks {
    /// The one that is being served.
    current: Option<LinkId>,
    waiting: VecDeque<LinkId>,
}

impl Node {
    /// This learner needs the whole state.
    pub(super) fn send_snapshot(&mut self, link: LinkId, out: &mut Vec<Output>) {
        self.snapshot_links.waiting.push_back(link);
        self.go_on_with_snapshot_links(out);
    }

    /// Begins the next walk if the tree is free for it. To be called when a walk, or the move into memory, is over.
    pub(super) fn go_on_with_snapshot_links(&mut self, out: &mut Vec<Output>) {
        if self.snapshot_links.current.is_some() || self.snapshot_links.waiting.is_empty() || self.tree.is_moving() {
            return;
        }
        if self.snapshot.running && !self.snapshot.over {
            mark("leader: a snapshot for the disk gives way to a learner");
            self.abandon_snapshot("a learner needs the state first; another one follows", out);
            self.snapshot.wanted = true;
        }
        let Some(leader) = self.role.master() else {
            return;
        };
        let Some(link) = self.snapshot_links.waiting.pop_front() else {
            return;
        };
        let mut header = self.tree.begin_snapshot_parents_first();
        header.sessions = self.sessions.iter().map(|(id, session)| (id.0, session.table_timeout_ms)).collect();
        header.sessions.sort_unstable();
        leader.snapshot_begins(link, Zxid(header.zxid), out);
        leader.snapshot_part(link, LinkMessage::SnapshotBegin(Box::new(header)), out);
        self.snapshot_links.current = Some(link);
        self.on_link_room(link, out);
    }

    /// The link has taken something: more chunks for it.
    pub(super) fn on_link_room(&mut self, link: LinkId, out: &mut Vec<Output>) {
        if self.snapshot_links.current != Some(link) {
            return;
        }
        let Some(leader) = self.role.master() else {
            return;
        };
        for _ in 0..CHUNKS_AT_ONCE {
            if !leader.has_room(link) {
                return;
            }
            match self.tree.snapshot_slice(self.settings.snapshot_chunk_bytes) {
                Some(chunk) => leader.snapshot_part(link, LinkMessage::SnapshotChunk(chunk), out),
                None => {
                    leader.snapshot_part(link, LinkMessage::SnapshotEnd, out);
                    self.snapshot_links.current = None;
                    return self.go_on_with_snapshots(out);
                }
            }
        }
    }

    /// What changed meanwhile fills the memory set aside for it.
    pub(super) fn drop_snapshot_link(&mut self, now: Now, out: &mut Vec<Output>) {
        let (Some(link), Some(leader)) = (self.snapshot_links.current, self.role.master()) else {
            return;
        };
        mark("leader: a learner takes its snapshot too slowly");
        let why = "it takes its snapshot too slowly: what changes meanwhile fills the memory set aside for it";
        leader.drop_learner(now, link, why, out);
        self.snapshot_link_gone(link, out);
    }

    pub(super) fn snapshot_link_gone(&mut self, link: LinkId, out: &mut Vec<Output>) {
        self.snapshot_links.waiting.retain(|waiting| *waiting != link);
        if self.snapshot_links.current == Some(link) {
            self.snapshot_links.current = None;
            self.tree.abandon_snapshot();
            self.go_on_with_snapshots(out);
        }
    }

    /// The role is over.
    pub(super) fn forget_snapshot_links(&mut self) {
        if std::mem::take(&mut self.snapshot_links).current.is_some() {
            self.tree.abandon_snapshot();
        }
    }

    pub(super) fn sends_snapshot(&self) -> bool {
        self.snapshot_links.current.is_some()
    }
}
