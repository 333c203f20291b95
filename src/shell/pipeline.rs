//! Inputs into the core, outputs carried out: the only place where the two meet.
//!
//! The pipeline lives on executor 0 behind one `RefCell`; connection tasks of that executor call it directly (no task hop
//! for a read), the log task brings completed disk operations, bridge tasks bring batches of other executors. Every entry
//! is one turn: step the core once or more, then carry out what it said until it has nothing more to say. What is for other
//! servers and for the disk is handed over then, and leaves at the end of the round: everybody's who was ready in one piece.
//!
//! Holds: outputs are carried out in their order; a turn never waits (no borrow crosses an `await`); a panic in the core
//! ends the process, because its state is not to be trusted any more. Not here, on purpose: thinking of any kind.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use ringkeeper_storage::disk::{DiskEvent, DiskOp};
use ringkeeper_storage::{Opened, SnapshotDone, SnapshotError, Store, StoreConfig, StoreEvent};
use tracing::{error, info, warn};

use crate::core::ensemble_view::Awaits;
use crate::core::metrics::Metrics;
use crate::core::tree::Moved;
use crate::core::{ConnectionId, Input, LinkId, LinkMessage, LogRoom, Now, Output, Reloaded, RoleView, ServerId};
use crate::shell::bridge::{AskedWord, DownBatch, DownEvent, Sender, UpBatch, UpEvent};
use crate::shell::client_connection::Connections;
use crate::shell::client_door::ClientDoor;
use crate::shell::client_listener::{Fates, executor_of};
use crate::shell::clock::Clock;
use crate::shell::ensemble::Ensemble;
use crate::shell::ensemble::vigil::Vigil;
use crate::shell::flag::Flag;
use crate::shell::logging;
use crate::shell::settings::ServeError;
use crate::shell::snapshot_pace::SnapshotPace;
use crate::shell::snapshot_trigger::SnapshotTrigger;
use crate::shell::stall::{Stall, StallWatch};
use crate::store_host::{self, CarriedOut, Change, StoreHost, Told};
use crate::wire::election::Notification;

pub type PipelineHandle = Rc<RefCell<Pipeline>>;

