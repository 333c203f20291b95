//! Log files as one stream of items, whatever wrote them: what `dump` shows, `verify` judges and `stats` counts.

use std::fmt;

use ringkeeper_storage::Zxid;
use ringkeeper_storage::backend::blocking::BlockingDisk;
use ringkeeper_storage::inspect::{HeaderError, Link, Piece, SegmentKind, SegmentReader, SegmentStart};
use serde::Serialize;

use crate::console::Result;
use crate::files::LogFile;
use crate::progress;
use crate::show::Hex;

pub enum Item<'a> {
    File(FileItem),
    Batch(BatchItem),
    Record { at: u64, zxid: Zxid, payload: &'a [u8] },
    Gap(Gap),
}

/// The beginning of a file.
#[derive(Clone, Debug, Serialize)]
pub struct FileItem {
    pub file: String,
    pub format: &'static str,
    pub bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<u64>,
    /// Nothing was ever written beyond this byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_below: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damage: Vec<String>,
    /// What the first batch follows, where the header tells.
    #[serde(skip)]
    pub base: Option<Link>,
}

#[derive(Clone, Debug, Serialize)]
pub struct BatchItem {
    pub at: u64,
    pub sequence: u64,
    pub records: u32,
    pub first_zxid: Hex,
    pub last_zxid: Hex,
    pub bytes: u64,
    pub padded_bytes: u64,
    pub durable_zxid: Hex,
    pub checksum: Hex,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
    #[serde(skip)]
    pub before: Link,
    #[serde(skip)]
    pub after: Link,
}

/// A stretch that holds no transactions.
#[derive(Clone, Debug, Serialize)]
pub struct Gap {
    pub at: u64,
    pub bytes: u64,
    /// None: zeroes, as space that waits for batches has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

/// Hands over everything in a file, damage included, front to back.
pub fn read(file: &LogFile, f: &mut dyn FnMut(Item<'_>) -> Result<()>) -> Result<()> {
    let bar = progress::over_bytes(&file.path, file.bytes);
    let mut reader = SegmentReader::open(BlockingDisk::default(), file.path.clone(), file.bytes)?;
    f(Item::File(file_item(file, reader.start())))?;
    while let Some(piece) = reader.next_piece()? {
        match piece {
            Piece::Batch { at, batch } => {
                bar.set_position(at);
                let after = batch.link_after();
                f(Item::Batch(BatchItem {
                    at,
                    sequence: after.sequence,
                    records: batch.record_count(),
                    first_zxid: batch.first_zxid().into(),
                    last_zxid: after.zxid.into(),
                    bytes: batch.filled_bytes(),
                    padded_bytes: batch.padded_bytes(),
                    durable_zxid: batch.durable().zxid.into(),
                    checksum: Hex(u64::from(after.checksum)),
                    damage: batch.check_records().err().map(|damage| damage.to_string()),
                    before: batch.link_before(),
                    after,
                }))?;
                for (offset, zxid, payload) in batch.placed_records() {
                    f(Item::Record { at: at + offset, zxid, payload })?;
                }
            }
            Piece::Zeroes { at, bytes } => f(Item::Gap(Gap { at, bytes, damage: None }))?,
            Piece::Damaged { at, bytes, why } => {
                f(Item::Gap(Gap { at, bytes, damage: Some(why.to_string()) }))?;
            }
        }
    }
    bar.finish_and_clear();
    Ok(())
}

fn file_item(file: &LogFile, start: &SegmentStart) -> FileItem {
    let mut damage = Vec::new();
    let mut base = None;
    match start.header {
        Ok(SegmentKind::First(link)) => base = Some(link),
        Ok(SegmentKind::Next) => {}
        Err(HeaderError::Damaged) => damage.push("the header (byte 0) is damaged".to_owned()),
        Err(HeaderError::Version(version)) => {
            damage.push(format!("format version {version} was written by a newer ringkeeper"));
        }
    }
    match start.mark {
        None => damage.push("the mark (byte 4096) is damaged".to_owned()),
        Some(mark) if mark > file.bytes => {
            damage.push(format!("the file is {} bytes long and was once at least {mark}: its end is gone", file.bytes));
        }
        Some(_) => {}
    }
    FileItem {
        file: file.name(),
        format: "ringkeeper",
        bytes: file.bytes,
        segment: Some(start.id.0),
        written_below: start.mark,
        damage,
        base,
    }
}

impl fmt::Display for FileItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} log, {} bytes", self.file, self.format, self.bytes)?;
        if let Some(segment) = self.segment {
            write!(f, ", segment {segment}")?;
        }
        if let Some(mark) = self.written_below {
            write!(f, ", written below byte {mark}")?;
        }
        self.damage.iter().try_for_each(|damage| write!(f, "\nDAMAGED: {damage}"))
    }
}

impl fmt::Display for BatchItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BatchItem { at, sequence, records, first_zxid, last_zxid, bytes, padded_bytes, durable_zxid, .. } = self;
        write!(f, "byte {at}: batch {sequence}, {records} records, zxid {first_zxid} to {last_zxid}, ")?;
        write!(f, "{bytes} of {padded_bytes} bytes, durable {durable_zxid}")?;
        match &self.damage {
            Some(damage) => write!(f, "\nDAMAGED: byte {at}: {damage}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Gap { at, bytes, damage } = self;
        match damage {
            Some(damage) => write!(f, "DAMAGED: byte {at}: {bytes} bytes that are no batch: {damage}"),
            None => write!(f, "byte {at}: {bytes} bytes of zeroes"),
        }
    }
}
