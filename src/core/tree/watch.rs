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

use std::hash::{BuildHasher, Hasher};

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

#[derive(Debug, Default)]
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
            self.watch_index.insert(hash_watch(path, watcher, mode), watch);
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
        self.path_index.find(hash_path(path), |at| self.is_path(at, path))
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
            self.path_index.insert(hash_path(&path[..piece_end]), at);
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
            self.path_index.remove(hash_path(&path), at);
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
        self.watch_index.find(hash_watch(path, connection, mode), is_it)
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
        self.watch_index.remove(hash_watch(path, connection, mode), at);
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

#[cfg(test)]
mod tests {
    use super::WatchMode::*;
    use super::*;
    use crate::wire::client::EventKind::{self, *};

    const A: ConnectionId = ConnectionId(1);
    const B: ConnectionId = ConnectionId(2);

    fn table(watches: &[(ConnectionId, &str, WatchMode)]) -> WatchTable {
        let mut table = WatchTable::new();
        for (connection, path, mode) in watches {
            table.arm(*connection, path, *mode);
        }
        table
    }

    fn fire(table: &mut WatchTable, happened: Happened, path: &str) -> Vec<(u64, EventKind, String)> {
        let mut events = vec![];
        table.fire(happened, path, |connection, kind, path| events.push((connection.0, kind, path.to_owned())));
        events
    }

    fn event(kind: EventKind, path: &str) -> Vec<(u64, EventKind, String)> {
        vec![(1, kind, path.to_owned())]
    }

    /// Semantics 10.4, row by row: what a watch on `/w` hears, and whether it is used up.
    #[test]
    fn the_matrix() {
        use Happened::*;
        let none = || vec![];
        let both = |first: EventKind, at: &str| [event(first, at), event(NodeChildrenChanged, "/w")].concat();
        let happenings = [
            (Created, "/w"),
            (DataChanged, "/w"),
            (Deleted, "/w"),
            (Created, "/w/c"),
            (DataChanged, "/w/c"),
            (Deleted, "/w/c"),
            (Created, "/w/c/g"),
        ];
        let rows: [(&[WatchMode], [Vec<_>; 7]); 6] = [
            (
                &[StandardData],
                [
                    event(NodeCreated, "/w"),
                    event(NodeDataChanged, "/w"),
                    event(NodeDeleted, "/w"),
                    none(),
                    none(),
                    none(),
                    none(),
                ],
            ),
            (
                &[StandardChild],
                [
                    none(),
                    none(),
                    event(NodeDeleted, "/w"),
                    event(NodeChildrenChanged, "/w"),
                    none(),
                    event(NodeChildrenChanged, "/w"),
                    none(),
                ],
            ),
            (
                &[Persistent],
                [
                    event(NodeCreated, "/w"),
                    event(NodeDataChanged, "/w"),
                    event(NodeDeleted, "/w"),
                    event(NodeChildrenChanged, "/w"),
                    none(),
                    event(NodeChildrenChanged, "/w"),
                    none(),
                ],
            ),
            (
                &[PersistentRecursive],
                [
                    event(NodeCreated, "/w"),
                    event(NodeDataChanged, "/w"),
                    event(NodeDeleted, "/w"),
                    event(NodeCreated, "/w/c"),
                    event(NodeDataChanged, "/w/c"),
                    event(NodeDeleted, "/w/c"),
                    event(NodeCreated, "/w/c/g"),
                ],
            ),
            (
                &[StandardData, StandardChild, Persistent],
                [
                    event(NodeCreated, "/w"),
                    event(NodeDataChanged, "/w"),
                    event(NodeDeleted, "/w"),
                    event(NodeChildrenChanged, "/w"),
                    none(),
                    event(NodeChildrenChanged, "/w"),
                    none(),
                ],
            ),
            (
                &[PersistentRecursive, StandardChild],
                [
                    event(NodeCreated, "/w"),
                    event(NodeDataChanged, "/w"),
                    event(NodeDeleted, "/w"),
                    both(NodeCreated, "/w/c"),
                    event(NodeDataChanged, "/w/c"),
                    both(NodeDeleted, "/w/c"),
                    event(NodeCreated, "/w/c/g"),
                ],
            ),
        ];
        for (modes, row) in rows {
            for ((happened, path), expected) in happenings.into_iter().zip(row) {
                let mut watches = WatchTable::new();
                modes.iter().for_each(|mode| watches.arm(A, "/w", *mode));
                assert_eq!(fire(&mut watches, happened, path), expected, "{modes:?} when {path} is {happened:?}");
                // Once more: one-shot watches that fired are gone, the others are not.
                let stays = modes.iter().any(|mode| !mode.is_one_shot());
                let again = fire(&mut watches, happened, path);
                assert_eq!(
                    again.is_empty(),
                    expected.is_empty() || !stays,
                    "{modes:?} when {path} is {happened:?} again"
                );
            }
        }
    }

