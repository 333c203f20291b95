//! Dialogues as tests: `tests/scripts/*.txt`, commands and what comes of them, to be read as well as run.
//!
//! ```text
//! # a comment
//! > a command
//! what happened, as it was recorded
//! ```
//!
//! The first word of a script's name says which stage it plays on ([`stage`]): `election-*` among electors, and so on. After a
//! change that is meant, `RINGKEEPER_UPDATE_SCRIPTS=1 cargo test --test scripts` records anew; read the difference.

#[path = "scripts/election_chance.rs"]
mod election_chance;
#[path = "scripts/election_net.rs"]
mod election_net;
#[path = "scripts/election_stage.rs"]
mod election_stage;
#[path = "scripts/java_elector.rs"]
mod java_elector;
#[path = "scripts/sync_stage.rs"]
mod sync_stage;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Where a script plays. A fresh one for each script.
trait Stage {
    /// Carries out a command and tells what happened, a line each. An error is the script's mistake.
    fn run(&mut self, command: &str) -> Result<Vec<String>, String>;
}

fn stage(kind: &str) -> Option<Box<dyn Stage>> {
    match kind {
        "election" => Some(Box::new(election_stage::ElectionStage::new())),
        "sync" => Some(Box::new(sync_stage::SyncStage::default())),
        _ => None,
    }
}

#[test]
fn every_script_plays_as_recorded() {
    let update = std::env::var_os("RINGKEEPER_UPDATE_SCRIPTS").is_some_and(|value| value == "1");
    let mut wrong = String::new();
    let scripts = scripts();
    assert!(!scripts.is_empty(), "there are scripts");
    for path in scripts {
        let name = path.file_name().unwrap().to_str().unwrap();
        let recorded = fs::read_to_string(&path).unwrap();
        let played = play(name, &recorded);
        if played == recorded {
            continue;
        }
        if update {
            fs::write(&path, played).unwrap();
        } else {
            write!(wrong, "\n{name}: {}", first_difference(&recorded, &played)).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}\nIf this is meant: RINGKEEPER_UPDATE_SCRIPTS=1 cargo test --test scripts");
}

/// The script with its output as it is today.
fn play(name: &str, script: &str) -> String {
    let kind = name.split(['-', '.']).next().unwrap();
    let mut stage = stage(kind).unwrap_or_else(|| panic!("{name}: there is no stage for `{kind}`"));
    let mut played = String::new();
    for (index, line) in script.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            played += line;
            played.push('\n');
        } else if let Some(command) = line.strip_prefix("> ") {
            played += line;
            played.push('\n');
            let told = stage.run(command).unwrap_or_else(|why| panic!("{name}:{}: {command}: {why}", index + 1));
            for line in told {
                assert!(
                    !line.is_empty() && !line.starts_with(['#', '>']),
                    "{name}: `{line}` would not be read as output"
                );
                played += &line;
                played.push('\n');
            }
        }
        // Anything else is what was recorded before.
    }
    played
}

fn first_difference(recorded: &str, played: &str) -> String {
    let (mut recorded, mut played) = (recorded.lines(), played.lines());
    let mut number = 0;
    loop {
        number += 1;
        let lines = (recorded.next(), played.next());
        if lines.0 != lines.1 {
            let show = |line: Option<&str>| line.map_or("(the end)".to_string(), |line| format!("`{line}`"));
            return format!("line {number}: recorded {}, now {}", show(lines.0), show(lines.1));
        }
    }
}

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut scripts: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    scripts.sort();
    scripts
}
