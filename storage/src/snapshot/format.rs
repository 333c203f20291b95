//! The bytes of a snapshot file.
//!
//! ```text
//! | chunk | chunk | ... | manifest | footer |         each begins on a block and is padded to the next with zeroes
//!   chunk:    | ChunkHeader 64 bytes | Vec<NodeImage> as rkyv lays it out |
//!   manifest: header of the snapshot, where the chunks are, how far the log was stable: rkyv
//!   footer:   one block; where the manifest is, checksums; last, so that half a file is never a snapshot
//! ```
//!
//! Every part has its own crc32c and is checked in full, checksum first and layout second, before anything in it is
//! believed. The checksum of a chunk covers its number and its snapshot's zxid: chunks do not pass for one another.

use std::mem::{offset_of, size_of};

use rkyv::rancor;
use rkyv::ser::{Positional, Writer};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::image::{NodeImage, SnapshotHeader};
use crate::Zxid;
use crate::disk::{BLOCK_BYTES, Buffer};

pub const FORMAT_VERSION: u32 = 1;

const CHUNK_MAGIC: [u8; 8] = *b"rkchunk\n";
const FOOTER_MAGIC: [u8; 8] = *b"rksnapsh";

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct ChunkHeader {
    magic: [u8; 8],
    /// crc32c of everything after this field, archive included.
    checksum: U32,
    index: U32,
    snapshot_zxid: U64,
    archive_bytes: U64,
    node_count: U32,
    reserved: [u8; 28],
}

pub const CHUNK_HEADER_BYTES: usize = size_of::<ChunkHeader>();
const _: () = assert!(CHUNK_HEADER_BYTES == 64); // keeps the archive behind it aligned to 16

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

/// Where a chunk lies, as the manifest keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ChunkPlace {
    pub at: u64,
    /// Header and archive, without the padding.
    pub bytes: u64,
    pub nodes: u32,
    pub checksum: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Manifest {
    pub header: SnapshotHeader,
    pub chunks: Vec<ChunkPlace>,
    /// How far the log was stable when this was written: a log that ends earlier has lost something.
    pub log_sequence: u64,
    pub log_zxid: u64,
}

/// Lets rkyv write behind what a buffer already holds.
struct Archive<'a> {
    buffer: &'a mut Buffer,
    base: usize,
}

impl Positional for Archive<'_> {
    fn pos(&self) -> usize {
        self.buffer.len() - self.base
    }
}

impl<E> Writer<E> for Archive<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), E> {
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }
}

/// Writes a chunk, padded, into `buffer`. Its place is complete but for `at`.
pub fn encode_chunk(index: u32, zxid: Zxid, nodes: &Vec<NodeImage>, buffer: &mut Buffer) -> ChunkPlace {
    buffer.clear();
    buffer.resize(CHUNK_HEADER_BYTES);
    rkyv::api::high::to_bytes_in::<_, rancor::Panic>(nodes, Archive { buffer, base: CHUNK_HEADER_BYTES })
        .expect("writing to memory");
    let header = ChunkHeader {
        magic: CHUNK_MAGIC,
        checksum: 0.into(),
        index: index.into(),
        snapshot_zxid: zxid.0.into(),
        archive_bytes: ((buffer.len() - CHUNK_HEADER_BYTES) as u64).into(),
        node_count: (nodes.len() as u32).into(),
        reserved: [0; 28],
    };
    buffer[..CHUNK_HEADER_BYTES].copy_from_slice(header.as_bytes());
    let checksum = crc32c::crc32c(&buffer[offset_of!(ChunkHeader, index)..]);
    let field = offset_of!(ChunkHeader, checksum);
    buffer[field..field + 4].copy_from_slice(&checksum.to_le_bytes());
    let bytes = buffer.len() as u64;
    buffer.pad_to_block();
    ChunkPlace { at: 0, bytes, nodes: nodes.len() as u32, checksum }
}

/// One verified chunk, borrowing the very bytes that were verified.
pub struct Chunk<'a> {
    pub nodes: &'a rkyv::Archived<Vec<NodeImage>>,
}

