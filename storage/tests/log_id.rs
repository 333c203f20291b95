//! Every log has an id that nobody can guess, and every checksum begins with it: what a client made a transaction hold never
//! passes for a batch, and a segment of another log never for one of this.

mod rig;

use std::path::Path;

use rig::bytes::{BATCH_HEADER_BYTES, BLOCK, FIRST_BATCH_AT, MARK_AT, batches, segment, segment_name, segments};
use rig::{DIRECTORY, Rig, SharedDisk, payload, replayed, small_config};
use ringkeeper_storage::backend::memory::Chance;
use ringkeeper_storage::disk::Action;
use ringkeeper_storage::{LogError, StoreConfig, StoreError, Zxid};

const ID_AT: usize = 48;
const RECORD_HEADER_BYTES: usize = 12;
/// A large record fills seven blocks of its batch, and leaves two of the segment for small ones.
const LARGE_BYTES: usize = 8 * BLOCK - BATCH_HEADER_BYTES - RECORD_HEADER_BYTES;
const LARGE_RECORDS: u64 = 40;

/// Marks so far ahead that a start looks at the whole of a segment.
fn config() -> StoreConfig {
    StoreConfig { batches_in_flight: 1, snapshots_kept: 1, mark_bytes: 1 << 20, ..small_config() }
}

fn id_of(disk: &SharedDisk, id: u64) -> [u8; 8] {
    disk.bytes(&segment(id))[ID_AT..ID_AT + 8].try_into().unwrap()
}

/// The one id that headers and marks of all segments carry.
fn id_of_log(disk: &SharedDisk) -> [u8; 8] {
    let ids: Vec<_> = segments(disk).into_iter().map(|id| id_of(disk, id)).collect();
    assert!(ids.iter().all(|id| *id == ids[0]) && ids[0] != [0; 8], "{ids:?}");
    for id in segments(disk) {
        assert_eq!(disk.bytes(&segment(id))[MARK_AT + ID_AT..MARK_AT + ID_AT + 8], ids[0], "the mark of segment {id}");
    }
    ids[0]
}

/// All that a batch says of itself.
#[derive(Clone, Copy)]
struct Forged {
    sequence: u64,
    previous_checksum: u32,
    previous_zxid: u64,
    /// As if the log were stable up to here.
    durable: u64,
}

impl Forged {
    /// One block, for `at` of a segment; the checksum begins with `seed`.
    fn block(self, id: u64, at: usize, seed: &[u8]) -> Vec<u8> {
        let data = b"forged";
        let zxid = self.previous_zxid + 1;
        let mut checked = Vec::new();
        checked.extend(1u16.to_le_bytes()); // records
        checked.extend(0u16.to_le_bytes());
        checked.extend([id, at as u64, self.sequence].into_iter().flat_map(u64::to_le_bytes));
        let counts = [self.previous_checksum, 1, (RECORD_HEADER_BYTES + data.len()) as u32, 0];
        checked.extend(counts.into_iter().flat_map(u32::to_le_bytes));
        let zxids = [zxid, zxid, self.previous_zxid, self.durable, self.durable];
        checked.extend(zxids.into_iter().flat_map(u64::to_le_bytes));
        checked.extend(zxid.to_le_bytes());
        checked.extend((data.len() as u32).to_le_bytes());
        checked.extend(data);
        let checksum = crc32c::crc32c_append(crc32c::crc32c(seed), &checked);
        let mut block = [b"rkbatch\n", &checksum.to_le_bytes()[..], &checked].concat();
        block.resize(BLOCK, 0);
        block
    }
}

