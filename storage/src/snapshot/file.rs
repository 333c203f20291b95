//! A snapshot file, read where it lies.
//!
//! Opening checks footer and manifest and nothing that grows with the nodes. A chunk, and a bucket of the index, is checked
//! in full when it is first touched; one bit for each remembers that. So the first node costs one chunk's checksum however
//! large the file is, and damage is found before anything of the damaged part is handed out.
//!
//! A node is looked for in the chunk of the walk that settled its slot, and when it is not there, among the extras.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use super::chunk::{Chunk, ChunkPlace};
use super::file_name;
use super::image::SnapshotHeader;
use super::index::{Bucket, ChildKeys, Key, RunPlace, look_up};
use super::manifest::{FORMAT_VERSION, FooterError, Manifest, decode_footer, decode_manifest};
use super::source::{NodeRef, OwnedSlot, SnapshotSource};
use crate::Zxid;
use crate::backend::view::FileView;
use crate::disk::BLOCK_BYTES;
use crate::error::SnapshotError;

/// How far ahead of the taker the disk is asked to read, and how much is given back at once.
const AHEAD_BYTES: usize = 4 << 20;
const RELEASE_BYTES: usize = 1 << 20;
/// What a file is called that was found damaged in service.
pub const ASIDE_EXTENSION: &str = "damaged";

#[derive(Debug)]
pub struct SnapshotFile {
    zxid: Zxid,
    view: FileView,
    manifest: Manifest,
    keys: ChildKeys,
    /// The chunks of the walk, which are in the order of their slots.
    walk: Vec<u32>,
    /// One for each chunk, and for each bucket of each run by the run's number.
    checked_chunks: Vec<Cell<bool>>,
    checked_buckets: Vec<Vec<Cell<bool>>>,
}

impl SnapshotFile {
    /// Checks the end of the file. `zxid` is the one in its name.
    pub fn new(view: FileView, zxid: Zxid) -> Result<SnapshotFile, SnapshotError> {
        let damaged = |why| SnapshotError::Damaged { file: file_name(zxid), why };
        let file_bytes = view.len();
        if file_bytes < BLOCK_BYTES || !file_bytes.is_multiple_of(BLOCK_BYTES) {
            return Err(damaged(format!("{file_bytes} bytes is not the length of a snapshot")));
        }
        let read = |part: Range<usize>| match view.populate(part.clone()) {
            Ok(()) => Ok(&view[part]),
            Err(source) => Err(SnapshotError::Unreadable { file: file_name(zxid), source }),
        };
        let footer = read(file_bytes - BLOCK_BYTES..file_bytes)?;
        let place = match decode_footer(footer, zxid, file_bytes as u64) {
            Ok(place) => place,
            Err(FooterError::Damaged(why)) => return Err(damaged(why)),
            Err(FooterError::Version(version)) => {
                let file = file_name(zxid);
                return Err(SnapshotError::Version { file, version, supported: FORMAT_VERSION });
            }
        };
        let bytes = read(place.at as usize..(place.at + place.bytes) as usize)?;
        let mut manifest = decode_manifest(bytes, place, zxid).map_err(damaged)?;
        let runs = manifest.children.iter().chain(&manifest.extras);
        let mut checked_buckets = vec![Vec::new(); runs.clone().count()];
        for run in runs {
            match checked_buckets.get_mut(run.number as usize) {
                Some(buckets) if buckets.is_empty() => *buckets = vec![Cell::new(false); run.buckets as usize],
                _ => return Err(damaged(format!("manifest at byte {}: index runs of one number", place.at))),
            }
        }
        manifest.owned.sort_unstable_by_key(|owned| (owned.czxid, owned.slot));
        let walk = (0..).zip(&manifest.chunks).filter(|(_, chunk)| !chunk.extra).map(|(index, _)| index).collect();
        Ok(SnapshotFile {
            zxid,
            keys: ChildKeys::of(&manifest.header),
            walk,
            checked_chunks: vec![Cell::new(false); manifest.chunks.len()],
            checked_buckets,
            view,
            manifest,
        })
    }

    pub fn zxid(&self) -> Zxid {
        self.zxid
    }

