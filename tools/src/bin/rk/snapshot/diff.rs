//! `rk snapshot diff`: what differs between two snapshots, whatever formats they have.
//!
//! Two trees are walked side by side by path. One of ours is read where it lies; one of Java's has to be in memory for it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::node::{Node, Tree};
use super::open::{Facts, Snapshot};
use super::walk::{Below, Step, Totals, find, walk};
use crate::console::{Console, Failure, Result, Verdict};
use crate::show::{Hex, Time, quoted};

#[derive(Args)]
#[command(
    after_help = "Nodes that differ are named one by one; of a subtree that only one side has, its top, with what is \
    below it. With a threshold, subtrees are named instead whose sizes differ by more. Memory: a bit for each node; for a \
    snapshot of Java's the whole tree, about 150 bytes for each node and its data."
)]
pub struct Arguments {
    pub left: PathBuf,
    pub right: PathBuf,
    /// Only this node and what is below it
    #[arg(long, default_value = "/")]
    pub path: String,
    /// Only subtrees whose bytes of data differ by more than this
    #[arg(long, value_name = "BYTES")]
    pub threshold_bytes: Option<u64>,
    /// Only subtrees whose counts of nodes differ by more than this
    #[arg(long, value_name = "NODES")]
    pub threshold_nodes: Option<u64>,
}

impl Arguments {
    fn has_threshold(&self) -> bool {
        self.threshold_bytes.is_some() || self.threshold_nodes.is_some()
    }

    fn exceeds(&self, [left, right]: [Totals; 2]) -> bool {
        let over = |most: Option<u64>, a: u64, b: u64| most.is_some_and(|most| a.abs_diff(b) > most);
        over(self.threshold_bytes, left.bytes, right.bytes) || over(self.threshold_nodes, left.nodes, right.nodes)
    }
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Verdict> {
    let snapshots = [Snapshot::open(&arguments.left)?, Snapshot::open(&arguments.right)?];
    let damages = snapshots.iter().flat_map(|snapshot| &snapshot.damages);
    damages.clone().try_for_each(|damage| console.say(damage))?;
    let damaged = damages.count() > 0;
    let [Some(left), Some(right)] = [0, 1].map(|side| snapshots[side].tree.as_deref()) else {
        return Ok(Verdict::Found);
    };
    let trees = [left, right];
    let mut from = [None; 2];
    for side in 0..2 {
        from[side] = find(trees[side], &arguments.path)
            .map_err(|why| Failure::usage(format!("{}: {}: {why}", snapshots[side].facts.file, arguments.path)))?;
    }
    if from == [None; 2] {
        return Err(Failure::usage(format!("{}: neither snapshot has this node", arguments.path)));
    }
    let mut counts = Counts::default();
    if arguments.path == "/" {
        compare_sessions(&snapshots, &mut counts, console)?;
    }
    let mut only: Option<usize> = None;
    walk(trees.map(Some), from, &arguments.path, &mut |step| {
        match step {
            Step::Enter { path, depth, nodes: [Some(a), Some(b)] } => {
                debug_assert!(only.is_none(), "{path} at {depth}");
                compare(path, [(trees[0], a), (trees[1], b)], arguments, &mut counts, console)?;
            }
            // The top of what only one side has; what is below is counted when it is left.
            Step::Enter { depth, .. } => {
                only.get_or_insert(depth);
            }
            Step::Leave { path, depth, nodes, totals } => {
                let is_top = only.take_if(|top| *top == depth).is_some();
                counts.left(path, nodes, totals, is_top, arguments, console)?;
            }
            Step::Damaged { path, tree, why } => {
                counts.damages += 1;
                let file = &snapshots[tree].facts.file;
                console.say(&Lost { file, path, why })?;
            }
        }
        Ok(Below::Go)
    })?;
    let summary = Summary::new(&snapshots, counts);
    console.say(&summary)?;
    Ok(Verdict::found_if(damaged || summary.counts.any() || summary.same_zxid_other_digest))
}

#[derive(Clone, Copy, Default, Serialize)]
struct Counts {
    compared: u64,
    added: Totals,
    removed: Totals,
    changed: u64,
    subtrees: u64,
    sessions: u64,
    damages: u64,
}

impl Counts {
    fn any(&self) -> bool {
        self.added.nodes + self.removed.nodes + self.changed + self.sessions + self.damages > 0
    }

