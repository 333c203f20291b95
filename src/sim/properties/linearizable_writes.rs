//! Writes are linearizable: each takes effect at one moment between its request and its answer, all in the order of their zxids.
//!
//! The zxids are that order already, so nothing has to be searched for:
//! * each committed transaction of a client is what its request must come to on the tree right before it, conditions of a write
//!   included (`request_rules`), and happens once, however its answer fared;
//! * an answer is the answer of that very transaction, byte for byte;
//! * real time: a write sent after another was acknowledged, to anybody, has a higher zxid.
//!
//! A write without an answer may have happened or not, now or later: all that is asked of it is the first point.
//!
//! While a server's log is short of room it refuses writes, SYSTEMERROR: its own clients' without a transaction, and as the leader
//! those of learners' clients by one, because nothing else reaches them. A learner that logs such a transaction knows how its
//! leader is, and refuses writes itself for a tick. Nobody else is refused so.

use std::rc::Rc;

use super::Property;
use super::truth::{Committed, Map, Server, Truth};
use crate::core::{LogRoom, ServerId, Zxid};
use crate::sim::event::{Event, Moment};
use crate::sim::history::{Answered, Asked, ClientEvent, Link, Op};
use crate::sim::plan::TICK_MS_END;
use crate::wire::ErrorCode;
use crate::wire::client::OpCode;
use crate::wire::txn::{Txn, decode_header};

/// A tick of a server whose clock is slow.
const REFUSES_FOR_US: u64 = TICK_MS_END * 1200;

#[derive(Debug)]
struct Waiting {
    asked: Rc<Asked>,
    sent_us: u64,
    /// The highest zxid that any client had in an answer when this was sent.
    after: Zxid,
}

/// When a server's log was last short of room: `u64::MAX` while it is.
#[derive(Debug, Default)]
struct Shortage(Map<ServerId, u64>);

impl Shortage {
    fn note(&mut self, us: u64, server: ServerId, room: LogRoom) {
        self.0.insert(server, if room == LogRoom::Ample { us } else { u64::MAX });
    }

    /// Whether it was at this moment or later.
    fn since(&self, us: u64, server: ServerId) -> bool {
        self.0.get(&server).is_some_and(|until_us| *until_us >= us)
    }
}

#[derive(Debug, Default)]
pub struct LinearizableWrites {
    /// Sent, not committed, not refused without a transaction.
    waiting: Map<(i64, i32), Waiting>,
    acknowledged: Zxid,
    shortage: Shortage,
    /// Proposed by a leader that was short of room: refusals. A zxid has one proposer.
    refused: Map<Zxid, ()>,
    /// When a learner logged one of those last.
    knows: Map<ServerId, u64>,
    servers: Map<Link, ServerId>,
    /// There are sessions of one server alone, and whether they may become everybody's.
    local_sessions: Option<bool>,
}

impl LinearizableWrites {
    /// What a server may say to a write of its own accord, without a transaction: then it must never happen.
    fn may_refuse(&self, err: i32, link: Link, sent_us: u64) -> bool {
        if err == ErrorCode::SystemError.number() {
            let Some(server) = self.servers.get(&link) else { return false };
            let knows = self.knows.get(server).is_some_and(|us| us + REFUSES_FOR_US >= sent_us);
            return knows || self.shortage.since(sent_us, *server);
        }
        [ErrorCode::SessionExpired, ErrorCode::NotReadOnly].iter().any(|code| code.number() == err)
    }

    fn on_committed(&mut self, committed: &Committed, truth: &Truth) -> Result<(), String> {
        if committed.cxid == 0 || matches!(committed.decoded(), Txn::CreateSession { .. }) {
            return Ok(());
        }
        let (zxid, session, cxid) = (committed.zxid, committed.session, committed.cxid);
        let Some(Waiting { asked, after, .. }) = self.waiting.remove(&(session, cxid)) else {
            return Err(format!(
                "{zxid} is request {cxid} of session {session:#x}: never asked, refused, or done already"
            ));
        };
        if zxid <= after {
            return Err(format!("{zxid} was asked for after {after} was acknowledged: {:?}", asked.op));
        }
        let lacks_room = self.refused.contains_key(&zxid);
        super::request_rules::judge(&asked.op, committed, truth, lacks_room).map_err(|why| format!("{zxid}: {why}"))
    }

