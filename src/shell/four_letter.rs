//! The four-letter words: a view of the server in, text out.
//!
//! Monitoring reads these texts by position and by exact bytes, so line order, blanks and missing newlines are part of the
//! format (operations 2). Where Java prints in the order of a hash map, the order here is that of the view.
//!
//! Not here, on purpose: recognising a word (`wire/frame.rs`), sending the answer (`client_connection.rs`), gathering the
//! view ([`needs`] says what to gather). A word that changes something says so as an [`Effect`], to be carried out after the
//! answer was made. Java: `org.apache.zookeeper.server.command`.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::core::ensemble_view::EnsembleView;
use crate::core::metrics::catalogue::{CATALOGUE, Metric, MetricKind, Roles};
use crate::core::metrics::{DetailedSummary, Reading, Summary};
use crate::core::tree::quota::QuotaSums;
use crate::core::types::{ServerId, SessionId};
use crate::core::view::{self, Buckets, ConnectionView, EnvironmentView, HostView, Mode, NodeView, SessionView};
use crate::core::zab::catch_up::SyncReport;
use crate::core::zab::leader::LearnerView;
use crate::core::zab::membership::MemberRole;
use crate::wire::frame::FourLetterWord as Word;

const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests";

/// Words that are answered. Java: `FourLetterCommands.isEnabled`.
#[derive(Clone, Debug)]
pub struct Whitelist {
    enabled: Vec<Word>,
}

impl Whitelist {
    /// From `4lw.commands.whitelist`, whose unknown names are given back: somebody expects them to work.
    pub fn new(names: &[String], read_only_mode: bool) -> (Whitelist, Vec<String>) {
        let mut enabled = vec![Word::Srvr];
        if read_only_mode {
            enabled.push(Word::Isro);
        }
        let mut unknown = Vec::new();
        for name in names {
            match Word::ALL.iter().find(|word| word.name() == name) {
                _ if name == "*" => enabled.extend(Word::ALL),
                Some(word) => enabled.push(*word),
                None => unknown.push(name.clone()),
            }
        }
        (Whitelist { enabled }, unknown)
    }

    pub fn allows(&self, word: Word) -> bool {
        self.enabled.contains(&word)
    }
}

/// Lists of [`NodeView`] and facts of [`HostView`] that are costly to gather and that a word prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub connections: bool,
    /// Sessions and connections by expiry, and ephemerals.
    pub expiry: bool,
    pub watch_list: bool,
    pub digests: bool,
    pub directory_sizes: bool,
    pub file_descriptors: bool,
    pub environment: bool,
    pub quotas: bool,
}

/// What has to be gathered for `word`. A word that is not allowed needs nothing.
pub fn needs(word: Word, whitelist: &Whitelist) -> Needs {
    let nothing = Needs::default();
    if !whitelist.allows(word) {
        return nothing;
    }
    match word {
        Word::Stat | Word::Cons => Needs { connections: true, ..nothing },
        Word::Dump => Needs { expiry: true, ..nothing },
        Word::Wchc | Word::Wchp => Needs { watch_list: true, ..nothing },
        Word::Hash => Needs { digests: true, ..nothing },
        Word::Conf | Word::Dirs => Needs { directory_sizes: true, ..nothing },
        Word::Mntr => Needs { file_descriptors: true, quotas: true, ..nothing },
        Word::Envi => Needs { environment: true, ..nothing },
        _ => nothing,
    }
}

/// What a word changes, besides being answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    None,
    /// `srst`: `Metrics::reset_server_stats`.
    ResetServerStats,
    /// `crst`: the statistics of every connection.
    ResetConnectionStats,
    /// `stmk`.
    SetTraceMask(i64),
}

/// The answer, sent in full before the connection is closed. An empty one means: just close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub text: String,
    pub effect: Effect,
}

