//! A batch: the unit that is written, checked, and kept or lost as a whole.
//!
//! Little-endian like every number at rest. The header is followed by `record_count` records, each
//! `| zxid u64 | length u32 | payload |`, and zeroes up to the next block.

use std::mem::{offset_of, size_of};

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::segment::{LogId, SegmentId};
use crate::Zxid;
use crate::disk::{BLOCK_BYTES, Buffer};
use crate::error::Damage;
use crate::probe;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct BatchHeader {
    magic: [u8; 8],
    /// crc32c of the log's id, which is not in the batch, and of everything after this field, records included.
    checksum: U32,
    kind: U16,
    reserved: U16,
    /// Names the file, and `at` the place in it: a misdirected or left-over batch fails its own checksum's claims.
    segment: U64,
    at: U64,
    /// Counts batches over the whole life of the log.
    sequence: U64,
    previous_checksum: U32,
    record_count: U32,
    records_bytes: U32,
    /// Running numbers that a truncation gave up between the batch before and this one; 0 but in a cut.
    given_up: U32,
    first_zxid: U64,
    last_zxid: U64,
    /// The last zxid before this batch: a log that begins here covers a snapshot from there on.
    previous_zxid: U64,
    /// Known to be on stable storage when this batch was sealed. What proves that damage before it is a loss.
    durable_zxid: U64,
    durable_sequence: U64,
}

pub const HEADER_BYTES: usize = size_of::<BatchHeader>();
const _: () = assert!(HEADER_BYTES == 96);

const MAGIC: [u8; 8] = *b"rkbatch\n";
const KIND_RECORDS: u16 = 1;
/// No records: everything after this place was cut off on purpose. Its running number is above that of every batch that was
/// ever written before, so whatever says how far the log was once stable is content again.
const KIND_CUT: u16 = 2;
const CHECKED_FROM: usize = offset_of!(BatchHeader, kind);

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RecordHeader {
    zxid: U64,
    payload_bytes: U32,
}

pub const RECORD_HEADER_BYTES: usize = size_of::<RecordHeader>();
const _: () = assert!(RECORD_HEADER_BYTES == 12);

/// Where a chain of batches stands: all that the next batch has to match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Of the last batch; 0 before the first.
    pub sequence: u64,
    pub checksum: u32,
    pub zxid: Zxid,
}

/// What was stable when a batch was sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durable {
    pub sequence: u64,
    pub zxid: Zxid,
}

/// A batch being filled.
#[derive(Debug)]
pub struct OpenBatch {
    buffer: Buffer,
    records: u32,
    first: Zxid,
    last: Zxid,
}

impl OpenBatch {
    /// Takes the memory over; whatever it held is gone.
    pub fn new(mut buffer: Buffer) -> OpenBatch {
        buffer.clear();
        buffer.resize(HEADER_BYTES);
        OpenBatch { buffer, records: 0, first: Zxid::ZERO, last: Zxid::ZERO }
    }

    /// What a record of this size adds.
    pub fn cost_bytes(payload_bytes: usize) -> usize {
        RECORD_HEADER_BYTES + payload_bytes
    }

    pub fn filled_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// As it will be written.
    pub fn padded_bytes(&self) -> u64 {
        self.buffer.len().next_multiple_of(BLOCK_BYTES) as u64
    }

    pub fn records(&self) -> u32 {
        self.records
    }

    pub fn push(&mut self, zxid: Zxid, payload: &[u8]) {
        let payload_bytes = u32::try_from(payload.len()).expect("a record is bounded by jute.maxbuffer");
        if self.records == 0 {
            self.first = zxid;
        }
        self.last = zxid;
        self.records += 1;
        let header = RecordHeader { zxid: zxid.0.into(), payload_bytes: payload_bytes.into() };
        self.buffer.extend_from_slice(header.as_bytes());
        self.buffer.extend_from_slice(payload);
    }

