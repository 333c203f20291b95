//! Quotas: what a subtree may hold, and what it holds, as two nodes that anybody may read and write.
//!
//! ```text
//!   /zookeeper/quota/a/b/zookeeper_limits    what /a/b may hold: clients write it
//!   /zookeeper/quota/a/b/zookeeper_stats     what it holds: every server keeps it, beside the transactions
//! ```
//!
//! The nodes below `/zookeeper/quota` are the index, too: they are walked beside a path, and the deepest on the way that has
//! limits is its quota; those above it hear nothing. So a quota is there as long as its limits are, whatever server or
//! snapshot one looks at, and nothing has to be built at a start. Without any quota a change costs one look at the number of
//! children there.
//!
//! Keeping the usage changes data and nothing else: no stat, no watch, no part of the digest. It is counted from the nodes
//! themselves when `zookeeper_stats` is created, when its text cannot be read, and when a state comes from a Java server,
//! whose snapshots are of no one moment (D-045).
//!
//! Text that is no quota ends Java servers, as a quota of nothing does; prep refuses what would make either (D-082, D-083).
//! Spec: semantics 7, 19. Java: `DataTree.updateQuotaStat`, `updateQuotaForPath`, `PathTrie`, `StatsTrack`,
//! `ZooKeeperServer.checkQuota`, `QuotaMetricsUtils`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use compact_str::CompactString;
use smallvec::SmallVec;

use super::node::NodeId;
use super::{DataTree, digest, path};

pub const QUOTAS: &str = "/zookeeper/quota";
const LIMITS: &str = "zookeeper_limits";
const STATS: &str = "zookeeper_stats";

const COUNT: &str = "count";
const BYTES: &str = "bytes";
const COUNT_HARD: &str = "countHardLimit";
const BYTES_HARD: &str = "byteHardLimit";

/// Numbers by name, as both nodes have them: `count=2,bytes=100=;byteHardLimit=-1;countHardLimit=5`. The lone `=` keeps
/// parsers of before 3.5 from what is behind it. What is not told is -1. Java: `StatsTrack`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Track(SmallVec<[(CompactString, i64); 4]>);

impl Track {
    /// `None`: Java throws.
    fn parse(data: Option<&[u8]>) -> Option<Track> {
        const SEPARATORS: [char; 2] = [',', ';'];
        let text = String::from_utf8_lossy(data?);
        let text = text.trim_end_matches(SEPARATORS);
        if text.starts_with(SEPARATORS) {
            return None;
        }
        let mut track = Track::default();
        for pair in text.split(SEPARATORS).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.trim_end_matches('=').split_once('=')?;
            let value = value.split('=').next().unwrap_or_default();
            track.set(name, if value.is_empty() { -1 } else { value.parse().ok()? });
        }
        Some(track)
    }

    fn get(&self, name: &str) -> i64 {
        self.0.iter().find(|(known, _)| known == name).map_or(-1, |(_, value)| *value)
    }

    fn set(&mut self, name: &str, value: i64) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name.into(), value)),
        }
    }

    fn add(&mut self, name: &str, more: i64) {
        self.set(name, self.get(name).wrapping_add(more));
    }

    fn text(&self) -> String {
        let mut text = format!("{COUNT}={},{BYTES}={}", self.get(COUNT), self.get(BYTES));
        let mut others: SmallVec<[_; 4]> = self.0.iter().filter(|(name, _)| name != COUNT && name != BYTES).collect();
        others.sort_unstable();
        if !others.is_empty() {
            text.push('=');
        }
        for (name, value) in others {
            write!(text, ";{name}={value}").expect("writing to a string cannot fail");
        }
        text
    }

    /// The limit that counts, and whether it is a hard one.
    fn limit(&self, hard: &str, soft: &str) -> Option<(i64, bool)> {
        let limit = [(self.get(hard), true), (self.get(soft), false)];
        limit.into_iter().find(|(limit, _)| *limit > -1)
    }
}

/// The quota of a path.
struct Quota<'p> {
    /// The path it was set for.
    subtree: &'p str,
    limits: NodeId,
    /// Without it nothing is counted.
    stats: Option<NodeId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantity {
    Nodes,
    Bytes,
}

