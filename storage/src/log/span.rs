//! The books of the log: which segments hold batches, and where in them one can begin to read.

use std::collections::VecDeque;

use super::batch::Link;
use super::segment::{FIRST_BATCH_AT, SegmentId};
use crate::Zxid;

/// One known place for so many bytes: what a reader that looks for a zxid reads too much, and a few KiB of memory for each
/// 64 MiB of log.
const PLACE_EVERY_BYTES: u64 = 1 << 20;

/// A place where a batch begins, and what that batch follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub at: u64,
    pub link: Link,
}

/// A segment that holds batches or will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub id: SegmentId,
    pub bytes: u64,
    /// In order, the first batch's first. Empty: older than what the start had to look at.
    places: Vec<Place>,
}

impl Span {
    pub fn unknown(id: SegmentId, bytes: u64) -> Span {
        Span { id, bytes, places: Vec::new() }
    }

    /// A segment whose first batch follows `link`.
    pub fn new(id: SegmentId, bytes: u64, link: Link) -> Span {
        Span { id, bytes, places: vec![Place { at: FIRST_BATCH_AT, link }] }
    }

    /// The last zxid before its first batch.
    pub fn begins_after(&self) -> Option<Zxid> {
        Some(self.places.first()?.link.zxid)
    }

    /// A batch was written or read there. Kept when it is far enough from the last one.
    pub fn note(&mut self, place: Place) {
        if self.places.last().is_some_and(|last| place.at >= last.at + PLACE_EVERY_BYTES) {
            self.places.push(place);
        }
    }

    /// The last known place from which everything above `zxid` follows.
    pub fn place_before(&self, zxid: Zxid) -> Option<Place> {
        self.places.iter().rfind(|place| place.link.zxid <= zxid).copied()
    }
}

/// Where reading begins for everything above `zxid`. None: the log does not reach back that far.
pub fn find(spans: &VecDeque<Span>, zxid: Zxid) -> Option<(SegmentId, Place)> {
    spans.iter().rev().find_map(|span| Some((span.id, span.place_before(zxid)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_known_place_is_found() {
        let link = |zxid| Link { sequence: zxid, checksum: 0, zxid: Zxid(zxid) };
        let mut span = Span::new(SegmentId(2), 64 << 20, link(10));
        for (megabyte, zxid) in [(0.5, 15), (1.5, 20), (1.7, 22), (9.0, 30)] {
            span.note(Place { at: FIRST_BATCH_AT + (megabyte * f64::from(1 << 20)) as u64, link: link(zxid) });
        }
        let spans = VecDeque::from([Span::unknown(SegmentId(1), 1), span]);
        let found = |zxid| find(&spans, Zxid(zxid)).map(|(id, place)| (id.0, place.link.zxid.0));
        assert_eq!(
            [9, 10, 19, 20, 29, 99].map(found),
            [None, Some((2, 10)), Some((2, 10)), Some((2, 20)), Some((2, 20)), Some((2, 30))]
        );
    }
}
