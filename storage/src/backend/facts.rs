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
    /// Why not.
    pub direct_io_refusal: Option<String>,
    /// What direct IO wants of offsets and lengths, and of memory.
    pub alignment: Alignment,
    /// Another machine's promise.
    pub network: bool,
    /// In memory: gone with the machine.
    pub volatile: bool,
    pub journal: Journal,
    /// A write goes elsewhere than the bytes it replaces, so no block was ever written before.
    pub copy_on_write: bool,
    /// Mounted so that flushes never reach the device.
    pub flushes_ignored: bool,
    pub queue: DeviceQueue,
}

/// 0 where the kernel does not say; then a block of 4096 is taken to do, and tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alignment {
    pub offset_bytes: u32,
    pub memory_bytes: u32,
}

/// Whether the file system writes its own changes to a journal first, which a commit then may have to wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Journal {
    #[default]
    Unknown,
    None,
    Metadata,
    /// `data=journal`: everything is written twice, and never past the page cache.
    Everything,
}

/// What the kernel knows of the device below; None where it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceQueue {
    /// The device may lose what it has taken until it is told to flush.
    pub volatile_cache: Option<bool>,
    /// It can write one block through that cache, without flushing the others.
    pub fua: Option<bool>,
    pub rotational: Option<bool>,
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
        let Mount { mount_point, device, options } = mount_of(directory).unwrap_or_default();
        let alignment = direct_io_alignment(directory);
        let direct_io_refusal = direct_io_refusal(directory, alignment)?;
        let device_number = rustix::fs::stat(directory)?.st_dev;
        let block_device = block_device(device_number);
        Ok(DiskFacts {
            directory: directory.to_owned(),
            direct_io: direct_io_refusal.is_none(),
            direct_io_refusal,
            alignment,
            journal: journal(&file_system, &options, block_device.as_deref(), &journals_of_the_kernel()),
            copy_on_write: matches!(name, "btrfs" | "zfs" | "bcachefs"),
            flushes_ignored: options.split(',').any(|option| matches!(option, "nobarrier" | "barrier=0")),
            queue: block_device.as_deref().map(DeviceQueue::of).unwrap_or_default(),
            file_system,
            device,
            mount_point,
            network,
            volatile,
        })
    }

    /// One line: device, cache, journal, alignment.
    pub fn describe(&self) -> String {
        let device = if self.device.is_empty() { "unknown device" } else { &self.device };
        let mut words = vec![format!("{} at {}", self.file_system, self.mount_point.display())];
        match self.journal {
            Journal::Unknown => {}
            Journal::None => words.push("no journal".to_owned()),
            Journal::Metadata => words.push("journal of metadata".to_owned()),
            Journal::Everything => words.push("journal of everything".to_owned()),
        }
        if self.copy_on_write {
            words.push("copy on write".to_owned());
        }
        match (self.queue.volatile_cache, self.queue.fua) {
            (Some(true), Some(true)) => words.push("volatile write cache with FUA".to_owned()),
            (Some(true), _) => words.push("volatile write cache without FUA".to_owned()),
            (Some(false), _) => words.push("no volatile write cache".to_owned()),
            (None, _) => {}
        }
        if self.queue.rotational == Some(true) {
            words.push("rotational, says the kernel".to_owned());
        }
        let Alignment { offset_bytes, memory_bytes } = self.alignment;
        words.push(match (self.direct_io, offset_bytes) {
            (false, _) => "no direct IO".to_owned(),
            (true, 0) => format!("direct IO of an alignment the kernel does not tell, {BLOCK_BYTES} works"),
            (true, _) => format!("direct IO aligned to {offset_bytes}, memory to {memory_bytes}"),
        });
        format!("{device} ({})", words.join(", "))
    }
}

