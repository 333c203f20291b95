//! Giving up what a leader does not know: the log is cut right behind one transaction, and nothing of what came later is left.
//!
//!   the cut segment is written anew beside the log -> flushed -> renamed to log-K.cut-Z, directory flushed     (decided here)
//!   -> snapshots above Z deleted, newest first, directory flushed -> segments after K deleted, directory flushed
//!   -> log-K.cut-Z renamed to log-K.seg, directory flushed
//!
//! Before the name is stable nothing has changed; after it the rest is done over by whichever start finds that name. So a
//! power failure leaves everything or the cut, never a mixture.
//!
//! The new segment ends with a batch that says so and uses up every running number of what was cut off: otherwise an older
//! snapshot, which knows how far the log once was stable, would take the cut for a loss.
//!
//! Z has to be a transaction of the log or of a snapshot, and what is left has to make a state: a snapshot not above Z and the
//! log from there, or the log from its beginning. If not, nothing is changed. Java: `FileTxnLog.truncate`, which keeps
//! snapshots above Z and cuts behind the first transaction that is not below it.

use std::path::Path;

use super::batch::{Batch, Durable, Link, OpenBatch, seal_cut};
use super::recover::{Position, Scan, walk};
use super::segment::{FIRST_BATCH_AT, LogId, Mark, SegmentId, SegmentKind, encode_start};
use crate::Zxid;
use crate::disk::{Access, Action, BLOCK_BYTES, Buffer, Disk, FileId, Ids, WriteSync};
use crate::error::{LogError, StoreError};
use crate::probe;
use crate::read::{Reader, WHOLE_FILE_WINDOW_BYTES, run};

/// A cut that was decided: the file that replaces the last segment, and the last transaction that is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    segment: SegmentId,
    zxid: Zxid,
}

impl Cut {
    fn file_name(self) -> String {
        format!("log-{:016x}.cut-{:016x}", self.segment.0, self.zxid.0)
    }

    fn parse(name: &str) -> Option<Cut> {
        let (segment, zxid) = name.strip_prefix("log-")?.split_once(".cut-")?;
        let number = |digits| u64::from_str_radix(digits, 16).ok();
        let cut = Cut { segment: SegmentId(number(segment)?), zxid: Zxid(number(zxid)?) };
        (cut.file_name() == name).then_some(cut)
    }
}

/// Where to cut.
pub struct Place {
    here: Position,
    /// What is left of the batch there.
    records: Vec<(Zxid, Vec<u8>)>,
    durable: Durable,
}

/// Decides the cut.
pub fn decide(disk: &mut impl Disk, ids: &mut Ids, scan: &Scan, place: Place, to: Zxid) -> Result<(), StoreError> {
    let found = &scan.segments[place.here.segment];
    let source = Reader::open(
        disk,
        ids,
        found.id.path(&scan.directory),
        found.file_bytes,
        scan.direct,
        WHOLE_FILE_WINDOW_BYTES,
    )?;
    let path = found.id.unfinished_path(&scan.directory);
    let file = ids.file();
    let open = Action::Open { file, path: path.clone(), access: Access::Create, direct: scan.direct };
    run(disk, ids, &path, open)?;
    let kind = found.kind.unwrap_or(SegmentKind::Next);
    write_cut(disk, ids, &path, file, source, scan, (kind, place))?;
    run(disk, ids, &path, Action::Sync { file })?;
    run(disk, ids, &path, Action::Close { file })?;
    let cut = Cut { segment: found.id, zxid: to };
    let decided = scan.directory.join(cut.file_name());
    run(disk, ids, &path, Action::Rename { from: path.clone(), to: decided })?;
    run(disk, ids, &scan.directory, Action::SyncDirectory { path: scan.directory.clone() })
}

/// Where to cut behind `to`. `scan` is of the log from the newest snapshot not above it.
pub fn find_place(disk: &mut impl Disk, ids: &mut Ids, scan: &Scan, to: Zxid) -> Result<Place, StoreError> {
    let not_covered = || LogError::NotCovered { wanted: to, oldest: scan.start.map(|start| start.link.zxid) };
    let (Some(start), Some(end)) = (scan.start, scan.end) else { return Err(not_covered().into()) };
    let mut known = to == scan.snapshot || to == start.link.zxid;
    let mut place = None;
    walk(disk, ids, scan, start, |here, batch: &Batch<'_>| {
        let last = batch.link_after().zxid;
        known |= last == to || batch.records().any(|(zxid, _)| zxid == to);
        if last > to && place.is_none() {
            let stays = |zxid| zxid <= to || probe::broken("a cut leaves the rest of its batch");
            let records: Vec<_> = batch.records().take_while(|(zxid, _)| stays(*zxid)).collect();
            let records = records.into_iter().map(|(zxid, payload)| (zxid, payload.to_vec())).collect();
            place = Some(Place { here, records, durable: batch.durable() });
        }
    })?;
    if !known {
        return Err(not_covered().into());
    }
    Ok(place.unwrap_or(Place { here: end, records: Vec::new(), durable: Durable::default() }))
}

