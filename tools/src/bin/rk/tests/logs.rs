//! `rk log`.

use std::fs;
use std::path::{Path, PathBuf};

use ringkeeper_storage::DIRECTORY;
use serde_json::{Value, json};

use super::fixture::{damage, files, lived_in};
use super::{of_kind, rk, rk_json};
use crate::console::Verdict;

#[test]
fn a_dump_shows_every_transaction_in_its_place() {
    let directory = tempfile::tempdir().unwrap();
    lived_in(directory.path());
    let (verdict, all) = rk_json(&["log", "dump", "--decode"], directory.path());
    assert_eq!(verdict, Verdict::Fine);
    let records = of_kind(&all, "record");
    let zxids: Vec<_> = records.iter().map(|record| record["zxid"].as_str().unwrap().to_owned()).collect();
    assert_eq!(zxids, (1..=31).map(|zxid| format!("{zxid:#x}")).collect::<Vec<_>>());
    let created = records[1];
    assert_eq!(created["type"], "create2");
    assert_eq!(created["path"], "/app");
    assert_eq!(created["session"], "0x100000000");
    assert_eq!(created["time"], "2026-11-21T09:03:17.020Z");
    assert_eq!(created["decoded"], r#"/app "root of it" world:anyone:cdrwa parent cversion -1"#);
    assert_eq!((records[16]["type"].as_str(), records[16]["path"].as_str()), (Some("multi"), Some("/app/from-multi")));
    let parts = records[16]["decoded"].as_str().unwrap();
    assert!(parts.ends_with("container parent cversion -1; delete /app/n00"), "{parts}");
    assert_eq!(records[17]["decoded"], "-101 NONODE");
    // Twelve creates went into one batch, and their places follow one another in it.
    let batch = of_kind(&all, "batch").into_iter().find(|batch| batch["records"] == 12).unwrap();
    let members: Vec<_> = records.iter().filter(|record| record["sequence"] == batch["sequence"]).collect();
    assert_eq!(members.len(), 12);
    let places: Vec<_> = members.iter().map(|record| record["at"].as_u64().unwrap()).collect();
    let step = 12 + members[0]["bytes"].as_u64().unwrap();
    assert!(places.windows(2).all(|pair| pair[1] - pair[0] == step), "{places:?}");
    assert_eq!(places[0], batch["at"].as_u64().unwrap() + 96);
}

#[test]
fn a_dump_can_be_narrowed() {
    let directory = tempfile::tempdir().unwrap();
    lived_in(directory.path());
    let narrow = ["log", "dump", "--records-only", "--from", "0xf", "--to", "16"];
    let (verdict, text) = rk(&narrow, &directory.path().join(DIRECTORY)).unwrap();
    assert_eq!(verdict, Verdict::Fine);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].contains("session 0x100000000 cxid 0xf zxid 0xf setData /app/n03 ("), "{text}");
    assert!(lines[1].contains("zxid 0x10 create2 /app/ephemeral ("), "{text}");
}

#[test]
fn a_whole_log_verifies() {
    let directory = tempfile::tempdir().unwrap();
    lived_in(directory.path());
    let (verdict, all) = rk_json(&["log", "verify"], directory.path());
    assert_eq!(verdict, Verdict::Fine, "{all:?}");
    assert!(of_kind(&all, "damage").is_empty());
    let start = of_kind(&all, "decision")[0];
    assert_eq!((start["outcome"].as_str(), start["last_good_zxid"].as_str()), (Some("ends_here"), Some("0x1f")));
    assert_eq!(start["records"], 31);
}

