//! Who wants to hear of which path.
//!
//! A watch is one (path, connection, mode). Each path has a list for each mode and each connection a list of all its
//! watches, threaded through one table; paths are kept once, long ones as what follows another path, so that siblings share
//! the beginning and no piece needs memory of its own. So arming, firing and removing touch only what they are about: a change under a node with a hundred thousand data watchers does not look at them, a closing connection does
//! not look at others', and ancestors are looked up only while anybody watches recursively.
//!
//! | Java table | modes here |
//! | --- | --- |
//! | data | `StandardData`, `Persistent`, `PersistentRecursive` |
//! | child | `StandardChild`, `Persistent` |
//!
//! Not here, on purpose: permissions (the caller filters while delivering), setWatches' catch-up (the caller compares zxids
//! and arms). Spec: semantics 10. Java: `WatchManager`, `PathParentIterator`.

use std::hash::{Hash, Hasher};

use compact_str::CompactString;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use ringkeeper_storage::probe::broken;
use smallvec::SmallVec;

use super::path;
use super::table::{HashIndex, NIL, Paged, Place};
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

/// A path, as its last piece and the path before that, and its lists, by mode. Each runs in the order of arming.
#[derive(Debug)]
struct Watched {
    tail: CompactString,
    /// `NIL`: the tail is all of it.
    beginning: u32,
    /// How many paths begin with this one. It stays for them, watched or not.
    continued: u32,
    first: [u32; 4],
}

/// Of a tail: what a `CompactString` holds in itself.
const TAIL_BYTES: usize = size_of::<CompactString>();

/// A path longer than this is one piece: each of its beginnings would have to be looked for.
const PIECES_OF_BYTES: usize = 512;

