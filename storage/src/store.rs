//! The store: log and snapshots of one server, from the recovered directory to clean shutdown.
//!
//!   open -> Opened: read the snapshot, replay the log -> into_store -> Store: append, snapshot, purge
//!
//! Opening is blocking and happens once. A `Store` performs nothing itself: `poll_ops` says what to do, `on_event` takes what
//! came of it, and the caller owns the loop, the thread and the clock.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::Zxid;
use crate::backend::blocking::{BlockingDisk, create_directory};
use crate::backend::facts::{DiskFacts, StorageFacts};
use crate::backend::lock::DirectoryLock;
use crate::config::{DIRECTORY, StoreConfig};
use crate::disk::{Action, Disk, DiskEvent, DiskOp, Ids, OpId, Owner};
use crate::epoch_file::{self, EpochKind, EpochWriter, Epochs};
use crate::error::{LogError, SnapshotError, StoreError};
use crate::event::{LogRoom, RecoveryReport, SnapshotDone, StoreEvent, StoreStats};
use crate::log::append::LogWriter;
use crate::log::batch::Durable;
use crate::log::range::{LogWindow, RangeId, Ranges};
use crate::log::recover::{Judgement, Loss, Proof, Scan, scan};
use crate::log::segment::SegmentId;
use crate::log::truncate;
use crate::read::run;
use crate::shortage::{Remedy, Shortage, Situation};
use crate::snapshot::file::{ServedSnapshot, SnapshotFile};
use crate::snapshot::image::{NodeImage, SnapshotChunk, SnapshotHeader};
use crate::snapshot::load::{self, Kept};
use crate::snapshot::source::SnapshotSource;
use crate::snapshot::write::{Purpose, SnapshotWriter};
use crate::standing::{self, Place, Standing};

/// Opens, locks, recovers. Blocks: at start only.
pub fn open(config: StoreConfig) -> Result<Opened, StoreError> {
    open_with(config, Loss::Refused)
}

/// Opens what was refused with `StoreError::last_good`, as far as that, only to be truncated: an operator gives up what is
/// damaged and everything behind it.
pub fn open_despite_loss(config: StoreConfig) -> Result<Opened, StoreError> {
    open_with(config, Loss::Accepted)
}

fn open_with(config: StoreConfig, loss: Loss) -> Result<Opened, StoreError> {
    let (snapshots, log) = (config.data_dir.join(DIRECTORY), config.data_log_dir.join(DIRECTORY));
    let at = |path: &Path, operation| {
        let path = path.to_owned();
        move |source| StoreError::at_start(path, operation, source)
    };
    let mut locks = Vec::new();
    let mut facts = StorageFacts::default();
    for (path, facts) in [(&snapshots, &mut facts.snapshots), (&log, &mut facts.log)] {
        create_directory(path).map_err(at(path, "create directory"))?;
        if path != &log || snapshots.canonicalize().ok() != log.canonicalize().ok() {
            locks.push(DirectoryLock::acquire(path)?);
        }
        *facts = DiskFacts::gather(path).map_err(at(path, "inspect"))?;
    }
    if locks.is_empty() {
        locks.push(DirectoryLock::acquire(&log)?);
    }
    Opened::recover(BlockingDisk::default(), config, facts, locks, loss)
}

/// The same on any disk that answers at once; nothing is locked.
pub fn open_on<D: Disk>(disk: D, config: StoreConfig) -> Result<Opened<D>, StoreError> {
    Opened::recover(disk, config, StorageFacts::default(), Vec::new(), Loss::Refused)
}

/// `open_despite_loss` on such a disk.
pub fn open_on_despite_loss<D: Disk>(disk: D, config: StoreConfig) -> Result<Opened<D>, StoreError> {
    Opened::recover(disk, config, StorageFacts::default(), Vec::new(), Loss::Accepted)
}

/// One snapshot, to be looked into: for tools. Nothing is locked and nothing changed.
pub fn open_snapshot(path: &Path) -> Result<SnapshotFile, StoreError> {
    load::open_by_path(&mut BlockingDisk::default(), path)
}

/// A recovered directory, unchanged so far: read it, then turn it into a `Store`.
#[derive(Debug)]
pub struct Opened<D: Disk = BlockingDisk> {
    disk: D,
    ids: Ids,
    config: StoreConfig,
    facts: StorageFacts,
    locks: Vec<DirectoryLock>,
    found: Found,
    /// `Accepted` until it is cut: nobody may be served from this.
    loss: Loss,
    /// A cut was decided and is not done: what was found is not what is there.
    cutting: bool,
}

/// What recovery found out.
#[derive(Debug)]
struct Found {
    report: RecoveryReport,
    snapshot: Option<Rc<SnapshotFile>>,
    kept: Vec<Kept>,
    unfinished: Vec<PathBuf>,
    scan: Scan,
    standing: Standing,
}

