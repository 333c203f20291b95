//! The master's side of SNAP: the tree as it is at one zxid, walked out to a learner as fast as its link takes it.
//!
//! Every learner has a walk of its own, beside those of others and of the disk: a slow one keeps nobody waiting. Memory is
//! bounded for all of them together: a learner that takes too little while too much changes is dropped, and comes back.
//!
//! Java: `LearnerHandler`, `ZKDatabase.serializeSnapshot`. Spec: quorum-protocol 7.6.

use std::collections::BTreeMap;

use ringkeeper_storage::probe::mark;

use super::node::Node;
use super::tree::WalkId;
use super::types::{LinkId, LinkMessage, Now, Output, Zxid};

/// Chunks given in one go, to all links together: some milliseconds of gathering. What a link has sent asks for more.
const CHUNKS_AT_ONCE: usize = 16;

/// Learners that are to have everything.
#[derive(Debug, Default)]
pub(super) struct SnapshotLinks {
    walks: BTreeMap<LinkId, WalkId>,
    /// For the tree to be in memory; in the order in which they came.
    waiting: Vec<LinkId>,
}

impl Node {
    /// This learner needs the whole state.
    pub(super) fn send_snapshot(&mut self, link: LinkId, out: &mut Vec<Output>) {
        self.snapshot_links.waiting.push(link);
        self.go_on_with_snapshot_links(out);
    }

    /// Begins the walks that the tree was not ready for.
    pub(super) fn go_on_with_snapshot_links(&mut self, out: &mut Vec<Output>) {
        if self.tree.is_moving() || self.role.master().is_none() {
            return;
        }
        let waiting = std::mem::take(&mut self.snapshot_links.waiting);
        let sessions = if waiting.is_empty() { Vec::new() } else { self.session_images() };
        for link in waiting {
            let (walk, mut header) = self.tree.begin_snapshot_parents_first();
            header.sessions.clone_from(&sessions);
            let leader = self.role.master().expect("looked at above");
            leader.snapshot_begins(link, Zxid(header.zxid), out);
            leader.snapshot_part(link, LinkMessage::SnapshotBegin(Box::new(header)), out);
            self.snapshot_links.walks.insert(link, walk);
            self.on_link_room(link, out);
        }
    }

    /// The link has taken something: more chunks for it.
    pub(super) fn on_link_room(&mut self, link: LinkId, out: &mut Vec<Output>) {
        let Some(walk) = self.snapshot_links.walks.get(&link).copied() else {
            return;
        };
        let Some(leader) = self.role.master() else {
            return;
        };
        for _ in 0..CHUNKS_AT_ONCE.div_ceil(self.snapshot_links.walks.len()) {
            if !leader.has_room(link) {
                return;
            }
            match self.tree.snapshot_slice(walk, self.settings.snapshot_chunk_bytes) {
                Some(chunk) => leader.snapshot_part(link, LinkMessage::SnapshotChunk(chunk), out),
                None => {
                    leader.snapshot_part(link, LinkMessage::SnapshotEnd, out);
                    self.snapshot_links.walks.remove(&link);
                    return;
                }
            }
        }
    }

    /// Who leaves most of what changed meanwhile to be remembered, and how many bytes that is.
    pub(super) fn slowest_snapshot_link(&self) -> Option<(LinkId, usize)> {
        let links = self.snapshot_links.walks.iter();
        links.map(|(link, walk)| (*link, self.tree.walk_backlog_bytes(*walk))).max_by_key(|(_, bytes)| *bytes)
    }

    /// What changed meanwhile fills the memory set aside for it.
    pub(super) fn drop_snapshot_link(&mut self, now: Now, link: LinkId, out: &mut Vec<Output>) {
        mark("leader: a learner takes its snapshot too slowly");
        let why = "it takes its snapshot too slowly: what changes meanwhile fills the memory set aside for it";
        if let Some(leader) = self.role.master() {
            leader.drop_learner(now, link, why, out);
        }
        self.snapshot_link_gone(link);
    }

    pub(super) fn snapshot_link_gone(&mut self, link: LinkId) {
        self.snapshot_links.waiting.retain(|waiting| *waiting != link);
        if let Some(walk) = self.snapshot_links.walks.remove(&link) {
            self.tree.abandon_snapshot(walk);
        }
    }

    /// The role is over.
    pub(super) fn forget_snapshot_links(&mut self) {
        for walk in std::mem::take(&mut self.snapshot_links).walks.into_values() {
            self.tree.abandon_snapshot(walk);
        }
    }
}