    fn on_answered(&mut self, answered: &Answered, truth: &Truth) -> Result<(), String> {
        let Asked { link, session, xid, op } = &*answered.asked;
        let zxid = Zxid(answered.zxid.max(0) as u64);
        let own = truth.get(zxid).filter(|committed| (committed.session, committed.cxid) == (*session, *xid));
        let Some(own) = own else {
            // Not a transaction: the end of a session that none began, and an ephemeral for it.
            let is_local = self.local_sessions.is_some() && truth.session(*session).is_none();
            if is_local && matches!(op, Op::Close) && answered.err == 0 {
                return Ok(());
            }
            let err = answered.err;
            let waiting = self.waiting.get(&(*session, *xid));
            let is_local = is_local && self.local_sessions == Some(false);
            let refused = is_local && err == ErrorCode::EphemeralOnLocalSession.number() && makes_ephemerals(op);
            let refused = refused || waiting.is_some_and(|waiting| self.may_refuse(err, *link, waiting.sent_us));
            return match refused {
                true => {
                    self.waiting.remove(&(*session, *xid));
                    Ok(())
                }
                false => {
                    Err(format!("request {xid} of {session:#x} is answered {err} with {zxid}, not its own: {op:?}"))
                }
            };
        };
        if (answered.err, &*answered.body) != (own.err, &*own.answer) {
            let (err, due) = (answered.err, own.err);
            let shown = answered.response();
            return Err(format!("{zxid} is answered {err}, {shown:?}; {due} was due, and another body: {op:?}"));
        }
        self.acknowledged = self.acknowledged.max(zxid);
        Ok(())
    }
}

impl Property for LinearizableWrites {
    fn name(&self) -> &'static str {
        "linearizable_writes"
    }

    fn observe(&mut self, at: Moment, event: &Event, truth: &Truth) -> Result<(), String> {
        for committed in truth.committed_now() {
            self.on_committed(committed, truth)?;
        }
        match event {
            Event::LocalSessions { upgrading } => self.local_sessions = Some(*upgrading),
            Event::Room { server, room } => self.shortage.note(at.us, *server, *room),
            Event::Logged { server, zxid, txn } => {
                let is_leader = truth.server(*server).is_some_and(Server::is_leading);
                let is_error = decode_header(txn).is_ok_and(|(_, kind)| kind == OpCode::Error.number());
                // What is logged in the very moment in which there is room again may have been refused before.
                if is_leader && is_error && self.shortage.since(at.us, *server) {
                    self.refused.insert(*zxid, ());
                } else if self.refused.contains_key(zxid) {
                    self.knows.insert(*server, at.us);
                }
            }
            Event::Crashed { server, .. } | Event::Reloaded { server, .. } => {
                self.shortage.note(at.us, *server, LogRoom::Ample);
            }
            Event::Client(ClientEvent::Connecting { link, server, .. }) => {
                self.servers.insert(*link, *server);
            }
            Event::Client(ClientEvent::Lost { link }) => {
                self.servers.remove(link);
            }
            Event::Client(ClientEvent::Sent(asked)) if asked.op.is_write() => {
                let waiting = Waiting { asked: asked.clone(), sent_us: at.us, after: self.acknowledged };
                self.waiting.insert((asked.session, asked.xid), waiting);
            }
            Event::Client(ClientEvent::Answered(answered)) if answered.asked.op.is_write() => {
                self.on_answered(answered, truth)?;
            }
            _ => {}
        }
        Ok(())
    }
}

