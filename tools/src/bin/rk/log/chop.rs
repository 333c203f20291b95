//! `rk log chop`: gives up everything behind one transaction, on the disk of a server that does not run.
//!
//! Done by the store's own truncation, under the server's lock, for good or not at all. What it is for: a server whose last
//! transactions must not count, by an operator's decision; and one that refuses to start because its log is damaged, and has
//! neither a backup nor a leader to get the rest from. Java's tool writes a shorter copy of one file instead.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use ringkeeper_storage::{
    DIRECTORY, LogError, StoreConfig, StoreError, Zxid, open, open_despite_loss, open_on, open_on_despite_loss,
};
use serde::Serialize;

use crate::chosen::{Looking, ONLY_LOOKING};
use crate::console::{Console, Failure, Result, Verdict};
use crate::files;
use crate::show::{Hex, parse_zxid};

#[derive(Args)]
#[command(
    after_help = "What is given up may have been acknowledged to clients, and an ensemble may have it elsewhere: a member whose log \
    is damaged is simply started, and fetches everything from its leader. Without --yes nothing is changed, and what would be given \
    up is told."
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
        if !files::is_directory(&directory.join(DIRECTORY))? {
            return Err(Failure::usage(format!("{}: {DIRECTORY} is not in it", directory.display())));
        }
    }
    let config = StoreConfig::new(&data_dir, &log_dir);
    let (mut looked_at, damage) = match open_on(Looking::default(), config.clone()) {
        Err(StoreError::Io { source, .. }) if source.kind() == ONLY_LOOKING && arguments.yes => {
            drop(open(config.clone())?);
            (open_on(Looking::default(), config.clone())?, None)
        }
        Err(StoreError::Io { path, source, .. }) if source.kind() == ONLY_LOOKING => {
            let path = path.display();
            return Err(Failure::usage(format!(
                "{path}: a truncation was decided and not finished; --yes finishes it first"
            )));
        }
        Err(error) if error.can_be_cut() => {
            (open_on_despite_loss(Looking::default(), config.clone())?, Some(error.to_string()))
        }
        other => (other?, None),
    };
    let (before, lost) = (looked_at.report().last_zxid, looked_at.report().lost_through);
    if arguments.to > before {
        let why = damage.map_or_else(String::new, |damage| format!(": {damage}"));
        return Err(Failure::usage(format!("the log ends with {before}, before {}{why}", arguments.to)));
    }
    looked_at.check_truncate(arguments.to).map_err(|error| match error {
        StoreError::Log(LogError::NotCovered { .. }) => {
            Failure::usage(format!("{error}; `rk log dump --records-only` shows the transactions there are"))
        }
        other => other.into(),
    })?;
    if arguments.yes {
        let mut opened = if damage.is_some() { open_despite_loss(config)? } else { open(config)? };
        opened.truncate(arguments.to)?;
    }
    let was = lost.unwrap_or(before);
    console.say(&Said { item: "chop", was: was.into(), is: arguments.to.into(), done: arguments.yes, damage })?;
    Ok(Verdict::Fine)
}

#[derive(Serialize)]
struct Said {
    item: &'static str,
    /// The last that is known of.
    was: Hex,
    is: Hex,
    done: bool,
    /// Why a start refuses the log as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<String>,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Said { was, is, damage, .. } = self;
        let rest = if damage.is_some() { " at least, the damage with it" } else { "" };
        match (self.done, damage) {
            (_, None) if was == is => write!(f, "the last transaction is {is}: nothing to cut"),
            (true, _) => {
                write!(f, "the last transaction is {is} now; what was behind it, up to {was}{rest}, is given up")
            }
            (false, None) => {
                write!(f, "would give up everything behind {is}, up to {was}; nothing was changed: say --yes to do it")
            }
            (false, Some(damage)) => write!(
                f,
                "{damage}\nwould give up everything behind {is}, up to {was}{rest}; nothing was changed: copy the directory, then say \
                 --yes to do it"
            ),
        }
    }
}
