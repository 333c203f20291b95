//! The files of a server's configurations, on its disk beside the data: written as Java writes them, read when it starts.
//!
//!   zoo.cfg -> "dynamicConfigFile=zoo.cfg.dynamic.<version>"       zoo.cfg.dynamic.next: the last seen one, unless that is in force
//!
//! Each is replaced as a whole and for good: a server that dies meanwhile has the old one or the new one. Between two of them it
//! may die, like anywhere else: in which order they are written is the real server's word (`MembersChange::steps`).

use std::path::{Path, PathBuf};

use ringkeeper_storage::backend::memory::MemoryDisk;

use crate::config::dynamic_files::FileStep;
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

/// One write of a change, for good.
pub fn carry_out(disk: &mut MemoryDisk, step: FileStep<'_>) {
    match step {
        FileStep::WriteNext(proposed) => disk.put(Path::new(NEXT), proposed.next_file().into_bytes()),
        FileStep::WriteInForce(config) => disk.put(&dynamic(config.version), config.dynamic_file().into_bytes()),
        FileStep::Point(config) => {
            let pointer = format!("{POINTER}{}", dynamic(config.version).display());
            disk.put(Path::new(STATIC), pointer.into_bytes());
        }
        FileStep::RemoveNext { through } => {
            let next = disk.bytes(Path::new(NEXT)).map(|bytes| Membership::parse(&bytes).expect("written here"));
            if next.is_some_and(|next| through.is_none_or(|through| next.version <= through)) {
                disk.remove(Path::new(NEXT));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::dynamic_files::MembersChange;

    #[test]
    fn a_server_starts_with_what_its_files_say() {
        let mut disk = MemoryDisk::default();
        let written = Configurations::settled(Membership::of(3, 0));
        assert_eq!(read(&disk, &written), written);
        let next = Membership { version: 0x1_0000_0007, ..Membership::of(5, 1) };
        let [seen, activated] =
            [MembersChange::Seen, MembersChange::Activated].map(|change| change(next.clone().into()));
        let all = |disk: &mut MemoryDisk, change: &MembersChange| {
            change.steps().into_iter().for_each(|step| carry_out(disk, step));
        };
        all(&mut disk, &seen);
        let changing = Configurations { last_seen: next.clone(), ..written.clone() };
        let settled = Configurations::settled(next);
        // A crash between any two writes leaves what was, or what is.
        for (step, found) in activated.steps().into_iter().zip([&changing, &settled, &settled]) {
            carry_out(&mut disk, step);
            assert_eq!(&read(&disk, &written), found, "{step:?}");
        }
        let later = Membership { version: 0x1_0000_0009, ..Membership::of(2, 0) };
        all(&mut disk, &MembersChange::Seen(later.into()));
        all(&mut disk, &activated);
        assert!(read(&disk, &written).is_changing(), "one that was seen since stays");
        all(&mut disk, &MembersChange::Forgotten);
        assert_eq!(read(&disk, &written), settled);
    }
}
