//! What a snapshot may have wrong with it when it is to become a tree.

/// Why a snapshot is not, or not quite, a tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// A [`ringkeeper_storage::SnapshotError`]'s text.
    #[error("{0}")]
    Damaged(String),
    #[error("it promises {node_count} nodes in {slot_count} slots")]
    TooManyNodes { node_count: u64, slot_count: u32 },
    #[error("it has no root")]
    NoRoot,
    #[error("ACL number {acl} is listed twice, unused or out of range")]
    BadAclNumber { acl: u32 },
    #[error("slot {slot} is listed twice as owned, has no owner or is out of range")]
    BadOwner { slot: u32 },
    #[error("slot {slot} below slot {parent} has an impossible name: {name:?}")]
    BadName { slot: u32, parent: u32, name: String },
    #[error("slot {slot} uses ACL {acl}, which is not listed")]
    NoAcl { slot: u32, acl: u32 },
    #[error("slot {slot} has {child_count} children, the first of them in slot {first_child}")]
    BadChildren { slot: u32, child_count: u32, first_child: u32 },
    #[error("slot {slot} has the name of another child of slot {parent}: {name:?}")]
    NameTwice { slot: u32, parent: u32, name: String },
    #[error("slot {slot} has no proper place among the children of slot {parent}")]
    NotLinked { slot: u32, parent: u32 },
    #[error("the way up from slot {slot} leads back to it")]
    Circle { slot: u32 },
    #[error("its nodes contradict each other about who hangs where")]
    Links,
    #[error("{found} nodes instead of {expected}")]
    NodeCount { found: u64, expected: u64 },
    #[error("the nodes count {found} children instead of {expected}")]
    ChildCount { found: u64, expected: u64 },
    #[error("{found} nodes use ACL {acl} instead of {expected}")]
    AclUses { acl: u32, found: u64, expected: u64 },
    #[error("the nodes with owners are not those it lists")]
    Owners,
    #[error("the tree's digest is {found:#x} instead of {expected:#x}")]
    Digest { found: u64, expected: u64 },
}
