//! What Java says of a node, in files and to learners, in the tree's types, and back.

use ringkeeper_storage::java::{JavaAcl, JavaNode, JavaStat};

use crate::core::tree::{AclRef, BuildError, RawStat, TreeBuilder, TreeOptions};
use crate::wire::client::Acl;
use crate::wire::jute::decode_utf8;

/// Owners that look like TTL nodes are TTL nodes, whatever the server is configured to: no session has such an id.
pub const OPTIONS: TreeOptions = TreeOptions { extended_types: true, emulate_353_ttl: false, hash_seed: 0 };

/// Hands a list of Java's to a tree that is being built.
pub fn build_acl(builder: &mut TreeBuilder, number: i64, list: &[JavaAcl]) -> Result<(), BuildError> {
    let list: Vec<Acl<'_>> = list.iter().map(acl).collect();
    builder.acl(number, &list)
}

/// The same with a node.
pub fn build_node(builder: &mut TreeBuilder, node: &JavaNode<'_>) -> Result<(), BuildError> {
    builder.add(&decode_utf8(node.path), node.data, node.acl, &raw_stat(&node.stat))
}

pub fn acl(acl: &JavaAcl) -> Acl<'_> {
    Acl { perms: acl.perms, scheme: Some(decode_utf8(&acl.scheme)), id: Some(decode_utf8(&acl.id)) }
}

pub fn raw_stat(stat: &JavaStat) -> RawStat {
    let JavaStat { czxid, mzxid, ctime, mtime, version, cversion, aversion, ephemeral_owner, pzxid } = *stat;
    RawStat { czxid, mzxid, pzxid, ctime, mtime, version, cversion, aversion, ephemeral_owner }
}

pub fn java_stat(stat: &RawStat) -> JavaStat {
    let RawStat { czxid, mzxid, pzxid, ctime, mtime, version, cversion, aversion, ephemeral_owner } = *stat;
    JavaStat { czxid, mzxid, ctime, mtime, version, cversion, aversion, ephemeral_owner, pzxid }
}

/// Java counts its lists from 1; -1 is the open one.
pub fn java_ref(acl: AclRef) -> i64 {
    if acl == AclRef::OPEN { -1 } else { i64::from(acl.0) + 1 }
}