impl<D: Disk> Opened<D> {
    fn recover(
        mut disk: D,
        config: StoreConfig,
        facts: StorageFacts,
        locks: Vec<DirectoryLock>,
        loss: Loss,
    ) -> Result<Opened<D>, StoreError> {
        let config = config.clamped();
        let mut ids = Ids::default();
        let found = match look(&mut disk, &mut ids, &config, &facts, loss) {
            Ok(found) => found,
            Err(error) => {
                let Some(why) = standing::loss(&error).filter(|_| config.has_peers) else { return Err(error) };
                let (snapshots, log) = (config.data_dir.join(DIRECTORY), config.data_log_dir.join(DIRECTORY));
                let mut place = Place { disk: &mut disk, ids: &mut ids, snapshots: &snapshots, log: &log };
                place.set_aside(&why)?;
                look(&mut disk, &mut ids, &config, &facts, loss)?
            }
        };
        Ok(Opened { disk, ids, config, facts, locks, found, loss, cutting: false })
    }

    /// Whether everything is here that this server ever acknowledged. `Fresh` and `Lost` end when a current epoch is stored.
    pub fn standing(&self) -> Standing {
        self.found.standing
    }

    /// Gives up everything that is stored here, for good, and keeps what was promised (`acceptedEpoch`): a cut was asked for
    /// that leaves no state. `Standing::Lost` until a leader's state was installed and its epoch stored. After an error the
    /// process has to end: a start completes what was decided.
    pub fn forget(self, why: &str) -> Result<Opened<D>, StoreError> {
        let Opened { mut disk, mut ids, config, facts, locks, .. } = self;
        let (snapshots, log) = (config.data_dir.join(DIRECTORY), config.data_log_dir.join(DIRECTORY));
        Place { disk: &mut disk, ids: &mut ids, snapshots: &snapshots, log: &log }.give_up(why)?;
        Opened::recover(disk, config, facts, locks, Loss::Refused)
    }

    /// What this server knows of epochs. For an ensemble; a standalone server has no use for them.
    pub fn epochs(&mut self) -> Result<Epochs, StoreError> {
        let directory = self.config.data_dir.join(DIRECTORY);
        epoch_file::read(&mut self.disk, &mut self.ids, &directory, self.found.report.last_zxid)
    }

    /// The epoch that was promised in this directory, if it was ever a member's.
    pub fn promised_epoch(&mut self) -> Result<Option<u32>, StoreError> {
        let directory = self.config.data_dir.join(DIRECTORY);
        epoch_file::check_accepted(&mut self.disk, &mut self.ids, &directory)
    }

    /// Makes them stable at once: those that a state from elsewhere comes with. To be stored before that state is.
    pub fn store_epochs(&mut self, epochs: Epochs) -> Result<(), StoreError> {
        let directory = self.config.data_dir.join(DIRECTORY);
        epoch_file::store(&mut self.disk, &mut self.ids, &directory, epochs)
    }

    /// Gives up every transaction above `to`, for good, and recovers anew. `to` has to be known here, as a transaction of the
    /// log or the state of a snapshot, and the log has to reach back to a snapshot that is not above it: if not, this fails
    /// with `LogError::NotCovered`, and nothing has changed. A learner does this when its leader says TRUNC.
    pub fn truncate(&mut self, to: Zxid) -> Result<(), StoreError> {
        let Some((scan, place)) = self.place_of_cut(to)? else { return Ok(()) };
        let Opened { disk, ids, config, facts, found, loss, .. } = self;
        if *loss == Loss::Refused {
            found.scan.make_room(disk, ids)?;
        }
        truncate::decide(disk, ids, &scan, place, to)?;
        self.cutting = true;
        self.found = look(disk, ids, config, facts, Loss::Refused)?;
        (self.cutting, self.loss) = (false, Loss::Refused);
        assert_eq!(self.found.report.last_zxid, to, "cut where it was told");
        Ok(())
    }

    /// Whether `truncate` would find what it needs. Changes nothing.
    pub fn check_truncate(&mut self, to: Zxid) -> Result<(), StoreError> {
        self.place_of_cut(to).map(drop)
    }

