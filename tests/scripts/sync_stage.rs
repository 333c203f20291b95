//! The stage of `sync-*.txt`: one leader and its learners, the real ones, with disks and links in the script's hand.
//!
//!   ensemble voters=1,2,3 observers=4 rollover=6     first of all; `rollover`: the counter at which an epoch ends
//!   server 1 log=1:1-1:5,2:1 epoch=1 accepted=2 lost   what its disk has; `lost`: what it had before is gone
//!   lead 3 window=4                        it is elected; the window has its last transactions
//!   follow 1 2                             they connect to it
//!   observe 4 via 1                        it connects to a follower that serves observers (`ensemble observer-masters ..`)
//!   propose 2 | pass 3s                    so many transactions; time
//!   hold 1 | release 1                     its disk does nothing more; does what has piled up
//!   deaf 1 | hear 1 2 | hear 1             what is sent to it stays on the way; two messages arrive; all of them do
//!   deaf 1 3                               only what 3 sends to it
//!   break 1                                its link breaks
//!   hand-over                              the leader is told to
//!   show                                   what everybody has
//!
//! After each command everything goes on until it is quiet. A message is a line, `from>to`; what it made of its receiver stands
//! below.

#[path = "sync_relays.rs"]
mod relays;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use ringkeeper::core::settings::Ensemble;
use ringkeeper::core::tree::{DataTree, TreeOptions};
use ringkeeper::core::types::{EpochKind, Epochs, LinkId, LinkMessage, Now, Output, ServerId, Standing, Zxid};
use ringkeeper::core::zab::Leader;
use ringkeeper::core::zab::leader::{LeaderEvent, LeaderStart, SyncView};
use ringkeeper::core::zab::learner::{Learner, LearnerEvent, LearnerStart};
use ringkeeper::core::zab::membership::{Configurations, Member, MemberRole, Membership, PeerAddress, QuorumKind};
use ringkeeper::core::zab::window::Window;
use ringkeeper::wire::quorum::Packet;

use super::Stage;

#[derive(Default)]
pub struct SyncStage {
    configs: Option<Configurations>,
    settings: Ensemble,
    now: Now,
    disks: BTreeMap<i64, Disk>,
    leader: Option<(i64, Leader, Window)>,
    learners: BTreeMap<i64, Learner>,
    observers: Vec<i64>,
    relays: relays::Relays,
    /// Of each learner the newest; both ends call it the same.
    links: BTreeMap<i64, LinkId>,
    /// Sent and not arrived.
    sent: VecDeque<(i64, i64, LinkMessage)>,
    /// Who, and to whom: none is to everybody.
    deaf: Vec<(i64, Option<i64>)>,
    told: Vec<String>,
}

/// What a server has on its disk, and what is on its way there.
#[derive(Clone)]
struct Disk {
    epochs: Epochs,
    standing: Standing,
    /// A snapshot, and the transactions behind it.
    base: Zxid,
    log: Vec<Zxid>,
    installing: Zxid,
    held: bool,
    under_way: VecDeque<Write>,
}

#[derive(Clone)]
enum Write {
    Log(Zxid),
    Epoch(EpochKind, u32),
    Truncate(Zxid),
    Install(Zxid),
}

impl Disk {
    fn last(&self) -> Zxid {
        self.log.last().copied().unwrap_or(self.base)
    }
}