/// A server that recycles for a while, each of its records a client's who makes them hold what `block` says for each block of
/// the file; then its last segment has one small batch, and behind it what a former life left. The power fails.
fn recycled(block: impl Fn(usize) -> Vec<u8>) -> (SharedDisk, u64) {
    let mut rig = Rig::fresh(&config());
    let blocks = (FIRST_BATCH_AT + BLOCK..FIRST_BATCH_AT + 8 * BLOCK).step_by(BLOCK);
    let first = vec![1; LARGE_BYTES - 7 * BLOCK];
    let large: Vec<u8> = first.into_iter().chain(blocks.flat_map(block)).collect();
    for zxid in 1..=LARGE_RECORDS {
        rig.store.append(Zxid(zxid), &large);
        rig.drain();
        if zxid % 4 == 0 {
            rig.snapshot(zxid);
            rig.store.purge(1);
            rig.drain();
        }
    }
    // The snapshot made it go on in the next segment.
    rig.append_and_drain(LARGE_RECORDS + 1..=LARGE_RECORDS + 1);
    assert!(rig.store.stats().segments_recycled > 5, "{:?}", rig.store.stats());
    let disk = rig.crash(&mut Chance(0));
    let last = batches(&disk).into_iter().find(|batch| batch.last_zxid == LARGE_RECORDS + 1).unwrap();
    assert_eq!(last.at, FIRST_BATCH_AT);
    (disk, last.segment)
}

/// Whoever chooses what transactions hold may know all numbers of the log, but not its id.
#[test]
fn a_batch_that_a_client_made_up_proves_nothing_in_a_recycled_segment() {
    // A first run of the same life tells which segment the file will be.
    let (rehearsal, target) = recycled(|_| vec![2; BLOCK]);
    let id = id_of_log(&rehearsal);
    let claim = Forged { sequence: 1 << 40, previous_checksum: 7, previous_zxid: 1 << 40, durable: 1 << 40 };
    for seed in [&[][..], &[0; 8], &id] {
        let (disk, last) = recycled(|at| claim.block(target, at, seed));
        assert_eq!((last, id_of_log(&disk)), (target, id), "the same life");
        let stale = disk.bytes(&segment(last))[FIRST_BATCH_AT + BLOCK..].to_vec();
        let here = |block: &[u8]| block.starts_with(b"rkbatch\n") && block[16..24] == target.to_le_bytes();
        assert_eq!(stale.chunks(BLOCK).filter(|block| here(block)).count(), 7, "behind the tail");
        let opened = disk.open(&config());
        if seed == id {
            let error = opened.unwrap_err();
            let (file, text) = (segment_name(last), error.to_string());
            assert!(matches!(error, StoreError::Log(LogError::Damaged { .. })), "who knows the id: {text}");
            assert!(text.contains(&format!("a later batch ({file} byte {}", FIRST_BATCH_AT + BLOCK)), "{text}");
            continue;
        }
        let mut opened = opened.unwrap_or_else(|error| panic!("seed {seed:?}: {error}"));
        let zxid = LARGE_RECORDS + 1;
        assert_eq!(replayed(&mut opened), [(zxid, payload(zxid, 0))]);
        // It reads like writes that were cut off, and goes their way.
        assert_eq!(opened.report().cut_bytes, 7 * BLOCK as u64);
        let mut rig = Rig::start(&disk, opened).unwrap();
        rig.append_and_drain(LARGE_RECORDS + 2..=LARGE_RECORDS + 20);
        let opened = rig.crash(&mut Chance(1)).open(&config()).unwrap();
        assert_eq!(opened.report().last_zxid, Zxid(LARGE_RECORDS + 20));
    }
}

