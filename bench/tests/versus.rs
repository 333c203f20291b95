//! A comparison from end to end, tiny, between two floors: servers started, pinned, measured, ended, and their data removed.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

const BENCH: &str = env!("CARGO_BIN_EXE_ringkeeper-bench");

fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

/// A CPU this process may use.
fn cpu() -> String {
    let allowed = rustix::thread::sched_getaffinity(None).unwrap();
    (0..rustix::thread::CpuSet::MAX_CPU).find(|cpu| allowed.is_set(*cpu)).unwrap().to_string()
}

fn versus(a: &str, b: &str, data: &Path, scenarios: &str) -> Output {
    let (cpu, port_a, port_b) = (cpu(), free_port(), free_port());
    Command::new(BENCH)
        .args(["versus", "--a", a, "--b", b, "--name-a", "bare", "--name-b", "logged", "--scenarios", scenarios])
        .args([
            "--cpu",
            &cpu,
            "--server-cpu",
            &cpu,
            "--port-a",
            &port_a,
            "--port-b",
            &port_b,
            "--rounds",
            "2",
            "--rate",
            "2000",
        ])
        .args(["--server-warm-up", "0.03", "--warm-up", "0.01", "--window", "0.1"])
        .arg("--data")
        .arg(data)
        .arg("--json")
        .arg(data.join("runs.json"))
        .arg("--markdown")
        .arg(data.join("table.md"))
        .output()
        .unwrap()
}

fn scratch(name: &str) -> std::path::PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}

#[test]
fn two_floors_are_compared_and_nothing_is_left() {
    let data = scratch("versus-compares");
    let floor = format!("{BENCH} floor --port {{port}}");
    let output = versus(&floor, &format!("{floor} --log {{dir}}/log"), &data, "wpipe,r1,seq,open50,storm");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));

    let table = fs::read_to_string(data.join("table.md")).unwrap();
    assert!(text.contains(&table) && table.contains("| scenario | runs (undisturbed) | bare ops/s | logged ops/s |"));
    for scenario in ["wpipe", "r1", "seq", "open50", "storm"] {
        assert!(table.contains(&format!("\n| {scenario} | 2 (")), "{table}");
    }
    let runs = fs::read_to_string(data.join("runs.json")).unwrap();
    let runs: Vec<serde_json::Value> = runs.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let labels: Vec<&str> = runs.iter().map(|run| run["label"].as_str().unwrap()).collect();
    assert_eq!(labels, ["bare", "logged"].repeat(10), "in alternation");
    assert!(runs.iter().all(|run| run["errors"] == 0 && run["ops_per_s"].as_f64().unwrap() > 0.0));

    let mut left: Vec<String> =
        fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["runs.json", "table.md"]);
}

#[test]
fn a_server_that_does_not_start_is_named_with_its_last_words() {
    let data = scratch("versus-fails");
    let floor = format!("{BENCH} floor --port {{port}}");
    let output = versus(&floor, "sh -c 'echo no such disk; exit 3'", &data, "r1");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(error.contains("logged does not serve") && error.contains("no such disk"), "{error}");
}
