//! `rk log`: what is in transaction logs.

pub mod decide;
mod dump;
mod heavy;
mod read;
pub mod record;
mod stats;
pub mod verify;

use clap::Subcommand;

use crate::console::{Console, Result, Verdict};

#[derive(Subcommand)]
pub enum Command {
    /// Every batch and every transaction, and what is damaged
    Dump(dump::Arguments),
    /// Every checksum, link and record; what is damaged, and what a start would do
    Verify(verify::Arguments),
    /// Sizes, padding, types, the rate over time, the busiest paths and sessions
    Stats(stats::Arguments),
}

pub fn run(command: Command, console: &mut Console) -> Result<Verdict> {
    match command {
        Command::Dump(arguments) => dump::run(&arguments, console),
        Command::Verify(arguments) => verify::run(&arguments, console),
        Command::Stats(arguments) => stats::run(&arguments, console),
    }
}