    /// None: there is nothing to cut.
    fn place_of_cut(&mut self, to: Zxid) -> Result<Option<(Scan, truncate::Place)>, StoreError> {
        let Opened { disk, ids, config, facts, found, loss, .. } = self;
        if to == found.report.last_zxid && *loss == Loss::Refused {
            return Ok(None);
        }
        let oldest = found.kept.first().map(|kept| kept.zxid);
        let not_covered = LogError::NotCovered { wanted: to, oldest };
        if to > found.report.last_zxid {
            return Err(not_covered.into());
        }
        let (snapshots, log) = (config.data_dir.join(DIRECTORY), config.data_log_dir.join(DIRECTORY));
        let mut base = Zxid::ZERO;
        for kept in found.kept.iter().rev().filter(|kept| kept.zxid <= to) {
            match load::check(disk, ids, &snapshots, *kept)? {
                Ok(_) => {
                    base = kept.zxid;
                    break;
                }
                // With it there may be no need to give up everything.
                Err(error @ SnapshotError::Unreadable { .. }) => return Err(error.into()),
                Err(_) => {}
            }
        }
        let proofs: Vec<_> = found.snapshot.iter().map(|snapshot| proof_of(snapshot)).collect();
        let scan =
            match scan(disk, ids, &log, facts.log.direct_io, base, base, Judgement { proofs: &proofs, loss: *loss }) {
                // The start had no need of what is older than the newest snapshot: it may be damaged, or left over from a purge.
                Err(error) if error.is_loss() => return Err(not_covered.into()),
                other => other?,
            };
        let place = truncate::find_place(disk, ids, &scan, to)?;
        Ok(Some((scan, place)))
    }

    pub fn facts(&self) -> &StorageFacts {
        &self.facts
    }

    pub fn report(&self) -> &RecoveryReport {
        &self.found.report
    }

    /// Where the log is read from, behind the snapshot, and where it ends: segment and byte. None: there is no log.
    pub fn log_range(&self) -> Option<Range<(SegmentId, u64)>> {
        Some(self.found.scan.start_place()?..self.found.scan.end_place()?)
    }

    pub fn snapshot_header(&self) -> Option<&SnapshotHeader> {
        self.found.snapshot.as_ref().map(|snapshot| snapshot.header())
    }

    /// Every node of the newest valid snapshot, in the order they were written.
    pub fn for_each_node(&mut self, mut f: impl FnMut(NodeImage)) -> Result<(), StoreError> {
        match &self.found.snapshot {
            Some(snapshot) => Ok(snapshot.for_each_node(|node| f(node.to_image()))?),
            None => Ok(()),
        }
    }

    /// The newest valid snapshot, to be read where it lies; outlives this. Damage found through it sets the file aside.
    pub fn snapshot_source(&self) -> Option<Box<dyn SnapshotSource>> {
        let file = self.found.snapshot.clone()?;
        Some(Box::new(ServedSnapshot::new(file)))
    }

    /// Every log record above the snapshot, in order.
    pub fn replay(&mut self, f: impl FnMut(Zxid, &[u8])) -> Result<(), StoreError> {
        self.found.scan.replay(&mut self.disk, &mut self.ids, f)
    }

    /// Neither a snapshot nor a transaction is stored here, and none was lost: a state may be brought from elsewhere.
    pub fn is_fresh(&self) -> bool {
        let nothing_stored = self.found.snapshot.is_none() && self.found.report.last_zxid == Zxid::ZERO;
        nothing_stored && self.found.standing != Standing::Lost
    }

    /// Makes a state that an operator brought from elsewhere the first thing that is stored here: as a snapshot, there as a
    /// whole or not at all, and behind which the log begins. `next_chunk` is asked until it has no more. Recovers what was written.
    ///
    /// # Panics
    /// When something is stored here already.
    pub fn install(
        mut self,
        header: SnapshotHeader,
        mut next_chunk: impl FnMut() -> Option<SnapshotChunk>,
    ) -> Result<Opened<D>, StoreError> {
        assert!(self.is_fresh(), "a state from elsewhere is installed where there is none");
        let (directory, log) = (self.config.data_dir.join(DIRECTORY), self.config.data_log_dir.join(DIRECTORY));
        Place { disk: &mut self.disk, ids: &mut self.ids, snapshots: &directory, log: &log }.unmark()?;
        let zxid = Zxid(header.zxid);
        let proven = Durable { sequence: 0, zxid };
        let run_nodes = self.config.snapshot_run_nodes;
        let direct = self.facts.snapshots.direct_io;
        let mut writer = SnapshotWriter::new(Purpose::Snapshot, directory, direct, run_nodes);
        writer.begin(header, &mut self.ids);
        let (mut ops, mut events) = (Vec::new(), Vec::new());
        loop {
            writer.give_turn(&mut events);
            if !events.is_empty() {
                match next_chunk() {
                    Some(chunk) => writer.chunk(chunk),
                    None => writer.finish(),
                }
                events.clear();
            }
            writer.poll(&mut self.ids, zxid, proven, &mut ops);
            for op in ops.drain(..) {
                writer.on_event(self.disk.run(op), &mut events);
            }
            for event in events.drain(..) {
                if let StoreEvent::SnapshotEnded(ended) = event {
                    ended?;
                    let Opened { disk, config, facts, locks, .. } = self;
                    return Opened::recover(disk, config, facts, locks, Loss::Refused);
                }
            }
        }
    }

