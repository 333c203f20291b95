//! What a server shows of itself, as plain values: the four-letter words print it, the AdminServer will too.
//!
//! The node fills [`NodeView`], the shell [`HostView`]. Lists may be large; [`crate::shell::four_letter::needs`] tells which
//! ones a word wants, all others may stay empty. The order of a list is the order in which it is printed.

use std::net::SocketAddr;

use super::connection::{Connection, LastOperation};
use super::ensemble_view::EnsembleView;
use super::metrics::Metrics;
use super::tree::quota::QuotaSums;
use super::types::{SessionId, Zxid};
use super::zab::membership::Membership;
use crate::wire::client::OpCode;

/// As printed after `Mode:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Standalone,
    Leader,
    Follower,
    Observer,
    ReadOnly,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Mode::Standalone => "standalone",
            Mode::Leader => "leader",
            Mode::Follower => "follower",
            Mode::Observer => "observer",
            Mode::ReadOnly => "read-only",
        }
    }
}

/// A server that serves, seen from its node.
#[derive(Clone, Debug)]
pub struct NodeView<'a> {
    pub mode: Mode,
    pub metrics: &'a Metrics,
    /// The last transaction applied.
    pub zxid: Zxid,
    /// Requests in flight.
    pub outstanding: u64,
    /// That a new client is turned away by chance.
    pub connection_drop_probability: f64,
    /// Client connections, the asking one included.
    pub connections_count: u64,
    pub global_sessions: u64,
    pub local_sessions: u64,
    pub node_count: u64,
    pub ephemerals_count: u64,
    /// Bytes of paths and data.
    pub approximate_data_size: u64,
    /// Places of the snapshot the server started from that are still to be moved into memory.
    pub unmoved_slots: u64,
    pub watches: WatchCounts,
    /// `stat`, `cons`.
    pub connections: Vec<ConnectionView>,
    /// `dump`: sessions by the moment they expire.
    pub sessions_by_expiry: Buckets<SessionId>,
    /// `dump`: the same of sessions that only this server knows. None: there are no such sessions.
    pub local_sessions_by_expiry: Option<Buckets<SessionId>>,
    /// `dump`, of a learner, which does not know when they expire: sessions and their timeouts, milliseconds.
    pub timeouts: Vec<(SessionId, i32)>,
    /// `dump`: connections by the moment they are closed if nothing is heard of them.
    pub connections_by_expiry: Buckets<(SocketAddr, SessionId)>,
    /// `dump`: sessions that own ephemerals, and their paths.
    pub ephemerals: Vec<(SessionId, Vec<String>)>,
    /// `wchc`, `wchp`: who watches what, in any order; a session stands once with a path, however many kinds of watches
    /// it has there.
    pub watch_list: Vec<(SessionId, String)>,
    /// `hash`: the digest of the tree after every 128th transaction, newest last.
    pub digests: Vec<(Zxid, u64)>,
    /// `mntr`.
    pub quotas: QuotaSums,
    /// None: a standalone server, like the next.
    pub ensemble: Option<EnsembleView>,
    /// `conf`: in force. None in read-only mode, too.
    pub membership: Option<&'a Membership>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchCounts {
    /// Connections that watch something.
    pub connections: u64,
    /// Paths that are watched.
    pub paths: u64,
    pub total: u64,
    /// Not only the data table's, as the figures above. Java: `DataTree.getWatchCount`.
    pub in_both_tables: u64,
}

/// One client connection. Java: `ServerCnxn.dumpConnectionInfo`.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionView {
    pub peer: SocketAddr,
    /// It is the one that asks.
    pub asks: bool,
    /// Its requests in flight.
    pub queued: u64,
    pub received: u64,
    pub sent: u64,
    /// `None` before a session is established.
    pub session: Option<SessionView>,
}

