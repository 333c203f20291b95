//! The four-letter words against what a Java 3.9.3 server sent in the same state, byte for byte.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use ringkeeper::core::connection::LastOperation;
use ringkeeper::core::ensemble_view::EnsembleView;
use ringkeeper::core::metrics::{DetailedSummary, Metrics, Summary};
use ringkeeper::core::tree::quota::QuotaSums;
use ringkeeper::core::types::{ServerId, SessionId, Zxid};
use ringkeeper::core::view::{
    Buckets, ConfigurationView, ConnectionView, DirectorySizes, EnvironmentView, HostView, LogSegments,
    MemberConfigurationView, Mode, NodeView, SessionView, WatchCounts,
};
use ringkeeper::core::zab::catch_up::SyncKind;
use ringkeeper::core::zab::catch_up::SyncReport;
use ringkeeper::core::zab::leader::LearnerView;
use ringkeeper::core::zab::membership::Membership;
use ringkeeper::shell::four_letter::{Answer, Effect, Whitelist, answer};
use ringkeeper::wire::client::OpCode;
use ringkeeper::wire::frame::FourLetterWord as Word;

macro_rules! golden {
    ($name:literal) => {
        include_str!(concat!("data/four_letter/", $name, ".txt"))
    };
}

const VERSION: &str = "3.9.3-c26634f34490bb0ea7a09cc51e05ede3b4e320ee, built on 2024-10-17 23:21 UTC";
const EARLY: SessionId = SessionId(0x100001b13050000);
const LATE: SessionId = SessionId(0x100001b13050001);
/// Sat Nov 21 09:20:20 UTC 2026.
const EXPIRY_MS: i64 = 1_795_252_820_000;

fn all_words() -> Whitelist {
    Whitelist::new(&["*".to_owned()], false).0
}

fn host() -> HostView<'static> {
    HostView {
        version: VERSION,
        uptime_ms: 12342,
        open_file_descriptors: 74,
        max_file_descriptors: 20000,
        trace_mask: 306,
        configuration: ConfigurationView {
            client_port: 23181,
            secure_client_port: -1,
            data_dir: "/var/lib/zookeeper/version-2",
            log_dir: "/var/lib/zookeeper-log/version-2",
            tick_time_ms: 2000,
            max_client_cnxns: 60,
            min_session_timeout_ms: 4000,
            max_session_timeout_ms: 40000,
            listen_backlog: -1,
            server_id: 0,
            ensemble: None,
        },
        log_segments: LogSegments {
            in_use: 1,
            spare: 1,
            spare_bytes: 67_108_864,
            zero_filled: 2,
            ..LogSegments::default()
        },
        not_serving: None,
        directory_sizes: DirectorySizes { data_bytes: 478, log_bytes: 67_108_880 },
        environment: EnvironmentView {
            host_name: "localhost",
            os_name: "Linux",
            os_arch: "amd64",
            os_version: "6.18.0",
            user_name: "root",
            user_home: "/var/lib/zookeeper",
            user_dir: "/var/lib/zk-test",
            memory_free_mb: 218,
            memory_max_mb: 256,
            memory_total_mb: 256,
            ringkeeper_version: "0.1.0",
            log_strategy: "dsync",
        },
    }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// The three connections of the captured server, the last of which asks.
fn connections(asking_port: u16) -> Vec<ConnectionView> {
    let session = SessionView {
        id: LATE,
        last_operation: LastOperation::Of(OpCode::GetData),
        established_ms: 1_795_252_811_035,
        timeout_ms: 10000,
        last_cxid: 1,
        last_zxid: 5,
        last_response_ms: 1_778_817,
        last_latency_ms: 9,
        min_latency_ms: 0,
        average_latency_ms: 16,
        max_latency_ms: 24,
    };
    let creator = SessionView {
        id: EARLY,
        last_operation: LastOperation::Of(OpCode::Create2),
        established_ms: 1_795_252_809_668,
        last_cxid: 0x9f,
        last_zxid: 0x9b,
        last_response_ms: 1_781_339,
        last_latency_ms: 0,
        average_latency_ms: 8,
        max_latency_ms: 173,
        ..session
    };
    let connection = |port, packets, session| ConnectionView {
        peer: address(port),
        asks: false,
        queued: 0,
        received: packets,
        sent: packets,
        session,
    };
    let asking = ConnectionView { asks: true, received: 1, sent: 0, ..connection(asking_port, 0, None) };
    vec![connection(43776, 2, Some(session)), connection(43762, 160, Some(creator)), asking]
}

