//! Transactions, exactly as the log, proposals and DIFFs carry them: header, record, digest.
//! Spec: semantics 17.1, on-disk-formats 3. Java: `TxnHeader`, `SerializeUtils`.
//!
//! ```text
//! clientId long | cxid int | zxid long | time long | type int | record of that type | digest version int, digest long
//! ```
//!
//! The digest may be missing; two records have older, shorter forms too ([`decode_txn`]). Bytes behind a complete
//! transaction are ignored, as Java does. Bytes that come from a log or a leader are to be kept as they came: encoding
//! again what was decoded from an old form gives the new form.

use std::borrow::Cow;

pub use super::client::AclList;
use super::client::{OpCode, decode_acl_list, put_acl_list};
use super::frame::{begin_frame, end_frame};
use super::jute::{
    DecodeError, Limits, Reader, put_bool, put_buffer, put_count, put_i32, put_i64, put_string, put_strings,
};

/// Owner of a container node. Java: `EphemeralType.CONTAINER_EPHEMERAL_OWNER`.
pub const CONTAINER_OWNER: i64 = i64::MIN;
/// Top byte of the owner of a TTL node; the low 40 bits are the TTL in milliseconds.
pub const TTL_OWNER_MASK: i64 = 0xffu64.wrapping_shl(56) as i64;

/// What a transaction says of itself (32 bytes). `cxid` is the client's xid, 0 for what the server asked for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnHeader {
    pub client_id: i64,
    pub cxid: i32,
    pub zxid: i64,
    /// Leader's wall clock, milliseconds since 1970.
    pub time_ms: i64,
}

impl TxnHeader {
    /// Of an encoded transaction, without looking at the rest of it.
    pub fn time_ms_of(txn: &[u8]) -> Option<i64> {
        let bytes = txn.get(20..28)?.try_into().expect("8 of them");
        Some(i64::from_be_bytes(bytes))
    }
}

/// What kind of node a create makes; decides the record's shape and the stored owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateKind {
    Persistent,
    /// Owned by `TxnHeader::client_id`.
    Ephemeral,
    Container,
    Ttl {
        ttl_ms: i64,
    },
}

/// The body of a transaction. The opcode number follows from the variant (and `create2`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Txn<'a> {
    CreateSession {
        timeout_ms: i32,
    },
    /// `None`: written by a server with `closeSessionTxn.enabled=false`; every server uses its own index.
    CloseSession {
        paths: Option<Vec<Cow<'a, str>>>,
    },
    Create {
        path: Cow<'a, str>,
        data: Option<&'a [u8]>,
        /// A null list in an old log reads as empty.
        acl: AclList<'a>,
        kind: CreateKind,
        /// Raw cversion of the parent after this create; -1 = one more than what it is (old logs).
        parent_cversion: i32,
        /// Type 15 instead of 1 for the persistent and ephemeral kinds; replay differs in one rule (semantics 17).
        create2: bool,
    },
    Delete {
        path: Cow<'a, str>,
    },
    /// Type 20: a container or TTL node that the leader reaped.
    DeleteContainer {
        path: Cow<'a, str>,
    },
    /// `version` is the new one.
    SetData {
        path: Cow<'a, str>,
        data: Option<&'a [u8]>,
        version: i32,
    },
    /// Type 16: as `SetData`, on the config node.
    Reconfig {
        path: Cow<'a, str>,
        data: Option<&'a [u8]>,
        version: i32,
    },
    /// `version` is the new aversion. A null list in an old log reads as empty.
    SetAcl {
        path: Cow<'a, str>,
        acl: AclList<'a>,
        version: i32,
    },
    /// Only inside `Multi`. `version` is the checked version + 1; no effect on apply.
    Check {
        path: Cow<'a, str>,
        version: i32,
    },
    /// A refused request: consumes a zxid, changes nothing.
    Error {
        code: i32,
    },
    /// Creates, deletes, data changes, checks and errors; nothing else, and no `Multi`.
    Multi(Vec<Txn<'a>>),
}

/// The digest a tree must have after a transaction. Only version 2 is comparable (semantics 16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnDigest {
    pub version: i32,
    pub tree_digest: i64,
}

pub const DIGEST_VERSION: i32 = 2;

const DIGEST_BYTES: usize = 12;

