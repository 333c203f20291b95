//! Every request of the protocol after the handshake: one variant an operation. Spec: client-protocol 4.3, 8 and 11.
//!
//! Decoding is the whole ingress check of a request's *form*: what comes out of it can be forwarded to any leader
//! (client-protocol 1.2). What it *asks* (paths, ACLs, versions, create flags outside `multi`) is judged in `core`.
//! Bytes behind a record are ignored, as Java does. Java: `ZooKeeperServer.processPacket`, `PrepRequestProcessor`.

use std::borrow::Cow;

use super::multi::{self, MultiOp, MultiReadOp};
use super::{AclList, AddWatchMode, OpCode, RequestHeader, WatcherType, decode_acl_list, put_acl_list};
use crate::wire::frame::{begin_frame, end_frame};
use crate::wire::jute::{
    DecodeError, Limits, Reader, Text, put_bool, put_buffer, put_i32, put_i64, put_strings, put_text,
};

/// Why a request cannot be understood, by what the connection does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Answer UNIMPLEMENTED (-6) with zxid -1, then close. The session lives on.
    #[error("unknown opcode {0}")]
    UnknownOpcode(i32),
    /// Answer MARSHALLINGERROR (-5) and go on; for `auth` and `sasl` close without a reply.
    #[error("malformed request: {0}")]
    Malformed(#[from] DecodeError),
}

/// What `create`, `create2`, `createContainer` and, with a TTL beside it, `createTTL` carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateRequest<'a> {
    pub path: Text<'a>,
    pub data: Option<&'a [u8]>,
    pub acl: Option<AclList<'a>>,
    /// As sent. Spec: client-protocol 11. Java: `CreateMode`.
    pub flags: i32,
}

