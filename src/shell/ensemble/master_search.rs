//! The call to the master: a follower's or an observer's way to whom it follows.
//!
//! It is called again and again until it answers or the time is over; a newer search takes the place of an older one. An
//! attempt has a limit of its own: the master may be down, and another of its addresses be right.
//! Java: `Learner.connectToLeader`. Spec: quorum-protocol 6.1, 15.

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use tracing::{debug, info};

use super::dial::Dials;
use super::links::Links;
use super::roll::Roll;
use crate::core::ServerId;
use crate::shell::flag::Flag;
use crate::shell::pipeline::PipelineHandle;
use crate::shell::reactor;
use crate::shell::resolve::HostPort;

const ATTEMPT_LIMIT: Duration = Duration::from_secs(5);

pub struct MasterSearch {
    links: Rc<Links>,
    roll: Rc<Roll>,
    dials: Rc<Dials>,
    /// `leaderConnectDelayDuringRetryMs`: between two attempts.
    retry_pause: Duration,
    wanted: RefCell<Option<Wanted>>,
    /// How the last attempt to reach the one that is wanted failed.
    failure: RefCell<Option<(ServerId, String)>>,
    /// Raised when that changes.
    changed: Flag,
}

#[derive(Clone, Copy, Debug)]
struct Wanted {
    master: ServerId,
    port: MasterPort,
    until: Instant,
}

/// Where a master is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MasterPort {
    /// A leader's.
    Quorum,
    /// A follower's, for observers.
    Observers,
}

impl MasterSearch {
    pub fn new(links: Rc<Links>, roll: Rc<Roll>, dials: Rc<Dials>, retry_pause: Duration) -> MasterSearch {
        MasterSearch {
            links,
            roll,
            dials,
            retry_pause,
            wanted: RefCell::default(),
            failure: RefCell::default(),
            changed: Flag::default(),
        }
    }

    pub fn begin(&self, master: ServerId, port: MasterPort, limit_ms: u64) {
        let until = Instant::now() + Duration::from_millis(limit_ms);
        *self.wanted.borrow_mut() = Some(Wanted { master, port, until });
        *self.failure.borrow_mut() = None;
        self.changed.raise();
    }

    pub fn end(&self) {
        *self.wanted.borrow_mut() = None;
        *self.failure.borrow_mut() = None;
        self.changed.raise();
    }

    pub fn trouble(&self, server: ServerId) -> Option<String> {
        self.failure.borrow().as_ref().filter(|(wanted, _)| *wanted == server).map(|(_, failure)| failure.clone())
    }

    /// Searches whenever the core wants a master, for as long as the executor runs.
    pub async fn run(self: Rc<Self>, pipeline: PipelineHandle) {
        // Whom the last attempt called, and when it was over.
        let mut called: Option<(ServerId, Instant)> = None;
        loop {
            let Some(Wanted { master, port, until }) = *self.wanted.borrow() else {
                self.changed.lowered().await;
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                *self.wanted.borrow_mut() = None;
                pipeline.borrow_mut().master_unreachable();
                continue;
            }
            // It refused the last call, or took it and hung up.
            let before = called.filter(|(called, _)| *called == master);
            let pause = before.map_or(Duration::ZERO, |(_, at)| self.retry_pause.saturating_sub(at.elapsed()));
            if !pause.is_zero() {
                unless_changed(&self.changed, reactor::sleep(pause.min(left))).await;
                continue;
            }
            let addresses = self.addresses(master, port);
            let dialling = self.dials.dial(&addresses, &[], left.min(ATTEMPT_LIMIT));
            let Some(dialled) = unless_changed(&self.changed, dialling).await else {
                continue; // another one, or none any more
            };
            called = Some((master, Instant::now()));
            match dialled.and_then(|socket| self.links.enter(socket)) {
                Ok(link) => {
                    info!("connected to server {} at {}", master.0, link.peer());
                    *self.wanted.borrow_mut() = None;
                    *self.failure.borrow_mut() = None;
                    let id = link.id();
                    link.serve(pipeline.clone());
                    pipeline.borrow_mut().master_connected(id);
                }
                Err(error) => {
                    debug!("server {} cannot be reached: {error}", master.0);
                    *self.failure.borrow_mut() = Some((master, error.to_string()));
                }
            }
        }
    }

    fn addresses(&self, master: ServerId, port: MasterPort) -> Vec<HostPort> {
        match port {
            MasterPort::Quorum => self.roll.quorum_addresses(master),
            MasterPort::Observers => self.roll.observer_addresses(master),
        }
    }
}

/// None: it was raised, be it in the same moment: what was done was for somebody else.
async fn unless_changed<T>(changed: &Flag, done: impl Future<Output = T>) -> Option<T> {
    match select(pin!(changed.lowered()), pin!(done)).await {
        Either::Left(_) => None,
        Either::Right((done, _)) => Some(done),
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use futures_lite::future::block_on;

    use super::*;

    #[test]
    fn who_answers_when_another_master_is_wanted_already_is_not_taken_for_it() {
        let changed = Flag::default();
        assert_eq!(block_on(unless_changed(&changed, ready("old"))), Some("old"));
        changed.raise();
        assert_eq!(block_on(unless_changed(&changed, ready("old"))), None);
        assert_eq!(block_on(unless_changed(&changed, ready("new"))), Some("new"));
    }
}
