//! Small file systems of our own, made in a file and mounted through a loop device: to be filled, starved and broken. That
//! needs root, loop devices and the tools of the file system; where any of it is missing, a test says SKIPPED and why.
//! Shared with the tests of the whole server (`tests/served`).
#![allow(dead_code)] // each test file uses its own half

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tempfile::TempDir;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    Ext4,
    Xfs,
    Btrfs,
    Tmpfs,
}

impl FileSystem {
    pub const ALL: [FileSystem; 4] = [FileSystem::Ext4, FileSystem::Xfs, FileSystem::Btrfs, FileSystem::Tmpfs];

    /// The smallest that its tools will make, or 64 MiB.
    pub fn least_mebibytes(self) -> u64 {
        match self {
            FileSystem::Ext4 | FileSystem::Tmpfs => 64,
            FileSystem::Xfs => 320,
            FileSystem::Btrfs => 128,
        }
    }

    fn make(self) -> Command {
        let (tool, options): (_, &[&str]) = match self {
            FileSystem::Ext4 => ("mkfs.ext4", &["-q", "-F", "-m", "0"]),
            FileSystem::Xfs => ("mkfs.xfs", &["-q", "-f"]),
            FileSystem::Btrfs => ("mkfs.btrfs", &["-q", "-f", "--mixed"]),
            FileSystem::Tmpfs => unreachable!("needs no making"),
        };
        let mut command = Command::new(tool);
        command.args(options);
        command
    }
}

/// Thawed when dropped, also by a test that fails: make it after the process that writes.
#[must_use]
pub struct Frozen<'a>(&'a SmallDisk);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        if let Err(why) = run(Command::new("fsfreeze").arg("-u").arg(self.0.root())) {
            println!("still frozen: {why}");
        }
    }
}

/// Unmounted, detached and deleted when dropped, also by a test that fails.
#[derive(Debug)]
pub struct SmallDisk {
    directory: TempDir,
    file_system: FileSystem,
    /// What was mounted, in that order.
    mounted: Vec<PathBuf>,
}

impl SmallDisk {
    pub fn mount(file_system: FileSystem, mebibytes: u64) -> Result<SmallDisk, String> {
        let mut disk = SmallDisk::new(file_system)?;
        if file_system == FileSystem::Tmpfs {
            disk.mount_memory(&disk.root(), mebibytes)?;
        } else {
            run(Command::new("fallocate").arg("-l").arg(format!("{mebibytes}M")).arg(disk.image()))?;
            disk.make_and_mount()?;
        }
        Ok(disk)
    }

    /// An ext4 of `mebibytes` over a store of only `backed_mebibytes`, which holds what was written and is not zero.
    pub fn mount_thin(mebibytes: u64, backed_mebibytes: u64) -> Result<SmallDisk, String> {
        let mut disk = SmallDisk::new(FileSystem::Ext4)?;
        disk.mount_memory(&disk.backing(), backed_mebibytes)?;
        let image = std::fs::File::create(disk.image()).map_err(|error| error.to_string())?;
        image.set_len(mebibytes << 20).map_err(|error| error.to_string())?;
        disk.make_and_mount()?;
        Ok(disk)
    }

