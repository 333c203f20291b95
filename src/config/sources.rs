//! From the places a setting can live to one effective value each (operations 1.2).
//!
//! Rising precedence: built-in default, `-D` tokens of `SERVER_JVMFLAGS`, of `JVMFLAGS`, of the command line, the file.
//! (Java's script puts `SERVER_JVMFLAGS` in front of `JVMFLAGS`, and a JVM takes the last.) What a name means decides
//! whether a place counts at all; a value in a place where Java would not look for it is reported, never used quietly.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use super::keys::{self, Found, Key, Place};
use super::{Concern, Level, Notice};
use crate::wire::java_properties::Properties;

/// Where the effective value of a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    /// The short form `port datadir [ticktime] [maxcnxns]`.
    Arguments,
    /// A `-D` token in the environment variable of that name.
    Environment(&'static str),
    /// A `-D` on our own command line.
    CommandLine,
    File {
        name: String,
        line: u32,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::Arguments => f.write_str("arguments"),
            Origin::Environment(variable) => write!(f, "environment {variable}"),
            Origin::CommandLine => f.write_str("command line"),
            Origin::File { name, line } => write!(f, "{name}:{line}"),
        }
    }
}

/// One setting that somebody wrote.
#[derive(Clone)]
pub struct Setting {
    pub key: &'static Key,
    /// The setting's own name: the key's, or what was written for a member of a family.
    pub name: String,
    pub value: String,
    pub origin: Origin,
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = if keys::is_secret(&self.name) { "***" } else { &self.value };
        write!(f, "{}={value} [{}]", self.name, self.origin)
    }
}

/// The effective settings by name.
pub type Settings = BTreeMap<String, Setting>;

/// One `-Dname=value`.
pub struct Definition {
    name: String,
    value: String,
    origin: Origin,
}

/// Reads the `-D` tokens of the environment and the command line, lowest precedence first.
pub fn definitions(
    environment: &dyn Fn(&str) -> Option<String>,
    command_line: &[String],
    notices: &mut Vec<Notice>,
) -> Vec<Definition> {
    let mut all = Vec::new();
    let mut ignored = Vec::new();
    if environment("ZOO_DATADIR_AUTOCREATE_DISABLE").is_some_and(|value| !value.is_empty()) {
        let origin = Origin::Environment("ZOO_DATADIR_AUTOCREATE_DISABLE");
        all.push(Definition { name: "zookeeper.datadir.autocreate".to_owned(), value: "false".to_owned(), origin });
    }
    if let Some(value) = environment("ZOO_LOG4J_PROP").filter(|value| !value.is_empty()) {
        let origin = Origin::Environment("ZOO_LOG4J_PROP");
        all.push(Definition { name: "zookeeper.root.logger".to_owned(), value, origin });
    }
    if environment("JMXPORT").is_some_and(|value| !value.is_empty()) {
        let text =
            "JMXPORT: there is no JMX here, and nothing listens on that port; every metric is in `mntr`".to_owned();
        notices.push(Notice::warn(Concern::Ineffective, text));
    }
    for variable in ["SERVER_JVMFLAGS", "JVMFLAGS"] {
        let text = environment(variable).unwrap_or_default();
        for token in text.split_ascii_whitespace() {
            match token.strip_prefix("-D") {
                Some(definition) => all.push(parse_definition(definition, Origin::Environment(variable))),
                None if token.starts_with("-javaagent") && token.contains("jmx_prometheus") => {
                    notices.push(Notice::warn(
                        Concern::Ineffective,
                        format!("{variable}: {token}: there is no JMX to export; every metric is in `mntr`"),
                    ));
                }
                None => ignored.push(token.to_owned()),
            }
        }
    }
    all.extend(
        command_line
            .iter()
            .map(|token| parse_definition(token.strip_prefix("-D").unwrap_or(token), Origin::CommandLine)),
    );
    if !ignored.is_empty() {
        let text = format!("options for a JVM, which there is none of, are ignored: {}", ignored.join(" "));
        notices.push(Notice::new(Level::Info, Concern::Ineffective, text));
    }
    all
}

fn parse_definition(text: &str, origin: Origin) -> Definition {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    Definition { name: name.trim().to_owned(), value: value.trim().to_owned(), origin }
}

