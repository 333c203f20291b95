//! `rk snapshot inspect`: what a snapshot holds, as a summary or node by node.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::fmt;
use std::path::PathBuf;

use clap::Args;
use ringkeeper::wire::txn::{CONTAINER_OWNER, TTL_OWNER_MASK};
use serde::Serialize;

use super::node::{Node, NodeItem, Tree};
use super::open::{Facts, Snapshot};
use super::walk::{Below, Step, Totals, find, walk};
use crate::console::{Console, Failure, Result, Verdict};
use crate::show::Hex;

#[derive(Args)]
pub struct Arguments {
    /// A snapshot file
    pub file: PathBuf,
    /// Only this node and what is below it
    #[arg(long, default_value = "/")]
    pub path: String,
    /// How many levels below it are shown; counts and bytes are always of everything below [default: 1, with --nodes all]
    #[arg(long)]
    pub depth: Option<usize>,
    /// Every node with its stat, instead of the summary
    #[arg(long)]
    pub nodes: bool,
    /// The same with its data
    #[arg(long)]
    pub data: bool,
    /// How many of the largest nodes and of the busiest permission lists to name
    #[arg(long, default_value_t = 10)]
    pub top: usize,
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Verdict> {
    let snapshot = Snapshot::open(&arguments.file)?;
    let nodes_only = arguments.nodes || arguments.data;
    if !nodes_only {
        console.say(&snapshot.facts)?;
    }
    snapshot.damages.iter().try_for_each(|damage| console.say(damage))?;
    let mut damaged = !snapshot.damages.is_empty();
    if let Some(tree) = snapshot.tree.as_deref() {
        let from = find(tree, &arguments.path).map_err(|why| Failure::usage(format!("{}: {why}", arguments.path)))?;
        let Some(from) = from else {
            return Err(Failure::usage(format!("{}: no such node in {}", arguments.path, snapshot.facts.file)));
        };
        let path = if arguments.path == "/" { "/" } else { arguments.path.trim_end_matches('/') };
        damaged |= match nodes_only {
            true => show_nodes(tree, from, path, arguments, console)?,
            false => summarise(&snapshot, tree, from, path, arguments, console)?,
        };
    }
    Ok(Verdict::found_if(damaged))
}

/// What cannot be found below a node.
#[derive(Serialize)]
#[serde(tag = "item", rename = "damage")]
struct Lost<'a> {
    path: &'a str,
    why: String,
}

impl fmt::Display for Lost<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: DAMAGED below it: {}", self.path, self.why)
    }
}

fn show_nodes(tree: &dyn Tree, from: u32, path: &str, arguments: &Arguments, console: &mut Console) -> Result<bool> {
    let mut damaged = false;
    walk([Some(tree), None], [Some(from), None], path, &mut |step| {
        match step {
            Step::Enter { path, depth, nodes: [Some(number), _] } => {
                if let Ok(node) = tree.node(number) {
                    console.say(&NodeItem::new(path, &node, tree.acl(node.acl), arguments.data))?;
                }
                return Ok(if arguments.depth.is_some_and(|most| depth >= most) { Below::Skip } else { Below::Go });
            }
            Step::Damaged { path, why, .. } => {
                damaged = true;
                console.say(&Lost { path, why })?;
            }
            Step::Enter { .. } | Step::Leave { .. } => {}
        }
        Ok(Below::Go)
    })?;
    Ok(damaged)
}

/// A node and all below it.
#[derive(Serialize)]
#[serde(tag = "item", rename = "subtree")]
struct Subtree {
    path: String,
    depth: usize,
    #[serde(flatten)]
    totals: Totals,
}

#[derive(Default, Serialize)]
#[serde(tag = "item", rename = "summary")]
struct Summary {
    path: String,
    #[serde(flatten)]
    totals: Totals,
    depth_max: usize,
    nodes_by_depth: Vec<u64>,
    ephemerals: u64,
    containers: u64,
    ttl_nodes: u64,
    null_data: u64,
    last_zxid: Hex,
    largest: Vec<Large>,
    widest: Vec<Wide>,
    acls: Vec<AclUse>,
    sessions: Vec<Session>,
}

#[derive(Serialize)]
struct Large {
    path: String,
    bytes: u64,
}

