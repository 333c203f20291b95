//! Whose client is gone without a word, and what else than a request tells that it is there.

use crate::core::connection::State;
use crate::core::node::{Node, Slot};
use crate::core::types::Now;

/// How long a look at all connections takes. Java: the interval of `connectionExpiryQueue`.
const ROUND_US: u64 = 10_000_000;

impl Node {
    /// A client took some of what waits for it. While so much waits that nothing it sends is read, its pings neither, that is
    /// all that is heard of it (D-100).
    pub(in crate::core) fn on_sent(&mut self, now: Now, slot: Slot, bytes: usize) {
        let connection = &mut self.connections[slot];
        let is_all = connection.state == State::Open && connection.owes_too_much();
        connection.unsent = connection.unsent.saturating_sub(bytes);
        connection.heard_us = now.mono_us;
        if is_all {
            self.hear(now, slot);
        }
    }

    /// Ends connections of which nothing was heard for as long as their sessions may be silent: the client went to another server
    /// with its session, and the network never told. Java: `NIOServerCnxnFactory.ConnectionExpirerThread`.
    pub(in crate::core) fn end_idle(&mut self, now: Now) {
        let slots = self.connections.capacity();
        let through = (slots as u64 * (now.mono_us % ROUND_US) / ROUND_US) as usize;
        let (rest, begun) = if through < self.idle_from { (slots, through) } else { (through, 0) };
        for slot in (self.idle_from..rest).chain(0..begun) {
            let Some(connection) = self.connections.get(slot) else { continue };
            // Of whom nothing is read nothing can be heard, unless it is its own fault.
            let is_listened_to = !connection.paused || connection.owes_too_much();
            let silent_us = now.mono_us.saturating_sub(connection.heard_us);
            let patience_us = connection.timeout_ms.max(0) as u64 * 1000;
            if connection.state == State::Open && is_listened_to && silent_us > patience_us {
                self.metrics.sessionless_connections_expired += 1;
                self.close(slot);
            }
        }
        self.idle_from = through;
    }
}
