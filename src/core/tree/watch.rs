//! Who wants to hear of which path.
//!
//! A watch is one (path, connection, mode). Each path has a list for each mode and each connection a list of all its
//! watches, threaded through one table; paths are kept once. So arming, firing and removing touch only what they are
//! about: a change under a node with a hundred thousand data watchers does not look at them, a closing connection does
//! not look at others', and ancestors are looked up only while anybody watches recursively.
//!
//! | Java table | modes here |
//! | --- | --- |
//! | data | `StandardData`, `Persistent`, `PersistentRecursive` |
//! | child | `StandardChild`, `Persistent` |
//!
//! Not here, on purpose: permissions (the caller filters while delivering), setWatches' catch-up (the caller compares zxids
//! and arms). Spec: semantics 10. Java: `WatchManager`, `PathParentIterator`.

use std::hash::{BuildHasher, Hasher};

use compact_str::CompactString;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::path;
use super::table::{HashIndex, NIL, Paged};
use crate::core::types::ConnectionId;
use crate::wire::ErrorCode;
use crate::wire::client::{EventKind, WatcherType};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
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

impl WatchMode {
    const ALL: [WatchMode; 4] =
        [WatchMode::StandardData, WatchMode::StandardChild, WatchMode::Persistent, WatchMode::PersistentRecursive];

    fn is_one_shot(self) -> bool {
        matches!(self, WatchMode::StandardData | WatchMode::StandardChild)
    }

    fn is_in_data_table(self) -> bool {
        self != WatchMode::StandardChild
    }
}

/// The modes that checkWatches and removeWatches mean by a type (semantics 10.6).
fn modes_of(what: WatcherType) -> &'static [WatchMode] {
    match what {
        WatcherType::Children => &[WatchMode::StandardChild],
        WatcherType::Data => &[WatchMode::StandardData],
        WatcherType::Any => &WatchMode::ALL,
        WatcherType::Persistent => &[WatchMode::Persistent],
        WatcherType::PersistentRecursive => &[WatchMode::PersistentRecursive],
    }
}

/// What happened at a path, for [`WatchTable::fire`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    Created,
    DataChanged,
    Deleted,
}

/// The figures of `wchs`, which in Java speak of the data table only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchSummary {
    pub connections: u64,
    pub paths: u64,
    pub watches: u64,
}

/// The lists of a watched path, by mode. Each runs in the order of arming.
#[derive(Debug)]
struct Watched {
    path: CompactString,
    first: [u32; 4],
}

#[derive(Debug)]
struct Watch {
    path: u32,
    connection: u32,
    mode: WatchMode,
    /// Within the path's list of this mode. The first one's `prev` is the last.
    next: u32,
    prev: u32,
    /// Within the connection's list.
    next_of_connection: u32,
    prev_of_connection: u32,
}

const _: () = assert!(size_of::<Watch>() == 28 && size_of::<Watched>() == 40);

#[derive(Debug)]
struct Watcher {
    id: ConnectionId,
    first: u32,
    /// The last round of firing that reached it: one event a connection and round.
    reached_in: u64,
}

#[derive(Debug, Default)]
pub struct WatchTable {
    paths: Paged<Watched>,
    watches: Paged<Watch>,
    watchers: Paged<Watcher>,
    path_index: HashIndex,
    watch_index: HashIndex,
    watcher_index: HashMap<ConnectionId, u32, FixedState>,
    /// Watches by mode.
    counts: [u64; 4],
    round: u64,
}

impl WatchTable {
    pub fn new() -> WatchTable {
        WatchTable::default()
    }

    /// Arms a watch; again is no difference. The empty path arms nothing (semantics 1.3).
    pub fn arm(&mut self, connection: ConnectionId, path: &str, mode: WatchMode) {
        if path.is_empty() {
            return;
        }
        let watcher = *self
            .watcher_index
            .entry(connection)
            .or_insert_with(|| self.watchers.insert(Watcher { id: connection, first: NIL, reached_in: 0 }));
        let path = self.intern(path);
        if self.find_watch(path, watcher, mode).is_some() {
            return;
        }
        let first_of_connection = self.watchers[watcher].first;
        let watch = self.watches.insert(Watch {
            path,
            connection: watcher,
            mode,
            next: NIL,
            prev: NIL,
            next_of_connection: first_of_connection,
            prev_of_connection: NIL,
        });
        self.watchers[watcher].first = watch;
        if first_of_connection != NIL {
            self.watches[first_of_connection].prev_of_connection = watch;
        }
        let first = self.paths[path].first[mode as usize];
        if first == NIL {
            self.paths[path].first[mode as usize] = watch;
            self.watches[watch].prev = watch;
        } else {
            let last = std::mem::replace(&mut self.watches[first].prev, watch);
            self.watches[last].next = watch;
            self.watches[watch].prev = last;
        }
        self.watch_index.insert(hash_watch(path, watcher, mode), watch);
        self.counts[mode as usize] += 1;
    }

