//! What a start, or an import, would make of some log files and nothing else: recovery itself is asked.

use std::fmt;

use ringkeeper_storage::inspect;
use ringkeeper_storage::java::{self, JavaDirectory, JavaError, LogReport, Strictness};
use ringkeeper_storage::{StoreError, Zxid};
use serde::Serialize;

use super::verify::Checked;
use crate::chosen::ChosenFiles;
use crate::console::{Failure, Result};
use crate::files::{LogFile, LogKind};
use crate::show::Hex;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    EndsHere,
    TornTail,
    Refuses,
}

#[derive(Debug, Serialize)]
#[serde(tag = "item", rename = "decision")]
pub struct Decision {
    by: &'static str,
    outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_good_zxid: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<u64>,
    records: u64,
    notes: Vec<String>,
}

impl Decision {
    pub fn takes_all(&self) -> bool {
        self.outcome == Outcome::EndsHere
    }
}

/// `files` are of this kind. `checked`: what was found in them.
pub fn decide(kind: LogKind, files: &[&LogFile], checked: &Checked) -> Result<Decision> {
    let disk = ChosenFiles::new(files.iter().copied());
    match kind {
        LogKind::Segment => start(disk, checked.begins_after),
        LogKind::Java => import(disk, checked.filled_by),
    }
}

fn start(disk: ChosenFiles, begins_after: Zxid) -> Result<Decision> {
    let directory = disk.directory().to_owned();
    match inspect::log_end(disk, &directory, begins_after) {
        Ok(end) => Ok(Decision {
            by: "start",
            outcome: if end.cut_bytes > 0 { Outcome::TornTail } else { Outcome::EndsHere },
            last_good_zxid: Some(end.last_zxid.into()),
            file: end.place.map(|(segment, _)| segment.file_name()),
            at: end.place.map(|(_, at)| at),
            records: end.records,
            notes: end.notes,
        }),
        Err(error @ (StoreError::Log(_) | StoreError::Snapshot(_))) => {
            Ok(Decision::refused("start", error.last_good(), error.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}

/// `snapshot`: the newest that these logs need.
fn import(disk: ChosenFiles, snapshot: Option<Zxid>) -> Result<Decision> {
    let directory = disk.directory().to_owned();
    // The files are not really there: their names alone tell more.
    let prefix = format!("{}/", directory.join(java::DIRECTORY).display());
    let named = |text: String| text.replace(&prefix, "");
    let replayed = JavaDirectory::open(disk, &directory, &directory).and_then(|mut found| {
        let first = found.logs().first().map_or(Zxid::ZERO, |log| log.first);
        let behind = snapshot.unwrap_or(Zxid(first.0.saturating_sub(1)));
        found.replay(behind, Strictness::Strict, |_, _| Ok(()))
    });
    match replayed {
        Ok(LogReport { last, records, notes }) => Ok(Decision {
            by: "import",
            outcome: if notes.is_empty() { Outcome::EndsHere } else { Outcome::TornTail },
            last_good_zxid: Some(last.into()),
            file: None,
            at: None,
            records,
            notes: notes.into_iter().map(named).collect(),
        }),
        Err(JavaError::Store(error @ StoreError::Io { .. })) => Err(Failure::Store(error)),
        Err(error) => {
            let last_good = match &error {
                JavaError::Log { last_good, .. } => Some(*last_good),
                JavaError::Gap { after, .. } => Some(*after),
                _ => None,
            };
            Ok(Decision::refused("import", last_good, named(error.to_string())))
        }
    }
}

impl Decision {
    fn refused(by: &'static str, last_good: Option<Zxid>, why: String) -> Decision {
        let last_good_zxid = last_good.map(Hex::from);
        Decision { by, outcome: Outcome::Refuses, last_good_zxid, file: None, at: None, records: 0, notes: vec![why] }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Decision { by, outcome, last_good_zxid, file, at, records, notes } = self;
        if let Some(zxid) = last_good_zxid {
            write!(f, "last good transaction: {zxid}")?;
            if let (Some(file), Some(at)) = (file, at) {
                write!(f, " (the log ends at {file} byte {at})")?;
            }
            writeln!(f)?;
        }
        match outcome {
            Outcome::EndsHere => write!(f, "{by}: would take all of it, {records} records"),
            Outcome::TornTail => {
                write!(f, "{by}: would take {records} records and leave a torn tail: {}", notes.join("; "))
            }
            Outcome::Refuses => write!(f, "{by}: would refuse: {}", notes.join("; ")),
        }
    }
}
