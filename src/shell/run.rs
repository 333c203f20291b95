//! Executor 0 from its first task to its last: recover, serve, stop.
//!
//! Stopping: no more connections, the core finishes what is in flight, the disk comes to rest, replies are flushed, sockets
//! close; all of it bounded, because a supervisor's patience is. A failed log skips all that: nothing more may be said.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use glommio::ExecutorJoinHandle;
use ringkeeper_storage::{DiskDriver, RecoveryReport};
use tracing::{error, info, trace, warn};

use crate::limits::{BRIDGE_BATCHES_DOWN, BRIDGE_BATCHES_UP};
use crate::shell::bridge::{self, Receiver, UpBatch};
use crate::shell::client_connection::{Connections, Upstream};
use crate::shell::client_door::ClientDoor;
use crate::shell::client_listener::{Admission, BoundListener, ExecutorLoad, HANDOVER_SOCKETS};
use crate::shell::clock::Clock;
use crate::shell::ensemble::{BoundEnsemble, Ensemble};
use crate::shell::initialize;
use crate::shell::io_executor::{self, IoExecutor};
use crate::shell::java_data;
use crate::shell::log_task;
use crate::shell::mailbox::mailbox;
use crate::shell::pipeline::{Pipeline, PipelineHandle, PipelineParts};
use crate::shell::placement::LoadMeter;
use crate::shell::reactor::{self, Share, next_turn};
use crate::shell::settings::{CoreLoaders, ServeError, Settings, banner};
use crate::shell::signals::StopRequest;
use crate::shell::snapshot_task;
use crate::shell::snapshot_trigger::{PurgeSettings, SnapshotTrigger};

/// Batches of one io executor before the reactor has its turn.
const BATCHES_A_TURN: u32 = 16;

/// How long a stop may take to answer and write what is in flight.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// Of this, how long a disk with something to do may do nothing in the end.
const STANDS_STILL: Duration = Duration::from_secs(5);

/// So late nobody is who has a CPU.
const STOOD_STILL: Duration = Duration::from_millis(100);

/// How long is listened then. Shorter than any timeout.
const HEARING: Duration = Duration::from_millis(20);

/// How often a stop looks whether the disk has come to rest.
const STOP_LOOK: Duration = Duration::from_millis(2);

/// Without autopurge, more snapshots than this are worth a word at start.
const SNAPSHOTS_UNPURGED: usize = 10;

/// Bound before anything else, and not listening.
pub struct Ports {
    pub clients: Option<BoundListener>,
    pub ensemble: Option<BoundEnsemble>,
}

/// What is left when the pipeline has ended.
pub struct Served {
    /// How many clients of executor 0 were not waited for.
    pub ending: Result<usize, ServeError>,
    /// Told to end; to be joined by a thread that may block. And how many of theirs.
    pub io_executors: Vec<ExecutorJoinHandle<io::Result<usize>>>,
}

pub async fn run(
    settings: Settings,
    ports: Ports,
    load: CoreLoaders,
    stop: StopRequest,
    ready: impl FnOnce(Option<SocketAddr>),
) -> Served {
    let mut io_executors = Vec::new();
    let ending = serve(settings, ports, load, stop, ready, &mut io_executors).await;
    Served { ending, io_executors }
}

