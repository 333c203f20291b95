//! A node's disk: what the core asks of it becomes calls of the store, what the store answers becomes inputs of the core.
//!
//! Everything stays as it is while the process lives, but for one thing: a leader may have it cut ([`Output::Truncate`]) or
//! replaced ([`Output::InstallFinish`]). Then the store comes to rest, is closed, and what is there is changed and opened
//! anew, as a start does; the node stands still meanwhile. Holds: nothing is asked of a store that is being changed.
//! Not here, on purpose: who performs the operations, and when.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use ringkeeper_storage::disk::{Disk, DiskEvent, DiskOp};
use ringkeeper_storage::{
    EpochKind, LogError, LogWindow, Opened, RangeId, SnapshotDone, SnapshotError, Store, StoreError, StoreEvent,
};

use crate::core::{Input, LinkId, LogRoom, Output, Zxid};

#[derive(Debug)]
pub struct StoreHost {
    /// None while what is there is being changed.
    store: Option<Store>,
    /// Operations that have not been answered.
    under_way: usize,
    answered: u64,
    /// Learners that are sent something from the log.
    readers: BTreeMap<LinkId, Reader>,
    change: Option<Change>,
    installs: Installs,
}

#[derive(Debug)]
struct Reader {
    range: RangeId,
    through: Zxid,
    /// Handed out last; goes back for the next.
    window: Option<LogWindow>,
}

/// What is to become of everything that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Truncate(Zxid),
    /// A leader's state was written; or was not, and why.
    Installed {
        failure: Option<String>,
    },
}

impl Change {
    /// Why it came to nothing.
    pub fn failure(self) -> Option<String> {
        match self {
            Change::Installed { failure } => failure,
            Change::Truncate(_) => None,
        }
    }
}

/// States from leaders on their way to the disk.
#[derive(Debug, Default)]
struct Installs {
    /// Begun and not ended, those that were given up included.
    running: usize,
    /// The last one is complete: the disk changes when it has ended.
    finished: bool,
    /// Why the last one came to nothing.
    failure: Option<String>,
}

/// What a store event comes to.
#[derive(Debug)]
pub enum Told {
    /// For the core.
    Input(Input<'static>),
    /// A batch reached the disk.
    Flushed {
        elapsed_us: u32,
        records: u32,
    },
    SnapshotEnded(Result<SnapshotDone, SnapshotError>),
    /// Nothing is wrong for the core; people want to know.
    Trouble(String),
    /// Nothing more may be acknowledged, nor promised.
    Failed(String),
}

impl StoreHost {
    pub fn new(store: Store) -> StoreHost {
        StoreHost {
            store: Some(store),
            under_way: 0,
            answered: 0,
            readers: BTreeMap::new(),
            change: None,
            installs: Installs::default(),
        }
    }

    pub fn store(&self) -> &Store {
        self.store.as_ref().expect("nothing is asked of a store that is being changed")
    }

    pub fn store_mut(&mut self) -> &mut Store {
        self.store.as_mut().expect("nothing is asked of a store that is being changed")
    }

    /// What is to be started now.
    pub fn poll_ops(&mut self, ops: &mut Vec<DiskOp>) {
        let before = ops.len();
        self.store_mut().poll_ops(ops);
        self.under_way += ops.len() - before;
    }

    pub fn on_event(&mut self, event: DiskEvent, out: &mut Vec<StoreEvent>) {
        self.under_way -= 1;
        self.answered += 1;
        self.store_mut().on_event(event, out);
    }

    /// How many operations have not been answered, and how many have.
    pub fn progress(&self) -> (usize, u64) {
        (self.under_way, self.answered)
    }

    /// Carries out what is the store's business and gives back the rest; what the store answers at once is an input.
    pub fn carry_out(&mut self, output: Output) -> CarriedOut {
        match output {
            Output::Log { zxid, txn } => self.store_mut().append(zxid, &txn),
            Output::StoreEpoch { kind, epoch } => self.store_mut().store_epoch(kind, epoch),
            Output::ReadLog { link, after, through } => match self.store_mut().read_range(after, through) {
                Ok(range) => {
                    let before = self.readers.insert(link, Reader { range, through, window: None });
                    assert!(before.is_none(), "one reader a link");
                }
                Err(_) => return CarriedOut::Answered(Input::LogReadEnded { link, complete: false }),
            },
            Output::ReadLogOn { link } => {
                if let Some(reader) = self.readers.get_mut(&link) {
                    let window = reader.window.take().expect("a window was handed out");
                    let range = reader.range;
                    self.store_mut().read_on(range, window);
                }
            }
            Output::EndReadLog { link } => {
                if let Some(reader) = self.readers.remove(&link) {
                    self.store_mut().end_range(reader.range);
                }
            }
            Output::Truncate { to } => self.change = Some(Change::Truncate(to)),
            Output::InstallBegin(header) => {
                self.installs.running += 1;
                self.installs.finished = false;
                self.store_mut().begin_install(*header);
            }
            Output::InstallChunk(chunk) => self.store_mut().install_chunk(chunk),
            Output::InstallFinish => {
                self.store_mut().finish_install();
                self.installs.finished = true;
                self.look_at_installs();
            }
            Output::InstallAbandon => self.store_mut().abandon_install("the leader is gone"),
            Output::SnapshotBegin(header) => self.store_mut().begin_snapshot(*header),
            Output::SnapshotChunk(chunk) => self.store_mut().snapshot_chunk(chunk),
            Output::SnapshotFinish => self.store_mut().finish_snapshot(),
            Output::SnapshotAbandon { why } => self.store_mut().abandon_snapshot(why),
            other => return CarriedOut::NotMine(other),
        }
        CarriedOut::Asked
    }

