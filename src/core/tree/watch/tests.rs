//! Who hears of what: the matrix, and any history held against the slow way to say it.

use super::WatchMode::*;
use super::*;
use crate::wire::client::EventKind::{self, *};

const A: ConnectionId = ConnectionId(1);
const B: ConnectionId = ConnectionId(2);

fn table(watches: &[(ConnectionId, &str, WatchMode)]) -> WatchTable {
    let mut table = WatchTable::new(7);
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
            let mut watches = WatchTable::new(7);
            modes.iter().for_each(|mode| watches.arm(A, "/w", *mode));
            assert_eq!(fire(&mut watches, happened, path), expected, "{modes:?} when {path} is {happened:?}");
            // Once more: one-shot watches that fired are gone, the others are not.
            let stays = modes.iter().any(|mode| !mode.is_one_shot());
            let again = fire(&mut watches, happened, path);
            assert_eq!(again.is_empty(), expected.is_empty() || !stays, "{modes:?} when {path} is {happened:?} again");
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
                let is_ancestor = at == "/" || path.strip_prefix(at.as_str()).is_some_and(|rest| rest.starts_with('/'));
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
    let mut watches = WatchTable::new(7);
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
        let (mut watches, mut model) = (WatchTable::new(7), Model::default());
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
