//! Log files as one stream of items, whatever wrote them: what `dump` shows, `verify` judges and `stats` counts.

use std::fmt;

use indicatif::ProgressBar;
use ringkeeper_storage::Zxid;
use ringkeeper_storage::backend::blocking::BlockingDisk;
use ringkeeper_storage::inspect::{
    self, HeaderError, JavaPiece, Link, Piece, SegmentKind, SegmentReader, SegmentStart,
};
use serde::Serialize;

use crate::console::Result;
use crate::files::{LogFile, LogKind};
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
    /// The same in all segments of one log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_id: Option<Hex>,
    /// Nothing was ever written beyond this byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_below: Option<u64>,
    /// Known to be on stable storage when the mark was written; after a clean stop that is everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durable_zxid: Option<Hex>,
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
    /// Everything that once followed was cut off here on purpose.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
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
    #[serde(skip)]
    pub kind: GapKind,
    /// What is wrong with it, when that is certain without a look at what follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapKind {
    /// As space that waits for batches has.
    Zeroes,
    /// What a former life of a recycled file left, or what damage made of a batch.
    Foreign,
    Damage,
}

/// Hands over everything in a file, damage included, front to back.
pub fn read(file: &LogFile, f: &mut dyn FnMut(Item<'_>) -> Result<()>) -> Result<()> {
    let bar = progress::over_bytes(&file.path, file.bytes);
    match file.kind {
        LogKind::Segment => read_segment(file, &bar, f)?,
        LogKind::Java => read_java(file, &bar, f)?,
    }
    bar.finish_and_clear();
    Ok(())
}

fn read_java(file: &LogFile, bar: &ProgressBar, f: &mut dyn FnMut(Item<'_>) -> Result<()>) -> Result<()> {
    f(Item::File(FileItem {
        file: file.name(),
        format: "java",
        bytes: file.bytes,
        segment: None,
        log_id: None,
        written_below: None,
        durable_zxid: None,
        damage: Vec::new(),
        base: None,
    }))?;
    inspect::read_java_log(&mut BlockingDisk::default(), &file.path, file.bytes, |piece| match piece {
        JavaPiece::Record { at, zxid, entry } => {
            bar.set_position(at);
            f(Item::Record { at, zxid, payload: entry })
        }
        JavaPiece::Zeroes { at, bytes } => f(Item::Gap(Gap { at, bytes, kind: GapKind::Zeroes, damage: None })),
        JavaPiece::Damaged { at, bytes, why } => {
            f(Item::Gap(Gap { at, bytes, kind: GapKind::Damage, damage: Some(why.to_owned()) }))
        }
    })
}

fn read_segment(file: &LogFile, bar: &ProgressBar, f: &mut dyn FnMut(Item<'_>) -> Result<()>) -> Result<()> {
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
                    cut: batch.is_cut(),
                    damage: batch.check_records().err().map(|damage| damage.to_string()),
                    before: batch.link_before(),
                    after,
                }))?;
                for (offset, zxid, payload) in batch.placed_records() {
                    f(Item::Record { at: at + offset, zxid, payload })?;
                }
            }
            Piece::Zeroes { at, bytes } => f(Item::Gap(Gap { at, bytes, kind: GapKind::Zeroes, damage: None }))?,
            Piece::Foreign { at, bytes } => f(Item::Gap(Gap { at, bytes, kind: GapKind::Foreign, damage: None }))?,
            Piece::Damaged { at, bytes, why } => {
                f(Item::Gap(Gap { at, bytes, kind: GapKind::Damage, damage: Some(why.to_string()) }))?;
            }
        }
    }
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
        Some(mark) if mark.written_below > file.bytes => damage.push(format!(
            "the file is {} bytes long and was once at least {}: its end is gone",
            file.bytes, mark.written_below
        )),
        Some(_) => {}
    }
    FileItem {
        file: file.name(),
        format: "ringkeeper",
        bytes: file.bytes,
        segment: Some(start.id.0),
        log_id: start.log.map(|log| Hex(log.0)),
        written_below: start.mark.map(|mark| mark.written_below),
        durable_zxid: start.mark.map(|mark| mark.durable.zxid.into()),
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
        if let Some(log) = self.log_id {
            write!(f, ", log id {log}")?;
        }
        if let Some(mark) = self.written_below {
            write!(f, ", written below byte {mark}")?;
        }
        if let Some(zxid) = self.durable_zxid {
            write!(f, ", durable {zxid}")?;
        }
        self.damage.iter().try_for_each(|damage| write!(f, "\nDAMAGED: {damage}"))
    }
}

impl fmt::Display for BatchItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BatchItem { at, sequence, records, first_zxid, last_zxid, bytes, padded_bytes, durable_zxid, .. } = self;
        if self.cut {
            return write!(f, "byte {at}: batch {sequence}, a cut: everything behind zxid {last_zxid} was given up");
        }
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
        let Gap { at, bytes, kind, damage } = self;
        match (kind, damage) {
            (_, Some(damage)) => write!(f, "DAMAGED: byte {at}: {damage} ({bytes} bytes)"),
            (GapKind::Foreign, None) => write!(f, "byte {at}: {bytes} bytes of a former life of this file"),
            (_, None) => write!(f, "byte {at}: {bytes} bytes of zeroes"),
        }
    }
}