/// What the shell drives: the node, and the texts operators ask for.
pub trait Core {
    /// Consumes one input; replies to clients wait for `flush`.
    fn step(&mut self, now: Now, input: Input<'_>, out: &mut Vec<Output>);

    /// Hands out the replies collected since the last call.
    fn flush(&mut self, out: &mut Vec<Output>);

    /// Whether `Input::MoveNodes` has something to do.
    fn is_moving(&self) -> bool;

    /// The whole answer to a four-letter word; empty closes without one.
    fn word(&mut self, now: Now, asked: AskedWord, surroundings: &Surroundings<'_>) -> Vec<u8>;

    /// Why clients are not served, if this is a member that serves nobody.
    fn awaits(&self, now: Now) -> Option<Awaits>;

    /// When the next tick is due at the latest.
    fn wake_us(&self) -> Option<u64>;

    /// Whether `Input::NextTurn` is wanted.
    fn wants_turn(&self) -> bool;

    /// The running snapshot has to go on without rest, or it will be given up.
    fn snapshot_is_pressing(&self) -> bool;

    /// Where the shell adds what only it can measure.
    fn metrics(&mut self) -> &mut Metrics;
}

/// What only the shell knows, for those who ask.
pub struct Surroundings<'a> {
    pub disk: &'a Store,
    /// None: clients cannot connect.
    pub client_port: Option<u16>,
    pub trouble: &'a Trouble<'a>,
}

/// What the network says about a server that is waited for, if it says anything.
pub type Trouble<'a> = dyn Fn(ServerId) -> Option<String> + 'a;

/// Why a pipeline stops serving by itself.
#[derive(Debug)]
pub enum Fatal {
    /// The log takes no more writes; nothing more is acknowledged.
    LogFailed(String),
    /// An io executor ended although nobody told it to.
    ExecutorLost(usize),
    /// What a leader wanted done with everything that is stored could not be done.
    Reload(Box<ServeError>),
}

/// Reads what is stored after a leader had it cut or replaced.
pub type Reloader = Box<dyn Fn(&mut Opened) -> Result<Reloaded, ServeError> + Send>;

/// A log that has not been written to for so long is at rest.
const LOG_AT_REST_US: u64 = 1_000_000;

/// Chunks of a leader's state that wait for the disk before no more of it are read.
const INSTALL_CHUNKS: usize = 16;

/// The way to one io executor.
struct Downlink {
    sender: Sender<DownBatch>,
    /// Collected in this turn, or kept because the queue was full.
    pending: DownBatch,
    /// Raised when `pending` had to be kept.
    full: Rc<Flag>,
}

pub struct Pipeline {
    core: Box<dyn Core>,
    clock: Clock,
    outputs: Vec<Output>,
    /// What the kernel took while outputs were carried out; the core hears of it in the same turn.
    sent: Vec<(ConnectionId, usize)>,
    connections: Rc<Connections>,
    client_door: Rc<ClientDoor>,
    /// Executor 1 first.
    downlinks: Vec<Downlink>,
    disk: StoreHost,
    store_events: Vec<StoreEvent>,
    disk_trouble: Repeated,
    /// What autopurge keeps, if it is on.
    retain: Option<usize>,
    /// To open it anew.
    store_config: StoreConfig,
    reloader: Option<Reloader>,
    /// Raised when a state from a leader may have come further.
    install_room: Rc<Flag>,
    /// None: a standalone server.
    ensemble: Option<Ensemble>,
    vigil: Vigil,
    /// What links took, while the core is told of it.
    links_sent: Vec<(LinkId, usize)>,
    /// Raised when the next tick is due earlier than `wake_us`, which is waited for.
    wake_changed: Rc<Flag>,
    wake_us: Option<u64>,
    /// Raised when clients want another turn.
    turn_wanted: Rc<Flag>,
    /// Raised when the store has something to do.
    disk_work: Rc<Flag>,
    snapshots: SnapshotTrigger,
    snapshot_pace: SnapshotPace,
    /// Raised when a snapshot has a rest before it, after which it is to be given a turn.
    snapshot_due: Rc<Flag>,
    /// Raised when the tree comes from another snapshot.
    snapshot_mapped: Rc<Flag>,
    /// When the running snapshot began.
    snapshot_began_us: Option<u64>,
    /// For the log line only.
    snapshot_directory: PathBuf,
    slow_flush_us: u64,
    /// Records logged, and when a tick first saw as many.
    logged: (u64, u64),
    /// For the log line only; None: this thread.
    log_thread: Option<&'static str>,
    stall: StallWatch,
    fatal: Option<Fatal>,
    drained: bool,
    /// Raised when `fatal` or `drained` changes.
    changed: Rc<Flag>,
}

/// Everything a pipeline is made from.
pub struct PipelineParts {
    pub core: Box<dyn Core>,
    pub clock: Clock,
    pub connections: Rc<Connections>,
    pub client_door: Rc<ClientDoor>,
    pub downlinks: Vec<Sender<DownBatch>>,
    /// What the core said when it was made.
    pub outputs: Vec<Output>,
    pub store: Store,
    pub store_config: StoreConfig,
    pub reloader: Option<Reloader>,
    pub ensemble: Option<Ensemble>,
    pub snapshots: SnapshotTrigger,
    pub snapshot_directory: PathBuf,
    pub snapshot_bytes_per_second: Option<u64>,
    /// Java: `fsync.warningthresholdms`.
    pub slow_flush_ms: u64,
    /// The thread that writes the log, if it is not the pipeline's.
    pub log_thread: Option<&'static str>,
}

impl Pipeline {
    pub fn new(parts: PipelineParts) -> PipelineHandle {
        let downlinks = parts.downlinks.into_iter();
        Rc::new(RefCell::new(Pipeline {
            core: parts.core,
            clock: parts.clock,
            outputs: parts.outputs,
            sent: Vec::new(),
            connections: parts.connections,
            client_door: parts.client_door,
            downlinks: downlinks.map(|sender| Downlink { sender, pending: Vec::new(), full: Rc::default() }).collect(),
            disk: StoreHost::new(parts.store),
            store_events: Vec::new(),
            disk_trouble: Repeated::default(),
            retain: None,
            store_config: parts.store_config,
            reloader: parts.reloader,
            install_room: Rc::default(),
            ensemble: parts.ensemble,
            vigil: Vigil::default(),
            links_sent: Vec::new(),
            wake_changed: Rc::default(),
            wake_us: None,
            turn_wanted: Rc::default(),
            disk_work: Rc::default(),
            snapshots: parts.snapshots,
            snapshot_pace: SnapshotPace::new(parts.snapshot_bytes_per_second),
            snapshot_due: Rc::default(),
            snapshot_mapped: Rc::default(),
            snapshot_began_us: None,
            snapshot_directory: parts.snapshot_directory,
            slow_flush_us: parts.slow_flush_ms.saturating_mul(1000),
            log_thread: parts.log_thread,
            stall: StallWatch::new(Duration::from_millis(parts.slow_flush_ms)),
            logged: (0, 0),
            fatal: None,
            drained: false,
            changed: Rc::default(),
        }))
    }

