//! Damaged directories: what a crash may leave is read, what cannot have been left by one is refused, and what is refused can
//! be forced.

use ringkeeper_storage::Zxid;

use crate::expected;
use crate::sample::Sample;

const SERVER: &str = "3.8.0-standalone";
const LAST_LOG: &str = "log.22";

fn assert_torn(sample: &Sample, note: &str) {
    let loaded = sample.load();
    let expected = expected::read(&expected::data(SERVER).join("expected-torn.json"));
    expected::assert_tree(&loaded.tree, &expected, |_, _| true);
    assert_eq!(loaded.sessions, expected::sessions(&expected));
    assert_eq!(loaded.report.last, Zxid(0x21));
    assert_eq!(loaded.report.digest_verified_at, Some(Zxid(0x21)));
    match note {
        "" => assert_eq!(loaded.report.notes, Vec::<String>::new()),
        _ => assert!(
            loaded.report.notes.len() == 1 && loaded.report.notes[0].contains(note),
            "{:?}",
            loaded.report.notes
        ),
    }
}

#[test]
fn a_last_record_cut_anywhere_was_never_there() {
    let sample = Sample::new(SERVER);
    let whole = std::fs::read(sample.file(LAST_LOG)).unwrap();
    let end = *sample.records(LAST_LOG).last().unwrap();
    for cut in 1..end {
        let note = match cut {
            1..16 => "header is cut short",
            16 => "",
            // Nothing but the checksum's upper half, which is zero.
            17..=20 => "",
            _ => "a record is cut short",
        };
        sample.write(LAST_LOG, &whole[..cut]);
        assert_torn(&sample, note);
    }
    sample.write(LAST_LOG, b"");
    assert_torn(&sample, "empty file");
}

#[test]
fn a_last_record_whose_end_is_padding_was_never_there() {
    let sample = Sample::new(SERVER);
    let whole = std::fs::read(sample.file(LAST_LOG)).unwrap();
    let end = *sample.records(LAST_LOG).last().unwrap();
    for kept in 16..end {
        let mut torn = whole.clone();
        torn[kept..end].fill(0);
        sample.write(LAST_LOG, &torn);
        let note = match kept {
            16..=20 => "",
            // The checksum is there, of the length nothing but zeroes.
            21..=27 => "zeroes where a record should be",
            _ => "a record has no end byte",
        };
        assert_torn(&sample, note);
    }
}

#[test]
fn a_whole_record_with_a_flipped_bit_is_damage() {
    let sample = Sample::new(SERVER);
    let end = *sample.records(LAST_LOG).last().unwrap();
    for at in (16..24).chain(28..end - 1) {
        let bit = 1 << (at % 8);
        sample.change(LAST_LOG, |bytes| bytes[at] ^= bit);
        let why = sample.refusal();
        assert!(why.contains("log.22: damaged at byte 16: CRC check failed") && why.contains("0x21"), "{why}");
        sample.change(LAST_LOG, |bytes| bytes[at] ^= bit);
    }
    sample.change(LAST_LOG, |bytes| bytes[40] ^= 1);
    let forced = sample.load_forced();
    assert_eq!(forced.report.last, Zxid(0x21));
    assert!(forced.report.notes[0].contains("CRC check failed"), "{:?}", forced.report.notes);
}

#[test]
fn a_record_that_is_gone_before_others_is_damage() {
    // All behind the newest snapshot, in the newest file.
    let sample = Sample::new("3.9.3-member");
    let log = "log.100000064";
    let places = sample.records(log);
    assert!(places.len() > 3);
    for pair in places.windows(2).take(places.len() - 2) {
        for gone in [pair[0]..pair[1], pair[0] + 8..pair[0] + 12, pair[1] - 1..pair[1]] {
            let sample = Sample::new("3.9.3-member");
            sample.change(log, |bytes| bytes[gone.clone()].fill(0));
            let why = sample.refusal();
            assert!(why.contains("whole records behind it") && why.contains(&format!("byte {}", pair[0])), "{why}");
        }
    }
    sample.change(log, |bytes| bytes[places[0] + 8] = 0x80);
    assert!(sample.refusal().contains("negative length"));
}

