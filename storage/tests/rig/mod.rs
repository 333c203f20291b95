//! A store on a disk in memory, driven one operation at a time, with every operation in the test's hands.
#![allow(dead_code)] // each test file uses its own half

pub mod bytes;
pub mod history;
pub mod power;

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ringkeeper_storage::backend::faulty::{Call, FaultyDisk};
use ringkeeper_storage::backend::memory::{Chance, MemoryDisk};
use ringkeeper_storage::backend::view::FileView;
use ringkeeper_storage::disk::{Action, Disk, DiskEvent, DiskOp, FileId};
use ringkeeper_storage::{
    EpochKind, LogRoom, LogWindow, NO_SLOT, NodeImage, Opened, RangeId, SnapshotChunk, SnapshotHeader, Store,
    StoreConfig, StoreError, StoreEvent, Zxid, open_on,
};

pub const DIRECTORY: &str = "/data/ringkeeper-1";

/// The disk outlives its stores. May lose power in the middle of a start.
#[derive(Clone, Default)]
pub struct SharedDisk {
    pub memory: Rc<RefCell<FaultyDisk<MemoryDisk>>>,
    /// Operations until the power goes.
    pub fuse: Rc<RefCell<Option<usize>>>,
    /// What was opened by starts.
    pub looked_at: Rc<RefCell<Vec<PathBuf>>>,
    /// Nobody can read these now.
    pub unreadable: Rc<RefCell<Vec<PathBuf>>>,
}

impl std::fmt::Debug for SharedDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.memory.borrow().paths()).finish()
    }
}

impl Disk for SharedDisk {
    fn run(&mut self, op: DiskOp) -> DiskEvent {
        if let Some(left) = self.fuse.borrow_mut().as_mut() {
            if *left == 0 {
                return DiskEvent { id: op.id, result: Err(io::Error::other("no power")), buffer: None, elapsed_us: 0 };
            }
            *left -= 1;
        }
        if let Action::Open { path, .. } = &op.action {
            self.looked_at.borrow_mut().push(path.clone());
        }
        self.memory.borrow_mut().run(op)
    }

    fn list(&mut self, directory: &Path) -> io::Result<Vec<(String, u64)>> {
        self.memory.borrow_mut().list(directory)
    }

    fn draw(&mut self) -> io::Result<u64> {
        self.memory.borrow_mut().draw()
    }

    fn read(&mut self, file: FileId, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.memory.borrow_mut().read(file, offset, bytes)
    }

    fn view(&mut self, file: FileId, path: &Path, bytes: u64) -> io::Result<FileView> {
        if self.unreadable.borrow().iter().any(|unreadable| unreadable == path) {
            return Err(io::Error::other("a bad sector"));
        }
        self.memory.borrow_mut().view(file, path, bytes)
    }
}

impl SharedDisk {
    pub fn open(&self, config: &StoreConfig) -> Result<Opened<SharedDisk>, StoreError> {
        open_on(self.clone(), config.clone())
    }

    /// As it is, for another process or none: power cuts of the copy do not harm this one.
    pub fn running_copy(&self) -> SharedDisk {
        SharedDisk { memory: Rc::new(RefCell::new(self.memory.borrow().clone())), ..SharedDisk::default() }
    }

    pub fn crash(&self, chance: &mut Chance) {
        self.fuse.replace(None);
        self.memory.borrow_mut().crash(chance);
    }

    /// A copy that goes its own way, under another process.
    pub fn fork(&self) -> SharedDisk {
        let mut memory = self.memory.borrow().clone();
        memory.end_process();
        SharedDisk { memory: Rc::new(RefCell::new(memory)), ..SharedDisk::default() }
    }

    pub fn paths(&self, part: &str) -> Vec<PathBuf> {
        let memory = self.memory.borrow();
        memory.paths().filter(|path| path.to_string_lossy().contains(part)).map(Path::to_owned).collect()
    }

    pub fn bytes(&self, path: &Path) -> Vec<u8> {
        self.memory.borrow().bytes(path).unwrap().to_vec()
    }

    pub fn damage(&self, path: &Path, how: impl FnOnce(&mut Vec<u8>)) {
        assert!(self.memory.borrow_mut().damage(path, how));
    }
}

pub fn small_config() -> StoreConfig {
    StoreConfig {
        segment_bytes: 48 << 10,
        batch_bytes_max: 8 << 10,
        reserve_bytes: 16 << 10,
        mark_bytes: 12 << 10,
        ..StoreConfig::new("/data", "/data")
    }
}

