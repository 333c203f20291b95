//! How much of what one client asks for is done before others have their turn.
//!
//! A few bytes can ask for a walk through the whole tree, a full read buffer for thousands of them, and while they are done nobody
//! hears a heartbeat. So a connection's frames are looked at until a step has done so much work; the rest waits for the next
//! tick, which is due at once, and of all that wait so the first is served until that step has done as much.
//! What waits behind a write has its bound in [`Node::foreseen_answer_bytes`](Node).

use std::collections::VecDeque;

use ringkeeper_storage::probe::mark;

use crate::core::node::{Node, Slot};
use crate::core::types::{ConnectionId, Now, Output};

/// A request that looks at one node, counted in nodes of a walk.
const REQUEST_NODES: u64 = 8;

#[derive(Debug, Default)]
pub(in crate::core) struct TurnWork {
    /// In this step so far.
    nodes: u64,
    /// Connections with frames that wait for a step of their own, longest first.
    cut: VecDeque<ConnectionId>,
}

impl TurnWork {
    pub fn begin(&mut self) {
        self.nodes = 0;
    }

    pub fn request(&mut self) {
        self.nodes += REQUEST_NODES;
    }

    /// A request has looked at so many nodes.
    pub fn walked(&mut self, nodes: u64) {
        self.nodes = self.nodes.saturating_add(nodes);
    }

    pub fn has_cut(&self) -> bool {
        !self.cut.is_empty()
    }
}

impl Node {
    /// Whether the next frame of this connection has to wait because this step has done enough.
    pub(super) fn is_cut(&mut self, slot: Slot) -> bool {
        if self.turn_work.nodes < self.settings.turn_nodes {
            return false;
        }
        mark("a client's requests wait for another turn");
        let connection = &mut self.connections[slot];
        if !std::mem::replace(&mut connection.cut, true) {
            self.turn_work.cut.push_back(connection.id);
        }
        true
    }

    /// Another turn for those who asked for more than one.
    pub(in crate::core) fn go_on_with_cut(&mut self, now: Now, out: &mut Vec<Output>) {
        for _ in 0..self.turn_work.cut.len() {
            if self.turn_work.nodes >= self.settings.turn_nodes {
                break;
            }
            let Some(slot) = self.turn_work.cut.pop_front().and_then(|connection| self.slot(connection)) else {
                continue;
            };
            self.connections[slot].cut = false;
            self.go_on(now, slot, out);
        }
    }
}
