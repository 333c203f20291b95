//! The disk under a directory: what it is, and what it was asked to do. From `/sys` and `/proc`; what they do not tell is "unknown".

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// A whole disk, not a partition of it: flushes are counted there only.
#[derive(Clone, Debug)]
pub struct Device {
    name: String,
    sys: PathBuf,
}

/// Since the machine started, by everybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub writes: u64,
    pub written_bytes: u64,
    pub flushes: u64,
}

/// What decides how fast a write can be durable.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    pub device: String,
    pub model: String,
    pub scheduler: String,
    /// `write back` loses what it holds with the power: every durable write needs a flush.
    pub write_cache: String,
    /// Whether one request can be write and flush in one.
    pub fua: String,
    pub rotational: String,
    pub file_system: String,
    pub mount_options: String,
    pub journal: String,
    pub governor: String,
    pub host: String,
}

const UNKNOWN: &str = "unknown";

impl Device {
    /// `None` where no block device can be named: tmpfs, network, some overlays.
    pub fn under(path: &Path) -> Option<Device> {
        let numbers = fs::metadata(path).ok()?.dev();
        let direct =
            PathBuf::from(format!("/sys/dev/block/{}:{}", rustix::fs::major(numbers), rustix::fs::minor(numbers)));
        // Some file systems (btrfs) have numbers of their own; then the mount table knows the device.
        let link = if direct.exists() { direct } else { Mount::of(path)?.device_in_sys()? };
        let mut sys = link.canonicalize().ok()?;
        if sys.join("partition").exists() {
            sys.pop();
        }
        let name = sys.file_name()?.to_string_lossy().into_owned();
        Some(Device { name, sys })
    }

    pub fn counters(&self) -> Option<Counters> {
        parse_counters(&fs::read_to_string(self.sys.join("stat")).ok()?)
    }

    fn fact(&self, file: &str) -> String {
        let text = fs::read_to_string(self.sys.join(file)).unwrap_or_default();
        let text = text.trim();
        if text.is_empty() { UNKNOWN.to_owned() } else { text.to_owned() }
    }
}

impl Counters {
    pub fn since(self, earlier: Counters) -> Counters {
        Counters {
            writes: self.writes - earlier.writes,
            written_bytes: self.written_bytes - earlier.written_bytes,
            flushes: self.flushes - earlier.flushes,
        }
    }
}

/// Linux `Documentation/block/stat.rst`: write I/Os are field 5, written sectors (of 512 bytes, always) 7, flushes 16.
fn parse_counters(stat: &str) -> Option<Counters> {
    const SECTOR_BYTES: u64 = 512;
    let fields: Vec<u64> = stat.split_whitespace().map_while(|field| field.parse().ok()).collect();
    let field = |number: usize| fields.get(number - 1).copied();
    Some(Counters { writes: field(5)?, written_bytes: field(7)? * SECTOR_BYTES, flushes: field(16)? })
}

impl Facts {
    pub fn of(path: &Path) -> Facts {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default().trim().to_owned();
        let known = |text: String| if text.is_empty() { UNKNOWN.to_owned() } else { text };
        let device = Device::under(path);
        let fact = |file| device.as_ref().map_or(UNKNOWN.to_owned(), |device| device.fact(file));
        let yes_or_no = |text: String| match text.as_str() {
            "0" => "no".to_owned(),
            "1" => "yes".to_owned(),
            other => other.to_owned(),
        };
        let mount = Mount::of(path);
        let mounted = |of: fn(&Mount) -> String| mount.as_ref().map_or(UNKNOWN.to_owned(), of);
        Facts {
            device: device.as_ref().map_or(UNKNOWN.to_owned(), |device| device.name.clone()),
            model: fact("device/model"),
            scheduler: fact("queue/scheduler"),
            write_cache: fact("queue/write_cache"),
            fua: yes_or_no(fact("queue/fua")),
            rotational: yes_or_no(fact("queue/rotational")),
            file_system: mounted(|mount| mount.kind.clone()),
            mount_options: mounted(|mount| mount.options.clone()),
            journal: mounted(Mount::journal),
            governor: known(read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
            host: known(read("/proc/sys/kernel/hostname")),
        }
    }
}

impl std::fmt::Display for Facts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "- host {}, CPU governor {}", self.host, self.governor)?;
        writeln!(
            f,
            "- disk {} (model {}): write cache {}, FUA {}, rotational {}, scheduler {}",
            self.device, self.model, self.write_cache, self.fua, self.rotational, self.scheduler
        )?;
        write!(f, "- file system {} ({}), journal: {}", self.file_system, self.mount_options, self.journal)
    }
}

