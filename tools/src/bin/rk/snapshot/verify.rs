//! `rk snapshot verify`: every checksum, the tree they protect, and its digest, recomputed.
//!
//! A snapshot of ours is first checked part by part, then walked: every link forward and back, every child counted, found by
//! the index under its name, and found once; every node reached. One of Java's is read front to back under its seals into a tree.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args;
use ringkeeper::core::tree::{RawStat, digest};
use ringkeeper_storage::inspect;
use ringkeeper_storage::{NodeRef, SnapshotHeader};
use serde::Serialize;

use super::java::InMemory;
use super::node::{Tree, is_session};
use super::open::{Damage, Facts, Opened, Snapshot};
use super::ours::Mapped;
use super::walk::{Below, Seen, Step, walk};
use crate::console::{Console, Result, Verdict};
use crate::progress;
use crate::show::Hex;

#[derive(Args)]
#[command(
    after_help = "Memory: a bit for each node of a snapshot of ours; for one of Java's the whole tree, about 150 bytes for \
    each node and its data."
)]
pub struct Arguments {
    /// A snapshot file
    pub file: PathBuf,
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Verdict> {
    check(&arguments.file, console)
}

/// Says what is wrong with a snapshot, then sums it up.
pub fn check(path: &Path, console: &mut Console) -> Result<Verdict> {
    let Snapshot { facts, sessions, opened, damages } = Snapshot::open(path)?;
    let mut check = Check { console, facts, damages: 0, notes: Vec::new(), nodes: 0, computed: None };
    for Damage { why, .. } in damages {
        check.damage(why)?;
    }
    match &opened {
        Opened::Nothing => {}
        Opened::Java(tree) => check.java(tree)?,
        Opened::Ours(file) => {
            check.parts(path, file)?;
            check.structure(file, &sessions.into_iter().map(|(id, _)| id).collect())?;
        }
    }
    check.digest()?;
    let Check { console, facts, damages, notes, nodes, computed } = check;
    let Facts { file, format, zxid, digest, .. } = facts;
    console.say(&Summary { file, format, zxid, nodes, digest, computed_digest: computed, damages, notes })?;
    Ok(Verdict::found_if(damages > 0))
}

struct Check<'a> {
    console: &'a mut Console,
    facts: Facts,
    damages: u64,
    notes: Vec<String>,
    nodes: u64,
    computed: Option<Hex>,
}

impl Check<'_> {
    fn damage(&mut self, why: impl Into<String>) -> Result<()> {
        self.damages += 1;
        self.console.say(&Damage { file: self.facts.file.clone(), why: why.into() })
    }

    fn java(&mut self, InMemory(tree): &InMemory) -> Result<()> {
        self.nodes = tree.node_count();
        self.computed = Some(Hex(tree.digest()));
        for (reference, nodes) in tree.unknown_acls() {
            let why = format!("permission list {reference} is used by {nodes} nodes and is not in the snapshot");
            if self.facts.fuzzy {
                self.notes.push(format!("{why}: the log behind it has to tell"));
            } else {
                self.damage(why)?;
            }
        }
        Ok(())
    }

    fn parts(&mut self, path: &Path, Mapped { file, .. }: &Mapped) -> Result<()> {
        let bar = progress::over_bytes(path, file.file_bytes());
        let mut damages = Vec::new();
        inspect::check_parts(file, |part| {
            bar.inc(part.bytes);
            damages.extend(part.damages);
        });
        bar.finish_and_clear();
        damages.into_iter().try_for_each(|why| self.damage(why))
    }

    fn structure(&mut self, tree: &Mapped, sessions: &HashSet<i64>) -> Result<()> {
        let header = tree.file.header();
        let bar = progress::over_items("walking the tree", header.node_count);
        let mut found = Found::default();
        let mut wrong = Vec::new();
        walk([Some(tree), None], [Some(tree.root()), None], "/", &mut |step| {
            match step {
                Step::Enter { path, nodes: [Some(slot), _], .. } => {
                    bar.inc(1);
                    match tree.image(slot) {
                        Ok(image) => found.node(path, &image, tree, sessions, &mut wrong),
                        Err(why) => wrong.push(format!("{path}: {why}")),
                    }
                }
                Step::Damaged { path, why, .. } => wrong.push(format!("below {path}: {why}")),
                Step::Enter { .. } | Step::Leave { .. } => {}
            }
            wrong.drain(..).try_for_each(|why| self.damage(why))?;
            Ok(Below::Go)
        })?;
        bar.finish_and_clear();
        self.nodes = found.nodes;
        self.computed = Some(Hex(found.digest));
        found.against(header, tree).into_iter().try_for_each(|why| self.damage(why))
    }

    /// The digest counts only when everything it is about was found.
    fn digest(&mut self) -> Result<()> {
        let Facts { digest, digest_zxid, zxid, fuzzy, .. } = self.facts;
        match (digest, self.computed) {
            (_, None) => Ok(()),
            (Some(told), Some(_)) if self.damages > 0 => {
                self.notes.push(format!("its digest {told} is of all there was"));
                Ok(())
            }
            (None, _) => {
                self.notes.push("it has no digest to compare with".to_owned());
                Ok(())
            }
            (Some(told), Some(_)) if fuzzy || digest_zxid != zxid => {
                let of = digest_zxid.unwrap_or_default();
                self.notes.push(format!(
                    "its digest {told} is of transaction {of}: only with the log up to there can it be compared"
                ));
                Ok(())
            }
            (Some(told), Some(computed)) if told != computed => {
                self.damage(format!("its digest is {told}, and its nodes have {computed}"))
            }
            (Some(_), Some(_)) => Ok(()),
        }
    }
}

