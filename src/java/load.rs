//! The state that a Java server would have after starting on its directory, with stricter checks.
//!
//!   newest readable snapshot -> nodes into a tree -> every transaction behind it -> does the digest agree?
//!
//! A fuzzy snapshot holds effects of transactions behind its zxid, up to the one its digest section names: until that one
//! has been applied the tree is between two states and no digest is compared. Spec: on-disk formats 4.5, 7.1, 10.
//! Java: `FileTxnSnapLog.restore`, `DataTree.compareSnapshotDigests`.

use ringkeeper_storage::Zxid;
use ringkeeper_storage::disk::Disk;
use ringkeeper_storage::java::directory::{Newest, SnapshotFile};
use ringkeeper_storage::java::{
    Epochs, JavaDirectory, JavaError, SnapHead, SnapReader, SnapTail, Strictness, TreeDigest,
};

use super::convert::{OPTIONS, build_acl, build_node};
use crate::core::SessionId;
use crate::core::replay::{DigestCheck, Recovered, Replay};
use crate::core::tree::{DataTree, TreeBuilder};
use crate::wire::txn::DIGEST_VERSION;

/// A session that owns nodes and has no entry in the table: Java kills it at once, here it gets this long.
const ORPHAN_TIMEOUT_MS: i32 = 4000;

#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    pub strictness: Strictness,
    /// An older snapshot than the newest, for those who want to compare. Nothing newer is looked at then.
    pub snapshot: Option<Zxid>,
}

impl Default for LoadOptions {
    fn default() -> LoadOptions {
        LoadOptions { strictness: Strictness::Strict, snapshot: None }
    }
}

/// How far it is: bytes of the file under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Bytes of the unpacked snapshot, and of its file.
    Snapshot {
        read_bytes: u64,
        file_bytes: u64,
    },
    Log {
        records: u64,
        zxid: Zxid,
    },
}

/// What a Java directory holds.
#[derive(Debug)]
pub struct Loaded {
    pub tree: DataTree,
    /// With their timeouts in milliseconds.
    pub sessions: Vec<(SessionId, i32)>,
    pub epochs: Epochs,
    pub report: LoadReport,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    pub snapshot: Zxid,
    pub last: Zxid,
    pub records: u64,
    /// The last digest that could be compared, and the tree's was the same.
    pub digest_verified_at: Option<Zxid>,
    /// Transactions after which the tree did not have their digest.
    pub mismatches: Vec<Zxid>,
    /// One sentence each: what was passed over, what was forced.
    pub notes: Vec<String>,
}

/// Why there is no state, or none that should be taken without somebody's decision.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Java(#[from] JavaError),
    #[error(
        "after transaction {at} the tree's digest is {found:#x} and should be {expected:#x}: something is missing or was changed"
    )]
    Digest { at: Zxid, found: u64, expected: u64 },
    #[error("transactions up to {needed} are needed ({why}), and the logs end with {last}")]
    LogsEnd { needed: Zxid, last: Zxid, why: String },
    #[error(
        "permission list {reference} is used by {nodes} nodes, and neither the snapshot nor the logs behind it have it"
    )]
    UnknownAcl { reference: String, nodes: u64 },
    #[error("transaction {zxid} cannot be read: {why}")]
    Transaction { zxid: Zxid, why: String },
}