    // --- what connections of this executor say ---

    pub fn connected(&mut self, connection: ConnectionId, peer: SocketAddr) {
        self.turn(Input::Connected { connection, peer });
    }

    /// `frames`: one or more complete frames.
    pub fn received(&mut self, connection: ConnectionId, frames: &[u8]) {
        self.snapshot_pace.request(self.clock.mono_us());
        self.turn(Input::Received { connection, frames });
    }

    pub fn sent(&mut self, connection: ConnectionId, bytes: usize) {
        self.turn(Input::Sent { connection, bytes });
    }

    pub fn disconnected(&mut self, connection: ConnectionId) {
        self.turn(Input::Disconnected { connection });
    }

    pub fn word(&mut self, asked: AskedWord) {
        let now = self.clock.now();
        self.answer_word(now, asked);
        self.end_turn(now);
    }

    // --- what other servers say ---

    /// What the core said when it was made.
    pub fn begin(&mut self) {
        self.end_turn(self.clock.now());
    }

    pub fn ensemble(&self) -> Option<&Ensemble> {
        self.ensemble.as_ref()
    }

    pub fn notified(&mut self, from: ServerId, notification: Notification) {
        self.turn(Input::Notified { from, notification });
    }

    pub fn learner_connected(&mut self, link: LinkId) {
        self.turn(Input::LearnerConnected { link });
    }

    pub fn master_connected(&mut self, link: LinkId) {
        self.turn(Input::MasterConnected { link });
    }

    pub fn master_unreachable(&mut self) {
        self.turn(Input::MasterUnreachable);
    }

    /// Everything a link has brought, as one turn.
    pub fn link_received(&mut self, link: LinkId, messages: &mut Vec<LinkMessage>) {
        let now = self.clock.now();
        if messages.iter().any(LinkMessage::is_work) {
            self.snapshot_pace.request(now.mono_us);
        }
        for message in messages.drain(..) {
            self.step(now, Input::LinkReceived { link, message });
        }
        self.end_turn(now);
    }

    /// Everything said to other servers on links leaves.
    pub fn flush_links(&mut self) {
        let Some(ensemble) = &self.ensemble else { return };
        let now = self.clock.now();
        let mut sent = std::mem::take(&mut self.links_sent);
        ensemble.flush(&mut sent);
        for (link, bytes) in sent.drain(..) {
            self.step(now, Input::LinkSent { link, bytes });
        }
        self.links_sent = sent; // its memory
        self.end_turn(now);
    }

    pub fn link_sent(&mut self, link: LinkId, bytes: usize) {
        self.turn(Input::LinkSent { link, bytes });
    }

    pub fn link_closed(&mut self, link: LinkId) {
        self.turn(Input::LinkClosed { link });
    }

    /// Whether the disk has enough of a leader's state to write for now; `install_room` is raised when that may be over.
    pub fn is_install_behind(&self) -> bool {
        self.disk.store().install_backlog() > INSTALL_CHUNKS
    }

    pub fn install_room(&self) -> Rc<Flag> {
        self.install_room.clone()
    }

    // --- what other executors say ---

    /// Everything one io executor collected, as one turn.
    pub fn take_batch(&mut self, batch: &UpBatch) {
        let now = self.clock.now();
        let mut frames = &batch.frames[..];
        for event in &batch.events {
            match *event {
                UpEvent::Connected { connection, peer } => self.step(now, Input::Connected { connection, peer }),
                UpEvent::Received { connection, bytes } => {
                    let (these, rest) = frames.split_at(bytes);
                    frames = rest;
                    self.snapshot_pace.request(now.mono_us);
                    self.step(now, Input::Received { connection, frames: these });
                }
                UpEvent::Sent { connection, bytes } => self.step(now, Input::Sent { connection, bytes }),
                UpEvent::Word(asked) => self.answer_word(now, asked),
                UpEvent::Disconnected { connection } => self.step(now, Input::Disconnected { connection }),
            }
        }
        assert!(frames.is_empty(), "a batch's frames belong to its events");
        self.end_turn(now);
    }

