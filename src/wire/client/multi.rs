//! The items of `multi` and `multiRead`, asked and answered. Spec: client-protocol 10.
//!
//! A body is a run of items, each a header (type, done, err) and the record of its type, ended by a header whose
//! `done` is true; nothing else in that header counts. Decoding applies Java's quiet changes of an item's type (a
//! `create` with the container flag is a `createContainer`) and refuses what Java refuses at this point, so that `core`
//! sees only items it can judge one by one. Java: `MultiOperationRecord`, `MultiResponse`, `Op`.

use std::borrow::Cow;

use super::{CreateRequest, OpCode, Stat};
use crate::wire::jute::{
    DecodeError, Reader, Text, put_bool, put_buffer, put_i32, put_i64, put_string, put_strings, put_text,
};

/// One write of a `multi`. Read from the wire, no path is null: that fails the whole request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MultiOp<'a> {
    /// Flags 0 to 3; from a `createTTL` item also numbers that are no flags, which then fail in their position.
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

/// One read of a `multiRead`; no path is null. The watch flag is carried and never arms a watch.
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

/// The one way of being malformed that Java trips over before the request has a zxid of its own; its leader then proposes
/// a used one. All others are transactions, refused ones.
pub const NULL_ACL: DecodeError = DecodeError::Invalid("a null ACL in a multi");

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
                let create = decode_create(r)?;
                match (kind, create.flags) {
                    (_, 0..=6) if create.acl.is_none() => return Err(NULL_ACL),
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
                let create = decode_create(r)?;
                let ttl_ms = r.i64()?;
                match create.flags {
                    4 => MultiOp::CreateContainer(create),
                    5 | 6 => MultiOp::CreateTtl { create, ttl_ms },
                    _ => MultiOp::Create(create),
                }
            }
            OpCode::Delete => MultiOp::Delete { path: path(r)?, version: r.i32()? },
            OpCode::SetData => MultiOp::SetData { path: path(r)?, data: r.buffer()?, version: r.i32()? },
            OpCode::Check => MultiOp::Check { path: path(r)?, version: r.i32()? },
            other => return Err(DecodeError::UnknownType(other.number())),
        })
    })
}