    /// Closes the batch for its place in the log. Returns the padded bytes and the link for the batch after it.
    pub fn seal(self, log: LogId, segment: SegmentId, at: u64, after: Link, durable: Durable) -> (Buffer, Link) {
        assert!(self.records > 0, "a batch without records");
        self.seal_as((KIND_RECORDS, 0), log, segment, at, after, durable)
    }

    fn seal_as(
        mut self,
        (kind, given_up): (u16, u32),
        log: LogId,
        segment: SegmentId,
        at: u64,
        after: Link,
        durable: Durable,
    ) -> (Buffer, Link) {
        let filled = self.buffer.len();
        let records_bytes = u32::try_from(filled - HEADER_BYTES).expect("a batch is bounded");
        let sequence = after.sequence + 1 + u64::from(given_up);
        let header = BatchHeader {
            magic: MAGIC,
            checksum: 0.into(),
            kind: kind.into(),
            reserved: 0.into(),
            segment: segment.0.into(),
            at: at.into(),
            sequence: sequence.into(),
            previous_checksum: after.checksum.into(),
            record_count: self.records.into(),
            records_bytes: records_bytes.into(),
            given_up: given_up.into(),
            first_zxid: self.first.0.into(),
            last_zxid: self.last.0.into(),
            previous_zxid: after.zxid.0.into(),
            durable_zxid: durable.zxid.0.into(),
            durable_sequence: durable.sequence.into(),
        };
        self.buffer[..HEADER_BYTES].copy_from_slice(header.as_bytes());
        let checksum = log.checksum(&self.buffer[CHECKED_FROM..filled]);
        let field = offset_of!(BatchHeader, checksum);
        self.buffer[field..field + 4].copy_from_slice(&checksum.to_le_bytes());
        self.buffer.pad_to_block();
        debug_assert!(Batch::decode(&self.buffer, log, segment, at).is_ok()); // what we write, we can read
        (self.buffer, Link { sequence, checksum, zxid: self.last })
    }
}

/// A cut: the log goes on here after `after`, and every running number up to `last_sequence` is used up.
pub fn seal_cut(log: LogId, segment: SegmentId, at: u64, after: Link, last_sequence: u64) -> (Buffer, Link) {
    let given_up = u32::try_from(last_sequence.saturating_sub(after.sequence)).expect("a log of fewer batches");
    let batch = OpenBatch { first: after.zxid, last: after.zxid, ..OpenBatch::new(Buffer::with_capacity(BLOCK_BYTES)) };
    let durable = Durable { sequence: after.sequence, zxid: after.zxid };
    batch.seal_as((KIND_CUT, given_up), log, segment, at, after, durable)
}

impl BatchHeader {
    /// Looks at the first bytes of a block. Proves nothing yet but how many bytes `Batch::decode` wants to see.
    pub fn padded_bytes(block: &[u8]) -> Result<u64, Damage> {
        let Ok((header, _)) = BatchHeader::ref_from_prefix(block) else {
            return Err(Damage::Missing);
        };
        if header.magic != MAGIC {
            return Err(if block.iter().all(|byte| *byte == 0) { Damage::Zeroes } else { Damage::NotABatch });
        }
        Ok((HEADER_BYTES as u64 + u64::from(header.records_bytes.get())).next_multiple_of(BLOCK_BYTES as u64))
    }

    /// Whether a block says that it is a batch of this place in this life of the file, be it whole or not. What a former life
    /// left behind says otherwise, unless somebody meant it to: only the checksum knows.
    pub fn claims(block: &[u8], segment: SegmentId, at: u64) -> bool {
        BatchHeader::ref_from_prefix(block).is_ok_and(|(header, _)| {
            header.magic == MAGIC && header.segment.get() == segment.0 && header.at.get() == at
        })
    }
}

/// A batch of this log whose checksum is right, borrowing the very bytes that were checked.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    header: &'a BatchHeader,
    records: &'a [u8],
}