/// Answers `word`. `node` is `None` while the server does not serve; `trace_mask` is what came behind `stmk`, if it did.
pub fn answer(
    word: Word,
    trace_mask: Option<i64>,
    whitelist: &Whitelist,
    host: &HostView<'_>,
    node: Option<&NodeView<'_>>,
) -> Answer {
    let mut text = String::new();
    let mut effect = Effect::None;
    let written = match (word, node) {
        _ if !whitelist.allows(word) => {
            writeln!(text, "{} is not executed because it is not in the whitelist.", word.name())
        }
        (Word::TelnetClose, _) => Ok(()),
        (Word::Ruok, _) => text.write_str("imok"),
        (Word::Envi, _) => environment(&mut text, host),
        (Word::Gtmk, _) => write!(text, "{}", host.trace_mask),
        (Word::Stmk, _) => match trace_mask {
            Some(mask) => {
                effect = Effect::SetTraceMask(mask);
                write!(text, "{mask}")
            }
            None => Ok(()), // Java does not wait for the mask either
        },
        (Word::Isro, None) => text.write_str("null"),
        (Word::Hash, None) => text.write_str(NOT_SERVING),
        // Who looks for Java's sentence looks at the first line; `mntr` is read line by line by those who want nothing else.
        (Word::Srvr, None) => {
            let why = host.not_serving.iter();
            writeln!(text, "{NOT_SERVING}").and_then(|()| why.into_iter().try_for_each(|why| writeln!(text, "{why}")))
        }
        (_, None) => writeln!(text, "{NOT_SERVING}"),
        (Word::Isro, Some(node)) => text.write_str(if node.mode == Mode::ReadOnly { "ro" } else { "rw" }),
        (Word::Srvr, Some(node)) => version(&mut text, host, node).and_then(|()| summary(&mut text, node)),
        (Word::Stat, Some(node)) => stat(&mut text, host, node),
        (Word::Cons, Some(node)) => connections(&mut text, node),
        (Word::Mntr, Some(node)) => monitor(&mut text, host, node),
        (Word::Conf, Some(node)) => configuration(&mut text, host, node),
        (Word::Dirs, Some(_)) => {
            let sizes = host.directory_sizes;
            writeln!(text, "datadir_size: {}\nlogdir_size: {}", sizes.data_bytes, sizes.log_bytes)
        }
        (Word::Dump, Some(node)) => dump(&mut text, node),
        (Word::Hash, Some(node)) => {
            node.digests.iter().try_for_each(|(zxid, digest)| writeln!(text, "{:x}: {}", zxid.0, *digest as i64))
        }
        (Word::Wchs, Some(node)) => {
            let watches = node.watches;
            let (connections, paths, total) = (watches.connections, watches.paths, watches.total);
            writeln!(text, "{connections} connections watching {paths} paths\nTotal watches:{total}")
        }
        (Word::Wchc, Some(node)) => watches_by_session(&mut text, node),
        (Word::Wchp, Some(node)) => watches_by_path(&mut text, node),
        (Word::Srst, Some(_)) => {
            effect = Effect::ResetServerStats;
            writeln!(text, "Server stats reset.")
        }
        (Word::Crst, Some(_)) => {
            effect = Effect::ResetConnectionStats;
            writeln!(text, "Connection stats reset.")
        }
    };
    written.expect("a string takes whatever is written to it");
    Answer { text, effect }
}

fn version(out: &mut String, host: &HostView<'_>, node: &NodeView<'_>) -> fmt::Result {
    writeln!(out, "Zookeeper version: {}", host.version)?;
    match node.mode {
        Mode::ReadOnly => writeln!(out, "READ-ONLY mode; serving only read-only clients"),
        _ => Ok(()),
    }
}

/// The lines of `srvr` from `Latency` on. Java: `ServerStats.toString`.
fn summary(out: &mut String, node: &NodeView<'_>) -> fmt::Result {
    let metrics = node.metrics;
    let latency = &metrics.request_latency;
    writeln!(out, "Latency min/avg/max: {}/{}/{}", latency.min(), JavaDouble(latency.average()), latency.max())?;
    writeln!(out, "Received: {}", metrics.packets_received)?;
    writeln!(out, "Sent: {}", metrics.packets_sent)?;
    writeln!(out, "Connections: {}", node.connections_count)?;
    writeln!(out, "Outstanding: {}", node.outstanding)?;
    writeln!(out, "Zxid: 0x{:x}", node.zxid.0)?;
    writeln!(out, "Mode: {}", node.mode.name())?;
    writeln!(out, "Node count: {}", node.node_count)?;
    match node.mode {
        Mode::Leader => {
            let sizes = metrics.proposal_size;
            writeln!(out, "Proposal sizes last/min/max: {}/{}/{}", sizes.last, sizes.min, sizes.max)
        }
        _ => Ok(()),
    }
}

