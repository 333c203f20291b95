//! What the developer's tools share. `bin/dev.rs` is `cargo dev`; the crash harness in `bin/crash` uses it too. The operators' `rk`
//! (`bin/rk`) does not: it reads bytes with the code that wrote them.
//!
//!   `server`     one server under test, ringkeeper or the Java reference: start, kill, stop
//!   `ensemble`   several servers that belong together, of either make
//!   `reference`  where the Java reference comes from
//!   `clients`    the real clients of the proof suites and how they get onto this machine
//!   `dialogue`   a scripted session with a command-line client, its answers kept in the file
//!   `mask`       what differs from run to run, made equal
//!   `suites`     the suites themselves; `summary` says what passed, failed and was skipped
//!   `differential` the same bytes to ringkeeper and to the reference, and every answer compared
//!   `migration`  a tree moved between ringkeeper and the reference, and back
//!   `mixed`      ensembles of both makes: members die, are wiped and come back, and all have the same tree
//!   `roll`       an ensemble of Java servers becomes one of ringkeepers under load, and back
//!   `drill`      an ensemble under load and random faults: processes, disks, the network between them
//!   `load`       clients whose every answer is known beforehand
//!   `wire`       the few messages of the client protocol that a load needs, over a plain socket
//!
//! Not here, on purpose: the server's own code. A proof that shares its encoder with what it proves is worth less.

pub mod clients;
pub mod dialogue;
pub mod differential;
pub mod drill;
pub mod ensemble;
pub mod load;
pub mod mask;
pub mod migration;
pub mod mixed;
pub mod process;
pub mod reference;
pub mod reshape;
pub mod roll;
pub mod server;
pub mod suites;
pub mod summary;
pub mod wire;

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Everything here ends in a person reading a message, so any error will do.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Tries until it works. When `patience` is over the last failure is the answer.
pub fn patiently<T>(patience: Duration, pause: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        match attempt() {
            Err(_) if Instant::now() < deadline => std::thread::sleep(pause),
            outcome => return outcome,
        }
    }
}

/// The workspace's root.
pub fn root() -> PathBuf {
    let tools = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    tools.parent().expect("tools is a member of the workspace").to_path_buf()
}

/// Cargo's target directory: what is built, fetched and written by test servers lies below it.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
