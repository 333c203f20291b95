//! Writes the files of a membership that changes: `config/dynamic_files.rs` says what they are.
//!
//! Each is durable before its name is there, and each before the next: a crash between any two writes leaves files that a start
//! can go on from, because whatever is in force was proposed by a transaction of the log. So a disk that takes none of it costs
//! nothing but the operator's peace: it is told, once each time, and service goes on. And nobody waits for it: the files are
//! written on a thread of their own, in the order of what happened, for a slow disk would hold up every session.
//! Java: `QuorumPeer.setQuorumVerifier`, `ConfigUtils`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use tracing::{error, info};

use crate::config::DynamicFiles;
use crate::config::dynamic_files::pointing_to;
use crate::core::ServerId;
use crate::core::zab::membership::Membership;
use crate::core::zab::membership::files::{FileStep, MembersChange};
use crate::shell::cpus::leave_executors_cpu;
use crate::wire::java_properties::MalformedEscape;

/// The pipeline's side. Dropped at a clean stop, it waits until all is written.
#[derive(Debug)]
pub struct MemberFiles {
    /// None: it is being dropped.
    changes: Option<mpsc::Sender<MembersChange>>,
    writer: Option<JoinHandle<()>>,
    /// See `are_stale`.
    stale: Arc<AtomicBool>,
}

impl MemberFiles {
    pub fn new(own: ServerId, files: DynamicFiles) -> MemberFiles {
        let (changes, waiting) = mpsc::channel();
        let stale = Arc::<AtomicBool>::default();
        let (writer, told) = (Writer { own, files }, stale.clone());
        let mut in_force_is_stale = false;
        let write = move |change: MembersChange| {
            let done = writer.write_down(&change);
            if matches!(change, MembersChange::Activated(_)) {
                in_force_is_stale = !done;
            }
            told.store(in_force_is_stale || !done, Ordering::Relaxed);
        };
        let writer = std::thread::Builder::new()
            .name("rk-members".into())
            .spawn(move || {
                leave_executors_cpu();
                waiting.into_iter().for_each(write);
            })
            .expect("a thread for the files of the members");
        MemberFiles { changes: Some(changes), writer: Some(writer), stale }
    }

    pub fn take(&self, change: MembersChange) {
        let taken = self.changes.as_ref().is_some_and(|changes| changes.send(change).is_ok());
        assert!(taken, "rk-members ends when there is nobody left to tell it anything");
    }

    /// Whether the next start would begin with something else than what it was told last.
    pub fn are_stale(&self) -> bool {
        self.stale.load(Ordering::Relaxed)
    }
}

impl Drop for MemberFiles {
    fn drop(&mut self) {
        drop(self.changes.take());
        let ended = self.writer.take().map(JoinHandle::join);
        if let Some(Err(_)) = ended {
            error!("rk-members panicked: a start may begin with members of before");
        }
    }
}

#[derive(Debug)]
struct Writer {
    own: ServerId,
    files: DynamicFiles,
}

impl Writer {
    /// Whether all of it could be done.
    fn write_down(&self, change: &MembersChange) -> bool {
        change.steps().into_iter().all(|step| self.carry_out(step))
    }

    fn carry_out(&self, step: FileStep<'_>) -> bool {
        match step {
            FileStep::WriteNext(proposed) => {
                let path = self.files.next();
                told(&path, UNWRITTEN, self.write(&path, proposed.next_file().as_bytes()))
            }
            FileStep::WriteInForce(membership) => {
                let path = self.files.in_force(membership.version);
                told(&path, UNWRITTEN, self.write(&path, membership.dynamic_file().as_bytes()))
            }
            FileStep::Point(membership) => {
                let path = self.files.in_force(membership.version);
                self.told_of_pointer(&path, self.point_to(&path, membership))
            }
            FileStep::RemoveNext { through: None } => self.remove_next(),
            FileStep::RemoveNext { through: Some(through) } => {
                let next = fs::read(self.files.next()).ok().and_then(|text| Membership::parse(&text).ok());
                next.is_none_or(|next| next.version > through) || self.remove_next()
            }
        }
    }

    /// Whether a start finds `dynamic_file`.
    fn told_of_pointer(&self, dynamic_file: &Path, done: io::Result<()>) -> bool {
        let static_file = &self.files.static_file;
        match done {
            Err(error) if self.files.has_own_directory => {
                let (name, newest) = (static_file.display(), dynamic_file.display());
                info!("{name} stays as it is ({error}); a start takes the members from the newest file, now {newest}");
                true
            }
            done => {
                let cure = format!(
                    "make it writable, or write dynamicConfigFile={} there in place of the members, before the next start: \
                     that would begin with members of before. If it has to stay read-only, set ringkeeper.dynamicConfigDir",
                    dynamic_file.display()
                );
                told(static_file, &cure, done)
            }
        }
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        write(path, bytes, &self.files.static_file)
    }

