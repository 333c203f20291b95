//! The watermarks of one server, together and in their order; and how far its snapshot is.

use std::collections::VecDeque;

use super::tree::WalkId;
use super::types::Zxid;

/// `applied <= committed <= logged` and `durable <= logged`. Durable and committed have no fixed order on one server of
/// an ensemble: a quorum may outrun our disk.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Handed to the log.
    pub logged: Zxid,
    /// On our own stable storage.
    pub durable: Zxid,
    /// On a quorum's.
    pub committed: Zxid,
    /// In the tree: `lastProcessedZxid`.
    pub applied: Zxid,
    /// Of what is handed to the log and not on our own stable storage, the lengths; and together.
    undurable: VecDeque<(Zxid, usize)>,
    undurable_bytes: usize,
}

impl Progress {
    pub fn starting_at(last: Zxid) -> Self {
        let (undurable, undurable_bytes) = (VecDeque::new(), 0);
        Progress { logged: last, durable: last, committed: last, applied: last, undurable, undurable_bytes }
    }

    pub fn log(&mut self, zxid: Zxid, bytes: usize) {
        self.logged = zxid;
        self.undurable.push_back((zxid, bytes));
        self.undurable_bytes += bytes;
    }

    pub fn flushed(&mut self, through: Zxid) {
        self.durable = self.durable.max(through);
        while let Some((_, bytes)) = self.undurable.pop_front_if(|(zxid, _)| *zxid <= through) {
            self.undurable_bytes -= bytes;
        }
    }

    /// What waits for our own disk. A quorum of others may commit it, so nothing else bounds it.
    pub fn undurable_bytes(&self) -> usize {
        self.undurable_bytes
    }

    /// Called after every step.
    pub fn check(&self) {
        assert!(self.applied <= self.committed, "{self:?}");
        assert!(self.committed <= self.logged, "{self:?}");
        assert!(self.durable <= self.logged, "{self:?}");
    }
}

/// How far the running snapshot is (`snapshot.rs`).
#[derive(Debug, Default)]
pub struct SnapshotWalk {
    /// From `SnapshotBegin` until the store says it is done with it.
    pub running: bool,
    /// None: everything has been handed over, or it was given up.
    pub walk: Option<WalkId>,
    /// Asked for while the tree was still moving into memory.
    pub wanted: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_the_disk_is_counted_until_it_is_there() {
        let mut progress = Progress::starting_at(Zxid(4));
        (5..=7).for_each(|zxid| progress.log(Zxid(zxid), 10));
        for (through, left) in [(4, 30), (6, 10), (6, 10), (7, 0)] {
            progress.flushed(Zxid(through));
            assert_eq!((progress.undurable_bytes(), progress.durable), (left, Zxid(through)));
        }
    }
}