    /// Makes what was recovered final and stable. Only then may anybody be told about it.
    pub fn into_store(self) -> Result<Store, StoreError> {
        self.into_store_and_disk().map(|(store, _)| store)
    }

    /// The same, and the disk back.
    pub fn into_store_and_disk(self) -> Result<(Store, D), StoreError> {
        let Opened { mut disk, mut ids, config, facts, locks, found, loss, cutting } = self;
        assert_eq!(loss, Loss::Refused, "what was opened despite a loss is cut first");
        assert!(!cutting, "a truncation that failed half-way is completed by another start");
        let Found { kept, unfinished, scan, standing, .. } = found;
        let (snapshots, log) = (config.data_dir.join(DIRECTORY), config.data_log_dir.join(DIRECTORY));
        for path in unfinished {
            run(&mut disk, &mut ids, &path, Action::Unlink { path: path.clone() })?;
        }
        // The name of the snapshot we start from, too, has to survive whatever comes next.
        run(&mut disk, &mut ids, &snapshots, Action::SyncDirectory { path: snapshots.clone() })?;
        truncate::withdraw(&mut disk, &mut ids, &log)?;
        let mut place = Place { disk: &mut disk, ids: &mut ids, snapshots: &snapshots, log: &log };
        place.mark(standing, config.has_peers)?;
        if !scan.goes_on() {
            place.log_ends()?;
        }
        let start = scan.settle(place.disk, place.ids, &config)?;
        place.log_begins(start.log)?;
        let (run_nodes, direct) = (config.snapshot_run_nodes, facts.snapshots.direct_io);
        let log_id = start.log;
        let writer = LogWriter::new(&config, log.clone(), facts.log.direct_io, start);
        let store = Store {
            ranges: Ranges::new(log, log_id, writer.is_direct()),
            log: writer,
            snapshot: SnapshotWriter::new(Purpose::Snapshot, snapshots.clone(), direct, run_nodes),
            installs: Installs { direct, run_nodes, ..Installs::default() },
            epochs: EpochWriter::new(snapshots.clone()),
            snapshot_directory: snapshots,
            kept,
            newest_of_this_life: None,
            purge: Purge::default(),
            shortage: Shortage::default(),
            ids,
            queued: Vec::new(),
            _locks: locks,
        };
        Ok((store, disk))
    }
}

