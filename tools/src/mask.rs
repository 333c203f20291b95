//! What two right servers may answer differently, made equal, and nothing else.
//!
//! A zxid becomes `<zxid N>` and a session id `<session N>`, numbered by first appearance in the whole transcript: that
//! `cZxid` and `mZxid` are the same stays visible, which number it was does not. A time of day or a duration becomes
//! `<time>`, and lists in the order of a hash table
//! are sorted. The rules name the fields of Debian's zkCli (3.8) and C client by the text before their value.

#[derive(Clone, Copy)]
enum Field {
    Zxid,
    Session,
    Time,
}

/// Text before the value, and what the value is. A value goes to the end of the line.
const FIELDS: &[(&str, Field)] = &[
    ("cZxid = ", Field::Zxid),
    ("mZxid = ", Field::Zxid),
    ("pZxid = ", Field::Zxid),
    ("czxid=", Field::Zxid),
    ("mzxid=", Field::Zxid),
    ("pzxid=", Field::Zxid),
    ("ctime = ", Field::Time),
    ("mtime = ", Field::Time),
    ("mtime=", Field::Time),
    ("time = ", Field::Time),
    ("ephemeralOwner = ", Field::Session),
    ("session Id = ", Field::Session),
    ("Got a new session id: ", Field::Session),
];

/// Remembers what it has seen, so that equal values get equal names.
#[derive(Debug, Default)]
pub struct Mask {
    zxids: Vec<String>,
    sessions: Vec<String>,
}

impl Mask {
    /// The whole answer to one command.
    pub fn answer(&mut self, lines: &[String]) -> Vec<String> {
        let mut answer: Vec<String> = lines.iter().map(|line| self.line(line)).collect();
        // Children of the C client: one a line, indented, in the order of the server's hash table.
        let is_child = |line: &String| line.starts_with('\t') && !line.contains('=');
        for run in answer.chunk_by_mut(|one, next| is_child(one) && is_child(next)) {
            if run.len() > 1 {
                run.sort_unstable();
            }
        }
        answer
    }

    fn line(&mut self, line: &str) -> String {
        let line = without_log_stamp(line);
        if let Some(paths) = sorted_paths(line) {
            return paths;
        }
        let indent = line.len() - line.trim_start().len();
        let (space, text) = line.split_at(indent);
        for (before, field) in FIELDS {
            if let Some(value) = text.strip_prefix(before) {
                return format!("{space}{before}{}", self.value(*field, value.trim_end()));
            }
        }
        line.to_owned()
    }

    fn value(&mut self, field: Field, value: &str) -> String {
        let number = value.trim_start_matches("0x");
        if number.chars().all(|digit| digit == '0') {
            return value.to_owned(); // no zxid, no owner: that is no accident of the run
        }
        match field {
            Field::Time => "<time>".to_owned(),
            Field::Zxid => format!("<zxid {}>", rank(&mut self.zxids, number)),
            Field::Session => format!("<session {}>", rank(&mut self.sessions, number)),
        }
    }
}

/// A list of paths comes in the order of a hash table: `[/b, /a]`.
fn sorted_paths(line: &str) -> Option<String> {
    let inner = line.strip_prefix('[')?.strip_suffix(']')?;
    let mut paths: Vec<&str> = inner.split(", ").collect();
    if !paths.iter().all(|path| path.starts_with('/')) {
        return None;
    }
    paths.sort_unstable();
    Some(format!("[{}]", paths.join(", ")))
}

fn rank(seen: &mut Vec<String>, value: &str) -> usize {
    let index = seen.iter().position(|other| other == value).unwrap_or_else(|| {
        seen.push(value.to_owned());
        seen.len() - 1
    });
    index + 1
}

/// The C client's log lines begin with a date, a time, a process and a thread: `2026-...(0x7f..):ZOO_ERROR@function@...`.
fn without_log_stamp(line: &str) -> &str {
    match line.find(":ZOO_") {
        Some(at) if line.starts_with("20") => &line[at + 1..],
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(lines: &[&str]) -> Vec<String> {
        let mut mask = Mask::default();
        lines.iter().map(|line| mask.line(line)).collect()
    }

    #[test]
    fn equal_zxids_stay_equal_and_others_differ() {
        let lines = masked(&["cZxid = 0x2a", "mZxid = 0x2b", "pZxid = 0x2a", "\tczxid=2b"]);
        assert_eq!(lines, ["cZxid = <zxid 1>", "mZxid = <zxid 2>", "pZxid = <zxid 1>", "\tczxid=<zxid 2>"]);
    }

    #[test]
    fn no_owner_is_shown() {
        let lines = masked(&["ephemeralOwner = 0x0", "ephemeralOwner = 0x10000c0ffee0000"]);
        assert_eq!(lines, ["ephemeralOwner = 0x0", "ephemeralOwner = <session 1>"]);
    }

    #[test]
    fn a_list_of_paths_is_sorted() {
        assert_eq!(masked(&["[/b, /a]", "[b, a]"]), ["[/a, /b]", "[b, a]"]);
    }

    #[test]
    fn counts_and_data_are_compared_as_they_are() {
        let lines = ["cversion = 3", "dataLength = 5", "some data = 7", "[a, b]"];
        assert_eq!(masked(&lines), lines);
    }
}