fn stat(out: &mut String, host: &HostView<'_>, node: &NodeView<'_>) -> fmt::Result {
    version(out, host, node)?;
    writeln!(out, "Clients:")?;
    for connection in &node.connections {
        connection_head(out, connection)?;
        writeln!(out, ")")?;
    }
    writeln!(out)?;
    summary(out, node)
}

fn connections(out: &mut String, node: &NodeView<'_>) -> fmt::Result {
    for connection in &node.connections {
        connection_head(out, connection)?;
        if let Some(session) = &connection.session {
            connection_session(out, session)?;
        }
        writeln!(out, ")")?;
    }
    writeln!(out)
}

/// Up to the closing bracket. Java shows the interest of its selector: 1 is reading, and 0 is the one that asks.
fn connection_head(out: &mut String, connection: &ConnectionView) -> fmt::Result {
    let ConnectionView { peer, asks, queued, received, sent, .. } = connection;
    let interest = u8::from(!asks);
    write!(out, " {}[{interest}](queued={queued},recved={received},sent={sent}", JavaAddress(*peer))
}

fn connection_session(out: &mut String, session: &SessionView) -> fmt::Result {
    let operation = view::operation_code(session.last_operation);
    write!(out, ",sid=0x{:x},lop={operation},est={},to={}", session.id.0, session.established_ms, session.timeout_ms)?;
    if session.last_cxid >= 0 {
        write!(out, ",lcxid=0x{:x}", session.last_cxid)?;
    }
    write!(
        out,
        ",lzxid=0x{:x},lresp={},llat={}",
        session.last_zxid, session.last_response_ms, session.last_latency_ms
    )?;
    let SessionView { min_latency_ms, average_latency_ms, max_latency_ms, .. } = session;
    write!(out, ",minlat={min_latency_ms},avglat={average_latency_ms},maxlat={max_latency_ms}")
}

fn configuration(out: &mut String, host: &HostView<'_>, node: &NodeView<'_>) -> fmt::Result {
    let (conf, sizes) = (&host.configuration, &host.directory_sizes);
    writeln!(out, "clientPort={}", conf.client_port)?;
    writeln!(out, "secureClientPort={}", conf.secure_client_port)?;
    writeln!(out, "dataDir={}", conf.data_dir)?;
    writeln!(out, "dataDirSize={}", sizes.data_bytes)?;
    writeln!(out, "dataLogDir={}", conf.log_dir)?;
    writeln!(out, "dataLogSize={}", sizes.log_bytes)?;
    writeln!(out, "tickTime={}", conf.tick_time_ms)?;
    writeln!(out, "maxClientCnxns={}", conf.max_client_cnxns)?;
    writeln!(out, "minSessionTimeout={}", conf.min_session_timeout_ms)?;
    writeln!(out, "maxSessionTimeout={}", conf.max_session_timeout_ms)?;
    writeln!(out, "clientPortListenBacklog={}", conf.listen_backlog)?;
    writeln!(out, "serverId={}", conf.server_id)?;
    if let Some(member) = &conf.ensemble {
        writeln!(out, "initLimit={}\nsyncLimit={}\nelectionAlg=3", member.init_limit, member.sync_limit)?;
        // What is in force may have moved it.
        let own = node.membership.and_then(|membership| membership.members.get(&ServerId(conf.server_id)));
        let address = own.and_then(|own| own.addresses.first());
        let election_port = address.map_or(member.election_port, |address| address.election_port);
        let quorum_port = address.map_or(member.quorum_port, |address| address.quorum_port);
        let observer = own.map_or(member.observer, |own| own.role == MemberRole::Observer);
        writeln!(out, "electionPort={election_port}\nquorumPort={quorum_port}\npeerType={}", u8::from(observer))?;
    }
    match node.membership {
        Some(membership) => write!(out, "membership: \n{}", membership.to_text()),
        None => Ok(()),
    }
}

