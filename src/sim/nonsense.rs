//! A peer that talks nonsense: something comes in on a link that no server in its right mind sends there. Whoever hears it ends
//! the link or passes over it, and nothing else happens.
//!
//! What is said here makes no sense at any time. Lies are another matter: a leader that tells its learner to forget what it has
//! is believed, and no protocol of this kind survives it.

use bytes::Bytes;

use super::chance::Draw;
use super::event::Violation;
use super::faults::Fault;
use super::meeting::link_of;
use super::plan::Emphasis;
use super::world::World;
use crate::core::{Input, LinkMessage, ServerId, Zxid};
use crate::wire::quorum::{LearnerInfo, PROTOCOL_RINGKEEPER, Packet};

/// No session ever gets this number.
const NO_SESSION: i64 = 7;
/// Transactions that nobody proposes in a run.
const FAR: u32 = 1_000_000;

impl World {
    /// False: there is no link on which anybody could hear it.
    pub(super) fn talk_nonsense(&mut self, fault: Fault) -> Result<bool, Violation> {
        let links = self.network.connections(false);
        if links.is_empty() {
            return Ok(false);
        }
        let (mut tcp, side) = (*self.chance.pick(&links), self.chance.below(2) as usize);
        if self.plan.emphasis == Emphasis::Handshakes {
            tcp = *links.last().expect("there are some");
        }
        let Some(party) = self.network.hearer(tcp, side) else { return Ok(false) };
        let server = &self.servers[party];
        let Some(process) = server.process.as_ref().filter(|_| !server.paused) else { return Ok(false) };
        let last = process.node.last_processed();
        let packet = match side {
            0 => self.nonsense_for_a_leader(last),
            // To say that more is committed would be a lie: a learner that is brought up to the history may have applied more before.
            _ => self.nonsense_for_a_learner(last.min(self.properties.truth().last())),
        };
        self.say(fault, format_args!("server {} hears {packet:?}", party + 1));
        self.turn(party, Input::LinkReceived { link: link_of(tcp, 1 - side), message: LinkMessage::Packet(packet) })?;
        Ok(true)
    }

    fn nonsense_for_a_leader(&mut self, last: Zxid) -> Packet {
        let epoch = last.epoch();
        let far = Zxid::new(epoch, last.counter().saturating_add(FAR));
        let stranger = LearnerInfo { server: 99, protocol: PROTOCOL_RINGKEEPER, config_version: 0 };
        match self.chance.below(12) {
            0 => Packet::Ack { zxid: far },
            1 => Packet::Ack { zxid: Zxid::new(epoch + FAR, 0) },
            // The next epoch may be any that is later.
            2 => Packet::FollowerInfo { accepted_epoch: epoch + 1, info: stranger },
            3 => Packet::ObserverInfo { accepted_epoch: 0, info: stranger },
            4 => Packet::Diff { zxid: last },
            5 => Packet::Trunc { zxid: Zxid::ZERO },
            6 => Packet::UpToDate,
            7 => Packet::Commit { zxid: last },
            8 => Packet::NextEpochAccepted { epoch: epoch + FAR },
            9 => Packet::NextEpochAdopted { epoch: epoch + FAR },
            10 => Packet::Ping { zxid: last, touched: Some(vec![(NO_SESSION, 1_000)]) },
            _ => Packet::HandOver { leader: ServerId(99).0 },
        }
    }

    fn nonsense_for_a_learner(&mut self, last: Zxid) -> Packet {
        let epoch = last.epoch();
        let far = Zxid::new(epoch, last.counter().saturating_add(FAR));
        let txn = Bytes::from_static(b"no transaction at all");
        match self.chance.below(12) {
            0 => Packet::Proposal { zxid: far, txn },
            1 | 2 if last.counter() > 0 => Packet::Proposal { zxid: last, txn },
            3 => Packet::Inform { zxid: far, txn },
            4 | 5 if last.counter() > 0 => Packet::Commit { zxid: last },
            6 => Packet::Commit { zxid: far },
            7 if epoch > 0 => Packet::LeaderInfo { epoch: epoch - 1, protocol: PROTOCOL_RINGKEEPER },
            8 => Packet::Revalidated { session: NO_SESSION, valid: true },
            9 => Packet::NextEpochAccepted { epoch },
            10 => Packet::NewLeader { zxid: Zxid::new(epoch + FAR, 0), config: None },
            _ => Packet::Ack { zxid: last },
        }
    }
}
