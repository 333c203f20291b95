//! What `--check` prints: the effective configuration with the origin of each value, and everything worth a second look.

use std::fmt::Write;

use super::keys::{self, Judgement};
use super::{Concern, Config, Mode, Notice, Origin};

/// The report for a configuration that was accepted.
pub fn report(config: &Config, notices: &[Notice]) -> String {
    let mut out = String::new();
    let mode = match config.mode {
        Mode::Standalone { .. } => "standalone".to_owned(),
        Mode::Ensemble { participants } => format!("ensemble of {participants} participants"),
    };
    let _ = writeln!(out, "{}: valid, {mode}\n\nEffective settings:", config.source);
    let mut lines: Vec<(String, String, String)> = Vec::new();
    for setting in config.settings.values() {
        let value = if keys::is_secret(&setting.name) { "***" } else { &setting.value };
        lines.push((setting.name.clone(), value.to_owned(), setting.origin.to_string()));
    }
    let defaulted = |key: &&keys::Key| {
        key.judgement == Judgement::Implemented && !key.default.is_empty() && !config.settings.contains_key(key.name)
    };
    for key in keys::KEYS.iter().filter(defaulted) {
        lines.push((key.name.to_owned(), default_text(config, key), Origin::Default.to_string()));
    }
    lines.sort();
    for (name, value, origin) in &lines {
        let _ = writeln!(out, "  {name}={value}  [{origin}]");
    }
    for (concern, title) in [
        (Concern::Duplicate, "Duplicates"),
        (Concern::Unknown, "Unknown keys"),
        (Concern::Ineffective, "Without effect"),
        (Concern::NotYet, "Not there yet"),
        (Concern::Misplaced, "Honoured here, not in Java"),
        (Concern::Other, "Worth knowing"),
    ] {
        let mut about = notices.iter().filter(|notice| notice.concern == concern).peekable();
        if about.peek().is_some() {
            let _ = writeln!(out, "\n{title}:");
        }
        for notice in about {
            let _ = writeln!(out, "  {}", notice.text);
        }
    }
    out
}

/// Defaults that follow from other settings are shown as what they came to.
fn default_text(config: &Config, key: &keys::Key) -> String {
    match key.name {
        "minSessionTimeout" => config.sessions.min_ms.to_string(),
        "maxSessionTimeout" => config.sessions.max_ms.to_string(),
        _ => key.default.to_owned(),
    }
}
