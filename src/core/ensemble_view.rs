//! A member's part in its ensemble, as operators see it: who follows and how far behind, how this server came to have its
//! history, and, while it serves nobody, whom it waits for.
//!
//! Gathered when somebody asks, from the machines that know; only what they forget when a role ends is remembered here
//! ([`Annals`]). Not here: what the network says about a server that is waited for (the shell adds it), and the texts
//! (`shell/four_letter.rs`). Java: `QuorumPeer.getDetailedPeerState`, the gauges of `LeaderZooKeeperServer`.

use super::metrics::Metrics;
use super::node::Node;
use super::peer::{Role, Service};
use super::types::{LogRoom, Now, ServerId};
use super::zab::catch_up::SyncKind;

#[derive(Clone, Debug, Default)]
pub struct EnsembleView {
    /// As Java says it: `following - broadcast`.
    pub peer_state: String,
    /// Voters.
    pub quorum_size: u64,
    /// Since a quorum has followed.
    pub leader_uptime_ms: u64,
    /// Clients' `sync`s that wait for a commit.
    pub pending_syncs: u64,
    /// Whom an observer is connected to.
    pub observer_master: Option<ServerId>,
    /// Of a leader, by id; of a follower its observers.
    pub learners: Vec<LearnerView>,
    /// A follower that lets observers in.
    pub serves_observers: bool,
    /// How this server, as a learner, came to have its history the last time.
    pub sync: Option<SyncView>,
    /// How long the last election took that this server was part of.
    pub election_ms: Option<u64>,
    /// None: clients are served.
    pub awaits: Option<Awaits>,
}

/// A learner as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearnerView {
    pub server: ServerId,
    pub observer: bool,
    pub votes: bool,
    /// It has the history, and serves.
    pub in_step: bool,
    /// Proposals that it has not acknowledged. None: it does not have to.
    pub behind_transactions: Option<u64>,
    /// What is kept for it because its connection does not take it.
    pub behind_bytes: u64,
    pub sync: Option<SyncView>,
}

/// How a learner is, or was, brought up to the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncView {
    pub kind: SyncKind,
    /// As queues count it: what it takes in memory, not on the network.
    pub bytes: u64,
    /// None: it is under way.
    pub took_ms: Option<u64>,
}

/// Why clients are not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaits {
    pub since_ms: u64,
    /// How it came to that.
    pub ended: String,
    pub what: String,
    /// Others that something is waited for from.
    pub servers: Vec<(ServerId, &'static str)>,
}

impl Awaits {
    /// The whole of it, for `srvr` and the log.
    pub fn sentence(&self, trouble: &dyn Fn(ServerId) -> Option<String>) -> String {
        format!("Not serving for {} s ({}): {}", self.since_ms / 1000, self.ended, self.reason(trouble))
    }

    /// Whom and what it waits for; `trouble` is what the network says about a server, which is the better reason.
    pub fn reason(&self, trouble: &dyn Fn(ServerId) -> Option<String>) -> String {
        let waits = |(server, what): &(ServerId, &str)| {
            let why = trouble(*server).unwrap_or_else(|| (*what).to_owned());
            format!("server {}: {why}", server.0)
        };
        let servers: Vec<String> = self.servers.iter().map(waits).collect();
        match servers.is_empty() {
            true => self.what.clone(),
            false => format!("{}; waiting for {}", self.what, servers.join("; ")),
        }
    }
}

/// What a member remembers for its operators beyond the role it is in.
#[derive(Debug)]
pub(super) struct Annals {
    /// Why the last role ended.
    ended: String,
    /// Nobody is served since.
    idle_since_us: Option<u64>,
    /// A quorum follows this server since.
    leads_since_us: u64,
    election_ms: Option<u64>,
    sync: Option<SyncView>,
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

