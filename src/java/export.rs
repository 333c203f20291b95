//! Our state as a directory that a Java server starts on.
//!
//!   our newest snapshot S -> snapshot.S        every transaction behind it -> log.S+1        read back and compare
//!
//! A Java server that finds a log can be told to cut it back by a leader who knows less; on a snapshot alone it cannot and ends
//! (on-disk formats 7.5). So the log goes along where there is one, and the snapshot is ours as it was written, not the
//! present state: Java brings it up to date itself, checking the digest of each transaction. [`Options::snapshot_only`] writes
//! the present state instead.
//!
//! Nothing has its name before all of it is stable and has been read back. Spec: on-disk formats 10.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ringkeeper_storage::backend::blocking::BlockingDisk;
use ringkeeper_storage::java::{
    Epochs, Export, ExportError as TargetError, ExportTarget, JavaAcl, JavaDirectory, JavaNode, Sections, SnapHead,
    SnapTail, SnapWriter, TreeDigest,
};
use ringkeeper_storage::{DIRECTORY, Opened, StoreError, Zxid};

use super::convert::{java_ref, java_stat};
use super::dirs::JavaDirs;
use super::load::{self, LoadOptions};
use super::ours::{self, OursError};
use super::running;
use super::seen::{self, Seen};
use super::superseded;
use crate::core::replay::{Recovered, Replay};
use crate::core::tree::{DataTree, NodeId};
use crate::core::types::SessionId;
use crate::wire::client::Acl;
use crate::wire::txn::DIGEST_VERSION;

/// Beside `version-2`: that an export is complete, and what it holds.
pub const MARKER: &str = "ringkeeper-export";

#[derive(Clone, Debug)]
pub struct Options {
    pub target: ExportTarget,
    /// What the snapshot tells beside the nodes, for readers of old.
    pub sections: Sections,
    /// The present state as a snapshot, and no log.
    pub snapshot_only: bool,
    /// The content of `myid`, where the target has none.
    pub my_id: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    Nodes {
        done: u64,
        of: u64,
    },
    Records {
        done: u64,
        of: u64,
    },
    /// Reading back.
    Verify(load::Progress),
}

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Ours(#[from] OursError),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{path}: ringkeeper has no data here")]
    Nothing { path: PathBuf },
    #[error("{path}: process {process} has its log open: a Java server is at work there, stop it first")]
    Running { path: PathBuf, process: u32 },
    #[error(
        "{count} transactions of our own log did not give the digest they promised, the first is {first}: this is not exported"
    )]
    Digest { count: usize, first: Zxid },
    #[error("what was written cannot be read back: {0}")]
    Unreadable(#[from] load::LoadError),
    #[error("what was written reads back as {found} and should be {expected}")]
    ReadBack { found: String, expected: String },
}

impl From<ringkeeper_storage::java::JavaError> for ExportError {
    fn from(error: ringkeeper_storage::java::JavaError) -> ExportError {
        ExportError::Unreadable(error.into())
    }
}

/// What was exported.
#[derive(Clone, Debug)]
pub struct Exported {
    pub snapshot: Zxid,
    pub last: Zxid,
    pub nodes: u64,
    pub records: u64,
    pub sessions: usize,
    pub digest: u64,
    pub epochs: Epochs,
    pub bytes: u64,
    /// Where what lay in `version-2` has gone.
    pub set_aside: Vec<PathBuf>,
    pub elapsed: Duration,
}

