//! What an operator decided, as plain values the core obeys. Filled from `config::Config` by the shell.

use super::tree::TreeOptions;
use super::tree::acl::PasswordHash;
use super::types::ServerId;
use crate::limits;

/// Settings of one server. Every field names its zoo.cfg key.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `myid`; a standalone server is 1 in session ids (client-protocol 5.5).
    pub server: ServerId,
    /// `tickTime`: width of a session expiry bucket.
    pub tick_ms: u32,
    /// `minSessionTimeout`, `maxSessionTimeout`.
    pub session_timeout_min_ms: i32,
    pub session_timeout_max_ms: i32,
    /// `jute.maxbuffer` and `jute.maxbuffer.extrasize`, bytes.
    pub jute_max_buffer_bytes: usize,
    pub jute_extra_bytes: usize,
    /// `globalOutstandingLimit`.
    pub global_outstanding_limit: usize,
    /// `request_throttle_*`.
    pub request_throttle: RequestThrottle,
    /// `largeRequestThreshold` (None = off) and `largeRequestMaxBytes`.
    pub large_request_threshold_bytes: Option<usize>,
    pub large_request_max_bytes: usize,
    /// `connection_throttle_*`.
    pub connect_throttle: ConnectThrottle,
    /// `skipACL=yes`.
    pub skip_acl: bool,
    /// `enableEagerACLCheck`, of members.
    pub eager_acl_check: bool,
    /// `ensembleAuthName`, if the scheme `ensemble` is served; without names every one is right.
    pub ensemble_names: Option<Vec<String>>,
    /// `DigestAuthenticationProvider.enabled`: whether anybody can prove to be a digest user.
    pub digest_auth_enabled: bool,
    /// `DigestAuthenticationProvider.digestAlg`.
    pub password_hash: PasswordHash,
    /// `DigestAuthenticationProvider.superDigest`, the whole `super:BASE64` text.
    pub super_digest: Option<String>,
    /// `digest.enabled`: tree digest on every transaction.
    pub digest_enabled: bool,
    /// `closeSessionTxn.enabled`: a `closeSession` lists the ephemerals that go with it.
    pub close_session_txn: bool,
    /// `extendedTypesEnabled`: TTL nodes.
    pub extended_types: bool,
    /// `emulate353TTLNodes`: with that, TTL nodes of 3.5.3 are TTL nodes, too.
    pub emulate_353_ttl: bool,
    /// `enforceQuota`: limits of quotas are looked at, and hard ones refuse writes.
    pub enforce_quota: bool,
    /// `localSessionsEnabled`, `localSessionsUpgradingEnabled`.
    pub local_sessions: bool,
    pub local_sessions_upgrading: bool,
    /// `reconfigEnabled`.
    pub reconfig_enabled: bool,
    /// `standaloneEnabled`: the membership never shrinks to a single voter.
    pub standalone_enabled: bool,
    /// `enforce.auth.enabled` with `enforce.auth.schemes`; empty = off.
    pub enforce_auth_schemes: Vec<String>,
    /// `znode.container.checkIntervalMs`, `.maxPerMinute`, `.maxNeverUsedIntervalMs` (0 = never).
    pub container_check_interval_ms: u64,
    pub container_max_per_minute: u32,
    pub container_max_never_used_ms: i64,
    /// Not a key: `limits::SNAPSHOT_BACKLOG_BYTES`, and less in tests.
    pub snapshot_backlog_max_bytes: usize,
    /// Not a key: `limits::LOG_BACKLOG_BYTES`, and less in tests.
    pub log_backlog_max_bytes: usize,
    /// Not a key: `limits::TURN_NODES`, and less in tests.
    pub turn_nodes: u64,
    /// Not a key: `limits::SNAPSHOT_CHUNK_BYTES`, and less in tests.
    pub snapshot_chunk_bytes: usize,
    /// Not a key: where the names, paths and permissions that clients choose fall in tables. Who knew it could choose such that all
    /// fall together.
    pub hash_seed: u64,
    pub ensemble: Ensemble,
}

