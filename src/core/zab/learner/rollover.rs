//! Two things only ringkeeper peers do: counting on in the next epoch without an election, and following the leader's choice
//! of its successor (`docs/decisions/0006`).
//!
//!   NEXTEPOCH -> acceptedEpoch stable -> accepted -> NEXTEPOCHBEGINS -> history stable, currentEpoch stable -> adopted
//!
//! The same promises in the same order as in an election's discovery and synchronisation; only that this server has the
//! leader's history already.

use ringkeeper_storage::probe::{broken, mark};

use super::{Learner, LearnerEvent, Refusal, Stage};
use crate::core::types::{EpochKind, Output, ServerId, Zxid};
use crate::wire::quorum::Packet;

/// How far the next epoch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rollover {
    None,
    /// acceptedEpoch is on its way to disk.
    Promising {
        epoch: u32,
    },
    Promised {
        epoch: u32,
    },
    /// What was received up to here goes to disk, then currentEpoch. What is proposed in the meantime is logged and waits for
    /// its ACK.
    Adopting {
        epoch: u32,
        through: Zxid,
        storing: bool,
    },
}

impl Rollover {
    /// The epoch of the proposals that come now, if it is not that of the leader's beginning any more.
    pub fn begun(self) -> Option<u32> {
        match self {
            Rollover::Adopting { epoch, .. } => Some(epoch),
            _ => None,
        }
    }

    pub fn is_adopting(self) -> bool {
        self.begun().is_some()
    }
}

impl Learner {
    pub(super) fn on_next_epoch(&mut self, epoch: u32, out: &mut Vec<Output>) -> Result<(), Refusal> {
        if !self.leader_is_ringkeeper || epoch <= self.epochs.accepted || self.rollover != Rollover::None {
            return Err(format!(
                "it wants to go on in epoch {epoch} after {}, and {} is promised here",
                self.epoch, self.epochs.accepted
            ));
        }
        self.rollover = Rollover::Promising { epoch };
        if broken("promise the next epoch before it is on disk") {
            self.send(Packet::NextEpochAccepted { epoch }, out);
        }
        out.push(Output::StoreEpoch { kind: EpochKind::Accepted, epoch });
        Ok(())
    }

    pub(super) fn on_next_epoch_begins(&mut self, epoch: u32, out: &mut Vec<Output>) -> Result<(), Refusal> {
        match self.rollover {
            Rollover::Promised { epoch: promised } if promised == epoch => {}
            // Others were a quorum before our own promise was stable.
            Rollover::Promising { epoch: promised } if promised == epoch => {
                mark("learner: the next epoch begins before it is promised here");
            }
            other => return Err(format!("it begins epoch {epoch}, and this server is at {other:?}")),
        }
        self.rollover = Rollover::Adopting { epoch, through: self.history.last(), storing: false };
        self.go_on_rolling_over(out);
        Ok(())
    }

    /// Nothing of an epoch is logged before its promise is stable: no start would understand that. Pings are answered.
    pub(super) fn waits_for_promise(&self) -> bool {
        self.rollover.begun().is_some_and(|epoch| self.epochs.accepted < epoch)
    }

    /// Everything before it goes to disk, then the epoch itself.
    pub(super) fn go_on_rolling_over(&mut self, out: &mut Vec<Output>) {
        let Rollover::Adopting { epoch, through, storing } = &mut self.rollover else { return };
        let epoch = *epoch;
        let is_stable = self.history.durable() >= *through;
        if self.epochs.current < epoch {
            let is_promised = self.epochs.accepted >= epoch;
            if !*storing && is_promised && (is_stable || broken("currentEpoch before the history")) {
                *storing = true;
                out.push(Output::StoreEpoch { kind: EpochKind::Current, epoch });
            }
        } else if is_stable {
            mark("learner: adopted the next epoch without an election");
            self.rollover = Rollover::None;
            self.epoch = epoch;
            self.events.push_back(LearnerEvent::NextEpoch { epoch });
            self.send(Packet::NextEpochAdopted { epoch }, out);
            self.acknowledge(out);
        }
    }

    pub(super) fn on_next_epoch_stored(&mut self, out: &mut Vec<Output>) {
        match self.rollover {
            Rollover::Promising { epoch } if self.epochs.accepted >= epoch => {
                self.rollover = Rollover::Promised { epoch };
                self.send(Packet::NextEpochAccepted { epoch }, out);
            }
            _ => {
                self.go_on_rolling_over(out);
                if !self.waits_for_promise() {
                    self.take_what_waited(out);
                }
            }
        }
    }

    pub(super) fn on_hand_over(&mut self, leader: ServerId, out: &mut Vec<Output>) -> Result<(), Refusal> {
        if !self.leader_is_ringkeeper || !self.configs.committed.is_voter(leader) || leader == self.start.leader {
            return Err(format!("it hands over to server {}, who cannot lead", leader.0));
        }
        mark("learner: the leader hands over");
        self.leave(format!("handed over to server {}", leader.0), out);
        self.stage = Stage::Over;
        self.events.push_back(LearnerEvent::HandedOver { leader });
        Ok(())
    }
}
