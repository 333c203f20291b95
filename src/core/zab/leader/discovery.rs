//! From "elected" to "established": who wants to follow, the epoch a quorum accepts, and the quorum that has its history.
//!
//! Holds: LEADERINFO tells an epoch that is durable here and above every epoch the quorum had accepted; nobody who is ahead of this
//! server makes it a leader; UPTODATE goes out when a quorum acknowledged NEWLEADER.
//! Not here: the history itself (`synchronise.rs`).

use ringkeeper_storage::probe::{broken, mark};

use super::{Leader, LeaderEvent, Phase, SyncView};
use crate::core::types::{EpochKind, LinkId, Now, Output, ServerId, Zxid};
use crate::core::zab::epoch::{FORGOTTEN, Summary};
use crate::core::zab::learner_handler::{Handler, Stage};
use crate::limits;
use crate::wire::quorum::{LearnerInfo, PROTOCOL_JAVA, PROTOCOL_RINGKEEPER, Packet};

impl Leader {
    pub(super) fn on_info(
        &mut self,
        link: LinkId,
        accepted: u32,
        info: LearnerInfo,
        observer: bool,
        out: &mut Vec<Output>,
    ) {
        let id = ServerId(info.server);
        if self.phase == Phase::Relaying && !observer {
            let why = format!("server {} wants to follow, and only observers are served here", id.0);
            return self.close(link, &why, out);
        }
        if info.protocol < PROTOCOL_JAVA {
            let why = format!("server {} speaks protocol {:#x}, older than {PROTOCOL_JAVA:#x}", id.0, info.protocol);
            return self.close(link, &why, out);
        }
        if id == self.id {
            let why = format!("it says it is server {}, and so is this one: give each its own `myid`", id.0);
            return self.close(link, &why, out);
        }
        if info.config_version > self.configs.committed.version {
            let why = format!(
                "server {} has configuration {:x} in force, later than {:x} here",
                id.0, info.config_version, self.configs.committed.version
            );
            return self.close(link, &why, out);
        }
        if accepted >= limits::EPOCH_LAST {
            return self.close(link, &format!("server {} has accepted epoch {accepted}, the last there is", id.0), out);
        }
        let same = |handler: &&Handler| handler.id == Some(id);
        if let Some(older) = self.handlers.values().find(same).map(|handler| handler.link) {
            mark("leader: a learner is back on another link");
            self.close(older, "it is back on another link", out);
        }
        if self.handlers.values().filter(|handler| handler.id.is_some()).count() >= limits::LEARNERS {
            return self.close(link, "there are too many learners", out);
        }
        let vote = self.vote_for(id, observer);
        let handler = self.handlers.get_mut(&link).expect("it has just said so");
        handler.introduce(info, observer, vote);
        if self.phase != Phase::Discovering && self.was_later(id) && !broken("accept an old epoch") {
            // It hears the epoch, so that it can say why, too. Moving on above its epoch would make what it has look like the past.
            let handler = self.handlers.get_mut(&link).expect("as above");
            handler.send_packet(Packet::LeaderInfo { epoch: self.epoch, protocol: PROTOCOL_RINGKEEPER }, out);
            let why = format!("server {} was in an epoch later than {}: {FORGOTTEN}", id.0, self.epoch);
            return self.close(link, &why, out);
        }
        self.choice.connected(vote, accepted);
        match self.phase {
            Phase::Discovering => self.on_connecting(self.now_us, out),
            Phase::Promising => {}
            _ if accepted > self.epoch && !broken("accept an old epoch") => {
                mark("leader: a learner has accepted a later epoch");
                let why = format!("it has accepted epoch {accepted}, later than {} here", self.epoch);
                self.close(link, &why, out);
                self.consider_transition(out);
            }
            _ => self.tell_epoch(out),
        }
    }

    /// A voter looks for a leader, votes for itself, and says which epoch it was in.
    pub fn on_claim(&mut self, id: ServerId, epoch: u32) {
        self.claims.insert(id, epoch);
    }

