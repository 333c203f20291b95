//! A learner and a scripted leader, disk and clock. Each line of a dialogue is what the learner hears and, behind `=>`, what
//! it does then. Whatever the dialogue, [`Rig`] checks the promises of the module after each line.

use std::collections::BTreeSet;

use bytes::Bytes;
use ringkeeper_storage::{SnapshotChunk, SnapshotHeader};

use super::super::*;
use crate::core::tree::{DataTree, TreeOptions};
use crate::wire::quorum::PROTOCOL_JAVA;

pub(super) const LINK: LinkId = LinkId(1);

pub(super) fn zxid_of(text: &str) -> Zxid {
    let (epoch, counter) = text.split_once(':').expect("epoch:counter");
    Zxid::new(epoch.parse().unwrap(), counter.parse().unwrap())
}

pub(super) fn text_of(zxid: Zxid) -> String {
    format!("{}:{}", zxid.epoch(), zxid.counter())
}

pub(super) fn snapshot(zxid: Zxid) -> (SnapshotHeader, Vec<SnapshotChunk>) {
    let mut tree = DataTree::new(TreeOptions::default());
    let (walk, mut header) = tree.begin_snapshot();
    header.zxid = zxid.0;
    (header, std::iter::from_fn(|| tree.snapshot_slice(walk, 1)).collect())
}

/// Sid 1 with epochs (1, 1) and 1:5 on disk, following 3 of voters 1 to 3.
pub(super) fn start() -> LearnerStart {
    LearnerStart {
        id: ServerId(1),
        leader: ServerId(3),
        via: None,
        designated: false,
        observer: false,
        epochs: Epochs { accepted: 1, current: 1 },
        last: Zxid::new(1, 5),
        standing: Standing::Whole,
        founds: false,
    }
}

pub(super) struct Rig {
    pub(super) learner: Learner,
    pub(super) now: Now,
    /// The disk: what was given to the log, how far it is stable, the epochs that are.
    pub(super) logged: BTreeSet<Zxid>,
    pub(super) durable: Zxid,
    pub(super) epochs: Epochs,
    pub(super) reloading: bool,
    pub(super) committed: Zxid,
    /// The log's end when its epoch was to be joined.
    pub(super) initial: Zxid,
    pub(super) over: bool,
}

impl Rig {
    pub(super) fn new(start: LearnerStart) -> Rig {
        let mut out = Vec::new();
        let configs = Configurations::settled(crate::core::zab::membership::Membership::of(3, 1));
        let settings = Ensemble { tick_ms: 1000, learner_queue_max_bytes: 4096, ..Ensemble::default() };
        let now = Now::default();
        let learner = Learner::new(now, start, &settings, &configs, &mut out);
        assert!(matches!(out[..], [Output::ConnectToMaster { master: ServerId(3), limit_ms: 10_000 }]));
        let logged = BTreeSet::from([start.last]);
        let (durable, epochs, committed) = (start.last, start.epochs, start.last);
        Rig { learner, now, logged, durable, epochs, reloading: false, committed, initial: start.last, over: false }
    }

