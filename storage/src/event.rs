//! What the store tells its server: events while it serves, a report after recovery, figures when asked.

use std::io;

use crate::Zxid;
use crate::epoch_file::EpochKind;
use crate::error::{LogError, SnapshotError};
use crate::log::range::{LogWindow, RangeId};

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
    /// The running snapshot asks for this many chunks, or for `finish_snapshot`; it asks again after that.
    SnapshotRoom {
        chunks: usize,
    },
    SnapshotEnded(Result<SnapshotDone, SnapshotError>),
    /// A snapshot of now would let older ones and their log go, and the disk is full (`shortage.rs`).
    SnapshotWanted,
    /// A state from elsewhere (`Store::begin_install`) is decided to take the place of everything: leave this store, and open
    /// anew. Or it came to nothing, and nothing has changed.
    InstallEnded(Result<SnapshotDone, SnapshotError>),
    /// A piece of a range (`Store::read_range`). Hand it back with `Store::read_on` for the next.
    RangeRead {
        range: RangeId,
        window: LogWindow,
    },
    /// A range was read to its end, which is where the log was stable when it was asked for, if that is earlier.
    RangeEnded {
        range: RangeId,
        result: Result<Zxid, LogError>,
    },
    /// An epoch is stable (`Store::store_epoch`), and what it promises may be told; or it is not, and nothing may.
    EpochStored {
        kind: EpochKind,
        epoch: u32,
        result: io::Result<()>,
    },
    /// For the server's log: something went wrong that does not hurt yet.
    Trouble(String),
    /// The log is over: nothing more will ever be acknowledged. Leave the ensemble and exit non-zero.
    Failed(LogError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogRoom {
    Ample,
    /// The next segment could not be prepared, and what is left is for sessions and what was already admitted.
    Low,
    /// Admit nothing that needs the log. What was admitted waits for room, unacknowledged.
    None,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotDone {
    pub zxid: Zxid,
    pub bytes: u64,
    pub nodes: u64,
}

/// What recovery found and did, for the server's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// One sentence each: torn tails cut, snapshots passed over.
    pub notes: Vec<String>,
    pub last_zxid: Zxid,
    /// Log records after the snapshot.
    pub records: u64,
    pub cut_bytes: u64,
    /// Opened despite a loss: up to this transaction at least there were more, where that is known.
    pub lost_through: Option<Zxid>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    pub log_bytes: u64,
    pub log_segments: usize,
    /// Prepared and not begun, and their length.
    pub spare_segments: usize,
    pub spare_bytes: u64,
    /// Segments of this life: made by zero-filling, made from old ones, and attempts that the disk refused.
    pub segments_filled: u64,
    pub segments_recycled: u64,
    pub segments_refused: u64,
    /// How often the log went on in the next segment, and how often that was not ready when it was needed.
    pub rolls: u64,
    pub rolls_that_waited: u64,
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
