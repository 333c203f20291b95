//! Configuration: zoo.cfg and the other places where a setting can live, read once at start into plain values.
//!
//! ```text
//! bytes --properties--> entries --sources--> one setting per name --keys: judge--> notices, refusals --build--> Config
//! ```
//!
//! * [`properties`]: the grammar of Java's files. * [`keys`]: every name, its kind, default and what this server does about it.
//! * [`sources`]: which place wins. * [`values`]: one value by its kind. * [`members`]: server lines and the mode.
//! * [`check`]: what `--check` prints. * [`dynamic_files`]: where a membership that changes is kept.
//!
//! [`Config`] has no behaviour and does no IO; only [`Config::load`] reads files (the configuration, the dynamic files beside
//! it, `myid`). Logging is not here either: what an operator must hear comes back as [`Notice`]s.
//! Java: `QuorumPeerConfig`, `ServerConfig`, and some sixty classes that read a property each.

pub mod check;
pub mod dynamic_files;
pub mod keys;
pub mod members;
pub mod sources;
pub mod values;

mod build;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

pub use ringkeeper_storage::LogStrategy;

pub use self::dynamic_files::DynamicFiles;
pub use self::members::{Member, Mode};
pub use self::sources::{Origin, Settings};
use crate::core::ServerId;
use crate::core::settings::{ConnectThrottle, RequestThrottle};
use crate::core::tree::acl::PasswordHash;
use crate::core::zab::membership::Configurations;
use crate::wire::java_properties as properties;

/// What a server runs on when it is given no configuration at all.
pub const STANDALONE_CFG: &str = include_str!("../../conf/standalone.cfg");
const STANDALONE_CFG_NAME: &str = "built-in standalone.cfg";

/// Exit status for a bad invocation or configuration (operations 1.11).
pub const EXIT_BAD_CONFIG: i32 = 2;

/// Everything the operator decided, effective.
#[derive(Clone, Debug)]
pub struct Config {
    /// What was read: a path, or the name of a built-in source.
    pub source: String,
    pub mode: Mode,
    /// The number in `myid`, if there is such a file. A standalone server shows 0 whatever it says.
    pub my_id: Option<i64>,
    pub members: Vec<Member>,
    /// None: a standalone server.
    pub ensemble: Option<EnsembleConfig>,
    pub directories: Directories,
    pub client: ClientListener,
    pub sessions: SessionTimeouts,
    /// `localSessionsEnabled`.
    pub local_sessions: Option<LocalSessions>,
    pub log: LogSettings,
    pub snapshots: SnapshotSettings,
    pub limits: RequestLimits,
    pub auth: AuthSettings,
    pub tree: TreeSettings,
    pub runtime: RuntimeSettings,
    /// `4lw.commands.whitelist` as written: names and `*`, trimmed, without empty ones.
    pub whitelisted_words: Vec<String>,
    /// `readonlymode.enabled`: also allows the word `isro`.
    pub read_only_mode: bool,
    /// `ringkeeper.reportedVersion`: replaces the version that `srvr` and others report.
    pub reported_version: Option<String>,
    /// Every setting that somebody wrote, effective, by name. Defaults are in [`keys::KEYS`].
    pub settings: Settings,
}

