//! The tree as it will be once every write in flight is applied: what prep validates the next write against.
//!
//! A record stands for one path that some write in flight touches, and lives until the last such write is applied. What
//! has no record is as the tree says. Java: `ZooKeeperServer.outstandingChanges`, `ChangeRecord`.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::rc::Rc;

use compact_str::CompactString;
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use slab::Slab;

use crate::core::tree::{AclRef, DataTree, RawStat, digest};
use crate::core::types::{SessionId, Zxid};
use crate::wire::client::Acl;
use crate::wire::txn::AclList;

/// The permissions of a node with writes in flight.
#[derive(Clone, Debug)]
pub enum PendingAcl {
    /// As the tree has it.
    Stored(AclRef),
    /// Set by a write in flight.
    Set(Rc<AclList<'static>>),
}

/// A node as the write that looks at it will find it.
#[derive(Clone, Debug)]
pub struct PendingNode {
    pub stat: RawStat,
    pub content_crc: u32,
    pub data_len: usize,
    pub child_count: u32,
    pub acl: PendingAcl,
}

impl PendingNode {
    pub fn acl<'a>(&'a self, tree: &'a DataTree) -> &'a [Acl<'static>] {
        match &self.acl {
            PendingAcl::Stored(acl) => tree.acls().get(*acl),
            PendingAcl::Set(list) => list,
        }
    }

    pub fn digest(&self, path: &str) -> u64 {
        if digest::counts(path) { digest::node_digest(self.content_crc, &self.stat) } else { 0 }
    }
}

#[derive(Debug)]
struct Record {
    path: CompactString,
    hash: u64,
    /// The newest write that touches this path.
    zxid: Zxid,
    /// `None`: a write in flight deletes it.
    node: Option<PendingNode>,
}

/// What a write changed, to be undone if a later item of the same multi fails.
#[derive(Debug)]
struct Undo {
    key: usize,
    before: Option<(Zxid, Option<PendingNode>)>,
}

#[derive(Debug, Default)]
pub struct PendingView {
    records: Slab<Record>,
    by_path: HashTable<usize>,
    hasher: FixedState,
    /// Records touched by the write being prepared, oldest first.
    undo: Vec<Undo>,
    /// The tree digest after every write in flight.
    digest: u64,
    digest_before: u64,
    zxid: Zxid,
    /// Ephemerals that writes in flight create, oldest first: a `closeSession` has to list them too.
    ephemeral_creates: VecDeque<(Zxid, SessionId, CompactString)>,
    ephemeral_creates_before: usize,
}

impl PendingView {
    /// `hash_seed`: [`Settings::hash_seed`](crate::core::Settings).
    pub fn new(digest: u64, hash_seed: u64) -> Self {
        let hasher = FixedState::with_seed(hash_seed);
        PendingView { hasher, digest, digest_before: digest, ..PendingView::default() }
    }

    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Starts preparing the write with this zxid. Everything set from here on can be rolled back until `finish`.
    pub fn begin(&mut self, zxid: Zxid) {
        assert!(self.undo.is_empty(), "the write before {zxid} was neither finished nor rolled back");
        self.zxid = zxid;
        self.digest_before = self.digest;
        self.ephemeral_creates_before = self.ephemeral_creates.len();
    }

    /// The write stands. Gives its records, to be handed back to `applied` when it is in the tree.
    pub fn finish(&mut self) -> Touched {
        self.undo.drain(..).map(|undo| undo.key as u32).collect()
    }

    /// The write is refused: everything is as before `begin`.
    pub fn roll_back(&mut self) {
        self.digest = self.digest_before;
        self.ephemeral_creates.truncate(self.ephemeral_creates_before);
        while let Some(Undo { key, before }) = self.undo.pop() {
            match before {
                Some((zxid, node)) => {
                    let record = &mut self.records[key];
                    record.zxid = zxid;
                    record.node = node;
                }
                None => self.forget(key),
            }
        }
    }

