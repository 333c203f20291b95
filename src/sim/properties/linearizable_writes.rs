//! Writes are linearizable: each takes effect at one moment between its request and its answer, all in the order of their zxids.
//!
//! The zxids are that order already, so nothing has to be searched for:
//! * each committed transaction of a client is what its request must come to on the tree right before it, conditions of a write
//!   included (`request_rules`), and happens once, however its answer fared;
//! * an answer is the answer of that very transaction, byte for byte;
//! * real time: a write sent after another was acknowledged, to anybody, has a higher zxid.
//!
//! A write without an answer may have happened or not, now or later: all that is asked of it is the first point.

use std::rc::Rc;

use super::Property;
use super::truth::{Committed, Map, Truth};
use crate::core::Zxid;
use crate::sim::event::{Event, Moment};
use crate::sim::history::{Answered, Asked, ClientEvent};
use crate::wire::ErrorCode;
use crate::wire::txn::Txn;

#[derive(Debug)]
struct Waiting {
    asked: Rc<Asked>,
    /// The highest zxid that any client had in an answer when this was sent.
    after: Zxid,
}

#[derive(Debug, Default)]
pub struct LinearizableWrites {
    /// Sent, not committed, not refused without a transaction.
    waiting: Map<(i64, i32), Waiting>,
    acknowledged: Zxid,
}

/// What a server may say to a write of its own accord, without a transaction: then it must never happen.
fn may_refuse(err: i32) -> bool {
    [ErrorCode::SystemError, ErrorCode::SessionExpired, ErrorCode::NotReadOnly].iter().any(|code| code.number() == err)
}

impl LinearizableWrites {
    fn on_committed(&mut self, committed: &Committed, truth: &Truth) -> Result<(), String> {
        if committed.cxid == 0 || matches!(committed.decoded(), Txn::CreateSession { .. }) {
            return Ok(());
        }
        let (zxid, session, cxid) = (committed.zxid, committed.session, committed.cxid);
        let Some(Waiting { asked, after }) = self.waiting.remove(&(session, cxid)) else {
            return Err(format!(
                "{zxid} is request {cxid} of session {session:#x}: never asked, refused, or done already"
            ));
        };
        if zxid <= after {
            return Err(format!("{zxid} was asked for after {after} was acknowledged: {:?}", asked.op));
        }
        super::request_rules::judge(&asked.op, committed, truth).map_err(|why| format!("{zxid}: {why}"))
    }

    fn on_answered(&mut self, answered: &Answered, truth: &Truth) -> Result<(), String> {
        let Asked { session, xid, op, .. } = &*answered.asked;
        let zxid = Zxid(answered.zxid.max(0) as u64);
        let own = truth.get(zxid).filter(|committed| (committed.session, committed.cxid) == (*session, *xid));
        let Some(own) = own else {
            let refused = may_refuse(answered.err) && self.waiting.remove(&(*session, *xid)).is_some();
            let err = answered.err;
            return match refused {
                true => Ok(()),
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

    fn observe(&mut self, _at: Moment, event: &Event, truth: &Truth) -> Result<(), String> {
        for committed in truth.committed_now() {
            self.on_committed(committed, truth)?;
        }
        match event {
            Event::Client(ClientEvent::Sent(asked)) if asked.op.is_write() => {
                let waiting = Waiting { asked: asked.clone(), after: self.acknowledged };
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

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::sim::history::{Mode, Op};
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
        story.good(answered(&ask, zxid(1, 1), ErrorCode::SystemError.number(), b""));
        let why = story.event_commit(zxid(1, 2), &create(zxid(1, 2), 2, "/b", 8)).expect_err("refused");
        assert!(why.contains("refused"), "{why}");
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
