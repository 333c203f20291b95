//! A standalone server's core: made from the configuration and what the disk had, driven by the pipeline.
//!
//! Recovery is snapshot, then log: nodes of the newest snapshot, then every transaction above it, through the same `apply`
//! that serves. A transaction whose digest does not fit is told of and counted, as in Java, and recovery goes on: an operator
//! wants the data. Sessions live on with their whole timeout ahead of them. Java: `FileTxnSnapLog.restore`.

use std::collections::BTreeMap;

use ringkeeper_storage::{Opened, Store, Zxid};
use tracing::error;

use crate::config::Config;
use crate::core::tree::{DataTree, TreeLoader, TreeOptions, Unwatched};
use crate::core::{self, ConnectionId, Input, Node, Now, Output, ServerId, SessionId};
use crate::shell::pipeline::Core;
use crate::shell::start::{CoreLoader, ServeError};
use crate::wire::frame::FourLetterWord;
use crate::wire::jute::DecodeError;
use crate::wire::txn::{DIGEST_VERSION, Txn, decode_txn};

struct Standalone {
    node: Node,
}

impl Core for Standalone {
    fn step(&mut self, now: Now, input: Input<'_>, out: &mut Vec<Output>) {
        self.node.step(now, input, out);
    }

    fn flush(&mut self, out: &mut Vec<Output>) {
        self.node.flush(out);
    }

    fn word(&mut self, _now: Now, _connection: ConnectionId, word: FourLetterWord, _disk: &Store) -> Vec<u8> {
        match word {
            FourLetterWord::Ruok => b"imok".to_vec(),
            _ => Vec::new(),
        }
    }
}

/// How a standalone server's core comes out of its disk.
pub fn load(config: &Config) -> CoreLoader {
    let settings = core_settings(config);
    Box::new(move |opened, now| {
        let (tree, sessions) = recover(opened, &settings)?;
        Ok(Box::new(Standalone { node: Node::standalone(settings, tree, sessions, now) }))
    })
}

/// What the core has to know of a configuration.
pub fn core_settings(config: &Config) -> core::Settings {
    let throttle = config.client.throttle;
    core::Settings {
        // Session ids of a standalone server carry 1, as Java's do, whatever `myid` says.
        server: ServerId(1),
        tick_ms: config.sessions.tick_time_ms,
        session_timeout_min_ms: saturated(config.sessions.min_ms),
        session_timeout_max_ms: saturated(config.sessions.max_ms),
        jute_max_buffer_bytes: config.limits.frame_bytes_max,
        jute_extra_bytes: config.limits.record_extra_bytes,
        global_outstanding_limit: config.limits.outstanding_max as usize,
        large_request_threshold_bytes: config.limits.large_request_bytes.map(|bytes| bytes as usize),
        large_request_max_bytes: config.limits.large_requests_bytes_max as usize,
        connection_throttle_tokens: throttle.map_or(0, |throttle| throttle.tokens),
        connection_throttle_fill_ms: throttle.map_or(1, |throttle| throttle.fill_time_ms),
        connection_throttle_fill_count: throttle.map_or(1, |throttle| throttle.fill_count),
        skip_acl: config.auth.skip_acl,
        super_digest: config.auth.super_digest.clone(),
        digest_enabled: config.tree.digest_enabled,
        extended_types: config.tree.extended_types_enabled,
        enforce_auth_schemes: config.auth.enforced_schemes.clone().unwrap_or_default(),
        container_check_interval_ms: config.tree.container_check_interval_ms.into(),
        container_max_per_minute: config.tree.container_deletions_per_minute,
        container_max_never_used_ms: config.tree.container_never_used_max_ms.map_or(0, i64::from),
        ..core::Settings::default()
    }
}

fn saturated(ms: u32) -> i32 {
    i32::try_from(ms).unwrap_or(i32::MAX)
}

type Sessions = Vec<(SessionId, i32)>;

fn recover(opened: &mut Opened, settings: &core::Settings) -> Result<(DataTree, Sessions), ServeError> {
    let options = TreeOptions { extended_types: settings.extended_types, emulate_353_ttl: false };
    let (tree, sessions) = load_snapshot(opened, options)?;
    let mut replay = Replay { tree, sessions, mismatches: 0, failure: None };
    opened.replay(|zxid, record| replay.take(zxid, record))?;
    if let Some((zxid, error)) = replay.failure {
        // The record's checksum was right, so nobody damaged it: it was written like this.
        return Err(ServeError::Content(format!("transaction {zxid} of the log cannot be read: {error}")));
    }
    if replay.mismatches > 1 {
        error!("{} more transactions of the log do not fit their digest", replay.mismatches - 1);
    }
    Ok((replay.tree, replay.sessions.into_iter().collect()))
}

fn load_snapshot(
    opened: &mut Opened,
    options: TreeOptions,
) -> Result<(DataTree, BTreeMap<SessionId, i32>), ServeError> {
    let Some(header) = opened.snapshot_header() else {
        return Ok((DataTree::new(options), BTreeMap::new()));
    };
    let of_snapshot = |error| ServeError::Content(format!("snapshot {:#x}: {error}", header.zxid));
    let mut loader = TreeLoader::new(header, options).map_err(of_snapshot)?;
    let sessions = header.sessions.iter().map(|(id, timeout_ms)| (SessionId(*id), *timeout_ms)).collect();
    let snapshot_zxid = header.zxid;
    let of_snapshot = |error| ServeError::Content(format!("snapshot {snapshot_zxid:#x}: {error}"));
    let mut failure = None;
    opened.for_each_node(|image| {
        if failure.is_none() {
            failure = loader.add(image).err();
        }
    })?;
    match failure {
        Some(error) => Err(of_snapshot(error)),
        None => Ok((loader.finish().map_err(of_snapshot)?, sessions)),
    }
}

struct Replay {
    tree: DataTree,
    sessions: BTreeMap<SessionId, i32>,
    mismatches: u64,
    failure: Option<(Zxid, DecodeError)>,
}

impl Replay {
    fn take(&mut self, zxid: Zxid, record: &[u8]) {
        if self.failure.is_some() {
            return;
        }
        let (header, txn, digest) = match decode_txn(record) {
            Ok(decoded) => decoded,
            Err(error) => return self.failure = Some((zxid, error)),
        };
        self.tree.apply(&header, &txn, &mut Unwatched);
        let session = SessionId(header.client_id);
        match txn {
            Txn::CreateSession { timeout_ms } => drop(self.sessions.insert(session, timeout_ms)),
            Txn::CloseSession { .. } => drop(self.sessions.remove(&session)),
            _ => {}
        }
        let expected = digest.filter(|digest| digest.version == DIGEST_VERSION).map(|digest| digest.tree_digest as u64);
        if let Some(expected) = expected
            && expected != self.tree.digest()
        {
            self.mismatches += 1;
            if self.mismatches == 1 {
                error!("transaction {zxid}: the tree's digest is {:#x} and should be {expected:#x}", self.tree.digest());
            }
        }
    }
}
