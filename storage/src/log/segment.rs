//! A segment: a file of already-written blocks, its name, its header and its mark.
//!
//! `| header | mark | batch | batch | ... | what a former life left, or zeroes |`, the first two a block each. The mark says below
//! which byte anything of this life has ever been written; it is raised, and stable, before a batch goes beyond it. So a
//! start that looks for what once followed the end of the log need not read the whole segment to be sure. It also says how
//! far the log was stable when it was written: at a clean stop that is all of it.
//!
//! Header and mark also carry the id of the log: a random number that is drawn when a log begins, the same in all its segments
//! however often they are recycled. Every batch's checksum begins with it. Without it whoever chooses what transactions hold
//! could store blocks that, once their file is recycled, are taken for batches of its next life: all else that a batch has to
//! say of itself can be guessed. A crc is no cipher, and one batch together with its checksum gives away what the id adds to
//! it; but what a client gets to see are transactions, never a header, a mark or a checksum as they lie on the disk. A guess
//! is right once in 2^32.

use std::fmt;
use std::mem::{offset_of, size_of};
use std::path::{Path, PathBuf};

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::batch::{Durable, Link};
use crate::Zxid;
use crate::disk::{BLOCK_BYTES, Buffer};

/// Segments are numbered from 1 in the order they come into use; a number is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u64);

impl SegmentId {
    pub fn next(self) -> SegmentId {
        SegmentId(self.0 + 1)
    }

    pub fn file_name(self) -> String {
        format!("log-{:016x}.seg", self.0)
    }

    pub fn path(self, directory: &Path) -> PathBuf {
        directory.join(self.file_name())
    }

    /// Its name until every block of it is written.
    pub fn unfinished_path(self, directory: &Path) -> PathBuf {
        directory.join(format!("log-{:016x}.tmp", self.0))
    }

    pub fn parse(file_name: &str) -> Option<SegmentId> {
        let digits = file_name.strip_prefix("log-")?.strip_suffix(".seg")?;
        let id = SegmentId(u64::from_str_radix(digits, 16).ok()?);
        (id.0 > 0 && id.file_name() == file_name).then_some(id)
    }
}

/// Which log a segment is part of. Secret from everybody who cannot read the files themselves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LogId(pub u64);

impl LogId {
    /// crc32c of the id and these bytes.
    pub fn checksum(self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&self.0.to_le_bytes()), bytes)
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogId({self})")
    }
}

pub const MARK_AT: u64 = BLOCK_BYTES as u64;

/// The first batch lies behind the header's and the mark's block.
pub const FIRST_BATCH_AT: u64 = 2 * BLOCK_BYTES as u64;

pub const FORMAT_VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"rklogseg";

/// The first block of a segment; the rest of the block is zeroes. Stable before the segment gets its name.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    /// crc32c of everything after this field.
    checksum: U32,
    version: U32,
    segment: U64,
    /// 1 in the first segment of a log: then what its first batch follows is here, and not in a segment before it.
    starts_log: U64,
    base_sequence: U64,
    base_zxid: U64,
    log: U64,
}

const _: () = assert!(size_of::<Header>() == 56);
const CHECKED_FROM: usize = offset_of!(Header, version);

const MARK_MAGIC: [u8; 8] = *b"rklogmrk";

/// The second block of a segment; the rest of the block is zeroes. The only block that is ever written again: it fits a
/// sector, and when it cannot be read the whole segment is looked at instead.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct MarkBlock {
    magic: [u8; 8],
    /// crc32c of everything after this field.
    checksum: U32,
    reserved: U32,
    segment: U64,
    written_below: U64,
    durable_sequence: U64,
    durable_zxid: U64,
    /// Here too: a segment whose header is lost is still known to be of its log.
    log: U64,
}

const _: () = assert!(size_of::<MarkBlock>() == 56);
const MARK_CHECKED_FROM: usize = offset_of!(MarkBlock, reserved);

/// What a segment's mark says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// At this byte and behind it nothing of this life was ever written.
    pub written_below: u64,
    /// Of batches in this segment or before it: known to be on stable storage when the mark was written.
    pub durable: Durable,
}

/// What a segment's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    /// The log begins here, after this.
    First(Link),
    /// Continues the segment before it.
    Next,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    Damaged,
    Version(u32),
}

/// The first two blocks of a new segment.
pub fn encode_start(log: LogId, segment: SegmentId, kind: SegmentKind, mark: Mark) -> Buffer {
    let mut blocks = encode_header(log, segment, kind);
    blocks.extend_from_slice(&encode_mark(log, segment, mark));
    blocks
}

pub fn encode_mark(log: LogId, segment: SegmentId, Mark { written_below, durable }: Mark) -> Buffer {
    let mut mark = MarkBlock {
        magic: MARK_MAGIC,
        checksum: 0.into(),
        reserved: 0.into(),
        segment: segment.0.into(),
        written_below: written_below.into(),
        durable_sequence: durable.sequence.into(),
        durable_zxid: durable.zxid.0.into(),
        log: log.0.into(),
    };
    mark.checksum = crc32c::crc32c(&mark.as_bytes()[MARK_CHECKED_FROM..]).into();
    let mut block = Buffer::with_capacity(BLOCK_BYTES);
    block.extend_from_slice(mark.as_bytes());
    block.pad_to_block();
    block
}

