//! Purged segments: kept to be used again, under their old names, or deleted. Their blocks are written already, so a segment
//! made from one costs a rename and a header instead of its length in zeroes.

use std::collections::VecDeque;
use std::path::Path;

use super::segment::SegmentId;
use crate::disk::{Action, DiskEvent, DiskOp, Ids, OpId, Owner};
use crate::event::StoreEvent;

/// As many are kept as are begun between two purges, so that a steady server makes no new ones, and no more than these (512
/// MiB of 64 MiB each): a server that writes so much between two purges has disks for it.
const KEPT_MAX: u64 = 8;

#[derive(Debug)]
pub struct Released {
    segment_bytes: u64,
    /// The oldest first.
    segments: VecDeque<(SegmentId, u64)>,
    kept: usize,
    rolls_before_purge: u64,
    deleting: Option<(OpId, SegmentId)>,
}

impl Released {
    /// Segments of another length than `segment_bytes` are of no use.
    pub fn new(segment_bytes: u64) -> Released {
        Released { segment_bytes, segments: VecDeque::new(), kept: 0, rolls_before_purge: 0, deleting: None }
    }

    /// A purge gives these away. `rolls`: segments that were begun so far.
    pub fn add(&mut self, segments: impl Iterator<Item = (SegmentId, u64)>, rolls: u64) {
        self.segments.extend(segments);
        let begun = rolls - std::mem::replace(&mut self.rolls_before_purge, rolls);
        // No two intervals are alike: up at once, down slowly.
        self.kept = (begun.min(KEPT_MAX) as usize).max(self.kept.saturating_sub(1));
    }

    /// None is kept until the next purge: the disk is full.
    pub fn keep_none(&mut self) {
        self.kept = 0;
    }

    /// One to make a segment of this length from.
    pub fn take(&mut self, capacity: u64) -> Option<SegmentId> {
        let index = self.segments.iter().position(|(_, bytes)| *bytes == capacity)?;
        self.segments.remove(index).map(|(segment, _)| segment)
    }

    pub fn count_and_bytes(&self) -> (usize, u64) {
        (self.segments.len(), self.segments.iter().map(|(_, bytes)| bytes).sum())
    }

    pub fn is_deleting(&self) -> bool {
        self.deleting.is_some()
    }

    pub fn has_more_to_delete(&self) -> bool {
        self.next_to_delete().is_some()
    }

    /// What is not kept goes one at a time.
    pub fn poll(&mut self, directory: &Path, ids: &mut Ids, ops: &mut Vec<DiskOp>) {
        if self.deleting.is_none()
            && let Some(index) = self.next_to_delete()
            && let Some((segment, _)) = self.segments.remove(index)
        {
            let id = ids.operation(Owner::LogDelete);
            self.deleting = Some((id, segment));
            ops.push(DiskOp { id, action: Action::Unlink { path: segment.path(directory) } });
        }
    }

    pub fn on_event(&mut self, event: DiskEvent, out: &mut Vec<StoreEvent>) {
        let (id, segment) = self.deleting.take().expect("an answer to a question");
        assert_eq!(id, event.id, "an answer to this question");
        // A file that cannot be deleted costs space, nothing else; the next start counts it again.
        if let Err(error) = event.result {
            let file = segment.file_name();
            out.push(StoreEvent::Trouble(format!("{file}: could not be deleted: {error}")));
        }
    }

    fn next_to_delete(&self) -> Option<usize> {
        let of_other_length = self.segments.iter().position(|(_, bytes)| *bytes != self.segment_bytes);
        of_other_length.or((self.segments.len() > self.kept).then_some(0))
    }
}