/// A limit that a write would go beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded<'p> {
    /// The path that the quota was set for.
    pub subtree: &'p str,
    pub quantity: Quantity,
    pub is_hard: bool,
    pub usage: i64,
    pub limit: i64,
}

/// Sums over all quotas, by the first part of the path they are set for. A limit that is not set counts as -1, as in Java.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaSums {
    pub count_limit: BTreeMap<String, i64>,
    pub bytes_limit: BTreeMap<String, i64>,
    pub count_usage: BTreeMap<String, i64>,
    pub bytes_usage: BTreeMap<String, i64>,
}

impl DataTree {
    /// The subtree that `path` is in has become so much larger.
    #[inline]
    pub(super) fn account(&mut self, path: &str, bytes: i64, nodes: i64) {
        if self.has_quotas() {
            self.account_to_quota(path, bytes, nodes);
        }
    }

    fn account_to_quota(&mut self, path: &str, bytes: i64, nodes: i64) {
        let Some(Quota { subtree, stats: Some(stats), .. }) = self.quota_of(path) else { return };
        match Track::parse(self.data(stats)) {
            Some(mut usage) => {
                usage.add(COUNT, nodes);
                usage.add(BYTES, bytes);
                self.write_usage(stats, subtree, &usage);
            }
            None => self.count_usage(stats, subtree),
        }
    }

    /// A node was created: if it is to hold the usage of a subtree, that is counted.
    #[inline]
    pub(super) fn begin_usage(&mut self, id: NodeId, parent_path: &str, name: &str) {
        if name == STATS
            && let Some(subtree) = subtree_of(parent_path)
        {
            self.count_usage(id, subtree);
        }
    }

    /// All usage anew, from the nodes themselves.
    pub(super) fn count_all_usage(&mut self) {
        if !self.has_quotas() {
            return;
        }
        let limits = self.quota_nodes().filter(|id| self.name(*id) == LIMITS);
        let parents: Vec<NodeId> = limits.map(|id| self.nodes[id].parent).filter(|id| *id != self.quotas).collect();
        for parent in parents {
            let path = self.path(parent);
            if let (Some(stats), Some(subtree)) = (self.child(parent, STATS), subtree_of(&path)) {
                self.count_usage(stats, subtree);
            }
        }
    }

    /// Walks the subtree. `""` is the whole tree.
    fn count_usage(&mut self, stats: NodeId, subtree: &str) {
        let nodes = self.find(subtree).into_iter().flat_map(|top| self.with_descendants(top));
        let (count, bytes) =
            nodes.fold((0, 0), |(count, bytes), id| (count + 1, bytes + self.nodes[id].data_len() as i64));
        let mut usage = Track::default();
        usage.set(COUNT, count);
        usage.set(BYTES, bytes);
        self.write_usage(stats, subtree, &usage);
    }

    fn write_usage(&mut self, stats: NodeId, subtree: &str, usage: &Track) {
        let path = format!("{QUOTAS}{subtree}/{STATS}");
        let data = usage.text().into_bytes();
        self.amend(stats, &path, |node| {
            node.content_crc = digest::content_crc(&path, Some(&data));
            node.data = Some(data.into_boxed_slice());
        });
    }

