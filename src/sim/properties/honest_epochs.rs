//! Every durable (currentEpoch, lastZxid) is honest: who has an epoch on disk has on disk everything that an earlier epoch has
//! committed, and everything that this epoch began with, whenever that is found out (quorum-protocol 20.5). It is what votes and
//! elections rest on. Not promised: what only a *later* epoch made committed. A leader has its epoch on disk before a quorum has
//! its history; if it dies then, the next one may begin with more of an epoch before, and nothing was lost by that.
//!
//! And the small print: epochs on a disk never go back while the disk lives, currentEpoch is never above acceptedEpoch, nobody
//! tells a peer of an epoch that it has not promised on disk, adopts or joins one below what it promised, or acknowledges a
//! transaction of one that its disk has not adopted.

use super::Property;
use super::truth::{Committed, Map, Server, Truth};
use crate::core::{EpochKind, ServerId, Standing, Zxid};
use crate::sim::event::{Event, Moment};

#[derive(Debug, Default)]
pub struct HonestEpochs {
    stored: Map<ServerId, (u32, u32)>,
}

impl HonestEpochs {
    fn never_back(&mut self, id: ServerId, server: &Server) -> Result<(), String> {
        let now = (server.accepted_epoch, server.current_epoch);
        let before = self.stored.insert(id, now).unwrap_or_default();
        if now.0 < before.0 || now.1 < before.1 {
            return Err(format!("server {} had (accepted, current) {before:?} on disk and now has {now:?}", id.0));
        }
        if now.1 > now.0 {
            return Err(format!("server {} has currentEpoch {} above acceptedEpoch {}", id.0, now.1, now.0));
        }
        Ok(())
    }
}

impl Property for HonestEpochs {
    fn name(&self) -> &'static str {
        "honest_epochs"
    }

    fn observe(&mut self, _at: Moment, event: &Event, truth: &Truth) -> Result<(), String> {
        match event {
            Event::Wiped { server } => {
                self.stored.remove(server);
            }
            // A disk that has lost something says so, and what it was adopted with; a promise it keeps.
            Event::Started { server, standing: Standing::Lost, epochs, .. } => {
                let (promised, _) = self.stored.insert(*server, (epochs.accepted, 0)).unwrap_or_default();
                if epochs.accepted < promised {
                    let (id, now) = (server.0, epochs.accepted);
                    return Err(format!("server {id} had promised epoch {promised}, and has promised {now} now"));
                }
            }
            Event::Started { server, standing: Standing::Fresh, .. } => {
                self.stored.remove(server);
            }
            Event::Started { server: id, .. } => {
                if let Some(server) = truth.server(*id) {
                    self.never_back(*id, server)?;
                }
            }
            Event::EpochStored { server: id, kind, .. } => {
                let Some(server) = truth.server(*id) else { return Ok(()) };
                self.never_back(*id, server)?;
                if *kind == EpochKind::Current {
                    let (adopted, promised) = (server.current_epoch, server.accepted_epoch);
                    // Epoch 0 is nobody's: an empty server says that it founds the ensemble.
                    if adopted < promised && adopted > 0 {
                        let id = id.0;
                        return Err(format!("server {id} adopted epoch {adopted} and has promised {promised}"));
                    }
                    let log = &truth.log()[..truth.place_above(Zxid::new(server.current_epoch, 0))];
                    if let Some(earlier) = log.iter().rfind(|earlier| must_have(server, earlier))
                        && is_missing(server, earlier.zxid)
                    {
                        return Err(lie(*id, server, earlier.zxid));
                    }
                }
            }
            Event::Promised { server: id, epoch } => {
                let Some(server) = truth.server(*id) else { return Ok(()) };
                if *epoch > server.accepted_epoch {
                    let (id, has) = (id.0, server.accepted_epoch);
                    return Err(format!("server {id} told of epoch {epoch} with acceptedEpoch {has} on disk"));
                }
            }
            Event::Acked { server: id, through } => {
                let Some(server) = truth.server(*id) else { return Ok(()) };
                if through.epoch() > server.current_epoch {
                    let has = server.current_epoch;
                    return Err(format!("server {} acknowledged {through} with currentEpoch {has} on disk", id.0));
                }
                // Of NEWLEADER: it joins the epoch. Zab.tla: acceptedEpoch is what keeps it from an older one.
                if through.counter() == 0 && through.epoch() < server.accepted_epoch {
                    let (epoch, promised) = (through.epoch(), server.accepted_epoch);
                    return Err(format!("server {} joined epoch {epoch} and has promised {promised}", id.0));
                }
            }
            _ => {}
        }
        for committed in truth.committed_now() {
            for id in &truth.voters {
                if let Some(server) = truth.server(*id)
                    && server.standing == Standing::Whole
                    && must_have(server, committed)
                    && is_missing(server, committed.zxid)
                {
                    return Err(lie(*id, server, committed.zxid));
                }
            }
        }
        Ok(())
    }
}

fn must_have(server: &Server, committed: &Committed) -> bool {
    server.current_epoch > committed.zxid.epoch() && server.current_epoch >= committed.by_epoch
}

