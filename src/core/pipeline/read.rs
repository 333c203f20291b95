//! Reads: answered from memory, in order behind the same session's writes, waiting for nobody's disk.
//! Spec: semantics 1.2, 8.4, 10.2, 12.3. Java: `FinalRequestProcessor`.

use std::borrow::Cow;

use ringkeeper_storage::probe::broken;

use super::reply::BARE_REPLY_BYTES;
use crate::core::connection::Header;
use crate::core::node::{Node, Slot};
use crate::core::tree::watch::WatchMode;
use crate::core::tree::{Identity, NodeId, acl};
use crate::core::types::{Now, SessionId};
use crate::limits;
use crate::wire::ErrorCode;
use crate::wire::client::multi::{put_end, put_result};
use crate::wire::client::reply::{put_acl, put_add_watch, put_bare, put_children2, put_data, put_names, put_who_am_i};
use crate::wire::client::{
    AddWatchMode, EventKind, MultiReadOp, MultiResult, OpCode, ReplyHeader, Request, SetWatches, WatcherEvent, perms,
    xid,
};
use crate::wire::frame::{begin_frame, end_frame};
use crate::wire::jute::{put_i32, put_text};

/// The zxid of notifications that `setWatches` itself produces.
const NO_ZXID: i64 = -1;

/// A Stat on the wire.
const STAT_BYTES: usize = 68;

impl Node {
    /// Evaluates one read against the applied tree and answers it.
    pub(super) fn answer_read(&mut self, now: Now, slot: Slot, header: Header, body: &[u8], identities: &[Identity]) {
        let limits = self.limits;
        let zxid = self.progress.applied.0 as i64;
        let request = match Request::decode(header.opcode.number(), body, &limits) {
            Ok(request) => request,
            Err(_) => {
                return self.reply_error(now, slot, header, zxid, ErrorCode::MarshallingError);
            }
        };
        if let Request::SetWatches(watches) | Request::SetWatches2(watches) = &request {
            self.set_watches(slot, watches);
        }
        // Whatever was sent; `cons` shows what was sent (client-protocol 6).
        let xid = if header.opcode == OpCode::Ping { xid::PING } else { header.xid };
        // Written in place; an error takes the begun frame back.
        let mut outbox = std::mem::take(&mut self.connections[slot].outbox);
        let start = outbox.len();
        let frame = begin_frame(&mut outbox);
        ReplyHeader { xid, zxid, err: 0 }.encode(&mut outbox);
        match self.evaluate(slot, &request, identities, &mut outbox) {
            Ok(()) => end_frame(&mut outbox, frame),
            Err(error) => {
                outbox.truncate(start);
                put_bare(&mut outbox, ReplyHeader { xid, zxid, err: error.number() });
            }
        }
        let bytes = outbox.len() - start;
        self.connections[slot].outbox = outbox;
        self.note_read(&request, bytes.saturating_sub(BARE_REPLY_BYTES));
        self.answered(now, slot, header, bytes);
    }

