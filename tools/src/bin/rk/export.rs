//! `rk export`: a directory that a Java server starts on, from ours.

use std::fmt;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ringkeeper::java::JavaDirs;
use ringkeeper::java::export::{self, ExportError, Exported, Options, Progress};
use ringkeeper::java::load;
use ringkeeper_storage::java::{DIRECTORY as JAVA_DIRECTORY, ExportTarget, Sections};
use ringkeeper_storage::{DIRECTORY, StoreConfig, open};
use serde::Serialize;

use crate::console::{Console, Failure, Result, Verdict};
use crate::{files, owner, progress};

#[derive(Args)]
pub struct Arguments {
    /// dataDir of ringkeeper (the directory above ringkeeper-1); only read
    pub data_dir: PathBuf,
    /// Its dataLogDir, where it has one
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
    /// dataDir of the Java server, if another one
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// dataLogDir of the Java server, if it is to have one
    #[arg(long, value_name = "DIR")]
    pub to_log_dir: Option<PathBuf>,
    /// The Java version that is going to read it
    #[arg(long, value_name = "VERSION", value_enum, default_value_t = Reader::Newest)]
    pub reader: Reader,
    /// The present state as a snapshot alone, instead of our newest snapshot and a log with what came after it
    #[arg(long)]
    pub snapshot_only: bool,
    /// Move a version-2 with files in it aside (to version-2.replaced-N) instead of refusing
    #[arg(long)]
    pub replace: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Reader {
    /// 3.5 and older: nodes and sessions only
    #[value(name = "3.5")]
    V3_5,
    /// 3.6 to 3.8: a digest too
    #[value(name = "3.8")]
    V3_8,
    /// 3.9 and newer: a digest and the last zxid
    #[value(name = "3.9")]
    Newest,
}

#[derive(Serialize)]
struct Said {
    item: &'static str,
    to: PathBuf,
    zxid: String,
    snapshot: String,
    records: u64,
    nodes: u64,
    sessions: usize,
    digest: String,
    epoch: u64,
    bytes: u64,
    set_aside: Vec<PathBuf>,
    elapsed_ms: u128,
    #[serde(skip)]
    line: String,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for path in &self.set_aside {
            writeln!(f, "moved aside: {}", path.display())?;
        }
        write!(f, "{}: {}", self.to.display(), self.line)
    }
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Verdict> {
    let data = &arguments.data_dir;
    if !files::is_directory(&data.join(DIRECTORY))? {
        return Err(Failure::usage(format!("{}: there is no {DIRECTORY} here", data.display())));
    }
    // The lock that comes with it: a server at work would go on behind our back.
    let mut opened = open(StoreConfig::new(data, arguments.log_dir.as_ref().unwrap_or(data)))?;
    for note in &opened.report().notes {
        eprintln!("rk: {note}");
    }
    let options = options(arguments);
    let bar = progress::of_export();
    let exported = export::export(&mut opened, data, options.clone(), &mut |at| match at {
        Progress::Nodes { done, of } => show(&bar, "nodes", done, of),
        Progress::Records { done, of } => show(&bar, "transactions", done, of),
        Progress::Verify(load::Progress::Snapshot { read_bytes, file_bytes }) => {
            show(&bar, "reading back", read_bytes, file_bytes);
        }
        Progress::Verify(load::Progress::Log { records, .. }) => show(&bar, "reading back", records, records),
    });
    bar.finish_and_clear();
    // The note of what Java's directory holds.
    owner::follow(data, &[DIRECTORY])?;
    let exported = match exported {
        Ok(exported) => exported,
        Err(error) => return refused(error),
    };
    for directory in [&options.target.data_dir, &options.target.log_dir] {
        owner::follow(directory, &[JAVA_DIRECTORY, "myid", export::MARKER])?;
    }
    console.say(&said(&options, exported))?;
    Ok(Verdict::Fine)
}

fn show(bar: &indicatif::ProgressBar, what: &'static str, done: u64, of: u64) {
    bar.set_message(what);
    bar.set_length(of);
    bar.set_position(done);
}

fn options(arguments: &Arguments) -> Options {
    let data_dir = arguments.to.as_ref().unwrap_or(&arguments.data_dir).clone();
    let ours = || arguments.log_dir.clone().filter(|_| arguments.to.is_none());
    let log_dir = arguments.to_log_dir.clone().or_else(ours).unwrap_or_else(|| data_dir.clone());
    let from = JavaDirs { data: arguments.data_dir.clone(), log: arguments.data_dir.clone() };
    let my_id = from.my_id().filter(|_| !data_dir.join("myid").exists());
    Options {
        target: ExportTarget { data_dir, log_dir, replace: arguments.replace },
        sections: match arguments.reader {
            Reader::V3_5 => Sections::NodesOnly,
            Reader::V3_8 => Sections::Digest,
            Reader::Newest => Sections::All,
        },
        snapshot_only: arguments.snapshot_only,
        my_id,
    }
}

/// Data of ours that contradict themselves, or a disk that gives back other bytes, are an answer.
fn refused(error: ExportError) -> Result<Verdict> {
    match error {
        ExportError::Store(error) => Err(Failure::Store(error)),
        ExportError::Target(_) | ExportError::Nothing { .. } | ExportError::Running { .. } => {
            Err(Failure::usage(error.to_string()))
        }
        damage => {
            eprintln!("rk: {damage}. Nothing was exported");
            Ok(Verdict::Found)
        }
    }
}

fn said(options: &Options, exported: Exported) -> Said {
    Said {
        item: "exported",
        to: options.target.data_dir.join(JAVA_DIRECTORY),
        zxid: exported.last.to_string(),
        snapshot: exported.snapshot.to_string(),
        records: exported.records,
        nodes: exported.nodes,
        sessions: exported.sessions,
        digest: format!("{:#x}", exported.digest),
        epoch: exported.epochs.current,
        bytes: exported.bytes,
        line: exported.to_string(),
        set_aside: exported.set_aside,
        elapsed_ms: exported.elapsed.as_millis(),
    }
}
