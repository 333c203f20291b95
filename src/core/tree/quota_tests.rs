//! Quotas as the tree keeps them: whose they are, what they count, and that nothing else notices.

use super::quota::{Exceeded, Quantity, QuotaSums, is_of_nothing, is_unreadable, is_unreadable_at_birth};
use super::tests::{header, recomputed_digest};
use super::*;
use crate::core::types::Zxid;
use crate::wire::client::Stat;
use crate::wire::txn::{CreateKind, Txn};

/// A tree and the zxid of its last change.
struct Scene {
    tree: DataTree,
    zxid: i64,
}

impl Scene {
    fn new() -> Scene {
        Scene { tree: DataTree::new(TreeOptions { extended_types: true, ..TreeOptions::default() }), zxid: 0 }
    }

    fn apply<'t>(&mut self, txn: &'t Txn<'_>) -> Applied<'t> {
        self.zxid += 1;
        let applied = self.tree.apply(&header(self.zxid), txn, &mut Unwatched);
        assert_eq!(self.tree.digest(), recomputed_digest(&self.tree), "after {txn:?}");
        applied
    }

    fn create(&mut self, path: &str, data: &str) -> Stat {
        match self.apply(&create(path, data)).items[0] {
            ItemOutcome::Created { stat, .. } => stat,
            other => panic!("{path}: {other:?}"),
        }
    }

    fn set(&mut self, path: &str, data: Option<&[u8]>) -> Stat {
        match self.apply(&Txn::SetData { path: path.into(), data, version: 1 }).items[0] {
            ItemOutcome::DataSet { stat } => stat,
            other => panic!("{path}: {other:?}"),
        }
    }

    fn delete(&mut self, path: &str) {
        assert_eq!(self.apply(&Txn::Delete { path: path.to_owned().into() }).items[0], ItemOutcome::Deleted, "{path}");
    }

    /// The nodes of a quota, those above them included.
    fn set_quota(&mut self, subtree: &str, limits: &str) {
        let mut path = "/zookeeper/quota".to_owned();
        for name in subtree.split('/').skip(1) {
            path = path + "/" + name;
            if self.tree.find(&path).is_none() {
                self.create(&path, "");
            }
        }
        self.create(&format!("{path}/zookeeper_limits"), limits);
        self.create(&format!("{path}/zookeeper_stats"), "count=0,bytes=0");
    }

    fn text(&self, path: &str) -> &str {
        let id = self.tree.find(path).unwrap_or_else(|| panic!("{path} is there"));
        std::str::from_utf8(self.tree.data(id).unwrap_or_default()).unwrap()
    }

    fn usage(&self, subtree: &str) -> &str {
        self.text(&format!("/zookeeper/quota{subtree}/zookeeper_stats"))
    }

    /// The same state on a snapshot of it, nothing in memory.
    fn restarted(mut self) -> Scene {
        let (walk, header) = self.tree.begin_snapshot();
        let images: Vec<_> =
            std::iter::from_fn(|| self.tree.snapshot_slice(walk, usize::MAX)).flat_map(|chunk| chunk.nodes).collect();
        let tree = DataTree::load(Box::new(MemorySnapshot::new(header, images)), self.tree.options()).unwrap();
        Scene { tree, zxid: self.zxid }
    }
}

fn create<'a>(path: &'a str, data: &'a str) -> Txn<'a> {
    create_of(CreateKind::Persistent, path, data)
}

fn create_of<'a>(kind: CreateKind, path: &'a str, data: &'a str) -> Txn<'a> {
    let data = Some(data.as_bytes());
    Txn::Create { path: path.into(), data, acl: Default::default(), kind, parent_cversion: -1, create2: false }
}

