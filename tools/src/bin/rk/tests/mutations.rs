//! Thousands of random damages: every command answers with what is wrong, or says that it cannot; none panics, none hangs.

use std::fs;
use std::path::{Path, PathBuf};

use ringkeeper_storage::backend::memory::Chance;

use super::fixture::{files, lived_in};
use super::rk;
use crate::console::Verdict;

const ROUNDS: usize = 600;

fn damaged(whole: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..=chance.below(3) {
        let length = bytes.len() as u64;
        if length < 16 {
            break;
        }
        let at = chance.below(length) as usize;
        // Mostly where something is written: near the beginning.
        let at = if chance.coin() { at } else { at % 24_000 % bytes.len() };
        let end = (at + 1 + chance.below(9000) as usize).min(bytes.len());
        match chance.below(8) {
            0 => bytes[at] ^= 1 << chance.below(8),
            1 => bytes[at] = chance.draw() as u8,
            2 => bytes[at..end].fill(0),
            3 => bytes[at..end].iter_mut().for_each(|byte| *byte = chance.draw() as u8),
            4 => bytes.truncate(at),
            5 => {
                let piece = bytes[at..end].to_vec();
                let to = chance.below(length) as usize / 4096 * 4096;
                let room = (bytes.len() - to).min(piece.len());
                bytes[to..to + room].copy_from_slice(&piece[..room]);
            }
            6 => bytes.extend_from_within(at..end),
            _ => {
                // A number where lengths and counts may be.
                let at = at / 4 * 4;
                let number = [0, 1, u32::MAX, i32::MAX as u32, 4096][chance.below(5) as usize];
                let room = (bytes.len() - at).min(4);
                bytes[at..at + room].copy_from_slice(&number.to_le_bytes()[..room]);
            }
        }
    }
    bytes
}

/// Makes the batches' checksums right again, so that what they hold has to be checked on its own.
fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
    // The log's id, as the header has it.
    let seed = crc32c::crc32c(bytes.get(48..56).unwrap_or_default());
    for at in (8192..bytes.len().saturating_sub(96)).step_by(4096) {
        if bytes[at..].starts_with(b"rkbatch\n") {
            let records = u32::from_le_bytes(bytes[at + 48..at + 52].try_into().unwrap()) as usize;
            if let Some(checked) = bytes.get(at + 12..at + 96 + records) {
                let checksum = crc32c::crc32c_append(seed, checked);
                bytes[at + 8..at + 12].copy_from_slice(&checksum.to_le_bytes());
            }
        }
    }
    bytes
}

