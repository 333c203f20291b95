//! Bodies of successful replies, and notifications. Spec: client-protocol 4.3, 8 and 12.
//!
//! A server writes each body straight into its output with the `put_*` functions, between [`begin_frame`] +
//! [`ReplyHeader::encode`] and [`end_frame`]; nothing is collected first. [`Response`] is the same as a value, for
//! those who read replies: tests, tools, the load generator. A reply with an error has no body: [`put_bare`].
//! Java: `FinalRequestProcessor`, `ReplyHeader`, `WatcherEvent`.
//!
//! [`begin_frame`]: crate::wire::frame::begin_frame

use std::borrow::Cow;

use super::multi::{self, MultiResult};
use super::{Acl, AclList, OpCode, ReplyHeader, Stat, decode_acl_list, numbered, put_acl_list, xid};
use crate::wire::frame::{begin_frame, end_frame};
use crate::wire::jute::{
    DecodeError, Limits, Reader, Text, put_buffer, put_count, put_i32, put_string, put_strings, put_text,
};

/// A whole frame that is nothing but a header: errors, and successes without a body.
pub fn put_bare(out: &mut Vec<u8>, header: ReplyHeader) {
    let frame = begin_frame(out);
    header.encode(out);
    end_frame(out, frame);
}

/// `createContainer`, `createTTL` and `create2`. (`create` answers the path alone, a string.)
pub fn put_create2(out: &mut Vec<u8>, path: &str, stat: &Stat) {
    put_string(out, path);
    stat.encode(out);
}

/// `getData` and `reconfig`.
pub fn put_data(out: &mut Vec<u8>, data: Option<&[u8]>, stat: &Stat) {
    put_buffer(out, data);
    stat.encode(out);
}

/// `getChildren` and `getEphemerals`.
pub fn put_names<'s>(out: &mut Vec<u8>, count: usize, names: impl Iterator<Item = &'s str>) {
    put_strings(out, count, names);
}

/// `getChildren2`.
pub fn put_children2<'s>(out: &mut Vec<u8>, count: usize, children: impl Iterator<Item = &'s str>, stat: &Stat) {
    put_strings(out, count, children);
    stat.encode(out);
}

/// `getACL`.
pub fn put_acl(out: &mut Vec<u8>, acl: &[Acl<'_>], stat: &Stat) {
    put_acl_list(out, Some(acl));
    stat.encode(out);
}

/// `whoAmI`: pairs of scheme and user.
pub fn put_who_am_i<'s>(out: &mut Vec<u8>, count: usize, infos: impl Iterator<Item = (&'s str, &'s str)>) {
    put_count(out, count);
    let mut written = 0;
    for (scheme, user) in infos {
        put_string(out, scheme);
        put_string(out, user);
        written += 1;
    }
    assert_eq!(written, count, "a vector must hold as many elements as it announces");
}

/// `addWatch`: an error record that says there is none. Clients insist on it.
pub fn put_add_watch(out: &mut Vec<u8>) {
    put_i32(out, 0);
}

/// One identity of a connection, as `whoAmI` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientInfo<'a> {
    pub scheme: Cow<'a, str>,
    pub user: Cow<'a, str>,
}

