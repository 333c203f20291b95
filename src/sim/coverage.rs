//! The marked branches: rare ones, each worth knowing that a simulation has taken it. `tests/simulation.rs` compares this list
//! with the sources.

/// Every name given to `probe::mark`, in order.
pub const MARKS: &[&str] = &[];
