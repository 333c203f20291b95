//! Four-letter words about sessions, connections and watches, as lines that have to be equal.
//!
//! Addresses, times and latencies go, session ids become numbers, and what comes in the order of a hash table is sorted. Not here:
//! `hash` (times are in the digest), `conf`, `envi` and `dirs` (what they tell is a server's own), `wchs` while watches are there
//! (D-019).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::show::Eyes;
use crate::Result;

/// What can be asked at any moment.
pub const WORDS: [&str; 12] =
    ["dump", "dump", "wchp", "wchc", "wchp", "stat", "cons", "crst", "srst", "gtmk", "isro", "ruok"];
/// What is asked when everybody has left.
pub const LAST_WORDS: [&str; 3] = ["mntr", "wchs", "dump"];

const TIMEOUT: Duration = Duration::from_secs(60);
/// Metrics that count what clients did, and nothing else.
const METRICS: [&str; 8] = [
    "zk_znode_count",
    "zk_ephemerals_count",
    "zk_watch_count",
    "zk_global_sessions",
    "zk_local_sessions",
    "zk_outstanding_requests",
    "zk_server_state",
    "zk_connection_drop_probability",
];

/// The answer to a word.
pub fn ask(address: SocketAddr, word: &str) -> Result<String> {
    let mut socket = TcpStream::connect_timeout(&address, TIMEOUT)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.write_all(word.as_bytes())?;
    if word == "stmk" {
        socket.write_all(&0x1a6_i64.to_be_bytes())?;
    }
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Sessions that a server knows.
pub fn session_count(address: SocketAddr) -> Result<u64> {
    let monitored = ask(address, "mntr")?;
    let count = |name: &str| monitored.lines().filter_map(|line| line.split_once('\t')).find(|(key, _)| *key == name);
    let sum = ["zk_global_sessions", "zk_local_sessions"].map(count).into_iter().flatten();
    Ok(sum.filter_map(|(_, value)| value.trim().parse::<u64>().ok()).sum())
}

impl Eyes<'_> {
    /// A word's answer as lines.
    pub fn word(&self, word: &str, answer: &str) -> Vec<String> {
        let mut lines: Vec<String> = match word {
            "mntr" => answer
                .lines()
                .filter(|line| {
                    METRICS.iter().any(|name| line.split('\t').next() == Some(name)) || line.contains("_quota_")
                })
                .map(|line| line.replace('\t', " "))
                .collect(),
            "stat" => answer.lines().filter_map(without_accidents).collect(),
            "cons" => answer.lines().filter_map(|line| self.connection(line)).collect(),
            "dump" => answer.lines().filter_map(|line| self.dumped(line)).collect(),
            _ => answer.lines().map(|line| self.with_sessions(line)).collect(),
        };
        match word {
            "dump" => lines = owning(sorted_groups(lines)),
            "wchp" | "wchc" => lines = armed(sorted_groups(lines)),
            "mntr" | "cons" => lines.sort(),
            _ => {}
        }
        lines.iter().map(|line| format!("{word}: {line}")).collect()
    }

    fn with_sessions(&self, line: &str) -> String {
        let id = line.trim().trim_end_matches(':').strip_prefix("0x");
        match id.and_then(|id| u64::from_str_radix(id, 16).ok()) {
            Some(id) => line.replace(&format!("{id:#x}"), &self.session(id as i64)),
            None => line.to_owned(),
        }
    }

    /// A line of `dump`: when a session or a connection is due is the clock's business, and the word's own connection has no session.
    fn dumped(&self, line: &str) -> Option<String> {
        if let Some((_, id)) = line.split_once(" sessionId: 0x") {
            let id = i64::from_str_radix(id, 16).ok().filter(|id| *id != 0)?;
            return Some(format!("connection of {}", self.session(id)));
        }
        let is_due =
            [" expire at ", " sets (", " Sets (", "with Ephemerals ("].iter().any(|words| line.contains(words));
        (!is_due).then(|| self.with_sessions(line))
    }

    /// A line of `cons`: ` /127.0.0.1:1234[1](queued=0,recved=2,...)`. The word's own connection has no session.
    fn connection(&self, line: &str) -> Option<String> {
        const ACCIDENTS: [&str; 7] = ["est", "lresp", "llat", "minlat", "avglat", "maxlat", "queued"];
        let (_, rest) = line.split_once(":")?;
        let (_, rest) = rest.split_once('[')?;
        let fields = rest.trim_end_matches(')').split_once("](")?.1;
        let shown: Vec<String> = fields
            .split(',')
            .filter(|field| !ACCIDENTS.iter().any(|name| field.split('=').next() == Some(name)))
            .map(|field| match field.strip_prefix("sid=0x") {
                Some(id) => format!("sid={}", self.session(u64::from_str_radix(id, 16).unwrap_or_default() as i64)),
                None => field.to_owned(),
            })
            .collect();
        shown.iter().any(|field| field.starts_with("sid=")).then(|| shown.join(","))
    }
}