/// The body of a successful reply as a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response<'a> {
    /// Header only: delete, ping, auth, watch lists, closeSession and their like.
    None,
    /// create; sync, whose path may be null.
    Path(Text<'a>),
    /// create2, createContainer, createTTL.
    Create2 {
        path: Cow<'a, str>,
        stat: Stat,
    },
    /// exists, setData, setACL.
    Stat(Stat),
    /// getData, reconfig.
    Data {
        data: Option<&'a [u8]>,
        stat: Stat,
    },
    Acl {
        acl: Option<AclList<'a>>,
        stat: Stat,
    },
    /// getChildren, getEphemerals.
    Names(Vec<Cow<'a, str>>),
    Children2 {
        children: Vec<Cow<'a, str>>,
        stat: Stat,
    },
    /// multi, multiRead.
    Multi(Vec<MultiResult<'a>>),
    Sasl {
        token: Option<&'a [u8]>,
    },
    AllChildrenNumber(i32),
    /// addWatch.
    Error {
        code: i32,
    },
    WhoAmI(Vec<ClientInfo<'a>>),
}

impl<'a> Response<'a> {
    /// The record behind a [`ReplyHeader`] whose `err` is 0, given what was asked.
    pub fn decode(asked: OpCode, body: &'a [u8]) -> Result<Response<'a>, DecodeError> {
        let r = &mut Reader::new(body, &Limits::FORMAT);
        Ok(match asked {
            OpCode::Create | OpCode::Sync => Response::Path(r.string()?),
            OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => Response::Create2 {
                path: r.required_string("null where the path of a new node is required")?,
                stat: Stat::decode(r)?,
            },
            OpCode::Exists | OpCode::SetData | OpCode::SetAcl => Response::Stat(Stat::decode(r)?),
            OpCode::GetData | OpCode::Reconfig => Response::Data { data: r.buffer()?, stat: Stat::decode(r)? },
            OpCode::GetAcl => Response::Acl { acl: decode_acl_list(r)?, stat: Stat::decode(r)? },
            OpCode::GetChildren | OpCode::GetEphemerals => Response::Names(decode_names(r)?),
            OpCode::GetChildren2 => Response::Children2 { children: decode_names(r)?, stat: Stat::decode(r)? },
            OpCode::Multi | OpCode::MultiRead => Response::Multi(multi::decode_results(r)?),
            OpCode::Sasl => Response::Sasl { token: r.buffer()? },
            OpCode::GetAllChildrenNumber => Response::AllChildrenNumber(r.i32()?),
            OpCode::AddWatch => Response::Error { code: r.i32()? },
            OpCode::WhoAmI => Response::WhoAmI(decode_client_infos(r)?),
            OpCode::Delete
            | OpCode::DeleteContainer
            | OpCode::Ping
            | OpCode::Auth
            | OpCode::CheckWatches
            | OpCode::RemoveWatches
            | OpCode::SetWatches
            | OpCode::SetWatches2
            | OpCode::CloseSession => Response::None,
            // The handshake's answer has no header, and nobody may ask for the other two.
            OpCode::CreateSession | OpCode::Check | OpCode::Error => {
                return Err(DecodeError::UnknownType(asked.number()));
            }
        })
    }

    /// Appends the record alone.
    pub fn encode_body(&self, out: &mut Vec<u8>) {
        match self {
            Response::None => {}
            Response::Path(path) => put_text(out, path),
            Response::Create2 { path, stat } => put_create2(out, path, stat),
            Response::Stat(stat) => stat.encode(out),
            Response::Data { data, stat } => put_data(out, *data, stat),
            Response::Acl { acl, stat } => {
                put_acl_list(out, acl.as_deref());
                stat.encode(out);
            }
            Response::Names(names) => put_names(out, names.len(), names.iter().map(Cow::as_ref)),
            Response::Children2 { children, stat } => {
                put_children2(out, children.len(), children.iter().map(Cow::as_ref), stat);
            }
            Response::Multi(results) => multi::put_results(out, results),
            Response::Sasl { token } => put_buffer(out, *token),
            Response::AllChildrenNumber(number) => put_i32(out, *number),
            Response::Error { code } => put_i32(out, *code),
            Response::WhoAmI(infos) => {
                put_who_am_i(out, infos.len(), infos.iter().map(|info| (info.scheme.as_ref(), info.user.as_ref())));
            }
        }
    }

    /// Appends a whole frame: length, header, record.
    pub fn encode(&self, header: ReplyHeader, out: &mut Vec<u8>) {
        let frame = begin_frame(out);
        header.encode(out);
        self.encode_body(out);
        end_frame(out, frame);
    }
}

/// A vector of names; null reads as empty, a null name does not exist.
pub(super) fn decode_names<'a>(r: &mut Reader<'a>) -> Result<Vec<Cow<'a, str>>, DecodeError> {
    Ok(r.vector(|r| r.required_string("null where a name is required"))?.unwrap_or_default())
}

fn decode_client_infos<'a>(r: &mut Reader<'a>) -> Result<Vec<ClientInfo<'a>>, DecodeError> {
    let info = |r: &mut Reader<'a>| {
        Ok(ClientInfo {
            scheme: r.required_string("null where a scheme is required")?,
            user: r.required_string("null where a user is required")?,
        })
    };
    Ok(r.vector(info)?.unwrap_or_default())
}

numbered! {
    /// What happened to a watched node. Java: `Watcher.Event.EventType`.
    EventKind {
        NodeCreated = 1 "NodeCreated",
        NodeDeleted = 2 "NodeDeleted",
        NodeDataChanged = 3 "NodeDataChanged",
        NodeChildrenChanged = 4 "NodeChildrenChanged",
    }
}

/// The only state a server ever names in a notification. Java: `KeeperState.SyncConnected`.
const SYNC_CONNECTED: i32 = 3;

/// A notification. `path` is that of the node that changed, in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatcherEvent<'a> {
    pub kind: EventKind,
    pub path: Cow<'a, str>,
}

impl<'a> WatcherEvent<'a> {
    /// Appends a whole frame. `zxid` is that of the transaction, or -1 for what `setWatches` finds.
    pub fn encode(&self, zxid: i64, out: &mut Vec<u8>) {
        let frame = begin_frame(out);
        ReplyHeader { xid: xid::NOTIFICATION, zxid, err: 0 }.encode(out);
        put_i32(out, self.kind.number());
        put_i32(out, SYNC_CONNECTED);
        put_string(out, &self.path);
        end_frame(out, frame);
    }

    /// The record behind a [`ReplyHeader`] whose xid is that of a notification.
    pub fn decode(body: &'a [u8]) -> Result<WatcherEvent<'a>, DecodeError> {
        let mut reader = Reader::new(body, &Limits::FORMAT);
        let kind = EventKind::try_from(reader.i32()?).map_err(DecodeError::UnknownType)?;
        if reader.i32()? != SYNC_CONNECTED {
            return Err(DecodeError::Invalid("a notification in a state no server sends"));
        }
        Ok(WatcherEvent { kind, path: reader.required_string("null where the path of a notification is required")? })
    }
}
