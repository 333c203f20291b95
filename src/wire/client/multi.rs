//! The items of `multi` and `multiRead`, asked and answered. Spec: client-protocol 10.
//!
//! A body is a run of items, each a header (type, done, err) and the record of its type, ended by a header whose `done`
//! is true; nothing else in that header counts. Decoding applies Java's quiet changes of an item's type (a `create` with
//! the container flag is a `createContainer`) and refuses what Java refuses at this point, so that `core` sees only items it
//! can judge one by one. Java: `MultiOperationRecord`, `MultiResponse`, `Op`.

use std::borrow::Cow;

use super::{CreateRequest, OpCode, Stat};
use crate::wire::jute::{
    DecodeError, Reader, Text, put_bool, put_buffer, put_i32, put_i64, put_string, put_strings, put_text,
};

/// One write of a `multi`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MultiOp<'a> {
    /// Flags 0 to 3, or any but 5 and 6 where the client sent `createTTL` (others fail in their position).
    Create(CreateRequest<'a>),
    /// Flags 0 to 3.
    Create2(CreateRequest<'a>),
    /// Flags 0 to 4: whatever they say, the node is a container; 2 and 3 still make its name sequential.
    CreateContainer(CreateRequest<'a>),
    /// Flags 5 or 6.
    CreateTtl {
        create: CreateRequest<'a>,
        ttl_ms: i64,
    },
    Delete {
        path: Text<'a>,
        version: i32,
    },
    SetData {
        path: Text<'a>,
        data: Option<&'a [u8]>,
        version: i32,
    },
    Check {
        path: Text<'a>,
        version: i32,
    },
}

impl MultiOp<'_> {
    pub fn opcode(&self) -> OpCode {
        match self {
            MultiOp::Create(_) => OpCode::Create,
            MultiOp::Create2(_) => OpCode::Create2,
            MultiOp::CreateContainer(_) => OpCode::CreateContainer,
            MultiOp::CreateTtl { .. } => OpCode::CreateTtl,
            MultiOp::Delete { .. } => OpCode::Delete,
            MultiOp::SetData { .. } => OpCode::SetData,
            MultiOp::Check { .. } => OpCode::Check,
        }
    }
}

/// One read of a `multiRead`. The watch flag is carried and never arms a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MultiReadOp<'a> {
    GetData { path: Text<'a>, watch: bool },
    GetChildren { path: Text<'a>, watch: bool },
}

/// What became of one item. In a failed `multi` every item is an `Error`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MultiResult<'a> {
    Create {
        path: Cow<'a, str>,
    },
    /// Also for `createContainer` and `createTTL` items.
    Create2 {
        path: Cow<'a, str>,
        stat: Stat,
    },
    Delete,
    SetData {
        stat: Stat,
    },
    Check,
    GetData {
        data: Option<Cow<'a, [u8]>>,
        stat: Stat,
    },
    GetChildren {
        children: Vec<Cow<'a, str>>,
    },
    /// In a failed `multi`: 0 before the item at fault, RUNTIMEINCONSISTENCY after it.
    Error {
        code: i32,
    },
}

struct ItemHeader {
    kind: i32,
    done: bool,
}

impl ItemHeader {
    fn decode(r: &mut Reader<'_>) -> Result<ItemHeader, DecodeError> {
        let header = ItemHeader { kind: r.i32()?, done: r.bool()? };
        r.i32()?; // err: -1 from clients, 0 from servers, never examined
        Ok(header)
    }

    fn put(out: &mut Vec<u8>, kind: OpCode, err: i32) {
        put_i32(out, kind.number());
        put_bool(out, false);
        put_i32(out, err);
    }
}

/// The items of a `multi` request.
pub(super) fn decode_ops<'a>(r: &mut Reader<'a>) -> Result<Vec<MultiOp<'a>>, DecodeError> {
    decode_items(r, |kind, r| {
        Ok(match kind {
            OpCode::Create | OpCode::Create2 | OpCode::CreateContainer => {
                let create = CreateRequest::decode(r)?;
                match (kind, create.flags) {
                    (OpCode::Create, 0..=3) => MultiOp::Create(create),
                    (OpCode::Create2, 0..=3) => MultiOp::Create2(create),
                    (_, 0..=4) => MultiOp::CreateContainer(create),
                    (_, 5 | 6) => {
                        return Err(DecodeError::Invalid("TTL flags on an item without a TTL"));
                    }
                    _ => {
                        return Err(DecodeError::Invalid("create flags that do not exist, in a multi"));
                    }
                }
            }
            OpCode::CreateTtl => {
                let create = CreateRequest::decode(r)?;
                let ttl_ms = r.i64()?;
                match create.flags {
                    5 | 6 => MultiOp::CreateTtl { create, ttl_ms },
                    _ => MultiOp::Create(create),
                }
            }
            OpCode::Delete => MultiOp::Delete { path: r.string()?, version: r.i32()? },
            OpCode::SetData => MultiOp::SetData { path: r.string()?, data: r.buffer()?, version: r.i32()? },
            OpCode::Check => MultiOp::Check { path: r.string()?, version: r.i32()? },
            other => return Err(DecodeError::UnknownType(other.number())),
        })
    })
}