/// Applies definitions, lowest precedence first.
pub fn apply_definitions(mut definitions: Vec<Definition>, settings: &mut Settings, notices: &mut Vec<Notice>) {
    // Whole names come first: where both forms work, the one with the prefix wins. Java: Long.getLong with a fallback.
    definitions.sort_by_key(|definition| find_whole(&definition.name).is_none());
    let mut foreign = Vec::new();
    for Definition { name, value, origin } in definitions {
        let complain = |concern, why: String| Notice::warn(concern, format!("{origin}: -D{name}: {why}"));
        let short = name.strip_prefix("zookeeper.").unwrap_or(&name);
        let prefixed = short.len() < name.len();
        let found = match (find_whole(&name), keys::find(short)) {
            (Some(found), _) => found,
            (None, Some(found)) if prefixed && matches!(found.key.place, Place::Property | Place::PropertyOrBare) => {
                if found.by_alias {
                    notices.push(complain(Concern::Misplaced, by_alias(found.key)));
                }
                found
            }
            (None, Some(found)) => {
                notices.push(complain(Concern::Ineffective, no_property(found.key, short)));
                continue;
            }
            (None, None) if prefixed || short.starts_with("ringkeeper.") => {
                notices.push(complain(Concern::Unknown, unknown(short)));
                continue;
            }
            (None, None) if keys::nearest(&name).is_some() => {
                notices.push(complain(Concern::Unknown, unknown(&name)));
                continue;
            }
            (None, None) => {
                foreign.push(format!("-D{name}"));
                continue;
            }
        };
        let name = if find_whole(&name).is_some() { name } else { own_name(found, short) };
        settings.insert(name.clone(), Setting { key: found.key, name, value, origin });
    }
    if !foreign.is_empty() {
        let text = format!("properties of the JVM and of others are ignored: {}", foreign.join(" "));
        notices.push(Notice::new(Level::Info, Concern::Ineffective, text));
    }
}

/// Applies the file, which wins over everything else.
pub fn apply_file(file: &str, properties: &Properties, settings: &mut Settings, notices: &mut Vec<Notice>) {
    if let Some(line) = properties.first_line_beyond_ascii {
        notices.push(Notice::warn(
            Concern::Other,
            format!("{file}:{line}: bytes beyond ASCII are read as ISO-8859-1, not UTF-8; write \\uXXXX instead"),
        ));
    }
    let mut seen: HashMap<String, u32> = HashMap::new();
    for entry in &properties.entries {
        let line = entry.line;
        let complain = |concern, why: String| Notice::warn(concern, format!("{file}:{line}: {}: {why}", entry.key));
        let mut written = entry.key.as_str();
        if let Some(rest) = written.strip_prefix(BYTE_ORDER_MARK) {
            let why =
                format!("honoured as {rest}; Java does not know it behind a byte order mark, so save the file without");
            notices.push(complain(Concern::Misplaced, why));
            written = rest;
        }
        if let (None, Some(rest)) = (keys::find(written), written.strip_prefix("zookeeper.")) {
            let why = format!("honoured as {rest}; Java ignores it with the zookeeper. in front, so write it without");
            notices.push(complain(Concern::Misplaced, why));
            written = rest;
        }
        let Some(found) = keys::find(written) else {
            notices.push(complain(Concern::Unknown, unknown(written)));
            continue;
        };
        let name = own_name(found, written);
        if let Some(earlier) = seen.insert(name.clone(), line) {
            let why = format!("also on line {earlier}; the last one counts, so remove the other");
            notices.push(complain(Concern::Duplicate, why));
        }
        match found.key.place {
            Place::JvmOnly => {
                let why = format!("has no effect here, in Java neither; give -D{name}={} in JVMFLAGS", entry.value);
                notices.push(complain(Concern::Ineffective, why));
                continue;
            }
            Place::JvmHonouredInFile => {
                let why = format!("honoured; Java reads it only as -D{name}");
                notices.push(Notice { level: Level::Info, ..complain(Concern::Misplaced, why) });
            }
            _ if found.by_alias => notices.push(complain(Concern::Misplaced, by_alias(found.key))),
            _ => {}
        }
        let origin = Origin::File { name: file.to_owned(), line };
        settings.insert(name.clone(), Setting { key: found.key, name, value: entry.value.clone(), origin });
    }
}

/// What some editors begin UTF-8 with, as ISO-8859-1.
const BYTE_ORDER_MARK: &str = "\u{ef}\u{bb}\u{bf}";

/// Finds a key that is a property under exactly this name, with nothing in front.
fn find_whole(name: &str) -> Option<Found> {
    let whole =
        |key: &Key| matches!(key.place, Place::JvmOnly | Place::JvmHonouredInFile | Place::Own | Place::PropertyOrBare);
    keys::find(name).filter(|found| whole(found.key) && !found.by_alias)
}

fn own_name(found: Found, written: &str) -> String {
    if found.in_family { written.to_owned() } else { found.key.name.to_owned() }
}

fn by_alias(key: &Key) -> String {
    format!("honoured; Java knows this setting only as {}", key.name)
}

fn no_property(key: &Key, name: &str) -> String {
    match key.place {
        Place::Dedicated | Place::Dynamic => {
            format!("has no effect as a property; write {name} in zoo.cfg")
        }
        _ => format!("has no effect under this name; give -D{}", key.property()),
    }
}

fn unknown(name: &str) -> String {
    if name.to_ascii_lowercase().starts_with("server") {
        return "unknown key, ignored; did you mean server.N, with the number of a server?".to_owned();
    }
    match keys::nearest(name) {
        Some(nearest) => format!("unknown key, ignored; did you mean {nearest}?"),
        None => "unknown key, ignored; remove it".to_owned(),
    }
}