pub struct Rig {
    pub disk: SharedDisk,
    pub store: Store,
    /// Submitted and not completed.
    pub held: Vec<DiskOp>,
    /// In the hands of a disk that does not answer.
    pub hung: Vec<DiskOp>,
    pub durable: Zxid,
    pub room: LogRoom,
    pub failed: Option<String>,
    pub troubles: Vec<String>,
    pub snapshot_room: usize,
    pub snapshot_ended: Option<Result<Zxid, String>>,
    pub snapshot_wanted: bool,
    pub install_ended: Option<Result<Zxid, String>>,
    pub epochs_stored: Vec<(EpochKind, u32, Result<(), String>)>,
    pub windows: Vec<(RangeId, LogWindow)>,
    pub ranges_ended: Vec<(RangeId, Result<Zxid, String>)>,
}

impl Rig {
    pub fn start(disk: &SharedDisk, opened: Opened<SharedDisk>) -> Result<Rig, StoreError> {
        let durable = opened.report().last_zxid;
        Ok(Rig {
            disk: disk.clone(),
            store: opened.into_store()?,
            held: Vec::new(),
            hung: Vec::new(),
            durable,
            room: LogRoom::Ample,
            failed: None,
            troubles: Vec::new(),
            snapshot_room: 0,
            snapshot_ended: None,
            snapshot_wanted: false,
            install_ended: None,
            epochs_stored: Vec::new(),
            windows: Vec::new(),
            ranges_ended: Vec::new(),
        })
    }

    pub fn fresh(config: &StoreConfig) -> Rig {
        let disk = SharedDisk::default();
        Rig::start(&disk, disk.open(config).unwrap()).unwrap()
    }

    /// With a turn for the running snapshot.
    pub fn poll(&mut self) {
        let mut out = Vec::new();
        self.store.give_snapshot_turn(&mut out);
        self.take_events(out);
        self.store.poll_ops(&mut self.held);
    }

    /// The operation happens and is answered.
    pub fn complete(&mut self, index: usize) {
        let op = self.held.remove(index);
        let answer = self.disk.memory.borrow_mut().submit(op);
        match answer {
            Ok(event) => self.take_in(event),
            Err(op) => self.hung.push(op),
        }
    }

    /// The disk answers what it kept back.
    pub fn release_hung(&mut self) {
        for op in std::mem::take(&mut self.hung) {
            let event = self.disk.memory.borrow_mut().release(op);
            self.take_in(event);
        }
    }

    fn take_in(&mut self, event: DiskEvent) {
        let mut out = Vec::new();
        self.store.on_event(event, &mut out);
        self.take_events(out);
    }

    fn take_events(&mut self, events: Vec<StoreEvent>) {
        for event in events {
            match event {
                StoreEvent::Durable(zxid) => {
                    assert!(self.failed.is_none(), "{zxid} acknowledged after the log failed");
                    assert!(zxid > self.durable);
                    self.durable = zxid;
                }
                StoreEvent::Room(room) => self.room = room,
                StoreEvent::SnapshotRoom { chunks } => self.snapshot_room += chunks,
                StoreEvent::SnapshotEnded(result) => {
                    self.snapshot_ended = Some(result.map(|done| done.zxid).map_err(|error| error.to_string()));
                }
                StoreEvent::SnapshotWanted => self.snapshot_wanted = true,
                StoreEvent::InstallEnded(result) => {
                    self.install_ended = Some(result.map(|done| done.zxid).map_err(|error| error.to_string()));
                }
                StoreEvent::Trouble(text) => self.troubles.push(text),
                StoreEvent::Failed(error) => {
                    assert!(self.failed.is_none(), "the log fails once");
                    self.failed = Some(error.to_string());
                }
                StoreEvent::Flushed { .. } => {}
                StoreEvent::EpochStored { kind, epoch, result } => {
                    self.epochs_stored.push((kind, epoch, result.map_err(|error| error.to_string())));
                }
                StoreEvent::RangeRead { range, window } => self.windows.push((range, window)),
                StoreEvent::RangeEnded { range, result } => {
                    self.ranges_ended.push((range, result.map_err(|error| error.to_string())));
                }
            }
        }
    }