    /// Appends the body of a read's answer.
    fn evaluate(
        &mut self,
        slot: Slot,
        request: &Request<'_>,
        identities: &[Identity],
        out: &mut Vec<u8>,
    ) -> Result<(), ErrorCode> {
        let tree = &self.tree;
        let connection = self.connections[slot].id;
        match request {
            Request::Exists { path, watch } => {
                let path = required(path)?;
                if path.contains('\0') {
                    return Err(ErrorCode::BadArguments);
                }
                let found = tree.find(path);
                if let Some(id) = found {
                    self.require(id, perms::READ, identities)?;
                }
                // A node that is not there can be waited for.
                if *watch {
                    self.watches.arm(connection, path, WatchMode::StandardData);
                }
                self.tree.stat(found.ok_or(ErrorCode::NoNode)?).encode(out);
            }
            Request::GetData { path, watch } => {
                let (path, id) = self.readable(path, perms::READ, identities)?;
                if *watch {
                    self.watches.arm(connection, path, WatchMode::StandardData);
                }
                put_data(out, self.tree.data(id), &self.tree.stat(id));
            }
            Request::GetChildren { path, watch } | Request::GetChildren2 { path, watch } => {
                let (path, id) = self.readable(path, perms::READ, identities)?;
                if *watch {
                    self.watches.arm(connection, path, WatchMode::StandardChild);
                }
                let tree = &self.tree;
                let (count, names) = (tree.child_count(id) as usize, tree.child_names(id));
                if matches!(request, Request::GetChildren { .. }) {
                    put_names(out, count, names);
                } else {
                    put_children2(out, count, names, &tree.stat(id));
                }
            }
            Request::GetAcl { path } => {
                let (_, id) = self.readable(path, perms::READ | perms::ADMIN, identities)?;
                let list = self.tree.acl(id);
                let stat = self.tree.stat(id);
                if acl::allowed(list, perms::ADMIN, identities, self.settings.skip_acl) {
                    put_acl(out, list, &stat);
                } else {
                    put_acl(out, &acl::redacted(list), &stat);
                }
            }
            Request::GetAllChildrenNumber { path } => {
                let (path, id) = self.readable(path, perms::READ, identities)?;
                // Java counts the paths below "" + "/", and finds the root's other name among them.
                let count = self.tree.descendant_count(id) + u64::from(path.is_empty());
                self.turn_work.walked(if id == NodeId::ROOT { 0 } else { count });
                put_i32(out, i32::try_from(count).unwrap_or(i32::MAX));
            }
            Request::GetEphemerals { prefix } => {
                let owned = self.put_ephemerals(self.connections[slot].session, prefix, out);
                self.turn_work.walked(owned);
            }
            Request::MultiRead(ops) => {
                // A megabyte of items can ask for gigabytes (D-101).
                let start = out.len();
                for op in ops {
                    put_result(out, &self.read_item(op, identities));
                    if out.len() - start > limits::CLIENT_OUTPUT_HARD_BYTES {
                        return Err(ErrorCode::MarshallingError);
                    }
                }
                put_end(out);
            }
            Request::WhoAmI => {
                let users = identities.iter().map(|identity| (identity.scheme.as_str(), user(identity)));
                put_who_am_i(out, identities.len(), users);
            }
            Request::Sync { path } => put_text(out, path),
            Request::CheckWatches { path, kind } => {
                self.watches.check(connection, path.as_deref().unwrap_or_default(), *kind)?;
            }
            Request::RemoveWatches { path, kind } => {
                self.watches.remove(connection, path.as_deref().unwrap_or_default(), *kind)?;
            }
            Request::AddWatch { path, mode } => {
                let mode = match mode {
                    AddWatchMode::Persistent => WatchMode::Persistent,
                    AddWatchMode::PersistentRecursive => WatchMode::PersistentRecursive,
                };
                self.watches.arm(connection, path.as_deref().unwrap_or_default(), mode);
                put_add_watch(out);
            }
            Request::Ping | Request::SetWatches(_) | Request::SetWatches2(_) => {}
            write => unreachable!("{:?} is not a read", write.opcode()),
        }
        Ok(())
    }

    /// Bytes read, by the first part of the path: data, or names of children with their length words (Java: without).
    fn note_read(&mut self, request: &Request<'_>, body_bytes: usize) {
        let (path, stat_bytes) = match request {
            Request::GetData { path: Some(path), .. } => (path, 4 + STAT_BYTES),
            Request::GetChildren { path: Some(path), .. } => (path, 4),
            Request::GetChildren2 { path: Some(path), .. } => (path, 4 + STAT_BYTES),
            _ => return,
        };
        self.metrics.node_read(path, body_bytes.saturating_sub(stat_bytes) as u64);
    }

