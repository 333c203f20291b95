//! The commands that start ringkeeper themselves, from end to end and tiny. The server is this very file, run again: see
//! `be_the_server`.

use std::fs;
use std::net::TcpListener;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use ringkeeper::config::{Config, Source};
use ringkeeper::shell::settings::Settings;
use ringkeeper::shell::{logging, node_host, signals, start};

const BENCH: &str = env!("CARGO_BIN_EXE_ringkeeper-bench");
const CONFIG: &str = "RINGKEEPER_TEST_CONFIG";

/// Not a test: the server that the tests below start, in a process of its own.
#[test]
#[ignore = "a server, for the other tests"]
fn be_the_server() {
    let file = std::env::var(CONFIG).expect("started by a test");
    let (config, _) = Config::load(&Source::File(file.into()), &|name| std::env::var(name).ok(), &[]).unwrap();
    let _log = logging::start(Some("info"), 0).unwrap();
    let stop = signals::StopRequest::default();
    signals::listen(stop.clone()).unwrap();
    start::serve(Settings::from_config(&config).unwrap(), node_host::load(&config), stop, |_| {}).unwrap();
}

fn server() -> String {
    let this = std::env::current_exe().unwrap();
    format!("env {CONFIG}={{config}} '{}' --ignored --exact be_the_server --nocapture", this.display())
}

fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

/// The first of as many ports as an ensemble takes, below those that the system gives to anybody. Each time others.
fn ports_of_an_ensemble() -> String {
    static TURN: AtomicU32 = AtomicU32::new(0);
    let turns = std::iter::repeat_with(|| TURN.fetch_add(1, Ordering::Relaxed)).take(300);
    let mut bases = turns.map(|turn| 21_000 + 30 * ((std::process::id() + turn) % 300) as u16);
    let is_free =
        |ports: RangeInclusive<u16>| ports.into_iter().all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
    bases.find(|base| is_free(*base..=*base + 22)).expect("some ports are free").to_string()
}

/// A CPU this process may use.
fn cpu() -> String {
    let allowed = rustix::thread::sched_getaffinity(None).unwrap();
    (0..rustix::thread::CpuSet::MAX_CPU).find(|cpu| allowed.is_set(*cpu)).unwrap().to_string()
}

fn scratch(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}

fn names_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Runs a subcommand on a scratch directory with this file's server as ringkeeper.
fn bench(subcommand: &str, data: &Path, arguments: &[&str]) -> Output {
    bench_on(&free_port(), subcommand, data, arguments)
}

fn bench_on(port: &str, subcommand: &str, data: &Path, arguments: &[&str]) -> Output {
    let cpu = cpu();
    Command::new(BENCH)
        .args([subcommand, "--ringkeeper", &server()])
        .args(["--cpu", &cpu, "--cores", &cpu, "--port", port, "--set", "preAllocSize=1024"])
        .args(arguments)
        .arg("--data")
        .arg(data)
        .arg("--json")
        .arg(data.join("runs.json"))
        .arg("--markdown")
        .arg(data.join("table.md"))
        .output()
        .unwrap()
}

