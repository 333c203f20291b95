//! How much of what clients ask for is done before everybody else has a turn.
//!
//! A few bytes can ask for a walk through the whole tree, a full read buffer for thousands of them, and while they are done nobody
//! hears a heartbeat. So frames are looked at until so much work is done. Whose turn it is then waits, and whoever comes after
//! it, until the shell has looked at everything else: `Input::NextTurn`, in which those are served that have waited longest.
//! Their sessions live meanwhile: it is us who do not listen.
//! What waits behind a write has its bound in [`Node::foreseen_answer_bytes`](Node).

use std::collections::VecDeque;

use ringkeeper_storage::probe::mark;

use crate::core::connection::State;
use crate::core::node::{Node, Slot};
use crate::core::types::{ConnectionId, Now, Output};

/// A request that looks at one node, counted in nodes of a walk.
const REQUEST_NODES: u64 = 8;

#[derive(Debug, Default)]
pub(in crate::core) struct TurnWork {
    /// In this turn so far.
    nodes: u64,
    /// Connections that wait for the next one, longest first.
    cut: VecDeque<ConnectionId>,
}

impl TurnWork {
    pub fn request(&mut self) {
        self.nodes += REQUEST_NODES;
    }

    /// A request has looked at so many nodes.
    pub fn walked(&mut self, nodes: u64) {
        self.nodes = self.nodes.saturating_add(nodes);
    }
}

impl Node {
    /// Whether clients wait for `Input::NextTurn`.
    pub fn wants_turn(&self) -> bool {
        !self.turn_work.cut.is_empty() || (self.is_turn_over() && self.has_queue())
    }

    /// So much is done in this turn that everybody else is to have one.
    pub(super) fn is_turn_over(&self) -> bool {
        self.turn_work.nodes >= self.settings.turn_nodes
    }

    /// Whether this connection has to wait for that.
    pub(super) fn is_cut(&mut self, slot: Slot) -> bool {
        if !self.is_turn_over() {
            return false;
        }
        mark("a client's requests wait for another turn");
        let connection = &mut self.connections[slot];
        if !std::mem::replace(&mut connection.cut, true) {
            self.turn_work.cut.push_back(connection.id);
        }
        true
    }

    pub(in crate::core) fn on_next_turn(&mut self, now: Now, out: &mut Vec<Output>) {
        self.turn_work.nodes = 0;
        let mut waiting = std::mem::take(&mut self.turn_work.cut);
        while !self.is_turn_over()
            && let Some(connection) = waiting.pop_front()
        {
            if let Some(slot) = self.slot(connection) {
                let connection = &mut self.connections[slot];
                (connection.cut, connection.heard_us) = (false, now.mono_us);
                self.go_on(now, slot, out);
            }
        }
        // Behind them, whoever has had this turn and wants another one.
        waiting.append(&mut self.turn_work.cut);
        self.turn_work.cut = waiting;
    }
    /// Before anybody is judged by the clock.
    pub(in crate::core) fn hear_who_waits_for_a_turn(&mut self, now: Now) {
        for place in 0..self.turn_work.cut.len() {
            let slot = self.slot(self.turn_work.cut[place]);
            if let Some(slot) = slot.filter(|slot| self.connections[*slot].state == State::Open) {
                self.hear(now, slot);
            }
        }
    }
}
