//! Directories are never overwritten and never deleted: what has to make room is renamed, and its owner deletes it when they
//! are sure.

use std::io;
use std::path::{Path, PathBuf};

use crate::backend::blocking::{BlockingDisk, same_directory};
use crate::backend::lock::DirectoryLock;
use crate::config::DIRECTORY;
use crate::disk::{Action, Disk, Ids};
use crate::epoch_file;
use crate::error::StoreError;
use crate::java::{remove_file, replace_file};
use crate::read::run;

/// Beside our directory: the epoch that was promised in the one that was moved aside, until another one knows it.
const PROMISED: &str = "ringkeeper-1.promised";

/// Renames our own directories to the first `ringkeeper-1.replaced-N` that is free, and says where they went. Snapshots go
/// first: a log alone either holds everything from the beginning or refuses to start, so a crash in between loses nothing.
/// What was promised here as a member of an ensemble stays: [`kept_promise`]. One that is damaged goes with the rest only if
/// `forget` says so.
pub fn set_aside(data_dir: &Path, data_log_dir: &Path, forget: bool) -> Result<Vec<PathBuf>, StoreError> {
    let (mut disk, mut ids) = (BlockingDisk::default(), Ids::default());
    let mut both = vec![data_dir, data_log_dir];
    both.retain(|directory| directory.join(DIRECTORY).is_dir());
    both.dedup_by(|a, b| same_directory(&a.join(DIRECTORY), &b.join(DIRECTORY)));
    // The locks stay with the files, wherever these go.
    let locks = both.iter().map(|directory| DirectoryLock::acquire(&directory.join(DIRECTORY)));
    let _locks = locks.collect::<Result<Vec<_>, _>>()?;
    let promised = match epoch_file::check_accepted(&mut disk, &mut ids, &data_dir.join(DIRECTORY)) {
        Err(StoreError::EpochDamaged { .. }) if forget => None,
        other => other?,
    };
    if let Some(epoch) = promised.filter(|epoch| *epoch > 0) {
        let epoch = epoch.max(kept_promise(data_dir)?);
        replace_file(data_dir, PROMISED, epoch_file::encode(PROMISED, epoch).as_bytes())?;
    }
    let mut gone = Vec::new();
    for directory in both {
        gone.push(rename_aside(&mut disk, &mut ids, &directory.join(DIRECTORY))?);
        run(&mut disk, &mut ids, directory, Action::SyncDirectory { path: directory.to_owned() })?;
    }
    Ok(gone)
}

/// The epoch that was promised in a directory that was moved aside; 0 where there is none.
pub fn kept_promise(data_dir: &Path) -> Result<u32, StoreError> {
    epoch_file::kept(&mut BlockingDisk::default(), &mut Ids::default(), data_dir, PROMISED)
}

/// Our directory knows it now.
pub fn promise_is_stored(data_dir: &Path) -> Result<(), StoreError> {
    remove_file(data_dir, PROMISED)
}

/// Renames a directory to the first `<name>.replaced-N` that is free.
pub(crate) fn rename_aside(disk: &mut impl Disk, ids: &mut Ids, path: &Path) -> Result<PathBuf, StoreError> {
    rename_beside(disk, ids, path, path)
}

/// Renames a directory to the first `<path>.replaced-N` that is free.
pub(crate) fn rename_beside(
    disk: &mut impl Disk,
    ids: &mut Ids,
    from: &Path,
    path: &Path,
) -> Result<PathBuf, StoreError> {
    let mut number = 0;
    loop {
        number += 1;
        let mut to = path.as_os_str().to_owned();
        to.push(format!(".replaced-{number}"));
        let to = PathBuf::from(to);
        match run(disk, ids, from, Action::Rename { from: from.to_owned(), to: to.clone() }) {
            Ok(()) => return Ok(to),
            // That one is taken.
            Err(StoreError::Io { source, .. })
                if matches!(source.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {}
            Err(error) => return Err(error),
        }
    }
}
