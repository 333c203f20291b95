//! What is acknowledged is on the disks of a quorum.
//!
//! In three steps, each of which is a promise: a follower tells its leader only of what its own disk has (`Acked`); nothing is
//! committed that a quorum of voters has not had on disk at some time; and a client hears only of what is committed, which
//! everybody still has when all is over. A disk that is lost later does not take back what it had: that is what the others are for.

use bytes::Bytes;

use super::Property;
use super::truth::{Map, Truth};
use crate::core::{ServerId, Zxid};
use crate::sim::event::{Event, Moment, Settled};
use crate::sim::history::ClientEvent;

#[derive(Debug, Default)]
pub struct AckedIsDurable {
    /// Who had what on disk, until it is committed.
    had: Map<Zxid, Vec<(ServerId, Bytes)>>,
    durable: Map<ServerId, Zxid>,
    acknowledged: Zxid,
}

impl AckedIsDurable {
    /// The server's disk has its log through here.
    fn note(&mut self, id: ServerId, through: Zxid, truth: &Truth) {
        let Some(server) = truth.server(id) else { return };
        let above = self.durable.entry(id).or_default();
        for logged in server.between(*above, through) {
            self.had.entry(logged.zxid).or_default().push((id, logged.txn.clone()));
        }
        *above = through.max(*above);
    }

    fn check_quorum(&mut self, truth: &Truth) -> Result<(), String> {
        for committed in truth.committed_now() {
            let had = self.had.remove(&committed.zxid).unwrap_or_default();
            let has = |voter: ServerId| {
                had.iter().any(|(id, txn)| *id == voter && *txn == committed.txn)
                    // It came by snapshot, which is on disk before anything else happens.
                    || truth.server(voter).is_some_and(|server| server.base >= committed.zxid)
            };
            // A change of the membership needs those of before, and those that come.
            if let Some(minority) = truth.deciding(committed.zxid).find(|membership| !membership.has_quorum(has)) {
                let who: Vec<i64> = minority.voters().filter(|voter| has(*voter)).map(|voter| voter.0).collect();
                return Err(format!("{} is committed, and only {who:?} ever had it on disk", committed.zxid));
            }
        }
        Ok(())
    }
}