    pub fn header(&self) -> &SnapshotHeader {
        &self.manifest.header
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub fn file_bytes(&self) -> u64 {
        self.view.len() as u64
    }

    /// Whether what was found wrong with it may be that the disk did not give it: then it is not damaged.
    pub fn is_unreadable(&self) -> Option<SnapshotError> {
        let source = self.view.populate(0..self.view.len()).err()?;
        Some(SnapshotError::Unreadable { file: file_name(self.zxid), source })
    }

    /// Checks everything: chunks, every node in them, the index. `progress` is told of each part's bytes.
    pub fn verify(&self, mut progress: impl FnMut(u64)) -> Result<(), SnapshotError> {
        let mut all = || {
            let mut wanted = 0;
            for (index, place) in self.manifest.chunks.iter().enumerate() {
                self.want_ahead(place.range().start, &mut wanted);
                for node in self.chunk(index as u32)?.nodes() {
                    node.map_err(|why| wrong(place, index as u32, &why))?;
                }
                progress(place.bytes.into());
            }
            for run in self.manifest.children.iter().chain(&self.manifest.extras) {
                self.want_ahead(run.at as usize, &mut wanted);
                let mut entries = 0;
                for bucket in 0..run.buckets {
                    entries += u64::from(self.bucket(run, bucket)?.count());
                }
                if entries != u64::from(run.entries) {
                    return Err(format!("index run {}: {entries} entries instead of {}", run.number, run.entries));
                }
                progress(run.bytes());
            }
            Ok(())
        };
        all().map_err(|why| SnapshotError::Damaged { file: file_name(self.zxid), why })
    }

    /// Every node, in the order they lie in the file. What has been read is given back to the system.
    pub fn for_each_node(&self, mut f: impl FnMut(NodeRef<'_>)) -> Result<(), SnapshotError> {
        let mut all = || {
            let (mut wanted, mut released) = (0, 0);
            for (index, place) in self.manifest.chunks.iter().enumerate() {
                self.want_ahead(place.range().start, &mut wanted);
                for node in self.chunk(index as u32)?.nodes() {
                    f(node.map_err(|why| wrong(place, index as u32, &why))?);
                }
                if place.range().end - released >= RELEASE_BYTES {
                    self.view.release(released..place.range().end);
                    released = place.range().end;
                }
            }
            Ok(())
        };
        all().map_err(|why| SnapshotError::Damaged { file: file_name(self.zxid), why })
    }

    /// The node in a slot, or what is damaged.
    pub fn node(&self, slot: u32) -> Result<Option<NodeRef<'_>>, String> {
        if slot >= self.header().slot_count {
            return Ok(None);
        }
        // The manifest was checked: some chunk of the walk settles every slot.
        let chunks = &self.manifest.chunks;
        let nth = self.walk.partition_point(|index| chunks[*index as usize].first_slot <= slot);
        // A chunk that settles no slot may share its beginning with the one that does: the last of them is it.
        if let Some(node) = self.node_in(self.walk[nth - 1], slot)? {
            return Ok(Some(node));
        }
        let mut node = None;
        for run in &self.manifest.extras {
            let mut take = |chunk: u32| {
                node = if (chunk as usize) < chunks.len() { self.node_in(chunk, slot)? } else { None };
                Ok(node.is_some())
            };
            if look_up(run, Key::of_slot(slot), |bucket| self.bucket(run, bucket), &mut take)? {
                break;
            }
        }
        Ok(node)
    }

    /// Offers slots that may hold the child, or says what is damaged.
    pub fn children_named(&self, parent: u32, name: &str, take: &mut dyn FnMut(u32) -> bool) -> Result<(), String> {
        let key = self.keys.key(parent, name);
        for run in &self.manifest.children {
            if look_up(run, key, |bucket| self.bucket(run, bucket), &mut |slot| Ok(take(slot)))? {
                break;
            }
        }
        Ok(())
    }

    fn node_in(&self, index: u32, slot: u32) -> Result<Option<NodeRef<'_>>, String> {
        let chunk = self.chunk(index)?;
        let node = chunk.find(slot).map(|nth| chunk.node(nth)).transpose();
        node.map_err(|why| wrong(&self.manifest.chunks[index as usize], index, &why))
    }

