//! Writes the files of a membership that changes: `config/dynamic_files.rs` says what they are.
//!
//! Each is durable before its name is there, and what a step needs is there before the step is told: a crash between any two
//! writes leaves files that a start can go on from, because whatever is in force was proposed by a transaction of the log. So
//! a disk that takes none of it costs nothing but the operator's peace: it is told, once each time, and service goes on.
//! Runs on the pipeline's thread: a membership changes rarely. Java: `QuorumPeer.setQuorumVerifier`, `ConfigUtils`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tracing::{error, info};

use crate::config::DynamicFiles;
use crate::config::dynamic_files::pointing_to;
use crate::core::ServerId;
use crate::core::zab::membership::Membership;

#[derive(Debug)]
pub struct MemberFiles {
    own: ServerId,
    files: DynamicFiles,
}

impl MemberFiles {
    pub fn new(own: ServerId, files: DynamicFiles) -> MemberFiles {
        MemberFiles { own, files }
    }

    /// A configuration was proposed.
    pub fn seen(&self, proposed: &Membership) {
        let path = self.files.next();
        told(&path, write(&path, proposed.next_file().as_bytes()));
    }

    /// It was taken back.
    pub fn forgotten(&self) {
        self.remove_next();
    }

    /// A configuration is in force.
    pub fn activated(&self, membership: &Membership) {
        let path = self.files.in_force(membership.version);
        if told(&path, write(&path, membership.dynamic_file().as_bytes())) {
            told(&self.files.static_file, self.point_to(&path, membership));
        }
        let next = fs::read(self.files.next()).ok().and_then(|text| Membership::parse(&text).ok());
        if next.is_some_and(|next| next.version <= membership.version) {
            self.remove_next();
        }
    }

    fn point_to(&self, dynamic_file: &Path, membership: &Membership) -> io::Result<()> {
        let own = membership.members.get(&self.own);
        let text = fs::read(&self.files.static_file)?;
        let has_client_address = own.is_some_and(|own| own.client.is_some());
        if let Some(pointing) = pointing_to(&text, dynamic_file, has_client_address) {
            if !self.files.backup().exists() {
                write(&self.files.backup(), &text)?;
            }
            write(&self.files.static_file, &pointing)?;
            info!("{} says now where its members are: {}", self.files.static_file.display(), dynamic_file.display());
        }
        Ok(())
    }

    fn remove_next(&self) {
        let path = self.files.next();
        let removed = fs::remove_file(&path);
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => drop(told(&path, other.and_then(|()| sync_directory(&path)))),
        }
    }
}

fn told(path: &Path, done: io::Result<()>) -> bool {
    if let Err(error) = &done {
        error!(
            "{}: the ensemble's members changed and this could not be written: {error}. This server serves on; make it \
             writable, or write it by hand, before the next start: that would begin with members of before",
            path.display()
        );
    }
    done.is_ok()
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    if let Ok(before) = fs::metadata(path) {
        file.set_permissions(before.permissions())?;
    }
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_directory(path)
}

fn sync_directory(of: &Path) -> io::Result<()> {
    File::open(of.parent().unwrap_or(Path::new("/")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    #[test]
    fn a_change_leaves_the_files_that_a_start_reads() {
        let home = tempfile::tempdir().unwrap();
        let zoo_cfg = home.path().join("zoo.cfg");
        let original = "tickTime=2000\nserver.1=10.0.0.1:2888:3888\nclientPort=2181\n";
        fs::write(&zoo_cfg, original).unwrap();
        let files = MemberFiles::new(ServerId(1), DynamicFiles::new(&zoo_cfg, &Settings::new()));
        let read = |name: &str| fs::read_to_string(home.path().join(name));
        let proposed = Membership { version: 0x1_0000_0007, ..Membership::of(2, 0) };
        files.seen(&proposed);
        assert_eq!(read("zoo.cfg.dynamic.next").unwrap(), proposed.next_file());
        assert_eq!(read("zoo.cfg").unwrap(), original);
        files.activated(&proposed);
        assert_eq!(read("zoo.cfg.dynamic.100000007").unwrap(), proposed.dynamic_file());
        let pointer = home.path().join("zoo.cfg.dynamic.100000007");
        let expected = format!("tickTime=2000\nclientPort=2181\ndynamicConfigFile={}\n", pointer.display());
        assert_eq!(read("zoo.cfg").unwrap(), expected);
        assert_eq!(read("zoo.cfg.bak").unwrap(), original);
        assert!(read("zoo.cfg.dynamic.next").is_err(), "it is in force");
        files.seen(&Membership { version: 0x1_0000_0009, ..Membership::of(3, 0) });
        files.activated(&Membership { version: 0x1_0000_0008, ..Membership::of(2, 0) });
        assert!(read("zoo.cfg.dynamic.next").is_ok(), "a later one is proposed");
        files.forgotten();
        files.forgotten();
        assert!(read("zoo.cfg.dynamic.next").is_err());
        assert_eq!(read("zoo.cfg.bak").unwrap(), original, "once");
    }
}
