//! Finding and reading snapshots: the newest that is whole, and what is wrong with those newer than it.
//!
//! Older ones are only counted: a start does not take longer because many are kept.
//! A snapshot is chosen only after every byte of it was checked; reading it out checks each chunk again, in the memory it
//! is then read from.

use std::path::{Path, PathBuf};

use rkyv::rancor;

use super::format::{Chunk, FooterError, Manifest, decode_footer, decode_manifest};
use super::image::NodeImage;
use super::{file_name, parse, path};
use crate::Zxid;
use crate::disk::{BLOCK_BYTES, Disk, Ids};
use crate::error::{SnapshotError, StoreError};
use crate::read::{Reader, WHOLE_FILE_WINDOW_BYTES};

const BLOCK: u64 = BLOCK_BYTES as u64;

/// A snapshot that was checked from end to end.
#[derive(Debug)]
pub struct Loaded {
    pub zxid: Zxid,
    pub manifest: Manifest,
    path: PathBuf,
    file_bytes: u64,
}

/// A snapshot as purging knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    pub zxid: Zxid,
    pub bytes: u64,
}

#[derive(Debug)]
pub struct Found {
    pub newest: Option<Loaded>,
    /// `newest` and all that are older, in order of zxid. The older ones were not looked into.
    pub kept: Vec<Kept>,
    /// Newer than `newest` and not usable, the newest first.
    pub passed_over: Vec<(Zxid, SnapshotError)>,
    /// Left behind by a server that stopped in the middle.
    pub unfinished: Vec<PathBuf>,
}

pub fn find(disk: &mut impl Disk, ids: &mut Ids, directory: &Path) -> Result<Found, StoreError> {
    let io = |source| StoreError::Io { path: directory.to_owned(), operation: "list", source };
    let names = disk.list(directory).map_err(io)?;
    let leftover = |name: &str| name.starts_with("snapshot-") && name.ends_with(".tmp");
    let unfinished = names.iter().filter(|(name, _)| leftover(name)).map(|(name, _)| directory.join(name)).collect();
    let mut files: Vec<_> = names.iter().filter_map(|(name, bytes)| Some((parse(name)?, *bytes))).collect();
    files.sort_unstable_by(|a, b| b.cmp(a));
    let mut found = Found { newest: None, kept: Vec::new(), passed_over: Vec::new(), unfinished };
    for (zxid, bytes) in files {
        if found.newest.is_none() {
            match check(disk, ids, directory, Kept { zxid, bytes })? {
                Ok(loaded) => found.newest = Some(loaded),
                Err(error @ SnapshotError::Version { .. }) => return Err(error.into()),
                Err(error) => {
                    found.passed_over.push((zxid, error));
                    continue;
                }
            }
        }
        found.kept.push(Kept { zxid, bytes });
    }
    found.kept.reverse();
    Ok(found)
}

/// One snapshot, from end to end.
pub fn check(disk: &mut impl Disk, ids: &mut Ids, directory: &Path, kept: Kept) -> Checked<Loaded> {
    let Kept { zxid, bytes } = kept;
    let path = path(directory, zxid);
    let mut reader = Reader::open(disk, ids, path.clone(), bytes, false, WHOLE_FILE_WINDOW_BYTES)?;
    let checked = check_all(disk, &mut reader, zxid)?;
    reader.close(disk, ids);
    Ok(checked.map(|manifest| Loaded { zxid, manifest, path, file_bytes: bytes }))
}

impl Loaded {
    /// Every node, chunk by chunk: memory for one chunk.
    pub fn for_each_node(
        &self,
        disk: &mut impl Disk,
        ids: &mut Ids,
        mut f: impl FnMut(NodeImage),
    ) -> Result<(), StoreError> {
        let mut reader = Reader::open(disk, ids, self.path.clone(), self.file_bytes, false, WHOLE_FILE_WINDOW_BYTES)?;
        let result = each_chunk(disk, &mut reader, self.zxid, &self.manifest, |chunk| {
            for node in chunk.nodes.iter() {
                f(rkyv::deserialize::<NodeImage, rancor::Error>(node).map_err(|error| error.to_string())?);
            }
            Ok(())
        })?;
        reader.close(disk, ids);
        Ok(result?)
    }
}

/// The outer result is about reading, the inner about what was read.
pub(crate) type Checked<T> = Result<Result<T, SnapshotError>, StoreError>;

fn check_end(disk: &mut impl Disk, reader: &mut Reader, zxid: Zxid) -> Checked<Manifest> {
    let file = || file_name(zxid);
    let file_bytes = reader.file_bytes();
    if file_bytes < BLOCK || !file_bytes.is_multiple_of(BLOCK) {
        let why = format!("{file_bytes} bytes is not the length of a snapshot");
        return Ok(Err(SnapshotError::Damaged { file: file(), why }));
    }
    let place = match decode_footer(reader.get(disk, file_bytes - BLOCK, BLOCK)?, zxid, file_bytes) {
        Ok(place) => place,
        Err(FooterError::Damaged(why)) => {
            return Ok(Err(SnapshotError::Damaged { file: file(), why }));
        }
        Err(FooterError::Version(version)) => {
            let supported = super::format::FORMAT_VERSION;
            return Ok(Err(SnapshotError::Version { file: file(), version, supported }));
        }
    };
    let manifest = decode_manifest(reader.get(disk, place.at, place.bytes)?, place, zxid);
    Ok(manifest.map_err(|why| SnapshotError::Damaged { file: file(), why }))
}

fn check_all(disk: &mut impl Disk, reader: &mut Reader, zxid: Zxid) -> Checked<Manifest> {
    let manifest = match check_end(disk, reader, zxid)? {
        Ok(manifest) => manifest,
        Err(error) => return Ok(Err(error)),
    };
    Ok(each_chunk(disk, reader, zxid, &manifest, |_| Ok(()))?.map(|()| manifest))
}

fn each_chunk(
    disk: &mut impl Disk,
    reader: &mut Reader,
    zxid: Zxid,
    manifest: &Manifest,
    mut f: impl FnMut(Chunk<'_>) -> Result<(), String>,
) -> Checked<()> {
    for (index, place) in manifest.chunks.iter().enumerate() {
        let bytes = reader.get(disk, place.at, place.bytes)?;
        let chunk = Chunk::verify(bytes, index as u32, zxid, place);
        if let Err(why) = chunk.and_then(&mut f) {
            return Ok(Err(SnapshotError::Damaged { file: file_name(zxid), why }));
        }
    }
    Ok(Ok(()))
}