    pub(crate) fn chunk(&self, index: u32) -> Result<Chunk<'_>, String> {
        let place = &self.manifest.chunks[index as usize];
        let checked = &self.checked_chunks[index as usize];
        if checked.get() {
            let chunk = Chunk::verified_before(&self.view[place.range()], place);
            return chunk.ok_or_else(|| wrong(place, index, "it changed"));
        }
        self.populate(place.range())?;
        let chunk = Chunk::verify(&self.view[place.range()], index, self.zxid, place)?;
        checked.set(true);
        Ok(chunk)
    }

    pub(crate) fn bucket(&self, run: &RunPlace, bucket: u32) -> Result<&Bucket, String> {
        let at = run.at as usize + bucket as usize * BLOCK_BYTES;
        let checked = &self.checked_buckets[run.number as usize][bucket as usize];
        let block = &self.view[at..at + BLOCK_BYTES];
        if checked.get() {
            return Ok(Bucket::verified_before(block));
        }
        self.populate(at..at + BLOCK_BYTES)?;
        let found = Bucket::verify(block, run, bucket, self.zxid)?;
        checked.set(true);
        Ok(found)
    }

    fn populate(&self, part: Range<usize>) -> Result<(), String> {
        let at = part.start;
        self.view.populate(part).map_err(|error| format!("at byte {at}: cannot be read: {error}"))
    }

    /// `wanted`: how far the disk was asked already.
    fn want_ahead(&self, at: usize, wanted: &mut usize) {
        let end = (at + AHEAD_BYTES).min(self.view.len());
        if end > *wanted && end - *wanted >= AHEAD_BYTES / 2 {
            self.view.want((*wanted).max(at)..end);
            *wanted = end;
        }
    }
}

fn wrong(place: &ChunkPlace, index: u32, why: &str) -> String {
    format!("chunk {index} at byte {}: {why}", place.at)
}

/// A snapshot in service: damage found now sets the file aside, so that the next start does without it.
#[derive(Debug)]
pub struct ServedSnapshot {
    file: Rc<SnapshotFile>,
    wanted: Cell<usize>,
    released: Cell<usize>,
}

impl ServedSnapshot {
    pub fn new(file: Rc<SnapshotFile>) -> ServedSnapshot {
        ServedSnapshot { file, wanted: Cell::new(0), released: Cell::new(0) }
    }

    fn set_aside(&self, why: String) -> SnapshotError {
        let file = file_name(self.file.zxid);
        let done = match self.file.view.set_aside(ASIDE_EXTENSION) {
            Ok(Some(aside)) => {
                let aside = aside.file_name().unwrap_or_default().to_string_lossy().into_owned();
                format!("it was set aside as {aside}: a restart uses an older snapshot and the log from there on")
            }
            Ok(None) => "it lies in memory and goes with it".to_owned(),
            Err(error) => format!(
                "it could not be set aside ({error}): move it out of the directory, then a restart uses an older snapshot \
                 and the log from there on"
            ),
        };
        SnapshotError::DamagedInService { file, why, done }
    }
}

impl SnapshotSource for ServedSnapshot {
    fn header(&self) -> &SnapshotHeader {
        self.file.header()
    }

    fn owned(&self) -> &[OwnedSlot] {
        &self.file.manifest.owned
    }

    fn node(&self, slot: u32) -> Result<Option<NodeRef<'_>>, SnapshotError> {
        self.file.node(slot).map_err(|why| self.set_aside(why))
    }

    fn children_named(&self, parent: u32, name: &str, take: &mut dyn FnMut(u32) -> bool) -> Result<(), SnapshotError> {
        self.file.children_named(parent, name, take).map_err(|why| self.set_aside(why))
    }

    fn condemn(&self, why: String) -> SnapshotError {
        self.set_aside(why)
    }

    fn passed(&self, slot: u32) {
        let chunks = &self.file.manifest.chunks;
        let nth = self.file.walk.partition_point(|index| chunks[*index as usize].end_slot <= slot);
        let at = match self.file.walk.get(nth) {
            Some(index) => chunks[*index as usize].range().start,
            None => self.file.view.len(),
        };
        let released = self.released.get();
        if at >= released + RELEASE_BYTES {
            self.file.view.release(released..at);
            self.released.set(at);
        }
        let mut wanted = self.wanted.get();
        self.file.want_ahead(at, &mut wanted);
        self.wanted.set(wanted);
    }
}
