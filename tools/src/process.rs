//! Running other programs: with their output shown, with it shown and kept, or quietly. And being asked to end, oneself.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::Result;

static IS_ENDING: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// From now on the first signal to end is only noted, for [`go_on`] to tell: so that servers are ended, and file systems unmounted,
/// by whoever owns them. The second one ends the process.
pub fn end_in_order() -> Result<()> {
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        flag::register_conditional_default(signal, IS_ENDING.clone())?;
        flag::register(signal, IS_ENDING.clone())?;
    }
    Ok(())
}

/// Asked wherever there is waiting.
pub fn go_on() -> Result<()> {
    if IS_ENDING.load(Ordering::SeqCst) { Err("ended by a signal".into()) } else { Ok(()) }
}

/// Whether a program of this name can be run.
pub fn exists(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|directory| directory.join(program).is_file())
}

/// Runs to the end with output shown; anything but success is an error.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().map_err(|error| describe(command, &error.to_string()))?;
    if status.success() { Ok(()) } else { Err(describe(command, &status.to_string()).into()) }
}

/// Runs to the end and returns what it wrote to stdout and stderr; anything but success is an error carrying it.
pub fn output_of(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| describe(command, &error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("{}\n{text}{errors}", describe(command, &output.status.to_string())).into())
}

/// Runs to the end, shows stdout while it comes and returns it with whether the program was content.
pub fn run_and_keep(command: &mut Command) -> Result<(bool, String)> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| describe(command, &error.to_string()))?;
    let mut kept = String::new();
    for line in BufReader::new(child.stdout.take().expect("stdout is piped")).lines() {
        let line = line?;
        println!("{line}");
        kept.push_str(&line);
        kept.push('\n');
    }
    Ok((child.wait()?.success(), kept))
}

fn describe(command: &Command, what: &str) -> String {
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    format!("{}: {what}", words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" "))
}