/// Even with the number and the checksum of the batch before it.
#[test]
fn a_batch_that_a_client_made_up_is_never_the_next() {
    let mut rig = Rig::fresh(&config());
    rig.append_and_drain(1..=4);
    let disk = rig.crash(&mut Chance(0));
    let id = id_of_log(&disk);
    let last = batches(&disk).last().copied().unwrap();
    let bytes = disk.bytes(&segment(last.segment));
    let previous_checksum = u32::from_le_bytes(bytes[last.at + 8..last.at + 12].try_into().unwrap());
    let next = Forged { sequence: last.sequence + 1, previous_checksum, previous_zxid: 4, durable: last.sequence };
    let at = last.at + last.padded_bytes();
    for (seed, found) in [(&[][..], 4), (&[0; 8], 4), (&id, 5)] {
        let disk = disk.fork();
        let block = next.block(last.segment, at, seed);
        disk.damage(&segment(last.segment), |bytes| bytes[at..at + BLOCK].copy_from_slice(&block));
        let mut opened = disk.open(&config()).unwrap();
        assert_eq!(replayed(&mut opened).len(), found, "seed {seed:?}");
    }
}

/// Four segments and a spare of a log from this seed.
fn written(seed: u64) -> SharedDisk {
    let disk = SharedDisk::default();
    disk.memory.borrow_mut().numbers = Chance(seed);
    let mut rig = Rig::start(&disk, disk.open(&config()).unwrap()).unwrap();
    rig.append_and_drain(1..=35);
    assert_eq!(segments(&rig.disk), [1, 2, 3, 4, 5]);
    rig.crash(&mut Chance(0))
}

#[test]
fn a_segment_of_another_log_is_refused_however_well_it_fits() {
    let (disk, other) = (written(1), written(2));
    assert_ne!(id_of_log(&disk), id_of_log(&other));
    // Where, and which file is then told of: the one that does not fit the one before it.
    for (id, told) in [(1, 2), (2, 2), (3, 3), (4, 4), (5, 5)] {
        let damaged = disk.fork();
        damaged.damage(&segment(id), |bytes| *bytes = other.bytes(&segment(id)));
        let before = damaged.bytes(&segment(id));
        let error = damaged.open(&config()).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, StoreError::Log(LogError::Misfit { .. })), "segment {id}: {text}");
        let why = "it belongs to another log than the file before it";
        assert!(text.starts_with(&segment_name(told)) && text.contains(why), "segment {id}: {text}");
        assert_eq!(damaged.bytes(&segment(id)), before, "nothing was changed");
    }
    // The very same bytes in a log of the same id: what tells them apart is the id alone.
    let twin = written(1);
    for id in 1..=5 {
        let whole = disk.fork();
        whole.damage(&segment(id), |bytes| *bytes = twin.bytes(&segment(id)));
        assert_eq!(whole.open(&config()).unwrap().report().last_zxid, Zxid(35));
    }
}

#[test]
fn a_segment_that_lost_its_id_is_known_by_its_neighbours() {
    let disk = written(1);
    for id in 1..=5 {
        for lost in [0..BLOCK, MARK_AT..MARK_AT + BLOCK, 0..2 * BLOCK] {
            let damaged = disk.fork();
            damaged.damage(&segment(id), |bytes| bytes[lost.clone()].fill(0));
            let tag = format!("segment {id} without {lost:?}");
            let opened = damaged.open(&config()).unwrap_or_else(|error| panic!("{tag}: {error}"));
            assert_eq!(opened.report().last_zxid, Zxid(35), "{tag}");
            let mut rig = Rig::start(&damaged, opened).unwrap();
            rig.append_and_drain(36..=60);
            let opened = rig.crash(&mut Chance(1)).open(&config()).unwrap_or_else(|error| panic!("{tag}: {error}"));
            assert_eq!(opened.report().last_zxid, Zxid(60), "{tag}, written on");
        }
    }
    // Where nothing says what the id is, nothing can be checked.
    for id in 1..=5 {
        disk.damage(&segment(id), |bytes| bytes[..2 * BLOCK].fill(0));
    }
    let error = disk.open(&config()).unwrap_err();
    assert!(matches!(error, StoreError::Log(LogError::Damaged { at: 0, .. })), "{error}");
}