impl Stage for SyncStage {
    fn run(&mut self, command: &str) -> Result<Vec<String>, String> {
        let words: Vec<&str> = command.split_whitespace().collect();
        let (command, words) = words.split_first().ok_or("no command")?;
        let id = || words.first().and_then(|word| word.parse::<i64>().ok()).ok_or("whose?");
        let number = |name: &str| words.iter().find_map(|word| word.strip_prefix(name)).map(|n| n.parse::<usize>());
        match *command {
            "ensemble" => self.ensemble(words)?,
            "server" => self.server(id()?, &words[1..])?,
            "lead" => self.lead(id()?, number("window=").unwrap_or(Ok(500)).map_err(|error| error.to_string())?)?,
            "observe" => {
                let master = words.last().and_then(|master| master.parse().ok()).ok_or("via whom?")?;
                self.relays.set_master(id()?, master)?;
                self.follow(id()?)?;
            }
            "follow" => words.iter().try_for_each(|id| self.follow(id.parse().map_err(|_| "who?")?))?,
            "propose" => (0..id()?).try_for_each(|_| self.propose())?,
            "pass" => self.pass(words.first().ok_or("how long?")?)?,
            "hold" => self.disk(id()?)?.held = true,
            "release" => self.disk(id()?)?.held = false,
            "deaf" => self.deaf.push((id()?, words.get(1).and_then(|from| from.parse().ok()))),
            "hear" => self.hear(id()?, words.get(1).copied())?,
            "break" => self.break_link(id()?),
            "hand-over" => {
                let mut out = Vec::new();
                let (_, leader, _) = self.leader.as_mut().ok_or("nobody leads")?;
                leader.hand_over(self.now, &mut out);
                self.carry_out_leader(out);
            }
            "show" => self.show(),
            other => return Err(format!("no such command: {other}")),
        }
        self.until_quiet()?;
        Ok(std::mem::take(&mut self.told))
    }
}

impl SyncStage {
    fn ensemble(&mut self, words: &[&str]) -> Result<(), String> {
        *self = SyncStage::default();
        self.settings.tick_ms = 1000;
        let mut members = BTreeMap::new();
        for word in words {
            if *word == "observer-masters" {
                self.settings.observer_masters = true;
                continue;
            }
            let (name, value) = word.split_once('=').ok_or("name=value")?;
            if name == "rollover" {
                self.settings.rollover_at = value.parse().map_err(|_| "a counter")?;
                continue;
            }
            let role = if name == "voters" { MemberRole::Participant } else { MemberRole::Observer };
            for id in value.split(',') {
                let id: i64 = id.parse().map_err(|_| "an id")?;
                let address = PeerAddress { host: format!("10.0.0.{id}"), quorum_port: 2888, election_port: 3888 };
                members.insert(ServerId(id), Member { id, role, addresses: vec![address], client: None });
                if role == MemberRole::Observer {
                    self.observers.push(id);
                }
                let (log, under_way) = (Vec::new(), VecDeque::new());
                let epochs = Epochs { accepted: 0, current: 0 };
                let (base, installing, standing) = (Zxid::ZERO, Zxid::ZERO, Standing::Whole);
                self.disks.insert(id, Disk { epochs, standing, base, log, installing, held: false, under_way });
            }
        }
        self.configs = Some(Configurations::settled(Membership { version: 0, members, kind: QuorumKind::Majority }));
        Ok(())
    }

    fn server(&mut self, id: i64, words: &[&str]) -> Result<(), String> {
        let disk = self.disk(id)?;
        for word in words {
            match word.split_once('=') {
                Some(("epoch", epoch)) => {
                    disk.epochs.current = epoch.parse().map_err(|_| "an epoch")?;
                    disk.epochs.accepted = disk.epochs.current;
                }
                Some(("accepted", epoch)) => disk.epochs.accepted = epoch.parse().map_err(|_| "an epoch")?,
                Some(("log", ranges)) => disk.log = parse_log(ranges)?,
                None if *word == "lost" => disk.standing = Standing::Lost,
                _ => return Err(format!("what is {word}?")),
            }
        }
        Ok(())
    }

    fn disk(&mut self, id: i64) -> Result<&mut Disk, String> {
        self.disks.get_mut(&id).ok_or_else(|| format!("there is no server {id}"))
    }

