//! A chunk: some nodes, each an archive of its own, so that one can be checked and read without the others.
//!
//! ```text
//! | ChunkHeader 64 bytes | directory: (slot, offset) of each node, by slot | NodeImage | NodeImage | ... | zeroes to a block |
//!                                                                            each as rkyv lays it out, 8 aligned
//! ```
//!
//! The checksum is verified when a chunk is first touched, in full, before any of its nodes is handed out. It covers the
//! chunk's number and its snapshot's zxid: chunks do not pass for one another. A node's archive is checked each time it is
//! accessed, which for one node is a matter of nanoseconds.

use std::mem::{offset_of, size_of};
use std::ops::Range;

use rkyv::rancor;
use rkyv::ser::{Positional, Writer};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::image::{ArchivedNodeImage, SnapshotChunk};
use super::source::NodeRef;
use crate::Zxid;
use crate::disk::{BLOCK_BYTES, Buffer};

const MAGIC: [u8; 8] = *b"rkchunk\n";

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct ChunkHeader {
    magic: [u8; 8],
    /// crc32c of everything after this field, archives included.
    checksum: U32,
    index: U32,
    snapshot_zxid: U64,
    /// Header, directory and archives, without the padding.
    bytes: U64,
    node_count: U32,
    first_slot: U32,
    end_slot: U32,
    /// 1: nodes that went ahead of the walk.
    extra: U32,
    reserved: [u8; 16],
}

pub const CHUNK_HEADER_BYTES: usize = size_of::<ChunkHeader>();
const _: () = assert!(CHUNK_HEADER_BYTES == 64);

/// Where in its chunk a node is. It ends where the next begins.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Entry {
    slot: U32,
    offset: U32,
}

const ENTRY_BYTES: usize = size_of::<Entry>();
const _: () = assert!(ENTRY_BYTES == 8); // keeps the archives behind the directory aligned

/// Where a chunk lies and what it holds, as the manifest keeps it.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ChunkPlace {
    pub at: u64,
    /// Header, directory and archives, without the padding.
    pub bytes: u32,
    pub nodes: u32,
    /// Of the walk: the slots it settles. Of an extra chunk: a range around its slots.
    pub first_slot: u32,
    pub end_slot: u32,
    pub extra: bool,
    pub checksum: u32,
}

impl ChunkPlace {
    pub fn slots(&self) -> Range<u32> {
        self.first_slot..self.end_slot
    }

    /// Its bytes in the file.
    pub fn range(&self) -> Range<usize> {
        self.at as usize..self.at as usize + self.bytes as usize
    }
}

/// Lets rkyv write behind what a buffer already holds.
pub(super) struct Archive<'a> {
    pub buffer: &'a mut Buffer,
    pub base: usize,
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
///
/// # Panics
/// When the chunk is larger than 4 GiB, or its nodes are not in the order of their slots.
pub fn encode(index: u32, zxid: Zxid, chunk: &SnapshotChunk, buffer: &mut Buffer) -> ChunkPlace {
    let nodes = &chunk.nodes;
    assert!(nodes.is_sorted_by(|a, b| a.slot < b.slot), "nodes of a chunk in the order of their slots");
    buffer.clear();
    buffer.resize(CHUNK_HEADER_BYTES + nodes.len() * ENTRY_BYTES);
    for (nth, node) in nodes.iter().enumerate() {
        let base = buffer.len();
        debug_assert!(base.is_multiple_of(align_of::<ArchivedNodeImage>()));
        let entry = Entry { slot: node.slot.into(), offset: offset(base).into() };
        let at = CHUNK_HEADER_BYTES + nth * ENTRY_BYTES;
        buffer[at..at + ENTRY_BYTES].copy_from_slice(entry.as_bytes());
        rkyv::api::high::to_bytes_in::<_, rancor::Panic>(node, Archive { buffer, base }).expect("writing to memory");
    }
    let around = || nodes.first().map_or(0..0, |first| first.slot..nodes[nodes.len() - 1].slot + 1);
    let slots = chunk.slots.clone().unwrap_or_else(around);
    let header = ChunkHeader {
        magic: MAGIC,
        checksum: 0.into(),
        index: index.into(),
        snapshot_zxid: zxid.0.into(),
        bytes: (buffer.len() as u64).into(),
        node_count: (nodes.len() as u32).into(),
        first_slot: slots.start.into(),
        end_slot: slots.end.into(),
        extra: u32::from(chunk.slots.is_none()).into(),
        reserved: [0; 16],
    };
    buffer[..CHUNK_HEADER_BYTES].copy_from_slice(header.as_bytes());
    let checksum = checksum(buffer);
    let field = offset_of!(ChunkHeader, checksum);
    buffer[field..field + 4].copy_from_slice(&checksum.to_le_bytes());
    let place = ChunkPlace {
        at: 0,
        bytes: offset(buffer.len()),
        nodes: nodes.len() as u32,
        first_slot: slots.start,
        end_slot: slots.end,
        extra: chunk.slots.is_none(),
        checksum,
    };
    buffer.pad_to_block();
    place
}

