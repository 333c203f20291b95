//! The words storage speaks with a disk: operations go out, completions come in, and nothing here performs either.
//!
//! The same log and snapshot code so runs on the ring (`backend/uring.rs`), on plain system calls (`backend/blocking.rs`,
//! at start) and on a simulated disk that tears and forgets (`backend/memory.rs`).
//!
//! Holds for every backend: operations handed over together may complete in any order, so whoever needs an order waits for
//! the completion; each operation is answered exactly once; a buffer that went out with a write comes back with its event.

use std::io;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use crate::backend::view::FileView;
use crate::pages::Pages;

/// Every buffer and every padded length is a multiple of this: the largest alignment direct IO asks for in practice.
pub const BLOCK_BYTES: usize = 4096;

/// Which part of the store asked, and its running number. A backend hands it back untouched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpId {
    pub(crate) owner: Owner,
    pub(crate) serial: u64,
}

/// The parts of the store that own operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    Start,
    /// Batches and marks.
    LogWrite,
    LogFlush,
    LogFile,
    Prepare,
    LogDelete,
    LogRange,
    Epoch,
    Snapshot,
    Install,
    Purge,
}

/// Hands out numbers that are never used twice.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    files: u32,
    operations: u64,
}

impl Ids {
    pub(crate) fn file(&mut self) -> FileId {
        self.files += 1;
        FileId(self.files)
    }

    pub(crate) fn operation(&mut self, owner: Owner) -> OpId {
        self.operations += 1;
        OpId { owner, serial: self.operations }
    }
}

/// Names an open file between the store and its backend. Chosen by the store, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// An existing file, to read.
    Read,
    /// An existing file, to read and write.
    Write,
    /// The same, and every write to it is on stable storage when it completes (`O_DSYNC`).
    WriteDsync,
    /// A new file, or an old one cut to nothing.
    Create,
}

/// What the completion of a write says about stable storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteSync {
    /// Nothing; unless the file was opened with [`Access::WriteDsync`].
    None,
    /// The bytes are there (`RWF_DSYNC`).
    Dsync,
    /// They are there by a flush of the file's data that was started when all of them were written, and only then. One
    /// answer for both, see [`linked_outcome`].
    Linked,
}

/// The answer to a write and the flush linked to it. Whatever went wrong with the write is the answer: its flush was cancelled
/// (`ECANCELED`) because of it, or flushed something else.
pub fn linked_outcome(write: io::Result<u64>, wanted_bytes: u64, flush: io::Result<u64>) -> io::Result<u64> {
    match (write, flush) {
        (Ok(bytes), Err(error)) if bytes == wanted_bytes => {
            Err(io::Error::new(error.kind(), format!("the flush behind the write failed: {error}")))
        }
        (write, _) => write,
    }
}

#[derive(Debug)]
pub struct DiskOp {
    pub id: OpId,
    pub action: Action,
}

#[derive(Debug)]
pub enum Action {
    /// `direct`: past the page cache (`O_DIRECT`).
    Open {
        file: FileId,
        path: PathBuf,
        access: Access,
        direct: bool,
    },
    Close {
        file: FileId,
    },
    /// Reserves space. A file system that cannot answers as if it had.
    Allocate {
        file: FileId,
        offset: u64,
        bytes: u64,
    },
    /// All of `buffer`.
    Write {
        file: FileId,
        offset: u64,
        buffer: Buffer,
        sync: WriteSync,
    },
    WriteZeroes {
        file: FileId,
        offset: u64,
        bytes: u64,
    },
    /// Fills `buffer`, which comes back with the event, from `offset` on; shorter only at the end of the file.
    Read {
        file: FileId,
        offset: u64,
        buffer: Buffer,
    },
    /// Data and metadata of the file, whoever wrote them.
    Sync {
        file: FileId,
    },
    /// Data that was written before this was sent, and what is needed to find it again (`fdatasync`).
    SyncData {
        file: FileId,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Unlink {
        path: PathBuf,
    },
    SyncDirectory {
        path: PathBuf,
    },
}

impl Action {
    /// For messages: "write failed".
    pub fn name(&self) -> &'static str {
        match self {
            Action::Open { .. } => "open",
            Action::Close { .. } => "close",
            Action::Allocate { .. } => "allocate",
            Action::Write { .. } => "write",
            Action::WriteZeroes { .. } => "zero fill",
            Action::Read { .. } => "read",
            Action::Sync { .. } | Action::SyncData { .. } => "flush",
            Action::Rename { .. } => "rename",
            Action::Unlink { .. } => "unlink",
            Action::SyncDirectory { .. } => "directory flush",
        }
    }

