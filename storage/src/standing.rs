//! What a server knows of its own past, and how it forgets one that is not worth having.
//!
//! ```text
//! state-new        nothing was ever stored here; written by the first start of a member of an ensemble
//! state-lost       what was acknowledged here is gone
//!                  both end with the next currentEpoch that is stored: then a leader's history is here as a whole
//! state-given-up   decided: everything here is deleted, then this becomes state-lost
//! state-damaged    decided: everything here is set aside as *.lost-N, then this becomes state-lost
//! snapshot-Z.install   decided: everything here is deleted, then this becomes snapshot-Z.rks (`Store::begin_install`)
//! state-log        the id of the log that goes with all this, from the moment there is one
//! ```
//!
//! All of these lie beside the snapshots. The three that decide: until their name is stable nothing has changed, after it any
//! start does the rest, from its first step, however far an earlier one came. So no power failure leaves half of a state that
//! could pass for a whole one. The text inside says why, for people; nobody parses it.
//!
//! The log may lie on a disk of its own, and that disk not be mounted: an empty directory is not a log without transactions.
//! `state-log` is what tells the two apart.
//!
//! The two marks that last are taken for nothing once there is a `currentEpoch`: giving up a state takes that file away with
//! it, and a learner stores it when everything its leader's epoch began with is durable. One rename so makes a server whole
//! again. `acceptedEpoch` is a promise, and stays through all of this.
//!
//! Java: a missing `initialize` file makes zxid -1 (on-disk formats 7.4); it knows no other loss. Quorum protocol 8, R8.2, R8.3.

use std::path::{Path, PathBuf};

use crate::disk::{Access, Action, Buffer, Disk, Ids, WriteSync};
use crate::epoch_file;
use crate::error::{LogError, SnapshotError, StoreError};
use crate::log::segment::{LogId, SegmentId};
use crate::log::{recover, truncate};
use crate::probe;
use crate::read::{GLANCE_WINDOW_BYTES, Reader, run};
use crate::snapshot;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has everything it ever acknowledged.
    Whole,
    /// Nothing was ever stored here: a new server, or one whose disk was replaced. Which of the two, only the others know.
    Fresh,
    /// Something that was acknowledged here is gone: a damaged log, a cut without a state below it. It does not vote until a
    /// leader has given it everything anew. Java: zxid -1.
    Lost,
}

const NEW: &str = "state-new";
const LOST: &str = "state-lost";
const GIVEN_UP: &str = "state-given-up";
const DAMAGED: &str = "state-damaged";
const LOG: &str = "state-log";
const CURRENT_EPOCH: &str = "currentEpoch";
const ACCEPTED_EPOCH: &str = "acceptedEpoch";
const ASIDE: &str = ".lost-";

/// The two directories of a store, and everything that changes them.
pub(crate) struct Place<'a, D> {
    pub(crate) disk: &'a mut D,
    pub(crate) ids: &'a mut Ids,
    pub(crate) snapshots: &'a Path,
    pub(crate) log: &'a Path,
}

