//! What the shell knows of its process, for the texts operators read: version, configuration, directories, machine.
//!
//! What never changes is found out at start; what costs a look at `/proc` only when a word wants it.

use std::path::Path;

use ringkeeper_storage::{DIRECTORY, StoreStats};
use rustix::process::{Resource, getrlimit};

use crate::config::{Config, EnsembleConfig, Mode};
use crate::core::Now;
use crate::core::view::{
    ConfigurationView, DirectorySizes, EnvironmentView, HostView, LogSegments, MemberConfigurationView,
};
use crate::shell::four_letter::Needs;
use crate::shell::pipeline::Surroundings;

/// The level whose behaviour we show: clients and dashboards read it off the version.
const COMPATIBLE_WITH: &str = "3.9.5";

/// `gtmk` before any `stmk`. Java: `ZooTrace.DEFAULT_TRACE_MASK`.
const TRACE_MASK_DEFAULT: i64 = 306;

#[derive(Debug)]
pub struct Host {
    version: String,
    ringkeeper_version: String,
    log_strategy: &'static str,
    pub trace_mask: i64,
    data_dir: String,
    log_dir: String,
    tick_time_ms: u32,
    max_client_cnxns: u32,
    min_session_timeout_ms: u32,
    max_session_timeout_ms: u32,
    listen_backlog: i32,
    server_id: i64,
    ensemble: Option<MemberConfigurationView>,
    host_name: String,
    os_version: String,
    user_name: String,
    user_home: String,
    user_dir: String,
}

impl Host {
    pub fn new(config: &Config) -> Host {
        let commit = option_env!("RINGKEEPER_COMMIT").unwrap_or(concat!("ringkeeper-", env!("CARGO_PKG_VERSION")));
        let built = option_env!("RINGKEEPER_BUILT").unwrap_or("1970-01-01 00:00");
        let ours = || format!("{COMPATIBLE_WITH}-{commit}, built on {built} UTC");
        let environment = |name| std::env::var(name).unwrap_or_default();
        Host {
            version: config.reported_version.clone().unwrap_or_else(ours),
            ringkeeper_version: format!("{} {commit}", env!("CARGO_PKG_VERSION")),
            log_strategy: config.log.strategy.name(),
            trace_mask: TRACE_MASK_DEFAULT,
            data_dir: shown(&config.directories.data),
            log_dir: shown(&config.directories.log),
            tick_time_ms: config.sessions.tick_time_ms,
            max_client_cnxns: config.client.per_address_max.unwrap_or(0),
            min_session_timeout_ms: config.sessions.min_ms,
            max_session_timeout_ms: config.sessions.max_ms,
            listen_backlog: config.client.backlog,
            server_id: match config.mode {
                Mode::Standalone { .. } => 0,
                Mode::Ensemble { .. } => config.my_id.unwrap_or(0),
            },
            ensemble: config.ensemble.as_ref().map(member_configuration),
            host_name: first_line("/proc/sys/kernel/hostname"),
            os_version: first_line("/proc/sys/kernel/osrelease"),
            user_name: environment("USER"),
            user_home: environment("HOME"),
            user_dir: std::env::current_dir().map(|path| path.display().to_string()).unwrap_or_default(),
        }
    }

    pub fn view(&self, now: Now, needs: &Needs, surroundings: &Surroundings<'_>) -> HostView<'_> {
        let Surroundings { disk, client_port, .. } = surroundings;
        let memory = if needs.environment { Memory::now() } else { Memory::default() };
        let directory_sizes = if needs.directory_sizes {
            let stats = disk.stats();
            DirectorySizes { data_bytes: stats.snapshot_bytes, log_bytes: stats.log_bytes }
        } else {
            DirectorySizes::default()
        };
        HostView {
            version: &self.version,
            uptime_ms: now.mono_us / 1000,
            open_file_descriptors: if needs.file_descriptors { open_file_descriptors() } else { 0 },
            max_file_descriptors: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            trace_mask: self.trace_mask,
            configuration: ConfigurationView {
                client_port: client_port.map_or(-1, i32::from),
                secure_client_port: -1,
                data_dir: &self.data_dir,
                log_dir: &self.log_dir,
                tick_time_ms: self.tick_time_ms,
                max_client_cnxns: self.max_client_cnxns,
                min_session_timeout_ms: self.min_session_timeout_ms,
                max_session_timeout_ms: self.max_session_timeout_ms,
                listen_backlog: self.listen_backlog,
                server_id: self.server_id,
                ensemble: self.ensemble,
            },
            directory_sizes,
            log_segments: log_segments(&disk.stats()),
            not_serving: None,
            environment: EnvironmentView {
                host_name: &self.host_name,
                os_name: "Linux",
                os_arch: java_architecture(),
                os_version: &self.os_version,
                user_name: &self.user_name,
                user_home: &self.user_home,
                user_dir: &self.user_dir,
                memory_free_mb: memory.free_mb,
                memory_max_mb: memory.total_mb,
                memory_total_mb: memory.total_mb,
                ringkeeper_version: &self.ringkeeper_version,
                log_strategy: self.log_strategy,
            },
        }
    }
}

/// As the server started. Of several addresses the first one's ports, as in Java.
fn member_configuration(ensemble: &EnsembleConfig) -> MemberConfigurationView {
    let configs = &ensemble.configs;
    let address = configs.member(ensemble.server).and_then(|own| own.addresses.first());
    MemberConfigurationView {
        init_limit: ensemble.init_limit,
        sync_limit: ensemble.sync_limit,
        election_port: address.map_or(0, |address| address.election_port),
        quorum_port: address.map_or(0, |address| address.quorum_port),
        observer: !configs.committed.is_voter(ensemble.server),
    }
}

/// The directory our files are in, absolute.
fn shown(directory: &Path) -> String {
    let directory = directory.join(DIRECTORY);
    std::path::absolute(&directory).unwrap_or(directory).display().to_string()
}

fn java_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        other => other,
    }
}

fn first_line(path: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

fn log_segments(stats: &StoreStats) -> LogSegments {
    LogSegments {
        in_use: stats.log_segments as u64,
        spare: stats.spare_segments as u64,
        spare_bytes: stats.spare_bytes,
        zero_filled: stats.segments_filled,
        recycled: stats.segments_recycled,
        refused: stats.segments_refused,
        rolls: stats.rolls,
        rolls_that_waited: stats.rolls_that_waited,
    }
}

fn open_file_descriptors() -> u64 {
    // Looking opens one itself.
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1) as u64)
}

/// Of the machine: there is no heap whose limits could be told instead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Memory {
    free_mb: u64,
    total_mb: u64,
}

impl Memory {
    fn now() -> Memory {
        Memory::read(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default())
    }

    fn read(meminfo: &str) -> Memory {
        let megabytes = |name: &str| {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            kilobytes.unwrap_or(0) / 1024
        };
        Memory { free_mb: megabytes("MemAvailable"), total_mb: megabytes("MemTotal") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        let meminfo = "MemTotal:       24652668 kB\nMemFree:         1001 kB\nMemAvailable:   20480000 kB\n";
        assert_eq!(Memory::read(meminfo), Memory { free_mb: 20_000, total_mb: 24_074 });
        assert_eq!(Memory::read("nonsense"), Memory::default());
    }

    #[test]
    fn this_process_has_files_open() {
        assert!(open_file_descriptors() >= 3);
    }
}
