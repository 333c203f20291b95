//! `rk`: tools for the bytes that a server leaves on its disk, ours and Java's. See `docs/TOOLS.md`.
//!
//! A file per command; each has its `Arguments` and a `run` that says what it found to the [`Console`]. What is found
//! wrong is an answer, not a failure: damage is shown with its place, and reading goes on behind it.

mod chosen;
mod console;
mod export;
mod files;
mod import;
mod log;
mod owner;
mod progress;
mod show;
mod snapshot;
#[cfg(test)]
mod tests;
mod verify_dir;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use console::{Console, Verdict};

#[derive(Parser)]
#[command(
    name = "rk",
    version,
    about = "Reads, checks and converts what ringkeeper and Java ZooKeeper servers leave on a disk",
    after_help = "Exit status: 0 all is well; 1 damage or a difference was found; 2 wrong usage, or a file cannot be read."
)]
struct Arguments {
    /// One JSON object a line instead of text
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Transaction logs
    #[command(subcommand)]
    Log(log::Command),
    /// Snapshots
    #[command(subcommand)]
    Snapshot(snapshot::Command),
    /// A whole data directory: every file, and what a start would do
    VerifyDir(verify_dir::Arguments),
    /// Takes the directory of a Java server over
    Import(import::Arguments),
    /// Writes a directory that a Java server starts on
    Export(export::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut console = Console::stdout(arguments.json);
    match run(arguments.command, &mut console).and_then(|verdict| console.finish().map(|()| verdict)) {
        Ok(Verdict::Fine) => ExitCode::SUCCESS,
        Ok(Verdict::Found) => ExitCode::from(1),
        Err(failure) => {
            if !failure.is_closed_pipe() {
                eprintln!("rk: {failure}");
            }
            ExitCode::from(2)
        }
    }
}

fn run(command: Command, console: &mut Console) -> console::Result<Verdict> {
    match command {
        Command::Log(command) => log::run(command, console),
        Command::Import(arguments) => import::run(&arguments, console),
        Command::Export(arguments) => export::run(&arguments, console),
        Command::Snapshot(command) => snapshot::run(command, console),
        Command::VerifyDir(arguments) => verify_dir::run(&arguments, console),
    }
}
