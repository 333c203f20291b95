//! The end of a snapshot file: the manifest, which knows where everything is, and the footer, which knows where that is.
//!
//! ```text
//! | chunk | chunk | run of the index | chunk | ... | manifest | footer |    each begins on a block, padded to the next
//!   manifest: the snapshot's header, where chunks and runs are, nodes with owners, how far the log was stable: rkyv
//!   footer:   one block; where the manifest is, checksums; last, so that half a file is never a snapshot
//! ```
//!
//! Both are checked in full before anything in the file is believed. What the manifest says has to fit together: the chunks
//! of the walk settle every slot exactly once, and all chunks together have the promised number of nodes.

use std::mem::{offset_of, size_of};

use rkyv::rancor;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::chunk::{Archive, ChunkPlace, padded};
use super::image::SnapshotHeader;
use super::index::RunPlace;
use super::source::OwnedSlot;
use crate::Zxid;
use crate::disk::{BLOCK_BYTES, Buffer};

pub const FORMAT_VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"rksnapsh";

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Footer {
    magic: [u8; 8],
    /// crc32c of everything after this field.
    checksum: U32,
    version: U32,
    snapshot_zxid: U64,
    manifest_at: U64,
    manifest_bytes: U64,
    manifest_checksum: U32,
    reserved: U32,
}

const _: () = assert!(size_of::<Footer>() == 48);

#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Manifest {
    pub header: SnapshotHeader,
    /// In the order they lie in the file.
    pub chunks: Vec<ChunkPlace>,
    /// The index of children, and of nodes in extra chunks.
    pub children: Vec<RunPlace>,
    pub extras: Vec<RunPlace>,
    pub owned: Vec<OwnedSlot>,
    /// How far the log was stable when this was written: a log that ends earlier has lost something.
    pub log_sequence: u64,
    pub log_zxid: u64,
}

/// Manifest and footer, to be written at `at`.
pub fn encode_end(manifest: &Manifest, at: u64) -> Buffer {
    let mut buffer = Buffer::with_capacity(BLOCK_BYTES * 2 + manifest.chunks.len() * size_of::<ChunkPlace>());
    rkyv::api::high::to_bytes_in::<_, rancor::Panic>(manifest, Archive { buffer: &mut buffer, base: 0 })
        .expect("writing to memory");
    let mut footer = Footer {
        magic: MAGIC,
        checksum: 0.into(),
        version: FORMAT_VERSION.into(),
        snapshot_zxid: manifest.header.zxid.into(),
        manifest_at: at.into(),
        manifest_bytes: (buffer.len() as u64).into(),
        manifest_checksum: crc32c::crc32c(&buffer).into(),
        reserved: 0.into(),
    };
    footer.checksum = crc32c::crc32c(&footer.as_bytes()[offset_of!(Footer, version)..]).into();
    buffer.pad_to_block();
    buffer.extend_from_slice(footer.as_bytes());
    buffer.pad_to_block();
    buffer
}

/// Where a file's footer says its manifest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestPlace {
    pub at: u64,
    pub bytes: u64,
    checksum: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FooterError {
    Damaged(String),
    Version(u32),
}

/// `block` is the last block of a file of `file_bytes`.
pub fn decode_footer(block: &[u8], zxid: Zxid, file_bytes: u64) -> Result<ManifestPlace, FooterError> {
    let damaged = |why: &str| FooterError::Damaged(why.to_owned());
    let (footer, _) = Footer::ref_from_prefix(block).map_err(|_| damaged("the file ends before its footer"))?;
    let checksum = crc32c::crc32c(&footer.as_bytes()[offset_of!(Footer, version)..]);
    if footer.magic != MAGIC || footer.checksum.get() != checksum {
        return Err(damaged("no footer at the end: unfinished, cut short or damaged"));
    }
    if footer.version.get() != FORMAT_VERSION {
        return Err(FooterError::Version(footer.version.get()));
    }
    let (at, bytes) = (footer.manifest_at.get(), footer.manifest_bytes.get());
    let in_file = at.is_multiple_of(BLOCK_BYTES as u64) && at.checked_add(bytes).is_some_and(|end| end <= file_bytes);
    match (footer.snapshot_zxid.get() == zxid.0, in_file) {
        (true, true) => Ok(ManifestPlace { at, bytes, checksum: footer.manifest_checksum.get() }),
        (true, false) => Err(damaged("the footer points outside of the file")),
        (false, _) => Err(damaged("the footer is that of another snapshot")),
    }
}

/// Which snapshot a last block says it is the end of, whatever else is wrong with it: for a copy under another name.
pub fn claimed_zxid(block: &[u8]) -> Option<Zxid> {
    let (footer, _) = Footer::ref_from_prefix(block).ok()?;
    (footer.magic == MAGIC).then_some(Zxid(footer.snapshot_zxid.get()))
}

/// `bytes` is what `place` names, from the beginning of a block in memory.
pub fn decode_manifest(bytes: &[u8], place: ManifestPlace, zxid: Zxid) -> Result<Manifest, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("manifest at byte {}: {why}", place.at);
    if crc32c::crc32c(bytes) != place.checksum {
        return Err(wrong(&"checksum mismatch"));
    }
    let manifest = rkyv::from_bytes::<Manifest, rancor::Error>(bytes).map_err(|error| wrong(&error))?;
    if manifest.header.zxid != zxid.0 {
        return Err(wrong(&"it is that of another snapshot"));
    }
    manifest.check(place.at).map_err(|why| wrong(&why))?;
    Ok(manifest)
}