    /// Ready when the batch that did not fit has been handed on.
    pub fn poll_downlink(&mut self, index: usize, cx: &mut Context<'_>) -> Poll<()> {
        let downlink = &mut self.downlinks[index];
        loop {
            if downlink.pending.is_empty() {
                return Poll::Ready(());
            }
            if downlink.sender.poll_room(cx).is_pending() {
                return Poll::Pending;
            }
            if let Err(batch) = downlink.sender.try_send(std::mem::take(&mut downlink.pending)) {
                downlink.pending = batch;
            }
        }
    }

    pub fn downlink_full(&self, index: usize) -> Rc<Flag> {
        self.downlinks[index].full.clone()
    }

    pub fn downlinks(&self) -> usize {
        self.downlinks.len()
    }

    pub fn executor_lost(&mut self, executor: usize) {
        self.end_with(Fatal::ExecutorLost(executor));
    }

    // --- what the disk says ---

    pub fn disk_work(&self) -> Rc<Flag> {
        self.disk_work.clone()
    }

    /// What is to be started on the disk now.
    pub fn poll_disk(&mut self, ops: &mut Vec<DiskOp>) {
        self.disk.poll_ops(ops);
    }

    /// Takes completions in; what they mean for the core follows with `tell_core_of_disk`, after new operations are on
    /// their way, so that the disk is never idle while replies are written.
    pub fn take_disk_events(&mut self, events: &mut Vec<DiskEvent>) {
        for event in events.drain(..) {
            self.disk.on_event(event, &mut self.store_events);
        }
        self.install_room.raise();
        let store = self.disk.store();
        if store.snapshot_waits_for_turn() {
            let hurry = self.core.snapshot_is_pressing() || store.presses_snapshot();
            let now_us = self.clock.mono_us();
            if self.snapshot_pace.turn_over(now_us, store.snapshot_bytes(), hurry) {
                self.snapshot_due.raise();
            }
        }
    }

    /// A leader has what is stored here cut or replaced, and nothing is under way any more. True: the files are others from
    /// now on, and who performs operations has to begin anew.
    pub fn change_disk(&mut self) -> bool {
        if !self.disk.may_change() {
            return false;
        }
        self.flush_links(); // nobody has a turn until this is done
        if !self.disk.may_change() {
            return false;
        }
        let change = self.disk.close();
        match self.reload(change) {
            Ok((reloaded, store)) => {
                self.disk.opened_anew(store);
                self.store_events.clear();
                // A store makes room by itself only as far as it was told to.
                if let Some(retain) = self.retain {
                    self.purge(retain);
                }
                self.snapshot_began_us = None;
                self.logged = (0, self.clock.mono_us());
                self.turn(Input::Reloaded(Box::new(reloaded)));
                self.snapshot_mapped.raise();
            }
            Err(error) => {
                // Now: there is no store any more, and another task may ask for it before the process ends.
                error!("what is stored could not be cut or replaced: {error}");
                self.end_with(Fatal::Reload(Box::new(error)));
            }
        }
        true
    }

    /// Blocks, as a start does.
    fn reload(&self, change: Change) -> Result<(Reloaded, Store), ServeError> {
        let reloader = self.reloader.as_ref().expect("only a member of an ensemble has a leader");
        let opened = ringkeeper_storage::open(self.store_config.clone())?;
        let mut opened = store_host::change(opened, &change)?;
        for note in &opened.report().notes {
            info!("{note}"); // it is as the leader wanted it, and what an operator should know the next start says again
        }
        let mut reloaded = reloader(&mut opened)?;
        reloaded.failure = change.failure();
        info!(
            "what is stored was changed as the leader wanted: {} is the newest transaction",
            opened.report().last_zxid
        );
        Ok((reloaded, opened.into_store()?))
    }

    pub fn snapshot_due(&self) -> Rc<Flag> {
        self.snapshot_due.clone()
    }

    pub fn snapshot_rest_us(&self) -> u64 {
        self.snapshot_pace.rest_us(self.clock.mono_us())
    }

