//! Writing a snapshot beside the traffic.
//!
//!   open .tmp -> body, piece by piece -> flush -> close -> rename -> directory flush -> ended
//!       any step fails: wait for what is in flight, close, delete, ended with the error; the server goes on without it
//!
//! One operation is in flight at a time, and each piece of the body (`body.rs`) waits for its *turn*: the caller, who has a
//! clock, gives turns as fast as the traffic beside it allows. A turn with nothing to write asks for the next chunk, and
//! then is that chunk's. So a turn costs one chunk to encode and at most 64 KiB to write, and a log write never waits
//! behind more than that.
//!
//! The name is given only when the log is stable up to the snapshot's zxid, so a snapshot never shows a state that the log
//! cannot vouch for.
//!
//! A leader's state that is to take the place of everything (`Purpose::Install`) is written in the same way, but as it comes:
//! nobody else is served meanwhile. Its name decides, and the log that is here has nothing to say about it.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use super::body::Body;
use super::image::{SnapshotChunk, SnapshotHeader};
use super::{file_name, install_path, path, unfinished_path};
use crate::Zxid;
use crate::disk::{Access, Action, Buffer, DiskEvent, DiskOp, FileId, Ids, OpId, Owner, WriteSync};
use crate::error::SnapshotError;
use crate::event::{SnapshotDone, StoreEvent};
use crate::log::batch::Durable;
use crate::probe;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Open,
    Body,
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
    zxid: Zxid,
    file: FileId,
    step: Step,
    body: Body,
    waiting: VecDeque<SnapshotChunk>,
    /// A chunk was asked for and has not come.
    asked: bool,
    all_chunks_given: bool,
    /// Manifest and footer are among the pieces.
    finished: bool,
    /// One piece may be written.
    turn: bool,
    /// The one operation under way, and how many bytes it has to write.
    under_way: Option<(OpId, &'static str, u64)>,
    error: Option<SnapshotError>,
}

/// What the file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Our own state, at a transaction of our own log.
    Snapshot,
    /// A leader's, instead of everything that is here.
    Install,
}

impl Purpose {
    fn owner(self) -> Owner {
        match self {
            Purpose::Snapshot => Owner::Snapshot,
            Purpose::Install => Owner::Install,
        }
    }

    fn unfinished_path(self, directory: &Path, zxid: Zxid) -> PathBuf {
        match self {
            Purpose::Snapshot => unfinished_path(directory, zxid),
            Purpose::Install => directory.join(format!("install-{:016x}.tmp", zxid.0)),
        }
    }

    fn path(self, directory: &Path, zxid: Zxid) -> PathBuf {
        match self {
            Purpose::Snapshot => path(directory, zxid),
            Purpose::Install => install_path(directory, zxid),
        }
    }
}

#[derive(Debug)]
pub struct SnapshotWriter {
    purpose: Purpose,
    directory: PathBuf,
    direct: bool,
    run_nodes_max: u32,
    active: Option<Active>,
}

impl SnapshotWriter {
    /// `run_nodes_max`: entries of a run of the index at most.
    pub fn new(purpose: Purpose, directory: PathBuf, direct: bool, run_nodes_max: u32) -> SnapshotWriter {
        SnapshotWriter { purpose, directory, direct, run_nodes_max, active: None }
    }

    /// # Panics
    /// When a snapshot is being written already.
    pub fn begin(&mut self, header: SnapshotHeader, ids: &mut Ids) {
        assert!(self.active.is_none(), "one snapshot at a time");
        self.active = Some(Active {
            zxid: Zxid(header.zxid),
            file: ids.file(),
            step: Step::Open,
            body: Body::new(header, self.run_nodes_max),
            waiting: VecDeque::new(),
            asked: false,
            all_chunks_given: false,
            finished: false,
            turn: false,
            under_way: None,
            error: None,
        });
    }

    /// Without a snapshot, or after it failed, the chunk is dropped: its sender has yet to hear of the end.
    pub fn chunk(&mut self, chunk: SnapshotChunk) {
        if let Some(active) = self.active.as_mut().filter(|active| active.error.is_none()) {
            assert!(!active.all_chunks_given, "a chunk after the last one");
            active.asked = false;
            active.waiting.push_back(chunk);
        }
    }

    pub fn finish(&mut self) {
        if let Some(active) = self.active.as_mut() {
            (active.all_chunks_given, active.asked) = (true, false);
        }
    }

