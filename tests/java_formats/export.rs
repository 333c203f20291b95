//! Our state written for Java, and read back by what reads Java's own files: the same nodes, sessions, log.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ringkeeper::java::export::{self, ExportError, Exported, Options};
use ringkeeper::java::{JavaDirs, LoadOptions, import, load};
use ringkeeper_storage::backend::blocking::BlockingDisk;
use ringkeeper_storage::disk::Disk;
use ringkeeper_storage::java::{Epochs, ExportTarget, JavaDirectory, Sections, Strictness};
use ringkeeper_storage::{StoreConfig, Zxid, open};

use crate::expected;
use crate::sample::Sample;

const NAMES: [&str; 5] =
    ["3.9.3-member", "3.9.3-after-trunc", "3.9.3-no-digest", "3.8.0-standalone", "3.9.3-stale-log-below-snapshot"];

fn config(directory: &Path) -> StoreConfig {
    StoreConfig { segment_bytes: 1 << 20, batch_bytes_max: 64 << 10, ..StoreConfig::new(directory, directory) }
}

fn options(to: &Path) -> Options {
    Options {
        target: ExportTarget { data_dir: to.to_owned(), log_dir: to.to_owned(), replace: false },
        sections: Sections::All,
        snapshot_only: false,
        my_id: None,
    }
}

fn export(ours: &Path, options: Options) -> Result<Exported, ExportError> {
    export::export(&mut open(config(ours)).unwrap(), ours, options, &mut |_| {})
}

/// Every transaction behind `from`, byte for byte.
fn entries(directory: &mut JavaDirectory, from: Zxid) -> Vec<(Zxid, Vec<u8>)> {
    let mut entries = Vec::new();
    let take = |zxid, entry: &[u8]| {
        entries.push((zxid, entry.to_vec()));
        Ok(())
    };
    directory.replay(from, Strictness::Strict, take).unwrap();
    entries
}

