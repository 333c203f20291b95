//! After a `sync`, a client sees everything that was acknowledged before it sent the `sync`, to whomever.
//!
//! With the limit that ZooKeeper has (semantics 12.2): a `sync` goes to the leader that the server follows, and asks no quorum. A
//! leader that was deposed and does not know answers it too. So what is promised is everything acknowledged in the epochs up to
//! that of the server the client is connected to; it is read off when the connection is asked for, which is the least it can be.

use std::collections::BTreeMap;

use super::Property;
use super::truth::{Map, Truth};
use crate::core::Zxid;
use crate::sim::event::{Event, Moment};
use crate::sim::history::{ClientEvent, Link, Op};

#[derive(Debug, Default)]
pub struct SyncSeesAcknowledged {
    /// The highest acknowledged zxid of each epoch.
    acknowledged: BTreeMap<u32, Zxid>,
    /// The epoch of the server on the other side.
    epochs: Map<Link, u32>,
    /// What each `sync` on its way must show.
    due: Map<(Link, i32), Zxid>,
}

impl Property for SyncSeesAcknowledged {
    fn name(&self) -> &'static str {
        "sync_sees_acknowledged"
    }

    fn observe(&mut self, _at: Moment, event: &Event, truth: &Truth) -> Result<(), String> {
        let Event::Client(event) = event else { return Ok(()) };
        match event {
            ClientEvent::Connecting { link, server, .. } => {
                let epoch = truth.server(*server).map_or(0, |server| server.current_epoch);
                self.epochs.insert(*link, epoch);
            }
            ClientEvent::Sent(asked) if matches!(asked.op, Op::Sync { .. }) => {
                let epoch = self.epochs.get(&asked.link).copied().unwrap_or_default();
                let due = self.acknowledged.range(..=epoch).map(|(_, zxid)| *zxid).max().unwrap_or_default();
                self.due.insert((asked.link, asked.xid), due);
            }
            ClientEvent::Answered(answered) => {
                let (asked, zxid) = (&answered.asked, Zxid(answered.zxid.max(0) as u64));
                if asked.op.is_write() && truth.get(zxid).is_some_and(|committed| committed.cxid == asked.xid) {
                    let latest = self.acknowledged.entry(zxid.epoch()).or_default();
                    *latest = zxid.max(*latest);
                } else if let Some(due) = self.due.remove(&(asked.link, asked.xid))
                    && answered.err == 0
                    && zxid < due
                {
                    return Err(format!(
                        "{:?} is answered at {zxid}; {due} was acknowledged before it was sent",
                        asked.op
                    ));
                }
            }
            ClientEvent::Lost { link } => {
                self.epochs.remove(link);
                self.due.retain(|(of, _), _| of != link);
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
    use crate::sim::history::Mode;

    /// (1, 1) and (1, 2) are committed, the first is acknowledged. Client 1 is connected.
    fn one_acknowledged() -> Story<SyncSeesAcknowledged> {
        let mut story = Story::begun();
        story.good(connecting(LINK, None, 0));
        for counter in 1..=2 {
            story.commit(zxid(1, counter), &create(zxid(1, counter), counter as i32, &format!("/{counter}"), 1));
        }
        let write = asked(LINK, 1, Op::Create { path: "/1".into(), value: 1, mode: Mode::Persistent, stat: false });
        story.good(answered(&write, zxid(1, 1), 0, b""));
        story.good(connecting(LINK_2, None, 0));
        story
    }

    fn sync(xid: i32) -> std::rc::Rc<crate::sim::history::Asked> {
        asked(LINK_2, xid, Op::Sync { path: "/".into() })
    }

    #[test]
    fn what_was_acknowledged_later_need_not_be_seen() {
        let mut story = one_acknowledged();
        story.good(sent(&sync(1)));
        let write = asked(LINK, 2, Op::Create { path: "/2".into(), value: 1, mode: Mode::Persistent, stat: false });
        story.good(answered(&write, zxid(1, 2), 0, b""));
        story.good(answered(&sync(1), zxid(1, 1), 0, b""));
    }

    #[test]
    fn a_sync_that_misses_an_acknowledged_write_is_seen() {
        let mut story = one_acknowledged();
        story.good(sent(&sync(1)));
        story.bad(answered(&sync(1), zxid(1, 0), 0, b""), "0x100000001 was acknowledged before");
    }

    #[test]
    fn a_deposed_leader_cannot_know_of_the_next_epoch() {
        let mut story = one_acknowledged();
        story.good(looking(1));
        story.leads(1, 2);
        story.commit(zxid(2, 1), &create(zxid(2, 1), 3, "/3", 1));
        let write = asked(LINK, 3, Op::Create { path: "/3".into(), value: 1, mode: Mode::Persistent, stat: false });
        story.good(answered(&write, zxid(2, 1), 0, b""));
        // Connected in epoch 1.
        story.good(sent(&sync(1)));
        story.good(answered(&sync(1), zxid(1, 2), 0, b""));
    }
}