/// What a member of an ensemble needs beside what every server does.
#[derive(Clone, Debug, PartialEq)]
pub struct EnsembleConfig {
    /// `myid`: one of the members.
    pub server: ServerId,
    /// `server.N`, `group.N` and `weight.N`; and with `reconfigEnabled` what was proposed last.
    pub configs: Configurations,
    /// `reconfigEnabled`: where the membership is kept when it changes.
    pub dynamic_files: Option<DynamicFiles>,
    /// `db.autocreate`: an empty disk may be a new one. False: only with the file `initialize`.
    pub empty_disk_is_new: bool,
    /// `standaloneEnabled`: the membership never shrinks to a single voter.
    pub standalone_enabled: bool,
    /// `initLimit`, `syncLimit`, `connectToLearnerMasterLimit` (0: initLimit), ticks.
    pub init_limit: u32,
    pub sync_limit: u32,
    pub connect_limit: u32,
    /// `leader.maxTimeToWaitForEpoch`, milliseconds. None: negative, off.
    pub epoch_wait_ms: Option<u32>,
    /// `fastleader.minNotificationInterval`, `fastleader.maxNotificationInterval`.
    pub notification_min_ms: u32,
    pub notification_max_ms: u32,
    /// `observer.election.DelayMs`: at most; each observer draws its own.
    pub observer_delay_ms: u32,
    /// `observerMasterPort`: followers serve observers there.
    pub observer_master_port: Option<u16>,
    /// `observer.reconnectDelayMs`: at most, when all observer masters were tried.
    pub observer_reconnect_ms: u32,
    /// `observerMaster.sizeLimit`: what a follower keeps for an observer.
    pub observer_queue_max_bytes: u32,
    /// `leader.maxConcurrentSnapSyncs`, `leader.maxConcurrentDiffSyncs`: beyond these an observer has to wait.
    pub snap_syncs_max: u32,
    pub diff_syncs_max: u32,
    /// `commitLogCount`: transactions kept in memory for learners that miss some.
    pub commit_log_count: u32,
    /// `snapshotSizeFactor`: a DIFF from the log is at most that part of a snapshot; 0: of any size. `None`: none is sent.
    pub snapshot_size_factor: Option<f64>,
    /// `cnxTimeout`: for a connection to an election port.
    pub connect_timeout_ms: u32,
    /// `quorumCnxnTimeoutMs`, or syncLimit ticks: for a caller to say who it is.
    pub introduction_timeout_ms: u32,
    /// `leaderConnectDelayDuringRetryMs`: between two attempts to reach the leader.
    pub connect_retry_ms: u32,
    /// `leaderServes`.
    pub leader_serves: bool,
    /// `electionPortBindRetry`; 0 is without end.
    pub bind_retries: u32,
    /// `quorumListenOnAllIPs`.
    pub listen_everywhere: bool,
    /// `multiAddress.enabled`.
    pub multi_address: bool,
    /// `tcpKeepAlive`.
    pub tcp_keep_alive: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directories {
    /// `dataDir` and `dataLogDir`, as written. Java puts `version-2` below them.
    pub data: PathBuf,
    pub log: PathBuf,
    /// `datadir.autocreate`: false means a missing directory ends the start with status 3.
    pub autocreate: bool,
}

/// The plain client port.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientListener {
    /// `None`: no listener.
    pub port: Option<u16>,
    /// A name or an address, not resolved. `None`: every address.
    pub address: Option<String>,
    /// `clientPortListenBacklog` as written; -1 leaves the choice to us.
    pub backlog: i32,
    /// `maxClientCnxns`: connections from one address. `None`: any number.
    pub per_address_max: Option<u32>,
    /// `maxCnxns`: connections altogether. `None`: any number.
    pub total_max: Option<u32>,
    /// `clientTcpKeepAlive`.
    pub tcp_keep_alive: bool,
    /// `nio.sessionlessCnxnTimeout`: a connection that has not asked for a session by then is closed.
    pub sessionless_timeout_ms: u32,
    /// `connection_throttle_*`.
    pub throttle: ConnectThrottle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTimeouts {
    pub tick_time_ms: u32,
    /// What a client may ask for is clamped to `min_ms..=max_ms`.
    pub min_ms: u32,
    pub max_ms: u32,
}

/// Sessions begin as those of one server alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalSessions {
    /// `localSessionsUpgradingEnabled`: their first ephemeral makes them everybody's.
    pub upgrading: bool,
}

/// `ringkeeper.logThread`: where the log ring is driven from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogThread {
    /// Inline with one or two executors, of its own from three up.
    Auto,
    Inline,
    Dedicated,
}

