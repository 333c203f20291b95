//! `rk snapshot`: what is in snapshots, ours and Java's.

mod diff;
mod inspect;
mod java;
mod node;
mod open;
mod walk;

use clap::Subcommand;

use crate::console::{Console, Result, Verdict};

#[derive(Subcommand)]
pub enum Command {
    /// What it holds: counts, sessions, the largest nodes, subtrees, single nodes
    Inspect(inspect::Arguments),
    /// What is in one snapshot and not, or otherwise, in another; formats may differ
    Diff(diff::Arguments),
}

pub fn run(command: Command, console: &mut Console) -> Result<Verdict> {
    match command {
        Command::Inspect(arguments) => inspect::run(&arguments, console),
        Command::Diff(arguments) => diff::run(&arguments, console),
    }
}
