//! Disks that can be full: for each member of ours a small file system, made in a file and mounted through a loop device.
//!
//! That needs root, loop devices and `mkfs.ext4`. Where any of it is missing the drill says so, and does without full disks.
//!
//! ```text
//!  server-N/disk.image -- loop, ext4 --> server-N/disk/data     where server-N/data points
//!                                        server-N/disk/ballast  takes all there is while the disk is full
//! ```

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate};

use crate::process::output_of;
use crate::server::{Kind, Setup};
use crate::{Result, patiently};

/// Room for a few snapshots and the log between them.
const DISK_BYTES: u64 = 192 << 20;
/// What the server frees on its full disk is gone at once, too.
const FILL_INTERVAL: Duration = Duration::from_millis(20);
const UNMOUNT_BOUND: Duration = Duration::from_secs(5);
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// With snapshots this close, and purged, the load goes on for ever on so small a disk.
const PURGING: [&str; 2] = ["snapCount=20000", "autopurge.purgeInterval=1s"];

/// One member's.
#[derive(Debug)]
pub struct Disk {
    mounted: PathBuf,
    filling: Option<Filling>,
}

#[derive(Debug)]
struct Filling {
    is_over: Arc<AtomicBool>,
    filler: JoinHandle<()>,
}

/// A disk for each member that is to have one. They are wiped, and do not run yet.
pub fn mount(members: &mut [Setup]) -> Result<Vec<Option<Disk>>> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root may mount file systems".into());
    }
    let disk = |member: &Setup| match member.kind {
        Kind::Ringkeeper { .. } => Disk::mount(&member.directory).map(Some),
        Kind::Java { .. } => Ok(None), // it ends when its disk is full
    };
    let disks = members.iter().map(disk).collect::<Result<Vec<_>>>()?;
    for (member, disk) in members.iter_mut().zip(&disks) {
        if disk.is_some() {
            member.extra.extend(PURGING.map(str::to_owned));
        }
    }
    Ok(disks)
}

/// What a run that was killed has left mounted.
pub fn unmount_old(directory: &Path) -> Result<()> {
    let Ok(directory) = directory.canonicalize() else { return Ok(()) };
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(Path::new);
    places.filter(|place| place.starts_with(&directory)).try_for_each(unmount)
}

impl Disk {
    fn mount(directory: &Path) -> Result<Disk> {
        let (image, mounted) = (directory.join("disk.image"), directory.join("disk"));
        fs::create_dir_all(&mounted)?;
        File::create(&image)?.set_len(DISK_BYTES)?;
        output_of(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))?;
        output_of(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&mounted))?;
        let disk = Disk { mounted, filling: None };
        fs::create_dir(disk.mounted.join("data"))?;
        symlink("disk/data", directory.join("data"))?;
        Ok(disk)
    }

    fn ballast(&self) -> PathBuf {
        self.mounted.join("ballast")
    }

    /// Somebody else takes all the room there is, and all that is freed, until `free`.
    pub fn fill(&mut self) -> Result<()> {
        if self.filling.is_none() {
            let ballast = File::create(self.ballast())?;
            let is_over = Arc::<AtomicBool>::default();
            let filler = {
                let is_over = is_over.clone();
                move || {
                    let mut bytes = 0;
                    while !is_over.load(Ordering::SeqCst) {
                        bytes = grow(&ballast, bytes);
                        std::thread::sleep(FILL_INTERVAL);
                    }
                }
            };
            self.filling = Some(Filling { is_over, filler: std::thread::spawn(filler) });
        }
        Ok(())
    }

    /// Whether it was full.
    pub fn free(&mut self) -> Result<bool> {
        let Some(Filling { is_over, filler }) = self.filling.take() else { return Ok(false) };
        is_over.store(true, Ordering::SeqCst);
        filler.join().map_err(|_| "filling a disk failed")?;
        fs::remove_file(self.ballast())?;
        Ok(true)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let outcome = self.free().and_then(|_| unmount(&self.mounted));
        if let Err(why) = outcome {
            println!("{} stays mounted: {why}", self.mounted.display());
        }
    }
}

/// Takes what there is from `bytes` on, to the last block; returns where it ends.
fn grow(ballast: &File, mut bytes: u64) -> u64 {
    for piece in [16 << 20, 1 << 20, 64 << 10, 4096] {
        while fallocate(ballast, FallocateFlags::empty(), bytes, piece).is_ok() {
            bytes += piece;
        }
    }
    bytes
}

/// A killed server's last operations may still hold it for a moment.
fn unmount(mounted: &Path) -> Result<()> {
    patiently(UNMOUNT_BOUND, RETRY_PAUSE, || output_of(Command::new("umount").arg(mounted)).map(drop))
}

/// Everything in a member's data directory is gone; the directory is there.
pub fn wipe(data: &Path) -> io::Result<()> {
    let place = data.canonicalize()?;
    fs::remove_dir_all(&place)?;
    fs::create_dir(&place)
}
