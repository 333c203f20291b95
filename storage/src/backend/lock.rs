//! One server per directory: an exclusive `flock` on `ringkeeper-1/lock`, held while the store lives. The kernel lets go of it when
//! the process ends, however it ends; the file stays, with the last holder's pid in it for the message.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::FlockOperation;

use crate::error::StoreError;

#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    pub fn acquire(directory: &Path) -> Result<DirectoryLock, StoreError> {
        let path = directory.join("lock");
        let io = |source: io::Error| StoreError::at_start(path.clone(), "lock", source);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let _ = file.take(32).read_to_string(&mut text);
                let holder = if text.trim().is_empty() { "unknown".to_owned() } else { text.trim().to_owned() };
                return Err(StoreError::Locked { path: directory.to_owned(), holder });
            }
            Err(error) => return Err(io(error.into())),
        }
        let pid = std::process::id();
        // The lock is what counts. On a full disk there is no room for the pid, and the server has to come up all the same.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{pid}"));
        Ok(DirectoryLock { _file: file })
    }
}

/// The pid of the server that holds a directory, found out by looking: a lock tried even for a moment could keep a server from
/// starting. A server in a container that this process cannot see into is not found.
pub fn holder(directory: &Path) -> io::Result<Option<String>> {
    let metadata = match fs::metadata(directory.join("lock")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let locks = fs::read_to_string("/proc/locks")?;
    Ok(locks.lines().find_map(|line| holder_in(line, metadata.ino())))
}

/// `1: FLOCK  ADVISORY  WRITE 13231 fe:00:15843331 0 EOF`. Some file systems show another device number here than in a stat, so
/// the inode alone has to do.
fn holder_in(line: &str, inode: u64) -> Option<String> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (kind, mode, pid, place) = (words.next()?, words.nth(1)?, words.next()?, words.next()?);
    let same = place.rsplit(':').next()?.parse() == Ok(inode);
    (kind == "FLOCK" && mode == "WRITE" && same).then(|| pid.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_server_is_told_who_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let held = DirectoryLock::acquire(directory.path()).unwrap();
        let refused = DirectoryLock::acquire(directory.path()).unwrap_err().to_string();
        assert!(refused.contains(&format!("pid {}", std::process::id())), "{refused}");
        assert_eq!(holder(directory.path()).unwrap(), Some(std::process::id().to_string()));
        drop(held);
        assert_eq!(holder(directory.path()).unwrap(), None);
        DirectoryLock::acquire(directory.path()).unwrap();
    }
}
