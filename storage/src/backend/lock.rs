//! One server per directory: an exclusive `flock` on `ringkeeper-1/lock`, held while the store lives. The kernel lets go of it when
//! the process ends, however it ends; the file stays, with the last holder's pid in it for the message.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
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
        let io = |source: io::Error| StoreError::Io { path: path.clone(), operation: "lock", source };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_server_is_told_who_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let held = DirectoryLock::acquire(directory.path()).unwrap();
        let refused = DirectoryLock::acquire(directory.path()).unwrap_err().to_string();
        assert!(refused.contains(&format!("pid {}", std::process::id())), "{refused}");
        drop(held);
        DirectoryLock::acquire(directory.path()).unwrap();
    }
}