    /// A write is in the tree now: records that no later write touches say no more than the tree.
    pub fn applied(&mut self, zxid: Zxid, touched: &Touched) {
        for key in touched {
            let key = *key as usize;
            if self.records.get(key).is_some_and(|record| record.zxid == zxid) {
                self.forget(key);
            }
        }
        while self.ephemeral_creates.pop_front_if(|(created, ..)| *created <= zxid).is_some() {}
    }

    /// The node at a path after all writes in flight, or `None` when there will be none.
    pub fn node(&self, tree: &DataTree, path: &str) -> Option<PendingNode> {
        if let Some(record) = self.record(path) {
            return record.node.clone();
        }
        let id = tree.find(path)?;
        Some(PendingNode {
            stat: tree.raw_stat(id),
            content_crc: tree.content_crc(id),
            data_len: tree.data(id).map_or(0, <[u8]>::len),
            child_count: tree.child_count(id),
            acl: PendingAcl::Stored(tree.acl_ref(id)),
        })
    }

    pub fn exists(&self, tree: &DataTree, path: &str) -> bool {
        match self.record(path) {
            Some(record) => record.node.is_some(),
            None => tree.find(path).is_some(),
        }
    }

    /// The write being prepared leaves the node like this (`None` = deletes it); `digest_change` is what that does to the
    /// tree digest.
    pub fn set(&mut self, path: &str, node: Option<PendingNode>, digest_change: u64) {
        self.digest = self.digest.wrapping_add(digest_change);
        let hash = self.hasher.hash_one(path);
        let records = &mut self.records;
        if let Some(key) = self.by_path.find(hash, |key| records[*key].path == path).copied() {
            let record = &mut records[key];
            let before = (record.zxid, std::mem::replace(&mut record.node, node));
            record.zxid = self.zxid;
            self.undo.push(Undo { key, before: Some(before) });
            return;
        }
        let key = records.insert(Record { path: path.into(), hash, zxid: self.zxid, node });
        self.by_path.insert_unique(hash, key, |key| records[*key].hash);
        self.undo.push(Undo { key, before: None });
    }

    /// The write being prepared creates an ephemeral of this session.
    pub fn add_ephemeral(&mut self, session: SessionId, path: &str) {
        self.ephemeral_creates.push_back((self.zxid, session, path.into()));
    }

    /// Paths of a session's ephemerals after all writes in flight, in the order of their creation.
    pub fn ephemerals(&self, tree: &DataTree, session: SessionId) -> Vec<String> {
        let stored = tree.ephemerals(session).map(|id| tree.path(id));
        let created = self.ephemeral_creates.iter().filter(|(_, owner, _)| *owner == session);
        let mut paths: Vec<String> = stored.chain(created.map(|(.., path)| path.to_string())).collect();
        // Created, deleted and created again: listed once. Taken over by another session in between: not ours any more.
        let mut seen = hashbrown::HashSet::with_hasher(self.hasher.clone());
        paths.retain(|path| {
            self.node(tree, path).is_some_and(|node| node.stat.ephemeral_owner == session.0)
                && seen.insert(path.clone())
        });
        paths
    }

    fn record(&self, path: &str) -> Option<&Record> {
        if self.records.is_empty() {
            return None;
        }
        let hash = self.hasher.hash_one(path);
        let key = self.by_path.find(hash, |key| self.records[*key].path == path)?;
        Some(&self.records[*key])
    }

    fn forget(&mut self, key: usize) {
        let record = self.records.remove(key);
        match self.by_path.find_entry(record.hash, |other| *other == key) {
            Ok(entry) => drop(entry.remove()),
            Err(_) => unreachable!("record {key} of {} was never filed", record.path),
        }
    }
}

/// Records a write touched; a path touched twice stands twice.
pub type Touched = smallvec::SmallVec<[u32; 4]>;