#[test]
fn every_file_tells_its_logs_id_and_one_of_another_log_is_found() {
    let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for directory in [&directory, &other] {
        lived_in(directory.path());
    }
    for command in ["dump", "verify"] {
        let ids = |path: &Path| -> Vec<String> {
            let (_, all) = rk_json(&["log", command], path);
            of_kind(&all, "file").iter().map(|file| file["log_id"].as_str().unwrap().to_owned()).collect()
        };
        let (ours, others) = (ids(directory.path()), ids(other.path()));
        assert!(ours.len() >= 2 && ours.iter().all(|id| *id == ours[0]) && ours[0] != others[0], "{ours:?} {others:?}");
    }
    // The same history, but not the same log.
    let last = files(directory.path(), "log-").pop().unwrap();
    fs::copy(files(other.path(), "log-").pop().unwrap(), &last).unwrap();
    let (verdict, all) = rk_json(&["log", "verify"], directory.path());
    assert_eq!(verdict, Verdict::Found);
    let damage = of_kind(&all, "damage")[0];
    assert_eq!(damage["why"], "it belongs to another log than the file before it");
    assert_eq!(damage["file"], last.file_name().unwrap().to_str().unwrap());
    assert_eq!(of_kind(&all, "decision")[0]["outcome"], "refuses");
}

#[test]
fn a_hole_in_the_middle_is_shown_with_what_follows_and_would_be_refused() {
    let directory = tempfile::tempdir().unwrap();
    lived_in(directory.path());
    let (_, before) = rk_json(&["log", "dump"], directory.path());
    let batch = of_kind(&before, "batch")[3];
    let (at, last) = (batch["at"].as_u64().unwrap() as usize, batch["last_zxid"].as_str().unwrap());
    let path = files(directory.path(), "log-").remove(0);
    damage(&path, |bytes| bytes[at + 100] ^= 1);

    let (verdict, all) = rk_json(&["log", "verify"], directory.path());
    assert_eq!(verdict, Verdict::Found);
    let damages = of_kind(&all, "damage");
    assert_eq!(damages.len(), 1, "{all:?}");
    assert_eq!(damages[0]["at"], at);
    assert_eq!(damages[0]["why"], "checksum mismatch");
    let behind = &damages[0]["followed_by"];
    assert_eq!(behind["batches"], 3, "up to the end of this file");
    assert_eq!(behind["zxids"][0], "0x10", "what follows {last}");
    let start = of_kind(&all, "decision")[0];
    assert_eq!((start["outcome"].as_str(), start["last_good_zxid"].as_str()), (Some("refuses"), Some("0xe")));

    let (verdict, dumped) = rk_json(&["log", "dump"], directory.path());
    assert_eq!(verdict, Verdict::Found);
    assert_eq!(of_kind(&dumped, "record").len(), 30, "the others are still shown");
}

#[test]
fn a_torn_tail_is_told_from_a_loss() {
    let directory = tempfile::tempdir().unwrap();
    lived_in(directory.path());
    let (_, before) = rk_json(&["log", "dump"], directory.path());
    let last_file = of_kind(&before, "file").len();
    assert!(last_file >= 2, "the fixture fills several segments");
    let at = of_kind(&before, "batch").last().unwrap()["at"].as_u64().unwrap() as usize;
    let (_, whole) = rk_json(&["log", "verify"], directory.path());
    let last = of_kind(&whole, "decision")[0]["file"].as_str().unwrap().to_owned();
    damage(&directory.path().join(DIRECTORY).join(last), |bytes| bytes[at + 60] ^= 1);
    let (verdict, all) = rk_json(&["log", "verify"], directory.path());
    assert_eq!(verdict, Verdict::Found);
    let start = of_kind(&all, "decision")[0];
    assert_eq!(start["outcome"], "torn_tail", "{start}");
    assert_eq!(start["last_good_zxid"], "0x1e");
}

#[test]
fn a_copy_under_any_name_can_be_read() {
    let directory = tempfile::tempdir().unwrap();
    lived_in(directory.path());
    let copy = directory.path().join("evidence.bin");
    std::fs::copy(&files(directory.path(), "log-")[0], &copy).unwrap();
    let (verdict, text) = rk(&["log", "verify"], &copy).unwrap();
    assert_eq!(verdict, Verdict::Fine, "{text}");
    assert!(text.starts_with("evidence.bin: sound: "), "{text}");
    std::fs::write(&copy, b"something else").unwrap();
    let refused = rk(&["log", "verify"], &copy).unwrap_err().to_string();
    assert!(refused.ends_with("evidence.bin: not a transaction log"), "{refused}");
}

