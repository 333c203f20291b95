//! Two structures that grow to a hundred million entries without ever stopping to move them.
//!
//! * [`Paged`] holds things in places: pages are added, never reallocated. Freed places are reused, last freed first.
//! * [`HashIndex`] finds a place from a key it does not hold: a hash structure in shards that grow one at a time, with 32
//!   bits of hash beside each place, so that growing reads nothing but the shard itself.

use std::ops::{Index, IndexMut};

use hashbrown::HashTable;

const PAGE_BITS: u32 = 10;
const PAGE_LEN: usize = 1 << PAGE_BITS;

/// No place. Ends every list that is threaded through a table.
pub(super) const NIL: u32 = u32::MAX;

/// As large as a `T` wherever that leaves a bit pattern free.
#[derive(Debug)]
pub(super) enum Place<T> {
    Vacant { next_free: u32 },
    Taken(T),
}

#[derive(Debug)]
pub(super) struct Paged<T> {
    pages: Vec<Vec<Place<T>>>,
    first_free: u32,
    taken: u32,
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Paged { pages: Vec::new(), first_free: NIL, taken: 0 }
    }
}

impl<T> Paged<T> {
    pub fn insert(&mut self, value: T) -> u32 {
        let at = if self.first_free == NIL {
            let at = self.end();
            assert!(at < NIL, "a table holds at most 2^32 - 1 entries");
            if (at as usize).is_multiple_of(PAGE_LEN) {
                self.pages.push(Vec::with_capacity(PAGE_LEN));
            }
            self.pages.last_mut().expect("just pushed").push(Place::Taken(value));
            at
        } else {
            let at = self.first_free;
            let place = &mut self.pages[at as usize >> PAGE_BITS][at as usize % PAGE_LEN];
            let Place::Vacant { next_free } = *place else { panic!("place {at} is on the free list and taken") };
            self.first_free = next_free;
            *place = Place::Taken(value);
            at
        };
        self.taken += 1;
        at
    }

    pub fn remove(&mut self, at: u32) -> T {
        let place = &mut self.pages[at as usize >> PAGE_BITS][at as usize % PAGE_LEN];
        let vacant = Place::Vacant { next_free: self.first_free };
        let Place::Taken(value) = std::mem::replace(place, vacant) else { panic!("place {at} is vacant") };
        self.first_free = at;
        self.taken -= 1;
        value
    }

    pub fn get(&self, at: u32) -> Option<&T> {
        match self.pages.get(at as usize >> PAGE_BITS)?.get(at as usize % PAGE_LEN)? {
            Place::Taken(value) => Some(value),
            Place::Vacant { .. } => None,
        }
    }

    /// Entries in use.
    pub fn len(&self) -> u32 {
        self.taken
    }

    /// One more than the highest place ever used.
    pub fn end(&self) -> u32 {
        match self.pages.last() {
            None => 0,
            Some(last) => ((self.pages.len() - 1) * PAGE_LEN + last.len()) as u32,
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0u32..).zip(self.pages.iter().flatten()).filter_map(|(at, place)| match place {
            Place::Taken(value) => Some((at, value)),
            Place::Vacant { .. } => None,
        })
    }
}

impl<T> Index<u32> for Paged<T> {
    type Output = T;
    fn index(&self, at: u32) -> &T {
        match &self.pages[at as usize >> PAGE_BITS][at as usize % PAGE_LEN] {
            Place::Taken(value) => value,
            Place::Vacant { .. } => panic!("place {at} is vacant"),
        }
    }
}

impl<T> IndexMut<u32> for Paged<T> {
    fn index_mut(&mut self, at: u32) -> &mut T {
        match &mut self.pages[at as usize >> PAGE_BITS][at as usize % PAGE_LEN] {
            Place::Taken(value) => value,
            Place::Vacant { .. } => panic!("place {at} is vacant"),
        }
    }
}

const SHARDS: usize = 1024;

