//! Every open session: the replicated part (id and timeout) and this server's knowledge (deadline, connection).
//! Java: `SessionTrackerImpl`, `ZKDatabase.sessionsWithTimeouts`. Spec: semantics 11.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::expiry::{ExpiryBuckets, deadline_us};
use crate::core::types::{ConnectionId, LinkId, SessionId};

/// The door through which a session's requests have to come to the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The leader's own client port.
    Here,
    /// The server at the other end.
    Link(LinkId),
}

/// What a request says of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    Alive,
    /// Its client has been let in through another door since.
    Moved,
    Closing,
    Unknown,
}

#[derive(Debug)]
pub struct Session {
    /// As in the `createSession` transaction: what snapshots keep and a new leader starts from.
    pub table_timeout_ms: i32,
    /// As negotiated by the latest connect: what expiry uses.
    pub timeout_ms: i32,
    deadline_us: u64,
    /// The bucket it is looked at in next. Never later than the deadline.
    filed_us: u64,
    /// A `closeSession` is on its way; nothing more is accepted.
    pub closing: bool,
    /// Where its client is connected now.
    pub connection: Option<ConnectionId>,
    /// None: nobody has asked since this server leads. Without meaning on others.
    pub owner: Option<Owner>,
}

impl Session {
    pub fn deadline_us(&self) -> u64 {
        self.deadline_us
    }
}

#[derive(Debug)]
pub struct SessionTable {
    sessions: HashMap<SessionId, Session, FixedState>,
    buckets: ExpiryBuckets,
    tick_ms: u32,
}

impl SessionTable {
    pub fn new(tick_ms: u32) -> Self {
        SessionTable { sessions: HashMap::default(), buckets: ExpiryBuckets::default(), tick_ms }
    }