#[test]
fn stats_count_what_is_there() {
    let directory = tempfile::tempdir().unwrap();
    lived_in(directory.path());
    let (verdict, all) = rk_json(&["log", "stats", "--top", "2"], directory.path());
    assert_eq!(verdict, Verdict::Fine);
    let stats = &all[0];
    assert_eq!(stats["records"], 31);
    assert_eq!(stats["types"]["setData"]["records"], 13);
    assert_eq!(stats["types"]["multi"]["records"], 1);
    assert_eq!(stats["paths"][0]["name"], "/app/n05");
    assert_eq!(stats["paths"][0]["records"], 13);
    assert_eq!(stats["sessions"][0]["name"], "0x100000000");
    assert_eq!(stats["batches"]["records"]["max"], 12);
    let padded = stats["batches"]["padded_bytes"].as_u64().unwrap();
    assert_eq!(padded, 4096 * stats["batches"]["count"].as_u64().unwrap());
    assert!(stats["record_size"]["p50"].as_u64().unwrap() > 100);
    let (_, text) = rk(&["log", "stats", "--depth", "1"], directory.path()).unwrap();
    assert!(text.lines().any(|line| line.ends_with("  /app")), "{text}");
}

/// Files that a Java server wrote.
fn java(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/java").join(name)
}

