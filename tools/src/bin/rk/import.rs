//! `rk import`: the directory of a Java server becomes ours.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use ringkeeper::java::load::Progress;
use ringkeeper::java::{
    JavaDirs,
    import::{self, ImportError, Imported},
};
use ringkeeper::java::{LoadError, LoadOptions, superseded};
use ringkeeper_storage::java::{JavaError, Strictness, replace_file};
use ringkeeper_storage::{DIRECTORY, StoreConfig, open, set_aside};
use serde::Serialize;

use crate::console::{Console, Failure, Result, Verdict};
use crate::{owner, progress};

#[derive(Args)]
pub struct Arguments {
    /// dataDir of the Java server (the directory above version-2); only read
    pub data_dir: PathBuf,
    /// Its dataLogDir, where it has one
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
    /// dataDir of ringkeeper, if another one
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// dataLogDir of ringkeeper, if it is to have one
    #[arg(long, value_name = "DIR")]
    pub to_log_dir: Option<PathBuf>,
    /// Take what can be read although something is missing or damaged; everything passed over is told
    #[arg(long)]
    pub force: bool,
    /// Move data of ringkeeper's own aside (to ringkeeper-1.replaced-N) instead of refusing
    #[arg(long)]
    pub replace: bool,
}

/// What came of it.
#[derive(Serialize)]
struct Said {
    item: &'static str,
    from: PathBuf,
    to: PathBuf,
    zxid: String,
    snapshot: String,
    records: u64,
    nodes: u64,
    ephemerals: u64,
    sessions: usize,
    digest: String,
    digest_verified_at: Option<String>,
    current_epoch: u64,
    accepted_epoch: u64,
    notes: Vec<String>,
    set_aside: Vec<PathBuf>,
    elapsed_ms: u128,
    #[serde(skip)]
    line: String,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        for path in &self.set_aside {
            writeln!(f, "moved aside: {}", path.display())?;
        }
        write!(f, "imported {}; {} was only read", self.line, self.from.display())
    }
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Verdict> {
    let begun = Instant::now();
    let data = arguments.data_dir.clone();
    let from = JavaDirs { log: arguments.log_dir.clone().unwrap_or_else(|| data.clone()), data };
    let config = target(arguments, &from);
    refuse_other_java_data(&from, &config)?;
    let read = match read(arguments, &from) {
        Ok(read) => read,
        Err(error) => return refused(error),
    };
    let set_aside = make_room(arguments, &config)?;
    let ended = install(&from, &config, read, &set_aside, begun, console);
    if !matches!(ended, Ok(Verdict::Fine)) {
        for path in &set_aside {
            eprintln!("rk: what was ringkeeper's own before is in {}", path.display());
        }
    }
    ended
}

fn install(
    from: &JavaDirs,
    config: &StoreConfig,
    read: Read,
    set_aside: &[PathBuf],
    begun: Instant,
    console: &mut Console,
) -> Result<Verdict> {
    let my_id = from.my_id();
    let opened = open(config.clone())?;
    let (opened, imported) = match import::install(opened, config, read, begun) {
        Ok(installed) => installed,
        Err(error) => return refused(error),
    };
    if let Some(my_id) = my_id.filter(|_| !config.data_dir.join("myid").exists()) {
        replace_file(&config.data_dir, "myid", my_id.as_bytes())?;
    }
    drop(opened);
    for directory in [&config.data_dir, &config.data_log_dir] {
        owner::follow(directory, &[DIRECTORY, "myid"])?;
    }
    if superseded::is_noted(&config.data_dir).map_err(|error| Failure::usage(error.to_string()))? {
        eprintln!("rk: note: this state was taken over before, and what ringkeeper wrote after that is not in it");
    }
    console.say(&said(from, config, imported, set_aside.to_vec()))?;
    Ok(Verdict::Fine)
}

