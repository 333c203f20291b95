//! What a node shows of itself to operators: the values behind the four-letter words, gathered when somebody asks.
//!
//! Nothing here is kept between questions except the digest history. Lists are gathered only when wanted: on a large server
//! they are large. Java: the getters of `ZooKeeperServerBean`, `ServerStats`, `DataTree` and `SessionTracker`.

use super::metrics::Metrics;
use super::node::Node;
use super::peer::{Role, Service};
use super::session::Session;
use super::types::{ConnectionId, Now, SessionId};
use super::view::{Buckets, ConnectionView, Mode, NodeView, WatchCounts};
use super::zab::membership::Membership;

/// Which of a view's lists to gather.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub connections: bool,
    /// Sessions and connections by expiry, and ephemerals.
    pub expiry: bool,
    pub watches: bool,
    pub digests: bool,
    pub quotas: bool,
}

/// Connections are shown by the moment they would be closed, in steps of this. Java: `NIOServerCnxnFactory`'s expiry queue.
const CONNECTION_EXPIRY_STEP_MS: i64 = 10_000;

impl Node {
    /// `asks`: the connection that wants to know.
    pub fn view(&self, now: Now, asks: ConnectionId, wanted: Wanted) -> NodeView<'_> {
        let watches = self.watches.summary();
        NodeView {
            mode: self.mode(),
            metrics: &self.metrics,
            // As Java: a leader has processed the beginning of its epoch.
            zxid: if self.is_learner() { self.progress.applied } else { self.processed() },
            outstanding: self.outstanding.requests as u64,
            connection_drop_probability: self.connect_throttle.drop_probability(),
            connections_count: self.connections.len() as u64,
            global_sessions: self.sessions.len() as u64,
            local_sessions: self.local.count() as u64,
            // Java counts the root under both of its names.
            node_count: self.tree.node_count() + 1,
            ephemerals_count: self.tree.ephemerals_count(),
            approximate_data_size: self.tree.approximate_data_size(),
            unmoved_slots: self.tree.unmoved_slots().into(),
            watches: WatchCounts {
                connections: watches.connections,
                paths: watches.paths,
                total: watches.watches,
                in_both_tables: self.watches.watch_count(),
            },
            connections: gathered(wanted.connections, || self.connection_views(asks)),
            sessions_by_expiry: gathered(wanted.expiry && !self.is_learner(), || by_expiry(now, self.sessions.iter())),
            local_sessions_by_expiry: gathered(wanted.expiry && self.settings.local_sessions, || {
                Some(by_expiry(now, self.local.iter()))
            }),
            timeouts: gathered(wanted.expiry && self.is_learner(), || self.timeouts()),
            connections_by_expiry: gathered(wanted.expiry, || self.connections_by_expiry(now)),
            ephemerals: gathered(wanted.expiry, || self.ephemerals()),
            watch_list: gathered(wanted.watches, || self.watch_list()),
            digests: gathered(wanted.digests, || self.digests.iter().collect()),
            quotas: gathered(wanted.quotas, || self.tree.quota_sums()),
            ensemble: self.ensemble_view(now),
            membership: self.membership_in_force(),
        }
    }

    /// Whether there is a state to show: a member that serves nobody has none that anybody may rely on.
    pub fn serves_anybody(&self) -> bool {
        let leads_others = matches!(self.role, Role::Leading(_)) && self.member.is_some();
        self.service != Service::Nobody && (self.settings.ensemble.leader_serves || !leads_others)
    }

    /// Sessions expire where others can tell when.
    fn is_learner(&self) -> bool {
        !matches!(self.role, Role::Leading(_))
    }

    fn membership_in_force(&self) -> Option<&Membership> {
        let member = self.member.as_deref().filter(|_| self.service == Service::Everybody)?;
        Some(&member.configs.committed)
    }

    fn mode(&self) -> Mode {
        match &self.role {
            _ if self.member.is_none() => Mode::Standalone,
            Role::Leading(_) => Mode::Leader,
            Role::Following(following) if following.observer => Mode::Observer,
            Role::Following(_) | Role::Settling(_) => Mode::Follower,
            Role::Looking(_) => Mode::ReadOnly,
        }
    }

    /// A four-letter word came on this connection: it counts as a packet, and shows itself in `cons`.
    pub fn word_received(&mut self, connection: ConnectionId) {
        self.metrics.packets_received += 1;
        if let Some(slot) = self.slot(connection) {
            self.connections[slot].stats.packets_received += 1;
        }
    }

    /// For what the shell measures: disks, refused connections, the start.
    pub fn metrics_mut(&mut self) -> &mut Metrics {
        &mut self.metrics
    }

    /// `srst`.
    pub fn reset_server_stats(&mut self) {
        self.metrics.reset_server_stats();
    }

    /// `crst`.
    pub fn reset_connection_stats(&mut self) {
        for (_, connection) in &mut self.connections {
            connection.stats.reset();
        }
    }

    fn connection_views(&self, asks: ConnectionId) -> Vec<ConnectionView> {
        self.connections.iter().map(|(_, connection)| ConnectionView::of(connection, connection.id == asks)).collect()
    }

    fn timeouts(&self) -> Vec<(SessionId, i32)> {
        let mut timeouts: Vec<_> = self.sessions.iter().map(|(id, session)| (id, session.timeout_ms)).collect();
        timeouts.sort_unstable();
        timeouts
    }

    fn connections_by_expiry(&self, now: Now) -> Buckets<(std::net::SocketAddr, SessionId)> {
        let expiry_ms = |connection: &super::connection::Connection| {
            let session = self.local.get(connection.session).or_else(|| self.sessions.get(connection.session));
            let exact_ms = match session {
                Some(session) => wall_ms(now, session.deadline_us()),
                None => connection.stats.established_ms + CONNECTION_EXPIRY_STEP_MS,
            };
            exact_ms - exact_ms.rem_euclid(CONNECTION_EXPIRY_STEP_MS) + CONNECTION_EXPIRY_STEP_MS
        };
        let shown =
            |connection: &super::connection::Connection| (expiry_ms(connection), (connection.peer, connection.session));
        self.connections.iter().map(|(_, connection)| shown(connection)).collect()
    }

    fn ephemerals(&self) -> Vec<(SessionId, Vec<String>)> {
        let mut owners: Vec<SessionId> = self.tree.ephemeral_owners().collect();
        owners.sort_unstable();
        let paths = |owner| self.tree.ephemerals(owner).map(|node| self.tree.path(node)).collect();
        owners.into_iter().map(|owner| (owner, paths(owner))).collect()
    }

    fn watch_list(&self) -> Vec<(SessionId, String)> {
        let mut list = Vec::new();
        self.watches.for_each_by_connection(|connection, path| {
            if let Some(slot) = self.slot(connection) {
                list.push((self.connections[slot].session, path.to_owned()));
            }
        });
        list.sort_unstable();
        list.dedup();
        list
    }
}

fn gathered<T: Default>(wanted: bool, gather: impl FnOnce() -> T) -> T {
    if wanted { gather() } else { T::default() }
}

fn by_expiry<'a>(now: Now, sessions: impl Iterator<Item = (SessionId, &'a Session)>) -> Buckets<SessionId> {
    sessions.map(|(id, session)| (wall_ms(now, session.deadline_us()), id)).collect()
}

/// The wall-clock moment of a monotonic one.
fn wall_ms(now: Now, mono_us: u64) -> i64 {
    now.wall_ms + (mono_us as i64 - now.mono_us as i64) / 1000
}