fn dump(out: &mut String, node: &NodeView<'_>) -> fmt::Result {
    writeln!(out, "SessionTracker dump:")?;
    if let Some(local) = &node.local_sessions_by_expiry {
        session_sets(out, "Local ", local)?;
    }
    match node.mode {
        Mode::Standalone | Mode::Leader => {
            let label = if node.local_sessions_by_expiry.is_some() { "Global " } else { "" };
            session_sets(out, label, &node.sessions_by_expiry)?;
        }
        Mode::Follower | Mode::Observer | Mode::ReadOnly => {
            writeln!(out, "Global Sessions({}):", node.timeouts.len())?;
            node.timeouts.iter().try_for_each(|(id, timeout_ms)| writeln!(out, "{}\t{timeout_ms}ms", Hex(*id)))?;
        }
    }
    writeln!(out, "ephemeral nodes dump:\nSessions with Ephemerals ({}):", node.ephemerals.len())?;
    for (id, paths) in &node.ephemerals {
        writeln!(out, "{}:", Hex(*id))?;
        paths.iter().try_for_each(|path| writeln!(out, "\t{path}"))?;
    }
    let buckets = &node.connections_by_expiry.0;
    let count: usize = buckets.iter().map(|(_, connections)| connections.len()).sum();
    writeln!(out, "Connections dump:\nConnections Sets ({})/({count}):", buckets.len())?;
    for (at_ms, connections) in buckets {
        writeln!(out, "{} expire at {}:", connections.len(), JavaDate(*at_ms))?;
        for (peer, session) in connections {
            writeln!(out, "\tip: {} sessionId: {}", JavaAddress(*peer), Hex(*session))?;
        }
    }
    Ok(())
}

fn session_sets(out: &mut String, label: &str, sessions: &Buckets<SessionId>) -> fmt::Result {
    let count: usize = sessions.0.iter().map(|(_, ids)| ids.len()).sum();
    writeln!(out, "{label}Session Sets ({})/({count}):", sessions.0.len())?;
    for (at_ms, ids) in &sessions.0 {
        writeln!(out, "{} expire at {}:", ids.len(), JavaDate(*at_ms))?;
        ids.iter().try_for_each(|id| writeln!(out, "\t{}", Hex(*id)))?;
    }
    Ok(())
}

fn watches_by_session(out: &mut String, node: &NodeView<'_>) -> fmt::Result {
    for (session, paths) in grouped(node.watch_list.iter().map(|(session, path)| (*session, path))) {
        writeln!(out, "{}", Hex(session))?;
        paths.iter().try_for_each(|path| writeln!(out, "\t{path}"))?;
    }
    writeln!(out)
}

fn watches_by_path(out: &mut String, node: &NodeView<'_>) -> fmt::Result {
    for (path, sessions) in grouped(node.watch_list.iter().map(|(session, path)| (path, *session))) {
        writeln!(out, "{path}")?;
        sessions.iter().try_for_each(|session| writeln!(out, "\t{}", Hex(*session)))?;
    }
    writeln!(out)
}

/// Values by key, keys in the order in which they first appear.
fn grouped<K: std::hash::Hash + Eq + Copy, V>(pairs: impl Iterator<Item = (K, V)>) -> Vec<(K, Vec<V>)> {
    let mut groups: Vec<(K, Vec<V>)> = Vec::new();
    let mut places: HashMap<K, usize, FixedState> = HashMap::default();
    for (key, value) in pairs {
        let place = *places.entry(key).or_insert(groups.len());
        match groups.get_mut(place) {
            Some((_, values)) => values.push(value),
            None => groups.push((key, vec![value])),
        }
    }
    groups
}

/// A value of `mntr`: Java prints integers and doubles differently, and collectors skip what is not an integer.
enum Number {
    Integer(i64),
    Double(f64),
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Number::Integer(number) => write!(f, "{number}"),
            Number::Double(number) => write!(f, "{}", JavaDouble(*number)),
        }
    }
}