/// Watches a reconnecting client asks for again. The persistent ones only come with `setWatches2`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetWatches<'a> {
    pub relative_zxid: i64,
    pub data: Vec<Cow<'a, str>>,
    pub exist: Vec<Cow<'a, str>>,
    pub child: Vec<Cow<'a, str>>,
    pub persistent: Vec<Cow<'a, str>>,
    pub persistent_recursive: Vec<Cow<'a, str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    Create(CreateRequest<'a>),
    Create2(CreateRequest<'a>),
    CreateContainer(CreateRequest<'a>),
    CreateTtl {
        create: CreateRequest<'a>,
        ttl_ms: i64,
    },
    Delete {
        path: Text<'a>,
        version: i32,
    },
    /// Not for clients: see [`OpCode::is_for_clients`].
    DeleteContainer {
        path: Text<'a>,
    },
    Exists {
        path: Text<'a>,
        watch: bool,
    },
    GetData {
        path: Text<'a>,
        watch: bool,
    },
    SetData {
        path: Text<'a>,
        data: Option<&'a [u8]>,
        version: i32,
    },
    GetAcl {
        path: Text<'a>,
    },
    SetAcl {
        path: Text<'a>,
        acl: Option<AclList<'a>>,
        version: i32,
    },
    GetChildren {
        path: Text<'a>,
        watch: bool,
    },
    GetChildren2 {
        path: Text<'a>,
        watch: bool,
    },
    Sync {
        path: Text<'a>,
    },
    Ping,
    Multi(Vec<MultiOp<'a>>),
    MultiRead(Vec<MultiReadOp<'a>>),
    Reconfig {
        joining: Text<'a>,
        leaving: Text<'a>,
        new_members: Text<'a>,
        config_id: i64,
    },
    CheckWatches {
        path: Text<'a>,
        kind: WatcherType,
    },
    RemoveWatches {
        path: Text<'a>,
        kind: WatcherType,
    },
    /// The packet's `type` is ignored.
    Auth {
        scheme: Text<'a>,
        auth: Option<&'a [u8]>,
    },
    Sasl {
        token: Option<&'a [u8]>,
    },
    SetWatches(SetWatches<'a>),
    SetWatches2(SetWatches<'a>),
    AddWatch {
        path: Text<'a>,
        mode: AddWatchMode,
    },
    GetEphemerals {
        prefix: Text<'a>,
    },
    GetAllChildrenNumber {
        path: Text<'a>,
    },
    WhoAmI,
    /// Not for clients: what a learner forwards when one of its clients wants a session.
    CreateSession {
        timeout_ms: i32,
    },
    CloseSession,
}

impl<'a> Request<'a> {
    /// What only a session that everybody knows may ask for.
    pub fn makes_ephemerals(&self) -> bool {
        let is_ephemeral = |create: &CreateRequest<'_>| matches!(create.flags, 1 | 3);
        match self {
            Request::Create(create) | Request::Create2(create) => is_ephemeral(create),
            Request::Multi(ops) => ops.iter().any(|op| match op {
                MultiOp::Create(create) | MultiOp::Create2(create) => is_ephemeral(create),
                _ => false,
            }),
            _ => false,
        }
    }

    pub fn opcode(&self) -> OpCode {
        match self {
            Request::Create(_) => OpCode::Create,
            Request::Create2(_) => OpCode::Create2,
            Request::CreateContainer(_) => OpCode::CreateContainer,
            Request::CreateTtl { .. } => OpCode::CreateTtl,
            Request::Delete { .. } => OpCode::Delete,
            Request::DeleteContainer { .. } => OpCode::DeleteContainer,
            Request::Exists { .. } => OpCode::Exists,
            Request::GetData { .. } => OpCode::GetData,
            Request::SetData { .. } => OpCode::SetData,
            Request::GetAcl { .. } => OpCode::GetAcl,
            Request::SetAcl { .. } => OpCode::SetAcl,
            Request::GetChildren { .. } => OpCode::GetChildren,
            Request::GetChildren2 { .. } => OpCode::GetChildren2,
            Request::Sync { .. } => OpCode::Sync,
            Request::Ping => OpCode::Ping,
            Request::Multi(_) => OpCode::Multi,
            Request::MultiRead(_) => OpCode::MultiRead,
            Request::Reconfig { .. } => OpCode::Reconfig,
            Request::CheckWatches { .. } => OpCode::CheckWatches,
            Request::RemoveWatches { .. } => OpCode::RemoveWatches,
            Request::Auth { .. } => OpCode::Auth,
            Request::Sasl { .. } => OpCode::Sasl,
            Request::SetWatches(_) => OpCode::SetWatches,
            Request::SetWatches2(_) => OpCode::SetWatches2,
            Request::AddWatch { .. } => OpCode::AddWatch,
            Request::GetEphemerals { .. } => OpCode::GetEphemerals,
            Request::GetAllChildrenNumber { .. } => OpCode::GetAllChildrenNumber,
            Request::WhoAmI => OpCode::WhoAmI,
            Request::CreateSession { .. } => OpCode::CreateSession,
            Request::CloseSession => OpCode::CloseSession,
        }
    }

    /// The record behind a [`RequestHeader`]. Knows every request one server may forward to another; what a client may
    /// not send is for the caller to refuse ([`OpCode::is_for_clients`]), except `check`, which is only ever an item
    /// of `multi` and unknown here.
    pub fn decode(opcode: i32, body: &'a [u8], limits: &Limits) -> Result<Request<'a>, RequestError> {
        let known = OpCode::try_from(opcode).map_err(RequestError::UnknownOpcode)?;
        let r = &mut Reader::new(body, limits);
        Ok(match known {
            OpCode::Create => Request::Create(CreateRequest::decode(r)?),
            OpCode::Create2 => Request::Create2(CreateRequest::decode(r)?),
            OpCode::CreateContainer => Request::CreateContainer(CreateRequest::decode(r)?),
            OpCode::CreateTtl => Request::CreateTtl { create: CreateRequest::decode(r)?, ttl_ms: r.i64()? },
            OpCode::Delete => Request::Delete { path: r.string()?, version: r.i32()? },
            OpCode::DeleteContainer => Request::DeleteContainer { path: r.string()? },
            OpCode::Exists => Request::Exists { path: r.string()?, watch: r.bool()? },
            OpCode::GetData => Request::GetData { path: r.string()?, watch: r.bool()? },
            OpCode::SetData => Request::SetData { path: r.string()?, data: r.buffer()?, version: r.i32()? },
            OpCode::GetAcl => Request::GetAcl { path: r.string()? },
            OpCode::SetAcl => Request::SetAcl { path: r.string()?, acl: decode_acl_list(r)?, version: r.i32()? },
            OpCode::GetChildren => Request::GetChildren { path: r.string()?, watch: r.bool()? },
            OpCode::GetChildren2 => Request::GetChildren2 { path: r.string()?, watch: r.bool()? },
            OpCode::Sync => Request::Sync { path: r.string()? },
            OpCode::Ping => Request::Ping,
            OpCode::Multi => Request::Multi(multi::decode_ops(r)?),
            OpCode::MultiRead => Request::MultiRead(multi::decode_read_ops(r)?),
            OpCode::Reconfig => Request::Reconfig {
                joining: r.string()?,
                leaving: r.string()?,
                new_members: r.string()?,
                config_id: r.i64()?,
            },
            OpCode::CheckWatches => Request::CheckWatches { path: r.string()?, kind: decode_watcher_type(r)? },
            OpCode::RemoveWatches => Request::RemoveWatches { path: r.string()?, kind: decode_watcher_type(r)? },
            OpCode::Auth => {
                r.i32()?;
                Request::Auth { scheme: r.string()?, auth: r.buffer()? }
            }
            OpCode::Sasl => Request::Sasl { token: r.buffer()? },
            OpCode::SetWatches => Request::SetWatches(SetWatches::decode(r)?),
            OpCode::SetWatches2 => Request::SetWatches2(SetWatches::decode(r)?.with_persistent(r)?),
            OpCode::AddWatch => {
                let path = r.string()?;
                let mode = AddWatchMode::try_from(r.i32()?).map_err(|_| DecodeError::Invalid("unknown watch mode"))?;
                Request::AddWatch { path, mode }
            }
            OpCode::GetEphemerals => Request::GetEphemerals { prefix: r.string()? },
            OpCode::GetAllChildrenNumber => Request::GetAllChildrenNumber { path: r.string()? },
            OpCode::WhoAmI => Request::WhoAmI,
            OpCode::CreateSession => Request::CreateSession { timeout_ms: r.i32()? },
            OpCode::CloseSession => Request::CloseSession,
            OpCode::Check | OpCode::Error => return Err(RequestError::UnknownOpcode(opcode)),
        })
    }

    /// Appends a whole frame: length, header, record.
    pub fn encode(&self, xid: i32, out: &mut Vec<u8>) {
        let frame = begin_frame(out);
        RequestHeader { xid, opcode: self.opcode().number() }.encode(out);
        self.encode_body(out);
        end_frame(out, frame);
    }

    /// Appends the record alone, as a learner forwards it.
    pub fn encode_body(&self, out: &mut Vec<u8>) {
        match self {
            Request::Create(create) | Request::Create2(create) | Request::CreateContainer(create) => create.encode(out),
            Request::CreateTtl { create, ttl_ms } => {
                create.encode(out);
                put_i64(out, *ttl_ms);
            }
            Request::Delete { path, version } => {
                put_text(out, path);
                put_i32(out, *version);
            }
            Request::Exists { path, watch }
            | Request::GetData { path, watch }
            | Request::GetChildren { path, watch }
            | Request::GetChildren2 { path, watch } => {
                put_text(out, path);
                put_bool(out, *watch);
            }
            Request::SetData { path, data, version } => {
                put_text(out, path);
                put_buffer(out, *data);
                put_i32(out, *version);
            }
            Request::SetAcl { path, acl, version } => {
                put_text(out, path);
                put_acl_list(out, acl.as_deref());
                put_i32(out, *version);
            }
            Request::DeleteContainer { path }
            | Request::GetAcl { path }
            | Request::Sync { path }
            | Request::GetEphemerals { prefix: path }
            | Request::GetAllChildrenNumber { path } => put_text(out, path),
            Request::Multi(ops) => multi::put_ops(out, ops),
            Request::MultiRead(ops) => multi::put_read_ops(out, ops),
            Request::Reconfig { joining, leaving, new_members, config_id } => {
                put_text(out, joining);
                put_text(out, leaving);
                put_text(out, new_members);
                put_i64(out, *config_id);
            }
            Request::CheckWatches { path, kind } | Request::RemoveWatches { path, kind } => {
                put_text(out, path);
                put_i32(out, kind.number());
            }
            Request::Auth { scheme, auth } => {
                put_i32(out, 0);
                put_text(out, scheme);
                put_buffer(out, *auth);
            }
            Request::Sasl { token } => put_buffer(out, *token),
            Request::SetWatches(watches) => watches.encode(out),
            Request::SetWatches2(watches) => {
                watches.encode(out);
                put_paths(out, &watches.persistent);
                put_paths(out, &watches.persistent_recursive);
            }
            Request::AddWatch { path, mode } => {
                put_text(out, path);
                put_i32(out, mode.number());
            }
            Request::CreateSession { timeout_ms } => put_i32(out, *timeout_ms),
            Request::Ping | Request::WhoAmI | Request::CloseSession => {}
        }
    }
}

impl<'a> CreateRequest<'a> {
    pub(super) fn decode(r: &mut Reader<'a>) -> Result<CreateRequest<'a>, DecodeError> {
        Ok(CreateRequest { path: r.string()?, data: r.buffer()?, acl: decode_acl_list(r)?, flags: r.i32()? })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_text(out, &self.path);
        put_buffer(out, self.data);
        put_acl_list(out, self.acl.as_deref());
        put_i32(out, self.flags);
    }
}

impl<'a> SetWatches<'a> {
    /// What `setWatches` and `setWatches2` have in common.
    fn decode(r: &mut Reader<'a>) -> Result<SetWatches<'a>, DecodeError> {
        Ok(SetWatches {
            relative_zxid: r.i64()?,
            data: decode_paths(r)?,
            exist: decode_paths(r)?,
            child: decode_paths(r)?,
            ..SetWatches::default()
        })
    }

    fn with_persistent(self, r: &mut Reader<'a>) -> Result<SetWatches<'a>, DecodeError> {
        // A null path in these two lists is none that could ever fire, and Java takes it.
        let present = |r: &mut Reader<'a>| {
            let paths: Vec<Text<'a>> = r.vector(Reader::string)?.ok_or(NULL_PATHS)?;
            Ok(paths.into_iter().flatten().collect())
        };
        Ok(SetWatches { persistent: present(r)?, persistent_recursive: present(r)?, ..self })
    }

    /// The persistent lists, which only `setWatches2` has, are left to it.
    fn encode(&self, out: &mut Vec<u8>) {
        put_i64(out, self.relative_zxid);
        put_paths(out, &self.data);
        put_paths(out, &self.exist);
        put_paths(out, &self.child);
    }
}

const NULL_PATHS: DecodeError = DecodeError::Invalid("null where a list of watched paths is required");

/// Java walks over these lists without a look and answers -5 when one of them, or a path in it, is null.
fn decode_paths<'a>(r: &mut Reader<'a>) -> Result<Vec<Cow<'a, str>>, DecodeError> {
    r.vector(|r| r.required_string("null where a watched path is required"))?.ok_or(NULL_PATHS)
}

fn put_paths(out: &mut Vec<u8>, paths: &[Cow<'_, str>]) {
    put_strings(out, paths.len(), paths.iter().map(Cow::as_ref));
}

fn decode_watcher_type(r: &mut Reader<'_>) -> Result<WatcherType, DecodeError> {
    WatcherType::try_from(r.i32()?).map_err(|_| DecodeError::Invalid("unknown watcher type"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(opcode: i32, body: &[u8]) -> Result<Request<'_>, RequestError> {
        Request::decode(opcode, body, &Limits::default())
    }

    #[test]
    fn numbers_that_are_no_request_are_unknown_whatever_follows() {
        for opcode in [0, -1, 10, 13, 23, 99, 108, -2, -12, i32::MIN, i32::MAX] {
            assert_eq!(decode(opcode, &[0; 64]), Err(RequestError::UnknownOpcode(opcode)));
        }
        for opcode in [-10, 20] {
            assert!(decode(opcode, &[0; 64]).is_ok(), "a learner may forward {opcode}");
            assert!(!OpCode::try_from(opcode).unwrap().is_for_clients(), "no client may send {opcode}");
        }
    }

    #[test]
    fn null_fields_stay_null_and_bytes_behind_the_record_are_ignored() {
        let nulls = [0xff; 64];
        let create = CreateRequest { path: None, data: None, acl: None, flags: -1 };
        assert_eq!(decode(1, &nulls), Ok(Request::Create(create)));
        assert_eq!(decode(9, &nulls), Ok(Request::Sync { path: None }));
        assert_eq!(decode(100, &nulls), Ok(Request::Auth { scheme: None, auth: None }));
        assert_eq!(decode(103, &nulls), Ok(Request::GetEphemerals { prefix: None }));
        assert_eq!(decode(11, &nulls), Ok(Request::Ping));
    }

    #[test]
    fn an_acl_count_below_null_is_an_empty_list() {
        let mut body = Vec::new();
        put_text(&mut body, &Some("/a".into()));
        put_i32(&mut body, -2);
        put_i32(&mut body, 7);
        let acl = Some(AclList::new());
        assert_eq!(decode(7, &body), Ok(Request::SetAcl { path: Some("/a".into()), acl, version: 7 }));
    }

    #[test]
    fn what_java_only_finds_out_later_but_always_answers_with_the_same_error_is_malformed_here() {
        let mut null_list = 5i64.to_be_bytes().to_vec();
        null_list.extend_from_slice(&[0xff; 12]);
        assert!(matches!(decode(101, &null_list), Err(RequestError::Malformed(DecodeError::Invalid(_)))));
        let unknown_mode = [0, 0, 0, 0, 0, 0, 0, 2];
        assert!(matches!(decode(106, &unknown_mode), Err(RequestError::Malformed(DecodeError::Invalid(_)))));
        for kind in [0u8, 6] {
            let unknown_kind = [0, 0, 0, 0, 0, 0, 0, kind];
            assert!(matches!(decode(17, &unknown_kind), Err(RequestError::Malformed(DecodeError::Invalid(_)))));
            assert!(matches!(decode(18, &unknown_kind), Err(RequestError::Malformed(DecodeError::Invalid(_)))));
        }
    }

    #[test]
    fn a_null_path_is_only_taken_where_a_persistent_watch_is_asked_for() {
        let body = |null_in: usize| {
            let mut body = 5i64.to_be_bytes().to_vec();
            for list in 0..5 {
                put_i32(&mut body, 1);
                put_text(&mut body, &(list != null_in).then(|| "/a".into()));
            }
            body
        };
        let decoded = [0, 1, 2, 3, 4].map(|null_in| decode(105, &body(null_in)).is_ok());
        assert_eq!(decoded, [false, false, false, true, true]);
    }

    #[test]
    fn a_frame_can_make_us_allocate_only_a_small_multiple_of_itself() {
        // The densest vectors: bytes on the wire for one element, against bytes in memory.
        const GROWTH: usize = 2;
        assert!(size_of::<Cow<'_, str>>() * GROWTH <= 4 * 12, "a list of empty paths");
        assert!(size_of::<super::super::Acl<'_>>() * GROWTH <= 12 * 12, "a list of null ACLs");
        assert!(size_of::<MultiOp<'_>>() * GROWTH <= (9 + 4 + 4) * 20, "deletes of empty paths");
        assert!(size_of::<MultiReadOp<'_>>() * GROWTH <= (9 + 4 + 1) * 8, "reads of empty paths");
        for (opcode, before) in [(1, 8), (7, 4), (101, 8), (105, 8)] {
            let mut body = vec![0; before];
            body.extend_from_slice(&i32::MAX.to_be_bytes());
            assert!(matches!(decode(opcode, &body), Err(RequestError::Malformed(DecodeError::Truncated { .. }))));
        }
    }
}