impl<'a> Batch<'a> {
    /// `bytes` begins at `at` of `segment` and holds at least what `BatchHeader::padded_bytes` asked for.
    pub fn decode(bytes: &'a [u8], log: LogId, segment: SegmentId, at: u64) -> Result<Batch<'a>, Damage> {
        BatchHeader::padded_bytes(bytes)?;
        let (header, rest) = BatchHeader::ref_from_prefix(bytes).map_err(|_| Damage::Missing)?;
        let records = rest.get(..header.records_bytes.get() as usize).ok_or(Damage::Length)?;
        let computed = log.checksum(&bytes[CHECKED_FROM..HEADER_BYTES + records.len()]);
        if computed != header.checksum.get() && !probe::broken("a torn batch passes for a whole one") {
            return Err(Damage::Checksum);
        }
        let known = matches!(header.kind.get(), KIND_RECORDS | KIND_CUT);
        if header.segment.get() != segment.0 || header.at.get() != at || !known {
            return Err(Damage::ForeignSegment);
        }
        Ok(Batch { header, records })
    }

    /// Whether this is the batch that comes next.
    pub fn follows(&self, link: Link) -> bool {
        self.link_before() == link
    }

    pub fn is_cut(&self) -> bool {
        self.header.kind.get() == KIND_CUT
    }

    /// What this batch says it follows.
    pub fn link_before(&self) -> Link {
        Link {
            sequence: self.header.sequence.get().saturating_sub(1 + u64::from(self.header.given_up.get())),
            checksum: self.header.previous_checksum.get(),
            zxid: Zxid(self.header.previous_zxid.get()),
        }
    }

    pub fn link_after(&self) -> Link {
        Link {
            sequence: self.header.sequence.get(),
            checksum: self.header.checksum.get(),
            zxid: Zxid(self.header.last_zxid.get()),
        }
    }

    pub fn durable(&self) -> Durable {
        Durable { sequence: self.header.durable_sequence.get(), zxid: Zxid(self.header.durable_zxid.get()) }
    }

    /// Header and records, without the padding.
    pub fn filled_bytes(&self) -> u64 {
        (HEADER_BYTES + self.records.len()) as u64
    }

    pub fn first_zxid(&self) -> Zxid {
        Zxid(self.header.first_zxid.get())
    }

    /// As its header tells.
    pub fn record_count(&self) -> u32 {
        self.header.record_count.get()
    }

    pub fn padded_bytes(&self) -> u64 {
        (HEADER_BYTES + self.records.len()).next_multiple_of(BLOCK_BYTES) as u64
    }

    /// Checks what the header says about its records. A failure under a right checksum was written by a faulty program.
    pub fn check_records(&self) -> Result<u32, Damage> {
        if self.is_cut() {
            let empty = self.records.is_empty() && self.header.last_zxid == self.header.previous_zxid;
            return if empty { Ok(0) } else { Err(Damage::Records) };
        }
        let (mut count, mut last) = (0u32, self.header.previous_zxid.get());
        for (zxid, _) in self.records() {
            if zxid.0 <= last || (count == 0 && zxid.0 != self.header.first_zxid.get()) {
                return Err(Damage::Records);
            }
            last = zxid.0;
            count += 1;
        }
        let consumed: usize = self.records().map(|(_, payload)| RECORD_HEADER_BYTES + payload.len()).sum();
        let told = count == self.header.record_count.get()
            && last == self.header.last_zxid.get()
            && self.header.given_up.get() == 0;
        if told && count > 0 && consumed == self.records.len() { Ok(count) } else { Err(Damage::Records) }
    }

    /// In the order they were appended; ends early where the records make no sense (`check_records` tells).
    pub fn records(&self) -> impl Iterator<Item = (Zxid, &'a [u8])> + use<'a> {
        self.placed_records().map(|(_, zxid, payload)| (zxid, payload))
    }

    /// The same, each with the place of its header, counted from the batch's.
    pub fn placed_records(&self) -> impl Iterator<Item = (u64, Zxid, &'a [u8])> + use<'a> {
        let (mut rest, whole) = (self.records, self.records.len());
        std::iter::from_fn(move || {
            let at = HEADER_BYTES + whole - rest.len();
            let (header, after) = RecordHeader::ref_from_prefix(rest).ok()?;
            let payload = after.get(..header.payload_bytes.get() as usize)?;
            rest = &after[payload.len()..];
            Some((at as u64, Zxid(header.zxid.get()), payload))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: LogId = LogId(0x0123_4567_89ab_cdef);

    fn sealed() -> (Buffer, Link) {
        let mut batch = OpenBatch::new(Buffer::with_capacity(8192));
        batch.push(Zxid(11), b"first");
        batch.push(Zxid(12), b"");
        batch.push(Zxid(15), &[9; 5000]);
        let after = Link { sequence: 4, checksum: 77, zxid: Zxid(10) };
        batch.seal(LOG, SegmentId(3), 8192, after, Durable { sequence: 3, zxid: Zxid(9) })
    }

    #[test]
    fn what_is_written_can_be_read() {
        let (bytes, link) = sealed();
        assert_eq!(bytes.len(), 8192);
        let batch = Batch::decode(&bytes, LOG, SegmentId(3), 8192).unwrap();
        assert_eq!(batch.link_after(), link);
        assert_eq!(batch.durable(), Durable { sequence: 3, zxid: Zxid(9) });
        assert_eq!(batch.check_records(), Ok(3));
        let records: Vec<_> = batch.records().map(|(zxid, payload)| (zxid.0, payload.len())).collect();
        assert_eq!(records, [(11, 5), (12, 0), (15, 5000)]);
        assert!(batch.follows(Link { sequence: 4, checksum: 77, zxid: Zxid(10) }));
        assert!(!batch.follows(Link { sequence: 4, checksum: 78, zxid: Zxid(10) }));
        assert!(!batch.follows(Link { sequence: 5, checksum: 77, zxid: Zxid(10) }));
    }

    #[test]
    fn a_cut_uses_up_every_number_before_it() {
        let after = Link { sequence: 4, checksum: 77, zxid: Zxid(10) };
        let (bytes, link) = seal_cut(LOG, SegmentId(3), 8192, after, 9);
        let cut = Batch::decode(&bytes, LOG, SegmentId(3), 8192).unwrap();
        assert_eq!((link.sequence, link.zxid, cut.link_after()), (10, Zxid(10), link));
        assert!(cut.is_cut() && cut.follows(after) && !cut.follows(Link { sequence: 9, ..after }));
        assert_eq!((cut.check_records(), cut.records().count()), (Ok(0), 0));
        assert!(BatchHeader::claims(&bytes, SegmentId(3), 8192) && !BatchHeader::claims(&bytes, SegmentId(2), 8192));
    }

    #[test]
    fn every_flipped_bit_of_header_and_records_is_noticed() {
        let (bytes, _) = sealed();
        let filled = HEADER_BYTES + 3 * RECORD_HEADER_BYTES + 5005;
        for at in (0..HEADER_BYTES + 64).chain((HEADER_BYTES + 64..filled).step_by(97)) {
            for bit in 0..8 {
                let mut damaged = bytes.to_vec();
                damaged[at] ^= 1 << bit;
                assert!(Batch::decode(&damaged, LOG, SegmentId(3), 8192).is_err(), "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn a_batch_passes_only_in_its_own_place() {
        let (bytes, _) = sealed();
        for bit in 0..64 {
            let other = LogId(LOG.0 ^ 1 << bit);
            assert_eq!(Batch::decode(&bytes, other, SegmentId(3), 8192).unwrap_err(), Damage::Checksum, "{other}");
        }
        assert_eq!(Batch::decode(&bytes, LOG, SegmentId(4), 8192).unwrap_err(), Damage::ForeignSegment);
        assert_eq!(Batch::decode(&bytes, LOG, SegmentId(3), 4096).unwrap_err(), Damage::ForeignSegment);
        assert_eq!(Batch::decode(&[0; 4096], LOG, SegmentId(3), 4096).unwrap_err(), Damage::Zeroes);
        assert_eq!(Batch::decode(&bytes[..4096], LOG, SegmentId(3), 8192).unwrap_err(), Damage::Length);
    }
}
