//! How many requests are under way at a time, and what becomes of those that wait (`request_throttle_*`; off by default).
//!
//! At the bound connections queue, one request of each at a time: all move on evenly, each in its own order. Nothing is refused for
//! waiting unless `throttled_op_wait_time` or `request_stale_latency_check` says so. What a closed connection had waiting goes with
//! it. Spec: client-protocol 13. Java: `RequestThrottler`, with one queue for the requests of all.

use std::collections::VecDeque;

use crate::core::connection::{Connection, Header};
use crate::core::node::{Node, Slot};
use crate::core::types::{ConnectionId, Now, Output};
use crate::wire::ErrorCode;
use crate::wire::client::OpCode;

/// Connections whose next frame waits for its turn.
#[derive(Debug, Default)]
pub(in crate::core) struct Queue {
    connections: VecDeque<ConnectionId>,
    /// Who may go ahead of them, with one frame.
    turn: Option<Slot>,
}

impl Queue {
    pub fn clear(&mut self) {
        self.connections.clear();
    }
}

impl Node {
    /// Whether the next frame of this connection is looked at now. If not, the connection is queued.
    pub(super) fn has_its_turn(&mut self, now: Now, slot: Slot) -> bool {
        let most = self.settings.request_throttle.max_requests;
        if most == 0 {
            return true;
        }
        let queue = &mut self.outstanding.queue;
        let is_next = queue.turn.take() == Some(slot) || queue.connections.is_empty();
        if is_next && self.outstanding.requests < most {
            return true;
        }
        let connection = &mut self.connections[slot];
        connection.waiting_since_us.get_or_insert(now.mono_us);
        if !std::mem::replace(&mut connection.queued, true) {
            queue.connections.push_back(connection.id);
            self.metrics.request_throttle_wait_count += 1;
        }
        false
    }

    pub(super) fn has_queue(&self) -> bool {
        !self.outstanding.queue.connections.is_empty()
    }

    /// To be called when something may have been answered.
    pub(in crate::core) fn let_queue_go_on(&mut self, now: Now, out: &mut Vec<Output>) {
        while self.outstanding.requests < self.settings.request_throttle.max_requests
            && !self.is_turn_over()
            && let Some(connection) = self.outstanding.queue.connections.pop_front()
        {
            let Some(slot) = self.slot(connection) else { continue };
            self.connections[slot].queued = false;
            self.outstanding.queue.turn = Some(slot);
            self.go_on(now, slot, out);
            self.outstanding.queue.turn = None;
        }
    }

    /// Whether a request came too late to be carried out. It is refused in its turn, or its connection closed.
    pub(super) fn is_refused_for_waiting(&mut self, now: Now, slot: Slot, header: Header) -> bool {
        let throttle = self.settings.request_throttle;
        let Connection { timeout_ms, .. } = self.connections[slot];
        let waited_ms = (now.mono_us - header.arrived_us) / 1000;
        if throttle.max_requests > 0 {
            self.metrics.request_throttle_queue_time_ms.record(waited_ms);
        }
        if throttle.stale_latency_check && waited_ms > timeout_ms.unsigned_abs().into() {
            if throttle.drop_stale {
                self.metrics.stale_requests_dropped += 1;
                self.close(slot);
                return true;
            }
            self.metrics.stale_requests += 1;
        }
        let keeps_session = matches!(header.opcode, OpCode::Ping | OpCode::CloseSession);
        if keeps_session || throttle.op_wait_ms == 0 || waited_ms <= throttle.op_wait_ms.into() {
            return false;
        }
        self.metrics.throttled_ops += 1;
        self.refuse(now, slot, header, ErrorCode::ThrottledOp);
        true
    }
}