    /// Whether nobody watches anything.
    pub fn is_empty(&self) -> bool {
        self.watches.len() == 0
    }

    /// Fires everything a change at `path` fires (semantics 10.3), in order, consuming one-shot watches.
    /// `deliver` is called once for each event and connection; what it filters out is consumed all the same.
    pub fn fire(&mut self, happened: Happened, path: &str, mut deliver: impl FnMut(ConnectionId, EventKind, &str)) {
        use WatchMode::{Persistent, PersistentRecursive, StandardChild, StandardData};
        if self.is_empty() {
            return;
        }
        self.round += 1;
        let kind = match happened {
            Happened::Created => EventKind::NodeCreated,
            Happened::DataChanged => EventKind::NodeDataChanged,
            Happened::Deleted => EventKind::NodeDeleted,
        };
        let mut tell = |connection| deliver(connection, kind, path);
        self.fire_at(path, &[StandardData, Persistent, PersistentRecursive], &mut tell);
        if self.counts[PersistentRecursive as usize] > 0 {
            let mut at = path;
            while at != path::ROOT {
                let Some((ancestor, _)) = path::split(at) else {
                    break;
                };
                self.fire_at(ancestor, &[PersistentRecursive], &mut tell);
                at = ancestor;
            }
        }
        if happened == Happened::Deleted {
            // Same round: who heard of the deletion through a data watch does not hear of it again.
            self.fire_at(path, &[StandardChild], &mut tell);
        }
        if happened != Happened::DataChanged
            && let Some((parent, _)) = path::split(path)
        {
            self.round += 1;
            let mut tell = |connection| deliver(connection, EventKind::NodeChildrenChanged, parent);
            self.fire_at(parent, &[StandardChild, Persistent], &mut tell);
        }
    }

    /// Tells everyone in these lists of the path who was not told in this round.
    fn fire_at(&mut self, path: &str, modes: &[WatchMode], tell: &mut impl FnMut(ConnectionId)) {
        let Some(path) = self.find_path(path) else {
            return;
        };
        for mode in modes {
            let mut at = self.paths[path].first[*mode as usize];
            if mode.is_one_shot() {
                // The whole list goes, so its members need not be taken out of it one by one.
                self.paths[path].first[*mode as usize] = NIL;
            }
            while at != NIL {
                let next = self.watches[at].next;
                let watcher = &mut self.watchers[self.watches[at].connection];
                if std::mem::replace(&mut watcher.reached_in, self.round) != self.round {
                    tell(watcher.id);
                }
                if mode.is_one_shot() {
                    self.forget_watch(at);
                }
                at = next;
            }
        }
        self.drop_path_if_unwatched(path);
    }

    /// checkWatches.
    pub fn check(&self, connection: ConnectionId, path: &str, what: WatcherType) -> Result<(), ErrorCode> {
        let found = self.find_path(path).zip(self.watcher_index.get(&connection)).is_some_and(|(path, watcher)| {
            modes_of(what).iter().any(|mode| self.find_watch(path, *watcher, *mode).is_some())
        });
        if found { Ok(()) } else { Err(ErrorCode::NoWatcher) }
    }

    /// removeWatches.
    pub fn remove(&mut self, connection: ConnectionId, path: &str, what: WatcherType) -> Result<(), ErrorCode> {
        let no_watcher = ErrorCode::NoWatcher;
        let watcher = *self.watcher_index.get(&connection).ok_or(no_watcher)?;
        let path = self.find_path(path).ok_or(no_watcher)?;
        let mut removed = false;
        for mode in modes_of(what) {
            if let Some(watch) = self.find_watch(path, watcher, *mode) {
                self.unlink_from_path(watch);
                self.forget_watch(watch);
                removed = true;
            }
        }
        self.drop_path_if_unwatched(path);
        if removed { Ok(()) } else { Err(no_watcher) }
    }

    /// The connection is gone: so are its watches.
    pub fn remove_connection(&mut self, connection: ConnectionId) {
        let Some(watcher) = self.watcher_index.remove(&connection) else {
            return;
        };
        let mut at = self.watchers[watcher].first;
        while at != NIL {
            let next = self.watches[at].next_of_connection;
            let path = self.watches[at].path;
            self.unlink_from_path(at);
            self.forget_watch(at);
            self.drop_path_if_unwatched(path);
            at = next;
        }
        self.watchers.remove(watcher);
    }

