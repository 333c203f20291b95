//! Everything a client sends and gets on the client port, as values and as bytes. Spec: client-protocol 4 to 12.
//!
//! * here: the small records both directions share ([`Stat`], [`Acl`], headers, enumerations) and the opcodes.
//! * [`connect`]: the handshake. * [`request`]: every operation. * [`multi`]: the items of `multi` and `multiRead`.
//! * [`reply`]: bodies of successful replies, notifications; decoding of the same for tests and tools.
//!
//! Decoding borrows from the frame. A null string, buffer or list stays `None` wherever the answer to it is specified.
//! Java: `proto.*`, `data.*`, `ZooDefs.OpCode`.

pub mod connect;
pub mod multi;
pub mod reply;
pub mod request;

use std::borrow::Cow;

pub use connect::{ConnectRequest, ConnectResponse};
pub use multi::{MultiOp, MultiReadOp, MultiResult};
pub use reply::{ClientInfo, EventKind, Response, WatcherEvent};
pub use request::{CreateRequest, Request, RequestError, SetWatches};

use super::jute::{DecodeError, Reader, put_count, put_i32, put_i64, put_text};

/// 68 bytes, as shown to clients. Java: `data.Stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    pub czxid: i64,
    pub mzxid: i64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    pub cversion: i32,
    pub aversion: i32,
    pub ephemeral_owner: i64,
    pub data_length: i32,
    pub num_children: i32,
    pub pzxid: i64,
}

impl Stat {
    pub const ENCODED_BYTES: usize = 68;

    pub fn encode(&self, out: &mut Vec<u8>) {
        put_i64(out, self.czxid);
        put_i64(out, self.mzxid);
        put_i64(out, self.ctime);
        put_i64(out, self.mtime);
        put_i32(out, self.version);
        put_i32(out, self.cversion);
        put_i32(out, self.aversion);
        put_i64(out, self.ephemeral_owner);
        put_i32(out, self.data_length);
        put_i32(out, self.num_children);
        put_i64(out, self.pzxid);
    }

    pub fn decode(reader: &mut Reader<'_>) -> Result<Stat, DecodeError> {
        Ok(Stat {
            czxid: reader.i64()?,
            mzxid: reader.i64()?,
            ctime: reader.i64()?,
            mtime: reader.i64()?,
            version: reader.i32()?,
            cversion: reader.i32()?,
            aversion: reader.i32()?,
            ephemeral_owner: reader.i64()?,
            data_length: reader.i32()?,
            num_children: reader.i32()?,
            pzxid: reader.i64()?,
        })
    }
}

/// One ACL entry. A null scheme or id is `None` (semantics 8.3 treats them apart).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Acl<'a> {
    pub perms: i32,
    pub scheme: Option<Cow<'a, str>>,
    pub id: Option<Cow<'a, str>>,
}

/// An ACL as a transaction or request carries it. One entry is by far the commonest.
pub type AclList<'a> = Vec<Acl<'a>>;

impl<'a> Acl<'a> {
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_i32(out, self.perms);
        put_text(out, &self.scheme);
        put_text(out, &self.id);
    }

    pub fn decode(reader: &mut Reader<'a>) -> Result<Acl<'a>, DecodeError> {
        Ok(Acl { perms: reader.i32()?, scheme: reader.string()?, id: reader.string()? })
    }
}

/// `vector<ACL>`; `None` is null.
pub fn decode_acl_list<'a>(reader: &mut Reader<'a>) -> Result<Option<AclList<'a>>, DecodeError> {
    reader.vector(Acl::decode)
}

/// `vector<ACL>`; `None` is null.
pub fn put_acl_list(out: &mut Vec<u8>, list: Option<&[Acl<'_>]>) {
    let Some(list) = list else {
        return put_i32(out, -1);
    };
    put_count(out, list.len());
    list.iter().for_each(|acl| acl.encode(out));
}

/// Permission bits of an ACL entry.
pub mod perms {
    pub const READ: i32 = 1;
    pub const WRITE: i32 = 2;
    pub const CREATE: i32 = 4;
    pub const DELETE: i32 = 8;
    pub const ADMIN: i32 = 16;
    pub const ALL: i32 = 31;
}

/// Before every request but the first. Dispatch is by `opcode`, never by `xid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    pub xid: i32,
    /// As received; [`OpCode`] names the known ones.
    pub opcode: i32,
}