    fn point_to(&self, dynamic_file: &Path, membership: &Membership) -> io::Result<()> {
        let own = membership.members.get(&self.own);
        let text = fs::read(&self.files.static_file)?;
        let has_client_address = own.is_some_and(|own| own.client.is_some());
        let pointing = pointing_to(&text, dynamic_file, has_client_address).map_err(|MalformedEscape { line }| {
            io::Error::new(io::ErrorKind::InvalidData, format!("line {line}: malformed \\uXXXX"))
        })?;
        if let Some(pointing) = pointing {
            if !self.files.backup().exists() {
                self.write(&self.files.backup(), &text)?;
            }
            self.write(&self.files.static_file, &pointing)?;
            info!("{} says now where its members are: {}", self.files.static_file.display(), dynamic_file.display());
        }
        Ok(())
    }

    fn remove_next(&self) -> bool {
        let path = self.files.next();
        let removed = fs::remove_file(&path);
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            other => {
                let cure = "remove it by hand before the next start: that would take it for a change under way";
                told(&path, cure, other.and_then(|()| sync_directory(&path)))
            }
        }
    }
}

const UNWRITTEN: &str =
    "make it writable, or write it by hand, before the next start: that would begin with members of before";

fn told(path: &Path, cure: &str, done: io::Result<()>) -> bool {
    if let Err(error) = &done {
        error!(
            "{}: the ensemble's members changed, and with this file that could not be done: {error}. This server serves on; \
             {cure}",
            path.display()
        );
    }
    done.is_ok()
}

/// The file at `path`, with the mode of the file `like`: what is copied from it may be a secret. Where a link stands the file
/// that it leads to is replaced.
fn write(path: &Path, bytes: &[u8], like: &Path) -> io::Result<()> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()); // there is none yet
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let replaced = file
        .write_all(bytes)
        .and_then(|()| fs::metadata(like).map_or(Ok(()), |like| file.set_permissions(like.permissions())))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, &path));
    if replaced.is_err() {
        let _ = fs::remove_file(&temporary); // what went wrong is told
    }
    replaced?;
    sync_directory(&path)
}