/// Everything a start has to know, and has to refuse. Changes nothing, but completes a truncation that was decided.
fn look(
    disk: &mut impl Disk,
    ids: &mut Ids,
    config: &StoreConfig,
    facts: &StorageFacts,
    loss: Loss,
) -> Result<Found, StoreError> {
    let (snapshots, log) = (config.data_dir.join(DIRECTORY), config.data_log_dir.join(DIRECTORY));
    let mut place = Place { disk, ids, snapshots: &snapshots, log: &log };
    let decided = place.finish()?;
    let cut = truncate::finish(disk, ids, &snapshots, &log, crate::snapshot::parse_any)?;
    refuse_misplaced(disk, &snapshots, &log, |name| SegmentId::parse(name).is_some())?;
    refuse_misplaced(disk, &log, &snapshots, |name| crate::snapshot::parse(name).is_some())?;
    let has_log = Place { disk, ids, snapshots: &snapshots, log: &log }.has_log()?;
    let found = load::find(disk, ids, &snapshots, config.snapshot_checked_bytes)?;
    let snapshot_zxid = found.newest.as_ref().map_or(Zxid::ZERO, |newest| newest.zxid());
    let oldest_kept = found.kept.get(found.kept.len().saturating_sub(config.snapshots_kept));
    let oldest_kept = oldest_kept.map_or(Zxid::ZERO, |kept| kept.zxid);
    let mut proofs: Vec<_> = found.newest.iter().map(|newest| proof_of(newest)).collect();
    if !has_log && !config.has_peers {
        proofs.clear(); // an operator has deleted the note of it, too, to go on with the snapshot (`LogError::Vanished`)
    }
    let scanned =
        scan(disk, ids, &log, facts.log.direct_io, snapshot_zxid, oldest_kept, Judgement { proofs: &proofs, loss });
    let cut = cut.iter().map(|zxid| format!("everything after {zxid} was given up, as decided"));
    let mut notes: Vec<_> = decided.into_iter().chain(cut).collect();
    if scanned.as_ref().is_err_and(StoreError::is_loss) {
        // Before it is taken for a loss: the disk of another server may be mounted here.
        Place { disk, ids, snapshots: &snapshots, log: &log }.check_log_is_ours()?;
    }
    let passed_over = found.passed_over.first().map(|(zxid, _)| *zxid);
    let scan = match (scanned, passed_over) {
        // The state of the damaged one was stable in the log when it was written. Is it still?
        (Ok(scan), Some(zxid)) if scan.last_zxid() < zxid && loss == Loss::Refused => {
            return Err(found.none_usable(None));
        }
        (Ok(scan), _) => scan,
        (Err(error), Some(_)) => return Err(found.none_usable(Some(error))),
        (Err(error), None) => return Err(error),
    };
    let instead = match &found.newest {
        Some(newest) => format!("snapshot {}", newest.zxid()),
        None => "the log from its beginning".to_owned(),
    };
    for (_, error) in found.passed_over {
        notes.push(format!("{error}; using {instead}, and the log from there on holds everything"));
    }
    notes.extend(found.set_aside.iter().map(ToString::to_string));
    notes.extend(scan.notes.iter().cloned());
    let (last_zxid, records, cut_bytes) = (scan.last_zxid(), scan.records, scan.cut_bytes);
    let nothing_stored = found.newest.is_none() && last_zxid == Zxid::ZERO;
    let mut place = Place { disk, ids, snapshots: &snapshots, log: &log };
    place.check_log(scan.start_log())?;
    let standing = place.standing(nothing_stored)?;
    let told = place.notes(standing)?;
    if config.has_peers {
        // What a member promised it has to know before it says a word. (Of a log alone, its first start has noted the id.)
        if !nothing_stored && found.newest.is_none() && place.knows_nothing()? {
            return Err(StoreError::PromiseGone { log: log.clone(), directory: snapshots, last: last_zxid });
        }
        epoch_file::read(disk, ids, &snapshots, last_zxid)?;
    } else if standing == Standing::Lost {
        return Err(StoreError::Lost { directory: snapshots, why: told.join("; ") });
    }
    notes.extend(told);
    let report = RecoveryReport { notes, last_zxid, records, cut_bytes, lost_through: scan.lost_through };
    let (snapshot, kept, unfinished) = (found.newest, found.kept, found.unfinished);
    Ok(Found { report, snapshot, kept, unfinished, scan, standing })
}

fn proof_of(snapshot: &SnapshotFile) -> Proof {
    let manifest = snapshot.manifest();
    let durable = Durable { sequence: manifest.log_sequence, zxid: Zxid(manifest.log_zxid) };
    Proof { durable, witness: crate::snapshot::file_name(snapshot.zxid()) }
}

/// A log or snapshots in the other of the two directories: to start without them would forget them silently.
/// Java: `LogDirContentCheckException`, `SnapDirContentCheckException`.
fn refuse_misplaced(
    disk: &mut impl Disk,
    other: &Path,
    expected: &Path,
    of_its_kind: impl Fn(&str) -> bool,
) -> Result<(), StoreError> {
    let mut find = |directory: &Path| -> Result<Option<String>, StoreError> {
        let io = |source| StoreError::Io { path: directory.to_owned(), operation: "list", source };
        Ok(disk.list(directory).map_err(io)?.into_iter().map(|(name, _)| name).find(|name| of_its_kind(name)))
    };
    if other == expected || find(expected)?.is_some() {
        return Ok(());
    }
    match find(other)? {
        Some(found) => Err(StoreError::Misplaced { found, path: other.to_owned(), expected: expected.to_owned() }),
        None => Ok(()),
    }
}

/// Snapshots to delete, one at a time; when their names are gone for good, the log up to `log_through` goes too. So no
/// power failure brings a snapshot back whose log is missing.
#[derive(Debug, Default)]
struct Purge {
    files: VecDeque<PathBuf>,
    log_through: Option<Zxid>,
    under_way: Option<(OpId, PurgeStep)>,
}

impl Purge {
    fn is_idle(&self) -> bool {
        self.files.is_empty() && self.log_through.is_none() && self.under_way.is_none()
    }
}

#[derive(Debug)]
enum PurgeStep {
    Delete(PathBuf),
    Flush { log_through: Zxid },
}

/// States from elsewhere on their way to the disk: the first is being written, or given up; others wait for its end.
#[derive(Debug, Default)]
struct Installs {
    direct: bool,
    run_nodes: u32,
    writers: VecDeque<SnapshotWriter>,
    /// The next start finds another state than this store has.
    decided: bool,
}