impl ConnectionView {
    /// Shows `connection`; `asks`: it is the one that sent the word.
    pub fn of(connection: &Connection, asks: bool) -> ConnectionView {
        let stats = &connection.stats;
        let answered = stats.answered > 0;
        let session = (connection.session != SessionId(0)).then(|| SessionView {
            id: connection.session,
            last_operation: stats.last_operation,
            established_ms: stats.established_ms,
            timeout_ms: connection.timeout_ms,
            last_cxid: stats.last_cxid,
            last_zxid: stats.last_zxid,
            last_response_ms: stats.last_response_us / 1000,
            last_latency_ms: stats.last_latency_ms,
            min_latency_ms: if answered { stats.min_latency_ms } else { 0 },
            average_latency_ms: stats.total_latency_ms / stats.answered.max(1),
            max_latency_ms: stats.max_latency_ms,
        });
        ConnectionView {
            peer: connection.peer,
            asks,
            queued: connection.pending.len() as u64,
            received: stats.packets_received,
            sent: stats.packets_sent,
            session,
        }
    }
}

/// What is known of a connection once it has a session.
#[derive(Clone, Copy, Debug)]
pub struct SessionView {
    pub id: SessionId,
    pub last_operation: LastOperation,
    /// When it connected, milliseconds since 1970.
    pub established_ms: i64,
    pub timeout_ms: i32,
    /// The xid of the last request; below 0 when there was none.
    pub last_cxid: i64,
    /// -1 when nothing was answered.
    pub last_zxid: i64,
    /// On the server's monotonic clock; 0 when nothing was answered.
    pub last_response_ms: u64,
    pub last_latency_ms: u64,
    /// 0 when nothing was answered, like the two below.
    pub min_latency_ms: u64,
    pub average_latency_ms: u64,
    pub max_latency_ms: u64,
}

/// Things grouped by a moment (milliseconds since 1970), earliest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buckets<T>(pub Vec<(i64, Vec<T>)>);

impl<T> Default for Buckets<T> {
    fn default() -> Self {
        Buckets(Vec::new())
    }
}

impl<T: Ord> FromIterator<(i64, T)> for Buckets<T> {
    fn from_iter<I: IntoIterator<Item = (i64, T)>>(items: I) -> Self {
        let mut items: Vec<_> = items.into_iter().collect();
        items.sort_unstable();
        let mut buckets: Vec<(i64, Vec<T>)> = Vec::new();
        for (at_ms, item) in items {
            match buckets.last_mut() {
                Some((bucket_ms, bucket)) if *bucket_ms == at_ms => bucket.push(item),
                _ => buckets.push((at_ms, vec![item])),
            }
        }
        Buckets(buckets)
    }
}

/// What the shell knows: the process, its configuration, its disks.
#[derive(Clone, Debug)]
pub struct HostView<'a> {
    /// Behind `Zookeeper version: `: `3.9.5-COMMIT, built on 2026-01-01 00:00 UTC`.
    pub version: &'a str,
    pub uptime_ms: u64,
    pub open_file_descriptors: u64,
    pub max_file_descriptors: u64,
    /// `gtmk`; Java starts with 306.
    pub trace_mask: i64,
    pub configuration: ConfigurationView<'a>,
    /// `conf`, `dirs`.
    pub directory_sizes: DirectorySizes,
    /// `mntr`.
    pub log_segments: LogSegments,
    /// Why clients are not served, of a member: a sentence, for `srvr`.
    pub not_serving: Option<String>,
    /// `envi`.
    pub environment: EnvironmentView<'a>,
}

/// The log's segments, since the start of the server.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogSegments {
    pub in_use: u64,
    /// Ready to be written, or kept to be used again.
    pub spare: u64,
    pub spare_bytes: u64,
    pub zero_filled: u64,
    pub recycled: u64,
    /// Attempts to make one that the disk refused.
    pub refused: u64,
    pub rolls: u64,
    /// The next segment was not ready when it was needed.
    pub rolls_that_waited: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct DirectorySizes {
    pub data_bytes: u64,
    /// Preallocated bytes included.
    pub log_bytes: u64,
}

/// What `conf` shows.
#[derive(Clone, Copy, Debug)]
pub struct ConfigurationView<'a> {
    /// -1 without a listener.
    pub client_port: i32,
    pub secure_client_port: i32,
    /// Absolute, with the `version-2` or whatever is below the configured one.
    pub data_dir: &'a str,
    pub log_dir: &'a str,
    pub tick_time_ms: u32,
    /// 0: any number.
    pub max_client_cnxns: u32,
    pub min_session_timeout_ms: u32,
    pub max_session_timeout_ms: u32,
    pub listen_backlog: i32,
    /// 0 when standalone.
    pub server_id: i64,
    /// None: a standalone server.
    pub ensemble: Option<MemberConfigurationView>,
}

