//! The zxid of replies never goes back for a client, whatever servers it talks to: who has seen a state never sees an older one.
//!
//! Within a connection by order, across connections because a server that is behind what the client has seen does not take it.

use super::Property;
use super::truth::{Map, Truth};
use crate::sim::event::{Event, Moment};
use crate::sim::history::ClientEvent;

#[derive(Debug, Default)]
pub struct SessionZxid {
    seen: Map<u32, i64>,
}

impl Property for SessionZxid {
    fn name(&self) -> &'static str {
        "session_zxid"
    }

    fn observe(&mut self, _at: Moment, event: &Event, _truth: &Truth) -> Result<(), String> {
        let Event::Client(ClientEvent::Answered(answered)) = event else { return Ok(()) };
        let asked = &answered.asked;
        let seen = self.seen.entry(asked.link.client).or_default();
        if answered.zxid < *seen {
            let (now, session) = (answered.zxid, asked.session);
            return Err(format!(
                "session {session:#x} saw {seen:#x}, and then {now:#x} in the answer to {:?}",
                asked.op
            ));
        }
        *seen = answered.zxid;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::sim::history::{Link, Op};

    #[test]
    fn the_same_or_a_later_state_is_fine() {
        let mut story = Story::<SessionZxid>::new();
        story.good(answered(&asked(LINK, 1, Op::Ping), zxid(1, 1), 0, b""));
        story.good(answered(&asked(LINK, 2, Op::Ping), zxid(1, 1), 0, b""));
        story.good(answered(&asked(LINK_2, 1, Op::Ping), zxid(1, 0), 0, b""));
        story.good(answered(&asked(LINK, 3, Op::Ping), zxid(2, 0), 0, b""));
    }

    #[test]
    fn going_back_is_seen_on_a_connection_and_across_connections() {
        let next = Link { number: LINK.number + 1, ..LINK };
        for link in [LINK, next] {
            let mut story = Story::<SessionZxid>::new();
            story.good(answered(&asked(LINK, 1, Op::Ping), zxid(1, 2), 0, b""));
            story.bad(answered(&asked(link, 2, Op::Ping), zxid(1, 1), 0, b""), "saw 0x100000002, and then 0x100000001");
        }
    }
}
