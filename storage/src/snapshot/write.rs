//! Writing a snapshot beside the traffic.
//!
//!   open .tmp -> chunks, a few in flight -> manifest and footer -> flush -> close -> rename -> directory flush -> ended
//!       any step fails: wait for what is in flight, close, delete, ended with the error; the server goes on without it
//!
//! Memory is bounded by the room that is announced: chunks in flight and no more. The name is given only when the log is
//! stable up to the snapshot's zxid, so a snapshot never shows a state that the log cannot vouch for.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use super::format::{ChunkPlace, Manifest, encode_chunk, encode_end};
use super::image::{NodeImage, SnapshotChunk, SnapshotHeader};
use super::{file_name, path, unfinished_path};
use crate::Zxid;
use crate::disk::{Access, Action, Buffer, DiskEvent, DiskOp, FileId, Ids, OpId, Owner, WriteSync};
use crate::error::SnapshotError;
use crate::event::{SnapshotDone, StoreEvent};
use crate::log::batch::Durable;

const CHUNK_BUFFER_BYTES: usize = 512 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Open,
    Chunks,
    End,
    Sync,
    Close,
    Rename,
    SyncDirectory,
    /// After a failure.
    AbandonClose,
    AbandonUnlink,
}

#[derive(Debug)]
struct Active {
    header: SnapshotHeader,
    file: FileId,
    step: Step,
    at: u64,
    places: Vec<ChunkPlace>,
    nodes: u64,
    waiting: VecDeque<Vec<NodeImage>>,
    /// Chunks on their way: operation and length.
    in_flight: Vec<(OpId, u64)>,
    /// The one operation of every other step, and how many bytes it has to write.
    under_way: Option<(OpId, &'static str, u64)>,
    all_chunks_given: bool,
    error: Option<SnapshotError>,
}

#[derive(Debug)]
pub struct SnapshotWriter {
    directory: PathBuf,
    direct: bool,
    slots: usize,
    active: Option<Active>,
    spare_buffers: Vec<Buffer>,
}

impl SnapshotWriter {
    pub fn new(directory: PathBuf, direct: bool, slots: usize) -> SnapshotWriter {
        SnapshotWriter { directory, direct, slots, active: None, spare_buffers: Vec::new() }
    }

    /// # Panics
    /// When a snapshot is being written already.
    pub fn begin(&mut self, header: SnapshotHeader, ids: &mut Ids) {
        assert!(self.active.is_none(), "one snapshot at a time");
        self.active = Some(Active {
            header,
            file: ids.file(),
            step: Step::Open,
            at: 0,
            places: Vec::new(),
            nodes: 0,
            waiting: VecDeque::new(),
            in_flight: Vec::new(),
            under_way: None,
            all_chunks_given: false,
            error: None,
        });
    }

    /// Without a snapshot, or after it failed, the chunk is dropped: its sender has yet to hear of the end.
    pub fn chunk(&mut self, SnapshotChunk { nodes, .. }: SnapshotChunk) {
        if let Some(active) = self.active.as_mut().filter(|active| active.error.is_none()) {
            assert!(!active.all_chunks_given, "a chunk after the last one");
            active.nodes += nodes.len() as u64;
            active.waiting.push_back(nodes);
        }
    }

    pub fn finish(&mut self) {
        if let Some(active) = self.active.as_mut() {
            active.all_chunks_given = true;
        }
    }

    /// Unless everything is there already, it fails at the next step, as if the disk had failed it.
    pub fn abandon(&mut self, why: &'static str) {
        if let Some(active) = self.active.as_mut().filter(|active| !active.all_chunks_given) {
            let file = file_name(Zxid(active.header.zxid));
            active.error.get_or_insert(SnapshotError::Abandoned { file, why });
            active.waiting.clear();
        }
    }

    /// `acknowledged`: the log goes this far; `proven`: and is stable for certain as far as this.
    pub fn poll(&mut self, ids: &mut Ids, acknowledged: Zxid, proven: Durable, ops: &mut Vec<DiskOp>) {
        let Some(active) = self.active.as_mut() else {
            return;
        };
        if active.step == Step::Chunks {
            while active.error.is_none() && active.in_flight.len() < self.slots {
                let Some(nodes) = active.waiting.pop_front() else {
                    break;
                };
                let buffer = self.spare_buffers.pop().unwrap_or_else(|| Buffer::with_capacity(CHUNK_BUFFER_BYTES));
                ops.push(active.write_chunk(ids, &nodes, buffer));
            }
            active.leave_chunks();
        }
        if active.under_way.is_some() || active.step == Step::Chunks {
            return;
        }
        let file = active.file;
        let zxid = Zxid(active.header.zxid);
        let unfinished = unfinished_path(&self.directory, zxid);
        let mut bytes = 0;
        let action = match active.step {
            Step::Chunks => unreachable!("handled above"),
            Step::Rename if acknowledged < zxid => return, // until the log vouches for it
            Step::Open => Action::Open { file, path: unfinished, access: Access::Create, direct: self.direct },
            Step::End => {
                let manifest = Manifest {
                    header: active.header.clone(),
                    chunks: std::mem::take(&mut active.places),
                    log_sequence: proven.sequence,
                    log_zxid: proven.zxid.0,
                };
                let buffer = encode_end(&manifest, active.at);
                bytes = buffer.len() as u64;
                let offset = active.at;
                active.at += bytes;
                Action::Write { file, offset, buffer, sync: WriteSync::None }
            }
            Step::Sync => Action::Sync { file },
            Step::Close | Step::AbandonClose => Action::Close { file },
            Step::Rename => Action::Rename { from: unfinished, to: path(&self.directory, zxid) },
            Step::SyncDirectory => Action::SyncDirectory { path: self.directory.clone() },
            Step::AbandonUnlink => Action::Unlink { path: unfinished },
        };
        let id = ids.operation(Owner::Snapshot);
        active.under_way = Some((id, action.name(), bytes));
        ops.push(DiskOp { id, action });
    }