/// The log and the snapshots in service. Holds the directory locks: drop the ring, which waits for what is in flight, before it.
#[derive(Debug)]
pub struct Store {
    log: LogWriter,
    ranges: Ranges,
    snapshot: SnapshotWriter,
    snapshot_directory: PathBuf,
    installs: Installs,
    epochs: EpochWriter,
    kept: Vec<Kept>,
    newest_of_this_life: Option<Zxid>,
    purge: Purge,
    shortage: Shortage,
    ids: Ids,
    /// Decided while an event was taken in, to go out with the next `poll_ops`.
    queued: Vec<DiskOp>,
    _locks: Vec<DirectoryLock>,
}

impl Store {
    /// Copies the record into the open batch. Zxids strictly increase.
    ///
    /// # Panics
    /// After an install was decided: the next start would not know the record.
    pub fn append(&mut self, zxid: Zxid, record: &[u8]) {
        assert!(!self.installs.decided, "{zxid} appended to a log that is given up");
        self.log.append(zxid, record);
    }

    /// One at a time; ends with `SnapshotEnded`. Chunks of a snapshot that has failed meanwhile are dropped.
    pub fn begin_snapshot(&mut self, header: SnapshotHeader) {
        self.log.roll_when_free();
        self.snapshot.begin(header, &mut self.ids);
    }

    pub fn snapshot_chunk(&mut self, chunk: SnapshotChunk) {
        self.snapshot.chunk(chunk);
    }

    pub fn finish_snapshot(&mut self) {
        self.snapshot.finish();
    }

    /// The running snapshot could go on, and waits for its turn: call `give_snapshot_turn` when there is time for it.
    pub fn snapshot_waits_for_turn(&self) -> bool {
        self.snapshot.waits_for_turn()
    }

    /// Lets the running snapshot take one step: with the next `poll_ops`, or when the chunk has come that `SnapshotRoom` in
    /// `out` asks for, one write of at most 64 KiB. How fast turns are given is how fast a snapshot is written.
    pub fn give_snapshot_turn(&mut self, out: &mut Vec<StoreEvent>) {
        self.snapshot.give_turn(out);
    }

    /// What the running snapshot has come to so far.
    pub fn snapshot_bytes(&self) -> u64 {
        self.snapshot.bytes()
    }

    /// Gives up the snapshot begun last, unless all its chunks are there already. It ends with `SnapshotEnded` as any other.
    pub fn abandon_snapshot(&mut self, why: &'static str) {
        self.snapshot.abandon(why);
    }

    /// A state from elsewhere is going to take the place of everything that is stored here, all at once or not at all; it is
    /// written as its chunks come. Ends with `InstallEnded`. When that says `Ok`, it is decided: wait until nothing is under
    /// way, leave this store, and open anew. One that was given up before need not have ended.
    pub fn begin_install(&mut self, header: SnapshotHeader) {
        let Installs { direct, run_nodes, writers, decided } = &mut self.installs;
        assert!(!*decided, "one state from elsewhere in the life of a store");
        let mut writer = SnapshotWriter::new(Purpose::Install, self.snapshot_directory.clone(), *direct, *run_nodes);
        writer.begin(header, &mut self.ids);
        writers.push_back(writer);
    }

    /// Chunks of one that has failed meanwhile are dropped.
    pub fn install_chunk(&mut self, chunk: SnapshotChunk) {
        if let Some(writer) = self.installs.writers.back_mut() {
            writer.chunk(chunk);
        }
    }

    pub fn finish_install(&mut self) {
        if let Some(writer) = self.installs.writers.back_mut() {
            writer.finish();
        }
    }

    /// Without effect once it was finished: then it ends as it ends.
    pub fn abandon_install(&mut self, why: &'static str) {
        if let Some(writer) = self.installs.writers.back_mut() {
            writer.abandon(why);
        }
    }

    /// Chunks that were given and not taken yet: who has many waits before taking more from the leader.
    pub fn install_backlog(&self) -> usize {
        self.installs.writers.iter().map(SnapshotWriter::backlog).sum()
    }

    /// Keeps the newest `retain` snapshots (at least one) and the log that the oldest of them needs; the rest is deleted in
    /// the background. From now on the store does so by itself when the disk is full (`shortage.rs`). Java: `PurgeTxnLog`.
    pub fn purge(&mut self, retain: usize) {
        self.shortage.may_purge(retain.max(1));
        self.keep_newest(retain.max(1));
    }

    fn keep_newest(&mut self, keep: usize) {
        let surplus = self.kept.len().saturating_sub(keep);
        for kept in self.kept.drain(..surplus) {
            self.purge.files.push_back(crate::snapshot::path(&self.snapshot_directory, kept.zxid));
        }
        self.purge.log_through = self.kept.first().map(|oldest| oldest.zxid);
    }

