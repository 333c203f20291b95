//! Integrity: what anybody delivers, some primary has broadcast, byte for byte.
//!
//! Zab.tla: "If some follower delivers one transaction, then some primary has broadcast it."

use bytes::Bytes;

use super::Property;
use super::truth::{Map, Truth};
use crate::core::Zxid;
use crate::sim::event::{Event, Moment};

#[derive(Debug, Default)]
pub struct Integrity {
    broadcast: Map<Zxid, Vec<Bytes>>,
}

impl Property for Integrity {
    fn name(&self) -> &'static str {
        "integrity"
    }

    fn observe(&mut self, _at: Moment, event: &Event, truth: &Truth) -> Result<(), String> {
        if let Event::Logged { server, zxid, txn } = event
            && truth.server(*server).is_some_and(|server| server.is_leading())
        {
            self.broadcast.entry(*zxid).or_default().push(txn.clone());
        }
        for committed in truth.committed_now() {
            match self.broadcast.get(&committed.zxid) {
                None => return Err(format!("{} was delivered, and no primary ever broadcast it", committed.zxid)),
                Some(known) if known.contains(&committed.txn) => {}
                Some(_) => return Err(format!("{} was delivered as no primary broadcast it", committed.zxid)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn what_a_primary_broadcast_may_be_delivered() {
        let mut story = Story::<Integrity>::begun();
        story.commit(zxid(1, 1), &create(zxid(1, 1), 1, "/a", 1));
    }

    #[test]
    fn a_transaction_out_of_nowhere_is_seen() {
        let mut story = Story::<Integrity>::begun();
        story.good(logged(2, zxid(1, 1), &create(zxid(1, 1), 1, "/a", 1)));
        story.bad(applied(2, zxid(1, 1)), "no primary ever broadcast it");
    }

    #[test]
    fn a_transaction_changed_on_its_way_is_seen() {
        let mut story = Story::<Integrity>::begun();
        story.good(logged(1, zxid(1, 1), &create(zxid(1, 1), 1, "/a", 1)));
        story.good(logged(2, zxid(1, 1), &create(zxid(1, 1), 1, "/a", 2)));
        story.bad(applied(2, zxid(1, 1)), "as no primary broadcast it");
    }
}