    /// What the learner does about it, each thing checked against what it has promised.
    pub(super) fn hear(&mut self, words: &str) -> String {
        let mut out = Vec::new();
        let (now, learner) = (self.now, &mut self.learner);
        let (word, rest) = words.split_once(' ').unwrap_or((words, ""));
        let zxid = || zxid_of(rest);
        let number = || rest.parse::<u32>().expect("a number");
        let packet = match word {
            "connected" => {
                learner.on_connected(now, LINK, &mut out);
                None
            }
            "unreachable" => {
                learner.on_unreachable();
                None
            }
            "closed" => {
                learner.on_closed(now, LINK, &mut out);
                None
            }
            "accepted" => {
                self.epochs.accepted = number();
                learner.on_epoch_stored(now, EpochKind::Accepted, number(), &mut out);
                None
            }
            "current" => {
                self.epochs.current = number();
                learner.on_epoch_stored(now, EpochKind::Current, number(), &mut out);
                None
            }
            "durable" => {
                self.durable = zxid();
                learner.on_durable(zxid(), &mut out);
                None
            }
            "reloaded" => {
                assert!(std::mem::take(&mut self.reloading), "nothing was to be reloaded");
                (self.durable, self.committed, self.initial) = (zxid(), zxid(), zxid());
                self.logged = BTreeSet::from([zxid()]);
                learner.on_reloaded(now, zxid(), Standing::Whole, None, &mut out);
                None
            }
            "lost" => {
                self.reloading = false;
                (self.durable, self.committed) = (Zxid::ZERO, Zxid::ZERO);
                self.logged = BTreeSet::from([Zxid::ZERO]);
                learner.on_reloaded(now, Zxid::ZERO, Standing::Lost, None, &mut out);
                None
            }
            "after_ms" => {
                self.now.mono_us += u64::from(number()) * 1000;
                learner.on_tick(self.now, &mut out);
                None
            }
            "LEADERINFO" => Some(Packet::LeaderInfo { epoch: number(), protocol: PROTOCOL_RINGKEEPER }),
            "JAVALEADERINFO" => Some(Packet::LeaderInfo { epoch: number(), protocol: PROTOCOL_JAVA }),
            "DIFF" => Some(Packet::Diff { zxid: zxid() }),
            "TRUNC" => Some(Packet::Trunc { zxid: zxid() }),
            "SNAP" => Some(Packet::Snap { zxid: zxid() }),
            "P" => Some(Packet::Proposal { zxid: zxid(), txn: Bytes::from_static(b"what it is does not matter here") }),
            "C" => Some(Packet::Commit { zxid: zxid() }),
            "INFORM" => {
                Some(Packet::Inform { zxid: zxid(), txn: Bytes::from_static(b"what it is does not matter here") })
            }
            "NEWLEADER" => Some(Packet::NewLeader { zxid: Zxid::new(number(), 0), config: None }),
            "NEWLEADERWITH" => {
                let config = Some(Bytes::from_static(b"server.3=h:1:2"));
                Some(Packet::NewLeader { zxid: Zxid::new(number(), 0), config })
            }
            "UPTODATE" => Some(Packet::UpToDate),
            "PING" => Some(Packet::Ping { zxid: zxid(), touched: None }),
            "SYNC" => Some(Packet::Sync),
            "REVALIDATED" => Some(Packet::Revalidated { session: number().into(), valid: true }),
            "ACTIVATE" => Some(Packet::CommitAndActivate { zxid: zxid(), leader: 3 }),
            "INFORMACTIVATE" => {
                let txn = Bytes::from_static(b"what it is does not matter here");
                Some(Packet::InformAndActivate { zxid: zxid(), leader: 3, txn })
            }
            "NEXTEPOCH" => Some(Packet::NextEpoch { epoch: number() }),
            "NEXTEPOCHBEGINS" => Some(Packet::NextEpochBegins { epoch: number() }),
            "HANDOVER" => Some(Packet::HandOver { leader: number().into() }),
            "stream" => {
                let (header, chunks) = snapshot(zxid());
                let chunks = chunks.into_iter().map(LinkMessage::SnapshotChunk);
                let begin = LinkMessage::SnapshotBegin(Box::new(header));
                for part in std::iter::once(begin).chain(chunks).chain([LinkMessage::SnapshotEnd]) {
                    learner.on_message(now, LINK, part, &mut out);
                }
                None
            }
            "begin" => {
                learner.on_message(now, LINK, LinkMessage::SnapshotBegin(Box::new(snapshot(zxid()).0)), &mut out);
                None
            }
            "chunk" => {
                let chunk = snapshot(Zxid::ZERO).1.swap_remove(number() as usize);
                learner.on_message(now, LINK, LinkMessage::SnapshotChunk(chunk), &mut out);
                None
            }
            "end" => {
                learner.on_message(now, LINK, LinkMessage::SnapshotEnd, &mut out);
                None
            }
            other => panic!("no such word: {other}"),
        };
        if let "NEWLEADER" | "NEXTEPOCHBEGINS" = word {
            self.initial = *self.logged.last().unwrap();
        }
        if let Some(packet) = packet {
            self.learner.on_message(self.now, LINK, LinkMessage::Packet(packet), &mut out);
        }
        self.told(out)
    }