#[test]
fn text_is_read_and_written_as_java_does() {
    // From StatsTrack of 3.9.5; `!` where it throws.
    let cases = [
        ("", "count=-1,bytes=-1"),
        ("count=1,bytes=2", "count=1,bytes=2"),
        ("bytes=2,count=1", "count=1,bytes=2"),
        (",;,", "count=-1,bytes=-1"),
        (",count=1", "!"),
        ("count=1,", "count=1,bytes=-1"),
        ("count=1,,bytes=2;", "count=1,bytes=2"),
        ("count", "!"),
        ("count=", "!"),
        ("count==", "!"),
        ("count==5", "count=-1,bytes=-1"),
        ("=5", "count=-1,bytes=-1=;=5"),
        ("==", "!"),
        ("count=5=6", "count=5,bytes=-1"),
        ("count=+5", "count=5,bytes=-1"),
        ("count=-5", "count=-5,bytes=-1"),
        ("count= 5", "!"),
        ("count=--5", "!"),
        ("count=9223372036854775807", "count=9223372036854775807,bytes=-1"),
        ("count=9223372036854775808", "!"),
        ("count=1,count=2", "count=2,bytes=-1"),
        ("z=1,a=2,B=3", "count=-1,bytes=-1=;B=3;a=2;z=1"),
        (
            "count=100,bytes=1000=;countHardLimit=200;byteHardLimit=2000",
            "count=100,bytes=1000=;byteHardLimit=2000;countHardLimit=200",
        ),
        ("é=3", "count=-1,bytes=-1=;é=3"),
        ("count=5,=", "!"),
        ("a=1=;b", "!"),
    ];
    let stats = "/zookeeper/quota/a/zookeeper_stats";
    let mut scene = Scene::new();
    scene.create("/a", "");
    scene.set_quota("/a", "count=1");
    for (text, expected) in cases {
        assert_eq!(is_unreadable(stats, Some(text.as_bytes())), expected == "!", "{text:?}");
        scene.set(stats, Some(text.as_bytes()));
        scene.set("/a", None); // nothing more, but the text is written anew
        // What Java ends of is counted from the nodes.
        let expected = if expected == "!" { "count=1,bytes=0" } else { expected };
        assert_eq!(scene.usage("/a"), expected, "{text:?}");
    }
    assert!(is_unreadable(stats, None));
    scene.set(stats, None);
    scene.set("/a", Some(b"abc"));
    assert_eq!(scene.usage("/a"), "count=1,bytes=3");
}

#[test]
fn usage_follows_every_change() {
    let mut scene = Scene::new();
    scene.create("/a", "four");
    scene.create("/a/b", "x");
    scene.create("/ab", "not in it");
    scene.set_quota("/a", "count=9,bytes=-1");
    assert_eq!(scene.usage("/a"), "count=2,bytes=5", "counted when it is created, whatever the client said");
    scene.create("/a/c", "123");
    assert_eq!(scene.usage("/a"), "count=3,bytes=8");
    scene.set("/a/c", Some(b"1"));
    scene.set("/ab", Some(b"elsewhere"));
    assert_eq!(scene.usage("/a"), "count=3,bytes=6");
    scene.set("/a/c", None);
    assert_eq!(scene.usage("/a"), "count=3,bytes=5");
    scene.delete("/a/c");
    assert_eq!(scene.usage("/a"), "count=2,bytes=5");
    scene.apply(&create_of(CreateKind::Ephemeral, "/a/e", "12"));
    scene.apply(&create_of(CreateKind::Ephemeral, "/a/f", "34"));
    scene.apply(&create_of(CreateKind::Container, "/a/g", ""));
    scene.apply(&create_of(CreateKind::Ttl { ttl_ms: 5 }, "/a/t", "7"));
    assert_eq!(scene.usage("/a"), "count=6,bytes=10");
    scene.apply(&Txn::DeleteContainer { path: "/a/g".into() });
    scene.apply(&Txn::DeleteContainer { path: "/a/t".into() });
    scene.apply(&Txn::CloseSession { paths: Some(vec!["/a/e".into()]) });
    assert_eq!(scene.usage("/a"), "count=2,bytes=5", "the listed one and the other");
    scene.apply(&Txn::Multi(vec![create("/a/m", "1"), create("/a/m/n", "2"), Txn::Delete { path: "/a/b".into() }]));
    assert_eq!(scene.usage("/a"), "count=3,bytes=6");
    let failed = Txn::Multi(vec![create("/a/o", "1"), Txn::Error { code: -2 }]);
    scene.apply(&failed);
    scene.apply(&Txn::Delete { path: "/a/nobody".into() });
    scene.apply(&create("/a/m", "over what is there: replay"));
    assert_eq!(scene.usage("/a"), "count=3,bytes=6", "nothing of that happened");
}

