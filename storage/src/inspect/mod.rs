//! Reading files for people: what is there, byte by byte, and what is damaged, without stopping at the first damage.
//!
//! Nothing here decides anything: a start decides with `log/recover.rs` and `snapshot/load.rs`, and a tool that wants to know
//! what it would do asks [`crate::open_on`], which changes nothing. Nothing is decoded twice either: these are the very
//! functions that a start uses, walked differently.

mod java_log;
mod log;

pub use java_log::{JavaPiece, read_java_log};
pub use log::{LogEnd, Piece, SegmentReader, SegmentStart, log_end};

pub use crate::log::batch::{Batch, Durable, Link};
pub use crate::log::segment::{FIRST_BATCH_AT, HeaderError, Mark, SegmentId, SegmentKind, claimed_segment};
