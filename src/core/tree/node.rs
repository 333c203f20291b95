//! How a node lies in memory.

use crate::wire::txn::{CONTAINER_OWNER, TTL_OWNER_MASK};

/// Place of a node in the tree's table; stable while the node lives, reused afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

impl NodeId {
    pub const ROOT: NodeId = NodeId(0);
}

/// What a stored owner field means (semantics 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerKind {
    Persistent,
    Ephemeral,
    Container,
    Ttl { ttl_ms: i64 },
}

impl OwnerKind {
    pub fn of(owner: i64, extended_types: bool, emulate_353_ttl: bool) -> OwnerKind {
        const TTL_MS_MASK: i64 = (1 << 40) - 1;
        let ttl = OwnerKind::Ttl { ttl_ms: owner & TTL_MS_MASK };
        match owner {
            0 => OwnerKind::Persistent,
            CONTAINER_OWNER => OwnerKind::Container,
            // Bits 55..40 set: Java throws on every access; an odd session's ephemeral is the sane reading.
            _ if extended_types && owner & !TTL_MS_MASK == TTL_OWNER_MASK => ttl,
            _ if extended_types && emulate_353_ttl && owner < 0 => ttl,
            _ => OwnerKind::Ephemeral,
        }
    }
}