/// What `conf` shows of a member beside the membership.
#[derive(Clone, Copy, Debug)]
pub struct MemberConfigurationView {
    pub init_limit: u32,
    pub sync_limit: u32,
    pub election_port: u16,
    pub quorum_port: u16,
    pub observer: bool,
}

/// What `envi` shows. Java's own properties are `<NA>` here.
#[derive(Clone, Copy, Debug, Default)]
pub struct EnvironmentView<'a> {
    pub host_name: &'a str,
    /// `Linux`.
    pub os_name: &'a str,
    /// As Java calls it: `amd64`, `aarch64`.
    pub os_arch: &'a str,
    pub os_version: &'a str,
    pub user_name: &'a str,
    pub user_home: &'a str,
    pub user_dir: &'a str,
    pub memory_free_mb: u64,
    pub memory_max_mb: u64,
    pub memory_total_mb: u64,
    /// Our own version and commit.
    pub ringkeeper_version: &'a str,
    /// What an acknowledged write rests on.
    pub log_strategy: &'a str,
}

/// The four letters `cons` has for an operation. Java: `Request.op2String`, `ServerCnxn`.
pub fn operation_code(operation: LastOperation) -> &'static str {
    let LastOperation::Of(operation) = operation else {
        return if operation == LastOperation::Never { "null" } else { "NA" };
    };
    match operation {
        OpCode::CreateSession => "SESS",
        OpCode::CloseSession => "CLOS",
        OpCode::Ping => "PING",
        OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => "CREA",
        OpCode::Delete | OpCode::DeleteContainer => "DELE",
        OpCode::SetData => "SETD",
        OpCode::SetAcl => "SETA",
        OpCode::Reconfig => "RECO",
        OpCode::Sync => "SYNC",
        OpCode::Check => "CHEC",
        OpCode::Multi => "MULT",
        OpCode::MultiRead => "MLTR",
        OpCode::Exists => "EXIS",
        OpCode::GetData => "GETD",
        OpCode::GetAcl => "GETA",
        OpCode::GetChildren | OpCode::GetChildren2 => "GETC",
        OpCode::GetAllChildrenNumber => "GETACN",
        OpCode::GetEphemerals => "GETE",
        OpCode::SetWatches => "SETW",
        OpCode::SetWatches2 => "STW2",
        OpCode::AddWatch => "ADDW",
        OpCode::CheckWatches => "CHKW",
        OpCode::RemoveWatches => "REMW",
        OpCode::WhoAmI => "HOMI",
        // Never the last operation of a connection in Java: they are answered outside of its pipeline.
        OpCode::Auth | OpCode::Sasl | OpCode::Error => "NA",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::tree::acl::ip_identity;
    use crate::core::types::{ConnectionId, Now};

    #[test]
    fn a_connection_shows_its_session_only_when_it_has_one_and_no_latency_before_the_first() {
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut connection =
            Connection::new(ConnectionId(1), peer, ip_identity(peer.ip()), Now { mono_us: 0, wall_ms: 77 });
        assert!(ConnectionView::of(&connection, true).session.is_none());
        connection.session = SessionId(5);
        let session = ConnectionView::of(&connection, false).session.unwrap();
        assert_eq!((session.established_ms, session.min_latency_ms, session.average_latency_ms), (77, 0, 0));
        connection.stats.answered(LastOperation::Of(OpCode::GetData), 1, Zxid(9), 5_000_000, 3);
        connection.stats.answered(LastOperation::Of(OpCode::GetData), 2, Zxid(9), 6_000_000, 8);
        let session = ConnectionView::of(&connection, false).session.unwrap();
        assert_eq!((session.min_latency_ms, session.average_latency_ms, session.max_latency_ms), (3, 5, 8));
        assert_eq!((session.last_cxid, session.last_zxid, session.last_response_ms), (2, 9, 6000));
    }

    #[test]
    fn buckets_are_sorted_by_moment_and_within() {
        let buckets: Buckets<u8> = [(20, 2), (10, 3), (20, 1)].into_iter().collect();
        assert_eq!(buckets, Buckets(vec![(10, vec![3]), (20, vec![1, 2])]));
    }
}
