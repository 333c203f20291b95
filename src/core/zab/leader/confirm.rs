//! Does a quorum still follow? Asked before this server says that something does not exist: who was deposed and does not know it
//! cannot know what was made since.
//!
//!   confirm --PING to everybody in step--> a quorum has answered --> LeaderEvent::Confirmed
//!
//! A learner answers every PING in turn, as long as it follows; to promise an epoch to somebody else it leaves first. So once a
//! quorum has answered a PING that went out after the question, no later epoch had begun when it was asked. One round at a time:
//! what is asked meanwhile waits for the next. Without an answer the leader is over before long, as ever. Java asks nobody: we differ
//! in D-065, see `docs/COMPATIBILITY.md`.

use super::{Leader, LeaderEvent};
use crate::core::types::Output;

#[derive(Debug, Default)]
pub(super) struct Rounds {
    begun: u64,
    done: u64,
    /// Somebody asked after the present one had begun.
    another: bool,
}

impl Leader {
    /// The round whose end is the answer: `LeaderEvent::Confirmed` of it, or of a later one.
    pub fn confirm(&mut self, out: &mut Vec<Output>) -> u64 {
        if self.rounds.begun > self.rounds.done {
            self.rounds.another = true;
            return self.rounds.begun + 1;
        }
        let round = self.rounds.begun + 1;
        self.begin_round(out);
        round
    }

    pub(super) fn begin_round(&mut self, out: &mut Vec<Output>) {
        self.rounds.begun += 1;
        for handler in self.handlers.values_mut() {
            handler.begin_round();
        }
        self.ping(out);
        self.end_round(out);
    }

    /// After every answer to a PING.
    pub(super) fn end_round(&mut self, out: &mut Vec<Output>) {
        if self.rounds.begun == self.rounds.done {
            return;
        }
        let answered = self.handlers.values().filter(|handler| handler.has_answered());
        let answered = answered.fold(self.own_vote, |votes, handler| votes.with(handler.vote));
        if !self.proposals.ballot().is_quorum(answered) {
            return;
        }
        self.rounds.done = self.rounds.begun;
        self.events.push_back(LeaderEvent::Confirmed { round: self.rounds.done });
        if std::mem::take(&mut self.rounds.another) {
            self.begin_round(out);
        }
    }
}
