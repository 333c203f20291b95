//! Peers that make no sense: their link ends, nothing else does. Then everything at once, at random: nothing is committed that a
//! quorum has not acknowledged, no link is told anything out of order, and nobody panics.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::scene::{Scene, TICK_US, request, settings, txn, z};
use crate::core::settings::Ensemble;
use crate::core::types::{EpochKind, Epochs, LinkId, LinkMessage, Now, Output, ServerId, Zxid};
use crate::core::zab::leader::{Leader, LeaderEvent, LeaderStart, SyncView};
use crate::core::zab::membership::{Configurations, Membership};
use crate::core::zab::window::Window;
use crate::wire::quorum::{LearnerInfo, PROTOCOL_JAVA, PROTOCOL_RINGKEEPER, Packet};

fn info(server: i64) -> LearnerInfo {
    LearnerInfo { server, protocol: PROTOCOL_JAVA, config_version: 0 }
}

#[test]
fn an_introduction_must_make_sense() {
    let refused = |accepted_epoch, info| {
        let mut scene = Scene::leading();
        scene.connects(9);
        let told = scene.says(9, Packet::FollowerInfo { accepted_epoch, info });
        assert_eq!(told.last().unwrap(), "! 9 is gone", "{told:?}");
        assert!(scene.leader.may_propose());
        told[0].clone()
    };
    assert_eq!(refused(5, info(1)), "9x it says it is server 1, and so is this one: give each its own `myid`");
    assert!(refused(u32::MAX, info(3)).contains("the last there is"));
    assert!(refused(i32::MAX as u32, info(3)).contains("the last there is"));
    assert!(refused(5, LearnerInfo { protocol: 1, ..info(3) }).contains("speaks protocol 0x1"));
    assert!(refused(5, LearnerInfo { config_version: u64::MAX, ..info(3) }).contains("later than 0 here"));
}

#[test]
fn a_server_that_is_back_takes_the_place_of_its_old_link() {
    let mut scene = Scene::leading();
    scene.connects(22);
    let told = scene.says(22, Packet::FollowerInfo { accepted_epoch: 6, info: info(2) });
    assert_eq!(told, ["2x it is back on another link", "22< LEADERINFO 6", "! 2 is gone"]);
    assert_eq!(scene.acks(2, z(6, 1)), [""; 0], "what the old one still says is not heard");
}

#[test]
fn words_out_of_place_end_the_link() {
    let says = |scene: &mut Scene, link, packet: Packet| {
        let shown = format!("{packet:?}");
        let told = scene.says(link, packet);
        assert_eq!(told.last().unwrap(), &format!("! {link} is gone"), "{shown}: {told:?}");
        told[0].clone()
    };
    let ack_epoch = || Packet::AckEpoch { last: Some(z(5, 3)), current_epoch: Some(5) };
    let mut scene = Scene::leading();
    scene.connects(3);
    assert_eq!(says(&mut scene, 3, request(1)), "3x it sent REQUEST while it had to say who it is");
    scene.informs(3, 5);
    assert_eq!(says(&mut scene, 3, Packet::Ack { zxid: z(6, 0) }), "3x it sent ACK while ACKEPOCH was due");
    scene.joins(3, z(5, 3));
    let ping = Packet::Ping { zxid: z(6, 0), touched: None };
    assert_eq!(says(&mut scene, 3, ping), "3x it sent PING while its ACK of NEWLEADER was due");
    scene.joins(3, z(5, 3));
    assert_eq!(
        says(&mut scene, 3, Packet::Ack { zxid: z(6, 1) }),
        "3x it acknowledged 0x600000001 where NEWLEADER 0x600000000 was due"
    );
    scene.joins(3, z(4, 11));
    says(&mut scene, 3, Packet::Ack { zxid: z(6, 0) });
    scene.joins(3, z(4, 5));
    let told = scene.says(3, Packet::Ack { zxid: z(6, 0) });
    assert_eq!(told[1..], ["end reading for 3", "! 3 is gone"]);
    for packet in [ack_epoch(), Packet::UpToDate, Packet::Commit { zxid: z(6, 1) }] {
        scene.joins(3, z(5, 3));
        scene.synchronised(3);
        says(&mut scene, 3, packet);
    }
    scene.joins(3, z(5, 3));
    scene.synchronised(3);
    let told = scene.sends(3, LinkMessage::SnapshotEnd);
    assert_eq!(told, ["3x it sent a snapshot to its leader", "! 3 is gone"]);
    assert!(scene.leader.may_propose(), "the others go on");
}

