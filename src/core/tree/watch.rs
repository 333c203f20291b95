//! Who wants to hear of which path.
//!
//! Spec: semantics 10. Java: `WatchManager`, `WatcherModeManager`, `PathParentIterator`.

use crate::core::types::ConnectionId;
use crate::wire::ErrorCode;
use crate::wire::client::{EventKind, WatcherType};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchMode {
    /// One shot, on data (getData, exists).
    StandardData,
    /// One shot, on children (getChildren).
    StandardChild,
    /// addWatch 0: data and children, stays.
    Persistent,
    /// addWatch 1: the node and everything below, stays.
    PersistentRecursive,
}

/// What happened at a path, for [`WatchTable::fire`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    Created,
    DataChanged,
    Deleted,
}

/// Java's `wchs` line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchSummary {
    pub connections: u64,
    pub paths: u64,
    pub watches: u64,
}

#[derive(Debug, Default)]
pub struct WatchTable {}

#[allow(unused_variables)]
impl WatchTable {
    pub fn new() -> WatchTable {
        WatchTable {}
    }
    /// Arms a watch; again is no difference. The empty path arms nothing (semantics 1.3).
    pub fn arm(&mut self, connection: ConnectionId, path: &str, mode: WatchMode) {
        unimplemented!()
    }
    /// Whether no connection watches anything.
    pub fn is_empty(&self) -> bool {
        unimplemented!()
    }
    /// Fires everything a change at `path` fires (semantics 10.3), in order, consuming one-shot watches.
    /// `deliver` is called once an event and connection; it filters by ACL itself.
    pub fn fire(&mut self, happened: Happened, path: &str, mut deliver: impl FnMut(ConnectionId, EventKind, &str)) {
        unimplemented!()
    }
    /// checkWatches.
    pub fn check(&self, connection: ConnectionId, path: &str, what: WatcherType) -> Result<(), ErrorCode> {
        unimplemented!()
    }
    /// removeWatches.
    pub fn remove(&mut self, connection: ConnectionId, path: &str, what: WatcherType) -> Result<(), ErrorCode> {
        unimplemented!()
    }
    /// The connection is gone: so are its watches.
    pub fn remove_connection(&mut self, connection: ConnectionId) {
        unimplemented!()
    }
    pub fn summary(&self) -> WatchSummary {
        unimplemented!()
    }
    /// (connection, path) of every watch, for `wchc` and `wchp`; a connection's paths stand together.
    pub fn for_each(&self, mut visit: impl FnMut(ConnectionId, &str)) {
        unimplemented!()
    }
}
