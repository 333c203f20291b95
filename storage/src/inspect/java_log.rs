//! A log file of a Java server from front to back, damage and what is behind it included.

use std::path::Path;

use crate::Zxid;
use crate::disk::{Disk, Ids};
use crate::error::StoreError;
use crate::java::file::Source;
use crate::java::txn_log::{
    Behind, Found, HEADER_BYTES, Header, NO_LOG, check_header, look_behind, record_at, record_bytes,
};

/// A stretch of a log file.
#[derive(Debug)]
pub enum JavaPiece<'a> {
    /// Its checksum is right.
    Record { at: u64, zxid: Zxid, entry: &'a [u8] },
    /// Padding, to the end of the file.
    Zeroes { at: u64, bytes: u64 },
    /// To the next whole record, or to the end of the file.
    Damaged { at: u64, bytes: u64, why: &'static str },
}

/// Hands over everything in the file. Fails when reading does, or the taker, never because of what was read.
pub fn read_java_log<E: From<StoreError>>(
    disk: &mut impl Disk,
    path: &Path,
    file_bytes: u64,
    mut take: impl FnMut(JavaPiece<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut ids = Ids::default();
    let mut source = Source::open(disk, &mut ids, path, file_bytes)?;
    match check_header(&mut source)? {
        Header::Whole => {}
        Header::CutShort => {
            return take(JavaPiece::Damaged { at: 0, bytes: file_bytes, why: "the file's header is cut short" });
        }
        Header::Foreign => take(JavaPiece::Damaged { at: 0, bytes: HEADER_BYTES, why: NO_LOG })?,
    }
    let mut at = HEADER_BYTES;
    while at < file_bytes {
        let why = match record_at(&mut source, at)? {
            Found::Record { zxid, entry } => {
                let next = at + record_bytes(entry);
                take(JavaPiece::Record { at, zxid, entry })?;
                at = next;
                continue;
            }
            Found::None { why } | Found::Damaged { why } => why,
        };
        let Behind { record, blank } = look_behind(&mut source, at)?;
        let end = record.unwrap_or(file_bytes);
        let bytes = end - at;
        take(if blank { JavaPiece::Zeroes { at, bytes } } else { JavaPiece::Damaged { at, bytes, why } })?;
        at = end;
    }
    Ok(())
}