fn monitor(out: &mut String, host: &HostView<'_>, node: &NodeView<'_>) -> fmt::Result {
    writeln!(out, "zk_version\t{}\nzk_server_state\t{}", host.version, node.mode.name())?;
    if let Some(ensemble) = node.ensemble.as_ref().filter(|_| is_in_ensemble(node.mode)) {
        writeln!(out, "zk_peer_state\t{}", ensemble.peer_state)?;
        if let Some(master) = ensemble.observer_master {
            writeln!(out, "zk_observer_master_id\t{}", master.0)?;
        }
    }
    for metric in CATALOGUE.iter().filter(|metric| shown_by(metric.roles, node.mode)) {
        monitored(out, metric, host, node)?;
    }
    // No longer Java's, but collectors written for older servers ask for it.
    writeln!(out, "zk_fsync_threshold_exceed_count\t{}", node.metrics.fsync_threshold_exceed_count)?;
    writeln!(out, "zk_ringkeeper_writes_refused_disk_full\t{}", node.metrics.writes_refused_disk_full)?;
    writeln!(out, "zk_ringkeeper_force_sync_disabled\t{}", node.metrics.force_sync_disabled)?;
    writeln!(out, "zk_ringkeeper_log_write_in_flight_ms\t{}", node.metrics.log_write_in_flight_ms)?;
    let log = &host.log_segments;
    for (name, value) in [
        ("segments", log.in_use),
        ("spare_segments", log.spare),
        ("spare_bytes", log.spare_bytes),
        ("segments_zero_filled", log.zero_filled),
        ("segments_recycled", log.recycled),
        ("segments_refused", log.refused),
        ("rolls", log.rolls),
        ("rolls_that_waited", log.rolls_that_waited),
    ] {
        writeln!(out, "zk_ringkeeper_log_{name}\t{value}")?;
    }
    writeln!(out, "zk_ringkeeper_unmoved_slots\t{}", node.unmoved_slots)?;
    match &node.ensemble {
        Some(ensemble) => monitored_ensemble(out, host, node, ensemble),
        None => Ok(()),
    }
}

/// Ours: what operators of ensembles ask first. One line a fact, values that begin with a word.
fn monitored_ensemble(
    out: &mut String,
    host: &HostView<'_>,
    node: &NodeView<'_>,
    ensemble: &EnsembleView,
) -> fmt::Result {
    if let Some(why) = &host.not_serving {
        writeln!(out, "zk_ringkeeper_not_serving\t{why}")?; // in read-only mode
    }
    writeln!(out, "zk_ringkeeper_config_file_stale\t{}", node.metrics.config_file_stale)?;
    if let Some(ms) = ensemble.election_ms {
        writeln!(out, "zk_ringkeeper_last_election_ms\t{ms}")?;
    }
    if let (Some(sync), Mode::Follower | Mode::Observer) = (&ensemble.sync, node.mode) {
        monitored_sync(out, "zk_ringkeeper_last_sync", sync)?;
    }
    if node.mode == Mode::Leader {
        // No longer Java's, but collectors written for older servers ask for it.
        let followers = ensemble.learners.iter().filter(|learner| !learner.observer).count();
        writeln!(out, "zk_followers\t{followers}")?;
    }
    for learner in &ensemble.learners {
        let label = format!("zk_ringkeeper_learner_{}", learner.server.0);
        writeln!(out, "{label}_in_step\t{}", u8::from(learner.in_step))?;
        if let Some(transactions) = learner.behind_transactions {
            writeln!(out, "{label}_behind_transactions\t{transactions}")?;
        }
        writeln!(out, "{label}_behind_bytes\t{}", learner.behind_bytes)?;
        if let Some(sync) = &learner.sync {
            monitored_sync(out, &format!("{label}_sync"), sync)?;
        }
    }
    Ok(())
}

fn monitored_sync(out: &mut String, label: &str, sync: &SyncReport) -> fmt::Result {
    writeln!(out, "{label}_kind\t{}\n{label}_bytes\t{}", sync.kind.name(), sync.bytes)?;
    match sync.took_ms {
        Some(took_ms) => writeln!(out, "{label}_ms\t{took_ms}"),
        None => Ok(()), // under way
    }
}

fn is_in_ensemble(mode: Mode) -> bool {
    matches!(mode, Mode::Leader | Mode::Follower | Mode::Observer)
}

