//! What znodes, sessions and watches cost a server in memory, step by step, beside Java under the same load.
//!
//!   empty -> znodes -> sessions -> watches, as many for each session, a znode each -> counted, and looked at -> kill
//!
//! Resident memory is read when the step's last answer is there. A Java server's has garbage in it, and what its collector did
//! not give back; so what is alive of its heap is told beside it, behind a collection, at the end. Sockets' buffers are the
//! kernel's, and not in these figures.
//!
//! Estimates, 1,000,000 znodes of 100 bytes, 10,000 sessions, 1,000,000 watches: ringkeeper 250 MiB and 100 bytes a watch, less than
//! 1 KiB a session; Java 434 MiB of live heap for the znodes alone, and 200 bytes a watch.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::big_tree::BigTree;
use crate::client::{monitored, server_version};
use crate::contestants::{Contestants, Kind};
use crate::net::{Inbox, Poller, receive_frames};
use crate::prepared::remove;
use crate::report::{Machine, append_json, figure, utc_now};
use crate::server::Cpus;
use crate::session::{self, Session};
use crate::usage::ProcessMemory;
use crate::{BenchError, Doing, Result, wire};

#[derive(Args, Clone, Debug)]
pub struct Arguments {
    #[command(flatten)]
    pub contestants: Contestants,
    #[command(flatten)]
    tree: BigTree,
    #[arg(long, default_value_t = 10_000)]
    sessions: usize,
    /// Spread over the sessions and the znodes.
    #[arg(long, default_value_t = 1_000_000)]
    watches: u64,
    /// CPUs of the servers.
    #[arg(long, default_value = "1")]
    cores: Cpus,
    /// Seconds that a step may take.
    #[arg(long, default_value_t = 900)]
    limit: u64,
    /// Append one JSON object a server to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the summary to this file too.
    #[arg(long)]
    markdown: Option<PathBuf>,
}

const SESSIONS_AT_ONCE: usize = 32;
/// Requests a session has under way. Few, so that all of them are heard of before they expire.
const BATCH: u64 = 10;

#[derive(Clone, Debug, Serialize)]
struct Run {
    scenario: &'static str,
    server: Kind,
    server_version: Option<String>,
    command: String,
    tree: BigTree,
    sessions: usize,
    watches: u64,
    cores: Vec<usize>,
    date: String,
    machine: Machine,
    steps: Vec<Step>,
    /// Of a Java server, at the end.
    live_heap_mib: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
struct Step {
    what: &'static str,
    count: u64,
    rss_mib: f64,
    anonymous_mib: f64,
    peak_mib: f64,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.tree.nodes == 0 || arguments.sessions == 0 {
        return Err(BenchError::new("memory needs at least one znode, and one session"));
    }
    let mut runs = Vec::new();
    for kind in &arguments.contestants.servers {
        let run = measure(arguments, *kind)?;
        if let Some(file) = &arguments.json {
            append_json(&run, file)?;
        }
        runs.push(run);
    }
    let summary = summary(&runs);
    println!("\n{summary}");
    match &arguments.markdown {
        Some(file) => std::fs::write(file, &summary).doing(file.display()),
        None => Ok(()),
    }
}

fn measure(arguments: &Arguments, kind: Kind) -> Result<Run> {
    let Arguments { contestants, tree, sessions, watches, cores, .. } = arguments;
    let limit = Duration::from_secs(arguments.limit);
    let dir = contestants.base()?.join(format!("memory-{}-{}", kind.name(), std::process::id()));
    let launch = contestants.launch(kind, tree.nodes, &dir, cores, &[])?;
    let server = launch.start()?;
    server.wait_until_serving(limit)?;
    let mut steps = Vec::new();
    let mut step = |what: &'static str, count: u64| -> Result<()> {
        let ProcessMemory { rss_mib, anonymous_mib, peak_mib, .. } = ProcessMemory::of(server.pid())?;
        println!("{:<10} {count:>9} {what:<8} RSS {} MiB, at most {}", kind.name(), figure(rss_mib), figure(peak_mib));
        steps.push(Step { what, count, rss_mib, anonymous_mib, peak_mib });
        Ok(())
    };
    step("empty", 0)?;
    tree.make(server.address())?;
    step("znodes", tree.nodes)?;
    let mut poller = Poller::new()?;
    let mut opened = session::open(&mut poller, &[server.address()], *sessions, SESSIONS_AT_ONCE, limit)?.sessions;
    step("sessions", *sessions as u64)?;
    arm(&mut poller, &mut opened, *tree, *watches, limit)?;
    step("watches", *watches)?;

