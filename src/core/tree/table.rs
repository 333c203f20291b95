//! Two structures that grow to a hundred million entries without ever stopping to move them.
//!
//! * [`Paged`] holds things in places: pages are added, never reallocated. Freed places are reused, last freed first. A
//!   table can begin with places whose content lies elsewhere: they are filled in, in any order and through a shared
//!   reference, and a page is made when the first of its places is.
//! * [`HashIndex`] finds a place from a key it does not hold: a hash structure in shards that grow one at a time, with 32
//!   bits of hash beside each place, so that growing reads nothing but the shard itself.

use std::cell::OnceCell;
use std::hash::BuildHasher;
use std::ops::{Index, IndexMut};

use foldhash::fast::{FixedState, FoldHasher};
use hashbrown::HashTable;

const PAGE_BITS: u32 = 10;
const PAGE_LEN: usize = 1 << PAGE_BITS;

/// No place. Ends every list that is threaded through a table.
pub(super) const NIL: u32 = u32::MAX;

/// As large as a `T` wherever that leaves a bit pattern free.
#[derive(Debug)]
pub(super) enum Content<T> {
    Vacant { next_free: u32 },
    Taken(T),
}

/// Empty: never used, or to be filled in.
pub(super) type Place<T> = OnceCell<Content<T>>;

type Page<T> = Box<[Place<T>; PAGE_LEN]>;

#[derive(Debug)]
pub(super) struct Paged<T> {
    pages: Vec<OnceCell<Page<T>>>,
    /// One more than the highest place ever used.
    end: u32,
    first_free: u32,
    taken: u32,
    /// Whole pages of free places that were never made.
    bare_pages: Vec<u32>,
    /// Pages below this one are complete; on the others, below `open_end`, places may still be filled in, and none is free.
    open_page: u32,
    open_end: u32,
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Paged::to_be_filled(0, 0)
    }
}

impl<T> Paged<T> {
    /// A table whose first `end` places are still to be filled in, with `taken` entries among them.
    pub fn to_be_filled(end: u32, taken: u32) -> Paged<T> {
        let pages = (0..(end as usize).div_ceil(PAGE_LEN)).map(|_| OnceCell::new()).collect();
        Paged { pages, end, first_free: NIL, taken, bare_pages: Vec::new(), open_page: 0, open_end: end }
    }

    pub fn insert(&mut self, value: T) -> u32 {
        let at = self.free_place();
        let place = self.place_mut(at);
        assert!(!matches!(place.get(), Some(Content::Taken(_))), "place {at} is free and taken");
        *place = OnceCell::from(Content::Taken(value));
        self.taken += 1;
        at
    }

    fn free_place(&mut self) -> u32 {
        if self.first_free == NIL
            && let Some(page) = self.bare_pages.pop()
        {
            self.free_rest_of(page);
        }
        if self.first_free != NIL {
            let at = self.first_free;
            let Some(&Content::Vacant { next_free }) = self.place_mut(at).get() else {
                panic!("place {at} is on the free list and taken")
            };
            self.first_free = next_free;
            return at;
        }
        let at = self.end;
        assert!(at < NIL, "a table holds at most 2^32 - 1 entries");
        if self.pages.len() == at as usize >> PAGE_BITS {
            self.pages.push(OnceCell::new());
        }
        self.end += 1;
        at
    }

    pub fn remove(&mut self, at: u32) -> T {
        let is_open = self.is_open(at);
        let next_free = if is_open { NIL } else { self.first_free };
        let vacant = OnceCell::from(Content::Vacant { next_free });
        let place = std::mem::replace(self.place_mut(at), vacant);
        let Some(Content::Taken(value)) = place.into_inner() else { panic!("place {at} is vacant") };
        if !is_open {
            self.first_free = at;
        }
        self.taken -= 1;
        value
    }

    #[inline]
    pub fn get(&self, at: u32) -> Option<&T> {
        match self.pages.get(at as usize >> PAGE_BITS)?.get()?[at as usize % PAGE_LEN].get() {
            Some(Content::Taken(value)) => Some(value),
            _ => None,
        }
    }