/// `ringkeeper.log.backend`: how the log's operations are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogBackend {
    Uring,
    /// One system call after the other, on a thread of its own.
    Syscalls,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// `preAllocSize`, or `txnLogSizeLimitInKb` if that is less: the size of a segment.
    pub segment_bytes: u64,
    /// `ringkeeper.log.strategy`, or `forceSync=no`: how a batch becomes durable.
    pub strategy: LogStrategy,
    pub thread: LogThread,
    pub backend: LogBackend,
    /// `ringkeeper.log.batchesInFlight`.
    pub batches_in_flight: u32,
    /// `fsync.warningthresholdms`: a flush that takes longer is warned about.
    pub flush_warning_ms: u64,
    /// `ringkeeper.minFreeMB`: writes are refused before the file system has less than this. 0: when it is full.
    pub free_min_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotSettings {
    /// `snapCount`: at most this many transactions between two snapshots. At least 2.
    pub transactions_max: u32,
    /// `snapSizeLimitInKb`: at most this much log between two snapshots. `None`: any amount.
    pub log_bytes_max: Option<u64>,
    /// `autopurge.snapRetainCount`: snapshots kept. At least 3.
    pub retain_count: u32,
    /// `autopurge.purgeInterval`. `None`: nothing is removed.
    pub purge_interval_ms: Option<u64>,
    /// `ringkeeper.snapshotMaxMBps`: a snapshot is written no faster than this. `None`: as fast as the traffic lets it.
    pub bytes_per_second: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// `jute.maxbuffer`: the longest request frame.
    pub frame_bytes_max: usize,
    /// `jute.maxbuffer.extrasize`: what a record made by the server may have beyond that.
    pub record_extra_bytes: usize,
    /// `globalOutstandingLimit`: requests in flight before busy connections are no longer read.
    pub outstanding_max: u32,
    /// `request_throttle_*`, `request_stale_latency_check`, `throttled_op_wait_time`.
    pub request_throttle: RequestThrottle,
    /// `largeRequestThreshold`: a request above this counts as large. `None`: none does.
    pub large_request_bytes: Option<u32>,
    /// `largeRequestMaxBytes`: large requests in flight together; the connection that exceeds it is closed.
    pub large_requests_bytes_max: u32,
}

#[derive(Clone, PartialEq, Eq)]
pub struct AuthSettings {
    /// `skipACL=yes`: nobody is ever denied anything.
    pub skip_acl: bool,
    /// `enableEagerACLCheck`.
    pub eager_acl_check: bool,
    /// `ensembleAuthName`, if `authProvider.N` loads the scheme `ensemble`; without names every one is right.
    pub ensemble_names: Option<Vec<String>>,
    /// `DigestAuthenticationProvider.enabled`.
    pub digest_enabled: bool,
    /// `DigestAuthenticationProvider.digestAlg`.
    pub password_hash: PasswordHash,
    /// `DigestAuthenticationProvider.superDigest`: `super:BASE64`.
    pub super_digest: Option<String>,
    /// `enforce.auth.*`: with a list, every request needs one of these schemes. Only `digest` and `ip` occur.
    pub enforced_schemes: Option<Vec<String>>,
}

impl fmt::Debug for AuthSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthSettings")
            .field("skip_acl", &self.skip_acl)
            .field("eager_acl_check", &self.eager_acl_check)
            .field("ensemble_names", &self.ensemble_names)
            .field("digest_enabled", &self.digest_enabled)
            .field("password_hash", &self.password_hash)
            .field("super_digest", &self.super_digest.as_ref().map(|_| "***"))
            .field("enforced_schemes", &self.enforced_schemes)
            .finish()
    }
}

/// What the data tree and the preparation of transactions need to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeSettings {
    /// `digest.enabled`: a digest of the tree with every transaction.
    pub digest_enabled: bool,
    /// `closeSessionTxn.enabled`: a close-session transaction lists the ephemerals.
    pub close_session_txn_enabled: bool,
    /// `extendedTypesEnabled`: TTL nodes.
    pub extended_types_enabled: bool,
    /// `emulate353TTLNodes`, with `extendedTypesEnabled`.
    pub emulate_353_ttl: bool,
    /// `enforceQuota`: hard quotas refuse writes, soft ones are warned about.
    pub enforce_quota: bool,
    /// `znode.container.checkIntervalMs`, `.maxPerMinute`; the sweep of container and TTL nodes.
    pub container_check_interval_ms: u32,
    pub container_deletions_per_minute: u32,
    /// `znode.container.maxNeverUsedIntervalMs`. `None`: a container that never had a child stays.
    pub container_never_used_max_ms: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// When the process has its CPUs to itself.
    Auto,
    On,
    Off,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeSettings {
    /// `ringkeeper.cores`: CPUs to use. `None`: the affinity mask.
    pub cpus: Option<Vec<usize>>,
    pub pin: Pin,
    /// `ringkeeper.spinMicros`. `None`: decided by the shell.
    pub spin_us: Option<u32>,
    /// The level of `console.threshold` or `root.logger`, if one was set.
    pub log_level: Option<LogLevel>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Info,
    Warn,
    Error,
}

/// What a notice is about; `--check` sorts by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concern {
    Duplicate,
    Unknown,
    /// Written where it does nothing, or asking for something that does nothing here.
    Ineffective,
    /// Honoured, though Java would not where or how it is written.
    Misplaced,
    NotYet,
    /// Works as asked, and whoever runs this server should know.
    Other,
}

