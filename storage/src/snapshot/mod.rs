//! Snapshots.
pub mod image;
