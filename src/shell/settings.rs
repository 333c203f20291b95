//! What the shell has to know of a configuration, why serving may end, and what an operator sees first.

use std::path::PathBuf;
use std::time::Duration;

use ringkeeper_storage::{
    DiskFacts, DriverKind, DriverUnavailable, Journal, LogError, LogStrategy, Opened, RingUnavailable, StorageFacts,
    StoreConfig, StoreError,
};
use tracing::{info, warn};

use crate::config::{ClientListener as ClientConfig, Config, Directories, EnsembleConfig};
use crate::core::{Now, Output};
use crate::java::import::ImportError;
use crate::java::ours::OursError;
use crate::java::seen::SeenError;
use crate::shell::client_listener::{ListenError, ListenerSettings};
use crate::shell::ensemble::EnsembleSettings;
use crate::shell::ensemble::election_port::ElectionSettings;
use crate::shell::ensemble::links::LinkSettings;
use crate::shell::ensemble::listener::PeerListenError;
use crate::shell::pipeline::{Core, Fatal, Reloader};
use crate::shell::placement::{CpuNotAllowed, Plan};
use crate::shell::resolve::HostPort;
use crate::shell::snapshot_trigger::PurgeSettings;
use crate::wire::jute::Limits;

/// What the shell itself has to know. The core's settings travel with its loader.
#[derive(Clone, Debug)]
pub struct Settings {
    pub plan: Plan,
    pub listener: ListenerSettings,
    /// Where clients connect. None: nowhere, unless a reconfiguration says where.
    pub clients_at: Option<HostPort>,
    pub store: StoreConfig,
    pub disk_driver: DriverKind,
    pub limits: Limits,
    pub tick_ms: u32,
    pub sessionless_timeout_ms: u64,
    pub snap_count: u64,
    pub snap_size_limit_bytes: Option<u64>,
    /// `ringkeeper.snapshotMaxMBps`.
    pub snapshot_bytes_per_second: Option<u64>,
    pub purge: Option<PurgeSettings>,
    pub slow_flush_ms: u64,
    /// None: a standalone server.
    pub ensemble: Option<EnsembleSettings>,
}

/// Reads what the disk has. Runs on the pipeline's own thread.
pub type CoreLoader = Box<dyn FnOnce(&mut Opened) -> Result<CoreBegin, ServeError> + Send>;

/// How a core comes out of what is stored: at the start, and when a leader has replaced that (None: nobody leads a standalone
/// server).
pub struct CoreLoaders {
    pub first: CoreLoader,
    pub again: Option<Reloader>,
}

/// Makes the core of it, and what it wants done first. The time of sessions begins here: what was spent on reading is not
/// taken from their timeouts.
pub type CoreBegin = Box<dyn FnOnce(Now, &mut Vec<Output>) -> Box<dyn Core>>;

