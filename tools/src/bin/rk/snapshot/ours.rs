//! A snapshot of ours, read where it lies: nodes are looked up when they are met.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use ringkeeper::core::tree::{AclRef, RawStat};
use ringkeeper_storage::inspect::{self, Part};
use ringkeeper_storage::{AclListImage, NO_SLOT, NodeRef, SnapshotError, SnapshotFile, Zxid};

use super::node::{Found, Node, Tree};
use super::open::{Damage, Facts, Opened, Snapshot, name_of};
use crate::console::{Failure, Result};
use crate::log::record::perms;
use crate::show::Hex;

/// The zxid that its name or its end claims, if it is one of ours.
pub fn claimed(path: &Path, bytes: u64) -> Result<Option<Zxid>> {
    let named = inspect::snapshot_of_name(&name_of(path));
    match named {
        Some(zxid) => Ok(Some(zxid)),
        None => Ok(inspect::snapshot_of_end(&inspect::last_block(path, bytes)?)),
    }
}

pub fn open(path: &Path, bytes: u64, zxid: Zxid) -> Result<Snapshot> {
    let file = name_of(path);
    let damage = |why: String| Damage { file: file.clone(), why };
    let facts = Facts { file: file.clone(), format: "ringkeeper", bytes, ..Facts::default() };
    let opened = match inspect::open_snapshot_as(path, bytes, zxid)? {
        Ok(opened) => opened,
        Err(SnapshotError::Damaged { why, .. }) => {
            let mut damages = vec![damage(why)];
            let found = salvage(path, bytes, zxid, |why| damages.push(damage(why)))?;
            damages.push(damage(format!("without its end no node can be placed; {found}")));
            return Ok(Snapshot { facts, sessions: Vec::new(), opened: Opened::Nothing, damages });
        }
        Err(other) => return Err(Failure::usage(other.to_string())),
    };
    let (header, manifest) = (opened.header(), opened.manifest());
    let facts = Facts {
        zxid: Some(Hex(header.zxid)),
        nodes: Some(header.node_count),
        data_bytes: Some(header.data_bytes),
        digest: Some(Hex(header.tree_digest)),
        digest_zxid: Some(Hex(header.zxid)),
        acls: Some(header.acls.len() as u64),
        sessions: header.sessions.len() as u64,
        chunks: Some(manifest.chunks.len() as u64),
        index_runs: Some((manifest.children.len() + manifest.extras.len()) as u64),
        log_zxid: Some(Hex(manifest.log_zxid)),
        ..facts
    };
    let sessions = header.sessions.clone();
    Ok(Snapshot { facts, sessions, opened: Opened::Ours(Mapped::new(opened)), damages: Vec::new() })
}

/// What is still whole of a file whose end is gone.
fn salvage(path: &Path, bytes: u64, zxid: Zxid, mut damaged: impl FnMut(String)) -> Result<String> {
    let (mut chunks, mut nodes) = (0u64, 0u64);
    inspect::find_chunks(path, bytes, zxid, |Part { nodes: own, damages, .. }| {
        if damages.is_empty() {
            chunks += 1;
            nodes += u64::from(own);
        }
        damages.into_iter().for_each(&mut damaged);
    })?;
    Ok(format!("{chunks} whole chunks with {nodes} nodes are there"))
}

pub struct Mapped {
    pub file: SnapshotFile,
    acls: HashMap<u32, String>,
}

impl Mapped {
    fn new(file: SnapshotFile) -> Mapped {
        let listed = file.header().acls.iter().map(|list| (list.number, text(list)));
        // The open list has a number of its own and is in no table.
        let acls = listed.chain([(AclRef::OPEN.0, "world:anyone:cdrwa".to_owned())]).collect();
        Mapped { file, acls }
    }

    /// The image in a slot that something leads to.
    pub fn image(&self, slot: u32) -> Found<NodeRef<'_>> {
        self.file.node(slot)?.ok_or_else(|| format!("slot {slot} is free, and a link leads to it"))
    }

    pub fn knows_acl(&self, number: u32) -> bool {
        self.acls.contains_key(&number)
    }

    /// From one child to the next until the links end, or lead nowhere.
    fn follow(
        &self,
        parent: u32,
        first: u32,
        most: u32,
        next: impl Fn(&NodeRef<'_>) -> u32,
        mut take: impl FnMut(u32),
    ) -> Found<u32> {
        let (mut slot, mut count) = (first, 0);
        while slot != NO_SLOT {
            if count == most {
                return Err(format!("slot {parent} says that it has {most} children, and its links lead to more"));
            }
            let child = self.image(slot)?;
            if child.parent != parent {
                return Err(format!(
                    "slot {slot} is linked as a child of slot {parent} and says it is one of {}",
                    child.parent
                ));
            }
            take(slot);
            count += 1;
            slot = next(&child);
        }
        Ok(count)
    }

    /// The links back, against those forward.
    fn check_back(&self, children: &[u32]) -> Found<()> {
        for (index, slot) in children.iter().enumerate() {
            let before = children[index.checked_sub(1).unwrap_or(children.len() - 1)];
            let told = self.image(*slot)?.prev_sibling;
            if told != before {
                return Err(format!("slot {slot} is linked back to slot {told} and follows slot {before}"));
            }
        }
        Ok(())
    }
}

fn text(list: &AclListImage) -> String {
    let entries: Vec<_> =
        list.entries.iter().map(|acl| format!("{}:{}:{}", acl.scheme, acl.id, perms(acl.perms))).collect();
    entries.join(",")
}

impl Tree for Mapped {
    fn root(&self) -> u32 {
        0
    }

    fn node(&self, slot: u32) -> Found<Node<'_>> {
        let image = self.image(slot)?;
        Ok(Node {
            name: image.name,
            data: image.data,
            acl: image.acl,
            stat: RawStat::from(&image),
            children: image.child_count,
        })
    }

    fn children(&self, slot: u32, out: &mut Vec<u32>) -> Found<()> {
        let NodeRef { first_child, child_count, .. } = self.image(slot)?;
        let begin = out.len();
        match self.follow(slot, first_child, child_count, |child| child.next_sibling, |child| out.push(child)) {
            Ok(count) if count == child_count => self.check_back(&out[begin..]),
            Ok(count) => Err(format!("slot {slot} says that it has {child_count} children, and {count} are linked")),
            Err(why) => {
                // The links back, from the last child on, may lead to what is behind the damage.
                let known: HashSet<u32> = out[begin..].iter().copied().collect();
                let last = self.image(first_child).map_or(NO_SLOT, |first| first.prev_sibling);
                let back = |child: &NodeRef<'_>| {
                    if known.contains(&child.prev_sibling) { NO_SLOT } else { child.prev_sibling }
                };
                let most = child_count.saturating_sub(known.len() as u32);
                if !known.contains(&last) {
                    let _ = self.follow(slot, last, most, back, |child| out.push(child));
                }
                Err(why)
            }
        }
    }

    fn child(&self, slot: u32, name: &str) -> Found<Option<u32>> {
        let mut found = None;
        let mut damage = None;
        self.file.children_named(slot, name, &mut |candidate| {
            match self.image(candidate) {
                Ok(image) if image.parent == slot && image.name == name => found = Some(candidate),
                Ok(_) => {}
                Err(why) => drop(damage.get_or_insert(why)),
            }
            found.is_some()
        })?;
        match (found, damage) {
            (None, Some(why)) => Err(why),
            (found, _) => Ok(found),
        }
    }

    fn acl(&self, number: u32) -> String {
        self.acls.get(&number).cloned().unwrap_or_else(|| format!("unknown list {number}"))
    }
}
