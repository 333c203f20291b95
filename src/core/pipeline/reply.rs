//! Answers: encoded straight into the connection's outbox, in request order, with the zxid of client-protocol 7.

use crate::core::connection::{Header, LastOperation};
use crate::core::node::{Node, Slot};
use crate::core::tree::{Applied, ItemOutcome};
use crate::core::types::Now;
use crate::wire::ErrorCode;
use crate::wire::client::reply::{put_bare, put_create2};
use crate::wire::client::{MultiResult, OpCode, ReplyHeader, Response};
use crate::wire::frame::{begin_frame, end_frame};
use crate::wire::jute::{put_i32, put_string};
use crate::wire::txn::{CreateKind, Txn};

/// A reply that is nothing but its header, the length included.
pub(super) const BARE_REPLY_BYTES: usize = 20;

impl Node {
    /// A success whose body `body` appends.
    pub(super) fn reply(&mut self, now: Now, slot: Slot, header: Header, body: impl FnOnce(&mut Vec<u8>)) {
        let zxid = self.progress.applied.0 as i64;
        let outbox = &mut self.connections[slot].outbox;
        let start = outbox.len();
        let frame = begin_frame(outbox);
        ReplyHeader { xid: header.xid, zxid, err: 0 }.encode(outbox);
        body(outbox);
        end_frame(outbox, frame);
        let bytes = outbox.len() - start;
        self.answered(now, slot, header, bytes);
    }

    /// Java finds no name for a refused write in `cons`.
    pub(super) fn reply_error(&mut self, now: Now, slot: Slot, header: Header, zxid: i64, error: ErrorCode) {
        put_bare(&mut self.connections[slot].outbox, ReplyHeader { xid: header.xid, zxid, err: error.number() });
        self.answered(now, slot, header, BARE_REPLY_BYTES);
        if super::admit::is_write(header.opcode) {
            self.connections[slot].stats.last_operation = LastOperation::Nameless;
        }
    }

    /// The answer to an opcode nobody may send: not counted, and its zxid says that nothing was looked at.
    pub(super) fn reply_unlooked(&mut self, slot: Slot, xid: i32, zxid: i64, error: ErrorCode) {
        put_bare(&mut self.connections[slot].outbox, ReplyHeader { xid, zxid, err: error.number() });
        self.mark_dirty(slot);
    }

    /// `auth` and `sasl`: zxid 0; SASL without a configuration has a null token.
    pub(super) fn reply_authenticated(&mut self, slot: Slot, header: Header) {
        let outbox = &mut self.connections[slot].outbox;
        let frame = begin_frame(outbox);
        ReplyHeader { xid: header.xid, zxid: 0, err: 0 }.encode(outbox);
        if header.opcode == OpCode::Sasl {
            put_i32(outbox, -1);
        }
        end_frame(outbox, frame);
        self.connections[slot].stats.packets_sent += 1;
        self.metrics.packets_sent += 1;
        self.mark_dirty(slot);
    }

    /// The answer to a write that was just applied as `txn`.
    pub(super) fn reply_to_write(
        &mut self,
        now: Now,
        slot: Slot,
        header: Header,
        txn: &Txn<'_>,
        applied: &Applied<'_>,
    ) {
        // Its client has been let in elsewhere: that is not said, the connection just ends (client-protocol 5.7).
        if has_moved(txn) {
            return self.close(slot);
        }
        if let Txn::Multi(items) = txn {
            let results = multi_results(items, applied);
            return self.reply(now, slot, header, |out| Response::Multi(results).encode_body(out));
        }
        let outcome = applied.items.first().copied().unwrap_or(ItemOutcome::Session);
        if let ItemOutcome::Failed { code } = outcome {
            let error = ErrorCode::try_from(code).unwrap_or(ErrorCode::SystemError);
            return self.reply_error(now, slot, header, self.progress.applied.0 as i64, error);
        }
        self.reply(now, slot, header, |out| match outcome {
            ItemOutcome::DataSet { stat } if let Txn::Reconfig { data, .. } = txn => {
                Response::Data { data: *data, stat }.encode_body(out);
            }
            ItemOutcome::Created { path, .. } if header.opcode == OpCode::Create => put_string(out, path),
            ItemOutcome::Created { path, stat } => put_create2(out, path, &stat),
            ItemOutcome::DataSet { stat } | ItemOutcome::AclSet { stat } => stat.encode(out),
            ItemOutcome::Deleted | ItemOutcome::Checked | ItemOutcome::Session => {}
            ItemOutcome::Failed { .. } => unreachable!("answered above"),
        });
    }

    /// Books one answer: statistics, and a place in the next flush.
    pub(super) fn answered(&mut self, now: Now, slot: Slot, header: Header, bytes: usize) {
        let latency_ms = (now.mono_us.saturating_sub(header.arrived_us)) / 1000;
        let connection = &mut self.connections[slot];
        connection.stats.packets_sent += 1;
        let operation = LastOperation::Of(header.opcode);
        connection.stats.answered(operation, header.xid, self.progress.applied, now.mono_us, latency_ms);
        self.metrics.packets_sent += 1;
        self.metrics.response_bytes += bytes as u64;
        self.metrics.client_response_size.record(bytes);
        self.metrics.answered(is_update(header.opcode), latency_ms);
        self.mark_dirty(slot);
    }
}

fn is_update(opcode: OpCode) -> bool {
    super::admit::is_write(opcode) || opcode == OpCode::Sync
}

fn has_moved(txn: &Txn<'_>) -> bool {
    let code = match txn {
        Txn::Error { code } => Some(*code),
        Txn::Multi(items) => items.iter().find_map(|item| match item {
            Txn::Error { code } => Some(*code),
            _ => None,
        }),
        _ => None,
    };
    code == Some(ErrorCode::SessionMoved.number())
}

/// One result an item. An item that creates anything but by plain `create` answers as `create2` does (client-protocol 10.2).
fn multi_results<'t>(items: &[Txn<'_>], applied: &Applied<'t>) -> Vec<MultiResult<'t>> {
    assert_eq!(items.len(), applied.items.len(), "one outcome an item");
    let plain = |item: &Txn<'_>| match item {
        Txn::Create { kind, create2, .. } => !create2 && matches!(kind, CreateKind::Persistent | CreateKind::Ephemeral),
        _ => false,
    };
    let results = items.iter().zip(&applied.items).map(|(item, outcome)| match *outcome {
        ItemOutcome::Created { path, .. } if plain(item) => MultiResult::Create { path: path.into() },
        ItemOutcome::Created { path, stat } => MultiResult::Create2 { path: path.into(), stat },
        ItemOutcome::Deleted => MultiResult::Delete,
        ItemOutcome::DataSet { stat } | ItemOutcome::AclSet { stat } => MultiResult::SetData { stat },
        ItemOutcome::Checked | ItemOutcome::Session => MultiResult::Check,
        ItemOutcome::Failed { code } => MultiResult::Error { code },
    });
    results.collect()
}
