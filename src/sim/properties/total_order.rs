//! Total order: who delivers a transaction has delivered everything before it, in the one order.
//!
//! Zab.tla: "If some follower delivers a before b, then any follower that delivers b must also deliver a and deliver a before b."

use super::Property;
use super::truth::{Map, Truth};
use crate::core::{ServerId, Zxid};
use crate::sim::event::{Event, Moment};

#[derive(Debug, Default)]
pub struct TotalOrder {
    /// Where each log ended before the latest event.
    ends: Map<ServerId, Zxid>,
}

impl Property for TotalOrder {
    fn name(&self) -> &'static str {
        "total_order"
    }

    fn observe(&mut self, _at: Moment, event: &Event, truth: &Truth) -> Result<(), String> {
        match event {
            Event::Logged { server, zxid, .. } => {
                let end = self.ends.entry(*server).or_default();
                if *zxid <= *end {
                    return Err(format!("server {} logged {zxid} behind {end}", server.0));
                }
                *end = *zxid;
            }
            Event::Started { server, .. } | Event::Reloaded { server, .. } | Event::Wiped { server } => {
                let end = truth.server(*server).map_or(Zxid::ZERO, |server| server.end());
                self.ends.insert(*server, end);
            }
            _ => {}
        }
        let Some((delivery, server)) = truth.delivered_now() else { return Ok(()) };
        let above = delivery.above.max(server.base);
        let delivered = server.between(above, delivery.through).iter().map(|logged| logged.zxid);
        let from = truth.place_above(above);
        let ordered = truth.log()[from..].iter().map(|committed| committed.zxid);
        let ordered = ordered.take_while(|zxid| *zxid <= delivery.through);
        if let Some((was, due)) = first_difference(delivered, ordered) {
            let told = |zxid: Option<Zxid>| zxid.map_or("nothing".to_owned(), |zxid| zxid.to_string());
            let (was, due, through) = (told(was), told(due), delivery.through);
            return Err(format!(
                "server {} delivered {was} where {due} was due, on its way to {through}",
                delivery.server.0
            ));
        }
        Ok(())
    }
}

fn first_difference(
    mut left: impl Iterator<Item = Zxid>,
    mut right: impl Iterator<Item = Zxid>,
) -> Option<(Option<Zxid>, Option<Zxid>)> {
    loop {
        match (left.next(), right.next()) {
            (None, None) => return None,
            (left, right) if left != right => return Some((left, right)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn three_committed() -> Story<TotalOrder> {
        let mut story = Story::begun();
        for counter in 1..=3 {
            story.commit(zxid(1, counter), &create(zxid(1, counter), counter as i32, &format!("/{counter}"), 1));
        }
        story
    }

    #[test]
    fn everything_in_order_is_fine_in_any_steps() {
        let mut story = three_committed();
        story.good(applied(2, zxid(1, 2)));
        story.good(applied(2, zxid(1, 3)));
    }

    #[test]
    fn a_transaction_left_out_is_seen() {
        let mut story = three_committed();
        for counter in [1, 3] {
            let txn = create(zxid(1, counter), counter as i32, &format!("/{counter}"), 1);
            story.good(logged(3, zxid(1, counter), &txn));
        }
        story.good(applied(3, zxid(1, 1)));
        story.bad(applied(3, zxid(1, 3)), "delivered 0x100000003 where 0x100000002 was due");
    }

    #[test]
    fn a_claim_to_have_applied_what_never_came_is_seen() {
        let mut story = three_committed();
        story.bad(applied(3, zxid(1, 2)), "delivered nothing where 0x100000001 was due");
    }

    #[test]
    fn a_log_that_goes_back_is_seen() {
        let mut story = three_committed();
        story.bad(logged(2, zxid(1, 3), &create(zxid(1, 3), 3, "/3", 1)), "logged 0x100000003 behind");
    }
}