    pub fn give_snapshot_turn(&mut self) {
        self.snapshot_pace.turn_given(self.clock.mono_us());
        self.disk.store_mut().give_snapshot_turn(&mut self.store_events);
        self.tell_core_of_disk();
        self.disk_work.raise();
    }

    pub fn tell_core_of_disk(&mut self) {
        let mut events = std::mem::take(&mut self.store_events);
        if events.is_empty() {
            return;
        }
        let now = self.clock.now();
        let mut durable = None;
        for event in events.drain(..) {
            match self.disk.tell(event) {
                // Durability is a prefix: the last one says it all.
                Some(Told::Input(Input::LogDurable { through })) => durable = Some(through),
                Some(Told::Input(Input::LogRoom(room))) => {
                    self.note_room(room);
                    self.step(now, Input::LogRoom(room));
                }
                Some(Told::Input(input)) => self.step(now, input),
                Some(Told::Flushed { elapsed_us, records }) => self.note_flush(elapsed_us, records),
                Some(Told::SnapshotEnded(ended)) => {
                    self.note_snapshot(now, &ended);
                    self.step(now, Input::SnapshotEnded);
                }
                Some(Told::Trouble(trouble)) => self.disk_trouble.note(trouble, now.mono_us),
                // Told by whoever ends the process.
                Some(Told::Failed(why)) => self.end_with(Fatal::LogFailed(why)),
                None => {}
            }
        }
        self.store_events = events;
        if let Some(through) = durable {
            self.step(now, Input::LogDurable { through });
        }
        self.end_turn(now);
    }

    /// What clients will notice, and what to do.
    fn note_room(&self, room: LogRoom) {
        let directory = self.store_config.data_log_dir.join(ringkeeper_storage::DIRECTORY);
        let directory = directory.display();
        match room {
            LogRoom::Ample => info!("{directory}: there is room for the log again: writes are taken"),
            LogRoom::Low => warn!(
                "{directory}: no room for the log: writes are refused; reads, sessions and what was admitted go on. Make room on this disk"
            ),
            LogRoom::None => error!(
                "{directory}: no room for the log: nothing that needs it is admitted, nobody new either. Make room on this disk"
            ),
        }
    }

    /// The disk will not answer any more.
    pub fn disk_lost(&mut self, ended: &dyn std::error::Error) {
        self.end_with(Fatal::LogFailed(ended.to_string()));
    }

    /// For how long the oldest write of the log is under way; the log task says so whenever it looks, at least every tick.
    pub fn note_log_wait(&mut self, waiting: Option<Duration>) {
        let age = waiting.unwrap_or_default();
        self.core.metrics().log_write_in_flight_ms = age.as_millis() as u64;
        match self.stall.look(age) {
            None => {}
            Some(Stall::Goes { seconds }) => error!(
                "the disk of the transaction log has not answered a write for {seconds} s: nothing is acknowledged until it does"
            ),
            Some(Stall::Over { seconds }) => info!("the disk of the transaction log answers again, after {seconds} s"),
        }
    }

    /// True when everything is on the disk, and the log says so itself. Only when nothing more will be logged.
    pub fn end_log(&mut self) -> bool {
        self.disk.store_mut().end();
        self.disk_work.raise();
        self.disk.store().is_idle()
    }

    /// Keeps the newest `retain` snapshots.
    pub fn purge(&mut self, retain: usize) {
        self.retain = Some(retain);
        self.disk.store_mut().purge(retain);
        self.disk_work.raise();
    }

    /// What became of connections since the last call.
    pub fn count_fates(&mut self, fates: Fates) {
        let metrics = self.core.metrics();
        metrics.connection_rejected += fates.refused;
        metrics.sessionless_connections_expired += fates.expired;
        metrics.connection_drop_count += fates.dropped;
    }

    pub fn snapshot_mapped(&self) -> Rc<Flag> {
        self.snapshot_mapped.clone()
    }

    /// Moves a slice of the snapshot we started from into memory. Says how long to rest before the next one; `None` when
    /// there is nothing more to move.
    pub fn move_nodes(&mut self) -> Option<u64> {
        if self.core.is_moving() {
            let began_us = self.clock.mono_us();
            self.turn(Input::MoveNodes);
            let now_us = self.clock.mono_us();
            let rest_us = self.snapshot_pace.rest_after_us(now_us, now_us - began_us);
            return self.core.is_moving().then_some(rest_us);
        }
        None
    }