impl Txn<'_> {
    /// The type this transaction has on the wire.
    pub fn opcode(&self) -> OpCode {
        match self {
            Txn::CreateSession { .. } => OpCode::CreateSession,
            Txn::CloseSession { .. } => OpCode::CloseSession,
            Txn::Create { kind: CreateKind::Container, .. } => OpCode::CreateContainer,
            Txn::Create { kind: CreateKind::Ttl { .. }, .. } => OpCode::CreateTtl,
            Txn::Create { create2: true, .. } => OpCode::Create2,
            Txn::Create { create2: false, .. } => OpCode::Create,
            Txn::Delete { .. } => OpCode::Delete,
            Txn::DeleteContainer { .. } => OpCode::DeleteContainer,
            Txn::SetData { .. } => OpCode::SetData,
            Txn::Reconfig { .. } => OpCode::Reconfig,
            Txn::SetAcl { .. } => OpCode::SetAcl,
            Txn::Check { .. } => OpCode::Check,
            Txn::Error { .. } => OpCode::Error,
            Txn::Multi(_) => OpCode::Multi,
        }
    }
}

/// Appends header, record and, if given, digest. The error transaction of a single request carries none (semantics 16).
pub fn encode_txn(header: &TxnHeader, txn: &Txn<'_>, digest: Option<TxnDigest>, out: &mut Vec<u8>) {
    put_i64(out, header.client_id);
    put_i32(out, header.cxid);
    put_i64(out, header.zxid);
    put_i64(out, header.time_ms);
    put_i32(out, txn.opcode().number());
    assert!(!matches!(txn, Txn::Check { .. }), "a check is only ever part of a multi");
    put_record(out, txn);
    if let Some(digest) = digest {
        put_i32(out, digest.version);
        put_i64(out, digest.tree_digest);
    }
}

/// The header alone, for those who only sort and skip; the second value is the type as found.
pub fn decode_header(bytes: &[u8]) -> Result<(TxnHeader, i32), DecodeError> {
    header(&mut Reader::new(bytes, &Limits::FORMAT))
}

/// A whole transaction in any form a server ever wrote:
/// * without digest, or with one;
/// * type 1 without the parent's cversion (very old logs), which then counts as -1;
/// * type -11 with a list of paths, or without any record.
pub fn decode_txn(bytes: &[u8]) -> Result<(TxnHeader, Txn<'_>, Option<TxnDigest>), DecodeError> {
    let r = &mut Reader::new(bytes, &Limits::FORMAT);
    let (header, kind) = header(r)?;
    let txn = match opcode(kind)? {
        OpCode::CreateSession => Txn::CreateSession { timeout_ms: r.i32()? },
        OpCode::CloseSession => Txn::CloseSession { paths: closed_paths(r)? },
        OpCode::SetAcl => Txn::SetAcl { path: path(r)?, acl: acl(r)?, version: r.i32()? },
        OpCode::Reconfig => Txn::Reconfig { path: path(r)?, data: r.buffer()?, version: r.i32()? },
        OpCode::Multi => Txn::Multi(r.vector(multi_part)?.unwrap_or_default()),
        OpCode::Check => return Err(DecodeError::UnknownType(kind)),
        OpCode::Create => create(r, OpCode::Create, ParentCversion::MayBeMissing)?,
        opcode => record(r, opcode)?,
    };
    let digest = match r.rest().len() {
        0..DIGEST_BYTES => None,
        _ => Some(TxnDigest { version: r.i32()?, tree_digest: r.i64()? }),
    };
    Ok((header, txn, digest))
}

fn header(r: &mut Reader<'_>) -> Result<(TxnHeader, i32), DecodeError> {
    let header = TxnHeader { client_id: r.i64()?, cxid: r.i32()?, zxid: r.i64()?, time_ms: r.i64()? };
    Ok((header, r.i32()?))
}

fn opcode(kind: i32) -> Result<OpCode, DecodeError> {
    OpCode::try_from(kind).map_err(DecodeError::UnknownType)
}

/// The records that may stand alone and inside a `multi`.
fn record<'a>(r: &mut Reader<'a>, opcode: OpCode) -> Result<Txn<'a>, DecodeError> {
    Ok(match opcode {
        OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => {
            create(r, opcode, ParentCversion::Required)?
        }
        OpCode::Delete => Txn::Delete { path: path(r)? },
        OpCode::DeleteContainer => Txn::DeleteContainer { path: path(r)? },
        OpCode::SetData => Txn::SetData { path: path(r)?, data: r.buffer()?, version: r.i32()? },
        OpCode::Check => Txn::Check { path: path(r)?, version: r.i32()? },
        OpCode::Error => Txn::Error { code: r.i32()? },
        other => return Err(DecodeError::UnknownType(other.number())),
    })
}

/// `int type, buffer record`.
fn multi_part<'a>(r: &mut Reader<'a>) -> Result<Txn<'a>, DecodeError> {
    let opcode = opcode(r.i32()?)?;
    let part = r.buffer()?.ok_or(DecodeError::Invalid("null where a part of a multi is required"))?;
    record(&mut Reader::new(part, &Limits::FORMAT), opcode)
}

#[derive(PartialEq)]
enum ParentCversion {
    Required,
    /// Java: `CreateTxnV0`.
    MayBeMissing,
}

