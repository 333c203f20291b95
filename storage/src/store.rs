//! The store.
use crate::Zxid;
use crate::backend::facts::StorageFacts;
use crate::config::StoreConfig;
use crate::disk::{DiskEvent, DiskOp};
use crate::error::{LogError, SnapshotError, StoreError};
use crate::snapshot::image::{NodeImage, SnapshotHeader};

/// What the store tells the server.
#[derive(Debug)]
pub enum StoreEvent {
    /// Everything up to here is on stable storage. Strictly increasing.
    Durable(Zxid),
    /// One batch made it: for the flush latency histogram.
    Flushed {
        batch_bytes: u64,
        records: u32,
        elapsed_us: u32,
    },
    /// Changed room in the log; `Ample` until told otherwise.
    Room(LogRoom),
    /// The running snapshot can take this many more chunks right now.
    SnapshotRoom {
        chunks: usize,
    },
    SnapshotEnded(Result<SnapshotDone, SnapshotError>),
    /// The log is over: nothing more will ever be acknowledged. Leave the ensemble and exit non-zero.
    Failed(LogError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogRoom {
    Ample,
    /// The next segment is not ready and what is left is for sessions and what was already admitted.
    Low,
    /// Admit nothing that needs the log.
    None,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotDone {
    pub zxid: Zxid,
    pub bytes: u64,
    pub nodes: u64,
}

/// What recovery found and did, for the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// One sentence each: torn tails cut, snapshots passed over, leftovers removed.
    pub notes: Vec<String>,
    pub last_zxid: Zxid,
    pub records: u64,
    pub cut_bytes: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    pub log_bytes: u64,
    pub log_segments: usize,
    pub snapshots: usize,
    pub snapshot_bytes: u64,
    pub last_snapshot_zxid: Zxid,
    pub batches: u64,
    pub records: u64,
    pub record_bytes: u64,
    pub written_bytes: u64,
    pub last_zxid: Zxid,
    pub durable_zxid: Zxid,
}

/// Opens, locks, recovers. Blocks: at start only.
pub fn open(_config: StoreConfig) -> Result<Opened, StoreError> {
    unimplemented!("next commit")
}

/// A recovered directory: read it, then turn it into a `Store`. (Becomes generic over the disk, with this default.)
pub struct Opened {}

impl Opened {
    pub fn facts(&self) -> &StorageFacts {
        unimplemented!("next commit")
    }
    pub fn report(&self) -> &RecoveryReport {
        unimplemented!("next commit")
    }
    pub fn snapshot_header(&self) -> Option<&SnapshotHeader> {
        unimplemented!("next commit")
    }
    /// Every node of the newest valid snapshot, in the order they were written.
    pub fn for_each_node(&mut self, _f: impl FnMut(NodeImage)) -> Result<(), StoreError> {
        unimplemented!("next commit")
    }
    /// Every log record above the snapshot, in order.
    pub fn replay(&mut self, _f: impl FnMut(Zxid, &[u8])) -> Result<(), StoreError> {
        unimplemented!("next commit")
    }
    pub fn into_store(self) -> Result<Store, StoreError> {
        unimplemented!("next commit")
    }
}

/// The log and the snapshots in service. Sans-IO: `poll_ops` says what to do, `on_event` takes what came of it.
pub struct Store {}

impl Store {
    /// Copies the record into the open batch. Zxids strictly increase.
    pub fn append(&mut self, _zxid: Zxid, _record: &[u8]) {
        unimplemented!("next commit")
    }
    /// One at a time; ends with `SnapshotEnded`. Chunks of a snapshot that has failed meanwhile are dropped.
    pub fn begin_snapshot(&mut self, _header: SnapshotHeader) {
        unimplemented!("next commit")
    }
    pub fn snapshot_chunk(&mut self, _nodes: Vec<NodeImage>) {
        unimplemented!("next commit")
    }
    pub fn finish_snapshot(&mut self) {
        unimplemented!("next commit")
    }
    /// Keeps the newest `retain` snapshots and the log that the oldest of them needs; the rest is deleted in the background.
    pub fn purge(&mut self, _retain: usize) {
        unimplemented!("next commit")
    }
    /// What should be submitted now; seals a batch when a slot is free.
    pub fn poll_ops(&mut self, _ops: &mut Vec<DiskOp>) {
        unimplemented!("next commit")
    }
    pub fn on_event(&mut self, _event: DiskEvent, _out: &mut Vec<StoreEvent>) {
        unimplemented!("next commit")
    }
    /// Try again what a full disk refused. The shell calls this every second or so; then `poll_ops`.
    pub fn retry(&mut self) {
        unimplemented!("next commit")
    }
    pub fn stats(&self) -> StoreStats {
        unimplemented!("next commit")
    }
    /// Nothing buffered, nothing in flight.
    pub fn is_idle(&self) -> bool {
        unimplemented!("next commit")
    }
}