    fn lead(&mut self, id: i64, window_entries: usize) -> Result<(), String> {
        let (epochs, log) = {
            let disk = self.disk(id)?;
            (disk.epochs, disk.log.clone())
        };
        let mut window = Window::new(window_entries, Zxid::ZERO);
        log.iter().for_each(|zxid| window.push(*zxid, Bytes::new()));
        let start = LeaderStart { id: ServerId(id), epochs, last: window.last(), founds: false, reconfigures: false };
        let configs = self.configs.clone().ok_or("the ensemble comes first")?;
        let mut out = Vec::new();
        let leader = Leader::elected(self.now, start, &self.settings, &configs, &mut out);
        self.leader = Some((id, leader, window));
        self.carry_out_leader(out);
        Ok(())
    }

    fn follow(&mut self, id: i64) -> Result<(), String> {
        let leader = ServerId(self.leader.as_ref().ok_or("nobody leads")?.0);
        let observer = self.observers.contains(&id);
        let configs = self.configs.clone().ok_or("the ensemble comes first")?;
        let disk = self.disk(id)?;
        let (epochs, last, standing) = (disk.epochs, disk.last(), disk.standing);
        let log = disk.log.clone();
        let via = self.relays.master_of(id).map(ServerId);
        if self.settings.observer_masters {
            self.relays.follows(id, &log);
        }
        let id_of = ServerId(id);
        let start =
            LearnerStart { id: id_of, leader, via, designated: false, observer, epochs, last, standing, founds: false };
        let mut out = Vec::new();
        let mut learner = Learner::new(self.now, start, &self.settings, &configs, &mut out);
        let link = LinkId(self.links.get(&id).map_or(id as u64 * 100, |before| before.0 + 1));
        self.links.insert(id, link);
        learner.on_connected(self.now, link, &mut out);
        self.learners.insert(id, learner);
        let now = self.now;
        if let Some(master) = self.master(id) {
            master.on_learner_connected(now, link);
        }
        self.carry_out_learner(id, out)
    }

    fn propose(&mut self) -> Result<(), String> {
        let (id, leader, _) = self.leader.as_mut().ok_or("nobody leads")?;
        if !leader.may_propose() {
            self.told.push(format!("{id} proposes nothing now"));
            return Ok(());
        }
        let (zxid, mut out) = (leader.next_zxid(), Vec::new());
        leader.propose(zxid, Bytes::new(), &mut out);
        leader.on_logged(zxid, &mut out);
        self.told.push(format!("{id} proposes {}", text_of(zxid)));
        let id = *id;
        self.disk(id)?.log.push(zxid);
        self.carry_out_leader(out);
        Ok(())
    }

    fn pass(&mut self, word: &str) -> Result<(), String> {
        let seconds: u64 =
            word.strip_suffix('s').and_then(|number| number.parse().ok()).ok_or("so many seconds: 3s")?;
        for _ in 0..seconds * 2 {
            self.now.mono_us += 500_000;
            let mut out = Vec::new();
            if let Some((_, leader, _)) = &mut self.leader {
                leader.on_tick(self.now, &mut out);
            }
            self.carry_out_leader(out);
            self.tick_relays();
            for id in self.learners.keys().copied().collect::<Vec<_>>() {
                let mut out = Vec::new();
                self.learners.get_mut(&id).expect("it is there").on_tick(self.now, &mut out);
                self.carry_out_learner(id, out)?;
            }
            self.until_quiet()?;
        }
        Ok(())
    }

    /// What was sent is lost.
    fn break_link(&mut self, id: i64) {
        self.sent.retain(|(from, to, _)| *from != id && *to != id);
        self.master_loses(id);
        self.close_learner(id);
    }

    fn close_learner(&mut self, id: i64) {
        let mut out = Vec::new();
        if let Some(learner) = self.learners.get_mut(&id) {
            learner.on_closed(self.now, self.links[&id], &mut out);
        }
        self.carry_out_learner(id, out).expect("a learner that is there");
    }