fn node(metrics: &Metrics) -> NodeView<'_> {
    NodeView {
        mode: Mode::Standalone,
        metrics,
        zxid: Zxid(0x9b),
        outstanding: 0,
        connection_drop_probability: 0.0,
        connections_count: 3,
        global_sessions: 2,
        local_sessions: 0,
        node_count: 158,
        ephemerals_count: 1,
        approximate_data_size: 4565,
        unmoved_slots: 0,
        watches: WatchCounts { connections: 2, paths: 2, total: 3, in_both_tables: 4 },
        connections: connections(36242),
        sessions_by_expiry: Buckets(vec![
            (EXPIRY_MS, vec![]),
            (EXPIRY_MS + 2000, vec![LATE]),
            (EXPIRY_MS + 4000, vec![EARLY]),
        ]),
        connections_by_expiry: Buckets(vec![
            (EXPIRY_MS + 2000, vec![(address(43776), LATE)]),
            (EXPIRY_MS + 12000, vec![(address(43762), EARLY), (address(36250), SessionId(0))]),
        ]),
        ephemerals: vec![(EARLY, vec!["/app/eph".to_owned()])],
        watch_list: vec![(LATE, "/app/cfg".to_owned()), (EARLY, "/app/eph".to_owned()), (EARLY, "/app/cfg".to_owned())],
        digests: vec![(Zxid(0x80), 276_005_171_514)],
        local_sessions_by_expiry: None,
        timeouts: Vec::new(),
        quotas: QuotaSums::default(),
        ensemble: None,
        membership: None,
    }
}

fn say(word: Word, node: Option<&NodeView<'_>>) -> Answer {
    answer(word, None, &all_words(), &host(), node)
}

fn text(word: Word, node: &NodeView<'_>) -> String {
    say(word, Some(node)).text
}

trait Record {
    fn record_one(&mut self, value: u64);
}

impl Record for Summary {
    fn record_one(&mut self, value: u64) {
        self.record(value);
    }
}

impl Record for DetailedSummary {
    fn record_one(&mut self, value: u64) {
        self.record(value);
    }
}

/// Records `count` values with these extremes and this sum.
fn fill(summary: &mut impl Record, count: u64, sum: u64, min: u64, max: u64) {
    let middle = count.saturating_sub(2);
    if count > 1 {
        summary.record_one(min);
    }
    summary.record_one(max);
    let rest = if count > 1 { sum - min - max } else { 0 };
    for index in 0..middle {
        summary.record_one(rest / middle + u64::from(index < rest % middle));
    }
}

/// The state of the captured server.
fn metrics() -> Metrics {
    let mut metrics = Metrics {
        packets_received: 174,
        packets_sent: 173,
        bytes_received_count: 11130,
        response_bytes: 6495,
        response_packet_cache_hits: 1,
        response_packet_cache_misses: 2,
        prep_processor_request_queued: 162,
        outstanding_changes_queued: 306,
        outstanding_changes_removed: 306,
        connection_request_count: 2,
        sync_processor_request_queued: 162,
        ..Metrics::default()
    };
    for bytes in [16, 89, 40] {
        metrics.client_response_size.record(bytes);
    }
    fill(&mut metrics.request_latency, 162, 1439, 0, 173);
    fill(&mut metrics.proposal_process_time, 162, 45, 0, 5);
    fill(&mut metrics.connection_token_deficit, 2, 0, 0, 0);
    fill(&mut metrics.sync_processor_queue_size, 163, 0, 0, 0);
    fill(&mut metrics.prep_processor_queue_size, 163, 0, 0, 0);
    fill(&mut metrics.fsynctime, 155, 265, 0, 25);
    fill(&mut metrics.snapshottime, 1, 5, 5, 5);
    fill(&mut metrics.prep_process_time, 162, 158, 0, 40);
    fill(&mut metrics.dbinittime, 1, 428, 428, 428);
    fill(&mut metrics.sync_processor_batch_size, 155, 155, 1, 1);
    fill(&mut metrics.sync_process_time, 155, 77, 0, 57);
    fill(&mut metrics.startup_snap_load_time, 1, 25, 25, 25);
    fill(&mut metrics.prep_processor_queue_time_ms, 162, 136, 0, 59);
    fill(&mut metrics.updatelatency, 155, 1373, 0, 173);
    fill(&mut metrics.request_throttle_queue_time_ms, 162, 142, 0, 41);
    fill(&mut metrics.sync_processor_queue_and_flush_time_ms, 155, 679, 0, 127);
    fill(&mut metrics.propagation_latency, 155, 980, 0, 129);
    fill(&mut metrics.sync_processor_queue_time_ms, 162, 284, 0, 127);
    fill(&mut metrics.sync_processor_queue_flush_time_ms, 155, 328, 0, 28);
    for latency in [1, 2, 2, 3, 10, 11, 37] {
        metrics.readlatency.record(latency);
    }
    for bytes in [0, 0, 1, 2] {
        metrics.node_read("/app/cfg", bytes);
    }
    metrics.node_written("/app", 0); // 4 bytes in all
    for number in 0..152 {
        metrics.node_written("/app/c000", if number < 43 { 20 } else { 21 }); // 29 or 30
    }
    metrics
}