    fn look_at_installs(&mut self) {
        if self.installs.running == 0 && self.installs.finished {
            self.change = Some(Change::Installed { failure: self.installs.failure.take() });
        }
    }

    /// What an event of the store means. None: nothing for anybody.
    pub fn tell(&mut self, event: StoreEvent) -> Option<Told> {
        Some(Told::Input(match event {
            StoreEvent::Durable(through) => Input::LogDurable { through },
            StoreEvent::Room(room) => Input::LogRoom(core_room(room)),
            StoreEvent::SnapshotRoom { chunks } => Input::SnapshotRoom { chunks },
            StoreEvent::SnapshotWanted => Input::SnapshotWanted,
            StoreEvent::RangeRead { range, window } => self.range_read(range, window)?,
            StoreEvent::RangeEnded { range, result } => self.range_ended(range, result)?,
            StoreEvent::EpochStored { kind, epoch, result: Ok(()) } => Input::EpochStored { kind, epoch },
            StoreEvent::EpochStored { kind, epoch, result: Err(error) } => {
                return Some(Told::Failed(epoch_failure(kind, epoch, &error)));
            }
            StoreEvent::InstallEnded(ended) => {
                self.installs.running -= 1;
                self.installs.failure = ended.err().map(|error| error.to_string());
                let trouble = self.installs.failure.as_ref();
                let trouble = trouble.map(|why| Told::Trouble(format!("a leader's state was not taken over: {why}")));
                self.look_at_installs();
                return trouble;
            }
            StoreEvent::Flushed { elapsed_us, records, .. } => return Some(Told::Flushed { elapsed_us, records }),
            StoreEvent::SnapshotEnded(ended) => return Some(Told::SnapshotEnded(ended)),
            StoreEvent::Trouble(trouble) => return Some(Told::Trouble(trouble)),
            StoreEvent::Failed(error) => return Some(Told::Failed(error.to_string())),
        }))
    }

    fn range_read(&mut self, range: RangeId, window: LogWindow) -> Option<Input<'static>> {
        let (link, reader) = self.readers.iter_mut().find(|(_, reader)| reader.range == range)?;
        let predecessor = window.predecessor();
        let records = window.records().map(|(zxid, record)| (zxid, Bytes::copy_from_slice(record))).collect();
        reader.window = Some(window);
        Some(Input::LogRead { link: *link, predecessor, records })
    }

    fn range_ended(&mut self, range: RangeId, result: Result<Zxid, LogError>) -> Option<Input<'static>> {
        let (link, through) = self
            .readers
            .iter()
            .find(|(_, reader)| reader.range == range)
            .map(|(link, reader)| (*link, reader.through))?;
        self.readers.remove(&link);
        Some(Input::LogReadEnded { link, complete: result.is_ok_and(|last| last >= through) })
    }

    /// A change was asked for.
    pub fn is_to_change(&self) -> bool {
        self.change.is_some()
    }

    /// A change was asked for, and nothing is under way any more.
    pub fn may_change(&self) -> bool {
        // One that failed is not begun anew: the process has to end.
        let at_rest = |store: &Store| store.is_idle() && !store.has_failed();
        self.change.is_some() && self.under_way == 0 && self.store.as_ref().is_none_or(at_rest)
    }

    /// Closes the store, for the change that was asked for. `opened_anew` ends it.
    pub fn close(&mut self) -> Change {
        assert!(self.may_change(), "a store is closed at rest, and for a reason");
        self.store = None;
        self.readers.clear();
        self.installs = Installs::default();
        self.change.take().expect("looked at above")
    }

    pub fn opened_anew(&mut self, store: Store) {
        assert!(self.store.is_none() && self.under_way == 0);
        self.store = Some(store);
    }
}

/// What became of an output.
#[derive(Debug)]
pub enum CarriedOut {
    Asked,
    Answered(Input<'static>),
    NotMine(Output),
}

/// Changes what is stored. After an error the process has to end: a start completes what was decided.
pub fn change<D: Disk>(mut opened: Opened<D>, change: &Change) -> Result<Opened<D>, StoreError> {
    if let Change::Truncate(to) = change {
        match opened.truncate(*to) {
            Err(StoreError::Log(LogError::NotCovered { .. })) => {
                return opened.forget("its leader has less, and there is no state to go back to");
            }
            other => other?,
        }
    }
    Ok(opened)
}

fn epoch_failure(kind: EpochKind, epoch: u32, error: &io::Error) -> String {
    format!("{} {epoch} could not be stored: {error}", kind.file_name())
}

fn core_room(room: ringkeeper_storage::LogRoom) -> LogRoom {
    match room {
        ringkeeper_storage::LogRoom::Ample => LogRoom::Ample,
        ringkeeper_storage::LogRoom::Low => LogRoom::Low,
        ringkeeper_storage::LogRoom::None => LogRoom::None,
    }
}
