//! One log file: header, records, padding.
//!
//! ```text
//! "ZKLG" | version i32 = 2 | dbid i64
//! ( adler32 of entry i64 | length i32 | entry | 'B' ) ...      zero padding to the end of the file
//! ```
//!
//! Java takes everything that is not a record for the end of the file, and goes on with the next file. Here an end is:
//!
//! | found where a record should be | behind it in the file | then |
//! | --- | --- | --- |
//! | the file's end, or zeroes to its end | - | the end |
//! | a record cut short, no end byte, zeroes | no whole record | a torn tail: the caller decides, by what the next file says |
//! | a record cut short, no end byte, zeroes | a whole record | damage: that one was written after this place was |
//! | a whole record with a wrong checksum, an impossible length | - | damage (Java does not start either) |
//!
//! All numbers are big-endian. Java: `FileTxnLog`. Spec: on-disk formats 2.

use std::io::{self, Write};

use super::JavaError;
use super::file::Source;
use crate::Zxid;
use crate::disk::Disk;
use crate::error::StoreError;

pub const MAGIC: [u8; 4] = *b"ZKLG";
pub const HEADER_BYTES: u64 = 16;
/// Checksum and length before an entry.
const PREFIX_BYTES: u64 = 12;
/// The shortest entry: a transaction's header alone.
const ENTRY_BYTES_MIN: u64 = 32;
const END: u8 = b'B';

/// How a file's records end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With the file or its padding.
    Clean,
    /// In the middle of a record, and nothing proves that it was ever whole.
    Torn { at: u64, why: &'static str },
}

/// Where a file is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged {
    pub at: u64,
    pub why: &'static str,
}

/// Why reading a file stopped before its end.
pub(super) enum Stop {
    Damaged(Damaged),
    Store(StoreError),
    /// The taker of records.
    Taker(JavaError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Stop {
        Stop::Store(error)
    }
}

fn damaged<T>(at: u64, why: &'static str) -> Result<T, Stop> {
    Err(Stop::Damaged(Damaged { at, why }))
}

/// The zxid of an entry; the caller has seen that it is long enough.
fn zxid_of(entry: &[u8]) -> Zxid {
    Zxid(u64::from_be_bytes(entry[12..20].try_into().expect("8 bytes")))
}

/// Whether this is what Java logs for a request that it cannot read (D-002): an error, which changes nothing, with the zxid of the entry
/// before, or with that of the beginning of an epoch. Java: `PrepRequestProcessor.pRequest`.
pub fn repeats(zxid: Zxid, entry: &[u8], last: Zxid) -> bool {
    let is_error = entry[28..32] == (-1i32).to_be_bytes();
    is_error && (zxid == last || zxid.counter() == 0 && zxid > last)
}

/// Hands over every record of a file that is not empty.
pub(super) fn read<D: Disk>(
    source: &mut Source<'_, D>,
    mut take: impl FnMut(u64, Zxid, &[u8]) -> Result<(), JavaError>,
) -> Result<End, Stop> {
    match check_header(source)? {
        Header::Whole => {}
        Header::CutShort => return Ok(End::Torn { at: 0, why: "the file's header is cut short" }),
        Header::Foreign => return damaged(0, NO_LOG),
    }
    let mut at = HEADER_BYTES;
    loop {
        match record_at(source, at)? {
            Found::Record { zxid, entry } => {
                take(at, zxid, entry).map_err(Stop::Taker)?;
                at += record_bytes(entry);
            }
            Found::None { why } => {
                let Behind { record, blank } = look_behind(source, at)?;
                return match record {
                    Some(_) => damaged(at, "no readable record here, but whole records behind it"),
                    None if blank => Ok(End::Clean),
                    None => Ok(End::Torn { at, why }),
                };
            }
            Found::Damaged { why } => return damaged(at, why),
        }
    }
}

pub(crate) const NO_LOG: &str = "not a transaction log (no ZKLG at its beginning)";

pub(crate) enum Header {
    Whole,
    CutShort,
    Foreign,
}

pub(crate) fn check_header<D: Disk>(source: &mut Source<'_, D>) -> Result<Header, StoreError> {
    let header = source.get(0, HEADER_BYTES)?;
    Ok(match header.get(..4) {
        _ if (header.len() as u64) < HEADER_BYTES => Header::CutShort,
        Some(magic) if magic == MAGIC => Header::Whole,
        _ => Header::Foreign,
    })
}

/// What is at a place where a record may begin.
pub(crate) enum Found<'a> {
    Record {
        zxid: Zxid,
        entry: &'a [u8],
    },
    /// Nothing, or the beginning of a record.
    None {
        why: &'static str,
    },
    /// A record that is not what it was.
    Damaged {
        why: &'static str,
    },
}