    #[test]
    fn a_deletion_is_heard_once_and_uses_up_both_one_shot_watches() {
        let mut watches = table(&[(A, "/w", StandardData), (A, "/w", StandardChild), (B, "/w", StandardChild)]);
        let mut heard = fire(&mut watches, Happened::Deleted, "/w");
        heard.sort_by_key(|event| event.0);
        assert_eq!(heard, [(1, NodeDeleted, "/w".to_owned()), (2, NodeDeleted, "/w".to_owned())]);
        assert!(watches.is_empty());
        // Through an ancestor's recursive watch, too.
        let mut watches = table(&[(A, "/", PersistentRecursive), (A, "/w", StandardChild)]);
        assert_eq!(fire(&mut watches, Happened::Deleted, "/w"), event(NodeDeleted, "/w"));
        assert_eq!(watches.watch_count(), 1);
    }

    #[test]
    fn one_event_for_many_ancestors_and_the_root_is_one() {
        let mut watches = table(&[
            (A, "/", PersistentRecursive),
            (A, "/a", PersistentRecursive),
            (A, "/a/b", StandardData),
            (B, "/a/b/c", PersistentRecursive),
            (B, "/ab", PersistentRecursive),
        ]);
        assert_eq!(fire(&mut watches, Happened::DataChanged, "/a/b"), event(NodeDataChanged, "/a/b"));
        assert_eq!(fire(&mut watches, Happened::DataChanged, "/"), event(NodeDataChanged, "/"));
        let mut watches = table(&[(A, "/", StandardChild)]);
        assert_eq!(fire(&mut watches, Happened::Created, "/x"), event(NodeChildrenChanged, "/"));
        assert!(watches.is_empty());
    }

    #[test]
    fn removal_and_check_follow_the_types() {
        use WatcherType::*;
        let all = [
            (A, "/w", StandardData),
            (A, "/w", StandardChild),
            (A, "/w", WatchMode::Persistent),
            (A, "/w", WatchMode::PersistentRecursive),
        ];
        let types = [Data, Children, WatcherType::Persistent, WatcherType::PersistentRecursive];
        for (own, what) in types.into_iter().enumerate() {
            let mut watches = table(&all);
            assert_eq!((watches.check(A, "/w", what), watches.check(A, "/w", Any)), (Ok(()), Ok(())));
            assert_eq!(watches.remove(A, "/w", what), Ok(()));
            assert_eq!(watches.remove(A, "/w", what), Err(ErrorCode::NoWatcher));
            for (other, what) in types.into_iter().enumerate() {
                assert_eq!(watches.check(A, "/w", what).is_ok(), other != own, "{what:?}");
            }
        }
        let mut watches = table(&all);
        assert_eq!(watches.remove(A, "/w", Any), Ok(()));
        assert!(watches.is_empty());
        for (connection, path) in [(A, "/w"), (B, "/w"), (A, "/x")] {
            assert_eq!(watches.check(connection, path, Any), Err(ErrorCode::NoWatcher));
            assert_eq!(watches.remove(connection, path, Any), Err(ErrorCode::NoWatcher));
        }
    }

