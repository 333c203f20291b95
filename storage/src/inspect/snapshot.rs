//! A snapshot of ours, part by part: so that one damaged part does not hide the others.

use std::path::Path;

use crate::Zxid;
use crate::backend::blocking::BlockingDisk;
use crate::disk::{Access, Action, BLOCK_BYTES, Disk, Ids};
use crate::error::{SnapshotError, StoreError};
use crate::read::{GLANCE_WINDOW_BYTES, Reader, WHOLE_FILE_WINDOW_BYTES, run};
use crate::snapshot::chunk::{Chunk, claimed_place, padded};
use crate::snapshot::file::SnapshotFile;
use crate::snapshot::index::RunPlace;
use crate::snapshot::manifest::claimed_zxid;
use crate::snapshot::parse_any;
use crate::snapshot::source::NodeRef;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Whether a file is called as a snapshot of ours, be it in use or set aside.
pub fn snapshot_of_name(name: &str) -> Option<Zxid> {
    parse_any(name)
}

/// Whether the last block of a file says it is the end of a snapshot of ours.
pub fn snapshot_of_end(block: &[u8]) -> Option<Zxid> {
    claimed_zxid(block)
}

/// The outer result is about reading, the inner about what was read: the end of the file. `zxid`: what its name says, or its end.
pub fn open_snapshot_as(
    path: &Path,
    file_bytes: u64,
    zxid: Zxid,
) -> Result<Result<SnapshotFile, SnapshotError>, StoreError> {
    if file_bytes < BLOCK {
        let (file, why) =
            (crate::snapshot::file_name(zxid), format!("{file_bytes} bytes is not the length of a snapshot"));
        return Ok(Err(SnapshotError::Damaged { file, why }));
    }
    let (mut disk, mut ids) = (BlockingDisk::default(), Ids::default());
    let file = ids.file();
    run(&mut disk, &mut ids, path, Action::Open { file, path: path.to_owned(), access: Access::Read, direct: false })?;
    let view = disk.view(file, path, file_bytes);
    let view = view.map_err(|source| StoreError::Io { path: path.to_owned(), operation: "read", source })?;
    Ok(SnapshotFile::new(view, zxid))
}

/// A part of a snapshot and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub at: u64,
    pub bytes: u64,
    pub nodes: u32,
    pub damages: Vec<String>,
}

/// Checks every chunk, every node in it, and every bucket of the index, and says how each part is.
pub fn check_parts(file: &SnapshotFile, mut take: impl FnMut(Part)) {
    let manifest = file.manifest();
    for (index, place) in (0..).zip(&manifest.chunks) {
        let damages = match file.chunk(index) {
            Ok(chunk) => chunk
                .nodes()
                .filter_map(|node| Some(format!("chunk {index} at byte {}: {}", place.at, node.err()?)))
                .collect(),
            Err(why) => vec![why],
        };
        take(Part { at: place.at, bytes: padded(place.bytes.into()), nodes: place.nodes, damages });
    }
    for run in manifest.children.iter().chain(&manifest.extras) {
        take(Part { at: run.at, bytes: run.bytes(), nodes: 0, damages: check_run(file, run) });
    }
}

/// Every node that can be read, in the order of the file.
pub fn for_each_whole_node(file: &SnapshotFile, mut take: impl FnMut(NodeRef<'_>)) {
    for index in 0..file.manifest().chunks.len() as u32 {
        if let Ok(chunk) = file.chunk(index) {
            chunk.nodes().flatten().for_each(&mut take);
        }
    }
}

fn check_run(file: &SnapshotFile, run: &RunPlace) -> Vec<String> {
    let mut damages = Vec::new();
    let mut entries = 0;
    for bucket in 0..run.buckets {
        match file.bucket(run, bucket) {
            Ok(bucket) => entries += u64::from(bucket.count()),
            Err(why) => damages.push(why),
        }
    }
    if damages.is_empty() && entries != u64::from(run.entries) {
        damages
            .push(format!("index run {} at byte {}: {entries} entries instead of {}", run.number, run.at, run.entries));
    }
    damages
}

/// Looks for chunks without being told where they are: for a file whose end is damaged.
pub fn find_chunks(path: &Path, file_bytes: u64, zxid: Zxid, mut take: impl FnMut(Part)) -> Result<(), StoreError> {
    let (mut disk, mut ids) = (BlockingDisk::default(), Ids::default());
    let mut reader = Reader::open(&mut disk, &mut ids, path.to_owned(), file_bytes, false, WHOLE_FILE_WINDOW_BYTES)?;
    let mut at = 0;
    while at < file_bytes {
        let Some((index, place)) = claimed_place(reader.get(&mut disk, at, BLOCK)?, at) else {
            at += BLOCK;
            continue;
        };
        let bytes = padded(place.bytes.into());
        let found = Chunk::verify(reader.get(&mut disk, at, place.bytes.into())?, index, zxid, &place);
        let damages = match found {
            Ok(chunk) => chunk.nodes().filter_map(Result::err).collect(),
            Err(why) => vec![why],
        };
        // What a damaged one says of its length is not believed.
        let whole = damages.is_empty();
        take(Part { at, bytes, nodes: place.nodes, damages });
        at += if whole { bytes } else { BLOCK };
    }
    reader.close(&mut disk, &mut ids);
    Ok(())
}

/// The last block of a file.
pub fn last_block(path: &Path, file_bytes: u64) -> Result<Vec<u8>, StoreError> {
    if file_bytes < BLOCK {
        return Ok(Vec::new());
    }
    let (mut disk, mut ids) = (BlockingDisk::default(), Ids::default());
    let mut reader = Reader::open(&mut disk, &mut ids, path.to_owned(), file_bytes, false, GLANCE_WINDOW_BYTES)?;
    let at = (file_bytes - BLOCK) / BLOCK * BLOCK;
    Ok(reader.get(&mut disk, at, BLOCK)?.to_vec())
}
