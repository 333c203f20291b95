//! What root writes belongs to whoever owns the directory it was written in: the server that is to use it runs as them.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::Path;

use crate::console::{Failure, Result};

/// Gives these entries of `directory`, and what is in them, to the owner of `directory`, if this is root. What is not there is
/// passed over.
pub fn follow(directory: &Path, names: &[&str]) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let owner = fs::metadata(directory).map_err(Failure::file(directory))?;
    for path in names.iter().map(|name| directory.join(name)) {
        give(&path, &owner).map_err(Failure::file(&path))?;
    }
    Ok(())
}

fn give(path: &Path, owner: &fs::Metadata) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if found.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), owner)?;
        }
    }
    let is_theirs = (found.uid(), found.gid()) == (owner.uid(), owner.gid());
    if is_theirs { Ok(()) } else { lchown(path, Some(owner.uid()), Some(owner.gid())) }
}