    /// Completes everything there is to do, in order, until nothing more comes.
    pub fn drain(&mut self) {
        loop {
            self.poll();
            if self.held.is_empty() {
                return;
            }
            self.complete(0);
        }
    }

    pub fn append_and_drain(&mut self, zxids: std::ops::RangeInclusive<u64>) {
        for zxid in zxids {
            self.store.append(Zxid(zxid), &payload(zxid, 0));
            self.drain();
        }
    }

    /// A whole snapshot at `zxid`, as far as the disk lets it.
    pub fn snapshot(&mut self, zxid: u64) {
        self.store.begin_snapshot(header(zxid, 30));
        for chunk in 0..3 {
            self.drain();
            self.store.snapshot_chunk(chunk_of(chunk * 10..chunk * 10 + 10));
        }
        self.store.finish_snapshot();
        self.drain();
    }

    /// The process is killed, the machine stays up: a write that was under way happened or not, and was not flushed.
    pub fn kill(self, chance: &mut Chance) -> SharedDisk {
        let Rig { disk, held, .. } = self;
        for op in held {
            match &op.action {
                _ if chance.coin() => {}
                Action::Write { .. } => disk.memory.borrow_mut().leave_unflushed(&op),
                _ => drop(disk.memory.borrow_mut().run(op)),
            }
        }
        disk.memory.borrow_mut().end_process();
        disk
    }

    /// The power fails: what was under way happened, partly or not at all.
    pub fn crash(self, chance: &mut Chance) -> SharedDisk {
        let Rig { disk, held, .. } = self;
        for op in held {
            match &op.action {
                Action::Write { .. } => disk.memory.borrow_mut().leave_unflushed(&op),
                _ if chance.coin() => drop(disk.memory.borrow_mut().run(op)),
                _ => {}
            }
        }
        disk.crash(chance);
        disk
    }
}

/// What a record says: its zxid and the life it was written in.
pub fn payload(zxid: u64, life: u64) -> Vec<u8> {
    let mut bytes = vec![zxid as u8; (zxid * 131 % 1500) as usize];
    bytes.extend_from_slice(&zxid.to_le_bytes());
    bytes.extend_from_slice(&life.to_le_bytes());
    bytes
}

pub fn chunk_of(slots: Range<u32>) -> SnapshotChunk {
    SnapshotChunk { nodes: slots.clone().map(node).collect(), slots: Some(slots) }
}

pub fn node(slot: u32) -> NodeImage {
    let data = (!slot.is_multiple_of(3)).then(|| vec![slot as u8; slot as usize]);
    let (name, parent) = (format!("node-{slot}").into(), slot / 2);
    let stamps = (1, 2, 3, 4, 5, 6, 7, 8);
    let (czxid, mzxid, pzxid, ctime, mtime, version, cversion, aversion) = stamps;
    NodeImage {
        slot,
        parent,
        first_child: NO_SLOT,
        next_sibling: NO_SLOT,
        prev_sibling: NO_SLOT,
        child_count: 0,
        content_crc: 0,
        name,
        data,
        acl: 1,
        czxid,
        mzxid,
        pzxid,
        ctime,
        mtime,
        version,
        cversion,
        aversion,
        ephemeral_owner: 0,
    }
}

pub fn header(zxid: u64, nodes: u32) -> SnapshotHeader {
    SnapshotHeader {
        zxid,
        tree_digest: zxid * 3,
        node_count: nodes.into(),
        slot_count: nodes,
        data_bytes: 0,
        acls: Vec::new(),
        sessions: vec![(7, 30_000), (8, 4_000)],
    }
}

/// (zxid, payload) of every record above the snapshot.
pub fn replayed(opened: &mut Opened<SharedDisk>) -> Vec<(u64, Vec<u8>)> {
    let mut records = Vec::new();
    opened.replay(|zxid, payload| records.push((zxid.0, payload.to_vec()))).unwrap();
    records
}

/// For `FaultyDisk::fail_next`: the calls of one operation.
pub fn calls_of(operation: &str) -> fn(&Call) -> bool {
    match operation {
        "open" => |call| call.operation == "open",
        "read" => |call| call.operation == "read",
        "write" => |call| call.operation == "write",
        "zero fill" => |call| call.operation == "zero fill",
        "flush" => |call| call.operation == "flush",
        "rename" => |call| call.operation == "rename",
        "directory flush" => |call| call.operation == "directory flush",
        other => panic!("no such operation: {other}"),
    }
}