    // --- time, beginning and end ---

    /// When the core wants a tick, and a flag that is raised when it wants one earlier.
    pub fn wake(&mut self) -> (Option<u64>, Rc<Flag>) {
        self.wake_us = self.core.wake_us();
        (self.wake_us, self.wake_changed.clone())
    }

    /// The moment has come, if it has not moved on.
    pub fn woken(&mut self) {
        if self.core.wake_us().is_some_and(|wake_us| wake_us <= self.clock.mono_us()) {
            self.turn(Input::Tick);
        }
    }

    pub fn turn_wanted(&self) -> Rc<Flag> {
        self.turn_wanted.clone()
    }

    /// Everybody else had theirs.
    pub fn next_turn(&mut self) {
        self.turn(Input::NextTurn);
    }

    pub fn tick(&mut self) {
        let (store, now_us) = (self.disk.store_mut(), self.clock.mono_us());
        store.retry();
        let records = store.stats().records;
        if records != self.logged.0 {
            self.logged = (records, now_us);
        } else if now_us.saturating_sub(self.logged.1) >= LOG_AT_REST_US {
            store.at_rest();
        }
        self.disk_work.raise();
        if let Some(ensemble) = &self.ensemble {
            ensemble.tick();
        }
        self.turn(Input::Tick);
        if let Some(ensemble) = &self.ensemble {
            let now = self.clock.now();
            let trouble = |server| ensemble.trouble(server);
            if let Some(sentence) = self.vigil.look(now, self.core.awaits(now), &trouble) {
                warn!("{sentence}");
            }
        }
    }

    /// One line for SIGQUIT.
    pub fn log_state(&self) {
        let waiting: Vec<usize> = self.downlinks.iter().map(|downlink| downlink.pending.len()).collect();
        info!(
            "state: {} connections on this executor, events waiting for the others {waiting:?}, snapshot running {}, \
             disk at rest {}, {:?}",
            self.connections.count(),
            self.snapshot_began_us.is_some(),
            self.disk.store().is_idle(),
            self.disk.store().stats()
        );
    }

    /// No more requests are taken; [`Pipeline::is_drained`] turns true when all are answered.
    pub fn begin_shutdown(&mut self) {
        self.turn(Input::Shutdown);
    }

    /// Tells the other executors to flush, close and end.
    pub fn stop_executors(&mut self) {
        for downlink in &mut self.downlinks {
            downlink.pending.push(DownEvent::Stop);
        }
        self.push_downlinks();
    }

    /// The last of a stop: whoever could not be told for want of room in its queue sees the queue's end. A connection task
    /// that outlived the stop's patience still holds the pipeline, so that end would not come by itself.
    pub fn let_executors_go(&mut self) {
        self.downlinks.clear();
    }

    /// The connections with other servers end, once what was said on them has left.
    pub fn hang_up(&mut self) {
        self.flush_links();
        if let Some(ensemble) = &self.ensemble {
            ensemble.hang_up();
        }
    }

    /// The disk has not answered for long, and nobody knows when it will.
    pub fn disk_hangs(&self) -> bool {
        self.stall.hangs()
    }

    /// How many operations no disk has answered, and how many were.
    pub fn disk_progress(&self) -> (usize, u64) {
        self.disk.progress()
    }

    pub fn is_drained(&self) -> bool {
        self.drained
    }

    pub fn take_fatal(&mut self) -> Option<Fatal> {
        self.fatal.take()
    }

    pub fn changed(&self) -> Rc<Flag> {
        self.changed.clone()
    }

    fn end_with(&mut self, fatal: Fatal) {
        self.fatal.get_or_insert(fatal);
        self.changed.raise();
    }

    // --- the turn ---

    fn turn(&mut self, input: Input<'_>) {
        let now = self.clock.now();
        self.step(now, input);
        self.end_turn(now);
    }

    fn step(&mut self, now: Now, input: Input<'_>) {
        let _end_on_panic = EndProcessOnPanic;
        self.core.step(now, input, &mut self.outputs);
    }