/// Why the server did not start, or stopped serving by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    PeerListen(#[from] PeerListenError),
    #[error("the ports for other servers: {0}")]
    PeerPorts(std::io::Error),
    #[error("clientPortAddress: {address}: {why}; write an address of this machine, or a name that has one")]
    UnknownAddress { address: String, why: String },
    #[error("{path}: the directory is missing and datadir.autocreate is off; create it, or take the switch away")]
    DirectoryMissing { path: PathBuf },
    #[error("{path}: {source}; it vouches for one start with an empty disk: remove it")]
    Initialize {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("Unable to load database on disk: {0}")]
    Store(#[from] StoreError),
    #[error(
        "{data}: this is the directory of a Java server, and importing it failed: {source}. Java's files are as they were. To \
         take what can be read: `rk import --force`. To start without its data: point dataDir and dataLogDir elsewhere"
    )]
    Import {
        data: PathBuf,
        #[source]
        source: Box<ImportError>,
    },
    #[error(transparent)]
    JavaData(#[from] SeenError),
    #[error(transparent)]
    Ring(#[from] RingUnavailable),
    #[error(transparent)]
    Driver(#[from] DriverUnavailable),
    #[error(transparent)]
    Cpu(#[from] CpuNotAllowed),
    #[error(
        "memory that may be locked (memlock) is limited to {limit_bytes} bytes and io_uring needs {needed_bytes}; raise it: \
         `ulimit -l`, `LimitMEMLOCK=` of the systemd unit, or `--ulimit memlock=` of the container"
    )]
    Memlock { limit_bytes: u64, needed_bytes: u64 },
    #[error("executor {executor} did not start: {why}")]
    Executor { executor: usize, why: String },
    #[error("executor {0} ended although nobody told it to")]
    ExecutorLost(usize),
    /// Begins as Java's line does, for those who have an alert on it.
    #[error(
        "Severe unrecoverable error, from thread : rk-pipeline: the transaction log failed, nothing more was acknowledged: {0}"
    )]
    LogFailed(String),
    #[error(
        "asked to stop: a disk of dataDir or dataLogDir has not answered for {patience:?}, and is not waited for any longer. Nothing \
         that was acknowledged is lost; look at the disk before the next start"
    )]
    DiskHangs { patience: std::time::Duration },
    #[error("signals cannot be handled: {0}")]
    Signals(std::io::Error),
    #[error("snapshot or log content: {0}")]
    Content(String),
}

impl ServeError {
    /// Operations 1.11.
    pub fn exit_code(&self) -> u8 {
        match self {
            ServeError::DirectoryMissing { .. } => 3,
            ServeError::Cpu(_) | ServeError::UnknownAddress { .. } => 2,
            ServeError::PeerListen(_) => 14,
            _ => 1,
        }
    }
}

impl From<Fatal> for ServeError {
    fn from(fatal: Fatal) -> ServeError {
        match fatal {
            Fatal::LogFailed(why) => ServeError::LogFailed(why),
            Fatal::ExecutorLost(executor) => ServeError::ExecutorLost(executor),
            Fatal::Reload(error) => *error,
        }
    }
}

impl From<OursError> for ServeError {
    fn from(error: OursError) -> ServeError {
        match error {
            OursError::Store(error) => ServeError::Store(error),
            // A record's checksum was right, so nobody damaged it: it was written like this.
            other => ServeError::Content(other.to_string()),
        }
    }
}

impl From<LogError> for ServeError {
    fn from(error: LogError) -> ServeError {
        ServeError::Store(error.into())
    }
}

impl Settings {
    pub fn from_config(config: &Config) -> Result<Settings, ServeError> {
        check_directories(&config.directories)?;
        let spin = config.runtime.spin_us.map(|us| Duration::from_micros(us.into()));
        let plan = Plan::new(config.runtime.cpus.as_deref(), config.runtime.pin, spin)?;
        let disk_driver = plan.disk_driver(config.log.backend, config.log.thread);
        let mut store = StoreConfig::new(&config.directories.data, &config.directories.log);
        store.strategy = config.log.strategy;
        store.segment_bytes = config.log.segment_bytes;
        store.batches_in_flight = config.log.batches_in_flight as usize;
        store.snapshots_kept = config.snapshots.retain_count as usize;
        store.has_peers = config.ensemble.is_some();
        let purge_interval = config.snapshots.purge_interval_ms.map(Duration::from_millis);
        Ok(Settings {
            plan,
            listener: ListenerSettings {
                backlog: config.client.backlog,
                keep_alive: config.client.tcp_keep_alive,
                connections_per_address: config.client.per_address_max.unwrap_or(0),
                connections_total: config.client.total_max.unwrap_or(0),
            },
            clients_at: clients_at(&config.client),
            store: store.clamped(), // the banner shows what is in effect
            disk_driver,
            limits: limits(config),
            tick_ms: config.sessions.tick_time_ms,
            sessionless_timeout_ms: config.client.sessionless_timeout_ms.into(),
            snap_count: config.snapshots.transactions_max.into(),
            snap_size_limit_bytes: config.snapshots.log_bytes_max,
            snapshot_bytes_per_second: config.snapshots.bytes_per_second,
            purge: purge_interval.map(|every| PurgeSettings { retain: config.snapshots.retain_count as usize, every }),
            slow_flush_ms: config.log.flush_warning_ms,
            ensemble: config.ensemble.as_ref().map(|ensemble| ensemble_settings(config, ensemble)),
        })
    }
}

