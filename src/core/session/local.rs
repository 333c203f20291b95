//! Sessions of this server alone (`localSessionsEnabled`): no transaction makes them, nobody else knows them, and this server ends
//! them. One that makes its first ephemeral becomes everybody's, by a `createSession` with the same id; until that is applied it
//! is here, and no longer local.
//!
//! They outlive a change of roles, as their clients' connections do not: who is back in time has its session. (Java forgets them.)
//! Spec: semantics 11.5, quorum-protocol 12.5. Java: `LocalSessionTracker`, `UpgradeableSessionTracker`.

use std::collections::BTreeSet;

use super::table::{Session, SessionTable};
use crate::core::types::SessionId;

#[derive(Debug)]
pub struct LocalSessions {
    table: SessionTable,
    /// Their `createSession` is on its way.
    upgrading: BTreeSet<SessionId>,
}

impl LocalSessions {
    pub fn new(tick_ms: u32) -> LocalSessions {
        LocalSessions { table: SessionTable::new(tick_ms), upgrading: BTreeSet::new() }
    }

    pub fn has(&self, id: SessionId) -> bool {
        !self.table.is_empty() && self.table.get(id).is_some()
    }

    /// Known here alone, and not on its way to become everybody's.
    pub fn is_local(&self, id: SessionId) -> bool {
        self.has(id) && !self.upgrading.contains(&id)
    }

    pub fn iter(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.table.iter()
    }

    pub fn count(&self) -> usize {
        self.table.len()
    }

    /// For what all sessions have in common.
    pub fn table(&mut self) -> &mut SessionTable {
        &mut self.table
    }

    pub fn get(&self, id: SessionId) -> Option<&Session> {
        self.table.get(id)
    }

    /// It has to become everybody's: the timeout it has, if that was not asked for before.
    pub fn begin_upgrade(&mut self, id: SessionId) -> Option<i32> {
        let timeout_ms = self.table.get(id)?.timeout_ms;
        self.upgrading.insert(id).then_some(timeout_ms)
    }

    pub fn remove(&mut self, id: SessionId) -> Option<Session> {
        self.upgrading.remove(&id);
        self.table.remove(id)
    }

    /// A role begins to serve: those that are everybody's by now are not here any more, the others have their whole timeout.
    pub fn begin_service(&mut self, global: &SessionTable, now_us: u64) {
        let upgraded: Vec<SessionId> =
            self.table.iter().map(|(id, _)| id).filter(|id| global.get(*id).is_some()).collect();
        for id in upgraded {
            self.remove(id);
        }
        self.table.restart(now_us);
    }

    /// What was on its way to a leader may not arrive any more: asking again does no harm.
    pub fn role_over(&mut self) {
        self.upgrading.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_asks_once_to_become_everybodys() {
        let mut local = LocalSessions::new(1000);
        let id = SessionId(7);
        assert_eq!(local.begin_upgrade(id), None, "it is not here");
        local.table().create(id, 4000, 0);
        assert!(local.is_local(id));
        assert_eq!(local.begin_upgrade(id), Some(4000));
        assert_eq!(local.begin_upgrade(id), None);
        assert!(local.has(id) && !local.is_local(id));
        local.role_over();
        assert!(local.is_local(id));
        assert_eq!(local.begin_upgrade(id), Some(4000));
        assert!(local.remove(id).is_some() && !local.has(id) && local.count() == 0);
    }
}
