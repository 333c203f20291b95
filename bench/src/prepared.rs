//! Data directories to start servers on: made once, over the wire, and never changed again.
//!
//! ```text
//! <base>/ringkeeper-1000000x100/
//!   clean/         the tree in the newest of a few snapshots, hardly any log behind it; the server was asked to stop
//!   tail-100000/   the same, then so many single creates, then kill -9
//! ```
//!
//! A server is started on a copy: snapshots, which nobody ever changes, as hard links, everything else as bytes. So each
//! repetition finds what the one before it found. The old logs that the tree came from are left to the servers' own purge.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::Advice;
use serde::{Deserialize, Serialize};

use crate::big_tree::BigTree;
use crate::client::Client;
use crate::contestants::{Contestants, Kind};
use crate::report::utc_now;
use crate::server::{Cpus, Launch, Server};
use crate::snapshot_watch::{SnapshotWatch, none_came};
use crate::{BenchError, Doing, Result, wire};

/// No snapshot but those that are asked for.
pub const NO_SNAPSHOTS: [&str; 2] = ["snapCount=1000000000", "snapSizeLimitInKb=-1"];
const PROVOKING_SNAP_COUNT: usize = 100;
const PROVOKING_AGAIN: Duration = Duration::from_millis(500);
/// As many as the least that Java's purge keeps.
const SNAPSHOTS: usize = 3;
const SNAPSHOT_LIMIT: Duration = Duration::from_secs(300);
const START_LIMIT: Duration = Duration::from_secs(900);
/// A purge has ended when nothing came or went for so long.
const AT_REST: Duration = Duration::from_secs(1);

const MADE: &str = "made.json";

/// How a directory was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    Clean,
    Tail { creates: u64 },
}

impl std::fmt::Display for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Variant::Clean => f.write_str("clean"),
            Variant::Tail { creates } => write!(f, "tail-{creates}"),
        }
    }
}

/// What a directory says about itself, so that it is not taken for another.
#[derive(Debug, Serialize, Deserialize)]
struct Made {
    kind: Kind,
    tree: BigTree,
    variant: Variant,
    command: String,
    date: String,
}

/// Makes directories, or finds those made before, all below `base`.
#[derive(Debug)]
pub struct Workshop<'a> {
    pub contestants: &'a Contestants,
    pub base: PathBuf,
    pub tree: BigTree,
    pub cpus: Cpus,
}

impl Workshop<'_> {
    /// The directory of this kind, made if need be.
    pub fn prepared(&self, kind: Kind, variant: Variant) -> Result<PathBuf> {
        let BigTree { nodes, bytes } = self.tree;
        let family = self.base.join(format!("{}-{nodes}x{bytes}", kind.name()));
        let dir = family.join(variant.to_string());
        if let Ok(text) = fs::read_to_string(dir.join(MADE)) {
            let made: Made = serde_json::from_str(&text).doing(dir.join(MADE).display())?;
            if (made.kind, made.tree, made.variant) != (kind, self.tree, variant) {
                return Err(BenchError::new(format!("{} holds something else: {made:?}", dir.display())));
            }
            println!("{}: made {}, used again", dir.display(), made.date);
            return Ok(dir);
        }
        let began = Instant::now();
        let making = family.join(format!("{variant}.making"));
        remove(&making)?; // of a run that was cut short
        match variant {
            Variant::Clean => self.make_clean(kind, &making)?,
            Variant::Tail { creates } => {
                copy_for_use(&self.prepared(kind, Variant::Clean)?, &making)?;
                self.add_tail(kind, &making, creates)?;
            }
        }
        let command = self.contestants.command(kind, nodes)?;
        let made = Made { kind, tree: self.tree, variant, command, date: utc_now() };
        let text = serde_json::to_string_pretty(&made).doing(MADE)?;
        fs::write(making.join(MADE), text).doing(making.display())?;
        fs::rename(&making, &dir).doing(dir.display())?;
        println!("{}: made in {:.1} s, {} MiB", dir.display(), began.elapsed().as_secs_f64(), size_of(&dir)? >> 20);
        Ok(dir)
    }

    /// A copy of a prepared directory to run a server on, and how to start it.
    pub fn copy(&self, kind: Kind, from: &Path, cpus: &Cpus, settings: &[String]) -> Result<Launch> {
        let dir = self.base.join(format!("in-use-{}", std::process::id()));
        remove(&dir)?;
        copy_for_use(from, &dir)?;
        self.contestants.launch(kind, self.tree.nodes, &dir, cpus, settings)
    }

    fn launch(&self, kind: Kind, dir: &Path, settings: &[&str]) -> Result<Server> {
        let settings: Vec<String> = settings.iter().map(|line| (*line).to_owned()).collect();
        let server = self.contestants.launch(kind, self.tree.nodes, dir, &self.cpus, &settings)?.start()?;
        server.wait_until_serving(START_LIMIT)?;
        Ok(server)
    }

    fn make_clean(&self, kind: Kind, dir: &Path) -> Result<()> {
        let server = self.launch(kind, dir, &NO_SNAPSHOTS)?;
        self.tree.make(server.address())?;
        server.stop()?;

        let snap_count = format!("snapCount={PROVOKING_SNAP_COUNT}");
        let server = self.launch(kind, dir, &[&snap_count, NO_SNAPSHOTS[1]])?;
        let mut watch = SnapshotWatch::start(&dir.join("data").join(kind.directory()))?;
        for _ in 0..SNAPSHOTS {
            self.provoke_snapshot(&server, &mut watch)?;
        }
        server.stop()?;

        let purging = ["autopurge.purgeInterval=1", "autopurge.snapRetainCount=3"];
        let server = self.launch(kind, dir, &[&NO_SNAPSHOTS[..], &purging].concat())?;
        wait_until_at_rest(dir)?;
        server.stop()
    }

    /// Writes until the server takes a snapshot, and waits for its end. What is written while the server thinks that its last
    /// snapshot is not over yet provokes nothing.
    fn provoke_snapshot(&self, server: &Server, watch: &mut SnapshotWatch) -> Result<()> {
        let (path, data) = (self.tree.path(0), self.tree.data(0));
        let mut client = Client::connect(server.address())?;
        let start = Instant::now();
        while start.elapsed() < SNAPSHOT_LIMIT {
            client.call_all((0..PROVOKING_SNAP_COUNT).map(|_| wire::set_data(&path, &data)), 0)?;
            if watch.next(PROVOKING_AGAIN).is_some() {
                return client.close();
            }
        }
        Err(none_came(server.name(), SNAPSHOT_LIMIT))
    }

    fn add_tail(&self, kind: Kind, dir: &Path, creates: u64) -> Result<()> {
        let server = self.launch(kind, dir, &NO_SNAPSHOTS)?;
        let mut client = Client::connect(server.address())?;
        let root = std::iter::once(wire::create(TAIL, b"", wire::FLAG_PERSISTENT));
        let nodes =
            (0..creates).map(|number| wire::create(&tail_path(number), &self.tree.data(number), wire::FLAG_PERSISTENT));
        client.call_all(root.chain(nodes), 0).doing("writing the tail")?;
        server.kill()
    }
}