    #[test]
    fn counters_return_to_zero_when_connections_end() {
        let mut watches = table(&[
            (A, "/a", StandardData),
            (A, "/a", StandardData),
            (A, "/a", PersistentRecursive),
            (A, "/b", Persistent),
            (B, "/a", StandardData),
            (B, "/c", StandardChild),
            (B, "", StandardData),
        ]);
        assert_eq!(watches.watch_count(), 6);
        assert_eq!(watches.summary(), WatchSummary { connections: 2, paths: 2, watches: 4 });
        let mut by_path = vec![];
        watches.for_each_by_path(|path, connection| by_path.push(format!("{path} {}", connection.0)));
        let mut by_connection = vec![];
        watches.for_each_by_connection(|connection, path| by_connection.push(format!("{path} {}", connection.0)));
        by_path.sort();
        by_connection.sort();
        assert_eq!(by_path, ["/a 1", "/a 2", "/b 1"]);
        assert_eq!(by_connection, by_path);
        watches.remove_connection(A);
        watches.remove_connection(A);
        assert_eq!(watches.summary(), WatchSummary { connections: 1, paths: 1, watches: 1 });
        assert_eq!(fire(&mut watches, Happened::Created, "/b"), []);
        watches.remove_connection(B);
        assert_eq!((watches.watch_count(), watches.is_empty()), (0, true));
        assert_eq!(watches.summary(), WatchSummary::default());
        assert_eq!((watches.paths.len(), watches.watchers.len(), watches.watches.len()), (0, 0, 0));
    }

    /// Semantics 10.3 the slow way: a set of (path, connection, mode).
    #[derive(Default)]
    struct Model(std::collections::BTreeSet<(String, u64, u8)>);

    impl Model {
        fn trigger(&mut self, path: &str, table: &[WatchMode], told: &mut std::collections::BTreeSet<u64>) {
            for mode in table {
                let of_mode = |(at, _, armed): &&(String, u64, u8)| *armed == *mode as u8 && at == path;
                let found: Vec<_> = self.0.iter().filter(of_mode).cloned().collect();
                for watch in found {
                    told.insert(watch.1);
                    if mode.is_one_shot() {
                        self.0.remove(&watch);
                    }
                }
            }
            if table.contains(&StandardData) {
                for (at, connection, mode) in &self.0 {
                    let is_ancestor =
                        at == "/" || path.strip_prefix(at.as_str()).is_some_and(|rest| rest.starts_with('/'));
                    if *mode == PersistentRecursive as u8 && is_ancestor {
                        told.insert(*connection);
                    }
                }
            }
        }

        fn fire(&mut self, happened: Happened, path: &str) -> Vec<(u64, EventKind, String)> {
            let mut told = std::collections::BTreeSet::new();
            self.trigger(path, &[StandardData, Persistent, PersistentRecursive], &mut told);
            let kind = match happened {
                Happened::Created => NodeCreated,
                Happened::DataChanged => NodeDataChanged,
                Happened::Deleted => NodeDeleted,
            };
            if happened == Happened::Deleted {
                self.trigger(path, &[StandardChild, Persistent], &mut told);
            }
            let mut events: Vec<_> = told.into_iter().map(|connection| (connection, kind, path.to_owned())).collect();
            if happened != Happened::DataChanged {
                let (parent, _) = path::split(path).unwrap();
                let mut told = std::collections::BTreeSet::new();
                self.trigger(parent, &[StandardChild, Persistent], &mut told);
                events.extend(told.into_iter().map(|connection| (connection, NodeChildrenChanged, parent.to_owned())));
            }
            events
        }
    }

    #[test]
    fn siblings_share_the_beginnings_of_long_paths_and_nothing_is_left_of_them() {
        let path = |name: usize| format!("/brokers/topics/orders-of-everybody/partitions/{name:05}/state");
        let long = format!("{}/x", "/a".repeat(PIECES_OF_BYTES));
        let mut watches = WatchTable::new();
        for name in 0..1000 {
            watches.arm(A, &path(name), StandardData);
        }
        assert!(watches.paths.len() < 1010, "{} pieces", watches.paths.len());
        let pieces = watches.paths.len();
        for odd in [&long, "no slash at all, and longer than a piece", "/", "//", "/slash/at/the/very/end/of/it/"] {
            watches.arm(B, odd, Persistent);
            assert_eq!(watches.check(B, odd, WatcherType::Any), Ok(()));
            assert_eq!(watches.check(B, &format!("{odd}?"), WatcherType::Any), Err(ErrorCode::NoWatcher));
        }
        let mut listed = vec![];
        watches.for_each_by_connection(|connection, path| listed.push((connection, path.to_owned())));
        assert!(listed.contains(&(B, long)) && listed.contains(&(A, path(999))) && listed.len() == 1005);
        watches.remove_connection(B);
        assert_eq!(watches.paths.len(), pieces);
        for name in 0..1000 {
            assert_eq!(fire(&mut watches, Happened::DataChanged, &path(name)).len(), 1);
        }
        assert_eq!(watches.paths.len(), 0);
    }

