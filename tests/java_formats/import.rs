//! A Java directory taken over: the same state out of our own files, sessions with it, the source untouched.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ringkeeper::core::replay::Recovered;
use ringkeeper::java::export::{self, Options};
use ringkeeper::java::import::{self, Imported};
use ringkeeper::java::ours::{self, OursError};
use ringkeeper::java::seen::{self, Seen, SeenError};
use ringkeeper::java::{ImportError, JavaDirs, LoadOptions};
use ringkeeper::shell::java_data::take_over;
use ringkeeper_storage::java::{ExportTarget, Sections};
use ringkeeper_storage::{Epochs, Opened, Standing, StoreConfig, Zxid, open, set_aside};

use crate::expected;
use crate::sample::Sample;

fn config(directory: &Path) -> StoreConfig {
    StoreConfig { segment_bytes: 1 << 20, batch_bytes_max: 64 << 10, ..StoreConfig::new(directory, directory) }
}

fn dirs(directory: &Path) -> JavaDirs {
    JavaDirs { data: directory.to_owned(), log: directory.to_owned() }
}

fn import(from: &Path, to: &Path) -> Result<(Opened, Imported), ImportError> {
    let read = import::read(&dirs(from), &LoadOptions::default(), &mut |_| {})?;
    import::install(open(config(to))?, &config(to), read, Instant::now())
}

fn recover(opened: &mut Opened) -> Recovered {
    let mut replay = ours::snapshot(opened).unwrap();
    ours::replay(opened, &mut replay, |_, _| Ok::<_, OursError>(())).unwrap();
    replay.finish()
}

/// Every file of Java's, with its bytes.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(directory.join("version-2")).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

#[test]
fn what_is_imported_is_what_java_had() {
    for name in
        ["3.9.3-member", "3.9.3-after-trunc", "3.9.3-no-digest", "3.8.0-standalone", "3.9.3-stale-log-below-snapshot"]
    {
        let sample = Sample::new(name);
        let before = files(sample.path());
        let (opened, imported) = import(sample.path(), sample.path()).unwrap_or_else(|why| panic!("{name}: {why}"));
        let expected = expected::read(&expected::data(name).join("expected.json"));
        assert_eq!(imported.nodes, expected["nodes"].as_array().unwrap().len() as u64);
        let told = imported.loaded.notes.iter().any(|note| note.contains("extendedTypesEnabled"));
        assert_eq!(told, !expected["ttls"].as_array().unwrap().is_empty(), "{:?}", imported.loaded.notes);
        drop(opened);
        let mut opened = open(config(sample.path())).unwrap();
        let recovered = recover(&mut opened);
        expected::assert_tree(&recovered.tree, &expected, |_, _| true);
        assert_eq!(recovered.sessions, expected::sessions(&expected));
        assert_eq!(opened.report().last_zxid, imported.loaded.last);
        assert_eq!(opened.epochs().unwrap(), imported.epochs.ours());
        assert_eq!(files(sample.path()), before);
        // A second start sees that nothing has changed, and a second import that there is something.
        seen::check(&dirs(sample.path()), imported.loaded.last).unwrap();
        drop(opened);
        let refused = import(sample.path(), sample.path()).map(|_| ()).unwrap_err();
        assert!(matches!(refused, ImportError::NotFresh { .. }), "{refused}");
    }
}

/// A state that is here without what was promised for it could break the promise.
#[test]
fn what_java_promised_is_stored_before_the_state_is() {
    let sample = Sample::new("3.9.3-member");
    sample.write("acceptedEpoch", b"7");
    sample.write("currentEpoch", b"6");
    let to = tempfile::tempdir().unwrap();
    // In the way of the promise, and of nothing else.
    let in_the_way = to.path().join("ringkeeper-1/currentEpoch");
    std::fs::create_dir_all(in_the_way.join("directory")).unwrap();
    let refused = import(sample.path(), to.path()).map(|_| ()).unwrap_err();
    assert!(refused.to_string().contains("currentEpoch"), "{refused}");
    assert!(open(config(to.path())).unwrap().is_fresh());
    std::fs::remove_dir_all(in_the_way).unwrap();
    drop(import(sample.path(), to.path()).unwrap());
    let epochs = || open(config(to.path())).unwrap().epochs().unwrap();
    assert_eq!(epochs(), Epochs { accepted: 7, current: 6 });

    // What was promised here counts, too, and so does what an import that was cut short has left: nobody can tell the two apart.
    let standalone = Sample::new("3.8.0-standalone");
    let snapshot = |entry: &PathBuf| entry.file_name().unwrap().to_string_lossy().ends_with(".rks");
    let entries = std::fs::read_dir(to.path().join("ringkeeper-1")).unwrap().map(|entry| entry.unwrap().path());
    let snapshots: Vec<_> = entries.filter(snapshot).collect();
    assert_eq!(snapshots.len(), 1);
    snapshots.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    let (_, imported) = import(standalone.path(), to.path()).unwrap();
    assert!(!imported.epochs.stored);
    assert_eq!(epochs(), Epochs { accepted: 7, ..imported.epochs.ours() });
    // Where nobody promised anything the log says it.
    let elsewhere = tempfile::tempdir().unwrap();
    drop(import(standalone.path(), elsewhere.path()).unwrap());
    assert!(!elsewhere.path().join("ringkeeper-1/acceptedEpoch").exists());
}