/// The same for clients and peers.
fn limits(config: &Config) -> Limits {
    Limits::new(config.limits.frame_bytes_max, Some(config.limits.record_extra_bytes))
}

fn ensemble_settings(config: &Config, ensemble: &EnsembleConfig) -> EnsembleSettings {
    let ms = |ms: u32| Duration::from_millis(ms.into());
    let ticks = |ticks: u32| Duration::from_millis(u64::from(ticks) * u64::from(config.sessions.tick_time_ms));
    EnsembleSettings {
        configs: ensemble.configs.clone(),
        dynamic_files: ensemble.dynamic_files.clone(),
        election: ElectionSettings {
            server: ensemble.server,
            connect_limit: ms(ensemble.connect_timeout_ms),
            introduction_limit: ms(ensemble.introduction_timeout_ms),
            keep_alive: ensemble.tcp_keep_alive,
            multi_address: ensemble.multi_address,
            stall_limit: ticks(ensemble.sync_limit),
        },
        links: LinkSettings {
            limits: limits(config),
            keep_alive: ensemble.tcp_keep_alive,
            init_stall: ticks(ensemble.init_limit.max(ensemble.sync_limit)),
            sync_stall: ticks(ensemble.sync_limit),
        },
        connect_retry: ms(ensemble.connect_retry_ms),
        observer_master_port: ensemble.observer_master_port,
        listen_everywhere: ensemble.listen_everywhere,
        bind_retries: ensemble.bind_retries,
    }
}

fn check_directories(directories: &Directories) -> Result<(), ServeError> {
    let missing = |path: &&PathBuf| !directories.autocreate && !path.is_dir();
    match [&directories.data, &directories.log].into_iter().find(missing) {
        Some(path) => Err(ServeError::DirectoryMissing { path: path.clone() }),
        None => Ok(()),
    }
}

/// As a line of the membership says it, so that one that says the same moves nothing.
fn clients_at(client: &ClientConfig) -> Option<HostPort> {
    let every_address = || "0.0.0.0".to_owned();
    Some((client.address.clone().unwrap_or_else(every_address), client.port?))
}

/// What an operator wants to see first in a log.
pub fn banner(settings: &Settings, facts: &StorageFacts) {
    info!("ringkeeper {}, {}", env!("CARGO_PKG_VERSION"), settings.plan.describe());
    let (log, store) = (&facts.log, &settings.store);
    info!(
        "transaction log: {} on {}; log strategy {}: {} by {}, {} batch(es) in flight, segments of {} MiB",
        log.directory.display(),
        log.describe(),
        store.strategy.name(),
        store.strategy.describe(log.direct_io),
        settings.disk_driver.describe(),
        store.batches_in_flight,
        store.segment_bytes >> 20,
    );
    info!("snapshots: {} on {}", facts.snapshots.directory.display(), facts.snapshots.describe());
    for doubt in doubts(log, store.strategy) {
        warn!("{doubt}");
    }
}

