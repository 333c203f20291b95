//! The ring on a real disk, and what it makes of answers that no disk here gives.

use super::setup::explain;
use super::*;
use crate::disk::{Access, Ids, Owner};

struct Bench {
    ring: Ring,
    ids: Ids,
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        Bench { ring: Ring::new().unwrap(), ids: Ids::default(), directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// All at once; answers in the order of the questions.
    fn run(&mut self, actions: Vec<Action>) -> Vec<DiskEvent> {
        let count = actions.len();
        let mut ops: Vec<_> =
            actions.into_iter().map(|action| DiskOp { id: self.ids.operation(Owner::Start), action }).collect();
        self.ring.submit(&mut ops);
        let mut events = Vec::new();
        while events.len() < count {
            self.ring.wait();
            self.ring.completions(&mut events);
        }
        assert_eq!(self.ring.in_flight(), 0);
        events.sort_by_key(|event| event.id.serial);
        events
    }

    fn create(&mut self, name: &str, direct: bool) -> FileId {
        let (file, path) = (self.ids.file(), self.path(name));
        let events = self.run(vec![Action::Open { file, path, access: Access::Create, direct }]);
        assert!(events[0].result.is_ok(), "{events:?}");
        file
    }
}

fn buffer(byte: u8, bytes: usize) -> Buffer {
    let mut buffer = Buffer::with_capacity(bytes);
    buffer.extend_from_slice(&vec![byte; bytes]);
    buffer.reused = true;
    buffer
}

/// Each signal wakes a thread: none comes for answers that are being taken.
#[test]
fn one_answer_is_one_signal() {
    let mut bench = Bench::new();
    let file = bench.create("a", true);
    let (signal, mut count) = (bench.ring.signal().unwrap(), [0; 8]);
    rustix::io::read(&signal, &mut count).unwrap();
    for _ in 0..100 {
        let write = Action::Write { file, offset: 0, buffer: buffer(1, 4096), sync: WriteSync::Dsync };
        bench.ring.submit(&mut vec![DiskOp { id: bench.ids.operation(Owner::LogWrite), action: write }]);
        rustix::io::read(&signal, &mut count).unwrap(); // blocks until it comes
        let mut events = Vec::new();
        while bench.ring.completions(&mut events) == 0 {}
        assert_eq!((u64::from_ne_bytes(count), events.len()), (1, 1));
    }
}

/// The kernel notes that there are answers behind the answer, and the note may come when that was taken: then it stays, and says
/// nothing. A look that trusted it had no end (found where a thread of the kernel's lost its processor between the two).
#[test]
fn a_look_has_an_end_whatever_the_kernel_notes() {
    let (done, over) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut bench = Bench::new();
        bench.ring.listen_to(rustix::event::eventfd(0, EventfdFlags::CLOEXEC).unwrap());
        note_answers(&bench.ring);
        assert!(bench.ring.has_answers_to_post());
        done.send(bench.ring.completions(&mut Vec::new())).unwrap();
        // And what comes then is signalled and taken.
        let file = bench.create("a", true);
        note_answers(&bench.ring);
        let write = Action::Write { file, offset: 0, buffer: buffer(1, 4096), sync: WriteSync::Dsync };
        bench.ring.submit(&mut vec![DiskOp { id: bench.ids.operation(Owner::LogWrite), action: write }]);
        rustix::io::read(bench.ring.signal().unwrap(), &mut [0; 8]).unwrap();
        let mut events = Vec::new();
        while bench.ring.completions(&mut events) == 0 {}
        done.send(events.len()).unwrap();
    });
    for expected in [0, 1] {
        assert_eq!(over.recv_timeout(std::time::Duration::from_secs(20)), Ok(expected));
    }
}

/// Sets IORING_SQ_TASKRUN, as the kernel does.
fn note_answers(ring: &Ring) {
    const TASKRUN: u32 = 1 << 2;
    // Where the flags lie is the same in every ring of a kernel: `io_uring_params.sq_off.flags`, its fifteenth word.
    let mut params = [0u32; 30];
    // SAFETY: the kernel writes an `io_uring_params` of 120 bytes, and that is what there is.
    let other = unsafe { libc::syscall(libc::SYS_io_uring_setup, 4, params.as_mut_ptr()) };
    assert!(other >= 0, "{}", io::Error::last_os_error());
    // SAFETY: just opened, and nobody else's.
    drop(unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(other as i32) });
    // SAFETY: the ring outlives the call.
    let descriptor = unsafe { std::os::fd::BorrowedFd::borrow_raw(ring.ring.as_raw_fd()) };
    let protection = rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE;
    // SAFETY: a new mapping of the ring's first page (offset 0: IORING_OFF_SQ_RING), which is never unmapped; the flags are in it,
    // and are atomic for everybody who has them.
    unsafe {
        let page =
            rustix::mm::mmap(std::ptr::null_mut(), 4096, protection, rustix::mm::MapFlags::SHARED, descriptor, 0)
                .unwrap();
        let flags = page.byte_add(params[14] as usize).cast();
        std::sync::atomic::AtomicU32::from_ptr(flags).fetch_or(TASKRUN, Ordering::SeqCst);
    }
}

