//! What znodes, sessions and watches cost a server in memory, step by step, beside Java under the same load.
//!
//!   nothing -> znodes -> sessions -> watches, a znode each -> as many again, each session on the same few znodes -> kill
//!
//! After each step its sessions stay, pinged as clients do, until resident memory rests; that is the step's figure, and what it has
//! more than the step before is what the step cost. A Java server's has garbage in it. So its memory is told a second time,
//! behind a full collection that is asked for, which it would not do by itself: with what is alive of its heap, and so with the
//! least it can do with. Sockets' buffers are the kernel's, and in none of these figures.
//!
//! Estimates, 1,000,000 znodes of 100 bytes, 10,000 sessions, 1,000,000 watches: ringkeeper 250 MiB, less than 1 KiB a session,
//! 92 bytes a watch, and 40 where thousands watch one znode; Java 434 MiB of live heap for the znodes alone, and 200 bytes a watch.

use std::process::Command;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::big_tree::BigTree;
use crate::client::{Client, monitored, server_version};
use crate::contestants::{Contestants, Kind};
use crate::idle::hold;
use crate::net::{Inbox, Poller, receive_frames};
use crate::prepared::remove;
use crate::report::{Files, Machine, figure, utc_now};
use crate::server::{Cpus, Server};
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
    /// Spread over the sessions, of which each has them on the same znodes as the others: some of the tree's directories.
    #[arg(long, default_value_t = 1_000_000)]
    shared_watches: u64,
    /// Seconds that sessions are held after each step before memory is read. Less than a third of their timeout is not enough
    /// for all of them to be heard of.
    #[arg(long, default_value_t = 15.0)]
    settle: f64,
    /// CPUs of the servers. With a single one Java chooses another collector.
    #[arg(long, default_value = "0,1")]
    cores: Cpus,
    /// Seconds that a step may take.
    #[arg(long, default_value_t = 900)]
    limit: u64,
    #[command(flatten)]
    files: Files,
}

const SESSIONS_AT_ONCE: usize = 32;
/// Requests a session has under way. Few, so that all of them are heard of before they expire.
const BATCH: u64 = 10;
/// More than a server keeps (`commitLogCount`).
const SMALL_WRITES: usize = 1000;
/// Resident memory rests when it is again within so much of itself.
const AT_REST: f64 = 0.005;
/// How often it is given the time to.
const SETTLINGS_MAX: usize = 8;

#[derive(Clone, Debug, Serialize)]
struct Run {
    scenario: &'static str,
    server: Kind,
    server_version: Option<String>,
    command: String,
    /// Of a Java server, by its name for it.
    collector: Option<String>,
    tree: BigTree,
    sessions: usize,
    watches: u64,
    shared_watches: u64,
    cores: Vec<usize>,
    date: String,
    machine: Machine,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, Serialize)]
struct Step {
    what: &'static str,
    count: u64,
    rss_mib: f64,
    anonymous_mib: f64,
    peak_mib: f64,
    /// Of a Java server.
    collected: Option<Collected>,
}

/// Behind a full collection.
#[derive(Clone, Copy, Debug, Serialize)]
struct Collected {
    rss_mib: f64,
    live_heap_mib: f64,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { tree, sessions, shared_watches, .. } = arguments;
    if tree.nodes == 0 || *sessions == 0 {
        return Err(BenchError::new("memory needs at least one znode, and one session"));
    }
    let directories = tree.directories().count();
    if shared_watches.div_ceil(*sessions as u64) > directories as u64 {
        return Err(BenchError::new(format!(
            "{sessions} sessions with a watch on each of {directories} directories are less than {shared_watches} shared watches: \
             ask for fewer of them, or for more sessions or znodes"
        )));
    }
    let mut runs = Vec::new();
    for kind in &arguments.contestants.servers {
        let run = measure(arguments, *kind)?;
        arguments.files.note(&run)?;
        runs.push(run);
    }
    let summary = summary(&runs);
    arguments.files.summary(&summary)
}

