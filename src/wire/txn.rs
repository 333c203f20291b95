//! Transactions, exactly as the log, proposals and DIFFs carry them: header, record, digest.
//! Spec: semantics 17.1, on-disk-formats 3. Java: `TxnHeader`, `SerializeUtils`.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::client::Acl;

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

/// An ACL as a transaction or request carries it. One entry is by far the commonest.
pub type AclList<'a> = SmallVec<[Acl<'a>; 1]>;

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
    /// `version` is the new aversion. A null list (`None`) is kept as such.
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
    Multi(Vec<Txn<'a>>),
}

/// The digest a tree must have after a transaction. Only version 2 is comparable (semantics 16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnDigest {
    pub version: i32,
    pub tree_digest: i64,
}

pub const DIGEST_VERSION: i32 = 2;