#[test]
fn an_ack_of_the_future_ends_the_link_and_one_of_the_past_is_nothing() {
    let mut scene = Scene::leading();
    scene.joins(3, z(5, 3));
    scene.synchronised(3);
    scene.writes();
    for zxid in [z(6, 1), z(6, 0), z(5, 3), z(1, 1), Zxid::ZERO] {
        assert_eq!(scene.acks(3, zxid), [""; 0]);
    }
    for zxid in [z(6, 2), z(7, 1), Zxid(u64::MAX)] {
        let told = scene.acks(3, zxid);
        assert!(told[0].contains("never proposed"), "{told:?}");
        scene.joins(3, z(6, 1));
        scene.synchronised(3);
    }
}

#[test]
fn a_silent_stranger_is_not_kept() {
    let mut scene = Scene::leading();
    scene.connects(9);
    let told = scene.passes_among(&[2], 10.0);
    assert!(told.contains(&"9x nothing was heard of it in time while it had to say who it is".to_owned()), "{told:?}");
}

// --- at random ---

struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        // SplitMix64
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, count: u64) -> u64 {
        self.next() % count
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// What one link was told, and what it said it was.
#[derive(Default)]
struct Peer {
    server: Option<i64>,
    follower: bool,
    ringkeeper: bool,
    proposed: Option<Zxid>,
    committed: Zxid,
    /// The newest that it was told of by itself: from the next one on, nothing is left out.
    last_commit: Option<Zxid>,
    told_epoch: bool,
    synchronised: bool,
    up_to_date: bool,
    unsent: usize,
}

struct Storm {
    chance: Chance,
    leader: Leader,
    voters: i64,
    window: Window,
    applied: Zxid,
    now: Now,
    peers: BTreeMap<LinkId, Peer>,
    links: u64,
    stored: Vec<(EpochKind, u32)>,
    durable_epochs: Epochs,
    durable: Zxid,
    /// Who has acknowledged what, as far as any of it could ever count.
    acks: BTreeMap<Zxid, BTreeSet<i64>>,
    new_leader_acks: BTreeSet<i64>,
    /// Who has promised, and who has adopted, an epoch that follows.
    promised: BTreeMap<u32, BTreeSet<i64>>,
    adopted: BTreeMap<u32, BTreeSet<i64>>,
    reading: BTreeMap<LinkId, (Zxid, Zxid, Zxid)>,
    established: bool,
    over: bool,
    seen: BTreeSet<&'static str>,
}

impl Storm {
    fn new(seed: u64) -> Storm {
        let mut chance = Chance(seed);
        let voters = chance.of(&[1, 3, 3, 5]);
        let settings = Ensemble {
            rollover_at: 6,
            counter_end: 40,
            commit_log_count: 4,
            learner_queue_max_bytes: chance.of(&[600, 4000, 1 << 20]),
            ..settings()
        };
        let (now, last) = (Now { mono_us: 1, wall_ms: 0 }, chance.of(&[Zxid::ZERO, z(3, 7), z(4, 0)]));
        let epochs = Epochs { accepted: 4, current: 3 };
        let start = LeaderStart { id: ServerId(1), epochs, last, founds: false, reconfigures: false };
        let configs = Configurations::settled(Membership::of(voters, 2));
        let mut out = Vec::new();
        let leader = Leader::elected(now, start, &settings, &configs, &mut out);
        let mut storm = Storm {
            chance,
            leader,
            voters,
            window: Window::new(settings.commit_log_count, last),
            applied: last,
            now,
            peers: BTreeMap::new(),
            links: 0,
            stored: Vec::new(),
            durable_epochs: epochs,
            durable: last,
            acks: BTreeMap::new(),
            new_leader_acks: BTreeSet::from([1]),
            promised: BTreeMap::new(),
            adopted: BTreeMap::new(),
            reading: BTreeMap::new(),
            established: false,
            over: false,
            seen: BTreeSet::new(),
        };
        storm.settle(out);
        storm
    }

    /// From the election to the end, or for long enough; what was seen.
    fn pass(seed: u64) -> BTreeSet<&'static str> {
        let mut storm = Storm::new(seed);
        for _ in 0..1000 {
            storm.step();
            if storm.over {
                break;
            }
        }
        storm.seen
    }

    fn is_quorum(&self, servers: &BTreeSet<i64>) -> bool {
        servers.iter().filter(|id| (1..=self.voters).contains(*id)).count() as i64 > self.voters / 2
    }

    fn any_zxid(&mut self) -> Zxid {
        let proposed = self.leader.proposed();
        match self.chance.below(8) {
            0 => Zxid(self.chance.next()),
            1 => Zxid(proposed.0 + 1),
            2 => self.applied,
            3 => z(proposed.epoch(), 0),
            _ => Zxid(proposed.0.saturating_sub(self.chance.below(6))),
        }
    }

    fn any_packet(&mut self) -> Packet {
        let zxid = self.any_zxid();
        let epoch = self.leader.epoch + self.chance.below(2) as u32;
        match self.chance.below(16) {
            0 => Packet::FollowerInfo {
                accepted_epoch: self.chance.of(&[0, 4, 5, 9]),
                info: info(self.chance.below(7) as i64),
            },
            1 => Packet::ObserverInfo { accepted_epoch: self.chance.of(&[0, u32::MAX]), info: info(-1) },
            2 => Packet::AckEpoch { last: Some(zxid), current_epoch: Some(self.chance.of(&[0, 3, 4])) },
            3 => Packet::AckEpoch { last: None, current_epoch: None },
            4 => Packet::Ping { zxid, touched: Some(vec![(1, 2)]) },
            5 => request(1),
            6 => Packet::Revalidate { session: 1, timeout_ms: 1 },
            7 => Packet::NextEpochAccepted { epoch },
            8 => Packet::NextEpochAdopted { epoch },
            9 => Packet::Proposal { zxid, txn: Bytes::new() },
            10 => Packet::HandOver { leader: 1 },
            _ => Packet::Ack { zxid },
        }
    }

    /// What a learner would say next: without it, chance alone rarely comes far.
    fn likely_packet(&mut self, link: LinkId) -> Packet {
        let (epoch, next) = (self.leader.epoch, self.leader.choice.next());
        let peer = &self.peers[&link];
        let (told_epoch, synchronised) = (peer.told_epoch, peer.synchronised);
        if peer.server.is_none() {
            let server = 2 + self.chance.below(self.voters as u64 + 1) as i64;
            let protocol = if self.chance.below(12) == 0 { PROTOCOL_JAVA } else { PROTOCOL_RINGKEEPER };
            let info = LearnerInfo { protocol, ..info(server) };
            let accepted_epoch = self.chance.of(&[3, 4, 4, 4, epoch]);
            return match server > self.voters {
                true => Packet::ObserverInfo { accepted_epoch, info },
                false => Packet::FollowerInfo { accepted_epoch, info },
            };
        }
        if !synchronised {
            let last = self.any_zxid();
            return match told_epoch && self.chance.below(2) == 0 {
                true => Packet::Ack { zxid: z(epoch, 0) },
                false => Packet::AckEpoch { last: Some(last), current_epoch: Some(3) },
            };
        }
        match self.chance.below(5) {
            0 => Packet::NextEpochAccepted { epoch: next - 1 },
            1 => Packet::NextEpochAdopted { epoch: next - 1 },
            2 => Packet::Ping { zxid: z(epoch, 0), touched: Some(Vec::new()) },
            _ => Packet::Ack { zxid: Zxid(self.leader.committed().0 + 1).min(self.leader.proposed()) },
        }
    }

    fn step(&mut self) {
        let mut out = Vec::new();
        let view = SyncView { window: &self.window, applied: self.applied, snapshot_bytes: 0 };
        let chosen = self.chance.below(self.peers.len().max(1) as u64) as usize;
        let link = self.peers.keys().nth(chosen).copied().unwrap_or(LinkId(0));
        match self.chance.below(20) {
            0 if self.peers.len() < self.voters as usize || self.chance.below(10) == 0 => {
                self.links += 1;
                let link = LinkId(self.links);
                self.leader.on_learner_connected(self.now, link);
                self.peers.insert(link, Peer::default());
            }
            1 if self.chance.below(4) == 0 => {
                self.peers.remove(&link);
                self.reading.remove(&link);
                self.leader.on_closed(self.now, link, &mut out);
            }
            2 => {
                self.now.mono_us += self.chance.below(TICK_US / 4);
                self.leader.on_tick(self.now, &mut out);
            }
            3 | 4 if !self.stored.is_empty() => {
                let (kind, epoch) = self.stored.remove(0);
                match kind {
                    EpochKind::Accepted => {
                        self.durable_epochs.accepted = epoch;
                        self.promised.entry(epoch).or_default().insert(1);
                    }
                    EpochKind::Current => {
                        self.durable_epochs.current = epoch;
                        self.adopted.entry(epoch).or_default().insert(1);
                    }
                }
                self.leader.on_epoch_stored(self.now, kind, epoch, view, &mut out);
            }
            5..=7 if self.leader.may_propose() => {
                let zxid = self.leader.next_zxid();
                self.leader.propose(zxid, txn(zxid), &mut out);
            }
            8 => {
                let logged = self.leader.in_flight() as u64;
                self.durable = self.durable.max(Zxid(self.leader.proposed().0 - self.chance.below(logged + 1)));
                self.leader.on_logged(self.durable, &mut out);
            }
            9 => {
                let taken = self.peers.get_mut(&link).map_or(0, |peer| std::mem::take(&mut peer.unsent));
                self.leader.on_sent(link, taken, &mut out);
            }
            10 => {
                self.leader.snapshot_begins(link, self.applied, &mut out);
                if let Some(peer) = self.peers.get_mut(&link).filter(|_| !out.is_empty()) {
                    (peer.proposed, peer.committed) = (Some(self.applied), self.applied);
                }
            }
            11 => self.leader.snapshot_part(link, LinkMessage::SnapshotEnd, &mut out),
            12 => self.leader.sync_asked(link, &mut out),
            13 if self.chance.below(40) == 0 => self.leader.hand_over(self.now, &mut out),
            14 => self.read_log(&mut out),
            15 if self.peers.contains_key(&link) && self.chance.below(4) == 0 => {
                let packet = self.any_packet();
                self.says(link, packet, &mut out);
            }
            _ if self.peers.contains_key(&link) => {
                let packet = self.likely_packet(link);
                self.says(link, packet, &mut out);
            }
            _ => {}
        }
        self.settle(out);
    }

    fn says(&mut self, link: LinkId, packet: Packet, out: &mut Vec<Output>) {
        let peer = self.peers.get_mut(&link).expect("it is there");
        match &packet {
            Packet::FollowerInfo { info, .. } => {
                (peer.server, peer.follower) = (Some(info.server), true);
                peer.ringkeeper = info.protocol == PROTOCOL_RINGKEEPER;
            }
            Packet::ObserverInfo { info, .. } => peer.server = Some(info.server),
            Packet::NextEpochAccepted { epoch } if peer.follower => {
                self.promised.entry(*epoch).or_default().extend(peer.server);
            }
            Packet::NextEpochAdopted { epoch } if peer.follower => {
                self.adopted.entry(*epoch).or_default().extend(peer.server);
            }
            Packet::Ack { zxid } if peer.follower => {
                let server = peer.server.expect("a follower has a name");
                if *zxid == z(self.leader.epoch, 0) && peer.told_epoch {
                    self.new_leader_acks.insert(server);
                } else if *zxid <= self.leader.proposed() {
                    let first = if peer.ringkeeper { self.applied.min(*zxid).0 } else { zxid.0 };
                    for zxid in first..=zxid.0 {
                        self.acks.entry(Zxid(zxid)).or_default().insert(server);
                    }
                }
            }
            _ => {}
        }
        let view = SyncView { window: &self.window, applied: self.applied, snapshot_bytes: 0 };
        self.leader.on_message(self.now, link, LinkMessage::Packet(packet), view, out);
    }

    /// A log that sometimes has what it should have.
    fn read_log(&mut self, out: &mut Vec<Output>) {
        let Some((link, (after, last, through))) = self.reading.pop_first() else { return };
        let view = SyncView { window: &self.window, applied: self.applied, snapshot_bytes: 0 };
        let (lost, next) = (self.chance.below(10) == 0, Zxid(last.0 + 1));
        if lost || next > through || next.epoch() != through.epoch() {
            return self.leader.on_log_read_ended(link, !lost, out);
        }
        self.reading.insert(link, (after, next, through));
        self.leader.on_log_read(link, last, vec![(next, txn(next))], view, out);
    }

    fn settle(&mut self, out: Vec<Output>) {
        for output in out {
            self.note(output);
        }
        let committed = self.leader.committed();
        for peer in self.peers.values().filter(|peer| peer.up_to_date && !self.over && committed.counter() > 0) {
            let told = peer.last_commit.is_none_or(|last| last == committed);
            assert!(told, "{committed} is committed, and server {:?} knows of {:?}", peer.server, peer.last_commit);
        }
        while let Some(proposal) = self.leader.pop_committed() {
            let mut servers = self.acks.get(&proposal.zxid).cloned().unwrap_or_default();
            if proposal.zxid <= self.durable {
                servers.insert(1);
            }
            assert!(self.is_quorum(&servers), "{} was committed by {servers:?} of {}", proposal.zxid, self.voters);
            assert!(proposal.zxid > self.applied, "in order");
            assert_eq!(proposal.txn, txn(proposal.zxid));
            self.applied = proposal.zxid;
            self.window.push(proposal.zxid, proposal.txn);
            self.seen.insert("commit");
        }
        while let Some(event) = self.leader.next_event() {
            match event {
                LeaderEvent::Established { epoch } => {
                    assert!(self.is_quorum(&self.new_leader_acks), "led by {:?}", self.new_leader_acks);
                    assert_eq!((epoch, self.durable_epochs.current), (self.leader.epoch, epoch));
                    (self.established, self.applied, self.durable) = (true, z(epoch, 0), z(epoch, 0));
                    self.seen.insert("established");
                }
                LeaderEvent::NextEpoch { epoch } => {
                    assert_eq!(self.durable_epochs, Epochs { accepted: epoch, current: epoch });
                    assert!(self.is_quorum(&self.adopted[&epoch]), "epoch {epoch} is that of {:?}", self.adopted);
                    (self.applied, self.durable) = (z(epoch, 0), z(epoch, 0));
                    self.seen.insert(if self.voters > 1 { "next epoch" } else { "next epoch, alone" });
                }
                LeaderEvent::Request { link, .. } | LeaderEvent::Revalidate { link, .. } => {
                    assert!(self.peers.get(&link).is_none_or(|peer| peer.up_to_date));
                    self.leader.revalidated(link, 1, true, &mut Vec::new());
                }
                LeaderEvent::Confirmed { .. } | LeaderEvent::Syncs { .. } => {}
                LeaderEvent::Touched { .. } => assert!(self.established),
                LeaderEvent::SnapshotWanted { .. } => {
                    self.seen.insert("snapshot");
                }
                LeaderEvent::LinkGone { link } => {
                    self.peers.remove(&link);
                    self.reading.remove(&link);
                }
                LeaderEvent::HandedOver { leader } => {
                    assert!((2..=self.voters).contains(&leader.0) && self.leader.proposals.is_drained());
                    (self.over, _) = (true, self.seen.insert("handed over"));
                }
                LeaderEvent::ConfigSeen { .. } | LeaderEvent::ConfigActivated { .. } => unreachable!("{event:?}"),
                LeaderEvent::Over { .. } => (self.over, _) = (true, self.seen.insert("over")),
            }
        }
    }

    fn note(&mut self, output: Output) {
        match output {
            Output::StoreEpoch { kind, epoch } => {
                assert!(kind == EpochKind::Current || epoch > self.durable_epochs.accepted, "an epoch is new");
                self.stored.push((kind, epoch));
            }
            Output::ReadLog { link, after, through } => {
                self.reading.insert(link, (after, after, through));
            }
            Output::EndReadLog { link } => {
                self.reading.remove(&link);
            }
            Output::LinkSend { link, message } => {
                let is_established = self.established || self.is_quorum(&self.new_leader_acks);
                let promised = |epoch: &u32| self.is_quorum(&self.promised[epoch]);
                if let LinkMessage::Packet(Packet::NextEpochBegins { epoch }) = &message {
                    assert!(promised(epoch), "epoch {epoch} was promised by {:?}", self.promised);
                }
                let peer = self.peers.get_mut(&link).expect("nobody else is told anything");
                peer.unsent += message.cost_bytes();
                let LinkMessage::Packet(packet) = message else { return };
                if !peer.ringkeeper && peer.follower && peer.told_epoch && !peer.up_to_date {
                    let may_come = matches!(packet, Packet::Ping { .. } | Packet::UpToDate);
                    assert!(may_come, "behind NEWLEADER a Java voter hears nothing of {packet:?}");
                }
                match packet {
                    Packet::LeaderInfo { epoch, .. } => assert!(epoch <= self.durable_epochs.accepted),
                    // The model of `likely_packet` lies about what it has; what comes from here on is in order all the same.
                    Packet::Diff { .. } => (peer.proposed, peer.last_commit) = (None, None),
                    Packet::Trunc { zxid } => (peer.proposed, peer.committed) = (Some(zxid), zxid),
                    Packet::Proposal { zxid, .. } => {
                        let follows = peer.proposed.is_none_or(|last| zxid > last);
                        assert!(follows, "{zxid} after {:?}", peer.proposed);
                        peer.proposed = Some(zxid);
                    }
                    Packet::Commit { zxid } => {
                        assert!(zxid > peer.committed && Some(zxid) <= peer.proposed, "{zxid} out of turn");
                        let many = peer.ringkeeper && peer.up_to_date;
                        let follows = peer.last_commit.is_none_or(|last| many || zxid.can_follow(last));
                        assert!(follows, "{zxid} is committed, and nothing was said since {:?}", peer.last_commit);
                        (peer.committed, peer.last_commit) = (zxid, Some(zxid));
                    }
                    Packet::Inform { zxid, .. } => {
                        assert!(peer.last_commit.is_none_or(|last| zxid.can_follow(last)));
                        assert!(zxid > peer.committed);
                        (peer.proposed, peer.committed, peer.last_commit) = (Some(zxid), zxid, Some(zxid));
                    }
                    Packet::NewLeader { .. } => peer.told_epoch = true,
                    Packet::UpToDate => {
                        assert!(is_established);
                        (peer.synchronised, peer.up_to_date) = (true, true);
                    }
                    _ => {}
                }
            }
            Output::LinkClose { link, .. } => assert!(self.peers.contains_key(&link), "{link:?} is closed once"),
            _ => {}
        }
    }
}

