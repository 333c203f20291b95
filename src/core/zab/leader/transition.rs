//! Ending an epoch in an orderly way: counting on in the next one, or handing over. Both begin by letting everything in flight
//! commit while new writes wait. `docs/decisions/0006-rollover-and-hand-over.md` has the argument why this is safe.
//!
//!   None --> Draining --> Promising --NextEpoch--> Gathering --NextEpochBegins--> Adopting --> None, in the next epoch
//!                    \--> HandingOver --HandOver--> the role is over
//!
//! Among ringkeeper peers only: with others connected the leader goes on until the counter is nearly used up, and hands over.

use ringkeeper_storage::probe::{broken, mark};

use super::{Leader, LeaderEvent, Phase};
use crate::core::types::{EpochKind, LinkId, Now, Output};
use crate::core::zab::ballot::Votes;
use crate::core::zab::learner_handler::{Handler, Stage};
use crate::limits;
use crate::wire::quorum::Packet;

#[derive(Debug)]
pub(super) enum Transition {
    None,
    /// What is in flight commits. Then comes the next epoch.
    Draining {
        until_us: u64,
    },
    /// This server's acceptedEpoch is on its way to the disk.
    Promising {
        epoch: u32,
        until_us: u64,
    },
    /// NextEpoch is out: who has promised?
    Gathering {
        epoch: u32,
        promised: Votes,
        until_us: u64,
    },
    /// NextEpochBegins is out: whose currentEpoch is durable? Our own is asked for when our log is.
    Adopting {
        epoch: u32,
        adopted: Votes,
        own: OwnEpoch,
        until_us: u64,
    },
    /// What is in flight commits, and a voter to hand over to gets all of it.
    HandingOver {
        until_us: u64,
    },
}

/// This server's currentEpoch, which says that it has the whole history of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnEpoch {
    AwaitsLog,
    Storing,
    Stored,
}

impl Transition {
    pub fn is_under_way(&self) -> bool {
        !matches!(self, Transition::None)
    }

    /// The present step must be over by then.
    pub fn until_us(&self) -> Option<u64> {
        match self {
            Transition::None => None,
            Transition::Draining { until_us }
            | Transition::Promising { until_us, .. }
            | Transition::Gathering { until_us, .. }
            | Transition::Adopting { until_us, .. }
            | Transition::HandingOver { until_us } => Some(*until_us),
        }
    }
}

impl Leader {
    /// Lead no longer, for the good of a voter that has everything. No proposals come any more.
    pub fn hand_over(&mut self, now: Now, out: &mut Vec<Output>) {
        self.now_us = now.mono_us;
        match self.phase {
            Phase::Standalone | Phase::Over => {}
            Phase::Broadcasting => self.begin_hand_over(out),
            _ => self.over("asked to hand over before it led".to_owned(), out),
        }
    }

    /// Whether it is time to move on to the next epoch: the counter is far on, or a server has accepted a later epoch and
    /// cannot come back into this one.
    pub(super) fn consider_transition(&mut self, out: &mut Vec<Output>) {
        let counter = self.proposals.proposed().counter();
        let is_behind = self.choice.accepted() > self.epoch;
        let wanted = counter >= self.settings.rollover_at || is_behind;
        if !wanted || self.phase != Phase::Broadcasting || self.transition.is_under_way() {
            return;
        }
        let left = self.settings.counter_end.saturating_sub(self.settings.rollover_at);
        let speaks = |handler: &Handler| handler.id.is_none() || handler.speaks_ringkeeper();
        let all_speak = self.handlers.values().all(speaks);
        let possible = self.choice.next() < limits::EPOCH_LAST && all_speak;
        if possible && self.proposals.ballot().is_quorum(self.in_step()) {
            // A learner that is just being synchronised would have to begin again, and so would one still moving to this epoch.
            let urgent = counter >= self.settings.rollover_at + left / 2;
            let between = |handler: &&Handler| handler.is_between();
            let between: Vec<LinkId> = self.handlers.values().filter(between).map(|handler| handler.link).collect();
            if !urgent && !between.is_empty() {
                return mark("leader: the next epoch waits for a learner");
            }
            for link in between {
                self.close(link, "the epoch changes again, and it is not in this one yet", out);
            }
            mark("leader: an epoch drains");
            self.transition = Transition::Draining { until_us: self.step_until_us() };
            self.carry_on_transition(out);
        } else if counter >= self.settings.counter_end.saturating_sub(left / 8) {
            mark("leader: the counter is nearly used up");
            self.begin_hand_over(out);
        } else if is_behind && !all_speak {
            // Java's leader refuses that server for good (D-068). Whoever leads next may lead everybody.
            mark("leader: gives way to a later epoch");
            self.begin_hand_over(out);
        }
    }