#[derive(Serialize)]
struct Wide {
    path: String,
    children: u64,
}

#[derive(Serialize)]
struct AclUse {
    acl: String,
    nodes: u64,
}

#[derive(Serialize)]
struct Session {
    session: Hex,
    /// None: it owns nodes and is in no table.
    timeout_ms: Option<i32>,
    ephemerals: u64,
}

/// The largest so many.
struct Top {
    most: usize,
    heap: BinaryHeap<Reverse<(u64, String)>>,
}

impl Top {
    fn new(most: usize) -> Top {
        Top { most, heap: BinaryHeap::new() }
    }

    fn add(&mut self, size: u64, path: &str) {
        let larger = self.heap.len() < self.most || self.heap.peek().is_some_and(|least| size > least.0.0);
        if size > 0 && self.most > 0 && larger {
            if self.heap.len() == self.most {
                self.heap.pop();
            }
            self.heap.push(Reverse((size, path.to_owned())));
        }
    }

    fn into_sorted(self) -> impl Iterator<Item = (u64, String)> {
        self.heap.into_sorted_vec().into_iter().map(|Reverse(item)| item)
    }
}

struct Counts {
    summary: Summary,
    largest: Top,
    widest: Top,
    acls: HashMap<u32, u64>,
    ephemerals: BTreeMap<i64, u64>,
}

impl Counts {
    fn count(&mut self, path: &str, depth: usize, node: &Node<'_>) {
        let summary = &mut self.summary;
        summary.depth_max = summary.depth_max.max(depth);
        if summary.nodes_by_depth.len() <= depth {
            summary.nodes_by_depth.resize(depth + 1, 0);
        }
        summary.nodes_by_depth[depth] += 1;
        match node.stat.ephemeral_owner {
            0 => {}
            CONTAINER_OWNER => summary.containers += 1,
            owner if owner & TTL_OWNER_MASK == TTL_OWNER_MASK => summary.ttl_nodes += 1,
            owner => {
                summary.ephemerals += 1;
                *self.ephemerals.entry(owner).or_default() += 1;
            }
        }
        summary.null_data += u64::from(node.data.is_none());
        let latest = node.stat.mzxid.max(node.stat.czxid).max(node.stat.pzxid);
        summary.last_zxid = summary.last_zxid.max(Hex(latest.max(0) as u64));
        self.largest.add(node.data_bytes(), path);
        self.widest.add(u64::from(node.children), path);
        *self.acls.entry(node.acl).or_default() += 1;
    }
}

fn summarise(
    snapshot: &Snapshot,
    tree: &dyn Tree,
    from: u32,
    path: &str,
    arguments: &Arguments,
    console: &mut Console,
) -> Result<bool> {
    let mut counts = Counts {
        summary: Summary { path: path.to_owned(), ..Summary::default() },
        largest: Top::new(arguments.top),
        widest: Top::new(arguments.top),
        acls: HashMap::new(),
        ephemerals: BTreeMap::new(),
    };
    let shown = arguments.depth.unwrap_or(1);
    let mut subtrees: Vec<Subtree> = Vec::new();
    // Of the nodes above the one the walk is at, those that are shown: their places in the list.
    let mut above = Vec::new();
    let mut damaged = false;
    walk([Some(tree), None], [Some(from), None], path, &mut |step| {
        match step {
            Step::Enter { path, depth, nodes: [Some(number), _] } => {
                if let Ok(node) = tree.node(number) {
                    counts.count(path, depth, &node);
                }
                if depth <= shown {
                    above.push(subtrees.len());
                    subtrees.push(Subtree { path: path.to_owned(), depth, totals: Totals::default() });
                }
            }
            Step::Leave { depth, totals: [totals, _], .. } => {
                if depth == 0 {
                    counts.summary.totals = totals;
                }
                if depth <= shown
                    && let Some(at) = above.pop()
                {
                    subtrees[at].totals = totals;
                }
            }
            Step::Damaged { path, why, .. } => {
                damaged = true;
                console.say(&Lost { path, why })?;
            }
            Step::Enter { .. } => {}
        }
        Ok(Below::Go)
    })?;
    // A node without children is no subtree.
    subtrees.iter().filter(|subtree| subtree.totals.nodes > 1).try_for_each(|subtree| console.say(subtree))?;
    console.say(&finish(counts, snapshot, tree, arguments))?;
    Ok(damaged)
}

