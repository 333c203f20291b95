//! One server's process: the real node on the real store (`store_host.rs`). What `shell/pipeline.rs` does with threads and
//! sockets is done here by hand: inputs in, outputs carried out, the disk's operations handed to the world and back.
//!
//!   start: open -> replay -> into_store -> node      service: step -> outputs -> operations -> events -> step
//!
//! Not here, on purpose: when anything happens (`world.rs`), what it meets on its way (`network.rs`).

use std::collections::VecDeque;

use ringkeeper_storage::disk::DiskOp;
use ringkeeper_storage::{Opened, Store, StoreConfig, StoreError, StoreEvent, open_on};
use slab::Slab;

use super::chance::{Chance, Draw};
use super::config_files;
use super::disk::SharedDisk;
use super::event::Event;
use crate::core::peer::MemberStart;
use crate::core::replay::{Recovered, Replay};
use crate::core::tree::LoadError;
use crate::core::zab::membership::Configurations;
use crate::core::{Epochs, Input, Node, Now, Output, Reloaded, RoleView, ServerId, Settings, Zxid};
use crate::store_host::{self, CarriedOut, Change, StoreHost, Told};

/// Everything that stays the same from one start of a server to the next.
#[derive(Debug)]
pub struct Setup {
    pub server: ServerId,
    pub settings: Settings,
    pub store: StoreConfig,
    /// None: a standalone server.
    pub configs: Option<Configurations>,
    /// Java: `snapCount`; each time between half and all of it.
    pub snap_count: u64,
}

/// Why a server did not come up, or is not up any more.
#[derive(Debug)]
pub enum Down {
    /// Killed while it started.
    Killed,
    /// It refuses to go on with what is on its disk.
    Refused(String),
}

#[derive(Debug)]
pub struct Process {
    pub node: Node,
    server: ServerId,
    disk: StoreHost,
    /// On their way.
    ops: Slab<DiskOp>,
    outputs: Vec<Output>,
    store_events: Vec<StoreEvent>,
    /// What `Event::Applied` told last.
    told: Zxid,
    /// Ends of service that are not told of yet: what was shown until then, None of a role that never served.
    ends_of_service: VecDeque<Option<(Zxid, u64)>>,
    /// What `Event::Logged` told last.
    logged_through: Zxid,
    logged: u64,
    snapshot_at: u64,
    snapshot_running: bool,
    records: (u64, u64),
    /// What a leader's state is to be, that was begun last.
    installing: Zxid,
    chance: Chance,
    pub steps: u64,
    /// Something may have to be started on the disk.
    pub wants_disk: bool,
    pub ends: Option<End>,
    pub drained: bool,
}

/// A process that ends by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The log is over.
    LogFailed(String),
    /// It was told to stop, and everything is on the disk.
    Stopped,
}

/// What a turn left for the world to do.
#[derive(Debug, Default)]
pub struct Said {
    /// What is not for the disk.
    pub outputs: Vec<Output>,
    pub events: Vec<Event>,
}