#[test]
fn the_deepest_quota_counts_and_no_other() {
    let mut scene = Scene::new();
    scene.create("/a", "");
    scene.create("/a/b", "");
    scene.set_quota("/a", "count=9");
    scene.set_quota("/a/b", "count=9");
    scene.create("/a/b/c", "1");
    assert_eq!((scene.usage("/a"), scene.usage("/a/b")), ("count=2,bytes=0", "count=2,bytes=1"));
    scene.delete("/zookeeper/quota/a/b/zookeeper_limits");
    scene.create("/a/b/d", "22");
    assert_eq!((scene.usage("/a"), scene.usage("/a/b")), ("count=3,bytes=2", "count=2,bytes=1"), "it is none any more");
    scene.create("/zookeeper/quota/a/b/zookeeper_limits", "count=1");
    assert_eq!(scene.usage("/a/b"), "count=2,bytes=1", "nobody counts again");
    scene.delete("/zookeeper/quota/a/b/zookeeper_stats");
    scene.create("/a/b/e", "333");
    assert_eq!(
        scene.usage("/a"),
        "count=3,bytes=2",
        "without usage there is nothing to keep, and the outer one hears nothing"
    );
    scene.create("/zookeeper/quota/a/b/zookeeper_stats", "");
    assert_eq!(scene.usage("/a/b"), "count=4,bytes=6");
}

#[test]
fn keeping_the_usage_changes_data_and_nothing_else() {
    let mut scene = Scene::new();
    scene.create("/a", "");
    let born = scene.create("/zookeeper/quota/a", "");
    scene.create("/zookeeper/quota/a/zookeeper_limits", "count=1");
    let stats = "/zookeeper/quota/a/zookeeper_stats";
    let created = scene.create(stats, "");
    assert_eq!(created.data_length, 0, "the answer shows what the client said");
    let shown = |scene: &Scene| scene.tree.stat(scene.tree.find(stats).unwrap());
    assert_eq!(shown(&scene), Stat { data_length: 15, ..created });
    scene.create("/a/b", "123456789");
    assert_eq!(shown(&scene), Stat { data_length: 15, ..created });
    scene.create("/a/c", "1");
    assert_eq!(shown(&scene), Stat { data_length: 16, ..created });
    let above = scene.tree.stat(scene.tree.find("/zookeeper/quota/a").unwrap());
    assert_eq!((above.czxid, above.cversion, above.pzxid), (born.czxid, 2, created.czxid));
    let whole = scene.tree.approximate_data_size();
    assert_eq!(scene.restarted().tree.approximate_data_size(), whole);
}

/// The quota of a tree that the quota nodes are in.
#[test]
fn quota_nodes_may_be_in_a_quota_themselves() {
    let mut scene = Scene::new();
    scene.create("/zookeeper/quota/zookeeper", "");
    scene.create("/zookeeper/quota/zookeeper/zookeeper_limits", "count=5");
    let stat = scene.create("/zookeeper/quota/zookeeper/zookeeper_stats", "12345");
    // Counted with itself, 6 nodes and 12 bytes, and then again as what was just created. As in Java.
    assert_eq!(stat.data_length, 5);
    assert_eq!(scene.usage("/zookeeper"), "count=7,bytes=17");
    scene.set("/zookeeper/quota/zookeeper/zookeeper_stats", Some(b"count=1"));
    assert_eq!(scene.usage("/zookeeper"), "count=1,bytes=-10", "the text that was set, and its length less the former");
    scene.tree.set_config_node("server.1=a:1:2:participant", 1, 1);
    assert_eq!(scene.usage("/zookeeper"), "count=1,bytes=16");
}

