//! The index: from a key to the few places that may hold it. Hash tables on disk, written in runs.
//!
//! ```text
//! run:    | bucket | bucket | ...              of 4 KiB each
//! bucket: | checksum u32 | run u32 | bucket u32 | count u16 | overflowed u16 | (tag u32, 1 + value u32) x 510 |
//! ```
//!
//! There are two of them. *Children*: (parent's slot, name) -> slots, for every node. *Extras*: slot -> chunk, for the nodes
//! that went ahead of the walk. A run takes entries while chunks pass through the writer, straight into their buckets, and
//! is written out when it is full: so the memory for it is bounded, nothing is ever sorted, and a lookup looks at one
//! bucket in each run, and there mostly at one cache line: an entry is in its own place or in the first free one behind it.
//! Three places in ten stay free; a bucket that is full all the same sends its surplus to the next and says so, which is
//! right, if slow, even when all keys are the same.
//!
//! Keys are spread by SipHash 1-3: it is published, hence the same in every version of this program, and keyed with zxid
//! and digest of the tree, so that names that fall together cannot be prepared. A tag only says "perhaps": the taker
//! compares names.

use std::hash::Hasher;
use std::mem::{offset_of, size_of};

use siphasher::sip::SipHasher13;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::image::SnapshotHeader;
use crate::Zxid;
use crate::disk::{BLOCK_BYTES, Buffer};

pub const BUCKET_ENTRIES: usize = 510;
/// Of these on average when a run is full.
const BUCKET_ENTRIES_USED: u64 = 357;
/// What is written in one piece.
pub const PIECE_BYTES: usize = 64 << 10;
const PIECE_BUCKETS: usize = PIECE_BYTES / BLOCK_BYTES;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Entry {
    tag: U32,
    /// One more than the value; 0: the place is free.
    value: U32,
}

#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Bucket {
    /// crc32c of the snapshot's zxid and of everything after this field.
    checksum: U32,
    run: U32,
    bucket: U32,
    count: U16,
    /// Some that belong here are in the next one.
    overflowed: U16,
    entries: [Entry; BUCKET_ENTRIES],
}

const _: () = assert!(size_of::<Bucket>() == BLOCK_BYTES);

/// Where to look, and what to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Chooses the bucket: the same part of it in every run.
    spread: u32,
    tag: u32,
}

impl Key {
    fn bucket(self, buckets: u32) -> u32 {
        ((u64::from(self.spread) * u64::from(buckets)) >> 32) as u32
    }

    /// Its own place in a bucket.
    fn place(self) -> usize {
        let mixed = self.tag.wrapping_mul(0x85eb_ca6b); // slots are tags too, and lie close together
        ((u64::from(mixed) * BUCKET_ENTRIES as u64) >> 32) as usize
    }

    pub fn of_slot(slot: u32) -> Key {
        Key { spread: slot.wrapping_mul(0x9e37_79b9), tag: slot }
    }
}

/// Makes the keys of one snapshot's children.
#[derive(Clone, Copy, Debug)]
pub struct ChildKeys(SipHasher13);

impl ChildKeys {
    pub fn of(header: &SnapshotHeader) -> ChildKeys {
        ChildKeys(SipHasher13::new_with_keys(header.zxid, header.tree_digest))
    }

    pub fn hash(&self, parent: u32, name: &str) -> u64 {
        let mut hasher = self.0;
        hasher.write(&parent.to_le_bytes());
        hasher.write(name.as_bytes());
        hasher.finish()
    }

    pub fn key(&self, parent: u32, name: &str) -> Key {
        let hash = self.hash(parent, name);
        Key { spread: (hash >> 32) as u32, tag: hash as u32 }
    }
}

/// Where a run lies, as the manifest keeps it.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct RunPlace {
    pub at: u64,
    /// Counts the runs of both kinds.
    pub number: u32,
    pub buckets: u32,
    pub entries: u32,
}