    // One that collects its garbage may be silent for a while.
    let counted = (0..20).find_map(|_| monitored(server.address(), "zk_watch_count"));
    if counted != Some(*watches as f64) {
        return Err(BenchError::new(format!("{watches} watches were armed, and mntr counts {counted:?}")));
    }
    let live_heap_mib = if kind == Kind::Java { live_heap_mib(server.pid()) } else { None };
    let server_version = server_version(server.address());
    let command = launch.command.clone();
    server.kill()?;
    drop(opened); // which were to be there to the end
    remove(&dir)?;
    Ok(Run {
        scenario: "memory",
        server: kind,
        server_version,
        command,
        tree: *tree,
        sessions: *sessions,
        watches: *watches,
        cores: cores.0.clone(),
        date: utc_now(),
        machine: Machine::this(),
        steps,
        live_heap_mib,
    })
}

/// Reads znodes with a watch, a number each; whose turn it is goes round the sessions.
fn arm(poller: &mut Poller, sessions: &mut [Session], tree: BigTree, watches: u64, limit: Duration) -> Result<()> {
    let count = sessions.len() as u64;
    let begin = Instant::now();
    let mut inbox = Inbox::default();
    for pass in 0..watches.div_ceil(count * BATCH) {
        // The numbers of a session in this pass, and so its xids, follow each other.
        let numbers = move |session: u64| {
            let turns = pass * BATCH..(pass + 1) * BATCH;
            turns.map(move |turn| turn * count + session).take_while(move |number| *number < watches)
        };
        for group in 0..sessions.len().div_ceil(SESSIONS_AT_ONCE) {
            let group = group * SESSIONS_AT_ONCE..((group + 1) * SESSIONS_AT_ONCE).min(sessions.len());
            let mut waiting = 0;
            let mut next: Vec<_> = group.clone().map(|session| numbers(session as u64)).collect();
            for session in group.clone() {
                let mut requests = Vec::new();
                for number in numbers(session as u64) {
                    let mut request = wire::get_data(&tree.path(number % tree.nodes), true);
                    wire::stamp_xid(&mut request, xid(number, count));
                    requests.extend(request);
                    waiting += 1;
                }
                sessions[session].link.send(poller, &requests)?;
            }
            while waiting > 0 {
                if begin.elapsed() > limit {
                    return Err(BenchError::new(format!("not all watches are armed after {limit:?}")));
                }
                for index in 0..poller.wait(Some(Duration::from_millis(100)))? {
                    let event = poller.ready(index);
                    let link = &mut sessions[event.token].link;
                    if event.writable {
                        link.flush(poller)?;
                    }
                    receive_frames(link, &mut inbox, |frame| {
                        let turn = event.token.checked_sub(group.start).and_then(|at| next.get_mut(at));
                        let number = turn.and_then(Iterator::next);
                        let (header, body) = wire::reply(frame)?;
                        let data = wire::buffer(body).map(|(data, _)| data);
                        match number {
                            Some(number)
                                if header.xid == xid(number, count)
                                    && header.err == 0
                                    && data == Some(&tree.data(number % tree.nodes)[..]) => {}
                            _ => return Err(BenchError::new(format!("not the data asked for: {}", wire::hex(frame)))),
                        }
                        waiting -= 1;
                        Ok(())
                    })
                    .doing(format_args!("session {}", event.token))?;
                }
            }
        }
    }
    Ok(())
}