impl<D: Disk> Place<'_, D> {
    /// `nothing_stored`: neither a snapshot nor a transaction.
    pub(crate) fn standing(&mut self, nothing_stored: bool) -> Result<Standing, StoreError> {
        let names = self.names(self.snapshots)?;
        let has = |name: &str| names.iter().any(|(found, _)| found == name);
        let nobody_is_lost = probe::broken("a lost server passes for a whole one");
        Ok(match has(CURRENT_EPOCH) || nobody_is_lost {
            true => Standing::Whole,
            false if has(LOST) => Standing::Lost,
            false if nothing_stored => Standing::Fresh,
            false if has(NEW) => Standing::Lost,
            false => Standing::Whole,
        })
    }

    /// Completes whatever was decided here. Returns what there is to tell.
    pub(crate) fn finish(&mut self) -> Result<Vec<String>, StoreError> {
        let names = self.names(self.snapshots)?;
        let install = names.iter().find_map(|(name, _)| snapshot::parse_install(name));
        if install.is_some() || names.iter().any(|(name, _)| name == GIVEN_UP || name == DAMAGED) {
            // Who decided may have died before the name was stable, and what goes now may lie on another file system.
            self.flush(self.snapshots)?;
        }
        let mut notes = Vec::new();
        if let Some(zxid) = install {
            probe::mark("storage: a leader's state took the place of everything");
            if !probe::broken("an installed state leaves the older log") {
                self.delete_everything(&[])?;
            }
            let (from, to) = (snapshot::install_path(self.snapshots, zxid), snapshot::path(self.snapshots, zxid));
            self.rename(&from, &to)?;
            self.flush(self.snapshots)?;
            notes.push(format!("a leader's state at {zxid} took the place of everything, as decided"));
        }
        if names.iter().any(|(name, _)| name == GIVEN_UP) {
            probe::mark("storage: a state was given up");
            let promise = probe::broken("a state that is given up takes the promise with it");
            self.delete_everything(&[CURRENT_EPOCH, if promise { ACCEPTED_EPOCH } else { CURRENT_EPOCH }])?;
            self.end_as_lost(GIVEN_UP)?;
        }
        if names.iter().any(|(name, _)| name == DAMAGED) {
            probe::mark("storage: a damaged state was set aside");
            self.set_everything_aside(&[CURRENT_EPOCH])?;
            self.end_as_lost(DAMAGED)?;
        }
        Ok(notes)
    }

    /// What an operator should know at each start.
    pub(crate) fn notes(&mut self, standing: Standing) -> Result<Vec<String>, StoreError> {
        let mut notes = Vec::new();
        if standing == Standing::Lost {
            let why = self.read(LOST)?.unwrap_or_else(|| "nothing was synchronised here so far".to_owned());
            notes.push(format!("{why}: this server does not vote until a leader has given it everything"));
        }
        let aside: Vec<_> = self.all_names()?.into_iter().filter(|(_, name, _)| aside_number(name).is_some()).collect();
        if !aside.is_empty() {
            let bytes: u64 = aside.iter().map(|(.., bytes)| bytes).sum();
            notes.push(format!(
                "{} files of a damaged state ({bytes} bytes) were set aside as *.lost-N; delete them when the cause is known",
                aside.len()
            ));
        }
        Ok(notes)
    }

    /// Decides that everything here is given up, and does it.
    pub(crate) fn give_up(&mut self, why: &str) -> Result<(), StoreError> {
        self.write(GIVEN_UP, why)?;
        self.finish().map(drop)
    }

    /// Decides that what is here is not what it was, and sets it aside. Not without knowing what this server has promised.
    pub(crate) fn set_aside(&mut self, why: &str) -> Result<(), StoreError> {
        epoch_file::check_accepted(self.disk, self.ids, self.snapshots)?;
        self.write(DAMAGED, why)?;
        self.finish().map(drop)
    }

    /// Before anything is stored by a member of an ensemble. Everybody else, and who has a history, needs no mark.
    pub(crate) fn mark(&mut self, standing: Standing, has_peers: bool) -> Result<(), StoreError> {
        let names = self.names(self.snapshots)?;
        let has = |name: &str| names.iter().any(|(found, _)| found == name);
        match standing {
            Standing::Fresh if has_peers && !has(NEW) => self.write(NEW, "nothing was ever stored here"),
            Standing::Whole => self.unmark(),
            _ if !has_peers => self.unmark(),
            _ => Ok(()),
        }
    }

    /// Whether there is a log. Where there was one, something of it has to be there: else what is missing is the disk it is on.
    pub(crate) fn has_log(&mut self) -> Result<bool, StoreError> {
        let is_log = |(name, _): &(String, u64)| SegmentId::parse(name).is_some() || truncate::is_cut(name);
        let there = self.names(self.log)?.iter().any(is_log);
        if there || self.known_log()?.is_none() { Ok(there) } else { Err(self.vanished(false)) }
    }

    /// Whether what lies there is of another log than the one that was here at the last start, as far as it says so.
    pub(crate) fn check_log_is_ours(&mut self) -> Result<(), StoreError> {
        let Some(Some(known)) = self.known_log()? else { return Ok(()) };
        let named = recover::logs_named(self.disk, self.ids, self.log)?;
        if named.is_empty() || named.contains(&known) { Ok(()) } else { Err(self.vanished(true)) }
    }

    fn vanished(&self, another: bool) -> StoreError {
        let (directory, noted) = (self.log.to_owned(), self.snapshots.join(LOG));
        LogError::Vanished { directory, noted, another }.into()
    }

    /// What was found has to be the log that was here at the last start.
    pub(crate) fn check_log(&mut self, found: Option<LogId>) -> Result<(), StoreError> {
        let Some(known) = self.known_log()? else { return Ok(()) };
        // One that cannot be read still says that there was a log.
        if found.is_some_and(|found| known.is_none_or(|known| known == found)) {
            return Ok(());
        }
        Err(self.vanished(found.is_some()))
    }

    /// Whether what lies beside the snapshots tells neither which log goes with them nor what was promised.
    pub(crate) fn knows_nothing(&mut self) -> Result<bool, StoreError> {
        let names = self.names(self.snapshots)?;
        Ok(!names.iter().any(|(name, _)| [LOG, NEW, LOST, CURRENT_EPOCH, ACCEPTED_EPOCH].contains(&name.as_str())))
    }

    /// What begins anew is no longer the log that was noted.
    pub(crate) fn log_ends(&mut self) -> Result<(), StoreError> {
        self.remove(&[LOG])
    }

    /// This log is stable here.
    pub(crate) fn log_begins(&mut self, log: LogId) -> Result<(), StoreError> {
        if self.known_log()? == Some(Some(log)) {
            return Ok(());
        }
        self.write(LOG, &note_of(log))
    }

    /// The log that was noted; Some(None): one that nobody can read.
    fn known_log(&mut self) -> Result<Option<Option<LogId>>, StoreError> {
        let text = self.read(LOG)?;
        Ok(text.map(|text| {
            let id = u64::from_str_radix(text.split_once(' ')?.0, 16).ok().map(LogId)?;
            (note_of(id) == text).then_some(id)
        }))
    }

    /// What is stored from now on is a history of its own.
    pub(crate) fn unmark(&mut self) -> Result<(), StoreError> {
        self.remove(&[NEW, LOST])
    }

    /// Those of these marks that there are, for good.
    fn remove(&mut self, marks: &[&str]) -> Result<(), StoreError> {
        let mut found = self.names(self.snapshots)?;
        found.retain(|(name, _)| marks.contains(&name.as_str()));
        for (name, _) in &found {
            self.unlink(&self.snapshots.join(name))?;
        }
        if found.is_empty() { Ok(()) } else { self.flush(self.snapshots) }
    }

    /// The order does not matter: until this is done, a decision stands beside it.
    fn delete_everything(&mut self, beside: &[&str]) -> Result<(), StoreError> {
        for path in self.everything(beside)? {
            self.unlink(&path)?;
        }
        self.flush_both()
    }

    fn set_everything_aside(&mut self, beside: &[&str]) -> Result<(), StoreError> {
        let numbers = self.all_names()?.into_iter().filter_map(|(_, name, _)| aside_number(&name));
        let number = 1 + numbers.max().unwrap_or(0);
        for path in self.everything(beside)? {
            let mut to = path.clone().into_os_string();
            to.push(format!("{ASIDE}{number}"));
            self.rename(&path, Path::new(&to))?;
        }
        self.flush_both()
    }

    fn end_as_lost(&mut self, decision: &str) -> Result<(), StoreError> {
        self.rename(&self.snapshots.join(decision), &self.snapshots.join(LOST))?;
        self.flush(self.snapshots)
    }

    /// Snapshots, log, and the files of these names beside the snapshots.
    fn everything(&mut self, beside: &[&str]) -> Result<Vec<PathBuf>, StoreError> {
        let mut all = self.all_names()?;
        all.retain(|(directory, name, _)| {
            let state = snapshot::parse_any(name).is_some() || name == LOG || beside.contains(&name.as_str());
            let log = SegmentId::parse(name).is_some() || truncate::is_cut(name);
            (directory == self.snapshots && state) || (directory == self.log && log)
        });
        Ok(all.into_iter().map(|(directory, name, _)| directory.join(name)).collect())
    }

    /// With the directory and the length of each file.
    fn all_names(&mut self) -> Result<Vec<(PathBuf, String, u64)>, StoreError> {
        let mut all = Vec::new();
        for directory in [self.snapshots, self.log] {
            let found = self.names(directory)?;
            all.extend(found.into_iter().map(|(name, bytes)| (directory.to_owned(), name, bytes)));
            if self.log == self.snapshots {
                break;
            }
        }
        Ok(all)
    }

    fn names(&mut self, directory: &Path) -> Result<Vec<(String, u64)>, StoreError> {
        let io = |source| StoreError::Io { path: directory.to_owned(), operation: "list", source };
        self.disk.list(directory).map_err(io)
    }

    /// Stable as a whole or not there at all.
    fn write(&mut self, name: &str, text: &str) -> Result<(), StoreError> {
        let path = self.snapshots.join(format!("{name}.tmp"));
        let file = self.ids.file();
        let mut buffer = Buffer::with_capacity(text.len());
        buffer.extend_from_slice(text.as_bytes());
        let steps = [
            Action::Open { file, path: path.clone(), access: Access::Create, direct: false },
            Action::Write { file, offset: 0, buffer, sync: WriteSync::None },
            Action::Sync { file },
            Action::Close { file },
            Action::Rename { from: path.clone(), to: self.snapshots.join(name) },
        ];
        for step in steps {
            run(self.disk, self.ids, &path, step)?;
        }
        self.flush(self.snapshots)
    }

    fn read(&mut self, name: &str) -> Result<Option<String>, StoreError> {
        let Some((_, bytes)) = self.names(self.snapshots)?.into_iter().find(|(found, _)| found == name) else {
            return Ok(None);
        };
        let path = self.snapshots.join(name);
        let mut reader = Reader::open(self.disk, self.ids, path, bytes, false, GLANCE_WINDOW_BYTES)?;
        let text = String::from_utf8_lossy(reader.get(self.disk, 0, bytes.min(GLANCE_WINDOW_BYTES))?).into_owned();
        reader.close(self.disk, self.ids);
        Ok(Some(text))
    }

    fn unlink(&mut self, path: &Path) -> Result<(), StoreError> {
        run(self.disk, self.ids, path, Action::Unlink { path: path.to_owned() })
    }

    fn rename(&mut self, from: &Path, to: &Path) -> Result<(), StoreError> {
        run(self.disk, self.ids, from, Action::Rename { from: from.to_owned(), to: to.to_owned() })
    }

    fn flush(&mut self, directory: &Path) -> Result<(), StoreError> {
        run(self.disk, self.ids, directory, Action::SyncDirectory { path: directory.to_owned() })
    }

    fn flush_both(&mut self) -> Result<(), StoreError> {
        self.flush(self.snapshots)?;
        if self.log == self.snapshots { Ok(()) } else { self.flush(self.log) }
    }
}

