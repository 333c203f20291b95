//! temporary
#[derive(Debug, Default)]
pub struct Metrics {
    pub packets_received: u64,
    pub packets_sent: u64,
    pub connection_rejected: u64,
    pub connection_request_count: u64,
    pub connection_revalidate_count: u64,
    pub large_requests_rejected: u64,
    pub auth_failed_count: u64,
    pub stale_sessions_expired: u64,
    pub writes_refused_disk_full: u64,
}
impl Metrics {
    pub fn answered(&mut self, _update: bool, _latency_ms: u64) {}
    pub fn proposed(&mut self, _bytes: usize) {}
    pub fn watches_fired(&mut self, _by_kind: &[u64; 5]) {}
}