    /// Whether this voter was in a later epoch. A quorum accepts an epoch before anybody is in it, and those who elected this
    /// server had accepted no later one: so they have forgotten.
    fn was_later(&self, id: ServerId) -> bool {
        self.claims.get(&id).is_some_and(|epoch| *epoch > self.epoch)
    }

    /// Whoever elected this server, and looks for a leader again, will not come: then it may be quicker to elect anew with him
    /// than to wait for the others. Java: `Leader.reportLookingSid`; off by default. Spec: quorum-protocol 6.4.
    pub fn on_elector_looking(&mut self, now: Now, id: ServerId, out: &mut Vec<Output>) {
        self.now_us = now.mono_us;
        let began_us = self.phase_until_us.saturating_sub(self.allowance.init_us);
        if let Some(most_ms) = self.settings.epoch_wait_ms
            && self.phase == Phase::Discovering
            && now.mono_us > began_us + u64::from(most_ms) * 1000
        {
            mark("leader: an elector looks for a leader again");
            let why = format!("server {} voted for this one and is looking again after {most_ms} ms", id.0);
            self.over(why, out);
        }
    }

    pub(super) fn on_connecting(&mut self, now_us: u64, out: &mut Vec<Output>) {
        let Some(epoch) = self.choice.proposal(self.proposals.ballot()) else {
            return;
        };
        self.now_us = now_us;
        if epoch > limits::EPOCH_LAST {
            return self.over(format!("epoch {} was the last there is", epoch - 1), out);
        }
        self.epoch = epoch;
        self.led.push(epoch);
        self.enter(Phase::Promising);
        if self.founds {
            // As a learner that founds: it counts on its own word that it has nothing, and has to stand by it.
            mark("leader: a founder");
            out.push(Output::StoreEpoch { kind: EpochKind::Current, epoch: 0 });
        }
        out.push(Output::StoreEpoch { kind: EpochKind::Accepted, epoch });
        if broken("leader: LEADERINFO before acceptedEpoch is durable") {
            self.tell_epoch(out);
        }
    }

    /// LEADERINFO to everybody who waits for it, unless the epoch is about to change.
    pub(super) fn tell_epoch(&mut self, out: &mut Vec<Output>) {
        if self.transition.is_under_way() {
            return;
        }
        for handler in self.handlers.values_mut().filter(|handler| matches!(handler.stage, Stage::AwaitsEpoch)) {
            handler.stage = Stage::Informed;
            handler.expect(self.now_us, self.allowance.init_us);
            handler.send_packet(Packet::LeaderInfo { epoch: self.epoch, protocol: PROTOCOL_RINGKEEPER }, out);
        }
    }

    pub(super) fn on_ack_epoch(
        &mut self,
        link: LinkId,
        last: Option<Zxid>,
        current_epoch: Option<u32>,
        view: SyncView<'_>,
        out: &mut Vec<Output>,
    ) {
        let handler = self.handlers.get_mut(&link).expect("it has just said so");
        handler.stage = Stage::AwaitsHistory { last };
        handler.expect_nothing();
        handler.progressed(self.now_us, &self.allowance);
        let vote = handler.vote;
        match self.phase {
            Phase::Promising | Phase::Electing => {
                // None: it had accepted this epoch before, perhaps from another leader.
                if let Some(current_epoch) = current_epoch
                    && !self.choice.accepted_by(vote, Summary { current_epoch, last })
                {
                    mark("leader: a learner is ahead");
                    let nominee = handler.id.map(|id| (Summary { current_epoch, last }, id));
                    self.ahead = self.ahead.max(nominee.filter(|(_, id)| self.is_only_proposed(*id)));
                    let told = last.unwrap_or_default();
                    let why = format!("it is ahead of its leader: epoch {current_epoch}, newest transaction {told}");
                    return self.close(link, &why, out);
                }
                self.on_epoch_accepted(out);
            }
            Phase::Adopting => {}
            Phase::Relaying if self.is_behind(last) => {
                mark("observer master: an observer is ahead");
                let handler = self.handlers.get_mut(&link).expect("it has just said so");
                handler.expect(self.now_us, self.allowance.init_us);
            }
            _ => self.synchronise(link, view, out),
        }
    }

