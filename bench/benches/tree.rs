//! What a million znodes cost: memory, and time for each kind of access. `cargo bench --bench tree` measures; under
//! `cargo test` the same code runs with a thousand nodes, so that it cannot rot.
//!
//! Estimates, made before the first run (x86-64, one core of 2-3 GHz, glibc's allocator):
//! * memory beyond name and data: 120 (node) + 8..17 (index) + 8..16 (allocator's share of the data) = at most 150 bytes;
//! * create 0.5 to 1 us, of which half are cache misses; lookup of a path of two names 200 to 400 ns at random, listing
//!   10 to 50 ns a child, set data 0.5 us;
//! * starting from a snapshot 1 ms, whatever its size; moving it into memory 500 ns a node, in slices of 100 us; a first
//!   lookup 1 us more than a later one;
//! * a quota: 200 ns more for each change below it, 20 to 100 ns a node to begin it;
//! * no single create slower than a page of nodes and a shard of the index take to grow: 100 us;
//! * a watch alone on its path: 28 + 48 + 10..21 bytes, and the pieces of the path that it shares with few: 92.

use std::hint::black_box;
use std::time::{Duration, Instant};

use ringkeeper::core::ConnectionId;
use ringkeeper::core::tree::watch::Happened;
use ringkeeper::core::tree::{DataTree, MemorySnapshot, NodeId, TreeOptions, Unwatched, WatchMode, WatchTable};
use ringkeeper::wire::txn::{CreateKind, Txn, TxnHeader};

const DATA: &[u8; 32] = b"thirty-two bytes of config data.";

fn main() {
    let is_full = std::env::args().any(|argument| argument == "--bench");
    let count = if is_full { 1_000_000 } else { 1_000 };
    let children = if is_full { 1_000 } else { 10 };
    // First, while nothing has been freed yet that would hide what they take.
    println!("{count} watches");
    watches(count);
    println!("{count} znodes of {} bytes, in directories of {children}", DATA.len());
    many_directories(count, children);
    println!("{count} znodes of {} bytes, in one directory", DATA.len());
    one_directory(count);
}

fn many_directories(count: usize, children: usize) {
    let mut tree = DataTree::new(TreeOptions::default());
    let mut zxid = 0;
    let path = |at: usize| format!("/d-{:06}/node-{:07}", at / children, at);
    let before = resident_bytes();
    for directory in 0..count.div_ceil(children) {
        create(&mut tree, &mut zxid, &format!("/d-{directory:06}"));
    }
    timed("create", count, |at| create(&mut tree, &mut zxid, &path(at)));
    let per_node = (resident_bytes() - before) as f64 / count as f64;
    let of_name_and_data = "node-0000000".len() + DATA.len();
    println!(
        "  {:<28}{per_node:.1} bytes a node, {:.1} beyond name and data",
        "memory",
        per_node - of_name_and_data as f64
    );

    let paths: Vec<String> = shuffled(count).into_iter().map(path).collect();
    timed("find, random", count, |at| _ = black_box(tree.find(&paths[at])));
    timed("find and stat, random", count, |at| _ = black_box(tree.stat(tree.find(&paths[at]).unwrap())));
    timed("set data, random", count, |at| {
        zxid += 1;
        let txn = Txn::SetData { path: paths[at].as_str().into(), data: Some(DATA), version: 1 };
        tree.apply(&header(zxid), &txn, &mut Unwatched);
    });
    snapshot(&mut tree, count);
    timed("delete, random", count, |at| delete(&mut tree, &mut zxid, &paths[at]));
}

fn one_directory(count: usize) {
    let mut tree = DataTree::new(TreeOptions::default());
    let mut zxid = 0;
    create(&mut tree, &mut zxid, "/directory");
    let path = |at: usize| format!("/directory/node-{at:07}");
    timed("create", count, |at| create(&mut tree, &mut zxid, &path(at)));
    let directory = tree.find("/directory").unwrap();
    let began = Instant::now();
    let bytes: usize = tree.children(directory).map(|id| tree.name(id).len()).sum();
    report("list, a child", count, began.elapsed());
    assert_eq!(bytes, count * "node-0000000".len());
    let paths: Vec<String> = shuffled(count).into_iter().map(path).collect();
    quota(&mut tree, &mut zxid, &paths);
    timed("delete, random", count / 2, |at| delete(&mut tree, &mut zxid, &paths[at]));
    let began = Instant::now();
    assert_eq!(tree.children(directory).count(), count - count / 2);
    report("list half of it, a child", count - count / 2, began.elapsed());
    timed("create again, random", count / 2, |at| create(&mut tree, &mut zxid, &paths[at]));
}

