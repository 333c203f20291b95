//! Bytes to messages and back: big-endian jute, no sockets..
//!
//! * [`jute`]: the encoding primitives. * [`frame`]: length-prefixed frames and their limits. * [`client`]: everything a
//!   client sends and gets. * [`txn`]: transactions as the log, proposals and DIFFs carry them. * [`error_code`].

pub mod client;
pub mod error_code;
pub mod frame;
pub mod jute;
pub mod txn;

#[cfg(test)]
mod properties;

pub use error_code::ErrorCode;
