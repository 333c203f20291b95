//! The files in which a membership that changes is kept: how they are called, and what becomes of zoo.cfg.
//!
//! ```text
//! zoo.cfg                  what never changes, and dynamicConfigFile=: where the configuration in force is
//! zoo.cfg.dynamic.HEX      the configuration in force; its version is in the name only
//! zoo.cfg.dynamic.next     the one that was proposed last, until it is in force
//! zoo.cfg.bak              zoo.cfg as the operator wrote it
//! ```
//!
//! In which order they are written: `core/zab/membership/files.rs`.
//!
//! A zoo.cfg that cannot be written, as in a container, needs `ringkeeper.dynamicConfigDir`: the newest configuration there is in
//! force then, and what zoo.cfg says of members is how it all began.
//!
//! With `reconfigEnabled=true` servers write them, ours and Java's in the same form, because an ensemble may go from one to the
//! other; unlike Java we keep an operator's comments and order. Java: `QuorumPeerConfig.editStaticConfig`,
//! `QuorumPeer.setQuorumVerifier`. Spec: operations 1.6, on-disk-formats 9.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::Settings;
use super::properties::{self, MalformedEscape};

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
pub fn pointing_to(
    static_text: &[u8],
    dynamic_file: &Path,
    has_client_address: bool,
) -> Result<Option<Vec<u8>>, MalformedEscape> {
    let dynamic_file = dynamic_file.display().to_string();
    let moves = |key: &str| {
        let key = key.strip_prefix("zookeeper.").unwrap_or(key); // honoured where it is read
        ["server.", "group", "weight"].iter().any(|prefix| key.starts_with(prefix))
            || ["dynamicConfigFile", "peerType"].contains(&key)
            || (has_client_address && ["clientPort", "clientPortAddress"].contains(&key))
    };
    let mut moving = properties::parse(static_text)?.entries;
    moving.retain(|entry| moves(&entry.key));
    if let [only] = &moving[..]
        && only.key == "dynamicConfigFile"
        && only.value == dynamic_file
    {
        return Ok(None);
    }
    let (mut kept, mut behind) = (Vec::new(), 0);
    for entry in moving {
        kept.extend_from_slice(&static_text[behind..entry.range.start]);
        behind = entry.range.end;
    }
    kept.extend_from_slice(&static_text[behind..]);
    if !kept.is_empty() && !kept.ends_with(b"\n") {
        kept.push(b'\n');
    }
    // A backslash at the end of the file joined nothing until now.
    if properties::parse(&[&kept[..], b"x=y"].concat())?.entries.last().is_none_or(|last| last.key != "x") {
        kept.push(b'\n');
    }
    kept.extend_from_slice(format!("dynamicConfigFile={}\n", properties::escaped(&dynamic_file)).as_bytes());
    Ok(Some(kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_leave_the_static_file_and_everything_else_stays() {
        let before = "# ours\ntickTime=2000\nserver.1=a:1:2\nserver.2=b:\\\n  1:2\nclientPort=2181\n! the third\n\
                      server.3 c:1:2\npeerType=participant\nmaxClientCnxns=60";
        let path = Path::new("/c/zoo.cfg.dynamic.100000000");
        let text = |client| String::from_utf8(pointing_to(before.as_bytes(), path, client).unwrap().unwrap()).unwrap();
        let after = "# ours\ntickTime=2000\nclientPort=2181\n! the third\nmaxClientCnxns=60\n\
                     dynamicConfigFile=/c/zoo.cfg.dynamic.100000000\n";
        assert_eq!(text(false), after);
        assert_eq!(text(true), after.replace("clientPort=2181\n", ""));
        assert_eq!(pointing_to(after.as_bytes(), path, false), Ok(None), "nothing to do");
        let next = Path::new("/c/zoo.cfg.dynamic.100000007");
        let repointed = pointing_to(after.as_bytes(), next, false).unwrap().unwrap();
        assert_eq!(String::from_utf8(repointed).unwrap(), after.replace("100000000", "100000007"));
    }

    #[test]
    fn the_grammar_decides_where_a_line_ends_and_how_a_path_is_written() {
        let pointer = |before: &[u8], path: &str| {
            let text = pointing_to(before, Path::new(path), false).unwrap().unwrap();
            let last = properties::parse(&text).unwrap().entries.pop().unwrap();
            assert_eq!((&*last.key, &*last.value), ("dynamicConfigFile", path));
            assert_eq!(pointing_to(&text, Path::new(path), false), Ok(None), "nothing to do");
            String::from_utf8(text).unwrap()
        };
        let path = "/caf\u{e9}/back\\slash/zoo.cfg.dynamic.1";
        let written = "dynamicConfigFile=/caf\\u00e9/back\\\\slash/zoo.cfg.dynamic.1\n";
        // A backslash with a blank behind it joins nothing, a lone carriage return ends a line.
        assert_eq!(pointer(b"server.1=a:1:2\\ \nb=1\n", path), format!("b=1\n{written}"));
        assert_eq!(pointer(b"server.1=a:1:2\rb=1\n", path), format!("b=1\n{written}"));
        assert_eq!(pointer(b"zookeeper.server.1=a:1:2\nb=1", path), format!("b=1\n{written}"));
        assert_eq!(
            pointer(b"b=1\\\nserver.1=a\nserver.2=a:1:2\nc=2\\", path),
            format!("b=1\\\nserver.1=a\nc=2\\\n\n{written}")
        );
        assert_eq!(pointing_to(b"a=\\uzzzz", Path::new(path), false), Err(MalformedEscape { line: 1 }));
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