/// What keeping count of everything below `/directory` costs.
fn quota(tree: &mut DataTree, zxid: &mut i64, paths: &[String]) {
    let set_data = |tree: &mut DataTree, zxid: &mut i64, what: &str| {
        timed(what, paths.len() / 2, |at| {
            *zxid += 1;
            let txn = Txn::SetData { path: paths[at].as_str().into(), data: Some(DATA), version: 1 };
            tree.apply(&header(*zxid), &txn, &mut Unwatched);
        });
    };
    set_data(tree, zxid, "set data, no quota");
    let quota = "/zookeeper/quota/directory";
    create(tree, zxid, quota);
    create(tree, zxid, &format!("{quota}/zookeeper_limits"));
    let began = Instant::now();
    create(tree, zxid, &format!("{quota}/zookeeper_stats"));
    report("begin a quota, a node", paths.len(), began.elapsed());
    set_data(tree, zxid, "set data, with a quota");
    for node in ["/zookeeper_limits", "/zookeeper_stats", ""] {
        delete(tree, zxid, &format!("{quota}{node}"));
    }
}

/// Slices of 64 KiB, as a server takes them between requests; then a tree from them.
fn snapshot(tree: &mut DataTree, count: usize) {
    let begin = Instant::now();
    let (walk, header) = tree.begin_snapshot();
    println!("  {:<28}{:.1} us", "snapshot, begin", begin.elapsed().as_secs_f64() * 1e6);
    let (mut worst, mut total, mut images) = (Duration::ZERO, Duration::ZERO, Vec::with_capacity(count + 10_000));
    loop {
        let began = Instant::now();
        let slice = tree.snapshot_slice(walk, 64 * 1024);
        total += began.elapsed();
        worst = worst.max(began.elapsed());
        match slice {
            Some(slice) => images.extend(slice.nodes),
            None => break,
        }
    }
    report("snapshot, a node", count, total);
    println!("  {:<28}{:.1} us", "snapshot, worst slice", worst.as_secs_f64() * 1e6);
    start(tree, MemorySnapshot::new(header, images), count);
}

/// A tree that starts from a snapshot: at once, then half of the move in slices as a server makes them, lookups of nodes
/// that have moved and of nodes that have not, and the rest of the move.
fn start(tree: &DataTree, snapshot: MemorySnapshot, count: usize) {
    let path = |at: usize| tree.path(NodeId(at as u32));
    let (moved, unmoved): (Vec<_>, Vec<_>) = shuffled(count).into_iter().take(count / 5).partition(|at| at * 2 < count);
    let paths = |of: Vec<usize>| of.into_iter().map(path).collect::<Vec<_>>();
    let (moved, unmoved) = (paths(moved), paths(unmoved));
    let before = resident_bytes();
    let began = Instant::now();
    let mut started = DataTree::load(Box::new(snapshot), tree.options()).unwrap();
    println!("  {:<28}{:.1} us", "start", began.elapsed().as_secs_f64() * 1e6);
    let (mut worst, mut total, mut contradiction) = (Duration::ZERO, Duration::ZERO, None);
    let mut move_until = |tree: &mut DataTree, slots_left: u32| {
        while tree.is_moving() && tree.unmoved_slots() >= slots_left {
            let began = Instant::now();
            contradiction = tree.move_some(32 * 1024).and_then(|moved| moved.contradiction);
            total += began.elapsed();
            worst = worst.max(began.elapsed());
        }
    };
    let slots_left = started.unmoved_slots() / 2;
    move_until(&mut started, slots_left);
    let per_node = (resident_bytes() - before) as f64 / (count / 2) as f64;
    println!("  {:<28}{per_node:.1} bytes a node", "move, memory half-way");
    timed("find, random, moved", moved.len(), |at| _ = black_box(started.find(&moved[at])));
    timed("find, random, not moved", unmoved.len(), |at| _ = black_box(started.find(&unmoved[at])));
    move_until(&mut started, 0);
    report("move, a node", count, total);
    println!("  {:<28}{:.1} us", "move, worst slice", worst.as_secs_f64() * 1e6);
    assert_eq!((contradiction, started.digest()), (None, tree.digest()));
}