async fn serve(
    settings: Settings,
    ports: Ports,
    load: CoreLoaders,
    stop: StopRequest,
    ready: impl FnOnce(Option<SocketAddr>),
    io_executors: &mut Vec<ExecutorJoinHandle<io::Result<usize>>>,
) -> Result<usize, ServeError> {
    let clock = Clock::start();
    let opened = ringkeeper_storage::open(settings.store.clone())?;
    banner(&settings, opened.facts());
    for note in &opened.report().notes {
        warn!("{note}");
    }
    let mut opened = java_data::take_over(opened, &settings.store)?;
    if !settings.store.has_peers
        && let Ok(Some(epoch @ 1..)) = opened.promised_epoch()
    {
        warn!(
            "{}: this was a member of an ensemble, in epoch {epoch}, and is served alone now: what is written from now on the others do \
             not know. If it stays alone, delete acceptedEpoch and currentEpoch there; if not, its configuration lacks the server.N lines",
            settings.store.data_dir.join(ringkeeper_storage::DIRECTORY).display()
        );
    }
    let mut opened = initialize::take_word(opened, &settings.store)?;
    let begin = (load.first)(&mut opened)?;
    let RecoveryReport { last_zxid, records, .. } = *opened.report();
    let elapsed_ms = clock.mono_us() / 1000;
    info!("recovered to {last_zxid} with {records} transactions from the log in {elapsed_ms} ms");
    let store = opened.into_store()?;
    let mut outputs = Vec::new();
    let mut core = begin(clock.now(), &mut outputs);
    core.metrics().dbinittime.record(elapsed_ms);
    core.metrics().force_sync_disabled = u64::from(!settings.store.strategy.is_durable());
    core.metrics().startup_txns_loaded.record(records);
    if settings.purge.is_none() && store.stats().snapshots > SNAPSHOTS_UNPURGED {
        warn!(
            "{} snapshots are kept and none is ever removed: set autopurge.purgeInterval (hours)",
            store.stats().snapshots
        );
    }
    let (driver, disk_cpus) = (settings.disk_driver, settings.plan.disk_cpus());
    let make_driver = move || DiskDriver::new(driver, &disk_cpus);
    let disk = make_driver()?;

    let tick = tick_period(settings.tick_ms);
    let connections = Connections::new(settings.limits, settings.sessionless_timeout_ms, clock);
    let (own, arrivals) = mailbox(HANDOVER_SOCKETS);
    let mut mailboxes = vec![own];
    let mut loads = vec![Arc::<ExecutorLoad>::default()];
    let mut uplinks = Vec::new();
    let mut downlinks = Vec::new();
    for index in 1..settings.plan.executors() {
        let (up, from_executor) = bridge::channel(BRIDGE_BATCHES_UP);
        let (to_executor, down) = bridge::channel(BRIDGE_BATCHES_DOWN);
        let (its, arrivals) = mailbox(HANDOVER_SOCKETS);
        let load = Arc::<ExecutorLoad>::default();
        let executor = IoExecutor {
            up,
            down,
            arrivals,
            load: load.clone(),
            limits: settings.limits,
            sessionless_timeout_ms: settings.sessionless_timeout_ms,
            tick,
            clock,
        };
        let spin = settings.plan.spin(index);
        let started = settings.plan.builder(index).spawn(move || async move {
            let ended = reactor::run(spin, executor.run()).await;
            ended.inspect_err(|error| error!("executor {index}: {error}"))
        });
        let started = started.map_err(|error| ServeError::Executor { executor: index, why: error.to_string() })?;
        io_executors.push(started);
        mailboxes.push(its);
        loads.push(load);
        uplinks.push(from_executor);
        downlinks.push(to_executor);
    }

    let own_load = loads[0].clone();
    let door = Rc::new(ClientDoor::new(settings.listener, settings.clients_at.clone(), mailboxes, loads));
    let pipeline = Pipeline::new(PipelineParts {
        core,
        clock,
        connections: connections.clone(),
        client_door: door.clone(),
        downlinks,
        outputs,
        store,
        store_config: settings.store.clone(),
        reloader: load.again,
        ensemble: settings.ensemble.as_ref().map(Ensemble::new),
        snapshots: SnapshotTrigger::new(settings.snap_count, settings.snap_size_limit_bytes),
        snapshot_directory: settings.store.data_dir.join(ringkeeper_storage::DIRECTORY),
        snapshot_bytes_per_second: settings.snapshot_bytes_per_second,
        slow_flush_ms: settings.slow_flush_ms,
        log_thread: settings.disk_driver.thread_name(),
    });
    let upstream = Upstream::Pipeline(pipeline.clone());
    let mut tasks = vec![
        reactor::spawn(log_task::run(pipeline.clone(), disk, make_driver)),
        reactor::spawn(snapshot_task::run(pipeline.clone())),
        reactor::spawn(io_executor::take_arrivals(arrivals, connections.clone(), upstream)),
    ];
    tasks.push(reactor::spawn(snapshot_task::move_nodes(pipeline.clone())));
    for (index, uplink) in uplinks.into_iter().enumerate() {
        tasks.push(reactor::spawn(take_batches(pipeline.clone(), index, uplink)));
        tasks.push(reactor::spawn(push_downlink(pipeline.clone(), index)));
    }
    if let Some(purge) = settings.purge {
        tasks.push(reactor::spawn(run_purge(pipeline.clone(), purge)));
    }

    if let Some(bound) = ports.ensemble {
        let running = pipeline.borrow().ensemble().map(|ensemble| ensemble.begin(bound, &pipeline));
        tasks.extend(running.expect("ports are bound for an ensemble").map_err(ServeError::PeerPorts)?);
        tasks.push(reactor::spawn(wake_core(pipeline.clone(), clock)));
    }
    tasks.push(reactor::spawn(give_turns(pipeline.clone())));
    pipeline.borrow_mut().begin();

    let ending = async {
        match ports.clients {
            Some(bound) => door.open(bound)?,
            None => info!("no clientPort is set: no client can connect"),
        }
        let _ticking = reactor::spawn(run_tick(
            pipeline.clone(),
            connections.clone(),
            door.admission.clone(),
            stop.clone(),
            own_load,
            tick,
        ));
        let up_ms = clock.mono_us() / 1000;
        match settings.ensemble {
            Some(_) => info!("up, {up_ms} ms after the start; clients are served when there is a leader"),
            None => info!("serving, {up_ms} ms after the start"),
        }
        ready(door.address());
        let following = reactor::spawn(door.clone().follow());
        serve_until_stopped(&pipeline, &stop).await?;
        following.cancel().await;
        door.close();
        stop_serving(&pipeline, &connections).await
    };
    let ending = ending.await;
    if let Some(ensemble) = pipeline.borrow().ensemble() {
        ensemble.close_doors();
    }
    pipeline.borrow_mut().stop_executors();
    if ending.is_ok() {
        // The runtime would leak them, and with them the store and its lock on the directory. After a failure the process
        // ends anyway, and waiting for a disk that failed, or hangs, is no good.
        for task in tasks {
            task.cancel().await;
        }
        pipeline.borrow_mut().let_executors_go();
    } else {
        for task in tasks {
            task.detach();
        }
    }
    if matches!(ending, Ok(_) | Err(ServeError::DiskHangs { .. })) {
        pipeline.borrow_mut().hang_up();
    }
    ending
}