#[test]
fn an_id_stays_through_restarts_and_truncations_and_a_new_log_has_another() {
    let disk = written(1);
    let id = id_of_log(&disk);
    let mut opened = disk.open(&config()).unwrap();
    opened.truncate(Zxid(20)).unwrap();
    let mut rig = Rig::start(&disk, opened).unwrap();
    rig.append_and_drain(21..=60);
    assert_eq!(id_of_log(&rig.crash(&mut Chance(1))), id);
    for path in disk.paths(".seg") {
        assert!(disk.memory.borrow_mut().remove(&path));
    }
    // Without the log, as on a disk that is not mounted, nothing begins; but where nobody knows of one.
    let error = disk.open(&config()).unwrap_err();
    assert!(matches!(error, StoreError::Log(LogError::Vanished { another: false, .. })), "{error}");
    let noted = Path::new(DIRECTORY).join("state-log");
    assert!(disk.memory.borrow_mut().remove(&noted));
    drop(Rig::start(&disk, disk.open(&config()).unwrap()).unwrap());
    assert_ne!(id_of_log(&disk), id);
    // Nor with another log.
    let stranger = written(3);
    disk.damage(&noted, |bytes| *bytes = stranger.bytes(&noted));
    let error = disk.open(&config()).unwrap_err();
    assert!(matches!(error, StoreError::Log(LogError::Vanished { another: true, .. })), "{error}");
    // A note that cannot be read says that there was a log.
    disk.damage(&noted, |bytes| bytes[0] ^= 1);
    drop(Rig::start(&disk, disk.open(&config()).unwrap()).unwrap());
    let id = u64::from_le_bytes(id_of_log(&disk));
    assert!(disk.bytes(&noted).starts_with(format!("{id:016x} crc32c ").as_bytes()));
}

#[test]
fn a_range_goes_on_behind_a_batch_that_a_client_made_up() {
    // A segment, of which a record fills most; the made-up batch in what is left; what it says of its length.
    let cases = [(48 << 10, 30 << 10, None), (4 << 20, 5 << 19, None), (4 << 20, 5 << 19, Some(u32::MAX))];
    for (segment_bytes, record_bytes, length) in cases {
        let mut rig = Rig::fresh(&StoreConfig { segment_bytes, ..config() });
        for zxid in 1..=4 {
            rig.store.append(Zxid(zxid), &vec![zxid as u8; record_bytes]);
            rig.drain();
        }
        let first = batches(&rig.disk)[0];
        let at = first.at + first.padded_bytes();
        let mut block = Forged { sequence: 2, previous_checksum: 0, previous_zxid: 1, durable: 1 }.block(1, at, &[]);
        block[48..52].copy_from_slice(&length.unwrap_or(18).to_le_bytes());
        rig.disk.damage(&segment(1), |bytes| bytes[at..at + BLOCK].copy_from_slice(&block));
        for lost in [false, true] {
            if lost {
                rig.disk.damage(&segment(2), |bytes| bytes[FIRST_BATCH_AT..].fill(0));
            }
            rig.store.read_range(Zxid(0), Zxid(3)).unwrap();
            let mut zxids = Vec::new();
            while rig.ranges_ended.is_empty() {
                rig.poll();
                for op in &rig.held {
                    let Action::Read { buffer, .. } = &op.action else { continue };
                    assert!(buffer.len() <= 4 << 20, "{} bytes at once", buffer.len());
                }
                if !rig.held.is_empty() {
                    rig.complete(0);
                }
                if let Some((range, window)) = rig.windows.pop() {
                    zxids.extend(window.records().map(|(zxid, _)| zxid.0));
                    rig.store.read_on(range, window);
                }
            }
            let (_, ended) = rig.ranges_ended.pop().unwrap();
            if lost {
                let text = ended.unwrap_err();
                assert!(zxids == [1] && text.contains(&format!("{}: damaged at byte {at}", segment_name(1))), "{text}");
            } else {
                assert_eq!((zxids, ended), (vec![1, 2, 3], Ok(Zxid(3))));
            }
        }
    }
}
