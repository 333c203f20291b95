//! Being brought up to the leader's history: DIFF, TRUNC or SNAP, what follows, NEWLEADER, UPTODATE.
//!
//! A Java leader takes nothing but the ACK of NEWLEADER in between: neither pings nor proposals are answered until UPTODATE.
//! All that comes before NEWLEADER is logged and stable before that ACK, committed or not (spec: R8.5), and so is the
//! epoch, in this order. Java: `Learner.syncWithLeader`.

use ringkeeper_storage::probe::{broken, mark};

use super::{Ahead, Learner, LearnerEvent, Refusal, Stage, name_of};
use crate::core::snapshot_check::SnapshotCheck;
use crate::core::types::{EpochKind, LinkMessage, Output, Standing, Zxid};
use crate::core::zab::catch_up::SyncKind;
use crate::core::zab::catch_up::SyncReport;
use crate::wire::quorum::Packet;

/// A snapshot on its way in.
#[derive(Debug)]
pub(super) struct Receiving {
    zxid: Zxid,
    /// From its beginning on; `Output::InstallBegin` is out then.
    check: Option<Box<SnapshotCheck>>,
}

/// How the history comes, or came: for operators.
#[derive(Debug)]
pub(super) struct Sync {
    kind: SyncKind,
    began_us: u64,
    bytes: u64,
    /// None: UPTODATE has not come.
    took_us: Option<u64>,
}

impl Learner {
    pub fn sync(&self) -> Option<SyncReport> {
        self.sync.as_ref().map(|sync| SyncReport {
            kind: sync.kind,
            bytes: sync.bytes,
            took_ms: sync.took_us.map(|us| us / 1000),
        })
    }

    /// From the leader's choice to UPTODATE.
    pub(super) fn count_sync(&mut self, message: &LinkMessage) {
        if let (Stage::Agreed, LinkMessage::Packet(packet)) = (&self.stage, message) {
            let kind = match packet {
                Packet::Trunc { .. } => SyncKind::Trunc,
                Packet::Snap { .. } => SyncKind::Snap,
                _ => SyncKind::Diff,
            };
            self.sync = Some(Sync { kind, began_us: self.heard_us, bytes: 0, took_us: None });
        }
        if let Some(sync) = self.sync.as_mut().filter(|sync| sync.took_us.is_none()) {
            sync.bytes += message.cost_bytes() as u64;
        }
    }

    /// The answer to ACKEPOCH.
    pub(super) fn on_first_of_sync(&mut self, packet: Packet, out: &mut Vec<Output>) -> Result<(), Refusal> {
        let last = self.history.last();
        let goes_on = self.has_history();
        match packet {
            Packet::Diff { .. } if goes_on => self.stage = Stage::Synchronising,
            Packet::Trunc { zxid } if goes_on && zxid == last => self.stage = Stage::Synchronising,
            Packet::Trunc { .. } if goes_on && broken("skip the TRUNC") => self.stage = Stage::Synchronising,
            Packet::Trunc { zxid } if goes_on && zxid < last => {
                mark("learner: TRUNC");
                out.push(Output::Truncate { to: zxid });
                self.begin_reloading(zxid);
            }
            Packet::Snap { zxid } => {
                mark("learner: SNAP");
                self.ahead = if self.leader_is_ringkeeper { Ahead::No } else { Ahead::Beyond(zxid) };
                self.stage = Stage::Receiving(Receiving { zxid, check: None });
            }
            Packet::Diff { .. } | Packet::Trunc { .. } if !goes_on => {
                return Err(format!("{packet:?} to a server that may have lost what it had"));
            }
            Packet::Trunc { zxid } => return Err(format!("TRUNC to {zxid}, and {last} is the newest here")),
            other => return Err(self.stage.refuses(&LinkMessage::Packet(other))),
        }
        Ok(())
    }

    pub(super) fn on_snapshot_part(&mut self, part: LinkMessage, out: &mut Vec<Output>) -> Result<(), Refusal> {
        let Stage::Receiving(Receiving { zxid, check }) = &mut self.stage else { unreachable!("called in this stage") };
        match (check, part) {
            (check @ None, LinkMessage::SnapshotBegin(header)) => {
                if header.zxid != zxid.0 {
                    return Err(format!("a snapshot of {} instead of {zxid}", Zxid(header.zxid)));
                }
                *check = Some(Box::new(SnapshotCheck::begin(&header)?));
                out.push(Output::InstallBegin(header));
            }
            (Some(check), LinkMessage::SnapshotChunk(chunk)) => {
                check.chunk(&chunk)?;
                out.push(Output::InstallChunk(chunk));
            }
            (Some(check), LinkMessage::SnapshotEnd) => {
                check.end()?;
                if broken("skip the SNAP") {
                    out.push(Output::InstallAbandon);
                    self.stage = Stage::Synchronising;
                    return Ok(());
                }
                let zxid = *zxid;
                out.push(Output::InstallFinish);
                self.begin_reloading(zxid);
            }
            (_, other) => return Err(format!("{} in its snapshot", name_of(&other))),
        }
        Ok(())
    }