/// Something the operator must hear at start although it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub level: Level,
    pub concern: Concern,
    /// One line, with the place it speaks of in front.
    pub text: String,
}

impl Notice {
    fn new(level: Level, concern: Concern, text: String) -> Notice {
        Notice { level, concern, text }
    }

    fn warn(concern: Concern, text: String) -> Notice {
        Notice::new(Level::Warn, concern, text)
    }
}

/// Why there is no configuration to start with: every reason found, one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// `PLACE: KEY: what is wrong; what to write instead`. Never empty.
    pub problems: Vec<String>,
    pub exit_code: i32,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}ringkeeper: {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    fn one(problem: String) -> ConfigError {
        ConfigError { problems: vec![problem], exit_code: EXIT_BAD_CONFIG }
    }
}

/// What the command line names as the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nothing: [`STANDALONE_CFG`].
    BuiltIn,
    File(PathBuf),
    /// `port datadir [ticktime] [maxcnxns]`.
    ShortForm(Vec<String>),
}

pub const USAGE: &str = "usage: ringkeeper [-Dname=value ...] [--check] [CONFIG | port datadir [ticktime] [maxcnxns]]";

impl Source {
    /// The positional arguments of the server. Java: `QuorumPeerMain`, `ServerConfig.parse(String[])`.
    pub fn from_arguments(arguments: &[String]) -> Result<Source, ConfigError> {
        match arguments {
            [] => Ok(Source::BuiltIn),
            [file] => Ok(Source::File(PathBuf::from(file))),
            [_, _] | [_, _, _] | [_, _, _, _] => Ok(Source::ShortForm(arguments.to_vec())),
            _ => Err(ConfigError::one(format!("too many arguments; {USAGE}"))),
        }
    }
}

impl Config {
    /// Reads the configuration from all its places. `environment` looks up a variable; `command_line` holds the
    /// arguments of `-D`, with or without the `-D`.
    pub fn load(
        source: &Source,
        environment: &dyn Fn(&str) -> Option<String>,
        command_line: &[String],
    ) -> Result<(Config, Vec<Notice>), ConfigError> {
        let mut notices = Vec::new();
        let mut settings = Settings::new();
        let definitions = sources::definitions(environment, command_line, &mut notices);
        sources::apply_definitions(definitions, &mut settings, &mut notices);
        let name = match source {
            Source::BuiltIn => {
                let bytes = STANDALONE_CFG.as_bytes();
                apply_file_bytes(STANDALONE_CFG_NAME, bytes, &mut settings, &mut notices)?;
                STANDALONE_CFG_NAME.to_owned()
            }
            Source::File(path) => {
                if let Some(why) = build::relative_path_warning(path) {
                    notices.push(Notice::warn(Concern::Other, why));
                }
                let name = path.display().to_string();
                apply_file_bytes(&name, &read(path, "the configuration file")?, &mut settings, &mut notices)?;
                name
            }
            Source::ShortForm(arguments) => {
                for (key, value) in ["clientPort", "dataDir", "tickTime", "maxClientCnxns"].iter().zip(arguments) {
                    let Some(found) = keys::find(key) else {
                        continue;
                    };
                    let name = (*key).to_owned();
                    let setting = sources::Setting {
                        key: found.key,
                        name: name.clone(),
                        value: value.clone(),
                        origin: Origin::Arguments,
                    };
                    settings.insert(name, setting);
                }
                "arguments".to_owned()
            }
        };
        let my_id = match build::my_id_path(&settings) {
            Some(path) => std::fs::read(path),
            None => Err(std::io::ErrorKind::NotFound.into()),
        };
        let is_superseded = supersede_members(&name, &mut settings, &mut notices)?;
        apply_dynamic_file(&name, &mut settings, &mut notices)?;
        if is_superseded {
            forget_client_address(my_id.as_deref().ok(), &mut settings);
        }
        let next_members = std::fs::read(DynamicFiles::new(Path::new(&name), &settings).next());
        build::build(name, settings, build::Texts { my_id, next_members }, notices)
    }
}

fn read(path: &Path, what: &str) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|source| {
        ConfigError::one(format!(
            "{}: cannot read {what}: {source}; name a file that exists and can be read",
            path.display()
        ))
    })
}