#[test]
fn what_cannot_be_verified_leaves_nothing_behind() {
    let sample = Sample::new("3.9.3-member");
    sample.change("log.100000064", |bytes| bytes[40] ^= 1);
    let refused = import(sample.path(), sample.path()).map(|_| ()).unwrap_err();
    assert!(refused.to_string().contains("CRC check failed"), "{refused}");
    assert!(open(config(sample.path())).unwrap().is_fresh());
    let elsewhere = tempfile::tempdir().unwrap();
    let nothing = import(elsewhere.path(), elsewhere.path()).map(|_| ()).unwrap_err();
    assert!(matches!(nothing, ImportError::Nothing { .. }), "{nothing}");
}

/// dataDir and dataLogDir may be one directory by two names, and a file may lie on another disk behind a link.
#[test]
fn links_lead_to_the_same_data() {
    let (sample, elsewhere) = (Sample::new("3.9.3-member"), tempfile::tempdir().unwrap());
    let (data, log) = (sample.path().to_owned(), sample.path().join("log"));
    std::os::unix::fs::symlink(".", &log).unwrap();
    let moved = elsewhere.path().join("log");
    std::fs::copy(sample.file("log.100000064"), &moved).unwrap();
    std::fs::remove_file(sample.file("log.100000064")).unwrap();
    std::os::unix::fs::symlink(&moved, sample.file("log.100000064")).unwrap();
    let dirs = JavaDirs { data: data.clone(), log: log.clone() };
    let config = StoreConfig { data_log_dir: log.clone(), ..config(&data) };
    let import = || {
        let read = import::read(&dirs, &LoadOptions::default(), &mut |_| {})?;
        import::install(open(config.clone())?, &config, read, Instant::now())
    };
    let (opened, imported) = import().unwrap();
    assert_eq!(imported.loaded.last, Zxid(0x1_0000_006c));
    drop(opened);
    seen::check(&dirs, imported.loaded.last).unwrap();
    assert_eq!(set_aside(&data, &log, false).unwrap(), [data.join("ringkeeper-1.replaced-1")]);
    // What is behind the link is needed.
    std::fs::remove_file(moved).unwrap();
    let refused = import().map(|_| ()).unwrap_err();
    assert!(refused.to_string().contains("log.100000064"), "{refused}");
}

/// What it stored before the state would pass for a history of a server that has none.
#[test]
fn an_import_that_was_cut_short_has_to_be_completed() {
    let sample = Sample::new("3.9.3-member");
    let dirs = dirs(sample.path());
    seen::check_begun(&dirs).unwrap();
    drop(import(sample.path(), sample.path()).unwrap());
    let (ours, java) = (sample.path().join("ringkeeper-1"), sample.path().join("version-2"));
    for entry in std::fs::read_dir(&ours).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if !name.ends_with("Epoch") && !name.ends_with(".seen") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    let opened = open(config(sample.path())).unwrap();
    assert!(opened.is_fresh() && opened.standing() == Standing::Whole, "as if it had nothing to lose");
    std::fs::rename(&java, java.with_extension("away")).unwrap();
    let refused = seen::check_begun(&dirs).unwrap_err();
    assert!(matches!(&refused, SeenError::Unfinished { zxid, .. } if *zxid == Zxid(0x1_0000_006c)), "{refused}");
}

