//! The thinking. Pure: no clock, thread, socket, file or random source in here (`tests/tidy.rs` watches).
//!
//! [`node::Node`] owns all state of a server and is driven by `step(now, input, &mut outputs)`. A standalone server is an
//! ensemble of one: the same leader code with a quorum of one. [`peer`] is what a member of a larger one does beside that: its part,
//! and the way from one part to the next, between the machines of [`election`] and [`zab`].

mod annals;
pub mod connection;
pub mod election;
pub mod ensemble_view;
pub mod metrics;
pub mod node;
pub mod node_view;
pub mod peer;
pub mod pipeline;
pub mod progress;
mod reconfigure;
pub mod replay;
pub mod session;
pub mod settings;
pub mod snapshot;
pub mod snapshot_check;
mod snapshot_link;
pub mod tree;
pub mod types;
pub mod view;
pub mod zab;

pub use node::Node;
pub use settings::Settings;
pub use types::*;