fn target(arguments: &Arguments, from: &JavaDirs) -> StoreConfig {
    let data = arguments.to.as_ref().unwrap_or(&from.data);
    // Without a word about logs they stay where they are: apart in the same place, or together in another.
    let beside = if arguments.to.is_some() { data } else { &from.log };
    StoreConfig::new(data, arguments.to_log_dir.as_ref().unwrap_or(beside))
}

/// What a start remembers of Java's data is about one `version-2`: that beside ours.
fn refuse_other_java_data(from: &JavaDirs, to: &StoreConfig) -> Result<()> {
    let beside = JavaDirs { data: to.data_dir.clone(), log: to.data_log_dir.clone() };
    let is_other = beside.data.canonicalize().ok() != from.data.canonicalize().ok();
    if is_other && !beside.open().map_err(|error| Failure::usage(error.to_string()))?.is_empty() {
        let why = "there are data of another Java server here: import those, or name another directory";
        return Err(Failure::usage(format!("{}: {why}", to.data_dir.display())));
    }
    Ok(())
}

type Read = (ringkeeper::java::Loaded, ringkeeper::java::seen::Seen);

fn read(arguments: &Arguments, from: &JavaDirs) -> std::result::Result<Read, ImportError> {
    let strictness = if arguments.force { Strictness::Forced } else { Strictness::Strict };
    let bar = progress::of_import();
    let read = import::read(from, &LoadOptions { strictness, snapshot: None }, &mut |at| match at {
        Progress::Snapshot { read_bytes, file_bytes } => {
            bar.set_message("snapshot");
            // A packed file is longer than it looks.
            bar.set_length(file_bytes.max(read_bytes));
            bar.set_position(read_bytes);
        }
        Progress::Log { records, zxid } => bar.set_message(format!("log: {records} transactions, {zxid}")),
    });
    bar.finish_and_clear();
    read
}

/// Moved only once Java's data have been read and verified.
fn make_room(arguments: &Arguments, config: &StoreConfig) -> Result<Vec<PathBuf>> {
    if !arguments.replace {
        return Ok(vec![]);
    }
    Ok(set_aside(&config.data_dir, &config.data_log_dir, arguments.force)?)
}

/// Damage is an answer; everything else is a failure.
fn refused(error: ImportError) -> Result<Verdict> {
    let is_damage = match &error {
        ImportError::Load(LoadError::Java(error)) | ImportError::Java(error) => !matches!(error, JavaError::Store(_)),
        ImportError::Load(_) => true,
        ImportError::Store(_) | ImportError::ReadBack { .. } => false,
        ImportError::Nothing { .. } | ImportError::NotFresh { .. } | ImportError::Running { .. } => false,
    };
    if is_damage {
        eprintln!("rk: {error}. Nothing was changed; --force takes what can be read");
        return Ok(Verdict::Found);
    }
    match error {
        ImportError::Store(error) => Err(Failure::Store(error)),
        other => Err(Failure::usage(other.to_string())),
    }
}

fn said(from: &JavaDirs, config: &StoreConfig, imported: Imported, set_aside: Vec<PathBuf>) -> Said {
    let line = imported.to_string();
    let report = imported.loaded;
    let version_2 = |directory: &Path| directory.join(ringkeeper_storage::java::DIRECTORY);
    Said {
        item: "imported",
        from: version_2(&from.data),
        to: config.data_dir.join(DIRECTORY),
        zxid: report.last.to_string(),
        snapshot: report.snapshot.to_string(),
        records: report.records,
        nodes: imported.nodes,
        ephemerals: imported.ephemerals,
        sessions: imported.sessions,
        digest: format!("{:#x}", imported.digest),
        digest_verified_at: report.digest_verified_at.map(|zxid| zxid.to_string()),
        current_epoch: imported.epochs.current,
        accepted_epoch: imported.epochs.accepted,
        notes: report.notes,
        set_aside,
        elapsed_ms: imported.elapsed.as_millis(),
        line,
    }
}
