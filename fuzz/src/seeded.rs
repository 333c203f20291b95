//! Inputs by chance with a seed: the same ones each time, so that a gate gives the same answer to the same sources.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::Target;
use crate::mutate::{Chance, changed};
use crate::samples::{self, hex};

/// What a target did not stand.
#[derive(Debug)]
pub struct Failure {
    pub input: Vec<u8>,
}

/// All samples as they are, then so many changed ones. How many inputs that were.
pub fn run(target: &Target, seed: u64, count: usize) -> Result<Result<usize, Failure>, String> {
    let samples = samples::of(target.name)?;
    let name_sum: u64 = target.name.bytes().map(u64::from).sum();
    let mut chance = Chance(seed ^ name_sum << 32);
    let inputs = samples.iter().cloned().chain((0..count).map(|_| changed(&samples, &mut chance)));
    for input in inputs {
        if !stands(target, &input) {
            return Ok(Err(Failure { input: smaller(target, input) }));
        }
    }
    Ok(Ok(samples.len() + count))
}

/// Whether a target stands an input. If not, why is told where panics are told.
pub fn stands(target: &Target, input: &[u8]) -> bool {
    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_ok()
}

/// Pieces left out as long as it fails all the same.
fn smaller(target: &Target, mut input: Vec<u8>) -> Vec<u8> {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut piece_bytes = input.len() / 2;
    while piece_bytes > 0 {
        let mut at = 0;
        while at < input.len() {
            let mut shorter = input.clone();
            shorter.drain(at..(at + piece_bytes).min(input.len()));
            if stands(target, &shorter) { at += piece_bytes } else { input = shorter }
        }
        piece_bytes /= 2;
    }
    std::panic::set_hook(loud);
    input
}

impl Failure {
    /// How to see it again.
    pub fn command(&self, target: &Target) -> String {
        format!("cargo dev fuzz --target {} --input {}", target.name, hex(&self.input))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A decoder that believes a count, and one that trips over a byte: a run has to find both.
    #[test]
    fn what_is_wrong_is_found_and_made_small() {
        let credulous = Target { name: "words", run: |bytes| assert!(bytes.len() < 20 || bytes[7] != 0xff) };
        let failure = run(&credulous, 1, 100_000).unwrap().unwrap_err();
        assert_eq!((failure.input.len(), failure.input[7]), (20, 0xff));
        assert!(failure.command(&credulous).starts_with("cargo dev fuzz --target words --input "));
        let sound = Target { name: "words", run: |_| {} };
        assert_eq!(run(&sound, 1, 1000).unwrap().unwrap(), 1000 + samples::of("words").unwrap().len());
    }
}