/// Checked, or a flipped bit would make a stranger of the log.
fn note_of(log: LogId) -> String {
    format!("{log} crc32c {:08x}\n", log.checksum(LOG.as_bytes()))
}

/// Which time it was that a file with this name was set aside.
fn aside_number(name: &str) -> Option<u32> {
    name.rsplit_once(ASIDE)?.1.parse().ok()
}

/// With peers, something that makes a server fetch everything anew instead of refusing to start: what is wrong, without the cure
/// that a refusal names. What may pass (a read that fails), what a newer version wrote, and what an operator did (a directory in the
/// wrong place) stays a refusal; so does a damaged promise, which no peer knows.
pub(crate) fn loss(error: &StoreError) -> Option<String> {
    Some(match error {
        StoreError::Log(LogError::Damaged { file, at, why, last_good, .. }) => {
            format!("{file}: {}, behind transaction {last_good}", why.at(*at))
        }
        StoreError::Log(LogError::CutShort { file, last_good, .. }) => {
            format!("{file}: cut short, behind transaction {last_good}")
        }
        StoreError::Log(LogError::Gap { snapshot, .. }) => {
            format!("the log does not reach back to snapshot {snapshot}")
        }
        StoreError::Log(LogError::Misfit { file, why, last_good }) => {
            format!("{file}: {why}, behind transaction {last_good}")
        }
        StoreError::Snapshot(SnapshotError::NoneUsable { newest }) => {
            format!("no snapshot is usable with the log: {newest}")
        }
        StoreError::EpochDamaged { path } if path.ends_with(CURRENT_EPOCH) => {
            format!("{CURRENT_EPOCH}: damaged or gone")
        }
        _ => return None,
    })
}
