//! `rk log verify`: every checksum, every link of the chain, every record; and what a start would make of it.
//!
//! Damage is shown as it is met, with what follows it: batches behind a hole tell how much more than the hole is lost. What a
//! start would decide is not worked out here: recovery itself is asked, on the same files, and changes nothing.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use ringkeeper_storage::inspect::{self, Link};
use ringkeeper_storage::{StoreError, Zxid};
use serde::Serialize;

use super::read::{self, BatchItem, Gap, Item};
use super::record::Record;
use crate::chosen::ChosenFiles;
use crate::console::{Console, Result, Verdict};
use crate::files::{self, LogFile};
use crate::show::Hex;

#[derive(Args)]
pub struct Arguments {
    /// A log file, or a directory with log files
    pub path: PathBuf,
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Verdict> {
    let files = files::logs(&arguments.path)?;
    let mut check = Check::default();
    for file in &files {
        check.file(file, console)?;
    }
    let decision = decide(&files, check.begins_after.unwrap_or(Zxid::ZERO))?;
    console.say(&decision)?;
    Ok(Verdict::found_if(check.damages > 0 || decision.verdict != Outcome::EndsHere))
}

/// One thing that is not as it should be.
#[derive(Serialize)]
#[serde(tag = "item", rename = "damage")]
struct Damage<'a> {
    file: &'a str,
    at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    why: String,
    /// Whole batches behind it, up to the next damage.
    #[serde(skip_serializing_if = "Option::is_none")]
    followed_by: Option<Run>,
}

#[derive(Clone, Copy, Default, Serialize)]
struct Run {
    batches: u64,
    records: u64,
    /// Of the first and the last transaction.
    zxids: Option<(Hex, Hex)>,
}

#[derive(Serialize)]
#[serde(tag = "item", rename = "file")]
struct FileSummary<'a> {
    file: &'a str,
    format: &'static str,
    #[serde(flatten)]
    run: Run,
    damages: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    EndsHere,
    TornTail,
    Refuses,
}

#[derive(Serialize)]
#[serde(tag = "item", rename = "start")]
struct Decision {
    verdict: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_good_zxid: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<u64>,
    records: u64,
    cut_bytes: u64,
    why: Vec<String>,
}

#[derive(Default)]
struct Check {
    /// What the next batch has to follow.
    link: Option<Link>,
    begins_after: Option<Zxid>,
    damages: u64,
}

/// Damage whose followers are still being counted.
struct Pending {
    gap: Gap,
    followed_by: Run,
}

impl Check {
    fn file(&mut self, file: &LogFile, console: &mut Console) -> Result<()> {
        let (name, before) = (file.name(), self.damages);
        let (mut whole, mut pending, mut format) = (Run::default(), None, "");
        read::read(file, &mut |item| {
            match item {
                Item::File(item) => {
                    format = item.format;
                    self.begins_after = self.begins_after.or(item.base.map(|link| link.zxid));
                    self.link = item.base.or(self.link);
                    for why in item.damage {
                        self.damage(&name, 0, None, why, None, console)?;
                    }
                }
                Item::Batch(batch) => self.batch(&name, &batch, &mut whole, &mut pending, console)?,
                Item::Record { at, zxid, payload } => {
                    if let Some(why) = Record::decode(at, None, zxid, payload, false).damage {
                        self.damage(&name, at, None, format!("zxid {zxid}: {why}"), None, console)?;
                    }
                }
                Item::Gap(gap) => {
                    self.flush(&name, pending.take(), console)?;
                    pending = Some(Pending { gap, followed_by: Run::default() });
                }
            }
            Ok(())
        })?;
        self.flush(&name, pending, console)?;
        console.say(&FileSummary { file: &name, format, run: whole, damages: self.damages - before })
    }

    fn batch(
        &mut self,
        file: &str,
        batch: &BatchItem,
        whole: &mut Run,
        pending: &mut Option<Pending>,
        console: &mut Console,
    ) -> Result<()> {
        self.begins_after.get_or_insert(batch.before.zxid);
        let expected = self.link.replace(batch.after);
        if let Some(Pending { followed_by, .. }) = pending {
            followed_by.count(batch);
        } else if let Some(expected) = expected.filter(|expected| *expected != batch.before) {
            let why = format!(
                "batch {} (from zxid {}) does not follow batch {} (to zxid {})",
                batch.sequence, batch.first_zxid, expected.sequence, expected.zxid
            );
            self.damage(file, batch.at, None, why, None, console)?;
        }
        if let Some(why) = &batch.damage {
            self.damage(file, batch.at, Some(batch.padded_bytes), why.clone(), None, console)?;
        }
        whole.count(batch);
        Ok(())
    }

