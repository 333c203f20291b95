//! The real clients of the proof suites, brought in by the ordinary package clients: pip (into an environment of its
//! own below the target directory), npm (likewise), and apt-get where we may install.
//!
//! Every `ensure_*` returns at once when its client is there, and an error that says what is missing when it cannot be
//! had; the caller turns that into a loud SKIPPED.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::process::{exists, output_of, run};
use crate::{Result, root, target};

/// Debian's command-line client (3.8).
pub const ZKCLI: &str = "/usr/share/zookeeper/bin/zkCli.sh";
/// Debian's C command-line client.
pub const CLI_MT: &str = "/usr/lib/zookeeper/bin/cli_mt";
/// Debian's own jar; its manifest names everything it needs.
pub const DEBIAN_JAR: &str = "/usr/share/java/zookeeper.jar";
const C_HEADER: &str = "/usr/include/zookeeper/zookeeper.h";

/// The Python of our environment, with pip.
pub fn python() -> Result<PathBuf> {
    let environment = target().join("clients/venv");
    let python = environment.join("bin/python");
    if !python.is_file() {
        if !exists("python3") {
            ensure_debian(&["python3", "python3-venv"], || exists("python3"))?;
        }
        if output_of(Command::new("python3").args(["-m", "ensurepip", "--version"])).is_err() {
            install_debian(&["python3-venv"])?;
        }
        run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    }
    Ok(python)
}

/// The Python that has kazoo, pytest and what kazoo's tests import, at the pinned versions.
pub fn ensure_kazoo() -> Result<PathBuf> {
    let python = python()?;
    let requirements = root().join("tests/clients/kazoo/requirements.txt");
    // A copy beside the environment says what it was last brought to.
    let installed = target().join("clients/venv/installed-requirements.txt");
    let wanted = fs::read_to_string(&requirements)?;
    if fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(python);
    }
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&requirements))?;
    fs::write(&installed, wanted)?;
    Ok(python)
}

pub fn ensure_java() -> Result<()> {
    ensure_debian(&["default-jre-headless"], || exists("java"))
}

pub fn ensure_javac() -> Result<()> {
    ensure_debian(&["default-jdk-headless"], || exists("javac"))
}

pub fn ensure_zkcli() -> Result<()> {
    ensure_java()?;
    ensure_debian(&["zookeeper"], || Path::new(ZKCLI).is_file())
}

pub fn ensure_c_cli() -> Result<()> {
    ensure_debian(&["zookeeper-bin"], || Path::new(CLI_MT).is_file())
}

pub fn ensure_c_library() -> Result<()> {
    ensure_debian(&["gcc", "libc6-dev", "libzookeeper-mt-dev"], || exists("cc") && Path::new(C_HEADER).is_file())
}

/// The directory whose `node_modules` hold the packages that `tests/clients/node/package-lock.json` pins.
pub fn ensure_node() -> Result<PathBuf> {
    ensure_debian(&["nodejs", "npm"], || exists("node") && exists("npm"))?;
    let source = root().join("tests/clients/node");
    let directory = target().join("clients/node");
    fs::create_dir_all(&directory)?;
    let lock = fs::read_to_string(source.join("package-lock.json"))?;
    let installed = directory.join("installed-lock.json");
    if !fs::read_to_string(&installed).is_ok_and(|text| text == lock) {
        for file in ["package.json", "package-lock.json"] {
            fs::copy(source.join(file), directory.join(file))?;
        }
        run(Command::new("npm").args(["ci", "--silent", "--no-audit", "--no-fund"]).current_dir(&directory))?;
        fs::write(&installed, lock)?;
    }
    Ok(directory)
}

fn ensure_debian(packages: &[&str], is_there: impl Fn() -> bool) -> Result<()> {
    if is_there() {
        return Ok(());
    }
    install_debian(packages)?;
    if is_there() { Ok(()) } else { Err(format!("{packages:?} installed, but not what they should bring").into()) }
}

fn install_debian(packages: &[&str]) -> Result<()> {
    if !exists("apt-get") {
        return Err(format!("missing, and no apt-get to install {packages:?}").into());
    }
    let apt_get = || {
        if rustix::process::geteuid().is_root() {
            return Command::new("apt-get");
        }
        let mut sudo = Command::new("sudo");
        sudo.args(["--non-interactive", "apt-get"]);
        sudo
    };
    // One update a run is enough; old lists may still do when there is no network.
    static UPDATED: OnceLock<()> = OnceLock::new();
    UPDATED.get_or_init(|| {
        if let Err(error) = output_of(apt_get().args(["--quiet", "update"])) {
            eprintln!("apt-get update: {error}");
        }
    });
    println!("installing {packages:?}");
    output_of(apt_get().args(["--quiet", "--yes", "--no-install-recommends", "install"]).args(packages))
        .map(drop)
        .map_err(|error| format!("{packages:?} cannot be installed here: {error}").into())
}
