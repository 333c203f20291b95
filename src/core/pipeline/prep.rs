//! Prep: a write request becomes a transaction, or a reason why not.
//!
//! Every check looks at the tree *and* the writes in flight (`pending_view.rs`), in the order of semantics 4, because the
//! first failing check decides what the client is told. A refused request still consumes a zxid: its transaction says so.
//! Not here, on purpose: decoding, sessions of connections, the log. Java: `PrepRequestProcessor`.

use std::borrow::Cow;
use std::rc::Rc;

use ringkeeper_storage::probe::broken;

use super::pending_view::{PendingAcl, PendingNode, PendingView};
use super::quota_alarms::QuotaAlarm;
use crate::core::settings::Settings;
use crate::core::tree::config_node::CONFIG_NODE;
use crate::core::tree::{AclRef, DataTree, Identity, OwnerKind, RawStat, acl, digest, path, quota};
use crate::core::types::{SessionId, Zxid};
use crate::wire::ErrorCode;
use crate::wire::client::{Acl, CreateRequest, MultiOp, OpCode, Request, perms};
use crate::wire::txn::{AclList, CONTAINER_OWNER, CreateKind, TTL_OWNER_MASK, Txn};

/// Longest TTL of a node, milliseconds (40 bits).
const TTL_MS_MAX: i64 = (1 << 40) - 1;

/// Who asks, and what the transaction will be stamped with.
pub struct Asker<'a> {
    pub session: SessionId,
    pub identities: &'a [Identity],
    pub zxid: Zxid,
    pub time_ms: i64,
}

/// One write being prepared.
pub struct Prep<'a> {
    pub tree: &'a DataTree,
    pub pending: &'a mut PendingView,
    pub settings: &'a Settings,
    pub asker: Asker<'a>,
    /// Quotas that it would exceed, or does.
    pub alarms: Vec<QuotaAlarm>,
    /// What `auth` in permission lists has come to so far, over all items of a multi.
    pub expansion_bytes: usize,
}

