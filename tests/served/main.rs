//! The real process over real sockets, at the edges: bytes nobody should send, clients that do not read, crowds, stops,
//! disks that are full or fail, idling. What the core and the shell promise one by one must hold for the whole.
//!
//! Every wait is a poll with a deadline; loads are small enough for two busy cores. [`harness`] has the process and a
//! client made of the server's own codec.

mod broken_disks;
mod crowds;
mod disks;
mod frames;
mod harness;
mod idle;
mod java;
mod peers;
mod restarts;
mod scripted;
mod sessions;
mod slow_clients;
#[path = "../../storage/tests/rig/small_disk.rs"]
mod small_disk;
mod start;
mod stop;
mod strategies;
mod words;
