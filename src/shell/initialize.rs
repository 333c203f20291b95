//! The operator's word that an empty disk is a new one: the file `initialize`, which `zkServer-initialize.sh` leaves behind.
//!
//! A member whose disk is empty cannot know whether it is new or has lost everything. Without the word it counts until it
//! hears of data elsewhere (D-050), or with `db.autocreate=false` not before a leader has given it everything. With it, it is
//! as good as a server that has been there from the beginning.
//!
//! The word is for one disk and one start. It is kept as an epoch that was joined, the 0th, and the file is gone before
//! anybody hears of this server: one that stayed would vouch for the next empty disk, too. A crash in between leaves both, and
//! the next start removes the file, as every start does.
//!
//! Java: `FileTxnSnapLog.restore` looks beside the log and its script writes beside the snapshots; here both places count.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use ringkeeper_storage::{Opened, Standing, StoreConfig};
use tracing::{info, warn};

use crate::shell::settings::ServeError;

const FILE_NAME: &str = "initialize";

/// The store to start from: whoever has the word is whole from now on.
pub fn take_word(mut opened: Opened, config: &StoreConfig) -> Result<Opened, ServeError> {
    let said = words(config);
    let Some(first) = said.first() else { return Ok(opened) };
    let first = first.display();
    match opened.standing() {
        Standing::Fresh if config.has_peers => {
            info!("{first}: found, an empty database will not block voting participation");
            let epochs = opened.epochs()?;
            opened.store_epochs(epochs)?;
            drop(opened); // and with it the lock of the directory
            opened = ringkeeper_storage::open(config.clone())?;
            assert_eq!(opened.standing(), Standing::Whole, "an epoch was joined");
        }
        Standing::Lost => warn!(
            "{first}: the disk is not empty: what this server has lost it had; it does not vote until a leader has given it \
             everything, and the file is removed"
        ),
        Standing::Whole | Standing::Fresh => info!("{first}: there is no empty database to vouch for; it is removed"),
    }
    for path in said {
        remove(&path).map_err(|source| ServeError::Initialize { path, source })?;
    }
    Ok(opened)
}

/// What an empty disk is taken for without the word.
pub fn standing(opened: &Opened, empty_is_new: bool) -> Standing {
    match opened.standing() {
        Standing::Fresh if !empty_is_new => Standing::Lost,
        standing => standing,
    }
}

/// For the log of a member that starts like this.
pub fn doubt(data_dir: &Path) -> String {
    format!(
        "Unexpected empty data tree: db.autocreate is off, and {} is not there: this server does not vote until a leader has \
         given it everything. If the ensemble is a new one, create that file and start again",
        data_dir.join(FILE_NAME).display()
    )
}

fn words(config: &StoreConfig) -> Vec<PathBuf> {
    let mut paths = vec![config.data_dir.join(FILE_NAME), config.data_log_dir.join(FILE_NAME)];
    paths.dedup();
    paths.retain(|path| path.symlink_metadata().is_ok());
    paths
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error), // two names may be one directory
        _ => {}
    }
    File::open(path.parent().expect("a file of a directory"))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Disk {
        directory: tempfile::TempDir,
        config: StoreConfig,
    }

    impl Disk {
        fn of_a_member() -> Disk {
            let directory = tempfile::tempdir().unwrap();
            let mut config = StoreConfig::new(directory.path().join("data"), directory.path().join("log"));
            config.has_peers = true;
            for path in [&config.data_dir, &config.data_log_dir] {
                fs::create_dir(path).unwrap();
            }
            Disk { directory, config }
        }

        fn say(&self, directory: &str) -> PathBuf {
            let path = self.directory.path().join(directory).join(FILE_NAME);
            fs::write(&path, "").unwrap();
            path
        }

        /// A start: what it takes itself for.
        fn start(&self, empty_is_new: bool) -> Standing {
            let opened = ringkeeper_storage::open(self.config.clone()).unwrap();
            let opened = take_word(opened, &self.config).unwrap();
            let standing = standing(&opened, empty_is_new);
            drop(opened.into_store().unwrap());
            standing
        }
    }

    #[test]
    fn an_empty_disk_is_taken_for_what_the_key_says() {
        let disk = Disk::of_a_member();
        assert_eq!(disk.start(true), Standing::Fresh);
        assert_eq!(disk.start(false), Standing::Lost);
        assert_eq!(disk.start(true), Standing::Fresh, "nothing was stored meanwhile");
    }

    #[test]
    fn the_word_makes_an_empty_disk_a_new_one_for_good_and_counts_once() {
        for place in ["data", "log"] {
            let disk = Disk::of_a_member();
            assert_eq!(disk.start(false), Standing::Lost);
            let file = disk.say(place);
            assert_eq!(disk.start(false), Standing::Whole);
            assert!(!file.exists());
            assert_eq!(disk.start(false), Standing::Whole, "nobody has to say it twice");

            // The next disk has no word.
            for path in [&disk.config.data_dir, &disk.config.data_log_dir] {
                fs::remove_dir_all(path).unwrap();
                fs::create_dir(path).unwrap();
            }
            assert_eq!(disk.start(false), Standing::Lost);
        }
    }

    #[test]
    fn what_was_promised_outlives_the_word() {
        let disk = Disk::of_a_member();
        let mut opened = ringkeeper_storage::open(disk.config.clone()).unwrap();
        opened.store_epochs(ringkeeper_storage::Epochs { accepted: 5, current: 0 }).unwrap();
        drop(opened);
        fs::remove_file(disk.config.data_dir.join(ringkeeper_storage::DIRECTORY).join("currentEpoch")).unwrap();
        assert_eq!(disk.start(false), Standing::Lost);
        disk.say("data");
        assert_eq!(disk.start(false), Standing::Whole);
        let mut opened = ringkeeper_storage::open(disk.config.clone()).unwrap();
        assert_eq!(opened.epochs().unwrap(), ringkeeper_storage::Epochs { accepted: 5, current: 0 });
    }

    #[test]
    fn who_has_lost_something_is_not_new_whatever_is_said() {
        let disk = Disk::of_a_member();
        drop(ringkeeper_storage::open(disk.config.clone()).unwrap().forget("for this test").unwrap());
        let file = disk.say("data");
        assert_eq!(disk.start(true), Standing::Lost);
        assert!(!file.exists());
        assert_eq!(disk.start(true), Standing::Lost);
    }

    #[test]
    fn nobody_starts_with_a_word_that_stays() {
        let disk = Disk::of_a_member();
        let file = disk.config.data_dir.join(FILE_NAME);
        fs::create_dir(&file).unwrap();
        let opened = ringkeeper_storage::open(disk.config.clone()).unwrap();
        let refusal = take_word(opened, &disk.config).unwrap_err().to_string();
        assert!(refusal.starts_with(&file.display().to_string()) && refusal.contains("remove it"), "{refusal}");
    }
}
