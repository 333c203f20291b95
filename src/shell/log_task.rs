//! When a batch leaves for the disk, and what its completion wakes. Owns the disk's driver; the pipeline owns the store.
//!
//! A write appends to the store's open batch and raises a flag. This task then steps back once, so that every connection
//! that is ready right now can add to the batch, and submits: group commit without any waiting. While a batch is in flight
//! the store collects the next one, which leaves the moment the completion is in, before the replies are written.

use std::future::poll_fn;
use std::task::Poll;

use ringkeeper_storage::{DiskDriver, DriverUnavailable};

use crate::shell::pipeline::PipelineHandle;
use crate::shell::reactor::{Share, Signal};

/// Batches before the reactor has its turn: a disk that is done at once (memory) would otherwise keep everybody busy
/// with what is here already, while sockets and timers wait.
const BATCHES_A_TURN: u32 = 64;

#[derive(PartialEq, Eq)]
enum Woken {
    /// The store has something to do.
    Work,
    /// The disk has something for us.
    Completion,
}

/// Runs until the executor ends, or a thread of the disk. A driver knows the files of one opening of the store: `make` gives
/// the next one its own.
pub async fn run(
    pipeline: PipelineHandle,
    mut disk: DiskDriver,
    make: impl Fn() -> Result<DiskDriver, DriverUnavailable>,
) {
    while drive(&pipeline, disk).await {
        match make() {
            Ok(next) => disk = next,
            Err(error) => return pipeline.borrow_mut().disk_lost(&error),
        }
    }
}

/// True: what is stored was changed as a whole, and this driver is of no use any more.
async fn drive(pipeline: &PipelineHandle, mut disk: DiskDriver) -> bool {
    let signal = match disk.signal().and_then(Signal::new) {
        Ok(signal) => signal,
        Err(error) => {
            pipeline.borrow_mut().disk_lost(&error);
            return false;
        }
    };
    let work = pipeline.borrow().disk_work();
    let mut ops = Vec::new();
    let mut events = Vec::new();
    let mut share = Share::of(BATCHES_A_TURN);
    loop {
        let woken = poll_fn(|cx| match signal.poll_signalled(cx) {
            Poll::Ready(()) => Poll::Ready(Woken::Completion),
            Poll::Pending => work.poll_lowered(cx).map(|()| Woken::Work),
        });
        if woken.await == Woken::Work {
            share.done_one().await;
        }
        match disk.completions(&mut events) {
            Ok(0) => {}
            Ok(_) => pipeline.borrow_mut().take_disk_events(&mut events),
            Err(ended) => {
                pipeline.borrow_mut().disk_lost(&ended);
                return false;
            }
        }
        if pipeline.borrow_mut().change_disk() {
            return true;
        }
        pipeline.borrow_mut().poll_disk(&mut ops);
        disk.submit(&mut ops);
        pipeline.borrow_mut().tell_core_of_disk();
        pipeline.borrow_mut().note_log_wait(disk.log_waits_for());
    }
}
