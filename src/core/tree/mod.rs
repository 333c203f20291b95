//! The data tree and what hangs on it: nodes, ACLs, digest, snapshots, watches. Pure and owned by one node.
//!
//! * [`path`]: what a path is and its pieces. * [`node`]: how nodes lie in memory and how a name finds its node.
//! * [`acl`]: permission lists and identities. * [`digest`]: the checksum that servers compare.
//! * [`data_tree`]: the tree as readers see it. * [`apply`]: the only way it changes. * [`ephemeral`]: who owns what.
//! * [`build`]: a tree from a list of paths, as Java's snapshots are.
//! * [`quota`]: what subtrees may hold, and what they hold.
//! * [`snapshot`]: the tree as it was at one zxid, walked out in slices.
//! * [`load`]: a tree that starts from a snapshot and serves before it is in memory. * `unmoved`: what is not there yet.
//! * `sums`: what a snapshot's nodes must be. * `links`: whether they hang together.
//! * [`watch`]: who wants to hear of which path.
//!
//! Not here, on purpose: checks of a request (prep does them), sessions and their timeouts, replies.
//! Spec: semantics 1, 2, 3, 6, 8, 10, 16, 17. Java: `DataTree`, `DataNode`, `ReferenceCountedACLCache`, `WatchManager`.

pub mod acl;
pub mod apply;
pub mod build;
pub mod config_node;
pub mod data_tree;
pub mod digest;
pub mod digest_history;
mod ephemeral;
mod links;
pub mod load;
mod load_error;
pub mod memory;
pub mod node;
pub mod path;
pub mod quota;
pub mod snapshot;
mod sums;
mod table;
mod unmoved;
pub mod watch;

pub use acl::{AclRef, AclTable, Identity};
pub use apply::{Applied, Change, ChangeKind, ChangeSink, ItemOutcome, Unwatched};
pub use build::{BuildError, TreeBuilder};
pub use data_tree::{DataTree, TreeOptions};
pub use digest::RawStat;
pub(super) use links::Links;
pub use load::Moved;
pub use load_error::LoadError;
pub use memory::MemorySnapshot;
pub use node::{NodeId, OwnerKind};
pub use snapshot::WalkId;
pub(super) use sums::Sums;
pub use watch::{WatchMode, WatchTable};

#[cfg(test)]
mod load_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod quota_tests;
#[cfg(test)]
mod tests;
