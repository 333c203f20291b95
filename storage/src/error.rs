//! How storage fails: one variant for each different thing the caller must do.

use std::io;
use std::path::PathBuf;

use crate::Zxid;

/// Why the store did not open. All of these end the start of the server with their text.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{path}: locked by another server (pid {holder}): two servers must not share a data directory")]
    Locked { path: PathBuf, holder: String },
    #[error(
        "{found} lies in {path}, and {expected} has nothing of its kind: were dataDir and dataLogDir changed without moving the \
         files? Move them, or put the directories back. Nothing was changed"
    )]
    Misplaced { found: String, path: PathBuf, expected: PathBuf },
    #[error(
        "{path}: damaged or gone: not an epoch with the right check. A server that forgets which epoch it accepted can break the \
         ensemble's promises. Restore the file from a backup, or empty this server's data directories and let it join anew"
    )]
    EpochDamaged { path: PathBuf },
    #[error(
        "{log}: there is a log with transactions up to {last}, and {directory} has nothing of the member that wrote it, the epochs that \
         it accepted neither: a server that forgets these can break the ensemble's promises. Is its disk mounted? If it is lost, move \
         {log} away and let this server join anew"
    )]
    PromiseGone { log: PathBuf, directory: PathBuf, last: Zxid },
    #[error(
        "{directory}: the last transaction is {last}, of a later epoch than was ever accepted (acceptedEpoch says {accepted}): \
         files of different ages. Restore the directory as a whole, or empty this server's data directories and let it join anew"
    )]
    EpochBehind { directory: PathBuf, accepted: u32, last: Zxid },
    #[error(
        "{directory}: acceptedEpoch says {accepted} and currentEpoch {current}, and no epoch is current that was not accepted: \
         files of different ages. Restore the directory as a whole, or empty this server's data directories and let it join anew"
    )]
    EpochNotAccepted { directory: PathBuf, accepted: u32, current: u32 },
    #[error(
        "{directory}: this was a member of an ensemble, and what it had is lost ({why}). Start it as a member again, and it \
         fetches everything from its leader; or move the directory away to start without data"
    )]
    Lost { directory: PathBuf, why: String },
    #[error(
        "{path}: {operation} failed: Read-only file system. Mount it read-write; if it was, the kernel may have turned it \
         read-only after an error of the disk (dmesg says so): check the disk first. Or point dataDir and dataLogDir elsewhere"
    )]
    ReadOnly { path: PathBuf, operation: &'static str },
    #[error("{path}: {operation} failed: {source}{}", right_wanted(source))]
    Io {
        path: PathBuf,
        operation: &'static str,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

impl StoreError {
    /// Whether a member of an ensemble sets everything aside for this, and fetches it anew, where a server alone refuses.
    pub fn is_loss(&self) -> bool {
        crate::standing::loss(self).is_some()
    }

    /// Whether `open_despite_loss` opens what was refused.
    pub fn can_be_cut(&self) -> bool {
        matches!(self, StoreError::Log(LogError::Damaged { cut: true, .. } | LogError::CutShort { .. }))
    }

    /// The last transaction that is certainly there, where a log says so.
    pub fn last_good(&self) -> Option<Zxid> {
        match self {
            StoreError::Log(LogError::Damaged { last_good, .. } | LogError::CutShort { last_good, .. }) => {
                Some(*last_good)
            }
            _ => None,
        }
    }
}

impl StoreError {
    /// A failure of the start, before anything was read.
    pub(crate) fn at_start(path: PathBuf, operation: &'static str, source: io::Error) -> StoreError {
        match source.kind() {
            io::ErrorKind::ReadOnlyFilesystem => StoreError::ReadOnly { path, operation },
            _ => StoreError::Io { path, operation, source },
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error(
        "{file}: {}; the last good transaction is {last_good}, but {proof} proves that everything \
         up to {durable} was once safely stored, so acknowledged transactions are missing here. Nothing was changed. \
         Restore the directory from a backup or another server of the ensemble{}, or move it away to start without its data",
        why.at(*at), if *cut { to_cut(*last_good) } else { String::new() }
    )]
    Damaged {
        file: String,
        at: u64,
        why: Damage,
        last_good: Zxid,
        durable: Zxid,
        proof: String,
        /// What is before it can be cut off from the rest, and gone on with.
        cut: bool,
    },
    #[error(
        "{file}: {bytes} bytes long, and was once at least {once_bytes}: its end is gone, and with it perhaps acknowledged \
         transactions after {last_good}. Nothing was changed. Restore the file from a backup{}",
        to_cut(*last_good)
    )]
    CutShort { file: String, bytes: u64, once_bytes: u64, last_good: Zxid },
    #[error(
        "the log does not reach back to snapshot {snapshot}: its first transaction follows {log_begins_after}. Restore the \
         missing log files (or a newer snapshot) from a backup, or move both directories away to start without data"
    )]
    Gap { snapshot: Zxid, log_begins_after: Zxid },
    #[error(
        "{file}: {why}; what follows {last_good} may have been acknowledged and is missing here. Nothing was changed. Put the \
         right file there, from a backup or another server of the ensemble, or move the log files from this one on away to \
         start with what is before it"
    )]
    Misfit { file: String, why: &'static str, last_good: Zxid },
    #[error(
        "{0}: {2}, says {1}: is the disk of dataLogDir mounted, and is it the right one? Nothing was changed. Mount it, or \
         restore the log from a backup. Without it, what was acknowledged since the newest snapshot is lost: empty the data \
         directories of a member of an ensemble and let it join anew; delete {1} to start a standalone server with its snapshot",
        directory.display(),
        noted.display(),
        if *another { "this is another log than the one that was here" } else { "the log is gone" }
    )]
    Vanished { directory: PathBuf, noted: PathBuf, another: bool },
    #[error("{file}: format version {version} was written by a newer ringkeeper; this one reads up to {supported}")]
    Version { file: String, version: u32, supported: u32 },
    #[error("{file}: no room for another {wanted_bytes} bytes: {source}")]
    Full {
        file: String,
        wanted_bytes: u64,
        #[source]
        source: io::Error,
    },
    #[error("the log does not reach back to {wanted}; {}", oldest.map_or("nothing is known of what it holds".to_owned(), |zxid| format!("it begins after {zxid}")))]
    NotCovered { wanted: Zxid, oldest: Option<Zxid> },
    #[error("{file}: {}: what follows {last_good} cannot be read", why.at(*at))]
    RangeDamaged { file: String, at: u64, why: Damage, last_good: Zxid },
    #[error("{file}: could not be read: {source}{}", right_wanted(source))]
    Unreadable {
        file: String,
        #[source]
        source: io::Error,
    },
    #[error("{file}: could not be made from an older segment: {source}")]
    NotRecycled {
        file: String,
        #[source]
        source: io::Error,
    },
    #[error("{file}: {operation} failed: {source}; this log takes no more writes until reopened and rescanned")]
    Poisoned {
        file: String,
        operation: &'static str,
        #[source]
        source: io::Error,
    },
}