/// The items of a `multiRead` request.
pub(super) fn decode_read_ops<'a>(r: &mut Reader<'a>) -> Result<Vec<MultiReadOp<'a>>, DecodeError> {
    decode_items(r, |kind, r| {
        Ok(match kind {
            OpCode::GetData => MultiReadOp::GetData { path: path(r)?, watch: r.bool()? },
            OpCode::GetChildren => MultiReadOp::GetChildren { path: path(r)?, watch: r.bool()? },
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

/// Java looks into every path before it judges any item: a null one fails the whole request, not its position.
fn path<'a>(r: &mut Reader<'a>) -> Result<Text<'a>, DecodeError> {
    r.required_string("a null path in a multi").map(Some)
}

fn decode_create<'a>(r: &mut Reader<'a>) -> Result<CreateRequest<'a>, DecodeError> {
    let create = CreateRequest::decode(r)?;
    match create.path {
        Some(_) => Ok(create),
        None => Err(DecodeError::Invalid("a null path in a multi")),
    }
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

#[cfg(test)]
mod tests {
    use super::super::{AclList, Request, RequestError};
    use super::*;
    use crate::wire::jute::Limits;

    fn create(flags: i32) -> CreateRequest<'static> {
        CreateRequest { path: Some("/a".into()), data: Some(b"x"), acl: Some(AclList::new()), flags }
    }

    fn put_create_item(out: &mut Vec<u8>, kind: OpCode, flags: i32) {
        ItemHeader::put(out, kind, -1);
        create(flags).encode(out);
        if kind == OpCode::CreateTtl {
            put_i64(out, 77);
        }
    }

    fn put_delete_item(out: &mut Vec<u8>) {
        ItemHeader::put(out, OpCode::Delete, -1);
        put_text(out, &Some("/a".into()));
        put_i32(out, 3);
    }

    fn put_read_item(out: &mut Vec<u8>, kind: OpCode) {
        ItemHeader::put(out, kind, -1);
        put_text(out, &Some("/a".into()));
        put_bool(out, true);
    }

    fn decode(opcode: OpCode, body: &[u8]) -> Option<Request<'_>> {
        match Request::decode(opcode.number(), body, &Limits::default()) {
            Ok(request) => Some(request),
            Err(RequestError::Malformed(_)) => None,
            Err(unknown) => panic!("{unknown}"),
        }
    }

    #[test]
    fn create_items_become_what_java_makes_of_them() {
        use OpCode::{Create, Create2, CreateContainer, CreateTtl};
        let becomes = |kind, flags| -> Option<(OpCode, i32)> {
            let mut body = Vec::new();
            put_create_item(&mut body, kind, flags);
            put_end(&mut body);
            match decode(OpCode::Multi, &body) {
                Some(Request::Multi(ops)) => match &ops[0] {
                    MultiOp::Create(create) | MultiOp::Create2(create) | MultiOp::CreateContainer(create) => {
                        Some((ops[0].opcode(), create.flags))
                    }
                    MultiOp::CreateTtl { create, ttl_ms: 77 } => Some((CreateTtl, create.flags)),
                    other => panic!("{other:?}"),
                },
                _ => None,
            }
        };
        for flags in 0..=3 {
            assert_eq!(becomes(Create, flags), Some((Create, flags)));
            assert_eq!(becomes(Create2, flags), Some((Create2, flags)));
            assert_eq!(becomes(CreateContainer, flags), Some((CreateContainer, flags)));
            assert_eq!(becomes(CreateTtl, flags), Some((Create, flags)));
        }
        assert_eq!(becomes(CreateTtl, 4), Some((CreateContainer, 4)));
        for kind in [Create, Create2, CreateContainer] {
            assert_eq!(becomes(kind, 4), Some((CreateContainer, 4)));
            for malformed in [5, 6, 7, -1, i32::MAX] {
                assert_eq!(becomes(kind, malformed), None, "{kind:?} with flags {malformed}");
            }
        }
        for flags in [5, 6] {
            assert_eq!(becomes(CreateTtl, flags), Some((CreateTtl, flags)));
        }
        for later_a_bad_argument in [7, -1] {
            assert_eq!(becomes(CreateTtl, later_a_bad_argument), Some((Create, later_a_bad_argument)));
        }
    }

    #[test]
    fn items_of_the_wrong_sort_make_the_whole_request_malformed() {
        let mut write = Vec::new();
        put_delete_item(&mut write);
        let mut read = Vec::new();
        put_read_item(&mut read, OpCode::GetData);
        let mut exists = Vec::new();
        put_read_item(&mut exists, OpCode::Exists);
        let mut end = Vec::new();
        put_end(&mut end);

        assert!(decode(OpCode::Multi, &[&write[..], &end].concat()).is_some());
        assert!(decode(OpCode::MultiRead, &[&read[..], &end].concat()).is_some());
        for (opcode, items) in [
            (OpCode::Multi, [&read[..], &end].concat()),
            (OpCode::Multi, [&write[..], &read, &end].concat()),
            (OpCode::Multi, [&write[..], &exists, &end].concat()),
            (OpCode::MultiRead, [&write[..], &end].concat()),
            (OpCode::MultiRead, [&read[..], &write, &end].concat()),
            (OpCode::MultiRead, [&exists[..], &end].concat()),
        ] {
            assert_eq!(decode(opcode, &items), None, "{opcode:?} {items:02x?}");
        }
    }

    #[test]
    fn the_end_is_required_and_only_its_done_counts() {
        let mut item = Vec::new();
        put_delete_item(&mut item);
        assert_eq!(decode(OpCode::Multi, &item), None);
        assert_eq!(decode(OpCode::Multi, &[]), None);
        let odd_end = [0, 0, 0, 99, 7, 1, 2, 3, 4];
        assert_eq!(decode(OpCode::Multi, &odd_end), Some(Request::Multi(vec![])));
        assert_eq!(decode(OpCode::MultiRead, &odd_end), Some(Request::MultiRead(vec![])));
        item.extend_from_slice(&odd_end);
        let delete = MultiOp::Delete { path: Some("/a".into()), version: 3 };
        assert_eq!(decode(OpCode::Multi, &item), Some(Request::Multi(vec![delete])));
    }

    #[test]
    fn nulls_that_java_trips_over_before_judging_any_item_fail_the_whole_request() {
        let with_create = |kind: OpCode, create: &CreateRequest<'_>| {
            let mut body = Vec::new();
            ItemHeader::put(&mut body, kind, -1);
            create.encode(&mut body);
            if kind == OpCode::CreateTtl {
                put_i64(&mut body, 77);
            }
            put_end(&mut body);
            decode(OpCode::Multi, &body).is_some()
        };
        for kind in [OpCode::Create, OpCode::Create2, OpCode::CreateContainer] {
            assert!(with_create(kind, &create(0)));
            assert!(!with_create(kind, &CreateRequest { acl: None, ..create(0) }));
            assert!(!with_create(kind, &CreateRequest { path: None, ..create(0) }));
        }
        // Only those three kinds: a TTL item with a null ACL is judged later, in its position.
        assert!(with_create(OpCode::CreateTtl, &CreateRequest { acl: None, ..create(5) }));
        assert!(!with_create(OpCode::CreateTtl, &CreateRequest { path: None, ..create(5) }));

        for (opcode, item) in [
            (OpCode::Multi, OpCode::Delete),
            (OpCode::Multi, OpCode::Check),
            (OpCode::MultiRead, OpCode::GetData),
            (OpCode::MultiRead, OpCode::GetChildren),
        ] {
            let with_path = |path: &Text<'_>| {
                let mut body = Vec::new();
                ItemHeader::put(&mut body, item, -1);
                put_text(&mut body, path);
                match opcode {
                    OpCode::Multi => put_i32(&mut body, 1),
                    _ => put_bool(&mut body, false),
                }
                put_end(&mut body);
                decode(opcode, &body).is_some()
            };
            assert!(with_path(&Some("/a".into())));
            assert!(!with_path(&None), "{item:?}");
        }
    }
}
