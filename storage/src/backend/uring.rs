//! Operations on a raw io_uring: nothing here blocks the thread, short of `wait`.
//!
//! Every operation is one submission, the slow ones (open, rename, unlink, flush) on the kernel's own workers. Log writes go out
//! of registered memory into registered files, with `RWF_DSYNC`: one result for write and flush, no worker in between. A
//! linked write is two submissions and one answer; never a hard link, which flushes after a failed write and reports success.
//!
//! What does not fit the submission queue waits here, in its order, and goes with the next look at the ring.
//!
//! The ring belongs to the thread that made it (`SINGLE_ISSUER`), and completions appear only when that thread enters the
//! kernel (`DEFER_TASKRUN`): `completions` does so whenever the ring says that there are some. Older kernels get the ring
//! without these.
//!
//! Dropping the ring waits for what is in flight: the kernel still reads from those buffers.

use std::collections::{HashMap, VecDeque};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, squeue, types};
use rustix::event::EventfdFlags;
use rustix::fs::{Mode, OFlags};

use super::blocking::open_flags;
use crate::disk::{Action, Buffer, DiskEvent, DiskOp, FileId, OpId, WriteSync, linked_outcome};

mod setup;

pub use setup::RingUnavailable;
use setup::{build, check_operations, explain};

const ENTRIES: u32 = 64;
const REGISTERED_FILES: u32 = 16;
const REGISTERED_BUFFERS: u16 = 16;
const ZEROES_BYTES: usize = 256 << 10;
/// How often the kernel may ask for an operation to be sent again before that counts as its failure.
const RETRIES: u8 = 100;
/// When the kernel has no memory for a submission and nothing in flight that would end the wait for it.
const OUT_OF_MEMORY_PAUSE: Duration = Duration::from_millis(1);

#[derive(Debug)]
struct OpenFile {
    fd: OwnedFd,
    registered: Option<u32>,
}

/// An operation in the kernel's hands, with everything its submission points to.
#[derive(Debug)]
struct Pending {
    id: OpId,
    action: Action,
    paths: Vec<CString>,
    /// Of a `Close`: given up by the table when it was submitted.
    closing: RawFd,
    /// Of a `SyncDirectory`: on its way to a descriptor first.
    opening_directory: bool,
    retries_left: u8,
    started: Instant,
    /// Of a linked write: what the write and the flush said, once they did.
    linked_answers: [Option<i32>; 2],
    /// Of a linked write: its halves may have reached the kernel apart, so that the flush did not wait for the write.
    torn_apart: bool,
}

/// Which submission of an operation: user data is its index and this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    Only,
    LinkedFlush,
}

fn user_data(index: usize, half: Half) -> u64 {
    (index as u64) << 1 | u64::from(half == Half::LinkedFlush)
}

impl Pending {
    fn new(id: OpId, action: Action) -> Pending {
        Pending {
            id,
            paths: paths_of(&action),
            action,
            closing: -1,
            opening_directory: false,
            retries_left: RETRIES,
            started: Instant::now(),
            linked_answers: [None; 2],
            torn_apart: false,
        }
    }

    /// Of a linked write: the file and how many bytes.
    fn linked(&self) -> Option<(FileId, u64)> {
        match &self.action {
            Action::Write { file, buffer, sync: WriteSync::Linked, .. } => Some((*file, buffer.len() as u64)),
            _ => None,
        }
    }

    /// Not a close: its descriptor is gone whatever it answered, and may be somebody else's by now. Not a flush: the second
    /// can be told that all is well after the first took the error with it.
    fn may_be_repeated(&self) -> bool {
        match self.action {
            Action::Close { .. } | Action::Sync { .. } | Action::SyncData { .. } => false,
            Action::SyncDirectory { .. } => self.opening_directory,
            _ => true,
        }
    }
}

pub struct Ring {
    ring: IoUring,
    /// Tells registrations of this ring from those of another.
    number: u64,
    /// Signalled by the kernel with each completion.
    eventfd: OwnedFd,
    /// Indexed by the submission's user data.
    pending: Vec<Option<Pending>>,
    free: Vec<usize>,
    in_flight: usize,
    /// Of those in flight: not in the submission queue yet, and which half is wanted.
    waiting: VecDeque<(usize, Half)>,
    files: HashMap<FileId, OpenFile>,
    free_file_slots: Vec<u32>,
    next_buffer_slot: u16,
    buffer_slots: u16,
    directories: HashMap<PathBuf, OwnedFd>,
    zeroes: Buffer,
    doorbell: Option<Doorbell>,
}

