//! One client connection as the core sees it: who it is, what it waits for, what waits for it.
//!
//!   New --ConnectRequest--> Connecting --session ready--> Open --close, error, expiry--> Closing
//!
//! Holds always: replies leave in request order; `outbox` holds bytes not yet given to the shell, `unsent` those the
//! kernel has not taken yet. Spec: client-protocol 18, semantics 12. Java: `NIOServerCnxn`, `ServerCnxn`.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;

use super::tree::acl::Identity;
use super::types::{ConnectionId, Now, SessionId, Zxid};
use crate::limits;
use crate::wire::ErrorCode;
use crate::wire::client::OpCode;
use crate::wire::quorum::PeerIdentity;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing but a ConnectRequest is understood.
    New,
    /// The session is being created; frames wait.
    Connecting,
    Open,
    /// Nothing more is read; what is queued is flushed, then the connection ends.
    Closing,
}

/// What has to be known of a request until it is answered.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub xid: i32,
    pub opcode: OpCode,
    pub arrived_us: u64,
    /// Length of its frame, and of the answer that is foreseen for a read.
    pub bytes: usize,
    /// Counted against `largeRequestMaxBytes`; 0 for requests below the threshold.
    pub large_bytes: usize,
}

/// A request whose turn to be answered has not come.
#[derive(Debug)]
pub struct Pending {
    pub header: Header,
    pub wait: Wait,
}

/// What a pending request waits for.
#[derive(Debug)]
pub enum Wait {
    /// A write: its own commit.
    Commit { zxid: Zxid },
    /// A learner's write: the commit of what its leader made of it.
    Forwarded,
    /// A read: everything before it on its connection. It sees the identities it was sent with.
    Turn { body: Box<[u8]>, identities: Rc<[Identity]> },
    /// A `sync`: everything proposed before it arrived, and its turn.
    Sync { body: Box<[u8]>, through: Zxid },
    /// A learner's `sync`: the leader's answer, and its turn.
    LeaderSync { body: Box<[u8]> },
    /// A refusal that is known already: its turn.
    Refused { error: ErrorCode },
}

/// What `cons` calls the last operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastOperation {
    /// There was none: `null`.
    Never,
    /// A write that was refused, or none since `crst`: `NA`.
    Nameless,
    Of(OpCode),
}

/// What `cons` tells about a connection. Java: `ServerCnxn` statistics.
#[derive(Clone, Copy, Debug)]
pub struct Stats {
    pub packets_received: u64,
    pub packets_sent: u64,
    pub established_ms: i64,
    pub last_operation: LastOperation,
    pub last_cxid: i64,
    pub last_zxid: i64,
    pub last_response_us: u64,
    pub last_latency_ms: u64,
    pub min_latency_ms: u64,
    pub max_latency_ms: u64,
    pub total_latency_ms: u64,
    pub answered: u64,
}

impl Stats {
    pub fn new(established_ms: i64) -> Self {
        Stats {
            packets_received: 0,
            packets_sent: 0,
            established_ms,
            last_operation: LastOperation::Never,
            last_cxid: 0,
            last_zxid: 0,
            last_response_us: 0,
            last_latency_ms: 0,
            min_latency_ms: u64::MAX,
            max_latency_ms: 0,
            total_latency_ms: 0,
            answered: 0,
        }
    }

    /// One request answered. `cxid` is left alone when negative (pings and the like).
    pub fn answered(&mut self, operation: LastOperation, cxid: i32, zxid: Zxid, now_us: u64, latency_ms: u64) {
        self.last_operation = operation;
        if cxid >= 0 {
            self.last_cxid = i64::from(cxid);
        }
        self.last_zxid = zxid.0 as i64;
        self.last_response_us = now_us;
        self.last_latency_ms = latency_ms;
        self.min_latency_ms = self.min_latency_ms.min(latency_ms);
        self.max_latency_ms = self.max_latency_ms.max(latency_ms);
        self.total_latency_ms += latency_ms;
        self.answered += 1;
    }

    /// A new session is answered. `cons` shows it as the operation SESS; a session that came back has asked for nothing.
    pub fn created(&mut self, now_us: u64, zxid: Zxid) {
        self.answered(LastOperation::Of(OpCode::CreateSession), 0, zxid, now_us, 0);
    }

    /// `crst`: everything but who and since when.
    pub fn reset(&mut self) {
        let last_operation = LastOperation::Nameless;
        *self = Stats { last_operation, last_cxid: -1, last_zxid: -1, ..Stats::new(self.established_ms) };
    }
}