    fn hear(&mut self, id: i64, messages: Option<&str>) -> Result<(), String> {
        let Some(messages) = messages else {
            self.deaf.retain(|(deaf, _)| *deaf != id);
            return Ok(());
        };
        for _ in 0..messages.parse::<usize>().map_err(|_| "how many?")? {
            let next = self.sent.iter().position(|(_, to, _)| *to == id).ok_or("nothing is on the way")?;
            let (from, to, message) = self.sent.remove(next).expect("found");
            self.deliver(from, to, message)?;
        }
        Ok(())
    }

    fn show(&mut self) {
        for (id, disk) in &self.disks {
            let base = (disk.base > Zxid::ZERO).then(|| format!("a snapshot of {}, ", text_of(disk.base)));
            let Epochs { accepted, current } = disk.epochs;
            let log = show_log(&disk.log);
            self.told.push(format!("{id} has {}{log}, epoch {current} of {accepted}", base.unwrap_or_default()));
        }
    }

    fn until_quiet(&mut self) -> Result<(), String> {
        loop {
            let is_deaf =
                |from, to| self.deaf.iter().any(|(who, whom)| *who == to && whom.is_none_or(|whom| whom == from));
            let next = self.sent.iter().position(|(from, to, _)| !is_deaf(*from, *to));
            if let Some((from, to, message)) = next.and_then(|at| self.sent.remove(at)) {
                self.deliver(from, to, message)?;
            } else if let Some(id) = self.disks.iter().find(|(_, d)| !d.held && !d.under_way.is_empty()).map(|d| *d.0) {
                self.write(id)?;
            } else {
                return Ok(());
            }
        }
    }

    fn deliver(&mut self, from: i64, to: i64, message: LinkMessage) -> Result<(), String> {
        let is_quiet = matches!(message, LinkMessage::Packet(Packet::Ping { .. }) | LinkMessage::SnapshotChunk(_));
        if !is_quiet {
            self.told.push(format!("{from}>{to} {}", describe(&message)));
        }
        let (now, mut out) = (self.now, Vec::new());
        if self.relays.master_of(from) == Some(to) {
            return self.deliver_to_relay(from, to, message);
        }
        match &mut self.leader {
            Some((leader_id, leader, window)) if *leader_id == to => {
                leader.on_message(now, self.links[&from], message, view(window), &mut out);
                self.carry_out_leader(out);
                Ok(())
            }
            _ => {
                let cost = message.cost_bytes();
                let link = self.links[&to];
                if let Some(master) = self.master(to) {
                    master.on_sent(link, cost, &mut out);
                }
                self.carry_out_master(to, std::mem::take(&mut out));
                if let Some(learner) = self.learners.get_mut(&to) {
                    learner.on_message(now, self.links[&to], message, &mut out);
                }
                self.carry_out_learner(to, out)
            }
        }
    }

    /// One thing that a disk was told, or all records that have piled up.
    fn write(&mut self, id: i64) -> Result<(), String> {
        let now = self.now;
        let disk = self.disk(id)?;
        let Some(write) = disk.under_way.pop_front() else { return Ok(()) };
        let mut out = Vec::new();
        let Some(learner) = self.learners.get_mut(&id) else {
            return Err(format!("{id} does not follow"));
        };
        let disk = self.disks.get_mut(&id).expect("as above");
        match write {
            Write::Log(mut zxid) => {
                disk.log.push(zxid);
                while let Some(Write::Log(next)) = disk.under_way.front() {
                    zxid = *next;
                    disk.log.push(zxid);
                    disk.under_way.pop_front();
                }
                self.told.push(format!("  {id} has {} on its disk", text_of(zxid)));
                learner.on_durable(zxid, &mut out);
            }
            Write::Epoch(kind, epoch) => {
                match kind {
                    EpochKind::Accepted => disk.epochs.accepted = epoch,
                    EpochKind::Current => (disk.epochs.current, disk.standing) = (epoch, Standing::Whole),
                }
                self.told.push(format!("  {id} has {} {epoch} on its disk", kind.file_name()));
                learner.on_epoch_stored(now, kind, epoch, &mut out);
            }
            Write::Truncate(to) => {
                if to == disk.base || disk.log.contains(&to) {
                    disk.log.retain(|zxid| *zxid <= to);
                    self.told.push(format!("  {id} has cut its log behind {}", text_of(to)));
                } else {
                    (disk.base, disk.standing) = (Zxid::ZERO, Standing::Lost);
                    disk.log.clear();
                    self.told.push(format!("  {id} does not have {}: everything is given up", text_of(to)));
                }
                learner.on_reloaded(now, disk.last(), disk.standing, None, &mut out);
            }
            Write::Install(zxid) => {
                (disk.base, disk.log) = (zxid, Vec::new());
                self.told.push(format!("  {id} has nothing but the snapshot of {}", text_of(zxid)));
                learner.on_reloaded(now, zxid, disk.standing, None, &mut out);
            }
        }
        self.carry_out_learner(id, out)
    }