/// `TxnLogToolkit` leaves such copies beside the original, and they sort behind it.
#[test]
fn two_logs_of_one_number_are_refused() {
    let log = "log.100000064";
    let sample = Sample::new("3.9.3-member");
    let (whole, places) = (std::fs::read(sample.file(log)).unwrap(), sample.records(log));
    sample.write(&format!("{log}.chopped4294967400"), &whole[..places[places.len() - 3]]);
    let refused = import(sample.path(), sample.path()).map(|_| ()).unwrap_err();
    assert!(refused.to_string().contains("two logs of one number"), "{refused}");
}

#[test]
fn a_java_server_that_went_on_is_noticed() {
    let log = "log.100000064";
    let sample = Sample::new("3.9.3-member");
    let whole = std::fs::read(sample.file(log)).unwrap();
    let places = sample.records(log);
    let last = places[places.len() - 2];
    // Imported before its last transaction.
    sample.change(log, |bytes| bytes[last..].fill(0));
    let (opened, imported) = import(sample.path(), sample.path()).unwrap();
    drop(opened);
    assert_eq!(imported.loaded.last, Zxid(0x1_0000_006b));
    let check = || seen::check(&dirs(sample.path()), Zxid(0x1_0000_0080));
    check().unwrap();
    // Copied, or started and stopped: other times, the same transactions.
    sample.change(log, |_| {});
    check().unwrap();
    check().unwrap();
    sample.write(log, &whole);
    let refused = check().unwrap_err();
    let SeenError::JavaRan { java_zxid, seen_zxid, our_zxid, .. } = &refused else { panic!("{refused}") };
    assert_eq!((*java_zxid, *seen_zxid, *our_zxid), (Zxid(0x1_0000_006c), Zxid(0x1_0000_006b), Zxid(0x1_0000_0080)));
    let text = refused.to_string();
    for part in ["0x10000006c", "0x10000006b", "0x100000080", "rk import --replace", "mv "] {
        assert!(text.contains(part), "{part} in {text}");
    }
    // A promise alone counts too: Java has followed a leader that we know nothing of.
    sample.change(log, |bytes| bytes[last..].fill(0));
    check().unwrap();
    sample.write("acceptedEpoch", b"7");
    assert!(check().unwrap_err().to_string().contains("epoch 7"));
    // With Java's data out of the way there is nothing to choose.
    std::fs::rename(sample.path().join("version-2"), sample.path().join("version-2.old")).unwrap();
    check().unwrap();
}

/// A disk that is not mounted, or a directory that was deleted: what lies beside it is from the day of the migration.
#[test]
fn an_old_state_is_not_taken_over_again_when_ours_is_gone() {
    let log = "log.100000064";
    let sample = Sample::new("3.9.3-member");
    let (ours, java) = (sample.path().join("ringkeeper-1"), sample.path().join("version-2"));
    let start =
        || take_over(open(config(sample.path())).unwrap(), &config(sample.path())).map(|opened| opened.is_fresh());
    let whole = std::fs::read(sample.file(log)).unwrap();
    let places = sample.records(log);
    sample.change(log, |bytes| bytes[places[places.len() - 2]..].fill(0));
    for _ in 0..2 {
        assert!(!start().unwrap());
    }
    let gone = |to: &str| std::fs::rename(&ours, sample.path().join(to)).unwrap();
    gone("away");
    for _ in 0..2 {
        let refused = start().unwrap_err().to_string();
        for part in ["0x10000006b", "is its disk mounted", "rk import", "mv "] {
            assert!(refused.contains(part), "{part} in {refused}");
        }
    }
    // It comes back.
    std::fs::remove_dir_all(&ours).unwrap();
    std::fs::rename(sample.path().join("away"), &ours).unwrap();
    assert!(!start().unwrap());
    // Somebody decides for the old state. The next start has gone on from that again.
    gone("away-2");
    drop(import(sample.path(), sample.path()).unwrap());
    assert!(!start().unwrap());
    gone("away-3");
    assert!(start().is_err());
    // Java has gone on, too.
    std::fs::remove_dir_all(&ours).unwrap();
    sample.write(log, &whole);
    assert!(!start().unwrap());
    // Java's data may be away for a while, and ours.
    std::fs::rename(&java, java.with_extension("away")).unwrap();
    assert!(!start().unwrap());
    std::fs::remove_dir_all(&ours).unwrap();
    assert!(start().unwrap(), "nothing is left to be confused with");
    std::fs::remove_dir_all(&ours).unwrap();
    std::fs::rename(java.with_extension("away"), &java).unwrap();
    assert!(start().is_err());
    // Nor does damage to the old state lead astray.
    sample.change(log, |bytes| bytes[40] ^= 1);
    let refused = start().unwrap_err().to_string();
    assert!(refused.contains("is its disk mounted"), "{refused}");
}