fn shown_by(roles: Roles, mode: Mode) -> bool {
    match roles {
        Roles::All => true,
        Roles::Leader => mode == Mode::Leader,
        Roles::LeaderAndFollower => matches!(mode, Mode::Leader | Mode::Follower),
        Roles::EnsembleMember => is_in_ensemble(mode),
    }
}

fn monitored(out: &mut String, metric: &Metric, host: &HostView<'_>, node: &NodeView<'_>) -> fmt::Result {
    let name = metric.name;
    if metric.kind == MetricKind::Gauge {
        if let Some(sums) = quota_sums(name, &node.quotas) {
            return sums.iter().try_for_each(|(namespace, sum)| writeln!(out, "zk_{namespace}_{name}\t{sum}"));
        }
        return match gauge(name, host, node) {
            Some(value) => writeln!(out, "zk_{name}\t{value}"),
            None => Ok(()),
        };
    }
    match node.metrics.reading(name) {
        None => Ok(()),
        Some(Reading::Counter(value)) => writeln!(out, "zk_{name}\t{value}"),
        Some(Reading::Summary(summary)) => monitored_summary(out, "", name, summary),
        Some(Reading::Detailed(detailed)) => monitored_detailed(out, "", name, detailed),
        Some(Reading::PerServer(servers)) => {
            let mut all = servers.iter();
            all.try_for_each(|(server, detailed)| monitored_detailed(out, &format!("{}_", server.0), name, detailed))
        }
        Some(Reading::CounterPerNamespace(namespaces)) => {
            let mut all = namespaces.sorted().into_iter();
            all.try_for_each(|(namespace, value)| writeln!(out, "zk_{namespace}_{name}\t{value}"))
        }
        Some(Reading::PerNamespace(namespaces)) => {
            let mut all = namespaces.sorted().into_iter();
            all.try_for_each(|(namespace, summary)| monitored_summary(out, &format!("{namespace}_"), name, summary))
        }
    }
}

fn monitored_detailed(out: &mut String, label: &str, name: &str, detailed: &DetailedSummary) -> fmt::Result {
    monitored_summary(out, label, name, detailed.summary())?;
    for (form, share) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999)] {
        writeln!(out, "zk_{form}_{label}{name}\t{}", detailed.quantile(share))?;
    }
    Ok(())
}

fn monitored_summary(out: &mut String, label: &str, name: &str, summary: &Summary) -> fmt::Result {
    writeln!(out, "zk_avg_{label}{name}\t{}", JavaDouble(summary.average()))?;
    let (min, max, count, sum) = (summary.min(), summary.max(), summary.count(), summary.sum());
    for (form, value) in [("min", min), ("max", max), ("cnt", count), ("sum", sum)] {
        writeln!(out, "zk_{form}_{label}{name}\t{value}")?;
    }
    Ok(())
}

/// Gauges are read where the value is, at the moment of asking.
fn gauge(name: &str, host: &HostView<'_>, node: &NodeView<'_>) -> Option<Number> {
    let metrics = node.metrics;
    let latency = &metrics.request_latency;
    let count = match name {
        "avg_latency" => return Some(Number::Double(latency.average())),
        "connection_drop_probability" => return Some(Number::Double(node.connection_drop_probability)),
        "last_client_response_size" => {
            return Some(Number::Integer(metrics.client_response_size.last));
        }
        "min_client_response_size" => {
            return Some(Number::Integer(metrics.client_response_size.min));
        }
        "max_client_response_size" => {
            return Some(Number::Integer(metrics.client_response_size.max));
        }
        "last_proposal_size" => return Some(Number::Integer(metrics.proposal_size.last)),
        "min_proposal_size" => return Some(Number::Integer(metrics.proposal_size.min)),
        "max_proposal_size" => return Some(Number::Integer(metrics.proposal_size.max)),
        "approximate_data_size" => node.approximate_data_size,
        "auth_failed_count" => metrics.auth_failed_count,
        "ephemerals_count" => node.ephemerals_count,
        "global_sessions" => node.global_sessions,
        "local_sessions" => node.local_sessions,
        "max_file_descriptor_count" => host.max_file_descriptors,
        "max_latency" => latency.max(),
        "min_latency" => latency.min(),
        "non_mtls_local_conn_count" | "non_mtls_remote_conn_count" | "outstanding_tls_handshake" => 0,
        "num_alive_connections" => node.connections_count,
        "open_file_descriptor_count" => host.open_file_descriptors,
        "outstanding_requests" => node.outstanding,
        "packets_received" => metrics.packets_received,
        "packets_sent" => metrics.packets_sent,
        "uptime" => host.uptime_ms,
        "watch_count" => node.watches.in_both_tables,
        "znode_count" => node.node_count,
        _ => ensemble_gauge(name, node)?,
    };
    Some(Number::Integer(i64::try_from(count).unwrap_or(i64::MAX)))
}