fn measure(arguments: &Arguments, kind: Kind) -> Result<Run> {
    let Arguments { contestants, tree, sessions, watches, shared_watches, cores, .. } = arguments;
    let limit = Duration::from_secs(arguments.limit);
    let dir = contestants.base()?.join(format!("memory-{}-{}", kind.name(), std::process::id()));
    let launch = contestants.launch(kind, tree.nodes, &dir, cores, &[])?;
    let server = launch.start()?;
    server.wait_until_serving(limit)?;
    let mut poller = Poller::new()?;
    let mut scale = Scale { kind, settle: Duration::from_secs_f64(arguments.settle), steps: Vec::new() };

    scale.read("", 0, &server, &mut poller, &mut [])?;
    tree.make(server.address())?;
    push_out_what_made_it(&server)?;
    scale.read("znodes", tree.nodes, &server, &mut poller, &mut [])?;
    let mut opened = session::open(&mut poller, &[server.address()], *sessions, SESSIONS_AT_ONCE, limit)?.sessions;
    scale.read("sessions", *sessions as u64, &server, &mut poller, &mut opened)?;

    arm(&mut poller, &mut opened, *watches, limit, &OwnZnodes(*tree))?;
    scale.read("watches", *watches, &server, &mut poller, &mut opened)?;
    expect_watches(&server, *watches)?;
    arm(&mut poller, &mut opened, *shared_watches, limit, &SharedZnodes(tree.directories().collect()))?;
    scale.read("shared watches", *shared_watches, &server, &mut poller, &mut opened)?;
    expect_watches(&server, watches + shared_watches)?;

    let collector = if kind == Kind::Java { collector(server.pid()) } else { None };
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
        collector,
        tree: *tree,
        sessions: *sessions,
        watches: *watches,
        shared_watches: *shared_watches,
        cores: cores.0.clone(),
        date: utc_now(),
        machine: Machine::this(),
        steps: scale.steps,
    })
}

/// Reads resident memory, step by step.
struct Scale {
    kind: Kind,
    settle: Duration,
    steps: Vec<Step>,
}

impl Scale {
    fn read(
        &mut self,
        what: &'static str,
        count: u64,
        server: &Server,
        poller: &mut Poller,
        sessions: &mut [Session],
    ) -> Result<()> {
        let ProcessMemory { rss_mib, anonymous_mib, peak_mib, .. } = self.at_rest(server, poller, sessions)?;
        println!(
            "{:<10} {count:>9} {what:<14} RSS {} MiB, at most {}",
            server.name(),
            figure(rss_mib),
            figure(peak_mib)
        );
        let collected = match self.kind == Kind::Java && jcmd(server.pid(), "GC.run").is_some() {
            true => {
                let rss_mib = self.at_rest(server, poller, sessions)?.rss_mib;
                let heap = jcmd(server.pid(), "GC.heap_info");
                heap.as_deref().and_then(heap_used_mib).map(|live_heap_mib| Collected { rss_mib, live_heap_mib })
            }
            false => None,
        };
        self.steps.push(Step { what, count, rss_mib, anonymous_mib, peak_mib, collected });
        Ok(())
    }

    /// Holds the sessions until memory is what it was one such time before.
    fn at_rest(&self, server: &Server, poller: &mut Poller, sessions: &mut [Session]) -> Result<ProcessMemory> {
        let mut before = ProcessMemory::of(server.pid())?;
        for _ in 0..SETTLINGS_MAX {
            match sessions.is_empty() {
                true => std::thread::sleep(self.settle),
                false => drop(hold(poller, sessions, self.settle)?),
            }
            let now = ProcessMemory::of(server.pid())?;
            if (now.rss_mib - before.rss_mib).abs() <= AT_REST * before.rss_mib {
                return Ok(now);
            }
            before = now;
        }
        println!("{} does not come to rest", server.name());
        Ok(before)
    }
}