    /// A node this connection may see.
    fn readable<'r>(
        &self,
        path: &'r Option<Cow<'_, str>>,
        wanted: i32,
        identities: &[Identity],
    ) -> Result<(&'r str, NodeId), ErrorCode> {
        let path = required(path)?;
        let id = self.tree.find(path).ok_or(ErrorCode::NoNode)?;
        self.require(id, wanted, identities)?;
        Ok((path, id))
    }

    fn require(&self, id: NodeId, wanted: i32, identities: &[Identity]) -> Result<(), ErrorCode> {
        if acl::allowed(self.tree.acl(id), wanted, identities, self.settings.skip_acl) {
            Ok(())
        } else {
            Err(ErrorCode::NoAuth)
        }
    }

    /// One item of a `multiRead`: fails for itself, and never arms a watch.
    fn read_item(&self, op: &MultiReadOp<'_>, identities: &[Identity]) -> MultiResult<'_> {
        let (path, data) = match op {
            MultiReadOp::GetData { path, .. } => (path, true),
            MultiReadOp::GetChildren { path, .. } => (path, false),
        };
        match self.readable(path, perms::READ, identities) {
            Err(error) => MultiResult::Error { code: error.number() },
            Ok((_, id)) if data => {
                MultiResult::GetData { data: self.tree.data(id).map(Cow::Borrowed), stat: self.tree.stat(id) }
            }
            Ok((_, id)) => {
                let names = self.tree.child_names(id).map(Cow::Borrowed);
                MultiResult::GetChildren { children: names.collect() }
            }
        }
    }

    /// Plain string prefix; nothing, blanks or `/` mean all (client-protocol 12.7). What Java's `trim` takes away are
    /// the ASCII control characters and the space, no others, and what is left is only looked at for this.
    /// Gives how many the session has.
    fn put_ephemerals(&self, session: SessionId, prefix: &Option<Cow<'_, str>>, out: &mut Vec<u8>) -> u64 {
        let means_some = |prefix: &&str| !matches!(prefix.trim_matches(|c| c <= ' '), "" | "/");
        let prefix = prefix.as_deref().filter(means_some).unwrap_or_default();
        let mut owned = 0;
        let paths: Vec<String> = self
            .tree
            .ephemerals(session)
            .inspect(|_| owned += 1)
            .map(|id| self.tree.path(id))
            .filter(|path| path.starts_with(prefix))
            .collect();
        put_names(out, paths.len(), paths.iter().map(String::as_str));
        owned
    }

    /// Re-arms the watches of a client that was connected elsewhere, or tells it at once what it missed: before this
    /// request's own answer, unfiltered, with zxid -1 (semantics 10.7).
    fn set_watches(&mut self, slot: Slot, asked: &SetWatches<'_>) {
        let connection = self.connections[slot].id;
        let since =
            if broken("watches set again are not told what they missed") { i64::MAX } else { asked.relative_zxid };
        for path in &asked.data {
            match self.tree.find(path).map(|id| self.tree.raw_stat(id).mzxid) {
                None => self.catch_up(slot, EventKind::NodeDeleted, path),
                Some(mzxid) if mzxid > since => self.catch_up(slot, EventKind::NodeDataChanged, path),
                Some(_) => self.watches.arm(connection, path, WatchMode::StandardData),
            }
        }
        for path in &asked.exist {
            match self.tree.find(path) {
                Some(_) => self.catch_up(slot, EventKind::NodeCreated, path),
                None => self.watches.arm(connection, path, WatchMode::StandardData),
            }
        }
        for path in &asked.child {
            match self.tree.find(path).map(|id| self.tree.raw_stat(id).pzxid) {
                None => self.catch_up(slot, EventKind::NodeDeleted, path),
                Some(pzxid) if pzxid > since => self.catch_up(slot, EventKind::NodeChildrenChanged, path),
                Some(_) => self.watches.arm(connection, path, WatchMode::StandardChild),
            }
        }
        for path in &asked.persistent {
            self.watches.arm(connection, path, WatchMode::Persistent);
        }
        for path in &asked.persistent_recursive {
            self.watches.arm(connection, path, WatchMode::PersistentRecursive);
        }
    }

    fn catch_up(&mut self, slot: Slot, kind: EventKind, path: &str) {
        let connection = &mut self.connections[slot];
        WatcherEvent { kind, path: path.into() }.encode(NO_ZXID, &mut connection.outbox);
        connection.stats.packets_sent += 1;
        self.mark_dirty(slot);
    }
}

/// Java fails on a null path where it needs one; the client hears MARSHALLINGERROR.
fn required<'r>(path: &'r Option<Cow<'_, str>>) -> Result<&'r str, ErrorCode> {
    path.as_deref().ok_or(ErrorCode::MarshallingError)
}

/// What `whoAmI` shows of an identity (client-protocol 12.6).
fn user(identity: &Identity) -> &str {
    match identity.scheme.as_str() {
        "digest" => identity.id.split_once(':').map_or(identity.id.as_str(), |(user, _)| user),
        "ip" | "x509" | "sasl" => &identity.id,
        _ => "",
    }
}