fn quota_sums<'a>(name: &str, quotas: &'a QuotaSums) -> Option<&'a BTreeMap<String, i64>> {
    Some(match name {
        "quota_count_limit_per_namespace" => &quotas.count_limit,
        "quota_bytes_limit_per_namespace" => &quotas.bytes_limit,
        "quota_count_usage_per_namespace" => &quotas.count_usage,
        "quota_bytes_usage_per_namespace" => &quotas.bytes_usage,
        _ => return None,
    })
}

fn ensemble_gauge(name: &str, node: &NodeView<'_>) -> Option<u64> {
    let ensemble = node.ensemble.as_ref()?;
    let synced = |is: fn(&LearnerView) -> bool| {
        ensemble.learners.iter().filter(|learner| learner.in_step && is(learner)).count() as u64
    };
    Some(match name {
        "quorum_size" => ensemble.quorum_size,
        "leader_uptime" => ensemble.leader_uptime_ms,
        "learners" => ensemble.learners.len() as u64,
        "pending_syncs" => ensemble.pending_syncs,
        "synced_followers" => synced(|learner| learner.votes),
        "synced_non_voting_followers" => synced(|learner| !learner.votes && !learner.observer),
        // A follower shows it if it serves any.
        "synced_observers" if node.mode == Mode::Follower && !ensemble.serves_observers => return None,
        "synced_observers" => synced(|learner| learner.observer),
        _ => return None,
    })
}

fn environment(out: &mut String, host: &HostView<'_>) -> fmt::Result {
    const NOT_JAVA: &str = "<NA>"; // Java's own word for a property it does not have
    let EnvironmentView { host_name, os_name, os_arch, os_version, user_name, user_home, user_dir, .. } =
        host.environment;
    writeln!(out, "Environment:\nzookeeper.version={}\nhost.name={host_name}", host.version)?;
    for name in ["version", "vendor", "home", "class.path", "library.path", "io.tmpdir", "compiler"] {
        writeln!(out, "java.{name}={NOT_JAVA}")?;
    }
    writeln!(out, "os.name={os_name}\nos.arch={os_arch}\nos.version={os_version}")?;
    writeln!(out, "user.name={user_name}\nuser.home={user_home}\nuser.dir={user_dir}")?;
    let EnvironmentView { memory_free_mb, memory_max_mb, memory_total_mb, ringkeeper_version, log_strategy, .. } =
        host.environment;
    writeln!(out, "os.memory.free={memory_free_mb}MB\nos.memory.max={memory_max_mb}MB")?;
    writeln!(out, "os.memory.total={memory_total_mb}MB\nringkeeper.version={ringkeeper_version}")?;
    writeln!(out, "ringkeeper.log.strategy={log_strategy}")
}

/// `0x` and the session id as Java prints it.
struct Hex(SessionId);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:x}", self.0.0)
    }
}

/// `/127.0.0.1:2181`; of IPv6 all groups, in brackets. Java: `InetSocketAddress.toString` of an unresolved peer.
struct JavaAddress(SocketAddr);

impl fmt::Display for JavaAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.0.port();
        match self.0.ip().to_canonical() {
            IpAddr::V4(address) => write!(f, "/{address}:{port}"),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, g, h, i] = address.segments();
                write!(f, "/[{a:x}:{b:x}:{c:x}:{d:x}:{e:x}:{g:x}:{h:x}:{i:x}]:{port}")
            }
        }
    }
}

/// `0.0`, `0.8086`, `1.0E7`. Java: `Double.toString`.
struct JavaDouble(f64);

