//! From what a disk had to a state one can serve: the newest snapshot, then every transaction behind it. The snapshot is not
//! read for that (`tree/load.rs`).
//! Java: `FileTxnSnapLog.restore`, `ZKDatabase.loadDataBase`. Spec: semantics 17.

use std::collections::BTreeMap;

use ringkeeper_storage::SnapshotSource;

use super::tree::{DataTree, LoadError, TreeOptions, Unwatched};
use super::types::{SessionId, Zxid};
use super::zab::membership::Membership;
use crate::wire::jute::DecodeError;
use crate::wire::txn::{DIGEST_VERSION, Txn, decode_txn};

/// The state so far, on which committed transactions are applied in order.
#[derive(Debug)]
pub struct Replay {
    tree: DataTree,
    sessions: BTreeMap<SessionId, i32>,
    mismatches: Vec<Zxid>,
}

/// A transaction's own digest against the tree's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestCheck {
    /// It has none, or one that cannot be compared.
    Untold,
    Same,
    Different,
}

/// What a node starts from.
#[derive(Debug)]
pub struct Recovered {
    pub tree: DataTree,
    /// Open sessions and their timeouts in milliseconds.
    pub sessions: Vec<(SessionId, i32)>,
    /// Transactions after which the tree did not have the digest their leader foresaw. Java goes on too, with an alarm.
    pub mismatches: Vec<Zxid>,
}

impl Replay {
    /// A server without a snapshot begins with a fresh tree.
    pub fn empty(options: TreeOptions) -> Replay {
        Replay { tree: DataTree::new(options), sessions: BTreeMap::new(), mismatches: Vec::new() }
    }

    /// The same for a member, whose tree tells from the first moment which configuration it goes by: usage counts it.
    /// Java: `QuorumPeerMain`, `ZKDatabase.initConfigInZKDatabase`.
    pub fn empty_member(options: TreeOptions, committed: &Membership, wall_ms: i64) -> Replay {
        let mut replay = Replay::empty(options);
        replay.tree.set_config_node(&committed.to_text(), committed.version, wall_ms);
        replay
    }

    /// Begins with a snapshot, of which only what the transactions touch is read.
    pub fn from_snapshot(source: Box<dyn SnapshotSource>, options: TreeOptions) -> Result<Replay, LoadError> {
        let sessions = source.header().sessions.iter();
        let sessions = sessions.map(|(id, timeout_ms)| (SessionId(*id), *timeout_ms)).collect();
        Ok(Replay { tree: DataTree::load(source, options)?, sessions, mismatches: Vec::new() })
    }

    /// A tree that came from elsewhere, with its sessions.
    pub fn resume(tree: DataTree, sessions: impl IntoIterator<Item = (SessionId, i32)>) -> Replay {
        Replay { tree, sessions: sessions.into_iter().collect(), mismatches: Vec::new() }
    }

    pub fn tree(&self) -> &DataTree {
        &self.tree
    }

    /// For tools: everything of the snapshot into memory at once, and compared with what its head says.
    pub fn move_all(&mut self) -> Result<(), LoadError> {
        const SLICE_BYTES: usize = 1 << 20;
        while self.tree.is_moving() {
            if let Some(contradiction) = self.tree.move_some(SLICE_BYTES).and_then(|moved| moved.contradiction) {
                return Err(contradiction);
            }
        }
        Ok(())
    }

    /// Open sessions and their timeouts in milliseconds.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, i32)> {
        self.sessions.iter().map(|(id, timeout_ms)| (*id, *timeout_ms))
    }

    /// Applies one transaction of the log. Says whether the tree then has the digest its leader foresaw.
    pub fn apply(&mut self, bytes: &[u8]) -> Result<DigestCheck, DecodeError> {
        let (header, txn, digest) = decode_txn(bytes)?;
        self.tree.apply(&header, &txn, &mut Unwatched);
        match txn {
            Txn::CreateSession { timeout_ms } => {
                self.sessions.insert(SessionId(header.client_id), timeout_ms);
            }
            Txn::CloseSession { .. } => {
                self.sessions.remove(&SessionId(header.client_id));
            }
            _ => {}
        }
        let Some(digest) = digest.filter(|digest| digest.version == DIGEST_VERSION) else {
            return Ok(DigestCheck::Untold);
        };
        if digest.tree_digest == self.tree.digest() as i64 {
            return Ok(DigestCheck::Same);
        }
        self.mismatches.push(Zxid(header.zxid as u64));
        Ok(DigestCheck::Different)
    }

    pub fn finish(self) -> Recovered {
        let Replay { tree, sessions, mismatches } = self;
        Recovered { tree, sessions: sessions.into_iter().collect(), mismatches }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::tree::config_node::CONFIG_NODE;

    /// Usage that was counted with it is counted with it again, when the log is all there is.
    #[test]
    fn a_member_without_a_snapshot_begins_with_its_configuration() {
        let membership = Membership { version: 7, ..Membership::of(3, 0) };
        let replay = Replay::empty_member(TreeOptions::default(), &membership, 77);
        let tree = replay.tree();
        assert_eq!(tree.config_node(), Some((membership.to_text().as_bytes(), 7)));
        assert_eq!(tree.stat(tree.find(CONFIG_NODE).unwrap()).mtime, 77);
        assert_eq!(tree.digest(), Replay::empty(TreeOptions::default()).tree().digest());
    }
}
