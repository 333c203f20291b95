//! Reading a file front to back in large pieces, and asking for exact ranges of it: what recovery and loading need.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{Access, Action, BLOCK_BYTES, Buffer, Disk, DiskOp, FileId, Ids, Owner};
use crate::error::StoreError;

/// For a file that is read from front to back.
pub(crate) const WHOLE_FILE_WINDOW_BYTES: u64 = 1 << 20;
/// For a look at the beginning or the end of a file.
pub(crate) const GLANCE_WINDOW_BYTES: u64 = 16 << 10;

/// Runs one operation of the start, and names the file when it fails.
pub(crate) fn run(disk: &mut impl Disk, ids: &mut Ids, path: &Path, action: Action) -> Result<(), StoreError> {
    let operation = action.name();
    let wanted = if let Action::Write { buffer, .. } = &action { buffer.len() as u64 } else { 0 };
    let event = disk.run(DiskOp { id: ids.operation(Owner::Start), action });
    let done =
        event.result.and_then(|bytes| if bytes < wanted { Err(io::ErrorKind::WriteZero.into()) } else { Ok(()) });
    done.map_err(|source| StoreError::Io { path: path.to_owned(), operation, source })
}

/// An open file and the piece of it that was read last.
#[derive(Debug)]
pub(crate) struct Reader {
    file: FileId,
    path: PathBuf,
    file_bytes: u64,
    window: Buffer,
    window_at: u64,
    window_bytes: u64,
}

impl Reader {
    pub(crate) fn open(
        disk: &mut impl Disk,
        ids: &mut Ids,
        path: PathBuf,
        file_bytes: u64,
        direct: bool,
        window_bytes: u64,
    ) -> Result<Reader, StoreError> {
        let file = ids.file();
        run(disk, ids, &path, Action::Open { file, path: path.clone(), access: Access::Read, direct })?;
        let window = Buffer::with_capacity(window_bytes as usize);
        Ok(Reader { file, path, file_bytes, window, window_at: 0, window_bytes })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// The bytes at `at`, which is a multiple of a block; fewer than asked only where the file ends.
    pub(crate) fn get(&mut self, disk: &mut impl Disk, at: u64, bytes: u64) -> Result<&[u8], StoreError> {
        assert!(at.is_multiple_of(BLOCK_BYTES as u64));
        let left = self.file_bytes.saturating_sub(at);
        let bytes = bytes.min(left);
        if bytes == 0 {
            return Ok(&[]);
        }
        let window_end = self.window_at + self.window.len() as u64;
        if at < self.window_at || at + bytes > window_end {
            let wanted = bytes.max(self.window_bytes.min(left)).next_multiple_of(BLOCK_BYTES as u64) as usize;
            self.window.clear();
            self.window.resize(wanted);
            let got = disk.read(self.file, at, &mut self.window).map_err(|source| self.error(source))?;
            self.window.resize(got);
            self.window_at = at;
            if (got as u64) < bytes {
                return Err(self.error(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        let from = (at - self.window_at) as usize;
        Ok(&self.window[from..from + bytes as usize])
    }

    pub(crate) fn close(self, disk: &mut impl Disk, ids: &mut Ids) {
        // A file that was only read has nothing to lose by a failing close.
        let _ = run(disk, ids, &self.path, Action::Close { file: self.file });
    }

    fn error(&self, source: io::Error) -> StoreError {
        StoreError::Io { path: self.path.clone(), operation: "read", source }
    }
}