const TAIL: &str = "/tail";

/// The znode that the tail's creates end with carries the largest number.
pub fn tail_path(number: u64) -> String {
    format!("{TAIL}/node-{number:010}")
}

fn copy_for_use(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).doing(to.display())?;
    for entry in fs::read_dir(from).doing(from.display())? {
        let entry = entry.doing(from.display())?;
        let (name, source) = (entry.file_name(), entry.path());
        let target = to.join(&name);
        if entry.file_type().doing(source.display())?.is_dir() {
            copy_for_use(&source, &target)?;
        } else if name.to_string_lossy().starts_with("snapshot") {
            fs::hard_link(&source, &target).doing(target.display())?;
        } else if name != MADE {
            fs::copy(&source, &target).doing(target.display())?;
        }
    }
    Ok(())
}

pub fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).doing(dir.display()),
        _ => Ok(()),
    }
}

fn wait_until_at_rest(dir: &Path) -> Result<()> {
    let start = Instant::now();
    let mut last = (files_below(dir)?, start);
    while last.1.elapsed() < AT_REST && start.elapsed() < SNAPSHOT_LIMIT {
        std::thread::sleep(Duration::from_millis(50));
        let files = files_below(dir)?;
        if files != last.0 {
            last = (files, Instant::now());
        }
    }
    Ok(())
}

/// Path and length of every file.
fn files_below(dir: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).doing(dir.display())? {
        let path = entry.doing(dir.display())?.path();
        // What is purged while this looks is simply not there.
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        match metadata.is_dir() {
            true => files.extend(files_below(&path)?),
            false => files.push((path, metadata.len())),
        }
    }
    files.sort();
    Ok(files)
}

fn size_of(dir: &Path) -> Result<u64> {
    Ok(files_below(dir)?.iter().map(|(_, bytes)| bytes).sum())
}

/// What the page cache holds of a directory's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cache {
    /// All of them, read through just now.
    Warm,
    /// Nothing: written back and dropped. Needs no privilege, unlike /proc/sys/vm/drop_caches, and spares other processes.
    Cold,
}

impl Cache {
    pub fn set(self, dir: &Path) -> Result<()> {
        let mut buffer = vec![0; 1 << 20];
        for (path, _) in files_below(dir)? {
            let mut file = File::open(&path).doing(path.display())?;
            match self {
                Cache::Warm => while file.read(&mut buffer).doing(path.display())? > 0 {},
                Cache::Cold => {
                    file.sync_all().doing(path.display())?;
                    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).doing(path.display())?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_copy_shares_snapshots_and_nothing_else() {
        let base = std::env::temp_dir().join(format!("prepared-{}", std::process::id()));
        let (from, to) = (base.join("from"), base.join("to"));
        fs::create_dir_all(from.join("data/version-2")).unwrap();
        for name in ["made.json", "data/version-2/snapshot.1", "data/version-2/log.1"] {
            fs::write(from.join(name), name).unwrap();
        }
        copy_for_use(&from, &to).unwrap();
        let inode = |dir: &Path, name: &str| fs::metadata(dir.join("data/version-2").join(name)).unwrap().ino();
        assert_eq!(inode(&from, "snapshot.1"), inode(&to, "snapshot.1"));
        assert_ne!(inode(&from, "log.1"), inode(&to, "log.1"));
        assert_eq!(files_below(&to).unwrap().len(), 2, "what the directory says of itself is not the server's");
        Cache::Warm.set(&to).unwrap();
        Cache::Cold.set(&to).unwrap();
        remove(&base).unwrap();
        remove(&base).unwrap();
    }
}