    proptest::proptest! {
        #[test]
        fn any_history_of_watches_is_the_models(steps in proptest::collection::vec((0u8..12, 0usize..12, 0u64..4, 0usize..4), 1..200)) {
            const PATHS: [&str; 12] = [
                "/", "/a", "/a/b", "/a/b/c", "/a/bc", "/ab", "/z", "/z/y",
                "/z/a-name-that-is-longer-than-what-is-kept-in-place", "/z/a-name-that-is-longer-than-what-is-kept-in-place/y",
                "/z/a-name-that-is-longer-than-what-is-kept-in-place/y/and/some/more/names/behind/it/on/their/own",
                "/z/a-name-that-is-longer-than-what-is-kept-in-place/y/and/some/more/names/behind/it/on/another",
            ];
            let (mut watches, mut model) = (WatchTable::new(), Model::default());
            for (what, path, connection, mode) in steps {
                let (path, mode) = (PATHS[path], WatchMode::ALL[mode]);
                match what {
                    0..=5 => {
                        watches.arm(ConnectionId(connection), path, mode);
                        model.0.insert((path.to_owned(), connection, mode as u8));
                    }
                    6 => {
                        watches.remove_connection(ConnectionId(connection));
                        model.0.retain(|watch| watch.1 != connection);
                    }
                    7 | 8 => {
                        let what = [WatcherType::Data, WatcherType::Children, WatcherType::Persistent, WatcherType::Any][mode as usize];
                        let before = model.0.len();
                        model.0.retain(|watch| {
                            watch.0 != path || watch.1 != connection || !modes_of(what).iter().any(|mode| *mode as u8 == watch.2)
                        });
                        let found = model.0.len() < before;
                        proptest::prop_assert_eq!(watches.check(ConnectionId(connection), path, what).is_ok(), found);
                        proptest::prop_assert_eq!(watches.remove(ConnectionId(connection), path, what).is_ok(), found);
                    }
                    _ => {
                        let happened = [Happened::DataChanged, Happened::Created, Happened::Deleted][what as usize - 9];
                        if path == "/" && happened != Happened::DataChanged {
                            continue;
                        }
                        let mut expected = model.fire(happened, path);
                        let mut heard = fire(&mut watches, happened, path);
                        heard.sort_by_key(|event| (event.1 == NodeChildrenChanged, event.0));
                        expected.sort_by_key(|event| (event.1 == NodeChildrenChanged, event.0));
                        proptest::prop_assert_eq!(heard, expected);
                    }
                }
                let persistent = model.0.iter().filter(|watch| watch.2 == Persistent as u8).count();
                proptest::prop_assert_eq!(watches.watch_count() as usize, model.0.len() + persistent);
            }
            let (mut listed, mut expected) = (vec![], model.0);
            watches.for_each_by_path(|path, connection| listed.push((path.to_owned(), connection.0)));
            listed.sort();
            expected.retain(|(_, _, mode)| *mode != StandardChild as u8);
            let mut expected: Vec<_> = expected.into_iter().map(|(path, connection, _)| (path, connection)).collect();
            expected.dedup();
            proptest::prop_assert_eq!(listed, expected);
            (0..4).for_each(|connection| watches.remove_connection(ConnectionId(connection)));
            proptest::prop_assert_eq!((watches.paths.len(), watches.watchers.len(), watches.watches.len()), (0, 0, 0));
        }
    }
}