#[test]
fn every_operation_does_what_it_says() {
    let mut bench = Bench::new();
    let file = bench.create("a", true);
    let events = bench.run(vec![Action::Allocate { file, offset: 0, bytes: 64 << 10 }]);
    assert!(events[0].result.is_ok(), "{events:?}");
    let written = bench.run(vec![
        Action::Write { file, offset: 0, buffer: buffer(1, 8192), sync: WriteSync::Dsync },
        Action::Write { file, offset: 8192, buffer: buffer(2, 4096), sync: WriteSync::None },
        Action::WriteZeroes { file, offset: 12288, bytes: 4096 },
    ]);
    let counts: Vec<_> = written.iter().map(|event| event.result.as_ref().unwrap()).collect();
    assert_eq!(counts, [&8192, &4096, &4096]);
    let came_back = written[0].buffer.as_ref().unwrap();
    assert_eq!((came_back.len(), came_back[0]), (8192, 1));
    assert!(bench.ring.buffer_slots == 0 || came_back.registered.is_some(), "it will be used again");
    let (from, to, path) = (bench.path("a"), bench.path("b"), bench.directory.path().to_owned());
    // Two flushes of a directory that is not open yet: both are flushes.
    let path_too = path.clone();
    for actions in [
        vec![Action::Sync { file }, Action::Rename { from, to: to.clone() }],
        vec![Action::SyncDirectory { path }, Action::SyncDirectory { path: path_too }, Action::Close { file }],
    ] {
        let events = bench.run(actions);
        assert!(events.iter().all(|event| matches!(event.result, Ok(0))), "{events:?}");
    }
    let bytes = std::fs::read(&to).unwrap();
    assert_eq!(bytes.len(), 64 << 10);
    let runs = [(0..8192, 1), (8192..12288, 2), (12288..64 << 10, 0)];
    assert!(runs.into_iter().all(|(range, byte)| bytes[range].iter().all(|found| *found == byte)));
    assert!(bench.run(vec![Action::Unlink { path: to.clone() }])[0].result.is_ok());
    assert!(!to.exists());
}