#[test]
fn summaries_of_the_server() {
    let mut metrics = Metrics { packets_received: 168, packets_sent: 167, ..Metrics::default() };
    fill(&mut metrics.request_latency, 162, 1439, 0, 173);
    assert_eq!(text(Word::Srvr, &node(&metrics)), golden!("srvr"));
    metrics.packets_received = 169;
    metrics.packets_sent = 168;
    let stat = NodeView { connections: connections(36278), ..node(&metrics) };
    assert_eq!(text(Word::Stat, &stat), golden!("stat"));

    let reset = say(Word::Srst, Some(&node(&metrics)));
    assert_eq!((reset.text.as_str(), reset.effect), (golden!("srst"), Effect::ResetServerStats));
    metrics.reset_server_stats();
    (metrics.packets_received, metrics.packets_sent) = (3, 3);
    assert_eq!(text(Word::Srvr, &node(&metrics)), golden!("srvr_after_srst"));
}

#[test]
fn other_modes() {
    let mut metrics = Metrics { packets_received: 1, ..Metrics::default() };
    let read_only = NodeView {
        mode: Mode::ReadOnly,
        zxid: Zxid(0x1_0000_0017),
        connections_count: 1,
        node_count: 6,
        connections: vec![ConnectionView { peer: address(52078), ..connections(1)[2] }],
        ..node(&metrics)
    };
    assert_eq!(text(Word::Srvr, &read_only), golden!("readonly.srvr"));
    assert_eq!(text(Word::Isro, &read_only), golden!("readonly.isro"));
    metrics.packets_received = 2;
    metrics.packets_sent = 1;
    let read_only = NodeView {
        metrics: &metrics,
        mode: Mode::ReadOnly,
        zxid: Zxid(0x1_0000_0017),
        connections_count: 1,
        node_count: 6,
        connections: vec![ConnectionView { peer: address(52078), ..connections(1)[2] }],
        ..node(&metrics)
    };
    assert_eq!(text(Word::Stat, &read_only), golden!("readonly.stat"));

    let mut metrics = Metrics { packets_received: 9, packets_sent: 8, ..Metrics::default() };
    fill(&mut metrics.request_latency, 4, 26, 4, 10);
    for bytes in [48, 99] {
        metrics.proposed(bytes);
    }
    let leader = NodeView {
        mode: Mode::Leader,
        zxid: Zxid(0x1_0000_0009),
        connections_count: 2,
        node_count: 7,
        ..node(&metrics)
    };
    assert_eq!(text(Word::Srvr, &leader), golden!("leader.srvr"));
}

#[test]
fn connections_before_and_after_their_statistics_are_reset() {
    let metrics = Metrics::default();
    let mut node = node(&metrics);
    assert_eq!(text(Word::Cons, &node), golden!("cons"));
    let reset = say(Word::Crst, Some(&node));
    assert_eq!((reset.text.as_str(), reset.effect), (golden!("crst"), Effect::ResetConnectionStats));
    node.connections = connections(36420);
    for connection in &mut node.connections[..2] {
        (connection.received, connection.sent) = (0, 0);
        connection.session = connection.session.map(|session| SessionView {
            last_operation: LastOperation::Nameless,
            last_cxid: -1,
            last_zxid: -1,
            last_response_ms: 0,
            last_latency_ms: 0,
            min_latency_ms: 0,
            average_latency_ms: 0,
            max_latency_ms: 0,
            ..session
        });
    }
    assert_eq!(text(Word::Cons, &node), golden!("cons_after_crst"));
}