fn offset(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a chunk of less than 4 GiB")
}

fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(&bytes[offset_of!(ChunkHeader, index)..])
}

/// A chunk whose checksum and directory were verified, borrowing the very bytes.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    bytes: &'a [u8],
    entries: &'a [Entry],
}

impl<'a> Chunk<'a> {
    /// `bytes` is what `place` names, from the beginning of a block in memory.
    pub fn verify(bytes: &'a [u8], index: u32, zxid: Zxid, place: &ChunkPlace) -> Result<Chunk<'a>, String> {
        let wrong = |why: &str| format!("chunk {index} at byte {}: {why}", place.at);
        let (header, _) = ChunkHeader::ref_from_prefix(bytes).map_err(|_| wrong("the file ends"))?;
        let checksum = checksum(bytes);
        if header.checksum.get() != checksum || place.checksum != checksum {
            return Err(wrong("checksum mismatch"));
        }
        let own = header.magic == MAGIC && header.index.get() == index && header.snapshot_zxid.get() == zxid.0;
        let as_placed = header.bytes.get() == bytes.len() as u64
            && header.node_count.get() == place.nodes
            && (header.first_slot.get()..header.end_slot.get()) == place.slots()
            && header.extra.get() == u32::from(place.extra);
        if !own || !as_placed {
            return Err(wrong("bytes of another chunk"));
        }
        let chunk = Chunk::verified_before(bytes, place).ok_or_else(|| wrong("its directory is longer than itself"))?;
        let archives = CHUNK_HEADER_BYTES + chunk.entries.len() * ENTRY_BYTES;
        let offsets = chunk.entries.iter().map(|entry| entry.offset.get() as usize);
        let in_order = offsets.clone().is_sorted_by(|a, b| a < b)
            && offsets.clone().all(|at| at >= archives && at < bytes.len() && at.is_multiple_of(8))
            && chunk.slots().is_sorted_by(|a, b| a < b)
            && chunk.slots().all(|slot| place.slots().contains(&slot));
        if in_order { Ok(chunk) } else { Err(wrong("its directory makes no sense")) }
    }

    /// The same once more, when the bytes were verified earlier.
    pub fn verified_before(bytes: &'a [u8], place: &ChunkPlace) -> Option<Chunk<'a>> {
        let rest = bytes.get(CHUNK_HEADER_BYTES..)?;
        let (entries, _) = <[Entry]>::ref_from_prefix_with_elems(rest, place.nodes as usize).ok()?;
        Some(Chunk { bytes, entries })
    }

    pub fn slots(&self) -> impl Iterator<Item = u32> + Clone + use<'a> {
        self.entries.iter().map(|entry| entry.slot.get())
    }

    pub fn find(&self, slot: u32) -> Option<usize> {
        // Slots only grow, so an entry is never behind the place it has when none before it is missing: mostly it is there.
        let first = self.entries.first()?.slot.get();
        let likely = (slot.checked_sub(first)? as usize).min(self.entries.len() - 1);
        if self.entries[likely].slot.get() == slot {
            return Some(likely);
        }
        self.entries[..likely].binary_search_by_key(&slot, |entry| entry.slot.get()).ok()
    }

    pub fn node(&self, nth: usize) -> Result<NodeRef<'a>, String> {
        let Entry { slot, offset } = self.entries[nth];
        let end = self.entries.get(nth + 1).map_or(self.bytes.len(), |next| next.offset.get() as usize);
        let archive = self.bytes.get(offset.get() as usize..end).ok_or("its directory changed")?;
        let node = rkyv::api::low::access::<ArchivedNodeImage, rancor::Error>(archive)
            .map_err(|error| format!("node in slot {slot}: {error}"))?;
        if node.slot != slot.get() {
            return Err(format!("node in slot {slot}: it says that it is in {}", node.slot));
        }
        Ok(node.into())
    }

    pub fn nodes(self) -> impl Iterator<Item = Result<NodeRef<'a>, String>> {
        (0..self.entries.len()).map(move |nth| self.node(nth))
    }
}

impl<'a> From<&'a ArchivedNodeImage> for NodeRef<'a> {
    fn from(node: &'a ArchivedNodeImage) -> NodeRef<'a> {
        NodeRef {
            slot: node.slot.to_native(),
            parent: node.parent.to_native(),
            first_child: node.first_child.to_native(),
            next_sibling: node.next_sibling.to_native(),
            prev_sibling: node.prev_sibling.to_native(),
            child_count: node.child_count.to_native(),
            content_crc: node.content_crc.to_native(),
            name: node.name.as_str(),
            data: node.data.as_ref().map(|data| data.as_slice()),
            acl: node.acl.to_native(),
            czxid: node.czxid.to_native(),
            mzxid: node.mzxid.to_native(),
            pzxid: node.pzxid.to_native(),
            ctime: node.ctime.to_native(),
            mtime: node.mtime.to_native(),
            version: node.version.to_native(),
            cversion: node.cversion.to_native(),
            aversion: node.aversion.to_native(),
            ephemeral_owner: node.ephemeral_owner.to_native(),
        }
    }
}

