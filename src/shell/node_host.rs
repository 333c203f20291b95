//! A server's core: made from the configuration and what the disk had, driven by the pipeline.
//!
//! Recovery is snapshot, then log: the newest snapshot where it lies, then every transaction above it, through the same
//! `apply` that serves. A transaction whose digest does not fit is told of and counted, as in Java, and recovery goes on: an
//! operator wants the data. Sessions live on with their whole timeout ahead of them. A member does the same again when its
//! leader has cut or replaced what is stored ([`reload`]). Java: `FileTxnSnapLog.restore`, `QuorumPeer.loadDataBase`.

use ringkeeper_storage::{Epochs, Opened};
use tracing::{error, warn};

use crate::config::{Config, EnsembleConfig};
use crate::core::ensemble_view::Awaits;
use crate::core::metrics::Metrics;
use crate::core::node_view::Wanted;
use crate::core::peer::MemberStart;
use crate::core::replay::{Recovered, Replay};
use crate::core::tree::{LoadError, TreeOptions};
use crate::core::view::HostView;
use crate::core::zab::membership::Configurations;
use crate::core::{self, Input, Node, Now, Output, Reloaded, ServerId};
use crate::java::ours;
use crate::shell::bridge::AskedWord;
use crate::shell::clock::wall_ms;
use crate::shell::four_letter::{self, Effect, Whitelist};
use crate::shell::host::Host;
use crate::shell::initialize;
use crate::shell::pipeline::{Core, Reloader, Surroundings};
use crate::shell::settings::{CoreLoader, CoreLoaders, ServeError};

struct NodeHost {
    node: Node,
    host: Host,
    whitelist: Whitelist,
}

impl Core for NodeHost {
    fn step(&mut self, now: Now, input: Input<'_>, out: &mut Vec<Output>) {
        self.node.step(now, input, out);
    }

    fn flush(&mut self, out: &mut Vec<Output>) {
        self.node.flush(out);
    }

    fn is_moving(&self) -> bool {
        self.node.is_moving()
    }

    fn wake_us(&self) -> Option<u64> {
        self.node.wake_us()
    }

    fn wants_turn(&self) -> bool {
        self.node.wants_turn()
    }

    fn snapshot_is_pressing(&self) -> bool {
        self.node.snapshot_is_pressing()
    }

    fn metrics(&mut self) -> &mut Metrics {
        self.node.metrics_mut()
    }

    fn awaits(&self, now: Now) -> Option<Awaits> {
        self.node.awaits(now)
    }

    fn word(&mut self, now: Now, asked: AskedWord, surroundings: &Surroundings<'_>) -> Vec<u8> {
        let AskedWord { connection, word, trace_mask } = asked;
        self.node.word_received(connection);
        let needs = four_letter::needs(word, &self.whitelist);
        let wanted = Wanted {
            connections: needs.connections,
            expiry: needs.expiry,
            watches: needs.watch_list,
            digests: needs.digests,
            quotas: needs.quotas,
        };
        let not_serving = self.node.awaits(now).map(|awaits| awaits.sentence(surroundings.trouble));
        let host = HostView { not_serving, ..self.host.view(now, &needs, surroundings) };
        let node = self.node.serves_anybody().then(|| self.node.view(now, connection, wanted));
        let answer = four_letter::answer(word, trace_mask, &self.whitelist, &host, node.as_ref());
        match answer.effect {
            Effect::None => {}
            Effect::ResetServerStats => self.node.reset_server_stats(),
            Effect::ResetConnectionStats => self.node.reset_connection_stats(),
            Effect::SetTraceMask(mask) => self.host.trace_mask = mask,
        }
        if !answer.text.is_empty() {
            self.node.metrics_mut().packets_sent += 1; // seen by the next one
        }
        answer.text.into_bytes()
    }
}

/// How a server's core comes out of its disk.
pub fn load(config: &Config) -> CoreLoaders {
    let settings = core_settings(config);
    let empty_disk_is_new = config.ensemble.as_ref().is_none_or(|ensemble| ensemble.empty_disk_is_new);
    let again =
        config.ensemble.as_ref().map(|ensemble| reload(settings.clone(), ensemble.configs.clone(), empty_disk_is_new));
    let host = Host::new(config);
    let (whitelist, unknown) = Whitelist::new(&config.whitelisted_words, config.read_only_mode);
    for name in unknown {
        warn!("4lw.commands.whitelist: {name:?} is no four-letter word; it is ignored");
    }
    let configs = config.ensemble.as_ref().map(|ensemble| ensemble.configs.clone());
    let data_dir = config.directories.data.clone();
    let first: CoreLoader = Box::new(move |opened| {
        let standing = initialize::standing(opened, empty_disk_is_new);
        if standing != opened.standing() {
            warn!("{}", initialize::doubt(&data_dir));
        }
        let epochs = if configs.is_some() { opened.epochs()? } else { Epochs { accepted: 0, current: 0 } };
        let recovered = recover(opened, &settings, configs.as_ref())?;
        Ok(Box::new(move |now, outputs: &mut Vec<Output>| {
            let node = match configs {
                None => Node::standalone(settings, recovered, now),
                Some(configs) => {
                    let start = MemberStart { recovered, epochs, standing, configs };
                    Node::member(settings, start, now, outputs)
                }
            };
            Box::new(NodeHost { node, host, whitelist }) as Box<dyn Core>
        }))
    });
    CoreLoaders { first, again }
}

/// The same for a node that lives on, when its leader has cut or replaced what is stored.
fn reload(settings: core::Settings, configs: Configurations, empty_disk_is_new: bool) -> Reloader {
    Box::new(move |opened| {
        let standing = initialize::standing(opened, empty_disk_is_new);
        Ok(Reloaded { recovered: recover(opened, &settings, Some(&configs))?, standing, failure: None })
    })
}

