//! `rk verify-dir`: a whole data directory, ours and Java's: every file checked, and what a start would make of them together.
//!
//! Nothing is changed and no lock is taken; a server that holds the directory is named, because then the end of its log is
//! moving while it is looked at.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args;
use ringkeeper::java::seen::{self, Seen, SeenError};
use ringkeeper::java::{self, JavaDirs, LoadOptions, superseded};
use ringkeeper_storage::backend::lock;
use ringkeeper_storage::java::{DIRECTORY as JAVA_DIRECTORY, JavaDirectory, JavaError};
use ringkeeper_storage::{DIRECTORY, Epochs, StoreConfig, StoreError, Zxid, open_on};
use serde::Serialize;

use crate::chosen::{Looking, ONLY_LOOKING};
use crate::console::{Console, Failure, Result, Verdict};
use crate::files::{self, LogKind};
use crate::log::verify;
use crate::progress;
use crate::show::Hex;
use crate::snapshot;

#[derive(Args)]
pub struct Arguments {
    /// The server's dataDir
    pub data_dir: PathBuf,
    /// The server's dataLogDir, where it is another one
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Verdict> {
    let data_dir = files::data_dir_of(&arguments.data_dir);
    let log_dir = arguments.log_dir.as_deref().map_or(data_dir.clone(), files::data_dir_of);
    if !files::is_directory(&data_dir)? {
        return Err(Failure::usage(format!("{}: no such directory", data_dir.display())));
    }
    let mut verdict = Verdict::Fine;
    let (ours, javas) = (has(&data_dir, &log_dir, DIRECTORY)?, has(&data_dir, &log_dir, JAVA_DIRECTORY)?);
    if !ours && !javas {
        let data_dir = data_dir.display();
        return Err(Failure::usage(format!("{data_dir}: neither {DIRECTORY} nor {JAVA_DIRECTORY} is in it")));
    }
    if ours {
        let holder = lock::holder(&data_dir.join(DIRECTORY)).map_err(Failure::file(&data_dir))?;
        console.say(&Place { directory: data_dir.join(DIRECTORY), held_by: holder })?;
        verdict = verdict.or(check_snapshots(&data_dir.join(DIRECTORY), console)?);
        verdict = verdict.or(check_files(&log_dir, LogKind::Segment, &[], console)?);
        verdict = verdict.or(start(&data_dir, &log_dir, console)?);
    } else {
        verdict = verdict.or(check_superseded(&JavaDirs { data: data_dir.clone(), log: log_dir.clone() }, console)?);
    }
    if javas {
        console.say(&Place { directory: data_dir.join(JAVA_DIRECTORY), held_by: None })?;
        verdict = verdict.or(check_snapshots(&data_dir.join(JAVA_DIRECTORY), console)?);
        let snapshots = files::java_snapshots_beside(&data_dir)?;
        verdict = verdict.or(check_files(&log_dir, LogKind::Java, &snapshots, console)?);
        verdict = verdict.or(import(&data_dir, &log_dir, console)?);
    }
    Ok(verdict)
}

fn has(data_dir: &Path, log_dir: &Path, inner: &str) -> Result<bool> {
    Ok(files::is_directory(&data_dir.join(inner))? || files::is_directory(&log_dir.join(inner))?)
}

fn check_snapshots(directory: &Path, console: &mut Console) -> Result<Verdict> {
    let mut verdict = Verdict::Fine;
    for path in files::snapshots_in(directory)? {
        verdict = verdict.or(snapshot::verify::check(&path, console)?);
    }
    Ok(verdict)
}

fn check_files(log_dir: &Path, kind: LogKind, snapshots: &[Zxid], console: &mut Console) -> Result<Verdict> {
    let logs = files::logs_in(log_dir)?.into_iter().filter(|file| file.kind == kind).collect::<Vec<_>>();
    let checked = verify::check(&logs, snapshots, console)?;
    Ok(Verdict::found_if(checked.damages > 0))
}

const AS_A_MEMBER: &str = "start as a member of an ensemble";

/// What a start would do with our files: the start's own recovery, which changes nothing before it is told to.
fn start(data_dir: &Path, log_dir: &Path, console: &mut Console) -> Result<Verdict> {
    let mut opened = match open_on(Looking::default(), StoreConfig::new(data_dir, log_dir)) {
        Ok(opened) => opened,
        // Recovery changes nothing, but for a truncation that was decided and cut short: that it has to finish first.
        Err(StoreError::Io { path, operation, source }) if source.kind() == ONLY_LOOKING => {
            let path = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
            let note =
                format!("a truncation was decided and not finished; a start finishes it first ({operation} of {path})");
            console.say(&Decision { by: "start", notes: vec![note], ..Decision::default() })?;
            return Ok(Verdict::Found);
        }
        Err(error @ StoreError::Io { .. }) => return Err(error.into()),
        Err(error) => return refuse("start", error.to_string(), console),
    };
    let dirs = JavaDirs { data: data_dir.to_owned(), log: log_dir.to_owned() };
    let report = opened.report();
    if opened.is_fresh() && has(data_dir, log_dir, JAVA_DIRECTORY)? {
        let verdict = check_superseded(&dirs, console)?;
        if verdict == Verdict::Fine {
            let notes = vec![format!("would import {JAVA_DIRECTORY} first")];
            console.say(&Decision { by: "start", notes, ..Decision::default() })?;
        }
        return Ok(verdict);
    }
    match seen::check(&dirs, report.last_zxid) {
        Ok(_) => {}
        Err(SeenError::Store(error @ StoreError::Io { .. })) => return Err(error.into()),
        Err(error) => return refuse("start", error.to_string(), console),
    }
    let snapshot = opened.snapshot_header().map(|header| SnapshotChoice {
        zxid: Hex(header.zxid),
        nodes: Some(header.node_count),
        sessions: Some(header.sessions.len() as u64),
    });
    let log = opened.log_range().map(|range| LogChoice {
        records: report.records,
        from: Some(Spot { file: range.start.0.file_name(), at: range.start.1 }),
        to: Some(Spot { file: range.end.0.file_name(), at: range.end.1 }),
    });
    let decision = Decision {
        by: "start",
        refuses: None,
        snapshot,
        log,
        last_zxid: Some(report.last_zxid.into()),
        cut_bytes: report.cut_bytes,
        notes: report.notes.clone(),
    };
    let found = Verdict::found_if(report.cut_bytes > 0 || !report.notes.is_empty());
    console.say(&decision)?;
    // A standalone server does not ask for them.
    match opened.epochs() {
        Ok(Epochs { accepted: 0, current: 0 }) => Ok(found),
        Ok(Epochs { accepted, current }) => console.say(&EpochsFound { accepted, current }).map(|()| found),
        Err(error @ StoreError::Io { .. }) => Err(error.into()),
        Err(error) if error.is_loss() => {
            let note = format!("would set everything aside, and have it from a leader: {error}");
            console.say(&Decision { by: AS_A_MEMBER, notes: vec![note], ..Decision::default() })?;
            Ok(Verdict::Found)
        }
        Err(error) => refuse(AS_A_MEMBER, error.to_string(), console),
    }
}

/// Whether a start that has Java's files and none of ours would take them over.
fn check_superseded(dirs: &JavaDirs, console: &mut Console) -> Result<Verdict> {
    let now = dirs.open().and_then(|mut directory| Seen::now(&mut directory));
    match now.map(|now| superseded::check(dirs, &now)) {
        Ok(Err(error)) => refuse("start", error.to_string(), console),
        // What cannot be read the import says.
        Ok(Ok(())) | Err(_) => Ok(Verdict::Fine),
    }
}

/// What an import would do with Java's: it is read as the import reads it, into memory.
fn import(data_dir: &Path, log_dir: &Path, console: &mut Console) -> Result<Verdict> {
    let bar = progress::spinner("reading as an import would");
    let loaded = JavaDirectory::open(Looking::default(), data_dir, log_dir).map_err(java::LoadError::Java);
    let loaded =
        loaded.and_then(|mut directory| java::load(&mut directory, &LoadOptions::default(), &mut |_| bar.tick()));
    bar.finish_and_clear();
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(java::LoadError::Java(JavaError::Store(error @ StoreError::Io { .. }))) => return Err(error.into()),
        Err(error) => return refuse("import", error.to_string(), console),
    };
    let mut notes = loaded.report.notes;
    match loaded.report.digest_verified_at {
        Some(zxid) => notes.push(format!("the digest of transaction {zxid} agrees with the tree")),
        None => notes.push("no digest to compare the tree with".to_owned()),
    }
    let mismatches = &loaded.report.mismatches;
    if let (Some(first), Some(last)) = (mismatches.first(), mismatches.last()) {
        notes.push(format!("{} transactions have another digest, {first} to {last}", mismatches.len()));
    }
    let decision = Decision {
        by: "import",
        refuses: None,
        snapshot: Some(SnapshotChoice { zxid: loaded.report.snapshot.into(), nodes: None, sessions: None }),
        log: Some(LogChoice { records: loaded.report.records, from: None, to: None }),
        last_zxid: Some(loaded.report.last.into()),
        cut_bytes: 0,
        notes,
    };
    console.say(&decision)?;
    Ok(Verdict::found_if(!mismatches.is_empty()))
}