fn sync_directory(of: &Path) -> io::Result<()> {
    File::open(of.parent().unwrap_or(Path::new("/")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sources::Setting;
    use crate::config::{Origin, Settings};

    fn seen(proposed: &Membership) -> MembersChange {
        MembersChange::Seen(Box::new(proposed.clone()))
    }

    fn activated(membership: &Membership) -> MembersChange {
        MembersChange::Activated(Box::new(membership.clone()))
    }

    #[test]
    fn a_change_leaves_the_files_that_a_start_reads() {
        let home = tempfile::tempdir().unwrap();
        let zoo_cfg = home.path().join("zoo.cfg");
        let original = "tickTime=2000\nserver.1=10.0.0.1:2888:3888\nclientPort=2181\n";
        fs::write(&zoo_cfg, original).unwrap();
        let files = Writer { own: ServerId(1), files: DynamicFiles::new(&zoo_cfg, &Settings::new()) };
        let read = |name: &str| fs::read_to_string(home.path().join(name));
        let proposed = Membership { version: 0x1_0000_0007, ..Membership::of(2, 0) };
        assert!(files.write_down(&seen(&proposed)));
        assert_eq!(read("zoo.cfg.dynamic.next").unwrap(), proposed.next_file());
        assert_eq!(read("zoo.cfg").unwrap(), original);
        assert!(files.write_down(&activated(&proposed)));
        assert_eq!(read("zoo.cfg.dynamic.100000007").unwrap(), proposed.dynamic_file());
        let pointer = home.path().join("zoo.cfg.dynamic.100000007");
        let expected = format!("tickTime=2000\nclientPort=2181\ndynamicConfigFile={}\n", pointer.display());
        assert_eq!(read("zoo.cfg").unwrap(), expected);
        assert_eq!(read("zoo.cfg.bak").unwrap(), original);
        assert!(read("zoo.cfg.dynamic.next").is_err(), "it is in force");
        files.write_down(&seen(&Membership { version: 0x1_0000_0009, ..Membership::of(3, 0) }));
        assert!(files.write_down(&activated(&Membership { version: 0x1_0000_0008, ..Membership::of(2, 0) })));
        assert!(read("zoo.cfg.dynamic.next").is_ok(), "a later one is proposed");
        assert!(files.write_down(&MembersChange::Forgotten) && files.write_down(&MembersChange::Forgotten));
        assert!(read("zoo.cfg.dynamic.next").is_err());
        assert_eq!(read("zoo.cfg.bak").unwrap(), original, "once");
    }

    #[test]
    fn what_was_proposed_stays_while_a_start_would_not_find_it_in_force() {
        let home = tempfile::tempdir().unwrap();
        let (config, state) = (home.path().join("config"), home.path().join("state"));
        fs::create_dir(&state).unwrap();
        let zoo_cfg = config.join("zoo.cfg"); // its directory is not there: nothing can be written
        let mut settings = Settings::new();
        let key = crate::config::keys::find("ringkeeper.dynamicConfigDir").unwrap().key;
        let (name, value) = (key.name.to_owned(), state.display().to_string());
        settings.insert(name.clone(), Setting { key, name, value, origin: Origin::CommandLine });
        let files = DynamicFiles::new(&zoo_cfg, &settings);
        let proposed = Membership { version: 0x1_0000_0007, ..Membership::of(2, 0) };
        let left = |has_own_directory| {
            let mut files = files.clone();
            files.has_own_directory = has_own_directory;
            let files = Writer { own: ServerId(1), files };
            assert!(files.write_down(&seen(&proposed)));
            let done = files.write_down(&activated(&proposed));
            (done, ["next", "100000007"].map(|end| state.join(format!("zoo.cfg.dynamic.{end}")).exists()))
        };
        assert_eq!(left(false), (false, [true, true]), "no pointer leads to it");
        assert_eq!(left(true), (true, [false, true]), "a start looks into the directory");
    }

    #[test]
    fn all_is_written_in_order_when_it_is_dropped() {
        let home = tempfile::tempdir().unwrap();
        let zoo_cfg = home.path().join("zoo.cfg");
        fs::write(&zoo_cfg, "server.1=10.0.0.1:2888:3888\n").unwrap();
        let files = MemberFiles::new(ServerId(1), DynamicFiles::new(&zoo_cfg, &Settings::new()));
        for version in 1..=20 {
            let membership = Membership { version, ..Membership::of(2, 0) };
            files.take(seen(&membership));
            files.take(activated(&membership));
        }
        files.take(seen(&Membership { version: 21, ..Membership::of(3, 0) }));
        files.take(MembersChange::Forgotten);
        drop(files);
        let pointer = format!("dynamicConfigFile={}\n", home.path().join("zoo.cfg.dynamic.14").display());
        assert_eq!(fs::read_to_string(&zoo_cfg).unwrap(), pointer);
        assert!(!home.path().join("zoo.cfg.dynamic.next").exists());
    }

    #[test]
    fn files_that_could_not_be_written_are_stale_until_they_are() {
        let home = tempfile::tempdir().unwrap();
        let zoo_cfg = home.path().join("zoo.cfg");
        let [seven, eight] = [7, 8].map(|version| Membership { version, ..Membership::of(2, 0) });
        let are_stale_after = |changes: Vec<MembersChange>| {
            let files = MemberFiles::new(ServerId(1), DynamicFiles::new(&zoo_cfg, &Settings::new()));
            let stale = files.stale.clone();
            changes.into_iter().for_each(|change| files.take(change));
            drop(files);
            stale.load(Ordering::Relaxed)
        };
        assert!(!are_stale_after(vec![seen(&seven)]));
        // There is no zoo.cfg to point to it, whatever is proposed meanwhile.
        assert!(are_stale_after(vec![activated(&seven)]));
        assert!(are_stale_after(vec![activated(&seven), seen(&eight), MembersChange::Forgotten]));
        fs::write(&zoo_cfg, "").unwrap();
        assert!(!are_stale_after(vec![activated(&seven)]));
        fs::create_dir(home.path().join("zoo.cfg.dynamic.8")).unwrap();
        assert!(are_stale_after(vec![activated(&eight)]));
        assert!(!are_stale_after(vec![activated(&eight), activated(&seven)]));
    }

    #[test]
    fn no_file_is_more_open_than_the_one_it_was_made_from_and_a_link_stays_one() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let home = tempfile::tempdir().unwrap();
        let (real, link) = (home.path().join("real.cfg"), home.path().join("zoo.cfg"));
        fs::write(&real, "server.1=10.0.0.1:2888:3888\nDigestAuthenticationProvider.superDigest=super:x\n").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        symlink(&real, &link).unwrap();
        fs::write(home.path().join("real.cfg.tmp"), "left behind by a crash").unwrap();
        let files = Writer { own: ServerId(1), files: DynamicFiles::new(&link, &Settings::new()) };
        files.write_down(&activated(&Membership { version: 7, ..Membership::of(2, 0) }));
        files.write_down(&seen(&Membership { version: 8, ..Membership::of(2, 0) }));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::read_to_string(&real).unwrap().contains("dynamicConfigFile="));
        for name in ["real.cfg", "zoo.cfg.bak", "zoo.cfg.dynamic.7", "zoo.cfg.dynamic.next"] {
            let mode = fs::metadata(home.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o640, "{name}");
        }
        let all = fs::read_dir(home.path()).unwrap().count();
        assert_eq!(all, 5, "nothing temporary is left");
    }
}
