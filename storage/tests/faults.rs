//! Every call of a life fails, in every way: an error, an error after the deed, a short write, an answer that does not come.
//! The rule for each (`log/append.rs`, `log/prepare.rs`, `snapshot/write.rs`) holds, and afterwards nothing acknowledged is gone:
//!
//! | what fails | then |
//! | --- | --- |
//! | a write or flush of the log in use, its opening | the log is over, told once, nothing later is acknowledged |
//! | a step of preparing the next segment | told, tried again when asked to |
//! | anything of a snapshot | told at the snapshot's end; the log goes on, and the next snapshot succeeds |
//! | deleting what is not needed any more | told; it costs space |
//! | closing | nothing |
//! | an answer does not come | what depends on it waits, the rest goes on; when it comes, all is well |

mod rig;

use std::collections::BTreeMap;

use rig::bytes::{FIRST_BATCH_AT, batches};
use rig::history::History;
use rig::power::full;
use rig::{Rig, chunk_of, header, payload};
use ringkeeper_storage::backend::faulty::{Call, Fault, Rule};
use ringkeeper_storage::backend::memory::Chance;
use ringkeeper_storage::{LogRoom, LogStrategy, StoreConfig, Zxid};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn config(strategy: LogStrategy, batches_in_flight: usize) -> StoreConfig {
    StoreConfig {
        strategy,
        segment_bytes: 16 << 10,
        batch_bytes_max: 4 << 10,
        reserve_bytes: 4 << 10,
        mark_bytes: 4 << 10,
        batches_in_flight,
        ..StoreConfig::new("/data", "/data")
    }
}

