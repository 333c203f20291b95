//! Who owns what: the owner field of the few nodes that have one, and lists of those nodes.
//!
//! Ordinary ephemerals hang in one list per session, container nodes in one, TTL nodes in another, each in the order of
//! creation. Nodes without an owner cost nothing here. Java: `DataTree.ephemerals`, `containers`, `ttls`.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::node::{NodeId, OwnerKind};
use super::table::{HashIndex, NIL, Paged};
use crate::core::types::SessionId;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Group {
    Session(i64),
    Containers,
    Ttls,
}

#[derive(Debug)]
struct Owned {
    id: NodeId,
    owner: i64,
    group: Group,
    /// Places in the table of owned nodes.
    next: u32,
    prev: u32,
}

#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
}

#[derive(Debug, Default)]
pub(super) struct Owners {
    owned: Paged<Owned>,
    index: HashIndex,
    lists: HashMap<Group, List, FixedState>,
    ephemerals: u64,
}

impl Owners {
    /// Ordinary ephemerals of all sessions.
    pub fn ephemerals_count(&self) -> u64 {
        self.ephemerals
    }

    /// The stored field; 0 for a node that was not inserted.
    pub fn get(&self, id: NodeId) -> i64 {
        self.find(id).map_or(0, |at| self.owned[at].owner)
    }

    pub fn insert(&mut self, id: NodeId, owner: i64, kind: OwnerKind) {
        let group = match kind {
            OwnerKind::Persistent => return,
            OwnerKind::Ephemeral => Group::Session(owner),
            OwnerKind::Container => Group::Containers,
            OwnerKind::Ttl { .. } => Group::Ttls,
        };
        assert!(self.find(id).is_none(), "{id:?} has two owners");
        self.ephemerals += u64::from(kind == OwnerKind::Ephemeral);
        let prev = self.lists.get(&group).map_or(NIL, |list| list.last);
        let at = self.owned.insert(Owned { id, owner, group, next: NIL, prev });
        self.index.insert(hash(id), at);
        if prev != NIL {
            self.owned[prev].next = at;
        }
        self.lists.entry(group).or_insert(List { first: at, last: at }).last = at;
    }

    /// Forgets the node, if it has an owner.
    pub fn remove(&mut self, id: NodeId) {
        let Some(at) = self.find(id) else { return };
        let Owned { group, next, prev, .. } = self.owned.remove(at);
        self.index.remove(hash(id), at);
        self.ephemerals -= u64::from(matches!(group, Group::Session(_)));
        if prev == NIL && next == NIL {
            self.lists.remove(&group);
            return;
        }
        let list = self.lists.get_mut(&group).expect("an owned node is in a list");
        match prev {
            NIL => list.first = next,
            _ => self.owned[prev].next = next,
        }
        match next {
            NIL => list.last = prev,
            _ => self.owned[next].prev = prev,
        }
    }

    pub fn of_session(&self, session: SessionId) -> impl Iterator<Item = NodeId> {
        self.list(Group::Session(session.0))
    }

    pub fn containers(&self) -> impl Iterator<Item = NodeId> {
        self.list(Group::Containers)
    }

    pub fn ttls(&self) -> impl Iterator<Item = NodeId> {
        self.list(Group::Ttls)
    }

    pub fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.lists.keys().filter_map(|group| match group {
            Group::Session(session) => Some(SessionId(*session)),
            Group::Containers | Group::Ttls => None,
        })
    }

    fn find(&self, id: NodeId) -> Option<u32> {
        self.index.find(hash(id), |at| self.owned[at].id == id)
    }

    fn list(&self, group: Group) -> impl Iterator<Item = NodeId> {
        let first = self.lists.get(&group).map(|list| list.first);
        let next = |at: &u32| Some(self.owned[*at].next).filter(|next| *next != NIL);
        std::iter::successors(first, next).map(|at| self.owned[at].id)
    }
}

fn hash(id: NodeId) -> u64 {
    FixedState::default().hash_one(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_keep_creation_order_through_removals() {
        let mut owners = Owners::default();
        for (id, session) in [(1, 70), (2, 70), (3, 90), (4, 70), (5, 70)] {
            owners.insert(NodeId(id), session, OwnerKind::Ephemeral);
        }
        owners.insert(NodeId(6), i64::MIN, OwnerKind::Container);
        owners.insert(NodeId(7), -1, OwnerKind::Ttl { ttl_ms: 5 });
        owners.insert(NodeId(8), 0, OwnerKind::Persistent);
        let of = |owners: &Owners, session| owners.of_session(SessionId(session)).map(|id| id.0).collect::<Vec<_>>();
        assert_eq!((of(&owners, 70), of(&owners, 90), of(&owners, 1)), (vec![1, 2, 4, 5], vec![3], vec![]));
        owners.remove(NodeId(1));
        owners.remove(NodeId(4));
        owners.remove(NodeId(5));
        owners.insert(NodeId(9), 70, OwnerKind::Ephemeral);
        assert_eq!(of(&owners, 70), [2, 9]);
        owners.remove(NodeId(3));
        owners.remove(NodeId(3));
        assert_eq!((of(&owners, 90), owners.ephemerals_count(), owners.sessions().count()), (vec![], 2, 1));
        assert_eq!(owners.containers().chain(owners.ttls()).map(|id| id.0).collect::<Vec<_>>(), [6, 7]);
        assert_eq!((owners.get(NodeId(6)), owners.get(NodeId(7)), owners.get(NodeId(8))), (i64::MIN, -1, 0));
    }
}
