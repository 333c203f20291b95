//! How long a server takes from exec to its first answer, on a tree of any size, beside Java on the same tree.
//!
//!   prepared directory -> copy -> page cache warm or cold -> exec -> first read -> first write -> in memory -> check -> kill
//!
//! The first read is a TCP connection, a session and a getData of a znode in the middle of the tree, tried again until it
//! works; the first write is a setData on the same session. An attempt is given up after 50 ms or 5 % of the time so far, which
//! is how much too late the answer of a server can be noticed that ignores those who come early. Times count from before the
//! fork, so they include some 2 ms of pinning and `sh`. Afterwards random znodes are compared with what was put there, and the
//! last write of a tail.
//!
//! Estimates, 1,000,000 znodes of 100 bytes, one core: ringkeeper's first read 0.05 to 0.15 s and in memory after 1 s; Java 5 s.
//! 10,000,000: 0.1 to 0.5 s and 10 s; Java 60 s.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::big_tree::BigTree;
use crate::client::{Client, REPLY_TIMEOUT, server_version};
use crate::contestants::{Contestants, Kind, wait_until_in_memory};
use crate::prepared::{Cache, Variant, Workshop, remove, tail_path};
use crate::report::{Files, Machine, Spread, figure, utc_now};
use crate::server::{Cpus, Launch, Server};
use crate::usage::ProcessMemory;
use crate::workload::Random;
use crate::{BenchError, Doing, Result, wire};