#[test]
fn whatever_peers_say_nothing_is_committed_without_a_quorum() {
    let mut seen = BTreeSet::new();
    (0..1200).for_each(|seed| seen.append(&mut Storm::pass(seed)));
    let expected = ["commit", "established", "handed over", "next epoch", "next epoch, alone", "over", "snapshot"];
    assert_eq!(seen, BTreeSet::from(expected), "everything happens in some of the storms");
}

/// The storm has teeth: each of these rules, broken, is noticed by it.
#[cfg(feature = "sim")]
#[test]
fn a_broken_leader_is_found_out() {
    use ringkeeper_storage::probe::break_rule;

    let runs = |rule| {
        break_rule(Some(rule));
        let storms = || (0..100).for_each(|seed| drop(Storm::pass(seed)));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(storms));
        break_rule(None);
        result.is_ok()
    };
    let rules = [
        "leader: commit on a minority",
        "leader: an ack counts for the next one too",
        "leader: serve before a quorum acknowledged NEWLEADER",
        "leader: LEADERINFO before acceptedEpoch is durable",
        "leader: propose an epoch that is not new",
        "leader: observers count",
        "leader: begin the next epoch without a quorum's promise",
        "leader: propose in the next epoch before a quorum is in it",
    ];
    let unnoticed: Vec<&str> = rules.into_iter().filter(|rule| runs(rule)).collect();
    assert!(unnoticed.is_empty(), "{unnoticed:?}");
}