    /// Something is committed, or durable.
    pub(super) fn carry_on_transition(&mut self, out: &mut Vec<Output>) {
        let until_us = self.step_until_us();
        match &mut self.transition {
            Transition::None | Transition::Promising { .. } | Transition::Gathering { .. } => {}
            Transition::Draining { .. } => {
                if self.proposals.is_drained() || broken("leader: the next epoch does not wait for what is in flight") {
                    let epoch = self.choice.next();
                    self.transition = Transition::Promising { epoch, until_us };
                    out.push(Output::StoreEpoch { kind: EpochKind::Accepted, epoch });
                }
            }
            Transition::Adopting { epoch, own, .. } => {
                if *own == OwnEpoch::AwaitsLog && self.proposals.durable() == self.proposals.proposed() {
                    *own = OwnEpoch::Storing;
                    out.push(Output::StoreEpoch { kind: EpochKind::Current, epoch: *epoch });
                }
            }
            Transition::HandingOver { .. } => self.hand_over_when_drained(out),
        }
    }

    pub(super) fn on_transition_stored(&mut self, kind: EpochKind, stored: u32, out: &mut Vec<Output>) {
        let until_us = self.step_until_us();
        match (&mut self.transition, kind) {
            (Transition::Promising { epoch, .. }, EpochKind::Accepted) if *epoch == stored => {
                self.choice.connected(Votes::NONE, stored);
                let promised = self.own_vote;
                self.transition = Transition::Gathering { epoch: stored, promised, until_us };
                self.tell_in_step(|| Packet::NextEpoch { epoch: stored }, out);
                self.begin_next_epoch(out);
            }
            (Transition::Adopting { epoch, adopted, own, .. }, EpochKind::Current) if *epoch == stored => {
                adopted.add(self.own_vote);
                *own = OwnEpoch::Stored;
                self.count_on(out);
            }
            _ => {}
        }
    }

    pub(super) fn on_next_epoch_accepted(&mut self, link: LinkId, accepted: u32, out: &mut Vec<Output>) {
        let vote = self.handlers[&link].vote;
        match &mut self.transition {
            Transition::Gathering { epoch, promised, .. } if *epoch == accepted => {
                promised.add(vote);
                self.begin_next_epoch(out);
            }
            // Later than the quorum, or than the decision to hand over.
            _ if accepted <= self.choice.accepted() => {}
            _ => self.close(link, &format!("it promised epoch {accepted}, which nobody asked for"), out),
        }
    }

    pub(super) fn on_next_epoch_adopted(&mut self, link: LinkId, adopted_epoch: u32, out: &mut Vec<Output>) {
        let handler = self.handlers.get_mut(&link).expect("it has just said so");
        let vote = handler.vote;
        match &mut self.transition {
            Transition::Adopting { epoch, adopted, .. } if *epoch == adopted_epoch => {
                handler.adopts = false;
                adopted.add(vote);
                self.count_on(out);
            }
            // Later than the quorum.
            _ if adopted_epoch == self.epoch => {
                handler.adopts = false;
                self.consider_transition(out);
            }
            _ if adopted_epoch <= self.choice.accepted() => {}
            _ => self.close(link, &format!("it is in epoch {adopted_epoch}, which has not begun"), out),
        }
    }

    pub(super) fn on_transition_tick(&mut self, out: &mut Vec<Output>) {
        if self.transition.until_us().is_some_and(|until_us| self.now_us >= until_us) {
            mark("leader: a transition takes too long");
            let why = match self.transition {
                Transition::HandingOver { .. } => "no voter that could take over had everything in time",
                _ => "the next epoch did not come about in time",
            };
            return self.over(why.to_owned(), out);
        }
        self.consider_transition(out);
    }

