//! Snapshots read where they lie: trees at random, with nodes gone ahead of the walk and several runs of the index, agree
//! with what was written, node by node and name by name; and a byte that is not what it was is found first.

mod rig;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rig::{DIRECTORY, Rig, SharedDisk, small_config};
use ringkeeper_storage::backend::memory::Chance;
use ringkeeper_storage::backend::view::FileView;
use ringkeeper_storage::disk::{Action, Buffer};
use ringkeeper_storage::{
    NodeImage, OwnedSlot, SnapshotChunk, SnapshotFile, SnapshotHeader, StoreConfig, StoreEvent, Zxid,
};

const BLOCK: usize = 4096;

/// Nodes by slot, some slots free.
type Tree = BTreeMap<u32, NodeImage>;

fn tree(slots: u32, chance: &mut Chance) -> Tree {
    let mut tree = Tree::new();
    for slot in 0..slots {
        if slot > 0 && chance.below(5) == 0 {
            continue;
        }
        let parent = if slot == 0 { 0 } else { *tree.keys().nth(chance.below(tree.len() as u64) as usize).unwrap() };
        let data = chance.coin().then(|| vec![slot as u8; chance.below(200) as usize]);
        let owned = chance.below(8) == 0;
        let node = NodeImage {
            parent,
            data,
            name: if slot == 0 { "".into() } else { format!("{}{slot}", "n".repeat(chance.below(20) as usize)).into() },
            czxid: chance.below(10) as i64,
            ephemeral_owner: if owned { chance.draw() as i64 } else { 0 },
            ..rig::node(slot)
        };
        tree.insert(slot, node);
    }
    tree
}

fn header(tree: &Tree, slots: u32, zxid: u64) -> SnapshotHeader {
    SnapshotHeader { node_count: tree.len() as u64, ..rig::header(zxid, slots) }
}

/// The walk over `slots` in stretches at random, nodes going ahead of it at random.
fn chunks(tree: &Tree, slots: u32, nodes_max: u64, chance: &mut Chance) -> Vec<SnapshotChunk> {
    let mut left = tree.clone();
    let mut chunks = Vec::new();
    let mut next = 0;
    while next < slots {
        if chance.below(3) == 0 {
            let ahead: Vec<_> = left.range(next..).filter(|_| chance.below(6) == 0).map(|(slot, _)| *slot).collect();
            let ahead = ahead.into_iter().take(nodes_max as usize);
            chunks.push(SnapshotChunk { slots: None, nodes: ahead.map(|slot| left.remove(&slot).unwrap()).collect() });
        }
        let end = slots.min(next + 1 + chance.below(nodes_max) as u32);
        let rest = left.split_off(&end);
        let nodes = std::mem::replace(&mut left, rest).into_values().collect();
        chunks.push(SnapshotChunk { slots: Some(next..end), nodes });
        next = end;
    }
    chunks
}

fn write(rig: &mut Rig, header: SnapshotHeader, chunks: Vec<SnapshotChunk>) {
    rig.snapshot_ended = None;
    rig.store.begin_snapshot(header);
    for chunk in chunks {
        rig.drain();
        assert_eq!(std::mem::take(&mut rig.snapshot_room), 1, "asked for one at a time");
        rig.store.snapshot_chunk(chunk);
    }
    rig.drain();
    rig.store.finish_snapshot();
    rig.drain();
    assert!(rig.snapshot_ended.take().unwrap().is_ok());
}

/// A snapshot at 5 of a tree at random, and its file.
fn written(seed: u64, slots: u32, nodes_max: u64, run_nodes: u32) -> (Tree, Rig, PathBuf) {
    let mut chance = Chance(seed);
    let mut rig = Rig::fresh(&StoreConfig { snapshot_run_nodes: run_nodes, ..small_config() });
    rig.append_and_drain(1..=5);
    let tree = tree(slots, &mut chance);
    let chunks = chunks(&tree, slots, nodes_max, &mut chance);
    write(&mut rig, header(&tree, slots, 5), chunks);
    (tree, rig, PathBuf::from(format!("{DIRECTORY}/snapshot-0000000000000005.rks")))
}