    #[inline]
    pub fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        match self.pages.get_mut(at as usize >> PAGE_BITS)?.get_mut()?[at as usize % PAGE_LEN].get_mut() {
            Some(Content::Taken(value)) => Some(value),
            _ => None,
        }
    }

    /// Whether this place is still to be filled in.
    pub fn is_unfilled(&self, at: u32) -> bool {
        let page = self.pages.get(at as usize >> PAGE_BITS).and_then(OnceCell::get);
        self.is_open(at) && page.is_none_or(|page| page[at as usize % PAGE_LEN].get().is_none())
    }

    /// Fills in one of the places this table began with; its entry is counted already.
    pub fn fill(&self, at: u32, value: T) {
        assert!(self.is_open(at), "place {at} is not one to be filled in");
        let page = self.pages[at as usize >> PAGE_BITS].get_or_init(new_page);
        let before = page[at as usize % PAGE_LEN].set(Content::Taken(value));
        assert!(before.is_ok(), "place {at} is filled in twice");
    }

    /// Everything below this place has been filled in: what was not is free, page by page.
    pub fn filled_below(&mut self, at: u32) {
        let whole_pages = if at >= self.open_end { self.open_end.div_ceil(PAGE_LEN as u32) } else { at >> PAGE_BITS };
        while self.open_page < whole_pages {
            let page = self.open_page;
            match self.pages[page as usize].get() {
                Some(_) => self.free_rest_of(page),
                None => self.bare_pages.push(page),
            }
            self.open_page += 1;
        }
    }

    /// Entries in use.
    pub fn len(&self) -> u32 {
        self.taken
    }

    /// One more than the highest place ever used.
    pub fn end(&self) -> u32 {
        self.end
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..self.end).filter_map(|at| Some((at, self.get(at)?)))
    }

    fn is_open(&self, at: u32) -> bool {
        at < self.open_end && at >> PAGE_BITS >= self.open_page
    }

    /// Puts every place of this page that a table began with and that holds nothing on the free list, the first one first.
    fn free_rest_of(&mut self, page: u32) {
        let from = page << PAGE_BITS;
        let to = self.open_end.min(from.saturating_add(PAGE_LEN as u32));
        for at in (from..to).rev() {
            let next_free = self.first_free;
            let place = self.place_mut(at);
            if !matches!(place.get(), Some(Content::Taken(_))) {
                *place = OnceCell::from(Content::Vacant { next_free });
                self.first_free = at;
            }
        }
    }

    fn place_mut(&mut self, at: u32) -> &mut Place<T> {
        let page = &mut self.pages[at as usize >> PAGE_BITS];
        if page.get().is_none() {
            *page = OnceCell::from(new_page());
        }
        &mut page.get_mut().expect("just made")[at as usize % PAGE_LEN]
    }
}

fn new_page<T>() -> Page<T> {
    let places: Box<[Place<T>]> = (0..PAGE_LEN).map(|_| OnceCell::new()).collect();
    places.try_into().ok().expect("the length of a page")
}

impl<T> Index<u32> for Paged<T> {
    type Output = T;
    fn index(&self, at: u32) -> &T {
        self.get(at).unwrap_or_else(|| panic!("place {at} is vacant"))
    }
}

impl<T> IndexMut<u32> for Paged<T> {
    fn index_mut(&mut self, at: u32) -> &mut T {
        self.get_mut(at).unwrap_or_else(|| panic!("place {at} is vacant"))
    }
}

const SHARDS: usize = 1024;

#[derive(Debug)]
pub(super) struct HashIndex {
    state: FixedState,
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

/// Of keys that no client chooses.
impl Default for HashIndex {
    fn default() -> Self {
        HashIndex::new(0)
    }
}

impl HashIndex {
    pub fn new(hash_seed: u64) -> HashIndex {
        let shards = (0..SHARDS).map(|_| HashTable::new()).collect();
        HashIndex { state: FixedState::with_seed(hash_seed), shards }
    }

    /// Of the keys of this index.
    pub fn hasher(&self) -> FoldHasher<'static> {
        self.state.build_hasher()
    }

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
    use std::hash::Hasher;

    use super::*;

    /// Names that fall together, so chosen by somebody who knows where names fall, do not elsewhere.
    #[test]
    fn where_a_key_falls_is_for_its_seed_alone() {
        let fall = |seed: u64, name: u64| {
            let mut hasher = HashIndex::new(seed).hasher();
            hasher.write(&name.to_le_bytes());
            HashIndex::parts(hasher.finish()).0
        };
        let together: Vec<u64> = (0..100_000).filter(|name| fall(1, *name) == 5).collect();
        let elsewhere: std::collections::BTreeSet<usize> = together.iter().map(|name| fall(2, *name)).collect();
        assert!(together.len() > 50 && elsewhere.len() > together.len() / 2, "{} at {elsewhere:?}", together.len());
    }

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

    #[test]
    fn places_to_be_filled_are_free_only_when_their_page_is_complete() {
        let end = 3 * PAGE_LEN as u32 + 5;
        let mut table = Paged::to_be_filled(end, 4);
        assert_eq!((table.len(), table.end(), table.get(7), table.is_unfilled(7)), (4, end, None, true));
        table.fill(7, 70);
        table.fill(2, 20);
        table.fill(end - 1, 40);
        table.fill(2 * PAGE_LEN as u32, 30);
        assert_eq!((table[7], table.is_unfilled(7), table.is_unfilled(8)), (70, false, true));
        assert_eq!((table.remove(7), table.is_unfilled(7), table.get(7)), (70, false, None));
        assert_eq!(table.insert(1), end, "nothing is free yet");
        assert!(!table.is_unfilled(end) && !table.is_unfilled(end + 1));

        table.filled_below(PAGE_LEN as u32 - 1);
        assert_eq!(table.insert(2), end + 1, "a page is not complete before its end");
        table.filled_below(PAGE_LEN as u32);
        assert_eq!((table.insert(3), table.insert(4), table.insert(5)), (0, 1, 3));
        assert_eq!(table.remove(2), 20);
        assert_eq!((table.insert(6), table.insert(7)), (2, 4), "complete pages free their places at once");

        table.filled_below(end);
        assert!((0..end + 9).all(|at| !table.is_unfilled(at)));
        assert_eq!(table.pages.iter().filter(|page| page.get().is_none()).count(), 1, "a page of holes is not made");
        let free = end - table.iter().filter(|(at, _)| *at < end).count() as u32;
        let mut reused: Vec<u32> = (0..free).map(|value| table.insert(value)).collect();
        reused.sort_unstable();
        reused.dedup();
        assert_eq!((reused.len() as u32, reused.last()), (free, Some(&(end - 2))), "each place once");
        assert_eq!((table.insert(0), table.len()), (end + 2, end + 3));
    }
}
