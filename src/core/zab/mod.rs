//! Atomic broadcast: what is proposed, what a quorum has, what is committed.
//!
//! A standalone server leads an ensemble of one: its own finished disk write is the whole quorum.

pub mod ballot;
pub mod catch_up;
pub mod epoch;
pub mod leader;
pub mod learner;
pub mod learner_handler;
pub mod membership;
pub mod proposals;
pub mod window;

pub use leader::Leader;