#[test]
fn configuration_directories_sessions_and_digests() {
    let metrics = Metrics::default();
    let node = node(&metrics);
    assert_eq!(text(Word::Conf, &node), golden!("conf"));
    assert_eq!(text(Word::Dirs, &node), golden!("dirs"));
    assert_eq!(text(Word::Dump, &node), golden!("dump"));
    assert_eq!(text(Word::Hash, &node), golden!("hash"));
    assert_eq!(text(Word::Ruok, &node), golden!("ruok"));
    assert_eq!(text(Word::Isro, &node), golden!("isro"));
}

#[test]
fn watches() {
    let metrics = Metrics::default();
    let mut node = node(&metrics);
    assert_eq!(text(Word::Wchs, &node), golden!("wchs"));
    assert_eq!(text(Word::Wchc, &node), golden!("wchc"));
    node.watch_list.swap(0, 1);
    assert_eq!(text(Word::Wchp, &node), golden!("wchp"));
    node.watch_list.clear();
    assert_eq!(text(Word::Wchc, &node), "\n");
    assert_eq!(text(Word::Wchp, &node), "\n");
}

#[test]
fn the_trace_mask() {
    let metrics = Metrics::default();
    let node = node(&metrics);
    assert_eq!(text(Word::Gtmk, &node), golden!("gtmk"));
    let set = answer(Word::Stmk, Some(250), &all_words(), &host(), Some(&node));
    assert_eq!((set.text.as_str(), set.effect), (golden!("stmk_250"), Effect::SetTraceMask(250)));
    let after = HostView { trace_mask: 250, ..host() };
    assert_eq!(answer(Word::Gtmk, None, &all_words(), &after, Some(&node)).text, golden!("gtmk_after"));
    // Too short: the connection is closed without a word.
    assert_eq!(say(Word::Stmk, Some(&node)), Answer { text: String::new(), effect: Effect::None });
}

#[test]
fn the_environment_has_the_lines_of_java_and_two_of_ours() {
    let metrics = Metrics::default();
    let ours = text(Word::Envi, &node(&metrics));
    let mut java: Vec<String> = golden!("envi").lines().map(str::to_owned).collect();
    for line in java.iter_mut().filter(|line| line.starts_with("java.")) {
        let name = line.split('=').next().unwrap_or_default();
        *line = format!("{name}=<NA>");
    }
    java.push("ringkeeper.version=0.1.0".to_owned());
    java.push("ringkeeper.log.strategy=dsync".to_owned());
    assert_eq!(ours.lines().collect::<Vec<_>>(), java);
}

#[test]
fn every_line_of_mntr() {
    let metrics = metrics();
    let node = node(&metrics);
    let ours = text(Word::Mntr, &node);
    // Percentiles depend on every single value of the captured server; those of `readlatency` are reproduced.
    let percentiles = ["zk_p50_", "zk_p95_", "zk_p99_", "zk_p999_"];
    let comparable = |line: &str| {
        let free = percentiles.iter().any(|form| line.starts_with(form)) && !line.contains("_readlatency");
        let name = line.split('\t').next().unwrap_or_default();
        if free { name.to_owned() } else { line.to_owned() }
    };
    let ours_lines: BTreeSet<String> = ours.lines().map(comparable).collect();
    let java: BTreeSet<String> = golden!("mntr").lines().map(comparable).collect();
    assert_eq!(ours_lines.len(), ours.lines().count(), "a line stands twice");
    assert_eq!(java.difference(&ours_lines).collect::<Vec<_>>(), Vec::<&String>::new(), "Java has these");
    assert_eq!(
        ours_lines.difference(&java).collect::<Vec<_>>(),
        [
            "zk_fsync_threshold_exceed_count\t0",
            "zk_ringkeeper_force_sync_disabled\t0",
            "zk_ringkeeper_log_rolls\t0",
            "zk_ringkeeper_log_rolls_that_waited\t0",
            "zk_ringkeeper_log_segments\t1",
            "zk_ringkeeper_log_segments_recycled\t0",
            "zk_ringkeeper_log_segments_refused\t0",
            "zk_ringkeeper_log_segments_zero_filled\t2",
            "zk_ringkeeper_log_spare_bytes\t67108864",
            "zk_ringkeeper_log_spare_segments\t1",
            "zk_ringkeeper_log_write_in_flight_ms\t0",
            "zk_ringkeeper_unmoved_slots\t0",
            "zk_ringkeeper_writes_refused_disk_full\t0"
        ]
    );
    assert!(ours.starts_with(&format!("zk_version\t{VERSION}\nzk_server_state\tstandalone\n")));
}

