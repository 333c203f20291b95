//! Load generators and comparisons for servers of the ZooKeeper protocol: any such server, over TCP, from one thread.
//!
//!   arguments (main.rs) -> scenario.rs -> load.rs | storm.rs | idle.rs | watch.rs -> report.rs
//!
//!   server.rs: a server that a run starts        versus.rs: two of them, the same scenarios in alternation
//!   contestants.rs: ringkeeper, and Java         fsync.rs:  one for each log strategy, in alternation
//!   prepared.rs: trees to start on               start.rs:  from exec to the first answer
//!   snapshot_watch.rs: when one is written       snapshot_tail.rs: what it does to the writes beside it
//!   ensemble.rs: servers that belong together    failover.rs: without its leader   rejoin.rs: with a member that was away
//!   probe.rs: who writes all the time, and when that was answered
//!   memory.rs: znodes, sessions and watches by the million
//!
//!   wire.rs      the few frames a generator needs        session.rs   opening and closing many sessions at once
//!   net.rs       epoll, and one non-blocking connection  client.rs    a plain blocking client that prepares and cleans up
//!   workload.rs  what each session asks, and whether the answer is right
//!   floor.rs     made-up replies; floor_member.rs serves them, alone or as one of three: what nothing can beat on this machine
//!   big_tree.rs  znodes by the million         device.rs    the disk: what it is, and what it was asked to do
//!   usage.rs     whose CPU was used, from /proc          report.rs    figures, a line for people, a line of JSON
//!
//! Holds always: every reply is checked against the request it answers, and the first wrong one ends the run, because a
//! fast wrong answer is not a result. Not here, on purpose: the server's own codec. This crate decides for itself what
//! bytes are right, so that it stays an independent witness.

pub mod big_tree;
pub mod client;
pub mod contestants;
pub mod device;
pub mod ensemble;
pub mod failover;
pub mod floor;
pub mod floor_member;
pub mod fsync;
pub mod idle;
pub mod load;
pub mod memory;
pub mod net;
pub mod prepared;
pub mod probe;
pub mod rejoin;
pub mod report;
pub mod scenario;
pub mod server;
pub mod session;
pub mod snapshot_tail;
pub mod snapshot_watch;
pub mod start;
pub mod storm;
pub mod usage;
pub mod versus;
pub mod watch;
pub mod wire;
pub mod workload;

#[cfg(test)]
mod fake_server;

use std::fmt;
use std::net::SocketAddr;

/// Why a run ended early. Every caller does the same with it: prints it and gives the run up; so it is one message.
#[derive(Debug)]
pub struct BenchError(String);

pub type Result<T> = std::result::Result<T, BenchError>;

impl BenchError {
    pub fn new(message: impl Into<String>) -> BenchError {
        BenchError(message.into())
    }
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BenchError {}

/// Says what was being done when the world failed us.
pub trait Doing<T> {
    fn doing(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|cause| BenchError(format!("{what}: {cause}")))
    }
}

/// The server under load, and what the run may know about it.
#[derive(Clone, Debug)]
pub struct Target {
    /// Sessions are spread over these in turn.
    pub servers: Vec<SocketAddr>,
    /// Processes whose CPU and memory count as the server's. Empty: unknown, and not reported.
    pub server_pids: Vec<u32>,
    /// Names the server in reports.
    pub label: String,
    /// All znodes of a run live below this one.
    pub root: String,
    /// Leave the znodes behind.
    pub keep: bool,
    /// The disk that the server writes to, when what it is asked to do is of interest.
    pub disk: Option<device::Device>,
}