    /// Reads the records above `after` up to `through`, as far as they are stable now: a window at a time, as `RangeRead`, and
    /// at last `RangeEnded`. Until then none of it is purged.
    pub fn read_range(&mut self, after: Zxid, through: Zxid) -> Result<RangeId, LogError> {
        let begin = self.log.find(after)?;
        Ok(self.ranges.begin(after, through.min(self.log.durable().zxid), begin, &mut self.ids))
    }

    /// Makes an epoch stable. `EpochStored` says when: only then may anybody be told.
    pub fn store_epoch(&mut self, kind: EpochKind, epoch: u32) {
        self.epochs.store(kind, epoch);
    }

    /// A window was used up; the next one may come.
    pub fn read_on(&mut self, range: RangeId, window: LogWindow) {
        self.ranges.go_on(range, window);
    }

    /// Whoever read a range is gone. Nothing more comes of it.
    pub fn end_range(&mut self, range: RangeId) {
        self.ranges.give_up(range);
    }

    /// What should be submitted now; seals a batch when a slot is free.
    pub fn poll_ops(&mut self, ops: &mut Vec<DiskOp>) {
        ops.append(&mut self.queued);
        self.log.poll(&mut self.ids, ops);
        if self.log.has_failed() {
            return;
        }
        self.ranges.poll(&mut self.ids, ops);
        self.epochs.poll(&mut self.ids, ops);
        self.snapshot.poll(&mut self.ids, self.log.durable().zxid, self.log.proven(), ops);
        if let Some(install) = self.installs.writers.front_mut() {
            install.poll(&mut self.ids, Zxid::ZERO, Durable::default(), ops);
        }
        if self.purge.under_way.is_none() {
            let (step, action) = if let Some(path) = self.purge.files.pop_front() {
                (PurgeStep::Delete(path.clone()), Action::Unlink { path })
            } else if let Some(log_through) = self.purge.log_through.take() {
                (PurgeStep::Flush { log_through }, Action::SyncDirectory { path: self.snapshot_directory.clone() })
            } else {
                return;
            };
            let id = self.ids.operation(Owner::Purge);
            self.purge.under_way = Some((id, step));
            ops.push(DiskOp { id, action });
        }
    }

    pub fn on_event(&mut self, event: DiskEvent, out: &mut Vec<StoreEvent>) {
        let (was_short, told) = (self.epochs.is_short(), out.len());
        self.take_in(event, out);
        self.make_room(out);
        self.tell_room(was_short, told, out);
    }

    /// Who cannot store an epoch can take no part, whatever room is left in the log.
    fn tell_room(&mut self, was_short: bool, told: usize, out: &mut Vec<StoreEvent>) {
        let is_short = self.epochs.is_short();
        if is_short || was_short {
            let mut at = 0..;
            out.retain(|event| at.next() < Some(told) || !matches!(event, StoreEvent::Room(_)));
        }
        if is_short && !was_short {
            self.log.give_up_spares(); // an epoch is a few bytes
        }
        if is_short != was_short {
            out.push(StoreEvent::Room(if is_short { LogRoom::None } else { self.log.room() }));
        }
    }

    fn take_in(&mut self, event: DiskEvent, out: &mut Vec<StoreEvent>) {
        match event.id.owner {
            Owner::LogWrite | Owner::LogFlush | Owner::LogFile | Owner::Prepare | Owner::LogDelete => {
                self.log.on_event(event, &mut self.ids, &mut self.queued, out);
            }
            Owner::Epoch => self.epochs.on_event(event, out),
            Owner::LogRange => self.ranges.on_event(event, &mut self.ids, out),
            Owner::Snapshot => {
                self.snapshot.on_event(event, out);
                let Some(StoreEvent::SnapshotEnded(ended)) = out.last() else { return };
                match ended {
                    Ok(SnapshotDone { zxid, bytes, .. }) => {
                        self.kept.retain(|kept| kept.zxid != *zxid);
                        self.kept.push(Kept { zxid: *zxid, bytes: *bytes });
                        self.newest_of_this_life = Some(*zxid);
                    }
                    Err(error) if error.wants_room() => self.log.give_up_spares(),
                    Err(_) => {}
                }
                self.shortage.snapshot_ended();
            }
            Owner::Install => self.on_install_event(event, out),
            Owner::Purge => {
                let (id, step) = self.purge.under_way.take().expect("an answer to a question");
                assert_eq!(id, event.id, "an answer to this question");
                match (step, event.result) {
                    (PurgeStep::Delete(_), Ok(_)) => {}
                    // A file that cannot be deleted costs space, nothing else; the next start counts it again.
                    (PurgeStep::Delete(path), Err(error)) => {
                        out.push(StoreEvent::Trouble(format!("{}: could not be deleted: {error}", path.display())));
                    }
                    (PurgeStep::Flush { log_through }, Ok(_)) => self.log.purge(log_through, self.ranges.pinned()),
                    (PurgeStep::Flush { .. }, Err(error)) => {
                        let path = self.snapshot_directory.display();
                        out.push(StoreEvent::Trouble(format!(
                            "{path}: directory flush failed, nothing purged: {error}"
                        )));
                    }
                }
            }
            Owner::Start => unreachable!("operations of the start are answered at once"),
        }
    }