    /// Carries out everything the core wants done, until it wants nothing more.
    fn end_turn(&mut self, now: Now) {
        let _end_on_panic = EndProcessOnPanic;
        loop {
            self.core.flush(&mut self.outputs);
            if self.outputs.is_empty() {
                break;
            }
            let mut outputs = std::mem::take(&mut self.outputs);
            for output in outputs.drain(..) {
                self.carry_out(now, output);
            }
            if self.outputs.is_empty() {
                self.outputs = outputs; // its memory
            }
            for (connection, bytes) in std::mem::take(&mut self.sent) {
                self.core.step(now, Input::Sent { connection, bytes }, &mut self.outputs);
            }
            if self.snapshots.take_due() {
                self.want_snapshot(now);
            }
        }
        self.push_downlinks();
        if self.core.wants_turn() {
            self.turn_wanted.raise();
        }
        // With every word of a peer the moment moves on; who waits for the earlier one finds out then.
        if self.core.wake_us().is_some_and(|wake_us| self.wake_us.is_none_or(|earlier_us| wake_us < earlier_us)) {
            self.wake_changed.raise();
        }
    }

    fn carry_out(&mut self, now: Now, output: Output) {
        match output {
            Output::Send { connection, bytes } => match executor_of(connection) {
                0 => {
                    let sent_bytes = self.connections.send(connection, bytes);
                    if sent_bytes > 0 {
                        self.sent.push((connection, sent_bytes));
                    }
                }
                executor => self.tell_executor(executor, DownEvent::Send { connection, bytes }),
            },
            Output::Close { connection } => match executor_of(connection) {
                0 => self.connections.close(connection),
                executor => self.tell_executor(executor, DownEvent::Close { connection }),
            },
            Output::PauseReading { connection } => match executor_of(connection) {
                0 => self.connections.pause_reading(connection),
                executor => self.tell_executor(executor, DownEvent::PauseReading { connection }),
            },
            Output::ResumeReading { connection } => match executor_of(connection) {
                0 => self.connections.resume_reading(connection),
                executor => self.tell_executor(executor, DownEvent::ResumeReading { connection }),
            },
            Output::RoleChanged(role) => self.note_role(&role),
            Output::Told(what) => info!("{what}"),
            Output::Warned(what) => warn!("{what}"),
            Output::Moved(Moved { zxid, nodes, contradiction }) => {
                let elapsed_ms = self.clock.mono_us() / 1000;
                info!("{nodes} nodes of snapshot {zxid} are in memory, {elapsed_ms} ms after the start");
                if let Some(why) = contradiction {
                    error!(
                        "snapshot {zxid} is not what its head says: {why}. Service goes on; compare this server's data with \
                         the others' or with a backup"
                    );
                }
            }
            Output::ClientAddressChanged { host, port } => {
                info!("the configuration says that this server's clients connect to {host}:{port}");
                self.client_door.move_to((host, port));
            }
            Output::Drained => {
                self.drained = true;
                self.changed.raise();
            }
            output => self.ask_peers_or_disk(now, output),
        }
    }

    fn ask_peers_or_disk(&mut self, now: Now, output: Output) {
        let output = match &self.ensemble {
            Some(ensemble) => match ensemble.carry_out(output) {
                Some(output) => output,
                None => return,
            },
            None => output,
        };
        match &output {
            Output::Log { txn, .. } => self.snapshots.logged(txn.len() as u64),
            // Who was away longs to be back: that goes before.
            Output::ReadLog { .. } | Output::ReadLogOn { .. } => self.snapshot_pace.request(now.mono_us),
            Output::SnapshotBegin(header) => {
                info!("Snapshotting: {:#x} to {}", header.zxid, self.snapshot_directory.display());
                self.snapshot_began_us = Some(self.clock.mono_us());
                self.snapshot_pace.begin(self.clock.mono_us());
            }
            _ => {}
        }
        match self.disk.carry_out(output) {
            CarriedOut::Asked => self.disk_work.raise(),
            CarriedOut::Answered(input) => self.step(now, input),
            CarriedOut::NotMine(output) => unreachable!("a standalone server has no peers: {output:?}"),
        }
    }

    /// In the words of Java's log, which operators search for.
    fn note_role(&self, role: &RoleView) {
        match role {
            RoleView::Looking { why } => info!("LOOKING: {why}"),
            RoleView::Following { leader, serving: false } => info!("FOLLOWING server {}", leader.0),
            RoleView::Observing { leader, serving: false } => info!("OBSERVING server {}", leader.0),
            RoleView::Leading { serving: false, .. } => info!("LEADING"),
            RoleView::Following { leader, serving: true } => info!("serving as a follower of server {}", leader.0),
            RoleView::Observing { leader, serving: true } => info!("serving as an observer, server {} leads", leader.0),
            RoleView::Leading { epoch, serving: true } => info!("serving as the leader of epoch {epoch}"),
        }
    }