    pub fn on_event(&mut self, event: DiskEvent, out: &mut Vec<StoreEvent>) {
        let active = self.active.as_mut().expect("an answer to a question");
        if let Some(buffer) = event.buffer
            && self.spare_buffers.len() < self.slots
            && buffer.capacity() == CHUNK_BUFFER_BYTES
        {
            self.spare_buffers.push(buffer);
        }
        if let Some(index) = active.in_flight.iter().position(|(id, _)| *id == event.id) {
            let (_, bytes) = active.in_flight.swap_remove(index);
            active.note(event.result, "write", bytes);
            if active.error.is_none() && !active.all_chunks_given {
                out.push(StoreEvent::SnapshotRoom { chunks: active.room(self.slots) });
            }
            active.leave_chunks();
            return;
        }
        let (id, name, bytes) = active.under_way.take().expect("an answer to a question");
        assert_eq!(id, event.id, "an answer to this question");
        let failed_before = active.error.is_some();
        active.note(event.result, name, bytes);
        let failed_now = active.error.is_some() && !failed_before;
        match active.step {
            Step::Open if failed_now => active.step = Step::AbandonUnlink,
            Step::Close | Step::Rename if failed_now => active.step = Step::AbandonUnlink,
            // The name is there, only not for certain yet: leave it, recovery checks whatever it finds.
            Step::SyncDirectory if failed_now => self.end(out),
            _ if failed_now => active.step = Step::AbandonClose,
            Step::Open => {
                active.step = Step::Chunks;
                out.push(StoreEvent::SnapshotRoom { chunks: active.room(self.slots) });
            }
            Step::Chunks => unreachable!("chunks have their own list"),
            Step::End => active.step = Step::Sync,
            Step::Sync => active.step = Step::Close,
            Step::Close => active.step = Step::Rename,
            Step::Rename => active.step = Step::SyncDirectory,
            Step::AbandonClose => active.step = Step::AbandonUnlink,
            Step::SyncDirectory | Step::AbandonUnlink => self.end(out),
        }
    }

    /// Nothing in flight. A snapshot that waits for the core or the log does not keep anybody from leaving.
    pub fn is_idle(&self) -> bool {
        self.active.as_ref().is_none_or(|active| active.in_flight.is_empty() && active.under_way.is_none())
    }

    fn end(&mut self, out: &mut Vec<StoreEvent>) {
        let active = self.active.take().expect("a snapshot to end");
        let zxid = Zxid(active.header.zxid);
        self.spare_buffers.clear();
        out.push(StoreEvent::SnapshotEnded(match active.error {
            None => Ok(SnapshotDone { zxid, bytes: active.at, nodes: active.nodes }),
            Some(error) => Err(error),
        }));
    }
}

impl Active {
    fn room(&self, slots: usize) -> usize {
        slots.saturating_sub(self.waiting.len() + self.in_flight.len())
    }

    fn write_chunk(&mut self, ids: &mut Ids, nodes: &Vec<NodeImage>, mut buffer: Buffer) -> DiskOp {
        let zxid = Zxid(self.header.zxid);
        let mut place = encode_chunk(self.places.len() as u32, zxid, nodes, &mut buffer);
        place.at = self.at;
        let bytes = buffer.len() as u64;
        let id = ids.operation(Owner::Snapshot);
        self.in_flight.push((id, bytes));
        self.places.push(place);
        let offset = std::mem::replace(&mut self.at, place.at + bytes);
        DiskOp { id, action: Action::Write { file: self.file, offset, buffer, sync: WriteSync::None } }
    }

    /// On from the chunks when the last has been written, or when one of them failed.
    fn leave_chunks(&mut self) {
        if self.step != Step::Chunks || !self.in_flight.is_empty() {
            return;
        }
        if self.all_chunks_given && self.waiting.is_empty() && self.nodes != self.header.node_count {
            let why = format!("{} nodes came for a snapshot of {}", self.nodes, self.header.node_count);
            self.error.get_or_insert(SnapshotError::Damaged { file: file_name(Zxid(self.header.zxid)), why });
        }
        if self.error.is_some() {
            self.waiting.clear();
            self.step = Step::AbandonClose;
        } else if self.all_chunks_given && self.waiting.is_empty() {
            self.step = Step::End;
        }
    }

    fn note(&mut self, result: io::Result<u64>, operation: &'static str, wanted_bytes: u64) {
        let result = match result {
            Ok(bytes) if bytes < wanted_bytes => Err(io::Error::from(io::ErrorKind::WriteZero)),
            other => other,
        };
        if let Err(source) = result {
            let file = file_name(Zxid(self.header.zxid));
            self.error.get_or_insert(SnapshotError::Io { file, operation, source });
        }
    }
}
