//! What a member remembers for its operators beyond the role it is in. Who shows it: `ensemble_view.rs`.

use super::metrics::Metrics;
use super::types::Now;
use super::zab::catch_up::SyncReport;

#[derive(Debug)]
pub(super) struct Annals {
    /// Why the last role ended.
    pub ended: String,
    /// Nobody is served since.
    pub idle_since_us: Option<u64>,
    /// A quorum follows this server since.
    pub leads_since_us: u64,
    pub election_ms: Option<u64>,
    pub sync: Option<SyncReport>,
}

impl Annals {
    pub fn new(now: Now) -> Annals {
        let ended = "it starts".to_owned();
        Annals { ended, idle_since_us: Some(now.mono_us), leads_since_us: 0, election_ms: None, sync: None }
    }

    pub fn elected(&mut self, now: Now, since_us: u64, observer: bool, metrics: &mut Metrics) {
        let took_ms = (now.mono_us - since_us) / 1000;
        self.election_ms = Some(took_ms);
        if !observer {
            metrics.election_time.record(took_ms);
        }
    }

    pub fn synchronised(&mut self, sync: Option<SyncReport>, observer: bool, metrics: &mut Metrics) {
        self.sync = sync;
        let took = if observer { &mut metrics.observer_sync_time } else { &mut metrics.follower_sync_time };
        if let Some(SyncReport { took_ms: Some(took_ms), .. }) = sync {
            took.record(took_ms);
        }
    }

    pub fn serves(&mut self, now: Now, leads: bool, metrics: &mut Metrics) {
        self.leads_since_us = now.mono_us;
        if let Some(since_us) = self.idle_since_us.take() {
            let idle_ms = (now.mono_us - since_us) / 1000;
            metrics.unavailable_time.record(idle_ms);
            if leads {
                metrics.leader_unavailable_time.record(idle_ms);
            }
        }
    }

    pub fn role_over(&mut self, now: Now, why: &str) {
        self.idle_since_us.get_or_insert(now.mono_us);
        why.clone_into(&mut self.ended);
    }
}
