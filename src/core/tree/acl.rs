//! Permission lists and who a connection is.
//!
//! Lists are interned. Spec: semantics 8. Java: `ReferenceCountedACLCache`, `PrepRequestProcessor.fixupACL`.

use std::net::IpAddr;

use compact_str::CompactString;

use crate::wire::ErrorCode;
use crate::wire::client::Acl;
use crate::wire::txn::AclList;

/// Number of an interned list, as snapshots carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AclRef(pub u32);

impl AclRef {
    /// `world:anyone` with all permissions, never counted. Java: `OPEN_UNSAFE_ACL_ID`, -1.
    pub const OPEN: AclRef = AclRef(u32::MAX);
}

/// One thing a connection has proved to be. Kept as a set per connection: see [`add_identity`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub scheme: CompactString,
    pub id: CompactString,
}

pub fn add_identity(identities: &mut Vec<Identity>, identity: Identity) {
    if !identities.contains(&identity) {
        identities.push(identity);
    }
}

/// The identity every connection starts with: its address in Java's textual form.
pub fn ip_identity(_peer: IpAddr) -> Identity {
    unimplemented!()
}

/// `user:base64(sha1(auth))` of a digest auth packet.
pub fn digest_identity(_auth: &[u8]) -> CompactString {
    unimplemented!()
}

/// Takes a digest auth packet: adds `digest:<id>`, and `super:` if the id is the configured superDigest.
pub fn authenticate_digest(_auth: &[u8], _super_digest: Option<&str>, _identities: &mut Vec<Identity>) {
    unimplemented!()
}

/// Makes a client's list storable (semantics 8.3): drops duplicates, expands `auth`, refuses what no scheme accepts.
pub fn fix_up(_list: &[Acl<'_>], _identities: &[Identity]) -> Result<AclList<'static>, ErrorCode> {
    unimplemented!()
}

/// Whether `identities` hold any of the `wanted` bits (semantics 8.4).
pub fn allowed(_acl: &[Acl<'_>], _wanted: i32, _identities: &[Identity], _skip_acl: bool) -> bool {
    unimplemented!()
}

/// The list as someone without ADMIN may see it (semantics 8.5).
pub fn redacted<'a>(_acl: &'a [Acl<'_>]) -> AclList<'a> {
    unimplemented!()
}

/// Whether this entry is `world:anyone` with every permission.
pub fn is_open(entry: &Acl<'_>) -> bool {
    entry.perms == crate::wire::client::perms::ALL
        && entry.scheme.as_deref() == Some("world")
        && entry.id.as_deref() == Some("anyone")
}

/// All lists in use, each once, with a count of the nodes using it.
#[derive(Debug, Default)]
pub struct AclTable {}

impl AclTable {
    /// Counts one more use of this list.
    pub fn intern(&mut self, _list: &[Acl<'_>]) -> AclRef {
        unimplemented!()
    }
    pub fn release(&mut self, _acl: AclRef) {
        unimplemented!()
    }
    pub fn get(&self, _acl: AclRef) -> &[Acl<'static>] {
        unimplemented!()
    }
}