    /// A quorum has promised: no other leader can have this epoch.
    fn begin_next_epoch(&mut self, out: &mut Vec<Output>) {
        let Transition::Gathering { epoch, promised, .. } = self.transition else {
            return;
        };
        let skip = broken("leader: begin the next epoch without a quorum's promise");
        if !self.proposals.ballot().is_quorum(promised) && !skip {
            return;
        }
        self.tell_in_step(|| Packet::NextEpochBegins { epoch }, out);
        self.handlers.values_mut().filter(|handler| handler.is_in_step()).for_each(|handler| handler.adopts = true);
        let until_us = self.step_until_us();
        self.transition = Transition::Adopting { epoch, adopted: Votes::NONE, own: OwnEpoch::AwaitsLog, until_us };
        self.carry_on_transition(out);
    }

    /// A quorum has the next epoch on disk: it goes on there.
    fn count_on(&mut self, out: &mut Vec<Output>) {
        let Transition::Adopting { epoch, adopted, own: OwnEpoch::Stored, .. } = self.transition else {
            return;
        };
        let skip = broken("leader: propose in the next epoch before a quorum is in it");
        if !self.proposals.ballot().is_quorum(adopted) && !skip {
            return;
        }
        mark("leader: an epoch rolled over");
        self.epoch = epoch;
        self.led.push(epoch);
        self.proposals.begin_epoch(epoch);
        self.transition = Transition::None;
        self.events.push_back(LeaderEvent::NextEpoch { epoch });
        self.tell_epoch(out);
    }

    fn begin_hand_over(&mut self, out: &mut Vec<Output>) {
        match self.transition {
            Transition::HandingOver { .. } => {}
            // Nothing has been promised yet, or whatever has been makes no difference to who comes next.
            _ => {
                mark("leader: hands over");
                self.transition = Transition::HandingOver { until_us: self.step_until_us() };
                self.carry_on_transition(out);
            }
        }
    }

    fn hand_over_when_drained(&mut self, out: &mut Vec<Output>) {
        let ballot = self.proposals.ballot();
        let may_lead =
            |handler: &&Handler| handler.is_in_step() && handler.speaks_ringkeeper() && ballot.counts(handler.vote);
        let Some(best) = self.handlers.values().filter(may_lead).max_by_key(|handler| handler.has) else {
            return self.over("it was asked to hand over, and no voter follows that can take over".to_owned(), out);
        };
        if !self.proposals.is_drained() || best.has < self.last_txn {
            return;
        }
        let leader = best.id.expect("a voter has a name");
        // Who leads without an election must not wait for those who hold one: Java servers, and whoever is not here.
        let hears = self.handlers.values().filter(|handler| handler.is_in_step() && handler.speaks_ringkeeper());
        if !ballot.is_quorum(hears.fold(Votes::NONE, |votes, handler| votes.with(handler.vote))) {
            mark("leader: too few would hear of its successor");
            return self
                .over("it was asked to hand over, and those who would hear to whom are no quorum".to_owned(), out);
        }
        self.tell_in_step(|| Packet::HandOver { leader: leader.0 }, out);
        self.end(out);
        self.events.push_back(LeaderEvent::HandedOver { leader });
    }

    /// Those that are in the epoch with everything there is, this server included.
    fn in_step(&self) -> Votes {
        let in_step = self.handlers.values().filter(|handler| handler.is_in_step());
        in_step.fold(self.own_vote, |votes, handler| votes.with(handler.vote))
    }

    pub(super) fn tell_in_step(&mut self, packet: impl Fn() -> Packet, out: &mut Vec<Output>) {
        let knows = |handler: &&mut Handler| matches!(handler.stage, Stage::InStep) && handler.speaks_ringkeeper();
        for handler in self.handlers.values_mut().filter(knows) {
            handler.forward(packet(), out);
        }
    }

    /// Every step of a transition, during which writes wait, has as long as an ack may take.
    fn step_until_us(&self) -> u64 {
        self.now_us + self.allowance.sync_us
    }
}