impl RunPlace {
    pub fn bytes(&self) -> u64 {
        u64::from(self.buckets) * BLOCK_BYTES as u64
    }
}

/// Some buckets of a run, as they will be written in one go. What goes into their headers is kept beside them until then:
/// an entry that goes in touches one line of the run's many.
#[derive(Debug)]
pub struct Piece {
    first_bucket: u32,
    buffer: Buffer,
    fills: Vec<Fill>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Fill {
    count: u16,
    overflowed: bool,
}

/// A run that is being filled.
#[derive(Debug)]
pub struct Run {
    pieces: Vec<Piece>,
    buckets: u32,
    entries: u32,
    entries_max: u32,
}

impl Run {
    /// For so many entries. Its memory is made of `spare` buffers as far as they go.
    pub fn new(entries_max: u32, spare: &mut Vec<Buffer>) -> Run {
        let entries_max = entries_max.max(1);
        let buckets = u64::from(entries_max).div_ceil(BUCKET_ENTRIES_USED) as usize;
        let mut pieces = Vec::new();
        for first in (0..buckets).step_by(PIECE_BUCKETS) {
            let mut buffer = spare.pop().unwrap_or_else(|| Buffer::with_capacity(PIECE_BYTES));
            let fills = vec![Fill::default(); (buckets - first).min(PIECE_BUCKETS)];
            buffer.clear();
            buffer.resize(fills.len() * BLOCK_BYTES);
            pieces.push(Piece { first_bucket: first as u32, buffer, fills });
        }
        Run { pieces, buckets: buckets as u32, entries: 0, entries_max }
    }

    pub fn is_full(&self) -> bool {
        self.entries == self.entries_max
    }

    /// Entries that still go in.
    pub fn room(&self) -> usize {
        (self.entries_max - self.entries) as usize
    }

    #[cfg(test)]
    pub fn buffer_bytes(&self) -> usize {
        self.pieces.iter().map(Piece::capacity).sum()
    }

    /// # Panics
    /// When the run is full, or the value is the highest of all.
    pub fn insert(&mut self, key: Key, value: u32) {
        assert!(!self.is_full());
        self.entries += 1;
        let mut at = key.bucket(self.buckets);
        loop {
            let piece = &mut self.pieces[at as usize / PIECE_BUCKETS];
            let nth = at as usize % PIECE_BUCKETS;
            let fill = &mut piece.fills[nth];
            if usize::from(fill.count) < BUCKET_ENTRIES {
                fill.count += 1;
                let entries = &mut bucket_mut(&mut piece.buffer, nth).entries;
                let mut place = key.place();
                while entries[place].value.get() != 0 {
                    place = (place + 1) % BUCKET_ENTRIES;
                }
                entries[place] = Entry { tag: key.tag.into(), value: (value + 1).into() };
                return;
            }
            // There is room somewhere: a run has more of it than entries.
            fill.overflowed = true;
            at = (at + 1) % self.buckets;
        }
    }

