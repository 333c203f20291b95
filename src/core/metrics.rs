//! What the server counts. Owned by the node, so recording is an addition: no atomics, no locks, no allocation.
//!
//! Fields are named as in ZooKeeper's catalogue, so `metrics.updatelatency.record(ms)` is what `zk_avg_updatelatency` and
//! the dashboards show. Values a node can compute when asked (sizes of its tables) are not kept here but in
//! [`super::view::NodeView`]. What has no meaning here (Java's processor queues, say) is present and stays 0, because
//! collectors look for it; what stands once for each learner there (the packets in its queue, `learner_handler_qp_*`) is left
//! out.
//!
//! Not here, on purpose: formatting (`shell/four_letter.rs`). Java: `ServerMetrics`, `ServerStats`, `BufferStats`.

pub mod catalogue;

use std::collections::BTreeMap;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use hdrhistogram::Histogram;

use super::types::{Now, ServerId};
use super::zab::catch_up::SyncKind;

/// Namespaces (first parts of paths) with a summary of their own; later ones share the one called [`OTHER_NAMESPACES`].
pub const NAMESPACES_MAX: usize = 100;
/// A longer first part is counted with the others, so that the table's memory is bounded.
pub const NAMESPACE_BYTES_MAX: usize = 128;
pub const OTHER_NAMESPACES: &str = "other";

/// Java adds the size of a `Stat` to every read: `DataTree.STAT_OVERHEAD_BYTES`.
const READ_OVERHEAD_BYTES: u64 = 68;
const HOUR_MS: u64 = 3_600_000;

/// Count, sum and extremes of what was recorded. Java: `AvgMinMaxCounter`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    count: u64,
    sum: u64,
    min: u64,
    max: u64,
}

impl Summary {
    #[inline]
    pub fn record(&mut self, value: u64) {
        self.min = if self.count == 0 { value } else { self.min.min(value) };
        self.max = self.max.max(value);
        self.count += 1;
        self.sum = self.sum.saturating_add(value);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// 0 when nothing was recorded.
    pub fn min(&self) -> u64 {
        self.min
    }

    pub fn max(&self) -> u64 {
        self.max
    }

    /// Rounded half up to four decimals; 0 when nothing was recorded.
    pub fn average(&self) -> f64 {
        let count = u128::from(self.count.max(1));
        let ten_thousandths = (u128::from(self.sum) * 10_000 + count / 2) / count;
        ten_thousandths as f64 / 10_000.0
    }
}

/// A summary with percentiles: exact below 256, within 1 % above, an hour (in milliseconds) at most.
/// Java: `AvgMinMaxPercentileCounter`, which keeps a random sample instead.
#[derive(Clone, Debug)]
pub struct DetailedSummary {
    summary: Summary,
    histogram: Histogram<u64>,
}

impl Default for DetailedSummary {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, HOUR_MS, 2).expect("constant bounds that hdrhistogram accepts");
        DetailedSummary { summary: Summary::default(), histogram }
    }
}

impl DetailedSummary {
    #[inline]
    pub fn record(&mut self, value: u64) {
        self.summary.record(value);
        self.histogram.saturating_record(value);
    }

    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// The smallest recorded value that at least this share (0 to 1) of all does not exceed; 0 when there is none.
    pub fn quantile(&self, share: f64) -> u64 {
        self.histogram.value_at_quantile(share).min(self.summary.max)
    }

    fn reset(&mut self) {
        self.summary = Summary::default();
        self.histogram.reset();
    }
}

/// Last and extreme sizes of something; -1 before the first. Java: `BufferStats`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub last: i64,
    pub min: i64,
    pub max: i64,
}

impl Default for Sizes {
    fn default() -> Self {
        Sizes { last: -1, min: -1, max: -1 }
    }
}

impl Sizes {
    #[inline]
    pub fn record(&mut self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.last = bytes;
        self.min = if self.min < 0 { bytes } else { self.min.min(bytes) };
        self.max = self.max.max(bytes);
    }
}

/// Something for each of the first [`NAMESPACES_MAX`] namespaces seen. Java: `AvgMinMaxCounterSet`, `SimpleCounterSet`, unbounded.
#[derive(Clone, Debug, Default)]
pub struct PerNamespace<T> {
    all: HashMap<Box<str>, T, FixedState>,
}