    fn new(file_system: FileSystem) -> Result<SmallDisk, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root may mount".to_owned());
        }
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let disk = SmallDisk { directory, file_system, mounted: Vec::new() };
        for path in [disk.root(), disk.backing()] {
            std::fs::create_dir(path).map_err(|error| error.to_string())?;
        }
        Ok(disk)
    }

    fn mount_memory(&mut self, path: &Path, mebibytes: u64) -> Result<(), String> {
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"]).arg(path))?;
        self.mounted.push(path.to_owned());
        Ok(())
    }

    fn make_and_mount(&mut self) -> Result<(), String> {
        run(self.file_system.make().arg(self.image()))?;
        let options = if self.file_system == FileSystem::Ext4 { "loop,errors=remount-ro" } else { "loop" };
        run(Command::new("mount").args(["-o", options]).arg(self.image()).arg(self.root()))?;
        self.mounted.push(self.root());
        Ok(())
    }

    pub fn root(&self) -> PathBuf {
        self.directory.path().join("mounted")
    }

    fn backing(&self) -> PathBuf {
        self.directory.path().join("backing")
    }

    fn image(&self) -> PathBuf {
        let thin = self.mounted.contains(&self.backing());
        if thin { self.backing().join("image") } else { self.directory.path().join("image") }
    }

    /// From now on nothing written completes, until this is dropped. Whoever writes cannot even be killed before.
    pub fn freeze(&self) -> Result<Frozen<'_>, String> {
        run(Command::new("fsfreeze").arg("-f").arg(self.root()))?;
        Ok(Frozen(self))
    }

    /// Space somebody else uses; given back by deleting the file.
    pub fn ballast(&self, mebibytes: u64) -> PathBuf {
        let path = self.root().join("ballast");
        run(Command::new("fallocate").arg("-l").arg(format!("{mebibytes}M")).arg(&path)).unwrap();
        path
    }

    /// All the space there is. Where files are compressed or zeroes not stored, these are neither.
    pub fn fill(&self) -> PathBuf {
        fill(&self.root().join("filling"))
    }

    /// Of a thin disk: takes away the blocks that hold nothing but zeroes, and the space to bring them back.
    pub fn starve(&self) -> Result<PathBuf, String> {
        run(Command::new("sync").arg("-f").arg(self.root()))?;
        run(Command::new("fallocate").arg("--dig-holes").arg(self.image()))?;
        Ok(fill(&self.backing().join("filling")))
    }

    /// Everything at once becomes read-only, files open for writing included, as after an error in the file system.
    pub fn make_read_only_by_error(&self) -> Result<(), String> {
        let mounts = std::fs::read_to_string("/proc/self/mounts").map_err(|error| error.to_string())?;
        let root = self.root().display().to_string();
        let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let device = fields.filter(|fields| fields[1] == root).map(|fields| fields[0].to_owned()).next_back();
        let device = device.ok_or("not mounted")?;
        let name = device.rsplit('/').next().unwrap_or_default();
        let switch = Path::new("/sys/fs/ext4").join(name).join("trigger_fs_error");
        std::fs::write(&switch, "1").map_err(|error| format!("{}: {error}", switch.display()))
    }

    /// Unmounts and mounts again, after whatever happened.
    pub fn mount_again(&mut self, options: &str) -> Result<(), String> {
        self.unmount(&self.root());
        let options = format!("loop,{options}");
        run(Command::new("mount").args(["-o", &options]).arg(self.image()).arg(self.root()))
    }

    fn unmount(&self, path: &Path) {
        // A killed server's last operations may still hold it for a moment.
        let until = Instant::now() + Duration::from_secs(5);
        while run(Command::new("umount").arg(path)).is_err() {
            if Instant::now() > until {
                let _ = run(Command::new("umount").args(["-q", "-l"]).arg(path));
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        for path in self.mounted.iter().rev() {
            self.unmount(path);
        }
    }
}

fn fill(path: &Path) -> PathBuf {
    let mut file = std::fs::File::create(path).unwrap();
    let mut piece = vec![0; 1 << 20];
    let mut state = 1u64;
    for byte in &mut piece {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *byte = (state >> 33) as u8;
    }
    // To the last block that is to be had.
    for bytes in [piece.len(), 64 << 10, 4096] {
        while file.write_all(&piece[..bytes]).is_ok() {}
    }
    let _ = file.sync_all();
    path.to_owned()
}

fn run(command: &mut Command) -> Result<(), String> {
    let Output { status, stderr, .. } = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&stderr).trim())),
    }
}

/// Said loudly, so that nobody takes a test that did not run for one that passed.
pub fn skipped(what: &str, why: &str) {
    println!("SKIPPED: {what}: {why}");
}