    /// The limits that a write to `path` would go beyond, as far as writes have been applied: those on nodes first.
    pub fn exceeded_limits<'p>(&self, path: &'p str, bytes: i64, nodes: i64) -> SmallVec<[Exceeded<'p>; 2]> {
        let mut exceeded = SmallVec::new();
        let Some(Quota { subtree, limits, stats: Some(stats) }) = self.quota_of(path) else { return exceeded };
        // What cannot be read is no limit; usage that cannot be read is counted with the next write.
        let (Some(limits), Some(usage)) = (Track::parse(self.data(limits)), Track::parse(self.data(stats))) else {
            return exceeded;
        };
        for (quantity, more, name, hard) in
            [(Quantity::Nodes, nodes, COUNT, COUNT_HARD), (Quantity::Bytes, bytes, BYTES, BYTES_HARD)]
        {
            let usage = usage.get(name).wrapping_add(more);
            match limits.limit(hard, name) {
                Some((limit, is_hard)) if more != 0 && usage > limit => {
                    exceeded.push(Exceeded { subtree, quantity, is_hard, usage, limit });
                }
                _ => {}
            }
        }
        exceeded
    }

    /// For operators. Walks all quotas. Only nodes without children count, as in Java.
    pub fn quota_sums(&self) -> QuotaSums {
        let mut sums = QuotaSums::default();
        for id in self.quota_nodes().filter(|id| self.child_count(*id) == 0) {
            let name = self.name(id);
            let Some(track) =
                Some(name).filter(|name| matches!(*name, LIMITS | STATS)).and_then(|_| Track::parse(self.data(id)))
            else {
                continue;
            };
            let top = std::iter::successors(Some(id), |at| self.parent(*at)).take_while(|at| *at != self.quotas).last();
            let namespace = self.name(top.expect("it is below"));
            let limit = |hard: &str, soft: &str| track.limit(hard, soft).map_or(track.get(soft), |(limit, _)| limit);
            let add = |sums: &mut BTreeMap<String, i64>, more: i64| {
                let sum = sums.entry(namespace.to_owned()).or_default();
                *sum = sum.wrapping_add(more);
            };
            if name == LIMITS {
                add(&mut sums.count_limit, limit(COUNT_HARD, COUNT));
                add(&mut sums.bytes_limit, limit(BYTES_HARD, BYTES));
            } else {
                add(&mut sums.count_usage, track.get(COUNT));
                add(&mut sums.bytes_usage, track.get(BYTES));
            }
        }
        sums
    }

    #[inline]
    fn has_quotas(&self) -> bool {
        self.quotas != NodeId::NONE && self.child_count(self.quotas) > 0
    }

    /// Everything below `/zookeeper/quota`.
    fn quota_nodes(&self) -> impl Iterator<Item = NodeId> {
        self.quotas.or_none().into_iter().flat_map(|top| self.with_descendants(top).skip(1))
    }

    /// The deepest quota on the way to `path`.
    fn quota_of<'p>(&self, path: &'p str) -> Option<Quota<'p>> {
        let mut at = self.quotas.or_none().filter(|_| self.has_quotas())?;
        let mut deepest = None;
        let mut end = 0;
        for name in path.strip_prefix('/')?.split('/') {
            let Some(below) = self.child(at, name) else { break };
            at = below;
            end += 1 + name.len();
            if let Some(limits) = self.child(at, LIMITS) {
                deepest = Some((at, limits, &path[..end]));
            }
        }
        deepest.map(|(at, limits, subtree)| Quota { subtree, limits, stats: self.child(at, STATS) })
    }
}

/// What the nodes below a path of the quota tree are about; `""` is everything.
fn subtree_of(parent_path: &str) -> Option<&str> {
    parent_path.strip_prefix(QUOTAS).filter(|subtree| subtree.is_empty() || subtree.starts_with('/'))
}

/// Whether Java servers would end because of a node of this name, by its creation, its deletion or the start on a snapshot
/// that has it: limits of nothing. They cut the length of `/zookeeper/quota` off the path of the parent of any
/// `zookeeper_limits` whose path begins with `/zookeeper`. Java: `Quotas.trimQuotaPath`, `PathTrie`, `DataTree.traverseNode`.
pub fn is_of_nothing(path: &str) -> bool {
    let Some((parent, LIMITS)) = path::split(path) else { return false };
    let Some(rest) = parent.strip_prefix("/zookeeper") else { return false };
    let is_blank = |character: char| character == '/' || character <= ' ';
    let subtree = rest.chars().skip(QUOTAS.len() - "/zookeeper".len());
    subtree.into_iter().all(is_blank)
        || parent.strip_prefix(QUOTAS).is_some_and(|rest| rest.starts_with("/zookeeper_limits"))
}

/// Whether this is no text for the node at `path`: Java servers end when they come to read it. Java: `StatsTrack`.
pub fn is_unreadable(path: &str, data: Option<&[u8]>) -> bool {
    let is_quota =
        path::split(path).is_some_and(|(parent, name)| matches!(name, LIMITS | STATS) && subtree_of(parent).is_some());
    is_quota && Track::parse(data).is_none()
}

/// The same of a node that is created: the usage is counted whatever the client says.
pub fn is_unreadable_at_birth(path: &str, data: Option<&[u8]>) -> bool {
    is_unreadable(path, data) && path.ends_with(LIMITS)
}
