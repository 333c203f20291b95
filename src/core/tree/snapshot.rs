//! The tree as it was at one zxid, walked out in slices while writes go on.

use ringkeeper_storage::{NodeImage, SnapshotHeader};

use super::DataTree;

#[allow(unused_variables)]
impl DataTree {
    /// Begins a snapshot of exactly the present state. One at a time. The caller fills in the sessions.
    pub fn begin_snapshot(&mut self) -> SnapshotHeader {
        unimplemented!()
    }
    pub fn snapshot_running(&self) -> bool {
        unimplemented!()
    }
    /// The next images, about `max_bytes` of them; `None` once all were handed over (the snapshot is then over).
    pub fn snapshot_slice(&mut self, max_bytes: usize) -> Option<Vec<NodeImage>> {
        unimplemented!()
    }
    /// Bytes of old images waiting to be taken: what changed since the snapshot began and was not yet walked.
    pub fn snapshot_backlog_bytes(&self) -> usize {
        unimplemented!()
    }
    pub fn abandon_snapshot(&mut self) {
        unimplemented!()
    }
}