impl<T: Default> PerNamespace<T> {
    /// Changes what is kept for the first part of `path`; the root belongs to no namespace.
    fn update(&mut self, path: &str, change: impl FnOnce(&mut T)) {
        let namespace = path.split('/').nth(1).unwrap_or_default();
        if namespace.is_empty() {
            return;
        }
        if let Some(kept) = self.all.get_mut(namespace) {
            return change(kept);
        }
        let full = self.all.len() >= NAMESPACES_MAX || namespace.len() > NAMESPACE_BYTES_MAX;
        let namespace = if full { OTHER_NAMESPACES } else { namespace };
        change(self.all.entry_ref(namespace).or_default());
    }

    /// The names stay: who counts by them goes on from 0. Java: `SimpleCounterSet.reset`.
    fn reset(&mut self) {
        self.all.values_mut().for_each(|kept| *kept = T::default());
    }

    /// By name.
    pub fn sorted(&self) -> Vec<(&str, &T)> {
        let mut all: Vec<_> = self.all.iter().map(|(name, kept)| (name.as_ref(), kept)).collect();
        all.sort_unstable_by_key(|(name, _)| *name);
        all
    }
}

/// The present value of something that is kept.
#[derive(Clone, Copy, Debug)]
pub enum Reading<'a> {
    Counter(u64),
    Summary(&'a Summary),
    Detailed(&'a DetailedSummary),
    PerNamespace(&'a PerNamespace<Summary>),
    CounterPerNamespace(&'a PerNamespace<u64>),
    PerServer(&'a BTreeMap<ServerId, DetailedSummary>),
}

macro_rules! metrics {
    (counters { $($counter:ident,)* } summaries { $($summary:ident,)* } detailed { $($detailed:ident,)* }) => {
        #[derive(Clone, Debug, Default)]
        pub struct Metrics {
            // Kept since the last `srst` and shown as gauges. Java: `ServerStats`.
            pub packets_received: u64,
            pub packets_sent: u64,
            /// Milliseconds from the arrival of a request to its reply.
            pub request_latency: Summary,
            pub client_response_size: Sizes,
            pub proposal_size: Sizes,

            // Kept since the start, whatever is reset.
            pub auth_failed_count: u64,
            /// Flushes slower than `fsync.warningthresholdms`.
            pub fsync_threshold_exceed_count: u64,
            /// Ours: writes refused because the log has no room.
            pub writes_refused_disk_full: u64,
            /// Ours: 1 when the log is not flushed before a write is acknowledged.
            pub force_sync_disabled: u64,
            /// Ours: how long the oldest write of the log that has no answer is under way, as of the last look.
            pub log_write_in_flight_ms: u64,
            /// Ours: 1 when the next start of this member would begin with members of before.
            pub config_file_stale: u64,

            /// Bytes by first part of the path.
            pub read_per_namespace: PerNamespace<Summary>,
            pub write_per_namespace: PerNamespace<Summary>,
            /// Writes that a hard quota refused.
            pub quota_exceeded_error_per_namespace: PerNamespace<u64>,
            /// By voter.
            pub ack_latency: BTreeMap<ServerId, DetailedSummary>,
            $(pub $counter: u64,)*
            $(pub $summary: Summary,)*
            $(pub $detailed: DetailedSummary,)*
        }

        impl Metrics {
            /// The value of a metric of the catalogue, if it is kept here.
            pub fn reading(&self, name: &str) -> Option<Reading<'_>> {
                match name {
                    "read_per_namespace" => Some(Reading::PerNamespace(&self.read_per_namespace)),
                    "write_per_namespace" => Some(Reading::PerNamespace(&self.write_per_namespace)),
                    "quota_exceeded_error_per_namespace" => {
                        Some(Reading::CounterPerNamespace(&self.quota_exceeded_error_per_namespace))
                    }
                    "ack_latency" => Some(Reading::PerServer(&self.ack_latency)),
                    $(stringify!($counter) => Some(Reading::Counter(self.$counter)),)*
                    $(stringify!($summary) => Some(Reading::Summary(&self.$summary)),)*
                    $(stringify!($detailed) => Some(Reading::Detailed(&self.$detailed)),)*
                    _ => None,
                }
            }

            /// `srst`. Java resets every counter and summary, not only what `srvr` shows: `ServerStats.reset`.
            pub fn reset_server_stats(&mut self) {
                self.packets_received = 0;
                self.packets_sent = 0;
                self.request_latency = Summary::default();
                self.client_response_size = Sizes::default();
                self.proposal_size = Sizes::default();
                self.read_per_namespace.reset();
                self.write_per_namespace.reset();
                self.quota_exceeded_error_per_namespace.reset();
                self.ack_latency.values_mut().for_each(DetailedSummary::reset);
                $(self.$counter = 0;)*
                $(self.$summary = Summary::default();)*
                $(self.$detailed.reset();)*
            }
        }
    };
}

metrics! {
    counters {
        add_dead_watcher_stall_time, bytes_received_count, cnxn_closed_without_zk_server_running, commit_count,
        connection_drop_count, connection_rejected, connection_request_count, connection_revalidate_count,
        dead_watchers_cleared, dead_watchers_queued, diff_count, digest_mismatches_count, ensemble_auth_fail,
        ensemble_auth_skip, ensemble_auth_success, insecure_admin_count, large_requests_rejected,
        learner_commit_received_count, learner_proposal_received_count, looking_count, outstanding_changes_queued,
        outstanding_changes_removed, prep_processor_request_queued, proposal_count, quit_leading_due_to_disloyal_voter,
        request_commit_queued, request_throttle_wait_count, requests_not_forwarded_to_commit_processor, response_bytes,
        response_packet_cache_hits, response_packet_cache_misses, response_packet_get_children_cache_hits,
        response_packet_get_children_cache_misses, restore_error_count, restore_rate_limited_count, revalidate_count,
        sessionless_connections_expired, skip_learner_request_to_next_processor_count, snap_count, snapshot_error_count,
        snapshot_rate_limited_count, stale_replies, stale_requests, stale_requests_dropped, stale_sessions_expired,
        sync_processor_request_queued, throttled_ops, tls_handshake_exceeded, unrecoverable_error_count,
        unsuccessful_handshake, watch_bytes,
    }
    summaries {
        commit_commit_proc_req_queued, commit_process_time, concurrent_request_processing_in_commit_processor,
        connection_token_deficit, dbinittime, election_time, follower_sync_time, fsynctime, inflight_diff_count,
        inflight_snap_count, leader_unavailable_time, learner_request_processor_queue_size,
        netty_queued_buffer_capacity, node_changed_watch_count, node_children_watch_count, node_created_watch_count,
        node_deleted_watch_count, observer_sync_time, pending_session_queue_size, prep_process_time,
        prep_processor_queue_size, proposal_process_time, read_commit_proc_issued, read_commit_proc_req_queued,
        reads_after_write_in_session_queue, reads_issued_from_session_queue, requests_in_session_queue, restore_time,
        session_queues_drained, snapshottime, socket_closing_time, startup_snap_load_time, startup_txns_load_time,
        startup_txns_loaded, sync_process_time, sync_processor_batch_size, sync_processor_queue_size,
        time_waiting_empty_pool_in_commit_processor_read_ms, unavailable_time, write_batch_time_in_commit_processor,
        write_commit_proc_issued, write_commit_proc_req_queued,
    }
    detailed {
        close_session_prep_time, commit_propagation_latency, dead_watchers_cleaner_latency, jvm_pause_time_ms,
        local_write_committed_time_ms, om_commit_process_time_ms, om_proposal_process_time_ms,
        prep_processor_queue_time_ms, propagation_latency, proposal_ack_creation_latency, proposal_latency,
        quorum_ack_latency, read_commitproc_time_ms, read_final_proc_time_ms, readlatency,
        request_throttle_queue_time_ms, server_write_committed_time_ms, sync_processor_queue_and_flush_time_ms,
        sync_processor_queue_flush_time_ms, sync_processor_queue_time_ms, updatelatency, write_commitproc_time_ms,
        write_final_proc_time_ms,
    }
}

impl Metrics {
    /// A request got its reply. `update`: it was a write.
    #[inline]
    pub fn answered(&mut self, update: bool, latency_ms: u64) {
        self.request_latency.record(latency_ms);
        let summary = if update { &mut self.updatelatency } else { &mut self.readlatency };
        summary.record(latency_ms);
    }

    /// A transaction of this many bytes was proposed.
    #[inline]
    pub fn proposed(&mut self, bytes: usize) {
        self.proposal_count += 1;
        self.proposal_size.record(bytes);
    }

    /// A voter has a transaction on its disk that is not committed yet. Of those that come later Java tells nothing either.
    pub fn acknowledged(&mut self, now: Now, voter: ServerId, made_ms: i64) {
        if let Some(age_ms) = age_ms(now, made_ms) {
            self.ack_latency.entry(voter).or_default().record(age_ms);
        }
    }

    /// A learner begins or ceases to be brought up to the history, which leaves so many. Java counts a TRUNC with the DIFFs.
    pub fn syncs(&mut self, kind: SyncKind, begins: bool, under_way: usize) {
        let (count, in_flight) = match kind {
            SyncKind::Snap => (&mut self.snap_count, &mut self.inflight_snap_count),
            SyncKind::Diff | SyncKind::Trunc => (&mut self.diff_count, &mut self.inflight_diff_count),
        };
        *count += u64::from(begins);
        in_flight.record(under_way as u64);
    }

    /// Notifications that one change caused, by number of their event kind (1 created, 2 deleted, 3 data, 4 children).
    pub fn watches_fired(&mut self, by_kind: &[u64; 5]) {
        let [_, created, deleted, changed, children] = *by_kind;
        for (summary, fired) in [
            (&mut self.node_created_watch_count, created),
            (&mut self.node_deleted_watch_count, deleted),
            (&mut self.node_changed_watch_count, changed),
            (&mut self.node_children_watch_count, children),
        ] {
            if fired > 0 {
                summary.record(fired);
            }
        }
    }

    /// Data of the node at `path`, or the names of its children, were read.
    pub fn node_read(&mut self, path: &str, bytes: u64) {
        let value = path.len() as u64 + bytes + READ_OVERHEAD_BYTES;
        self.read_per_namespace.update(path, |summary| summary.record(value));
    }

    /// The node at `path` was created or its data set.
    pub fn node_written(&mut self, path: &str, bytes: u64) {
        let value = path.len() as u64 + bytes;
        self.write_per_namespace.update(path, |summary| summary.record(value));
    }

    /// A hard quota refused a write to `path`.
    pub fn quota_exceeded(&mut self, path: &str) {
        self.quota_exceeded_error_per_namespace.update(path, |refused| *refused += 1);
    }
}

/// How long ago a transaction was made, by the wall clock of its leader. Java: `Request.logLatency`. None: the clocks disagree.
pub fn age_ms(now: Now, made_ms: i64) -> Option<u64> {
    now.wall_ms.checked_sub(made_ms).and_then(|age_ms| u64::try_from(age_ms).ok())
}

#[cfg(test)]
mod tests {
    use super::catalogue::{CATALOGUE, MetricKind};
    use super::*;

    #[test]
    fn the_catalogue_is_the_one_of_java() {
        let tsv = include_str!("../../tests/data/four_letter/catalogue_3.9.5.tsv");
        let mut lines = 0;
        for line in tsv.lines().skip(1) {
            lines += 1;
            let [name, kind, labels, quantiles, _, roles] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            let metric = CATALOGUE.iter().find(|metric| metric.name == name).unwrap_or_else(|| panic!("{name}"));
            let kind_name = match metric.kind {
                MetricKind::Gauge => "gauge",
                MetricKind::Counter => "counter",
                MetricKind::Summary | MetricKind::Detailed => "summary",
            };
            assert_eq!((kind_name, metric.labelled), (kind, !labels.is_empty()), "{name}");
            let shares: Vec<_> = metric.kind.page_quantiles().iter().map(f64::to_string).collect();
            assert_eq!(shares.join(" "), quantiles, "{name}");
            assert_eq!(metric.roles == catalogue::Roles::All, roles == "all", "{name}");
        }
        assert_eq!(lines, CATALOGUE.len());
    }

    #[test]
    fn every_counter_and_summary_is_kept_under_its_name() {
        let metrics = Metrics::default();
        for metric in CATALOGUE.iter().filter(|metric| metric.kind != MetricKind::Gauge) {
            let kept = match metrics.reading(metric.name) {
                Some(Reading::Counter(_)) => metric.kind == MetricKind::Counter,
                Some(Reading::Summary(_)) => metric.kind == MetricKind::Summary,
                Some(Reading::Detailed(_)) => metric.kind == MetricKind::Detailed,
                Some(Reading::PerNamespace(_) | Reading::CounterPerNamespace(_) | Reading::PerServer(_)) => {
                    metric.labelled
                }
                None => metric.labelled, // per peer: nothing to show while there are none
            };
            assert!(kept, "{}", metric.name);
        }
    }

    #[test]
    fn summaries() {
        let mut summary = Summary::default();
        assert_eq!((summary.min(), summary.max(), summary.average()), (0, 0, 0.0));
        for value in [9, 5, 0] {
            summary.record(value);
        }
        assert_eq!((summary.count(), summary.sum(), summary.min(), summary.max()), (3, 14, 0, 9));
        assert_eq!(summary.average(), 4.6667);
        summary.record(u64::MAX);
        assert_eq!(summary.sum(), u64::MAX);
    }

    #[test]
    fn quantiles_are_exact_below_256_and_near_above() {
        let mut detailed = DetailedSummary::default();
        assert_eq!(detailed.quantile(0.99), 0);
        for value in 1..=200 {
            detailed.record(value);
        }
        assert_eq!([0.5, 0.95, 0.99, 0.999].map(|share| detailed.quantile(share)), [100, 190, 198, 200]);
        detailed.record(u64::MAX);
        assert_eq!(detailed.summary().max(), u64::MAX);
        detailed.reset();
        assert_eq!((detailed.quantile(0.5), detailed.summary().count()), (0, 0));
    }

    #[test]
    fn namespaces_are_bounded() {
        let mut metrics = Metrics::default();
        metrics.node_read("/app/cfg", 0);
        metrics.node_written("/", 1);
        assert_eq!(metrics.read_per_namespace.sorted()[0].1.sum(), 76); // 8 + 68, as Java counts it
        assert!(metrics.write_per_namespace.sorted().is_empty());
        for number in 0..500 {
            metrics.node_written(&format!("/n{number}/x"), 10);
        }
        metrics.node_written(&format!("/{}", "x".repeat(500)), 10);
        let all = metrics.write_per_namespace.sorted();
        assert_eq!(all.len(), NAMESPACES_MAX + 1);
        let (_, other) = all.iter().find(|(name, _)| *name == OTHER_NAMESPACES).unwrap();
        assert_eq!(other.count(), 401);
    }

    #[test]
    fn a_reset_forgets_what_java_forgets() {
        let mut metrics =
            Metrics { packets_sent: 3, connection_rejected: 2, auth_failed_count: 1, ..Metrics::default() };
        metrics.answered(true, 7);
        metrics.answered(false, 3);
        metrics.proposed(48);
        metrics.watches_fired(&[0, 0, 0, 2, 0]);
        metrics.quota_exceeded("/app/cfg");
        assert_eq!((metrics.updatelatency.summary().sum(), metrics.readlatency.summary().sum()), (7, 3));
        assert_eq!((metrics.request_latency.count(), metrics.proposal_size.max), (2, 48));
        assert_eq!((metrics.node_changed_watch_count.sum(), metrics.node_created_watch_count.count()), (2, 0));
        metrics.reset_server_stats();
        assert_eq!((metrics.packets_sent, metrics.connection_rejected, metrics.auth_failed_count), (0, 0, 1));
        assert_eq!((metrics.request_latency, metrics.proposal_size), (Summary::default(), Sizes::default()));
        assert_eq!(metrics.updatelatency.summary().count(), 0);
        assert_eq!(
            metrics.quota_exceeded_error_per_namespace.sorted(),
            [("app", &0)],
            "who was counted is told with 0"
        );
    }
}