/// Servers keep their last transactions for others, and those that made the tree are large.
fn push_out_what_made_it(server: &Server) -> Result<()> {
    let mut client = Client::connect(server.address())?;
    client.call_all((0..SMALL_WRITES).map(|_| wire::set_data("/", b"")), 0)?;
    client.close()
}

fn expect_watches(server: &Server, expected: u64) -> Result<()> {
    let counted = monitored(server.address(), "zk_watch_count");
    match counted == Some(expected as f64) {
        true => Ok(()),
        false => Err(BenchError::new(format!("{expected} watches were armed, and mntr counts {counted:?}"))),
    }
}

/// What watches are armed by: reads, by number.
trait Reads {
    fn request(&self, number: u64, sessions: u64) -> Vec<u8>;
    fn is_answer(&self, number: u64, body: &[u8]) -> bool;
}

/// A znode for each number, as far as there are any.
struct OwnZnodes(BigTree);

impl Reads for OwnZnodes {
    fn request(&self, number: u64, _: u64) -> Vec<u8> {
        wire::get_data(&self.0.path(number % self.0.nodes), true)
    }

    fn is_answer(&self, number: u64, body: &[u8]) -> bool {
        wire::buffer(body).is_some_and(|(data, _)| data == self.0.data(number % self.0.nodes))
    }
}

/// The first znode for the first number of each session, the second for its second one.
struct SharedZnodes(Vec<String>);

impl Reads for SharedZnodes {
    fn request(&self, number: u64, sessions: u64) -> Vec<u8> {
        wire::exists(&self.0[(number / sessions) as usize], true)
    }

    fn is_answer(&self, _: u64, body: &[u8]) -> bool {
        body.len() == wire::STAT_BYTES
    }
}