impl Manifest {
    /// Whether what it says fits together, and lies before `end`.
    pub fn check(&self, end: u64) -> Result<(), String> {
        let within = |at: u64, bytes: u64| {
            at.is_multiple_of(BLOCK_BYTES as u64) && at.checked_add(bytes).is_some_and(|to| to <= end)
        };
        let mut next_slot = 0;
        let mut nodes = 0;
        for (index, chunk) in self.chunks.iter().enumerate() {
            let slots = chunk.slots();
            if !within(chunk.at, padded(chunk.bytes.into())) || slots.start > slots.end || slots.end > self.slot_count()
            {
                return Err(format!("chunk {index} lies where no chunk can be"));
            }
            if !chunk.extra && slots.start != next_slot {
                return Err(format!("chunk {index} begins at slot {} instead of {next_slot}", slots.start));
            }
            if !chunk.extra {
                next_slot = slots.end;
            }
            nodes += u64::from(chunk.nodes);
        }
        if nodes != self.header.node_count {
            return Err(format!("{nodes} nodes came for a snapshot of {}", self.header.node_count));
        }
        if next_slot != self.slot_count() {
            return Err(format!("the chunks end at slot {next_slot} of {}", self.slot_count()));
        }
        let runs = || self.children.iter().chain(&self.extras);
        if !runs().all(|run| run.buckets > 0 && within(run.at, run.bytes())) {
            return Err("a run of the index lies where none can be".to_owned());
        }
        Ok(())
    }

    fn slot_count(&self) -> u32 {
        self.header.slot_count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::image::{AclImage, AclListImage};

    fn place(first_slot: u32, end_slot: u32, nodes: u32, extra: bool) -> ChunkPlace {
        ChunkPlace { at: 0, bytes: 4000, nodes, first_slot, end_slot, extra, checksum: 1 }
    }

    fn manifest(chunks: Vec<ChunkPlace>) -> Manifest {
        let acl = AclImage { perms: 31, scheme: "world".to_owned(), id: "anyone".to_owned() };
        let header = SnapshotHeader {
            zxid: 7,
            tree_digest: 8,
            node_count: 15,
            slot_count: 20,
            data_bytes: 10,
            acls: vec![AclListImage { number: 1, uses: 2, entries: vec![acl] }],
            sessions: vec![(-3, 4000)],
        };
        let run = RunPlace { at: 4096, number: 0, buckets: 2, entries: 15 };
        let owned = vec![OwnedSlot { slot: 3, owner: 4, czxid: 5 }];
        Manifest { header, chunks, children: vec![run], extras: Vec::new(), owned, log_sequence: 5, log_zxid: 6 }
    }

    #[test]
    fn the_end_finds_the_manifest_and_nothing_else_does() {
        let manifest = manifest(vec![place(0, 10, 9, false), place(3, 4, 1, true), place(10, 20, 5, false)]);
        let end = encode_end(&manifest, 12288);
        let file_bytes = 12288 + end.len() as u64;
        let footer = &end[end.len() - BLOCK_BYTES..];
        let found = decode_footer(footer, Zxid(7), file_bytes).unwrap();
        let bytes = &end[..found.bytes as usize];
        assert_eq!(decode_manifest(bytes, found, Zxid(7)), Ok(manifest));
        assert!(decode_manifest(bytes, found, Zxid(8)).is_err());
        assert!(decode_footer(footer, Zxid(8), file_bytes).is_err());
        assert!(decode_footer(footer, Zxid(7), 4096).is_err(), "points outside of a shorter file");
        for at in 0..size_of::<Footer>() {
            let mut damaged = footer.to_vec();
            damaged[at] ^= 8;
            assert!(decode_footer(&damaged, Zxid(7), file_bytes).is_err(), "byte {at}");
        }
        for at in 0..bytes.len() {
            let mut damaged = Buffer::with_capacity(bytes.len());
            damaged.extend_from_slice(bytes);
            damaged[at] ^= 8;
            assert!(decode_manifest(&damaged, found, Zxid(7)).is_err(), "byte {at}");
        }
    }

    #[test]
    fn chunks_settle_every_slot_once_and_hold_what_was_promised() {
        let check = |chunks: &[ChunkPlace]| manifest(chunks.to_vec()).check(12288);
        let (first, second) = (place(0, 10, 10, false), place(10, 20, 5, false));
        assert_eq!(check(&[first.clone(), second.clone()]), Ok(()));
        assert_eq!(check(&[first.clone(), place(10, 20, 3, false), place(0, 20, 2, true)]), Ok(()));
        let refused = [
            (vec![place(0, 10, 15, false)], "end at slot 10 of 20"),
            (vec![first.clone(), place(11, 20, 5, false)], "begins at slot 11 instead of 10"),
            (vec![first.clone(), first.clone(), second.clone()], "begins at slot 0 instead of 10"),
            (vec![first.clone(), place(10, 20, 6, false)], "16 nodes came for a snapshot of 15"),
            (vec![first.clone(), place(10, 21, 5, false)], "chunk 1 lies where no chunk can be"),
            (vec![ChunkPlace { at: 8192, bytes: 4097, ..first.clone() }, second.clone()], "chunk 0 lies"),
            (vec![ChunkPlace { at: 4095, ..first.clone() }, second.clone()], "chunk 0 lies"),
            (vec![ChunkPlace { at: !4095, ..first.clone() }, second.clone()], "chunk 0 lies"),
        ];
        for (chunks, why) in refused {
            let error = check(&chunks).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let mut outside = manifest(vec![first, second]);
        outside.children[0].buckets = 3;
        assert!(outside.check(12288).is_err());
    }
}
