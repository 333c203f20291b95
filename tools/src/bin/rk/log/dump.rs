//! `rk log dump`: every batch and every transaction, in the order of the file.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use ringkeeper_storage::Zxid;
use ringkeeper_storage::backend::blocking::BlockingDisk;
use ringkeeper_storage::inspect::{Batch, Piece, SegmentReader, SegmentStart};
use serde::Serialize;

use super::record::Record;
use crate::console::{Console, Result, Verdict};
use crate::files::{self, LogFile};
use crate::progress;
use crate::show::{Hex, parse_zxid};

#[derive(Args)]
pub struct Arguments {
    /// A log file, or a directory with log files
    pub path: PathBuf,
    /// From this transaction on
    #[arg(long, value_name = "ZXID", value_parser = parse_zxid)]
    pub from: Option<Zxid>,
    /// Up to this transaction
    #[arg(long, value_name = "ZXID", value_parser = parse_zxid)]
    pub to: Option<Zxid>,
    /// All that a transaction says: data, permissions, versions, the parts of a multi
    #[arg(long)]
    pub decode: bool,
    /// Transactions only, without files and batches
    #[arg(long)]
    pub records_only: bool,
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Verdict> {
    let mut verdict = Verdict::Fine;
    for file in files::logs(&arguments.path)? {
        verdict = verdict.or(dump_segment(&file, arguments, console)?);
    }
    Ok(verdict)
}

/// What a dump says of places: everything but the transactions.
#[derive(Serialize)]
#[serde(tag = "item", rename_all = "snake_case")]
enum Place {
    File {
        file: String,
        segment: u64,
        bytes: u64,
        written_below: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        damage: Option<String>,
    },
    Batch(BatchPlace),
    Zeroes {
        at: u64,
        bytes: u64,
    },
    Damage {
        at: u64,
        bytes: u64,
        why: String,
    },
}

#[derive(Serialize)]
struct BatchPlace {
    at: u64,
    sequence: u64,
    records: u32,
    first_zxid: Hex,
    last_zxid: Hex,
    bytes: u64,
    padded_bytes: u64,
    durable_zxid: Hex,
    checksum: Hex,
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<String>,
}

#[derive(Serialize)]
struct RecordItem {
    item: &'static str,
    #[serde(flatten)]
    record: Record,
}

impl fmt::Display for RecordItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.record.fmt(f)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let damaged = |f: &mut fmt::Formatter<'_>, damage: &Option<String>| match damage {
            Some(damage) => write!(f, "  DAMAGED: {damage}"),
            None => Ok(()),
        };
        match self {
            Place::File { file, segment, bytes, written_below, damage } => {
                write!(f, "{file}: segment {segment}, {bytes} bytes")?;
                if let Some(mark) = written_below {
                    write!(f, ", written below byte {mark}")?;
                }
                damaged(f, damage)
            }
            Place::Batch(batch) => {
                let BatchPlace { at, sequence, records, first_zxid, last_zxid, .. } = batch;
                let BatchPlace { bytes, padded_bytes, durable_zxid, .. } = batch;
                write!(f, "byte {at}: batch {sequence}, {records} records, zxid {first_zxid} to {last_zxid}, ")?;
                write!(f, "{bytes} of {padded_bytes} bytes, durable {durable_zxid}")?;
                damaged(f, &batch.damage)
            }
            Place::Zeroes { at, bytes } => write!(f, "byte {at}: {bytes} bytes of zeroes"),
            Place::Damage { at, bytes, why } => write!(f, "byte {at}: DAMAGED: {bytes} bytes: {why}"),
        }
    }
}

fn dump_segment(file: &LogFile, arguments: &Arguments, console: &mut Console) -> Result<Verdict> {
    let mut reader = SegmentReader::open(BlockingDisk::default(), file.path.clone(), file.bytes)?;
    let bar = progress::over_bytes(&file.path, file.bytes);
    let mut verdict = Verdict::Fine;
    let place = |place: Place, console: &mut Console| {
        if arguments.records_only { Ok(()) } else { console.say(&place) }
    };
    let start = start_of(file, reader.start());
    verdict = verdict.or(Verdict::found_if(matches!(start, Place::File { damage: Some(_), .. })));
    place(start, console)?;
    while let Some(piece) = reader.next_piece()? {
        match piece {
            Piece::Batch { at, batch } => {
                bar.set_position(at);
                if !wanted(&batch, arguments) {
                    continue;
                }
                let damage = batch.check_records().err().map(|damage| damage.to_string());
                verdict = verdict.or(Verdict::found_if(damage.is_some()));
                place(Place::Batch(batch_place(at, &batch, damage)), console)?;
                for (zxid, payload) in batch.records().filter(|(zxid, _)| in_range(*zxid, arguments)) {
                    let record = Record::decode(zxid, payload, arguments.decode);
                    verdict = verdict.or(Verdict::found_if(record.damage.is_some()));
                    console.say(&RecordItem { item: "record", record })?;
                }
            }
            Piece::Zeroes { at, bytes } => place(Place::Zeroes { at, bytes }, console)?,
            Piece::Damaged { at, bytes, why } => {
                verdict = Verdict::Found;
                place(Place::Damage { at, bytes, why: why.to_string() }, console)?;
            }
        }
    }
    bar.finish_and_clear();
    Ok(verdict)
}

fn start_of(file: &LogFile, start: &SegmentStart) -> Place {
    let damage = match (start.header, start.mark) {
        (Err(error), _) => Some(format!("header: {error:?}")),
        (_, None) => Some("mark: checksum mismatch".to_owned()),
        _ => None,
    };
    Place::File { file: file.name(), segment: start.id.0, bytes: file.bytes, written_below: start.mark, damage }
}

fn batch_place(at: u64, batch: &Batch<'_>, damage: Option<String>) -> BatchPlace {
    let after = batch.link_after();
    BatchPlace {
        at,
        sequence: after.sequence,
        records: batch.record_count(),
        first_zxid: batch.first_zxid().into(),
        last_zxid: after.zxid.into(),
        bytes: batch.filled_bytes(),
        padded_bytes: batch.padded_bytes(),
        durable_zxid: batch.durable().zxid.into(),
        checksum: Hex(u64::from(after.checksum)),
        damage,
    }
}

fn wanted(batch: &Batch<'_>, arguments: &Arguments) -> bool {
    let after = arguments.from.is_none_or(|from| batch.link_after().zxid >= from);
    after && arguments.to.is_none_or(|to| batch.first_zxid() <= to)
}

fn in_range(zxid: Zxid, arguments: &Arguments) -> bool {
    arguments.from.is_none_or(|from| zxid >= from) && arguments.to.is_none_or(|to| zxid <= to)
}