fn refuse(by: &'static str, why: String, console: &mut Console) -> Result<Verdict> {
    console.say(&Decision { by, refuses: Some(why), ..Decision::default() })?;
    Ok(Verdict::Found)
}

#[derive(Serialize)]
#[serde(tag = "item", rename = "directory")]
struct Place {
    directory: PathBuf,
    /// The pid of the server that runs on it.
    held_by: Option<String>,
}

/// What a member has promised, and where it was last.
#[derive(Serialize)]
#[serde(tag = "item", rename = "epochs")]
struct EpochsFound {
    accepted: u32,
    current: u32,
}

#[derive(Default, Serialize)]
#[serde(tag = "item", rename = "decision")]
struct Decision {
    by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    refuses: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<SnapshotChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<LogChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_zxid: Option<Hex>,
    cut_bytes: u64,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct SnapshotChoice {
    zxid: Hex,
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions: Option<u64>,
}

#[derive(Serialize)]
struct LogChoice {
    /// Behind the snapshot.
    records: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Spot>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Spot>,
}

#[derive(Serialize)]
struct Spot {
    file: String,
    at: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.directory.display())?;
        match &self.held_by {
            Some(pid) => {
                write!(f, " a server runs on it (pid {pid}): the end of its log is moving while it is looked at")
            }
            None => Ok(()),
        }
    }
}