#[test]
fn a_torn_file_before_others_is_damage_unless_the_next_goes_on_where_it_ended() {
    let log = "log.10000004e";
    let cut_last = |sample: &Sample| {
        let places = sample.records(log);
        let (at, end) = (places[places.len() - 2], places[places.len() - 1]);
        sample.change(log, |bytes| bytes[end - 1] = 0);
        at
    };
    let sample = Sample::new("3.9.3-member");
    let at = cut_last(&sample);
    let why = sample.refusal();
    assert!(
        why.contains("log.10000004e") && why.contains(&format!("byte {at}")) && why.contains("no end byte"),
        "{why}"
    );
    // Killed in the middle of a write, started again, the same zxid once more: nothing is missing.
    let sample = Sample::new("3.9.3-member");
    let whole = std::fs::read(sample.file(log)).unwrap();
    let end = *sample.records(log).last().unwrap();
    sample.change(log, |bytes| bytes[end..end + 30].copy_from_slice(&whole[16..46]));
    let loaded = sample.load();
    expected::assert_tree(
        &loaded.tree,
        &expected::read(&expected::data("3.9.3-member").join("expected.json")),
        |_, _| true,
    );
}

#[test]
fn a_missing_log_is_a_gap() {
    let sample = Sample::new("3.9.3-member");
    sample.remove("snapshot.10000004c").remove("log.10000004e");
    let why = sample.refusal();
    assert!(why.contains("log.100000064: transaction 0x100000064 follows 0x10000004d"), "{why}");
    let forced = sample.load_forced();
    assert_eq!(forced.report.last, Zxid(0x1_0000_006c));
    assert!(forced.report.notes.iter().any(|note| note.contains("what is between them is missing")));
    assert!(forced.report.notes.iter().any(|note| note.contains("digest")), "{:?}", forced.report.notes);
}

#[test]
fn a_damaged_snapshot_is_passed_over_when_the_logs_reach_far_enough() {
    let newest = "snapshot.10000004c";
    let bytes = std::fs::metadata(Sample::new("3.9.3-member").file(newest)).unwrap().len() as usize;
    for at in (0..bytes).step_by(61) {
        let sample = Sample::new("3.9.3-member");
        sample.change(newest, |bytes| bytes[at] ^= 0x10);
        let loaded = sample.load();
        let expected = expected::read(&expected::data("3.9.3-member").join("expected.json"));
        expected::assert_tree(&loaded.tree, &expected, |_, _| true);
        assert_eq!(loaded.report.snapshot, Zxid(0x1_0000_0024), "byte {at}");
        assert!(loaded.report.notes[0].contains(newest), "{:?}", loaded.report.notes);
    }
    for cut in (0..bytes).step_by(97) {
        let sample = Sample::new("3.9.3-member");
        sample.change(newest, |bytes| bytes.truncate(cut));
        let is_whole_for_older_readers = sample.load().report.snapshot == Zxid(0x1_0000_004c);
        assert!(!is_whole_for_older_readers, "cut to {cut}");
    }
}

#[test]
fn packed_snapshots_are_checked_to_their_last_byte() {
    for packing in ["gz", "snappy"] {
        let sample = Sample::new("3.9.3-packed");
        let name = format!("snapshot.10000006c.{packing}");
        for other in ["", ".gz", ".snappy"].map(|other| format!("snapshot.10000006c{other}")) {
            if other != name {
                sample.remove(&other);
            }
        }
        let whole = std::fs::read(sample.file(&name)).unwrap();
        for cut in 0..whole.len() {
            sample.write(&name, &whole[..cut]);
            let why = sample.refusal();
            assert!(why.contains("none of the 1 snapshots can be read") && why.contains(&name), "{cut}: {why}");
        }
    }
}

#[test]
fn a_wrong_digest_is_not_taken_for_the_state() {
    let sample = Sample::new("3.9.3-packed");
    sample.remove("snapshot.10000006c.gz").remove("snapshot.10000006c.snappy");
    // A node's data, and the seals made right again: only the digest can tell.
    sample.change("snapshot.10000006c", |bytes| {
        let at = bytes.windows(6).position(|window| window == b"/plain").unwrap() + 10;
        bytes[at] ^= 1;
        reseal(bytes);
    });
    let why = sample.refusal();
    assert!(why.contains("after transaction 0x10000006c the tree's digest is"), "{why}");
    let forced = sample.load_forced();
    assert_eq!((forced.report.digest_verified_at, forced.report.mismatches.len()), (None, 1));
}

