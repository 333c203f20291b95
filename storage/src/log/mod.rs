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
//! log, the segment, its place, its running number and the checksum of the batch before it. So a reader needs no index and no
//! end mark, and bytes of another life, another place, another order or another log never pass for the next batch, nor do
//! those that a client made look like one (`segment.rs`: the log's id).
//!
//! ```text
//! header  | magic | crc | version | segment | starts_log | base_sequence | base_zxid | log id |                     56 bytes
//! mark    | magic | crc | 0 | segment | written_below | durable_sequence | durable_zxid | log id |                  56
//! batch   | magic | crc | kind | 0 | segment | at | sequence | previous crc | count | bytes | given_up | 5 zxids and sequences |
//!         | zxid | length | payload | ... zeroes to the next block; its crc begins with the log id, which is not in it
//! ```
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
