//! How far long work has come: on stderr, and only when that is a terminal.

use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over the bytes of a file.
pub fn over_bytes(path: &Path, bytes: u64) -> ProgressBar {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    bar(bytes, "{msg} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}").with_message(name)
}

/// Bytes of a snapshot, then a message that counts.
pub fn of_import() -> ProgressBar {
    bar(0, "{spinner} {msg} {wide_bar} {bytes}/{total_bytes} {elapsed}")
}

/// Nodes or transactions out of a known number.
pub fn of_export() -> ProgressBar {
    bar(0, "{spinner} {msg} {wide_bar} {human_pos}/{human_len} {elapsed}")
}

/// For work whose end is not known.
pub fn spinner(what: &'static str) -> ProgressBar {
    ProgressBar::new_spinner().with_message(what)
}

fn bar(length: u64, template: &str) -> ProgressBar {
    // `ProgressBar` draws to stderr and hides itself where that is no terminal.
    let style = ProgressStyle::with_template(template).expect("a template of ours");
    ProgressBar::new(length).with_style(style)
}
