//! Everything a client sends and gets on the client port. Spec: client-protocol 4 to 12. Java: `proto.*`, `data.*`.

use std::borrow::Cow;

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

/// One ACL entry. A null scheme or id is `None` (semantics 8.3 treats them apart).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Acl<'a> {
    pub perms: i32,
    pub scheme: Option<Cow<'a, str>>,
    pub id: Option<Cow<'a, str>>,
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
