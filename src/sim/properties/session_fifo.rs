//! First in, first out, for each connection: requests take effect and are answered in the order in which they were sent, reads and
//! writes alike, and what takes effect of a connection's writes is a beginning of them: none is skipped.
//!
//! That a read sees the writes before it follows: its answer comes after theirs, so its zxid is not below theirs
//! ([`session_zxid`](super::session_zxid)), and it shows its zxid ([`reads_show_their_zxid`](super::reads_show_their_zxid)).
//!
//! A server with a full disk refuses writes one by one, without a transaction; from then on, in that run, one may be skipped.

use super::Property;
use super::truth::{Committed, Map, Truth};
use crate::core::{LogRoom, Zxid};
use crate::sim::event::{Event, Moment};
use crate::sim::history::{ClientEvent, Link};

/// The writes of one connection.
#[derive(Debug, Default)]
struct Writes {
    sent: u32,
    /// How many are behind us: done, or skipped.
    done: u32,
    last: Zxid,
}

#[derive(Debug, Default)]
pub struct SessionFifo {
    writes: Map<Link, Writes>,
    /// Which connection a request was sent on, and its number among the writes there.
    places: Map<(i64, i32), (Link, u32)>,
    may_skip: bool,
}

impl SessionFifo {
    fn on_committed(&mut self, committed: &Committed) -> Result<(), String> {
        let (zxid, session, cxid) = (committed.zxid, committed.session, committed.cxid);
        let Some((link, number)) = self.places.remove(&(session, cxid)) else { return Ok(()) };
        let writes = self.writes.entry(link).or_default();
        if number < writes.done {
            let last = writes.last;
            return Err(format!("{zxid} is request {cxid} of session {session:#x}, sent before that of {last}"));
        }
        if number > writes.done && !self.may_skip {
            let skipped = number - writes.done;
            return Err(format!(
                "{zxid} is request {cxid} of session {session:#x}; {skipped} before it never happened"
            ));
        }
        (writes.done, writes.last) = (number + 1, zxid);
        Ok(())
    }
}

impl Property for SessionFifo {
    fn name(&self) -> &'static str {
        "session_fifo"
    }

    fn observe(&mut self, _at: Moment, event: &Event, truth: &Truth) -> Result<(), String> {
        for committed in truth.committed_now() {
            self.on_committed(committed)?;
        }
        match event {
            // Ephemerals are refused without a transaction.
            Event::LocalSessions { upgrading } => self.may_skip |= !upgrading,
            Event::Room { room, .. } => self.may_skip |= *room != LogRoom::Ample,
            Event::Client(ClientEvent::Sent(asked)) if asked.op.is_write() => {
                let writes = self.writes.entry(asked.link).or_default();
                self.places.insert((asked.session, asked.xid), (asked.link, writes.sent));
                writes.sent += 1;
            }
            Event::Client(ClientEvent::Answered(answered)) if answered.xid != answered.asked.xid => {
                let (xid, due) = (answered.xid, answered.asked.xid);
                return Err(format!("{} is answered where {due} was due: {:?}", xid, answered.asked));
            }
            Event::Client(ClientEvent::Garbled { link, why }) => {
                return Err(format!("client {} heard nonsense: {why}", link.client));
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
    use crate::core::ServerId;
    use crate::sim::history::{Answered, Mode, Op};

    fn write(xid: i32) -> std::rc::Rc<crate::sim::history::Asked> {
        let path = format!("/{xid}").into();
        asked(LINK, xid, Op::Create { path, value: 1, mode: Mode::Persistent, stat: false })
    }

    fn three_sent() -> Story<SessionFifo> {
        let mut story = Story::begun();
        (1..=3).for_each(|xid| story.good(sent(&write(xid))));
        story
    }

    fn done(story: &mut Story<SessionFifo>, counter: u32, xid: i32) -> Result<(), String> {
        story.event_commit(zxid(1, counter), &create(zxid(1, counter), xid, &format!("/{xid}"), 1))
    }

    #[test]
    fn a_beginning_in_order_is_fine() {
        let mut story = three_sent();
        done(&mut story, 1, 1).unwrap();
        done(&mut story, 2, 2).unwrap();
    }

    #[test]
    fn a_write_that_overtakes_another_is_seen() {
        let mut story = three_sent();
        done(&mut story, 1, 1).unwrap();
        assert!(done(&mut story, 2, 3).unwrap_err().contains("1 before it never happened"));
    }

    #[test]
    fn a_full_disk_may_skip_but_not_turn_round() {
        let mut story = three_sent();
        story.good(Event::Room { server: ServerId(1), room: LogRoom::Low });
        done(&mut story, 1, 2).unwrap();
        assert!(done(&mut story, 2, 1).unwrap_err().contains("sent before that of 0x100000001"));
    }

    #[test]
    fn answers_out_of_turn_and_nonsense_are_seen() {
        let mut story = three_sent();
        let wrong = Answered { asked: write(1), xid: 2, zxid: 0, err: 0, body: [].into() };
        story.bad(client(ClientEvent::Answered(wrong)), "2 is answered where 1 was due");
        story.bad(client(ClientEvent::Garbled { link: LINK, why: "short".to_owned() }), "nonsense: short");
    }
}
