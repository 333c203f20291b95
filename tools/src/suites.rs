//! The proof suites: what each one needs, what it runs, how it counts.
//!
//! A suite whose client cannot be had here is `Skipped`, with the reason; one that was there and could not be carried
//! out is `Broke`, and that is a failure. Every suite starts servers of its own and leaves none.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::dialogue::{Flavour, run_file};
use crate::process::{output_of, run, run_and_keep};
use crate::server::{Home, Kind, Setup};
use crate::summary::Verdict;
use crate::{Result, clients, differential, drill, migration, mixed, reference, reshape, roll, root, target};

const TICK_MS: u32 = 2000;
/// Those that promise something: `--strategy all` of the crash harness.
const CRASH_STRATEGIES: u32 = 5;

/// What a run of a suite is about.
#[derive(Clone, Debug)]
pub struct Context {
    pub kind: Kind,
    /// Suites use ports from here to 199 above.
    pub port_base: u16,
    /// Write what was answered instead of comparing with it. Only the reference may be recorded.
    pub record: bool,
}

impl Context {
    /// A server with an empty directory of its own.
    fn fresh(&self, name: &str) -> Result<Setup> {
        let directory = target().join("clients/servers").join(format!("{}-{name}", self.kind.name()));
        let setup = Setup {
            kind: self.kind.clone(),
            directory,
            home: Home::default(),
            port: self.port_base,
            tick_ms: TICK_MS,
            my_id: None,
            extra: Vec::new(),
        };
        setup.wipe()?;
        Ok(setup)
    }
}

/// kazoo's own tests, those that pass against as many servers of the reference. `keyword` is pytest's `-k`.
pub fn kazoo(context: &Context, servers: u16, keyword: Option<&str>) -> Verdict {
    match clients::ensure_kazoo() {
        Err(why) => skipped(&why.to_string()),
        Ok(python) => carried_out(run_kazoo(context, servers, &python, keyword)),
    }
}

fn run_kazoo(context: &Context, servers: u16, python: &Path, keyword: Option<&str>) -> Result<Verdict> {
    let adapter = root().join("tests/clients/kazoo");
    let list = adapter.join("passes_on_reference.txt");
    let mut expected = vec![list.clone()];
    if servers > 1 {
        expected.push(adapter.join("needs_an_ensemble.txt"));
    }
    let directory = target().join("clients/servers").join(format!("{}-kazoo", context.kind.name()));
    let mut command = Command::new(python);
    command
        .args(["-m", "pytest", "-p", "managed_servers", "-p", "no:cacheprovider", "--quiet", "--timeout=60"])
        .args(["--disable-warnings", "--pyargs", "kazoo.tests"])
        .env("PYTHONPATH", &adapter)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("RINGKEEPER_TEST_SERVER", context.kind.name())
        .env("RINGKEEPER_TEST_DIR", &directory)
        .env("ZOOKEEPER_VERSION", "3.9.5")
        .env("ZOOKEEPER_CLUSTER_SIZE", servers.to_string())
        .env("ZOOKEEPER_PORT_OFFSET", (context.port_base + 100).to_string())
        .env_remove("CI"); // kazoo's tests take it for the CI of their own project
    match &context.kind {
        Kind::Ringkeeper { binary } => command.env("RINGKEEPER_TEST_BINARY", binary),
        Kind::Java { class_path } => command.env("RINGKEEPER_TEST_CLASSPATH", class_path),
    };
    if let Some(keyword) = keyword {
        command.args(["-k", keyword]);
    }
    let passed_list = target().join("clients/kazoo-passed.txt");
    if context.record {
        command.env("RINGKEEPER_TEST_RECORD", &passed_list);
    } else {
        command.env("RINGKEEPER_TEST_EXPECTED", std::env::join_paths(expected)?);
    }
    let (content, text) = run_and_keep(&mut command, &format!("kazoo-{}-{servers}", context.kind.name()))?;
    if context.record {
        record_kazoo(&list, &passed_list)?;
    }
    let last = text.lines().rev().find(|line| line.contains(" passed") || line.contains(" failed")).unwrap_or_default();
    let passed = count_before(last, "passed");
    let failed = count_before(last, "failed") + count_before(last, "error") + count_before(last, "errors");
    if !content && failed == 0 {
        return Err("pytest did not get to its end; see above".into());
    }
    Ok(Verdict::Ran { passed, failed, skipped: count_before(last, "skipped") })
}