fn runs(data: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(data.join("runs.json")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn assert_success(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn starts_are_timed_on_directories_that_can_be_kept() {
    let data = scratch("start");
    let keep = data.join("kept");
    let tiny = [
        "--servers",
        "ringkeeper",
        "--nodes",
        "1500",
        "--bytes",
        "20",
        "--tail",
        "300",
        "--rounds",
        "2",
        "--keep",
        keep.to_str().unwrap(),
    ];
    let text = assert_success(&bench("start", &data, &tiny));
    let table = fs::read_to_string(data.join("table.md")).unwrap();
    assert!(text.contains(&table) && table.contains("| ringkeeper | clean |"), "{table}");
    assert!(table.contains("| ringkeeper | tail-300 |") && table.contains("page cache warm"), "{table}");

    // Again, cold, on what the first run left: nothing is made anew, and nothing has changed by being used.
    let text = assert_success(&bench("start", &data, &[&tiny[..], &["--drop-caches"]].concat()));
    assert_eq!(text.matches("used again").count(), 2, "{text}");
    assert_eq!(names_in(&keep), ["ringkeeper-1500x20"], "no working copy is left");
    let runs = runs(&data);
    assert_eq!(runs.len(), 8);
    for run in &runs {
        let ms = |name: &str| run[name].as_f64().unwrap();
        assert!(0.0 < ms("first_read_ms") && ms("first_read_ms") < ms("first_write_ms"), "{run}");
        assert!(ms("rss_mib") > 0.0 && ms("in_memory_ms") >= ms("first_read_ms"), "{run}");
    }
    assert_eq!(runs[7]["cache"], "cold");

    // A tail of another length is another directory.
    let other = [
        "--servers",
        "ringkeeper",
        "--nodes",
        "1500",
        "--bytes",
        "20",
        "--tail",
        "10",
        "--rounds",
        "1",
        "--left",
        "tail",
    ];
    assert_success(&bench("start", &data, &[&other[..], &["--keep", keep.to_str().unwrap()]].concat()));
    assert_eq!(names_in(&keep.join("ringkeeper-1500x20")), ["clean", "tail-10", "tail-300"]);
}

#[test]
fn memory_is_told_step_by_step() {
    let data = scratch("memory");
    let mut tiny = vec!["--servers", "ringkeeper", "--nodes", "1500", "--sessions", "70", "--watches", "2001"];
    tiny.extend(["--shared-watches", "139", "--settle", "0.01"]);
    let text = assert_success(&bench("memory", &data, &tiny));
    let table = fs::read_to_string(data.join("table.md")).unwrap();
    assert!(text.contains(&table) && table.contains("| ringkeeper | 2,001 watches |"), "{table}");
    let [run] = runs(&data).try_into().unwrap();
    let steps = run["steps"].as_array().unwrap();
    let counts: Vec<u64> = steps.iter().map(|step| step["count"].as_u64().unwrap()).collect();
    assert_eq!(counts, [0, 1500, 70, 2001, 139]);
    assert!(steps.iter().all(|step| step["rss_mib"].as_f64().unwrap() > 0.0), "{run}");
    assert_eq!(names_in(&data), ["runs.json", "table.md"]);
}

#[test]
fn log_strategies_are_compared_and_nothing_is_left() {
    let data = scratch("fsync");
    let tiny =
        ["--strategies", "dsync,none", "--backends", "uring,syscalls", "--scenarios", "w1,w100", "--rounds", "1"];
    let brief = ["--server-warm-up", "0.4", "--warm-up", "0.01", "--window", "0.4"];
    let text = assert_success(&bench("fsync", &data, &[&tiny[..], &brief].concat()));
    let table = fs::read_to_string(data.join("table.md")).unwrap();
    assert!(text.contains(&table) && text.contains("write cache"), "{text}");
    for row in ["\n| w1 | undisturbed |", "\n| w100 | undisturbed |", "\n| dsync/uring |", "\n| none/syscalls |"] {
        assert!(table.contains(row), "{row}: {table}");
    }
    let header = table.lines().find(|line| line.starts_with("| w1 |")).unwrap();
    let row = table.lines().find(|line| line.starts_with("| none/uring |")).unwrap();
    assert_eq!(header.matches('|').count(), row.matches('|').count(), "as many cells as the header has");
    let runs = runs(&data);
    let strategies: Vec<&str> = runs.iter().map(|run| run["strategy"].as_str().unwrap()).collect();
    assert_eq!(
        strategies,
        ["dsync/uring", "none/uring", "dsync/syscalls", "none/syscalls"].repeat(2),
        "in alternation"
    );
    assert!(runs.iter().all(|run| run["ops_per_s"].as_f64().unwrap() > 0.0 && run["disk"]["host"].is_string()));
    assert_eq!(names_in(&data), ["runs.json", "table.md"]);
}

#[test]
fn snapshots_are_provoked_and_writes_are_split_by_them() {
    let data = scratch("snapshot-tail");
    let tiny = ["--servers", "ringkeeper", "--nodes", "3000", "--windows", "3", "--window", "0.4", "--warm-up", "0.1"];
    let text = assert_success(&bench("snapshot-tail", &data, &tiny));
    let table = fs::read_to_string(data.join("table.md")).unwrap();
    assert!(text.contains(&table) && table.contains("| without | – |"), "{table}");
    let [run] = runs(&data).try_into().unwrap();
    assert!(run["snapshots"].as_u64().unwrap() >= 1, "{run}");
    for side in ["during", "without"] {
        assert!(run[side]["writes"].as_u64().unwrap() > 0 && run[side]["latency_us"]["p99_9"].as_f64().unwrap() > 0.0);
    }
    assert_eq!(names_in(&data), ["runs.json", "table.md"]);
}

#[test]
fn leaders_are_lost_and_the_pauses_told() {
    let data = scratch("failover");
    let tiny = ["--servers", "ringkeeper", "--kills", "1", "--stops", "1", "--steady", "0.1"];
    let text = assert_success(&bench_on(&ports_of_an_ensemble(), "failover", &data, &tiny));
    let table = fs::read_to_string(data.join("table.md")).unwrap();
    assert!(text.contains(&table) && table.contains("\n| killed | ringkeeper | 1 |"), "{table}");
    let [killed, asked] = runs(&data).try_into().unwrap();
    assert_eq!((killed["how"].as_str(), asked["how"].as_str()), (Some("killed"), Some("asked-to-stop")));
    for run in [killed, asked] {
        assert!(run["writes_before"].as_u64().unwrap() > 0 && run["pause_ms"].as_f64().unwrap() > 0.0, "{run}");
    }
    assert_eq!(names_in(&data), ["runs.json", "table.md"]);
}

#[test]
fn members_come_back_by_what_they_missed() {
    let data = scratch("rejoin");
    let tiny = ["--servers", "ringkeeper", "--nodes", "4000", "--missed", "700", "--rounds", "1", "--steady", "0.1"];
    let text = assert_success(&bench_on(&ports_of_an_ensemble(), "rejoin", &data, &tiny));
    let table = fs::read_to_string(data.join("table.md")).unwrap();
    assert!(text.contains(&table) && table.contains("\n| missed | ringkeeper | 1, 0 |"), "{table}");
    let sent: Vec<_> = runs(&data).iter().map(|run| (run["diffs"].as_f64(), run["snapshots"].as_f64())).collect();
    assert_eq!(sent, [(Some(1.0), Some(0.0)), (Some(1.0), Some(0.0)), (Some(0.0), Some(1.0))]);
    assert_eq!(names_in(&data), ["runs.json", "table.md"]);
}
