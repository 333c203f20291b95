//! From chunks to the bytes of a snapshot file, front to back, in pieces of at most 64 KiB.
//!
//! Memory: one chunk as bytes, one piece on its way, one run of each index (at most 12 MiB), and what the manifest will
//! say: 32 bytes a chunk, 24 a node with an owner. However many nodes there are.

use std::collections::VecDeque;

use super::chunk;
use super::image::{SnapshotChunk, SnapshotHeader};
use super::index::{ChildKeys, Key, PIECE_BYTES, Piece, Run, RunPlace};
use super::manifest::{Manifest, encode_end};
use super::source::OwnedSlot;
use crate::Zxid;
use crate::disk::Buffer;
use crate::log::batch::Durable;

/// Entries of the first run of the extras' index. Nobody knows how many will come: each next run is twice as large.
const EXTRAS_FIRST_RUN: u32 = 1 << 14;

#[derive(Debug)]
pub struct Body {
    manifest: Manifest,
    keys: ChildKeys,
    /// Entries of a run at most.
    run_nodes_max: u32,
    children: Option<Run>,
    extras: Option<Run>,
    /// Where what comes next will lie.
    end: u64,
    next_slot: u32,
    nodes: u64,
    outgoing: VecDeque<(u64, Outgoing)>,
    spare: Vec<Buffer>,
}

#[derive(Debug)]
enum Outgoing {
    /// Small enough for one write.
    Piece(Buffer),
    /// Larger: copied out piece by piece.
    Long { bytes: Buffer, taken: usize },
    /// Sealed when its time has come.
    RunPiece { run: RunPlace, piece: Piece },
}

impl Body {
    pub fn new(header: SnapshotHeader, run_nodes_max: u32) -> Body {
        Body {
            keys: ChildKeys::of(&header),
            manifest: Manifest {
                header,
                chunks: Vec::new(),
                children: Vec::new(),
                extras: Vec::new(),
                owned: Vec::new(),
                log_sequence: 0,
                log_zxid: 0,
            },
            run_nodes_max,
            children: None,
            extras: None,
            end: 0,
            next_slot: 0,
            nodes: 0,
            outgoing: VecDeque::new(),
            spare: Vec::new(),
        }
    }

    pub fn zxid(&self) -> Zxid {
        Zxid(self.manifest.header.zxid)
    }

    /// Bytes of the file so far, those on their way included.
    pub fn bytes(&self) -> u64 {
        self.end
    }

    pub fn nodes(&self) -> u64 {
        self.nodes
    }