#[derive(Debug)]
pub(super) struct HashIndex {
    shards: Box<[HashTable<Entry>]>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u32,
    place: u32,
}

impl Entry {
    /// hashbrown takes its bucket from the low bits and its tag from the highest seven: both must depend on all 32.
    fn spread(hash: u32) -> u64 {
        u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

impl Default for HashIndex {
    fn default() -> Self {
        HashIndex { shards: (0..SHARDS).map(|_| HashTable::new()).collect() }
    }
}

impl HashIndex {
    /// The upper part of a hash chooses the shard, the lower half the entry in it.
    ///
    /// Equal shards would all double at once: half empty everywhere at one size, a storm of growing at the next. So the
    /// share of a shard rises from the first to twice as much for the last, by `shard = SHARDS * u * (4 - u) / 3` of a
    /// uniform `u` in 0..1 (nearly its binary logarithm). At any size every state of filling is found in some shards.
    fn parts(hash: u64) -> (usize, u32) {
        const U_BITS: u32 = 24;
        let u = hash >> (u64::BITS - U_BITS);
        let share = u * ((4 << U_BITS) - u) / 3;
        (((share * SHARDS as u64) >> (2 * U_BITS)) as usize, hash as u32)
    }

    pub fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let (shard, hash) = Self::parts(hash);
        let found = self.shards[shard].find(Entry::spread(hash), |entry| entry.hash == hash && is_it(entry.place));
        found.map(|entry| entry.place)
    }

    /// The place must not be there yet.
    pub fn insert(&mut self, hash: u64, place: u32) {
        let (shard, hash) = Self::parts(hash);
        self.shards[shard].insert_unique(Entry::spread(hash), Entry { hash, place }, |entry| Entry::spread(entry.hash));
    }

    /// The place must be there, inserted under this hash.
    pub fn remove(&mut self, hash: u64, place: u32) {
        let (shard, hash) = Self::parts(hash);
        let entry = self.shards[shard].find_entry(Entry::spread(hash), |entry| entry.place == place);
        entry.expect("what is in a table is in its index").remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_get_shares_from_one_to_two() {
        let mut entries = [0u32; SHARDS];
        for at in 0..1 << 20 {
            entries[HashIndex::parts(at << 44).0] += 1;
        }
        let mean = (1 << 20) / SHARDS as u32;
        assert!(entries.is_sorted_by(|a, b| *a <= b + 1), "rounding aside");
        assert!((entries[0] * 4).abs_diff(mean * 3) < 16 && (entries[SHARDS - 1] * 4).abs_diff(mean * 6) < 16);
    }

    #[test]
    fn the_index_keeps_places_of_equal_hashes_apart() {
        let mut index = HashIndex::default();
        for place in 0..100 {
            index.insert(7, place);
            index.insert(7 << 40, 1000 + place);
        }
        index.remove(7, 50);
        assert_eq!(index.find(7, |place| place == 51), Some(51));
        assert_eq!(index.find(7, |place| place == 50 || place > 100), None);
        assert_eq!(index.find(7 << 40, |place| place == 1050), Some(1050));
    }

    #[test]
    fn freed_places_are_reused_and_nothing_else_moves() {
        let mut table = Paged::default();
        let places: Vec<u32> = (0..3000u32).map(|value| table.insert(value)).collect();
        assert_eq!(places, (0..3000).collect::<Vec<_>>());
        let before = std::ptr::from_ref(&table[2999]);
        assert_eq!((table.remove(7), table.remove(2000)), (7, 2000));
        assert_eq!((table.get(7), table.get(2000), table.get(9000)), (None, None, None));
        assert_eq!((table.len(), table.end(), table.iter().count()), (2998, 3000, 2998));
        assert_eq!((table.insert(1), table.insert(2), table.insert(3)), (2000, 7, 3000));
        assert_eq!(std::ptr::from_ref(&table[2999]), before);
    }
}