/// Killed between the directory that goes and the one that comes.
#[test]
fn a_promise_outlives_a_replacement_that_was_cut_short() {
    let sample = Sample::new("3.9.3-member");
    drop(import(sample.path(), sample.path()).unwrap());
    open(config(sample.path())).unwrap().store_epochs(Epochs { accepted: 9, current: 2 }).unwrap();
    for _ in 0..2 {
        set_aside(sample.path(), sample.path(), false).unwrap();
    }
    let (opened, imported) = import(sample.path(), sample.path()).unwrap();
    assert_eq!(imported.epochs.accepted, 9);
    drop(opened);
    assert_eq!(open(config(sample.path())).unwrap().epochs().unwrap(), Epochs { accepted: 9, current: 2 });
    assert!(!sample.path().join("ringkeeper-1.promised").exists());
    // One that nobody can read is not forgotten without a word.
    std::fs::write(sample.path().join("ringkeeper-1/acceptedEpoch"), "nine").unwrap();
    let refused = set_aside(sample.path(), sample.path(), false).unwrap_err().to_string();
    assert!(refused.contains("acceptedEpoch"), "{refused}");
    set_aside(sample.path(), sample.path(), true).unwrap();
}

/// What an export was about to put in place is not what is there.
#[test]
fn an_export_that_was_cut_short_hides_nothing_of_java() {
    let log = "log.100000064";
    let sample = Sample::new("3.9.3-member");
    let whole = std::fs::read(sample.file(log)).unwrap();
    let places = sample.records(log);
    sample.change(log, |bytes| bytes[places[places.len() - 2]..].fill(0));
    drop(import(sample.path(), sample.path()).unwrap());
    let next = Seen { zxid: Zxid(0x1_0000_0080), epoch: 2, newest: vec!["snapshot.100000080 1 2".into()] };
    seen::write_next(sample.path(), &next).unwrap();
    sample.write(log, &whole);
    let check = || seen::check(&dirs(sample.path()), Zxid(0x1_0000_0080));
    assert!(matches!(check().unwrap_err(), SeenError::JavaRan { .. }));
    // It is in place, and nobody has said so yet.
    let looks = Seen::of(&dirs(sample.path()).open().unwrap());
    seen::write_next(sample.path(), &Seen { newest: looks.newest, ..next }).unwrap();
    assert_eq!(check().unwrap().unwrap().zxid, Zxid(0x1_0000_0080));
}

/// A server that was killed twice leaves a log without records behind those that it wrote.
#[test]
fn what_java_wrote_is_looked_for_behind_a_log_without_records() {
    let log = "log.100000064";
    let sample = Sample::new("3.9.3-member");
    let whole = std::fs::read(sample.file(log)).unwrap();
    sample.remove(log);
    drop(import(sample.path(), sample.path()).unwrap());
    sample.write(log, &whole).write("log.10000006d", &whole[..16]);
    let refused = seen::check(&dirs(sample.path()), Zxid(0x1_0000_0080)).unwrap_err();
    assert!(matches!(&refused, SeenError::JavaRan { java_zxid: Zxid(0x1_0000_006c), .. }), "{refused}");
}

/// An export brings `version-2` up to date: it may be taken over again until ours goes on.
#[test]
fn an_export_is_not_superseded() {
    let sample = Sample::new("3.9.3-member");
    let start =
        || take_over(open(config(sample.path())).unwrap(), &config(sample.path())).map(|opened| opened.is_fresh());
    assert!(!start().unwrap());
    let target = ExportTarget { data_dir: sample.path().into(), log_dir: sample.path().into(), replace: true };
    let options = Options { target, sections: Sections::All, snapshot_only: false, my_id: None };
    let exported =
        export::export(&mut open(config(sample.path())).unwrap(), sample.path(), options, &mut |_| {}).unwrap();
    assert_eq!(exported.set_aside, [sample.path().join("version-2.replaced-1")]);
    std::fs::remove_dir_all(sample.path().join("ringkeeper-1")).unwrap();
    assert!(!start().unwrap());
    std::fs::remove_dir_all(sample.path().join("ringkeeper-1")).unwrap();
    assert!(start().is_err());
}