fn view(bytes: &[u8]) -> FileView {
    let mut buffer = Buffer::with_capacity(bytes.len());
    buffer.extend_from_slice(bytes);
    FileView::owned(buffer)
}

fn bytes(disk: &SharedDisk, path: &Path) -> Vec<u8> {
    disk.bytes(path)
}

/// All that the file says of the tree is right or an error; how many errors there were.
fn errors_and_nothing_wrong(file: &SnapshotFile, tree: &Tree, slots: u32) -> usize {
    let mut errors = 0;
    for slot in 0..slots + 3 {
        match file.node(slot) {
            Ok(found) => assert_eq!(found.map(|node| node.to_image()), tree.get(&slot).cloned(), "slot {slot}"),
            Err(_) => errors += 1,
        }
    }
    for (slot, node) in tree {
        let mut found = false;
        let looked = file.children_named(node.parent, &node.name, &mut |candidate| {
            found |= candidate == *slot;
            found
        });
        match looked {
            Ok(()) => assert!(found, "slot {slot}"),
            Err(_) => errors += 1,
        }
    }
    errors
}

#[test]
fn every_node_and_every_name_is_found_where_it_lies() {
    let (mut runs, mut extra_runs, mut extras) = (0, 0, 0);
    for seed in 0..60 {
        let mut chance = Chance(seed + 1000);
        let slots = 1 + chance.below(900) as u32;
        let run_nodes = 1 + chance.below(700) as u32;
        let (tree, rig, path) = written(seed, slots, 1 + chance.below(300), run_nodes);
        let disk = rig.crash(&mut chance);
        let file = SnapshotFile::new(view(&bytes(&disk, &path)), Zxid(5)).unwrap();
        runs = runs.max(file.manifest().children.len());
        extra_runs = extra_runs.max(file.manifest().extras.len());
        extras += file.manifest().chunks.iter().filter(|chunk| chunk.extra).count();
        file.verify(|_| {}).unwrap();

        // Checked at once or as it is read: the same.
        for snapshot_checked_bytes in [0, 1 << 20] {
            let config = StoreConfig { snapshot_checked_bytes, ..small_config() };
            let mut opened = disk.fork().open(&config).unwrap();
            let mut all = Tree::new();
            opened.for_each_node(|node| assert!(all.insert(node.slot, node).is_none())).unwrap();
            assert!(all == tree, "seed {seed}: {:?}", opened.report());

            let source = opened.snapshot_source().unwrap();
            drop(opened.into_store().unwrap());
            assert_eq!(source.header(), &header(&tree, slots, 5));
            let owned = tree.values().filter(|node| node.ephemeral_owner != 0);
            let owned = owned.map(|node| OwnedSlot { slot: node.slot, owner: node.ephemeral_owner, czxid: node.czxid });
            let owned: BTreeSet<_> = owned.map(|owned| (owned.czxid, owned.slot, owned.owner)).collect();
            assert!(source.owned().iter().map(|owned| (owned.czxid, owned.slot, owned.owner)).eq(owned));
            for slot in (0..slots + 3).chain([u32::MAX]) {
                source.passed(slot);
                let found = source.node(slot).unwrap().map(|node| node.to_image());
                assert_eq!(found, tree.get(&slot).cloned(), "seed {seed} slot {slot}");
            }
            let candidates = |parent: u32, name: &str| {
                let mut candidates = Vec::new();
                let mut take = |slot| {
                    candidates.push(slot);
                    false
                };
                source.children_named(parent, name, &mut take).unwrap();
                candidates
            };
            for node in tree.values() {
                assert!(candidates(node.parent, &node.name).contains(&node.slot), "seed {seed} slot {}", node.slot);
                assert!(candidates(node.parent, &format!("{}.", node.name)).is_empty());
                assert!(candidates(node.parent + 1, &node.name).iter().all(|slot| *slot != node.slot));
            }
        }
    }
    assert!(runs > 5 && extra_runs > 2 && extras > 100, "{runs} {extra_runs} {extras}");
}

