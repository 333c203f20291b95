//! The transaction log: what an acknowledged write rests on.
//!
//! ```text
//! <dataLogDir>/ringkeeper-1/
//!   log-0000000000000003.seg     | header | mark | batch | batch | batch | batch | batch | batch |  purged, kept to be used again
//!   log-0000000000000006.seg     | header | mark | batch | batch | batch | batch | batch | batch |  full
//!   log-0000000000000007.seg     | header | mark | batch | batch | what its former life left ... |  being written
//!   log-0000000000000008.seg     | header | mark | zeroes, or what its former life left ...      |  ready, one ahead
//!   log-0000000000000009.tmp     being made, from nothing or from a purged one; never looked at by recovery
//!   log-0000000000000007.cut-0000000100000005   the same segment, ending there: a truncation that every start completes
//! ```
//!
//! A segment's blocks are written before it gets its name, so a commit never waits for the file system's own journal. A
//! batch is a whole number of blocks, goes out as one write that is durable when it completes, and names in its checksum the
//! segment, its place, its running number and the checksum of the batch before it. So a reader needs no index and no
//! end mark, and bytes of another life, another place or another order never pass for the next batch.
//!
//! Holds always: batches are acknowledged in order; a block that holds a batch is not written again while anybody needs the
//! segment; behind the last batch of a log that recovery has accepted, no block says that it begins a batch of this segment
//! and this place; a number is never used twice, neither a segment's nor a batch's.
//!
//! Not here, on purpose: clocks, threads, files (`backend/`), what a record means (the core). Java: `FileTxnLog`.

pub mod append;
pub mod batch;
pub mod prepare;
pub mod range;
pub mod recover;
pub mod recycle;
pub mod segment;
pub mod span;
pub mod sync_strategy;
pub mod truncate;