impl Property for AckedIsDurable {
    fn name(&self) -> &'static str {
        "acked_is_durable"
    }

    fn observe(&mut self, _at: Moment, event: &Event, truth: &Truth) -> Result<(), String> {
        match event {
            Event::Durable { server, through } => self.note(*server, *through, truth),
            Event::Started { server, last, .. } | Event::Reloaded { server, last, .. } => {
                // What is above is gone, and may come again as something else.
                let mark = self.durable.entry(*server).or_default();
                *mark = (*mark).min(*last);
                self.note(*server, *last, truth);
            }
            Event::Wiped { server } => {
                self.durable.remove(server);
            }
            Event::Acked { server: id, through } => {
                let Some(server) = truth.server(*id) else { return Ok(()) };
                // Of an epoch's beginning: the whole history before it (quorum-protocol 20.4).
                let history = server.between(server.base, *through).last().map_or(server.base, |last| last.zxid);
                let promised = if through.counter() == 0 { history } else { *through };
                let durable = server.durable.max(server.base);
                if durable < promised {
                    return Err(format!("server {} acknowledged {through} with {durable} on disk", id.0));
                }
            }
            Event::Client(ClientEvent::Answered(answered)) if answered.asked.op.is_write() => {
                let zxid = Zxid(answered.zxid.max(0) as u64);
                if truth.get(zxid).is_none() && zxid > truth.last() {
                    return Err(format!("a client was told of {zxid}, which nobody has committed"));
                }
                if answered.err == 0 {
                    self.acknowledged = self.acknowledged.max(zxid);
                }
            }
            _ => {}
        }
        self.check_quorum(truth)
    }

    fn at_end(&mut self, _at: Moment, settled: &[Settled], _truth: &Truth) -> Result<(), String> {
        match settled.iter().find(|server| server.applied < self.acknowledged) {
            None => Ok(()),
            Some(Settled { server, applied, .. }) => {
                let acknowledged = self.acknowledged;
                Err(format!("{acknowledged} was acknowledged; in the end server {} has {applied}", server.0))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::sim::history::{Mode, Op};

    fn write(xid: i32) -> std::rc::Rc<crate::sim::history::Asked> {
        asked(LINK, xid, Op::Create { path: "/a".into(), value: 1, mode: Mode::Persistent, stat: false })
    }

    #[test]
    fn a_quorum_on_disk_may_be_acknowledged() {
        let mut story = Story::<AckedIsDurable>::begun();
        story.commit(zxid(1, 1), &create(zxid(1, 1), 1, "/a", 1));
        story.good(Event::Acked { server: server(2), through: zxid(1, 1) });
        story.good(answered(&write(1), zxid(1, 1), 0, b""));
        let settled = [settled(1, zxid(1, 1)), settled(2, zxid(1, 1))];
        story.property.at_end(story.now, &settled, &story.truth).unwrap();
    }

    fn settled(id: i64, applied: Zxid) -> Settled {
        Settled { server: server(id), applied, digest: 0, voter: true }
    }

    #[test]
    fn an_acknowledged_write_that_is_gone_in_the_end_is_seen() {
        let mut story = Story::<AckedIsDurable>::begun();
        story.commit(zxid(1, 1), &create(zxid(1, 1), 1, "/a", 1));
        story.good(answered(&write(1), zxid(1, 1), 0, b""));
        let settled = [settled(1, zxid(1, 1)), settled(2, zxid(1, 0))];
        assert!(story.property.at_end(story.now, &settled, &story.truth).is_err());
    }

    #[test]
    fn a_commit_on_a_minority_is_seen() {
        let mut story = Story::<AckedIsDurable>::begun();
        story.good(logged(1, zxid(1, 1), &create(zxid(1, 1), 1, "/a", 1)));
        story.good(durable(1, zxid(1, 1)));
        story.good(logged(2, zxid(1, 1), &create(zxid(1, 1), 1, "/a", 1)));
        story.bad(applied(1, zxid(1, 1)), "only [1] ever had it on disk");
    }

    #[test]
    fn another_transaction_of_that_zxid_on_disk_is_not_the_same() {
        let mut story = Story::<AckedIsDurable>::begun();
        story.good(logged(1, zxid(1, 1), &create(zxid(1, 1), 1, "/a", 1)));
        story.good(durable(1, zxid(1, 1)));
        story.good(logged(2, zxid(1, 1), &create(zxid(1, 1), 1, "/a", 2)));
        story.good(durable(2, zxid(1, 1)));
        story.bad(applied(1, zxid(1, 1)), "only [1]");
    }

    #[test]
    fn a_disk_lost_after_its_vote_has_voted() {
        let mut story = Story::<AckedIsDurable>::begun();
        for id in [1, 2] {
            story.good(logged(id, zxid(1, 1), &create(zxid(1, 1), 1, "/a", 1)));
            story.good(durable(id, zxid(1, 1)));
        }
        story.good(Event::Wiped { server: server(2) });
        story.good(applied(1, zxid(1, 1)));
    }

    /// ZOOKEEPER-3911 (20.4).
    #[test]
    fn an_ack_before_the_flush_is_seen() {
        let mut story = Story::<AckedIsDurable>::begun();
        story.good(logged(2, zxid(1, 1), &create(zxid(1, 1), 1, "/a", 1)));
        story.bad(Event::Acked { server: server(2), through: zxid(1, 1) }, "with 0x0 on disk");
        story.bad(Event::Acked { server: server(2), through: zxid(2, 0) }, "with 0x0 on disk");
        story.good(durable(2, zxid(1, 1)));
        story.good(Event::Acked { server: server(2), through: zxid(2, 0) });
    }

    #[test]
    fn an_answer_from_the_future_is_seen() {
        let mut story = Story::<AckedIsDurable>::begun();
        story.bad(answered(&write(1), zxid(1, 1), 0, b""), "nobody has committed");
    }
}
