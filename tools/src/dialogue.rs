//! A scripted session with a command-line client, its answers kept in the file that asks.
//!
//! ```text
//! # A comment.
//! 1> create /a one          what session 1 types ...
//! Created /a                ... and everything it must print until the next line with a prompt, masked
//! 2> get -w /a              a second session: a client process of its own, started when first used
//! one
//! 1> set /a two
//! 2> (await events)         wait until every watch event that the server has sent is printed
//! WatchedEvent state:SyncConnected type:NodeDataChanged path:/a
//! ```
//!
//! The clients print no prompt to a pipe and no end of an answer, so after every command the driver asks about a node
//! that nobody has, with a number in its name, and reads until the client has said what it must say about it. Nothing here waits for a
//! time to pass, except to give up.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::mask::Mask;
use crate::{Result, clients};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const AWAIT_EVENTS: &str = "(await events)";
/// A step that ends the session's process; what it still prints is not looked at.
const QUIT: &str = "quit";

/// Which command-line client is talking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Debian's `zkCli.sh`. Its event thread prints beside its main thread, so events are collected and shown at
    /// `(await events)`.
    ZkCli,
    /// Debian's `cli_mt`. Events and answers come out of one thread, in the order the server sent them.
    CliMt,
}

impl Flavour {
    fn command(self, port: u16) -> Command {
        let address = format!("127.0.0.1:{port}");
        match self {
            Flavour::ZkCli => {
                let mut command = Command::new("sh");
                // One pipe for both streams: the client writes answers to either, and their order counts.
                command.args(["-c", "exec \"$0\" -server \"$1\" 2>&1", clients::ZKCLI, &address]);
                command.env("CLIENT_JVMFLAGS", "-Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1");
                command
            }
            Flavour::CliMt => {
                let mut command = Command::new("sh");
                command.args(["-c", "exec stdbuf -o0 -e0 \"$0\" \"$1\" 2>&1", clients::CLI_MT, &address]);
                command
            }
        }
    }

    /// A line that says the session is there.
    fn greeting(self) -> &'static str {
        match self {
            Flavour::ZkCli => "WatchedEvent state:SyncConnected type:None",
            Flavour::CliMt => "Got a new session id",
        }
    }

    /// A command and the last line of its answer. It must be answered by the thread that answers everything else.
    fn marker(self, number: usize) -> (String, String) {
        let path = format!("/marker-{number}");
        match self {
            Flavour::ZkCli => (format!("ls {path}"), format!("Node does not exist: {path}")),
            Flavour::CliMt => (format!("sync {path}"), format!("\tname = {path}")),
        }
    }

    /// Lines that the client prints for its own sake.
    fn is_noise(self, line: &str) -> bool {
        match self {
            Flavour::ZkCli => line.is_empty() || line == "WATCHER::" || line.starts_with("SLF4J:"),
            Flavour::CliMt => line.starts_with("[/marker-") && line.ends_with(": rc = 0"),
        }
    }

    fn is_event(self, line: &str) -> bool {
        self == Flavour::ZkCli && line.starts_with("WatchedEvent ")
    }
}

/// One line typed and what came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub session: u32,
    pub typed: String,
    pub answer: Vec<String>,
}

/// A file of steps. Comments and blank lines before the first step, and comments between steps, belong to the step after.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dialogue {
    steps: Vec<(Vec<String>, Step)>,
}

impl Dialogue {
    pub fn parse(text: &str) -> Result<Dialogue> {
        let mut dialogue = Dialogue::default();
        let mut comments = Vec::new();
        for line in text.lines() {
            if line.starts_with('#') || (line.is_empty() && dialogue.steps.is_empty()) {
                comments.push(line.to_owned());
            } else if let Some((session, typed)) = prompt(line) {
                let step = Step { session, typed: typed.to_owned(), answer: Vec::new() };
                dialogue.steps.push((std::mem::take(&mut comments), step));
            } else {
                let (_, step) = dialogue.steps.last_mut().ok_or_else(|| format!("an answer to nothing: {line}"))?;
                step.answer.push(line.to_owned());
            }
        }
        Ok(dialogue)
    }

    pub fn text(&self) -> String {
        let mut text = String::new();
        for (comments, step) in &self.steps {
            for comment in comments {
                let _ = writeln!(text, "{comment}");
            }
            let _ = writeln!(text, "{}> {}", step.session, step.typed);
            for line in &step.answer {
                let _ = writeln!(text, "{line}");
            }
        }
        text
    }

    /// Holds the same conversation with the server on `port` and returns it as it went.
    pub fn hold(&self, flavour: Flavour, port: u16) -> Result<Dialogue> {
        let mut mask = Mask::default();
        let mut sessions: BTreeMap<u32, Session> = BTreeMap::new();
        let mut held = Dialogue::default();
        for (comments, step) in &self.steps {
            let session = match sessions.entry(step.session) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Session::open(flavour, port)?),
            };
            let lines = if step.typed == QUIT {
                sessions.remove(&step.session).expect("just used").quit()?;
                Vec::new()
            } else {
                session.ask(&step.typed).map_err(|why| format!("{}> {}: {why}", step.session, step.typed))?
            };
            let answer = mask.answer(&lines);
            held.steps.push((comments.clone(), Step { answer, ..step.clone() }));
        }
        for session in sessions.into_values() {
            session.quit()?;
        }
        Ok(held)
    }

    /// The first step that was answered otherwise, as a message.
    pub fn difference(&self, held: &Dialogue) -> Option<String> {
        let mut pairs = self.steps.iter().zip(&held.steps);
        pairs.find(|((_, wanted), (_, got))| wanted != got).map(|((_, wanted), (_, got))| {
            let (wanted_text, got_text) = (wanted.answer.join("\n    "), got.answer.join("\n    "));
            format!("{}> {}\n  wanted:\n    {wanted_text}\n  got:\n    {got_text}", got.session, got.typed)
        })
    }

    pub fn len(&self) -> usize {
        self.steps.len()
    }

    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// Holds the dialogue in the file; with `record`, rewrites the file with what was answered.