impl fmt::Display for JavaDouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.0;
        let with_fraction = |digits: String| {
            if digits.contains('.') { digits } else { digits + ".0" }
        };
        if number == 0.0 || (1e-3..1e7).contains(&number.abs()) {
            return f.write_str(&with_fraction(format!("{number}")));
        }
        let scientific = format!("{number:e}");
        match scientific.split_once('e') {
            Some((digits, exponent)) => {
                write!(f, "{}E{exponent}", with_fraction(digits.to_owned()))
            }
            None => f.write_str(&scientific), // NaN and the infinities
        }
    }
}

/// `Sat Nov 21 09:03:28 UTC 2026`, from milliseconds since 1970. Java: `Date.toString`, in the zone of the server; always
/// UTC here.
struct JavaDate(i64);

impl fmt::Display for JavaDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]; // 1970 began on a Thursday
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let seconds = self.0.div_euclid(1000);
        let (days, second_of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let weekday = WEEKDAYS[days.rem_euclid(7) as usize];
        let (year, month, day) = civil_date(days);
        let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
        write!(f, "{weekday} {} {day:02} {hour:02}:{minute:02}:{second:02} UTC {year}", MONTHS[month - 1])
    }
}

/// Year, month (from 1) and day of a day counted from 1970-01-01, in the Gregorian calendar.
fn civil_date(days: i64) -> (i64, usize, i64) {
    // Counted in years that begin in March, so that the leap day is the last of its year.
    const DAYS_TO_MARCH_OF_YEAR_0: i64 = 719_468;
    const DAYS_IN_400_YEARS: i64 = 146_097;
    let days = days + DAYS_TO_MARCH_OF_YEAR_0;
    let (era, day_of_era) = (days.div_euclid(DAYS_IN_400_YEARS), days.rem_euclid(DAYS_IN_400_YEARS));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month as usize, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_read_like_java() {
        for (number, text) in [
            (0.0, "0.0"),
            (3.0, "3.0"),
            (0.8086, "0.8086"),
            (76.75, "76.75"),
            (29.549, "29.549"),
            (9_999_999.5, "9999999.5"),
            (1e7, "1.0E7"),
            (12_345_678.25, "1.234567825E7"),
            (0.0001, "1.0E-4"),
        ] {
            assert_eq!(JavaDouble(number).to_string(), text);
        }
    }

    #[test]
    fn dates_read_like_java() {
        for (ms, text) in [
            (0, "Thu Jan 01 00:00:00 UTC 1970"),
            (1_795_251_808_999, "Sat Nov 21 09:03:28 UTC 2026"),
            (951_782_400_000, "Tue Feb 29 00:00:00 UTC 2000"),
            (4_107_542_399_000, "Sun Feb 28 23:59:59 UTC 2100"),
            (-1, "Wed Dec 31 23:59:59 UTC 1969"),
        ] {
            assert_eq!(JavaDate(ms).to_string(), text);
        }
        let _ = (JavaDate(i64::MAX).to_string(), JavaDate(i64::MIN).to_string());
    }

    #[test]
    fn addresses_read_like_java() {
        for (address, text) in [
            ("127.0.0.1:51332", "/127.0.0.1:51332"),
            ("[::1]:7", "/[0:0:0:0:0:0:0:1]:7"),
            ("[2001:DB8::A]:1", "/[2001:db8:0:0:0:0:0:a]:1"),
            ("[::ffff:10.0.0.1]:1", "/10.0.0.1:1"),
        ] {
            assert_eq!(JavaAddress(address.parse().unwrap()).to_string(), text);
        }
    }

    #[test]
    fn the_whitelist() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (list, unknown) = Whitelist::new(&names(&["ruok", "reqs", "MNTR"]), false);
        assert_eq!(unknown, ["reqs", "MNTR"]);
        assert!(
            list.allows(Word::Ruok) && list.allows(Word::Srvr) && !list.allows(Word::Mntr) && !list.allows(Word::Isro)
        );
        assert!(Whitelist::new(&[], true).0.allows(Word::Isro));
        let (all, unknown) = Whitelist::new(&names(&["*"]), false);
        assert!(unknown.is_empty() && Word::ALL.iter().all(|word| all.allows(*word)));
        assert_eq!(needs(Word::Cons, &list), Needs::default());
        assert!(needs(Word::Cons, &all).connections);
    }
}