/// Appends over several segments, snapshots and purges, as far as the disk lets it; retries now and then as a server does.
fn live(rig: &mut Rig, history: &mut History, ended: &mut Vec<Result<Zxid, String>>) {
    let mut running = false;
    for round in 0..9 {
        for _ in 0..2 {
            if rig.failed.is_none() && rig.room != LogRoom::None {
                let (zxid, record) = history.next(0);
                rig.store.append(zxid, &record);
                rig.poll();
            }
        }
        rig.drain();
        if round % 3 == 1 && !running && rig.failed.is_none() {
            rig.store.begin_snapshot(header(rig.durable.0, 20));
            rig.drain();
            rig.store.snapshot_chunk(chunk_of(0..10));
            rig.drain();
            rig.store.snapshot_chunk(chunk_of(10..20));
            rig.store.finish_snapshot();
            running = true;
        }
        rig.drain();
        if let Some(end) = rig.snapshot_ended.take() {
            running = false;
            rig.store.purge(1);
            ended.push(end);
        }
        rig.drain();
        rig.store.retry();
        rig.drain();
    }
    history.promised = rig.durable.0;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Concern {
    LogInUse,
    NextSegment,
    Snapshot,
    Deletion,
    DirectoryFlush,
    Closing,
}

/// Whom a call serves.
fn concern(call: &Call) -> Concern {
    let name = call.path.file_name().unwrap().to_string_lossy().into_owned();
    match (call.operation, name.starts_with("snapshot-"), name.ends_with(".tmp")) {
        ("directory flush", _, _) => Concern::DirectoryFlush,
        ("close", _, _) => Concern::Closing,
        ("unlink", _, false) => Concern::Deletion,
        (_, true, _) => Concern::Snapshot,
        ("rename", false, _) | (_, false, true) => Concern::NextSegment,
        _ => Concern::LogInUse,
    }
}

/// One life on a disk with one fault. Returns whom it hit, if anybody.
fn one_fault(strategy: LogStrategy, slots: usize, skip: usize, fault: Fault) -> Option<Concern> {
    let config = config(strategy, slots);
    let mut rig = Rig::fresh(&config);
    rig.disk.memory.borrow_mut().rules.push(Rule { applies: |_| true, skip, times: 1, fault });
    let (mut history, mut ended) = (History::default(), Vec::new());
    live(&mut rig, &mut history, &mut ended);
    let call = rig.disk.memory.borrow().hit.first().cloned()?;
    let concern = concern(&call);
    let tag = format!("{strategy:?}, {slots} in flight, {fault:?} of {call:?}");
    if fault == Fault::Hang {
        assert_eq!((rig.hung.len(), rig.failed.as_ref()), (1, None), "{tag}");
        if matches!(concern, Concern::Snapshot | Concern::Closing) {
            assert_eq!(rig.durable.0, history.last(), "{tag}: the log does not wait for that");
        }
        if concern == Concern::LogInUse && call.offset >= FIRST_BATCH_AT as u64 {
            assert!(rig.durable.0 < history.last(), "{tag}: acknowledged before it was answered");
        }
        rig.release_hung();
        // Whatever it held up gets its turn now.
        for _ in 0..3 {
            live(&mut rig, &mut history, &mut ended);
        }
    }
    // A short write of what is no write is none.
    let harmless = fault == Fault::Hang || (matches!(fault, Fault::Short(_)) && call.operation != "write");
    match concern {
        _ if harmless => {
            assert!(rig.failed.is_none() && rig.troubles.is_empty(), "{tag}: {:?} {:?}", rig.failed, rig.troubles);
            assert!(ended.iter().all(Result::is_ok), "{tag}: {ended:?}");
        }
        // The file of the next segment may be opened ahead: that is no failure of the log.
        Concern::LogInUse if call.operation == "open" && rig.failed.is_none() => {
            assert!(rig.troubles[0].contains("could not be opened, will try again"), "{tag}: {:?}", rig.troubles);
        }
        Concern::LogInUse => {
            let text = rig.failed.clone().unwrap_or_else(|| panic!("{tag}: not told"));
            let name = call.path.file_name().unwrap().to_str().unwrap();
            assert!(text.contains(name) && text.contains("takes no more writes"), "{tag}: {text}");
            assert!(rig.store.is_idle(), "{tag}");
        }
        Concern::NextSegment => {
            assert!(rig.troubles[0].contains("could not be prepared, will try again"), "{tag}: {:?}", rig.troubles);
        }
        Concern::Snapshot => {
            let failures: Vec<_> = ended.iter().filter_map(|end| end.as_ref().err()).collect();
            assert!(failures.len() == 1 && failures[0].contains(call.operation), "{tag}: {ended:?}");
            assert!(ended.len() == 3 && rig.troubles.is_empty(), "{tag}: {ended:?} {:?}", rig.troubles);
        }
        Concern::Deletion => assert!(rig.troubles[0].contains("could not be deleted"), "{tag}: {:?}", rig.troubles),
        Concern::DirectoryFlush => {
            let told = rig.troubles.len() + ended.iter().filter(|end| end.is_err()).count();
            assert_eq!(told, 1, "{tag}: {ended:?} {:?}", rig.troubles);
        }
        Concern::Closing => assert!(ended.iter().filter(|end| end.is_err()).count() <= 1, "{tag}: {ended:?}"),
    }
    if rig.failed.is_none() {
        assert_eq!((rig.durable.0, rig.room), (history.last(), LogRoom::Ample), "{tag}: everything goes on");
    }
    // Whatever the disk forgot of it, and whatever else the power takes.
    for moment in 0..3 {
        let disk = rig.disk.running_copy();
        if moment == 0 {
            disk.memory.borrow_mut().lose_unflushed();
        }
        disk.memory.borrow_mut().cut_power(|ways| if moment == 1 { ways - 1 } else { 0 });
        let (opened, last) = history.check(&disk, &config, &tag);
        let mut again = Rig::start(&disk, opened).unwrap();
        again.store.append(Zxid(last + 1), &payload(last + 1, 1));
        again.drain();
        assert_eq!(again.durable, Zxid(last + 1), "{tag}");
    }
    Some(concern)
}

/// ZOOKEEPER-3701 (20.16).
#[test]
fn every_call_of_a_life_fails_in_every_way() {
    let mut census: BTreeMap<(Concern, String), usize> = BTreeMap::new();
    use LogStrategy::{Buffered, Dsync, Linked, ODsync, TwoStep};
    let every_one = [Dsync, Linked, TwoStep, ODsync, Buffered].map(|strategy| [1, 2, 3].map(|slots| (strategy, slots)));
    let settings = if full() { every_one.concat() } else { vec![(Dsync, 2), (TwoStep, 3)] };
    let faults = [
        Fault::Error(EIO),
        Fault::ErrorAfter(EIO),
        Fault::Short(512),
        Fault::Hang,
        Fault::Error(ENOSPC),
        Fault::Short(0),
    ];
    let faults = if full() { &faults[..] } else { &faults[..4] };
    for (strategy, slots) in settings {
        for &fault in faults {
            for skip in 0.. {
                let Some(concern) = one_fault(strategy, slots, skip, fault) else { break };
                *census.entry((concern, format!("{fault:?}"))).or_default() += 1;
            }
        }
    }
    println!("faults: {} lives, {census:?}", census.values().sum::<usize>());
    let concerns = [
        Concern::LogInUse,
        Concern::NextSegment,
        Concern::Snapshot,
        Concern::Deletion,
        Concern::DirectoryFlush,
        Concern::Closing,
    ];
    assert_eq!(census.len(), concerns.len() * faults.len(), "a fault that never fires was never tested: {census:?}");
}

/// A start on a disk that fails at one call refuses and says what failed, or needs not what failed; the next start finds
/// everything, whatever the first had done.
#[test]
fn every_call_of_a_start_fails() {
    let config = config(LogStrategy::default(), 2);
    let mut rig = Rig::fresh(&config);
    let mut history = History::default();
    live(&mut rig, &mut history, &mut Vec::new());
    // A torn tail, an unfinished snapshot, an unfinished segment.
    rig.store.begin_snapshot(header(rig.durable.0, 20));
    rig.drain();
    for _ in 0..3 {
        let (zxid, record) = history.next(0);
        rig.store.append(zxid, &record);
        rig.poll();
    }
    assert!(rig.held.len() > 1, "{:?}", rig.held);
    let overtaken = rig.held.remove(0);
    let image = rig.crash(&mut Chance(1));
    drop(overtaken);
    let (mut refused, mut calls) = (0, 0);
    for fault in [Fault::Error(EIO), Fault::ErrorAfter(EIO)] {
        for skip in 0.. {
            let disk = image.fork();
            disk.memory.borrow_mut().rules.push(Rule { applies: |_| true, skip, times: 1, fault });
            let started = disk.open(&config).and_then(|opened| Rig::start(&disk, opened));
            let Some(call) = disk.memory.borrow().hit.first().cloned() else { break };
            calls += 1;
            if let Err(error) = started {
                let text = error.to_string();
                assert!(text.contains("Input/output error"), "{call:?}: {text}");
                assert!(text.contains("failed") || text.contains("no room"), "{call:?}: {text}");
                assert!(text.contains(call.path.file_name().unwrap().to_str().unwrap()), "{call:?}: {text}");
                refused += 1;
            } else {
                assert_eq!(call.operation, "close", "{call:?} failed and nobody minded");
            }
            for lost in [false, true] {
                let disk = disk.running_copy();
                if lost {
                    disk.memory.borrow_mut().lose_unflushed();
                }
                disk.memory.borrow_mut().cut_power(|_| 0);
                let (opened, _) = history.check(&disk, &config, &format!("{fault:?} of {call:?}"));
                let mut rig = Rig::start(&disk, opened).unwrap();
                let next = rig.durable.0 + 1;
                rig.append_and_drain(next..=next + 2);
                assert_eq!(rig.durable.0, next + 2);
            }
        }
    }
    println!("failing starts: {calls}, {refused} refused");
    assert!(refused > 40 && refused < calls, "{refused} {calls}");
}

/// The disk refuses one step of preparing for a long time: room shrinks, is none, and is ample again soon after space is back.
#[test]
fn a_disk_that_is_full_at_any_step_of_preparing_is_survived() {
    type Applies = fn(&Call) -> bool;
    let steps: [(&str, Applies); 5] = [
        ("open", |call| call.operation == "open" && concern(call) == Concern::NextSegment),
        ("allocate", |call| call.operation == "allocate"),
        ("zero fill", |call| call.operation == "zero fill"),
        ("flush", |call| call.operation == "flush" && concern(call) == Concern::NextSegment),
        ("directory flush", |call| call.operation == "directory flush"),
    ];
    for (step, applies) in steps {
        let config = config(LogStrategy::default(), 2);
        let mut rig = Rig::fresh(&config);
        let fault = Fault::Error(ENOSPC);
        rig.disk.memory.borrow_mut().rules.push(Rule { applies, skip: 0, times: usize::MAX, fault });
        let mut rooms = vec![rig.room];
        let mut zxid = 0;
        while rig.room != LogRoom::None {
            zxid += 1;
            rig.append_and_drain(zxid..=zxid);
            rooms.push(rig.room);
            assert!(rig.durable == Zxid(zxid) && zxid < 20, "{step}: {zxid}");
        }
        assert!(rig.troubles.iter().all(|text| text.contains("No space left")), "{step}: {:?}", rig.troubles);
        // What was admitted meanwhile waits, unacknowledged.
        for more in zxid + 1..=zxid + 6 {
            rig.store.append(Zxid(more), &payload(more, 0));
            rig.store.retry();
            rig.drain();
        }
        let written = rig.durable;
        assert!(written < Zxid(zxid + 6) && rig.failed.is_none() && rig.room == LogRoom::None, "{step}");
        assert!(batches(&rig.disk).last().is_some_and(|batch| batch.last_zxid == written.0), "{step}");
        rig.disk.memory.borrow_mut().rules.clear();
        rig.store.retry();
        rig.drain();
        assert_eq!((rig.durable, rig.room), (Zxid(zxid + 6), LogRoom::Ample), "{step}");
        let history = History { lives: vec![0; zxid as usize + 6], promised: zxid + 6 };
        rig.disk.memory.borrow_mut().cut_power(|_| 0);
        history.check(&rig.disk, &config, step);
    }
}

/// Batches behind one that hangs are written and not acknowledged; when the answer comes, all are, in order. When it is an
/// error in the end, none is.
#[test]
fn batches_behind_one_that_hangs_wait_for_it() {
    for fails_in_the_end in [false, true] {
        let config = StoreConfig { mark_bytes: 1 << 20, segment_bytes: 64 << 10, ..config(LogStrategy::default(), 4) };
        let mut rig = Rig::fresh(&config);
        rig.append_and_drain(1..=2);
        rig.disk.memory.borrow_mut().fail_next(|call| call.operation == "write", Fault::Hang);
        for zxid in 3..=6 {
            rig.store.append(Zxid(zxid), &payload(zxid, 0));
            rig.drain();
        }
        assert_eq!((rig.hung.len(), rig.durable), (1, Zxid(2)));
        assert_eq!(batches(&rig.disk).last().map(|batch| batch.last_zxid), Some(6), "they are on the disk");
        if fails_in_the_end {
            let hung = rig.hung.remove(0);
            rig.disk.memory.borrow_mut().fail_next(|_| true, Fault::Error(EIO));
            rig.held.push(hung);
            rig.drain();
            assert!(rig.failed.is_some() && rig.durable == Zxid(2) && rig.store.is_idle());
        } else {
            rig.release_hung();
            rig.drain();
            assert_eq!(rig.durable, Zxid(6));
        }
        let history = History { lives: vec![0; 6], promised: rig.durable.0 };
        rig.disk.memory.borrow_mut().cut_power(|_| 0);
        let (_, last) = history.check(&rig.disk, &config, "hung");
        assert_eq!(last, rig.durable.0, "a batch that overtook a lost one does not count");
    }
}
