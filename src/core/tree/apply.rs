//! The only way the tree changes: a committed transaction. Serving, replaying and following all come through here.
//!
//! Never fails and never asks permission: prep did. What newer state contradicts (replay over a fuzzy Java snapshot) is
//! skipped as Java skips it. Not here: session timeouts (the owner of the tree keeps them) and watch tables (the sink).
//! `create`, `delete` and `set_data`, which change what a subtree holds, end with the accounting of quotas (`quota.rs`): a
//! reply shows the node as it was before that, as Java's does.
//!
//! Spec: semantics 3.2, 3.3, 9.13, 11.3, 17. Java: `DataTree.processTxn`.

use ringkeeper_storage::probe::broken;
use smallvec::{SmallVec, smallvec};

use super::node::{Node, NodeId, TTL_MS_MAX};
use super::{DataTree, digest, path};
use crate::core::types::{SessionId, Zxid};
use crate::wire::ErrorCode;
use crate::wire::client::{Acl, Stat};
use crate::wire::txn::{CONTAINER_OWNER, CreateKind, TTL_OWNER_MASK, Txn, TxnHeader};

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

impl ItemOutcome<'_> {
    fn failed(code: ErrorCode) -> Self {
        ItemOutcome::Failed { code: code.number() }
    }
}

/// One outcome for a single transaction, one an item for a multi. In a failed multi the items before the first error
/// are `Failed { code: 0 }` and nothing was applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied<'t> {
    pub items: SmallVec<[ItemOutcome<'t>; 1]>,
}

impl DataTree {
    /// Applies one committed transaction.
    pub fn apply<'t>(&mut self, header: &TxnHeader, txn: &'t Txn<'_>, sink: &mut impl ChangeSink) -> Applied<'t> {
        let items = match txn {
            Txn::Multi(items) if items.iter().any(|item| matches!(item, Txn::Error { .. })) => refused(items),
            Txn::Multi(items) => items.iter().map(|item| self.apply_item(header, item, sink)).collect(),
            single => smallvec![self.apply_item(header, single, sink)],
        };
        self.last_processed = self.last_processed.max(Zxid(header.zxid as u64));
        self.let_go_of_given_up();
        Applied { items }
    }

    fn apply_item<'t>(&mut self, header: &TxnHeader, txn: &'t Txn<'_>, sink: &mut impl ChangeSink) -> ItemOutcome<'t> {
        match txn {
            Txn::Create { path, .. } => self.create(header, path, txn, sink),
            Txn::Delete { path } | Txn::DeleteContainer { path } => self.delete(header.zxid, path, sink),
            Txn::SetData { path, data, version } => self.set_data(header, path, *data, *version, sink),
            Txn::Reconfig { path, data, version } => {
                self.keep_config_before();
                self.set_data(header, path, *data, *version, sink)
            }
            Txn::SetAcl { path, acl, version } => self.set_acl(path, acl, *version),
            Txn::CreateSession { .. } => ItemOutcome::Session,
            Txn::CloseSession { paths } => {
                for path in paths.iter().flatten() {
                    self.delete(header.zxid, path, sink);
                }
                self.delete_ephemerals(header.zxid, SessionId(header.client_id), sink);
                ItemOutcome::Session
            }
            Txn::Check { .. } => ItemOutcome::Checked,
            Txn::Error { code } => ItemOutcome::Failed { code: *code },
            // The decoder refuses a multi inside a multi.
            Txn::Multi(_) => ItemOutcome::failed(ErrorCode::MarshallingError),
        }
    }