    fn left(
        &mut self,
        path: &str,
        nodes: [Option<u32>; 2],
        totals: [Totals; 2],
        is_top: bool,
        arguments: &Arguments,
        console: &mut Console,
    ) -> Result<()> {
        if is_top {
            let side = usize::from(nodes[0].is_none());
            *if side == 0 { &mut self.removed } else { &mut self.added } += totals[side];
            if !arguments.has_threshold() {
                console.say(&OnlyIn { item: ["removed", "added"][side], path, totals: totals[side] })?;
            }
        }
        if arguments.exceeds(totals) {
            self.subtrees += 1;
            console.say(&Subtrees { path, left: totals[0], right: totals[1] })?;
        }
        Ok(())
    }
}

/// Fields by name, with what they are on either side.
type Fields = BTreeMap<&'static str, [String; 2]>;

fn compare(
    path: &str,
    sides: [(&dyn Tree, u32); 2],
    arguments: &Arguments,
    counts: &mut Counts,
    console: &mut Console,
) -> Result<()> {
    let nodes = sides.map(|(tree, number)| tree.node(number));
    // A damaged one was told of where it was met.
    let [Ok(a), Ok(b)] = nodes else { return Ok(()) };
    counts.compared += 1;
    let fields = differing([&a, &b], [sides[0].0.acl(a.acl), sides[1].0.acl(b.acl)]);
    if !fields.is_empty() {
        counts.changed += 1;
        if !arguments.has_threshold() {
            console.say(&Changed { path, fields })?;
        }
    }
    Ok(())
}

fn differing([a, b]: [&Node<'_>; 2], [acl_a, acl_b]: [String; 2]) -> Fields {
    let mut fields = Fields::new();
    let mut note = |name, left: String, right: String| {
        if left != right {
            fields.insert(name, [left, right]);
        }
    };
    if a.data != b.data {
        note("data", data_text(a), data_text(b));
    }
    note("acl", acl_a, acl_b);
    let (x, y) = (&a.stat, &b.stat);
    for (name, left, right) in [
        ("czxid", x.czxid, y.czxid),
        ("mzxid", x.mzxid, y.mzxid),
        ("pzxid", x.pzxid, y.pzxid),
        ("owner", x.ephemeral_owner, y.ephemeral_owner),
    ] {
        note(name, Hex::from(left).to_string(), Hex::from(right).to_string());
    }
    for (name, left, right) in [("ctime", x.ctime, y.ctime), ("mtime", x.mtime, y.mtime)] {
        note(name, Time(left).to_string(), Time(right).to_string());
    }
    for (name, left, right) in
        [("version", x.version, y.version), ("cversion", x.cversion, y.cversion), ("aversion", x.aversion, y.aversion)]
    {
        note(name, left.to_string(), right.to_string());
    }
    fields
}

/// The beginning of it and its length: equal texts must mean equal data only where the data was equal.
fn data_text(node: &Node<'_>) -> String {
    const SHOWN_BYTES: usize = 60;
    match node.data {
        None => "null".to_owned(),
        Some(data) if data.len() <= SHOWN_BYTES => quoted(data),
        Some(data) => {
            let (begin, checksum) = (quoted(&data[..SHOWN_BYTES]), crc32fast::hash(data));
            format!("{begin}... ({} bytes, CRC-32 {checksum:#010x})", data.len())
        }
    }
}

fn compare_sessions(snapshots: &[Snapshot; 2], counts: &mut Counts, console: &mut Console) -> Result<()> {
    let tables = [0, 1].map(|side| snapshots[side].sessions.iter().copied().collect::<BTreeMap<i64, i32>>());
    let ids: std::collections::BTreeSet<_> = tables.iter().flat_map(|table| table.keys().copied()).collect();
    for id in ids {
        let timeouts = [0, 1].map(|side| tables[side].get(&id).copied());
        if timeouts[0] != timeouts[1] {
            counts.sessions += 1;
            console.say(&SessionDiffers { session: id.into(), timeout_ms: timeouts })?;
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct OnlyIn<'a> {
    item: &'static str,
    path: &'a str,
    #[serde(flatten)]
    totals: Totals,
}

#[derive(Serialize)]
#[serde(tag = "item", rename = "changed")]
struct Changed<'a> {
    path: &'a str,
    fields: Fields,
}

#[derive(Serialize)]
#[serde(tag = "item", rename = "subtree")]
struct Subtrees<'a> {
    path: &'a str,
    left: Totals,
    right: Totals,
}

#[derive(Serialize)]
#[serde(tag = "item", rename = "session")]
struct SessionDiffers {
    session: Hex,
    timeout_ms: [Option<i32>; 2],
}

#[derive(Serialize)]
#[serde(tag = "item", rename = "damage")]
struct Lost<'a> {
    file: &'a str,
    path: &'a str,
    why: String,
}

#[derive(Serialize)]
#[serde(tag = "item", rename = "summary")]
struct Summary {
    files: [String; 2],
    zxids: [Option<Hex>; 2],
    digests: [Option<Hex>; 2],
    /// Two states of one transaction: one of them is not what all servers agreed on.
    same_zxid_other_digest: bool,
    fuzzy: bool,
    #[serde(flatten)]
    counts: Counts,
}

impl Summary {
    fn new(snapshots: &[Snapshot; 2], counts: Counts) -> Summary {
        let facts: [&Facts; 2] = [&snapshots[0].facts, &snapshots[1].facts];
        // A digest counts for the transaction it is of; of a fuzzy snapshot that is a later one than its own.
        let zxids = facts.map(|facts| facts.digest_zxid.or(facts.zxid));
        let digests = facts.map(|facts| facts.digest);
        let both = zxids[0].is_some() && zxids[0] == zxids[1] && digests.iter().all(Option::is_some);
        Summary {
            files: facts.map(|facts| facts.file.clone()),
            zxids: facts.map(|facts| facts.zxid),
            digests,
            same_zxid_other_digest: both && digests[0] != digests[1],
            fuzzy: facts.iter().any(|facts| facts.fuzzy),
            counts,
        }
    }
}

impl fmt::Display for OnlyIn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OnlyIn { item, path, totals: Totals { nodes, bytes } } = self;
        write!(f, "{item:<8} {path}  {bytes} bytes")?;
        if *nodes > 1 { write!(f, ", with {} nodes below it", nodes - 1) } else { Ok(()) }
    }
}