    fn carry_out_learner(&mut self, id: i64, out: Vec<Output>) -> Result<(), String> {
        let leader_id = self.relays.master_of(id).or(self.leader.as_ref().map(|leader| leader.0));
        let mut answers = Vec::new();
        while let Some(event) = self.learners.get_mut(&id).and_then(Learner::next_event) {
            let did = match event {
                LearnerEvent::Log { zxid, .. } => {
                    self.disk(id)?.under_way.push_back(Write::Log(zxid));
                    self.relays.logged(id, zxid);
                    format!("logs {}", text_of(zxid))
                }
                LearnerEvent::Commit { through } => {
                    self.told.push(format!("  {id} applies {}", text_of(through)));
                    self.relay(id, through);
                    continue;
                }
                LearnerEvent::Serving { epoch } => {
                    self.told.push(format!("  {id} serves in epoch {epoch}"));
                    self.begin_relay(id);
                    continue;
                }
                LearnerEvent::Ping { zxid } => {
                    self.learners.get_mut(&id).expect("it has just said so").pong(zxid, Vec::new(), &mut answers);
                    continue;
                }
                LearnerEvent::NextEpoch { epoch } => {
                    self.told.push(format!("  {id} goes on in epoch {epoch}"));
                    self.relay_epoch(id, epoch);
                    continue;
                }
                LearnerEvent::HandedOver { leader } => format!("is to follow {} now", leader.0),
                LearnerEvent::Over { why } => format!("follows no longer: {why}"),
                LearnerEvent::Reloading | LearnerEvent::ConfigSeen { .. } | LearnerEvent::ConfigOfEpoch => continue,
                LearnerEvent::ConfigCommitted { zxid, .. } => format!("activates {}", text_of(zxid)),
                event @ (LearnerEvent::Revalidated { .. } | LearnerEvent::Synced) => format!("hears {event:?}"),
            };
            self.told.push(format!("  {id} {did}"));
        }
        for output in out.into_iter().chain(answers) {
            let disk = self.disk(id)?;
            match output {
                Output::LinkSend { message, .. } => self.sent.extend(leader_id.map(|leader| (id, leader, message))),
                Output::LinkClose { why, .. } => {
                    self.told.push(format!("  {id} closes its link: {why}"));
                    self.sent.retain(|(_, to, _)| *to != id);
                    self.master_loses(id);
                }
                Output::StoreEpoch { kind, epoch } => disk.under_way.push_back(Write::Epoch(kind, epoch)),
                Output::Truncate { to } => disk.under_way.push_back(Write::Truncate(to)),
                Output::InstallBegin(header) => disk.installing = Zxid(header.zxid),
                Output::InstallFinish => disk.under_way.push_back(Write::Install(disk.installing)),
                Output::InstallAbandon => self.told.push(format!("  {id} drops what it has of the snapshot")),
                Output::ConnectToMaster { .. }
                | Output::ConnectToObserverMaster { .. }
                | Output::ForgetMaster
                | Output::InstallChunk(_) => {}
                other => return Err(format!("a learner wants {other:?}")),
            }
        }
        Ok(())
    }

