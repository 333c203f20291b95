//! `rk log chop`: gives up everything behind one transaction, on the disk of a server that does not run.
//!
//! Done by the store's own truncation, under the server's lock, for good or not at all. What it is for: a server whose last
//! transactions must not count, by an operator's decision. Java's tool writes a shorter copy of one file instead.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use ringkeeper_storage::{DIRECTORY, LogError, StoreConfig, StoreError, Zxid, open, open_on};
use serde::Serialize;

use crate::chosen::Looking;
use crate::console::{Console, Failure, Result, Verdict};
use crate::files;
use crate::show::{Hex, parse_zxid};

#[derive(Args)]
#[command(
    after_help = "What is given up may have been acknowledged to clients, and an ensemble may have it elsewhere. Without --yes \
    nothing is changed, and what would be given up is told."
)]
pub struct Arguments {
    /// The server's dataDir
    pub data_dir: PathBuf,
    /// The server's dataLogDir, where it is another one
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
    /// The last transaction that stays (0x and hexadecimal digits, or decimal)
    #[arg(long, value_name = "ZXID", value_parser = parse_zxid)]
    pub to: Zxid,
    /// Do it
    #[arg(long)]
    pub yes: bool,
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Verdict> {
    let data_dir = files::data_dir_of(&arguments.data_dir);
    let log_dir = arguments.log_dir.as_deref().map_or(data_dir.clone(), files::data_dir_of);
    for directory in [&data_dir, &log_dir] {
        if !directory.join(DIRECTORY).is_dir() {
            return Err(Failure::usage(format!("{}: {DIRECTORY} is not in it", directory.display())));
        }
    }
    let config = StoreConfig::new(&data_dir, &log_dir);
    let before = open_on(Looking::default(), config.clone())?.report().last_zxid;
    if arguments.to > before {
        return Err(Failure::usage(format!("the log ends with {before}, before {}", arguments.to)));
    }
    if arguments.yes {
        open(config)?.truncate(arguments.to).map_err(|error| match error {
            StoreError::Log(LogError::NotCovered { .. }) => {
                Failure::usage(format!("{error}; `rk log dump --records-only` shows the transactions there are"))
            }
            other => other.into(),
        })?;
    }
    console.say(&Said { item: "chop", was: before.into(), is: arguments.to.into(), done: arguments.yes })?;
    Ok(Verdict::Fine)
}

#[derive(Serialize)]
struct Said {
    item: &'static str,
    was: Hex,
    is: Hex,
    done: bool,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Said { was, is, .. } = self;
        match self.done {
            _ if was == is => write!(f, "the last transaction is {is}: nothing to cut"),
            true => write!(f, "the last transaction is {is} now; what was behind it, up to {was}, is given up"),
            false => {
                write!(f, "would give up everything behind {is}, up to {was}; nothing was changed: say --yes to do it")
            }
        }
    }
}
