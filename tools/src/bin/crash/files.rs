//! What the server's files went through, as far as a look between two lives can tell: a lower bound of each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::SystemTime;

use ringkeeper_tools::Result;
use ringkeeper_tools::server::{Kind, Setup};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileTotals {
    /// New log files.
    pub rolls: u64,
    /// Log files that are former ones under a new name.
    pub recycled: u64,
    /// Snapshots that were completed.
    pub snapshots: u64,
    /// Snapshots that were deleted again.
    pub purged: u64,
    /// Snapshots that were cut short.
    pub unfinished: u64,
}

impl std::ops::AddAssign<&FileTotals> for FileTotals {
    fn add_assign(&mut self, other: &FileTotals) {
        self.rolls += other.rolls;
        self.recycled += other.recycled;
        self.snapshots += other.snapshots;
        self.purged += other.purged;
        self.unfinished += other.unfinished;
    }
}

/// A file whatever its name. Inode numbers are used again, birth times are not.
type Identity = (u64, Option<SystemTime>);

#[derive(Debug)]
pub struct Files {
    directory: PathBuf,
    /// Present at the last look.
    snapshots: BTreeSet<String>,
    /// Under which name each was first seen.
    log_files: BTreeMap<Identity, String>,
    log_names: BTreeSet<String>,
    pub totals: FileTotals,
}

impl Files {
    pub fn new(setup: &Setup) -> Files {
        let directory = match setup.kind {
            Kind::Ringkeeper { .. } => "ringkeeper-1",
            Kind::Java { .. } => "version-2",
        };
        Files {
            directory: setup.data().join(directory),
            snapshots: BTreeSet::new(),
            log_files: BTreeMap::new(),
            log_names: BTreeSet::new(),
            totals: FileTotals::default(),
        }
    }

    /// Between two lives of the server.
    pub fn look(&mut self) -> Result<()> {
        let mut snapshots = BTreeSet::new();
        let Ok(entries) = fs::read_dir(&self.directory) else { return Ok(()) }; // before the first life
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let metadata = entry.metadata()?;
            if name.ends_with(".tmp") {
                self.totals.unfinished += u64::from(name.starts_with("snapshot"));
            } else if name.starts_with("snapshot") {
                snapshots.insert(name);
            } else if name.starts_with("log") {
                let identity = (metadata.ino(), metadata.created().ok());
                let former = self.log_files.insert(identity, name.clone());
                self.totals.recycled += u64::from(former.is_some_and(|former| former != name));
                self.totals.rolls += u64::from(self.log_names.insert(name));
            }
        }
        self.totals.snapshots += snapshots.difference(&self.snapshots).count() as u64;
        self.totals.purged += self.snapshots.difference(&snapshots).count() as u64;
        self.snapshots = snapshots;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ringkeeper_tools::server::Home;

    use super::*;

    #[test]
    fn what_happened_to_files_is_counted() {
        let directory = std::env::temp_dir().join(format!("crash-files-{}", std::process::id()));
        let setup = Setup {
            kind: Kind::Ringkeeper { binary: PathBuf::new() },
            directory: directory.clone(),
            home: Home::default(),
            port: 0,
            tick_ms: 0,
            my_id: None,
            extra: Vec::new(),
        };
        let mut files = Files::new(&setup);
        files.look().unwrap();
        assert_eq!(files.totals, FileTotals::default());
        let data = setup.data().join("ringkeeper-1");
        fs::create_dir_all(&data).unwrap();
        for name in ["log-1.seg", "log-2.seg", "snapshot-1.rks", "snapshot-2.tmp"] {
            fs::write(data.join(name), name).unwrap();
        }
        files.look().unwrap();
        fs::rename(data.join("log-1.seg"), data.join("log-3.seg")).unwrap();
        fs::remove_file(data.join("snapshot-1.rks")).unwrap();
        fs::rename(data.join("snapshot-2.tmp"), data.join("snapshot-2.rks")).unwrap();
        files.look().unwrap();
        let expected = FileTotals { rolls: 3, recycled: 1, snapshots: 2, purged: 1, unfinished: 1 };
        assert_eq!(files.totals, expected);
        fs::remove_dir_all(&directory).unwrap();
    }
}
