//! `enableEagerACLCheck`: a member looks at the permissions of its clients' writes before anybody else hears of them.
//!
//! Judged against the applied tree, answered at once with zxid 0, no transaction. What this look cannot decide (a node that is not
//! there, a bad path) goes on to the leader, and so do `multi`, container and TTL creates. A standalone server never looks.
//! Spec: semantics 8.6. Java: `ZooKeeperServer.authWriteRequest`, `effectiveACLPath`.

use super::prep;
use crate::core::node::{Node, Slot};
use crate::core::tree::{acl, path};
use crate::wire::ErrorCode;
use crate::wire::client::{Request, perms};
use crate::wire::txn::AclList;

impl Node {
    /// Why a write is refused before it is forwarded or proposed, if it is.
    pub(super) fn refused_eagerly(&self, slot: Slot, request: &Request<'_>) -> Option<ErrorCode> {
        if !self.settings.eager_acl_check || self.member.is_none() {
            return None;
        }
        let parent = |path: &'_ str| path::split(path).map(|(parent, _)| parent.to_owned());
        let (path, wanted, list) = match request {
            Request::Create(create) | Request::Create2(create) => {
                (create.path.as_deref().and_then(parent), perms::CREATE, Some(create.acl.as_ref()))
            }
            Request::Delete { path, .. } => (path.as_deref().and_then(parent), perms::DELETE, None),
            Request::SetData { path, .. } => (path.as_deref().map(str::to_owned), perms::WRITE, None),
            Request::SetAcl { path, acl, .. } => (path.as_deref().map(str::to_owned), perms::ADMIN, Some(acl.as_ref())),
            _ => return None,
        };
        if list.is_some_and(|list| self.is_no_acl(slot, list)) {
            return Some(ErrorCode::InvalidAcl);
        }
        let node = self.tree.find(&path?)?;
        let identities = &self.connections[slot].identities();
        let is_allowed = acl::allowed(self.tree.acl(node), wanted, identities, self.settings.skip_acl);
        (!is_allowed).then_some(ErrorCode::NoAuth)
    }

    /// What else may be wrong with a list is said by whoever makes the transaction.
    fn is_no_acl(&self, slot: Slot, list: Option<&AclList<'_>>) -> bool {
        let fixed = prep::fix_up(list, self.connections[slot].identities(), &self.settings, &mut 0);
        matches!(fixed, Err(ErrorCode::InvalidAcl))
    }
}