impl fmt::Display for Changed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "changed  {}", self.path)?;
        self.fields.iter().try_for_each(|(name, [left, right])| write!(f, "  {name} {left} -> {right}"))
    }
}

impl fmt::Display for Subtrees<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Subtrees { path, left, right } = self;
        write!(f, "{path}  {} -> {} nodes, {} -> {} bytes", left.nodes, right.nodes, left.bytes, right.bytes)
    }
}

impl fmt::Display for SessionDiffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |timeout: Option<i32>| timeout.map_or("none".to_owned(), |ms| format!("timeout {ms} ms"));
        let [left, right] = self.timeout_ms.map(side);
        write!(f, "session  {}  {left} -> {right}", self.session)
    }
}

impl fmt::Display for Lost<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: DAMAGED below {}: {}", self.file, self.path, self.why)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { compared, added, removed, changed, sessions, .. } = &self.counts;
        let text = |zxid: Option<Hex>| zxid.map_or("unknown".to_owned(), |zxid| zxid.to_string());
        let [left, right] = self.zxids.map(text);
        writeln!(f, "{} (zxid {left}) -> {} (zxid {right})", self.files[0], self.files[1])?;
        write!(f, "{compared} nodes in both, {changed} changed; {} removed, {} added", removed.nodes, added.nodes)?;
        if *sessions > 0 {
            write!(f, "; {sessions} sessions differ")?;
        }
        if self.fuzzy {
            write!(f, "\na snapshot of Java's was written while transactions went on: some later changes are in it")?;
        }
        if self.same_zxid_other_digest {
            let [left, right] = self.digests.map(text);
            write!(f, "\nDIFFERENT STATES OF ONE TRANSACTION: digests {left} and {right}; one of them is wrong")?;
        }
        Ok(())
    }
}
