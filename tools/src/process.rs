//! Running other programs: with their output shown, kept in a file, or quietly. And being asked to end, oneself.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::{Result, root, target};

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

/// Runs to the end with everything it writes in a file, for whoever wants to watch; returns that with whether the program was
/// content.
pub fn run_and_keep(command: &mut Command, name: &str) -> Result<(bool, String)> {
    let path = target().join("test-output").join(format!("{name}.txt"));
    println!("    output: {}", path.strip_prefix(root()).unwrap_or(&path).display());
    fs::create_dir_all(path.parent().expect("a file of a directory"))?;
    let file = File::create(&path)?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let status = command.status().map_err(|error| describe(command, &error.to_string()))?;
    let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
    if !status.success() {
        println!("{}", gist(&text));
    }
    Ok((status.success(), text))
}

/// What a reader wants to know first of the output of something that failed: the lines that say so and those behind them, and the
/// end.
fn gist(text: &str) -> String {
    const SAYS_SO: [&str; 6] = ["FAILED", "panicked at", "broke a promise", "BROKEN", "NOT ", "error"];
    const BEHIND: usize = 3;
    const LINES: usize = 60;
    const END: usize = 15;
    let lines: Vec<&str> = text.lines().collect();
    let end = lines.len().saturating_sub(END);
    let mut told = 0;
    let mut gist = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        if SAYS_SO.iter().any(|word| line.contains(word)) && !line.ends_with("... ok") {
            told = number + 1 + BEHIND;
        }
        if number >= end || (number < told && gist.len() < LINES) {
            gist.push(*line);
        }
    }
    gist.join("\n")
}

fn describe(command: &Command, what: &str) -> String {
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    format!("{}: {what}", words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gist_of_a_failure_is_what_says_so_and_the_end() {
        let mut text: String = (0..200).map(|number| format!("test t{number} ... ok\n")).collect();
        text.insert_str(0, "test error_is_told ... ok\ntest bad ... FAILED\nwhy\n");
        let gist = gist(&text);
        assert!(gist.starts_with("test bad ... FAILED\nwhy\n"), "{gist}");
        assert!(gist.ends_with("test t199 ... ok") && gist.lines().count() == 4 + 15, "{gist}");
    }
}