impl RequestHeader {
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_i32(out, self.xid);
        put_i32(out, self.opcode);
    }

    pub fn decode(reader: &mut Reader<'_>) -> Result<RequestHeader, DecodeError> {
        Ok(RequestHeader { xid: reader.i32()?, opcode: reader.i32()? })
    }
}

/// Before every reply but the first. Spec: client-protocol 6 and 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyHeader {
    pub xid: i32,
    pub zxid: i64,
    /// 0, or the number of an `ErrorCode`; then no body follows.
    pub err: i32,
}

impl ReplyHeader {
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_i32(out, self.xid);
        put_i64(out, self.zxid);
        put_i32(out, self.err);
    }

    pub fn decode(reader: &mut Reader<'_>) -> Result<ReplyHeader, DecodeError> {
        Ok(ReplyHeader { xid: reader.i32()?, zxid: reader.i64()?, err: reader.i32()? })
    }
}

/// Xids with a meaning of their own. Spec: client-protocol 6.
pub mod xid {
    pub const NOTIFICATION: i32 = -1;
    pub const PING: i32 = -2;
    pub const AUTH: i32 = -4;
    pub const SET_WATCHES: i32 = -8;
}

macro_rules! numbered {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $number:literal $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(i32)]
        pub enum $name { $($(#[$variant_meta])* $variant = $number,)* }

        impl $name {
            pub const ALL: &[$name] = &[$($name::$variant,)*];

            /// The number on the wire.
            pub fn number(self) -> i32 {
                self as i32
            }

            /// Java's spelling.
            pub fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }

        /// The error is the unknown number itself.
        impl TryFrom<i32> for $name {
            type Error = i32;

            #[inline]
            fn try_from(number: i32) -> Result<$name, i32> {
                match number {
                    $($number => Ok($name::$variant),)*
                    other => Err(other),
                }
            }
        }
    };
}
pub(crate) use numbered;

numbered! {
    /// What a request asks for, and what a transaction did. Spec: client-protocol 8. Java: `ZooDefs.OpCode`.
    OpCode {
        Create = 1 "create",
        Delete = 2 "delete",
        Exists = 3 "exists",
        GetData = 4 "getData",
        SetData = 5 "setData",
        GetAcl = 6 "getACL",
        SetAcl = 7 "setACL",
        GetChildren = 8 "getChildren",
        Sync = 9 "sync",
        Ping = 11 "ping",
        GetChildren2 = 12 "getChildren2",
        /// Only inside `multi`.
        Check = 13 "check",
        Multi = 14 "multi",
        Create2 = 15 "create2",
        Reconfig = 16 "reconfig",
        CheckWatches = 17 "checkWatches",
        RemoveWatches = 18 "removeWatches",
        CreateContainer = 19 "createContainer",
        DeleteContainer = 20 "deleteContainer",
        CreateTtl = 21 "createTTL",
        MultiRead = 22 "multiRead",
        Auth = 100 "auth",
        SetWatches = 101 "setWatches",
        Sasl = 102 "sasl",
        GetEphemerals = 103 "getEphemerals",
        GetAllChildrenNumber = 104 "getAllChildrenNumber",
        SetWatches2 = 105 "setWatches2",
        AddWatch = 106 "addWatch",
        WhoAmI = 107 "whoAmI",
        CreateSession = -10 "createSession",
        CloseSession = -11 "closeSession",
        /// Only as a transaction and in results of `multi`.
        Error = -1 "error",
    }
}

impl OpCode {
    /// Whether a client may send it at all. Others are answered UNIMPLEMENTED, then the connection closes: `check` and
    /// `error` as every unlisted number; `createSession` and `deleteContainer` because only servers ask for them
    /// (client-protocol 8.1; Java lets clients, we do not).
    pub fn is_for_clients(self) -> bool {
        !matches!(self, OpCode::Check | OpCode::CreateSession | OpCode::DeleteContainer | OpCode::Error)
    }
}

numbered! {
    /// How far an added watch reaches. Java: `AddWatchMode`.
    AddWatchMode {
        Persistent = 0 "PERSISTENT",
        PersistentRecursive = 1 "PERSISTENT_RECURSIVE",
    }
}

numbered! {
    /// Which watches `checkWatches` and `removeWatches` mean. Java: `Watcher.WatcherType`.
    WatcherType {
        Children = 1 "Children",
        Data = 2 "Data",
        Any = 3 "Any",
        Persistent = 4 "Persistent",
        PersistentRecursive = 5 "PersistentRecursive",
    }
}