    pub fn synchronised(&mut self, sync: Option<SyncView>, observer: bool, metrics: &mut Metrics) {
        self.sync = sync;
        let took = if observer { &mut metrics.observer_sync_time } else { &mut metrics.follower_sync_time };
        if let Some(SyncView { took_ms: Some(took_ms), .. }) = sync {
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

impl Node {
    /// None: a standalone server.
    pub(super) fn ensemble_view(&self, now: Now) -> Option<EnsembleView> {
        let member = self.member.as_deref()?;
        let annals = &member.annals;
        let mut view = EnsembleView {
            peer_state: "looking".to_owned(),
            quorum_size: member.configs.committed.voters().count() as u64,
            sync: annals.sync,
            election_ms: annals.election_ms,
            awaits: self.awaits(now),
            ..EnsembleView::default()
        };
        match &self.role {
            Role::Leading(leading) => {
                let leader = &leading.leader;
                view.peer_state = format!("leading - {}", leader.zab_state());
                view.pending_syncs = leader.pending_syncs() as u64;
                view.learners = leader.learners();
                if self.service == Service::Everybody {
                    view.leader_uptime_ms = (now.mono_us - annals.leads_since_us) / 1000;
                }
            }
            Role::Following(following) => {
                let does = if following.observer { "observing" } else { "following" };
                view.peer_state = format!("{does} - {}", following.learner.zab_state());
                if let Some(sync) = following.learner.sync().filter(|sync| sync.took_ms.is_none()) {
                    view.peer_state += &format!(" - {}", sync.kind.name().to_lowercase());
                }
                view.observer_master = following.observer.then(|| following.learner.master());
                view.serves_observers = following.relay.is_some();
                view.learners = following.relay.as_ref().map(|relay| relay.learners()).unwrap_or_default();
            }
            Role::Looking(_) | Role::Settling(_) => {}
        }
        Some(view)
    }

    /// None: everybody is served, or this is a standalone server.
    pub fn awaits(&self, now: Now) -> Option<Awaits> {
        let member = self.member.as_deref()?;
        let since_us = member.annals.idle_since_us?;
        let id = self.settings.server;
        let (what, servers) = match &self.role {
            Role::Looking(_) => {
                let silent = member.configs.committed.voters().filter(|voter| *voter != id);
                let silent = silent.filter(|voter| !member.election.has_heard_of(*voter));
                let servers = silent.map(|voter| (voter, "nothing was heard of it in this election")).collect();
                ("no leader is elected".to_owned(), servers)
            }
            Role::Leading(leading) => {
                let servers = leading.leader.awaited(&member.configs);
                ("this server is elected, and a quorum does not follow it yet".to_owned(), servers)
            }
            Role::Following(following) => {
                let (learner, leader) = (&following.learner, following.learner.leader());
                (format!("server {} is elected", leader.0), vec![(learner.master(), learner.doing())])
            }
            Role::Settling(_) if self.room == LogRoom::None => ("the disk is full".to_owned(), Vec::new()),
            Role::Settling(_) => ("the next election is about to begin".to_owned(), Vec::new()),
        };
        let since_ms = (now.mono_us - since_us) / 1000;
        Some(Awaits { since_ms, ended: member.annals.ended.clone(), what, servers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_names_each_server_and_prefers_what_the_network_says() {
        let silent = "nothing was heard of it in this election";
        let servers = vec![(ServerId(2), silent), (ServerId(3), silent)];
        let awaits = Awaits { since_ms: 1, ended: String::new(), what: "no leader is elected".into(), servers };
        let trouble = |server: ServerId| (server.0 == 3).then(|| "10.0.0.3:3888: Connection refused".to_owned());
        assert_eq!(
            awaits.reason(&trouble),
            "no leader is elected; waiting for server 2: nothing was heard of it in this election; \
             server 3: 10.0.0.3:3888: Connection refused"
        );
        let awaits = Awaits { servers: Vec::new(), ..awaits };
        assert_eq!(awaits.reason(&trouble), "no leader is elected");
    }
}
