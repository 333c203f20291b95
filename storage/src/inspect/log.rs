//! A log segment from front to back.
//!
//! `open` -> `start`: header and mark -> `next_piece`, again and again: a whole batch, a damaged one, zeroes, or what is none of
//! these. Behind damage the next batch is looked for block by block, so that a broken length hides nothing. Memory: one batch,
//! or one window.

use std::path::{Path, PathBuf};

use crate::Zxid;
use crate::disk::{BLOCK_BYTES, Disk, Ids};
use crate::error::{Damage, StoreError};
use crate::log::batch::{Batch, BatchHeader};
use crate::log::recover::{Judgement, Loss, Scan, logs_named, read_batch, scan};
use crate::log::segment::{
    FIRST_BATCH_AT, HeaderError, LogId, MARK_AT, Mark, SegmentId, SegmentKind, claimed_segment, decode_header,
    decode_mark,
};
use crate::read::{Reader, WHOLE_FILE_WINDOW_BYTES};

const BLOCK: u64 = BLOCK_BYTES as u64;
static ZEROES: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// What the first two blocks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentStart {
    /// By the file's name; by the header where the name is not a segment's.
    pub id: SegmentId,
    /// By the header or the mark; where both are damaged, by another segment of the directory. None: no batch can be checked.
    pub log: Option<LogId>,
    pub header: Result<SegmentKind, HeaderError>,
    /// None: the mark is damaged.
    pub mark: Option<Mark>,
}

/// A stretch of a segment.
#[derive(Debug)]
pub enum Piece<'a> {
    /// Its checksum is right, and it is in its place. What it says about its records is not checked yet.
    Batch {
        at: u64,
        batch: Batch<'a>,
    },
    Zeroes {
        at: u64,
        bytes: u64,
    },
    /// Something that says it is a batch of this segment and place, and is not whole.
    Damaged {
        at: u64,
        bytes: u64,
        why: Damage,
    },
    /// No batch of this segment: what a former life of the file left, or what damage made of a batch. Only what follows, or what
    /// a start finds out, tells one from the other.
    Foreign {
        at: u64,
        bytes: u64,
    },
}

#[derive(Debug)]
pub struct SegmentReader<D: Disk> {
    disk: D,
    reader: Reader,
    start: SegmentStart,
    at: u64,
}

impl<D: Disk> SegmentReader<D> {
    /// Fails when reading does, never because of what was read.
    pub fn open(mut disk: D, path: PathBuf, file_bytes: u64) -> Result<SegmentReader<D>, StoreError> {
        let named = path.file_name().and_then(|name| SegmentId::parse(&name.to_string_lossy()));
        let mut ids = Ids::default();
        let mut reader = Reader::open(&mut disk, &mut ids, path, file_bytes, false, WHOLE_FILE_WINDOW_BYTES)?;
        let block = reader.get(&mut disk, 0, BLOCK)?;
        let id = named.or_else(|| claimed_segment(block)).unwrap_or(SegmentId(0));
        let header = decode_header(block, id);
        let mark = decode_mark(reader.get(&mut disk, MARK_AT, BLOCK)?, id);
        let own = header.ok().map(|(log, _)| log).or(mark.map(|(log, _)| log));
        let log = match own {
            Some(log) => Some(log),
            None => {
                let directory = reader.path().parent().filter(|parent| !parent.as_os_str().is_empty());
                let named = logs_named(&mut disk, &mut ids, directory.unwrap_or(Path::new(".")))?;
                named.first().copied()
            }
        };
        let start = SegmentStart { id, log, header: header.map(|(_, kind)| kind), mark: mark.map(|(_, mark)| mark) };
        Ok(SegmentReader { disk, reader, start, at: FIRST_BATCH_AT })
    }

    pub fn start(&self) -> &SegmentStart {
        &self.start
    }

    pub fn file_bytes(&self) -> u64 {
        self.reader.file_bytes()
    }

    /// Where the next piece begins.
    pub fn at(&self) -> u64 {
        self.at
    }

    fn batch(&mut self, at: u64) -> Result<Result<Batch<'_>, Damage>, StoreError> {
        match self.start.log {
            Some(log) => read_batch(&mut self.disk, &mut self.reader, log, self.start.id, at),
            None => Ok(Err(Damage::Checksum)),
        }
    }

    /// None: the file ends here.
    pub fn next_piece(&mut self) -> Result<Option<Piece<'_>>, StoreError> {
        let (id, at) = (self.start.id, self.at);
        let file_bytes = self.reader.file_bytes();
        if at >= file_bytes {
            return Ok(None);
        }
        let why = match self.batch(at)?.map(|batch| batch.padded_bytes()) {
            Ok(bytes) => {
                self.at = at + bytes;
                // Asked for again: a loop that may go on must not hold on to what it returns.
                return Ok(self.batch(at)?.ok().map(|batch| Piece::Batch { at, batch }));
            }
            Err(why) => why,
        };
        let kind = Kind::of(self.reader.get(&mut self.disk, at, BLOCK)?, id, at);
        // What a damaged batch says of its length may be wrong: a whole batch inside of it is believed more.
        let claimed = match kind {
            Kind::Own => BatchHeader::padded_bytes(self.reader.get(&mut self.disk, at, BLOCK)?).unwrap_or(BLOCK),
            Kind::Zeroes | Kind::Foreign => BLOCK,
        };
        while self.at < file_bytes {
            self.at += BLOCK;
            let block = self.reader.get(&mut self.disk, self.at, BLOCK)?;
            match Kind::of(block, id, self.at) {
                Kind::Own => break,
                other if other != kind && self.at >= at.saturating_add(claimed) => break,
                _ => {}
            }
        }
        self.at = self.at.min(file_bytes);
        let bytes = self.at - at;
        Ok(Some(match kind {
            Kind::Zeroes => Piece::Zeroes { at, bytes },
            Kind::Own => Piece::Damaged { at, bytes, why },
            Kind::Foreign => Piece::Foreign { at, bytes },
        }))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Zeroes,
    Own,
    Foreign,
}

impl Kind {
    fn of(block: &[u8], id: SegmentId, at: u64) -> Kind {
        match block {
            _ if block == &ZEROES[..block.len()] => Kind::Zeroes,
            _ if BatchHeader::claims(block, id, at) => Kind::Own,
            _ => Kind::Foreign,
        }
    }
}

/// What a start would make of a log that is served from its first transaction on, whatever snapshots say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEnd {
    pub last_zxid: Zxid,
    /// The segment with the last batch, and the byte behind it. None: there is no log at all.
    pub place: Option<(SegmentId, u64)>,
    pub records: u64,
    /// What it would zero, because nobody was promised it.
    pub cut_bytes: u64,
    pub notes: Vec<String>,
}

/// Asks recovery itself. Changes nothing; the error is what a start would say. `begins_after`: the last transaction before the
/// first of the log.
pub fn log_end(mut disk: impl Disk, directory: &Path, begins_after: Zxid) -> Result<LogEnd, StoreError> {
    let judgement = Judgement { proofs: &[], loss: Loss::Refused };
    let scan = scan(&mut disk, &mut Ids::default(), directory, false, begins_after, begins_after, judgement)?;
    let (last_zxid, place) = (scan.last_zxid(), scan.end_place());
    let Scan { records, cut_bytes, notes, .. } = scan;
    Ok(LogEnd { last_zxid, place, records, cut_bytes, notes })
}
