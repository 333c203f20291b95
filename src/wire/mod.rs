//! Bytes to messages and back: big-endian jute, no sockets.
//!
//! * [`jute`]: the encoding primitives, and how long things may be.
//! * [`frame`]: length-prefixed frames, put together from whatever a socket yields; four-letter words.
//! * [`client`]: everything a client sends and gets.
//! * [`txn`]: transactions as the log, proposals and DIFFs carry them.
//! * [`quorum`]: what a learner and its leader say to each other.
//! * [`election`]: what electors say to each other.
//! * [`java_properties`], [`server_line`]: the text of configurations, in files and between peers.
//! * [`error_code`]: the reasons the protocol knows for saying no.

pub mod client;
pub mod election;
pub mod error_code;
pub mod frame;
pub mod java_properties;
pub mod jute;
pub mod quorum;
pub mod server_line;
pub mod txn;

#[cfg(test)]
mod properties;

pub use error_code::ErrorCode;