    fn carry_out_leader(&mut self, out: Vec<Output>) {
        let mut out = VecDeque::from(out);
        let Some((id, leader, window)) = &mut self.leader else { return };
        let (id, now) = (*id, self.now);
        let mut closed = Vec::new();
        loop {
            let mut more = Vec::new();
            while let Some(proposal) = leader.pop_committed() {
                self.told.push(format!("  {id} commits {}", text_of(proposal.zxid)));
                window.push(proposal.zxid, proposal.txn);
            }
            if let Some(event) = leader.next_event() {
                match event {
                    LeaderEvent::Established { epoch } => self.told.push(format!("  {id} leads in epoch {epoch}")),
                    LeaderEvent::NextEpoch { epoch } => self.told.push(format!("  {id} leads on in epoch {epoch}")),
                    LeaderEvent::SnapshotWanted { link } => send_snapshot(leader, link, window.last(), &mut more),
                    LeaderEvent::HandedOver { leader } => {
                        self.told.push(format!("  {id} hands over to {}", leader.0));
                    }
                    LeaderEvent::Over { why } => self.told.push(format!("  {id} leads no longer: {why}")),
                    LeaderEvent::LinkGone { .. } | LeaderEvent::Syncs { .. } => {}
                    other => self.told.push(format!("  {id} hears {other:?}")),
                }
            } else if let Some(output) = out.pop_front() {
                match output {
                    Output::LinkSend { link, message } => self.sent.push_back((id, learner_of(link), message)),
                    Output::LinkClose { link, why } => {
                        self.told.push(format!("  {id} closes the link of {}: {why}", learner_of(link)));
                        closed.push(learner_of(link));
                    }
                    Output::StoreEpoch { kind, epoch } => {
                        let disk = self.disks.get_mut(&id).expect("a leader has a disk");
                        match kind {
                            EpochKind::Accepted => disk.epochs.accepted = epoch,
                            EpochKind::Current => disk.epochs.current = epoch,
                        }
                        leader.on_epoch_stored(now, kind, epoch, view(window), &mut more);
                    }
                    Output::ReadLog { link, after, through } => {
                        let log = &self.disks[&id].log;
                        let predecessor = log.iter().rev().find(|zxid| **zxid <= after).copied().unwrap_or_default();
                        let records = log.iter().filter(|zxid| **zxid > after && **zxid <= through);
                        let records: Vec<_> = records.map(|zxid| (*zxid, Bytes::new())).collect();
                        leader.on_log_read(link, predecessor, records, view(window), &mut more);
                        leader.on_log_read_ended(link, true, &mut more);
                    }
                    _ => {}
                }
            } else {
                break;
            }
            out.extend(more);
        }
        for learner in closed {
            // What was sent before arrives.
            while let Some(at) = self.sent.iter().position(|(_, to, _)| *to == learner) {
                let (from, to, message) = self.sent.remove(at).expect("found");
                self.deliver(from, to, message).expect("a learner that is there");
            }
            self.close_learner(learner);
        }
    }
}

fn send_snapshot(leader: &mut Leader, link: LinkId, zxid: Zxid, out: &mut Vec<Output>) {
    let mut tree = DataTree::new(TreeOptions::default());
    let (walk, mut header) = tree.begin_snapshot();
    header.zxid = zxid.0;
    leader.snapshot_begins(link, zxid, out);
    leader.snapshot_part(link, LinkMessage::SnapshotBegin(Box::new(header)), out);
    while let Some(chunk) = tree.snapshot_slice(walk, 1) {
        leader.snapshot_part(link, LinkMessage::SnapshotChunk(chunk), out);
    }
    leader.snapshot_part(link, LinkMessage::SnapshotEnd, out);
}