    fn want_snapshot(&mut self, now: Now) {
        if self.snapshot_began_us.is_some() {
            warn!("Too busy to snap, skipping: the last snapshot is still being written");
        } else {
            self.core.step(now, Input::SnapshotWanted, &mut self.outputs);
        }
    }

    fn answer_word(&mut self, now: Now, asked: AskedWord) {
        let _end_on_panic = EndProcessOnPanic;
        let connection = asked.connection;
        let is_stale = self.ensemble.as_ref().is_some_and(Ensemble::files_are_stale);
        self.core.metrics().config_file_stale = u64::from(is_stale);
        let trouble = |server| self.ensemble.as_ref().and_then(|ensemble| ensemble.trouble(server));
        let client_port = self.client_door.address().map(|address| address.port());
        let bytes =
            self.core.word(now, asked, &Surroundings { disk: self.disk.store(), client_port, trouble: &trouble });
        if !bytes.is_empty() {
            self.outputs.push(Output::Send { connection, bytes });
        }
        self.outputs.push(Output::Close { connection });
    }

    fn tell_executor(&mut self, executor: usize, event: DownEvent) {
        // Let go, an executor has nothing more to hear.
        if let Some(downlink) = self.downlinks.get_mut(executor - 1) {
            downlink.pending.push(event);
        }
    }

    fn push_downlinks(&mut self) {
        for downlink in &mut self.downlinks {
            if downlink.pending.is_empty() {
                continue;
            }
            // Full: kept, and growing at most by what the core lets each client's output grow to.
            if let Err(batch) = downlink.sender.try_send(std::mem::take(&mut downlink.pending)) {
                downlink.pending = batch;
                downlink.full.raise();
            }
        }
    }

    fn note_snapshot(&mut self, now: Now, ended: &Result<SnapshotDone, SnapshotError>) {
        let began_us = self.snapshot_began_us.take();
        match ended {
            Ok(SnapshotDone { zxid, bytes, nodes }) => {
                let elapsed_ms = began_us.map_or(0, |began_us| now.mono_us.saturating_sub(began_us) / 1000);
                info!("Snapshot taken: {zxid} ({nodes} nodes, {bytes} bytes) in {elapsed_ms} ms");
                self.core.metrics().snapshottime.record(elapsed_ms);
            }
            Err(error) => {
                error!("Snapshot failed, the next one is tried in its turn: {error}");
                self.core.metrics().snapshot_error_count += 1;
            }
        }
    }

    fn note_flush(&mut self, elapsed_us: u32, records: u32) {
        let metrics = self.core.metrics();
        metrics.fsynctime.record(u64::from(elapsed_us) / 1000);
        metrics.sync_processor_batch_size.record(records.into());
        if u64::from(elapsed_us) > self.slow_flush_us {
            metrics.fsync_threshold_exceed_count += 1;
            warn!(
                "fsync-ing the write ahead log in {} took {}ms which will adversely effect operation latency.File size is \
                 {} bytes. See the ZooKeeper troubleshooting guide",
                self.log_thread.unwrap_or("rk-pipeline"),
                elapsed_us / 1000,
                self.disk.store().stats().log_bytes
            );
        }
    }
}

/// What a disk cannot do it is asked for every tick: the same words are written once a minute.
#[derive(Default)]
struct Repeated {
    last: String,
    since_us: u64,
}

impl Repeated {
    const PERIOD_US: u64 = 60_000_000;

    fn note(&mut self, text: String, now_us: u64) {
        if text != self.last || now_us >= self.since_us + Self::PERIOD_US {
            warn!("{text}");
            (self.last, self.since_us) = (text, now_us);
        }
    }
}

/// A connection task catches its own panics; one that began in the core must not end there.
struct EndProcessOnPanic;

impl Drop for EndProcessOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The panic hook has said where. Exit code as in operations 1.11.
            let why = "ringkeeper: a fault in the server's core; its state cannot be trusted, so it stops here\n";
            logging::say_at_once(why.to_owned());
            std::process::exit(1);
        }
    }
}