    /// Unless everything is there already, it fails at the next step, as if the disk had failed it.
    pub fn abandon(&mut self, why: &'static str) {
        if let Some(active) = self.active.as_mut().filter(|active| !active.all_chunks_given) {
            active.fail(SnapshotError::Abandoned { file: file_name(active.zxid), why });
        }
    }

    pub fn is_running(&self) -> bool {
        self.active.is_some()
    }

    /// It is written, and this is not yet its state: it gets its name when the log has it.
    pub fn waits_for_log(&self, durable: Zxid) -> bool {
        self.active.as_ref().is_some_and(|active| active.step == Step::Rename && durable < active.zxid)
    }

    /// It could go on, and has to be given a turn for that.
    pub fn waits_for_turn(&self) -> bool {
        self.active.as_ref().is_some_and(|active| {
            let ready = active.step == Step::Body && active.under_way.is_none() && active.error.is_none();
            ready && !active.turn && !active.asked
        })
    }

    pub fn give_turn(&mut self, out: &mut Vec<StoreEvent>) {
        if !self.waits_for_turn() {
            return;
        }
        let active = self.active.as_mut().expect("it waits");
        active.turn = true;
        if !active.body.has_pieces() && active.waiting.is_empty() && !active.all_chunks_given {
            active.asked = true;
            out.push(StoreEvent::SnapshotRoom { chunks: 1 });
        }
    }

    /// Chunks that were given and not taken yet.
    pub fn backlog(&self) -> usize {
        self.active.as_ref().map_or(0, |active| active.waiting.len())
    }

    /// The next answer decides what the next start finds.
    pub fn is_deciding(&self) -> bool {
        self.active.as_ref().is_some_and(|active| matches!(active.step, Step::Rename | Step::SyncDirectory))
    }

    /// Bytes handed to the disk, or about to be, for the running snapshot.
    pub fn bytes(&self) -> u64 {
        self.active.as_ref().map_or(0, |active| active.body.bytes())
    }

    /// `acknowledged`: the log goes this far; `proven`: and is stable for certain as far as this.
    pub fn poll(&mut self, ids: &mut Ids, acknowledged: Zxid, proven: Durable, ops: &mut Vec<DiskOp>) {
        let Some(active) = self.active.as_mut().filter(|active| active.under_way.is_none()) else { return };
        let (file, zxid) = (active.file, active.zxid);
        let (purpose, directory) = (self.purpose, &self.directory);
        let unfinished = || purpose.unfinished_path(directory, zxid);
        // An installed state begins a log of its own; nobody serves beside it.
        let install = self.purpose == Purpose::Install;
        let (acknowledged, proven) =
            if install { (zxid, Durable { sequence: 0, zxid }) } else { (acknowledged, proven) };
        active.turn |= install;
        if active.step == Step::Body && active.error.is_some() {
            active.step = Step::AbandonClose;
        }
        let mut bytes = 0;
        let action = match active.step {
            Step::Open => Action::Open { file, path: unfinished(), access: Access::Create, direct: self.direct },
            Step::Body => {
                let Some((offset, buffer)) = active.next_piece(proven) else {
                    if active.error.is_some() {
                        self.poll(ids, acknowledged, proven, ops);
                    }
                    return;
                };
                bytes = buffer.len() as u64;
                Action::Write { file, offset, buffer, sync: WriteSync::None }
            }
            Step::Sync => Action::Sync { file },
            Step::Close | Step::AbandonClose => Action::Close { file },
            Step::Rename if acknowledged < zxid => return, // until the log vouches for it
            Step::Rename => Action::Rename { from: unfinished(), to: self.purpose.path(&self.directory, zxid) },
            Step::SyncDirectory => Action::SyncDirectory { path: self.directory.clone() },
            Step::AbandonUnlink => Action::Unlink { path: unfinished() },
        };
        let id = ids.operation(self.purpose.owner());
        active.under_way = Some((id, action.name(), bytes));
        ops.push(DiskOp { id, action });
    }

