//! Followers that serve observers, on the stage of `sync-*.txt`.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use ringkeeper::core::types::{LinkMessage, Output, ServerId, Zxid};
use ringkeeper::core::zab::Leader;
use ringkeeper::core::zab::leader::{LeaderEvent, LeaderStart};
use ringkeeper::core::zab::window::Window;

use super::{SyncStage, learner_of, send_snapshot, view};

#[derive(Default)]
pub struct Relays {
    /// Of observers that have a follower for it.
    masters: BTreeMap<i64, i64>,
    /// What each learner has applied, and what it has logged beyond.
    applied: BTreeMap<i64, (Window, VecDeque<Zxid>)>,
    serving: BTreeMap<i64, Leader>,
}

impl Relays {
    pub fn set_master(&mut self, id: i64, master: i64) -> Result<(), String> {
        self.masters.insert(id, master);
        self.serving.contains_key(&master).then_some(()).ok_or_else(|| format!("{master} serves no observers"))
    }

    pub fn master_of(&self, id: i64) -> Option<i64> {
        self.masters.get(&id).copied()
    }

    pub fn follows(&mut self, id: i64, log: &[Zxid]) {
        let mut window = Window::new(500, Zxid::ZERO);
        log.iter().for_each(|zxid| window.push(*zxid, Bytes::new()));
        self.applied.insert(id, (window, VecDeque::new()));
    }

    pub fn logged(&mut self, id: i64, zxid: Zxid) {
        if let Some((_, tail)) = self.applied.get_mut(&id) {
            tail.push_back(zxid);
        }
    }
}

impl SyncStage {
    /// Whoever serves this learner.
    pub(super) fn master(&mut self, id: i64) -> Option<&mut Leader> {
        match self.relays.master_of(id) {
            Some(master) => self.relays.serving.get_mut(&master),
            None => self.leader.as_mut().map(|(_, leader, _)| leader),
        }
    }

    /// What the master of this learner wants.
    pub(super) fn carry_out_master(&mut self, id: i64, out: Vec<Output>) {
        match self.relays.master_of(id) {
            Some(master) => self.carry_out_relay(master, out),
            None => self.carry_out_leader(out),
        }
    }

    pub(super) fn master_loses(&mut self, id: i64) {
        let (now, link, mut out) = (self.now, self.links[&id], Vec::new());
        if let Some(master) = self.master(id) {
            master.on_closed(now, link, &mut out);
        }
        self.carry_out_master(id, out);
    }

    pub(super) fn begin_relay(&mut self, id: i64) {
        if !self.settings.observer_masters || self.observers.contains(&id) {
            return;
        }
        let (window, _) = &self.relays.applied[&id];
        let start = LeaderStart {
            id: ServerId(id),
            epochs: self.disks[&id].epochs,
            last: window.last(),
            founds: false,
            reconfigures: false,
        };
        let configs = self.configs.as_ref().expect("there is an ensemble");
        let relay = Leader::relaying(self.now, start, &self.settings, configs, &mut Vec::new());
        self.relays.serving.insert(id, relay);
    }

    /// The follower applies what it has logged.
    pub(super) fn relay(&mut self, id: i64, through: Zxid) {
        let Some((window, tail)) = self.relays.applied.get_mut(&id) else { return };
        let mut out = Vec::new();
        while let Some(zxid) = tail.pop_front_if(|zxid| *zxid <= through) {
            window.push(zxid, Bytes::new());
            if let Some(relay) = self.relays.serving.get_mut(&id) {
                relay.relay(zxid, &Bytes::new(), &mut out);
            }
        }
        if let Some(relay) = self.relays.serving.get_mut(&id) {
            relay.caught_up(view(window), &mut out);
        }
        self.carry_out_relay(id, out);
    }

    pub(super) fn relay_epoch(&mut self, id: i64, epoch: u32) {
        let mut out = Vec::new();
        if let Some(relay) = self.relays.serving.get_mut(&id) {
            relay.relay_epoch(epoch, &mut out);
        }
        self.carry_out_relay(id, out);
    }

    pub(super) fn tick_relays(&mut self) {
        for id in self.relays.serving.keys().copied().collect::<Vec<_>>() {
            let mut out = Vec::new();
            self.relays.serving.get_mut(&id).expect("it is there").on_tick(self.now, &mut out);
            self.carry_out_relay(id, out);
        }
    }

    pub(super) fn deliver_to_relay(&mut self, from: i64, to: i64, message: LinkMessage) -> Result<(), String> {
        let (now, link, mut out) = (self.now, self.links[&from], Vec::new());
        let (window, _) = &self.relays.applied[&to];
        if let Some(relay) = self.relays.serving.get_mut(&to) {
            relay.on_message(now, link, message, view(window), &mut out);
        }
        self.carry_out_relay(to, out);
        Ok(())
    }

    fn carry_out_relay(&mut self, id: i64, mut out: Vec<Output>) {
        let Some(relay) = self.relays.serving.get_mut(&id) else { return };
        while let Some(event) = relay.next_event() {
            match event {
                LeaderEvent::SnapshotWanted { link } => {
                    send_snapshot(relay, link, self.relays.applied[&id].0.last(), &mut out);
                }
                LeaderEvent::LinkGone { .. } | LeaderEvent::Syncs { .. } => {}
                other => self.told.push(format!("  {id} hears {other:?}")),
            }
        }
        for output in out {
            match output {
                Output::LinkSend { link, message } => self.sent.push_back((id, learner_of(link), message)),
                Output::LinkClose { link, why } => {
                    self.told.push(format!("  {id} closes the link of {}: {why}", learner_of(link)));
                    self.close_learner(learner_of(link));
                }
                _ => {}
            }
        }
    }
}
