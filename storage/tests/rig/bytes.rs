//! What the tests know about the bytes of a log, all in one place. The format itself: `storage/src/log`.

use std::path::PathBuf;

use super::{DIRECTORY, SharedDisk};

pub const BLOCK: usize = 4096;
pub const MARK_AT: usize = BLOCK;
pub const FIRST_BATCH_AT: usize = 2 * BLOCK;
pub const BATCH_HEADER_BYTES: usize = 96;
const BATCH_MAGIC: &[u8] = b"rkbatch\n";

pub fn segment(id: u64) -> PathBuf {
    PathBuf::from(format!("{DIRECTORY}/log-{id:016x}.seg"))
}

pub fn segment_name(id: u64) -> String {
    format!("log-{id:016x}.seg")
}

pub fn snapshot(zxid: u64) -> PathBuf {
    PathBuf::from(format!("{DIRECTORY}/snapshot-{zxid:016x}.rks"))
}

/// Where a batch lies and what its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchAt {
    pub segment: u64,
    pub at: usize,
    /// Header and records, without the padding.
    pub bytes: usize,
    pub sequence: u64,
    pub last_zxid: u64,
    pub previous_zxid: u64,
    /// Up to which batch the log was stable when this one was sealed.
    pub durable_sequence: u64,
}

impl BatchAt {
    pub fn padded_bytes(&self) -> usize {
        self.bytes.next_multiple_of(BLOCK)
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn batch_at(bytes: &[u8], at: usize) -> Option<BatchAt> {
    let header = bytes[at..].get(..BATCH_HEADER_BYTES).filter(|header| header.starts_with(BATCH_MAGIC))?;
    let records_bytes = u32::from_le_bytes(header[48..52].try_into().unwrap()) as usize;
    Some(BatchAt {
        segment: number(header, 16),
        at: number(header, 24) as usize,
        bytes: BATCH_HEADER_BYTES + records_bytes,
        sequence: number(header, 32),
        last_zxid: number(header, 64),
        previous_zxid: number(header, 72),
        durable_sequence: number(header, 88),
    })
}

/// The batches of one segment that belong there.
pub fn batches_in(disk: &SharedDisk, id: u64) -> Vec<BatchAt> {
    let bytes = disk.bytes(&segment(id));
    let blocks = (FIRST_BATCH_AT..bytes.len()).step_by(BLOCK);
    blocks.filter_map(|at| batch_at(&bytes, at).filter(|batch| (batch.segment, batch.at) == (id, at))).collect()
}

/// Every batch of the log, in order.
pub fn batches(disk: &SharedDisk) -> Vec<BatchAt> {
    segments(disk).into_iter().flat_map(|id| batches_in(disk, id)).collect()
}

pub fn segments(disk: &SharedDisk) -> Vec<u64> {
    let id = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.to_owned();
        u64::from_str_radix(name.strip_prefix("log-")?.strip_suffix(".seg")?, 16).ok()
    };
    disk.paths(".seg").into_iter().filter_map(id).collect()
}

/// Below which byte anything was ever written to a segment, as its mark says.
pub fn mark(disk: &SharedDisk, id: u64) -> usize {
    mark_in(&disk.bytes(&segment(id))).unwrap()
}

fn mark_in(bytes: &[u8]) -> Option<usize> {
    let mark = bytes.get(MARK_AT..MARK_AT + 32)?;
    mark.starts_with(b"rklogmrk").then(|| number(mark, 24) as usize)
}

/// Behind its mark a segment was never written in this life: that is why a start does not look there.
pub fn check_marks(disk: &SharedDisk, tag: &str) {
    for id in segments(disk) {
        let bytes = disk.bytes(&segment(id));
        let mark = mark_in(&bytes).unwrap_or_else(|| panic!("{tag}: segment {id} has no mark"));
        let blocks = (mark..bytes.len()).step_by(BLOCK);
        let beyond = blocks.filter_map(|at| batch_at(&bytes, at)).find(|batch| batch.segment == id);
        assert!(beyond.is_none(), "{tag}: segment {id} behind its mark: {beyond:?}");
    }
}