/// Reads everything. Blocks.
pub fn load<D: Disk>(
    directory: &mut JavaDirectory<D>,
    options: &LoadOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Loaded, LoadError> {
    let Newest { loaded: (tree, head, tail), file, passed_over } = load_snapshot(directory, options, progress)?;
    let mut verdict = Verdict {
        strictness: options.strictness,
        report: LoadReport { snapshot: file.zxid, ..LoadReport::default() },
        target: tail.digest.filter(|digest| digest.version == DIGEST_VERSION && digest.zxid >= file.zxid),
        last_check: None,
    };
    let sessions = head.sessions.iter().map(|(id, timeout_ms)| (SessionId(*id), *timeout_ms));
    let mut replay = Replay::resume(tree, sessions);
    verdict.reached(file.zxid, replay.tree());
    let mut unreadable = None;
    let log = directory.replay(file.zxid, options.strictness, |zxid, entry| {
        match replay.apply(entry) {
            Ok(check) => verdict.applied(zxid, check, replay.tree(), entry),
            Err(error) => {
                // Its checksum is right, so it was written like this.
                let why = error.to_string();
                unreadable.get_or_insert(LoadError::Transaction { zxid, why });
            }
        }
        if verdict.report.records.is_multiple_of(4096) {
            progress(Progress::Log { records: verdict.report.records, zxid });
        }
        Ok(())
    })?;
    if let Some(error) = unreadable {
        return Err(error); // a transaction of a kind we do not know: not even force makes that a state
    }
    verdict.report.last = log.last;
    verdict.report.notes.extend(log.notes);
    progress(Progress::Log { records: log.records, zxid: log.last });

    for (zxid, error) in passed_over {
        let note = format!("passed over: {error}");
        verdict.needs(zxid, format!("{} is damaged, so an older one was used", file_of(zxid)))?;
        verdict.report.notes.push(note);
    }
    if let Some(zxid) = tail.last_zxid.filter(|zxid| *zxid >= file.zxid) {
        verdict.needs(zxid, format!("{} holds some of them", file_of(file.zxid)))?;
    }
    if let Some(target) = verdict.target.take() {
        verdict.needs(target.zxid, format!("{} holds some of them", file_of(file.zxid)))?;
    }
    let Recovered { tree, mut sessions, .. } = replay.finish();
    verdict.check(&tree)?;
    adopt_orphans(&tree, &mut sessions, &mut verdict.report.notes);
    let epochs = directory.epochs(verdict.report.last)?;
    Ok(Loaded { tree, sessions, epochs, report: verdict.report })
}

fn file_of(zxid: Zxid) -> String {
    ringkeeper_storage::java::names::snapshot(zxid)
}

type FromSnapshot = (DataTree, SnapHead, SnapTail);

fn load_snapshot<D: Disk>(
    directory: &mut JavaDirectory<D>,
    options: &LoadOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Newest<FromSnapshot>, JavaError> {
    let Some(zxid) = options.snapshot else {
        return directory.newest_snapshot(|file, head, reader| build(file, head, reader, progress));
    };
    let missing = || JavaError::Snapshot { file: file_of(zxid).into(), why: "there is no such file".into() };
    let index = directory.snapshots().iter().position(|file| file.zxid == zxid).ok_or_else(missing)?;
    let file = directory.snapshots()[index].clone();
    let (head, reader) = directory.read_snapshot(index)?;
    Ok(Newest { loaded: build(&file, head, reader, progress)?, file, passed_over: vec![] })
}

/// The tree of one snapshot, and what stands around it.
fn build(
    file: &SnapshotFile,
    head: SnapHead,
    mut reader: SnapReader<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<FromSnapshot, JavaError> {
    let refused =
        |why: crate::core::tree::BuildError| JavaError::Snapshot { file: file.path.clone(), why: why.to_string() };
    let mut builder = TreeBuilder::new(OPTIONS);
    for (number, list) in &head.acls {
        build_acl(&mut builder, *number, list).map_err(refused)?;
    }
    let mut nodes = 0u64;
    while let Some(node) = reader.next_node()? {
        build_node(&mut builder, &node).map_err(refused)?;
        nodes += 1;
        if nodes.is_multiple_of(4096) {
            progress(Progress::Snapshot { read_bytes: reader.bytes_read(), file_bytes: file.bytes });
        }
    }
    progress(Progress::Snapshot { read_bytes: reader.bytes_read(), file_bytes: file.bytes });
    let tail = reader.finish()?;
    let tree = builder.finish(file.zxid).map_err(refused)?;
    Ok((tree, head, tail))
}

/// Whether what was loaded may be believed.
struct Verdict {
    strictness: Strictness,
    report: LoadReport,
    /// Not reached yet: until then nothing is compared.
    target: Option<TreeDigest>,
    /// The last digest compared.
    last_check: Option<Check>,
}

struct Check {
    at: Zxid,
    found: u64,
    expected: u64,
}

impl Verdict {
    fn applied(&mut self, zxid: Zxid, check: DigestCheck, tree: &DataTree, entry: &[u8]) {
        self.report.records += 1;
        if self.target.is_some() {
            self.reached(zxid, tree);
            return;
        }
        let found = tree.digest();
        let expected = match check {
            DigestCheck::Untold => return,
            DigestCheck::Same => found,
            DigestCheck::Different => entry.last_chunk::<8>().map_or(0, |digest| u64::from_be_bytes(*digest)),
        };
        self.compare(Check { at: zxid, found, expected });
    }

    /// The tree is as of `zxid`: is that what the snapshot's own digest is about?
    fn reached(&mut self, zxid: Zxid, tree: &DataTree) {
        if let Some(target) = self.target.take_if(|target| target.zxid <= zxid) {
            self.compare(Check { at: target.zxid, found: tree.digest(), expected: target.digest });
        }
    }

    fn compare(&mut self, check: Check) {
        if check.found != check.expected {
            self.report.mismatches.push(check.at);
        }
        self.last_check = Some(check);
    }

    fn needs(&mut self, needed: Zxid, why: String) -> Result<(), LoadError> {
        let last = self.report.last;
        if last < needed { self.allow(LoadError::LogsEnd { needed, last, why }) } else { Ok(()) }
    }

    fn check(&mut self, tree: &DataTree) -> Result<(), LoadError> {
        if let Some((reference, nodes)) = tree.unknown_acls().into_iter().next() {
            self.allow(LoadError::UnknownAcl { reference, nodes })?;
        }
        match self.last_check.take() {
            None => Ok(()),
            Some(Check { at, found, expected }) if found != expected => {
                self.allow(LoadError::Digest { at, found, expected })
            }
            Some(Check { at, .. }) => {
                self.report.digest_verified_at = Some(at);
                Ok(())
            }
        }
    }

    fn allow(&mut self, error: LoadError) -> Result<(), LoadError> {
        match self.strictness {
            Strictness::Strict => Err(error),
            Strictness::Forced => {
                self.report.notes.push(error.to_string());
                Ok(())
            }
        }
    }
}

/// Java's leader kills the sessions that own nodes and are not in the table. Here they get an entry, and expire as any other
/// does: by a transaction, which peers and logs see.
fn adopt_orphans(tree: &DataTree, sessions: &mut Vec<(SessionId, i32)>, notes: &mut Vec<String>) {
    let known: std::collections::BTreeSet<_> = sessions.iter().map(|(id, _)| *id).collect();
    let mut orphans: Vec<_> = tree.ephemeral_owners().filter(|owner| !known.contains(owner)).collect();
    orphans.sort_unstable();
    if !orphans.is_empty() {
        notes.push(format!(
            "{} sessions own nodes and are not in the table: they expire after the start",
            orphans.len()
        ));
    }
    sessions.extend(orphans.into_iter().map(|id| (id, ORPHAN_TIMEOUT_MS)));
}