/// Computes the three seals at the end of a snapshot anew.
fn reseal(bytes: &mut [u8]) {
    let end = bytes.len();
    // S3 and F before it; S2 and E before that; S1.
    let (s3, s2) = (end - 13, end - 13 - 8 - 13);
    let s1 = s2 - 20 - 13;
    for at in [s1, s2, s3] {
        let sum = adler32(&bytes[..at]);
        bytes[at..at + 8].copy_from_slice(&i64::from(sum).to_be_bytes());
    }
}

fn adler32(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1u32, 0u32);
    for byte in bytes {
        a = (a + u32::from(*byte)) % 65521;
        b = (b + a) % 65521;
    }
    b << 16 | a
}

#[test]
fn logs_that_end_before_the_snapshot_was_written_are_not_enough() {
    // Its name says 0x10000001b, and it was finished after 0x10000001c.
    let sample = Sample::new("3.9.3-after-trunc");
    for newer in ["snapshot.10000003f", "snapshot.100000059", "snapshot.10000006c"] {
        sample.remove(newer);
    }
    for newer in ["log.10000001d", "log.100000040", "log.10000005b"] {
        sample.remove(newer);
    }
    let loaded = sample.load();
    assert_eq!((loaded.report.last, loaded.report.records), (Zxid(0x1_0000_001c), 1));
    assert_eq!(loaded.report.digest_verified_at, Some(Zxid(0x1_0000_001c)));
    let places = sample.records("log.100000001");
    let last = places[places.len() - 2];
    sample.change("log.100000001", |bytes| bytes[last..].fill(0));
    let why = sample.refusal();
    assert!(why.contains("up to 0x10000001c are needed (snapshot.10000001b holds some of them)"), "{why}");
    assert!(why.contains("the logs end with 0x10000001b"), "{why}");
}

/// ZOOKEEPER-2307 (20.12).
#[test]
fn epochs_that_contradict_the_transactions_are_refused() {
    let sample = Sample::new("3.9.3-member");
    sample.write("currentEpoch", b"0");
    assert!(sample.refusal().contains("currentEpoch: epoch 0 is below that of the last transaction"));
    sample.write("currentEpoch.tmp", b"1");
    assert_eq!(sample.load().epochs.current, 1);
    sample.write("currentEpoch", b"3");
    assert!(sample.refusal().contains("acceptedEpoch: epoch 2 is below the current one, 3"));
    sample.write("acceptedEpoch", b"3\n").write("currentEpoch", b"two");
    assert!(sample.refusal().contains("\"two\" is no epoch"));
    // More than any machine has memory for; none of it is on the disk.
    std::fs::File::options().write(true).open(sample.file("currentEpoch")).unwrap().set_len(1 << 40).unwrap();
    assert!(sample.refusal().contains("currentEpoch") && sample.refusal().contains("should hold one number"));
    sample.remove("currentEpoch");
    let epochs = sample.load().epochs;
    assert_eq!((epochs.current, epochs.accepted), (1, 3));
}

#[test]
fn logs_without_a_snapshot_and_files_in_the_wrong_place_are_refused() {
    let sample = Sample::new("3.9.3-member");
    for snapshot in ["snapshot.0", "snapshot.100000024", "snapshot.10000004c"] {
        sample.remove(snapshot);
    }
    assert!(sample.refusal().contains("there are logs and no snapshot"));
    let (data, logs) = (Sample::new("3.9.3-member"), tempfile::tempdir().unwrap());
    let open = || {
        let disk = ringkeeper_storage::backend::blocking::BlockingDisk::default();
        ringkeeper_storage::java::JavaDirectory::open(disk, data.path(), logs.path())
    };
    let why = open().unwrap_err().to_string();
    assert!(why.contains("does not belong here"), "{why}");
}

/// A record as Java writes it: of session 1, without a digest.
fn record(zxid: u64, kind: i32, body: &[u8]) -> Vec<u8> {
    let mut entry = [1u64.to_be_bytes().as_slice(), &5i32.to_be_bytes(), &zxid.to_be_bytes(), &[0; 8]].concat();
    entry.extend_from_slice(&kind.to_be_bytes());
    entry.extend_from_slice(body);
    let sum = i64::from(adler32(&entry)).to_be_bytes();
    [&sum, (entry.len() as i32).to_be_bytes().as_slice(), &entry, b"B"].concat()
}