    fn create<'t>(
        &mut self,
        header: &TxnHeader,
        path: &'t str,
        create: &Txn<'_>,
        sink: &mut impl ChangeSink,
    ) -> ItemOutcome<'t> {
        let Txn::Create { data, acl, kind, parent_cversion, create2, .. } = create else {
            unreachable!("called for creates only")
        };
        let Some((parent_path, name)) = path::split(path) else {
            return ItemOutcome::failed(ErrorCode::NoNode);
        };
        let Some(parent) = self.find(parent_path) else {
            return ItemOutcome::failed(ErrorCode::NoNode);
        };
        if name.is_empty() {
            return ItemOutcome::failed(ErrorCode::NodeExists); // the root; a child without a name does not get this far
        }
        if let Some(existing) = self.child(parent, name) {
            self.replace_acl(existing, acl);
            // Java does this for type 1 only, not for create2, container and TTL creates.
            if !create2 && matches!(kind, CreateKind::Persistent | CreateKind::Ephemeral) {
                self.count_child_created(parent, parent_path, *parent_cversion, header.zxid);
            }
            return ItemOutcome::failed(ErrorCode::NodeExists);
        }
        self.count_child_created(parent, parent_path, *parent_cversion, header.zxid);
        let acl = self.acls.intern(acl);
        let mut node = Node::new(parent, name, *data, acl, digest::content_crc(path, *data));
        (node.czxid, node.mzxid, node.pzxid) = (header.zxid, header.zxid, header.zxid);
        (node.ctime, node.mtime) = (header.time_ms, header.time_ms);
        let id = self.attach(path, node, stored_owner(*kind, header.client_id));
        self.tell(ChangeKind::Created, header.zxid, path, id, parent_path, sink);
        let stat = self.stat(id);
        self.begin_usage(id, parent_path, name);
        self.account(path, data.map_or(0, <[u8]>::len) as i64, 1);
        ItemOutcome::Created { path, stat }
    }

    fn delete<'t>(&mut self, zxid: i64, path: &str, sink: &mut impl ChangeSink) -> ItemOutcome<'t> {
        let no_node = ItemOutcome::failed(ErrorCode::NoNode);
        let Some((parent_path, name)) = path::split(path) else {
            return no_node;
        };
        let Some(parent) = self.find(parent_path) else {
            return no_node;
        };
        if name.is_empty() {
            return no_node;
        }
        if self.nodes[parent].pzxid < zxid {
            self.amend(parent, parent_path, |parent| parent.pzxid = zxid);
        }
        let Some(id) = self.child(parent, name) else {
            return no_node;
        };
        self.delete_below(id);
        let node = self.detach(id, path);
        sink.changed(&Change {
            kind: ChangeKind::Deleted,
            zxid,
            path,
            parent_path,
            acl: self.acls.get(node.acl),
            parent_acl: self.acl(parent),
        });
        self.acls.release(node.acl);
        self.account(path, -(node.data_len() as i64), -1);
        ItemOutcome::Deleted
    }

    /// Replay over a fuzzy snapshot may delete a node whose children of a later life are already there. Java cuts them off
    /// and later transactions make them again; so here.
    fn delete_below(&mut self, top: NodeId) {
        while let Some(mut leaf) = self.nodes[top].first_child.or_none() {
            while let Some(child) = self.nodes[leaf].first_child.or_none() {
                leaf = child;
            }
            let path = self.path(leaf);
            let node = self.detach(leaf, &path);
            self.acls.release(node.acl);
            self.account(&path, -(node.data_len() as i64), -1);
        }
    }

    fn delete_ephemerals(&mut self, zxid: i64, session: SessionId, sink: &mut impl ChangeSink) {
        let left_over = usize::from(broken("a closed session leaves one ephemeral behind"));
        let ids: Vec<NodeId> = self.ephemerals(session).skip(left_over).collect();
        // The same order everywhere: what one transaction created lies in another order behind a snapshot.
        let mut paths: Vec<(i64, String)> = ids.into_iter().map(|id| (self.stat(id).czxid, self.path(id))).collect();
        paths.sort_unstable();
        for (_, path) in paths {
            // Gone already, if it hung below another of them: no server of ours makes that, others' logs may say it.
            self.delete(zxid, &path, sink);
        }
    }

    fn set_data<'t>(
        &mut self,
        header: &TxnHeader,
        path: &str,
        data: Option<&[u8]>,
        version: i32,
        sink: &mut impl ChangeSink,
    ) -> ItemOutcome<'t> {
        let Some(id) = self.find(path) else {
            return ItemOutcome::failed(ErrorCode::NoNode);
        };
        let bytes_before = self.nodes[id].data_len() as i64;
        self.amend(id, path, |node| {
            node.data = data.map(Box::from);
            node.content_crc = digest::content_crc(path, data);
            node.version = version;
            (node.mzxid, node.mtime) = (header.zxid, header.time_ms);
        });
        let parent_path = path::split(path).map_or(path::ROOT, |(parent_path, _)| parent_path);
        self.tell(ChangeKind::DataChanged, header.zxid, path, id, parent_path, sink);
        let stat = self.stat(id);
        self.account(path, data.map_or(0, <[u8]>::len) as i64 - bytes_before, 0);
        ItemOutcome::DataSet { stat }
    }

    fn set_acl<'t>(&mut self, path: &str, acl: &[Acl<'_>], version: i32) -> ItemOutcome<'t> {
        let Some(id) = self.find(path) else {
            return ItemOutcome::failed(ErrorCode::NoNode);
        };
        self.amend(id, path, |node| node.aversion = version);
        self.replace_acl(id, acl);
        ItemOutcome::AclSet { stat: self.stat(id) }
    }

    fn replace_acl(&mut self, id: NodeId, acl: &[Acl<'_>]) {
        self.save_for_snapshot(id);
        let new = self.acls.intern(acl);
        let old = std::mem::replace(&mut self.nodes[id].acl, new);
        self.acls.release(old);
    }

    /// Semantics 3.3. Java: `DataTree.createNode`, `setCversionPzxid`.
    fn count_child_created(&mut self, parent: NodeId, parent_path: &str, parent_cversion: i32, zxid: i64) {
        let now = self.nodes[parent].cversion;
        let wanted = if parent_cversion == -1 { now.wrapping_add(1) } else { parent_cversion };
        if wanted > now {
            self.amend(parent, parent_path, |parent| (parent.cversion, parent.pzxid) = (wanted, zxid));
        }
    }

    fn tell(&self, kind: ChangeKind, zxid: i64, path: &str, id: NodeId, parent_path: &str, sink: &mut impl ChangeSink) {
        let parent_acl = self.acl(self.nodes[id].parent);
        sink.changed(&Change { kind, zxid, path, parent_path, acl: self.acl(id), parent_acl });
    }
}

/// A failed multi: nothing happens (semantics 9.13).
fn refused<'t>(items: &[Txn<'_>]) -> SmallVec<[ItemOutcome<'t>; 1]> {
    let first_error = items.iter().position(|item| matches!(item, Txn::Error { .. })).unwrap_or(items.len());
    let outcome = |(at, item): (usize, &Txn<'_>)| match item {
        Txn::Error { code } => ItemOutcome::Failed { code: *code },
        _ if at < first_error => ItemOutcome::Failed { code: 0 },
        _ => ItemOutcome::failed(ErrorCode::RuntimeInconsistency),
    };
    items.iter().enumerate().map(outcome).collect()
}

/// The stored owner field. A TTL that does not fit its 40 bits kills Java servers; the nearest sane thing is kept.
pub fn stored_owner(kind: CreateKind, session: i64) -> i64 {
    match kind {
        CreateKind::Persistent => 0,
        CreateKind::Ephemeral => session,
        CreateKind::Container => CONTAINER_OWNER,
        CreateKind::Ttl { ttl_ms } if ttl_ms <= 0 => 0,
        CreateKind::Ttl { ttl_ms } => TTL_OWNER_MASK | ttl_ms.min(TTL_MS_MAX),
    }
}