#[test]
fn the_whole_tree_can_be_counted_but_not_kept_count_of() {
    let mut scene = Scene::new();
    scene.create("/a", "123");
    scene.create("/zookeeper/quota/zookeeper_stats", "");
    assert_eq!(scene.usage(""), "count=6,bytes=3");
    scene.create("/zookeeper/quota/zookeeper_limits", "count=1"); // no server of ours makes that
    scene.create("/b", "");
    assert_eq!(scene.usage(""), "count=6,bytes=3");
}

#[test]
fn names_that_only_look_like_quotas_are_none() {
    let mut scene = Scene::new();
    scene.create("/zookeeper/quotas", "");
    scene.create("/zookeeper/quotas/zookeeper_stats", "mine");
    assert_eq!(scene.text("/zookeeper/quotas/zookeeper_stats"), "mine");
    scene.create("/zookeeper_stats", "mine");
    assert_eq!(scene.text("/zookeeper_stats"), "mine");
}

#[test]
fn a_restart_changes_no_usage() {
    let mut scene = Scene::new();
    scene.create("/a", "");
    scene.create("/a/b", "1");
    scene.set_quota("/a", "count=-1=;countHardLimit=3");
    scene.set("/zookeeper/quota/a/zookeeper_stats", Some(b"count=70,bytes=80"));
    scene = scene.restarted();
    scene.create("/a/c", "22");
    assert_eq!(scene.usage("/a"), "count=71,bytes=82");
    assert_eq!(scene.tree.exceeded_limits("/a/d", 0, 1).len(), 1);
    while scene.tree.is_moving() {
        scene.tree.move_some(1);
        scene.tree.account("/a", 1, 0);
    }
    scene.delete("/a/c");
    scene.delete("/zookeeper/quota/a/zookeeper_limits");
    scene.delete("/zookeeper/quota/a/zookeeper_stats");
    scene.delete("/zookeeper/quota/a");
    assert!(scene.tree.exceeded_limits("/a/d", 0, 1).is_empty());
    let mut scene = scene.restarted();
    scene.create("/a/d", "");
}

/// A snapshot in the middle of a walk has the usage of the moment it began.
#[test]
fn a_snapshot_has_the_usage_of_its_zxid() {
    let mut scene = Scene::new();
    scene.create("/a", "");
    scene.set_quota("/a", "count=9");
    let (walk, header) = scene.tree.begin_snapshot();
    scene.create("/a/b", "1");
    let images = std::iter::from_fn(|| scene.tree.snapshot_slice(walk, 1)).flat_map(|chunk| chunk.nodes);
    let source = MemorySnapshot::new(header, images.collect::<Vec<_>>());
    let tree = DataTree::load(Box::new(source), scene.tree.options()).unwrap();
    let then = Scene { tree, zxid: 0 };
    assert_eq!((then.usage("/a"), scene.usage("/a")), ("count=1,bytes=0", "count=2,bytes=1"));
}