/// What is to become a transaction, or why it is refused before anybody looks at the tree.
pub enum Wanted<'r> {
    Write(Request<'r>),
    Refused(ErrorCode),
    MultiRefused {
        items: usize,
        code: ErrorCode,
    },
    Session {
        timeout_ms: i32,
    },
    /// The membership is to be this.
    Reconfigured(Result<&'r [u8], ErrorCode>),
}

impl<'r> Wanted<'r> {
    /// `session`: whether it may ask for anything.
    pub fn of(request: Result<Request<'r>, ErrorCode>, session: Result<(), ErrorCode>) -> Self {
        match (request, session) {
            (Err(code), _) => Wanted::Refused(code),
            (Ok(request), Ok(())) => Wanted::Write(request),
            (Ok(Request::Multi(ops)), Err(code)) => Wanted::MultiRefused { items: ops.len(), code },
            (Ok(_), Err(code)) => Wanted::Refused(code),
        }
    }

    /// `configuration`: what a request for another membership comes to, if it is one.
    pub fn or_reconfigured(self, configuration: Option<&'r Result<String, ErrorCode>>) -> Self {
        match (self, configuration) {
            (Wanted::Write(_), Some(text)) => {
                Wanted::Reconfigured(text.as_ref().map(String::as_bytes).map_err(|code| *code))
            }
            (wanted, _) => wanted,
        }
    }

    pub fn prepare(self, prep: &mut Prep<'_>) -> Txn<'r> {
        match self {
            Wanted::Write(request) => prep.request(request),
            Wanted::Refused(code) => prep.refused(code),
            Wanted::MultiRefused { items, code } => multi_refused(items, code),
            Wanted::Session { timeout_ms } => Txn::CreateSession { timeout_ms },
            Wanted::Reconfigured(text) => {
                text.and_then(|text| prep.reconfig(text)).unwrap_or_else(|code| prep.refused(code))
            }
        }
    }
}

/// What flags and opcode of a create decide.
struct CreateMode {
    kind: CreateKind,
    sequential: bool,
}

impl Prep<'_> {
    /// The transaction for a client's write; what was refused is a transaction too.
    fn request<'r>(&mut self, request: Request<'r>) -> Txn<'r> {
        match request {
            Request::Multi(ops) => self.multi(ops),
            request => self.single(request).unwrap_or_else(|code| self.refused(code)),
        }
    }

    /// Undoes what the failed request did to the pending view.
    fn refused(&mut self, code: ErrorCode) -> Txn<'static> {
        self.pending.roll_back();
        Txn::Error { code: code.number() }
    }

    fn single<'r>(&mut self, request: Request<'r>) -> Result<Txn<'r>, ErrorCode> {
        match request {
            Request::Create(create) => self.create(create, OpCode::Create, None),
            Request::Create2(create) => self.create(create, OpCode::Create2, None),
            Request::CreateContainer(create) => self.create(create, OpCode::CreateContainer, None),
            Request::CreateTtl { create, ttl_ms } => self.create(create, OpCode::CreateTtl, Some(ttl_ms)),
            Request::Delete { path, version } => self.delete(path, version),
            Request::SetData { path, data, version } => self.set_data(path, data, version),
            Request::SetAcl { path, acl, version } => self.set_acl(path, acl.as_ref(), version),
            Request::CloseSession => Ok(self.close_session(self.asker.session)),
            // A standalone server has no membership to change (client-protocol 12.9). A leader has: `Wanted::Reconfigured`.
            Request::Reconfig { .. } if self.settings.reconfig_enabled => Err(ErrorCode::Unimplemented),
            Request::Reconfig { .. } => Err(ErrorCode::ReconfigDisabled),
            other => unreachable!("{:?} is not a write", other.opcode()),
        }
    }

    /// `closeSession`: lists the ephemerals to go, those still in flight included.
    pub fn close_session(&mut self, session: SessionId) -> Txn<'static> {
        let paths = self.pending.ephemerals(self.tree, session);
        let mut listed = Vec::with_capacity(paths.len());
        let left_over = usize::from(broken("a closed session leaves one ephemeral behind"));
        for path in paths.into_iter().skip(left_over) {
            if let Some(node) = self.pending.node(self.tree, &path) {
                self.remove(&path, &node);
                listed.push(Cow::Owned(path));
            }
        }
        Txn::CloseSession { paths: self.settings.close_session_txn.then_some(listed) }
    }

    /// A container or TTL node that ought to go. Spec: semantics 4, deleteContainer.
    pub fn delete_container(&mut self, path: &str) -> Txn<'static> {
        self.reap(path).unwrap_or_else(|code| self.refused(code))
    }

    fn reap(&mut self, path: &str) -> Result<Txn<'static>, ErrorCode> {
        let node = self.pending.node(self.tree, path).ok_or(ErrorCode::NoNode)?;
        if node.child_count > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        if self.owner_kind(&node) == OwnerKind::Ephemeral {
            return Err(ErrorCode::BadVersion);
        }
        self.remove(path, &node);
        Ok(Txn::DeleteContainer { path: Cow::Owned(path.to_owned()) })
    }

    /// All or nothing: the first failing item decides, and the transaction then says which (semantics 9.13).
    fn multi<'r>(&mut self, ops: Vec<MultiOp<'r>>) -> Txn<'r> {
        let mut items = Vec::with_capacity(ops.len());
        let mut failed = false;
        for op in ops {
            if failed {
                items.push(Txn::Error { code: ErrorCode::RuntimeInconsistency.number() });
                continue;
            }
            match self.item(op) {
                Ok(item) => items.push(item),
                // What Java trips over ends the whole request, not its item: a null id in an ACL (semantics 8.3).
                Err(ErrorCode::MarshallingError) => return self.refused(ErrorCode::MarshallingError),
                Err(code) => {
                    failed = true;
                    if !broken("a failed multi leaves its traces") {
                        self.pending.roll_back();
                    }
                    items.push(Txn::Error { code: code.number() });
                }
            }
        }
        Txn::Multi(items)
    }

    /// A multi of a session that is ending: each item would fail, the first one decides.
    fn item<'r>(&mut self, op: MultiOp<'r>) -> Result<Txn<'r>, ErrorCode> {
        match op {
            MultiOp::Create(create) => self.create(create, OpCode::Create, None),
            MultiOp::Create2(create) => self.create(create, OpCode::Create2, None),
            MultiOp::CreateContainer(create) => self.create(create, OpCode::CreateContainer, None),
            MultiOp::CreateTtl { create, ttl_ms } => self.create(create, OpCode::CreateTtl, Some(ttl_ms)),
            MultiOp::Delete { path, version } => self.delete(path, version),
            MultiOp::SetData { path, data, version } => self.set_data(path, data, version),
            MultiOp::Check { path, version } => self.check(path, version),
        }
    }
}

