//! What the start banner says about the disks: nobody should have to guess what an acknowledged write rests on.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags};

use super::blocking::try_direct_io;
use crate::disk::BLOCK_BYTES;

/// Where a directory lies and how it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskFacts {
    pub directory: PathBuf,
    /// `ext4`, `xfs`, `tmpfs`...; the magic in hexadecimal when it has no name here.
    pub file_system: String,
    /// `/dev/nvme0n1p2`, `tmpfs`, `server:/export`; empty when unknown.
    pub device: String,
    pub mount_point: PathBuf,
    /// False: the page cache is in between, and errors of its own making can go unnoticed there.
    pub direct_io: bool,
    /// What direct IO wants offsets and lengths to be multiples of; 0 when the kernel does not say.
    pub direct_io_alignment: u32,
    /// Another machine's promise.
    pub network: bool,
    /// In memory: gone with the machine.
    pub volatile: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorageFacts {
    pub log: DiskFacts,
    pub snapshots: DiskFacts,
}

impl DiskFacts {
    pub fn gather(directory: &Path) -> io::Result<DiskFacts> {
        let magic = rustix::fs::statfs(directory)?.f_type as u64;
        let (name, network, volatile) = file_system(magic);
        let file_system = if name.is_empty() { format!("{magic:#x}") } else { name.to_owned() };
        let (mount_point, device) = mount_of(directory).unwrap_or_default();
        let direct_io_alignment = direct_io_alignment(directory);
        // Batches are whole blocks: a device that wants more than that is written through the page cache.
        let direct_io = direct_io_alignment as usize <= BLOCK_BYTES && try_direct_io(directory)?;
        let directory = directory.to_owned();
        Ok(DiskFacts { directory, file_system, device, mount_point, direct_io, direct_io_alignment, network, volatile })
    }
}

/// (name, another machine, memory) by `statfs` magic.
fn file_system(magic: u64) -> (&'static str, bool, bool) {
    match magic {
        0xef53 => ("ext4", false, false),
        0x5846_5342 => ("xfs", false, false),
        0x9123_683e => ("btrfs", false, false),
        0xf2f5_2010 => ("f2fs", false, false),
        0x2fc1_2fc1 => ("zfs", false, false),
        0xca45_1a4e => ("bcachefs", false, false),
        0x794c_7630 => ("overlay", false, false),
        0x0102_1994 => ("tmpfs", false, true),
        0x8584_58f6 => ("ramfs", false, true),
        0x6969 => ("nfs", true, false),
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => ("smb", true, false),
        0x00c3_6400 => ("ceph", true, false),
        0x6573_5546 => ("fuse", true, false),
        0x0102_1997 => ("9p", true, false),
        0x0bd0_0bd0 => ("lustre", true, false),
        0x4750_4653 => ("gpfs", true, false),
        _ => ("", false, false),
    }
}

/// As statx reports it for a file; the directory itself has none, so a file is asked for by making one.
fn direct_io_alignment(directory: &Path) -> u32 {
    let path = directory.join("direct-io.tmp");
    if fs::File::create(&path).is_err() {
        return 0;
    }
    let asked = rustix::fs::statx(CWD, &path, AtFlags::empty(), StatxFlags::DIOALIGN);
    let _ = fs::remove_file(&path);
    match asked {
        Ok(statx) if statx.stx_mask & StatxFlags::DIOALIGN.bits() != 0 => {
            statx.stx_dio_offset_align.max(statx.stx_dio_mem_align)
        }
        _ => 0,
    }
}

/// The longest mount point above the directory, and what is mounted there.
fn mount_of(directory: &Path) -> Option<(PathBuf, String)> {
    let directory = fs::canonicalize(directory).ok()?;
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    // 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw
    let mounts = table.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mount_point = PathBuf::from(left.split(' ').nth(4)?.replace("\\040", " "));
        let device = right.split(' ').nth(1)?.to_owned();
        directory.starts_with(&mount_point).then_some((mount_point, device))
    });
    mounts.max_by_key(|(mount_point, _)| mount_point.as_os_str().len()) // of equals the last: it is mounted on top
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_knows_its_file_system() {
        let directory = tempfile::tempdir().unwrap();
        let facts = DiskFacts::gather(directory.path()).unwrap();
        assert!(!facts.file_system.is_empty() && facts.mount_point.is_absolute(), "{facts:?}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left behind");
    }
}
