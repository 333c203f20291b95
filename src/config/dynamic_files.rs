//! The files in which a membership that changes is kept: how they are called, and what becomes of zoo.cfg.
//!
//! ```text
//! zoo.cfg                  what never changes, and dynamicConfigFile=: where the configuration in force is
//! zoo.cfg.dynamic.HEX      the configuration in force; its version is in the name only
//! zoo.cfg.dynamic.next     the one that was proposed last, until it is in force
//! zoo.cfg.bak              zoo.cfg as the operator wrote it
//! ```
//!
//! A zoo.cfg that cannot be written, as in a container, needs `ringkeeper.dynamicConfigDir`: the newest configuration there is in
//! force then, and what zoo.cfg says of members is how it all began.
//!
//! With `reconfigEnabled=true` servers write them, ours and Java's in the same form, because an ensemble may go from one to the
//! other; unlike Java we keep an operator's comments and order. Java: `QuorumPeerConfig.editStaticConfig`,
//! `QuorumPeer.setQuorumVerifier`. Spec: operations 1.6, on-disk-formats 9.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::{Settings, properties};

/// Where these files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DynamicFiles {
    /// zoo.cfg, absolute.
    pub static_file: PathBuf,
    /// `ringkeeper.dynamicConfigDir`, or where zoo.cfg is; absolute.
    directory: PathBuf,
    /// It is `ringkeeper.dynamicConfigDir`: the newest file there counts, whatever zoo.cfg says, which may be read-only.
    pub has_own_directory: bool,
}

impl DynamicFiles {
    /// `source`: the path of zoo.cfg.
    pub fn new(source: &Path, settings: &Settings) -> DynamicFiles {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let static_file = absolute(source);
        let own_directory = settings.get("ringkeeper.dynamicConfigDir");
        let directory = match own_directory {
            Some(setting) => absolute(Path::new(&setting.value)),
            None => static_file.parent().unwrap_or(Path::new("/")).to_owned(),
        };
        DynamicFiles { static_file, directory, has_own_directory: own_directory.is_some() }
    }

    pub fn in_force(&self, version: u64) -> PathBuf {
        self.beside(&format!(".dynamic.{version:x}"))
    }

    pub fn next(&self) -> PathBuf {
        self.beside(".dynamic.next")
    }

    pub fn backup(&self) -> PathBuf {
        self.beside(".bak")
    }

    /// The configuration of the highest version in the directory of their own.
    pub fn newest(&self) -> io::Result<Option<PathBuf>> {
        if !self.has_own_directory {
            return Ok(None);
        }
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            entries => entries?,
        };
        let mut newest = None;
        for entry in entries {
            let path = entry?.path();
            let version = version_in_name(&path.to_string_lossy());
            if path == self.in_force(version) {
                newest = newest.max(Some((version, path)));
            }
        }
        Ok(newest.map(|(_, path)| path))
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.static_file.file_name().unwrap_or_default().to_owned();
        name.push(suffix);
        self.directory.join(name)
    }
}

/// What the name of a dynamic file says; a name without a version is that of one an operator wrote.
pub fn version_in_name(path: &str) -> u64 {
    path.rsplit_once('.').and_then(|(_, suffix)| u64::from_str_radix(suffix, 16).ok()).unwrap_or(0)
}

/// zoo.cfg without the members, pointing to where they are. `has_client_address`: this server's own line says where its clients
/// connect. None: it says so already.
pub fn pointing_to(static_text: &[u8], dynamic_file: &Path, has_client_address: bool) -> Option<Vec<u8>> {
    let pointer = format!("dynamicConfigFile={}", dynamic_file.display());
    let entries = properties::parse(static_text).ok()?.entries;
    let moves = |key: &str| {
        ["server.", "group", "weight"].iter().any(|prefix| key.starts_with(prefix))
            || ["dynamicConfigFile", "peerType"].contains(&key)
            || (has_client_address && ["clientPort", "clientPortAddress"].contains(&key))
    };
    let moving: Vec<_> = entries.iter().filter(|entry| moves(&entry.key)).collect();
    if let [only] = &moving[..]
        && only.key == "dynamicConfigFile"
        && only.value == dynamic_file.display().to_string()
    {
        return None;
    }
    let (mut kept, mut leaving) = (Vec::new(), false);
    let mut moving = moving.into_iter().map(|entry| entry.line).peekable();
    for (line, text) in (1..).zip(static_text.split_inclusive(|byte| *byte == b'\n')) {
        // An entry goes on for as long as its lines end in a backslash that is none's escape.
        leaving = leaving || moving.next_if_eq(&line).is_some();
        if !leaving {
            kept.extend_from_slice(text);
        }
        let end = text.trim_ascii_end();
        let backslashes = end.iter().rev().take_while(|byte| **byte == b'\\').count();
        leaving = leaving && backslashes % 2 == 1;
    }
    if !kept.is_empty() && !kept.ends_with(b"\n") {
        kept.push(b'\n');
    }
    kept.extend_from_slice(pointer.as_bytes());
    kept.push(b'\n');
    Some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_leave_the_static_file_and_everything_else_stays() {
        let before = "# ours\ntickTime=2000\nserver.1=a:1:2\nserver.2=b:\\\n  1:2\nclientPort=2181\n! the third\n\
                      server.3 c:1:2\npeerType=participant\nmaxClientCnxns=60";
        let path = Path::new("/c/zoo.cfg.dynamic.100000000");
        let text = |client| String::from_utf8(pointing_to(before.as_bytes(), path, client).unwrap()).unwrap();
        let after = "# ours\ntickTime=2000\nclientPort=2181\n! the third\nmaxClientCnxns=60\n\
                     dynamicConfigFile=/c/zoo.cfg.dynamic.100000000\n";
        assert_eq!(text(false), after);
        assert_eq!(text(true), after.replace("clientPort=2181\n", ""));
        assert_eq!(pointing_to(after.as_bytes(), path, false), None, "nothing to do");
        let next = Path::new("/c/zoo.cfg.dynamic.100000007");
        let repointed = pointing_to(after.as_bytes(), next, false).unwrap();
        assert_eq!(String::from_utf8(repointed).unwrap(), after.replace("100000000", "100000007"));
    }

    #[test]
    fn a_version_is_the_end_of_a_name() {
        let files = DynamicFiles::new(Path::new("/etc/zk/zoo.cfg"), &Settings::new());
        assert_eq!(files.in_force(0x1_0000_0007), Path::new("/etc/zk/zoo.cfg.dynamic.100000007"));
        for (path, version) in [
            ("/etc/zk/zoo.cfg.dynamic.100000007", 0x1_0000_0007),
            ("/etc/zk/zoo.cfg.dynamic", 0),
            ("/etc/members", 0),
            ("/etc/zk/zoo.cfg.dynamic.next", 0),
        ] {
            assert_eq!(version_in_name(path), version, "{path}");
        }
    }
}