/// None: the mark is damaged or another life's, so anything may have been written anywhere.
pub fn decode_mark(block: &[u8], segment: SegmentId) -> Option<(LogId, Mark)> {
    let (mark, _) = MarkBlock::ref_from_prefix(block).ok()?;
    let sound = mark.magic == MARK_MAGIC
        && mark.checksum.get() == crc32c::crc32c(&mark.as_bytes()[MARK_CHECKED_FROM..])
        && mark.segment.get() == segment.0;
    let durable = Durable { sequence: mark.durable_sequence.get(), zxid: Zxid(mark.durable_zxid.get()) };
    sound.then_some((LogId(mark.log.get()), Mark { written_below: mark.written_below.get(), durable }))
}

fn encode_header(log: LogId, segment: SegmentId, kind: SegmentKind) -> Buffer {
    let (starts_log, base) = match kind {
        SegmentKind::First(link) => (1, link),
        SegmentKind::Next => (0, Link::default()),
    };
    assert_eq!(base.checksum, 0, "a log begins without a batch before it");
    let mut header = Header {
        magic: MAGIC,
        checksum: 0.into(),
        version: FORMAT_VERSION.into(),
        segment: segment.0.into(),
        starts_log: starts_log.into(),
        base_sequence: base.sequence.into(),
        base_zxid: base.zxid.0.into(),
        log: log.0.into(),
    };
    header.checksum = crc32c::crc32c(&header.as_bytes()[CHECKED_FROM..]).into();
    let mut block = Buffer::with_capacity(BLOCK_BYTES);
    block.extend_from_slice(header.as_bytes());
    block.pad_to_block();
    block
}

/// Which segment a first block says it is of, whatever else is wrong with it: for a copy of a file under another name.
pub fn claimed_segment(block: &[u8]) -> Option<SegmentId> {
    let (header, _) = Header::ref_from_prefix(block).ok()?;
    (header.magic == MAGIC).then_some(SegmentId(header.segment.get()))
}

pub fn decode_header(block: &[u8], segment: SegmentId) -> Result<(LogId, SegmentKind), HeaderError> {
    let (header, _) = Header::ref_from_prefix(block).map_err(|_| HeaderError::Damaged)?;
    let sound = header.magic == MAGIC
        && header.checksum.get() == crc32c::crc32c(&header.as_bytes()[CHECKED_FROM..])
        && header.segment.get() == segment.0;
    let kind = match (sound, header.version.get(), header.starts_log.get()) {
        (false, _, _) => return Err(HeaderError::Damaged),
        (true, FORMAT_VERSION, 0) => SegmentKind::Next,
        (true, FORMAT_VERSION, 1) => SegmentKind::First(Link {
            sequence: header.base_sequence.get(),
            checksum: 0,
            zxid: Zxid(header.base_zxid.get()),
        }),
        (true, FORMAT_VERSION, _) => return Err(HeaderError::Damaged),
        (true, version, _) => return Err(HeaderError::Version(version)),
    };
    Ok((LogId(header.log.get()), kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_exactly() {
        assert_eq!(SegmentId::parse("log-00000000000000ff.seg"), Some(SegmentId(255)));
        for stranger in
            ["log-ff.seg", "log-00000000000000FF.seg", "log-0000000000000000.seg", "log-00000000000000ff.tmp"]
        {
            assert_eq!(SegmentId::parse(stranger), None, "{stranger}");
        }
    }

    #[test]
    fn a_header_is_its_own_or_nobodys() {
        let first = SegmentKind::First(Link { sequence: 9, checksum: 0, zxid: Zxid(77) });
        let log = LogId(0x0123_4567_89ab_cdef);
        let block = encode_header(log, SegmentId(5), first);
        assert_eq!(decode_header(&block, SegmentId(5)), Ok((log, first)));
        assert_eq!(decode_header(&block, SegmentId(6)), Err(HeaderError::Damaged));
        for bit in 0..size_of::<Header>() * 8 {
            let mut damaged = block.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_header(&damaged, SegmentId(5)), Err(HeaderError::Damaged), "bit {bit}");
        }
        let says = Mark { written_below: 1 << 20, durable: Durable { sequence: 3, zxid: Zxid(9) } };
        let mark = encode_mark(log, SegmentId(5), says);
        assert_eq!(decode_mark(&mark, SegmentId(5)), Some((log, says)));
        assert_eq!(decode_mark(&mark, SegmentId(6)), None);
        for bit in 0..size_of::<MarkBlock>() * 8 {
            let mut damaged = mark.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_mark(&damaged, SegmentId(5)), None, "bit {bit}");
        }
        let mut newer = block.to_vec();
        newer[12] = 2;
        let checksum = crc32c::crc32c(&newer[CHECKED_FROM..size_of::<Header>()]);
        newer[8..12].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(decode_header(&newer, SegmentId(5)), Err(HeaderError::Version(2)));
    }
}
