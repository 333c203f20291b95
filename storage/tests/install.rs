//! A state from elsewhere is stored as a whole or not at all, whenever the power fails or the disk refuses, and what was cut
//! short can begin anew.

mod rig;

use rig::{Rig, SharedDisk, chunk_of, header, payload, replayed, small_config};
use ringkeeper_storage::backend::memory::Chance;
use ringkeeper_storage::{Opened, SnapshotChunk, StoreError, Zxid};

const ZXID: u64 = 0x7_0000_0003;
const NODES: u32 = 60;

fn chunks() -> impl FnMut() -> Option<SnapshotChunk> {
    let mut rest = (0..NODES).step_by(20).map(|slot| chunk_of(slot..slot + 20));
    move || rest.next()
}

fn install(disk: &SharedDisk) -> Result<Opened<SharedDisk>, StoreError> {
    disk.open(&small_config())?.install(header(ZXID, NODES), chunks())
}

fn check(mut opened: Opened<SharedDisk>) {
    assert_eq!(opened.report().last_zxid, Zxid(ZXID));
    let mut slots = Vec::new();
    opened.for_each_node(|image| slots.push(image.slot)).unwrap();
    slots.sort_unstable();
    assert_eq!(slots, (0..NODES).collect::<Vec<_>>());
}

#[test]
fn a_power_cut_at_any_moment_leaves_all_of_it_or_nothing() {
    let (mut cuts, mut whole) = (0, 0);
    for fuse in 0.. {
        for seed in 0..8 {
            let disk = SharedDisk::default();
            disk.fuse.replace(Some(fuse));
            let installed = install(&disk);
            if installed.is_ok() && seed == 0 {
                // The power lasted to the end.
                assert!(cuts > 10 && whole > 0, "{cuts} cuts, {whole} of them after the end");
                return;
            }
            drop(installed);
            cuts += 1;
            disk.crash(&mut Chance(fuse as u64 * 100 + seed));
            let opened = disk.open(&small_config()).unwrap();
            if opened.is_fresh() {
                check(install(&disk).unwrap());
            } else {
                whole += 1;
                check(opened);
            }
        }
    }
}

#[test]
fn the_log_begins_behind_it() {
    let disk = SharedDisk::default();
    drop(install(&disk).unwrap());
    // Its name was flushed: no crash takes it back.
    disk.crash(&mut Chance(1));
    let mut rig = Rig::start(&disk, disk.open(&small_config()).unwrap()).unwrap();
    rig.append_and_drain(ZXID + 1..=ZXID + 5);
    let disk = rig.crash(&mut Chance(2));
    let mut opened = disk.open(&small_config()).unwrap();
    let expected: Vec<_> = (ZXID + 1..=ZXID + 5).map(|zxid| (zxid, payload(zxid, 0))).collect();
    assert_eq!(replayed(&mut opened), expected);
}

#[test]
#[should_panic(expected = "installed where there is none")]
fn it_never_goes_over_what_is_there() {
    let disk = SharedDisk::default();
    drop(install(&disk).unwrap());
    let _ = install(&disk);
}