#[derive(Args, Clone, Debug)]
pub struct Arguments {
    #[command(flatten)]
    pub contestants: Contestants,
    #[command(flatten)]
    tree: BigTree,
    /// How the data was left: asked to stop behind a snapshot, or killed with --tail creates behind it.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "clean,tail")]
    left: Vec<Left>,
    #[arg(long, default_value_t = 100_000)]
    tail: u64,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Drop what the page cache holds of the data directory before each start. Without it: read it all before each start.
    #[arg(long)]
    drop_caches: bool,
    /// CPUs of the servers.
    #[arg(long, default_value = "1")]
    cores: Cpus,
    /// Keep the directories here, and use those that are here already.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Seconds a start may take.
    #[arg(long, default_value_t = 900)]
    limit: u64,
    #[command(flatten)]
    files: Files,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Left {
    Clean,
    Tail,
}

/// Znodes that are compared with what was put there, once the times are taken.
const CHECKED: u64 = 200;
const RETRY_EVERY: Duration = Duration::from_micros(500);

#[derive(Clone, Debug, Serialize)]
struct Started {
    scenario: &'static str,
    server: Kind,
    server_version: Option<String>,
    command: String,
    tree: BigTree,
    variant: Variant,
    cache: Cache,
    cores: Vec<usize>,
    date: String,
    machine: Machine,
    first_read_ms: f64,
    first_write_ms: f64,
    /// When the whole tree was in memory. A server that reads all of it before it answers is there at its first read.
    in_memory_ms: f64,
    /// Then: resident, the part of it that is no file's, and the most there ever was.
    rss_mib: f64,
    anonymous_mib: f64,
    peak_mib: f64,
    /// Read from the disk by then, not from the page cache.
    disk_read_mib: f64,
    /// CPU used by then.
    cpu_s: f64,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let tree = arguments.tree;
    if tree.nodes == 0 || arguments.rounds == 0 {
        return Err(BenchError::new("a start needs at least one znode, and one round"));
    }
    let base = match &arguments.keep {
        Some(keep) => {
            fs::create_dir_all(keep).doing(keep.display())?;
            keep.canonicalize().doing(keep.display())?
        }
        None => arguments.contestants.base()?.join(format!("start-{}", std::process::id())),
    };
    let workshop =
        Workshop { contestants: &arguments.contestants, base: base.clone(), tree, cpus: arguments.cores.clone() };
    let mut results = Vec::new();
    let mut directories = Vec::new();
    for left in &arguments.left {
        let variant = match left {
            Left::Clean => Variant::Clean,
            Left::Tail => Variant::Tail { creates: arguments.tail },
        };
        for kind in &arguments.contestants.servers {
            directories.push((*kind, variant, workshop.prepared(*kind, variant)?));
        }
    }
    for round in 1..=arguments.rounds {
        println!("round {round} of {}", arguments.rounds);
        for (kind, variant, directory) in &directories {
            let launch = workshop.copy(*kind, directory, &arguments.cores, &[])?;
            let started = measure(arguments, tree, *kind, *variant, &launch)?;
            println!("{}", started.line());
            arguments.files.note(&started)?;
            results.push(started);
            remove(&launch.dir)?;
        }
    }
    let summary = summary(&results);
    arguments.files.summary(&summary)?;
    if arguments.keep.is_none() { remove(&base) } else { Ok(()) }
}

fn measure(arguments: &Arguments, tree: BigTree, kind: Kind, variant: Variant, launch: &Launch) -> Result<Started> {
    let limit = Duration::from_secs(arguments.limit);
    let cache = if arguments.drop_caches { Cache::Cold } else { Cache::Warm };
    cache.set(&launch.data())?;
    let number = tree.nodes / 2;
    let server = launch.start()?;
    let mut client = loop {
        match first_read(&server, tree, number) {
            Ok(client) => break client,
            Err(cause) => server.may_still_come(limit, &cause)?,
        }
        std::thread::sleep(RETRY_EVERY);
    };
    let first_read = server.began.elapsed();
    client.call_all([wire::set_data(&tree.path(number), &tree.data(number))], 0).doing("the first write")?;
    let first_write = server.began.elapsed();
    let in_memory = match kind.serves_before_all_is_in_memory() {
        true => wait_until_in_memory(&server, limit)?,
        false => first_read,
    };
    let memory = ProcessMemory::of(server.pid())?;
    let usage = crate::usage::processes(&[server.pid()])?;

    let mut random = Random::new(u64::from(server.pid()));
    for _ in 0..CHECKED {
        tree.check(&mut client, random.below(tree.nodes))?;
    }
    if let Variant::Tail { creates: creates @ 1.. } = variant {
        let path = tail_path(creates - 1);
        client
            .call_all([wire::exists(&path, false)], 0)
            .doing(format_args!("{path}, the last write before the kill"))?;
    }
    let server_version = server_version(server.address());
    server.kill()?;
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    Ok(Started {
        scenario: "start",
        server: kind,
        server_version,
        command: launch.command.clone(),
        tree,
        variant,
        cache,
        cores: launch.cpus.clone(),
        date: utc_now(),
        machine: Machine::this(),
        first_read_ms: ms(first_read),
        first_write_ms: ms(first_write),
        in_memory_ms: ms(in_memory),
        rss_mib: memory.rss_mib,
        anonymous_mib: memory.anonymous_mib,
        peak_mib: memory.peak_mib,
        disk_read_mib: memory.disk_read_mib,
        cpu_s: usage.cpu_ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
    })
}

fn first_read(server: &Server, tree: BigTree, number: u64) -> Result<Client> {
    let mut client = Client::connect_within(server.address(), server.patience())?;
    tree.check(&mut client, number)?;
    client.set_reply_timeout(REPLY_TIMEOUT)?;
    Ok(client)
}

/// What the summary shows, in its order.
const COLUMNS: [(&str, Figure); 8] = [
    ("first read ms", |started| started.first_read_ms),
    ("first write ms", |started| started.first_write_ms),
    ("in memory ms", |started| started.in_memory_ms),
    ("CPU s", |started| started.cpu_s),
    ("RSS MiB", |started| started.rss_mib),
    ("of it anonymous", |started| started.anonymous_mib),
    ("peak MiB", |started| started.peak_mib),
    ("read from disk MiB", |started| started.disk_read_mib),
];

type Figure = fn(&Started) -> f64;

impl Started {
    fn line(&self) -> String {
        let figures: Vec<String> = COLUMNS.iter().map(|(name, of)| format!("{name} {}", figure(of(self)))).collect();
        format!("{:<10} {:<12} {}", self.server.name(), self.variant.to_string(), figures.join("  "))
    }
}

fn summary(results: &[Started]) -> String {
    let Some(first) = results.first() else { return String::new() };
    let machine = &first.machine;
    let mut text = format!(
        "Measured {} with `ringkeeper-bench start`: {} CPUs ({}), {} MiB, Linux {}. {} znodes of {} bytes; servers on CPU {}, page \
         cache {}, new processes. Medians (min–max).\n\n",
        first.date,
        machine.cpus,
        machine.cpu_model,
        machine.memory_mib,
        machine.kernel,
        first.tree.nodes,
        first.tree.bytes,
        Cpus(first.cores.clone()),
        if first.cache == Cache::Cold { "cold" } else { "warm" },
    );
    let mut groups: Vec<(Kind, Variant)> = Vec::new();
    for started in results {
        if !groups.contains(&(started.server, started.variant)) {
            groups.push((started.server, started.variant));
        }
    }
    let of_group = |group: &(Kind, Variant)| -> Vec<&Started> {
        results.iter().filter(|started| (started.server, started.variant) == *group).collect()
    };
    let mut commands: Vec<(Kind, &str)> = results.iter().map(|run| (run.server, run.command.as_str())).collect();
    commands.sort();
    commands.dedup();
    for (kind, command) in commands {
        text += &format!("- {}: `{command}`\n", kind.name());
    }
    let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
    text += &format!("\n| server | left | {} |\n|---|---|{}\n", names.join(" | "), "---|".repeat(COLUMNS.len()));
    for group in &groups {
        let runs = of_group(group);
        let cells = COLUMNS.map(|(_, of)| {
            Spread::of(runs.iter().map(|run| of(run)).collect()).map_or_else(|| "–".to_owned(), |spread| spread.cell())
        });
        text += &format!("| {} | {} | {} |\n", group.0.name(), group.1, cells.join(" | "));
    }
    text += "\nAll values of the first read, ms:\n\n";
    for group in &groups {
        let values: Vec<String> = of_group(group).iter().map(|run| figure(run.first_read_ms)).collect();
        text += &format!("- {} {}: {}\n", group.0.name(), group.1, values.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(server: Kind, first_read_ms: f64) -> Started {
        Started {
            scenario: "start",
            server,
            server_version: None,
            command: format!("exec {}", server.name()),
            tree: BigTree { nodes: 5, bytes: 10 },
            variant: Variant::Tail { creates: 7 },
            cache: Cache::Cold,
            cores: vec![0, 1],
            date: utc_now(),
            machine: Machine::this(),
            first_read_ms,
            first_write_ms: 2.0 * first_read_ms,
            in_memory_ms: first_read_ms,
            rss_mib: 9.0,
            anonymous_mib: 5.0,
            peak_mib: 10.0,
            disk_read_mib: 1.0,
            cpu_s: 0.5,
        }
    }

    #[test]
    fn the_summary_has_medians_and_all_values() {
        let runs = [(Kind::Ringkeeper, 30.0), (Kind::Java, 500.0), (Kind::Ringkeeper, 10.0), (Kind::Ringkeeper, 20.0)];
        let text = summary(&runs.map(|(kind, ms)| started(kind, ms)));
        assert!(text.contains("| ringkeeper | tail-7 | 20.0 (10.0–30.0) | 40.0 (20.0–60.0) |"), "{text}");
        assert!(text.contains("| java | tail-7 | 500 (500–500) |"), "{text}");
        assert!(text.contains("- ringkeeper tail-7: 30.0, 10.0, 20.0\n"), "{text}");
        assert!(text.contains("on CPU 0,1, page cache cold"), "{text}");
    }
}