    fn on_install_event(&mut self, event: DiskEvent, out: &mut Vec<StoreEvent>) {
        let Some(writer) = self.installs.writers.front_mut() else { unreachable!("an answer to a question") };
        let deciding = writer.is_deciding();
        let mut events = Vec::new();
        writer.on_event(event, &mut events);
        for event in events {
            let StoreEvent::SnapshotEnded(ended) = event else { continue };
            self.installs.writers.pop_front();
            match ended {
                // Nobody knows whether it is decided: the next start will see.
                Err(SnapshotError::Io { file, operation, source }) if deciding => {
                    self.log.fail(LogError::Poisoned { file, operation, source }, out);
                }
                ended => {
                    self.installs.decided |= ended.is_ok();
                    out.push(StoreEvent::InstallEnded(ended));
                }
            }
        }
    }

    /// Nothing was appended for a while, a second or so: the log writes down how far it is stable, once.
    pub fn at_rest(&mut self) {
        self.log.vouch();
    }

    /// Nothing more will be appended. `is_idle` is true when all of it is stable and the log says so itself.
    pub fn end(&mut self) {
        self.log.end();
        self.epochs.end();
    }

    /// Does what is left to do about a full disk, if anything is.
    fn make_room(&mut self, out: &mut Vec<StoreEvent>) {
        if !self.log.wants_room() {
            return self.shortage.over();
        }
        if !self.log.was_refused_room() || !self.purge.is_idle() || self.snapshot_goes_on() {
            return;
        }
        let situation = Situation {
            snapshot_is_new: self.newest_of_this_life.is_some_and(|zxid| zxid >= self.log.durable().zxid),
            writers_refused: self.log.room() != LogRoom::Ample,
            snapshots: self.kept.len(),
        };
        match self.shortage.remedy(situation) {
            None => {}
            Some(Remedy::Snapshot) => out.push(StoreEvent::SnapshotWanted),
            Some(Remedy::Ask) => self.log.retry(),
            Some(Remedy::Purge { keep }) => self.keep_newest(keep),
            Some(Remedy::GiveUpOldest) => {
                let keep = self.kept.len() - 1;
                out.push(StoreEvent::Trouble(format!(
                    "the disk is full and writes are refused: giving up {} and the log that only it needs, which leaves {keep}. \
                     Make the disk larger, or take snapshots more often",
                    crate::snapshot::file_name(self.kept[0].zxid)
                )));
                self.keep_newest(keep);
            }
        }
    }

    /// The running snapshot is what a full disk waits for.
    pub fn presses_snapshot(&self) -> bool {
        self.log.wants_room() && self.shortage.gives_way_to_snapshot(self.snapshot_goes_on())
    }

    /// One that waits for the log does not: who waits for it would wait for ever, if that is the log.
    fn snapshot_goes_on(&self) -> bool {
        self.snapshot.is_running() && !self.snapshot.waits_for_log(self.log.durable().zxid)
    }

    /// Tries again what a full disk refused. The caller does this every second or so, then `poll_ops`.
    pub fn retry(&mut self) {
        self.epochs.retry();
        if !self.snapshot_goes_on() {
            self.shortage.is_retried();
        }
        if !self.presses_snapshot() {
            self.log.retry();
        }
    }

    /// The log takes no more writes.
    pub fn has_failed(&self) -> bool {
        self.log.has_failed()
    }

    pub fn stats(&self) -> StoreStats {
        let mut stats = StoreStats {
            snapshots: self.kept.len(),
            snapshot_bytes: self.kept.iter().map(|kept| kept.bytes).sum(),
            last_snapshot_zxid: self.kept.last().map_or(Zxid::ZERO, |kept| kept.zxid),
            ..StoreStats::default()
        };
        self.log.fill_stats(&mut stats);
        stats
    }

    /// Every record is durable and no operation is under way or waiting: the moment to leave.
    pub fn is_idle(&self) -> bool {
        let purge_at_rest = self.purge.is_idle() || (self.purge.under_way.is_none() && self.log.has_failed());
        let ranges_at_rest = (self.ranges.is_idle() && self.epochs.is_idle()) || self.log.has_failed();
        let snapshots_at_rest = self.snapshot.is_idle() && self.installs.writers.iter().all(SnapshotWriter::is_idle);
        self.queued.is_empty() && self.log.is_idle() && snapshots_at_rest && purge_at_rest && ranges_at_rest
    }
}