/// Keeps what people wrote at the head of the list.
fn record_kazoo(list: &Path, passed: &Path) -> Result<()> {
    let head: String = fs::read_to_string(list)?
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(list, head + &fs::read_to_string(passed)?)?;
    Ok(())
}

/// Scripted sessions of Debian's zkCli.
pub fn zkcli(context: &Context) -> Verdict {
    match clients::ensure_zkcli() {
        Err(why) => skipped(&why.to_string()),
        Ok(()) => carried_out(run_dialogues(context, "zkcli", Flavour::ZkCli)),
    }
}

/// Scripted sessions of Debian's C command-line client.
pub fn c_cli(context: &Context) -> Verdict {
    match clients::ensure_c_cli() {
        Err(why) => skipped(&why.to_string()),
        Ok(()) => carried_out(run_dialogues(context, "c", Flavour::CliMt)),
    }
}

/// Each file gets a server of its own, so that each can be run alone.
fn run_dialogues(context: &Context, folder: &str, flavour: Flavour) -> Result<Verdict> {
    let mut files: Vec<PathBuf> = fs::read_dir(root().join("tests/clients").join(folder))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.retain(|path| !path.ends_with(EXPECTED));
    files.sort();
    let (mut passed, mut failed) = (0, 0);
    for file in &files {
        let name = file.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        let running = context.fresh(&format!("{folder}-{name}"))?.start()?;
        match run_file(file, flavour, context.port_base, context.record) {
            Ok(()) => {
                println!("ok      {folder}/{name}");
                passed += 1;
            }
            Err(why) => {
                println!("FAILED  {folder}/{name}\n{why}");
                failed += 1;
            }
        }
        drop(running);
    }
    Ok(Verdict::Ran { passed, failed, skipped: 0 })
}

/// A program of ours on the Java client: what it prints, line by line.
pub fn java(context: &Context) -> Verdict {
    match clients::ensure_javac().and_then(|()| java_class_path()) {
        Err(why) => skipped(&why.to_string()),
        Ok(class_path) => carried_out(run_java(context, &class_path, "java", "Session")),
    }
}

/// Curator's recipes. Curator comes with the reference.
pub fn curator(context: &Context) -> Verdict {
    match clients::ensure_javac().and_then(|()| reference::class_path()) {
        Err(why) => skipped(&why.to_string()),
        Ok(class_path) => carried_out(run_java(context, &class_path, "curator", "Recipes")),
    }
}

/// The same and the Java client's own sessions, while the server is restarted whenever the program asks for it.
pub fn curator_restarts(context: &Context) -> Verdict {
    match clients::ensure_javac().and_then(|()| reference::class_path()) {
        Err(why) => skipped(&why.to_string()),
        Ok(class_path) => carried_out((|| {
            let program = java_program(&class_path, "curator", "Restarts")?;
            let got = converse(context, "curator-restarts", program)?;
            compare_with_recorded(context, "curator/restarts.txt", &got)
        })()),
    }
}

