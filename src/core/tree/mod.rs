//! The data tree and what hangs on it: nodes, ACLs, digest, snapshots, watches. Pure and owned by one node.
//!
//! * [`path`]: what a path is and its pieces. * [`node`]: how nodes lie in memory and how a name finds its node.
//! * [`acl`]: permission lists and identities. * [`digest`]: the checksum that servers compare.
//! * [`data_tree`]: the tree as readers see it. * [`apply`]: the only way it changes. * [`ephemeral`]: who owns what.
//! * [`snapshot`], [`load`]: the tree as it was at one zxid, walked out in slices and built up again.
//! * [`build`]: a tree from a list of paths, as Java's snapshots are.
//! * [`watch`]: who wants to hear of which path.
//!
//! Not here, on purpose: checks of a request (prep does them), sessions and their timeouts, replies.
//! Spec: semantics 1, 2, 3, 6, 8, 10, 16, 17. Java: `DataTree`, `DataNode`, `ReferenceCountedACLCache`, `WatchManager`.

pub mod acl;
pub mod apply;
pub mod build;
pub mod data_tree;
pub mod digest;
pub mod digest_history;
mod ephemeral;
pub mod load;
pub mod node;
pub mod path;
pub mod snapshot;
mod table;
pub mod watch;

pub use acl::{AclRef, AclTable, Identity};
pub use apply::{Applied, Change, ChangeKind, ChangeSink, ItemOutcome, Unwatched};
pub use build::{BuildError, TreeBuilder};
pub use data_tree::{DataTree, TreeOptions};
pub use digest::RawStat;
pub use load::{LoadError, TreeLoader};
pub use node::{NodeId, OwnerKind};
pub use watch::{WatchMode, WatchTable};

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
