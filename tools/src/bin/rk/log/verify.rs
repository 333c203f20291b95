//! `rk log verify`: every checksum, every link of the chain, every record; and what a start would make of it.
//!
//! Damage is shown as it is met, with what follows it: batches behind a hole tell how much more than the hole is lost. What a
//! start would decide is not worked out here: recovery itself is asked, on the same files, and changes nothing.
//! A Java member that was brought up to date by SNAP has no log of what the snapshot holds: that gap is no damage.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use ringkeeper_storage::Zxid;
use ringkeeper_storage::inspect::Link;
use ringkeeper_storage::java::names;
use ringkeeper_storage::java::txn_log::repeats;
use serde::Serialize;

use super::decide::decide;
use super::read::{self, BatchItem, Gap, GapKind, Item};
use super::record::Record;
use crate::console::{Console, Result, Verdict};
use crate::files::{self, LogFile, LogKind};
use crate::show::Hex;

#[derive(Args)]
pub struct Arguments {
    /// A log file, or a directory with log files
    pub path: PathBuf,
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Verdict> {
    let files = files::logs(&arguments.path)?;
    let snapshots = files::java_snapshots_beside(&arguments.path)?;
    let checked = check(&files, &snapshots, console)?;
    let mut verdict = Verdict::found_if(checked.damages > 0);
    for kind in [LogKind::Segment, LogKind::Java] {
        let files: Vec<_> = files.iter().filter(|file| file.kind == kind).collect();
        if !files.is_empty() {
            let decision = decide(kind, &files, &checked)?;
            verdict = verdict.or(Verdict::found_if(!decision.takes_all()));
            console.say(&decision)?;
        }
    }
    Ok(verdict)
}

/// Says what is wrong in these files, and sums up each. `snapshots`: of the same server, if it is a Java server.
pub fn check(files: &[LogFile], snapshots: &[Zxid], console: &mut Console) -> Result<Checked> {
    let checked = Checked::default();
    let mut check = Check { console, snapshots, file: String::new(), link: None, log_id: None, last: None, checked };
    for file in files {
        check.file(file)?;
    }
    Ok(check.checked)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    pub damages: u64,
    /// The last transaction before the first of our log.
    pub begins_after: Zxid,
    /// The snapshot that has what Java's logs do not have, where that is so: they go on behind it.
    pub filled_by: Option<Zxid>,
}

/// What looks like damage and is none.
#[derive(Serialize)]
#[serde(tag = "item", rename = "note")]
struct Note<'a> {
    file: &'a str,
    at: u64,
    note: String,
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
    /// What is whole behind it, up to the next damage.
    #[serde(skip_serializing_if = "Option::is_none")]
    followed_by: Option<Run>,
}

/// Whole records in a row.
#[derive(Clone, Copy, Default, Serialize)]
struct Run {
    #[serde(skip_serializing_if = "Option::is_none")]
    batches: Option<u64>,
    records: u64,
    /// Of the first and the last transaction.
    zxids: Option<(Hex, Hex)>,
}

#[derive(Serialize)]
#[serde(tag = "item", rename = "file")]
struct FileSummary<'a> {
    file: &'a str,
    format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_id: Option<Hex>,
    #[serde(flatten)]
    run: Run,
    damages: u64,
}

struct Check<'a> {
    console: &'a mut Console,
    /// Of a Java server.
    snapshots: &'a [Zxid],
    /// The one being read.
    file: String,
    /// What the next batch has to follow.
    link: Option<Link>,
    /// Which log the file is part of.
    log_id: Option<Hex>,
    /// Of a Java log.
    last: Option<Zxid>,
    checked: Checked,
}

/// A stretch whose followers are still being counted.
struct Pending {
    gap: Gap,
    followed_by: Run,
}