impl<'a> Chunk<'a> {
    /// `bytes` is what `place` names, from the beginning of a buffer.
    pub fn verify(bytes: &'a [u8], index: u32, zxid: Zxid, place: &ChunkPlace) -> Result<Chunk<'a>, String> {
        let (header, archive) =
            ChunkHeader::ref_from_prefix(bytes).map_err(|_| format!("chunk {index}: the file ends"))?;
        let checksum = crc32c::crc32c(&bytes[offset_of!(ChunkHeader, index)..]);
        if header.checksum.get() != checksum || place.checksum != checksum {
            return Err(format!("chunk {index} at byte {}: checksum mismatch", place.at));
        }
        let own = header.magic == CHUNK_MAGIC && header.index.get() == index && header.snapshot_zxid.get() == zxid.0;
        if !own || header.archive_bytes.get() != archive.len() as u64 {
            return Err(format!("chunk {index} at byte {}: bytes of another chunk", place.at));
        }
        let nodes = rkyv::access::<rkyv::Archived<Vec<NodeImage>>, rancor::Error>(archive)
            .map_err(|error| format!("chunk {index} at byte {}: {error}", place.at))?;
        if nodes.len() != place.nodes as usize {
            return Err(format!("chunk {index}: {} nodes instead of {}", nodes.len(), place.nodes));
        }
        Ok(Chunk { nodes })
    }
}

/// Manifest and footer, to be written at `at`.
pub fn encode_end(manifest: &Manifest, at: u64) -> Buffer {
    let mut buffer = Buffer::with_capacity(BLOCK_BYTES * 2 + manifest.chunks.len() * size_of::<ChunkPlace>());
    rkyv::api::high::to_bytes_in::<_, rancor::Panic>(manifest, Archive { buffer: &mut buffer, base: 0 })
        .expect("writing to memory");
    let mut footer = Footer {
        magic: FOOTER_MAGIC,
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
    if footer.magic != FOOTER_MAGIC || footer.checksum.get() != checksum {
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

/// `bytes` is what `place` names, from the beginning of a buffer.
pub fn decode_manifest(bytes: &[u8], place: ManifestPlace, zxid: Zxid) -> Result<Manifest, String> {
    if crc32c::crc32c(bytes) != place.checksum {
        return Err(format!("manifest at byte {}: checksum mismatch", place.at));
    }
    let manifest = rkyv::from_bytes::<Manifest, rancor::Error>(bytes)
        .map_err(|error| format!("manifest at byte {}: {error}", place.at))?;
    let nodes: u64 = manifest.chunks.iter().map(|chunk| u64::from(chunk.nodes)).sum();
    let placed = |chunk: &ChunkPlace| {
        chunk.at.is_multiple_of(BLOCK_BYTES as u64)
            && chunk.at.checked_add(chunk.bytes).is_some_and(|end| end <= place.at)
    };
    if manifest.header.zxid != zxid.0 || nodes != manifest.header.node_count || !manifest.chunks.iter().all(placed) {
        return Err(format!("manifest at byte {}: contradicts itself", place.at));
    }
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::memory::Chance;
    use crate::snapshot::image::{AclImage, AclListImage, NO_SLOT};

    fn node(slot: u32) -> NodeImage {
        NodeImage {
            slot,
            parent: 0,
            first_child: NO_SLOT,
            next_sibling: NO_SLOT,
            prev_sibling: NO_SLOT,
            child_count: 0,
            content_crc: 0,
            name: format!("name-{slot}"),
            data: (slot > 2).then(|| vec![slot as u8; 3000]),
            acl: 1,
            czxid: i64::MIN,
            mzxid: i64::MAX,
            pzxid: 1,
            ctime: 2,
            mtime: 3,
            version: -1,
            cversion: 4,
            aversion: 5,
            ephemeral_owner: -2,
        }
    }

    fn manifest(chunks: Vec<ChunkPlace>) -> Manifest {
        let acl = AclImage { perms: 31, scheme: "world".to_owned(), id: "anyone".to_owned() };
        let header = SnapshotHeader {
            zxid: 7,
            tree_digest: 8,
            node_count: chunks.iter().map(|chunk| u64::from(chunk.nodes)).sum(),
            slot_count: 9,
            data_bytes: 10,
            acls: vec![AclListImage { number: 1, uses: 2, entries: vec![acl] }],
            sessions: vec![(-3, 4000)],
        };
        Manifest { header, chunks, log_sequence: 5, log_zxid: 6 }
    }

    #[test]
    fn a_chunk_passes_only_for_itself() {
        let nodes: Vec<_> = (0..5).map(node).collect();
        let mut buffer = Buffer::with_capacity(1);
        let place = encode_chunk(3, Zxid(7), &nodes, &mut buffer);
        let bytes = &buffer[..place.bytes as usize];
        let chunk = Chunk::verify(bytes, 3, Zxid(7), &place).unwrap();
        let back: Vec<NodeImage> = rkyv::deserialize::<_, rancor::Error>(chunk.nodes).unwrap();
        assert_eq!(back, nodes);
        assert!(Chunk::verify(bytes, 4, Zxid(7), &place).is_err());
        assert!(Chunk::verify(bytes, 3, Zxid(8), &place).is_err());
        assert!(Chunk::verify(&bytes[..bytes.len() - 1], 3, Zxid(7), &place).is_err());
        assert!(Chunk::verify(bytes, 3, Zxid(7), &ChunkPlace { nodes: 4, ..place }).is_err());
    }

    #[test]
    fn bytes_with_a_right_checksum_and_no_sense_are_an_error_not_a_panic() {
        // As if a faulty program had written them: the layout check has to hold on its own.
        let nodes: Vec<_> = (0..5).map(node).collect();
        let mut buffer = Buffer::with_capacity(1);
        let whole = encode_chunk(0, Zxid(7), &nodes, &mut buffer);
        let mut chance = Chance(1);
        let mut refused = 0;
        for _ in 0..3000 {
            let mut bytes = Buffer::with_capacity(1);
            bytes.extend_from_slice(&buffer[..whole.bytes as usize]);
            for _ in 0..=chance.below(3) {
                // Mostly in the archive's own structures, which come last.
                let reach = bytes.len() as u64 / (1 + chance.below(20));
                let at = bytes.len() - 1 - chance.below(reach) as usize;
                bytes[at] = chance.draw() as u8;
            }
            let checksum = crc32c::crc32c(&bytes[offset_of!(ChunkHeader, index)..]);
            bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
            refused += usize::from(Chunk::verify(&bytes, 0, Zxid(7), &ChunkPlace { checksum, ..whole }).is_err());
        }
        assert!(refused > 200, "{refused}");
    }

    #[test]
    fn the_end_finds_the_manifest_and_nothing_else_does() {
        let place = ChunkPlace { at: 0, bytes: 4000, nodes: 5, checksum: 1 };
        let manifest = manifest(vec![place]);
        let end = encode_end(&manifest, 4096);
        let file_bytes = 4096 + end.len() as u64;
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
}