/// Writes, gives names, reads back. `opened` is ours, recovered; it is only read.
pub fn export(
    opened: &mut Opened,
    our_data_dir: &Path,
    options: Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Exported, ExportError> {
    let begun = Instant::now();
    if opened.is_fresh() {
        return Err(ExportError::Nothing { path: our_data_dir.join(DIRECTORY) });
    }
    let target = options.target.clone();
    let dirs = JavaDirs { data: target.data_dir.clone(), log: target.log_dir.clone() };
    if let Some(process) = running::holder(&dirs) {
        return Err(ExportError::Running { path: dirs.log, process });
    }
    let epochs = Epochs::from(opened.epochs()?);
    let mut replay = ours::snapshot(opened)?;
    let mut export = Export::begin(target.clone())?;
    let of = opened.report().records;
    let mut bytes = 0;
    if options.snapshot_only {
        ours::replay(opened, &mut replay, |_, _| Ok::<_, ExportError>(()))?;
    }
    let snapshot = replay.tree().last_processed();
    bytes += write_snapshot(&mut export, &replay, options.sections, progress)?;
    if !options.snapshot_only && of > 0 {
        bytes += write_log(&mut export, opened, &mut replay, of, progress)?;
    }
    let Recovered { tree, sessions, mismatches } = replay.finish();
    if let Some(first) = mismatches.first() {
        return Err(ExportError::Digest { count: mismatches.len(), first: *first });
    }
    let last = tree.last_processed();
    export.epochs(&epochs)?;
    if let Some(my_id) = &options.my_id {
        export.beside("myid", my_id.as_bytes())?;
    }
    let mut exported = Exported {
        snapshot,
        last,
        nodes: tree.node_count(),
        records: if options.snapshot_only { 0 } else { of },
        sessions: sessions.len(),
        digest: tree.digest(),
        epochs,
        bytes,
        set_aside: vec![],
        elapsed: Duration::ZERO,
    };
    let expected = told(&tree, &sessions);
    drop(tree);
    let found = read_back(&export, progress)?;
    if found != expected {
        return Err(ExportError::ReadBack { found, expected });
    }
    let is_ours = same_directory(&target.data_dir, our_data_dir);
    let (snapshots, logs) = export.unfinished();
    let written = JavaDirectory::open_at(BlockingDisk::default(), snapshots, &logs)?;
    let seen = Seen { zxid: last, epoch: epochs.accepted, ..Seen::of(&written) };
    if is_ours {
        // Before the names are there: or a start in between would take our own export for a server that went on.
        seen::write_next(our_data_dir, &seen)?;
    }
    exported.set_aside = export.finish()?;
    if is_ours {
        seen::arrived(our_data_dir, &seen)?;
    }
    superseded::forget(&target.data_dir)?;
    exported.elapsed = begun.elapsed();
    ringkeeper_storage::java::replace_file(&target.data_dir, MARKER, format!("{exported}\n").as_bytes())?;
    Ok(exported)
}

fn same_directory(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn told(tree: &DataTree, sessions: &[(SessionId, i32)]) -> String {
    let owners: BTreeSet<_> = tree.ephemeral_owners().collect();
    let (nodes, last, digest) = (tree.node_count(), tree.last_processed(), tree.digest());
    format!(
        "{nodes} nodes at {last} with digest {digest:#x}, {} sessions, {} of them with {} ephemerals, {} bytes",
        sessions.len(),
        owners.len(),
        tree.ephemerals_count(),
        tree.approximate_data_size()
    )
}

fn read_back(export: &Export, progress: &mut dyn FnMut(Progress)) -> Result<String, ExportError> {
    let (snapshots, logs) = export.unfinished();
    let mut directory = JavaDirectory::open_at(BlockingDisk::default(), snapshots, &logs)?;
    let loaded = load::load(&mut directory, &LoadOptions::default(), &mut |at| progress(Progress::Verify(at)))?;
    Ok(told(&loaded.tree, &loaded.sessions))
}

fn write_snapshot(
    export: &mut Export,
    state: &Replay,
    sections: Sections,
    progress: &mut dyn FnMut(Progress),
) -> Result<u64, StoreError> {
    let tree = state.tree();
    let zxid = tree.last_processed();
    let acls = tree.acls().iter().map(|(acl, list)| (java_ref(acl), list.iter().map(java_acl).collect()));
    let sessions = state.sessions().map(|(id, timeout_ms)| (id.0, timeout_ms)).collect();
    let head = SnapHead { sessions, acls: acls.collect() };
    let digest = TreeDigest { zxid, version: DIGEST_VERSION, digest: tree.digest() };
    let tail = SnapTail {
        digest: (sections != Sections::NodesOnly).then_some(digest),
        last_zxid: (sections == Sections::All).then_some(zxid),
    };
    export.snapshot(zxid, &head, |writer| write_nodes(writer, tree, progress), &tail)
}

/// Parents first.
fn write_nodes(
    writer: &mut SnapWriter<&mut dyn Write>,
    tree: &DataTree,
    progress: &mut dyn FnMut(Progress),
) -> io::Result<()> {
    let (mut done, of) = (0, tree.node_count());
    let mut to_visit = vec![NodeId::ROOT];
    let mut path = String::new();
    while let Some(id) = to_visit.pop() {
        to_visit.extend(tree.children(id));
        path.clear();
        if id != NodeId::ROOT {
            tree.write_path(id, &mut path);
        }
        writer.node(&JavaNode {
            path: path.as_bytes(),
            data: tree.data(id),
            acl: java_ref(tree.acl_ref(id)),
            stat: java_stat(&tree.raw_stat(id)),
        })?;
        done += 1;
        if done % 4096 == 0 || done == of {
            progress(Progress::Nodes { done, of });
        }
    }
    Ok(())
}

fn java_acl(acl: &Acl<'_>) -> JavaAcl {
    let bytes = |text: Option<&str>| text.unwrap_or_default().as_bytes().to_vec();
    JavaAcl { perms: acl.perms, scheme: bytes(acl.scheme.as_deref()), id: bytes(acl.id.as_deref()) }
}

/// Our records are Java's entries byte for byte.
fn write_log(
    export: &mut Export,
    opened: &mut Opened,
    replay: &mut Replay,
    of: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<u64, ExportError> {
    let mut done = 0;
    export.log(|record| {
        ours::replay(opened, replay, |zxid, entry| {
            record(zxid, entry)?;
            done += 1;
            if done % 4096 == 0 || done == of {
                progress(Progress::Records { done, of });
            }
            Ok::<_, ExportError>(())
        })
    })
}

impl std::fmt::Display for Exported {
    /// One line for people.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Exported { snapshot, last, nodes, records, sessions, digest, bytes, .. } = self;
        write!(
            f,
            "{nodes} nodes, {sessions} sessions at {last}: snapshot {snapshot} and {records} transactions behind it, "
        )?;
        write!(f, "{bytes} bytes; digest {digest:#x} verified by reading back; epoch {}", self.epochs.current)?;
        write!(f, ", {} ms", self.elapsed.as_millis())
    }
}