/// Java's files as ours: its snapshot `from` as our snapshot, its transactions behind it as our log.
fn ours(sample: &Sample, from: Zxid) -> tempfile::TempDir {
    let (to, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(state.path().join("version-2")).unwrap();
    let name = format!("snapshot.{:x}", from.0);
    fs::copy(sample.file(&name), state.path().join("version-2").join(&name)).unwrap();
    let dirs = JavaDirs { data: state.path().to_owned(), log: state.path().to_owned() };
    let read = import::read(&dirs, &LoadOptions::default(), &mut |_| {}).unwrap();
    let (opened, _) =
        import::install(open(config(to.path())).unwrap(), &config(to.path()), read, Instant::now()).unwrap();
    let entries = entries(&mut sample.directory(), from);
    // On a disk that answers at once.
    drop(opened);
    let opened = ringkeeper_storage::open_on(BlockingDisk::default(), config(to.path())).unwrap();
    let (mut store, mut disk) = opened.into_store_and_disk().unwrap();
    for (zxid, entry) in &entries {
        store.append(*zxid, entry);
    }
    let (mut ops, mut events) = (Vec::new(), Vec::new());
    loop {
        store.poll_ops(&mut ops);
        if ops.is_empty() {
            break;
        }
        for op in ops.drain(..) {
            store.on_event(disk.run(op), &mut events);
        }
    }
    assert!(store.is_idle());
    to
}

fn assert_exported(to: &Path, name: &str) -> JavaDirectory {
    let mut directory = JavaDirectory::open(BlockingDisk::default(), to, to).unwrap();
    let loaded = load(&mut directory, &LoadOptions::default(), &mut |_| {}).unwrap();
    let expected = expected::read(&expected::data(name).join("expected.json"));
    expected::assert_tree(&loaded.tree, &expected, |_, _| true);
    assert_eq!(loaded.sessions, expected::sessions(&expected));
    assert_eq!(loaded.report.notes, Vec::<String>::new());
    directory
}

#[test]
fn what_java_had_goes_back_to_java() {
    for name in NAMES {
        let sample = Sample::new(name);
        let (ours, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let dirs = JavaDirs { data: sample.path().to_owned(), log: sample.path().to_owned() };
        let read = import::read(&dirs, &LoadOptions::default(), &mut |_| {}).unwrap();
        drop(import::install(open(config(ours.path())).unwrap(), &config(ours.path()), read, Instant::now()).unwrap());
        let exported = export(ours.path(), options(to.path())).unwrap();
        let directory = assert_exported(to.path(), name);
        assert_eq!((exported.records, directory.logs().len(), directory.snapshots().len()), (0, 0, 1));
    }
}

#[test]
fn the_log_behind_our_snapshot_goes_along_byte_for_byte() {
    let from = Zxid(0x1_0000_004c);
    let sample = Sample::new("3.9.3-member");
    let (ours, to) = (ours(&sample, from), tempfile::tempdir().unwrap());
    let exported = export(ours.path(), options(to.path())).unwrap();
    assert_eq!((exported.snapshot, exported.last, exported.records), (from, Zxid(0x1_0000_006c), 32));
    let mut directory = assert_exported(to.path(), "3.9.3-member");
    assert_eq!(directory.logs()[0].path, to.path().join("version-2/log.10000004d"));
    assert_eq!(entries(&mut directory, from), entries(&mut sample.directory(), from));
    assert_eq!(directory.epochs(exported.last).unwrap(), Epochs { current: 1, accepted: 1, stored: true });
    // The present state alone, in a log directory of its own, for a reader of old, with epochs that say more.
    let (to, logs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut options = options(to.path());
    options.target.log_dir = logs.path().to_owned();
    options.snapshot_only = true;
    options.sections = Sections::NodesOnly;
    open(config(ours.path())).unwrap().store_epochs(ringkeeper_storage::Epochs { current: 3, accepted: 4 }).unwrap();
    let exported = export(ours.path(), options).unwrap();
    assert_eq!((exported.snapshot, exported.records), (Zxid(0x1_0000_006c), 0));
    let mut directory = assert_exported(to.path(), "3.9.3-member");
    assert_eq!(directory.epochs(exported.last).unwrap(), Epochs { current: 3, accepted: 4, stored: true });
    assert!(logs.path().join("version-2").is_dir());
}

#[test]
fn sections_are_those_the_reader_knows_and_bytes_are_as_specified() {
    let sample = Sample::new("3.9.3-member");
    let ours = ours(&sample, Zxid(0));
    let mut lengths = Vec::new();
    for sections in [Sections::NodesOnly, Sections::Digest, Sections::All] {
        let to = tempfile::tempdir().unwrap();
        let options = Options { sections, snapshot_only: true, ..options(to.path()) };
        export(ours.path(), options).unwrap();
        let bytes = fs::read(to.path().join("version-2/snapshot.10000006c")).unwrap();
        assert!(
            bytes.starts_with(b"ZKSN\0\0\0\x02\xff\xff\xff\xff\xff\xff\xff\xff") && bytes.ends_with(b"\0\0\0\x01/")
        );
        lengths.push(bytes.len());
    }
    // E and its seal, F and its seal.
    assert_eq!((lengths[1] - lengths[0], lengths[2] - lengths[1]), (20 + 13, 8 + 13));
}

#[test]
fn one_directory_by_two_names_gets_one_export() {
    let sample = Sample::new("3.9.3-member");
    let (ours, to) = (ours(&sample, Zxid(0x1_0000_004c)), tempfile::tempdir().unwrap());
    let by_another_name = to.path().join("log");
    std::os::unix::fs::symlink(".", &by_another_name).unwrap();
    let mut options = options(to.path());
    options.target.log_dir = by_another_name;
    assert_eq!(export(ours.path(), options).unwrap().set_aside, Vec::<PathBuf>::new());
    assert_exported(to.path(), "3.9.3-member");
}

#[test]
fn an_export_cut_short_is_invisible_and_begins_anew() {
    let sample = Sample::new("3.9.3-member");
    let (ours, to) = (ours(&sample, Zxid(0x1_0000_004c)), tempfile::tempdir().unwrap());
    let unfinished: PathBuf = to.path().join("version-2.exporting");
    fs::create_dir(&unfinished).unwrap();
    fs::write(unfinished.join("snapshot.ffffffff"), b"half of it").unwrap();
    assert!(!to.path().join("version-2").exists());
    export(ours.path(), options(to.path())).unwrap();
    assert!(!unfinished.exists());
    let directory = assert_exported(to.path(), "3.9.3-member");
    assert_eq!(directory.snapshots().len(), 1);
    let refused = export(ours.path(), options(to.path())).unwrap_err();
    assert!(refused.to_string().contains("is not empty"), "{refused}");
    assert_exported(to.path(), "3.9.3-member");
}

/// Logs in a directory of their own cannot change places in the same step as snapshots.
#[test]
fn what_is_replaced_goes_aside_whole() {
    let sample = Sample::new("3.9.3-member");
    let (ours, to) = (ours(&sample, Zxid(0x1_0000_004c)), tempfile::tempdir().unwrap());
    let (data, log) = (to.path().join("data"), to.path().join("log"));
    let mut options = options(&data);
    options.target.log_dir = log.clone();
    export(ours.path(), options.clone()).unwrap();
    options.target.replace = true;
    for (number, snapshot_only) in [(1, false), (2, true), (3, false)] {
        let stray = format!("stray-{number}");
        for directory in [&data, &log] {
            fs::write(directory.join("version-2").join(&stray), b"").unwrap();
        }
        options.snapshot_only = snapshot_only;
        let exported = export(ours.path(), options.clone()).unwrap();
        let aside = [&data, &log].map(|directory| directory.join(format!("version-2.replaced-{number}")));
        assert_eq!(exported.set_aside, aside);
        for (directory, aside) in [&data, &log].into_iter().zip(&aside) {
            assert!(aside.join(&stray).exists() && !directory.join("version-2").join(&stray).exists());
            assert!(!directory.join("version-2.exporting").exists());
        }
        assert_eq!(fs::read_dir(log.join("version-2")).unwrap().count(), usize::from(!snapshot_only));
        assert_eq!(fs::read_dir(data.join("version-2")).unwrap().count(), 3, "a snapshot and two epochs");
    }
}