/// The checks and effects of each operation, in the order of semantics 4.
impl Prep<'_> {
    fn create<'r>(
        &mut self,
        request: CreateRequest<'r>,
        opcode: OpCode,
        ttl_ms: Option<i64>,
    ) -> Result<Txn<'r>, ErrorCode> {
        let CreateRequest { path, data, acl, flags } = request;
        let mode = self.create_mode(flags, ttl_ms, opcode)?;
        let path = path.ok_or(ErrorCode::MarshallingError)?;
        path::validate_form(&path)?;
        let acl = self.fix_up(acl.as_ref())?;
        let (parent_path, _) = path::split(&path).ok_or(ErrorCode::BadArguments)?;
        let parent_path = parent_path.to_owned();
        let mut parent = self.pending.node(self.tree, &parent_path).ok_or(ErrorCode::NoNode)?;
        self.require(&parent, perms::CREATE)?;
        let path = if mode.sequential {
            let mut name = path.into_owned();
            let stored = self.tree.find(&parent_path).filter(|_| broken("a sequence counts in the tree alone"));
            let counted = stored.map_or(parent.stat.cversion, |id| self.tree.raw_stat(id).cversion);
            path::push_sequence(&mut name, counted);
            Cow::Owned(name)
        } else {
            path
        };
        path::validate(&path)?;
        if self.pending.exists(self.tree, &path) {
            return Err(ErrorCode::NodeExists);
        }
        if self.owner_kind(&parent) == OwnerKind::Ephemeral {
            return Err(ErrorCode::NoChildrenForEphemerals);
        }
        let data_len = data.map_or(0, <[u8]>::len);
        if quota::is_of_nothing(&path) || quota::is_unreadable_at_birth(&path, data) {
            return Err(ErrorCode::BadArguments); // D-082, D-083
        }
        self.check_quota(&path, data_len as i64, 1)?;
        let zxid = self.asker.zxid.0 as i64;
        let owner = match mode.kind {
            CreateKind::Persistent => 0,
            CreateKind::Ephemeral => self.asker.session.0,
            CreateKind::Container => CONTAINER_OWNER,
            CreateKind::Ttl { ttl_ms } => TTL_OWNER_MASK | ttl_ms,
        };
        let node = PendingNode {
            stat: RawStat {
                czxid: zxid,
                mzxid: zxid,
                pzxid: zxid,
                ctime: self.asker.time_ms,
                mtime: self.asker.time_ms,
                ephemeral_owner: owner,
                ..RawStat::default()
            },
            content_crc: digest::content_crc(&path, data),
            data_len,
            child_count: 0,
            acl: pending_acl(&acl),
        };
        let before = parent.digest(&parent_path);
        // Never past i32::MAX on apply: then both fields stay frozen (semantics 3.5).
        let parent_cversion = parent.stat.cversion.wrapping_add(1);
        if parent_cversion > parent.stat.cversion {
            parent.stat.cversion = parent_cversion;
            parent.stat.pzxid = zxid;
        }
        parent.child_count += 1;
        let parent_change = parent.digest(&parent_path).wrapping_sub(before);
        self.pending.set(&parent_path, Some(parent), parent_change);
        let created = node.digest(&path);
        self.pending.set(&path, Some(node), created);
        if mode.kind == CreateKind::Ephemeral {
            self.pending.add_ephemeral(self.asker.session, &path);
        }
        Ok(Txn::Create { path, data, acl, kind: mode.kind, parent_cversion, create2: opcode == OpCode::Create2 })
    }

    /// Checks 1 to 3 of a create: flags, whether TTL nodes are on, and whether the TTL fits (client-protocol 11).
    fn create_mode(&self, flags: i32, ttl_ms: Option<i64>, opcode: OpCode) -> Result<CreateMode, ErrorCode> {
        if !(0..=6).contains(&flags) {
            return Err(ErrorCode::BadArguments);
        }
        let ttl_flags = flags >= 5;
        if ttl_flags && !self.settings.extended_types {
            return Err(ErrorCode::Unimplemented);
        }
        // A TTL create without a TTL mode kills a Java server when its ttl is negative; here it is always refused.
        let ttl_fits = ttl_flags == ttl_ms.is_some() && ttl_ms.is_none_or(|ttl_ms| (1..=TTL_MS_MAX).contains(&ttl_ms));
        let container_fits = opcode != OpCode::CreateContainer || flags == 4;
        if !ttl_fits || !container_fits {
            return Err(ErrorCode::BadArguments);
        }
        let kind = match flags {
            1 | 3 => CreateKind::Ephemeral,
            // A plain create with the container flag stores a plain node, as Java does (client-protocol 11).
            4 if opcode == OpCode::CreateContainer => CreateKind::Container,
            5 | 6 => CreateKind::Ttl { ttl_ms: ttl_ms.unwrap_or_default() },
            _ => CreateKind::Persistent,
        };
        Ok(CreateMode { kind, sequential: matches!(flags, 2 | 3 | 6) })
    }

    fn delete<'r>(&mut self, path: Option<Cow<'r, str>>, version: i32) -> Result<Txn<'r>, ErrorCode> {
        let path = path.ok_or(ErrorCode::MarshallingError)?;
        path::validate_form(&path)?;
        if path::RESERVED.contains(&&*path) || quota::is_of_nothing(&path) {
            return Err(ErrorCode::BadArguments);
        }
        let (parent_path, _) = path::split(&path).ok_or(ErrorCode::BadArguments)?;
        let parent = self.pending.node(self.tree, parent_path).ok_or(ErrorCode::NoNode)?;
        self.require(&parent, perms::DELETE)?;
        let node = self.pending.node(self.tree, &path).ok_or(ErrorCode::NoNode)?;
        check_version(node.stat.version, version)?;
        if node.child_count > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        self.remove(&path, &node);
        Ok(Txn::Delete { path })
    }

    /// The node goes; its parent has one child less and a newer pzxid.
    fn remove(&mut self, path: &str, node: &PendingNode) {
        let gone = 0u64.wrapping_sub(node.digest(path));
        self.pending.set(path, None, gone);
        let Some((parent_path, _)) = path::split(path) else {
            return;
        };
        let Some(mut parent) = self.pending.node(self.tree, parent_path) else {
            return;
        };
        let before = parent.digest(parent_path);
        parent.child_count -= 1;
        parent.stat.pzxid = parent.stat.pzxid.max(self.asker.zxid.0 as i64);
        let change = parent.digest(parent_path).wrapping_sub(before);
        self.pending.set(parent_path, Some(parent), change);
    }

    fn set_data<'r>(
        &mut self,
        path: Option<Cow<'r, str>>,
        data: Option<&'r [u8]>,
        version: i32,
    ) -> Result<Txn<'r>, ErrorCode> {
        let (path, mut node) = self.existing(path)?;
        self.require(&node, perms::WRITE)?;
        if quota::is_unreadable(&path, data) {
            return Err(ErrorCode::BadArguments); // D-082
        }
        let data_len = data.map_or(0, <[u8]>::len);
        self.check_quota(&path, data_len as i64 - node.data_len as i64, 0)?;
        if !broken("versions are checked against the tree alone") {
            check_version(node.stat.version, version)?;
        } else if let Some(stored) = self.tree.find(&path) {
            check_version(self.tree.raw_stat(stored).version, version)?;
        }
        let before = node.digest(&path);
        node.stat.version = next_version(node.stat.version);
        node.stat.mzxid = self.asker.zxid.0 as i64;
        node.stat.mtime = self.asker.time_ms;
        node.content_crc = digest::content_crc(&path, data);
        node.data_len = data_len;
        let version = node.stat.version;
        let change = node.digest(&path).wrapping_sub(before);
        self.pending.set(&path, Some(node), change);
        Ok(Txn::SetData { path, data, version })
    }

    /// The checks before this one look at the ensemble: `Node::wanted_configuration`.
    fn reconfig<'r>(&mut self, text: &'r [u8]) -> Result<Txn<'r>, ErrorCode> {
        let (path, mut node) = self.existing(Some(Cow::Borrowed(CONFIG_NODE)))?;
        self.require(&node, perms::WRITE)?;
        node.stat.version = -1;
        node.stat.mzxid = self.asker.zxid.0 as i64;
        node.stat.mtime = self.asker.time_ms;
        node.content_crc = digest::content_crc(&path, Some(text));
        node.data_len = text.len();
        self.pending.set(&path, Some(node), 0);
        Ok(Txn::Reconfig { path, data: Some(text), version: -1 })
    }

    fn set_acl<'r>(
        &mut self,
        path: Option<Cow<'r, str>>,
        acl: Option<&AclList<'r>>,
        version: i32,
    ) -> Result<Txn<'r>, ErrorCode> {
        let path = path.ok_or(ErrorCode::BadArguments)?; // not -5: Java's path check knows null
        path::validate(&path)?;
        let acl = self.fix_up(acl)?;
        let mut node = self.pending.node(self.tree, &path).ok_or(ErrorCode::NoNode)?;
        self.require(&node, perms::ADMIN)?;
        check_version(node.stat.aversion, version)?;
        let before = node.digest(&path);
        node.stat.aversion = next_version(node.stat.aversion);
        node.acl = pending_acl(&acl);
        let version = node.stat.aversion;
        let change = node.digest(&path).wrapping_sub(before);
        self.pending.set(&path, Some(node), change);
        Ok(Txn::SetAcl { path, acl, version })
    }

    fn check<'r>(&mut self, path: Option<Cow<'r, str>>, version: i32) -> Result<Txn<'r>, ErrorCode> {
        let (path, node) = self.existing(path)?;
        self.require(&node, perms::READ)?;
        check_version(node.stat.version, version)?;
        Ok(Txn::Check { path, version: next_version(node.stat.version) })
    }

    /// A valid path with a node.
    fn existing<'r>(&self, path: Option<Cow<'r, str>>) -> Result<(Cow<'r, str>, PendingNode), ErrorCode> {
        let path = path.ok_or(ErrorCode::BadArguments)?; // not -5: Java's path check knows null
        path::validate(&path)?;
        let node = self.pending.node(self.tree, &path).ok_or(ErrorCode::NoNode)?;
        Ok((path, node))
    }

    /// Usage is what has been applied: neither writes in flight nor earlier items of a multi count (semantics 7.4).
    fn check_quota(&mut self, path: &str, bytes: i64, nodes: i64) -> Result<(), ErrorCode> {
        if !self.settings.enforce_quota {
            return Ok(());
        }
        for exceeded in self.tree.exceeded_limits(path, bytes, nodes) {
            self.alarms.push(QuotaAlarm::of(&exceeded, path));
            if exceeded.is_hard {
                return Err(ErrorCode::QuotaExceeded);
            }
        }
        Ok(())
    }

    fn require(&self, node: &PendingNode, wanted: i32) -> Result<(), ErrorCode> {
        if acl::allowed(node.acl(self.tree), wanted, self.asker.identities, self.settings.skip_acl) {
            Ok(())
        } else {
            Err(ErrorCode::NoAuth)
        }
    }

    fn fix_up(&mut self, list: Option<&AclList<'_>>) -> Result<AclList<'static>, ErrorCode> {
        fix_up(list, self.asker.identities, self.settings, &mut self.expansion_bytes)
    }

    fn owner_kind(&self, node: &PendingNode) -> OwnerKind {
        let options = self.tree.options();
        OwnerKind::of(node.stat.ephemeral_owner, options.extended_types, options.emulate_353_ttl)
    }
}