/// What comes from a Java server may be of several moments.
#[test]
fn a_state_that_comes_as_paths_is_counted() {
    let mut builder = TreeBuilder::new(TreeOptions::default());
    let nodes = [
        ("", ""),
        ("/a", "12"),
        ("/a/b", "3"),
        ("/zookeeper", ""),
        ("/zookeeper/quota", ""),
        ("/zookeeper/quota/a", ""),
        ("/zookeeper/quota/a/zookeeper_limits", "count=1"),
        ("/zookeeper/quota/a/zookeeper_stats", "count=77,bytes=77"),
        ("/zookeeper/quota/c", ""),
        ("/zookeeper/quota/c/zookeeper_stats", "of no quota"),
        ("/zookeeper/quota/zookeeper_limits", "no quota either"),
    ];
    for (path, data) in nodes {
        builder.add(path, Some(data.as_bytes()), -1, &RawStat::default()).unwrap();
    }
    let mut scene = Scene { tree: builder.finish(Zxid(9)).unwrap(), zxid: 9 };
    assert_eq!((scene.usage("/a"), scene.usage("/c")), ("count=2,bytes=3", "of no quota"));
    scene.create("/a/c", "45");
    assert_eq!(scene.usage("/a"), "count=3,bytes=5");
}

#[test]
fn limits_are_looked_at_as_java_looks_at_them() {
    let mut scene = Scene::new();
    scene.create("/a", "1234");
    let limits = "/zookeeper/quota/a/zookeeper_limits";
    scene.set_quota("/a", "");
    let mut check = |text: &str, bytes: i64, nodes: i64| {
        scene.set(limits, Some(text.as_bytes()));
        let exceeded = scene.tree.exceeded_limits("/a/new", bytes, nodes);
        exceeded.iter().map(|e| (e.quantity, e.is_hard, e.usage, e.limit)).collect::<Vec<_>>()
    };
    use Quantity::{Bytes, Nodes};
    assert_eq!(check("count=-1,bytes=-1", 99, 1), []);
    assert_eq!(check("", 99, 1), []);
    assert_eq!(check("nonsense", 99, 1), [], "what cannot be read is no limit");
    assert_eq!(check("count=2,bytes=5", 1, 1), [], "up to the limit");
    assert_eq!(check("count=1,bytes=5", 2, 1), [(Nodes, false, 2, 1), (Bytes, false, 6, 5)]);
    assert_eq!(
        check("count=9,bytes=9=;byteHardLimit=5;countHardLimit=1", 2, 1),
        [(Nodes, true, 2, 1), (Bytes, true, 6, 5)]
    );
    assert_eq!(check("count=1,bytes=5=;byteHardLimit=9;countHardLimit=9", 2, 1), [], "a hard limit counts alone");
    assert_eq!(check("count=0,bytes=0=;byteHardLimit=-1", 0, 0), [], "who adds nothing is not looked at");
    assert_eq!(check("count=0,bytes=0", -1, 0), [(Bytes, false, 3, 0)], "less is still too much");
    assert_eq!(check("countHardLimit=0", 0, 1), [(Nodes, true, 2, 0)]);

    assert_eq!(scene.tree.exceeded_limits("/ab", 9, 9).len(), 0);
    let itself = Exceeded { subtree: "/a", quantity: Nodes, is_hard: true, usage: 2, limit: 0 };
    assert_eq!(scene.tree.exceeded_limits("/a", 0, 1)[..], [itself]);
    scene.delete("/zookeeper/quota/a/zookeeper_stats");
    assert_eq!(scene.tree.exceeded_limits("/a/new", 9, 9).len(), 0, "without usage there is nothing to compare");
}

#[test]
fn operators_see_sums_by_the_first_part_of_the_path() {
    let mut scene = Scene::new();
    assert_eq!(scene.tree.quota_sums(), QuotaSums::default());
    for (path, data) in [("/a", "12"), ("/a/b", "345"), ("/a/c", ""), ("/d", "")] {
        scene.create(path, data);
    }
    scene.set_quota("/a/b", "count=5,bytes=-1=;byteHardLimit=100;countHardLimit=7");
    scene.set_quota("/a/c", "count=5,bytes=-1");
    scene.set_quota("/d", "count=1");
    scene.set("/zookeeper/quota/d/zookeeper_stats", Some(b"nonsense"));
    let sums = scene.tree.quota_sums();
    let of = |sums: &std::collections::BTreeMap<String, i64>| {
        sums.iter().map(|(name, sum)| format!("{name} {sum}")).collect::<Vec<_>>().join(", ")
    };
    assert_eq!((of(&sums.count_limit), of(&sums.bytes_limit)), ("a 12, d 1".into(), "a 99, d -1".into()));
    assert_eq!((of(&sums.count_usage), of(&sums.bytes_usage)), ("a 2".into(), "a 3".into()));
}