    pub fn on_event(&mut self, event: DiskEvent, out: &mut Vec<StoreEvent>) {
        let active = self.active.as_mut().expect("an answer to a question");
        let (id, name, bytes) = active.under_way.take().expect("an answer to a question");
        assert_eq!(id, event.id, "an answer to this question");
        if let Some(buffer) = event.buffer {
            active.body.recycle(buffer);
        }
        let failed = !active.note(event.result, name, bytes);
        match active.step {
            // Given up meanwhile or not, there is a file to close only if it was opened.
            Step::Open if failed => active.step = Step::AbandonUnlink,
            // The name is there, only not for certain yet: leave it, recovery checks whatever it finds.
            Step::SyncDirectory if failed => self.end(out),
            Step::Rename if failed && self.purpose == Purpose::Install => self.end(out),
            Step::Close | Step::Rename if failed => active.step = Step::AbandonUnlink,
            Step::Body | Step::Sync if failed => active.step = Step::AbandonClose,
            Step::Open => active.step = Step::Body,
            // Behind the last piece it goes on by itself.
            Step::Body if active.finished && !active.body.has_pieces() => {
                let unflushed = probe::broken("a snapshot gets its name before it is flushed");
                active.step = if unflushed { Step::Close } else { Step::Sync };
            }
            Step::Body => {}
            Step::Sync => active.step = Step::Close,
            Step::Close => active.step = Step::Rename,
            Step::Rename => active.step = Step::SyncDirectory,
            Step::AbandonClose => active.step = Step::AbandonUnlink,
            Step::SyncDirectory | Step::AbandonUnlink => self.end(out),
        }
    }

    /// Nothing in flight. A snapshot that waits for a turn, the core or the log does not keep anybody from leaving.
    pub fn is_idle(&self) -> bool {
        self.active.as_ref().is_none_or(|active| active.under_way.is_none())
    }

    fn end(&mut self, out: &mut Vec<StoreEvent>) {
        let Active { zxid, body, error, .. } = self.active.take().expect("a snapshot to end");
        out.push(StoreEvent::SnapshotEnded(match error {
            None => Ok(SnapshotDone { zxid, bytes: body.bytes(), nodes: body.nodes() }),
            Some(error) => Err(error),
        }));
    }
}

impl Active {
    /// Uses up the turn, if there is one and something to write.
    fn next_piece(&mut self, proven: Durable) -> Option<(u64, Buffer)> {
        if !self.turn {
            return None;
        }
        while !self.body.has_pieces() {
            let taken_in = match self.waiting.pop_front() {
                Some(chunk) => {
                    self.body.make_room(&chunk);
                    if self.body.has_pieces() {
                        self.waiting.push_front(chunk);
                        Ok(())
                    } else {
                        self.body.chunk(&chunk)
                    }
                }
                None if self.all_chunks_given => {
                    self.finished = true;
                    self.body.finish(proven)
                }
                None => return None,
            };
            if let Err(why) = taken_in {
                self.fail(SnapshotError::Damaged { file: file_name(self.zxid), why });
                return None;
            }
        }
        self.turn = false;
        self.body.next_piece()
    }

    fn fail(&mut self, error: SnapshotError) {
        self.error.get_or_insert(error);
        self.waiting.clear();
    }

    /// False: it failed.
    fn note(&mut self, result: io::Result<u64>, operation: &'static str, wanted_bytes: u64) -> bool {
        let result = match result {
            Ok(bytes) if bytes < wanted_bytes => Err(io::Error::from(io::ErrorKind::WriteZero)),
            other => other,
        };
        let Err(source) = result else { return true };
        self.fail(SnapshotError::Io { file: file_name(self.zxid), operation, source });
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_up_while_it_is_opened_it_closes_only_what_was_opened() {
        for opens in [true, false] {
            let mut writer = SnapshotWriter::new(Purpose::Snapshot, PathBuf::from("/data"), false, 10);
            let mut ids = Ids::default();
            let (acls, sessions) = (Vec::new(), Vec::new());
            let (slot_count, node_count) = (0, 0);
            let header =
                SnapshotHeader { zxid: 7, tree_digest: 8, node_count, slot_count, data_bytes: 0, acls, sessions };
            writer.begin(header, &mut ids);
            let (mut done, mut events) = (Vec::new(), Vec::new());
            while events.is_empty() {
                let mut ops = Vec::new();
                writer.poll(&mut ids, Zxid(7), Durable::default(), &mut ops);
                let DiskOp { id, action } = ops.pop().expect("it goes on by itself");
                done.push(action.name());
                writer.abandon("the server stops");
                let result = if opens { Ok(0) } else { Err(io::ErrorKind::NotFound.into()) };
                writer.on_event(DiskEvent { id, result, buffer: None, elapsed_us: 0 }, &mut events);
            }
            let expected: &[_] = if opens { &["open", "close", "unlink"] } else { &["open", "unlink"] };
            assert_eq!(done, expected);
            assert!(matches!(&events[0], StoreEvent::SnapshotEnded(Err(SnapshotError::Abandoned { .. }))));
        }
    }
}
