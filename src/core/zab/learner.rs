//! Following or observing a leader: from the connection to the end of the role.

use std::collections::VecDeque;

use bytes::Bytes;

use super::membership::Configurations;
use crate::core::settings::Ensemble;
use crate::core::types::{EpochKind, Epochs, LinkId, LinkMessage, Now, Output, ServerId, Standing, Zxid};
use crate::wire::quorum::ForwardedRequest;

/// What this server has when it begins to follow.
#[derive(Clone, Copy, Debug)]
pub struct LearnerStart {
    pub id: ServerId,
    pub leader: ServerId,
    pub observer: bool,
    pub epochs: Epochs,
    /// The newest transaction, durable and applied.
    pub last: Zxid,
    pub standing: Standing,
}

/// What the node has to do. In order.
#[derive(Debug)]
pub enum LearnerEvent {
    /// Append to the log, and keep until its commit.
    Log {
        zxid: Zxid,
        txn: Bytes,
    },
    /// Everything logged through here is committed: apply it.
    Commit {
        through: Zxid,
    },
    /// `Output::Truncate` or `Output::InstallFinish` is out: what the node has in memory is void, `Input::Reloaded` follows.
    Reloading,
    /// In step with the leader of this epoch: serve.
    Serving {
        epoch: u32,
    },
    /// Answer with `Learner::pong` and the sessions heard of since.
    Ping {
        zxid: Zxid,
    },
    /// The answer to `Learner::revalidate`.
    Revalidated {
        session: i64,
        valid: bool,
    },
    /// The oldest forwarded `sync` may be answered.
    Synced,
    /// The counter rolled over: this epoch goes on in place of the old one, durable here.
    NextEpoch {
        epoch: u32,
    },
    /// The leader hands over to this server.
    HandedOver {
        leader: ServerId,
    },
    Over {
        why: String,
    },
}

#[derive(Debug)]
pub struct Learner {
    start: LearnerStart,
    events: VecDeque<LearnerEvent>,
}

impl Learner {
    /// Begins with `Output::ConnectToMaster`.
    pub fn new(
        now: Now,
        start: LearnerStart,
        settings: &Ensemble,
        configs: &Configurations,
        out: &mut Vec<Output>,
    ) -> Learner {
        let _ = (now, settings, configs, out);
        Learner { start, events: VecDeque::new() }
    }

    pub fn leader(&self) -> ServerId {
        self.start.leader
    }

    pub fn on_connected(&mut self, now: Now, link: LinkId, out: &mut Vec<Output>) {
        let _ = (now, link, out);
    }

    pub fn on_unreachable(&mut self) {}

    pub fn on_closed(&mut self, link: LinkId) {
        let _ = link;
    }

    pub fn on_message(&mut self, now: Now, link: LinkId, message: LinkMessage, out: &mut Vec<Output>) {
        let _ = (now, link, message, out);
    }

    pub fn on_epoch_stored(&mut self, now: Now, kind: EpochKind, epoch: u32, out: &mut Vec<Output>) {
        let _ = (now, kind, epoch, out);
    }

    /// Everything logged through here is stable.
    pub fn on_durable(&mut self, through: Zxid, out: &mut Vec<Output>) {
        let _ = (through, out);
    }

    /// The disk was cut or replaced, and ends with `last` now.
    pub fn on_reloaded(&mut self, now: Now, last: Zxid, standing: Standing, out: &mut Vec<Output>) {
        let _ = (now, last, standing, out);
    }

    pub fn on_tick(&mut self, now: Now, out: &mut Vec<Output>) {
        let _ = (now, out);
    }

    pub fn wake_us(&self) -> Option<u64> {
        None
    }

    /// A client's write, `sync`, or session, on its way to the leader. Only while serving.
    pub fn forward(&mut self, request: ForwardedRequest, out: &mut Vec<Output>) {
        let _ = (request, out);
    }

    /// A client is back with its session: may it have it? `LearnerEvent::Revalidated` answers.
    pub fn revalidate(&mut self, session: i64, timeout_ms: i32, out: &mut Vec<Output>) {
        let _ = (session, timeout_ms, out);
    }

    /// The answer to `LearnerEvent::Ping`.
    pub fn pong(&mut self, zxid: Zxid, touched: Vec<(i64, i32)>, out: &mut Vec<Output>) {
        let _ = (zxid, touched, out);
    }

    /// The role ends here (the server stops, its configuration changed): nothing that completes later has an effect.
    pub fn end(&mut self, out: &mut Vec<Output>) {
        let _ = out;
    }

    pub fn next_event(&mut self) -> Option<LearnerEvent> {
        self.events.pop_front()
    }
}