fn create<'a>(r: &mut Reader<'a>, opcode: OpCode, parent: ParentCversion) -> Result<Txn<'a>, DecodeError> {
    let (path, data, acl) = (path(r)?, r.buffer()?, acl(r)?);
    let plain_kind = match opcode {
        OpCode::Create | OpCode::Create2 if r.bool()? => CreateKind::Ephemeral,
        OpCode::Create | OpCode::Create2 => CreateKind::Persistent,
        _ => CreateKind::Container,
    };
    let missing = parent == ParentCversion::MayBeMissing && r.rest().len() < size_of::<i32>();
    let parent_cversion = if missing { -1 } else { r.i32()? };
    let kind = if opcode == OpCode::CreateTtl { CreateKind::Ttl { ttl_ms: r.i64()? } } else { plain_kind };
    Ok(Txn::Create { path, data, acl, kind, parent_cversion, create2: opcode == OpCode::Create2 })
}

/// Four tails are legal: nothing, a digest, a list, a list and a digest. Exactly 12 bytes that begin with the digest
/// version are a digest: as a list they would be two empty paths. A list that ends early is none, as for Java.
fn closed_paths<'a>(r: &mut Reader<'a>) -> Result<Option<Vec<Cow<'a, str>>>, DecodeError> {
    let digest_only = r.rest().len() == DIGEST_BYTES && r.rest().starts_with(&DIGEST_VERSION.to_be_bytes());
    if r.is_empty() || digest_only {
        return Ok(None);
    }
    match r.vector(path) {
        Ok(paths) => Ok(Some(paths.unwrap_or_default())),
        Err(DecodeError::Truncated { .. }) => {
            r.skip_rest();
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn path<'a>(r: &mut Reader<'a>) -> Result<Cow<'a, str>, DecodeError> {
    r.required_string("null where the path of a transaction is required")
}

fn acl<'a>(r: &mut Reader<'a>) -> Result<AclList<'a>, DecodeError> {
    Ok(decode_acl_list(r)?.unwrap_or_default())
}

fn put_record(out: &mut Vec<u8>, txn: &Txn<'_>) {
    match txn {
        Txn::CreateSession { timeout_ms } => put_i32(out, *timeout_ms),
        Txn::CloseSession { paths: None } => {}
        Txn::CloseSession { paths: Some(paths) } => put_strings(out, paths.len(), paths.iter().map(Cow::as_ref)),
        Txn::Create { path, data, acl, kind, parent_cversion, create2: _ } => {
            put_string(out, path);
            put_buffer(out, *data);
            put_acl_list(out, Some(acl));
            match kind {
                CreateKind::Persistent => put_bool(out, false),
                CreateKind::Ephemeral => put_bool(out, true),
                CreateKind::Container | CreateKind::Ttl { .. } => {}
            }
            put_i32(out, *parent_cversion);
            if let CreateKind::Ttl { ttl_ms } = kind {
                put_i64(out, *ttl_ms);
            }
        }
        Txn::Delete { path } | Txn::DeleteContainer { path } => put_string(out, path),
        Txn::SetData { path, data, version } | Txn::Reconfig { path, data, version } => {
            put_string(out, path);
            put_buffer(out, *data);
            put_i32(out, *version);
        }
        Txn::SetAcl { path, acl, version } => {
            put_string(out, path);
            put_acl_list(out, Some(acl));
            put_i32(out, *version);
        }
        Txn::Check { path, version } => {
            put_string(out, path);
            put_i32(out, *version);
        }
        Txn::Error { code } => put_i32(out, *code),
        Txn::Multi(parts) => {
            put_count(out, parts.len());
            for part in parts {
                assert!(is_multi_part(part), "{} cannot be part of a multi", part.opcode().name());
                put_i32(out, part.opcode().number());
                // A buffer is a length and its bytes, and so is a frame.
                let buffer = begin_frame(out);
                put_record(out, part);
                end_frame(out, buffer);
            }
        }
    }
}