/// Of the request for this number: a session's are counted from 1.
fn xid(number: u64, sessions: u64) -> i32 {
    (number / sessions + 1) as i32
}

/// Behind a full collection. `None` where there is no `jcmd`.
fn live_heap_mib(pid: u32) -> Option<f64> {
    let jcmd = |what: &str| {
        let output = Command::new("jcmd").args([&pid.to_string(), what]).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    jcmd("GC.run")?;
    heap_used_mib(&jcmd("GC.heap_info")?)
}

/// ` garbage-first heap   total 2097152K, used 434123K [0x...`
fn heap_used_mib(heap_info: &str) -> Option<f64> {
    let (_, behind) = heap_info.split_once("used ")?;
    let kib: f64 = behind.split_once('K')?.0.parse().ok()?;
    Some(kib / 1024.0)
}

fn summary(runs: &[Run]) -> String {
    let Some(first) = runs.first() else { return String::new() };
    let machine = &first.machine;
    let mut text = format!(
        "Measured {} with `ringkeeper-bench memory`: Linux {}, servers on CPU {}. {} znodes of {} bytes, {} sessions, {} watches \
         on as many paths.\n\n",
        first.date,
        machine.kernel,
        Cpus(first.cores.clone()),
        first.tree.nodes,
        first.tree.bytes,
        first.sessions,
        first.watches,
    );
    for run in runs {
        text += &format!("- {}: `{}`\n", run.server.name(), run.command);
    }
    text +=
        "\n| server | with | RSS MiB | more, bytes each | at most MiB | live heap MiB |\n|---|---|---|---|---|---|\n";
    for run in runs {
        for (at, step) in run.steps.iter().enumerate() {
            let each = at.checked_sub(1).map_or_else(String::new, |before| {
                let more_bytes = (step.rss_mib - run.steps[before].rss_mib) * f64::from(1 << 20);
                figure(more_bytes / step.count.max(1) as f64)
            });
            let what = match step.count {
                0 => "nothing".to_owned(),
                count => format!("{} {}", figure(count as f64), step.what),
            };
            let heap = run.live_heap_mib.filter(|_| at + 1 == run.steps.len()).map_or_else(String::new, figure);
            let (rss, peak) = (figure(step.rss_mib), figure(step.peak_mib));
            text += &format!("| {} | {what} | {rss} | {each} | {peak} | {heap} |\n", run.server.name());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_told_by_what_it_added() {
        let step =
            |what, count, rss_mib| Step { what, count, rss_mib, anonymous_mib: rss_mib, peak_mib: 2.0 * rss_mib };
        let run = Run {
            scenario: "memory",
            server: Kind::Java,
            server_version: None,
            command: "java".into(),
            tree: BigTree { nodes: 1 << 20, bytes: 100 },
            sessions: 1024,
            watches: 0,
            cores: vec![1],
            date: utc_now(),
            machine: Machine::this(),
            steps: vec![step("empty", 0, 10.0), step("znodes", 1 << 20, 210.0), step("sessions", 1024, 211.0)],
            live_heap_mib: Some(99.5),
        };
        let text = summary(&[run]);
        assert!(text.contains("| java | nothing | 10.0 |  | 20.0 |  |\n"), "{text}");
        assert!(text.contains("| java | 1,048,576 znodes | 210 | 200 | 420 |  |\n"), "{text}");
        assert!(text.contains("| java | 1,024 sessions | 211 | 1,024 | 422 | 99.5 |\n"), "{text}");
    }

    #[test]
    fn the_heap_in_use_is_found() {
        let g1 =
            "4242:\n garbage-first heap   total 2097152K, used 444416K [0x80000000, 0x100000000)\n  region size 1024K";
        assert_eq!(heap_used_mib(g1), Some(434.0));
        assert_eq!(heap_used_mib("4242:\n no heap"), None);
    }
}