    /// Zeroes and what is left of a recycled file's former life are damage only where batches follow.
    fn flush(&mut self, file: &str, pending: Option<Pending>, console: &mut Console) -> Result<()> {
        let Some(Pending { gap: Gap { at, bytes, damage, .. }, followed_by }) = pending else { return Ok(()) };
        let why = match damage {
            Some(why) => why,
            None if followed_by.batches > 0 => "zeroes where batches were".to_owned(),
            None => return Ok(()),
        };
        self.damage(file, at, Some(bytes), why, Some(followed_by), console)
    }

    fn damage(
        &mut self,
        file: &str,
        at: u64,
        bytes: Option<u64>,
        why: String,
        followed_by: Option<Run>,
        console: &mut Console,
    ) -> Result<()> {
        self.damages += 1;
        console.say(&Damage { file, at, bytes, why, followed_by })
    }
}

impl Run {
    fn count(&mut self, batch: &BatchItem) {
        let (first, _) = self.zxids.unwrap_or((batch.first_zxid, batch.last_zxid));
        self.zxids = Some((first, batch.last_zxid));
        self.batches += 1;
        self.records += u64::from(batch.records);
    }
}

/// What a start would do with these files and no snapshot.
fn decide(files: &[LogFile], begins_after: Zxid) -> Result<Decision> {
    let disk = ChosenFiles::segments(files);
    let directory = disk.directory().to_owned();
    match inspect::log_end(disk, &directory, begins_after) {
        Ok(end) => Ok(Decision {
            verdict: if end.cut_bytes > 0 { Outcome::TornTail } else { Outcome::EndsHere },
            last_good_zxid: Some(end.last_zxid.into()),
            file: end.place.map(|(segment, _)| segment.file_name()),
            at: end.place.map(|(_, at)| at),
            records: end.records,
            cut_bytes: end.cut_bytes,
            why: end.notes,
        }),
        Err(error @ (StoreError::Log(_) | StoreError::Snapshot(_))) => Ok(Decision {
            verdict: Outcome::Refuses,
            last_good_zxid: error.last_good().map(Hex::from),
            file: None,
            at: None,
            records: 0,
            cut_bytes: 0,
            why: vec![error.to_string()],
        }),
        Err(error) => Err(error.into()),
    }
}

impl fmt::Display for Damage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { file, at, bytes, why, followed_by } = self;
        write!(f, "{file}: DAMAGED at byte {at}: {why}")?;
        if let Some(bytes) = bytes {
            write!(f, " ({bytes} bytes)")?;
        }
        match followed_by {
            Some(Run { batches: 0, .. }) => write!(f, "; no batch follows in this file"),
            Some(run) => write!(f, "; behind it: {run}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Run { batches, records, zxids } = self;
        match zxids {
            None => write!(f, "no batches"),
            Some((first, last)) => write!(f, "{batches} batches with {records} records, zxid {first} to {last}"),
        }
    }
}

impl fmt::Display for FileSummary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FileSummary { file, run, damages, .. } = self;
        match damages {
            0 => write!(f, "{file}: sound: {run}"),
            _ => write!(f, "{file}: {damages} damages; whole: {run}"),
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(zxid) = self.last_good_zxid {
            write!(f, "last good transaction: {zxid}")?;
        }
        if let (Some(file), Some(at)) = (&self.file, self.at) {
            write!(f, " (the log ends at {file} byte {at}, {} records)", self.records)?;
        }
        match self.verdict {
            Outcome::EndsHere => write!(f, "\na start would take all of it"),
            Outcome::TornTail => write!(f, "\na start would cut {} bytes: {}", self.cut_bytes, self.why.join("; ")),
            Outcome::Refuses => write!(f, "\na start would refuse: {}", self.why.join("; ")),
        }
    }
}