impl Process {
    /// Blocks, as a start does. `now` is the moment it is over.
    pub fn start(
        setup: &Setup,
        disk: &SharedDisk,
        now: Now,
        mut chance: Chance,
        said: &mut Said,
    ) -> Result<Process, Down> {
        let killed_or = |error: StoreError| match disk.get().is_out_of_ops() {
            true => Down::Killed,
            false => Down::Refused(error.to_string()),
        };
        let mut opened = open_on(disk.clone(), setup.store.clone()).map_err(killed_or)?;
        let standing = opened.standing();
        let epochs = match setup.configs {
            Some(_) => opened.epochs().map_err(killed_or)?,
            None => Epochs { accepted: 0, current: 0 },
        };
        let recovered = recover(&mut opened, &setup.settings).map_err(|down| match disk.get().is_out_of_ops() {
            true => Down::Killed,
            false => down,
        })?;
        let store = opened.into_store().map_err(killed_or)?;
        disk.get_mut().limit_ops(None);
        let (last, digest) = (recovered.tree.last_processed(), recovered.tree.digest());
        check_digests(&recovered)?;
        said.events.push(Event::Started { server: setup.server, last, digest, epochs, standing });
        let mut outputs = Vec::new();
        let node = match &setup.configs {
            None => {
                // It has nobody to tell.
                let role = RoleView::Leading { epoch: epochs.current, serving: true };
                said.events.push(Event::Role { server: setup.server, role });
                Node::standalone(setup.settings.clone(), recovered, now)
            }
            Some(configs) => {
                let configs = config_files::read(&disk.get().memory, configs);
                let start = MemberStart { recovered, epochs, standing, configs };
                Node::member(setup.settings.clone(), start, now, &mut outputs)
            }
        };
        let mut process = Process {
            node,
            server: setup.server,
            disk: StoreHost::new(store),
            ops: Slab::new(),
            store_events: Vec::new(),
            told: last,
            ends_of_service: outputs.iter().filter(|output| is_end_of_role(output)).map(|_| None).collect(),
            outputs,
            logged_through: last,
            logged: 0,
            snapshot_at: 0,
            snapshot_running: false,
            records: (0, now.mono_us),
            installing: Zxid::ZERO,
            chance: chance.fork(),
            steps: 0,
            wants_disk: true,
            ends: None,
            drained: false,
        };
        process.draw_snapshot(setup);
        process.carry_out_all(setup, now, said);
        Ok(process)
    }

    /// One input, and everything that comes of it on this server.
    pub fn turn(&mut self, setup: &Setup, now: Now, input: Input<'_>, said: &mut Said) {
        self.step(now, input);
        self.carry_out_all(setup, now, said);
    }

    pub fn tick(&mut self, setup: &Setup, now: Now, said: &mut Said) {
        let store = self.store();
        store.retry();
        let records = store.stats().records;
        if records != self.records.0 {
            self.records = (records, now.mono_us);
        } else if now.mono_us - self.records.1 >= 1_000_000 {
            self.store().at_rest();
        }
        self.turn(setup, now, Input::Tick, said);
        if self.drained {
            let store = self.disk.store_mut();
            store.end();
            if store.is_idle() && self.ops.is_empty() {
                self.ends.get_or_insert(End::Stopped);
            }
        }
    }

    /// The operations to be started now, as places in the list of those under way.
    pub fn submit(&mut self, submitted: &mut Vec<usize>) {
        self.wants_disk = false;
        let mut ops = Vec::new();
        self.disk.poll_ops(&mut ops);
        submitted.extend(ops.into_iter().map(|op| self.ops.insert(op)));
    }

    pub fn op(&self, op: usize) -> Option<&DiskOp> {
        self.ops.get(op)
    }

    /// One of them is done.
    pub fn disk_done(&mut self, setup: &Setup, disk: &SharedDisk, now: Now, op: usize, said: &mut Said) {
        let event = disk.get_mut().perform(self.ops.remove(op));
        self.disk.on_event(event, &mut self.store_events);
        self.take_store_events(now, said);
        self.carry_out_all(setup, now, said);
    }

    /// The end: what was under way, for the disk to decide about.
    pub fn into_ops(self) -> impl Iterator<Item = DiskOp> {
        self.ops.into_iter().map(|(_, op)| op)
    }

    /// Whether there is something to do with time to spare.
    pub fn wants_spare_time(&self) -> bool {
        self.node.is_moving() || self.disk.store().snapshot_waits_for_turn()
    }

    pub fn spare_time(&mut self, setup: &Setup, now: Now, said: &mut Said) {
        if self.node.is_moving() {
            self.step(now, Input::MoveNodes);
        }
        if self.disk.store().snapshot_waits_for_turn() {
            self.disk.store_mut().give_snapshot_turn(&mut self.store_events);
            self.wants_disk = true;
            self.take_store_events(now, said);
        }
        self.carry_out_all(setup, now, said);
    }

    /// The disk is to be changed as a whole, and nothing is under way on it any more.
    pub fn may_change_disk(&self) -> bool {
        self.disk.may_change()
    }