impl Settings {
    /// What the tree has to know of them.
    pub fn tree_options(&self) -> TreeOptions {
        TreeOptions {
            extended_types: self.extended_types,
            emulate_353_ttl: self.emulate_353_ttl,
            hash_seed: self.hash_seed,
        }
    }
}

/// How many requests are under way at a time, and what becomes of those that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestThrottle {
    /// `request_throttle_max_requests`; 0 is off.
    pub max_requests: usize,
    /// `request_stale_latency_check`: what waited for longer than its session's timeout is stale.
    pub stale_latency_check: bool,
    /// `request_throttle_drop_stale`: its connection ends.
    pub drop_stale: bool,
    /// `throttled_op_wait_time`: what waited for longer is answered THROTTLEDOP; 0 is off.
    pub op_wait_ms: u32,
}

impl Default for RequestThrottle {
    fn default() -> Self {
        RequestThrottle { max_requests: 0, stale_latency_check: false, drop_stale: true, op_wait_ms: 0 }
    }
}

/// How many handshakes are let in: a bucket of tokens, and chance in front of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConnectThrottle {
    /// `_tokens`: the bucket's size; 0 is off.
    pub tokens: u32,
    /// `_fill_time`, `_fill_count`: so many tokens in so many milliseconds.
    pub fill_ms: u32,
    pub fill_count: u32,
    /// `_freeze_time`: for so long after a change the probability of a drop stays what it is; None is off.
    pub freeze_ms: Option<u32>,
    /// `_drop_increase` when the bucket is empty, `_drop_decrease` when no more than `_decrease_ratio` of it is gone.
    pub drop_increase: f64,
    pub drop_decrease: f64,
    pub decrease_ratio: f64,
    /// What a new session costs, one that is resumed, and a new local one: `_weight_enabled`, otherwise one token each.
    pub new_weight: u32,
    pub resumed_weight: u32,
    pub local_weight: u32,
}

impl Default for ConnectThrottle {
    fn default() -> Self {
        ConnectThrottle {
            tokens: 0,
            fill_ms: 1,
            fill_count: 1,
            freeze_ms: None,
            drop_increase: 0.02,
            drop_decrease: 0.002,
            decrease_ratio: 0.0,
            new_weight: 1,
            resumed_weight: 1,
            local_weight: 1,
        }
    }
}

/// Settings of a member of an ensemble. Without meaning for a standalone server.
#[derive(Clone, Debug)]
pub struct Ensemble {
    /// `tickTime`, milliseconds: the measure of the next three.
    pub tick_ms: u32,
    /// `initLimit`, `syncLimit`, `connectToLearnerMasterLimit` (0: initLimit), ticks.
    pub init_limit: u32,
    pub sync_limit: u32,
    pub connect_limit: u32,
    /// `leader.maxTimeToWaitForEpoch`, milliseconds (None = off).
    pub epoch_wait_ms: Option<u32>,
    /// `fastleader.minNotificationInterval`, `fastleader.maxNotificationInterval`.
    pub notification_min_ms: u32,
    pub notification_max_ms: u32,
    /// How long a quorum's vote must stand. Java's constant `finalizeWait` is 200 (D-081).
    pub finalize_wait_ms: u32,
    /// `observer.election.DelayMs`: chance is the shell's, which gives the part of it that this server waits.
    pub observer_delay_ms: u32,
    /// `observerMasterPort` is set: followers serve observers, and observers look for followers instead of the leader.
    pub observer_masters: bool,
    /// The order in which this observer tries them: chance is the shell's.
    pub observer_master_order: u64,
    /// `observer.reconnectDelayMs`: the part of it that this server waits when it has tried all of them.
    pub observer_reconnect_ms: u32,
    /// `observerMaster.sizeLimit`: what a follower keeps for an observer that does not take it.
    pub observer_queue_max_bytes: usize,
    /// `commitLogCount`: transactions in the committed-log window.
    pub commit_log_count: usize,
    /// `snapshotSizeFactor`: None is a negative one, no DIFF from disk.
    pub snapshot_size_factor: Option<f64>,
    /// `forceSnapshotSync`.
    pub force_snapshot_sync: bool,
    /// `leader.maxConcurrentSnapSyncs`, `leader.maxConcurrentDiffSyncs`: when so many learners are brought up to the history, an
    /// observer has to wait.
    pub snap_syncs_max: usize,
    pub diff_syncs_max: usize,
    /// `readonlymode.enabled`.
    pub read_only_mode: bool,
    /// `leaderServes`: whoever leads has clients of its own, too.
    pub leader_serves: bool,
    /// Not a key: where in an epoch the leader moves on to the next one. Less in simulations.
    pub rollover_at: u32,
    /// Not a key: `limits::EPOCH_COUNTER_END`, and less in simulations.
    pub counter_end: u32,
    /// Not a key: `limits::LEARNER_QUEUE_BYTES`, and less in simulations.
    pub learner_queue_max_bytes: usize,
}

