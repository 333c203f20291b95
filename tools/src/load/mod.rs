//! A load whose every answer is known beforehand, and what the tree must look like whenever it breaks off.
//!
//!   `actor`   one session that writes below a node of its own, many requests in flight
//!   `model`   what must be there afterwards
//!   `random`  chance with a seed
//!
//! The crash harness puts it on one server, the drill on an ensemble.

pub mod actor;
pub mod model;
pub mod random;