    /// Unless all of it is here.
    pub(super) fn abandon_snapshot(&mut self, out: &mut Vec<Output>) {
        let Stage::Receiving(Receiving { check: Some(_), .. }) = self.stage else { return };
        mark("learner: a snapshot received in part");
        out.push(Output::InstallAbandon);
    }

    fn begin_reloading(&mut self, last: Zxid) {
        self.stage = Stage::Reloading { last, over: None };
        self.events.push_back(LearnerEvent::Reloading);
    }

    pub(super) fn on_sync(&mut self, packet: Packet, out: &mut Vec<Output>) -> Result<(), Refusal> {
        match (&self.stage, packet) {
            (_, Packet::Proposal { zxid, txn }) => self.on_proposal(zxid, txn),
            (_, Packet::Commit { zxid }) => self.on_commit(zxid).map(drop),
            (_, Packet::Inform { zxid, txn }) => {
                self.on_proposal(zxid, txn)?;
                self.on_commit(zxid).map(drop)
            }
            (_, Packet::CommitAndActivate { zxid, leader }) => self.on_activate(zxid, leader),
            (_, Packet::InformAndActivate { zxid, leader, txn }) => {
                self.on_proposal(zxid, txn)?;
                self.on_activate(zxid, leader)
            }
            (Stage::Synchronising, Packet::NewLeader { zxid, config }) if zxid == self.epoch_start() => {
                // Java: one byte, or none, is none.
                if let Some(text) = config.filter(|text| text.len() > 1) {
                    self.config_follows = true;
                    self.events.push_back(LearnerEvent::ConfigSeen { text });
                }
                self.stage = Stage::Adopting { through: self.history.last(), storing: false };
                self.go_on_adopting(out);
                Ok(())
            }
            (Stage::Adopted, Packet::UpToDate) => {
                self.serve(out);
                Ok(())
            }
            // An answer would end the link: the leader waits for one packet only.
            (_, Packet::Ping { .. }) => {
                mark("learner: a ping in the middle of synchronisation");
                Ok(())
            }
            (stage, other) => Err(stage.refuses(&LinkMessage::Packet(other))),
        }
    }

    /// The whole history of the epoch goes to disk, then the epoch itself, then the ACK.
    pub(super) fn go_on_adopting(&mut self, out: &mut Vec<Output>) {
        let Stage::Adopting { through, storing } = &mut self.stage else { return };
        let epoch = self.epoch;
        let is_stable = self.history.durable() >= *through || broken("ack NEWLEADER before the DIFF is durable");
        // What was lost here is back with the epoch, and not before.
        if self.epochs.current < epoch || self.standing != Standing::Whole {
            if !*storing && (is_stable || broken("currentEpoch before the history")) {
                *storing = true;
                out.push(Output::StoreEpoch { kind: EpochKind::Current, epoch });
            }
        } else if is_stable {
            self.stage = Stage::Adopted;
            self.send(Packet::Ack { zxid: self.epoch_start() }, out);
        }
    }

    fn serve(&mut self, out: &mut Vec<Output>) {
        self.stage = Stage::Serving;
        if let Some(sync) = &mut self.sync {
            sync.took_us = Some(self.heard_us - sync.began_us);
        }
        if let Ahead::Beyond(zxid) = self.ahead {
            let last = self.history.last();
            self.ahead = if last > zxid { Ahead::Through(last) } else { Ahead::No };
        }
        // Once more, as Java does; the leader does not count it.
        self.send(Packet::Ack { zxid: self.epoch_start() }, out);
        if self.config_follows {
            self.events.push_back(LearnerEvent::ConfigOfEpoch);
        }
        self.events.push_back(LearnerEvent::Serving { epoch: self.epoch });
        self.acknowledge(out);
    }

    fn epoch_start(&self) -> Zxid {
        Zxid::new(self.epoch, 0)
    }
}
