//! The committed prefix is the same everywhere: who serves has, up to what it has applied, exactly the committed log, not one
//! transaction more or less; and in the end everybody has all of it. Nor is anybody told to cut off what it has shown.
//!
//! [`agreement`](super::agreement) and [`total_order`](super::total_order) look at each delivery by itself; this one at the
//! whole log of a server whenever it begins to serve, what it had before its last crash included.

use super::Property;
use super::truth::{Server, Truth};
use crate::core::ServerId;
use crate::sim::event::{Event, Moment, Settled};

#[derive(Debug, Default)]
pub struct CommittedPrefix {}

impl Property for CommittedPrefix {
    fn name(&self) -> &'static str {
        "committed_prefix"
    }

    fn observe(&mut self, _at: Moment, event: &Event, truth: &Truth) -> Result<(), String> {
        if let Event::Truncating { server: id, to } = event
            && let Some(server) = truth.server(*id)
            && server.delivered > *to
        {
            return Err(format!("server {} is cut at {to}, and has shown {}", id.0, server.delivered));
        }
        let Event::Role { server: id, .. } = event else { return Ok(()) };
        match truth.server(*id).filter(|server| server.is_serving()) {
            Some(server) => check(*id, server, truth),
            None => Ok(()),
        }
    }

    fn at_end(&mut self, _at: Moment, settled: &[Settled], truth: &Truth) -> Result<(), String> {
        for Settled { server: id, applied, .. } in settled {
            let last = truth.last();
            if *applied < last {
                return Err(format!("{last} is committed; in the end server {} has {applied}", id.0));
            }
            if let Some(server) = truth.server(*id) {
                check(*id, server, truth)?;
            }
        }
        Ok(())
    }
}

fn check(id: ServerId, server: &Server, truth: &Truth) -> Result<(), String> {
    let has = server.between(server.base, server.applied);
    let should = &truth.log()[truth.place_above(server.base)..truth.place_above(server.applied)];
    let same =
        has.iter().zip(should).take_while(|(has, should)| has.zxid == should.zxid && has.txn == should.txn).count();
    if same < has.len() || same < should.len() {
        let has = has.get(same).map(|logged| logged.zxid);
        let should = should.get(same).map(|committed| committed.zxid);
        return Err(format!("server {} serves with {has:x?} in its log where {should:x?} is committed", id.0));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::core::Zxid;

    fn two_committed() -> Story<CommittedPrefix> {
        let mut story = Story::begun();
        for counter in 1..=2 {
            story.commit(zxid(1, counter), &create(zxid(1, counter), counter as i32, &format!("/{counter}"), 1));
        }
        story
    }

    fn settled(id: i64, applied: Zxid) -> Settled {
        Settled { server: server(id), applied, digest: 0, voter: true }
    }

    #[test]
    fn a_prefix_may_serve() {
        let mut story = two_committed();
        story.good(applied(2, zxid(1, 1)));
        story.good(follows(2, 1));
        story.good(applied(2, zxid(1, 2)));
        let settled = [settled(1, zxid(1, 2)), settled(2, zxid(1, 2))];
        story.property.at_end(story.now, &settled, &story.truth).unwrap();
    }

    #[test]
    fn a_server_that_is_behind_in_the_end_is_seen() {
        let mut story = two_committed();
        assert!(story.property.at_end(story.now, &[settled(3, zxid(1, 1))], &story.truth).is_err());
    }

    #[test]
    fn a_hole_in_the_past_is_seen() {
        let mut story = two_committed();
        story.good(looking(3));
        story.good(logged(3, zxid(1, 2), &create(zxid(1, 2), 2, "/2", 1)));
        story.good(applied(3, zxid(1, 2)));
        story.bad(follows(3, 1), "where Some(Zxid(100000001)) is committed");
    }

    #[test]
    fn a_cut_through_what_was_shown_is_seen() {
        let mut story = two_committed();
        story.good(applied(2, zxid(1, 1)));
        story.good(follows(2, 1));
        story.good(logged(2, zxid(1, 2), &create(zxid(1, 2), 5, "/other", 1)));
        story.good(Event::Truncating { server: server(2), to: zxid(1, 1) });
        story.bad(Event::Truncating { server: server(2), to: Zxid::ZERO }, "has shown 0x100000001");
    }
}
