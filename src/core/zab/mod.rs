//! Atomic broadcast: what is proposed, what a quorum has, what is committed.
//!
//! A standalone server leads an ensemble of one: its own finished disk write is the whole quorum.

pub mod leader;
pub mod quorum;

pub use leader::Leader;
pub use quorum::Quorum;
