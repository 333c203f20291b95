//! The watermarks of one server, together and in their order.

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
