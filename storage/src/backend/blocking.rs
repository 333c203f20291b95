//! One operation, one system call, at once: for the start of a server, before anybody waits for it, and for tools.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rustix::fs::{CWD, FallocateFlags, OFlags, RenameFlags};
use rustix::io::{Errno, ReadWriteFlags};
use rustix::rand::{GetRandomFlags, getrandom};

use super::view::FileView;
use crate::disk::{Access, Action, Buffer, Disk, DiskEvent, DiskOp, FileId, WriteSync, linked_outcome};

const ZEROES_BYTES: usize = 1 << 20;

#[derive(Debug, Default)]
pub struct BlockingDisk {
    files: Arc<Mutex<HashMap<FileId, Arc<File>>>>,
    zeroes: Option<Buffer>,
}

/// How `Access` and `direct` open a file, here and on the ring.
pub(crate) fn open_flags(access: Access, direct: bool) -> OFlags {
    let how = match access {
        Access::Read => OFlags::RDONLY,
        Access::Write => OFlags::RDWR,
        Access::WriteDsync => OFlags::RDWR | OFlags::DSYNC,
        Access::Create => OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC,
    };
    how | OFlags::CLOEXEC | if direct { OFlags::DIRECT } else { OFlags::empty() }
}

impl BlockingDisk {
    /// The same open files, for another thread.
    pub(super) fn sharing_files(&self) -> BlockingDisk {
        BlockingDisk { files: self.files.clone(), zeroes: None }
    }

    fn perform(&mut self, action: &Action) -> io::Result<u64> {
        match action {
            Action::Open { file, path, access, direct } => {
                let flags = open_flags(*access, *direct);
                let opened = rustix::fs::open(path, flags, rustix::fs::Mode::from_raw_mode(0o640))?;
                let known = self.files().insert(*file, Arc::new(File::from(opened)));
                assert!(known.is_none(), "a file number is used once");
                Ok(0)
            }
            Action::Close { file } => {
                self.files().remove(file);
                Ok(0)
            }
            Action::Allocate { file, offset, bytes } => {
                let file = self.file(*file);
                let allocate = || rustix::fs::fallocate(&*file, FallocateFlags::empty(), *offset, *bytes);
                match rustix::io::retry_on_intr(allocate) {
                    Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(0),
                    Err(error) => Err(error.into()),
                }
            }
            Action::Write { file, offset, buffer, sync } => {
                let file = self.file(*file);
                let written = write(&file, *offset, buffer, *sync);
                match (sync, &written) {
                    (WriteSync::Linked, Ok(bytes)) if *bytes == buffer.len() as u64 => {
                        linked_outcome(written, buffer.len() as u64, file.sync_data().map(|()| 0))
                    }
                    _ => written,
                }
            }
            Action::WriteZeroes { file, offset, bytes } => {
                let zeroes = self.zeroes.take().unwrap_or_else(|| {
                    let mut buffer = Buffer::with_capacity(ZEROES_BYTES);
                    buffer.resize(ZEROES_BYTES);
                    buffer
                });
                let mut done = 0;
                let mut result = Ok(*bytes);
                while done < *bytes && result.is_ok() {
                    let piece = (*bytes - done).min(ZEROES_BYTES as u64);
                    match self.file(*file).write_all_at(&zeroes[..piece as usize], offset + done) {
                        Ok(()) => done += piece,
                        Err(error) => result = Err(error),
                    }
                }
                self.zeroes = Some(zeroes);
                result
            }
            Action::Sync { file } => self.file(*file).sync_all().map(|()| 0),
            Action::SyncData { file } => self.file(*file).sync_data().map(|()| 0),
            Action::Read { .. } => unreachable!("answered in `run`"),
            Action::Rename { from, to } => fs::rename(from, to).map(|()| 0),
            Action::Unlink { path } => fs::remove_file(path).map(|()| 0),
            Action::SyncDirectory { path } => File::open(path)?.sync_all().map(|()| 0),
        }
    }

    fn files(&self) -> std::sync::MutexGuard<'_, HashMap<FileId, Arc<File>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, file: FileId) -> Arc<File> {
        self.files().get(&file).cloned().expect("an open file")
    }
}

/// One system call; a plain one where nothing more is asked for.
fn write(file: &File, offset: u64, bytes: &[u8], sync: WriteSync) -> io::Result<u64> {
    loop {
        let written = match sync {
            WriteSync::Dsync => rustix::io::pwritev2(file, &[io::IoSlice::new(bytes)], offset, ReadWriteFlags::DSYNC),
            WriteSync::None | WriteSync::Linked => rustix::io::pwrite(file, bytes, offset),
        };
        match written {
            Err(Errno::INTR) => {}
            other => return Ok(other? as u64),
        }
    }
}