impl fmt::Display for EpochsFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{AS_A_MEMBER}: accepted epoch {}, was in epoch {}", self.accepted, self.current)
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} byte {}", self.file, self.at)
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Decision { by, refuses, snapshot, log, last_zxid, cut_bytes, notes } = self;
        if let Some(why) = refuses {
            return write!(f, "{by}: would refuse: {why}");
        }
        match snapshot {
            Some(SnapshotChoice { zxid, nodes, sessions }) => {
                write!(f, "{by}: would take snapshot {zxid}")?;
                if let (Some(nodes), Some(sessions)) = (nodes, sessions) {
                    write!(f, " ({nodes} nodes, {sessions} sessions)")?;
                }
            }
            None if log.is_none() => write!(f, "{by}: has nothing to begin with yet")?,
            None => write!(f, "{by}: would begin without a snapshot")?,
        }
        if let Some(LogChoice { records, from, to }) = log {
            write!(f, " and {records} transactions behind it")?;
            if let (Some(from), Some(to)) = (from, to) {
                write!(f, " (reading from {from} to {to})")?;
            }
        }
        if let Some(zxid) = last_zxid {
            write!(f, "; the last is {zxid}")?;
        }
        if *cut_bytes > 0 {
            write!(f, "\n{by}: would cut {cut_bytes} bytes")?;
        }
        notes.iter().try_for_each(|note| write!(f, "\n{by}: {note}"))
    }
}
