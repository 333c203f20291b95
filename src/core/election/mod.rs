//! Who is to lead: FastLeaderElection, one state machine for the life of a server.
//!
//! [`vote`]: what is voted for and what beats it. [`fast_leader_election`]: rounds, notifications, back-off, the decision.
//! Not here, on purpose: connections, whether the elected really leads (`zab`). Java: `FastLeaderElection`. Spec:
//! quorum-protocol 4.

pub mod fast_leader_election;
pub mod vote;

#[cfg(test)]
mod tests;

pub use fast_leader_election::{Candidate, Decision, Election, Nominee};
pub use vote::Vote;
