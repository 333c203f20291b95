//! Primary integrity: a primary that broadcasts has delivered everything that anybody ever delivers of earlier epochs.
//!
//! Zab.tla: "If a primary p broadcasts a and some follower f delivers b such that b has epoch smaller than the epoch of p,
//! then p must deliver b before it broadcasts a." The deliveries may come first or last; both sides are looked at.

use std::collections::BTreeMap;

use super::Property;
use super::truth::Truth;
use crate::core::{ServerId, Zxid};
use crate::sim::event::{Event, Moment};

#[derive(Debug, Default)]
pub struct PrimaryIntegrity {
    /// For each epoch with a broadcast: by whom, and what it had delivered when it made the first one.
    bases: BTreeMap<u32, (ServerId, Zxid)>,
}

impl Property for PrimaryIntegrity {
    fn name(&self) -> &'static str {
        "primary_integrity"
    }

    fn observe(&mut self, _at: Moment, event: &Event, truth: &Truth) -> Result<(), String> {
        if let Event::Logged { server: id, zxid, .. } = event
            && let Some(server) = truth.server(*id).filter(|server| server.is_leading())
            && !self.bases.contains_key(&zxid.epoch())
        {
            let earlier = truth.at_or_before(Zxid::new(zxid.epoch(), 0)).map_or(Zxid::ZERO, |last| last.zxid);
            if server.delivered < earlier {
                let (id, has) = (id.0, server.delivered);
                return Err(format!("server {id} broadcast {zxid} with {has} delivered, and {earlier} was before it"));
            }
            self.bases.insert(zxid.epoch(), (*id, server.delivered));
        }
        for committed in truth.committed_now() {
            let later = self.bases.range(committed.zxid.epoch() + 1..);
            if let Some((epoch, (id, base))) = later.into_iter().find(|(_, (_, base))| *base < committed.zxid) {
                let (zxid, id) = (committed.zxid, id.0);
                return Err(format!("{zxid} is delivered; server {id} began epoch {epoch} with {base}, without it"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn one_committed() -> Story<PrimaryIntegrity> {
        let mut story = Story::begun();
        story.commit(zxid(1, 1), &create(zxid(1, 1), 1, "/a", 1));
        story
    }

    #[test]
    fn a_primary_that_has_everything_may_broadcast() {
        let mut story = one_committed();
        story.good(applied(2, zxid(1, 1)));
        story.leads(2, 2);
        story.good(logged(2, zxid(2, 1), &create(zxid(2, 1), 2, "/b", 1)));
        story.good(applied(2, zxid(2, 1)));
    }

    #[test]
    fn a_primary_that_lacks_something_delivered_is_seen() {
        let mut story = one_committed();
        story.leads(3, 2);
        story.bad(logged(3, zxid(2, 1), &create(zxid(2, 1), 2, "/b", 1)), "and 0x100000001 was before it");
    }

    #[test]
    fn something_older_delivered_after_a_primary_began_without_it_is_seen() {
        let mut story = Story::<PrimaryIntegrity>::begun();
        let old = create(zxid(1, 1), 1, "/a", 1);
        story.good(logged(1, zxid(1, 1), &old));
        story.leads(3, 2);
        story.good(logged(3, zxid(2, 1), &create(zxid(2, 1), 2, "/b", 1)));
        story.bad(applied(1, zxid(1, 1)), "server 3 began epoch 2 with 0x0, without it");
    }
}
