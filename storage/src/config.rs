//! What the store has to be told. Everything has a default but the two directories.

use std::path::PathBuf;

use crate::disk::BLOCK_BYTES;
use crate::log::sync_strategy::LogStrategy;

/// Our directory inside `dataDir` and `dataLogDir`, beside Java's `version-2`.
pub const DIRECTORY: &str = "ringkeeper-1";

const SEGMENT_BYTES_MAX: u64 = 1 << 40;

#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Snapshots live in `ringkeeper-1` under this. Java: `dataDir`.
    pub data_dir: PathBuf,
    /// The log lives in `ringkeeper-1` under this. Java: `dataLogDir`.
    pub data_log_dir: PathBuf,
    /// Length of a log segment. Java: `preAllocSize` (which is in KiB). Raised when it holds fewer than four batches, and at
    /// most 1 TiB.
    pub segment_bytes: u64,
    /// How a batch becomes durable.
    pub strategy: LogStrategy,
    /// Batches on their way to the disk at once; more are collected meanwhile. 1 to 8.
    pub batches_in_flight: usize,
    /// A batch is sent at this size at the latest. One record larger than this travels alone.
    pub batch_bytes_max: usize,
    /// Room is reported `Low` when the current segment has less than this left and the next could not be prepared, and
    /// `None` at a quarter of it.
    pub reserve_bytes: u64,
    /// How far a segment's mark runs ahead of its batches: about what a restart has to read behind the log's end, and after how
    /// many bytes one more small write is due.
    pub mark_bytes: u64,
    /// Nodes that one run of a snapshot's index covers at most: about 12 bytes of memory each while it is written, and one
    /// more look for each run when a name is looked up.
    pub snapshot_run_nodes: u32,
    /// A snapshot up to this size is checked from end to end when it is opened; a larger one as it is read.
    pub snapshot_checked_bytes: u64,
    /// How many snapshots `Store::purge` will be asked to keep: the start looks back over the log as far as the oldest of
    /// them needs. A purge that keeps more leaves older segments alone until snapshots of this life have replaced them.
    /// Java: `autopurge.snapRetainCount`.
    pub snapshots_kept: usize,
    /// A member of an ensemble: what was damaged is set aside and fetched from peers. Alone, only an operator may decide that.
    pub has_peers: bool,
}

impl StoreConfig {
    pub fn new(data_dir: impl Into<PathBuf>, data_log_dir: impl Into<PathBuf>) -> StoreConfig {
        StoreConfig {
            data_dir: data_dir.into(),
            data_log_dir: data_log_dir.into(),
            segment_bytes: 64 << 20,
            strategy: LogStrategy::default(),
            batches_in_flight: 2,
            batch_bytes_max: 1 << 20,
            reserve_bytes: 8 << 20,
            mark_bytes: 2 << 20,
            snapshot_run_nodes: 1 << 20,
            snapshot_checked_bytes: 128 << 20,
            snapshots_kept: 3,
            has_peers: false,
        }
    }

    /// The same with every number inside its bounds: what an opened store goes by.
    pub fn clamped(mut self) -> StoreConfig {
        self.batches_in_flight = self.batches_in_flight.clamp(1, 8);
        self.snapshots_kept = self.snapshots_kept.max(1);
        self.snapshot_run_nodes = self.snapshot_run_nodes.clamp(1, 1 << 24);
        self.batch_bytes_max = self.batch_bytes_max.clamp(BLOCK_BYTES, 16 << 20).next_multiple_of(BLOCK_BYTES);
        let block = BLOCK_BYTES as u64;
        self.segment_bytes =
            self.segment_bytes.clamp(4 * self.batch_bytes_max as u64, SEGMENT_BYTES_MAX).next_multiple_of(block);
        self.mark_bytes = self.mark_bytes.clamp(block, SEGMENT_BYTES_MAX).next_multiple_of(block);
        self.reserve_bytes = self.reserve_bytes.clamp(BLOCK_BYTES as u64, self.segment_bytes / 2);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_numbers_are_brought_inside_their_bounds() {
        for huge in [0, 1, 5000, u64::MAX] {
            let config = StoreConfig {
                segment_bytes: huge,
                batches_in_flight: huge as usize,
                batch_bytes_max: huge.min(1 << 62) as usize,
                reserve_bytes: huge,
                mark_bytes: huge,
                ..StoreConfig::new("data", "data")
            };
            let StoreConfig { segment_bytes, batch_bytes_max, reserve_bytes, mark_bytes, .. } = config.clamped();
            assert!(segment_bytes >= 4 * batch_bytes_max as u64 && segment_bytes <= SEGMENT_BYTES_MAX);
            assert!((1..=segment_bytes / 2).contains(&reserve_bytes) && mark_bytes > 0);
            assert!([segment_bytes, mark_bytes, batch_bytes_max as u64].iter().all(|bytes| bytes % 4096 == 0));
        }
    }
}
