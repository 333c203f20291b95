//! The words the core speaks with its shell: identities, time, inputs and outputs.

use std::net::SocketAddr;

use bytes::Bytes;
pub use ringkeeper_storage::Zxid;

use super::tree::Moved;

/// A session, as on the wire. Java: `sessionId`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct SessionId(pub i64);

/// A client connection, numbered by the shell; never reused while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// A server of the ensemble. Java: `myid`, `sid`. A standalone server is 1 in session ids and 0 in `conf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub i64);

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
    /// A snapshot begun by `Output::SnapshotBegin` can take this many more chunks right now.
    SnapshotRoom {
        chunks: usize,
    },
    /// The snapshot begun earlier is complete and durable, or failed (and was abandoned).
    SnapshotEnded {
        ok: bool,
    },
    /// Begin a snapshot now if none is running; while nodes are still moving, as soon as that is over.
    SnapshotWanted,
    /// Time to spare: move a slice of the snapshot the node started from into memory (`Node::is_moving`).
    MoveNodes,
    /// Time passed. The shell calls at least once a tick while the node has sessions.
    Tick,
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