#[test]
fn the_search_ends_with_the_one_that_is_taken() {
    let (tree, rig, path) = written(3, 400, 50, 20);
    let file = SnapshotFile::new(view(&bytes(&rig.disk, &path)), Zxid(5)).unwrap();
    assert!(file.manifest().children.len() > 10);
    let node = tree.values().nth(30).unwrap();
    let mut offered = 0;
    let mut take = |_| {
        offered += 1;
        true
    };
    file.children_named(node.parent, &node.name, &mut take).unwrap();
    assert_eq!(offered, 1);
}

/// Bytes of the file that are nobody's: zeroes that fill up blocks.
fn padding(file: &SnapshotFile, whole: &[u8]) -> BTreeSet<usize> {
    let chunks =
        file.manifest().chunks.iter().map(|chunk| chunk.range().end..chunk.range().end.next_multiple_of(BLOCK));
    let footer = whole.len() - BLOCK;
    let field = |at: usize| u64::from_le_bytes(whole[footer + at..footer + at + 8].try_into().unwrap()) as usize;
    let manifest = field(24) + field(32)..footer;
    chunks.chain([manifest, footer + 48..whole.len()]).flatten().collect()
}

#[test]
fn every_flipped_byte_is_found_before_anything_wrong_is_served() {
    let slots = 24;
    let (tree, rig, path) = written(8, slots, 20, 100);
    let whole = bytes(&rig.disk, &path);
    let file = SnapshotFile::new(view(&whole), Zxid(5)).unwrap();
    assert!(file.manifest().chunks.iter().any(|chunk| chunk.extra) && !file.manifest().extras.is_empty());
    assert_eq!(errors_and_nothing_wrong(&file, &tree, slots), 0);
    let padding = padding(&file, &whole);
    assert!(padding.iter().all(|at| whole[*at] == 0));
    let (mut at_once, mut when_touched) = (0, 0);
    for at in (0..whole.len()).filter(|at| !padding.contains(at) || at % 37 == 0) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        let noticed = match SnapshotFile::new(view(&damaged), Zxid(5)) {
            Err(_) => {
                at_once += 1;
                true
            }
            Ok(file) => {
                let errors = errors_and_nothing_wrong(&file, &tree, slots);
                when_touched += usize::from(errors > 0);
                file.verify(|_| {}).is_err()
            }
        };
        assert_eq!(noticed, !padding.contains(&at), "byte {at}");
    }
    assert!(at_once > 300 && when_touched > 5000, "{at_once} {when_touched}");
}

#[test]
fn a_file_that_ends_early_is_no_snapshot() {
    let (tree, rig, path) = written(9, 300, 30, 50);
    let whole = bytes(&rig.disk, &path);
    for length in (0..whole.len()).step_by(BLOCK).flat_map(|length| [length, length + 1, length + 48]) {
        let error = SnapshotFile::new(view(&whole[..length]), Zxid(5)).unwrap_err().to_string();
        assert!(error.starts_with("snapshot-0000000000000005.rks: "), "{error}");
    }
    // Nor does one block less in the middle go unnoticed.
    for cut in (0..whole.len() - BLOCK).step_by(BLOCK) {
        let without = [&whole[..cut], &whole[cut + BLOCK..]].concat();
        if let Ok(file) = SnapshotFile::new(view(&without), Zxid(5)) {
            assert!(errors_and_nothing_wrong(&file, &tree, 300) > 0 || file.verify(|_| {}).is_err(), "block at {cut}");
        }
    }
}