fn multi_refused(items: usize, code: ErrorCode) -> Txn<'static> {
    let later = std::iter::repeat_n(ErrorCode::RuntimeInconsistency, items.saturating_sub(1));
    let codes = std::iter::once(code).take(items).chain(later);
    Txn::Multi(codes.map(|code| Txn::Error { code: code.number() }).collect())
}

/// In place of a transaction that is longer than servers read.
pub(super) fn too_long(txn: &Txn<'_>) -> Txn<'static> {
    match txn {
        Txn::Multi(items) => multi_refused(items.len(), ErrorCode::MarshallingError),
        _ => Txn::Error { code: ErrorCode::MarshallingError.number() },
    }
}

/// The list that is stored for the one that was asked for.
pub(super) fn fix_up(
    list: Option<&AclList<'_>>,
    identities: &[Identity],
    settings: &Settings,
    expansion_bytes: &mut usize,
) -> Result<AclList<'static>, ErrorCode> {
    let list = list.map_or(&[][..], |list| list);
    let is_digest = |entry: &Acl<'_>| entry.scheme.as_deref() == Some("digest");
    // Java: `ProviderRegistry` does not know a scheme whose provider is turned off.
    if !settings.digest_auth_enabled && list.iter().any(is_digest) {
        return Err(ErrorCode::InvalidAcl);
    }
    acl::fix_up(list, identities, expansion_bytes)
}

fn pending_acl(list: &AclList<'static>) -> PendingAcl {
    if acl::is_open(list) { PendingAcl::Stored(AclRef::OPEN) } else { PendingAcl::Set(Rc::new(list.clone())) }
}

/// Expected version -1 matches anything.
fn check_version(current: i32, expected: i32) -> Result<(), ErrorCode> {
    if expected == -1 || expected == current { Ok(()) } else { Err(ErrorCode::BadVersion) }
}

/// One more; -1 is skipped because nobody could expect it (the 3.10 rule, semantics 3.4).
fn next_version(version: i32) -> i32 {
    match version.wrapping_add(1) {
        -1 => 0,
        next => next,
    }
}
