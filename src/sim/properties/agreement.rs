//! Agreement: there is one history, and everybody delivers a prefix of it.
//!
//! Zab.tla: "If some follower f delivers transaction a, and some follower f' delivers transaction b, then f' delivers a or f
//! delivers b." A transaction is its zxid and its bytes: two that share a zxid and differ are never both delivered.

use super::Property;
use super::truth::Truth;
use crate::sim::event::{Event, Moment};

#[derive(Debug, Default)]
pub struct Agreement {}

impl Property for Agreement {
    fn name(&self) -> &'static str {
        "agreement"
    }

    fn observe(&mut self, _at: Moment, _event: &Event, truth: &Truth) -> Result<(), String> {
        let Some((delivery, server)) = truth.delivered_now() else { return Ok(()) };
        for delivered in server.between(delivery.above, delivery.through) {
            let (id, zxid) = (delivery.server.0, delivered.zxid);
            match truth.get(zxid) {
                None => return Err(format!("server {id} delivered {zxid}, which the others' history does not have")),
                Some(committed) if committed.txn != delivered.txn => {
                    return Err(format!("server {id} delivered another {zxid} than somebody else"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn one_and_two_committed() -> Story<Agreement> {
        let mut story = Story::begun();
        for counter in [1, 3] {
            story.commit(zxid(1, counter), &create(zxid(1, counter), counter as i32, &format!("/{counter}"), 1));
        }
        story
    }

    #[test]
    fn a_follower_may_deliver_the_same_later() {
        let mut story = one_and_two_committed();
        story.good(applied(2, zxid(1, 1)));
        story.good(applied(2, zxid(1, 3)));
    }

    #[test]
    fn another_transaction_under_the_same_zxid_is_seen() {
        let mut story = one_and_two_committed();
        story.good(logged(3, zxid(1, 1), &create(zxid(1, 1), 1, "/other", 1)));
        story.bad(applied(3, zxid(1, 1)), "another 0x100000001");
    }

    #[test]
    fn a_transaction_between_committed_ones_is_seen() {
        let mut story = one_and_two_committed();
        story.good(logged(3, zxid(1, 1), &create(zxid(1, 1), 1, "/1", 1)));
        story.good(logged(3, zxid(1, 2), &create(zxid(1, 2), 2, "/2", 1)));
        story.bad(applied(3, zxid(1, 2)), "which the others' history does not have");
    }

    #[test]
    fn what_was_delivered_before_a_crash_counts() {
        let mut story = one_and_two_committed();
        story.good(looking(1));
        story.good(started(1, zxid(0, 0)));
        story.good(logged(1, zxid(1, 1), &create(zxid(1, 1), 1, "/other", 1)));
        story.good(applied(1, zxid(1, 1)));
        story.bad(follows(1, 2), "another");
    }
}
