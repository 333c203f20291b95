//! Global primary order: no transaction of an earlier epoch is delivered after one of a later epoch.
//!
//! Zab.tla: "If some follower delivers both a (of epoch e) and b (of epoch e'), and e < e', then it delivers a before b."
//! What a server has applied never goes back to an earlier epoch while its state lives, and nobody adds to the history of an
//! epoch after somebody has added to that of a later one.

use super::Property;
use super::truth::{Map, Truth};
use crate::core::{ServerId, Zxid};
use crate::sim::event::{Event, Moment};

#[derive(Debug, Default)]
pub struct GlobalPrimaryOrder {
    applied: Map<ServerId, Zxid>,
    latest: Zxid,
}

impl Property for GlobalPrimaryOrder {
    fn name(&self) -> &'static str {
        "global_primary_order"
    }

    fn observe(&mut self, _at: Moment, event: &Event, truth: &Truth) -> Result<(), String> {
        match event {
            Event::Applied { server, zxid, .. } => {
                let before = self.applied.entry(*server).or_default();
                if zxid < before {
                    return Err(format!("server {} applied {zxid} after {before}", server.0));
                }
                *before = *zxid;
            }
            // A new life, or another state: what was applied before is not what this state is made of.
            Event::Started { server, last, .. } | Event::Reloaded { server, last, .. } => {
                self.applied.insert(*server, *last);
            }
            _ => {}
        }
        if let Some((delivery, server)) = truth.delivered_now()
            && delivery.through.epoch() < self.latest.epoch()
            && let Some(late) =
                server.between(delivery.above, delivery.through).iter().find(|late| truth.get(late.zxid).is_none())
        {
            return Err(format!("{} is delivered by server {} after {}", late.zxid, delivery.server.0, self.latest));
        }
        self.latest = truth.last();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn second_epoch() -> Story<GlobalPrimaryOrder> {
        let mut story = Story::begun();
        story.commit(zxid(1, 1), &create(zxid(1, 1), 1, "/a", 1));
        story.leads(2, 2);
        story.good(logged(2, zxid(2, 1), &create(zxid(2, 1), 2, "/b", 1)));
        story.good(applied(2, zxid(2, 1)));
        story
    }

    #[test]
    fn epochs_in_order_are_fine_for_those_who_are_behind_too() {
        let mut story = second_epoch();
        story.good(logged(3, zxid(1, 1), &create(zxid(1, 1), 1, "/a", 1)));
        story.good(applied(3, zxid(1, 1)));
    }

    #[test]
    fn an_old_epoch_that_goes_on_is_seen() {
        let mut story = second_epoch();
        story.good(logged(3, zxid(1, 1), &create(zxid(1, 1), 1, "/a", 1)));
        story.good(logged(3, zxid(1, 2), &create(zxid(1, 2), 3, "/c", 1)));
        story.bad(applied(3, zxid(1, 2)), "is delivered by server 3 after 0x200000001");
    }

    #[test]
    fn a_server_that_goes_back_is_seen() {
        let mut story = second_epoch();
        story.bad(applied(2, zxid(1, 1)), "after 0x200000001");
    }
}