/// What a walk came across.
#[derive(Default)]
struct Found {
    nodes: u64,
    bytes: u64,
    digest: u64,
    owned: u64,
    acls: HashMap<u32, u64>,
    seen: Seen,
}

impl Found {
    fn node(
        &mut self,
        path: &str,
        image: &NodeRef<'_>,
        tree: &Mapped,
        sessions: &HashSet<i64>,
        wrong: &mut Vec<String>,
    ) {
        self.nodes += 1;
        self.bytes += (path.len() + image.data.map_or(0, <[u8]>::len)) as u64;
        self.seen.is_first_time(image.slot);
        let content_crc = digest::content_crc(path, image.data);
        if digest::counts(path) {
            self.digest = self.digest.wrapping_add(digest::node_digest(content_crc, &RawStat::from(image)));
        }
        if content_crc != image.content_crc {
            wrong.push(format!(
                "{path}: its path and data have CRC {content_crc:#010x}, stored is {:#010x}",
                image.content_crc
            ));
        }
        *self.acls.entry(image.acl).or_default() += 1;
        if !tree.knows_acl(image.acl) {
            wrong.push(format!("{path}: permission list {} is not in the snapshot", image.acl));
        }
        if image.ephemeral_owner != 0 {
            self.owned += 1;
            let owner = image.ephemeral_owner;
            if is_session(owner) && !sessions.contains(&owner) {
                wrong.push(format!("{path}: its session {} is in no table", Hex::from(owner)));
            }
        }
        if path != "/" {
            wrong.extend(found_by_name(path, image, tree).err());
        }
    }

    /// What the header says, against what there is.
    fn against(self, header: &SnapshotHeader, tree: &Mapped) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut compare = |what: &str, told: u64, found: u64| {
            if told != found {
                wrong.push(format!("the header tells of {told} {what}, and {found} were found"));
            }
        };
        compare("nodes", header.node_count, self.nodes);
        compare("bytes of paths and data", header.data_bytes, self.bytes);
        compare("nodes with an owner", tree.file.manifest().owned.len() as u64, self.owned);
        for list in &header.acls {
            compare(
                &format!("uses of permission list {}", list.number),
                list.uses,
                self.acls.get(&list.number).copied().unwrap_or(0),
            );
        }
        if self.nodes != header.node_count {
            wrong.extend(self.unreached(tree));
        }
        wrong
    }

    /// Nodes that are there and that no link leads to.
    fn unreached(mut self, tree: &Mapped) -> Option<String> {
        const NAMED: usize = 3;
        let (mut count, mut named) = (0u64, Vec::new());
        inspect::for_each_whole_node(&tree.file, |image| {
            if self.seen.is_first_time(image.slot) {
                count += 1;
                if named.len() < NAMED {
                    named.push(format!("slot {} {:?}, child of slot {}", image.slot, image.name, image.parent));
                }
            }
        });
        (count > 0).then(|| format!("{count} nodes cannot be reached from the root: {}, ...", named.join("; ")))
    }
}

/// The index has to lead from the parent and the name to this node, and to no other.
fn found_by_name(path: &str, image: &NodeRef<'_>, tree: &Mapped) -> std::result::Result<(), String> {
    if image.name.is_empty() || image.name.contains(['/', '\0']) {
        return Err(format!("{path}: {:?} is no name", image.name));
    }
    let mut same = Vec::new();
    let looked = tree.file.children_named(image.parent, image.name, &mut |slot| {
        let is_it = tree.image(slot).is_ok_and(|other| other.parent == image.parent && other.name == image.name);
        if is_it && !same.contains(&slot) {
            same.push(slot);
        }
        false
    });
    match looked {
        Err(why) => Err(format!("{path}: {why}")),
        Ok(()) if same.is_empty() => Err(format!("{path}: the index does not know it")),
        Ok(()) if same.len() > 1 => Err(format!("{path}: there are {} nodes of this name", same.len())),
        Ok(()) => Ok(()),
    }
}

#[derive(Serialize)]
#[serde(tag = "item", rename = "snapshot")]
struct Summary {
    file: String,
    format: &'static str,
    zxid: Option<Hex>,
    nodes: u64,
    digest: Option<Hex>,
    computed_digest: Option<Hex>,
    damages: u64,
    notes: Vec<String>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { file, zxid, nodes, computed_digest, damages, notes, .. } = self;
        match damages {
            0 => write!(f, "{file}: sound: {nodes} nodes")?,
            _ => write!(f, "{file}: {damages} damages; {nodes} nodes found")?,
        }
        if let Some(zxid) = zxid {
            write!(f, ", zxid {zxid}")?;
        }
        if let Some(digest) = computed_digest {
            write!(f, ", digest {digest}")?;
        }
        notes.iter().try_for_each(|note| write!(f, "; {note}"))
    }
}
