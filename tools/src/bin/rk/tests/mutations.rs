//! Thousands of random damages: every command answers with what is wrong, or says that it cannot; none panics, none hangs.

use std::fs;
use std::path::{Path, PathBuf};

use ringkeeper_storage::backend::memory::Chance;

use super::fixture::{files, lived_in};
use super::rk;
use crate::console::Verdict;

const ROUNDS: usize = 1000;

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
    for at in (8192..bytes.len().saturating_sub(96)).step_by(4096) {
        if bytes[at..].starts_with(b"rkbatch\n") {
            let records = u32::from_le_bytes(bytes[at + 48..at + 52].try_into().unwrap()) as usize;
            if let Some(checked) = bytes.get(at + 12..at + 96 + records) {
                let checksum = crc32c::crc32c(checked);
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

/// Damages one of `files` at a time, asks about it and about `directory`, and puts it back.
fn rounds(directory: &Path, files: &[PathBuf], commands: &[&[&str]], reseal: fn(Vec<u8>) -> Vec<u8>) {
    let whole: Vec<_> = files.iter().map(|path| fs::read(path).unwrap()).collect();
    let mut chance = Chance(7);
    let (mut found, mut refused) = (0, 0);
    for round in 0..ROUNDS {
        let index = chance.below(files.len() as u64) as usize;
        let bytes = damaged(&whole[index], &mut chance);
        fs::write(&files[index], if chance.coin() { reseal(bytes) } else { bytes }).unwrap();
        let path = if round % 2 == 0 { directory } else { &files[index] };
        let (more_found, more_refused) = every_answer_is_an_answer(commands, path);
        (found, refused) = (found + more_found, refused + more_refused);
        fs::write(&files[index], &whole[index]).unwrap();
    }
    // Much of the damage falls on zeroes that stay zeroes, or on bytes that nobody reads.
    assert!(found > ROUNDS / 2, "{found} found, {refused} refused");
}

const LOG_COMMANDS: [&[&str]; 3] = [&["log", "dump", "--decode"], &["log", "verify"], &["log", "stats", "--json"]];

#[test]
fn damaged_logs_are_described() {
    let directory = tempfile::tempdir().unwrap();
    lived_in(directory.path());
    rounds(directory.path(), &files(directory.path(), "log-"), &LOG_COMMANDS, resealed);
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
    rounds(directory.path(), &logs, &LOG_COMMANDS, |bytes| bytes);
}