#[test]
fn failures_come_back_as_what_they_are() {
    let mut bench = Bench::new();
    let file = bench.ids.file();
    let nowhere = bench.path("no/where");
    let events = bench.run(vec![
        Action::Open { file, path: nowhere.clone(), access: Access::Write, direct: false },
        Action::Unlink { path: nowhere.clone() },
        Action::Rename { from: nowhere.clone(), to: bench.path("b") },
        Action::SyncDirectory { path: nowhere },
    ]);
    for event in events {
        assert_eq!(event.result.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
    let direct = bench.create("direct", true);
    let write = Action::Write { file: direct, offset: 100, buffer: buffer(1, 4096), sync: WriteSync::Dsync };
    let event = bench.run(vec![write]).remove(0);
    assert_eq!(event.result.unwrap_err().raw_os_error(), Some(libc::EINVAL));
    assert_eq!(event.buffer.unwrap().len(), 4096, "the buffer comes back from a failure, too");
}

#[test]
fn an_interrupted_close_or_flush_is_not_repeated_and_a_write_is() {
    let mut bench = Bench::new();
    let file = bench.create("a", false);
    let elsewhere = std::fs::File::create(bench.path("b")).unwrap(); // took over the number of the closed one
    let closed = bench.ids.file();
    for (action, repeated) in [
        (Action::Close { file: closed }, false),
        (Action::Sync { file }, false),
        (Action::Write { file, offset: 0, buffer: buffer(1, 4096), sync: WriteSync::Dsync }, true),
    ] {
        let id = bench.ids.operation(Owner::Start);
        let pending = Pending { closing: elsewhere.as_raw_fd(), ..Pending::new(id, action) };
        let index = bench.ring.pending.len();
        bench.ring.pending.push(Some(pending));
        bench.ring.in_flight += 1;
        let mut events = Vec::new();
        bench.ring.complete(index, Half::Only, -libc::EINTR, &mut events);
        assert_eq!(bench.ring.in_flight, usize::from(repeated));
        while bench.ring.in_flight() > 0 {
            bench.ring.wait();
            bench.ring.completions(&mut events);
        }
        assert_eq!(events[0].result.is_ok(), repeated);
    }
    elsewhere.sync_all().unwrap();
}

/// More than the queues hold, in one go: each is answered once, and each linked pair with one answer.
#[test]
fn more_than_the_queues_hold_waits_its_turn() {
    let mut bench = Bench::new();
    let file = bench.create("a", true);
    let count = 10 * ENTRIES as u64;
    let write = |block: u64| Action::Write {
        file,
        offset: block * 4096,
        buffer: buffer(block as u8, 4096),
        sync: if block.is_multiple_of(2) { WriteSync::Linked } else { WriteSync::Dsync },
    };
    let events = bench.run((0..count).map(write).collect());
    assert_eq!(events.len() as u64, count);
    assert!(events.iter().all(|event| matches!(event.result, Ok(4096))), "{events:?}");
    assert!(bench.ring.waiting.is_empty());
    let bytes = std::fs::read(bench.path("a")).unwrap();
    let blocks = bytes.chunks(4096).enumerate();
    assert!(blocks.clone().count() as u64 == count);
    assert!(blocks.into_iter().all(|(block, bytes)| bytes.iter().all(|byte| *byte == block as u8)));
}

#[test]
fn a_failed_linked_write_is_told_as_itself_and_not_as_its_cancelled_flush() {
    let mut bench = Bench::new();
    let file = bench.create("a", true);
    let misaligned = Action::Write { file, offset: 100, buffer: buffer(1, 4096), sync: WriteSync::Linked };
    let whole = Action::Write { file, offset: 4096, buffer: buffer(2, 4096), sync: WriteSync::Linked };
    let events = bench.run(vec![misaligned, whole]);
    assert_eq!(events[0].result.as_ref().unwrap_err().raw_os_error(), Some(libc::EINVAL));
    assert!(matches!(events[1].result, Ok(4096)) && events[0].buffer.is_some(), "{events:?}");
}

/// What the kernel would say of a linked write to an open file, half by half.
fn answers(halves: &[(Half, i32)], torn_apart: bool) -> (usize, Vec<DiskEvent>) {
    let mut bench = Bench::new();
    let file = bench.create("a", false);
    let id = bench.ids.operation(Owner::LogWrite);
    let action = Action::Write { file, offset: 0, buffer: buffer(1, 4096), sync: WriteSync::Linked };
    bench.ring.pending.push(Some(Pending { torn_apart, ..Pending::new(id, action) }));
    let index = bench.ring.pending.len() - 1;
    bench.ring.in_flight += 1;
    let mut events = Vec::new();
    for (half, result) in halves {
        bench.ring.complete(index, *half, *result, &mut events);
    }
    let under_way = bench.ring.in_flight();
    while bench.ring.in_flight() > 0 {
        bench.ring.wait();
        bench.ring.completions(&mut events);
    }
    (under_way, events)
}

#[test]
fn both_halves_of_a_linked_write_count() {
    use Half::{LinkedFlush, Only};
    let number = |(under_way, events): (usize, Vec<DiskEvent>)| {
        assert_eq!((under_way, events.len()), (0, 1));
        events[0].result.as_ref().map(|bytes| *bytes).map_err(io::Error::raw_os_error)
    };
    assert_eq!(number(answers(&[(Only, 4096), (LinkedFlush, 0)], false)), Ok(4096));
    assert_eq!(number(answers(&[(Only, 512), (LinkedFlush, -libc::ECANCELED)], false)), Ok(512));
    let failed = answers(&[(Only, -libc::EIO), (LinkedFlush, -libc::ECANCELED)], false);
    assert_eq!(number(failed), Err(Some(libc::EIO)));
    let (_, events) = answers(&[(Only, 4096), (LinkedFlush, -libc::EIO)], false);
    assert!(events[0].result.as_ref().unwrap_err().to_string().contains("the flush behind the write failed"));
}

#[test]
fn halves_that_reached_the_kernel_apart_are_flushed_again_in_any_order_and_failures_stay_failures() {
    use Half::{LinkedFlush, Only};
    for halves in [[(Only, 4096), (LinkedFlush, 0)], [(LinkedFlush, 0), (Only, 4096)]] {
        let (under_way, events) = answers(&halves, true);
        assert_eq!((under_way, events.len()), (1, 1), "one more flush was due");
        assert!(matches!(events[0].result, Ok(4096)), "{events:?}");
    }
    let (under_way, events) = answers(&[(LinkedFlush, -libc::EIO), (Only, 4096)], true);
    assert!(under_way == 0 && events[0].result.is_err(), "a failed flush is not repeated");
}

#[test]
fn an_interrupted_linked_write_is_sent_again_as_a_whole() {
    let (under_way, events) = answers(&[(Half::Only, -libc::EAGAIN), (Half::LinkedFlush, -libc::ECANCELED)], false);
    assert_eq!((under_way, events.len()), (1, 1));
    assert!(matches!(events[0].result, Ok(4096)), "{events:?}");
}

#[test]
fn dropping_the_ring_waits_for_what_is_in_flight() {
    let mut bench = Bench::new();
    let file = bench.create("a", false);
    let write = Action::Write { file, offset: 0, buffer: buffer(9, 1 << 20), sync: WriteSync::Dsync };
    bench.ring.submit(&mut vec![DiskOp { id: bench.ids.operation(Owner::Start), action: write }]);
    let Bench { ring, directory, .. } = bench;
    drop(ring);
    assert_eq!(std::fs::read(directory.path().join("a")).unwrap(), vec![9; 1 << 20]);
}

#[test]
fn no_ring_comes_with_a_cause_and_a_cure() {
    for (error, cause) in [(libc::ENOMEM, "locked memory"), (libc::ENOSYS, "kernel"), (libc::EMFILE, "open files")] {
        let text = explain(&io::Error::from_raw_os_error(error)).to_string();
        assert!(text.starts_with("io_uring is not available: ") && text.contains(cause), "{text}");
    }
}
