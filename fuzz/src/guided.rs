//! libFuzzer: counts which branches an input takes, and goes on from those that take new ones.
//!
//! The counters are the compiler's own (`-Cpasses=sancov-module`, on any compiler); without a sanitizer: there is no unsafe
//! code to be watched here, and asserts stay on in every build. The program is built below `target/fuzz`, where corpora and
//! inputs that fail are, too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::samples::{self, Sample, hex};
use crate::{Target, memory};

/// Names the target to the program.
pub const TARGET_VARIABLE: &str = "RINGKEEPER_FUZZ_TARGET";

const COUNTERS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                        -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Longer ones take time and say little more.
const INPUT_BYTES_MAX: usize = 16 * 1024;
/// Of those that are kept: git has better things to carry.
const KEPT_BYTES_MAX: usize = 1024;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a member of a workspace").to_owned()
}

fn place() -> PathBuf {
    workspace().join("target/fuzz")
}

/// Builds the program. With `--target`, so that only what ends up in it has counters.
pub fn build() -> Result<PathBuf, String> {
    let version = Command::new("rustc").arg("-vV").output().map_err(|error| format!("rustc: {error}"))?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("rustc does not say its host")?;
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet", "--profile", "fuzz", "--package", "ringkeeper-fuzz", "--features", "guided"]);
    cargo.args(["--bin", "guided", "--target", host, "--target-dir"]).arg(place());
    let status = cargo.env("RUSTFLAGS", COUNTERS).current_dir(workspace()).status();
    match status {
        Ok(status) if status.success() => Ok(place().join(host).join("fuzz/guided")),
        _ => Err("libFuzzer cannot be built; it needs a C++ compiler (apt-get install g++)".to_owned()),
    }
}

/// So many seconds with one target; whether it stood everything. `keep`: what was found is what the next runs begin with.
pub fn run(program: &Path, target: &Target, seconds: u64, keep: bool) -> Result<bool, String> {
    let (begin, found, failures) =
        (directory(target, "begin")?, directory(target, "found")?, directory(target, "failures")?);
    for (number, sample) in samples::of(target.name)?.iter().enumerate() {
        write(&begin.join(format!("{number:04}")), sample)?;
    }
    println!("=== {} for {seconds} seconds", target.name);
    let mut fuzzer = command(program, target);
    fuzzer.arg(format!("-max_total_time={seconds}")).arg(format!("-artifact_prefix={}/", failures.display()));
    fuzzer.args(["-print_final_stats=1", "-verbosity=0", "-timeout=10", "-report_slow_units=10"]);
    let status = fuzzer.args([&found, &begin]).status().map_err(|error| format!("{}: {error}", program.display()))?;
    for failure in files(&failures)? {
        let input = hex(&read(&failure)?);
        println!("FAILED ({}): cargo dev fuzz --target {} --input {input}", failure.display(), target.name);
    }
    if keep {
        keep_smallest(program, target, &[&found, &begin])?;
    }
    Ok(status.success())
}

/// The fewest inputs that take all the ways that all of these take, but for the recorded ones.
fn keep_smallest(program: &Path, target: &Target, all: &[&Path]) -> Result<(), String> {
    let smallest = directory(target, "smallest")?;
    let merged = command(program, target).arg("-merge=1").arg(&smallest).args(all).output();
    merged.map_err(|error| format!("{}: {error}", program.display()))?;
    let recorded = samples::recorded(target.name)?;
    let inputs: Vec<Sample> = files(&smallest)?.iter().map(|file| read(file)).collect::<Result<_, _>>()?;
    let is_new = |input: &Sample| input.len() <= KEPT_BYTES_MAX && !recorded.contains(input);
    samples::keep(target.name, &inputs.into_iter().filter(is_new).collect::<Vec<_>>())
}

fn command(program: &Path, target: &Target) -> Command {
    let mut command = Command::new(program);
    command.env(TARGET_VARIABLE, target.name);
    command.args([format!("-max_len={INPUT_BYTES_MAX}"), format!("-rss_limit_mb={}", memory::RSS_MIB_MAX)]);
    command
}

/// A new one below the target directory.
fn directory(target: &Target, name: &str) -> Result<PathBuf, String> {
    let directory = place().join("runs").join(target.name).join(name);
    let said = |error| format!("{}: {error}", directory.display());
    if directory.exists() {
        fs::remove_dir_all(&directory).map_err(said)?;
    }
    fs::create_dir_all(&directory).map_err(said)?;
    Ok(directory)
}

fn files(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(|error| error.to_string())).collect()
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("{}: {error}", file.display()))
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(file, bytes).map_err(|error| format!("{}: {error}", file.display()))
}