/// An eventfd of somebody else's that ends a `wait`: always being read, on this ring.
struct Doorbell {
    eventfd: OwnedFd,
    count: Box<[u8; 8]>,
    being_read: bool,
}

/// User data of the doorbell; no operation has it.
const DOORBELL: u64 = u64::MAX;

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("in_flight", &self.in_flight).finish_non_exhaustive()
    }
}

impl Ring {
    /// On the thread that will use it.
    pub fn new() -> Result<Ring, RingUnavailable> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let ring = build().map_err(|error| explain(&error))?;
        check_operations(&ring)?;
        let late = |error: io::Error| explain(&error);
        let eventfd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC).map_err(|error| late(error.into()))?;
        ring.submitter().register_eventfd(eventfd.as_raw_fd()).map_err(late)?;
        // Registered memory and files save work; without them (memlock limits, older kernels) everything works as well.
        let files = ring.submitter().register_files_sparse(REGISTERED_FILES).map_or(0, |()| REGISTERED_FILES);
        let buffer_slots =
            ring.submitter().register_buffers_sparse(u32::from(REGISTERED_BUFFERS)).map_or(0, |()| REGISTERED_BUFFERS);
        let mut zeroes = Buffer::with_capacity(ZEROES_BYTES);
        zeroes.resize(ZEROES_BYTES);
        Ok(Ring {
            ring,
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            eventfd,
            pending: Vec::new(),
            free: Vec::new(),
            in_flight: 0,
            waiting: VecDeque::new(),
            files: HashMap::new(),
            free_file_slots: (0..files).rev().collect(),
            next_buffer_slot: 0,
            buffer_slots,
            directories: HashMap::new(),
            zeroes,
            doorbell: None,
        })
    }

    /// From now on `wait` also ends when this eventfd is signalled, and waits for that alone when nothing is in flight.
    pub(super) fn listen_to(&mut self, eventfd: OwnedFd) {
        assert!(self.doorbell.is_none(), "one doorbell");
        self.doorbell = Some(Doorbell { eventfd, count: Box::new([0; 8]), being_read: false });
        self.start_waiting();
    }

    /// Takes every operation and starts it.
    pub fn submit(&mut self, ops: &mut Vec<DiskOp>) {
        if ops.is_empty() {
            return;
        }
        for DiskOp { id, mut action } in ops.drain(..) {
            if let Action::Write { buffer, .. } = &mut action {
                self.register_buffer(buffer);
            }
            let mut pending = Pending::new(id, action);
            match &pending.action {
                Action::Close { file } => pending.closing = self.give_up(*file),
                Action::SyncDirectory { path } => pending.opening_directory = !self.directories.contains_key(path),
                _ => {}
            }
            let index = self.free.pop().unwrap_or_else(|| {
                self.pending.push(None);
                self.pending.len() - 1
            });
            self.in_flight += 1;
            self.pending[index] = Some(pending);
            self.waiting.push_back((index, Half::Only));
        }
        self.start_waiting();
    }

    /// What has completed, without waiting. Returns how many.
    pub fn completions(&mut self, out: &mut Vec<DiskEvent>) -> usize {
        if self.in_flight == 0 && self.doorbell.is_none() {
            return 0;
        }
        let before = out.len();
        let mut must_enter = !self.ring.submission().is_empty();
        while must_enter || self.has_answers_to_post() {
            must_enter = false;
            // What it posts is taken below: a signal for that would wake this thread once more, for nothing.
            self.ring.completion().disable_eventfd();
            self.enter();
            self.ring.completion().enable_eventfd();
            // Who has an answer notes it in the ring, and then looks whether to signal: it signals, or the next look sees the note.
            fence(Ordering::SeqCst);
            let before = out.len();
            self.take_completions(out);
            if out.len() == before && self.has_answers_to_post() {
                // The note may be late: of an answer that was posted before it was noted. Then it stays until there is another
                // answer. Once more with signals on, so that whatever comes after this is signalled.
                self.enter();
                break;
            }
        }
        self.take_completions(out);
        if !self.waiting.is_empty() || self.doorbell.as_ref().is_some_and(|doorbell| !doorbell.being_read) {
            self.start_waiting();
        }
        out.len() - before
    }

    /// The kernel posts more when this thread enters it.
    fn has_answers_to_post(&mut self) -> bool {
        let queue = self.ring.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    fn take_completions(&mut self, out: &mut Vec<DiskEvent>) {
        while let Some((index, half, result)) = self.next_completion() {
            self.complete(index, half, result, out);
        }
    }

    /// Blocks the thread until something has completed; returns at once when nothing is in flight.
    pub fn wait(&mut self) {
        let nothing_to_come = self.in_flight == 0 && self.doorbell.is_none();
        if nothing_to_come || !self.ring.completion().is_empty() {
            return;
        }
        self.fill_queue();
        while let Err(error) = self.ring.submit_and_wait(1) {
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EBUSY) => break, // completions first
                Some(libc::EAGAIN) => {
                    std::thread::sleep(OUT_OF_MEMORY_PAUSE);
                    break;
                }
                _ => panic!("io_uring_enter: {error}"),
            }
        }
        self.distrust_what_was_torn_apart();
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// An eventfd that is signalled when something has completed.
    ///
    /// # Errors
    ///
    /// When there are no descriptors left.
    pub fn signal(&self) -> io::Result<OwnedFd> {
        self.eventfd.try_clone()
    }

    /// Tells the kernel about new submissions, and lets it post completions.
    fn enter(&mut self) {
        while let Err(error) = self.ring.submit() {
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                // The kernel is short of memory or wants completions taken first: they stay queued for the next call.
                Some(libc::EAGAIN | libc::EBUSY) => break,
                _ => panic!("io_uring_enter: {error}"),
            }
        }
        self.distrust_what_was_torn_apart();
    }

    fn next_completion(&mut self) -> Option<(usize, Half, i32)> {
        let mut entry = self.ring.completion().next()?;
        if entry.user_data() == DOORBELL {
            self.doorbell.as_mut().expect("it was read").being_read = false;
            entry = self.ring.completion().next()?;
        }
        let half = if entry.user_data() & 1 == 1 { Half::LinkedFlush } else { Half::Only };
        Some(((entry.user_data() >> 1) as usize, half, entry.result()))
    }

    /// Starts what waits, as far as the kernel takes it now.
    fn start_waiting(&mut self) {
        loop {
            self.fill_queue();
            self.enter();
            let stuck = !self.ring.submission().is_empty();
            if self.waiting.is_empty() || stuck {
                return; // what is left goes with the next completion, or with the next operation
            }
        }
    }

    /// From the waiting ones into the submission queue, until either ends.
    fn fill_queue(&mut self) {
        while let Some((index, half)) = self.waiting.front().copied() {
            if !self.push(index, half) {
                return;
            }
            self.waiting.pop_front();
        }
        if let Some(Doorbell { eventfd, count, being_read }) = &mut self.doorbell
            && !*being_read
        {
            let read =
                opcode::Read::new(types::Fd(eventfd.as_raw_fd()), count.as_mut_ptr(), 8).build().user_data(DOORBELL);
            // SAFETY: the eventfd and the eight bytes on the heap belong to `self.doorbell`, which is never taken out and
            // outlives the read: `drop` waits for it.
            *being_read = unsafe { self.ring.submission().push(&read) }.is_ok();
        }
    }

    /// False when the submission queue has no room for all of it.
    fn push(&mut self, index: usize, half: Half) -> bool {
        let pending = self.pending[index].as_ref().expect("an operation that is under way");
        let entry = match half {
            Half::Only => self.entry(index),
            Half::LinkedFlush => self.linked_flush(index),
        };
        // SAFETY: what the entries point to (buffer memory, path strings, the zeroes) is owned by `self.pending[index]` or
        // `self`, at addresses that do not move with their owners (anonymous mappings, heap), and stays there until
        // the completion is taken: `complete` is the only place that takes a pending operation out, and `drop` waits.
        let pushed = unsafe {
            match half == Half::Only && pending.linked().is_some() {
                false => self.ring.submission().push(&entry),
                true => {
                    let flush = self.linked_flush(index);
                    self.ring.submission().push_multiple(&[entry.flags(squeue::Flags::IO_LINK), flush])
                }
            }
        };
        pushed.is_ok()
    }

    /// A link ends where a submission ends. When the kernel stops in the middle of the queue, it may have stopped between a
    /// write and its flush.
    fn distrust_what_was_torn_apart(&mut self) {
        if !self.ring.submission().is_empty() {
            let pending = self.pending.iter_mut().flatten();
            pending.filter(|pending| pending.linked().is_some()).for_each(|pending| pending.torn_apart = true);
        }
    }

    fn linked_flush(&self, index: usize) -> squeue::Entry {
        let pending = self.pending[index].as_ref().expect("an operation that is under way");
        let (file, _) = pending.linked().expect("a linked write");
        self.flush_data(file).user_data(user_data(index, Half::LinkedFlush))
    }

    fn flush_data(&self, file: FileId) -> squeue::Entry {
        opcode::Fsync::new(self.fd(file)).flags(types::FsyncFlags::DATASYNC).build()
    }

    fn entry(&self, index: usize) -> squeue::Entry {
        let pending = self.pending[index].as_ref().expect("just put there");
        let path = |index: usize| pending.paths[index].as_ptr();
        let here = types::Fd(libc::AT_FDCWD);
        let entry = match &pending.action {
            Action::Open { access, direct, .. } => {
                opcode::OpenAt::new(here, path(0)).flags(open_flags(*access, *direct).bits() as i32).mode(0o640).build()
            }
            Action::Close { .. } => opcode::Close::new(types::Fd(pending.closing)).build(),
            Action::Allocate { file, offset, bytes } => {
                opcode::Fallocate::new(self.fd(*file), *bytes).offset(*offset).build()
            }
            Action::Write { file, offset, buffer, sync } => {
                let flags = if *sync == WriteSync::Dsync { libc::RWF_DSYNC } else { 0 };
                let bytes = u32::try_from(buffer.len()).expect("a buffer is bounded");
                match (buffer.registered, self.files[file].registered) {
                    (Some((ring, slot)), Some(file)) if ring == self.number => {
                        opcode::WriteFixed::new(types::Fixed(file), buffer.as_ptr(), bytes, slot)
                            .offset(*offset)
                            .rw_flags(flags)
                            .build()
                    }
                    _ => {
                        let write = opcode::Write::new(self.fd(*file), buffer.as_ptr(), bytes);
                        write.offset(*offset).rw_flags(flags).build()
                    }
                }
            }
            Action::Read { file, offset, buffer } => {
                let bytes = u32::try_from(buffer.len()).expect("a buffer is bounded");
                // The kernel alone touches this memory until the completion hands the buffer out again.
                opcode::Read::new(self.fd(*file), buffer.as_ptr().cast_mut(), bytes).offset(*offset).build()
            }
            Action::WriteZeroes { file, offset, bytes } => {
                let bytes = (*bytes).min(self.zeroes.len() as u64) as u32;
                opcode::Write::new(self.fd(*file), self.zeroes.as_ptr(), bytes).offset(*offset).build()
            }
            Action::Sync { file } => opcode::Fsync::new(self.fd(*file)).build(),
            Action::SyncData { file } => self.flush_data(*file),
            Action::Rename { .. } => opcode::RenameAt::new(here, path(0), here, path(1)).build(),
            Action::Unlink { .. } => opcode::UnlinkAt::new(here, path(0)).build(),
            Action::SyncDirectory { .. } if pending.opening_directory => opcode::OpenAt::new(here, path(0))
                .flags((OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC).bits() as i32)
                .mode(Mode::empty().bits())
                .build(),
            Action::SyncDirectory { path } => opcode::Fsync::new(types::Fd(self.directories[path].as_raw_fd())).build(),
        };
        entry.user_data(user_data(index, Half::Only))
    }

    fn complete(&mut self, index: usize, half: Half, result: i32, out: &mut Vec<DiskEvent>) {
        let pending = self.pending[index].as_mut().expect("an operation completes once");
        let interrupted = |result| result == -libc::EAGAIN || result == -libc::EINTR;
        let mut repeat = interrupted(result) && pending.may_be_repeated();
        let mut answer = from_kernel(result);
        if let Some((_, wanted_bytes)) = pending.linked() {
            pending.linked_answers[usize::from(half == Half::LinkedFlush)] = Some(result);
            let [Some(written), Some(flushed)] = pending.linked_answers else { return };
            let both_well = written as i64 == wanted_bytes as i64 && flushed == 0;
            if both_well && std::mem::take(&mut pending.torn_apart) {
                pending.linked_answers[1] = None;
                self.waiting.push_back((index, Half::LinkedFlush)); // this one surely comes behind the write
                self.start_waiting();
                return;
            }
            repeat = interrupted(written) && flushed == -libc::ECANCELED;
            answer = linked_outcome(from_kernel(written), wanted_bytes, from_kernel(flushed));
        }
        if repeat && pending.retries_left > 0 {
            pending.retries_left -= 1; // nothing was done, or only what will now be done over
            pending.linked_answers = [None; 2];
            self.waiting.push_back((index, Half::Only));
            self.start_waiting();
            return;
        }
        if let Action::SyncDirectory { path } = &pending.action
            && result >= 0
            && std::mem::take(&mut pending.opening_directory)
        {
            // SAFETY: the kernel just opened this descriptor for us and nobody else knows it.
            let directory = unsafe { OwnedFd::from_raw_fd(result) };
            // Another flush of it may have been first, and be under way on its descriptor.
            self.directories.entry(path.clone()).or_insert(directory);
            self.waiting.push_back((index, Half::Only));
            self.start_waiting();
            return;
        }
        let Pending { id, action, started, .. } = self.pending[index].take().expect("looked at above");
        self.free.push(index);
        self.in_flight -= 1;
        let elapsed_us = u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX);
        let mut result = answer;
        let mut buffer = None;
        match action {
            Action::Open { file, .. } => {
                if let Ok(fd) = result {
                    // SAFETY: the kernel just opened this descriptor for us and nobody else knows it.
                    let fd = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
                    let registered = self.register_file(fd.as_raw_fd());
                    let known = self.files.insert(file, OpenFile { fd, registered });
                    assert!(known.is_none(), "a file number is used once");
                    result = Ok(0);
                }
            }
            Action::Allocate { .. } => {
                if matches!(
                    result.as_ref().map_err(io::Error::raw_os_error),
                    Err(Some(libc::EOPNOTSUPP | libc::ENOSYS))
                ) {
                    result = Ok(0);
                }
            }
            Action::Write { buffer: written, .. } => buffer = Some(written),
            Action::Read { buffer: mut read, .. } => {
                read.resize(*result.as_ref().unwrap_or(&0) as usize);
                buffer = Some(read);
            }
            _ => {}
        }
        out.push(DiskEvent { id, result, buffer, elapsed_us });
    }

    fn fd(&self, file: FileId) -> types::Fd {
        types::Fd(self.files.get(&file).expect("an open file").fd.as_raw_fd())
    }

    /// Takes a file out of the table; its descriptor is closed by the ring.
    fn give_up(&mut self, file: FileId) -> RawFd {
        let OpenFile { fd, registered } = self.files.remove(&file).expect("an open file");
        if let Some(slot) = registered
            && self.ring.submitter().register_files_update(slot, &[-1]).is_ok()
        {
            self.free_file_slots.push(slot);
        }
        fd.into_raw_fd()
    }

    fn register_file(&mut self, fd: RawFd) -> Option<u32> {
        let slot = self.free_file_slots.pop()?;
        match self.ring.submitter().register_files_update(slot, &[fd]) {
            Ok(_) => Some(slot),
            Err(_) => {
                self.free_file_slots.push(slot);
                None
            }
        }
    }

    /// Registers memory that will be written from again and again, once.
    fn register_buffer(&mut self, buffer: &mut Buffer) {
        let known = buffer.registered.is_some_and(|(ring, _)| ring == self.number);
        if !buffer.reused || known || self.next_buffer_slot >= self.buffer_slots {
            return;
        }
        let slot = self.next_buffer_slot;
        let (iov_base, iov_len) = (buffer.as_ptr() as *mut libc::c_void, buffer.capacity());
        let vectors = [libc::iovec { iov_base, iov_len }];
        // SAFETY: the range is one live mapping owned by `buffer`. The kernel pins its pages here and does not look at the
        // mapping again, so unmapping it later leaves the pages to the kernel; and the slot is only ever used together
        // with the `Buffer` that carries its number, which forgets it when its memory changes.
        let registered = unsafe { self.ring.submitter().register_buffers_update(u32::from(slot), &vectors, None) };
        match registered {
            Ok(()) => {
                self.next_buffer_slot += 1;
                buffer.registered = Some((self.number, slot));
            }
            Err(_) => self.buffer_slots = slot, // memlock is used up: the rest goes unregistered
        }
    }
}

fn from_kernel(result: i32) -> io::Result<u64> {
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result as u64) }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Our own state is not to be trusted with another wait. What the kernel may still read or write stays mapped.
            std::mem::forget((std::mem::take(&mut self.pending), self.doorbell.take()));
            std::mem::forget(std::mem::replace(&mut self.zeroes, Buffer::with_capacity(1)));
            return;
        }
        let mut events = Vec::new();
        while self.in_flight > 0 {
            self.wait();
            self.completions(&mut events);
        }
        while let Some(Doorbell { eventfd, being_read: true, .. }) = &self.doorbell {
            let _ = rustix::io::write(eventfd, &1u64.to_ne_bytes());
            self.wait();
            let _ = self.next_completion(); // nothing else is under way, and it is not read again
        }
    }
}

fn paths_of(action: &Action) -> Vec<CString> {
    // A path with a zero byte cannot have come from the file system or a configuration file that was opened.
    let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).expect("a path without zero bytes");
    match action {
        Action::Open { path, .. } | Action::Unlink { path } | Action::SyncDirectory { path } => {
            vec![text(path)]
        }
        Action::Rename { from, to } => vec![text(from), text(to)],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