/// Where a path is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    point: PathBuf,
    kind: String,
    source: String,
    options: String,
}

impl Mount {
    fn of(path: &Path) -> Option<Mount> {
        let path = path.canonicalize().ok()?;
        let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let over = table.lines().filter_map(Mount::parse).filter(|mount| path.starts_with(&mount.point));
        // Of two at the same point the later one hides the earlier.
        over.max_by_key(|mount| mount.point.components().count())
    }

    /// `id parent major:minor root point options [optional ...] - kind source super-options`, proc_pid_mountinfo(5).
    fn parse(line: &str) -> Option<Mount> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(4);
        let (point, options) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let (kind, source) = (after.next()?, after.next()?);
        Some(Mount {
            point: point.replace("\\040", " ").into(),
            kind: kind.to_owned(),
            source: source.to_owned(),
            options: options.to_owned(),
        })
    }

    fn device_in_sys(&self) -> Option<PathBuf> {
        let name = Path::new(&self.source).canonicalize().ok()?.file_name()?.to_owned();
        Some(Path::new("/sys/class/block").join(name)).filter(|link| link.exists())
    }

    fn journal(&self) -> String {
        match self.kind.as_str() {
            "ext3" | "ext4" => {
                let device = Path::new(&self.source).canonicalize().unwrap_or_default();
                let prefix = format!("{}-", device.file_name().unwrap_or_default().to_string_lossy());
                let journals = fs::read_dir("/proc/fs/jbd2").into_iter().flatten().flatten();
                let has_one = journals.map(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
                if has_one.into_iter().any(|has| has) { "jbd2".to_owned() } else { "none".to_owned() }
            }
            "xfs" => "its own log".to_owned(),
            "btrfs" | "zfs" | "bcachefs" => "copy on write".to_owned(),
            "tmpfs" | "ramfs" => "none: memory".to_owned(),
            _ => UNKNOWN.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_from_their_fields() {
        let stat = " 3650594 135975 338926586 6089679 7705606 778858 552352176 1912944 0 695868 8213275 501926 76 390644264 \
                    78087 3119929 132564\n";
        let now = Counters { writes: 7_705_606, written_bytes: 552_352_176 * 512, flushes: 3_119_929 };
        assert_eq!(parse_counters(stat), Some(now));
        let earlier = Counters { writes: 7_705_600, written_bytes: 0, flushes: 3_119_920 };
        assert_eq!(now.since(earlier).flushes, 9);
        assert_eq!(parse_counters("1 2 3"), None, "a kernel that does not count flushes");
    }

    #[test]
    fn a_mount_is_found_by_its_path() {
        let line = "36 35 98:0 /mnt1 /mnt/a\\040b rw,noatime master:1 - ext4 /dev/root rw,errors=continue";
        let mount = Mount::parse(line).unwrap();
        assert_eq!((mount.point, mount.kind.as_str()), (PathBuf::from("/mnt/a b"), "ext4"));
        assert_eq!((mount.source.as_str(), mount.options.as_str()), ("/dev/root", "rw,noatime"));
        let here = Mount::of(Path::new("/proc/self")).unwrap();
        assert_eq!(here.kind, "proc");
        assert!(Device::under(Path::new("/proc/self")).is_none());
        assert_eq!(Facts::of(Path::new("/proc/self")).write_cache, UNKNOWN);
    }
}