/// Sessions are looked at twice a tick, so that an expiry is late by half a tick at most.
fn tick_period(tick_ms: u32) -> Duration {
    Duration::from_millis(u64::from(tick_ms / 2).clamp(10, 1000))
}

/// Ok when somebody asked for the end.
async fn serve_until_stopped(pipeline: &PipelineHandle, stop: &StopRequest) -> Result<(), ServeError> {
    let changed = pipeline.borrow().changed();
    let asked = async {
        poll_fn(|cx| stop.poll_asked(cx)).await;
        Ok(())
    };
    let failed = async {
        loop {
            changed.lowered().await;
            if let Some(fatal) = pipeline.borrow_mut().take_fatal() {
                return Err(ServeError::from(fatal));
            }
        }
    };
    futures_lite::future::or(failed, asked).await
}

async fn stop_serving(pipeline: &PipelineHandle, connections: &Rc<Connections>) -> Result<usize, ServeError> {
    pipeline.borrow_mut().begin_shutdown();
    let at_rest = async {
        loop {
            {
                let mut pipeline = pipeline.borrow_mut();
                if let Some(fatal) = pipeline.take_fatal() {
                    return Err(ServeError::from(fatal));
                }
                if pipeline.is_drained() && pipeline.end_log() {
                    return Ok(());
                }
            }
            reactor::sleep(STOP_LOOK).await;
        }
    };
    let out_of_patience = async {
        reactor::sleep(STOP_PATIENCE - STANDS_STILL).await;
        let stands_still = stands_still(pipeline).await;
        if stands_still || pipeline.borrow().disk_hangs() {
            // Now: the kernel may hold this thread, and even a killed process, until the disk answers.
            warn!("a disk is not waited for any longer; the process ends as soon as the kernel lets it");
            connections.close_all();
            return Err(ServeError::DiskHangs { patience: STOP_PATIENCE });
        }
        warn!("requests were still in flight after {STOP_PATIENCE:?}; their clients will not hear of them");
        Ok(())
    };
    futures_lite::future::or(at_rest, out_of_patience).await?;

    pipeline.borrow_mut().stop_executors(); // now, so that all flush at the same time
    connections.close_all();
    let left = connections.all_closed().await;
    info!("stopped");
    Ok(left)
}

