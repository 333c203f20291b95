//! Local primary order: an epoch has one primary, and its transactions are delivered in the order in which it broadcast them,
//! none left out.
//!
//! Zab.tla: "If a primary broadcasts a before it broadcasts b, then a follower that delivers b must also deliver a before b."

use super::Property;
use super::truth::{Map, Truth};
use crate::core::{ServerId, Zxid};
use crate::sim::event::{Event, Moment};

#[derive(Debug)]
struct Epoch {
    primary: ServerId,
    broadcast: Vec<Zxid>,
    /// How many of these were delivered by anybody.
    delivered: usize,
    /// Its primary was alone, and has restarted with this: if it goes on in this epoch, then from there.
    restarted_at: Option<Zxid>,
}

#[derive(Debug, Default)]
pub struct LocalPrimaryOrder {
    epochs: Map<u32, Epoch>,
}

impl Property for LocalPrimaryOrder {
    fn name(&self) -> &'static str {
        "local_primary_order"
    }

    fn observe(&mut self, _at: Moment, event: &Event, truth: &Truth) -> Result<(), String> {
        // A server that is alone counts on from what its disk had: what was lost without an answer may come again as something else.
        // Until it does, voters to be may have it, and be put forward (D-077).
        if let Event::Started { server, last, .. } = event
            && truth.voters == [*server]
        {
            self.epochs.values_mut().for_each(|epoch| epoch.restarted_at = Some(*last));
        }
        if let Event::Logged { server, zxid, .. } = event
            && truth.server(*server).is_some_and(|server| server.is_leading())
        {
            let first = || Epoch { primary: *server, broadcast: Vec::new(), delivered: 0, restarted_at: None };
            let epoch = self.epochs.entry(zxid.epoch()).or_insert_with(first);
            if epoch.primary != *server {
                let (one, other) = (epoch.primary.0, server.0);
                return Err(format!("{zxid} is broadcast by server {other}, in the epoch of server {one}"));
            }
            if let Some(last) = epoch.restarted_at.take() {
                epoch.broadcast.retain(|zxid| *zxid <= last);
            }
            let due = epoch.broadcast.last().map_or(1, |last| last.counter() + 1);
            if zxid.counter() != due {
                return Err(format!("server {} broadcast {zxid} where its counter was at {due}", server.0));
            }
            epoch.broadcast.push(*zxid);
        }
        for committed in truth.committed_now() {
            let zxid = committed.zxid;
            let Some(epoch) = self.epochs.get_mut(&zxid.epoch()) else { continue };
            let due = epoch.broadcast.get(epoch.delivered);
            if due != Some(&zxid) {
                return Err(format!("{zxid} is delivered before its primary's earlier {due:?}"));
            }
            epoch.delivered += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::core::RoleView;

    #[test]
    fn in_order_is_fine_and_a_tail_may_never_be_delivered() {
        let mut story = Story::<LocalPrimaryOrder>::begun();
        story.commit(zxid(1, 1), &create(zxid(1, 1), 1, "/a", 1));
        story.good(logged(1, zxid(1, 2), &create(zxid(1, 2), 2, "/b", 1)));
        story.leads(2, 2);
        story.good(logged(2, zxid(2, 1), &create(zxid(2, 1), 1, "/c", 1)));
        story.good(applied(2, zxid(2, 1)));
    }

    #[test]
    fn a_transaction_left_out_is_seen() {
        let mut story = Story::<LocalPrimaryOrder>::begun();
        let second = create(zxid(1, 2), 2, "/b", 1);
        story.good(logged(1, zxid(1, 1), &create(zxid(1, 1), 1, "/a", 1)));
        story.good(logged(1, zxid(1, 2), &second));
        story.good(logged(2, zxid(1, 2), &second));
        story.bad(applied(2, zxid(1, 2)), "before its primary's earlier");
    }

    #[test]
    fn who_is_alone_may_lose_its_tail_and_count_anew() {
        let mut story = Story::<LocalPrimaryOrder>::begun();
        story.truth.voters = vec![server(1)];
        story.commit(zxid(1, 1), &create(zxid(1, 1), 1, "/a", 1));
        story.good(logged(1, zxid(1, 2), &create(zxid(1, 2), 2, "/b", 1)));
        story.good(started(1, zxid(1, 1)));
        story.leads(1, 1);
        story.commit(zxid(1, 2), &create(zxid(1, 2), 3, "/c", 1));
    }

    /// It proposed a configuration, and the voters to be have more of its epoch than its own disk.
    #[test]
    fn what_who_is_alone_has_lost_may_be_delivered_by_voters_to_be() {
        let mut story = Story::<LocalPrimaryOrder>::begun();
        story.truth.voters = vec![server(1)];
        story.commit(zxid(1, 1), &create(zxid(1, 1), 1, "/a", 1));
        for id in [1, 2] {
            story.good(logged(id, zxid(1, 2), &create(zxid(1, 2), 2, "/b", 1)));
        }
        story.good(started(1, zxid(1, 1)));
        story.good(role(2, RoleView::Leading { epoch: 2, serving: true }));
        story.good(applied(2, zxid(1, 2)));
        assert_eq!(story.truth.last(), zxid(1, 2));
    }

    #[test]
    fn two_primaries_of_one_epoch_are_seen() {
        let mut story = Story::<LocalPrimaryOrder>::begun();
        story.good(logged(1, zxid(1, 1), &create(zxid(1, 1), 1, "/a", 1)));
        story.leads(2, 1);
        story.bad(logged(2, zxid(1, 2), &create(zxid(1, 2), 2, "/b", 1)), "in the epoch of server 1");
    }

    #[test]
    fn a_counter_that_skips_is_seen() {
        let mut story = Story::<LocalPrimaryOrder>::begun();
        story.bad(logged(1, zxid(1, 2), &create(zxid(1, 2), 2, "/b", 1)), "its counter was at 1");
    }
}