pub fn run_file(path: &Path, flavour: Flavour, port: u16, record: bool) -> Result<()> {
    let wanted = Dialogue::parse(&std::fs::read_to_string(path)?)?;
    let held = wanted.hold(flavour, port)?;
    if record {
        std::fs::write(path, held.text())?;
        return Ok(());
    }
    match wanted.difference(&held) {
        Some(difference) => Err(difference.into()),
        None => Ok(()),
    }
}

fn prompt(line: &str) -> Option<(u32, &str)> {
    let (number, typed) = line.split_once("> ")?;
    Some((number.parse().ok()?, typed))
}

/// One client process.
struct Session {
    flavour: Flavour,
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    events: Vec<String>,
    marker_count: usize,
}

impl Session {
    fn open(flavour: Flavour, port: u16) -> Result<Session> {
        let mut child = flavour.command(port).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take().expect("stdin is piped");
        let stdout = child.stdout.take().expect("stdout is piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut bytes = Vec::new();
            while reader.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
                let line = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned();
                bytes.clear();
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut session = Session { flavour, child, stdin, lines, events: Vec::new(), marker_count: 0 };
        session.read_until(flavour.greeting())?;
        session.events.clear(); // the greeting itself
        session.round_trip()?;
        Ok(session)
    }

    fn ask(&mut self, typed: &str) -> Result<Vec<String>> {
        if typed == AWAIT_EVENTS {
            return self.await_events();
        }
        self.say(typed)?;
        self.round_trip()
    }

    /// Everything printed until the client has answered the next marker.
    fn round_trip(&mut self) -> Result<Vec<String>> {
        self.marker_count += 1;
        let (command, last_line) = self.flavour.marker(self.marker_count);
        self.say(&command)?;
        self.read_until(&last_line)
    }

    fn await_events(&mut self) -> Result<Vec<String>> {
        let mut seen = self.round_trip()?;
        if self.flavour == Flavour::ZkCli {
            // Events are printed in the order they came: an event of our own is the last of them.
            let path = format!("/last-event-{}", self.marker_count);
            for command in [format!("create {path}"), format!("stat -w {path}"), format!("delete {path}")] {
                self.say(&command)?;
                self.round_trip()?;
            }
            let last = format!("type:NodeDeleted path:{path}");
            while !self.events.iter().any(|event| event.contains(&last)) {
                let line = self.next_line()?;
                self.sort_in(line, &mut Vec::new());
            }
            self.events.retain(|event| !event.contains(&last));
            seen.append(&mut self.events);
        }
        Ok(seen)
    }

    fn quit(mut self) -> Result<()> {
        self.say("quit")?;
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        while Instant::now() < deadline {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err("the client does not quit".into())
    }

    fn say(&mut self, line: &str) -> Result<()> {
        // In one write: the C client loses what follows a whole line when it is not a whole line itself.
        self.stdin.write_all(format!("{line}\n").as_bytes())?;
        Ok(())
    }

    fn read_until(&mut self, end: &str) -> Result<Vec<String>> {
        let mut answer = Vec::new();
        loop {
            let line = self.next_line().map_err(|why| format!("{why}; so far: {answer:?}"))?;
            let is_end = line.contains(end);
            if is_end && !self.flavour.is_event(&line) {
                return Ok(answer);
            }
            self.sort_in(line, &mut answer);
            if is_end {
                return Ok(answer);
            }
        }
    }

    fn sort_in(&mut self, line: String, answer: &mut Vec<String>) {
        if self.flavour.is_event(&line) {
            self.events.push(line);
        } else if !self.flavour.is_noise(&line) {
            answer.push(line);
        }
    }

    fn next_line(&mut self) -> Result<String> {
        self.lines.recv_timeout(ANSWER_TIMEOUT).map_err(|error| match error {
            RecvTimeoutError::Timeout => format!("no answer within {ANSWER_TIMEOUT:?}").into(),
            RecvTimeoutError::Disconnected => "the client has left".into(),
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Errors mean that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# What for.\n\n1> create /a x\nCreated /a\n# Later.\n2> get /a\nx\n";

    #[test]
    fn a_dialogue_is_written_as_it_was_read() {
        assert_eq!(Dialogue::parse(TEXT).unwrap().text(), TEXT);
    }

    #[test]
    fn a_different_answer_is_shown_with_its_question() {
        let wanted = Dialogue::parse(TEXT).unwrap();
        let got = Dialogue::parse(&TEXT.replace("\nx\n", "\ny\n")).unwrap();
        assert_eq!(wanted.difference(&wanted), None);
        assert_eq!(wanted.difference(&got).unwrap(), "2> get /a\n  wanted:\n    x\n  got:\n    y");
    }

    #[test]
    fn an_answer_before_any_question_is_refused() {
        assert!(Dialogue::parse("Created /a\n").is_err());
    }
}