fn is_missing(server: &Server, zxid: Zxid) -> bool {
    server.base < zxid && (server.durable < zxid || server.get(zxid).is_none())
}

fn lie(id: ServerId, server: &Server, zxid: Zxid) -> String {
    let (id, epoch, durable) = (id.0, server.current_epoch, server.durable);
    format!("server {id} has currentEpoch {epoch} on disk with its log durable to {durable}, and {zxid} is committed")
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::core::RoleView;

    fn one_committed() -> Story<HonestEpochs> {
        let mut story = Story::begun();
        story.commit(zxid(1, 1), &create(zxid(1, 1), 1, "/a", 1));
        story
    }

    #[test]
    fn who_has_the_history_may_adopt_the_epoch() {
        let mut story = one_committed();
        story.good(epoch_stored(2, EpochKind::Accepted, 2));
        story.good(epoch_stored(2, EpochKind::Current, 2));
    }

    /// ZOOKEEPER-5094 (20.3); ZOOKEEPER-4643 (20.5).
    #[test]
    fn an_epoch_without_its_history_is_seen() {
        let mut story = one_committed();
        story.good(logged(3, zxid(1, 1), &create(zxid(1, 1), 1, "/a", 1)));
        story.good(epoch_stored(3, EpochKind::Accepted, 2));
        story.bad(epoch_stored(3, EpochKind::Current, 2), "durable to 0x0, and 0x100000001 is committed");
    }

    #[test]
    fn a_history_that_grows_behind_an_epoch_is_seen() {
        let mut story = Story::<HonestEpochs>::begun();
        story.good(epoch_stored(3, EpochKind::Accepted, 2));
        story.good(epoch_stored(3, EpochKind::Current, 2));
        let why = story.event_commit(zxid(1, 1), &create(zxid(1, 1), 1, "/a", 1)).expect_err("server 3 lacks it");
        assert!(why.contains("server 3 has currentEpoch 2"), "{why}");
    }

    #[test]
    fn what_only_a_later_epoch_commits_may_be_missing() {
        let mut story = Story::<HonestEpochs>::begun();
        let first = create(zxid(1, 1), 1, "/a", 1);
        story.good(logged(1, zxid(1, 1), &first));
        story.good(durable(1, zxid(1, 1)));
        story.good(epoch_stored(3, EpochKind::Accepted, 2));
        story.good(epoch_stored(3, EpochKind::Current, 2));
        story.good(looking(1));
        story.good(logged(2, zxid(1, 1), &first));
        story.good(durable(2, zxid(1, 1)));
        story.good(applied(1, zxid(1, 1)));
        for id in [1, 2] {
            story.good(epoch_stored(id, EpochKind::Accepted, 3));
            story.good(epoch_stored(id, EpochKind::Current, 3));
        }
        story.good(role(1, RoleView::Leading { epoch: 3, serving: true }));
        assert_eq!(story.truth.last(), zxid(1, 1));
        story.good(epoch_stored(3, EpochKind::Accepted, 3));
        story.bad(epoch_stored(3, EpochKind::Current, 3), "server 3 has currentEpoch 3");
    }

    #[test]
    fn forgotten_epochs_are_seen() {
        let mut story = one_committed();
        story.good(epoch_stored(3, EpochKind::Accepted, 5));
        story.bad(started(3, zxid(1, 0)), "(5, 1) on disk and now has (1, 1)");
        let mut story = one_committed();
        story.bad(epoch_stored(3, EpochKind::Current, 2), "above acceptedEpoch 1");
    }

    #[test]
    fn an_ack_in_an_epoch_not_adopted_is_seen() {
        let mut story = one_committed();
        story.bad(Event::Acked { server: server(3), through: zxid(2, 0) }, "currentEpoch 1 on disk");
    }

    #[test]
    fn a_promise_that_is_not_on_disk_is_seen() {
        let mut story = one_committed();
        story.good(Event::Promised { server: server(3), epoch: 1 });
        story.bad(Event::Promised { server: server(3), epoch: 2 }, "acceptedEpoch 1 on disk");
        story.good(epoch_stored(3, EpochKind::Accepted, 2));
        story.good(Event::Promised { server: server(3), epoch: 2 });
    }

    #[test]
    fn an_epoch_joined_against_a_promise_is_seen() {
        let mut story = one_committed();
        story.good(Event::Acked { server: server(3), through: zxid(1, 0) });
        story.good(epoch_stored(3, EpochKind::Accepted, 3));
        // What it has logged it may say, whatever it has promised since.
        story.good(Event::Acked { server: server(2), through: zxid(1, 1) });
        story.bad(Event::Acked { server: server(3), through: zxid(1, 0) }, "joined epoch 1 and has promised 3");
    }

    #[test]
    fn an_epoch_adopted_against_a_promise_is_seen() {
        let mut story = one_committed();
        story.good(epoch_stored(3, EpochKind::Accepted, 3));
        story.bad(epoch_stored(3, EpochKind::Current, 2), "adopted epoch 2 and has promised 3");
    }
}
