//! What Java's files say of a node, in the tree's types.

use ringkeeper_storage::java::{JavaAcl, JavaStat};

use crate::core::tree::{RawStat, TreeOptions};
use crate::wire::client::Acl;
use crate::wire::jute::decode_utf8;

/// Owners that look like TTL nodes are TTL nodes, whatever the server is configured to: no session has such an id.
pub const OPTIONS: TreeOptions = TreeOptions { extended_types: true, emulate_353_ttl: false };

pub fn acl(acl: &JavaAcl) -> Acl<'_> {
    Acl { perms: acl.perms, scheme: Some(decode_utf8(&acl.scheme)), id: Some(decode_utf8(&acl.id)) }
}

pub fn raw_stat(stat: &JavaStat) -> RawStat {
    let JavaStat { czxid, mzxid, ctime, mtime, version, cversion, aversion, ephemeral_owner, pzxid } = *stat;
    RawStat { czxid, mzxid, pzxid, ctime, mtime, version, cversion, aversion, ephemeral_owner }
}
