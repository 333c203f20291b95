//! The files of a server's configurations, on its disk beside the data: written as Java writes them, read when it starts.
//!
//!   zoo.cfg -> "dynamicConfigFile=zoo.cfg.dynamic.<version>"       zoo.cfg.dynamic.next: the last seen one, unless that is in force
//!
//! Each is replaced as a whole and for good: a server that dies meanwhile has the old one or the new one. Between two of them it
//! may die, like anywhere else.

use std::path::{Path, PathBuf};

use ringkeeper_storage::backend::memory::MemoryDisk;

use crate::core::zab::membership::{Configurations, Membership};

const STATIC: &str = "/sim/zoo.cfg";
const NEXT: &str = "/sim/zoo.cfg.dynamic.next";
const POINTER: &str = "dynamicConfigFile=";

fn dynamic(version: u64) -> PathBuf {
    format!("/sim/zoo.cfg.dynamic.{version:x}").into()
}

/// What the files say; without any of them it is what the operator wrote.
pub fn read(disk: &MemoryDisk, written: &Configurations) -> Configurations {
    let text = |path: &Path| disk.bytes(path).map(|bytes| String::from_utf8(bytes.to_vec()).expect("written here"));
    let parse = |text: String| Membership::parse(text.as_bytes()).expect("written here");
    let mut configs = written.clone();
    if let Some(pointer) = text(Path::new(STATIC)) {
        let path = pointer.strip_prefix(POINTER).expect("written here").to_owned();
        let version = path.rsplit('.').next().and_then(|suffix| u64::from_str_radix(suffix, 16).ok());
        let mut committed = parse(text(Path::new(&path)).expect("it was there before the pointer"));
        committed.version = version.expect("named after its version");
        configs = Configurations::settled(committed);
    }
    if let Some(next) = text(Path::new(NEXT)) {
        configs.see(&parse(next));
    }
    configs
}

pub fn seen(disk: &mut MemoryDisk, config: &Membership) {
    disk.put(Path::new(NEXT), config.next_file().into_bytes());
}

pub fn forgotten(disk: &mut MemoryDisk) {
    disk.remove(Path::new(NEXT));
}

/// In steps, each of which may be the last: says whether there is another one.
pub fn activated(disk: &mut MemoryDisk, config: &Membership, step: usize) -> bool {
    let path = dynamic(config.version);
    match step {
        0 => disk.put(&path, config.dynamic_file().into_bytes()),
        1 => disk.put(Path::new(STATIC), format!("{POINTER}{}", path.display()).into_bytes()),
        _ => {
            let next = disk.bytes(Path::new(NEXT)).map(|bytes| Membership::parse(&bytes).expect("written here"));
            if next.is_some_and(|next| next.version <= config.version) {
                forgotten(disk);
            }
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_starts_with_what_its_files_say() {
        let mut disk = MemoryDisk::default();
        let written = Configurations::settled(Membership::of(3, 0));
        assert_eq!(read(&disk, &written), written);
        let next = Membership { version: 0x1_0000_0007, ..Membership::of(5, 1) };
        seen(&mut disk, &next);
        let changing = Configurations { last_seen: next.clone(), ..written.clone() };
        assert_eq!(read(&disk, &written), changing);
        assert!(activated(&mut disk, &next, 0));
        assert_eq!(read(&disk, &written), changing, "nobody points to it yet");
        assert!(activated(&mut disk, &next, 1));
        assert_eq!(read(&disk, &written), Configurations::settled(next.clone()));
        assert!(!activated(&mut disk, &next, 2));
        assert_eq!(read(&disk, &written), Configurations::settled(next.clone()));
        let later = Membership { version: 0x1_0000_0009, ..Membership::of(2, 0) };
        seen(&mut disk, &later);
        assert!(!activated(&mut disk, &next, 2), "one that was seen since stays");
        assert!(read(&disk, &written).is_changing());
        forgotten(&mut disk);
        assert_eq!(read(&disk, &written), Configurations::settled(next));
    }
}