#[test]
fn what_ends_java_servers_is_known() {
    for path in [
        "/zookeeper/quota/zookeeper_limits",
        "/zookeeper/quota/ /zookeeper_limits",
        "/zookeeper/quota/zookeeper_limits/zookeeper_limits",
        "/zookeeper/quota/zookeeper_limits2/zookeeper_limits",
        "/zookeeper/zookeeper_limits",
        "/zookeeper2/zookeeper_limits",
        "/zookeeper/other/zookeeper_limits",
        "/zookeeper/é/zookeeper_limits",
    ] {
        assert!(is_of_nothing(path), "{path}");
    }
    for path in [
        "/zookeeper_limits",
        "/a/zookeeper_limits",
        "/zookeeper/quota/a/zookeeper_limits",
        "/zookeeper/quota/a/zookeeper_limits/zookeeper_limits",
        "/zookeeper/quota/zookeeper_stats",
        "/zookeeper/others/zookeeper_limits",
        "/zookeeper/quota",
        "/",
    ] {
        assert!(!is_of_nothing(path), "{path}");
    }
    let (limits, stats) = ("/zookeeper/quota/a/zookeeper_limits", "/zookeeper/quota/a/zookeeper_stats");
    assert!(is_unreadable(limits, Some(b"many")) && is_unreadable(stats, Some(b"\xff")) && is_unreadable(limits, None));
    assert!(is_unreadable_at_birth(limits, None) && !is_unreadable_at_birth(stats, None));
    assert!(!is_unreadable("/quota/a/zookeeper_stats", Some(b"anything")) && !is_unreadable(limits, Some(b"\xff=1")));
}

/// Semantics 19: what a Java leader logged before it, or its followers, ended of it.
#[test]
fn what_ends_java_servers_is_applied_where_it_was_committed() {
    let mut scene = Scene::new();
    scene.create("/a", "1");
    scene.set_quota("/a", "count=9");
    for junk in [Some(&b"junk"[..]), Some(b"\xff\xfe"), Some(b"count=,bytes=="), None] {
        scene.set("/zookeeper/quota/a/zookeeper_stats", junk);
        scene.create("/a/b", "22");
        assert_eq!(scene.usage("/a"), "count=2,bytes=3", "{junk:?}: counted anew");
        scene.delete("/a/b");
        assert_eq!(scene.usage("/a"), "count=1,bytes=1");
    }
    scene.set("/zookeeper/quota/a/zookeeper_limits", Some(b"none that could be read"));
    scene.create("/zookeeper/quota/zookeeper_limits", "count=1");
    scene.create("/a/c", "333");
    assert_eq!(scene.usage("/a"), "count=2,bytes=4");
    scene.delete("/zookeeper/quota/zookeeper_limits");
    scene = scene.restarted();
    scene.set("/a", None);
    assert_eq!(scene.usage("/a"), "count=2,bytes=3");
}

/// Replay over a state of several moments.
#[test]
fn a_parent_deleted_over_its_children_takes_them_along() {
    let mut scene = Scene::new();
    scene.create("/a", "1");
    scene.create("/a/b", "22");
    scene.create("/a/b/c", "333");
    scene.set_quota("/a", "count=9");
    scene.delete("/a/b");
    assert_eq!(scene.usage("/a"), "count=1,bytes=1");
}