    pub(super) fn is_serving(&self) -> bool {
        matches!(self.learner.stage, Stage::Serving)
    }

    pub(super) fn told(&mut self, out: Vec<Output>) -> String {
        let mut lines = Vec::new();
        // As the node does it: events first.
        while let Some(event) = self.learner.next_event() {
            lines.push(self.event(event));
        }
        for output in out {
            lines.push(self.output(output));
        }
        lines.dedup_by(|a, b| a == "install chunk" && b == "install chunk");
        lines.join(", ")
    }

    fn event(&mut self, event: LearnerEvent) -> String {
        assert!(!self.over, "{event:?} after the end");
        assert!(!self.reloading, "{event:?} while the disk is replaced");
        match event {
            LearnerEvent::Log { zxid, .. } => {
                assert!(zxid > *self.logged.last().unwrap(), "{zxid} is not the next for the log");
                assert!(zxid.epoch() <= self.epochs.accepted, "{zxid} is logged before its epoch is promised");
                self.logged.insert(zxid);
                format!("log {}", text_of(zxid))
            }
            LearnerEvent::Commit { through } => {
                assert!(self.logged.contains(&through) && through > self.committed, "{through} cannot be committed");
                self.committed = through;
                format!("commit {}", text_of(through))
            }
            LearnerEvent::Reloading => {
                self.reloading = true;
                "reloading".into()
            }
            LearnerEvent::Serving { epoch } => format!("serving {epoch}"),
            LearnerEvent::Ping { zxid } => format!("ping {}", text_of(zxid)),
            LearnerEvent::Revalidated { session, valid } => format!("revalidated {session} {valid}"),
            LearnerEvent::Synced => "synced".into(),
            LearnerEvent::NextEpoch { epoch } => {
                assert_eq!(self.epochs, Epochs { accepted: epoch, current: epoch });
                format!("next epoch {epoch}")
            }
            LearnerEvent::HandedOver { leader } => {
                self.over = true;
                format!("handed over to {}", leader.0)
            }
            LearnerEvent::ConfigSeen { text } => format!("configuration of {} bytes", text.len()),
            LearnerEvent::ConfigCommitted { zxid, leader } => {
                format!("activate {}, led by {}", text_of(zxid), leader.0)
            }
            LearnerEvent::ConfigOfEpoch => "activate that of the epoch".into(),
            LearnerEvent::Over { why } => {
                self.over = true;
                format!("over: {why}")
            }
        }
    }

    fn output(&mut self, output: Output) -> String {
        match output {
            Output::LinkSend { link: LINK, message: LinkMessage::Packet(packet) } => {
                format!("send {}", self.packet(packet))
            }
            Output::LinkClose { .. } => "close".into(),
            Output::ForgetMaster => "forget".into(),
            Output::StoreEpoch { kind: EpochKind::Accepted, epoch } => format!("store accepted {epoch}"),
            Output::StoreEpoch { kind: EpochKind::Current, epoch } => {
                assert!(epoch <= self.epochs.accepted, "an epoch joined that was not promised");
                assert!(self.durable >= self.initial, "joined before its history is stable");
                format!("store current {epoch}")
            }
            Output::ConnectToMaster { master, limit_ms } => format!("call {} for {limit_ms} ms", master.0),
            Output::Truncate { to } => format!("truncate {}", text_of(to)),
            Output::InstallBegin(header) => format!("install {}", text_of(Zxid(header.zxid))),
            Output::InstallChunk(_) => "install chunk".into(),
            Output::InstallFinish => "install finish".into(),
            Output::InstallAbandon => "install abandon".into(),
            other => panic!("{other:?}"),
        }
    }