/// Whether a disk, the log's or another one, has something to do and does nothing.
async fn stands_still(pipeline: &PipelineHandle) -> bool {
    let (_, answered) = pipeline.borrow().disk_progress();
    reactor::sleep(STANDS_STILL).await;
    matches!(pipeline.borrow().disk_progress(), (under_way, now) if under_way > 0 && now == answered)
}

/// Clients that asked for much go on when everybody else had a turn.
async fn give_turns(pipeline: PipelineHandle) {
    let wanted = pipeline.borrow().turn_wanted();
    loop {
        wanted.lowered().await;
        next_turn().await;
        pipeline.borrow_mut().next_turn();
    }
}

/// Members have deadlines much shorter than a tick.
async fn wake_core(pipeline: PipelineHandle, clock: Clock) {
    loop {
        let (wake_us, changed) = pipeline.borrow_mut().wake();
        let moment = async {
            match wake_us {
                Some(wake_us) => {
                    let pause = Duration::from_micros(wake_us.saturating_sub(clock.mono_us()).max(1));
                    sleep_and_hear(pause).await;
                }
                None => std::future::pending().await,
            }
            true
        };
        let earlier = async {
            changed.lowered().await;
            false
        };
        if futures_lite::future::or(moment, earlier).await {
            pipeline.borrow_mut().woken();
        }
    }
}

/// Whoever oversleeps by much has stood still, or the machine has. What others said meanwhile is heard before they are judged by it:
/// more may have come than one look takes, and it may have a way to go from other executors.
async fn sleep_and_hear(pause: Duration) {
    let due = Instant::now() + pause;
    reactor::sleep(pause).await;
    if due.elapsed() > STOOD_STILL {
        reactor::sleep(HEARING).await;
    }
}

async fn run_tick(
    pipeline: PipelineHandle,
    connections: Rc<Connections>,
    admission: Arc<Admission>,
    stop: StopRequest,
    load: Arc<ExecutorLoad>,
    period: Duration,
) {
    let mut meter = LoadMeter::start();
    loop {
        sleep_and_hear(period).await;
        connections.tick();
        pipeline.borrow_mut().count_fates(admission.take_fates());
        pipeline.borrow_mut().tick();
        if stop.take_state_wanted() {
            pipeline.borrow().log_state();
        }
        let busy_permille = meter.busy_permille();
        trace!("busy {busy_permille} permille, {} connections", connections.count());
        load.publish(busy_permille, connections.count() as u32);
    }
}

/// Once at start, then every interval, until the executor ends.
async fn run_purge(pipeline: PipelineHandle, settings: PurgeSettings) {
    loop {
        pipeline.borrow_mut().purge(settings.retain);
        reactor::sleep(settings.every).await;
    }
}

async fn take_batches(pipeline: PipelineHandle, index: usize, mut uplink: Receiver<UpBatch>) {
    let mut share = Share::of(BATCHES_A_TURN);
    while let Some(batch) = poll_fn(|cx| uplink.poll_receive(cx)).await {
        pipeline.borrow_mut().take_batch(&batch);
        share.done_one().await;
    }
    pipeline.borrow_mut().executor_lost(index + 1);
}

/// Hands on what did not fit into the queue to an io executor when it was produced.
async fn push_downlink(pipeline: PipelineHandle, index: usize) {
    let full = pipeline.borrow().downlink_full(index);
    loop {
        full.lowered().await;
        poll_fn(|cx| pipeline.borrow_mut().poll_downlink(index, cx)).await;
    }
}