/// Of `stat`, what does not depend on the clock, the version or what was asked before the last `srst`.
fn without_accidents(line: &str) -> Option<String> {
    let wanted = ["Outstanding:", "Mode:", "Zxid:", "Node count:"];
    wanted.iter().any(|name| line.starts_with(name)).then(|| line.to_owned())
}

/// Without sessions whose ephemerals are all gone: D-088.
fn owning(mut lines: Vec<String>) -> Vec<String> {
    for at in (0..lines.len()).rev() {
        let is_owner = lines[at].starts_with('S') && lines[at].ends_with(':') && !lines[at].contains(' ');
        if is_owner && !lines.get(at + 1).is_some_and(|line| line.starts_with('\t')) {
            lines.remove(at);
        }
    }
    lines
}

/// Without watches on the empty and on the null path (D-012), and who has no others, or none any more (D-019).
fn armed(mut lines: Vec<String>) -> Vec<String> {
    let is_no_path = |line: &str| matches!(line, "\t" | "\tnull" | "" | "null");
    let mut at = 0;
    while at < lines.len() {
        let below = lines[at + 1..].iter().take_while(|line| line.starts_with('\t')).count();
        if is_no_path(&lines[at]) && !lines[at].starts_with('\t') {
            lines.drain(at..at + 1 + below);
        } else if lines[at + 1..=at + below].iter().all(|line| is_no_path(line)) {
            lines.drain(at..=at + below);
        } else {
            at += 1 + below;
        }
    }
    lines.retain(|line| !is_no_path(line));
    lines
}

/// A line that is not indented, with those below it: both in order.
fn sorted_groups(lines: Vec<String>) -> Vec<String> {
    let mut groups: Vec<Vec<String>> = Vec::new();
    for line in lines {
        match groups.last_mut().filter(|_| line.starts_with('\t')) {
            Some(group) => group.push(line),
            None => groups.push(vec![line]),
        }
    }
    groups.iter_mut().for_each(|group| group[1..].sort());
    groups.sort();
    groups.concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_words_say_of_sessions_is_kept_and_accidents_are_not() {
        let zxids = BTreeMap::new();
        let eyes = Eyes { sessions: &[0x10, 0x11], zxids: &zxids, own_texts: &[] };
        let cons = " /127.0.0.1:999[1](queued=0,recved=3,sent=3,sid=0x11,lop=PING,est=17,to=4000,lcxid=0x1,lzxid=0x2)\n\
                    \x20/127.0.0.1:998[0](queued=0,recved=1,sent=0)\n";
        let shown = eyes.word("cons", cons);
        assert_eq!(shown, ["cons: recved=3,sent=3,sid=S1,lop=PING,to=4000,lcxid=0x1,lzxid=0x2"]);
        let wchp = "/b\n\t0x11\n\t0x10\n/a\n\t0x10\n";
        assert_eq!(eyes.word("wchp", wchp), ["/a", "\tS0", "/b", "\tS0", "\tS1"].map(|line| format!("wchp: {line}")));
        assert_ne!(eyes.word("wchp", wchp), eyes.word("wchp", "/b\n\t0x11\n/a\n\t0x10\n"));
        assert_eq!(eyes.word("stat", "Zxid: 0x5\nLatency min/avg/max: 0/0.5/9\n"), ["stat: Zxid: 0x5"]);
    }
}
