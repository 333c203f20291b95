//! What happens in the world, in the order in which it happens: the words the world speaks with the properties.
//!
//! A property hears everything and knows nothing else: no server is asked behind its own back, but for its tree at the end.

use bytes::Bytes;

use super::history::ClientEvent;
use crate::core::{EpochKind, Epochs, LogRoom, RoleView, ServerId, Standing, Zxid};

/// When something happened, in the world's time, which no server sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    pub us: u64,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A server is up, with what its disk had.
    Started {
        server: ServerId,
        last: Zxid,
        /// The tree's, at `last`.
        digest: u64,
        epochs: Epochs,
        standing: Standing,
    },
    /// Its process is gone: killed, out of power, or given up by itself because its disk failed. Nothing more comes of it
    /// before the next `Started`.
    Crashed {
        server: ServerId,
        power: bool,
    },
    /// Its disk was taken away for good, and an empty one put in its place. It is down meanwhile.
    Wiped {
        server: ServerId,
    },
    Role {
        server: ServerId,
        role: RoleView,
    },
    /// An epoch is stable, and may be told from now on.
    EpochStored {
        server: ServerId,
        kind: EpochKind,
        epoch: u32,
    },
    /// Handed to the log. On a leader: proposed.
    Logged {
        server: ServerId,
        zxid: Zxid,
        txn: Bytes,
    },
    /// Its log is stable through here.
    Durable {
        server: ServerId,
        through: Zxid,
    },
    /// It told its leader that it has everything through here on disk.
    Acked {
        server: ServerId,
        through: Zxid,
    },
    /// It told a peer of an epoch that it has promised to follow nobody before, as a leader or to one.
    Promised {
        server: ServerId,
        epoch: u32,
    },
    /// It told a learner that its next epoch begins.
    EpochBegins {
        server: ServerId,
        epoch: u32,
    },
    /// Everything above `to` is being given up; `Reloaded` says what came of it.
    Truncating {
        server: ServerId,
        to: Zxid,
    },
    /// A leader's state is about to take the place of everything; `Reloaded` says what came of it.
    Installing {
        server: ServerId,
        zxid: Zxid,
        digest: u64,
    },
    Reloaded {
        server: ServerId,
        last: Zxid,
        digest: u64,
        standing: Standing,
    },
    /// A step has moved the tree to `zxid`, which is then `last_processed`: that of a transaction, or of a new epoch. All
    /// transactions logged up to it are applied.
    Applied {
        server: ServerId,
        zxid: Zxid,
        digest: u64,
    },
    /// Its disk is filling up, or has room again.
    Room {
        server: ServerId,
        room: LogRoom,
    },
    Client(ClientEvent),
    /// Sessions begin as those of one server alone; upgrading: until they make an ephemeral, which they may not otherwise.
    LocalSessions {
        upgrading: bool,
    },
    /// No faults from here on: everybody is up, and can reach everybody.
    Healed,
}

/// What a server has when all is over.
#[derive(Clone, Copy, Debug)]
pub struct Settled {
    pub server: ServerId,
    pub applied: Zxid,
    pub digest: u64,
    pub voter: bool,
}

/// A promise was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The property's name.
    pub property: &'static str,
    pub why: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.property, self.why)
    }
}