fn apply_file_bytes(
    name: &str,
    bytes: &[u8],
    settings: &mut Settings,
    notices: &mut Vec<Notice>,
) -> Result<(), ConfigError> {
    let properties = parse_named(name, bytes)?;
    sources::apply_file(name, &properties, settings, notices);
    Ok(())
}

fn parse_named(name: &str, bytes: &[u8]) -> Result<properties::Properties, ConfigError> {
    properties::parse(bytes).map_err(|properties::MalformedEscape { line }| {
        ConfigError::one(format!(
            "{name}:{line}: malformed \\uXXXX; write four hexadecimal digits, or \\\\ for a backslash"
        ))
    })
}

/// A zoo.cfg that servers cannot write says how it all began; the newest file in `ringkeeper.dynamicConfigDir` says what became
/// of it. Whether there is one.
fn supersede_members(name: &str, settings: &mut Settings, notices: &mut Vec<Notice>) -> Result<bool, ConfigError> {
    let files = DynamicFiles::new(Path::new(name), settings);
    let Some(directory) = settings.get("ringkeeper.dynamicConfigDir").cloned() else {
        return Ok(false);
    };
    let place = format!("{}: {}", directory.origin, directory.name);
    let newest = files.newest().map_err(|error| {
        ConfigError::one(format!("{place}: cannot read {}: {error}; make it a readable directory", directory.value))
    })?;
    let Some(newest) = newest.map(|path| path.display().to_string()) else {
        return Ok(false);
    };
    let version = |path: &str| dynamic_files::version_in_name(path);
    if settings.get("dynamicConfigFile").is_some_and(|pointer| version(&pointer.value) >= version(&newest)) {
        return Ok(false);
    }
    let is_earlier =
        |setting: &sources::Setting| setting.key.place == keys::Place::Dynamic || setting.name == "dynamicConfigFile";
    if let Some(earlier) = settings.values().find(|setting| is_earlier(setting)) {
        let place = format!("{}: {}", earlier.origin, earlier.name);
        let why = format!("superseded: the members changed since, and {newest} says who they are now");
        notices.push(Notice::warn(Concern::Ineffective, format!("{place}: {why}")));
    }
    settings.retain(|_, setting| !is_earlier(setting));
    if let Some(found) = keys::find("dynamicConfigFile") {
        let name = found.key.name.to_owned();
        let pointer = sources::Setting { key: found.key, name: name.clone(), value: newest, origin: directory.origin };
        settings.insert(name, pointer);
    }
    Ok(true)
}

/// Where clients connect is then said by this server's own line, if it says so: it may have moved.
fn forget_client_address(my_id: Option<&[u8]>, settings: &mut Settings) {
    let Some(my_id) = my_id.and_then(|text| std::str::from_utf8(text).ok()) else {
        return;
    };
    if settings.get(&format!("server.{}", my_id.trim())).is_some_and(|own| own.value.contains(';')) {
        settings.retain(|name, _| !["clientPort", "clientPortAddress"].contains(&&**name));
    }
}

/// Reads the members from `dynamicConfigFile`, if one is named (operations 1.6).
fn apply_dynamic_file(name: &str, settings: &mut Settings, notices: &mut Vec<Notice>) -> Result<(), ConfigError> {
    let Some(dynamic) = settings.get("dynamicConfigFile") else {
        return Ok(());
    };
    let path = PathBuf::from(&dynamic.value);
    if let Some(inline) = settings.values().find(|setting| setting.key.place == keys::Place::Dynamic) {
        let place = &inline.origin;
        return Err(ConfigError::one(format!(
            "{place}: {}: stands in {name} although dynamicConfigFile is set; write it in {} only",
            inline.name,
            path.display()
        )));
    }
    let bytes = read(&path, "the dynamic configuration file (dynamicConfigFile)")?;
    let dynamic_name = path.display().to_string();
    let properties = parse_named(&dynamic_name, &bytes)?;
    let allowed = |key: &str| keys::find(key).is_some_and(|found| found.key.place == keys::Place::Dynamic);
    if let Some(other) = properties.entries.iter().find(|entry| !allowed(&entry.key)) {
        return Err(ConfigError::one(format!(
            "{dynamic_name}:{}: {}: does not belong into a dynamic file; write only server.N, group.N and weight.N lines there",
            other.line, other.key
        )));
    }
    sources::apply_file(&dynamic_name, &properties, settings, notices);
    Ok(())
}