impl Default for Ensemble {
    fn default() -> Self {
        Ensemble {
            tick_ms: 2000,
            init_limit: 10,
            sync_limit: 5,
            connect_limit: 0,
            epoch_wait_ms: None,
            notification_min_ms: 200,
            notification_max_ms: 60_000,
            finalize_wait_ms: 150,
            observer_delay_ms: 0,
            observer_masters: false,
            observer_master_order: 0,
            observer_reconnect_ms: 0,
            observer_queue_max_bytes: limits::OBSERVER_QUEUE_BYTES,
            commit_log_count: 500,
            snapshot_size_factor: Some(0.33),
            force_snapshot_sync: false,
            snap_syncs_max: 10,
            diff_syncs_max: 100,
            read_only_mode: false,
            leader_serves: true,
            rollover_at: limits::EPOCH_ROLLOVER_AT,
            counter_end: limits::EPOCH_COUNTER_END,
            learner_queue_max_bytes: limits::LEARNER_QUEUE_BYTES,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            server: ServerId(1),
            tick_ms: 2000,
            session_timeout_min_ms: 4000,
            session_timeout_max_ms: 40_000,
            jute_max_buffer_bytes: limits::JUTE_MAX_BUFFER_DEFAULT_BYTES,
            jute_extra_bytes: limits::JUTE_MAX_BUFFER_DEFAULT_BYTES,
            global_outstanding_limit: limits::GLOBAL_OUTSTANDING_DEFAULT,
            request_throttle: RequestThrottle::default(),
            large_request_threshold_bytes: None,
            large_request_max_bytes: 100 * 1024 * 1024,
            connect_throttle: ConnectThrottle::default(),
            skip_acl: false,
            eager_acl_check: false,
            ensemble_names: None,
            digest_auth_enabled: true,
            password_hash: PasswordHash::default(),
            super_digest: None,
            digest_enabled: true,
            close_session_txn: true,
            enforce_quota: false,
            extended_types: false,
            emulate_353_ttl: false,
            local_sessions: false,
            local_sessions_upgrading: false,
            reconfig_enabled: false,
            standalone_enabled: true,
            enforce_auth_schemes: Vec::new(),
            container_check_interval_ms: 60_000,
            container_max_per_minute: 10_000,
            container_max_never_used_ms: 0,
            snapshot_backlog_max_bytes: limits::SNAPSHOT_BACKLOG_BYTES,
            snapshot_chunk_bytes: limits::SNAPSHOT_CHUNK_BYTES,
            log_backlog_max_bytes: limits::LOG_BACKLOG_BYTES,
            turn_nodes: limits::TURN_NODES,
            hash_seed: 0,
            ensemble: Ensemble::default(),
        }
    }
}
