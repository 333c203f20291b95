//! Who has moved is not overtaken by what it left behind: once a write came in on a session's new connection, none that was sent
//! on an older one takes effect any more.
//!
//! Where that is certain: the new connection is to the leader itself, which has known since then that the session belongs there,
//! and the older ones had all been let in before. A request to be let in that is still on its way may move the session back, and
//! so does the end of the server it had moved to. Where sessions may be those of one server, a leader does not know of another's that
//! has ended whether it ever was everybody's (in Java, too): then what an older connection left behind may pass for such a session's write. Java: `SessionTracker.checkSession`, SESSIONMOVED. Spec: semantics 11.4.

use super::Property;
use super::truth::{Committed, Map, Truth};
use crate::core::{RoleView, ServerId, Zxid};
use crate::sim::event::{Event, Moment};
use crate::sim::history::{ClientEvent, Link};

/// A session as its client sees it.
#[derive(Debug)]
struct Session {
    /// Its newest connection, and where that leads.
    link: Link,
    server: ServerId,
    let_in: bool,
    /// An older one may yet be let in.
    in_doubt: bool,
    /// The last write of the newest connection.
    written: Option<Zxid>,
}

#[derive(Debug, Default)]
pub struct SessionMoves {
    sessions: Map<i64, Session>,
    servers: Map<Link, ServerId>,
    sent_on: Map<(i64, i32), Link>,
    leaders: Map<u32, ServerId>,
    local_sessions: bool,
}

impl SessionMoves {
    fn begin(&mut self, id: i64, link: Link, server: ServerId, let_in: bool) {
        let before = self.sessions.get(&id);
        let in_doubt = before.is_some_and(|before| before.in_doubt || !before.let_in);
        self.sessions.insert(id, Session { link, server, let_in, in_doubt, written: None });
    }

    fn on_committed(&mut self, committed: &Committed, truth: &Truth) -> Result<(), String> {
        let (zxid, id, cxid) = (committed.zxid, committed.session, committed.cxid);
        let Some(link) = self.sent_on.remove(&(id, cxid)) else { return Ok(()) };
        // A refusal is a transaction, too, and changes nothing.
        let takes_effect = !committed.changes.is_empty();
        let Some(session) = self.sessions.get_mut(&id).filter(|_| takes_effect) else { return Ok(()) };
        if link == session.link {
            session.written = Some(zxid);
            return Ok(());
        }
        let has_ended = truth.session(id).is_some_and(|life| life.closed.is_some());
        match session.written {
            _ if has_ended && self.local_sessions && (id >> 56) as u8 != session.server.0 as u8 => Ok(()),
            Some(before)
                if !session.in_doubt
                    && before.epoch() == zxid.epoch()
                    && self.leaders.get(&zxid.epoch()) == Some(&session.server) =>
            {
                Err(format!(
                    "{zxid} is request {cxid} of session {id:#x}, which had moved to the leader before {before}"
                ))
            }
            _ => Ok(()),
        }
    }
}

impl Property for SessionMoves {
    fn name(&self) -> &'static str {
        "session_moves"
    }

    fn observe(&mut self, _at: Moment, event: &Event, truth: &Truth) -> Result<(), String> {
        for committed in truth.committed_now() {
            self.on_committed(committed, truth)?;
        }
        match event {
            Event::LocalSessions { .. } => self.local_sessions = true,
            Event::Role { server, role: RoleView::Leading { epoch, serving: true } } => {
                self.leaders.insert(*epoch, *server);
            }
            Event::Client(ClientEvent::Connecting { link, server, resumes, .. }) => {
                self.servers.insert(*link, *server);
                if let Some(id) = resumes {
                    self.begin(*id, *link, *server, false);
                }
            }
            Event::Client(ClientEvent::Welcomed { link, session: id, .. }) => {
                let server = self.servers.remove(link);
                match self.sessions.get_mut(id) {
                    Some(session) => session.let_in |= session.link == *link,
                    None => self.begin(*id, *link, server.expect("it has connected"), true),
                }
            }
            Event::Client(ClientEvent::Sent(asked)) if asked.op.is_write() => {
                self.sent_on.insert((asked.session, asked.xid), asked.link);
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::sim::history::{Mode, Op};
    use crate::wire::txn::Txn;

    const MOVED: Link = Link { client: 0, number: 2 };

    /// A session whose client has written on its first connection and moves to `server`.
    fn moved(server: i64, let_in: bool) -> Story<SessionMoves> {
        let mut story = Story::<SessionMoves>::begun();
        story.connected(LINK, SESSION);
        story.good(sent(&write(LINK, 1)));
        if !let_in {
            story.good(client(ClientEvent::Connecting {
                link: Link { number: 9, ..LINK },
                server: ServerId(2),
                resumes: Some(SESSION),
                seen: 0,
            }));
        }
        story.good(client(ClientEvent::Connecting {
            link: MOVED,
            server: ServerId(server),
            resumes: Some(SESSION),
            seen: 0,
        }));
        story.good(client(ClientEvent::Welcomed { link: MOVED, session: SESSION, timeout_ms: 4000 }));
        story.good(sent(&write(MOVED, 2)));
        story
    }

    fn write(link: Link, xid: i32) -> std::rc::Rc<crate::sim::history::Asked> {
        asked(link, xid, Op::Create { path: "/a".into(), value: 1, mode: Mode::Persistent, stat: false })
    }

    fn done(story: &mut Story<SessionMoves>, xid: i32) -> Result<(), String> {
        let at = Zxid(story.truth.last().0 + 1);
        story.event_commit(at, &create(at, xid, &format!("/{xid}"), 1))
    }

    #[test]
    fn what_was_sent_before_may_come_before() {
        let mut story = moved(1, true);
        done(&mut story, 1).unwrap();
        done(&mut story, 2).unwrap();
    }

    #[test]
    fn what_was_left_behind_and_overtakes_is_seen() {
        let mut story = moved(1, true);
        done(&mut story, 2).unwrap();
        assert!(done(&mut story, 1).unwrap_err().contains("had moved to the leader"));
    }

    #[test]
    fn a_session_that_has_ended_may_pass_for_one_of_another_server() {
        for local_sessions in [false, true] {
            let mut story = moved(1, true);
            if local_sessions {
                story.good(Event::LocalSessions { upgrading: true });
            }
            done(&mut story, 2).unwrap();
            let at = Zxid(story.truth.last().0 + 1);
            story.commit(at, &txn(at, SESSION, 3, &Txn::CloseSession { paths: Some(Vec::new()) }));
            assert_eq!(done(&mut story, 1).is_ok(), local_sessions);
        }
    }

    #[test]
    fn nothing_is_said_of_what_is_not_certain() {
        for (server, let_in) in [(2, true), (1, false)] {
            let mut story = moved(server, let_in);
            done(&mut story, 2).unwrap();
            done(&mut story, 1).unwrap();
        }
    }
}
