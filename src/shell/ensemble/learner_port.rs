//! The quorum port: learners that call, and the call to the master.
//!
//! The port listens as long as the process serves; whether a caller is wanted changes with the role. Who calls before its
//! leader knows that it leads waits a moment instead of being refused: both were elected by the same votes, and a refusal
//! would cost it the pause before its next attempt. Java: `Leader.LearnerCnxAcceptor`, `Learner.connectToLeader`.
//! Spec: quorum-protocol 6.1.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::TcpStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use tracing::{debug, info, warn};

use super::dial::dial;
use super::links::Links;
use super::roll::Roll;
use crate::core::ServerId;
use crate::shell::flag::Flag;
use crate::shell::mailbox::Arrivals;
use crate::shell::pipeline::PipelineHandle;
use crate::shell::turn::next_turn;
use crate::wire::jute::Limits;

/// How long a caller may wait for a server that does not lead yet.
const PATIENCE: Duration = Duration::from_millis(500);

/// Callers that wait. At the bound the oldest is turned away.
const WAITING: usize = 64;

/// Of the time a master may take to be there, one attempt may take so much: it may be down, and another address be right.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct LearnerSettings {
    pub limits: Limits,
    pub keep_alive: bool,
    /// `leaderConnectDelayDuringRetryMs`: between two attempts.
    pub retry_pause: Duration,
}

pub struct LearnerPort {
    settings: LearnerSettings,
    links: Rc<Links>,
    roll: Rc<Roll>,
    accepting: Cell<bool>,
    waiting: RefCell<Vec<(TcpStream, Instant)>>,
    /// Raised when callers that wait are wanted.
    wanted: Flag,
    search: RefCell<Option<Search>>,
    /// Raised when the search changes.
    searched: Flag,
}

#[derive(Clone, Copy, Debug)]
struct Search {
    master: ServerId,
    until: Instant,
}

impl LearnerPort {
    pub fn new(settings: LearnerSettings, links: Rc<Links>, roll: Rc<Roll>) -> LearnerPort {
        LearnerPort {
            settings,
            links,
            roll,
            accepting: Cell::new(false),
            waiting: RefCell::default(),
            wanted: Flag::default(),
            search: RefCell::default(),
            searched: Flag::default(),
        }
    }

    pub fn accept(&self, accepting: bool) {
        self.accepting.set(accepting);
        self.wanted.raise();
    }

    pub fn connect(&self, master: ServerId, limit_ms: u64) {
        let until = Instant::now() + Duration::from_millis(limit_ms);
        *self.search.borrow_mut() = Some(Search { master, until });
        self.searched.raise();
    }

    pub fn forget_master(&self) {
        *self.search.borrow_mut() = None;
        self.searched.raise();
    }

    /// Answers callers until the accept threads end.
    pub async fn run_callers(self: Rc<Self>, mut arrivals: Arrivals<TcpStream>, pipeline: PipelineHandle) {
        loop {
            let next = {
                let called = std::pin::pin!(poll_fn(|cx| arrivals.poll_next(cx)));
                let wanted = std::pin::pin!(self.wanted.lowered());
                match select(called, wanted).await {
                    Either::Left((Some(socket), _)) => Some(socket),
                    Either::Left((None, _)) => return,
                    Either::Right(_) => None,
                }
            };
            if let Some(socket) = next {
                let mut waiting = self.waiting.borrow_mut();
                if waiting.len() == WAITING {
                    waiting.remove(0);
                }
                waiting.push((socket, Instant::now()));
            }
            if self.accepting.get() {
                let waiting = self.waiting.take();
                for (socket, _) in waiting.into_iter().filter(|(_, since)| since.elapsed() < PATIENCE) {
                    self.enter(socket, &pipeline);
                }
            }
            next_turn().await;
        }
    }

    /// Turns away who has waited in vain. Now and then.
    pub fn tick(&self) {
        self.waiting.borrow_mut().retain(|(_, since)| since.elapsed() < PATIENCE);
    }

    fn enter(&self, socket: TcpStream, pipeline: &PipelineHandle) {
        match self.links.enter(socket, self.settings.keep_alive) {
            Ok(link) => {
                info!("a learner connected from {}", link.peer());
                let id = link.id();
                link.serve(pipeline.clone(), self.settings.limits);
                pipeline.borrow_mut().learner_connected(id);
            }
            Err(error) => warn!("a learner's connection cannot be used: {error}"),
        }
    }

    /// Looks for the master whenever the core wants one, for as long as the executor runs.
    pub async fn run_search(self: Rc<Self>, pipeline: PipelineHandle) {
        loop {
            let Some(Search { master, until }) = *self.search.borrow() else {
                self.searched.lowered().await;
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                *self.search.borrow_mut() = None;
                pipeline.borrow_mut().master_unreachable();
                continue;
            }
            let addresses = self.roll.quorum_addresses(master);
            let dialled = {
                let dialling = std::pin::pin!(dial(&addresses, left.min(ATTEMPT_LIMIT)));
                match select(dialling, std::pin::pin!(self.searched.lowered())).await {
                    Either::Left((dialled, _)) => dialled,
                    Either::Right(_) => continue, // another one, or none any more
                }
            };
            match dialled.and_then(|socket| self.links.enter(socket, self.settings.keep_alive)) {
                Ok(link) => {
                    info!("connected to server {} at {}", master.0, link.peer());
                    *self.search.borrow_mut() = None;
                    let id = link.id();
                    link.serve(pipeline.clone(), self.settings.limits);
                    pipeline.borrow_mut().master_connected(id);
                }
                Err(error) => {
                    debug!("server {} cannot be reached on its quorum port: {error}", master.0);
                    let pause = std::pin::pin!(glommio::timer::sleep(self.settings.retry_pause));
                    select(pause, std::pin::pin!(self.searched.lowered())).await;
                }
            }
        }
    }
}
