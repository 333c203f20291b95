//! Leader completeness: a leader that is established has every transaction committed in earlier epochs, a quorum has adopted its
//! epoch, and nobody else leads it.
//!
//! Before it says so it has a quorum's word that nobody there is ahead of it: of servers that have promised its epoch, of which
//! none may have lost something. Who has the newest epoch and transaction of a quorum has everything that is committed.
//!
//! Not those of later epochs: one whose process stood still may find its quorum's word for its epoch when others have long gone on
//! to the next. It serves what it has until it notices that nobody follows, as any deposed leader does, and commits nothing.

use super::Property;
use super::truth::{Map, Truth};
use crate::core::{EpochKind, RoleView, ServerId, Standing, Zxid};
use crate::sim::event::{Event, Moment};

#[derive(Debug, Default)]
pub struct LeaderCompleteness {
    leaders: Map<u32, ServerId>,
    /// The last epochs that each has ever promised and adopted, whatever became of its disk.
    epochs: Map<ServerId, (u32, u32)>,
    /// What each had when it promised an epoch: its epoch and its newest transaction; None if it may have lost something.
    promised: Map<(u32, ServerId), Option<(u32, Zxid)>>,
    /// Who had promised an epoch, and had not more than the server that took it for its own: itself too. Looked at when it
    /// serves: which configuration decides may come out with this very epoch.
    elected: Map<(u32, ServerId), Vec<ServerId>>,
    /// The epoch that each has adopted.
    current: Map<ServerId, u32>,
    /// The last committed zxid before the latest event.
    committed: Zxid,
}

impl LeaderCompleteness {
    fn note(&mut self, event: &Event) {
        let (id, promised, adopted) = match event {
            Event::Started { server, epochs, .. } => (*server, epochs.accepted, epochs.current),
            Event::EpochStored { server, kind: EpochKind::Accepted, epoch } => (*server, *epoch, 0),
            Event::EpochStored { server, kind: EpochKind::Current, epoch } => (*server, 0, *epoch),
            _ => return,
        };
        let ever = self.epochs.entry(id).or_default();
        *ever = (ever.0.max(promised), ever.1.max(adopted));
    }

    fn note_promise(&mut self, event: &Event, truth: &Truth) {
        match event {
            Event::Started { server, epochs, .. } => drop(self.current.insert(*server, epochs.current)),
            Event::EpochStored { server: id, kind: EpochKind::Accepted, epoch } => {
                let has = truth.server(*id).filter(|server| server.standing != Standing::Lost);
                self.promised.insert((*epoch, *id), has.map(|server| (server.current_epoch, server.end())));
            }
            Event::EpochStored { server: id, kind: EpochKind::Current, epoch } => {
                let before = self.current.insert(*id, *epoch).unwrap_or(0);
                let Some(server) = truth.server(*id).filter(|server| server.is_leading() && *epoch > 0) else {
                    return;
                };
                let ours = (before, server.end());
                let behind = self
                    .promised
                    .iter()
                    .filter(|((promised, _), has)| *promised == *epoch && has.is_some_and(|has| has <= ours));
                let electors = behind.map(|((_, other), _)| *other).chain([*id]).collect();
                self.elected.insert((*epoch, *id), electors);
            }
            _ => {}
        }
    }

    /// A server alone leads without ado.
    fn is_quorum(&self, truth: &Truth, epoch: u32, has: impl Fn((u32, u32)) -> bool) -> bool {
        decides(truth, epoch, |id| self.epochs.get(&id).is_some_and(|epochs| has(*epochs)))
    }
}

fn decides(truth: &Truth, epoch: u32, in_favour: impl Fn(ServerId) -> bool) -> bool {
    let mut deciding = truth.deciding(Zxid::new(epoch, 0));
    deciding.all(|membership| membership.voters().count() < 2 || membership.has_quorum(&in_favour))
}

