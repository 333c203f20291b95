//! The watermarks of one server, together and in their order; and how far its snapshot is.

use super::types::Zxid;

/// `applied <= committed <= logged` and `durable <= logged`. Durable and committed have no fixed order on one server of
/// an ensemble: a quorum may outrun our disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Handed to the log.
    pub logged: Zxid,
    /// On our own stable storage.
    pub durable: Zxid,
    /// On a quorum's.
    pub committed: Zxid,
    /// In the tree: `lastProcessedZxid`.
    pub applied: Zxid,
}

impl Progress {
    pub fn starting_at(last: Zxid) -> Self {
        Progress { logged: last, durable: last, committed: last, applied: last }
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
    /// Everything has been handed over, or it was given up: no more chunks.
    pub over: bool,
    /// Asked for while the tree was still moving into memory.
    pub wanted: bool,
}