    /// Closes the store, changes what is there, opens it again: as a start does, and like one it may be killed.
    pub fn change_disk(&mut self, setup: &Setup, disk: &SharedDisk, now: Now, said: &mut Said) -> Result<(), Down> {
        let change = self.disk.close();
        disk.get_mut().memory.end_process();
        let killed_or = |error: StoreError| match disk.get().is_out_of_ops() {
            true => Down::Killed,
            false => Down::Refused(error.to_string()),
        };
        let opened = open_on(disk.clone(), setup.store.clone()).map_err(killed_or)?;
        let mut opened = store_host::change(opened, &change).map_err(killed_or)?;
        let standing = opened.standing();
        if change == (Change::Installed { failure: None }) && opened.log_range().is_some() {
            return Err(Down::Refused("its leader's state is stored, and a log of before is still there".to_owned()));
        }
        let recovered = recover(&mut opened, &setup.settings).map_err(|down| match disk.get().is_out_of_ops() {
            true => Down::Killed,
            false => down,
        })?;
        self.disk.opened_anew(opened.into_store().map_err(killed_or)?);
        disk.get_mut().limit_ops(None);
        check_digests(&recovered)?;
        let (last, digest) = (recovered.tree.last_processed(), recovered.tree.digest());
        if change == (Change::Installed { failure: None }) && last != self.installing {
            let zxid = self.installing;
            return Err(Down::Refused(format!(
                "its leader's state at {zxid} is stored, and the disk ends with {last}"
            )));
        }
        said.events.push(Event::Reloaded { server: self.server, last, digest, standing });
        (self.told, self.logged_through) = (last, last);
        self.store_events.clear();
        self.snapshot_running = false;
        let failure = change.failure();
        self.step(now, Input::Reloaded(Box::new(Reloaded { recovered, standing, failure })));
        self.carry_out_all(setup, now, said);
        Ok(())
    }

    fn step(&mut self, now: Now, input: Input<'_>) {
        self.steps += 1;
        let said = self.outputs.len();
        self.node.step(now, input, &mut self.outputs);
        // Only one role that serves ends in a step: the next has to meet somebody first.
        let mut served_to = self.node.take_served_to();
        let ends = self.outputs[said..].iter().filter(|output| is_end_of_role(output));
        self.ends_of_service.extend(ends.map(|_| served_to.take()));
    }

    /// What was logged in the same turn is told of before it is applied.
    fn tell_applied(&mut self, zxid: Zxid, digest: u64, said: &mut Said) {
        if zxid != self.told {
            self.told = zxid;
            said.events.push(Event::Applied { server: self.server, zxid, digest });
        }
    }

    fn carry_out_all(&mut self, setup: &Setup, now: Now, said: &mut Said) {
        loop {
            self.node.flush(&mut self.outputs);
            if self.outputs.is_empty() {
                break;
            }
            let mut outputs = std::mem::take(&mut self.outputs);
            for output in outputs.drain(..) {
                self.carry_out(now, output, said);
            }
            if self.outputs.is_empty() {
                self.outputs = outputs; // its memory
            }
            if self.logged >= self.snapshot_at {
                self.draw_snapshot(setup);
                self.want_snapshot(now);
            }
        }
        self.tell_applied(self.node.last_processed(), self.node.tree().digest(), said);
    }

    fn want_snapshot(&mut self, now: Now) {
        if !self.snapshot_running && !self.disk.is_to_change() {
            self.step(now, Input::SnapshotWanted);
        }
    }

    fn draw_snapshot(&mut self, setup: &Setup) {
        let half = (setup.snap_count / 2).max(1);
        (self.logged, self.snapshot_at) = (0, half + self.chance.below(half));
    }