    /// Where it will lie, and what is to be written there, one after the other.
    pub fn close(self, number: u32, at: u64) -> (RunPlace, Vec<Piece>) {
        (RunPlace { at, number, buckets: self.buckets, entries: self.entries }, self.pieces)
    }
}

impl Piece {
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// Headers and checksums for its buckets: then it can be written.
    pub fn seal(mut self, run: &RunPlace, zxid: Zxid) -> Buffer {
        for (nth, fill) in self.fills.iter().enumerate() {
            let bucket = bucket_mut(&mut self.buffer, nth);
            bucket.run = run.number.into();
            bucket.bucket = (self.first_bucket + nth as u32).into();
            bucket.count = fill.count.into();
            bucket.overflowed = u16::from(fill.overflowed).into();
            bucket.checksum = bucket.expected_checksum(zxid).into();
        }
        self.buffer
    }
}

fn bucket_mut(buckets: &mut Buffer, nth: usize) -> &mut Bucket {
    Bucket::mut_from_bytes(&mut buckets[nth * BLOCK_BYTES..(nth + 1) * BLOCK_BYTES]).expect("a block")
}

impl Bucket {
    /// `block` is this bucket of this run, or so it seems.
    pub fn verify<'a>(block: &'a [u8], run: &RunPlace, bucket: u32, zxid: Zxid) -> Result<&'a Bucket, String> {
        let at = run.at + u64::from(bucket) * BLOCK_BYTES as u64;
        let wrong = |why: &str| format!("index run {} at byte {at}: {why}", run.number);
        let found = Bucket::ref_from_bytes(block).map_err(|_| wrong("the file ends"))?;
        if found.checksum.get() != found.expected_checksum(zxid) {
            return Err(wrong("checksum mismatch"));
        }
        if found.run.get() != run.number || found.bucket.get() != bucket {
            return Err(wrong("bytes of another bucket"));
        }
        if usize::from(found.count.get()) > BUCKET_ENTRIES {
            return Err(wrong("more entries than fit"));
        }
        Ok(found)
    }

    /// The same once more, when the block was verified earlier.
    ///
    /// # Panics
    /// When it is not a whole block.
    pub fn verified_before(block: &[u8]) -> &Bucket {
        Bucket::ref_from_bytes(block).expect("a block")
    }

    fn expected_checksum(&self, zxid: Zxid) -> u32 {
        let bytes = &self.as_bytes()[offset_of!(Bucket, run)..];
        crc32c::crc32c_append(crc32c::crc32c(&zxid.0.to_le_bytes()), bytes)
    }

    fn values(&self, key: Key) -> impl Iterator<Item = u32> {
        let (before, from) = self.entries.split_at(key.place());
        let taken = from.iter().chain(before).take_while(|entry| entry.value.get() != 0);
        taken.filter(move |entry| entry.tag.get() == key.tag).map(|entry| entry.value.get() - 1)
    }

    pub fn count(&self) -> u32 {
        self.count.get().into()
    }
}