fn log(records: &[Vec<u8>]) -> Vec<u8> {
    [b"ZKLG\0\0\0\x02".as_slice(), &[0; 8], &records.concat(), &[0; 4096]].concat()
}

const ERROR: (i32, &[u8]) = (-1, &(-5i32).to_be_bytes());

/// D-002: a request that Java cannot read becomes an error with the zxid of the entry before.
#[test]
fn an_error_that_repeats_a_zxid_changes_nothing() {
    let (whole, sample) = (Sample::new("3.9.3-member").load(), Sample::new("3.9.3-member"));
    let end = *sample.records("log.100000064").last().unwrap();
    let repeated = record(0x1_0000_006c, ERROR.0, ERROR.1);
    sample.change("log.100000064", |bytes| bytes[end..end + repeated.len()].copy_from_slice(&repeated));
    let loaded = sample.load();
    assert_eq!((loaded.report.last, loaded.report.records), (whole.report.last, whole.report.records));
    assert_eq!(loaded.tree.digest(), whole.tree.digest());
    assert!(loaded.report.notes[0].ends_with("which change nothing: 1"), "{:?}", loaded.report.notes);
    // Of anything else that comes again it is not known what it did.
    let again = record(0x1_0000_006c, -11, b"");
    sample.change("log.100000064", |bytes| bytes[end..end + again.len()].copy_from_slice(&again));
    assert!(sample.refusal().contains("a transaction that comes again"));
}

/// A member that was killed while it wrote, and that the next leader did not send the same transaction.
#[test]
fn an_epoch_goes_on_without_a_torn_record() {
    let last = "log.100000064";
    let sample = Sample::new("3.9.3-member");
    let end = *sample.records(last).last().unwrap();
    let torn = record(0x1_0000_006d, ERROR.0, ERROR.1);
    sample.change(last, |bytes| bytes[end..end + torn.len() - 1].copy_from_slice(&torn[..torn.len() - 1]));
    let next = |zxid| log(&[record(zxid, ERROR.0, ERROR.1)]);
    sample.write("currentEpoch", b"2").write("acceptedEpoch", b"2").write("log.200000001", &next(0x2_0000_0001));
    let loaded = sample.load();
    assert_eq!(loaded.report.last, Zxid(0x2_0000_0001));
    assert!(loaded.report.notes[0].contains("epoch 2 goes on without it"), "{:?}", loaded.report.notes);
    // Its first request could not be read.
    let first = [record(0x2_0000_0000, ERROR.0, ERROR.1), record(0x2_0000_0001, ERROR.0, ERROR.1)];
    sample.write("log.200000001", &log(&first));
    assert_eq!(sample.load().report.last, Zxid(0x2_0000_0001));
    // Nothing was written after it.
    sample.write("log.200000001", &log(&[]));
    let loaded = sample.load();
    assert!(
        loaded.report.notes[0].contains("taken for an unfinished write after 0x10000006c"),
        "{:?}",
        loaded.report.notes
    );
    // Its beginning is missing.
    sample.remove("log.200000001").write("log.200000002", &next(0x2_0000_0002));
    assert!(sample.refusal().contains("no end byte"));
}

#[test]
fn a_log_without_records_tells_by_its_name_how_far_the_server_had_come() {
    for empty in [vec![], log(&[]), b"ZKLG".to_vec()] {
        let sample = Sample::new("3.9.3-member");
        sample.write("log.10000006d", &empty);
        assert_eq!(sample.load().report.last, Zxid(0x1_0000_006c));
        sample.remove("log.10000006d").write("log.200000001", &empty);
        assert_eq!(sample.load().report.last, Zxid(0x1_0000_006c));
        sample.remove("log.200000001").write("log.10000006e", &empty);
        let why = sample.refusal();
        assert!(why.contains("log.10000006e: a new log") && why.contains("is 0x10000006c"), "{why}");
        assert_eq!(sample.load_forced().report.last, Zxid(0x1_0000_006c));
    }
}