impl LogError {
    /// Of a segment that was not to be had: more room on the disk would help.
    pub(crate) fn wants_room(&self) -> bool {
        matches!(self, LogError::Full { source, .. } | LogError::NotRecycled { source, .. } if is_want_of_room(source))
    }
}

impl SnapshotError {
    /// Of one that was not written: more room on the disk would help.
    pub(crate) fn wants_room(&self) -> bool {
        matches!(self, SnapshotError::Io { source, .. } if is_want_of_room(source))
    }
}

/// How to go on with what is before a damage.
fn to_cut(last_good: Zxid) -> String {
    format!(
        ", or copy it and give up what is behind {last_good} with `rk log chop DATADIR --to {last_good}` (and --log-dir DATALOGDIR, \
         where that is another directory)"
    )
}

/// What to do about a file or directory that this process may not use.
fn right_wanted(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "; this process runs as user {}: run it as the one who owns the directory, or let that user have the directory and what is \
             in it",
            rustix::process::geteuid().as_raw()
        ),
        _ => String::new(),
    }
}

pub(crate) fn is_want_of_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Of an `open`: this process, or the machine, has too many files open, or no memory for another. Nothing was done.
pub(crate) fn is_want_of_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let passing = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|error| passing.contains(&error))
}

/// What a reader found where a batch should have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("zeroes")]
    Zeroes,
    #[error("not a batch header")]
    NotABatch,
    #[error("length out of bounds")]
    Length,
    #[error("checksum mismatch")]
    Checksum,
    #[error("bytes of another file")]
    ForeignSegment,
    #[error("not the batch that follows")]
    NotNext,
    #[error("records do not fill the batch")]
    Records,
    #[error("the file is missing or ends")]
    Missing,
}

impl Damage {
    /// Of a file: what is wrong with it.
    pub(crate) fn at(self, byte: u64) -> String {
        match (self, byte) {
            (Damage::Missing, 0) => "not there".to_owned(),
            _ => format!("damaged at byte {byte} ({self})"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("{file}: {why}")]
    Damaged { file: String, why: String },
    #[error("{file}: {why}; {done}")]
    DamagedInService { file: String, why: String, done: String },
    #[error(
        "{file} ({bytes} bytes) was found damaged while it was in use and was set aside; delete it when the cause is known"
    )]
    SetAside { file: String, bytes: u64 },
    #[error("{file}: format version {version} was written by a newer ringkeeper; this one reads up to {supported}")]
    Version { file: String, version: u32, supported: u32 },
    #[error(
        "{file}: read failed: {source}. Nobody knows what it holds, so nothing was changed. Check the disk (dmesg says what \
         is wrong with it) and start again; if the file is lost, restore it from a backup, or empty the data directories of a member of an \
         ensemble and let it join anew"
    )]
    Unreadable {
        file: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "no snapshot is usable with the log that is here; the newest: {newest}. Nothing was changed. Restore a snapshot from a backup or \
         another server of the ensemble, or move the directory away to start without its data"
    )]
    NoneUsable { newest: Box<SnapshotError> },
    #[error("{file}: given up: {why}")]
    Abandoned { file: String, why: &'static str },
    #[error("{file}: {operation} failed: {source}{}", if is_want_of_room(source) { "; make room on that disk" } else { "" })]
    Io {
        file: String,
        operation: &'static str,
        #[source]
        source: io::Error,
    },
}