/// The segment up to the cut, as it was; the rest of the batch there; the cut; zeroes.
fn write_cut(
    disk: &mut impl Disk,
    ids: &mut Ids,
    path: &Path,
    file: FileId,
    mut source: Reader,
    scan: &Scan,
    (kind, place): (SegmentKind, Place),
) -> Result<(), StoreError> {
    let Position { segment, mut at, mut link } = place.here;
    let found = &scan.segments[segment];
    let log = scan.log();
    let write = |disk: &mut _, ids: &mut _, offset: u64, buffer: Buffer| {
        run(disk, ids, path, Action::Write { file, offset, buffer, sync: WriteSync::None })
    };
    let mut copied = FIRST_BATCH_AT;
    while copied < at {
        let bytes = source.get(disk, copied, WHOLE_FILE_WINDOW_BYTES.min(at - copied))?;
        let mut buffer = Buffer::with_capacity(bytes.len());
        buffer.extend_from_slice(bytes);
        let offset = copied;
        copied += buffer.len() as u64;
        write(disk, ids, offset, buffer)?;
    }
    source.close(disk, ids);
    if let Some((buffer, after)) = reseal(&place, log, found.id, at, link) {
        let offset = at;
        (at, link) = (at + buffer.len() as u64, after);
        write(disk, ids, offset, buffer)?;
    }
    let (buffer, _) = seal_cut(log, found.id, at, link, scan.last_sequence());
    write(disk, ids, at, buffer)?;
    at += BLOCK_BYTES as u64;
    let mark = Mark { written_below: at, durable: Durable { sequence: link.sequence, zxid: link.zxid } };
    write(disk, ids, 0, encode_start(log, found.id, kind, mark))?;
    match found.capacity() {
        capacity if capacity > at => {
            run(disk, ids, path, Action::WriteZeroes { file, offset: at, bytes: capacity - at })
        }
        _ => Ok(()),
    }
}

/// What is left of the batch in which the cut falls.
fn reseal(place: &Place, log: LogId, segment: SegmentId, at: u64, after: Link) -> Option<(Buffer, Link)> {
    if place.records.is_empty() {
        return None;
    }
    let mut batch = OpenBatch::new(Buffer::with_capacity(BLOCK_BYTES));
    for (zxid, payload) in &place.records {
        batch.push(*zxid, payload);
    }
    Some(batch.seal(log, segment, at, after, place.durable))
}

/// Carries out a cut that was decided, if there is one: from its first step, however far an earlier start came.
pub fn finish(
    disk: &mut impl Disk,
    ids: &mut Ids,
    snapshots: &Path,
    log: &Path,
    snapshot_zxid: impl Fn(&str) -> Option<Zxid>,
) -> Result<Option<Zxid>, StoreError> {
    let Some(cut) = list(disk, log)?.iter().find_map(|name| Cut::parse(name)) else { return Ok(None) };
    probe::mark("storage: a log was cut");
    // Who decided may have died before the name was stable.
    run(disk, ids, log, Action::SyncDirectory { path: log.to_owned() })?;
    let mut above: Vec<_> = list(disk, snapshots)?
        .into_iter()
        .filter_map(|name| Some((snapshot_zxid(&name).filter(|zxid| *zxid > cut.zxid)?, name)))
        .collect();
    above.sort_unstable();
    for (_, name) in above.into_iter().rev() {
        let path = snapshots.join(name);
        run(disk, ids, &path, Action::Unlink { path: path.clone() })?;
    }
    run(disk, ids, snapshots, Action::SyncDirectory { path: snapshots.to_owned() })?;
    let mut later: Vec<_> = list(disk, log)?.iter().filter_map(|name| SegmentId::parse(name)).collect();
    later.retain(|id| *id > cut.segment);
    later.sort_unstable();
    for id in later.into_iter().rev() {
        let path = id.path(log);
        run(disk, ids, &path, Action::Unlink { path: path.clone() })?;
    }
    run(disk, ids, log, Action::SyncDirectory { path: log.to_owned() })?;
    let path = log.join(cut.file_name());
    run(disk, ids, &path, Action::Rename { from: path.clone(), to: cut.segment.path(log) })?;
    run(disk, ids, log, Action::SyncDirectory { path: log.to_owned() })?;
    Ok(Some(cut.zxid))
}

/// The name of a cut that was decided.
pub fn is_cut(name: &str) -> bool {
    Cut::parse(name).is_some()
}

/// A cut whose decision failed half-way is none: nobody may find it later, when more has been written.
pub fn withdraw(disk: &mut impl Disk, ids: &mut Ids, log: &Path) -> Result<(), StoreError> {
    for name in list(disk, log)?.iter().filter(|name| Cut::parse(name).is_some()) {
        let path = log.join(name);
        run(disk, ids, &path, Action::Unlink { path: path.clone() })?;
    }
    Ok(())
}

fn list(disk: &mut impl Disk, directory: &Path) -> Result<Vec<String>, StoreError> {
    let io = |source| StoreError::Io { path: directory.to_owned(), operation: "list", source };
    Ok(disk.list(directory).map_err(io)?.into_iter().map(|(name, _)| name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_is_named_exactly() {
        let cut = Cut { segment: SegmentId(7), zxid: Zxid(0x1_0000_0002) };
        assert_eq!(cut.file_name(), "log-0000000000000007.cut-0000000100000002");
        assert_eq!(Cut::parse(&cut.file_name()), Some(cut));
        for stranger in ["log-7.cut-1", "log-0000000000000007.seg", "log-0000000000000007.cut-"] {
            assert_eq!(Cut::parse(stranger), None, "{stranger}");
        }
        assert_eq!(SegmentId::parse(&cut.file_name()), None);
    }
}
