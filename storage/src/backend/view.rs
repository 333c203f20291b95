//! A finished file as memory: mapped where the disk has files, read whole where it only pretends to.
//!
//! Only for files that are never written again once they have their name. Nobody else writes into the directory (its lock is
//! held), and a snapshot is complete before it is renamed, so what was checked stays what it was. Two things are beyond a
//! program's reach: somebody who cuts the file while it is mapped, and a disk that fails to read a page a second time. Both
//! end the process with SIGBUS, which is a crash and nothing worse. The first reading of a part goes through `populate`,
//! which reports a page that cannot be read instead of dying of it.

use std::fs::{self, File};
use std::io;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};

use memmap2::{Advice, Mmap, UncheckedAdvice};

use crate::disk::Buffer;

#[derive(Debug)]
pub struct FileView(Memory);

#[derive(Debug)]
enum Memory {
    Mapped { map: Mmap, path: PathBuf },
    Owned(Buffer),
}

impl FileView {
    pub fn owned(bytes: Buffer) -> FileView {
        FileView(Memory::Owned(bytes))
    }

    pub(crate) fn map(file: &File, path: &Path) -> io::Result<FileView> {
        // SAFETY: the mapping is private to reading and outlives the descriptor by itself. The bytes behind it do not change:
        // the file got its name after its last write, and whoever follows the directory's lock never writes to such a file,
        // only unlinks or renames it, which leaves a mapping alone. Every value read from it is checked before it is used
        // as an offset or a length, so even a file that somebody changes by hand can only give wrong bytes or SIGBUS.
        let map = unsafe { Mmap::map(file)? };
        Ok(FileView(Memory::Mapped { map, path: path.to_owned() }))
    }

    /// Reads a part in, and says so when that cannot be done.
    pub fn populate(&self, part: Range<usize>) -> io::Result<()> {
        let Memory::Mapped { map, .. } = &self.0 else { return Ok(()) };
        match map.advise_range(Advice::PopulateRead, part.start, part.len()) {
            Err(error) if is_unreadable(&error) => Err(error),
            // The pages come as they are touched.
            _ => Ok(()),
        }
    }

    /// This part is wanted soon: the disk may begin.
    pub fn want(&self, part: Range<usize>) {
        if let Memory::Mapped { map, .. } = &self.0 {
            let _ = map.advise_range(Advice::WillNeed, part.start, part.len());
        }
    }

    /// This part is not wanted any more: its pages need not stay in this process.
    pub fn release(&self, part: Range<usize>) {
        if let Memory::Mapped { map, .. } = &self.0 {
            // SAFETY: of a mapping of a file nothing is lost by this: the next touch reads the same bytes from the file.
            // (It is unchecked because anonymous and private memory would come back as zeroes.)
            let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, part.start, part.len()) };
        }
    }

    /// Renames the file, which stays mapped, so that no start looks at it again. None: there is no file behind this.
    pub fn set_aside(&self, extension: &str) -> io::Result<Option<PathBuf>> {
        let Memory::Mapped { path, .. } = &self.0 else { return Ok(None) };
        let aside = path.with_extension(extension);
        fs::rename(path, &aside)?;
        if let Some(directory) = path.parent() {
            // Not being stable yet only means that the next start may find the damage itself.
            let _ = File::open(directory).and_then(|directory| directory.sync_all());
        }
        Ok(Some(aside))
    }
}

/// What is about the file. A kernel that cannot do it (Linux before 5.14) or has no memory for it now says nothing about the
/// bytes, and nobody may take them for damaged.
fn is_unreadable(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EFAULT | libc::EHWPOISON | libc::EIO))
}

impl Deref for FileView {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Memory::Mapped { map, .. } => map,
            Memory::Owned(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_about_the_file_is_damage() {
        let is_damage = |code: &i32| is_unreadable(&io::Error::from_raw_os_error(*code));
        assert!([libc::EFAULT, libc::EHWPOISON, libc::EIO].iter().all(is_damage));
        assert!(![libc::EINVAL, libc::ENOMEM, libc::EAGAIN, libc::EINTR, libc::ENOSYS].iter().any(is_damage));
    }
}