/// Runs `program HOST:PORT` to its end; what it says but for what it asks for. "restart: stop" and "restart: kill" are done and
/// answered with a line.
fn converse(context: &Context, name: &str, mut program: Command) -> Result<String> {
    let setup = context.fresh(name)?;
    let mut server = setup.start()?;
    program.arg(setup.address().to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut talking = Talking(program.spawn()?);
    let answers = talking.0.stdin.as_mut().expect("piped");
    let mut said = String::new();
    for line in BufReader::new(talking.0.stdout.as_mut().expect("piped")).lines() {
        let line = line?;
        said += &(line.clone() + "\n");
        match line.strip_prefix("restart: ") {
            None => continue,
            Some("stop") => drop(server.stop()?),
            Some("kill") => server.kill()?,
            Some(other) => return Err(format!("a restart by {other}?").into()),
        }
        server = setup.start()?;
        writeln!(answers, "done")?;
    }
    Ok(said)
}

/// A program that is ended when nobody talks to it any more.
struct Talking(Child);

impl Drop for Talking {
    fn drop(&mut self) {
        // Errors mean that it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run_java(context: &Context, class_path: &str, folder: &str, class: &str) -> Result<Verdict> {
    compare_program(context, folder, java_program(class_path, folder, class)?)
}

/// Compiled.
fn java_program(class_path: &str, folder: &str, class: &str) -> Result<Command> {
    let classes = target().join("clients/java");
    fs::create_dir_all(&classes)?;
    let source = root().join("tests/clients").join(folder).join(format!("{class}.java"));
    run(Command::new("javac").args(["-cp", class_path, "-d"]).arg(&classes).arg(source))?;
    let mut program = Command::new("java");
    program.args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=OFF", "-cp"]);
    program.arg(format!("{class_path}:{}", classes.display())).arg(class);
    Ok(program)
}

/// The newer client when the reference can be had, else Debian's.
fn java_class_path() -> Result<String> {
    reference::class_path().or_else(|_| {
        clients::ensure_zkcli()?;
        Ok(clients::DEBIAN_JAR.to_owned())
    })
}

/// A program of ours on the C client: multi and the asynchronous calls.
pub fn c_program(context: &Context) -> Verdict {
    match clients::ensure_c_library() {
        Err(why) => skipped(&why.to_string()),
        Ok(()) => carried_out(run_c(context)),
    }
}

fn run_c(context: &Context) -> Result<Verdict> {
    let program = target().join("clients/c-session");
    let source = root().join("tests/clients/c/session.c");
    // THREADED chooses the header's synchronous calls, which only the library with its own threads has.
    run(Command::new("cc")
        .args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-DTHREADED", "-o"])
        .arg(&program)
        .arg(source)
        .arg("-lzookeeper_mt"))?;
    compare_program(context, "c", Command::new(program))
}

/// A program of ours on the npm client.
pub fn node(context: &Context) -> Verdict {
    match clients::ensure_node() {
        Err(why) => skipped(&why.to_string()),
        Ok(modules) => carried_out((|| {
            let script = modules.join("session.js"); // beside its node_modules
            fs::copy(root().join("tests/clients/node/session.js"), &script)?;
            let mut program = Command::new("node");
            program.arg(script);
            compare_program(context, "node", program)
        })()),
    }
}

/// A program of ours on the Rust client `zookeeper-client`: a crate of its own, built where its dependencies touch nothing.
pub fn rust(context: &Context) -> Verdict {
    let built = target().join("clients/rust");
    let manifest = root().join("tests/clients/rust/Cargo.toml");
    let build = run(Command::new("cargo")
        .args(["build", "--quiet", "--locked", "--manifest-path"])
        .arg(manifest)
        .env("CARGO_TARGET_DIR", &built));
    match build {
        Err(why) => skipped(&why.to_string()),
        Ok(_) => carried_out(compare_program(context, "rust", Command::new(built.join("debug/rust-client-session")))),
    }
}

/// Runs `program HOST:PORT` and compares what it prints with `tests/clients/<folder>/expected.txt`.
fn compare_program(context: &Context, folder: &str, mut program: Command) -> Result<Verdict> {
    let running = context.fresh(&format!("{folder}-program"))?.start()?;
    let got = output_of(program.arg(format!("127.0.0.1:{}", context.port_base)));
    drop(running);
    compare_with_recorded(context, &format!("{folder}/{EXPECTED}"), &got?)
}

/// Each line counts as a test.
fn compare_with_recorded(context: &Context, name: &str, got: &str) -> Result<Verdict> {
    let expected = root().join("tests/clients").join(name);
    if context.record {
        fs::write(&expected, got)?;
    }
    let wanted = fs::read_to_string(&expected)?;
    let (mut passed, mut failed) = (0, 0);
    for pair in paired(&wanted, got) {
        match pair {
            (Some(wanted), Some(got)) if wanted == got => passed += 1,
            (wanted, got) => {
                println!("FAILED  {name}\n  wanted: {}\n  got:    {}", wanted.unwrap_or("-"), got.unwrap_or("-"));
                failed += 1;
            }
        }
    }
    if failed == 0 {
        println!("ok      {name} ({passed} lines)");
    }
    Ok(Verdict::Ran { passed, failed, skipped: 0 })
}

const EXPECTED: &str = "expected.txt";

fn paired<'a>(wanted: &'a str, got: &'a str) -> Vec<(Option<&'a str>, Option<&'a str>)> {
    let (mut wanted, mut got) = (wanted.lines(), got.lines());
    std::iter::from_fn(|| match (wanted.next(), got.next()) {
        (None, None) => None,
        pair => Some(pair),
    })
    .collect()
}

/// `cargo test` over the workspace, its own tests counted.
pub fn unit() -> Verdict {
    carried_out((|| {
        let mut command = Command::new("cargo");
        command.args(["test", "--workspace", "--no-fail-fast"]).current_dir(root());
        let (content, text) = run_and_keep(&mut command, "unit")?;
        let results = || text.lines().filter(|line| line.starts_with("test result:"));
        let sum = |word: &str| results().map(|line| count_before(line, word)).sum::<usize>();
        let (passed, failed, skipped) = (sum("passed"), sum("failed"), sum("ignored"));
        if !content && failed == 0 {
            return Err("cargo test did not get to its end; see above".into());
        }
        Ok(Verdict::Ran { passed, failed, skipped })
    })())
}

/// The simulator, in a build of its own that counts branches and can break rules.
pub fn simulate() -> Command {
    simulate_as("sim")
}

/// By a build for very many seeds (`soak`), or by one that is soon there (`sim`).
pub fn simulate_as(profile: &str) -> Command {
    let mut command = in_simulators_build(profile, "simulate");
    // Worlds come and go: what one leaves is the next one's, and clearing pages for each would cost a fifth of the time.
    command.env("MIMALLOC_PURGE_DELAY", "-1");
    command
}

fn in_simulators_build(profile: &str, program: &str) -> Command {
    let mut command = Command::new("cargo");
    command.args(["run", "--quiet", "--profile", profile, "--package", "ringkeeper-tools", "--features", "sim"]);
    command.args(["--bin", program, "--"]).current_dir(root());
    command
}

/// Any bytes to the decoders of what strangers and peers send, in the simulator's build.
pub fn fuzzer() -> Command {
    in_simulators_build("sim", "fuzz")
}

/// The same inputs each time; each decoder that stands them all counts as a test.
pub fn fuzz() -> Verdict {
    carried_out((|| {
        let (_, text) = run_and_keep(&mut fuzzer(), "fuzz")?;
        let last = text.lines().last().unwrap_or_default();
        let (passed, failed) = (count_before(last, "passed"), count_before(last, "failed"));
        if passed + failed == 0 {
            return Err("the run did not get to its end; see above".into());
        }
        Ok(Verdict::Ran { passed, failed, skipped: 0 })
    })())
}

/// The rules that can be broken on purpose, each counted as a test: it has to be noticed.
pub fn mutations() -> Verdict {
    carried_out((|| {
        let (_, text) = run_and_keep(simulate().arg("--mutations"), "mutations")?;
        let last = text.lines().last().unwrap_or_default();
        let (noticed, all) = (count_before(last, "of"), count_before(last, "broken"));
        if all == 0 {
            return Err("the simulation did not get to its end; see above".into());
        }
        Ok(Verdict::Ran { passed: noticed, failed: all - noticed, skipped: 0 })
    })())
}

/// Seeds that everybody runs: what breaks here was not broken before.
const KNOWN_SEEDS: &str = "200..500";
/// Then as many fresh ones as there is time for, unless somebody says how much.
const FRESH_MINUTES: f64 = 1.0;

/// Each run counted as a test: the known seeds, then fresh ones for so many minutes. Which they were, how often each fault struck,
/// and how to run one again that failed: all of that is printed. Marked branches that the known seeds do not reach are looked for
/// where `sim/coverage.rs` says they are; one that is not there is a failure. A gate has to give the
/// same answer to the same sources: a fresh seed that breaks a promise is told loudly, and fails the suite only for whoever asked
/// for so many minutes of them.
pub fn sim(minutes: Option<f64>) -> Verdict {
    let fresh = minutes.unwrap_or(FRESH_MINUTES).to_string();
    carried_out((|| {
        let Simulated { runs, broken, unreached } = simulated("sim-known", &["--seeds", KNOWN_SEEDS, "--marks"])?;
        let fresh = simulated("sim-fresh", &["--time-box", fresh.as_str()])?;
        let Simulated { runs: fresh_runs, broken: fresh_broken, .. } = fresh;
        if fresh_broken > 0 {
            println!("!!! {fresh_broken} of {fresh_runs} FRESH SEEDS BROKE A PROMISE: see above, and mend it");
        }
        let failed = broken + unreached + if minutes.is_some() { fresh_broken } else { 0 };
        Ok(Verdict::Ran { passed: runs - broken + fresh_runs - fresh_broken, failed, skipped: 0 })
    })())
}

/// How many runs there were, how many broke a promise, and how many marked branches nobody has reached.
struct Simulated {
    runs: usize,
    broken: usize,
    unreached: usize,
}

fn simulated(name: &str, which: &[&str]) -> Result<Simulated> {
    let (content, text) = run_and_keep(simulate().arg("--keep-going").args(which), name)?;
    // Which seeds they were, how often each fault struck, and what broke.
    let matters =
        |line: &&str| line.contains(" runs") || ["faults: ", "seed "].iter().any(|begin| line.starts_with(begin));
    text.lines().filter(matters).for_each(|line| println!("{line}"));
    let outcome = text.lines().rfind(|line| line.contains(" runs broke a promise")).unwrap_or_default();
    let (broken, runs) = (count_before(outcome, "of"), count_before(outcome, "runs"));
    let unreached = text.lines().filter(|line| line.starts_with("NOT REACHED")).count();
    if runs == 0 || (!content && broken + unreached == 0) {
        return Err("the simulation did not get to its end; see above".into());
    }
    Ok(Simulated { runs, broken, unreached })
}

/// The crash harness, each round counted as a test; the rounds are shared out over the log strategies.
pub fn crash(binary: &Path, rounds: u32, port: u16) -> Verdict {
    carried_out((|| {
        let (content, text) = run_and_keep(
            Command::new("cargo")
                .args(["run", "--quiet", "--package", "ringkeeper-tools", "--bin", "crash", "--"])
                .args(["--strategy", "all", "--jobs", "2", "--rounds", &rounds.div_ceil(CRASH_STRATEGIES).to_string()])
                .args(["--port", &port.to_string(), "--binary"])
                .arg(binary)
                .current_dir(root()),
            "crash",
        )?;
        let last = text.lines().last().unwrap_or_default();
        let (passed, failed) = (count_before(last, "passed"), count_before(last, "failed"));
        if !content && failed == 0 {
            return Err("the crash harness did not get to its end; see above".into());
        }
        Ok(Verdict::Ran { passed, failed, skipped: 0 })
    })())
}

/// Servers of most kinds (`differential/arena.rs`): small buffers, enforced authentication, hard quotas, ensembles of one, nodes that
/// go by themselves.
const DIFFERENTIAL_SEEDS: std::ops::Range<u64> = 6..14;
const DIFFERENTIAL_STEPS: usize = 400;

/// The same questions to the reference and to ringkeeper, by the same seeds each time; each operation counts as a test.
pub fn differential(binary: &Path, java: &Kind, port: u16) -> Verdict {
    let options = differential::Options {
        seeds: DIFFERENTIAL_SEEDS,
        step_count: DIFFERENTIAL_STEPS,
        session_count: 4,
        job_count: 2,
        binary: binary.to_owned(),
        port_base: port,
        is_shrinking: false,
    };
    carried_out(differential::run(&options, java).map(|tally| Verdict::Ran {
        passed: tally.operations,
        failed: tally.divergences,
        skipped: 0,
    }))
}

/// A tree moved between ringkeeper and the reference, both ways and back; each node compared counts as a test.
pub fn migration(binary: &Path, java: &Kind, port: u16) -> Verdict {
    let options = migration::Options {
        ringkeeper: Kind::Ringkeeper { binary: binary.to_owned() },
        rk: migration::rk_beside(binary),
        java: java.clone(),
        directory: target().join("migration"),
        port,
    };
    carried_out(migration::run(&options).map(|passed| Verdict::Ran { passed, failed: 0, skipped: 0 }))
}

/// An ensemble that changes its make, member by member, under load; each answer checked counts as a test.
pub fn roll(binary: &Path, java: &Kind, port: u16, passes: usize) -> Verdict {
    let options = roll::Options {
        ringkeeper: Kind::Ringkeeper { binary: binary.to_owned() },
        rk: migration::rk_beside(binary),
        java: java.clone(),
        directory: target().join(format!("roll/{port}")),
        port,
        passes,
    };
    carried_out(roll::run(&options).map(|passed| Verdict::Ran { passed: passed as usize, failed: 0, skipped: 0 }))
}

/// Ensembles of both makes; each node compared counts as a test.
pub fn ensembles(binary: &Path, java: &Kind, port: u16, arrangements: &[String]) -> Verdict {
    let java_3_8 = arrangements.iter().any(|word| word.contains('8')).then(reference::debian);
    let java_3_8 = match java_3_8.transpose() {
        Ok(java) => java,
        Err(why) => return skipped(&why.to_string()),
    };
    let options = mixed::Options {
        ringkeeper: Kind::Ringkeeper { binary: binary.to_owned() },
        java: java.clone(),
        java_3_8,
        directory: target().join("ensembles"),
        port,
        arrangements: arrangements.to_vec(),
    };
    carried_out(mixed::run(&options).map(|passed| Verdict::Ran { passed, failed: 0, skipped: 0 }))
}

/// Members of both makes join, leave and move.
pub fn reshape(binary: &Path, java: &Kind, port: u16) -> Verdict {
    let options = reshape::Options {
        ringkeeper: Kind::Ringkeeper { binary: binary.to_path_buf() },
        java: java.clone(),
        directory: target().join("reshape"),
        port,
    };
    carried_out(reshape::run(&options).map(|passed| Verdict::Ran { passed, failed: 0, skipped: 0 }))
}

/// An ensemble under random faults; each answer checked counts as a test. A failed run leaves logs and data where they are.
pub fn drill(options: &drill::Options) -> Verdict {
    let drill::Options { kinds, seed, time, directory, .. } = options;
    println!("drill: {} members, {:.1} minutes, --seed {seed}", kinds.len(), time.as_secs_f64() / 60.0);
    let (totals, outcome) = drill::run(options);
    println!("{}", totals.text());
    let outcome = outcome.and_then(|()| if options.keep { Ok(()) } else { Ok(fs::remove_dir_all(directory)?) });
    let place = format!("what happened (drill.log), logs and data: {}", directory.display());
    carried_out(match outcome {
        Ok(()) => Ok(Verdict::Ran { passed: totals.answers as usize, failed: 0, skipped: 0 }),
        Err(why) => Err(format!("{why}\n--seed {seed}; {place}").into()),
    })
}

/// Where a drill on these ports leaves what it leaves.
pub fn drill_directory(port: u16) -> PathBuf {
    target().join(format!("drill/{port}"))
}

fn skipped(why: &str) -> Verdict {
    println!("SKIPPED: {why}");
    Verdict::Skipped { why: why.to_owned() }
}

fn carried_out(result: Result<Verdict>) -> Verdict {
    result.unwrap_or_else(|why| {
        println!("BROKE: {why}");
        Verdict::Broke { why: why.to_string() }
    })
}

/// The number that stands before a word: 12 for "passed" in `12 passed, 3 failed in 4.00s`.
fn count_before(line: &str, word: &str) -> usize {
    let words: Vec<&str> = line.split_whitespace().collect();
    words
        .windows(2)
        .find(|pair| pair[1].trim_matches([',', ';', '.']) == word)
        .and_then(|pair| pair[0].parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_lines_of_the_runners_are_understood() {
        let pytest = "1 failed, 478 passed, 8 deselected in 133.76s (0:02:13)";
        assert_eq!((count_before(pytest, "passed"), count_before(pytest, "failed")), (478, 1));
        let cargo = "test result: ok. 14 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!((count_before(cargo, "passed"), count_before(cargo, "ignored")), (14, 2));
    }

    #[test]
    fn a_missing_line_is_paired_with_nothing() {
        assert_eq!(paired("a\nb\n", "a\n"), [(Some("a"), Some("a")), (Some("b"), None)]);
    }
}
