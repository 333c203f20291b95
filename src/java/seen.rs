//! What of Java's data is known here: so that a start notices when Java has run since.
//!
//! An import and an export leave a note in our directory: the last transaction and epoch of `version-2`, and how its newest
//! files look. A start compares. Java pads its logs, so sizes say little; where size or time of the newest files differ, the
//! newest log is read for its last transaction. More than was noted means that Java ran in between, and that two servers have
//! written down two histories: nobody but the operator knows which one counts, whatever the numbers are.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use ringkeeper_storage::java::{JavaDirectory, JavaError, remove_file, replace_file};
use ringkeeper_storage::{DIRECTORY, StoreError, Zxid};

use super::dirs::JavaDirs;

const FILE: &str = "version-2.seen";
/// What `version-2` holds when an export that is under way has its name.
const NEXT: &str = "version-2.seen-next";
const HEAD: &str = "# What ringkeeper knows of version-2. Written by imports and exports.";

/// A state of `version-2`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub zxid: Zxid,
    /// Java's `acceptedEpoch`: what was promised to a leader.
    pub epoch: u64,
    /// Name, size and time of the newest snapshot and the newest log.
    pub newest: Vec<String>,
}

/// What commands say of a `dataLogDir`, where there is one.
#[derive(Debug)]
pub struct Hints {
    /// ` --log-dir ...`
    log_dir: String,
    /// `, mv ...`
    and_logs: String,
}

impl Hints {
    pub(super) fn about(dirs: &JavaDirs) -> Box<Hints> {
        let (mut log_dir, mut and_logs) = (String::new(), String::new());
        if dirs.log != dirs.data {
            let logs = dirs.log.join(ringkeeper_storage::java::DIRECTORY);
            log_dir = format!(" --log-dir {}", dirs.log.display());
            and_logs = format!(", `mv {0} {0}.old`", logs.display());
        }
        Box::new(Hints { log_dir, and_logs })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SeenError {
    #[error(
        "{java}: a Java server has written here since its data became ours: it is at transaction {java_zxid} (epoch \
         {java_epoch}), was at {seen_zxid} (epoch {seen_epoch}) then, and ringkeeper is at {our_zxid}. Only one of the two can go \
         on, and what the other acknowledged meanwhile is lost. To go on with Java's: `rk import --replace {data}{log_dir}` (what \
         is ours is moved aside). To go on with ours: move Java's away, `mv {java} {java}.old`{and_logs}. Nothing was changed",
        log_dir = .hints.log_dir, and_logs = .hints.and_logs
    )]
    JavaRan {
        java: PathBuf,
        data: PathBuf,
        hints: Box<Hints>,
        java_zxid: Zxid,
        java_epoch: u64,
        seen_zxid: Zxid,
        seen_epoch: u64,
        our_zxid: Zxid,
    },
    #[error(
        "{ours}: an import of {java}, which ended with transaction {zxid}, was begun and not completed, and nothing is there to \
         import any more. Put {java} back, or move {ours} away as well to start without data"
    )]
    Unfinished { ours: PathBuf, java: PathBuf, zxid: Zxid },
    #[error(
        "{java}: these data, which end with transaction {zxid}, became ringkeeper's, and what it has written since is not in \
         {ours} any more. Bring that back (is its disk mounted?). If it is lost: a member of an ensemble gets everything from the \
         others, `mv {java} {java}.old`{and_logs} and start; `rk import {data}{log_dir}` takes the old state over once more, and what was \
         acknowledged since is gone. Nothing was changed",
        log_dir = .hints.log_dir, and_logs = .hints.and_logs
    )]
    Superseded { java: PathBuf, ours: PathBuf, data: PathBuf, hints: Box<Hints>, zxid: Zxid },
    #[error("{path}: line {line:?} is not understood; the file is ours and says what is known of Java's data")]
    Malformed { path: PathBuf, line: String },
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Java(#[from] JavaError),
}

impl Seen {
    /// How the newest files look now. Zxid and epoch are the caller's to fill in.
    pub fn of(directory: &JavaDirectory) -> Seen {
        let snapshot = directory.snapshots().first().map(|file| file.path.as_path());
        let log = directory.logs().last().map(|file| file.path.as_path());
        Seen { newest: snapshot.into_iter().chain(log).map(look).collect(), ..Seen::default() }
    }

    /// What it holds, without looking at more than the newest files.
    pub fn now(directory: &mut JavaDirectory) -> Result<Seen, JavaError> {
        let looks = Seen::of(directory);
        Ok(Seen { zxid: directory.last_logged()?, epoch: directory.epochs(Zxid::ZERO)?.accepted, ..looks })
    }

    /// The first line is for people.
    pub(super) fn text(&self, head: &str) -> String {
        let mut text = format!("{head}\nzxid={:#x}\nepoch={}\n", self.zxid.0, self.epoch);
        for file in &self.newest {
            let _ = writeln!(text, "file={file}");
        }
        text
    }

    /// What such a file says; `None` where there is none.
    pub(super) fn read(path: PathBuf) -> Result<Option<Seen>, SeenError> {
        match fs::read_to_string(&path) {
            Ok(text) => Seen::parse(&text).map(Some).map_err(|line| SeenError::Malformed { path, line }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(SeenError::Io { path, source }),
        }
    }

    fn parse(text: &str) -> Result<Seen, String> {
        let mut seen = Seen::default();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            seen.take(line).ok_or_else(|| line.to_owned())?;
        }
        Ok(seen)
    }