#[test]
fn a_server_that_does_not_serve() {
    for (word, expected) in [
        (Word::Srvr, golden!("not_serving.srvr")),
        (Word::Mntr, golden!("not_serving.mntr")),
        (Word::Hash, golden!("not_serving.hash")),
        (Word::Isro, golden!("not_serving.isro")),
        (Word::Ruok, golden!("not_serving.ruok")),
        (Word::Gtmk, "306"),
    ] {
        assert_eq!(say(word, None).text, expected, "{}", word.name());
    }
    // Nothing to reset, and nothing is.
    assert_eq!(say(Word::Srst, None).effect, Effect::None);
    for word in
        [Word::Stat, Word::Cons, Word::Crst, Word::Dirs, Word::Dump, Word::Conf, Word::Wchs, Word::Wchc, Word::Wchp]
    {
        assert_eq!(say(word, None).text, golden!("not_serving.srvr"), "{}", word.name());
    }
    assert_eq!(say(Word::Envi, None).text.lines().count(), 21);
}

#[test]
fn a_member_that_does_not_serve_says_why_behind_the_sentence_that_everybody_knows() {
    let why =
        "Not serving for 12 s (it starts): no leader is elected; waiting for server 2: b:3888: Connection refused";
    let host = HostView { not_serving: Some(why.to_owned()), ..host() };
    let say = |word| answer(word, None, &all_words(), &host, None).text;
    assert_eq!(say(Word::Srvr), format!("{}{why}\n", golden!("not_serving.srvr")));
    assert_eq!(say(Word::Mntr), golden!("not_serving.mntr"));
    assert_eq!(say(Word::Stat), golden!("not_serving.srvr"));
}

/// Servers 1 to 3 vote, 4 observes; 3 leads. As captured.
fn in_ensemble(mode: Mode) -> EnsembleView {
    let sync = |kind| Some(SyncReport { kind, bytes: 640, took_ms: Some(41) });
    let learner = |id, kind| LearnerView {
        server: ServerId(id),
        observer: id == 4,
        votes: id != 4,
        in_step: true,
        behind_transactions: (id != 4).then_some(id as u64),
        behind_bytes: 0,
        sync: sync(kind),
    };
    let common = EnsembleView { quorum_size: 3, election_ms: Some(559), ..EnsembleView::default() };
    match mode {
        Mode::Leader => EnsembleView {
            peer_state: "leading - broadcast".to_owned(),
            leader_uptime_ms: 2206,
            learners: vec![learner(1, SyncKind::Diff), learner(2, SyncKind::Snap), learner(4, SyncKind::Trunc)],
            ..common
        },
        Mode::Follower => {
            EnsembleView { peer_state: "following - broadcast".to_owned(), sync: sync(SyncKind::Diff), ..common }
        }
        Mode::Observer => EnsembleView {
            peer_state: "observing - broadcast".to_owned(),
            sync: sync(SyncKind::Snap),
            observer_master: Some(ServerId(3)),
            ..common
        },
        Mode::ReadOnly => EnsembleView { peer_state: "looking".to_owned(), ..common },
        Mode::Standalone => panic!("not in an ensemble"),
    }
}

fn names(text: &str) -> BTreeSet<&str> {
    text.lines().filter_map(|line| line.split('\t').next()).collect()
}