fn every_answer_is_an_answer(commands: &[&[&str]], path: &Path) -> (usize, usize) {
    let (mut found, mut refused) = (0, 0);
    for command in commands {
        match rk(command, path) {
            Ok((Verdict::Found, text)) => {
                assert!(!text.is_empty());
                found += 1;
            }
            Ok((Verdict::Fine, _)) => {}
            Err(error) => {
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
        }
    }
    (found, refused)
}

/// Damages one of `files` at a time, asks about it or about `directory`, and puts it back.
fn rounds(directory: Option<&Path>, files: &[PathBuf], commands: &[&[&str]], reseal: fn(Vec<u8>) -> Vec<u8>) {
    let whole: Vec<_> = files.iter().map(|path| fs::read(path).unwrap()).collect();
    let mut chance = Chance(7);
    let (mut found, mut refused) = (0, 0);
    for round in 0..ROUNDS {
        let index = chance.below(files.len() as u64) as usize;
        let bytes = damaged(&whole[index], &mut chance);
        fs::write(&files[index], if chance.coin() { reseal(bytes) } else { bytes }).unwrap();
        let path = directory.filter(|_| round % 2 == 0 || commands[0] == ["verify-dir"]).unwrap_or(&files[index]);
        let (more_found, more_refused) = every_answer_is_an_answer(commands, path);
        (found, refused) = (found + more_found, refused + more_refused);
        fs::write(&files[index], &whole[index]).unwrap();
    }
    // Much of the damage falls on zeroes that stay zeroes, or on bytes that nobody reads.
    assert!(found > ROUNDS / 4, "{found} found, {refused} refused");
}

const LOG_COMMANDS: [&[&str]; 3] = [&["log", "dump", "--decode"], &["log", "verify"], &["log", "stats", "--json"]];

#[test]
fn damaged_logs_are_described() {
    let directory = tempfile::tempdir().unwrap();
    lived_in(directory.path());
    rounds(Some(directory.path()), &files(directory.path(), "log-"), &LOG_COMMANDS, resealed);
}

#[test]
fn damaged_logs_of_java_are_described() {
    let directory = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/java/3.9.3-member");
    let logs: Vec<_> = ["log.100000001", "log.100000026", "log.10000004e", "log.100000064"]
        .iter()
        .map(|name| {
            // With little of its padding: damage should fall on records.
            let mut bytes = fs::read(source.join(name)).unwrap();
            bytes.truncate(6000);
            fs::write(directory.path().join(name), bytes).unwrap();
            directory.path().join(name)
        })
        .collect();
    rounds(Some(directory.path()), &logs, &LOG_COMMANDS, |bytes| bytes);
}

const SNAPSHOT_COMMANDS: [&[&str]; 3] =
    [&["snapshot", "verify"], &["snapshot", "inspect"], &["snapshot", "inspect", "--data", "--json"]];

/// Makes the checksums of a snapshot's chunks, manifest and footer right again: as if a faulty program had written it.
fn resealed_snapshot(mut bytes: Vec<u8>) -> Vec<u8> {
    let number = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let Some(footer) = bytes.len().checked_sub(4096) else { return bytes };
    let manifest = number(&bytes, footer + 24);
    let Some(manifest) = manifest.checked_add(number(&bytes, footer + 32)).map(|end| manifest..end) else {
        return bytes;
    };
    if !bytes.len().is_multiple_of(4096) || bytes.get(manifest.clone()).is_none() {
        return bytes;
    }
    for at in (0..manifest.start.min(footer)).step_by(4096) {
        let end = number(&bytes, at + 24)
            .checked_add(at)
            .filter(|end| bytes[at..].starts_with(b"rkchunk\n") && *end < footer);
        let Some(checked) = end.and_then(|end| bytes.get(at + 12..end)) else { continue };
        let new = crc32c::crc32c(checked).to_le_bytes();
        let old: [u8; 4] = bytes[at + 8..at + 12].try_into().unwrap();
        bytes[at + 8..at + 12].copy_from_slice(&new);
        if let Some(place) = bytes[manifest.clone()].windows(4).position(|window| window == old) {
            bytes[manifest.start + place..manifest.start + place + 4].copy_from_slice(&new);
        }
    }
    let checksum = crc32c::crc32c(&bytes[manifest]).to_le_bytes();
    bytes[footer + 40..footer + 44].copy_from_slice(&checksum);
    let checksum = crc32c::crc32c(&bytes[footer + 12..footer + 48]).to_le_bytes();
    bytes[footer + 8..footer + 12].copy_from_slice(&checksum);
    bytes
}

#[test]
fn damaged_snapshots_are_described() {
    let directory = tempfile::tempdir().unwrap();
    lived_in(directory.path());
    let snapshots = files(directory.path(), "snapshot-");
    let whole = directory.path().join("whole");
    fs::copy(&snapshots[0], &whole).unwrap();
    let diff = ["snapshot", "diff", whole.to_str().unwrap()];
    let commands: Vec<&[&str]> = SNAPSHOT_COMMANDS.iter().copied().chain([&diff[..]]).collect();
    rounds(None, &snapshots, &commands, resealed_snapshot);
}

#[test]
fn damaged_snapshots_of_java_are_described() {
    let directory = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/java/3.9.3-packed");
    let names = ["snapshot.10000006c", "snapshot.10000006c.gz", "snapshot.10000006c.snappy"];
    let copies: Vec<_> = names.iter().map(|name| directory.path().join(name)).collect();
    for (name, copy) in names.iter().zip(&copies) {
        fs::copy(source.join(name), copy).unwrap();
    }
    let whole = source.join(names[0]);
    let diff = ["snapshot", "diff", whole.to_str().unwrap()];
    let commands: Vec<&[&str]> = SNAPSHOT_COMMANDS.iter().copied().chain([&diff[..]]).collect();
    rounds(None, &copies, &commands, |bytes| bytes);
}

#[test]
fn damaged_directories_are_judged() {
    let directory = tempfile::tempdir().unwrap();
    lived_in(directory.path());
    let all: Vec<_> = ["log-", "snapshot-"].iter().flat_map(|prefix| files(directory.path(), prefix)).collect();
    rounds(Some(directory.path()), &all, &[&["verify-dir"]], |bytes| resealed(resealed_snapshot(bytes)));
}