/// The number of the chunk that a block says it begins, and where it says that lies. Nothing of it is checked.
pub fn claimed_place(block: &[u8], at: u64) -> Option<(u32, ChunkPlace)> {
    let (header, _) = ChunkHeader::ref_from_prefix(block).ok()?;
    let bytes = u32::try_from(header.bytes.get()).ok()?;
    let place = ChunkPlace {
        at,
        bytes,
        nodes: header.node_count.get(),
        first_slot: header.first_slot.get(),
        end_slot: header.end_slot.get(),
        extra: header.extra.get() == 1,
        checksum: header.checksum.get(),
    };
    (header.magic == MAGIC).then_some((header.index.get(), place))
}

/// What a chunk's bytes occupy in the file.
pub fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK_BYTES as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::memory::Chance;
    use crate::snapshot::image::{NO_SLOT, NodeImage};

    fn node(slot: u32) -> NodeImage {
        NodeImage {
            slot,
            parent: 0,
            first_child: NO_SLOT,
            next_sibling: NO_SLOT,
            prev_sibling: NO_SLOT,
            child_count: 0,
            content_crc: 0,
            name: format!("name-{slot}").into(),
            data: (slot > 2).then(|| vec![slot as u8; 300]),
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

    fn encoded(slots: &[u32], buffer: &mut Buffer) -> (SnapshotChunk, ChunkPlace) {
        let chunk = SnapshotChunk { slots: Some(0..50), nodes: slots.iter().map(|slot| node(*slot)).collect() };
        let place = encode(3, Zxid(7), &chunk, buffer);
        (chunk, place)
    }

    #[test]
    fn a_chunk_passes_only_for_itself() {
        let mut buffer = Buffer::with_capacity(1);
        let (chunk, place) = encoded(&[0, 1, 2, 3, 4, 17, 30, 49], &mut buffer);
        let bytes = &buffer[..place.bytes as usize];
        let verified = Chunk::verify(bytes, 3, Zxid(7), &place).unwrap();
        let back: Vec<_> = verified.nodes().map(|node| node.unwrap().to_image()).collect();
        assert_eq!(back, chunk.nodes);
        for slot in 0..60 {
            let found = verified.find(slot).map(|nth| verified.node(nth).unwrap().slot);
            assert_eq!(found, chunk.nodes.iter().any(|node| node.slot == slot).then_some(slot));
        }
        assert!(Chunk::verify(bytes, 4, Zxid(7), &place).is_err());
        assert!(Chunk::verify(bytes, 3, Zxid(8), &place).is_err());
        assert!(Chunk::verify(&bytes[..bytes.len() - 1], 3, Zxid(7), &place).is_err());
        for other in [
            ChunkPlace { nodes: 4, ..place.clone() },
            ChunkPlace { first_slot: 1, ..place.clone() },
            ChunkPlace { extra: true, ..place.clone() },
        ] {
            assert!(Chunk::verify(bytes, 3, Zxid(7), &other).is_err());
        }
    }

    #[test]
    fn bytes_with_a_right_checksum_and_no_sense_are_an_error_not_a_panic() {
        // As if a faulty program had written them: the checks of directory and layout have to hold on their own.
        let mut buffer = Buffer::with_capacity(1);
        let (chunk, whole) = encoded(&[0, 1, 2, 3, 4, 17, 30, 49], &mut buffer);
        let mut chance = Chance(1);
        let (mut directory, mut nodes, mut harmless) = (0, 0, 0);
        for _ in 0..20_000 {
            let mut bytes = Buffer::with_capacity(1);
            bytes.extend_from_slice(&buffer[..whole.bytes as usize]);
            for _ in 0..=chance.below(3) {
                let in_directory = chance.below(4) == 0;
                let reach = if in_directory { 64 } else { bytes.len() as u64 - 64 };
                let at = CHUNK_HEADER_BYTES + chance.below(reach) as usize;
                bytes[at] = chance.draw() as u8;
            }
            let checksum = checksum(&bytes);
            bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
            match Chunk::verify(&bytes, 3, Zxid(7), &ChunkPlace { checksum, ..whole.clone() }) {
                Err(_) => directory += 1,
                Ok(verified) => {
                    let read: Vec<_> = verified.nodes().map(|node| node.map(|node| node.to_image())).collect();
                    nodes += usize::from(read.iter().any(Result::is_err));
                    harmless += usize::from(read.into_iter().eq(chunk.nodes.iter().cloned().map(Ok)));
                }
            }
        }
        assert!(directory > 2000 && nodes > 500 && harmless > 100, "{directory} {nodes} {harmless}");
    }
}