impl DeviceQueue {
    /// `block_device`: its directory in sysfs.
    fn of(block_device: &Path) -> DeviceQueue {
        // A partition's queue is the one of its disk.
        let queue = [block_device.join("queue"), block_device.join("../queue")].into_iter().find(|path| path.is_dir());
        let read = |name: &str| fs::read_to_string(queue.as_ref()?.join(name)).ok();
        let flag = |name: &str| read(name).map(|text| text.trim() == "1");
        let volatile_cache = read("write_cache").map(|text| text.trim() == "write back");
        DeviceQueue { volatile_cache, fua: flag("fua"), rotational: flag("rotational") }
    }
}

/// Where sysfs has the device behind a file's device number; none for file systems without one of their own.
fn block_device(number: u64) -> Option<PathBuf> {
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()
}

/// `vda1-8`: a device and the inode its journal is in. None: the kernel has no such list to look at.
fn journals_of_the_kernel() -> Option<Vec<String>> {
    let entries = fs::read_dir("/proc/fs/jbd2").ok()?;
    Some(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
}

fn journal(file_system: &str, options: &str, block_device: Option<&Path>, journals: &Option<Vec<String>>) -> Journal {
    let name = block_device.and_then(Path::file_name).and_then(|name| name.to_str());
    match (file_system, journals, name) {
        ("xfs", _, _) => Journal::Metadata,
        ("ext4", _, _) if options.split(',').any(|option| option == "data=journal") => Journal::Everything,
        ("ext4", Some(journals), Some(name)) => {
            let ours = |journal: &String| journal.rsplit_once('-').is_some_and(|(device, _)| device == name);
            if journals.iter().any(ours) { Journal::Metadata } else { Journal::None }
        }
        _ => Journal::Unknown,
    }
}

/// Why direct IO will not do here. Batches are whole blocks: what wants more than that is written through the page cache.
fn direct_io_refusal(directory: &Path, alignment: Alignment) -> io::Result<Option<String>> {
    let wanted_bytes = alignment.offset_bytes.max(alignment.memory_bytes);
    if wanted_bytes as usize > BLOCK_BYTES {
        return Ok(Some(format!("it wants writes aligned to {wanted_bytes} bytes, and blocks here are {BLOCK_BYTES}")));
    }
    let works = try_direct_io(directory)?;
    Ok((!works).then(|| format!("a block of {BLOCK_BYTES} bytes written with O_DIRECT is refused")))
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
fn direct_io_alignment(directory: &Path) -> Alignment {
    let path = directory.join("direct-io.tmp");
    if fs::File::create(&path).is_err() {
        return Alignment::default();
    }
    let asked = rustix::fs::statx(CWD, &path, AtFlags::empty(), StatxFlags::DIOALIGN);
    let _ = fs::remove_file(&path);
    match asked {
        Ok(statx) if statx.stx_mask & StatxFlags::DIOALIGN.bits() != 0 => {
            Alignment { offset_bytes: statx.stx_dio_offset_align, memory_bytes: statx.stx_dio_mem_align }
        }
        _ => Alignment::default(),
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Mount {
    mount_point: PathBuf,
    device: String,
    options: String,
}

/// The longest mount point above the directory, and what is mounted there.
fn mount_of(directory: &Path) -> Option<Mount> {
    mount_in(&fs::read_to_string("/proc/self/mountinfo").ok()?, &fs::canonicalize(directory).ok()?)
}

fn mount_in(table: &str, directory: &Path) -> Option<Mount> {
    // 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
    let mounts = table.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mount_point = PathBuf::from(left.split(' ').nth(4)?.replace("\\040", " "));
        let mut right = right.split(' ').skip(1);
        let (device, options) = (right.next()?.to_owned(), right.next().unwrap_or_default().to_owned());
        directory.starts_with(&mount_point).then_some(Mount { mount_point, device, options })
    });
    mounts.max_by_key(|mount| mount.mount_point.as_os_str().len()) // of equals the last: it is mounted on top
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

    #[test]
    fn the_mount_on_top_counts() {
        let table = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n\
                     31 22 8:17 / /data\\040one rw shared:3 - xfs /dev/sdb1 rw,attr2\n\
                     32 31 8:33 / /data\\040one rw - ext4 /dev/sdc1 rw,nobarrier,data=journal\n";
        let mount = mount_in(table, Path::new("/data one/zookeeper")).unwrap();
        assert_eq!((mount.device.as_str(), mount.options.as_str()), ("/dev/sdc1", "rw,nobarrier,data=journal"));
        assert_eq!(mount_in(table, Path::new("/data")).unwrap().device, "/dev/vda");
    }

    #[test]
    fn journals_are_told_from_the_list_of_the_kernel() {
        let journals = Some(vec!["sdb1-8".to_owned(), "dm-1-8".to_owned()]);
        let of = |file_system, options, device: &str| {
            journal(file_system, options, Some(&Path::new("/sys/devices/x").join(device)), &journals)
        };
        assert_eq!(of("ext4", "rw", "sdb1"), Journal::Metadata);
        assert_eq!(of("ext4", "rw", "dm-1"), Journal::Metadata);
        assert_eq!(of("ext4", "rw", "sdb"), Journal::None);
        assert_eq!(of("ext4", "rw,data=journal", "sdb1"), Journal::Everything);
        assert_eq!(of("xfs", "rw", "sdb"), Journal::Metadata);
        assert_eq!(of("nfs", "rw", "sdb"), Journal::Unknown);
        assert_eq!(journal("ext4", "rw", None, &None), Journal::Unknown);
    }

    #[test]
    fn a_device_tells_of_its_cache() {
        let sysfs = tempfile::tempdir().unwrap();
        let (disk, partition) = (sysfs.path().join("sdb"), sysfs.path().join("sdb/sdb1"));
        fs::create_dir_all(disk.join("queue")).unwrap();
        fs::create_dir_all(&partition).unwrap();
        for (name, text) in [("write_cache", "write back\n"), ("fua", "1\n"), ("rotational", "0\n")] {
            fs::write(disk.join("queue").join(name), text).unwrap();
        }
        let queue = DeviceQueue { volatile_cache: Some(true), fua: Some(true), rotational: Some(false) };
        assert_eq!((DeviceQueue::of(&disk), DeviceQueue::of(&partition)), (queue, queue));
        fs::write(disk.join("queue/write_cache"), "write through\n").unwrap();
        assert_eq!(DeviceQueue::of(&partition).volatile_cache, Some(false));
        assert_eq!(DeviceQueue::of(sysfs.path()), DeviceQueue::default());
    }

    #[test]
    fn too_large_an_alignment_means_the_page_cache() {
        let directory = tempfile::tempdir().unwrap();
        let refusal = |offset_bytes, memory_bytes| {
            direct_io_refusal(directory.path(), Alignment { offset_bytes, memory_bytes }).unwrap()
        };
        assert!(refusal(65536, 512).unwrap().contains("65536") && refusal(512, 8192).unwrap().contains("8192"));
        assert_eq!(refusal(512, 512), refusal(0, 0), "not told: tried");
    }

    #[test]
    fn the_line_for_the_start_names_what_counts() {
        let facts = DiskFacts {
            device: "/dev/vda".into(),
            file_system: "ext4".into(),
            mount_point: "/".into(),
            direct_io: true,
            alignment: Alignment { offset_bytes: 512, memory_bytes: 4 },
            journal: Journal::None,
            queue: DeviceQueue { volatile_cache: Some(true), fua: Some(false), rotational: None },
            ..DiskFacts::default()
        };
        let line =
            "/dev/vda (ext4 at /, no journal, volatile write cache without FUA, direct IO aligned to 512, memory to 4)";
        assert_eq!(facts.describe(), line);
        let nothing = DiskFacts { direct_io: false, device: String::new(), queue: DeviceQueue::default(), ..facts };
        assert_eq!(nothing.describe(), "unknown device (ext4 at /, no journal, no direct IO)");
    }
}
