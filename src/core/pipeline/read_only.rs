//! Read-only mode: a member that finds no leader lets clients read that are content with that, from the state it has.
//!
//! Their sessions are known to nobody else and end with the mode. Nothing here is a transaction, and nothing touches what
//! the next role begins with. Spec: quorum-protocol 4.6, 20.17; semantics 13; client-protocol 5.4. Java:
//! `ReadOnlyZooKeeperServer`, `ReadOnlyRequestProcessor`.

use ringkeeper_storage::probe;

use super::admit::is_write;
use crate::core::connection::Header;
use crate::core::node::{Node, Slot};
use crate::core::peer::{Looking, Role, Service};
use crate::core::session::SessionTable;
use crate::core::types::{Now, Output};
use crate::wire::ErrorCode;
use crate::wire::client::OpCode;

/// An election that lasts no longer is none of the clients' business.
const AFTER_MS_MIN: u64 = 2000;

impl Node {
    /// When the mode begins, if it is wanted and has not begun.
    pub(in crate::core) fn read_only_mode_begins_us(&self, looking: &Looking) -> Option<u64> {
        let after_ms = AFTER_MS_MIN.max(u64::from(self.settings.tick_ms));
        let wanted = self.settings.ensemble.read_only_mode && looking.read_only.is_none() && !self.shutting_down;
        wanted.then_some(looking.since_us + after_ms * 1000)
    }

    /// Begins the mode when it is time, and ends its sessions in theirs.
    pub(in crate::core) fn tick_read_only(&mut self, now: Now, out: &mut Vec<Output>) {
        let Role::Looking(looking) = &self.role else {
            return;
        };
        if self.read_only_mode_begins_us(looking).is_some_and(|begins_us| begins_us <= now.mono_us) {
            probe::mark("read-only mode");
            self.service = Service::ReadOnly;
            out.push(Output::Told("no leader is found: clients that are content with reading are served".into()));
        }
        let (Role::Looking(looking), Service::ReadOnly) = (&mut self.role, self.service) else {
            return;
        };
        let table = looking.read_only.get_or_insert_with(|| SessionTable::new(self.settings.tick_ms));
        let expired: Vec<_> = std::iter::from_fn(|| table.expire_next(now.mono_us)).collect();
        let gone: Vec<_> = expired.into_iter().filter_map(|session| table.remove(session)?.connection).collect();
        for connection in gone {
            if let Some(slot) = self.slot(connection) {
                self.close(slot);
            }
        }
    }

    /// What would change something is refused. A session that ends, ends here.
    pub(super) fn admit_read_only(&mut self, now: Now, slot: Slot, header: Header, body: &[u8]) {
        match header.opcode {
            OpCode::CloseSession => {
                let session = self.connections[slot].session;
                self.served_sessions().remove(session);
                self.reply(now, slot, header, |_| {});
                self.close(slot);
            }
            opcode if is_write(opcode) || opcode == OpCode::Sync => {
                self.refuse(now, slot, header, ErrorCode::NotReadOnly);
            }
            _ => {
                let identities = self.connections[slot].identities().clone();
                self.answer_read(now, slot, header, body, &identities);
            }
        }
    }
}
