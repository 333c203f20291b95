//! Reading files for people: what is there, byte by byte, and what is damaged, without stopping at the first damage.
//!
//! Nothing here decides anything: a start decides with `log/recover.rs` and `snapshot/load.rs`, and a tool that wants to know
//! what it would do asks [`crate::open_on`] on a disk that only reads. Nothing is decoded twice either: these are the very
//! functions that a start uses, walked differently.

mod java_log;
mod log;
mod snapshot;

pub use java_log::{JavaPiece, read_java_log};
pub use log::{LogEnd, Piece, SegmentReader, SegmentStart, log_end};
pub use snapshot::{
    Part, check_parts, find_chunks, for_each_whole_node, last_block, open_snapshot_as, snapshot_of_end,
    snapshot_of_name,
};

pub use crate::log::batch::{Batch, Durable, Link};
pub use crate::log::segment::{HeaderError, LogId, Mark, SegmentId, SegmentKind, claimed_segment};