fn is_multi_part(txn: &Txn<'_>) -> bool {
    matches!(
        txn,
        Txn::Create { .. }
            | Txn::Delete { .. }
            | Txn::DeleteContainer { .. }
            | Txn::SetData { .. }
            | Txn::Check { .. }
            | Txn::Error { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: TxnHeader = TxnHeader { client_id: -7, cxid: 3, zxid: 0x1_0000_0009, time_ms: 1 };
    const DIGEST: TxnDigest = TxnDigest { version: DIGEST_VERSION, tree_digest: -2 };

    /// Leaked, so that expectations can be written as expressions.
    fn with_header(kind: i32, record: &[u8]) -> &'static [u8] {
        let mut bytes = Vec::new();
        encode_txn(&HEADER, &Txn::Error { code: 0 }, None, &mut bytes);
        bytes.truncate(28);
        put_i32(&mut bytes, kind);
        bytes.extend_from_slice(record);
        bytes.leak()
    }

    fn decode(bytes: &[u8]) -> (Txn<'_>, Option<TxnDigest>) {
        let (header, txn, digest) = decode_txn(bytes).unwrap();
        assert_eq!(header, HEADER);
        (txn, digest)
    }

    fn digest_bytes() -> Vec<u8> {
        [&DIGEST.version.to_be_bytes()[..], &DIGEST.tree_digest.to_be_bytes()].concat()
    }

    #[test]
    fn closing_a_session_has_four_tails() {
        let closed = |tail: &[u8]| {
            let bytes = with_header(-11, tail);
            let (Txn::CloseSession { paths }, digest) = decode(bytes) else { panic!("a closeSession") };
            (paths.map(|paths| paths.into_iter().map(Cow::into_owned).collect::<Vec<String>>()), digest)
        };
        let list = [0, 0, 0, 1, 0, 0, 0, 2, b'/', b'a'];
        assert_eq!(closed(&[]), (None, None));
        assert_eq!(closed(&digest_bytes()), (None, Some(DIGEST)));
        assert_eq!(closed(&list), (Some(vec!["/a".into()]), None));
        assert_eq!(closed(&[&list[..], &digest_bytes()].concat()), (Some(vec!["/a".into()]), Some(DIGEST)));
        assert_eq!(closed(&[&[0; 4][..], &digest_bytes()].concat()), (Some(vec![]), Some(DIGEST)));
        assert_eq!(closed(&[0; 4]), (Some(vec![]), None));
        assert_eq!(closed(&[0, 0, 0, 1, 0, 0, 0]), (None, None), "Java reads a list that ends early as none");
    }

    #[test]
    fn a_create_may_lack_its_parents_version_only_in_the_oldest_form() {
        let old = [0, 0, 0, 2, b'/', b'a', 0, 0, 0, 1, b'x', 0xff, 0xff, 0xff, 0xff, 1];
        let created = |parent_cversion, create2| Txn::Create {
            path: "/a".into(),
            data: Some(b"x"),
            acl: AclList::new(), // the null list above
            kind: CreateKind::Ephemeral,
            parent_cversion,
            create2,
        };
        assert_eq!(decode(with_header(1, &old)), (created(-1, false), None));
        let with_rest = [&old[..], &[0, 0]].concat();
        assert_eq!(decode(with_header(1, &with_rest)), (created(-1, false), None), "too short to be a version");
        assert!(decode_txn(with_header(15, &old)).is_err());

        let new = [&old[..], &[0, 0, 0, 9]].concat();
        assert_eq!(decode(with_header(15, &new)), (created(9, true), None));
        let with_digest = [&new[..], &digest_bytes()].concat();
        assert_eq!(decode(with_header(1, &with_digest)), (created(9, false), Some(DIGEST)));
        // Java takes a tail too short for a digest as none.
        assert_eq!(decode(with_header(1, &with_digest[..with_digest.len() - 1])), (created(9, false), None));
    }

    #[test]
    fn a_null_acl_reads_as_empty() {
        let record = [0, 0, 0, 2, b'/', b'a', 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 4];
        let expected = Txn::SetAcl { path: "/a".into(), acl: AclList::new(), version: 4 };
        assert_eq!(decode(with_header(7, &record)), (expected, None));
    }

    #[test]
    fn types_that_no_log_holds_are_refused() {
        for kind in [0, 3, 4, 9, 11, 13, 22, 100, -2, -12, i32::MIN] {
            assert_eq!(decode_txn(with_header(kind, &[0; 40])), Err(DecodeError::UnknownType(kind)));
        }
        for kind in [7, 14, 16, -10, -11, 4] {
            let part = [&[0, 0, 0, 1][..], &i32::to_be_bytes(kind), &[0, 0, 0, 16], &[0; 16]].concat();
            assert_eq!(decode_txn(with_header(14, &part)), Err(DecodeError::UnknownType(kind)), "in a multi");
        }
    }

    #[test]
    #[should_panic(expected = "setACL cannot be part of a multi")]
    fn a_multi_with_a_part_nobody_could_read_is_never_written() {
        let part = Txn::SetAcl { path: "/a".into(), acl: AclList::new(), version: 0 };
        encode_txn(&HEADER, &Txn::Multi(vec![part]), None, &mut Vec::new());
    }

    #[test]
    fn a_multi_claiming_two_thousand_million_parts_is_refused_when_its_bytes_end() {
        let mut record = i32::MAX.to_be_bytes().to_vec();
        record.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 4, 0, 0, 0, 0]);
        let refused = decode_txn(with_header(14, &record));
        assert_eq!(refused, Err(DecodeError::Truncated { missing_bytes: 4 }));
    }
}