fn makes_ephemerals(op: &Op) -> bool {
    match op {
        Op::Create { mode, .. } => mode.is_ephemeral(),
        Op::Multi(ops) => ops.iter().any(makes_ephemerals),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::sim::history::Mode;
    use crate::wire::jute::put_string;

    fn creates(xid: i32, path: &str, value: u64) -> Rc<Asked> {
        asked(LINK, xid, Op::Create { path: path.into(), value, mode: Mode::Persistent, stat: false })
    }

    fn sets(xid: i32, path: &str, value: u64, version: i32) -> Rc<Asked> {
        asked(LINK, xid, Op::Set { path: path.into(), value, version })
    }

    fn path_body(path: &str) -> Vec<u8> {
        let mut body = Vec::new();
        put_string(&mut body, path);
        body
    }

    /// /a was asked for and is there since (1, 1).
    fn with_a() -> Story<LinearizableWrites> {
        let mut story = Story::begun();
        let ask = creates(1, "/a", 7);
        story.good(sent(&ask));
        story.commit(zxid(1, 1), &create(zxid(1, 1), 1, "/a", 7));
        story.good(answered(&ask, zxid(1, 1), 0, &path_body("/a")));
        story
    }

    #[test]
    fn conditions_that_hold_and_do_not_are_told_apart() {
        let mut story = with_a();
        let (good, stale) = (sets(2, "/a", 8, 0), sets(3, "/a", 9, 0));
        story.good(sent(&good));
        story.good(sent(&stale));
        story.commit(zxid(1, 2), &set(zxid(1, 2), 2, "/a", 8, 1));
        let refusal = Txn::Error { code: ErrorCode::BadVersion.number() };
        story.commit(zxid(1, 3), &txn(zxid(1, 3), SESSION, 3, &refusal));
        story.good(answered(&stale, zxid(1, 3), ErrorCode::BadVersion.number(), b""));
    }

    #[test]
    fn a_stale_condition_that_succeeds_is_seen() {
        let mut story = with_a();
        story.good(sent(&sets(2, "/a", 9, 4)));
        let why = story.event_commit(zxid(1, 2), &set(zxid(1, 2), 2, "/a", 9, 5)).expect_err("version 4 was never");
        assert!(why.contains("was due BADVERSION"), "{why}");
    }

    #[test]
    fn a_create_over_a_node_is_seen() {
        let mut story = with_a();
        story.good(sent(&creates(2, "/a", 8)));
        let why = story.event_commit(zxid(1, 2), &create(zxid(1, 2), 2, "/a", 8)).expect_err("it is there");
        assert!(why.contains("was due NODEEXISTS"), "{why}");
    }

    #[test]
    fn a_refusal_without_a_reason_is_seen() {
        let mut story = with_a();
        story.good(sent(&creates(2, "/b", 8)));
        let refusal = Txn::Error { code: ErrorCode::NoNode.number() };
        let why = story.event_commit(zxid(1, 2), &txn(zxid(1, 2), SESSION, 2, &refusal)).expect_err("nothing wrong");
        assert!(why.contains("had to succeed"), "{why}");
    }

    #[test]
    fn half_a_multi_is_seen() {
        let mut story = with_a();
        let items = vec![
            Op::Set { path: "/a".into(), value: 8, version: 0 },
            Op::Check { path: "/a".into(), version: 0 }, // the first item made it 1
        ];
        story.good(sent(&asked(LINK, 2, Op::Multi(items))));
        let (data, path) = (crate::sim::history::data_of(8), "/a");
        let done = Txn::SetData { path: path.into(), data: Some(&data), version: 1 };
        let checked = Txn::Check { path: path.into(), version: 1 };
        let became = txn(zxid(1, 2), SESSION, 2, &Txn::Multi(vec![done, checked]));
        let why = story.event_commit(zxid(1, 2), &became).expect_err("the check must fail");
        assert!(why.contains("was due BADVERSION"), "{why}");
    }

    #[test]
    fn a_request_done_twice_is_seen() {
        let mut story = with_a();
        let why = story.event_commit(zxid(1, 2), &create(zxid(1, 2), 1, "/b", 7)).expect_err("again");
        assert!(why.contains("done already"), "{why}");
    }

    #[test]
    fn a_write_that_was_refused_and_happens_is_seen() {
        let mut story = with_a();
        let ask = creates(2, "/b", 8);
        story.good(sent(&ask));
        story.good(answered(&ask, zxid(1, 1), ErrorCode::SessionExpired.number(), b""));
        let why = story.event_commit(zxid(1, 2), &create(zxid(1, 2), 2, "/b", 8)).expect_err("refused");
        assert!(why.contains("refused"), "{why}");
    }

    fn room(id: i64, room: LogRoom) -> Event {
        Event::Room { server: server(id), room }
    }

    fn no_room(at: Zxid, cxid: i32) -> bytes::Bytes {
        txn(at, SESSION, cxid, &Txn::Error { code: ErrorCode::SystemError.number() })
    }

    #[test]
    fn a_server_short_of_room_refuses_its_clients_and_no_other_does() {
        let refusal = ErrorCode::SystemError.number();
        let mut story = with_a();
        story.good(connecting(LINK, None, 0));
        let ask = creates(2, "/b", 8);
        story.good(sent(&ask));
        story.good(room(1, LogRoom::Low));
        story.good(room(1, LogRoom::Ample));
        story.good(answered(&ask, zxid(1, 1), refusal, b""));
        let ask = creates(3, "/b", 8);
        story.good(sent(&ask));
        story.good(room(2, LogRoom::Low));
        story.bad(answered(&ask, zxid(1, 1), refusal, b""), "not its own");
    }

    #[test]
    fn a_learner_refuses_for_its_leader_after_it_saw_that_do_so() {
        let refusal = ErrorCode::SystemError.number();
        for shown in [false, true] {
            let mut story = with_a();
            story.good(Event::Client(ClientEvent::Connecting {
                link: LINK,
                server: server(2),
                resumes: None,
                seen: 0,
            }));
            story.good(sent(&creates(2, "/b", 8)));
            story.good(room(1, LogRoom::Low));
            story.good(logged(1, zxid(1, 2), &no_room(zxid(1, 2), 2)));
            if shown {
                story.good(logged(2, zxid(1, 2), &no_room(zxid(1, 2), 2)));
            }
            let ask = creates(3, "/b", 8);
            story.good(sent(&ask));
            match shown {
                true => story.good(answered(&ask, zxid(1, 1), refusal, b"")),
                false => story.bad(answered(&ask, zxid(1, 1), refusal, b""), "not its own"),
            }
        }
    }

    #[test]
    fn a_leader_refuses_by_a_transaction_while_it_is_short_of_room_and_at_no_other_time() {
        let mut story = with_a();
        story.good(sent(&creates(2, "/b", 8)));
        story.good(room(1, LogRoom::Low));
        story.commit(zxid(1, 2), &no_room(zxid(1, 2), 2));
        story.good(room(1, LogRoom::Ample));
        story.good(sent(&creates(3, "/b", 8)));
        story.good(room(2, LogRoom::Low)); // it follows
        let why = story.event_commit(zxid(1, 3), &no_room(zxid(1, 3), 3)).expect_err("there is room");
        assert!(why.contains("had to succeed"), "{why}");
    }

    #[test]
    fn an_answer_that_belongs_to_another_or_says_something_else_is_seen() {
        let mut story = with_a();
        let ask = creates(2, "/b", 8);
        story.good(sent(&ask));
        story.bad(answered(&ask, zxid(1, 1), 0, &path_body("/b")), "not its own");
        story.commit(zxid(1, 2), &create(zxid(1, 2), 2, "/b", 8));
        story.bad(answered(&ask, zxid(1, 2), 0, &path_body("/c")), "another body");
        story.bad(answered(&ask, zxid(1, 2), ErrorCode::NodeExists.number(), b""), "0 was due");
    }

    #[test]
    fn a_write_that_went_before_one_acknowledged_earlier_is_seen() {
        let mut story = Story::<LinearizableWrites>::begun();
        let (first, second) = (creates(1, "/a", 7), creates(2, "/b", 8));
        story.good(sent(&first));
        story.commit(zxid(1, 2), &create(zxid(1, 2), 1, "/a", 7));
        story.good(answered(&first, zxid(1, 2), 0, &path_body("/a")));
        story.good(sent(&second));
        // As if (1, 2) had been told of before its time.
        story.property.acknowledged = zxid(1, 9);
        story.good(sent(&second));
        let why = story.event_commit(zxid(1, 3), &create(zxid(1, 3), 2, "/b", 8)).expect_err("too early");
        assert!(why.contains("after 0x100000009 was acknowledged"), "{why}");
    }
}