/// What the core has to know of a configuration.
pub fn core_settings(config: &Config) -> core::Settings {
    core::Settings {
        // Session ids of a standalone server carry 1, as Java's do, whatever `myid` says.
        server: config.ensemble.as_ref().map_or(ServerId(1), |ensemble| ensemble.server),
        tick_ms: config.sessions.tick_time_ms,
        session_timeout_min_ms: saturated(config.sessions.min_ms),
        session_timeout_max_ms: saturated(config.sessions.max_ms),
        local_sessions: config.local_sessions.is_some(),
        local_sessions_upgrading: config.local_sessions.is_some_and(|local| local.upgrading),
        jute_max_buffer_bytes: config.limits.frame_bytes_max,
        jute_extra_bytes: config.limits.record_extra_bytes,
        global_outstanding_limit: config.limits.outstanding_max as usize,
        request_throttle: config.limits.request_throttle,
        large_request_threshold_bytes: config.limits.large_request_bytes.map(|bytes| bytes as usize),
        large_request_max_bytes: config.limits.large_requests_bytes_max as usize,
        connect_throttle: config.client.throttle,
        skip_acl: config.auth.skip_acl,
        eager_acl_check: config.auth.eager_acl_check,
        ensemble_names: config.auth.ensemble_names.clone(),
        password_hash: config.auth.password_hash,
        super_digest: config.auth.super_digest.clone(),
        digest_auth_enabled: config.auth.digest_enabled,
        digest_enabled: config.tree.digest_enabled,
        close_session_txn: config.tree.close_session_txn_enabled,
        extended_types: config.tree.extended_types_enabled,
        emulate_353_ttl: config.tree.emulate_353_ttl,
        enforce_quota: config.tree.enforce_quota,
        reconfig_enabled: config.ensemble.as_ref().is_some_and(|ensemble| ensemble.dynamic_files.is_some()),
        standalone_enabled: config.ensemble.as_ref().is_none_or(|ensemble| ensemble.standalone_enabled),
        enforce_auth_schemes: config.auth.enforced_schemes.clone().unwrap_or_default(),
        container_check_interval_ms: config.tree.container_check_interval_ms.into(),
        container_max_per_minute: config.tree.container_deletions_per_minute,
        container_max_never_used_ms: config.tree.container_never_used_max_ms.map_or(0, i64::from),
        hash_seed: chance(),
        ensemble: config.ensemble.as_ref().map(|ensemble| ensemble_settings(config, ensemble)).unwrap_or_default(),
        ..core::Settings::default()
    }
}

fn ensemble_settings(config: &Config, ensemble: &EnsembleConfig) -> core::settings::Ensemble {
    core::settings::Ensemble {
        tick_ms: config.sessions.tick_time_ms,
        init_limit: ensemble.init_limit,
        sync_limit: ensemble.sync_limit,
        connect_limit: ensemble.connect_limit,
        epoch_wait_ms: ensemble.epoch_wait_ms,
        notification_min_ms: ensemble.notification_min_ms,
        notification_max_ms: ensemble.notification_max_ms,
        observer_delay_ms: chance_up_to(ensemble.observer_delay_ms),
        observer_masters: ensemble.observer_master_port.is_some(),
        observer_master_order: u64::from(chance_up_to(u32::MAX)),
        observer_reconnect_ms: chance_up_to(ensemble.observer_reconnect_ms),
        observer_queue_max_bytes: ensemble.observer_queue_max_bytes as usize,
        snap_syncs_max: ensemble.snap_syncs_max as usize,
        diff_syncs_max: ensemble.diff_syncs_max as usize,
        commit_log_count: ensemble.commit_log_count as usize,
        snapshot_size_factor: ensemble.snapshot_size_factor,
        read_only_mode: config.read_only_mode,
        leader_serves: ensemble.leader_serves,
        ..core::settings::Ensemble::default()
    }
}

/// Observers that lost their leader at the same moment do not come back at the same moment.
fn chance_up_to(most: u32) -> u32 {
    (chance() % (u64::from(most) + 1)) as u32
}

/// Nobody can guess it.
fn chance() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

fn saturated(ms: u32) -> i32 {
    i32::try_from(ms).unwrap_or(i32::MAX)
}

fn recover(
    opened: &mut Opened,
    settings: &core::Settings,
    configs: Option<&Configurations>,
) -> Result<Recovered, ServeError> {
    let mut replay = load_snapshot(opened, settings.tree_options(), configs)?;
    ours::replay(opened, &mut replay, |_, _| Ok::<_, ServeError>(()))?;
    let recovered = replay.finish();
    if let Some(first) = recovered.mismatches.first() {
        let count = recovered.mismatches.len();
        error!("the tree does not have the digest its leader foresaw after {count} transactions, first {first}");
    }
    Ok(recovered)
}

fn load_snapshot(
    opened: &Opened,
    options: TreeOptions,
    configs: Option<&Configurations>,
) -> Result<Replay, ServeError> {
    let Some(source) = opened.snapshot_source() else {
        let of_member = |configs: &Configurations| Replay::empty_member(options, &configs.committed, wall_ms());
        return Ok(configs.map_or_else(|| Replay::empty(options), of_member));
    };
    Replay::from_snapshot(source, options).map_err(|error| {
        ServeError::Content(match (error, opened.snapshot_source()) {
            (LoadError::Damaged(told), _) => told,
            (error, Some(source)) => source.condemn(error.to_string()).to_string(),
            (error, None) => error.to_string(),
        })
    })
}