#[test]
fn mntr_of_each_role_has_what_java_has_there_and_nothing_of_other_roles() {
    let metrics = Metrics::default();
    for (mode, java) in [
        (Mode::Leader, golden!("leader.mntr")),
        (Mode::Follower, golden!("follower.mntr")),
        (Mode::Observer, golden!("observer.mntr")),
        (Mode::ReadOnly, golden!("readonly.mntr")),
    ] {
        let ours = text(Word::Mntr, &NodeView { mode, ensemble: Some(in_ensemble(mode)), ..node(&metrics) });
        // Per learner and per namespace: what was recorded there, and not here.
        let elsewhere = |name: &&&str| name.contains("learner_handler_qp") || name.ends_with("_per_namespace");
        let java_names = names(java);
        let java_names: BTreeSet<&str> = java_names.iter().filter(|name| !elsewhere(name)).copied().collect();
        let missing: Vec<_> = java_names.difference(&names(&ours)).copied().collect();
        assert_eq!(missing, [""; 0], "{mode:?}");
        let ours_names = names(&ours);
        assert_eq!(ours_names.len(), ours.lines().count(), "{mode:?}: a line stands twice");
        let is_own =
            |name: &&&str| name.starts_with("zk_ringkeeper_") || name.ends_with("_fsync_threshold_exceed_count");
        let extra: Vec<&str> = ours_names.iter().filter(|name| !is_own(name)).copied().collect();
        let extra: Vec<&str> = extra.into_iter().filter(|name| !java_names.contains(name)).collect();
        assert_eq!(extra, if mode == Mode::Leader { vec!["zk_followers"] } else { vec![] }, "{mode:?}");
        // Those that say what the role is, whole and in Java's places.
        let head = |text: &str| {
            let head = text.lines().take(4).filter(|line| !line.starts_with("zk_version"));
            head.filter(|line| line.contains("_state\t") || line.contains("_id\t"))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(head(&ours), head(java), "{mode:?}");
        let roles = ["quorum_size", "learners", "synced_", "pending_syncs", "leader_uptime"];
        let told = |text: &str| {
            let told = text.lines().filter(|line| roles.iter().any(|role| line.starts_with(&format!("zk_{role}"))));
            told.map(str::to_owned).collect::<BTreeSet<_>>()
        };
        assert_eq!(told(&ours), told(java), "{mode:?}");
    }
}

#[test]
fn mntr_tells_how_far_behind_learners_are_and_how_they_came_to_their_history() {
    let metrics = Metrics::default();
    let ours = |mode| {
        let text = text(Word::Mntr, &NodeView { mode, ensemble: Some(in_ensemble(mode)), ..node(&metrics) });
        let (_, ours) = text.split_once("zk_ringkeeper_unmoved_slots\t0\n").unwrap();
        ours.to_owned()
    };
    assert_eq!(
        ours(Mode::Follower),
        "zk_ringkeeper_config_file_stale\t0\nzk_ringkeeper_last_election_ms\t559\nzk_ringkeeper_last_sync_kind\tDIFF\n\
         zk_ringkeeper_last_sync_bytes\t640\nzk_ringkeeper_last_sync_ms\t41\n"
    );
    let leader = ours(Mode::Leader);
    for line in [
        "zk_followers\t2",
        "zk_ringkeeper_config_file_stale\t0",
        "zk_ringkeeper_learner_1_in_step\t1",
        "zk_ringkeeper_learner_2_behind_transactions\t2",
        "zk_ringkeeper_learner_2_behind_bytes\t0",
        "zk_ringkeeper_learner_2_sync_kind\tSNAP",
        "zk_ringkeeper_learner_4_sync_bytes\t640",
        "zk_ringkeeper_learner_4_sync_ms\t41",
    ] {
        assert!(leader.lines().any(|ours| ours == line), "{line} in\n{leader}");
    }
    assert!(!leader.contains("ack_latency"), "no voter has acknowledged anything");
    assert!(!leader.contains("learner_4_behind_transactions"), "an observer acknowledges nothing");
    assert!(!leader.contains("last_sync"), "it had its history");
}

#[test]
fn conf_and_dump_of_members() {
    let metrics = Metrics::default();
    let text_of_membership: String = (1..=4)
        .map(|id: u16| {
            let role = if id == 4 { "observer" } else { "participant" };
            format!("server.{id}=127.0.0.1:{}:{}:{role};127.0.0.1:{}\n", 23310 + id, 23320 + id, 23290 + id)
        })
        .collect();
    let membership = Membership::parse(format!("{text_of_membership}version=100000000").as_bytes()).unwrap();
    let mut host = host();
    host.configuration = ConfigurationView {
        client_port: 23293,
        data_dir: "/var/lib/zookeeper3/version-2",
        log_dir: "/var/lib/zookeeper3/version-2",
        server_id: 3,
        ensemble: Some(MemberConfigurationView {
            init_limit: 10,
            sync_limit: 5,
            election_port: 23323,
            quorum_port: 23313,
            observer: false,
        }),
        ..host.configuration
    };
    host.directory_sizes = DirectorySizes { data_bytes: 67_109_602, log_bytes: 67_109_602 };
    let say = |node: &NodeView<'_>| answer(Word::Conf, None, &all_words(), &host, Some(node)).text;
    let leader = NodeView { mode: Mode::Leader, membership: Some(&membership), ..node(&metrics) };
    assert_eq!(say(&leader), golden!("leader.conf"));
    assert_eq!(say(&NodeView { mode: Mode::ReadOnly, ..node(&metrics) }), golden!("readonly.conf"));

    let session = SessionId(0x100_001b_28cd_0000);
    let follower = NodeView {
        mode: Mode::Follower,
        timeouts: vec![(session, 10_000)],
        ephemerals: vec![(session, vec!["/e/x0000000000".to_owned()])],
        connections_by_expiry: Buckets(vec![(
            EXPIRY_MS + 12_000,
            vec![(address(39750), SessionId(0)), (address(39708), session)],
        )]),
        ..node(&metrics)
    };
    assert_eq!(text(Word::Dump, &follower), golden!("follower.dump"));

    // With local sessions, even when there are none. Java: `LearnerSessionTracker.dumpSessions`, `LeaderSessionTracker`.
    let local = |local| Some(Buckets(local));
    let follower = NodeView { local_sessions_by_expiry: local(vec![(EXPIRY_MS, vec![SessionId(7)])]), ..follower };
    let java = golden!("follower.dump").split_once('\n').unwrap();
    let date = "Sat Nov 21 09:20:20 UTC 2026";
    let ours = format!("{}\nLocal Session Sets (1)/(1):\n1 expire at {date}:\n\t0x7\n{}", java.0, java.1);
    assert_eq!(text(Word::Dump, &follower), ours);
    let leader = NodeView { mode: Mode::Leader, local_sessions_by_expiry: local(vec![]), ..node(&metrics) };
    assert!(
        text(Word::Dump, &leader)
            .starts_with("SessionTracker dump:\nLocal Session Sets (0)/(0):\nGlobal Session Sets (3)/(2):\n")
    );
}

#[test]
fn the_default_whitelist_answers_srvr_and_refuses_the_rest() {
    let (list, _) = Whitelist::new(&[], false);
    let metrics = Metrics::default();
    let node = node(&metrics);
    let refusals = golden!("default_whitelist_refusals");
    for word in [Word::Ruok, Word::Mntr, Word::Isro, Word::Stmk, Word::Conf] {
        let refused = answer(word, Some(1), &list, &host(), Some(&node));
        assert!(refusals.contains(&format!("== {}\n{}", word.name(), refused.text)), "{}", refused.text);
        assert_eq!(refused.effect, Effect::None);
    }
    assert!(answer(Word::Srvr, None, &list, &host(), Some(&node)).text.starts_with("Zookeeper version: "));
    assert_eq!(say(Word::TelnetClose, Some(&node)).text, "");
}

#[test]
fn quotas_are_labelled_with_their_namespace_as_java_does() {
    let mut metrics = Metrics::default();
    metrics.quota_exceeded("/app/a");
    metrics.quota_exceeded("/app/b");
    let sums = |pairs: &[(&str, i64)]| pairs.iter().map(|(name, sum)| ((*name).to_owned(), *sum)).collect();
    let quotas = QuotaSums {
        count_limit: sums(&[("app", 5), ("other", -1)]),
        bytes_limit: sums(&[("app", -1)]),
        count_usage: sums(&[("app", 3)]),
        bytes_usage: sums(&[("app", 77)]),
    };
    let shown = text(Word::Mntr, &NodeView { quotas, ..node(&metrics) });
    let lines: Vec<&str> = shown.lines().filter(|line| line.contains("_quota_")).collect();
    // From 3.9.5, in the order of the catalogue.
    let expected = [
        "zk_app_quota_bytes_limit_per_namespace\t-1",
        "zk_app_quota_bytes_usage_per_namespace\t77",
        "zk_app_quota_count_limit_per_namespace\t5",
        "zk_other_quota_count_limit_per_namespace\t-1",
        "zk_app_quota_count_usage_per_namespace\t3",
        "zk_app_quota_exceeded_error_per_namespace\t2",
    ];
    assert_eq!(lines, expected);
}