    pub(super) fn on_epoch_accepted(&mut self, out: &mut Vec<Output>) {
        if self.phase == Phase::Electing && self.choice.is_accepted(self.proposals.ballot()) {
            self.enter(Phase::Adopting);
            self.name_configuration();
            out.push(Output::StoreEpoch { kind: EpochKind::Current, epoch: self.epoch });
        }
    }

    fn is_only_proposed(&self, id: ServerId) -> bool {
        self.configs.is_changing() && self.configs.last_seen.is_voter(id) && !self.configs.committed.is_voter(id)
    }

    /// Where a configuration is proposed its voters may have more than anybody who decides now: then they make nobody a leader,
    /// and without them there may be no quorum. So one of them has to lead. Only somebody who knows of the proposal can vote for
    /// it: a quorum of those who decide has said that it does.
    pub(super) fn better_candidate(&self) -> Option<(Summary, ServerId)> {
        let proposed = Zxid(self.configs.last_seen.version);
        let knows =
            |handler: &Handler| matches!(handler.stage, Stage::AwaitsHistory { last } if last >= Some(proposed));
        let would_vote =
            |id| id == self.id || self.handlers.values().any(|handler| handler.id == Some(id) && knows(handler));
        self.ahead.filter(|_| self.phase == Phase::Electing && self.configs.committed.has_quorum(would_vote))
    }

    pub(super) fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.phase_until_us = self.now_us + self.allowance.init_us;
    }

    pub(super) fn on_new_leader_ack(&mut self, link: LinkId, zxid: Zxid, out: &mut Vec<Output>) {
        if zxid != Zxid::new(self.epoch, 0) {
            let why = format!("it acknowledged {zxid} where NEWLEADER {} was due", Zxid::new(self.epoch, 0));
            return self.close(link, &why, out);
        }
        let handler = self.handlers.get_mut(&link).expect("it has just said so");
        let kind = handler.syncing().expect("NEWLEADER ends what was chosen for it");
        handler.synchronised(self.now_us, &self.allowance);
        self.synchronised.add(handler.vote);
        self.tell_sync(kind, false);
        if matches!(self.phase, Phase::Broadcasting | Phase::Relaying) {
            self.up_to_date(out);
            self.consider_transition(out);
        } else {
            self.establish_if_synchronised(out);
        }
    }

    pub(super) fn establish_if_synchronised(&mut self, out: &mut Vec<Output>) {
        let enough = self.proposals.ballot().is_quorum(self.synchronised);
        if !enough && !broken("leader: serve before a quorum acknowledged NEWLEADER") {
            return;
        }
        self.phase = Phase::Broadcasting;
        self.proposals.begin_epoch(self.epoch);
        self.next_check_us = self.now_us + self.tick_us();
        if !self.activate_with_epoch() {
            mark("leader: completes a change that leaves it out");
            self.up_to_date(out);
            let events = std::mem::take(&mut self.events);
            self.end(out);
            self.events = events;
            let why = "the configuration that came in force with this epoch is led by others".to_owned();
            return self.events.push_back(LeaderEvent::Over { why });
        }
        self.events.push_back(LeaderEvent::Established { epoch: self.epoch });
        self.up_to_date(out);
        self.consider_transition(out);
    }

    /// UPTODATE to everybody who waits for it.
    pub(super) fn up_to_date(&mut self, out: &mut Vec<Output>) {
        for handler in self.handlers.values_mut().filter(|handler| matches!(handler.stage, Stage::Synchronised)) {
            handler.in_step(self.now_us, &self.allowance);
            handler.up_to_date(out);
        }
    }
}
