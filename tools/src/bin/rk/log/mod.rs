//! `rk log`: what is in transaction logs.

mod dump;
mod record;

use clap::Subcommand;

use crate::console::{Console, Result, Verdict};

#[derive(Subcommand)]
pub enum Command {
    /// Every batch and every transaction, and what is damaged
    Dump(dump::Arguments),
}

pub fn run(command: Command, console: &mut Console) -> Result<Verdict> {
    match command {
        Command::Dump(arguments) => dump::run(&arguments, console),
    }
}