fn finish(counts: Counts, snapshot: &Snapshot, tree: &dyn Tree, arguments: &Arguments) -> Summary {
    let Counts { mut summary, largest, widest, acls, mut ephemerals } = counts;
    summary.largest = largest.into_sorted().map(|(bytes, path)| Large { path, bytes }).collect();
    summary.widest = widest.into_sorted().map(|(children, path)| Wide { path, children }).collect();
    let mut acls: Vec<_> = acls.into_iter().map(|(number, nodes)| AclUse { acl: tree.acl(number), nodes }).collect();
    acls.sort_unstable_by(|a, b| (b.nodes, &a.acl).cmp(&(a.nodes, &b.acl)));
    acls.truncate(arguments.top);
    summary.acls = acls;
    let known = snapshot.sessions.iter().map(|(id, timeout_ms)| {
        let ephemerals = ephemerals.remove(id).unwrap_or(0);
        Session { session: (*id).into(), timeout_ms: Some(*timeout_ms), ephemerals }
    });
    summary.sessions = known.collect();
    let orphans = ephemerals.into_iter();
    let orphans = orphans.map(|(id, ephemerals)| Session { session: id.into(), timeout_ms: None, ephemerals });
    summary.sessions.extend(orphans);
    summary
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} snapshot, {} bytes", self.file, self.format, self.bytes)?;
        if let Some(zxid) = self.zxid {
            write!(f, "\nzxid        {zxid}{}", if self.fuzzy { ", and some later changes (fuzzy)" } else { "" })?;
        }
        if let (Some(nodes), Some(bytes)) = (self.nodes, self.data_bytes) {
            write!(f, "\nnodes       {nodes}, {bytes} bytes of paths and data")?;
        }
        if let Some(digest) = self.digest {
            write!(f, "\ndigest      {digest}")?;
            if let Some(zxid) = self.digest_zxid.filter(|zxid| Some(*zxid) != self.zxid) {
                write!(f, " as of {zxid}")?;
            }
        }
        write!(f, "\nsessions    {}", self.sessions)?;
        if let Some(acls) = self.acls {
            write!(f, "\nacl lists   {acls}")?;
        }
        if let (Some(chunks), Some(runs)) = (self.chunks, self.index_runs) {
            write!(f, "\nparts       {chunks} chunks, {runs} runs of the index")?;
        }
        match self.log_zxid {
            Some(zxid) => write!(f, "\nlog stable  up to {zxid} when it was written"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Subtree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Subtree { path, depth, totals: Totals { nodes, bytes } } = self;
        write!(f, "{:width$}{path}  {nodes} nodes, {bytes} bytes of data", "", width = depth * 2)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { totals, depth_max, ephemerals, containers, ttl_nodes, null_data, last_zxid, .. } = self;
        writeln!(f, "{} nodes with {} bytes of data, {depth_max} levels deep", totals.nodes, totals.bytes)?;
        writeln!(
            f,
            "{ephemerals} ephemerals, {containers} containers, {ttl_nodes} TTL nodes, {null_data} without data"
        )?;
        write!(f, "last changed by {last_zxid}; nodes by depth:")?;
        self.nodes_by_depth.iter().try_for_each(|nodes| write!(f, " {nodes}"))?;
        writeln!(f, "\nlargest:")?;
        self.largest.iter().try_for_each(|Large { path, bytes }| writeln!(f, "{bytes:>11} bytes  {path}"))?;
        writeln!(f, "most children:")?;
        self.widest.iter().try_for_each(|Wide { path, children }| writeln!(f, "{children:>11}  {path}"))?;
        writeln!(f, "permissions:")?;
        self.acls.iter().try_for_each(|AclUse { acl, nodes }| writeln!(f, "{nodes:>11} nodes  {acl}"))?;
        write!(f, "sessions:")?;
        self.sessions.iter().try_for_each(|Session { session, timeout_ms, ephemerals }| match timeout_ms {
            Some(timeout) => write!(f, "\n  {session}  timeout {timeout} ms  {ephemerals} ephemerals"),
            None => write!(f, "\n  {session}  in no table  {ephemerals} ephemerals"),
        })
    }
}