    /// Entries of both of Java's tables: a persistent watch is in both. Java: `DataTree.getWatchCount`.
    pub fn watch_count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.counts[WatchMode::Persistent as usize]
    }

    /// Looks at every connection and path.
    pub fn summary(&self) -> WatchSummary {
        let in_data_table = || WatchMode::ALL.iter().filter(|mode| mode.is_in_data_table()).map(|mode| *mode as usize);
        let is_watching = |watcher: &Watcher| self.of_watcher(watcher).any(|watch| watch.mode.is_in_data_table());
        let is_watched = |watched: &Watched| in_data_table().any(|mode| watched.first[mode] != NIL);
        WatchSummary {
            connections: self.watchers.iter().filter(|(_, watcher)| is_watching(watcher)).count() as u64,
            paths: self.paths.iter().filter(|(_, watched)| is_watched(watched)).count() as u64,
            watches: in_data_table().map(|mode| self.counts[mode]).sum(),
        }
    }

    /// Every watched path with each of its watchers, those of a path together (`wchp`). Data table only, as Java's; a
    /// connection with several modes on a path comes once.
    pub fn for_each_by_path(&self, mut visit: impl FnMut(&str, ConnectionId)) {
        for (_, watched) in self.paths.iter() {
            let data_modes = || WatchMode::ALL.into_iter().filter(|mode| mode.is_in_data_table());
            for mode in data_modes() {
                let first = watched.first[mode as usize];
                for at in std::iter::successors(some(first), |at| some(self.watches[*at].next)) {
                    let watch = &self.watches[at];
                    if self.is_first_of_data_modes(watch) {
                        visit(&watched.path, self.watchers[watch.connection].id);
                    }
                }
            }
        }
    }

    /// The same, those of a connection together (`wchc`).
    pub fn for_each_by_connection(&self, mut visit: impl FnMut(ConnectionId, &str)) {
        for (_, watcher) in self.watchers.iter() {
            for watch in self.of_watcher(watcher) {
                if watch.mode.is_in_data_table() && self.is_first_of_data_modes(watch) {
                    visit(watcher.id, &self.paths[watch.path].path);
                }
            }
        }
    }

    fn is_first_of_data_modes(&self, watch: &Watch) -> bool {
        let mut data_modes = WatchMode::ALL.into_iter().filter(|mode| mode.is_in_data_table());
        data_modes.find(|mode| self.find_watch(watch.path, watch.connection, *mode).is_some()) == Some(watch.mode)
    }

    fn of_watcher(&self, watcher: &Watcher) -> impl Iterator<Item = &Watch> {
        let watches = &self.watches;
        std::iter::successors(some(watcher.first), |at| some(watches[*at].next_of_connection)).map(|at| &watches[at])
    }

    fn find_path(&self, path: &str) -> Option<u32> {
        self.path_index.find(hash_path(path), |at| self.paths[at].path == path)
    }

    fn intern(&mut self, path: &str) -> u32 {
        if let Some(at) = self.find_path(path) {
            return at;
        }
        let at = self.paths.insert(Watched { path: CompactString::new(path), first: [NIL; 4] });
        self.path_index.insert(hash_path(path), at);
        at
    }

    fn drop_path_if_unwatched(&mut self, path: u32) {
        if self.paths[path].first != [NIL; 4] {
            return;
        }
        let watched = self.paths.remove(path);
        self.path_index.remove(hash_path(&watched.path), path);
    }

    fn find_watch(&self, path: u32, connection: u32, mode: WatchMode) -> Option<u32> {
        let is_it = |at| {
            let watch = &self.watches[at];
            (watch.path, watch.connection, watch.mode) == (path, connection, mode)
        };
        self.watch_index.find(hash_watch(path, connection, mode), is_it)
    }

    fn unlink_from_path(&mut self, at: u32) {
        let Watch { path, mode, next, prev, .. } = self.watches[at];
        let first = &mut self.paths[path].first[mode as usize];
        if *first == at {
            *first = next;
        } else {
            self.watches[prev].next = next;
        }
        // The successor, or where there is none the first, remembers who stands before (or last).
        let keeper = if next != NIL { next } else { self.paths[path].first[mode as usize] };
        if keeper != NIL {
            self.watches[keeper].prev = prev;
        }
    }

    /// Takes a watch that is in no path's list any more out of everything else.
    fn forget_watch(&mut self, at: u32) {
        let Watch { path, connection, mode, next_of_connection: next, prev_of_connection: prev, .. } = self.watches[at];
        if prev == NIL {
            self.watchers[connection].first = next;
        } else {
            self.watches[prev].next_of_connection = next;
        }
        if next != NIL {
            self.watches[next].prev_of_connection = prev;
        }
        self.watch_index.remove(hash_watch(path, connection, mode), at);
        self.watches.remove(at);
        self.counts[mode as usize] -= 1;
    }
}

fn some(at: u32) -> Option<u32> {
    (at != NIL).then_some(at)
}

fn hash_path(path: &str) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    hasher.write(path.as_bytes());
    hasher.finish()
}

fn hash_watch(path: u32, connection: u32, mode: WatchMode) -> u64 {
    FixedState::default().hash_one((path, connection, mode as u8))
}
