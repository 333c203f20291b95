//! `rk log dump`: every batch and every transaction, in the order of the file.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use ringkeeper_storage::Zxid;
use serde::Serialize;

use super::read::{self, BatchItem, GapKind, Item};
use super::record::Record;
use crate::console::{Console, Result, Verdict};
use crate::files;
use crate::show::parse_zxid;

#[derive(Args)]
pub struct Arguments {
    /// A log file, or a directory with log files
    pub path: PathBuf,
    /// From this transaction on (0x and hexadecimal digits, or decimal)
    #[arg(long, value_name = "ZXID", value_parser = parse_zxid, default_value = "0")]
    pub from: Zxid,
    /// Up to this transaction
    #[arg(long, value_name = "ZXID", value_parser = parse_zxid, default_value = "0xffffffffffffffff")]
    pub to: Zxid,
    /// All that a transaction says: data, permissions, versions, the parts of a multi
    #[arg(long)]
    pub decode: bool,
    /// Transactions only, without files, batches and empty stretches; damage is still shown
    #[arg(long)]
    pub records_only: bool,
}

/// An item as it is said: in JSON it tells what it is.
#[derive(Serialize)]
struct Said<T> {
    item: &'static str,
    #[serde(flatten)]
    it: T,
}

impl<T: fmt::Display> fmt::Display for Said<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.it.fmt(f)
    }
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Verdict> {
    let mut verdict = Verdict::Fine;
    for file in files::logs(&arguments.path)? {
        let mut sequence = None;
        read::read(&file, &mut |item| {
            let damaged = say(item, &mut sequence, arguments, console)?;
            verdict = verdict.or(Verdict::found_if(damaged));
            Ok(())
        })?;
    }
    Ok(verdict)
}

/// Says what was asked for; true when it is damaged. `sequence`: the batch that records belong to.
fn say(item: Item<'_>, sequence: &mut Option<u64>, arguments: &Arguments, console: &mut Console) -> Result<bool> {
    let terse = arguments.records_only;
    match item {
        Item::File(file) => {
            let damaged = !file.damage.is_empty();
            if damaged || !terse {
                console.say(&Said { item: "file", it: file })?;
            }
            Ok(damaged)
        }
        Item::Batch(batch) => {
            *sequence = Some(batch.sequence);
            let damaged = batch.damage.is_some();
            if damaged || (!terse && overlaps(&batch, arguments)) {
                console.say(&Said { item: "batch", it: batch })?;
            }
            Ok(damaged)
        }
        Item::Record { at, zxid, payload } => {
            if zxid < arguments.from || zxid > arguments.to {
                return Ok(false);
            }
            let it = Record::decode(at, *sequence, zxid, payload, arguments.decode);
            let damaged = it.damage.is_some();
            console.say(&Said { item: "record", it })?;
            Ok(damaged)
        }
        Item::Gap(gap) => {
            let damaged = gap.damage.is_some();
            if damaged || !terse {
                let item = match gap.kind {
                    GapKind::Zeroes => "zeroes",
                    GapKind::Foreign => "foreign",
                    GapKind::Damage => "damage",
                };
                console.say(&Said { item, it: gap })?;
            }
            Ok(damaged)
        }
    }
}

fn overlaps(batch: &BatchItem, arguments: &Arguments) -> bool {
    batch.last_zxid.0 >= arguments.from.0 && batch.first_zxid.0 <= arguments.to.0
}