    pub fn has_pieces(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Before a chunk: a run that has no room for its nodes is to be written first, so that there is only one in memory.
    pub fn make_room(&mut self, chunk: &SnapshotChunk) {
        let nodes = chunk.nodes.len();
        if self.children.as_ref().is_some_and(|run| run.room() < nodes) {
            self.close_children();
        }
        if chunk.slots.is_none() && self.extras.as_ref().is_some_and(|run| run.room() < nodes) {
            self.close_extras();
        }
    }

    /// Takes a chunk in, or says why it cannot be the next one.
    pub fn chunk(&mut self, chunk: &SnapshotChunk) -> Result<(), String> {
        if let Some(slots) = &chunk.slots {
            let within = chunk.nodes.iter().all(|node| slots.contains(&node.slot));
            if slots.start != self.next_slot || slots.end < slots.start || !within {
                return Err(format!("a chunk of slots {slots:?} came where slot {} is next", self.next_slot));
            }
            self.next_slot = slots.end;
        }
        let index = self.manifest.chunks.len() as u32;
        let mut buffer = self.spare.pop().unwrap_or_else(|| Buffer::with_capacity(PIECE_BYTES));
        let mut place = chunk::encode(index, self.zxid(), chunk, &mut buffer);
        place.at = self.end;
        self.manifest.chunks.push(place);
        self.push(buffer);
        for node in &chunk.nodes {
            self.nodes += 1;
            self.index_child(self.keys.key(node.parent, &node.name), node.slot);
            if chunk.slots.is_none() {
                self.index_extra(Key::of_slot(node.slot), index);
            }
            if node.ephemeral_owner != 0 {
                let owned = OwnedSlot { slot: node.slot, owner: node.ephemeral_owner, czxid: node.czxid };
                self.manifest.owned.push(owned);
            }
        }
        Ok(())
    }

    /// All chunks have come: the rest of the index, manifest and footer. Or why this is not a snapshot.
    pub fn finish(&mut self, log: Durable) -> Result<(), String> {
        self.close_children();
        self.close_extras();
        self.manifest.check(self.end)?;
        (self.manifest.log_sequence, self.manifest.log_zxid) = (log.sequence, log.zxid.0);
        let end = encode_end(&self.manifest, self.end);
        self.push(end);
        Ok(())
    }

    /// What is to be written next, and where.
    pub fn next_piece(&mut self) -> Option<(u64, Buffer)> {
        let zxid = self.zxid();
        let (at, outgoing) = self.outgoing.pop_front()?;
        Some(match outgoing {
            Outgoing::Piece(piece) => (at, piece),
            Outgoing::RunPiece { run, piece } => (at, piece.seal(&run, zxid)),
            Outgoing::Long { bytes, taken } => {
                let mut piece = self.spare.pop().unwrap_or_else(|| Buffer::with_capacity(PIECE_BYTES));
                let to = (taken + PIECE_BYTES).min(bytes.len());
                piece.clear();
                piece.extend_from_slice(&bytes[taken..to]);
                if to < bytes.len() {
                    self.outgoing.push_front((at + piece.len() as u64, Outgoing::Long { bytes, taken: to }));
                }
                (at, piece)
            }
        })
    }

    /// A piece that was written comes back.
    pub fn recycle(&mut self, buffer: Buffer) {
        if buffer.capacity() == PIECE_BYTES {
            self.spare.push(buffer);
        }
    }

    fn push(&mut self, buffer: Buffer) {
        let at = self.end;
        self.end += buffer.len() as u64;
        let outgoing = match buffer.len() {
            ..=PIECE_BYTES => Outgoing::Piece(buffer),
            _ => Outgoing::Long { bytes: buffer, taken: 0 },
        };
        self.outgoing.push_back((at, outgoing));
    }

    fn index_child(&mut self, key: Key, slot: u32) {
        if self.children.as_ref().is_some_and(Run::is_full) {
            self.close_children(); // a chunk with more nodes than a run has entries
        }
        let to_come = (self.manifest.header.node_count + 1).saturating_sub(self.nodes);
        let run = self.children.get_or_insert_with(|| {
            // All of the same size, rather than a last one with a few nodes.
            let runs = to_come.div_ceil(self.run_nodes_max.into()).max(1);
            let entries = to_come.div_ceil(runs).clamp(1, self.run_nodes_max.into());
            Run::new(entries as u32, &mut self.spare)
        });
        run.insert(key, slot);
    }

    fn index_extra(&mut self, key: Key, chunk: u32) {
        if self.extras.as_ref().is_some_and(Run::is_full) {
            self.close_extras();
        }
        let doubled = EXTRAS_FIRST_RUN.saturating_mul(1 << self.manifest.extras.len().min(16));
        let entries = doubled.min(self.run_nodes_max);
        self.extras.get_or_insert_with(|| Run::new(entries, &mut self.spare)).insert(key, chunk);
    }

    fn close_children(&mut self) {
        if let Some(run) = self.children.take() {
            let place = self.push_run(run);
            self.manifest.children.push(place);
        }
    }

    fn close_extras(&mut self) {
        if let Some(run) = self.extras.take() {
            let place = self.push_run(run);
            self.manifest.extras.push(place);
        }
    }

    fn push_run(&mut self, run: Run) -> RunPlace {
        let number = (self.manifest.children.len() + self.manifest.extras.len()) as u32;
        let (place, pieces) = run.close(number, self.end);
        for piece in pieces {
            let at = self.end;
            self.end += piece.bytes() as u64;
            self.outgoing.push_back((at, Outgoing::RunPiece { run: place.clone(), piece }));
        }
        place
    }

    /// Buffers this holds, in bytes.
    #[cfg(test)]
    fn buffer_bytes(&self) -> usize {
        let outgoing = self.outgoing.iter().map(|(_, outgoing)| match outgoing {
            Outgoing::Piece(piece) => piece.capacity(),
            Outgoing::RunPiece { piece, .. } => piece.capacity(),
            Outgoing::Long { bytes, .. } => bytes.capacity(),
        });
        let runs = [&self.children, &self.extras].into_iter().flatten().map(Run::buffer_bytes);
        outgoing.chain(runs).chain(self.spare.iter().map(Buffer::capacity)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::image::{NO_SLOT, NodeImage};

    fn node(slot: u32, data_bytes: usize) -> NodeImage {
        NodeImage {
            slot,
            parent: slot / 10,
            first_child: NO_SLOT,
            next_sibling: NO_SLOT,
            prev_sibling: NO_SLOT,
            child_count: 0,
            content_crc: 0,
            name: format!("name-{slot}").into(),
            data: Some(vec![1; data_bytes]),
            acl: 1,
            czxid: 1,
            mzxid: 2,
            pzxid: 3,
            ctime: 4,
            mtime: 5,
            version: 6,
            cversion: 7,
            aversion: 8,
            ephemeral_owner: i64::from(slot.is_multiple_of(1000)),
        }
    }

    fn header(slot_count: u32) -> SnapshotHeader {
        SnapshotHeader {
            zxid: 7,
            tree_digest: 8,
            node_count: slot_count.into(),
            slot_count,
            data_bytes: 0,
            acls: Vec::new(),
            sessions: Vec::new(),
        }
    }

    /// Writes out whatever there is; the pieces follow each other from `at` on.
    fn write_out(body: &mut Body, at: &mut u64, bytes_max: usize) {
        while let Some((offset, piece)) = body.next_piece() {
            assert!(offset == *at && !piece.is_empty() && piece.len() <= PIECE_BYTES);
            *at += piece.len() as u64;
            let in_flight = piece.capacity();
            assert!(body.buffer_bytes() + in_flight <= bytes_max, "{} bytes", body.buffer_bytes() + in_flight);
            body.recycle(piece);
        }
    }

    #[test]
    fn memory_does_not_grow_with_the_tree() {
        let run_bytes = |entries: usize| entries.div_ceil(357).next_multiple_of(32) * 4096;
        for nodes in [20_000, 200_000] {
            // The chunk, its piece, a run of each kind.
            let bytes_max = 2 * PIECE_BYTES + 2 * run_bytes(10_000);
            let mut body = Body::new(header(nodes), 10_000);
            let (mut at, mut next) = (0, 0);
            while next < nodes {
                let slots = next..(next + 300).min(nodes);
                let (walked, ahead): (Vec<u32>, Vec<u32>) = slots.clone().partition(|slot| slot % 3 > 0);
                let images = |slots: Vec<u32>| slots.into_iter().map(|slot| node(slot, 100)).collect();
                for chunk in [
                    SnapshotChunk { slots: None, nodes: images(ahead) },
                    SnapshotChunk { slots: Some(slots.clone()), nodes: images(walked) },
                ] {
                    body.make_room(&chunk);
                    write_out(&mut body, &mut at, bytes_max);
                    body.chunk(&chunk).unwrap();
                    write_out(&mut body, &mut at, bytes_max);
                }
                next = slots.end;
            }
            body.finish(Durable::default()).unwrap();
            write_out(&mut body, &mut at, bytes_max + PIECE_BYTES);
            assert_eq!(at, body.bytes());
            assert_eq!(body.nodes(), u64::from(nodes));
            let runs = &body.manifest.children;
            assert_eq!(runs.len(), (nodes as usize).div_ceil(10_000) + usize::from(nodes > 20_000), "{runs:?}");
            assert!(body.manifest.extras.len() >= nodes as usize / 30_000);
            assert_eq!(body.manifest.owned.len(), nodes as usize / 1000);
        }
    }

    #[test]
    fn a_large_chunk_goes_in_pieces() {
        let mut body = Body::new(header(1), 10);
        let chunk = SnapshotChunk { slots: Some(0..1), nodes: vec![node(0, 1 << 20)] };
        body.chunk(&chunk).unwrap();
        body.finish(Durable::default()).unwrap();
        let mut at = 0;
        write_out(&mut body, &mut at, 4 << 20);
        assert_eq!(at, body.bytes());
        assert!(at > 1 << 20);
    }

    #[test]
    fn only_the_next_slots_are_the_next_chunk() {
        let refused = |chunk: SnapshotChunk| Body::new(header(20), 10).chunk(&chunk).unwrap_err();
        assert!(refused(SnapshotChunk { slots: Some(1..2), nodes: vec![] }).contains("1..2 came where slot 0 is next"));
        assert!(refused(SnapshotChunk { slots: Some(0..2), nodes: vec![node(2, 1)] }).contains("0..2"));
        let mut body = Body::new(header(20), 10);
        body.chunk(&SnapshotChunk { slots: Some(0..20), nodes: (0..19).map(|slot| node(slot, 1)).collect() }).unwrap();
        assert!(body.finish(Durable::default()).unwrap_err().contains("19 nodes came for a snapshot of 20"));
    }
}