#[test]
fn a_manifest_with_a_right_checksum_and_no_sense_is_an_error_not_a_panic() {
    // As if a faulty program had written it.
    let slots = 60;
    let (_, rig, path) = written(8, slots, 30, 50);
    let whole = bytes(&rig.disk, &path);
    let footer = whole.len() - BLOCK;
    let field = |at: usize| u64::from_le_bytes(whole[footer + at..footer + at + 8].try_into().unwrap()) as usize;
    let (manifest_at, manifest_bytes) = (field(24), field(32));
    let mut chance = Chance(4);
    let (mut refused, mut opened, mut failed_later) = (0, 0, 0);
    for _ in 0..6000 {
        let mut damaged = whole.clone();
        for _ in 0..=chance.below(2) {
            let at = manifest_at + chance.below(manifest_bytes as u64) as usize;
            damaged[at] = if chance.coin() { chance.draw() as u8 } else { damaged[at].wrapping_add(1) };
        }
        let checksum = crc32c::crc32c(&damaged[manifest_at..manifest_at + manifest_bytes]);
        damaged[footer + 40..footer + 44].copy_from_slice(&checksum.to_le_bytes());
        let checksum = crc32c::crc32c(&damaged[footer + 12..footer + 48]);
        damaged[footer + 8..footer + 12].copy_from_slice(&checksum.to_le_bytes());
        match SnapshotFile::new(view(&damaged), Zxid(5)) {
            Err(_) => refused += 1,
            Ok(file) => {
                opened += 1;
                let mut failed = file.for_each_node(|_| {}).is_err() | file.verify(|_| {}).is_err();
                for slot in 0..slots {
                    failed |= file.node(slot).is_err();
                    failed |= file.children_named(slot, "n1", &mut |_| false).is_err();
                }
                failed_later += usize::from(failed);
            }
        }
    }
    assert!(refused > 500 && opened > 500 && failed_later > 100, "{refused} {opened} {failed_later}");
}

#[test]
fn a_turn_is_one_piece_and_nothing_goes_without_one() {
    let mut rig = Rig::fresh(&small_config());
    rig.append_and_drain(1..=5);
    let mut large = rig::node(0);
    large.data = Some(vec![3; 400 << 10]);
    rig.store.begin_snapshot(rig::header(5, 1));
    let mut chunk = Some(SnapshotChunk { slots: Some(0..1), nodes: vec![large] });
    let (mut turns, mut pieces) = (0, Vec::new());
    while rig.snapshot_ended.is_none() {
        rig.store.poll_ops(&mut rig.held);
        assert!(rig.held.len() <= 1, "one operation at a time");
        if !rig.held.is_empty() {
            if let Action::Write { buffer, .. } = &rig.held[0].action {
                pieces.push(buffer.len());
            }
            rig.complete(0);
            continue;
        }
        assert_eq!(pieces.len(), turns, "one write a turn");
        assert!(rig.store.snapshot_waits_for_turn() && rig.store.is_idle());
        turns += 1;
        let mut out = Vec::new();
        rig.store.give_snapshot_turn(&mut out);
        rig.store.give_snapshot_turn(&mut out); // which it has already
        assert!(!rig.store.snapshot_waits_for_turn());
        match (chunk.take(), &out[..]) {
            (Some(chunk), [StoreEvent::SnapshotRoom { chunks: 1 }]) => {
                rig.store.snapshot_chunk(chunk);
                rig.store.finish_snapshot();
            }
            (None, []) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(pieces.len() >= 6 && pieces.iter().all(|bytes| *bytes <= 128 << 10), "{pieces:?}");
    assert_eq!(pieces.iter().sum::<usize>() as u64, rig.store.stats().snapshot_bytes);
}

#[test]
fn a_walk_with_a_hole_is_not_a_snapshot() {
    let mut rig = Rig::fresh(&small_config());
    rig.append_and_drain(1..=5);
    rig.store.begin_snapshot(rig::header(5, 30));
    rig.drain();
    rig.store.snapshot_chunk(rig::chunk_of(0..10));
    rig.drain();
    rig.store.snapshot_chunk(rig::chunk_of(11..30));
    rig.drain();
    let error = rig.snapshot_ended.take().unwrap().unwrap_err();
    assert!(error.contains("a chunk of slots 11..30 came where slot 10 is next"), "{error}");
    assert!(rig.disk.paths("snapshot").is_empty());
}
