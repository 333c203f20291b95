//! Build script: which commit this is, for `srvr` and its kin. The date is the commit's, so that equal sources make equal
//! binaries. Debug builds and sources without git do without.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=src/build.rs");
    if std::env::var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    if let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) {
        println!("cargo::rustc-env=RINGKEEPER_COMMIT={commit}");
    }
    if let Some(built) = git(&["log", "-1", "--date=format-local:%Y-%m-%d %H:%M", "--format=%cd"]) {
        println!("cargo::rustc-env=RINGKEEPER_BUILT={built}");
    }
}

/// The first line git says, if there is git and it has an answer.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).env("TZ", "UTC").output().ok()?;
    let line = String::from_utf8(output.stdout).ok()?.lines().next()?.to_owned();
    (output.status.success() && !line.is_empty()).then_some(line)
}
