//! A port where learners call: the quorum port of a leader, and the one of a follower that serves observers.
//!
//! It listens as long as the process serves; whether a caller is wanted changes with the role. Who calls before its leader
//! knows that it leads waits a moment instead of being refused: both were elected by the same votes, and a refusal would
//! cost it the pause before its next attempt. Java: `Leader.LearnerCnxAcceptor`, `ObserverMaster`. Spec: quorum-protocol 6.1, 15.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::TcpStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use tracing::{info, warn};

use super::links::Links;
use crate::shell::flag::Flag;
use crate::shell::mailbox::Arrivals;
use crate::shell::pipeline::PipelineHandle;
use crate::shell::reactor::next_turn;

/// How long a caller may wait for a server that does not lead yet.
const PATIENCE: Duration = Duration::from_millis(500);

/// Callers that wait. At the bound the oldest is turned away.
const WAITING: usize = 64;

pub struct LearnerPort {
    links: Rc<Links>,
    accepting: Cell<bool>,
    waiting: RefCell<Vec<(TcpStream, Instant)>>,
    /// Raised when callers that wait are wanted.
    wanted: Flag,
}

impl LearnerPort {
    pub fn new(links: Rc<Links>) -> LearnerPort {
        LearnerPort { links, accepting: Cell::new(false), waiting: RefCell::default(), wanted: Flag::default() }
    }

    pub fn accept(&self, accepting: bool) {
        self.accepting.set(accepting);
        self.wanted.raise();
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
        match self.links.enter(socket) {
            Ok(link) => {
                info!("a learner connected from {}", link.peer());
                let id = link.id();
                link.is_stranger();
                link.serve(pipeline.clone());
                pipeline.borrow_mut().learner_connected(id);
            }
            Err(error) => warn!("a learner's connection cannot be used: {error}"),
        }
    }
}
