//! What clients asked, were answered and were told: the history that the properties judge.
//!
//! Nothing is known of a request whose answer never came: it may have happened, may happen yet, or never. So a request is one
//! event ([`ClientEvent::Sent`]) and its answer another, and no property ever takes silence for a no.

use std::borrow::Cow;
use std::rc::Rc;

use super::administrator::Reconfigure;
use crate::core::ServerId;
use crate::wire::client::{
    Acl, AddWatchMode, CreateRequest, EventKind, MultiOp, OpCode, Request, Response, SetWatches, WatcherType, perms,
    xid,
};
use crate::wire::jute::Text;

/// A znode's path, shared: there are few of them and they are everywhere.
pub type Path = Rc<str>;

/// One connection of one client, from the attempt on. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Link {
    pub client: u32,
    pub number: u32,
}

/// Something a client did, or that was done to it.
#[derive(Clone, Debug)]
pub enum ClientEvent {
    /// A connection was asked for, with a handshake in it: for a new session, or for the one it `resumes`. The client has
    /// `seen` this zxid, which the server must have reached.
    Connecting {
        link: Link,
        server: ServerId,
        resumes: Option<i64>,
        seen: i64,
    },
    /// The session is this client's, until `timeout_ms` after the last sign of it.
    Welcomed {
        link: Link,
        session: i64,
        timeout_ms: i32,
    },
    /// The server says that this session is over.
    Refused {
        link: Link,
        session: i64,
    },
    Sent(Rc<Asked>),
    Answered(Answered),
    Notified(Notified),
    /// The connection is gone, whoever ended it. Nothing comes on it any more; what was sent on it may yet arrive.
    Lost {
        link: Link,
    },
    /// Nobody will use this session again, and nobody told the servers.
    GaveUp {
        session: i64,
    },
    /// The server sent what makes no sense.
    Garbled {
        link: Link,
        why: String,
    },
}

/// A request as it was sent.
#[derive(Debug)]
pub struct Asked {
    pub link: Link,
    pub session: i64,
    /// For writes: never used twice in a session, and counting up.
    pub xid: i32,
    pub op: Op,
}

#[derive(Clone, Debug)]
pub struct Answered {
    pub asked: Rc<Asked>,
    /// Of the reply: that of the request, if the server is sane.
    pub xid: i32,
    pub zxid: i64,
    /// 0, or why not.
    pub err: i32,
    /// The record behind the header. [`Answered::response`] reads it.
    pub body: Rc<[u8]>,
}

impl Answered {
    pub fn response(&self) -> Result<Response<'_>, String> {
        Response::decode(self.asked.op.opcode(), &self.body).map_err(|why| format!("a body nobody can read: {why}"))
    }
}

#[derive(Clone, Debug)]
pub struct Notified {
    pub link: Link,
    /// Of the change; -1 for what `setWatches` found.
    pub zxid: i64,
    pub kind: EventKind,
    pub path: Path,
}

/// What kind of node a create wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Persistent,
    Ephemeral,
    Sequential,
    EphemeralSequential,
    Container,
}

impl Mode {
    pub fn flags(self) -> i32 {
        match self {
            Mode::Persistent => 0,
            Mode::Ephemeral => 1,
            Mode::Sequential => 2,
            Mode::EphemeralSequential => 3,
            Mode::Container => 4,
        }
    }

    pub fn is_sequential(self) -> bool {
        matches!(self, Mode::Sequential | Mode::EphemeralSequential)
    }

    pub fn is_ephemeral(self) -> bool {
        matches!(self, Mode::Ephemeral | Mode::EphemeralSequential)
    }
}

/// The watches a client wants again after it connected anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchLists {
    pub since: i64,
    pub data: Vec<Path>,
    pub exist: Vec<Path>,
    pub child: Vec<Path>,
    pub persistent: Vec<Path>,
    pub recursive: Vec<Path>,
}

impl WatchLists {
    pub fn is_empty(&self) -> bool {
        [&self.data, &self.exist, &self.child, &self.persistent, &self.recursive].iter().all(|paths| paths.is_empty())
    }

    pub fn request(&self) -> SetWatches<'_> {
        let borrowed = |paths: &'_ [Path]| paths.iter().map(|path| path.to_string().into()).collect();
        SetWatches {
            relative_zxid: self.since,
            data: borrowed(&self.data),
            exist: borrowed(&self.exist),
            child: borrowed(&self.child),
            persistent: borrowed(&self.persistent),
            persistent_recursive: borrowed(&self.recursive),
        }
    }
}

/// A request, as the properties reason about it.
#[derive(Clone, Debug)]
pub enum Op {
    /// `stat`: by `create2`, which answers with the node's Stat.
    Create {
        path: Path,
        value: u64,
        mode: Mode,
        stat: bool,
    },
    Delete {
        path: Path,
        version: i32,
    },
    Set {
        path: Path,
        value: u64,
        version: i32,
    },
    /// Only in a multi.
    Check {
        path: Path,
        version: i32,
    },
    Multi(Vec<Op>),
    Exists {
        path: Path,
        watch: bool,
    },
    Get {
        path: Path,
        watch: bool,
    },
    Children {
        path: Path,
        watch: bool,
        stat: bool,
    },
    Ephemerals,
    Sync {
        path: Path,
    },
    AddWatch {
        path: Path,
        mode: AddWatchMode,
    },
    RemoveWatches {
        path: Path,
        kind: WatcherType,
    },
    SetWatches(WatchLists),
    Ping,
    Close,
    Reconfig(Reconfigure),
}

