//! The words the core speaks with its shell: identities, time, inputs and outputs.

use std::net::SocketAddr;

use bytes::Bytes;
pub use ringkeeper_storage::{EpochKind, Epochs, Standing, Zxid};
use ringkeeper_storage::{NodeImage, SnapshotChunk, SnapshotHeader};

use super::replay::Recovered;
use super::tree::Moved;
use super::zab::membership::Membership;
use crate::wire::election::Notification;
use crate::wire::quorum::Packet;

/// A session, as on the wire. Java: `sessionId`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct SessionId(pub i64);

/// A client connection, numbered by the shell; never reused while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// A server of the ensemble. Java: `myid`, `sid`. A standalone server is 1 in session ids and 0 in `conf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub i64);

/// A connection between a learner and its master, numbered by the shell of each end; never reused while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u64);

/// What travels on such a connection, in order. Links are TCP: they lose nothing but a suffix, by breaking.
#[derive(Debug)]
pub enum LinkMessage {
    Packet(Packet),
    /// After a `Packet::Snap`: exactly the state at its zxid. How it looks on the wire is agreed between the ends (Java's
    /// stream, or our own chunks) and the shell's business.
    SnapshotBegin(Box<SnapshotHeader>),
    SnapshotChunk(SnapshotChunk),
    /// Everything is there. Java: the signature "BenWasHere".
    SnapshotEnd,
}

impl LinkMessage {
    /// Somebody waits for what this brings. The rest keeps links alive, or answers.
    pub fn is_work(&self) -> bool {
        matches!(self, LinkMessage::Packet(Packet::Request(_) | Packet::Proposal { .. } | Packet::Inform { .. }))
    }

    /// About what it takes in a queue.
    pub fn cost_bytes(&self) -> usize {
        const FRAME_BYTES: usize = 64;
        const NODE_BYTES: usize = 160;
        FRAME_BYTES
            + match self {
                LinkMessage::Packet(Packet::Proposal { txn, .. } | Packet::Inform { txn, .. }) => txn.len(),
                LinkMessage::Packet(Packet::Request(request)) => request.bytes(),
                LinkMessage::SnapshotChunk(chunk) => {
                    let node = |node: &NodeImage| NODE_BYTES + node.name.len() + node.data.as_ref().map_or(0, Vec::len);
                    chunk.nodes.iter().map(node).sum()
                }
                _ => 0,
            }
    }
}

/// The time of one step, read once by the shell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic, microseconds since some fixed moment. Expiry and latencies use this one.
    pub mono_us: u64,
    /// Wall clock, milliseconds since 1970. Only stamped into transactions, never compared.
    pub wall_ms: i64,
}

/// Room left in the transaction log, as the log reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogRoom {
    Ample,
    /// The next segment could not be prepared (disk full). Data writes are refused; sessions still open and close.
    Low,
    /// Not one more record fits. Nothing that needs the log is admitted.
    None,
}

/// What can happen to a node.
#[derive(Debug)]
pub enum Input<'a> {
    /// A client connected. Every later input about it carries the same id.
    Connected {
        connection: ConnectionId,
        peer: SocketAddr,
    },
    /// One or more complete frames, each with its 4-byte length, as read from the socket. Lengths were checked against
    /// `jute.maxbuffer` by the shell. The first frame of a connection is its ConnectRequest.
    Received {
        connection: ConnectionId,
        frames: &'a [u8],
    },
    /// The shell handed `bytes` of earlier `Output::Send`s of this connection to the kernel.
    Sent {
        connection: ConnectionId,
        bytes: usize,
    },
    /// The connection is gone, whoever ended it.
    Disconnected {
        connection: ConnectionId,
    },
    /// Everything up to and including this zxid is on this server's stable storage.
    LogDurable {
        through: Zxid,
    },
    LogRoom(LogRoom),
    /// This epoch is stable (`Output::StoreEpoch`): now it may be told.
    EpochStored {
        kind: EpochKind,
        epoch: u32,
    },
    /// Records of the log, in order, as `Output::ReadLog` asked. `predecessor` is what the log holds right before the first.
    /// `Output::ReadLogOn` for the next.
    LogRead {
        link: LinkId,
        predecessor: Zxid,
        records: Vec<(Zxid, Bytes)>,
    },
    /// `Output::ReadLog` came to its end: everything wanted was read, or the log does not have it.
    LogReadEnded {
        link: LinkId,
        complete: bool,
    },
    /// The log was cut (`Output::Truncate`) or replaced by a snapshot (`Output::InstallFinish`): this is what the disk has
    /// now, and the only state there is.
    Reloaded(Box<Reloaded>),
    /// From another elector, or from this server itself.
    Notified {
        from: ServerId,
        notification: Notification,
    },
    /// A learner connected to this server, which accepts some (`Output::AcceptLearners`, `Output::AcceptObservers`).
    LearnerConnected {
        link: LinkId,
    },
    /// `Output::ConnectToMaster` or `Output::ConnectToObserverMaster` succeeded.
    MasterConnected {
        link: LinkId,
    },
    /// It did not, within the limit; the shell has tried again and again until then.
    MasterUnreachable,
    LinkReceived {
        link: LinkId,
        message: LinkMessage,
    },
    /// The shell handed messages of this cost (`LinkMessage::cost_bytes`) to the kernel.
    LinkSent {
        link: LinkId,
        bytes: usize,
    },
    /// The link is gone, whoever ended it.
    LinkClosed {
        link: LinkId,
    },
    /// Lead no longer: hand over to the voter that has everything (`docs/decisions/0006`). Without effect on others.
    HandOver,
    /// A snapshot begun by `Output::SnapshotBegin` can take this many more chunks right now.
    SnapshotRoom {
        chunks: usize,
    },
    /// The snapshot begun earlier is complete and durable, or failed (and was abandoned).
    SnapshotEnded,
    /// Begin a snapshot now if none is running; while nodes are still moving, as soon as that is over.
    SnapshotWanted,
    /// Time to spare: move a slice of the snapshot the node started from into memory (`Node::is_moving`).
    MoveNodes,
    /// Time passed. The shell calls at least once a tick, and when `Node::wake_us` says so.
    Tick,
    /// Sockets, disks and timers were looked at, and everybody who was ready had a turn. Wanted while `Node::wants_turn`.
    NextTurn,
    /// Take no more requests; say `Output::Drained` once everything in flight is answered.
    Shutdown,
}

