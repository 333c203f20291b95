//! Finding snapshots: the newest that is whole, and what is wrong with those newer than it.
//!
//! Older ones are only counted: a start does not take longer because many are kept. Nor because the newest is large: up to
//! a size it is checked from end to end here and now, so that damage leads to an older one at once; of a larger one only the
//! end is, and the rest as it is read (`file.rs`), where damage sets the file aside for the next start.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::file::{ASIDE_EXTENSION, SnapshotFile};
use super::{file_name, parse, path, stem};
use crate::Zxid;
use crate::disk::{Access, Action, Disk, Ids};
use crate::error::{LogError, SnapshotError, StoreError};
use crate::read::run;

/// A snapshot as purging knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    pub zxid: Zxid,
    pub bytes: u64,
}

#[derive(Debug)]
pub struct Found {
    pub newest: Option<Rc<SnapshotFile>>,
    /// `newest` and all that are older, in order of zxid. The older ones were not looked into.
    pub kept: Vec<Kept>,
    /// Newer than `newest` and not usable, the newest first.
    pub passed_over: Vec<(Zxid, SnapshotError)>,
    /// Older than `newest`, and damaged: space, nothing else.
    pub set_aside: Vec<SnapshotError>,
    /// Left behind by a server that stopped in the middle.
    pub unfinished: Vec<PathBuf>,
}

/// `checked_bytes`: files up to this size are checked from end to end.
pub fn find(disk: &mut impl Disk, ids: &mut Ids, directory: &Path, checked_bytes: u64) -> Result<Found, StoreError> {
    let io = |source| StoreError::Io { path: directory.to_owned(), operation: "list", source };
    let names = disk.list(directory).map_err(io)?;
    let kinds = ["snapshot-", "install-", "state-", "acceptedEpoch", "currentEpoch"];
    let ours = |name: &str| kinds.iter().any(|kind| name.starts_with(kind));
    let leftover = |name: &str| ours(name) && name.ends_with(".tmp");
    let unfinished = names.iter().filter(|(name, _)| leftover(name)).map(|(name, _)| directory.join(name)).collect();
    let name_of = |name: &str| {
        let aside = || stem(name, ASIDE_EXTENSION).map(|zxid| (zxid, false));
        parse(name).map(|zxid| (zxid, true)).or_else(aside)
    };
    let mut files: Vec<_> =
        names.into_iter().filter_map(|(name, bytes)| Some((name_of(&name)?, bytes, name))).collect();
    files.sort_unstable_by(|a, b| b.cmp(a));
    let (newest, kept, passed_over, set_aside) = (None, Vec::new(), Vec::new(), Vec::new());
    let mut found = Found { newest, kept, passed_over, set_aside, unfinished };
    for ((zxid, whole), bytes, file) in files {
        match (!whole).then_some(SnapshotError::SetAside { file, bytes }) {
            Some(error) if found.newest.is_some() => found.set_aside.push(error),
            Some(error) => found.passed_over.push((zxid, error)),
            None if found.newest.is_some() => found.kept.push(Kept { zxid, bytes }),
            None => match open(disk, ids, &path(directory, zxid), bytes, zxid, checked_bytes)? {
                Ok(file) => {
                    found.newest = Some(Rc::new(file));
                    found.kept.push(Kept { zxid, bytes });
                }
                Err(error @ SnapshotError::Version { .. }) => return Err(error.into()),
                Err(error) => found.passed_over.push((zxid, error)),
            },
        }
    }
    found.kept.reverse();
    Ok(found)
}

impl Found {
    /// Why there is no start without those that were passed over. `log`: what is wrong with the log from `newest` on, if anything is.
    pub fn none_usable(self, log: Option<StoreError>) -> StoreError {
        let mut errors: Vec<_> = self.passed_over.into_iter().map(|(_, error)| error).collect();
        // What cannot be read may be readable later: as long as it may make up for everything else, nothing is lost.
        let unreadable = errors.iter().position(|error| matches!(error, SnapshotError::Unreadable { .. }));
        match (unreadable, log) {
            (Some(unreadable), _) => errors.swap_remove(unreadable).into(),
            (None, Some(log)) if !matches!(log, StoreError::Log(LogError::Gap { .. })) => log,
            (None, _) => SnapshotError::NoneUsable { newest: Box::new(errors.swap_remove(0)) }.into(),
        }
    }
}

/// One snapshot by its path, whatever else there is: its end is checked, the rest when it is read.
pub fn open_by_path(disk: &mut impl Disk, path: &Path) -> Result<SnapshotFile, StoreError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some(zxid) = parse(&name).or_else(|| stem(&name, ASIDE_EXTENSION)) else {
        let why = "not named as a snapshot is: snapshot-<16 hexadecimal digits>.rks".to_owned();
        return Err(SnapshotError::Damaged { file: name, why }.into());
    };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let io = |source| StoreError::Io { path: path.to_owned(), operation: "open", source };
    let files = disk.list(directory).map_err(io)?;
    let bytes = files.into_iter().find(|(found, _)| *found == name).map(|(_, bytes)| bytes);
    let bytes = bytes.ok_or_else(|| io(std::io::ErrorKind::NotFound.into()))?;
    Ok(open(disk, &mut Ids::default(), path, bytes, zxid, 0)??)
}

/// One snapshot, from end to end.
pub fn check(disk: &mut impl Disk, ids: &mut Ids, directory: &Path, kept: Kept) -> Checked<SnapshotFile> {
    open(disk, ids, &path(directory, kept.zxid), kept.bytes, kept.zxid, u64::MAX)
}

/// The outer result is about reading, the inner about what was read.
pub(crate) type Checked<T> = Result<Result<T, SnapshotError>, StoreError>;

fn open(
    disk: &mut impl Disk,
    ids: &mut Ids,
    path: &Path,
    bytes: u64,
    zxid: Zxid,
    checked_bytes: u64,
) -> Checked<SnapshotFile> {
    let file = ids.file();
    run(disk, ids, path, Action::Open { file, path: path.to_owned(), access: Access::Read, direct: false })?;
    let view = disk.view(file, path, bytes);
    // A file that was only read has nothing to lose by a failing close.
    let _ = run(disk, ids, path, Action::Close { file });
    let view = view.map_err(|source| SnapshotError::Unreadable { file: file_name(zxid), source });
    Ok(view.and_then(|view| {
        let file = SnapshotFile::new(view, zxid)?;
        if bytes <= checked_bytes {
            file.verify(|_| {}).map_err(|error| file.is_unreadable().unwrap_or(error))?;
        }
        Ok(file)
    }))
}