/// Offers the values under a key until one is taken. `bucket` fetches one, checked.
pub fn look_up<'a, E>(
    run: &RunPlace,
    key: Key,
    mut bucket: impl FnMut(u32) -> Result<&'a Bucket, E>,
    take: &mut dyn FnMut(u32) -> Result<bool, E>,
) -> Result<bool, E> {
    let home = key.bucket(run.buckets);
    for step in 0..run.buckets {
        let found = bucket(((u64::from(home) + u64::from(step)) % u64::from(run.buckets)) as u32)?;
        for value in found.values(key) {
            if take(value)? {
                return Ok(true);
            }
        }
        if found.overflowed.get() == 0 {
            break;
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn written(entries: impl ExactSizeIterator<Item = (Key, u32)>) -> (RunPlace, Vec<u8>) {
        let mut spare = Vec::new();
        let mut run = Run::new(entries.len() as u32, &mut spare);
        for (key, value) in entries {
            run.insert(key, value);
        }
        assert!(run.is_full());
        let (place, pieces) = run.close(5, 8192);
        let mut bytes = Vec::new();
        for piece in pieces {
            bytes.extend_from_slice(&piece.seal(&place, Zxid(7)));
        }
        assert_eq!(bytes.len() as u64, place.bytes());
        (place, bytes)
    }

    fn found(place: &RunPlace, bytes: &[u8], key: Key) -> Vec<u32> {
        let mut values = Vec::new();
        let fetch = |bucket: u32| {
            let block = &bytes[bucket as usize * BLOCK_BYTES..][..BLOCK_BYTES];
            Ok::<_, Infallible>(Bucket::verify(block, place, bucket, Zxid(7)).unwrap())
        };
        let taken = look_up(place, key, fetch, &mut |value| {
            values.push(value);
            Ok(false)
        });
        assert_eq!(taken, Ok(false));
        values
    }

    #[test]
    fn every_entry_is_found_and_little_else() {
        let header = SnapshotHeader {
            zxid: 7,
            tree_digest: 9,
            node_count: 0,
            slot_count: 0,
            data_bytes: 0,
            acls: Vec::new(),
            sessions: Vec::new(),
        };
        let keys = ChildKeys::of(&header);
        let key = |slot: u32| keys.key(slot / 10, &format!("child-{slot}"));
        let (place, bytes) = written((0..100_000).map(|slot| (key(slot), slot)));
        assert!(place.buckets > PIECE_BUCKETS as u32);
        let mut others = 0;
        for slot in 0..100_000 {
            let values = found(&place, &bytes, key(slot));
            assert!(values.contains(&slot));
            others += values.len() - 1;
        }
        for slot in 100_000..110_000 {
            others += found(&place, &bytes, key(slot)).len();
        }
        assert!(others < 10, "{others}");
        // Part of the format: what was written by one version is looked up by another.
        assert_eq!(keys.key(3, "child"), Key { spread: 1_145_126_279, tag: 2_390_739_565 });
    }

    #[test]
    fn keys_that_all_fall_together_are_still_found() {
        for spread in [0, u32::MAX] {
            let key = Key { spread, tag: 77 };
            let (place, bytes) = written((0..5000).map(|slot| (key, slot)));
            assert_eq!(place.buckets, 15);
            let mut values = found(&place, &bytes, key);
            values.sort_unstable();
            assert!(values.into_iter().eq(0..5000));
            assert!(found(&place, &bytes, Key { spread, tag: 78 }).is_empty());
        }
    }

    #[test]
    fn a_bucket_passes_only_for_itself() {
        let (place, bytes) = written((0..1000).map(|slot| (Key::of_slot(slot), slot)));
        let block = &bytes[BLOCK_BYTES..2 * BLOCK_BYTES];
        Bucket::verify(block, &place, 1, Zxid(7)).unwrap();
        assert!(Bucket::verify(block, &place, 0, Zxid(7)).is_err());
        assert!(Bucket::verify(block, &place, 1, Zxid(8)).is_err());
        assert!(Bucket::verify(block, &RunPlace { number: 4, ..place.clone() }, 1, Zxid(7)).is_err());
        assert!(Bucket::verify(&block[1..], &place, 1, Zxid(7)).is_err());
        for at in 0..BLOCK_BYTES {
            let mut damaged = block.to_vec();
            damaged[at] ^= 4;
            assert!(Bucket::verify(&damaged, &place, 1, Zxid(7)).is_err(), "byte {at}");
        }
        // A right checksum over a count that is none.
        let mut damaged = Buffer::with_capacity(BLOCK_BYTES);
        damaged.extend_from_slice(block);
        bucket_mut(&mut damaged, 0).count = U16::new(BUCKET_ENTRIES as u16 + 1);
        let checksum = bucket_mut(&mut damaged, 0).expected_checksum(Zxid(7));
        bucket_mut(&mut damaged, 0).checksum = checksum.into();
        assert!(Bucket::verify(&damaged, &place, 1, Zxid(7)).unwrap_err().contains("more entries"));
    }

    #[test]
    fn memory_comes_from_what_is_spare_and_holds_nothing_old() {
        let mut spare = Vec::new();
        let mut run = Run::new(10, &mut spare);
        (0..10).for_each(|slot| run.insert(Key::of_slot(slot), slot));
        let (place, pieces) = run.close(0, 0);
        let mut spare: Vec<_> = pieces.into_iter().map(|piece| piece.seal(&place, Zxid(7))).collect();
        assert_eq!(spare.len(), 1);
        let again = Run::new(10, &mut spare);
        assert!(spare.is_empty() && again.room() == 10 && again.pieces[0].buffer.iter().all(|byte| *byte == 0));
    }
}