    fn take(&mut self, line: &str) -> Option<()> {
        let (key, value) = line.split_once('=')?;
        match key {
            "zxid" => self.zxid = Zxid(u64::from_str_radix(value.strip_prefix("0x")?, 16).ok()?),
            "epoch" => self.epoch = value.parse().ok()?,
            "file" => self.newest.push(value.to_owned()),
            _ => return None,
        }
        Some(())
    }
}

fn look(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match fs::metadata(path) {
        Ok(metadata) => {
            let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            format!("{name} {} {}", metadata.len(), modified.unwrap_or_default().as_nanos())
        }
        Err(_) => format!("{name} gone"),
    }
}

/// Notes it durably in our own directory, which is there.
pub fn note(data_dir: &Path, seen: &Seen) -> Result<(), SeenError> {
    if read(data_dir)?.as_ref() == Some(seen) { Ok(()) } else { Ok(write(data_dir, seen)?) }
}

/// The same, whatever it says now.
pub fn write(data_dir: &Path, seen: &Seen) -> Result<(), StoreError> {
    replace_file(&data_dir.join(DIRECTORY), FILE, seen.text(HEAD).as_bytes())
}

/// Notes what an export is about to put in place: a start between two of its steps finds the one or the other.
pub fn write_next(data_dir: &Path, seen: &Seen) -> Result<(), StoreError> {
    replace_file(&data_dir.join(DIRECTORY), NEXT, seen.text(HEAD).as_bytes())
}

/// It is in place.
pub fn arrived(data_dir: &Path, seen: &Seen) -> Result<(), StoreError> {
    write(data_dir, seen)?;
    remove_file(&data_dir.join(DIRECTORY), NEXT)
}

fn read(data_dir: &Path) -> Result<Option<Seen>, SeenError> {
    Seen::read(data_dir.join(DIRECTORY).join(FILE))
}

/// Refuses where an import was begun and not completed: what it stored passes for a history, and there is none.
pub fn check_begun(dirs: &JavaDirs) -> Result<(), SeenError> {
    match read(&dirs.data)? {
        Some(known) if known.zxid > Zxid::ZERO => Err(SeenError::Unfinished {
            ours: dirs.data.join(DIRECTORY),
            java: dirs.data.join(ringkeeper_storage::java::DIRECTORY),
            zxid: known.zxid,
        }),
        _ => Ok(()),
    }
}

/// Refuses when Java has gone beyond what is known of it. `our_zxid`: the last transaction of our own data, for the message.
/// Returns what there is to [`note`], if there is a `version-2` at all: the same transactions may be in other files, of a copy, or
/// of a Java server that was started and stopped again.
pub fn check(dirs: &JavaDirs, our_zxid: Zxid) -> Result<Option<Seen>, SeenError> {
    let mut directory = dirs.open()?;
    if directory.is_empty() {
        return Ok(None);
    }
    let now = Seen::of(&directory);
    let next = Seen::read(dirs.data.join(DIRECTORY).join(NEXT))?.filter(|next| next.newest == now.newest);
    let known = next.or(read(&dirs.data)?).unwrap_or_default();
    let epoch = directory.epochs(Zxid::ZERO)?.accepted;
    if now.newest == known.newest && epoch <= known.epoch {
        return Ok(Some(known));
    }
    let zxid = directory.last_logged()?;
    if zxid > known.zxid || epoch > known.epoch {
        return Err(SeenError::JavaRan {
            hints: Hints::about(dirs),
            java: dirs.data.join(ringkeeper_storage::java::DIRECTORY),
            data: dirs.data.clone(),
            java_zxid: zxid,
            java_epoch: epoch,
            seen_zxid: known.zxid,
            seen_epoch: known.epoch,
            our_zxid,
        });
    }
    Ok(Some(Seen { newest: now.newest, ..known }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_reads_back() {
        let seen =
            Seen { zxid: Zxid(0x1_0000_0002), epoch: 3, newest: vec!["snapshot.1 2 3".into(), "log.1 gone".into()] };
        assert_eq!(Seen::parse(&seen.text(HEAD)), Ok(seen));
        assert_eq!(Seen::parse("zxid=12"), Err("zxid=12".into()));
        assert_eq!(Seen::parse("whatever"), Err("whatever".into()));
    }

    #[test]
    fn logs_of_their_own_are_moved_and_named_too() {
        let told = |log: &str| {
            let dirs = JavaDirs { data: "/d".into(), log: log.into() };
            let hints = Hints::about(&dirs);
            SeenError::Superseded {
                java: "/d/version-2".into(),
                ours: "/d/r".into(),
                data: "/d".into(),
                hints,
                zxid: Zxid(1),
            }
            .to_string()
        };
        let apart = told("/l");
        assert!(
            apart.contains("`mv /d/version-2 /d/version-2.old`, `mv /l/version-2 /l/version-2.old` and start"),
            "{apart}"
        );
        assert!(apart.contains("`rk import /d --log-dir /l`"), "{apart}");
        assert!(told("/d").contains("`mv /d/version-2 /d/version-2.old` and start; `rk import /d` takes"));
    }
}
