//! The leader's side of SNAP: the tree as it is at one zxid, walked out to a learner as fast as its link takes it.
//!
//! One walk at a time, shared with the snapshots for the disk: who comes while another one is under way waits for its turn.
//! Java: `LearnerHandler`, `ZKDatabase.serializeSnapshot`. Spec: quorum-protocol 7.6.

use std::collections::VecDeque;

use super::node::Node;
use super::peer::{Leading, Role};
use super::types::{LinkId, LinkMessage, Output, Zxid};

/// Bytes of node images in one chunk.
const CHUNK_BYTES: usize = 64 * 1024;

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
        let busy = self.snapshot_links.current.is_some() || self.snapshot.running || self.tree.is_moving();
        let Role::Leading(Leading { leader, .. }) = &mut self.role else {
            return;
        };
        let Some(link) = (!busy).then(|| self.snapshot_links.waiting.pop_front()).flatten() else {
            return;
        };
        let mut header = self.tree.begin_snapshot();
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
        let Role::Leading(Leading { leader, .. }) = &mut self.role else {
            return;
        };
        while leader.has_room(link) {
            match self.tree.snapshot_slice(CHUNK_BYTES) {
                Some(chunk) => leader.snapshot_part(link, LinkMessage::SnapshotChunk(chunk), out),
                None => {
                    leader.snapshot_part(link, LinkMessage::SnapshotEnd, out);
                    self.snapshot_links.current = None;
                    return self.go_on_with_snapshots(out);
                }
            }
        }
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