    /// What goes back with the answer.
    pub fn into_buffer(self) -> Option<Buffer> {
        match self {
            Action::Write { buffer, .. } | Action::Read { buffer, .. } => Some(buffer),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub struct DiskEvent {
    pub id: OpId,
    /// Bytes for writes (a short count is not an error here, but is one to the store) and reads, 0 for the rest.
    pub result: io::Result<u64>,
    /// The buffer of a `Write`, on its way back to be filled again, or that of a `Read`, as long as what was read.
    pub buffer: Option<Buffer>,
    /// From submission to completion as the backend's clock saw it; 0 where there is none.
    pub elapsed_us: u32,
}

/// A disk that answers at once: for recovery, which is over before anybody waits, and for tests.
pub trait Disk {
    fn run(&mut self, op: DiskOp) -> DiskEvent;
    /// Names and sizes of the plain files in a directory, in no order.
    fn list(&mut self, directory: &Path) -> io::Result<Vec<(String, u64)>>;
    /// What is read of this file from now on is what the disk has. A kernel may keep what it failed to write, and give it out.
    fn distrust_cache(&mut self, path: &Path) -> io::Result<()> {
        let _ = path;
        Ok(())
    }
    /// A number that nobody can guess.
    fn draw(&mut self) -> io::Result<u64>;
    /// Fills `bytes` from `offset` on; fewer only at the end of the file.
    fn read(&mut self, file: FileId, offset: u64, bytes: &mut [u8]) -> io::Result<usize>;
    /// All of an open file that nobody changes any more, as memory. A disk that has real files maps it.
    fn view(&mut self, file: FileId, path: &Path, bytes: u64) -> io::Result<FileView> {
        let _ = path;
        let mut whole = Buffer::with_capacity(bytes as usize);
        whole.resize(bytes as usize);
        let got = self.read(file, 0, &mut whole)?;
        whole.resize(got);
        Ok(FileView::owned(whole))
    }
}

/// Memory that direct IO accepts: page-aligned, owned, moved to the backend with a write and back with its event.
#[derive(Debug)]
pub struct Buffer {
    memory: Pages,
    bytes_len: usize,
    /// Worth registering with the kernel: it will be written from again and again.
    pub(crate) reused: bool,
    /// Set by the ring that registered this memory: (ring, index).
    pub(crate) registered: Option<(u64, u16)>,
}

impl Buffer {
    /// # Panics
    /// When the machine has no memory to map, as any allocation does.
    pub fn with_capacity(bytes: usize) -> Buffer {
        let capacity = bytes.max(1).next_multiple_of(BLOCK_BYTES);
        let memory = Pages::new(capacity);
        Buffer { memory, bytes_len: 0, reused: false, registered: None }
    }

    pub fn capacity(&self) -> usize {
        self.memory.len()
    }

    pub fn clear(&mut self) {
        self.bytes_len = 0;
    }

    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        let end = self.bytes_len + bytes.len();
        self.grow_to(end);
        self.memory[self.bytes_len..end].copy_from_slice(bytes);
        self.bytes_len = end;
    }

    /// Cuts, or extends with zeroes.
    pub fn resize(&mut self, bytes: usize) {
        self.grow_to(bytes);
        if bytes > self.bytes_len {
            self.memory[self.bytes_len..bytes].fill(0);
        }
        self.bytes_len = bytes;
    }

    pub fn pad_to_block(&mut self) {
        self.resize(self.bytes_len.next_multiple_of(BLOCK_BYTES));
    }

    fn grow_to(&mut self, bytes: usize) {
        if bytes > self.capacity() {
            let mut larger = Buffer::with_capacity(bytes.max(self.capacity() * 2));
            larger.memory[..self.bytes_len].copy_from_slice(&self.memory[..self.bytes_len]);
            self.memory = larger.memory;
            self.registered = None;
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.memory[..self.bytes_len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.bytes_len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_of_a_linked_pair_is_the_writes_own_if_anything_is_wrong_with_it() {
        let error = |number| Err(io::Error::from_raw_os_error(number));
        let number = |outcome: io::Result<u64>| outcome.map_err(|error| error.raw_os_error());
        assert_eq!(number(linked_outcome(Ok(4096), 4096, Ok(0))), Ok(4096));
        assert_eq!(number(linked_outcome(error(libc::EIO), 4096, error(libc::ECANCELED))), Err(Some(libc::EIO)));
        // As a hard link would have it.
        assert_eq!(number(linked_outcome(error(libc::EIO), 4096, Ok(0))), Err(Some(libc::EIO)));
        for flush in [error(libc::ECANCELED), Ok(0)] {
            assert_eq!(number(linked_outcome(Ok(512), 4096, flush)), Ok(512), "short is short");
        }
        for failed in [libc::EIO, libc::ECANCELED] {
            let text = linked_outcome(Ok(4096), 4096, error(failed)).unwrap_err().to_string();
            assert!(text.starts_with("the flush behind the write failed: "), "{text}");
        }
    }

    #[test]
    fn a_reused_buffer_never_leaks_its_former_bytes_into_padding() {
        let mut buffer = Buffer::with_capacity(100);
        buffer.extend_from_slice(&[7; 5000]);
        buffer.clear();
        buffer.extend_from_slice(&[1; 10]);
        buffer.pad_to_block();
        assert_eq!(buffer.len(), BLOCK_BYTES);
        assert_eq!(buffer.as_ptr() as usize % BLOCK_BYTES, 0);
        assert!(buffer[10..].iter().all(|byte| *byte == 0));
    }
}
