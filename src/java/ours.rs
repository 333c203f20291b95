//! Our own directory as a state: the newest snapshot (for tools: all of it in memory), then every transaction behind it.

use ringkeeper_storage::{Opened, StoreError, Zxid};

use super::convert::OPTIONS;
use crate::core::replay::Replay;

#[derive(Debug, thiserror::Error)]
pub enum OursError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("snapshot {zxid}: {why}")]
    Snapshot { zxid: Zxid, why: String },
    #[error("transaction {zxid} of the log cannot be read: {why}")]
    Transaction { zxid: Zxid, why: String },
}

/// The newest snapshot; a fresh tree where there is none.
pub fn snapshot(opened: &Opened) -> Result<Replay, OursError> {
    let Some(source) = opened.snapshot_source() else { return Ok(Replay::empty(OPTIONS)) };
    let zxid = Zxid(source.header().zxid);
    let replay = Replay::from_snapshot(source, OPTIONS);
    let checked = replay.and_then(|mut replay| replay.move_all().map(|()| replay));
    checked.map_err(|error| OursError::Snapshot { zxid, why: error.to_string() })
}

/// Applies every transaction behind the snapshot, showing each to `seen` when it has been applied. `seen` may end it.
pub fn replay<E: From<OursError>>(
    opened: &mut Opened,
    replay: &mut Replay,
    mut seen: impl FnMut(Zxid, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut failure = None;
    let read = opened.replay(|zxid, record| {
        if failure.is_some() {
            return;
        }
        let applied = replay.apply(record).map_err(|error| OursError::Transaction { zxid, why: error.to_string() });
        failure = applied.map_err(E::from).and_then(|_| seen(zxid, record)).err();
    });
    read.map_err(|error| E::from(OursError::Store(error)))?;
    failure.map_or(Ok(()), Err)
}
