//! A member's part in its ensemble, as operators see it: who follows and how far behind, how this server came to have its
//! history, and, while it serves nobody, whom it waits for.
//!
//! Gathered when somebody asks, from the machines that know; what they forget when a role ends is remembered in `annals.rs`. Not here: what the network says about a server that is waited for (the shell adds it), and the texts
//! (`shell/four_letter.rs`). Java: `QuorumPeer.getDetailedPeerState`, the gauges of `LeaderZooKeeperServer`.

use super::node::Node;
use super::peer::{Role, Service};
use super::types::{LogRoom, Now, ServerId};
use super::zab::catch_up::SyncReport;
use super::zab::leader::LearnerView;

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
    pub sync: Option<SyncReport>,
    /// How long the last election took that this server was part of.
    pub election_ms: Option<u64>,
    /// None: clients are served.
    pub awaits: Option<Awaits>,
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
                let silent = silent.map(|voter| (voter, "nothing was heard of it in this election"));
                let strangers = member.election.strangers(&member.configs);
                let strangers = strangers
                    .map(|id| (id, "it votes or is voted for, and has no server line in this server's configuration"));
                let servers = silent.chain(strangers).collect();
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
