//! What one file of a memory disk holds: as readers see it, as the last flush left it, and what was made of it in between.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::disk::BLOCK_BYTES;

#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    /// As readers see it.
    current: Bytes,
    /// As the last flush left it.
    stable: Bytes,
    /// What each sector was made into since then, oldest first.
    sectors: BTreeMap<usize, Vec<Vec<u8>>>,
    /// How long the file was made since then, oldest first.
    lengths: Vec<usize>,
}

impl Content {
    pub fn stable(bytes: Vec<u8>) -> Content {
        let mut content = Content::default();
        content.grow(bytes.len());
        content.current.write(0, &bytes);
        Content { stable: content.current.clone(), current: content.current, ..Content::default() }
    }

    pub fn len(&self) -> usize {
        self.current.length
    }

    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.current.length];
        self.read(0, &mut bytes);
        bytes
    }

    /// Returns how many there were.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> usize {
        let count = bytes.len().min(self.current.length.saturating_sub(offset));
        self.current.read(offset, &mut bytes[..count]);
        count
    }

    pub fn write(&mut self, sector_bytes: usize, offset: usize, bytes: &[u8]) {
        self.grow(offset + bytes.len());
        self.current.write(offset, bytes);
        for sector in sectors(sector_bytes, offset, bytes.len()) {
            let made = self.current.sector(sector_bytes, sector);
            let before = self.sectors.get(&sector).and_then(|versions| versions.last());
            let before = before.map_or_else(|| self.stable.sector(sector_bytes, sector), Vec::as_slice);
            // The same bytes over again change nothing; what is not there reads as zeroes.
            let shorter = made.len().min(before.len());
            if made[..shorter] != before[..shorter] || !is_zero(&made[shorter..]) || !is_zero(&before[shorter..]) {
                let mut version = made.to_vec();
                version.resize(sector_bytes, 0);
                self.sectors.entry(sector).or_default().push(version);
            }
        }
    }

    pub fn write_zeroes(&mut self, sector_bytes: usize, offset: usize, count: usize) {
        let written = self.current.written().max(self.stable.written());
        let changes = count.min(written.saturating_sub(offset));
        self.grow(offset + count);
        self.write(sector_bytes, offset, &vec![0; changes]);
    }

    pub fn write_durable(&mut self, sector_bytes: usize, offset: usize, bytes: &[u8]) {
        self.grow(offset + bytes.len());
        self.lengths.clear();
        self.stable.grow(self.current.length);
        self.current.write(offset, bytes);
        let written = sectors(sector_bytes, offset, bytes.len());
        let place = written.start * sector_bytes..(written.end * sector_bytes).min(self.current.length);
        self.stable.take_over(place, &self.current);
        if !self.sectors.is_empty() {
            for sector in written {
                self.sectors.remove(&sector);
            }
        }
    }

    pub fn grow(&mut self, end: usize) {
        if self.current.length < end {
            self.current.grow(end);
            self.lengths.push(end);
        }
    }

    /// The newest of everything that waits for it, and no more: not what `lose_unflushed` took.
    pub fn flush(&mut self) {
        let mut newest = |ways: usize| ways - 1;
        self.settle(&mut newest);
    }

    pub fn lose_unflushed(&mut self) {
        self.sectors.clear();
        self.lengths.clear();
    }

    pub fn decisions(&self) -> Vec<usize> {
        let length = (!self.lengths.is_empty()).then(|| self.lengths.len() + 1);
        length.into_iter().chain(self.sectors.values().map(|versions| versions.len() + 1)).collect()
    }

    pub fn cut_power(&mut self, choose: &mut impl FnMut(usize) -> usize) {
        self.settle(choose);
        self.current.clone_from(&self.stable);
    }

    /// Decides what of it all is stable.
    fn settle(&mut self, choose: &mut impl FnMut(usize) -> usize) {
        let lengths = std::mem::take(&mut self.lengths);
        if !lengths.is_empty()
            && let Some(made) = choose(lengths.len() + 1).checked_sub(1)
        {
            self.stable.grow(lengths[made]);
        }
        for (sector, versions) in std::mem::take(&mut self.sectors) {
            let Some(made) = choose(versions.len() + 1).checked_sub(1) else { continue };
            // What lies beyond the end of the file is lost with it.
            let from = (sector * versions[made].len()).min(self.stable.length);
            let count = versions[made].len().min(self.stable.length - from);
            self.stable.write(from, &versions[made][..count]);
        }
    }
}

