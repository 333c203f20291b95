//! A file of any disk as `Read` and `Write`: what decompressors and the snapshot's stream want.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::disk::{Access, Action, BLOCK_BYTES, Buffer, Disk, DiskOp, FileId, Ids, Owner, WriteSync};
use crate::error::StoreError;
use crate::read::{Reader, WHOLE_FILE_WINDOW_BYTES, run};

/// Random access to a file's bytes through one window of it.
pub(crate) struct Source<'d, D: Disk> {
    disk: &'d mut D,
    ids: &'d mut Ids,
    /// Taken only by `drop`.
    reader: Option<Reader>,
    position: u64,
}

impl<'d, D: Disk> Source<'d, D> {
    pub fn open(disk: &'d mut D, ids: &'d mut Ids, path: &Path, bytes: u64) -> Result<Source<'d, D>, StoreError> {
        let reader = Reader::open(disk, ids, path.to_owned(), bytes, false, WHOLE_FILE_WINDOW_BYTES)?;
        Ok(Source { disk, ids, reader: Some(reader), position: 0 })
    }

    pub fn file_bytes(&self) -> u64 {
        self.reader.as_ref().map_or(0, Reader::file_bytes)
    }

    /// The bytes from `at` on; fewer than asked only where the file ends.
    pub fn get(&mut self, at: u64, bytes: u64) -> Result<&[u8], StoreError> {
        let base = at / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
        let skipped = at - base;
        let reader = self.reader.as_mut().expect("open until dropped");
        let got = reader.get(self.disk, base, skipped + bytes)?;
        Ok(got.get(skipped as usize..).unwrap_or_default())
    }
}

impl<D: Disk> Read for Source<'_, D> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let at = self.position;
        let window = WHOLE_FILE_WINDOW_BYTES - at % WHOLE_FILE_WINDOW_BYTES;
        let got = self.get(at, window.min(bytes.len() as u64)).map_err(io::Error::other)?;
        bytes[..got.len()].copy_from_slice(got);
        let count = got.len();
        self.position += count as u64;
        Ok(count)
    }
}

impl<D: Disk> Drop for Source<'_, D> {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.close(self.disk, self.ids);
        }
    }
}

/// No number takes more.
const SMALL_FILE_BYTES_MAX: u64 = 4096;

/// A small file as a whole; `None` when it is not there.
pub(super) fn read_small(
    disk: &mut impl Disk,
    ids: &mut Ids,
    directory: &Path,
    name: &str,
) -> Result<Option<Vec<u8>>, StoreError> {
    let io = |source| StoreError::Io { path: directory.to_owned(), operation: "list", source };
    let found = disk.list(directory).map_err(io)?.into_iter().find(|(found, _)| found == name);
    let Some((_, bytes)) = found else { return Ok(None) };
    if bytes > SMALL_FILE_BYTES_MAX {
        let source =
            io::Error::new(io::ErrorKind::InvalidData, format!("{bytes} bytes, and it should hold one number"));
        return Err(StoreError::Io { path: directory.join(name), operation: "read", source });
    }
    let mut source = Source::open(disk, ids, &directory.join(name), bytes)?;
    let bytes = source.get(0, bytes)?.to_vec();
    Ok(Some(bytes))
}

const SINK_BUFFER_BYTES: usize = 1 << 20;

/// A new file, written front to back in large pieces. Stable only after [`Sink::finish`].
pub(super) struct Sink<'d, D: Disk> {
    disk: &'d mut D,
    ids: &'d mut Ids,
    path: PathBuf,
    file: FileId,
    buffer: Option<Buffer>,
    at: u64,
}

impl<'d, D: Disk> Sink<'d, D> {
    pub fn create(disk: &'d mut D, ids: &'d mut Ids, path: PathBuf) -> Result<Sink<'d, D>, StoreError> {
        let file = ids.file();
        run(disk, ids, &path, Action::Open { file, path: path.clone(), access: Access::Create, direct: false })?;
        let buffer = Some(Buffer::with_capacity(SINK_BUFFER_BYTES));
        Ok(Sink { disk, ids, path, file, buffer, at: 0 })
    }

    /// Writes what is left, flushes the file, closes it. Returns its length.
    pub fn finish(mut self) -> Result<u64, StoreError> {
        let path = self.path.clone();
        self.flush().map_err(|source| StoreError::Io { path: path.clone(), operation: "write", source })?;
        run(self.disk, self.ids, &path, Action::Sync { file: self.file })?;
        run(self.disk, self.ids, &path, Action::Close { file: self.file })?;
        Ok(self.at)
    }
}

impl<D: Disk> Write for Sink<'_, D> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let buffer = self.buffer.as_mut().expect("there between two writes");
        let count = bytes.len().min(SINK_BUFFER_BYTES - buffer.len());
        buffer.extend_from_slice(&bytes[..count]);
        if buffer.len() == SINK_BUFFER_BYTES {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        let buffer = self.buffer.take().expect("there between two writes");
        let bytes = buffer.len() as u64;
        if bytes == 0 {
            self.buffer = Some(buffer);
            return Ok(());
        }
        let action = Action::Write { file: self.file, offset: self.at, buffer, sync: WriteSync::None };
        let event = self.disk.run(DiskOp { id: self.ids.operation(Owner::Start), action });
        let mut buffer = event.buffer.unwrap_or_else(|| Buffer::with_capacity(SINK_BUFFER_BYTES));
        buffer.clear();
        self.buffer = Some(buffer);
        match event.result? {
            written if written == bytes => {
                self.at += bytes;
                Ok(())
            }
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }
}

/// A small file, stable when this returns (its name is, once the directory is flushed).
pub(super) fn write_small(disk: &mut impl Disk, ids: &mut Ids, path: PathBuf, bytes: &[u8]) -> Result<(), StoreError> {
    let mut sink = Sink::create(disk, ids, path.clone())?;
    sink.write_all(bytes).map_err(|source| StoreError::Io { path, operation: "write", source })?;
    sink.finish().map(drop)
}

/// A small file with this content instead of any other, or with its old one, whatever happens.
pub(super) fn replace_file(
    disk: &mut impl Disk,
    ids: &mut Ids,
    directory: &Path,
    name: &str,
    bytes: &[u8],
) -> Result<(), StoreError> {
    let (path, unfinished) = (directory.join(name), directory.join(format!("{name}.tmp")));
    write_small(disk, ids, unfinished.clone(), bytes)?;
    run(disk, ids, &path, Action::Rename { from: unfinished, to: path.clone() })?;
    run(disk, ids, directory, Action::SyncDirectory { path: directory.to_owned() })
}

/// Removes a small file for good, if it is there.
pub(super) fn remove_file(disk: &mut impl Disk, ids: &mut Ids, directory: &Path, name: &str) -> Result<(), StoreError> {
    let io = |source| StoreError::Io { path: directory.to_owned(), operation: "list", source };
    if !disk.list(directory).map_err(io)?.iter().any(|(found, _)| found == name) {
        return Ok(());
    }
    let path = directory.join(name);
    run(disk, ids, &path, Action::Unlink { path: path.clone() })?;
    run(disk, ids, directory, Action::SyncDirectory { path: directory.to_owned() })
}