fn view(window: &Window) -> SyncView<'_> {
    SyncView { window, applied: window.last(), snapshot_bytes: 0 }
}

/// A learner's links are numbered from a hundred times its id on.
fn learner_of(link: LinkId) -> i64 {
    (link.0 / 100) as i64
}

fn text_of(zxid: Zxid) -> String {
    format!("{}:{}", zxid.epoch(), zxid.counter())
}

fn parse_zxid(text: &str) -> Result<Zxid, String> {
    let (epoch, counter) = text.split_once(':').ok_or("epoch:counter")?;
    let number = |text: &str| text.parse::<u32>().map_err(|_| format!("{text} is no number"));
    Ok(Zxid::new(number(epoch)?, number(counter)?))
}

/// `1:1-1:5,2:1`
fn parse_log(text: &str) -> Result<Vec<Zxid>, String> {
    let mut log = Vec::new();
    for range in text.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (parse_zxid(first)?, parse_zxid(last)?);
        log.extend((first.0..=last.0).map(Zxid));
    }
    Ok(log)
}

fn show_log(log: &[Zxid]) -> String {
    let ranges = log.chunk_by(|a, b| a.0 + 1 == b.0);
    let ranges = ranges.map(|range| match range {
        [only] => text_of(*only),
        [first, .., last] => format!("{}-{}", text_of(*first), text_of(*last)),
        [] => unreachable!("no range is empty"),
    });
    let ranges: Vec<_> = ranges.collect();
    if ranges.is_empty() { "no log".into() } else { ranges.join(",") }
}

fn describe(message: &LinkMessage) -> String {
    let packet = match message {
        LinkMessage::Packet(packet) => packet,
        LinkMessage::SnapshotBegin(_) => return "the snapshot begins".into(),
        LinkMessage::SnapshotChunk(_) => return "a part of the snapshot".into(),
        LinkMessage::SnapshotEnd => return "the snapshot ends".into(),
    };
    match packet {
        Packet::FollowerInfo { accepted_epoch, .. } => format!("FOLLOWERINFO accepted {accepted_epoch}"),
        Packet::ObserverInfo { accepted_epoch, .. } => format!("OBSERVERINFO accepted {accepted_epoch}"),
        Packet::LeaderInfo { epoch, .. } => format!("LEADERINFO {epoch}"),
        Packet::AckEpoch { last, current_epoch } => {
            let last = last.map_or("-1".into(), text_of);
            format!("ACKEPOCH last {last}, epoch {}", current_epoch.map_or("-1".into(), |epoch| epoch.to_string()))
        }
        Packet::Diff { zxid } => format!("DIFF {}", text_of(*zxid)),
        Packet::Trunc { zxid } => format!("TRUNC {}", text_of(*zxid)),
        Packet::Snap { zxid } => format!("SNAP {}", text_of(*zxid)),
        Packet::Proposal { zxid, .. } => format!("PROPOSAL {}", text_of(*zxid)),
        Packet::Commit { zxid } => format!("COMMIT {}", text_of(*zxid)),
        Packet::Inform { zxid, .. } => format!("INFORM {}", text_of(*zxid)),
        Packet::NewLeader { zxid, .. } => format!("NEWLEADER {}", text_of(*zxid)),
        Packet::UpToDate => "UPTODATE".into(),
        Packet::Ack { zxid } => format!("ACK {}", text_of(*zxid)),
        Packet::NextEpoch { epoch } => format!("NEXTEPOCH {epoch}"),
        Packet::NextEpochAccepted { epoch } => format!("accepted NEXTEPOCH {epoch}"),
        Packet::NextEpochBegins { epoch } => format!("NEXTEPOCH {epoch} begins"),
        Packet::NextEpochAdopted { epoch } => format!("adopted NEXTEPOCH {epoch}"),
        Packet::HandOver { leader } => format!("HANDOVER to {leader}"),
        other => format!("{other:?}"),
    }
}