/// Where the last piece of a path begins: at a slash, so that siblings have the same beginning.
fn tail_of(path: &str) -> Option<usize> {
    let bytes = path.as_bytes();
    if bytes.len() <= TAIL_BYTES || bytes.len() > PIECES_OF_BYTES {
        return None;
    }
    let most = bytes.len() - TAIL_BYTES;
    let fits = bytes[most..].iter().position(|byte| *byte == b'/').map(|at| most + at);
    fits.or_else(|| bytes[..most].iter().rposition(|byte| *byte == b'/').filter(|at| *at > 0))
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

const _: () = assert!(size_of::<Place<Watch>>() == 28 && size_of::<Place<Watched>>() == 48);

#[derive(Debug)]
struct Watcher {
    id: ConnectionId,
    first: u32,
    /// The last round of firing that reached it: one event a connection and round.
    reached_in: u64,
}

#[derive(Debug)]
pub struct WatchTable {
    paths: Paged<Watched>,
    watches: Paged<Watch>,
    watchers: Paged<Watcher>,
    path_index: HashIndex,
    /// Of the watches that are not the first of their list: that one is found without, and most are alone.
    watch_index: HashIndex,
    watcher_index: HashMap<ConnectionId, u32, FixedState>,
    /// Watches by mode.
    counts: [u64; 4],
    round: u64,
}

impl WatchTable {
    /// `hash_seed`: [`Settings::hash_seed`](crate::core::Settings).
    pub fn new(hash_seed: u64) -> WatchTable {
        WatchTable {
            paths: Paged::default(),
            watches: Paged::default(),
            watchers: Paged::default(),
            path_index: HashIndex::new(hash_seed),
            watch_index: HashIndex::new(hash_seed),
            watcher_index: HashMap::default(),
            counts: [0; 4],
            round: 0,
        }
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
            self.watch_index.insert(self.hash_watch(path, watcher, mode), watch);
        }
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
        let unheard = happened == Happened::Deleted && broken("a deletion is not told to who watches its siblings");
        if happened != Happened::DataChanged
            && !unheard
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
            let first = self.paths[path].first[*mode as usize];
            if mode.is_one_shot() {
                // The whole list goes, so its members need not be taken out of it one by one.
                self.paths[path].first[*mode as usize] = NIL;
            }
            let mut at = first;
            while at != NIL {
                let next = self.watches[at].next;
                let watcher = &mut self.watchers[self.watches[at].connection];
                if std::mem::replace(&mut watcher.reached_in, self.round) != self.round {
                    tell(watcher.id);
                }
                if mode.is_one_shot() {
                    if at != first {
                        self.unindex(at);
                    }
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
        let mut path = String::new();
        for (_, watched) in self.paths.iter() {
            let data_modes = || WatchMode::ALL.into_iter().filter(|mode| mode.is_in_data_table());
            for mode in data_modes() {
                let first = watched.first[mode as usize];
                for at in std::iter::successors(some(first), |at| some(self.watches[*at].next)) {
                    let watch = &self.watches[at];
                    if self.is_first_of_data_modes(watch) {
                        path.clear();
                        self.write_path(watch.path, &mut path);
                        visit(&path, self.watchers[watch.connection].id);
                    }
                }
            }
        }
    }

    /// The same, those of a connection together (`wchc`).
    pub fn for_each_by_connection(&self, mut visit: impl FnMut(ConnectionId, &str)) {
        let mut path = String::new();
        for (_, watcher) in self.watchers.iter() {
            for watch in self.of_watcher(watcher) {
                if watch.mode.is_in_data_table() && self.is_first_of_data_modes(watch) {
                    path.clear();
                    self.write_path(watch.path, &mut path);
                    visit(watcher.id, &path);
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
        self.path_index.find(self.hash_path(path), |at| self.is_path(at, path))
    }

    fn is_path(&self, mut at: u32, mut path: &str) -> bool {
        loop {
            let Watched { tail, beginning, .. } = &self.paths[at];
            let Some(before) = path.strip_suffix(tail.as_str()) else { return false };
            if *beginning == NIL {
                return before.is_empty();
            }
            (at, path) = (*beginning, before);
        }
    }

    /// Appends it.
    fn write_path(&self, at: u32, out: &mut String) {
        let pieces = std::iter::successors(Some(at), |at| some(self.paths[*at].beginning));
        let pieces: SmallVec<[u32; 16]> = pieces.collect();
        pieces.iter().rev().for_each(|at| out.push_str(&self.paths[*at].tail));
    }

    fn intern(&mut self, path: &str) -> u32 {
        // Ends of what is not there yet, and what is there of it.
        let (mut missing, mut end, mut found) = (SmallVec::<[usize; 16]>::new(), path.len(), NIL);
        while end > 0 {
            if let Some(at) = self.find_path(&path[..end]) {
                found = at;
                break;
            }
            missing.push(end);
            end = tail_of(&path[..end]).unwrap_or(0);
        }
        for piece_end in missing.into_iter().rev() {
            let tail = CompactString::new(&path[end..piece_end]);
            let at = self.paths.insert(Watched { tail, beginning: found, continued: 0, first: [NIL; 4] });
            self.path_index.insert(self.hash_path(&path[..piece_end]), at);
            if found != NIL {
                self.paths[found].continued += 1;
            }
            (found, end) = (at, piece_end);
        }
        found
    }

    /// With what only it began with.
    fn drop_path_if_unwatched(&mut self, mut at: u32) {
        let is_idle = |watched: &Watched| watched.first == [NIL; 4] && watched.continued == 0;
        if !is_idle(&self.paths[at]) {
            return;
        }
        let mut path = String::new();
        self.write_path(at, &mut path);
        while at != NIL && is_idle(&self.paths[at]) {
            self.path_index.remove(self.hash_path(&path), at);
            let Watched { tail, beginning, .. } = self.paths.remove(at);
            path.truncate(path.len() - tail.len());
            if beginning != NIL {
                self.paths[beginning].continued -= 1;
            }
            at = beginning;
        }
    }

    fn find_watch(&self, path: u32, connection: u32, mode: WatchMode) -> Option<u32> {
        let is_it = |at: u32| {
            let watch = &self.watches[at];
            (watch.path, watch.connection, watch.mode) == (path, connection, mode)
        };
        let first = some(self.paths[path].first[mode as usize])?;
        if is_it(first) {
            return Some(first);
        }
        self.watch_index.find(self.hash_watch(path, connection, mode), is_it)
    }

    fn unlink_from_path(&mut self, at: u32) {
        let Watch { path, mode, next, prev, .. } = self.watches[at];
        let first = &mut self.paths[path].first[mode as usize];
        if *first == at {
            *first = next;
            if next != NIL {
                self.unindex(next);
            }
        } else {
            self.watches[prev].next = next;
            self.unindex(at);
        }
        // The successor, or where there is none the first, remembers who stands before (or last).
        let keeper = if next != NIL { next } else { self.paths[path].first[mode as usize] };
        if keeper != NIL {
            self.watches[keeper].prev = prev;
        }
    }

    /// It becomes the first of its list, or is none of it any more.
    fn unindex(&mut self, at: u32) {
        let Watch { path, connection, mode, .. } = self.watches[at];
        self.watch_index.remove(self.hash_watch(path, connection, mode), at);
    }

    /// Takes a watch that is in no path's list any more out of everything else.
    fn forget_watch(&mut self, at: u32) {
        let Watch { connection, mode, next_of_connection: next, prev_of_connection: prev, .. } = self.watches[at];
        if prev == NIL {
            self.watchers[connection].first = next;
        } else {
            self.watches[prev].next_of_connection = next;
        }
        if next != NIL {
            self.watches[next].prev_of_connection = prev;
        }
        self.watches.remove(at);
        self.counts[mode as usize] -= 1;
    }

    fn hash_path(&self, path: &str) -> u64 {
        let mut hasher = self.path_index.hasher();
        hasher.write(path.as_bytes());
        hasher.finish()
    }

    fn hash_watch(&self, path: u32, connection: u32, mode: WatchMode) -> u64 {
        let mut hasher = self.watch_index.hasher();
        (path, connection, mode as u8).hash(&mut hasher);
        hasher.finish()
    }
}

fn some(at: u32) -> Option<u32> {
    (at != NIL).then_some(at)
}

#[cfg(test)]
mod tests;