    /// A committed `createSession`, or one restored at start. An existing id has its timeout overwritten (semantics 11.1).
    pub fn create(&mut self, id: SessionId, timeout_ms: i32, now_us: u64) {
        let deadline_us = deadline_us(now_us, timeout_ms, self.tick_ms);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.table_timeout_ms = timeout_ms;
            return;
        }
        let session = Session {
            table_timeout_ms: timeout_ms,
            timeout_ms,
            deadline_us,
            filed_us: deadline_us,
            closing: false,
            connection: None,
            owner: None,
        };
        self.sessions.insert(id, session);
        self.buckets.file(id, deadline_us);
    }

    /// A committed `closeSession`. Gives back what was known of it.
    pub fn remove(&mut self, id: SessionId) -> Option<Session> {
        self.sessions.remove(&id)
    }

    pub fn get(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id)
    }

    pub fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.sessions.get_mut(&id)
    }

    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.sessions.iter().map(|(id, session)| (*id, session))
    }

    /// The client was heard of, at this server's own port.
    pub fn touch(&mut self, id: SessionId, now_us: u64) -> Heard {
        let Some(session) = self.sessions.get_mut(&id) else {
            return Heard::Unknown;
        };
        if session.closing {
            return Heard::Closing;
        }
        session.deadline_us = session.deadline_us.max(deadline_us(now_us, session.timeout_ms, self.tick_ms));
        match session.owner.get_or_insert(Owner::Here) {
            Owner::Here => Heard::Alive,
            Owner::Link(_) => Heard::Moved,
        }
    }

    /// A connect that resumes the session with a newly negotiated timeout. False when it is unknown or closing.
    pub fn resume(&mut self, id: SessionId, timeout_ms: i32, now_us: u64) -> bool {
        let Some(session) = self.sessions.get_mut(&id).filter(|session| !session.closing) else {
            return false;
        };
        session.timeout_ms = timeout_ms;
        let deadline = deadline_us(now_us, timeout_ms, self.tick_ms);
        // A shorter timeout moves the deadline forward: file it there, the old entry is found stale later.
        if deadline < session.filed_us {
            session.filed_us = deadline;
            self.buckets.file(id, deadline);
        }
        session.deadline_us = deadline;
        true
    }

    /// The next session whose deadline has passed, marked closing. It stays in the table until its `closeSession` commits.
    pub fn expire_next(&mut self, now_us: u64) -> Option<SessionId> {
        while let Some((filed_us, id)) = self.buckets.next_due(now_us) {
            let Some(session) = self.sessions.get_mut(&id) else {
                continue;
            };
            if session.closing || session.filed_us != filed_us {
                continue;
            }
            if session.deadline_us <= now_us {
                session.closing = true;
                return Some(id);
            }
            session.filed_us = session.deadline_us;
            self.buckets.file(id, session.deadline_us);
        }
        None
    }

    /// Where nobody expires: deadlines that pass are moved on, so that the buckets do not fill with what is long gone.
    pub fn let_pass(&mut self, now_us: u64) {
        while let Some((filed_us, id)) = self.buckets.next_due(now_us) {
            if let Some(session) = self.sessions.get_mut(&id).filter(|session| session.filed_us == filed_us) {
                session.deadline_us = session.deadline_us.max(deadline_us(now_us, session.timeout_ms, self.tick_ms));
                session.filed_us = session.deadline_us;
                self.buckets.file(id, session.deadline_us);
            }
        }
    }

    /// This owner is gone.
    pub fn forget_owner(&mut self, owner: Owner) {
        for session in self.sessions.values_mut().filter(|session| session.owner == Some(owner)) {
            session.owner = None;
        }
    }

    /// A server begins to lead: all deadlines start anew, each with its table timeout, so that no session ends because of an
    /// election; nobody owns a session, and none is closing, whatever an earlier leader had begun.
    pub fn restart(&mut self, now_us: u64) {
        self.buckets = ExpiryBuckets::default();
        for (id, session) in &mut self.sessions {
            session.closing = false;
            session.owner = None;
            session.timeout_ms = session.table_timeout_ms;
            session.deadline_us = deadline_us(now_us, session.timeout_ms, self.tick_ms);
            session.filed_us = session.deadline_us;
            self.buckets.file(*id, session.deadline_us);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_US: u64 = 1_000_000;
    const ONE: SessionId = SessionId(1);

    fn table() -> SessionTable {
        let mut table = SessionTable::new(1000);
        table.create(ONE, 4000, 0);
        table
    }

    fn expired(table: &mut SessionTable, now_us: u64) -> Vec<SessionId> {
        std::iter::from_fn(|| table.expire_next(now_us)).collect()
    }

    #[test]
    fn where_nobody_expires_the_buckets_stay_small() {
        let mut table = table();
        for second in 1..=100 {
            table.create(SessionId(second + 1), 4000, second as u64 * SECOND_US);
            table.remove(SessionId(second));
            table.let_pass(second as u64 * SECOND_US);
            assert!(table.buckets.entries() < 10, "{} entries for one session", table.buckets.entries());
        }
        assert_eq!(expired(&mut table, 104 * SECOND_US), []);
        assert_eq!(expired(&mut table, 105 * SECOND_US), [SessionId(101)]);
    }

    #[test]
    fn a_session_has_one_owner_until_somebody_leads_anew() {
        let mut table = table();
        assert_eq!(table.touch(ONE, 0), Heard::Alive);
        assert_eq!(table.get(ONE).unwrap().owner, Some(Owner::Here));
        let link = Owner::Link(LinkId(7));
        table.get_mut(ONE).unwrap().owner = Some(link);
        assert_eq!(table.touch(ONE, 0), Heard::Moved);
        table.forget_owner(Owner::Link(LinkId(8)));
        assert_eq!(table.touch(ONE, 0), Heard::Moved);
        table.forget_owner(link);
        assert_eq!(table.touch(ONE, 0), Heard::Alive);
        table.get_mut(ONE).unwrap().owner = Some(link);
        table.get_mut(ONE).unwrap().closing = true;
        table.restart(0);
        assert_eq!(table.touch(ONE, 0), Heard::Alive, "what another leader had begun is not known to be so");
    }

    #[test]
    fn a_silent_session_expires_once() {
        let mut table = table();
        assert!(expired(&mut table, 4 * SECOND_US).is_empty());
        assert_eq!(expired(&mut table, 5 * SECOND_US), [ONE]);
        assert!(expired(&mut table, 99 * SECOND_US).is_empty());
        assert!(table.get(ONE).unwrap().closing);
        assert_eq!(table.touch(ONE, 6 * SECOND_US), Heard::Closing, "closing sessions are not revived");
        assert!(!table.resume(ONE, 4000, 6 * SECOND_US));
    }

    #[test]
    fn a_touch_postpones_the_end() {
        let mut table = table();
        assert_eq!(table.touch(ONE, 4 * SECOND_US), Heard::Alive);
        assert!(expired(&mut table, 8 * SECOND_US).is_empty());
        assert_eq!(expired(&mut table, 9 * SECOND_US), [ONE]);
    }

    #[test]
    fn a_shorter_timeout_on_resume_counts_from_then_on() {
        let mut table = SessionTable::new(1000);
        table.create(ONE, 40_000, 0);
        assert!(table.resume(ONE, 4000, SECOND_US));
        assert!(expired(&mut table, 5 * SECOND_US).is_empty());
        assert_eq!(expired(&mut table, 6 * SECOND_US), [ONE]);
    }

    #[test]
    fn a_session_is_filed_once_however_often_its_timeout_changes() {
        let mut table = SessionTable::new(1000);
        table.create(ONE, 40_000, 0);
        for second in 1..=100 {
            table.resume(ONE, 40_000, second * SECOND_US);
            table.resume(ONE, 4000, second * SECOND_US);
            assert!(expired(&mut table, second * SECOND_US).is_empty());
            assert!(table.buckets.entries() < 50, "{} entries for one session", table.buckets.entries());
        }
        assert_eq!(expired(&mut table, 105 * SECOND_US), [ONE]);
        assert_eq!(table.buckets.entries(), 0);
    }

    #[test]
    fn the_table_timeout_survives_a_resume_and_comes_back_at_restart() {
        let mut table = table();
        table.resume(ONE, 10_000, 0);
        assert_eq!(table.get(ONE).unwrap().table_timeout_ms, 4000);
        table.restart(100 * SECOND_US);
        assert!(expired(&mut table, 104 * SECOND_US).is_empty());
        assert_eq!(expired(&mut table, 105 * SECOND_US), [ONE]);
    }
}
