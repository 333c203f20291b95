//! ringkeeper: a drop-in server for the ZooKeeper protocol.
//!
//! A request travels through this tree in the order of the numbers in `docs/ARCHITECTURE.md`:
//!
//! * [`wire`]: bytes to messages and back. No sockets.
//! * [`core`]: all the thinking: sessions, prep, ZAB, commit, tree, watches, replies. Pure: time and chance arrive as
//!   inputs, effects leave as values. In an ensemble [`core::peer`] holds the server's part: it looks for a leader
//!   ([`core::election`]), leads or follows ([`core::zab`]), and settles what a role has left before the next one begins.
//! * `ringkeeper_storage`: every byte that outlives the process: log, snapshots, epochs.
//! * [`shell`]: IO and nothing but: glommio executors, sockets, the log ring, signals.
//! * [`java`]: directories of Java servers, taken in and written.
//! * [`snapshot_stream`]: a whole state on its way to a learner, in Java's bytes and in ours.
//! * [`config`]: zoo.cfg and the other places where a setting can live.
//! * `sim` (feature `sim`): whole ensembles on one thread from one seed, in place of the shell; `sim/properties` is what this
//!   server promises, a file each.
//! * [`store_host`]: a node's disk, between core and storage; [`snapshot_stream`]: a state on its way to a learner.
//!
//! Dependencies point one way: `wire <- core <- shell`; `tests/tidy.rs` keeps it so.
#![forbid(unsafe_code)]

pub mod config;
pub mod core;
pub mod java;
pub mod limits;
pub mod shell;
#[cfg(feature = "sim")]
pub mod sim;
pub mod snapshot_stream;
pub mod store_host;
pub mod wire;
