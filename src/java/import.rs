//! A Java directory becomes ours: its state as our first snapshot, its last transaction as the place where our log begins.
//!
//!   load and verify -> note what was seen -> install the snapshot -> read it back
//!
//! Nothing of it is visible before the snapshot has its name, so an import that was cut short begins anew. The source is only
//! read. Its log is not taken over: what lies below a snapshot may never have been committed (quorum protocol 20.1), so the
//! history that peers can be given starts at the snapshot.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use ringkeeper_storage::java::{Epochs, JavaError};
use ringkeeper_storage::{Opened, StoreConfig, StoreError, Zxid, kept_promise, promise_is_stored};

use super::dirs::JavaDirs;
use super::load::{self, LoadOptions, LoadReport, Loaded, Progress};
use super::running;
use super::seen::{self, Seen};

/// Bytes of node images in one chunk of the snapshot.
const CHUNK_BYTES: usize = 256 << 10;

#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error(transparent)]
    Load(#[from] load::LoadError),
    #[error(transparent)]
    Java(#[from] JavaError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{path}: there is no data of a Java server here")]
    Nothing { path: PathBuf },
    #[error("{path}: ringkeeper has data of its own here, up to transaction {last}; --replace moves them aside")]
    NotFresh { path: PathBuf, last: Zxid },
    #[error("{path}: process {process} has its log open: stop that server first, or its last writes are missed")]
    Running { path: PathBuf, process: u32 },
    #[error("what was written reads back as {found} and should be {expected}")]
    ReadBack { found: String, expected: String },
}

/// What was imported.
#[derive(Clone, Debug)]
pub struct Imported {
    pub nodes: u64,
    pub sessions: usize,
    pub ephemerals: u64,
    pub digest: u64,
    pub epochs: Epochs,
    pub loaded: LoadReport,
    pub elapsed: Duration,
}

/// Reads and verifies the state; nothing is written yet.
pub fn read(
    from: &JavaDirs,
    options: &LoadOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Loaded, Seen), ImportError> {
    if let Some(process) = running::holder(from) {
        return Err(ImportError::Running { path: from.data.clone(), process });
    }
    let mut directory = from.open()?;
    if directory.is_empty() {
        return Err(ImportError::Nothing { path: from.data.clone() });
    }
    let seen = Seen::of(&directory);
    let loaded = load::load(&mut directory, options, progress)?;
    let seen = Seen { zxid: loaded.report.last, epoch: loaded.epochs.accepted, ..seen };
    Ok((loaded, seen))
}

/// Writes what was read into a store that has nothing yet.
pub fn install(
    mut opened: Opened,
    config: &StoreConfig,
    (loaded, seen): (Loaded, Seen),
    begun: Instant,
) -> Result<(Opened, Imported), ImportError> {
    if !opened.is_fresh() {
        let (path, last) = (config.data_dir.clone(), opened.report().last_zxid);
        return Err(ImportError::NotFresh { path, last });
    }
    let Loaded { mut tree, sessions, epochs, mut report } = loaded;
    // Without the setting they would be ephemerals of sessions that never were (Java: `EphemeralType.get`).
    match tree.ttl_node_count() {
        0 => {}
        nodes => report.notes.push(format!(
            "{nodes} nodes have a time to live: nothing ends them unless the server has extendedTypesEnabled=true"
        )),
    }
    let (nodes, ephemerals, digest) = (tree.node_count(), tree.ephemerals_count(), tree.digest());
    // A state without a note would look like one that Java has since gone beyond.
    seen::write(&config.data_dir, &seen)?;
    // A state without its promises could break them, Java's and those that were made here. Where nobody made any they follow from
    // the log, there as here.
    let promised = opened.epochs()?.accepted.max(kept_promise(&config.data_dir)?);
    let epochs = Epochs { accepted: epochs.accepted.max(promised.into()), ..epochs };
    if epochs.stored || promised > 0 {
        opened.store_epochs(epochs.ours())?;
        promise_is_stored(&config.data_dir)?;
    }
    let (walk, mut header) = tree.begin_snapshot();
    header.sessions = sessions.iter().map(|(id, timeout_ms)| (id.0, *timeout_ms)).collect();
    header.sessions.sort_unstable();
    let mut opened = opened.install(header, move || tree.snapshot_slice(walk, CHUNK_BYTES))?;
    let told = |zxid: u64, nodes: u64, digest: u64| format!("{nodes} nodes at {zxid:#x} with digest {digest:#x}");
    let expected = told(report.last.0, nodes, digest);
    let found = opened.snapshot_header().map(|header| told(header.zxid, header.node_count, header.tree_digest));
    let found = found.unwrap_or_else(|| "nothing".into());
    if found != expected {
        return Err(ImportError::ReadBack { found, expected });
    }
    let (found, expected) = (opened.epochs()?, epochs.ours());
    if found != expected {
        return Err(ImportError::ReadBack { found: format!("{found:?}"), expected: format!("{expected:?}") });
    }
    let sessions = sessions.len();
    let imported = Imported { nodes, sessions, ephemerals, digest, epochs, loaded: report, elapsed: begun.elapsed() };
    Ok((opened, imported))
}

impl std::fmt::Display for Imported {
    /// One line for people.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let LoadReport { snapshot, last, records, digest_verified_at, .. } = &self.loaded;
        write!(
            f,
            "{} nodes ({} ephemeral), {} sessions at {last}: snapshot {snapshot} and {records} transactions behind it; ",
            self.nodes, self.ephemerals, self.sessions
        )?;
        match digest_verified_at {
            Some(zxid) => write!(f, "digest {:#x} verified at {zxid}", self.digest)?,
            None => write!(f, "digest {:#x}, which nothing in the directory could verify", self.digest)?,
        }
        write!(f, "; epoch {}, {} ms", self.epochs.current, self.elapsed.as_millis())
    }
}
