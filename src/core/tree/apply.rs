//! The only way the tree changes: a committed transaction.

use smallvec::SmallVec;

use super::DataTree;
use crate::wire::client::{Acl, Stat};
use crate::wire::txn::{Txn, TxnHeader};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Created,
    DataChanged,
    Deleted,
}

/// One change, told in the order in which watches must fire.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    pub kind: ChangeKind,
    pub zxid: i64,
    pub path: &'a str,
    /// `/` for the children of the root (and for the root itself).
    pub parent_path: &'a str,
    /// The node's list; of a deleted node the one it had.
    pub acl: &'a [Acl<'static>],
    pub parent_acl: &'a [Acl<'static>],
}

/// Who hears of changes while they are made.
pub trait ChangeSink {
    fn changed(&mut self, change: &Change<'_>);
}

/// Nobody listens: replay.
#[derive(Debug)]
pub struct Unwatched;

impl ChangeSink for Unwatched {
    fn changed(&mut self, _change: &Change<'_>) {}
}

/// What one item of a transaction did, as its reply needs it. Stats are as of that item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemOutcome<'t> {
    Created {
        path: &'t str,
        stat: Stat,
    },
    Deleted,
    DataSet {
        stat: Stat,
    },
    AclSet {
        stat: Stat,
    },
    Checked,
    /// createSession, closeSession.
    Session,
    /// An error item, or (only when replaying over newer state) something that could not be applied. The wire's number.
    Failed {
        code: i32,
    },
}

/// One outcome for a single transaction, one an item for a multi. In a failed multi the items before the first error
/// are `Failed { code: 0 }` and nothing was applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied<'t> {
    pub items: SmallVec<[ItemOutcome<'t>; 1]>,
}

#[allow(unused_variables)]
impl DataTree {
    /// Applies one committed transaction. Never fails: what newer state contradicts is skipped (semantics 17).
    pub fn apply<'t>(&mut self, header: &TxnHeader, txn: &'t Txn<'_>, sink: &mut impl ChangeSink) -> Applied<'t> {
        unimplemented!()
    }
}