    fn carry_out(&mut self, now: Now, output: Output, said: &mut Said) {
        let server = self.server;
        match &output {
            Output::Log { zxid, txn } => {
                (self.logged, self.logged_through) = (self.logged + 1, *zxid);
                said.events.push(Event::Logged { server, zxid: *zxid, txn: txn.clone() });
            }
            Output::Truncate { to } => said.events.push(Event::Truncating { server, to: *to }),
            Output::InstallBegin(header) => {
                self.installing = Zxid(header.zxid);
                said.events.push(Event::Installing { server, zxid: self.installing, digest: header.tree_digest });
            }
            Output::SnapshotBegin(_) => self.snapshot_running = true,
            _ => {}
        }
        let output = match self.disk.carry_out(output) {
            CarriedOut::NotMine(output) => output,
            CarriedOut::Asked => {
                self.wants_disk = true;
                return;
            }
            CarriedOut::Answered(input) => {
                self.wants_disk = true;
                return self.step(now, input);
            }
        };
        match output {
            Output::Moved(moved) => assert_eq!(moved.contradiction, None, "the snapshot is what its head says"),
            Output::Drained => self.drained = true,
            output => {
                if let Output::RoleChanged(role) = &output {
                    // Whoever serves has applied what it serves; what is applied when a role ends is not known committed.
                    let applied = self.node.last_processed();
                    if let RoleView::Looking { .. } = role {
                        if let Some((zxid, digest)) = self.ends_of_service.pop_front().expect("noted when it was said")
                        {
                            self.tell_applied(zxid, digest, said);
                        }
                    } else if applied <= self.logged_through || applied.counter() == 0 {
                        self.tell_applied(applied, self.node.tree().digest(), said);
                    }
                    said.events.push(Event::Role { server, role: role.clone() });
                }
                said.outputs.push(output);
            }
        }
    }

    fn store(&mut self) -> &mut Store {
        self.wants_disk = true;
        self.disk.store_mut()
    }

    fn take_store_events(&mut self, now: Now, said: &mut Said) {
        let server = self.server;
        let mut events = std::mem::take(&mut self.store_events);
        for event in events.drain(..) {
            match self.disk.tell(event) {
                // A full disk gets room again when there is a newer one.
                Some(Told::Input(Input::SnapshotWanted)) => self.want_snapshot(now),
                Some(Told::Input(input)) => {
                    match &input {
                        Input::LogDurable { through } => {
                            said.events.push(Event::Durable { server, through: *through });
                        }
                        Input::LogRoom(room) => said.events.push(Event::Room { server, room: *room }),
                        Input::EpochStored { kind, epoch } => {
                            said.events.push(Event::EpochStored { server, kind: *kind, epoch: *epoch });
                        }
                        _ => {}
                    }
                    self.step(now, input);
                }
                Some(Told::SnapshotEnded(ended)) => {
                    self.snapshot_running = false;
                    if ended.is_ok() && self.chance.coin() {
                        let kept = self.chance.between(1..4) as usize;
                        self.store().purge(kept);
                    }
                    self.step(now, Input::SnapshotEnded);
                }
                Some(Told::Failed(why)) => drop(self.ends.get_or_insert(End::LogFailed(why))),
                Some(Told::Flushed { .. } | Told::Trouble(_)) | None => {}
            }
        }
        self.store_events = events;
    }
}

fn recover(opened: &mut Opened<SharedDisk>, settings: &Settings) -> Result<Recovered, Down> {
    let options = settings.tree_options();
    let refused = |error: &dyn std::fmt::Display| Down::Refused(error.to_string());
    let mut replay = match opened.snapshot_source() {
        None => Replay::empty(options),
        Some(source) => {
            Replay::from_snapshot(source, options).map_err(|error| match (error, opened.snapshot_source()) {
                (LoadError::Damaged(told), _) => Down::Refused(told),
                (error, Some(source)) => Down::Refused(source.condemn(error.to_string()).to_string()),
                (error, None) => refused(&error),
            })?
        }
    };
    let mut failure = None;
    let replayed = opened.replay(|zxid, record| {
        if failure.is_none() {
            failure = replay.apply(record).err().map(|error| (zxid, error));
        }
    });
    replayed.map_err(|error| refused(&error))?;
    match failure {
        Some((zxid, error)) => Err(Down::Refused(format!("transaction {zxid} of the log cannot be read: {error}"))),
        None => Ok(replay.finish()),
    }
}

/// What the disk has is what its leaders meant.
fn check_digests(recovered: &Recovered) -> Result<(), Down> {
    let why = |first: &Zxid| format!("after {first} the tree does not have the digest its leader foresaw");
    recovered.mismatches.first().map_or(Ok(()), |first| Err(Down::Refused(why(first))))
}

fn is_end_of_role(output: &Output) -> bool {
    matches!(output, Output::RoleChanged(RoleView::Looking { .. }))
}