#[test]
fn logs_of_java_servers_have_the_same_columns() {
    let (verdict, all) = rk_json(&["log", "dump", "--decode"], &java("3.9.3-member/log.100000064"));
    assert_eq!(verdict, Verdict::Fine);
    assert_eq!(of_kind(&all, "file")[0]["format"], "java");
    let last = of_kind(&all, "record").pop().unwrap().clone();
    assert_eq!(last["at"], 649);
    assert_eq!(last["time"], "2026-11-21T09:09:39.468Z");
    assert_eq!((last["type"].as_str(), last["path"].as_str()), (Some("setData"), Some("/plain")));
    assert_eq!(last["decoded"], r#"/plain "before-trunc" version 9"#);
    assert_eq!((last["zxid"].as_str(), last["digest"].as_str()), (Some("0x10000006c"), Some("0x148a3a47f7")));
    let (verdict, all) = rk_json(&["log", "stats"], &java("3.9.3-member"));
    assert_eq!((verdict, &all[0]["records"], &all[0]["batches"]), (Verdict::Fine, &json!(108), &Value::Null));
}

#[test]
fn what_a_java_log_lost_is_seen_by_its_transactions() {
    let (verdict, all) = rk_json(&["log", "verify"], &java("3.9.3-member"));
    let decision = of_kind(&all, "decision")[0];
    assert_eq!(verdict, Verdict::Fine, "{all:?}");
    assert_eq!((&decision["by"], &decision["last_good_zxid"]), (&json!("import"), &json!("0x10000006c")));

    let directory = tempfile::tempdir().unwrap();
    for log in ["log.100000001", "log.10000004e", "log.100000064"] {
        std::fs::copy(java("3.9.3-member").join(log), directory.path().join(log)).unwrap();
    }
    let (verdict, all) = rk_json(&["log", "verify"], directory.path());
    assert_eq!(verdict, Verdict::Found);
    let gap = of_kind(&all, "damage")[0];
    assert_eq!(gap["file"], "log.10000004e");
    assert_eq!(gap["why"], "transaction 0x10000004e follows 0x100000025: what is between them is missing");
    assert_eq!(of_kind(&all, "decision")[0]["outcome"], "refuses");
    assert_eq!(of_kind(&all, "decision")[0]["last_good_zxid"], "0x100000025");

    // What a leader's snapshot brought was never in the log of a member that it was sent to.
    std::fs::write(directory.path().join("snapshot.10000004d"), b"").unwrap();
    let (verdict, all) = rk_json(&["log", "verify"], directory.path());
    assert_eq!((verdict, of_kind(&all, "damage").len()), (Verdict::Fine, 0), "{all:?}");
    let note = "transaction 0x10000004e follows 0x100000025: what is between them snapshot.10000004d has";
    assert_eq!(of_kind(&all, "note")[0]["note"], note);
    assert_eq!(of_kind(&all, "decision")[0]["last_good_zxid"], "0x10000006c");

    // A record whose content was changed, in the middle of a file.
    damage(&directory.path().join("log.100000064"), |bytes| bytes[420] ^= 1);
    let (_, all) = rk_json(&["log", "verify"], &directory.path().join("log.100000064"));
    let changed = of_kind(&all, "damage")[0];
    assert_eq!((&changed["at"], &changed["why"]), (&json!(416), &json!("CRC check failed")));
    assert_eq!(changed["followed_by"]["records"], 3);
    assert_eq!(of_kind(&all, "record").len(), 0);
}

#[test]
fn a_log_is_chopped_for_good_and_only_when_told() {
    let directory = tempfile::tempdir().unwrap();
    drop(lived_in(directory.path()));
    let (verdict, text) = rk(&["log", "chop", "--to", "0x14"], directory.path()).unwrap();
    assert_eq!(verdict, Verdict::Fine);
    assert!(text.starts_with("would give up everything behind 0x14, up to 0x1f; nothing was changed"), "{text}");
    let last = || of_kind(&rk_json(&["verify-dir"], directory.path()).1, "decision")[0]["last_zxid"].clone();
    assert_eq!(last(), "0x1f");
    let refused = rk(&["log", "chop", "--to", "0x77", "--yes"], directory.path()).unwrap_err().to_string();
    assert_eq!(refused, "the log ends with 0x1f, before 0x77");
    let (_, text) = rk(&["log", "chop", "--to", "0x14", "--yes"], directory.path()).unwrap();
    assert_eq!(text, "the last transaction is 0x14 now; what was behind it, up to 0x1f, is given up\n");
    assert_eq!(last(), "0x14");
    assert_eq!(rk(&["verify-dir"], directory.path()).unwrap().0, Verdict::Fine);
}

#[test]
fn what_is_damaged_is_chopped_off() {
    let directory = tempfile::tempdir().unwrap();
    drop(lived_in(directory.path()));
    let (_, before) = rk_json(&["log", "dump"], directory.path());
    let batches = of_kind(&before, "batch");
    let harmed = batches[batches.len() - 4];
    assert!(
        harmed["at"].as_u64() < batches[batches.len() - 1]["at"].as_u64(),
        "the last four share a file: {batches:?}"
    );
    let (_, whole) = rk_json(&["log", "verify"], directory.path());
    let log = directory.path().join(DIRECTORY).join(of_kind(&whole, "decision")[0]["file"].as_str().unwrap());
    damage(&log, |bytes| bytes[harmed["at"].as_u64().unwrap() as usize + 100] ^= 1);
    let refuses = || of_kind(&rk_json(&["verify-dir"], directory.path()).1, "decision")[0]["refuses"].clone();
    let why = refuses().as_str().unwrap().to_owned();
    let (_, cure) = why.split_once("`rk log chop DATADIR --to ").unwrap();
    let to = cure.split_once('`').unwrap().0;
    let before = fs::read(&log).unwrap();
    let (_, text) = rk(&["log", "chop", "--to", to], directory.path()).unwrap();
    assert!(
        text.starts_with(&why)
            && text.contains(&format!("would give up everything behind {to}, up to 0x1f at least, the damage with it")),
        "{text}"
    );
    let refused = rk(&["log", "chop", "--to", "0x77", "--yes"], directory.path()).unwrap_err().to_string();
    assert_eq!(refused, format!("the log ends with {to}, before 0x77: {why}"));
    assert_eq!(fs::read(&log).unwrap(), before);
    assert!(text.contains(", up to 0x1f at least"), "{text}");
    let (_, text) = rk(&["log", "chop", "--to", to, "--yes"], directory.path()).unwrap();
    assert!(text.starts_with(&format!("the last transaction is {to} now; ")), "{text}");
    assert_eq!(rk(&["verify-dir"], directory.path()).unwrap().0, Verdict::Fine);
    assert_eq!(refuses(), Value::Null);
}