/// What a node wants done. Outputs are carried out in order.
#[derive(Debug)]
pub enum Output {
    /// Bytes for a client, after all earlier ones of the same connection.
    Send {
        connection: ConnectionId,
        bytes: Vec<u8>,
    },
    /// Close after everything sent before is flushed. `Input::Disconnected` follows.
    Close {
        connection: ConnectionId,
    },
    /// Stop reading from this client until `ResumeReading` (back-pressure). Frames already handed over are kept.
    PauseReading {
        connection: ConnectionId,
    },
    ResumeReading {
        connection: ConnectionId,
    },
    /// Append to the log; `Input::LogDurable` answers. The bytes are header, record and digest, as the quorum sees them.
    Log {
        zxid: Zxid,
        txn: Bytes,
    },
    /// Make an epoch stable; `Input::EpochStored` answers. Both kinds are in order among themselves.
    StoreEpoch {
        kind: EpochKind,
        epoch: u32,
    },
    /// Read what is stable in the log above `after` up to `through`, for a learner that is behind: `Input::LogRead` answers,
    /// a window at a time, and `Input::LogReadEnded` in the end. One a link.
    ReadLog {
        link: LinkId,
        after: Zxid,
        through: Zxid,
    },
    ReadLogOn {
        link: LinkId,
    },
    EndReadLog {
        link: LinkId,
    },
    /// Give up every transaction above `to`, on disk and in memory, for good. `Input::Reloaded` answers. A state that cannot
    /// be cut to this point is lost as a whole, and `Reloaded` says so.
    Truncate {
        to: Zxid,
    },
    /// A state from the leader is going to take the place of everything stored here, all at once or not at all; chunks follow.
    InstallBegin(Box<SnapshotHeader>),
    InstallChunk(SnapshotChunk),
    /// `Input::Reloaded` answers.
    InstallFinish,
    /// It does not come to an end: what was there stays.
    InstallAbandon,
    /// To another elector (never to this server itself). A newer one takes the place of one that has not been sent.
    Notify {
        to: ServerId,
        notification: Notification,
    },
    /// Let learners connect, or no longer: those that are connected are closed by the core.
    AcceptLearners(bool),
    /// The same of observers at `observerMasterPort`, on a follower.
    AcceptObservers(bool),
    /// Connect to this server's learner port, again and again until `Input::MasterConnected` or, after
    /// `limit_ms`, `Input::MasterUnreachable`. A newer one, or `ForgetMaster`, takes its place.
    ConnectToMaster {
        master: ServerId,
        limit_ms: u64,
    },
    /// The same with this voter's `observerMasterPort`.
    ConnectToObserverMaster {
        master: ServerId,
        limit_ms: u64,
    },
    ForgetMaster,
    LinkSend {
        link: LinkId,
        message: LinkMessage,
    },
    /// Close after everything sent before. `Input::LinkClosed` does not follow: for the core it is gone.
    LinkClose {
        link: LinkId,
        why: String,
    },
    /// A configuration is proposed. Its text goes to `zoo.cfg.dynamic.next` (`Membership::next_file`) in its own time, for the log
    /// has it; whoever it adds can be talked to from now on.
    ConfigSeen(Box<Membership>),
    /// A configuration is in force. Its text goes to `zoo.cfg.dynamic.<version>` (`Membership::dynamic_file`), the pointer in
    /// `zoo.cfg` there, and a `.next` that is not newer away, in this order and in their own time.
    /// Electors of servers that are in no configuration any more need not be called.
    ConfigActivated(Box<Membership>),
    /// The proposed configuration was taken back: `.next` goes.
    ConfigForgotten,
    /// This server's own client address changed with the configuration: listen there.
    ClientAddressChanged {
        host: String,
        port: u16,
    },
    /// For the server's log and its operators: this server's part in the ensemble has changed.
    RoleChanged(RoleView),
    /// For the server's log: something about a peer that an operator should know.
    Told(String),
    /// For the server's log: something that an operator should do something about.
    Warned(String),
    /// Begin a snapshot of exactly the state at `zxid`; chunks follow as room is given.
    SnapshotBegin(Box<ringkeeper_storage::SnapshotHeader>),
    SnapshotChunk(ringkeeper_storage::SnapshotChunk),
    SnapshotFinish,
    /// Give the snapshot up: no more chunks come. `Input::SnapshotEnded` follows all the same.
    SnapshotAbandon {
        why: &'static str,
    },
    /// The last node of the snapshot this server started from is in memory, and the snapshot was let go.
    Moved(Moved),
    /// After `Input::Shutdown`: nothing is in flight any more.
    Drained,
}

/// What the disk has after it was cut or replaced.
#[derive(Debug)]
pub struct Reloaded {
    pub recovered: Recovered,
    pub standing: Standing,
    /// Why it could not be cut or replaced, for people.
    pub failure: Option<String>,
}

/// This server's part in its ensemble, as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleView {
    Looking { why: String },
    Following { leader: ServerId, serving: bool },
    Observing { leader: ServerId, serving: bool },
    Leading { epoch: u32, serving: bool },
}