/// What makes an acknowledged write rest on less than it seems, or slow.
fn doubts(log: &DiskFacts, strategy: LogStrategy) -> Vec<String> {
    let (directory, file_system) = (log.directory.display(), &log.file_system);
    let mut doubts = Vec::new();
    if log.volatile {
        doubts.push(format!(
            "UNSAFE: the transaction log lies in memory ({file_system}): acknowledged writes are lost with the machine; set \
             dataLogDir to a directory on a disk"
        ));
        return doubts;
    }
    if log.network {
        doubts.push(format!(
            "the transaction log lies on a network file system ({file_system}): how durable a write is, is up to another \
             machine; set dataLogDir to a directory on a disk of this one"
        ));
    }
    if log.flushes_ignored {
        doubts.push(format!(
            "UNSAFE: {} is mounted without barriers, so flushes never reach the device: a power cut loses acknowledged writes \
             unless its cache is backed by a battery; mount it without nobarrier",
            log.mount_point.display()
        ));
    }
    if let (Some(why), true) = (&log.direct_io_refusal, strategy.wants_direct_io()) {
        doubts.push(format!(
            "{directory}: no direct IO ({why}): the log goes through the page cache, where an error may go unnoticed; a file \
             system like ext4 or xfs on a disk has it"
        ));
    }
    if strategy == LogStrategy::Buffered {
        doubts.push(format!(
            "{directory}: log strategy buffered is for comparison: after an error the page cache shows bytes that the disk does not have"
        ));
    }
    if log.copy_on_write || log.journal == Journal::Everything {
        doubts.push(format!(
            "{directory}: this {file_system} writes no block in place, so every commit also waits for the file system's own \
             records; ext4 or xfs is faster here"
        ));
    }
    doubts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;
    use crate::shell::node_host::core_settings;

    #[test]
    fn nobody_knows_where_names_fall() {
        let directory = tempfile::tempdir().unwrap();
        let source = Source::ShortForm(vec!["2181".into(), directory.path().display().to_string()]);
        let (config, _) = Config::load(&source, &|_| None, &[]).unwrap();
        let seeds: std::collections::BTreeSet<u64> = (0..4).map(|_| core_settings(&config).hash_seed).collect();
        assert_eq!(seeds.len(), 4);
    }

    #[test]
    fn the_length_of_a_segment_is_what_it_comes_to() {
        let directory = tempfile::tempdir().unwrap();
        let source = Source::ShortForm(vec!["2181".into(), directory.path().display().to_string()]);
        let segment_bytes = |definition: &str| {
            let (config, _) = Config::load(&source, &|_| None, &[definition.to_owned()]).unwrap();
            Settings::from_config(&config).unwrap().store.segment_bytes
        };
        assert_eq!(segment_bytes("zookeeper.preAllocSize=64"), 4 << 20); // four of the largest batches
        assert_eq!(segment_bytes("zookeeper.txnLogSizeLimitInKb=1"), 4 << 20);
        assert_eq!(segment_bytes("zookeeper.preAllocSize=8192"), 8 << 20);
        assert_eq!(segment_bytes("zookeeper.preAllocSize=9223372036854775807"), 1 << 40);
    }

    #[test]
    fn what_a_disk_does_not_promise_is_said() {
        let good = DiskFacts { file_system: "ext4".into(), direct_io: true, ..DiskFacts::default() };
        let said = |facts: &DiskFacts, strategy| doubts(facts, strategy).join("\n");
        assert_eq!(said(&good, LogStrategy::Dsync), "");
        assert!(said(&good, LogStrategy::Buffered).contains("for comparison"));
        for (facts, word) in [
            (DiskFacts { volatile: true, ..good.clone() }, "UNSAFE: the transaction log lies in memory (ext4)"),
            (DiskFacts { network: true, ..good.clone() }, "network file system"),
            (DiskFacts { flushes_ignored: true, ..good.clone() }, "UNSAFE: "),
            (DiskFacts { direct_io_refusal: Some("because".into()), ..good.clone() }, "no direct IO (because)"),
            (DiskFacts { copy_on_write: true, ..good.clone() }, "no block in place"),
            (DiskFacts { journal: Journal::Everything, ..good.clone() }, "no block in place"),
        ] {
            let text = said(&facts, LogStrategy::Dsync);
            assert!(text.contains(word) && !text.contains('\n'), "{text}");
        }
    }
}
