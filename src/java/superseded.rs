//! That ringkeeper has gone on from what lies in `version-2`: so that its own data, if they are gone one day (deleted, or on a
//! disk that is not mounted), are missed, and the old state beside them is not taken over a second time in silence.
//!
//! The note lies beside `version-2`, not in our own directory: it has to be there when that is not. A start that serves leaves
//! it before anything more is acknowledged; an export, which brings `version-2` up to date, takes it away.

use std::path::Path;

use ringkeeper_storage::StoreError;
use ringkeeper_storage::java::{DIRECTORY, remove_file, replace_file};

use super::dirs::JavaDirs;
use super::seen::{Hints, Seen, SeenError};

const FILE: &str = "version-2.superseded";
const HEAD: &str = "# ringkeeper has gone on from version-2, which ended like this then.";

/// Leaves the note, durably. `seen`: what `version-2` holds.
pub fn note(data_dir: &Path, seen: &Seen) -> Result<(), SeenError> {
    let seen = Seen { newest: vec![], ..*seen };
    if read(data_dir)?.as_ref() == Some(&seen) {
        return Ok(());
    }
    Ok(replace_file(data_dir, FILE, seen.text(HEAD).as_bytes())?)
}

/// `version-2` has everything again.
pub fn forget(data_dir: &Path) -> Result<(), StoreError> {
    remove_file(data_dir, FILE)
}

/// Refuses what ringkeeper has gone on from, unless Java has gone on, too. `java`: what `version-2` holds now.
pub fn check(dirs: &JavaDirs, java: &Seen) -> Result<(), SeenError> {
    match read(&dirs.data)? {
        Some(Seen { zxid, epoch, .. }) if java.zxid <= zxid && java.epoch <= epoch => Err(SeenError::Superseded {
            java: dirs.data.join(DIRECTORY),
            ours: dirs.data.join(ringkeeper_storage::DIRECTORY),
            hints: Hints::about(dirs),
            data: dirs.data.clone(),
            zxid: java.zxid,
        }),
        _ => Ok(()),
    }
}

/// Whether the note is there, whatever it says.
pub fn is_noted(data_dir: &Path) -> Result<bool, SeenError> {
    Ok(read(data_dir)?.is_some())
}

fn read(data_dir: &Path) -> Result<Option<Seen>, SeenError> {
    Seen::read(data_dir.join(FILE))
}
