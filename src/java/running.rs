//! Whether a Java server is at work on a directory. It keeps no lock; but it keeps the log it appends to open, and the kernel
//! shows who has a file open to those who may know.

use std::fs;
use std::path::Path;

use ringkeeper_storage::java::DIRECTORY;

use super::dirs::JavaDirs;

/// The process that has a log of this directory open, as far as this user may see.
pub fn holder(dirs: &JavaDirs) -> Option<u32> {
    let logs = dirs.log.join(DIRECTORY).canonicalize().ok()?;
    let processes =
        fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    processes.filter(|process| *process != std::process::id()).find(|process| has_open(*process, &logs))
}

fn has_open(process: u32, logs: &Path) -> bool {
    let Ok(open) = fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).any(|path| {
        path.parent() == Some(logs) && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log."))
    })
}