/// So many bytes, in blocks: zeroes at the end of one take no room, and one that is stable as readers see it is there once.
#[derive(Clone, Debug, Default)]
struct Bytes {
    blocks: Vec<Arc<[u8]>>,
    length: usize,
}

impl Bytes {
    fn grow(&mut self, length: usize) {
        self.length = self.length.max(length);
    }

    /// Behind this there are zeroes.
    fn written(&self) -> usize {
        self.blocks.len() * BLOCK_BYTES
    }

    fn sector(&self, sector_bytes: usize, sector: usize) -> &[u8] {
        self.in_block(sector * sector_bytes..(sector + 1) * sector_bytes)
    }

    /// As much of a place as is not zeroes to its end.
    fn in_block(&self, place: Range<usize>) -> &[u8] {
        let at = place.start % BLOCK_BYTES;
        let block = self.blocks.get(place.start / BLOCK_BYTES).map_or(&[][..], |block| block);
        &block[at.min(block.len())..(at + place.len()).min(block.len())]
    }

    fn read(&self, offset: usize, bytes: &mut [u8]) {
        for place in by_block(offset..offset + bytes.len()) {
            let to = &mut bytes[place.start - offset..place.end - offset];
            let from = self.in_block(place);
            to[..from.len()].copy_from_slice(from);
            to[from.len()..].fill(0);
        }
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.length, "a file grows before it is written");
        for place in by_block(offset..offset + bytes.len()) {
            let from = &bytes[place.start - offset..place.end - offset];
            let (block, at) = (place.start / BLOCK_BYTES, place.start % BLOCK_BYTES);
            let made = if from.len() == BLOCK_BYTES {
                Arc::from(without_zeroes(from))
            } else {
                // What is there, and zeroes up to what comes.
                let there = self.blocks.get(block).map_or(&[][..], |block| block);
                let mut whole = Vec::with_capacity(BLOCK_BYTES);
                whole.extend_from_slice(there);
                whole.resize(there.len().max(at + from.len()), 0);
                whole[at..at + from.len()].copy_from_slice(from);
                Arc::from(without_zeroes(&whole))
            };
            *self.block_mut(block) = made;
        }
    }

    /// Takes this place over from another state of the same file.
    fn take_over(&mut self, place: Range<usize>, other: &Bytes) {
        for place in by_block(place) {
            let block = place.start / BLOCK_BYTES;
            if place.len() == BLOCK_BYTES {
                *self.block_mut(block) = other.blocks.get(block).cloned().unwrap_or_default();
            } else {
                let mut bytes = vec![0; place.len()];
                other.read(place.start, &mut bytes);
                self.write(place.start, &bytes);
            }
        }
    }

    fn block_mut(&mut self, block: usize) -> &mut Arc<[u8]> {
        if self.blocks.len() <= block {
            self.blocks.resize(block + 1, Arc::default());
        }
        &mut self.blocks[block]
    }
}

/// A place, piece by piece, each inside one block.
fn by_block(place: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let first = place.start / BLOCK_BYTES;
    let pieces = first..place.end.div_ceil(BLOCK_BYTES).max(first);
    pieces.map(move |block| place.start.max(block * BLOCK_BYTES)..place.end.min((block + 1) * BLOCK_BYTES))
}

fn sectors(sector_bytes: usize, offset: usize, bytes: usize) -> Range<usize> {
    offset / sector_bytes..(offset + bytes).div_ceil(sector_bytes)
}

/// But for those in the piece where the zeroes begin.
fn without_zeroes(block: &[u8]) -> &[u8] {
    const PIECE: usize = 256;
    let pieces = block.chunks(PIECE).rposition(|piece| !is_zero(piece)).map_or(0, |last| last + 1);
    &block[..(pieces * PIECE).min(block.len())]
}

fn is_zero(bytes: &[u8]) -> bool {
    static ZEROES: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
    bytes.chunks(BLOCK_BYTES).all(|piece| *piece == ZEROES[..piece.len()])
}