    fn packet(&self, packet: Packet) -> String {
        match packet {
            Packet::FollowerInfo { accepted_epoch, .. } => format!("FOLLOWERINFO {accepted_epoch}"),
            Packet::ObserverInfo { accepted_epoch, .. } => format!("OBSERVERINFO {accepted_epoch}"),
            Packet::AckEpoch { last, current_epoch } => {
                let last = last.map_or("-".into(), text_of);
                let current = current_epoch.map_or("-".into(), |epoch| epoch.to_string());
                format!("ACKEPOCH {last} {current}")
            }
            Packet::Ack { zxid } if zxid.counter() == 0 => {
                assert_eq!(self.epochs.current, zxid.epoch(), "acknowledged an epoch before it is joined on disk");
                format!("ACK {}", text_of(zxid))
            }
            Packet::Ack { zxid } => {
                assert!(
                    zxid <= self.durable && self.logged.contains(&zxid),
                    "acknowledged {zxid}, which is not stable"
                );
                format!("ACK {}", text_of(zxid))
            }
            Packet::Ping { zxid, touched } => format!("PING {} {touched:?}", text_of(zxid)),
            Packet::Request(request) => format!("REQUEST {}", request.opcode),
            Packet::Revalidate { session, timeout_ms } => format!("REVALIDATE {session} {timeout_ms}"),
            Packet::NextEpochAccepted { epoch } => {
                assert!(self.epochs.accepted >= epoch, "an epoch promised that is not on disk");
                format!("ACCEPTED {epoch}")
            }
            Packet::NextEpochAdopted { epoch } => {
                assert_eq!(self.epochs.current, epoch, "an epoch adopted that is not on disk");
                format!("ADOPTED {epoch}")
            }
            other => panic!("a learner does not say {other:?}"),
        }
    }
}

/// Runs the lines of a dialogue.
pub(super) fn dialogue_from(start: LearnerStart, lines: &str) -> Rig {
    let mut rig = Rig::new(start);
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (heard, expected) = line.split_once("=>").expect("heard => done");
        assert_eq!(rig.hear(heard.trim()), expected.trim(), "in the line {line:?} of\n{lines}");
    }
    rig
}

pub(super) fn dialogue(lines: &str) -> Rig {
    dialogue_from(start(), lines)
}

/// The same, from the state in which proposals 1:6 and so on come.
pub(super) fn synchronising(lines: &str) -> Rig {
    const AGREED: &str = "
        connected     => send FOLLOWERINFO 1
        LEADERINFO 2  => store accepted 2
        accepted 2    => send ACKEPOCH 1:5 1
        DIFF 1:9      =>
    ";
    dialogue(&format!("{AGREED}{lines}"))
}

/// A Java leader's, in the epoch that this server is in.
pub(super) fn serving_a_java_leader(lines: &str) -> Rig {
    const SERVING: &str = "
        connected        => send FOLLOWERINFO 1
        JAVALEADERINFO 1 => send ACKEPOCH 1:5 -
        DIFF 1:5         =>
        NEWLEADER 1      => send ACK 1:0
        UPTODATE         => serving 1, send ACK 1:0
    ";
    dialogue(&format!("{SERVING}{lines}"))
}

/// The same, serving in epoch 2.
pub(super) fn serving(lines: &str) -> Rig {
    const SERVING: &str = "
        NEWLEADER 2 => store current 2
        current 2   => send ACK 2:0
        UPTODATE    => serving 2, send ACK 2:0
    ";
    synchronising(&format!("{SERVING}{lines}"))
}