/// All that a record takes in its file.
pub(crate) fn record_bytes(entry: &[u8]) -> u64 {
    PREFIX_BYTES + entry.len() as u64 + 1
}

pub(crate) fn record_at<'a, D: Disk>(source: &'a mut Source<'_, D>, at: u64) -> Result<Found<'a>, StoreError> {
    let prefix = source.get(at, PREFIX_BYTES)?;
    if (prefix.len() as u64) < PREFIX_BYTES {
        return Ok(Found::None { why: "a record is cut short" });
    }
    let checksum = i64::from_be_bytes(prefix[..8].try_into().expect("8 bytes"));
    let length = i32::from_be_bytes(prefix[8..].try_into().expect("4 bytes"));
    let Ok(length) = u64::try_from(length) else {
        return Ok(Found::Damaged { why: "a record of negative length" });
    };
    if length == 0 {
        return Ok(Found::None { why: "zeroes where a record should be" });
    }
    if at + PREFIX_BYTES + length + 1 > source.file_bytes() {
        return Ok(Found::None { why: "a record is cut short" });
    }
    let record = source.get(at + PREFIX_BYTES, length + 1)?;
    let (entry, end) = record.split_at(length as usize);
    Ok(if end != [END] {
        Found::None { why: "a record has no end byte" }
    } else if i64::from(simd_adler32::adler32(&entry)) != checksum {
        Found::Damaged { why: "CRC check failed" }
    } else if length < ENTRY_BYTES_MIN {
        Found::Damaged { why: "a record too short for a transaction" }
    } else {
        Found::Record { zxid: zxid_of(entry), entry }
    })
}

/// What is behind a place that has no record.
pub(crate) struct Behind {
    /// The next place with a whole one.
    pub record: Option<u64>,
    /// Neither there nor behind it is anything but zeroes.
    pub blank: bool,
}

pub(crate) fn look_behind<D: Disk>(source: &mut Source<'_, D>, at: u64) -> Result<Behind, StoreError> {
    const STEP_BYTES: u64 = 1 << 16;
    let mut blank = true;
    let mut from = at;
    while from < source.file_bytes() {
        let bytes = source.get(from, STEP_BYTES)?;
        let count = bytes.len() as u64;
        if bytes.iter().all(|byte| *byte == 0) {
            from += count;
            continue;
        }
        blank = false;
        // A record begins with the four zero bytes of its checksum's upper half, anywhere.
        for place in from..from + count {
            if place > at && is_whole_record(source, place)? {
                return Ok(Behind { record: Some(place), blank });
            }
        }
        from += count;
    }
    Ok(Behind { record: None, blank })
}

fn is_whole_record<D: Disk>(source: &mut Source<'_, D>, at: u64) -> Result<bool, StoreError> {
    let file_bytes = source.file_bytes();
    let prefix = source.get(at, PREFIX_BYTES)?;
    let Some((checksum, length)) = prefix.split_at_checked(8).filter(|(_, length)| length.len() == 4) else {
        return Ok(false);
    };
    let checksum = u64::from_be_bytes(checksum.try_into().expect("8 bytes"));
    let length = u64::from(u32::from_be_bytes(length.try_into().expect("4 bytes")));
    if checksum == 0 || checksum > u64::from(u32::MAX) || length < ENTRY_BYTES_MIN {
        return Ok(false);
    }
    let end = at + PREFIX_BYTES + length;
    if end >= file_bytes || source.get(end, 1)? != [END] {
        return Ok(false);
    }
    let entry = source.get(at + PREFIX_BYTES, length)?;
    Ok(u64::from(simd_adler32::adler32(&entry)) == checksum)
}

/// Writes a log file without padding: Java appends to new files only.
pub(super) struct LogFileWriter<W> {
    out: W,
}

impl<W: Write> LogFileWriter<W> {
    pub fn begin(mut out: W) -> io::Result<LogFileWriter<W>> {
        out.write_all(&MAGIC)?;
        out.write_all(&2i32.to_be_bytes())?;
        out.write_all(&0i64.to_be_bytes())?;
        Ok(LogFileWriter { out })
    }

    pub fn record(&mut self, entry: &[u8]) -> io::Result<()> {
        let length = i32::try_from(entry.len()).map_err(io::Error::other)?;
        self.out.write_all(&i64::from(simd_adler32::adler32(&entry)).to_be_bytes())?;
        self.out.write_all(&length.to_be_bytes())?;
        self.out.write_all(entry)?;
        self.out.write_all(&[END])
    }

    pub fn into_inner(self) -> W {
        self.out
    }
}