impl Property for LeaderCompleteness {
    fn name(&self) -> &'static str {
        "leader_completeness"
    }

    fn observe(&mut self, _at: Moment, event: &Event, truth: &Truth) -> Result<(), String> {
        self.note(event);
        self.note_promise(event, truth);
        if let Event::EpochBegins { server, epoch } = event
            && !self.is_quorum(truth, *epoch, |(promised, _)| promised >= *epoch)
        {
            return Err(format!("server {} begins epoch {epoch}, which no quorum has promised", server.0));
        }
        if let Event::Role { server: id, role: RoleView::Leading { epoch, serving: true } } = event {
            let known = *self.leaders.entry(*epoch).or_insert(*id);
            if known != *id {
                return Err(format!("servers {} and {} both lead epoch {epoch}", known.0, id.0));
            }
            // Who is not there has moved on to the epoch with all who follow it, and was not elected.
            if let Some(electors) = self.elected.remove(&(*epoch, *id))
                && !decides(truth, *epoch, |other| electors.contains(&other))
            {
                return Err(format!(
                    "server {} leads epoch {epoch}, and no quorum that was not ahead of it had promised that epoch",
                    id.0
                ));
            }
            let Some(server) = truth.server(*id) else { return Ok(()) };
            let due = match self.committed.epoch() < *epoch {
                true => self.committed,
                false => truth.at_or_before(Zxid::new(*epoch, 0)).map_or(Zxid::ZERO, |earlier| earlier.zxid),
            };
            if server.applied < due {
                let (id, has, committed) = (id.0, server.applied, due);
                return Err(format!(
                    "server {id} leads epoch {epoch} with {has} applied, and {committed} is committed"
                ));
            }
            if server.current_epoch != *epoch {
                let stored = server.current_epoch;
                return Err(format!("server {} leads epoch {epoch} and has stored {stored}", id.0));
            }
            if !self.is_quorum(truth, *epoch, |(_, adopted)| adopted >= *epoch) {
                return Err(format!("server {} leads epoch {epoch}, which no quorum has adopted", id.0));
            }
        }
        self.committed = truth.last();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn one_committed() -> Story<LeaderCompleteness> {
        let mut story = Story::begun();
        story.commit(zxid(1, 1), &create(zxid(1, 1), 1, "/a", 1));
        story
    }

    #[test]
    fn one_who_has_everything_may_lead() {
        let mut story = one_committed();
        story.good(applied(2, zxid(1, 1)));
        story.leads(2, 2);
    }

    #[test]
    fn one_who_lacks_a_committed_transaction_is_seen() {
        let mut story = one_committed();
        story.good(epoch_stored(3, EpochKind::Current, 2));
        story.bad(role(3, RoleView::Leading { epoch: 2, serving: true }), "0x100000001 is committed");
    }

    #[test]
    fn one_who_learns_late_that_it_leads_owes_nothing_of_later_epochs() {
        let mut story = one_committed();
        story.leads(1, 3);
        story.commit(zxid(3, 1), &create(zxid(3, 1), 2, "/b", 1));
        story.good(epoch_stored(2, EpochKind::Current, 2));
        let leads = role(2, RoleView::Leading { epoch: 2, serving: true });
        story.bad(leads.clone(), "0x100000001 is committed");
        story.good(looking(2));
        story.good(applied(2, zxid(1, 1)));
        story.good(leads);
    }

    #[test]
    fn two_leaders_of_one_epoch_are_seen() {
        let mut story = one_committed();
        story.good(applied(2, zxid(1, 1)));
        story.bad(role(2, RoleView::Leading { epoch: 1, serving: true }), "both lead epoch 1");
    }

    #[test]
    fn a_leader_that_has_not_stored_its_epoch_is_seen() {
        let mut story = one_committed();
        story.good(applied(2, zxid(1, 1)));
        story.bad(role(2, RoleView::Leading { epoch: 2, serving: true }), "has stored 1");
    }

    #[test]
    fn an_epoch_without_a_quorum_is_seen() {
        let mut story = one_committed();
        story.bad(Event::EpochBegins { server: server(1), epoch: 2 }, "no quorum has promised");
        story.good(epoch_stored(1, EpochKind::Accepted, 2));
        story.bad(Event::EpochBegins { server: server(1), epoch: 2 }, "no quorum has promised");
        story.good(epoch_stored(2, EpochKind::Accepted, 2));
        story.good(Event::EpochBegins { server: server(1), epoch: 2 });
        story.good(epoch_stored(1, EpochKind::Current, 2));
        story.bad(role(1, RoleView::Leading { epoch: 2, serving: true }), "no quorum has adopted");
        story.good(epoch_stored(2, EpochKind::Current, 2));
        story.good(role(1, RoleView::Leading { epoch: 2, serving: true }));
    }

    #[test]
    fn a_leader_elected_by_those_who_have_more_is_seen() {
        let mut story = one_committed();
        story.good(role(3, RoleView::Leading { epoch: 2, serving: false }));
        for id in [2, 3] {
            story.good(epoch_stored(id, EpochKind::Accepted, 2));
        }
        story.good(epoch_stored(3, EpochKind::Current, 2));
        story.bad(role(3, RoleView::Leading { epoch: 2, serving: true }), "no quorum that was not ahead of it");
        let mut story = one_committed();
        story.good(role(2, RoleView::Leading { epoch: 2, serving: false }));
        for id in [2, 3] {
            story.good(epoch_stored(id, EpochKind::Accepted, 2));
        }
        for id in [2, 3] {
            story.good(epoch_stored(id, EpochKind::Current, 2));
        }
        story.good(applied(2, zxid(1, 1)));
        story.good(role(2, RoleView::Leading { epoch: 2, serving: true }));
    }

    #[test]
    fn a_leader_elected_by_one_who_may_have_lost_something_is_seen() {
        let mut story = one_committed();
        let Event::Started { server, last, digest, epochs, .. } = started(3, zxid(1, 0)) else { unreachable!() };
        story.good(Event::Started { server, last, digest, epochs, standing: Standing::Lost });
        story.good(role(2, RoleView::Leading { epoch: 2, serving: false }));
        for id in [2, 3] {
            story.good(epoch_stored(id, EpochKind::Accepted, 2));
        }
        story.good(epoch_stored(2, EpochKind::Current, 2));
        story.bad(role(2, RoleView::Leading { epoch: 2, serving: true }), "no quorum that was not ahead of it");
    }
}