#[derive(Debug)]
pub struct Connection {
    pub id: ConnectionId,
    pub peer: SocketAddr,
    pub state: State,
    pub session: SessionId,
    /// The read-only byte of the ConnectRequest, if it had one: the response has one exactly then (client-protocol 5.1).
    pub read_only: Option<bool>,
    /// As negotiated, milliseconds; 0 before.
    pub timeout_ms: i32,
    /// A set, shared with queued reads: a request sees the identities it was sent with.
    identities: Rc<[Identity]>,
    /// The same as a learner tells them its leader, once it had to.
    identities_told: OnceCell<Rc<[PeerIdentity]>>,
    pub pending: VecDeque<Pending>,
    /// Sum of the bytes in `pending`.
    pub pending_bytes: usize,
    /// Whole frames not looked at yet, because the connection was blocked.
    pub inbox: Vec<u8>,
    pub outbox: Vec<u8>,
    /// In the list of connections with something in `outbox`.
    pub dirty: bool,
    pub unsent: usize,
    /// `sync`s that the leader has answered and this server has not.
    pub synced: u32,
    /// Bytes of its unanswered requests above `largeRequestThreshold`.
    pub large_request_bytes: usize,
    /// Its next frame is a write that waits until the log has caught up.
    pub stalled: bool,
    /// It stands in the queue of the request throttle.
    pub queued: bool,
    /// It waits for another turn.
    pub cut: bool,
    /// When its client last sent a frame, or took something.
    pub heard_us: u64,
    /// Since when what is in `inbox` has waited for that.
    pub waiting_since_us: Option<u64>,
    /// The shell was told to stop reading.
    pub paused: bool,
    /// `Output::Close` follows the outbox at the next flush.
    pub close_after_flush: bool,
    pub stats: Stats,
}

impl Connection {
    pub fn new(id: ConnectionId, peer: SocketAddr, identity: Identity, now: Now) -> Self {
        Connection {
            id,
            peer,
            state: State::New,
            session: SessionId(0),
            read_only: None,
            timeout_ms: 0,
            identities: Rc::from([identity]),
            identities_told: OnceCell::new(),
            pending: VecDeque::new(),
            pending_bytes: 0,
            inbox: Vec::new(),
            outbox: Vec::new(),
            dirty: false,
            unsent: 0,
            synced: 0,
            large_request_bytes: 0,
            stalled: false,
            queued: false,
            cut: false,
            heard_us: now.mono_us,
            waiting_since_us: None,
            paused: false,
            close_after_flush: false,
            stats: Stats::new(now.wall_ms),
        }
    }

    pub fn identities(&self) -> &Rc<[Identity]> {
        &self.identities
    }

    pub fn identity_bytes(&self) -> usize {
        self.identities.iter().map(|identity| identity.scheme.len() + identity.id.len()).sum()
    }

    pub fn set_identities(&mut self, identities: Vec<Identity>) {
        self.identities = identities.into();
        self.identities_told = OnceCell::new();
    }

    /// To go with a request to the leader.
    pub fn identities_for_leader(&self) -> Rc<[PeerIdentity]> {
        let text = |text: &str| Some(Bytes::copy_from_slice(text.as_bytes()));
        let told = |identity: &Identity| PeerIdentity { scheme: text(&identity.scheme), id: text(&identity.id) };
        self.identities_told.get_or_init(|| self.identities.iter().map(told).collect()).clone()
    }

    /// Bytes this client has not taken yet.
    pub fn owed_bytes(&self) -> usize {
        self.outbox.len() + self.unsent
    }

    /// Whether frames of this connection must wait for something of its own.
    pub fn blocked(&self) -> bool {
        self.state == State::Connecting
            || self.cut
            || self.pending.len() >= limits::CLIENT_PENDING_REQUESTS
            || self.pending_bytes > limits::CLIENT_PENDING_BYTES
            || self.owes_too_much()
    }

    /// Its client does not take answers as fast as it asks: no more are worked out for now.
    pub fn owes_too_much(&self) -> bool {
        self.owed_bytes() > limits::CLIENT_OUTPUT_SOFT_BYTES
    }

    /// Its client takes nothing while notifications keep coming: the connection ends.
    pub fn owes_far_too_much(&self) -> bool {
        self.unsent > 0 && self.owed_bytes() > limits::CLIENT_OUTPUT_HARD_BYTES
    }
}
