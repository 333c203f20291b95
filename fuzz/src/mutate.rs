//! Changes to bytes by chance, of the kinds that decoders trip over: lengths that lie, ends cut off, pieces twice.

use crate::samples::Sample;

/// Inputs longer than this say nothing that shorter ones do not.
const BYTES_MAX: usize = 32 * 1024;

/// SplitMix64: the same seed, the same changes.
#[derive(Clone, Debug)]
pub struct Chance(pub u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// An input made of one of these samples, or of two.
pub fn changed(samples: &[Sample], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = samples[chance.below(samples.len())].clone();
    for _ in 0..1 + chance.below(5) {
        change(&mut bytes, samples, chance);
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

fn change(bytes: &mut Vec<u8>, samples: &[Sample], chance: &mut Chance) {
    let at = chance.below(bytes.len() + 1);
    let len = bytes.len();
    match chance.below(10) {
        0 if at < len => bytes[at] ^= 1 << chance.below(8),
        1 if at < len => bytes[at] = chance.next() as u8,
        // A length, a count, a type.
        2..=4 if at + 4 <= len => {
            let number = number(len - at, chance);
            bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
        }
        5 => bytes.truncate(at),
        6 => {
            let end = at + chance.below(len - at + 1).min(64);
            bytes.drain(at..end);
        }
        7 => {
            let end = at + chance.below(len - at + 1).min(64);
            let twice = bytes[at..end].to_vec();
            bytes.splice(at..at, twice);
        }
        8 => {
            let more = chance.next().to_be_bytes();
            bytes.splice(at..at, more[..1 + chance.below(8)].iter().copied());
        }
        // On with the end of another sample.
        9 => {
            let other = &samples[chance.below(samples.len())];
            bytes.truncate(at);
            bytes.extend_from_slice(&other[at.min(other.len())..]);
        }
        _ => bytes.push(chance.next() as u8),
    }
}

/// One that means something where a length or a type stands.
fn number(left: usize, chance: &mut Chance) -> i32 {
    let left = left as i32;
    match chance.below(9) {
        0 => -1,
        1 => i32::MAX,
        2 => i32::MIN,
        3 => left - 4,
        4 => left - 3,
        5 => left / 8,
        6 => 1 << chance.below(31),
        _ => chance.below(128) as i32 - 16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_one_series_of_inputs_and_few_are_the_same() {
        let samples = [vec![7; 40], b"the other".to_vec(), Vec::new()];
        let series = |seed| {
            let mut chance = Chance(seed);
            (0..1000).map(|_| changed(&samples, &mut chance)).collect::<Vec<_>>()
        };
        assert_eq!(series(1), series(1));
        let mut different = series(1);
        different.sort();
        different.dedup();
        assert!(different.len() > 800, "{} different inputs", different.len());
    }
}