/// The items of a `multiRead` request.
pub(super) fn decode_read_ops<'a>(r: &mut Reader<'a>) -> Result<Vec<MultiReadOp<'a>>, DecodeError> {
    decode_items(r, |kind, r| {
        Ok(match kind {
            OpCode::GetData => MultiReadOp::GetData { path: r.string()?, watch: r.bool()? },
            OpCode::GetChildren => MultiReadOp::GetChildren { path: r.string()?, watch: r.bool()? },
            other => return Err(DecodeError::UnknownType(other.number())),
        })
    })
}

/// The results of a `multi` or `multiRead`, as clients read them.
pub(super) fn decode_results<'a>(r: &mut Reader<'a>) -> Result<Vec<MultiResult<'a>>, DecodeError> {
    decode_items(r, |kind, r| {
        const PATH: &str = "null where the path of a new node is required";
        Ok(match kind {
            OpCode::Create => MultiResult::Create { path: r.required_string(PATH)? },
            OpCode::Create2 => MultiResult::Create2 { path: r.required_string(PATH)?, stat: Stat::decode(r)? },
            OpCode::Delete => MultiResult::Delete,
            OpCode::SetData => MultiResult::SetData { stat: Stat::decode(r)? },
            OpCode::Check => MultiResult::Check,
            OpCode::GetData => MultiResult::GetData { data: r.buffer()?.map(Cow::Borrowed), stat: Stat::decode(r)? },
            OpCode::GetChildren => MultiResult::GetChildren { children: super::reply::decode_names(r)? },
            OpCode::Error => MultiResult::Error { code: r.i32()? },
            other => return Err(DecodeError::UnknownType(other.number())),
        })
    })
}

fn decode_items<'a, T>(
    r: &mut Reader<'a>,
    mut item: impl FnMut(OpCode, &mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let mut items = Vec::new();
    loop {
        let header = ItemHeader::decode(r)?;
        if header.done {
            return Ok(items);
        }
        let kind = OpCode::try_from(header.kind).map_err(DecodeError::UnknownType)?;
        items.push(item(kind, r)?);
    }
}

pub(super) fn put_ops(out: &mut Vec<u8>, ops: &[MultiOp<'_>]) {
    for op in ops {
        ItemHeader::put(out, op.opcode(), -1);
        match op {
            MultiOp::Create(create) | MultiOp::Create2(create) | MultiOp::CreateContainer(create) => create.encode(out),
            MultiOp::CreateTtl { create, ttl_ms } => {
                create.encode(out);
                put_i64(out, *ttl_ms);
            }
            MultiOp::Delete { path, version } | MultiOp::Check { path, version } => {
                put_text(out, path);
                put_i32(out, *version);
            }
            MultiOp::SetData { path, data, version } => {
                put_text(out, path);
                put_buffer(out, *data);
                put_i32(out, *version);
            }
        }
    }
    put_end(out);
}

pub(super) fn put_read_ops(out: &mut Vec<u8>, ops: &[MultiReadOp<'_>]) {
    for op in ops {
        let (kind, path, watch) = match op {
            MultiReadOp::GetData { path, watch } => (OpCode::GetData, path, watch),
            MultiReadOp::GetChildren { path, watch } => (OpCode::GetChildren, path, watch),
        };
        ItemHeader::put(out, kind, -1);
        put_text(out, path);
        put_bool(out, *watch);
    }
    put_end(out);
}

/// The body of a reply whose results are all known: items and end.
pub fn put_results(out: &mut Vec<u8>, results: &[MultiResult<'_>]) {
    results.iter().for_each(|result| put_result(out, result));
    put_end(out);
}

/// One item of a reply. [`put_end`] must follow the last.
pub fn put_result(out: &mut Vec<u8>, result: &MultiResult<'_>) {
    match result {
        MultiResult::Create { path } => {
            ItemHeader::put(out, OpCode::Create, 0);
            put_string(out, path);
        }
        MultiResult::Create2 { path, stat } => {
            ItemHeader::put(out, OpCode::Create2, 0);
            put_string(out, path);
            stat.encode(out);
        }
        MultiResult::Delete => ItemHeader::put(out, OpCode::Delete, 0),
        MultiResult::SetData { stat } => {
            ItemHeader::put(out, OpCode::SetData, 0);
            stat.encode(out);
        }
        MultiResult::Check => ItemHeader::put(out, OpCode::Check, 0),
        MultiResult::GetData { data, stat } => put_data_result(out, data.as_deref(), stat),
        MultiResult::GetChildren { children } => {
            put_children_result(out, children.len(), children.iter().map(Cow::as_ref));
        }
        MultiResult::Error { code } => put_error_result(out, *code),
    }
}

/// A `getData` item of a `multiRead` reply.
pub fn put_data_result(out: &mut Vec<u8>, data: Option<&[u8]>, stat: &Stat) {
    ItemHeader::put(out, OpCode::GetData, 0);
    super::reply::put_data(out, data, stat);
}

/// A `getChildren` item of a `multiRead` reply.
pub fn put_children_result<'s>(out: &mut Vec<u8>, count: usize, children: impl Iterator<Item = &'s str>) {
    ItemHeader::put(out, OpCode::GetChildren, 0);
    put_strings(out, count, children);
}

/// A failed item: the code stands in its header and in its record.
pub fn put_error_result(out: &mut Vec<u8>, code: i32) {
    ItemHeader::put(out, OpCode::Error, code);
    put_i32(out, code);
}

/// What ends the items, asked or answered.
pub fn put_end(out: &mut Vec<u8>) {
    put_i32(out, -1);
    put_bool(out, true);
    put_i32(out, -1);
}