impl Op {
    pub fn opcode(&self) -> OpCode {
        match self {
            Op::Create { mode: Mode::Container, .. } => OpCode::CreateContainer,
            Op::Create { stat: true, .. } => OpCode::Create2,
            Op::Create { stat: false, .. } => OpCode::Create,
            Op::Delete { .. } => OpCode::Delete,
            Op::Set { .. } => OpCode::SetData,
            Op::Check { .. } => OpCode::Check,
            Op::Multi(_) => OpCode::Multi,
            Op::Exists { .. } => OpCode::Exists,
            Op::Get { .. } => OpCode::GetData,
            Op::Children { stat: true, .. } => OpCode::GetChildren2,
            Op::Children { stat: false, .. } => OpCode::GetChildren,
            Op::Ephemerals => OpCode::GetEphemerals,
            Op::Sync { .. } => OpCode::Sync,
            Op::AddWatch { .. } => OpCode::AddWatch,
            Op::RemoveWatches { .. } => OpCode::RemoveWatches,
            Op::SetWatches(_) => OpCode::SetWatches2,
            Op::Ping => OpCode::Ping,
            Op::Close => OpCode::CloseSession,
            Op::Reconfig(_) => OpCode::Reconfig,
        }
    }

    /// Appends the request's frame.
    pub fn encode(&self, xid: i32, out: &mut Vec<u8>) {
        let data = self.data();
        let request = match self {
            Op::Create { mode: Mode::Container, .. } => Request::CreateContainer(self.create(&data)),
            Op::Create { stat: true, .. } => Request::Create2(self.create(&data)),
            Op::Create { stat: false, .. } => Request::Create(self.create(&data)),
            Op::Delete { path, version } => Request::Delete { path: text(path), version: *version },
            Op::Set { path, version, .. } => {
                Request::SetData { path: text(path), data: Some(&data), version: *version }
            }
            Op::Multi(ops) => {
                let data: Vec<Vec<u8>> = ops.iter().map(Op::data).collect();
                let items = ops.iter().zip(&data).map(|(op, data)| op.item(data)).collect();
                return Request::Multi(items).encode(xid, out);
            }
            Op::Exists { path, watch } => Request::Exists { path: text(path), watch: *watch },
            Op::Get { path, watch } => Request::GetData { path: text(path), watch: *watch },
            Op::Children { path, watch, stat: true } => Request::GetChildren2 { path: text(path), watch: *watch },
            Op::Children { path, watch, stat: false } => Request::GetChildren { path: text(path), watch: *watch },
            Op::Ephemerals => Request::GetEphemerals { prefix: Some("/".into()) },
            Op::Sync { path } => Request::Sync { path: text(path) },
            Op::AddWatch { path, mode } => Request::AddWatch { path: text(path), mode: *mode },
            Op::RemoveWatches { path, kind } => Request::RemoveWatches { path: text(path), kind: *kind },
            Op::SetWatches(lists) => Request::SetWatches2(lists.request()),
            Op::Ping => Request::Ping,
            Op::Close => Request::CloseSession,
            Op::Reconfig(wanted) => wanted.request(),
            Op::Check { .. } => unreachable!("only in a multi"),
        };
        request.encode(xid, out);
    }

    /// As one of several.
    fn item<'a>(&'a self, data: &'a [u8]) -> MultiOp<'a> {
        match self {
            Op::Create { mode: Mode::Container, .. } => MultiOp::CreateContainer(self.create(data)),
            Op::Create { stat: true, .. } => MultiOp::Create2(self.create(data)),
            Op::Create { stat: false, .. } => MultiOp::Create(self.create(data)),
            Op::Delete { path, version } => MultiOp::Delete { path: text(path), version: *version },
            Op::Set { path, version, .. } => MultiOp::SetData { path: text(path), data: Some(data), version: *version },
            Op::Check { path, version } => MultiOp::Check { path: text(path), version: *version },
            other => unreachable!("{other:?} cannot be part of a multi"),
        }
    }

    fn create<'a>(&'a self, data: &'a [u8]) -> CreateRequest<'a> {
        let Op::Create { path, mode, .. } = self else { unreachable!("called for creates only") };
        let open = Acl { perms: perms::ALL, scheme: Some("world".into()), id: Some("anyone".into()) };
        CreateRequest { path: text(path), data: Some(data), acl: Some(vec![open]), flags: mode.flags() }
    }

    /// What it writes.
    fn data(&self) -> Vec<u8> {
        match self {
            Op::Create { value, .. } | Op::Set { value, .. } => data_of(*value),
            _ => Vec::new(),
        }
    }

    /// The xid that goes with it, if it is one with a meaning of its own.
    pub fn own_xid(&self) -> Option<i32> {
        match self {
            Op::Ping => Some(xid::PING),
            Op::SetWatches(_) => Some(xid::SET_WATCHES),
            _ => None,
        }
    }

    /// Goes through the log.
    pub fn is_write(&self) -> bool {
        let is_of_nodes = matches!(self, Op::Create { .. } | Op::Delete { .. } | Op::Set { .. } | Op::Multi(_));
        is_of_nodes || matches!(self, Op::Close | Op::Reconfig(_))
    }
}

fn text(path: &Path) -> Text<'_> {
    Some(Cow::Borrowed(path))
}

/// The data that stands for a value: each is written once, so what is read names its write. Length and filling are its own.
pub fn data_of(value: u64) -> Vec<u8> {
    let filling = value % 11 * 7;
    let mut data = value.to_be_bytes().to_vec();
    data.extend((0..filling).map(|at| value.wrapping_mul(31).wrapping_add(at) as u8));
    data
}