impl Disk for BlockingDisk {
    fn run(&mut self, mut op: DiskOp) -> DiskEvent {
        let started = Instant::now();
        let result = match &mut op.action {
            Action::Read { file, offset, buffer } => self.read(*file, *offset, buffer).map(|bytes| {
                buffer.resize(bytes);
                bytes as u64
            }),
            action => self.perform(action),
        };
        let elapsed_us = u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX);
        DiskEvent { id: op.id, result, buffer: op.action.into_buffer(), elapsed_us }
    }

    fn distrust_cache(&mut self, path: &Path) -> io::Result<()> {
        // What is dirty stays, and is written by the flush that every recovery ends with.
        Ok(rustix::fs::fadvise(File::open(path)?, 0, None, rustix::fs::Advice::DontNeed)?)
    }

    fn list(&mut self, directory: &Path) -> io::Result<Vec<(String, u64)>> {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            // Of what a link leads to: a file that lies elsewhere is a file of this directory.
            let bytes = match fs::metadata(entry.path()) {
                Ok(metadata) if metadata.is_file() => metadata.len(),
                Ok(_) => continue,
                // A link to nothing fails whoever opens it; a file that was deleted meanwhile concerns nobody.
                Err(error) if error.kind() == io::ErrorKind::NotFound && entry.path().is_symlink() => 0,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            files.push((entry.file_name().to_string_lossy().into_owned(), bytes));
        }
        Ok(files)
    }

    fn read(&mut self, file: FileId, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let file = self.file(file);
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at(&mut bytes[filled..], offset + filled as u64) {
                // Direct IO ends a file with a short read; to ask again from there would be misaligned.
                Ok(0) => break,
                Ok(count) => {
                    filled += count;
                    if !count.is_multiple_of(crate::disk::BLOCK_BYTES) {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn draw(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        let drawn = rustix::io::retry_on_intr(|| getrandom(&mut bytes, GetRandomFlags::empty()))?;
        assert_eq!(drawn, bytes.len(), "the kernel never answers so little in parts");
        Ok(u64::from_ne_bytes(bytes))
    }

    fn view(&mut self, file: FileId, path: &Path, _bytes: u64) -> io::Result<FileView> {
        FileView::map(&self.file(file), path)
    }
}

/// Makes a directory and everything above it, each entry stable before the next is made. One that is there may have been
/// made by a start that was killed before its entry was stable: so flush it again, and what lies above was stable before.
pub(crate) fn create_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let missing = !path.is_dir();
    if missing {
        create_directory(parent)?;
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
    }
    match File::open(parent).and_then(|parent| parent.sync_all()) {
        // Somebody else's directory, which we may pass through and not read: they made ours, and long ago.
        Err(error) if !missing && error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        other => other,
    }
}

/// Whether two paths lead to one directory, by whatever links and dots.
pub(crate) fn same_directory(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Each of two paths is what the other was, in one step; `false` where the file system cannot.
pub(crate) fn exchange(a: &Path, b: &Path) -> io::Result<bool> {
    match rustix::fs::renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL | Errno::NOSYS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether direct IO works in a directory: by doing it. Some file systems accept the flag and refuse the write.
pub(crate) fn try_direct_io(directory: &Path) -> io::Result<bool> {
    let path = directory.join("direct-io.tmp");
    let attempt = || -> io::Result<()> {
        let mut buffer = Buffer::with_capacity(1);
        buffer.resize(crate::disk::BLOCK_BYTES);
        let flags = OFlags::DIRECT.bits() as i32;
        let file = OpenOptions::new().write(true).create(true).truncate(true).custom_flags(flags).open(&path)?;
        file.write_all_at(&buffer, 0)
    };
    let result = attempt();
    match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => other?,
    }
    direct_io_verdict(result)
}

/// A full disk refuses the attempt and not the alignment: a server has to come up on it, to read, purge and tell.
fn direct_io_verdict(attempt: io::Result<()>) -> io::Result<bool> {
    let Err(error) = attempt else { return Ok(true) };
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => Ok(true),
        Some(libc::EINVAL | libc::EOPNOTSUPP) => Ok(false),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_says_nothing_against_direct_io() {
        let verdict = |error| direct_io_verdict(Err(io::Error::from_raw_os_error(error)));
        assert!(verdict(libc::ENOSPC).unwrap() && verdict(libc::EDQUOT).unwrap());
        assert!(!verdict(libc::EINVAL).unwrap());
        assert!(verdict(libc::EIO).is_err());
    }

    #[test]
    fn a_file_behind_a_link_is_a_file_and_a_link_to_nothing_is_not_passed_over() {
        let (directory, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(elsewhere.path().join("a"), b"four").unwrap();
        fs::create_dir(directory.path().join("no-file")).unwrap();
        for (name, to) in [("link", "a"), ("link-to-directory", "."), ("link-to-nothing", "b")] {
            std::os::unix::fs::symlink(elsewhere.path().join(to), directory.path().join(name)).unwrap();
        }
        let mut files = BlockingDisk::default().list(directory.path()).unwrap();
        files.sort();
        assert_eq!(files, [("link".to_owned(), 4), ("link-to-nothing".to_owned(), 0)]);
    }

    #[test]
    fn directories_are_made_from_the_top() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/c");
        for _ in 0..2 {
            create_directory(&path).unwrap();
            assert!(path.is_dir());
        }
    }
}