impl Check<'_> {
    fn file(&mut self, file: &LogFile) -> Result<()> {
        self.file = file.name();
        let before = self.checked.damages;
        let (mut whole, mut pending, mut format) = (Run::default(), None, "");
        read::read(file, &mut |item| {
            match item {
                Item::File(item) => {
                    format = item.format;
                    if let Some(base) = item.base {
                        self.begins_after(base.zxid);
                        self.link = Some(base);
                    }
                    let before = self.log_id;
                    self.log_id = item.log_id;
                    let other = before.is_some() && self.log_id.is_some() && before != self.log_id;
                    if other && item.base.is_none() {
                        self.damage(0, None, "it belongs to another log than the file before it".to_owned(), None)?;
                    }
                    for why in item.damage {
                        self.damage(0, None, why, None)?;
                    }
                }
                Item::Batch(batch) => {
                    self.batch(&batch, pending.is_some())?;
                    let zxids = (batch.first_zxid, batch.last_zxid);
                    for run in counting(&mut whole, &mut pending) {
                        run.count(1, u64::from(batch.records), zxids);
                    }
                }
                Item::Record { at, zxid, payload } => {
                    if let Some(why) = Record::decode(at, None, zxid, payload, false).damage {
                        self.damage(at, None, format!("zxid {zxid}: {why}"), None)?;
                    }
                    if file.kind == LogKind::Java {
                        let is_repeated = self.last.is_some_and(|last| repeats(zxid, payload, last));
                        if !is_repeated {
                            self.java_record(at, zxid, pending.is_some())?;
                        }
                        for run in counting(&mut whole, &mut pending) {
                            run.count(0, 1, (zxid.into(), zxid.into()));
                        }
                    }
                }
                Item::Gap(gap) => {
                    let before = pending.replace(Pending { gap, followed_by: Run::default() });
                    self.flush(before)?;
                }
            }
            Ok(())
        })?;
        self.flush(pending)?;
        let damages = self.checked.damages - before;
        self.console.say(&FileSummary { file: &self.file, format, log_id: self.log_id, run: whole, damages })
    }

    fn begins_after(&mut self, zxid: Zxid) {
        if self.link.is_none() {
            self.checked.begins_after = zxid;
        }
    }

    /// Behind a hole nothing can follow what was before it: the hole was told already.
    fn batch(&mut self, batch: &BatchItem, behind_a_hole: bool) -> Result<()> {
        self.begins_after(batch.before.zxid);
        let expected = self.link.replace(batch.after).filter(|expected| *expected != batch.before);
        if let Some(expected) = expected.filter(|_| !behind_a_hole) {
            let why = format!(
                "batch {} (from zxid {}) does not follow batch {} (to zxid {})",
                batch.sequence, batch.first_zxid, expected.sequence, expected.zxid
            );
            self.damage(batch.at, None, why, None)?;
        }
        match &batch.damage {
            Some(why) => self.damage(batch.at, Some(batch.padded_bytes), why.clone(), None),
            None => Ok(()),
        }
    }

    fn java_record(&mut self, at: u64, zxid: Zxid, behind_a_hole: bool) -> Result<()> {
        let Some(last) = self.last.replace(zxid).filter(|_| !behind_a_hole) else { return Ok(()) };
        let why = if zxid <= last {
            format!("transaction {zxid} comes again, behind {last}")
        } else if zxid.can_follow(last) {
            return Ok(());
        } else if let Some(filled_by) = self.filled_by(last, zxid) {
            self.checked.filled_by = Some(filled_by);
            let name = names::snapshot(filled_by);
            let note = format!("transaction {zxid} follows {last}: what is between them {name} has");
            return self.console.say(&Note { file: &self.file, at, note });
        } else {
            format!("transaction {zxid} follows {last}: what is between them is missing")
        };
        self.damage(at, None, why, None)
    }

    /// The snapshot that a log goes on from with `next`: of that moment, or of a later one.
    fn filled_by(&self, last: Zxid, next: Zxid) -> Option<Zxid> {
        self.snapshots
            .iter()
            .copied()
            .find(|&snapshot| snapshot > last && (next.can_follow(snapshot) || next <= snapshot))
    }

    /// Zeroes, and what is left of a recycled file's former life, are damage only where batches follow.
    fn flush(&mut self, pending: Option<Pending>) -> Result<()> {
        let Some(Pending { gap: Gap { at, bytes, kind, damage }, followed_by }) = pending else { return Ok(()) };
        let why = match (damage, kind) {
            (Some(why), _) => why,
            (None, _) if followed_by.records == 0 => return Ok(()),
            (None, GapKind::Zeroes) => "zeroes where batches were".to_owned(),
            (None, _) => "no batches where batches were".to_owned(),
        };
        self.damage(at, Some(bytes), why, Some(followed_by))
    }

    fn damage(&mut self, at: u64, bytes: Option<u64>, why: String, followed_by: Option<Run>) -> Result<()> {
        self.checked.damages += 1;
        self.console.say(&Damage { file: &self.file, at, bytes, why, followed_by })
    }
}

/// What a record counts for: its file, and the damage before it.
fn counting<'a>(whole: &'a mut Run, pending: &'a mut Option<Pending>) -> impl Iterator<Item = &'a mut Run> {
    std::iter::once(whole).chain(pending.as_mut().map(|pending| &mut pending.followed_by))
}

impl Run {
    fn count(&mut self, batches: u64, records: u64, (first, last): (Hex, Hex)) {
        if batches > 0 {
            *self.batches.get_or_insert(0) += batches;
        }
        self.records += records;
        self.zxids = Some((self.zxids.map_or(first, |(first, _)| first), last));
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
            Some(run) => write!(f, "; behind it: {run}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Note<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Note { file, at, note } = self;
        write!(f, "{file}: at byte {at}: {note}")
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Run { batches, records, zxids } = self;
        let Some((first, last)) = zxids else { return write!(f, "no records") };
        if let Some(batches) = batches {
            write!(f, "{batches} batches, ")?;
        }
        write!(f, "{records} records, zxid {first} to {last}")
    }
}

impl fmt::Display for FileSummary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FileSummary { file, log_id, run, damages, .. } = self;
        match damages {
            0 => write!(f, "{file}: sound: {run}"),
            _ => write!(f, "{file}: {damages} damages; whole: {run}"),
        }?;
        match log_id {
            Some(id) => write!(f, ", log id {id}"),
            None => Ok(()),
        }
    }
}