/// Reads znodes with a watch, a number each; whose turn it is goes round the sessions.
fn arm(poller: &mut Poller, sessions: &mut [Session], watches: u64, limit: Duration, reads: &dyn Reads) -> Result<()> {
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
                    let mut request = reads.request(number, count);
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
                        let is_it = |number| {
                            header.xid == xid(number, count) && header.err == 0 && reads.is_answer(number, body)
                        };
                        if !number.is_some_and(is_it) {
                            return Err(BenchError::new(format!("not what was asked for: {}", wire::hex(frame))));
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

/// What a Java process answers. `None` where there is no `jcmd`.
fn jcmd(pid: u32, what: &str) -> Option<String> {
    let output = Command::new("jcmd").args([&pid.to_string(), what]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// ` garbage-first heap   total 2097152K, used 434123K [0x...`; other collectors have a line for each generation.
fn heap_used_mib(heap_info: &str) -> Option<f64> {
    let heap = heap_info.split("Metaspace").next()?;
    let used = heap.lines().filter(|line| line.contains("total ")).filter_map(|line| {
        let (_, behind) = line.split_once(", used ")?;
        behind.split_once('K')?.0.parse::<f64>().ok()
    });
    Some(used.sum::<f64>() / 1024.0).filter(|mib| *mib > 0.0)
}

/// `-XX:+UseG1GC`, among the flags that the process runs with.
fn collector(pid: u32) -> Option<String> {
    let flags = jcmd(pid, "VM.flags")?;
    let collector = flags.split_whitespace().find_map(|flag| flag.strip_prefix("-XX:+Use")?.strip_suffix("GC"));
    collector.map(str::to_owned)
}

fn summary(runs: &[Run]) -> String {
    let Some(first) = runs.first() else { return String::new() };
    let machine = &first.machine;
    let mut text = format!(
        "Measured {} with `ringkeeper-bench memory`: Linux {}, servers on CPU {}. {} znodes of {} bytes, {} sessions, {} watches \
         on as many znodes, {} on {} znodes.\n\n",
        first.date,
        machine.kernel,
        Cpus(first.cores.clone()),
        first.tree.nodes,
        first.tree.bytes,
        first.sessions,
        first.watches,
        first.shared_watches,
        first.shared_watches.div_ceil(first.sessions as u64),
    );
    for run in runs {
        let collector = run.collector.as_ref().map_or_else(String::new, |name| format!(", collector {name}"));
        text += &format!("- {}: `{}`{collector}\n", run.server.name(), run.command);
    }
    text += "\n| server | with | RSS MiB | more, bytes each | at most MiB | collected: RSS MiB | live heap MiB | more, bytes each |\n\
             |---|---|---|---|---|---|---|---|\n";
    for run in runs {
        for (at, step) in run.steps.iter().enumerate() {
            let before = at.checked_sub(1).map(|before| &run.steps[before]);
            let each = |more_mib: Option<f64>| {
                let bytes = more_mib.map(|mib| mib * f64::from(1 << 20) / step.count.max(1) as f64);
                bytes.map_or_else(String::new, figure)
            };
            let what = match step.count {
                0 => "nothing".to_owned(),
                count => format!("{} {}", figure(count as f64), step.what),
            };
            let collected = step.collected;
            let live_more = collected.zip(before.and_then(|before| before.collected));
            text += &format!(
                "| {} | {what} | {} | {} | {} | {} | {} | {} |\n",
                run.server.name(),
                figure(step.rss_mib),
                each(before.map(|before| step.rss_mib - before.rss_mib)),
                figure(step.peak_mib),
                collected.map_or_else(String::new, |collected| figure(collected.rss_mib)),
                collected.map_or_else(String::new, |collected| figure(collected.live_heap_mib)),
                each(live_more.map(|(now, before)| now.live_heap_mib - before.live_heap_mib)),
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_told_by_what_it_added() {
        let step = |what, count, rss_mib: f64| {
            let collected = Some(Collected { rss_mib: rss_mib - 1.0, live_heap_mib: rss_mib / 2.0 });
            Step { what, count, rss_mib, anonymous_mib: rss_mib, peak_mib: 2.0 * rss_mib, collected }
        };
        let run = Run {
            scenario: "memory",
            server: Kind::Java,
            server_version: None,
            command: "java".into(),
            collector: Some("G1".into()),
            tree: BigTree { nodes: 1 << 20, bytes: 100 },
            sessions: 1024,
            watches: 0,
            shared_watches: 2048,
            cores: vec![1],
            date: utc_now(),
            machine: Machine::this(),
            steps: vec![step("", 0, 10.0), step("znodes", 1 << 20, 210.0), step("sessions", 1024, 211.0)],
        };
        let text = summary(&[run]);
        assert!(text.contains("2048 on 2 znodes") && text.contains("- java: `java`, collector G1\n"), "{text}");
        assert!(text.contains("| java | nothing | 10.0 |  | 20.0 | 9.00 | 5.00 |  |\n"), "{text}");
        assert!(text.contains("| java | 1,048,576 znodes | 210 | 200 | 420 | 209 | 105 | 100 |\n"), "{text}");
        assert!(text.contains("| java | 1,024 sessions | 211 | 1,024 | 422 | 210 | 106 | 512 |\n"), "{text}");
    }

    #[test]
    fn the_heap_in_use_is_found() {
        let g1 = "4242:\n garbage-first heap   total 2097152K, used 444416K [0x80000000, 0x100000000)\n  region size 1024K\n \
                  Metaspace       used 128K, committed 320K";
        assert_eq!(heap_used_mib(g1), Some(434.0));
        let serial = "4242:\n def new generation   total 314560K, used 1024K [0x..)\n  eden space 279616K,   4% used [0x..)\n \
                      tenured generation   total 699072K, used 2048K [0x..)\n Metaspace       used 128K";
        assert_eq!(heap_used_mib(serial), Some(3.0));
        assert_eq!(heap_used_mib("4242:\n no heap"), None);
    }
}
