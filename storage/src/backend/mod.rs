//! Backends.
pub mod facts;
pub mod uring;