fn watches(count: usize) {
    let path = |at: usize| format!("/d-{:06}/node-{:07}", at / 1000, at);
    let before = resident_bytes();
    let mut table = WatchTable::new(7);
    timed("arm, a path each", count, |at| {
        table.arm(ConnectionId(at as u64 % 1000), &path(at), WatchMode::StandardData)
    });
    println!("  {:<28}{:.1} bytes a watch", "memory", (resident_bytes() - before) as f64 / count as f64);
    let paths: Vec<String> = shuffled(count).into_iter().map(path).collect();
    let mut heard = 0;
    timed("fire, random", count / 2, |at| table.fire(Happened::DataChanged, &paths[at], |_, _, _| heard += 1));
    timed("fire, nobody there", count / 2, |at| table.fire(Happened::DataChanged, &paths[at], |_, _, _| heard += 1));
    assert_eq!(heard, count / 2);
    timed("remove 1000 connections", 1000, |at| table.remove_connection(ConnectionId(at as u64)));
    assert!(table.is_empty());

    timed("arm, all on one path", count, |at| table.arm(ConnectionId(at as u64), "/herd", WatchMode::StandardChild));
    timed("fire past them", count / 2, |_| table.fire(Happened::DataChanged, "/herd", |_, _, _| heard += 1));
    let began = Instant::now();
    table.fire(Happened::Created, "/herd/lamb", |_, _, _| heard += 1);
    report("fire, a watcher", count, began.elapsed());
    timed("disconnect", count, |at| table.remove_connection(ConnectionId(at as u64)));
    assert_eq!(heard, count / 2 + count);
}

fn header(zxid: i64) -> TxnHeader {
    TxnHeader { client_id: 1, cxid: 1, zxid, time_ms: 1_700_000_000_000 + zxid }
}

fn create(tree: &mut DataTree, zxid: &mut i64, path: &str) {
    *zxid += 1;
    let open = ringkeeper::wire::client::Acl { perms: 31, scheme: Some("world".into()), id: Some("anyone".into()) };
    let txn = Txn::Create {
        path: path.into(),
        data: Some(DATA),
        acl: [open].into(),
        kind: CreateKind::Persistent,
        parent_cversion: -1,
        create2: false,
    };
    black_box(tree.apply(&header(*zxid), &txn, &mut Unwatched));
}

fn delete(tree: &mut DataTree, zxid: &mut i64, path: &str) {
    *zxid += 1;
    black_box(tree.apply(&header(*zxid), &Txn::Delete { path: path.into() }, &mut Unwatched));
}

/// Mean and worst time of one call. The worst one includes what the scheduler takes.
fn timed(what: &str, count: usize, mut call: impl FnMut(usize)) {
    let mut worst = (Duration::ZERO, 0);
    let began = Instant::now();
    let mut last = began;
    for at in 0..count {
        call(at);
        let now = Instant::now();
        worst = worst.max((now - last, at));
        last = now;
    }
    let mean = began.elapsed().as_nanos() as f64 / count as f64;
    println!("  {what:<28}{mean:.0} ns, worst {:.1} us", worst.0.as_secs_f64() * 1e6);
}

fn report(what: &str, count: usize, elapsed: Duration) {
    println!("  {what:<28}{:.0} ns", elapsed.as_nanos() as f64 / count as f64);
}

/// The same disorder every time.
fn shuffled(count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for at in (1..count).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(at, state as usize % (at + 1));
    }
    order
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("Linux");
    pages * rustix::param::page_size()
}
